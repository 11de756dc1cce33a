//! The command line.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::{Map, Value};
use webweft::device::Backend;
use webweft::managers::Dtype;

use crate::batch::BatchArgs;
use crate::bench;
use crate::cache::CacheArgs;
use crate::embed::Embed;
use crate::lists::TokenIds;
use crate::prompt_cache::PromptCacheArgs;
use crate::sampling::Sampling;
use crate::sizes;
use crate::tune::Tune;
use crate::validate::Validate;

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed: one line `error: ...` on standard error says why and what to do
  2    the command line is wrong
  3    validate: a threshold does not hold; bench compare: something is slower
  130  cancelled (Ctrl-C)

Examples:
  native-runner generate \"Once upon a time\"
  native-runner chat
  native-runner generate \"Once upon a time\" --model Qwen/Qwen3-0.6B
  native-runner forward ~/models/stories --input in.safetensors --output out.safetensors
  native-runner embed --model sentence-transformers/all-MiniLM-L6-v2 \"A cat sat.\" \"A feline rested.\"
  native-runner devices

Models of the Hub are kept where Python's huggingface_hub keeps them. Environment: HF_HOME, HF_HUB_CACHE, HF_TOKEN,
HF_ENDPOINT, HF_HUB_OFFLINE.";

const GENERATE_EXAMPLES: &str = "\
On a terminal the prompt is shown, dimmed, before the text that continues it; in a pipe only the new text is written.
Ctrl-C ends the text where it is; a second one ends the program.

Examples:
  native-runner generate \"Once upon a time\"
  native-runner generate \"Once upon a time\" --model MODEL
  native-runner generate \"Once upon a time\" --model MODEL --temperature 0.8 --top-p 0.95 --seed 7 --stats
  native-runner generate \"Q: Why?\" --model MODEL --min-p 0.05 --repetition-penalty 1.1 --stop \"Q:\" --stop \"END\"
  native-runner generate --model MODEL --json < prompt.txt
  native-runner generate \"2 + 2 =\" --model MODEL --max-new-tokens 1 --json --logprobs=5
  native-runner generate --model MODEL --prompt-ids 1,403,407 --max-new-tokens 32 --ignore-eos
  native-runner generate --model MODEL --file prompts.txt --batch 16 --json
  native-runner generate --model MODEL --prompt-cache story.cache < long-story.txt

Exit codes: 0 done, 1 failed, 2 wrong command line, 130 cancelled";

const FORWARD_EXAMPLES: &str = "\
Input tensors, named as transformers names its arguments:
  input_ids       [B, S] or [S], any integer type
  attention_mask  the same shape, 0 or 1 (integers or BOOL), optional: each row runs alone over its tokens, which must be
                  in one piece, padded left or right
  token_type_ids  the same shape, optional, of encoders alone
Output tensors, f32, zero where the mask is 0:
  logits             [B, S, V], not of encoders
  last_hidden_state  [B, S, D]
  pooler_output      [B, D], of encoders that have a pooler

Example:
  native-runner forward MODEL --input in.safetensors --output out.safetensors --dtype f32

Exit codes: 0 done, 1 failed, 2 wrong command line";

const DEVICES_EXAMPLES: &str = "\
The index, or part of the name, is what --adapter takes. Kernels that use more than WebGPU's defaults are tested when an adapter is
first used, against answers that are known, and those that are wrong are not used: what was found is told here.

Examples:
  native-runner devices
  native-runner devices --test
  native-runner devices --json --backend vulkan

Exit codes: 0 done, 1 no adapter, 2 wrong command line";

const CHAT_EXAMPLES: &str = "\
On a terminal lines can be edited and Ctrl-C ends an answer; /help tells of commands. In a pipe each line is said to the model, the
answers go to standard output, and what else there is to say goes to standard error. Answers have up to 1024 tokens unless
--max-new-tokens says otherwise. Where the context is full, the oldest turns are forgotten, and the system text is kept.

Examples:
  native-runner chat
  native-runner chat --model MODEL
  native-runner chat --model MODEL --system \"Answer in one sentence.\" --temperature 0.7 --top-p 0.9
  echo \"Why is the sky blue?\" | native-runner chat --model MODEL -q
  native-runner chat --model MODEL --json --template-var enable_thinking=false < questions.txt

Exit codes: 0 done, 1 failed, 2 wrong command line, 130 cancelled";

const BENCH_EXAMPLES: &str = "\
Token i of the prompt is (37 i + 11) modulo the vocabulary's size. Every run begins with an empty cache, is greedy, and goes past
end tokens. Decoding is compared with the bytes per second that the adapter copies: each new token reads all weights and the live
cache. Prefill is compared with the multiply-adds that it computes in f32: two operations for each weight of the layers.

--kernels runs each dispatch in a pass of its own with a timestamp before and after it, and compares it with the bytes and operations that
its operation states; - stands where it states none. Runs of which nothing is timed within alternate with them, and are told beside them.

Examples:
  native-runner bench MODEL
  native-runner bench MODEL --dtype q4 --prompt-tokens 512 --new-tokens 128 --runs 10
  native-runner bench MODEL --json
  native-runner bench MODEL --kernels --trace kernels.json
  native-runner bench matrix --out new.jsonl
  native-runner bench compare old.jsonl new.jsonl

Exit codes: 0 done, 1 failed, 2 wrong command line";

const QUANTIZE_EXAMPLES: &str = "\
Without --dtype linear layers get 4 bits (q4); embedding, output head and norms keep more. The weights lie in OUT/model.safetensors as they
lie on the GPU, so that nothing is converted when they are loaded: natively, or in a browser. Layers that another tool quantized stay as
they are.

Examples:
  native-runner quantize MODEL OUT
  native-runner quantize Qwen/Qwen3-0.6B ./qwen3-q8 --dtype q8
  native-runner generate \"Once upon a time\" --model OUT

Exit codes: 0 done, 1 failed, 2 wrong command line";

const INSPECT_EXAMPLES: &str = "\
Only headers are read, and no GPU is needed. Whether a model fits is told by the adapter's limits and by --max-gpu-memory.

Examples:
  native-runner inspect MODEL
  native-runner inspect MODEL --max-gpu-memory 6GB --context 8192
  native-runner inspect MODEL --json

Exit codes: 0 done (also where the model is not supported), 1 failed, 2 wrong command line";

/// Runs Hugging Face checkpoints on the GPU, unmodified.
#[derive(Debug, Parser)]
#[command(name = "native-runner", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What goes with every command.
    #[command(flatten)]
    pub shared: Shared,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // there is one of it
pub enum Command {
    /// Continue a text
    Generate(Generate),
    /// Run the model once over tensors of a file
    Forward(Forward),
    /// Make vectors of texts, and tell how near they are to one another
    Embed(Embed),
    /// List the GPU adapters
    Devices(Devices),
    /// Talk with a model
    Chat(Chat),
    /// Tell what a model is and what it takes, without loading it
    Inspect(Inspect),
    /// Write a model's weights in few bits, as a folder that every target loads
    Quantize(Quantize),
    /// Measure how fast a model runs, and what share that is of the adapter's bandwidth and arithmetic
    Bench(Bench),
    /// Find the best number of sequences to run at once
    Tune(Tune),
    /// Measure what it costs to run a model in fewer bits: quality, memory and speed
    Validate(Validate),
}

/// Flags of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Device and reporting")]
pub struct Shared {
    /// How weights are stored on the GPU; auto goes by the model's size [default: auto]
    #[arg(long, global = true, value_enum, hide_possible_values = true, value_name = "f32|f16|q8|q4a|q4|nf4|auto")]
    pub dtype: Option<DtypeName>,
    /// Take settings from a YAML or JSON file, where the command line has none: docs/profiles.md tells its keys
    #[arg(long, global = true, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// How the profile says that texts are generated, by the names of `generation_config.json`.
    #[arg(skip)]
    pub generation: Map<String, Value>,
    /// How keys and values are kept.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Adapter to use: its index in `devices`, or part of its name [default: the most capable]
    #[arg(long, global = true, value_name = "INDEX|NAME")]
    pub adapter: Option<String>,
    /// Only adapters of this interface
    #[arg(long, global = true, value_enum, hide_possible_values = true, value_name = "vulkan|metal|dx12")]
    pub backend: Option<BackendName>,
    /// Take the kernels that are best on most adapters; without it they are measured when an adapter is first used, in 2 seconds at most,
    /// and remembered
    #[arg(long, global = true)]
    pub no_autotune: bool,
    /// WebGPU's default limits and no optional feature
    #[arg(long, global = true, hide = true)]
    pub portable: bool,
    /// Hold no more than this on the GPU: 3.8GB, 512MiB; layers that do not fit are kept in memory, and copied for every step
    #[arg(long, global = true, value_name = "SIZE", value_parser = sizes::parse)]
    pub max_gpu_memory: Option<u64>,
    /// Layers that stay on the GPU, the first ones [default: as many as --max-gpu-memory holds, or all]
    #[arg(long, global = true, value_name = "N")]
    pub gpu_layers: Option<u32>,
    /// Branch, tag or commit of a model on the Hub [default: main]
    #[arg(long, global = true, value_name = "REV")]
    pub revision: Option<String>,
    /// Which GGUF file of a model is meant, where it has several, or safetensors, too: its name, or the type in its name (Q8_0)
    /// [default: the only one, or Q4_K_M]
    #[arg(long, global = true, value_name = "NAME|TYPE", value_parser = NonEmptyStringValueParser::new())]
    pub gguf_file: Option<String>,
    /// At the end, tell times, speeds and memory on standard error
    #[arg(long, global = true)]
    pub stats: bool,
    /// At the end, write what took the GPU's memory to a JSON file: by category and label, over time, and what was left behind
    #[arg(long, global = true, value_name = "FILE")]
    pub memory_json: Option<PathBuf>,
    /// Trace to standard error; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// No progress and no warnings
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// `generate`.
#[derive(Debug, Args)]
#[command(after_help = GENERATE_EXAMPLES)]
pub struct Generate {
    /// The text to continue; without it (and without --prompt-ids) standard input is read to its end
    pub prompt: Option<String>,
    /// The model: a folder, a GGUF file, a name on the Hugging Face Hub (ORG/NAME, ORG/NAME@REVISION), or an https:// address
    /// [default: the built-in model, which tells little stories]
    #[arg(long, value_name = "MODEL", value_parser = NonEmptyStringValueParser::new())]
    pub model: Option<String>,
    /// The prompt as token ids: 1,403,407
    #[arg(long, value_name = "IDS", conflicts_with = "prompt", allow_hyphen_values = true)]
    pub prompt_ids: Option<TokenIds>,
    /// Prompts of a file.
    #[command(flatten)]
    pub batch: BatchArgs,
    /// What is kept from run to run.
    #[command(flatten)]
    pub prompt_cache: PromptCacheArgs,
    /// How tokens are chosen, and when to stop.
    #[command(flatten)]
    pub sampling: Sampling,
    /// The most positions, prompt and text together [default: the model's, as far as memory allows]
    #[arg(long, value_name = "N")]
    pub context: Option<u32>,
    /// The most tokens of the prompt in one step [default: 512, fewer for large models]
    #[arg(long, value_name = "N")]
    pub prefill_chunk: Option<u32>,
    /// One JSON object per line: a `token` each, then `done` with ids, text and stats; with --file one for each prompt
    #[arg(long)]
    pub json: bool,
    /// With --json, each token's log-probability before penalties and cut-offs, and the N most likely tokens
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "0", requires = "json")]
    pub logprobs: Option<usize>,
}

/// `forward`.
#[derive(Debug, Args)]
#[command(after_help = FORWARD_EXAMPLES)]
pub struct Forward {
    /// The model: a folder, a GGUF file, a name on the Hugging Face Hub (ORG/NAME, ORG/NAME@REVISION), or an https:// address
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub model: String,
    /// File of the input tensors
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// File for the output tensors; it appears when it is complete
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// The most positions of a row [default: the model's, as far as memory allows]
    #[arg(long, value_name = "N")]
    pub context: Option<u32>,
    /// The most tokens in one step [default: 512, fewer for large models]
    #[arg(long, value_name = "N")]
    pub prefill_chunk: Option<u32>,
}

/// `devices`.
#[derive(Debug, Args)]
#[command(after_help = DEVICES_EXAMPLES)]
pub struct Devices {
    /// One JSON array
    #[arg(long)]
    pub json: bool,
    /// Test every adapter's kernels now, measure which are fastest, and remember it
    #[arg(long)]
    pub test: bool,
}

/// `inspect`.
#[derive(Debug, Args)]
#[command(after_help = INSPECT_EXAMPLES)]
pub struct Inspect {
    /// The model: a folder, a GGUF file, a name on the Hugging Face Hub (ORG/NAME, ORG/NAME@REVISION), or an https:// address
    /// [default: the built-in model, which tells little stories]
    #[arg(value_name = "MODEL", value_parser = NonEmptyStringValueParser::new())]
    pub model: Option<String>,
    /// The most positions that a sequence is to have [default: the model's, as far as memory allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub context: Option<u32>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// `bench`.
#[derive(Debug, Args)]
#[command(after_help = BENCH_EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Bench {
    /// Another thing to do.
    #[command(subcommand)]
    pub part: Option<bench::Part>,
    /// The model: a folder, a GGUF file, a name on the Hugging Face Hub (ORG/NAME, ORG/NAME@REVISION), or an https:// address
    /// [default: the built-in model, which tells little stories]
    #[arg(value_name = "MODEL", value_parser = NonEmptyStringValueParser::new())]
    pub model: Option<String>,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub prompt_tokens: u32,
    /// Tokens to generate
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..))]
    pub new_tokens: u32,
    /// How often; one more run comes first and is not counted
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// The most positions [default: the model's, as far as memory allows]
    #[arg(long, value_name = "N")]
    pub context: Option<u32>,
    /// The most tokens of the prompt in one step [default: 512, fewer for large models]
    #[arg(long, value_name = "N")]
    pub prefill_chunk: Option<u32>,
    /// Tell instead where the time of a step goes, kernel by kernel, by timestamps of the GPU
    #[arg(long)]
    pub kernels: bool,
    /// With --kernels, write every dispatch that was timed to a trace file, which ui.perfetto.dev and Chrome open
    #[arg(long, value_name = "FILE", requires = "kernels")]
    pub trace: Option<PathBuf>,
    /// One JSON object per line: a `run` each, then `bench` with all figures; with --kernels, `kernels` for prefill and for decoding
    #[arg(long)]
    pub json: bool,
}

/// `quantize`.
#[derive(Debug, Args)]
#[command(after_help = QUANTIZE_EXAMPLES)]
pub struct Quantize {
    /// The model: a folder, a GGUF file, a name on the Hugging Face Hub (ORG/NAME, ORG/NAME@REVISION), or an https:// address
    #[arg(value_name = "MODEL", value_parser = NonEmptyStringValueParser::new())]
    pub model: String,
    /// The folder to write: it is made, or is empty
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// Write into a folder that is not empty
    #[arg(long)]
    pub force: bool,
}

/// `chat`.
#[derive(Debug, Args)]
#[command(after_help = CHAT_EXAMPLES)]
pub struct Chat {
    /// The model: a folder, a GGUF file, a name on the Hugging Face Hub (ORG/NAME, ORG/NAME@REVISION), or an https:// address
    /// [default: the built-in model, which tells little stories]
    #[arg(long, value_name = "MODEL", value_parser = NonEmptyStringValueParser::new())]
    pub model: Option<String>,
    /// What the model is to be
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// A variable of the chat template, in JSON or as it is: enable_thinking=false
    #[arg(long = "template-var", value_name = "NAME=VALUE", value_parser = variable)]
    pub template_vars: Vec<(String, serde_json::Value)>,
    /// What is kept from run to run.
    #[command(flatten)]
    pub prompt_cache: PromptCacheArgs,
    /// How tokens are chosen, and when to stop.
    #[command(flatten)]
    pub sampling: Sampling,
    /// The most positions of the conversation [default: the model's, as far as memory allows]
    #[arg(long, value_name = "N")]
    pub context: Option<u32>,
    /// The most tokens of the prompt in one step [default: 512, fewer for large models]
    #[arg(long, value_name = "N")]
    pub prefill_chunk: Option<u32>,
    /// One JSON object per line: a `token` each, then a `done` for each answer; `notice` for what else there is to say
    #[arg(long)]
    pub json: bool,
}

impl Chat {
    /// `--template-var`
    pub fn variables(&self) -> serde_json::Map<String, serde_json::Value> {
        self.template_vars.iter().cloned().collect()
    }
}

/// `NAME=VALUE`; what is no JSON is a text.
fn variable(text: &str) -> Result<(String, serde_json::Value), String> {
    let (name, value) = text.split_once('=').ok_or("give it as NAME=VALUE")?;
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

/// `--dtype`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DtypeName {
    /// Everything in f32
    F32,
    /// Everything in f16
    F16,
    /// Linear layers in 8 bits
    Q8,
    /// Linear layers in 4 bits with zero points
    Q4a,
    /// Linear layers in 4 bits
    Q4,
    /// Linear layers in 4 bits, quantiles of a normal distribution
    Nf4,
    /// By the model's size
    Auto,
    /// Every dtype: of `validate` alone, which takes it apart
    #[value(skip)]
    All,
    /// What `validate` measures where nobody says
    #[value(skip)]
    Usual,
}

impl DtypeName {
    /// The name of a dtype.
    pub fn of(dtype: Dtype) -> Option<Self> {
        Self::from_str(dtype.name(), false).ok()
    }
}

impl From<DtypeName> for Dtype {
    fn from(name: DtypeName) -> Self {
        match name {
            DtypeName::F32 => Self::F32,
            DtypeName::F16 => Self::F16,
            DtypeName::Q8 => Self::Q8,
            DtypeName::Q4a => Self::Q4a,
            DtypeName::Q4 => Self::Q4,
            DtypeName::Nf4 => Self::Nf4,
            DtypeName::Auto | DtypeName::All | DtypeName::Usual => Self::Auto,
        }
    }
}

/// `--backend`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum BackendName {
    /// Linux, Windows
    Vulkan,
    /// macOS
    Metal,
    /// Windows
    Dx12,
}

impl From<BackendName> for Backend {
    fn from(name: BackendName) -> Self {
        match name {
            BackendName::Vulkan => Self::Vulkan,
            BackendName::Metal => Self::Metal,
            BackendName::Dx12 => Self::Dx12,
        }
    }
}
