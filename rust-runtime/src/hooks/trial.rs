//! Running an object's programs in this process, on contexts that somebody made up: to see what they decide and what a call takes,
//! without a database (feature `disasm`, for tools).
//!
//! The object goes the whole way: it is read, verified, compiled, and gets maps of its own. What helpers say of the engine is 0, for
//! there is none.

use std::{
    path::Path,
    ptr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use duckbpf_abi::{duckbpf_evict_ctx, duckbpf_load_ctx, duckbpf_queue_insert_ctx, duckbpf_unpin_ctx};

use super::{
    ContextError, Generation, HookSet, MapHandle,
    context::MadeUp,
    load::{self, load},
    maps::in_set,
    set::{AttachedObject, AttachedProgram},
};
use crate::{error::Error, helpers::Env, hook::Hook, maps::store::Store, object::Parameter};

/// Calls in a row, after which entries that were taken out of maps may become free again.
const BATCH: u64 = 256;

/// An object that is loaded for trial.
#[derive(Debug)]
pub struct Trial {
    set: HookSet,
    /// Held during calls: who frees what programs may hold waits for it.
    calling: Arc<Mutex<()>>,
    // Goes after the maps that it made.
    _store: Store,
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

/// What a program said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub function: String,
    pub hook: Hook,
    /// Of the last call; of a hash program the hash.
    pub result: u64,
    pub calls: u64,
    /// Of all calls together.
    pub nanoseconds: u64,
}

/// Why a program was not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrialError {
    #[error("the object has no program for {hook}; it has {known}")]
    NoProgram { hook: Hook, known: String },
    #[error("the object has several programs; say the hook, one of {known}")]
    Several { known: String },
    #[error(transparent)]
    Context(#[from] ContextError),
}

impl Trial {
    /// Reads, checks and compiles an object, with some of its constants set first; also its optional programs.
    pub fn load(path: &Path, parameters: &[(String, Parameter)]) -> Result<Trial, Error> {
        let calling = Arc::new(Mutex::new(()));
        let nobody_inside = calling.clone();
        let store = Store::new(Box::new(move || drop(nobody_inside.lock().unwrap_or_else(PoisonError::into_inner))));
        let nothing = HookSet::new(Generation(0), Vec::new());
        let (env, gallery) = (Env::detached(), None);
        let context = load::Context { env, store: &store, gallery, current: &nothing, parameters, optional: true };
        let object = AttachedObject::new(load(path, context)?, Generation(0));
        Ok(Trial { set: HookSet::new(Generation(0), vec![Arc::new(object)]), calling, _store: store })
    }

    /// Calls the program of a hook, or the only one, so many times, at least once, on one context, whose fields are 0 where none is
    /// given.
    pub fn run(&self, hook: Option<Hook>, fields: &[(String, Parameter)], calls: u64) -> Result<Outcome, TrialError> {
        let program = self.program(hook)?;
        let mut context = MadeUp::new(program.hook(), fields)?;
        let (entry, address, calls) = (program.program.entry(), context.address(), calls.max(1));
        let (mut result, mut nanoseconds, mut left) = (0, 0, calls);
        while left > 0 {
            let batch = left.min(BATCH);
            let _calling = self.calling.lock().unwrap_or_else(PoisonError::into_inner);
            let start = Instant::now();
            for _ in 0..batch {
                // SAFETY: a verified program, which `self` keeps with its maps, on a context of its hook; what it takes out of maps
                // is not freed while `calling` is held.
                result = unsafe { entry(address) };
            }
            nanoseconds += start.elapsed().as_nanos() as u64;
            left -= batch;
        }
        let function = program.program.text().symbol.clone();
        Ok(Outcome { function, hook: program.hook(), result, calls, nanoseconds })
    }

    /// Whether it has a program for a hook.
    pub fn has(&self, hook: Hook) -> bool {
        self.all().any(|program| program.hook() == hook)
    }

    /// Calls the program of the context's hook, if there is one.
    pub fn call<C: TrialContext>(&self, context: &mut C) -> Option<u64> {
        let program = self.all().find(|program| program.hook() == C::HOOK)?;
        let _calling = self.calling.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: as in `run`; the context has the hook's own type.
        Some(unsafe { program.program.entry()(ptr::from_mut(context).cast()) })
    }

    /// Its maps and sections of variables.
    pub fn maps(&self) -> Vec<MapHandle> {
        in_set(&self.set)
    }

    fn all(&self) -> impl Iterator<Item = &AttachedProgram> {
        self.set.objects.iter().flat_map(|object| &object.programs)
    }

    fn program(&self, hook: Option<Hook>) -> Result<&AttachedProgram, TrialError> {
        let known = || self.all().map(|program| program.hook().name()).collect::<Vec<_>>().join(", ");
        match hook {
            Some(hook) => {
                let found = self.all().find(|program| program.hook() == hook);
                found.ok_or_else(|| TrialError::NoProgram { hook, known: known() })
            }
            None => {
                let mut all = self.all();
                // An object without programs is not loaded.
                match (all.next(), all.next()) {
                    (Some(only), None) => Ok(only),
                    _ => Err(TrialError::Several { known: known() }),
                }
            }
        }
    }
}
