//! What a GGUF file says of its model: keys and values.

use std::collections::BTreeMap;

use super::reader::Reader;
use crate::error::{CheckpointError, GgufError};

/// Arrays within arrays, which nothing that is read here has.
const MAX_DEPTH: u32 = 4;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MetaValue {
    /// Any integer.
    Int(i128),
    /// A float, of 32 or 64 bits.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// Text.
    Text(String),
    /// Integers, or truth values as 0 and 1.
    Ints(Vec<i64>),
    /// Floats.
    Floats(Vec<f32>),
    /// Texts.
    Texts(Vec<String>),
    /// Arrays of arrays, which are not kept.
    Nested,
}

impl MetaValue {
    /// What kind of value that is, in words.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Int(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "true or false",
            Self::Text(_) => "a text",
            Self::Ints(_) => "an array of integers",
            Self::Floats(_) => "an array of floats",
            Self::Texts(_) => "an array of texts",
            Self::Nested => "an array of arrays",
        }
    }
}

/// The metadata of a file, by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(BTreeMap<String, MetaValue>);

impl Metadata {
    /// The value of that key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&MetaValue> {
        self.0.get(key)
    }

    /// All keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &MetaValue)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// As [`get`](Self::get), of a text.
    ///
    /// # Errors
    /// [`GgufError::Kind`] where there is something else.
    pub fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.typed(key, "a text", |value| if let MetaValue::Text(text) = value { Some(text.as_str()) } else { None })
    }

    /// As [`get`](Self::get), of a size or an id.
    ///
    /// # Errors
    /// [`GgufError::Kind`] where there is something else, or a number out of range.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.typed(key, "an integer from 0 to 2^32 - 1", |value| match value {
            MetaValue::Int(n) => u32::try_from(*n).ok(),
            _ => None,
        })
    }

    /// As [`get`](Self::get), of a number.
    ///
    /// # Errors
    /// [`GgufError::Kind`] where there is something else.
    pub fn number(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.typed(key, "a finite number", |value| match value {
            MetaValue::Float(x) => Some(*x).filter(|x| x.is_finite()),
            MetaValue::Int(n) => Some(*n as f64),
            _ => None,
        })
    }

    /// As [`get`](Self::get), of a truth value.
    ///
    /// # Errors
    /// [`GgufError::Kind`] where there is something else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "true or false", |value| if let MetaValue::Bool(on) = value { Some(*on) } else { None })
    }

    /// As [`get`](Self::get), of texts; none where there is no such key.
    ///
    /// # Errors
    /// [`GgufError::Kind`] where there is something else.
    pub fn texts(&self, key: &str) -> Result<&[String], GgufError> {
        let texts = self.typed(key, "an array of texts", |value| match value {
            MetaValue::Texts(texts) => Some(texts.as_slice()),
            _ => None,
        })?;
        Ok(texts.unwrap_or_default())
    }

    /// As [`texts`](Self::texts), which are gone from here then: those of a vocabulary are many.
    ///
    /// # Errors
    /// As [`texts`](Self::texts).
    pub fn take_texts(&mut self, key: &str) -> Result<Vec<String>, GgufError> {
        self.texts(key)?;
        match self.0.remove(key) {
            Some(MetaValue::Texts(texts)) => Ok(texts),
            _ => Ok(Vec::new()),
        }
    }

    /// As [`get`](Self::get), of integers (or truth values); none where there is no such key.
    ///
    /// # Errors
    /// [`GgufError::Kind`] where there is something else.
    pub fn ints(&self, key: &str) -> Result<&[i64], GgufError> {
        let ints = self.typed(key, "an array of integers", |value| match value {
            MetaValue::Ints(ints) => Some(ints.as_slice()),
            _ => None,
        })?;
        Ok(ints.unwrap_or_default())
    }

    /// As [`get`](Self::get), of floats; none where there is no such key.
    ///
    /// # Errors
    /// [`GgufError::Kind`] where there is something else.
    pub fn floats(&self, key: &str) -> Result<&[f32], GgufError> {
        let floats = self.typed(key, "an array of floats", |value| match value {
            MetaValue::Floats(floats) => Some(floats.as_slice()),
            _ => None,
        })?;
        Ok(floats.unwrap_or_default())
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'a MetaValue) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        let wrong = || GgufError::Kind { key: key.to_owned(), expected, got: value.kind() };
        read(value).map(Some).ok_or_else(wrong)
    }

    /// Reads `count` pairs.
    pub(super) async fn read(reader: &mut Reader<'_>, count: u64) -> Result<Self, CheckpointError> {
        let mut all = BTreeMap::new();
        for _ in 0..count {
            let key = reader.text("a key of the metadata").await?;
            let kind = reader.u32("the type of a value").await?;
            let value = value(reader, kind, &key).await?;
            if all.contains_key(&key) {
                return Err(reader.error(GgufError::DuplicateKey { key: crate::source::shorten(&key) }));
            }
            all.insert(key, value);
        }
        Ok(Self(all))
    }
}

/// Numbers of the types of values (the format, "File Structure").
const ARRAY: u32 = 9;
const TEXT: u32 = 8;

/// Bytes of a value that always takes as many.
const fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

fn fixed(kind: u32, b: &[u8]) -> MetaValue {
    let mut eight = [0; 8];
    eight[..b.len()].copy_from_slice(b);
    let word = u64::from_le_bytes(eight);
    match kind {
        1 => MetaValue::Int((word as u8 as i8).into()),
        3 => MetaValue::Int((word as u16 as i16).into()),
        5 => MetaValue::Int((word as u32).cast_signed().into()),
        11 => MetaValue::Int(word.cast_signed().into()),
        6 => MetaValue::Float(f32::from_bits(word as u32).into()),
        12 => MetaValue::Float(f64::from_bits(word)),
        7 => MetaValue::Bool(word != 0),
        _ => MetaValue::Int(word.into()),
    }
}

async fn value(reader: &mut Reader<'_>, kind: u32, key: &str) -> Result<MetaValue, CheckpointError> {
    if let Some(width) = width(kind) {
        return Ok(fixed(kind, reader.bytes(width, "a value of the metadata").await?));
    }
    match kind {
        TEXT => Ok(MetaValue::Text(reader.text("a text of the metadata").await?)),
        ARRAY => array(reader, key).await,
        kind => Err(unknown(reader, key, kind)),
    }
}

fn unknown(reader: &Reader<'_>, key: &str, kind: u32) -> CheckpointError {
    reader.error(GgufError::ValueType { key: crate::source::shorten(key), kind })
}

async fn array(reader: &mut Reader<'_>, key: &str) -> Result<MetaValue, CheckpointError> {
    let mut kind = reader.u32("the type of an array").await?;
    let mut depth = 0;
    // arrays within arrays are walked over: how many are open, and how many of each are left
    let mut open: Vec<u64> = Vec::new();
    loop {
        let least = match kind {
            TEXT => 8,
            ARRAY => 12,
            _ => width(kind).ok_or_else(|| unknown(reader, key, kind))?,
        };
        let count = reader.count(least, "an array of the metadata").await?;
        if kind == ARRAY {
            depth += 1;
            if depth > MAX_DEPTH {
                return Err(unknown(reader, key, kind));
            }
            open.push(count);
        } else {
            let elements = elements(reader, kind, count).await?;
            if open.is_empty() {
                return Ok(elements);
            }
        }
        // the next inner array, if there is one
        while open.last() == Some(&0) {
            open.pop();
            depth -= 1;
        }
        let Some(left) = open.last_mut() else { return Ok(MetaValue::Nested) };
        *left -= 1;
        kind = reader.u32("the type of an array").await?;
    }
}

/// `count` elements, whose room was checked against the file.
async fn elements(reader: &mut Reader<'_>, kind: u32, count: u64) -> Result<MetaValue, CheckpointError> {
    const WHAT: &str = "an array of the metadata";
    if kind == TEXT {
        let mut texts = Vec::new();
        for _ in 0..count {
            texts.push(reader.text(WHAT).await?);
        }
        return Ok(MetaValue::Texts(texts));
    }
    let width = width(kind).unwrap_or(1);
    let is_float = matches!(kind, 6 | 12);
    let (mut floats, mut ints) = (Vec::new(), Vec::new());
    // in pieces, so that what is claimed is not allocated before it is there
    let mut left = count;
    while left > 0 {
        let some = left.min(8192);
        for b in reader.bytes(some * width, WHAT).await?.chunks_exact(width as usize) {
            match fixed(kind, b) {
                MetaValue::Float(x) => floats.push(x as f32),
                MetaValue::Bool(on) => ints.push(on.into()),
                MetaValue::Int(n) => ints.push(i64::try_from(n).unwrap_or(i64::MAX)),
                _ => {}
            }
        }
        left -= some;
    }
    Ok(if is_float { MetaValue::Floats(floats) } else { MetaValue::Ints(ints) })
}
