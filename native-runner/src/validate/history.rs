//! What earlier runs found: a file with a line of JSON for each. Lines are only ever added.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::args::Validate;
use super::report::{Change, Format, Report};
use crate::errors::CliError;

/// The most bytes of a history that are read, from its end.
const MOST: u64 = 16 << 20;

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When, UTC.
    pub date: String,
    /// Of this program.
    pub version: String,
    /// As it was given; of a folder, its path.
    pub model: String,
    /// Of its files.
    pub fingerprint: String,
    /// The baseline: dtype, and the model if it was another.
    pub against: String,
    /// The text's digest.
    pub text: String,
    /// On what.
    pub adapter: String,
    /// Positions of a window.
    pub context: usize,
    /// From one window to the next.
    pub stride: usize,
    /// Positions of a window that are given.
    #[serde(default)]
    pub prompt: usize,
    /// Tokens that were predicted.
    pub predictions: usize,
    /// What was found.
    pub formats: Vec<Past>,
}

/// One format of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// What it is called.
    pub name: String,
    /// How it keeps keys and values; of runs that were before this was told, nothing.
    #[serde(default)]
    pub cache: String,
    /// And how many of them.
    #[serde(default)]
    pub policy: String,
    /// Perplexity.
    pub perplexity: Option<f64>,
    /// Over the baseline's.
    pub perplexity_ratio: Option<f64>,
    /// Mean divergence.
    pub kl: Option<f64>,
    /// Agreement.
    pub top1: Option<f64>,
    /// Of the worst layer.
    pub layer_error: Option<f64>,
    /// Bytes of weights.
    pub weights: u64,
    /// Bytes at most.
    pub peak: u64,
    /// Tokens per second of a prompt.
    pub prefill_tps: Option<f64>,
    /// And of new ones.
    pub decode_tps: Option<f64>,
    /// Whether all thresholds held.
    pub pass: bool,
}

impl Entry {
    /// What a report leaves for later.
    pub fn of(report: &Report) -> Self {
        let Report { model, against, text, .. } = report;
        let other = if against.name == model.name { String::new() } else { format!(" of {}", against.name) };
        Self {
            date: report.date.clone(),
            version: report.version.to_owned(),
            model: model.name.clone(),
            fingerprint: model.fingerprint.clone(),
            against: format!("{}{other}", report.baseline.name),
            text: text.digest.clone(),
            adapter: report.adapter.clone(),
            context: text.context,
            stride: text.stride,
            prompt: text.prompt,
            predictions: text.predictions,
            formats: report.formats.iter().map(Past::of).collect(),
        }
    }

    /// Whether two runs can be compared: the same model by name, baseline, text, windows and adapter.
    pub fn same(&self, other: &Self) -> bool {
        let key = |e: &Self| (e.context, e.stride, e.prompt, e.predictions);
        let names = |e: &Self| [&e.model, &e.against, &e.text, &e.adapter].map(String::clone);
        key(self) == key(other) && names(self) == names(other)
    }

    /// The format of that name.
    pub fn format(&self, name: &str) -> Option<&Past> {
        self.formats.iter().find(|past| past.name == name)
    }
}

impl Past {
    fn of(f: &Format) -> Self {
        let finite = |value: f64| Some(value).filter(|v| v.is_finite());
        Self {
            name: f.name.clone(),
            cache: f.cache.to_owned(),
            policy: f.policy.clone(),
            perplexity: f.quality.and_then(|q| finite(q.perplexity.value)),
            perplexity_ratio: f.quality.and_then(|q| finite(q.perplexity_ratio.value)),
            kl: f.quality.and_then(|q| finite(q.kl.mean)),
            top1: f.quality.and_then(|q| finite(q.top1)),
            layer_error: f.worst_layer().and_then(|(_, error)| finite(error)),
            weights: f.memory.weights,
            peak: f.memory.peak,
            prefill_tps: f.speed.prefill_tps,
            decode_tps: f.speed.decode_tps,
            pass: f.pass,
        }
    }
}

/// What became of a format since the last of these runs that has it.
pub fn change(now: &Entry, name: &str, earlier: &[Entry]) -> Option<Change> {
    let (before, past) = earlier.iter().rev().find_map(|entry| Some((entry, entry.format(name)?)))?;
    let present = now.format(name)?;
    // a number that was read from JSON may be off in its last bit
    let same = |difference: f64| if difference.abs() < 1e-12 { 0.0 } else { difference };
    let difference = |value: fn(&Past) -> Option<f64>| Some(same(value(present)? - value(past)?));
    Some(Change {
        since: before.date.clone(),
        perplexity_ratio: difference(|p| p.perplexity_ratio),
        kl: difference(|p| p.kl),
        decode_tps: present.decode_tps.zip(past.decode_tps).map(|(now, then)| now / then),
        other_files: now.fingerprint != before.fingerprint,
    })
}

/// The file.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    file: File,
    /// whether its last line was never ended
    torn: bool,
}

impl History {
    /// Opens, or makes, the file that the flags name, and reads it; `None` where there is to be none. Warns of lines that are no runs.
    pub fn open(args: &Validate, warn: impl FnMut(&str)) -> Result<Option<(Self, Vec<Entry>)>, CliError> {
        let default = || default_path(|name| std::env::var_os(name));
        match (&args.history, args.no_history) {
            (_, true) => Ok(None),
            (Some(path), _) => Self::of(path, warn).map(Some),
            (None, _) => default().map(|path| Self::of(&path, warn)).transpose(),
        }
    }

    fn of(path: &Path, mut warn: impl FnMut(&str)) -> Result<(Self, Vec<Entry>), CliError> {
        let failed = |source| CliError::History { path: path.into(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        let bytes = tail(&file).map_err(failed)?;
        let (mut entries, mut wrong) = (Vec::new(), 0);
        for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            match serde_json::from_slice(line) {
                Ok(entry) => entries.push(entry),
                Err(_) => wrong += 1,
            }
        }
        if wrong > 0 {
            let lines = if wrong == 1 { "1 line".to_owned() } else { format!("{wrong} lines") };
            warn(&format!("{lines} of the history `{}` cannot be read, and left as they are", path.display()));
        }
        let torn = bytes.last().is_some_and(|&last| last != b'\n');
        Ok((Self { path: path.into(), file, torn }, entries))
    }

    /// Adds a line, by one write at the file's end, so that runs at the same time do not mix theirs.
    pub fn append(mut self, entry: &Entry) -> Result<(), CliError> {
        let failed = |source| CliError::History { path: self.path.clone(), source };
        let mut line = if self.torn { b"\n".to_vec() } else { Vec::new() };
        serde_json::to_writer(&mut line, entry).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(failed)
    }
}

/// The file's end, from a line's beginning on.
fn tail(mut file: &File) -> io::Result<Vec<u8>> {
    use std::io::{Seek, SeekFrom};
    let mut bytes = Vec::new();
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Ok(bytes); // what is no file remembers nothing
    }
    let skipped = meta.len().saturating_sub(MOST);
    file.seek(SeekFrom::Start(skipped))?;
    file.take(MOST).read_to_end(&mut bytes)?;
    if skipped > 0 {
        let line = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
        bytes.drain(..line);
    }
    Ok(bytes)
}

/// `webweft/validate.jsonl` in the user's folder for state: `XDG_STATE_HOME`, else `LOCALAPPDATA` (Windows), else `~/.local/state`.
fn default_path(lookup: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
    let get = |name| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || Some(get("HOME").or_else(|| get("USERPROFILE"))?.join(".local/state"));
    let state = get("XDG_STATE_HOME").or_else(|| get("LOCALAPPDATA")).or_else(home)?;
    Some(state.join("webweft/validate.jsonl"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::validate::report::tests::format;

    fn entry(date: &str, ratio: f64) -> Entry {
        let past = Past { perplexity_ratio: Some(ratio), ..Past::of(&format("q4", 0.01, 1000)) };
        Entry {
            date: date.to_owned(),
            version: "1".to_owned(),
            model: "m".to_owned(),
            fingerprint: "f".to_owned(),
            against: "f32".to_owned(),
            text: "t".to_owned(),
            adapter: "a".to_owned(),
            context: 512,
            stride: 511,
            prompt: 0,
            predictions: 3,
            formats: vec![past],
        }
    }

    #[test]
    fn lines_are_added_and_none_is_lost() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/history.jsonl");
        let mut warnings = Vec::new();
        let (history, earlier) = History::of(&path, |w| warnings.push(w.to_owned())).expect("a new one");
        assert!(earlier.is_empty());
        history.append(&entry("1", 1.1)).expect("written");
        // a line that another program wrote, and one that was torn
        let before = [fs::read(&path).expect("a line"), b"{\"date\": 7}\n\xff\xfe\n{\"da".to_vec()].concat();
        fs::write(&path, &before).expect("written");
        let (history, earlier) = History::of(&path, |w| warnings.push(w.to_owned())).expect("it is there");
        assert_eq!(earlier, [entry("1", 1.1)]);
        assert!(warnings.len() == 1 && warnings[0].contains("3 lines"), "{warnings:?}");
        history.append(&entry("2", 1.2)).expect("written");
        let after = fs::read(&path).expect("lines");
        assert!(after.starts_with(&before) && after.ends_with(b"}\n"));
        let (_, both) = History::of(&path, |_| ()).expect("it is there");
        assert_eq!(both, [entry("1", 1.1), entry("2", 1.2)]);
    }

    #[test]
    fn changes_are_since_the_last_run_of_the_same() {
        let (now, earlier) = (entry("3", 1.3), [entry("1", 1.1), entry("2", 1.25)]);
        let told = change(&now, "q4", &earlier).expect("there were some");
        assert!((told.perplexity_ratio.expect("a ratio") - 0.05).abs() < 1e-12 && told.since == "2");
        assert_eq!((told.kl, told.decode_tps, told.other_files), (Some(0.0), Some(1.0), false));
        assert!(change(&now, "q8", &earlier).is_none());
        assert!(now.same(&earlier[0]));
        for other in [
            Entry { text: "x".to_owned(), ..now.clone() },
            Entry { adapter: "x".to_owned(), ..now.clone() },
            Entry { against: "f16".to_owned(), ..now.clone() },
            Entry { context: 64, ..now.clone() },
            Entry { prompt: 256, ..now.clone() },
        ] {
            assert!(!now.same(&other));
        }
        let changed = Entry { fingerprint: "g".to_owned(), ..now.clone() };
        assert!(now.same(&changed) && change(&changed, "q4", &earlier).expect("some").other_files);
    }

    #[test]
    fn the_file_is_where_state_is_kept() {
        let of = |variables: &[(&str, &str)]| {
            default_path(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v)))
        };
        assert_eq!(of(&[("HOME", "/h")]), Some("/h/.local/state/webweft/validate.jsonl".into()));
        assert_eq!(of(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s")]), Some("/s/webweft/validate.jsonl".into()));
        assert_eq!(
            of(&[("HOME", "/h"), ("XDG_STATE_HOME", "")]),
            Some("/h/.local/state/webweft/validate.jsonl".into())
        );
        assert_eq!(of(&[]), None);
    }
}
