//! What `bench` writes down of a measurement, and reads again.

use serde::{Deserialize, Serialize};
use webweft::device::{Category, LedgerSnapshot};
use webweft::managers::Roofline;

/// The version of [`Cell`]'s fields: it grows where one of them changes its meaning.
pub const SCHEMA: u32 = 1;

/// A line of `bench matrix`: one cell of the matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// [`SCHEMA`]
    pub schema: u32,
    /// When it was measured, UTC.
    pub date: String,
    /// Of the code, where it is known.
    pub commit: Option<String>,
    /// Of this program, or of the npm package.
    pub version: String,
    /// Where a page measured it.
    #[serde(default)]
    pub browser: Option<Browser>,
    /// Name, interface and kind.
    pub adapter: String,
    /// And its driver.
    pub driver: String,
    /// `discrete GPU`, `integrated GPU`, `virtual GPU`, `CPU`, `other`
    pub kind: String,
    /// What the model is called.
    pub shape: String,
    /// And its number of weights.
    pub parameters: u64,
    /// How they are stored.
    pub dtype: String,
    /// How keys and values are.
    pub cache_dtype: String,
    /// Tokens of each sequence's prompt,
    pub prompt_tokens: usize,
    /// and those that are in its cache before.
    pub cache_tokens: usize,
    /// Sequences at once.
    pub batch: usize,
    /// Tokens that each of them generates; 0 of an encoder.
    pub new_tokens: usize,
    /// Tokens per second of all sequences together, one for each run.
    pub prefill_tps: Vec<f64>,
    /// The same of new tokens; an encoder has none.
    pub decode_tps: Option<Vec<f64>>,
    /// Bytes on the GPU at most.
    pub memory: Peak,
    /// Weights, and live caches half way through the new tokens, that a step reads.
    pub bytes_per_step: Option<u64>,
    /// Multiplications and additions per token of the prompt, attention apart.
    pub operations_per_token: u64,
    /// Share of the adapter's arithmetic that prefill takes, in the median.
    pub prefill_share: Option<f64>,
    /// Share of its bandwidth that decoding takes.
    pub decode_share: Option<f64>,
    /// What the adapter can do, measured in the same run of the program.
    pub roofline: Option<Rates>,
    /// From the start of the program, or of the page's load, to the built-in model's first token.
    #[serde(default)]
    pub first_token: Option<FirstToken>,
}

/// A page's surroundings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Browser {
    /// `Chromium`, `Firefox`, ...
    pub name: String,
    pub version: String,
}

/// Milliseconds: where nothing is kept from before, and the next time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FirstToken {
    pub cold_ms: Vec<f64>,
    pub warm_ms: Vec<f64>,
}

/// The most that was in use at once, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    pub weights: u64,
    pub cache: u64,
    pub activations: u64,
    pub staging: u64,
    pub peak: u64,
}

impl Peak {
    /// What the ledger saw.
    pub fn of(snapshot: &LedgerSnapshot) -> Self {
        let of = |category| snapshot.peak[category as usize];
        Self {
            weights: of(Category::Weights),
            cache: of(Category::Cache),
            activations: of(Category::Activations),
            staging: of(Category::Staging),
            peak: snapshot.peak_total,
        }
    }
}

/// What an adapter can do: [`Roofline`] in units that people read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    pub copy_gb_per_s: f64,
    pub fma_gflops: f64,
    /// in f16 and of packed 8-bit integers, where the adapter has them
    #[serde(default)]
    pub f16_gflops: Option<f64>,
    #[serde(default)]
    pub int8_gops: Option<f64>,
    pub dispatch_us: f64,
    pub submit_us: f64,
    pub readback_us: f64,
}

impl Rates {
    /// The same in other units.
    pub fn of(roofline: &Roofline) -> Self {
        Self {
            copy_gb_per_s: roofline.bytes_per_second / 1e9,
            fma_gflops: roofline.operations_per_second / 1e9,
            f16_gflops: roofline.f16_operations_per_second.map(|rate| rate / 1e9),
            int8_gops: roofline.int8_operations_per_second.map(|rate| rate / 1e9),
            dispatch_us: roofline.costs.dispatch_us,
            submit_us: roofline.costs.submit_us,
            readback_us: roofline.costs.readback_us,
        }
    }

    /// Two lines of text.
    pub fn describe(&self) -> String {
        let Self { copy_gb_per_s: copy, fma_gflops: fma, f16_gflops, int8_gops, .. } = self;
        let Self { dispatch_us: dispatch, submit_us: submit, readback_us, .. } = self;
        let f16 = f16_gflops.map(|rate| format!(", {rate:.1} in f16")).unwrap_or_default();
        let int8 = int8_gops.map(|rate| format!(", {rate:.1} Gop/s of 8-bit integers")).unwrap_or_default();
        format!(
            "The adapter copies {copy:.1} GB/s (read and written) and computes {fma:.1} GFLOP/s in f32{f16}{int8} (chains of \
             multiply-adds).\nA dispatch costs it {dispatch:.1} us, a submit {submit:.1} us, and a readback takes \
             {readback_us:.1} us.\n"
        )
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A measurement of nothing.
    pub fn cell(shape: &str, prefill_tps: &[f64], decode_tps: &[f64]) -> Cell {
        let rates = Rates {
            copy_gb_per_s: 10.0,
            fma_gflops: 20.0,
            f16_gflops: None,
            int8_gops: Some(40.0),
            dispatch_us: 1.5,
            submit_us: 2.5,
            readback_us: 100.0,
        };
        Cell {
            schema: SCHEMA,
            date: "2026-11-30T00:00:00Z".to_owned(),
            commit: Some("0123abc".to_owned()),
            version: "1".to_owned(),
            browser: None,
            adapter: "A (Vulkan, CPU)".to_owned(),
            driver: "d".to_owned(),
            kind: "CPU".to_owned(),
            shape: shape.to_owned(),
            parameters: 26,
            dtype: "q4".to_owned(),
            cache_dtype: "f16".to_owned(),
            prompt_tokens: 32,
            cache_tokens: 0,
            batch: 1,
            new_tokens: 16,
            prefill_tps: prefill_tps.to_vec(),
            decode_tps: Some(decode_tps.to_vec()),
            memory: Peak { weights: 5, cache: 4, activations: 3, staging: 2, peak: 14 },
            bytes_per_step: Some(9),
            operations_per_token: 52,
            prefill_share: Some(0.25),
            decode_share: None,
            roofline: Some(rates),
            first_token: None,
        }
    }

    /// One that measured.
    pub fn firefox() -> Browser {
        Browser { name: "Firefox".to_owned(), version: "153.0".to_owned() }
    }

    /// Those that `web/tests/e2e/cases/bench.mjs` finds in the page's lines.
    #[test]
    fn fields_are_those_of_the_page() {
        let test = include_str!("../../../web/tests/e2e/cases/bench.mjs");
        let list = test.split("const FIELDS = [").nth(1).and_then(|rest| rest.split("];").next()).expect("a list");
        let names: Vec<_> = list.split('"').skip(1).step_by(2).collect();
        let line = serde_json::to_string(&cell("x", &[], &[])).expect("JSON");
        let mut rest = line.as_str();
        for name in &names {
            // in that order
            rest = rest.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("no {name} in {line}")).1;
        }
        let json: serde_json::Map<_, _> = serde_json::from_str(&line).expect("an object");
        assert_eq!(json.len(), names.len());
    }

    #[test]
    fn what_is_written_is_read() {
        for cell in [
            cell("26M", &[1.5, 2.5], &[3.0]),
            Cell { commit: None, roofline: None, prefill_share: None, ..cell("x", &[], &[1.0]) },
            Cell { decode_tps: None, bytes_per_step: None, browser: Some(firefox()), ..cell("MiniLM", &[1.0], &[]) },
            Cell {
                first_token: Some(FirstToken { cold_ms: vec![9.0], warm_ms: vec![4.0] }),
                ..cell("Stories", &[1.0], &[1.0])
            },
        ] {
            let line = serde_json::to_string(&cell).expect("JSON");
            assert!(!line.contains('\n') && line.starts_with(r#"{"schema":1,"date":"2026"#), "{line}");
            assert_eq!(serde_json::from_str::<Cell>(&line).expect("a cell"), cell);
        }
    }
}
