//! Values that f16 does not hold: found, and made again in f32.

use std::collections::BTreeMap;

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::checkpoint::Dtype as Stored;
use webweft::device::{Device, DeviceOptions};
use webweft::error::{Error, GenerateError};
use webweft::generate::{Event, GenerateOptions, SequenceId};
use webweft::managers::{CacheOptions, Dtype, Overflow};
use webweft::session::{LoadOptions, Session};
use webweft::site::{FiniteCheck, OpClass, Site};
use webweft::tensor::{CacheDtype, Elem};

use super::{F32, options};
use crate::common::{device, sample_of};
use crate::models::reference_llama::{Shape, Synthetic};
use crate::models::{generate, open, top2_margin};

const F16: LoadOptions = LoadOptions { dtype: Dtype::F16, ..F32 };
const PROMPT: [u32; 5] = [5, 17, 255, 3, 40];
const HIDDEN: usize = 48;

/// Its weights are those of f16, so that f32 and f16 run the same ones.
fn model() -> Synthetic {
    let shape = Shape {
        hidden: HIDDEN,
        ff: 80,
        layers: 3,
        heads: 4,
        kv_heads: 2,
        head_dim: 12,
        vocab: 300,
        tied: false,
        attention_bias: false,
        mlp_bias: false,
    };
    Synthetic::new(&shape, Stored::F16, 11)
}

fn scale(model: &mut Synthetic, layer: u32, name: &str, power: i32) {
    let tensor = model.tensors.get_mut(&format!("model.layers.{layer}.{name}.weight")).unwrap();
    tensor.1.iter_mut().for_each(|v| *v *= 2.0_f32.powi(power));
}

/// A checkpoint that makes in exact arithmetic what [`model`] makes (but for weights that become subnormal), whose activations of that class
/// are large in that layer.
fn large_in(class: OpClass, layer: u32) -> Synthetic {
    let mut model = model();
    let scales: &[(&str, i32)] = match class {
        OpClass::Norm => &[("post_attention_layernorm", 15), ("mlp.gate_proj", -15), ("mlp.up_proj", -15)],
        OpClass::Attention => &[("self_attn.q_proj", 15), ("self_attn.k_proj", -15)],
        // values: first as activations, then in the cache
        OpClass::Cache => &[("self_attn.v_proj", 16), ("self_attn.o_proj", -16)],
        OpClass::Mlp => &[("mlp.up_proj", 16), ("mlp.down_proj", -16)],
        OpClass::Head => unreachable!("logits are f32 always"),
    };
    scales.iter().for_each(|(name, power)| scale(&mut model, layer, name, *power));
    model
}

fn found(session: &Session) -> Vec<(OpClass, Option<u32>, u64)> {
    let overflows = session.engine().precision_report().overflows;
    overflows.iter().map(|Overflow { site, count, .. }| (site.class, site.layer, *count)).collect()
}

/// Each class of operations, in one layer or another: found, made again, told; then the tokens are those of f32, whoever samples, and so are
/// the logits of a whole pass.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn each_class_that_overflows_is_made_again_in_f32() {
    let cases = [(OpClass::Norm, 1), (OpClass::Attention, 0), (OpClass::Cache, 2), (OpClass::Mlp, 1)];
    for (class, layer) in cases {
        let source = large_in(class, layer).source();
        let want = generate(&mut open(&source, &F32).await, &PROMPT, options(24)).await;
        // an activation that outgrew f16 first
        let mut all = vec![(class, Some(layer), 1)];
        if class == OpClass::Cache {
            all.insert(0, (OpClass::Attention, Some(layer), 1));
        }
        for &lookahead in sample_of(1, &[8, 0]) {
            let mut session = open(&source, &F16).await;
            let got = generate(&mut session, &PROMPT, GenerateOptions { lookahead, ..options(24) }).await;
            assert_eq!(got, want, "{class:?}, lookahead {lookahead}");
            assert_eq!(found(&session), all, "lookahead {lookahead}");
            let told = session.engine().precision_report();
            assert_eq!(told.demoted, all.iter().map(|(class, ..)| *class).collect::<Vec<_>>());
            let kept = [(OpClass::Norm, told.activations.norm), (OpClass::Mlp, told.activations.mlp)];
            for (other, elem) in kept.into_iter().chain([(OpClass::Attention, told.activations.attention)]) {
                assert_eq!(elem == Elem::F32, told.demoted.contains(&other), "{other:?}");
            }
            assert_eq!(told.cache == CacheDtype::F32, class == OpClass::Cache);
            assert!(told.steps >= 24, "{told:?}");
            // it stays in f32
            session.engine_mut().reset();
            assert_eq!(generate(&mut session, &PROMPT, options(24)).await, want);
            assert_eq!(found(&session), all);
        }
    }
    let source = large_in(OpClass::Mlp, 2).source();
    let mut session = open(&source, &F16).await;
    let got = session.forward(&PROMPT).await.unwrap().logits;
    assert_eq!(found(&session), [(OpClass::Mlp, Some(2), 1)]);
    let want = open(&source, &F32).await.forward(&PROMPT).await.unwrap().logits;
    crate::models::assert_close("logits", &got, &want, 0.05, 0.05);
}

/// One neuron of a layer fires beyond f16 for that token, and for no other.
fn with_a_neuron_for(token: Option<u32>, layer: u32) -> Synthetic {
    let mut model = model();
    let loud = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
    let embedding = &mut model.tensors.get_mut("model.embed_tokens.weight").unwrap().1;
    if let Some(token) = token {
        let row = &mut embedding[token as usize * HIDDEN..][..HIDDEN];
        row.iter_mut().enumerate().for_each(|(i, v)| *v = 200.0 * loud(i));
    }
    // 48 of them in a row of norm one make 48 * 8 in gate and up, of which any other makes about 8 * sqrt(48)
    for name in ["gate_proj", "up_proj"] {
        let rows = &mut model.tensors.get_mut(&format!("model.layers.{layer}.mlp.{name}.weight")).unwrap().1;
        rows[..HIDDEN].iter_mut().enumerate().for_each(|(i, v)| *v = 8.0 * loud(i));
    }
    let down = &mut model.tensors.get_mut(&format!("model.layers.{layer}.mlp.down_proj.weight")).unwrap().1;
    down.chunks_exact_mut(80).for_each(|row| row[0] *= 1.0 / 4096.0);
    model
}

/// One sequence of several meets what f16 does not hold, within its prompt or while it decodes: all give what they give in f32, and what
/// was given out before stays.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn one_of_several_overflows() {
    let prompts: [Vec<u32>; 3] = [PROMPT.to_vec(), (50..90).collect(), vec![9, 120]];
    // the token that the first sequence samples later on, and one of a prompt's
    let plain = generate(&mut open(&with_a_neuron_for(None, 1).source(), &F32).await, &prompts[0], options(16)).await;
    let late = (4..16).find(|&i| !plain[..i].contains(&plain[i])).unwrap();
    for (token, first) in [(plain[late], 0), (prompts[1][33], 1)] {
        let source = with_a_neuron_for(Some(token), 1).source();
        let mut exact = open(&source, &F32).await;
        let mut want = Vec::new();
        for prompt in &prompts {
            exact.engine_mut().reset();
            want.push(generate(&mut exact, prompt, options(16)).await);
        }
        let others = (0..3).filter(|&i| i != first);
        assert!(others.clone().all(|i| !want[i].contains(&token)), "it is the token of one of them: {want:?}");
        let mut session = open(&source, &LoadOptions { prefill_chunk: Some(16), ..F16 }).await;
        let ids: Vec<_> = prompts.iter().map(|prompt| session.add(prompt.as_slice(), options(16)).unwrap()).collect();
        let got = all_of(&mut session).await;
        for ((prompt, want), id) in prompts.iter().zip(&want).zip(&ids) {
            assert_same(&mut exact, prompt, &got[id], want).await;
        }
        assert_eq!(found(&session), [(OpClass::Mlp, Some(1), 1)]);
        let [Overflow { position, .. }] = session.engine().precision_report().overflows[..] else { unreachable!() };
        if first == 0 {
            // the token after it was to come
            assert!(position > PROMPT.len() + late, "{position}");
        }
    }
}

/// The tokens must be the same, up to one at which rounding to f16 may decide, and that does not come at once.
async fn assert_same(exact: &mut Session, prompt: &[u32], got: &[u32], want: &[u32]) {
    assert_eq!(got.len(), want.len());
    let Some(at) = got.iter().zip(want).position(|(a, b)| a != b) else { return };
    let ids = [prompt, &want[..at]].concat();
    let logits = exact.forward(&ids).await.unwrap().logits;
    let margin = top2_margin(&logits[logits.len() - 300..]);
    assert!(at >= 3 && margin < 0.1, "token {at} of {got:?}, not {want:?}, by {margin}");
}

async fn all_of(session: &mut Session) -> BTreeMap<SequenceId, Vec<u32>> {
    let mut all: BTreeMap<_, Vec<u32>> = BTreeMap::new();
    loop {
        let events = session.step().await.unwrap();
        if events.is_empty() {
            return all;
        }
        for (id, event) in events {
            match event {
                Event::Piece(piece) => all.entry(id).or_default().push(piece.id),
                Event::Finished { .. } => {}
                Event::Failed(error) => panic!("{error}"),
            }
        }
    }
}

/// An adapter whose f16 holds nothing at one class of operations and one layer: each class, with any cache, goes on in f32.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn injected_overflows_are_made_again_in_f32() {
    let source = model().source();
    let want = generate(&mut open(&source, &F32).await, &PROMPT, options(12)).await;
    let sites =
        [(OpClass::Norm, None), (OpClass::Cache, Some(1)), (OpClass::Attention, Some(2)), (OpClass::Mlp, Some(0))];
    for &(class, layer) in sample_of(2, &sites) {
        let inject = Some(Site { class, layer });
        let options16 = DeviceOptions { finite_check: FiniteCheck { inject, off: false }, ..DeviceOptions::default() };
        let device = Device::open(&options16).await.unwrap();
        let cache = CacheOptions { dtype: (class == OpClass::Cache).then_some(CacheDtype::Q8), ..F16.cache };
        let load = LoadOptions { cache, ..F16 };
        let mut session = Session::open(&device, &source, &load, |_| ()).await.unwrap();
        assert_eq!(generate(&mut session, &PROMPT, options(12)).await, want, "{class:?}");
        assert_eq!(found(&session), [(class, layer, 1)]);
    }
    // f32 holds everything
    let inject = Some(Site { class: OpClass::Mlp, layer: Some(0) });
    let options32 = DeviceOptions { finite_check: FiniteCheck { inject, off: false }, ..DeviceOptions::default() };
    let device = Device::open(&options32).await.unwrap();
    let mut session = Session::open(&device, &source, &F32, |_| ()).await.unwrap();
    assert_eq!(generate(&mut session, &PROMPT, options(12)).await, want);
    assert_eq!(found(&session), []);
}

/// What f32 does not hold either is an error that says where, never a wrong token, and never tried again and again; the session goes on.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn what_f32_does_not_hold_is_an_error() {
    let mut broken = model();
    broken.dtype = Stored::F32;
    let up = &mut broken.tensors.get_mut("model.layers.1.mlp.up_proj.weight").unwrap().1;
    up.iter_mut().for_each(|v| *v = v.signum() * 3e38);
    let source = broken.source();
    let mut session = Session::open(&device().await, &source, &F32, |_| ()).await.unwrap();
    let site = Site { class: OpClass::Mlp, layer: Some(1) };
    for lookahead in [8, 0] {
        let mut generation = session.generate(&PROMPT, GenerateOptions { lookahead, ..options(5) }).await.unwrap();
        let error = generation.next().await.unwrap_err();
        let is_told =
            matches!(error, Error::Generate(GenerateError::NotFinite { site: at, position: 5 }) if at == site);
        assert!(is_told, "lookahead {lookahead}: {error}");
        assert!(error.to_string().contains("mlp of layer 1"), "{error}");
    }
    // whoever looks at all values sees it
    let logits = session.forward(&PROMPT).await.unwrap().logits;
    assert!(logits.iter().any(|v| !v.is_finite()));
    assert_eq!(
        (found(&session), session.engine().precision_report().demoted),
        (vec![(OpClass::Mlp, Some(1), 3)], vec![])
    );
}

/// What looking costs: steps of two sessions, of which one does not look, in turns. On llvmpipe and SwiftShader the GPU is the processor.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
#[ignore = "a measurement: it wants a quiet machine"]
async fn looking_costs_less_than_can_be_measured() {
    let shape = Shape {
        hidden: 512,
        ff: 1376,
        layers: 6,
        heads: 8,
        kv_heads: 4,
        head_dim: 64,
        vocab: 4000,
        tied: false,
        attention_bias: false,
        mlp_bias: false,
    };
    let source = Synthetic::new(&shape, Stored::F16, 3).source();
    for processor in [true, false] {
        let mut sessions = Vec::new();
        for off in [false, true] {
            let finite_check = FiniteCheck { off, inject: None };
            let options = DeviceOptions { finite_check, processor: Some(processor), ..DeviceOptions::default() };
            let device = Device::open(&options).await.unwrap();
            sessions.push(Session::open(&device, &source, &F16, |_| ()).await.unwrap());
        }
        let [looks, does_not] = &mut sessions[..] else { unreachable!() };
        let request = GenerateOptions { lookahead: 1, ..options(220) };
        let mut both = [
            looks.generate(&PROMPT, request.clone()).await.unwrap(),
            does_not.generate(&PROMPT, request.clone()).await.unwrap(),
        ];
        let mut took = [Vec::new(), Vec::new()];
        for step in 0..220 {
            // whoever is second finds other caches: they take turns at that, too
            for which in [step % 2, (step + 1) % 2] {
                let began = web_time::Instant::now();
                both[which].next().await.unwrap();
                took[which].push(began.elapsed().as_secs_f64() * 1e3);
            }
        }
        // the first steps record programs
        let [looks, does_not] = took.map(|took| took[20..].to_vec());
        let median = |mut of: Vec<f64>| {
            of.sort_by(f64::total_cmp);
            (of[of.len() / 4], of[of.len() / 2], of[of.len() * 3 / 4])
        };
        // two steps at a time, each of which began another way
        let pairs = |took: &[f64]| took.chunks(2).map(|two| (two[0] + two[1]) / 2.0).collect::<Vec<_>>();
        let differences = pairs(&looks).iter().zip(pairs(&does_not)).map(|(a, b)| a - b).collect();
        let (a, b, (low, difference, high)) = (median(looks), median(does_not), median(differences));
        crate::common::report(&format!(
            "processor {processor}: a step takes {:.3} ms with the check and {:.3} ms without; of the differences the median is {difference:.3} ms, the \
             quartiles are {low:.3} and {high:.3} ms",
            a.1, b.1
        ));
        // of kernels that the adapter does not take by itself it is told only
        let is_taken = processor == device().await.capabilities().processor;
        assert!(!is_taken || (low <= 0.0 && high >= 0.0), "it shows");
    }
}
