//! Loads BPF objects, checks, compiles and attaches them to hookpoints. Knows nothing of SQL.

mod error;
mod helpers;
mod hook;
mod hooks;
mod isa;
mod jit;
mod object;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod verifier;
#[cfg(test)]
mod vm;

pub use error::{Error, Problem};
pub use hook::{Class, Hook};
pub use hooks::{
    Attached, Generation, Options, PointInfo, ProgramInfo, ProgramReport, Refusals, Report, Runtime, Timings,
};
