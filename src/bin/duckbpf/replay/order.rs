//! The two yardsticks: the block that was wanted longest ago goes, and the one that is wanted last from now.

use std::collections::{BTreeSet, HashMap};

use super::{
    pool::{Blocks, Memory, Policy},
    trace::{Block, Event, Trace},
};

/// Blocks in some order; the first one goes.
#[derive(Debug, Default)]
struct Ordered {
    order: BTreeSet<(u64, Block)>,
    place: HashMap<Block, u64>,
}

impl Ordered {
    fn put(&mut self, block: Block, place: u64) {
        if let Some(before) = self.place.insert(block, place) {
            self.order.remove(&(before, block));
        }
        self.order.insert((place, block));
    }

    fn take(&mut self, blocks: &Blocks) -> Option<Block> {
        let is_free = |(_, block): &&(u64, Block)| blocks.get(*block).is_some_and(|resident| !resident.is_pinned);
        let first = *self.order.iter().find(is_free)?;
        self.order.remove(&first);
        self.place.remove(&first.1);
        Some(first.1)
    }
}

/// Least recently used.
#[derive(Debug, Default)]
pub struct Lru {
    blocks: Ordered,
    now: u64,
}

impl Policy for Lru {
    fn begin_with(&mut self, event: &Event) {
        self.now += 1;
        self.blocks.put(event.block, self.now);
    }

    fn load(&mut self, event: &Event, _: usize, _: bool, _: Memory) {
        self.begin_with(event);
    }

    fn release(&mut self, _: &Event, _: Memory) -> bool {
        false
    }

    fn victim(&mut self, _: &Event, blocks: &Blocks, _: Memory) -> Option<Block> {
        self.blocks.take(blocks)
    }
}

/// Belady's: it knows the future. No policy has more hits where all blocks have one size.
#[derive(Debug)]
pub struct Optimum {
    blocks: Ordered,
    /// By load: the number of the next load of its block.
    next: Vec<u64>,
    /// By block that was there at the beginning: the number of its first load.
    first: HashMap<Block, u64>,
}

impl Optimum {
    pub fn new(trace: &Trace) -> Optimum {
        let loads: Vec<Block> = trace.loads().map(|event| event.block).collect();
        let mut first = HashMap::new();
        let mut next = vec![u64::MAX; loads.len()];
        for (index, block) in loads.iter().enumerate().rev() {
            next[index] = first.insert(*block, index as u64).unwrap_or(u64::MAX);
        }
        Optimum { blocks: Ordered::default(), next, first }
    }
}

impl Policy for Optimum {
    fn begin_with(&mut self, event: &Event) {
        let first = self.first.get(&event.block).copied().unwrap_or(u64::MAX);
        self.blocks.put(event.block, u64::MAX - first);
    }

    fn load(&mut self, event: &Event, index: usize, _: bool, _: Memory) {
        self.blocks.put(event.block, u64::MAX - self.next[index]);
    }

    fn release(&mut self, _: &Event, _: Memory) -> bool {
        false
    }

    fn victim(&mut self, _: &Event, blocks: &Blocks, _: Memory) -> Option<Block> {
        self.blocks.take(blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::pool::{play, tests::loads};

    fn hits(blocks: &[i64], limit: u64) -> (u64, u64) {
        let trace = loads(blocks);
        (play(&trace, limit, &mut Lru::default()).hits, play(&trace, limit, &mut Optimum::new(&trace)).hits)
    }

    #[test]
    fn a_loop_that_does_not_fit_is_lost_on_lru() {
        assert_eq!(hits(&[1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4], 3), (0, 6));
    }

    #[test]
    fn both_keep_what_comes_back_at_once() {
        assert_eq!(hits(&[1, 1, 2, 2, 3, 3], 1), (3, 3));
    }

    #[test]
    fn belady_is_never_worse() {
        let blocks: Vec<i64> = (0..2000i64).map(|n| n * n * 7919 % 101 % 37).collect();
        for limit in [1, 3, 9, 20, 36] {
            let (lru, optimum) = hits(&blocks, limit);
            assert!(lru <= optimum, "{limit}: {lru} {optimum}");
        }
    }
}
