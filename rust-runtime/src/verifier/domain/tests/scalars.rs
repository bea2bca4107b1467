//! 64 and 32 bits at random, and what programs rely on.

use super::{ALUS, CONDS, Random, Tnum, Word, is_exhaustive, ones};
use crate::{
    isa::{self, Alu, ByteOrder, Cond, Width},
    verifier::domain::Scalar,
};

/// A random picture of a value, and the value.
fn random_scalar(random: &mut Random) -> (Scalar, u64) {
    let value = random.interesting();
    let mut number = Scalar::constant(value);
    for _ in 0..random.below(4) {
        let other = random.interesting();
        number = match random.below(5) {
            0 => number.join(&Scalar::constant(other)),
            1 => Scalar::unsigned(value.min(other), value.max(other)),
            2 => Scalar::signed((value as i64).min(other as i64), (value as i64).max(other as i64)),
            3 => {
                let mask = other & random.next();
                let bits = Tnum { value: value & !mask, mask };
                Scalar { wide: Word::from_bits(bits, 64), half: Word::from_bits(bits, 32) }.settled()
            }
            _ => {
                let (a, b) = (u64::from(value as u32), u64::from(other as u32));
                let half = Word { umin: a.min(b), umax: a.max(b), ..Word::unknown(32) }.reduce(32).unwrap();
                Scalar { half, ..Scalar::unknown() }.settled()
            }
        };
    }
    assert!(number.contains(value), "{number:?} {value:#x}");
    (number, value)
}

#[test]
fn scalars_hold_what_programs_compute() {
    let mut random = Random(1);
    let rounds = if is_exhaustive() { 20_000_000 } else { 60_000 };
    for _ in 0..rounds {
        let ((a, x), (b, y)) = (random_scalar(&mut random), random_scalar(&mut random));
        let width = if random.below(2) == 0 { Width::W64 } else { Width::W32 };
        let op = ALUS[random.below(ALUS.len())];
        let result = a.alu(op, &b, width);
        assert!(result.contains(isa::alu(op, width, x, y)), "{op:?} {width:?}\n{a:?} {x:#x}\n{b:?} {y:#x}\n{result:?}");
        let cond = CONDS[random.below(CONDS.len())];
        let taken = isa::compare(cond, width, x, y);
        let refined = a.refine(cond, width, &b, taken);
        let kept = refined.is_some_and(|(left, right)| left.contains(x) && right.contains(y));
        assert!(kept, "{cond:?} {width:?} {taken}\n{a:?} {x:#x}\n{b:?} {y:#x}\n{refined:?}");
        check_unary(&a, x, width, &mut random);
        assert!(a.join(&b).contains(x) && a.widen(&b).contains(y) && b.widen(&a).contains(y));
    }
}

fn check_unary(a: &Scalar, x: u64, width: Width, random: &mut Random) {
    let cut = |value: u64| if width == Width::W32 { u64::from(value as u32) } else { value };
    assert!(a.neg(width).contains(cut(x.wrapping_neg())), "{a:?} {x:#x}");
    assert!(a.zero_extend32().contains(u64::from(x as u32)), "{a:?} {x:#x}");
    let bits = [8, 16, 32, 64][random.below(4)];
    assert!(a.truncate(bits / 8).contains(x & ones(bits)), "{a:?} {x:#x} to {bits}");
    if bits <= 32 {
        assert!(a.sign_extend(bits, width).contains(cut(isa::sign_extend(x, bits))), "{a:?} {x:#x} from {bits}");
    }
    for order in [ByteOrder::Little, ByteOrder::Big, ByteOrder::Swap] {
        let swapped = isa::byte_order(order, bits.max(16) as u8, x);
        assert!(a.byte_swap(order, bits.max(16)).contains(swapped), "{order:?} {bits}: {a:?} {x:#x}");
    }
}

/// What is known wholly stays known wholly.
#[test]
fn constants_stay_constants() {
    let mut random = Random(21);
    for _ in 0..if is_exhaustive() { 1_000_000 } else { 2_000 } {
        let (x, y) = (random.interesting(), random.interesting());
        let (a, b) = (Scalar::constant(x), Scalar::constant(y));
        for width in [Width::W64, Width::W32] {
            let cut = |value: u64| if width == Width::W32 { u64::from(value as u32) } else { value };
            for op in ALUS {
                let result = isa::alu(op, width, x, y);
                assert_eq!(a.alu(op, &b, width), Scalar::constant(result), "{x:#x} {op:?} {y:#x}");
            }
            for cond in CONDS {
                let taken = isa::compare(cond, width, x, y);
                assert_eq!(a.refine(cond, width, &b, taken), Some((a, b)), "{x:#x} {cond:?} {y:#x}");
                assert_eq!(a.refine(cond, width, &b, !taken), None, "{x:#x} {cond:?} {y:#x}");
            }
            assert_eq!(a.neg(width), Scalar::constant(cut(x.wrapping_neg())), "{x:#x}");
            for bits in [8, 16, 32] {
                assert_eq!(a.sign_extend(bits, width), Scalar::constant(cut(isa::sign_extend(x, bits))), "{x:#x}");
            }
        }
        for bits in [16, 32, 64] {
            assert_eq!(a.truncate(bits / 8), Scalar::constant(x & ones(bits)), "{x:#x} to {bits}");
            for order in [ByteOrder::Little, ByteOrder::Big, ByteOrder::Swap] {
                let swapped = isa::byte_order(order, bits as u8, x);
                assert_eq!(a.byte_swap(order, bits), Scalar::constant(swapped), "{order:?} {bits} {x:#x}");
            }
        }
        assert_eq!(a.zero_extend32(), Scalar::constant(x & ones(32)));
        assert_eq!((a.join(&a), a.widen(&a)), (a, a));
        let both = a.join(&b);
        assert_eq!((both.umin(), both.umax()), (x.min(y), x.max(y)));
        assert_eq!((both.smin(), both.smax()), ((x as i64).min(y as i64), (x as i64).max(y as i64)));
        assert!(a.is_subset_of(&both) && (x == y || !both.is_subset_of(&a)));
    }
}

/// What programs rely on: a bound in one view is seen in the others.
#[test]
fn bounds_that_programs_need() {
    let unknown = Scalar::unknown();
    let constant = Scalar::constant;
    let masked = unknown.alu(Alu::And, &constant(0xff), Width::W64);
    assert_eq!((masked.umin(), masked.umax(), masked.smax(), masked.umax32()), (0, 255, 255, 255));
    let (below, _) = unknown.refine(Cond::Lt, Width::W64, &constant(64), true).unwrap();
    assert_eq!((below.smin(), below.umax(), below.smax32()), (0, 63, 63));
    let (low, _) = unknown.refine(Cond::Lt, Width::W32, &constant(64), true).unwrap();
    assert_eq!(low.umax(), u64::MAX - 0xffff_ffff + 63, "only the lower half was compared");
    assert_eq!(low.zero_extend32().umax(), 63);
    assert_eq!(masked.alu(Alu::Mul, &constant(8), Width::W64).bits().mask, 0x7f8);
    let signed = Scalar::signed(-1, 7).alu(Alu::Add, &constant(1), Width::W64);
    assert_eq!((signed.umin(), signed.umax()), (0, 8));
    assert_eq!(Scalar::constant(3).refine(Cond::Eq, Width::W64, &constant(4), true), None);
    assert_eq!(unknown.alu(Alu::Mod, &constant(10), Width::W64).umax(), 9);
    let shifted = unknown.alu(Alu::Lsh, &constant(32), Width::W64).alu(Alu::Arsh, &constant(32), Width::W64);
    assert_eq!((shifted.smin(), shifted.smax()), (i64::from(i32::MIN), i64::from(i32::MAX)));
    let (left, _) = Scalar::unsigned(0, 8).refine(Cond::Ne, Width::W64, &constant(8), true).unwrap();
    assert_eq!(left.umax(), 7);
}

#[test]
fn numbers_as_people_read_them() {
    let shown = |number: Scalar| number.to_string();
    assert_eq!(shown(Scalar::constant(5)), "5");
    assert_eq!(shown(Scalar::constant(-5i64 as u64)), "-5");
    assert_eq!(shown(Scalar::constant(0xdead_beef)), "0xdeadbeef");
    assert_eq!(shown(Scalar::unknown()), "any number");
    assert_eq!(shown(Scalar::unsigned(1, 6)), "1..=6");
    assert_eq!(shown(Scalar::signed(-8, 6)), "signed -8..=6");
    let eights = Scalar::unsigned(0, 7).alu(Alu::Mul, &Scalar::constant(8), Width::W64);
    assert_eq!(shown(eights), "0..=56, bits 0x0 known 0xffffffffffffffc7");
}
