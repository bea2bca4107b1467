//! Soundness of every operation: exhaustively on few bits, at random on 64.
//!
//! On few bits a state is compared with the set of its members. What the whole product of states is too much for a test run is
//! sampled here and exhausted by `DUCKBPF_EXHAUSTIVE=1 cargo test --release`, which `cargo xtask fuzz` runs first.

use std::{collections::HashSet, sync::OnceLock};

use super::{
    Number, Scalar,
    tnum::{Tnum, ones, sign_extend},
    word::Word,
};
use crate::isa::{self, Alu, ByteOrder, Cond, Width};

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
}

fn is_exhaustive() -> bool {
    std::env::var_os("DUCKBPF_EXHAUSTIVE").is_some()
}

/// Partners to try a state with: all of them, or a sample.
fn partners<T: Copy>(all: &[T], sample: usize, random: &mut Random) -> Vec<T> {
    if is_exhaustive() || all.len() <= sample {
        return all.to_vec();
    }
    (0..sample).map(|_| all[random.below(all.len())]).collect()
}

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

/// An operation on tnums, what it stands for, and whether it is known to be the best there is.
type TnumCase = (&'static str, fn(Tnum, Tnum) -> Tnum, fn(u64, u64) -> u64, bool);

#[test]
fn tnums_hold_every_result() {
    let n = if is_exhaustive() { 8 } else { 5 };
    let cases: [TnumCase; 6] = [
        ("add", Tnum::add, u64::wrapping_add, true),
        ("sub", Tnum::sub, u64::wrapping_sub, true),
        ("mul", Tnum::mul, u64::wrapping_mul, false),
        ("and", Tnum::and, |a, b| a & b, true),
        ("or", Tnum::or, |a, b| a | b, true),
        ("xor", Tnum::xor, |a, b| a ^ b, true),
    ];
    let all = tnums(n);
    for (name, op, concrete, is_best) in cases {
        for &a in &all {
            for &b in &all {
                let result = op(a, b).low(n);
                let results = || members(a).flat_map(|x| members(b).map(move |y| concrete(x, y) & ones(n)));
                let best = best_bits(results());
                assert!(best.is_subset_of(result), "{name}: {a:?} {b:?} gives {result:?}");
                assert!(!is_best || result == best, "{name}: {a:?} {b:?} gives {result:?}");
            }
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

fn bounds(word: Word) -> (u64, u64, i64, i64) {
    (word.umin, word.umax, word.smin, word.smax)
}

fn word_set(word: Word, n: u32) -> u32 {
    (0..=ones(n)).filter(|&number| word.contains(number, n)).fold(0, |set, number| set | 1 << number)
}

fn numbers(set: u32) -> impl Iterator<Item = u64> + Clone {
    (0..32u64).filter(move |&number| set >> number & 1 == 1)
}

/// Every reduced word of `n` bits, with its members as a bit set.
fn words(n: u32) -> Vec<(Word, u32)> {
    let mut found = HashSet::new();
    let mut all = Vec::new();
    let signed = |number: u64| sign_extend(number, n);
    let (first, last) = (signed(1 << (n - 1)), signed(ones(n - 1)));
    for bits in tnums(n) {
        for (umin, umax) in (0..=ones(n)).flat_map(|low| (low..=ones(n)).map(move |high| (low, high))) {
            for (smin, smax) in (first..=last).flat_map(|low| (low..=last).map(move |high| (low, high))) {
                let word = Word { bits, umin, umax, smin, smax };
                let set = word_set(word, n);
                let reduced = word.reduce(n);
                assert_eq!(reduced.is_some(), set != 0, "{word:?}");
                let Some(reduced) = reduced else { continue };
                assert_eq!(word_set(reduced, n), set, "{word:?} reduced to {reduced:?}");
                if found.insert((reduced.bits.value, reduced.bits.mask, bounds(reduced))) {
                    all.push((reduced, set));
                }
            }
        }
    }
    all
}

/// The least word that holds a set.
fn best_word(set: u32, n: u32) -> Word {
    let signed = || numbers(set).map(|number| sign_extend(number, n));
    Word {
        bits: best_bits(numbers(set)),
        umin: numbers(set).min().unwrap(),
        umax: numbers(set).max().unwrap(),
        smin: signed().min().unwrap(),
        smax: signed().max().unwrap(),
    }
}

/// The words of 4 bits are too many to make anew in each test.
fn small_words() -> &'static [(Word, u32)] {
    static WORDS: OnceLock<Vec<(Word, u32)>> = OnceLock::new();
    WORDS.get_or_init(|| words(4))
}

#[test]
fn reduced_words_end_in_members() {
    for (n, list) in [(2, words(2)), (4, small_words().to_vec())] {
        for (word, set) in list {
            assert_eq!(bounds(word), bounds(best_word(set, n)), "{word:?}");
            assert_eq!(word.reduce(n), Some(word), "reduced twice");
        }
    }
}

/// Share of results whose bounds are the best there are, in percent.
fn check_words(n: u32, list: &[(Word, u32)], op: Alu, sample: usize) -> usize {
    let mut random = Random(n.into());
    let (mut best, mut tried) = (0, 0);
    for &(a, set_a) in list {
        for (b, set_b) in partners(list, sample, &mut random) {
            let result = a.alu(op, b, n);
            let all = numbers(set_a).flat_map(|x| numbers(set_b).map(move |y| concrete(op, x, y, n)));
            let set = all.fold(0u32, |set, number| set | 1 << number);
            assert_eq!(set & !word_set(result, n), 0, "{op:?} at {n} bits: {a:?} {b:?} gives {result:?}");
            assert_eq!(result.reduce(n), Some(result), "{op:?}: not reduced");
            best += usize::from(bounds(result) == bounds(best_word(set, n)));
            tried += 1;
        }
    }
    100 * best / tried
}

#[test]
fn words_hold_every_result() {
    for op in ALUS {
        check_words(2, &words(2), op, usize::MAX);
        let share = check_words(4, small_words(), op, 12);
        println!("{op:?}: {share}% of the bounds are the best possible");
        let least = LEAST_BEST.iter().find(|(known, _)| *known == op).map_or(0, |(_, share)| *share);
        assert!(share >= least, "{op:?}: {share}%");
    }
}

/// Least share of results with the best possible bounds, on 4 bits; measured and rounded down.
const LEAST_BEST: [(Alu, usize); 14] = [
    (Alu::Add, 50),
    (Alu::Sub, 50),
    (Alu::Mul, 0),
    (Alu::Div, 0),
    (Alu::SDiv, 0),
    (Alu::Mod, 0),
    (Alu::SMod, 0),
    (Alu::Or, 0),
    (Alu::And, 0),
    (Alu::Xor, 0),
    (Alu::Lsh, 0),
    (Alu::Rsh, 0),
    (Alu::Arsh, 0),
    (Alu::Mov, 100),
];

#[test]
fn words_joined_widened_and_met() {
    let mut random = Random(7);
    let list = small_words();
    for &(a, set_a) in list {
        for (b, set_b) in partners(list, 24, &mut random) {
            let (joined, widened) = (a.join(b), a.widen(b, 4));
            assert_eq!(joined.reduce(4), Some(joined), "{a:?} {b:?}");
            assert_eq!(bounds(joined), bounds(best_word(set_a | set_b, 4)), "{a:?} {b:?}");
            assert!(a.is_subset_of(joined) && b.is_subset_of(joined), "{a:?} {b:?}");
            assert!(joined.is_subset_of(widened), "{a:?} {b:?} widened to {widened:?}");
            assert!(!a.is_subset_of(b) || set_a & !set_b == 0, "{a:?} {b:?}");
            let met = a.intersect(b, 4).map_or(0, |word| word_set(word, 4));
            assert_eq!(met, set_a & set_b, "{a:?} {b:?}");
        }
    }
}

#[test]
fn widening_ends() {
    let mut random = Random(11);
    let list = small_words();
    for round in 0..2000 {
        let mut word = list[random.below(list.len())].0;
        let mut changes = 0;
        for _ in 0..200 {
            let next = word.widen(list[random.below(list.len())].0, 4);
            changes += usize::from(next != word);
            word = next;
        }
        // Four bounds that go once, and again when a bit that held them does.
        assert!(changes <= 12, "round {round}: {changes} changes");
    }
}

#[test]
fn words_refined_keep_what_may_be() {
    let mut random = Random(3);
    let list = small_words();
    for cond in CONDS {
        for &a in list {
            for b in partners(list, 6, &mut random) {
                for taken in [true, false] {
                    let refined = if taken { a.0.assume(cond, b.0, 4) } else { a.0.assume_not(cond, b.0, 4) };
                    check_refined(cond, taken, a, b, refined);
                }
            }
        }
    }
}

fn check_refined(cond: Cond, taken: bool, a: (Word, u32), b: (Word, u32), refined: Option<(Word, Word)>) {
    let pairs = numbers(a.1).flat_map(|x| numbers(b.1).map(move |y| (x, y)));
    let mut sets = (0u32, 0u32);
    for (x, y) in pairs.filter(|&(x, y)| holds(cond, x, y, 4) == taken) {
        sets = (sets.0 | 1 << x, sets.1 | 1 << y);
    }
    let case = || format!("{:?} {cond:?} {:?} taken {taken}: {refined:?}", a.0, b.0);
    // Equality and bits may be refuted by numbers in the middle, which bounds do not know.
    let is_order = !matches!(cond, Cond::Eq | Cond::Ne | Cond::Set);
    let Some((left, right)) = refined else {
        return assert_eq!(sets.0, 0, "{}", case());
    };
    assert_eq!(sets.0 & !word_set(left, 4), 0, "{}", case());
    assert_eq!(sets.1 & !word_set(right, 4), 0, "{}", case());
    assert!(left.is_subset_of(a.0) && right.is_subset_of(b.0), "something is forgotten: {}", case());
    assert!(!is_order || sets.0 != 0, "impossible, and not told: {}", case());
}

#[test]
fn words_resized() {
    for &(word, set) in small_words() {
        for to in [1, 2, 3] {
            let low = word.low(to, 4);
            assert!(numbers(set).all(|number| low.contains(number & ones(to), to)), "{word:?} to {to}: {low:?}");
        }
        let (zero, sign) = (word.zero_extend(4, 8), word.sign_extend(4, 8));
        for number in 0..16 {
            let is_member = set >> number & 1 == 1;
            assert!(!is_member || zero.contains(number, 8), "{word:?}");
            assert!(!is_member || sign.contains(sign_extend(number, 4) as u64 & ones(8), 8), "{word:?}");
        }
    }
}

type Small = Number<4, 2>;

/// Every settled number of 4 bits with a half of 2, with its members.
fn small_numbers() -> &'static [(Small, u32)] {
    static NUMBERS: OnceLock<Vec<(Small, u32)>> = OnceLock::new();
    NUMBERS.get_or_init(|| {
        let mut found = HashSet::new();
        let mut all = Vec::new();
        let halves = words(2);
        for &(wide, set) in small_words() {
            for &(half, half_set) in &halves {
                let number = Small { wide, half };
                let both = numbers(set).filter(|&x| half_set >> (x & 3) & 1 == 1).fold(0u32, |set, x| set | 1 << x);
                let Some(settled) = number.settle() else {
                    assert_eq!(both, 0, "{number:?}");
                    continue;
                };
                assert_eq!(both & !set_of(&settled), 0, "{number:?} settled to {settled:?}");
                let key = |word: Word| (word.bits.value, word.bits.mask, bounds(word));
                if both != 0 && found.insert((key(settled.wide), key(settled.half))) {
                    all.push((settled, set_of(&settled)));
                }
            }
        }
        all
    })
}

fn set_of(number: &Small) -> u32 {
    (0..16).filter(|&value| number.contains(value)).fold(0, |set, value| set | 1 << value)
}

fn width_bits(width: Width) -> u32 {
    if width == Width::W64 { 4 } else { 2 }
}

#[test]
fn numbers_hold_every_result() {
    let mut random = Random(5);
    let list = small_numbers();
    for op in ALUS {
        for (a, set_a) in partners(list, 20_000, &mut random) {
            for (b, set_b) in partners(list, 2, &mut random) {
                for width in [Width::W64, Width::W32] {
                    let n = width_bits(width);
                    let result = a.alu(op, &b, width);
                    for (x, y) in numbers(set_a).flat_map(|x| numbers(set_b).map(move |y| (x, y))) {
                        let value = concrete(op, x & ones(n), y & ones(n), n);
                        assert!(result.contains(value), "{x} {op:?} {y}, {n} bits: {a:?} {b:?} gives {result:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn numbers_refined_keep_what_may_be() {
    let mut random = Random(6);
    let list = small_numbers();
    let ways = [(Width::W64, true), (Width::W64, false), (Width::W32, true), (Width::W32, false)];
    for cond in CONDS {
        for (a, set_a) in partners(list, 20_000, &mut random) {
            let (b, set_b) = list[random.below(list.len())];
            for (width, taken) in ways {
                let n = width_bits(width);
                let refined = a.refine(cond, width, &b, taken);
                let pairs = numbers(set_a).flat_map(|x| numbers(set_b).map(move |y| (x, y)));
                for (x, y) in pairs.filter(|&(x, y)| holds(cond, x & ones(n), y & ones(n), n) == taken) {
                    let kept = refined.is_some_and(|(left, right)| left.contains(x) && right.contains(y));
                    assert!(kept, "{x} {cond:?} {y}, {n} bits, {taken}: {a:?} {b:?} gives {refined:?}");
                }
            }
        }
    }
}

#[test]
fn numbers_joined_widened_and_resized() {
    let mut random = Random(8);
    let list = small_numbers();
    for (a, set_a) in partners(list, 30_000, &mut random) {
        for (b, set_b) in partners(list, 4, &mut random) {
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
