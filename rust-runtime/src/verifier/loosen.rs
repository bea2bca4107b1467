//! Going on as one where ways meet that differ in their numbers only.
//!
//! A way that comes to where others were explored, and is not covered by them, may be one of very many: each branch before doubles
//! them. So the walk goes on from a state that holds for this way and for one that was there before: numbers that differ, and that
//! something depended on, are of the ranges of both. Whoever comes next is likely to be covered.
//!
//! That may be too little for what follows: an access is refused then, or a loop has no proof. The walk returns to where it gave
//! the way's own numbers up, and goes on with them. If it fails although, all is checked once more without this: no program is
//! refused because of it, and what is said of a program that is refused is said of its own numbers.

use std::rc::Rc;

use super::{
    attempt::{At, are_same_loops},
    cover::{Counters, Cover, Fixed},
    domain::Scalar,
    need::{FrameNeed, Need},
    planted::{Bug, on},
    stack::{Cell, Stack, each_of},
    state::{ActiveLoop, Mark, State},
    value::{Id, Link, Num, Pointer, Target, Value},
    walk::{Walk, bytes_of},
};

/// How often ranges are joined at a place before bounds that grow are given up.
const JOINS: u32 = 3;
/// How often the walk may return: then no way is loosened any more.
const MAX_RETURNS: usize = 16;

/// A way that goes on with less known than is known of it.
#[derive(Debug)]
pub struct Loosened {
    pc: usize,
    mark: Mark,
    total: u64,
    /// What is known of it.
    state: State,
    /// It goes on with what a trial knew here.
    is_guided: bool,
}

impl Loosened {
    pub fn is_before(&self, mark: Mark) -> bool {
        self.mark.chain < mark.chain
    }
}

impl Walk<'_> {
    /// Goes on from a state that holds for a way that was here before, too, if they differ in numbers only. How often that was done
    /// for what is now to be stored; None: the way is as it was.
    pub fn loosen(&mut self, pc: usize) -> Option<u32> {
        let is_tight = self.tight.len() > MAX_RETURNS || self.tight.contains(&pc);
        if self.options.strict || is_tight || self.is_trial() || !self.has_room() {
            return None;
        }
        let before = self.met_before(pc);
        let is_guided = before.is_none();
        let (state, joins, ids) = match before {
            Some((index, fixed)) => {
                let stored = &self.stored[index];
                let joins = stored.joins + 1;
                let mut join = Join { ids: self.ids, links: Vec::new(), is_wide: joins > JOINS };
                let state = join.states(stored.state.as_ref()?, &self.state, &stored.need, &fixed)?;
                (state, joins, join.ids)
            }
            // Others will come, as a trial has seen.
            None => {
                let expected = self.expected(pc)?;
                let fixed = self.fixed(&self.state.loops, 0, &[]);
                let mut join = Join { ids: self.ids, links: Vec::new(), is_wide: true };
                let state = join.states(expected, &self.state, &self.everything(pc, &self.state), &fixed)?;
                (state, 0, join.ids)
            }
        };
        self.ids = ids;
        let bytes = bytes_of(&self.state);
        let state = std::mem::replace(&mut self.state, state);
        self.loosened.push(Loosened { pc, mark: self.mark(), total: self.total, state, is_guided });
        if is_guided {
            self.note_guided(true);
        }
        self.loosenings += 1;
        // To return to, whatever is stored here.
        self.push_node(1, None, 0);
        self.memory += bytes;
        self.chain.last_mut()?.bytes += bytes;
        Some(joins)
    }

    /// The last state stored at a slot, if it was in the same rounds of the same loops.
    fn met_before(&self, pc: usize) -> Option<(usize, Counters)> {
        let index = *self.table[pc].last()? as usize;
        let before = &self.stored[index].state.as_ref()?.loops;
        // Who came to a loop's head first is inside of it since then.
        let is_first = |last: &ActiveLoop| last.head == pc && last.count == 0 && last.attempt == 0;
        let before = match before.split_last() {
            Some((last, outer)) if outer.len() == self.state.loops.len() && is_first(last) => outer,
            _ => before,
        };
        are_same_loops(before, &self.state.loops).then_some(())?;
        Some((index, self.counters_in_common(index)?))
    }

    /// Ways that are explored to their ends need not be returned to.
    pub fn forget_loosened(&mut self) {
        while self.loosened.last().is_some_and(|loosened| loosened.mark.chain >= self.chain.len()) {
            self.loosened.pop();
        }
    }

    /// Some way was loosened since the innermost attempt began.
    pub fn is_loosened_within(&self, attempt: Option<Mark>) -> bool {
        self.loosened.last().is_some_and(|loosened| attempt.is_none_or(|mark| !loosened.is_before(mark)))
    }

    /// Returns to the last way that was loosened and goes on as is known of it. False: there is none.
    pub fn tighten(&mut self) -> bool {
        let Some(Loosened { pc, mark, total, state, is_guided }) = self.loosened.pop() else { return false };
        self.attempts.retain(|attempt| attempt.mark.chain < mark.chain);
        self.rewind(mark, total);
        (self.state, self.pc) = (state, pc);
        self.resume = Default::default();
        match is_guided {
            true => self.note_guided(false),
            false => self.tight.push(pc),
        }
        true
    }
}

/// Makes a state that holds for a new one, and likely for an old one.
struct Join {
    ids: Id,
    /// What became one number: of the old state, of the new one, and its symbol.
    links: Vec<(Link, Link, Id)>,
    is_wide: bool,
}

impl Join {
    /// The new state with less known of numbers that were needed of the old one and differ. None: they differ in more. After some
    /// joins it holds for the old state in all of them: else a number that is narrower this time would be joined again next time.
    fn states(&mut self, old: &State, new: &State, need: &Need, fixed: &[Fixed]) -> Option<State> {
        let mut cover = Cover::new(old, new, fixed);
        if !cover.are_alike() {
            return None;
        }
        let mut state = new.clone();
        for (index, (a, b)) in old.frames.iter().zip(&new.frames).enumerate() {
            let need = need.frames.get(index).copied().unwrap_or_default();
            for reg in each_of(need.regs.into()) {
                let (x, y, is_exact) = (&a.regs[reg], &b.regs[reg], need.exact & 1 << reg != 0);
                let is_covered = cover.value(x, y, is_exact);
                if is_covered && !(self.is_wide && is_exact && x != y) {
                    continue;
                }
                match self.numbers(x, y, new) {
                    Some(number) => *At::Reg(index, reg).number_mut(&mut state)? = number,
                    None if is_covered => {}
                    None => return None,
                }
            }
            self.stacks(&mut cover, index, &need, &mut state, (&a.stack, &b.stack), new)?;
        }
        Some(state)
    }

    fn stacks(
        &mut self,
        cover: &mut Cover<'_>,
        frame: usize,
        need: &FrameNeed,
        state: &mut State,
        (old, new): (&Stack, &Stack),
        of: &State,
    ) -> Option<()> {
        for cell in each_of(need.cells & old.depth()) {
            let is_covered = cover.cell(old, new, cell, need.cells, need.exact_cells);
            let is_exact = need.exact_cells & 1 << cell != 0;
            if is_covered && !(self.is_wide && is_exact && old.get(cell) != new.get(cell)) {
                continue;
            }
            let number = match (old.get(cell), new.get(cell)) {
                (Cell::Low(x), Cell::Low(y)) => self.numbers(x, y, of),
                (Cell::Word(x), Cell::Word(y)) => self.number(x, y, of),
                (&Cell::Bytes { written, zero }, &Cell::Bytes { written: new_written, zero: new_zero })
                    if written & !new_written == 0 =>
                {
                    let bytes = Cell::Bytes { written: new_written, zero: zero & new_zero };
                    Rc::make_mut(&mut state.frames[frame]).stack.set(cell, bytes);
                    continue;
                }
                _ => None,
            };
            match number {
                Some(number) => *At::Cell(frame, cell).number_mut(state)? = number,
                None if is_covered => {}
                None => return None,
            }
        }
        Some(())
    }

    /// Two numbers, or pointers that differ in their offsets only.
    fn numbers(&mut self, old: &Value, new: &Value, of: &State) -> Option<Num> {
        match (old, new) {
            (Value::Number(x), Value::Number(y)) => self.number(x, y, of),
            (Value::Pointer(x), Value::Pointer(y)) => {
                let may_vary = matches!(x.to, Target::MapValue(_) | Target::Record(_));
                let is_alike = Pointer { offset: y.offset, ..*x } == *y;
                if may_vary && is_alike { self.number(&x.offset, &y.offset, of) } else { None }
            }
            _ => None,
        }
    }

    fn number(&mut self, old: &Num, new: &Num, of: &State) -> Option<Num> {
        // Loops that are being proved ask for their counters.
        let is_counter = |number: &Num| number.link.symbol != 0 && of.counter(number.link.symbol).is_some();
        if is_counter(old) || is_counter(new) {
            return None;
        }
        let range = if on(Bug::Loosen) { old.range } else { self.range(&old.range, &new.range) };
        let symbol = match (key(old), key(new)) {
            (Some(x), Some(y)) => match self.links.iter().find(|(a, b, _)| (*a, *b) == (x, y)) {
                Some((_, _, symbol)) => *symbol,
                None => {
                    let symbol = self.fresh();
                    self.links.push((x, y, symbol));
                    symbol
                }
            },
            _ => self.fresh(),
        };
        Some(Num::symbol(range, symbol))
    }

    /// All that is in either range, and more where there is no end to it.
    fn range(&self, old: &Scalar, new: &Scalar) -> Scalar {
        if !self.is_wide {
            return old.join(new);
        }
        // What 32-bit instructions made has no upper half, however far it goes.
        let wide = old.widen(new);
        if old.is_half() && new.is_half() { wide.truncate(4) } else { wide }
    }

    fn fresh(&mut self) -> Id {
        self.ids += 1;
        self.ids
    }
}

/// Numbers with the same key are equal.
fn key(number: &Num) -> Option<Link> {
    match number.is_constant() {
        Some(value) => Some(Link { add: value as i64, ..Link::default() }),
        None => (number.link.symbol != 0).then_some(number.link),
    }
}
