//! Bloom filters: what was added is found; what was not, mostly is not.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{
    Error, Failure,
    hash::Seed,
    memory::{Budget, Slab},
};
use crate::object::MapDef;

/// Hash functions where `map_extra` does not say, as in Linux.
const FUNCTIONS: u64 = 5;

#[derive(Debug)]
pub struct Bloom {
    slab: Slab,
    value_size: usize,
    functions: u64,
    mask: u64,
    seed: Seed,
}

impl Bloom {
    pub fn new(def: &MapDef, seed: Seed, budget: &Arc<Budget>) -> Result<Bloom, Error> {
        let functions = if def.extra & 0xf == 0 { FUNCTIONS } else { def.extra & 0xf };
        // With entries * functions / ln 2 bits half of them are set in the end, the best there is; the power of two above that.
        let bits = (u64::from(def.max_entries) * functions * 7 / 5).next_power_of_two().max(512);
        let slab = Slab::new(bits / 8, budget)?;
        Ok(Bloom { slab, value_size: def.value_size as usize, functions, mask: bits - 1, seed })
    }

    pub fn bytes(&self) -> u64 {
        self.slab.size()
    }

    /// # Safety
    /// `value_size` bytes must be readable at `value`.
    pub unsafe fn push(&self, value: *const u8) {
        // SAFETY: the caller's.
        for (word, bit) in unsafe { self.bits(value) } {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// # Safety
    /// As for `push`.
    pub unsafe fn peek(&self, value: *const u8) -> Result<(), Failure> {
        // SAFETY: the caller's.
        let is_there = unsafe { self.bits(value) }.all(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0);
        if is_there { Ok(()) } else { Err(Failure::Missing) }
    }

    /// The bits of a value: two hashes make as many as are wanted (Kirsch and Mitzenmacher, Less Hashing, Same Performance).
    unsafe fn bits(&self, value: *const u8) -> impl Iterator<Item = (&AtomicU64, u64)> {
        let Seed([mut first, second]) = self.seed;
        let mut at = 0;
        while at < self.value_size {
            // SAFETY: the caller's.
            let word = unsafe { super::hash::key_word(value, at, self.value_size) };
            let product = u128::from(word ^ first) * u128::from(second | 1);
            first = product as u64 ^ (product >> 64) as u64;
            at += 8;
        }
        let step = first.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..self.functions).map(move |function| {
            let bit = first.wrapping_add(function.wrapping_mul(step)) >> 7 & self.mask;
            // SAFETY: the slab has mask + 1 bits, in words that everyone accesses atomically.
            let word = unsafe { AtomicU64::from_ptr(self.slab.base().add((bit / 64 * 8) as usize).cast()) };
            (word, 1 << (bit % 64))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::MapKind;

    #[test]
    fn what_was_added_is_found_and_little_else() {
        let def = MapDef::new(MapKind::BloomFilter, 0, 8, 10_000);
        let bloom = Bloom::new(&def, Seed([3, 5]), &Budget::new(1 << 20)).unwrap();
        // SAFETY: values of eight bytes.
        let push = |value: u64| unsafe { bloom.push(value.to_le_bytes().as_ptr()) };
        // SAFETY: as above.
        let has = |value: u64| unsafe { bloom.peek(value.to_le_bytes().as_ptr()) }.is_ok();
        (0..10_000).for_each(push);
        assert!((0..10_000).all(has));
        let wrong = (10_000..110_000).filter(|&value| has(value)).count();
        assert!(wrong < 6_000, "{wrong} of 100,000 found that were never added");
    }
}
