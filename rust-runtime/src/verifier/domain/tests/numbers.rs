//! Numbers: a word of 4 bits and its lower half of 2.
//!
//! All pairs of them are too many. But an operation is made of steps, each of which is tried for all of its states: the words'
//! own operations ([`super::words`]); that a lower half depends on lower halves alone; that settling what two words say of each
//! other loses no member. Whole operations are tried on samples, to see that the steps are put together rightly.

use std::{collections::HashSet, sync::OnceLock};

use super::{
    ALUS, CONDS, Random, Seen, Share, Word, assert_best, concrete, holds, is_exhaustive, ones, sign_extend,
    words::{small_words, words},
};
use crate::{
    isa::{Alu, Width},
    verifier::domain::{Number, Tnum},
};

type Small = Number<4, 2>;

fn numbers(set: u32) -> impl Iterator<Item = u64> + Clone {
    (0..32u64).filter(move |&number| set >> number & 1 == 1)
}

fn set_of(number: &Small) -> u32 {
    (0..16).filter(|&value| number.contains(value)).fold(0, |set, value| set | 1 << value)
}

/// Every settled number of 4 bits with a half of 2, with its members. Of all pairs of words, settling loses no member.
fn small_numbers() -> &'static [(Small, u32)] {
    static NUMBERS: OnceLock<Vec<(Small, u32)>> = OnceLock::new();
    NUMBERS.get_or_init(|| {
        let mut found = HashSet::new();
        let mut all = Vec::new();
        let halves = words(2);
        for wide in small_words() {
            for half in &halves {
                let number = Small { wide: wide.word, half: half.word };
                let both = wide.numbers().filter(|&x| half.word.contains(x & 3, 2)).fold(0u32, |set, x| set | 1 << x);
                let Some(settled) = number.settle() else {
                    assert_eq!(both, 0, "{number:?}");
                    continue;
                };
                assert_eq!(both & !set_of(&settled), 0, "{number:?} settled to {settled:?}");
                let key = |word: Word| (word.bits.value, word.bits.mask, word.umin, word.umax, word.smin, word.smax);
                if both != 0 && found.insert((key(settled.wide), key(settled.half))) {
                    all.push((settled, set_of(&settled)));
                }
            }
        }
        all
    })
}

/// Two words of 8 and of 4 bits tell each other what they know, and lose no number that is in both.
#[test]
fn wider_numbers_settle() {
    let mut random = Random(13);
    let halves = small_words();
    let rounds = if is_exhaustive() { 3_000_000 } else { 6_000 };
    let mut share = Share::default();
    for _ in 0..rounds {
        let mut word = Word::constant(random.next() & 0xff, 8);
        for _ in 0..1 + random.below(3) {
            word = word.join(Word::constant(random.next() & 0xff, 8));
        }
        let half = &halves[random.below(halves.len())];
        let number = Number::<8, 4> { wide: word, half: half.word };
        let settled = number.settle();
        let members = (0..256).filter(|&value| number.contains(value));
        let (wide, low) = (Seen::all_of(members.clone(), 8), Seen::all_of(members.map(|value| value & 15), 4));
        let Some(settled) = settled else {
            assert!(wide.is_nothing(), "{number:?}");
            continue;
        };
        assert!(wide.is_in(settled.wide) && low.is_in(settled.half), "{number:?} gives {settled:?}");
        assert!(settled.wide.is_subset_of(word) && settled.half.is_subset_of(half.word), "{number:?}");
        share.count(!wide.is_nothing() && (wide.word(), low.word()) == (settled.wide, settled.half));
    }
    println!("settled: {} numbers of 8 bits, {:.1}% the best possible", share.of, share.percent());
    assert_best(&[share], &[3329]);
}

/// What is done at once for small numbers is what is done step by step for all, whichever part of the wide word says that they are.
#[test]
fn small_numbers_settle_as_all_do() {
    let above = ones(8) & !ones(4);
    let mut small = 0;
    for low in small_words().iter().map(|shape| shape.word).filter(|word| word.umax < 8) {
        let wide = Word { smin: low.umin as i64, smax: low.umax as i64, ..low };
        let unsigned = Word { bits: Tnum { mask: low.bits.mask | above, ..low.bits }, smin: -128, smax: 127, ..wide };
        let signed = Word { umin: 0, umax: 255, ..wide };
        let far = Word { bits: Tnum { value: 128 | low.bits.value, ..low.bits }, ..wide };
        for half in small_words() {
            for wide in [wide, unsigned, signed, far] {
                let number = Number::<8, 4> { wide, half: half.word };
                assert_eq!(number.settle(), number.settle_any(), "{number:?}");
                small += 1;
            }
        }
    }
    assert!(small > 10_000, "{small}");
}

/// What is done in the lower halves alone, for small numbers, gives what the whole numbers give.
#[test]
fn small_numbers_compute_as_all_do() {
    let small = small_words().iter().map(|shape| shape.word).filter(|word| word.umax < 8);
    let small: Vec<_> = small.map(|word| Number::<8, 4> { wide: word.zero_extend(4, 8), half: word }).collect();
    let mut computed = 0;
    for a in &small {
        for b in &small {
            for op in [Alu::Add, Alu::Sub, Alu::And, Alu::Or, Alu::Xor].into_iter().filter(|op| a.stays_small(*op, b)) {
                assert_eq!(a.alu(op, b, Width::W64), a.alu_wide(op, b), "{a:?} {op:?} {b:?}");
                computed += 1;
            }
            for cond in CONDS {
                for (width, taken) in [(Width::W64, true), (Width::W64, false), (Width::W32, true), (Width::W32, false)]
                {
                    let plain = a.refine_any(cond, width, b, taken);
                    assert_eq!(a.refine(cond, width, b, taken), plain, "{a:?} {cond:?} {b:?} {width:?} {taken}");
                }
            }
        }
    }
    assert!(computed > 10_000, "{computed}");
}

#[test]
fn a_lower_half_depends_on_lower_halves() {
    for op in [Alu::Add, Alu::Sub, Alu::Mul, Alu::Or, Alu::And, Alu::Xor, Alu::Mov] {
        for (x, y) in (0..256).flat_map(|x| (0..256).map(move |y| (x, y))) {
            assert_eq!(concrete(op, x, y, 8) & 15, concrete(op, x & 15, y & 15, 4), "{op:?} {x} {y}");
        }
    }
}

/// Partners to try a state with.
fn partners(random: &mut Random, bounded: usize, long: usize) -> Vec<(Small, u32)> {
    random.sample(small_numbers(), if is_exhaustive() { long } else { bounded })
}

fn width_bits(width: Width) -> u32 {
    if width == Width::W64 { 4 } else { 2 }
}

/// Of the pairs that a bounded run tries: results that are the best possible, by operation.
const BEST: [u64; ALUS.len()] =
    [23551, 23739, 14932, 12396, 12996, 8441, 16845, 15416, 17987, 23303, 15958, 10212, 19954, 21003];

#[test]
fn numbers_hold_every_result() {
    let mut random = Random(5);
    let shares = ALUS.map(|op| {
        let mut share = Share::default();
        for (a, set_a) in partners(&mut random, 8_000, 100_000) {
            for (b, set_b) in partners(&mut random, 2, 8) {
                for width in [Width::W64, Width::W32] {
                    let n = width_bits(width);
                    let pairs = numbers(set_a).flat_map(|x| numbers(set_b).map(move |y| (x, y)));
                    let values = pairs.map(|(x, y)| concrete(op, x & ones(n), y & ones(n), n));
                    let result = a.alu(op, &b, width);
                    share.count(is_held(values, &result, &|| format!("{op:?}, {n} bits: {a:?} {b:?}")));
                }
            }
        }
        println!("{op:?}: {} pairs of numbers, {:.1}% the best possible", share.of, share.percent());
        share
    });
    assert_best(&shares, &BEST);
}

/// All values must be in a number. Gives whether it is the best that holds them.
fn is_held(values: impl Iterator<Item = u64> + Clone, number: &Small, case: &dyn Fn() -> String) -> bool {
    let (wide, half) = (Seen::all_of(values.clone(), 4), Seen::all_of(values.map(|value| value & 3), 2));
    assert!(wide.is_in(number.wide) && half.is_in(number.half), "{} gives {number:?}, not {wide:?}, {half:?}", case());
    !wide.is_nothing() && (wide.word(), half.word()) == (number.wide, number.half)
}

/// As `BEST`, for comparisons.
const BEST_REFINED: [u64; CONDS.len()] = [12556, 12652, 12203, 12063, 11978, 12255, 3881, 9303, 9383, 9283, 9334];

#[test]
fn numbers_refined_keep_what_may_be() {
    let mut random = Random(6);
    let ways = [(Width::W64, true), (Width::W64, false), (Width::W32, true), (Width::W32, false)];
    let shares = CONDS.map(|cond| {
        let mut share = Share::default();
        for (a, set_a) in partners(&mut random, 8_000, 400_000) {
            let (b, set_b) = small_numbers()[random.below(small_numbers().len())];
            for (width, taken) in ways {
                let n = width_bits(width);
                let refined = a.refine(cond, width, &b, taken);
                let holds = move |x: u64, y: u64| holds(cond, x & ones(n), y & ones(n), n) == taken;
                let left = numbers(set_a).filter(|&x| numbers(set_b).any(|y| holds(x, y)));
                let right = numbers(set_b).filter(|&y| numbers(set_a).any(|x| holds(x, y)));
                let case = || format!("{cond:?}, {n} bits, {taken}: {a:?} {b:?}");
                share.count(match refined {
                    None => {
                        assert_eq!(left.count(), 0, "{}", case());
                        true
                    }
                    Some((x, y)) => is_held(left, &x, &case) & is_held(right, &y, &case),
                });
            }
        }
        println!("{cond:?}: {} pairs of numbers, {:.1}% the best possible", share.of, share.percent());
        share
    });
    assert_best(&shares, &BEST_REFINED);
}

#[test]
fn numbers_by_their_lowest_bits() {
    for value in 0..16 {
        for bits in 0..=4 {
            let number = Number::<4, 2>::ending_in(value, bits);
            let ends_so = |x: &u64| (x ^ value) & ones(bits) == 0;
            assert!((0..16).all(|x| number.contains(x) == ends_so(&x)), "{value} {bits}: {number:?}");
            assert_eq!(number.is_half(), (0..16).filter(ends_so).all(|x| x < 4), "{value} {bits}");
        }
    }
}

#[test]
fn numbers_joined_widened_and_resized() {
    let mut random = Random(8);
    for (a, set_a) in partners(&mut random, 20_000, 200_000) {
        for (b, set_b) in partners(&mut random, 4, 20) {
            let both = set_a | set_b;
            assert_eq!(both & !set_of(&a.join(&b)), 0, "{a:?} {b:?}");
            assert_eq!(both & !set_of(&a.widen(&b)), 0, "{a:?} {b:?}");
            assert!(!a.is_subset_of(&b) || set_a & !set_b == 0, "{a:?} {b:?}");
        }
        for x in numbers(set_a) {
            let negated = x.wrapping_neg();
            assert!(a.zero_extend32().contains(x & 3));
            assert!(a.neg(Width::W64).contains(negated & 15) && a.neg(Width::W32).contains(negated & 3), "{a:?}");
            for from in [1, 2] {
                let extended = sign_extend(x, from) as u64;
                assert!(a.sign_extend(from, Width::W64).contains(extended & 15), "{a:?} from {from}");
                assert!(a.sign_extend(from, Width::W32).contains(extended & 3), "{a:?} from {from}");
                assert!(a.truncate_bits(from).contains(x & ones(from)), "{a:?} to {from}");
            }
        }
    }
}
