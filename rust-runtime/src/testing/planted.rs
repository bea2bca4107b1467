//! Which planted fault falls to what: the table in the book.

use super::{
    asm::assemble,
    corpus::{cases, verdict},
    fuzz::{Plan, search},
};
use crate::verifier::planted::{self, Bug};

/// What noticed a fault.
#[derive(Debug)]
pub struct Killed {
    pub bug: Bug,
    /// Programs that fuzzing tried until it failed; None: it did not.
    pub programs: Option<u64>,
    /// The first case of the corpus whose verdict changes.
    pub case: Option<String>,
}

/// Tries every fault, each with at most so many programs.
pub fn try_all(programs: u64) -> impl Iterator<Item = Killed> {
    Bug::ALL.into_iter().map(move |bug| planted::with(bug, || try_one(bug, programs)))
}

fn try_one(bug: Bug, programs: u64) -> Killed {
    let tally = search(Plan { seed: 1, programs, inputs: 10, until: None, failures: 1, reduced: false });
    let case = cases().into_iter().find(|case| {
        let assembly = assemble(&case.text).unwrap_or_else(|what| panic!("{what}"));
        verdict(&assembly) != case.rejection.as_deref()
    });
    let programs = (!tally.failures.is_empty()).then_some(tally.programs);
    Killed { bug, programs, case: case.map(|case| format!("{}: {}", case.family, case.name)) }
}
