// How the next token is chosen: `GenerateOptions`, as kernels read them. Constant during a generation; one for each slot.
struct Sampling {
    // 0: greedy; what follows up to eta_cutoff is ignored then
    temperature: f32,
    // 0: off
    top_k: u32,
    // 1: off
    top_p: f32,
    // 0: off
    min_p: f32,
    // 1: off
    typical_p: f32,
    // 0: off
    epsilon_cutoff: f32,
    // 0: off
    eta_cutoff: f32,
    seed_low: u32,
    seed_high: u32,
    // 1: off
    repetition_penalty: f32,
    // 0: off
    presence_penalty: f32,
    // 0: off
    frequency_penalty: f32,
    // 0: off
    no_repeat_ngram_size: u32,
    // end-of-sequence tokens are forbidden until so many are sampled
    min_new_tokens: u32,
    // drafts of a step at most; 0: none
    prompt_lookup_num_tokens: u32,
    // as many where an assistant drafts
    num_assistant_tokens: u32,
    // tokens that a draft's predecessors have in common with the last ones, at most
    max_matching_ngram_size: u32,
    // end-of-sequence ids in use
    eos_count: u32,
    eos: array<u32, 64>,
}
