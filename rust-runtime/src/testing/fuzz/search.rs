//! Verifies programs, runs what is accepted, and compares.

use std::{
    collections::{BTreeMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Instant,
};

use super::{
    generate::{Features, generate},
    machine_code,
    mutate::mutate,
    random::Random,
    reduce,
};
use crate::{
    helpers::Env,
    hook::Hook,
    isa::Op,
    object::Object,
    verifier::{
        Rejection, Verified,
        contain::{self, Beliefs, Watcher},
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
    /// Runs of each accepted program.
    pub inputs: usize,
    pub until: Option<Instant>,
    /// Failures to stop at.
    pub failures: usize,
    /// Failing programs are made small.
    pub reduced: bool,
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
    /// Of those, with a loop, a spill, a variable offset or a call.
    pub rich: u64,
    pub runs: u64,
    pub steps: u64,
    /// Runs that were compared with machine code, and the programs.
    pub compared: u64,
    pub compiled: u64,
    /// Why programs were refused.
    pub refused: BTreeMap<&'static str, u64>,
    pub failures: Vec<String>,
}

/// What became of one program.
#[derive(Debug, Default)]
pub struct Checked {
    /// Why it was refused; None: it was accepted.
    pub refused: Option<&'static str>,
    pub runs: u64,
    pub steps: u64,
    /// Runs that were compared with machine code.
    pub compared: u64,
    pub failure: Option<Failure>,
}

/// Looks for failures.
pub fn search(plan: Plan) -> Tally {
    let mut random = Random::new(plan.seed);
    let (mut tally, mut seen, mut pool) = (Tally::default(), HashSet::new(), Vec::<Arc<Object>>::new());
    while tally.programs < plan.programs && tally.failures.len() < plan.failures {
        if plan.until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        let features = Features { helpers: !random.once_in(3), mistakes: if random.once_in(2) { 0 } else { 12 } };
        let object = match pool.len() {
            count if count > 16 && random.once_in(2) => {
                let at = random.below(count);
                mutate(&pool[at], &mut random)
            }
            _ => generate(random.word(), features),
        };
        tally.programs += 1;
        if !seen.insert(fingerprint(&object)) {
            continue;
        }
        let seed = random.word();
        let checked = check(&object, seed, plan.inputs);
        tally.note(&object, &checked);
        if checked.refused.is_none() {
            let at = random.below(POOL);
            if pool.len() < POOL { pool.push(object.clone()) } else { pool[at] = object.clone() }
        }
        if let Some(failure) = checked.failure {
            let (small, failure) =
                if plan.reduced { reduce::reduce(&object, seed, plan.inputs, failure) } else { (object, failure) };
            tally.failures.push(format!("{failure:?}\nseed {seed}\n{}", reduce::text(&small)));
        }
    }
    tally
}

impl Tally {
    fn note(&mut self, object: &Object, checked: &Checked) {
        match checked.refused {
            Some(id) => *self.refused.entry(id).or_default() += 1,
            None => {
                self.accepted += 1;
                self.rich += u64::from(is_rich(object));
            }
        }
        self.runs += checked.runs;
        self.steps += checked.steps;
        self.compared += checked.compared;
        self.compiled += u64::from(checked.compared > 0);
    }

    /// Adds what another search saw.
    pub fn add(&mut self, other: Tally) {
        self.programs += other.programs;
        self.accepted += other.accepted;
        self.rich += other.rich;
        self.runs += other.runs;
        self.steps += other.steps;
        self.compared += other.compared;
        self.compiled += other.compiled;
        for (id, count) in other.refused {
            *self.refused.entry(id).or_default() += count;
        }
        self.failures.extend(other.failures);
    }
}

fn fingerprint(object: &Object) -> u64 {
    let mut hasher = DefaultHasher::new();
    for insn in &object.programs[0].insns {
        insn.to_bytes().hash(&mut hasher);
    }
    hasher.finish()
}

/// It has a loop, a spill, a variable offset or a call.
fn is_rich(object: &Object) -> bool {
    let insns = &object.programs[0].insns;
    let is_spill = |insn: &crate::isa::Insn| insn.code == 0x7b && insn.dst == 10;
    let is_back = |op: Op| op.jump().is_some_and(|off| off < 0);
    insns.iter().enumerate().any(|(pc, insn)| {
        let op = Op::decode(insns, pc);
        is_spill(insn) || op.is_ok_and(|op| is_back(op) || matches!(op, Op::Local { .. } | Op::Helper { .. }))
    })
}

/// Verifies a program; if it is accepted, runs it on inputs that the seed gives.
pub fn check(object: &Arc<Object>, seed: u64, inputs: usize) -> Checked {
    let verified = std::panic::catch_unwind(|| contain::verify(object, 0, Hook::Load));
    let (result, beliefs) = match verified {
        Ok(verified) => verified,
        Err(panic) => {
            let what = panic.downcast_ref::<String>().cloned();
            let what = what.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default();
            return Checked { failure: Some(Failure::Panic(what)), ..Checked::default() };
        }
    };
    match result {
        Err(rejection) => Checked { refused: Some(id_of(&rejection)), ..Checked::default() },
        Ok(verified) => {
            let mut checked = run_all(&verified, &beliefs, seed, inputs);
            if checked.failure.is_none() && machine_code::is_deterministic(object) {
                (checked.compared, checked.failure) = machine_code::compare(object, seed, inputs);
            }
            checked
        }
    }
}

fn id_of(rejection: &Rejection) -> &'static str {
    rejection.id()
}

fn run_all(verified: &Verified, beliefs: &Beliefs, seed: u64, inputs: usize) -> Checked {
    let mut checked = Checked::default();
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
