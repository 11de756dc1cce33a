use super::{Heads, LayerKv, Result};
use crate::graph::Graph;
use crate::shaders::{self, QuantizeCacheParams};
use crate::step::{BLOCK, Step};

/// Invocations of a workgroup.
const LANES: u32 = 64;

/// Quantizes the blocks that a step's rows complete, keys and values, from their hot pages to their cold ones; nothing where the
/// cache is not quantized. `rows`, `slots`: the most that a step has. Comes after [`rope_append`](super::rope_append).
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn quantize_cache(
    g: &mut Graph<'_>,
    heads: &Heads,
    kv: &LayerKv,
    rows: u32,
    slots: u32,
    step: &Step,
) -> Result<()> {
    let Some(bits) = kv.dtype.bits() else { return Ok(()) };
    let head4 = heads.padded() / 4;
    let row4 = heads.kv_heads * head4.next_multiple_of(2);
    // 8 elements of all keys, or 32 of two values, to an invocation
    let items = row4 / 2 + row4.div_ceil(8) * (BLOCK / 2);
    let groups_each = items.div_ceil(LANES);
    let params = QuantizeCacheParams {
        kv_heads: heads.kv_heads,
        head: heads.head_dim,
        head4,
        pages: step.table(kv.table),
        hot_pages: step.table(kv.hot_table),
        cold: kv.cold(heads),
        groups_each,
    };
    let constants = [("BITS", f64::from(bits))];
    let operands = [(&step.state).into(), (&kv.k).into(), (&kv.v).into()];
    // a slot's first row may complete a block by itself
    let blocks = (u64::from(rows) + u64::from(BLOCK - 1) * u64::from(slots)) / u64::from(BLOCK);
    let kernel = shaders::QUANTIZE_CACHE.variant(&[]);
    g.dispatch(kernel, &constants, &params, &operands, blocks * u64::from(groups_each))?;
    Ok(())
}
