//! Ctrl-C: the first one asks, the second one does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::errors::CliError;

/// Exit code of a cancelled run, as shells count it: 128 and the number of SIGINT.
pub const CANCELLED: u8 = 130;

/// Whether Ctrl-C was pressed since this was made.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Catches Ctrl-C from now on; until then it ends the process. To be called once.
    pub fn catch() -> Result<Self, CliError> {
        let this = Self::default();
        let pressed = Arc::clone(&this.0);
        ctrlc::set_handler(move || {
            if pressed.swap(true, Ordering::SeqCst) {
                std::process::exit(i32::from(CANCELLED));
            }
        })?;
        Ok(this)
    }

    /// Forgets that it was pressed.
    pub fn clear(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    /// Fails where it was pressed.
    pub fn check(&self) -> Result<(), CliError> {
        if self.requested() { Err(CliError::Cancelled) } else { Ok(()) }
    }

    /// Whether it was pressed.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
