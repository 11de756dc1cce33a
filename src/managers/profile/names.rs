//! The keys of a profile, and what is said of those that it does not have.

/// How a model is opened.
pub const LOADING: [&str; 15] = [
    "model",
    "revision",
    "gguf_file",
    "torch_dtype",
    "dtype",
    "quantization",
    "quantization_config",
    "max_memory",
    "gpu_layers",
    "context",
    "prefill_chunk_size",
    "cache_dtype",
    "cache_policy",
    "batch_strategy",
    "generation_config",
];

/// How it generates: what [`GenerateOptions::with_config`](crate::generate::GenerateOptions::with_config) reads.
pub const GENERATION: [&str; 29] = [
    "max_new_tokens",
    "max_length",
    "min_new_tokens",
    "min_length",
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "no_repeat_ngram_size",
    "prompt_lookup_num_tokens",
    "max_matching_ngram_size",
    "num_assistant_tokens",
    "sequence_bias",
    "bad_words_ids",
    "suppress_tokens",
    "stop_strings",
    "seed",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "logprobs",
    "lookahead",
];

/// What `quantization_config` may have.
pub const BITSANDBYTES: [&str; 6] = [
    "quant_method",
    "load_in_4bit",
    "load_in_8bit",
    "bnb_4bit_quant_type",
    "bnb_4bit_compute_dtype",
    "bnb_4bit_use_double_quant",
];

const ONE_GPU: &str =
    "there is one GPU; layers that `max_memory` does not hold are kept in the host's memory, or give `gpu_layers`";
const IN_BITS: &str = "give `quantization: q4` or `q8`, or a `quantization_config`";
const CACHE: &str = "give `cache_dtype` and `cache_policy`";
const CONTEXT: &str = "give `context`";
const BEAMS: &str = "text is sampled or greedy, without beams";
const ONE: &str = "a generation gives one text: generate several times";
const LEAVE_OUT: &str = "leave it out";

/// Keys of transformers, of vLLM and llama.cpp, and of our own flags; the JSON that says what is so anyway; what to do instead.
const UNSUPPORTED: [(&str, &str, &str); 40] = [
    ("device_map", "\"auto\"", ONE_GPU),
    ("n_gpu_layers", "", "give `gpu_layers`"),
    ("num_gpu_layers", "", "give `gpu_layers`"),
    ("max_gpu_memory", "", "give `max_memory`"),
    ("load_in_4bit", "false", IN_BITS),
    ("load_in_8bit", "false", IN_BITS),
    ("pretrained_model_name_or_path", "", "give `model`"),
    ("prefill_chunk", "", "give `prefill_chunk_size`"),
    ("max_position_embeddings", "", CONTEXT),
    ("max_model_len", "", CONTEXT),
    ("n_ctx", "", CONTEXT),
    ("cache_implementation", "", CACHE),
    ("cache_config", "", CACHE),
    ("use_cache", "true", "keys and values are always kept"),
    ("max_tokens", "", "give `max_new_tokens`"),
    ("stop", "", "give `stop_strings`"),
    ("ignore_eos", "false", "give `eos_token_id: []`"),
    ("logit_bias", "", "give `sequence_bias`"),
    ("num_beams", "1", BEAMS),
    ("num_beam_groups", "1", BEAMS),
    ("diversity_penalty", "0.0", BEAMS),
    ("length_penalty", "1.0", BEAMS),
    ("early_stopping", "false", BEAMS),
    ("num_return_sequences", "1", ONE),
    ("guidance_scale", "1.0", LEAVE_OUT),
    ("penalty_alpha", "0.0", LEAVE_OUT),
    ("encoder_repetition_penalty", "1.0", LEAVE_OUT),
    ("max_time", "", LEAVE_OUT),
    ("renormalize_logits", "false", LEAVE_OUT),
    ("forced_bos_token_id", "", LEAVE_OUT),
    ("forced_eos_token_id", "", LEAVE_OUT),
    ("begin_suppress_tokens", "", LEAVE_OUT),
    ("attn_implementation", "", "attention is always computed in tiles, without its scores in memory"),
    ("trust_remote_code", "false", "code of a checkpoint is never run"),
    ("local_files_only", "false", "set HF_HUB_OFFLINE=1"),
    ("cache_dir", "", "set HF_HUB_CACHE"),
    ("token", "", "a secret is none of a profile's: set HF_TOKEN, or give `token` to the page's call"),
    ("offload_folder", "", "layers that are not on the GPU are kept in memory"),
    ("low_cpu_mem_usage", "true", "weights are read in chunks, and never lie in memory as a whole"),
    ("use_safetensors", "true", LEAVE_OUT),
];

/// Whether a profile may have it.
pub fn is_known(key: &str) -> bool {
    LOADING.contains(&key) || GENERATION.contains(&key)
}

/// Whether `generation_config` may have it.
pub fn is_generation(key: &str) -> bool {
    GENERATION.contains(&key)
}

/// Of a key that others have: the JSON that says what is so anyway, and what to do instead.
pub fn unsupported(key: &str) -> Option<(&'static str, &'static str)> {
    UNSUPPORTED.iter().find(|(name, _, _)| *name == key).map(|&(_, neutral, instead)| (neutral, instead))
}

/// The key that is written most like `key`, of those that may stand there; `None` where that would be a guess.
pub fn nearest(key: &str, is_known: &dyn Fn(&str) -> bool) -> Option<&'static str> {
    // `maxNewTokens` and `max-new-tokens` are `max_new_tokens`
    let mut snake = String::new();
    for c in key.chars().take(64) {
        if c.is_ascii_uppercase() && !snake.is_empty() && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.push(if c == '-' { '_' } else { c.to_ascii_lowercase() });
    }
    let all = LOADING.into_iter().chain(GENERATION).chain(BITSANDBYTES).filter(|name| is_known(name));
    let (edits, name) = all.map(|name| (edits(&snake, name), name)).min()?;
    (edits <= 1 + name.len() / 6).then_some(name)
}

/// Characters to insert, drop or replace (Levenshtein 1966).
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}
