//! Numbers that move together from round to round, by a constant: counters.

use super::{FAR, MANY};
use crate::verifier::{
    cover::Fixed,
    domain::Scalar,
    state::{Counter, State},
    value::{Id, Link, Num},
};

/// No counter moves faster.
const MAX_STEP: u64 = 1 << 24;

/// Numbers that move together: `link.scale * symbol + link.add`, and the symbol by the same step each round.
#[derive(Clone, Debug)]
pub struct Class {
    pub symbol: Id,
    /// The symbol's bounds over all rounds.
    low: i64,
    high: i64,
    /// Its bounds before the first round.
    first: (i64, i64),
    /// How far it is expected to move; 0 is never.
    step: i64,
    /// The steps that were seen: the least, and whether all went the same way.
    seen: Option<i64>,
    /// Its range cannot be kept: it says nothing about the number of rounds.
    is_broken: bool,
    /// What it stands for: the symbol in the state that the attempt starts from, 0 for the number of the round.
    of: Id,
}

impl Class {
    /// The number of the round.
    pub fn rounds_up_to(symbol: Id, rounds: i64) -> Class {
        Class { symbol, low: 0, high: rounds, first: (0, 0), step: 1, seen: None, is_broken: false, of: 0 }
    }

    /// A number that is not known and moves from these bounds on, as far as rounds may.
    pub fn moving(symbol: Id, of: Id, step: i64, (low, high): (i64, i64)) -> Option<Class> {
        if [low, high].iter().any(|bound| bound.unsigned_abs() > FAR) || step.unsigned_abs() > MAX_STEP {
            return None;
        }
        let far = step.saturating_mul(MANY);
        let (first, low, high) = ((low, high), low + far.min(0), high + far.max(0));
        Some(Class { symbol, low, high, first, step, seen: None, is_broken: false, of })
    }

    /// The same of another attempt, if it counts rounds.
    pub fn again(&self, symbol: Id) -> Class {
        Class { symbol, seen: None, ..self.clone() }
    }

    /// By how much a constant moves in a round, if it may be a counter.
    pub fn scale(from: i64, to: i64) -> Option<i64> {
        to.checked_sub(from)
            .filter(|scale| *scale != 0 && scale.unsigned_abs() <= MAX_STEP && from.unsigned_abs() <= FAR)
    }

    pub fn counter(&self) -> Counter {
        Counter { symbol: self.symbol, low: self.low, high: self.high }
    }

    pub fn counts_rounds(&self) -> bool {
        self.of == 0
    }

    pub fn is_of(&self, symbol: Id) -> bool {
        self.of == symbol
    }

    pub fn step(&self) -> i64 {
        self.step
    }

    /// Upward or downward.
    pub fn direction(&self) -> i64 {
        self.step.signum()
    }

    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// It was seen to move, and stays within bounds.
    pub fn is_bounded(&self) -> bool {
        !self.is_broken && self.seen.is_some()
    }

    /// The most rounds that its bounds allow.
    pub fn rounds(&self) -> Option<u64> {
        let step = self.seen.filter(|step| *step != 0 && !self.is_broken)?;
        Some(self.high.abs_diff(self.low) / step.unsigned_abs())
    }

    /// The symbol in a state that came back.
    pub fn moved(&self, step: Option<i64>) -> Fixed {
        Fixed { symbol: self.symbol, shift: step.unwrap_or(self.step) }
    }

    /// What trials saw does not count.
    pub fn forget_steps(&mut self) {
        self.seen = None;
    }

    /// Remembers the step of a way that fits.
    pub fn note(&mut self, step: Option<i64>) {
        match step {
            Some(step) if self.seen.is_none_or(|seen| seen.signum() == step.signum()) => self.seen = self.least(step),
            _ => self.is_broken = true,
        }
    }

    /// The lesser of the steps that were seen and of another.
    fn least(&self, step: i64) -> Option<i64> {
        Some(self.seen.map_or(step, |seen| if step.unsigned_abs() < seen.unsigned_abs() { step } else { seen }))
    }

    /// How far the numbers of the class have moved from one state to another, if all have moved as one.
    pub fn step_to(&self, from: &State, to: &State) -> Option<i64> {
        if self.of == 0 {
            return Some(1);
        }
        let step = |a: &Num, b: &Num| {
            let is_of_class = a.link.symbol == self.symbol && b.link.symbol == self.symbol;
            if !is_of_class || a.link.scale != b.link.scale || a.link.scale == 0 {
                return None;
            }
            let by = b.link.add.wrapping_sub(a.link.add);
            (by.checked_rem(a.link.scale)? == 0).then_some(by / a.link.scale)
        };
        from.frames.iter().zip(&to.frames).find_map(|(a, b)| {
            let mut regs = a.regs.iter().zip(b.regs.iter()).filter_map(|(a, b)| Some((a.linked()?, b.linked()?)));
            let mut cells = a.stack.linked().filter_map(|(cell, number)| Some((number, b.stack.linked_at(cell)?)));
            regs.find_map(|(a, b)| step(a, b)).or_else(|| cells.find_map(|(a, b)| step(a, b)))
        })
    }

    /// Widens the bounds by what a state that came back says.
    pub fn extend(&mut self, step: Option<i64>, state: &State, is_trial: bool) {
        let (Some(step), Some(counter)) = (step, state.counter(self.symbol)) else {
            self.is_broken = true;
            return;
        };
        if self.seen.is_some_and(|seen| seen.signum() != step.signum()) {
            self.is_broken = true;
        }
        let (low, high) = (counter.low.saturating_add(step), counter.high.saturating_add(step));
        match (is_trial, self.seen) {
            // A trial began with far bounds: what it finds are the bounds.
            (true, None) if step > 0 => self.high = self.first.1.max(high),
            (true, None) => self.low = self.first.0.min(low),
            _ => (self.low, self.high) = (self.low.min(low), self.high.max(high)),
        }
        // Its bounds before may be far apart: it may begin at the counter of an outer loop that is a guess itself.
        let gone = self.first.0.abs_diff(self.low).max(self.first.1.abs_diff(self.high));
        self.is_broken |= gone >= MANY.unsigned_abs();
        self.seen = self.least(step);
    }

    /// The range of a number that depends on the class' symbol.
    pub fn range(&self, link: Link) -> Scalar {
        let at = |symbol: i64| i128::from(link.scale) * i128::from(symbol) + i128::from(link.add);
        let (a, b) = (at(self.low), at(self.high));
        let (Ok(low), Ok(high)) = (i64::try_from(a.min(b)), i64::try_from(a.max(b))) else { return Scalar::unknown() };
        // All have the same lowest bits.
        let stride = Scalar::ending_in(link.add as u64, link.scale.trailing_zeros());
        Scalar::signed(low, high).meet(&stride).unwrap_or_default()
    }
}
