#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::device::Memory;
use webweft::ops;
use webweft::reference::penalize::{Past, penalize};
use webweft::shaders::{self, Sampling};
use webweft::step::{History, MAX_SEQUENCES, Step, StepSize, token};
use webweft::tensor::Elem;

use super::Bench;
use crate::common::{device, random};

const RING: u32 = 1;

/// A step after `ids`, two of which are rows of this one, with its history.
pub fn after(bench: &Bench, sampling: Sampling, ids: &[u32], vocab: usize, sampled: u32) -> (Step, History) {
    let rows = ids.len().min(2) as u32;
    let size = StepSize { rows: 2, slots: 1, tables: 1, pages: 1, ring: RING };
    let step = Step::new(Memory::Device(&bench.device), size).expect("a step");
    let slot = shaders::Slot { position: ids.len() as u32 - rows, rows, sampled, ..Default::default() };
    step.set(&bench.device, &[slot]);
    step.set_sampling(&bench.device, 0, sampling, &[]);
    let history = History::new(&bench.device, vocab as u32, ids.len() as u32 + 1, 1).expect("a history");
    (step, history)
}

/// A slot's settings, its tokens so far, and how many of them were generated.
pub struct Sampled {
    pub sampling: Sampling,
    pub ids: Vec<u32>,
    pub generated: u32,
}

/// A step of one row after the tokens of each slot, with their history; there is room for one slot more.
pub fn after_each(bench: &Bench, slots: &[Sampled], vocab: usize) -> (Step, History) {
    let room = slots.len() as u32 + 1;
    let step =
        Step::new(Memory::Device(&bench.device), StepSize { rows: room, slots: room, tables: 1, pages: 1, ring: RING });
    let step = step.expect("a step");
    let state = |slot: &Sampled| shaders::Slot {
        position: slot.ids.len() as u32 - 1,
        rows: 1,
        sampled: slot.generated,
        ..Default::default()
    };
    step.set(&bench.device, &slots.iter().map(state).collect::<Vec<_>>());
    for (s, slot) in (0..).zip(slots) {
        step.set_sampling(&bench.device, s, slot.sampling, &[]);
    }
    let positions = slots.iter().map(|slot| slot.ids.len() as u32).max().unwrap_or(0) + 1;
    (step, History::new(&bench.device, vocab as u32, positions, room).expect("a history"))
}

/// What is excluded must be, to the bit; what was no number must be as it was; the rest near.
pub fn compare(name: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{name}");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let near = if want.is_finite() {
            (got - want).abs() <= 1e-6 * want.abs().max(1.0)
        } else {
            got.to_bits() == want.to_bits()
        };
        assert!(near, "{name}: [{i}] is {got}, not {want}");
    }
}

/// A step that verifies drafts: what slots have before it, and the drafts, which their last rows are; with their history. There is room
/// for one slot more.
pub fn after_drafts(bench: &Bench, slots: &[Sampled], drafts: &[Vec<u32>], vocab: usize) -> (Step, History) {
    let all = slots.iter().zip(drafts).map(|(slot, drafts)| Sampled {
        ids: [&slot.ids[..], drafts].concat(),
        sampling: slot.sampling,
        generated: slot.generated,
    });
    let all: Vec<_> = all.collect();
    let (_, history) = after_each(bench, &all, vocab);
    let room = slots.len() as u32 + 1;
    let rows: u32 = drafts.iter().map(|drafts| drafts.len() as u32 + 2).sum();
    let size = StepSize { rows, slots: room, tables: 1, pages: 1, ring: RING };
    let step = Step::new(Memory::Device(&bench.device), size).expect("a step");
    let state = |(slot, drafts): (&Sampled, &Vec<u32>)| shaders::Slot {
        // one row more than the last token, as a prompt may have
        position: slot.ids.len() as u32 - 2,
        rows: 2 + drafts.len() as u32,
        drafts: drafts.len() as u32,
        sampled: slot.generated,
        ..Default::default()
    };
    step.set(&bench.device, &slots.iter().zip(drafts).map(state).collect::<Vec<_>>());
    step.set_ids(&bench.device, all.iter().zip(slots).map(|(all, slot)| &all.ids[slot.ids.len() - 2..]));
    for (s, slot) in (0..).zip(slots) {
        step.set_sampling(&bench.device, s, slot.sampling, &[]);
    }
    (step, history)
}

/// A table of sequences as the kernel reads it.
fn table(sequences: &[(Vec<u32>, f32)]) -> Vec<u32> {
    let mut words = vec![sequences.len() as u32];
    let mut begin = 1 + 3 * sequences.len() as u32;
    for (ids, bias) in sequences {
        words.extend([begin, ids.len() as u32, bias.to_bits()]);
        begin += ids.len() as u32;
    }
    sequences.iter().for_each(|(ids, _)| words.extend(ids));
    words
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn penalizes_as_the_reference_does() {
    let mut bench = Bench::new(&device().await);
    for vocab in [1_usize, 31, 255, 256, 257, 2047, 2048, 2049, 32000] {
        let mut logits: Vec<f32> = random(vocab, 3).iter().map(|v| v * 8.0).collect();
        if vocab > 20 {
            (logits[3], logits[4], logits[5], logits[6]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0);
        }
        let of = |i: usize| (i * 7 + 3) as u32 % vocab as u32;
        let ids: Vec<u32> = (0..40).map(of).collect();
        let mut tokens = vec![0; vocab];
        ids[..30].iter().for_each(|&id| tokens[id as usize] |= token::SEEN);
        ids[30..].iter().for_each(|&id| tokens[id as usize] += 1);
        tokens[of(9) as usize] |= token::FORBIDDEN;
        tokens[of(11) as usize] |= token::ENDS;
        tokens[of(12) as usize] += 1000;
        let bias: Vec<f32> = random(vocab, 4).iter().map(|v| if *v > 0.5 { v * 3.0 } else { 0.0 }).collect();
        let (last, before) = (ids[39], ids[38]);
        let sequences = table(&[
            (vec![last, of(1)], 1.5),
            (vec![before, last, of(2)], -2.25),
            (vec![before, last, of(1)], 0.5),
            (vec![last, of(3)], f32::NEG_INFINITY),
            (vec![last.wrapping_add(1), of(4)], f32::NEG_INFINITY),
            ([&ids[..], &[of(5)]].concat(), 3.0),
            ([&[0], &ids[..], &[of(6)]].concat(), 3.0), // longer than the history
        ]);
        let all = Sampling {
            repetition_penalty: 1.3,
            presence_penalty: 0.7,
            frequency_penalty: -0.2,
            min_new_tokens: 11,
            ..Sampling::OFF
        };
        for (case, sampling, sequences) in [
            ("all of it", all, sequences),
            ("an end after enough tokens", Sampling { min_new_tokens: 10, ..all }, vec![0]),
            ("bias and forbidden ones alone", Sampling::OFF, vec![0]),
            ("a repetition penalty below 1", Sampling { repetition_penalty: 0.5, ..Sampling::OFF }, vec![0]),
        ] {
            let past = Past { ids: &ids, generated: 10, tokens: &tokens, bias: &bias, sequences: &sequences };
            let mut want = logits.clone();
            penalize(&mut want, &sampling, &past);
            assert!(vocab == 1 || want.iter().zip(&logits).any(|(a, b)| a != b && !b.is_nan()), "{case}");
            let (step, history) = after(&bench, sampling, &ids, vocab, 10);
            history.set(&bench.device, 0, &ids, &tokens, &bias, &sequences);
            bench.case(|case_| {
                let row = case_.input(&logits, 1, vocab, Elem::F32);
                ops::penalize(&mut case_.g, &row, ops::Rows::Last(row.rows), &step, &history).expect("shapes fit");
                let name = format!("{case}, {vocab} tokens");
                case_.output(&row, 1, name, move |name, got| compare(name, &got, &want));
            });
        }
    }
    bench.run().await;
}

/// Every slot by its own settings, tokens and sequences; what is no slot's stays as it was.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn penalizes_every_slot() {
    let mut bench = Bench::new(&device().await);
    for vocab in [31_usize, 2049, 5000] {
        let sampled = |slot: u32, length: usize, sampling| {
            let ids = random(length, slot).iter().map(|v| ((v + 1.0) * 0.499 * vocab as f32) as u32).collect();
            Sampled { sampling, ids, generated: 2 }
        };
        let repetition = Sampling { repetition_penalty: 1.5, ..Sampling::OFF };
        let slots = [
            sampled(1, 40, repetition),
            sampled(2, 3, Sampling::OFF),
            sampled(
                3,
                17,
                Sampling { presence_penalty: 0.5, frequency_penalty: 0.25, min_new_tokens: 3, ..Sampling::OFF },
            ),
        ];
        let (step, history) = after_each(&bench, &slots, vocab);
        let logits: Vec<f32> = random((slots.len() + 1) * vocab, 3).iter().map(|v| v * 8.0).collect();
        let mut want = logits.clone();
        for (s, slot) in (0..).zip(&slots) {
            let mut tokens = vec![0; vocab];
            let (prompt, generated) = slot.ids.split_at(slot.ids.len() - 2);
            prompt.iter().for_each(|&id| tokens[id as usize] |= token::SEEN);
            generated.iter().for_each(|&id| tokens[id as usize] += 1);
            tokens[s as usize] |= token::ENDS;
            tokens[s as usize + 5] |= token::FORBIDDEN;
            let bias = random(vocab, 40 + s);
            let sequences = table(&[(vec![slot.ids[slot.ids.len() - 1], 10 + s], 2.5)]);
            history.set(&bench.device, s, &slot.ids, &tokens, &bias, &sequences);
            let past = Past { ids: &slot.ids, generated: 2, tokens: &tokens, bias: &bias, sequences: &sequences };
            penalize(&mut want[s as usize * vocab..][..vocab], &slot.sampling, &past);
        }
        bench.case(|case| {
            let rows = slots.len() as u32 + 1;
            let row = case.input(&logits, rows, vocab, Elem::F32);
            ops::penalize(&mut case.g, &row, ops::Rows::Last(row.rows), &step, &history).expect("shapes fit");
            case.output(&row, rows, format!("3 slots, {vocab} tokens"), move |name, got| compare(name, &got, &want));
        });
    }
    bench.run().await;
}

/// As many sequences as there may be, all of which apply to one token.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn every_sequence_counts() {
    let mut bench = Bench::new(&device().await);
    let logits = random(600, 8);
    let ids = [7, 8, 9];
    let sequences = table(&(0..MAX_SEQUENCES as u32).map(|i| (vec![9, i % 300], 0.5)).collect::<Vec<_>>());
    let (tokens, bias) = (vec![0; 600], vec![0.0; 600]);
    let past = Past { ids: &ids, generated: 0, tokens: &tokens, bias: &bias, sequences: &sequences };
    let mut want = logits.clone();
    penalize(&mut want, &Sampling::OFF, &past);
    assert!((want[10] - logits[10] - 1.0).abs() < 1e-6, "ids below 212 have two");
    assert!((want[250] - logits[250] - 0.5).abs() < 1e-6);
    let (step, history) = after(&bench, Sampling::OFF, &ids, 600, 0);
    history.set(&bench.device, 0, &ids, &tokens, &bias, &sequences);
    bench.case(|case| {
        let row = case.input(&logits, 1, 600, Elem::F32);
        ops::penalize(&mut case.g, &row, ops::Rows::Last(row.rows), &step, &history).expect("shapes fit");
        case.output(&row, 1, "512 sequences".into(), move |name, got| compare(name, &got, &want));
    });
    bench.run().await;
}

/// The logits after a draft know of it, and of those before it, as if they were chosen. Rows before a slot's last token are left alone.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn penalizes_after_every_draft() {
    let mut bench = Bench::new(&device().await);
    let vocab = 300;
    let sampling = Sampling {
        repetition_penalty: 1.3,
        presence_penalty: 0.7,
        frequency_penalty: 0.2,
        min_new_tokens: 6,
        ..Sampling::OFF
    };
    let slot = |ids: &[u32], sampling| Sampled { ids: ids.to_vec(), sampling, generated: 3 };
    let slots = [slot(&[5, 6, 7, 8, 9], sampling), slot(&[1, 2, 3, 4], Sampling::OFF), slot(&[9, 9, 9, 9], sampling)];
    let drafts = [vec![20, 21, 20, 22, 5], vec![], vec![9, 40, 41]];
    let (step, history) = after_drafts(&bench, &slots, &drafts, vocab);
    let sequences = table(&[(vec![9, 20, 60], 1.5), (vec![21, 20, 61], -2.0), (vec![9, 62], f32::NEG_INFINITY)]);
    let mut tokens = vec![0; vocab];
    (tokens[70], tokens[5], tokens[6]) = (token::ENDS, token::SEEN, 1);
    let bias = vec![0.25; vocab];

    let rows = drafts.iter().map(|drafts| drafts.len() + 2).sum::<usize>();
    let logits: Vec<f32> = random(rows * vocab, 5).iter().map(|v| v * 4.0).collect();
    let (mut want, mut row) = (logits.clone(), 0);
    for (s, (slot, drafts)) in (0..).zip(slots.iter().zip(&drafts)) {
        let ids = [&slot.ids[..], drafts].concat();
        history.set(&bench.device, s, &ids, &tokens, &bias, &sequences);
        for before in 0..=drafts.len() {
            let mut tokens = tokens.clone();
            drafts[..before].iter().for_each(|&id| tokens[id as usize] += 1);
            let (ids, generated) = (&ids[..slot.ids.len() + before], 3 + before as u32);
            let past = Past { ids, generated, tokens: &tokens, bias: &bias, sequences: &sequences };
            penalize(&mut want[(row + 1 + before) * vocab..][..vocab], &slot.sampling, &past);
        }
        row += drafts.len() + 2;
    }
    bench.case(|case| {
        let row = case.input(&logits, rows as u32 + 2, vocab, Elem::F32);
        ops::penalize(&mut case.g, &row, ops::Rows::All, &step, &history).expect("shapes fit");
        case.output(&row, rows as u32, "drafts".into(), move |name, got| compare(name, &got, &want));
    });
    bench.run().await;
}

/// The reference on its own, by numbers that one can check.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_reference_penalizes() {
    let sampling = Sampling {
        repetition_penalty: 2.0,
        presence_penalty: 1.0,
        frequency_penalty: 0.5,
        min_new_tokens: 3,
        ..Sampling::OFF
    };
    // untouched; prompt; prompt, below 0; generated twice; both, biased; forbidden; an end; a sequence's last
    let logits = [4.0, 4.0, -4.0, 4.0, 3.0, 9.0, 9.0, 4.0];
    let seen = token::SEEN;
    let tokens = [0, seen, seen, 2, seen + 1, token::FORBIDDEN, token::ENDS, 0];
    let bias = [0.0, 0.0, 0.0, 0.0, 1.0, 5.0, 0.0, 0.0];
    let sequences = table(&[(vec![3, 4, 7], 2.0), (vec![4, 7], -0.5), (vec![3, 7], 9.0)]);
    let past = Past { ids: &[1, 2, 3, 3, 4], generated: 2, tokens: &tokens, bias: &bias, sequences: &sequences };
    let mut got = logits;
    penalize(&mut got, &sampling, &past);
    assert_eq!(got, [4.0, 2.0, -8.0, 0.0, 0.5, f32::NEG_INFINITY, f32::NEG_INFINITY, 5.5]);
    let mut got = logits;
    penalize(&mut got, &sampling, &Past { generated: 3, ..past });
    assert_eq!(got[6], 9.0, "it may end now");
}
