//! Finds everything in a library that reaches one of its exported functions: through a slot, or past the slots.
//!
//! Code is decoded function by function, as .eh_frame_hdr lists them, so that the decoder is in step at every entry. Code
//! can reach an entry by a branch (call, jmp, jcc), by taking its address relative to itself (lea), through a PLT stub or a
//! GOT slot; data by a relocation. Position-independent code has no other way: it holds no absolute addresses. Jump tables
//! hold distances to labels within one function and are not entries.

use super::wheel::Library;
use anyhow::{Context, Result};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind};
use object::{Object, ObjectSection, SectionKind};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// What was found about all exported functions of a build.
#[derive(Default, Serialize)]
pub struct Proof {
    pub functions: usize,
    pub instructions: u64,
    /// Bytes that are no instruction; must be 0 for the figures to mean something.
    pub undecodable: u64,
    /// Exported functions.
    pub exported: usize,
    /// Calls and jumps to exported functions through PLT stubs.
    pub via_plt: u64,
    /// Instructions that use a GOT slot which holds an exported function.
    pub via_got: u64,
    /// Slots in data, vtables above all.
    pub in_data: u64,
    /// Exported functions that are reached past the slots, and how often. They can't be redirected.
    pub direct: BTreeMap<String, u64>,
}

pub struct References {
    pub proof: Proof,
    /// By function.
    pub through_slots: BTreeMap<String, u64>,
}

/// Where an instruction may lead.
struct Map<'a> {
    /// Entries of exported functions. Names that share an address are one function.
    entries: HashMap<u64, Vec<&'a str>>,
    slots: HashMap<u64, &'a str>,
    /// PLT stubs of exported functions.
    stubs: HashMap<u64, &'a str>,
}

pub fn references(library: &Library<'_>) -> Result<References> {
    let map = Map::of(library)?;
    let mut found = References { proof: Proof::default(), through_slots: BTreeMap::new() };
    found.proof.exported = library.functions.len();
    let text = library.file.section_by_name(".text").context("it has no .text")?;
    let code = text.data()?;
    let starts = function_starts(library)?;
    let end = text.address() + text.size();
    let mut starts: Vec<u64> = starts.into_iter().chain(map.entries.keys().copied()).chain([text.address()]).collect();
    starts.retain(|start| (text.address()..end).contains(start));
    starts.sort_unstable();
    starts.dedup();
    found.proof.functions = starts.len();
    for (at, start) in starts.iter().enumerate() {
        let stop = starts.get(at + 1).copied().unwrap_or(end);
        let range = usize::try_from(start - text.address())?..usize::try_from(stop - text.address())?;
        let bytes = code.get(range).context(".text is shorter than it says")?;
        found.look_at(&map, bytes, *start);
    }
    for address in &library.unnamed {
        found.direct(&map, *address);
    }
    let in_data = library.relocations.iter().filter(|slot| !map.is_got(library, slot.place)).count();
    found.proof.in_data = in_data as u64;
    Ok(found)
}

impl References {
    fn look_at(&mut self, map: &Map<'_>, code: &[u8], start: u64) {
        let mut decoder = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            self.proof.instructions += 1;
            if instruction.is_invalid() {
                self.proof.undecodable += instruction.len().max(1) as u64;
                continue;
            }
            if let Some(target) = branch_target(&instruction) {
                match map.stubs.get(&target) {
                    Some(name) => {
                        self.proof.via_plt += 1;
                        self.through_slot(name);
                    }
                    None => self.direct(map, target),
                }
            }
            if instruction.is_ip_rel_memory_operand() {
                let address = instruction.ip_rel_memory_address();
                match map.slots.get(&address) {
                    Some(name) => {
                        self.proof.via_got += 1;
                        self.through_slot(name);
                    }
                    None => self.direct(map, address),
                }
            }
        }
    }

    fn through_slot(&mut self, name: &str) {
        *self.through_slots.entry(name.to_owned()).or_default() += 1;
    }

    fn direct(&mut self, map: &Map<'_>, address: u64) {
        for name in map.entries.get(&address).into_iter().flatten() {
            *self.proof.direct.entry((*name).to_owned()).or_default() += 1;
        }
    }
}

impl<'a> Map<'a> {
    fn of(library: &'a Library<'_>) -> Result<Self> {
        let mut entries: HashMap<u64, Vec<&str>> = HashMap::new();
        for (name, address) in &library.functions {
            entries.entry(*address).or_default().push(name);
        }
        let slots = library.relocations.iter().map(|slot| (slot.place, slot.symbol.as_str())).collect();
        let mut map = Self { entries, slots, stubs: HashMap::new() };
        for section in library.file.sections().filter(|section| section.kind() == SectionKind::Text) {
            if section.name()?.starts_with(".plt") {
                map.read_stubs(section.data()?, section.address());
            }
        }
        Ok(map)
    }

    /// A stub begins where 16 bytes begin and jumps through its slot.
    fn read_stubs(&mut self, code: &[u8], start: u64) {
        for (stub, address) in code.chunks(16).zip((start..).step_by(16)) {
            let mut decoder = Decoder::with_ip(64, stub, address, DecoderOptions::NONE);
            for instruction in decoder.iter() {
                if instruction.flow_control() == FlowControl::IndirectBranch
                    && instruction.is_ip_rel_memory_operand()
                    && let Some(name) = self.slots.get(&instruction.ip_rel_memory_address())
                {
                    self.stubs.insert(address, name);
                }
            }
        }
    }

    fn is_got(&self, library: &Library<'_>, place: u64) -> bool {
        [".got", ".got.plt"].iter().any(|name| {
            library
                .file
                .section_by_name(name)
                .is_some_and(|section| (section.address()..section.address() + section.size()).contains(&place))
        })
    }
}

fn branch_target(instruction: &Instruction) -> Option<u64> {
    match instruction.op0_kind() {
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => Some(instruction.near_branch_target()),
        _ => None,
    }
}

/// The binary search table in .eh_frame_hdr, as every linker writes it: pairs of distances from the section's begin.
fn function_starts(library: &Library<'_>) -> Result<Vec<u64>> {
    const LAYOUT: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
    let section = library.file.section_by_name(".eh_frame_hdr").context("it has no .eh_frame_hdr")?;
    let bytes = section.data()?;
    let table =
        bytes.strip_prefix(&LAYOUT).and_then(|rest| rest.get(8..)).context(".eh_frame_hdr has an unknown layout")?;
    let starts = table.chunks_exact(8).map(|pair| {
        let distance = i32::from_le_bytes([pair[0], pair[1], pair[2], pair[3]]);
        section.address().wrapping_add_signed(distance.into())
    });
    Ok(starts.collect())
}
