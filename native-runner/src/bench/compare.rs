//! `bench compare`: what became faster or slower.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::median;
use super::record::{FirstToken, SCHEMA};
use crate::errors::CliError;
use crate::sizes;
use crate::stdout::write;
use crate::table::columns;

/// Medians that differ by less are the same.
const NOISE: f64 = 0.05;
/// The same of memory, which does not vary from run to run.
const MEMORY_NOISE: f64 = 0.02;

const EXAMPLES: &str = "\
Cells are the same by adapter, browser, shape (or model), dtypes, prompt, cache and batch; of one that stands in a file several times, all
runs count. A cell is slower or faster where its medians differ by more than 5 % and the ranges between the quartiles have nothing in common.
The most memory at once is told where it differs by more than 2 %.

Example:
  native-runner bench compare old.jsonl new.jsonl

Exit codes: 0 nothing is slower or larger, 1 failed, 2 wrong command line, 3 something is";

/// `bench compare`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Compare {
    /// Figures from before: of `bench matrix`, or of `bench --json`
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// Figures from now
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
}

/// What the two kinds of lines have in common.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Measured {
    #[serde(flatten)]
    pub key: Key,
    pub prefill_tps: Vec<f64>,
    /// an encoder has none
    pub decode_tps: Option<Vec<f64>>,
    #[serde(default)]
    memory: Option<Memory>,
    #[serde(default)]
    first_token: Option<FirstToken>,
    #[serde(default)]
    pub date: Option<String>,
    #[serde(default)]
    pub commit: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
struct Memory {
    peak: u64,
}

/// What must be the same.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Key {
    pub adapter: String,
    /// its version may change
    #[serde(default)]
    pub browser: Option<BrowserName>,
    #[serde(alias = "model", default)]
    shape: String,
    dtype: String,
    /// of keys and values; `bench --json` does not tell it
    #[serde(default)]
    cache_dtype: String,
    prompt_tokens: usize,
    #[serde(default)]
    cache_tokens: usize,
    #[serde(default = "one")]
    batch: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BrowserName {
    name: String,
}

fn one() -> usize {
    1
}

/// What became of a speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Faster,
    Slower,
}

/// Reads, compares and tells.
pub fn run(args: &Compare) -> Result<ExitCode, CliError> {
    let (old, new) = (read(&args.old)?, read(&args.new)?);
    let (text, is_worse) = compare(&old, &new);
    write(&text)?;
    Ok(if is_worse { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

fn read(path: &Path) -> Result<Vec<Measured>, CliError> {
    Ok(merge(read_lines(path)?))
}

/// The lines of a file.
pub fn read_lines(path: &Path) -> Result<Vec<Measured>, CliError> {
    let text = fs::read_to_string(path).map_err(|source| CliError::FiguresFile { path: path.into(), source })?;
    parse(&text).map_err(|(at, problem)| CliError::Figures { path: path.into(), at, problem })
}

/// Every cell once, with all of its runs.
fn merge(lines: Vec<Measured>) -> Vec<Measured> {
    let mut all: Vec<Measured> = Vec::new();
    for line in lines {
        let Some(known) = all.iter_mut().find(|known| known.key == line.key) else {
            all.push(line);
            continue;
        };
        known.prefill_tps.extend(line.prefill_tps);
        known.decode_tps.get_or_insert_default().extend(line.decode_tps.unwrap_or_default());
        known.decode_tps.take_if(|runs| runs.is_empty());
        known.memory = match (known.memory, line.memory) {
            (Some(a), Some(b)) => Some(Memory { peak: a.peak.max(b.peak) }),
            (a, b) => a.or(b),
        };
        if let Some(first) = line.first_token {
            let times =
                known.first_token.get_or_insert_with(|| FirstToken { cold_ms: Vec::new(), warm_ms: Vec::new() });
            times.cold_ms.extend(first.cold_ms);
            times.warm_ms.extend(first.warm_ms);
        }
    }
    all
}

/// The measured lines, or which line is wrong, and why.
fn parse(text: &str) -> Result<Vec<Measured>, (String, String)> {
    let mut all: Vec<Measured> = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |problem: String| (format!("line {}", number + 1), problem);
        let json: Value = serde_json::from_str(line).map_err(|error| wrong(format!("it is no JSON: {error}")))?;
        match (json["schema"].as_u64(), json["type"].as_str()) {
            (None, Some("run")) => continue, // the line after them has its figures
            (None, Some("bench")) => {}
            (Some(schema), _) if schema <= u64::from(SCHEMA) => {}
            (Some(schema), _) => {
                return Err(wrong(format!("schema {schema} is newer than this program, which reads {SCHEMA}")));
            }
            _ => return Err(wrong("it is neither of `bench matrix` nor of `bench --json`".to_owned())),
        }
        let cell: Measured = serde_json::from_value(json).map_err(|error| wrong(error.to_string()))?;
        for tps in std::iter::once(&cell.prefill_tps).chain(&cell.decode_tps) {
            if tps.is_empty() {
                return Err(wrong("it has no runs".to_owned()));
            }
            if tps.iter().any(|&speed| speed <= 0.0) {
                return Err(wrong("speeds have to be above 0".to_owned()));
            }
        }
        all.push(cell);
    }
    if all.is_empty() {
        return Err(("at its end".to_owned(), "it has no figures".to_owned()));
    }
    Ok(all)
}

/// A table for each adapter (and browser), and whether something is slower or larger.
fn compare(old: &[Measured], new: &[Measured]) -> (String, bool) {
    let head = ["shape", "dtype", "cached", "prompt", "cache", "batch", "figure", "old", "new", "ratio", ""];
    let pairs: Vec<_> = old.iter().filter_map(|cell| Some((cell, partner(cell, new)?))).collect();
    let (mut text, mut speeds, mut slower, mut faster, mut larger) = (String::new(), 0, 0, 0, 0);
    let mut places: Vec<String> = Vec::new();
    for (cell, _) in &pairs {
        if !places.contains(&cell.key.place()) {
            places.push(cell.key.place());
        }
    }
    for place in places {
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for (before, now) in pairs.iter().filter(|(cell, _)| cell.key.place() == place) {
            let mut row = |name: &str, a: String, b: String, ratio: f64, word: &str| {
                let figures = [name.to_owned(), a, b, format!("{ratio:.2}"), word.to_owned()];
                rows.push([&before.key.names()[..], &figures].concat());
            };
            for figure in figures(before, now) {
                let verdict = figure.judge();
                speeds += 1;
                slower += usize::from(verdict == Verdict::Slower);
                faster += usize::from(verdict == Verdict::Faster);
                let word = match verdict {
                    Verdict::Same => "",
                    Verdict::Faster => "faster",
                    Verdict::Slower => "SLOWER",
                };
                let [a, b] = [figure.old, figure.new].map(median);
                row(figure.name, format!("{a:.1}"), format!("{b:.1}"), b / a, word);
            }
            if let (Some(Memory { peak: a }), Some(Memory { peak: b })) = (before.memory, now.memory) {
                let ratio = b as f64 / a.max(1) as f64;
                if (ratio - 1.0).abs() > MEMORY_NOISE {
                    larger += usize::from(ratio > 1.0);
                    let word = if ratio > 1.0 { "LARGER" } else { "smaller" };
                    row("memory", sizes::format(a), sizes::format(b), ratio, word);
                }
            }
        }
        text += &format!("{place}\n{}\n", columns(&rows, &[3, 4, 5, 7, 8, 9]));
    }
    for (which, cells, others) in [("OLD", old, new), ("NEW", new, old)] {
        for cell in cells.iter().filter(|cell| partner(cell, others).is_none()) {
            text += &format!("only in {which}: {}, {}\n", cell.key.describe(), cell.key.place());
        }
    }
    let more = if larger > 0 { format!(", {larger} take more memory") } else { String::new() };
    (text + &format!("{speeds} in both, {slower} slower, {faster} faster{more}\n"), slower + larger > 0)
}

/// Runs of a figure, before and now.
struct Figure<'a> {
    name: &'static str,
    old: &'a [f64],
    new: &'a [f64],
    /// a time: less is better
    is_time: bool,
}

/// Those that both have.
fn figures<'a>(old: &'a Measured, new: &'a Measured) -> Vec<Figure<'a>> {
    let speed = |name, old, new| Figure { name, old, new, is_time: false };
    let mut all = vec![speed("prefill", &old.prefill_tps, &new.prefill_tps)];
    if let (Some(a), Some(b)) = (&old.decode_tps, &new.decode_tps) {
        all.push(speed("decode", a, b));
    }
    if let (Some(a), Some(b)) = (&old.first_token, &new.first_token) {
        let times = [("first, cold", &a.cold_ms, &b.cold_ms), ("first, warm", &a.warm_ms, &b.warm_ms)];
        let times = times.into_iter().filter(|(_, a, b)| !a.is_empty() && !b.is_empty());
        all.extend(times.map(|(name, old, new)| Figure { name, old, new, is_time: true }));
    }
    all
}

impl Figure<'_> {
    fn judge(&self) -> Verdict {
        match (judge(self.old, self.new), self.is_time) {
            (Verdict::Faster, true) => Verdict::Slower,
            (Verdict::Slower, true) => Verdict::Faster,
            (verdict, _) => verdict,
        }
    }
}

fn partner<'a>(cell: &Measured, others: &'a [Measured]) -> Option<&'a Measured> {
    others.iter().find(|other| other.key == cell.key)
}

impl Key {
    /// Adapter, and browser where there is one.
    pub fn place(&self) -> String {
        let browser = self.browser.as_ref().map(|browser| format!(", {}", browser.name)).unwrap_or_default();
        format!("{}{browser}", self.adapter)
    }

    /// All else.
    pub fn describe(&self) -> String {
        let [shape, dtype, cached, prompt, cache, batch] = self.names();
        format!("{shape} {dtype}, prompt {prompt}, cache {cache} {cached}, batch {batch}")
    }

    /// The first columns.
    fn names(&self) -> [String; 6] {
        let numbers = [self.prompt_tokens, self.cache_tokens, self.batch].map(|number| number.to_string());
        let [prompt, cache, batch] = numbers;
        let cached = if self.cache_dtype.is_empty() { "-" } else { &self.cache_dtype };
        [self.shape.clone(), self.dtype.clone(), cached.to_owned(), prompt, cache, batch]
    }
}

/// Whether values differ by more than noise: medians by more than 5 %, and the middle halves do not meet.
fn judge(old: &[f64], new: &[f64]) -> Verdict {
    let ratio = median(new) / median(old);
    if ratio > 1.0 + NOISE && quantile(new, 0.25) > quantile(old, 0.75) {
        Verdict::Faster
    } else if ratio < 1.0 - NOISE && quantile(new, 0.75) < quantile(old, 0.25) {
        Verdict::Slower
    } else {
        Verdict::Same
    }
}

/// Linear between neighbours, as NumPy's and DuckDB's `quantile_cont`.
pub fn quantile(values: &[f64], at: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = at * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::record::tests::{cell, firefox};
    use crate::bench::record::{Browser, Cell, Peak};

    fn measured(cells: &[Cell]) -> Vec<Measured> {
        let lines: Vec<_> = cells.iter().map(|cell| serde_json::to_string(cell).expect("JSON")).collect();
        merge(parse(&lines.join("\n")).expect("figures"))
    }

    #[test]
    fn noise_is_neither_gain_nor_loss() {
        let old = [100.0, 101.0, 102.0, 99.0, 98.0];
        for (new, verdict) in [
            (vec![120.0, 118.0, 122.0], Verdict::Faster),
            (vec![80.0, 82.0, 78.0], Verdict::Slower),
            // surely, but not by much
            (vec![104.0, 104.0, 104.1], Verdict::Same),
            (vec![96.0, 96.0, 96.1], Verdict::Same),
            // by much, but not surely
            (vec![60.0, 90.0, 130.0], Verdict::Same),
            (vec![70.0, 120.0, 130.0], Verdict::Same),
            // one run has no range
            (vec![90.0], Verdict::Slower),
        ] {
            assert_eq!(judge(&old, &new), verdict, "{new:?}");
        }
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|at| quantile(&[4.0, 1.0, 3.0, 2.0], at)), [1.0, 1.75, 2.5, 4.0]);
        assert_eq!(quantile(&[7.0], 0.75), 7.0);
    }

    #[test]
    fn tables_tell_gains_losses_and_what_is_alone() {
        let same = [10.0, 10.1, 9.9];
        let old = measured(&[cell("26M", &same, &same), cell("gone", &same, &same)]);
        let new = measured(&[cell("new", &same, &same), cell("26M", &[20.0, 21.0, 20.5], &[5.0, 5.1, 5.2])]);
        let (text, is_slower) = compare(&old, &new);
        assert!(is_slower);
        for line in [
            "A (Vulkan, CPU)",
            "shape  dtype  cached  prompt  cache  batch  figure    old   new  ratio",
            "26M    q4     f16         32      0      1  prefill  10.0  20.5   2.05  faster",
            "26M    q4     f16         32      0      1  decode   10.0   5.1   0.51  SLOWER",
            "only in OLD: gone q4, prompt 32, cache 0 f16, batch 1, A (Vulkan, CPU)",
            "only in NEW: new q4, prompt 32, cache 0 f16, batch 1, A (Vulkan, CPU)",
            "2 in both, 1 slower, 1 faster",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
        let (text, is_slower) = compare(&old, &old);
        assert!(!is_slower && text.ends_with("4 in both, 0 slower, 0 faster\n"), "{text}");
        assert_eq!(compare(&old[1..], &new).0.lines().count(), 4, "nothing in common is no table");
        // another cache is another cell, within a file, too
        let narrow = Cell { cache_dtype: "q4".to_owned(), ..cell("26M", &[1.0], &[1.0]) };
        let both = measured(&[cell("26M", &same, &same), narrow]);
        let (text, is_slower) = compare(&old[..1], &both);
        assert!(both.len() == 2 && !is_slower && text.contains("only in NEW: 26M q4, prompt 32, cache 0 q4"), "{text}");
    }

    #[test]
    fn figures_of_bench_are_read_too() {
        let bench = r#"{"type":"run","run":1}
            {"type":"bench","adapter":"a","model":"m","dtype":"q4","prompt_tokens":5,"prefill_tps":[1,2],"decode_tps":[3],"more":0}"#;
        let [one] = &parse(bench).expect("figures")[..] else { panic!("one line has figures") };
        assert_eq!((one.key.shape.as_str(), one.key.cache_tokens, one.key.batch), ("m", 0, 1));
        // what stands there twice was measured more often
        let [both] = &merge(parse(&format!("{bench}\n\n{bench}")).expect("figures"))[..] else { panic!("one cell") };
        assert_eq!(
            (&both.prefill_tps[..], both.decode_tps.as_deref()),
            (&[1.0, 2.0, 1.0, 2.0][..], Some(&[3.0, 3.0][..]))
        );
    }

    #[test]
    fn encoders_browsers_memory_and_first_tokens_are_compared() {
        let same = [10.0, 10.1, 9.9];
        let encoder = Cell { decode_tps: None, ..cell("MiniLM", &same, &[]) };
        let page = Cell { browser: Some(firefox()), ..cell("26M", &[1.0], &[1.0]) };
        let updated = Browser { version: "154".to_owned(), ..firefox() };
        let old = measured(&[encoder.clone(), cell("26M", &same, &same), page.clone()]);
        assert_eq!(old.len(), 3, "a page's cell is another one");
        let new = measured(&[encoder, cell("26M", &same, &same), Cell { browser: Some(updated), ..page }]);
        let (text, is_worse) = compare(&old, &new);
        assert!(!is_worse && text.contains("A (Vulkan, CPU), Firefox\n"), "{text}");
        assert!(text.ends_with("5 in both, 0 slower, 0 faster\n"), "{text}");

        let memory = |peak| Cell { memory: Peak { peak, ..cell("x", &[], &[]).memory }, ..cell("26M", &same, &same) };
        let of = |a, b| compare(&measured(&[memory(a)]), &measured(&[memory(b)]));
        assert!(!of(1000, 1019).1 && !of(1000, 1019).0.contains("memory"));
        assert!(of(1000, 1021).1 && of(1000, 1021).0.contains("LARGER") && of(1000, 1021).0.contains("1 take more"));
        assert!(!of(1000, 500).1 && of(1000, 500).0.contains("smaller"));

        let first = |cold: f64, warm: f64| {
            let times = FirstToken { cold_ms: vec![cold; 3], warm_ms: vec![warm; 3] };
            measured(&[Cell { first_token: Some(times), ..cell("Stories", &same, &same) }])
        };
        let (text, is_worse) = compare(&first(900.0, 300.0), &first(700.0, 400.0));
        assert!(is_worse && text.ends_with("4 in both, 1 slower, 1 faster\n"), "{text}");
    }

    #[test]
    fn what_is_no_benchmark_is_told_by_line() {
        let good = serde_json::to_string(&cell("26M", &[1.0], &[1.0])).expect("JSON");
        for (text, line, problem) in [
            (format!("{good}\n\n{{\"schema\":"), "line 3", "no JSON"),
            (format!("{good}\n[1]"), "line 2", "bench matrix"),
            ("{\"type\":\"tune\"}".to_owned(), "line 1", "bench --json"),
            ("{\"schema\":1}".to_owned(), "line 1", "missing field"),
            (good.replace("\"schema\":1", "\"schema\":2"), "line 1", "newer"),
            (good.replace("[1.0]", "[]"), "line 1", "no runs"),
            (good.replace("[1.0]", "[\"fast\"]"), "line 1", "fast"),
            (good.replace("[1.0]", "[0.0]"), "line 1", "above 0"),
            ("\n".to_owned(), "at its end", "no figures"),
        ] {
            let (at, told) = parse(&text).expect_err(&text);
            assert!(at == line && told.contains(problem), "{at}: {told}");
        }
    }
}
