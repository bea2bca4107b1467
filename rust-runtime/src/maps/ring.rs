//! Ring buffers: records from many programs to one reader at a time.
//!
//! ```text
//! record   length and two bits (BUSY: not submitted yet, DISCARDED), four bytes | 0, four bytes | content, in words
//! ```
//!
//! A writer moves `reserved` on by one compare-and-exchange and then writes its record's header. Until it did, the reader finds 0
//! there, for it zeroes what it has read before it gives the room back, and waits as for a record that is not submitted.
//! The memory is mapped twice in a row, so that a record which wraps around is contiguous.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use super::{
    Error, Failure,
    memory::{Budget, DoubleSlab},
    words,
};

const HEADER: u64 = 8;
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
/// Bytes after which the reader gives room back: writers look at its position, and lose it from their caches when it moves.
const STEP: u64 = 1 << 14;
/// Tries for room: another program was faster each time.
const TRIES: usize = 128;

#[derive(Debug)]
pub struct Ring {
    slab: DoubleSlab,
    positions: Positions,
    /// Held by the reader.
    reading: Mutex<()>,
}

/// Bytes since the beginning, each on cache lines of its own.
#[derive(Debug)]
#[repr(C, align(128))]
struct Positions {
    reserved: AtomicU64,
    _reader: Padding,
    read: AtomicU64,
    _lost: Padding,
    /// Records for which there was no room, or which reached nobody.
    lost: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(C, align(128))]
struct Padding;

/// What a ring has been through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub waiting_bytes: u64,
    pub lost: u64,
}

/// Records that were taken out of a ring, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Records {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        (0..self.len()).map(|index| {
            let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.bytes[start..self.ends[index]]
        })
    }

    /// # Safety
    /// `size` bytes must be readable at `from`.
    unsafe fn push(&mut self, from: *const u8, size: usize) {
        // SAFETY: the caller's.
        unsafe { words::append(from, size, &mut self.bytes) };
        self.ends.push(self.bytes.len());
    }
}

impl Ring {
    pub fn new(bytes: u32, budget: &Arc<Budget>) -> Result<Ring, Error> {
        let positions = Positions {
            reserved: AtomicU64::new(0),
            _reader: Padding,
            read: AtomicU64::new(0),
            _lost: Padding,
            lost: AtomicU64::new(0),
        };
        Ok(Ring { slab: DoubleSlab::new(bytes.into(), budget)?, positions, reading: Mutex::default() })
    }

    pub fn bytes(&self) -> u64 {
        self.slab.size()
    }

    fn place(&self, position: u64) -> *mut u8 {
        // SAFETY: below the slab's size; another size of bytes follows.
        unsafe { self.slab.base().add((position & (self.slab.size() - 1)) as usize) }
    }

    fn header(&self, position: u64) -> &AtomicU32 {
        // SAFETY: positions are multiples of 8; headers are accessed atomically but when the reader zeroes what is its own.
        unsafe { AtomicU32::from_ptr(self.place(position).cast()) }
    }

    /// Room for a record, zeroed: the address of its content. It must be submitted or discarded.
    pub fn reserve(&self, size: u64) -> Result<*mut u8, Failure> {
        let needed = size.checked_next_multiple_of(8).and_then(|size| size.checked_add(HEADER));
        let needed = needed.filter(|&needed| size > 0 && needed <= self.slab.size()).ok_or(Failure::Full)?;
        let mut at = self.positions.reserved.load(Ordering::Relaxed);
        for _ in 0..TRIES {
            // Acquire: the reader's zeros are there before the room is.
            if at + needed - self.positions.read.load(Ordering::Acquire) > self.slab.size() {
                self.positions.lost.fetch_add(1, Ordering::Relaxed);
                return Err(Failure::NoRoom);
            }
            let next =
                self.positions.reserved.compare_exchange_weak(at, at + needed, Ordering::AcqRel, Ordering::Relaxed);
            match next {
                Ok(_) => {
                    self.header(at).store(size as u32 | BUSY, Ordering::Relaxed);
                    // SAFETY: the content follows the header.
                    return Ok(unsafe { self.place(at).add(HEADER as usize) });
                }
                Err(now) => at = now,
            }
        }
        self.positions.lost.fetch_add(1, Ordering::Relaxed);
        Err(Failure::Busy)
    }

    /// Copies a record in and submits it.
    ///
    /// # Safety
    /// `size` bytes must be readable at `data`.
    pub unsafe fn output(&self, data: *const u8, size: u64) -> Result<(), Failure> {
        let record = self.reserve(size)?;
        // SAFETY: the caller's; the record has room for `size` bytes, and was just reserved.
        unsafe {
            words::copy(data, record, size as usize);
            finish(record, false);
        }
        Ok(())
    }

    /// Takes up to `most` records out that were reserved before position `end`, oldest first. Another reader is waited for.
    pub fn drain(&self, most: usize, end: u64, records: &mut Records) {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = self.positions.read.load(Ordering::Relaxed);
        let mut given = at;
        let end = end.min(self.end());
        let full = records.len().saturating_add(most);
        while at < end && records.len() < full {
            // Acquire: what was written into the record is seen.
            let header = self.header(at).load(Ordering::Acquire);
            let size = u64::from(header & !(BUSY | DISCARDED));
            if header & BUSY != 0 || size == 0 {
                break;
            }
            if header & DISCARDED == 0 {
                // SAFETY: the writer reserved `size` bytes behind the header.
                unsafe { records.push(self.place(at + HEADER), size as usize) };
            }
            at += HEADER + size.next_multiple_of(8);
            if at - given >= STEP {
                self.give_back(given, at);
                given = at;
            }
        }
        self.give_back(given, at);
    }

    /// Room that the reader has done with, as zeros.
    fn give_back(&self, from: u64, to: u64) {
        // SAFETY: what was reserved and not given back is no larger than the slab, and the reader's alone until `read` moves on.
        unsafe { words::fill(self.place(from), 0, (to - from) as usize) };
        self.positions.read.store(to, Ordering::Release);
    }

    /// The position behind the newest record.
    pub fn end(&self) -> u64 {
        self.positions.reserved.load(Ordering::Acquire)
    }

    pub fn counts(&self) -> Counts {
        let Positions { reserved, read, lost, .. } = &self.positions;
        let read = read.load(Ordering::Relaxed);
        let waiting_bytes = reserved.load(Ordering::Relaxed).saturating_sub(read);
        Counts { waiting_bytes, lost: lost.load(Ordering::Relaxed) }
    }

    /// Records that were taken out and reached nobody.
    pub fn lose(&self, records: u64) {
        self.positions.lost.fetch_add(records, Ordering::Relaxed);
    }

    /// How far writing and reading have come.
    pub fn positions(&self) -> (u64, u64) {
        (self.positions.reserved.load(Ordering::Relaxed), self.positions.read.load(Ordering::Relaxed))
    }
}

/// Submits a record, or gives it up.
///
/// # Safety
/// `record` came from [`Ring::reserve`] of a ring that lives, and was not finished yet.
pub unsafe fn finish(record: *mut u8, discard: bool) {
    // SAFETY: the caller's: the header lies before the content.
    let header = unsafe { AtomicU32::from_ptr(record.sub(HEADER as usize).cast()) };
    let size = header.load(Ordering::Relaxed) & !BUSY;
    header.store(size | if discard { DISCARDED } else { 0 }, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn ring(bytes: u32) -> Ring {
        Ring::new(bytes, &Budget::new(1 << 30)).unwrap()
    }

    fn output(ring: &Ring, record: &[u8]) -> Result<(), Failure> {
        // SAFETY: a slice is readable.
        unsafe { ring.output(record.as_ptr(), record.len() as u64) }
    }

    fn drain(ring: &Ring, most: usize) -> Vec<Vec<u8>> {
        let mut records = Records::default();
        ring.drain(most, u64::MAX, &mut records);
        records.iter().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn records_come_out_as_they_went_in() {
        let ring = ring(4096);
        for round in 0..1000u32 {
            let record = vec![round as u8; 1 + (round as usize * 37) % 500];
            output(&ring, &record).unwrap();
            output(&ring, &round.to_le_bytes()).unwrap();
            assert_eq!(drain(&ring, 10), [record, round.to_le_bytes().to_vec()]);
        }
        assert_eq!(ring.counts(), Counts { waiting_bytes: 0, lost: 0 });
    }

    #[test]
    fn a_full_ring_loses_and_counts() {
        let ring = ring(4096);
        for _ in 0..4096 / 16 {
            output(&ring, &[1; 8]).unwrap();
        }
        assert_eq!(output(&ring, &[2; 8]), Err(Failure::NoRoom));
        assert_eq!(ring.counts(), Counts { waiting_bytes: 4096, lost: 1 });
        assert_eq!(drain(&ring, 1).len(), 1);
        output(&ring, &[3; 8]).unwrap();
        assert_eq!(drain(&ring, usize::MAX).len(), 256);
        assert_eq!(output(&ring, &[0; 4096]), Err(Failure::Full), "larger than the ring");
        assert_eq!(ring.reserve(0), Err(Failure::Full));
    }

    #[test]
    fn records_wait_for_those_before_them() {
        let ring = ring(4096);
        let (first, second, third) = (ring.reserve(8).unwrap(), ring.reserve(8).unwrap(), ring.reserve(8).unwrap());
        // SAFETY: each record is finished once.
        unsafe {
            words::write_eight(second, 2);
            finish(second, false);
            assert!(drain(&ring, 9).is_empty());
            finish(first, true);
            assert_eq!(drain(&ring, 9), [2u64.to_le_bytes().to_vec()]);
            finish(third, false);
        }
        assert_eq!(drain(&ring, 9), [vec![0; 8]], "records begin with zeros");
    }

    #[test]
    fn what_comes_later_waits_for_the_next_reader() {
        let ring = ring(4096);
        for number in 0..4u64 {
            output(&ring, &number.to_le_bytes()).unwrap();
        }
        let end = ring.end();
        output(&ring, &[9; 8]).unwrap();
        let mut records = Records::default();
        ring.drain(3, end, &mut records);
        assert_eq!((records.len(), ring.counts().waiting_bytes), (3, 32));
        ring.drain(3, end, &mut records);
        ring.drain(3, end, &mut records);
        let numbers: Vec<u64> = records.iter().map(|record| record[0].into()).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        assert_eq!(drain(&ring, 9), [vec![9; 8]]);
    }

    #[test]
    fn two_writers_and_two_readers_lose_nothing() {
        const EACH: u64 = 100_000;
        let ring = ring(1 << 16);
        let seen = Mutex::new(vec![Vec::new(); 2]);
        thread::scope(|scope| {
            for writer in 0..2u64 {
                let ring = &ring;
                scope.spawn(move || {
                    for number in 0..EACH {
                        while output(ring, &(writer << 32 | number).to_le_bytes()).is_err() {
                            thread::yield_now();
                        }
                    }
                });
            }
            for _ in 0..2 {
                let (ring, seen) = (&ring, &seen);
                scope.spawn(move || {
                    while seen.lock().unwrap().iter().map(Vec::len).sum::<usize>() < 2 * EACH as usize {
                        let mut seen = seen.lock().unwrap();
                        for record in drain(ring, 64) {
                            let value = u64::from_le_bytes(record.try_into().unwrap());
                            seen[(value >> 32) as usize].push(value & 0xffff_ffff);
                        }
                        drop(seen);
                        thread::yield_now();
                    }
                });
            }
        });
        for numbers in seen.into_inner().unwrap() {
            assert!(numbers.iter().copied().eq(0..EACH), "every record once, and in order");
        }
    }
}
