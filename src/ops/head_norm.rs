use super::{Affine, Heads, NormConfig, Result, expect, flag};
use crate::graph::{Graph, Work};
use crate::shaders::{self, HeadNormParams};
use crate::step::Step;
use crate::tensor::Tensor;

/// Normalizes each query and key head by itself, in place, as `config` says (Dehghani et al. 2023).
/// `qkv`: `[T, (H + 2 K) E]`; gain and bias: `[2, E]` in f32, padded: of queries, then of keys.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn head_norm(
    g: &mut Graph<'_>,
    qkv: &Tensor,
    heads: &Heads,
    affine: &Affine,
    config: NormConfig,
    step: &Step,
) -> Result<()> {
    let all = heads.heads + 2 * heads.kv_heads;
    let width = all * heads.padded();
    expect("head_norm.qkv", qkv.dim == width, || format!("[T, {width}]"), &[qkv.rows, qkv.dim])?;
    for (what, buffer) in [("head_norm.gain", Some(&affine.gain)), ("head_norm.bias", affine.bias.as_ref())] {
        let Some(buffer) = buffer else { continue };
        let fits = buffer.size() >= u64::from(heads.padded()) * 8;
        expect(what, fits, || format!("[2, {}]", heads.head_dim), &[(buffer.size() / 4) as u32])?;
    }
    expect("head_norm.heads", heads.head_dim <= 256, || "heads at most 256 wide".into(), &[heads.head_dim])?;
    let sums = g.kernels().norms;
    let kernel = shaders::HEAD_NORM.variant(&[flag('x', qkv.elem), sums.flag()]);
    let (site, beyond) = g.check(None, qkv.elem);
    let params = HeadNormParams {
        heads: heads.heads,
        kv_heads: heads.kv_heads,
        head_dim: heads.head_dim,
        head4: heads.padded() / 4,
        eps: config.eps,
        offset: config.offset(),
        site,
    };
    let groups = sums.groups(u64::from(qkv.rows) * u64::from(heads.heads + heads.kv_heads));
    // without a bias its binding shows the gains, unread
    let bias = affine.bias.as_ref().unwrap_or(&affine.gain);
    let operands = [(&step.state).into(), (&step.overflow).into(), qkv.into(), (&affine.gain).into(), bias.into()];
    let [center, has_bias] = config.constants(affine.bias.as_ref());
    g.dispatch(kernel, &[center, has_bias, ("BEYOND", beyond)], &params, &operands, groups)?;
    let width = (heads.heads + heads.kv_heads) * heads.padded(); // values stay as they are
    let row = u64::from(width / 4) * qkv.elem.bytes4();
    g.work(Work { shape: [width, width], bytes_per_row: 2 * row, ..Work::default() });
    Ok(())
}
