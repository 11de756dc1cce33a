//! Rules of the paged cache, one by one. What they come to together is tested in `blocks_property`.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::managers::blocks::{BlockCopy, Blocks, BlocksConfig, CachePolicy, Pool, SequenceId, Shortage};

const MAIN: Pool = Pool::Main(0);
const HOT: Pool = Pool::Hot(0);

/// A cache with `capacity` blocks in each pool.
fn cache(windows: &[u32], hot: bool, policy: CachePolicy, capacity: u32) -> Blocks {
    let mut blocks = Blocks::new(BlocksConfig { windows: windows.to_vec(), hot, policy });
    for group in 0..windows.len() {
        blocks.set_capacity(Pool::Main(group), capacity);
        blocks.set_capacity(Pool::Hot(group), capacity);
    }
    blocks
}

/// One group that sees everything, not quantized.
fn plain(capacity: u32) -> Blocks {
    cache(&[0], false, CachePolicy::Full, capacity)
}

/// The same, quantized.
fn quantized(capacity: u32) -> Blocks {
    cache(&[0], true, CachePolicy::Full, capacity)
}

/// `count` tokens; different texts have none in common.
fn text(number: u32, count: u32) -> Vec<u32> {
    (0..count).map(|i| number * 10_000 + i).collect()
}

/// Text 1, then text 2.
fn then(first: u32, second: u32) -> Vec<u32> {
    [text(1, first), text(2, second)].concat()
}

/// A step that computes these tokens, which all stay.
fn compute(blocks: &mut Blocks, id: SequenceId, tokens: &[u32]) {
    let end = blocks.tokens(id).len() - blocks.dropped(id) + tokens.len();
    assert_eq!(blocks.reserve(id, end), Ok(()));
    blocks.confirm(id, tokens);
}

/// A sequence of these tokens.
fn run(blocks: &mut Blocks, tokens: &[u32]) -> SequenceId {
    let (id, known) = blocks.begin(tokens);
    compute(blocks, id, &tokens[known..]);
    id
}

/// Runs and ends one.
fn leave(blocks: &mut Blocks, tokens: &[u32]) {
    let id = run(blocks, tokens);
    blocks.end(id);
}

/// How many tokens of a prompt the cache holds.
fn known(blocks: &mut Blocks, prompt: &[u32]) -> usize {
    let (id, known) = blocks.begin(prompt);
    blocks.end(id);
    known
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn blocks_are_given_as_positions_are_reserved() {
    let mut blocks = plain(4);
    let (a, known) = blocks.begin(&text(1, 3));
    assert_eq!((known, blocks.used(MAIN)), (0, 0));
    assert_eq!(blocks.reserve(a, 33), Ok(()));
    assert_eq!(blocks.table(a, MAIN), [0, 1]);
    assert_eq!(blocks.reserve(a, 64), Ok(()));
    assert_eq!(blocks.reserve(a, 2), Ok(()));
    assert_eq!(blocks.table(a, MAIN), [0, 1], "there are places already");

    let (b, _) = blocks.begin(&text(2, 3));
    assert_eq!(blocks.reserve(b, 1), Ok(()));
    assert_eq!(blocks.table(b, MAIN), [2]);
    assert_eq!(blocks.reserve(a, 6 * 32), Err(Shortage { missing: vec![(MAIN, 3)] }));
    assert_eq!((blocks.table(a, MAIN), blocks.used(MAIN)), (&[0, 1][..], 3), "all or nothing");

    blocks.set_capacity(MAIN, 7);
    assert_eq!(blocks.reserve(a, 6 * 32), Ok(()));
    assert_eq!(blocks.table(a, MAIN), [0, 1, 3, 4, 5, 6]);
    blocks.set_capacity(MAIN, 2);
    assert_eq!((blocks.capacity(MAIN), blocks.used(MAIN), blocks.idle(MAIN)), (7, 7, 0), "it never shrinks");
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn every_short_pool_is_named() {
    let mut blocks = cache(&[0, 64], true, CachePolicy::Full, 2);
    let (a, _) = blocks.begin(&[]);
    let missing = vec![(Pool::Main(0), 1), (Pool::Main(1), 1), (Pool::Hot(0), 2), (Pool::Hot(1), 2)];
    assert_eq!(blocks.reserve(a, 4 * 32 - 1), Err(Shortage { missing }), "the last one is not whole");
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn what_is_not_there_is_empty() {
    let mut blocks = plain(2);
    for pool in [HOT, Pool::Main(1), Pool::Main(usize::MAX), Pool::Hot(usize::MAX)] {
        blocks.set_capacity(pool, 5);
        assert_eq!((blocks.capacity(pool), blocks.used(pool), blocks.idle(pool)), (0, 0, 0));
    }
    let a = run(&mut blocks, &text(1, 40));
    assert!(blocks.table(a, HOT).is_empty());
    let missing = vec![(MAIN, usize::MAX.div_ceil(32) - 2)];
    assert_eq!(blocks.reserve(a, usize::MAX), Err(Shortage { missing }));
    assert_eq!(blocks.confirm(a, &text(3, 60)), 40, "there are no places for them");
    assert_eq!(blocks.rollback(a, usize::MAX), 40);
    assert_eq!(blocks.evict(a, usize::MAX), 0, "nothing is dropped where all is to be kept");

    blocks.forget(a);
    assert_eq!(blocks.reserve(a, 9), Ok(()));
    assert_eq!((blocks.confirm(a, &[1]), blocks.rollback(a, 1), blocks.dropped(a)), (0, 0, 0));
    assert!(blocks.tokens(a).is_empty() && blocks.table(a, MAIN).is_empty());
    let b = blocks.fork(a);
    assert!(blocks.tokens(b).is_empty());
    blocks.end(a);
    blocks.forget(a);
    assert_eq!(blocks.used(MAIN), 0);

    let most = CachePolicy::Window { sinks: u32::MAX, blocks: u32::MAX };
    let mut blocks = cache(&[u32::MAX], true, most, 9);
    let a = run(&mut blocks, &text(1, 70));
    assert_eq!((blocks.evict(a, usize::MAX), blocks.rollback(a, 69)), (0, 69));
    blocks.forget(a);
    assert_eq!((blocks.used(MAIN), blocks.used(HOT)), (0, 0));
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn windows_give_back_what_no_query_sees() {
    let mut blocks = cache(&[0, 40], false, CachePolicy::Full, 8);
    let (full, window) = (Pool::Main(0), Pool::Main(1));
    let a = run(&mut blocks, &text(1, 71));
    assert_eq!(blocks.table(a, window), [0, 1, 2], "position 71 sees 32 to 71");
    assert_eq!(blocks.idle(window), 1, "the first one is a prefix's only");
    blocks.clear();
    compute(&mut blocks, a, &text(2, 32));
    assert_eq!((blocks.table(a, full), blocks.table(a, window)), (&[0, 1, 2, 3][..], &[0, 0, 2, 0][..]));
    assert_eq!((blocks.used(full), blocks.used(window)), (4, 2));
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn hot_blocks_are_those_from_the_next_position_on() {
    let mut blocks = quantized(4);
    let (a, _) = blocks.begin(&[]);
    assert_eq!(blocks.reserve(a, 70), Ok(()));
    assert_eq!((blocks.table(a, MAIN), blocks.table(a, HOT)), (&[0, 1][..], &[0, 1, 2][..]), "whole ones; all");
    blocks.confirm(a, &text(1, 40));
    assert_eq!((blocks.used(MAIN), blocks.used(HOT)), (2, 2));
    assert_eq!(blocks.table(a, HOT), [0, 1, 2], "the absent one reads 0");
    blocks.confirm(a, &text(2, 24));
    assert_eq!((blocks.used(MAIN), blocks.used(HOT)), (2, 1), "the next position is the first of its block");
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn a_chat_goes_on_where_it_ended() {
    for mut blocks in [plain(9), quantized(9), cache(&[0, 33], false, CachePolicy::Full, 9)] {
        leave(&mut blocks, &text(1, 75));
        let (a, known) = blocks.begin(&then(75, 10));
        assert_eq!(known, 75);
        assert_eq!(blocks.tokens(a), text(1, 75));
        // the prefix is still there for others: the sequence writes to a copy
        assert_eq!(blocks.reserve(a, 85), Ok(()));
        let copies = blocks.take_copies();
        assert!(!copies.is_empty() && blocks.take_copies().is_empty());
        for copy in copies {
            assert_eq!(blocks.table(a, copy.pool)[2], copy.to);
            assert_ne!(copy.from, copy.to);
        }
        let (_, again) = blocks.begin(&then(75, 10));
        assert_eq!(again, 75);
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn a_prompt_may_share_a_part_of_a_block() {
    for (mut blocks, within_whole) in [(plain(9), 50), (quantized(9), 32)] {
        leave(&mut blocks, &text(1, 75));
        assert_eq!(known(&mut blocks, &then(70, 1)), 70, "of the last one");
        assert_eq!(known(&mut blocks, &then(50, 9)), within_whole, "a quantized block is read whole");
        assert_eq!(known(&mut blocks, &text(1, 75)), 74, "what follows the last token is asked for");
        assert_eq!(known(&mut blocks, &text(1, 1)), 0);
        assert_eq!(known(&mut blocks, &[]), 0);
        assert_eq!(known(&mut blocks, &text(2, 40)), 0);
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn whole_blocks_are_shared_while_their_sequence_runs() {
    let mut blocks = plain(9);
    let a = run(&mut blocks, &text(1, 75));
    let (b, known) = blocks.begin(&then(64, 9));
    assert_eq!(known, 64);
    assert_eq!(blocks.table(b, MAIN), [0, 1]);
    assert_eq!((blocks.used(MAIN), blocks.idle(MAIN)), (3, 0));
    // what both computed for themselves stays theirs
    let (c, known) = blocks.begin(&text(3, 33));
    let (d, also) = blocks.begin(&text(3, 33));
    assert_eq!((known, also), (0, 0));
    compute(&mut blocks, c, &text(3, 33));
    compute(&mut blocks, d, &text(3, 33));
    assert_ne!(blocks.table(c, MAIN), blocks.table(d, MAIN));
    assert_eq!(blocks.begin(&text(3, 33)).1, 32);
    let figures = blocks.prefixes();
    assert_eq!((figures.asked, figures.found), (75 + 73 + 3 * 33, 64 + 32));
    blocks.end(a);
    assert_eq!(blocks.idle(MAIN), 1, "the last one of three");
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn forks_copy_what_they_write() {
    for (mut blocks, pool) in [(plain(9), MAIN), (quantized(9), HOT)] {
        let a = run(&mut blocks, &text(1, 40));
        let before = blocks.table(a, pool)[1];
        let b = blocks.fork(a);
        assert_eq!((blocks.tokens(b), blocks.table(b, pool)), (blocks.tokens(a), blocks.table(a, pool)));
        assert!(blocks.take_copies().is_empty());
        compute(&mut blocks, b, &text(2, 1));
        let to = blocks.table(b, pool)[1];
        assert_eq!(blocks.take_copies(), [BlockCopy { pool, from: before, to }]);
        compute(&mut blocks, a, &text(3, 1));
        assert_eq!(blocks.table(a, pool)[1], before, "nobody else has it any more");
        assert!(blocks.take_copies().is_empty());
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn what_was_used_longest_ago_is_forgotten_first() {
    let mut blocks = plain(6);
    leave(&mut blocks, &text(1, 64));
    leave(&mut blocks, &text(2, 64));
    leave(&mut blocks, &text(3, 64));
    assert_eq!(known(&mut blocks, &text(1, 65)), 64);
    assert_eq!(blocks.prefixes().idle, 6);

    let a = run(&mut blocks, &text(4, 32));
    assert_eq!(known(&mut blocks, &text(2, 65)), 32, "the last block before the first");
    blocks.forget(a);
    let a = run(&mut blocks, &text(4, 96));
    let left: Vec<_> = [1, 2, 3].into_iter().map(|number| known(&mut blocks, &text(number, 65))).collect();
    assert_eq!(left, [64, 32, 0], "2 was used after 3");
    // what a sequence uses stays
    let (b, _) = blocks.begin(&text(1, 65));
    assert_eq!(blocks.reserve(b, 97), Err(Shortage { missing: vec![(MAIN, 1)] }));
    assert_eq!(blocks.reserve(b, 96), Ok(()));
    assert_eq!((blocks.used(MAIN), blocks.idle(MAIN)), (6, 0));
    blocks.end(a);
}

/// Two sequences compute the same at the same time. The blocks of the first one lead on to those of the second.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn what_leads_on_is_forgotten_later() {
    let mut blocks = plain(3);
    let (a, _) = blocks.begin(&[]);
    let (b, _) = blocks.begin(&[]);
    compute(&mut blocks, a, &text(1, 32));
    compute(&mut blocks, b, &then(32, 32));
    blocks.end(a);
    blocks.end(b);
    leave(&mut blocks, &text(3, 32));
    leave(&mut blocks, &text(4, 32));
    assert_eq!(known(&mut blocks, &then(32, 33)), 32);

    // and where they are forgotten, those of the second one are found
    let mut blocks = plain(3);
    let (a, _) = blocks.begin(&[]);
    let (b, _) = blocks.begin(&[]);
    compute(&mut blocks, a, &text(1, 32));
    compute(&mut blocks, b, &then(32, 10));
    blocks.end(a);
    let c = run(&mut blocks, &text(3, 32));
    assert_eq!((known(&mut blocks, &then(32, 10)), blocks.idle(MAIN)), (0, 0));
    compute(&mut blocks, b, &text(4, 1));
    assert_eq!(known(&mut blocks, &then(32, 10)), 32);
    blocks.forget(c);

    let mut blocks = cache(&[0, 32], false, CachePolicy::Full, 4);
    blocks.set_capacity(Pool::Main(0), 99);
    let (a, _) = blocks.begin(&[]);
    let (b, _) = blocks.begin(&[]);
    compute(&mut blocks, a, &text(1, 64));
    compute(&mut blocks, b, &text(1, 64));
    compute(&mut blocks, a, &text(2, 64));
    blocks.end(a);
    // the room of all that the first one left behind
    let c = run(&mut blocks, &text(3, 96));
    blocks.forget(c);
    blocks.end(b);
    assert_eq!(known(&mut blocks, &then(64, 1)), 64, "the second one still had what its window sees");
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn a_prefix_gives_way_where_there_is_no_room_for_a_copy() {
    for mut blocks in [plain(3), quantized(1)] {
        blocks.set_capacity(MAIN, 3);
        let (a, _) = blocks.begin(&[]);
        text(1, 70).chunks(32).for_each(|tokens| compute(&mut blocks, a, tokens));
        blocks.end(a);
        let (a, known) = blocks.begin(&then(70, 5));
        assert_eq!(known, 70);
        assert_eq!(blocks.reserve(a, 75), Ok(()));
        assert!(blocks.take_copies().is_empty());
        // not so where it is another sequence's
        let b = blocks.fork(a);
        assert!(blocks.reserve(b, 75).is_err());
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn a_prefix_needs_what_a_window_sees() {
    let mut blocks = cache(&[0, 32], false, CachePolicy::Full, 4);
    blocks.set_capacity(Pool::Main(0), 99);
    leave(&mut blocks, &text(1, 4 * 32));
    // the window's pool has room for one more only where it forgets
    leave(&mut blocks, &text(2, 2 * 32));
    assert_eq!(blocks.idle(Pool::Main(0)), 6);
    assert_eq!(known(&mut blocks, &then(4 * 32, 1)), 4 * 32, "its last block is there");
    assert_eq!(known(&mut blocks, &then(2 * 32, 1)), 0, "no block before its third is");
}

/// What was saved elsewhere gets the places that later queries see, and is found once it is confirmed.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn places_are_filled_from_elsewhere() {
    for hot in [false, true] {
        let mut blocks = cache(&[0, 40], hot, CachePolicy::Full, 6);
        let length = 4 * 32 + 7;
        let places = [Pool::Main(0), Pool::Main(1), Pool::Hot(0), Pool::Hot(1)].map(|pool| blocks.held(pool, length));
        let whole = if hot { 4 } else { 5 };
        let begun = if hot { 4..5 } else { 0..0 };
        assert_eq!(places, [0..whole, 3..whole, begun.clone(), begun], "hot {hot}");

        leave(&mut blocks, &text(1, 70));
        let id = blocks.begin_filled(length).unwrap();
        assert!(blocks.tokens(id).is_empty());
        assert_eq!(blocks.table(id, Pool::Main(0)).len(), whole);
        assert_eq!(known(&mut blocks, &text(2, 140)), 0, "not before it is there");
        assert_eq!(blocks.confirm(id, &text(2, length as u32)), length);
        blocks.end(id);
        assert_eq!(known(&mut blocks, &text(2, 140)), length, "hot {hot}");
        let (found, held) = blocks.find(&text(2, length as u32));
        assert_eq!(held, length, "the last one, too");
        assert_eq!(blocks.table(found, Pool::Main(1)).len(), whole);
        blocks.end(found);
        assert_eq!(known(&mut blocks, &text(1, 71)), if hot { 70 } else { 32 }, "as much as was needed gave way");

        let used = blocks.used(MAIN);
        assert!(blocks.begin_filled(7 * 32).is_err());
        assert_eq!(blocks.used(MAIN), used, "nothing has changed");
        let id = blocks.begin_filled(6 * 32).unwrap();
        blocks.forget(id);
        assert_eq!(blocks.used(MAIN), blocks.idle(MAIN), "all is free again");
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn sequences_go_back() {
    let mut blocks = plain(9);
    let a = run(&mut blocks, &text(1, 75));
    assert_eq!(blocks.reserve(a, 200), Ok(()));
    assert_eq!(blocks.rollback(a, 40), 40);
    assert_eq!((blocks.tokens(a), blocks.table(a, MAIN)), (&text(1, 40)[..], &[0, 1][..]));
    assert_eq!(blocks.used(MAIN), 2, "places beyond are given back");
    assert_eq!(known(&mut blocks, &text(1, 65)), 32, "what was taken back is not found");
    compute(&mut blocks, a, &text(2, 30));
    assert_eq!(known(&mut blocks, &then(40, 30)), 64);

    // what somebody has left is not written over
    leave(&mut blocks, &text(3, 64));
    let (b, _) = blocks.begin(&text(3, 65));
    assert_eq!(blocks.rollback(b, 40), 40);
    assert_eq!(blocks.reserve(b, 41), Ok(()));
    assert_eq!(blocks.take_copies().len(), 1);
    assert_eq!(known(&mut blocks, &text(3, 65)), 64);

    let mut blocks = quantized(9);
    let a = run(&mut blocks, &text(1, 75));
    assert_eq!(blocks.rollback(a, 70), 70, "the block of the next position is hot");
    assert_eq!(blocks.rollback(a, 60), 32, "no other one is");

    let mut blocks = cache(&[32], false, CachePolicy::Full, 4);
    let a = run(&mut blocks, &text(1, 4 * 32));
    assert_eq!(blocks.rollback(a, 90), 90, "the prefix still has what the window had given back");
    compute(&mut blocks, a, &text(2, 38));
    let b = run(&mut blocks, &text(3, 96));
    assert_eq!(blocks.rollback(a, 90), 0, "now it has not");
    assert!(blocks.table(a, MAIN).is_empty());
    blocks.end(b);
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn a_sequence_without_end_keeps_its_beginning_and_its_last_blocks() {
    for hot in [false, true] {
        let mut blocks = cache(&[0, 40], hot, CachePolicy::Window { sinks: 1, blocks: 4 }, 4);
        let a = run(&mut blocks, &text(1, 100));
        assert_eq!(blocks.evict(a, 28), 0, "they fit");
        let before = blocks.table(a, MAIN).to_vec();
        assert_eq!(blocks.evict(a, 29), 32);
        assert_eq!((blocks.dropped(a), blocks.tokens(a).len()), (32, 100));
        assert_eq!(blocks.table(a, MAIN), [&before[..1], &before[2..]].concat());
        assert_eq!(blocks.table(a, MAIN), blocks.table(a, Pool::Main(1)), "windows give nothing back");
        assert_eq!(blocks.evict(a, usize::MAX), 32, "neither the first nor the one that is begun");
        for token in 0..2_000 {
            blocks.evict(a, 1);
            compute(&mut blocks, a, &[token]);
        }
        let cached = blocks.tokens(a).len() - blocks.dropped(a);
        assert!((97..=128).contains(&cached), "{cached}");

        blocks.forget(a);
        let b = run(&mut blocks, &text(2, 128));
        assert_eq!(blocks.evict(b, 32), 32);
        assert_eq!(blocks.rollback(b, 64), 64, "dropped: tokens 32 to 63");
        assert_eq!((blocks.rollback(b, 63), blocks.dropped(b)), (32, 0));
    }
}

/// What was computed without what was dropped is nobody else's.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn sequences_share_until_something_is_dropped() {
    let mut blocks = cache(&[0], false, CachePolicy::Window { sinks: 1, blocks: 4 }, 9);
    let a = run(&mut blocks, &text(1, 128));
    assert_eq!(blocks.evict(a, 64), 64);
    assert_eq!(blocks.reserve(a, 7 * 32), Ok(()));
    assert_eq!(blocks.confirm(a, &text(2, 90)), 218);
    let b = blocks.fork(a);
    assert_eq!((blocks.dropped(b), blocks.table(b, MAIN)), (64, &blocks.table(a, MAIN)[..5]));
    assert_eq!(known(&mut blocks, &then(128, 90)), 128, "while it runs");
    blocks.end(a);
    blocks.end(b);
    assert_eq!(known(&mut blocks, &then(128, 90)), 128, "what was dropped is a prefix still");
    assert_eq!(blocks.used(MAIN), 4);
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn forgotten_sequences_leave_nothing_of_their_own() {
    let mut blocks = plain(9);
    leave(&mut blocks, &text(1, 40));
    let a = run(&mut blocks, &then(40, 60));
    blocks.forget(a);
    assert_eq!((blocks.used(MAIN), blocks.idle(MAIN)), (2, 2));
    assert_eq!(known(&mut blocks, &then(40, 60)), 40, "what another one has left");

    let a = run(&mut blocks, &text(3, 70));
    assert_eq!(blocks.begin(&text(3, 70)).1, 64);
    blocks.forget(a);
    assert_eq!(blocks.begin(&text(3, 70)).1, 64, "another one uses it");
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn all_prefixes_can_be_forgotten() {
    let mut blocks = quantized(9);
    leave(&mut blocks, &text(1, 40));
    let a = run(&mut blocks, &text(2, 40));
    blocks.clear();
    assert_eq!((known(&mut blocks, &text(1, 40)), known(&mut blocks, &text(2, 40))), (0, 0));
    assert_eq!((blocks.used(MAIN), blocks.used(HOT)), (1, 1), "what runs goes on");
    compute(&mut blocks, a, &text(3, 40));
    blocks.end(a);
    assert_eq!((blocks.used(MAIN), blocks.used(HOT)), (0, 0), "and leaves nothing");
}

/// What is selected of a prompt has blocks of its own, takes hot ones turn by turn, and is nobody else's; the prompt is a prefix still.
#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn selections_have_blocks_of_their_own() {
    for hot in [false, true] {
        let mut blocks = cache(&[0], hot, CachePolicy::SnapKv { blocks: 4 }, 16);
        let prompt = text(1, 300);
        let a = run(&mut blocks, &prompt);
        let b = blocks.select(&prompt, 128);
        assert_eq!((blocks.tokens(b).len(), blocks.dropped(b)), (172, 172));
        for turn in prompt[172..].chunks(64) {
            compute(&mut blocks, b, turn);
        }
        assert_eq!((blocks.tokens(b), blocks.dropped(b)), (&prompt[..], 172));
        assert_eq!(blocks.table(b, MAIN).len(), 4);
        assert!(blocks.table(b, MAIN).iter().all(|block| !blocks.table(a, MAIN).contains(block)));
        assert_eq!(blocks.used(MAIN), 4 + if hot { 9 } else { 10 });
        assert_eq!(blocks.used(HOT), u32::from(hot), "those of what is full came back");
        blocks.end(a);
        assert_eq!(blocks.idle(MAIN), if hot { 9 } else { 10 }, "the prompt's can be taken");
        compute(&mut blocks, b, &text(2, 40));
        let all = [&prompt[..], &text(2, 40)].concat();
        assert_eq!(known(&mut blocks, &all), 300, "what was computed behind it is not found");

        assert_eq!(blocks.rollback(b, 332), 332);
        assert_eq!(blocks.rollback(b, 300), 300, "all of the selection");
        let c = blocks.fork(b);
        assert_eq!((blocks.rollback(c, 299), blocks.dropped(c)), (0, 0), "a part of it is of no use");
        blocks.end(c);
        blocks.end(b);
        assert_eq!(known(&mut blocks, &all), 300);
        blocks.clear();
        assert_eq!((blocks.used(MAIN), blocks.used(HOT)), (0, 0));

        let mut small = cache(&[0], hot, CachePolicy::SnapKv { blocks: 4 }, 12);
        let a = run(&mut small, &prompt);
        let b = small.select(&prompt, 128);
        assert!((1..=4).any(|turn| small.reserve(b, turn * 32).is_err() || {
            small.confirm(b, &prompt[140 + turn * 32..][..32]);
            false
        }));
        small.forget(b);
        assert_eq!(small.used(MAIN), if hot { 9 } else { 10 }, "what did not fit leaves nothing");
        small.end(a);
    }
}
