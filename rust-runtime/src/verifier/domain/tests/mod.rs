//! Soundness of every operation, and how often its result is the best possible.
//!
//! ```text
//! tnums     known bits: all pairs
//! words     bits and ranges: all pairs on few bits; on more bits all ranges and all tnums with constants and with each other
//! numbers   a word and its lower half: each step for all of its states, whole operations on samples
//! scalars   64 and 32 bits, at random
//! ```
//!
//! Results are kept as the least word that holds them ([`Seen`]). A word is bits and two ranges at once, so it holds all results
//! if its bits hold theirs and its ranges hold their ends: a pair of states costs a few comparisons, and all pairs can be tried.
//!
//! What ends in seconds is run here; `DUCKBPF_EXHAUSTIVE=1 cargo test --release`, which `cargo xtask fuzz` runs first, takes
//! minutes and wider numbers.

mod numbers;
mod scalars;
mod tnums;
mod words;

use super::{
    tnum::{Tnum, ones, sign_extend},
    word::Word,
};
use crate::isa::{Alu, Cond};

const ALUS: [Alu; 14] = [
    Alu::Add,
    Alu::Sub,
    Alu::Mul,
    Alu::Div,
    Alu::SDiv,
    Alu::Mod,
    Alu::SMod,
    Alu::Or,
    Alu::And,
    Alu::Xor,
    Alu::Lsh,
    Alu::Rsh,
    Alu::Arsh,
    Alu::Mov,
];

const CONDS: [Cond; 11] =
    [Cond::Eq, Cond::Ne, Cond::Gt, Cond::Ge, Cond::Lt, Cond::Le, Cond::Set, Cond::SGt, Cond::SGe, Cond::SLt, Cond::SLe];

/// What an instruction of `n` bits computes, said independently of the code under test.
fn concrete(op: Alu, a: u64, b: u64, n: u32) -> u64 {
    let (sa, sb) = (i128::from(sign_extend(a, n)), i128::from(sign_extend(b, n)));
    let count = b as u32 % n;
    let result = match op {
        Alu::Add => sa + sb,
        Alu::Sub => sa - sb,
        Alu::Mul => sa * sb,
        Alu::Div => i128::from(a.checked_div(b).unwrap_or(0)),
        Alu::SDiv => sa.checked_div(sb).unwrap_or(0),
        Alu::Mod => i128::from(a.checked_rem(b).unwrap_or(a)),
        Alu::SMod => sa.checked_rem(sb).unwrap_or(sa),
        Alu::Or => sa | sb,
        Alu::And => sa & sb,
        Alu::Xor => sa ^ sb,
        Alu::Lsh => i128::from(a) << count,
        Alu::Rsh => i128::from(a >> count),
        Alu::Arsh => sa >> count,
        Alu::Mov => sb,
    };
    result as u64 & ones(n)
}

fn holds(cond: Cond, a: u64, b: u64, n: u32) -> bool {
    let (sa, sb) = (sign_extend(a, n), sign_extend(b, n));
    match cond {
        Cond::Eq => a == b,
        Cond::Ne => a != b,
        Cond::Gt => a > b,
        Cond::Ge => a >= b,
        Cond::Lt => a < b,
        Cond::Le => a <= b,
        Cond::Set => a & b != 0,
        Cond::SGt => sa > sb,
        Cond::SGe => sa >= sb,
        Cond::SLt => sa < sb,
        Cond::SLe => sa <= sb,
    }
}

/// A small generator of numbers (splitmix64): the same ones each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Numbers at which arithmetic goes wrong, and any others.
    fn interesting(&mut self) -> u64 {
        let near = self.next() % 5;
        let edge = match self.below(6) {
            0 => 0,
            1 => 1 << self.below(64),
            2 => u64::MAX << self.below(64),
            3 => u64::from(self.next() as u32),
            4 => return self.next() >> self.below(64),
            _ => return self.next(),
        };
        edge.wrapping_add(near).wrapping_sub(2)
    }

    fn sample<T: Clone>(&mut self, from: &[T], count: usize) -> Vec<T> {
        (0..count).map(|_| from[self.below(from.len())].clone()).collect()
    }
}

fn is_exhaustive() -> bool {
    std::env::var_os("DUCKBPF_EXHAUSTIVE").is_some()
}

/// How many results were the best there are.
#[derive(Default)]
struct Share {
    best: u64,
    of: u64,
}

impl Share {
    fn count(&mut self, is_best: bool) {
        self.best += u64::from(is_best);
        self.of += 1;
    }

    fn percent(&self) -> f64 {
        100.0 * self.best as f64 / self.of as f64
    }
}

/// How precise an operation is, by the same pairs each time: these many results are the best. Where a change makes it more or
/// less, the new counts are written down after they were looked at.
fn assert_best(shares: &[Share], known: &[u64]) {
    let best: Vec<u64> = shares.iter().map(|share| share.best).collect();
    assert!(is_exhaustive() || best == known, "precision changed: {best:?} are best, not {known:?}");
}

/// The least word that holds all numbers that were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// Bits that all of them have set, and that any has.
    all: u64,
    any: u64,
    umin: u64,
    umax: u64,
    smin: i64,
    smax: i64,
}

impl Seen {
    const NOTHING: Seen = Seen { all: u64::MAX, any: 0, umin: u64::MAX, umax: 0, smin: i64::MAX, smax: i64::MIN };

    fn of(number: u64, n: u32) -> Seen {
        let signed = sign_extend(number, n);
        Seen { all: number, any: number, umin: number, umax: number, smin: signed, smax: signed }
    }

    fn all_of(numbers: impl Iterator<Item = u64>, n: u32) -> Seen {
        numbers.fold(Seen::NOTHING, |seen, number| seen.and(Seen::of(number, n)))
    }

    fn and(self, other: Seen) -> Seen {
        Seen {
            all: self.all & other.all,
            any: self.any | other.any,
            umin: self.umin.min(other.umin),
            umax: self.umax.max(other.umax),
            smin: self.smin.min(other.smin),
            smax: self.smax.max(other.smax),
        }
    }

    fn is_nothing(self) -> bool {
        self.umin > self.umax
    }

    /// Of something.
    fn word(self) -> Word {
        let Seen { all, any, umin, umax, smin, smax } = self;
        Word { bits: Tnum { value: all, mask: any & !all }, umin, umax, smin, smax }
    }

    /// Whether all that was seen is in a word.
    fn is_in(self, word: Word) -> bool {
        let Tnum { value, mask } = word.bits;
        let bits_fit = self.any & !self.all & !mask == 0 && self.all & !mask == value;
        let ranges_fit =
            word.umin <= self.umin && self.umax <= word.umax && word.smin <= self.smin && self.smax <= word.smax;
        self.is_nothing() || bits_fit && ranges_fit
    }
}

/// A state of up to 8 bits and its members.
#[derive(Clone, Debug)]
struct Shape {
    word: Word,
    members: Vec<u8>,
}

impl Shape {
    fn new(word: Word, n: u32) -> Shape {
        let members = (0..=ones(n)).filter(|&number| word.contains(number, n)).map(|number| number as u8).collect();
        Shape { word, members }
    }

    fn numbers(&self) -> impl Iterator<Item = u64> + Clone + '_ {
        self.members.iter().copied().map(u64::from)
    }
}

/// Every tnum of `n` bits; what it is made of by its highest unknown bit comes before it.
fn tnums(n: u32) -> Vec<Tnum> {
    let all = (0..=ones(n)).flat_map(|mask| (0..=ones(n)).map(move |value| Tnum { value, mask }));
    all.filter(|tnum| tnum.value & tnum.mask == 0).collect()
}

fn members(tnum: Tnum) -> impl Iterator<Item = u64> {
    // Counts through the bits of the mask.
    let mut next = Some(0u64);
    std::iter::from_fn(move || {
        let now = next?;
        next = (now != tnum.mask).then(|| now.wrapping_sub(tnum.mask) & tnum.mask);
        Some(tnum.value | now)
    })
}

/// The best that a tnum can say of some numbers.
fn best_bits(numbers: impl Iterator<Item = u64>) -> Tnum {
    let (all, any) = numbers.fold((u64::MAX, 0), |(all, any), number| (all & number, any | number));
    Tnum { value: all, mask: any & !all }
}
