use super::{OpError, Out, Result, expect, flag};
use crate::device::{Buffer, Sums};
use crate::graph::{Graph, Work};
use crate::shaders::{self, NormParams};
use crate::step::Step;
use crate::tensor::{Elem, Tensor};

/// Which rows an operation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// All of the step's.
    All,
    /// The last one of each of so many slots, which becomes the slot's row of the result: logits are wanted for it alone.
    Last(u32),
}

/// How rows are normalized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x / rms(x) * gain` (Zhang & Sennrich 2019).
    Rms,
    /// `x / rms(x) * (1 + gain)` (Gemma).
    RmsPlusOne,
    /// `(x - mean) / deviation * gain + bias` (Ba et al. 2016).
    Layer,
}

/// How rows are normalized, and what keeps the division from zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormConfig {
    /// The formula.
    pub kind: NormKind,
    /// Added to the mean square.
    pub eps: f32,
}

/// Rows of a workgroup where each invocation has one by itself, as in the kernels.
const ROWS_ALONE: u64 = 8;

impl Sums {
    /// Workgroups for so many rows, or heads.
    pub(super) const fn groups(self, rows: u64) -> u64 {
        if matches!(self, Self::Alone) { rows.div_ceil(ROWS_ALONE) } else { rows }
    }
}

impl Rows {
    /// The kernels' constant.
    pub(super) fn last_only(self) -> f64 {
        f64::from(u8::from(matches!(self, Self::Last(_))))
    }
}

impl NormConfig {
    /// What is added to every gain.
    pub(super) fn offset(&self) -> f32 {
        f32::from(u8::from(self.kind == NormKind::RmsPlusOne))
    }

    /// The kernels' constants.
    pub(super) fn constants(&self, bias: Option<&Buffer>) -> [(&'static str, f64); 2] {
        let flag = |on: bool| f64::from(u8::from(on));
        [("CENTER", flag(self.kind == NormKind::Layer)), ("BIAS", flag(bias.is_some()))]
    }
}

/// Gains, and in some layer norms biases, on the GPU.
#[derive(Clone, Debug)]
pub struct Affine {
    /// Multiplies.
    pub gain: Buffer,
    /// Is added.
    pub bias: Option<Buffer>,
    /// Elements that they are for, without what pads a row, or its heads.
    pub count: u32,
}

/// Whether rows of `x` can be normalized so.
pub(super) fn expect_norm(x: &Tensor, affine: &Affine, config: NormConfig) -> std::result::Result<(), OpError> {
    expect("norm.x", x.elem == Elem::F32, || "[T, D] in f32".into(), &[x.rows, x.dim])?;
    for (what, buffer) in [("norm.gain", Some(&affine.gain)), ("norm.bias", affine.bias.as_ref())] {
        let Some(buffer) = buffer else { continue };
        let fits = buffer.size() >= u64::from(x.dim4()) * 16;
        expect(what, fits, || format!("[{}]", x.dim), &[(buffer.size() / 4) as u32])?;
    }
    let whole = if config.kind == NormKind::Layer { x.dim } else { 1 };
    let fits = (whole.max(1)..=x.dim).contains(&affine.count);
    expect("norm.count", fits, || format!("{whole} to {}", x.dim), &[affine.count])
}

/// Normalizes rows as `config` says. `x`: `[T, D]` in f32; gain and bias: `[D]` in f32, padded; returns `[T, D]`, or `[B, D]`. Elements
/// within a row that are padding (those of heads) are zero, as their gains are; layer norm has no place for such.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn norm(
    g: &mut Graph<'_>,
    x: &Tensor,
    affine: &Affine,
    config: NormConfig,
    rows: Rows,
    out: Out<'_>,
    step: &Step,
) -> Result<Tensor> {
    expect_norm(x, affine, config)?;
    let count = if let Rows::Last(slots) = rows { slots } else { x.rows };
    let y = match out {
        Out::New(elem) => g.empty("norm", count, x.dim, elem)?,
        Out::AddTo(y) => *y,
    };
    expect("norm.y", (y.rows, y.dim) == (count, x.dim), || format!("[{count}, {}]", x.dim), &[y.rows, y.dim])?;
    let sums = g.kernels().norms;
    let kernel = shaders::NORM.variant(&[flag('y', y.elem), sums.flag()]);
    let (site, beyond) = g.check(None, y.elem);
    let params =
        NormParams { dim: x.dim, dim4: x.dim4(), count: affine.count, eps: config.eps, offset: config.offset(), site };
    let mut constants = config.constants(affine.bias.as_ref()).to_vec();
    constants.push(("LAST_ROWS", rows.last_only()));
    constants.push(("BEYOND", beyond));
    constants.push(("ACCUMULATE", f64::from(u8::from(matches!(out, Out::AddTo(_))))));
    // without a bias its binding shows the gains, unread
    let bias = affine.bias.as_ref().unwrap_or(&affine.gain);
    let operands =
        [(&step.state).into(), (&step.overflow).into(), x.into(), (&affine.gain).into(), bias.into(), (&y).into()];
    g.dispatch(kernel, &constants, &params, &operands, sums.groups(u64::from(count)))?;
    let written = y.row_bytes() * if matches!(out, Out::AddTo(_)) { 2 } else { 1 };
    g.work(Work {
        shape: [x.dim, x.dim],
        bytes: u64::from(x.dim4()) * 16 * if affine.bias.is_some() { 2 } else { 1 },
        bytes_per_row: x.row_bytes() + written,
        last_rows: matches!(rows, Rows::Last(_)),
        ..Work::default()
    });
    Ok(y)
}
