//! What becomes of a sequence's blocks.

use std::ops::Range;

use super::prefixes::{Node, NodeId, ROOT};
use super::table::Table;
use super::{BLOCK, BlockCopy, Blocks, CachePolicy, Pool, SequenceId, Shortage};

/// One sequence that runs.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    pub tokens: Vec<u32>,
    /// Positions that the cache does not hold any more.
    pub dropped: usize,
    /// Leading positions in the cache that were selected: what they hold is not that of the tokens before the next one.
    selected: usize,
    /// End of the cache positions that have places.
    reserved: usize,
    /// One for each stock.
    pub tables: Vec<Table>,
    /// The last of its whole blocks that was made findable, and how many there are up to it. It may be forgotten by now.
    published: (NodeId, usize),
    /// Whether more of it may become findable.
    pub findable: bool,
}

impl Sequence {
    /// Positions in the cache.
    fn cached(&self) -> usize {
        self.tokens.len() - self.dropped
    }
}

impl Blocks {
    /// A sequence that is to begin with `prompt`, and how many of its tokens the cache already holds. The last one is never among
    /// them, since what follows it is asked for.
    pub fn begin(&mut self, prompt: &[u32]) -> (SequenceId, usize) {
        let (id, known) = self.find(&prompt[..prompt.len().saturating_sub(1)]);
        self.asked += prompt.len() as u64;
        self.found += known as u64;
        (id, known)
    }

    /// A sequence of as many of `tokens` as the cache holds, and how many these are.
    pub fn find(&mut self, tokens: &[u32]) -> (SequenceId, usize) {
        let (blocks, _) = tokens.as_chunks::<BLOCK>();
        let mut path = Vec::new();
        for block in blocks {
            let Some(node) = self.prefixes.whole(path.last().copied().unwrap_or(ROOT), block) else { break };
            path.push(node);
        }
        // where a window lacks a block, another one may lead on from there
        let (part, known) = loop {
            let whole = path.len() * BLOCK;
            let last = path.last().copied().unwrap_or(ROOT);
            let (part, common) = self.closest(last, &tokens[whole..]).unwrap_or((last, 0));
            let has = |group, block| path.get(block).is_none_or(|node| self.prefixes.block(*node, group).is_some());
            match self.lacking(whole + common, has) {
                Some(block) => path.truncate(block),
                None => break (part, whole + common),
            }
        };
        let node = |block: usize| path.get(block).copied().unwrap_or(part);

        let tables = (0..self.stocks.len()).map(|at| {
            let first = self.first_used(at, known);
            let held = (first..self.places(at, known)).filter_map(|block| self.prefixes.block(node(block), at));
            Table::new(first, held)
        });
        let sequence = Sequence {
            tokens: tokens[..known].to_vec(),
            dropped: 0,
            selected: 0,
            reserved: known,
            tables: tables.collect(),
            published: (path.last().copied().unwrap_or(ROOT), path.len()),
            findable: true,
        };
        (self.enter(sequence), known)
    }

    /// A sequence without tokens that has places for what queries see after `length` of them, as [`held`](Self::held) tells: these are to
    /// be filled from elsewhere, and [confirmed](Self::confirm) then.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    pub fn begin_filled(&mut self, length: usize) -> Result<SequenceId, Shortage> {
        let tables = (0..self.stocks.len()).map(|at| Table::new(self.first_used(at, length), [])).collect();
        let published = (ROOT, 0);
        let id = self.enter(Sequence {
            tokens: Vec::new(),
            dropped: 0,
            selected: 0,
            reserved: 0,
            tables,
            published,
            findable: true,
        });
        self.reserve(id, length).inspect_err(|_| self.forget(id))?;
        Ok(id)
    }

    /// The logical blocks of a pool that a sequence of `length` tokens holds, where none is dropped.
    #[must_use]
    pub fn held(&self, pool: Pool, length: usize) -> Range<usize> {
        self.index(pool).map_or(0..0, |at| self.first_used(at, length)..self.places(at, length))
    }

    /// A sequence that is to go on from `tokens`, of which the cache holds `kept` selected positions, in blocks that nobody shares: those
    /// are reserved and confirmed as any others, the tokens being the last ones. It is never findable.
    pub fn select(&mut self, tokens: &[u32], kept: usize) -> SequenceId {
        let dropped = tokens.len().saturating_sub(kept);
        self.enter(Sequence {
            tokens: tokens[..dropped].to_vec(),
            dropped,
            selected: tokens.len() - dropped,
            reserved: 0,
            tables: vec![Table::default(); self.stocks.len()],
            published: (ROOT, 0),
            findable: false,
        })
    }

    /// Another sequence that goes on from what a sequence holds: it shares all blocks.
    pub fn fork(&mut self, id: SequenceId) -> SequenceId {
        let Some(mut sequence) = self.sequences.get(&id).cloned() else { return self.begin(&[]).0 };
        sequence.reserved = sequence.cached();
        for (at, table) in sequence.tables.iter_mut().enumerate() {
            table.truncate(self.places(at, sequence.reserved));
        }
        self.enter(sequence)
    }

    /// Gives the cache positions before `end` places that no other sequence reads; before every step, for all that it writes. What
    /// is shared is to be copied then ([`take_copies`](Self::take_copies)), and what only prefixes hold is forgotten as far as the
    /// room is needed.
    ///
    /// # Errors
    /// Where sequences alone need more blocks than there are; nothing has changed then.
    pub fn reserve(&mut self, id: SequenceId, end: usize) -> Result<(), Shortage> {
        self.with(id, |blocks, sequence| blocks.reserve_for(sequence, end)).unwrap_or(Ok(()))
    }

    /// The keys and values of these tokens, which follow those that there are, were computed, and count from now on. Whole blocks
    /// become findable, and what no query sees any more is given back. Tokens beyond what was reserved do not count. Returns how
    /// many tokens there are now.
    pub fn confirm(&mut self, id: SequenceId, tokens: &[u32]) -> usize {
        let len = self.with(id, |blocks, sequence| {
            let room = sequence.reserved - sequence.cached();
            sequence.tokens.extend_from_slice(&tokens[..tokens.len().min(room)]);
            if sequence.findable {
                blocks.publish(sequence);
            }
            for (at, table) in sequence.tables.iter_mut().enumerate() {
                let gone = table.advance(blocks.first_used(at, sequence.tokens.len() - sequence.dropped));
                gone.into_iter().for_each(|block| blocks.stocks[at].release(block));
            }
            sequence.tokens.len()
        });
        len.unwrap_or(0)
    }

    /// Goes back to the first `length` tokens, and gives back places beyond them. Where what these need is not there any more (hot
    /// blocks of earlier blocks, what lay outside of a group's window, or was dropped), to as many as are whole; none where it would
    /// need a part of what was selected. Returns how many tokens there are now.
    pub fn rollback(&mut self, id: SequenceId, length: usize) -> usize {
        self.with(id, |blocks, sequence| blocks.rollback_of(sequence, length)).unwrap_or(0)
    }

    /// Under [`CachePolicy::Window`], makes room for `more` positions within the most blocks that a sequence may have: drops whole
    /// blocks, the oldest ones behind the first. Returns how many positions were dropped, by which all later ones moved up.
    pub fn evict(&mut self, id: SequenceId, more: usize) -> usize {
        let CachePolicy::Window { sinks, blocks: most } = self.policy else { return 0 };
        let dropped = self.with(id, |blocks, sequence| {
            let wanted = sequence.cached().saturating_add(more).div_ceil(BLOCK);
            let droppable = (sequence.cached() / BLOCK).saturating_sub(sinks as usize);
            let count = wanted.saturating_sub(most as usize).min(droppable);
            for (stock, table) in blocks.stocks.iter_mut().zip(&mut sequence.tables) {
                table.take_out(sinks as usize, count).into_iter().for_each(|block| stock.release(block));
            }
            let positions = count * BLOCK;
            sequence.dropped += positions;
            sequence.reserved -= positions;
            // what is computed from here on depends on what was dropped
            sequence.findable &= positions == 0;
            positions
        });
        dropped.unwrap_or(0)
    }

    /// The sequence is over. What it holds stays findable until somebody needs the room.
    pub fn end(&mut self, id: SequenceId) {
        let Some(mut sequence) = self.sequences.remove(&id) else { return };
        let mut last = sequence.published.0;
        if sequence.findable {
            // from the beginning, since of blocks that another sequence had made findable some may be gone
            sequence.published = (ROOT, 0);
            self.publish(&mut sequence);
            last = self.publish_begun(&sequence);
        }
        self.release(&mut sequence);
        // from the last block to the first, so that later ones are forgotten before those that lead to them
        for id in self.prefixes.path(last).into_iter().rev() {
            let Some(node) = self.prefixes.get_mut(id) else { continue };
            node.kept = true;
            for (at, block) in node.blocks() {
                if self.windows.get(at) == Some(&0) {
                    self.stocks[at].touch(block);
                }
            }
        }
        self.prefixes.prune(last);
    }

    /// The sequence never was: nothing of it stays but what others use or have left behind, too.
    pub fn forget(&mut self, id: SequenceId) {
        let Some(mut sequence) = self.sequences.remove(&id) else { return };
        self.release(&mut sequence);
        let path = self.prefixes.path(sequence.published.0);
        self.unpublish(&path, 0, &sequence.tables);
        self.prefixes.prune(sequence.published.0);
    }

    fn reserve_for(&mut self, sequence: &mut Sequence, end: usize) -> Result<(), Shortage> {
        if end <= sequence.cached() {
            return Ok(());
        }
        let stocks = 0..self.stocks.len();
        let has_places = |at: usize| self.places(at, end) <= sequence.tables[at].len();
        if stocks.clone().all(|at| has_places(at) && self.shared(sequence, at).is_none()) {
            sequence.reserved = sequence.reserved.max(end);
            return Ok(());
        }
        let new: Vec<_> =
            stocks.clone().map(|at| self.places(at, end).saturating_sub(sequence.tables[at].len())).collect();
        // where only a prefix shares the block that is written to first, that can give way
        let must_copy = |at: usize| {
            self.shared(sequence, at).is_some_and(|(_, block)| {
                let stock = &self.stocks[at];
                stock.holders(block) > 1 + u32::from(stock.prefix(block).is_some())
            })
        };
        let missing = stocks.clone().filter_map(|at| {
            let wanted = new[at].saturating_add(usize::from(must_copy(at)));
            let missing = wanted.saturating_sub(self.stocks[at].available());
            (missing > 0).then(|| (self.pool(at), missing))
        });
        let missing: Vec<_> = missing.collect();
        if !missing.is_empty() {
            return Err(Shortage { missing });
        }
        let in_the_way = stocks.clone().find_map(|at| {
            let (_, block) = self.shared(sequence, at)?;
            self.stocks[at].prefix(block).filter(|_| new[at] == self.stocks[at].available())
        });
        if let Some(prefix) = in_the_way {
            self.prefixes.remove(prefix, &mut self.stocks);
        }

        for at in stocks {
            let shared = self.shared(sequence, at);
            self.make_room(at, new[at] + usize::from(shared.is_some()));
            let (pool, stock, table) = (self.pool(at), &mut self.stocks[at], &mut sequence.tables[at]);
            let mut take = || stock.take().expect("room was made");
            if let Some((block, from)) = shared {
                let to = take();
                self.copies.push(BlockCopy { pool, from, to });
                table.replace(block, to);
            }
            (0..new[at]).for_each(|_| table.push(take()));
            if let Some((_, from)) = shared {
                stock.release(from);
            }
        }
        sequence.reserved = sequence.reserved.max(end);
        Ok(())
    }

    fn rollback_of(&mut self, sequence: &mut Sequence, length: usize) -> usize {
        // tokens `gap..gap + dropped` are not there
        let gap = match self.policy {
            CachePolicy::Full | CachePolicy::SnapKv { .. } => 0,
            CachePolicy::Window { sinks, .. } => (sinks as usize).saturating_mul(BLOCK),
        };
        let length = length.min(sequence.tokens.len());
        let (dropped, cached) = match length.checked_sub(sequence.dropped) {
            Some(cached) if cached >= gap.max(sequence.selected) => (sequence.dropped, cached),
            _ => (0, length.min(gap)),
        };
        // prefixes may still have what this sequence has not
        let path = if sequence.dropped == 0 { self.prefixes.path(sequence.published.0) } else { Vec::new() };
        let own = |at: usize, block: usize| sequence.tables[at].get(block).is_some();
        let has = |group, block| {
            if self.hot && block == cached / BLOCK {
                return own(group + self.windows.len(), block);
            }
            own(group, block) || path.get(block).is_some_and(|node| self.prefixes.block(*node, group).is_some())
        };
        let mut kept = cached;
        while let Some(block) = self.lacking(kept, has) {
            kept = block * BLOCK;
        }
        let (dropped, kept) = if kept < sequence.selected { (0, 0) } else { (dropped, kept) };

        for at in 0..self.stocks.len() {
            let (first, places) = (self.first_used(at, kept), self.places(at, kept));
            let (stock, table) = (&mut self.stocks[at], &mut sequence.tables[at]);
            table.truncate(places).into_iter().for_each(|block| stock.release(block));
            while table.first() > first
                && let Some(block) = path.get(table.first() - 1).and_then(|node| self.prefixes.block(*node, at))
            {
                stock.hold(block);
                table.restore(block);
            }
        }
        let whole = kept / BLOCK;
        if sequence.dropped == 0 {
            sequence.published = path.get(..whole).and_then(<[_]>::last).map_or((ROOT, 0), |node| (*node, whole));
        }
        self.unpublish(&path, whole, &sequence.tables);
        sequence.tokens.truncate(dropped + kept);
        (sequence.dropped, sequence.reserved) = (dropped, kept);
        sequence.selected = if dropped > 0 { sequence.selected } else { 0 };
        sequence.tokens.len()
    }

    /// The last block that a query at `position` sees, and that is not there. `has`: whether there is a block of a group.
    fn lacking(&self, position: usize, has: impl Fn(usize, usize) -> bool) -> Option<usize> {
        let of_group = |group| {
            (self.first_visible(group, position)..position.div_ceil(BLOCK)).rev().find(|block| !has(group, *block))
        };
        (0..self.windows.len()).filter_map(of_group).max()
    }

    /// The first block that a query at `position` sees.
    fn first_visible(&self, group: usize, position: usize) -> usize {
        match self.windows[group] {
            0 => 0,
            window => position.saturating_add(1).saturating_sub(window) / BLOCK,
        }
    }

    /// The first block of a table that is used where `end` positions are in the cache.
    fn first_used(&self, at: usize, end: usize) -> usize {
        if at < self.windows.len() { self.first_visible(at, end) } else { end / BLOCK }
    }

    /// Logical blocks of a table where `end` positions have places.
    fn places(&self, at: usize, end: usize) -> usize {
        if self.is_written(at) { end.div_ceil(BLOCK) } else { end / BLOCK }
    }

    /// The block that the next position lies in, with its number, where another sequence or a prefix has it, too.
    fn shared(&self, sequence: &Sequence, at: usize) -> Option<(usize, u32)> {
        let cached = sequence.cached();
        if !self.is_written(at) || cached.is_multiple_of(BLOCK) {
            return None;
        }
        let block = cached / BLOCK;
        let physical = sequence.tables[at].get(block)?;
        (self.stocks[at].holders(physical) > 1).then_some((block, physical))
    }

    /// The block behind a prefix of which most can be used, and how many of its positions.
    fn closest(&self, parent: NodeId, tokens: &[u32]) -> Option<(NodeId, usize)> {
        let usable = |node: &Node| (0..self.stocks.len()).all(|at| !self.is_written(at) || node.block(at).is_some());
        self.prefixes.closest(parent, tokens, usable)
    }

    /// Makes all whole blocks findable.
    fn publish(&mut self, sequence: &mut Sequence) {
        let (mut last, mut count) = sequence.published;
        if self.prefixes.get(last).is_none() {
            // it was forgotten meanwhile, and this sequence computed the same for itself
            (last, count) = (ROOT, 0);
        }
        let (blocks, _) = sequence.tokens.as_chunks::<BLOCK>();
        for (number, tokens) in blocks.iter().enumerate().skip(count) {
            let physical = (0..self.stocks.len())
                .map(|at| sequence.tables[at].get(number).filter(|_| at < self.windows.len()))
                .collect::<Vec<_>>();
            last = match self.prefixes.whole(last, tokens) {
                Some(node) => {
                    self.prefixes.complete(node, &physical, &mut self.stocks);
                    node
                }
                None => self.prefixes.insert(last, tokens, physical, &mut self.stocks),
            };
        }
        sequence.published = (last, blocks.len());
    }

    /// Makes the last block findable, where it is not whole. Returns the last node on the way to it.
    fn publish_begun(&mut self, sequence: &Sequence) -> NodeId {
        let (parent, whole) = sequence.published;
        let tokens = &sequence.tokens[whole * BLOCK..];
        if tokens.is_empty() {
            return parent;
        }
        match self.closest(parent, tokens) {
            Some((node, common)) if common == tokens.len() => node,
            _ => {
                let physical = (0..self.stocks.len())
                    .map(|at| sequence.tables[at].get(whole).filter(|_| self.is_written(at)))
                    .collect();
                self.prefixes.insert(parent, tokens, physical, &mut self.stocks)
            }
        }
    }

    /// Forgets the blocks of a path from number `first` on, last ones first, as far as nobody else uses them or has left them.
    /// `tables`: what the sequence that asks for it holds.
    fn unpublish(&mut self, path: &[NodeId], first: usize, tables: &[Table]) {
        for (number, id) in path.iter().enumerate().skip(first).rev() {
            let unused = self.prefixes.get(*id).is_some_and(|node| {
                !node.kept
                    && node.blocks().all(|(at, block)| {
                        let own = tables[at].get(number) == Some(block);
                        self.stocks[at].holders(block) == 1 + u32::from(own)
                    })
            });
            if !unused {
                break;
            }
            self.prefixes.remove(*id, &mut self.stocks);
        }
    }

    /// Forgets what was used longest ago until a stock has `count` free blocks.
    fn make_room(&mut self, at: usize, count: usize) {
        while self.stocks[at].free() < count
            && let Some(oldest) = self.stocks[at].oldest()
        {
            // without a block that every later query sees, or a part of a block, nothing behind it can be used
            let needed = self.windows.get(at) == Some(&0) || self.prefixes.get(oldest).is_some_and(|n| !n.is_whole());
            if needed {
                self.prefixes.remove(oldest, &mut self.stocks);
            } else {
                self.prefixes.disown(oldest, at, &mut self.stocks);
            }
        }
    }

    /// Lets go of all blocks of a sequence, last ones first.
    fn release(&mut self, sequence: &mut Sequence) {
        for (stock, table) in self.stocks.iter_mut().zip(&mut sequence.tables) {
            table.truncate(0).into_iter().for_each(|block| stock.release(block));
        }
    }

    /// One sequence more that holds what its tables have.
    fn enter(&mut self, sequence: Sequence) -> SequenceId {
        for (stock, table) in self.stocks.iter_mut().zip(&sequence.tables) {
            table.held().iter().for_each(|block| stock.hold(*block));
        }
        self.last += 1;
        let id = SequenceId(self.last);
        self.sequences.insert(id, sequence);
        id
    }

    fn with<T>(&mut self, id: SequenceId, act: impl FnOnce(&mut Self, &mut Sequence) -> T) -> Option<T> {
        let mut sequence = self.sequences.remove(&id)?;
        let result = act(self, &mut sequence);
        self.sequences.insert(id, sequence);
        Some(result)
    }
}
