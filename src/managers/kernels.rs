//! Where the time of a step goes, kernel by kernel, and what share of the [`Roofline`] each reaches; and the same as a trace that Perfetto
//! and Chrome open.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::Roofline;
use crate::graph::{Timed, TimedDispatch};

/// Where the time of steps of one kind goes. Of times of a step the medians are given, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelProfile {
    /// Steps that were timed.
    pub steps: usize,
    /// Rows of all of them.
    pub rows: u64,
    /// Dispatches of all of them.
    pub dispatches: usize,
    /// Dispatches of a layer of a step, in the median.
    pub dispatches_per_layer: f64,
    /// What the dispatches took together.
    pub kernels_us: f64,
    /// From the first one's beginning to the last one's end, on the GPU's clock: what is more than the kernels lies between them.
    pub span_us: f64,
    /// From the submit to the news of its end, on the host's clock.
    pub wall_us: f64,
    /// What encoding takes on the host, without timestamps.
    pub encode_us: f64,
    /// Those that took the most time first.
    pub kernels: Vec<KernelTimes>,
}

/// What dispatches of one kernel took that have the same shapes and place in their layers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelTimes {
    /// Shader and variant.
    pub kernel: &'static str,
    /// Class of operations: `norm`, `attention`, `cache`, `mlp` or `head`.
    pub class: &'static str,
    /// Elements of a row that goes in, and of one that comes out, where they are stated.
    pub shape: Option<[u32; 2]>,
    /// How many, of all steps.
    pub dispatches: usize,
    /// All of them together, in microseconds.
    pub total_us: f64,
    /// One of them, in the median.
    pub median_us: f64,
    /// Share of all kernels' time.
    pub share: f64,
    /// Of what the operation has to move, where it states that.
    pub bytes_per_second: Option<f64>,
    /// Of multiplications and additions, where they are stated.
    pub operations_per_second: Option<f64>,
    /// The time that the adapter needs at least, for bytes or for operations, whichever takes longer, over the time that it took. Above 1
    /// where bytes came from a cache that is faster than memory.
    pub roofline_share: Option<f64>,
    /// Which of the two that is: `bandwidth` or `arithmetic`.
    pub bound_by: Option<&'static str>,
}

/// What makes dispatches the same.
type Kind = (&'static str, &'static str, Option<[u32; 2]>);

impl KernelProfile {
    /// Of `steps`; `None` where there are none.
    #[must_use]
    pub fn of(steps: &[&Timed], roofline: Option<&Roofline>) -> Option<Self> {
        let all = || steps.iter().flat_map(|step| &step.dispatches);
        let mut kinds: BTreeMap<Kind, Vec<&TimedDispatch>> = BTreeMap::new();
        for dispatch in all() {
            let kind = (dispatch.kernel, dispatch.site.class.name(), dispatch.shape);
            kinds.entry(kind).or_default().push(dispatch);
        }
        let kernels_us: f64 = all().map(TimedDispatch::us).sum();
        let times = |(kind, dispatches): (Kind, Vec<&TimedDispatch>)| times(kind, &dispatches, kernels_us, roofline);
        let mut kernels: Vec<_> = kinds.into_iter().map(times).collect();
        kernels.sort_by(|a, b| b.total_us.total_cmp(&a.total_us));

        let of_steps = |value: fn(&Timed) -> f64| median(steps.iter().map(|step| value(step)).collect());
        let mut layers: BTreeMap<(usize, u32), f64> = BTreeMap::new();
        for (number, step) in steps.iter().enumerate() {
            for layer in step.dispatches.iter().filter_map(|dispatch| dispatch.site.layer) {
                *layers.entry((number, layer)).or_default() += 1.0;
            }
        }
        Some(Self {
            steps: steps.len(),
            rows: steps.iter().map(|step| u64::from(step.rows)).sum(),
            dispatches: all().count(),
            dispatches_per_layer: median(layers.into_values().collect()).unwrap_or_default(),
            kernels_us: of_steps(Timed::kernels_us)?,
            span_us: of_steps(span_us)?,
            wall_us: of_steps(|step| step.wall_us)?,
            encode_us: of_steps(|step| step.encode_us)?,
            kernels,
        })
    }
}

fn times(
    (kernel, class, shape): Kind,
    dispatches: &[&TimedDispatch],
    kernels_us: f64,
    roofline: Option<&Roofline>,
) -> KernelTimes {
    let total_us: f64 = dispatches.iter().map(|dispatch| dispatch.us()).sum();
    let amounts = || dispatches.iter().filter_map(|dispatch| dispatch.amount);
    let bytes = amounts().map(|amount| amount.bytes).sum::<u64>() as f64;
    let operations = amounts().map(|amount| amount.operations).sum::<u64>() as f64;
    // what a clock is too coarse for has no speed
    let over_time = |what: f64| (what > 0.0 && total_us > 0.0).then(|| what / total_us * 1e6);
    let (bytes_per_second, operations_per_second) = (over_time(bytes), over_time(operations));
    let share = |speed: Option<f64>, most: fn(&Roofline) -> f64, name| Some((speed? / most(roofline?), name));
    let shares = [
        share(bytes_per_second, |r| r.bytes_per_second, "bandwidth"),
        share(operations_per_second, |r| r.operations_per_second, "arithmetic"),
    ];
    let bound = shares.into_iter().flatten().max_by(|a, b| a.0.total_cmp(&b.0));
    KernelTimes {
        kernel,
        class,
        shape,
        dispatches: dispatches.len(),
        total_us,
        median_us: median(dispatches.iter().map(|dispatch| dispatch.us()).collect()).unwrap_or_default(),
        share: if kernels_us > 0.0 { total_us / kernels_us } else { 0.0 },
        bytes_per_second,
        operations_per_second,
        roofline_share: bound.map(|(share, _)| share),
        bound_by: bound.map(|(_, name)| name),
    }
}

fn span_us(step: &Timed) -> f64 {
    let begin = step.dispatches.iter().map(|dispatch| dispatch.begin_ns).min().unwrap_or_default();
    let end = step.dispatches.iter().map(|dispatch| dispatch.end_ns).max().unwrap_or_default();
    end.saturating_sub(begin) as f64 / 1e3
}

/// The value in the middle, of an even number the mean of two.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (&low, &high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some(f64::midpoint(low, high))
}

/// Steps in Chrome's trace event format (Google 2016), which Perfetto opens: an array of complete events, times in microseconds since the
/// first one. Each step is an event, and in it each dispatch.
#[must_use]
pub fn chrome_trace(steps: &[Timed]) -> Value {
    let all = || steps.iter().flat_map(|step| &step.dispatches);
    let start = all().map(|dispatch| dispatch.begin_ns).min().unwrap_or_default();
    let event = |name: &str, category: &str, begin_ns: u64, us: f64, args: Value| {
        let ts = begin_ns.saturating_sub(start) as f64 / 1e3;
        json!({ "name": name, "cat": category, "ph": "X", "ts": ts, "dur": us, "pid": 1, "tid": 1, "args": args })
    };
    let mut events = Vec::new();
    for step in steps {
        let Some(begin) = step.dispatches.iter().map(|dispatch| dispatch.begin_ns).min() else { continue };
        let args = json!({ "rows": step.rows, "sequences": step.sequences, "wall_us": step.wall_us });
        let rows = if step.rows == 1 { "row" } else { "rows" };
        events.push(event(&format!("step of {} {rows}", step.rows), "step", begin, span_us(step), args));
        for dispatch in &step.dispatches {
            let stated = |what: u64| (what > 0).then_some(what);
            let args = json!({
                "layer": dispatch.site.layer,
                "shape": dispatch.shape,
                "workgroups": dispatch.groups,
                "bytes": dispatch.amount.and_then(|amount| stated(amount.bytes)),
                "flops": dispatch.amount.and_then(|amount| stated(amount.operations)),
            });
            events.push(event(dispatch.kernel, dispatch.site.class.name(), dispatch.begin_ns, dispatch.us(), args));
        }
    }
    Value::Array(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Amount;
    use crate::managers::Costs;
    use crate::site::{OpClass, Site};

    fn dispatch(
        kernel: &'static str,
        layer: Option<u32>,
        [begin_ns, end_ns]: [u64; 2],
        amount: [u64; 2],
    ) -> TimedDispatch {
        let [bytes, operations] = amount;
        TimedDispatch {
            kernel,
            site: Site { class: OpClass::Mlp, layer },
            shape: (bytes > 0).then_some([4, 8]),
            groups: [1, 2, 1],
            amount: (bytes > 0).then_some(Amount { bytes, operations }),
            begin_ns,
            end_ns,
        }
    }

    fn step() -> Timed {
        let dispatches = vec![
            dispatch("a", Some(0), [5_000, 7_000], [1000, 4000]),
            dispatch("b", Some(0), [8_000, 8_500], [0, 0]),
            dispatch("a", Some(1), [9_000, 13_000], [1000, 4000]),
            dispatch("b", Some(1), [13_000, 13_500], [0, 0]),
            dispatch("c", None, [14_000, 15_000], [500, 0]),
        ];
        Timed { rows: 3, sequences: 1, encode_us: 2.0, wall_us: 20.0, dispatches }
    }

    #[test]
    fn kernels_are_told_apart_and_measured_by_what_bounds_them() {
        let costs = Costs { dispatch_us: 0.0, submit_us: 0.0, readback_us: 0.0 };
        let roofline = Roofline {
            bytes_per_second: 1e9,
            copied: 1,
            operations_per_second: 1e10,
            f16_operations_per_second: None,
            int8_operations_per_second: None,
            costs,
        };
        let slow = Timed { wall_us: 50.0, ..step() };
        let profile = KernelProfile::of(&[&step(), &slow], Some(&roofline)).expect("steps");
        assert_eq!((profile.steps, profile.rows, profile.dispatches, profile.dispatches_per_layer), (2, 6, 10, 2.0));
        assert_eq!((profile.kernels_us, profile.span_us, profile.wall_us), (8.0, 10.0, 35.0));
        let [a, b, c] = &profile.kernels[..] else { panic!("{profile:?}") };
        assert_eq!((a.kernel, a.dispatches, a.total_us, a.median_us, a.share), ("a", 4, 12.0, 3.0, 0.75));
        // bytes would take 4 of 12 us, operations 1.6
        let share = a.roofline_share.expect("a share");
        assert!((share - 4.0 / 12.0).abs() < 1e-9 && (a.bytes_per_second.expect("bytes") - 4000.0 / 12e-6).abs() < 1.0);
        assert_eq!((c.kernel, c.operations_per_second, c.roofline_share), ("c", None, Some(0.5)));
        assert_eq!((b.kernel, b.bytes_per_second, b.roofline_share), ("b", None, None), "nothing is made up");
        assert_eq!([a.bound_by, b.bound_by, c.bound_by], [Some("bandwidth"), None, Some("bandwidth")]);
        let slow = Roofline { operations_per_second: 1e9, ..roofline };
        let slow = KernelProfile::of(&[&step()], Some(&slow)).expect("a step");
        assert!(slow.kernels[0].roofline_share.is_some_and(|share| (share - 8.0 / 6.0).abs() < 1e-9));
        assert_eq!(slow.kernels[0].bound_by, Some("arithmetic"));
        assert_eq!(KernelProfile::of(&[], None), None);
    }

    #[test]
    fn a_trace_has_steps_and_in_them_dispatches() {
        let later =
            |d: &TimedDispatch| TimedDispatch { begin_ns: d.begin_ns + 100_000, end_ns: d.end_ns + 100_000, ..*d };
        let second = Timed { dispatches: step().dispatches.iter().map(later).collect(), ..step() };
        let trace = chrome_trace(&[step(), second]);
        let events = trace.as_array().expect("an array");
        assert_eq!(events.len(), 12);
        assert!(events.iter().all(|event| event["ph"] == "X"));
        assert_eq!(
            (&events[0]["name"], &events[0]["ts"], &events[0]["dur"]),
            (&json!("step of 3 rows"), &json!(0.0), &json!(10.0))
        );
        assert_eq!((&events[3]["name"], &events[3]["ts"], &events[3]["dur"]), (&json!("a"), &json!(4.0), &json!(4.0)));
        assert_eq!((&events[3]["args"]["bytes"], &events[3]["args"]["flops"]), (&json!(1000), &json!(4000)));
        assert_eq!((&events[2]["args"]["bytes"], &events[6]["ts"]), (&json!(null), &json!(100.0)));
    }
}
