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

/// Tries the fault of a number, with at most so many programs; None: there are no more.
pub fn attempt(number: usize, programs: u64) -> Option<Killed> {
    let bug = *Bug::ALL.get(number)?;
    Some(planted::with(bug, || try_one(bug, programs)))
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
