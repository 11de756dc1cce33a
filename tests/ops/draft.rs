#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::device::Memory;
use webweft::ops::{self, Assistant};
use webweft::reference::draft::draft;
use webweft::shaders::{Row, Sampling, Slot};
use webweft::step::{History, Step, StepSize};

use super::{Bench, POISON};
use crate::common::device;

const VOCAB: u32 = 100;
const POSITIONS: u32 = 64;
const RING: u32 = 32;
const BEFORE: Row = Row { id: 77_777, slot: 63 };

/// A slot of the model that verifies, how many of its tokens the other one has computed, and how many drafts are wanted.
#[derive(Clone, Copy)]
struct Setup {
    state: Slot,
    computed: u32,
    most: u32,
}

fn setup(position: u32, computed: u32, most: u32) -> Setup {
    let state = Slot { position, rows: 1, sampled: 4, limit: 1000, ..Slot::default() };
    Setup { state, computed, most }
}

fn id(slot: u32, position: u32) -> u32 {
    (slot * 31 + position * 7) % VOCAB
}

struct Steps {
    step: Step,
    assistant: Step,
    history: History,
}

impl Steps {
    fn new(bench: &Bench, all: &[Setup], each: u32) -> Self {
        let slots = all.len() as u32 + 1;
        let new = |ring| {
            let size = StepSize { rows: slots * each, slots, tables: 1, pages: 1, ring };
            let step = Step::new(Memory::Device(&bench.device), size).expect("a step");
            step.set_rows(&bench.device, 0, &vec![BEFORE; (slots * each) as usize]);
            step
        };
        let (step, assistant) = (new(1), new(RING));
        let history = History::new(&bench.device, VOCAB, POSITIONS, slots).expect("a history");
        step.set(&bench.device, &all.iter().map(|one| one.state).collect::<Vec<_>>());
        for (slot, one) in (0..).zip(all) {
            let sampling = Sampling { num_assistant_tokens: one.most, ..Sampling::OFF };
            step.set_sampling(&bench.device, slot, sampling, &[]);
            let ids: Vec<u32> = (0..=one.state.position).map(|position| id(slot, position)).collect();
            history.set(&bench.device, slot, &ids, &[0; VOCAB as usize], &[0.0; VOCAB as usize], &[0]);
        }
        Self { step, assistant, history }
    }
}

fn slots_of(bytes: &[u8], count: usize) -> Vec<Slot> {
    let range = Step::slot_bytes(count as u32);
    bytemuck::pod_collect_to_vec(&bytes[range.start as usize..range.end as usize])
}

/// Slots in step, behind, far behind; with little left, without room, done, held, without an assistant, and with drafts of their own.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn goes_on_from_what_was_computed() {
    const ROOM: u32 = 50;
    let mut bench = Bench::new(&device().await);
    let plain = setup(20, 19, 4);
    let with = |state| Setup { state, ..plain };
    let all = [
        plain,
        setup(20, 23, 3),
        setup(20, 20, 9),
        setup(20, 18, 4),
        setup(20, 3, 4),
        setup(1, 0, 4),
        with(Slot { limit: 6, ..plain.state }),
        setup(ROOM - 3, ROOM - 4, 4),
        // from here on nothing is to be drafted
        setup(ROOM - 1, ROOM - 2, 4),
        setup(20, 19, 0),
        with(Slot { limit: 5, ..plain.state }),
        with(Slot { done: 1, ..plain.state }),
        with(Slot { rows: 3, drafts: 2, ..plain.state }),
        with(Slot { sampled: 0, limit: 0, rows: 9, ..plain.state }),
    ];
    for each in [8, 3] {
        let Steps { step, assistant, history } = Steps::new(&bench, &all, each);
        let mut computed = vec![0; 64];
        computed.iter_mut().zip(&all).for_each(|(computed, one)| *computed = one.computed);
        let computed = bench.buffer(&computed);
        bench.case(|case| {
            let assistant = Assistant { step: &assistant, computed: &computed, room: ROOM };
            ops::draft(&mut case.g, &step, &history, each, assistant).expect("shapes fit");
        });
        bench.read(&[&assistant.state, &assistant.rows], move |bytes| {
            let slots = slots_of(bytes[0], all.len());
            let rows: Vec<Row> = bytemuck::pod_collect_to_vec(bytes[1]);
            let header: &[u32] = &bytemuck::pod_collect_to_vec::<u8, u32>(&bytes[0][..8]);
            assert_eq!(header, [(all.len() as u32 - 1) * each + 1, all.len() as u32], "the last slot has no rows");
            let mut want = vec![BEFORE; rows.len()];
            for (s, one) in (0..).zip(&all) {
                let name = format!("slot {s} of {each} places");
                let (place, is_off) = (s * each, s >= 8);
                let left = (one.state.limit.max(5) - 5).min(ROOM - 1 - one.state.position.min(ROOM - 1));
                let most = one.most.min(left) as usize;
                let (fed, drafts) = draft(one.state.position as usize, one.computed as usize, each as usize, most);
                let got = slots[s as usize];
                assert_eq!((got.done, got.first, got.sampled, got.turn), (u32::from(is_off), place, 0, 0), "{name}");
                if is_off {
                    assert_eq!(got.rows, 0, "{name}");
                    continue;
                }
                assert_eq!((got.position, got.rows), (fed.start as u32, fed.len() as u32), "{name}");
                assert_eq!(got.limit, drafts.max(1) as u32, "{name}");
                for (i, position) in fed.enumerate() {
                    want[place as usize + i] = Row { id: id(s, position as u32), slot: s };
                }
            }
            assert_eq!(rows, want, "{each} places");
        });
    }
    bench.run().await;
}

/// All, some and none of what was sampled becomes drafts.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn adopts_what_was_sampled() {
    const EACH: u32 = 6;
    let mut bench = Bench::new(&device().await);
    let plain = setup(20, 0, 5);
    // with what the assistant has sampled, how far it is then, and how many drafts that makes
    let cases = [
        (plain, vec![1, 2, 3, 4, 5], 25, 5),
        (plain, vec![9, 8], 22, 2),
        (plain, vec![], 20, 0),
        // while it caught up
        (plain, vec![7], 15, 0),
        // ids that the other model does not have
        (plain, vec![3, VOCAB, 4], 23, 1),
        (Setup { state: Slot { done: 1, ..plain.state }, ..plain }, vec![1], 21, 0),
        (Setup { state: Slot { rows: 3, drafts: 2, ..plain.state }, ..plain }, vec![1], 21, 0),
        (setup(POSITIONS - 2, 0, 5), vec![1, 2, 3], POSITIONS + 1, 3),
        (plain, vec![6, 6, 6], 23, 3),
    ];
    let all: Vec<Setup> = cases.iter().map(|case| case.0).collect();
    let Steps { step, assistant, history } = Steps::new(&bench, &all, EACH);
    let room = all.len() + 1;
    let theirs: Vec<Slot> = cases
        .iter()
        .map(|(_, sampled, position, _)| Slot {
            position: *position,
            rows: 1,
            sampled: sampled.len() as u32,
            ..Slot::default()
        })
        .collect();
    assistant.set(&bench.device, &theirs);
    let mut ring = vec![POISON; room * RING as usize];
    for (s, (_, sampled, ..)) in cases.iter().enumerate() {
        sampled.iter().enumerate().for_each(|(turn, &id)| ring[turn * room + s] = id);
    }
    bench.device.write(&assistant.ring, 0, bytemuck::cast_slice(&ring));
    let computed = bench.buffer(&[0_u32; 64]);
    bench.case(|case| {
        let assistant = Assistant { step: &assistant, computed: &computed, room: 50 };
        ops::adopt(&mut case.g, VOCAB, &step, &history, EACH, assistant).expect("shapes fit");
    });
    let last = cases.len() as u32 - 1;
    bench.read(&[&step.state, &step.rows, &history.ids, &computed], move |bytes| {
        let words = |i: usize| bytemuck::pod_collect_to_vec::<u8, u32>(bytes[i]);
        let (slots, ids, computed) = (slots_of(bytes[0], cases.len()), words(2), words(3));
        assert_eq!(words(0)[0], last * EACH + 4, "rows of the next step");
        let rows: Vec<Row> = bytemuck::pod_collect_to_vec(bytes[1]);
        let mut want = vec![BEFORE; rows.len()];
        for (s, (one, sampled, position, drafts)) in cases.iter().enumerate() {
            let drafts = &sampled[..*drafts];
            let count = drafts.len() as u32;
            let state = Slot { first: slots[s].first, ..one.state };
            let after = if count > 0 { Slot { rows: 1 + count, drafts: count, ..state } } else { state };
            assert_eq!(slots[s], after, "slot {s}");
            assert_eq!(computed[s], *position, "slot {s}");
            let end = one.state.position as usize + 1;
            for (i, &id) in drafts.iter().enumerate() {
                want[s * EACH as usize + 1 + i] = Row { id, slot: s as u32 };
                if end + i < POSITIONS as usize {
                    assert_eq!(ids[s * POSITIONS as usize + end + i], id, "slot {s}");
                }
            }
        }
        assert_eq!(rows, want);
    });
    bench.run().await;
}

/// The reference on its own.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_reference_goes_on() {
    // in step; all drafts but the last were accepted; drafts were refused
    assert_eq!(draft(20, 20, 8, 5), (20..21, 5));
    assert_eq!(draft(20, 19, 8, 5), (19..21, 5));
    assert_eq!(draft(20, 24, 8, 5), (20..21, 5));
    // more drafts than places
    assert_eq!(draft(20, 20, 4, 5), (20..21, 3));
    // it catches up first
    assert_eq!(draft(20, 3, 8, 5), (3..11, 0));
    assert_eq!(draft(20, 13, 8, 5), (13..21, 5));
}
