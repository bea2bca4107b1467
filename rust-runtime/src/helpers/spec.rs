//! What there is to know of a helper: what it takes and gives, where it may be called, what a call costs.

use super::HelperFn;
use crate::{hook::Hook, object::MapKind};

/// A set of hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hooks(u32);

impl Hooks {
    pub const ALL: Hooks = Hooks((1 << Hook::COUNT) - 1);
    /// A hash is a function of its key alone.
    pub const NOT_HASH: Hooks = Hooks(Hooks::ALL.0 & !(1 << Hook::Hash as u32));
    /// The hook that may reject a query.
    pub const REJECTS: Hooks = Hooks(1 << Hook::QueryBegin as u32);
    /// Hooks whose context names a block.
    pub const BLOCKS: Hooks = Hooks::of(&[Hook::Load, Hook::Unpin, Hook::Evict, Hook::QueueInsert]);

    pub const fn of(hooks: &[Hook]) -> Hooks {
        let (mut set, mut at) = (0, 0);
        while at < hooks.len() {
            set |= 1 << hooks[at] as u32;
            at += 1;
        }
        Hooks(set)
    }

    pub const fn contains(self, hook: Hook) -> bool {
        self.0 & 1 << hook as u32 != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Hook> {
        Hook::ALL.into_iter().filter(move |&hook| self.contains(hook))
    }
}

/// What an argument must be. `size` is the place, from 0, of the argument that says how many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgKind {
    /// The helper has no such argument; the register may hold anything.
    None,
    /// Any number.
    Scalar,
    /// The number 0: flags that are kept for later.
    Zero,
    /// A map of one of the helper's kinds.
    Map,
    /// Readable, initialised memory of the map's key size.
    Key,
    /// Readable, initialised memory of the map's value size.
    Value,
    /// As `Value`, or the number 0.
    ValueOrNull,
    /// Writable memory of the map's value size, which the helper fills, with zeros where it fails. A bloom filter reads it.
    ValueOut,
    /// Readable, initialised memory.
    Memory { size: u8 },
    /// Writable memory, which the helper fills wholly.
    MemoryOut { size: u8 },
    /// The size of memory: a number that is proved to lie within that memory's bounds. 0 is allowed.
    Size,
    /// The size of a record: a constant above 0.
    RecordSize,
    /// A record that was acquired; the call releases it.
    Record,
    /// Read-only global memory that ends in a zero byte.
    ConstString,
    /// The program's context, unmoved.
    Context,
    /// A function of the program. What it is called with: [`CallbackKind`].
    Callback(CallbackKind),
    /// Handed to the callback as it is: a pointer to the caller's stack, or a number.
    CallbackContext,
}

impl ArgKind {
    /// Whether the helper writes the memory that the argument points to, given the kind of map that the call is about.
    pub fn is_filled(self, map: Option<MapKind>) -> bool {
        match self {
            // It tells whether it may hold the value that it is given.
            ArgKind::ValueOut => map != Some(MapKind::BloomFilter),
            ArgKind::MemoryOut { .. } => true,
            _ => false,
        }
    }
}

/// How a helper calls back. A callback returns 0 to go on and 1 to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackKind {
    /// `long (*)(u64 index, void *context)`, called up to as often as the first argument says, at most [`MAX_LOOP`].
    Loop,
    /// `long (*)(map, const key *, value *, void *context)`, called up to once an entry.
    MapElement,
}

/// The most rounds of `bpf_loop`, as in Linux.
pub const MAX_LOOP: u64 = 1 << 23;

/// What a call leaves in r0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetKind {
    /// Nothing that may be read.
    Nothing,
    /// Any number.
    Scalar,
    /// A number of 32 bits.
    Scalar32,
    /// 0, or a negative error.
    Status,
    /// A count, or a negative error.
    CountOrError,
    /// The address of a value of the map, or 0. Of maps of maps: an inner map, or 0.
    ValueOrNull,
    /// The address of a record of that many bytes, or 0. It is acquired: the program must release it.
    RecordOrNull { size: u8 },
    /// As `Status`; where it succeeds the call does not return (tail_call).
    StatusIfReturns,
}

/// What makes a call dearer than its fixed cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    None,
    /// The number in this argument, at its most.
    Arg(u8),
    /// The map's key.
    Key,
    /// The map's key and value.
    KeyAndValue,
    /// The map's value.
    Value,
}

/// What a call counts in instructions against the hook's ceiling; callbacks' bodies come on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    pub fixed: u64,
    pub bytes: Bytes,
    /// Each begun eight of `bytes` count this much.
    pub per_eight: u64,
}

impl Cost {
    pub const fn fixed(fixed: u64) -> Cost {
        Cost { fixed, bytes: Bytes::None, per_eight: 0 }
    }

    pub const fn with(fixed: u64, bytes: Bytes, per_eight: u64) -> Cost {
        Cost { fixed, bytes, per_eight }
    }

    /// The cost of a call on so many bytes.
    pub fn of(self, bytes: u64) -> u64 {
        self.fixed.saturating_add(self.per_eight.saturating_mul(bytes.div_ceil(8)))
    }
}

/// One helper.
#[derive(Debug)]
pub struct HelperSpec {
    /// Linux' number where the meaning is the same; ours begin at [`OWN`].
    pub id: u32,
    /// Without its prefix, see [`HelperSpec::c_name`].
    pub name: &'static str,
    pub args: [ArgKind; 5],
    pub ret: RetKind,
    /// Kinds that an argument [`ArgKind::Map`] may have.
    pub maps: &'static [MapKind],
    pub hooks: Hooks,
    pub cost: Cost,
    /// The result depends on the arguments alone, and nothing else changes.
    pub pure: bool,
    /// Called by immediate address: five arguments and the environment, by the C calling convention.
    pub function: HelperFn,
    /// C type of the result.
    pub returns: &'static str,
    /// C declarations of the arguments.
    pub parameters: &'static [&'static str],
    /// What it does, its units and errors; the header and the book print it.
    pub doc: &'static str,
    /// A line of C that uses it.
    pub example: &'static str,
}

/// map_delete_elem, map_pop_elem: the table does not say otherwise that they change their map.
const DELETE: u32 = 3;
const POP: u32 = 88;

/// The first number of our own.
pub const OWN: u32 = 0x10000;

impl HelperSpec {
    pub fn allowed_in(&self, hook: Hook) -> bool {
        self.hooks.contains(hook)
    }

    /// The name in C: as in Linux, or of our own.
    pub fn c_name(&self) -> String {
        format!("{}{}", if self.id < OWN { "bpf_" } else { "duckbpf_" }, self.name)
    }

    /// It writes into the map that it is given.
    pub fn changes_map(&self) -> bool {
        self.args.iter().any(|arg| matches!(arg, ArgKind::Value)) || matches!(self.id, DELETE | POP)
    }

    /// The caller must release what it gets.
    pub fn acquires(&self) -> bool {
        matches!(self.ret, RetKind::RecordOrNull { .. })
    }

    /// The place, from 0, of the argument that the call releases.
    pub fn releases(&self) -> Option<usize> {
        self.args.iter().position(|arg| *arg == ArgKind::Record)
    }

    pub fn callback(&self) -> Option<(usize, CallbackKind)> {
        self.args.iter().enumerate().find_map(|(place, arg)| match arg {
            ArgKind::Callback(kind) => Some((place, *kind)),
            _ => None,
        })
    }
}
