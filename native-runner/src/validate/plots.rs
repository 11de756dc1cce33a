//! The drawings of the page.

use super::history::{Entry, Past};
use super::report::{Format, Report};
use super::table::{estimate, or_none, small};
use crate::sizes;
use crate::svg::{Anchor, Axis, Drawing, WIDTH, legend};

/// Divergences below this are noise of rounding.
const LEAST_KL: f64 = 1e-9;
/// From the middle of an interval that has 95 % of a normal distribution to its end, in deviations.
const NORMAL_95: f64 = 1.96;
/// Points of a line that shows a distribution.
const POINTS: usize = 120;
/// Where drawings with a vertical axis begin and end.
const LEFT: f64 = 46.0;
const RIGHT: f64 = WIDTH - 8.0;

/// All that there is something to show in, in the order of the page.
pub fn all(report: &Report) -> Vec<String> {
    let plots =
        [scatter(report), ratios(report), layers(report), distribution(report), prefill(report), decode(report)];
    plots.into_iter().chain([memory(report)]).flatten().collect()
}

/// What became of the formats from run to run; nothing where this is the first.
pub fn history(report: &Report) -> Vec<String> {
    if report.history.is_empty() {
        return Vec::new();
    }
    let runs: Vec<Entry> = report.history.iter().cloned().chain([Entry::of(report)]).collect();
    let said = "Each point is a run, the last one this.";
    let ratio = runs_of(report, &runs, |past| past.perplexity_ratio, Axis::linear, |axis| axis.ticks(5));
    let kl = runs_of(
        report,
        &runs,
        |past| past.kl,
        |values, span| Axis::decades(values, LEAST_KL, span),
        |axis| axis.ticks(6),
    );
    [("Perplexity ratio, run by run", ratio), ("Mean KL divergence, run by run", kl)]
        .into_iter()
        .filter_map(|(title, svg)| Some(figure(title, said, &(svg? + &legend(&names(report))))))
        .collect()
}

fn figure(title: &str, said: &str, body: &str) -> String {
    format!("<figure><figcaption><h3>{title}</h3><p>{said}</p></figcaption>{body}</figure>")
}

/// Height of a row with a name: few rows are as high together as other drawings.
fn row_height(rows: usize) -> f64 {
    (200.0 / rows.max(1) as f64).clamp(24.0, 40.0)
}

fn names(report: &Report) -> Vec<String> {
    report.formats.iter().map(|f| f.name.clone()).collect()
}

/// Divergence against bytes: what is low and left is good.
fn scatter(report: &Report) -> Option<String> {
    let mebibytes = |bytes: u64| bytes as f64 / (1u64 << 20) as f64;
    let points: Vec<(usize, &Format, f64)> =
        report.formats.iter().enumerate().filter_map(|(i, f)| Some((i, f, f.kl()?.mean))).collect();
    if points.is_empty() {
        return None;
    }
    let baseline = mebibytes(report.baseline.memory.lasting());
    let (top, bottom) = (20.0, 204.0);
    let x = Axis::from_zero(points.iter().map(|p| mebibytes(p.1.memory.lasting())).chain([baseline]), [LEFT, RIGHT]);
    let y = Axis::decades(points.iter().map(|p| p.2), LEAST_KL, [bottom, top]);
    let mut d = Drawing::new(240.0);
    d.vertical(&y, [LEFT, RIGHT], &y.ticks(6));
    d.horizontal(&x, [top, bottom], &x.ticks(6));
    d.word([LEFT - 40.0, 10.0], Anchor::Start, "", "nats, mean");
    d.word([RIGHT, bottom + 30.0], Anchor::End, "", "weights and cache, MiB");
    let at = x.at(baseline);
    d.line(&[[at, top], [at, bottom]], "guide");
    d.word([at - 4.0, top + 12.0], Anchor::End, "", &report.baseline.name);
    // names of neighbours are moved apart
    let mut placed: Vec<[f64; 2]> = Vec::new();
    let mut sorted = points.clone();
    sorted.sort_by(|a, b| b.2.total_cmp(&a.2));
    for (series, f, kl) in sorted {
        let point = [x.at(mebibytes(f.memory.lasting())), y.at(kl)];
        let lowest = placed.iter().filter(|p| (p[0] - point[0]).abs() < 70.0).map(|p| p[1] + 12.0);
        let word = [point[0], lowest.fold(point[1] + 4.0, f64::max)];
        let title = format!("{}: {}, KL {}", f.name, sizes::format(f.memory.lasting()), small(kl));
        d.point(point, series, &title);
        let left = point[0] > WIDTH - 90.0;
        let (dx, anchor) = if left { (-8.0, Anchor::End) } else { (8.0, Anchor::Start) };
        d.word([word[0] + dx, word[1]], anchor, &format!("own s{}", series % 8), &f.name);
        placed.push(word);
    }
    let said = "Mean KL divergence from the baseline, against the bytes of weights and a window's cache. Low and left is good.";
    Some(figure("Quality against bytes", said, &d.finish("Mean KL divergence against bytes, by format")))
}

/// Perplexity over the baseline's, with 95 % of its distribution.
fn ratios(report: &Report) -> Option<String> {
    let rows: Vec<_> = report.formats.iter().enumerate().filter_map(|(i, f)| Some((i, f, f.quality?))).collect();
    if rows.is_empty() {
        return None;
    }
    let reach = |q: &webweft::managers::Quality| {
        let ratio = q.perplexity_ratio;
        let error = ratio.standard_error.unwrap_or(0.0) * NORMAL_95;
        [ratio.value - error, ratio.value + error]
    };
    let limit = report.formats.iter().flat_map(|f| &f.checks).find(|check| check.threshold == "max-perplexity-ratio");
    let bounds = rows.iter().flat_map(|row| reach(&row.2)).chain([1.0]).chain(limit.map(|check| check.limit));
    let left = 16.0 + 6.2 * rows.iter().map(|row| row.1.name.chars().count()).max().unwrap_or(0).clamp(4, 24) as f64;
    let axis = Axis::linear(bounds, [left, WIDTH - 96.0]);
    let height = row_height(rows.len());
    let bottom = 8.0 + height * rows.len() as f64;
    let mut d = Drawing::new(bottom + 36.0);
    d.horizontal(&axis, [4.0, bottom], &axis.ticks(4));
    let one = axis.at(1.0);
    d.line(&[[one, 4.0], [one, bottom]], "guide");
    if let Some(check) = limit {
        let at = axis.at(check.limit);
        d.line(&[[at, 4.0], [at, bottom]], "mark");
    }
    for (row, (series, f, quality)) in rows.iter().enumerate() {
        let y = 8.0 + height * (row as f64 + 0.5);
        let [from, to] = reach(quality).map(|value| axis.at(value));
        d.word([left - 10.0, y + 4.0], Anchor::End, "name", &f.name);
        let class = format!("path s{}", series % 8);
        d.line(&[[from, y], [to, y]], &class);
        [from, to].into_iter().for_each(|end| d.line(&[[end, y - 4.0], [end, y + 4.0]], &class));
        let text = estimate(quality.perplexity_ratio, 4);
        d.point([axis.at(quality.perplexity_ratio.value), y], *series, &format!("{}: {text}", f.name));
        d.word([WIDTH - 4.0, y + 4.0], Anchor::End, "value", &text);
    }
    d.word([WIDTH - 4.0, bottom + 30.0], Anchor::End, "", "perplexity, × the baseline's");
    let said =
        "With 95 % intervals of the paired difference. The dotted line is the baseline, a dashed one the threshold.";
    Some(figure("Perplexity ratio", said, &d.finish("Perplexity over the baseline's, by format")))
}

/// Relative errors of hidden states, from the embedding to the final norm.
fn layers(report: &Report) -> Option<String> {
    let lines: Vec<_> =
        report.formats.iter().enumerate().filter_map(|(i, f)| Some((i, f.layer_errors.as_ref()?))).collect();
    let last = report.states.len().checked_sub(1)?;
    if lines.is_empty() {
        return None;
    }
    let (top, bottom) = (20.0, 204.0);
    let x = Axis::from_zero([last as f64 / 1.05], [LEFT + 8.0, RIGHT - 10.0]);
    let y = Axis::decades(lines.iter().flat_map(|line| line.1).copied(), 1e-8, [bottom, top]);
    let mut d = Drawing::new(240.0);
    d.vertical(&y, [LEFT, RIGHT], &y.ticks(6));
    let step = (last / 8).max(1);
    let name = |state: usize| match state {
        0 => "emb.".to_owned(),
        state if state == last => "norm".to_owned(),
        state => (state - 1).to_string(),
    };
    let ticks: Vec<_> = (0..=last)
        .filter(|&state| state == 0 || state == last || (state % step == 0 && last - state >= step))
        .map(|state| (state as f64, name(state)))
        .collect();
    d.horizontal(&x, [top, bottom], &ticks);
    d.word([LEFT - 40.0, 10.0], Anchor::Start, "", "|Δh| / |h|");
    d.word([RIGHT, bottom + 30.0], Anchor::End, "", "after layer");
    if let Some(check) = report.formats.iter().flat_map(|f| &f.checks).find(|c| c.threshold == "max-layer-error") {
        let at = y.at(check.limit);
        d.line(&[[LEFT, at], [RIGHT, at]], "mark");
    }
    for (series, errors) in &lines {
        let points: Vec<_> =
            errors.iter().enumerate().map(|(state, &e)| (state, e)).filter(|p| p.1.is_finite() && p.1 > 0.0).collect();
        let places: Vec<_> = points.iter().map(|&(state, e)| [x.at(state as f64), y.at(e)]).collect();
        d.line(&places, &format!("path s{}", series % 8));
        for (&(state, error), &place) in points.iter().zip(&places).filter(|_| last <= 24) {
            let title = format!("{}, {}: {}", report.formats[*series].name, report.states[state], small(error));
            d.point(place, *series, &title);
        }
    }
    let said = "How far hidden states are from the baseline's, relative to their length. A jump shows the layer that suffers; \
                what is exact is not drawn.";
    let svg = d.finish("Relative error of hidden states by layer and format");
    Some(figure("Relative error, layer by layer", said, &(svg + &legend(&names(report)))))
}

/// The share of positions up to a divergence.
fn distribution(report: &Report) -> Option<String> {
    let lines: Vec<(usize, Vec<f64>)> = (report.formats.iter().enumerate())
        .filter(|(_, f)| f.quality.is_some())
        .map(|(i, f)| {
            let mut sorted = f.divergences.clone();
            sorted.sort_by(f64::total_cmp);
            (i, sorted)
        })
        .collect();
    if lines.is_empty() {
        return None;
    }
    let (top, bottom) = (20.0, 204.0);
    let ends = lines.iter().flat_map(|(_, kl)| [kl.get(kl.len() / 100).copied(), kl.last().copied()]).flatten();
    let x = Axis::decades(ends, LEAST_KL, [LEFT, RIGHT - 8.0]);
    let y = Axis::from_zero([1.0 / 1.05], [bottom, top]);
    let mut d = Drawing::new(240.0);
    let shares: Vec<_> = [0, 25, 50, 75, 100].map(|p| (f64::from(p) / 100.0, format!("{p} %"))).into();
    d.vertical(&y, [LEFT, RIGHT], &shares);
    d.horizontal(&x, [top, bottom], &x.ticks(6));
    d.word([LEFT - 40.0, 10.0], Anchor::Start, "", "of the positions");
    d.word([RIGHT, bottom + 30.0], Anchor::End, "", "KL divergence at most, nats");
    for (series, kl) in &lines {
        let count = kl.len();
        let pick = |i: usize| (i * (count - 1)) / (POINTS - 1).max(1);
        let places: Vec<_> =
            (0..POINTS).map(pick).map(|rank| [x.at(kl[rank]), y.at((rank + 1) as f64 / count as f64)]).collect();
        d.line(&places, &format!("path s{}", series % 8));
        d.point([x.at(kl[count / 2]), y.at(0.5)], *series, &format!("median {}", small(kl[count / 2])));
    }
    let said =
        "The share of positions whose divergence is at most that. Further left is better; the marks are medians.";
    let svg = d.finish("Distribution of the KL divergence over positions, by format");
    Some(figure("Divergence, position by position", said, &(svg + &legend(&names(report)))))
}

fn prefill(report: &Report) -> Option<String> {
    let speeds = |f: &super::report::Speed| f.prefill_tps;
    let own = report.formats.iter().map(|f| speeds(&f.speed));
    let values: Vec<_> = [speeds(&report.baseline.speed)].into_iter().chain(own).collect();
    bars(report, "Prefill speed", "Tokens per second of a prompt of 64. Longer is better.", "tokens/s", &values)
}

fn decode(report: &Report) -> Option<String> {
    let speeds = |f: &super::report::Speed| f.decode_tps;
    let own = report.formats.iter().map(|f| speeds(&f.speed));
    let values: Vec<_> = [speeds(&report.baseline.speed)].into_iter().chain(own).collect();
    bars(report, "Decode speed", "New tokens per second, greedy, one sequence. Longer is better.", "tokens/s", &values)
}

/// A bar for the baseline and for each format.
fn bars(report: &Report, title: &str, said: &str, unit: &str, values: &[Option<f64>]) -> Option<String> {
    if values.iter().all(Option::is_none) {
        return None;
    }
    let mut rows = Rows::new(report, values.iter().flatten().copied());
    for (row, value) in values.iter().enumerate() {
        rows.row(row, *value, None, &or_none(*value));
    }
    Some(figure(title, said, &rows.finish(unit, &format!("{title} by format"))))
}

fn memory(report: &Report) -> Option<String> {
    let all = [report.baseline.memory].into_iter().chain(report.formats.iter().map(|f| f.memory));
    let all: Vec<_> = all.collect();
    let mebibytes = |bytes: u64| bytes as f64 / (1u64 << 20) as f64;
    let mut rows = Rows::new(report, all.iter().map(|m| mebibytes(m.peak)));
    for (row, m) in all.iter().enumerate() {
        let text = format!("{} · {}", small(mebibytes(m.weights)), small(mebibytes(m.peak)));
        rows.row(row, Some(mebibytes(m.weights)), Some(mebibytes(m.peak)), &text);
    }
    let said = "Weights, and behind them the most at once while loading and generating.";
    Some(figure("Memory of the GPU", said, &rows.finish("MiB: weights · at most", "Memory by format")))
}

/// Bars with names: the baseline's first.
struct Rows<'a> {
    report: &'a Report,
    drawing: Drawing,
    axis: Axis,
    left: f64,
    height: f64,
    bottom: f64,
}

impl<'a> Rows<'a> {
    fn new(report: &'a Report, values: impl Iterator<Item = f64>) -> Self {
        let names = report.formats.iter().map(|f| f.name.chars().count()).chain([report.baseline.name.chars().count()]);
        let left = 16.0 + 6.2 * names.max().unwrap_or(0).clamp(4, 24) as f64;
        let height = row_height(report.formats.len() + 1);
        let bottom = 4.0 + height * (report.formats.len() + 1) as f64;
        let axis = Axis::from_zero(values, [left, WIDTH - 82.0]);
        Self { report, drawing: Drawing::new(bottom + 22.0), axis, left, height, bottom }
    }

    fn row(&mut self, row: usize, value: Option<f64>, behind: Option<f64>, text: &str) {
        let (name, class) = match row.checked_sub(1) {
            None => (&self.report.baseline.name, "base".to_owned()),
            Some(series) => (&self.report.formats[series].name, format!("s{}", series % 8)),
        };
        let (top, height) = (4.0 + self.height * row as f64 + 4.0, self.height - 8.0);
        self.drawing.word([self.left - 8.0, top + height / 2.0 + 4.0], Anchor::End, "name", name);
        for (value, kind) in [(behind, "behind"), (value, "bar")] {
            if let Some(value) = value {
                self.drawing.bar([self.left, self.axis.at(value)], top, height, &format!("{kind} {class}"));
            }
        }
        self.drawing.word([WIDTH - 4.0, top + height / 2.0 + 4.0], Anchor::End, "value", text);
    }

    fn finish(mut self, unit: &str, label: &str) -> String {
        self.drawing.line(&[[self.left, 4.0], [self.left, self.bottom]], "axis");
        self.drawing.word([WIDTH - 4.0, self.bottom + 16.0], Anchor::End, "", unit);
        self.drawing.finish(label)
    }
}

/// A value of every format over runs.
fn runs_of(
    report: &Report,
    runs: &[Entry],
    value: impl Fn(&Past) -> Option<f64>,
    axis: impl Fn(Vec<f64>, [f64; 2]) -> Axis,
    ticks: impl Fn(&Axis) -> Vec<(f64, String)>,
) -> Option<String> {
    let (top, bottom) = (12.0, 196.0);
    let of = |name: &str| -> Vec<(usize, f64)> {
        let at = |(i, run): (usize, &Entry)| Some((i, value(run.format(name)?)?));
        runs.iter().enumerate().filter_map(at).collect()
    };
    let lines: Vec<_> = report.formats.iter().map(|f| of(&f.name)).collect();
    if lines.iter().all(Vec::is_empty) {
        return None;
    }
    let y = axis(lines.iter().flatten().map(|p| p.1).collect(), [bottom, top]);
    let x = Axis::from_zero([(runs.len() - 1) as f64 / 1.05], [LEFT + 10.0, RIGHT - 12.0]);
    let mut d = Drawing::new(232.0);
    d.vertical(&y, [LEFT, RIGHT], &ticks(&y));
    let day = |run: &Entry| run.date.chars().take(10).collect::<String>();
    d.word([LEFT, bottom + 16.0], Anchor::Start, "", &runs.first().map(day).unwrap_or_default());
    d.word([RIGHT, bottom + 16.0], Anchor::End, "", &runs.last().map(day).unwrap_or_default());
    d.word([(LEFT + RIGHT) / 2.0, bottom + 30.0], Anchor::Middle, "", &format!("{} runs", runs.len()));
    for (series, points) in lines.iter().enumerate() {
        let places: Vec<_> = points.iter().map(|&(i, v)| [x.at(i as f64), y.at(v)]).collect();
        d.line(&places, &format!("path s{}", series % 8));
        for (&(i, v), &place) in points.iter().zip(&places) {
            d.point(place, series, &format!("{}, {}: {}", report.formats[series].name, runs[i].date, small(v)));
        }
    }
    Some(d.finish("A line for each format, a point for each run"))
}
