//! Looking for programs that the verifier should not have accepted.
//!
//! ```text
//! generate   programs by seed     mutate   changes to accepted ones
//! search     verifies, runs what is accepted on many inputs, compares with what was believed and with machine code
//! raw        any bytes: as an object file, as a program
//! reduce     makes a failing program small
//! ```

mod generate;
mod machine_code;
mod mutate;
mod random;
mod raw;
mod reduce;
mod search;

pub use generate::{Features, Helpers, generate, object};
pub use mutate::mutate;
pub use random::Random;
pub use raw::{object_bytes, program_bytes};
pub use reduce::{smallest, text};
pub use search::{Checked, Effort, Failure, Plan, Search, Seen, Tally, bytes, check, search};

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    /// Long runs: `cargo xtask fuzz`. More with DUCKBPF_CASES=20000.
    #[test]
    fn accepted_programs_do_what_was_believed() {
        let cases = std::env::var("DUCKBPF_CASES").ok().and_then(|cases| cases.parse().ok());
        let until = cases.is_none().then(|| Instant::now() + Duration::from_secs(20));
        let effort = Effort { inputs: 4, pairs: 8 };
        let plan = Plan { seed: 7, programs: cases.unwrap_or(3000), effort, until, failures: 3, reduced: true };
        let tally = search(plan);
        assert!(tally.failures.is_empty(), "{}", tally.failures.join("\n\n"));
        assert!(tally.accepted * 4 > tally.programs, "{} of {}: {:?}", tally.accepted, tally.programs, tally.refused);
        assert!(tally.rich * 2 > tally.accepted, "{} of {}", tally.rich, tally.accepted);
    }
}
