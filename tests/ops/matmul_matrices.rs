//! The product by matrices that subgroups multiply together, where the adapter has no such matrices, or has one size of them: they are arrays
//! then, and so many invocations in a row are taken for a subgroup. What is tested is which elements the kernel multiplies, and where it
//! stores them, for any number of subgroups; what drivers make of the matrices, `matmul_tiles` tests where there are any.
#![cfg(not(target_arch = "wasm32"))]

use std::fmt::Write as _;

use half::f16;
use webweft::graph::Operand;
use webweft::reference;
use webweft::shaders::{Kernel, MATMUL_MATRICES, MatmulParams};
use webweft::tensor::{Elem, Storage, vec4s};

use super::{Bench, stored, tolerance};
use crate::common::{assert_close, gpu_device, random, skipped};

/// The kernel with arrays for matrices, and so many subgroups in a workgroup.
fn emulated(kernel: &Kernel, side: u32, subgroups: u32) -> &'static Kernel {
    let mut text = kernel.wgsl.replace("enable wgpu_cooperative_matrix;", "");
    let mut put = |from: &str, to: &str| {
        assert!(text.contains(from), "{}: no {from}", kernel.label);
        text = text.replace(from, to);
    };
    for (name, elem, role) in [("X", "f16", "A"), ("W", "f16", "B"), ("Y", "f32", "C")] {
        put(&format!("alias Matrix{name} = coop_mat{side}x{side}<{elem}, {role}>;"), "");
    }
    put(", @builtin(subgroup_id) subgroup: u32, @builtin(num_subgroups) subgroups: u32", "");
    let lanes = 128 / subgroups;
    let counted = format!("    let subgroups = {subgroups}u;\n    let subgroup = lane / {lanes}u;\n    let flat =");
    put("    let flat =", &counted);
    put("var acc: array<MatrixY, EACH * MATRICES>;", "");
    put("var of_x: array<MatrixX, ACROSS>;", "");
    put("of_x[r] = coopLoadT<MatrixX>(&x_tile[", "load_x(r, [");
    put("let of_w = coopLoad<MatrixW>(&w_tile[", "load_w([");
    put("acc[m] = coopLoadT<MatrixY>(&strips[", "load_y(m, [");
    put("acc[m] = coopMultiplyAdd(of_x[r], of_w, acc[m])", "multiply_add(r, m)");
    put("let strip = acc[e * MATRICES + m + i];", "let strip = e * MATRICES + m + i;");
    put("coopStoreT(strip, &strips[", "store_y(strip, [");
    // places are arguments now
    let lines =
        text.lines().map(|line| match ["load_x", "load_w", "load_y", "store_y"].iter().any(|f| line.contains(f)) {
            true => line.replacen('[', "", 1).replacen(']', "", 1),
            false => line.to_owned(),
        });
    let mut wgsl = lines.collect::<Vec<_>>().join("\n");
    write!(wgsl, "\n{}", include_str!("../data/matrices.wgsl")).expect("a string takes all");
    // a kernel's address stands for it
    Box::leak(Box::new(Kernel {
        label: "matrices as arrays",
        features: kernel.features,
        bindings: kernel.bindings,
        wgsl: Box::leak(wgsl.into_boxed_str()),
    }))
}

#[pollster::test]
async fn with_any_number_of_subgroups() {
    let device = gpu_device().await;
    if !device.capabilities().shader_f16 {
        return skipped("matrices as arrays: the adapter has no f16");
    }
    let mut bench = Bench::new(&device);
    // those of 8 x 8 are as many times more, and lavapipe compiles as much longer; new ones have them
    let side = 16;
    let cases = [
        (1, Storage::Q4, Elem::F32, [60, 40, 68]),
        (2, Storage::F16, Elem::F16, [33, 40, 31]),
        (8, Storage::Q4, Elem::F32, [70, 36, 40]),
    ];
    for (subgroups, storage, elem, [rows, inputs, outputs]) in cases {
        let w_flag = if storage == Storage::F16 { "w_f16" } else { "w_blocks" };
        let y_flag = if elem == Elem::F32 { "y_f32" } else { "y_f16" };
        let kernel = emulated(MATMUL_MATRICES.variant(&["x_f16", w_flag, y_flag, "matrices_16"]), side, subgroups);
        let x = stored(&random(rows * inputs, 1), Elem::F16);
        let size = 2.0 / (inputs as f32).sqrt();
        let w: Vec<f32> = random(outputs * inputs, 2).iter().map(|v| v * size).collect();
        let (weight, mut values) = bench.weight(&w, inputs, storage, &[]);
        values.iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32());
        let want = reference::matmul(&x, &values, inputs, None);
        let step = bench.step(rows as u32, 0);
        bench.case(|case| {
            let input = case.input(&x, 128, inputs, Elem::F16);
            let y = case.g.empty("test", 128, outputs as u32, elem).expect("a small tensor");
            let part = &weight.parts[0];
            let params = MatmulParams {
                k4: vec4s(inputs as u32),
                x_stride4: input.dim4(),
                n: part.rows,
                w_stride4: storage.stride4(inputs as u32),
                scale_stride: storage.scale_stride(inputs as u32),
                y_stride4: y.dim4(),
                ..MatmulParams::default()
            };
            let mut operands: Vec<Operand<'_>> = vec![
                (&step.state).into(),
                (&step.overflow).into(),
                (&input).into(),
                (&step.state).into(),
                (&y).into(),
                (&part.data).into(),
            ];
            if let Some(scales) = &part.scales {
                operands.extend([Operand::from(scales), (&step.state).into()]);
            }
            let groups = u64::from(part.rows.div_ceil(64)) * 2;
            case.g.dispatch(kernel, &[], &params, &operands, groups).expect("it is recorded");
            let (abs, rel) = tolerance(elem);
            let name = format!("{side} x {side}, {subgroups} subgroups, {storage:?}");
            case.output(&y, rows as u32, name, move |name, got| assert_close(name, &got, &want, abs, rel));
        });
    }
    bench.run().await;
}
