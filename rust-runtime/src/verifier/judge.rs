//! Judges objects without a database: every program of a file, by its hook's rules or by the generic ones.

use std::{path::Path, sync::Arc, time::Instant};

use super::{Facts, Rejection, check, record::Recorder, rules, walk::Options};
use crate::object::{self, Object, ObjectError};

/// By which rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Those of the hook that a program's section names.
    Hooks,
    /// Those of a kernel for programs written elsewhere: any section, a context of plain bytes. It is only for judging.
    Generic,
}

/// What is said of one program.
#[derive(Debug)]
pub struct Verdict {
    pub section: String,
    pub function: String,
    pub result: Result<Accepted, Box<Rejection>>,
    /// Instructions visited.
    pub visited: u64,
    pub nanoseconds: u64,
    /// The annotated walk, if it was asked for.
    pub log: Option<String>,
}

/// What is known of an accepted program.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Instructions, helpers included, that one call can cost at most. None: by generic rules, as the kernel's, a callback
    /// counts once, however many rounds it has, and what helpers do does not count.
    pub worst_cost: Option<u64>,
    /// Bytes of stack, by function.
    pub stack: Vec<u32>,
    /// Slots of eight bytes, its functions included.
    pub slots: usize,
}

/// Reads a file and judges all its programs.
pub fn judge(path: &Path, profile: Profile, log: bool) -> Result<Vec<Verdict>, ObjectError> {
    judge_bytes(&object::read(path)?, profile, log)
}

/// Judges all programs of a file's bytes.
pub fn judge_bytes(bytes: &[u8], profile: Profile, log: bool) -> Result<Vec<Verdict>, ObjectError> {
    let object = match profile {
        Profile::Hooks => object::parse(bytes)?,
        Profile::Generic => object::parse_foreign(bytes)?.0,
    };
    let object = Arc::new(object);
    Ok((0..object.programs.len()).map(|index| judge_program(&object, index, profile, log)).collect())
}

/// What the generic rules say of an object's only program, for tests.
#[cfg(any(test, feature = "testing"))]
pub fn judge_generic(object: &Object) -> Result<(), Box<Rejection>> {
    judge_by(object, Options::default())
}

/// The same, with some rounds of each loop explored one by one.
#[cfg(test)]
pub fn judge_patiently(object: &Object) -> Result<(), Box<Rejection>> {
    judge_by(object, Options { patient: true, ..Options::default() })
}

#[cfg(any(test, feature = "testing"))]
fn judge_by(object: &Object, options: Options) -> Result<(), Box<Rejection>> {
    check(object, 0, &rules::generic("syscall"), options, &mut Recorder::default()).map(|_| ())
}

fn judge_program(object: &Object, index: usize, profile: Profile, log: bool) -> Verdict {
    let text = &object.programs[index];
    let rules = match profile {
        Profile::Hooks => rules::rules(text.hook),
        Profile::Generic => rules::generic(&text.section),
    };
    let mut recorder = if log { Recorder::logging() } else { Recorder::default() };
    let start = Instant::now();
    let result = check(object, index, &rules, Options::default(), &mut recorder);
    let nanoseconds = start.elapsed().as_nanos() as u64;
    let visited = match &result {
        Ok((_, facts)) => facts.visited,
        Err(rejection) => rejection.visited,
    };
    let result = result.map(|(_, Facts { worst_cost, stack, .. })| Accepted {
        worst_cost: (profile == Profile::Hooks).then_some(worst_cost),
        stack,
        slots: text.insns.len(),
    });
    let (section, function) = (text.section.clone(), text.symbol.clone());
    Verdict { section, function, result, visited, nanoseconds, log: recorder.log }
}
