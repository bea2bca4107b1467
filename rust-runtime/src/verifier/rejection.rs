//! Why a program was refused, in words that help its author.

use std::fmt;

use super::{Field, MAX_FRAMES, STACK, walk::MAX_LOOPS};
use crate::{
    isa::DecodeError,
    object::{ProgramText, SourceLine},
};

/// A refused program.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// The hook, or the profile.
    pub hook: &'static str,
    pub program: String,
    pub function: String,
    /// Slot within the function.
    pub instruction: usize,
    pub disassembly: Option<String>,
    pub line: Option<SourceLine>,
    pub reason: Reason,
    /// How the register at fault came to its value, the last step first.
    pub origins: Vec<Place>,
    /// Branches on the way, the last first.
    pub branches: Vec<Branch>,
    /// The calls that are active, the innermost first.
    pub calls: Vec<Place>,
    /// Instructions visited.
    pub visited: u64,
}

/// An instruction on the way, and what is to be said of it.
#[derive(Clone, Debug)]
pub struct Place {
    pub function: String,
    pub instruction: usize,
    pub text: String,
    pub line: Option<SourceLine>,
}

/// A branch on the way.
#[derive(Clone, Debug)]
pub struct Branch {
    pub place: Place,
    pub taken: bool,
}

impl std::error::Error for Rejection {}

/// Steps that the short form of a message shows.
const SHOWN: usize = 3;

impl Rejection {
    /// The stable id of the error, as in the book.
    pub fn id(&self) -> &'static str {
        self.reason.id()
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rejection { hook, program, function, instruction, reason, .. } = self;
        write!(f, "program {program} (hook {hook}) is refused: {reason} [{}]", reason.id())?;
        if let Some((required, proved)) = self.reason.required() {
            write!(f, "\n  required: {required}; proved: {proved}")?;
        }
        write!(f, "\n  in {function}(), instruction {instruction}")?;
        if let Some(disassembly) = &self.disassembly {
            write!(f, ": {disassembly}")?;
        }
        if let Some(line) = &self.line {
            write!(f, "\n  from {line}")?;
        }
        for call in &self.calls {
            write!(f, "\n  called in {}", call)?;
        }
        // `{:#}` tells all.
        let shown = if f.alternate() { usize::MAX } else { SHOWN };
        for origin in self.origins.iter().take(shown) {
            write!(f, "\n  value set in {origin}")?;
        }
        for branch in self.branches.iter().take(shown) {
            let way = if branch.taken { "taken" } else { "not taken" };
            write!(f, "\n  branch {way} in {}", branch.place)?;
        }
        match reason.hint() {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(), instruction {}: {}", self.function, self.instruction, self.text)?;
        match &self.line {
            Some(line) => write!(f, " ({line})"),
            None => Ok(()),
        }
    }
}

impl Place {
    pub fn new(program: &ProgramText, pc: usize, text: String) -> Place {
        let function = program.function_at(pc).map(|index| &program.functions[index]);
        Place {
            function: function.map_or_else(|| program.symbol.clone(), |function| function.name.clone()),
            instruction: pc - function.map_or(0, |function| function.start),
            text,
            line: program.source_line(pc),
        }
    }
}

/// Where in the program, and why: what the passes return.
#[derive(Debug)]
pub struct Stop {
    pub pc: usize,
    pub reason: Box<Reason>,
}

impl Stop {
    pub fn new(pc: usize, reason: Reason) -> Stop {
        Stop { pc, reason: Box::new(reason) }
    }

    /// The walk took too much, whatever the program does.
    pub fn is_too_complex(&self) -> bool {
        matches!(*self.reason, Reason::TooComplex(_) | Reason::TooMuchMemory(_))
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
    #[error("the call leads to no function")]
    CallTarget,
    #[error("the function calls itself")]
    Recursion,
    #[error("calls nest more than {MAX_FRAMES} functions deep")]
    TooDeep,
    #[error("checking it takes more than {0} steps")]
    TooComplex(u64),
    #[error("checking it takes more than {0} bytes of memory")]
    TooMuchMemory(usize),
    #[error("the loop never ends: it comes back here and nothing has changed")]
    InfiniteLoop,
    #[error("loops nest more than {MAX_LOOPS} deep")]
    LoopDepth,
    #[error("a call may cost {cost} instructions; the ceiling is {ceiling}{}", costliest_text(.costliest))]
    TooCostly { cost: u64, ceiling: u64, costliest: Option<Box<LoopCost>> },
    #[error("r{0} may not have been set")]
    Uninitialised(u8),
    #[error("there is no helper {0}")]
    UnknownHelper(u32),
    #[error("it refers to map or section {0}, which the object does not have")]
    UnknownMap(u32),
    #[error("the helper {0} may not be called from this hook")]
    ForbiddenHelper(&'static str),
    #[error("r{0} is a number, not a pointer")]
    NotAPointer(u8),
    #[error("r{reg} is {what}, which cannot be read or written")]
    NotMemory { reg: u8, what: &'static str },
    #[error("r{0} may be null")]
    MaybeNull(u8),
    #[error("{size} bytes at offset {offset} are not a field of {context}{}", nearest_text(.nearest))]
    ContextField { context: &'static str, offset: i64, size: u32, nearest: Option<&'static Field> },
    #[error("the offset into the context is not a constant: it is {0}")]
    ContextOffset(String),
    #[error("the context is read-only here")]
    ContextWrite,
    #[error("{size} bytes at {offset} from r10 are outside of the stack of {STACK} bytes")]
    StackBounds { offset: String, size: i64 },
    #[error("the stack at r10{offset:+} may not have been written")]
    StackUninitialised { offset: i64 },
    #[error("the stack at r10{offset:+} holds a part of a pointer")]
    StackPointerPart { offset: i64 },
    #[error("a part of the pointer on the stack at r10{offset:+} would be overwritten")]
    StackPointerCorrupted { offset: i64 },
    #[error("{size} bytes at {offset} are outside of {memory}, which has {bytes} bytes")]
    OutOfBounds { memory: String, offset: String, size: i64, bytes: u64 },
    #[error("{size} bytes at {offset} may lie behind the end of the buffer: {room} bytes are proved to be before it")]
    BehindEnd { offset: String, size: i64, room: i64 },
    #[error("{0} is read-only")]
    ReadOnly(String),
    #[error("{0} may be written, not read")]
    WriteOnly(String),
    #[error("functions that call each other use {bytes} bytes of stack together; {limit} are allowed")]
    CombinedStack { bytes: u32, limit: u32 },
    #[error("{0} can change, and the result of this hook must depend on the context alone")]
    Impure(String),
    #[error("the address is not a multiple of {0}")]
    Misaligned(u32),
    #[error("r{0} is a pointer: its value would leave the program")]
    PointerLeak(u8),
    #[error("a pointer to a function's stack would outlive the function")]
    StackEscape,
    #[error("{0} on a pointer gives no pointer")]
    PointerArithmetic(&'static str),
    #[error("the offset of a pointer could become {0}, which is outside of all bounds")]
    PointerOffset(String),
    #[error("pointers can only be compared with 0, or with others into the same memory")]
    PointerComparison,
    #[error("argument {place} of {helper} must be {expected}; r{place} is {found}")]
    Argument { helper: &'static str, place: u8, expected: String, found: String },
    #[error("the size that {helper} is given (r{place}) may be {found}; it must be {expected}")]
    ArgumentSize { helper: &'static str, place: u8, expected: String, found: String },
    #[error("{helper} does not work on a map of kind {kind}")]
    MapKind { helper: &'static str, kind: String },
    #[error("the {what} acquired at instruction {acquired} is not released on this way")]
    Unreleased { what: &'static str, acquired: usize },
    #[error("a record that is not held cannot be released")]
    NotHeld,
    #[error("a callback must return 0 or 1; it may return {0}")]
    CallbackResult(String),
    #[error("a callback cannot make a tail call")]
    TailCallInCallback,
    #[error("what the callback changes does not settle: {0}")]
    CallbackUnsettled(String),
    #[error("the result may be {found}; this hook takes {low} to {high}")]
    ReturnRange { found: String, low: u64, high: u64 },
}

/// A loop and what it costs in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoopCost {
    pub function: String,
    /// Slot of its head within the function.
    pub instruction: usize,
    pub line: Option<SourceLine>,
    pub cost: u64,
}

impl fmt::Display for LoopCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LoopCost { function, instruction, line, cost } = self;
        write!(f, "the loop at instruction {instruction} of {function}()")?;
        if let Some(line) = line {
            write!(f, " ({line})")?;
        }
        write!(f, " costs up to {cost}")
    }
}

fn costliest_text(costliest: &Option<Box<LoopCost>>) -> String {
    costliest.as_ref().map_or_else(String::new, |costliest| format!("; {costliest}"))
}

fn nearest_text(nearest: &Option<&'static Field>) -> String {
    nearest.map_or_else(String::new, |field| format!("; the nearest is {field}"))
}

impl Reason {
    /// Stable: the book explains each.
    pub fn id(&self) -> &'static str {
        match self {
            Reason::Empty => "empty-program",
            Reason::Decode(_) => "bad-instruction",
            Reason::JumpOutside => "jump-outside",
            Reason::JumpIntoConstant => "jump-into-constant",
            Reason::FallsOff => "no-exit",
            Reason::Unreachable => "unreachable-code",
            Reason::CallTarget => "call-target",
            Reason::Recursion => "recursion",
            Reason::TooDeep => "call-depth",
            Reason::TooComplex(_) => "too-complex",
            Reason::TooMuchMemory(_) => "too-complex-memory",
            Reason::InfiniteLoop => "infinite-loop",
            Reason::LoopDepth => "loop-depth",
            Reason::TooCostly { .. } => "too-costly",
            Reason::Uninitialised(_) => "uninitialised-register",
            Reason::UnknownHelper(_) => "unknown-helper",
            Reason::UnknownMap(_) => "unknown-map",
            Reason::ForbiddenHelper(_) => "forbidden-helper",
            Reason::NotAPointer(_) => "not-a-pointer",
            Reason::NotMemory { .. } => "not-memory",
            Reason::MaybeNull(_) => "maybe-null",
            Reason::ContextField { .. } => "context-field",
            Reason::ContextOffset(_) => "context-offset",
            Reason::ContextWrite => "context-write",
            Reason::StackBounds { .. } => "stack-bounds",
            Reason::StackUninitialised { .. } => "stack-uninitialised",
            Reason::StackPointerPart { .. } => "stack-pointer-part",
            Reason::StackPointerCorrupted { .. } => "stack-pointer-corrupted",
            Reason::OutOfBounds { .. } => "out-of-bounds",
            Reason::BehindEnd { .. } => "behind-end",
            Reason::ReadOnly(_) => "read-only",
            Reason::WriteOnly(_) => "write-only",
            Reason::CombinedStack { .. } => "combined-stack",
            Reason::Impure(_) => "impure",
            Reason::Misaligned(_) => "misaligned",
            Reason::PointerLeak(_) => "pointer-leak",
            Reason::StackEscape => "stack-escape",
            Reason::PointerArithmetic(_) => "pointer-arithmetic",
            Reason::PointerOffset(_) => "pointer-offset",
            Reason::PointerComparison => "pointer-comparison",
            Reason::Argument { .. } => "helper-argument",
            Reason::ArgumentSize { .. } => "helper-size",
            Reason::MapKind { .. } => "map-kind",
            Reason::Unreleased { .. } => "unreleased",
            Reason::NotHeld => "not-held",
            Reason::CallbackResult(_) => "callback-result",
            Reason::TailCallInCallback => "tail-call-in-callback",
            Reason::CallbackUnsettled(_) => "callback-unsettled",
            Reason::ReturnRange { .. } => "return-range",
        }
    }

    /// What must hold for this to be allowed, and what is known instead, where both can be put into numbers.
    pub fn required(&self) -> Option<(String, String)> {
        let most = i64::from(STACK);
        Some(match self {
            Reason::OutOfBounds { offset, size, bytes, .. } if *size <= *bytes as i64 => {
                (format!("offset from 0 to {}", *bytes as i64 - size), offset.clone())
            }
            Reason::StackBounds { offset, size } if *size <= most => {
                (format!("offset from -{most} to -{size}"), offset.clone())
            }
            Reason::BehindEnd { offset, size, room } => {
                (format!("{size} bytes from {offset} on before the end"), format!("{room}"))
            }
            Reason::MaybeNull(_) => ("a pointer that is not null".into(), "a pointer, or null".into()),
            Reason::PointerOffset(found) => ("from -2^29 to 2^29".into(), found.clone()),
            Reason::ReturnRange { found, low, high } => (format!("from {low} to {high}"), found.clone()),
            Reason::CallbackResult(found) => ("0 or 1".into(), found.clone()),
            Reason::Misaligned(bytes) => (format!("a multiple of {bytes}"), "any address".into()),
            Reason::TooCostly { cost, ceiling, .. } => (format!("at most {ceiling}"), format!("{cost}")),
            _ => return None,
        })
    }

    /// The register at fault, where there is one: its history is told.
    pub fn register(&self) -> Option<u8> {
        match self {
            Reason::Uninitialised(reg)
            | Reason::NotAPointer(reg)
            | Reason::MaybeNull(reg)
            | Reason::PointerLeak(reg)
            | Reason::NotMemory { reg, .. }
            | Reason::Argument { place: reg, .. }
            | Reason::ArgumentSize { place: reg, .. } => Some(*reg),
            _ => None,
        }
    }

    /// What to try, where there is something to try.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Reason::FallsOff => "every way through a function must end with return",
            Reason::InfiniteLoop => "count the rounds, and leave the loop after a number that is a constant",
            Reason::TooComplex(_) | Reason::TooMuchMemory(_) => {
                "bound the loop by a constant and let its counter move by a constant, or use bpf_loop()"
            }
            Reason::TooCostly { .. } => "do less in one call: fewer rounds, or fewer helpers in them",
            Reason::Uninitialised(_) => "set the variable on every way that leads here; calls clobber r1 to r5",
            Reason::UnknownHelper(_) => "the helpers are declared in duckbpf.h",
            Reason::ForbiddenHelper(_) => "duckbpf.h says which hooks may call which helper",
            Reason::NotAPointer(_) => {
                "pointers that were stored in global variables or maps come back as numbers; keep them in local variables"
            }
            Reason::MaybeNull(_) => "compare it with NULL first, and use it only where it is not",
            Reason::ContextField { .. } => "the fields are in duckbpf/hooks.h; reserved ones cannot be read",
            Reason::ContextWrite => "return a decision instead",
            Reason::StackUninitialised { .. } => "initialise the variable, padding included: struct s s = {}",
            Reason::OutOfBounds { .. } | Reason::StackBounds { .. } => {
                "bound the index where it is used: if (i < N), or i & (N - 1)"
            }
            Reason::BehindEnd { .. } => "compare with the end first: if (p + size > end) return",
            Reason::ReadOnly(_) => "a variable that is written must not be const, a map not BPF_F_RDONLY_PROG",
            Reason::WriteOnly(_) => "drop BPF_F_WRONLY_PROG from map_flags",
            Reason::CombinedStack { .. } => "move large variables into a map, or let functions be inlined",
            Reason::Impure(_) => "make the variable const volatile",
            Reason::PointerLeak(_) => "return or store a number, not an address",
            Reason::PointerArithmetic(_) => "only addition and subtraction of bounded numbers keep a pointer",
            Reason::PointerOffset(_) => "bound the number before it is added to the pointer",
            Reason::ArgumentSize { .. } => "bound the size by the memory it belongs to: if (n > sizeof(buffer)) return",
            Reason::Unreleased { .. } => "submit or discard the record before every return",
            Reason::CallbackUnsettled(_) => {
                "let the callback count in the index that it is given, or bound what it changes"
            }
            _ => return None,
        })
    }
}
