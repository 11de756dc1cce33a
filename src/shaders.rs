//! The kernels that `build.rs` compiled from `shaders/`.

/// How a kernel uses a binding. The order of a kernel's bindings is their numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Parameters, fixed when a program is recorded.
    Uniform,
    /// A storage buffer that is only read.
    Read,
    /// A storage buffer that is read and written.
    ReadWrite,
}

/// One shader in one variant.
#[derive(Debug)]
pub struct Kernel {
    /// Shader and features, for messages and captures: `matmul_few[x_f16,w_q4]`.
    pub label: &'static str,
    /// The features that make this variant, one of each axis.
    pub features: &'static [&'static str],
    /// Binding kinds, by number.
    pub bindings: &'static [Binding],
    /// Plain WGSL: imports resolved, conditions applied.
    pub wgsl: &'static str,
}

/// One shader in all its variants.
#[derive(Debug)]
pub struct Family {
    /// The file's stem.
    pub name: &'static str,
    /// Its variants.
    pub kernels: &'static [Kernel],
}

impl Family {
    /// The variant that has all of `features`, which name one feature of each axis.
    /// Panics on a combination that `variants.toml` does not declare: features come from code, never from input.
    #[must_use]
    pub fn variant(&'static self, features: &[&str]) -> &'static Kernel {
        self.kernels
            .iter()
            .find(|k| k.features.len() == features.len() && k.features.iter().all(|f| features.contains(f)))
            .unwrap_or_else(|| panic!("{} has no variant {features:?}: see shaders/variants.toml", self.name))
    }
}

include!(concat!(env!("OUT_DIR"), "/shaders.rs"));

impl Sampling {
    /// Greedy, and everything else off.
    pub const OFF: Self = Self {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        typical_p: 1.0,
        epsilon_cutoff: 0.0,
        eta_cutoff: 0.0,
        seed_low: 0,
        seed_high: 0,
        repetition_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        no_repeat_ngram_size: 0,
        min_new_tokens: 0,
        prompt_lookup_num_tokens: 0,
        num_assistant_tokens: 0,
        max_matching_ngram_size: 0,
        eos_count: 0,
    };
}
