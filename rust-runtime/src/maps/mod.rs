//! Maps: state that programs share with each other, and with whoever looks.
//!
//! ```text
//! array, hash, ring, queue, bloom, nested     the kinds
//! freelist, reclaim                           which entries are free, and when those that were taken out are again
//! memory, words                               memory that stays where it is, and how it is read while others write
//! outside                                     looking and changing by those who are no programs
//! store                                       making an object's maps, keeping them across reloads
//! ```
//!
//! All is preallocated. What a program does takes no lock that it could wait for: lookups take none; updates try for a bucket's
//! lock a bounded number of times and then say -EBUSY. The address of a value stays good until the program ends. Values are
//! written eight bytes at a time: who reads meanwhile may see some words old and others new, but never half a word.
//!
//! A thread's shard of a per-CPU map has the number that the host gives the thread, and goes with that number to the next thread
//! when the thread ends. Threads beyond the shards get no value.

pub mod array;
pub mod bloom;
pub mod freelist;
pub mod hash;
pub mod memory;
pub mod nested;
pub mod outside;
pub mod queue;
pub mod reclaim;
pub mod ring;
pub mod store;
pub mod words;

use std::{
    ops::ControlFlow,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use crate::object::{MapDef, MapKind};
use array::Array;
use bloom::Bloom;
use hash::{Hash, Seed};
use memory::Budget;
use nested::{MapArray, MapHash, ProgArray};
use queue::Queue;
use reclaim::Reclaimer;
use ring::Ring;

/// Why a map was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{0}")]
    Definition(String),
    #[error("{entries} entries are more than such a map can have, {most}")]
    TooManyEntries { entries: u32, most: u32 },
    #[error("it takes {bytes} bytes, and maps have {used} of {ceiling} already; SET hook_map_memory to allow more")]
    TooMuchMemory { bytes: u64, used: u64, ceiling: u64 },
    #[error("DuckDB's memory_limit leaves no room for its {bytes} bytes")]
    Engine { bytes: u64 },
    #[error("the system refused {bytes} bytes: {source}")]
    Memory { bytes: u64, source: std::io::Error },
    #[error("the system refused a thread that frees entries: {source}")]
    Thread { source: std::io::Error },
}

/// Why an operation on a map did nothing. Programs get it as a negative error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("the key exists")]
    Present,
    #[error("there is no such key")]
    Missing,
    #[error("the map is full, or has no such index")]
    Full,
    #[error("there is no room")]
    NoRoom,
    #[error("entries that were taken out cannot be used again yet")]
    NotFreeYet,
    #[error("another thread is changing it")]
    Busy,
    #[error("there are more threads than shards")]
    NoShard,
    #[error("this kind of map, or these flags, do not allow it")]
    Invalid,
}

impl Failure {
    /// As errno.h has it.
    pub fn errno(self) -> i32 {
        match self {
            Failure::Present => libc::EEXIST,
            Failure::Missing => libc::ENOENT,
            Failure::Full => libc::E2BIG,
            Failure::NoRoom => libc::EAGAIN,
            Failure::NotFreeYet => libc::ENOMEM,
            Failure::Busy => libc::EBUSY,
            Failure::NoShard => libc::ENOSPC,
            Failure::Invalid => libc::EINVAL,
        }
    }
}

/// When an update may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateFlags {
    Any,
    NoExist,
    Exist,
}

impl UpdateFlags {
    /// BPF_ANY, BPF_NOEXIST, BPF_EXIST.
    pub fn from_number(number: u64) -> Result<UpdateFlags, Failure> {
        [UpdateFlags::Any, UpdateFlags::NoExist, UpdateFlags::Exist]
            .into_iter()
            .nth(usize::try_from(number).unwrap_or(usize::MAX))
            .ok_or(Failure::Invalid)
    }
}

/// Shards of every per-CPU map of the process: enough for DuckDB's threads on every processor, and clients of its.
pub fn shards() -> u32 {
    static SHARDS: OnceLock<u32> = OnceLock::new();
    *SHARDS.get_or_init(|| {
        let processors = thread::available_parallelism().map_or(16, usize::from) as u32;
        (2 * processors + 32).clamp(64, 1024)
    })
}

/// Keys and values take whole words.
fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(8)
}

/// A map. Programs refer to it by address: it is always behind an [`Arc`], which its programs hold.
#[derive(Debug)]
pub struct Map {
    id: u32,
    def: MapDef,
    body: Body,
}

#[derive(Debug)]
pub enum Body {
    Array(Array),
    Hash(Arc<Hash>),
    MapArray(MapArray),
    MapHash(MapHash),
    Programs(ProgArray),
    Ring(Box<Ring>),
    Queue(Queue),
    Bloom(Bloom),
    /// Keys are [`BlockKey`]s.
    Blocks(Arc<Hash>),
}

/// What block storage knows a block by.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockKey {
    pub file_id: u64,
    pub block_id: i64,
}

/// Entries of block storage where the program does not say how many.
const BLOCKS: u32 = 65_536;

impl Map {
    /// Makes a map as an object, or somebody else, defines it.
    pub fn new(def: MapDef, budget: &Arc<Budget>, reclaimer: &Arc<Reclaimer>) -> Result<Arc<Map>, Error> {
        def.check().map_err(Error::Definition)?;
        let seed = Seed(random());
        let hash = |def: &MapDef| Hash::new(def, seed, budget, reclaimer);
        let body = match def.kind {
            MapKind::Array | MapKind::PercpuArray => Body::Array(Array::new(&def, budget)?),
            MapKind::Hash | MapKind::PercpuHash | MapKind::LruHash => Body::Hash(hash(&def)?),
            MapKind::ArrayOfMaps => Body::MapArray(MapArray::new(few(&def)?)),
            MapKind::HashOfMaps => Body::MapHash(MapHash::new(hash(&MapDef { value_size: 8, ..def.clone() })?)),
            MapKind::ProgArray => Body::Programs(ProgArray::new(few(&def)?)),
            MapKind::Ringbuf => Body::Ring(Box::new(Ring::new(def.max_entries, budget)?)),
            MapKind::Queue | MapKind::Stack => Body::Queue(Queue::new(&def, budget)?),
            MapKind::BloomFilter => Body::Bloom(Bloom::new(&def, seed, budget)?),
            MapKind::BlockStorage => {
                // Blocks that were not looked at lately make room: one that goes unnoticed does not stay for good.
                let max_entries = if def.max_entries == 0 { BLOCKS } else { def.max_entries };
                let key = size_of::<BlockKey>() as u32;
                Body::Blocks(hash(&MapDef::new(MapKind::LruHash, key, def.value_size, max_entries))?)
            }
        };
        static NEWEST: AtomicU32 = AtomicU32::new(0);
        Ok(Arc::new(Map { id: NEWEST.fetch_add(1, Ordering::Relaxed) + 1, def, body }))
    }

    /// Its number in the process.
    pub fn id(&self) -> u32 {
        self.id
    }

    pub fn def(&self) -> &MapDef {
        &self.def
    }

    pub fn body(&self) -> &Body {
        &self.body
    }

    pub fn kind(&self) -> MapKind {
        self.def.kind
    }

    /// What compiled code calls it by.
    pub fn address(&self) -> u64 {
        std::ptr::from_ref(self) as u64
    }

    /// Bytes of memory that it counts for.
    pub fn bytes(&self) -> u64 {
        match &self.body {
            Body::Array(array) => array.bytes(),
            Body::Hash(hash) | Body::Blocks(hash) => hash.bytes(),
            Body::MapArray(maps) => maps.entries().iter().map(|(_, map)| map.bytes()).sum(),
            Body::MapHash(maps) => maps.hash().bytes() + maps.entries().iter().map(|(_, map)| map.bytes()).sum::<u64>(),
            Body::Programs(programs) => (programs.slots().len() * 8) as u64,
            Body::Ring(ring) => ring.bytes(),
            Body::Queue(queue) => queue.bytes(),
            Body::Bloom(bloom) => bloom.bytes(),
        }
    }

    /// Entries that it holds; of a ring, bytes that wait.
    pub fn count(&self) -> u64 {
        match &self.body {
            Body::Array(_) => self.def.max_entries.into(),
            Body::Hash(hash) | Body::Blocks(hash) => hash.len().into(),
            Body::MapArray(maps) => maps.entries().len() as u64,
            Body::MapHash(maps) => maps.hash().len().into(),
            Body::Programs(programs) => programs.entries().len() as u64,
            Body::Ring(ring) => ring.counts().waiting_bytes,
            Body::Queue(queue) => queue.len().into(),
            Body::Bloom(_) => 0,
        }
    }

    /// The address of a value, or of an inner map; or null.
    ///
    /// # Safety
    /// `key` leads to the map's key size of readable bytes, and the caller is a program.
    pub unsafe fn lookup(&self, key: *const u8, shard: impl FnOnce() -> u32) -> *mut u8 {
        // SAFETY: the caller's; keys of indexed kinds have four bytes.
        unsafe {
            match &self.body {
                Body::Array(array) if self.def.kind == MapKind::Array => array.lookup(words::four(key), 0),
                Body::Array(array) => array.lookup(words::four(key), shard()),
                Body::Hash(hash) if self.def.kind.is_percpu() => hash.lookup(key, shard()),
                Body::Hash(hash) => hash.lookup(key, 0),
                Body::MapArray(maps) => return maps.lookup(words::four(key)).cast(),
                Body::MapHash(maps) => return maps.lookup(key).cast(),
                _ => None,
            }
        }
        .unwrap_or(std::ptr::null_mut())
    }

    /// # Safety
    /// As for `lookup`; `value` leads to the map's value size of readable bytes.
    pub unsafe fn update(
        &self,
        key: *const u8,
        value: *const u8,
        shard: impl FnOnce() -> u32,
        flags: u64,
    ) -> Result<(), Failure> {
        let flags = UpdateFlags::from_number(flags)?;
        let shard = if self.def.kind.is_percpu() { shard() } else { 0 };
        // SAFETY: the caller's.
        unsafe {
            match &self.body {
                Body::Array(array) => array.update(words::four(key), value, shard, flags),
                Body::Hash(hash) => hash.update(key, value, shard, flags),
                _ => Err(Failure::Invalid),
            }
        }
    }

    /// # Safety
    /// As for `lookup`.
    pub unsafe fn delete(&self, key: *const u8) -> Result<(), Failure> {
        match &self.body {
            // SAFETY: the caller's.
            Body::Hash(hash) => unsafe { hash.delete(key) },
            _ => Err(Failure::Invalid),
        }
    }

    /// Shows every entry: the addresses of its key, and of its value in a shard.
    ///
    /// # Safety
    /// The caller is a program.
    pub unsafe fn walk(&self, shard: u32, mut visit: impl FnMut(*mut u8, *mut u8) -> ControlFlow<()>) {
        match &self.body {
            Body::Array(array) => {
                for mut index in 0..self.def.max_entries {
                    let Some(value) = array.lookup(index, shard) else { return };
                    if visit(std::ptr::from_mut(&mut index).cast(), value).is_break() {
                        return;
                    }
                }
            }
            // SAFETY: the caller's.
            Body::Hash(hash) => unsafe { hash.walk(shard, visit) },
            _ => {}
        }
    }
}

/// Arrays of references are bounded: each takes memory that no budget counts.
fn few(def: &MapDef) -> Result<u32, Error> {
    const MOST: u32 = 1 << 16;
    if def.max_entries > MOST {
        return Err(Error::TooManyEntries { entries: def.max_entries, most: MOST });
    }
    Ok(def.max_entries)
}

/// Random words; an address and the time where the system has none.
fn random() -> [u64; 2] {
    let mut words = [0u64; 2];
    // SAFETY: the buffer is valid for writes of its size.
    let got = unsafe { libc::getrandom(words.as_mut_ptr().cast(), size_of_val(&words), 0) };
    if got == size_of_val(&words) as isize {
        return words;
    }
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    [std::ptr::from_ref(&words) as u64 ^ time as u64, (time as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)]
}

#[cfg(test)]
mod tests;
