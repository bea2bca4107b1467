//! What tests/wheel.py loads into Python: this crate, called as an extension would call it, inside an official wheel's process.
//!
//! Every function returns a JSON document, `{"error": "..."}` for failures. The string stays valid until the next call.

use duckbpf_graft::{Installed, install, recognise};
use serde_json::{Value, json};
use std::ffi::{CStr, CString, c_char};
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

#[unsafe(no_mangle)]
pub extern "C" fn probe_recognise() -> *const c_char {
    answer(match recognise() {
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
        Ok(image) => match install(&image) {
            Err(error) => failure(error),
            Ok(installed) => {
                let values: Vec<_> = installed.slot_values().map(|(name, value)| json!([name, value])).collect();
                let table = std::ptr::from_ref(installed.host).addr();
                let (slots, micros) = (installed.slots, installed.took.as_secs_f64() * 1e6);
                // SAFETY: the table's strings are literals (hook-shim/include/duckbpf/abi.h).
                let series = unsafe { CStr::from_ptr(installed.host.series) }.to_string_lossy().into_owned();
                *INSTALLED.lock().unwrap() = Some(installed);
                json!({ "slots": slots, "took_us": micros, "values": values, "table": table, "series": series })
            }
        },
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn probe_undo() -> *const c_char {
    answer(match INSTALLED.lock().unwrap().take().map(Installed::undo) {
        None => failure("nothing is installed"),
        Some(Err(error)) => failure(error),
        Some(Ok(())) => json!({}),
    })
}
