//! Sources, checkpoints and tokenizers: everything below the GPU.

mod gguf;
mod hostile;
mod property;
mod safetensors;
mod sentence_piece;
mod source;
mod tokenizer;
mod vocabulary;

use std::path::PathBuf;
use webweft::source::{Memory, Source};

/// A source with these files.
fn memory<const N: usize>(files: [(&str, Vec<u8>); N]) -> Source {
    let mut memory = Memory::new();
    for (name, bytes) in files {
        memory.insert(name, bytes).expect("test names are plain");
    }
    Source::Memory(memory)
}

/// A safetensors file with this header and `data` bytes of zeros behind it.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// A folder of the shared test material, or `None`, with a line that says so, where it is absent.
fn shared(path: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared"));
    let root = std::env::var_os("WEBWEFT_SHARED").map_or_else(beside, PathBuf::from);
    let folder = root.join(path);
    if !folder.is_dir() {
        println!("SKIPPED: there is no folder {}", folder.display());
        return None;
    }
    Some(folder)
}
