//! `duckbpf map`: what maps of a live database hold.

use std::process::ExitCode;

use anyhow::{Context, Result};
use duckbpf_control::{Entry, Events, Map, Mode, Request};
use serde_json::Value;

use crate::{
    output::{bytes, count, table},
    socket::Client,
};

/// List, read and change maps.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    client: Client,
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// All maps
    List,
    /// What a map holds; of a ring buffer, its records are taken out
    Dump {
        /// Alone, or with its program where several have one of that name: program/map
        map: String,
    },
    /// Set a key's value
    Update {
        /// Alone, or with its program: program/map
        map: String,
        /// JSON: 7, '{"tag": 3}'; null where the map has no keys
        key: String,
        /// JSON; of a per-CPU map a list
        value: String,
        /// any; noexist: only where there is no such key; exist: only where there is one
        #[arg(long, value_parser = mode, default_value = "any")]
        mode: Mode,
    },
    /// Take a key out
    Delete {
        /// Alone, or with its program: program/map
        map: String,
        /// JSON; null where the map has no keys
        key: String,
    },
    /// Forget a pinned map: it goes with the last program that uses it
    Unpin {
        /// Its name
        map: String,
    },
}

fn mode(name: &str) -> Result<Mode, String> {
    match name {
        "any" => Ok(Mode::Any),
        "noexist" => Ok(Mode::NoExist),
        "exist" => Ok(Mode::Exist),
        _ => Err("the mode is any, noexist or exist".to_owned()),
    }
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { client, what } = arguments;
    let mut socket = client.connect()?;
    match what {
        What::List => {
            let maps: Vec<Map> = socket.ask(&Request::Maps)?;
            client.print(&maps, || list(&maps))?;
        }
        What::Dump { map } => {
            let maps: Vec<Map> = socket.ask(&Request::Maps)?;
            if maps.iter().find(|known| is_called(known, map)).is_some_and(|map| map.kind == "ringbuf") {
                let request = Request::Events { map: map.clone(), most: None, follow: false };
                let events: Events = socket.ask(&request)?;
                client.print(&events, || events.records.iter().map(|record| format!("{record}\n")).collect())?;
                eprintln!("{} records, {} lost", events.records.len(), events.lost);
            } else {
                let entries: Vec<Entry> = socket.ask(&Request::Entries { map: map.clone() })?;
                client.print(&entries, || dump(&entries))?;
            }
        }
        What::Update { map, key, value, mode } => {
            let (map, key, value) = (map.clone(), parse("key", key)?, parse("value", value)?);
            socket.ask::<Value>(&Request::Update { map, key, value, mode: *mode })?;
        }
        What::Delete { map, key } => {
            socket.ask::<Value>(&Request::Delete { map: map.clone(), key: parse("key", key)? })?;
        }
        What::Unpin { map } => {
            socket.ask::<Value>(&Request::Unpin { map: map.clone() })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// By its name alone, or by its program's and its own.
fn is_called(map: &Map, name: &str) -> bool {
    match name.rsplit_once('/') {
        Some((owner, name)) => map.owner.as_deref() == Some(owner) && map.name == name,
        None => map.name == name,
    }
}

/// JSON; a bare word is text.
fn parse(what: &str, text: &str) -> Result<Value> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(_) if text.starts_with(char::is_alphabetic) && text.chars().all(is_word) => Ok(text.into()),
        Err(error) => Err(error).with_context(|| format!("the {what} is no JSON: {text}")),
    }
}

fn list(maps: &[Map]) -> String {
    let row = |map: &Map| {
        let Map { id, name, owner, kind, key_size, value_size, max_entries, entries, memory_bytes, lost, .. } = map;
        let owner = owner.clone().unwrap_or_else(|| "(pinned)".to_owned());
        let sizes = format!("{key_size} -> {value_size}");
        let filled = format!("{} / {}", count(*entries), count(u64::from(*max_entries)));
        vec![id.to_string(), owner, name.clone(), kind.clone(), sizes, filled, bytes(*memory_bytes), count(*lost)]
    };
    table(&["id", "program", "name", "type", ">bytes", ">entries", ">memory", ">lost"], maps.iter().map(row))
}

fn dump(entries: &[Entry]) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    table(&["key", "value"], entries.iter().map(|entry| vec![text(&entry.key), text(&entry.value)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_json_or_a_word() {
        assert_eq!(parse("key", "7").unwrap(), Value::from(7));
        assert_eq!(parse("key", "LOW").unwrap(), Value::from("LOW"));
        assert_eq!(parse("key", "null").unwrap(), Value::Null);
        assert!(parse("key", "{a").is_err());
    }
}
