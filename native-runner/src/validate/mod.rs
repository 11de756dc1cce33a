//! `validate`: what it costs to run a model in fewer bits, or with a cache of fewer bits or positions, in quality, memory and speed, against
//! the same model in more.

mod args;
mod history;
mod html;
mod measure;
mod plots;
mod report;
mod spool;
mod table;
mod text;

use std::io::{self, Write};
use std::process::ExitCode;

pub use args::Validate;
use webweft::managers::blocks::CachePolicy;
use webweft::managers::{Dtype, Quality};
use webweft::tensor::CacheDtype;

use crate::args::{DtypeName, Shared};
use crate::built_in;
use crate::cache::CacheArgs;
use crate::date;
use crate::errors::CliError;
use crate::fingerprint;
use crate::interrupt::Interrupt;
use crate::model::ModelSpec;
use crate::open::{Opened, open, open_again};
use crate::output::OutputFile;
use crate::progress::Bar;
use history::{Entry, History};
use measure::Widths;
use report::{Baseline, Format, Model, Report, Text};
use spool::Spool;
use text::{Corpus, Cut, Tokens, Window};

/// A bar of tokens.
const TOKENS: &str = "{msg} {wide_bar} {human_pos}/{human_len} tokens, {per_sec}, {eta} left";
/// Caches that are measured where nobody says what is to be.
const CACHES: [CacheDtype; 3] = [CacheDtype::F16, CacheDtype::Q8, CacheDtype::Q4];
/// Exit code where a threshold does not hold.
const FAILED: u8 = 3;

/// Runs it: 0 where all thresholds hold.
pub fn run(args: &Validate, shared: &Shared) -> Result<ExitCode, CliError> {
    pollster::block_on(validate(args, shared))
}

/// What all passes share.
struct Run<'a> {
    args: &'a Validate,
    shared: &'a Shared,
    interrupt: Interrupt,
}

/// A way to run a model.
#[derive(Clone, Copy, Debug)]
struct Variant {
    /// How weights are stored.
    dtype: DtypeName,
    /// How keys and values are; `None`: as activations.
    cache: Option<CacheDtype>,
    /// And how many of them.
    policy: CachePolicy,
    /// Whether somebody named it: what cannot be is left out otherwise.
    asked_for: bool,
}

/// What the baseline leaves behind.
struct Reference {
    baseline: Baseline,
    cache: CacheDtype,
    model: Model,
    adapter: [String; 2],
    texts: Vec<Tokens>,
    cut: Cut,
    windows: Vec<Window>,
    widths: Widths,
    spool: Spool,
}

async fn validate(args: &Validate, shared: &Shared) -> Result<ExitCode, CliError> {
    // what is wrong with the command line and its files is told before a model is loaded
    let corpus = Corpus::read(args)?;
    Cut::new(args, usize::MAX)?;
    ModelSpec::parse(args.model.as_deref(), shared.revision.as_deref())?.local(shared.gguf_file.as_deref())?;
    let page = args.html.as_deref().map(OutputFile::create).transpose()?;
    let warn = |text: &str| {
        if !shared.quiet {
            let _ = writeln!(io::stderr(), "warning: {text}");
        }
    };
    let history = History::open(args, warn)?;
    let run = Run { args, shared, interrupt: Interrupt::catch()? };
    let date = date::now();

    let mut reference = Box::pin(run.baseline(&corpus)).await?;
    let mut formats = Vec::new();
    let mut model = None;
    let mut refused = None;
    // layers that another tool quantized keep their bits: `all` is then what can be around them
    let mut keeps_bits = args.against_model.is_none() && reference.model.quantization.is_some();
    for variant in run.variants(reference.cache) {
        if keeps_bits && !variant.asked_for && Dtype::from(variant.dtype).blocks().is_some() {
            continue;
        }
        // the baseline told what there is to tell of its own model
        let is_new = model.is_none() && args.against_model.is_some();
        let (format, of) = match Box::pin(run.candidate(variant, is_new, &corpus, &mut reference)).await {
            // of `all`, those that the model can be loaded as
            Err(CliError::Engine(error)) if !variant.asked_for => {
                let error = CliError::Engine(error);
                let name = variant_name(Dtype::from(variant.dtype).name(), variant.cache, variant.policy);
                warn(&format!("{name} is left out: {}", error.in_one_line()));
                refused = refused.or(Some(error));
                continue;
            }
            found => found?,
        };
        keeps_bits |= of.quantization.is_some();
        model = Some(of);
        if !formats.iter().any(|other: &Format| other.name == format.name) {
            formats.push(format);
        }
    }
    if let Some(error) = refused.filter(|_| formats.is_empty()) {
        return Err(error);
    }
    let states = reference.widths.states.len();
    let [adapter, driver] = reference.adapter;
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        date,
        model: model.unwrap_or_else(|| reference.model.clone()),
        against: reference.model,
        adapter,
        driver,
        text: Text {
            digest: corpus.digest(),
            names: corpus.names,
            predictions: reference.windows.iter().map(|window| window.targets().len()).sum(),
            context: reference.cut.context,
            stride: reference.cut.stride,
            prompt: reference.cut.prompt,
            max_tokens: args.max_tokens,
        },
        baseline: reference.baseline,
        states: (0..states).map(|state| measure::state_name(state, states)).collect(),
        formats,
        thresholds: args.thresholds.into(),
        pass: true,
        history: Vec::new(),
    };
    for format in &mut report.formats {
        format.judge(&report.thresholds);
        report.pass &= format.pass;
    }
    if let Some((file, earlier)) = history {
        let entry = Entry::of(&report);
        report.history = earlier.into_iter().filter(|other| other.same(&entry)).collect();
        for format in &mut report.formats {
            format.change = history::change(&entry, &format.name, &report.history);
        }
        file.append(&entry)?;
    }
    if let Some(mut page) = page {
        page.append(html::page(&report).as_bytes())?;
        page.finish()?;
    }
    tell(&report, args.json)?;
    Ok(if report.pass { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn tell(report: &Report, json: bool) -> Result<(), CliError> {
    let text = match json {
        true => serde_json::to_string(report).map_err(|error| CliError::Stdout(error.into()))? + "\n",
        false => table::table(report),
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::Stdout)
}

impl Run<'_> {
    /// What is measured, each once, against a baseline with a cache of type `cache`.
    fn variants(&self, cache: CacheDtype) -> Vec<Variant> {
        let args = self.args;
        let names_caches = !args.cache_dtype.is_empty() || !args.cache_policy.is_empty();
        let other = |dtype: &Dtype| *dtype != Dtype::from(args.against) || args.against_model.is_some();
        let mut dtypes: Vec<(DtypeName, bool)> = Vec::new();
        for &name in &args.dtype {
            let names = match name {
                DtypeName::Usual if names_caches => vec![args.against],
                DtypeName::All | DtypeName::Usual => {
                    Dtype::ALL.into_iter().filter(other).filter_map(DtypeName::of).collect()
                }
                name => vec![name],
            };
            let named = match name {
                DtypeName::All => false,
                DtypeName::Usual => names_caches,
                _ => true,
            };
            for new in names {
                if !dtypes.iter().any(|(old, _)| Dtype::from(*old) == Dtype::from(new)) {
                    dtypes.push((new, named));
                }
            }
        }
        let caches: Vec<_> = match args.cache_dtype.as_slice() {
            [] => vec![None],
            some => some.iter().copied().map(Some).collect(),
        };
        let policies = match args.cache_policy.as_slice() {
            [] => &[CachePolicy::Full],
            some => some,
        };
        let mut all = Vec::new();
        for (dtype, asked_for) in dtypes {
            let with = |policy: &CachePolicy| {
                let policy = *policy;
                caches.clone().into_iter().map(move |cache| Variant { dtype, cache, policy, asked_for })
            };
            all.extend(policies.iter().flat_map(with));
        }
        // against another model they would be differences of both
        if matches!(args.dtype[..], [DtypeName::Usual]) && !names_caches && args.against_model.is_none() {
            let new = CACHES.into_iter().filter(|other| *other != cache).map(Some);
            let (dtype, policy, asked_for) = (args.against, CachePolicy::Full, false);
            all.extend(new.map(|cache| Variant { dtype, cache, policy, asked_for }));
        }
        all
    }

    /// The baseline, over all windows.
    async fn baseline(&self, corpus: &Corpus) -> Result<Reference, CliError> {
        let (args, other) = (self.args, self.args.against_model.as_deref());
        let name = other.or(args.model.as_deref());
        // the revision is of the model that is measured
        let revision = self.shared.revision.clone().filter(|_| other.is_none());
        let cache = CacheArgs { cache_dtype: None, cache_policy: None };
        let shared = Shared { dtype: Some(args.against), cache, revision, ..self.shared.clone() };
        let mut opened = Box::pin(open(name, &shared, args.context, None)).await?;
        let texts = corpus.tokens(&opened.session)?;
        let cut = Cut::new(args, opened.session.engine().context())?;
        let windows = cut.windows(&texts, args.max_tokens as usize)?;
        let model = model(name, &shared, &opened).await?;
        let (memory, speed) = Box::pin(measure::speed(&mut opened, args.runs, cut.context, &self.interrupt)).await?;
        let mut spool = Spool::new()?;
        let baseline = called(&opened);
        let bar = Bar::new(&shared, TOKENS, &baseline, predictions(&windows));
        let (widths, perplexity) =
            Box::pin(measure::baseline(&mut opened, &windows, &mut spool, &bar, &self.interrupt)).await?;
        let cache = opened.session.precision().cache;
        let baseline = Baseline { name: baseline, cache: cache.name(), perplexity, memory, speed };
        let info = opened.device.info();
        let adapter = [info.to_string(), info.driver.clone()];
        Ok(Reference { baseline, cache, model, adapter, texts, cut, windows, widths, spool })
    }

    /// A candidate over the same windows, on a device of its own, whose ledger knows this one only.
    async fn candidate(
        &self,
        variant: Variant,
        is_new: bool,
        corpus: &Corpus,
        reference: &mut Reference,
    ) -> Result<(Format, Model), CliError> {
        let args = self.args;
        let Variant { dtype, cache: cache_dtype, policy, .. } = variant;
        let cache = CacheArgs { cache_dtype, cache_policy: Some(policy) };
        let shared = Shared { dtype: Some(dtype), cache, ..self.shared.clone() };
        let model_name = args.model.as_deref();
        let mut opened = match is_new {
            true => Box::pin(open(model_name, &shared, args.context, None)).await?,
            false => Box::pin(open_again(model_name, &shared, args.context, None)).await?,
        };
        self.same_vocabulary(&opened, corpus, reference)?;
        let model = model(args.model.as_deref(), &shared, &opened).await?;
        let live = policy.most().map_or(usize::MAX, |most| most as usize).min(reference.cut.context);
        let (memory, speed) = Box::pin(measure::speed(&mut opened, args.runs, live, &self.interrupt)).await?;
        let precision = opened.session.precision();
        let name = variant_name(&called(&opened), cache_dtype, policy);
        let bar = Bar::new(&shared, TOKENS, &name, predictions(&reference.windows));
        let said = reference.spool.reader()?;
        let (windows, widths) = (&reference.windows, &reference.widths);
        let found = Box::pin(measure::candidate(&mut opened, windows, widths, said, &bar, &self.interrupt)).await?;
        let quality = found.non_finite.is_none().then(|| Quality::of(&found.predictions)).flatten();
        let format = Format {
            name,
            dtype: precision.dtype.name(),
            cache: precision.cache.name(),
            policy: policy.name(),
            memory,
            speed,
            quality,
            layer_errors: found.layers.map(|layers| layers.iter().map(|layer| layer.value()).collect()),
            non_finite: found.non_finite,
            checks: Vec::new(),
            pass: true,
            change: None,
            divergences: found.predictions.iter().map(|prediction| prediction.kl).collect(),
        };
        Ok((format, model))
    }

    /// Logits can be compared where both mean the same tokens by them, and both take the text for the same ones.
    fn same_vocabulary(&self, opened: &Opened, corpus: &Corpus, reference: &Reference) -> Result<(), CliError> {
        let (engine, vocab) = (opened.session.engine(), reference.widths.vocab);
        if engine.vocab_size() as usize != vocab {
            return Err(CliError::Vocabulary { model: engine.vocab_size() as usize, against: vocab });
        }
        if engine.context() < reference.cut.context {
            let (context, most) = (reference.cut.context, engine.context());
            return Err(CliError::WindowTooLong { context, most });
        }
        // what another tool quantized often comes without a tokenizer
        let other = self.args.against_model.is_some() && opened.session.tokenizer().is_ok();
        if other && corpus.tokens(&opened.session)? != reference.texts {
            return Err(CliError::OtherTokens);
        }
        Ok(())
    }
}

/// What a table calls it: the dtype, and how another tool quantized the layers that keep their bits.
fn called(opened: &Opened) -> String {
    let dtype = opened.session.precision().dtype.name();
    match opened.session.quantization() {
        Some(method) => format!("{method} ({dtype})"),
        None => dtype.to_owned(),
    }
}

/// The same, with the cache as far as it was chosen.
fn variant_name(weights: &str, cache: Option<CacheDtype>, policy: CachePolicy) -> String {
    let cache = cache.map(|cache| format!("{} cache", cache.name()));
    let policy = Some(policy).filter(|policy| *policy != CachePolicy::Full).map(CachePolicy::name);
    let parts: Vec<_> = [Some(weights.to_owned()), cache, policy].into_iter().flatten().collect();
    parts.join(", ")
}

async fn model(name: Option<&str>, shared: &Shared, opened: &Opened) -> Result<Model, CliError> {
    let spec = ModelSpec::parse(name, shared.revision.as_deref())?;
    let source = spec.source(shared.gguf_file.as_deref(), &mut |_| ()).await?;
    let shown = match (&spec, &shared.revision) {
        (ModelSpec::BuiltIn, _) => built_in::NAME.to_owned(),
        (ModelSpec::Folder(path), _) => path.canonicalize().unwrap_or_else(|_| path.clone()).display().to_string(),
        // what follows an address may be a secret
        (ModelSpec::Url(url), _) => url.split(['?', '#']).next().unwrap_or_default().to_owned(),
        (ModelSpec::Hub { given, .. }, Some(revision)) => format!("{given}@{revision}"),
        (ModelSpec::Hub { given, .. }, None) => given.clone(),
    };
    Ok(Model {
        name: shown,
        fingerprint: fingerprint::of(&source, opened.session.files()).await?,
        parameters: opened.session.parameters(),
        quantization: opened.session.quantization(),
    })
}

fn predictions(windows: &[Window]) -> usize {
    windows.iter().map(|window| window.targets().len()).sum()
}
