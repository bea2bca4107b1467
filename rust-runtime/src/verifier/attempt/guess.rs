//! States that hold for several rounds, guessed from single ones.

use std::rc::Rc;

use smallvec::SmallVec;

use super::{Class, MANY};
use crate::{
    isa::R10,
    verifier::{
        domain::Scalar,
        filled::{self, Edge, Filled},
        need::Need,
        stack::{Cell, Stack},
        state::{Counter, Order, Regs, State},
        value::{Id, Link, Num, Pointer, Value},
        walk::Walk,
    },
};

/// Guesses before bounds that grow are given up.
pub const WIDEN_FROM: u32 = 3;

/// Where a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Reg(usize, usize),
    Cell(usize, usize),
}

impl At {
    pub fn number(self, state: &State) -> Option<Num> {
        match self {
            At::Reg(frame, reg) => state.frames.get(frame)?.regs[reg].linked().copied(),
            At::Cell(frame, cell) => state.frames.get(frame)?.stack.linked_at(cell).copied(),
        }
    }

    pub fn number_mut(self, state: &mut State) -> Option<&mut Num> {
        match self {
            At::Reg(frame, reg) => Rc::make_mut(state.frames.get_mut(frame)?).regs[reg].linked_mut(),
            At::Cell(frame, cell) => Rc::make_mut(state.frames.get_mut(frame)?).stack.linked_mut(cell),
        }
    }

    /// Whether its value is needed; a pointer's offset is in any case.
    pub fn is_needed(self, state: &State, need: &Need) -> bool {
        let of_frame = |frame: usize| need.frames.get(frame).copied().unwrap_or_default();
        match self {
            At::Reg(frame, reg) => !state.frames[frame].regs[reg].is_number() || of_frame(frame).exact & 1 << reg != 0,
            At::Cell(frame, cell) => {
                let stack = &state.frames[frame].stack;
                let is_pointer = matches!(stack.get(cell), Cell::Low(value) if !value.is_number());
                is_pointer || of_frame(frame).exact_cells & cells(cell, stack) != 0
            }
        }
    }

    /// Nothing is known of its number but what its place says: four bytes of stack hold no more.
    pub fn holds_any(self, number: &Num, state: &State) -> bool {
        let any = match self {
            At::Cell(frame, cell) if matches!(state.frames[frame].stack.get(cell), Cell::Word(_)) => {
                Scalar::unknown().truncate(4)
            }
            _ => Scalar::unknown(),
        };
        number.range == any
    }

    /// Its value is not needed.
    pub fn remove_from(self, need: &mut Need, state: &State) {
        match self {
            At::Reg(frame, reg) => need.frames[frame].exact &= !(1 << reg),
            At::Cell(frame, cell) => need.frames[frame].exact_cells &= !cells(cell, &state.frames[frame].stack),
        }
    }
}

/// The cells that a number is in: two, if it was spilled as a whole.
fn cells(cell: usize, stack: &Stack) -> u128 {
    match stack.get(cell) {
        Cell::Low(_) => 1 << cell | 1u128 << cell >> 1,
        _ => 1 << cell,
    }
}

/// All numbers of a state that may be linked.
pub fn places(state: &State) -> Vec<(At, Num)> {
    let frames = state.frames.iter().enumerate();
    frames
        .flat_map(|(index, frame)| {
            let regs = frame.regs.iter().enumerate();
            let regs = regs.filter_map(move |(reg, value)| Some((At::Reg(index, reg), *value.linked()?)));
            regs.chain(frame.stack.linked().map(move |(cell, number)| (At::Cell(index, cell), *number)))
        })
        .collect()
}

/// Gives every number of a class the range that the class' bounds allow.
pub fn set_ranges(classes: &[Class], state: &mut State) {
    let range = |number: &mut Num| {
        if let Some(class) = classes.iter().find(|class| class.symbol == number.link.symbol) {
            number.range = class.range(number.link);
        }
    };
    for frame in &mut state.frames {
        let frame = Rc::make_mut(frame);
        frame.regs.iter_mut().filter_map(Value::linked_mut).for_each(range);
        let cells: Vec<usize> = frame.stack.linked().map(|(cell, _)| cell).collect();
        for cell in cells {
            frame.stack.linked_mut(cell).into_iter().for_each(range);
        }
    }
}

/// Makes a state that holds for several rounds.
pub struct Guess<'a, 'b> {
    walk: &'a mut Walk<'b>,
    head: usize,
    pub classes: Vec<Class>,
    pub is_callback: bool,
    /// How often was guessed before.
    pub round: u32,
    /// Where no counter is.
    pub denied: Vec<At>,
    /// The guess holds for the first of two states; else for the second.
    from_first: bool,
    /// Counters of outer loops in that state.
    outer: SmallVec<[Counter; 2]>,
    /// Ids that changed from round to round, and what stands for them.
    ids: Vec<(Id, Id, Id)>,
    links: Vec<(Link, Link, Id)>,
}

impl<'a, 'b> Guess<'a, 'b> {
    pub fn new(walk: &'a mut Walk<'b>, head: usize) -> Self {
        Guess {
            walk,
            head,
            classes: Vec::new(),
            is_callback: false,
            round: 0,
            denied: Vec::new(),
            from_first: false,
            outer: SmallVec::new(),
            ids: Vec::new(),
            links: Vec::new(),
        }
    }

    /// The counter of rounds, for helpers that know their number.
    pub fn count_rounds(&mut self, rounds: i64) {
        let symbol = self.walk.fresh();
        self.classes.push(Class::rounds_up_to(symbol, rounds));
    }

    /// From two states of consecutive rounds, one of which it must hold for.
    pub fn between(&mut self, previous: &State, current: &State, from_first: bool) -> Option<State> {
        let base = if from_first { previous } else { current };
        self.from_first = from_first;
        self.outer.clone_from(&base.counters);
        let merged = self.merge(previous, current, true, Guess::first)?;
        let filled = filled::guessed(previous, current, from_first, |bytes| self.after_rounds(bytes));
        let mut state = State { counters: base.counters.clone(), orders: base.orders.clone(), filled, ..merged };
        let mut symbols: Vec<Id> = places(&state).iter().map(|(_, number)| number.link.symbol).collect();
        // Outer loops ask for their counters, used or not.
        symbols.extend(self.walk.attempts.iter().flat_map(|attempt| attempt.classes.iter().map(|class| class.symbol)));
        state.counters.retain(|counter| symbols.contains(&counter.symbol));
        state.counters.extend(self.classes.iter().map(Class::counter));
        Some(state)
    }

    /// How far what moves by so many bytes in each round has moved.
    fn after_rounds(&self, bytes: i64) -> Option<Edge> {
        let counts = |class: &&Class| class.counts_rounds() && !self.is_callback;
        let class = self.classes.iter().find(counts)?;
        Edge::constant(0).plus(class.symbol, bytes)
    }

    /// A round later, what was filled is filled as far as it should be.
    fn is_filled_after(&self, filled: &Filled, steps: &[Option<i64>], back: &State) -> bool {
        let moved = filled.replaced(|symbol| {
            let same = Edge::constant(0).plus(symbol, 1)?;
            match self.classes.iter().position(|class| class.symbol == symbol) {
                Some(place) if !self.classes[place].is_broken() => same.moved(steps.get(place).copied().flatten()?),
                Some(_) => None,
                None => Some(same),
            }
        });
        moved.is_some_and(|moved| back.is_filled(&moved))
    }

    /// From a guess and a state that came back and does not fit.
    pub fn wider(&mut self, guess: &State, back: &State, start: &State, steps: &[Option<i64>]) -> Option<State> {
        let broken: Vec<Id> = self.classes.iter().filter(|class| class.is_broken()).map(|class| class.symbol).collect();
        let state =
            self.merge(guess, back, false, |guess, a, b, at| guess.next(a, b, at.number(start), steps, &broken))?;
        // What held before and holds one step further.
        let moved = |order: &Order| {
            let place = self.classes.iter().position(|class| class.symbol == order.low);
            let step = place.and_then(|place| steps.get(place).copied().flatten()).unwrap_or(0);
            Order { gap: order.gap.saturating_add(step), ..*order }
        };
        let orders = guess.orders.iter().filter(|order| back.knows(moved(order))).copied().collect();
        let filled = guess.filled.iter().filter(|filled| self.is_filled_after(filled, steps, back)).copied().collect();
        let mut state = State { counters: guess.counters.clone(), orders, filled, ..state };
        let symbols: Vec<Id> = self.classes.iter().map(|class| class.symbol).collect();
        state.counters.retain(|counter| !symbols.contains(&counter.symbol));
        if !self.is_callback {
            self.classes.retain(|class| !class.is_broken());
        }
        state.counters.extend(self.classes.iter().map(Class::counter));
        set_ranges(&self.classes, &mut state);
        Some(state)
    }

    /// A state that holds for two ways that meet in one round.
    pub fn either(&mut self, a: &State, b: &State) -> Option<State> {
        let merged = self.merge(a, b, true, |guess, a, b, _| match a.link == b.link && a.link.symbol != 0 {
            _ if a == b => *a,
            true => Num { range: a.range.join(&b.range), link: a.link },
            false => guess.joined(a, b),
        })?;
        let joined = |counter: &Counter| {
            let other = b.counter(counter.symbol)?;
            Some(Counter { low: counter.low.min(other.low), high: counter.high.max(other.high), ..*counter })
        };
        let orders = a.orders.iter().filter(|order| b.knows(**order)).copied().collect();
        let filled = a.filled.iter().filter(|filled| b.is_filled(filled)).copied().collect();
        Some(State { counters: a.counters.iter().filter_map(joined).collect(), orders, filled, ..merged })
    }

    /// Merges two states value by value. None: they are too different. `are_same_kept`: a value is merged with itself to itself.
    fn merge(
        &mut self,
        a: &State,
        b: &State,
        are_same_kept: bool,
        mut number: impl FnMut(&mut Self, &Num, &Num, At) -> Num,
    ) -> Option<State> {
        if a.frames.len() != b.frames.len() || a.handles != b.handles {
            return None;
        }
        let last = b.frames.len() - 1;
        let live = if self.is_callback { u16::MAX } else { self.walk.graph.live(self.head) | 1 << R10 };
        let mut frames = SmallVec::with_capacity(b.frames.len());
        for (index, (a, b)) in a.frames.iter().zip(&b.frames).enumerate() {
            if (a.function, a.call, a.callback) != (b.function, b.call, b.callback) {
                return None;
            }
            if index < last && Rc::ptr_eq(a, b) {
                frames.push(b.clone());
                continue;
            }
            // What is as in the second stays shared with it.
            let mut frame = (**b).clone();
            for reg in 0..Regs::COUNT {
                let (x, y) = (&a.regs[reg], &b.regs[reg]);
                let merged = match index < last || live & 1 << reg != 0 {
                    true if are_same_kept && (a.regs.shares(&b.regs, reg) || x == y) => continue,
                    true => self.merge_value(x, y, At::Reg(index, reg), &mut number),
                    false => Value::Unset,
                };
                if merged != *y {
                    frame.regs[reg] = merged;
                }
            }
            if !are_same_kept || !a.stack.is_shared_with(&b.stack) {
                frame.stack = self.merge_stack(&a.stack, &b.stack, index, &mut number);
            }
            frames.push(Rc::new(frame));
        }
        Some(State { frames, handles: b.handles.clone(), ..State::default() })
    }

    fn merge_value(
        &mut self,
        a: &Value,
        b: &Value,
        at: At,
        number: &mut impl FnMut(&mut Self, &Num, &Num, At) -> Num,
    ) -> Value {
        match (a, b) {
            (Value::Number(a), Value::Number(b)) => Value::Number(number(self, a, b, at)),
            (Value::Pointer(a), Value::Pointer(b)) if a.to == b.to => {
                let (Some(object), Some(null)) = (self.merge_id(a.object, b.object), self.merge_null(a.null, b.null))
                else {
                    return Value::Unset;
                };
                let offset = number(self, &a.offset, &b.offset, at);
                Value::Pointer(Pointer { to: a.to, object, null, offset, room: a.room.min(b.room) })
            }
            (Value::Map { map: a, null: x }, Value::Map { map: b, null: y }) if a == b => match self.merge_null(*x, *y)
            {
                Some(null) => Value::Map { map: *a, null },
                None => Value::Unset,
            },
            (a, b) if a == b => *a,
            _ => Value::Unset,
        }
    }

    /// Objects that differ from round to round become one that is not known.
    fn merge_id(&mut self, a: Id, b: Id) -> Option<Id> {
        if a == b {
            return Some(a);
        }
        if a == 0 || b == 0 {
            return None;
        }
        if let Some((_, _, id)) = self.ids.iter().find(|(x, y, _)| (*x, *y) == (a, b)) {
            return Some(*id);
        }
        let id = self.walk.fresh();
        self.ids.push((a, b, id));
        Some(id)
    }

    /// What may be null in one of the states may be null.
    fn merge_null(&mut self, a: Id, b: Id) -> Option<Id> {
        match (a, b) {
            (0, 0) => Some(0),
            (0, _) | (_, 0) => None,
            _ => self.merge_id(a, b),
        }
    }

    fn merge_stack(
        &mut self,
        a: &Stack,
        b: &Stack,
        frame: usize,
        number: &mut impl FnMut(&mut Self, &Num, &Num, At) -> Num,
    ) -> Stack {
        // What is as in the second stays shared with it.
        let mut stack = b.clone();
        let cells = a.cells().len().min(b.cells().len());
        stack.truncate(cells);
        let bytes = |cell: usize| {
            let ((x, zero_x), (y, zero_y)) = (a.bytes(cell), b.bytes(cell));
            Cell::Bytes { written: x & y, zero: zero_x & zero_y }
        };
        for cell in 0..cells {
            let merged = match (a.get(cell), b.get(cell)) {
                // With their lower halves.
                (Cell::High, Cell::High) => continue,
                (Cell::Bytes { .. }, Cell::Bytes { .. }) if a.get(cell) == b.get(cell) => continue,
                (Cell::Low(x), Cell::Low(y)) => match self.merge_value(x, y, At::Cell(frame, cell), number) {
                    Value::Unset => {
                        stack.set(cell - 1, bytes(cell - 1));
                        bytes(cell)
                    }
                    value if value == **y => continue,
                    value => Cell::Low(Rc::new(value)),
                },
                (Cell::Word(x), Cell::Word(y)) => {
                    let merged = number(self, x, y, At::Cell(frame, cell));
                    // Four bytes hold no more.
                    match merged.range.is_half() {
                        true if merged == **y => continue,
                        true => Cell::Word(Rc::new(merged)),
                        false => bytes(cell),
                    }
                }
                _ => bytes(cell),
            };
            if merged != *b.get(cell) {
                stack.set(cell, merged);
            }
        }
        stack
    }

    /// The first guess about a number.
    fn first(&mut self, a: &Num, b: &Num, at: At) -> Num {
        if a == b || self.is_callback {
            return *b;
        }
        if a.link == b.link && a.link.symbol != 0 {
            return Num { range: a.range.join(&b.range), link: b.link };
        }
        let counter = match (a.is_constant(), b.is_constant()) {
            _ if self.denied.contains(&at) => None,
            (Some(from), Some(to)) => self.counter(from as i64, to as i64),
            (None, None) if a.link.symbol != 0 && a.link.symbol == b.link.symbol && a.link.scale == b.link.scale => {
                self.moving(a, b)
            }
            _ => None,
        };
        counter.unwrap_or_else(|| self.joined(a, b))
    }

    /// A constant that moves from round to round.
    fn counter(&mut self, from: i64, to: i64) -> Option<Num> {
        let scale = Class::scale(from, to)?;
        let class = match self.classes.iter().find(|class| class.counts_rounds()) {
            Some(class) => class.clone(),
            None => {
                self.count_rounds(MANY);
                self.classes.last()?.clone()
            }
        };
        let link = Link { symbol: class.symbol, scale, add: if self.from_first { from } else { to } };
        Some(Num { range: class.range(link), link })
    }

    /// A number that is not known, but moves by a constant.
    fn moving(&mut self, a: &Num, b: &Num) -> Option<Num> {
        let by = b.link.add.checked_sub(a.link.add)?;
        if by == 0 || b.link.scale == 0 || by % b.link.scale != 0 {
            return None;
        }
        let step = by / b.link.scale;
        let base = if self.from_first { a } else { b };
        // The symbol's bounds, from the number's.
        let value = |number: i64| {
            let moved = i128::from(number) - i128::from(base.link.add);
            let is_whole = moved % i128::from(base.link.scale) == 0;
            is_whole.then(|| i64::try_from(moved / i128::from(base.link.scale)).ok()).flatten()
        };
        let (x, y) = match base.link.scale {
            1 | -1 => (value(base.range.smin())?, value(base.range.smax())?),
            _ => {
                let counter = self.outer.iter().find(|counter| counter.symbol == base.link.symbol)?;
                (counter.low, counter.high)
            }
        };
        let class = match self.classes.iter().find(|class| class.is_of(base.link.symbol)) {
            Some(class) if class.step() == step => class.clone(),
            Some(_) => return None,
            None => {
                let symbol = self.walk.fresh();
                let class = Class::moving(symbol, base.link.symbol, step, (x.min(y), x.max(y)))?;
                self.classes.push(class.clone());
                class
            }
        };
        let link = Link { symbol: class.symbol, ..base.link };
        Some(Num { range: class.range(link), link })
    }

    /// A later guess: `a` is the one before, `b` what came back, `first` where the attempt began.
    fn next(&mut self, a: &Num, b: &Num, first: Option<Num>, steps: &[Option<i64>], broken: &[Id]) -> Num {
        let place = self.classes.iter().position(|class| class.symbol == a.link.symbol);
        if let Some(place) = place.filter(|_| a.link.symbol != 0) {
            let step = steps.get(place).copied().flatten();
            let is_moved = step.is_some_and(|step| b.link == self.classes[place].moved(Some(step)).moved(a.link));
            if is_moved && !broken.contains(&a.link.symbol) {
                return *a;
            }
            let first = first.map_or(Scalar::unknown(), |first| first.range);
            let symbol = self.walk.fresh();
            return Num::symbol(self.joined_ranges(&first, &b.range), symbol);
        }
        if b.range.is_subset_of(&a.range) && (a.link.symbol == 0 || a.link == b.link) {
            return *a;
        }
        // Callbacks have seen one round only: what moved from a constant may be a counter.
        if self.is_callback
            && self.round == 1
            && let (Some(from), Some(to)) = (a.is_constant(), b.is_constant())
            && let Some(scale) = Class::scale(from as i64, to as i64)
            && let Some(class) = self.classes.iter().find(|class| class.counts_rounds())
        {
            let link = Link { symbol: class.symbol, scale, add: from as i64 };
            return Num { range: class.range(link), link };
        }
        self.joined(a, b)
    }

    /// Bounds that grow are given up in later guesses. What 32-bit instructions made has no upper half, however far it goes.
    fn joined_ranges(&self, a: &Scalar, b: &Scalar) -> Scalar {
        let is_half = a.is_half() && b.is_half();
        let grows = b.umax() > a.umax() || b.smax() > a.smax();
        match self.round < WIDEN_FROM {
            true => a.join(b),
            // What grows without a bound wraps in the end: its other bounds go too.
            false if grows && is_half => multiples(&a.join(b)).truncate(4),
            false if grows => multiples(&a.join(b)),
            false => a.widen(b),
        }
    }

    /// A number of either range; copies of one number stay copies.
    fn joined(&mut self, a: &Num, b: &Num) -> Num {
        let range = self.joined_ranges(&a.range, &b.range);
        if range.is_constant().is_some() {
            return Num::plain(range);
        }
        let other = b.is_constant().map_or(b.link, |value| Link { add: value as i64, ..Link::default() });
        if a.link.symbol != 0
            && let Some((_, _, symbol)) = self.links.iter().find(|(x, y, _)| (*x, *y) == (a.link, other))
        {
            return Num::symbol(range, *symbol);
        }
        let symbol = self.walk.fresh();
        self.links.push((a.link, other, symbol));
        Num::symbol(range, symbol)
    }
}

/// All numbers with the lowest bits of a range, where these are known.
fn multiples(range: &Scalar) -> Scalar {
    let bits = range.bits();
    Scalar::ending_in(bits.value, bits.mask.trailing_zeros())
}
