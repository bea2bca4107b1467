//! What the control socket (`SET hook_socket = '/path'`) speaks: one JSON object a line, in both directions.
//!
//! ```text
//! client   {"op":"attach","path":"hash_wy"}
//! server   {"ok":{"name":"hash_wy","generation":4,"hooks":["hash"],"displaced":[]}}
//! client   {"op":"detach","name":"nobody"}
//! server   {"error":"no program named 'nobody' is attached\nNothing was changed; attached as before: hash_wy."}
//! ```
//!
//! The server, in `extension/`, and the `duckbpf` command share these types. The page for people who write another client is
//! `docs/src/socket.md`. Replies may get more fields; requests with fields that the server does not know are refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Version of this protocol, which [`Request::Hello`] tells.
pub const PROTOCOL: u32 = 1;
/// Bytes of a request's line. A longer one ends the connection.
pub const MAX_LINE: usize = 1 << 20;
/// Clients at a time. Further ones are told so and closed.
pub const MAX_CLIENTS: usize = 64;

/// Fields of a structure, or constants, by name.
pub type Fields = serde_json::Map<String, Value>;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Who answers: [`Hello`].
    Hello,
    /// The hooks: `Vec<`[`Point`]`>`.
    Points,
    /// The attached programs: `Vec<`[`Program`]`>`.
    Programs,
    /// Hooks, programs and maps, as of one moment: [`Stats`].
    Stats,
    /// Attaches an object beside those that are attached: [`Attached`].
    Attach {
        /// A file that the server's process can read, or the name of a program of the gallery.
        path: String,
        #[serde(default)]
        replace: bool,
        /// Constants to set before the check.
        #[serde(default)]
        params: Fields,
    },
    /// Detaches the object of that name, or whatever has a program for that hook; one of both is given: [`Detached`].
    Detach {
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        hook: Option<String>,
    },
    /// Reads, checks and compiles an object and attaches nothing: `Vec<`[`Verified`]`>`.
    Verify { path: String },
    /// Runs a program on a context that is made up: [`Ran`].
    Run {
        /// An attached object, which works with its own maps; else a file or a program of the gallery, with maps made for it.
        name: String,
        /// Which of its programs; it may be left out where there is one.
        #[serde(default)]
        hook: Option<String>,
        /// Fields by name, as the hook's context has them; 0 where none is given.
        #[serde(default)]
        context: Fields,
        /// How often; 1 if left out.
        #[serde(default)]
        repeat: Option<u64>,
    },
    /// The programs of an attached object, instruction by instruction: `Vec<`[`Listing`]`>`.
    Dump { name: String },
    /// The maps: `Vec<`[`Map`]`>`.
    Maps,
    /// What a map holds: `Vec<`[`Entry`]`>`.
    Entries { map: String },
    /// Sets a key's value; `mode` is any, noexist or exist: `null`.
    Update {
        map: String,
        /// Left out where the map has no keys.
        #[serde(default)]
        key: Value,
        value: Value,
        #[serde(default)]
        mode: Mode,
    },
    /// Takes a key out, or, of a queue or stack, the next value: `null`.
    Delete {
        map: String,
        #[serde(default)]
        key: Value,
    },
    /// Forgets a pinned map: `null`.
    Unpin { map: String },
    /// Takes records out of a ring buffer: [`Events`], once; or, to follow, again and again until the client closes or sends
    /// anything.
    Events {
        map: String,
        /// Records of one reply; 1024 if left out.
        #[serde(default)]
        most: Option<usize>,
        #[serde(default)]
        follow: bool,
    },
    /// Wants calls to be timed (one in 64), or no longer: `null`. The wish ends with the connection; calls are timed while any client,
    /// or SQL, wants it.
    Sampling { on: bool },
}

/// When an update may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Any,
    /// Only where there is no such key.
    NoExist,
    /// Only where there is one.
    Exist,
}

/// What the server answers: `{"ok": ...}` or `{"error": "..."}`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply<T> {
    Ok(T),
    /// What was wrong, and what is still in force.
    Error(String),
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Hello {
    pub protocol: u32,
    /// Of duckbpf.
    pub version: String,
    pub pid: u32,
    /// "v2.0.0"
    pub duckdb: String,
    /// "graft" or "engine"
    pub carrier: String,
    /// Hash of the patch series.
    pub series: String,
}

/// A hook, and what programs did there since the process began.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Point {
    pub hook: String,
    /// observer, decider or transformer
    pub class: String,
    /// The object whose program is attached.
    pub program: Option<String>,
    /// In which it was attached; 0 without one.
    pub generation: u64,
    #[serde(flatten)]
    pub counts: Counts,
}

/// What programs did.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Counts {
    /// Calls; hash: vectors.
    pub calls: u64,
    /// Decisions that were followed.
    pub applied: u64,
    /// Decisions that were not.
    pub refused: u64,
    /// Those, by reason; only reasons that occurred.
    pub refusals: BTreeMap<String, u64>,
    /// Hash: keys.
    pub keys: u64,
    /// Calls that were timed, and their nanoseconds; 0 while sampling is off.
    pub timed_calls: u64,
    pub timed_ns: u64,
}

/// An attached program. Counts begin with its attaching.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Program {
    /// Its number in the process.
    pub id: u64,
    /// First 16 hexadecimal digits of the SHA-256 of its bytecode and constants.
    pub tag: String,
    /// The object's name: what detach takes.
    pub name: String,
    pub path: String,
    /// The function in the object.
    pub entry: String,
    pub hook: String,
    pub generation: u64,
    /// Microseconds since 1970, UTC.
    pub loaded_at: u64,
    /// Instructions; those with 64-bit constants count twice.
    pub insns: u64,
    pub machine_code_bytes: u64,
    pub worst_cost: u64,
    pub verify_us: f64,
    pub compile_us: f64,
    pub publish_us: f64,
    /// All calls' nanoseconds, an estimate from those that were timed.
    pub run_time_ns: u64,
    #[serde(flatten)]
    pub counts: Counts,
}

/// A map.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Map {
    /// Its number in the process; 0: a section of variables.
    pub id: u32,
    pub name: String,
    /// The object that declares it.
    pub owner: Option<String>,
    /// "hash", "ringbuf", ...
    #[serde(rename = "type")]
    pub kind: String,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    /// Of a ring buffer, bytes that wait.
    pub entries: u64,
    pub memory_bytes: u64,
    pub pinned: bool,
    /// Ring buffers: records for which there was no room, or no reader any more.
    pub lost: u64,
}

/// What `top` draws.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Stats {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub at_ns: u64,
    pub points: Vec<Point>,
    pub programs: Vec<Program>,
    pub maps: Vec<Map>,
    /// Bytes that all maps take, and may take.
    pub map_memory: u64,
    pub map_memory_limit: u64,
}

/// What an attach did.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Attached {
    pub name: String,
    pub generation: u64,
    pub hooks: Vec<String>,
    /// Objects that `replace` detached for it.
    pub displaced: Vec<String>,
}

/// What a detach did.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Detached {
    pub name: String,
    pub generation: u64,
}

/// A program that was checked, and attached nowhere.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Verified {
    pub name: String,
    pub path: String,
    pub entry: String,
    pub tag: String,
    pub hook: String,
    /// `SEC("?duckdb/...")`
    pub optional: bool,
    pub insns: u64,
    pub machine_code_bytes: u64,
    pub worst_cost: u64,
    pub verify_us: f64,
    pub compile_us: f64,
}

/// How a program ran.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Ran {
    pub name: String,
    pub entry: String,
    pub hook: String,
    /// Of the last run.
    pub result: u64,
    pub repeat: u64,
    pub total_ns: u64,
    pub mean_ns: f64,
}

/// A program, instruction by instruction.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Listing {
    pub entry: String,
    pub hook: String,
    pub insns: Vec<Insn>,
}

/// An instruction of bytecode, and what was made of it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Insn {
    /// Its slot.
    pub pc: u64,
    pub text: String,
    /// "file:line: code", where the object has it and it differs from the one before.
    pub source: Option<String>,
    /// Offset and hexadecimal bytes of its machine code.
    pub offset: u64,
    pub machine_code: String,
}

/// A key and its value; of a per-CPU map a list of the values of the threads. Structs are objects, arrays are lists, `char[n]` is
/// text, enums are names, what is wider than 64 bits is text of the number, and what has no type is text of hexadecimal bytes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Entry {
    /// null where the map has no keys.
    pub key: Value,
    pub value: Value,
}

/// Records of a ring buffer, oldest first, as values are in [`Entry`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Events {
    pub records: Vec<Value>,
    /// Records that were lost since the map was made.
    pub lost: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Request {
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn what_may_be_left_out_may() {
        let attach = Request::Attach { path: "hash_wy".into(), replace: false, params: Fields::new() };
        assert_eq!(request(r#"{"op":"attach","path":"hash_wy"}"#), attach);
        assert_eq!(request(r#"{"op":"hello"}"#), Request::Hello);
        let delete = Request::Delete { map: "work".into(), key: Value::Null };
        assert_eq!(request(r#"{"op":"delete","map":"work"}"#), delete);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for line in [
            r#"{"op":"atach","path":"x"}"#,
            r#"{"op":"attach","path":"x","force":true}"#,
            r#"{"op":"attach"}"#,
            r#"{"path":"x"}"#,
            "7",
        ] {
            assert!(serde_json::from_str::<Request>(line).is_err(), "{line}");
        }
    }

    #[test]
    fn replies_are_one_of_two() {
        let detached = Detached { name: "a".into(), generation: 2 };
        let line = serde_json::to_string(&Reply::Ok(detached.clone())).unwrap();
        assert_eq!(line, r#"{"ok":{"name":"a","generation":2}}"#);
        assert_eq!(serde_json::from_str::<Reply<Detached>>(&line).unwrap(), Reply::Ok(detached));
        let line = r#"{"error":"no"}"#;
        assert_eq!(serde_json::from_str::<Reply<Detached>>(line).unwrap(), Reply::Error("no".into()));
    }
}
