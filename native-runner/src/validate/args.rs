//! The command line of `validate`.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use webweft::managers::blocks::CachePolicy;
use webweft::tensor::CacheDtype;

use crate::args::DtypeName;
use crate::cache;
use crate::sizes;

const EXAMPLES: &str = "\
The text is cut into windows; both models predict the same tokens from the same ones. KL divergence and top-1 agreement compare all
probabilities, position by position; layer errors compare hidden states. docs/validation.md tells how to read all of it.

Examples:
  native-runner validate
  native-runner validate MODEL --dtype q4 --against f32 --text FILE
  native-runner validate MODEL --dtype q8,q4 --text FILE --html page.html --max-perplexity-ratio 1.05 --min-top1 0.9
  native-runner validate MODEL --cache-dtype q8,q4 --cache-policy full,window:256 --text FILE
  native-runner validate GPTQ-MODEL --dtype auto --against-model ORIGINAL --text FILE --json

Exit codes: 0 done, and all thresholds held; 1 failed; 2 wrong command line; 3 a threshold did not hold, or logits were not finite;
130 cancelled";

/// `validate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Validate {
    /// The model: a folder, a name on the Hugging Face Hub (ORG/NAME, ORG/NAME@REVISION), or an https:// address
    /// [default: the built-in model, which tells little stories]
    #[arg(value_name = "MODEL", value_parser = NonEmptyStringValueParser::new())]
    pub model: Option<String>,
    // of the same name as the flag of all commands, which takes one
    /// What to measure: one dtype or several, or all but the baseline's [default: all, and the cache types with the baseline's weights;
    /// where cache types or policies are named, those with the baseline's weights]
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = dtype_or_all,
        default_value = "usual",
        hide_default_value = true,
        value_name = "DTYPE,...|all"
    )]
    pub dtype: Vec<DtypeName>,
    /// With which caches: each dtype with each of these; the baseline's is as its activations are [default: as activations are]
    #[arg(long, value_delimiter = ',', value_parser = cache::dtype, value_name = "f32|f16|q8|q4,...")]
    pub cache_dtype: Vec<CacheDtype>,
    /// And with which policies: the second half of every window is predicted then, and the first is its prompt; the baseline forgets
    /// nothing [default: full]
    #[arg(long, value_delimiter = ',', value_parser = cache::policy, value_name = "full|window:N,...")]
    pub cache_policy: Vec<CachePolicy>,
    /// The baseline's dtype
    #[arg(long, value_enum, default_value = "f32", hide_possible_values = true, value_name = "DTYPE")]
    pub against: DtypeName,
    /// The baseline, where it is another model of the same vocabulary: what was there before another tool quantized it
    #[arg(long, value_name = "MODEL", value_parser = NonEmptyStringValueParser::new())]
    pub against_model: Option<String>,
    /// A text to predict, may be given several times; `-`: standard input [default for the built-in model: stories that it was not
    /// trained on]
    #[arg(long, value_name = "FILE")]
    pub text: Vec<PathBuf>,
    /// Each paragraph (between empty lines) begins anew, as a text of its own
    #[arg(long)]
    pub paragraphs: bool,
    /// Positions of a window [default: 512, or what the model has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub context: Option<u32>,
    /// How far the next window is from the last one: fewer tokens see more before them [default: a whole window, or its second half]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub stride: Option<u32>,
    /// The most tokens to predict
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: u32,
    /// How often speed is measured; 0: not at all
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub runs: u32,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    /// A page with tables and plots, in one file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// The file that remembers runs [default: webweft/validate.jsonl in the folder for state, ~/.local/state]
    #[arg(long, value_name = "FILE", conflicts_with = "no_history")]
    pub history: Option<PathBuf>,
    /// Neither read nor write it
    #[arg(long)]
    pub no_history: bool,
    // last: what follows would stand under its heading
    /// What must hold.
    #[command(flatten)]
    pub thresholds: Thresholds,
}

impl Validate {
    /// Whether there is a cache that drops something: what that costs shows behind a prompt.
    pub fn drops(&self) -> bool {
        self.cache_policy.iter().any(|policy| *policy != CachePolicy::Full)
    }
}

/// What must hold, each only where it is given.
#[derive(Clone, Copy, Debug, Default, Args)]
#[command(next_help_heading = "Thresholds")]
pub struct Thresholds {
    /// Perplexity over the baseline's, at most: 1.05
    #[arg(long, value_name = "X", value_parser = positive, allow_negative_numbers = true)]
    pub max_perplexity_ratio: Option<f64>,
    /// Mean KL divergence from the baseline in nats, at most: 0.05
    #[arg(long, value_name = "X", value_parser = not_negative, allow_negative_numbers = true)]
    pub max_kl: Option<f64>,
    /// Share of positions with the same most likely token, at least: 0.95
    #[arg(long, value_name = "X", value_parser = share, allow_negative_numbers = true)]
    pub min_top1: Option<f64>,
    /// Relative error of hidden states after any layer, at most: 0.1
    #[arg(long, value_name = "X", value_parser = not_negative, allow_negative_numbers = true)]
    pub max_layer_error: Option<f64>,
    /// Memory of the GPU while loading and generating, at most: 3.8GB, 512MiB
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse)]
    pub max_memory: Option<u64>,
}

fn dtype_or_all(text: &str) -> Result<DtypeName, String> {
    match text {
        "all" => Ok(DtypeName::All),
        "usual" => Ok(DtypeName::Usual), // what clap takes where nothing is given
        other => DtypeName::from_str(other, false).map_err(|_| {
            let names: Vec<_> = DtypeName::value_variants()
                .iter()
                .filter_map(|name| Some(name.to_possible_value()?.get_name().to_owned()))
                .collect();
            format!("give some of {}, with commas between, or all", names.join(", "))
        }),
    }
}

fn number(text: &str, expected: &str, holds: impl Fn(f64) -> bool) -> Result<f64, String> {
    text.trim().parse().ok().filter(|v: &f64| v.is_finite() && holds(*v)).ok_or_else(|| format!("give {expected}"))
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, "a number above 0", |v| v > 0.0)
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text, "a number from 0 on", |v| v >= 0.0)
}

fn share(text: &str) -> Result<f64, String> {
    number(text, "a number from 0 to 1", |v| (0.0..=1.0).contains(&v))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::args::{Cli, Command};

    fn parsed(flags: &[&str]) -> Result<Vec<DtypeName>, clap::Error> {
        let cli = Cli::try_parse_from([&["native-runner"], flags].concat())?;
        let Command::Validate(args) = cli.command else { panic!("another command") };
        Ok(args.dtype)
    }

    #[test]
    fn one_dtype_or_several() {
        Cli::command().debug_assert();
        use DtypeName::{All, F16, Q4, Q8, Usual};
        assert!(matches!(parsed(&["validate"]).expect("what is usual")[..], [Usual]));
        assert!(matches!(parsed(&["validate", "--dtype", "all"]).expect("all")[..], [All]));
        assert!(matches!(parsed(&["validate", "--dtype", "q4"]).expect("one")[..], [Q4]));
        assert!(matches!(
            parsed(&["validate", "--dtype", "q8,q4", "--dtype", "f16"]).expect("three")[..],
            [Q8, Q4, F16]
        ));
        assert!(parsed(&["validate", "--dtype", "q5"]).is_err());
        assert!(Cli::try_parse_from(["native-runner", "bench", "--dtype", "all"]).is_err(), "elsewhere it is one");
        assert!(Cli::try_parse_from(["native-runner", "bench", "--dtype", "q4"]).is_ok());
    }

    #[test]
    fn thresholds_have_ranges() {
        for (flag, right, wrong) in [
            ("--max-perplexity-ratio", "1.05", &["0", "-1", "nan", "inf", "x"][..]),
            ("--max-kl", "0", &["-0.1", "NaN", "1e999"]),
            ("--min-top1", "1", &["1.01", "-0.5", ""]),
            ("--max-layer-error", "0.1", &["-1", "one"]),
            ("--max-memory", "512MiB", &["0", "many"]),
        ] {
            assert!(parsed(&["validate", flag, right]).is_ok(), "{flag} {right}");
            for wrong in wrong {
                assert!(parsed(&["validate", flag, wrong]).is_err(), "{flag} {wrong}");
            }
        }
    }
}
