//! What the baseline says, kept in a file: both models at once may be more than the GPU holds, and the logits of a text more than
//! the machine's memory does.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use crate::errors::CliError;

/// Numbers that are written once, and read in the same order any number of times. The file has no name: it is gone when the program is,
/// however that ends.
#[derive(Debug)]
pub struct Spool(BufWriter<File>);

/// Reads from the beginning.
#[derive(Debug)]
pub struct Reader<'a>(BufReader<&'a File>);

impl Spool {
    /// An empty one, in the folder for temporary files.
    pub fn new() -> Result<Self, CliError> {
        Ok(Self(BufWriter::with_capacity(1 << 20, tempfile::tempfile().map_err(failed)?)))
    }

    /// Writes what comes next.
    pub fn write(&mut self, values: &[f32]) -> Result<(), CliError> {
        values.iter().try_for_each(|value| self.0.write_all(&value.to_le_bytes())).map_err(failed)
    }

    /// From the beginning.
    pub fn reader(&mut self) -> Result<Reader<'_>, CliError> {
        self.0.flush().and_then(|()| self.0.seek(SeekFrom::Start(0)).map(drop)).map_err(failed)?;
        Ok(Reader(BufReader::with_capacity(1 << 20, self.0.get_ref())))
    }
}

impl Reader<'_> {
    /// The next `count` numbers.
    pub fn read(&mut self, count: usize) -> Result<Vec<f32>, CliError> {
        let mut bytes = vec![0; count * 4];
        self.0.read_exact(&mut bytes).map_err(failed)?;
        Ok(bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
    }
}

fn failed(source: io::Error) -> CliError {
    CliError::Spool { folder: std::env::temp_dir(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_often_as_wanted() {
        let mut spool = Spool::new().expect("a temporary folder");
        let values: Vec<f32> = (0..300_000).map(|i| i as f32 * 0.5).collect();
        for part in values.chunks(257) {
            spool.write(part).expect("room");
        }
        for _ in 0..2 {
            let mut reader = spool.reader().expect("it can be read");
            assert_eq!(reader.read(1).expect("one"), [0.0]);
            assert_eq!(reader.read(299_999).expect("the others"), &values[1..]);
            assert!(matches!(reader.read(1), Err(CliError::Spool { .. })), "there are no more");
        }
    }
}
