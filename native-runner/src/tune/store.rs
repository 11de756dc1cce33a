//! What was measured, in a file for each key.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use webweft::managers::tune::{Key, Tuned};

use crate::errors::CliError;
use crate::fingerprint::hex;
use crate::output::OutputFile;

/// The most bytes of a file that is read.
const MOST: u64 = 1 << 20;

/// Whether anything is known at all.
pub fn has_any() -> bool {
    folder(|name| std::env::var_os(name)).is_some_and(|folder| folder.is_dir())
}

/// What is known of `key`. A file that cannot be read, or is of another key, says nothing.
pub fn load(key: &Key) -> Option<Tuned> {
    load_from(&folder(|name| std::env::var_os(name))?, key)
}

/// Writes it down, in place of what was known.
pub fn save(tuned: &Tuned) -> Result<(), CliError> {
    let none = || CliError::Remember { path: "webweft/tune".into(), source: std::io::ErrorKind::NotFound.into() };
    save_to(&folder(|name| std::env::var_os(name)).ok_or_else(none)?, tuned)
}

fn load_from(folder: &Path, key: &Key) -> Option<Tuned> {
    let path = folder.join(name(key));
    if fs::metadata(&path).ok()?.len() > MOST {
        return None;
    }
    let tuned: Tuned = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (tuned.key == *key).then_some(tuned)
}

fn save_to(folder: &Path, tuned: &Tuned) -> Result<(), CliError> {
    let path = folder.join(name(&tuned.key));
    let failed = |source| CliError::Remember { path: path.clone(), source };
    fs::create_dir_all(folder).map_err(failed)?;
    let json = serde_json::to_vec(tuned).map_err(|error| failed(error.into()))?;
    let write = || {
        let mut file = OutputFile::create(&path)?;
        file.append(&json)?;
        file.finish()
    };
    write().map_err(|error| match error {
        CliError::OutputFile { path, source } => CliError::Remember { path, source },
        other => other,
    })
}

/// Names of adapters are no names of files.
fn name(key: &Key) -> String {
    let Key { model, dtype, cache_dtype, adapter, driver, version } = key;
    let mut hash = Sha256::new();
    for part in [model, dtype, cache_dtype, adapter, driver, version] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize()[..16]) + ".json"
}

/// `webweft/tune` in the user's folder for caches: `XDG_CACHE_HOME`, else `LOCALAPPDATA` (Windows), else `~/.cache`.
fn folder(lookup: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let get = |name| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || Some(get("HOME").or_else(|| get("USERPROFILE"))?.join(".cache"));
    Some(get("XDG_CACHE_HOME").or_else(|| get("LOCALAPPDATA")).or_else(home)?.join("webweft/tune"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::tests::tuned;

    #[test]
    fn what_is_kept_is_found_by_its_key() {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = temporary.path().join("new/tune");
        let (first, mut second) = (tuned(), tuned());
        assert_eq!(load_from(&folder, &first.key), None);
        save_to(&folder, &first).expect("kept");
        second.key.driver = "other".to_owned();
        assert_eq!(load_from(&folder, &second.key), None);
        second.points.truncate(1);
        save_to(&folder, &second).expect("kept");
        let again = Tuned { points: first.points[..2].to_vec(), ..first };
        save_to(&folder, &again).expect("kept in place of the first");
        assert_eq!(
            [load_from(&folder, &again.key), load_from(&folder, &second.key)],
            [Some(again), Some(second.clone())]
        );
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 2);
        fs::write(folder.join(name(&second.key)), "{").expect("written");
        assert_eq!(load_from(&folder, &second.key), None, "what is broken says nothing");
    }

    #[test]
    fn it_is_where_caches_are() {
        let of = |variables: &[(&str, &str)]| {
            folder(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value)))
        };
        assert_eq!(of(&[("HOME", "/h")]), Some("/h/.cache/webweft/tune".into()));
        assert_eq!(of(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]), Some("/c/webweft/tune".into()));
        assert_eq!(of(&[("HOME", "/h"), ("XDG_CACHE_HOME", "")]), Some("/h/.cache/webweft/tune".into()));
        assert_eq!(of(&[]), None);
    }
}
