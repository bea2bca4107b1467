//! Copying and comparing bytes of a program's memory. Others may write to map values meanwhile, so that they are read and
//! written a word at a time, never as a slice.

use super::{Env, errno, guard};
use crate::maps::words;

pub extern "C" fn memcpy(to: u64, from: u64, size: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, errno(libc::EFAULT), || {
        // SAFETY: the verifier proved `size` bytes at both places.
        unsafe { words::copy_overlapping(from as *const u8, to as *mut u8, size as usize) };
        0
    })
}

pub extern "C" fn memset(to: u64, byte: u64, size: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, errno(libc::EFAULT), || {
        // SAFETY: the verifier proved `size` bytes there.
        unsafe { words::fill(to as *mut u8, byte as u8, size as usize) };
        0
    })
}

pub extern "C" fn memcmp(a: u64, b: u64, size: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, errno(libc::EFAULT), || {
        for at in 0..size {
            // SAFETY: the verifier proved `size` bytes at both places.
            let (a, b) = unsafe { (words::byte((a + at) as *const u8), words::byte((b + at) as *const u8)) };
            if a != b {
                return (i64::from(a) - i64::from(b)) as u64;
            }
        }
        0
    })
}

pub extern "C" fn strncmp(a: u64, size: u64, b: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, errno(libc::EFAULT), || {
        for at in 0..size {
            // SAFETY: the verifier proved `size` bytes at a, and that b ends in a zero byte, beyond which nothing is read.
            let (a, b) = unsafe { (words::byte((a + at) as *const u8), words::byte((b + at) as *const u8)) };
            if a != b {
                return (i64::from(a) - i64::from(b)) as u64;
            }
            if a == 0 {
                break;
            }
        }
        0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(bytes: &[u8]) -> u64 {
        bytes.as_ptr() as u64
    }

    #[test]
    fn bytes_are_copied_set_and_compared() {
        let env = Env::detached();
        let mut bytes: Vec<u8> = (0..40).collect();
        let place = bytes.as_mut_ptr() as u64;
        memcpy(place + 3, place, 30, 0, 0, env);
        assert_eq!(bytes[3..33], (0..30).collect::<Vec<u8>>()[..], "overlapping upwards");
        memcpy(place, place + 3, 30, 0, 0, env);
        assert_eq!(bytes[..30], (0..30).collect::<Vec<u8>>()[..], "overlapping downwards");
        memset(place + 1, 0x1ff, 20, 0, 0, env);
        assert_eq!((bytes[0], &bytes[1..21], bytes[21]), (0, &[0xff; 20][..], 21));
        assert_eq!(memcmp(address(b"abc"), address(b"abd"), 3, 0, 0, env) as i64, -1);
        assert_eq!(memcmp(address(b"abc"), address(b"abd"), 2, 0, 0, env), 0);
    }

    #[test]
    fn strings_end_at_zero_or_at_the_size() {
        let env = Env::detached();
        let compare = |a: &[u8], b: &[u8]| strncmp(address(a), a.len() as u64, address(b), 0, 0, env) as i64;
        assert_eq!(compare(b"scan\0xx", b"scan\0yy"), 0);
        assert_eq!(compare(b"sca", b"scan\0"), 0, "a is compared up to its size");
        assert!(compare(b"scan\0", b"scat\0") < 0);
        assert!(compare(b"scan\0", b"sca\0") > 0);
    }
}
