//! Every byte that we hold on the GPU, by label and category.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::lock;

/// What a buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    /// Parameters of the model.
    Weights,
    /// Keys and values.
    Cache,
    /// Activations, parameters of kernels, step state.
    Activations,
    /// On their way to or from the GPU.
    Staging,
}

impl Category {
    /// All of them, in the order of [`LedgerSnapshot::current`].
    pub const ALL: [Self; 4] = [Self::Weights, Self::Cache, Self::Activations, Self::Staging];

    /// The name that tables and JSON use.
    #[must_use]
    pub fn name(self) -> &'static str {
        ["weights", "cache", "activations", "staging"][self as usize]
    }
}

/// One live buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it was called when it was made.
    pub label: String,
    /// What it is for.
    pub category: Category,
    /// Bytes.
    pub size: u64,
}

/// Bytes at one moment, and the most there have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerSnapshot {
    /// Bytes in use, by category.
    pub current: [u64; 4],
    /// The most bytes in use at once, by category.
    pub peak: [u64; 4],
    /// Bytes in use.
    pub total: u64,
    /// The most bytes in use at once.
    pub peak_total: u64,
}

impl LedgerSnapshot {
    /// Bytes in use for `category`.
    #[must_use]
    pub fn of(&self, category: Category) -> u64 {
        self.current[category as usize]
    }
}

/// The account of all buffers of one device: exact, since there is no other way to make one.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    largest: u64,
    entries: BTreeMap<u64, Entry>,
    sums: LedgerSnapshot,
}

impl Ledger {
    pub(super) fn enter(&self, label: &str, category: Category, size: u64) -> u64 {
        let mut state = lock(&self.0);
        let id = state.next;
        state.next += 1;
        state.entries.insert(id, Entry { label: label.into(), category, size });
        state.largest = state.largest.max(size);
        let sums = &mut state.sums;
        let i = category as usize;
        sums.current[i] += size;
        sums.total += size;
        sums.peak[i] = sums.peak[i].max(sums.current[i]);
        sums.peak_total = sums.peak_total.max(sums.total);
        id
    }

    pub(super) fn leave(&self, id: u64) {
        let mut state = lock(&self.0);
        if let Some(entry) = state.entries.remove(&id) {
            state.sums.current[entry.category as usize] -= entry.size;
            state.sums.total -= entry.size;
        }
    }

    /// Bytes now and at most.
    #[must_use]
    pub fn snapshot(&self) -> LedgerSnapshot {
        lock(&self.0).sums
    }

    /// Bytes of the largest buffer that there has been.
    #[must_use]
    pub fn largest(&self) -> u64 {
        lock(&self.0).largest
    }

    /// Every live buffer, oldest first.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        lock(&self.0).entries.values().cloned().collect()
    }
}
