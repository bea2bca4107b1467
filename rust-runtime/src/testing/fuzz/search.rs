//! Verifies programs, runs what is accepted, and compares.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::{
    generate::{Features, Helpers, generate},
    machine_code::{self, Depends},
    mutate::mutate,
    random::Random,
    reduce,
};
use crate::{
    helpers::Env,
    hook::Hook,
    isa::{Insn, Op},
    object::Object,
    verifier::{
        Verified,
        contain::{self, Beliefs, Options, Watcher},
    },
    vm::{Code, FaultKind, Input, Machine},
};

/// Bytes of the load hook's context.
pub const CONTEXT: usize = std::mem::size_of::<duckbpf_abi::duckbpf_load_ctx>();
/// Instructions of one run; a longer one is cut off and counts as it is.
const STEPS: u64 = 20_000;
/// Accepted programs that are kept to be changed.
const POOL: usize = 4096;

/// How long to look, and where.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    /// Programs to try at most.
    pub programs: u64,
    pub effort: Effort,
    pub until: Option<Instant>,
    /// Failures to stop at.
    pub failures: usize,
    /// Failing programs are made small.
    pub reduced: bool,
}

/// What is done with an accepted program.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Runs in the interpreter, each step compared with what was believed.
    pub inputs: usize,
    /// Runs as machine code and in the interpreter, of programs that do the same each time.
    pub pairs: usize,
}

/// What went wrong with an accepted program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It did what no program may.
    Fault(FaultKind),
    /// It was in a state that nobody believed possible.
    Miss(String),
    /// It cost more than was computed.
    Cost { actual: u64, computed: u64 },
    /// Machine code does otherwise than the interpreter.
    Differs(String),
    /// The verifier itself panicked.
    Panic(String),
}

impl Failure {
    /// Of the same kind.
    pub fn is_like(&self, other: &Failure) -> bool {
        match (self, other) {
            (Failure::Fault(a), Failure::Fault(b)) => std::mem::discriminant(a) == std::mem::discriminant(b),
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Tally {
    pub programs: u64,
    /// Different accepted programs.
    pub accepted: u64,
    /// Of those, with a loop, a spill or a call.
    pub rich: u64,
    /// Of the accepted ones: every state was compared in everything.
    pub exact: u64,
    /// Of the accepted ones: too many states to compare with.
    pub unwatched: u64,
    pub runs: u64,
    pub steps: u64,
    /// Runs that were compared with machine code, and the programs.
    pub compared: u64,
    pub compiled: u64,
    /// Of those programs, with a loop, a spill or a call.
    pub compiled_rich: u64,
    /// Of those programs: how many have so many instructions.
    pub lengths: BTreeMap<usize, u64>,
    /// Why programs were refused.
    pub refused: BTreeMap<&'static str, u64>,
    /// The numbers of the accepted programs.
    pub found: Vec<u64>,
    pub failures: Vec<String>,
}

/// What became of one program.
#[derive(Debug, Default)]
pub struct Checked {
    /// Why it was refused; None: it was accepted.
    pub refused: Option<&'static str>,
    pub runs: u64,
    pub steps: u64,
    /// It had too many states for the runs to be compared with them.
    pub unwatched: bool,
    /// Runs that were compared with machine code.
    pub compared: u64,
    pub failure: Option<Failure>,
}

/// Programs that were tried, by number: none is tried twice, in whatever thread.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<Mutex<HashSet<u64>>>);

impl Seen {
    /// False: it was there.
    pub fn insert(&self, number: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number)
    }
}

/// A search that can be gone on with.
#[derive(Debug)]
pub struct Search {
    plan: Plan,
    seen: Seen,
    random: Random,
    pool: Vec<Arc<Object>>,
    /// Since it was last taken.
    pub tally: Tally,
}

/// Looks for failures.
pub fn search(plan: Plan) -> Tally {
    let mut search = Search::new(plan, Seen::default());
    search.run(plan.until, |_| ());
    search.tally
}

impl Search {
    pub fn new(plan: Plan, seen: Seen) -> Search {
        let (random, pool, tally) = (Random::new(plan.seed), Vec::new(), Tally::default());
        Search { plan, seen, random, pool, tally }
    }

    /// Goes on until a time, or to the plan's end. Each program is shown before anything is done with it.
    pub fn run(&mut self, until: Option<Instant>, mut before: impl FnMut(&Object)) {
        while self.tally.programs < self.plan.programs && self.tally.failures.len() < self.plan.failures {
            if until.is_some_and(|until| Instant::now() >= until) {
                return;
            }
            let object = self.next();
            self.tally.programs += 1;
            if self.seen.insert(fingerprint(&object)) {
                before(&object);
                self.check(&object);
            }
        }
    }

    /// A new program, or a change to one that was accepted.
    fn next(&mut self) -> Arc<Object> {
        let random = &mut self.random;
        let mistakes = if random.once_in(2) { 0 } else { 12 };
        let helpers = if random.once_in(2) { Helpers::Pure } else { Helpers::All };
        let features = Features { helpers, mistakes };
        match self.pool.len() {
            count if count > 16 && random.once_in(2) => {
                let at = random.below(count);
                mutate(&self.pool[at], random)
            }
            _ => generate(random.word(), features),
        }
    }

    fn check(&mut self, object: &Arc<Object>) {
        let (seed, effort) = (self.random.word(), self.plan.effort);
        let checked = check(object, seed, effort);
        self.tally.note(object, seed, &checked);
        if checked.refused.is_none() {
            let at = self.random.below(POOL);
            if self.pool.len() < POOL { self.pool.push(object.clone()) } else { self.pool[at] = object.clone() }
        }
        if let Some(failure) = checked.failure {
            let (small, failure) = if self.plan.reduced {
                reduce::reduce(object, seed, effort, failure)
            } else {
                (object.clone(), failure)
            };
            self.tally.failures.push(format!("{failure:?}\nseed {seed}\n{}", reduce::text(&small)));
        }
    }
}

impl Tally {
    fn note(&mut self, object: &Object, seed: u64, checked: &Checked) {
        self.runs += checked.runs;
        self.steps += checked.steps;
        self.compared += checked.compared;
        if let Some(id) = checked.refused {
            *self.refused.entry(id).or_default() += 1;
            return;
        }
        let is_rich = is_rich(object);
        self.accepted += 1;
        self.rich += u64::from(is_rich);
        self.exact += u64::from(options(seed).exact);
        self.unwatched += u64::from(checked.unwatched);
        self.found.push(fingerprint(object));
        if checked.compared > 0 {
            self.compiled += 1;
            self.compiled_rich += u64::from(is_rich);
            *self.lengths.entry(operations(object).count()).or_default() += 1;
        }
    }

    /// Adds what another search saw.
    pub fn add(&mut self, other: Tally) {
        self.programs += other.programs;
        self.accepted += other.accepted;
        self.rich += other.rich;
        self.exact += other.exact;
        self.unwatched += other.unwatched;
        self.runs += other.runs;
        self.steps += other.steps;
        self.compared += other.compared;
        self.compiled += other.compiled;
        self.compiled_rich += other.compiled_rich;
        for (length, count) in other.lengths {
            *self.lengths.entry(length).or_default() += count;
        }
        for (id, count) in other.refused {
            *self.refused.entry(id).or_default() += count;
        }
        self.found.extend(other.found);
        self.failures.extend(other.failures);
    }
}

/// A program's instructions.
pub fn bytes(object: &Object) -> Vec<u8> {
    object.programs[0].insns.iter().flat_map(|insn| insn.to_bytes()).collect()
}

/// A number for a program's instructions.
fn fingerprint(object: &Object) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&bytes(object))
}

/// Its instructions that can be decoded.
fn operations(object: &Object) -> impl Iterator<Item = (Insn, Op)> {
    let insns = &object.programs[0].insns;
    let mut pc = 0;
    std::iter::from_fn(move || {
        let insn = *insns.get(pc)?;
        let op = Op::decode(insns, pc).ok()?;
        pc += op.slots();
        Some((insn, op))
    })
}

/// It has a loop, a spill or a call.
fn is_rich(object: &Object) -> bool {
    let is_spill = |insn: Insn| insn.code == 0x7b && insn.dst == 10;
    let is_back = |op: Op| op.jump().is_some_and(|off| off < 0);
    operations(object)
        .any(|(insn, op)| is_spill(insn) || is_back(op) || matches!(op, Op::Local { .. } | Op::Helper { .. }))
}

/// How a program is verified and watched: its seed decides.
fn options(seed: u64) -> Options {
    Options { exact: seed & 1 == 1, patient: seed & 6 == 6, ..Options::default() }
}

/// Verifies a program; if it is accepted, runs it on inputs that the seed gives.
pub fn check(object: &Arc<Object>, seed: u64, effort: Effort) -> Checked {
    let verified = std::panic::catch_unwind(|| contain::verify(object, 0, Hook::Load, options(seed)));
    let (result, beliefs) = match verified {
        Ok(verified) => verified,
        Err(panic) => {
            let what = panic.downcast_ref::<String>().cloned();
            let what = what.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default();
            return Checked { failure: Some(Failure::Panic(what)), ..Checked::default() };
        }
    };
    match result {
        Err(rejection) => Checked { refused: Some(rejection.id()), ..Checked::default() },
        Ok(verified) => {
            let mut checked = run_all(&verified, &beliefs, seed, effort.inputs);
            drop(beliefs);
            if checked.failure.is_none() && effort.pairs > 0 {
                (checked.compared, checked.failure) = match machine_code::depends(object) {
                    Depends::Nothing => machine_code::compare(verified, seed, effort.pairs),
                    Depends::Maps => match contain::verify(object, 0, Hook::Load, options(seed)).0 {
                        Ok(again) => machine_code::compare_with_maps([verified, again], seed, effort.pairs),
                        Err(rejection) => (0, Some(Failure::Panic(format!("refused when asked again: {rejection}")))),
                    },
                    Depends::Others => (0, None),
                };
            }
            checked
        }
    }
}

fn run_all(verified: &Verified, beliefs: &Beliefs, seed: u64, inputs: usize) -> Checked {
    let mut checked = Checked { unwatched: !beliefs.is_whole(), ..Checked::default() };
    let (mut random, code) = (Random::new(seed), Code::of(verified));
    for _ in 0..inputs {
        checked.runs += 1;
        let input = input(&mut random);
        let mut watcher = Watcher::new(beliefs);
        let mut machine = Machine::new(&code, Env::detached(), &mut random);
        machine.set_limit(STEPS);
        let ended = machine.run(&input, &mut watcher);
        checked.steps += machine.steps();
        let computed = verified.facts().worst_cost;
        checked.failure = match ended {
            // A miss comes before what it leads to.
            _ if watcher.miss.is_some() => watcher.miss.map(Failure::Miss),
            Err(fault) if fault.kind == FaultKind::TooLong && machine.cost() <= computed => None,
            Err(fault) => Some(Failure::Fault(fault.kind)),
            Ok(_) if machine.cost() > computed => Some(Failure::Cost { actual: machine.cost(), computed }),
            Ok(_) => None,
        };
        if checked.failure.is_some() {
            return checked;
        }
    }
    checked
}

fn input(random: &mut Random) -> Input {
    let context = random.context().iter().flat_map(|word| word.to_le_bytes()).collect();
    Input { context, ..Input::default() }
}
