//! Proving a loop for any number of rounds at once.
//!
//! After some rounds the walk guesses what changes from round to round and how: counters move by constants, other numbers lie
//! in some range. The loop is explored once from a state that holds for every round. Whoever comes back to the head must lie
//! within that state again, with the counters moved on by one step - that is the proof, whatever the guess was - and some
//! counter must have a bound in its direction: the number of rounds. What does not fit is guessed anew, more widely, a few
//! times; then the loop is explored round by round again.
//!
//! A first exploration only looks for bounds: it goes no further than the loop, and takes accesses for granted. Nothing of it
//! stays.
//!
//! Helpers that call back are such loops from the beginning; their number of rounds is known.

use std::rc::Rc;

use super::{
    Reason,
    cover::{Cover, Fixed},
    domain::Scalar,
    need::Need,
    rejection::Stop,
    stack::{Cell, Stack},
    state::{Counter, Frame, Order, State},
    value::{Id, Link, Num, Pointer, Value},
    walk::{Next, Node, Resume, Summary, Walk},
};
use crate::isa::{Alu, Cond, R10, Width};

/// Rounds that are explored one by one before the first attempt, and before the second. After that there is none.
const PATIENCE: [u32; 2] = [6, 64];
/// Guesses per attempt.
const MAX_GUESSES: u32 = 8;
/// Rounds that a guess starts from. No ceiling allows as many.
const MANY: i64 = 1 << 20;
/// Instructions that a trial, and an attempt proper with all that comes after its loop, may visit: what is inside may be a loop
/// that has no end as long as the outer counter is a guess.
const MAX_TRIAL: u64 = 1 << 12;
const MAX_ATTEMPT: u64 = 1 << 16;
/// Numbers beyond this are no counters.
const FAR: i64 = 1 << 40;

/// Numbers that move together: `link.scale * symbol + link.add`, and the symbol by the same step each round.
#[derive(Clone, Debug)]
pub struct Class {
    pub symbol: Id,
    /// The symbol's bounds over all rounds.
    pub low: i64,
    pub high: i64,
    /// How far it is expected to move; 0 is never.
    step: i64,
    /// The steps that were seen: the least, and whether all went the same way.
    seen: Option<i64>,
    /// Its range cannot be kept: it says nothing about the number of rounds.
    is_broken: bool,
    /// What it stands for: the symbol in the state that the attempt starts from, 0 for the number of the round.
    of: Id,
}

/// An attempt that is under way.
#[derive(Debug)]
pub struct Attempt {
    pub number: u32,
    pub head: usize,
    /// Only looks for bounds.
    pub is_trial: bool,
    pub classes: Vec<Class>,
    guesses: u32,
    /// A helper calls back: it is at most so many rounds.
    rounds: Option<u64>,
    chain: usize,
    pending: usize,
    stored: usize,
    records: u32,
    /// Instructions that had been visited when it began last.
    begun: u64,
    /// Where it began, to begin again.
    start: State,
    total: u64,
    /// Orders that a trial supposed, before each round.
    supposed: Vec<Order>,
    /// What holds in every round.
    widened: Rc<State>,
    /// What trials found.
    found: Option<Rc<State>>,
}

impl Walk<'_> {
    /// Arrivals at a head before an attempt.
    pub fn patience(&self, head: usize) -> u32 {
        let facts = self.loops.heads.get(&head).copied().unwrap_or_default();
        match PATIENCE.get(facts.failures as usize) {
            Some(_) if facts.holds => 1,
            Some(patience) => *patience,
            None => u32::MAX,
        }
    }

    /// Begins to prove the loop with this head. False: there is no guess.
    pub fn try_loop(&mut self, head: usize, previous: &State, current: &State) -> bool {
        let mut guess = Guess::new(self, head);
        let Some(widened) = guess.between(previous, current) else {
            self.give_up(head);
            return false;
        };
        let classes = guess.classes;
        if classes.is_empty() {
            self.give_up(head);
            return false;
        }
        let attempt = self.new_attempt(head, None, classes, widened);
        self.begin(attempt, true);
        // The arrival goes on with it.
        self.resume = Resume::Nothing;
        true
    }

    /// Begins to prove what a helper does that calls back. The innermost loop is the helper's.
    pub fn try_callback(&mut self, pc: usize, rounds: u64) -> Result<(), Reason> {
        let rounds = rounds.min(MANY as u64 * 8);
        let current = self.state.without_loops();
        let mut guess = Guess::new(self, pc);
        guess.is_callback = true;
        guess.count_rounds(rounds as i64);
        let widened = guess.between(&current, &current).ok_or(Reason::CallbackUnsettled("its state".into()))?;
        let classes = guess.classes;
        let attempt = self.new_attempt(pc, Some(rounds), classes, widened);
        self.begin(attempt, false);
        Ok(())
    }

    fn new_attempt(&mut self, head: usize, rounds: Option<u64>, classes: Vec<Class>, widened: State) -> Attempt {
        self.loops.attempts += 1;
        Attempt {
            number: self.loops.attempts,
            head,
            is_trial: false,
            classes,
            guesses: 0,
            rounds,
            chain: self.chain.len(),
            pending: self.pending.len(),
            stored: self.stored.len(),
            records: self.recorder.mark(),
            begun: 0,
            start: self.state.clone(),
            total: self.total,
            supposed: Vec::new(),
            widened: Rc::new(widened),
            found: None,
        }
    }

    /// Goes on from the state that holds for every round.
    fn begin(&mut self, mut attempt: Attempt, is_trial: bool) {
        attempt.is_trial = is_trial;
        attempt.begun = self.facts.visited;
        let number = attempt.number;
        let mut state = (*attempt.widened).clone();
        state.loops = attempt.start.loops.clone();
        if let Some(active) = state.loops.last_mut() {
            active.attempt = number;
            active.previous = None;
        }
        self.state = state;
        // Callbacks begin at an instruction that is half done; nothing else comes there.
        let store = attempt.rounds.is_none().then(|| (attempt.head, self.state.clone()));
        self.resume = if attempt.rounds.is_some() { Resume::Callback } else { Resume::Loop };
        self.pc = attempt.head;
        self.attempts.push(attempt);
        self.push_node(1, store, number);
    }

    /// The current loop is not proved this time.
    fn give_up(&mut self, head: usize) {
        self.loops.heads.entry(head).or_default().failures += 1;
        let patience = self.patience(head);
        if let Some(active) = self.state.loops.last_mut() {
            active.patience = patience.max(active.count + 1);
        }
    }

    /// An instruction is not allowed. Within an attempt that only means that it guessed too widely. True: nothing is left to do.
    pub fn recover(&mut self, stop: Stop) -> Result<bool, Stop> {
        if matches!(*stop.reason, Reason::TooComplex(_) | Reason::TooMuchMemory(_)) {
            return Err(stop);
        }
        if self.attempts.last().is_some_and(|attempt| attempt.is_trial) {
            return self.finish(Need::default(), Summary::default());
        }
        // What helpers call back has no other way.
        while self.attempts.last().is_some_and(|attempt| attempt.rounds.is_some()) {
            self.attempts.pop();
        }
        if self.attempts.is_empty() {
            return Err(stop);
        }
        self.abandon();
        Ok(false)
    }

    /// Gives up an attempt that takes too long, with all that began within it. True: there was one.
    pub fn give_up_what_takes_too_long(&mut self) -> bool {
        let visited = self.facts.visited;
        let is_too_long = |attempt: &Attempt| {
            let most = if attempt.is_trial { MAX_TRIAL } else { MAX_ATTEMPT };
            attempt.rounds.is_none() && visited - attempt.begun > most
        };
        let Some(place) = self.attempts.iter().position(is_too_long) else { return false };
        self.attempts.truncate(place + 1);
        self.abandon();
        true
    }

    /// Gives the innermost attempt up and goes on round by round.
    fn abandon(&mut self) {
        let Some(attempt) = self.unwind() else { return };
        self.go_on(attempt);
    }

    /// Explores the loop round by round from where an attempt began.
    fn go_on(&mut self, attempt: Attempt) {
        self.state = attempt.start;
        self.give_up(attempt.head);
        self.resume = Resume::Loop;
    }

    /// Takes back all that the innermost attempt did. The way is where it began.
    fn unwind(&mut self) -> Option<Attempt> {
        let attempt = self.attempts.pop()?;
        if let Some(node) = self.chain.get(attempt.chain) {
            self.cost = node.cost;
        }
        self.take_back(attempt.chain, attempt.pending, attempt.stored);
        self.recorder.take_back(attempt.records);
        self.total = attempt.total;
        self.pc = attempt.head;
        Some(attempt)
    }

    /// The way has come back to the head of a loop that is being proved.
    pub fn come_back(&mut self, number: u32) -> Result<Next, Stop> {
        let Some(place) = self.attempts.iter().position(|attempt| attempt.number == number) else {
            return Err(Stop::new(self.pc, Reason::InfiniteLoop));
        };
        let attempt = &self.attempts[place];
        let (head, is_trial, is_callback) = (attempt.head, attempt.is_trial, attempt.rounds.is_some());
        let mut need = self.everything(head, &attempt.widened);
        if is_callback {
            need = Need::all(attempt.widened.frames.len());
        }
        let steps = attempt.steps_to(&self.state);
        if !is_trial {
            let fixed: Vec<Fixed> = attempt.fixed(&steps);
            let holds = Cover::new(&attempt.widened, &self.state, &fixed).holds(&need);
            if holds {
                self.attempts[place].note(&steps);
                self.loops.heads.entry(head).or_default().holds = true;
                return Ok(Next::End(need, Summary::back(number)));
            }
        }
        self.guess_again(place, &steps)?;
        if is_trial { Ok(Next::End(need, Summary::back(number))) } else { Ok(Next::Go(self.pc)) }
    }

    /// What came back does not fit: widens the guess. In an attempt proper, begins it again.
    fn guess_again(&mut self, place: usize, steps: &[Option<i64>]) -> Result<(), Stop> {
        let state = self.state.without_loops();
        let attempt = &self.attempts[place];
        let head = attempt.head;
        let base = attempt.found.clone().unwrap_or_else(|| attempt.widened.clone());
        let (start, guesses, is_trial) = (attempt.start.clone(), attempt.guesses, attempt.is_trial);
        let mut classes = attempt.classes.clone();
        let is_callback = attempt.rounds.is_some();
        for (class, step) in classes.iter_mut().zip(steps) {
            if !is_callback {
                class.extend(*step, &state, is_trial);
            }
        }
        let mut guess = Guess::new(self, head);
        guess.classes = classes;
        guess.is_callback = is_callback;
        guess.round = guesses + 1;
        let wider = guess.wider(&base, &state, &start, steps);
        let classes = guess.classes;
        if is_trial {
            let attempt = &mut self.attempts[place];
            attempt.classes = classes;
            attempt.found = wider.map(Rc::new);
            attempt.guesses += u32::from(attempt.found.is_none()) * MAX_GUESSES;
            return Ok(());
        }
        // What began within it is over.
        self.attempts.truncate(place + 1);
        let Some(mut attempt) = self.unwind() else { return Ok(()) };
        attempt.guesses += 1;
        match wider {
            Some(wider) if attempt.guesses <= MAX_GUESSES => {
                attempt.classes = classes;
                attempt.widened = Rc::new(wider);
                self.begin(attempt, false);
                Ok(())
            }
            _ if attempt.rounds.is_some() => {
                self.state = attempt.start;
                let what = "its numbers grow from round to round without a bound".to_owned();
                Err(Stop::new(head, Reason::CallbackUnsettled(what)))
            }
            _ => {
                self.go_on(attempt);
                Ok(())
            }
        }
    }

    /// All ways from the head of a loop that is being proved have ended. True: the walk goes on there in another way.
    pub fn complete_attempt(&mut self, node: &mut Node) -> Result<bool, Stop> {
        let Some(attempt) = self.attempts.last() else { return Ok(false) };
        debug_assert_eq!(attempt.number, node.attempt);
        if attempt.is_trial {
            self.complete_trial(node);
            return Ok(true);
        }
        let round = node.summary.take_back(attempt.number);
        let rounds = match (attempt.rounds, round) {
            (Some(rounds), _) => rounds,
            (None, None) => 0,
            (None, Some(_)) => match attempt.classes.iter().filter_map(Class::rounds).min() {
                Some(rounds) => rounds,
                None => {
                    self.restore(node);
                    self.abandon();
                    return Ok(true);
                }
            },
        };
        let in_loop = round.unwrap_or(0).saturating_mul(if attempt.rounds.is_some() && !self.rules.counts_callbacks {
            1
        } else {
            rounds
        });
        let head = attempt.head;
        let total = attempt.total.saturating_add(in_loop).saturating_add(node.summary.exit);
        self.note_loop_cost(head, in_loop);
        if total > self.rules.ceiling {
            let stop = Stop::new(head, self.too_costly(total));
            self.restore(node);
            // What helpers call back has no other way.
            match self.attempts.last().is_some_and(|attempt| attempt.rounds.is_some()) {
                true => self.failed = Some(stop),
                false => self.abandon(),
            }
            return Ok(true);
        }
        self.settle(node, in_loop);
        Ok(false)
    }

    /// The attempt holds: what it supposed is known now, for all that was stored within it.
    fn settle(&mut self, node: &mut Node, in_loop: u64) {
        node.summary.add(in_loop);
        let widened = node.stored.and_then(|index| self.stored[index].state.as_ref());
        let frames = node.frames;
        node.need = match widened {
            Some(state) => self.everything(self.attempts.last().map_or(0, |attempt| attempt.head), state),
            None => Need::all(frames),
        };
        let Some(attempt) = self.attempts.pop() else { return };
        for stored in &mut self.stored[attempt.stored..] {
            if attempt.rounds.is_some() {
                // How often a helper calls back, and with what, is in no state: another call of it is proved by itself.
                if stored.summary.goes_back_to(attempt.number) && stored.state.take().is_some() {
                    self.memory -= std::mem::take(&mut stored.bytes);
                }
            } else if let Some(back) = stored.summary.take_back(attempt.number) {
                let mut after = node.summary.clone();
                after.add(back);
                stored.summary.raise(&after);
            }
        }
    }

    /// Puts a completed node back, so that the attempt can be taken back with it.
    fn restore(&mut self, node: &mut Node) {
        self.memory += node.bytes;
        self.chain.push(Node {
            bytes: node.bytes,
            steps: node.steps,
            cost: node.cost,
            frames: node.frames,
            open: 1,
            need: Need::default(),
            summary: Summary::default(),
            stored: node.stored,
            attempt: node.attempt,
        });
    }

    /// Bounds are found: begins the attempt proper.
    fn complete_trial(&mut self, node: &mut Node) {
        self.restore(node);
        let Some(mut attempt) = self.unwind() else { return };
        let found = attempt.found.take();
        let widened = found.filter(|_| attempt.guesses < MAX_GUESSES && attempt.is_bounded());
        let Some(widened) = widened else { return self.go_on(attempt) };
        attempt.classes.iter_mut().for_each(|class| class.seen = None);
        attempt.widened = widened;
        attempt.suppose_what_holds_at_the_start();
        self.begin(attempt, false);
    }

    /// A trial supposes that this holds before each round.
    pub fn suppose(&mut self, order: Order) {
        let of_order = |class: &Class| class.symbol == order.low || class.symbol == order.high;
        let trial = self.attempts.iter_mut().find(|attempt| attempt.is_trial && attempt.classes.iter().any(of_order));
        if let Some(trial) = trial.filter(|trial| !trial.supposed.contains(&order)) {
            trial.supposed.push(order);
        }
    }
}

impl Attempt {
    /// By class: how far a state that came back has moved; None: its numbers do not agree.
    fn steps_to(&self, state: &State) -> Vec<Option<i64>> {
        self.classes.iter().map(|class| class.step_to(&self.widened, state)).collect()
    }

    /// Of the orders that the trial supposed, those of a counter that begins at 0 and of a number that is large enough.
    fn suppose_what_holds_at_the_start(&mut self) {
        let begins_at_0 = |symbol: Id| self.classes.iter().any(|class| class.symbol == symbol && class.of == 0);
        let holds = |order: &&Order| {
            begins_at_0(order.low) && self.start.least(order.high).is_some_and(|least| order.gap <= least)
        };
        let orders: Vec<Order> = self.supposed.iter().filter(holds).copied().collect();
        let widened = Rc::make_mut(&mut self.widened);
        orders.into_iter().for_each(|order| widened.learn(order));
    }

    fn fixed(&self, steps: &[Option<i64>]) -> Vec<Fixed> {
        let one =
            |(class, step): (&Class, &Option<i64>)| Fixed { symbol: class.symbol, shift: step.unwrap_or(class.step) };
        self.classes.iter().zip(steps).map(one).collect()
    }

    /// Remembers the steps of a way that fits.
    fn note(&mut self, steps: &[Option<i64>]) {
        for (class, step) in self.classes.iter_mut().zip(steps) {
            match step {
                Some(step) if class.seen.is_none_or(|seen| seen.signum() == step.signum()) => {
                    let least = class.seen.map_or(*step, |seen| if step.abs() < seen.abs() { *step } else { seen });
                    class.seen = Some(least);
                }
                _ => class.is_broken = true,
            }
        }
    }

    /// Some class has bounds and was not broken.
    fn is_bounded(&self) -> bool {
        self.rounds.is_some() || self.classes.iter().any(|class| !class.is_broken && class.seen.is_some())
    }
}

/// Gives every number of a class the range that the class' bounds allow.
fn set_ranges(classes: &[Class], state: &mut State) {
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

impl Class {
    fn counter(&self) -> Counter {
        Counter { symbol: self.symbol, low: self.low, high: self.high }
    }

    /// Upward or downward.
    pub fn direction(&self) -> i64 {
        self.step.signum()
    }

    /// How far the numbers of the class have moved from one state to another, if all have moved as one.
    fn step_to(&self, from: &State, to: &State) -> Option<i64> {
        if self.of == 0 {
            return Some(1);
        }
        let mut step = None;
        for (a, b) in from.frames.iter().zip(&to.frames) {
            let regs = a.regs.iter().zip(&b.regs).filter_map(|(a, b)| Some((a.linked()?, b.linked()?)));
            for (a, b) in regs.filter(|(a, _)| a.link.symbol == self.symbol) {
                if b.link.symbol != self.symbol || b.link.scale != a.link.scale {
                    continue;
                }
                let by = b.link.add.wrapping_sub(a.link.add);
                if a.link.scale != 0 && by % a.link.scale == 0 && step.is_none() {
                    step = Some(by / a.link.scale);
                }
            }
            for (cell, number) in a.stack.linked().filter(|(_, number)| number.link.symbol == self.symbol) {
                let other = b.stack.linked().find(|(other, _)| *other == cell).map(|(_, number)| number);
                let Some(other) = other.filter(|other| {
                    other.link.symbol == self.symbol && other.link.scale == number.link.scale && number.link.scale != 0
                }) else {
                    continue;
                };
                let by = other.link.add.wrapping_sub(number.link.add);
                if by % number.link.scale == 0 && step.is_none() {
                    step = Some(by / number.link.scale);
                }
            }
        }
        step
    }

    /// Widens the bounds by what a state that came back says.
    fn extend(&mut self, step: Option<i64>, state: &State, is_trial: bool) {
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
            (true, None) if step > 0 => self.high = self.first_high().max(high),
            (true, None) => self.low = self.first_low().min(low),
            _ => (self.low, self.high) = (self.low.min(low), self.high.max(high)),
        }
        self.is_broken |= self.high - self.low >= MANY;
        self.seen = Some(self.seen.map_or(step, |seen| if step.abs() < seen.abs() { step } else { seen }));
    }

    /// Where it stood when the attempt began.
    fn first_high(&self) -> i64 {
        if self.step > 0 { self.high - self.step.saturating_mul(MANY) } else { self.high }
    }

    fn first_low(&self) -> i64 {
        if self.step < 0 { self.low - self.step.saturating_mul(MANY) } else { self.low }
    }

    /// The most rounds that its bounds allow.
    fn rounds(&self) -> Option<u64> {
        let step = self.seen.filter(|step| *step != 0 && !self.is_broken)?;
        Some(self.high.abs_diff(self.low) / step.unsigned_abs())
    }

    /// The range of a number that depends on the class' symbol.
    fn range(&self, link: Link) -> Scalar {
        let at = |symbol: i64| i128::from(link.scale) * i128::from(symbol) + i128::from(link.add);
        let (a, b) = (at(self.low), at(self.high));
        let (Ok(low), Ok(high)) = (i64::try_from(a.min(b)), i64::try_from(a.max(b))) else { return Scalar::unknown() };
        // All have the same lowest bits.
        let shift = link.scale.trailing_zeros().min(63);
        let lowest = Scalar::constant(link.add as u64 & ((1 << shift) - 1));
        let stride = Scalar::unknown().alu(Alu::Lsh, &Scalar::constant(shift.into()), Width::W64);
        let stride = stride.alu(Alu::Or, &lowest, Width::W64);
        Scalar::signed(low, high)
            .refine(Cond::Eq, Width::W64, &stride, true)
            .map_or(Scalar::unknown(), |(range, _)| range)
    }
}

/// Makes a state that holds for several rounds.
struct Guess<'a, 'b> {
    walk: &'a mut Walk<'b>,
    head: usize,
    classes: Vec<Class>,
    is_callback: bool,
    /// How often was guessed before.
    round: u32,
    /// Ids that changed from round to round, and what stands for them.
    ids: Vec<(Id, Id, Id)>,
    links: Vec<(Link, Link, Id)>,
}

impl<'a, 'b> Guess<'a, 'b> {
    fn new(walk: &'a mut Walk<'b>, head: usize) -> Self {
        Guess { walk, head, classes: Vec::new(), is_callback: false, round: 0, ids: Vec::new(), links: Vec::new() }
    }

    /// The counter of rounds, for helpers that know their number.
    fn count_rounds(&mut self, rounds: i64) {
        let symbol = self.walk.fresh();
        self.classes.push(Class { symbol, low: 0, high: rounds, step: 1, seen: None, is_broken: false, of: 0 });
    }

    /// From two states of consecutive rounds, the second of which it must hold for.
    fn between(&mut self, previous: &State, current: &State) -> Option<State> {
        let state = self.merge(previous, current, |guess, a, b, _| guess.first(a, b))?;
        let mut state = state;
        let mut symbols = Vec::new();
        state.for_each_value(|value| symbols.extend(value.linked().map(|number| number.link.symbol)));
        // Outer loops ask for their counters, used or not.
        let outer = self.walk.attempts.iter().flat_map(|attempt| attempt.classes.iter().map(|class| class.symbol));
        symbols.extend(outer);
        state.counters.retain(|counter| symbols.contains(&counter.symbol));
        state.counters.extend(self.classes.iter().map(Class::counter));
        Some(state)
    }

    /// From a guess and a state that came back and does not fit.
    fn wider(&mut self, guess: &State, back: &State, start: &State, steps: &[Option<i64>]) -> Option<State> {
        let broken: Vec<Id> = self.classes.iter().filter(|class| class.is_broken).map(|class| class.symbol).collect();
        let steps = steps.to_vec();
        let state = self.merge(guess, back, |guess, a, b, at| guess.next(a, b, at.number(start), &steps, &broken))?;
        // What held before and holds one step further.
        let moved = |order: &Order| {
            let place = self.classes.iter().position(|class| class.symbol == order.low);
            let step = place.and_then(|place| steps.get(place).copied().flatten()).unwrap_or(0);
            Order { gap: order.gap.saturating_add(step), ..*order }
        };
        let orders = guess.orders.iter().filter(|order| back.knows(moved(order))).copied().collect();
        let mut state = State { loops: Vec::new(), counters: guess.counters.clone(), orders, ..state };
        let classes = self.classes.iter().map(|class| class.symbol);
        let symbols: Vec<Id> = classes.collect();
        state.counters.retain(|counter| !symbols.contains(&counter.symbol));
        if !self.is_callback {
            self.classes.retain(|class| !class.is_broken);
        }
        state.counters.extend(self.classes.iter().map(Class::counter));
        set_ranges(&self.classes, &mut state);
        Some(state)
    }

    /// Merges two states value by value. None: they are too different.
    fn merge(
        &mut self,
        a: &State,
        b: &State,
        mut number: impl FnMut(&mut Self, &Num, &Num, At) -> Num,
    ) -> Option<State> {
        if a.frames.len() != b.frames.len() || a.handles != b.handles {
            return None;
        }
        let last = b.frames.len() - 1;
        let live = if self.is_callback { u16::MAX } else { self.walk.graph.live(self.head) | 1 << R10 };
        let mut frames = Vec::with_capacity(b.frames.len());
        for (index, (a, b)) in a.frames.iter().zip(&b.frames).enumerate() {
            if (a.function, a.call, a.callback) != (b.function, b.call, b.callback) {
                return None;
            }
            let mut frame = Frame { stack: Stack::default(), ..(**b).clone() };
            for reg in 0..frame.regs.len() {
                frame.regs[reg] = if index < last || live & 1 << reg != 0 {
                    self.merge_value(&a.regs[reg], &b.regs[reg], At::Reg(index, reg), &mut number)
                } else {
                    Value::Unset
                };
            }
            frame.stack = self.merge_stack(&a.stack, &b.stack, index, &mut number);
            frames.push(Rc::new(frame));
        }
        let (handles, counters, orders) = (b.handles.clone(), b.counters.clone(), b.orders.clone());
        Some(State { frames, handles, counters, orders, loops: Vec::new() })
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
        let mut stack = Stack::default();
        let cells = a.cells().len().min(b.cells().len());
        for cell in 0..cells {
            let merged = match (a.get(cell), b.get(cell)) {
                (Cell::Low(x), Cell::Low(y)) => {
                    let value = self.merge_value(x, y, At::Cell(frame, cell), number);
                    if value != Value::Unset {
                        stack.set(cell, Cell::Low(Rc::new(value)));
                        stack.set(cell - 1, Cell::High);
                        continue;
                    }
                    None
                }
                (Cell::Word(x), Cell::Word(y)) => {
                    let merged = number(self, x, y, At::Cell(frame, cell));
                    // Four bytes hold no more.
                    let fits = merged.range.umax() <= u64::from(u32::MAX);
                    fits.then(|| Cell::Word(Rc::new(merged)))
                }
                _ => None,
            };
            let bytes = || {
                let ((x, zero_x), (y, zero_y)) = (a.bytes(cell), b.bytes(cell));
                Cell::Bytes { written: x & y, zero: zero_x & zero_y }
            };
            stack.set(cell, merged.unwrap_or_else(bytes));
        }
        stack
    }

    /// The first guess about a number.
    fn first(&mut self, a: &Num, b: &Num) -> Num {
        if a == b || self.is_callback {
            return *b;
        }
        if a.link == b.link && a.link.symbol != 0 {
            return Num { range: a.range.join(&b.range), link: b.link };
        }
        match (a.is_constant(), b.is_constant()) {
            (Some(from), Some(to)) => self.counter(from as i64, to as i64).unwrap_or_else(|| self.joined(a, b)),
            (None, None) if a.link.symbol != 0 && a.link.symbol == b.link.symbol && a.link.scale == b.link.scale => {
                self.moving(a, b).unwrap_or_else(|| self.joined(a, b))
            }
            _ => self.joined(a, b),
        }
    }

    /// A constant that moves from round to round.
    fn counter(&mut self, from: i64, to: i64) -> Option<Num> {
        let scale = to.checked_sub(from).filter(|scale| *scale != 0 && scale.abs() <= 1 << 24)?;
        if to.abs() > FAR {
            return None;
        }
        let class = match self.classes.iter().find(|class| class.of == 0) {
            Some(class) => class.clone(),
            None => {
                self.count_rounds(MANY);
                self.classes.last()?.clone()
            }
        };
        let link = Link { symbol: class.symbol, scale, add: to };
        Some(Num { range: class.range(link), link })
    }

    /// A number that is not known, but moves by a constant.
    fn moving(&mut self, a: &Num, b: &Num) -> Option<Num> {
        let by = b.link.add.checked_sub(a.link.add)?;
        if by == 0 || b.link.scale == 0 || by % b.link.scale != 0 {
            return None;
        }
        let step = by / b.link.scale;
        // The symbol's bounds, from the number's.
        let value = |number: i64| {
            let moved = i128::from(number) - i128::from(b.link.add);
            (moved % i128::from(b.link.scale) == 0)
                .then(|| i64::try_from(moved / i128::from(b.link.scale)).ok())
                .flatten()
        };
        let (x, y) = match b.link.scale {
            1 | -1 => (value(b.range.smin())?, value(b.range.smax())?),
            _ => match self.walk.state.counter(b.link.symbol) {
                Some(counter) => (counter.low, counter.high),
                None => return None,
            },
        };
        let (low, high) = (x.min(y), x.max(y));
        if low.abs() > FAR || high.abs() > FAR || step.abs() > 1 << 24 {
            return None;
        }
        let class = match self.classes.iter().find(|class| class.of == b.link.symbol) {
            Some(class) if class.step == step => class.clone(),
            Some(_) => return None,
            None => {
                let far = step.saturating_mul(MANY);
                let (low, high) = (low + far.min(0), high + far.max(0));
                let symbol = self.walk.fresh();
                let class = Class { symbol, low, high, step, seen: None, is_broken: false, of: b.link.symbol };
                self.classes.push(class.clone());
                class
            }
        };
        let link = Link { symbol: class.symbol, ..b.link };
        Some(Num { range: class.range(link), link })
    }

    /// A later guess: `a` is the one before, `b` what came back, `first` where the attempt began.
    fn next(&mut self, a: &Num, b: &Num, first: Option<Num>, steps: &[Option<i64>], broken: &[Id]) -> Num {
        let place = self.classes.iter().position(|class| class.symbol == a.link.symbol);
        if let Some(place) = place.filter(|_| a.link.symbol != 0) {
            let step = steps.get(place).copied().flatten();
            let fixed = Fixed { symbol: a.link.symbol, shift: step.unwrap_or(0) };
            if step.is_some() && b.link == fixed.moved(a.link) && !broken.contains(&a.link.symbol) {
                return *a;
            }
            let first = first.map_or(Scalar::unknown(), |first| first.range);
            let symbol = self.walk.fresh();
            return Num::symbol(first.widen(&b.range), symbol);
        }
        if b.range.is_subset_of(&a.range) && (a.link.symbol == 0 || a.link == b.link) {
            return *a;
        }
        // Callbacks have seen one round only: what moved from a constant may be a counter.
        if self.is_callback
            && self.round == 1
            && let (Some(from), Some(to)) = (a.is_constant(), b.is_constant())
            && let Some(scale) = (to as i64).checked_sub(from as i64).filter(|scale| scale.abs() <= 1 << 24)
            && (from as i64).abs() <= FAR
            && let Some(class) = self.classes.iter().find(|class| class.of == 0)
        {
            let link = Link { symbol: class.symbol, scale, add: from as i64 };
            return Num { range: class.range(link), link };
        }
        self.joined(a, b)
    }

    /// A number of either range; copies of one number stay copies.
    fn joined(&mut self, a: &Num, b: &Num) -> Num {
        let range = if self.round < 3 { a.range.join(&b.range) } else { a.range.widen(&b.range) };
        if range.is_constant().is_some() {
            return Num::plain(range);
        }
        if a.link.symbol != 0
            && let Some((_, _, symbol)) = self.links.iter().find(|(x, y, _)| (*x, *y) == (a.link, b.link))
        {
            return Num::symbol(range, *symbol);
        }
        let symbol = self.walk.fresh();
        self.links.push((a.link, b.link, symbol));
        Num::symbol(range, symbol)
    }
}

/// Where a number is.
#[derive(Clone, Copy)]
enum At {
    Reg(usize, usize),
    Cell(usize, usize),
}

impl At {
    fn number(self, state: &State) -> Option<Num> {
        match self {
            At::Reg(frame, reg) => state.frames.get(frame)?.regs[reg].linked().copied(),
            At::Cell(frame, cell) => {
                state.frames.get(frame)?.stack.linked().find(|(other, _)| *other == cell).map(|(_, number)| *number)
            }
        }
    }
}
