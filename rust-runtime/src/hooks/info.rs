//! What the runtime tells about hooks and programs: plain values, ready for tables.

use std::{path::PathBuf, time::SystemTime};

use duckbpf_abi::duckbpf_hook_counters;

use crate::hook::{Class, Hook};

/// Counts the sets that were published; 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// How to attach.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Detach whatever holds a hook that the object needs, or has its name, instead of failing.
    pub replace: bool,
}

/// What an attach did.
#[derive(Clone, Debug)]
pub struct Attached {
    pub generation: Generation,
    /// The program's name: the file's stem without `.bpf.o`.
    pub name: String,
    pub hooks: Vec<Hook>,
    /// Objects that `replace` detached for it.
    pub displaced: Vec<String>,
}

/// Decisions that the engine did not follow, by reason (enum duckbpf_refusal in hooks.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals(pub [u64; duckbpf_abi::DUCKBPF_REFUSAL_COUNT as usize]);

/// What programs did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls; hash: vectors.
    pub calls: u64,
    /// Decisions that were followed.
    pub applied: u64,
    pub refused: Refusals,
    /// Hash: keys.
    pub keys: u64,
    /// Calls that were timed, and their time; both stand still unless sampling is on.
    pub timed_calls: u64,
    pub timed_ns: u64,
}

impl Counts {
    /// What came since.
    pub fn since(self, then: Counts) -> Counts {
        let mut refused = self.refused;
        for (now, then) in refused.0.iter_mut().zip(then.refused.0) {
            *now = now.saturating_sub(then);
        }
        Counts {
            calls: self.calls.saturating_sub(then.calls),
            applied: self.applied.saturating_sub(then.applied),
            refused,
            keys: self.keys.saturating_sub(then.keys),
            timed_calls: self.timed_calls.saturating_sub(then.timed_calls),
            timed_ns: self.timed_ns.saturating_sub(then.timed_ns),
        }
    }

    /// What all calls took, in nanoseconds, judged by those that were timed; 0 without any.
    pub fn run_time_ns(&self) -> u64 {
        let estimate = u128::from(self.timed_ns) * u128::from(self.calls) / u128::from(self.timed_calls.max(1));
        u64::try_from(estimate).unwrap_or(u64::MAX)
    }
}

impl From<duckbpf_hook_counters> for Counts {
    fn from(counters: duckbpf_hook_counters) -> Self {
        let duckbpf_hook_counters { calls, applied, refused, keys, timed_calls, timed_ns } = counters;
        Counts { calls, applied, refused: Refusals(refused), keys, timed_calls, timed_ns }
    }
}

impl Refusals {
    /// The reasons' names, in the order of the counts.
    pub const NAMES: [&'static str; duckbpf_abi::DUCKBPF_REFUSAL_COUNT as usize] = [
        "unknown_bits",
        "out_of_range",
        "clamped",
        "wrong_site",
        "pinned",
        "not_reloadable",
        "pool",
        "helper_failed",
        "bound",
    ];

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Self::NAMES.into_iter().zip(self.0)
    }
}

/// A hook and what it did since the process began, whatever was attached.
#[derive(Clone, Debug)]
pub struct PointInfo {
    pub hook: Hook,
    pub class: Class,
    /// Name of the object whose program is attached here.
    pub program: Option<String>,
    /// The generation in which that program was attached; 0 without one.
    pub generation: Generation,
    pub counts: Counts,
}

/// Nanoseconds that each phase of a load took. Read and parse are the whole object's, the others one program's,
/// publish the whole set's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    pub read_ns: u64,
    pub parse_ns: u64,
    pub check_ns: u64,
    pub compile_ns: u64,
    /// Hash: the test of quality. 0 when the same bytecode was tested before.
    pub quality_ns: u64,
    /// Until the new set is in force. What then waits until no thread is inside the old one, and frees it, is not in here. 0
    /// until it is published.
    pub publish_ns: u64,
}

/// An attached program. Counts begin with the publication of the program.
#[derive(Clone, Debug)]
pub struct ProgramInfo {
    /// Its number in the process.
    pub id: u64,
    /// The object's name: the file's stem without `.bpf.o`.
    pub name: String,
    pub path: PathBuf,
    /// The program's function in the object.
    pub symbol: String,
    /// First 16 hexadecimal digits of the SHA-256 of its bytecode and constants.
    pub tag: String,
    pub hook: Hook,
    /// The generation in which it was attached.
    pub generation: Generation,
    pub loaded_at: SystemTime,
    /// Instructions; those with 64-bit constants count twice.
    pub instructions: usize,
    pub counts: Counts,
    pub bytecode_bytes: usize,
    pub jit_bytes: usize,
    /// Of global variables, which the object's programs share.
    pub memory_bytes: usize,
    /// Hash: the host's mixer is left out, for the program's output passed the test without it.
    pub mixed: bool,
    /// The most instructions that one call can execute.
    pub worst_cost: u64,
    pub timings: Timings,
}

/// The outcome of `verify`: nothing is attached by it.
#[derive(Clone, Debug)]
pub struct Report {
    pub name: String,
    pub path: PathBuf,
    pub license: Option<String>,
    pub programs: Vec<ProgramReport>,
}

/// One program of a verified object.
#[derive(Clone, Debug)]
pub struct ProgramReport {
    pub symbol: String,
    pub section: String,
    pub hook: Hook,
    /// `SEC("?duckdb/...")`: not attached unless asked for.
    pub optional: bool,
    pub tag: String,
    pub instructions: usize,
    pub worst_cost: u64,
    pub bytecode_bytes: usize,
    pub jit_bytes: usize,
    /// Of global variables, which the object's programs share.
    pub memory_bytes: usize,
    /// Hash: the host's mixer would be left out.
    pub mixed: bool,
    pub timings: Timings,
}
