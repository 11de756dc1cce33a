//! The report as one page: nothing is fetched, nothing runs; words of others are escaped.

use super::plots;
use super::report::{Check, Format, Memory, Report, Speed};
use super::table::{baseline_name, changed, estimate, given, not_finite, or_none, percent, ratio, small};
use crate::sizes;
use crate::svg::{STYLE as DRAWINGS, escape};
use crate::table::number;

const STYLE: &str = include_str!("page.css");
/// How much more perplexity than the baseline's the smallest format may have that is pointed out.
const CLOSE: f64 = 1.02;

const READ: [(&str, &str); 9] = [
    (
        "Perplexity",
        "exp of the mean surprise at the text's own tokens. Lower is better; ± is its standard error, large on a short text.",
    ),
    (
        "Ratio",
        "The format's perplexity over the baseline's. Its error is that of the paired differences, so it is far surer than the two.",
    ),
    (
        "KL divergence",
        "How far the format's probabilities of the next token are from the baseline's, all tokens considered, in nats; 0 where \
      they are the same. It notices changes that leave perplexity as it is.",
    ),
    ("KL 99 %", "99 of 100 positions are at most that far off: the rare bad places, which the mean hides."),
    (
        "Top-1, top-5",
        "How often both find the same token most likely; how many of the baseline's five most likely are among the format's five.",
    ),
    (
        "Worst layer",
        "The hidden state that is furthest from the baseline's: |h - h₀| / |h₀|, root of the mean square over positions.",
    ),
    (
        "At most",
        "The most memory of the GPU at once while the model is loaded and generates, by the engine's own ledger of buffers.",
    ),
    (
        "Cache",
        "How keys and values are stored, and their bytes where a text is as long as a window. A name says so, too, where it was chosen: a \
      q8 cache, or window:256, which keeps the first 32 and the last 224 positions.",
    ),
    (
        "Bits",
        "Bits of GPU memory for each weight on average; embedding and output head keep 16 where layers have fewer.",
    ),
];

/// The whole page.
pub fn page(report: &Report) -> String {
    let (model, text) = (escape(&report.model.name), &report.text);
    let title = format!("What fewer bits cost: {model}");
    let facts = format!(
        "Against {}. {} tokens of {}, in windows of {}{}. {}, {}. webweft {}, {}.",
        escape(&baseline_name(report)),
        number(text.predictions as u64),
        escape(&text.names.join(", ")),
        text.context,
        given(report),
        escape(&report.adapter),
        escape(&report.driver),
        escape(report.version),
        escape(&report.date),
    );
    let line = |class: &str, text: String| format!("<li{class}>{}</li>", escape(&text));
    let broken = report.formats.iter().filter_map(|f| Some(line(" class=\"bad\"", not_finite(report, f)?)));
    let notes: String = broken.chain(report.formats.iter().filter_map(|f| Some(line("", changed(f)?)))).collect();
    let notes = if notes.is_empty() { notes } else { format!("<ul class=\"remarks\">{notes}</ul>") };
    let earlier = match report.history.len() {
        0 => "<p class=\"quiet alone\">No earlier run of the same model, text, windows and adapter is known.</p>",
        _ => "",
    };
    let drawn: Vec<_> = plots::all(report).into_iter().chain(plots::history(report)).collect();
    let read: String = READ.iter().map(|(term, said)| format!("<div><dt>{term}</dt><dd>{said}</dd></div>")).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <style>\n{DRAWINGS}{STYLE}</style></head>\n<body><main><h1>{title}</h1><p class=\"quiet\">{facts}</p>\n{}\n\
         <h2>Quality</h2>{}{notes}\n{}\n<h2>Memory and speed</h2>{}\n<h2>Plots</h2><div class=\"plots\">{}</div>{earlier}\n\
         <h2>How to read it</h2><dl>{read}</dl></main></body></html>\n",
        cards(report),
        quality(report),
        thresholds(report),
        resources(report),
        drawn.join("\n"),
    )
}

fn card(title: &str, value: &str, said: &str) -> String {
    format!("<div class=\"card\"><h3>{title}</h3><b>{value}</b><p>{said}</p></div>")
}

/// What one wants to know first.
fn cards(report: &Report) -> String {
    let mut all = Vec::new();
    let failed = report.formats.iter().filter(|f| !f.pass).count();
    if failed > 0 || report.formats.iter().any(|f| !f.checks.is_empty()) {
        let count = report.formats.len();
        let (class, value) =
            if failed == 0 { ("good", "pass".to_owned()) } else { ("bad", format!("{failed} of {count} fail")) };
        all.push(card("Thresholds", &format!("<span class=\"{class}\">{value}</span>"), "Every one, of every format."));
    }
    match report.smallest_within(CLOSE) {
        Some(f) => {
            let share = f.memory.lasting() as f64 / report.baseline.memory.lasting().max(1) as f64;
            let ratio = f.quality.map_or(0.0, |q| q.perplexity_ratio.value);
            let said = format!(
                "The fewest bytes of all that pass and are within {:.0} % of the baseline's perplexity: {} of weights and cache, {share:.2} × \
                 the baseline's, at {ratio:.4} × its perplexity.",
                (CLOSE - 1.0) * 100.0,
                sizes::format(f.memory.lasting())
            );
            all.push(card("Best trade-off", &escape(&f.name), &said));
        }
        None => {
            let said =
                format!("No format passes and is within {:.0} % of the baseline's perplexity.", (CLOSE - 1.0) * 100.0);
            all.push(card("Best trade-off", "none", &said));
        }
    }
    let by = |value: fn(&Format) -> Option<f64>| {
        let all = report.formats.iter().filter_map(move |f| Some((f, value(f)?)));
        all.reduce(|best, next| if next.1 < best.1 { next } else { best })
    };
    if let Some((f, kl)) = by(|f| Some(f.kl()?.mean)) {
        let top1 = f.quality.map_or(0.0, |q| q.top1);
        let said = format!("Mean KL divergence {} nats; the same most likely token at {}.", small(kl), percent(top1));
        all.push(card("Nearest to the baseline", &escape(&f.name), &said));
    }
    if let Some((f, negative)) = by(|f| f.speed.decode_tps.map(|tps| -tps)) {
        let base = report
            .baseline
            .speed
            .decode_tps
            .map_or(String::new(), |tps| format!(", {:.2} × the baseline's", -negative / tps));
        all.push(card(
            "Fastest decode",
            &escape(&f.name),
            &format!("{:.1} tokens/s{base}, on this adapter.", -negative),
        ));
    }
    format!("<div class=\"cards\">{}</div>", all.concat())
}

/// Quality, the format's names in front.
fn quality(report: &Report) -> String {
    let head =
        ["perplexity", "ratio", "KL mean", "KL median", "KL 99 %", "KL max", "top-1", "top-5", "worst layer", "result"];
    let base = &report.baseline;
    let mut rows = vec![(base.name.as_str(), vec![estimate(base.perplexity, 3), "1".to_owned()])];
    for f in &report.formats {
        let mut cells = match &f.quality {
            Some(q) => vec![
                estimate(q.perplexity, 3),
                ratio(q.perplexity_ratio),
                small(q.kl.mean),
                small(q.kl.median),
                small(q.kl.p99),
                small(q.kl.max),
                percent(q.top1),
                percent(q.top5),
            ],
            None => vec!["<span class=\"bad\">not finite</span>".to_owned()],
        };
        cells.resize(head.len() - 2, String::new());
        cells.push(f.worst_layer().map_or("–".to_owned(), |(layer, error)| {
            format!("{} <span class=\"quiet\">{}</span>", small(error), escape(&report.states[layer]))
        }));
        cells.push(match (f.pass, f.checks.is_empty()) {
            (true, true) => "–".to_owned(),
            (true, false) => "<span class=\"good\">pass</span>".to_owned(),
            (false, _) => "<span class=\"bad\">FAIL</span>".to_owned(),
        });
        rows.push((&f.name, cells));
    }
    table(&head.map(str::to_owned), rows)
}

/// What a format takes, and how fast it is.
fn resources(report: &Report) -> String {
    let head = ["weights", "bits a weight", "cache", "at most", "load, s", "prefill, tokens/s", "decode, tokens/s"];
    let cells = |cache: &str, m: &Memory, s: &Speed| {
        vec![
            sizes::format(m.weights),
            format!("{:.2}", m.bits_per_weight),
            format!("<span class=\"quiet\">{cache}</span> {}", sizes::format(m.cache)),
            sizes::format(m.peak),
            format!("{:.2}", s.load_ms / 1e3),
            or_none(s.prefill_tps),
            or_none(s.decode_tps),
        ]
    };
    let base = &report.baseline;
    let mut rows = vec![(base.name.as_str(), cells(base.cache, &base.memory, &base.speed))];
    rows.extend(report.formats.iter().map(|f| (f.name.as_str(), cells(f.cache, &f.memory, &f.speed))));
    table(&head.map(str::to_owned), rows)
}

/// Names are escaped here, cells are HTML already.
fn table(head: &[String], rows: Vec<(&str, Vec<String>)>) -> String {
    let names: String = head.iter().map(|name| format!("<th scope=\"col\">{name}</th>")).collect();
    let row = |(name, mut cells): (&str, Vec<String>)| {
        cells.resize(head.len(), String::new());
        let cells: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
        format!("<tr><th scope=\"row\">{}</th>{cells}</tr>", escape(name))
    };
    let rows: String = rows.into_iter().map(row).collect();
    format!("<div class=\"table\"><table><thead><tr><th></th>{names}</tr></thead><tbody>{rows}</tbody></table></div>")
}

/// Each threshold with what every format has; nothing where none was given.
fn thresholds(report: &Report) -> String {
    let Some(first) = report.formats.first().filter(|f| !f.checks.is_empty()) else { return String::new() };
    let names: Vec<String> =
        first.checks.iter().map(|check| format!("--{} {}", check.threshold, check.show(check.limit))).collect();
    let head: Vec<String> = report.formats.iter().map(|f| escape(&f.name)).collect();
    let cell = |check: &Check| {
        let (class, mark) = if check.pass { ("good", "✓") } else { ("bad", "✗") };
        let got = check.got.map_or("no number".to_owned(), |got| check.show(got));
        format!("<span class=\"{class}\">{mark} {got}</span>")
    };
    let of = |i: usize| report.formats.iter().filter_map(|f| f.checks.get(i)).map(cell).collect();
    let rows = names.iter().enumerate().map(|(i, name)| (name.as_str(), of(i))).collect();
    format!("<h2>Thresholds</h2>{}", table(&head, rows))
}

#[cfg(test)]
mod tests {
    use webweft::managers::Estimate;

    use super::*;
    use crate::validate::history::Entry;
    use crate::validate::report::tests::format;
    use crate::validate::report::{Baseline, Limits, Model, NonFinite, Text};

    fn report(formats: Vec<Format>) -> Report {
        let model = Model { name: "m".to_owned(), fingerprint: "f".to_owned(), parameters: 1, quantization: None };
        let (memory, speed) = (formats[0].memory, formats[0].speed);
        Report {
            version: "1",
            date: "2026-11-22T00:00:00Z".to_owned(),
            model: model.clone(),
            against: model,
            adapter: "a".to_owned(),
            driver: "d".to_owned(),
            text: Text {
                names: vec!["t".to_owned()],
                digest: "x".to_owned(),
                predictions: 3,
                context: 8,
                stride: 7,
                prompt: 0,
                max_tokens: 9,
            },
            baseline: Baseline { name: "f32".to_owned(), cache: "f32", perplexity: Estimate::default(), memory, speed },
            states: ["embedding", "layer 0", "final norm"].map(str::to_owned).to_vec(),
            formats,
            thresholds: Limits::default(),
            pass: true,
            history: Vec::new(),
        }
    }

    /// Whatever the figures are, every place of a drawing is a number.
    #[track_caller]
    fn check(report: &Report, figures: usize) -> String {
        let page = page(report);
        assert_eq!(page.matches("<figure>").count(), figures, "{page}");
        for word in ["NaN", "\"inf", ",inf", "-inf"] {
            assert!(!page.contains(word), "{word} in {page}");
        }
        page
    }

    #[test]
    fn extremes_can_be_drawn() {
        check(&report(vec![format("q4", 0.01, 1000), format("q8", 1e-7, 2000)]), 7);
        check(&report(vec![format("f32", 0.0, 0)]), 7);
        check(&report(vec![format("huge", 700.0, u64::MAX / 2)]), 7);
        let many = (0..11).map(|i| format(&format!("format {i}"), 0.01 * f64::from(i), 1000)).collect();
        check(&report(many), 7);

        let mut broken = format("q4", 0.01, 1000);
        broken.quality = None;
        broken.pass = false;
        broken.layer_errors = Some(vec![0.0, f64::NAN, f64::INFINITY]);
        broken.non_finite = Some(NonFinite { positions: 2, first: "layer 0".to_owned() });
        let page = check(&report(vec![broken]), 4);
        assert!(page.contains("1 of 1 fail") && page.contains("first in: layer 0"), "{page}");

        let mut bare = format("q4", 0.01, 1000);
        bare.layer_errors = None;
        bare.speed.prefill_tps = None;
        bare.speed.decode_tps = None;
        check(&report(vec![bare]), 4);
    }

    #[test]
    fn the_trade_off_is_small_and_good() {
        let named = |formats| report(formats).smallest_within(CLOSE).map(|f| f.name.clone());
        let all = || vec![format("q8", 1e-7, 2000), format("near", 0.001, 1000), format("far", 0.01, 1000)];
        assert_eq!(named(all()).as_deref(), Some("near"));
        let mut failing = all();
        failing[1].pass = false;
        assert_eq!(named(failing).as_deref(), Some("far"));
        assert_eq!(named(vec![format("q2", 0.5, 10)]), None);
    }

    #[test]
    fn earlier_runs_are_drawn() {
        let mut with = report(vec![format("q4", 0.01, 1000)]);
        let mut without = Entry::of(&with);
        without.formats.clear();
        with.history = vec![without.clone()];
        check(&with, 9);
        with.formats[0].quality = None;
        let page = check(&with, 4);
        assert!(!page.contains("No earlier run"), "{page}");
    }
}
