//! What the verifier knows of a number: a sound, finite picture of all values that a register may have.
//!
//! ```text
//! tnum     which bits are known
//! word     a number of n bits: known bits, unsigned range, signed range, each sharpened by the others
//! Number   a word of W bits and the word of its lower H bits: what 64- and 32-bit instructions know of each other
//! ```
//!
//! [`Scalar`] is `Number<64, 32>`. The tests run the same code as `Number<4, 2>` and `Number<8, 4>` and try **all** of its
//! states, so that a fault in an operation is found and not sampled.
//!
//! Sound means: if `x` is in `a` and `y` in `b`, then `x op y` is in `a.alu(op, b)`; if moreover `x cond y` holds, then both
//! are in what [`Number::refine`] leaves. Which registers are copies of each other (ids) is the verifier's business.

#[cfg(test)]
mod tests;
mod tnum;
mod word;

pub use tnum::Tnum;
use word::Word;

use std::fmt;

use super::planted::{Bug, on};
use crate::isa::{Alu, ByteOrder, Cond, Width};

/// What is known of a number of `W` bits whose lower `H` bits are its 32-bit subregister. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number<const W: u32, const H: u32> {
    wide: Word,
    half: Word,
}

/// What is known of a register that holds a number.
pub type Scalar = Number<64, 32>;

impl<const W: u32, const H: u32> Number<W, H> {
    pub const fn constant(value: u64) -> Self {
        Number { wide: Word::constant(value, W), half: Word::constant(value, H) }
    }

    pub const fn unknown() -> Self {
        Number { wide: Word::unknown(W), half: Word::unknown(H) }
    }

    /// `low..=high`, unsigned. Everything if `low > high`.
    #[cfg(test)]
    pub fn unsigned(low: u64, high: u64) -> Self {
        let mut number = Self::unknown();
        (number.wide.umin, number.wide.umax) = (low, high);
        number.settle().unwrap_or_default()
    }

    /// `low..=high`, signed. Everything if `low > high`.
    pub fn signed(low: i64, high: i64) -> Self {
        let mut number = Self::unknown();
        (number.wide.smin, number.wide.smax) = (low, high);
        number.settle().unwrap_or_default()
    }

    /// All numbers whose lowest `bits` bits are those of `value`.
    pub fn ending_in(value: u64, bits: u32) -> Self {
        let known = tnum::ones(bits);
        let wide = Word::from_bits(Tnum { value: value & known, mask: !known }, W);
        Number { wide, half: wide.low(H, W) }.settled()
    }

    pub fn is_constant(&self) -> Option<u64> {
        self.wide.is_constant()
    }

    /// Its upper half is zero.
    pub fn is_half(&self) -> bool {
        self.wide.umax <= tnum::ones(H)
    }

    pub fn umin(&self) -> u64 {
        self.wide.umin
    }

    pub fn umax(&self) -> u64 {
        self.wide.umax
    }

    pub fn smin(&self) -> i64 {
        self.wide.smin
    }

    pub fn smax(&self) -> i64 {
        self.wide.smax
    }

    #[cfg(test)]
    pub fn umax32(&self) -> u32 {
        self.half.umax as u32
    }

    #[cfg(test)]
    pub fn smax32(&self) -> i32 {
        self.half.smax as i32
    }

    /// The bits that are known.
    pub fn bits(&self) -> Tnum {
        self.wide.bits
    }

    #[cfg(any(test, feature = "testing"))]
    pub fn contains(&self, value: u64) -> bool {
        self.wide.contains(value, W) && self.half.contains(value & tnum::ones(H), H)
    }

    /// Every number in `self` is in `other`.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.wide.is_subset_of(other.wide) && self.half.is_subset_of(other.half)
    }

    /// What holds of both.
    pub fn join(&self, other: &Self) -> Self {
        if other.is_subset_of(self) {
            return *self;
        }
        if self.is_subset_of(other) {
            return *other;
        }
        Number { wide: self.wide.join(other.wide), half: self.half.join(other.half) }.settled()
    }

    /// As [`join`](Number::join), but a bound of `self` that `other` exceeds is given up: a chain of widenings soon ends.
    pub fn widen(&self, other: &Self) -> Self {
        Number { wide: self.wide.widen(other.wide, W), half: self.half.widen(other.half, H) }.settled()
    }

    /// `self op other`; a 32-bit result is zero-extended. x / 0 = 0, x % 0 = x, the smallest number / -1 is itself.
    pub fn alu(&self, op: Alu, other: &Self, width: Width) -> Self {
        if let (Some(a), Some(b), 64, 32) = (self.is_constant(), other.is_constant(), W, H) {
            return Self::constant(crate::isa::alu(op, width, a, b));
        }
        if width == Width::W32 || self.stays_small(op, other) {
            return Self::zero_extended(self.half.alu(op, other.half, H));
        }
        self.alu_wide(op, other)
    }

    /// Both are wholly in their lower halves and have no sign there, and so is the result: what the lower halves give is all.
    fn stays_small(&self, op: Alu, other: &Self) -> bool {
        let (a, b) = (&self.half, &other.half);
        let fits = match op {
            Alu::Add => a.umax + b.umax <= tnum::ones(H - 1),
            Alu::Sub => a.umin >= b.umax,
            Alu::And | Alu::Or | Alu::Xor => !on(Bug::HalfAfterBitwise),
            _ => false,
        };
        fits && self.is_small() && other.is_small()
    }

    fn is_small(&self) -> bool {
        self.wide.umax <= tnum::ones(H - 1)
    }

    /// `self op other` on all bits.
    fn alu_wide(&self, op: Alu, other: &Self) -> Self {
        // Of any number plus another nothing is known.
        let is_unknown = |number: &Self| *number == Self::unknown();
        if matches!(op, Alu::Add | Alu::Sub | Alu::Xor) && (is_unknown(self) || is_unknown(other)) {
            return Self::unknown();
        }
        let wide = self.wide.alu(op, other.wide, W);
        // The lower half of these depends on the lower halves alone.
        let half = match op {
            Alu::And | Alu::Or | Alu::Xor if on(Bug::HalfAfterBitwise) => self.half,
            Alu::Add | Alu::Sub | Alu::Mul | Alu::Or | Alu::And | Alu::Xor | Alu::Mov => {
                self.half.alu(op, other.half, H)
            }
            Alu::Div | Alu::SDiv | Alu::Mod | Alu::SMod | Alu::Lsh | Alu::Rsh | Alu::Arsh => Word::unknown(H),
        };
        Number { wide, half }.settled()
    }

    pub fn neg(&self, width: Width) -> Self {
        Self::constant(0).alu(Alu::Sub, self, width)
    }

    /// The lower 16, 32 or 64 bits in another byte order; the rest becomes zero.
    pub fn byte_swap(&self, order: ByteOrder, bits: u32) -> Self {
        let low = self.truncate_bits(bits);
        if order == ByteOrder::Little || on(Bug::ByteSwapBounds) {
            return low;
        }
        // The bytes that are swapped end up at the top of a swapped word.
        let swap = |number: u64| number.swap_bytes() >> (64 - bits);
        let swapped = Tnum { value: swap(low.wide.bits.value), mask: swap(low.wide.bits.mask) };
        let wide = Word::from_bits(swapped, W);
        Number { wide, half: wide.low(H, W) }.settled()
    }

    /// The lower `from` bits (8, 16 or 32), sign-extended to the width; at 32 bits the upper half becomes zero.
    pub fn sign_extend(&self, from: u32, width: Width) -> Self {
        let low = self.half.low(from, H);
        let half = low.sign_extend(from, H);
        match width {
            Width::W64 => Number { wide: low.sign_extend(from, W), half }.settled(),
            Width::W32 => Self::zero_extended(half),
        }
    }

    /// The lower half; zeros above.
    pub fn zero_extend32(&self) -> Self {
        if on(Bug::KeepUpperHalf) { *self } else { Self::zero_extended(self.half) }
    }

    /// What a narrow load or store keeps: the lower bytes; zeros above.
    pub fn truncate(&self, bytes: u32) -> Self {
        self.truncate_bits(8 * bytes)
    }

    fn truncate_bits(&self, bits: u32) -> Self {
        if bits >= W { *self } else { Self::zero_extended(self.half.low(bits, H).zero_extend(bits, H)) }
    }

    /// What both operands are where `self cond other` is `taken` (or is not); None: it never is.
    pub fn refine(&self, cond: Cond, width: Width, other: &Self, taken: bool) -> Option<(Self, Self)> {
        if self == other && self.is_constant().is_some() && matches!(cond, Cond::Eq | Cond::Ne) {
            return ((cond == Cond::Eq) == taken).then_some((*self, *other));
        }
        let width = if on(Bug::CompareHalfAsWhole) { Width::W64 } else { width };
        if self.is_small() && other.is_small() {
            let assume = if taken { Word::assume } else { Word::assume_not };
            let (a, b) = assume(self.half, cond, other.half, H)?;
            return Some((Self::zero_extended(a), Self::zero_extended(b)));
        }
        self.refine_any(cond, width, other, taken)
    }

    /// The same for numbers of any size.
    fn refine_any(&self, cond: Cond, width: Width, other: &Self, taken: bool) -> Option<(Self, Self)> {
        let equal = if taken { Cond::Eq } else { Cond::Ne };
        if (width, cond) == (Width::W64, equal) {
            return Some((self.meet(other)?, other.meet(self)?));
        }
        let assume = if taken { Word::assume } else { Word::assume_not };
        let (mut a, mut b) = (*self, *other);
        match width {
            Width::W64 => (a.wide, b.wide) = assume(a.wide, cond, b.wide, W)?,
            Width::W32 => (a.half, b.half) = assume(a.half, cond, b.half, H)?,
        }
        Some((a.settle_after(self)?, b.settle_after(other)?))
    }

    /// The numbers in both; None: there are none.
    pub fn meet(&self, other: &Self) -> Option<Self> {
        if self.is_subset_of(other) {
            return Some(*self);
        }
        let (wide, half) = (self.wide.intersect(other.wide, W)?, self.half.intersect(other.half, H)?);
        Number { wide, half }.settle_after(self)
    }

    /// [`settle`](Number::settle) of what was made of a settled number, and may be that number still.
    fn settle_after(self, before: &Self) -> Option<Self> {
        if self == *before { Some(self) } else { self.settle() }
    }

    /// A number without anything in its upper half.
    fn zero_extended(half: Word) -> Self {
        Number { wide: half.zero_extend(H, W), half }
    }

    /// For results of arithmetic, which are never empty.
    fn settled(self) -> Self {
        let settled = self.settle();
        debug_assert!(settled.is_some(), "no number is in {self:?}");
        settled.unwrap_or_default()
    }

    /// Tells each half of the picture what the other implies; None: there is no such number.
    fn settle(self) -> Option<Self> {
        let Word { umax, smin, smax, .. } = self.wide;
        let most = if smin >= 0 && smax >= 0 { umax.min(smax as u64) } else { umax };
        if most <= tnum::ones(H - 1) { self.settle_small(most) } else { self.settle_any() }
    }

    /// The same for numbers of any size.
    fn settle_any(mut self) -> Option<Self> {
        self.wide = self.wide.reduce(W)?;
        if self.wide.is_constant().is_some() {
            let half = Word::constant(self.wide.umin, H);
            return self.half.intersect(half, H).map(|half| Number { half, ..self });
        }
        // What one round finds can help another once; further rounds are rare and need not be had.
        for _ in 0..2 {
            let half = self.half.intersect(self.wide.low(H, W), H)?;
            let wide = self.lift(half)?;
            let is_settled = wide == self.wide;
            self = Number { wide, half };
            if is_settled {
                break;
            }
        }
        Some(self)
    }

    /// Numbers up to `most`, which are wholly in their lower half and have no sign there: what the two words know is of one range.
    fn settle_small(self, most: u64) -> Option<Self> {
        let Word { bits, smin, .. } = self.wide;
        if bits.value > most {
            return None;
        }
        let half = Word { bits: bits.low(H), umax: most, smin: smin.max(0), ..self.wide }.intersect(self.half, H)?;
        Some(Number { wide: half.zero_extend(H, W), half })
    }

    /// The wide word under what its lower half says.
    fn lift(&self, half: Word) -> Option<Word> {
        let mut wide = self.wide;
        let above = tnum::ones(W) & !tnum::ones(H);
        wide.bits = wide.bits.intersect(Tnum { value: half.bits.value, mask: half.bits.mask | above })?;
        // The nearest numbers inside whose lower half is in its range.
        let (low, high) = (wide.umin & tnum::ones(H), wide.umax & tnum::ones(H));
        if low < half.umin {
            wide.umin += half.umin - low;
        } else if low > half.umax {
            let next = (wide.umin | tnum::ones(H)).checked_add(1)?;
            wide.umin = next + half.umin;
        }
        if high > half.umax {
            wide.umax -= high - half.umax;
        } else if high < half.umin {
            let before = (wide.umax & above).checked_sub(1)?;
            wide.umax = before - (tnum::ones(H) - half.umax);
        }
        // A sign-extended half has the half's signed range.
        let extended = Word::unknown(H);
        if extended.smin <= wide.smin && wide.smax <= extended.smax {
            (wide.smin, wide.smax) = (wide.smin.max(half.smin), wide.smax.min(half.smax));
        }
        if wide == self.wide { Some(wide) } else { wide.reduce(W) }
    }
}

impl<const W: u32, const H: u32> Default for Number<W, H> {
    fn default() -> Self {
        Self::unknown()
    }
}

impl<const W: u32, const H: u32> fmt::Display for Number<W, H> {
    /// The constant, or the bounds that say something, then the known bits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(value) = self.is_constant() {
            return match tnum::sign_extend(value, W) {
                signed @ -4096..0 => write!(f, "{signed}"),
                _ if value < 4096 => write!(f, "{value}"),
                _ => write!(f, "{value:#x}"),
            };
        }
        let everything = Self::unknown();
        if *self == everything {
            return f.write_str("any number");
        }
        let (word, all) = (&self.wide, &everything.wide);
        let mut parts = Vec::new();
        if (word.umin, word.umax) != (all.umin, all.umax) {
            parts.push(format!("{}..={}", word.umin, word.umax));
        }
        if (word.smin, word.smax) != (all.smin, all.smax) && (word.smin < 0 || parts.is_empty()) {
            parts.push(format!("signed {}..={}", word.smin, word.smax));
        }
        if parts.is_empty() && (self.half.umin, self.half.umax) != (everything.half.umin, everything.half.umax) {
            parts.push(format!("lower half {}..={}", self.half.umin, self.half.umax));
        }
        if word.bits != Tnum::range(word.umin, word.umax) {
            parts.push(format!("bits {:#x} known {:#x}", word.bits.value, tnum::ones(W) & !word.bits.mask));
        }
        if parts.is_empty() {
            parts.push(format!("lower half signed {}..={}", self.half.smin, self.half.smax));
        }
        f.write_str(&parts.join(", "))
    }
}
