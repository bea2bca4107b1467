//! What is attached: immutable once published.
//!
//! The host reads a `duckbpf_set` and its `duckbpf_program`s in place, so both sit in boxes of their own here, behind a
//! [`HookSet`] and an [`AttachedProgram`] that outlive their publication.

use std::{
    cell::UnsafeCell,
    path::PathBuf,
    ptr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use duckbpf_abi::{
    DUCKBPF_HOOK_COUNT, DUCKBPF_PROGRAM_HASH_MIXED, DUCKBPF_PROGRAM_HASH_READS_WHOLE,
    DUCKBPF_PROGRAM_HASH_STRINGS_AS_HOST, DUCKBPF_PROGRAM_HASH_STRINGS_BY_WHOLE, duckbpf_hash_ctx,
    duckbpf_hook_counters, duckbpf_program, duckbpf_set,
};

use super::{
    Generation, Timings,
    load::{Loaded, LoadedProgram, Targets},
};
use crate::{
    hook::Hook,
    jit::{Program, Strings},
    maps::store::Bindings,
    object::Object,
};

/// Objects that are attached together, under one number.
#[derive(Debug)]
pub struct HookSet {
    pub generation: Generation,
    pub objects: Vec<Arc<AttachedObject>>,
    raw: Box<duckbpf_set>,
}

// SAFETY: `raw` holds pointers into programs that `objects` keeps; nothing is changed through a shared HookSet.
unsafe impl Send for HookSet {}
// SAFETY: as above.
unsafe impl Sync for HookSet {}

/// An object and its programs, attached and detached as one.
#[derive(Debug)]
pub struct AttachedObject {
    pub name: String,
    pub path: PathBuf,
    pub parsed: Arc<Object>,
    pub bindings: Bindings,
    pub programs: Vec<AttachedProgram>,
    _targets: Targets,
}

#[derive(Debug)]
pub struct AttachedProgram {
    /// Its number in the process.
    pub id: u64,
    pub loaded_at: SystemTime,
    pub program: Program,
    pub tag: String,
    pub timings: Timings,
    pub mixed: bool,
    pub generation: Generation,
    /// The hook's counters when it was published.
    pub baseline: OnceLock<duckbpf_hook_counters>,
    pub publish_ns: AtomicU64,
    /// Read by the host, which writes `pins` only.
    raw: Box<UnsafeCell<duckbpf_program>>,
}

// SAFETY: `raw` is changed by the host alone, and there only the atomic `pins`; everything else is immutable or atomic.
unsafe impl Send for AttachedProgram {}
// SAFETY: as above.
unsafe impl Sync for AttachedProgram {}

impl HookSet {
    pub fn new(generation: Generation, objects: Vec<Arc<AttachedObject>>) -> HookSet {
        let mut programs = [ptr::null_mut(); DUCKBPF_HOOK_COUNT as usize];
        for program in objects.iter().flat_map(|object| &object.programs) {
            programs[program.hook().index()] = program.raw.get();
        }
        HookSet { generation, objects, raw: Box::new(duckbpf_set { generation: generation.0, programs }) }
    }

    /// What is published: null without any program.
    pub fn as_raw(&self) -> *const duckbpf_set {
        if self.objects.is_empty() { ptr::null() } else { &*self.raw }
    }

    pub fn by_name(&self, name: &str) -> Option<&Arc<AttachedObject>> {
        self.objects.iter().find(|object| object.name == name)
    }

    /// The object and the program on a hook.
    pub fn on(&self, hook: Hook) -> Option<(&AttachedObject, &AttachedProgram)> {
        let programs =
            self.objects.iter().flat_map(|object| object.programs.iter().map(move |program| (&**object, program)));
        programs.into_iter().find(|(_, program)| program.hook() == hook)
    }

    /// For messages.
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.objects.iter().map(|object| object.name.as_str()).collect();
        if names.is_empty() { "no program".into() } else { names.join(", ") }
    }
}

impl AttachedObject {
    pub fn new(loaded: Loaded, generation: Generation) -> AttachedObject {
        let Loaded { name, path, object: parsed, bindings, programs, targets } = loaded;
        let programs = programs.into_iter().map(|program| AttachedProgram::new(program, generation)).collect();
        AttachedObject { name, path, parsed, bindings, programs, _targets: targets }
    }

    pub fn hooks(&self) -> impl Iterator<Item = Hook> + '_ {
        self.programs.iter().map(AttachedProgram::hook)
    }

    /// Queries hold one of its programs.
    pub fn is_pinned(&self) -> bool {
        self.programs.iter().any(|program| program.pins() != 0)
    }
}

impl AttachedProgram {
    fn new(loaded: LoadedProgram, generation: Generation) -> AttachedProgram {
        let LoadedProgram { program, tag, timings, mixed } = loaded;
        let whole = std::mem::offset_of!(duckbpf_hash_ctx, whole);
        let reads_whole = program.hook() == Hook::Hash && program.facts().context_bytes >> whole & 0xff != 0;
        let mut flags = 0;
        for (flag, is_set) in [
            (DUCKBPF_PROGRAM_HASH_MIXED, mixed),
            (DUCKBPF_PROGRAM_HASH_READS_WHOLE, reads_whole),
            (DUCKBPF_PROGRAM_HASH_STRINGS_BY_WHOLE, program.strings() != Strings::Contexts),
            (DUCKBPF_PROGRAM_HASH_STRINGS_AS_HOST, program.strings() == Strings::AsHost),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        let raw = duckbpf_program {
            entry: Some(program.entry()),
            hash_batch: program.hash_batch(),
            generation: generation.0,
            hash_types: if program.hook() == Hook::Hash { program.declared_hash().0 } else { 0 },
            pins: 0,
            hook: program.hook() as u32,
            flags,
        };
        static NEWEST: AtomicU64 = AtomicU64::new(0);
        AttachedProgram {
            id: NEWEST.fetch_add(1, Ordering::Relaxed) + 1,
            loaded_at: SystemTime::now(),
            program,
            tag,
            timings,
            mixed,
            generation,
            baseline: OnceLock::new(),
            publish_ns: AtomicU64::new(0),
            raw: Box::new(UnsafeCell::new(raw)),
        }
    }

    pub fn hook(&self) -> Hook {
        self.program.hook()
    }

    fn pins(&self) -> u64 {
        // SAFETY: the field is aligned, lives as long as `self`, and is accessed atomically by everyone (abi.h).
        let pins = unsafe { AtomicU64::from_ptr(&raw mut (*self.raw.get()).pins) };
        // Acquire: what the last query read of the program happened before it is freed.
        pins.load(Ordering::Acquire)
    }
}
