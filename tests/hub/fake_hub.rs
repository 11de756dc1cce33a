//! A Hub on loopback, with a second server in the part of the network that large files come from.
#![allow(dead_code, clippy::unwrap_used)] // included by several tests, none of which uses all of it; a test may panic

use crate::server::{Reply, Request, Server};
use sha1::Digest;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Who may read a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    Open,
    /// With this token; to others it is not there.
    Private(String),
    /// With this token; others see that it is there.
    Gated(String),
}

#[derive(Clone, Debug)]
pub struct Repo {
    pub access: Access,
    pub commit: String,
    /// Branches and tags that lead to the commit.
    pub revisions: Vec<String>,
    /// Bytes, and whether they lie outside git.
    pub files: BTreeMap<String, (Vec<u8>, bool)>,
}

impl Repo {
    pub fn new(files: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Self {
        let large = |name: &str| [".safetensors", ".gguf"].iter().any(|end| name.ends_with(end));
        Self {
            access: Access::Open,
            commit: COMMIT.to_owned(),
            revisions: vec!["main".to_owned(), "refs/pr/1".to_owned()],
            files: files.into_iter().map(|(name, bytes)| (name.to_owned(), (bytes, large(name)))).collect(),
        }
    }
}

/// What goes wrong, once each.
#[derive(Debug, Default)]
pub struct Faults {
    /// Bodies of downloads that break off after so many bytes.
    pub cuts: VecDeque<usize>,
    /// The next download whose path ends so has another byte there.
    pub flip: Option<(String, usize)>,
    /// Answers in place of any.
    pub instead: VecDeque<Reply>,
    /// The next large file comes so many bytes at a time, with a wait between.
    pub slow: Option<(usize, Duration)>,
    /// In place of the next large file.
    pub page: Option<Reply>,
    /// For all downloads.
    pub whole_only: bool,
    /// In place of the hash of the next file that is asked for.
    pub etag: Option<String>,
    /// In place of the commit of every answer.
    pub commit: Option<String>,
}

#[derive(Debug, Default)]
pub struct State {
    pub repos: BTreeMap<String, Repo>,
    pub renamed: BTreeMap<String, String>,
    pub faults: Faults,
}

pub struct FakeHub {
    pub server: Server,
    pub cdn: Server,
    pub state: Arc<Mutex<State>>,
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the Hub has as the ETag of a file.
pub fn etag(bytes: &[u8], large: bool) -> String {
    if large {
        return hex(&sha2::Sha256::digest(bytes));
    }
    let mut hash = sha1::Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hex(&hash.finalize())
}

impl FakeHub {
    pub fn start(name: &str, repo: Repo) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        state.lock().unwrap().repos.insert(name.to_owned(), repo);
        let of_cdn = state.clone();
        let cdn = Server::start(move |request| {
            let mut state = of_cdn.lock().unwrap();
            if let Some(page) = state.faults.page.take() {
                return page;
            }
            let hash = request.path.trim_start_matches("/blob/").to_owned();
            let files = state.repos.values().flat_map(|repo| repo.files.values());
            let found = files.filter(|(_, large)| *large).find(|(bytes, _)| etag(bytes, true) == hash).cloned();
            match found {
                Some((bytes, _)) if request.query == "signature=1" => {
                    let reply = state.faults.file(request, &bytes, "\"cdn\"");
                    Reply { slow: state.faults.slow.take(), ..reply }
                }
                _ => Reply::status(403),
            }
        });
        let (of_hub, blobs) = (state.clone(), format!("{}/blob", cdn.url));
        let server = Server::start(move |request| of_hub.lock().unwrap().answer(request, &blobs));
        Self { server, cdn, state }
    }

    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state.lock().unwrap().faults);
    }

    pub fn repo(&self, name: &str, change: impl FnOnce(&mut Repo)) {
        change(self.state.lock().unwrap().repos.get_mut(name).unwrap());
    }

    pub fn requests(&self) -> usize {
        self.server.log().len() + self.cdn.log().len()
    }
}

impl Faults {
    fn file(&mut self, request: &Request, bytes: &[u8], etag: &str) -> Reply {
        let mut bytes = bytes.to_vec();
        if request.method == "GET"
            && let Some((_, at)) = self.flip.take_if(|(end, _)| request.path.ends_with(end.as_str()))
        {
            bytes[at] ^= 1;
        }
        let mut whole = request.clone();
        if self.whole_only {
            whole.headers.remove("range");
        }
        let mut reply = Reply::file(&whole, &bytes, etag);
        if request.method == "GET" {
            reply.cut = self.cuts.pop_front();
        }
        reply
    }
}

impl State {
    fn answer(&mut self, request: &Request, blobs: &str) -> Reply {
        if let Some(reply) = self.faults.instead.pop_front() {
            return reply;
        }
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
        if let Some(rest) = request.path.strip_prefix("/api/models/") {
            let (name, rest) = split(rest, &["/revision/", "/tree/"]);
            if let Some(new) = self.renamed.get(name) {
                return Reply::status(307).with("Location", request.path.replace(name, new));
            }
            let Some(repo) = self.repos.get(name).filter(|repo| repo.shows(token.as_deref())) else {
                return error(if token.is_some() { 404 } else { 401 }, "RepoNotFound");
            };
            let revision = rest.split('/').next().unwrap_or_default().replace("%2F", "/");
            if !repo.knows(&revision) {
                return error(404, "RevisionNotFound");
            }
            return Reply::status(200).with("Content-Type", "application/json").body(
                if request.path.contains("/tree/") {
                    repo.tree()
                } else {
                    repo.info(name, request.query == "blobs=true")
                },
            );
        }
        let (name, rest) = split(request.path.trim_start_matches('/'), &["/resolve/"]);
        if let Some(new) = self.renamed.get(name) {
            return Reply::status(307).with("Location", request.path.replace(name, new));
        }
        let Some(repo) = self.repos.get(name).filter(|repo| repo.shows(token.as_deref())) else {
            return error(if token.is_some() { 404 } else { 401 }, "RepoNotFound");
        };
        if !repo.gives(token.as_deref()) {
            return error(if token.is_some() { 403 } else { 401 }, "GatedRepo");
        }
        let (revision, file) = rest.split_once('/').unwrap_or((rest, ""));
        if !repo.knows(&revision.replace("%2F", "/")) {
            return error(404, "RevisionNotFound");
        }
        let commit = self.faults.commit.clone().unwrap_or_else(|| repo.commit.clone());
        let Some((bytes, large)) = repo.files.get(file).cloned() else {
            return error(404, "EntryNotFound").with("X-Repo-Commit", commit);
        };
        let hash = self.faults.etag.take().unwrap_or_else(|| etag(&bytes, large));
        if large {
            return Reply::status(302)
                .with("X-Linked-Etag", format!("\"{hash}\""))
                .with("X-Linked-Size", bytes.len().to_string())
                .with("X-Repo-Commit", commit)
                .with("Location", format!("{blobs}/{hash}?signature=1"));
        }
        self.faults.file(request, &bytes, &format!("\"{hash}\"")).with("X-Repo-Commit", commit)
    }
}

impl Repo {
    fn shows(&self, token: Option<&str>) -> bool {
        !matches!(&self.access, Access::Private(wanted) if token != Some(wanted))
    }

    fn gives(&self, token: Option<&str>) -> bool {
        !matches!(&self.access, Access::Private(wanted) | Access::Gated(wanted) if token != Some(wanted))
    }

    fn knows(&self, revision: &str) -> bool {
        revision == self.commit || self.revisions.iter().any(|known| known == revision)
    }

    fn info(&self, name: &str, sizes: bool) -> String {
        let file = |(name, (bytes, large)): (&String, &(Vec<u8>, bool))| {
            let mut file = serde_json::json!({ "rfilename": name });
            if sizes {
                file["size"] = bytes.len().into();
                file["blobId"] = etag(bytes, false).into();
            }
            if sizes && *large {
                let sha256 = etag(bytes, true);
                file["lfs"] = serde_json::json!({ "sha256": sha256, "size": bytes.len(), "pointerSize": 134 });
            }
            file
        };
        let files: Vec<_> = self.files.iter().map(file).collect();
        serde_json::json!({ "id": name, "sha": self.commit, "siblings": files }).to_string()
    }

    fn tree(&self) -> String {
        let file = |(name, (bytes, large)): (&String, &(Vec<u8>, bool))| {
            let mut file =
                serde_json::json!({ "type": "file", "path": name, "size": bytes.len(), "oid": etag(bytes, false) });
            if *large {
                file["lfs"] = serde_json::json!({ "oid": etag(bytes, true), "size": bytes.len(), "pointerSize": 134 });
            }
            file
        };
        serde_json::Value::from(self.files.iter().map(file).collect::<Vec<_>>()).to_string()
    }
}

fn split<'a>(path: &'a str, at: &[&str]) -> (&'a str, &'a str) {
    at.iter().find_map(|at| path.split_once(at)).unwrap_or((path, ""))
}

fn error(status: u16, code: &str) -> Reply {
    Reply::status(status).with("X-Error-Code", code).with("X-Error-Message", "no")
}
