use super::{Heads, Result, expect, flag};
use crate::device::Buffer;
use crate::graph::Graph;
use crate::shaders::{self, HeadNormParams};
use crate::step::Step;
use crate::tensor::Tensor;

/// Normalizes each query and key head by itself, in place: Dehghani et al. 2023, as Qwen3 does.
/// `qkv`: `[T, (H + 2 K) E]`; `gain`: `[2, E]` in f32, padded: of queries, then of keys.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn head_norm(g: &mut Graph<'_>, qkv: &Tensor, heads: &Heads, gain: &Buffer, eps: f32, step: &Step) -> Result<()> {
    let all = heads.heads + 2 * heads.kv_heads;
    let width = all * heads.padded();
    expect("head_norm.qkv", qkv.dim == width, || format!("[T, {width}]"), &[qkv.rows, qkv.dim])?;
    let gains = u64::from(heads.padded()) * 8;
    expect("head_norm.gain", gain.size() >= gains, || format!("[2, {}]", heads.head_dim), &[(gain.size() / 4) as u32])?;
    expect("head_norm.heads", heads.head_dim <= 256, || "heads at most 256 wide".into(), &[heads.head_dim])?;
    let subgroups = if g.device().capabilities().subgroups { "sg_on" } else { "sg_off" };
    let kernel = shaders::HEAD_NORM.variant(&[flag('x', qkv.elem), subgroups]);
    let params = HeadNormParams {
        heads: heads.heads,
        kv_heads: heads.kv_heads,
        head_dim: heads.head_dim,
        head4: heads.padded() / 4,
        eps,
    };
    let groups = u64::from(qkv.rows) * u64::from(heads.heads + heads.kv_heads);
    g.dispatch(kernel, &[], &params, &[(&step.state).into(), qkv.into(), gain.into()], groups)?;
    Ok(())
}
