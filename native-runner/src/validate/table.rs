//! The report for a terminal.

use webweft::managers::Estimate;

use super::report::{Check, Format, Memory, Report, Speed};
use crate::sizes;
use crate::table::{columns, number};

/// The whole text.
pub fn table(report: &Report) -> String {
    let text = &report.text;
    let mut out = format!(
        "{} against {}\n{} tokens of {}, windows of {}{}\n{}\n\n",
        report.model.name,
        baseline_name(report),
        number(text.predictions as u64),
        text.names.join(", "),
        text.context,
        given(report),
        report.adapter,
    );
    out += &quality(report);
    out.push('\n');
    out += &resources(report);
    for line in report.formats.iter().flat_map(|f| remarks(report, f)) {
        out += &format!("\n{line}");
    }
    out.trim_end().to_owned() + "\n"
}

fn quality(report: &Report) -> String {
    let head = ["", "perplexity", "ratio", "KL mean", "KL 99 %", "top-1", "worst layer", "result"];
    let base = &report.baseline;
    let mut rows =
        vec![head.map(str::to_owned).to_vec(), vec![base.name.clone(), estimate(base.perplexity, 3), "1".to_owned()]];
    for f in &report.formats {
        let worst = f.worst_layer().map(|(layer, error)| format!("{} {}", small(error), report.states[layer]));
        let mut row = vec![f.name.clone()];
        match &f.quality {
            Some(q) => row.extend([
                estimate(q.perplexity, 3),
                ratio(q.perplexity_ratio),
                small(q.kl.mean),
                small(q.kl.p99),
                percent(q.top1),
            ]),
            None => row.extend(["not finite", "", "", "", ""].map(str::to_owned)),
        }
        row.extend([worst.unwrap_or_default(), result(f).to_owned()]);
        rows.push(row);
    }
    columns(&rows, &[1, 2, 3, 4, 5])
}

fn resources(report: &Report) -> String {
    let head = ["", "weights", "bits", "cache", "", "at most", "load", "prefill", "decode"];
    let row = |name: &str, cache: &str, memory: &Memory, speed: &Speed| {
        vec![
            name.to_owned(),
            sizes::format(memory.weights),
            format!("{:.2}", memory.bits_per_weight),
            cache.to_owned(),
            sizes::format(memory.cache),
            sizes::format(memory.peak),
            format!("{:.0} ms", speed.load_ms),
            tokens_per_second(speed.prefill_tps),
            tokens_per_second(speed.decode_tps),
        ]
    };
    let base = &report.baseline;
    let mut rows = vec![head.map(str::to_owned).to_vec(), row(&base.name, base.cache, &base.memory, &base.speed)];
    rows.extend(report.formats.iter().map(|f| row(&f.name, f.cache, &f.memory, &f.speed)));
    columns(&rows, &[1, 2, 4, 5, 6, 7, 8])
}

/// What it was measured against.
pub fn baseline_name(report: &Report) -> String {
    let own = report.against.name == report.model.name;
    if own { report.baseline.name.clone() } else { format!("{} of {}", report.baseline.name, report.against.name) }
}

/// What of a window is given.
pub fn given(report: &Report) -> String {
    match report.text.prompt {
        0 => String::new(),
        prompt => format!(", whose first {prompt} positions are given"),
    }
}

/// Whether it passes; nothing where nothing was asked for and all is finite.
fn result(f: &Format) -> &'static str {
    match (f.pass, f.checks.is_empty()) {
        (true, true) => "",
        (true, false) => "pass",
        (false, _) => "FAIL",
    }
}

/// What there is to say of a format beside its figures: logits that are not finite, thresholds that do not hold, what changed.
fn remarks(report: &Report, f: &Format) -> Vec<String> {
    let failed = f.checks.iter().filter(|check| !check.pass).map(|check| format!("{}: {}", f.name, failure(check)));
    not_finite(report, f).into_iter().chain(failed).chain(changed(f)).collect()
}

/// That logits are not finite.
pub fn not_finite(report: &Report, f: &Format) -> Option<String> {
    let broken = f.non_finite.as_ref()?;
    let (count, of) = (number(broken.positions as u64), number(report.text.predictions as u64));
    Some(format!("{}: logits are not finite at {count} of {of} positions; first in: {}", f.name, broken.first))
}

/// What changed since an earlier run.
pub fn changed(f: &Format) -> Option<String> {
    let change = f.change.as_ref()?;
    let mut parts = Vec::new();
    let signed = |value: f64| if value == 0.0 { "unchanged".to_owned() } else { format!("{value:+.2e}") };
    parts.extend(change.perplexity_ratio.map(|by| format!("ratio {}", signed(by))));
    parts.extend(change.kl.map(|by| format!("KL {}", signed(by))));
    parts.extend(change.decode_tps.map(|by| format!("decode x{by:.2}")));
    let files = if change.other_files { "; the model's files were others" } else { "" };
    Some(format!("{}: since {}: {}{files}", f.name, change.since, parts.join(", ")))
}

/// A threshold that does not hold.
fn failure(check: &Check) -> String {
    let got = check.got.map_or("no number".to_owned(), |got| check.show(got));
    format!("--{} {} does not hold: {got}", check.threshold, check.show(check.limit))
}

/// A value and its standard error.
pub fn estimate(estimate: Estimate, digits: usize) -> String {
    match estimate.standard_error {
        Some(error) => format!("{:.digits$} ± {error:.digits$}", estimate.value),
        None => format!("{:.digits$}", estimate.value),
    }
}

/// As [`estimate`] with four digits, more where the error is smaller.
pub fn ratio(ratio: Estimate) -> String {
    let error = ratio.standard_error.filter(|error| *error > 0.0).unwrap_or(1.0);
    estimate(ratio, (-error.log10().floor()).clamp(4.0, 6.0) as usize)
}

/// Three digits that count, whatever the magnitude.
pub fn small(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        v if !v.is_finite() => "not finite".to_owned(),
        v if (1e-3..1e4).contains(&v) => {
            let digits = (2 - v.log10().floor() as i32).clamp(0, 5) as usize;
            format!("{value:.digits$}")
        }
        _ => format!("{value:.2e}"),
    }
}

/// A value, or that there is none.
pub fn or_none(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), small)
}

/// A share.
pub fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

fn tokens_per_second(speed: Option<f64>) -> String {
    speed.map_or(String::new(), |speed| format!("{speed:.1} tokens/s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 1.0, 0.0123456, 0.00012345, 12345.6, 99.95, f64::NAN].map(small);
        assert_eq!(shown, ["0", "1.00", "0.0123", "1.23e-4", "1.23e4", "100.0", "not finite"].map(str::to_owned));
        assert_eq!(estimate(Estimate { value: 1.5, standard_error: Some(0.25) }, 2), "1.50 ± 0.25");
        assert_eq!(percent(0.98765), "98.77 %");
        let shown = [0.02, 4e-6, 0.0].map(|error| ratio(Estimate { value: 1.25, standard_error: Some(error) }));
        assert_eq!(shown, ["1.2500 ± 0.0200", "1.250000 ± 0.000004", "1.2500 ± 0.0000"]);
    }
}
