//! The finite check: what each kernel that stores activations says of values that their type does not hold.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops::{self, Act, Affine, Heads, NormConfig, NormKind, Out, Rows};
use webweft::quant::Blocks;
use webweft::shaders::Slot;
use webweft::site::{OpClass, Site};
use webweft::step::Step;
use webweft::tensor::{Elem, Storage};

use super::{Bench, Case, devices, plain_kv};

const DIM: usize = 8;
const LAYER: u32 = 3;

/// Values, and whether f16 and f32 hold them: f16 rounds to infinity from 65520 on.
const VALUES: [(f32, [bool; 2]); 8] = [
    (1.0, [true, true]),
    (65_510.0, [true, true]),
    (65_530.0, [false, true]),
    (-70_000.0, [false, true]),
    (3e38, [false, true]),
    (f32::INFINITY, [false, false]),
    (f32::NEG_INFINITY, [false, false]),
    (f32::NAN, [false, false]),
];

/// Who a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Row {
    /// Its slot goes on.
    Claimed,
    /// Its slot has stopped: nobody reads what is made of it.
    Stopped,
}

/// Records a kernel such that one element of row `AT` becomes a value.
type Record = Box<dyn Fn(&mut Bench, &Step, f32)>;

struct Kernel {
    name: String,
    elem: Elem,
    class: OpClass,
    record: Record,
}

/// A step of two slots of three and four rows: row 4, the second slot's second one, is of that kind.
fn step(bench: &Bench, row: Row) -> Step {
    let step = bench.step_of(&[(3, 0), (4, 5)]);
    if row == Row::Stopped {
        let slot = Slot { position: 5, rows: 4, first: 3, done: 1, ..Slot::default() };
        step.set_slot(&bench.device, 1, &slot);
    }
    step
}

const ROWS: usize = 7;
const AT: usize = 4;

/// `width` ones in each row, and `value` in row `AT`.
fn rows_with(value: f32, width: usize, column: usize) -> Vec<f32> {
    let mut data = vec![1.0; ROWS * width];
    data[AT * width + column] = value;
    data
}

fn at(case: &mut Case<'_>, class: OpClass) {
    case.g.enter_layer(Some(LAYER));
    case.g.enter(class);
}

fn kernels() -> Vec<Kernel> {
    let mut all = Vec::new();
    let heads = Heads { heads: 1, kv_heads: 1, head_dim: DIM as u32, rotary: DIM as u32 };
    for elem in [Elem::F16, Elem::F32] {
        let mut add = |name: &str, class, record: Record| {
            all.push(Kernel { name: format!("{name} {elem:?}"), elem, class, record });
        };
        // a bucket of few rows and one of many
        for bucket in [8, 64] {
            let record = move |bench: &mut Bench, step: &Step, value: f32| {
                // column 5 of the product is column 2 of the input
                let mut weight = vec![0.0; 12 * DIM];
                weight[5 * DIM + 2] = 1.0;
                let (weight, _) = bench.weight(&weight, DIM, Storage::F32, &[]);
                let data = rows_with(value, DIM, 2);
                bench.case(|case| {
                    at(case, OpClass::Mlp);
                    let x = case.input(&data, bucket, DIM, Elem::F32);
                    ops::matmul(&mut case.g, &x, &weight, None, Out::New(elem), Rows::All, step).expect("shapes fit");
                });
            };
            add(&format!("matmul of {bucket}"), OpClass::Mlp, Box::new(record));
        }
        let record = move |bench: &mut Bench, step: &Step, value: f32| {
            // what is not finite stays so; the rest is made by the gain, of rows whose norm is one
            // drivers' inverse roots are good to some thousandths
            let away = if value.abs() < 65_520.0 { 0.99 } else { 1.01 };
            let mut gain = [1.0; DIM];
            gain[2] = if value.is_finite() { away * value / (DIM as f32).sqrt() } else { 1.0 };
            let gain = bench.vector(&gain);
            let mut data = vec![0.0; ROWS * DIM];
            data.chunks_exact_mut(DIM).for_each(|row| row[0] = (DIM as f32).sqrt());
            data[AT * DIM] = if value.is_finite() { 0.0 } else { 1.0 };
            data[AT * DIM + 2] = if value.is_finite() { (DIM as f32).sqrt() } else { value };
            bench.case(|case| {
                at(case, OpClass::Norm);
                let x = case.input(&data, 8, DIM, Elem::F32);
                let affine = Affine { gain, bias: None, count: DIM as u32 };
                let config = NormConfig { kind: NormKind::Rms, eps: 0.0 };
                ops::norm(&mut case.g, &x, &affine, config, Rows::All, Out::New(elem), step).expect("shapes fit");
            });
        };
        add("norm", OpClass::Norm, Box::new(record));
        let record = move |bench: &mut Bench, step: &Step, value: f32| {
            let mut data = rows_with(1.0, 2 * DIM, 0);
            // 4 times what f16 holds exactly
            data[AT * 2 * DIM + 1] = 4.0;
            data[AT * 2 * DIM + DIM + 1] = value / 4.0;
            bench.case(|case| {
                at(case, OpClass::Mlp);
                let x = case.input(&data, 8, 2 * DIM, elem);
                ops::activation(&mut case.g, &x, Act::Relu, true, DIM as u32, step).expect("shapes fit");
            });
        };
        add("activation", OpClass::Mlp, Box::new(record));
        // of the cache's type, while queries, keys and values are f32: the key, and the value
        for column in [DIM + 3, 2 * DIM + 3] {
            let record = move |bench: &mut Bench, step: &Step, value: f32| {
                let blocks = (step.slots * step.pages) as usize;
                let [k, v] = [(); 2].map(|()| bench.poisoned(blocks * 32 * DIM));
                let kv = plain_kv(k, v, elem);
                let data = rows_with(value, 3 * DIM, column);
                bench.case(|case| {
                    at(case, OpClass::Attention);
                    let x = case.input(&data, 8, 3 * DIM, Elem::F32);
                    ops::rope_append(&mut case.g, &x, &heads, None, &kv, step).expect("shapes fit");
                });
            };
            add(&format!("rope_append, column {column}"), OpClass::Cache, Box::new(record));
        }
    }
    all
}

/// Each kernel names its site for each value that its type does not hold, and for no other; nor where the row is nobody's.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn what_a_type_does_not_hold_is_told() {
    for device in devices().await {
        let mut bench = Bench::new(&device);
        for Kernel { name, elem, class, record } in kernels() {
            for (value, [in_f16, in_f32]) in VALUES {
                for row in [Row::Claimed, Row::Stopped] {
                    let step = step(&bench, row);
                    record(&mut bench, &step, value);
                    let is_held = if elem == Elem::F16 { in_f16 } else { in_f32 };
                    let site = Site { class, layer: Some(LAYER) };
                    let want = if is_held || row == Row::Stopped { u32::MAX } else { site.number() };
                    let name = format!("{name}: {value} in a {row:?} row");
                    bench.read(&[&step.overflow], move |bytes| assert_eq!(bytes[0], want.to_le_bytes(), "{name}"));
                }
            }
        }
        bench.run().await;
    }
}

/// The heads of queries that rotation makes larger than f16 holds, and those that their norm does.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn heads_that_outgrow_f16_are_told() {
    for device in devices().await {
        let mut bench = Bench::new(&device);
        let heads = Heads { heads: 1, kv_heads: 1, head_dim: DIM as u32, rotary: DIM as u32 };
        for (gain, found) in [(60_000.0, false), (66_000.0, true)] {
            let step = step(&bench, Row::Claimed);
            let gains = [vec![gain; DIM], vec![1.0; DIM]].concat();
            let affine = Affine { gain: bench.vector(&gains), bias: None, count: DIM as u32 };
            bench.case(|case| {
                at(case, OpClass::Attention);
                let qkv = case.input(&rows_with(1.0, 3 * DIM, 0), 8, 3 * DIM, Elem::F16);
                let config = NormConfig { kind: NormKind::Rms, eps: 0.0 };
                ops::head_norm(&mut case.g, &qkv, &heads, &affine, config, &step).expect("shapes fit");
            });
            let want = if found { Site { class: OpClass::Attention, layer: Some(LAYER) }.number() } else { u32::MAX };
            bench.read(&[&step.overflow], move |bytes| assert_eq!(bytes[0], want.to_le_bytes(), "gain {gain}"));
        }
        // a pair of equal elements, turned by an eighth of a circle for each position: sqrt(2) of one at its longest
        for (value, found) in [(40_000.0, false), (60_000.0, true)] {
            let step = step(&bench, Row::Claimed);
            let table = ops::rope_table(&[std::f32::consts::FRAC_PI_4; DIM / 2], 1.0, 16);
            let layout = ops::RopeLayout::default();
            let table = ops::RopeTable { data: bench.buffer(&table), layout };
            let [k, v] = [(); 2].map(|()| bench.poisoned((step.slots * step.pages) as usize * 32 * DIM));
            let kv = plain_kv(k, v, Elem::F32);
            let mut data = vec![1.0; ROWS * 3 * DIM];
            data.chunks_exact_mut(3 * DIM).for_each(|row| (row[1], row[1 + DIM / 2]) = (value, value));
            bench.case(|case| {
                at(case, OpClass::Attention);
                let qkv = case.input(&data, 8, 3 * DIM, Elem::F16);
                ops::rope_append(&mut case.g, &qkv, &heads, Some(&table), &kv, &step).expect("shapes fit");
            });
            let want = if found { Site { class: OpClass::Attention, layer: Some(LAYER) }.number() } else { u32::MAX };
            bench.read(&[&step.overflow], move |bytes| assert_eq!(bytes[0], want.to_le_bytes(), "{value} turned"));
        }
        bench.run().await;
    }
}

/// Products of integers, whose inputs are rounded to 8 bits, each row with a scale of its own.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn products_of_integers_are_looked_at() {
    const GROUP: usize = 32;
    for device in devices().await {
        let mut bench = Bench::new(&device);
        for bucket in [8, 64] {
            for (value, elem, is_found) in
                [(60_000.0, Elem::F16, false), (70_000.0, Elem::F16, true), (70_000.0, Elem::F32, false)]
            {
                let step = step(&bench, Row::Claimed);
                let mut weight = vec![0.0; 12 * GROUP];
                weight[5 * GROUP + 2] = 1.0;
                let (mut weight, _) = bench.weight(&weight, GROUP, Storage::Blocks(Blocks::Q8), &[]);
                weight.parts.iter_mut().for_each(|part| part.int8_inputs = true);
                let data = rows_with(value, GROUP, 2);
                bench.case(|case| {
                    at(case, OpClass::Mlp);
                    let x = case.input(&data, bucket, GROUP, Elem::F32);
                    ops::matmul(&mut case.g, &x, &weight, None, Out::New(elem), Rows::All, &step).expect("shapes fit");
                });
                let site = Site { class: OpClass::Mlp, layer: Some(LAYER) };
                let want = if is_found { site.number() } else { u32::MAX };
                let name = format!("{value} in {elem:?}, rows of {bucket}");
                bench.read(&[&step.overflow], move |bytes| assert_eq!(bytes[0], want.to_le_bytes(), "{name}"));
            }
        }
        bench.run().await;
    }
}
