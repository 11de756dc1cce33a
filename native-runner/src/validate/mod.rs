//! `validate`: what it costs to run a model in fewer bits, in quality, memory and speed, against the same model in more.

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
use webweft::managers::{Dtype, Quality};

use crate::args::{DtypeName, Shared};
use crate::built_in;
use crate::errors::CliError;
use crate::fingerprint;
use crate::interrupt::Interrupt;
use crate::model::ModelSpec;
use crate::open::{Opened, open};
use crate::output::OutputFile;
use crate::progress::Bar;
use history::{Entry, History};
use measure::Widths;
use report::{Baseline, Format, Model, Report, Text};
use spool::Spool;
use text::{Corpus, Cut, Tokens, Window};

/// A bar of tokens.
const TOKENS: &str = "{msg} {wide_bar} {human_pos}/{human_len} tokens, {per_sec}, {eta} left";
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

/// What the baseline leaves behind.
struct Reference {
    baseline: Baseline,
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
    let date = history::now();

    let mut reference = Box::pin(run.baseline(&corpus)).await?;
    let mut formats = Vec::new();
    let mut model = None;
    let mut refused = None;
    // layers that another tool quantized keep their bits: `all` is then what can be around them
    let mut keeps_bits = args.against_model.is_none() && reference.model.quantization.is_some();
    for (dtype, asked_for) in run.dtypes() {
        if keeps_bits && !asked_for && Dtype::from(dtype).blocks().is_some() {
            continue;
        }
        let (format, of) = match Box::pin(run.candidate(dtype, &corpus, &mut reference)).await {
            // of `all`, those that the model can be loaded as
            Err(CliError::Engine(error)) if !asked_for => {
                let error = CliError::Engine(error);
                warn(&format!("{} is left out: {}", Dtype::from(dtype).name(), error.in_one_line()));
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
    /// What is measured, each once, and whether it was named.
    fn dtypes(&self) -> Vec<(DtypeName, bool)> {
        let against = Dtype::from(self.args.against);
        let other = |dtype: &Dtype| *dtype != against || self.args.against_model.is_some();
        let mut all: Vec<(DtypeName, bool)> = Vec::new();
        for &name in &self.args.dtype {
            let names = match name {
                DtypeName::All => Dtype::ALL.into_iter().filter(other).filter_map(DtypeName::of).collect(),
                name => vec![name],
            };
            for new in names {
                if !all.iter().any(|(old, _)| Dtype::from(*old) == Dtype::from(new)) {
                    all.push((new, !matches!(name, DtypeName::All)));
                }
            }
        }
        all
    }

    /// The baseline, over all windows.
    async fn baseline(&self, corpus: &Corpus) -> Result<Reference, CliError> {
        let (args, other) = (self.args, self.args.against_model.as_deref());
        let name = other.or(args.model.as_deref());
        // the revision is of the model that is measured
        let revision = self.shared.revision.clone().filter(|_| other.is_none());
        let shared = Shared { dtype: args.against, revision, ..self.shared.clone() };
        let mut opened = Box::pin(open(name, &shared, args.context, None)).await?;
        let texts = corpus.tokens(&opened.session)?;
        let cut = Cut::new(args, opened.session.engine().context())?;
        let windows = cut.windows(&texts, args.max_tokens as usize)?;
        let model = model(name, &shared, &opened).await?;
        let (memory, speed) = Box::pin(measure::speed(&mut opened, args.runs, &self.interrupt)).await?;
        let mut spool = Spool::new()?;
        let baseline = called(&opened);
        let bar = Bar::new(&shared, TOKENS, &baseline, predictions(&windows));
        let (widths, perplexity) =
            Box::pin(measure::baseline(&mut opened, &windows, &mut spool, &bar, &self.interrupt)).await?;
        let baseline = Baseline { name: baseline, perplexity, memory, speed };
        let info = opened.device.info();
        let adapter = [info.to_string(), info.driver.clone()];
        Ok(Reference { baseline, model, adapter, texts, cut, windows, widths, spool })
    }

    /// A candidate over the same windows, on a device of its own, whose ledger knows this one only.
    async fn candidate(
        &self,
        dtype: DtypeName,
        corpus: &Corpus,
        reference: &mut Reference,
    ) -> Result<(Format, Model), CliError> {
        let args = self.args;
        let shared = Shared { dtype, ..self.shared.clone() };
        let mut opened = Box::pin(open(args.model.as_deref(), &shared, args.context, None)).await?;
        self.same_vocabulary(&opened, corpus, reference)?;
        let model = model(args.model.as_deref(), &shared, &opened).await?;
        let (memory, speed) = Box::pin(measure::speed(&mut opened, args.runs, &self.interrupt)).await?;
        let name = called(&opened);
        let bar = Bar::new(&shared, TOKENS, &name, predictions(&reference.windows));
        let said = reference.spool.reader()?;
        let (windows, widths) = (&reference.windows, &reference.widths);
        let found = Box::pin(measure::candidate(&mut opened, windows, widths, said, &bar, &self.interrupt)).await?;
        let quality = found.non_finite.is_none().then(|| Quality::of(&found.predictions)).flatten();
        let format = Format {
            name,
            dtype: opened.session.precision().dtype.name(),
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
