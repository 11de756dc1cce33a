use super::{Heads, LayerKv, Result, expect, flag, hot_block_bytes};
use crate::device::Buffer;
use crate::graph::{Graph, Work};
use crate::shaders::{self, RopeAppendParams};
use crate::site::OpClass;
use crate::step::{BLOCK, Step};
use crate::tensor::Tensor;

/// Cosines and sines on the GPU.
#[derive(Clone, Debug)]
pub struct RopeTable {
    /// `(cos, sin)`: `[positions, R / 2]` where every position has its own, else as [`rope_table`] makes them.
    pub data: Buffer,
    /// How it is read.
    pub layout: RopeLayout,
}

/// How elements are paired, and where the table has their cosines and sines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RopeLayout {
    /// Whether every position has its own row: frequencies change along the sequence.
    pub every: bool,
    /// Whether the elements of a pair are neighbours; else they are R / 2 apart.
    pub interleaved: bool,
}

impl RopeLayout {
    /// The kernels' constants.
    pub(super) fn constants(self) -> [(&'static str, f64); 2] {
        [("EVERY", f64::from(u8::from(self.every))), ("INTERLEAVED", f64::from(u8::from(self.interleaved)))]
    }
}

/// Rotates queries and keys, and appends keys and values to the cache (rotary embedding: Su et al. 2021). Where the cache has
/// [`raw_keys`](LayerKv::raw_keys), only queries are rotated, by their place in it.
/// `qkv`: `[T, (H + 2 K) E]`; `table`: `None` where nothing is rotated; returns the queries, `[T, H E]`.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn rope_append(
    g: &mut Graph<'_>,
    qkv: &Tensor,
    heads: &Heads,
    table: Option<&RopeTable>,
    kv: &LayerKv,
    step: &Step,
) -> Result<Tensor> {
    let all = heads.heads + 2 * heads.kv_heads;
    expect(
        "rope_append.qkv",
        qkv.dim == all * heads.padded(),
        || format!("[T, {}]", all * heads.padded()),
        &[qkv.rows, qkv.dim],
    )?;
    let fits = heads.rotary.is_multiple_of(2) && heads.rotary <= heads.head_dim;
    expect("rope_append.rotary", fits, || format!("even and at most {}", heads.head_dim), &[heads.rotary])?;
    let q = g.empty("rope_append", qkv.rows, heads.heads * heads.padded(), qkv.elem)?;
    let kernel = shaders::ROPE_APPEND.variant(&[flag('x', qkv.elem), flag('c', kv.dtype.elem())]);
    let head4 = heads.padded() / 4;
    let rotary = if table.is_some() { heads.rotary } else { 0 };
    let pages = step.table(kv.written_table());
    let (site, beyond) = g.check(None, q.elem);
    let (cache_site, beyond_cache) = g.check(Some(OpClass::Cache), kv.dtype.elem());
    let params =
        RopeAppendParams { heads: heads.heads, kv_heads: heads.kv_heads, head4, rotary, pages, site, cache_site };
    let layout = table.map(|t| t.layout).unwrap_or_default();
    let [every, interleaved] = layout.constants();
    let constant = |on: bool| f64::from(u8::from(on));
    let constants = [
        ("ROTATED", constant(rotary > 0)),
        ("IN_VEC4S", constant(!layout.interleaved && rotary.is_multiple_of(8))),
        every,
        interleaved,
        ("RAW_KEYS", constant(kv.raw_keys)),
        ("BEYOND", beyond),
        ("BEYOND_CACHE", beyond_cache),
    ];
    // without a table its binding shows the step state, unread
    let table = table.map_or(&step.state, |t| &t.data);
    let operands = [
        (&step.state).into(),
        (&step.overflow).into(),
        qkv.into(),
        (&q).into(),
        (&kv.k).into(),
        (&kv.v).into(),
        table.into(),
        (&step.rows).into(),
    ];
    let items = u64::from(qkv.rows) * u64::from(all) * u64::from(head4);
    g.dispatch(kernel, &constants, &params, &operands, items.div_ceil(64))?;
    // cosines and sines are not counted: how rows share them goes by the table
    let cached = 2 * hot_block_bytes(heads, kv.dtype) / u64::from(BLOCK);
    g.work(Work {
        shape: [qkv.dim, q.dim],
        bytes_per_row: qkv.row_bytes() + q.row_bytes() + cached,
        ..Work::default()
    });
    Ok(q)
}

/// Rows of a [`rope_table`].
#[must_use]
pub fn rope_rows(positions: u32) -> u32 {
    256 + positions.div_ceil(256) + 1
}

/// The table of cosines and sines that the kernel multiplies by: `(cos, sin)` of `inv_freq[i] * p` for p = 0 .. 255, then for
/// p = 0, 256, 512, ... up to `positions`. `scale` (YaRN's and LongRoPE's attention factor) multiplies the first part.
#[must_use]
pub fn rope_table(inv_freq: &[f32], scale: f64, positions: u32) -> Vec<[f32; 2]> {
    let low = (0..256).map(|p| (f64::from(p), scale));
    let high = (0..=positions.div_ceil(256)).map(|p| (f64::from(p * 256), 1.0));
    low.chain(high)
        .flat_map(|(p, scale)| {
            inv_freq.iter().map(move |&f| {
                let (sin, cos) = (p * f64::from(f)).sin_cos();
                [(cos * scale) as f32, (sin * scale) as f32]
            })
        })
        .collect()
}
