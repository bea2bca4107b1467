//! Maps whose values are maps, or programs. Programs read a pointer; whoever changes one keeps what was there until no program can
//! hold it.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicPtr, AtomicUsize, Ordering},
    },
};

use super::{Failure, Map, UpdateFlags, hash::Hash, words};
use crate::hook::Hook;

/// An array of maps.
#[derive(Debug)]
pub struct MapArray {
    slots: Box<[AtomicPtr<Map>]>,
    kept: Mutex<Vec<Option<Arc<Map>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn raw(map: &Option<Arc<Map>>) -> *mut Map {
    map.as_ref().map_or(std::ptr::null_mut(), |map| Arc::as_ptr(map).cast_mut())
}

impl MapArray {
    pub fn new(max_entries: u32) -> MapArray {
        let slots = (0..max_entries).map(|_| AtomicPtr::default()).collect();
        MapArray { slots, kept: Mutex::new(vec![None; max_entries as usize]) }
    }

    /// The map at an index, or null.
    pub fn lookup(&self, index: u32) -> *mut Map {
        self.slots.get(index as usize).map_or(std::ptr::null_mut(), |slot| slot.load(Ordering::Acquire))
    }

    /// Puts a map there, or nothing; returns what was there, to be kept until no program can hold it.
    pub fn set(&self, index: u32, map: Option<Arc<Map>>) -> Result<Option<Arc<Map>>, Failure> {
        let mut kept = lock(&self.kept);
        let (Some(slot), Some(kept)) = (self.slots.get(index as usize), kept.get_mut(index as usize)) else {
            return Err(Failure::Full);
        };
        slot.store(raw(&map), Ordering::Release);
        Ok(std::mem::replace(kept, map))
    }

    pub fn entries(&self) -> Vec<(u32, Arc<Map>)> {
        let kept = lock(&self.kept);
        (0..).zip(kept.iter()).filter_map(|(index, map)| Some((index, map.clone()?))).collect()
    }
}

/// A hash of maps: the values are their addresses.
#[derive(Debug)]
pub struct MapHash {
    hash: Arc<Hash>,
    kept: Mutex<BTreeMap<Vec<u8>, Arc<Map>>>,
}

impl MapHash {
    /// `hash` has values of eight bytes.
    pub fn new(hash: Arc<Hash>) -> MapHash {
        MapHash { hash, kept: Mutex::default() }
    }

    pub fn hash(&self) -> &Hash {
        &self.hash
    }

    /// The map of a key, or null.
    ///
    /// # Safety
    /// As for [`Hash::lookup`].
    pub unsafe fn lookup(&self, key: *const u8) -> *mut Map {
        // SAFETY: the caller's; the value has eight bytes.
        unsafe { self.hash.lookup(key, 0).map_or(std::ptr::null_mut(), |value| words::eight(value) as *mut Map) }
    }

    /// Sets or takes out a key; returns what was there, to be kept until no program can hold it. `key` has the map's size.
    pub fn set(&self, key: &[u8], map: Option<Arc<Map>>, flags: UpdateFlags) -> Result<Option<Arc<Map>>, Failure> {
        let mut kept = lock(&self.kept);
        let _outside = self.hash.outside();
        let address = (raw(&map) as u64).to_le_bytes();
        match map {
            Some(map) => {
                // SAFETY: the key has the map's size, the value eight bytes, and `outside` is held.
                unsafe { self.hash.update(key.as_ptr(), address.as_ptr(), 0, flags) }?;
                Ok(kept.insert(key.to_vec(), map))
            }
            None => {
                // SAFETY: as above.
                unsafe { self.hash.delete(key.as_ptr()) }?;
                Ok(kept.remove(key))
            }
        }
    }

    pub fn entries(&self) -> Vec<(Vec<u8>, Arc<Map>)> {
        lock(&self.kept).iter().map(|(key, map)| (key.clone(), map.clone())).collect()
    }
}

/// A program that may be jumped to: where, and what keeps it.
#[derive(Clone)]
pub struct Target {
    pub name: String,
    pub address: usize,
    /// The most that it costs by itself.
    pub cost: u64,
    /// The arrays of programs that it may go on in.
    pub arrays: Vec<Arc<Map>>,
    /// Held for its drop.
    pub _keeps: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:#x}", self.name, self.address)
    }
}

/// Programs to go on in. Compiled code reads the slots by itself: 0, or an address.
#[derive(Debug)]
pub struct ProgArray {
    slots: Box<[AtomicUsize]>,
    kept: Mutex<Vec<Option<Target>>>,
    /// That of all programs that are in it, and of those that go on in them: they work on the same context.
    hook: OnceLock<Hook>,
}

impl ProgArray {
    pub fn new(max_entries: u32) -> ProgArray {
        let slots = (0..max_entries).map(|_| AtomicUsize::new(0)).collect();
        ProgArray { slots, kept: Mutex::new(vec![None; max_entries as usize]), hook: OnceLock::new() }
    }

    /// Says that a program for the hook uses it, or is to be in it. The first one decides for good; another hook's is refused, with the
    /// array's hook.
    pub fn claim(&self, hook: Hook) -> Result<(), Hook> {
        let own = *self.hook.get_or_init(|| hook);
        if own == hook { Ok(()) } else { Err(own) }
    }

    pub fn hook(&self) -> Option<Hook> {
        self.hook.get().copied()
    }

    /// For compiled code, which checks the index itself.
    pub fn slots(&self) -> &[AtomicUsize] {
        &self.slots
    }

    /// Puts a program there, or nothing; returns what was there, to be kept until no thread can be in it.
    pub fn set(&self, index: u32, target: Option<Target>) -> Result<Option<Target>, Failure> {
        let mut kept = lock(&self.kept);
        let (Some(slot), Some(kept)) = (self.slots.get(index as usize), kept.get_mut(index as usize)) else {
            return Err(Failure::Full);
        };
        slot.store(target.as_ref().map_or(0, |target| target.address), Ordering::Release);
        Ok(std::mem::replace(kept, target))
    }

    pub fn targets(&self) -> Vec<(u32, Target)> {
        let kept = lock(&self.kept);
        (0..).zip(kept.iter()).filter_map(|(index, target)| Some((index, target.clone()?))).collect()
    }

    pub fn entries(&self) -> Vec<(u32, String)> {
        self.targets().into_iter().map(|(index, target)| (index, target.name)).collect()
    }

    /// Empties it; what was there is to be kept until no thread can be in it.
    pub fn clear(&self) -> Vec<Target> {
        let mut kept = lock(&self.kept);
        self.slots.iter().for_each(|slot| slot.store(0, Ordering::Release));
        kept.iter_mut().filter_map(Option::take).collect()
    }
}
