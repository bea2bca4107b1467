//! What a request does, and the line that answers it.

use super::view;
use crate::engine::{carrier, runtime};
use crate::functions::{key_type, value_type};
use crate::guard::guard;
use crate::json;
use crate::sampling::Wish;
use duckbpf_control as control;
use duckbpf_control::{Entry, Events, Mode, Reply, Request};
use duckbpf_runtime::{Hook, MapHandle, MapKind, Options, Refusal, Runtime, Type, UpdateFlags};
use duckdb_neo::Error;
use serde::Serialize;
use serde_json::Value;
use std::ffi::CStr;
use std::path::Path;

/// Records of one reply, where the client does not say.
const RECORDS: usize = 1024;
/// Records of one reply at most.
const MOST_RECORDS: usize = 65_536;

/// A reply as a line.
pub fn line<T: Serialize>(reply: &Reply<T>) -> Vec<u8> {
    // Keys are text and numbers finite: nothing here fails. If it did, the client would see an empty line.
    let mut line = serde_json::to_vec(reply).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Begins or ends a client's wish that calls be timed.
pub fn sampling(wish: &mut Option<Wish>, on: bool) -> Vec<u8> {
    let wanted = if on { wish.take().map_or_else(Wish::new, Ok).map(Some) } else { Ok(None) };
    let done = wanted.map(|wanted| *wish = wanted);
    line(&done.map_or_else(|error| Reply::Error(error.message), Reply::Ok))
}

/// Does what is asked for. Streams are not ([`stream`]), nor is what holds while a client is connected.
pub fn answer(request: Request) -> Vec<u8> {
    let done = guard(|| {
        let runtime = runtime()?;
        look(runtime, request).unwrap_or_else(|request| change(runtime, request)).map_err(Error::invalid_input)
    });
    done.unwrap_or_else(|error| line(&Reply::<()>::Error(error.message)))
}

type Answer = Result<Vec<u8>, String>;

fn ok<T: Serialize>(result: T) -> Answer {
    Ok(line(&Reply::Ok(result)))
}

fn failed(error: impl ToString) -> String {
    error.to_string()
}

/// Requests that change nothing; others come back.
fn look(runtime: &Runtime, request: Request) -> Result<Answer, Request> {
    Ok(match request {
        Request::Hello => ok(hello(runtime)),
        Request::Points => ok(view::points(runtime)),
        Request::Programs => ok(view::programs(runtime)),
        Request::Maps => ok(view::maps(runtime)),
        Request::Stats => ok(view::stats(runtime)),
        Request::Verify { path } => runtime.verify(Path::new(&path)).map(view::verified).map_err(failed).and_then(ok),
        Request::Dump { name } => runtime.listing(&name).map(view::listings).map_err(failed).and_then(ok),
        Request::Entries { map } => entries(runtime, &map),
        other => return Err(other),
    })
}

fn change(runtime: &Runtime, request: Request) -> Answer {
    match request {
        Request::Attach { path, replace, params } => {
            let parameters = json::parameters(&params)?;
            let attached = runtime.attach_with(Path::new(&path), Options { replace }, &parameters);
            ok(view::attached(attached.map_err(failed)?))
        }
        Request::Detach { name, hook } => detach(runtime, name, hook),
        Request::Run { name, hook, context, repeat } => {
            let hook = hook.map(|hook| Hook::named(&hook).map_err(failed)).transpose()?;
            let context = json::parameters(&context)?;
            ok(view::ran(runtime.run(&name, hook, &context, repeat.unwrap_or(1)).map_err(failed)?))
        }
        Request::Update { map, key, value, mode } => update(runtime, &map, &key, &value, mode),
        Request::Delete { map, key } => delete(runtime, &map, &key),
        Request::Unpin { map } => ok(runtime.unpin_map(&map).map_err(failed)?),
        // Those that look are done before; streams, and what holds while a client is connected, go elsewhere.
        _ => Err("this cannot be asked for here".into()),
    }
}

fn hello(runtime: &Runtime) -> control::Hello {
    let host = runtime.host();
    let text = |text: *const std::ffi::c_char| {
        // SAFETY: the host's texts are literals (abi.h).
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    };
    control::Hello {
        protocol: control::PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        duckdb: text(host.duckdb_version),
        carrier: carrier(runtime).to_owned(),
        series: text(host.series),
    }
}

fn detach(runtime: &Runtime, name: Option<String>, hook: Option<String>) -> Answer {
    let (name, generation) = match (name, hook) {
        (Some(name), None) => {
            let generation = runtime.detach(&name).map_err(failed)?;
            (name, generation)
        }
        (None, Some(hook)) => runtime.detach_hook(Hook::named(&hook).map_err(failed)?).map_err(failed)?,
        _ => return Err("detach takes the name of a program, or of a hook".into()),
    };
    ok(control::Detached { name, generation: generation.0 })
}

fn entries(runtime: &Runtime, name: &str) -> Answer {
    let map = runtime.map(name).map_err(failed)?;
    let def = map.definition();
    let (key, value) = (key_type(def), value_type(def));
    let entries = map.entries().map_err(|refusal| format!("{name}: {refusal}"))?;
    let entry = |entry: duckbpf_runtime::Entry| {
        let mut values = entry.values.iter().map(|bytes| match def.kind {
            MapKind::ProgArray => String::from_utf8_lossy(bytes).into(),
            _ => json::read(&value, bytes),
        });
        let value = if def.kind.is_percpu() { values.collect() } else { values.next().unwrap_or_default() };
        Entry { key: if def.key_size == 0 { Value::Null } else { json::read(&key, &entry.key) }, value }
    };
    ok(entries.into_iter().map(entry).collect::<Vec<_>>())
}

fn key_bytes(map: &MapHandle, key: &Value) -> Result<Vec<u8>, String> {
    match map.definition() {
        def if def.key_size == 0 && key.is_null() => Ok(Vec::new()),
        def if def.key_size == 0 => Err("this map has no keys".into()),
        def => json::write(&key_type(def), key).map_err(|reason| format!("key: {reason}")),
    }
}

fn update(runtime: &Runtime, name: &str, key: &Value, value: &Value, mode: Mode) -> Answer {
    let map = runtime.map(name).map_err(failed)?;
    let def = map.definition();
    let refused = |reason: String| format!("{name}: {reason}");
    let key = key_bytes(&map, key).map_err(refused)?;
    if def.kind.is_of_maps() {
        let inner = value.as_str().ok_or_else(|| refused("its values are maps; name one".into()))?;
        let inner = runtime.map(inner).map_err(failed)?;
        return ok(runtime.set_inner_map(&map, &key, Some(&inner)).map_err(|refusal| refused(refusal.to_string()))?);
    }
    if def.kind == MapKind::ProgArray {
        if !matches!(mode, Mode::Any) {
            return Err(refused(Refusal::Programs.to_string()));
        }
        let path = value.as_str().ok_or_else(|| refused("its values are programs; name one".into()))?;
        return ok(runtime.set_program(&map, &key, Some(Path::new(path))).map_err(failed)?);
    }
    let ty = value_type(def);
    let write = |value: &Value| json::write(&ty, value).map_err(|reason| refused(format!("value: {reason}")));
    let values: Vec<Vec<u8>> = match value {
        Value::Array(values) if def.kind.is_percpu() && !matches!(ty, Type::Array { .. }) => {
            values.iter().map(write).collect::<Result<_, _>>()?
        }
        value => vec![write(value)?],
    };
    let flags = match mode {
        Mode::Any => UpdateFlags::Any,
        Mode::NoExist => UpdateFlags::NoExist,
        Mode::Exist => UpdateFlags::Exist,
    };
    ok(map.set(&key, &values, flags).map_err(|refusal| refused(refusal.to_string()))?)
}

fn delete(runtime: &Runtime, name: &str, key: &Value) -> Answer {
    let map = runtime.map(name).map_err(failed)?;
    let refused = |reason: String| format!("{name}: {reason}");
    let key = key_bytes(&map, key).map_err(refused)?;
    if map.definition().kind == MapKind::ProgArray {
        return ok(runtime.set_program(&map, &key, None).map_err(failed)?);
    }
    let of_maps = map.definition().kind.is_of_maps();
    let done = if of_maps { runtime.set_inner_map(&map, &key, None) } else { map.remove(&key) };
    ok(done.map_err(|refusal| refused(refusal.to_string()))?)
}

/// A ring buffer whose records go to a client.
pub struct Stream {
    map: MapHandle,
    most: usize,
    ty: Option<Type>,
}

pub fn stream(map: &str, most: Option<usize>) -> Result<Stream, String> {
    let map = runtime().map_err(|error| error.message)?.map(map).map_err(failed)?;
    let def = map.definition();
    if def.kind != MapKind::Ringbuf {
        return Err(format!("{} is of type {}, no ring buffer", def.name, def.kind));
    }
    let ty = def.value.clone();
    Ok(Stream { map, most: most.unwrap_or(RECORDS).clamp(1, MOST_RECORDS), ty })
}

impl Stream {
    /// Takes out the records that wait: how many, and the line that tells them.
    pub fn take(&self) -> Result<(u64, Vec<u8>), String> {
        let records = self.map.drain(self.most).map_err(failed)?;
        let count = records.len() as u64;
        let read = |record: &[u8]| match &self.ty {
            Some(ty) => {
                let mut record = record.to_vec();
                record.resize(record.len().max(ty.size() as usize), 0);
                json::read(ty, &record)
            }
            None => json::hex(record).into(),
        };
        let records = records.iter().map(read).collect();
        Ok((count, line(&Reply::Ok(Events { records, lost: self.map.info().lost }))))
    }

    /// Records that were taken out and reached nobody.
    pub fn lose(&self, records: u64) {
        self.map.lose(records);
    }
}
