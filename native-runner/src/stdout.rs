//! What commands write, as it comes: a reader of a pipe is not to wait.

use std::io::{self, Write};

use serde::Serialize;

use crate::errors::CliError;

/// Writes to standard output at once.
pub fn write(text: &str) -> Result<(), CliError> {
    if text.is_empty() {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::Stdout)
}

/// Writes a line of `--json`.
pub fn write_line(line: &impl Serialize) -> Result<(), CliError> {
    write(&(serde_json::to_string(line).map_err(|error| CliError::Stdout(error.into()))? + "\n"))
}
