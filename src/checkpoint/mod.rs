//! What a checkpoint holds: names, dtypes, shapes and byte ranges. Bytes of weights are never read here, and nothing here
//! knows of a GPU.

mod dtype;
mod gguf;
mod index;
mod safetensors;

pub use dtype::Dtype;
pub use gguf::{MetaValue, Metadata};
pub(crate) use safetensors::header;

use crate::error::{CheckpointError, GgufError};
use crate::source::{Source, shorten};
use std::collections::HashMap;
use std::ops::Range;

/// The one file of a checkpoint that is not split.
pub const SINGLE: &str = "model.safetensors";
/// Which shard holds which tensor, for a checkpoint that is split.
pub const INDEX: &str = "model.safetensors.index.json";

/// Names of weights that are not read, to say so instead of "nothing there".
const UNSUPPORTED: [&str; 6] = [
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "consolidated.00.pth",
    "tf_model.h5",
    "flax_model.msgpack",
    "model.onnx",
];

/// One tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorInfo {
    /// Its name, as stored.
    pub name: String,
    /// Its element type, as stored.
    pub dtype: Dtype,
    /// Its shape, outermost dimension first (row-major); empty for a scalar.
    pub shape: Vec<u64>,
    /// Its file, as an index into [`Checkpoint::files`].
    pub file: usize,
    /// Its bytes, counted from the start of that file. The length fits shape and dtype, and lies within the file.
    pub range: Range<u64>,
}

/// The tensors of a checkpoint, in one file or many.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    files: Vec<String>,
    /// Sorted by file and start, which is the order in which they are best read.
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
    metadata: HashMap<String, String>,
}

impl Checkpoint {
    /// Reads the headers of a checkpoint: `model.safetensors`, else `model.safetensors.index.json` and its shards.
    /// Where a folder has both, the single file is taken, as transformers does.
    ///
    /// # Errors
    /// [`CheckpointError`] has one variant per way in which a file can be wrong.
    pub async fn open(source: &Source) -> Result<Self, CheckpointError> {
        if source.size(SINGLE).await?.is_some() {
            return Self::open_file(source, SINGLE).await;
        }
        if let Some(index) = index::read(source, INDEX).await? {
            return Self::open_shards(source, &index).await;
        }
        let place = source.describe();
        for name in UNSUPPORTED {
            if source.size(name).await?.is_some() {
                return Err(CheckpointError::UnsupportedFormat { place, found: name.to_owned() });
            }
        }
        Err(CheckpointError::NoWeights { place })
    }

    /// As [`Checkpoint::open`], of a file by another name.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub async fn open_file(source: &Source, file: &str) -> Result<Self, CheckpointError> {
        let mut checkpoint = Self::empty();
        checkpoint.add(source, file.to_owned()).await?;
        Ok(checkpoint.finish())
    }

    /// A model in GGUF: `file`, and where it is one of several, all of them. Returns the metadata of the first, too.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]: [`CheckpointError::Gguf`] has one variant per way in which a file can be wrong.
    pub async fn open_gguf(source: &Source, file: &str) -> Result<(Self, Metadata), CheckpointError> {
        // told as a file that is not there
        source.read(file, 0..0).await?;
        let given = gguf::read_header(source, file, 0).await?;
        let wrong = |name: &str, error| CheckpointError::Gguf { file: name.to_owned(), error };
        let key = |metadata: &Metadata, key, name: &str| metadata.u32(key).map_err(|error| wrong(name, error));
        let of = key(&given.metadata, "split.count", file)?.unwrap_or(1);
        let names = gguf::splits(file, of).map_err(|error| wrong(file, error))?;
        for shard in &names {
            if source.size(shard).await?.is_none() {
                return Err(CheckpointError::ShardMissing { file: file.to_owned(), shard: shard.clone() });
            }
        }
        let (mut given, mut metadata, mut checkpoint) = (Some(given), Metadata::default(), Self::empty());
        for (number, name) in names.iter().enumerate() {
            let header = match given.take() {
                Some(given) if name == file => given,
                other => {
                    given = other;
                    gguf::read_header(source, name, number).await?
                }
            };
            let no = key(&header.metadata, "split.no", name)?.unwrap_or(0);
            let count = key(&header.metadata, "split.count", name)?.unwrap_or(1);
            if names.len() > 1 && (no as usize, count) != (number, of) {
                let (no, expected_no) = (no.saturating_add(1), number as u32 + 1);
                return Err(wrong(name, GgufError::SplitNumber { no, of: count, expected_no, expected_of: of }));
            }
            let tensors = header.tensors.into_iter().map(|info| TensorInfo { file: number, ..info });
            checkpoint.add_all(tensors, name.clone())?;
            if number == 0 {
                metadata = header.metadata;
            }
        }
        let got = checkpoint.len() as u64;
        let promised = key(&metadata, "split.tensors.count", &names[0])?;
        if let Some(expected) = promised.map(u64::from).filter(|expected| names.len() > 1 && *expected != got) {
            return Err(wrong(&names[0], GgufError::SplitTensors { got, expected }));
        }
        Ok((checkpoint.finish(), metadata))
    }

    /// All shards, then what the index promises of them. A tensor that a shard has beyond the promise is taken along,
    /// as transformers does.
    async fn open_shards(source: &Source, index: &index::Index) -> Result<Self, CheckpointError> {
        // Asked for all shards before the first header is parsed: the common fault is a download that is not finished.
        for shard in &index.shards {
            if source.size(shard).await?.is_none() {
                return Err(CheckpointError::ShardMissing { file: INDEX.to_owned(), shard: shard.clone() });
            }
        }
        let mut checkpoint = Self::empty();
        for shard in &index.shards {
            checkpoint.add(source, shard.clone()).await?;
        }
        for (tensor, shard) in &index.weight_map {
            let shard = &index.shards[*shard];
            let found = checkpoint.get(tensor).map(|info| &checkpoint.files[info.file]);
            if found != Some(shard) {
                return Err(CheckpointError::ShardLacksTensor {
                    file: INDEX.to_owned(),
                    shard: shard.clone(),
                    tensor: shorten(tensor),
                });
            }
        }
        Ok(checkpoint.finish())
    }

    fn empty() -> Self {
        Self { files: Vec::new(), tensors: Vec::new(), by_name: HashMap::new(), metadata: HashMap::new() }
    }

    /// Adds the tensors of one file, which must not repeat a name of an earlier one.
    async fn add(&mut self, source: &Source, file: String) -> Result<(), CheckpointError> {
        let (tensors, metadata) = safetensors::read_header(source, &file, self.files.len()).await?;
        self.metadata.extend(metadata);
        self.add_all(tensors, file)
    }

    fn add_all(&mut self, tensors: impl IntoIterator<Item = TensorInfo>, file: String) -> Result<(), CheckpointError> {
        self.files.push(file);
        for tensor in tensors {
            if let Some(other) = self.get(&tensor.name) {
                let (name, first, second) = (shorten(&tensor.name), &self.files[other.file], &self.files[tensor.file]);
                return Err(if first == second {
                    CheckpointError::DuplicateTensor { file: first.clone(), tensor: name }
                } else {
                    CheckpointError::DuplicateAcrossShards {
                        tensor: name,
                        first: first.clone(),
                        second: second.clone(),
                    }
                });
            }
            self.by_name.insert(tensor.name.clone(), self.tensors.len());
            self.tensors.push(tensor);
        }
        Ok(())
    }

    /// Memory that grew while headers were read is given back: a checkpoint is held as long as its session.
    fn finish(mut self) -> Self {
        self.tensors.shrink_to_fit();
        self.by_name.shrink_to_fit();
        self
    }

    /// The tensor of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|at| &self.tensors[*at])
    }

    /// What a file's metadata says under `key`.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// All names, in byte order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.iter().map(|tensor| tensor.name.as_str())
    }

    /// The files, by name; [`TensorInfo::file`] counts in this list.
    #[must_use]
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// All tensors, sorted by file and start.
    pub fn in_byte_order(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.iter()
    }

    /// How many tensors there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// The number of weights, and whether most of them are stored as f32.
    #[must_use]
    pub fn parameters(&self) -> (u64, bool) {
        // by bytes, whose sum the files bound, not by shapes
        let sum = |only_f32: bool| -> u64 {
            let tensors = self.tensors.iter().filter(|info| !only_f32 || info.dtype == Dtype::F32);
            tensors.map(|info| info.dtype.elements_in(info.range.end - info.range.start)).sum()
        };
        (sum(false), sum(true) > sum(false) / 2)
    }

    /// Whether there is no tensor at all, which the format allows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }
}

/// The GGUF file of `source`, as [`Source::gguf`] has it; `None` where none is meant and there is a safetensors checkpoint.
///
/// # Errors
/// As [`Source::gguf`]; those of the source.
pub async fn find_gguf(source: &Source) -> Result<Option<String>, CheckpointError> {
    let found = source.gguf();
    // asked only where there is a choice: what is kept of a model may be all but its weights, and the network away
    let is_meant = source.meant().is_some() || matches!(found, Ok(None));
    if !is_meant && (source.size(SINGLE).await?.is_some() || source.size(INDEX).await?.is_some()) {
        return Ok(None);
    }
    Ok(found?)
}

/// A JSON file such as `config.json`, or `None` where there is none. Larger than `cap` bytes is an error.
///
/// # Errors
/// [`CheckpointError::Json`] with line and column, [`CheckpointError::Source`].
pub async fn read_json(source: &Source, name: &str, cap: u64) -> Result<Option<serde_json::Value>, CheckpointError> {
    let Some(bytes) = source.read_all(name, cap).await? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| CheckpointError::Json {
        file: name.to_owned(),
        line: error.line(),
        column: error.column(),
        detail: without_place(&error),
    })
}

/// What `serde_json` says, less the place, which stands in its own fields.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}
