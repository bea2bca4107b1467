//! hook_attach(), hook_detach() and hook_verify(), which CALL runs.

use super::programs::hook;
use crate::access;
use crate::engine::runtime;
use crate::table::{Cell, Kind, Row, Table};
use duckbpf_runtime::{Hook, Options, Parameter, ProgramReport, Report, is_gallery_name};
use duckdb_neo::bind_arguments::BindArgument;
use duckdb_neo::connection::Context;
use duckdb_neo::extension::Extension;
use duckdb_neo::logical_type::{LogicalType, LogicalTypeID};
use duckdb_neo::signature::{FunctionParameter, FunctionParameterKind, SignatureBuilder};
use duckdb_neo::value::Value;
use duckdb_neo::{Error, FromValue, Parameters, Result};
use std::path::{Path, PathBuf};

pub struct Attach;

pub struct AttachArguments {
    path: PathBuf,
    options: Options,
    parameters: Vec<(String, Parameter)>,
}

impl Table for Attach {
    type Arguments = AttachArguments;
    type Rows = Vec<Row>;

    const NAME: &'static str = "hook_attach";
    const DESCRIPTION: &'static str = "Attaches the programs of one BPF object, a file or one of the gallery by its name, beside those that are attached: all of \
         them or none. A hook that is taken is an error unless replace := true. params, a struct, sets constants of the object by name";
    const EXAMPLE: &'static str = "CALL hook_attach('trace_load', replace := true, params := {sample: 100});";
    const COLUMNS: &'static [(&'static str, Kind)] =
        &[("name", Kind::Text), ("generation", Kind::Number), ("hooks", Kind::Texts), ("displaced", Kind::Texts)];

    fn signature(extension: &Extension) -> Result<SignatureBuilder> {
        let any = LogicalType::create_from_id(extension, LogicalTypeID::Any, Parameters::None)?;
        let params = FunctionParameter::with_type("params", any).default_value(Option::<i32>::None);
        Ok(path_signature()
            .param(FunctionParameter::with_default("replace", false).kind(FunctionParameterKind::Named))
            .param(params.kind(FunctionParameterKind::Named)))
    }

    fn arguments(arguments: &mut [BindArgument]) -> Result<AttachArguments> {
        let replace = argument::<bool>(arguments, 1, "hook_attach: replace")?;
        let parameters =
            parameters(arguments.get(2).and_then(|argument| argument.value.as_ref()), "hook_attach: params")?;
        Ok(AttachArguments { path: path(arguments, "hook_attach: path")?, options: Options { replace }, parameters })
    }

    fn rows(arguments: &AttachArguments, context: &Context) -> Result<Vec<Row>> {
        access::require_unlocked(context, Self::NAME)?;
        if !is_gallery_name(&arguments.path) {
            access::require_files(context, Self::NAME)?;
        }
        let AttachArguments { path, options, parameters } = arguments;
        let attached = runtime()?.attach_with(path, *options, parameters).map_err(invalid)?;
        Ok(vec![vec![
            attached.name.into(),
            attached.generation.0.into(),
            Cell::Texts(attached.hooks.into_iter().map(|hook| hook.name().to_owned()).collect()),
            Cell::Texts(attached.displaced),
        ]])
    }
}

pub struct Detach;

/// What is to be detached.
pub enum Detached {
    Object(String),
    /// The object that has a program for it.
    Hook(Hook),
}

impl Table for Detach {
    type Arguments = Detached;
    type Rows = Vec<Row>;

    const NAME: &'static str = "hook_detach";
    const DESCRIPTION: &'static str = "Detaches the programs of one object, named by its file's stem, or of the one that has a program for a hook: \
         hook := 'unpin'";
    const EXAMPLE: &'static str = "CALL hook_detach('trace_load');";
    const COLUMNS: &'static [(&'static str, Kind)] = &[("name", Kind::Text), ("generation", Kind::Number)];

    fn signature(_extension: &Extension) -> Result<SignatureBuilder> {
        let nothing = || Option::<String>::None;
        Ok(SignatureBuilder::new()
            .param(FunctionParameter::with_default("name", nothing()))
            .param(FunctionParameter::with_default("hook", nothing()).kind(FunctionParameterKind::Named)))
    }

    fn arguments(arguments: &mut [BindArgument]) -> Result<Detached> {
        let name = arguments.first().and_then(|argument| argument.value.as_ref());
        let name = name.map(String::from_value).transpose()?.flatten();
        match (name, hook(arguments, 1)?) {
            (Some(name), None) => Ok(Detached::Object(name)),
            (None, Some(hook)) => Ok(Detached::Hook(hook)),
            _ => {
                Err(Error::invalid_input("hook_detach takes the name of a program, or hook := and the name of a hook"))
            }
        }
    }

    fn rows(what: &Detached, context: &Context) -> Result<Vec<Row>> {
        access::require_unlocked(context, Self::NAME)?;
        let (name, generation) = match what {
            Detached::Object(name) => (name.clone(), runtime()?.detach(name).map_err(invalid)?),
            Detached::Hook(hook) => runtime()?.detach_hook(*hook).map_err(invalid)?,
        };
        Ok(vec![vec![name.into(), generation.0.into()]])
    }
}

pub struct Verify;

impl Table for Verify {
    type Arguments = PathBuf;
    type Rows = Vec<Row>;

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

    fn signature(_extension: &Extension) -> Result<SignatureBuilder> {
        Ok(path_signature())
    }

    fn arguments(arguments: &mut [BindArgument]) -> Result<PathBuf> {
        path(arguments, "hook_verify: path")
    }

    fn rows(path: &PathBuf, context: &Context) -> Result<Vec<Row>> {
        if !is_gallery_name(path) {
            access::require_files(context, Self::NAME)?;
        }
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

/// The fields of a struct, by name; those of structs within behind the struct's name and a dot. `what` is the argument, for
/// messages.
pub fn parameters(params: Option<&Value>, what: &str) -> Result<Vec<(String, Parameter)>> {
    let Some(params) = params.filter(|params| !params.is_null().unwrap_or(true)) else { return Ok(Vec::new()) };
    let ty = params.logical_type()?;
    if ty.id()? != LogicalTypeID::Struct {
        return Err(Error::invalid_input(format!("{what} must be a struct, as in {{sample: 100}}")));
    }
    let mut parameters = Vec::new();
    for ((name, _), value) in ty.get_params()?.into_iter().zip(params.children()?) {
        if value.logical_type()?.id()? == LogicalTypeID::Struct {
            let inner = self::parameters(Some(&value), what)?;
            parameters.extend(inner.into_iter().map(|(field, value)| (format!("{name}.{field}"), value)));
        } else {
            let parameter = parameter(&value, &format!("{what}: {name}"))?;
            parameters.push((name, parameter));
        }
    }
    Ok(parameters)
}

fn parameter(value: &Value, what: &str) -> Result<Parameter> {
    let null = || Error::invalid_input(format!("{what} must not be NULL"));
    if value.is_null()? {
        return Err(null());
    }
    let text = value.dbg_string()?;
    Ok(match value.logical_type()?.id()? {
        LogicalTypeID::Boolean => Parameter::Bool(bool::from_value(value)?.ok_or_else(null)?),
        LogicalTypeID::Varchar => Parameter::Text(String::from_value(value)?.ok_or_else(null)?),
        // Numbers of any width read best as text.
        LogicalTypeID::Float | LogicalTypeID::Double | LogicalTypeID::Decimal => {
            Parameter::Float(text.parse().map_err(|_| not_a_parameter(what))?)
        }
        _ => Parameter::Int(text.parse().map_err(|_| not_a_parameter(what))?),
    })
}

fn not_a_parameter(what: &str) -> Error {
    Error::invalid_input(format!("{what} must be a number, a truth value or text"))
}

fn path_signature() -> SignatureBuilder {
    SignatureBuilder::new().param(FunctionParameter::new::<String>("path"))
}

fn path(arguments: &[BindArgument], what: &str) -> Result<PathBuf> {
    let path = argument::<String>(arguments, 0, what)?;
    if path.is_empty() { Err(Error::invalid_input(format!("{what} is empty"))) } else { Ok(Path::new(&path).into()) }
}

/// A constant argument that may not be NULL.
pub fn argument<T: FromValue>(arguments: &[BindArgument], index: usize, what: &str) -> Result<T> {
    let value = arguments.get(index).and_then(|argument| argument.value.as_ref());
    let value = value.ok_or_else(|| Error::invalid_input(format!("{what} must be a constant")))?;
    T::from_value(value)?.ok_or_else(|| Error::invalid_input(format!("{what} must not be NULL")))
}

pub fn invalid(error: duckbpf_runtime::Error) -> Error {
    Error::invalid_input(error.to_string())
}
