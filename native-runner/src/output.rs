//! A safetensors file that appears when it is complete.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, json};

use crate::errors::CliError;

/// A tensor of f32 to be written: name, shape, little-endian bytes.
pub type Tensor<'a> = (&'a str, &'a [usize], &'a [u8]);

/// Where outputs go: a new file beside the wanted one, which takes its name at the end. What is there and no regular file (a
/// pipe, a device) is written to, and never replaced: `safetensors::serialize_to_file` would put a file in its place.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    file: File,
    /// `None` for no regular file, and when the name was taken.
    temporary: Option<PathBuf>,
}

impl OutputFile {
    /// Makes sure that the file can be written, before the work begins.
    pub fn create(path: &Path) -> Result<Self, CliError> {
        let failed = |source| CliError::OutputFile { path: path.into(), source };
        let is_directory = || failed(io::ErrorKind::IsADirectory.into());
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => return Err(is_directory()),
            Ok(meta) if !meta.is_file() => {
                // neither made nor cut short
                let file = File::options().write(true).open(path).map_err(failed)?;
                return Ok(Self { path: path.into(), file, temporary: None });
            }
            _ => {}
        }
        // through a symbolic link, the file that it points to is replaced, and not the link
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let mut name = OsString::from(".");
        name.push(target.file_name().ok_or_else(is_directory)?);
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = target.with_file_name(name);
        let file = File::options().write(true).create_new(true).open(&temporary).map_err(failed)?;
        Ok(Self { path: target, file, temporary: Some(temporary) })
    }

    /// Writes the tensors and gives the file its name.
    pub fn write(self, tensors: &[Tensor<'_>]) -> Result<(), CliError> {
        write(&self.file, tensors).map_err(|source| CliError::OutputFile { path: self.path.clone(), source })?;
        self.finish()
    }

    /// Writes what comes next.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.file.write_all(bytes).map_err(|source| CliError::OutputFile { path: self.path.clone(), source })
    }

    /// Gives the file its name.
    pub fn finish(mut self) -> Result<(), CliError> {
        let renamed = match &self.temporary {
            Some(temporary) => fs::rename(temporary, &self.path),
            None => Ok(()),
        };
        match renamed {
            Ok(()) => {
                self.temporary = None;
                Ok(())
            }
            Err(source) => Err(CliError::OutputFile { path: self.path.clone(), source }),
        }
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(temporary);
        }
    }
}

/// The format: the header's length in 8 bytes, the header in JSON, padded with spaces to whole 8 bytes, the tensors one after
/// another (<https://huggingface.co/docs/safetensors>).
fn write(file: &File, tensors: &[Tensor<'_>]) -> io::Result<()> {
    let mut header = Map::new();
    let mut end = 0;
    for (name, shape, bytes) in tensors {
        let begin = end;
        end += bytes.len();
        header.insert((*name).to_owned(), json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, end] }));
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut out = BufWriter::new(file);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for (_, _, bytes) in tensors {
        out.write_all(bytes)?;
    }
    out.flush()
}
