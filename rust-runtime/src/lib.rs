//! Loads BPF objects, checks, compiles and attaches them to hookpoints. Knows nothing of SQL.

mod error;
mod hook;
mod hooks;

pub use error::{Error, Problem};
pub use hook::{Class, Hook};
pub use hooks::{
    Attached, Generation, Options, PointInfo, ProgramInfo, ProgramReport, Refusals, Report, Runtime, Timings,
};
