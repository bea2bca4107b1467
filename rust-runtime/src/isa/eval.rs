//! What arithmetic and comparisons compute.

use super::{Alu, ByteOrder, Cond, Width};

/// `a op b`. 32-bit results are zero-extended; x / 0 = 0, x % 0 = x; shifts count modulo the width.
pub fn alu(op: Alu, width: Width, a: u64, b: u64) -> u64 {
    match width {
        Width::W64 => alu64(op, a, b),
        Width::W32 => u64::from(alu32(op, a as u32, b as u32)),
    }
}

macro_rules! define_alu {
    ($name:ident, $unsigned:ty, $signed:ty) => {
        fn $name(op: Alu, a: $unsigned, b: $unsigned) -> $unsigned {
            let (signed_a, signed_b) = (a as $signed, b as $signed);
            match op {
                Alu::Add => a.wrapping_add(b),
                Alu::Sub => a.wrapping_sub(b),
                Alu::Mul => a.wrapping_mul(b),
                Alu::Div => a.checked_div(b).unwrap_or(0),
                Alu::Mod => a.checked_rem(b).unwrap_or(a),
                // The smallest number divided by -1 is itself.
                Alu::SDiv => (if b == 0 { 0 } else { signed_a.wrapping_div(signed_b) }) as $unsigned,
                Alu::SMod => (if b == 0 { signed_a } else { signed_a.wrapping_rem(signed_b) }) as $unsigned,
                Alu::Or => a | b,
                Alu::And => a & b,
                Alu::Xor => a ^ b,
                Alu::Lsh => a.wrapping_shl(b as u32),
                Alu::Rsh => a.wrapping_shr(b as u32),
                Alu::Arsh => signed_a.wrapping_shr(b as u32) as $unsigned,
                Alu::Mov => b,
            }
        }
    };
}

define_alu!(alu64, u64, i64);
define_alu!(alu32, u32, i32);

/// Whether a branch is taken.
pub fn compare(cond: Cond, width: Width, a: u64, b: u64) -> bool {
    let (a, b, signed_a, signed_b) = match width {
        Width::W64 => (a, b, a as i64, b as i64),
        Width::W32 => {
            (u64::from(a as u32), u64::from(b as u32), i64::from(a as u32 as i32), i64::from(b as u32 as i32))
        }
    };
    match cond {
        Cond::Eq => a == b,
        Cond::Ne => a != b,
        Cond::Gt => a > b,
        Cond::Ge => a >= b,
        Cond::Lt => a < b,
        Cond::Le => a <= b,
        Cond::Set => a & b != 0,
        Cond::SGt => signed_a > signed_b,
        Cond::SGe => signed_a >= signed_b,
        Cond::SLt => signed_a < signed_b,
        Cond::SLe => signed_a <= signed_b,
    }
}

/// The lower `bits` (8, 16, 32 or 64), sign-extended.
pub fn sign_extend(value: u64, bits: u32) -> u64 {
    let shift = 64 - bits;
    ((value << shift) as i64 >> shift) as u64
}

/// The lower 16, 32 or 64 bits in another byte order; the rest becomes zero.
pub fn byte_order(order: ByteOrder, bits: u8, value: u64) -> u64 {
    let swap = order != ByteOrder::Little;
    match (bits, swap) {
        (16, false) => u64::from(value as u16),
        (16, true) => u64::from((value as u16).swap_bytes()),
        (32, false) => u64::from(value as u32),
        (32, true) => u64::from((value as u32).swap_bytes()),
        (_, false) => value,
        (_, true) => value.swap_bytes(),
    }
}
