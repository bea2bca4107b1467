//! Which entries of a slab are free: a stack without locks, filled lazily, and the limbo in front of it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// No entry.
pub const NONE: u32 = u32::MAX;
/// Tries before an operation gives up: another thread was faster each time.
const TRIES: usize = 128;

/// The stack's head: an index, and a number that changes with every operation, so that a head that was taken and put back
/// meanwhile is not mistaken for one that stayed.
#[derive(Debug)]
struct Head(AtomicU64);

impl Head {
    const fn empty() -> Head {
        Head(AtomicU64::new(NONE as u64))
    }
}

fn index(head: u64) -> u32 {
    head as u32
}

fn with_index(head: u64, index: u32) -> u64 {
    ((head >> 32).wrapping_add(1) << 32) | u64::from(index)
}

/// Entries from 0 to a capacity. `link` gives an entry's own word, which only its owner and this list use.
#[derive(Debug)]
pub struct FreeList {
    free: Head,
    limbo: Head,
    /// Entries from here on were never used.
    fresh: AtomicU32,
    capacity: u32,
}

impl FreeList {
    pub fn new(capacity: u32) -> FreeList {
        FreeList { free: Head::empty(), limbo: Head::empty(), fresh: AtomicU32::new(0), capacity }
    }

    /// Entries that were ever used: those below.
    pub fn used(&self) -> u32 {
        self.fresh.load(Ordering::Acquire).min(self.capacity)
    }

    /// An entry for the caller alone; true: it was used before. None: there is none, or too many want one.
    pub fn pop<'a>(&self, link: impl Fn(u32) -> &'a AtomicU32) -> Option<(u32, bool)> {
        let mut head = self.free.0.load(Ordering::Acquire);
        for _ in 0..TRIES {
            if index(head) == NONE {
                return self.take_fresh().map(|entry| (entry, false));
            }
            // It may be gone already and its word mean something else: then the head has changed and this was for nothing.
            let next = link(index(head)).load(Ordering::Relaxed);
            match self.free.0.compare_exchange_weak(head, with_index(head, next), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some((index(head), true)),
                Err(now) => head = now,
            }
        }
        None
    }

    fn take_fresh(&self) -> Option<u32> {
        // Bounded, so that it never wraps.
        let next = |fresh: u32| (fresh < self.capacity).then_some(fresh + 1);
        self.fresh.try_update(Ordering::AcqRel, Ordering::Relaxed, next).ok()
    }

    /// An entry that nobody but the caller knows is free at once.
    pub fn push<'a>(&self, entry: u32, link: impl Fn(u32) -> &'a AtomicU32) {
        push_chain(&self.free, entry, entry, &link);
    }

    /// An entry that programs may still hold waits.
    pub fn retire<'a>(&self, entry: u32, link: impl Fn(u32) -> &'a AtomicU32) {
        push_chain(&self.limbo, entry, entry, &link);
    }

    /// Takes all that waits: the first of a chain.
    pub fn take_retired(&self) -> Option<u32> {
        let taken = |head: u64| (index(head) != NONE).then(|| with_index(head, NONE));
        self.limbo.0.try_update(Ordering::AcqRel, Ordering::Acquire, taken).ok().map(index)
    }

    /// Frees a chain that was taken; returns how many there were.
    pub fn release<'a>(&self, first: u32, link: impl Fn(u32) -> &'a AtomicU32) -> u32 {
        let (mut last, mut count) = (first, 1);
        loop {
            match link(last).load(Ordering::Relaxed) {
                NONE => break,
                next => (last, count) = (next, count + 1),
            }
        }
        push_chain(&self.free, first, last, &link);
        count
    }
}

/// Not bounded by tries: somebody always gets on, and each does it once an operation.
fn push_chain<'a>(to: &Head, first: u32, last: u32, link: &impl Fn(u32) -> &'a AtomicU32) {
    let mut head = to.0.load(Ordering::Relaxed);
    loop {
        link(last).store(index(head), Ordering::Relaxed);
        match to.0.compare_exchange_weak(head, with_index(head, first), Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => head = now,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn entries_are_given_once_and_come_back() {
        let links: Vec<AtomicU32> = (0..4).map(|_| AtomicU32::new(0)).collect();
        let link = |entry: u32| &links[entry as usize];
        let list = FreeList::new(4);
        let all: Vec<_> = (0..4).map(|_| list.pop(link).unwrap()).collect();
        assert_eq!(all, [(0, false), (1, false), (2, false), (3, false)]);
        assert_eq!(list.pop(link), None);
        list.push(2, link);
        assert_eq!(list.pop(link), Some((2, true)));
        list.retire(1, link);
        list.retire(3, link);
        assert_eq!(list.pop(link), None, "what waits is not free");
        let chain = list.take_retired().unwrap();
        assert_eq!(list.take_retired(), None);
        assert_eq!(list.release(chain, link), 2);
        assert!(list.pop(link).is_some() && list.pop(link).is_some() && list.pop(link).is_none());
    }

    #[test]
    fn threads_never_share_an_entry() {
        const ENTRIES: u32 = 8;
        let links: Vec<AtomicU32> = (0..ENTRIES).map(|_| AtomicU32::new(0)).collect();
        let owners: Vec<AtomicU32> = (0..ENTRIES).map(|_| AtomicU32::new(0)).collect();
        let link = |entry: u32| &links[entry as usize];
        let list = FreeList::new(ENTRIES);
        thread::scope(|scope| {
            for worker in 1..=4 {
                let (list, owners) = (&list, &owners);
                scope.spawn(move || {
                    for round in 0..50_000u32 {
                        let Some((entry, _)) = list.pop(link) else { continue };
                        let owner = &owners[entry as usize];
                        assert_eq!(owner.swap(worker, Ordering::SeqCst), 0, "two own one entry");
                        owner.store(0, Ordering::SeqCst);
                        if round % 3 == 0 {
                            list.retire(entry, link);
                            if let Some(chain) = list.take_retired() {
                                list.release(chain, link);
                            }
                        } else {
                            list.push(entry, link);
                        }
                    }
                });
            }
        });
        let left = std::iter::from_fn(|| list.pop(link)).count();
        assert_eq!(left, ENTRIES as usize, "none is lost");
    }
}
