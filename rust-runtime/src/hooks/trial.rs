//! Running an object's programs in this process, on contexts that somebody made up: to see what they decide and what a call takes,
//! without a database (feature `disasm`, for tools).
//!
//! The object goes the whole way: it is read, verified, compiled, and gets maps of its own. What helpers say of the engine is 0, for
//! there is none.

use std::{path::Path, ptr, sync::Arc};

use duckbpf_abi::{duckbpf_evict_ctx, duckbpf_load_ctx, duckbpf_queue_insert_ctx, duckbpf_unpin_ctx};

use super::{
    Generation, HookSet, MapHandle, RunReport,
    grace::Grace,
    load::{self, load},
    maps::in_set,
    run::{call, choose},
    set::AttachedObject,
};
use crate::{error::Error, helpers::Env, hook::Hook, jit::Program, maps::store::Store, object::Parameter};

/// An object that is loaded for trial.
#[derive(Debug)]
pub struct Trial {
    object: Arc<AttachedObject>,
    /// Who frees what programs may hold waits for it.
    grace: Arc<Grace>,
    // Goes after the maps that it made.
    store: Store,
}

/// A hook's context as C has it, for [`Trial::call`].
///
/// # Safety
/// The type is the one that programs on the hook get.
pub unsafe trait TrialContext {
    const HOOK: Hook;
}

macro_rules! contexts {
    ($($context:ty: $hook:ident),+) => {$(
        // SAFETY: the hook's struct, from the header that programs are built against.
        unsafe impl TrialContext for $context {
            const HOOK: Hook = Hook::$hook;
        }
    )+};
}
contexts!(duckbpf_load_ctx: Load, duckbpf_unpin_ctx: Unpin, duckbpf_evict_ctx: Evict, duckbpf_queue_insert_ctx: QueueInsert);

impl Trial {
    /// Reads, checks and compiles an object, with some of its constants set first; also its optional programs.
    pub fn load(path: &Path, parameters: &[(String, Parameter)]) -> Result<Trial, Error> {
        let grace = Arc::new(Grace::new(None));
        let nobody_inside = grace.clone();
        let store = Store::new(Box::new(move || nobody_inside.wait()));
        let nothing = HookSet::new(Generation(0), Vec::new());
        let (env, gallery) = (Env::detached(), None);
        let context = load::Context { env, store: &store, gallery, current: &nothing, parameters, optional: true };
        let object = Arc::new(AttachedObject::new(load(path, context)?, Generation(0)));
        Ok(Trial { object, grace, store })
    }

    /// Calls the program of a hook, or the only one, `repeat` times, at least once, on one context, whose fields are 0 where none is
    /// given.
    pub fn run(&self, hook: Option<Hook>, fields: &[(String, Parameter)], repeat: u64) -> Result<RunReport, Error> {
        let AttachedObject { name, programs, .. } = &*self.object;
        let program = choose(name, programs.iter().map(|attached| &attached.program), hook)?;
        Ok(call(name.clone(), program, fields, repeat, || self.grace.run())?)
    }

    /// Whether it has a program for a hook.
    pub fn has(&self, hook: Hook) -> bool {
        self.on(hook).is_some()
    }

    /// Calls the program of the context's hook, if there is one.
    pub fn call<C: TrialContext>(&self, context: &mut C) -> Option<u64> {
        let program = self.on(C::HOOK)?;
        let _inside = self.grace.run();
        // SAFETY: a verified program, which `self` keeps with its maps, on a context of its hook's own type; `_inside` keeps what it
        // finds in them.
        Some(unsafe { program.entry()(ptr::from_mut(context).cast()) })
    }

    fn on(&self, hook: Hook) -> Option<&Program> {
        self.object.programs.iter().map(|attached| &attached.program).find(|program| program.hook() == hook)
    }

    /// Bytes that its maps take. In a database they count against the memory limit.
    pub fn memory(&self) -> u64 {
        self.store.budget().used()
    }

    /// Its maps and sections of variables.
    pub fn maps(&self) -> Vec<MapHandle> {
        in_set(&HookSet::new(Generation(0), vec![self.object.clone()]))
    }
}
