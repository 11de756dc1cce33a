//! Which files of a repository are fetched: those that the engine reads.

use crate::source::{check_name, gguf};
use std::collections::{BTreeMap, BTreeSet};

pub(in crate::source) const CONFIG: &str = "config.json";
pub(in crate::source) const SINGLE: &str = "model.safetensors";
pub(in crate::source) const INDEX: &str = "model.safetensors.index.json";

/// Fetched where they are; that they are not is kept in mind, so that a commit is only asked for once.
#[cfg(not(target_arch = "wasm32"))]
pub(super) const OPTIONAL: [&str; 8] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
];

/// What a repository offers, of the names that could be files at all.
#[derive(Debug)]
pub(in crate::source) struct Listing(BTreeMap<String, Listed>);

/// What the Hub says of a file, where it was asked to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::source) struct Listed {
    pub size: Option<u64>,
    /// Of a large file.
    pub sha256: Option<String>,
    /// Another word for its content: the hash that git has of it.
    pub blob: Option<String>,
}

/// Where the weights are.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::source) enum WeightFiles {
    Single,
    /// In the shards that the index names.
    Sharded,
    /// In these GGUF files.
    Gguf(Vec<String>),
    /// Only in a format that is not read, or nowhere.
    Other(Option<String>),
}

impl Listing {
    /// The server's names are as hostile as any: what could leave a folder is left out, and so is what lies in folders, since
    /// nothing there is read.
    pub fn new(files: impl IntoIterator<Item = (String, Listed)>) -> Self {
        let plain = |name: &String| !name.contains('/') && check_name(name).is_ok();
        Self(files.into_iter().filter(|(name, _)| plain(name)).collect())
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    #[cfg(target_arch = "wasm32")]
    pub fn all(&self) -> &BTreeMap<String, Listed> {
        &self.0
    }

    pub fn names(&self) -> impl Iterator<Item = String> {
        self.0.keys().cloned()
    }

    /// SHA-256 of the files that the Hub has one of.
    pub fn digests(&self) -> BTreeMap<String, String> {
        let digest = |(name, file): (&String, &Listed)| Some((name.clone(), file.sha256.clone()?));
        self.0.iter().filter_map(digest).collect()
    }

    /// Everything but the weights.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn small_files(&self) -> Vec<&str> {
        let is_template = |name: &str| name.rsplit_once('.').is_some_and(|(_, extension)| extension == "jinja");
        self.0
            .keys()
            .map(String::as_str)
            .filter(|name| *name == CONFIG || OPTIONAL.contains(name) || is_template(name))
            .collect()
    }

    /// `meant`: which GGUF file; the names of those that could be, where that leaves none or several.
    pub fn weights(&self, meant: Option<&str>) -> Result<WeightFiles, Vec<&str>> {
        let names = || self.0.keys().map(String::as_str);
        // Where there are both, the single file is read.
        Ok(if meant.is_none() && self.has(SINGLE) {
            WeightFiles::Single
        } else if meant.is_none() && self.has(INDEX) {
            WeightFiles::Sharded
        } else if let Some(file) = gguf::choose(names(), meant)? {
            WeightFiles::Gguf(gguf::parts(file))
        } else {
            let known = [".safetensors", "pytorch_model.bin", "pytorch_model.bin.index.json", ".bin", ".onnx", ".h5"];
            let found = known.iter().find_map(|end| self.0.keys().find(|name| name.ends_with(end)));
            WeightFiles::Other(found.cloned())
        })
    }
}

/// The shards that an index names, or why it names none. Names with a path in them are refused, as they are when the index is
/// read.
pub(in crate::source) fn shards(index: &[u8]) -> Result<Vec<String>, String> {
    let json: serde_json::Value = serde_json::from_slice(index).map_err(|error| error.to_string())?;
    let map = json.get("weight_map").and_then(serde_json::Value::as_object).ok_or("it has no weight_map")?;
    let mut names = BTreeSet::new();
    for file in map.values() {
        let name = file.as_str().ok_or("its weight_map has what is no name")?;
        if name.contains('/') || check_name(name).is_err() {
            return Err(format!("it names the shard {name:.100?}"));
        }
        names.insert(name.to_owned());
    }
    Ok(names.into_iter().collect())
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    fn listing(names: &[&str]) -> Listing {
        Listing::new(names.iter().map(|&name| (name.to_owned(), Listed::default())))
    }

    #[test]
    fn only_what_is_read_is_fetched() {
        let listing = listing(&[
            ".gitattributes",
            "README.md",
            "config.json",
            "tokenizer.json",
            "chat_template.jinja",
            "tool_use.jinja",
            "pytorch_model.bin",
            "onnx/model.onnx",
            "onnx/config.json",
            "../config.json",
            "/etc/passwd",
            "a\\b.jinja",
            "model.safetensors",
            "consolidated.safetensors",
            "vocab.txt",
        ]);
        assert_eq!(listing.small_files(), ["chat_template.jinja", "config.json", "tokenizer.json", "tool_use.jinja"]);
        assert_eq!(listing.weights(None), Ok(WeightFiles::Single));
    }

    #[test]
    fn weights_are_found_or_named() {
        let of = |names: &[&str]| listing(names).weights(None).expect("one choice");
        assert_eq!(of(&[INDEX, "model-1.safetensors"]), WeightFiles::Sharded);
        assert_eq!(of(&[INDEX, SINGLE]), WeightFiles::Single);
        assert_eq!(of(&["README.md"]), WeightFiles::Other(None));
        assert_eq!(of(&["README.md", "pytorch_model.bin"]), WeightFiles::Other(Some("pytorch_model.bin".into())));
        assert_eq!(of(&["pytorch_model.bin", "x.gguf"]), WeightFiles::Gguf(vec!["x.gguf".into()]));
        assert_eq!(of(&[SINGLE, "x.gguf"]), WeightFiles::Single);
        let both = listing(&[SINGLE, "m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf", "m-Q4_0.gguf"]);
        let parts = ["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"].map(String::from).to_vec();
        assert_eq!(both.weights(Some("Q8_0")), Ok(WeightFiles::Gguf(parts)));
        assert_eq!(both.weights(Some("Q2_K")).map_err(|found| found.len()), Err(2));
    }

    #[test]
    fn an_index_names_plain_shards() {
        let index = br#"{"weight_map": {"a": "s2.safetensors", "b": "s1.safetensors", "c": "s2.safetensors"}}"#;
        assert_eq!(shards(index).expect("shards"), ["s1.safetensors", "s2.safetensors"]);
        for bad in [&b"{"[..], b"{}", b"[]", br#"{"weight_map": {"a": 1}}"#, br#"{"weight_map": {"a": "../x"}}"#] {
            assert!(shards(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
