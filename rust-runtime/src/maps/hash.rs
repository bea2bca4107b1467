//! Hash maps: buckets of chains over a slab of entries.
//!
//! Readers walk a chain without a lock. Whoever changes a chain holds its bucket's lock, one bit of the head, and tries for it
//! a bounded number of times. An entry that is taken out keeps its content and its link until no reader can be at it
//! (reclaim.rs). A value of a present key is written in place.
//!
//! ```text
//! entry    next, hash, mark, link | key, in words | value, in words
//! per-CPU  next, hash, mark, link | key                          values: one array a shard, each on cache lines of its own
//! ```
//!
//! When an LRU map is full, a hand goes round the entries: what was looked up since it last came by stays, the first that was
//! not goes (the clock algorithm).

use std::{
    mem::offset_of,
    ops::ControlFlow,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{
    Error, Failure, UpdateFlags,
    freelist::FreeList,
    memory::{Budget, Slab},
    padded,
    reclaim::{Limbo, Reclaimer, Taken},
    shards, words,
};
use crate::object::{MapDef, MapKind};

/// Entries of one map.
pub const MAX_ENTRIES: u32 = 1 << 28;
/// Marks a bucket's head as being changed.
pub const LOCKED: u32 = 1 << 31;
/// Tries for a bucket's lock.
const SPINS: usize = 128;
/// Entries of one chain. With hashes from a secret seed nobody sees so many.
pub const MAX_CHAIN: usize = 64;
/// Buckets for each entry, at least. Nine in ten lookups end at their chain's first entry then (six in ten, where there is one bucket for
/// each), and no processor foresees which do not.
const BUCKETS: u64 = 4;
/// Entries that the hand passes before it gives up.
const MAX_HAND: usize = 128;
/// What lies where in an entry; its key begins behind the header.
pub const HEADER: usize = 16;
pub const NEXT: usize = 0;
const HASH: usize = 4;
pub const MARK: usize = 8;
const LINK: usize = 12;

/// Not looked up since the hand last came by; an entry that is in no chain has this too.
pub const COLD: u32 = 0;
pub const WARM: u32 = 1;

#[derive(Debug)]
pub struct Hash {
    probe: Probe,
    slab: Slab,
    /// Where the entries, and the shards' values, begin in the slab. The buckets begin it.
    entries: usize,
    values: usize,
    mask: u32,
    key_size: usize,
    value_size: usize,
    /// Of an entry.
    stride: usize,
    /// From an entry's beginning; unused where values are in shards.
    value_at: usize,
    /// Some: values are per shard.
    shards: Option<Shards>,
    /// Shards from here on were never written to.
    shards_in_use: AtomicU32,
    max_entries: u32,
    evicts: bool,
    /// Entries in chains.
    len: AtomicU32,
    hand: AtomicU32,
    list: FreeList,
    /// Entries in the limbo, and how many of them are worth a round.
    waiting: AtomicU32,
    worth: u32,
    reclaimer: Arc<Reclaimer>,
    /// Held while entries are handed back, and by readers who are no programs.
    outside: Mutex<()>,
}

/// What makes this map's hashes its own secret.
#[derive(Clone, Copy, Debug)]
pub struct Seed(pub [u64; 2]);

/// What makes hashes, and where entries are; machine code reads it where it lies.
#[repr(C)]
#[derive(Debug)]
pub struct Probe {
    seed: u64,
    /// Odd.
    factor: u64,
    /// The address of the first bucket.
    buckets: usize,
    /// Of the entry before the first: heads and links count from 1.
    entries: usize,
}

impl Probe {
    /// Where its numbers are.
    pub const SEED: i8 = offset_of!(Probe, seed) as i8;
    pub const FACTOR: i8 = offset_of!(Probe, factor) as i8;
    pub const BUCKETS: i8 = offset_of!(Probe, buckets) as i8;
    pub const ENTRIES: i8 = offset_of!(Probe, entries) as i8;
}

/// How machine code finds a key's value, as [`Hash::lookup`] does.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub struct Chains {
    /// The address of the map's [`Probe`].
    pub probe: usize,
    pub key_size: usize,
    /// Of the hash, for the bucket.
    pub mask: u32,
    /// Bytes from one entry to the next.
    pub stride: usize,
    /// From an entry's beginning.
    pub value_at: usize,
    /// Entries that are found are marked.
    pub evicts: bool,
}

#[derive(Clone, Copy, Debug)]
struct Shards {
    count: u32,
    value_stride: usize,
    stride: usize,
}

/// A key, hashed: the bucket is in its lower bits.
#[derive(Clone, Copy)]
struct Hashed(u32);

impl Hash {
    pub fn new(def: &MapDef, seed: Seed, budget: &Arc<Budget>, reclaimer: &Arc<Reclaimer>) -> Result<Arc<Hash>, Error> {
        let max_entries = def.max_entries;
        if max_entries > MAX_ENTRIES {
            return Err(Error::TooManyEntries { entries: max_entries, most: MAX_ENTRIES });
        }
        // Entries that wait until nobody holds them are not there to be used.
        let slack = (max_entries / 8).clamp(64, 16_384);
        let capacity = max_entries + slack;
        let buckets = BUCKETS * u64::from(max_entries).next_power_of_two();
        let (key, value) = (padded(def.key_size as usize), padded(def.value_size as usize));
        let percpu = def.kind.is_percpu();
        let stride = HEADER + key + if percpu { 0 } else { value };
        let entries = (buckets as usize * 4).next_multiple_of(64);
        let values = (entries + stride * capacity as usize).next_multiple_of(128);
        let shards = percpu.then(|| Shards {
            count: shards(),
            value_stride: value,
            stride: (value * capacity as usize).next_multiple_of(128),
        });
        let size = values as u64 + shards.map_or(0, |shards| shards.stride as u64 * u64::from(shards.count));
        let slab = Slab::new(size, budget)?;
        let Seed([seed, factor]) = seed;
        let first = slab.base() as usize + entries;
        let probe =
            Probe { seed, factor: factor | 1, buckets: slab.base() as usize, entries: first.wrapping_sub(stride) };
        let hash = Arc::new(Hash {
            probe,
            slab,
            entries,
            values,
            mask: (buckets - 1) as u32,
            key_size: def.key_size as usize,
            value_size: def.value_size as usize,
            stride,
            value_at: HEADER + key,
            shards,
            shards_in_use: AtomicU32::new(0),
            max_entries,
            evicts: def.kind == MapKind::LruHash,
            len: AtomicU32::new(0),
            hand: AtomicU32::new(0),
            list: FreeList::new(capacity),
            waiting: AtomicU32::new(0),
            worth: slack / 4,
            reclaimer: reclaimer.clone(),
            outside: Mutex::default(),
        });
        let limbo: Weak<dyn Limbo> = Arc::downgrade(&hash) as _;
        reclaimer.watch(limbo).map_err(|source| Error::Thread { source })?;
        Ok(hash)
    }

    pub fn len(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.slab.size()
    }

    /// None: machine code calls [`Hash::lookup`].
    #[cfg(target_arch = "x86_64")]
    pub fn chains(&self) -> Option<Chains> {
        let is_plain = self.shards.is_none() && matches!(self.key_size, 4 | 8 | 16);
        is_plain.then_some(Chains {
            probe: &raw const self.probe as usize,
            key_size: self.key_size,
            mask: self.mask,
            stride: self.stride,
            value_at: self.value_at,
            evicts: self.evicts,
        })
    }

    fn bucket(&self, hashed: Hashed) -> &AtomicU32 {
        let bucket = (hashed.0 & self.mask) as usize;
        // SAFETY: the slab begins with mask + 1 buckets, which everyone accesses atomically.
        unsafe { AtomicU32::from_ptr(self.slab.base().add(bucket * 4).cast()) }
    }

    fn entry(&self, entry: u32) -> *mut u8 {
        // SAFETY: entries are numbered below the list's capacity, for which the slab has room.
        unsafe { self.slab.base().add(self.entries + entry as usize * self.stride) }
    }

    /// A word of an entry's header.
    fn word(&self, entry: u32, at: usize) -> &AtomicU32 {
        // SAFETY: the header is aligned and within the entry; everyone accesses it atomically.
        unsafe { AtomicU32::from_ptr(self.entry(entry).add(at).cast()) }
    }

    fn link(&self, entry: u32) -> &AtomicU32 {
        self.word(entry, LINK)
    }

    fn key(&self, entry: u32) -> *mut u8 {
        // SAFETY: within the entry.
        unsafe { self.entry(entry).add(HEADER) }
    }

    /// The address of an entry's value in a shard. None: there are not so many shards.
    fn value(&self, entry: u32, shard: u32) -> Option<*mut u8> {
        match self.shards {
            // SAFETY: within the entry.
            None => Some(unsafe { self.entry(entry).add(self.value_at) }),
            Some(shards) if shard < shards.count => {
                let at = self.values + shard as usize * shards.stride + entry as usize * shards.value_stride;
                // SAFETY: the slab has so many shards with a value for each entry.
                Some(unsafe { self.slab.base().add(at) })
            }
            Some(_) => None,
        }
    }

    /// # Safety
    /// `key_size` bytes must be readable at `key`.
    unsafe fn hash(&self, key: *const u8) -> Hashed {
        let (mut hash, mut at) = (self.probe.seed, 0);
        while at < self.key_size {
            // SAFETY: the caller's.
            let word = unsafe { key_word(key, at, self.key_size) };
            let product = u128::from(word ^ hash) * u128::from(self.probe.factor);
            hash = product as u64 ^ (product >> 64) as u64;
            at += 8;
        }
        Hashed(hash as u32 ^ (hash >> 32) as u32)
    }

    /// # Safety
    /// As for `hash`.
    unsafe fn has_key(&self, entry: u32, key: *const u8) -> bool {
        let mut at = 0;
        while at < self.key_size {
            // SAFETY: the caller's; the entry's key takes whole words.
            if unsafe { key_word(key, at, self.key_size) != words::eight(self.key(entry).add(at)) } {
                return false;
            }
            at += 8;
        }
        true
    }

    /// The entry of a key. Takes no lock.
    ///
    /// # Safety
    /// As for `hash`; and the caller is a program, or holds `outside`.
    unsafe fn find(&self, key: *const u8, hashed: Hashed) -> Option<u32> {
        // Acquire, as with every link: what was written into an entry before it was linked is seen.
        let mut entry = self.bucket(hashed).load(Ordering::Acquire) & !LOCKED;
        for _ in 0..MAX_CHAIN {
            let entry_now = number(entry)?;
            // SAFETY: the caller's.
            if self.word(entry_now, HASH).load(Ordering::Relaxed) == hashed.0 && unsafe { self.has_key(entry_now, key) }
            {
                if self.evicts && self.word(entry_now, MARK).load(Ordering::Relaxed) == COLD {
                    self.word(entry_now, MARK).store(WARM, Ordering::Relaxed);
                }
                return Some(entry_now);
            }
            entry = self.word(entry_now, NEXT).load(Ordering::Acquire);
        }
        None
    }

    /// The address of a key's value in a shard.
    ///
    /// # Safety
    /// As for `find`. The address is the caller's as long as it is a program, or holds `outside`.
    pub unsafe fn lookup(&self, key: *const u8, shard: u32) -> Option<*mut u8> {
        // SAFETY: the caller's.
        let entry = unsafe { self.find(key, self.hash(key)) }?;
        self.use_shard(shard);
        self.value(entry, shard)
    }

    /// Remembers which shards may hold something other than zeros.
    fn use_shard(&self, shard: u32) {
        let Some(shards) = self.shards else { return };
        if shard < shards.count && shard >= self.shards_in_use.load(Ordering::Relaxed) {
            self.shards_in_use.fetch_max(shard + 1, Ordering::Relaxed);
        }
    }

    /// Sets the value of a key, of a per-CPU map in one shard.
    ///
    /// # Safety
    /// As for `find`, and `value_size` bytes must be readable at `value`.
    pub unsafe fn update(
        &self,
        key: *const u8,
        value: *const u8,
        shard: u32,
        flags: UpdateFlags,
    ) -> Result<(), Failure> {
        if self.shards.is_some_and(|shards| shard >= shards.count) {
            return Err(Failure::NoShard);
        }
        self.use_shard(shard);
        // SAFETY: the caller's.
        let hashed = unsafe { self.hash(key) };
        // SAFETY: the caller's.
        if let Some(entry) = unsafe { self.find(key, hashed) } {
            // SAFETY: the caller's.
            return unsafe { self.overwrite(entry, value, shard, flags) };
        }
        if flags == UpdateFlags::Exist {
            return Err(Failure::Missing);
        }
        let fresh = self.allocate()?;
        // SAFETY: the caller's; the entry is ours alone.
        unsafe { self.fill(fresh, key, value, shard, hashed) };
        // SAFETY: the caller's.
        let inserted = unsafe { self.insert(fresh.0, key, hashed) };
        match inserted {
            Ok(None) => Ok(()),
            other => {
                // Nobody has seen the entry.
                self.list.push(fresh.0, |entry| self.link(entry));
                self.len.fetch_sub(1, Ordering::Relaxed);
                match other? {
                    // SAFETY: the caller's.
                    Some(entry) => unsafe { self.overwrite(entry, value, shard, flags) },
                    None => Ok(()),
                }
            }
        }
    }

    unsafe fn overwrite(&self, entry: u32, value: *const u8, shard: u32, flags: UpdateFlags) -> Result<(), Failure> {
        if flags == UpdateFlags::NoExist {
            return Err(Failure::Present);
        }
        let to = self.value(entry, shard).ok_or(Failure::NoShard)?;
        // SAFETY: the caller's; a value has room for value_size bytes.
        unsafe { words::copy(value, to, self.value_size) };
        Ok(())
    }

    /// An entry of the caller's own, counted in `len`; true: it was used before.
    fn allocate(&self) -> Result<(u32, bool), Failure> {
        if self.len.fetch_add(1, Ordering::Relaxed) >= self.max_entries && !(self.evicts && self.evict()) {
            self.len.fetch_sub(1, Ordering::Relaxed);
            return Err(if self.evicts { Failure::NotFreeYet } else { Failure::Full });
        }
        self.list.pop(|entry| self.link(entry)).ok_or_else(|| {
            self.len.fetch_sub(1, Ordering::Relaxed);
            self.reclaimer.ask();
            Failure::NotFreeYet
        })
    }

    unsafe fn fill(&self, (entry, used): (u32, bool), key: *const u8, value: *const u8, shard: u32, hashed: Hashed) {
        self.word(entry, HASH).store(hashed.0, Ordering::Relaxed);
        self.word(entry, MARK).store(COLD, Ordering::Relaxed);
        let mut at = 0;
        while at < self.key_size {
            // SAFETY: the caller's; the entry's key takes whole words.
            unsafe { words::write_eight(self.key(entry).add(at), key_word(key, at, self.key_size)) };
            at += 8;
        }
        let shards = if used && self.shards.is_some() { self.shards_in_use.load(Ordering::Relaxed) } else { 0 };
        for other in (0..shards).filter(|other| *other != shard) {
            if let Some(value) = self.value(entry, other) {
                // SAFETY: a value has room for value_size bytes.
                unsafe { words::fill(value, 0, self.value_size) };
            }
        }
        if let Some(to) = self.value(entry, shard) {
            // SAFETY: the caller's; a value has room for value_size bytes.
            unsafe { words::copy(value, to, self.value_size) };
        }
    }

    /// Links an entry, unless the key is there by now: Some, that entry.
    unsafe fn insert(&self, fresh: u32, key: *const u8, hashed: Hashed) -> Result<Option<u32>, Failure> {
        let bucket = self.lock(hashed, SPINS)?;
        let (mut entry, mut length) = (bucket.head, 0);
        while let Some(entry_now) = number(entry) {
            // SAFETY: the caller's.
            if self.word(entry_now, HASH).load(Ordering::Relaxed) == hashed.0 && unsafe { self.has_key(entry_now, key) }
            {
                return Ok(Some(entry_now));
            }
            length += 1;
            if length == MAX_CHAIN {
                return Err(Failure::Full);
            }
            entry = self.word(entry_now, NEXT).load(Ordering::Relaxed);
        }
        self.word(fresh, NEXT).store(bucket.head, Ordering::Relaxed);
        bucket.unlock_with(code(fresh));
        Ok(None)
    }

    /// Takes a key out.
    ///
    /// # Safety
    /// As for `find`.
    pub unsafe fn delete(&self, key: *const u8) -> Result<(), Failure> {
        // SAFETY: the caller's.
        let hashed = unsafe { self.hash(key) };
        let bucket = self.lock(hashed, SPINS)?;
        // SAFETY: the caller's.
        let is_it =
            |entry| self.word(entry, HASH).load(Ordering::Relaxed) == hashed.0 && unsafe { self.has_key(entry, key) };
        if self.unlink(bucket, is_it) { Ok(()) } else { Err(Failure::Missing) }
    }

    /// Takes the first entry out of a bucket that is the one; it waits then until nobody holds it.
    fn unlink(&self, bucket: Bucket<'_>, is_it: impl Fn(u32) -> bool) -> bool {
        let (mut before, mut entry) = (None, bucket.head);
        while let Some(found) = number(entry) {
            let next = self.word(found, NEXT).load(Ordering::Relaxed);
            if !is_it(found) {
                (before, entry) = (Some(found), next);
                continue;
            }
            // Its own link stays, for readers that are at it.
            match before {
                Some(before) => {
                    self.word(before, NEXT).store(next, Ordering::Release);
                    drop(bucket);
                }
                None => bucket.unlock_with(next),
            }
            self.len.fetch_sub(1, Ordering::Relaxed);
            // Counted first: whoever takes it off the list of those that wait may be quicker than what follows.
            let waiting = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
            self.list.retire(found, |entry| self.link(entry));
            if waiting >= self.worth {
                self.reclaimer.ask();
            }
            return true;
        }
        false
    }

    /// Takes out an entry that was not looked up lately; if all that the hand passes were, any. False: others change them all.
    fn evict(&self) -> bool {
        let used = self.list.used().max(1);
        for passed in 0..MAX_HAND + 8 {
            let entry = self.hand.fetch_add(1, Ordering::Relaxed) % used;
            let mark = self.word(entry, MARK);
            if mark.load(Ordering::Relaxed) == WARM && passed < MAX_HAND {
                mark.store(COLD, Ordering::Relaxed);
                continue;
            }
            // It may be in no chain, or change its chain meanwhile: then the bucket does not hold it.
            let hashed = Hashed(self.word(entry, HASH).load(Ordering::Relaxed));
            if let Ok(bucket) = self.lock(hashed, 1)
                && self.unlink(bucket, |candidate| candidate == entry)
            {
                return true;
            }
        }
        false
    }

    fn lock(&self, hashed: Hashed, tries: usize) -> Result<Bucket<'_>, Failure> {
        let word = self.bucket(hashed);
        for _ in 0..tries {
            let head = word.load(Ordering::Relaxed);
            if head & LOCKED == 0
                && word.compare_exchange_weak(head, head | LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return Ok(Bucket { word, head });
            }
            std::hint::spin_loop();
        }
        Err(Failure::Busy)
    }

    /// Shows every entry: the addresses of its key, and of its value in a shard.
    ///
    /// # Safety
    /// The caller is a program, or holds `outside`.
    pub unsafe fn walk(&self, shard: u32, mut visit: impl FnMut(*mut u8, *mut u8) -> ControlFlow<()>) {
        let mut left = self.max_entries;
        for bucket in 0..=self.mask {
            let mut entry = self.bucket(Hashed(bucket)).load(Ordering::Acquire) & !LOCKED;
            for _ in 0..MAX_CHAIN {
                let Some(entry_now) = number(entry) else { break };
                let Some(value) = self.value(entry_now, shard).filter(|_| left > 0) else { return };
                left -= 1;
                if visit(self.key(entry_now), value).is_break() {
                    return;
                }
                entry = self.word(entry_now, NEXT).load(Ordering::Acquire);
            }
        }
    }

    /// A copy of a key's value; of a per-CPU map the values of the shards that were used. The key has the map's size.
    pub fn read(&self, key: &[u8]) -> Option<Vec<Vec<u8>>> {
        let _outside = self.outside();
        let shards = if self.shards.is_some() { self.shards_in_use.load(Ordering::Relaxed) } else { 1 };
        // SAFETY: the key has the map's size, and `outside` is held.
        let entry = unsafe { self.find(key.as_ptr(), self.hash(key.as_ptr())) }?;
        let values = (0..shards).filter_map(|shard| self.value(entry, shard));
        // SAFETY: a value has value_size bytes, and `outside` keeps the entry from being used anew.
        Some(values.map(|value| unsafe { words::read(value, self.value_size) }).collect())
    }

    /// Every entry's key and value; of a per-CPU map the values of the shards that were used.
    pub fn entries(&self) -> Vec<(Vec<u8>, Vec<Vec<u8>>)> {
        let _outside = self.outside();
        let shards = if self.shards.is_some() { self.shards_in_use.load(Ordering::Relaxed) } else { 1 };
        let mut entries: Vec<(Vec<u8>, Vec<Vec<u8>>)> = Vec::new();
        let mut visit = |key: *mut u8, value: *mut u8| {
            let stride = self.shards.map_or(0, |shards| shards.stride);
            // SAFETY: keys and values have these sizes, and the shards follow each other.
            let values =
                (0..shards as usize).map(|shard| unsafe { words::read(value.add(shard * stride), self.value_size) });
            // SAFETY: as above.
            entries.push((unsafe { words::read(key, self.key_size) }, values.collect()));
            ControlFlow::Continue(())
        };
        // SAFETY: `outside` is held.
        unsafe { self.walk(0, &mut visit) };
        entries
    }

    /// Held by whoever is no program while it works with entries.
    pub fn outside(&self) -> MutexGuard<'_, ()> {
        self.outside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Limbo for Hash {
    fn take(&self) -> Option<Taken> {
        self.list.take_retired().map(Taken)
    }

    fn release(&self, Taken(first): Taken) {
        let _outside = self.outside();
        let count = self.list.release(first, |entry| self.link(entry));
        self.waiting.fetch_sub(count, Ordering::Relaxed);
    }
}

/// A bucket that is being changed; dropping it leaves the head as it was.
struct Bucket<'a> {
    word: &'a AtomicU32,
    head: u32,
}

impl Bucket<'_> {
    /// Release: whoever finds the new head finds what was written into the entry.
    fn unlock_with(mut self, head: u32) {
        self.head = head;
    }
}

impl Drop for Bucket<'_> {
    fn drop(&mut self) {
        self.word.store(self.head, Ordering::Release);
    }
}

/// Heads and links count entries from 1, so that zeroed memory is an empty map.
fn number(code: u32) -> Option<u32> {
    code.checked_sub(1)
}

fn code(entry: u32) -> u32 {
    entry + 1
}

/// Eight bytes of a key, the last ones filled up with zeros.
///
/// # Safety
/// `size` bytes must be readable at `key`, and `at` below `size`.
pub unsafe fn key_word(key: *const u8, at: usize, size: usize) -> u64 {
    // SAFETY: the caller's; every access ends at `size` at the latest.
    unsafe {
        let key = key.add(at);
        match size - at {
            8.. => words::eight(key),
            4 => u64::from(words::four(key)),
            rest => (0..rest).fold(0, |word, byte| word | u64::from(words::byte(key.add(byte))) << (8 * byte)),
        }
    }
}
