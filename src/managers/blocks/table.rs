//! A sequence's page table of one pool.

/// Physical blocks of logical blocks. Those before `first` are absent and hold 0.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    entries: Vec<u32>,
    first: usize,
}

impl Table {
    /// Nothing before the logical block `first`, then these.
    pub fn new(first: usize, blocks: impl IntoIterator<Item = u32>) -> Self {
        let mut entries = vec![0; first];
        entries.extend(blocks);
        Self { entries, first }
    }

    pub fn entries(&self) -> &[u32] {
        &self.entries
    }

    /// Logical blocks, absent ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The first logical block that is not absent.
    pub fn first(&self) -> usize {
        self.first
    }

    pub fn get(&self, block: usize) -> Option<u32> {
        if block < self.first { None } else { self.entries.get(block).copied() }
    }

    /// All that are there, in order.
    pub fn held(&self) -> &[u32] {
        &self.entries[self.first..]
    }

    pub fn push(&mut self, physical: u32) {
        self.entries.push(physical);
    }

    /// Another physical block for one that is there.
    pub fn replace(&mut self, block: usize, physical: u32) {
        self.entries[block] = physical;
    }

    /// The one before the first is there again.
    pub fn restore(&mut self, physical: u32) {
        self.first -= 1;
        self.entries[self.first] = physical;
    }

    /// Those before `block` become absent; returns them.
    pub fn advance(&mut self, block: usize) -> Vec<u32> {
        let end = block.min(self.entries.len());
        let Some(gone) = self.entries.get_mut(self.first..end) else { return Vec::new() };
        let released = gone.to_vec();
        gone.fill(0);
        self.first = end;
        released
    }

    /// The first `len` logical blocks remain; returns what was there of the others, last ones first.
    pub fn truncate(&mut self, len: usize) -> Vec<u32> {
        let start = self.first.max(len).min(self.entries.len());
        let released = self.entries[start..].iter().rev().copied().collect();
        self.entries.truncate(len);
        self.first = self.first.min(self.entries.len());
        released
    }

    /// Takes `count` logical blocks out from `at` on: those behind them move up. Returns what was there.
    pub fn take_out(&mut self, at: usize, count: usize) -> Vec<u32> {
        let (start, end) = (at.min(self.len()), (at + count).min(self.len()));
        let absent = self.first.clamp(start, end) - start;
        let released = self.entries.drain(start..end).skip(absent).collect();
        self.first -= absent;
        released
    }
}
