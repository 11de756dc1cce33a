//! `native-runner`: a terminal for webweft. Arguments -> session -> standard output.

mod args;
mod batch;
mod bench;
mod built_in;
mod cache;
mod chat;
mod date;
mod devices;
mod embed;
mod errors;
mod fingerprint;
mod forward;
mod generate;
mod inspect;
mod interrupt;
mod kernels;
mod lists;
mod model;
mod open;
mod output;
mod profile;
mod progress;
mod prompt;
mod prompt_cache;
mod prompts;
mod quantize;
mod remembered;
mod sampling;
mod sizes;
mod stats;
mod stdout;
mod stream;
mod svg;
mod table;
mod tensors;
mod together;
mod tune;
mod validate;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use args::{Cli, Command};
use errors::CliError;

fn main() -> ExitCode {
    quiet_mesa();
    let mut cli = Cli::parse();
    trace(cli.shared.verbose);
    let result = profile::apply(&mut cli).and_then(|()| match &cli.command {
        Command::Generate(args) => generate::run(args, &cli.shared),
        Command::Forward(args) => forward::run(args, &cli.shared),
        Command::Embed(args) => embed::run(args, &cli.shared),
        Command::Inspect(args) => inspect::run(args, &cli.shared),
        Command::Bench(args) => bench::run(args, &cli.shared),
        Command::Chat(args) => chat::run(args, &cli.shared),
        Command::Quantize(args) => quantize::run(args, &cli.shared),
        Command::Tune(args) => tune::run(args, &cli.shared),
        Command::Validate(args) => validate::run(args, &cli.shared),
        Command::Devices(args) => devices::run(args, &cli.shared),
    });
    match result {
        Ok(code) => code,
        // whoever read our output has what they wanted
        Err(CliError::Stdout(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(CliError::Cancelled) => ExitCode::from(interrupt::CANCELLED),
        Err(error) => {
            // with no standard error left there is nobody to tell
            let _ = writeln!(io::stderr(), "error: {}", error.in_one_line());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Without a desktop, Mesa's layer that sorts adapters by what the desktop uses writes an `error:` of its own to standard error
/// whenever adapters are listed. It is switched off there: the engine sorts them itself.
fn quiet_mesa() {
    let unset = |name| std::env::var_os(name).is_none();
    if cfg!(target_os = "linux") && unset("XDG_RUNTIME_DIR") && unset("NODEVICE_SELECT") {
        // SAFETY: the first statement of `main`, so no other thread reads or writes the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}

/// Sends traces to standard error: none, this program's, more of them, everyone's. Errors that matter come as results.
fn trace(verbose: u8) {
    let (ours, others) = match verbose {
        0 => return,
        1 => (LevelFilter::INFO, LevelFilter::WARN),
        2 => (LevelFilter::DEBUG, LevelFilter::WARN),
        _ => (LevelFilter::TRACE, LevelFilter::DEBUG),
    };
    let targets = Targets::new().with_default(others).with_target("webweft", ours).with_target("native_runner", ours);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .log_internal_errors(false);
    tracing_subscriber::registry().with(lines).with(targets).init();
}
