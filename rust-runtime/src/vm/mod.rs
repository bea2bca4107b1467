//! An interpreter that checks every access against what it points into: the oracle for the verifier and the code generator.
//!
//! ```text
//! memory   regions, and values that carry the region they point into
//! machine  registers, frames, instructions
//! calls    helpers: arguments checked by the table, results real where they are numbers, else made up
//! ```
//!
//! It takes nothing on trust: no value that was not set is read, no pointer becomes a number, no access leaves its region, no
//! frame or record is touched after its end, each record is given back. So a [`Fault`] in a verified program is a bug in the
//! verifier, and another result than the machine code's is a bug in the code generator.
//!
//! What the world decides - what a map holds, what others write into it, whether a lookup finds something - comes from
//! [`Noise`]: the verifier may not count on any of it.

mod calls;
mod machine;
mod memory;
#[cfg(test)]
mod tests;

pub use machine::{Frame, Machine, View, Watch};
pub use memory::{Memory, Noise, Origin, Place, RegionId, Value};

use std::ops::Range;

#[cfg(test)]
use crate::helpers::Env;
use crate::{
    isa::{Insn, Op},
    object::{self, MapDef},
    verifier::Verified,
};

/// What a verified program never does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at instruction {pc}: {kind}")]
pub struct Fault {
    pub pc: usize,
    pub kind: FaultKind,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultKind {
    #[error("there is no instruction")]
    NoInstruction,
    #[error("reads what was never set")]
    Uninitialised,
    #[error("uses a number as a pointer")]
    NoPointer,
    #[error("accesses {size} bytes at {offset} of {place:?}")]
    OutOfBounds { place: Place, offset: i64, size: usize },
    #[error("writes to byte {offset} of {place:?}, which is read-only")]
    ReadOnly { place: Place, offset: usize },
    #[error("touches {place:?} after its end")]
    Dangling { place: Place },
    #[error("makes an address visible")]
    Leak,
    #[error("calculates with a pointer")]
    PointerArithmetic,
    #[error("calls the helper {0}, which does not exist")]
    UnknownHelper(u32),
    #[error("argument {0} of the helper is not what it takes")]
    Argument(usize),
    #[error("has more than {} active functions", crate::verifier::MAX_FRAMES)]
    TooDeep,
    #[error("runs for too long")]
    TooLong,
    #[error("ends without giving back a record")]
    OpenRecord,
    #[error("makes a tail call in a callback, which has no result then")]
    TailCallInCallback,
    #[error("a callback returns {0}")]
    CallbackResult(u64),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub result: u64,
    /// Instructions executed.
    pub steps: u64,
    /// Instructions and what the helpers cost, as the verifier counts.
    pub cost: u64,
    /// A tail call took over; the result means nothing.
    pub tail_called: bool,
}

/// A program to interpret.
#[derive(Debug)]
pub struct Code {
    /// By slot.
    ops: Vec<Option<Op>>,
    maps: Vec<MapDef>,
    regions: Vec<object::Region>,
}

impl Code {
    pub fn new(insns: &[Insn], maps: &[MapDef], regions: &[object::Region]) -> Code {
        let mut ops = vec![None; insns.len()];
        let mut pc = 0;
        while pc < insns.len() {
            ops[pc] = Op::decode(insns, pc).ok();
            pc += ops[pc].map_or(1, Op::slots);
        }
        Code { ops, maps: maps.to_vec(), regions: regions.to_vec() }
    }

    pub fn of(verified: &Verified) -> Code {
        let object = verified.object();
        Code::new(&verified.text().insns, &object.maps, &object.regions)
    }
}

/// What a program is called with.
#[derive(Clone, Debug, Default)]
pub struct Input {
    pub context: Vec<u8>,
    /// Bytes of the context that may be written.
    pub writable: Vec<Range<usize>>,
    pub buffers: Vec<Buffer>,
}

/// Memory that the context points to.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// Where in the context the pointer to its first byte lies, and the pointer to its end.
    pub begin: usize,
    pub end: usize,
    pub bytes: Vec<u8>,
    pub writable: bool,
}

/// Runs a verified program on a context and the real global variables, which it may change.
#[cfg(test)]
pub fn run(verified: &Verified, memory: &object::Memory, env: &Env, context: &[u8]) -> Result<Outcome, Fault> {
    let code = Code::of(verified);
    let mut quiet = Quiet;
    let mut machine = Machine::new(&code, env, &mut quiet);
    let globals: Vec<RegionId> = read_globals(memory).into_iter().map(|bytes| machine.add_global(bytes)).collect();
    let outcome = machine.run(&Input { context: context.to_vec(), ..Input::default() }, &mut ());
    let after: Vec<Vec<u8>> = globals.into_iter().map(|id| machine.memory().region(id).bytes.clone()).collect();
    write_globals(memory, &after);
    outcome
}

/// What the global variables hold, by region.
pub fn read_globals(memory: &object::Memory) -> Vec<Vec<u8>> {
    memory.regions().iter().map(copy_in).collect()
}

/// Sets the writable ones.
pub fn write_globals(memory: &object::Memory, contents: &[Vec<u8>]) {
    let regions = memory.regions().iter().zip(contents);
    regions.filter(|(region, _)| region.writable).for_each(|(region, bytes)| copy_out(region, bytes));
}

fn copy_in(region: &object::RegionMap) -> Vec<u8> {
    // SAFETY: a Memory's regions are mapped and readable for as long as it lives, and the caller borrows it. Tests run a program
    // on one thread at a time.
    unsafe { std::slice::from_raw_parts(region.address as *const u8, region.size) }.to_vec()
}

fn copy_out(region: &object::RegionMap, bytes: &[u8]) {
    assert_eq!(bytes.len(), region.size);
    // SAFETY: as in copy_in; the region is writable, and as long as what was copied in.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), region.address as *mut u8, bytes.len()) }
}

/// A world in which nobody else writes, nothing is found, and every random number is 0.
#[derive(Debug)]
pub struct Quiet;

impl Noise for Quiet {
    fn next(&mut self) -> u64 {
        0
    }

    fn is_quiet(&self) -> bool {
        true
    }
}
