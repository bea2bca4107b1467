//! Queues and stacks: values without keys. One lock, a single word, that is tried for a bounded number of times.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use super::{
    Error, Failure,
    memory::{Budget, Slab},
    padded, words,
};
use crate::object::{MapDef, MapKind};

const SPINS: usize = 256;

#[derive(Debug)]
pub struct Queue {
    slab: Slab,
    is_stack: bool,
    value_size: usize,
    stride: usize,
    max_entries: u32,
    locked: AtomicBool,
    /// Place of the oldest value, and how many there are; changed under the lock.
    first: AtomicU32,
    len: AtomicU32,
}

/// The lock, held.
struct Held<'a>(&'a AtomicBool);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Queue {
    pub fn new(def: &MapDef, budget: &Arc<Budget>) -> Result<Queue, Error> {
        let stride = padded(def.value_size as usize);
        Ok(Queue {
            slab: Slab::new(stride as u64 * u64::from(def.max_entries), budget)?,
            is_stack: def.kind == MapKind::Stack,
            value_size: def.value_size as usize,
            stride,
            max_entries: def.max_entries,
            locked: AtomicBool::new(false),
            first: AtomicU32::new(0),
            len: AtomicU32::new(0),
        })
    }

    pub fn bytes(&self) -> u64 {
        self.slab.size()
    }

    pub fn len(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    fn lock(&self) -> Result<Held<'_>, Failure> {
        for _ in 0..SPINS {
            if !self.locked.load(Ordering::Relaxed) && !self.locked.swap(true, Ordering::Acquire) {
                return Ok(Held(&self.locked));
            }
            std::hint::spin_loop();
        }
        Err(Failure::Busy)
    }

    /// The value that is so many places behind the oldest.
    fn value(&self, behind: u32) -> *mut u8 {
        let place = (u64::from(self.first.load(Ordering::Relaxed)) + u64::from(behind)) % u64::from(self.max_entries);
        // SAFETY: the slab has max_entries values.
        unsafe { self.slab.base().add(place as usize * self.stride) }
    }

    fn drop_oldest(&self, len: u32) {
        let first = self.first.load(Ordering::Relaxed);
        self.first.store(if first + 1 == self.max_entries { 0 } else { first + 1 }, Ordering::Relaxed);
        self.len.store(len - 1, Ordering::Relaxed);
    }

    /// Adds a value; `make_room`: where there is none, the oldest goes.
    ///
    /// # Safety
    /// `value_size` bytes must be readable at `value`.
    pub unsafe fn push(&self, value: *const u8, make_room: bool) -> Result<(), Failure> {
        let _held = self.lock()?;
        let mut len = self.len();
        if len == self.max_entries {
            if !make_room {
                return Err(Failure::Full);
            }
            self.drop_oldest(len);
            len -= 1;
        }
        // SAFETY: the caller's; a value has room for value_size bytes.
        unsafe { words::copy(value, self.value(len), self.value_size) };
        self.len.store(len + 1, Ordering::Relaxed);
        Ok(())
    }

    /// Copies the next value out and, where asked for, takes it out. Without one, `value` is zeroed.
    ///
    /// # Safety
    /// `value_size` bytes must be writable at `value`.
    pub unsafe fn next(&self, value: *mut u8, take: bool) -> Result<(), Failure> {
        // SAFETY: the caller's.
        unsafe { self.copy_next(value, take) }.inspect_err(|_| unsafe {
            // SAFETY: the caller's.
            words::fill(value, 0, self.value_size);
        })
    }

    unsafe fn copy_next(&self, value: *mut u8, take: bool) -> Result<(), Failure> {
        let _held = self.lock()?;
        let len = self.len();
        let last = len.checked_sub(1).ok_or(Failure::Missing)?;
        let next = self.value(if self.is_stack { last } else { 0 });
        // SAFETY: the caller's; a value has value_size bytes.
        unsafe { words::copy(next, value, self.value_size) };
        match take {
            true if self.is_stack => self.len.store(last, Ordering::Relaxed),
            true => self.drop_oldest(len),
            false => {}
        }
        Ok(())
    }

    /// All values in the order in which they would come out.
    pub fn read(&self) -> Result<Vec<Vec<u8>>, Failure> {
        let _held = self.lock()?;
        let len = self.len();
        let places = (0..len).map(|place| if self.is_stack { len - 1 - place } else { place });
        // SAFETY: a value has value_size bytes.
        Ok(places.map(|place| unsafe { words::read(self.value(place), self.value_size) }).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, thread};

    use super::*;

    fn queue(kind: MapKind, max_entries: u32) -> Queue {
        Queue::new(&MapDef::new(kind, 0, 8, max_entries), &Budget::new(1 << 20)).unwrap()
    }

    fn push(queue: &Queue, value: u64, make_room: bool) -> Result<(), Failure> {
        // SAFETY: the value has eight bytes.
        unsafe { queue.push(value.to_le_bytes().as_ptr(), make_room) }
    }

    fn next(queue: &Queue, take: bool) -> Result<u64, Failure> {
        let mut value = [0xee; 8];
        // SAFETY: the value has eight bytes.
        let result = unsafe { queue.next(value.as_mut_ptr(), take) };
        let value = u64::from_le_bytes(value);
        assert!(result.is_ok() || value == 0, "what was not written is zeroed");
        result.map(|()| value)
    }

    #[test]
    fn both_orders_agree_with_a_model() {
        for kind in [MapKind::Queue, MapKind::Stack] {
            let (queue, mut model) = (queue(kind, 5), VecDeque::new());
            for step in 0..2000u64 {
                match step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61 {
                    0..=2 if model.len() == 5 => assert_eq!(push(&queue, step, false), Err(Failure::Full)),
                    3 if model.len() == 5 => {
                        push(&queue, step, true).unwrap();
                        model.pop_front();
                        model.push_back(step);
                    }
                    0..=3 => {
                        push(&queue, step, false).unwrap();
                        model.push_back(step);
                    }
                    4 => {
                        let expected = if kind == MapKind::Queue { model.front() } else { model.back() };
                        assert_eq!(next(&queue, false), expected.copied().ok_or(Failure::Missing));
                    }
                    _ => {
                        let expected = if kind == MapKind::Queue { model.pop_front() } else { model.pop_back() };
                        assert_eq!(next(&queue, true), expected.ok_or(Failure::Missing));
                    }
                }
                assert_eq!(queue.len() as usize, model.len());
            }
        }
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let queue = queue(MapKind::Queue, 64);
        let sum = std::sync::atomic::AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for value in 1..=20_000 {
                        while push(&queue, value, false).is_err() {
                            thread::yield_now();
                        }
                    }
                });
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let value = loop {
                            match next(&queue, true) {
                                Ok(value) => break value,
                                Err(_) => thread::yield_now(),
                            }
                        };
                        sum.fetch_add(value, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 2 * (20_000 * 20_001 / 2));
    }
}
