//! What kernels take at the shapes of a small encoder: a measurement, to be asked for.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::graph::{Arena, Graph};
use webweft::ops::{
    Act, Affine, AttentionParams, Heads, NormConfig, NormKind, Out, Result, Rows, activation, attention, matmul, norm,
    rope_append,
};
use webweft::tensor::{Elem, Storage};

use super::{Bench, plain_kv};
use crate::common::{device, random, report};

/// D, F, H and E of MiniLM; texts, and tokens of each.
const D: usize = 384;
const F: usize = 1536;
const HEADS: Heads = Heads { heads: 12, kv_heads: 12, head_dim: 32, rotary: 0 };

/// `times`: how often within a submit, so that what a submit costs does not count.
async fn time(bench: &Bench, name: &str, times: u32, flops: f64, record: impl FnOnce(&mut Graph<'_>) -> Result<()>) {
    const RUNS: usize = 3;
    let mut g = Graph::new(&bench.device);
    record(&mut g).expect("shapes fit");
    let program = g.finish(&Arena::default()).expect("a program");
    let marker = bench.buffer(&[0_u32; 4]);
    let mut best = f64::MAX;
    for _ in 0..RUNS {
        let mut encoder = bench.device.encoder();
        (0..times).for_each(|_| program.encode(&mut encoder));
        bench.device.read(&marker, 0..4).await.expect("idle");
        let began = web_time::Instant::now();
        bench.device.submit(encoder);
        bench.device.read(&marker, 0..4).await.expect("it ran");
        best = best.min(began.elapsed().as_secs_f64() / f64::from(times));
    }
    report(&format!("{name:40} {:9.2} ms  {:6.2} GFLOP/s", best * 1e3, flops / best / 1e9));
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
#[ignore = "a measurement: it wants a quiet machine"]
async fn kernels_of_an_encoder() {
    let bench = Bench::new(&device().await);
    for (texts, tokens) in [(4, 128), (1, 32), (1, 1)] {
        let rows = texts * tokens;
        let times = 64 / rows.min(64);
        let step = bench.step_of(&vec![(tokens, 0); texts as usize]);
        report(&format!("{texts} texts of {tokens} tokens"));
        for (storage, elem) in [(Storage::F32, Elem::F32), (Storage::Q4, Elem::F16), (Storage::F16, Elem::F16)] {
            for (n, k) in [(3 * D, D), (D, D), (F, D), (D, F)] {
                let (weight, _) = bench.weight(&random(n * k, 1), k, storage, &[]);
                let flops = 2.0 * f64::from(rows) * (n * k) as f64;
                let name = format!("{storage:?} product [{n}, {k}]");
                time(&bench, &name, times, flops, |g| {
                    let x = g.empty("x", rows, k as u32, elem)?;
                    matmul(g, &x, &weight, None, Out::New(elem), Rows::All, &step).map(drop)
                })
                .await;
            }
        }
        let elem = Elem::F32;
        let cache = vec![0_f32; ((step.slots * step.pages) as usize) * 32 * D];
        let kv = plain_kv(bench.buffer(&cache), bench.buffer(&cache), elem);
        let scores = f64::from(texts) * f64::from(tokens * tokens) * 4.0 * D as f64;
        let params = AttentionParams {
            heads: HEADS,
            scale: 0.2,
            softcap: 0.0,
            window: 0,
            causal: false,
            live: 128,
            slots: texts,
        };
        time(&bench, "attention", times, scores, |g| {
            let q = g.empty("q", rows, D as u32, elem)?;
            attention(g, &q, &kv, None, &params, &step).map(drop)
        })
        .await;
        time(&bench, "rope_append", times, 0.0, |g| {
            let qkv = g.empty("qkv", rows, 3 * D as u32, elem)?;
            rope_append(g, &qkv, &HEADS, None, &kv, &step).map(drop)
        })
        .await;
        let affine = Affine { gain: bench.vector(&[1.0; D]), bias: Some(bench.vector(&[0.0; D])), count: D as u32 };
        let config = NormConfig { kind: NormKind::Layer, eps: 1e-12 };
        time(&bench, "norm", times, 0.0, |g| {
            let x = g.empty("x", rows, D as u32, elem)?;
            norm(g, &x, &affine, config, Rows::All, Out::New(elem), &step).map(drop)
        })
        .await;
        time(&bench, "gelu", times, 0.0, |g| {
            let x = g.empty("x", rows, F as u32, elem)?;
            activation(g, &x, Act::Gelu, false, F as u32, &step).map(drop)
        })
        .await;
    }
}
