use super::{Heads, LayerKv, OpError, Result, RopeTable, block_bytes, expect, flag};
use crate::graph::{Graph, Keys, Operand, Work};
use crate::shaders::{self, AttentionAloneParams, AttentionMergeParams, AttentionParams as KernelParams};
use crate::step::{BLOCK, Step};
use crate::tensor::{Elem, Tensor};

/// What an attention needs to know besides its tensors.
#[derive(Clone, Copy, Debug)]
pub struct AttentionParams {
    /// The heads.
    pub heads: Heads,
    /// Multiplies every score: 1 / sqrt(E) in most models.
    pub scale: f32,
    /// Bounds every score: `cap * tanh(score / cap)`; 0: off.
    pub softcap: f32,
    /// Keys that a query sees, itself included (sliding window); 0: all.
    pub window: u32,
    /// Whether rows see no keys after their own; else those of all rows of their slot (not of a quantized cache, nor in a window).
    pub causal: bool,
    /// The most keys that a slot may have in the cache once the step's own are: cost follows it, not the cache's capacity.
    pub live: u32,
    /// B, the most slots whose rows these are.
    pub slots: u32,
}

/// Rows that a workgroup takes, as in the kernel.
const QUERIES: u32 = 8;
/// On a processor: rows that an invocation takes at most, and invocations of a workgroup, as in the kernel.
const ROWS_ALONE: u32 = 4;
const LANES_ALONE: u32 = 8;
/// Widest head: what a workgroup's lanes can accumulate in registers.
const MAX_HEAD: u32 = 256;
/// Workgroups that keep a GPU busy, and the fewest keys that are worth one.
const ENOUGH_GROUPS: u32 = 256;
const MIN_SPLIT: u32 = 128;
/// The same of a processor, where it is invocations that count: some vectors of them for each of its cores.
const ENOUGH_ALONE: u32 = 64;
const MIN_SPLIT_ALONE: u32 = 256;

/// Attention over the cache, causal or not, which already holds this step's keys; `rope` rotates them where it has them
/// [raw](LayerKv::raw_keys).
/// `q`: `[T, H E]`; returns `[T, H E]`. Scores are never written; where rows are few, the cache is split over workgroups and the
/// parts are merged.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn attention(
    g: &mut Graph<'_>,
    q: &Tensor,
    kv: &LayerKv,
    rope: Option<&RopeTable>,
    params: &AttentionParams,
    step: &Step,
) -> Result<Tensor> {
    let heads = &params.heads;
    let (h, k, head4) = (heads.heads, heads.kv_heads, heads.padded() / 4);
    expect("attention.q", q.dim == h * heads.padded(), || format!("[T, {}]", h * heads.padded()), &[q.rows, q.dim])?;
    expect("attention.heads", k > 0 && h % k == 0, || "K that divides H".into(), &[h, k])?;
    if heads.head_dim > MAX_HEAD {
        let (got, limit) = (u64::from(heads.head_dim), u64::from(MAX_HEAD));
        return Err(OpError::Limit { op: "attention", what: "head width", got, limit }.into());
    }
    let is_plain = params.window == 0 && kv.dtype.bits().is_none();
    expect("attention.causal", params.causal || is_plain, || "no window, no quantized cache".into(), &[params.window])?;
    let bits = kv.dtype.bits();
    // rope_append rotated the keys already, or nothing does
    let rope = rope.filter(|_| kv.raw_keys);
    let alone = g.kernels().attention_alone && bits.is_none() && rope.is_none();
    let share = h / k;
    let rows = match alone {
        false => QUERIES,
        // decoding, a slot has one row
        true if q.rows <= params.slots => share.min(ROWS_ALONE).next_power_of_two(),
        true => ROWS_ALONE,
    };
    // each slot's rows begin with a block of their own
    let query_blocks = (q.rows * share + (rows - 1) * params.slots) / rows;
    let live = params.live.max(1);
    let (least, enough) = if alone { (MIN_SPLIT_ALONE, ENOUGH_ALONE) } else { (MIN_SPLIT, ENOUGH_GROUPS) };
    let splits = (live / least).min(enough.div_ceil(query_blocks * k)).max(1);
    let split_keys = live.div_ceil(splits).next_multiple_of(BLOCK);
    let splits = live.div_ceil(split_keys);

    let y = g.empty("attention", q.rows, q.dim, q.elem)?;
    let split = splits > 1;
    // without splits these stand in for bindings that are not touched
    let (part_rows, part_dim) = if split { (q.rows * h * splits, heads.padded()) } else { (1, 4) };
    let parts = g.empty("attention", part_rows, part_dim, Elem::F32)?;
    // two words for each part, whatever the rows of this tensor are
    let stats = g.empty("attention", part_rows.div_ceil(2), 4, Elem::F32)?;
    let cache = if bits.is_some() { "c_blocks" } else { flag('c', kv.dtype.elem()) };
    let of = |on: bool| f64::from(u8::from(on));
    let mut constants = Vec::new();
    let mut operands: Vec<Operand<'_>> = vec![
        (&step.state).into(),
        q.into(),
        (&kv.k).into(),
        (&kv.v).into(),
        (&y).into(),
        (&parts).into(),
        (&stats).into(),
    ];
    if alone {
        let kernel = shaders::ATTENTION_ALONE.variant(&[flag('x', q.elem), cache]);
        constants.push(("ROWS", f64::from(rows)));
        let count = query_blocks * k * splits;
        let kernel_params = AttentionAloneParams {
            heads: h,
            kv_heads: k,
            head4,
            splits,
            split_keys,
            pages: step.table(kv.table),
            count,
            causal: params.causal.into(),
            window: params.window,
            scale: params.scale,
            softcap: params.softcap,
        };
        g.dispatch(kernel, &constants, &kernel_params, &operands, u64::from(count.div_ceil(LANES_ALONE)))?;
    } else {
        let kernel = shaders::ATTENTION.variant(&[flag('x', q.elem), cache]);
        constants.extend([
            ("HEAD4", f64::from(head4)),
            ("SPLIT", of(split)),
            ("CAUSAL", of(params.causal)),
            ("RAW_KEYS", of(rope.is_some())),
        ]);
        constants.extend(rope.map(|rope| rope.layout).unwrap_or_default().constants());
        constants.extend(bits.map(|bits| ("BITS", f64::from(bits))));
        // without a table its binding shows the step state, unread
        operands.push(rope.map_or(&step.state, |rope| &rope.data).into());
        let kernel_params = KernelParams {
            heads: h,
            kv_heads: k,
            splits,
            split_keys,
            pages: step.table(kv.table),
            hot_pages: step.table(kv.hot_table),
            cold: kv.cold(heads),
            head: heads.head_dim,
            rotary: heads.rotary,
            window: params.window,
            scale: params.scale,
            softcap: params.softcap,
        };
        let groups = u64::from(query_blocks) * u64::from(k) * u64::from(splits);
        g.dispatch(kernel, &constants, &kernel_params, &operands, groups)?;
    }
    let part_bytes = u64::from(h) * u64::from(splits) * (u64::from(head4) * 16 + 8);
    g.work(Work {
        shape: [q.dim, y.dim],
        bytes_per_row: q.row_bytes() + if split { part_bytes } else { y.row_bytes() },
        keys: Some(Keys {
            causal: params.causal,
            window: params.window,
            // of a quantized cache, as full blocks are: the last one takes more
            bytes: 2 * block_bytes(heads, kv.dtype) / u64::from(BLOCK),
            // a score, and what is added of a value
            operations: 4 * u64::from(h) * u64::from(heads.head_dim),
        }),
        ..Work::default()
    });
    if split {
        let kernel = shaders::ATTENTION_MERGE.variant(&[flag('y', q.elem)]);
        let merge = AttentionMergeParams { heads: h, head4, splits };
        let operands = [(&step.state).into(), (&parts).into(), (&stats).into(), (&y).into()];
        let items = u64::from(q.rows) * u64::from(h) * u64::from(head4);
        g.dispatch(kernel, &[], &merge, &operands, items.div_ceil(64))?;
        g.work(Work { shape: [q.dim, y.dim], bytes_per_row: part_bytes + y.row_bytes(), ..Work::default() });
    }
    Ok(y)
}
