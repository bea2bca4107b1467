//! What a proof of a loop teaches for the next time that a trial of an outer loop comes to the same head.
//!
//! An inner loop is proved anew in each trial of an outer one, mostly for the same reasons. So what held for every round last
//! time is guessed again, of the state that the loop is entered in this time: what did not change then is as it is now, counters
//! begin where they are now, and other numbers are in the ranges of then. As any guess it need not be trusted. If it does not
//! hold, the loop is tried as if nothing were known of it.

use std::rc::Rc;

use super::{Attempt, Class, Pair};
use crate::verifier::{
    stack::{Cell, Stack},
    state::{Regs, State},
    value::{Id, Link, Num, Pointer, Value},
    walk::Walk,
};

/// How often guesses from what was learnt of a loop may fail.
const MAX_MISLED: u32 = 2;

#[derive(Clone, Debug)]
pub struct Lesson {
    /// The attempt that it is from, and its guess.
    of: (u32, u32),
    start: Rc<State>,
    widened: Rc<State>,
    classes: Vec<Class>,
}

impl Walk<'_> {
    /// Remembers what fits whatever came back.
    pub fn note_lesson(&mut self, place: usize) {
        let attempt = &self.attempts[place];
        let facts = self.loops.heads.entry(attempt.head).or_default();
        let of = (attempt.number, attempt.guesses);
        let is_known = facts.lesson.as_ref().is_some_and(|lesson| lesson.of == of);
        if is_known || attempt.is_informed || !attempt.pair.from_first || facts.misled == MAX_MISLED {
            return;
        }
        facts.lesson = Some(Lesson {
            of,
            start: attempt.pair.previous.clone(),
            widened: attempt.widened.clone(),
            classes: attempt.classes.clone(),
        });
    }

    /// Begins to prove a loop that a trial has just entered, if there is a guess from before.
    pub fn try_lesson(&mut self, head: usize, current: &Rc<State>) -> bool {
        if self.options.patient || !self.is_trial() {
            return false;
        }
        let known = self.loops.heads.get(&head).filter(|facts| facts.failures == 0);
        let Some(lesson) = known.and_then(|facts| facts.lesson.clone()) else { return false };
        let Some((widened, classes)) = Again::new(self, &lesson).state(current) else { return false };
        let pair = Pair { previous: current.clone(), current: current.clone(), from_first: true };
        let mut attempt = self.new_attempt(head, None, classes, widened, pair);
        attempt.is_informed = true;
        if !self.holds_at_the_start(&attempt) {
            return false;
        }
        self.begin(attempt, false);
        true
    }

    /// A guess from before did not hold: the loop is tried without it.
    pub fn forget_lesson(&mut self, attempt: &Attempt) {
        let facts = self.loops.heads.entry(attempt.head).or_default();
        facts.lesson = None;
        facts.misled += 1;
    }
}

/// Makes the state of then for every round that of now.
struct Again<'a> {
    lesson: &'a Lesson,
    classes: Vec<Class>,
    ids: Id,
    /// Symbols and objects of then, and what they are now.
    known: Vec<(Id, Id)>,
}

impl<'a> Again<'a> {
    fn new(walk: &mut Walk<'_>, lesson: &'a Lesson) -> Again<'a> {
        let classes = lesson.classes.iter().map(|class| class.again(walk.fresh())).collect();
        // More are not needed; those that are not used do no harm.
        let ids = walk.ids;
        walk.ids += Again::places(&lesson.widened);
        Again { lesson, classes, ids, known: Vec::new() }
    }

    fn places(state: &State) -> Id {
        state.frames.iter().map(|frame| 3 * (Regs::COUNT + frame.stack.cells().len()) as Id).sum()
    }

    /// None: now is too different.
    fn state(mut self, now: &State) -> Option<(State, Vec<Class>)> {
        let (start, widened) = (&*self.lesson.start, &*self.lesson.widened);
        let is_plain = |state: &State| state.filled.is_empty();
        let is_alike = start.frames.len() == now.frames.len()
            && start.handles == widened.handles
            && start.orders == widened.orders
            && [start, widened, now].into_iter().all(is_plain)
            && self.classes.iter().all(Class::counts_rounds);
        if !is_alike {
            return None;
        }
        let mut state = State { loops: Vec::new(), sum: None, ..now.clone() };
        for (index, (before, every)) in start.frames.iter().zip(&widened.frames).enumerate() {
            let frame = &now.frames[index];
            if (before.function, before.callback) != (frame.function, frame.callback) {
                return None;
            }
            if Rc::ptr_eq(before, every) {
                continue;
            }
            let changed = Rc::make_mut(&mut state.frames[index]);
            for reg in 0..Regs::COUNT {
                let (x, y, z) = (&before.regs[reg], &every.regs[reg], &frame.regs[reg]);
                if x != y {
                    changed.regs[reg] = self.value(x, y, z)?;
                }
            }
            self.stack(&before.stack, &every.stack, &mut changed.stack)?;
        }
        state.counters.extend(self.classes.iter().map(Class::counter));
        Some((state, self.classes))
    }

    /// A value that was `start` where the loop began, and `every` in every round.
    fn value(&mut self, start: &Value, every: &Value, now: &Value) -> Option<Value> {
        match (start, every, now) {
            (_, Value::Unset, _) => Some(Value::Unset),
            (Value::Number(x), Value::Number(y), Value::Number(z)) => Some(Value::Number(self.number(x, y, z)?)),
            (Value::Pointer(x), Value::Pointer(y), Value::Pointer(z)) if y.to == z.to => {
                let object = self.id(x.object, y.object, z.object)?;
                let null = self.id(x.null, y.null, z.null)?;
                let offset = self.number(&x.offset, &y.offset, &z.offset)?;
                let room = if x.room == y.room { z.room } else { y.room.min(z.room) };
                Some(Value::Pointer(Pointer { to: z.to, object, null, offset, room }))
            }
            _ => None,
        }
    }

    fn number(&mut self, start: &Num, every: &Num, now: &Num) -> Option<Num> {
        if start == every {
            return Some(*now);
        }
        if let Some(place) = self.lesson.classes.iter().position(|class| class.symbol == every.link.symbol) {
            let class = &self.classes[place];
            let link = Link { symbol: class.symbol, scale: every.link.scale, add: now.is_constant()? as i64 };
            return Some(Num { range: class.range(link), link });
        }
        let range = every.range.join(&now.range);
        let link = match every.link {
            link if link == start.link => now.link,
            link if link.symbol == 0 => link,
            link => Link { symbol: self.renamed(link.symbol), ..link },
        };
        Some(Num { range, link })
    }

    /// Objects that change from round to round are not known; what may be null in some round is so where the loop begins.
    fn id(&mut self, start: Id, every: Id, now: Id) -> Option<Id> {
        match start == every {
            true => Some(now),
            false if every == 0 || now == 0 => None,
            false => Some(self.renamed(every)),
        }
    }

    fn renamed(&mut self, id: Id) -> Id {
        if let Some((_, now)) = self.known.iter().find(|(then, _)| *then == id) {
            return *now;
        }
        self.ids += 1;
        self.known.push((id, self.ids));
        self.ids
    }

    fn stack(&mut self, start: &Stack, every: &Stack, now: &mut Stack) -> Option<()> {
        if start.is_shared_with(every) {
            return Some(());
        }
        let before = now.clone();
        for cell in 0..before.cells().len() {
            let (x, y, z) = (start.get(cell), every.get(cell), before.get(cell));
            if x == y {
                continue;
            }
            let changed = match (x, y, z) {
                (Cell::Low(x), Cell::Low(y), Cell::Low(z)) => Cell::Low(Rc::new(self.value(x, y, z)?)),
                (Cell::Word(x), Cell::Word(y), Cell::Word(z)) => {
                    let number = self.number(x, y, z)?;
                    if !number.range.is_half() {
                        return None;
                    }
                    Cell::Word(Rc::new(number))
                }
                // Halves of registers are so in both, or in neither.
                (x, Cell::Bytes { written, zero }, z) if std::mem::discriminant(x) == std::mem::discriminant(z) => {
                    let (new_written, new_zero) = before.bytes(cell);
                    Cell::Bytes { written: written & new_written, zero: zero & new_zero }
                }
                _ => return None,
            };
            now.set(cell, changed);
        }
        Some(())
    }
}
