//! Known bits: every operation on all pairs of 6 bits, of 8 where there is time.

use super::{Share, best_bits, is_exhaustive, members, ones, sign_extend, tnums};
use crate::verifier::domain::tnum::Tnum;

/// An operation on tnums, what it stands for, and whether it is known to be the best there is.
type Binary = (&'static str, fn(Tnum, Tnum) -> Tnum, fn(u64, u64) -> u64, bool);

const BINARY: [Binary; 6] = [
    ("add", Tnum::add, u64::wrapping_add, true),
    ("sub", Tnum::sub, u64::wrapping_sub, true),
    ("mul", Tnum::mul, u64::wrapping_mul, false),
    ("and", Tnum::and, |a, b| a & b, true),
    ("or", Tnum::or, |a, b| a | b, true),
    ("xor", Tnum::xor, |a, b| a ^ b, true),
];

/// By place in the list: where the two tnums are that the highest unknown bit makes; None: there is no unknown bit.
fn halves(all: &[Tnum]) -> Vec<Option<(usize, usize)>> {
    let place = |tnum: Tnum| all.iter().position(|&other| other == tnum).expect("all tnums are there");
    let halves = |tnum: &Tnum| {
        let bit = 1 << tnum.mask.checked_ilog2()?;
        let low = Tnum { value: tnum.value, mask: tnum.mask & !bit };
        Some((place(low), place(Tnum { value: tnum.value | bit, ..low })))
    };
    all.iter().map(halves).collect()
}

/// What is known of numbers of which some are in one tnum and the others in another one.
fn either(a: Tnum, b: Tnum) -> Tnum {
    best_bits([a.value, a.value | a.mask, b.value, b.value | b.mask].into_iter())
}

#[test]
fn tnums_hold_every_result() {
    let n = if is_exhaustive() { 8 } else { 6 };
    let all = tnums(n);
    let halves = halves(&all);
    for (name, op, concrete, is_best) in BINARY {
        let mut share = Share::default();
        let mut best = all.clone();
        for &a in &all {
            for (at, &b) in all.iter().enumerate() {
                best[at] = match halves[at] {
                    Some((low, high)) => either(best[low], best[high]),
                    None => best_bits(members(a).map(|x| concrete(x, b.value) & ones(n))),
                };
                let result = op(a, b).low(n);
                assert!(either(best[at], result) == result, "{name}: {a:?} {b:?} gives {result:?}, not {:?}", best[at]);
                share.count(result == best[at]);
            }
        }
        println!("tnum {name}: {} pairs of {n} bits, {:.1}% the best possible", share.of, share.percent());
        assert!(!is_best || share.best == share.of, "{name}: {:.1}%", share.percent());
    }
}

#[test]
fn tnums_of_one_operand() {
    let n = 8;
    for tnum in tnums(n) {
        assert_eq!(tnum.max(), members(tnum).max().unwrap(), "{tnum:?}");
        for bits in 0..=n {
            assert_eq!(tnum.low(bits), best_bits(members(tnum).map(|x| x & ones(bits))), "{tnum:?} {bits}");
            if bits > 0 {
                let extended = best_bits(members(tnum).map(|x| sign_extend(x, bits) as u64));
                assert_eq!(tnum.low(bits).sign_extend(bits), extended, "{tnum:?} {bits}");
            }
            assert_eq!(tnum.shift_left(bits), best_bits(members(tnum).map(|x| x << bits)), "{tnum:?} {bits}");
            assert_eq!(tnum.shift_right(bits), best_bits(members(tnum).map(|x| x >> bits)), "{tnum:?} {bits}");
        }
    }
}

#[test]
fn tnums_as_sets() {
    let n = if is_exhaustive() { 6 } else { 4 };
    let all = tnums(n);
    for &a in &all {
        for from in 0..=ones(n) {
            assert_eq!(a.at_least(from), members(a).filter(|&number| number >= from).min(), "{a:?} from {from}");
            assert_eq!(a.at_most(from), members(a).filter(|&number| number <= from).max(), "{a:?} to {from}");
            assert_eq!(a.contains(from), members(a).any(|number| number == from));
            let (low, high) = (from.min(a.value), from.max(a.value));
            assert_eq!(Tnum::range(low, high), common_bits(low, high), "{from} {a:?}");
        }
        for &b in &all {
            let both = members(a).filter(|&number| b.contains(number));
            match a.intersect(b) {
                Some(met) => assert_eq!(met, best_bits(both), "{a:?} {b:?}"),
                None => assert_eq!(both.count(), 0, "{a:?} {b:?}"),
            }
            assert_eq!(a.join(b), best_bits(members(a).chain(members(b))), "{a:?} {b:?}");
            assert_eq!(a.is_subset_of(b), members(a).all(|number| b.contains(number)), "{a:?} {b:?}");
        }
    }
}

/// The leading bits that all numbers of a range share.
fn common_bits(low: u64, high: u64) -> Tnum {
    let best = best_bits(low..=high);
    let unknown = ones(64 - best.mask.leading_zeros());
    Tnum { value: best.value & !unknown, mask: unknown }
}
