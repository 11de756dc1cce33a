//! Errors of sources.

use thiserror::Error;

/// What can go wrong while bytes are fetched from a [`Source`](crate::source::Source).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The folder does not exist.
    #[error("there is no folder `{path}`: check the path, or download the model there first")]
    FolderMissing {
        /// The path as it was given.
        path: String,
    },
    /// The path is a file.
    #[error("`{path}` is a file, not a folder: give the folder that holds config.json and the weights")]
    NotAFolder {
        /// The path as it was given.
        path: String,
    },
    /// A name that could leave the folder, or that no file can have.
    #[error("the file name {name:?} is refused ({why}): give a plain name relative to the model's folder")]
    BadName {
        /// The name, shortened where it is very long.
        name: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// The file to read is absent.
    #[error("`{place}` holds no file `{name}`: the download is incomplete, fetch it again")]
    FileMissing {
        /// Where it was looked for.
        place: String,
        /// The file.
        name: String,
    },
    /// The range does not lie within the file.
    #[error(
        "`{name}` has {size} bytes, but bytes {start}..{end} were asked for: the file is cut short, fetch it again"
    )]
    OutOfRange {
        /// The file.
        name: String,
        /// First byte asked for.
        start: u64,
        /// One past the last byte asked for.
        end: u64,
        /// Bytes that the file has.
        size: u64,
    },
    /// The file is larger than its kind may be.
    #[error(
        "`{name}` has {size} bytes, more than the {cap} that are read at once: this is not the file it is named after"
    )]
    TooLarge {
        /// The file.
        name: String,
        /// Bytes that the file has.
        size: u64,
        /// Bytes that are accepted.
        cap: u64,
    },
    /// The operating system refused.
    #[error("`{name}` cannot be read: {source}; check its permissions and the disk")]
    Io {
        /// The file or folder.
        name: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// An address that is none, or that cannot be taken.
    #[error(
        "`{url}` is no address of a model ({why}): give http:// or https://, a host, and the folder of config.json"
    )]
    BadUrl {
        /// The address, without its query.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No answer, or one that broke off again and again.
    #[error(
        "`{url}` cannot be read: {detail}; check the connection (and HTTPS_PROXY, where there is a proxy), then try again"
    )]
    Unreachable {
        /// The address, without its query.
        url: String,
        /// What the network said last.
        detail: String,
    },
    /// 401 or 403.
    #[error("`{url}` is refused (HTTP {status}): check the address, and the token or signature that it needs")]
    Refused {
        /// The address, without its query.
        url: String,
        /// The status of the answer.
        status: u16,
    },
    /// 429, or 503 with a time to wait that is too long to wait here.
    #[error(
        "`{url}` is asked too often (HTTP {status}): try again {}, or with a token",
        .after.map_or_else(|| "later".to_owned(), |seconds| format!("in {seconds} s"))
    )]
    RateLimited {
        /// The address, without its query.
        url: String,
        /// The status of the answer.
        status: u16,
        /// Seconds to wait, where the server said so.
        after: Option<u64>,
    },
    /// Any other answer that is none.
    #[error("`{url}` is answered with HTTP {status}: try again later, or check the address")]
    Status {
        /// The address, without its query.
        url: String,
        /// The status of the answer.
        status: u16,
    },
    /// The file is not the one that was begun with.
    #[error("`{url}` changed while it was read ({detail}): open the model again")]
    Changed {
        /// The address, without its query.
        url: String,
        /// What is not as it was.
        detail: String,
    },
    /// Other bytes than those that were asked for.
    #[error(
        "`{url}` is answered with other bytes than {asked} ({got}): the server or a proxy on the way is broken; download the model instead"
    )]
    WrongRange {
        /// The address, without its query.
        url: String,
        /// The range that was asked for.
        asked: String,
        /// What came.
        got: String,
    },
    /// The server only gives whole files, and this one is too large to begin again.
    #[error(
        "`{url}` is only given as a whole, and is too large to be read up to byte {at} again: use a server that answers range requests, or download the model"
    )]
    RangesIgnored {
        /// The address, without its query.
        url: String,
        /// First byte that is wanted.
        at: u64,
    },
    /// A name that no repository can have.
    #[error(
        "`{name}` is no name of a repository ({why}): it is `organization/name` or `name`, of letters, digits, `-`, `_` and `.`"
    )]
    BadRepo {
        /// The name.
        name: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// A revision that no repository can have.
    #[error("`{revision}` is no revision ({why}): give a branch, a tag or a commit")]
    BadRevision {
        /// The revision.
        revision: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// Nobody knows where the cache is to be.
    #[error("there is no home folder to keep downloads in: set HF_HOME or HF_HUB_CACHE to a folder")]
    NoCacheFolder,
    /// The repository is not there for whoever asks.
    #[error(
        "`{repo}` does not exist on {endpoint}, or is private: check the name, or set HF_TOKEN to a token that may read it"
    )]
    RepoNotFound {
        /// The repository.
        repo: String,
        /// The Hub that was asked.
        endpoint: String,
    },
    /// The repository has terms to accept first.
    #[error(
        "`{repo}` is gated: visit {endpoint}/{repo}, accept its terms, then set HF_TOKEN to a token of that account"
    )]
    Gated {
        /// The repository.
        repo: String,
        /// The Hub that was asked.
        endpoint: String,
    },
    /// The Hub takes the token for none.
    #[error(
        "{endpoint} refuses the token: make a new one at {endpoint}/settings/tokens and set HF_TOKEN, or unset it for public models"
    )]
    TokenRefused {
        /// The Hub that was asked.
        endpoint: String,
    },
    /// The repository has no such branch, tag or commit.
    #[error(
        "`{repo}` has no revision `{revision}`: check --revision (branches, tags and commits stand at {endpoint}/{repo}/tree/main)"
    )]
    RevisionNotFound {
        /// The repository.
        repo: String,
        /// The revision.
        revision: String,
        /// The Hub that was asked.
        endpoint: String,
    },
    /// The repository lacks a file.
    #[error(
        "`{repo}` at `{revision}` has no file `{file}`: it is no checkpoint for transformers, or an incomplete one; choose another repository or revision"
    )]
    EntryNotFound {
        /// The repository.
        repo: String,
        /// The revision or commit.
        revision: String,
        /// The file.
        file: String,
    },
    /// The repository has weights in other formats only.
    #[error("`{repo}` has no safetensors weights{}: choose a repository or a revision with `model.safetensors`", .found.as_ref().map(|f| format!(", only `{f}`")).unwrap_or_default())]
    NoSafetensors {
        /// The repository.
        repo: String,
        /// Weights that it has instead.
        found: Option<String>,
    },
    /// Several GGUF files, none of which is meant more than the others, or none that is meant.
    #[error(
        "`{place}` {} {}: say which GGUF file to take (--gguf-file NAME, or the option gguf_file)",
        .meant.as_ref().map_or("has several GGUF models,".to_owned(), |meant| format!("has no one GGUF model `{meant}`, but")),
        if .found.is_empty() { "none" } else { .found }
    )]
    GgufChoice {
        /// Where.
        place: String,
        /// What is meant, if anything.
        meant: Option<String>,
        /// Names of those that there are.
        found: String,
    },
    /// No network may be used, and the cache does not have it.
    #[error(
        "`{repo}` at `{revision}` is not (or not wholly) in the cache `{cache}`, and HF_HUB_OFFLINE is set: unset it to download, or give a model that is there"
    )]
    NotCached {
        /// The repository.
        repo: String,
        /// The revision.
        revision: String,
        /// The folder of the cache.
        cache: String,
    },
    /// What was downloaded is not what was announced.
    #[error("`{file}` of `{repo}` arrived damaged ({detail}): the partial download was removed; try again")]
    Corrupt {
        /// The repository, or the address of the folder.
        repo: String,
        /// The file.
        file: String,
        /// What is wrong.
        detail: String,
    },
    /// The browser keeps nothing for this page.
    #[error(
        "this browser keeps nothing for this page ({name}: {detail}): private windows and blocked site data do that"
    )]
    Storage {
        /// The browser's name for the error.
        name: String,
        /// What it says.
        detail: String,
    },
    /// The host has no memory for what does not stay on the GPU.
    #[error(
        "the host has no room for {size} bytes of weights that do not fit on the GPU: choose fewer bits (`--dtype q4`)"
    )]
    NoRoom {
        /// Bytes.
        size: u64,
    },
    /// What was given as a SHA-256 is none.
    #[error("the digest of `{name}`, {digest:?}, is no SHA-256: give 64 hexadecimal digits")]
    BadDigest {
        /// The file.
        name: String,
        /// What was given, shortened where it is very long.
        digest: String,
    },
    /// The Hub does not answer as Hubs do.
    #[error("`{url}` does not answer as a Hub does ({detail}): check HF_ENDPOINT, and any proxy on the way")]
    HubAnswer {
        /// The address, without its query.
        url: String,
        /// What is wrong with the answer.
        detail: String,
    },
    /// The cache cannot be written.
    #[error(
        "the cache cannot be written at `{path}`: {source}; free space there, or set HF_HUB_CACHE to a folder that can be written"
    )]
    CacheWrite {
        /// The file or folder.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl SourceError {
    /// [`SourceError::GgufChoice`] of these.
    pub(crate) fn gguf_choice(place: String, meant: Option<&str>, found: &[&str]) -> Self {
        // a repository may have hundreds
        let more = if found.len() > 40 { ", ..." } else { "" };
        let found = found[..found.len().min(40)].join(", ") + more;
        Self::GgufChoice { place, meant: meant.map(str::to_owned), found }
    }
}
