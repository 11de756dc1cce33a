use super::quantize_rows::quantize_rows;
use super::{Result, Rows, block_constants, expect, flag, weight_flag};
use crate::device::{Buffer, Capabilities};
use crate::graph::{Graph, Operand, Work};
use crate::quant::{Blocks, Codes};
use crate::shaders::{self, MatmulParams};
use crate::step::Step;
use crate::tensor::{Elem, Storage, Tensor, Weight, vec4s};

/// Where a product goes.
#[derive(Clone, Copy, Debug)]
pub enum Out<'a> {
    /// A new activation of this element type.
    New(Elem),
    /// Added to this one: the residual stream.
    AddTo(&'a Tensor),
}

/// Up to this many rows the matrix-vector kernel is taken: it reads each weight once for four rows, and wastes no tile.
const FEW: u32 = 8;
/// Invocations of workgroups where each makes columns by itself, as `shaders/shared/few.wgsl` and `shaders/matmul_alone.wgsl` have it.
const LANES_ALONE: u32 = 16;
/// Rows that an invocation makes at once on a processor, and from how many on it does.
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
pub fn matmul(
    g: &mut Graph<'_>,
    x: &Tensor,
    w: &Weight,
    bias: Option<&Buffer>,
    out: Out<'_>,
    rows: Rows,
    step: &Step,
) -> Result<Tensor> {
    expect("matmul.x", x.dim == w.dim, || format!("[T, {}]", w.dim), &[x.rows, x.dim])?;
    let y = match out {
        Out::New(elem) => g.empty("matmul", x.rows, w.rows, elem)?,
        Out::AddTo(y) => *y,
    };
    expect("matmul.y", (y.rows, y.dim) == (x.rows, w.rows), || format!("[{}, {}]", x.rows, w.rows), &[y.rows, y.dim])?;
    if let Some(bias) = bias {
        let padded = u64::from(vec4s(w.rows)) * 16;
        expect("matmul.bias", bias.size() >= padded, || format!("[{}]", w.rows), &[(bias.size() / 4) as u32])?;
    }
    let Capabilities { processor, subgroups, packed_dot, .. } = g.capabilities();
    // a processor gains nothing by tiles that invocations share
    let alone = processor && x.rows >= ROWS_ALONE;
    let few = processor || x.rows <= FEW;
    let sums = match (processor, subgroups) {
        (true, _) => "alone",
        (false, true) => "sg_on",
        (false, false) => "sg_off",
    };
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
        let kernel = match (few, rounded) {
            (true, None) if alone => shaders::MATMUL_ALONE.variant(&[x_flag, y_flag, w_flag]),
            (true, None) => shaders::MATMUL_FEW.variant(&[x_flag, y_flag, w_flag, sums]),
            (false, None) => shaders::MATMUL_MANY.variant(&[x_flag, y_flag, w_flag]),
            (true, Some(_)) => shaders::MATMUL_INT8_FEW.variant(&[y_flag, sums, products]),
            (false, Some(_)) => shaders::MATMUL_INT8_MANY.variant(&[y_flag, products]),
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
        if let Some(scales) = &part.scales {
            let order = part.order.as_ref().map_or(&step.state, |order| &order.inputs);
            operands.push(scales.into());
            operands.extend(rounded.is_none().then_some(Operand::from(order)));
        }
        let groups = if alone && rounded.is_none() {
            u64::from((part.rows / 4).div_ceil(2 * LANES_ALONE)) * u64::from(x.rows.div_ceil(ROWS_ALONE))
        } else if few {
            let across = if sums == "alone" { (part.rows / 4).div_ceil(LANES_ALONE) } else { part.rows / 4 };
            u64::from(across) * u64::from(x.rows.div_ceil(per_group))
        } else {
            u64::from(part.rows.div_ceil(64)) * u64::from(x.rows.div_ceil(64))
        };
        g.dispatch(kernel, &constants, &params, &operands, groups)?;
        // without the rows that pad the last part
        let outputs = part.rows.min(w.rows.saturating_sub(part.first));
        let size = |buffer: Option<&Buffer>| buffer.map_or(0, Buffer::size);
        let order = part.order.as_ref().map(|order| &order.inputs).filter(|_| rounded.is_none());
        let written = u64::from(vec4s(outputs)) * y.elem.bytes4();
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
