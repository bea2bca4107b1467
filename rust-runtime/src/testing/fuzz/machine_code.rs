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
    jit,
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

fn compare_maps([first, second]: [Verified; 2], seed: u64, runs: usize) -> Result<(), (u64, String)> {
    let mut random = Random::new(seed);
    let object = first.object().clone();
    let said = |error: &dyn std::fmt::Display| (0, error.to_string());
    let bind = || {
        let memory = Memory::guarded(&object.regions, true).map_err(|error| said(&error))?;
        Store::new(Box::new(|| {})).bind(&object, memory, &[]).map_err(|error| said(&error))
    };
    let (ours, theirs) = (bind()?, bind()?);
    let maps = [&ours, &theirs].map(|bindings| bindings.maps().cloned().collect::<Vec<_>>());
    let programs = [
        jit::compile(first, ours, Env::detached()).map_err(|error| said(&error))?,
        jit::interpret(second, theirs, Env::detached()).map_err(|error| said(&error))?,
    ];
    for run in 0..runs as u64 {
        let words = random.context();
        let left = [0, 1].map(|engine| {
            let mut context = words;
            // SAFETY: the program was verified for this hook, and the context is as large as the hook's.
            let result = unsafe { programs[engine].entry()(context.as_mut_ptr().cast::<c_void>()) };
            (result, context, vm::read_globals(programs[engine].memory()), contents(&maps[engine]))
        });
        let parts = [
            ("gives another result", left[0].0 != left[1].0),
            ("changes its context", left[0].1 != words || left[1].1 != words),
            ("leaves other variables", left[0].2 != left[1].2),
            ("leaves something else in maps", left[0].3 != left[1].3),
        ];
        if let Some((what, _)) = parts.into_iter().find(|(_, differs)| *differs) {
            return Err((run, format!("machine code {what}: {words:x?}")));
        }
    }
    Ok(())
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
