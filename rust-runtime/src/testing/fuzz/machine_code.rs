//! Machine code against the interpreter: the same results, and the same left in global variables.

use std::{ptr, sync::Arc};

use super::{
    random::Random,
    search::{CONTEXT, Failure},
};
use crate::{
    helpers::Env,
    hook::Hook,
    isa::Op,
    jit,
    object::{Memory, Object},
    verifier, vm,
};

/// Whether runs of a program give the same each time: it calls no helpers and uses no maps.
pub fn is_deterministic(object: &Object) -> bool {
    let insns = &object.programs[0].insns;
    let mut pc = 0;
    while pc < insns.len() {
        match Op::decode(insns, pc) {
            Ok(Op::Helper { .. } | Op::Map { .. }) | Err(_) => return false,
            Ok(op) => pc += op.slots(),
        }
    }
    true
}

/// Runs an accepted program both ways on inputs that the seed gives; gives the runs, and a difference.
pub fn compare(object: &Arc<Object>, seed: u64, inputs: usize) -> (u64, Option<Failure>) {
    let (Ok(compiled), Ok(interpreted)) =
        (verifier::verify(object, 0, Hook::Load), verifier::verify(object, 0, Hook::Load))
    else {
        return (0, None);
    };
    let differs = |what: String| Some(Failure::Differs(what));
    let memory = match Memory::new(&object.regions) {
        Ok(memory) => memory,
        Err(error) => return (0, differs(error.to_string())),
    };
    let program = match jit::compile(compiled, memory.clone(), Env::detached()) {
        Ok(program) => program,
        Err(error) => return (0, differs(error.to_string())),
    };
    let mut random = Random::new(seed);
    for run in 0..inputs as u64 {
        let context = random.context();
        let before = vm::read_globals(&memory);
        let mut given = context;
        // SAFETY: the program was verified for this hook, and the context is as large as the hook's.
        let result = unsafe { program.entry()(ptr::from_mut::<[u64; CONTEXT / 8]>(&mut given).cast()) };
        let after = vm::read_globals(&memory);
        vm::write_globals(&memory, &before);
        let bytes: Vec<u8> = context.iter().flat_map(|word| word.to_le_bytes()).collect();
        match vm::run(&interpreted, &memory, Env::detached(), &bytes) {
            Err(fault) => return (run, differs(fault.to_string())),
            Ok(outcome) if outcome.result != result => {
                return (
                    run,
                    differs(format!("machine code gives {result:#x}, not {:#x}: {context:x?}", outcome.result)),
                );
            }
            Ok(_) if vm::read_globals(&memory) != after => {
                return (run, differs(format!("machine code leaves other variables: {context:x?}")));
            }
            Ok(_) => {}
        }
    }
    (inputs as u64, None)
}
