//! Whether a model's files are those of an earlier run.

use sha2::{Digest, Sha256};
use webweft::source::Source;

use crate::errors::CliError;

/// Files up to this size are read whole.
const WHOLE: u64 = 16 << 20;
/// Of others their beginning, which is where the header is, and pieces of this size at so many places.
const BEGINNING: u64 = 64 << 10;
const PIECE: u64 = 4 << 10;
const PLACES: u64 = 64;

/// SHA-256 of the config, and of names, sizes and contents of the weights' files. A large file is not read again for it: of its content
/// only samples count, so that equal fingerprints are no proof of equal files; other files have other fingerprints nearly always.
pub async fn of(source: &Source, files: &[String]) -> Result<String, CliError> {
    let mut hash = Sha256::new();
    for name in ["config.json"].into_iter().chain(files.iter().map(String::as_str)) {
        // a GGUF file is its own config
        let Some(size) = source.size(name).await? else { continue };
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update(size.to_le_bytes());
        if size <= WHOLE {
            hash.update(source.read(name, 0..size).await?);
            continue;
        }
        hash.update(source.read(name, 0..BEGINNING).await?);
        for place in 1..=PLACES {
            let start = size / PLACES * place - PIECE;
            hash.update(source.read(name, start..start + PIECE).await?);
        }
    }
    Ok(hex(&hash.finalize()))
}

/// Hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use webweft::source::Memory;

    use super::*;

    fn print(config: &str, weights: Vec<u8>) -> String {
        let files = [("config.json".to_owned(), config.as_bytes().to_vec()), ("w".to_owned(), weights)];
        let source = Source::Memory(Memory::from(BTreeMap::from(files)));
        pollster::block_on(of(&source, &["w".to_owned()])).expect("files in memory")
    }

    #[test]
    fn other_files_have_another_one() {
        let small = print("{}", vec![1, 2, 3]);
        assert_eq!((small.len(), &small), (64, &print("{}", vec![1, 2, 3])));
        assert_ne!(small, print("{ }", vec![1, 2, 3]));
        assert_ne!(small, print("{}", vec![1, 2, 4]));
        let large = (WHOLE + 5) as usize;
        let mut weights = vec![0; large];
        let zeros = print("{}", weights.clone());
        assert_ne!(zeros, print("{}", vec![0; large + 1]));
        weights[large / 2 - 7..].fill(1);
        assert_ne!(zeros, print("{}", weights));
    }
}
