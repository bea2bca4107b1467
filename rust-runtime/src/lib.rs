//! Loads BPF objects, checks, compiles and attaches them to hookpoints. Knows nothing of SQL.
//!
//! ```text
//! file -object::parse-> Object -verifier::verify-> Verified -jit::compile-> Program -hooks::attach-> HookSet -> host
//! ```
//!
//! The types carry the proof: only the verifier makes a `Verified`, only that can be compiled, only a `Program` can be
//! attached. [`Runtime`] is the way in; `README.md` in this crate's folder says what is safe and what is not yet.

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(any(test, feature = "disasm"))]
mod disassemble;
mod error;
mod helpers;
mod hook;
mod hooks;
mod inspect;
mod isa;
mod jit;
mod maps;
mod object;
pub mod probes;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod verifier;
#[cfg(any(test, feature = "testing"))]
mod vm;

#[cfg(any(test, feature = "disasm"))]
pub use disassemble::disassemble;
pub use error::{Error, Problem};
pub use helpers::{ArgKind, Bytes, CallbackKind, Cost, HelperSpec, Hooks, RetKind, TABLE as HELPERS};
pub use hook::{Class, Hook};
pub use hooks::{
    Attached, ContextError, Counts, Degenerate, Gallery, Generation, Listing, MapHandle, MapInfo, Options, PointInfo,
    ProgramInfo, ProgramReport, Refusals, Report, RunReport, Runtime, Timings, is_gallery_name,
};
pub use jit::{Error as CompileError, Instruction};
pub use maps::{
    Error as MapError, Failure, UpdateFlags,
    outside::{Entry, Refusal},
    ring::Records,
    store::{BindError, DEFAULT_CEILING as DEFAULT_MAP_MEMORY},
};
pub use object::{
    Fault, MapDef, MapKind, Member, MemoryError, ObjectError, Parameter, ParameterError, SourceLine, Type,
};
pub use verifier::{
    Accepted, Branch, Field, HIGHEST_CEILING as DEFAULT_COST_CEILING, LoopCost, Place, Profile, Reason, Rejection,
    Verdict, fields as context_fields, judge,
};

#[cfg(any(test, feature = "disasm"))]
pub use hooks::{Trial, TrialContext};
pub use inspect::{Declared, DeclaredProgram, DeclaredVariable, inspect};
pub use jit::check_processor;
