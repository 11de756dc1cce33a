//! The tree of prefixes: what blocks hold, found by the tokens up to it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use super::BLOCK;
use super::stock::Stock;

/// A number of a [`Node`]; none is used twice.
pub(super) type NodeId = u64;

/// The empty prefix, which is always there.
pub(super) const ROOT: NodeId = 0;

/// A prefix's last block.
#[derive(Debug, Default)]
pub(super) struct Node {
    parent: NodeId,
    /// What the block holds: 1 to 32 tokens.
    tokens: Arc<[u32]>,
    /// Its physical block in each stock, where there is one.
    blocks: Vec<Option<u32>>,
    /// Prefixes that are one whole block longer.
    whole: BTreeMap<Arc<[u32]>, NodeId>,
    /// Prefixes that are a part of a block longer. In order of their tokens, what has most in common stands side by side.
    partial: BTreeMap<Arc<[u32]>, NodeId>,
    /// A sequence has ended with it.
    pub kept: bool,
}

impl Node {
    pub fn block(&self, at: usize) -> Option<u32> {
        self.blocks.get(at).copied().flatten()
    }

    /// Its physical blocks, with their stocks.
    pub fn blocks(&self) -> impl Iterator<Item = (usize, u32)> {
        self.blocks.iter().enumerate().filter_map(|(at, block)| block.map(|block| (at, block)))
    }

    pub fn is_whole(&self) -> bool {
        self.tokens.len() == BLOCK
    }
}

#[derive(Debug)]
pub(super) struct Prefixes {
    nodes: HashMap<NodeId, Node>,
    last: NodeId,
}

impl Prefixes {
    pub fn new() -> Self {
        Self { nodes: HashMap::from([(ROOT, Node::default())]), last: ROOT }
    }

    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    pub fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(&id)
    }

    /// The physical block of a node in a stock, where there is one.
    pub fn block(&self, id: NodeId, at: usize) -> Option<u32> {
        self.get(id)?.block(at)
    }

    /// The prefix that is longer than `parent` by this whole block.
    pub fn whole(&self, parent: NodeId, tokens: &[u32]) -> Option<NodeId> {
        self.get(parent)?.whole.get(tokens).copied()
    }

    /// The nodes of the blocks that end with `id`, first one first; none where it is gone.
    pub fn path(&self, mut id: NodeId) -> Vec<NodeId> {
        let mut path = Vec::new();
        while let Some(node) = self.get(id).filter(|_| id != ROOT) {
            path.push(id);
            id = node.parent;
        }
        path.reverse();
        path
    }

    /// The block behind `parent`, among the `usable` ones, that begins with most of `tokens`, and how many: at least one.
    pub fn closest(&self, parent: NodeId, tokens: &[u32], usable: impl Fn(&Node) -> bool) -> Option<(NodeId, usize)> {
        let parent = self.get(parent)?;
        let candidates = [&parent.partial, &parent.whole].into_iter().flat_map(|children| {
            let before = children.range::<[u32], _>((Unbounded, Included(tokens))).next_back();
            let behind = children.range::<[u32], _>((Excluded(tokens), Unbounded)).next();
            before.into_iter().chain(behind)
        });
        candidates
            .filter(|(_, id)| self.get(**id).is_some_and(&usable))
            .map(|(key, id)| (*id, key.iter().zip(tokens).take_while(|(a, b)| a == b).count()))
            .filter(|(_, common)| *common > 0)
            .max_by_key(|(_, common)| *common)
    }

    /// A block more behind `parent`. Where another prefix has one of the physical blocks, it gives way: this one is longer.
    pub fn insert(&mut self, parent: NodeId, tokens: &[u32], blocks: Vec<Option<u32>>, stocks: &mut [Stock]) -> NodeId {
        self.last += 1;
        let (id, tokens): (_, Arc<[u32]>) = (self.last, tokens.into());
        let node = Node { parent, tokens: Arc::clone(&tokens), blocks, ..Node::default() };
        let held: Vec<_> = node.blocks().collect();
        let whole = node.is_whole();
        self.nodes.insert(id, node);
        if let Some(parent) = self.get_mut(parent) {
            let children = if whole { &mut parent.whole } else { &mut parent.partial };
            children.insert(tokens, id);
        }
        for (at, block) in held {
            if let Some(other) = stocks[at].prefix(block) {
                self.remove(other, stocks);
            }
            stocks[at].adopt(block, id);
        }
        id
    }

    /// Takes over physical blocks that the node has not, unless another one has them.
    pub fn complete(&mut self, id: NodeId, blocks: &[Option<u32>], stocks: &mut [Stock]) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        for ((place, block), stock) in node.blocks.iter_mut().zip(blocks).zip(stocks) {
            if let Some(block) = *block
                && place.is_none()
                && stock.prefix(block).is_none()
            {
                *place = Some(block);
                stock.adopt(block, id);
            }
        }
    }

    /// Forgets one physical block of a node, which stays for what it has else.
    pub fn disown(&mut self, id: NodeId, at: usize, stocks: &mut [Stock]) {
        let place = self.nodes.get_mut(&id).and_then(|node| node.blocks.get_mut(at));
        if let Some(block) = place.and_then(Option::take) {
            stocks[at].disown(block);
        }
        self.prune(id);
    }

    /// Forgets a node and all behind it, and what then leads nowhere.
    pub fn remove(&mut self, id: NodeId, stocks: &mut [Stock]) {
        let Some(mut node) = self.detach(id) else { return };
        let parent = node.parent;
        let mut doomed = Vec::new();
        loop {
            for (at, block) in node.blocks() {
                stocks[at].disown(block);
            }
            doomed.extend(node.whole.into_values().chain(node.partial.into_values()));
            let Some(next) = doomed.pop().and_then(|id| self.nodes.remove(&id)) else { break };
            node = next;
        }
        self.prune(parent);
    }

    /// Forgets a node that holds nothing and leads nowhere, and so on towards the root.
    pub fn prune(&mut self, mut id: NodeId) {
        let empty = |node: &Node| node.whole.is_empty() && node.partial.is_empty() && node.blocks().next().is_none();
        while id != ROOT && self.get(id).is_some_and(empty) {
            id = self.detach(id).map_or(ROOT, |node| node.parent);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self, stocks: &mut [Stock]) {
        for (_, node) in self.nodes.drain() {
            for (at, block) in node.blocks() {
                stocks[at].disown(block);
            }
        }
        self.nodes.insert(ROOT, Node::default());
    }

    /// A node that its parent does not know any more.
    fn detach(&mut self, id: NodeId) -> Option<Node> {
        let node = self.nodes.remove(&id)?;
        if let Some(parent) = self.get_mut(node.parent) {
            let children = if node.is_whole() { &mut parent.whole } else { &mut parent.partial };
            children.remove(&node.tokens);
        }
        Some(node)
    }
}
