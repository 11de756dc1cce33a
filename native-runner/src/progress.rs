//! A bar on standard error: on a terminal only, and not among traces.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget};

use crate::args::Shared;
use crate::open::style;

/// The bar of a known count.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// Of `total` things that `name` has, drawn as `template` says.
    pub fn new(shared: &Shared, template: &str, name: &str, total: usize) -> Self {
        let shown = io::stderr().is_terminal() && !shared.quiet && shared.verbose == 0;
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        bar.set_style(style(template));
        bar.set_message(name.to_owned());
        Self(bar)
    }

    /// So many more are done.
    pub fn advance(&self, count: usize) {
        self.0.inc(count as u64);
    }

    /// So many are done, and what else there is to say.
    pub fn set(&self, done: usize, message: String) {
        self.0.set_message(message);
        self.0.set_position(done as u64);
    }

    /// Makes room while `write` writes to the terminal.
    pub fn hide<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }
}

impl Drop for Bar {
    /// Also where an error ends it: the line that tells of it stands alone.
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
