//! hook_map_create(): maps that no object declares.

use super::change::{argument, invalid};
use crate::access;
use crate::engine::runtime;
use crate::table::{Kind, Row, Table};
use duckbpf_runtime::{MapDef, MapKind, Member, Type};
use duckdb_neo::bind_arguments::BindArgument;
use duckdb_neo::connection::Context;
use duckdb_neo::extension::Extension;
use duckdb_neo::logical_type::{LogicalType, LogicalTypeID};
use duckdb_neo::signature::{FunctionParameter, FunctionParameterKind, SignatureBuilder};
use duckdb_neo::value::Value;
use duckdb_neo::{Error, FromValue, Result};

pub struct MapCreate;

pub struct CreateArguments {
    name: String,
    kind: String,
    key: Option<String>,
    value: Option<String>,
    max_entries: u64,
    inner: Option<String>,
}

impl Table for MapCreate {
    type Arguments = CreateArguments;
    type Rows = Vec<Row>;

    const NAME: &'static str = "hook_map_create";
    const DESCRIPTION: &'static str = "Makes a map that is kept by its name, until hook_map_unpin: programs that declare it pinned, with the same layout, share it. key and \
         value are SQL types of fixed size; BLOB and VARCHAR take their bytes in parentheses, as in C: 'VARCHAR(16)'. A map of maps takes inner := \
         the name of a map that is like those in it";
    const EXAMPLE: &'static str =
        "CALL hook_map_create('limits', 'hash', key := 'UBIGINT', value := 'UBIGINT', max_entries := 100);";
    const COLUMNS: &'static [(&'static str, Kind)] =
        &[("id", Kind::Number), ("name", Kind::Text), ("memory_bytes", Kind::Number)];

    fn signature(_extension: &Extension) -> Result<SignatureBuilder> {
        let named = FunctionParameterKind::Named;
        let text = |name: &str| FunctionParameter::with_default(name, Option::<String>::None).kind(named);
        Ok(SignatureBuilder::new()
            .param(FunctionParameter::new::<String>("name"))
            .param(FunctionParameter::new::<String>("type"))
            .param(text("key"))
            .param(text("value"))
            .param(FunctionParameter::with_default("max_entries", 0u64).kind(named))
            .param(text("inner")))
    }

    fn arguments(arguments: &mut [BindArgument]) -> Result<CreateArguments> {
        let text = |index: usize| {
            let value = arguments.get(index).and_then(|argument| argument.value.as_ref());
            value.map(String::from_value).transpose().map(Option::flatten)
        };
        Ok(CreateArguments {
            name: argument(arguments, 0, "hook_map_create: name")?,
            kind: argument(arguments, 1, "hook_map_create: type")?,
            key: text(2)?,
            value: text(3)?,
            max_entries: argument(arguments, 4, "hook_map_create: max_entries")?,
            inner: text(5)?,
        })
    }

    fn rows(arguments: &CreateArguments, context: &Context) -> Result<Vec<Row>> {
        access::require_unlocked(context, Self::NAME)?;
        let map = runtime()?.create_map(definition(arguments, context)?).map_err(invalid)?;
        let info = map.info();
        Ok(vec![vec![u64::from(info.id).into(), info.name.into(), info.bytes.into()]])
    }
}

fn definition(arguments: &CreateArguments, context: &Context) -> Result<MapDef> {
    let CreateArguments { name, kind, key, value, max_entries, inner } = arguments;
    let known = || MapKind::ALL.map(MapKind::name).join(", ");
    let kind = MapKind::ALL.into_iter().find(|known| known.name() == kind.to_lowercase());
    let kind = kind.ok_or_else(|| Error::invalid_input(format!("hook_map_create: type is one of {}", known())))?;
    let max_entries = u32::try_from(*max_entries)
        .map_err(|_| Error::invalid_input(format!("hook_map_create: {max_entries} entries are too many")))?;
    let ty = |text: &Option<String>, what: &str| {
        let ty = text.as_deref().map(|text| parse(text, context)).transpose();
        ty.map_err(|error| Error::invalid_input(format!("hook_map_create: {what}: {}", error.message)))
    };
    let index = kind.is_indexed().then_some(Type::Int { bytes: 4, signed: false });
    let (key, value) = (ty(key, "key")?.or(index), ty(value, "value")?);
    let size = |ty: &Option<Type>| {
        let size = ty.as_ref().map_or(0, Type::size);
        u32::try_from(size).map_err(|_| Error::invalid_input(format!("hook_map_create: {size} bytes are too many")))
    };
    // A ring buffer's value is the type of its records.
    let value_size = if kind == MapKind::Ringbuf { 0 } else { size(&value)? };
    let of_maps = inner_definition(kind, inner.as_deref())?;
    if kind == MapKind::ProgArray && value.is_some() {
        return Err(Error::invalid_input("hook_map_create: a prog_array holds programs: it has no value :="));
    }
    let value_size = if of_maps.is_some() || kind == MapKind::ProgArray { 4 } else { value_size };
    let def = MapDef::new(kind, size(&key)?, value_size, max_entries);
    Ok(MapDef { name: name.clone(), key, value, inner: of_maps, ..def })
}

/// What the maps of a map of maps are like.
fn inner_definition(kind: MapKind, inner: Option<&str>) -> Result<Option<Box<MapDef>>> {
    match (kind.is_of_maps(), inner) {
        (true, Some(name)) => {
            let like = runtime()?.map(name).map_err(invalid)?;
            Ok(Some(Box::new(MapDef { name: String::new(), pinned: false, ..like.definition().clone() })))
        }
        (true, None) => Err(Error::invalid_input(format!(
            "hook_map_create: {kind} needs inner := and the name of a map that is like those in it"
        ))),
        (false, Some(_)) => {
            Err(Error::invalid_input(format!("hook_map_create: {kind} holds no maps: inner := is for maps of maps")))
        }
        (false, None) => Ok(None),
    }
}

/// A SQL type as a program's.
fn parse(text: &str, context: &Context) -> Result<Type> {
    let text = text.trim();
    match sized(text) {
        Some(("VARCHAR", count)) => Ok(Type::Array { element: Box::new(Type::Char { signed: true }), count }),
        Some(("BLOB", bytes)) => Ok(Type::Bytes { bytes }),
        _ => program_type(&LogicalType::from_text(context, text)?),
    }
}

/// `NAME(number)`
fn sized(text: &str) -> Option<(&'static str, u32)> {
    let (name, rest) = text.split_once('(')?;
    let size = rest.strip_suffix(')')?.trim().parse().ok()?;
    let name = ["VARCHAR", "BLOB"].into_iter().find(|known| known.eq_ignore_ascii_case(name.trim()))?;
    Some((name, size))
}

fn program_type(ty: &LogicalType) -> Result<Type> {
    let int = |bytes, signed| Ok(Type::Int { bytes, signed });
    match ty.id()? {
        LogicalTypeID::Boolean => Ok(Type::Bool { bytes: 1 }),
        LogicalTypeID::TinyInt => int(1, true),
        LogicalTypeID::SmallInt => int(2, true),
        LogicalTypeID::Integer => int(4, true),
        LogicalTypeID::BigInt => int(8, true),
        LogicalTypeID::HugeInt => int(16, true),
        LogicalTypeID::UTinyInt => int(1, false),
        LogicalTypeID::USmallInt => int(2, false),
        LogicalTypeID::UInteger => int(4, false),
        LogicalTypeID::UBigInt => int(8, false),
        LogicalTypeID::UHugeInt => int(16, false),
        LogicalTypeID::Float => Ok(Type::Float { bytes: 4 }),
        LogicalTypeID::Double => Ok(Type::Float { bytes: 8 }),
        LogicalTypeID::Struct => program_struct(&ty.get_params()?),
        LogicalTypeID::Array => {
            let params = ty.get_params()?;
            let element = params.first().map(|(_, element)| inner(element)).transpose()?;
            let count = params.get(1).map(|(_, count)| u64::from_value(count)).transpose()?.flatten();
            match (element, count.and_then(|count| u32::try_from(count).ok())) {
                (Some(element), Some(count)) => Ok(Type::Array { element: Box::new(element), count }),
                _ => Err(no_fixed_size(ty)),
            }
        }
        _ => Err(no_fixed_size(ty)),
    }
}

fn no_fixed_size(ty: &LogicalType) -> Error {
    Error::invalid_input(format!(
        "{ty} is of no fixed size; numbers, BOOLEAN, STRUCT, ARRAY, VARCHAR(n) and BLOB(n) are"
    ))
}

fn inner(value: &Value) -> Result<Type> {
    let ty = LogicalType::from_value(value)?.ok_or_else(|| Error::invalid_input("a type is missing"))?;
    program_type(&ty)
}

/// As C lays it out.
fn program_struct(fields: &[(String, Value)]) -> Result<Type> {
    let mut members = Vec::with_capacity(fields.len());
    let (mut end, mut largest) = (0, 1);
    for (name, ty) in fields {
        let ty = inner(ty)?;
        let align = alignment(&ty);
        let start = u64::next_multiple_of(end, align);
        end = start + ty.size();
        largest = largest.max(align);
        let bit_offset = u32::try_from(start * 8).map_err(|_| Error::invalid_input("the struct is too large"))?;
        members.push(Member { name: name.clone(), bit_offset, bits: None, ty });
    }
    let bytes = u32::try_from(end.next_multiple_of(largest));
    let bytes = bytes.map_err(|_| Error::invalid_input("the struct is too large"))?;
    Ok(Type::Struct { name: String::new(), bytes, members })
}

fn alignment(ty: &Type) -> u64 {
    match ty {
        Type::Struct { members, .. } => members.iter().map(|member| alignment(&member.ty)).max().unwrap_or(1),
        Type::Array { element, .. } => alignment(element),
        Type::Bytes { .. } => 1,
        other => other.size().max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_parentheses() {
        assert_eq!(sized("varchar(16)"), Some(("VARCHAR", 16)));
        assert_eq!(sized("BLOB ( 3 )"), Some(("BLOB", 3)));
        assert_eq!(sized("DECIMAL(3)"), None);
        assert_eq!(sized("VARCHAR"), None);
    }
}
