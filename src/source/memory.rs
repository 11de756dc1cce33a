//! Files held in memory: tests, fuzzing, and bytes that a page already has.

use super::check_name;
use crate::error::SourceError;
use std::collections::BTreeMap;

/// Named files in memory.
#[derive(Debug, Default, Clone)]
pub struct Memory {
    files: BTreeMap<String, Vec<u8>>,
    /// The GGUF file that is meant.
    pub(super) meant: Option<String>,
}

impl Memory {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file, in place of one of the same name.
    ///
    /// # Errors
    /// [`SourceError::BadName`] for a name that no folder would give out.
    pub fn insert(&mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Result<(), SourceError> {
        let name = name.into();
        check_name(&name)?;
        self.files.insert(name, bytes.into());
        Ok(())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.files.keys()
    }

    /// The file's bytes, if there is one.
    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }
}

impl From<BTreeMap<String, Vec<u8>>> for Memory {
    /// Takes the files as they are; one with a name that [`Memory::insert`] would refuse can never be read.
    fn from(files: BTreeMap<String, Vec<u8>>) -> Self {
        Self { files, meant: None }
    }
}
