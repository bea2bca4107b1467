//! DuckDB's pool of blocks, played over a trace: who is in memory, and whose memory goes when there is too little.
//!
//! A trace says when blocks are wanted and when nobody reads them any more; both are the queries' doing, whatever is in memory. What
//! is not blocks of files - hash tables, sorts - takes as much of the memory as it took when the trace was recorded.

use std::collections::{HashMap, HashSet};

use super::trace::{Block, Event, Kind, Trace};

/// Chooses who goes.
pub trait Policy {
    /// Bytes of the memory limit that the policy itself takes.
    fn memory(&self) -> u64 {
        0
    }
    /// A block is in memory at the beginning.
    fn begin_with(&mut self, event: &Event);
    /// A block is wanted; `index` counts loads from 0. A missing one is in memory already, its room made.
    fn load(&mut self, event: &Event, index: usize, is_hit: bool, memory: Memory);
    /// Nobody reads a block any more. Whether its memory goes at once.
    fn release(&mut self, event: &Event, memory: Memory) -> bool;
    /// The block whose memory goes next, of those that are not pinned; none if there is none. `event` is whose room is made.
    fn victim(&mut self, event: &Event, blocks: &Blocks, memory: Memory) -> Option<Block>;
}

/// The account as contexts show it, bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub used: u64,
    pub limit: u64,
}

/// What is in memory.
#[derive(Debug, Default)]
pub struct Blocks {
    resident: HashMap<Block, Resident>,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Resident {
    pub size: u64,
    pub is_pinned: bool,
}

impl Blocks {
    pub fn get(&self, block: Block) -> Option<Resident> {
        self.resident.get(&block).copied()
    }

    pub fn count(&self) -> usize {
        self.resident.len()
    }

    fn insert(&mut self, block: Block, resident: Resident) {
        self.bytes += resident.size;
        if let Some(before) = self.resident.insert(block, resident) {
            self.bytes -= before.size;
        }
    }

    fn remove(&mut self, block: Block) {
        if let Some(gone) = self.resident.remove(&block) {
            self.bytes -= gone.size;
        }
    }
}

/// How often blocks were wanted, and were there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    pub loads: u64,
    pub hits: u64,
}

impl Hits {
    /// As the trace has it.
    pub fn recorded(trace: &Trace) -> Hits {
        let hits = trace.loads().filter(|event| event.kind == Kind::Hit).count();
        Hits { loads: trace.loads().count() as u64, hits: hits as u64 }
    }

    /// Of no loads 0.
    pub fn ratio(self) -> f64 {
        if self.loads == 0 { 0.0 } else { self.hits as f64 / self.loads as f64 }
    }
}

/// Plays a trace with so much memory.
pub fn play(trace: &Trace, limit: u64, policy: &mut dyn Policy) -> Hits {
    let mut recorded = Blocks::default();
    let mut pool = Pool { blocks: Blocks::default(), others: 0, limit, policy };
    for event in warm(trace) {
        recorded.insert(event.block, Resident { size: event.size, is_pinned: false });
        pool.begin_with(event);
    }
    let mut hits = Hits::default();
    for event in &trace.events {
        pool.others = others(&mut recorded, event).unwrap_or(pool.others);
        match event.kind {
            Kind::Hit | Kind::Miss => {
                hits.hits += u64::from(pool.load(event, hits.loads as usize));
                hits.loads += 1;
            }
            Kind::Unpin => pool.release(event),
            // What was evicted then is not what is evicted now.
            Kind::Evict => {}
        }
    }
    hits
}

/// Blocks that were in memory when recording began: those whose first load found them there.
fn warm(trace: &Trace) -> impl Iterator<Item = &Event> {
    let mut seen = HashSet::new();
    trace.loads().filter(move |event| seen.insert(event.block) && event.kind == Kind::Hit)
}

/// Bytes of whatever is no block of a file, at an event that tells.
fn others(recorded: &mut Blocks, event: &Event) -> Option<u64> {
    if event.kind == Kind::Evict {
        recorded.remove(event.block);
        return None;
    }
    recorded.insert(event.block, Resident { size: event.size, is_pinned: false });
    Some(event.used.saturating_sub(recorded.bytes))
}

struct Pool<'a> {
    blocks: Blocks,
    others: u64,
    limit: u64,
    policy: &'a mut dyn Policy,
}

impl Pool<'_> {
    fn used(&self) -> u64 {
        self.blocks.bytes + self.others + self.policy.memory()
    }

    fn memory(&self) -> Memory {
        Memory { used: self.used(), limit: self.limit }
    }

    fn begin_with(&mut self, event: &Event) {
        if self.blocks.bytes + event.size <= self.limit {
            self.blocks.insert(event.block, Resident { size: event.size, is_pinned: false });
            self.policy.begin_with(event);
        }
    }

    /// Whether the block was there.
    fn load(&mut self, event: &Event, index: usize) -> bool {
        let is_hit = self.blocks.get(event.block).is_some();
        if !is_hit {
            self.make_room(event, event.size);
        }
        self.blocks.insert(event.block, Resident { size: event.size, is_pinned: true });
        self.policy.load(event, index, is_hit, self.memory());
        is_hit
    }

    fn release(&mut self, event: &Event) {
        let Some(resident) = self.blocks.get(event.block) else { return };
        self.blocks.insert(event.block, Resident { is_pinned: false, ..resident });
        if self.policy.release(event, self.memory()) {
            self.blocks.remove(event.block);
        }
        self.make_room(event, 0);
    }

    /// Memory that is full of what is pinned is left so: the queries got it then.
    fn make_room(&mut self, event: &Event, bytes: u64) {
        while self.used() + bytes > self.limit {
            let Some(victim) = self.policy.victim(event, &self.blocks, self.memory()) else { return };
            self.blocks.remove(victim);
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// One thread's loads, each unpinned before the next; blocks of one byte.
    pub fn loads(blocks: &[i64]) -> Trace {
        let event = |kind, number| Event {
            time_us: 0,
            kind,
            thread: 0,
            query: 0,
            block: Block { file: 1, number },
            size: 1,
            used: 0,
        };
        let events = blocks.iter().flat_map(|block| [event(Kind::Miss, *block), event(Kind::Unpin, *block)]);
        Trace { limit: 4, events: events.collect() }
    }

    /// Takes anybody. Itself it takes so many bytes.
    struct Careless(u64);

    impl Policy for Careless {
        fn memory(&self) -> u64 {
            self.0
        }
        fn begin_with(&mut self, _: &Event) {}
        fn load(&mut self, _: &Event, _: usize, _: bool, _: Memory) {}
        fn release(&mut self, _: &Event, _: Memory) -> bool {
            false
        }
        fn victim(&mut self, _: &Event, blocks: &Blocks, _: Memory) -> Option<Block> {
            blocks.resident.iter().find(|(_, resident)| !resident.is_pinned).map(|(block, _)| *block)
        }
    }

    #[test]
    fn what_fits_is_read_once() {
        let trace = loads(&[1, 2, 3, 1, 2, 3]);
        assert_eq!(play(&trace, 3, &mut Careless(0)), Hits { loads: 6, hits: 3 });
        assert_eq!(play(&trace, 1, &mut Careless(0)), Hits { loads: 6, hits: 0 });
    }

    #[test]
    fn what_the_policy_takes_is_missing() {
        let trace = loads(&[1, 2, 3, 1, 2, 3]);
        assert_eq!(play(&trace, 4, &mut Careless(1)), Hits { loads: 6, hits: 3 });
        assert!(play(&trace, 3, &mut Careless(1)).hits < 3);
    }

    #[test]
    fn what_others_take_is_missing() {
        let mut trace = loads(&[1, 2, 3, 1, 2, 3]);
        for event in &mut trace.events {
            event.used = 4;
        }
        // Of four bytes one to three are the others', until all three blocks are in the account.
        assert!(play(&trace, 3, &mut Careless(0)).hits < 3);
    }

    #[test]
    fn what_was_there_at_the_beginning_is_there() {
        let mut trace = loads(&[1, 1]);
        trace.events[0].kind = Kind::Hit;
        assert_eq!(play(&trace, 3, &mut Careless(0)), Hits { loads: 2, hits: 2 });
        assert_eq!(Hits::recorded(&trace), Hits { loads: 2, hits: 1 });
    }

    #[test]
    fn what_is_pinned_stays() {
        let mut trace = loads(&[1, 2, 1]);
        trace.events.retain(|event| event.kind != Kind::Unpin);
        assert_eq!(play(&trace, 1, &mut Careless(0)), Hits { loads: 3, hits: 1 });
    }
}
