//! Inputs of `forward`: tensors of a safetensors file, as rows of token ids.

use std::fs;
use std::ops::Range;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::errors::CliError;

/// The names that are known, as transformers has them.
const KNOWN: [&str; 3] = ["input_ids", "attention_mask", "token_type_ids"];

/// A batch of rows.
#[derive(Debug, PartialEq, Eq)]
pub struct Inputs {
    /// B
    pub rows: usize,
    /// S
    pub columns: usize,
    /// `[B, S]`; meaningless where the mask is 0.
    ids: Vec<i64>,
    /// As `ids`, where the file has them.
    types: Option<Vec<i64>>,
    /// For each row, where its tokens are.
    spans: Vec<Range<usize>>,
}

impl Inputs {
    /// Reads and checks the file.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        let bytes = fs::read(path).map_err(|source| CliError::InputFile { path: path.into(), source })?;
        let tensors =
            SafeTensors::deserialize(&bytes).map_err(|source| CliError::InputFormat { path: path.into(), source })?;
        Self::from_tensors(&tensors).map_err(|problem| CliError::Input { path: path.into(), problem })
    }

    fn from_tensors(tensors: &SafeTensors<'_>) -> Result<Self, String> {
        let known = KNOWN.join(", ");
        let mut unknown: Vec<_> = tensors.names().into_iter().filter(|name| !KNOWN.contains(name)).collect();
        if !unknown.is_empty() {
            unknown.sort_unstable();
            let unknown: Vec<_> = unknown.into_iter().take(8).collect();
            return Err(format!("unknown tensors {}; known: {known}", unknown.join(", ")));
        }
        let ids = tensors.tensor("input_ids").map_err(|_| format!("it lacks `input_ids`; known: {known}"))?;
        let (rows, columns) = match *ids.shape() {
            [columns] => (1, columns),
            [rows, columns] => (rows, columns),
            ref other => return Err(format!("`input_ids` has shape {other:?}, expected [B, S] or [S]")),
        };
        if rows == 0 || columns == 0 {
            return Err(format!("`input_ids` has shape {:?}: there is no token in it", ids.shape()));
        }
        let mut spans = vec![0..columns; rows];
        let like_ids = |name: &str, allow_bool| {
            let Ok(tensor) = tensors.tensor(name) else { return Ok(None) };
            if tensor.shape() != ids.shape() {
                let (own, ids) = (tensor.shape(), ids.shape());
                return Err(format!("`{name}` has shape {own:?}, and `input_ids` has {ids:?}"));
            }
            integers(name, &tensor, allow_bool).map(Some)
        };
        if let Some(mask) = like_ids("attention_mask", true)? {
            for (row, mask) in mask.chunks_exact(columns).enumerate() {
                spans[row] = span(mask).map_err(|problem| format!("`attention_mask`, row {row}: {problem}"))?;
            }
        }
        let types = like_ids("token_type_ids", false)?;
        Ok(Self { rows, columns, ids: integers("input_ids", &ids, false)?, types, spans })
    }

    /// The positions of row `row`'s tokens, and the tokens, each below `vocab`.
    pub fn row(&self, row: usize, vocab: u32) -> Result<(Range<usize>, Vec<u32>), String> {
        let span = self.spans[row].clone();
        let ids = &self.ids[row * self.columns..][span.clone()];
        let checked = ids.iter().zip(span.clone()).map(|(&id, column)| {
            let valid = u32::try_from(id).ok().filter(|&id| id < vocab);
            valid.ok_or_else(|| {
                format!("`input_ids`, row {row}, column {column}: token id {id} is outside the model's vocabulary of {vocab}")
            })
        });
        Ok((span, checked.collect::<Result<_, _>>()?))
    }

    /// Whether tokens have kinds.
    pub fn has_types(&self) -> bool {
        self.types.is_some()
    }

    /// The kinds of row `row`'s tokens, each below `kinds`; 0 where the file says nothing.
    pub fn types(&self, row: usize, kinds: u32) -> Result<Vec<u32>, String> {
        let span = self.spans[row].clone();
        let Some(types) = &self.types else { return Ok(vec![0; span.len()]) };
        let own = types[row * self.columns..][span.clone()].iter().zip(span);
        let checked = own.map(|(&kind, column)| {
            let valid = u32::try_from(kind).ok().filter(|&kind| kind < kinds);
            valid.ok_or_else(|| {
                format!("`token_type_ids`, row {row}, column {column}: {kind} is none of the model's {kinds} types")
            })
        });
        checked.collect()
    }
}

/// Where the ones are, which must be together.
fn span(mask: &[i64]) -> Result<Range<usize>, String> {
    if let Some(other) = mask.iter().find(|&&value| !(0..=1).contains(&value)) {
        return Err(format!("it holds {other}, expected 0 and 1 only"));
    }
    let first = mask.iter().position(|&value| value == 1).ok_or("it leaves no token")?;
    let length = mask[first..].iter().take_while(|&&value| value == 1).count();
    if mask[first + length..].contains(&1) {
        return Err("it has a hole; only padding on the left or on the right is supported".into());
    }
    Ok(first..first + length)
}

/// The elements of a tensor of any integer type; safetensors are little-endian.
fn integers(name: &str, tensor: &TensorView<'_>, allow_bool: bool) -> Result<Vec<i64>, String> {
    fn each<const N: usize>(bytes: &[u8], of: impl Fn([u8; N]) -> i64) -> Vec<i64> {
        bytes.as_chunks::<N>().0.iter().map(|&chunk| of(chunk)).collect()
    }
    let bytes = tensor.data();
    Ok(match tensor.dtype() {
        Dtype::BOOL if allow_bool => each(bytes, |b: [u8; 1]| i64::from(b[0])),
        Dtype::U8 => each(bytes, |b: [u8; 1]| i64::from(b[0])),
        Dtype::I8 => each(bytes, |b| i64::from(i8::from_le_bytes(b))),
        Dtype::I16 => each(bytes, |b| i64::from(i16::from_le_bytes(b))),
        Dtype::U16 => each(bytes, |b| i64::from(u16::from_le_bytes(b))),
        Dtype::I32 => each(bytes, |b| i64::from(i32::from_le_bytes(b))),
        Dtype::U32 => each(bytes, |b| i64::from(u32::from_le_bytes(b))),
        Dtype::I64 => each(bytes, i64::from_le_bytes),
        // what does not fit is out of any vocabulary
        Dtype::U64 => each(bytes, |b| i64::try_from(u64::from_le_bytes(b)).unwrap_or(i64::MAX)),
        other => return Err(format!("`{name}` is {other:?}, expected an integer type")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_one_piece_of_ones() {
        assert_eq!(span(&[0, 0, 1, 1]), Ok(2..4));
        assert_eq!(span(&[1, 1, 0]), Ok(0..2));
        assert_eq!(span(&[0, 1, 0]), Ok(1..2));
        for (wrong, word) in
            [(&[1, 0, 1][..], "hole"), (&[0, 0], "no token"), (&[1, 2], "holds 2"), (&[-1, 1], "holds -1")]
        {
            assert!(span(wrong).is_err_and(|problem| problem.contains(word)), "{wrong:?}");
        }
    }

    #[test]
    fn any_integer_type_will_do() {
        let of = |dtype, bytes: &[u8]| {
            let width = bytes.len() / 2;
            let view = TensorView::new(dtype, vec![2], bytes).unwrap_or_else(|e| panic!("{width} bytes: {e}"));
            integers("x", &view, false)
        };
        assert_eq!(of(Dtype::I64, &[7, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]), Ok(vec![7, -1]));
        assert_eq!(
            of(Dtype::U64, &[7, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]),
            Ok(vec![7, i64::MAX])
        );
        assert_eq!(of(Dtype::I32, &[7, 0, 0, 0, 254, 255, 255, 255]), Ok(vec![7, -2]));
        assert_eq!(of(Dtype::U32, &[7, 0, 0, 0, 255, 255, 255, 255]), Ok(vec![7, 4_294_967_295]));
        assert_eq!(of(Dtype::I16, &[7, 0, 255, 255]), Ok(vec![7, -1]));
        assert_eq!(of(Dtype::U16, &[7, 0, 255, 255]), Ok(vec![7, 65_535]));
        assert_eq!(of(Dtype::I8, &[7, 255]), Ok(vec![7, -1]));
        assert_eq!(of(Dtype::U8, &[7, 255]), Ok(vec![7, 255]));
        assert!(of(Dtype::BOOL, &[1, 0]).is_err());
        assert!(of(Dtype::F32, &[0; 8]).is_err());
    }
}
