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
//! assembler  the bytes, labels and jumps that they write
//! emit       functions as they stand: frames, jumps, calls, pairs of instructions that become one
//! keys/      a hash program's body inlined into loops over a vector of keys
//! memory     where code lies: never writable and executable at once
//! symbols    names for perf and gdb, on request
//! machine    the above, as a program has it
//! interpret  what runs a program instead where the processor is another
//! instructions  which machine code an instruction became
//! listing    bytecode and machine code side by side (feature `disasm`)
//! ```

#[cfg(target_arch = "x86_64")]
mod assembler;
#[cfg(target_arch = "x86_64")]
#[expect(clippy::useless_conversion, reason = "dynasm! converts the register numbers that it is given")]
mod emit;
mod instructions;
#[cfg(any(not(target_arch = "x86_64"), feature = "interpreter"))]
mod interpret;
#[cfg(target_arch = "x86_64")]
mod keys;
#[cfg(all(target_arch = "x86_64", any(test, feature = "disasm")))]
mod listing;
#[cfg(target_arch = "x86_64")]
#[cfg_attr(feature = "interpreted", allow(dead_code, reason = "no program is compiled"))]
mod machine;
#[cfg(target_arch = "x86_64")]
#[cfg_attr(feature = "interpreted", allow(dead_code, reason = "no program is compiled"))]
mod memory;
#[cfg(target_arch = "x86_64")]
#[cfg_attr(feature = "interpreted", allow(dead_code, reason = "no program is compiled"))]
mod symbols;
#[cfg(target_arch = "x86_64")]
#[expect(clippy::useless_conversion, reason = "dynasm! converts the register numbers that it is given")]
mod templates;
#[cfg(all(test, target_arch = "x86_64", not(feature = "interpreted")))]
mod tests;

use std::{
    ffi::c_void,
    mem,
    sync::{Arc, atomic::Ordering},
};

use duckbpf_abi::duckbpf_hash_batch;

use crate::{
    helpers::Env,
    hook::Hook,
    maps::{Body, Map, store::Bindings},
    object::{Memory, ProgramText},
    verifier::{Facts, Verified},
};
#[cfg(all(not(target_arch = "x86_64"), any(test, feature = "disasm")))]
pub use instructions::listing;
pub use instructions::{Instruction, instructions};
#[cfg(all(target_arch = "x86_64", any(test, feature = "disasm")))]
pub use listing::listing;

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
    #[cfg(any(not(target_arch = "x86_64"), feature = "interpreter"))]
    #[error("{0} programs exist, and no more can be interpreted at a time; detach some")]
    Places(usize),
}

/// A checked, compiled program. Immutable; owns its code and shares its object's memory.
#[derive(Debug)]
pub struct Program {
    verified: Verified,
    engine: Engine,
    /// The code refers to them by address.
    bindings: Bindings,
    #[cfg(target_arch = "x86_64")]
    env: &'static Env,
}

/// What runs a program.
#[derive(Debug)]
enum Engine {
    #[cfg(target_arch = "x86_64")]
    #[cfg_attr(feature = "interpreted", allow(dead_code, reason = "no program is compiled"))]
    Machine(machine::Machine),
    #[cfg(any(not(target_arch = "x86_64"), feature = "interpreter"))]
    Interpreted(interpret::Interpreted),
}

/// Where whoever runs a program calls, for as long as it exists.
trait Runs {
    /// An [`Entry`].
    fn entry(&self) -> usize;
    /// What arrays of programs hold, for tail calls of the same engine.
    fn tail_entry(&self) -> usize;
    /// A [`HashBatch`].
    fn hash_batch(&self) -> Option<usize>;
    fn strings(&self) -> Strings;
    /// Machine code; empty: there is none.
    fn code(&self) -> &[u8];
}

impl Engine {
    fn runs(&self) -> &dyn Runs {
        match self {
            #[cfg(target_arch = "x86_64")]
            Engine::Machine(machine) => machine,
            #[cfg(any(not(target_arch = "x86_64"), feature = "interpreter"))]
            Engine::Interpreted(interpreted) => interpreted,
        }
    }
}

/// How a hash program's loops take strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "what is interpreted takes contexts"))]
pub enum Strings {
    /// As contexts.
    Contexts,
    /// As DUCKBPF_KEYS_WHOLE too.
    Wholes,
    /// The same, and what comes out is what went in.
    AsHost,
}

/// A program's entry: takes its context, returns r0.
pub type Entry = unsafe extern "C" fn(*mut c_void) -> u64;
/// A hash program's loop over a vector of keys.
pub type HashBatch = unsafe extern "C" fn(*const duckbpf_hash_batch);

/// Compiles a verified program. The bindings are its object's.
#[cfg(all(target_arch = "x86_64", not(feature = "interpreted")))]
pub fn compile(verified: Verified, bindings: impl Into<Bindings>, env: &'static Env) -> Result<Program, Error> {
    let bindings = bindings.into();
    let engine = Engine::Machine(machine::Machine::new(&verified, &bindings, env)?);
    Ok(Program { verified, engine, bindings, env })
}

/// Makes a verified program ready to be interpreted: there is no code generator for this processor.
#[cfg(not(all(target_arch = "x86_64", not(feature = "interpreted"))))]
pub fn compile(verified: Verified, bindings: impl Into<Bindings>, env: &'static Env) -> Result<Program, Error> {
    static SAID: std::sync::Once = std::sync::Once::new();
    SAID.call_once(|| {
        let processor = std::env::consts::ARCH;
        eprintln!("duckbpf: there is no code generator for {processor}; programs are interpreted, which takes longer");
    });
    interpret(verified, bindings, env)
}

/// Makes a verified program ready to be interpreted.
#[cfg(any(not(target_arch = "x86_64"), feature = "interpreter"))]
pub fn interpret(verified: Verified, bindings: impl Into<Bindings>, env: &'static Env) -> Result<Program, Error> {
    let bindings = bindings.into();
    let engine = Engine::Interpreted(interpret::Interpreted::new(&verified, &bindings, env)?);
    Ok(Program {
        verified,
        engine,
        bindings,
        #[cfg(target_arch = "x86_64")]
        env,
    })
}

/// Whether programs can run on this processor.
pub fn check_processor() -> Result<(), Error> {
    #[cfg(target_arch = "x86_64")]
    require("BMI2", is_x86_feature_detected!("bmi2"))?;
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn require(feature: &'static str, is_there: bool) -> Result<(), Error> {
    if is_there { Ok(()) } else { Err(Error::Processor(feature)) }
}

/// As in Linux.
const MAX_TAIL_CALLS: u32 = 33;
const TAIL_CALL: u32 = 12;

/// Where a tail call leads: what [`Program::tail_entry`] gave. 0: there is no program.
extern "C" fn tail_target(map: u64, index: u64) -> u64 {
    // SAFETY: the verifier proved that it is a map of the program's object, which holds it.
    let map = unsafe { &*(map as *const Map) };
    let Body::Programs(programs) = map.body() else { return 0 };
    let slot = usize::try_from(index).ok().and_then(|index| programs.slots().get(index));
    // Acquire: the code was written before its address.
    slot.map_or(0, |slot| slot.load(Ordering::Acquire) as u64)
}

impl Program {
    pub fn entry(&self) -> Entry {
        // SAFETY: the engine says that a function of that signature is there, for as long as `self` lives.
        unsafe { mem::transmute::<usize, Entry>(self.engine.runs().entry()) }
    }

    /// Where tail calls of other programs lead: only their engine uses this.
    pub fn tail_entry(&self) -> usize {
        self.engine.runs().tail_entry()
    }

    /// None: no hash program.
    pub fn hash_batch(&self) -> Option<HashBatch> {
        // SAFETY: as for entry().
        self.engine.runs().hash_batch().map(|address| unsafe { mem::transmute::<usize, HashBatch>(address) })
    }

    /// How its loops take strings.
    pub fn strings(&self) -> Strings {
        self.engine.runs().strings()
    }

    pub fn text(&self) -> &ProgramText {
        self.verified.text()
    }

    /// What its code refers to.
    pub fn bindings(&self) -> &Bindings {
        &self.bindings
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
    #[cfg(target_arch = "x86_64")]
    fn assemble_again(&self) -> Result<emit::Assembled, Error> {
        emit::assemble(&self.verified, &self.bindings, self.env, true).map_err(Error::Assemble)
    }

    pub fn code(&self) -> &[u8] {
        self.engine.runs().code()
    }
}
