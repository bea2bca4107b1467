//! Makes one program of a function and all that it calls: functions behind each other, calls and addresses resolved.

use std::collections::{BTreeMap, VecDeque};

use super::{
    Fault, Function, MAX_SLOTS, ObjectError,
    elf::{Elf, Relocation, Role, Symbol},
    lines::LineTable,
    rounds::{NONE_YET, Rounds, rounds},
};
use crate::isa::{CALL, CALL_LOCAL, Insn, LDDW_FUNCTION, LDDW_MAP, LDDW_MEMORY, SLOT};

const R_BPF_64_64: u32 = 1;
const R_BPF_64_32: u32 = 10;

pub(super) struct Linked {
    pub insns: Vec<Insn>,
    pub functions: Vec<Function>,
    pub lines: LineTable,
}

/// A function: its section and first slot.
type Place = (usize, usize);

struct Linker<'a> {
    elf: &'a Elf<'a>,
    insns: Vec<Insn>,
    functions: Vec<Function>,
    lines: LineTable,
    /// Where functions were put.
    placed: BTreeMap<Place, usize>,
    waiting: VecDeque<Place>,
    /// Calls and addresses of functions to be resolved: the slot, and the function.
    calls: Vec<(usize, Place)>,
}

pub(super) fn link(elf: &Elf<'_>, section: usize, slot: usize) -> Result<Linked, ObjectError> {
    let mut linker = Linker {
        elf,
        insns: Vec::new(),
        functions: Vec::new(),
        lines: LineTable::default(),
        placed: BTreeMap::new(),
        waiting: VecDeque::from([(section, slot)]),
        calls: Vec::new(),
    };
    while let Some(place) = linker.waiting.pop_front() {
        if !linker.placed.contains_key(&place) {
            linker.add(place)?;
        }
    }
    for (at, place) in &linker.calls {
        // Fits: a program has at most MAX_SLOTS slots.
        linker.insns[*at].imm = linker.placed[place] as i32 - *at as i32 - 1;
    }
    Ok(Linked { insns: linker.insns, functions: linker.functions, lines: linker.lines })
}

impl Linker<'_> {
    fn add(&mut self, place: Place) -> Result<(), ObjectError> {
        let (section, start) = place;
        let (name, end) = self.elf.functions.get(&place).ok_or(Fault::CallTarget)?.clone();
        let code: Vec<Insn> = self.elf.insns(section).skip(start).take(end - start).collect();
        let begins_with = match rounds(&code) {
            Rounds::NotCounted => None,
            Rounds::Counted => Some(NONE_YET),
            Rounds::NoRoom => return Err(ObjectError::from(Fault::NoRoomForRounds).at_symbol(&name)),
        };
        let first = self.insns.len();
        if first + begins_with.iter().len() + code.len() > MAX_SLOTS {
            return Err(ObjectError::from(Fault::TooManyInstructions).at_symbol(&name));
        }
        self.placed.insert(place, first);
        self.insns.extend(begins_with);
        let base = self.insns.len();
        self.insns.extend(code);
        self.functions.push(Function { name: name.clone(), start: first, end: self.insns.len() });
        self.lines.extend(&self.elf.lines, &self.elf.sections[section].name, start..end, base);
        let relocations = &self.elf.sections[section].relocations;
        let mut slot = start;
        let mut resolved = 0;
        while slot < end {
            let at = base + slot - start;
            let relocation = relocations.get(&((slot * SLOT) as u64)).copied();
            resolved += usize::from(relocation.is_some());
            self.resolve(place, slot, at, relocation).map_err(|error| {
                let section = &self.elf.sections[section].name;
                error.in_section(section).at_symbol(&name).at_instruction(slot).at_line(self.lines.at(at))
            })?;
            slot += if self.insns[at].is_lddw() { 2 } else { 1 };
        }
        if relocations.range((start * SLOT) as u64..(end * SLOT) as u64).count() != resolved {
            let error = ObjectError::from(Fault::MisplacedRelocation);
            return Err(error.in_section(&self.elf.sections[section].name).at_symbol(&name));
        }
        Ok(())
    }

    /// Resolves what one instruction refers to.
    fn resolve(
        &mut self,
        place: Place,
        slot: usize,
        at: usize,
        relocation: Option<Relocation>,
    ) -> Result<(), ObjectError> {
        let insn = self.insns[at];
        match relocation {
            None if insn.is_lddw() && insn.src != 0 => Err(Fault::PseudoConstant(insn.src).into()),
            None if insn.is_local_call() => {
                let target = i64::from(insn.imm) + slot as i64 + 1;
                self.call(at, place.0, target)
            }
            None => Ok(()),
            Some(relocation) => {
                let elf = self.elf;
                let symbol = elf.symbols.get(relocation.symbol).ok_or(Fault::MisplacedRelocation)?;
                match relocation.kind {
                    R_BPF_64_64 if insn.is_lddw() && insn.src == 0 => self.address(at, symbol),
                    R_BPF_64_32 if insn.code == CALL => self.relocated_call(at, symbol),
                    R_BPF_64_64 | R_BPF_64_32 => Err(Fault::MisplacedRelocation.into()),
                    other => Err(Fault::UnknownRelocation(other).into()),
                }
            }
        }
    }

    fn relocated_call(&mut self, at: usize, symbol: &Symbol) -> Result<(), ObjectError> {
        let section = symbol.section.ok_or_else(|| Fault::UnknownSymbol(symbol.name.clone()))?;
        let insn = self.insns[at];
        if insn.src != CALL_LOCAL {
            return Err(Fault::MisplacedRelocation.into());
        }
        // A call through the section's symbol has the place in the immediate, counted as a jump from its beginning.
        let first = (symbol.value / SLOT as u64) as i64;
        let target = if symbol.is_section { first + i64::from(insn.imm) + 1 } else { first };
        self.call(at, section, target)
    }

    fn call(&mut self, at: usize, section: usize, target: i64) -> Result<(), ObjectError> {
        let target = usize::try_from(target).map_err(|_| Fault::CallTarget)?;
        if !self.elf.functions.contains_key(&(section, target)) {
            return Err(Fault::CallTarget.into());
        }
        self.calls.push((at, (section, target)));
        self.waiting.push_back((section, target));
        Ok(())
    }

    fn address(&mut self, at: usize, symbol: &Symbol) -> Result<(), ObjectError> {
        let section = symbol.section.ok_or_else(|| Fault::UnknownSymbol(symbol.name.clone()))?;
        let region = match self.elf.sections[section].role {
            Role::Memory(region) => region,
            Role::Maps => return self.map(at, section, symbol),
            Role::Program(..) | Role::Text => return self.function(at, section, symbol),
            Role::Other => return Err(Fault::NotData(symbol.name.clone()).into()),
        };
        let size = self.elf.regions[region].size;
        let offset =
            i64::try_from(symbol.value).ok().and_then(|value| value.checked_add(i64::from(self.insns[at].imm)));
        let inside = offset.filter(|offset| (0..=size as i64).contains(offset));
        let (Some(offset), Some(next)) = (inside, self.insns.get(at + 1)) else {
            let region = self.elf.regions[region].name.clone();
            return Err(Fault::OutsideRegion { region, offset: offset.unwrap_or(i64::MAX), size }.into());
        };
        let next = Insn { imm: offset as i32, ..*next };
        self.insns[at].src = LDDW_MEMORY;
        self.insns[at].imm = region as i32;
        self.insns[at + 1] = next;
        Ok(())
    }

    /// The address of a map.
    fn map(&mut self, at: usize, section: usize, symbol: &Symbol) -> Result<(), ObjectError> {
        let offset = symbol.value.checked_add_signed(self.insns[at].imm.into());
        let map = offset.and_then(|offset| self.elf.map_from(section, offset));
        let (Some(map), Some(next)) = (map, self.insns.get(at + 1)) else {
            return Err(Fault::InsideMap(symbol.name.clone()).into());
        };
        let next = Insn { imm: 0, ..*next };
        self.insns[at].src = LDDW_MAP;
        self.insns[at].imm = map as i32;
        self.insns[at + 1] = next;
        Ok(())
    }

    /// The address of a function, for a callback.
    fn function(&mut self, at: usize, section: usize, symbol: &Symbol) -> Result<(), ObjectError> {
        let offset = symbol.value.checked_add_signed(self.insns[at].imm.into());
        let offset = offset.filter(|offset| offset.is_multiple_of(SLOT as u64)).ok_or(Fault::CallTarget)?;
        let next = self.insns.get(at + 1).ok_or(Fault::CallTarget)?;
        let next = Insn { imm: 0, ..*next };
        self.insns[at].src = LDDW_FUNCTION;
        self.insns[at + 1] = next;
        self.call(at, section, (offset / SLOT as u64) as i64)
    }
}
