//! hook_points() and hook_programs(): what is attached and what it did.

use crate::engine::{self, runtime};
use crate::table::{Cell, Kind, Row, Table};
use duckbpf_runtime::{PointInfo, ProgramInfo, Refusals};
use duckdb_neo::Result;
use duckdb_neo::bind_arguments::BindArgument;
use duckdb_neo::connection::Context;

pub struct Points;

impl Table for Points {
    type Arguments = ();

    const NAME: &'static str = "hook_points";
    const DESCRIPTION: &'static str =
        "The hookpoints of this process: which program is attached to each, and what programs did there since it began";
    const EXAMPLE: &'static str = "FROM hook_points();";
    const COLUMNS: &'static [(&'static str, Kind)] = &[
        ("hook", Kind::Text),
        ("class", Kind::Text),
        ("carrier", Kind::Text),
        ("program", Kind::Text),
        ("generation", Kind::Number),
        ("calls", Kind::Number),
        ("applied", Kind::Number),
        ("refused", Kind::Number),
        ("refusals", Kind::Counts),
        ("keys", Kind::Number),
    ];

    fn arguments(_arguments: &mut [BindArgument]) -> Result<()> {
        Ok(())
    }

    fn rows(_arguments: &(), _context: &Context) -> Result<Vec<Row>> {
        let runtime = runtime()?;
        let carrier = engine::carrier(runtime);
        Ok(runtime.points().into_iter().map(|point| point_row(point, carrier)).collect())
    }
}

fn point_row(point: PointInfo, carrier: &str) -> Row {
    vec![
        point.hook.name().into(),
        point.class.name().into(),
        carrier.into(),
        Cell::Text(point.program),
        point.generation.0.into(),
        point.calls.into(),
        point.applied.into(),
        point.refused.total().into(),
        refusals(&point.refused),
        point.keys.into(),
    ]
}

pub struct Programs;

impl Table for Programs {
    type Arguments = ();

    const NAME: &'static str = "hook_programs";
    const DESCRIPTION: &'static str =
        "The attached programs: what they did since they were attached, their sizes, and what loading them took";
    const EXAMPLE: &'static str = "FROM hook_programs();";
    const COLUMNS: &'static [(&'static str, Kind)] = &[
        ("name", Kind::Text),
        ("path", Kind::Text),
        ("entry", Kind::Text),
        ("tag", Kind::Text),
        ("hook", Kind::Text),
        ("generation", Kind::Number),
        ("calls", Kind::Number),
        ("applied", Kind::Number),
        ("refused", Kind::Number),
        ("refusals", Kind::Counts),
        ("keys", Kind::Number),
        ("timed_calls", Kind::Number),
        ("timed_ns", Kind::Number),
        ("bytecode_bytes", Kind::Number),
        ("machine_code_bytes", Kind::Number),
        ("worst_cost", Kind::Number),
        ("read_ns", Kind::Number),
        ("parse_ns", Kind::Number),
        ("check_ns", Kind::Number),
        ("compile_ns", Kind::Number),
        ("quality_ns", Kind::Number),
        ("publish_ns", Kind::Number),
    ];

    fn arguments(_arguments: &mut [BindArgument]) -> Result<()> {
        Ok(())
    }

    fn rows(_arguments: &(), _context: &Context) -> Result<Vec<Row>> {
        Ok(runtime()?.programs().into_iter().map(program_row).collect())
    }
}

fn program_row(program: ProgramInfo) -> Row {
    let timings = program.timings;
    vec![
        program.name.into(),
        program.path.display().to_string().into(),
        program.symbol.into(),
        program.tag.into(),
        program.hook.name().into(),
        program.generation.0.into(),
        program.calls.into(),
        program.applied.into(),
        program.refused.total().into(),
        refusals(&program.refused),
        program.keys.into(),
        program.timed_calls.into(),
        program.timed_ns.into(),
        program.bytecode_bytes.into(),
        program.jit_bytes.into(),
        program.worst_cost.into(),
        timings.read_ns.into(),
        timings.parse_ns.into(),
        timings.check_ns.into(),
        timings.compile_ns.into(),
        timings.quality_ns.into(),
        timings.publish_ns.into(),
    ]
}

/// Only the reasons that occurred.
fn refusals(refused: &Refusals) -> Cell {
    Cell::Counts(refused.iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count)).collect())
}
