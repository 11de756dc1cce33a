//! Speed and step time by batch size, as a drawing.

use webweft::managers::tune::{Choice, Point, Tuned};

use crate::svg::{Anchor, Axis, Drawing, WIDTH};

/// Where the drawings begin and end.
const LEFT: f64 = 50.0;
const RIGHT: f64 = WIDTH - 12.0;

/// A file of SVG: tokens per second above, milliseconds of a step below, and the batches that were chosen.
pub fn drawing(tuned: &Tuned, choices: &[Choice]) -> String {
    let Tuned { key, points } = tuned;
    let sizes: Vec<f64> = points.iter().map(|point| f64::from(point.batch).log2()).collect();
    let x = Axis::linear(sizes, [LEFT, RIGHT]);
    let mut d = Drawing::new(430.0);
    d.word([LEFT - 42.0, 16.0], Anchor::Start, "name", &format!("{}, cache of {}", key.dtype, key.cache_dtype));
    d.word([LEFT - 42.0, 30.0], Anchor::Start, "", &key.adapter);
    curve(&mut d, points, &x, [60.0, 200.0], 0, "tokens/s", |point| point.tokens_per_s);
    curve(&mut d, points, &x, [256.0, 396.0], 1, "step, ms", |point| point.step_ms);
    d.word([RIGHT, 426.0], Anchor::End, "", "sequences at once");
    let most = points.iter().map(|point| point.tokens_per_s).fold(0.0, f64::max);
    let is_high = |batch| points.iter().any(|point| point.batch == batch && 2.0 * point.tokens_per_s > most);
    for (row, choice) in choices.iter().enumerate() {
        let at = x.at(f64::from(choice.batch).log2());
        d.line(&[[at, 60.0], [at, 200.0]], "guide");
        d.line(&[[at, 256.0], [at, 396.0]], "guide");
        // names of the same batch stand below each other, and away from the curve
        let top = if is_high(choice.batch) { 162.0 } else { 72.0 };
        let (dx, anchor) = if at > WIDTH - 90.0 { (-6.0, Anchor::End) } else { (6.0, Anchor::Start) };
        d.word([at + dx, top + 13.0 * row as f64], anchor, "name", choice.workload.name());
    }
    d.file(&format!("Tokens per second and milliseconds of a step by sequences at once, {}", key.adapter))
}

fn curve(
    d: &mut Drawing,
    points: &[Point],
    x: &Axis,
    [top, bottom]: [f64; 2],
    series: usize,
    name: &str,
    value: impl Fn(&Point) -> f64,
) {
    let y = Axis::from_zero(points.iter().map(&value), [bottom, top]);
    let ticks: Vec<_> = points.iter().map(|point| (f64::from(point.batch).log2(), point.batch.to_string())).collect();
    d.vertical(&y, [LEFT, RIGHT], &y.ticks(5));
    d.horizontal(x, [top, bottom], &ticks);
    d.word([LEFT - 42.0, top - 10.0], Anchor::Start, "", name);
    let at = |point: &Point| [x.at(f64::from(point.batch).log2()), y.at(value(point))];
    let class = format!("path s{series}");
    d.line(&points.iter().map(at).collect::<Vec<_>>(), &class);
    for point in points {
        d.point(at(point), series, &format!("{}: {:.1} {name}", point.batch, value(point)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::tests::{choices, tuned};

    #[test]
    fn every_batch_is_a_point_of_both_curves() {
        let tuned = tuned();
        let svg = drawing(&tuned, &choices(&tuned));
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && svg.ends_with("</svg>\n"), "{svg}");
        assert_eq!(svg.matches("class=\"dot\"").count(), 2 * tuned.points.len());
        assert!(svg.contains("realtime") && svg.contains("throughput") && svg.contains("A &lt;GPU&gt;"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let one = Tuned { points: tuned.points[..1].to_vec(), ..tuned };
        assert!(!drawing(&one, &choices(&one)).contains("NaN"));
    }
}
