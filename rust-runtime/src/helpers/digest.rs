//! Hashes and random numbers.

use std::cell::Cell;

use xxhash_rust::xxh3::Xxh3;

use super::{Env, errno, guard};
use crate::maps::words;

/// Bytes that are copied before they are digested: others may change them meanwhile.
const CHUNK: usize = 256;

pub extern "C" fn murmur64(value: u64, _: u64, _: u64, _: u64, _: u64, _: &Env) -> u64 {
    const FACTOR: u64 = 0xd6e8_feb8_6659_fd93;
    let mut x = value;
    x ^= x >> 32;
    x = x.wrapping_mul(FACTOR);
    x ^= x >> 32;
    x = x.wrapping_mul(FACTOR);
    x ^ x >> 32
}

pub extern "C" fn mul128_fold(a: u64, b: u64, _: u64, _: u64, _: u64, _: &Env) -> u64 {
    fold(a, b)
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Hands memory on in chunks that nobody else changes.
///
/// # Safety
/// `size` bytes at `from` must be readable.
unsafe fn chunks(from: u64, size: u64, mut digest: impl FnMut(&[u8])) {
    let mut chunk = [0; CHUNK];
    let mut at = 0;
    while at < size {
        let bytes = CHUNK.min((size - at) as usize);
        // SAFETY: at + bytes <= size, and the chunk holds CHUNK bytes.
        unsafe { words::copy((from + at) as *const u8, chunk.as_mut_ptr(), bytes) };
        digest(&chunk[..bytes]);
        at += bytes as u64;
    }
}

pub extern "C" fn crc32c(data: u64, size: u64, crc: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, errno(libc::EFAULT), || {
        let mut crc = crc as u32;
        // SAFETY: the verifier proved `size` bytes there.
        unsafe { chunks(data, size, |chunk| crc = crc32c::crc32c_append(crc, chunk)) };
        u64::from(crc)
    })
}

pub extern "C" fn xxh3(data: u64, size: u64, seed: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, errno(libc::EFAULT), || {
        let mut state = Xxh3::with_seed(seed);
        // SAFETY: the verifier proved `size` bytes there.
        unsafe { chunks(data, size, |chunk| state.update(chunk)) };
        state.digest()
    })
}

pub extern "C" fn wyhash(data: u64, size: u64, seed: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, errno(libc::EFAULT), || {
        // SAFETY: the verifier proved `size` bytes there.
        unsafe { wyhash_final4(data, size, seed) }
    })
}

/// wyhash final version 4.2 with its default secret (github.com/wangyi-fudan/wyhash, wyhash.h).
///
/// # Safety
/// `size` bytes at `data` must be readable.
unsafe fn wyhash_final4(data: u64, size: u64, seed: u64) -> u64 {
    const SECRET: [u64; 4] =
        [0x2d35_8dcc_aa6c_78a5, 0x8bb8_4b93_962e_acc9, 0x4b33_a62e_d433_d4a3, 0x4d5a_2da5_1de1_aa47];
    // SAFETY: every place below is at most `size` bytes, less those that are read there, from data.
    let (eight, four, one) = unsafe {
        (
            |at: u64| words::eight((data + at) as *const u8),
            |at: u64| words::four((data + at) as *const u8) as u64,
            |at: u64| words::byte((data + at) as *const u8) as u64,
        )
    };
    let mut seed = seed ^ fold(seed ^ SECRET[0], SECRET[1]);
    let (a, b) = match size {
        0 => (0, 0),
        1..=3 => (one(0) << 16 | one(size >> 1) << 8 | one(size - 1), 0),
        4..=16 => {
            let middle = size >> 3 << 2;
            (four(0) << 32 | four(middle), four(size - 4) << 32 | four(size - 4 - middle))
        }
        _ => {
            let (mut at, mut left) = (0, size);
            if left >= 48 {
                let (mut second, mut third) = (seed, seed);
                while left >= 48 {
                    seed = fold(eight(at) ^ SECRET[1], eight(at + 8) ^ seed);
                    second = fold(eight(at + 16) ^ SECRET[2], eight(at + 24) ^ second);
                    third = fold(eight(at + 32) ^ SECRET[3], eight(at + 40) ^ third);
                    (at, left) = (at + 48, left - 48);
                }
                seed ^= second ^ third;
            }
            while left > 16 {
                seed = fold(eight(at) ^ SECRET[1], eight(at + 8) ^ seed);
                (at, left) = (at + 16, left - 16);
            }
            (eight(size - 16), eight(size - 8))
        }
    };
    let product = u128::from(a ^ SECRET[1]) * u128::from(b ^ seed);
    fold(product as u64 ^ SECRET[0] ^ size, (product >> 64) as u64 ^ SECRET[1])
}

pub extern "C" fn get_prandom_u32(_: u64, _: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    thread_local! {
        /// A counter in steps of an odd constant, mixed when it is read (splitmix64). Begins at an address of the thread's own.
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    guard(env, 0, || {
        STATE.with(|state| {
            let begin = || murmur64(std::ptr::from_ref(state) as u64, 0, 0, 0, 0, env);
            let next = if state.get() == 0 { begin() } else { state.get() }.wrapping_add(0x9e37_79b9_7f4a_7c15);
            state.set(next);
            let mixed = (next ^ next >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ mixed >> 31) >> 32
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(helper: super::super::HelperFn, bytes: &[u8], third: u64) -> u64 {
        helper(bytes.as_ptr() as u64, bytes.len() as u64, third, 0, 0, Env::detached())
    }

    #[test]
    fn wyhash_agrees_with_its_authors() {
        // test_vector.cpp of wyhash: seeds count from 0.
        let vectors: [(&str, u64); 7] = [
            ("", 0x9322_8a4d_e0ee_c5a2),
            ("a", 0xc5ba_c3db_1787_13c4),
            ("abc", 0xa97f_2f7b_1d9b_3314),
            ("message digest", 0x786d_1f1d_f380_1df4),
            ("abcdefghijklmnopqrstuvwxyz", 0xdca5_a813_8ad3_7c87),
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", 0xb9e7_34f1_17cf_af70),
            ("12345678901234567890123456789012345678901234567890123456789012345678901234567890", 0x6cc5_eab4_9a92_d617),
        ];
        for (seed, (text, expected)) in vectors.into_iter().enumerate() {
            assert_eq!(on(wyhash, text.as_bytes(), seed as u64), expected, "{text}");
        }
    }

    #[test]
    fn crc_and_xxh3_agree_with_their_definitions() {
        // RFC 3720, B.4: 32 bytes of zeros, and of 0xff.
        assert_eq!(on(crc32c, &[0; 32], 0), 0x8a91_36aa);
        assert_eq!(on(crc32c, &[0xff; 32], 0), 0x62a8_ab43);
        let long: Vec<u8> = (0..1000u32).map(|n| n as u8).collect();
        assert_eq!(on(crc32c, &long[300..], on(crc32c, &long[..300], 0)), on(crc32c, &long, 0));
        for size in [0, 1, 16, 17, 128, 240, 241, 255, 256, 257, 1000] {
            let whole = xxhash_rust::xxh3::xxh3_64_with_seed(&long[..size], 7);
            assert_eq!(on(xxh3, &long[..size], 7), whole, "{size}");
        }
    }

    #[test]
    fn products_fold() {
        assert_eq!(mul128_fold(u64::MAX, u64::MAX, 0, 0, 0, Env::detached()), 1 ^ (u64::MAX - 1));
        assert_eq!(mul128_fold(3, 5, 0, 0, 0, Env::detached()), 15);
    }

    #[test]
    fn random_numbers_differ() {
        let env = Env::detached();
        let numbers: std::collections::HashSet<u64> = (0..1000).map(|_| get_prandom_u32(0, 0, 0, 0, 0, env)).collect();
        assert!(numbers.len() > 990 && numbers.iter().all(|number| *number <= u64::from(u32::MAX)));
    }
}
