//! Access to memory that other threads may change at the same time: word by word, so that nothing smaller than what is
//! accessed at once ever tears, and the compiler assumes nothing of what it read before.
//!
//! All accesses are volatile and of at most eight bytes. On x86-64 an aligned one is a single instruction.

use std::ptr;

/// Eight bytes, wherever they lie.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Eight(u64);

/// Four bytes, wherever they lie.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Four(u32);

/// # Safety
/// The byte must be readable.
pub unsafe fn byte(from: *const u8) -> u8 {
    // SAFETY: the caller's.
    unsafe { ptr::read_volatile(from) }
}

/// # Safety
/// Four bytes must be readable.
pub unsafe fn four(from: *const u8) -> u32 {
    // SAFETY: the caller's; Four asks for no alignment.
    unsafe { ptr::read_volatile(from.cast::<Four>()).0 }
}

/// # Safety
/// Eight bytes must be readable.
pub unsafe fn eight(from: *const u8) -> u64 {
    // SAFETY: the caller's; Eight asks for no alignment.
    unsafe { ptr::read_volatile(from.cast::<Eight>()).0 }
}

/// # Safety
/// Eight bytes must be writable.
pub unsafe fn write_eight(to: *mut u8, value: u64) {
    // SAFETY: the caller's; Eight asks for no alignment.
    unsafe { ptr::write_volatile(to.cast::<Eight>(), Eight(value)) }
}

/// # Safety
/// `size` bytes must be readable at `from`.
pub unsafe fn append(from: *const u8, size: usize, bytes: &mut Vec<u8>) {
    let at = bytes.len();
    bytes.resize(at + size, 0);
    // SAFETY: the caller's; the vector holds `size` bytes from `at` on.
    unsafe { copy(from, bytes.as_mut_ptr().add(at), size) };
}

/// # Safety
/// `size` bytes must be readable at `from`.
pub unsafe fn read(from: *const u8, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size);
    // SAFETY: the caller's.
    unsafe { append(from, size, &mut bytes) };
    bytes
}

/// Copies upwards, eight bytes at a time and the rest byte by byte.
///
/// # Safety
/// `size` bytes must be readable at `from` and writable at `to`.
pub unsafe fn copy(from: *const u8, to: *mut u8, size: usize) {
    let mut at = 0;
    while at + 8 <= size {
        // SAFETY: the caller's; at + 8 <= size.
        unsafe { ptr::write_volatile(to.add(at).cast::<Eight>(), Eight(eight(from.add(at)))) };
        at += 8;
    }
    while at < size {
        // SAFETY: the caller's; at < size.
        unsafe { ptr::write_volatile(to.add(at), byte(from.add(at))) };
        at += 1;
    }
}

/// As [`copy`], also where the places overlap.
///
/// # Safety
/// As for [`copy`].
pub unsafe fn copy_overlapping(from: *const u8, to: *mut u8, size: usize) {
    // Upwards, a word is written only after it was read: what is read later lies above it, unless `to` lies inside of the source.
    if !(from as usize..from as usize + size).contains(&(to as usize)) {
        // SAFETY: the caller's.
        return unsafe { copy(from, to, size) };
    }
    let mut at = size;
    while at >= 8 {
        at -= 8;
        // SAFETY: the caller's; at + 8 <= size.
        unsafe { ptr::write_volatile(to.add(at).cast::<Eight>(), Eight(eight(from.add(at)))) };
    }
    while at > 0 {
        at -= 1;
        // SAFETY: the caller's; at < size.
        unsafe { ptr::write_volatile(to.add(at), byte(from.add(at))) };
    }
}

/// # Safety
/// `size` bytes must be writable at `to`.
pub unsafe fn fill(to: *mut u8, value: u8, size: usize) {
    let word = Eight(u64::from_ne_bytes([value; 8]));
    let mut at = 0;
    while at + 8 <= size {
        // SAFETY: the caller's; at + 8 <= size.
        unsafe { ptr::write_volatile(to.add(at).cast::<Eight>(), word) };
        at += 8;
    }
    while at < size {
        // SAFETY: the caller's; at < size.
        unsafe { ptr::write_volatile(to.add(at), value) };
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_copied_and_filled() {
        for size in 0..40usize {
            let from: Vec<u8> = (1..=size as u8).collect();
            let mut to = vec![0xee; size + 1];
            // SAFETY: both hold `size` bytes.
            unsafe { copy(from.as_ptr(), to.as_mut_ptr(), size) };
            assert_eq!((&to[..size], to[size]), (&from[..], 0xee));
            // SAFETY: as above.
            unsafe { fill(to.as_mut_ptr(), 7, size) };
            assert_eq!((&to[..size], to[size]), (&vec![7; size][..], 0xee));
        }
    }

    #[test]
    fn overlapping_places_are_copied_as_if_apart() {
        for size in 0..30usize {
            for (from, to) in (0..12).flat_map(|from| (0..12).map(move |to| (from, to))) {
                let mut bytes: Vec<u8> = (0..60).collect();
                let expected: Vec<u8> = bytes[from..from + size].to_vec();
                let place = bytes.as_mut_ptr();
                // SAFETY: all places lie within the 60 bytes.
                unsafe { copy_overlapping(place.add(from), place.add(to), size) };
                assert_eq!(bytes[to..to + size], expected[..], "{size} bytes from {from} to {to}");
            }
        }
    }
}
