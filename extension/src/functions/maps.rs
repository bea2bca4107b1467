//! hook_maps(), hook_map_entries(), hook_events(), and changes of maps.

use std::path::Path;
use std::sync::Arc;
use std::vec::IntoIter;

use super::change::{argument, invalid};
use crate::access;
use crate::engine::runtime;
use crate::shape::{Shape, fill_texts, sql_type};
use crate::table::{Cell, Kind, Row, Source, Table};
use duckbpf_runtime::{Entry, MapDef, MapHandle, MapKind, Records, Refusal, Type, UpdateFlags, is_gallery_name};
use duckdb_neo::bind_arguments::BindArgument;
use duckdb_neo::connection::Context;
use duckdb_neo::data_chunk::DataChunkRef;
use duckdb_neo::extension::Extension;
use duckdb_neo::logical_type::{LogicalType, LogicalTypeID};
use duckdb_neo::signature::{FunctionParameter, FunctionParameterKind, SignatureBuilder};
use duckdb_neo::value::Value;
use duckdb_neo::vector::Unknown;
use duckdb_neo::{DuckDBType, Error, FromValue, Parameters, Result};

fn name_signature() -> SignatureBuilder {
    SignatureBuilder::new().param(FunctionParameter::new::<String>("name"))
}

fn any(extension: &Extension) -> Result<LogicalType> {
    LogicalType::create_from_id(extension, LogicalTypeID::Any, Parameters::None)
}

/// A type, or as many bytes where the object tells none.
fn type_or_bytes(ty: &Option<Type>, bytes: u32) -> Type {
    ty.clone().filter(|ty| ty.size() == u64::from(bytes)).unwrap_or(Type::Bytes { bytes })
}

pub fn key_type(def: &MapDef) -> Type {
    let is_index = def.kind.is_indexed() && def.key.is_none();
    if is_index { Type::Int { bytes: 4, signed: false } } else { type_or_bytes(&def.key, def.key_size) }
}

pub fn value_type(def: &MapDef) -> Type {
    match def.kind {
        MapKind::Ringbuf => def.value.clone().unwrap_or(Type::Bytes { bytes: 0 }),
        // The number of the inner map.
        MapKind::ArrayOfMaps | MapKind::HashOfMaps => Type::Int { bytes: 4, signed: false },
        _ => type_or_bytes(&def.value, def.value_size),
    }
}

pub struct Maps;

impl Table for Maps {
    type Arguments = ();
    type Rows = Vec<Row>;

    const NAME: &'static str = "hook_maps";
    const DESCRIPTION: &'static str = "The maps of the attached programs, their sections of variables, and pinned maps: what they hold, and the memory \
         that they count for";
    const EXAMPLE: &'static str = "FROM hook_maps();";
    const COLUMNS: &'static [(&'static str, Kind)] = &[
        ("id", Kind::Number),
        ("name", Kind::Text),
        ("owner", Kind::Text),
        ("type", Kind::Text),
        ("key_type", Kind::Text),
        ("value_type", Kind::Text),
        ("max_entries", Kind::Number),
        ("entries", Kind::Number),
        ("memory_bytes", Kind::Number),
        ("pinned", Kind::Truth),
        ("lost", Kind::Number),
    ];

    fn arguments(_arguments: &mut [BindArgument]) -> Result<()> {
        Ok(())
    }

    fn rows(_arguments: &(), _context: &Context) -> Result<Vec<Row>> {
        Ok(runtime()?.maps().iter().map(map_row).collect())
    }
}

fn map_row(map: &MapHandle) -> Row {
    let (info, def) = (map.info(), map.definition());
    let key = (def.key_size > 0).then(|| sql_type(&key_type(def)));
    vec![
        u64::from(info.id).into(),
        info.name.into(),
        Cell::Text(info.owner),
        info.kind.name().into(),
        Cell::Text(key),
        if def.kind == MapKind::ProgArray { "VARCHAR".into() } else { sql_type(&value_type(def)).into() },
        u64::from(info.max_entries).into(),
        info.entries.into(),
        info.bytes.into(),
        info.pinned.into(),
        info.lost.into(),
    ]
}

/// A map that is named by an argument. Its types, as they are when the query is bound, are the columns.
pub struct Named {
    name: String,
    bound: MapDef,
}

impl Named {
    /// The map that has the name when the query runs: a prepared one may run long after it was bound.
    fn find(&self, what: &str) -> Result<MapHandle> {
        let map = runtime()?.map(&self.name).map_err(invalid)?;
        let layout = |def: &MapDef| (def.kind, def.key_size, def.value_size, def.key.clone(), def.value.clone());
        if layout(map.definition()) == layout(&self.bound) {
            return Ok(map);
        }
        let name = &self.name;
        Err(Error::invalid_input(format!(
            "{what}: {name} has other types than when this query was prepared; prepare it again"
        )))
    }
}

fn named(arguments: &[BindArgument], what: &str) -> Result<Named> {
    let name = argument::<String>(arguments, 0, &format!("{what}: name"))?;
    let bound = runtime()?.map(&name).map_err(invalid)?.definition().clone();
    Ok(Named { name, bound })
}

pub struct MapEntries;

impl Table for MapEntries {
    type Arguments = Named;
    type Rows = Entries;

    const NAME: &'static str = "hook_map_entries";
    const DESCRIPTION: &'static str = "What a map holds now, with the types that its program declares; of a per-CPU map a list of the values of the threads. \
         A map is named alone, or with its program: 'program/map'";
    const EXAMPLE: &'static str = "FROM hook_map_entries('sizes');";
    const COLUMNS: &'static [(&'static str, Kind)] = &[];

    fn signature(_extension: &Extension) -> Result<SignatureBuilder> {
        Ok(name_signature())
    }

    fn arguments(arguments: &mut [BindArgument]) -> Result<Named> {
        named(arguments, Self::NAME)
    }

    fn columns(arguments: &Named, context: &Context) -> Result<Vec<(String, Kind)>> {
        let def = &arguments.bound;
        let mut columns = Vec::new();
        if def.key_size > 0 {
            columns.push(("key".to_owned(), Kind::Shaped(shape(&key_type(def), context)?)));
        }
        let value = match def.kind {
            MapKind::ProgArray => Kind::Text,
            kind if kind.is_percpu() => Kind::ListOf(shape(&value_type(def), context)?),
            _ => Kind::Shaped(shape(&value_type(def), context)?),
        };
        columns.push(("value".to_owned(), value));
        Ok(columns)
    }

    fn rows(arguments: &Named, context: &Context) -> Result<Entries> {
        let map = arguments.find(Self::NAME)?;
        let def = map.definition();
        let key = (def.key_size > 0).then(|| Shape::new(&key_type(def), context)).transpose()?;
        let value = Shape::new(&value_type(def), context)?;
        let rest = map.entries().map_err(|refusal| refused(Self::NAME, def, &refusal))?.into_iter();
        Ok(Entries { kind: def.kind, key, value, rest })
    }
}

/// Entries of a map that were not given out yet.
pub struct Entries {
    kind: MapKind,
    /// None: it has no keys.
    key: Option<Shape>,
    value: Shape,
    rest: IntoIter<Entry>,
}

impl Source for Entries {
    fn fill(&mut self, context: &Context, mut output: DataChunkRef<'_>) -> Result<()> {
        let batch: Vec<Entry> = self.rest.by_ref().take(output.capacity()?).collect();
        if let Some(key) = &self.key {
            let keys = batch.iter().map(|entry| entry.key.as_slice());
            key.fill(keys, context, output.get_vector_at_mut::<Unknown>(0)?)?;
        }
        let mut values = output.get_vector_at_mut::<Unknown>(usize::from(self.key.is_some()))?;
        let first = batch.iter().map(|entry| entry.values.first().map(Vec::as_slice).unwrap_or_default());
        match self.kind {
            MapKind::ProgArray => {
                values.set_size(batch.len())?;
                fill_texts(values.cast()?, first.map(String::from_utf8_lossy))
            }
            kind if kind.is_percpu() => {
                values.set_size(batch.len())?;
                for (index, entry) in batch.iter().enumerate() {
                    values.write_value_slow(index, self.value.read_list(&entry.values, context)?)?;
                }
                Ok(())
            }
            _ => self.value.fill(first, context, values),
        }
    }
}

fn shape(ty: &Type, context: &Context) -> Result<Arc<Shape>> {
    Shape::new(ty, context).map(Arc::new)
}

fn refused(what: &str, def: &MapDef, refusal: &dyn std::error::Error) -> Error {
    Error::invalid_input(format!("{what}: {}: {refusal}", def.name))
}

pub struct Events;

impl Table for Events {
    type Arguments = Named;
    type Rows = Drain;

    const NAME: &'static str = "hook_events";
    const DESCRIPTION: &'static str = "Takes the records out of a ring buffer, oldest first; its columns are the fields of the records' struct. A record is given \
         out once: what the query does not use is gone";
    const EXAMPLE: &'static str = "FROM hook_events('events');";
    const COLUMNS: &'static [(&'static str, Kind)] = &[];

    fn signature(_extension: &Extension) -> Result<SignatureBuilder> {
        Ok(name_signature())
    }

    fn arguments(arguments: &mut [BindArgument]) -> Result<Named> {
        let named = named(arguments, Self::NAME)?;
        match &named.bound {
            def if def.kind == MapKind::Ringbuf => Ok(named),
            def => {
                let (name, kind) = (&def.name, def.kind);
                Err(Error::invalid_input(format!("hook_events: {name} is of type {kind}, no ring buffer")))
            }
        }
    }

    fn columns(arguments: &Named, context: &Context) -> Result<Vec<(String, Kind)>> {
        fields(&arguments.bound)
            .into_iter()
            .map(|(name, _, ty)| Ok((name, Kind::Shaped(shape(&ty, context)?))))
            .collect()
    }

    fn rows(arguments: &Named, context: &Context) -> Result<Drain> {
        let map = arguments.find(Self::NAME)?;
        let def = map.definition();
        let columns = fields(def)
            .into_iter()
            .map(|(_, start, ty)| Ok((start, Shape::new(&ty, context)?)))
            .collect::<Result<Vec<_>>>()?;
        let end = map.ring_end().map_err(|refusal| refused(Self::NAME, def, &refusal))?;
        Ok(Drain { map, columns, end, records: Records::default() })
    }
}

/// Reads a ring buffer up to where it was when the query began.
pub struct Drain {
    map: MapHandle,
    /// Where each begins in a record.
    columns: Vec<(usize, Shape)>,
    end: u64,
    records: Records,
}

impl Source for Drain {
    fn fill(&mut self, context: &Context, mut output: DataChunkRef<'_>) -> Result<()> {
        self.records.clear();
        let drained = self.map.drain_until(self.end, output.capacity()?, &mut self.records);
        drained.map_err(|refusal| refused(Events::NAME, self.map.definition(), &refusal))?;
        for (index, (start, shape)) in self.columns.iter().enumerate() {
            // Of a record without a type all of it.
            let end = if shape.size() == 0 { usize::MAX } else { start + shape.size() };
            let values =
                self.records.iter().map(|record| record.get(*start..end.min(record.len())).unwrap_or_default());
            shape.fill(values, context, output.get_vector_at_mut::<Unknown>(index)?)?;
        }
        Ok(())
    }
}

/// Name, place and type of what a record holds: the fields of its struct, as far as they are whole bytes; or all of it.
fn fields(def: &MapDef) -> Vec<(String, usize, Type)> {
    match &def.value {
        Some(Type::Struct { members, .. })
            if members.iter().all(|member| member.bits.is_none()) && !members.is_empty() =>
        {
            let field = |member: &duckbpf_runtime::Member| {
                (member.name.clone(), member.bit_offset as usize / 8, member.ty.clone())
            };
            members.iter().map(field).collect()
        }
        Some(ty) => vec![("event".to_owned(), 0, ty.clone())],
        None => vec![("event".to_owned(), 0, Type::Bytes { bytes: 0 })],
    }
}

pub struct MapUpdate;

pub struct UpdateArguments {
    map: Named,
    key: Option<Value>,
    value: Option<Value>,
    flags: UpdateFlags,
}

impl Table for MapUpdate {
    type Arguments = UpdateArguments;
    type Rows = Vec<Row>;

    const NAME: &'static str = "hook_map_update";
    const DESCRIPTION: &'static str = "Sets the value of a map's key. mode := 'any' (the default), 'noexist' only where there is none, 'exist' only where there is one. \
         A per-CPU map takes a list, a value a thread; a map of maps the name of a map; a prog_array a program of the gallery, or a file. Queues, stacks and bloom filters have no keys: NULL";
    const EXAMPLE: &'static str = "CALL hook_map_update('limits', 7, 1000);";
    const COLUMNS: &'static [(&'static str, Kind)] = &[("name", Kind::Text)];

    fn signature(extension: &Extension) -> Result<SignatureBuilder> {
        let mode = FunctionParameter::with_default("mode", "any".to_owned()).kind(FunctionParameterKind::Named);
        Ok(name_signature()
            .param(FunctionParameter::with_type("key", any(extension)?))
            .param(FunctionParameter::with_type("value", any(extension)?))
            .param(mode))
    }

    fn arguments(arguments: &mut [BindArgument]) -> Result<UpdateArguments> {
        let map = named(arguments, Self::NAME)?;
        let flags = match argument::<String>(arguments, 3, "hook_map_update: mode")?.as_str() {
            "any" => UpdateFlags::Any,
            "noexist" => UpdateFlags::NoExist,
            "exist" => UpdateFlags::Exist,
            other => {
                let message = format!("hook_map_update: mode is 'any', 'noexist' or 'exist', not '{other}'");
                return Err(Error::invalid_input(message));
            }
        };
        let mut take = |index: usize| arguments.get_mut(index).and_then(|argument| argument.value.take());
        Ok(UpdateArguments { map, key: take(1), value: take(2), flags })
    }

    fn rows(arguments: &UpdateArguments, context: &Context) -> Result<Vec<Row>> {
        access::require_unlocked(context, Self::NAME)?;
        let UpdateArguments { map, key, value, flags } = arguments;
        let map = &map.find(Self::NAME)?;
        let def = map.definition();
        let key = key_bytes(def, key.as_ref(), context, Self::NAME)?;
        let value = value.as_ref().ok_or_else(|| Error::invalid_input("hook_map_update: value must be a constant"))?;
        if def.kind == MapKind::ProgArray {
            if *flags != UpdateFlags::Any {
                return Err(refused(Self::NAME, def, &Refusal::Programs));
            }
            let name = name_of("program", value, context)?;
            let path = Path::new(&name);
            if !is_gallery_name(path) {
                access::require_files(context, Self::NAME)?;
            }
            runtime()?.set_program(map, &key, Some(path)).map_err(invalid)?;
            return Ok(vec![vec![def.name.as_str().into()]]);
        }
        if def.kind.is_of_maps() {
            let inner = runtime()?.map(&name_of("map", value, context)?).map_err(invalid)?;
            let done = runtime()?.set_inner_map(map, &key, Some(&inner));
            done.map_err(|refusal| refused(Self::NAME, def, &refusal))?;
            return Ok(vec![vec![def.name.as_str().into()]]);
        }
        let shape = shape(&value_type(def), context)?;
        let is_list = def.kind.is_percpu() && value.logical_type()?.id()? == LogicalTypeID::List;
        let what = format!("hook_map_update: {}: value", def.name);
        let write = |value: &Value| shape.write(value, context, &what);
        let values =
            if is_list { value.children()?.iter().map(write).collect() } else { write(value).map(|one| vec![one]) };
        let values: Vec<Vec<u8>> = values?;
        map.set(&key, &values, *flags).map_err(|refusal| refused(Self::NAME, def, &refusal))?;
        Ok(vec![vec![def.name.as_str().into()]])
    }
}

/// The text that a value names something by.
fn name_of(what: &str, value: &Value, context: &Context) -> Result<String> {
    let name = String::from_value(&value.cast(context, &String::logical_type(context)?)?)?;
    name.ok_or_else(|| Error::invalid_input(format!("hook_map_update: value must name a {what}")))
}

fn key_bytes(def: &MapDef, key: Option<&Value>, context: &Context, what: &str) -> Result<Vec<u8>> {
    if def.key_size == 0 {
        return Ok(Vec::new());
    }
    let what = format!("{what}: {}: key", def.name);
    let key = key.ok_or_else(|| Error::invalid_input(format!("{what} must be a constant")))?;
    Shape::new(&key_type(def), context)?.write(key, context, &what)
}

pub struct MapDelete;

pub struct DeleteArguments {
    map: Named,
    key: Option<Value>,
}

impl Table for MapDelete {
    type Arguments = DeleteArguments;
    type Rows = Vec<Row>;

    const NAME: &'static str = "hook_map_delete";
    const DESCRIPTION: &'static str =
        "Takes a key out of a map; of a queue or stack, whose key is NULL, the next value";
    const EXAMPLE: &'static str = "CALL hook_map_delete('limits', 7);";
    const COLUMNS: &'static [(&'static str, Kind)] = &[("name", Kind::Text)];

    fn signature(extension: &Extension) -> Result<SignatureBuilder> {
        Ok(name_signature().param(FunctionParameter::with_type("key", any(extension)?)))
    }

    fn arguments(arguments: &mut [BindArgument]) -> Result<DeleteArguments> {
        let map = named(arguments, Self::NAME)?;
        let key = arguments.get_mut(1).and_then(|argument| argument.value.take());
        Ok(DeleteArguments { map, key })
    }

    fn rows(arguments: &DeleteArguments, context: &Context) -> Result<Vec<Row>> {
        access::require_unlocked(context, Self::NAME)?;
        let map = &arguments.map.find(Self::NAME)?;
        let def = map.definition();
        let key = key_bytes(def, arguments.key.as_ref(), context, Self::NAME)?;
        if def.kind == MapKind::ProgArray {
            runtime()?.set_program(map, &key, None).map_err(invalid)?;
            return Ok(vec![vec![def.name.as_str().into()]]);
        }
        let done = if def.kind.is_of_maps() { runtime()?.set_inner_map(map, &key, None) } else { map.remove(&key) };
        done.map_err(|refusal| refused(Self::NAME, def, &refusal))?;
        Ok(vec![vec![def.name.as_str().into()]])
    }
}

pub struct MapUnpin;

impl Table for MapUnpin {
    type Arguments = String;
    type Rows = Vec<Row>;

    const NAME: &'static str = "hook_map_unpin";
    const DESCRIPTION: &'static str = "Forgets a pinned map: it goes with the last program that uses it";
    const EXAMPLE: &'static str = "CALL hook_map_unpin('sizes');";
    const COLUMNS: &'static [(&'static str, Kind)] = &[("name", Kind::Text)];

    fn signature(_extension: &Extension) -> Result<SignatureBuilder> {
        Ok(name_signature())
    }

    fn arguments(arguments: &mut [BindArgument]) -> Result<String> {
        argument(arguments, 0, "hook_map_unpin: name")
    }

    fn rows(name: &String, context: &Context) -> Result<Vec<Row>> {
        access::require_unlocked(context, Self::NAME)?;
        runtime()?.unpin_map(name).map_err(invalid)?;
        Ok(vec![vec![name.as_str().into()]])
    }
}
