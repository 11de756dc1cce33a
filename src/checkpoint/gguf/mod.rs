//! The header of a GGUF file, read as hostile bytes.
//!
//! The format (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>), little endian: `GGUF`, the version, how many tensors and
//! how many keys there are; the keys and their values; of each tensor its name, dimensions (the innermost first), type, and its offset
//! in the data, which begins at the next multiple of the alignment.

mod metadata;
mod reader;

pub use metadata::{MetaValue, Metadata};

use super::{Dtype, TensorInfo};
use crate::error::{CheckpointError, GgufError};
use crate::source::{Source, gguf as names, shorten};
use reader::Reader;

/// The first bytes of a file.
const MAGIC: &[u8; 4] = b"GGUF";
/// ggml's tensors have no more dimensions.
const MAX_RANK: u32 = 4;
/// Where a file says nothing.
const ALIGNMENT: u64 = 32;

/// A file's header.
pub(super) struct Header {
    pub metadata: Metadata,
    /// sorted by start
    pub tensors: Vec<TensorInfo>,
}

/// Reads, checks and returns the header of `file`; `number` is what its tensors carry as their file.
pub(super) async fn read_header(source: &Source, file: &str, number: usize) -> Result<Header, CheckpointError> {
    let size = source.size(file).await?.unwrap_or(0);
    let mut reader = Reader::new(source, file, size);
    let reader = &mut reader;
    let magic = reader.bytes(size.min(4), "the magic").await?;
    if magic != MAGIC {
        // what a clone without git-lfs leaves begins "version https://git-lfs..."
        if magic == b"vers" {
            return Err(CheckpointError::LfsPointer { file: file.to_owned() });
        }
        return Err(reader.error(GgufError::Magic));
    }
    match reader.u32("the version").await? {
        2 | 3 => {}
        version if (1..=3).contains(&version.swap_bytes()) => return Err(reader.error(GgufError::BigEndian)),
        version => return Err(reader.error(GgufError::Version { version })),
    }
    // a tensor takes at least 24 bytes of the header, a key 13
    let tensors = reader.count(24, "the tensors").await?;
    let keys = reader.count(13, "the keys of the metadata").await?;
    let metadata = Metadata::read(reader, keys).await?;
    let alignment = match metadata.get("general.alignment") {
        None => ALIGNMENT,
        Some(MetaValue::Int(n)) if *n > 0 && *n <= 1 << 20 && (*n & (*n - 1)) == 0 => *n as u64,
        Some(other) => {
            let got = if let MetaValue::Int(n) = other { n.to_string() } else { other.kind().to_owned() };
            return Err(reader.error(GgufError::Alignment { got }));
        }
    };
    let mut all = Vec::new();
    for _ in 0..tensors {
        all.push(tensor(reader, number, alignment).await?);
    }
    let data_start = reader.position().next_multiple_of(alignment);
    for info in &mut all {
        let end = data_start.saturating_add(info.range.end);
        if end > size {
            return Err(CheckpointError::OffsetsOutOfRange {
                file: file.to_owned(),
                tensor: shorten(&info.name),
                end: info.range.end,
                data_len: size.saturating_sub(data_start),
            });
        }
        info.range = data_start + info.range.start..end;
    }
    all.sort_unstable_by_key(|info| (info.range.start, info.range.end));
    if let Some([first, second]) = all.array_windows().find(|[first, second]| second.range.start < first.range.end) {
        let (tensor, other) = (shorten(&second.name), shorten(&first.name));
        return Err(CheckpointError::Overlap { file: file.to_owned(), tensor, other });
    }
    Ok(Header { metadata, tensors: all })
}

/// One tensor, its range counted from the beginning of the data.
async fn tensor(reader: &mut Reader<'_>, number: usize, alignment: u64) -> Result<TensorInfo, CheckpointError> {
    let name = reader.text("a tensor's name").await?;
    let rank = reader.u32("a tensor's rank").await?;
    if rank > MAX_RANK {
        return Err(reader.error(GgufError::Rank { tensor: shorten(&name), rank, most: MAX_RANK }));
    }
    let mut shape = Vec::new();
    for _ in 0..rank {
        shape.push(reader.u64("a tensor's shape").await?);
    }
    let kind = reader.u32("a tensor's type").await?;
    let offset = reader.u64("a tensor's offset").await?;
    let dtype = match Dtype::from_ggml(kind) {
        Some(dtype) => dtype,
        None => {
            let other = OTHERS.iter().find(|(number, _)| *number == kind);
            let got = other.map_or_else(|| format!("number {kind}"), |(_, name)| (*name).to_owned());
            let supported = NUMBERS.map(|(_, dtype)| dtype.name()).join(", ");
            return Err(reader.error(GgufError::TensorType { tensor: shorten(&name), got, supported }));
        }
    };
    // rows are whole blocks
    let row = shape.first().copied().unwrap_or(1);
    let rows = shape.iter().skip(1).try_fold(1_u64, |product, dim| product.checked_mul(*dim));
    let bytes = dtype.bytes_of(row).zip(rows).and_then(|(row, rows)| row.checked_mul(rows));
    let end = bytes.and_then(|bytes| offset.checked_add(bytes));
    shape.reverse();
    let (Some(end), true) = (end, offset.is_multiple_of(alignment)) else {
        let why = match (dtype.bytes_of(row), bytes) {
            (None, _) if row < u64::MAX / 8 => "has rows that are no whole blocks",
            (None, _) | (_, None) => "has more elements than any file can hold",
            _ => "begins where its alignment forbids",
        };
        let file = reader.file().to_owned();
        return Err(CheckpointError::BadShape { file, tensor: shorten(&name), shape, dtype: dtype.name(), why });
    };
    Ok(TensorInfo { name, dtype, shape, file: number, range: offset..end })
}

/// ggml's numbers of the types that are read.
const NUMBERS: [(u32, Dtype); 14] = [
    (0, Dtype::F32),
    (1, Dtype::F16),
    (30, Dtype::BF16),
    (8, Dtype::Q8_0),
    (2, Dtype::Q4_0),
    (3, Dtype::Q4_1),
    (6, Dtype::Q5_0),
    (7, Dtype::Q5_1),
    (10, Dtype::Q2_K),
    (11, Dtype::Q3_K),
    (12, Dtype::Q4_K),
    (13, Dtype::Q5_K),
    (14, Dtype::Q6_K),
    (20, Dtype::IQ4_NL),
];

/// And of those that are not.
const OTHERS: [(u32, &str); 21] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
    (4, "Q4_2"),
];

impl Dtype {
    /// The type that ggml gives this number, if it is one that is read.
    #[must_use]
    pub fn from_ggml(number: u32) -> Option<Self> {
        NUMBERS.iter().find(|(n, _)| *n == number).map(|(_, dtype)| *dtype)
    }

    /// ggml's number of the type.
    #[must_use]
    pub fn ggml_number(self) -> Option<u32> {
        NUMBERS.iter().find(|(_, dtype)| *dtype == self).map(|(number, _)| *number)
    }
}

/// The files of a model that `file` is one of.
///
/// # Errors
/// [`GgufError::SplitName`] where the metadata says that there are several, and the name does not tell theirs.
pub(super) fn splits(file: &str, count: u32) -> Result<Vec<String>, GgufError> {
    match names::split(file) {
        _ if count <= 1 => Ok(vec![file.to_owned()]),
        Some((_, _, of)) if of == count => Ok(names::parts(file)),
        _ => Err(GgufError::SplitName { count }),
    }
}
