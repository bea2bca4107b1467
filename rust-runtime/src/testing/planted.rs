//! Which planted fault falls to what: the table in the book.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use super::{
    asm::{Assembly, assemble},
    corpus::{Case, cases, verdict},
    fuzz::{Effort, Plan, search},
};
use crate::verifier::planted;
pub use crate::verifier::planted::Bug;

/// What fuzzing needed to notice a fault.
#[derive(Debug)]
pub struct Fuzzed {
    /// Programs that were tried until it failed; None: it did not in that time.
    pub programs: Option<u64>,
    pub took: Duration,
    /// How it failed.
    pub failure: Option<String>,
}

/// Fuzzes with a fault in place, for so long at most.
pub fn fuzz(bug: Bug, seed: u64, at_most: Duration) -> Fuzzed {
    let began = Instant::now();
    // As machine code what was wrongly accepted would do harm.
    let effort = Effort { inputs: 10, pairs: 0 };
    let until = Some(began + at_most);
    let plan = Plan { seed, programs: u64::MAX, effort, until, failures: 1, reduced: false };
    let tally = planted::with(bug, || search(plan));
    let programs = (!tally.failures.is_empty()).then_some(tally.programs);
    Fuzzed { programs, took: began.elapsed(), failure: tally.failures.into_iter().next() }
}

/// The corpus without the cases that are about the verifier's own limits: they take long.
static CASES: LazyLock<Vec<(Case, Assembly)>> = LazyLock::new(|| {
    let is_quick = |case: &Case| case.rejection.as_deref().is_none_or(|id| !id.starts_with("too-complex"));
    let assembled = |case: Case| {
        let assembly = assemble(&case.text).unwrap_or_else(|what| panic!("{}: {what}", case.name));
        (case, assembly)
    };
    cases().into_iter().filter(is_quick).map(assembled).collect()
});

/// The first case of the corpus whose verdict changes with a fault in place.
pub fn case(bug: Bug) -> Option<String> {
    let is_noticed = |(case, assembly): &&(Case, Assembly)| {
        // Debug builds notice some faults by an assertion: that does not count.
        let said = std::panic::catch_unwind(|| planted::with(bug, || verdict(assembly)));
        said.is_ok_and(|said| said != case.rejection.as_deref())
    };
    let (case, _) = CASES.iter().find(is_noticed)?;
    Some(format!("{}: {}", case.family, case.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_falls_to_a_case() {
        std::panic::set_hook(Box::new(|_| {}));
        let spared: Vec<Bug> = Bug::ALL.into_iter().filter(|&bug| case(bug).is_none()).collect();
        let _ = std::panic::take_hook();
        assert!(spared.is_empty(), "no case of the corpus notices {spared:?}");
    }

    /// The ones that nearly every program meets; `cargo xtask fuzz --planted` tries all.
    #[test]
    fn plain_faults_fall_to_fuzzing() {
        for bug in [Bug::TnumCarry, Bug::StaleOffset, Bug::SignExtension, Bug::CallerSaved] {
            let fuzzed = fuzz(bug, 1, Duration::from_secs(60));
            assert!(fuzzed.programs.is_some(), "{bug:?}: {fuzzed:?}");
        }
    }
}
