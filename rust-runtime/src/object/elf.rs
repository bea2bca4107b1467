//! ELF into an [`Object`]: which sections there are, what they mean, and whether they may be.

use std::collections::BTreeMap;

use object::{
    LittleEndian as LE, SectionIndex, elf,
    read::elf::{FileHeader, Rel, SectionHeader, Sym},
};

use super::{
    Fault, Foreign, MAX_MEMORY, MAX_PARTS, MAX_SLOTS, Object, ObjectError, ProgramText, Region, Variable,
    btf::Btf,
    lines::SectionLines,
    link,
    maps::{self, MapPlace},
};
use crate::{
    hook::Hook,
    isa::{Insn, SLOT},
};

type Header = elf::FileHeader64<LE>;

const ABI_SECTION: &str = ".duckbpf.abi";
const LICENSE_SECTION: &str = "license";
const TEXT_SECTION: &str = ".text";
/// Programs of an object that is only judged: collections of test programs hold many.
const MAX_FOREIGN_PROGRAMS: usize = 1024;
/// Stands for the hook of programs that have none.
const FOREIGN: Hook = Hook::ScheduleTask;

/// A section, as far as it matters here.
pub(super) struct Section<'data> {
    pub name: String,
    pub role: Role,
    pub data: &'data [u8],
    pub size: u64,
    pub relocations: BTreeMap<u64, Relocation>,
}

pub(super) enum Role {
    /// A program's code; false: optional.
    Program(Hook, bool),
    /// Functions that programs call.
    Text,
    /// Index among the object's regions.
    Memory(usize),
    /// Declarations of maps.
    Maps,
    Other,
}

#[derive(Clone, Copy)]
pub(super) struct Relocation {
    pub kind: u32,
    pub symbol: usize,
}

pub(super) struct Symbol {
    pub name: String,
    pub section: Option<usize>,
    pub value: u64,
    pub size: u64,
    pub is_section: bool,
    pub is_function: bool,
    pub is_object: bool,
    pub is_global: bool,
}

/// What the linker works on.
pub(super) struct Elf<'data> {
    pub sections: Vec<Section<'data>>,
    pub symbols: Vec<Symbol>,
    pub regions: Vec<Region>,
    /// By section and slot: name and end.
    pub functions: BTreeMap<(usize, usize), (String, usize)>,
    /// What `.maps` declares.
    pub maps: Vec<MapPlace>,
    pub lines: SectionLines,
    pub btf: Option<Btf>,
    /// Written for something else.
    pub is_foreign: bool,
}

impl Elf<'_> {
    pub fn insns(&self, section: usize) -> impl ExactSizeIterator<Item = Insn> + '_ {
        self.sections[section].data.as_chunks::<SLOT>().0.iter().map(|bytes| Insn::from_bytes(*bytes))
    }

    /// The place in `Object.maps` of the map that a symbol of `.maps` stands for.
    pub fn map_at(&self, symbol: &Symbol) -> Option<usize> {
        self.map_from(symbol.section?, symbol.value)
    }

    /// The place in `Object.maps` of the map whose variable begins there.
    pub fn map_from(&self, section: usize, offset: u64) -> Option<usize> {
        let place = self.maps.iter().position(|place| place.section == section && place.start == offset)?;
        Some(self.regions.len() + place)
    }
}

/// Reads an object. Any bytes end in an `Object` or an error.
pub fn parse(bytes: &[u8]) -> Result<Object, ObjectError> {
    read_object(bytes, false)
}

/// Reads an object that was written for something else: any section of code holds a program, and maps may be of kinds that
/// there are only elsewhere. It can be judged, not attached.
pub fn parse_foreign(bytes: &[u8]) -> Result<Foreign, ObjectError> {
    read_object(bytes, true).map(Foreign)
}

fn read_object(bytes: &[u8], is_foreign: bool) -> Result<Object, ObjectError> {
    check_header(bytes)?;
    let mut elf = Elf { is_foreign, ..read_elf(bytes)? };
    check_abi(&elf, false)?;
    assign_roles(&mut elf)?;
    find_functions(&mut elf)?;
    elf.maps = maps::places(&elf)?;
    let maps = maps::read(&elf)?;
    let programs = link_programs(&elf)?;
    check_abi(&elf, !is_foreign)?;
    if !is_foreign {
        refuse_pointers_in_data(&elf)?;
    }
    Ok(Object {
        license: license(&elf)?,
        hash_types: constant(&elf, "hash_types")?.map(u64::from_le_bytes),
        hash_mixed: constant(&elf, "hash_mixed")?.map(u32::from_le_bytes),
        programs,
        maps,
        variables: variables(&elf),
        regions: elf.regions,
    })
}

fn check_header(bytes: &[u8]) -> Result<(), ObjectError> {
    if bytes.is_empty() {
        return Err(Fault::Empty.into());
    }
    if !bytes.starts_with(&elf::ELFMAG) {
        let is_text = bytes.iter().take(64).all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
        return Err(Fault::NotElf(if is_text { "it is text" } else { "it does not begin as one" }).into());
    }
    let field = |at: usize| bytes.get(at).copied().ok_or(Fault::Damaged("its header is cut off".into()));
    let half = |at: usize| Ok::<_, Fault>([field(at)?, field(at + 1)?]);
    let is_little = match field(5)? {
        elf::ELFDATA2LSB => true,
        elf::ELFDATA2MSB => false,
        _ => return Err(Fault::NotElf("its byte order is unknown").into()),
    };
    let number = |bytes| if is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) };
    match number(half(18)?) {
        elf::EM_BPF if !is_little => return Err(Fault::BigEndian.into()),
        elf::EM_BPF => {}
        elf::EM_X86_64 => return Err(Fault::NotBpf("x86-64".into()).into()),
        elf::EM_AARCH64 => return Err(Fault::NotBpf("AArch64".into()).into()),
        other => return Err(Fault::NotBpf(format!("ELF machine {other}")).into()),
    }
    if field(4)? != elf::ELFCLASS64 {
        return Err(Fault::NotElf("it has 32 bits").into());
    }
    if number(half(16)?) != elf::ET_REL {
        return Err(Fault::NotRelocatable.into());
    }
    Ok(())
}

/// Sections, symbols and relocations, without their meaning.
fn read_elf(bytes: &[u8]) -> Result<Elf<'_>, ObjectError> {
    let header = Header::parse(bytes)?;
    let table = header.sections(LE, bytes)?;
    let mut sections = Vec::new();
    for section in table.iter() {
        let name = text(table.section_name(LE, section)?);
        let (kind, flags, size) = (section.sh_type(LE), section.sh_flags(LE), section.sh_size(LE));
        let data = section.data(LE, bytes).map_err(|error| ObjectError::from(error).in_section(&name))?;
        if flags & u64::from(elf::SHF_TLS) != 0 {
            return Err(ObjectError::from(Fault::ThreadLocal).in_section(&name));
        }
        let is_special = name == ABI_SECTION || name == LICENSE_SECTION;
        let is_loaded = flags & u64::from(elf::SHF_ALLOC) != 0 && matches!(kind, elf::SHT_PROGBITS | elf::SHT_NOBITS);
        let role = match () {
            () if !is_loaded || is_special => Role::Other,
            () if flags & u64::from(elf::SHF_EXECINSTR) != 0 => Role::Text,
            // What it is, or whether it may be: assign_roles.
            () => Role::Memory(usize::from(flags & u64::from(elf::SHF_WRITE) != 0)),
        };
        sections.push(Section { name, role, data, size, relocations: BTreeMap::new() });
    }
    let symbols = table.symbols(LE, bytes, elf::SHT_SYMTAB)?;
    for section in table.iter() {
        let Some((rels, _)) = section.rel(LE, bytes)? else { continue };
        let target = section.sh_info(LE) as usize;
        let target = sections.get_mut(target).ok_or(Fault::MisplacedRelocation)?;
        for rel in rels {
            let relocation = Relocation { kind: rel.r_type(LE), symbol: rel.r_sym(LE) as usize };
            target.relocations.insert(rel.r_offset(LE), relocation);
        }
    }
    let mut read = Vec::with_capacity(symbols.len());
    for (index, symbol) in symbols.enumerate() {
        let section = symbols.symbol_section(LE, symbol, index)?.map(|SectionIndex(index)| index);
        read.push(Symbol {
            name: symbol_name(&symbols, symbol, section, &sections)?,
            section: section.filter(|&index| index < sections.len()),
            value: symbol.st_value(LE),
            size: symbol.st_size(LE),
            is_section: symbol.st_type() == elf::STT_SECTION,
            is_function: symbol.st_type() == elf::STT_FUNC,
            is_object: symbol.st_type() == elf::STT_OBJECT,
            is_global: !symbol.is_local(),
        });
    }
    let data =
        |name: &str| sections.iter().find(|section| section.name == name).map_or(&[][..], |section| section.data);
    let lines = SectionLines::read(data(".BTF"), data(".BTF.ext"));
    let btf = Btf::read(data(".BTF"));
    let (regions, functions, maps) = (Vec::new(), BTreeMap::new(), Vec::new());
    Ok(Elf { sections, symbols: read, regions, functions, maps, lines, btf, is_foreign: false })
}

/// A name, cut where it is absurd: many symbols may share one long string.
fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(128)]).into_owned()
}

fn symbol_name(
    symbols: &object::read::elf::SymbolTable<'_, Header>,
    symbol: &elf::Sym64<LE>,
    section: Option<usize>,
    sections: &[Section<'_>],
) -> Result<String, ObjectError> {
    let name = text(symbols.symbol_name(LE, symbol)?);
    // A section's symbol has no name of its own.
    let of_section = section.and_then(|index| sections.get(index)).map(|section| section.name.clone());
    Ok(if name.is_empty() { of_section.unwrap_or_default() } else { name })
}

/// `.duckbpf.abi` holds this runtime's version; where `required`, it must be there.
fn check_abi(elf: &Elf<'_>, required: bool) -> Result<(), ObjectError> {
    let expected = duckbpf_abi::DUCKBPF_ABI_VERSION;
    match elf.sections.iter().find(|section| section.name == ABI_SECTION) {
        None if required => Err(Fault::NoAbi.into()),
        None => Ok(()),
        Some(section) => match section.data.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes)) {
            Some(found) if found == expected => Ok(()),
            Some(found) => Err(Fault::OtherAbi { found, expected }.into()),
            None => Err(Fault::NoAbi.into()),
        },
    }
}

/// Gives each loaded section its meaning, and each section of variables its region.
fn assign_roles(elf: &mut Elf<'_>) -> Result<(), ObjectError> {
    let is_foreign = elf.is_foreign;
    let mut memory = 0u64;
    for section in &mut elf.sections {
        let at = |fault: Fault| ObjectError::from(fault).in_section(&section.name);
        match section.role {
            Role::Text => {
                let name = section.name.strip_prefix('?').unwrap_or(&section.name);
                section.role = match name.strip_prefix("duckdb/") {
                    _ if is_foreign && name != TEXT_SECTION => Role::Program(FOREIGN, false),
                    Some(hook) => {
                        let hook = Hook::from_name(hook).ok_or_else(|| at(Fault::UnknownHook))?;
                        Role::Program(hook, name == section.name)
                    }
                    None if section.name == TEXT_SECTION => Role::Text,
                    None if section.data.is_empty() => Role::Other,
                    None => return Err(at(Fault::UnknownCode)),
                };
                if !section.data.len().is_multiple_of(SLOT) {
                    return Err(at(Fault::UnevenCode(section.data.len() as u64)));
                }
                if section.data.len() / SLOT > MAX_SLOTS {
                    return Err(at(Fault::TooManyInstructions));
                }
            }
            Role::Memory(_) if section.name == ".maps" => section.role = Role::Maps,
            Role::Memory(writable) => {
                // The size of .bss is only a number in the file: it is bounded before anything is allocated.
                let total = memory.checked_add(section.size).filter(|&total| total <= MAX_MEMORY);
                memory = total.ok_or_else(|| at(Fault::TooMuchMemory))?;
                section.role = Role::Memory(elf.regions.len());
                elf.regions.push(Region {
                    name: section.name.clone(),
                    writable: writable != 0,
                    size: section.size,
                    bytes: section.data.to_vec(),
                });
            }
            Role::Program(..) | Role::Maps | Role::Other => {}
        }
    }
    if elf.regions.len() > MAX_PARTS {
        return Err(Fault::TooManyParts.into());
    }
    Ok(())
}

/// Functions by their symbols.
fn find_functions(elf: &mut Elf<'_>) -> Result<(), ObjectError> {
    for symbol in elf.symbols.iter().filter(|symbol| symbol.is_function) {
        let Some(index) = symbol.section else { continue };
        let section = &elf.sections[index];
        if !matches!(section.role, Role::Program(..) | Role::Text) {
            continue;
        }
        let end = symbol.value.checked_add(symbol.size).filter(|&end| end <= section.data.len() as u64);
        let (start, Some(end)) = (symbol.value, end) else {
            return Err(damaged_symbol(section, symbol, "ends outside of its section"));
        };
        if start % SLOT as u64 != 0 || end % SLOT as u64 != 0 || start == end {
            return Err(damaged_symbol(section, symbol, "is no whole number of instructions"));
        }
        let slots = (start as usize / SLOT, end as usize / SLOT);
        elf.functions.insert((index, slots.0), (symbol.name.clone(), slots.1));
    }
    Ok(())
}

fn damaged_symbol(section: &Section<'_>, symbol: &Symbol, what: &str) -> ObjectError {
    ObjectError::from(Fault::Damaged(format!("the function {what}"))).in_section(&section.name).at_symbol(&symbol.name)
}

fn link_programs(elf: &Elf<'_>) -> Result<Vec<ProgramText>, ObjectError> {
    let mut programs: Vec<ProgramText> = Vec::new();
    for (index, section) in elf.sections.iter().enumerate() {
        let Role::Program(hook, attached) = section.role else { continue };
        let entries = elf.symbols.iter().filter(|symbol| symbol.is_function && symbol.section == Some(index));
        for symbol in entries.filter(|symbol| symbol.is_global) {
            let at = |fault: Fault| ObjectError::from(fault).in_section(&section.name).at_symbol(&symbol.name);
            if let Some(first) = programs.iter().find(|program| attached && !program.optional && program.hook == hook) {
                return Err(at(Fault::TwoPrograms { hook: hook.name(), first: first.symbol.clone() }));
            }
            if programs.len() == if elf.is_foreign { MAX_FOREIGN_PROGRAMS } else { MAX_PARTS } {
                return Err(at(Fault::TooManyParts));
            }
            let linked = link::link(elf, index, symbol.value as usize / SLOT)?;
            programs.push(ProgramText {
                symbol: symbol.name.clone(),
                section: section.name.clone(),
                hook,
                optional: !attached,
                insns: linked.insns,
                functions: linked.functions,
                lines: linked.lines,
            });
        }
    }
    if programs.is_empty() { Err(Fault::NoPrograms.into()) } else { Ok(programs) }
}

/// Addresses are unknown until the memory is mapped, and a program could make nothing of them: the verifier takes what
/// comes from memory for a number.
fn refuse_pointers_in_data(elf: &Elf<'_>) -> Result<(), ObjectError> {
    let variables = elf.sections.iter().filter(|section| matches!(section.role, Role::Memory(_)));
    for section in variables {
        if let Some(relocation) = section.relocations.values().next() {
            let symbol = elf.symbols.get(relocation.symbol).map(|symbol| symbol.name.clone()).unwrap_or_default();
            return Err(ObjectError::from(Fault::PointerInData(symbol)).in_section(&section.name));
        }
    }
    Ok(())
}

fn license(elf: &Elf<'_>) -> Result<Option<String>, ObjectError> {
    let Some(section) = elf.sections.iter().find(|section| section.name == LICENSE_SECTION) else { return Ok(None) };
    let text = section.data.split(|&byte| byte == 0).next().unwrap_or_default();
    match std::str::from_utf8(text) {
        Ok(text) if text.len() <= 128 => Ok(Some(text.to_owned())),
        _ => Err(ObjectError::from(Fault::BadLicense).in_section(LICENSE_SECTION)),
    }
}

/// Named variables: a section's symbols, with their types where there are any.
fn variables(elf: &Elf<'_>) -> Vec<Variable> {
    let mut variables = Vec::new();
    for (index, section) in elf.sections.iter().enumerate() {
        let Role::Memory(region) = section.role else { continue };
        let types = elf.btf.as_ref().map(|btf| btf.variables(&section.name)).unwrap_or_default();
        let symbols = elf.symbols.iter().filter(|symbol| symbol.section == Some(index) && symbol.is_object);
        for symbol in symbols {
            let is_inside = symbol.value.checked_add(symbol.size).is_some_and(|end| end <= section.size);
            let ty = types.iter().find(|(name, _)| *name == symbol.name).map(|(_, ty)| *ty);
            let ty = ty.zip(elf.btf.as_ref()).map(|(ty, btf)| btf.resolve(ty));
            if is_inside && variables.len() < MAX_VARIABLES {
                let (offset, size) = (symbol.value, symbol.size);
                variables.push(Variable { name: symbol.name.clone(), region, offset, size, ty });
            }
        }
    }
    variables
}

/// Variables beyond this have no names.
const MAX_VARIABLES: usize = 1024;

/// The bytes of a constant in read-only memory, by its symbol.
fn constant<const N: usize>(elf: &Elf<'_>, name: &str) -> Result<Option<[u8; N]>, ObjectError> {
    let Some(symbol) = elf.symbols.iter().find(|symbol| symbol.name == name && symbol.section.is_some()) else {
        return Ok(None);
    };
    let region = symbol.section.and_then(|index| match elf.sections[index].role {
        Role::Memory(region) => Some(&elf.regions[region]),
        _ => None,
    });
    let bytes = region.filter(|region| !region.writable && symbol.size == N as u64).and_then(|region| {
        let start = usize::try_from(symbol.value).ok()?;
        region.bytes.get(start..start.checked_add(N)?)?.try_into().ok()
    });
    match bytes {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(ObjectError::from(Fault::BadConstant(N)).at_symbol(name)),
    }
}
