//! Arrays: a value an index, all there from the beginning; per-CPU ones have a whole array a shard.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::{
    Error, Failure, UpdateFlags,
    memory::{Budget, Slab},
    padded, shards, words,
};
use crate::object::MapDef;

#[derive(Debug)]
pub struct Array {
    slab: Slab,
    max_entries: u32,
    value_size: usize,
    stride: usize,
    /// Bytes from one shard to the next, whole cache lines; 0: there is one.
    shard_stride: usize,
    shards: u32,
    /// Shards from here on were never looked at.
    shards_in_use: AtomicU32,
}

/// Where values lie, for machine code: they never move. Of a per-CPU array, those of the first shard.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub struct Values {
    pub base: usize,
    pub count: u32,
    /// Bytes from one to the next.
    pub stride: usize,
}

/// The shards of a per-CPU array, for machine code.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub struct Shards {
    /// Bytes from one to the next.
    pub stride: usize,
    /// The address of an AtomicU32: shards from its number on are for [`Array::lookup`].
    pub in_use: usize,
}

impl Array {
    pub fn new(def: &MapDef, budget: &Arc<Budget>) -> Result<Array, Error> {
        let stride = padded(def.value_size as usize);
        // Cannot overflow: a value has at most 2^20 bytes, and there are at most 2^32 of them.
        let one = stride as u64 * u64::from(def.max_entries);
        let percpu = def.kind.is_percpu();
        let shards = if percpu { shards() } else { 1 };
        // Two cache lines: processors fetch them in pairs.
        let shard_stride = if percpu { one.next_multiple_of(128) } else { 0 };
        let size = if percpu { shard_stride.saturating_mul(shards.into()) } else { one };
        Ok(Array {
            slab: Slab::new(size, budget)?,
            max_entries: def.max_entries,
            value_size: def.value_size as usize,
            stride,
            shard_stride: shard_stride as usize,
            shards,
            shards_in_use: AtomicU32::new(0),
        })
    }

    pub fn bytes(&self) -> u64 {
        self.slab.size()
    }

    #[cfg(target_arch = "x86_64")]
    pub fn values(&self) -> Values {
        Values { base: self.slab.base() as usize, count: self.max_entries, stride: self.stride }
    }

    /// None: all threads share the values.
    #[cfg(target_arch = "x86_64")]
    pub fn shards(&self) -> Option<Shards> {
        let in_use = &raw const self.shards_in_use as usize;
        (self.shard_stride != 0).then_some(Shards { stride: self.shard_stride, in_use })
    }

    /// The address of a value. None: there is no such index or shard.
    pub fn lookup(&self, index: u32, shard: u32) -> Option<*mut u8> {
        if index >= self.max_entries {
            return None;
        }
        let mut at = index as usize * self.stride;
        if self.shard_stride != 0 {
            if shard >= self.shards {
                return None;
            }
            if shard >= self.shards_in_use.load(Ordering::Relaxed) {
                self.shards_in_use.fetch_max(shard + 1, Ordering::Relaxed);
            }
            at += shard as usize * self.shard_stride;
        }
        // SAFETY: index and shard are in range, so the place lies within the slab.
        Some(unsafe { self.slab.base().add(at) })
    }

    /// # Safety
    /// `value_size` bytes must be readable at `value`.
    pub unsafe fn update(&self, index: u32, value: *const u8, shard: u32, flags: UpdateFlags) -> Result<(), Failure> {
        if index >= self.max_entries {
            return Err(Failure::Full);
        }
        if flags == UpdateFlags::NoExist {
            return Err(Failure::Present);
        }
        let to = self.lookup(index, shard).ok_or(Failure::NoShard)?;
        // SAFETY: the caller's; a value has room for value_size bytes.
        unsafe { words::copy(value, to, self.value_size) };
        Ok(())
    }

    /// A value; of a per-CPU array one of each shard that was used.
    pub fn read(&self, index: u32) -> Vec<Vec<u8>> {
        let shards = if self.shard_stride == 0 { 1 } else { self.shards_in_use.load(Ordering::Relaxed) };
        let values = (0..shards).filter_map(|shard| self.lookup(index, shard));
        // SAFETY: a value has value_size bytes.
        values.map(|value| unsafe { words::read(value, self.value_size) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::MapKind;

    fn array(kind: MapKind, value_size: u32, max_entries: u32) -> Array {
        Array::new(&MapDef::new(kind, 4, value_size, max_entries), &Budget::new(1 << 30)).unwrap()
    }

    #[test]
    fn values_are_apart_and_begin_with_zeros() {
        let array = array(MapKind::Array, 12, 3);
        let update = |index: u32, value: &[u8; 12], flags| {
            // SAFETY: the value has value_size bytes.
            unsafe { array.update(index, value.as_ptr(), 0, flags) }
        };
        update(1, &[7; 12], UpdateFlags::Any).unwrap();
        assert_eq!(
            (array.read(0), array.read(1), array.read(2)),
            (vec![vec![0; 12]], vec![vec![7; 12]], vec![vec![0; 12]])
        );
        assert_eq!(update(1, &[7; 12], UpdateFlags::NoExist), Err(Failure::Present));
        assert_eq!(update(1, &[8; 12], UpdateFlags::Exist), Ok(()));
        assert_eq!(update(3, &[7; 12], UpdateFlags::Any), Err(Failure::Full));
        assert!(array.lookup(3, 0).is_none() && array.lookup(u32::MAX, 0).is_none());
    }

    #[test]
    fn shards_share_no_cache_line() {
        let array = array(MapKind::PercpuArray, 8, 2);
        let (first, second) = (array.lookup(1, 0).unwrap() as usize, array.lookup(0, 1).unwrap() as usize);
        assert!(second / 128 > first / 128);
        assert!(array.lookup(0, shards()).is_none(), "exhausted shards");
        assert_eq!(array.read(0).len(), 2);
    }
}
