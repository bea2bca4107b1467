//! What the database's own settings forbid.

use duckdb_neo::connection::Context;
use duckdb_neo::error::DuckDBError;
use duckdb_neo::{Error, FromValue, Result};

/// Refuses when the configuration is locked. SET is refused by DuckDB itself; functions that do the same must ask.
pub fn require_unlocked(context: &Context, what: &str) -> Result<()> {
    if is_on(context, "lock_configuration")? {
        return Err(Error::invalid_input(format!(
            "{what}: cannot change what is attached, the configuration has been locked"
        )));
    }
    Ok(())
}

/// Refuses to read files that SQL names where the database forbids that.
pub fn require_files(context: &Context, what: &str) -> Result<()> {
    if is_on(context, "enable_external_access")? {
        return Ok(());
    }
    Err(Error {
        code: DuckDBError::ConfigurationPermission,
        message: format!("{what}: programs are read from files, and file access is disabled (enable_external_access)"),
    })
}

fn is_on(context: &Context, setting: &str) -> Result<bool> {
    let (value, _scope) = context.config()?.get_value(setting)?;
    Ok(bool::from_value(&value)?.unwrap_or(false))
}
