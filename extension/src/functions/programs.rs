//! hook_run() and hook_disassembly(): one program, by hand.

use super::change::{argument, invalid, parameters};
use crate::access;
use crate::engine::runtime;
use crate::json;
use crate::table::{Cell, Kind, Row, Table};
use duckbpf_runtime::{Hook, Instruction, Listing, Parameter, is_gallery_name};
use duckdb_neo::bind_arguments::BindArgument;
use duckdb_neo::connection::Context;
use duckdb_neo::extension::Extension;
use duckdb_neo::logical_type::{LogicalType, LogicalTypeID};
use duckdb_neo::signature::{FunctionParameter, FunctionParameterKind, SignatureBuilder};
use duckdb_neo::value::Value;
use duckdb_neo::{Error, FromValue, Parameters, Result};
use std::path::Path;

/// A hook by its name; NULL where none is meant.
pub fn hook(arguments: &[BindArgument], index: usize) -> Result<Option<Hook>> {
    let value = arguments.get(index).and_then(|argument| argument.value.as_ref());
    let name = value.map(String::from_value).transpose()?.flatten();
    name.map(|name| Hook::named(&name).map_err(invalid)).transpose()
}

/// Programs that are not attached may have to be read from a file.
fn require_access(name: &str, context: &Context, what: &str) -> Result<()> {
    let attached = runtime()?.programs().iter().any(|program| program.name == name);
    if attached || is_gallery_name(Path::new(name)) { Ok(()) } else { access::require_files(context, what) }
}

pub struct Run;

pub struct RunArguments {
    name: String,
    hook: Option<Hook>,
    context: Vec<(String, Parameter)>,
    repeat: u64,
}

impl Table for Run {
    type Arguments = RunArguments;
    type Rows = Vec<Row>;

    const NAME: &'static str = "hook_run";
    const DESCRIPTION: &'static str = "Runs a program on a context that is made up, and says what it returned and how long it took. An attached program works \
         with its own maps, a file's or the gallery's with maps made for this. context, a struct or JSON, names fields as in the \
         hook's context; others are 0";
    const EXAMPLE: &'static str =
        "FROM hook_run('default_unpin', context := {size: 262144, readers: 0}, repeat := 1000);";
    const COLUMNS: &'static [(&'static str, Kind)] = &[
        ("name", Kind::Text),
        ("entry", Kind::Text),
        ("hook", Kind::Text),
        ("result", Kind::Number),
        ("repeat", Kind::Number),
        ("total_ns", Kind::Number),
        ("mean_ns", Kind::Real),
    ];

    fn signature(extension: &Extension) -> Result<SignatureBuilder> {
        let any = LogicalType::create_from_id(extension, LogicalTypeID::Any, Parameters::None)?;
        let context = FunctionParameter::with_type("context", any).default_value(Option::<i32>::None);
        let named = FunctionParameterKind::Named;
        Ok(SignatureBuilder::new()
            .param(FunctionParameter::new::<String>("name"))
            .param(context.kind(named))
            .param(FunctionParameter::with_default("hook", Option::<String>::None).kind(named))
            .param(FunctionParameter::with_default("repeat", 1u64).kind(named)))
    }

    fn arguments(arguments: &mut [BindArgument]) -> Result<RunArguments> {
        let name = argument(arguments, 0, "hook_run: name")?;
        let context = context(arguments.get(1).and_then(|argument| argument.value.as_ref()))?;
        let repeat = match argument(arguments, 3, "hook_run: repeat")? {
            0 => return Err(Error::invalid_input("hook_run: repeat must be at least 1")),
            repeat => repeat,
        };
        Ok(RunArguments { name, hook: hook(arguments, 2)?, context, repeat })
    }

    fn rows(arguments: &RunArguments, context: &Context) -> Result<Vec<Row>> {
        // It may change what an attached program keeps in its maps.
        access::require_unlocked(context, Self::NAME)?;
        require_access(&arguments.name, context, Self::NAME)?;
        let RunArguments { name, hook, context, repeat } = arguments;
        let ran = runtime()?.run(name, *hook, context, *repeat).map_err(invalid)?;
        Ok(vec![vec![
            ran.name.into(),
            ran.symbol.into(),
            ran.hook.name().into(),
            ran.result.into(),
            ran.repeat.into(),
            ran.total_ns.into(),
            Cell::Real(ran.total_ns as f64 / ran.repeat as f64),
        ]])
    }
}

/// A context's fields: of a struct, or of an object in JSON's text.
fn context(value: Option<&Value>) -> Result<Vec<(String, Parameter)>> {
    let text = match value {
        Some(value) if value.logical_type()?.id()? == LogicalTypeID::Varchar => String::from_value(value)?,
        _ => None,
    };
    let Some(text) = text else { return parameters(value, "hook_run: context") };
    let fields = serde_json::from_str(&text).map_err(|error| error.to_string()).and_then(|map| json::parameters(&map));
    fields.map_err(|reason| Error::invalid_input(format!("hook_run: context: {reason}")))
}

pub struct Disassembly;

impl Table for Disassembly {
    type Arguments = String;
    type Rows = Vec<Row>;

    const NAME: &'static str = "hook_disassembly";
    const DESCRIPTION: &'static str = "A program's bytecode, and the machine code that each instruction became, as hexadecimal bytes. duckbpf prog dump shows both \
         as text";
    const EXAMPLE: &'static str = "FROM hook_disassembly('hash_wy');";
    const COLUMNS: &'static [(&'static str, Kind)] = &[
        ("entry", Kind::Text),
        ("hook", Kind::Text),
        ("pc", Kind::Number),
        ("instruction", Kind::Text),
        ("source", Kind::Text),
        ("machine_offset", Kind::Number),
        ("machine_code", Kind::Text),
    ];

    fn signature(_extension: &Extension) -> Result<SignatureBuilder> {
        Ok(SignatureBuilder::new().param(FunctionParameter::new::<String>("name")))
    }

    fn arguments(arguments: &mut [BindArgument]) -> Result<String> {
        argument(arguments, 0, "hook_disassembly: name")
    }

    fn rows(name: &String, context: &Context) -> Result<Vec<Row>> {
        require_access(name, context, Self::NAME)?;
        let listings = runtime()?.listing(name).map_err(invalid)?;
        let rows = |listing: Listing| {
            let Listing { symbol, hook, instructions } = listing;
            instructions.into_iter().map(move |instruction| instruction_row(&symbol, hook, instruction))
        };
        Ok(listings.into_iter().flat_map(rows).collect())
    }
}

fn instruction_row(symbol: &str, hook: Hook, instruction: Instruction) -> Row {
    let Instruction { pc, text, source, offset, code } = instruction;
    vec![
        symbol.into(),
        hook.name().into(),
        pc.into(),
        text.into(),
        Cell::Text(source.map(|line| line.to_string())),
        offset.into(),
        json::hex(&code).into(),
    ]
}
