//! What a wheel's native library says about itself, and which functions the graft replaces.

use anyhow::{Context, Result, bail};
use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use object::read::elf::{ElfFile64, FileHeader, Rela};
use object::{LittleEndian as LE, Object, ObjectSection, ObjectSymbol, SymbolKind, elf};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

/// The native library in a wheel.
pub fn library(path: &Path) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut archive = zip::ZipArchive::new(file).with_context(|| format!("reading {}", path.display()))?;
    let name =
        archive.file_names().find(|name| name.starts_with("_duckdb") && name.ends_with(".so")).map(str::to_owned);
    let name = name.with_context(|| format!("{}: no _duckdb*.so in it", path.display()))?;
    let mut bytes = Vec::new();
    archive.by_name(&name)?.read_to_end(&mut bytes).with_context(|| format!("unpacking {}", path.display()))?;
    Ok(bytes)
}

/// A relocation in place of which the loader writes the address of an exported function.
pub struct Slot {
    pub symbol: String,
    pub place: u64,
}

pub struct Library<'a> {
    pub file: ElfFile64<'a, LE>,
    pub build_id: String,
    /// Exported functions and their addresses.
    pub functions: BTreeMap<String, u64>,
    /// Slots that hold exported functions of the library itself.
    pub relocations: Vec<Slot>,
    /// Addresses that data holds without naming a symbol.
    pub unnamed: Vec<u64>,
}

impl<'a> Library<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let file = ElfFile64::<LE>::parse(bytes)?;
        let mut library = Self {
            build_id: file
                .build_id()?
                .context("it has no build id")?
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            functions: BTreeMap::new(),
            relocations: Vec::new(),
            unnamed: Vec::new(),
            file,
        };
        for symbol in library.file.dynamic_symbols() {
            if symbol.is_definition() && symbol.kind() == SymbolKind::Text {
                library.functions.insert(symbol.name()?.to_owned(), symbol.address());
            }
        }
        library.read_relocations(bytes)?;
        Ok(library)
    }

    fn read_relocations(&mut self, bytes: &'a [u8]) -> Result<()> {
        let header = self.file.elf_header();
        let sections = header.sections(LE, bytes)?;
        let symbols = sections.symbols(LE, bytes, elf::SHT_DYNSYM)?;
        for section in sections.iter() {
            use object::read::elf::SectionHeader;
            if matches!(section.sh_type(LE), elf::SHT_RELR | elf::SHT_REL) {
                bail!("relocations of a kind that this tool does not read");
            }
            for entry in section.rela(LE, bytes)?.map(|(entries, _)| entries).unwrap_or_default() {
                let (kind, addend) = (entry.r_type(LE, false), entry.r_addend(LE));
                match entry.symbol(LE, false) {
                    None if kind == elf::R_X86_64_RELATIVE => self.unnamed.push(addend as u64),
                    None => {}
                    Some(index) => {
                        let name = std::str::from_utf8(symbols.symbol_name(LE, symbols.symbol(index)?)?)?;
                        match kind {
                            _ if !self.functions.contains_key(name) => {}
                            elf::R_X86_64_JUMP_SLOT | elf::R_X86_64_GLOB_DAT => self.slot(name, entry.r_offset(LE)),
                            elf::R_X86_64_64 if addend == 0 => self.slot(name, entry.r_offset(LE)),
                            _ => bail!("{name}: a relocation of type {kind} with addend {addend}"),
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn slot(&mut self, symbol: &str, place: u64) {
        self.relocations.push(Slot { symbol: symbol.to_owned(), place });
    }

    /// The string literal that a function `const char *()` returns.
    pub fn text_of(&self, function: &str) -> Result<String> {
        let address = *self.functions.get(function).with_context(|| format!("it does not export {function}"))?;
        let code = self.bytes_at(address)?;
        let instruction = Decoder::with_ip(64, code, address, DecoderOptions::NONE).decode();
        if instruction.mnemonic() != Mnemonic::Lea || !instruction.is_ip_rel_memory_operand() {
            bail!("{function} does more than return a string");
        }
        let text = self.bytes_at(instruction.ip_rel_memory_address())?;
        let end = text.iter().position(|byte| *byte == 0).context("a string without an end")?;
        Ok(std::str::from_utf8(&text[..end])?.to_owned())
    }

    fn bytes_at(&self, address: u64) -> Result<&'a [u8]> {
        for section in self.file.sections() {
            if (section.address()..section.address() + section.size()).contains(&address) {
                let offset = usize::try_from(address - section.address())?;
                return section.data()?.get(offset..).context("an address without contents");
            }
        }
        bail!("no section holds {address:#x}")
    }
}

/// What the graft replaces.
pub struct Graft {
    pub functions: BTreeSet<String>,
    pub series: String,
}

impl Graft {
    pub fn read(image: &Path) -> Result<Self> {
        let bytes = std::fs::read(image).with_context(|| format!("reading {}", image.display()))?;
        let file = ElfFile64::<LE>::parse(&*bytes).with_context(|| format!("reading {}", image.display()))?;
        let mut functions = BTreeSet::new();
        for symbol in file.dynamic_symbols() {
            if symbol.is_definition() && symbol.kind() == SymbolKind::Text && symbol.name()? != "duckdb_hookpoints_v1" {
                functions.insert(symbol.name()?.to_owned());
            }
        }
        let path = image.with_file_name("manifest.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let manifest: duckbpf_patch::link::Manifest =
            serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self { functions, series: manifest.series })
    }
}
