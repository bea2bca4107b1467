//! Lines that programs write. They wait in a ring of their own; the host takes them out when a query ends.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Env, errno, guard};
use crate::maps::{
    Failure,
    memory::Budget,
    ring::{Records, Ring},
    words,
};

/// Bytes of a line; what is longer is cut.
const LINE: usize = 200;
const LINES_PER_SECOND: u64 = 1000;
const RING: u32 = 1 << 18;

/// Lines that wait to be read.
#[derive(Debug)]
pub struct Print {
    ring: Ring,
    /// The second, and lines in it.
    rate: AtomicU64,
}

impl Print {
    pub fn new() -> Option<Print> {
        let ring = Ring::new(RING, &Budget::new(RING.into())).ok()?;
        Some(Print { ring, rate: AtomicU64::new(0) })
    }

    /// The oldest line.
    pub fn next(&self) -> Option<Vec<u8>> {
        let mut line = Records::default();
        self.ring.drain(1, u64::MAX, &mut line);
        line.iter().next().map(<[u8]>::to_vec)
    }

    fn write(&self, line: &[u8], second: u64) -> Result<(), Failure> {
        let count = |rate: u64| match rate >> 32 == second & 0xffff_ffff {
            true if rate & 0xffff_ffff >= LINES_PER_SECOND => None,
            true => Some(rate + 1),
            false => Some(second << 32 | 1),
        };
        self.rate.try_update(Ordering::Relaxed, Ordering::Relaxed, count).map_err(|_| Failure::NoRoom)?;
        // SAFETY: a slice is readable.
        unsafe { self.ring.output(line.as_ptr(), line.len() as u64) }
    }
}

impl Env {
    /// A line for the log, cut where it is long.
    pub fn log(&self, line: &str) {
        self.log_bytes(&line.as_bytes()[..line.floor_char_boundary(LINE)]);
    }

    /// False: there is no room for it, or too much is written in this second.
    fn log_bytes(&self, line: &[u8]) -> bool {
        let second = super::time::ktime_get_ns(0, 0, 0, 0, 0, self) / 1_000_000_000;
        self.print().is_some_and(|print| print.write(line, second).is_ok())
    }
}

/// A line while it is written.
struct Line {
    bytes: [u8; LINE],
    len: usize,
}

impl Line {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    fn number(&mut self, mut value: u64, base: u64) {
        let (mut digits, mut count) = ([0; 20], 0);
        loop {
            digits[count] = b"0123456789abcdef"[(value % base) as usize];
            (value, count) = (value / base, count + 1);
            if value == 0 {
                break;
            }
        }
        digits[..count].iter().rev().for_each(|digit| self.push(*digit));
    }

    fn signed(&mut self, value: i64) {
        if value < 0 {
            self.push(b'-');
        }
        self.number(value.unsigned_abs(), 10);
    }

    /// Writes what a format says. None: it is not one.
    fn format(&mut self, format: &[u8], arguments: [u64; 3]) -> Option<()> {
        let mut arguments = arguments.into_iter();
        let mut bytes = format.iter().copied().take_while(|byte| *byte != 0).peekable();
        while let Some(byte) = bytes.next() {
            if byte != b'%' {
                self.push(byte);
                continue;
            }
            let mut longs = 0;
            while bytes.next_if_eq(&b'l').is_some() {
                longs += 1;
            }
            let letter = bytes.next().filter(|_| longs <= 2)?;
            if letter == b'%' {
                self.push(letter);
                continue;
            }
            let value = arguments.next()?;
            let is_long = longs > 0;
            match letter {
                b'd' | b'i' => self.signed(if is_long { value as i64 } else { i64::from(value as i32) }),
                b'u' => self.number(if is_long { value } else { u64::from(value as u32) }, 10),
                b'x' => self.number(if is_long { value } else { u64::from(value as u32) }, 16),
                b'c' => self.push(if (0x20..0x7f).contains(&value) { value as u8 } else { b'?' }),
                _ => return None,
            }
        }
        Some(())
    }
}

pub extern "C" fn trace_printk(format: u64, size: u64, a: u64, b: u64, c: u64, env: &Env) -> u64 {
    guard(env, errno(libc::EFAULT), || {
        let mut text = [0; LINE];
        let size = (size as usize).min(LINE);
        // SAFETY: the verifier proved `size` bytes there.
        unsafe { words::copy(format as *const u8, text.as_mut_ptr(), size) };
        let mut line = Line { bytes: [0; LINE], len: 0 };
        if line.format(&text[..size], [a, b, c]).is_none() || line.len == 0 {
            return errno(libc::EINVAL);
        }
        if env.log_bytes(&line.bytes[..line.len]) { line.len as u64 } else { errno(libc::EAGAIN) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(format: &str, arguments: [u64; 3]) -> Option<String> {
        let mut line = Line { bytes: [0; LINE], len: 0 };
        line.format(format.as_bytes(), arguments)?;
        Some(String::from_utf8(line.bytes[..line.len].to_vec()).unwrap())
    }

    #[test]
    fn formats_are_those_of_c() {
        let minus = -5i64 as u64;
        assert_eq!(formatted("%d %u %x", [minus, minus, minus]).unwrap(), "-5 4294967291 fffffffb");
        assert_eq!(formatted("%lld %llu %llx\0rest", [minus, 7, u64::MAX]).unwrap(), "-5 7 ffffffffffffffff");
        assert_eq!(formatted("100%% of %c%c", [65, 7, 0]).unwrap(), "100% of A?");
        assert_eq!(formatted("%ld", [i64::MIN as u64, 0, 0]).unwrap(), i64::MIN.to_string());
        assert_eq!(formatted("%d %d %d %d", [1; 3]), None, "three arguments at most");
        assert_eq!(formatted("%s", [1; 3]), None);
        assert_eq!(formatted("%", [1; 3]), None);
        assert_eq!(formatted(&"x".repeat(500), [0; 3]).unwrap().len(), LINE);
    }

    #[test]
    fn a_second_has_room_for_a_thousand_lines() {
        let print = Print::new().unwrap();
        let written = (0..2000).filter(|_| print.write(b"line", 7).is_ok()).count();
        assert_eq!(written, LINES_PER_SECOND as usize);
        assert!(print.write(b"later", 8).is_ok());
        assert_eq!(std::iter::from_fn(|| print.next()).count(), LINES_PER_SECOND as usize + 1);
    }
}
