//! Every byte that we hold on the GPU, by label, category and owner, now and over time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Serialize, Serializer};
use web_time::Instant;

use super::lock;
use super::timeline::{Sample, Timeline};

/// What a buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
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

/// Writes bytes as a map from a category's name.
pub(super) fn by_category<S: Serializer>(bytes: &[u64; 4], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(Category::ALL.map(|category| (category.name(), bytes[category as usize])))
}

/// One live buffer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// What it was called when it was made.
    pub label: String,
    /// What it is for.
    pub category: Category,
    /// Bytes.
    pub size: u64,
    /// Whose it is, where it is somebody's ([`Device::owned_by`](super::Device::owned_by)).
    pub owner: Option<String>,
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

/// Everything that a ledger knows, to be written as JSON. Bytes and milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LedgerReport {
    /// In use.
    pub total: u64,
    /// The most in use at once.
    pub peak: u64,
    /// In use, by category.
    #[serde(serialize_with = "by_category")]
    pub categories: [u64; 4],
    /// The most in use at once, by category.
    #[serde(serialize_with = "by_category")]
    pub peak_categories: [u64; 4],
    /// What is in use, by label, the largest first.
    pub labels: Vec<Labelled>,
    /// When this was written, since the device was opened.
    pub ms: f64,
    /// What was in use when.
    pub timeline: Vec<Sample>,
    /// What outlives its owner.
    pub leaks: Vec<Entry>,
}

/// Live buffers of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Labelled {
    /// Their label, with `*` for numbers: the layers of a model are told together.
    pub label: String,
    /// What they are for.
    pub category: Category,
    /// How many there are.
    pub buffers: u64,
    /// Bytes of all.
    pub bytes: u64,
}

/// The account of all buffers of one device: exact, since there is no other way to make one.
#[derive(Debug)]
pub struct Ledger {
    opened: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    largest: u64,
    buffers: BTreeMap<u64, Record>,
    sums: LedgerSnapshot,
    timeline: Timeline,
}

#[derive(Debug)]
struct Record {
    label: String,
    category: Category,
    size: u64,
    owner: Option<Arc<Owner>>,
}

impl Record {
    fn entry(&self) -> Entry {
        let Self { label, category, size, owner } = self;
        let owner = owner.as_ref().map(|owner| owner.name.clone());
        Entry { label: label.clone(), category: *category, size: *size, owner }
    }

    fn is_leaked(&self) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.is_gone.load(Ordering::Relaxed))
    }
}

/// Whom buffers belong to.
#[derive(Debug)]
pub(super) struct Owner {
    name: String,
    is_gone: AtomicBool,
}

/// Somebody whom buffers belong to, a session for example, as long as this is not dropped. What is left of them then is a leak, and so is
/// what is made in their name afterwards.
#[derive(Debug)]
pub struct Ownership {
    owner: Arc<Owner>,
    ledger: Arc<Ledger>,
}

impl Ownership {
    pub(super) fn new(name: &str, ledger: &Arc<Ledger>) -> (Self, Arc<Owner>) {
        let owner = Arc::new(Owner { name: name.into(), is_gone: AtomicBool::new(false) });
        (Self { owner: Arc::clone(&owner), ledger: Arc::clone(ledger) }, owner)
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        self.owner.is_gone.store(true, Ordering::Relaxed);
        let state = lock(&self.ledger.state);
        let is_ours = |record: &&Record| record.owner.as_ref().is_some_and(|owner| Arc::ptr_eq(owner, &self.owner));
        for Record { label, size, .. } in state.buffers.values().filter(is_ours) {
            tracing::warn!(owner = self.owner.name, label, size, "a buffer outlives its owner");
        }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self { opened: Instant::now(), state: Mutex::default() }
    }
}

impl Ledger {
    pub(super) fn enter(&self, label: &str, category: Category, size: u64, owner: Option<&Arc<Owner>>) -> u64 {
        let mut state = lock(&self.state);
        let id = state.next;
        state.next += 1;
        state.buffers.insert(id, Record { label: label.into(), category, size, owner: owner.cloned() });
        state.largest = state.largest.max(size);
        let sums = &mut state.sums;
        let i = category as usize;
        sums.current[i] += size;
        sums.total += size;
        sums.peak[i] = sums.peak[i].max(sums.current[i]);
        sums.peak_total = sums.peak_total.max(sums.total);
        self.sample(&mut state);
        id
    }

    pub(super) fn leave(&self, id: u64) {
        let mut state = lock(&self.state);
        if let Some(record) = state.buffers.remove(&id) {
            state.sums.current[record.category as usize] -= record.size;
            state.sums.total -= record.size;
            self.sample(&mut state);
        }
    }

    fn sample(&self, state: &mut State) {
        let sample = Sample { ms: self.ms(), bytes: state.sums.current };
        state.timeline.record(sample);
    }

    /// Milliseconds since the device was opened.
    fn ms(&self) -> f64 {
        self.opened.elapsed().as_secs_f64() * 1e3
    }

    /// Bytes now and at most.
    #[must_use]
    pub fn snapshot(&self) -> LedgerSnapshot {
        lock(&self.state).sums
    }

    /// Bytes of the largest buffer that there has been.
    #[must_use]
    pub fn largest(&self) -> u64 {
        lock(&self.state).largest
    }

    /// Every live buffer, oldest first.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        lock(&self.state).buffers.values().map(Record::entry).collect()
    }

    /// Live buffers whose owner is gone ([`Ownership`]), oldest first: there are none, unless something keeps them by mistake.
    #[must_use]
    pub fn leaks(&self) -> Vec<Entry> {
        lock(&self.state).buffers.values().filter(|record| record.is_leaked()).map(Record::entry).collect()
    }

    /// All of it, as it is now.
    #[must_use]
    pub fn report(&self) -> LedgerReport {
        let leaks = self.leaks();
        let state = lock(&self.state);
        let mut labels = BTreeMap::new();
        for Record { label, category, size, .. } in state.buffers.values() {
            let (buffers, bytes) = labels.entry((without_numbers(label), *category)).or_insert((0, 0));
            *buffers += 1;
            *bytes += size;
        }
        let labelled = |((label, category), (buffers, bytes))| Labelled { label, category, buffers, bytes };
        let mut labels: Vec<_> = labels.into_iter().map(labelled).collect();
        labels.sort_by_key(|labelled| std::cmp::Reverse(labelled.bytes));
        let LedgerSnapshot { current, peak, total, peak_total } = state.sums;
        LedgerReport {
            total,
            peak: peak_total,
            categories: current,
            peak_categories: peak,
            labels,
            ms: self.ms(),
            timeline: state.timeline.samples(),
            leaks,
        }
    }
}

/// `model.layers.*.mlp` for `model.layers.17.mlp`.
fn without_numbers(label: &str) -> String {
    let mut text = String::new();
    for c in label.chars() {
        match c {
            '0'..='9' if text.ends_with('*') => {}
            '0'..='9' => text.push('*'),
            c => text.push(c),
        }
    }
    text
}
