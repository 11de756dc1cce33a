//! Shapes and settings that no fixture has, against the scalar model.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::checkpoint::Dtype as Stored;
use webweft::device::Device;
use webweft::generate::GenerateOptions;
use webweft::managers::Dtype;
use webweft::session::{LoadOptions, Session};

use super::reference_llama::{Shape, Synthetic};
use super::{assert_close, generate, open, top2_margin};
use crate::common::{device, gpu_device, portable_device};

/// Grouped, multi-query and multi-head attention; heads 6 to 256 wide; widths that are no multiple of 4; each bias; tied or not.
fn shapes() -> Vec<(Shape, Stored)> {
    let base = Shape {
        hidden: 64,
        ff: 172,
        layers: 2,
        heads: 4,
        kv_heads: 4,
        head_dim: 16,
        vocab: 101,
        tied: false,
        attention_bias: true,
        mlp_bias: true,
    };
    vec![
        (Shape { hidden: 30, ff: 31, heads: 3, kv_heads: 3, head_dim: 10, vocab: 33, ..base }, Stored::F32),
        (
            Shape { hidden: 48, ff: 96, kv_heads: 1, head_dim: 20, vocab: 333, tied: true, mlp_bias: false, ..base },
            Stored::F16,
        ),
        (
            Shape { hidden: 60, ff: 50, heads: 6, kv_heads: 2, head_dim: 6, vocab: 257, attention_bias: false, ..base },
            Stored::F32,
        ),
        (
            Shape {
                hidden: 128,
                ff: 64,
                heads: 2,
                kv_heads: 1,
                head_dim: 256,
                attention_bias: false,
                mlp_bias: false,
                ..base
            },
            Stored::F32,
        ),
        (base, Stored::BF16),
    ]
}

fn prompt(length: usize, vocab: usize) -> Vec<u32> {
    (0..length).map(|i| ((i * i * 31 + i * 7 + 3) % vocab) as u32).collect()
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn any_shape_equals_the_scalar_model() {
    for (seed, (shape, stored)) in (100..).step_by(100).zip(shapes()) {
        let model = Synthetic::new(&shape, stored, seed);
        let ids = prompt(70, shape.vocab);
        let (hidden, logits) = model.forward(&ids);
        let mut session = open(&model.source(), &LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() }).await;
        for chunk in [512, 33, 9] {
            session.engine_mut().set_prefill_chunk(chunk).unwrap();
            let got = session.forward(&ids).await.unwrap();
            let what = format!("{} wide heads, chunks of {chunk}", shape.head_dim);
            assert_close(&what, &got.last_hidden_state, &hidden, 2e-4, 1e-4);
            assert_close(&what, &got.logits, &logits, 2e-4, 1e-4);
        }
        // greedy tokens after the prompt are those of the scalar model
        let new =
            generate(&mut session, &ids, GenerateOptions { max_new_tokens: 8, ..GenerateOptions::default() }).await;
        let all: Vec<u32> = ids.iter().chain(&new).copied().collect();
        let (_, logits) = model.forward(&all);
        for (i, &id) in new.iter().enumerate() {
            let row = &logits[(ids.len() - 1 + i) * shape.vocab..][..shape.vocab];
            let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
            assert!(best == id as usize || top2_margin(row) < 1e-3, "token {i}: {id}, expected {best}");
        }
    }
}

/// Half of each head rotated, the rest left as it is.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn partial_rotation_equals_the_scalar_model() {
    let (shape, stored) = shapes().remove(1);
    let mut model = Synthetic::new(&shape, stored, 9);
    model.config["partial_rotary_factor"] = serde_json::json!(0.5);
    assert_eq!(model.config().heads.rotary, 10);
    let ids = prompt(40, shape.vocab);
    let (_, logits) = model.forward(&ids);
    let mut session = open(&model.source(), &LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() }).await;
    assert_close("logits", &session.forward(&ids).await.unwrap().logits, &logits, 2e-4, 1e-4);
}

/// f16 and q4 storage, against the scalar model at f32: as near as 16 and 4 bits come.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn narrow_types_stay_near_the_scalar_model() {
    for (seed, (shape, stored)) in (100..).step_by(100).zip(shapes()) {
        stay_near(&device().await, &shape, &Synthetic::new(&shape, stored, seed), &[512]).await;
    }
}

async fn stay_near(device: &Device, shape: &Shape, model: &Synthetic, chunks: &[u32]) {
    let ids = prompt(70, shape.vocab);
    let (_, want) = model.forward(&ids);
    let spread = (want.iter().map(|v| v * v).sum::<f32>() / want.len() as f32).sqrt();
    for (dtype, most) in [(Dtype::F16, 0.01), (Dtype::Q4, 0.5)] {
        let options = LoadOptions { dtype, ..LoadOptions::default() };
        let mut session = Session::open(device, &model.source(), &options, |_| ()).await.unwrap();
        for &chunk in chunks {
            session.engine_mut().set_prefill_chunk(chunk).unwrap();
            let got = session.forward(&ids).await.unwrap().logits;
            let error = (got.iter().zip(&want).map(|(a, b)| (a - b) * (a - b)).sum::<f32>() / want.len() as f32).sqrt();
            let what = format!("{dtype:?}, {} wide heads, chunks of {chunk}", shape.head_dim);
            assert!(error / spread < most, "{what}: error {error} of {spread}");
        }
    }
}

/// The weakest conforming adapter (default limits, no f16, no subgroups), and the kernels of GPUs where a processor plays one: in tiles, in a few
/// rows, and in one.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn every_choice_of_kernels_gives_the_same() {
    for device in [portable_device().await, gpu_device().await] {
        for (shape, stored) in shapes().into_iter().skip(2) {
            let model = Synthetic::new(&shape, stored, 7);
            let ids = prompt(70, shape.vocab);
            let (_, logits) = model.forward(&ids);
            let options = LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() };
            let mut session = Session::open(&device, &model.source(), &options, |_| ()).await.unwrap();
            for chunk in [512, 7, 1] {
                session.engine_mut().set_prefill_chunk(chunk).unwrap();
                let got = session.forward(&ids).await.unwrap();
                assert_close(&format!("chunks of {chunk}"), &got.logits, &logits, 2e-4, 1e-4);
            }
        }
        let (shape, stored) = shapes().remove(0);
        stay_near(&device, &shape, &Synthetic::new(&shape, stored, 100), &[512, 7]).await;
    }
}
