//! ggml's blocks (<https://github.com/ggml-org/ggml>, `ggml-common.h`), as GGUF files hold them: every bit of a weight is kept. Codes of 3
//! bits take 4 on the GPU, those of 5 and 6 bits take 8.

use super::{Blocks, Codes, Layer, Lookup, Reading, Scales};
use crate::checkpoint::Dtype;
use crate::error::QuantError;

/// What blocks of that type become; `None` for what is no such type.
#[must_use]
pub const fn blocks(dtype: Dtype) -> Option<Blocks> {
    let (codes, scales, group) = match dtype {
        Dtype::Q4_0 => (Codes::Int4, Scales::F16, 32),
        Dtype::Q4_1 => (Codes::Int4, Scales::F16Min, 32),
        Dtype::Q5_0 | Dtype::Q8_0 => (Codes::Int8, Scales::F16, 32),
        Dtype::Q5_1 => (Codes::Int8, Scales::F16Min, 32),
        Dtype::IQ4_NL => (Codes::Iq4Nl, Scales::F16, 32),
        Dtype::Q2_K => (Codes::Int2, Scales::Nested, 16),
        Dtype::Q3_K => (Codes::Int4, Scales::Nested, 16),
        Dtype::Q4_K => (Codes::Int4, Scales::Nested, 32),
        Dtype::Q5_K => (Codes::Int8, Scales::Nested, 32),
        Dtype::Q6_K => (Codes::Int8, Scales::Nested, 16),
        _ => return None,
    };
    Some(Blocks { codes, scales, group })
}

/// The layer whose weight is in blocks.
pub(super) fn find<'a>(at: &Lookup<'a, '_>) -> Result<Option<Layer<'a>>, QuantError> {
    let Some((info, blocks)) = at.find("weight").and_then(|info| Some((info, blocks(info.dtype)?))) else {
        return Ok(None);
    };
    let info = at.check(info, &[at.rows, at.dim], &[info.dtype])?;
    Ok(Some(Layer { blocks, int8_inputs: false, order: None, tensors: vec![(info, Reading::Ggml)], known: Vec::new() }))
}
