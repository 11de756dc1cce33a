use super::norm::expect_norm;
use super::quantize_rows::quantize_rows;
use super::{
    Act, Affine, NormConfig, NormKind, Result, Rows, activation, block_constants, expect, flag, norm, weight_flag,
};
use crate::device::{Buffer, Kernels, Sums, Tiles};
use crate::graph::{Graph, Operand, Work};
use crate::quant::{Blocks, Codes};
use crate::shaders::{self, Kernel, MatmulParams};
use crate::site::OpClass;
use crate::step::Step;
use crate::tensor::{Elem, Part, Storage, Tensor, Weight, vec4s};

/// Where a product goes.
#[derive(Clone, Copy, Debug)]
pub enum Out<'a> {
    /// A new activation of this element type.
    New(Elem),
    /// Added to this one: the residual stream.
    AddTo(&'a Tensor),
}

/// What is multiplied.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// `[T, K]`
    Rows(&'a Tensor),
    /// `[T, K]`, normalized first.
    Normed(Normed<'a>),
}

/// Rows that are to be [normalized](norm): in the kernel of the product where that can be, else before.
#[derive(Clone, Copy, Debug)]
pub struct Normed<'a> {
    /// `[T, K]`, in f32.
    pub x: &'a Tensor,
    /// Gains, and biases.
    pub affine: &'a Affine,
    /// The formula.
    pub config: NormConfig,
    /// The element type of the result, where it is written.
    pub elem: Elem,
}

impl<'a> From<&'a Tensor> for Input<'a> {
    fn from(x: &'a Tensor) -> Self {
        Self::Rows(x)
    }
}

impl Input<'_> {
    fn rows(&self) -> u32 {
        match self {
            Self::Rows(x) | Self::Normed(Normed { x, .. }) => x.rows,
        }
    }
}

/// What [`matmul_activated`] makes of a product.
#[derive(Clone, Copy, Debug)]
pub struct Activated {
    /// The element type.
    pub elem: Elem,
    /// The nonlinearity.
    pub act: Act,
    /// Whether the first half of the product gates the other.
    pub gated: bool,
    /// F, the width of the result.
    pub dim: u32,
}

/// Invocations of workgroups where each makes columns by itself, as `shaders/shared/few.wgsl` and `shaders/matmul_alone.wgsl` have it.
const LANES_ALONE: u32 = 16;
/// Rows that an invocation makes of a tile by itself, and from how many on it does.
const ROWS_ALONE: u32 = 8;

/// What 127 stands for at least where inputs are rounded to 8 bits: BitNet, whose weights are those of 2 bits, has such a bound.
const fn least_input(storage: Storage) -> f32 {
    match storage {
        Storage::Blocks(Blocks { codes: Codes::Int2, .. }) => 1e-5,
        _ => 0.0,
    }
}

/// `y[t, n] = sum_k x[t, k] * w[n, k] + bias[n]`, accumulated in f32.
/// `x`: `[T, K]`; `w`: `[N, K]`, N padded to a multiple of 4; `bias`: `[N]` in f32, padded; returns `[T, N]`.
/// `rows` says whether `x` has the step's rows, or only those that [`Rows::Last`] left.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn matmul<'a>(
    g: &mut Graph<'_>,
    x: impl Into<Input<'a>>,
    w: &Weight,
    bias: Option<&Buffer>,
    out: Out<'_>,
    rows: Rows,
    step: &Step,
) -> Result<Tensor> {
    product(g, x.into(), w, bias, out, None, rows, step)
}

/// [`activation`] of the product, F being `activated.dim`: in the same kernel where rows are few.
/// `x`: `[T, K]`; `w`: `[F, K]`, or where it is gated `[2 F, K]`, gate and the other each padded to whole vec4s; returns `[T, F]`.
///
/// # Errors
/// [`RecordError`](super::RecordError)
pub fn matmul_activated<'a>(
    g: &mut Graph<'_>,
    x: impl Into<Input<'a>>,
    w: &Weight,
    bias: Option<&Buffer>,
    activated: Activated,
    step: &Step,
) -> Result<Tensor> {
    let Activated { elem, act, gated, dim } = activated;
    let x = x.into();
    let [few, alone] = few_or_alone(g, x.rows());
    if few && !alone && matches!(&w.parts[..], [part] if !part.int8_inputs) {
        let halves = if gated { 2 } else { 1 };
        expect(
            "matmul.activated",
            w.rows.div_ceil(4) == halves * vec4s(dim),
            || format!("{halves} x {dim}"),
            &[w.rows, dim],
        )?;
        return product(g, x, w, bias, Out::New(elem), Some(activated), Rows::All, step);
    }
    let product = product(g, x, w, bias, Out::New(elem), None, Rows::All, step)?;
    activation(g, &product, act, gated, dim, step)
}

/// Whether products of so many rows are made by kernels for few rows (the matrix-vector kernel reads each weight once for four rows, and
/// wastes no tile), or where each invocation makes tiles by itself; the latter has no kernel for inputs in 8 bits, and the former makes those.
fn few_or_alone(g: &Graph<'_>, rows: u32) -> [bool; 2] {
    let Kernels { few_rows, tiles_alone, .. } = g.kernels();
    [tiles_alone || rows <= few_rows, tiles_alone && rows >= ROWS_ALONE]
}

/// What the kernel is to normalize, and what it reads. What it cannot normalize is done before.
fn normed<'a>(
    g: &mut Graph<'_>,
    x: Input<'a>,
    w: &Weight,
    rows: Rows,
    step: &Step,
) -> Result<(Tensor, Option<Normed<'a>>)> {
    let normed = match x {
        Input::Rows(x) => return Ok((*x, None)),
        Input::Normed(normed) => normed,
    };
    let Normed { x, affine, config, elem } = normed;
    let [few, alone] = few_or_alone(g, x.rows);
    let plain = w.parts.iter().all(|part| !part.int8_inputs && part.order.is_none());
    let is_all = rows == Rows::All;
    expect("matmul.normed", is_all, || "all rows".into(), &[x.rows])?;
    expect_norm(x, affine, config)?;
    let narrow = x.dim <= g.kernels().norm_in_products;
    if narrow && few && !alone && plain && config.kind != NormKind::Layer {
        return Ok((*x, Some(normed)));
    }
    // what is rounded to 8 bits is in f32 before: a rounding to f16 would put what lies between two codes to the other one
    let elem = if w.parts.iter().any(|part| part.int8_inputs) { Elem::F32 } else { elem };
    let class = g.enter(OpClass::Norm);
    let y = norm(g, x, affine, config, rows, Out::New(elem), step)?;
    g.enter(class);
    Ok((y, None))
}

/// The kernel that makes a product of many rows with tiles that a workgroup shares, and the rows of such a tile; it has 64 columns.
fn shared_tiles(g: &Graph<'_>, x: &Tensor, y: &Tensor, part: &Part) -> (&'static Kernel, u32) {
    let Kernels { tiles, large_tiles, .. } = g.kernels();
    let [x_flag, y_flag, w_flag] = [flag('x', x.elem), flag('y', y.elem), weight_flag(part.storage)];
    let large = x.rows > 64 && part.rows.div_ceil(64) * x.rows.div_ceil(128) >= large_tiles;
    let in_f16 = x.elem == Elem::F16 && part.storage != Storage::F32;
    let of_matrices = |side| (shaders::MATMUL_MATRICES.variant(&[x_flag, y_flag, w_flag, side]), 64);
    let of_tiles = |flag, rows| (shaders::MATMUL_MANY.variant(&[x_flag, y_flag, w_flag, flag]), rows);
    match tiles {
        Tiles::Matrices8 if in_f16 => of_matrices("matrices_8"),
        Tiles::Matrices16 if in_f16 => of_matrices("matrices_16"),
        Tiles::F16 if in_f16 && large => of_tiles("tiles_f16", 128),
        _ if large => of_tiles("tiles_128", 128),
        _ => of_tiles("tiles_64", 64),
    }
}

#[expect(clippy::too_many_arguments, reason = "those of `matmul` and of `matmul_activated`")]
fn product(
    g: &mut Graph<'_>,
    x: Input<'_>,
    w: &Weight,
    bias: Option<&Buffer>,
    out: Out<'_>,
    activated: Option<Activated>,
    rows: Rows,
    step: &Step,
) -> Result<Tensor> {
    let (x, normed) = normed(g, x, w, rows, step)?;
    let x = &x;
    expect("matmul.x", x.dim == w.dim, || format!("[T, {}]", w.dim), &[x.rows, x.dim])?;
    let Kernels { sums, packed_dot, .. } = g.kernels();
    let [few, alone] = few_or_alone(g, x.rows);
    let width = activated.map_or(w.rows, |activated| activated.dim);
    let y = match out {
        Out::New(elem) => g.empty("matmul", x.rows, width, elem)?,
        Out::AddTo(y) => *y,
    };
    expect("matmul.y", (y.rows, y.dim) == (x.rows, width), || format!("[{}, {width}]", x.rows), &[y.rows, y.dim])?;
    if let Some(bias) = bias {
        let padded = u64::from(vec4s(w.rows)) * 16;
        expect("matmul.bias", bias.size() >= padded, || format!("[{}]", w.rows), &[(bias.size() / 4) as u32])?;
    }
    let (x_flag, y_flag) = (flag('x', x.elem), flag('y', y.elem));
    let per_group = x.rows.min(4);
    let (site, beyond) = g.check(None, y.elem);
    let products = if packed_dot { "dp_on" } else { "dp_off" };
    // inputs in 8 bits, in their own order
    let mut in_order: Option<Tensor> = None;
    for part in &w.parts {
        let w_flag = weight_flag(part.storage);
        let rounded = match (part.int8_inputs, &part.order, in_order) {
            (false, ..) => None,
            (true, None, Some(rounded)) => Some(rounded),
            (true, order, _) => Some(quantize_rows(g, x, order.as_ref(), least_input(part.storage), rows, step)?),
        };
        if part.order.is_none() {
            in_order = in_order.or(rounded);
        }
        let (kernel, tile_rows) = match (few, rounded) {
            (true, None) if alone => (shaders::MATMUL_ALONE.variant(&[x_flag, y_flag, w_flag]), ROWS_ALONE),
            (true, None) => (shaders::MATMUL_FEW.variant(&[x_flag, y_flag, w_flag, sums.flag()]), per_group),
            (false, None) => shared_tiles(g, x, &y, part),
            (true, Some(_)) => (shaders::MATMUL_INT8_FEW.variant(&[y_flag, sums.flag(), products]), per_group),
            (false, Some(_)) => (shaders::MATMUL_INT8_MANY.variant(&[y_flag, products]), 64),
        };
        let mut constants = vec![
            ("BIAS", f64::from(u8::from(bias.is_some()))),
            ("ACCUMULATE", f64::from(u8::from(matches!(out, Out::AddTo(_))))),
            ("LAST_ROWS", rows.last_only()),
            ("BEYOND", beyond),
        ];
        if few && !(alone && rounded.is_none()) {
            constants.push(("ROWS", f64::from(per_group)));
        }
        if let Some(Activated { act, gated, .. }) = activated {
            constants.extend([("ACT", f64::from(act as u8)), ("GATED", f64::from(u8::from(gated)))]);
        }
        if normed.is_some() {
            constants.push(("NORMED", 1.0));
        }
        constants.extend(block_constants(part.storage));
        if part.order.is_some() && rounded.is_none() {
            constants.push(("ORDER", 1.0));
        }
        let len = part.row_len(w.dim);
        let params = MatmulParams {
            k4: vec4s(len),
            x_stride4: rounded.map_or(x.dim4(), |rounded| rounded.dim4()),
            n: part.rows,
            first: part.first,
            w_stride4: part.storage.stride4(len),
            scale_stride: part.storage.scale_stride(len),
            y_stride4: y.dim4(),
            site,
            count: normed.map_or(0, |normed| normed.affine.count),
            eps: normed.map_or(0.0, |normed| normed.config.eps),
            offset: normed.map_or(0.0, |normed| normed.config.offset()),
        };
        // what there is none of is shown as the step state, unread
        let shown = bias.unwrap_or(&step.state);
        let mut operands: Vec<Operand<'_>> = vec![
            (&step.state).into(),
            (&step.overflow).into(),
            rounded.as_ref().unwrap_or(x).into(),
            shown.into(),
            (&y).into(),
            (&part.data).into(),
        ];
        operands.extend(part.scales.as_ref().map(Operand::from));
        let order = part.order.as_ref().map(|order| &order.inputs);
        let inputs = normed.map_or(order, |normed| Some(&normed.affine.gain)).unwrap_or(&step.state);
        if kernel.bindings.len() > operands.len() + 1 {
            operands.push(inputs.into());
        }
        let across = if alone && rounded.is_none() {
            (part.rows / 4).div_ceil(2 * LANES_ALONE)
        } else if few {
            let columns4 = if activated.is_some() { y.dim4() } else { part.rows / 4 };
            if sums == Sums::Alone { columns4.div_ceil(LANES_ALONE) } else { columns4 }
        } else {
            part.rows.div_ceil(64)
        };
        let groups = u64::from(across) * u64::from(x.rows.div_ceil(tile_rows));
        g.dispatch(kernel, &constants, &params, &operands, groups)?;
        // without the rows that pad the last part
        let outputs = part.rows.min(w.rows.saturating_sub(part.first));
        let size = |buffer: Option<&Buffer>| buffer.map_or(0, Buffer::size);
        let order = part.order.as_ref().map(|order| &order.inputs).filter(|_| rounded.is_none());
        let written = u64::from(vec4s(outputs).min(y.dim4())) * y.elem.bytes4();
        g.work(Work {
            shape: [w.dim, outputs],
            bytes: part.data.size()
                + size(part.scales.as_ref())
                + size(order)
                + bias.map_or(0, |_| u64::from(outputs) * 4),
            bytes_per_row: rounded.as_ref().unwrap_or(x).row_bytes()
                + written * if matches!(out, Out::AddTo(_)) { 2 } else { 1 },
            operations_per_row: 2 * u64::from(w.dim) * u64::from(outputs),
            last_rows: matches!(rows, Rows::Last(_)),
            keys: None,
        });
    }
    Ok(y)
}
