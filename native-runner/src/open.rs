//! From flags to an open session, with a progress bar on the way.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use webweft::device::{Device, DeviceOptions};
use webweft::session::{LoadOptions, Session};
use webweft::source::{Folder, Source};
use webweft::weights::Progress;

use crate::args::Shared;
use crate::errors::CliError;

/// A session, what it runs on, and how long it took to get there.
#[derive(Debug)]
pub struct Opened {
    /// The model.
    pub session: Session,
    /// Its device.
    pub device: Device,
    /// From the first look at the folder to the last weight on the GPU, in milliseconds.
    pub load_ms: f64,
}

/// Which adapter the flags ask for, and how it is to be opened.
pub fn device_options(shared: &Shared) -> DeviceOptions {
    DeviceOptions {
        adapter: shared.adapter.clone(),
        backend: shared.backend.map(Into::into),
        portable: shared.portable,
        memory_limit: shared.max_gpu_memory,
    }
}

/// Opens the model in the folder `model`, and warns of tensors that it does not use.
pub async fn open(
    model: &Path,
    shared: &Shared,
    context: Option<u32>,
    prefill_chunk: Option<u32>,
) -> Result<Opened, CliError> {
    let started = Instant::now();
    // a wrong path is told at once, before a driver is asked anything
    let source = Source::Folder(Folder::open(model).map_err(webweft::error::Error::from)?);
    let options = device_options(shared);
    let bar = Bar::new(shared, "opening the device");
    let device = Device::open(&options).await?;
    bar.stage("reading the model's files");
    let load = LoadOptions { dtype: shared.dtype.into(), context, prefill_chunk };
    let session = Session::open(&device, &source, &load, |progress| bar.show(progress)).await;
    bar.end();
    let session = session?;
    let load_ms = started.elapsed().as_secs_f64() * 1e3;
    tracing::info!(load_ms, dtype = session.precision().dtype.name(), "model opened");
    if !shared.quiet
        && let Some(warning) = describe_extra(session.extra_tensors())
    {
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
    Ok(Opened { session, device, load_ms })
}

/// What to say of tensors that the model does not use; nothing of those that many exports carry along: the frequencies of old
/// rotary embeddings, and an output head that is the embedding.
fn describe_extra(names: &[String]) -> Option<String> {
    const SHOWN: usize = 3;
    let harmless = |name: &&String| name.ends_with("rotary_emb.inv_freq") || *name == "lm_head.weight";
    let extra: Vec<_> = names.iter().filter(|name| !harmless(name)).map(String::as_str).collect();
    if extra.is_empty() {
        return None;
    }
    let (tensors, are) = if extra.len() == 1 { ("tensor", "is") } else { ("tensors", "are") };
    let more = if extra.len() > SHOWN { ", ..." } else { "" };
    let shown = extra[..extra.len().min(SHOWN)].join(", ");
    Some(format!("{} {tensors} of the checkpoint {are} not used by this architecture: {shown}{more}", extra.len()))
}

/// The progress bar: on a terminal only, and not among traces.
struct Bar(ProgressBar);

impl Bar {
    fn new(shared: &Shared, stage: &'static str) -> Self {
        let shown = io::stderr().is_terminal() && !shared.quiet && shared.verbose == 0;
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(style("{spinner} {msg}"));
        bar.set_message(stage);
        if shown {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self(bar)
    }

    fn stage(&self, stage: &'static str) {
        self.0.set_message(stage);
    }

    fn show(&self, progress: Progress) {
        if self.0.length() != Some(progress.total) {
            self.0.set_style(style(
                "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
            ));
            self.0.set_message("loading tensors");
            self.0.set_length(progress.total);
            self.0.reset_eta();
        }
        self.0.set_position(progress.loaded);
        if progress.loaded == progress.total {
            self.0.set_message("checking tensors");
        }
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    // a template that does not parse would show the plain bar
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_tensors_are_told_but_for_the_usual_ones() {
        let describe = |names: &[&str]| describe_extra(&names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>());
        assert_eq!(describe(&["lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"]), None);
        let one = describe(&["a.bias"]).unwrap_or_default();
        assert!(one.starts_with("1 tensor of the checkpoint is not used") && one.ends_with(": a.bias"), "{one}");
        let five = describe(&["a", "b", "c", "d", "e", "lm_head.weight"]).unwrap_or_default();
        assert!(five.starts_with("5 tensors") && five.ends_with(": a, b, c, ..."), "{five}");
    }
}
