#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::device::Memory;
use webweft::ops;
use webweft::reference::sample::{probabilities, sample, scores};
use webweft::shaders::{self, Sampling};
use webweft::step::{History, Step, StepSize};
use webweft::tensor::Elem;

use super::{Bench, POISON};
use crate::common::{device, random, sample_of};

/// The step's ids before a run.
const BEFORE: u32 = 77_777;
/// Where a run begins: rows 0 to 2 at positions 10 to 12, the first token that is sampled at 13.
const STATE: shaders::Slot = shaders::Slot {
    position: 10,
    rows: 3,
    done: 0,
    sampled: 0,
    first: 0,
    dropped: 3,
    limit: u32::MAX,
    turn: 0,
    drafts: 0,
};
const FIRST: u32 = 13;

/// The slot once it has sampled.
fn after(position: u32, done: u32, sampled: u32) -> shaders::Slot {
    shaders::Slot { position, rows: 1, done, sampled, ..STATE }
}

struct Setup<'a> {
    logits: &'a [f32],
    params: Sampling,
    eos: &'a [u32],
    state: shaders::Slot,
    runs: u32,
    ring: u32,
}

impl<'a> Setup<'a> {
    fn new(logits: &'a [f32], params: Sampling, runs: u32) -> Self {
        Self { logits, params, eos: &[], state: STATE, runs, ring: runs }
    }
}

/// Samples several times; `check` gets the step as it is then, the next id, and the ring.
fn record(bench: &mut Bench, setup: &Setup<'_>, check: impl FnOnce(shaders::Slot, u32, &[u32]) + 'static) {
    let size = StepSize { rows: 4, slots: 1, tables: 1, pages: 1, ring: setup.ring };
    let step = Step::new(Memory::Device(&bench.device), size).expect("a step");
    step.set(&bench.device, &[setup.state]);
    step.set_sampling(&bench.device, 0, setup.params, setup.eos);
    step.set_ids(&bench.device, [[BEFORE; 4].as_slice()]);
    bench.device.write(&step.ring, 0, bytemuck::cast_slice(&vec![POISON; setup.ring as usize]));
    bench.case(|case| {
        case.runs = setup.runs;
        let row = case.input(setup.logits, 1, setup.logits.len(), Elem::F32);
        ops::sample(&mut case.g, &row, &step, None).expect("shapes fit");
    });
    let (begun, runs) = (setup.state, setup.runs);
    bench.read(&[&step.state, &step.rows, &step.ring], move |bytes| {
        let words = |i: usize| bytemuck::pod_collect_to_vec::<u8, u32>(bytes[i]);
        let rows: Vec<shaders::Row> = bytemuck::pod_collect_to_vec(bytes[1]);
        assert_eq!(rows[1..], [shaders::Row { id: BEFORE, slot: 0 }; 3], "only the slot's row is written");
        let slot = &bytes[0][Step::slot_bytes(1).start as usize..][..size_of::<shaders::Slot>()];
        let state: shaders::Slot = bytemuck::pod_read_unaligned(slot);
        assert_eq!(state.turn, begun.turn + runs, "it counts, whatever happens");
        check(shaders::Slot { turn: begun.turn, ..state }, rows[0].id, &words(2));
    });
}

fn greedy() -> Sampling {
    Sampling::OFF
}

fn random_sampling(temperature: f32, top_k: u32, top_p: f32) -> Sampling {
    Sampling { temperature, top_k, top_p, seed_low: 0x1234_5678, seed_high: 0x9abc_def0, ..Sampling::OFF }
}

/// The ids that rounding in f32 may make of a draw.
fn allowed(logits: &[f32], params: &Sampling, position: u32) -> Vec<u32> {
    let mut ids = Vec::new();
    for nudge in [1.0 - 1e-5, 1.0, 1.0 + 1e-5] {
        let below_1 = |p: f32| if p < 1.0 { p * nudge } else { 1.0 };
        let nudged = Sampling {
            top_p: below_1(params.top_p),
            min_p: (params.min_p * nudge).min(1.0),
            typical_p: below_1(params.typical_p),
            epsilon_cutoff: params.epsilon_cutoff * nudge,
            eta_cutoff: params.eta_cutoff * nudge,
            ..*params
        };
        let scores = scores(logits, &nudged, position);
        let most = scores.iter().map(|s| s.1).fold(f64::MIN, f64::max);
        ids.extend(scores.iter().filter(|s| s.1 > most - 1e-4).map(|s| s.0));
    }
    ids
}

/// Ties go to the lowest id, wherever in the workgroup's reach they are; what is not finite is passed over.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn takes_the_greatest() {
    let mut bench = Bench::new(&device().await);
    for vocab in [1_usize, 2, 31, 255, 256, 257, 1000, 32000] {
        let mut logits = random(vocab, vocab as u32);
        let (a, b) = (vocab / 3, vocab - 1);
        let mut wanted = vec![sample(&logits, &greedy(), 0)];
        let mut rows = vec![logits.clone()];
        (logits[a], logits[b]) = (2.0, 2.0);
        rows.push(logits.clone());
        wanted.push(Some(a as u32));
        // all below zero, and equal
        rows.push(vec![-3.5; vocab]);
        wanted.push(Some(0));
        if vocab > 2 {
            (logits[0], logits[1], logits[2]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
            rows.push(logits);
            wanted.push(Some(a as u32));
        }
        for (row, want) in rows.iter().zip(wanted) {
            let name = format!("greedy of {vocab}");
            record(&mut bench, &Setup::new(row, greedy(), 1), move |state, id, ring| {
                assert_eq!((Some(id), Some(ring[0])), (want, want), "{name}");
                assert_eq!(state, after(FIRST, 0, 1), "{name}");
            });
        }
    }
    bench.run().await;
}

/// Position, count, ring, and what ends a sequence.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn advances_and_stops() {
    let mut bench = Bench::new(&device().await);
    let mut logits = random(300, 5);
    logits[270] = 2.0;

    // the ring goes round
    record(&mut bench, &Setup { ring: 4, ..Setup::new(&logits, greedy(), 6) }, |state, id, ring| {
        assert_eq!((id, ring), (270, &[270; 4][..]));
        assert_eq!(state, after(FIRST + 5, 0, 6));
    });
    let begun = shaders::Slot { sampled: 6, turn: 6, ..STATE };
    record(&mut bench, &Setup { ring: 4, state: begun, ..Setup::new(&logits, greedy(), 1) }, |state, _, ring| {
        assert_eq!(ring, [POISON, POISON, 270, POISON]);
        assert_eq!(state.sampled, 7);
    });
    // the last one that may be sampled stops, and none is where none may be
    let last = shaders::Slot { limit: 2, ..STATE };
    record(&mut bench, &Setup { state: last, ..Setup::new(&logits, greedy(), 3) }, |state, _, ring| {
        assert_eq!((state.sampled, state.done, ring), (2, 1, &[270, 270, POISON][..]));
    });
    let none = shaders::Slot { limit: 0, ..STATE };
    record(&mut bench, &Setup { state: none, ..Setup::new(&logits, greedy(), 1) }, move |state, id, ring| {
        assert_eq!((state, id, ring), (none, BEFORE, &[POISON][..]));
    });
    // an end-of-sequence id is kept, and later runs change nothing
    record(&mut bench, &Setup { eos: &[3, 270, 9], ..Setup::new(&logits, greedy(), 3) }, |state, id, ring| {
        assert_eq!((id, ring), (270, &[270, POISON, POISON][..]));
        assert_eq!(state, after(FIRST, 1, 1));
    });
    let stopped = shaders::Slot { done: 1, ..STATE };
    record(&mut bench, &Setup { state: stopped, ..Setup::new(&logits, greedy(), 2) }, move |state, id, ring| {
        assert_eq!((state, id, ring), (stopped, BEFORE, &[POISON; 2][..]));
    });
    // no number at all, greedy or not
    for params in [greedy(), random_sampling(1.0, 0, 1.0), random_sampling(1.0, 5, 0.9)] {
        let nothing: Vec<f32> =
            (0..300).map(|i| [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY][i % 4]).collect();
        record(&mut bench, &Setup::new(&nothing, params, 2), |state, id, ring| {
            // the row whose logits were none is the next
            assert_eq!(state, shaders::Slot { done: 2, sampled: 0, ..after(FIRST - 1, 2, 0) });
            assert_eq!((id, ring), (BEFORE, &[POISON; 2][..]));
        });
    }
    bench.run().await;
}

/// The same draws as the reference: temperature, top-k, top-p and all of them, at many positions.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn draws_as_the_reference_does() {
    let mut bench = Bench::new(&device().await);
    for (vocab, runs) in [(1, 3), (2, 20), (255, 30), (256, 30), (257, 30), (32000, 2)] {
        let mut logits: Vec<f32> = random(vocab, 11).iter().map(|v| v * 6.0).collect();
        if vocab == 257 {
            // equal ones at the edge of top-k, and some that do not take part
            logits.iter_mut().for_each(|v| *v = (*v * 2.0).round() / 2.0);
            (logits[9], logits[200]) = (f32::NAN, f32::NEG_INFINITY);
        }
        let settings = [
            (1.0, 0, 1.0),
            (0.3, 0, 1.0),
            (2.5, 0, 1.0),
            (1.0, 1, 1.0),
            (1.0, 40, 1.0),
            (1.0, 0, 0.9),
            (1.5, 0, 0.3),
            (0.8, 40, 0.95),
            (1.0, vocab as u32, 0.999),
            (1.0, 0, 0.0),
        ];
        let more = [
            Sampling { min_p: 0.1, ..random_sampling(1.0, 0, 1.0) },
            Sampling { min_p: 1.0, ..random_sampling(0.7, 0, 1.0) },
            Sampling { typical_p: 0.6, ..random_sampling(1.0, 0, 1.0) },
            Sampling { typical_p: 0.2, ..random_sampling(1.5, 0, 1.0) },
            Sampling { epsilon_cutoff: 0.01, ..random_sampling(1.0, 0, 1.0) },
            Sampling { epsilon_cutoff: 0.9, ..random_sampling(1.0, 0, 1.0) },
            Sampling { eta_cutoff: 0.02, ..random_sampling(1.0, 0, 1.0) },
            Sampling {
                min_p: 0.02,
                typical_p: 0.9,
                epsilon_cutoff: 0.004,
                eta_cutoff: 0.01,
                ..random_sampling(1.2, 50, 0.97)
            },
        ];
        let settings = settings.map(|(temperature, top_k, top_p)| random_sampling(temperature, top_k, top_p));
        for params in settings.into_iter().chain(more) {
            let row = logits.clone();
            record(&mut bench, &Setup::new(&logits, params, runs), move |state, id, ring| {
                let name = format!("sample of {vocab}, {params:?}");
                assert_eq!(state, after(FIRST + runs - 1, 0, runs), "{name}");
                assert_eq!(ring.last(), Some(&id), "{name}");
                let mut differ = 0;
                for (position, &got) in (FIRST..).zip(ring) {
                    let want = sample(&row, &params, position);
                    differ += usize::from(want != Some(got));
                    let allowed = allowed(&row, &params, position);
                    assert!(
                        allowed.contains(&got),
                        "{name}, position {position}: got {got}, want {want:?} of {allowed:?}"
                    );
                }
                assert!(differ <= 1 + ring.len() / 50, "{name}: {differ} draws differ");
            });
        }
    }
    bench.run().await;
}

/// Slots that differ in everything: settings, end tokens, places in the ring; one is held, one is done, and there is room for more.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn samples_in_every_slot() {
    const ROOM: usize = 6;
    const RUNS: u32 = 5;
    const RING: u32 = 4;
    const POSITIONS: u32 = 64;
    const TURN: u32 = 3;
    let vocab = 270_usize;
    let mut bench = Bench::new(&device().await);
    let logits: Vec<f32> = random(ROOM * vocab, 31).iter().map(|v| v * 4.0).collect();
    let row = |slot: usize| &logits[slot * vocab..][..vocab];
    let greedy_of = |slot| sample(row(slot), &greedy(), 0).expect("a number");
    let drawn = random_sampling(1.2, 30, 0.95);
    let at = |position, rows, sampled| shaders::Slot {
        position,
        rows,
        sampled,
        limit: 100,
        turn: TURN,
        ..Default::default()
    };
    let held = shaders::Slot { limit: 0, ..at(0, 7, 0) };
    let done = shaders::Slot { done: 1, ..at(3, 1, 9) };
    let slots = [at(0, 5, 0), at(40, 1, 3), held, at(17, 2, 2), done];
    let settings = [greedy(), drawn, greedy(), Sampling { seed_low: 5, ..drawn }, greedy()];
    let eos = [vec![greedy_of(0)], vec![], vec![], vec![vocab as u32], vec![]];

    let size = StepSize { rows: 16, slots: ROOM as u32, tables: 1, pages: 1, ring: RING };
    let step = Step::new(Memory::Device(&bench.device), size).expect("a step");
    step.set(&bench.device, &slots);
    let ids: Vec<_> = slots.iter().map(|slot| vec![BEFORE; slot.rows as usize]).collect();
    step.set_ids(&bench.device, ids.iter().map(Vec::as_slice));
    for (slot, (params, eos)) in (0..).zip(settings.iter().zip(&eos)) {
        step.set_sampling(&bench.device, slot, *params, eos);
    }
    bench.device.write(&step.ring, 0, bytemuck::cast_slice(&[POISON; ROOM * RING as usize]));
    let history = History::new(&bench.device, vocab as u32, POSITIONS, ROOM as u32).expect("a history");
    bench.case(|case| {
        case.runs = RUNS;
        let rows = case.input(&logits, ROOM as u32, vocab, Elem::F32);
        ops::sample(&mut case.g, &rows, &step, Some(&history)).expect("shapes fit");
    });

    // what a slot has sampled once it stops, or the runs are over
    let sampled = |slot: usize| -> Vec<u32> {
        let state = slots[slot];
        let runs = if state.done > 0 || state.limit == 0 { 0 } else { RUNS };
        let mut ids = Vec::new();
        for run in 0..runs {
            let id = sample(row(slot), &settings[slot], state.position + state.rows + run).expect("a number");
            ids.push(id);
            if eos[slot].contains(&id) {
                break;
            }
        }
        ids
    };
    let wanted: Vec<_> = (0..slots.len()).map(sampled).collect();
    bench.read(&[&step.state, &step.rows, &step.ring, &history.ids, &history.tokens], move |bytes| {
        let words = |i: usize| bytemuck::pod_collect_to_vec::<u8, u32>(bytes[i]);
        let states = Step::slot_bytes(slots.len() as u32);
        let states: Vec<shaders::Slot> =
            bytemuck::pod_collect_to_vec(&bytes[0][states.start as usize..states.end as usize]);
        let rows: Vec<shaders::Row> = bytemuck::pod_collect_to_vec(bytes[1]);
        let (ring, ids, tokens) = (words(2), words(3), words(4));
        for (s, (before, wanted)) in slots.iter().zip(&wanted).enumerate() {
            let own: Vec<u32> = ring.iter().copied().skip(s).step_by(ROOM).collect();
            let mut want = [POISON; RING as usize];
            for (n, &id) in (TURN..).zip(wanted) {
                want[(n % RING) as usize] = id;
            }
            assert_eq!(own, want, "ring of slot {s}");
            let count = wanted.len() as u32;
            let Some(&last) = wanted.last() else {
                // its rows and its place among them are the host's
                let placed = shaders::Slot { first: states[s].first, turn: TURN + RUNS, ..*before };
                assert_eq!(states[s], placed, "slot {s}");
                continue;
            };
            let begin = before.position + before.rows;
            let position = begin + count - 1;
            let done = u32::from(count < RUNS);
            let after = shaders::Slot { position, rows: 1, first: s as u32, done, turn: TURN + RUNS, ..*before };
            assert_eq!(states[s], shaders::Slot { sampled: before.sampled + count, ..after }, "slot {s}");
            assert_eq!(rows[s], shaders::Row { id: last, slot: s as u32 });
            assert_eq!(ids[s * POSITIONS as usize + begin as usize..][..wanted.len()], *wanted, "history of slot {s}");
            let times = |id: u32| wanted.iter().filter(|&&w| w == id).count() as u32;
            let own = &tokens[s * vocab..][..vocab];
            assert!((0..).zip(own).all(|(id, &state)| state == times(id)), "counts of slot {s}");
        }
        let others: Vec<u32> = ring.iter().copied().skip(slots.len()).step_by(ROOM).collect();
        assert_eq!(others, [POISON; RING as usize], "a slot that is not in use");
    });
    bench.run().await;
}

/// Pearson's chi-squared of how often each id came, over what exceeds one time in 10,000 draws of this kind: at most 1 where the
/// draws follow the probabilities. Ids that are expected less than five times are taken together.
fn chi_squared(draws: &[u32], probabilities: &[f64]) -> f64 {
    let mut bins: Vec<(f64, f64)> = Vec::new(); // came, expected
    let mut rare = (0.0, 0.0);
    for (id, &p) in (0..).zip(probabilities) {
        let came = draws.iter().filter(|&&draw| draw == id).count() as f64;
        assert!(p > 0.0 || came == 0.0, "an id that was cut off came {came} times");
        let expected = p * draws.len() as f64;
        if expected >= 5.0 {
            bins.push((came, expected));
        } else {
            rare = (rare.0 + came, rare.1 + expected);
        }
    }
    if rare.1 > 0.0 {
        bins.push(rare);
    }
    let statistic: f64 = bins.iter().map(|(came, expected)| (came - expected).powi(2) / expected.max(1.0)).sum();
    // the quantile at 1 - 1e-4, by Wilson & Hilferty's approximation (1931)
    let k = (bins.len() as f64 - 1.0).max(1.0);
    let quantile = k * (1.0 - 2.0 / (9.0 * k) + 3.719 * (2.0 / (9.0 * k)).sqrt()).powi(3);
    statistic / quantile
}

/// 1,200 draws of the GPU for each setting follow the probabilities in f64, and would not follow others: p = 1e-4, with seeds
/// that are fixed.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn draws_follow_the_probabilities() {
    const DRAWS: u32 = 1200;
    let mut bench = Bench::new(&device().await);
    let logits: Vec<f32> = random(24, 21).iter().map(|v| v * 2.5).collect();
    let plain = random_sampling(1.0, 0, 1.0);
    let settings = [
        Sampling { min_p: 0.05, ..random_sampling(1.3, 20, 0.9) },
        Sampling { typical_p: 0.5, ..plain },
        plain,
        random_sampling(0.4, 0, 1.0),
        random_sampling(1.9, 0, 1.0),
        random_sampling(1.0, 9, 1.0),
        random_sampling(1.0, 0, 0.7),
        Sampling { min_p: 0.2, ..plain },
        Sampling { epsilon_cutoff: 0.02, eta_cutoff: 0.05, ..plain },
    ];
    for &params in sample_of(2, &settings) {
        let row = logits.clone();
        record(&mut bench, &Setup::new(&logits, params, DRAWS), move |state, _, ring| {
            assert_eq!(state.sampled, DRAWS);
            let wanted = probabilities(&row, &params);
            assert!((wanted.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let off = chi_squared(ring, &wanted);
            assert!(off < 1.0, "{off} of what is likely, {params:?}");
            let mut same = 0;
            for (position, &got) in (FIRST..).zip(ring).take(300) {
                same += usize::from(sample(&row, &params, position) == Some(got));
            }
            assert!(same >= 297, "only {same} of 300 draws are the reference's, {params:?}");
            // the test of the test: draws from another temperature, or cut off elsewhere, are told
            for other in [
                Sampling { temperature: params.temperature * 3.0, ..params },
                Sampling { temperature: params.temperature / 3.0, ..params },
            ] {
                let drawn: Vec<u32> = (0..DRAWS).filter_map(|p| sample(&row, &other, p)).collect();
                let kept = drawn.iter().all(|&id| wanted[id as usize] > 0.0);
                assert!(!kept || chi_squared(&drawn, &wanted) > 1.0, "{other:?} passes for {params:?}");
            }
        });
    }
    bench.run().await;
}

/// The reference draws as it says, over more draws than a GPU test can make.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_reference_draws_as_it_says() {
    let logits: Vec<f32> = random(16, 21).iter().map(|v| v * 2.0).collect();
    for params in [random_sampling(1.0, 0, 1.0), random_sampling(1.3, 9, 0.95)] {
        let drawn: Vec<u32> = (0..20_000).filter_map(|p| sample(&logits, &params, p)).collect();
        let off = chi_squared(&drawn, &probabilities(&logits, &params));
        assert!(off < 1.0, "{off}");
    }
}

/// The reference on its own: cut-offs as Hugging Face's processors define them.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_reference_cuts_off() {
    let logits: Vec<f32> = [0.5_f32, 0.3, 0.15, 0.05].iter().map(|p| p.ln()).collect();
    let kept = |k, p| {
        probabilities(&logits, &random_sampling(1.0, k, p)).iter().map(|&v| (v * 1000.0).round()).collect::<Vec<_>>()
    };
    assert_eq!(kept(0, 1.0), [500.0, 300.0, 150.0, 50.0]);
    assert_eq!(kept(2, 1.0), [625.0, 375.0, 0.0, 0.0]);
    assert_eq!(kept(0, 0.7), [625.0, 375.0, 0.0, 0.0]);
    assert_eq!(kept(0, 0.81), [526.0, 316.0, 158.0, 0.0]);
    assert_eq!(kept(0, 0.0), [1000.0, 0.0, 0.0, 0.0]);
    // top-p is of what top-k leaves: 0.6 of 0.8 is less than 0.5
    assert_eq!(kept(2, 0.6), [1000.0, 0.0, 0.0, 0.0]);
    assert_eq!(kept(9, 1.0), [500.0, 300.0, 150.0, 50.0]);
    // 0.15 and 0.05 are less than 0.4 of 0.5
    let with =
        |params: Sampling| probabilities(&logits, &params).iter().map(|&v| (v * 1000.0).round()).collect::<Vec<_>>();
    let plain = random_sampling(1.0, 0, 1.0);
    assert_eq!(with(Sampling { min_p: 0.4, ..plain }), [625.0, 375.0, 0.0, 0.0]);
    assert_eq!(with(Sampling { min_p: 1.0, ..plain }), [1000.0, 0.0, 0.0, 0.0]);
    assert_eq!(with(Sampling { epsilon_cutoff: 0.1, ..plain }), [526.0, 316.0, 158.0, 0.0]);
    assert_eq!(with(Sampling { epsilon_cutoff: 0.99, ..plain }), [1000.0, 0.0, 0.0, 0.0]);
    // the entropy is 1.14: surprises are 0.69, 1.20, 1.90, 3.00
    assert_eq!(with(Sampling { typical_p: 0.2, ..plain }), [0.0, 1000.0, 0.0, 0.0]);
    assert_eq!(with(Sampling { typical_p: 0.5, ..plain }), [625.0, 375.0, 0.0, 0.0]);
    // min(0.25, 0.5 * e^-1.14) = 0.16
    assert_eq!(with(Sampling { eta_cutoff: 0.25, ..plain }), [625.0, 375.0, 0.0, 0.0]);
}
