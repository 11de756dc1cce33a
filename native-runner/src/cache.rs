//! How keys and values are kept: flags of every command that runs a model.

use clap::Args;
use webweft::managers::CacheOptions;
use webweft::managers::blocks::CachePolicy;
use webweft::tensor::CacheDtype;

/// `--cache-dtype` and `--cache-policy`.
#[derive(Clone, Debug, Args)]
pub struct CacheArgs {
    /// How keys and values are stored, of which a long context has more than of weights: q8 takes about half of f16, q4 a third
    /// [default: as activations are, f32 or f16]
    #[arg(long, global = true, value_name = "f32|f16|q8|q4", value_parser = dtype)]
    pub cache_dtype: Option<CacheDtype>,
    /// What is kept of long texts: window:512 keeps the first 32 and the last 480 positions, for ever.
    /// snapkv:512 keeps of a longer prompt the 512 positions that its end attends to most
    /// [default: full, which ends texts at the context]
    #[arg(long, global = true, value_name = "full|window:N|snapkv:N", value_parser = policy)]
    pub cache_policy: Option<CachePolicy>,
}

impl CacheArgs {
    /// As the engine takes them.
    pub fn options(&self) -> CacheOptions {
        CacheOptions { dtype: self.cache_dtype, policy: self.cache_policy.unwrap_or_default() }
    }
}

/// The type of that name.
pub fn dtype(name: &str) -> Result<CacheDtype, String> {
    CacheDtype::from_name(name).ok_or_else(|| "it is none of f32, f16, q8, q4".into())
}

/// The policy of that name.
pub fn policy(name: &str) -> Result<CachePolicy, String> {
    let least = CachePolicy::LEAST;
    CachePolicy::from_name(name)
        .ok_or_else(|| format!("it is none of full, window:N and snapkv:N, N at least {least} positions"))
}
