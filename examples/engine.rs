//! A program of its own with a hooked DuckDB in it: attaches a policy, swaps it while the database is open, looks at what it
//! did, detaches it.
//!
//! ```sh
//! cargo xtask engine && cargo xtask programs
//! DUCKDB_LIB_DIR=$PWD/target/engine/hooked/lib cargo run --features engine --example engine
//! ```

use std::path::Path;

use duckbpf::engine::{self, duckdb::Connection};
use duckbpf::{Options, Runtime};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gallery = std::env::args().nth(1).unwrap_or_else(|| "target/bpf".to_owned());
    let program = |name: &str| Path::new(&gallery).join(format!("{name}.bpf.o"));

    let (connection, hooks) = engine::open_in_memory()?;
    connection.execute_batch("CREATE TABLE t AS SELECT range AS i, range % 1000 * 1000003 AS k FROM range(1000000)")?;

    hooks.attach(&program("default_hash"), Options { replace: false })?;
    report(&connection, hooks)?;

    hooks.attach(&program("hash_wy"), Options { replace: true })?;
    report(&connection, hooks)?;

    hooks.detach("hash_wy")?;
    println!("attached: {}", hooks.programs().len());
    Ok(())
}

/// Runs a query and shows what the programs did meanwhile.
fn report(connection: &Connection, hooks: &Runtime) -> Result<(), Box<dyn std::error::Error>> {
    let groups: i64 =
        connection.query_row("SELECT count(*) FROM (SELECT k, sum(i) FROM t GROUP BY k)", [], |row| row.get(0))?;
    for program in hooks.programs() {
        let (name, hook, calls, keys) = (&program.name, program.hook.name(), program.counts.calls, program.counts.keys);
        println!("{groups} groups; {name} on {hook}: {calls} calls, {keys} keys");
    }
    Ok(())
}
