use super::{Heads, LayerKv, Result, flag};
use crate::device::Buffer;
use crate::graph::Graph;
use crate::shaders::{self, GatherCacheParams};
use crate::step::Step;
use crate::tensor::Tensor;

/// Keys and values of the `kept` positions of a prompt, as [`rope_append`](super::rope_append) puts them into other blocks where it
/// rotates nothing: at most `rows` of them. Slot 0 of `step` says where they go, and which: its position is the number of the first
/// one. Slot 1 is the prompt: its position is how many tokens it has, and its page tables find them.
/// `chosen`: as [`select_keys`](super::select_keys) makes it; returns `[T, 2 K E]`, of the type that blocks are written in.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn gather_cache(
    g: &mut Graph<'_>,
    heads: &Heads,
    kv: &LayerKv,
    (chosen, first, kept): (&Buffer, u32, u32),
    rows: u32,
    step: &Step,
) -> Result<Tensor> {
    let y = g.empty("gather_cache", rows, 2 * heads.kv_heads * heads.padded(), kv.dtype.elem())?;
    let bits = kv.dtype.bits();
    let cache = if bits.is_some() { "c_blocks" } else { flag('c', kv.dtype.elem()) };
    let head4 = heads.padded() / 4;
    let params = GatherCacheParams {
        kv_heads: heads.kv_heads,
        head: heads.head_dim,
        head4,
        pages: step.table(kv.table),
        hot_pages: step.table(kv.hot_table),
        cold: kv.cold(heads),
        kept,
        first,
    };
    let constants: Vec<_> = bits.map(|bits| ("BITS", f64::from(bits))).into_iter().collect();
    let operands = [(&step.state).into(), chosen.into(), (&kv.k).into(), (&kv.v).into(), (&y).into()];
    let items = u64::from(rows) * u64::from(2 * heads.kv_heads) * u64::from(head4);
    let kernel = shaders::GATHER_CACHE.variant(&[cache]);
    g.dispatch(kernel, &constants, &params, &operands, items.div_ceil(64))?;
    Ok(y)
}
