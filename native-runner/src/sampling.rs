//! The flags of [`Sampling`] over a model's defaults.

use std::hash::{BuildHasher, Hasher, RandomState};

use webweft::generate::GenerateOptions;

use crate::args::Sampling;

/// The flags over the model's defaults.
pub fn options(args: &Sampling, defaults: &GenerateOptions) -> GenerateOptions {
    let wants_variety = args.top_k.is_some() || args.top_p.is_some() || args.seed.is_some();
    let mut options = defaults.clone();
    options.temperature = match args.temperature {
        Some(given) => given,
        None if defaults.temperature == 0.0 && wants_variety => 1.0,
        None => defaults.temperature,
    };
    options.max_new_tokens = args.max_new_tokens.unwrap_or(defaults.max_new_tokens);
    options.top_k = args.top_k.unwrap_or(defaults.top_k);
    options.top_p = args.top_p.unwrap_or(defaults.top_p);
    options.seed = args.seed.unwrap_or_else(random_seed);
    options.lookahead = args.lookahead.unwrap_or(defaults.lookahead);
    if args.ignore_eos {
        options.eos_token_id.clear();
    } else if let Some(ids) = &args.eos_token_id {
        options.eos_token_id.clone_from(&ids.0);
    }
    options
}

/// 32 bits: enough to differ, and short enough to type again.
fn random_seed() -> u64 {
    // std keys each of these from the system's random numbers
    RandomState::new().build_hasher().finish() & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn args(flags: &[&str]) -> Sampling {
        let all = ["native-runner", "generate", "x", "--model", "m"].iter().chain(flags);
        match crate::args::Cli::parse_from(all).command {
            crate::args::Command::Generate(args) => args.sampling,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_go_over_the_models_defaults() {
        let greedy = GenerateOptions { eos_token_id: vec![2], ..GenerateOptions::default() };
        let sampling = GenerateOptions { temperature: 0.6, top_k: 50, top_p: 0.9, ..greedy.clone() };
        let of = |flags: &[&str], defaults: &GenerateOptions| {
            let o = options(&args(flags), defaults);
            (o.temperature, o.top_k, o.top_p)
        };
        assert_eq!(of(&[], &greedy), (0.0, 0, 1.0));
        assert_eq!(of(&[], &sampling), (0.6, 50, 0.9));
        assert_eq!(of(&["--top-k", "3"], &greedy), (1.0, 3, 1.0));
        assert_eq!(of(&["--seed", "3"], &greedy), (1.0, 0, 1.0));
        assert_eq!(of(&["--top-p", "0.5"], &sampling), (0.6, 50, 0.5));
        assert_eq!(of(&["--top-k", "3", "--temperature", "0"], &sampling), (0.0, 3, 0.9));
        assert_eq!(options(&args(&[]), &greedy).eos_token_id, [2]);
        assert!(options(&args(&["--ignore-eos"]), &greedy).eos_token_id.is_empty());
        assert_eq!(options(&args(&["--eos-token-id", "1, 7"]), &greedy).eos_token_id, [1, 7]);
        assert_ne!(options(&args(&[]), &greedy).seed, options(&args(&[]), &greedy).seed);
    }
}
