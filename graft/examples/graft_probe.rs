//! What tests/wheel.py loads into Python: this crate, called as an extension would call it, inside an official wheel's process.
//!
//! Every function returns a JSON document, `{"error": "..."}` for failures. The string stays valid until the next call.

use duckbpf_abi::*;
use duckbpf_graft::{Installed, install, recognise};
use serde_json::{Value, json};
use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::Mutex;

static ANSWER: Mutex<Option<CString>> = Mutex::new(None);
static INSTALLED: Mutex<Option<Installed>> = Mutex::new(None);

fn answer(value: Value) -> *const c_char {
    let text = CString::new(value.to_string()).expect("JSON escapes NUL");
    ANSWER.lock().unwrap().insert(text).as_ptr()
}

fn failure(error: impl std::fmt::Display) -> Value {
    json!({ "error": error.to_string() })
}

fn with_host(use_it: impl FnOnce(&'static duckbpf_host) -> Value) -> *const c_char {
    let host = INSTALLED.lock().unwrap().as_ref().map(|installed| installed.host);
    answer(host.map_or_else(|| failure("nothing is installed"), use_it))
}

#[unsafe(no_mangle)]
pub extern "C" fn probe_recognise() -> *const c_char {
    answer(match recognise(None) {
        Ok(build) => json!({ "build_id": build.build_id, "version": build.version, "source_id": build.source_id }),
        Err(error) => failure(error),
    })
}

/// Installs the image in the file.
///
/// # Safety
/// `path` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn probe_install(path: *const c_char) -> *const c_char {
    // SAFETY: promised by the caller.
    let path = unsafe { CStr::from_ptr(path) }.to_string_lossy().into_owned();
    answer(match std::fs::read(&path) {
        Err(error) => failure(error),
        Ok(image) => match install(&image, None) {
            Err(error) => failure(error),
            Ok(installed) => {
                let table = std::ptr::from_ref(installed.host).addr();
                let (slots, micros) = (installed.slots, installed.took.as_secs_f64() * 1e6);
                *INSTALLED.lock().unwrap() = Some(installed);
                json!({ "slots": slots, "took_us": micros, "table": table })
            }
        },
    })
}

/// What the slots hold now.
#[unsafe(no_mangle)]
pub extern "C" fn probe_slots() -> *const c_char {
    let installed = INSTALLED.lock().unwrap();
    let values = installed.iter().flat_map(Installed::slot_values);
    let values: Vec<_> = values.map(|(name, value)| json!([name, value])).collect();
    drop(installed);
    answer(json!(values))
}

/// Functions that are left to the host, and where its code is.
#[unsafe(no_mangle)]
pub extern "C" fn probe_stock_code() -> *const c_char {
    let installed = INSTALLED.lock().unwrap();
    let code = installed.iter().flat_map(Installed::stock_code);
    let code: Vec<_> = code.map(|(symbol, address)| json!([symbol.to_str().unwrap(), address])).collect();
    drop(installed);
    answer(json!(code))
}

/// Lets go of the graft and writes the host's functions back.
#[unsafe(no_mangle)]
pub extern "C" fn probe_undo() -> *const c_char {
    let installed = INSTALLED.lock().unwrap().take();
    answer(match installed.map(Installed::undo) {
        None => failure("nothing is installed"),
        Some(Err(error)) => failure(error),
        Some(Ok(())) => json!({}),
    })
}

/// Attaches a native function to every hook. Each leaves the decision to stock; hash hashes.
#[unsafe(no_mangle)]
pub extern "C" fn probe_attach() -> *const c_char {
    with_host(|host| {
        let programs = std::array::from_fn(|hook| {
            let is_hash = hook == DUCKBPF_HOOK_HASH as usize;
            let program = duckbpf_program {
                entry: Some(leave_to_stock),
                hash_batch: if is_hash { Some(hash_batch) } else { None },
                generation: 1,
                hash_types: u64::MAX,
                hook: hook as u32,
                ..Default::default()
            };
            std::ptr::from_mut(Box::leak(Box::new(program)))
        });
        let set: &duckbpf_set = Box::leak(Box::new(duckbpf_set { generation: 1, programs }));
        let runtime: &duckbpf_runtime = Box::leak(Box::new(duckbpf_runtime {
            version: DUCKBPF_HOST_VERSION,
            unpinned: Some(ignore),
            ..Default::default()
        }));
        let (Some(register), Some(publish)) = (host.register_runtime, host.publish) else {
            return failure("the host's table has holes");
        };
        // SAFETY: all three are leaked, hence live and unchanged for as long as the process.
        let statuses = unsafe { [register(runtime), publish(set)] };
        json!({ "statuses": statuses })
    })
}

/// Calls so far, by hook.
#[unsafe(no_mangle)]
pub extern "C" fn probe_calls() -> *const c_char {
    with_host(|host| {
        let mut counters = [duckbpf_hook_counters::default(); DUCKBPF_HOOK_COUNT as usize];
        let Some(read) = host.read_counters else { return failure("the host's table has holes") };
        // SAFETY: room for one record of each hook.
        unsafe { read(counters.as_mut_ptr()) };
        json!(counters.map(|counter| counter.calls))
    })
}

unsafe extern "C" fn leave_to_stock(_context: *mut c_void) -> u64 {
    0
}

unsafe extern "C" fn ignore() {}

unsafe extern "C" fn hash_batch(batch: *const duckbpf_hash_batch) {
    // SAFETY: the host passes a valid batch (hook-shim/include/duckbpf/abi.h).
    let batch = unsafe { &*batch };
    let width = match batch.layout {
        DUCKBPF_KEYS_I8 | DUCKBPF_KEYS_U8 => 1,
        DUCKBPF_KEYS_I16 | DUCKBPF_KEYS_U16 => 2,
        DUCKBPF_KEYS_I32 | DUCKBPF_KEYS_U32 => 4,
        DUCKBPF_KEYS_64 => 8,
        DUCKBPF_KEYS_128 => 16,
        _ => size_of::<duckbpf_hash_ctx>(),
    };
    let count = batch.count as usize;
    // SAFETY: `count` keys of the layout's width, and as many results.
    let (keys, out) = unsafe {
        (
            std::slice::from_raw_parts(batch.keys.cast::<u8>(), count * width),
            std::slice::from_raw_parts_mut(batch.out, count),
        )
    };
    for (key, out) in keys.chunks_exact(width).zip(out) {
        // Of a context, the first 16 bytes hold the beginning of the string.
        *out = key
            .iter()
            .take(16)
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    }
}
