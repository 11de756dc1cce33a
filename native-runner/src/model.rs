//! What `--model` may be: nothing, a folder, a name on the Hub, an address.

use std::path::{Path, PathBuf};

use webweft::error::SourceError;
use webweft::source::{DownloadProgress, Folder, Http, HttpOptions, Hub, HubOptions, RepoId, Source};

use crate::built_in;
use crate::errors::CliError;

/// Pages of the Hub, whose addresses are pasted.
const PAGES: [&str; 2] = ["https://huggingface.co/", "https://hf.co/"];

/// Where a model is.
#[derive(Debug, PartialEq, Eq)]
pub enum ModelSpec {
    /// Carried by the program.
    BuiltIn,
    /// On disk.
    Folder(PathBuf),
    /// On the Hub, or in its cache.
    Hub {
        /// As it was given: a folder may have been meant.
        given: String,
        /// Its name.
        repo: RepoId,
        /// Branch, tag or commit, if one was given.
        revision: Option<String>,
    },
    /// Below an address.
    Url(String),
}

impl ModelSpec {
    /// Without a name, the built-in one. A folder that is there is taken first; what looks like a path is never a name on the Hub.
    pub fn parse(model: Option<&str>, revision: Option<&str>) -> Result<Self, CliError> {
        let (spec, model) = match model {
            Some(model) => (Self::of(model)?, model),
            None => (Self::BuiltIn, built_in::NAME),
        };
        match (spec, revision) {
            (spec, None) => Ok(spec),
            (Self::Hub { given, repo, revision: None }, Some(revision)) => {
                Ok(Self::Hub { given, repo, revision: Some(revision.to_owned()) })
            }
            (_, Some(revision)) => {
                let model = model.split('?').next().unwrap_or_default().to_owned();
                Err(CliError::Revision { revision: revision.to_owned(), model })
            }
        }
    }

    fn of(model: &str) -> Result<Self, CliError> {
        let hub = |name: &str, revision: Option<&str>| {
            let (given, revision) = (model.to_owned(), revision.map(str::to_owned));
            Ok(Self::Hub { given, repo: name.parse()?, revision })
        };
        if let Some(page) = PAGES.iter().find_map(|page| model.strip_prefix(page)) {
            let parts: Vec<_> = page.trim_end_matches('/').splitn(4, '/').collect();
            let spec: Result<Self, SourceError> = match parts[..] {
                [org, name] => hub(&format!("{org}/{name}"), None),
                [org, name, "tree", revision] => hub(&format!("{org}/{name}"), Some(revision)),
                // the page of a file, not its bytes
                [org, name, "blob", file] if file.ends_with(".gguf") => {
                    Ok(Self::Url(format!("{}{org}/{name}/resolve/{file}", PAGES[0])))
                }
                _ => Ok(Self::Url(model.to_owned())),
            };
            return Ok(spec?);
        }
        if model.split_once("://").is_some_and(|(scheme, _)| scheme.chars().all(|c| c.is_ascii_alphanumeric())) {
            return Ok(Self::Url(model.to_owned()));
        }
        if Path::new(model).exists() || looks_like_a_path(model) {
            return Ok(Self::Folder(model.into()));
        }
        let spec = match model.split_once('@') {
            Some((name, revision)) => hub(name, Some(revision)),
            None => hub(model, None),
        };
        spec.map_err(|source| CliError::NoModel { model: model.to_owned(), source: Box::new(source) })
    }

    /// The source, if it is on this machine: that a folder is not there is told before anything else is done.
    pub fn local(&self, gguf_file: Option<&str>) -> Result<Option<Source>, CliError> {
        match self {
            Self::BuiltIn => Ok(Some(built_in::source())),
            Self::Folder(path) => Ok(Some(meaning(Source::Folder(Folder::open(path)?), gguf_file))),
            Self::Hub { .. } | Self::Url(_) => Ok(None),
        }
    }

    /// The source, for a look at configs and headers: nothing is downloaded.
    pub async fn look(&self, gguf_file: Option<&str>) -> Result<Source, CliError> {
        match self {
            Self::Hub { given, repo, revision } => {
                let hub = hub(gguf_file)?;
                hub.look(repo, revision.as_deref()).await.map_err(|error| no_model(given, error))
            }
            Self::BuiltIn | Self::Folder(_) | Self::Url(_) => self.source(gguf_file, &mut |_| ()).await,
        }
    }

    /// The source; a model of the Hub is downloaded.
    pub async fn source(
        &self,
        gguf_file: Option<&str>,
        progress: &mut dyn FnMut(DownloadProgress),
    ) -> Result<Source, CliError> {
        match self {
            Self::BuiltIn => Ok(built_in::source()),
            Self::Folder(path) => Ok(meaning(Source::Folder(Folder::open(path)?), gguf_file)),
            Self::Url(url) => Ok(meaning(Source::Http(Http::open(url, HttpOptions::default())?), gguf_file)),
            Self::Hub { given, repo, revision } => {
                let hub = hub(gguf_file)?;
                let folder = hub.snapshot(repo, revision.as_deref(), progress).await;
                Ok(Source::Folder(folder.map_err(|error| no_model(given, error))?))
            }
        }
    }
}

fn meaning(source: Source, gguf_file: Option<&str>) -> Source {
    source.meaning(gguf_file.map(str::to_owned))
}

fn hub(gguf_file: Option<&str>) -> Result<Hub, SourceError> {
    let mut options = HubOptions::from_env()?;
    options.gguf_file = gguf_file.map(str::to_owned);
    Ok(Hub::new(options))
}

/// The last part of a folder, a name or an address.
pub fn short_name(model: &str) -> &str {
    let path = model.split(['?', '#']).next().unwrap_or_default().trim_end_matches(['/', '\\']);
    path.rsplit(['/', '\\']).next().unwrap_or_default()
}

/// A folder may have been meant, and misspelt: it is told along with what says that the name is of no use on the Hub either.
fn no_model(given: &str, error: SourceError) -> CliError {
    use SourceError::{NotCached, RepoNotFound, Unreachable};
    let (model, source) = (given.to_owned(), Box::new(error));
    match *source {
        RepoNotFound { .. } => CliError::NoModel { model, source },
        NotCached { .. } | Unreachable { .. } => CliError::NotFetched { model, source },
        _ => (*source).into(),
    }
}

/// `./x`, `../x`, `/x`, `~/x`, `C:\x`, `x\y`: on every system, so that a command means the same everywhere.
fn looks_like_a_path(model: &str) -> bool {
    let drive = matches!(model.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    model.starts_with(['.', '/', '~']) || model.contains('\\') || drive || model.ends_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(given: &str, name: &str, revision: Option<&str>) -> ModelSpec {
        let repo = name.parse().expect("a name");
        ModelSpec::Hub { given: given.into(), repo, revision: revision.map(str::to_owned) }
    }

    #[test]
    fn models_are_told_apart() {
        let of = |model: &str| ModelSpec::parse(Some(model), None).expect("a model");
        assert_eq!(of("org/name"), hub("org/name", "org/name", None));
        assert_eq!(of("gpt2"), hub("gpt2", "gpt2", None));
        assert_eq!(of("a/b@refs/pr/1"), hub("a/b@refs/pr/1", "a/b", Some("refs/pr/1")));
        for path in ["./x", "../x", "/x/y", "~/x", "~", "C:\\x", "c:x", "x\\y", ".", "x/"] {
            assert_eq!(of(path), ModelSpec::Folder(path.into()));
        }
        for url in ["https://h/x?token=a", "HTTP://h", "ftp://h/x", "https://huggingface.co/a/b/resolve/main"] {
            assert_eq!(of(url), ModelSpec::Url(url.into()));
        }
        let page = "https://huggingface.co/a/b/tree/refs/pr/1";
        assert_eq!(of(page), hub(page, "a/b", Some("refs/pr/1")));
        assert_eq!(of("https://hf.co/a/b/"), hub("https://hf.co/a/b/", "a/b", None));
        let file = "https://huggingface.co/a/b/resolve/main/c.gguf";
        assert_eq!(of("https://hf.co/a/b/blob/main/c.gguf"), ModelSpec::Url(file.into()));
        // the tests run in the folder of this crate
        assert_eq!(of("src"), ModelSpec::Folder("src".into()));
        assert_eq!(of("Cargo.toml"), ModelSpec::Folder("Cargo.toml".into()));
        for bad in ["a/b/c", "a b", "a--b", "@main", "-x"] {
            let error = ModelSpec::parse(Some(bad), None).expect_err("neither").in_one_line();
            assert!(error.contains("no folder") && error.contains(bad) && error.contains("Hub"), "{error}");
        }
    }

    #[test]
    fn without_a_name_it_is_the_built_in_one() {
        assert_eq!(ModelSpec::parse(None, None).expect("a model"), ModelSpec::BuiltIn);
        let error = ModelSpec::parse(None, Some("v1")).expect_err("it has none").to_string();
        assert!(error.contains("--revision v1") && error.contains("built-in"), "{error}");
    }

    #[test]
    fn names_are_shown_short() {
        for (model, name) in
            [("org/name", "name"), ("/a/b/", "b"), ("C:\\a\\b", "b"), ("https://h/m?token=x/y", "m"), ("gpt2", "gpt2")]
        {
            assert_eq!(short_name(model), name);
        }
    }

    #[test]
    fn revisions_go_with_names() {
        let of = |model: &str| ModelSpec::parse(Some(model), Some("v1"));
        assert_eq!(of("a/b").expect("a model"), hub("a/b", "a/b", Some("v1")));
        for model in ["a/b@main", "src", "./x", "https://h/x?token=hidden"] {
            let error = of(model).expect_err("not both").to_string();
            assert!(error.contains("--revision v1") && !error.contains("hidden"), "{error}");
        }
    }
}
