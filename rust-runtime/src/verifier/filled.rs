//! Arrays that loops fill: which bytes of a stack are written, where that depends on counters.
//!
//! Of a store at an offset that varies, cells cannot say which bytes it wrote. A range of bytes can, whose ends move with the
//! counters of loops that are being proved: after `i` rounds the first `4 * i` bytes of an array are written. Stores make such
//! ranges and extend them. By how much they did so in the first round is guessed of every round, and proved as all else is that
//! holds in every round. Where a loop is left, its counter is known, and so are the bytes between the ends.

use super::{
    STACK,
    planted::{Bug, on},
    state::{Counter, State},
    value::{Id, Num},
};

/// Sums of fewer and smaller numbers than these do not wrap.
const FAR: i64 = 1 << 20;
const FAR_COUNTER: i64 = 1 << 40;
/// Ranges that a state remembers.
const MAX_FILLED: usize = 8;
/// Guesses about one loop.
const MAX_GUESSED: usize = 4;

/// An offset from a stack's upper end, `add` and multiples of symbols. Symbol 0: there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    /// In order.
    terms: [(Id, i64); 2],
    add: i64,
}

/// These bytes of a frame's stack are written, and none belongs to a pointer. Of ranges between constants the cells know that:
/// they only tell what a loop may fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    pub frame: usize,
    pub from: Edge,
    pub to: Edge,
}

impl Edge {
    pub fn constant(add: i64) -> Edge {
        Edge { add, ..Edge::default() }
    }

    /// What a number is, if it is linked to no more than that.
    pub fn of(number: &Num) -> Option<Edge> {
        match number.is_constant() {
            Some(value) => Edge::default().moved(value as i64),
            None if number.link.symbol == 0 => None,
            None => Edge::default().moved(number.link.add)?.plus(number.link.symbol, number.link.scale),
        }
    }

    pub fn moved(self, by: i64) -> Option<Edge> {
        let add = self.add.checked_add(by).filter(|add| add.unsigned_abs() <= FAR.unsigned_abs())?;
        Some(Edge { add, ..self })
    }

    pub fn plus(mut self, symbol: Id, scale: i64) -> Option<Edge> {
        if scale == 0 {
            return Some(self);
        }
        let place = self.terms.iter().position(|(of, _)| *of == symbol);
        let place = place.or_else(|| self.terms.iter().position(|(of, _)| *of == 0))?;
        let sum = self.terms[place].1.checked_add(scale).filter(|sum| sum.unsigned_abs() <= FAR.unsigned_abs())?;
        self.terms[place] = if sum == 0 { (0, 0) } else { (symbol, sum) };
        self.terms.sort_unstable();
        Some(self)
    }

    pub fn sum(self, other: Edge) -> Option<Edge> {
        other.each().try_fold(self.moved(other.add)?, |sum, (symbol, scale)| sum.plus(symbol, scale))
    }

    fn each(self) -> impl Iterator<Item = (Id, i64)> {
        self.terms.into_iter().filter(|(symbol, _)| *symbol != 0)
    }

    pub fn depends_on(self, symbol: Id) -> bool {
        symbol != 0 && self.terms.iter().any(|(of, _)| *of == symbol)
    }

    pub fn is_constant(self) -> Option<i64> {
        (self.terms == [(0, 0); 2]).then_some(self.add)
    }

    /// How far another lies behind, if that is known.
    fn distance_to(self, other: Edge) -> Option<i64> {
        (self.terms == other.terms).then(|| other.add - self.add)
    }

    /// With sums in place of symbols.
    pub fn replaced(self, mut with: impl FnMut(Id) -> Option<Edge>) -> Option<Edge> {
        self.each().try_fold(Edge::constant(self.add), |sum, (symbol, scale)| sum.sum(with(symbol)?.times(scale)?))
    }

    fn times(self, by: i64) -> Option<Edge> {
        let start = Edge::default().moved(self.add.checked_mul(by)?)?;
        self.each().try_fold(start, |sum, (symbol, scale)| sum.plus(symbol, scale.checked_mul(by)?))
    }

    /// The least, or the greatest, that it may be, but for some symbols.
    fn at_an_end(self, state: &State, is_greatest: bool, stays: impl Fn(Id) -> bool) -> Option<Edge> {
        self.each().try_fold(Edge::constant(self.add), |sum, (symbol, scale)| {
            if stays(symbol) {
                return sum.plus(symbol, scale);
            }
            let Counter { low, high, .. } = *state.counter(symbol)?;
            let is_near = low >= -FAR_COUNTER && high <= FAR_COUNTER;
            let end = if (scale > 0) == is_greatest { high } else { low };
            // What lies so far away is cut off: nothing is there.
            if is_near { sum.moved(scale * end) } else { None }
        })
    }
}

impl Filled {
    pub fn depends_on(&self, symbol: Id) -> bool {
        self.from.depends_on(symbol) || self.to.depends_on(symbol)
    }

    pub fn is_constant(&self) -> bool {
        self.from.is_constant().is_some() && self.to.is_constant().is_some()
    }

    /// With sums in place of symbols.
    pub fn replaced(&self, mut with: impl FnMut(Id) -> Option<Edge>) -> Option<Filled> {
        Some(Filled { from: self.from.replaced(&mut with)?, to: self.to.replaced(&mut with)?, ..*self })
    }

    fn bytes(&self) -> Option<i64> {
        self.from.distance_to(self.to)
    }

    fn is_within(&self, other: &Filled) -> bool {
        let is_behind = |a: Edge, b: Edge| a.distance_to(b).is_some_and(|distance| distance >= 0);
        self.frame == other.frame && is_behind(other.from, self.from) && is_behind(self.to, other.to)
    }

    /// The bytes that it surely has.
    fn least(&self, state: &State) -> Option<(i64, i64)> {
        let from = self.from.at_an_end(state, true, |_| false)?.add.max(-i64::from(STACK));
        let to = self.to.at_an_end(state, false, |_| false)?.add.min(0);
        (from < to).then_some((from, to))
    }
}

impl State {
    /// Numbers were written there.
    pub fn note_filled(&mut self, frame: usize, at: Edge, bytes: i64) {
        let is_known = |(symbol, _): (Id, i64)| self.counter(symbol).is_some();
        let Some(end) = at.moved(bytes).filter(|_| at.each().all(is_known)) else { return };
        let mut new = Filled { frame, from: at, to: end };
        if self.filled.iter().any(|filled| new.is_within(filled)) {
            return;
        }
        while let Some(place) = self
            .filled
            .iter()
            .position(|filled| filled.frame == frame && (filled.to == new.from || filled.from == new.to))
        {
            let known = self.filled.remove(place);
            if known.to == new.from {
                new.from = known.from;
            } else {
                new.to = known.to;
            }
        }
        if self.filled.len() == MAX_FILLED
            && let Some(place) = self.filled.iter().position(Filled::is_constant)
        {
            self.filled.remove(place);
        }
        if self.filled.len() < MAX_FILLED {
            self.filled.push(new);
        }
    }

    /// A pointer was written there.
    pub fn forget_filled(&mut self, frame: usize, start: i64, bytes: i64) {
        if self.filled.is_empty() {
            return;
        }
        let mut known = std::mem::take(&mut self.filled);
        known.retain(|filled| {
            let from = filled.from.at_an_end(self, false, |_| false).map(|edge| edge.add);
            let to = filled.to.at_an_end(self, true, |_| false).map(|edge| edge.add);
            filled.frame != frame || from.is_some_and(|from| from >= start + bytes) || to.is_some_and(|to| to <= start)
        });
        self.filled = known;
    }

    /// These bytes are known to be written.
    pub fn is_filled(&self, wanted: &Filled) -> bool {
        if self.filled.iter().any(|filled| wanted.is_within(filled)) {
            return true;
        }
        if wanted.bytes().is_some_and(|bytes| bytes <= 0) {
            return true;
        }
        match (wanted.from.is_constant(), wanted.to.is_constant()) {
            (Some(from), Some(to)) if from >= -i64::from(STACK) && to <= 0 => {
                self.frames.get(wanted.frame).is_some_and(|frame| frame.stack.check_numbers(from, to - from).is_ok())
            }
            _ => false,
        }
    }

    /// A frame's stack with what is surely filled.
    pub fn stack_with_filled(&self, frame: usize) -> Option<super::stack::Stack> {
        let mut filled = self.filled.iter().filter(|filled| filled.frame == frame && !filled.is_constant()).peekable();
        filled.peek()?;
        let mut stack = self.frames[frame].stack.clone();
        for (from, to) in filled.filter_map(|filled| filled.least(self)) {
            stack.fill(from, to - from);
        }
        Some(stack)
    }

    /// Some of what is filled depends on a symbol.
    pub fn fills_by(&self, symbol: Id) -> bool {
        self.filled.iter().any(|filled| filled.depends_on(symbol))
    }

    /// Loops were left: what is filled does not depend on their counters any more.
    pub fn settle_filled(&mut self, is_active: impl Fn(Id) -> bool) {
        for Filled { frame, from, to } in std::mem::take(&mut self.filled) {
            let from = from.at_an_end(self, !on(Bug::FilledTooFar), &is_active);
            let to = to.at_an_end(self, on(Bug::FilledTooFar), &is_active);
            let Some((from, to)) = from.zip(to) else { continue };
            let filled = Filled { frame, from, to };
            let bounds = from.is_constant().zip(to.is_constant());
            if bounds.is_some_and(|(from, to)| from >= to) {
                continue;
            }
            if let Some((from, to)) = bounds.map(|(from, to)| (from.max(-i64::from(STACK)), to.min(0)))
                && from < to
                && self.frames[frame].stack.check_numbers(from, to - from).is_err()
            {
                self.frame_mut(frame).stack.fill(from, to - from);
            }
            if bounds.is_none() || !self.loops.is_empty() {
                self.filled.push(filled);
            }
        }
    }

    /// A function's frame is gone.
    pub fn pop_frame(&mut self) {
        self.frames.pop();
        let frames = self.frames.len();
        self.filled.retain(|filled| filled.frame < frames);
    }
}

/// What a loop seems to fill in every round, by what is filled at two consecutive arrivals at its head. `rounds` tells how far an
/// edge has moved since one of them, if it moves so far each round.
pub fn guessed(
    previous: &State,
    current: &State,
    from_first: bool,
    rounds: impl Fn(i64) -> Option<Edge>,
) -> Vec<Filled> {
    let (base, other) = if from_first { (previous, current) } else { (current, previous) };
    let mut guessed: Vec<Filled> =
        base.filled.iter().filter(|filled| !filled.is_constant() && other.is_filled(filled)).copied().collect();
    for after in &current.filled {
        let alike = |a: Edge, b: Edge| a.distance_to(b).filter(|distance| *distance != 0);
        let of_frame = || previous.filled.iter().filter(|before| before.frame == after.frame);
        let grown_up = of_frame().find(|before| before.from == after.from && alike(before.to, after.to).is_some());
        let grown_down = of_frame().find(|before| before.to == after.to && alike(before.from, after.from).is_some());
        let ends = |before: &Filled| if from_first { *before } else { *after };
        let up = |start: Filled, by: i64| Some(Filled { to: start.to.sum(rounds(by)?)?, ..start });
        let down = |start: Filled, by: i64| Some(Filled { from: start.from.sum(rounds(-by)?)?, ..start });
        if let Some(before) = grown_up {
            guessed.extend(alike(before.to, after.to).and_then(|by| up(ends(before), by)));
        } else if let Some(before) = grown_down {
            guessed.extend(alike(after.from, before.from).and_then(|by| down(ends(before), by)));
        } else if let (false, Some(by)) = (of_frame().any(|before| after.is_within(before)), after.bytes()) {
            let (first, last) = (Filled { to: after.from, ..*after }, Filled { from: after.to, ..*after });
            // What is written there already need not be filled.
            let is_open = |at: Edge| {
                let next = at.moved(by).map(|to| Filled { from: at, to, ..*after });
                next.is_some_and(|next| !current.is_filled(&next))
            };
            guessed.extend(up(ends(&first), by).filter(|_| is_open(after.to)));
            let below = after.from.moved(-by);
            guessed.extend(down(ends(&last), by).filter(|_| below.is_some_and(is_open)));
        }
        if guessed.len() >= MAX_GUESSED {
            break;
        }
    }
    guessed.dedup();
    guessed
}
