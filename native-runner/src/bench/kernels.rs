//! `bench --kernels`: where the time of a step goes.

use serde::Serialize;
use webweft::graph::Timed;
use webweft::managers::{KernelProfile, KernelTimes, chrome_trace};

use super::record::Rates;
use super::{median, one, roofline};
use crate::args::Bench;
use crate::errors::CliError;
use crate::open::Opened;
use crate::output::OutputFile;
use crate::stdout::{write, write_line};
use crate::table::columns;

/// A line of `--json`: steps of one kind.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'static str,
    /// `prefill` or `decode`
    phase: &'static str,
    adapter: &'a str,
    dtype: &'static str,
    /// microseconds of such a step where nothing is timed within it, in the median
    step_us: f64,
    #[serde(flatten)]
    profile: &'a KernelProfile,
    /// `None` where there was no memory to measure them
    #[serde(flatten)]
    rates: Option<&'a Rates>,
}

/// Runs `prompt` and new tokens, in turn as usual and with every kernel timed, and tells; the first run is not counted.
pub async fn run(args: &Bench, opened: &mut Opened, prompt: &[u32]) -> Result<(), CliError> {
    // what cannot be is told before the work begins
    opened.session.engine_mut().time_kernels(true)?;
    let trace = args.trace.as_deref().map(OutputFile::create).transpose()?;
    let new_tokens = args.new_tokens as usize;
    let (mut ids, mut timed) = (Vec::new(), Vec::new());
    let (mut prefill_us, mut decode_us) = (Vec::new(), Vec::new());
    for number in 0..=args.runs {
        opened.session.engine_mut().time_kernels(false)?;
        let timing = Box::pin(one(opened, prompt, new_tokens, &mut ids)).await?;
        opened.session.engine_mut().time_kernels(true)?;
        Box::pin(one(opened, prompt, new_tokens, &mut ids)).await?;
        let steps = opened.session.engine_mut().take_timed();
        if number == 0 {
            continue;
        }
        let of_prompt = steps.iter().filter(|step| is_prefill(step)).count().max(1);
        prefill_us.push(timing.prefill_ms * 1e3 / of_prompt as f64);
        decode_us.push(timing.decode_ms * 1e3 / timing.decode_tokens.max(1) as f64);
        timed.extend(steps);
    }
    let roofline = roofline(&opened.device).await?;
    let rates = roofline.as_ref().map(Rates::of);
    let (adapter, dtype) = (opened.device.info().to_string(), opened.session.precision().dtype.name());
    let mut text = format!("{adapter}\n{} of {dtype}\n", super::runs(args.runs as usize));
    text += &rates.as_ref().map(Rates::describe).unwrap_or_default();
    let (prefill, decode): (Vec<&Timed>, Vec<&Timed>) = timed.iter().partition(|step| is_prefill(step));
    for (phase, steps, step_us) in [("prefill", prefill, median(&prefill_us)), ("decode", decode, median(&decode_us))] {
        let Some(profile) = KernelProfile::of(&steps, roofline.as_ref()) else { continue };
        if args.json {
            let (adapter, profile, rates) = (&adapter[..], &profile, rates.as_ref());
            write_line(&Line { r#type: "kernels", phase, adapter, dtype, step_us, profile, rates })?;
        } else {
            text += &describe(phase, &profile, step_us);
        }
    }
    if let Some(mut file) = trace {
        file.append(chrome_trace(&timed).to_string().as_bytes())?;
        file.finish()?;
    }
    if args.json { Ok(()) } else { write(&text) }
}

/// Whether a step has more than one row for a sequence. What is left of a prompt may be one: the kernels are those of decoding then.
fn is_prefill(step: &Timed) -> bool {
    step.rows > step.sequences
}

fn describe(phase: &str, profile: &KernelProfile, step_us: f64) -> String {
    let KernelProfile { steps, kernels_us, span_us, wall_us, encode_us, .. } = *profile;
    let per_step = |count: usize| count as f64 / steps as f64;
    let dispatches = per_step(profile.dispatches);
    let head = [
        "kernel",
        "class",
        "in, out",
        "per step",
        "us per step",
        "median us",
        "share",
        "GB/s",
        "GFLOP/s",
        "of roofline",
    ];
    let stated = |speed: Option<f64>| speed.map_or_else(|| "-".to_owned(), |speed| format!("{:.2}", speed / 1e9));
    let percent = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0));
    let row = |k: &KernelTimes| {
        vec![
            k.kernel.to_owned(),
            k.class.to_owned(),
            k.shape.map_or_else(|| "-".to_owned(), |[from, to]| format!("{from}, {to}")),
            plain(per_step(k.dispatches)),
            format!("{:.1}", k.total_us / steps as f64),
            format!("{:.1}", k.median_us),
            percent(Some(k.share)),
            stated(k.bytes_per_second),
            stated(k.operations_per_second),
            k.bound_by.map_or_else(|| "-".to_owned(), |bound| format!("{} {bound}", percent(k.roofline_share))),
        ]
    };
    let rows: Vec<_> =
        std::iter::once(head.map(str::to_owned).to_vec()).chain(profile.kernels.iter().map(row)).collect();
    format!(
        "\n{phase}: {steps} steps of {}, {} dispatches each ({} in a layer)\nA step's kernels take {kernels_us:.0} us, {span_us:.0} us with \
         what is between them, {wall_us:.0} us as the host sees it; not timed within, it takes {step_us:.0} us.\nTo encode it takes the host \
         {encode_us:.0} us, {:.2} us for a dispatch.\n\n{}",
        if profile.rows as usize == steps {
            "1 row".to_owned()
        } else {
            format!("{} rows", plain(per_step(profile.rows as usize)))
        },
        plain(dispatches),
        plain(profile.dispatches_per_layer),
        encode_us / dispatches.max(1.0),
        columns(&rows, &[3, 4, 5, 6, 7, 8])
    )
}

/// A count, whole or not.
fn plain(count: f64) -> String {
    if count.fract() == 0.0 { format!("{count:.0}") } else { format!("{count:.1}") }
}
