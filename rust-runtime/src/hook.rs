//! The hooks as the runtime knows them: one table of names, classes, contexts, helpers and ceilings.
//!
//! The contexts' offsets come from hook-shim's header by `offset_of!`, so they cannot drift from it.

use std::fmt;

use duckbpf_abi as abi;

use crate::error::{Error, Problem};

/// A place in the engine where a program may be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Hook {
    Hash = abi::DUCKBPF_HOOK_HASH,
    ScheduleTask = abi::DUCKBPF_HOOK_SCHEDULE_TASK,
    ExecuteForever = abi::DUCKBPF_HOOK_EXECUTE_FOREVER,
    Load = abi::DUCKBPF_HOOK_LOAD,
    UpdateUsedMemory = abi::DUCKBPF_HOOK_UPDATE_USED_MEMORY,
    AllocateNewBlock = abi::DUCKBPF_HOOK_ALLOCATE_NEW_BLOCK,
    Unpin = abi::DUCKBPF_HOOK_UNPIN,
    Evict = abi::DUCKBPF_HOOK_EVICT,
    QueueInsert = abi::DUCKBPF_HOOK_QUEUE_INSERT,
    Checkpoint = abi::DUCKBPF_HOOK_CHECKPOINT,
    Prefetch = abi::DUCKBPF_HOOK_PREFETCH,
    FileRead = abi::DUCKBPF_HOOK_FILE_READ,
    Log = abi::DUCKBPF_HOOK_LOG,
    Compression = abi::DUCKBPF_HOOK_COMPRESSION,
    ScanBegin = abi::DUCKBPF_HOOK_SCAN_BEGIN,
    RunTask = abi::DUCKBPF_HOOK_RUN_TASK,
    QueryBegin = abi::DUCKBPF_HOOK_QUERY_BEGIN,
    QueryEnd = abi::DUCKBPF_HOOK_QUERY_END,
    PipelineThreads = abi::DUCKBPF_HOOK_PIPELINE_THREADS,
    OperatorMemory = abi::DUCKBPF_HOOK_OPERATOR_MEMORY,
}

/// What the engine does with a program's return value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Ignores it.
    Observer,
    /// Follows it where it is valid.
    Decider,
    /// Uses it as the result (hash).
    Transformer,
}

impl Class {
    pub fn name(self) -> &'static str {
        match self {
            Class::Observer => "observer",
            Class::Decider => "decider",
            Class::Transformer => "transformer",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Hook {
    pub const COUNT: usize = abi::DUCKBPF_HOOK_COUNT as usize;

    pub const ALL: [Hook; Hook::COUNT] = [
        Hook::Hash,
        Hook::ScheduleTask,
        Hook::ExecuteForever,
        Hook::Load,
        Hook::UpdateUsedMemory,
        Hook::AllocateNewBlock,
        Hook::Unpin,
        Hook::Evict,
        Hook::QueueInsert,
        Hook::Checkpoint,
        Hook::Prefetch,
        Hook::FileRead,
        Hook::Log,
        Hook::Compression,
        Hook::ScanBegin,
        Hook::RunTask,
        Hook::QueryBegin,
        Hook::QueryEnd,
        Hook::PipelineThreads,
        Hook::OperatorMemory,
    ];

    /// The name as in `SEC("duckdb/<name>")`.
    pub const fn name(self) -> &'static str {
        match self {
            Hook::Hash => "hash",
            Hook::ScheduleTask => "schedule_task",
            Hook::ExecuteForever => "execute_forever",
            Hook::Load => "load",
            Hook::UpdateUsedMemory => "update_used_memory",
            Hook::AllocateNewBlock => "allocate_new_block",
            Hook::Unpin => "unpin",
            Hook::Evict => "evict",
            Hook::QueueInsert => "queue_insert",
            Hook::Checkpoint => "checkpoint",
            Hook::Prefetch => "prefetch",
            Hook::FileRead => "file_read",
            Hook::Log => "log",
            Hook::Compression => "compression",
            Hook::ScanBegin => "scan_begin",
            Hook::RunTask => "run_task",
            Hook::QueryBegin => "query_begin",
            Hook::QueryEnd => "query_end",
            Hook::PipelineThreads => "pipeline_threads",
            Hook::OperatorMemory => "operator_memory",
        }
    }

    pub fn from_name(name: &str) -> Option<Hook> {
        Hook::ALL.into_iter().find(|hook| hook.name() == name)
    }

    /// As `from_name`; the error tells the names that there are.
    pub fn named(name: &str) -> Result<Hook, Error> {
        Hook::from_name(name).ok_or_else(|| Problem::NoHook { name: name.to_owned(), known: names() }.into())
    }

    pub fn class(self) -> Class {
        match self {
            Hook::Hash => Class::Transformer,
            Hook::UpdateUsedMemory | Hook::FileRead | Hook::QueryEnd => Class::Observer,
            _ => Class::Decider,
        }
    }

    /// Its place in a `duckbpf_set` and in the host's counters.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// All names, for messages.
pub fn names() -> String {
    Hook::ALL.map(Hook::name).join(", ")
}
