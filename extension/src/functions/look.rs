//! hook_points(), hook_programs() and hook_tags(): what is attached, what it did, and what queries are called.

use crate::engine::{self, runtime};
use crate::table::{Cell, Kind, Row, Table};
use duckbpf_runtime::{Counts, PointInfo, ProgramInfo, Refusals};
use duckdb_neo::Result;
use duckdb_neo::bind_arguments::BindArgument;
use duckdb_neo::connection::Context;

pub struct Points;

impl Table for Points {
    type Arguments = ();
    type Rows = Vec<Row>;

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
    ];

    fn arguments(_arguments: &mut [BindArgument]) -> Result<()> {
        Ok(())
    }

    fn columns(_arguments: &(), _context: &Context) -> Result<Vec<(String, Kind)>> {
        Ok(with_counts(Self::COLUMNS))
    }

    fn rows(_arguments: &(), _context: &Context) -> Result<Vec<Row>> {
        let runtime = runtime()?;
        let carrier = engine::carrier(runtime);
        Ok(runtime.points().into_iter().map(|point| point_row(point, carrier)).collect())
    }
}

fn point_row(point: PointInfo, carrier: &str) -> Row {
    let mut row = vec![
        point.hook.name().into(),
        point.class.name().into(),
        carrier.into(),
        Cell::Text(point.program),
        point.generation.0.into(),
    ];
    row.extend(count_cells(&point.counts));
    row
}

pub struct Programs;

impl Table for Programs {
    type Arguments = ();
    type Rows = Vec<Row>;

    const NAME: &'static str = "hook_programs";
    const DESCRIPTION: &'static str =
        "The attached programs: what they did since they were attached, their sizes, and what loading them took";
    const EXAMPLE: &'static str = "FROM hook_programs();";
    const COLUMNS: &'static [(&'static str, Kind)] = &[
        ("id", Kind::Number),
        ("tag", Kind::Text),
        ("name", Kind::Text),
        ("path", Kind::Text),
        ("entry", Kind::Text),
        ("hook", Kind::Text),
        ("generation", Kind::Number),
        ("loaded_at", Kind::Time),
        ("insns", Kind::Number),
        ("machine_code_bytes", Kind::Number),
        ("verify_us", Kind::Real),
        ("compile_us", Kind::Real),
        ("run_time_ns", Kind::Number),
        ("bytecode_bytes", Kind::Number),
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

    fn columns(_arguments: &(), _context: &Context) -> Result<Vec<(String, Kind)>> {
        Ok(with_counts(Self::COLUMNS))
    }

    fn rows(_arguments: &(), _context: &Context) -> Result<Vec<Row>> {
        Ok(runtime()?.programs().into_iter().map(program_row).collect())
    }
}

fn program_row(program: ProgramInfo) -> Row {
    let (timings, run_time_ns) = (program.timings, program.counts.run_time_ns());
    let mut row = vec![
        program.id.into(),
        program.tag.into(),
        program.name.into(),
        program.path.display().to_string().into(),
        program.symbol.into(),
        program.hook.name().into(),
        program.generation.0.into(),
        Cell::Time(program.loaded_at),
        program.instructions.into(),
        program.jit_bytes.into(),
        Cell::Real(timings.check_ns as f64 / 1e3),
        Cell::Real(timings.compile_ns as f64 / 1e3),
        run_time_ns.into(),
        program.bytecode_bytes.into(),
        program.worst_cost.into(),
        timings.read_ns.into(),
        timings.parse_ns.into(),
        timings.check_ns.into(),
        timings.compile_ns.into(),
        timings.quality_ns.into(),
        timings.publish_ns.into(),
    ];
    row.extend(count_cells(&program.counts));
    row
}

pub struct Tags;

impl Table for Tags {
    type Arguments = ();
    type Rows = Vec<Row>;

    const NAME: &'static str = "hook_tags";
    const DESCRIPTION: &'static str = "The tags that queries have had, of SET hook_tag and of comments, and the numbers by which programs know them \
         (origin.tag)";
    const EXAMPLE: &'static str = "FROM hook_tags();";
    const COLUMNS: &'static [(&'static str, Kind)] = &[("tag", Kind::Number), ("text", Kind::Text)];

    fn arguments(_arguments: &mut [BindArgument]) -> Result<()> {
        Ok(())
    }

    fn rows(_arguments: &(), _context: &Context) -> Result<Vec<Row>> {
        Ok(runtime()?.tags().into_iter().map(|(tag, text)| vec![u64::from(tag).into(), text.into()]).collect())
    }
}

/// What programs did: the last columns of both tables.
const COUNTS: [(&str, Kind); 7] = [
    ("calls", Kind::Number),
    ("applied", Kind::Number),
    ("refused", Kind::Number),
    ("refusals", Kind::Counts),
    ("keys", Kind::Number),
    ("timed_calls", Kind::Number),
    ("timed_ns", Kind::Number),
];

fn with_counts(columns: &[(&str, Kind)]) -> Vec<(String, Kind)> {
    columns.iter().chain(&COUNTS).map(|(name, kind)| ((*name).to_owned(), kind.clone())).collect()
}

fn count_cells(counts: &Counts) -> [Cell; COUNTS.len()] {
    [
        counts.calls.into(),
        counts.applied.into(),
        counts.refused.total().into(),
        refusals(&counts.refused),
        counts.keys.into(),
        counts.timed_calls.into(),
        counts.timed_ns.into(),
    ]
}

/// Only the reasons that occurred.
fn refusals(refused: &Refusals) -> Cell {
    Cell::Counts(refused.iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count)).collect())
}
