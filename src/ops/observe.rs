use super::{AttentionParams, LayerKv, Result, expect, flag};
use crate::graph::Graph;
use crate::shaders::{self, ObserveParams};
use crate::step::{BLOCK, Step};
use crate::tensor::{Elem, Tensor};

/// Rows at a prompt's end that say which keys matter, as `shaders/shared/observed.wgsl` has it: the window of SnapKV's code.
pub const OBSERVED: u32 = 32;

/// Rows that a workgroup takes, as in the kernel.
const QUERIES: u32 = 8;

/// How much the last [`OBSERVED`] rows of a prompt attend to each key before them, all query heads of a key head together (Li et al.
/// 2024, "SnapKV"). It ends with this step, in the slot that [`Step::set_header`] names; the cache holds this step's keys.
/// `q`: `[T, H E]`; returns `[K, live]`, of which keys before the last rows are written.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn observe(g: &mut Graph<'_>, q: &Tensor, kv: &LayerKv, params: &AttentionParams, step: &Step) -> Result<Tensor> {
    let heads = &params.heads;
    let (h, k) = (heads.heads, heads.kv_heads);
    expect("observe.q", q.dim == h * heads.padded(), || format!("[T, {}]", h * heads.padded()), &[q.rows, q.dim])?;
    expect("observe.heads", k > 0 && h % k == 0, || "K that divides H".into(), &[h, k])?;
    let stride = params.live.next_multiple_of(BLOCK);
    // two words for each row, whatever the rows of this tensor are
    let stats = g.empty("observe", (OBSERVED * h).div_ceil(2), 4, Elem::F32)?;
    let sums = g.empty("observe", k, stride, Elem::F32)?;
    let bits = kv.dtype.bits();
    let cache = if bits.is_some() { "c_blocks" } else { flag('c', kv.dtype.elem()) };
    let kernel = shaders::OBSERVE.variant(&[flag('x', q.elem), cache]);
    let kernel_params = ObserveParams {
        heads: h,
        kv_heads: k,
        pages: step.table(kv.table),
        hot_pages: step.table(kv.hot_table),
        cold: kv.cold(heads),
        stride,
        scale: params.scale,
        softcap: params.softcap,
    };
    for (summing, parts) in [(false, OBSERVED * (h / k) / QUERIES), (true, stride / BLOCK)] {
        let mut constants = vec![("HEAD4", f64::from(heads.padded() / 4)), ("SUMS", f64::from(u8::from(summing)))];
        constants.extend(bits.map(|bits| ("BITS", f64::from(bits))));
        let operands = [(&step.state).into(), q.into(), (&kv.k).into(), (&stats).into(), (&sums).into()];
        g.dispatch(kernel, &constants, &kernel_params, &operands, u64::from(k) * u64::from(parts))?;
    }
    Ok(sums)
}
