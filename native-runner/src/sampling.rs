//! How tokens are chosen: the flags, and those over a model's defaults.

use std::hash::{BuildHasher, Hasher, RandomState};

use clap::Args;
use serde::{Deserialize, Serialize};
use webweft::generate::GenerateOptions;
use webweft::session::Session;

use crate::lists::TokenIds;

/// How to generate: flags of `generate` and `chat`.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "Generation")]
pub struct Sampling {
    /// The most tokens to generate [default: 256]
    #[arg(long, value_name = "N")]
    pub max_new_tokens: Option<usize>,
    /// 0: always the most likely token. Higher: more variety [default: the model's, or 0; 1 where --seed or a cut-off
    /// is given and the model's is 0]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f32>,
    /// Choose among the K most likely tokens; 0: among all [default: the model's, or 0]
    #[arg(long, value_name = "K")]
    pub top_k: Option<u32>,
    /// Choose among the most likely tokens that together have this probability [default: the model's, or 1]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    /// Choose among the tokens that are at least P times as likely as the most likely one [default: the model's, or 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub min_p: Option<f32>,
    /// Choose among the tokens whose surprise is nearest to the entropy, up to this probability [default: the model's, or 1]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub typical_p: Option<f32>,
    /// Choose among the tokens of at least this probability [default: the model's, or 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub epsilon_cutoff: Option<f32>,
    /// The same, but of a lower one where the entropy is high [default: the model's, or 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub eta_cutoff: Option<f32>,
    /// Makes tokens of prompt and text less likely (above 1), or more [default: the model's, or 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub repetition_penalty: Option<f32>,
    /// Subtracted from the score of each token that was generated, -2 to 2 [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub presence_penalty: Option<f32>,
    /// The same, as many times as it was generated [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub frequency_penalty: Option<f32>,
    /// No N tokens in a row come twice in prompt and text; 0: off [default: the model's, or 0]
    #[arg(long, value_name = "N")]
    pub no_repeat_ngram_size: Option<u32>,
    /// Do not end before so many tokens [default: the model's, or 0]
    #[arg(long, value_name = "N")]
    pub min_new_tokens: Option<usize>,
    /// A text that ends the text, and is not part of it; may be given several times [default: the model's]
    #[arg(long, value_name = "STRING", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Guess up to N of the next tokens from what followed earlier in prompt and text, and look at all of them in one step: the
    /// text stays the same, and comes faster where it repeats itself; 0: off, at most 31 [default: the model's, or 0]
    #[arg(long, value_name = "N")]
    pub prompt_lookup: Option<u32>,
    /// A smaller model with the same tokenizer that guesses the next tokens, which are looked at in one step: the text stays the same
    #[arg(long, value_name = "MODEL", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub assistant_model: Option<String>,
    /// How many tokens the assistant guesses at each step, at most 31 [default: the model's, or 5]
    #[arg(long, value_name = "N", requires = "assistant_model")]
    pub num_assistant_tokens: Option<u32>,
    /// Guess by what followed up to N tokens like the last ones [default: the model's, or 2]
    #[arg(long, value_name = "N")]
    pub max_matching_ngram_size: Option<u32>,
    /// Equal seeds give equal texts [default: random; --stats tells it]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Go on after an end-of-sequence token
    #[arg(long)]
    pub ignore_eos: bool,
    /// Tokens that end the text: 2 or 1,2 [default: the model's]
    #[arg(long, value_name = "IDS", conflicts_with = "ignore_eos", allow_hyphen_values = true)]
    pub eos_token_id: Option<TokenIds>,
    /// How many steps the GPU may be ahead of the text; 0: the CPU samples [default: 8]
    #[arg(long, value_name = "N")]
    pub lookahead: Option<usize>,
}

/// The flags over what a profile says, over the model's defaults. `chat`: for answers.
pub fn of(args: &Sampling, session: &Session, chat: bool) -> GenerateOptions {
    let defaults = if chat { session.chat_defaults() } else { session.defaults().clone() };
    let mut options = options(args, &defaults);
    // unlike the flag, a profile's seed is no wish for variety: `do_sample` is
    if args.seed.is_none() && session.settings().contains_key("seed") {
        options.seed = defaults.seed;
    }
    options
}

/// The flags over the model's defaults.
fn options(args: &Sampling, defaults: &GenerateOptions) -> GenerateOptions {
    let cut_offs = [args.top_p, args.min_p, args.typical_p, args.epsilon_cutoff, args.eta_cutoff];
    let wants_variety = args.top_k.is_some() || args.seed.is_some() || cut_offs.iter().any(Option::is_some);
    let mut options = defaults.clone();
    options.temperature = match args.temperature {
        Some(given) => given,
        None if defaults.temperature == 0.0 && wants_variety => 1.0,
        None => defaults.temperature,
    };
    if let Some(most) = args.max_new_tokens {
        (options.max_new_tokens, options.max_length) = (most, None);
    }
    if let Some(least) = args.min_new_tokens {
        (options.min_new_tokens, options.min_length) = (least, 0);
    }
    set(&mut options.top_k, args.top_k);
    set(&mut options.top_p, args.top_p);
    set(&mut options.min_p, args.min_p);
    set(&mut options.typical_p, args.typical_p);
    set(&mut options.epsilon_cutoff, args.epsilon_cutoff);
    set(&mut options.eta_cutoff, args.eta_cutoff);
    set(&mut options.repetition_penalty, args.repetition_penalty);
    set(&mut options.presence_penalty, args.presence_penalty);
    set(&mut options.frequency_penalty, args.frequency_penalty);
    set(&mut options.no_repeat_ngram_size, args.no_repeat_ngram_size);
    set(&mut options.prompt_lookup_num_tokens, args.prompt_lookup);
    set(&mut options.num_assistant_tokens, args.num_assistant_tokens);
    set(&mut options.max_matching_ngram_size, args.max_matching_ngram_size);
    set(&mut options.lookahead, args.lookahead);
    if !args.stop.is_empty() {
        options.stop_strings.clone_from(&args.stop);
    }
    options.seed = args.seed.unwrap_or_else(random_seed);
    if args.ignore_eos {
        options.eos_token_id.clear();
    } else if let Some(ids) = &args.eos_token_id {
        options.eos_token_id.clone_from(&ids.0);
    }
    options
}

fn set<T>(option: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *option = given;
    }
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
        assert_eq!(of(&["--min-p", "0.1"], &greedy), (1.0, 0, 1.0));
        assert_eq!(of(&["--repetition-penalty", "1.2"], &greedy), (0.0, 0, 1.0), "a penalty is no wish for variety");
        assert_eq!(options(&args(&[]), &greedy).eos_token_id, [2]);
        assert!(options(&args(&["--ignore-eos"]), &greedy).eos_token_id.is_empty());
        assert_eq!(options(&args(&["--eos-token-id", "1, 7"]), &greedy).eos_token_id, [1, 7]);
        assert_ne!(options(&args(&[]), &greedy).seed, options(&args(&[]), &greedy).seed);
    }

    #[test]
    fn every_flag_reaches_its_option() {
        let flags = "--temperature 0.5 --top-k 3 --top-p 0.9 --min-p 0.1 --typical-p 0.8 --epsilon-cutoff 0.01 \
                     --eta-cutoff 0.02 --repetition-penalty 1.2 --presence-penalty -0.5 --frequency-penalty 0.25 \
                     --no-repeat-ngram-size 4 --min-new-tokens 5 --max-new-tokens 6 --prompt-lookup 8 \
                     --max-matching-ngram-size 3 --assistant-model m --num-assistant-tokens 6 --seed 7 --lookahead 9 --stop a --stop -b";
        let defaults = GenerateOptions { max_length: Some(99), min_length: 98, ..GenerateOptions::default() };
        let got = options(&args(&flags.split_whitespace().collect::<Vec<_>>()), &defaults);
        let want = GenerateOptions {
            max_new_tokens: 6,
            min_new_tokens: 5,
            temperature: 0.5,
            top_k: 3,
            top_p: 0.9,
            min_p: 0.1,
            typical_p: 0.8,
            epsilon_cutoff: 0.01,
            eta_cutoff: 0.02,
            repetition_penalty: 1.2,
            presence_penalty: -0.5,
            frequency_penalty: 0.25,
            no_repeat_ngram_size: 4,
            prompt_lookup_num_tokens: 8,
            max_matching_ngram_size: 3,
            num_assistant_tokens: 6,
            seed: 7,
            stop_strings: vec!["a".into(), "-b".into()],
            lookahead: 9,
            ..GenerateOptions::default()
        };
        assert_eq!(got, want);
        let kept = options(&args(&["--seed", "0", "--temperature", "0"]), &defaults);
        assert_eq!(kept, defaults, "what no flag names stays as the model has it");
    }
}
