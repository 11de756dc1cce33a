//! Times, speeds and memory of a run.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;
use webweft::device::{Category, LedgerSnapshot};
use webweft::generate::Timing;
use webweft::managers::Concession;

use crate::open::Opened;
use crate::sizes;

/// What `--json` ends with and `--stats` shows. Times in milliseconds, speeds in tokens per second.
#[derive(Debug, Serialize)]
pub struct Stats {
    load_ms: f64,
    /// from the program's start to the first new token, with all that is done once: of its first text only
    #[serde(skip_serializing_if = "Option::is_none")]
    first_token_ms: Option<f64>,
    prompt_tokens: usize,
    /// less than the prompt where the cache knew its beginning
    prefill_tokens: usize,
    prefill_ms: f64,
    prefill_tps: Option<f64>,
    new_tokens: usize,
    /// from the first new token to the last
    decode_ms: f64,
    decode_tps: Option<f64>,
    /// where tokens were guessed
    #[serde(skip_serializing_if = "Option::is_none")]
    speculation: Option<Speculation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    dtype: &'static str,
    /// why, where it was chosen by `auto`
    #[serde(skip_serializing_if = "Option::is_none")]
    dtype_reason: Option<String>,
    adapter: String,
    /// types of activations and cache, why, and what they did not hold
    precision: Value,
    memory: Memory,
    /// of layers that do not stay on the GPU, where there are such
    #[serde(skip_serializing_if = "Option::is_none")]
    offload: Option<Offloading>,
    /// what was given up because memory ran short
    #[serde(skip_serializing_if = "Vec::is_empty")]
    concessions: Vec<Concession>,
}

/// What guesses were good for.
#[derive(Debug, Serialize)]
struct Speculation {
    /// guesses that were looked at
    drafted: usize,
    /// those that became tokens
    accepted: usize,
    /// after the first token
    tokens_per_step: f64,
}

/// What layers take that do not stay on the GPU. Bytes.
#[derive(Debug, Serialize)]
struct Offloading {
    resident: usize,
    layers: usize,
    /// of the others
    bytes: u64,
    /// to the GPU, for this text
    copied: u64,
    /// that, over all the time that the text took
    copy_gb_per_s: f64,
}

/// Bytes on the GPU at the end, and the most at once.
#[derive(Debug, Serialize)]
struct Memory {
    weights: u64,
    cache: u64,
    activations: u64,
    staging: u64,
    total: u64,
    peak: u64,
    #[serde(skip)]
    snapshot: LedgerSnapshot,
}

impl Stats {
    /// Of a generation; `seed` where it sampled.
    pub fn of(opened: &mut Opened, prompt_tokens: usize, new_tokens: usize, timing: Timing, seed: Option<u64>) -> Self {
        let since_start = opened.begun.take().map(|begun| begun.elapsed().as_secs_f64() * 1e3);
        let per_second = |tokens: usize, ms: f64| (tokens > 0 && ms > 0.0).then(|| tokens as f64 / ms * 1e3);
        let snapshot = opened.device.ledger().snapshot();
        let seconds = (timing.prefill_ms + timing.decode_ms) / 1e3;
        let copied = opened.copied();
        let engine = opened.session.engine();
        let offload = engine.offloaded().zip(copied).map(|(offloaded, copied)| {
            let resident = offloaded.layout().resident;
            Offloading {
                resident,
                layers: resident + offloaded.layers(),
                bytes: offloaded.bytes(),
                copied,
                copy_gb_per_s: copied as f64 / 1e9 / seconds.max(1e-6),
            }
        });
        Self {
            load_ms: opened.load_ms,
            first_token_ms: since_start.filter(|_| new_tokens > 0).map(|ms| ms - timing.decode_ms),
            prompt_tokens,
            prefill_tokens: timing.prefill_tokens,
            prefill_ms: timing.prefill_ms,
            prefill_tps: per_second(timing.prefill_tokens, timing.prefill_ms),
            new_tokens,
            decode_ms: timing.decode_ms,
            decode_tps: per_second(timing.decode_tokens, timing.decode_ms),
            speculation: (timing.drafted > 0).then(|| Speculation {
                drafted: timing.drafted,
                accepted: timing.accepted,
                tokens_per_step: timing.tokens_per_step(),
            }),
            seed,
            dtype: opened.session.precision().dtype.name(),
            dtype_reason: opened.session.recommendation().map(|told| told.reason.clone()),
            adapter: opened.device.info().to_string(),
            precision: opened.session.engine().precision_report().to_json(),
            memory: Memory {
                weights: snapshot.of(Category::Weights),
                cache: snapshot.of(Category::Cache),
                activations: snapshot.of(Category::Activations),
                staging: snapshot.of(Category::Staging),
                total: snapshot.total,
                peak: snapshot.peak_total,
                snapshot,
            },
            offload,
            concessions: engine.concessions().to_vec(),
        }
    }

    /// The table, on standard error.
    pub fn show(&self) {
        let mut text = String::new();
        let mut row = |name: &str, value: &str, note: &str| {
            text += format!("{name:12} {value:>14}  {note}").trim_end();
            text.push('\n');
        };
        let milliseconds = |ms: f64| format!("{ms:.1} ms");
        let speed = |tps: Option<f64>| tps.map_or(String::new(), |tps| format!(", {tps:.1} tokens/s"));
        row("adapter", &self.adapter, "");
        row("dtype", self.dtype, self.dtype_reason.as_deref().unwrap_or_default());
        let field = |name: &str| self.precision[name].as_str().unwrap_or_default();
        row("precision", field("activations"), &format!("of activations, {} of the cache", field("cache")));
        for overflow in self.precision["overflows"].as_array().into_iter().flatten() {
            let of = |field: &str| overflow[field].to_string().replace('"', "");
            let note = format!("layer {}, before position {}, {} times", of("layer"), of("position"), of("count"));
            row("overflow", &of("class"), &note);
        }
        if let Some(seed) = self.seed {
            row("seed", &seed.to_string(), "");
        }
        row("load", &milliseconds(self.load_ms), "");
        if let Some(ms) = self.first_token_ms {
            row("first token", &milliseconds(ms), "after the start");
        }
        let prefill =
            format!("{} of {} prompt tokens{}", self.prefill_tokens, self.prompt_tokens, speed(self.prefill_tps));
        row("prefill", &milliseconds(self.prefill_ms), &prefill);
        row(
            "decode",
            &milliseconds(self.decode_ms),
            &format!("{} new tokens{}", self.new_tokens, speed(self.decode_tps)),
        );
        if let Some(Speculation { drafted, accepted, tokens_per_step }) = &self.speculation {
            let note = format!("of {drafted} drafts accepted, {tokens_per_step:.2} tokens to a step");
            row("speculation", &accepted.to_string(), &note);
        }
        if let Some(Offloading { resident, layers, bytes, copied, copy_gb_per_s }) = &self.offload {
            let note = format!(
                "{} for each step, {} copied, {copy_gb_per_s:.1} GB/s",
                sizes::format(*bytes),
                sizes::format(*copied)
            );
            row("layers", &format!("{resident} of {layers} stay"), &note);
        }
        text += &memory_table(&self.memory.snapshot);
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

/// Memory by category, now and at most.
pub fn memory_table(snapshot: &LedgerSnapshot) -> String {
    let mut text = String::new();
    let mut row = |name: &str, now: u64, peak: u64| {
        text += &format!("{name:12} {:>14}  peak {}\n", sizes::format(now), sizes::format(peak));
    };
    for category in Category::ALL {
        row(category.name(), snapshot.of(category), snapshot.peak[category as usize]);
    }
    row("total", snapshot.total, snapshot.peak_total);
    text
}
