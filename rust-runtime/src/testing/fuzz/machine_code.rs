//! Machine code against the interpreter: the same results, and the same left in global variables.
//!
//! Context and variables lie alone on their pages, between pages that nobody may touch: an access beyond them ends the process.

use std::ffi::c_void;

use super::{
    random::Random,
    search::{CONTEXT, Failure},
};
use crate::{
    helpers::{self, ArgKind, Env},
    isa::Op,
    jit,
    object::{Memory, Object, Region},
    verifier::Verified,
    vm::{self, Code, Input, Machine, Quiet},
};

/// Whether runs of a program give the same each time: it uses no maps, and of helpers only functions of numbers and `bpf_loop`.
pub fn is_deterministic(object: &Object) -> bool {
    let insns = &object.programs[0].insns;
    let mut pc = 0;
    while pc < insns.len() {
        match Op::decode(insns, pc) {
            Ok(Op::Helper { id }) if !is_function(id) => return false,
            Ok(Op::Map { .. }) | Err(_) => return false,
            Ok(op) => pc += op.slots(),
        }
    }
    true
}

/// Its result depends on its numbers, and on what its callback does.
fn is_function(id: u32) -> bool {
    let plays =
        |arg: &ArgKind| matches!(arg, ArgKind::Memory { .. } | ArgKind::MemoryOut { .. } | ArgKind::ConstString);
    helpers::find(id).is_some_and(|helper| helper.pure && !helper.args.iter().any(plays))
}

/// Runs an accepted program both ways on inputs that the seed gives; gives the runs, and a difference.
pub fn compare(verified: Verified, seed: u64, runs: usize) -> (u64, Option<Failure>) {
    match compare_all(verified, seed, runs) {
        Ok(()) => (runs as u64, None),
        Err((run, what)) => (run, Some(Failure::Differs(what))),
    }
}

/// Err: the run, and how it differs.
fn compare_all(verified: Verified, seed: u64, runs: usize) -> Result<(), (u64, String)> {
    let mut random = Random::new(seed);
    let object = verified.object().clone();
    let at_end = random.once_in(2);
    let guarded = |regions: &[Region]| Memory::guarded(regions, at_end).map_err(|error| (0, error.to_string()));
    let context = Region { name: "context".into(), writable: true, size: CONTEXT as u64, bytes: Vec::new() };
    let (memory, context) = (guarded(&object.regions)?, guarded(&[context])?);
    let code = Code::of(&verified);
    let program = jit::compile(verified, memory.clone(), Env::detached()).map_err(|error| (0, error.to_string()))?;
    for run in 0..runs as u64 {
        let words = random.context();
        let differs = |what: String| Err((run, format!("machine code {what}: {words:x?}")));
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let before = vm::read_globals(&memory);
        vm::write_globals(&context, std::slice::from_ref(&bytes));
        let address = context.regions()[0].address as *mut c_void;
        // SAFETY: the program was verified for this hook, and the context is as large as the hook's.
        let result = unsafe { program.entry()(address) };
        let (mut quiet, input) = (Quiet, Input { context: bytes, ..Input::default() });
        let mut machine = Machine::new(&code, Env::detached(), &mut quiet);
        let globals: Vec<_> = before.into_iter().map(|bytes| machine.add_global(bytes)).collect();
        match machine.run(&input, &mut ()) {
            Err(fault) => return differs(format!("runs what is not allowed: {fault}")),
            Ok(outcome) if outcome.result != result => {
                return differs(format!("gives {result:#x}, not {:#x}", outcome.result));
            }
            Ok(_) => {}
        }
        let left = vm::read_globals(&memory);
        if globals.iter().zip(&left).any(|(&id, left)| machine.memory().region(id).bytes != *left) {
            return differs("leaves other variables".into());
        }
        if vm::read_globals(&context) != [input.context] {
            return differs("changes its context".into());
        }
    }
    Ok(())
}
