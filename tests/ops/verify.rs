#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::device::Memory;
use webweft::ops;
use webweft::reference::sample::sample;
use webweft::reference::verify::verify;
use webweft::shaders::{Row, Sampling, Slot};
use webweft::step::{History, NO_DRAFT, REJECTED, Step, StepSize};
use webweft::tensor::Elem;

use super::{Bench, POISON};
use crate::common::{device, random};

const VOCAB: usize = 270;
const TURN: u32 = 5;
const POSITIONS: u32 = 256;

/// A slot before the step: its rows, the last ones of them drafts.
struct Setup {
    ids: Vec<u32>,
    drafts: usize,
    state: Slot,
    sampling: Sampling,
    eos: Vec<u32>,
}

/// What becomes of it: its new tokens, and why no more are to come.
struct Wanted {
    new: Vec<u32>,
    done: u32,
}

impl Setup {
    fn position(&self) -> u32 {
        self.state.position + self.ids.len() as u32 - self.drafts as u32
    }

    /// By the draws after its last token and each draft.
    fn wanted(&self, draws: &[Option<u32>], each: usize) -> Wanted {
        if self.state.done > 0 || self.state.sampled >= self.state.limit {
            return Wanted { new: Vec::new(), done: self.state.done };
        }
        let drafts = &self.ids[self.ids.len() - self.drafts..];
        let drafts = &drafts[..drafts.len().min(each - 1)];
        let ids: Vec<u32> = draws.iter().map(|draw| draw.unwrap_or(NO_DRAFT)).collect();
        let (mut new, mut done) = (Vec::new(), 0);
        for draw in &draws[..=verify(drafts, &ids)] {
            let Some(id) = *draw else {
                done = 2;
                break;
            };
            new.push(id);
            if self.state.sampled + new.len() as u32 == self.state.limit || self.eos.contains(&id) {
                done = 1;
                break;
            }
        }
        Wanted { new, done }
    }
}

/// One step of all, each with room for `each` rows in the next one. The logits are those of the tokens' rows.
fn record(bench: &mut Bench, name: &str, all: Vec<Setup>, each: u32, logits: &dyn Fn(u32) -> Vec<f32>) {
    let room = all.len() as u32 + 1;
    let count: u32 = all.iter().map(|one| one.ids.len() as u32).sum();
    let size = StepSize { rows: count.max(room * each), slots: room, tables: 1, pages: 1, ring: 16 };
    let step = Step::new(Memory::Device(&bench.device), size).expect("a step");
    let history = History::new(&bench.device, VOCAB as u32, POSITIONS, room).expect("a history");
    let state = |one: &Setup| Slot { rows: one.ids.len() as u32, drafts: one.drafts as u32, turn: TURN, ..one.state };
    let before: Vec<Slot> = all.iter().map(state).collect();
    step.set(&bench.device, &before);
    step.set_ids(&bench.device, all.iter().map(|one| one.ids.as_slice()));
    for (slot, one) in (0..).zip(&all) {
        step.set_sampling(&bench.device, slot, one.sampling, &one.eos);
    }
    bench.device.write(&step.ring, 0, bytemuck::cast_slice(&vec![POISON; (16 * room) as usize]));
    let rows: Vec<f32> = all.iter().flat_map(|one| &one.ids).flat_map(|&id| logits(id)).collect();
    bench.case(|case| {
        let logits = case.input(&rows, count + 3, VOCAB, Elem::F32);
        let draws = ops::draw(&mut case.g, &logits, &step).expect("shapes fit");
        ops::verify(&mut case.g, &draws, VOCAB as u32, &step, &history, each).expect("shapes fit");
    });

    let wanted = all.iter().map(|one| {
        let first = one.ids.len() - one.drafts - 1;
        let positions = one.position()..;
        let draws: Vec<_> = one.ids[first..]
            .iter()
            .zip(positions)
            .map(|(&id, position)| sample(&logits(id), &one.sampling, position))
            .collect();
        one.wanted(&draws, each as usize)
    });
    let wanted: Vec<Wanted> = wanted.collect();
    let name = format!("{name}, {each} places");
    let buffers = [&step.state, &step.rows, &step.ring, &history.ids, &history.tokens];
    bench.read(&buffers, move |bytes| {
        let words = |i: usize| bytemuck::pod_collect_to_vec::<u8, u32>(bytes[i]);
        let slots = Step::slot_bytes(all.len() as u32);
        assert_eq!(words(0)[0], (all.len() as u32 - 1) * each + 1, "{name}: rows of the next step");
        let slots: Vec<Slot> = bytemuck::pod_collect_to_vec(&bytes[0][slots.start as usize..slots.end as usize]);
        let (rows, ring): (Vec<Row>, _) = (bytemuck::pod_collect_to_vec(bytes[1]), words(2));
        let (ids, tokens) = (words(3), words(4));
        for (s, (one, Wanted { new, done })) in all.iter().zip(&wanted).enumerate() {
            let name = format!("{name}, slot {s}");
            let each = each as usize;
            let turn = TURN as usize % (16 / each);
            let places = &ring[(turn * room as usize + s) * each..][..each];
            let own = Slot { turn: TURN + 1, ..before[s] };
            if one.state.done > 0 || one.state.sampled >= one.state.limit {
                assert_eq!(slots[s], Slot { first: slots[s].first, ..own }, "{name}");
                assert_eq!(places, vec![POISON; each], "{name}");
                continue;
            }
            let kept = new.len() as u32;
            let after = Slot {
                position: one.position() - 1 + kept,
                rows: 1,
                drafts: 0,
                done: *done,
                sampled: one.state.sampled + kept,
                first: (s * each) as u32,
                ..own
            };
            assert_eq!(slots[s], after, "{name}");
            let mut want = vec![NO_DRAFT; each];
            want[..=one.drafts.min(each - 1)].fill(REJECTED);
            want[..new.len()].copy_from_slice(new);
            assert_eq!(places, want, "{name}: the ring");
            if let Some(&id) = new.last() {
                assert_eq!(rows[s * each], Row { id, slot: s as u32 }, "{name}");
            }
            let begin = s * POSITIONS as usize + one.position() as usize;
            assert_eq!(ids[begin..][..new.len()], *new, "{name}: history");
            assert_eq!(ids[begin + new.len()], 0, "{name}: history");
            let times = |id: u32| new.iter().filter(|&&n| n == id).count() as u32;
            let own = &tokens[s * VOCAB..][..VOCAB];
            assert!((0..).zip(own).all(|(id, &count)| count == times(id)), "{name}: counts");
        }
    });
}

/// The row of logits after a token: it is followed by the next one, or where it is 200 or more by nothing.
fn next(id: u32) -> Vec<f32> {
    let mut row: Vec<f32> = random(VOCAB, id).iter().map(|v| v * 2.0).collect();
    if id >= 200 {
        return vec![f32::NAN; VOCAB];
    }
    row[id as usize + 1] = 4.0;
    row
}

fn setup(ids: &[u32], drafts: usize) -> Setup {
    let state = Slot { position: 30, sampled: 3, limit: u32::MAX, ..Slot::default() };
    Setup { ids: ids.to_vec(), drafts, state, sampling: Sampling::OFF, eos: Vec::new() }
}

/// None, some and all of 1 to 7 drafts accepted, after one row or the end of a prompt; in one step, with places changing hands.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn accepts_what_would_have_been_sampled() {
    let mut bench = Bench::new(&device().await);
    for each in [8, 4, 2, 1, 16] {
        let mut all = Vec::new();
        for drafts in 0..8_u32 {
            for right in 0..=drafts.min(3) {
                // the drafts count on, and stop doing so
                let ids: Vec<u32> = (0..=drafts).map(|i| 10 + i + if i > right { 50 } else { 0 }).collect();
                all.push(setup(&ids, drafts as usize));
            }
        }
        all.push(setup(&[7, 9, 100, 101, 102, 140], 3));
        record(&mut bench, "drafts", all, each, &next);
    }
    bench.run().await;
}

/// An end token, the limit, or no number among what is accepted: nothing comes after it.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn stops_within_what_is_accepted() {
    let mut bench = Bench::new(&device().await);
    let counted = |first| setup(&(first..first + 5).collect::<Vec<u32>>(), 4);
    let mut all = Vec::new();
    for at in 0..6 {
        let mut one = counted(20);
        one.eos = vec![250, 21 + at];
        all.push(one);
        let mut one = counted(40);
        one.state.limit = one.state.sampled + 1 + at;
        all.push(one);
        all.push(counted(200 - at));
    }
    let mut held = counted(60);
    (held.state.limit, held.state.sampled) = (0, 0);
    let mut done = setup(&[60], 0);
    done.state.done = 1;
    all.extend([held, done, setup(&[60], 0)]);
    for each in [5, 8] {
        let again = all.iter().map(|one| Setup { ids: one.ids.clone(), eos: one.eos.clone(), ..*one });
        record(&mut bench, "ends", again.collect(), each, &next);
    }
    bench.run().await;
}

/// Draws, not the greatest: each row has the noise of its own position.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn draws_at_every_row() {
    let mut bench = Bench::new(&device().await);
    let logits = |id: u32| random(VOCAB, id).iter().map(|v| v * 3.0).collect::<Vec<f32>>();
    let mut all = Vec::new();
    for seed in 0..12 {
        let sampling = Sampling { temperature: 0.9, top_k: 40, top_p: 0.95, seed_low: seed, ..Sampling::OFF };
        let mut one = setup(&[3, 11 + seed], 0);
        one.sampling = sampling;
        // right up to a point
        for i in 0..seed % 4 {
            let drawn = sample(&logits(one.ids[1 + i as usize]), &sampling, 32 + i).expect("a number");
            one.ids.push(drawn);
        }
        one.ids.push(1);
        one.drafts = one.ids.len() - 2;
        all.push(one);
    }
    record(&mut bench, "draws", all, 5, &logits);
    bench.run().await;
}
