//! What was measured on this machine, in a file for each key.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::errors::CliError;
use crate::fingerprint::hex;
use crate::output::OutputFile;

/// The most bytes of a file that is read.
const MOST: u64 = 1 << 20;
/// The same of compiled kernels.
const MOST_BYTES: u64 = 1 << 28;

/// Whether anything of a kind is known at all.
pub fn has_any(kind: &str) -> bool {
    folder(kind, |name| std::env::var_os(name)).is_some_and(|folder| folder.is_dir())
}

/// What is known of `key`. A file that cannot be read says nothing.
pub fn load<T: DeserializeOwned>(kind: &str, key: &[impl AsRef<str>]) -> Option<T> {
    load_from(&folder(kind, |name| std::env::var_os(name))?, key)
}

/// Writes it down, in place of what was known.
pub fn save<T: Serialize>(kind: &str, key: &[impl AsRef<str>], known: &T) -> Result<(), CliError> {
    let none =
        || CliError::Remember { path: Path::new("webweft").join(kind), source: std::io::ErrorKind::NotFound.into() };
    save_to(&folder(kind, |name| std::env::var_os(name)).ok_or_else(none)?, key, known)
}

/// Bytes that were kept as they are.
pub fn load_bytes(kind: &str, key: &[impl AsRef<str>]) -> Option<Vec<u8>> {
    read(&folder(kind, |name| std::env::var_os(name))?.join(name(key) + ".bin"), MOST_BYTES)
}

/// As [`save`], of bytes.
pub fn save_bytes(kind: &str, key: &[impl AsRef<str>], bytes: &[u8]) -> Result<(), CliError> {
    write(&own_folder(kind)?, &(name(key) + ".bin"), bytes)
}

fn own_folder(kind: &str) -> Result<PathBuf, CliError> {
    let path = || Path::new("webweft").join(kind);
    folder(kind, |name| std::env::var_os(name))
        .ok_or_else(|| CliError::Remember { path: path(), source: std::io::ErrorKind::NotFound.into() })
}

fn load_from<T: DeserializeOwned>(folder: &Path, key: &[impl AsRef<str>]) -> Option<T> {
    serde_json::from_slice(&read(&folder.join(name(key) + ".json"), MOST)?).ok()
}

fn save_to<T: Serialize>(folder: &Path, key: &[impl AsRef<str>], known: &T) -> Result<(), CliError> {
    let file = name(key) + ".json";
    let failed = |error: serde_json::Error| CliError::Remember { path: folder.join(&file), source: error.into() };
    write(folder, &file, &serde_json::to_vec(known).map_err(failed)?)
}

fn read(path: &Path, most: u64) -> Option<Vec<u8>> {
    (fs::metadata(path).ok()?.len() <= most).then(|| fs::read(path).ok())?
}

fn write(folder: &Path, file: &str, bytes: &[u8]) -> Result<(), CliError> {
    let path = folder.join(file);
    let failed = |source| CliError::Remember { path: path.clone(), source };
    fs::create_dir_all(folder).map_err(failed)?;
    let write = || {
        let mut file = OutputFile::create(&path)?;
        file.append(bytes)?;
        file.finish()
    };
    write().map_err(|error| match error {
        CliError::OutputFile { path, source } => CliError::Remember { path, source },
        other => other,
    })
}

/// Names of adapters are no names of files.
fn name(key: &[impl AsRef<str>]) -> String {
    let mut hash = Sha256::new();
    for part in key.iter().map(AsRef::as_ref) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize()[..16])
}

/// `webweft/KIND` in the user's folder for caches: `XDG_CACHE_HOME`, else `LOCALAPPDATA` (Windows), else `~/.cache`.
fn folder(kind: &str, lookup: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let get = |name| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || Some(get("HOME").or_else(|| get("USERPROFILE"))?.join(".cache"));
    Some(get("XDG_CACHE_HOME").or_else(|| get("LOCALAPPDATA")).or_else(home)?.join("webweft").join(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_by_its_key() {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = temporary.path().join("new/tune");
        let (first, second) = (["model", "adapter"], ["mode", "ladapter"]);
        let load = |key: &[&str; 2]| load_from::<Vec<u32>>(&folder, key);
        assert_eq!(load(&first), None);
        save_to(&folder, &first, &[1, 2, 3]).expect("kept");
        assert_eq!(load(&second), None, "parts of a key do not run together");
        save_to(&folder, &second, &[4]).expect("kept");
        save_to(&folder, &first, &[1, 2]).expect("kept in place of the first");
        assert_eq!([load(&first), load(&second)], [Some(vec![1, 2]), Some(vec![4])]);
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 2);
        fs::write(folder.join(name(&second) + ".json"), "{").expect("written");
        assert_eq!(load(&second), None, "what is broken says nothing");
    }

    #[test]
    fn it_is_where_caches_are() {
        let of = |variables: &[(&str, &str)]| {
            folder("tune", |name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value)))
        };
        assert_eq!(of(&[("HOME", "/h")]), Some("/h/.cache/webweft/tune".into()));
        assert_eq!(of(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]), Some("/c/webweft/tune".into()));
        assert_eq!(of(&[("HOME", "/h"), ("XDG_CACHE_HOME", "")]), Some("/h/.cache/webweft/tune".into()));
        assert_eq!(of(&[]), None);
    }
}
