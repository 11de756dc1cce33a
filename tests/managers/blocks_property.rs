//! A cache whose contents are known: random sequences run, share, go back and end, in small pools, and whatever a query may read
//! is what was computed for it.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use proptest::prelude::*;
use proptest::sample::Index;
use webweft::managers::blocks::{Blocks, BlocksConfig, CachePolicy, Pool, SequenceId, Shortage};

const BLOCK: usize = 32;

/// What is computed of a token depends on all before it, and on what was dropped by then.
type Fact = u64;

fn fact(before: Fact, token: u32, dropped: usize) -> Fact {
    let mut hasher = DefaultHasher::new();
    (before, token, dropped).hash(&mut hasher);
    hasher.finish()
}

fn facts(tokens: &[u32]) -> Vec<Fact> {
    let next = |before: &mut Fact, token: &u32| {
        *before = fact(*before, *token, 0);
        Some(*before)
    };
    tokens.iter().scan(0, next).collect()
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[derive(Clone, Debug)]
enum Action {
    /// A prompt that begins as an earlier sequence did, and goes on differently.
    Begin {
        like: Index,
        cut: Index,
        more: Vec<u32>,
    },
    /// Computes tokens behind those that are not confirmed, or in place of them.
    Step {
        who: Index,
        again: bool,
        tokens: Vec<u32>,
        grow: bool,
    },
    Confirm {
        who: Index,
        count: Index,
    },
    Rollback {
        who: Index,
        length: Index,
        near: bool,
    },
    Fork {
        who: Index,
    },
    End {
        who: Index,
    },
    Forget {
        who: Index,
    },
    Evict {
        who: Index,
        more: usize,
    },
    Clear,
}

fn action() -> impl Strategy<Value = Action> {
    let who = any::<Index>;
    // much of what is computed was computed before
    let tokens = |most| prop_oneof![2 => (1..most).prop_map(|count| vec![0; count]), 1 => prop::collection::vec(0..2_u32, 1..most)];
    prop_oneof![
        4 => (who(), who(), tokens(40)).prop_map(|(like, cut, more)| Action::Begin { like, cut, more }),
        8 => (who(), any::<bool>(), tokens(100), any::<bool>())
            .prop_map(|(who, again, tokens, grow)| Action::Step { who, again, tokens, grow }),
        6 => (who(), who()).prop_map(|(who, count)| Action::Confirm { who, count }),
        2 => (who(), who(), any::<bool>()).prop_map(|(who, length, near)| Action::Rollback { who, length, near }),
        1 => who().prop_map(|who| Action::Fork { who }),
        2 => who().prop_map(|who| Action::End { who }),
        1 => who().prop_map(|who| Action::Forget { who }),
        2 => (who(), 0..64_usize).prop_map(|(who, more)| Action::Evict { who, more }),
        1 => Just(Action::Clear),
    ]
}

#[derive(Clone, Debug)]
struct Running {
    id: SequenceId,
    tokens: Vec<u32>,
    /// Of each cache position.
    cache: Vec<Fact>,
    dropped: usize,
    /// What was computed beyond, and may not stay.
    ahead: Vec<(u32, Fact)>,
    /// Whether it becomes findable: nothing was dropped, and its prefixes were not cleared.
    open: bool,
    /// Tokens of it that others are sure to find while it runs.
    findable: usize,
    /// It has blocks in common with another one whose last block was not whole.
    forked: bool,
}

/// Tokens that were left, and will be found again while nothing is forgotten.
#[derive(Debug)]
struct Left {
    tokens: Vec<u32>,
    forked: bool,
    /// Something had been forgotten before, which windows may need: only all of it is sure to be found.
    only_whole: bool,
}

struct World {
    blocks: Blocks,
    config: BlocksConfig,
    memory: HashMap<(Pool, u32), [Fact; BLOCK]>,
    running: Vec<Running>,
    history: Vec<Vec<u32>>,
    left: Vec<Left>,
    /// Something was taken back, or forgotten for want of room: blocks that windows had given back may be missing.
    forgotten: bool,
}

impl World {
    fn new(config: BlocksConfig, capacity: u32) -> Self {
        let mut blocks = Blocks::new(config.clone());
        for pool in pools(&config) {
            blocks.set_capacity(pool, capacity);
        }
        let (memory, running, left) = Default::default();
        Self { blocks, config, memory, running, history: vec![vec![0; 70]], left, forgotten: false }
    }

    fn window(&self, group: usize) -> usize {
        if self.config.policy == CachePolicy::Full { self.config.windows[group] as usize } else { 0 }
    }

    fn first_visible(&self, group: usize, position: usize) -> usize {
        let window = self.window(group);
        if window == 0 { 0 } else { (position + 1).saturating_sub(window) }
    }

    /// The pool whose blocks are written, and read by queries in them.
    fn written(&self, group: usize) -> Pool {
        if self.config.hot { Pool::Hot(group) } else { Pool::Main(group) }
    }

    /// Logical blocks that a sequence with `cached` positions has in a pool.
    fn held(&self, id: SequenceId, pool: Pool, cached: usize) -> Vec<u32> {
        let first = match pool {
            Pool::Main(group) => self.first_visible(group, cached) / BLOCK,
            Pool::Hot(_) => cached / BLOCK,
        };
        self.blocks.table(id, pool).get(first..).unwrap_or_default().to_vec()
    }

    /// A query at `position` sees `facts`, and nothing else.
    fn check_query(&self, id: SequenceId, position: usize, facts: &[Fact]) -> Result<(), TestCaseError> {
        for group in 0..self.config.windows.len() {
            for seen in self.first_visible(group, position)..facts.len() {
                let own = seen / BLOCK == position / BLOCK;
                let pool = if own { self.written(group) } else { Pool::Main(group) };
                let physical = self.blocks.table(id, pool).get(seen / BLOCK).copied();
                let block = physical.and_then(|physical| self.memory.get(&(pool, physical)));
                prop_assert_eq!(
                    block.map(|block| block[seen % BLOCK]),
                    Some(facts[seen]),
                    "query {} of {:?} sees {} in {:?}",
                    position,
                    id,
                    seen,
                    pool
                );
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for sequence in &self.running {
            prop_assert_eq!(self.blocks.tokens(sequence.id), &sequence.tokens[..]);
            prop_assert_eq!(self.blocks.dropped(sequence.id), sequence.dropped);
            self.check_query(sequence.id, sequence.cache.len(), &sequence.cache)?;
        }
        for pool in pools(&self.config) {
            let used = self.in_use(pool).len() as u32 + self.blocks.idle(pool);
            prop_assert_eq!(self.blocks.used(pool), used, "leaked in {:?}", pool);
            prop_assert!(used <= self.blocks.capacity(pool));
        }
        Ok(())
    }

    /// Blocks that sequences hold.
    fn in_use(&self, pool: Pool) -> BTreeSet<u32> {
        self.running.iter().flat_map(|s| self.held(s.id, pool, s.cache.len())).collect()
    }

    fn act(&mut self, action: Action) -> Result<(), TestCaseError> {
        let count = self.running.len();
        let at = |who: Index| (count > 0).then(|| who.index(count));
        match action {
            Action::Begin { like, cut, more } => {
                let like = like.index(self.history.len() + count);
                let running = || self.running[like - self.history.len()].tokens.clone();
                let mut prompt = self.history.get(like).cloned().unwrap_or_else(running);
                prompt.truncate(cut.index(prompt.len() + 20));
                prompt.extend(more);
                self.begin(&prompt)?;
            }
            Action::Step { who, again, tokens, grow } => {
                if let Some(at) = at(who) {
                    self.step(at, again, &tokens, grow)?;
                }
            }
            Action::Confirm { who, count } => {
                if let Some(at) = at(who) {
                    self.confirm(at, count)?;
                }
            }
            Action::Rollback { who, length, near } => {
                if let Some(at) = at(who) {
                    let len = self.running[at].tokens.len();
                    let least = if near { len.saturating_sub(20) } else { 0 };
                    self.rollback(at, least + length.index(len - least + 1))?;
                }
            }
            Action::Fork { who } => {
                if let Some(at) = at(who) {
                    self.running[at].forked = true;
                    let mut other = self.running[at].clone();
                    other.id = self.blocks.fork(other.id);
                    other.ahead.clear();
                    self.running.push(other);
                }
            }
            Action::End { who } => {
                if let Some(at) = at(who) {
                    self.end(at);
                }
            }
            Action::Forget { who } => {
                if let Some(at) = at(who) {
                    let gone = self.running.swap_remove(at);
                    self.blocks.forget(gone.id);
                    self.taken_back();
                }
            }
            Action::Evict { who, more } => {
                if let Some(at) = at(who) {
                    self.evict(at, more)?;
                }
            }
            Action::Clear => {
                self.blocks.clear();
                self.left.clear();
                for sequence in &mut self.running {
                    (sequence.open, sequence.findable) = (false, 0);
                }
                for pool in pools(&self.config) {
                    prop_assert_eq!(self.blocks.idle(pool), 0);
                }
            }
        }
        self.check()
    }

    fn begin(&mut self, prompt: &[u32]) -> Result<(), TestCaseError> {
        let before = self.blocks.prefixes();
        let (id, known) = self.blocks.begin(prompt);
        let after = self.blocks.prefixes();
        prop_assert_eq!(after.asked - before.asked, prompt.len() as u64);
        prop_assert_eq!(after.found - before.found, known as u64);
        let most = prompt.len().saturating_sub(1);
        prop_assert!(known <= most);
        let promised = self.promised(&prompt[..most]);
        prop_assert!(known >= promised, "{} of {} promised tokens are known", known, promised);
        self.running.push(Running {
            id,
            tokens: prompt[..known].to_vec(),
            cache: facts(&prompt[..known]),
            dropped: 0,
            ahead: Vec::new(),
            open: true,
            findable: 0,
            forked: false,
        });
        Ok(())
    }

    /// Tokens of a prompt that must be found.
    fn promised(&self, prompt: &[u32]) -> usize {
        let left = self.left.iter().map(|left| {
            let common = common(&left.tokens, prompt);
            let all = common == left.tokens.len();
            let in_last = common / BLOCK == left.tokens.len() / BLOCK;
            match (left.only_whole && !all, self.config.hot && !in_last) {
                (true, _) => 0,
                (_, true) => common / BLOCK * BLOCK,
                _ => common,
            }
        });
        let running = self.running.iter().map(|s| common(&s.tokens[..s.findable], prompt) / BLOCK * BLOCK);
        left.chain(running).max().unwrap_or(0)
    }

    fn step(&mut self, at: usize, again: bool, tokens: &[u32], grow: bool) -> Result<(), TestCaseError> {
        if again {
            self.running[at].ahead.clear();
        }
        let sequence = self.running[at].clone();
        let (id, cached) = (sequence.id, sequence.cache.len());
        let start = cached + sequence.ahead.len();
        let end = start + tokens.len();

        let mut expected = Vec::new();
        let mut pressed = false;
        for pool in pools(&self.config) {
            let hot = matches!(pool, Pool::Hot(_));
            let places = if self.config.hot && !hot { end / BLOCK } else { end.div_ceil(BLOCK) };
            let new = places.saturating_sub(self.blocks.table(id, pool).len());
            let begun = (hot == self.config.hot && !cached.is_multiple_of(BLOCK))
                .then(|| self.blocks.table(id, pool)[cached / BLOCK]);
            let others = self.running.iter().filter(|other| other.id != id);
            let shared = others.flat_map(|o| self.held(o.id, pool, o.cache.len())).any(|b| Some(b) == begun);
            let wanted = self.in_use(pool).len() + new + usize::from(shared);
            let capacity = self.blocks.capacity(pool) as usize;
            if wanted > capacity {
                expected.push((pool, wanted - capacity));
            }
            pressed |= new + 1 > capacity - self.blocks.used(pool) as usize;
        }
        let before = format!("{:?}", self.blocks);
        let mut reserved = self.blocks.reserve(id, end);
        let want = if expected.is_empty() { Ok(()) } else { Err(Shortage { missing: expected.clone() }) };
        prop_assert_eq!(&reserved, &want);
        if reserved.is_err() {
            prop_assert_eq!(before, format!("{:?}", self.blocks));
            if !grow {
                return Ok(());
            }
            for (pool, missing) in expected {
                self.blocks.set_capacity(pool, self.blocks.capacity(pool) + missing as u32);
            }
            reserved = self.blocks.reserve(id, end);
            prop_assert_eq!(reserved, Ok(()), "what was missing is there");
        }
        if pressed {
            self.left.clear();
            self.taken_back();
        }
        for copy in self.blocks.take_copies() {
            let from = self.memory.get(&(copy.pool, copy.from)).copied().unwrap_or_default();
            self.memory.insert((copy.pool, copy.to), from);
        }

        let mut last = sequence.ahead.last().map(|a| a.1).or(sequence.cache.last().copied()).unwrap_or(0);
        for token in tokens {
            last = fact(last, *token, sequence.dropped);
            self.running[at].ahead.push((*token, last));
        }
        let mut facts = sequence.cache.clone();
        facts.extend(self.running[at].ahead.iter().map(|a| a.1));
        for group in 0..self.config.windows.len() {
            let pool = self.written(group);
            for (position, fact) in facts.iter().enumerate().skip(start) {
                let physical = self.blocks.table(id, pool)[position / BLOCK];
                let shared = self
                    .running
                    .iter()
                    .any(|other| other.id != id && self.held(other.id, pool, other.cache.len()).contains(&physical));
                prop_assert!(!shared, "block {} of {:?} is written while it is shared", physical, pool);
                self.memory.entry((pool, physical)).or_default()[position % BLOCK] = *fact;
            }
            if self.config.hot {
                for block in start / BLOCK..end / BLOCK {
                    let hot = self.blocks.table(id, pool)[block];
                    let main = self.blocks.table(id, Pool::Main(group))[block];
                    self.memory.insert((Pool::Main(group), main), self.memory[&(pool, hot)]);
                }
            }
        }
        for position in start..end {
            self.check_query(id, position, &facts[..=position])?;
        }
        Ok(())
    }

    fn confirm(&mut self, at: usize, count: Index) -> Result<(), TestCaseError> {
        let sequence = &mut self.running[at];
        let count = count.index(sequence.ahead.len() + 1);
        let (tokens, facts): (Vec<u32>, Vec<Fact>) = sequence.ahead.drain(..count).unzip();
        sequence.tokens.extend(&tokens);
        sequence.cache.extend(facts);
        let len = self.blocks.confirm(sequence.id, &tokens);
        prop_assert_eq!(len, sequence.tokens.len());
        if sequence.open && !(self.forgotten && self.config.windows.iter().any(|window| *window > 0)) {
            sequence.findable = len / BLOCK * BLOCK;
        }
        Ok(())
    }

    fn rollback(&mut self, at: usize, length: usize) -> Result<(), TestCaseError> {
        let sequence = &mut self.running[at];
        let kept = self.blocks.rollback(sequence.id, length);
        prop_assert!(kept <= length);
        let same_block = (length.saturating_sub(sequence.dropped)) / BLOCK == sequence.cache.len() / BLOCK;
        if sequence.dropped == 0 && self.config.windows.iter().all(|window| *window == 0) {
            let whole = if self.config.hot && !same_block { length / BLOCK * BLOCK } else { length };
            prop_assert_eq!(kept, whole);
        }
        sequence.dropped = self.blocks.dropped(sequence.id);
        sequence.tokens.truncate(kept);
        sequence.cache.truncate(kept - sequence.dropped);
        sequence.ahead.clear();
        self.taken_back();
        Ok(())
    }

    fn end(&mut self, at: usize) {
        let sequence = self.running.swap_remove(at);
        self.blocks.end(sequence.id);
        self.history.push(sequence.tokens.clone());
        if sequence.open {
            let only_whole = self.forgotten && self.config.windows.iter().any(|window| *window > 0);
            self.left.push(Left { tokens: sequence.tokens, forked: sequence.forked, only_whole });
        }
    }

    fn evict(&mut self, at: usize, more: usize) -> Result<(), TestCaseError> {
        let sequence = &mut self.running[at];
        let dropped = self.blocks.evict(sequence.id, more);
        let CachePolicy::Window { sinks, blocks } = self.config.policy else {
            prop_assert_eq!(dropped, 0);
            return Ok(());
        };
        let full = sequence.cache.len() / BLOCK;
        let over = (sequence.cache.len() + more).div_ceil(BLOCK).saturating_sub(blocks as usize);
        prop_assert_eq!(dropped, over.min(full.saturating_sub(sinks as usize)) * BLOCK);
        let at = sinks as usize * BLOCK;
        if dropped > 0 {
            sequence.cache.drain(at..at + dropped);
            sequence.dropped += dropped;
            (sequence.open, sequence.findable) = (false, 0);
        }
        Ok(())
    }

    /// Whole blocks of running sequences may not be findable before they confirm more, and forks' neither after they ended.
    fn taken_back(&mut self) {
        self.forgotten = true;
        self.left.retain(|left| !left.forked);
        for sequence in &mut self.running {
            sequence.findable = 0;
        }
    }
}

fn pools(config: &BlocksConfig) -> Vec<Pool> {
    let groups = 0..config.windows.len();
    let hot = groups.clone().filter(|_| config.hot).map(Pool::Hot);
    groups.map(Pool::Main).chain(hot).collect()
}

fn config() -> impl Strategy<Value = BlocksConfig> {
    let windows =
        prop_oneof![Just(vec![0]), Just(vec![0, 40]), Just(vec![100]), Just(vec![32, 0, 1]), Just(vec![0, 33, 64]),];
    let policy = prop_oneof![
        2 => Just(CachePolicy::Full),
        1 => (0..3_u32, 1..6_u32).prop_map(|(sinks, more)| CachePolicy::Window { sinks, blocks: sinks + more }),
    ];
    (windows, any::<bool>(), policy).prop_map(|(windows, hot, policy)| BlocksConfig { windows, hot, policy })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn queries_read_what_was_computed_for_them(
        config in config(),
        capacity in prop_oneof![0..8_u32, 8..40_u32, Just(400)],
        actions in prop::collection::vec(action(), 1..80),
    ) {
        let mut world = World::new(config, capacity);
        for action in actions {
            world.act(action)?;
        }
        while let Some(sequence) = world.running.pop() {
            world.blocks.end(sequence.id);
            world.check()?;
        }
        world.blocks.clear();
        for pool in pools(&world.config) {
            prop_assert_eq!(world.blocks.used(pool), 0);
        }
    }
}
