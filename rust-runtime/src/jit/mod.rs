//! Machine code for x86-64, one template per instruction.
//!
//! clang has optimised the bytecode already; what is left to do is a fixed mapping of registers and short templates. The
//! mapping makes a program's arguments those of the SysV calling convention, so that a hookpoint calls a program like any C
//! function and a program calls helpers likewise:
//!
//! ```text
//! r0 rax   r1 rdi   r2 rsi   r3 rdx   r4 rcx   r5 r8     r6 rbx   r7 r13   r8 r14   r9 r15   r10 rbp
//! r11: scratch of the templates.   r9, r10, r12: the loop over keys (keys/)
//! ```
//!
//! Every function keeps the chain of rbp, with its stack below it, so that profilers can walk it and r10 is rbp itself.
//!
//! ```text
//! templates  one operation -> bytes
//! emit       functions as they stand: frames, jumps, calls, pairs of instructions that become one
//! keys/      a hash program's body inlined into loops over a vector of keys
//! memory     where code lies: never writable and executable at once
//! symbols    names for perf and gdb, on request
//! instructions  which machine code an instruction became
//! listing    bytecode and machine code side by side (feature `disasm`)
//! ```
//!
//! Elsewhere than on x86-64 nothing of this is compiled and programs cannot be attached; see the book, docs/src/jit.md.

#[expect(clippy::useless_conversion, reason = "dynasm! converts the register numbers that it is given")]
mod emit;
mod instructions;
mod keys;
#[cfg(any(test, feature = "disasm"))]
mod listing;
mod memory;
mod symbols;
#[expect(clippy::useless_conversion, reason = "dynasm! converts the register numbers that it is given")]
mod templates;
#[cfg(test)]
mod tests;

use std::{ffi::c_void, mem, sync::Arc};

use duckbpf_abi::duckbpf_hash_batch;

use crate::{
    helpers::Env,
    hook::Hook,
    maps::store::Bindings,
    object::{Memory, ProgramText},
    verifier::{Facts, Verified},
};
pub use instructions::{Instruction, instructions};
#[cfg(any(test, feature = "disasm"))]
pub use listing::listing;
use memory::Code;
use symbols::Announced;

/// Why there is no machine code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("this processor lacks {0}, which compiled programs use; duckbpf needs x86-64-v3 (2013 or later)")]
    Processor(&'static str),
    #[error(
        "the system refused memory for machine code ({step}: {source}); a sandbox that forbids memfd_create or executable mappings must allow them"
    )]
    Memory { step: &'static str, source: std::io::Error },
    #[error("the program's machine code cannot be assembled: {0}")]
    Assemble(String),
}

/// A checked, compiled program. Immutable; owns its code and shares its object's memory.
#[derive(Debug)]
pub struct Program {
    verified: Verified,
    /// Before the code: debuggers forget it first.
    _announced: Announced,
    code: Code,
    entry: usize,
    hash_batch: Option<usize>,
    tail_entry: usize,
    /// The code refers to them by address.
    bindings: Bindings,
    env: &'static Env,
}

/// A program's entry: takes its context, returns r0.
pub type Entry = unsafe extern "C" fn(*mut c_void) -> u64;
/// A hash program's loop over a vector of keys.
pub type HashBatch = unsafe extern "C" fn(*const duckbpf_hash_batch);

/// Compiles a verified program. The bindings are its object's.
pub fn compile(verified: Verified, bindings: impl Into<Bindings>, env: &'static Env) -> Result<Program, Error> {
    check_processor()?;
    let bindings = bindings.into();
    let assembled = emit::assemble(&verified, &bindings, env, false).map_err(Error::Assemble)?;
    let code = Code::new(&assembled.bytes)?;
    let announced = symbols::announce(&verified.text().symbol, code.address(), code.bytes().len());
    Ok(Program {
        verified,
        _announced: announced,
        code,
        entry: assembled.entry,
        hash_batch: assembled.hash_batch,
        tail_entry: assembled.tail_entry,
        bindings,
        env,
    })
}

/// Whether programs can run on this processor.
pub fn check_processor() -> Result<(), Error> {
    if is_x86_feature_detected!("bmi2") { Ok(()) } else { Err(Error::Processor("BMI2")) }
}

impl Program {
    pub fn entry(&self) -> Entry {
        // SAFETY: emit::assemble put a function of that signature there; the code lives as long as `self`.
        unsafe { mem::transmute::<usize, Entry>(self.code.address() + self.entry) }
    }

    /// Where tail calls of other programs lead: only compiled code calls this.
    pub fn tail_entry(&self) -> usize {
        self.code.address() + self.tail_entry
    }

    /// None: no hash program.
    pub fn hash_batch(&self) -> Option<HashBatch> {
        // SAFETY: as for entry().
        self.hash_batch.map(|offset| unsafe { mem::transmute::<usize, HashBatch>(self.code.address() + offset) })
    }

    pub fn text(&self) -> &ProgramText {
        self.verified.text()
    }

    pub fn facts(&self) -> &Facts {
        self.verified.facts()
    }

    pub fn hook(&self) -> Hook {
        self.verified.hook()
    }

    /// What the object said about its hash program; without a word, all types and not mixed.
    pub fn declared_hash(&self) -> (u64, bool) {
        let object = self.verified.object();
        let all = (1 << duckbpf_abi::DUCKBPF_TYPE_COUNT) - 1;
        (object.hash_types.unwrap_or(all) & all, object.hash_mixed.unwrap_or(0) != 0)
    }

    pub fn memory(&self) -> &Arc<Memory> {
        &self.bindings.memory
    }

    /// The same code, and which instruction became what.
    fn assemble_again(&self) -> Result<emit::Assembled, Error> {
        emit::assemble(&self.verified, &self.bindings, self.env, true).map_err(Error::Assemble)
    }

    pub fn code(&self) -> &[u8] {
        self.code.bytes()
    }
}
