//! What an error of this crate's own says of what is still in force; the runtime's errors say it themselves.

use duckbpf_runtime::Runtime;
use duckdb_neo::Error;

/// An error with the programs that stay attached.
pub fn refused(runtime: &Runtime, reason: &str) -> Error {
    let mut names: Vec<String> = runtime.programs().into_iter().map(|program| program.name).collect();
    names.dedup();
    let names = if names.is_empty() { "no program".to_owned() } else { names.join(", ") };
    Error::invalid_input(format!("{reason}\nNothing was changed; attached as before: {names}."))
}
