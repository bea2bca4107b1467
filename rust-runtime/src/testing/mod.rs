//! A host without a database, for tests: what abi.h describes, in a hundred lines.
//!
//! There is one per process, as there is one runtime. [`MockHost::lock`] gives it to one test at a time, with nothing
//! attached.

pub mod asm;
mod bytecode;
pub mod clang;
pub mod corpus;
pub mod fuzz;
#[cfg(test)]
mod kernel;
#[cfg(feature = "planted")]
pub mod planted;
#[cfg(test)]
mod prevail;
#[cfg(test)]
pub(crate) mod programs;
#[cfg(test)]
mod vague;

/// Maps without programs.
pub mod maps {
    pub use crate::maps::{Body, Map, memory::Budget, reclaim::Reclaimer};
}

use std::{
    ffi::c_void,
    ptr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering},
    },
    thread,
};

use duckbpf_abi::{
    self as abi, duckbpf_hash_batch, duckbpf_hook_counters, duckbpf_host, duckbpf_origin, duckbpf_program,
    duckbpf_runtime, duckbpf_set,
};

pub use crate::helpers::SUM;
use crate::{Hook, Runtime};
pub use bytecode::{Bytecode, Checked, Compiled};

const THREADS: usize = 64;

static SET: AtomicPtr<duckbpf_set> = AtomicPtr::new(ptr::null_mut());
static RUNTIME: AtomicPtr<duckbpf_runtime> = AtomicPtr::new(ptr::null_mut());
/// One word a thread: 0, or the number of the call it is in.
static EPOCHS: [AtomicU64; THREADS] = [const { AtomicU64::new(0) }; THREADS];
static NEXT_THREAD: AtomicU32 = AtomicU32::new(0);
static CALLS: [AtomicU64; Hook::COUNT] = [const { AtomicU64::new(0) }; Hook::COUNT];
static SAMPLING: AtomicU32 = AtomicU32::new(0);
static FAILED_HELPERS: AtomicU64 = AtomicU64::new(0);
static FAIL_PUBLISH: AtomicU32 = AtomicU32::new(0);

struct Shared(duckbpf_host);

// SAFETY: nothing in it changes, and its strings are constants.
unsafe impl Sync for Shared {}

static HOST: Shared = Shared(duckbpf_host {
    version: abi::DUCKBPF_HOST_VERSION,
    size: size_of::<duckbpf_host>() as u32,
    carrier: abi::DUCKBPF_CARRIER_ENGINE,
    abi: abi::DUCKBPF_ABI_VERSION,
    duckdb_version: c"v2.0.0".as_ptr(),
    series: c"mock".as_ptr(),
    register_runtime: Some(register_runtime),
    publish: Some(publish),
    synchronize: Some(synchronize),
    read_counters: Some(read_counters),
    set_sampling: Some(set_sampling),
    current_origin: Some(current_origin),
    query_age_ns: Some(query_age_ns),
    helper_failed: Some(helper_failed),
    thread_index: Some(thread_index),
    engine_state: Some(engine_state),
    tag_text: Some(tag_text),
    account_memory: None,
    watch_blocks: None,
    measure: None,
    set_message: None,
    stock_symbols: std::ptr::null(),
    stock_code: std::ptr::null_mut(),
});

thread_local! {
    static THREAD: u32 = NEXT_THREAD.fetch_add(1, Ordering::Relaxed) % THREADS as u32;
}

unsafe extern "C" fn register_runtime(runtime: *const duckbpf_runtime) -> i32 {
    RUNTIME.store(runtime.cast_mut(), Ordering::Release);
    abi::DUCKBPF_OK as i32
}

unsafe extern "C" fn publish(set: *const duckbpf_set) -> i32 {
    if FAIL_PUBLISH.load(Ordering::Relaxed) != 0 {
        return abi::DUCKBPF_ERROR_FORKED;
    }
    SET.store(set.cast_mut(), Ordering::SeqCst);
    abi::DUCKBPF_OK as i32
}

unsafe extern "C" fn synchronize() {
    for epoch in &EPOCHS {
        let inside = epoch.load(Ordering::SeqCst);
        while inside != 0 && epoch.load(Ordering::SeqCst) == inside {
            thread::yield_now();
        }
    }
}

unsafe extern "C" fn read_counters(counters: *mut duckbpf_hook_counters) {
    for (index, calls) in CALLS.iter().enumerate() {
        let calls = calls.load(Ordering::Relaxed);
        // SAFETY: the caller gave an entry for each hook.
        unsafe { *counters.add(index) = duckbpf_hook_counters { calls, applied: calls, ..Default::default() } };
    }
}

unsafe extern "C" fn set_sampling(on: u32) {
    SAMPLING.store(on, Ordering::Relaxed);
}

unsafe extern "C" fn current_origin(origin: *mut duckbpf_origin) {
    // SAFETY: the caller gave a valid origin.
    unsafe { *origin = duckbpf_origin { thread_index: THREAD.with(|index| *index), ..Default::default() } };
}

unsafe extern "C" fn thread_index() -> u32 {
    THREAD.with(|index| *index)
}

/// A number that says what was asked.
unsafe extern "C" fn engine_state(what: u32, argument: u64) -> u64 {
    1000 * u64::from(what) + argument
}

/// The only tag is 1, and is called "mock".
unsafe extern "C" fn tag_text(tag: u32, text: *mut std::ffi::c_char, size: u64) -> u64 {
    let bytes = if tag == 1 { &b"mock"[..] } else { b"" };
    let bytes = &bytes[..bytes.len().min(size as usize)];
    // SAFETY: the caller gave `size` bytes.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), text.cast(), bytes.len()) };
    bytes.len() as u64
}

unsafe extern "C" fn query_age_ns() -> u64 {
    QUERY_AGE_NS
}

unsafe extern "C" fn helper_failed() {
    FAILED_HELPERS.fetch_add(1, Ordering::Relaxed);
}

/// The host's table.
pub fn host() -> &'static duckbpf_host {
    &HOST.0
}

/// What the mock answers to query_age_ns.
pub const QUERY_AGE_NS: u64 = 300_000_000;

/// The host, held by one test.
pub struct MockHost {
    pub runtime: &'static Runtime,
    _alone: MutexGuard<'static, ()>,
}

/// A query's hold on a program.
pub struct Pin(*mut duckbpf_program);

// SAFETY: a pinned program may be used from any thread.
unsafe impl Send for Pin {}

impl MockHost {
    pub fn lock() -> MockHost {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let runtime = Runtime::start(host()).expect("the mock is a proper host");
        runtime.detach_all().expect("the mock publishes");
        MockHost { runtime, _alone: alone }
    }

    /// Lets publish fail as in a forked process.
    pub fn fail_publish(&self, on: bool) {
        FAIL_PUBLISH.store(u32::from(on), Ordering::Relaxed);
    }

    pub fn is_sampling(&self) -> bool {
        SAMPLING.load(Ordering::Relaxed) != 0
    }

    /// A hookpoint: calls what is attached; None: stock.
    pub fn call<C>(&self, hook: Hook, context: &mut C) -> Option<u64> {
        call(hook, context)
    }

    /// What a query does at its begin.
    pub fn pin(&self, hook: Hook) -> Option<Pin> {
        inside(hook, |program| {
            // SAFETY: the epoch keeps the program; pins is atomic by contract.
            unsafe { AtomicU64::from_ptr(&raw mut (*program).pins) }.fetch_add(1, Ordering::SeqCst);
            Pin(program)
        })
    }
}

/// As many keys as there is room for hashes. `ty` is their type and its length in bytes (`duckbpf_hash_batch`, the ABI's header).
pub fn hash_batch<K>(keys: &[K], out: &mut [u64], layout: u32, ty: (u32, u32)) -> duckbpf_hash_batch {
    let (type_, len) = ty;
    let keys = keys.as_ptr().cast();
    duckbpf_hash_batch { keys, out: out.as_mut_ptr(), count: out.len() as u64, layout, type_, len, reserved: 0 }
}

/// How often a helper failed.
pub fn failed_helpers() -> u64 {
    FAILED_HELPERS.load(Ordering::Relaxed)
}

/// A hookpoint, from any thread.
pub fn call<C>(hook: Hook, context: &mut C) -> Option<u64> {
    CALLS[hook.index()].fetch_add(1, Ordering::Relaxed);
    inside(hook, |program| {
        // SAFETY: the epoch keeps the program; the context is of the hook's type, by the tests' care.
        unsafe { ((*program).entry.expect("every program has an entry"))(ptr::from_mut(context).cast::<c_void>()) }
    })
}

/// Runs with the program on a hook, inside an epoch.
fn inside<T>(hook: Hook, body: impl FnOnce(*mut duckbpf_program) -> T) -> Option<T> {
    let epoch = &EPOCHS[THREAD.with(|index| *index) as usize];
    static CALL: AtomicU64 = AtomicU64::new(1);
    epoch.store(CALL.fetch_add(1, Ordering::Relaxed), Ordering::SeqCst);
    // SAFETY: the set stays until synchronize() has seen this thread's epoch change.
    let set = unsafe { SET.load(Ordering::SeqCst).as_ref() };
    let program = set.map_or(ptr::null_mut(), |set| set.programs[hook.index()]);
    let result = (!program.is_null()).then(|| body(program));
    epoch.store(0, Ordering::SeqCst);
    result
}

impl Pin {
    pub fn generation(&self) -> u64 {
        // SAFETY: a pinned program stays.
        unsafe { (*self.0).generation }
    }

    pub fn flags(&self) -> u32 {
        // SAFETY: a pinned program stays.
        unsafe { (*self.0).flags }
    }

    pub fn hash_types(&self) -> u64 {
        // SAFETY: a pinned program stays.
        unsafe { (*self.0).hash_types }
    }

    pub fn call<C>(&self, context: &mut C) -> u64 {
        // SAFETY: a pinned program stays; the context is of its hook's type.
        unsafe { ((*self.0).entry.expect("every program has an entry"))(ptr::from_mut(context).cast()) }
    }

    pub fn hash_batch(&self, batch: &duckbpf_hash_batch) {
        // SAFETY: a pinned program stays; the batch is valid.
        unsafe { ((*self.0).hash_batch.expect("a hash program has a loop"))(batch) }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // SAFETY: a pinned program stays until this.
        let last = unsafe { AtomicU64::from_ptr(&raw mut (*self.0).pins) }.fetch_sub(1, Ordering::SeqCst) == 1;
        // SAFETY: the runtime's table is static.
        if let (true, Some(runtime)) = (last, unsafe { RUNTIME.load(Ordering::Acquire).as_ref() }) {
            let unpinned = runtime.unpinned.expect("the runtime listens");
            // SAFETY: called outside of any lock.
            unsafe { unpinned() };
        }
    }
}
