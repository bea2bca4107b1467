//! The settings: `hook_program`, which is the set of attached programs, and those beside it.
//!
//! All but `hook_tag` steer the process, so they have no session scope. DuckDB itself honours `lock_configuration` for them.

use crate::engine::runtime;
use crate::guard::guard;
use crate::{access, paths, report, sampling, sizes, socket};
use duckbpf_runtime::{DEFAULT_COST_CEILING, DEFAULT_MAP_MEMORY, is_gallery_name};
use duckdb_neo::connection::{Context, SettingScope};
use duckdb_neo::custom_option::{CustomOptionBuilder, CustomOptionCallbacks};
use duckdb_neo::extension::Extension;
use duckdb_neo::value::Value;
use duckdb_neo::{DuckDBType, Error, FromValue, Result, ToValue};
use std::path::Path;

/// Registers the settings in the instance that loads the extension.
pub fn register(extension: &Extension) -> Result<()> {
    CustomOptionBuilder::new(
        "hook_program",
        "The BPF objects that steer DuckDB, paths or names of the gallery, separated by commas: exactly these, all or none, \
         read anew at each SET. Empty, NULL or RESET detaches all",
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
        "hook_tag",
        "What this connection's queries are called: programs and tables see it. A comment /*tag='...'*/ in a statement counts more",
        String::logical_type(extension)?,
        HookTag,
    )
    .default_value("".value(extension)?)
    .register(extension)?;

    CustomOptionBuilder::new(
        "hook_socket",
        "Path of a Unix socket through which the duckbpf command reaches this process, made with mode 0600. Empty, NULL or RESET \
         closes it",
        String::logical_type(extension)?,
        HookSocket,
    )
    .no_session()
    .default_value("".value(extension)?)
    .register(extension)?;

    CustomOptionBuilder::new(
        "hook_map_memory",
        "Memory that the maps of all programs may take together (e.g. 1GB). Maps that exist stay, whatever they take",
        String::logical_type(extension)?,
        HookMapMemory,
    )
    .no_session()
    .default_value(sizes::write(DEFAULT_MAP_MEMORY).value(extension)?)
    .register(extension)?;

    CustomOptionBuilder::new(
        "hook_cost_ceiling",
        "Instructions that one call of a program may cost, helpers included; hooks whose own ceiling is lower keep it. For \
         programs that are loaded from now on",
        u64::logical_type(extension)?,
        HookCostCeiling,
    )
    .no_session()
    .default_value(DEFAULT_COST_CEILING.value(extension)?)
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
            if !paths.iter().all(|path| is_gallery_name(path)) {
                access::require_files(context, "hook_program")?;
            }
            runtime.replace(&paths).map_err(|error| Error::invalid_input(error.to_string()))?;
            // NULL detaches as '' does, and reads as ''.
            list.map_or_else(|| "".value(context), |_| Ok(value))
        })
    }
}

/// Read where a query begins (hook-shim/tags.cpp).
struct HookTag;

/// Bytes, as in hook-shim/tags.cpp.
const MAX_TAG: usize = 63;

impl CustomOptionCallbacks for HookTag {
    fn update(&self, context: &Context, value: Value, _scope: SettingScope, is_reset: bool) -> Result<Value> {
        guard(|| {
            let tag = if is_reset { None } else { String::from_value(&value)? }.unwrap_or_default();
            if tag.len() > MAX_TAG {
                return Err(Error::invalid_input(format!("hook_tag has at most {MAX_TAG} bytes, not {}", tag.len())));
            }
            tag.value(context)
        })
    }
}

struct HookSocket;

impl CustomOptionCallbacks for HookSocket {
    fn update(&self, context: &Context, value: Value, _scope: SettingScope, is_reset: bool) -> Result<Value> {
        guard(|| {
            let path = if is_reset { None } else { String::from_value(&value)? }.filter(|path| !path.is_empty());
            if path.is_some() {
                access::require_files(context, "hook_socket")?;
            }
            socket::open(path.as_deref().map(Path::new)).map_err(|refusal| {
                let path = path.as_deref().unwrap_or_default();
                Error::invalid_input(format!("hook_socket: {path}: {refusal}\nNothing was changed"))
            })?;
            path.unwrap_or_default().value(context)
        })
    }
}

struct HookMapMemory;

impl CustomOptionCallbacks for HookMapMemory {
    fn update(&self, context: &Context, value: Value, _scope: SettingScope, is_reset: bool) -> Result<Value> {
        guard(|| {
            let asked = if is_reset { None } else { String::from_value(&value)? };
            let bytes = asked.map_or(Ok(DEFAULT_MAP_MEMORY), |text| sizes::parse("hook_map_memory", &text))?;
            runtime()?.set_map_memory(bytes);
            sizes::write(bytes).value(context)
        })
    }
}

struct HookCostCeiling;

impl CustomOptionCallbacks for HookCostCeiling {
    fn update(&self, context: &Context, value: Value, _scope: SettingScope, is_reset: bool) -> Result<Value> {
        guard(|| {
            let asked = if is_reset { None } else { u64::from_value(&value)? };
            let most = asked.unwrap_or(DEFAULT_COST_CEILING).min(DEFAULT_COST_CEILING);
            runtime()?.set_cost_ceiling(most);
            most.value(context)
        })
    }
}

struct HookSampling;

impl CustomOptionCallbacks for HookSampling {
    fn update(&self, context: &Context, value: Value, _scope: SettingScope, _is_reset: bool) -> Result<Value> {
        guard(|| {
            let on = bool::from_value(&value)?.unwrap_or(false);
            sampling::set(on)?;
            on.value(context)
        })
    }
}
