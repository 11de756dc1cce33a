#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;

use webweft::ops;
use webweft::reference::no_repeat_ngram;
use webweft::shaders::Sampling;
use webweft::tensor::Elem;

use super::Bench;
use super::penalize::{Sampled, after, after_drafts, after_each, compare};
use crate::common::{device, random};

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn forbids_as_the_reference_does() {
    let mut bench = Bench::new(&device().await);
    let vocab = 300;
    let logits = random(vocab, 5);
    for length in [1, 2, 3, 31, 255, 256, 257, 258, 1000] {
        // few different tokens: many n-grams come again
        let mut ids: Vec<u32> = random(length, length as u32).iter().map(|v| ((v + 1.0) * 2.5) as u32 * 40).collect();
        ids[0] = 299;
        for size in [0, 1, 2, 3, 4, 7, length as u32, length as u32 + 1] {
            let sampling = Sampling { no_repeat_ngram_size: size, ..Sampling::OFF };
            let mut want = logits.clone();
            no_repeat_ngram(&mut want, size, &ids);
            let (step, history) = after(&bench, sampling, &ids, vocab, 0);
            history.set(&bench.device, 0, &ids, &vec![0; vocab], &vec![0.0; vocab], &[0]);
            // the recorded program is for a bucket
            for live in [length as u32, length.next_power_of_two() as u32 * 2] {
                let want = want.clone();
                bench.case(|case| {
                    let row = case.input(&logits, 1, vocab, Elem::F32);
                    ops::no_repeat_ngram(&mut case.g, &row, ops::Rows::Last(row.rows), &step, &history, live)
                        .expect("shapes fit");
                    let name = format!("{size}-grams of {length} tokens, {live} live");
                    case.output(&row, 1, name, move |name, got| compare(name, &got, &want));
                });
            }
        }
    }
    bench.run().await;
}

/// Every slot by its own size and tokens; what is no slot's stays as it was.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn forbids_in_every_slot() {
    let mut bench = Bench::new(&device().await);
    let vocab = 301;
    let sampled = |length: usize, size| {
        let ids = random(length, size).iter().map(|v| ((v + 1.0) * 2.5) as u32 * 40).collect();
        Sampled { sampling: Sampling { no_repeat_ngram_size: size, ..Sampling::OFF }, ids, generated: 0 }
    };
    let slots = [sampled(600, 3), sampled(20, 0), sampled(2, 3), sampled(257, 2)];
    let (step, history) = after_each(&bench, &slots, vocab);
    let logits = random((slots.len() + 1) * vocab, 5);
    let mut want = logits.clone();
    for (s, slot) in (0..).zip(&slots) {
        history.set(&bench.device, s, &slot.ids, &vec![0; vocab], &vec![0.0; vocab], &[0]);
        no_repeat_ngram(&mut want[s as usize * vocab..][..vocab], slot.sampling.no_repeat_ngram_size, &slot.ids);
    }
    bench.case(|case| {
        let rows = slots.len() as u32 + 1;
        let row = case.input(&logits, rows, vocab, Elem::F32);
        ops::no_repeat_ngram(&mut case.g, &row, ops::Rows::Last(row.rows), &step, &history, 1024).expect("shapes fit");
        case.output(&row, rows, "4 slots".into(), move |name, got| compare(name, &got, &want));
    });
    bench.run().await;
}

/// The logits after a draft know of it, and of those before it.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), pollster::test)]
async fn forbids_after_every_draft() {
    let mut bench = Bench::new(&device().await);
    let vocab = 301;
    let sampled = |ids: &[u32], size| {
        let sampling = Sampling { no_repeat_ngram_size: size, ..Sampling::OFF };
        Sampled { sampling, ids: ids.to_vec(), generated: 0 }
    };
    let slots = [sampled(&[5, 6, 7, 5, 6], 2), sampled(&[5, 6], 0), sampled(&[9, 8, 9], 3)];
    let drafts = [vec![8, 5, 6, 7], vec![6, 5, 6], vec![8, 9, 8]];
    let (step, history) = after_drafts(&bench, &slots, &drafts, vocab);
    let rows = drafts.iter().map(|drafts| drafts.len() + 2).sum::<usize>();
    let logits = random(rows * vocab, 5);
    let (mut want, mut row) = (logits.clone(), 0);
    for (s, (slot, drafts)) in (0..).zip(slots.iter().zip(&drafts)) {
        let ids = [&slot.ids[..], drafts].concat();
        history.set(&bench.device, s, &ids, &vec![0; vocab], &vec![0.0; vocab], &[0]);
        for before in 0..=drafts.len() {
            let logits = &mut want[(row + 1 + before) * vocab..][..vocab];
            no_repeat_ngram(logits, slot.sampling.no_repeat_ngram_size, &ids[..slot.ids.len() + before]);
        }
        row += drafts.len() + 2;
    }
    bench.case(|case| {
        let row = case.input(&logits, rows as u32 + 2, vocab, Elem::F32);
        ops::no_repeat_ngram(&mut case.g, &row, ops::Rows::All, &step, &history, 64).expect("shapes fit");
        case.output(&row, rows as u32, "drafts".into(), move |name, got| compare(name, &got, &want));
    });
    bench.run().await;
}

/// The reference on its own.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_reference_forbids() {
    let forbidden = |size, ids: &[u32]| {
        let mut logits = vec![0.0; 9];
        no_repeat_ngram(&mut logits, size, ids);
        (0..9).filter(|&i| logits[i] == f32::NEG_INFINITY).collect::<Vec<usize>>()
    };
    assert_eq!(forbidden(2, &[1, 2, 3, 1, 4, 1]), [2, 4]);
    assert_eq!(forbidden(3, &[1, 2, 3, 5, 1, 2]), [3]);
    assert_eq!(forbidden(1, &[1, 7, 1]), [1, 7]);
    assert_eq!(forbidden(0, &[1, 7, 1]), [0; 0]);
    assert_eq!(forbidden(3, &[1, 2]), [0; 0]);
    assert_eq!(forbidden(2, &[3, 3]), [3]);
    // an id that the model has no logit for
    assert_eq!(forbidden(2, &[1, 99, 1]), [0; 0]);
}
