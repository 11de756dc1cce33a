//! Weights as they lie on the GPU, as a safetensors file: what was converted once need not be again, and takes fewer bytes.
//!
//! Each weight is a tensor `[rows, words of a row]` of U32 by the name that it (of several that were stacked, the first) has in the
//! checkpoint; q4's scales are another, `NAME.scales`. No float checkpoint has such tensors, so that a reader knows them by their
//! type. The bytes do not depend on the adapter: a weight that is split into parts for one is written as a whole.

use super::upload::{Copied, Request};
use super::{Rows, Weights};
use crate::checkpoint::Dtype;
use crate::device::{Buffer, Device};
use crate::error::{DeviceError, Error};
use crate::tensor::{Storage, Weight};

/// Bytes that [`Image::next`] gives at once.
const PIECE: u64 = 4 << 20;
/// What the tensor of a weight's scales is called, behind the weight's own name.
const SCALES: &str = ".scales";

impl Weights<'_> {
    /// The weight `[rows, dim]` as [`Image`] writes it, if the checkpoint has it so.
    pub(super) fn packed(
        &mut self,
        block: &Rows<'_>,
        suffix: &str,
        rows: u32,
        dim: u32,
        storage: Storage,
    ) -> Option<Result<Weight, Error>> {
        let name = format!("{}{}.{suffix}", self.scope, block.name);
        let is_packed = |info: &&crate::checkpoint::TensorInfo| info.dtype == Dtype::U32;
        let data = self.checkpoint.get(&name).filter(is_packed)?;
        let (words, scale_words) = ((storage.row_bytes(dim) / 4) as u32, storage.scale_stride(dim));
        let mut wanted = vec![(name.clone(), Copied::Data, words, Some(data))];
        if scale_words > 0 {
            let name = name.clone() + SCALES;
            let scales = self.checkpoint.get(&name).filter(is_packed);
            wanted.push((name, Copied::Scales, scale_words, scales));
        }
        let mut found = Vec::new();
        for (name, what, words, info) in wanted {
            let Some(info) = info else {
                self.missing.push(name);
                continue;
            };
            let expected = vec![u64::from(rows), u64::from(words)];
            if info.shape == expected {
                found.push((info, what, words));
            } else {
                self.misshaped.push((name, expected, info.shape.clone()));
            }
        }
        let whole = self.missing.is_empty() && self.misshaped.is_empty();
        let to = match self.allocate(block.name, suffix, !whole, rows, dim, storage) {
            Ok(to) => to,
            Err(error) => return Some(Err(error)),
        };
        for (info, what, words) in found {
            self.requests.push((info, Request::copy(rows, words, what, to.clone())));
        }
        Some(Ok(to))
    }
}

/// The weights of a loaded model as a file, piece by piece.
#[derive(Debug)]
pub struct Image<'a> {
    device: &'a Device,
    header: Option<Vec<u8>>,
    buffers: Vec<(Buffer, u64)>,
    /// which buffer comes next, and from which byte on
    at: (usize, u64),
    size: u64,
}

impl<'a> Image<'a> {
    /// Of these weights, by name.
    #[must_use]
    pub fn new(device: &'a Device, weights: &[(String, Weight)]) -> Self {
        let mut tensors = serde_json::Map::new();
        let (mut buffers, mut end) = (Vec::new(), 0_u64);
        for (name, weight) in weights {
            let row = weight.storage.row_bytes(weight.dim);
            let scales = u64::from(weight.storage.scale_stride(weight.dim)) * 4;
            let rows: u64 = weight.parts.iter().map(|part| u64::from(part.rows)).sum();
            let mut add = |name: String, row: u64, of: &dyn Fn(usize) -> Option<Buffer>| {
                let begin = end;
                for (i, part) in weight.parts.iter().enumerate() {
                    let bytes = u64::from(part.rows) * row;
                    buffers.extend(of(i).map(|buffer| (buffer, bytes)));
                    end += bytes;
                }
                let tensor =
                    serde_json::json!({ "dtype": "U32", "shape": [rows, row / 4], "data_offsets": [begin, end] });
                tensors.insert(name, tensor);
            };
            add(name.clone(), row, &|i| Some(weight.parts[i].data.clone()));
            if scales > 0 {
                add(name.clone() + SCALES, scales, &|i| weight.parts[i].scales.clone());
            }
        }
        let mut header = serde_json::Value::Object(tensors).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.append(&mut header);
        Self { device, size: file.len() as u64 + end, header: Some(file), buffers, at: (0, 0) }
    }

    /// Bytes of the file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes, some MiB at most; `None` at the end.
    ///
    /// # Errors
    /// As [`Device::read`].
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, DeviceError> {
        if let Some(header) = self.header.take() {
            return Ok(Some(header));
        }
        let (index, from) = self.at;
        let Some((buffer, bytes)) = self.buffers.get(index) else { return Ok(None) };
        let to = (from + PIECE).min(*bytes);
        self.at = if to == *bytes { (index + 1, 0) } else { (index, to) };
        self.device.read(buffer, from..to).await.map(Some)
    }
}
