//! The functions: what is attached, what it did, and changes to it.

use crate::startup;
use crate::table::register as register_table;
use duckdb_neo::Result;
use duckdb_neo::extension::Extension;
pub use maps::{key_type, value_type};

mod change;
mod create;
mod look;
mod maps;
mod programs;

/// Registers the functions in the instance that loads the extension.
pub fn register(extension: &Extension) -> Result<()> {
    register_table(extension, look::Points)?;
    register_table(extension, look::Programs)?;
    register_table(extension, change::Attach)?;
    register_table(extension, change::Detach)?;
    register_table(extension, change::Verify)?;
    register_table(extension, programs::Run)?;
    register_table(extension, programs::Disassembly)?;
    register_table(extension, startup::HookStartup)?;
    register_table(extension, maps::Maps)?;
    register_table(extension, maps::MapEntries)?;
    register_table(extension, maps::Events)?;
    register_table(extension, look::Tags)?;
    register_table(extension, create::MapCreate)?;
    register_table(extension, maps::MapUpdate)?;
    register_table(extension, maps::MapDelete)?;
    register_table(extension, maps::MapUnpin)
}
