//! The batch manager's promises, kept through random days of a simulated engine.

use std::time::Duration;

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test;
use webweft::managers::batch::{Chunk, Limits, Load, Running, Scheduler, Strategy, Took, Turn, Waiting};

const LIMITS: Limits = Limits { sequences: 64, chunk: 128, burst: 8 };
const BLOCK: u32 = 32;

/// Numbers that look random (SplitMix64; Steele, Lea & Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn within(&mut self, range: std::ops::RangeInclusive<u32>) -> u32 {
        range.start() + (self.next() % u64::from(range.end() - range.start() + 1)) as u32
    }

    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[derive(Clone, Copy, Debug)]
struct Request {
    arrives: f64,
    prompt: u32,
    max_new_tokens: u32,
    /// where it ends by itself
    ends: u32,
}

/// Milliseconds of a step: `step + sequence * B + token * T`, by the sequences that decode and the tokens of prompts.
#[derive(Clone, Copy, Debug)]
struct Cost {
    step: f64,
    sequence: f64,
    token: f64,
    /// how far times vary, and how often one is ten times as long
    noise: f64,
    outliers: f64,
}

const COST: Cost = Cost { step: 8.0, sequence: 0.8, token: 0.05, noise: 0.0, outliers: 0.0 };

#[derive(Debug)]
struct Sequence {
    request: usize,
    length: u32,
    pending: u32,
    generated: u32,
    last: f64,
}

/// What came of a day.
#[derive(Debug, Default)]
struct Day {
    /// when each request was admitted, and when it ended
    admitted: Vec<Option<f64>>,
    finished: Vec<Option<f64>>,
    refused: Vec<usize>,
    /// from one token of a sequence to its next, outliers left out
    gaps: Vec<f64>,
    /// the longest chunk that running ones waited for
    stalled: u32,
    /// of each turn: the sequences that ran
    batches: Vec<usize>,
    /// the most blocks that were promised at once
    promised: u32,
    end: f64,
}

fn blocks(positions: u32) -> u32 {
    positions.div_ceil(BLOCK)
}

/// Runs all requests, and checks at every turn what must always hold.
fn simulate(strategy: Strategy, requests: &[Request], total: u32, cost: Cost, seed: u64) -> Day {
    let (mut random, mut scheduler) = (Random(seed), Scheduler::new(strategy, LIMITS));
    let count = requests.len();
    let mut day = Day { admitted: vec![None; count], finished: vec![None; count], ..Day::default() };
    let (mut running, mut waiting): (Vec<Sequence>, Vec<usize>) = (Vec::new(), Vec::new());
    let (mut came, mut now) = (0, 0.0);
    for _ in 0..1_000_000 {
        while requests.get(came).is_some_and(|request| request.arrives <= now) {
            waiting.push(came);
            came += 1;
        }
        if running.is_empty() && waiting.is_empty() {
            let Some(next) = requests.get(came) else { break };
            now = next.arrives;
            continue;
        }
        let turn = scheduler.turn(&facts(&running, &waiting, requests, total, now));
        if turn.refuse {
            day.refused.push(waiting.remove(0));
            continue;
        }
        for request in waiting.drain(..turn.admit) {
            day.admitted[request] = Some(now);
            running.push(Sequence { request, length: 0, pending: requests[request].prompt, generated: 0, last: now });
        }
        check(strategy, &turn, &running, requests, total, &mut day);
        let before = running.iter().filter(|s| s.pending == 0).count();
        if turn.steps == 0 {
            // idle: until the strategy says, or somebody comes
            let comes = requests.get(came).map_or(f64::INFINITY, |request| request.arrives);
            let until = turn.wait.map_or(f64::INFINITY, |wait| wait.as_secs_f64() * 1e3);
            assert!(until > now && until.is_finite(), "nothing is done, and nothing will be: {turn:?}");
            now = until.min(comes);
            continue;
        }
        let tokens: u32 = turn.prefill.iter().map(|chunk| chunk.tokens).sum();
        day.batches.push(running.len());
        let done = |s: &Sequence| s.generated >= requests[s.request].ends;
        let (generated, mut outliers) = (running.iter().map(|s| s.generated).collect::<Vec<_>>(), false);
        for step in 0..turn.steps {
            let outlier = random.share() < cost.outliers;
            // whoever ends has its place to the end of the submit
            let decoding = if step == 0 { before } else { running.iter().filter(|s| s.pending == 0).count() };
            let tokens = if step == 0 { tokens } else { 0 };
            let ms = cost.step + cost.sequence * decoding as f64 + cost.token * f64::from(tokens);
            let ms = ms * (1.0 + cost.noise * (2.0 * random.share() - 1.0)) * if outlier { 10.0 } else { 1.0 };
            now += ms;
            outliers |= outlier;
            scheduler.learn(Took { prefill: tokens, decoding: decoding as u32, steps: 1, ms });
            let chunks: &[Chunk] = if step == 0 { &turn.prefill } else { &[] };
            for (i, sequence) in running.iter_mut().enumerate() {
                if let Some(chunk) = chunks.iter().find(|chunk| chunk.sequence == i) {
                    sequence.pending -= chunk.tokens;
                    sequence.length += chunk.tokens;
                    sequence.generated = u32::from(sequence.pending == 0);
                } else if sequence.pending == 0 && !done(sequence) {
                    sequence.length += 1;
                    sequence.generated += 1;
                }
            }
        }
        // tokens of one submit come together
        for (sequence, before) in running.iter_mut().zip(generated).filter(|(s, before)| s.generated > *before) {
            if before > 0 && !outliers {
                day.gaps.push(now - sequence.last);
            }
            sequence.last = now;
        }
        running.retain(|s| {
            let ended = s.pending == 0 && done(s);
            if ended {
                day.finished[s.request] = Some(now);
            }
            !ended
        });
    }
    assert!(running.is_empty() && waiting.is_empty() && came == count, "{strategy}: it does not end");
    day.end = now;
    day
}

/// As the scheduler is told.
fn facts<'a>(running: &[Sequence], waiting: &[usize], requests: &[Request], total: u32, now: f64) -> Load<'a> {
    let held: u32 = running.iter().map(|s| blocks(s.length)).sum();
    let of = |s: &Sequence| Running {
        length: s.length,
        pending: s.pending,
        remaining: requests[s.request].max_new_tokens - s.generated,
        blocks: blocks(s.length),
    };
    let running: Vec<_> = running.iter().map(of).collect();
    let of = |&request: &usize| {
        let Request { prompt, max_new_tokens, arrives, .. } = requests[request];
        let arrived = Duration::from_secs_f64(arrives / 1e3);
        Waiting { prompt, pending: prompt, max_new_tokens, shared: 0, arrived }
    };
    let waiting: Vec<_> = waiting.iter().map(of).collect();
    let now = Duration::from_secs_f64(now / 1e3);
    // a test may leak
    Load { running: running.leak(), waiting: waiting.leak(), free: total - held, total, now }
}

fn check(strategy: Strategy, turn: &Turn, running: &[Sequence], requests: &[Request], total: u32, day: &mut Day) {
    let most = match strategy {
        Strategy::Fixed { sequences } | Strategy::Timeout { sequences, .. } => sequences as usize,
        _ => LIMITS.sequences as usize,
    };
    assert!(running.len() <= most, "{strategy}: {} at once", running.len());
    // the last token is in no step
    let promised = running.iter().map(|s| requests[s.request]).map(|r| blocks(r.prompt + r.max_new_tokens - 1)).sum();
    assert!(promised <= total, "{strategy}: {promised} blocks of {total} are promised");
    day.promised = day.promised.max(promised);
    let tokens: u32 = turn.prefill.iter().map(|chunk| chunk.tokens).sum();
    assert!(tokens <= LIMITS.chunk && turn.steps <= LIMITS.burst, "{turn:?}");
    let mut before = None;
    for chunk in &turn.prefill {
        let pending = running[chunk.sequence].pending;
        assert!((1..=pending).contains(&chunk.tokens) && before < Some(chunk.sequence), "{turn:?}");
        let first = running[..chunk.sequence]
            .iter()
            .enumerate()
            .all(|(i, s)| s.pending == 0 || turn.prefill.iter().any(|c| c.sequence == i && c.tokens == s.pending));
        assert!(first, "the prompt of an earlier one is not complete: {turn:?}");
        before = Some(chunk.sequence);
    }
    let decodes = |s: &Sequence| s.pending == 0;
    if running.iter().any(decodes) {
        assert!(turn.steps >= 1, "{strategy}: those that decode stand still: {turn:?}");
        day.stalled = day.stalled.max(tokens);
    }
}

fn requests(random: &mut Random, count: usize, every: f64) -> Vec<Request> {
    let mut at = 0.0;
    let request = |_| {
        at += every * 2.0 * random.share();
        let max_new_tokens = random.within(1..=120);
        let prompt = if random.share() < 0.1 { random.within(300..=900) } else { random.within(1..=80) };
        Request { arrives: at, prompt, max_new_tokens, ends: random.within(1..=max_new_tokens) }
    };
    (0..count).map(request).collect()
}

fn strategies() -> [Strategy; 6] {
    ["fixed:1", "fixed:8", "timeout:6:80ms", "memory-aware", "latency-aware:40ms", "latency-aware:1ms"]
        .map(|text| text.parse().unwrap())
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn everybody_is_served_in_turn() {
    for (i, strategy) in strategies().into_iter().enumerate() {
        for (seed, every, total) in [(1, 5.0, 2048), (2, 60.0, 400), (3, 0.0, 64), (4, 400.0, 48)] {
            let mut random = Random(seed + 10 * i as u64);
            let requests = requests(&mut random, 60, every);
            let cost = Cost { noise: 0.2, outliers: 0.02, ..COST };
            let day = simulate(strategy, &requests, total, cost, seed);
            assert!(day.refused.is_empty(), "{strategy}: {:?}", day.refused);
            assert!(day.finished.iter().all(Option::is_some));
            // first come, first served
            assert!(day.admitted.is_sorted(), "{strategy}: {:?}", day.admitted);
            assert!(day.stalled <= LIMITS.chunk);
        }
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn memory_is_used_and_never_promised_twice() {
    let mut random = Random(5);
    let mut requests = requests(&mut random, 80, 0.0);
    let total = 100;
    let day = simulate(Strategy::MemoryAware, &requests, total, COST, 1);
    // at once the whole cache is in use, up to what the next one needs
    assert!(day.promised > total - blocks(900 + 120) && day.batches.iter().max() > Some(&10), "{}", day.promised);
    let fixed = simulate(Strategy::Fixed { sequences: 1 }, &requests, total, COST, 1);
    assert!(day.end < 0.5 * fixed.end, "{} and {} ms", day.end, fixed.end);
    // what the whole cache does not hold is told at once, and keeps nobody waiting
    requests[7].max_new_tokens = total * BLOCK;
    let day = simulate(Strategy::MemoryAware, &requests, total, COST, 1);
    assert_eq!(day.refused, [7]);
    assert!((0..80).all(|i| day.finished[i].is_some() == (i != 7)));
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn the_target_is_kept() {
    for (target, noise, outliers) in [(40, 0.0, 0.0), (40, 0.08, 0.01), (30, 0.08, 0.01), (80, 0.05, 0.05)] {
        let strategy = Strategy::LatencyAware { target: Duration::from_millis(target) };
        let requests = requests(&mut Random(target), 300, 10.0);
        let cost = Cost { noise, outliers, ..COST };
        let day = simulate(strategy, &requests, 100_000, cost, 7);
        let target = target as f64;
        let late = day.gaps.iter().filter(|&&gap| gap > target).count();
        let share = late as f64 / day.gaps.len() as f64;
        assert!(share <= if noise == 0.0 { 0.0 } else { 0.005 }, "{target} ms: {late} of {} are late", day.gaps.len());
        // a chunk of 16 and a step within 90 % of the target
        let most = (0.9 * target - 2.0 * cost.step - 16.0 * cost.token) / cost.sequence;
        let batch = *day.batches.iter().max().unwrap();
        assert!(batch as f64 > 0.6 * most.min(64.0), "{target} ms: {batch} at once of {most}");
    }
    // without the target, some gaps are longer
    let day = simulate("fixed:64".parse().unwrap(), &requests(&mut Random(40), 300, 10.0), 100_000, COST, 7);
    assert!(day.gaps.iter().any(|&gap| gap > 40.0));
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn a_target_that_cannot_be_kept_leaves_one_at_a_time() {
    let strategy = Strategy::LatencyAware { target: Duration::from_millis(2) };
    let day = simulate(strategy, &requests(&mut Random(6), 30, 0.0), 100_000, COST, 7);
    assert!(day.batches.iter().all(|&batch| batch == 1));
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn a_group_waits_for_others_but_not_for_ever() {
    let request = |arrives| Request { arrives, prompt: 10, max_new_tokens: 30, ends: 30 };
    let strategy = Strategy::Timeout { sequences: 4, wait: Duration::from_millis(50) };
    let admitted = |arrivals: &[f64]| {
        let requests: Vec<_> = arrivals.iter().map(|&at| request(at)).collect();
        simulate(strategy, &requests, 1000, COST, 1).admitted.into_iter().map(Option::unwrap).collect::<Vec<_>>()
    };
    assert_eq!(admitted(&[0.0, 10.0, 20.0, 30.0]), [30.0; 4], "four are enough");
    assert_eq!(admitted(&[0.0, 10.0]), [50.0; 2], "the first has waited long enough");
    let day = admitted(&[0.0, 60.0, 900.0]);
    assert!(day[0] == 50.0 && day[1] < 140.0 && day[2] == 950.0, "who comes while some run joins them: {day:?}");
}

fn load<'a>(running: &'a [Running], waiting: &'a [Waiting], free: u32) -> Load<'a> {
    Load { running, waiting, free, total: 1000, now: Duration::ZERO }
}

const DECODES: Running = Running { length: 40, pending: 0, remaining: 100, blocks: 2 };
const WAITS: Waiting = Waiting { prompt: 40, pending: 40, max_new_tokens: 24, shared: 0, arrived: Duration::ZERO };

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn bursts_are_short_where_somebody_waits() {
    let fixed = Scheduler::new(Strategy::Fixed { sequences: 2 }, LIMITS);
    let burst = |running: &[Running], waiting: &[Waiting]| fixed.turn(&load(running, waiting, 1000)).steps;
    assert_eq!(burst(&[DECODES], &[]), 8);
    assert_eq!(burst(&[Running { remaining: 3, ..DECODES }], &[]), 3, "no further than its limit");
    assert_eq!(burst(&[Running { remaining: 3, ..DECODES }, DECODES], &[]), 8);
    assert_eq!(burst(&[DECODES, DECODES], &[WAITS]), 4);
    assert_eq!(burst(&[Running { remaining: 2, ..DECODES }, DECODES], &[WAITS]), 2, "until a place is free");
    assert_eq!(burst(&[DECODES, Running { pending: 500, ..DECODES }], &[]), 1, "a prompt waits for its next chunk");
    assert_eq!(burst(&[Running { pending: 500, ..DECODES }], &[]), 1);
    // the prompt's end gives the first token
    assert_eq!(burst(&[Running { pending: 5, remaining: 3, ..DECODES }], &[]), 3);
    let mut timed = Scheduler::new("latency-aware:40ms".parse().unwrap(), LIMITS);
    assert_eq!(timed.turn(&load(&[DECODES], &[], 1000)).steps, 1, "nothing is known yet");
    (0..5).for_each(|_| timed.learn(Took { prefill: 0, decoding: 1, steps: 1, ms: 10.0 }));
    assert_eq!(timed.turn(&load(&[DECODES], &[], 1000)).steps, 3, "their tokens come together");
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn blocks_are_counted_with_what_is_shared() {
    let scheduler = Scheduler::new(Strategy::MemoryAware, LIMITS);
    let admit = |running: &[Running], waiting: &[Waiting], free| scheduler.turn(&load(running, waiting, free)).admit;
    assert_eq!([1, 2, 3, 4].map(|free| admit(&[], &[WAITS, WAITS], free)), [0, 1, 1, 2], "64 positions are two blocks");
    let shares = Waiting { pending: 8, shared: 1, ..WAITS };
    assert_eq!([0, 1, 2].map(|free| admit(&[], &[shares, shares], free)), [0, 1, 2]);
    // 140 positions are 5 blocks, of which it holds 2
    assert_eq!([4, 5].map(|free| admit(&[DECODES], &[WAITS], free)), [0, 1]);
    // one that does not fit is not overtaken
    let large = Waiting { max_new_tokens: 900, ..WAITS };
    assert_eq!(admit(&[DECODES], &[large, WAITS], 10), 0);
    let endless = Waiting { max_new_tokens: u32::MAX, ..WAITS };
    assert!(scheduler.turn(&load(&[DECODES], &[endless], 10)).refuse);
    assert!(!scheduler.turn(&load(&[DECODES], &[large], 10)).refuse, "room will be made");
    assert!(scheduler.turn(&load(&[], &[large], 10)).refuse, "nobody is there to make it");
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn one_chunk_takes_several_prompts() {
    let scheduler = Scheduler::new(Strategy::Fixed { sequences: 8 }, LIMITS);
    let turn = scheduler.turn(&load(&[DECODES], &[WAITS; 5], 1000));
    let chunks: Vec<_> = turn.prefill.iter().map(|chunk| (chunk.sequence, chunk.tokens)).collect();
    assert_eq!((turn.admit, chunks, turn.steps), (5, vec![(1, 40), (2, 40), (3, 40), (4, 8)], 1));
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn strategies_are_texts() {
    for text in [
        "fixed:1",
        "fixed:64",
        "timeout:8:50ms",
        "timeout:8:0ms",
        "timeout:2:1.5ms",
        "memory-aware",
        "latency-aware:40ms",
    ] {
        assert_eq!(text.parse::<Strategy>().unwrap().to_string(), text);
    }
    assert_eq!(" timeout : 8 : 0.5s ".parse::<Strategy>().unwrap().to_string(), "timeout:8:500ms");
    let wrong = |text: &str| text.parse::<Strategy>().unwrap_err().to_string();
    for text in ["fixed:0", "fixed:65", "fixed:x", "fixed:-1"] {
        assert_eq!(wrong(text), format!("batch strategy is `{text}`, expected fixed:N, N from 1 to 64"));
    }
    for text in
        ["timeout:8:50", "timeout:8:-1ms", "timeout:8:nanms", "timeout:8:infs", "timeout:0:1s", "timeout:8:9999999s"]
    {
        assert!(wrong(text).contains("timeout:N:TIME"), "{text}");
    }
    for text in ["latency-aware:0ms", "latency-aware:", "latency-aware:ms"] {
        assert!(wrong(text).contains("TIME above 0"), "{text}");
    }
    for text in ["", "fixed", "fixed:8:9", "timeout:8", "latency-aware", "Fixed:8", "memory-aware:1"] {
        assert!(wrong(text).contains("fixed:N, timeout:N:TIME, memory-aware or latency-aware:TIME"), "{text}");
    }
}
