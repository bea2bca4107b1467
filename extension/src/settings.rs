//! The settings: `hook_program`, which is the set of attached programs, and `hook_sampling`.
//!
//! Both steer the process, so they have no session scope. DuckDB itself honours `lock_configuration` for them.

use crate::engine::runtime;
use crate::guard::guard;
use crate::{access, paths, report};
use duckbpf_runtime::DEFAULT_MAP_MEMORY;
use duckdb_neo::connection::{Context, SettingScope};
use duckdb_neo::custom_option::{CustomOptionBuilder, CustomOptionCallbacks};
use duckdb_neo::extension::Extension;
use duckdb_neo::value::Value;
use duckdb_neo::{DuckDBType, Error, FromValue, Result, ToValue};

/// Registers the settings in the instance that loads the extension.
pub fn register(extension: &Extension) -> Result<()> {
    CustomOptionBuilder::new(
        "hook_program",
        "Paths of the BPF objects that steer DuckDB, separated by commas: exactly these, all or none, read anew at each \
         SET. Empty, NULL or RESET detaches all",
        String::logical_type(extension)?,
        HookProgram,
    )
    .no_session()
    .default_value("".value(extension)?)
    .register(extension)?;

    CustomOptionBuilder::new(
        "hook_sampling",
        "Times one call of a program in 64, shown by hook_programs(); off, programs are not timed",
        bool::logical_type(extension)?,
        HookSampling,
    )
    .no_session()
    .default_value(false.value(extension)?)
    .register(extension)?;

    CustomOptionBuilder::new(
        "hook_map_memory",
        "Bytes that the maps of all programs may take together. Maps that exist stay, whatever they take",
        u64::logical_type(extension)?,
        HookMapMemory,
    )
    .no_session()
    .default_value(DEFAULT_MAP_MEMORY.value(extension)?)
    .register(extension)
}

struct HookProgram;

impl CustomOptionCallbacks for HookProgram {
    fn update(&self, context: &Context, value: Value, _scope: SettingScope, is_reset: bool) -> Result<Value> {
        guard(|| {
            let list = if is_reset { None } else { String::from_value(&value)? };
            let runtime = runtime()?;
            let paths = paths::split(list.as_deref().unwrap_or_default())
                .map_err(|reason| report::refused(runtime, &format!("hook_program: {reason}")))?;
            if !paths.is_empty() {
                access::require_files(context, "hook_program")?;
            }
            runtime.replace(&paths).map_err(|error| Error::invalid_input(error.to_string()))?;
            // NULL detaches as '' does, and reads as ''.
            list.map_or_else(|| "".value(context), |_| Ok(value))
        })
    }
}

struct HookMapMemory;

impl CustomOptionCallbacks for HookMapMemory {
    fn update(&self, context: &Context, value: Value, _scope: SettingScope, is_reset: bool) -> Result<Value> {
        guard(|| {
            let asked = if is_reset { None } else { u64::from_value(&value)? };
            let bytes = asked.unwrap_or(DEFAULT_MAP_MEMORY);
            runtime()?.set_map_memory(bytes);
            bytes.value(context)
        })
    }
}

struct HookSampling;

impl CustomOptionCallbacks for HookSampling {
    fn update(&self, context: &Context, value: Value, _scope: SettingScope, _is_reset: bool) -> Result<Value> {
        guard(|| {
            let on = bool::from_value(&value)?.unwrap_or(false);
            runtime()?.set_sampling(on);
            on.value(context)
        })
    }
}
