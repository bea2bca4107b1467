//! Machine code against the interpreter: the same results, and the same left in global variables.
//!
//! Programs that do not use maps run beside the interpreter that checks, which knows no values of maps. Others, where their results still
//! depend on nothing else, run beside the one that other processors have, each with maps of its own: what maps hold is compared too.
//!
//! Context and variables lie alone on their pages, between pages that nobody may touch: an access beyond them ends the process.

use std::{ffi::c_void, ops::ControlFlow, sync::Arc};

use super::{
    random::Random,
    search::{CONTEXT, Failure},
};
use crate::{
    helpers::{self, ArgKind, Env},
    isa::Op,
    jit::{self, Program},
    maps::{Map, store::Store},
    object::{MapDef, MapKind, Memory, Object, Region},
    verifier::Verified,
    vm::{self, Code, Input, Machine, Quiet},
};

/// What the results of a program depend on, beside its context and its variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depends {
    /// Nothing: it uses no maps, and of helpers only functions of numbers and `bpf_loop`.
    Nothing,
    /// What it left in its maps, which it looks up, updates and deletes from.
    Maps,
    /// What differs from run to run.
    Others,
}

/// Words of a context.
const WORDS: usize = CONTEXT / 8;
const LOOKUP: u32 = 1;
const DELETE: u32 = 3;

pub fn depends(object: &Object) -> Depends {
    let insns = &object.programs[0].insns;
    let (mut pc, mut depends) = (0, Depends::Nothing);
    while pc < insns.len() {
        let Ok(op) = Op::decode(insns, pc) else { return Depends::Others };
        match op {
            Op::Helper { id: LOOKUP..=DELETE } => {}
            Op::Helper { id } if !is_function(id) => return Depends::Others,
            Op::Map { map, .. } if object.maps.get(map as usize).is_some_and(keeps) => depends = Depends::Maps,
            Op::Map { .. } => return Depends::Others,
            _ => {}
        }
        pc += op.slots();
    }
    depends
}

/// What a program finds there is what it put there. No object has code that refers to a map which stands for a section.
fn keeps(map: &MapDef) -> bool {
    let kinds = matches!(
        map.kind,
        MapKind::Array | MapKind::PercpuArray | MapKind::Hash | MapKind::PercpuHash | MapKind::LruHash
    );
    kinds && map.region.is_none()
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

/// Runs an accepted program, verified twice, as machine code and interpreted, each with maps of its own; gives the runs, and a difference.
pub fn compare_with_maps(verified: [Verified; 2], seed: u64, runs: usize) -> (u64, Option<Failure>) {
    match compare_maps(verified, seed, runs) {
        Ok(()) => (runs as u64, None),
        Err((run, what)) => (run, Some(Failure::Differs(what))),
    }
}

fn compare_maps(verified: [Verified; 2], seed: u64, runs: usize) -> Result<(), (u64, String)> {
    let mut random = Random::new(seed);
    let pair = Pair::new(verified).map_err(|what| (0, what))?;
    for run in 0..runs as u64 {
        pair.run(random.context()).map_err(|what| (run, what))?;
        // In the same state for both, whatever threads do: how many entries are free decides whether updates succeed, and what makes room.
        pair.stores.iter().for_each(Store::hand_back);
    }
    Ok(())
}

/// A program as machine code and interpreted, each with maps of its own.
struct Pair {
    programs: [Program; 2],
    maps: [Vec<Arc<Map>>; 2],
    stores: [Store; 2],
}

impl Pair {
    fn new([first, second]: [Verified; 2]) -> Result<Pair, String> {
        fn said(error: impl std::fmt::Display) -> String {
            error.to_string()
        }
        let object = first.object().clone();
        let stores = [Store::by_hand(), Store::by_hand()];
        let bind = |store: &Store| {
            let memory = Memory::guarded(&object.regions, true).map_err(said)?;
            store.bind(&object, memory, &[]).map_err(said)
        };
        let (ours, theirs) = (bind(&stores[0])?, bind(&stores[1])?);
        let maps = [&ours, &theirs].map(|bindings| bindings.maps().cloned().collect());
        let programs = [
            jit::compile(first, ours, Env::detached()).map_err(said)?,
            jit::interpret(second, theirs, Env::detached()).map_err(said)?,
        ];
        Ok(Pair { programs, maps, stores })
    }

    /// Runs both once; gives the result, or how they differ.
    fn run(&self, words: [u64; WORDS]) -> Result<u64, String> {
        let [(result, ours), (other, theirs)] = [0, 1].map(|engine| {
            let (mut context, program) = (words, &self.programs[engine]);
            // SAFETY: the program was verified for this hook, and the context is as large as the hook's.
            let result = unsafe { program.entry()(context.as_mut_ptr().cast::<c_void>()) };
            (result, (context, vm::read_globals(program.memory()), contents(&self.maps[engine])))
        });
        let parts = [
            ("gives another result", result != other),
            ("changes its context", ours.0 != words || theirs.0 != words),
            ("leaves other variables", ours.1 != theirs.1),
            ("leaves something else in maps", ours.2 != theirs.2),
        ];
        match parts.into_iter().find(|(_, differs)| *differs) {
            Some((what, _)) => Err(format!("machine code {what}: {words:x?}")),
            None => Ok(result),
        }
    }
}

/// The entries of each map that programs see by their keys, in order.
fn contents(maps: &[Arc<Map>]) -> Vec<Vec<Vec<u8>>> {
    let of = |map: &Arc<Map>| {
        let mut entries = Vec::new();
        let sizes = (map.def().key_size as usize, map.def().value_size as usize);
        // SAFETY: nobody else uses the map.
        unsafe {
            map.walk(Env::detached().thread_index(), |key, value| {
                let (key, value) =
                    (std::slice::from_raw_parts(key, sizes.0), std::slice::from_raw_parts(value, sizes.1));
                entries.push([key, value].concat());
                ControlFlow::Continue(())
            });
        }
        entries.sort();
        entries
    };
    maps.iter().filter(|map| keeps(map.def())).map(of).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{asm::assemble, programs::verify};

    /// Puts 90 keys in and takes each out again; gives the updates that failed. The map has 80 entries, which wait once they were
    /// taken out.
    const WEARS_OUT: &str = "hook schedule_task
        map values {kind} 4 8 16
        r6 = 0
        r7 = 0
        again: *(u64 *)(r10 - 16) = r6
        *(u32 *)(r10 - 4) = r6
        r1 = map[values] ll
        r2 = r10
        r2 += -4
        r3 = r10
        r3 += -16
        r4 = 0
        call map_update_elem
        if r0 == 0 goto took
        r7 += 1
        took: r1 = map[values] ll
        r2 = r10
        r2 += -4
        call map_delete_elem
        r6 += 1
        if r6 < 90 goto again
        r0 = r7
        exit";

    fn worn_out(kind: &str) -> Pair {
        let object = assemble(&WEARS_OUT.replace("{kind}", kind)).unwrap().object;
        Pair::new([0, 1].map(|_| verify(&object).unwrap())).unwrap()
    }

    #[test]
    fn entries_come_back_between_runs_and_never_in_one() {
        for kind in ["hash", "lru_hash", "percpu_hash"] {
            let pair = worn_out(kind);
            for run in 0..100 {
                assert_eq!(pair.run([run; WORDS]), Ok(10), "{kind}, run {run}");
                pair.stores.iter().for_each(Store::hand_back);
            }
        }
    }

    /// What the comparison took for a fault once: one of the two got nothing back.
    #[test]
    fn a_map_that_gets_nothing_back_is_a_difference() {
        for starved in [0, 1] {
            let pair = worn_out("hash");
            assert_eq!(pair.run([0; WORDS]), Ok(10));
            pair.stores[1 - starved].hand_back();
            let difference = pair.run([0; WORDS]).unwrap_err();
            assert!(difference.starts_with("machine code gives another result"), "{difference}");
        }
    }
}
