//! `bench history`: how speeds went from commit to commit, as a drawing.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::compare::{Key, Measured, quantile, read_lines};
use super::median;
use crate::errors::CliError;
use crate::svg::{Anchor, Axis, Drawing, WIDTH};

/// From where the axes begin to the right end, of prefill and of decoding.
const SPANS: [[f64; 2]; 2] = [[46.0, 172.0], [226.0, WIDTH - 8.0]];
/// Of a cell, all of it, and of its axes.
const HEIGHT: f64 = 150.0;
const AXES: [f64; 2] = [40.0, 118.0];
/// Width of a commit's name.
const NAME: f64 = 50.0;

const EXAMPLES: &str = "\
Each cell has two axes: tokens per second of prompts and of decoding. A point is a commit (or a day, where no commit is known), in the order of
their dates: the median of all its runs, and a line from the first to the third quartile.

Example:
  native-runner bench history docs/benchmarks/*.jsonl --out history.svg

Exit codes: 0 done, 1 failed, 2 wrong command line";

/// `bench history`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct History {
    /// Figures of `bench matrix`, or of the benchmark page
    #[arg(value_name = "FILES", required = true)]
    pub files: Vec<PathBuf>,
    /// The drawing
    #[arg(long, value_name = "FILE.svg")]
    pub out: PathBuf,
}

/// Reads and draws.
pub fn run(args: &History) -> Result<ExitCode, CliError> {
    let mut lines = Vec::new();
    for path in &args.files {
        lines.extend(read_lines(path)?);
    }
    let failed = |source| CliError::OutputFile { path: args.out.clone(), source };
    fs::write(&args.out, drawing(&lines)).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

/// The commit, else the day.
fn moment(line: &Measured) -> String {
    let day = || line.date.as_deref().map_or("?", |date| date.get(..10).unwrap_or(date));
    line.commit.clone().unwrap_or_else(|| day().to_owned())
}

fn drawing(lines: &[Measured]) -> String {
    let mut sorted: Vec<&Measured> = lines.iter().collect();
    sorted.sort_by(|a, b| a.date.cmp(&b.date));
    let mut moments: Vec<String> = Vec::new();
    let mut cells: Vec<&Key> = Vec::new();
    for line in &sorted {
        if !moments.contains(&moment(line)) {
            moments.push(moment(line));
        }
        if !cells.contains(&&line.key) {
            cells.push(&line.key);
        }
    }
    // those of an adapter stand together, in the order that they are known
    let mut places: Vec<String> = Vec::new();
    for key in &cells {
        if !places.contains(&key.place()) {
            places.push(key.place());
        }
    }
    let mut d = Drawing::new(14.0 + places.len() as f64 * 22.0 + cells.len() as f64 * HEIGHT);
    let mut top = 8.0;
    for place in &places {
        d.word([8.0, top + 14.0], Anchor::Start, "name", place);
        top += 22.0;
        for key in cells.iter().filter(|key| key.place() == *place) {
            cell(&mut d, key, &sorted, &moments, top);
            top += HEIGHT;
        }
    }
    d.file("Tokens per second from commit to commit: prompts at the left, decoding at the right")
}

fn cell(d: &mut Drawing, key: &Key, sorted: &[&Measured], moments: &[String], top: f64) {
    d.word([8.0, top + 14.0], Anchor::Start, "", &key.describe());
    for (series, (name, span)) in ["prefill", "decode"].into_iter().zip(SPANS).enumerate() {
        // runs of each moment, with its place among all
        let runs: Vec<(usize, Vec<f64>)> = moments
            .iter()
            .enumerate()
            .map(|(at, moment)| {
                let lines = sorted.iter().filter(|line| line.key == *key && self::moment(line) == *moment);
                let speeds = lines.filter_map(|line| match series {
                    0 => Some(&line.prefill_tps),
                    _ => line.decode_tps.as_ref(),
                });
                (at, speeds.flatten().copied().collect::<Vec<f64>>())
            })
            .filter(|(_, speeds)| !speeds.is_empty())
            .collect();
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { continue };
        let x = Axis::linear([0.0, (moments.len() - 1) as f64], span);
        let y = Axis::from_zero(runs.iter().map(|(_, s)| quantile(s, 0.75)), [top + AXES[1], top + AXES[0]]);
        d.vertical(&y, span, &y.ticks(3));
        d.word([span[0], top + AXES[0] - 8.0], Anchor::Start, &format!("own s{series}"), &format!("{name}, tokens/s"));
        let point = |(at, speeds): &(usize, Vec<f64>)| [x.at(*at as f64), y.at(median(speeds))];
        let class = format!("path s{series}");
        d.line(&runs.iter().map(point).collect::<Vec<_>>(), &class);
        for run in &runs {
            let (at, speeds) = run;
            let spread = [0.25, 0.75].map(|share| [x.at(*at as f64), y.at(quantile(speeds, share))]);
            d.line(&spread, &class);
            let title = format!("{}: {:.1} tokens/s, {} runs", moments[*at], median(speeds), speeds.len());
            d.point(point(run), series, &title);
        }
        // names of the first and the last one, together where they are near
        let below = top + AXES[1] + 15.0;
        let [left, right] = [first, last].map(|run| x.at(run.0 as f64));
        if right - left > 2.0 * NAME {
            d.word([left, below], Anchor::Start, "", &moments[first.0]);
            d.word([right, below], Anchor::End, "", &moments[last.0]);
        } else if first.0 == last.0 {
            d.word([left.min(span[1] - NAME / 2.0), below], Anchor::Middle, "", &moments[first.0]);
        } else {
            let names = format!("{} to {}", moments[first.0], moments[last.0]);
            d.word([right, below], Anchor::End, "", &names);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::record::Cell;
    use crate::bench::record::tests::{cell, firefox};

    fn lines(cells: &[Cell]) -> Vec<Measured> {
        let line = |cell| serde_json::from_value(serde_json::to_value(cell).expect("JSON")).expect("a line");
        cells.iter().map(line).collect()
    }

    fn at(date: &str, commit: Option<&str>, of: Cell) -> Cell {
        Cell { date: date.to_owned(), commit: commit.map(str::to_owned), ..of }
    }

    #[test]
    fn a_point_is_a_commit() {
        let fast = || cell("26M", &[20.0, 21.0], &[5.0, 6.0]);
        let encoder = Cell { decode_tps: None, ..cell("MiniLM", &[9.0], &[]) };
        let svg = drawing(&lines(&[
            at("2026-12-02T00:00:00Z", Some("second"), fast()),
            at("2026-12-01T00:00:00Z", Some("first"), cell("26M", &[10.0], &[3.0])),
            at("2026-12-02T01:00:00Z", Some("second"), fast()),
            at("2026-12-03T00:00:00Z", None, Cell { browser: Some(firefox()), ..fast() }),
            at("2026-12-03T00:00:00Z", None, encoder),
        ]));
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
        // two of one cell, in two speeds; one in a browser; one that does not decode
        assert_eq!(svg.matches("class=\"dot\"").count(), 4 + 2 + 1, "{svg}");
        assert!(
            svg.contains("second: 20.5 tokens/s, 4 runs") && svg.contains("2026-12-03") && svg.contains(", Firefox")
        );
        assert!(svg.find("first: 10.0").expect("there") < svg.find("second: 20.5").expect("there"));
    }

    #[test]
    fn one_line_is_a_drawing() {
        let svg = drawing(&lines(&[cell("26M", &[1.0], &[1.0])]));
        assert!(svg.matches("class=\"dot\"").count() == 2 && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
