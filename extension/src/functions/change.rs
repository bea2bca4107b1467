//! hook_attach(), hook_detach() and hook_verify(), which CALL runs.

use crate::access;
use crate::engine::runtime;
use crate::table::{Cell, Kind, Row, Table};
use duckbpf_runtime::{Hook, Options, ProgramReport, Report};
use duckdb_neo::bind_arguments::BindArgument;
use duckdb_neo::connection::Context;
use duckdb_neo::signature::{FunctionParameter, FunctionParameterKind, SignatureBuilder};
use duckdb_neo::{Error, FromValue, Result};
use std::path::{Path, PathBuf};

pub struct Attach;

pub struct AttachArguments {
    path: PathBuf,
    options: Options,
}

impl Table for Attach {
    type Arguments = AttachArguments;

    const NAME: &'static str = "hook_attach";
    const DESCRIPTION: &'static str = "Attaches the programs of one BPF object beside those that are attached: all of them or none. A hook that is \
         taken is an error unless replace := true";
    const EXAMPLE: &'static str = "CALL hook_attach('unpin_drop_scanned.bpf.o', replace := true);";
    const COLUMNS: &'static [(&'static str, Kind)] =
        &[("name", Kind::Text), ("generation", Kind::Number), ("hooks", Kind::Texts), ("displaced", Kind::Texts)];

    fn signature() -> SignatureBuilder {
        path_signature().param(FunctionParameter::with_default("replace", false).kind(FunctionParameterKind::Named))
    }

    fn arguments(arguments: &[BindArgument]) -> Result<AttachArguments> {
        let replace = argument::<bool>(arguments, 1, "hook_attach: replace")?;
        Ok(AttachArguments { path: path(arguments, "hook_attach: path")?, options: Options { replace } })
    }

    fn rows(arguments: &AttachArguments, context: &Context) -> Result<Vec<Row>> {
        access::require_unlocked(context, Self::NAME)?;
        access::require_files(context, Self::NAME)?;
        let attached = runtime()?.attach(&arguments.path, arguments.options).map_err(invalid)?;
        Ok(vec![vec![
            attached.name.into(),
            attached.generation.0.into(),
            Cell::Texts(attached.hooks.into_iter().map(|hook| hook.name().to_owned()).collect()),
            Cell::Texts(attached.displaced),
        ]])
    }
}

pub struct Detach;

impl Table for Detach {
    type Arguments = String;

    const NAME: &'static str = "hook_detach";
    const DESCRIPTION: &'static str = "Detaches the programs of one object, named by its file's stem";
    const EXAMPLE: &'static str = "CALL hook_detach('unpin_drop_scanned');";
    const COLUMNS: &'static [(&'static str, Kind)] = &[("name", Kind::Text), ("generation", Kind::Number)];

    fn signature() -> SignatureBuilder {
        SignatureBuilder::new().param(FunctionParameter::new::<String>("name"))
    }

    fn arguments(arguments: &[BindArgument]) -> Result<String> {
        argument(arguments, 0, "hook_detach: name")
    }

    fn rows(name: &String, context: &Context) -> Result<Vec<Row>> {
        access::require_unlocked(context, Self::NAME)?;
        let generation = runtime()?.detach(name).map_err(invalid)?;
        Ok(vec![vec![name.as_str().into(), generation.0.into()]])
    }
}

pub struct Verify;

impl Table for Verify {
    type Arguments = PathBuf;

    const NAME: &'static str = "hook_verify";
    const DESCRIPTION: &'static str = "Reads, checks and compiles a BPF object and attaches nothing";
    const EXAMPLE: &'static str = "CALL hook_verify('new.bpf.o');";
    const COLUMNS: &'static [(&'static str, Kind)] = &[
        ("name", Kind::Text),
        ("path", Kind::Text),
        ("license", Kind::Text),
        ("entry", Kind::Text),
        ("tag", Kind::Text),
        ("hook", Kind::Text),
        ("optional", Kind::Truth),
        ("instructions", Kind::Number),
        ("worst_cost", Kind::Number),
        ("bytecode_bytes", Kind::Number),
        ("machine_code_bytes", Kind::Number),
        ("read_ns", Kind::Number),
        ("parse_ns", Kind::Number),
        ("check_ns", Kind::Number),
        ("compile_ns", Kind::Number),
        ("quality_ns", Kind::Number),
    ];

    fn signature() -> SignatureBuilder {
        path_signature()
    }

    fn arguments(arguments: &[BindArgument]) -> Result<PathBuf> {
        path(arguments, "hook_verify: path")
    }

    fn rows(path: &PathBuf, context: &Context) -> Result<Vec<Row>> {
        access::require_files(context, Self::NAME)?;
        let report = runtime()?.verify(path).map_err(invalid)?;
        Ok(report.programs.iter().map(|program| report_row(&report, program)).collect())
    }
}

fn report_row(report: &Report, program: &ProgramReport) -> Row {
    let timings = program.timings;
    vec![
        report.name.as_str().into(),
        report.path.display().to_string().into(),
        Cell::Text(report.license.clone()),
        program.symbol.as_str().into(),
        program.tag.as_str().into(),
        Hook::name(program.hook).into(),
        program.optional.into(),
        program.instructions.into(),
        program.worst_cost.into(),
        program.bytecode_bytes.into(),
        program.jit_bytes.into(),
        timings.read_ns.into(),
        timings.parse_ns.into(),
        timings.check_ns.into(),
        timings.compile_ns.into(),
        timings.quality_ns.into(),
    ]
}

fn path_signature() -> SignatureBuilder {
    SignatureBuilder::new().param(FunctionParameter::new::<String>("path"))
}

fn path(arguments: &[BindArgument], what: &str) -> Result<PathBuf> {
    let path = argument::<String>(arguments, 0, what)?;
    if path.is_empty() { Err(Error::invalid_input(format!("{what} is empty"))) } else { Ok(Path::new(&path).into()) }
}

/// A constant argument that may not be NULL.
fn argument<T: FromValue>(arguments: &[BindArgument], index: usize, what: &str) -> Result<T> {
    let value = arguments.get(index).and_then(|argument| argument.value.as_ref());
    let value = value.ok_or_else(|| Error::invalid_input(format!("{what} must be a constant")))?;
    T::from_value(value)?.ok_or_else(|| Error::invalid_input(format!("{what} must not be NULL")))
}

fn invalid(error: duckbpf_runtime::Error) -> Error {
    Error::invalid_input(error.to_string())
}
