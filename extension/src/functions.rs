//! The functions: what is attached, what it did, and changes to it.

use crate::engine::runtime;
use crate::table::{Kind, Row, Table, register as register_table};
use duckdb_neo::Result;
use duckdb_neo::bind_arguments::BindArgument;
use duckdb_neo::connection::Context;
use duckdb_neo::extension::Extension;

/// Registers the functions in the instance that loads the extension.
pub fn register(extension: &Extension) -> Result<()> {
    register_table(extension, Programs)
}

struct Programs;

impl Table for Programs {
    type Arguments = ();

    const NAME: &'static str = "hook_programs";
    const DESCRIPTION: &'static str = "The attached programs, what they did and what loading them took";
    const EXAMPLE: &'static str = "FROM hook_programs();";
    const COLUMNS: &'static [(&'static str, Kind)] = &[("name", Kind::Text), ("n", Kind::Number), ("c", Kind::Counts)];

    fn arguments(_arguments: &[BindArgument]) -> Result<()> {
        Ok(())
    }

    fn rows(_arguments: &(), _context: &Context) -> Result<Vec<Row>> {
        Ok(runtime()?
            .programs()
            .into_iter()
            .map(|program| {
                vec![program.name.into(), 7.into(), crate::table::Cell::Counts(vec![("a".into(), 1), ("b".into(), 2)])]
            })
            .collect())
    }
}
