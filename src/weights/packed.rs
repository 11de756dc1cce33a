//! Weights as they lie on the GPU, as a safetensors file: what was converted once need not be again, and takes fewer bytes.
//!
//! Each weight is a tensor `[rows, words of a row]` of U32 by the name that it (of several that were stacked, the first) has in the
//! checkpoint, and the file's metadata has how it is stored by that name; scales are another tensor, `NAME.scales`, and an order of a row's
//! elements `NAME.order`. No float checkpoint has such tensors, so that a reader knows them by their type. The bytes do not depend
//! on the adapter: a weight that is split into parts for one is written as a whole.

use super::matrix::{Rows, Run};
use super::request::{Copied, RowMap, What};
use super::{Made, Offloaded, Weights};
use crate::checkpoint::{Dtype, header};
use crate::device::{Buffer, Device};
use crate::error::Error;
use crate::quant::BLOCK;
use crate::tensor::Storage;

/// Bytes that [`Image::next`] gives at once.
const PIECE: u64 = 4 << 20;
/// What the tensor of a weight's scales is called, behind the weight's own name.
const SCALES: &str = ".scales";
/// And that of its order.
const ORDER: &str = ".order";
/// What follows the name of a format whose inputs are rounded to 8 bits.
const INT8_INPUTS: &str = " int8-inputs";

impl<'a> Weights<'a> {
    /// The weight of rows of `dim` that begins with `block`, at row `base`, as [`Image`] writes it, if the checkpoint has it so.
    pub(super) fn packed(&mut self, block: &Rows<'_>, suffix: &str, dim: u32, base: u32) -> Option<Run<'a>> {
        let name = format!("{}{}.{suffix}", self.scope, block.name);
        let checkpoint = self.checkpoint;
        let get = |name: &str| checkpoint.get(name).filter(|info| info.dtype == Dtype::U32);
        let data = get(&name)?;
        let said = checkpoint.metadata(&name)?;
        let (format, int8_inputs) = said.strip_suffix(INT8_INPUTS).map_or((said, false), |format| (format, true));
        let storage = Storage::from_name(format)?;
        // an order of no element, or of part of a block, is none that was written here
        let order = get(&(name.clone() + ORDER));
        let ordered = order.map(|order| order.shape.iter().product::<u64>());
        let ordered = ordered.map(|len| u32::try_from(len).ok().filter(|len| *len > 0 && len.is_multiple_of(BLOCK)));
        let len = ordered.flatten().unwrap_or(dim);
        let mut run = Run::new(name.clone(), storage, len, base);
        run.rows = data.shape.first().and_then(|&rows| u32::try_from(rows).ok()).unwrap_or(0);
        run.has_order = order.is_some();
        run.int8_inputs = int8_inputs;
        let (words, scale_words) = ((storage.row_bytes(len) / 4) as u32, storage.scale_stride(len));
        let mut wanted = vec![(data, What::Words(words, Copied::Data), [run.rows, words])];
        if scale_words > 0 {
            let scales = name.clone() + SCALES;
            match get(&scales) {
                Some(info) => wanted.push((info, What::Words(scale_words, Copied::Scales), [run.rows, scale_words])),
                None => {
                    self.missing.push(scales);
                    run.is_whole = false;
                }
            }
        }
        if let Some(order) = order {
            wanted.push((order, What::Words(len, Copied::Order), [1, len]));
        }
        for (info, what, [rows, words]) in wanted {
            let expected = vec![u64::from(rows), u64::from(words)];
            if info.shape != expected || (what.is_order() && ordered == Some(None)) {
                self.misshaped.push((info.name.clone(), expected, info.shape.clone()));
                run.is_whole = false;
            }
            let map = RowMap { rows, group: rows, padded: rows, base: if what.is_order() { 0 } else { base } };
            run.requests.push((info, map, what));
        }
        Some(run)
    }
}

/// The weights of a loaded model as a file, piece by piece.
#[derive(Debug)]
pub struct Image<'a> {
    device: Device,
    offloaded: Option<&'a mut Offloaded>,
    header: Option<Vec<u8>>,
    buffers: Vec<Piece>,
    /// which buffer comes next, and from which byte on
    at: (usize, u64),
    size: u64,
}

/// Bytes of a buffer, from its beginning on.
#[derive(Debug)]
struct Piece {
    buffer: Buffer,
    bytes: u64,
    /// the layer whose they are while it sits in its slot
    offloaded: Option<usize>,
}

impl<'a> Image<'a> {
    /// Of these weights, some of which may not stay on the GPU.
    #[must_use]
    pub fn new(device: &Device, weights: &[Made], offloaded: Option<&'a mut Offloaded>) -> Self {
        let mut tensors = serde_json::Map::new();
        let (mut buffers, mut end) = (Vec::new(), 0_u64);
        let mut metadata = serde_json::Map::new();
        for Made { name, weight, offloaded } in weights {
            let Some(part) = weight.parts.first() else { continue };
            let row = part.storage.row_bytes(weight.dim);
            let scales = u64::from(part.storage.scale_stride(weight.dim)) * 4;
            let rows: u64 = weight.parts.iter().map(|part| u64::from(part.rows)).sum();
            let inputs = if part.int8_inputs { INT8_INPUTS } else { "" };
            metadata.insert(name.clone(), (part.storage.name() + inputs).into());
            let mut add = |name: String, [rows, row]: [u64; 2], buffer: Vec<Option<(Buffer, u64)>>| {
                let begin = end;
                for (buffer, bytes) in buffer.into_iter().flatten() {
                    end += bytes;
                    buffers.push(Piece { buffer, bytes, offloaded: *offloaded });
                }
                let tensor =
                    serde_json::json!({ "dtype": "U32", "shape": [rows, row / 4], "data_offsets": [begin, end] });
                tensors.insert(name, tensor);
            };
            let parts = || weight.parts.iter().map(|part| (part, u64::from(part.rows)));
            add(name.clone(), [rows, row], parts().map(|(part, n)| Some((part.data.clone(), n * row))).collect());
            if scales > 0 {
                let of = parts().map(|(part, n)| Some((part.scales.clone()?, n * scales)));
                add(name.clone() + SCALES, [rows, scales], of.collect());
            }
            if let Some(order) = &part.order {
                let bytes = u64::from(order.len) * 4;
                add(name.clone() + ORDER, [1, bytes], vec![Some((order.inputs.clone(), bytes))]);
            }
        }
        tensors.insert("__metadata__".to_owned(), metadata.into());
        let file = header(tensors);
        let device = device.clone();
        Self { device, offloaded, size: file.len() as u64 + end, header: Some(file), buffers, at: (0, 0) }
    }

    /// Bytes of the file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes, some MiB at most; `None` at the end.
    ///
    /// # Errors
    /// As [`Device::read_ranges`] and [`Offloaded::bring`].
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if let Some(header) = self.header.take() {
            return Ok(Some(header));
        }
        let mut ranges = Vec::new();
        let mut room = PIECE;
        let layer = self.buffers.get(self.at.0).and_then(|piece| piece.offloaded);
        if let (Some(layer), Some(offloaded)) = (layer, &mut self.offloaded) {
            offloaded.bring(layer).await?;
        }
        while let (1.., Some(piece)) = (room, self.buffers.get(self.at.0))
            && piece.offloaded == layer
        {
            let (index, from) = self.at;
            let to = (from + room).min(piece.bytes);
            room -= to - from;
            self.at = if to == piece.bytes { (index + 1, 0) } else { (index, to) };
            ranges.push((&piece.buffer, from..to));
        }
        if ranges.is_empty() { Ok(None) } else { Ok(Some(self.device.read_ranges(&ranges).await?)) }
    }
}
