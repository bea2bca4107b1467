//! The walk: explores every way through a program, and stops where what may follow was explored before.
//!
//! Ways are explored depth first. What is still open is a chain of nodes: branches whose other side waits, states that were
//! stored, heads of loops that are being proved. A way ends at an exit, or at a stored state that covers it; then what it
//! needed ([`Need`]) and what it may cost ([`Summary`]) go back through the chain, so that every stored state knows both.

use smallvec::{SmallVec, smallvec};

use super::{
    Facts, MAX_VISITED, Reason,
    attempt::{Attempt, Lesson, Meeting},
    cover::{Counters, Cover, Fixed},
    graph::Graph,
    loosen::Loosened,
    need::{Need, Step},
    planted::{Bug, on},
    record::Recorder,
    rejection::{LoopCost, Stop},
    rules::Rules,
    state::{ActiveLoop, Frame, Mark, Regs, State},
    value::{Id, Target, Value},
};
use crate::object::{Object, ProgramText};

/// Bytes that states and ways may take, as estimated: about half of what the process then has. Beyond a part of it none are
/// stored for comparison.
const MAX_MEMORY: usize = 40 << 20;
const MAX_STORED: usize = 24 << 20;
/// Loops that may be active within each other.
pub const MAX_LOOPS: usize = 32;
/// Instructions of a way that messages look back at.
const MAX_HISTORY: usize = 1 << 16;
/// Comparisons of values that all walks may make together.
const MAX_WORK: u64 = 32_000_000;
/// The part of the budgets that the first walk may use, if there are loops that another may guess better.
const FIRST_SHARE: u64 = 4;
/// Instructions between stored states, so that comparing does not cost more than walking.
const STEPS_BETWEEN: u32 = 3;

/// Rounds of a loop beyond which not every one is stored, and exits are explored before the next round.
pub const MANY_ROUNDS: u32 = 64;

/// What may follow from a state: its cost up to an exit, and up to each loop's head that is being proved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub exit: u64,
    /// By the attempt's number.
    pub backs: SmallVec<[(u32, u64); 1]>,
}

impl Summary {
    pub fn back(attempt: u32) -> Summary {
        Summary { exit: 0, backs: smallvec![(attempt, 0)] }
    }

    pub fn add(&mut self, cost: u64) {
        self.exit = self.exit.saturating_add(cost);
        self.backs.iter_mut().for_each(|(_, back)| *back = back.saturating_add(cost));
    }

    pub fn raise(&mut self, other: &Summary) {
        self.exit = self.exit.max(other.exit);
        for &(attempt, cost) in &other.backs {
            match self.backs.iter_mut().find(|(of, _)| *of == attempt) {
                Some((_, back)) => *back = (*back).max(cost),
                None => self.backs.push((attempt, cost)),
            }
        }
    }

    pub fn goes_back_to(&self, attempt: u32) -> bool {
        self.backs.iter().any(|(of, _)| *of == attempt)
    }

    pub fn take_back(&mut self, attempt: u32) -> Option<u64> {
        let at = self.backs.iter().position(|(of, _)| *of == attempt)?;
        Some(self.backs.swap_remove(at).1)
    }
}

/// A point of the current way from which more than what is being walked may follow.
#[derive(Debug)]
pub struct Node {
    /// Steps of the way up to this one, and what they cost since the node before.
    pub steps: usize,
    pub cost: u64,
    /// Active functions.
    pub frames: usize,
    /// Ways from here that are not explored to their ends.
    pub open: u32,
    pub need: Need,
    pub summary: Summary,
    pub stored: Option<usize>,
    /// The attempt that begins here; 0: none.
    pub attempt: u32,
    /// In a trial: the place where ways meet.
    pub meeting: Option<Meeting>,
    pub bytes: usize,
}

/// A state that later ones are compared with.
#[derive(Debug)]
pub struct Stored {
    pub pc: usize,
    /// None: dropped, as it was, or can be, of no use.
    pub state: Option<State>,
    pub need: Need,
    pub summary: Summary,
    hits: u32,
    misses: u32,
    /// Ways that it holds for, beside its own, as it was loosened.
    pub joins: u32,
    pub bytes: usize,
}

/// The other side of a branch.
#[derive(Debug)]
pub struct Pending {
    pub state: State,
    pub pc: usize,
    pub total: u64,
    unstored: u32,
    bytes: usize,
}

/// What the walk is in the middle of at its next instruction.
#[derive(Clone, Copy, Debug, Default)]
pub enum Resume {
    #[default]
    Nothing,
    /// The arrival at a loop's head is done with.
    Loop,
    /// A helper is about to call back, or to be done with that.
    Callback,
}

/// What an instruction led to.
#[derive(Debug)]
pub enum Next {
    Go(usize),
    /// The way ends.
    End(Box<Ending>),
}

/// Where a way ends: what followed needs that much and costs that much.
#[derive(Debug, Default)]
pub struct Ending {
    pub need: Need,
    pub summary: Summary,
}

impl Next {
    pub fn end(need: Need, summary: Summary) -> Next {
        Next::End(Box::new(Ending { need, summary }))
    }
}

/// What was used of the budgets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    pub visited: u64,
    work: u64,
}

/// How a walk is to be done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Every number matters: states are compared exactly.
    pub exact: bool,
    /// Loops are explored some rounds one by one before the first attempt to prove them.
    pub patient: bool,
    /// Each way goes on with all that is known of it.
    pub strict: bool,
    /// By walks before.
    pub spent: Spent,
}

pub struct Walk<'a> {
    pub program: &'a ProgramText,
    pub graph: &'a Graph,
    pub object: &'a Object,
    pub rules: &'a Rules,
    pub options: Options,
    pub recorder: &'a mut Recorder,
    /// The current way: state, place, what was done, what it cost since the last node and since the start.
    pub state: State,
    pub pc: usize,
    pub step: Step,
    pub steps: Vec<Step>,
    pub cost: u64,
    pub total: u64,
    pub chain: Vec<Node>,
    pub pending: Vec<Pending>,
    pub stored: Vec<Stored>,
    /// By slot: stored states from which everything is explored.
    pub table: Vec<Vec<u32>>,
    pub attempts: Vec<Attempt>,
    pub loops: Loops,
    /// Ways that were loosened and are not explored to their ends, how often that was done, and where it was too much.
    pub loosened: Vec<Loosened>,
    pub loosenings: u64,
    pub tight: Vec<usize>,
    pub resume: Resume,
    /// What was found wrong while a way ended.
    pub failed: Option<Stop>,
    /// Instructions since the last state was stored on this way.
    unstored: u32,
    pub ids: Id,
    work: u64,
    /// Bytes of what waits, what is stored and what is open.
    pub memory: usize,
    pub facts: Facts,
}

/// What was learnt of loops.
#[derive(Debug, Default)]
pub struct Loops {
    pub attempts: u32,
    /// By head: attempts that failed, and whether one held so far.
    pub heads: std::collections::BTreeMap<usize, HeadFacts>,
    /// The head of the loop that costs most, and its cost.
    pub costliest: Option<(usize, u64)>,
}

#[derive(Clone, Debug, Default)]
pub struct HeadFacts {
    pub failures: u32,
    pub holds: bool,
    /// It was returned to a way before it that had been loosened.
    pub was_tightened: bool,
    /// Numbers that something was seen to depend on.
    pub demanded: Need,
    /// What held for every round last time, and how often that did not hold another time.
    pub lesson: Option<Lesson>,
    pub misled: u32,
    /// What a trial knew where ways met was too little.
    pub is_misguided: bool,
}

impl<'a> Walk<'a> {
    pub fn new(
        program: &'a ProgramText,
        graph: &'a Graph,
        object: &'a Object,
        rules: &'a Rules,
        options: Options,
        recorder: &'a mut Recorder,
    ) -> Walk<'a> {
        let mut frame = Frame::new(0, 0, 0);
        frame.regs[1] = Value::pointer(Target::Context, 0);
        let facts = Facts { stack: vec![0; program.functions.len()], ..Facts::default() };
        Walk {
            program,
            graph,
            object,
            rules,
            options,
            recorder,
            state: State { frames: smallvec![std::rc::Rc::new(frame)], ..State::default() },
            pc: program.functions[0].start,
            step: Step::new(0, 0),
            steps: Vec::new(),
            cost: 0,
            total: 0,
            chain: Vec::new(),
            pending: Vec::new(),
            stored: Vec::new(),
            table: vec![Vec::new(); program.insns.len()],
            attempts: Vec::new(),
            loops: Loops::default(),
            loosened: Vec::new(),
            loosenings: 0,
            tight: Vec::new(),
            resume: Resume::Nothing,
            failed: None,
            unstored: 0,
            ids: 0,
            work: 0,
            memory: 0,
            facts,
        }
    }

    /// Explores everything.
    pub fn run(&mut self) -> Result<(), Stop> {
        loop {
            let is_done = match self.advance() {
                Ok(Next::Go(pc)) => {
                    self.pc = pc;
                    false
                }
                Ok(Next::End(ending)) => self.finish(*ending)?,
                Err(stop) => self.recover(stop)?,
            };
            if is_done {
                return Ok(());
            }
        }
    }

    pub fn fresh(&mut self) -> Id {
        self.ids += 1;
        self.ids
    }

    /// What is left of the hook's ceiling was found to be too little.
    pub fn too_costly(&self, cost: u64) -> Reason {
        let costliest = self.loops.costliest.map(|(pc, cost)| {
            let function = self.program.function_at(pc).map(|index| &self.program.functions[index]);
            Box::new(LoopCost {
                function: function.map_or_else(String::new, |function| function.name.clone()),
                instruction: pc - function.map_or(0, |function| function.start),
                line: self.program.source_line(pc),
                cost,
            })
        });
        Reason::TooCostly { cost, ceiling: self.rules.ceiling, costliest }
    }

    /// The last instructions that the current way executed, the last first.
    pub fn history(&self) -> Vec<usize> {
        self.steps.iter().rev().take(MAX_HISTORY).map(|step| step.pc as usize).collect()
    }

    /// One instruction.
    fn advance(&mut self) -> Result<Next, Stop> {
        let pc = self.pc;
        if let Some(stop) = self.failed.take() {
            return Err(stop);
        }
        match std::mem::take(&mut self.resume) {
            Resume::Nothing => {
                if let Some(next) = self.arrive()? {
                    return Ok(next);
                }
            }
            Resume::Loop => {}
            Resume::Callback => return self.call_back(pc).map_err(|reason| Stop::new(pc, reason)),
        }
        self.facts.visited += 1;
        self.unstored += 1;
        if !self.attempts.is_empty() && self.give_up_what_takes_too_long() {
            return Ok(Next::Go(self.pc));
        }
        if self.memory > MAX_MEMORY {
            return Err(Stop::new(pc, Reason::TooMuchMemory(MAX_MEMORY)));
        }
        if self.options.spent.visited + self.facts.visited > self.share_of(MAX_VISITED) {
            return Err(Stop::new(pc, Reason::TooComplex(MAX_VISITED)));
        }
        let op = self.graph.op(pc)?;
        self.step = Step::new(pc, self.state.depth());
        // Of trials nothing stays.
        self.step.record = if self.is_trial() { 0 } else { self.recorder.visit(pc, &self.state) };
        self.spend(1).map_err(|reason| Stop::new(pc, reason))?;
        let next = self.execute(pc, op).map_err(|reason| Stop::new(pc, reason));
        self.recorder.line(self.program, pc, op, &self.state);
        next
    }

    /// Counts what an instruction costs.
    pub fn spend(&mut self, cost: u64) -> Result<(), Reason> {
        self.cost = self.cost.saturating_add(cost);
        self.total = self.total.saturating_add(cost);
        if self.total > self.rules.ceiling { Err(self.too_costly(self.total)) } else { Ok(()) }
    }

    /// The instruction's step is done with: it belongs to the way.
    pub fn commit(&mut self) {
        let next = Step::new(0, 0);
        self.steps.push(std::mem::replace(&mut self.step, next));
    }

    /// Where ways meet, and at heads of loops. Some: the way ends here.
    fn arrive(&mut self) -> Result<Option<Next>, Stop> {
        let pc = self.pc;
        if !self.state.loops.is_empty() && self.leave_loops(pc) {
            return Ok(Some(Next::end(Need::default(), Summary::default())));
        }
        if self.graph.is_head(pc) {
            self.state.sum = None;
            return self.arrive_at_head(pc);
        }
        if self.graph.is_join(pc) {
            self.state.sum = None;
            if self.is_trial() {
                return self.meet(pc);
            }
            if let Some(next) = self.find_cover(pc)? {
                return Ok(Some(next));
            }
            let joins = self.loosen(pc);
            if (self.unstored >= STEPS_BETWEEN || joins.is_some()) && self.has_room() {
                self.open(pc, joins.unwrap_or(0));
            }
        }
        Ok(None)
    }

    /// Forgets loops that the way has left. True: it has left what is being tried out, where it need not go on.
    fn leave_loops(&mut self, pc: usize) -> bool {
        let depth = self.state.depth();
        while let Some(last) = self.state.loops.last() {
            let is_left = last.frame > depth
                || last.frame == depth && last.callback.is_none() && !self.graph.is_inside(pc, last.head);
            if !is_left {
                return false;
            }
            let (head, attempt, cost) = (last.head, last.attempt, self.total - last.entry_cost);
            self.state.loops.pop();
            self.forget_orders();
            self.settle_filled();
            self.note_loop_cost(head, cost);
            if attempt != 0 && self.attempts.iter().any(|trial| trial.number == attempt && trial.is_trial) {
                return true;
            }
        }
        false
    }

    /// Orders are of use within their loops alone.
    fn forget_orders(&mut self) {
        if self.state.orders.is_empty() {
            return;
        }
        let symbols = self.active_symbols();
        self.state.orders.retain(|order| symbols.contains(&order.low) || symbols.contains(&order.high));
    }

    /// What is filled depends on counters of active loops alone.
    fn settle_filled(&mut self) {
        if self.state.filled.is_empty() {
            return;
        }
        let symbols = self.active_symbols();
        self.state.settle_filled(|symbol| symbols.contains(&symbol));
    }

    /// The counters of active loops that are being proved.
    fn active_symbols(&self) -> Vec<Id> {
        let is_active = |number: u32| self.state.loops.iter().any(|active| active.attempt == number);
        let active = self.attempts.iter().filter(|attempt| is_active(attempt.number));
        active.flat_map(|attempt| attempt.classes.iter().map(|class| class.symbol)).collect()
    }

    pub fn note_loop_cost(&mut self, head: usize, cost: u64) {
        if self.loops.costliest.is_none_or(|(_, most)| most < cost) {
            self.loops.costliest = Some((head, cost));
        }
    }

    fn arrive_at_head(&mut self, pc: usize) -> Result<Option<Next>, Stop> {
        let depth = self.state.depth();
        let of_head = |active: &ActiveLoop| active.head == pc && active.frame == depth && active.callback.is_none();
        let running = self.state.loops.iter().rposition(of_head);
        if let Some(at) = running {
            self.state.loops.truncate(at + 1);
            if self.state.loops[at].attempt != 0 {
                return self.come_back(self.state.loops[at].attempt).map(Some);
            }
        }
        if let Some(next) = self.find_cover(pc)? {
            return Ok(Some(next));
        }
        let Some(at) = running else {
            let joins = self.loosen(pc);
            return self.enter_loop(pc, joins.unwrap_or(0));
        };
        // A loop of which a trial has no guess: its rounds are ways that meet.
        if self.state.loops[at].patience == u32::MAX && self.is_trial() {
            return self.meet(pc);
        }
        let current = self.state.without_loops();
        let active = &mut self.state.loops[at];
        active.count += 1;
        let is_worth_storing = active.count < MANY_ROUNDS || active.count.is_multiple_of(MANY_ROUNDS);
        let previous = active.previous.replace(current.clone());
        let is_time = active.count >= active.patience;
        if let Some(previous) = previous {
            self.check_progress(pc, &previous, &current)?;
            if is_time && self.try_loop(pc, previous, current) {
                return Ok(None);
            }
        }
        if is_worth_storing && self.has_room() {
            self.open(pc, 0);
        }
        Ok(None)
    }

    /// The first arrival at a loop's head.
    fn enter_loop(&mut self, pc: usize, joins: u32) -> Result<Option<Next>, Stop> {
        if self.state.loops.len() >= MAX_LOOPS {
            return Err(Stop::new(pc, Reason::LoopDepth));
        }
        let current = self.state.without_loops();
        let active = ActiveLoop {
            head: pc,
            frame: self.state.depth(),
            count: 0,
            mark: self.mark(),
            entry_cost: self.total,
            attempt: 0,
            patience: self.patience(pc),
            previous: Some(current.clone()),
            callback: None,
        };
        self.state.loops.push(active);
        if self.try_lesson(pc, &current) {
            // The arrival goes on with it.
            self.resume = Resume::Nothing;
        } else {
            self.open(pc, joins);
        }
        Ok(None)
    }

    /// A loop that comes back to its head with nothing changed never ends.
    fn check_progress(&mut self, pc: usize, previous: &State, current: &State) -> Result<(), Stop> {
        let need = self.everything(pc, current);
        let mut there = Cover::new(previous, current, &[]);
        let is_same = there.holds(&need) && Cover::new(current, previous, &[]).holds(&need);
        let work = there.work;
        self.work(pc, work)?;
        if is_same { Err(Stop::new(pc, Reason::InfiniteLoop)) } else { Ok(()) }
    }

    /// All that may matter at a slot.
    pub fn everything(&self, pc: usize, state: &State) -> Need {
        let mut need = Need::all(state.frames.len());
        if let Some(top) = need.frames.last_mut() {
            let live = self.graph.live(pc) | 1 << 10;
            (top.regs, top.exact) = (top.regs & live, top.exact & live);
        }
        need
    }

    /// What a walk may use of a budget: an impatient one leaves most of it to the patient one.
    fn share_of(&self, budget: u64) -> u64 {
        let is_last = (self.options.patient || self.loops.attempts == 0) && self.loosenings == 0;
        if is_last { budget } else { budget / FIRST_SHARE }
    }

    /// What this walk and those before it have used.
    pub fn spent(&self) -> Spent {
        let before = self.options.spent;
        Spent { visited: before.visited + self.facts.visited, work: before.work + self.work }
    }

    /// Counts comparisons.
    pub fn work(&mut self, pc: usize, work: u64) -> Result<(), Stop> {
        self.work += work + 1;
        let spent = self.options.spent.work + self.work;
        if spent > self.share_of(MAX_WORK) { Err(Stop::new(pc, Reason::TooComplex(MAX_WORK))) } else { Ok(()) }
    }

    /// A stored state that covers the current one.
    fn find_cover(&mut self, pc: usize) -> Result<Option<Next>, Stop> {
        // Trials look at all that they come to.
        let oldest = self.attempts.iter().find(|attempt| attempt.is_trial).map_or(0, |trial| trial.mark.stored);
        let mut place = self.table[pc].len();
        while place > 0 {
            place -= 1;
            let index = self.table[pc][place] as usize;
            if index < oldest {
                break;
            }
            let Some(fixed) = self.counters_in_common(index) else { continue };
            let stored = &self.stored[index];
            let Some(old) = &stored.state else { continue };
            let mut cover = Cover::new(old, &self.state, &fixed);
            let holds = cover.holds(&stored.need);
            let work = cover.work;
            self.work(pc, work)?;
            // Where the sum would be too much, the way itself may cost less.
            let is_cheap = self.total.saturating_add(self.stored[index].summary.exit) <= self.rules.ceiling;
            let stored = &mut self.stored[index];
            if holds && is_cheap {
                stored.hits += 1;
                return Ok(Some(Next::end(stored.need.clone(), stored.summary.clone())));
            }
            stored.misses += 1;
            // States that never cover anything only cost time.
            let limit = if self.graph.is_head(pc) { 16 } else { 8 };
            if stored.misses > limit + 3 * stored.hits {
                stored.state = None;
                self.memory -= std::mem::take(&mut stored.bytes);
                self.table[pc].remove(place);
            }
        }
        Ok(None)
    }

    /// The counters of loops that a stored state leads back to, which this way must be inside of too, and of those around them: what
    /// follows from a head that is not explored to its end yet leads on to theirs.
    pub fn counters_in_common(&self, stored: usize) -> Option<Counters> {
        let backs = &self.stored[stored].summary.backs;
        let mut inside = 0;
        for &(number, _) in backs {
            let place = self.state.loops.iter().position(|active| active.attempt == number)?;
            inside = inside.max(place + 1);
        }
        let is_compared = |active: &&ActiveLoop| {
            active.attempt != 0
                && (!on(Bug::OuterCounters) || backs.iter().any(|&(number, _)| number == active.attempt))
        };
        let mut fixed = Counters::new();
        for active in self.state.loops[..inside].iter().filter(is_compared) {
            let attempt = self.attempts.iter().find(|attempt| attempt.number == active.attempt)?;
            fixed.extend(attempt.classes.iter().map(|class| Fixed { symbol: class.symbol, shift: 0 }));
        }
        Some(fixed)
    }

    /// More states may be stored.
    pub fn has_room(&self) -> bool {
        self.memory < MAX_STORED
    }

    /// A node whose state is stored if there is room. At a loop's first arrival it is there in any case: attempts return to it.
    pub fn open(&mut self, pc: usize, joins: u32) {
        let state = self.has_room().then(|| (pc, self.state.clone()));
        let is_stored = state.is_some();
        self.unstored = 0;
        self.push_node(1, state, 0);
        if let Some(stored) = self.stored.last_mut().filter(|_| is_stored) {
            stored.joins = joins;
        }
    }

    /// A node here: what was walked since the last one leads to it.
    pub fn push_node(&mut self, open: u32, store: Option<(usize, State)>, attempt: u32) {
        let stored = store.map(|(pc, state)| {
            let bytes = bytes_of(&state);
            self.memory += bytes;
            let index = self.stored.len();
            self.stored.push(Stored {
                pc,
                state: Some(state),
                need: Need::default(),
                summary: Summary::default(),
                hits: 0,
                misses: 0,
                joins: 0,
                bytes,
            });
            index
        });
        let before = self.steps_before();
        let bytes = size_of::<Node>() + (self.steps.len() - before) * size_of::<Step>();
        self.memory += bytes;
        self.chain.push(Node {
            steps: self.steps.len(),
            cost: std::mem::take(&mut self.cost),
            frames: self.state.frames.len(),
            open,
            need: Need::default(),
            summary: Summary::default(),
            stored,
            attempt,
            meeting: None,
            bytes,
        });
    }

    /// Steps of the way up to the last node.
    fn steps_before(&self) -> usize {
        self.chain.last().map_or(0, |node| node.steps)
    }

    /// The other side of a branch waits.
    pub fn postpone(&mut self, state: State, pc: usize) {
        let bytes = bytes_of(&state);
        self.memory += bytes;
        self.pending.push(Pending { state, pc, total: self.total, unstored: self.unstored, bytes });
    }

    /// A way has come to its end: tells the chain, and turns to what waits. True: nothing does.
    pub fn finish(&mut self, Ending { mut need, mut summary }: Ending) -> Result<bool, Stop> {
        let mut cost = std::mem::take(&mut self.cost);
        loop {
            let before = self.steps_before();
            for step in self.steps.drain(before..).rev() {
                need.back(&step, self.graph);
                self.recorder.needed(step.record, &need);
            }
            summary.add(cost);
            let Some(node) = self.chain.last_mut() else {
                self.facts.worst_cost = summary.exit;
                if summary.exit > self.rules.ceiling {
                    return Err(Stop::new(self.program.functions[0].start, self.too_costly(summary.exit)));
                }
                return Ok(true);
            };
            node.need.add(&need, node.frames);
            node.summary.raise(&summary);
            node.open -= 1;
            if node.open > 0 {
                break;
            }
            let Some(mut node) = self.chain.pop() else { return Ok(true) };
            self.memory -= node.bytes;
            self.forget_loosened();
            if self.options.exact {
                node.need = Need::all(node.frames);
            }
            if let Some(meeting) = node.meeting {
                self.leave_meeting(meeting, &mut node);
            }
            if node.attempt != 0 && self.complete_attempt(&mut node)? {
                return Ok(false);
            }
            if let Some(stored) = node.stored {
                let index = stored as u32;
                let stored = &mut self.stored[stored];
                stored.need.clone_from(&node.need);
                stored.summary.clone_from(&node.summary);
                self.table[stored.pc].push(index);
            }
            (need, summary, cost) = (node.need, node.summary, node.cost);
        }
        // An open node has a side that waits.
        let Some(pending) = self.pending.pop() else { return Ok(true) };
        self.memory -= pending.bytes;
        (self.state, self.pc, self.total) = (pending.state, pending.pc, pending.total);
        self.unstored = pending.unstored;
        Ok(false)
    }

    /// Takes back all that came after a point of the walk.
    pub fn take_back(&mut self, Mark { chain, pending, stored, .. }: Mark) {
        if let Some(first) = self.chain.get(chain) {
            self.steps.truncate(first.steps);
        }
        for dropped in self.chain.drain(chain..) {
            self.memory -= dropped.bytes;
        }
        self.forget_loosened();
        for dropped in self.pending.drain(pending..) {
            self.memory -= dropped.bytes;
        }
        for dropped in self.stored.drain(stored..) {
            self.memory -= dropped.bytes;
            // What was completed since lies behind what was before.
            let table = &mut self.table[dropped.pc];
            while table.last().is_some_and(|&last| last as usize >= stored) {
                table.pop();
            }
        }
    }
}

/// An estimate of what a stored state takes: its innermost frame is its own.
pub fn bytes_of(state: &State) -> usize {
    let cells = state.frames.last().map_or(0, |frame| frame.stack.cells().len());
    size_of::<State>()
        + size_of_val(&*state.filled)
        + size_of::<Frame>()
        + size_of::<[Value; Regs::COUNT]>()
        + 48 * cells
        + size_of::<ActiveLoop>() * state.loops.len()
}
