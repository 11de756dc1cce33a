//! The header of a safetensors file, read as hostile bytes.
//!
//! The format (<https://github.com/huggingface/safetensors>, "Format"): 8 bytes with the length of the header, little
//! endian; the header, a JSON object from tensor names to dtype, shape and offsets; the data, which the tensors fill
//! without overlap and without holes. Read here and not with the crate `safetensors`, which keeps the last of two
//! equal names and tells neither file nor tensor in its errors; the tests hold both against each other.

use super::{Dtype, TensorInfo};
use crate::error::CheckpointError;
use crate::source::{Source, shorten};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::marker::PhantomData;

/// Longest header that the format allows.
const HEADER_CAP: u64 = 100_000_000;
/// Bytes of the header's length.
const LENGTH: u64 = 8;
/// No tensor of a model has more dimensions; without a cap a header of ones takes four times its size in memory.
const MAX_RANK: usize = 16;

/// What stands under `__metadata__`.
type Metadata = BTreeMap<String, String>;

/// Reads, checks and returns the tensors of `file`, sorted by their start, and its metadata; `number` is what they carry as their file.
pub(super) async fn read_header(
    source: &Source,
    file: &str,
    number: usize,
) -> Result<(Vec<TensorInfo>, Metadata), CheckpointError> {
    let size = source.size(file).await?.unwrap_or(0);
    let name = || file.to_owned();
    if size < LENGTH {
        return Err(CheckpointError::TooShort { file: name(), size });
    }
    let mut length = [0; LENGTH as usize];
    for (to, from) in length.iter_mut().zip(source.read(file, 0..LENGTH).await?.iter()) {
        *to = *from;
    }
    // What a clone without git-lfs leaves begins "version https://git-lfs...".
    if &length == b"version " {
        return Err(CheckpointError::LfsPointer { file: name() });
    }
    let len = u64::from_le_bytes(length);
    if len > HEADER_CAP {
        return Err(CheckpointError::HeaderTooLong { file: name(), len, cap: HEADER_CAP });
    }
    // `len` is capped and `size` is at least LENGTH: neither side can overflow.
    let data_start = LENGTH + len;
    let Some(data_len) = size.checked_sub(data_start) else {
        return Err(CheckpointError::HeaderBeyondFile { file: name(), len, size });
    };
    let header = source.read(file, LENGTH..data_start).await?;
    let (raw, metadata) = parse(file, &header)?;

    let mut tensors = Vec::with_capacity(raw.len());
    for (tensor, raw) in raw {
        tensors.push(check(file, number, data_start, data_len, tensor, raw)?);
    }
    // An empty tensor may begin where a filled one does: by its end it comes first.
    tensors.sort_unstable_by_key(|tensor| (tensor.range.start, tensor.range.end));
    check_layout(file, data_start, data_len, &tensors)?;
    Ok((tensors, metadata))
}

/// How a file begins whose tensors, by name, have these entries; their data follow.
pub(crate) fn header(tensors: serde_json::Map<String, serde_json::Value>) -> Vec<u8> {
    let mut header = serde_json::Value::Object(tensors).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(LENGTH as usize), b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.append(&mut header);
    file
}

/// A tensor's entry as the header has it.
#[derive(serde::Deserialize)]
struct Raw {
    dtype: String,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// The header's tensors in its own order, and its metadata.
fn parse(file: &str, header: &[u8]) -> Result<(Vec<(String, Raw)>, Metadata), CheckpointError> {
    let text = std::str::from_utf8(header)
        .map_err(|error| CheckpointError::HeaderNotUtf8 { file: file.to_owned(), at: error.valid_up_to() })?;
    let bad = |detail: String| CheckpointError::HeaderJson { file: file.to_owned(), detail };
    // The format asks for this, so that no file can be two formats at once.
    if !text.starts_with('{') {
        return Err(bad("it does not begin with `{`".to_owned()));
    }
    let Pairs(entries) = serde_json::from_str::<Pairs<Value>>(text).map_err(|error| bad(error.to_string()))?;
    if let Some(tensor) = duplicate(entries.iter().map(|(name, _)| name.as_str())) {
        return Err(CheckpointError::DuplicateTensor { file: file.to_owned(), tensor: shorten(tensor) });
    }
    let (mut tensors, mut metadata) = (Vec::with_capacity(entries.len()), BTreeMap::new());
    for (name, value) in entries {
        match value {
            Value::Tensor(raw) => tensors.push((name, raw)),
            Value::Metadata(map) => metadata = map,
        }
    }
    Ok((tensors, metadata))
}

/// Checks one tensor in itself: dtype, shape, offsets, and that they agree.
fn check(
    file: &str,
    number: usize,
    data_start: u64,
    data_len: u64,
    name: String,
    raw: Raw,
) -> Result<TensorInfo, CheckpointError> {
    let file = || file.to_owned();
    let tensor = || shorten(&name);
    let Some(dtype) = Dtype::from_name(&raw.dtype) else {
        let known: Vec<_> = Dtype::SAFETENSORS.iter().map(|dtype| dtype.name()).collect();
        return Err(CheckpointError::UnknownDtype {
            file: file(),
            tensor: tensor(),
            dtype: shorten(&raw.dtype),
            known: known.join(", "),
        });
    };
    let (begin, end) = raw.data_offsets;
    let Some(got) = end.checked_sub(begin) else {
        return Err(CheckpointError::OffsetsReversed { file: file(), tensor: tensor(), begin, end });
    };
    let shape = raw.shape.0;
    let elements = shape.iter().try_fold(1_u64, |product, dim| product.checked_mul(*dim));
    let Some(expected) = elements.and_then(|elements| dtype.bytes_of(elements)) else {
        let is_small = elements.is_some_and(|elements| elements < u64::MAX / 8);
        let why = if is_small { "does not end at a whole byte" } else { "has more elements than any file can hold" };
        return Err(CheckpointError::BadShape { file: file(), tensor: tensor(), shape, dtype: dtype.name(), why });
    };
    if got != expected {
        return Err(CheckpointError::LengthMismatch { file: file(), tensor: tensor(), expected, got });
    }
    if end > data_len {
        return Err(CheckpointError::OffsetsOutOfRange { file: file(), tensor: tensor(), end, data_len });
    }
    // Within the file, as `end <= data_len` and `data_start + data_len` is the file's size: no overflow.
    let range = data_start + begin..data_start + end;
    Ok(TensorInfo { name, dtype, shape, file: number, range })
}

/// Checks that the tensors, sorted by start, fill the data: no overlap, no hole, nothing behind them.
fn check_layout(file: &str, data_start: u64, data_len: u64, tensors: &[TensorInfo]) -> Result<(), CheckpointError> {
    let mut filled = data_start;
    let mut before = "";
    for tensor in tensors {
        if tensor.range.start < filled {
            return Err(CheckpointError::Overlap {
                file: file.to_owned(),
                tensor: shorten(&tensor.name),
                other: shorten(before),
            });
        }
        if tensor.range.start > filled {
            return Err(CheckpointError::Hole {
                file: file.to_owned(),
                tensor: shorten(&tensor.name),
                len: tensor.range.start - filled,
            });
        }
        filled = tensor.range.end;
        before = &tensor.name;
    }
    match data_start + data_len - filled {
        0 => Ok(()),
        len => Err(CheckpointError::TrailingBytes { file: file.to_owned(), len }),
    }
}

/// The first name that comes again.
pub(super) fn duplicate<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = HashSet::with_capacity(names.len());
    names.into_iter().find(|name| !seen.insert(*name))
}

/// A value of the header: a tensor, or what stands under `__metadata__`.
enum Value {
    Tensor(Raw),
    Metadata(Metadata),
}

/// How a value is read once its key is known.
pub(super) trait Keyed: Sized {
    /// Takes the value that belongs to `key`.
    fn next<'de, A: MapAccess<'de>>(key: &str, map: &mut A) -> Result<Self, A::Error>;
}

impl Keyed for Value {
    fn next<'de, A: MapAccess<'de>>(key: &str, map: &mut A) -> Result<Self, A::Error> {
        if key == "__metadata__" {
            // From string to string, says the format.
            return map.next_value().map(Self::Metadata);
        }
        map.next_value().map(Self::Tensor)
    }
}

impl Keyed for String {
    fn next<'de, A: MapAccess<'de>>(_: &str, map: &mut A) -> Result<Self, A::Error> {
        map.next_value()
    }
}

/// A JSON object as its pairs, in order: the maps of `serde` drop the first of two equal keys without a word.
pub(super) struct Pairs<V>(pub(super) Vec<(String, V)>);

impl<'de, V: Keyed> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<V>(PhantomData<V>);

        impl<'de, V: Keyed> Visitor<'de> for Object<V> {
            type Value = Pairs<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a key per tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    let value = V::next(&key, &mut map)
                        .map_err(|error| A::Error::custom(format!("{:?}: {error}", shorten(&key))))?;
                    pairs.push((key, value));
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Object(PhantomData))
    }
}

/// A shape of at most [`MAX_RANK`] dimensions.
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dims;

        impl<'de> Visitor<'de> for Dims {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a shape of at most {MAX_RANK} dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut dims = Vec::new();
                while let Some(dim) = seq.next_element()? {
                    if dims.len() == MAX_RANK {
                        return Err(A::Error::invalid_length(MAX_RANK + 1, &self));
                    }
                    dims.push(dim);
                }
                Ok(Shape(dims))
            }
        }

        deserializer.deserialize_seq(Dims)
    }
}
