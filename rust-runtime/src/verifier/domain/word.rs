//! What is known of a number of `n` bits: its bits, and where it lies as an unsigned and as a signed number.
//!
//! The width is an argument of every function, so that the same code that checks programs at 64 and 32 bits is proved
//! exhaustively at 4 and 8. Widths are powers of two, as shifts count modulo the width.
//!
//! Every function returns a reduced [`Word`]: both ranges end in members, and the bits that the ranges fix are known.

use super::tnum::{Tnum, ones, sign_extend};
use crate::{
    isa::{Alu, Cond},
    verifier::planted::{Bug, on},
};

/// A set of numbers of `n` bits, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    pub bits: Tnum,
    pub umin: u64,
    pub umax: u64,
    pub smin: i64,
    pub smax: i64,
}

const fn signed_max(n: u32) -> i64 {
    ones(n - 1) as i64
}

const fn signed_min(n: u32) -> i64 {
    -signed_max(n) - 1
}

/// The numbers `low..=high` modulo 2^n as an unsigned range, where they do not wrap inside.
fn wrapped_unsigned(low: i128, high: i128, n: u32) -> Option<(u64, u64)> {
    (low >> n == high >> n).then_some((low as u64 & ones(n), high as u64 & ones(n)))
}

/// The same as a signed range.
fn wrapped_signed(low: i128, high: i128, n: u32) -> Option<(i64, i64)> {
    let half = 1i128 << (n - 1);
    ((low + half) >> n == (high + half) >> n).then_some((sign_extend(low as u64, n), sign_extend(high as u64, n)))
}

/// The lower `n` bits of the numbers `low..=high`, which are of more bits, as an unsigned range, where they do not wrap inside.
fn low_unsigned(low: u64, high: u64, n: u32) -> Option<(u64, u64)> {
    let is_short = high.wrapping_sub(low) <= ones(n);
    (is_short && low >> n == high >> n).then_some((low & ones(n), high & ones(n)))
}

/// The same as a signed range.
fn low_signed(low: u64, high: u64, n: u32) -> Option<(i64, i64)> {
    let half = 1u64 << (n - 1);
    let (from, to) = (low.wrapping_add(half), high.wrapping_add(half));
    low_unsigned(from, to, n).map(|_| (sign_extend(low, n), sign_extend(high, n)))
}

impl Word {
    pub const fn constant(value: u64, n: u32) -> Word {
        let (value, signed) = (value & ones(n), sign_extend(value, n));
        Word { bits: Tnum::constant(value), umin: value, umax: value, smin: signed, smax: signed }
    }

    pub const fn unknown(n: u32) -> Word {
        Word { bits: Tnum::unknown(n), umin: 0, umax: ones(n), smin: signed_min(n), smax: signed_max(n) }
    }

    /// All numbers of these bits.
    pub fn from_bits(bits: Tnum, n: u32) -> Word {
        Word { bits: bits.low(n), ..Word::unknown(n) }.reduce_or_unknown(n)
    }

    fn from_unsigned((umin, umax): (u64, u64), n: u32) -> Word {
        Word { umin, umax, ..Word::unknown(n) }
    }

    fn from_signed((smin, smax): (i64, i64), n: u32) -> Word {
        Word { smin, smax, ..Word::unknown(n) }
    }

    pub fn is_constant(self) -> Option<u64> {
        (self.umin == self.umax).then_some(self.umin)
    }

    pub fn contains(self, number: u64, n: u32) -> bool {
        let signed = sign_extend(number, n);
        self.bits.contains(number)
            && (self.umin..=self.umax).contains(&number)
            && (self.smin..=self.smax).contains(&signed)
    }

    pub fn is_subset_of(self, other: Word) -> bool {
        self.bits.is_subset_of(other.bits)
            && other.umin <= self.umin
            && self.umax <= other.umax
            && other.smin <= self.smin
            && self.smax <= other.smax
    }

    /// The tightest bounds and bits that the parts imply together; None: there is no such number.
    ///
    /// The non-negative and the negative members are two intervals of unsigned numbers. Each shrinks to its outermost members.
    /// Their ends then share all bits that the interval fixes, so that one pass is enough.
    #[inline(always)]
    pub fn reduce(self, n: u32) -> Option<Word> {
        if self.smin >= 0 || self.umax <= signed_max(n) as u64 {
            return self.reduce_non_negative();
        }
        let non_negative = (self.smax >= 0)
            .then(|| self.shrink(self.umin.max(self.smin.max(0) as u64), self.umax.min(self.smax as u64)))
            .flatten();
        let negative = (self.smin < 0)
            .then(|| {
                let (low, high) = (self.smin as u64 & ones(n), self.smax.min(-1) as u64 & ones(n));
                self.shrink(self.umin.max(low), self.umax.min(high))
            })
            .flatten();
        let signed = |number: u64| sign_extend(number, n);
        let word = |(umin, umax): (u64, u64), smin, smax, bits| Word { bits, umin, umax, smin, smax };
        match (non_negative, negative) {
            (None, None) => None,
            (Some(ends), None) | (None, Some(ends)) => {
                let bits = self.bits.intersect(Tnum::range(ends.0, ends.1))?;
                Some(word(ends, signed(ends.0), signed(ends.1), bits))
            }
            (Some(low), Some(high)) => {
                let shared = Tnum::range(low.0, low.1).join(Tnum::range(high.0, high.1));
                let bits = self.bits.intersect(shared)?;
                Some(word((low.0, high.1), signed(high.0), signed(low.1), bits))
            }
        }
    }

    /// The same of numbers that are not negative: one interval.
    #[inline(always)]
    fn reduce_non_negative(self) -> Option<Word> {
        let most = u64::try_from(self.smax).ok()?;
        let (low, high) = self.shrink(self.umin.max(self.smin.max(0) as u64), self.umax.min(most))?;
        let bits = self.bits.intersect(Tnum::range(low, high))?;
        Some(Word { bits, umin: low, umax: high, smin: low as i64, smax: high as i64 })
    }

    /// [`reduce`](Word::reduce) of what was made of a reduced word, and may be that word still.
    #[inline]
    fn reduce_after(self, before: Word, n: u32) -> Option<Word> {
        debug_assert_eq!(before.reduce(n), Some(before));
        if self == before { Some(self) } else { self.reduce(n) }
    }

    /// An interval between its outermost members.
    #[inline]
    fn shrink(self, low: u64, high: u64) -> Option<(u64, u64)> {
        let (low, high) = (self.bits.at_least(low)?, self.bits.at_most(high)?);
        (low <= high).then_some((low, high))
    }

    /// For results of arithmetic, which are never empty.
    fn reduce_or_unknown(self, n: u32) -> Word {
        let reduced = self.reduce(n);
        debug_assert!(reduced.is_some(), "no number of {n} bits is in {self:?}");
        reduced.unwrap_or(Word::unknown(n))
    }

    /// What a planted fault believes, or anything where that is no number.
    fn forced(self, n: u32) -> Word {
        self.reduce(n).unwrap_or(Word::unknown(n))
    }

    pub fn intersect(self, other: Word, n: u32) -> Option<Word> {
        let word = Word {
            bits: self.bits.intersect(other.bits)?,
            umin: self.umin.max(other.umin),
            umax: self.umax.min(other.umax),
            smin: self.smin.max(other.smin),
            smax: self.smax.min(other.smax),
        };
        word.reduce(n)
    }

    /// The least word that holds both.
    pub fn join(self, other: Word) -> Word {
        Word {
            bits: self.bits.join(other.bits),
            umin: self.umin.min(other.umin),
            umax: self.umax.max(other.umax),
            smin: self.smin.min(other.smin),
            smax: self.smax.max(other.smax),
        }
    }

    /// A word that holds both and in which each bound of `self` either stayed or is gone, so that only few can follow.
    pub fn widen(self, other: Word, n: u32) -> Word {
        let joined = self.join(other);
        let changed = joined.bits.mask & !self.bits.mask;
        // Bits below the lowest that changed stay: strides.
        let mask = if changed == 0 { 0 } else { ones(n) & !ones(changed.trailing_zeros()) };
        let everything = Word::unknown(n);
        Word {
            bits: Tnum { value: joined.bits.value & !mask, mask: joined.bits.mask | mask },
            umin: if joined.umin < self.umin { everything.umin } else { self.umin },
            umax: if joined.umax > self.umax { everything.umax } else { self.umax },
            smin: if joined.smin < self.smin { everything.smin } else { self.smin },
            smax: if joined.smax > self.smax { everything.smax } else { self.smax },
        }
        .reduce_or_unknown(n)
    }

    /// The lower `to` bits of a number of `from` bits.
    pub fn low(self, to: u32, from: u32) -> Word {
        if to >= from {
            return self;
        }
        // What is small stays as it is.
        if self.umax <= signed_max(to) as u64 {
            return Word { bits: self.bits.low(to), smin: self.umin as i64, smax: self.umax as i64, ..self };
        }
        let mut word = Word { bits: self.bits.low(to), ..Word::unknown(to) };
        for (low, high) in [(self.umin, self.umax), (self.smin as u64, self.smax as u64)] {
            if let Some((umin, umax)) = low_unsigned(low, high, to) {
                (word.umin, word.umax) = (word.umin.max(umin), word.umax.min(umax));
            }
            if let Some((smin, smax)) = low_signed(low, high, to) {
                (word.smin, word.smax) = (word.smin.max(smin), word.smax.min(smax));
            }
        }
        word.reduce_or_unknown(to)
    }

    /// A number of `from` bits with zeros above.
    pub fn zero_extend(self, from: u32, to: u32) -> Word {
        if from >= to {
            return self;
        }
        Word { bits: self.bits, umin: self.umin, umax: self.umax, smin: self.umin as i64, smax: self.umax as i64 }
    }

    /// A number of `from` bits with its sign above.
    pub fn sign_extend(self, from: u32, to: u32) -> Word {
        if from >= to {
            return self;
        }
        if on(Bug::SignExtension) {
            return self.zero_extend(from, to);
        }
        let bits = self.bits.sign_extend(from).low(to);
        Word { bits, smin: self.smin, smax: self.smax, ..Word::unknown(to) }.reduce_or_unknown(to)
    }

    pub fn alu(self, op: Alu, other: Word, n: u32) -> Word {
        if let (Some(a), Some(b), 32 | 64) = (self.is_constant(), other.is_constant(), n) {
            let width = if n == 64 { crate::isa::Width::W64 } else { crate::isa::Width::W32 };
            return Word::constant(crate::isa::alu(op, width, a, b), n);
        }
        match op {
            Alu::Add => self.add(other, n),
            Alu::Sub => self.sub(other, n),
            Alu::Mul => self.mul(other, n),
            Alu::Div => self.div(other, n),
            Alu::SDiv => self.sdiv(other, n),
            Alu::Mod => self.modulo(other, n),
            Alu::SMod => self.smod(other, n),
            Alu::Or => self.or(other, n),
            Alu::And => self.and(other, n),
            Alu::Xor => Word { bits: self.bits.xor(other.bits), ..Word::unknown(n) }.reduce_or_unknown(n),
            Alu::Lsh => self.shift(other, n, Word::shift_left),
            Alu::Rsh => self.shift(other, n, Word::shift_right),
            Alu::Arsh => self.shift(other, n, Word::shift_arithmetic),
            Alu::Mov => other,
        }
    }

    /// A result between `low` and `high` before it is cut to `n` bits, as unsigned and as signed operands see it.
    #[inline]
    fn wrapped(bits: Tnum, unsigned: (i128, i128), signed: (i128, i128), n: u32) -> Word {
        let everything = Word::unknown(n);
        let (umin, umax) = wrapped_unsigned(unsigned.0, unsigned.1, n).unwrap_or((everything.umin, everything.umax));
        let (smin, smax) = wrapped_signed(signed.0, signed.1, n).unwrap_or((everything.smin, everything.smax));
        Word { bits: bits.low(n), umin, umax, smin, smax }.reduce_or_unknown(n)
    }

    fn unsigned(self) -> (i128, i128) {
        (i128::from(self.umin), i128::from(self.umax))
    }

    fn signed(self) -> (i128, i128) {
        (i128::from(self.smin), i128::from(self.smax))
    }

    fn add(self, other: Word, n: u32) -> Word {
        let sum = |a: (i128, i128), b: (i128, i128)| (a.0 + b.0, a.1 + b.1);
        let (unsigned, signed) = (sum(self.unsigned(), other.unsigned()), sum(self.signed(), other.signed()));
        if on(Bug::SumOverflow) {
            return Word::from_unsigned((unsigned.0 as u64 & ones(n), unsigned.1.min(ones(n).into()) as u64), n)
                .forced(n);
        }
        Word::wrapped(self.bits.add(other.bits), unsigned, signed, n)
    }

    fn sub(self, other: Word, n: u32) -> Word {
        let difference = |a: (i128, i128), b: (i128, i128)| (a.0 - b.1, a.1 - b.0);
        let unsigned = difference(self.unsigned(), other.unsigned());
        if on(Bug::DifferenceOverflow) {
            return Word::from_unsigned((unsigned.0.max(0) as u64, unsigned.1.max(0) as u64), n).forced(n);
        }
        Word::wrapped(self.bits.sub(other.bits), unsigned, difference(self.signed(), other.signed()), n)
    }

    fn mul(self, other: Word, n: u32) -> Word {
        let (a, b) = (self.signed(), other.signed());
        let corners = [a.0 * b.0, a.0 * b.1, a.1 * b.0, a.1 * b.1];
        let signed = corners.iter().fold((i128::MAX, i128::MIN), |(low, high), &at| (low.min(at), high.max(at)));
        // Up to 2^128: beyond i128, and then it wraps anyway.
        let high = u128::from(self.umax) * u128::from(other.umax);
        let unsigned = match i128::try_from(high) {
            Ok(high) => (i128::from(self.umin) * i128::from(other.umin), high),
            Err(_) => (0, i128::MAX),
        };
        if on(Bug::ProductOverflow) {
            return Word::from_unsigned((0, unsigned.1 as u64 & ones(n)), n).forced(n);
        }
        Word::wrapped(self.product_bits(other, n), unsigned, signed, n)
    }

    /// Where nothing is known of one factor, a product has the zeros at the other's end. That is what multiplying gives, sooner.
    fn product_bits(self, other: Word, n: u32) -> Tnum {
        for (one, by) in [(self.bits, other.bits.max()), (other.bits, self.bits.max())] {
            if one == Tnum::unknown(n) && by != 0 {
                return one.shift_left(by.trailing_zeros()).low(n);
            }
        }
        self.bits.mul(other.bits)
    }

    fn and(self, other: Word, n: u32) -> Word {
        // Of two negative numbers the leading ones that both have stay.
        let least = self.smin.min(other.smin);
        let smin = if least < 0 { !(ones(64 - least.leading_ones()) as i64) } else { 0 };
        let (umax, smax) = (self.umax.min(other.umax), self.smax.max(other.smax));
        Word { bits: self.bits.and(other.bits), umin: 0, umax, smin, smax }.reduce_or_unknown(n)
    }

    fn or(self, other: Word, n: u32) -> Word {
        let umin = self.umin.max(other.umin);
        let smin = self.smin.min(other.smin);
        Word { bits: self.bits.or(other.bits), umin, smin, ..Word::unknown(n) }.reduce_or_unknown(n)
    }

    /// Shifts by every count that is possible.
    fn shift(self, other: Word, n: u32, by: fn(Word, u32, u32) -> Word) -> Word {
        // It may be shifted by 0.
        if self == Word::unknown(n) && other.contains(0, n) {
            return self;
        }
        if let Some(count) = other.is_constant() {
            return by(self, count as u32 & (n - 1), n);
        }
        let counts = other.and(Word::constant(u64::from(n - 1), n), n);
        let possible = (counts.umin..=counts.umax).filter(|&count| counts.bits.contains(count));
        let results = possible.map(|count| by(self, count as u32, n));
        results.reduce(Word::join).unwrap_or(Word::unknown(n))
    }

    fn shift_left(self, count: u32, n: u32) -> Word {
        let shifted = |(low, high): (i128, i128)| (low << count, high << count);
        if on(Bug::ShiftOverflow) {
            return Word::from_unsigned((0, self.umax << count & ones(n)), n).forced(n);
        }
        // 64 bits shifted by up to 63 fit 128 signed ones.
        Word::wrapped(self.bits.shift_left(count), shifted(self.unsigned()), shifted(self.signed()), n)
    }

    fn shift_right(self, count: u32, n: u32) -> Word {
        let bits = self.bits.shift_right(count);
        Word { bits, ..Word::from_unsigned((self.umin >> count, self.umax >> count), n) }.reduce_or_unknown(n)
    }

    fn shift_arithmetic(self, count: u32, n: u32) -> Word {
        if on(Bug::ArithmeticShift) {
            return self.shift_right(count, n);
        }
        let wide = self.bits.sign_extend(n);
        let shift = |number: u64| (number as i64 >> count) as u64;
        let bits = Tnum { value: shift(wide.value), mask: shift(wide.mask) }.low(n);
        Word { bits, ..Word::from_signed((self.smin >> count, self.smax >> count), n) }.reduce_or_unknown(n)
    }

    fn div(self, other: Word, n: u32) -> Word {
        if other.umax == 0 {
            return Word::constant(0, n);
        }
        if let Some(divisor) = other.is_constant().filter(|divisor| divisor.is_power_of_two()) {
            return self.shift_right(divisor.trailing_zeros(), n);
        }
        // Division by zero gives zero.
        let least = if other.umin == 0 && !on(Bug::DivisionByZero) { 0 } else { self.umin / other.umax };
        Word::from_unsigned((least, self.umax / other.umin.max(1)), n).reduce_or_unknown(n)
    }

    fn modulo(self, other: Word, n: u32) -> Word {
        // x % 0 = x, and what is less than the divisor stays.
        if other.umax == 0 || self.umax < other.umin {
            return self;
        }
        if let Some(divisor) = other.is_constant().filter(|divisor| divisor.is_power_of_two()) {
            return self.and(Word::constant(divisor - 1, n), n);
        }
        let may_stay = other.umin == 0 && !on(Bug::RemainderByZero);
        let largest = if may_stay { self.umax } else { self.umax.min(other.umax - 1) };
        Word::from_unsigned((0, largest), n).reduce_or_unknown(n)
    }

    fn sdiv(self, other: Word, n: u32) -> Word {
        if on(Bug::SignedDivision) {
            return self.div(other, n);
        }
        let (a, b) = (self.signed(), other.signed());
        let mut ends = (i128::MAX, i128::MIN);
        let mut take = |quotient: i128| ends = (ends.0.min(quotient), ends.1.max(quotient));
        if other.contains(0, n) {
            take(0);
        }
        // Towards zero, the quotient is monotone in both operands while the divisor keeps its sign.
        for (low, high) in [(b.0, b.1.min(-1)), (b.0.max(1), b.1)] {
            if low <= high {
                [a.0 / low, a.0 / high, a.1 / low, a.1 / high].into_iter().for_each(&mut take);
            }
        }
        // The smallest number divided by -1 is itself.
        let signed = wrapped_signed(ends.0, ends.1, n).unwrap_or((signed_min(n), signed_max(n)));
        Word::from_signed(signed, n).reduce_or_unknown(n)
    }

    fn smod(self, other: Word, n: u32) -> Word {
        let (a, b) = (self.signed(), other.signed());
        let has_zero = other.contains(0, n);
        let greatest = (-b.0).max(b.1);
        let least = if b.0 > 0 {
            b.0
        } else if b.1 < 0 {
            -b.1
        } else {
            i128::from(!has_zero)
        };
        // x % 0 = x, and what is nearer to zero than the divisor stays.
        if greatest == 0 || (-a.0).max(a.1) < least {
            return self;
        }
        // The remainder has the dividend's sign and is nearer to zero than both operands.
        let limit = if has_zero { i128::MAX } else { greatest - 1 };
        let smin = if on(Bug::SignedRemainder) { 0 } else { a.0.min(0).max(-limit) };
        let smax = a.1.max(0).min(limit);
        Word::from_signed((smin as i64, smax as i64), n).reduce_or_unknown(n)
    }

    /// What both operands are where `cond` holds; None: it never does.
    pub fn assume(self, cond: Cond, other: Word, n: u32) -> Option<(Word, Word)> {
        match cond {
            Cond::Eq => self.intersect(other, n).map(|both| (both, both)),
            Cond::Ne => Some((self.without(other, n)?, other.without(self, n)?)),
            Cond::Lt => self.less(other, 1, n),
            Cond::Le => self.less(other, u64::from(on(Bug::LessOrEqual)), n),
            Cond::SLt if on(Bug::SignedCompare) => self.less(other, 1, n),
            Cond::Gt => other.less(self, 1, n).map(swap),
            Cond::Ge => other.less(self, 0, n).map(swap),
            Cond::SLt => self.signed_less(other, 1, n),
            Cond::SLe => self.signed_less(other, 0, n),
            Cond::SGt => other.signed_less(self, 1, n).map(swap),
            Cond::SGe => other.signed_less(self, 0, n).map(swap),
            Cond::Set => self.shares_bit(other, n),
        }
    }

    /// What both operands are where `cond` does not hold.
    pub fn assume_not(self, cond: Cond, other: Word, n: u32) -> Option<(Word, Word)> {
        let inverse = match cond {
            Cond::Eq => Cond::Ne,
            Cond::Ne => Cond::Eq,
            Cond::Gt => Cond::Le,
            Cond::Ge => Cond::Lt,
            Cond::Lt => Cond::Ge,
            Cond::Le => Cond::Gt,
            Cond::SGt => Cond::SLe,
            Cond::SGe => Cond::SLt,
            Cond::SLt => Cond::SGe,
            Cond::SLe => Cond::SGt,
            Cond::Set => return self.shares_none(other, n),
        };
        self.assume(inverse, other, n)
    }

    /// Other numbers than `other`, where that is a constant.
    fn without(self, other: Word, n: u32) -> Option<Word> {
        let Some(number) = other.is_constant() else { return Some(self) };
        let signed = sign_extend(number, n);
        if self.is_constant() == Some(number) {
            return None;
        }
        // Bounds cannot say that a number in the middle is missing.
        let mut word = self;
        word.umin += u64::from(word.umin == number) * if on(Bug::Inequality) { 2 } else { 1 };
        word.umax -= u64::from(word.umax == number);
        word.smin += i64::from(word.smin == signed);
        word.smax -= i64::from(word.smax == signed);
        word.reduce_after(self, n)
    }

    /// `self + gap <= other`, unsigned.
    fn less(mut self, mut other: Word, gap: u64, n: u32) -> Option<(Word, Word)> {
        let before = (self, other);
        self.umax = self.umax.min(other.umax.checked_sub(gap)?);
        other.umin = other.umin.max(self.umin.checked_add(gap)?);
        Some((self.reduce_after(before.0, n)?, other.reduce_after(before.1, n)?))
    }

    /// `self + gap <= other`, signed.
    fn signed_less(mut self, mut other: Word, gap: i64, n: u32) -> Option<(Word, Word)> {
        let before = (self, other);
        self.smax = self.smax.min(other.smax.checked_sub(gap)?);
        other.smin = other.smin.max(self.smin.checked_add(gap)?);
        Some((self.reduce_after(before.0, n)?, other.reduce_after(before.1, n)?))
    }

    /// `self & other != 0`
    fn shares_bit(mut self, mut other: Word, n: u32) -> Option<(Word, Word)> {
        let possible = self.bits.max() & other.bits.max();
        if possible == 0 {
            return None;
        }
        if possible.is_power_of_two() || on(Bug::BitsSet) {
            let set = Tnum { value: possible, mask: ones(n) & !possible };
            self.bits = self.bits.intersect(set)?;
            other.bits = other.bits.intersect(set)?;
        }
        Some((self.reduce(n)?, other.reduce(n)?))
    }

    /// `self & other == 0`
    fn shares_none(mut self, mut other: Word, n: u32) -> Option<(Word, Word)> {
        let clear = |bits: u64| Tnum { value: 0, mask: ones(n) & !bits };
        let (ours, theirs) = (self.bits.value, other.bits.value);
        self.bits = self.bits.intersect(clear(theirs))?;
        other.bits = other.bits.intersect(clear(ours))?;
        Some((self.reduce(n)?, other.reduce(n)?))
    }
}

fn swap<T>((a, b): (T, T)) -> (T, T) {
    (b, a)
}
