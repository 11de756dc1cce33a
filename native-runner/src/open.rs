//! From flags to an open session, with a progress bar on the way.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use webweft::device::{Device, DeviceOptions};
use webweft::managers::{CacheOptions, Dtype, Overflow};
use webweft::session::{FeatureExtractor, LoadOptions, Session};
use webweft::source::Source;
use webweft::weights::Progress;

use crate::args::Shared;
use crate::errors::CliError;
use crate::kernels::{OpenDevice, open_device};
use crate::model::ModelSpec;
use crate::output::OutputFile;
use crate::sizes;

/// A session, what it runs on, and how long it took to get there.
#[derive(Debug)]
pub struct Opened {
    /// The model.
    pub session: Session,
    /// Its device.
    pub device: OpenDevice,
    /// From the first look at the model's files to the last weight on the GPU, in milliseconds; without the download of a model
    /// from the Hub.
    pub load_ms: f64,
    /// When all began, until somebody has asked.
    pub begun: Option<Instant>,
    /// What was told of so far: concessions, bytes that were copied for layers that do not stay, and classes of operations that keep f32.
    told: usize,
    copied: u64,
    demoted: usize,
}

impl Opened {
    /// Has the model `model`, a folder, a name on the Hub or an address, guess the next tokens of texts.
    pub async fn set_assistant(&mut self, model: Option<&str>, shared: &Shared) -> Result<(), CliError> {
        let Some(model) = model else { return Ok(()) };
        let spec = ModelSpec::parse(Some(model), None)?;
        let bar = Bar::new(shared, "opening the assistant");
        let source = match spec.local(None)? {
            Some(source) => source,
            None => spec.source(None, &mut |progress| bar.show("downloading", progress.done, progress.total)).await?,
        };
        let load = LoadOptions { cache: CacheOptions::default(), gpu_layers: None, ..load_options(shared, None, None) };
        let assistant = Session::open(&self.device, &source, &load, |progress| bar.load(progress)).await?;
        Ok(self.session.set_assistant(Some(assistant))?)
    }

    /// Tells on standard error what was given up, since this was asked last, because memory ran short.
    pub fn tell_concessions(&mut self, quiet: bool) {
        let all = self.session.engine().concessions();
        for concession in all.iter().skip(self.told).filter(|_| !quiet) {
            let _ = writeln!(io::stderr(), "memory ran short: {concession}");
        }
        self.told = all.len();
    }

    /// Bytes that were copied for layers that do not stay since this was asked last, where there are such layers.
    pub fn copied(&mut self) -> Option<u64> {
        let moved = self.session.engine().offloaded()?.moved();
        // what left since began to count anew
        let before = std::mem::replace(&mut self.copied, moved);
        Some(moved.checked_sub(before).unwrap_or(moved))
    }

    /// Lets the model go, and writes the ledger where `--memory-json` asks for it: as it was before, and what is left behind.
    pub fn finish(self, shared: &Shared) -> Result<(), CliError> {
        let Self { session, device, .. } = self;
        write_memory(&device, shared, session)
    }

    /// Warns of tensors that the model does not use.
    pub fn warn_of_extra(&self, shared: &Shared) {
        warn_of_extra(self.session.extra_tensors(), shared);
    }

    /// Warns of values that f16 does not hold, once for each class of operations.
    pub fn warn(&mut self, shared: &Shared) {
        let told = self.session.engine().precision_report();
        for class in told.demoted.iter().skip(self.demoted).filter(|_| !shared.quiet) {
            let Some(Overflow { site, position, .. }) = told.overflows.iter().find(|o| o.site.class == *class) else {
                continue;
            };
            let name = class.name();
            let warning = format!("{site} outgrew f16 before position {position}: {name} keeps f32 from here on");
            let _ = writeln!(io::stderr(), "warning: {warning}");
        }
        self.demoted = told.demoted.len();
    }
}

/// Which adapter the flags ask for, and how it is to be opened.
pub fn device_options(shared: &Shared) -> DeviceOptions {
    DeviceOptions {
        adapter: shared.adapter.clone(),
        backend: shared.backend.map(Into::into),
        portable: shared.portable,
        memory_limit: shared.max_gpu_memory,
        ..DeviceOptions::default()
    }
}

/// Opens the model `model` (a folder, a name on the Hub, an address; without one the built-in model), and warns of tensors that it does not use.
pub async fn open(
    model: Option<&str>,
    shared: &Shared,
    context: Option<u32>,
    prefill_chunk: Option<u32>,
) -> Result<Opened, CliError> {
    let opened = open_again(model, shared, context, prefill_chunk).await?;
    opened.warn_of_extra(shared);
    Ok(opened)
}

/// As [`open`], of a model whose tensors were looked at before.
pub async fn open_again(
    model: Option<&str>,
    shared: &Shared,
    context: Option<u32>,
    prefill_chunk: Option<u32>,
) -> Result<Opened, CliError> {
    Place::find(model, shared).await?.open(shared, context, prefill_chunk).await
}

/// Where a model is, and what it is to run on.
pub struct Place {
    /// The model's files.
    pub source: Source,
    device: OpenDevice,
    bar: Bar,
    begun: Instant,
    started: Instant,
}

impl Place {
    /// Opens the device, and asks for the model `model` as [`open`] does.
    pub async fn find(model: Option<&str>, shared: &Shared) -> Result<Self, CliError> {
        let begun = Instant::now();
        // a wrong path is told at once, before a driver is asked anything
        let spec = ModelSpec::parse(model, shared.revision.as_deref())?;
        let local = spec.local(shared.gguf_file.as_deref())?;
        let bar = Bar::new(shared, "opening the device");
        // before a download: without an adapter it would be for nothing
        let device = open_device(shared, |stage| bar.stage(stage)).await?;
        let source = match local {
            Some(source) => source,
            None => {
                bar.stage("asking for the model");
                spec.source(shared.gguf_file.as_deref(), &mut |progress| {
                    bar.show("downloading", progress.done, progress.total)
                })
                .await?
            }
        };
        bar.stage("reading the model's files");
        Ok(Self { source, device, bar, begun, started: Instant::now() })
    }

    /// A model that generates.
    pub async fn open(
        self,
        shared: &Shared,
        context: Option<u32>,
        prefill_chunk: Option<u32>,
    ) -> Result<Opened, CliError> {
        let load = load_options(shared, context, prefill_chunk);
        let Self { source, device, bar, begun, started } = self;
        let session = Session::open(&device, &source, &load, |progress| bar.load(progress)).await;
        drop(bar);
        let mut session = session?;
        session.set_settings(shared.generation.clone())?;
        let load_ms = started.elapsed().as_secs_f64() * 1e3;
        tracing::info!(load_ms, dtype = session.precision().dtype.name(), "model opened");
        if let Some(told) = session.recommendation() {
            tracing::info!(reason = told.reason, "dtype chosen");
            // without a budget it is what it always is
            if !shared.quiet && told.budget.is_some() {
                let _ = writeln!(io::stderr(), "dtype {}", told.reason);
            }
        }
        if !shared.quiet {
            let tell = |line: String| {
                let _ = writeln!(io::stderr(), "{line}");
            };
            if let Some(found) = session.found_budget() {
                tell(format!("memory: the adapter gave no more than {}", sizes::format(found)));
            }
            if let (Some(offload), None) = (session.offload(), session.recommendation()) {
                tell(format!("layers: {offload}"));
            }
        }
        Ok(Opened { session, device, load_ms, begun: Some(begun), told: 0, copied: 0, demoted: 0 })
    }

    /// A model that makes vectors, its device, and how many milliseconds it took to load.
    pub async fn open_encoder(
        self,
        shared: &Shared,
        context: Option<u32>,
        prefill_chunk: Option<u32>,
    ) -> Result<(FeatureExtractor, OpenDevice, f64), CliError> {
        let load = load_options(shared, context, prefill_chunk);
        let Self { source, device, bar, started, .. } = self;
        let extractor = FeatureExtractor::open(&device, &source, &load, |progress| bar.load(progress)).await;
        drop(bar);
        let extractor = extractor?;
        warn_of_extra(extractor.extra_tensors(), shared);
        let load_ms = started.elapsed().as_secs_f64() * 1e3;
        tracing::info!(load_ms, dtype = extractor.engine().precision().dtype.name(), "encoder opened");
        Ok((extractor, device, load_ms))
    }
}

fn warn_of_extra(names: &[String], shared: &Shared) {
    if let Some(warning) = describe_extra(names).filter(|_| !shared.quiet) {
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
}

fn load_options(shared: &Shared, context: Option<u32>, prefill_chunk: Option<u32>) -> LoadOptions {
    LoadOptions {
        dtype: shared.dtype.map_or(Dtype::Auto, Into::into),
        context,
        prefill_chunk,
        cache: shared.cache.options(),
        gpu_layers: shared.gpu_layers,
        warm_up: false,
        weights_file: None,
    }
}

/// Writes the ledger where `--memory-json` asks for it, as it was while `model` was there, and what that leaves behind.
pub fn write_memory<M>(device: &Device, shared: &Shared, model: M) -> Result<(), CliError> {
    let Some(path) = &shared.memory_json else { return Ok(()) };
    let mut report = device.ledger().report();
    drop(model);
    report.leaks = device.ledger().leaks();
    let json = serde_json::to_vec_pretty(&report);
    let json = json.map_err(|error| CliError::OutputFile { path: path.clone(), source: error.into() })?;
    let mut file = OutputFile::create(path)?;
    file.append(&json)?;
    file.finish()
}

/// What to say of tensors that the model does not use; nothing of those that many exports carry along: the frequencies of old
/// rotary embeddings, numbers of positions, an output head that is the embedding, or that an encoder was trained with.
fn describe_extra(names: &[String]) -> Option<String> {
    const SHOWN: usize = 3;
    let usual = ["rotary_emb.inv_freq", "embeddings.position_ids"];
    let is_head = |name: &str| name == "lm_head.weight" || name.starts_with("cls.");
    let harmless = |name: &&String| usual.iter().any(|end| name.ends_with(end)) || is_head(name);
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
        self.0.set_style(style("{spinner} {msg}"));
        self.0.unset_length();
        self.0.set_message(stage);
    }

    fn show(&self, what: &'static str, done: u64, total: u64) {
        let begins = self.0.length() != Some(total);
        if self.0.message() != what {
            self.0.set_message(what);
        }
        self.0.set_position(done);
        if begins {
            self.0.set_length(total);
            // what an earlier run downloaded says nothing of the speed of this one
            self.0.reset_elapsed();
            self.0.reset_eta();
            self.0.set_style(style(
                "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
            ));
        }
    }

    fn load(&self, progress: Progress<'_>) {
        let done = progress.loaded == progress.total;
        let what = if done { "checking tensors" } else { "loading tensors" };
        self.show(what, progress.loaded, progress.total);
    }
}

impl Drop for Bar {
    /// Also where an error ends it: the line that tells of it stands alone.
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A bar's looks.
pub fn style(template: &str) -> ProgressStyle {
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
