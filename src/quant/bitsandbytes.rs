//! bitsandbytes: 4 bits (nf4, fp4; Dettmers et al. 2023) and 8 bits (LLM.int8(), Dettmers et al. 2022).
//!
//! 4 bits: `weight`: U8 (or its bytes as another type), the codes of all elements in turn, two to a byte, the first in the high nibble; `weight.absmax`: for each block
//! of so many elements, F32, or U8 with nested statistics; `weight.quant_state.bitsandbytes__nf4` (`__fp4`): JSON. 8 bits: `weight`:
//! `[rows, dim]` I8, `SCB`: `[rows]` F32, `weight[n, k] = q[n, k] * SCB[n] / 127`.

use serde_json::Value;

use super::layer::{CodeLayout, Index, Layer, Lookup, Nested, Packing, Reading, ScaleLayout, group_order};
use super::{BLOCK, Blocks, Codes, Scales};
use crate::checkpoint::{Dtype, TensorInfo};
use crate::error::QuantError;

/// The JSON of a layer's statistics.
pub(super) const STATES: [(&str, Codes); 2] =
    [("weight.quant_state.bitsandbytes__nf4", Codes::Nf4), ("weight.quant_state.bitsandbytes__fp4", Codes::Fp4)];

/// The layer, if it is quantized.
pub(super) fn find<'a>(at: &Lookup<'a, '_>) -> Result<Option<Layer<'a>>, QuantError> {
    let Some(weight) = at.find("weight") else { return Ok(None) };
    // `bnb_4bit_quant_storage` may call the bytes by another type
    let has_state = STATES.iter().any(|(suffix, _)| at.find(suffix).is_some());
    match weight.dtype {
        Dtype::I8 if !has_state => eight(at, weight).map(Some),
        _ if has_state || weight.dtype == Dtype::U8 => four(at, weight).map(Some),
        _ => Ok(None),
    }
}

fn eight<'a>(at: &Lookup<'a, '_>, weight: &'a TensorInfo) -> Result<Layer<'a>, QuantError> {
    let (rows, dim) = (at.rows, at.dim);
    at.check(weight, &[rows, dim], &[Dtype::I8])?;
    let scb = at.check(at.need("SCB")?, &[rows], &[Dtype::F32])?;
    let codes = CodeLayout { packing: Packing::Rows, row_stride: dim, flip: 0, invert: 0 };
    let scales = ScaleLayout { index: Index::plain(1, 0), factor: 1.0 / 127.0, inverse: false, nested: None };
    Ok(Layer {
        blocks: Blocks { codes: Codes::Int8, scales: Scales::F32, group: dim.next_multiple_of(BLOCK) },
        int8_inputs: false,
        order: None,
        tensors: vec![(weight, Reading::Codes(codes)), (scb, Reading::Scales(scales))],
        known: at.find("weight_format").into_iter().collect(),
    })
}

fn four<'a>(at: &Lookup<'a, '_>, weight: &'a TensorInfo) -> Result<Layer<'a>, QuantError> {
    let (rows, dim) = (at.rows, at.dim);
    let bad = |tensor: &TensorInfo, detail: String| QuantError::State { tensor: tensor.name.clone(), detail };
    let bytes = weight.range.end - weight.range.start;
    let elements = u64::from(rows) * u64::from(dim);
    if bytes != elements.div_ceil(2) {
        let expected = vec![elements.div_ceil(2), 1];
        return Err(QuantError::Shape { tensor: weight.name.clone(), expected, got: weight.shape.clone() });
    }
    let (state, codes) = STATES
        .iter()
        .find_map(|(suffix, codes)| at.find(suffix).map(|info| (info, *codes)))
        .ok_or_else(|| QuantError::Missing { tensor: format!("{}.{}", at.name, STATES[0].0) })?;
    let mut known = vec![state];
    let json: Value = match at.side(state)? {
        Some(bytes) => serde_json::from_slice(bytes).map_err(|error| bad(state, error.to_string()))?,
        None => Value::Null,
    };
    let absmax = at.typed(at.need("weight.absmax")?, &[Dtype::F32, Dtype::U8])?;
    let block = match &json["blocksize"] {
        // planned: the count of statistics tells, as well as it can
        Value::Null if at.side.is_none() => {
            let count = absmax.shape.first().copied().unwrap_or(0);
            (6..13).map(|i| 1_u32 << i).find(|&block| elements.div_ceil(u64::from(block)) == count)
        }
        value => value.as_u64().and_then(|n| u32::try_from(n).ok()),
    };
    let block = block.filter(|n| n.is_power_of_two() && (16..=1 << 20).contains(n));
    let block =
        block.ok_or_else(|| bad(state, format!("blocksize {}; a power of two is needed", json["blocksize"])))?;
    let count = u32::try_from(elements.div_ceil(u64::from(block)))
        .ok()
        .filter(|_| dim.is_multiple_of(block) || u32::try_from(elements).is_ok())
        .ok_or_else(|| bad(weight, "too many weights for one tensor".into()))?;
    at.check(absmax, &[count], &[Dtype::F32, Dtype::U8])?;
    let shape: Vec<Option<u64>> = json["shape"].as_array().into_iter().flatten().map(Value::as_u64).collect();
    if at.side.is_some() && shape != [Some(u64::from(rows)), Some(u64::from(dim))] {
        return Err(bad(state, format!("shape {}, expected [{rows}, {dim}]", json["shape"])));
    }
    if let Some(map) = at.find("weight.quant_map") {
        let map = at.check(map, &[16], &[Dtype::F32])?;
        if let Some(bytes) = at.side(map)? {
            let same = floats(bytes).zip(0..).all(|(v, code)| (v - codes.value(code)).abs() < 1e-4);
            if !same {
                return Err(bad(map, "another table than bitsandbytes' own".into()));
            }
        }
        known.push(map);
    }
    let nested = match absmax.dtype {
        Dtype::U8 => Some(nested(at, absmax, &json, state, count, &mut known)?),
        _ => None,
    };
    // blocks go on over the ends of rows: a group is what is in one block whatever the row
    let group = gcd(dim, block);
    let index = if group == block {
        Index::plain(dim / block, 1)
    } else {
        Index { row_div: 1, row_stride: dim, row_step: 0, group_stride: group, div: block }
    };
    let layout = CodeLayout { packing: Packing::Rows, row_stride: dim, flip: 1, invert: 0 };
    Ok(Layer {
        blocks: Blocks { codes, scales: Scales::F32, group: group.next_multiple_of(4) },
        int8_inputs: false,
        order: group_order(&weight.name, None, dim, dim / group, group)?,
        tensors: vec![
            (weight, Reading::Codes(layout)),
            (absmax, Reading::Scales(ScaleLayout { index, factor: 1.0, inverse: false, nested })),
        ],
        known,
    })
}

/// Statistics of statistics.
fn nested<'a>(
    at: &Lookup<'a, '_>,
    absmax: &TensorInfo,
    json: &Value,
    state: &TensorInfo,
    count: u32,
    known: &mut Vec<&'a TensorInfo>,
) -> Result<Nested, QuantError> {
    let map = at.check(at.need("weight.nested_quant_map")?, &[256], &[Dtype::F32])?;
    let of_blocks = at.typed(at.need("weight.nested_absmax")?, &[Dtype::F32])?;
    known.extend([map, of_blocks]);
    let (Some(map), Some(values)) = (at.side(map)?, at.side(of_blocks)?) else {
        return Ok(Nested { map: Vec::new(), absmax: Vec::new(), block: 256, offset: 0.0 });
    };
    let block = json["nested_blocksize"].as_u64().filter(|n| n.is_power_of_two() && *n <= 1 << 20);
    let offset = json["nested_offset"].as_f64().filter(|v| v.is_finite());
    let (Some(block), Some(offset)) = (block, offset) else {
        let detail = format!("{} is quantized itself, and nested_blocksize or nested_offset is missing", absmax.name);
        return Err(QuantError::State { tensor: state.name.clone(), detail });
    };
    at.check(of_blocks, &[count.div_ceil(block as u32)], &[Dtype::F32])?;
    Ok(Nested {
        map: floats(map).collect(),
        absmax: floats(values).collect(),
        block: block as u32,
        offset: offset as f32,
    })
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

const fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
