//! A drawing in SVG: axes, lines, points, bars and words, in the colours of a page or of its own.

use std::fmt::Write;

/// Colours, lines and words, for the page or the file that a drawing is in.
pub const STYLE: &str = include_str!("drawing.css");
/// Width of every drawing: that of a phone's screen, so that its words are as large as the page's there.
pub const WIDTH: f64 = 360.0;

/// Text for HTML, between tags or in quotes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            // no character of HTML
            c if c.is_control() && !c.is_whitespace() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// From values to a span of the drawing.
#[derive(Clone, Debug)]
pub struct Axis {
    log: bool,
    range: [f64; 2],
    span: [f64; 2],
}

impl Axis {
    /// From the least to the greatest of `values`, and a little further; of none (or of one value only) around it.
    pub fn linear(values: impl IntoIterator<Item = f64>, span: [f64; 2]) -> Self {
        let [low, high] = bounds(values).unwrap_or([0.0, 1.0]);
        let margin = if high > low { (high - low) * 0.06 } else { low.abs().max(1.0) * 0.01 };
        Self { log: false, range: [low - margin, high + margin], span }
    }

    /// From zero, and a little beyond the greatest of `values`.
    pub fn from_zero(values: impl IntoIterator<Item = f64>, span: [f64; 2]) -> Self {
        let high = bounds(values).map_or(1.0, |[_, high]| high);
        Self { log: false, range: [0.0, if high > 0.0 { high * 1.05 } else { 1.0 }], span }
    }

    /// Whole decades around the values above zero, from `least` on.
    pub fn decades(values: impl IntoIterator<Item = f64>, least: f64, span: [f64; 2]) -> Self {
        let [low, high] = bounds(values.into_iter().filter(|v| *v > 0.0)).unwrap_or([0.01, 1.0]);
        let low = low.max(least).log10().floor();
        let high = high.max(least).log10().ceil().max(low + 1.0);
        Self { log: true, range: [low, high], span }
    }

    /// Where a value lies; what is outside lies at the end that is nearest.
    pub fn at(&self, value: f64) -> f64 {
        let v = if self.log { value.max(f64::MIN_POSITIVE).log10() } else { value };
        let share = ((v - self.range[0]) / (self.range[1] - self.range[0])).clamp(0.0, 1.0);
        self.span[0] + share * (self.span[1] - self.span[0])
    }

    /// Round values within it, at most `most`, and what they are called.
    pub fn ticks(&self, most: usize) -> Vec<(f64, String)> {
        let [low, high] = self.range;
        if self.log {
            let step = ((high - low) / most as f64).ceil().max(1.0);
            let count = ((high - low) / step) as i32;
            return (0..=count).map(|i| 10f64.powf(low + f64::from(i) * step)).map(|v| (v, power(v))).collect();
        }
        let rough = (high - low) / most as f64;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * decade).find(|s| *s >= rough).unwrap_or(decade * 10.0);
        let digits = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        let first = (low / step).ceil() as i64;
        (first..=(high / step).floor() as i64)
            .map(|i| i as f64 * step)
            .map(|v| (v, format!("{:.digits$}", if v == 0.0 { 0.0 } else { v })))
            .collect()
    }
}

fn bounds(values: impl IntoIterator<Item = f64>) -> Option<[f64; 2]> {
    let finite = values.into_iter().filter(|v| v.is_finite());
    finite.fold(None, |b: Option<[f64; 2]>, v| Some(b.map_or([v, v], |[low, high]| [low.min(v), high.max(v)])))
}

/// `0.01`, `1e-6`.
fn power(value: f64) -> String {
    let exponent = value.log10().round() as i32;
    if (-3..=3).contains(&exponent) { format!("{}", 10f64.powi(exponent)) } else { format!("1e{exponent}") }
}

/// Where a word stands beside its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// A drawing under way.
#[derive(Debug)]
pub struct Drawing {
    body: String,
    height: f64,
}

impl Drawing {
    /// An empty one.
    pub fn new(height: f64) -> Self {
        Self { body: String::new(), height }
    }

    /// A word.
    pub fn word(&mut self, [x, y]: [f64; 2], anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let _ = write!(self.body, "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\"{anchor}>{}</text>", escape(text));
    }

    /// A line through points.
    pub fn line(&mut self, points: &[[f64; 2]], class: &str) {
        let path: Vec<_> = points.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(self.body, "<polyline class=\"{class}\" points=\"{}\"/>", path.join(" "));
    }

    /// A bar from `left` to `right`.
    pub fn bar(&mut self, [left, right]: [f64; 2], top: f64, height: f64, class: &str) {
        let width = (right - left).max(1.0);
        let _ = write!(
            self.body,
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\"/>"
        );
    }

    /// A point of series `series`: its shape tells it from others, too.
    pub fn point(&mut self, [x, y]: [f64; 2], series: usize, title: &str) {
        let _ = write!(self.body, "<g class=\"s{}\">{}</g>", series % 8, marker([x, y], series, title));
    }

    /// The lines and words of a vertical axis, between `left` and `right`.
    pub fn vertical(&mut self, axis: &Axis, [left, right]: [f64; 2], ticks: &[(f64, String)]) {
        for (value, name) in ticks {
            let y = axis.at(*value);
            self.line(&[[left, y], [right, y]], "grid");
            self.word([left - 5.0, y + 4.0], Anchor::End, "", name);
        }
    }

    /// The lines and words of a horizontal axis, between `top` and `bottom`.
    pub fn horizontal(&mut self, axis: &Axis, [top, bottom]: [f64; 2], ticks: &[(f64, String)]) {
        for (value, name) in ticks {
            let x = axis.at(*value);
            self.line(&[[x, top], [x, bottom]], "grid");
            self.word([x, bottom + 14.0], Anchor::Middle, "", name);
        }
    }

    /// The element; `label` says what it shows to whom does not see it.
    pub fn finish(self, label: &str) -> String {
        let (height, label) = (self.height, escape(label));
        format!("<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{label}\">{}</svg>", self.body)
    }

    /// A file of its own, twice as large.
    pub fn file(self, label: &str) -> String {
        let (width, height, label) = (WIDTH, self.height, escape(label));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-label=\"{label}\">\n<style>\n{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"var(--card)\"/>{}</svg>\n",
            2.0 * width,
            2.0 * height,
            self.body
        )
    }
}

/// Circle, square, triangle, diamond, in turn.
fn marker([x, y]: [f64; 2], series: usize, title: &str) -> String {
    let shape = match series % 4 {
        0 => format!("<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.2\">"),
        1 => format!("<path class=\"dot\" d=\"M{:.1} {:.1}h7.6v7.6h-7.6z\">", x - 3.8, y - 3.8),
        2 => format!("<path class=\"dot\" d=\"M{x:.1} {:.1}l4.8 8.4h-9.6z\">", y - 5.0),
        _ => format!("<path class=\"dot\" d=\"M{x:.1} {:.1}l5 5-5 5-5-5z\">", y - 5.0),
    };
    let end = if series.is_multiple_of(4) { "</circle>" } else { "</path>" };
    let title = if title.is_empty() { String::new() } else { format!("<title>{}</title>", escape(title)) };
    format!("{shape}{title}{end}")
}

/// The names of series, each with its line and its marker.
pub fn legend(names: &[String]) -> String {
    let item = |(series, name): (usize, &String)| {
        format!(
            "<li class=\"s{}\"><svg viewBox=\"0 0 26 12\" aria-hidden=\"true\"><polyline class=\"path\" points=\"0,6 26,6\"/>{}</svg>{}</li>",
            series % 8,
            marker([13.0, 6.0], series, ""),
            escape(name)
        )
    };
    format!("<ul class=\"legend\">{}</ul>", names.iter().enumerate().map(item).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_round() {
        let names = |axis: &Axis, most| axis.ticks(most).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        let axis = Axis::from_zero([3.0, 95.0], [0.0, 100.0]);
        assert_eq!(names(&axis, 5), ["0", "20", "40", "60", "80"]);
        assert_eq!([axis.at(0.0), axis.at(1e9)], [0.0, 100.0]);
        let axis = Axis::linear([1.0, 1.005], [0.0, 100.0]);
        assert_eq!(names(&axis, 4), ["1.000", "1.002", "1.004"]);
        let axis = Axis::decades([0.0, 2e-6, 0.5], 1e-9, [100.0, 0.0]);
        assert_eq!(names(&axis, 9), ["1e-6", "1e-5", "1e-4", "0.001", "0.01", "0.1", "1"]);
        assert!((axis.at(1e-3) - 50.0).abs() < 1e-9);
        assert_eq!(axis.at(0.0), 100.0, "zero has no place, and lies at the end");
        for values in [vec![], vec![0.0], vec![f64::NAN, f64::INFINITY], vec![1e300, -1e300], vec![7.0; 3]] {
            for axis in [
                Axis::linear(values.clone(), [0.0, 9.0]),
                Axis::from_zero(values.clone(), [0.0, 9.0]),
                Axis::decades(values.clone(), 1e-9, [0.0, 9.0]),
            ] {
                assert!((0.0..=9.0).contains(&axis.at(1.0)) && axis.ticks(5).len() < 20, "{values:?} {axis:?}");
            }
        }
    }

    #[test]
    fn names_are_no_markup() {
        assert_eq!(escape("<b a=\"1\" b='2'>&\u{1}é"), "&lt;b a=&quot;1&quot; b=&#39;2&#39;&gt;&amp;\u{fffd}é");
        let mut drawing = Drawing::new(9.0);
        drawing.word([0.0, 0.0], Anchor::Start, "name", "<script>");
        drawing.point([1.0, 1.0], 5, "</svg>");
        let svg = drawing.finish("\"><script>");
        assert!(!svg.contains("<script>") && svg.matches("</svg>").count() == 1, "{svg}");
        assert!(!legend(&["<i>".to_owned()]).contains("<i>"));
    }
}
