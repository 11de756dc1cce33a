#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::device::Memory;
use webweft::ops;
use webweft::reference::prompt_lookup::prompt_lookup;
use webweft::shaders::{Row, Sampling, Slot};
use webweft::step::{History, Step, StepSize};

use super::Bench;
use crate::common::{device, random};

/// What fills rows before.
const BEFORE: Row = Row { id: 77_777, slot: 63 };
const VOCAB: u32 = 50;

/// A slot's tokens so far, and how it drafts: up to so many tokens, n-grams up to such a size.
#[derive(Clone)]
struct Setup {
    ids: Vec<u32>,
    count: u32,
    ngram: u32,
    state: Slot,
}

impl Setup {
    fn new(ids: Vec<u32>, count: u32, ngram: u32) -> Self {
        let state = Slot { position: ids.len() as u32 - 1, rows: 1, limit: u32::MAX, sampled: 1, ..Slot::default() };
        Self { ids, count, ngram, state }
    }

    /// What is to be drafted into `each` places.
    fn wanted(&self, each: u32) -> &[u32] {
        let left = self.state.limit.saturating_sub(self.state.sampled + 1);
        let count = if self.state.done > 0 { 0 } else { self.count.min(each - 1).min(left) };
        prompt_lookup(&self.ids, self.ngram as usize, count as usize)
    }
}

/// All of these in the slots of one step.
fn record(bench: &mut Bench, name: String, all: Vec<Setup>, each: u32) {
    let room = all.len() as u32 + 1;
    let size = StepSize { rows: room * each, slots: room, tables: 1, pages: 1, ring: 1 };
    let step = Step::new(Memory::Device(&bench.device), size).expect("a step");
    let positions = all.iter().map(|one| one.ids.len() as u32).max().unwrap_or(0);
    let history = History::new(&bench.device, VOCAB, positions, room).expect("a history");
    step.set(&bench.device, &all.iter().map(|one| one.state).collect::<Vec<_>>());
    step.set_rows(&bench.device, 0, &vec![BEFORE; (room * each) as usize]);
    for (slot, one) in (0..).zip(&all) {
        let (prompt_lookup_num_tokens, max_matching_ngram_size) = (one.count, one.ngram);
        let sampling = Sampling { prompt_lookup_num_tokens, max_matching_ngram_size, ..Sampling::OFF };
        step.set_sampling(&bench.device, slot, sampling, &[]);
        history.set(&bench.device, slot, &one.ids, &[0; VOCAB as usize], &[0.0; VOCAB as usize], &[0]);
    }
    bench.case(|case| ops::prompt_lookup(&mut case.g, room, &step, &history, each).expect("shapes fit"));
    bench.read(&[&step.state, &step.rows], move |bytes| {
        let slots = Step::slot_bytes(all.len() as u32);
        let slots: Vec<Slot> = bytemuck::pod_collect_to_vec(&bytes[0][slots.start as usize..slots.end as usize]);
        let rows: Vec<Row> = bytemuck::pod_collect_to_vec(bytes[1]);
        let mut want = vec![BEFORE; rows.len()];
        for (slot, one) in all.iter().enumerate() {
            let drafts = one.wanted(each);
            let count = drafts.len() as u32;
            let before = Slot { first: slots[slot].first, ..one.state };
            let after = Slot { rows: before.rows + count, drafts: count, ..before };
            assert_eq!(slots[slot], after, "{name}, slot {slot} after {:?}", one.ids);
            for (i, &id) in drafts.iter().enumerate() {
                want[slot * each as usize + 1 + i] = Row { id, slot: slot as u32 };
            }
        }
        assert_eq!(rows, want, "{name}");
    });
}

/// Tokens of which there are so few different ones.
fn tokens(length: usize, different: f32, seed: u32) -> Vec<u32> {
    random(length, seed).iter().map(|v| ((v + 1.0) * 0.5 * different) as u32).collect()
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn finds_what_the_reference_does() {
    let mut bench = Bench::new(&device().await);
    for each in 1..=9 {
        let lengths = [1, 2, 3, 4, 31, 32, 255, 256, 257, 258, 1000];
        let all = lengths.iter().zip(0..).map(|(&length, i)| {
            let (ids, ngram) = (tokens(length, [3.0, 20.0, 49.0][i as usize % 3], 7 * each + i), 1 + (i + each) % 4);
            Setup::new(ids, 1 + (each + i) % 9, ngram)
        });
        record(&mut bench, format!("{each} places"), all.collect(), each);
    }
    bench.run().await;
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn keeps_to_what_is_left() {
    let mut bench = Bench::new(&device().await);
    let ids = || vec![1, 2, 3, 4, 5, 6, 1, 2];
    let state = Setup::new(ids(), 4, 2).state;
    let with = |state| Setup { state, ..Setup::new(ids(), 4, 2) };
    let all = vec![
        Setup::new(ids(), 4, 2),
        // none, one, two tokens are left besides the one that the step makes anyway
        with(Slot { limit: 2, ..state }),
        with(Slot { limit: 3, ..state }),
        with(Slot { limit: 4, ..state }),
        with(Slot { done: 1, ..state }),
        // nobody guesses
        Setup::new(ids(), 0, 2),
        // one n-gram right before the end, and all of it
        Setup::new(vec![9, 9], 5, 32),
        Setup::new(vec![9; 40], 5, 32),
        Setup::new(vec![4, 7, 4], 5, 2),
        Setup::new((0..40).collect(), 5, 3),
    ];
    record(&mut bench, "what is left".into(), all, 8);
    bench.run().await;
}

/// The reference on its own.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_reference_looks_up() {
    // the first place counts, and a longer end before a shorter one
    assert_eq!(prompt_lookup(&[1, 2, 8, 1, 2, 9, 1, 2], 2, 3), [8, 1, 2]);
    assert_eq!(prompt_lookup(&[2, 8, 1, 2, 9, 1, 2], 1, 1), [8]);
    assert_eq!(prompt_lookup(&[2, 8, 1, 2, 9, 1, 2], 2, 2), [9, 1]);
    // a place may reach into the end
    assert_eq!(prompt_lookup(&[5, 5, 5], 2, 4), [5]);
    assert_eq!(prompt_lookup(&[5, 5], 2, 4), [5]);
    assert_eq!(prompt_lookup(&[5], 2, 4), [0; 0]);
    assert_eq!(prompt_lookup(&[1, 2, 3], 2, 4), [0; 0]);
    assert_eq!(prompt_lookup(&[1, 2, 1], 2, 0), [0; 0]);
}
