//! What the Hub is asked, and what its answers mean.

use super::choose::{Listed, Listing};
use super::repo::{RepoId, is_commit};
use super::{Hub, MAIN};
use crate::error::SourceError;
use crate::source::digest;
use crate::source::http::client::Response;
use crate::source::http::retry::Retry;
use crate::source::http::transfer::Link;
use crate::source::http::{Failure, Follow};
use crate::source::url::{Url, encode};
use serde_json::Value;
#[cfg(target_arch = "wasm32")]
use std::collections::BTreeMap;

/// The largest listing that is read: thousands of files.
const MAX_LISTING: usize = 32 << 20;

/// A revision as the Hub has it now.
#[derive(Debug)]
pub(in crate::source) struct Revision {
    pub commit: String,
    pub files: Listing,
    /// Whether its terms must be accepted before it can be read.
    #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "told by the Hub's own word there"))]
    pub gated: bool,
}

/// A file of a commit.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub name: String,
    /// Its name among the blobs: checked to be a plain one.
    pub etag: String,
    pub size: u64,
    /// What the etag is a hash of, so that what arrives can be checked.
    pub hash: Hash,
}

/// What an etag says of a file's bytes.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    /// Of a large file: SHA-256 of its bytes.
    Sha256,
    /// Of one that lies in git: SHA-1 of `blob SIZE\0` and its bytes.
    GitBlob,
    /// Of another kind of server: only the size is checked.
    Unknown,
}

#[cfg(target_arch = "wasm32")]
impl Revision {
    /// As an earlier visit found it.
    pub fn of(commit: String, files: BTreeMap<String, Listed>) -> Self {
        Self { commit, files: Listing::new(files), gated: false }
    }
}

impl Hub {
    /// The commit that a revision leads to, and its files; `sizes`: with what the Hub knows of each.
    pub(super) async fn revision(&self, repo: &RepoId, revision: &str, sizes: bool) -> Result<Revision, SourceError> {
        let query = if sizes { "?blobs=true" } else { "" };
        let address = format!("{}/api/models/{repo}/revision/{}{query}", self.options.endpoint, escape(revision));
        let link = self.link(&address)?;
        let mut retry = Retry::new(link.policy);
        let odd = |detail: &str| SourceError::HubAnswer { url: link.url.shown(), detail: detail.to_owned() };
        let body = loop {
            let mut response = link.exchange(false, None, Follow::SameOrigin, &mut retry).await?;
            if response.status() != 200 {
                let error = self.refusal(&link, &response, repo, revision, None);
                let silent = response.header("x-error-code").is_none() && response.status() == 404 && revision != MAIN;
                drop(response);
                return Err(if silent { self.which_is_missing(repo, revision, error).await } else { error });
            }
            match whole(&mut response, MAX_LISTING).await {
                Ok(Some(body)) => break body,
                Ok(None) => return Err(odd("its listing is larger than any")),
                Err(failure) => retry.failed(link.unreachable(&failure.what), None).await?,
            }
        };
        let json: Value = serde_json::from_slice(&body).map_err(|error| odd(&error.to_string()))?;
        let commit = json.get("sha").and_then(Value::as_str).unwrap_or_default();
        // It becomes part of paths.
        if !is_commit(commit) {
            return Err(odd("its `sha` is no commit"));
        }
        let siblings = json.get("siblings").and_then(Value::as_array).ok_or_else(|| odd("it has no `siblings`"))?;
        let files =
            siblings.iter().filter_map(|file| Some((file.get("rfilename")?.as_str()?.to_owned(), listed(file))));
        // `false`, or how access is given
        let gated = json.get("gated").is_some_and(|gated| !matches!(gated, Value::Null | Value::Bool(false)));
        Ok(Revision { commit: commit.to_owned(), files: Listing::new(files), gated })
    }

    /// A 404 without the Hub's own word: is it the repository that is missing, or the revision?
    async fn which_is_missing(&self, repo: &RepoId, revision: &str, error: SourceError) -> SourceError {
        let Ok(link) = self.link(&format!("{}/api/models/{repo}", self.options.endpoint)) else { return error };
        match link.exchange(false, None, Follow::SameOrigin, &mut Retry::new(link.policy)).await {
            Ok(response) if response.status() == 200 => {
                let (repo, revision) = (repo.to_string(), revision.to_owned());
                SourceError::RevisionNotFound { repo, revision, endpoint: self.options.endpoint.clone() }
            }
            _ => error,
        }
    }

    fn link(&self, address: &str) -> Result<Link, SourceError> {
        let (client, token) = (self.client.clone(), self.options.token.clone());
        Ok(Link { client, url: Url::parse(address)?, token, policy: self.options.retry })
    }

    /// Why there is no answer: by the Hub's own word, else by the status.
    pub(super) fn refusal(
        &self,
        link: &Link,
        response: &Response,
        repo: &RepoId,
        revision: &str,
        file: Option<&str>,
    ) -> SourceError {
        let (endpoint, repo) = (self.options.endpoint.clone(), repo.to_string());
        let revision = revision.to_owned();
        let code = response.header("x-error-code").unwrap_or_default();
        let message = response.header("x-error-message").unwrap_or_default();
        match (code.as_str(), response.status()) {
            ("GatedRepo", _) => SourceError::Gated { repo, endpoint },
            ("RevisionNotFound", _) => SourceError::RevisionNotFound { repo, revision, endpoint },
            ("EntryNotFound", _) => {
                SourceError::EntryNotFound { repo, revision, file: file.unwrap_or_default().to_owned() }
            }
            ("RepoNotFound", _) => SourceError::RepoNotFound { repo, endpoint },
            (_, 401) if message.starts_with("Invalid credentials") => SourceError::TokenRefused { endpoint },
            // Another origin's headers may be hidden. Who may not see a repository, but has a good token, is told 404.
            ("", 401) if message.is_empty() && self.options.token.is_some() => SourceError::TokenRefused { endpoint },
            // Whoever may not see a repository is told that there is none, or to log in.
            (_, 401) => SourceError::RepoNotFound { repo, endpoint },
            (_, 404) => match file {
                None => SourceError::RepoNotFound { repo, endpoint },
                Some(file) => SourceError::EntryNotFound { repo, revision, file: file.to_owned() },
            },
            (_, status) => link.status(status, None),
        }
    }
}

/// What downloads ask.
#[cfg(not(target_arch = "wasm32"))]
impl Hub {
    /// Hash and size of a file of a commit.
    pub(super) async fn entry(&self, repo: &RepoId, commit: &str, name: &str) -> Result<Entry, SourceError> {
        let link = self.resolve(repo, commit, name)?;
        let mut retry = Retry::new(link.policy);
        // A renamed repository redirects within the Hub. A redirect to where large files lie is the answer itself: it has
        // the headers that are asked for.
        let response = link.exchange(true, None, Follow::SameOrigin, &mut retry).await?;
        if !(200..400).contains(&response.status()) {
            return Err(self.refusal(&link, &response, repo, commit, Some(name)));
        }
        let odd = |detail: String| SourceError::HubAnswer { url: link.url.shown(), detail };
        match response.header("x-repo-commit") {
            None => return Err(odd("it gives no X-Repo-Commit".to_owned())),
            Some(got) if got != commit => return Err(odd(format!("asked for commit {commit}, it gives {got:.40?}"))),
            Some(_) => {}
        }
        let linked = response.header("x-linked-etag");
        let etag = linked.clone().or_else(|| response.header("etag")).ok_or_else(|| odd("it gives no ETag".into()))?;
        let etag = etag.trim().trim_start_matches("W/").trim_matches('"').to_owned();
        // It becomes the name of a file.
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
        if etag.is_empty()
            || etag.len() > 128
            || etag.starts_with('.')
            || etag.contains("..")
            || !etag.bytes().all(plain)
        {
            return Err(odd(format!("its ETag {etag:.60?} cannot be the name of a file")));
        }
        let size = response.header("x-linked-size").or_else(|| response.header("content-length"));
        let size = size.and_then(|size| size.trim().parse().ok()).ok_or_else(|| odd("it gives no size".to_owned()))?;
        let hexadecimal = etag.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        let hash = match etag.len() {
            64 if hexadecimal => Hash::Sha256,
            40 if hexadecimal && linked.is_none() => Hash::GitBlob,
            _ => Hash::Unknown,
        };
        Ok(Entry { name: name.to_owned(), etag, size, hash })
    }

    /// Where a file of a commit is downloaded.
    pub(super) fn resolve(&self, repo: &RepoId, commit: &str, name: &str) -> Result<Link, SourceError> {
        self.link(&format!("{}/{repo}/resolve/{commit}/{}", self.options.endpoint, encode(name, false)))
    }
}

/// A body of at most `most` bytes.
async fn whole(response: &mut Response, most: usize) -> Result<Option<Vec<u8>>, Failure> {
    let mut body = Vec::new();
    while response.read(&mut body, most).await? > 0 {
        if body.len() > most {
            return Ok(None);
        }
    }
    Ok(Some(body))
}

/// What the listing says of a file. Nothing of it is needed, and what is odd is left out.
fn listed(file: &Value) -> Listed {
    let text = |of: Option<&Value>| of.and_then(Value::as_str).map(str::to_owned);
    let lfs = file.get("lfs");
    let sha256 = text(lfs.and_then(|lfs| lfs.get("sha256"))).filter(|text| digest::parse(text).is_some());
    let size = lfs.and_then(|lfs| lfs.get("size")).or_else(|| file.get("size")).and_then(Value::as_u64);
    Listed { size, sha256, blob: text(file.get("blobId")) }
}

/// A revision as one part of a path.
fn escape(revision: &str) -> String {
    encode(revision, false).replace('/', "%2F")
}
