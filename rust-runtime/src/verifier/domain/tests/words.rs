//! Words: every operation and comparison on all pairs of 3 and 4 bits; on 6 and 8 bits all ranges and all tnums.
//!
//! Shifts count modulo the width, which the code under test takes for a power of two: at 3 and 6 bits they are left out.

use std::{collections::HashSet, sync::OnceLock};

use super::{
    ALUS, CONDS, Random, Seen, Shape, Share, Tnum, Word, assert_best, concrete, holds, is_exhaustive, ones,
    sign_extend, tnums,
};
use crate::isa::{Alu, Cond};

fn bounds(word: Word) -> (u64, u64, i64, i64) {
    (word.umin, word.umax, word.smin, word.smax)
}

/// The smallest and the greatest number.
fn signed_ends(n: u32) -> (i64, i64) {
    (sign_extend(1 << (n - 1), n), sign_extend(ones(n - 1), n))
}

/// Every reduced word of `n` bits. Reducing loses nothing, and is told of every contradiction.
pub fn words(n: u32) -> Vec<Shape> {
    let mut found = HashSet::new();
    let mut all = Vec::new();
    let (first, last) = signed_ends(n);
    for bits in tnums(n) {
        for (umin, umax) in (0..=ones(n)).flat_map(|low| (low..=ones(n)).map(move |high| (low, high))) {
            for (smin, smax) in (first..=last).flat_map(|low| (low..=last).map(move |high| (low, high))) {
                let word = Word { bits, umin, umax, smin, smax };
                let Some(reduced) = word.reduce(n) else {
                    assert_eq!((0..=ones(n)).find(|&number| word.contains(number, n)), None, "{word:?}");
                    continue;
                };
                let keeps = |number| word.contains(number, n) == reduced.contains(number, n);
                assert!((0..=ones(n)).all(keeps), "{word:?} reduced to {reduced:?}");
                if found.insert((reduced.bits.value, reduced.bits.mask, bounds(reduced))) {
                    all.push(Shape::new(reduced, n));
                }
            }
        }
    }
    all
}

/// The words of 4 bits are too many to make anew in each test.
pub fn small_words() -> &'static [Shape] {
    static WORDS: OnceLock<Vec<Shape>> = OnceLock::new();
    WORDS.get_or_init(|| words(4))
}

fn constants(n: u32) -> Vec<Shape> {
    (0..=ones(n)).map(|number| Shape::new(Word::constant(number, n), n)).collect()
}

/// All unsigned ranges, all signed ranges, all tnums. A range follows the one that ends one number before.
fn ranges_and_tnums(n: u32) -> Vec<Shape> {
    let range = |word: Word, low: i64, high: i64| {
        let members: Vec<u8> = (low..=high).map(|number| (number as u64 & ones(n)) as u8).collect();
        let word = word.reduce(n).expect("no range is empty");
        assert!(members.iter().all(|&number| word.contains(number.into(), n)), "{word:?}");
        Shape { word, members }
    };
    let pairs = |first: i64, last: i64| (first..=last).flat_map(move |low| (low..=last).map(move |high| (low, high)));
    let unsigned = pairs(0, ones(n) as i64).map(|(low, high)| {
        let word = Word { umin: low as u64, umax: high as u64, ..Word::unknown(n) };
        range(word, low, high)
    });
    let (first, last) = signed_ends(n);
    let signed =
        pairs(first, last).map(|(low, high)| range(Word { smin: low, smax: high, ..Word::unknown(n) }, low, high));
    let tnums = tnums(n).into_iter().map(|bits| Shape::new(Word::from_bits(bits, n), n));
    unsigned.chain(signed).chain(tnums).collect()
}

/// An operation on words of `n` bits.
struct Operation<'a> {
    name: String,
    n: u32,
    apply: &'a dyn Fn(Word, Word) -> Word,
    concrete: &'a dyn Fn(u64, u64) -> u64,
}

impl Operation<'_> {
    fn check(&self, a: &Shape, right: &[Shape], share: &mut Share) {
        let n = self.n;
        // By right operand: what it gives with any left one.
        let image = |y| Seen::all_of(a.numbers().map(|x| (self.concrete)(x, y)), n);
        let images: Vec<Seen> = (0..=ones(n)).map(image).collect();
        let (mut seen, mut before) = (Seen::NOTHING, &[][..]);
        for b in right {
            let known = known_members(b, before);
            seen = if known == 0 { Seen::NOTHING } else { seen };
            seen = b.members[known..].iter().fold(seen, |seen, &y| seen.and(images[usize::from(y)]));
            before = &b.members;
            let result = (self.apply)(a.word, b.word);
            let case = || format!("{} at {n} bits: {:?} {:?} gives {result:?}", self.name, a.word, b.word);
            assert!(seen.is_in(result), "{}, not {seen:?}", case());
            assert_eq!(result.reduce(n), Some(result), "not reduced: {}", case());
            share.count(result == seen.word());
        }
    }
}

/// How many of a shape's first members were all of those before.
fn known_members(shape: &Shape, before: &[u8]) -> usize {
    if shape.members.len() == before.len() + 1 && shape.members.starts_with(before) { before.len() } else { 0 }
}

/// Tries an operation with the left states and the right ones that `right` picks for each.
fn check_alu(op: Alu, n: u32, left: &[Shape], mut right: impl FnMut() -> Vec<Shape>) -> Share {
    let mut share = Share::default();
    let apply = |a: Word, b: Word| a.alu(op, b, n);
    let operation = Operation { name: format!("{op:?}"), n, apply: &apply, concrete: &|x, y| concrete(op, x, y, n) };
    left.iter().for_each(|a| operation.check(a, &right(), &mut share));
    share
}

fn counts_modulo_width(op: Alu) -> bool {
    matches!(op, Alu::Lsh | Alu::Rsh | Alu::Arsh)
}

/// Of the pairs of words of 4 bits that a bounded run tries: results that are the best possible, by operation.
const BEST: [u64; ALUS.len()] =
    [15710, 15836, 10489, 12872, 4241, 2000, 14946, 10791, 11517, 14667, 13022, 7238, 17618, 20784];

#[test]
fn words_hold_every_result() {
    let mut random = Random(4);
    let list = small_words();
    let shares = ALUS.map(|op| {
        let share = check_alu(op, 4, list, || if is_exhaustive() { list.to_vec() } else { random.sample(list, 12) });
        println!("{op:?}: {} pairs of words of 4 bits, {:.1}% the best possible", share.of, share.percent());
        share
    });
    assert_best(&shares, &BEST);
}

#[test]
fn narrow_words_hold_every_result() {
    for n in [2, 3] {
        let list = words(n);
        for op in ALUS.into_iter().filter(|&op| n == 2 || !counts_modulo_width(op)) {
            check_alu(op, n, &list, || list.clone());
        }
    }
}

/// All ranges and tnums of 8 bits with all constants, on either side; all of 6 bits with each other.
#[test]
fn wider_words_hold_every_result() {
    let mut random = Random(9);
    let mut pick = |list: &[Shape], count| if is_exhaustive() { list.to_vec() } else { random.sample(list, count) };
    let (wide, numbers) = (ranges_and_tnums(8), constants(8));
    let (wide, numbers) = (pick(&wide, 100), pick(&numbers, 20));
    let six = ranges_and_tnums(6);
    let (left, right) = (pick(&six, 40), pick(&six, 40));
    for op in ALUS {
        let mut share = check_alu(op, 8, &numbers, || wide.clone());
        let (apply, swapped) = (|c: Word, a: Word| a.alu(op, c, 8), |c, x| concrete(op, x, c, 8));
        let operation = Operation { name: format!("{op:?}"), n: 8, apply: &apply, concrete: &swapped };
        numbers.iter().for_each(|constant| operation.check(constant, &wide, &mut share));
        println!("{op:?}: {} pairs of 8 bits, one constant, {:.1}% the best possible", share.of, share.percent());
        if !counts_modulo_width(op) {
            let share = check_alu(op, 6, &left, || right.clone());
            println!("{op:?}: {} pairs of 6 bits, {:.1}% the best possible", share.of, share.percent());
        }
    }
}

/// Any ranges and tnums of 8 bits, shifts too.
#[test]
fn wider_words_with_each_other() {
    let mut random = Random(10);
    let list = ranges_and_tnums(8);
    let (lefts, rights) = if is_exhaustive() { (4000, 400) } else { (40, 20) };
    for op in ALUS {
        let left = random.sample(&list, lefts);
        check_alu(op, 8, &left, || random.sample(&list, rights));
    }
}

/// What a comparison leaves of both sides.
struct Comparison<'a> {
    name: String,
    n: u32,
    apply: &'a dyn Fn(Word, Word) -> Option<(Word, Word)>,
    holds: &'a dyn Fn(u64, u64) -> bool,
    /// Whether what cannot be is always told: bounds say nothing of numbers in the middle.
    is_order: bool,
}

impl Comparison<'_> {
    fn check(&self, a: &Shape, right: &[Shape], share: &mut Share) {
        let n = self.n;
        // By right operand: the left ones with which the comparison holds.
        let partners = |y| Seen::all_of(a.numbers().filter(|&x| (self.holds)(x, y)), n);
        let partners: Vec<Seen> = (0..=ones(n)).map(partners).collect();
        let nothing = (Seen::NOTHING, Seen::NOTHING);
        let (mut seen, mut before) = (nothing, &[][..]);
        for b in right {
            let known = known_members(b, before);
            seen = if known == 0 { nothing } else { seen };
            for &y in &b.members[known..] {
                let partners = partners[usize::from(y)];
                if !partners.is_nothing() {
                    seen = (seen.0.and(partners), seen.1.and(Seen::of(y.into(), n)));
                }
            }
            before = &b.members;
            share.count(self.check_pair(a.word, b.word, seen));
        }
    }

    /// Whether nothing more could be known.
    fn check_pair(&self, a: Word, b: Word, seen: (Seen, Seen)) -> bool {
        let refined = (self.apply)(a, b);
        let case = || format!("{} at {} bits: {a:?} {b:?} leaves {refined:?}", self.name, self.n);
        let Some((left, right)) = refined else {
            assert!(seen.0.is_nothing(), "{}, not {seen:?}", case());
            return true;
        };
        assert!(seen.0.is_in(left) && seen.1.is_in(right), "{}, not {seen:?}", case());
        assert!(left.is_subset_of(a) && right.is_subset_of(b), "something is forgotten: {}", case());
        assert!(!self.is_order || !seen.0.is_nothing(), "impossible, and not told: {}", case());
        !seen.0.is_nothing() && (left, right) == (seen.0.word(), seen.1.word())
    }
}

fn check_cond(cond: Cond, n: u32, left: &[Shape], mut right: impl FnMut() -> Vec<Shape>) -> Share {
    let mut share = Share::default();
    let is_order = !matches!(cond, Cond::Eq | Cond::Ne | Cond::Set);
    for taken in [true, false] {
        let apply = |a: Word, b: Word| if taken { a.assume(cond, b, n) } else { a.assume_not(cond, b, n) };
        let holds = |x, y| holds(cond, x, y, n) == taken;
        let name = format!("{cond:?} {taken}");
        let comparison = Comparison { name, n, apply: &apply, holds: &holds, is_order };
        left.iter().for_each(|a| comparison.check(a, &right(), &mut share));
    }
    share
}

/// As `BEST`, for comparisons.
const BEST_REFINED: [u64; CONDS.len()] = [20784, 20783, 20784, 20784, 20784, 20784, 9630, 20784, 20784, 20784, 20784];

#[test]
fn words_refined_keep_what_may_be() {
    let mut random = Random(3);
    let list = small_words();
    let shares = CONDS.map(|cond| {
        let share = check_cond(cond, 4, list, || if is_exhaustive() { list.to_vec() } else { random.sample(list, 6) });
        println!("{cond:?}: {} pairs of words of 4 bits, {:.1}% the best possible", share.of, share.percent());
        share
    });
    assert_best(&shares, &BEST_REFINED);
}

#[test]
fn narrow_words_refined_keep_what_may_be() {
    for n in [2, 3] {
        let list = words(n);
        for cond in CONDS {
            check_cond(cond, n, &list, || list.clone());
        }
    }
}

#[test]
fn wider_words_refined_keep_what_may_be() {
    let mut random = Random(12);
    let mut pick = |list: &[Shape], count| if is_exhaustive() { list.to_vec() } else { random.sample(list, count) };
    let (wide, numbers) = (ranges_and_tnums(8), constants(8));
    let (wide, numbers) = (pick(&wide, 100), pick(&numbers, 20));
    let six = ranges_and_tnums(6);
    let (left, right) = (pick(&six, 40), pick(&six, 40));
    for cond in CONDS {
        // The conditions with their sides exchanged are among them, so that constants on one side are enough.
        let share = check_cond(cond, 8, &numbers, || wide.clone());
        println!("{cond:?}: {} pairs of 8 bits, one constant, {:.1}% the best possible", share.of, share.percent());
        let share = check_cond(cond, 6, &left, || right.clone());
        println!("{cond:?}: {} pairs of 6 bits, {:.1}% the best possible", share.of, share.percent());
    }
}

#[test]
fn reduced_words_are_the_least() {
    for (n, list) in [(2, words(2)), (4, small_words().to_vec())] {
        for shape in list {
            let least = Seen::all_of(shape.numbers(), n).word();
            assert_eq!(bounds(shape.word), bounds(least), "{shape:?}");
            assert_eq!(shape.word.reduce(n), Some(shape.word), "reduced twice");
        }
    }
}

#[test]
fn words_joined_widened_and_met() {
    let mut random = Random(7);
    let list = small_words();
    for a in list {
        for b in if is_exhaustive() { list.to_vec() } else { random.sample(list, 24) } {
            let case = || format!("{:?} {:?}", a.word, b.word);
            let (joined, widened) = (a.word.join(b.word), a.word.widen(b.word, 4));
            let both = Seen::all_of(a.numbers().chain(b.numbers()), 4);
            assert_eq!(joined.reduce(4), Some(joined), "{}", case());
            assert_eq!(bounds(joined), bounds(both.word()), "{}", case());
            assert!(a.word.is_subset_of(joined) && b.word.is_subset_of(joined), "{}", case());
            assert!(joined.is_subset_of(widened), "{} widened to {widened:?}", case());
            let is_subset = a.numbers().all(|number| b.word.contains(number, 4));
            assert!(!a.word.is_subset_of(b.word) || is_subset, "{}", case());
            let common = Seen::all_of(a.numbers().filter(|&number| b.word.contains(number, 4)), 4);
            match a.word.intersect(b.word, 4) {
                None => assert!(common.is_nothing(), "{}", case()),
                Some(met) => assert_eq!(bounds(met), bounds(common.word()), "{}", case()),
            }
        }
    }
}

#[test]
fn a_bound_that_is_exceeded_is_given_up() {
    let range = |low, high| Word { umin: low, umax: high, ..Word::unknown(8) }.reduce(8).unwrap();
    let widened = range(10, 20).widen(range(10, 21), 8);
    assert_eq!((widened.umin, widened.umax), (10, 31), "the upper bits are still known");
    let widened = range(10, 20).widen(range(10, 40), 8);
    assert_eq!((widened.umin, widened.umax), (10, 127), "they are not any more");
    let widened = range(10, 20).widen(range(9, 20), 8);
    assert_eq!((widened.umin, widened.umax), (0, 20));
    let signed = |low, high| Word { smin: low, smax: high, ..Word::unknown(8) }.reduce(8).unwrap();
    let widened = signed(-5, 5).widen(signed(-6, 5), 8);
    assert_eq!((widened.smin, widened.smax), (-128, 5));
    let widened = signed(-5, 5).widen(signed(-5, 6), 8);
    assert_eq!((widened.smin, widened.smax), (-5, 127));
}

/// Of numbers of both signs, so that the signed bounds cannot say what the others forgot.
#[test]
fn what_stayed_is_kept() {
    let range = |low, high| Word { umin: low, umax: high, ..Word::unknown(8) }.reduce(8).unwrap();
    let widened = range(10, 250).widen(range(10, 251), 8);
    assert_eq!((widened.umin, widened.umax), (10, 255));
    let widened = range(10, 250).widen(range(9, 250), 8);
    assert_eq!((widened.umin, widened.umax), (0, 250));
    let multiples = |mask| Word::from_bits(Tnum { value: 0, mask }, 8);
    let widened = multiples(0b1100).widen(multiples(0b11100), 8);
    assert_eq!(widened.bits, Tnum { value: 0, mask: 0b111_1100 }, "multiples of four");
    let extended = multiples(0b1000_0100).sign_extend(8, 16);
    assert_eq!(extended.bits, Tnum { value: 0, mask: 0xff84 }, "multiples of four, of either sign");
}

#[test]
fn widening_ends() {
    let mut random = Random(11);
    let list = small_words();
    for round in 0..2000 {
        let mut word = list[random.below(list.len())].word;
        let mut changes = 0;
        for _ in 0..200 {
            let next = word.widen(list[random.below(list.len())].word, 4);
            changes += usize::from(next != word);
            word = next;
        }
        // Four bounds that go once, and again when a bit that held them does.
        assert!(changes <= 12, "round {round}: {changes} changes");
    }
}

#[test]
fn words_resized() {
    for shape in small_words() {
        for to in [1, 2, 3] {
            let low = shape.word.low(to, 4);
            let lows = Seen::all_of(shape.numbers().map(|number| number & ones(to)), to);
            assert!(lows.is_in(low), "{shape:?} to {to}: {low:?}");
            assert_eq!(low.reduce(to), Some(low), "{shape:?} to {to}");
        }
        let (zero, sign) = (shape.word.zero_extend(4, 8), shape.word.sign_extend(4, 8));
        let signed = shape.numbers().map(|number| sign_extend(number, 4) as u64 & ones(8));
        let signed = Seen::all_of(signed, 8);
        assert!(signed.is_in(sign), "{shape:?}");
        // Nothing is lost either.
        assert_eq!(bounds(zero), bounds(Seen::all_of(shape.numbers(), 8).word()), "{shape:?}");
        assert_eq!((sign.smin, sign.smax), (signed.smin, signed.smax), "{shape:?}");
        assert_eq!(zero.bits, shape.word.bits);
        assert_eq!((shape.word.low(4, 4), shape.word.zero_extend(4, 4)), (shape.word, shape.word));
    }
}

#[test]
fn a_word_from_bits_is_all_numbers_of_the_bits() {
    for bits in tnums(8) {
        let word = Word::from_bits(bits, 8);
        let least = Seen::all_of(super::members(bits), 8).word();
        assert_eq!(bounds(word), bounds(least), "{bits:?}");
        assert_eq!(word.bits, least.bits, "{bits:?}");
    }
}
