//! BPF objects: ELF files as clang makes them, read into programs that stand alone.
//!
//! ```text
//! read -> bytes, once, bounded        a path is read a single time: what is checked is what is attached
//! parse -> Object                     sections, symbols, relocations; calls linked; nothing is allocated unbounded
//! Memory::new -> Arc<Memory>          the object's global variables, shared by its programs
//! ```
//!
//! Nothing here trusts the bytes: every offset, size and count is checked, and any input ends in an [`Object`] or an
//! [`ObjectError`]. Whether a program is safe to run is the verifier's business.

mod btf;
mod elf;
mod error;
mod lines;
mod link;
mod maps;
mod memory;
mod parameters;
mod read;
mod rounds;

pub use btf::{Member, Type};
pub use elf::{parse, parse_foreign};
pub use error::{Fault, ObjectError};
pub use lines::SourceLine;
pub use maps::{FLAG_READ_ONLY_PROGRAM, FLAG_WRITE_ONLY_PROGRAM, Initial, MAX_MAPS, MapDef, MapKind};
#[cfg(any(test, feature = "testing"))]
pub use memory::RegionMap;
pub use memory::{Memory, MemoryError};
pub use parameters::{Parameter, ParameterError};
pub use read::read;

use crate::{hook::Hook, isa::Insn};
use lines::LineTable;

/// Files beyond this are refused unread.
pub const MAX_FILE: u64 = 4 << 20;
/// Slots of eight bytes in one program, its functions included.
pub const MAX_SLOTS: usize = 65_536;
/// Bytes of global variables in one object.
pub const MAX_MEMORY: u64 = 16 << 20;
/// Programs and sections of global variables in one object.
pub const MAX_PARTS: usize = 64;

/// A parsed object.
#[derive(Clone, Debug)]
pub struct Object {
    pub license: Option<String>,
    pub programs: Vec<ProgramText>,
    pub regions: Vec<Region>,
    /// First one for each region, at the region's number, then those of `.maps`. `LDDW` refers to them by place.
    pub maps: Vec<MapDef>,
    /// Global variables by name.
    pub variables: Vec<Variable>,
    /// `hash_types`: the types of keys that a hash program takes.
    pub hash_types: Option<u64>,
    /// `hash_mixed`: a hash program says that its output needs no mixer.
    pub hash_mixed: Option<u32>,
}

/// An object that was written for something else. Its programs have no hooks: what they say of theirs means nothing.
#[derive(Debug)]
pub struct Foreign(pub Object);

/// A section of global variables.
#[derive(Clone, Debug)]
pub struct Region {
    pub name: String,
    pub writable: bool,
    pub size: u64,
    /// What it begins with; shorter than `size` where the rest is zero (.bss).
    pub bytes: Vec<u8>,
}

/// A global variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    /// Its place in `Object.regions`, and in `Object.maps`.
    pub region: usize,
    pub offset: u64,
    pub size: u64,
    /// None: the object was built without -g.
    pub ty: Option<Type>,
}

/// One program: its own function first, then every function that it calls.
#[derive(Clone, Debug)]
pub struct ProgramText {
    pub symbol: String,
    pub section: String,
    pub hook: Hook,
    /// `SEC("?...")`: checked, but not attached unless asked for.
    pub optional: bool,
    pub insns: Vec<Insn>,
    pub functions: Vec<Function>,
    lines: LineTable,
}

/// A function's slots within its program.
#[derive(Clone, Debug)]
pub struct Function {
    pub name: String,
    pub start: usize,
    pub end: usize,
}

impl ProgramText {
    /// The function that a slot belongs to.
    pub fn function_at(&self, pc: usize) -> Option<usize> {
        let after = self.functions.partition_point(|function| function.start <= pc);
        after.checked_sub(1).filter(|&index| pc < self.functions[index].end)
    }

    /// The line of source code that a slot came from, if the object was built with -g.
    pub fn source_line(&self, pc: usize) -> Option<SourceLine> {
        self.lines.at(pc)
    }

    pub fn bytecode_bytes(&self) -> usize {
        self.insns.len() * crate::isa::SLOT
    }

    /// A program out of bare instructions: no functions but the first, no lines.
    #[cfg(any(test, feature = "testing", feature = "conformance"))]
    pub fn from_insns(hook: Hook, insns: Vec<Insn>, functions: Vec<Function>) -> ProgramText {
        ProgramText {
            symbol: "test".into(),
            section: format!("duckdb/{hook}"),
            hook,
            optional: false,
            insns,
            functions,
            lines: LineTable::default(),
        }
    }
}

#[cfg(any(test, feature = "testing"))]
impl Object {
    /// An object with one program; the maps come after those that stand for the regions.
    pub fn from_parts(program: ProgramText, regions: Vec<Region>, maps: Vec<MapDef>) -> Object {
        let sections = regions.iter().enumerate();
        let sections =
            sections.map(|(index, region)| MapDef::of_region(index, &region.name, region.size, region.writable));
        let maps = sections.chain(maps).collect();
        let (license, variables) = (None, Vec::new());
        Object { license, programs: vec![program], regions, maps, variables, hash_types: None, hash_mixed: None }
    }
}
