//! The loadable extension: what a SQL user sees of duckbpf.
//!
//! `LOAD duckbpf` puts the graft, which this library carries in itself, into the DuckDB that loads it, starts the runtime
//! and registers settings and functions. Everything else is translation: SQL values into calls of the runtime, its
//! answers into rows, its errors into SQL errors.
//!
//! The library is shared by all database instances of the process, and so is the set of attached programs; an instance
//! has only the values of its settings. Every callback runs under [`guard`], since a panic that reaches DuckDB would
//! invalidate the database.

mod access;
mod engine;
mod exit;
mod functions;
mod gallery;
mod guard;
mod json;
mod measure;
mod paths;
mod report;
mod sampling;
mod settings;
mod shape;
mod sizes;
mod socket;
mod startup;
mod table;

use duckdb_loadable_macros::duckdb_entrypoint_c_api_v2;
use duckdb_neo::extension::Extension;

#[duckdb_entrypoint_c_api_v2(extension_name = "duckbpf", api_version = "v2.0.0")]
fn entrypoint(extension: &Extension) -> duckdb_neo::Result<()> {
    guard::guard(|| {
        engine::start()?;
        settings::register(extension)?;
        functions::register(extension)
    })
}
