//! The physical blocks of one pool.

use std::collections::BTreeMap;

use super::prefixes::NodeId;

/// Who holds each physical block, which ones are free, and which ones only a prefix holds, least recently used first.
#[derive(Debug, Default)]
pub(super) struct Stock {
    blocks: Vec<Block>,
    /// The next one to be given out stands last.
    free: Vec<u32>,
    /// By the time at which the last sequence let go of it.
    idle: BTreeMap<u64, u32>,
    clock: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    /// Sequences, and the prefix.
    holders: u32,
    /// The one place where prefixes have it.
    prefix: Option<NodeId>,
    /// Its key in `idle`, while it is there.
    since: u64,
}

impl Stock {
    pub fn capacity(&self) -> u32 {
        self.blocks.len() as u32
    }

    pub fn grow(&mut self, capacity: u32) {
        let more = self.capacity()..capacity;
        // old ones are given out before new ones
        self.free.splice(0..0, more.rev());
        self.blocks.resize(self.blocks.len().max(capacity as usize), Block::default());
    }

    pub fn free(&self) -> usize {
        self.free.len()
    }

    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// What can be taken once all that only prefixes hold is forgotten.
    pub fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// A free block, for one holder.
    pub fn take(&mut self) -> Option<u32> {
        let block = self.free.pop()?;
        self.blocks[block as usize] = Block { holders: 1, ..Block::default() };
        Some(block)
    }

    pub fn holders(&self, block: u32) -> u32 {
        self.blocks[block as usize].holders
    }

    pub fn prefix(&self, block: u32) -> Option<NodeId> {
        self.blocks[block as usize].prefix
    }

    /// One sequence more.
    pub fn hold(&mut self, block: u32) {
        let state = &mut self.blocks[block as usize];
        if state.holders == 1 && state.prefix.is_some() {
            self.idle.remove(&state.since);
        }
        state.holders += 1;
    }

    /// One sequence less. Without any, a prefix's block is idle, and any other free.
    pub fn release(&mut self, block: u32) {
        let state = &mut self.blocks[block as usize];
        state.holders -= 1;
        match (state.holders, state.prefix) {
            (0, _) => self.free.push(block),
            (1, Some(_)) => self.rest(block),
            _ => {}
        }
    }

    /// A prefix holds it, too. It has a holder.
    pub fn adopt(&mut self, block: u32, prefix: NodeId) {
        let state = &mut self.blocks[block as usize];
        state.holders += 1;
        state.prefix = Some(prefix);
    }

    /// No prefix holds it any more.
    pub fn disown(&mut self, block: u32) {
        let state = &mut self.blocks[block as usize];
        state.holders -= 1;
        state.prefix = None;
        if state.holders == 0 {
            self.idle.remove(&state.since);
            self.free.push(block);
        }
    }

    /// The prefix whose block was used longest ago, among those that no sequence uses.
    pub fn oldest(&self) -> Option<NodeId> {
        self.idle.values().next().and_then(|block| self.prefix(*block))
    }

    /// An idle block counts as used now.
    pub fn touch(&mut self, block: u32) {
        let state = self.blocks[block as usize];
        if state.holders == 1 && state.prefix.is_some() {
            self.idle.remove(&state.since);
            self.rest(block);
        }
    }

    fn rest(&mut self, block: u32) {
        self.clock += 1;
        self.blocks[block as usize].since = self.clock;
        self.idle.insert(self.clock, block);
    }
}
