//! Which physical block of a paged key/value cache holds what, for many sequences that share it (Kwon et al. 2023, "PagedAttention").
//!
//! A sequence's cache positions lie in logical blocks of 32; a page table leads to physical ones. Layers that attend alike form a
//! *group*, with pools and tables of its own. Blocks that several sequences have in common are shared, and copied before one of
//! them writes. What a sequence leaves behind stays findable by its tokens, in a tree (Zheng et al. 2024, "RadixAttention"), until
//! somebody needs the room; then what was used longest ago is forgotten, a prefix's later blocks before its earlier ones.
//!
//! A quantized cache has two pools in each group. A block is written, and read by queries in it, in a *hot* one in f16; all
//! other queries read a *main* one, which is quantized when the block is full. So only the blocks from the one with the next position on
//! are hot. In any other cache, main blocks are all that there is.
//!
//! This is bookkeeping: nothing here touches a GPU. An id of a sequence that has ended is as one of a sequence without tokens, and
//! what is asked of it changes nothing.

mod prefixes;
mod sequence;
mod stock;
mod table;

use std::collections::BTreeMap;

use self::prefixes::Prefixes;
use self::sequence::Sequence;
use self::stock::Stock;

/// Positions in one block.
const BLOCK: usize = crate::step::BLOCK as usize;

/// A kind of physical blocks; the number is that of a group, as [`BlocksConfig::windows`] has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pool {
    /// Blocks that last: of the cache's type, in a quantized cache whole ones only.
    Main(usize),
    /// The f16 blocks of a quantized cache.
    Hot(usize),
}

/// What a cache is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlocksConfig {
    /// For each group of layers, how many positions a query sees, its own included; 0 for all.
    pub windows: Vec<u32>,
    /// Whether the cache is quantized.
    pub hot: bool,
    /// What happens to long sequences.
    pub policy: CachePolicy,
}

/// What happens to a sequence that becomes longer than its cache may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CachePolicy {
    /// It cannot: all of it is kept.
    #[default]
    Full,
    /// The oldest blocks after the first ones are dropped, and those behind them move up (Xiao et al. 2023, "attention sinks").
    /// Since what lies outside of a group's window may so come into it again, groups then give nothing back before it is dropped.
    Window {
        /// Blocks that are kept at the beginning.
        sinks: u32,
        /// Blocks of a sequence at most, those included.
        blocks: u32,
    },
    /// Of a prompt that is longer, so many blocks are kept once all of it is computed: of every layer and key head those positions that the
    /// last ones attend to most, and the last ones (Li et al. 2024, "SnapKV"). What is generated comes behind them.
    SnapKv {
        /// Blocks that are kept.
        blocks: u32,
    },
}

impl CachePolicy {
    /// Positions that are kept at least: the block at the beginning of a window, the one that is written, and as much between them.
    pub const LEAST: u32 = 4 * crate::step::BLOCK;

    /// That of the name: `full`; `window:512` for so many positions, rounded up to whole blocks, the first of which is kept; or
    /// `snapkv:512` for so many positions of a prompt, rounded up as well.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "full" {
            return Some(Self::Full);
        }
        let (kind, positions) = name.split_once(':')?;
        let positions: u32 = positions.parse().ok().filter(|&positions| positions >= Self::LEAST)?;
        let blocks = positions.div_ceil(crate::step::BLOCK);
        match kind {
            "window" => Some(Self::Window { sinks: 1, blocks }),
            "snapkv" => Some(Self::SnapKv { blocks }),
            _ => None,
        }
    }

    /// Its name, as [`from_name`](Self::from_name) takes it.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Full => "full".into(),
            Self::Window { blocks, .. } => format!("window:{}", u64::from(blocks) * BLOCK as u64),
            Self::SnapKv { blocks } => format!("snapkv:{}", u64::from(blocks) * BLOCK as u64),
        }
    }

    /// The most positions of a sequence that the cache holds, where there is such a bound.
    #[must_use]
    pub fn most(self) -> Option<u32> {
        match self {
            Self::Full | Self::SnapKv { .. } => None,
            Self::Window { blocks, .. } => Some(blocks.saturating_mul(crate::step::BLOCK)),
        }
    }

    /// Positions that are kept of a prompt which has more, where that is so.
    #[must_use]
    pub fn selected(self) -> Option<u32> {
        match self {
            Self::SnapKv { blocks } => Some(blocks.saturating_mul(crate::step::BLOCK)),
            Self::Full | Self::Window { .. } => None,
        }
    }

    /// Whether what comes behind positions that are dropped moves up: then keys are rotated by where they are in the cache.
    #[must_use]
    pub fn moves(self) -> bool {
        matches!(self, Self::Window { .. })
    }
}

/// A sequence of a [`Blocks`]. No number is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(u64);

/// Pools that are too small, and how many blocks more each would need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// At least one.
    pub missing: Vec<(Pool, usize)>,
}

/// A block to be copied, whole, in every layer of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockCopy {
    /// Where both blocks are.
    pub pool: Pool,
    /// The physical block that is read.
    pub from: u32,
    /// The physical block that is written.
    pub to: u32,
}

/// What prefixes were good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefixFigures {
    /// Tokens of all prompts.
    pub asked: u64,
    /// Those that the cache already held.
    pub found: u64,
    /// Blocks, of all pools, that only prefixes hold.
    pub idle: usize,
}

/// Who holds which block of a cache.
#[derive(Debug)]
pub struct Blocks {
    hot: bool,
    policy: CachePolicy,
    /// As configured, but 0 where groups give nothing back.
    windows: Vec<usize>,
    /// Main blocks of all groups, then the hot ones.
    stocks: Vec<Stock>,
    prefixes: Prefixes,
    sequences: BTreeMap<SequenceId, Sequence>,
    last: u64,
    copies: Vec<BlockCopy>,
    asked: u64,
    found: u64,
}

impl Blocks {
    /// A cache without blocks.
    #[must_use]
    pub fn new(config: BlocksConfig) -> Self {
        let windows = config.windows.into_iter().map(|window| match config.policy {
            CachePolicy::Full | CachePolicy::SnapKv { .. } => window as usize,
            CachePolicy::Window { .. } => 0,
        });
        let windows: Vec<_> = windows.collect();
        let stocks = windows.len() * if config.hot { 2 } else { 1 };
        Self {
            hot: config.hot,
            policy: config.policy,
            windows,
            stocks: std::iter::repeat_with(Stock::default).take(stocks).collect(),
            prefixes: Prefixes::new(),
            sequences: BTreeMap::new(),
            last: 0,
            copies: Vec::new(),
            asked: 0,
            found: 0,
        }
    }

    /// Blocks that a pool has; 0 where there is no such pool.
    #[must_use]
    pub fn capacity(&self, pool: Pool) -> u32 {
        self.stock(pool).map_or(0, Stock::capacity)
    }

    /// Gives a pool this many blocks, unless it has more already. What blocks hold stays.
    pub fn set_capacity(&mut self, pool: Pool, blocks: u32) {
        if let Some(at) = self.index(pool) {
            self.stocks[at].grow(blocks);
        }
    }

    /// Blocks of a pool that sequences or prefixes hold.
    #[must_use]
    pub fn used(&self, pool: Pool) -> u32 {
        self.stock(pool).map_or(0, |stock| stock.capacity() - stock.free() as u32)
    }

    /// Those of them that only prefixes hold: what is forgotten where others need the room.
    #[must_use]
    pub fn idle(&self, pool: Pool) -> u32 {
        self.stock(pool).map_or(0, |stock| stock.idle() as u32)
    }

    /// What prefixes were good for so far.
    #[must_use]
    pub fn prefixes(&self) -> PrefixFigures {
        let idle = self.stocks.iter().map(Stock::idle).sum();
        PrefixFigures { asked: self.asked, found: self.found, idle }
    }

    /// The tokens of a sequence whose keys and values were computed, dropped ones included.
    #[must_use]
    pub fn tokens(&self, id: SequenceId) -> &[u32] {
        self.sequences.get(&id).map_or(&[], |sequence| &sequence.tokens)
    }

    /// Positions of a sequence that were dropped: the cache holds as many fewer than there are tokens.
    #[must_use]
    pub fn dropped(&self, id: SequenceId) -> usize {
        self.sequences.get(&id).map_or(0, |sequence| sequence.dropped)
    }

    /// The physical block of each logical block of a sequence. What no query reads has none, and holds 0.
    #[must_use]
    pub fn table(&self, id: SequenceId, pool: Pool) -> &[u32] {
        let table = self.index(pool).and_then(|at| self.sequences.get(&id)?.tables.get(at));
        table.map_or(&[], table::Table::entries)
    }

    /// What must be copied before the next step, in this order; each is told once.
    pub fn take_copies(&mut self) -> Vec<BlockCopy> {
        std::mem::take(&mut self.copies)
    }

    /// Forgets all prefixes, those of running sequences included, which leave none any more: what the cache holds is not what
    /// would be computed now.
    pub fn clear(&mut self) {
        self.prefixes.clear(&mut self.stocks);
        for sequence in self.sequences.values_mut() {
            sequence.findable = false;
        }
    }

    fn index(&self, pool: Pool) -> Option<usize> {
        let groups = self.windows.len();
        match pool {
            Pool::Main(group) if group < groups => Some(group),
            Pool::Hot(group) if group < groups && self.hot => Some(groups + group),
            _ => None,
        }
    }

    fn stock(&self, pool: Pool) -> Option<&Stock> {
        self.index(pool).map(|at| &self.stocks[at])
    }

    fn pool(&self, at: usize) -> Pool {
        let groups = self.windows.len();
        if at < groups { Pool::Main(at) } else { Pool::Hot(at - groups) }
    }

    /// Whether blocks of this pool are written, and read by queries in them.
    fn is_written(&self, at: usize) -> bool {
        (at >= self.windows.len()) == self.hot
    }
}
