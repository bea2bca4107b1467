//! DuckDB's own eviction: a queue of the blocks that nobody reads, in the order in which they lost their last reader; and what programs on
//! load, unpin, queue_insert and evict make of it. As `storage/buffer/buffer_pool.cpp` has it, and hook-shim's part of it.

use std::collections::{HashMap, VecDeque};

use anyhow::{Result, bail};
use duckbpf::abi::{
    DUCKBPF_DECIDED, DUCKBPF_EVICT_MAX_SKIPS, duckbpf_evict_ctx, duckbpf_hint, duckbpf_load_ctx, duckbpf_origin,
    duckbpf_queue_insert_ctx, duckbpf_unpin_ctx,
};
use duckbpf::abi::{DUCKBPF_HINT_COUNT, DUCKBPF_HINT_KEEP, DUCKBPF_HINT_NONE, DUCKBPF_HINT_NORMAL, DUCKBPF_HINT_ONCE};
use duckbpf_runtime::{Hook, Trial};

use super::{
    pool::{Blocks, Memory, Policy},
    trace::{Block, Event},
};

/// MemoryTag::BASE_TABLE and FileBufferType::BLOCK.
const BASE_TABLE: u32 = 0;
const BLOCK: u32 = 1;
/// Kept blocks that one search passes over.
const MOST_KEPT: usize = 4096;

/// Macros of hooks.h that bindgen does not see.
const EVICT_SKIP: u64 = 1 << 1;
const UNPIN_UNLOAD: u64 = 1 << 1;

fn hint_of(decision: u64) -> duckbpf_hint {
    (decision >> 8 & 0xff) as duckbpf_hint
}

/// One entry: alive while it is its block's newest.
type Entry = (Block, u64);

/// The concurrent queue: a line for each thread that puts something in.
#[derive(Debug, Default)]
struct Lines {
    /// The thread that came last first.
    lines: Vec<(u32, VecDeque<Entry>)>,
}

impl Lines {
    fn push(&mut self, thread: u32, entry: Entry) {
        match self.lines.iter_mut().find(|(owner, _)| *owner == thread) {
            Some((_, line)) => line.push_back(entry),
            None => self.lines.insert(0, (thread, VecDeque::from([entry]))),
        }
    }

    /// From the longest of the first three lines that are not empty, as moodycamel's queue has it.
    fn pop(&mut self) -> Option<Entry> {
        let filled = self.lines.iter_mut().map(|(_, line)| line).filter(|line| !line.is_empty()).take(3);
        // The first of the longest.
        let longest = filled.reduce(|best, line| if line.len() > best.len() { line } else { best })?;
        longest.pop_front()
    }
}

/// DuckDB's queue, with or without a policy.
#[derive(Debug, Default)]
pub struct Queue {
    lines: Lines,
    /// The newest entry of each block that ever was in.
    newest: HashMap<Block, u64>,
    entries: u64,
    /// They outlive a block's stay in memory.
    hints: HashMap<Block, duckbpf_hint>,
    /// How many of them say keep.
    kept: usize,
    program: Option<Trial>,
}

impl Queue {
    pub fn with(program: Trial) -> Result<Queue> {
        let hooks = [Hook::Load, Hook::Unpin, Hook::QueueInsert, Hook::Evict];
        if !hooks.iter().any(|hook| program.has(*hook)) {
            bail!("it has no program for {}: nothing to replay", hooks.map(Hook::name).join(", "));
        }
        Ok(Queue { program: Some(program), ..Queue::default() })
    }

    fn insert(&mut self, block: Block, thread: u32) {
        self.entries += 1;
        self.newest.insert(block, self.entries);
        self.lines.push(thread, (block, self.entries));
    }

    fn hint(&self, block: Block) -> duckbpf_hint {
        self.hints.get(&block).copied().unwrap_or(DUCKBPF_HINT_NONE)
    }

    fn set_hint(&mut self, block: Block, hint: duckbpf_hint) {
        self.kept += usize::from(hint == DUCKBPF_HINT_KEEP);
        let before = self.hints.insert(block, hint);
        self.kept -= usize::from(before == Some(DUCKBPF_HINT_KEEP));
    }

    /// Whether the program passes over a candidate.
    fn skips(&self, candidate: Block, size: u64, event: &Event, memory: Memory, skips: u32) -> bool {
        let Some(program) = &self.program else { return false };
        let mut context = duckbpf_evict_ctx {
            origin: origin(event),
            block_id: candidate.number,
            file_id: candidate.file,
            size,
            used_memory: memory.used,
            max_memory: memory.limit,
            tag: BASE_TABLE,
            buffer_type: BLOCK,
            hint: self.hint(candidate),
            skips,
        };
        let decision = program.call(&mut context).unwrap_or(0);
        decision == DUCKBPF_DECIDED as u64 | EVICT_SKIP && skips < DUCKBPF_EVICT_MAX_SKIPS
    }
}

fn origin(event: &Event) -> duckbpf_origin {
    duckbpf_origin { database_id: 1, query_id: event.query, thread_index: event.thread, ..duckbpf_origin::default() }
}

impl Policy for Queue {
    fn memory(&self) -> u64 {
        self.program.as_ref().map_or(0, Trial::memory)
    }

    fn begin_with(&mut self, event: &Event) {
        self.insert(event.block, event.thread);
    }

    fn load(&mut self, event: &Event, _: usize, is_hit: bool, memory: Memory) {
        let Some(program) = &self.program else { return };
        let mut context = duckbpf_load_ctx {
            origin: origin(event),
            block_id: event.block.number,
            file_id: event.block.file,
            size: event.size,
            used_memory: memory.used,
            max_memory: memory.limit,
            tag: BASE_TABLE,
            buffer_type: BLOCK,
            hit: is_hit.into(),
            hint: self.hint(event.block),
        };
        let decision = program.call(&mut context).unwrap_or(0);
        let hint = hint_of(decision);
        if decision & DUCKBPF_DECIDED as u64 == 0 || hint == DUCKBPF_HINT_NONE || hint >= DUCKBPF_HINT_COUNT {
            return;
        }
        self.set_hint(event.block, if hint == DUCKBPF_HINT_NORMAL { DUCKBPF_HINT_NONE } else { hint });
    }

    fn release(&mut self, event: &Event, memory: Memory) -> bool {
        let hint = self.hint(event.block);
        let mut unloads = hint == DUCKBPF_HINT_ONCE;
        if let Some(program) = &self.program {
            let mut context = duckbpf_unpin_ctx {
                origin: origin(event),
                block_id: event.block.number,
                file_id: event.block.file,
                size: event.size,
                used_memory: memory.used,
                max_memory: memory.limit,
                tag: BASE_TABLE,
                buffer_type: BLOCK,
                hint,
                persistent: 1,
                ..duckbpf_unpin_ctx::default()
            };
            let decision = program.call(&mut context).unwrap_or(0);
            if decision & DUCKBPF_DECIDED as u64 != 0 {
                unloads = decision & UNPIN_UNLOAD != 0;
            }
        }
        if unloads {
            return true;
        }
        if let Some(program) = &self.program {
            let first = u32::from(!self.newest.contains_key(&event.block));
            let mut context = duckbpf_queue_insert_ctx {
                origin: origin(event),
                block_id: event.block.number,
                file_id: event.block.file,
                size: event.size,
                used_memory: memory.used,
                max_memory: memory.limit,
                tag: BASE_TABLE,
                buffer_type: BLOCK,
                hint,
                queues: 1,
                first,
                ..duckbpf_queue_insert_ctx::default()
            };
            // Blocks of files have one queue: there is nothing to choose, but a program may take note.
            program.call(&mut context);
        }
        self.insert(event.block, event.thread);
        false
    }

    fn victim(&mut self, event: &Event, blocks: &Blocks, memory: Memory) -> Option<Block> {
        let mut kept_budget = if self.kept >= blocks.count() { 0 } else { self.kept.min(MOST_KEPT) };
        let mut skips = 0;
        while let Some((block, entry)) = self.lines.pop() {
            let resident = blocks.get(block).filter(|_| self.newest.get(&block) == Some(&entry));
            let Some(resident) = resident.filter(|resident| !resident.is_pinned) else { continue };
            if kept_budget > 0 && self.hint(block) == DUCKBPF_HINT_KEEP {
                kept_budget -= 1;
            } else if self.skips(block, resident.size, event, memory, skips) {
                skips += 1;
            } else {
                return Some(block);
            }
            self.lines.push(event.thread, (block, entry));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::pool::{play, tests::loads};

    #[test]
    fn without_a_program_one_thread_is_least_recently_used() {
        let trace = loads(&[1, 2, 3, 1, 4, 1, 5, 6, 1, 2]);
        let queue = play(&trace, 3, &mut Queue::default());
        assert_eq!(queue, play(&trace, 3, &mut super::super::order::Lru::default()));
        assert_eq!(queue.hits, 3);
    }

    #[test]
    fn the_longest_line_goes_first() {
        let mut lines = Lines::default();
        let block = |number| Block { file: 1, number };
        for (thread, number) in [(1, 10), (2, 20), (2, 21), (1, 11), (1, 12)] {
            lines.push(thread, (block(number), 0));
        }
        let order: Vec<i64> = std::iter::from_fn(|| lines.pop()).map(|(block, _)| block.number).collect();
        // Of lines of equal length that of the thread which came last.
        assert_eq!(order, [10, 20, 11, 21, 12]);
    }
}
