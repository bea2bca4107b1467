//! The control path: which programs are attached to which hooks, and when those that were can be freed.
//!
//! # Changing the set
//!
//! A change loads its files first, outside of any lock. Then, one at a time: the new set is made, the host publishes it with
//! one store, and `synchronize` waits until no thread can still be inside the old one. Either all of a change happens or none.
//!
//! # Freeing
//!
//! After `synchronize` an unpublished program can only be held by queries that pinned it. Programs without pins are freed at
//! once; the others wait in `retired`, which is tried at each change and when the host says that a pin went away. That call
//! comes from the middle of the engine and must not block: it tries the lock, and leaves a flag if it is taken.

mod context;
mod gallery;
mod grace;
mod info;
mod load;
mod maps;
mod quality;
mod run;
mod set;
#[cfg(any(test, feature = "disasm"))]
mod trial;

use std::{
    ffi::c_char,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process, ptr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use duckbpf_abi::{self as abi, duckbpf_hook_counters, duckbpf_host, duckbpf_runtime};

use crate::{
    error::{Error, Problem},
    helpers::Env,
    hook::Hook,
    jit,
    maps::{
        BlockKey,
        memory::Budget,
        store::{DEFAULT_CEILING, Store},
    },
    object::Parameter,
    probes,
};
pub use context::ContextError;
pub use gallery::{Gallery, is_gallery_name};
use grace::Grace;
pub use info::{
    Attached, Counts, Generation, Options, PointInfo, ProgramInfo, ProgramReport, Refusals, Report, Timings,
};
use load::{Loaded, load};
pub use maps::{MapHandle, MapInfo};
pub use quality::Degenerate;
pub use run::{Listing, RunReport};
use set::{AttachedObject, AttachedProgram, HookSet};
#[cfg(any(test, feature = "disasm"))]
pub use trial::{Trial, TrialContext};

/// The runtime of the process: loads objects and decides what is attached.
#[derive(Debug)]
pub struct Runtime {
    host: &'static duckbpf_host,
    /// The process that it serves: a fork of it is detached.
    owner: u32,
    env: &'static Env,
    grace: Arc<Grace>,
    gallery: OnceLock<&'static dyn Gallery>,
    published: ArcSwap<HookSet>,
    /// Makes maps, and keeps those that are pinned.
    store: Store,
    /// Held from the reading of files to publication: a reload takes over the maps of what is attached.
    changing: Mutex<()>,
    control: Mutex<Control>,
    /// A pin went away while `control` was taken.
    unpinned: AtomicBool,
}

/// Held by whoever changes the set.
#[derive(Debug, Default)]
struct Control {
    /// Unpublished and synchronized, but pinned when last looked at.
    retired: Vec<Arc<AttachedObject>>,
}

static RUNTIME: OnceLock<Runtime> = OnceLock::new();
static STARTING: Mutex<()> = Mutex::new(());
static TABLE: duckbpf_runtime = duckbpf_runtime {
    version: abi::DUCKBPF_HOST_VERSION,
    reserved: 0,
    unpinned: Some(unpinned),
    read_log: Some(read_log),
    block_ended: Some(block_ended),
};

/// Called by the host where a block goes, inside of an epoch.
unsafe extern "C" fn block_ended(file_id: u64, block_id: i64) {
    let end = || RUNTIME.get().map(|runtime| runtime.store.block_ended(BlockKey { file_id, block_id }));
    // Nothing in there panics; if something does all the same, the value stays for a while.
    let _ = catch_unwind(AssertUnwindSafe(end));
}

/// What maps may take, of which the host's database keeps account.
fn budget(host: &'static duckbpf_host) -> Arc<Budget> {
    match host.account_memory {
        // SAFETY: the host's function, called outside of DuckDB's locks: maps are made and dropped on the control path.
        Some(account) => Budget::accounted(DEFAULT_CEILING, Box::new(move |bytes| unsafe { account(bytes) } == 0)),
        None => Budget::new(DEFAULT_CEILING),
    }
}

/// Called by the host when a query ends, outside of its locks.
unsafe extern "C" fn read_log(line: *mut c_char, size: u64) -> u64 {
    let next = || RUNTIME.get()?.env.print()?.next();
    // Nothing in there panics; if something does all the same, there is no line.
    let Ok(Some(text)) = catch_unwind(next) else { return 0 };
    let bytes = text.len().min(size as usize);
    // SAFETY: the host gave `size` bytes.
    unsafe { ptr::copy_nonoverlapping(text.as_ptr(), line.cast(), bytes) };
    bytes as u64
}

/// Called by the host, outside of its locks, on whatever thread dropped the last pin.
unsafe extern "C" fn unpinned() {
    if let Some(runtime) = RUNTIME.get() {
        runtime.unpinned.store(true, Ordering::Release);
        runtime.reclaim_if_asked();
    }
}

impl Runtime {
    /// Starts the only runtime of the process on what a graft or a hooked engine offers. Calling it again with the same
    /// host returns the same runtime.
    pub fn start(host: &'static duckbpf_host) -> Result<&'static Runtime, Error> {
        let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = RUNTIME.get() {
            return if ptr::eq(runtime.host, host) { Ok(runtime) } else { Err(Problem::Busy.into()) };
        }
        check_versions(host)?;
        jit::check_processor().map_err(Problem::Machine)?;
        // SAFETY: the table is static, as abi.h demands.
        let code = host.register_runtime.map_or(abi::DUCKBPF_ERROR_VERSION, |register| unsafe { register(&TABLE) });
        match code {
            code if code == abi::DUCKBPF_OK as i32 => {}
            abi::DUCKBPF_ERROR_BUSY => return Err(Problem::Busy.into()),
            abi::DUCKBPF_ERROR_FORKED => return Err(Problem::Forked.into()),
            code => return Err(Problem::Host(code).into()),
        }
        let grace = Arc::new(Grace::new(host.synchronize));
        Ok(RUNTIME.get_or_init(|| Runtime {
            host,
            owner: process::id(),
            env: Env::leak(host),
            store: Store::with_budget(
                budget(host),
                Box::new({
                    let grace = grace.clone();
                    move || grace.wait()
                }),
            ),
            grace,
            gallery: OnceLock::new(),
            changing: Mutex::default(),
            published: ArcSwap::from_pointee(HookSet::new(Generation(0), Vec::new())),
            control: Mutex::default(),
            unpinned: AtomicBool::new(false),
        }))
    }

    /// Paths without a slash that do not end in `.o` are names of these from now on. The first gallery stays.
    pub fn set_gallery(&self, gallery: &'static dyn Gallery) {
        let _ = self.gallery.set(gallery);
    }

    /// Attaches exactly these objects, all or none, in one step; reads every file anew. An empty list detaches all.
    pub fn replace(&self, paths: &[PathBuf]) -> Result<Generation, Error> {
        let _changing = self.begin_change()?;
        let current = self.published.load_full();
        let loaded = paths.iter().map(|path| load(path, self.context(&current, &[]))).collect::<Result<Vec<_>, _>>();
        let loaded = loaded.and_then(check_list).map_err(|problem| self.unchanged(problem))?;
        self.change(|_, generation| {
            Ok(loaded.into_iter().map(|loaded| Arc::new(AttachedObject::new(loaded, generation))).collect())
        })
    }

    /// Attaches one object beside the others.
    pub fn attach(&self, path: &Path, options: Options) -> Result<Attached, Error> {
        self.attach_with(path, options, &[])
    }

    /// Attaches one object, some of whose constants (`const volatile` variables) are set first. They hold for this load.
    pub fn attach_with(
        &self,
        path: &Path,
        options: Options,
        parameters: &[(String, Parameter)],
    ) -> Result<Attached, Error> {
        let _changing = self.begin_change()?;
        let current = self.published.load_full();
        let loaded = load(path, self.context(&current, parameters));
        let loaded = loaded.map_err(|problem| self.unchanged(problem))?;
        let name = loaded.name.clone();
        let hooks: Vec<Hook> = loaded.programs.iter().map(|loaded| loaded.program.hook()).collect();
        let mut displaced = Vec::new();
        let generation = self.change(|current, generation| {
            let (leave, mut stay): (Vec<_>, Vec<_>) = current
                .objects
                .iter()
                .cloned()
                .partition(|object| object.name == name || object.hooks().any(|hook| hooks.contains(&hook)));
            if let (Some(holder), false) = (leave.first(), options.replace) {
                return Err(conflict(path, &name, &hooks, holder));
            }
            displaced = leave.iter().map(|object| object.name.clone()).collect();
            stay.push(Arc::new(AttachedObject::new(loaded, generation)));
            Ok(stay)
        })?;
        Ok(Attached { generation, name, hooks, displaced })
    }

    /// Detaches the object of that name.
    pub fn detach(&self, name: &str) -> Result<Generation, Error> {
        let _changing = self.begin_change()?;
        self.change(|current, _| match current.by_name(name) {
            None => Err(Problem::NotAttached { name: name.to_owned() }),
            Some(_) => Ok(current.objects.iter().filter(|object| object.name != name).cloned().collect()),
        })
    }

    /// Detaches the object that has a program for a hook, with all its programs. Its name.
    pub fn detach_hook(&self, hook: Hook) -> Result<(String, Generation), Error> {
        let _changing = self.begin_change()?;
        let mut name = String::new();
        let generation = self.change(|current, _| {
            let (holder, _) = current.on(hook).ok_or(Problem::NothingOn { hook })?;
            name.clone_from(&holder.name);
            Ok(current.objects.iter().filter(|object| object.name != name).cloned().collect())
        })?;
        Ok((name, generation))
    }

    pub fn detach_all(&self) -> Result<Generation, Error> {
        let _changing = self.begin_change()?;
        self.change(|_, _| Ok(Vec::new()))
    }

    /// The most that one call of any program may cost, in instructions, where its hook's own ceiling is not lower. It holds for
    /// programs that are loaded from now on.
    pub fn set_cost_ceiling(&self, most: u64) {
        crate::verifier::limit_cost(most);
    }

    /// Reads, checks and compiles an object, and attaches nothing.
    pub fn verify(&self, path: &Path) -> Result<Report, Error> {
        let loaded = self.load_apart(path)?;
        let programs = loaded.programs.iter().map(|loaded| {
            let text = loaded.program.text();
            ProgramReport {
                symbol: text.symbol.clone(),
                section: text.section.clone(),
                hook: text.hook,
                optional: text.optional,
                tag: loaded.tag.clone(),
                instructions: text.insns.len(),
                worst_cost: loaded.program.facts().worst_cost,
                bytecode_bytes: text.bytecode_bytes(),
                jit_bytes: loaded.program.code().len(),
                memory_bytes: loaded.program.memory().size(),
                mixed: loaded.mixed,
                timings: loaded.timings,
            }
        });
        let programs = programs.collect();
        Ok(Report { name: loaded.name, path: loaded.path, license: loaded.object.license.clone(), programs })
    }

    /// Every hook, in the order of their numbers.
    pub fn points(&self) -> Vec<PointInfo> {
        let (set, counters) = (self.published.load_full(), self.counters());
        let point = |hook: Hook| {
            let attached = set.on(hook);
            PointInfo {
                hook,
                class: hook.class(),
                program: attached.map(|(object, _)| object.name.clone()),
                generation: attached.map_or(Generation(0), |(_, program)| program.generation),
                counts: counters[hook.index()].into(),
            }
        };
        Hook::ALL.into_iter().map(point).collect()
    }

    /// Every attached program, by hook.
    pub fn programs(&self) -> Vec<ProgramInfo> {
        let (set, counters) = (self.published.load_full(), self.counters());
        let attached = Hook::ALL.into_iter().filter_map(|hook| set.on(hook));
        attached.map(|(object, program)| program_info(object, program, &counters[program.hook().index()])).collect()
    }

    /// Times a sample of calls while on.
    pub fn set_sampling(&self, on: bool) {
        if let Some(set_sampling) = self.host.set_sampling {
            // SAFETY: the host's functions may be called from any thread (abi.h).
            unsafe { set_sampling(u32::from(on)) };
        }
    }

    /// The tags that queries have had: what `SET hook_tag` said, and comments. Programs know them by their numbers.
    pub fn tags(&self) -> Vec<(u32, String)> {
        let mut text = [0; 64];
        (1..)
            .map_while(|tag| match self.env.tag_text(tag, &mut text) {
                0 => None,
                bytes => Some((tag, String::from_utf8_lossy(&text[..bytes]).into_owned())),
            })
            .collect()
    }

    /// A line for DuckDB's log, as programs write them. It is cut where it is long, and lost where there are too many.
    pub fn log(&self, line: &str) {
        self.env.log(line);
    }

    /// What this runtime stands on: its build and its carrier.
    pub fn host(&self) -> &'static duckbpf_host {
        self.host
    }

    /// Objects that are detached, but still pinned by queries.
    pub fn retired(&self) -> usize {
        let retired = self.lock().retired.len();
        // A pin may have gone while the lock was taken here.
        self.reclaim_if_asked();
        retired
    }

    fn lock(&self) -> MutexGuard<'_, Control> {
        // A panic cannot leave a change half-done: publication is one store.
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn context<'a>(&'a self, current: &'a HookSet, parameters: &'a [(String, Parameter)]) -> load::Context<'a> {
        let gallery = self.gallery.get().copied();
        load::Context { env: self.env, store: &self.store, gallery, current, parameters, optional: false }
    }

    fn begin_change(&self) -> Result<MutexGuard<'_, ()>, Error> {
        // Before the lock: a thread that held it in the parent is not here to give it back.
        if self.owner != process::id() {
            return Err(Problem::Forked.into());
        }
        // It guards nothing that a panic could leave half-done.
        Ok(self.changing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn unchanged(&self, problem: Problem) -> Error {
        refused(problem, &self.published.load().names())
    }

    /// Publishes what `next` makes of the current set, for the generation it is given.
    fn change(
        &self,
        next: impl FnOnce(&HookSet, Generation) -> Result<Vec<Arc<AttachedObject>>, Problem>,
    ) -> Result<Generation, Error> {
        let mut control = self.lock();
        let current = self.published.load_full();
        let generation = Generation(current.generation.0 + 1);
        let result = next(&current, generation).and_then(|objects| {
            let next = Arc::new(HookSet::new(generation, objects));
            self.publish(&mut control, &current, next)
        });
        drop(control);
        self.reclaim_if_asked();
        result.map(|()| generation).map_err(|problem| refused(problem, &current.names()))
    }

    fn publish(&self, control: &mut Control, current: &Arc<HookSet>, next: Arc<HookSet>) -> Result<(), Problem> {
        let is_new = |program: &&AttachedProgram| program.generation == next.generation;
        let new = || next.objects.iter().flat_map(|object| &object.programs).filter(is_new);
        let counters = self.counters();
        for program in new() {
            // A program is published once, so the cell is empty.
            let _ = program.baseline.set(counters[program.hook().index()]);
        }
        self.watch_blocks();
        let start = Instant::now();
        // SAFETY: the set and its programs are kept: by `published`, then until synchronize() has returned by `current`, then
        // by `retired` while they are pinned.
        let code = self.host.publish.map_or(abi::DUCKBPF_ERROR_VERSION, |publish| unsafe { publish(next.as_raw()) });
        match code {
            code if code == abi::DUCKBPF_OK as i32 => {}
            abi::DUCKBPF_ERROR_FORKED => return Err(Problem::Forked),
            code => return Err(Problem::Host(code)),
        }
        let took = start.elapsed().as_nanos() as u64;
        for program in new() {
            program.publish_ns.store(took, Ordering::Relaxed);
        }
        probes::swap(next.generation.0, next.objects.iter().map(|object| object.programs.len()).sum(), took);
        let gone = current.objects.iter().filter(|object| !next.objects.iter().any(|stays| Arc::ptr_eq(stays, object)));
        control.retired.extend(gone.cloned());
        self.published.store(Arc::clone(&next));
        self.grace.wait();
        self.store.pin(next.objects.iter().flat_map(|object| object.bindings.maps().cloned()));
        control.reclaim();
        if let Some(forgotten) = self.store.forget_blocks() {
            self.watch_blocks();
            self.grace.wait();
            drop(forgotten);
        }
        Ok(())
    }

    fn watch_blocks(&self) {
        if let Some(watch_blocks) = self.host.watch_blocks {
            // SAFETY: the host's functions may be called from any thread (abi.h).
            unsafe { watch_blocks(u32::from(self.store.watches_blocks())) };
        }
    }

    /// Frees what has lost its last pin, unless somebody else is at it: they look again when they are done.
    fn reclaim_if_asked(&self) {
        while self.unpinned.load(Ordering::Acquire) {
            match self.control.try_lock() {
                Ok(mut control) => {
                    self.unpinned.store(false, Ordering::Release);
                    control.reclaim();
                }
                Err(TryLockError::Poisoned(poisoned)) => {
                    self.unpinned.store(false, Ordering::Release);
                    poisoned.into_inner().reclaim();
                }
                Err(TryLockError::WouldBlock) => return,
            }
        }
    }

    fn counters(&self) -> [duckbpf_hook_counters; Hook::COUNT] {
        let mut counters = [duckbpf_hook_counters::default(); Hook::COUNT];
        if let Some(read_counters) = self.host.read_counters {
            // SAFETY: the array has an entry for each hook, as abi.h demands.
            unsafe { read_counters(counters.as_mut_ptr()) };
        }
        counters
    }
}

impl Control {
    fn reclaim(&mut self) {
        self.retired.retain(|object| object.is_pinned());
    }
}

fn check_versions(host: &duckbpf_host) -> Result<(), Problem> {
    let expected = abi::DUCKBPF_HOST_VERSION;
    if host.version != expected || (host.size as usize) < size_of::<duckbpf_host>() {
        return Err(Problem::Version { found: host.version, expected });
    }
    let expected = abi::DUCKBPF_ABI_VERSION;
    if host.abi != expected { Err(Problem::Version { found: host.abi, expected }) } else { Ok(()) }
}

fn refused(problem: Problem, in_force: &str) -> Error {
    let error = Error::while_in_force(problem, in_force);
    probes::refusal(&error.to_string());
    error
}

/// Objects that are to be attached together must not want the same hook, or have the same name.
fn check_list(list: Vec<Loaded>) -> Result<Vec<Loaded>, Problem> {
    for (index, second) in list.iter().enumerate() {
        let path = second.path.clone();
        for first in &list[..index] {
            if first.name == second.name {
                return Err(Problem::SameName { path, name: first.name.clone() });
            }
            let hooks =
                |loaded: &Loaded| loaded.programs.iter().map(|loaded| loaded.program.hook()).collect::<Vec<_>>();
            if let Some(hook) = hooks(second).into_iter().find(|hook| hooks(first).contains(hook)) {
                return Err(Problem::Twice { path, hook, first: first.name.clone(), name: second.name.clone() });
            }
        }
    }
    Ok(list)
}

fn conflict(path: &Path, name: &str, hooks: &[Hook], holder: &AttachedObject) -> Problem {
    let path = path.to_owned();
    match holder.hooks().find(|hook| hooks.contains(hook)) {
        Some(hook) if holder.name != name => Problem::Taken { path, hook, holder: holder.name.clone() },
        _ => Problem::NameTaken { path, name: name.to_owned() },
    }
}

fn program_info(object: &AttachedObject, program: &AttachedProgram, now: &duckbpf_hook_counters) -> ProgramInfo {
    let text = program.program.text();
    let then = program.baseline.get().copied().unwrap_or_default();
    ProgramInfo {
        id: program.id,
        loaded_at: program.loaded_at,
        instructions: text.insns.len(),
        name: object.name.clone(),
        path: object.path.clone(),
        symbol: text.symbol.clone(),
        tag: program.tag.clone(),
        hook: program.hook(),
        generation: program.generation,
        counts: Counts::from(*now).since(then.into()),
        bytecode_bytes: text.bytecode_bytes(),
        jit_bytes: program.program.code().len(),
        memory_bytes: program.program.memory().size(),
        mixed: program.mixed,
        worst_cost: program.program.facts().worst_cost,
        timings: Timings { publish_ns: program.publish_ns.load(Ordering::Relaxed), ..program.timings },
    }
}

// SAFETY: the host table is immutable, lives as long as the process, and its functions may be called from any thread (abi.h).
unsafe impl Send for Runtime {}
// SAFETY: as above.
unsafe impl Sync for Runtime {}
