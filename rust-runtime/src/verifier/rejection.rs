//! Why a program was refused, in words that help its author.

use std::fmt;

use super::{Field, MAX_FRAMES};
use crate::{
    hook::Hook,
    isa::DecodeError,
    object::{ProgramText, SourceLine},
};

/// A refused program.
#[derive(Clone, Debug)]
pub struct Rejection {
    pub hook: Hook,
    pub program: String,
    pub function: String,
    /// Slot within the function.
    pub instruction: usize,
    pub disassembly: Option<String>,
    pub line: Option<SourceLine>,
    pub reason: Reason,
}

impl std::error::Error for Rejection {}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rejection { hook, program, function, instruction, reason, .. } = self;
        write!(
            f,
            "program {program} (hook {hook}) is refused: {reason}\n  in {function}(), instruction {instruction}"
        )?;
        if let Some(disassembly) = &self.disassembly {
            write!(f, ": {disassembly}")?;
        }
        if let Some(line) = &self.line {
            write!(f, "\n  from {line}")?;
        }
        match reason.hint() {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Where in the program, and why: what the passes return.
#[derive(Debug)]
pub struct Stop {
    pub pc: usize,
    pub reason: Reason,
}

impl Stop {
    pub fn into_rejection(self, program: &ProgramText, hook: Hook, disassembly: Option<String>) -> Rejection {
        let function = program.function_at(self.pc).map(|index| &program.functions[index]);
        Rejection {
            hook,
            program: program.symbol.clone(),
            function: function.map_or_else(|| program.symbol.clone(), |function| function.name.clone()),
            instruction: self.pc - function.map_or(0, |function| function.start),
            disassembly,
            line: program.source_line(self.pc),
            reason: self.reason,
        }
    }
}

/// What is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    #[error("it is empty")]
    Empty,
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("a jump leads outside of the function")]
    JumpOutside,
    #[error("a jump leads into the middle of a 64-bit constant")]
    JumpIntoConstant,
    #[error("the function can end without exit")]
    FallsOff,
    #[error("it can never be reached")]
    Unreachable,
    #[error("it closes a loop, and loops are not accepted yet")]
    Loop,
    #[error("the call leads to no function")]
    CallTarget,
    #[error("the function calls itself")]
    Recursion,
    #[error("calls nest more than {MAX_FRAMES} functions deep")]
    TooDeep,
    #[error("checking it takes more than {0} steps")]
    TooComplex(u64),
    #[error("a call may cost {cost} instructions; the ceiling of this hook is {ceiling}")]
    TooCostly { cost: u64, ceiling: u64 },
    #[error("r{0} may not have been set")]
    Uninitialised(u8),
    #[error("maps, callbacks and helpers with arguments are not accepted yet")]
    NotYet,
    #[error("there is no helper {0}")]
    UnknownHelper(u32),
    #[error("the helper {0} may not be called from this hook")]
    ForbiddenHelper(&'static str),
    #[error("r{0} is a number, not a pointer")]
    NotAPointer(u8),
    #[error("{size} bytes at offset {offset} are not a field of struct {context}; the nearest is {nearest}")]
    ContextField { context: &'static str, offset: i64, size: u32, nearest: &'static Field },
    #[error("the context is read-only")]
    ContextWrite,
    #[error("{size} bytes at r10{offset:+} are outside of the stack of 512 bytes")]
    StackBounds { offset: i64, size: u32 },
    #[error("the stack at r10{offset:+} may not have been written")]
    StackUninitialised { offset: i64 },
    #[error("the stack at r10{offset:+} holds a part of a pointer")]
    StackPointerPart { offset: i64 },
    #[error("{size} bytes at offset {offset} are outside of {region}, which has {bytes} bytes")]
    RegionBounds { region: String, offset: i64, size: u32, bytes: u64 },
    #[error("{0} is read-only")]
    RegionReadOnly(String),
    #[error("{0} can change, and the result of this hook must depend on the context alone")]
    Impure(String),
    #[error("the address is not a multiple of {0}")]
    Misaligned(u32),
    #[error("r{0} is a pointer: its value would leave the program")]
    PointerLeak(u8),
    #[error("a pointer to a function's stack would outlive the function")]
    StackEscape,
    #[error("only constants known here can be added to a pointer or taken from it")]
    PointerArithmetic,
    #[error("pointers can only be compared with 0")]
    PointerComparison,
}

impl Reason {
    /// What to try, where there is something to try.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Reason::Loop => "unroll it: #pragma clang loop unroll(full), with a bound that is a constant",
            Reason::FallsOff => "every way through a function must end with return",
            Reason::TooCostly { .. } => "do less in one call, or leave out helpers",
            Reason::Uninitialised(_) => "set the variable on every way that leads here",
            Reason::UnknownHelper(_) => "the helpers are declared in duckbpf.h",
            Reason::ForbiddenHelper(_) => "duckbpf.h says which hooks may call which helper",
            Reason::NotAPointer(_) => {
                "pointers that were stored in global variables come back as numbers; use the variable itself"
            }
            Reason::ContextField { .. } => "the fields are in duckbpf/hooks.h; reserved ones cannot be read",
            Reason::ContextWrite => "return a decision instead",
            Reason::StackUninitialised { .. } => "initialise the variable, padding included: struct s s = {}",
            Reason::RegionReadOnly(_) => "a variable that is written must not be const",
            Reason::Impure(_) => "make the variable const volatile",
            Reason::PointerLeak(_) => "return or store a number, not an address",
            Reason::PointerArithmetic => "use fixed indices; variable offsets are not accepted yet",
            _ => return None,
        })
    }
}
