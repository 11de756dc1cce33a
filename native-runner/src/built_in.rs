//! The model that the program carries: `assets/stories`, which `docs/built-in-model.md` describes.

use std::collections::BTreeMap;

use webweft::source::{Memory, Source};

/// What it is called where a model's name is shown.
pub const NAME: &str = "the built-in model";

macro_rules! files {
    ($($name:literal),*) => { [$(($name, include_bytes!(concat!("../../assets/stories/", $name)).as_slice())),*] };
}

const FILES: [(&str, &[u8]); 5] =
    files!["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];

/// Its files.
pub fn source() -> Source {
    let files = FILES.map(|(name, bytes)| (name.to_owned(), bytes.to_vec()));
    Source::Memory(Memory::from(BTreeMap::from(files)))
}
