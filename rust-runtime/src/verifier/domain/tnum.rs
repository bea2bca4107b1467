//! Tristate numbers: of each bit, whether it is 0, 1 or unknown.
//!
//! "Sound, Precise, and Fast Abstract Interpretation with Tristate Numbers" (Vishwanathan et al., CGO 2022) proves the
//! arithmetic here. All of it works on 64 bits; a narrower number has zeros above, and [`Tnum::low`] cuts results down.

use crate::verifier::planted::{Bug, on};

/// Bits that are known (`value`) and bits that are not (`mask`). A bit is never in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tnum {
    pub value: u64,
    pub mask: u64,
}

impl Tnum {
    pub const fn constant(value: u64) -> Tnum {
        Tnum { value, mask: 0 }
    }

    /// Nothing is known of the lower bits.
    pub const fn unknown(bits: u32) -> Tnum {
        Tnum { value: 0, mask: ones(bits) }
    }

    /// The bits that all numbers from `low` to `high` share.
    pub fn range(low: u64, high: u64) -> Tnum {
        let differ = ones(64 - (low ^ high).leading_zeros());
        Tnum { value: low & !differ, mask: differ }
    }

    /// The greatest member, as an unsigned number.
    pub fn max(self) -> u64 {
        self.value | self.mask
    }

    pub fn contains(self, number: u64) -> bool {
        number & !self.mask == self.value
    }

    pub fn is_subset_of(self, other: Tnum) -> bool {
        self.mask & !other.mask == 0 && self.value & !other.mask == other.value
    }

    /// What is known by either; None where they contradict each other.
    pub fn intersect(self, other: Tnum) -> Option<Tnum> {
        let conflict = (self.value ^ other.value) & !self.mask & !other.mask;
        let mask = self.mask & other.mask;
        (conflict == 0).then_some(Tnum { value: (self.value | other.value) & !mask, mask })
    }

    /// What is known by both.
    pub fn join(self, other: Tnum) -> Tnum {
        let mask = self.mask | other.mask | (self.value ^ other.value);
        Tnum { value: self.value & !mask, mask }
    }

    /// The lower bits; zeros above.
    pub fn low(self, bits: u32) -> Tnum {
        Tnum { value: self.value & ones(bits), mask: self.mask & ones(bits) }
    }

    /// The lower `bits`, the highest of them repeated up to bit 63.
    pub fn sign_extend(self, bits: u32) -> Tnum {
        let extend = |number: u64| sign_extend(number, bits) as u64;
        Tnum { value: extend(self.value), mask: extend(self.mask) }
    }

    pub fn add(self, other: Tnum) -> Tnum {
        let masks = self.mask.wrapping_add(other.mask);
        let values = self.value.wrapping_add(other.value);
        let carries = if on(Bug::TnumCarry) { 0 } else { masks.wrapping_add(values) ^ values };
        let mask = carries | self.mask | other.mask;
        Tnum { value: values & !mask, mask }
    }

    pub fn sub(self, other: Tnum) -> Tnum {
        let values = self.value.wrapping_sub(other.value);
        let borrows = values.wrapping_add(self.mask) ^ values.wrapping_sub(other.mask);
        let mask = borrows | self.mask | other.mask;
        Tnum { value: values & !mask, mask }
    }

    pub fn and(self, other: Tnum) -> Tnum {
        let value = self.value & other.value;
        Tnum { value, mask: self.max() & other.max() & !value }
    }

    pub fn or(self, other: Tnum) -> Tnum {
        let value = self.value | other.value;
        Tnum { value, mask: (self.mask | other.mask) & !value }
    }

    pub fn xor(self, other: Tnum) -> Tnum {
        let mask = self.mask | other.mask;
        Tnum { value: (self.value ^ other.value) & !mask, mask }
    }

    /// Long multiplication: each bit of `self` that may be set adds what `other` does not know, shifted.
    pub fn mul(self, other: Tnum) -> Tnum {
        let mut unknown = Tnum::constant(0);
        let mut bits = self.max();
        while bits != 0 {
            let bit = bits.trailing_zeros();
            let added = if self.value >> bit & 1 == 1 { other.mask } else { other.max() };
            unknown = unknown.add(Tnum { value: 0, mask: added << bit });
            bits &= bits - 1;
        }
        Tnum::constant(self.value.wrapping_mul(other.value)).add(unknown)
    }

    pub fn shift_left(self, count: u32) -> Tnum {
        Tnum { value: self.value << count, mask: self.mask << count }
    }

    pub fn shift_right(self, count: u32) -> Tnum {
        Tnum { value: self.value >> count, mask: self.mask >> count }
    }

    /// The smallest member that is at least `from`.
    #[inline]
    pub fn at_least(self, from: u64) -> Option<u64> {
        let near = self.value | from & self.mask;
        if near == from {
            return Some(near);
        }
        // The highest bit that differs is a known one.
        let bit = 63 - (near ^ from).leading_zeros();
        if near > from {
            return Some(near & !(self.mask & ones(bit)));
        }
        // Carry into the lowest unknown bit above that is 0.
        let free = self.mask & !near & !ones(bit);
        let carry = free & free.wrapping_neg();
        (carry != 0).then(|| (near | carry) & !(self.mask & (carry - 1)))
    }

    /// The greatest member that is at most `to`.
    #[inline]
    pub fn at_most(self, to: u64) -> Option<u64> {
        let near = self.value | to & self.mask;
        if near == to {
            return Some(near);
        }
        let bit = 63 - (near ^ to).leading_zeros();
        if near < to {
            return Some(near | self.mask & ones(bit));
        }
        // Borrow from the lowest unknown bit above that is 1.
        let set = self.mask & near & !ones(bit);
        let borrow = set & set.wrapping_neg();
        (borrow != 0).then(|| near & !borrow | self.mask & (borrow - 1))
    }
}

/// A number whose lower `bits` are ones.
pub const fn ones(bits: u32) -> u64 {
    if bits == 0 { 0 } else { u64::MAX >> (64 - bits) }
}

/// The lower `bits` as a signed number.
pub const fn sign_extend(number: u64, bits: u32) -> i64 {
    (number << (64 - bits)) as i64 >> (64 - bits)
}
