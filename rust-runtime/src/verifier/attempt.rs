//! Proving a loop for any number of rounds at once.
//!
//! When a way comes back to a loop's head, the walk returns to where it came there first and guesses from these two states what
//! changes from round to round and how: counters move by constants, other numbers lie in some range. The loop is explored once
//! from a state that holds for every round. Whoever comes back to the head must lie within that state again, with the counters
//! moved on by one step - that is the proof, whatever the guess was - and some counter must have a bound in its direction: the
//! number of rounds. What does not fit is guessed anew, more widely, a few times; then the loop is explored round by round, and
//! later ones are tried.
//!
//! Trials come first, which only look for a guess: they go no further than the loop, take accesses for granted, and where
//! ways meet, they go on as one: the first way is walked to its end, others wait where they meet it until all have come. The
//! first trial looks for counters and their bounds, others for the ranges of the rest. Nothing of
//! them stays.
//!
//! A number that changes from round to round need not lie within its range if nothing depends on it. What does is supposed
//! before the loop is explored and compared with what was needed after it.
//!
//! Helpers that call back are such loops from the beginning; their number of rounds is known.

mod class;
mod guess;
mod lesson;

use std::rc::Rc;

pub use class::Class;
pub use guess::At;
use guess::{Guess, WIDEN_FROM, set_ranges};
pub use lesson::Lesson;

use super::{
    MAX_FRAMES, Reason,
    cover::{Counters, Cover, Fixed},
    domain::Scalar,
    need::Need,
    planted::{Bug, on},
    rejection::Stop,
    stack::cell_of,
    state::{ActiveLoop, Mark, Order, State},
    value::{Link, Num},
    walk::{Ending, Next, Node, Resume, Summary, Walk, bytes_of},
};

/// Rounds that are explored one by one before the first attempt, the second and the third. After that there is none. A patient
/// walk begins with the second.
const PATIENCE: [u32; 3] = [1, 6, 64];
/// Guesses per attempt.
const MAX_GUESSES: u32 = 8;
/// Trials per attempt that look for ranges.
const MAX_TRIALS: u32 = 3;
/// Rounds that a guess starts from. No ceiling allows as many.
const MANY: i64 = 1 << 20;
/// Instructions within a loop that a trial, and an attempt proper, may visit: what is inside may be a loop that has no end as
/// long as the outer counter is a guess.
const MAX_TRIAL: u64 = 1 << 13;
const MAX_ATTEMPT: u64 = 1 << 16;
/// Numbers beyond this are no counters.
const FAR: u64 = 1 << 40;
/// How often a trial goes on from where ways met anew, and at how many places.
const MAX_MEETINGS: u32 = 8;
const MAX_MET: usize = 512;

/// An attempt that is under way.
#[derive(Debug)]
pub struct Attempt {
    pub number: u32,
    pub head: usize,
    /// Only looks for a guess.
    pub is_trial: bool,
    pub classes: Vec<Class>,
    guesses: u32,
    /// First guesses.
    firsts: u32,
    /// Trials that looked for ranges.
    trials: u32,
    /// A helper calls back: it is at most so many rounds.
    rounds: Option<u64>,
    pub mark: Mark,
    /// Instructions of the loop that were visited since it began last.
    visited: u64,
    /// Where it began, to begin again.
    start: State,
    total: u64,
    pair: Pair,
    /// Where a number was taken for a counter, and is none.
    denied: Vec<At>,
    /// The guess is from an attempt before.
    is_informed: bool,
    /// Orders that a trial supposed, before each round.
    supposed: Vec<Order>,
    /// What holds in every round.
    widened: Rc<State>,
    /// In a trial: something came back that does not fit, and what would.
    is_unfit: bool,
    found: Option<Rc<State>>,
    /// In a trial: where ways met.
    met: Vec<Met>,
    /// In the attempt proper: where ways met in the last trial.
    expected: Vec<Met>,
    /// Some way went on with that.
    is_guided: bool,
    /// What a round and all that comes after it are supposed to need.
    need: Need,
    /// Numbers that something was seen to depend on.
    demanded: Need,
    /// Cells among which something was written, at an offset that varies, when not all of them had been.
    scattered: u128,
}

/// States of consecutive arrivals at a head, that the first guess is made from.
#[derive(Clone, Debug)]
struct Pair {
    previous: Rc<State>,
    current: Rc<State>,
    /// The guess holds for the first of them.
    from_first: bool,
}

/// A state in which ways of a trial met.
#[derive(Debug)]
struct Met {
    pc: usize,
    state: State,
    total: u64,
    /// Ways that came later.
    times: u32,
    /// Something new came that was not gone on with.
    waits: bool,
    /// What was needed of those that went on.
    need: Need,
}

/// A node where ways of a trial meet.
#[derive(Clone, Copy, Debug)]
pub struct Meeting {
    place: usize,
    /// The ways that came later go on from here.
    again: bool,
}

impl Walk<'_> {
    /// Arrivals at a head before an attempt.
    pub fn patience(&self, head: usize) -> u32 {
        let (failures, holds) = self.loops.heads.get(&head).map_or((0, false), |facts| (facts.failures, facts.holds));
        match PATIENCE.get(failures as usize + usize::from(self.options.patient)) {
            Some(_) if holds => 1,
            Some(patience) => *patience,
            None => u32::MAX,
        }
    }

    /// Begins to prove the innermost loop, whose head this is. False: there is no guess.
    pub fn try_loop(&mut self, head: usize, previous: Rc<State>, current: Rc<State>) -> bool {
        let from_first = !self.options.patient && self.state.loops.last().is_some_and(|active| active.count == 1);
        let pair = Pair { previous, current, from_first };
        let Some((widened, classes)) = self.first_guess(head, &pair, &[]) else {
            self.give_up(head);
            return false;
        };
        if from_first {
            self.return_to_the_first_arrival(&pair.previous);
        }
        let attempt = self.new_attempt(head, None, classes, widened, pair);
        self.begin(attempt, true);
        // The arrival goes on with it.
        self.resume = Resume::Nothing;
        true
    }

    fn first_guess(&mut self, head: usize, pair: &Pair, denied: &[At]) -> Option<(State, Vec<Class>)> {
        let mut guess = Guess::new(self, head);
        guess.denied = denied.to_vec();
        let widened = guess.between(&pair.previous, &pair.current, pair.from_first)?;
        let classes = guess.classes;
        (!classes.is_empty()).then_some((widened, classes))
    }

    /// Takes back all that was explored since the way came to the innermost loop's head first.
    fn return_to_the_first_arrival(&mut self, first: &Rc<State>) {
        let mut loops = std::mem::take(&mut self.state.loops);
        let Some(active) = loops.last_mut() else { return };
        (active.count, active.previous) = (0, Some(first.clone()));
        let (mark, total) = (active.mark, active.entry_cost);
        self.attempts.retain(|attempt| attempt.mark.chain < mark.chain);
        self.rewind(mark, total);
        self.state = State { loops, ..(**first).clone() };
    }

    /// Takes back all that came after a point of the way.
    pub fn rewind(&mut self, mark: Mark, total: u64) {
        if let Some(node) = self.chain.get(mark.chain) {
            self.cost = node.cost;
        }
        self.take_back(mark);
        self.recorder.take_back(mark.records);
        self.total = total;
    }

    /// Begins to prove what a helper does that calls back. The innermost loop is the helper's.
    pub fn try_callback(&mut self, pc: usize, rounds: u64) -> Result<(), Reason> {
        let rounds = rounds.min(MANY as u64 * 8);
        let current = self.state.without_loops();
        let mut guess = Guess::new(self, pc);
        guess.is_callback = true;
        guess.count_rounds(rounds as i64);
        let widened = guess.between(&current, &current, false).ok_or(Reason::CallbackUnsettled("its state".into()))?;
        let classes = guess.classes;
        let pair = Pair { previous: current.clone(), current, from_first: false };
        let attempt = self.new_attempt(pc, Some(rounds), classes, widened, pair);
        self.begin(attempt, false);
        Ok(())
    }

    fn new_attempt(
        &mut self,
        head: usize,
        rounds: Option<u64>,
        classes: Vec<Class>,
        widened: State,
        pair: Pair,
    ) -> Attempt {
        self.loops.attempts += 1;
        let frames = widened.frames.len();
        let known = self.loops.heads.get(&head).map(|facts| &facts.demanded);
        let mut demanded = known.filter(|need| need.frames.len() == frames).cloned().unwrap_or_default();
        // What outer loops depend on matters here too.
        let is_outer = |attempt: &&Attempt| self.state.loops.iter().any(|active| active.attempt == attempt.number);
        self.attempts.iter().filter(is_outer).for_each(|outer| demanded.add(&outer.demanded, frames));
        Attempt {
            number: self.loops.attempts,
            head,
            is_trial: false,
            classes,
            guesses: 0,
            firsts: 1,
            trials: 0,
            rounds,
            mark: self.mark(),
            visited: 0,
            start: self.state.clone(),
            total: self.total,
            pair,
            denied: Vec::new(),
            is_informed: false,
            supposed: Vec::new(),
            widened: Rc::new(widened),
            is_unfit: false,
            found: None,
            met: Vec::new(),
            expected: Vec::new(),
            is_guided: false,
            need: Need::default(),
            demanded,
            scattered: 0,
        }
    }

    /// Something is written to one of these cells, not all of which were written before.
    pub fn note_scattered(&mut self, cells: u128) {
        let loops = &self.state.loops;
        let is_running = |attempt: &&mut Attempt| loops.iter().any(|active| active.attempt == attempt.number);
        self.attempts.iter_mut().filter(is_running).for_each(|attempt| attempt.scattered |= cells);
    }

    /// What is read was not written, as far as is known, but a loop writes there at an offset that depends on its counter: that
    /// loop has to be explored round by round, and later attempts would not change it. Gives up what began within it.
    fn blame_who_scattered(&mut self, reason: &Reason) {
        let Reason::StackUninitialised { offset } = *reason else { return };
        let bit = 1u128 << cell_of(offset);
        let has_scattered = |attempt: &Attempt| attempt.rounds.is_none() && attempt.scattered & bit != 0;
        let Some(place) = self.attempts.iter().rposition(has_scattered) else { return };
        self.attempts.truncate(place + 1);
        self.loops.heads.entry(self.attempts[place].head).or_default().failures = PATIENCE.len() as u32;
    }

    /// Goes on from the state that holds for every round.
    fn begin(&mut self, mut attempt: Attempt, is_trial: bool) {
        attempt.is_trial = is_trial;
        (attempt.visited, attempt.is_unfit, attempt.found) = (0, false, None);
        attempt.scattered = 0;
        attempt.is_guided = false;
        let mut met = std::mem::take(&mut attempt.met);
        let is_misguided = self.loops.heads.get(&attempt.head).is_some_and(|facts| facts.is_misguided);
        if !is_trial && !met.is_empty() && !is_misguided {
            met.retain(|met| met.times > 0);
            attempt.expected = met;
        }
        let bytes: usize = attempt.expected.iter().map(|met| bytes_of(&met.state)).sum();
        attempt.need = self.supposed_need(&attempt);
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
        // As long as the attempt is under way.
        self.memory += bytes;
        self.chain.last_mut().into_iter().for_each(|node| node.bytes += bytes);
    }

    /// Everything but numbers that change from round to round without anything that is known to depend on them.
    fn supposed_need(&self, attempt: &Attempt) -> Need {
        if attempt.rounds.is_some() {
            return Need::all(attempt.widened.frames.len());
        }
        let mut need = self.everything(attempt.head, &attempt.widened);
        if self.options.exact || attempt.guesses > MAX_GUESSES {
            return need;
        }
        for (at, number) in guess::places(&attempt.widened) {
            let is_plain = !attempt.is_counter(&number) && at.number(&attempt.start) != Some(number);
            if is_plain && !at.is_needed(&attempt.widened, &attempt.demanded) {
                at.remove_from(&mut need, &attempt.widened);
            }
        }
        need
    }

    /// The current loop is not proved this time. What is only tried out tells nothing.
    fn give_up(&mut self, head: usize) {
        let patience = match self.is_trial() {
            true => u32::MAX,
            false => {
                self.loops.heads.entry(head).or_default().failures += 1;
                self.patience(head)
            }
        };
        if let Some(active) = self.state.loops.last_mut() {
            active.patience = patience.max(active.count + 1);
        }
    }

    /// An instruction is not allowed. Within an attempt that only means that it guessed too widely. True: nothing is left to do.
    pub fn recover(&mut self, stop: Stop) -> Result<bool, Stop> {
        if stop.is_too_complex() {
            return Err(stop);
        }
        if self.is_trial() {
            return self.finish(Ending::default());
        }
        loop {
            if self.tighten_within_the_innermost() {
                return Ok(false);
            }
            // What helpers call back has no other way.
            if self.attempts.pop_if(|attempt| attempt.rounds.is_some()).is_none() {
                break;
            }
        }
        if self.attempts.is_empty() {
            return Err(stop);
        }
        self.blame_who_scattered(&stop.reason);
        self.abandon();
        Ok(false)
    }

    /// Returns to a way that was loosened since the innermost attempt began. False: there is none.
    fn tighten_within_the_innermost(&mut self) -> bool {
        let innermost = self.attempts.last().map(|attempt| attempt.mark);
        self.is_loosened_within(innermost) && self.tighten()
    }

    /// Counts a visit, and gives up an attempt that takes too long, with all that began within it. True: there was one.
    pub fn give_up_what_takes_too_long(&mut self) -> bool {
        let mut place = None;
        // Outer loops first, as their attempts are.
        for active in self.state.loops.iter().filter(|active| active.attempt != 0) {
            let of_loop = |attempt: &Attempt| attempt.number == active.attempt;
            let Some(index) = self.attempts.iter().rposition(of_loop) else { continue };
            let attempt = &mut self.attempts[index];
            let most = if attempt.is_trial { MAX_TRIAL } else { MAX_ATTEMPT };
            attempt.visited += 1;
            if attempt.rounds.is_none() && attempt.visited > most {
                place = place.or(Some(index));
            }
        }
        let Some(place) = place else { return false };
        self.attempts.truncate(place + 1);
        self.abandon();
        true
    }

    /// Gives the innermost attempt up and goes on round by round.
    fn abandon(&mut self) {
        // The way to it may have been loosened too much: once a loop.
        if let Some(Attempt { head, mark, .. }) = self.attempts.last()
            && self.loosened.last().is_some_and(|loosened| loosened.is_before(*mark))
            && !self.is_trial()
            && !std::mem::replace(&mut self.loops.heads.entry(*head).or_default().was_tightened, true)
        {
            self.tighten();
            return;
        }
        let Some(attempt) = self.unwind() else { return };
        if attempt.is_guided { self.begin_unguided(attempt) } else { self.go_on(attempt) }
    }

    /// Begins again with all that is known of each way.
    fn begin_unguided(&mut self, mut attempt: Attempt) {
        self.loops.heads.entry(attempt.head).or_default().is_misguided = true;
        attempt.expected.clear();
        attempt.classes.iter_mut().for_each(Class::forget_steps);
        self.begin(attempt, false);
    }

    /// Explores the loop round by round from where an attempt began.
    fn go_on(&mut self, attempt: Attempt) {
        if attempt.is_informed {
            self.forget_lesson(&attempt);
        }
        self.state = attempt.start;
        if attempt.pair.from_first {
            // Who returns to the first arrival finds it again.
            self.open(attempt.head, 0);
        }
        if !attempt.is_informed {
            self.give_up(attempt.head);
        }
        self.resume = Resume::Loop;
    }

    /// Takes back all that the innermost attempt did. The way is where it began.
    fn unwind(&mut self) -> Option<Attempt> {
        let attempt = self.attempts.pop()?;
        self.rewind(attempt.mark, attempt.total);
        self.pc = attempt.head;
        Some(attempt)
    }

    /// The way has come back to the head of a loop that is being proved.
    pub fn come_back(&mut self, number: u32) -> Result<Next, Stop> {
        let Some(place) = self.attempts.iter().position(|attempt| attempt.number == number) else {
            return Err(Stop::new(self.pc, Reason::InfiniteLoop));
        };
        let attempt = &self.attempts[place];
        let (head, is_trial) = (attempt.head, attempt.is_trial);
        let steps = attempt.steps_to(&self.state);
        let fixed = self.fixed(&self.state.loops, number, &steps);
        // A trial looks for all that changes.
        let all = is_trial.then(|| self.everything(head, &attempt.widened));
        let mut cover = Cover::new(&attempt.widened, &self.state, &fixed);
        let fits = cover.holds(all.as_ref().unwrap_or(&attempt.need)) || on(Bug::Induction);
        let (work, need) = (cover.work, attempt.need.clone());
        self.work(head, work)?;
        if is_trial {
            self.learn(place, &steps, fits);
            return Ok(Next::end(need, Summary::back(number)));
        }
        if !fits && self.attempts[place].is_informed {
            // What began within it is over.
            self.attempts.truncate(place + 1);
            if let Some(attempt) = self.unwind() {
                self.go_on(attempt);
            }
            return Ok(Next::Go(self.pc));
        }
        if !fits && self.is_loosened_within(Some(self.attempts[place].mark)) {
            self.tighten();
            return Ok(Next::Go(self.pc));
        }
        if !fits && self.attempts[place].is_guided {
            self.attempts.truncate(place + 1);
            if let Some(attempt) = self.unwind() {
                self.begin_unguided(attempt);
            }
            return Ok(Next::Go(self.pc));
        }
        if !fits {
            self.guess_again(place, &steps)?;
            return Ok(Next::Go(self.pc));
        }
        self.attempts[place].note(&steps);
        self.loops.heads.entry(head).or_default().holds = true;
        self.note_lesson(place);
        Ok(Next::end(need, Summary::back(number)))
    }

    /// The counters of loops that are being proved: those of one attempt have moved on, others must have stayed, so that outer
    /// loops find them again.
    pub fn fixed(&self, loops: &[ActiveLoop], moved: u32, steps: &[Option<i64>]) -> Counters {
        let mut fixed = Counters::new();
        for attempt in &self.attempts {
            if attempt.number == moved {
                fixed.extend(attempt.fixed(steps));
            } else if loops.iter().any(|active| active.attempt == attempt.number) {
                fixed.extend(attempt.classes.iter().map(|class| Fixed { symbol: class.symbol, shift: 0 }));
            }
        }
        fixed
    }

    /// A trial has seen a round to its end.
    fn learn(&mut self, place: usize, steps: &[Option<i64>], fits: bool) {
        let state = self.state.without_loops();
        let attempt = &mut self.attempts[place];
        for (class, step) in attempt.classes.iter_mut().zip(steps) {
            class.extend(*step, &state, true);
        }
        attempt.is_unfit |= !fits;
        if fits {
            return;
        }
        if attempt.trials == 0 {
            attempt.deny_what_moved_otherwise(&state, steps);
        }
        let base = attempt.found.clone().unwrap_or_else(|| attempt.widened.clone());
        let round = if attempt.trials > 1 { WIDEN_FROM } else { 1 };
        let (wider, classes) = self.wider_guess(place, &base, &state, steps, round);
        let attempt = &mut self.attempts[place];
        if attempt.trials > 0 {
            attempt.classes = classes;
        }
        attempt.found = wider.map(Rc::new);
        if attempt.found.is_none() {
            // No state holds for both.
            attempt.trials = MAX_TRIALS;
        }
    }

    /// A guess that holds for a state that came back, too.
    fn wider_guess(
        &mut self,
        place: usize,
        base: &State,
        back: &State,
        steps: &[Option<i64>],
        round: u32,
    ) -> (Option<State>, Vec<Class>) {
        let attempt = &self.attempts[place];
        let (head, start, classes) = (attempt.head, attempt.start.clone(), attempt.classes.clone());
        let is_callback = attempt.rounds.is_some();
        let mut guess = Guess::new(self, head);
        (guess.classes, guess.is_callback, guess.round) = (classes, is_callback, round);
        let wider = guess.wider(base, back, &start, steps);
        (wider, guess.classes)
    }

    /// What came back does not fit: widens the guess and begins again.
    fn guess_again(&mut self, place: usize, steps: &[Option<i64>]) -> Result<(), Stop> {
        let state = self.state.without_loops();
        let attempt = &mut self.attempts[place];
        let (head, is_callback) = (attempt.head, attempt.rounds.is_some());
        for (class, step) in attempt.classes.iter_mut().zip(steps).filter(|_| !is_callback) {
            class.extend(*step, &state, false);
        }
        let (base, round) = (attempt.widened.clone(), attempt.guesses + 1 + attempt.trials);
        let (wider, classes) = self.wider_guess(place, &base, &state, steps, round);
        // What began within it is over.
        self.attempts.truncate(place + 1);
        let Some(mut attempt) = self.unwind() else { return Ok(()) };
        attempt.guesses += 1;
        if let Some(wider) = wider.filter(|_| attempt.guesses <= MAX_GUESSES) {
            (attempt.widened, attempt.classes) = (Rc::new(wider), classes);
            if self.holds_at_the_start(&attempt) {
                self.begin(attempt, false);
                return Ok(());
            }
        }
        if is_callback {
            self.state = attempt.start;
            let what = "its numbers grow from round to round without a bound".to_owned();
            return Err(Stop::new(head, Reason::CallbackUnsettled(what)));
        }
        self.go_on(attempt);
        Ok(())
    }

    /// All ways from the head of a loop that is being proved have ended. True: the walk goes on there in another way.
    pub fn complete_attempt(&mut self, node: &mut Node) -> Result<bool, Stop> {
        let is_within_trial = self.is_trial();
        if is_within_trial && self.go_on_where_ways_met(node) {
            return Ok(true);
        }
        let Some(attempt) = self.attempts.last() else { return Ok(false) };
        debug_assert_eq!(attempt.number, node.attempt);
        if attempt.is_trial {
            self.complete_trial(node);
            return Ok(true);
        }
        if attempt.rounds.is_none() && !self.options.exact && !is_within_trial && !attempt.has_compared(&node.need) {
            self.begin_again_for(node);
            return Ok(true);
        }
        let round = node.summary.take_back(attempt.number);
        let rounds = match (attempt.rounds, round) {
            (Some(rounds), _) => rounds,
            (None, None) => 0,
            (None, Some(_)) => match attempt.classes.iter().filter_map(Class::rounds).min() {
                Some(rounds) => rounds,
                None if is_within_trial => 1,
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
        if total > self.rules.ceiling && !is_within_trial {
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

    /// What was explored depends on numbers that were supposed not to matter: explores it again, comparing them too.
    fn begin_again_for(&mut self, node: &mut Node) {
        let needed = node.need.clone();
        self.restore(node);
        let Some(mut attempt) = self.unwind() else { return };
        attempt.guesses += 1;
        attempt.demanded.add(&needed, node.frames);
        self.loops.heads.entry(attempt.head).or_default().demanded.clone_from(&attempt.demanded);
        attempt.classes.iter_mut().for_each(Class::forget_steps);
        self.begin(attempt, false);
    }

    /// The attempt holds: what it supposed is known now, for all that was stored within it.
    fn settle(&mut self, node: &mut Node, in_loop: u64) {
        node.summary.add(in_loop);
        let Some(attempt) = self.attempts.pop() else { return };
        if attempt.rounds.is_some() {
            node.need = Need::all(node.frames);
        }
        for stored in &mut self.stored[attempt.mark.stored..] {
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
            need: std::mem::take(&mut node.need),
            summary: std::mem::take(&mut node.summary),
            stored: node.stored,
            attempt: node.attempt,
            meeting: None,
        });
    }

    /// A trial has seen all rounds: it is followed by another, by the attempt proper, or by rounds one by one.
    fn complete_trial(&mut self, node: &mut Node) {
        let needed = node.need.clone();
        self.restore(node);
        let Some(mut attempt) = self.unwind() else { return };
        attempt.demanded.add(&needed, node.frames);
        if attempt.trials == 0 && attempt.deny_what_has_no_bound() {
            return self.look_for_counters_again(attempt);
        }
        if !attempt.is_bounded() || attempt.is_unfit && attempt.trials == MAX_TRIALS {
            return self.go_on(attempt);
        }
        let (widened, is_found) = match attempt.found.take() {
            Some(found) if attempt.trials == 0 => self.without_ranges(&attempt, &found),
            Some(found) => (found, false),
            None => (attempt.widened.clone(), true),
        };
        attempt.widened = Rc::new(attempt.with_bounds(&widened));
        attempt.trials += 1;
        let is_trial = !is_found && attempt.trials < MAX_TRIALS;
        if !is_trial {
            attempt.classes.iter_mut().for_each(Class::forget_steps);
            attempt.suppose_what_holds_at_the_start();
            if !self.holds_at_the_start(&attempt) {
                return self.go_on(attempt);
            }
        }
        self.begin(attempt, is_trial);
    }

    /// What a trial with far bounds found: ranges that depend on these bounds are worth nothing. Numbers that nothing depends on
    /// are not known from here on. True: there are no others.
    fn without_ranges(&mut self, attempt: &Attempt, found: &State) -> (Rc<State>, bool) {
        let is_careful = self.loops.heads.get(&attempt.head).is_some_and(|facts| facts.failures > 0);
        let (mut state, mut is_found) = (found.clone(), true);
        for (at, number) in
            guess::places(&attempt.widened).into_iter().filter(|(_, number)| !attempt.is_counter(number))
        {
            let Some(other) = at.number_mut(&mut state).filter(|other| other.range != number.range) else { continue };
            if is_careful || at.is_needed(&attempt.widened, &attempt.demanded) {
                (*other, is_found) = (number, false);
            } else {
                let is_half = other.range.is_half() && number.range.is_half();
                let range = if is_half { Scalar::unknown().truncate(4) } else { Scalar::unknown() };
                *other = Num::symbol(range, self.fresh());
            }
        }
        (Rc::new(state), is_found)
    }

    /// Some numbers were taken for counters that are none.
    fn look_for_counters_again(&mut self, mut attempt: Attempt) {
        attempt.firsts += 1;
        let guess = self.first_guess(attempt.head, &attempt.pair, &attempt.denied);
        match guess.filter(|_| attempt.firsts <= MAX_GUESSES) {
            Some((widened, classes)) => {
                (attempt.widened, attempt.classes) = (Rc::new(widened), classes);
                attempt.supposed.clear();
                self.begin(attempt, true);
            }
            None => self.go_on(attempt),
        }
    }

    /// What is to hold for every round holds for the first; orders are looked at where they are supposed.
    fn holds_at_the_start(&self, attempt: &Attempt) -> bool {
        let widened = State { orders: Vec::new(), ..(*attempt.widened).clone() };
        let fixed = self.fixed(&attempt.start.loops, 0, &[]);
        Cover::new(&widened, &attempt.start, &fixed).holds(&self.everything(attempt.head, &widened))
    }

    /// A trial supposes that this holds before each round.
    pub fn suppose(&mut self, order: Order) {
        let of_order = |class: &Class| class.symbol == order.low || class.symbol == order.high;
        let trial = self.attempts.iter_mut().find(|attempt| attempt.is_trial && attempt.classes.iter().any(of_order));
        if let Some(trial) = trial.filter(|trial| !trial.supposed.contains(&order)) {
            trial.supposed.push(order);
        }
    }

    /// In a trial, ways that meet go on as one, later, from a state that holds for all. Some: the way ends here.
    pub fn meet(&mut self, pc: usize) -> Result<Option<Next>, Stop> {
        let Some(attempt) = self.attempts.last_mut() else { return Ok(None) };
        let mut met = std::mem::take(&mut attempt.met);
        let next = self.meet_among(&mut met, pc);
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.met = met;
        }
        next
    }

    fn meet_among(&mut self, met: &mut Vec<Met>, pc: usize) -> Result<Option<Next>, Stop> {
        let is_here = |met: &Met| met.pc == pc && are_same_loops(&met.state.loops, &self.state.loops);
        let Some(place) = met.iter().position(is_here) else {
            if met.len() < MAX_MET {
                let (state, total) = (self.state.clone(), self.total);
                met.push(Met { pc, state, total, times: 0, waits: false, need: Need::default() });
                self.push_meeting(Meeting { place: met.len() - 1, again: false });
            }
            return Ok(None);
        };
        let may_wait = self.may_wait();
        let here = &mut met[place];
        let fixed = self.fixed(&self.state.loops, 0, &[]);
        let mut cover = Cover::new(&here.state, &self.state, &fixed);
        let holds = cover.holds(&self.everything(pc, &self.state));
        let work = cover.work;
        self.work(pc, work)?;
        if !holds && here.times < MAX_MEETINGS {
            let state = self.state.clone();
            let mut guess = Guess::new(self, pc);
            let Some(merged) = guess.either(&here.state, &state) else { return Ok(None) };
            (here.state, here.total) = (State { loops: state.loops, ..merged }, self.total);
            (here.times, here.waits) = (here.times + 1, may_wait);
            if !may_wait {
                self.state = here.state.clone();
                return Ok(None);
            }
        }
        Ok(Some(Next::end(here.need.clone(), Summary::default())))
    }

    /// What the last trial of the innermost loop knew where several ways met.
    pub fn expected(&self, pc: usize) -> Option<&State> {
        let Attempt { number, expected, .. } = self.attempts.last()?;
        // Not in rounds of a loop inside that are explored one by one.
        self.state.loops.last().filter(|active| active.attempt == *number)?;
        let is_here = |met: &&Met| met.pc == pc && are_same_loops(&met.state.loops, &self.state.loops);
        expected.iter().find(is_here).map(|met| &met.state)
    }

    /// A way of the innermost loop goes on with what was expected, or not.
    pub fn note_guided(&mut self, is_right: bool) {
        let Some(attempt) = self.attempts.last_mut() else { return };
        attempt.is_guided = is_right;
        if !is_right {
            attempt.expected.clear();
            self.loops.heads.entry(attempt.head).or_default().is_misguided = true;
        }
    }

    /// Who waits goes on from where the innermost attempt began: it must not be inside of a loop that was entered since.
    fn may_wait(&self) -> bool {
        let Some(attempt) = self.attempts.last() else { return false };
        self.state.loops.iter().all(|active| active.mark.chain <= attempt.mark.chain)
    }

    fn push_meeting(&mut self, meeting: Meeting) {
        self.push_node(1, None, 0);
        if let Some(node) = self.chain.last_mut() {
            node.meeting = Some(meeting);
        }
    }

    /// Ways from where others met are walked to their ends.
    pub fn leave_meeting(&mut self, meeting: Meeting, node: &mut Node) {
        let Some(here) = self.attempts.last_mut().and_then(|attempt| attempt.met.get_mut(meeting.place)) else {
            return;
        };
        here.need.add(&node.need, node.frames);
        if meeting.again {
            // The ways that led here have ended, with what was known then.
            node.need = Need::default();
        }
    }

    /// In a trial, all ways have ended, some where others had been: goes on with what is known of them together, where nothing
    /// else comes before. False: there are none.
    fn go_on_where_ways_met(&mut self, node: &mut Node) -> bool {
        let Some(attempt) = self.attempts.last_mut() else { return false };
        let waiting = attempt.met.iter_mut().enumerate().filter(|(_, met)| met.waits);
        let rank = |met: &Met| (MAX_FRAMES - met.state.frames.len(), self.graph.rank(met.pc));
        let Some((place, met)) = waiting.min_by_key(|(_, met)| rank(met)) else { return false };
        met.waits = false;
        (self.state, self.pc, self.total) = (met.state.clone(), met.pc, met.total);
        self.restore(node);
        self.push_meeting(Meeting { place, again: true });
        // The arrival is done with.
        self.resume = Resume::Loop;
        true
    }

    /// The present point of the walk.
    pub fn mark(&self) -> Mark {
        Mark {
            chain: self.chain.len(),
            pending: self.pending.len(),
            stored: self.stored.len(),
            records: self.recorder.mark(),
        }
    }
}

/// Ways that are in the same rounds of the same loops.
pub fn are_same_loops(a: &[ActiveLoop], b: &[ActiveLoop]) -> bool {
    let is_same = |(a, b): (&ActiveLoop, &ActiveLoop)| {
        (a.head, a.frame, a.attempt) == (b.head, b.frame, b.attempt) && (a.attempt != 0 || a.count == b.count)
    };
    a.len() == b.len() && a.iter().zip(b).all(is_same)
}

impl Attempt {
    /// By class: how far a state that came back has moved; None: its numbers do not agree.
    fn steps_to(&self, state: &State) -> Vec<Option<i64>> {
        self.classes.iter().map(|class| class.step_to(&self.widened, state)).collect()
    }

    /// Of the orders that the trial supposed, those of a counter that begins at 0 and of a number that is large enough.
    fn suppose_what_holds_at_the_start(&mut self) {
        let begins_at_0 = |symbol| self.classes.iter().any(|class| class.symbol == symbol && class.counts_rounds());
        let holds = |order: &&Order| {
            begins_at_0(order.low) && self.start.least(order.high).is_some_and(|least| order.gap <= least)
        };
        let orders: Vec<Order> = self.supposed.iter().filter(holds).copied().collect();
        let widened = Rc::make_mut(&mut self.widened);
        orders.into_iter().for_each(|order| widened.learn(order));
    }

    fn fixed(&self, steps: &[Option<i64>]) -> impl Iterator<Item = Fixed> {
        self.classes.iter().zip(steps).map(|(class, step)| class.moved(*step))
    }

    /// Remembers the steps of a way that fits.
    fn note(&mut self, steps: &[Option<i64>]) {
        self.classes.iter_mut().zip(steps).for_each(|(class, step)| class.note(*step));
    }

    /// What turned out to be needed was compared whenever a way came back, or fits whatever comes back: a number of which the
    /// state for every round knows nothing, neither by itself nor through another.
    fn has_compared(&self, needed: &Need) -> bool {
        if self.need.is_exact_for(needed) {
            return true;
        }
        let mut needed = needed.clone();
        let places = guess::places(&self.widened);
        let is_alone = |number: &Num| {
            let Link { symbol, .. } = number.link;
            let times = places.iter().filter(|(_, other)| other.link.symbol == symbol).count();
            let is_ordered = self.widened.orders.iter().any(|order| order.low == symbol || order.high == symbol);
            symbol == 0 || times == 1 && !is_ordered && self.widened.counter(symbol).is_none()
        };
        for (at, _) in places.iter().filter(|(at, number)| at.holds_any(number, &self.widened) && is_alone(number)) {
            at.remove_from(&mut needed, &self.widened);
        }
        self.need.is_exact_for(&needed)
    }

    /// Some class has bounds and was not broken.
    fn is_bounded(&self) -> bool {
        self.rounds.is_some() || self.classes.iter().any(Class::is_bounded)
    }

    /// Numbers that were taken for counters and came back otherwise are none.
    fn deny_what_moved_otherwise(&mut self, back: &State, steps: &[Option<i64>]) {
        let fixed: Vec<Fixed> = self.fixed(steps).collect();
        let moved = |number: &Num| {
            let fixed = fixed.iter().find(|fixed| fixed.symbol == number.link.symbol)?;
            Some(fixed.moved(number.link))
        };
        let places = guess::places(&self.widened);
        let is_other = |(at, number): &(At, Num)| {
            moved(number).is_some_and(|link| at.number(back).is_none_or(|number| number.link != link))
        };
        self.denied.extend(places.into_iter().filter(is_other).map(|(at, _)| at));
    }

    /// Counters without bounds, or that go to and fro, are none. True: there is something new that must not be guessed.
    fn deny_what_has_no_bound(&mut self) -> bool {
        let is_broken = |symbol| self.classes.iter().any(|class| class.symbol == symbol && class.is_broken());
        let places = guess::places(&self.widened);
        let broken = places.into_iter().filter(|(_, number)| is_broken(number.link.symbol)).map(|(at, _)| at);
        self.denied.extend(broken);
        self.denied.iter().any(|at| at.number(&self.widened).is_some_and(|number| self.is_counter(&number)))
    }

    fn is_counter(&self, number: &Num) -> bool {
        self.classes.iter().any(|class| class.symbol == number.link.symbol)
    }

    /// A state in which numbers of a class lie within the bounds that were found.
    fn with_bounds(&self, state: &State) -> State {
        let mut state = State { loops: Vec::new(), ..state.clone() };
        state.counters.retain(|counter| self.classes.iter().all(|class| class.symbol != counter.symbol));
        state.counters.extend(self.classes.iter().map(Class::counter));
        set_ranges(&self.classes, &mut state);
        state
    }
}
