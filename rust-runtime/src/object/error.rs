//! Why an object was not loaded.

use std::{fmt, io};

use super::{MAX_FILE, MAX_MAPS, MAX_MEMORY, MAX_PARTS, MAX_SLOTS, SourceLine};
use crate::{hook, isa::SLOT};

/// What is wrong with an object, and where in it.
#[derive(Debug, thiserror::Error)]
#[error("{place}{fault}")]
pub struct ObjectError {
    pub place: Box<Place>,
    pub fault: Fault,
}

/// Where in an object, as far as that is known.
#[derive(Debug, Default)]
pub struct Place {
    pub section: Option<String>,
    pub symbol: Option<String>,
    /// Slot within the section.
    pub instruction: Option<usize>,
    /// If the object was built with -g.
    pub line: Option<SourceLine>,
}

/// What is wrong with an object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    #[error("cannot be read: {0}")]
    Io(#[source] io::Error),
    #[error("does not exist")]
    Missing,
    #[error("is a {0}, not a file")]
    NotAFile(&'static str),
    #[error("has {0} bytes; objects have at most {MAX_FILE}")]
    TooLarge(u64),
    #[error("is empty")]
    Empty,
    #[error("is no ELF object ({0}); C becomes one by: duckbpf compile")]
    NotElf(&'static str),
    #[error("is an ELF object for another machine ({0}), not for BPF; compile the program by: duckbpf compile")]
    NotBpf(String),
    #[error("is a big-endian BPF object; compile the program with -target bpfel")]
    BigEndian,
    #[error("is a linked ELF file, not a relocatable object; compile the program with -c")]
    NotRelocatable,
    #[error("is damaged or cut off: {0}")]
    Damaged(String),
    #[error("holds no program; give a function SEC(\"duckdb/<hook>\"), hooks are: {}", hook::names())]
    NoPrograms,
    #[error("is not a section for programs: hooks are: {}", hook::names())]
    UnknownHook,
    #[error("is code in a section of its own; programs go to SEC(\"duckdb/<hook>\"), their functions to .text")]
    UnknownCode,
    #[error("is a second program for the hook {hook}; {first} is the first, and an object holds one a hook")]
    TwoPrograms { hook: &'static str, first: String },
    #[error("does not record the version of duckbpf.h (section .duckbpf.abi); include \"duckbpf.h\" of this version")]
    NoAbi,
    #[error("was built with version {found} of duckbpf.h; this runtime takes version {expected}: compile it again")]
    OtherAbi { found: u32, expected: u32 },
    #[error("maps are declared by their types, which the object does not hold; compile it with -g")]
    MapsWithoutTypes,
    #[error("the map {map} cannot be: {what}")]
    BadMap { map: String, what: String },
    #[error("declares more than {MAX_MAPS} maps")]
    TooManyMaps,
    #[error("has {0} bytes, which is no whole number of instructions")]
    UnevenCode(u64),
    #[error("has more than {MAX_SLOTS} instructions of {SLOT} bytes")]
    TooManyInstructions,
    #[error(
        "can_loop needs eight bytes of its stack, which it uses to the last; make it use less, or declare a loop_budget(n)"
    )]
    NoRoomForRounds,
    #[error("global variables take more than {MAX_MEMORY} bytes")]
    TooMuchMemory,
    #[error("has more than {MAX_PARTS} programs or sections of variables")]
    TooManyParts,
    #[error("holds thread-local variables, which programs cannot have")]
    ThreadLocal,
    #[error("refers to the unknown symbol {0}; helpers and variables must be defined in the object or in duckbpf.h")]
    UnknownSymbol(String),
    #[error("relocation type {0} is not supported")]
    UnknownRelocation(u32),
    #[error("a relocation stands where none can be")]
    MisplacedRelocation,
    #[error("refers to {0}, which holds no variables")]
    NotData(String),
    #[error("refers into the middle of the map {0}")]
    InsideMap(String),
    #[error("holds the address of {0}: pointers in global variables are not supported")]
    PointerInData(String),
    #[error("address {offset} is outside of {region}, which has {size} bytes")]
    OutsideRegion { region: String, offset: i64, size: u64 },
    #[error("calls something that is not the beginning of a function")]
    CallTarget,
    #[error("uses a 64-bit constant of kind {0}, which only a loader may write")]
    PseudoConstant(u8),
    #[error("symbol must be a constant of {0} bytes in .rodata")]
    BadConstant(usize),
    #[error("is not UTF-8 text of at most 128 bytes")]
    BadLicense,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(section) = &self.section {
            write!(f, "section {section}: ")?;
        }
        if let Some(symbol) = &self.symbol {
            write!(f, "{symbol}: ")?;
        }
        if let Some(instruction) = self.instruction {
            write!(f, "instruction {instruction}: ")?;
        }
        if let Some(line) = &self.line {
            write!(f, "{line}: ")?;
        }
        Ok(())
    }
}

impl ObjectError {
    pub(super) fn in_section(mut self, section: &str) -> Self {
        self.place.section.get_or_insert_with(|| section.to_owned());
        self
    }

    pub(super) fn at_symbol(mut self, symbol: &str) -> Self {
        self.place.symbol.get_or_insert_with(|| symbol.to_owned());
        self
    }

    pub(super) fn at_instruction(mut self, slot: usize) -> Self {
        self.place.instruction.get_or_insert(slot);
        self
    }

    pub(super) fn at_line(mut self, line: Option<SourceLine>) -> Self {
        self.place.line = self.place.line.or(line);
        self
    }
}

impl From<Fault> for ObjectError {
    fn from(fault: Fault) -> Self {
        ObjectError { place: Box::default(), fault }
    }
}

impl From<object::Error> for ObjectError {
    fn from(error: object::Error) -> Self {
        Fault::Damaged(error.to_string()).into()
    }
}
