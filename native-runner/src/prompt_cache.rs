//! `--prompt-cache`: what the cache holds of a text, from one run to the next.

use std::path::{Path, PathBuf};

use clap::Args;
use webweft::session::Session;
use webweft::source::{Folder, Source};

use crate::errors::CliError;
use crate::output::OutputFile;

/// The flag of `generate` and `chat`.
#[derive(Clone, Debug, Default, Args)]
pub struct PromptCacheArgs {
    /// Keep keys and values in this file: read first, where it exists, and written at the end, with all of prompt and text. What begins
    /// as the last run did is not computed again; the model, --dtype and the cache's flags must be the same
    #[arg(long, value_name = "FILE")]
    pub prompt_cache: Option<PathBuf>,
}

/// The file that is written at the end.
#[derive(Debug)]
pub struct PromptCache(OutputFile);

impl PromptCacheArgs {
    /// Restores what the file has, and makes sure that it can be written; `None` where none is given.
    pub async fn open(&self, session: &mut Session) -> Result<Option<PromptCache>, CliError> {
        let Some(path) = &self.prompt_cache else { return Ok(None) };
        let output = OutputFile::create(path)?;
        if path.is_file() {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let source = Source::Folder(Folder::open(folder)?);
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let tokens = session.restore_cache(&source, &name).await?;
            tracing::info!(tokens, "the cache is restored");
        }
        Ok(Some(PromptCache(output)))
    }
}

impl PromptCache {
    /// Writes what the cache holds of the text that ended last; nothing where there was none.
    pub async fn save(mut self, session: &mut Session) -> Result<(), CliError> {
        let ids = session.engine().cached().to_vec();
        if ids.is_empty() {
            return Ok(());
        }
        let mut saved = session.save_cache(&ids).await?;
        tracing::info!(tokens = saved.tokens(), bytes = saved.size(), "the cache is saved");
        while let Some(bytes) = saved.next().await? {
            self.0.append(&bytes)?;
        }
        self.0.finish()
    }
}
