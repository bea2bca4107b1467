//! Programs that mostly make sense: every register is used as what it holds, offsets are mostly bounded, loops mostly end.
//!
//! What a generated program does is decided by a seed. A small share of steps is wrong on purpose - an offset by one too many, a
//! null check left out - so that the verifier's edges are met from both sides.
//!
//! ```text
//! edges   numbers that are compared at their bounds     loops   fans   many ways that meet     calls   functions and helpers
//! ```

mod calls;
mod edges;
mod fans;
mod loops;

use std::sync::Arc;

use super::Random;
use crate::{
    hook::Hook,
    isa::{Insn, LDDW, LDDW_MEMORY},
    object::{Function, MapDef, MapKind, Object, ProgramText, Region},
};

/// Which parts of the language a program may use.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    pub helpers: Helpers,
    /// One step in so many is wrong on purpose; 0: none.
    pub mistakes: usize,
}

/// Which helpers a program may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helpers {
    None,
    /// Functions of numbers, and `bpf_loop`: runs give the same each time.
    Pure,
    /// Maps and records too, and what differs from run to run.
    All,
}

/// What a register holds, as the generator believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unset,
    Number,
    Context,
    /// A caller's stack.
    Stack,
    /// The first byte of a writable value of so many bytes.
    Value(i32),
    MaybeValue(i32),
}

const REGISTERS: usize = 10;
/// Slots of stack that programs use, from the top.
const SLOTS: usize = 8;
/// The register that keeps the context.
const CONTEXT: u8 = 6;

#[derive(Clone, Copy)]
struct State {
    regs: [Kind; REGISTERS],
    slots: [Kind; SLOTS],
}

const EMPTY: State = State { regs: [Kind::Unset; REGISTERS], slots: [Kind::Unset; SLOTS] };

impl State {
    fn join(&mut self, other: &State) {
        let join = |a: &mut Kind, b: Kind| *a = if *a == b { *a } else { Kind::Unset };
        self.regs.iter_mut().zip(other.regs).for_each(|(a, b)| join(a, b));
        self.slots.iter_mut().zip(other.slots).for_each(|(a, b)| join(a, b));
    }
}

/// One step in so many is a fan besides: they are long.
const FANS: usize = 40;

/// Fields of eight and of four bytes of the load hook's context.
const WIDE_FIELDS: [i16; 8] = [0, 8, 16, 32, 40, 48, 56, 64];
const NARROW_FIELDS: [i16; 4] = [72, 76, 80, 84];
/// A jump whose distance is in `imm`.
const GOTOL: u8 = 0x06;
const EXIT: u8 = 0x95;
const VARIABLES: i32 = 64;
const VALUE: i32 = 48;

const ALU: [u8; 12] = [0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xa0, 0xc0, 0xb0];
const CONDS: [u8; 11] = [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0];
/// Bits of the size and bytes.
const SIZES: [(u8, i32); 4] = [(0x10, 1), (0x08, 2), (0x00, 4), (0x18, 8)];

/// A function that is still to be made.
#[derive(Clone, Copy)]
struct Wanted {
    args: [Kind; 4],
    is_callback: bool,
    /// Active functions above it.
    level: usize,
}

/// The first arguments; no more are set.
fn only<const N: usize>(first: [Kind; N]) -> [Kind; 4] {
    let mut args = [Kind::Unset; 4];
    args[..N].copy_from_slice(&first);
    args
}

struct Generator {
    random: Random,
    /// Decides about fans: programs without one are what they were before there were fans.
    fans: Random,
    features: Features,
    insns: Vec<Insn>,
    state: State,
    /// Branches to the end of the function.
    outs: Vec<usize>,
    /// Branches and loops that the present step is inside of.
    depth: usize,
    /// Registers that loops around count in.
    counters: Vec<u8>,
    /// Calls and function constants: the slot, the slot counted from, the function.
    calls: Vec<(usize, usize, usize)>,
    functions: Vec<Wanted>,
    current: Wanted,
}

/// Makes a program for the load hook.
pub fn generate(seed: u64, features: Features) -> Arc<Object> {
    let first = Wanted { args: only([Kind::Context]), is_callback: false, level: 0 };
    let mut generator = Generator {
        random: Random::new(seed),
        fans: Random::new(!seed),
        features,
        insns: Vec::new(),
        state: EMPTY,
        outs: Vec::new(),
        depth: 0,
        counters: Vec::new(),
        calls: Vec::new(),
        functions: vec![first],
        current: first,
    };
    let mut starts = Vec::new();
    while let Some(&wanted) = generator.functions.get(starts.len()) {
        starts.push(generator.insns.len());
        generator.function(wanted);
    }
    for (slot, from, function) in std::mem::take(&mut generator.calls) {
        generator.insns[slot].imm = starts[function] as i32 - from as i32;
    }
    object(generator.insns, &starts)
}

/// An object with the sections and maps that generated programs use.
pub fn object(insns: Vec<Insn>, starts: &[usize]) -> Arc<Object> {
    let ends = starts.iter().skip(1).copied().chain([insns.len()]);
    let named = starts.iter().zip(ends).enumerate();
    let functions = named.map(|(index, (&start, end))| Function { name: format!("f{index}"), start, end }).collect();
    let region = |name: &str, writable, bytes| Region { name: name.into(), writable, size: VARIABLES as u64, bytes };
    let regions = vec![region(".bss", true, Vec::new()), region(".rodata", false, (0..VARIABLES as u8).collect())];
    let program = ProgramText::from_insns(Hook::Load, insns, functions);
    Arc::new(Object::from_parts(program, regions, maps().collect()))
}

/// Kinds whose keys are of any size.
const KEYED: [MapKind; 3] = [MapKind::Hash, MapKind::LruHash, MapKind::PercpuHash];
/// Sizes of keys that such a map has in its other forms: what machine code looks up in place, and what it leaves to the helper.
const KEY_SIZES: [u32; 4] = [4, 12, 16, 24];

/// One of each kind, then those with other keys.
fn maps() -> impl Iterator<Item = MapDef> {
    let other = |kind| KEY_SIZES.map(|key_size| MapDef { key_size, ..map(kind) });
    MapKind::ALL.into_iter().map(map).chain(KEYED.into_iter().flat_map(other))
}

/// The map of a kind.
fn map(kind: MapKind) -> MapDef {
    let (key, value) = match kind {
        MapKind::Ringbuf => return MapDef::new(kind, 0, 0, 4096),
        MapKind::ProgArray => (4, 4),
        MapKind::ArrayOfMaps | MapKind::HashOfMaps => (4, 4),
        MapKind::Queue | MapKind::Stack | MapKind::BloomFilter | MapKind::BlockStorage => (0, VALUE as u32),
        MapKind::Array | MapKind::PercpuArray => (4, VALUE as u32),
        MapKind::Hash | MapKind::PercpuHash | MapKind::LruHash => (8, VALUE as u32),
    };
    let inner = kind.is_of_maps().then(|| Box::new(map(MapKind::Array)));
    MapDef { inner, ..MapDef::new(kind, key, value, 16) }
}

/// A map of the object.
#[derive(Clone)]
struct Place {
    /// After one for each section.
    index: i32,
    def: MapDef,
}

/// The maps of a kind.
fn places(kind: MapKind) -> Vec<Place> {
    (2..).zip(maps()).filter(|(_, def)| def.kind == kind).map(|(index, def)| Place { index, def }).collect()
}

impl Generator {
    fn function(&mut self, wanted: Wanted) {
        (self.state, self.current) = (EMPTY, wanted);
        self.state.regs[1..5].copy_from_slice(&wanted.args);
        if wanted.args[0] == Kind::Context {
            self.copy(CONTEXT, 1);
        }
        for _ in 0..2 + self.random.below(2) {
            let dst = 2 + self.random.below(4) as u8;
            self.number(dst);
        }
        let steps = 2 + self.random.below(if wanted.level == 0 { 16 } else { 6 });
        self.steps(steps);
        self.finish();
    }

    /// What a function returns, and where its early ends meet.
    fn finish(&mut self) {
        let early = std::mem::take(&mut self.outs);
        let mut is_open = true;
        if !self.current.is_callback && self.fold() {
            self.push(EXIT, 0, 0, 0, 0);
            is_open = !early.is_empty();
        }
        early.into_iter().for_each(|at| self.land(at));
        if is_open {
            let result = if self.current.is_callback { self.random.below(2) as i32 } else { 0 };
            self.push(0xb7, 0, 0, 0, result);
            self.push(EXIT, 0, 0, 0, 0);
        }
    }

    /// Makes r0 a number; mostly out of all that registers and stack hold, so that nothing goes unnoticed. False: there is none.
    fn fold(&mut self) -> bool {
        let Some(first) = (0..REGISTERS as u8).find(|&reg| self.kind(reg) == Kind::Number) else { return false };
        if first != 0 {
            self.copy(0, first);
        }
        if self.random.once_in(4) {
            return true;
        }
        let rest: Vec<u8> = (first + 1..REGISTERS as u8).filter(|&reg| self.kind(reg) == Kind::Number).collect();
        rest.into_iter().for_each(|reg| self.fold_in(reg));
        for slot in (0..SLOTS).filter(|&slot| self.state.slots[slot] == Kind::Number).collect::<Vec<_>>() {
            self.push(0x79, 1, 10, Self::slot_offset(slot), 0);
            self.fold_in(1);
        }
        true
    }

    fn fold_in(&mut self, reg: u8) {
        self.push(0x27, 0, 0, 0, 31);
        self.push(0x0f, 0, reg, 0, 0);
    }

    fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
        }
    }

    fn step(&mut self) {
        let kinds = match self.features.helpers {
            Helpers::None => 28,
            Helpers::Pure => 30,
            Helpers::All => 38,
        };
        if self.fans.once_in(FANS) {
            return self.fan();
        }
        match self.random.below(kinds) {
            0..=4 => self.arithmetic(),
            5 => self.load_field(),
            6 | 7 => self.spill(),
            8 => self.fill(),
            9 | 10 => self.variable_access(),
            11 => self.global(),
            12 | 13 => self.branch(),
            14 => self.repeat(),
            15 => self.call(),
            16 => self.bound(),
            17 => self.narrow_stack(),
            18 => self.atomic(),
            19 => self.copies(),
            20..=22 => self.compared(),
            23 => self.linked(),
            24 => self.sweep(),
            25 => self.count_on_stack(),
            26 => self.fill_array(),
            27 => self.moved_on_one_way(),
            28 => self.pure_helper(),
            29 => self.callback(),
            30..=32 => self.lookup(),
            33 => self.two_lookups(),
            34 => self.record(),
            _ => self.any_helper(),
        }
    }

    fn push(&mut self, code: u8, dst: u8, src: u8, off: i16, imm: i32) {
        self.insns.push(Insn { code, dst, src, off, imm });
    }

    fn kind(&self, reg: u8) -> Kind {
        self.state.regs[usize::from(reg)]
    }

    fn set(&mut self, reg: u8, kind: Kind) {
        self.state.regs[usize::from(reg)] = kind;
    }

    fn is_mistake(&mut self) -> bool {
        self.features.mistakes != 0 && self.random.once_in(self.features.mistakes)
    }

    fn is_free(&self, reg: u8) -> bool {
        reg != CONTEXT && !self.counters.contains(&reg)
    }

    /// A register that may be overwritten.
    fn free(&mut self) -> u8 {
        loop {
            let reg = self.random.below(REGISTERS) as u8;
            if self.is_free(reg) {
                return reg;
            }
        }
    }

    fn find(&mut self, wanted: impl Fn(Kind) -> bool) -> Option<u8> {
        let found: Vec<u8> = (0..REGISTERS as u8).filter(|&reg| wanted(self.kind(reg))).collect();
        (!found.is_empty()).then(|| self.random.pick(&found))
    }

    /// A register with a number; one is made where there is none.
    fn some_number(&mut self) -> u8 {
        self.find(|kind| kind == Kind::Number).unwrap_or_else(|| {
            let reg = self.free();
            self.number(reg);
            reg
        })
    }

    /// A register with a number that may be overwritten.
    fn own_number(&mut self) -> u8 {
        let reg = self.some_number();
        if self.is_free(reg) {
            return reg;
        }
        let fresh = self.free();
        self.copy(fresh, reg);
        fresh
    }

    /// Sets a register to a number: a field of the context where it is at hand, or a constant.
    fn number(&mut self, dst: u8) {
        match (self.find(|kind| kind == Kind::Context), self.random.below(4)) {
            (Some(base), 0..=2) => self.field(dst, base),
            (_, 3) if self.random.once_in(2) => {
                let value = self.random.interesting();
                self.push(LDDW, dst, 0, 0, value as i32);
                self.push(0, 0, 0, 0, (value >> 32) as i32);
            }
            _ => {
                let imm = self.random.immediate();
                self.push(0xb7, dst, 0, 0, imm);
            }
        }
        self.set(dst, Kind::Number);
    }

    fn field(&mut self, dst: u8, base: u8) {
        let (size, bytes) = self.random.pick(&SIZES);
        let fields = if bytes == 4 { &NARROW_FIELDS[..] } else { &WIDE_FIELDS[..] };
        let off = self.random.pick(fields);
        let mode = if bytes < 8 && self.random.once_in(4) { 0x81 } else { 0x61 };
        self.push(mode | size, dst, base, off, 0);
        self.set(dst, Kind::Number);
    }

    fn load_field(&mut self) {
        if let Some(base) = self.find(|kind| kind == Kind::Context) {
            let dst = self.free();
            self.field(dst, base);
        }
    }

    fn copy(&mut self, dst: u8, src: u8) {
        self.push(0xbf, dst, src, 0, 0);
        self.set(dst, self.kind(src));
    }

    fn copies(&mut self) {
        if let Some(src) = self.find(|kind| kind != Kind::Unset) {
            let dst = self.free();
            self.copy(dst, src);
        }
    }

    fn arithmetic(&mut self) {
        let dst = self.own_number();
        let class = if self.random.once_in(3) { 4 } else { 7 };
        match self.random.below(10) {
            0 => self.push(0x80 | class, dst, 0, 0, 0),
            1 => {
                let (code, bits) = (self.random.pick(&[0xd4, 0xdc, 0xd7]), self.random.pick(&[16, 32, 64]));
                self.push(code, dst, 0, 0, bits);
            }
            2 => {
                let bits = if class == 7 { self.random.pick(&[8, 16, 32]) } else { self.random.pick(&[8, 16]) };
                self.push(0xb8 | class, dst, dst, bits, 0);
            }
            _ => self.binary(dst, class),
        }
        self.set(dst, Kind::Number);
    }

    fn binary(&mut self, dst: u8, class: u8) {
        let op = self.random.pick(&ALU);
        let off = i16::from(matches!(op, 0x30 | 0x90) && self.random.once_in(2));
        match self.find(|kind| kind == Kind::Number).filter(|_| self.random.once_in(2)) {
            Some(src) => self.push(op | class | 8, dst, src, off, 0),
            None => {
                let imm = match op {
                    0x60 | 0x70 | 0xc0 => self.random.below(if class == 7 { 64 } else { 32 }) as i32,
                    0x30 | 0x90 => self.random.immediate() | 1,
                    _ => self.random.immediate(),
                };
                self.push(op | class, dst, 0, off, imm);
            }
        }
    }

    /// A branch to the function's end.
    fn out_if(&mut self, code: u8, dst: u8, imm: i32) {
        self.outs.push(self.insns.len());
        self.push(code, dst, 0, 0, imm);
    }

    /// Makes a branch go to here.
    fn land(&mut self, at: usize) {
        let distance = self.insns.len() - at - 1;
        let branch = &mut self.insns[at];
        if branch.code == GOTOL { branch.imm = distance as i32 } else { branch.off = distance as i16 }
    }

    /// A slot of stack by its number from the top.
    fn slot_offset(slot: usize) -> i16 {
        -8 * (slot as i16 + 1)
    }

    fn spill(&mut self) {
        let slot = self.random.below(SLOTS);
        let off = Self::slot_offset(slot);
        match self.find(|kind| kind != Kind::Unset) {
            Some(reg) => {
                self.push(0x7b, 10, reg, off, 0);
                self.state.slots[slot] = self.kind(reg);
            }
            None => self.fill_slot(slot),
        }
    }

    fn fill(&mut self) {
        let written: Vec<usize> = (0..SLOTS).filter(|&slot| self.state.slots[slot] != Kind::Unset).collect();
        if written.is_empty() {
            return self.spill();
        }
        let (slot, dst) = (self.random.pick(&written), self.free());
        self.push(0x79, dst, 10, Self::slot_offset(slot), 0);
        self.set(dst, self.state.slots[slot]);
    }

    /// Parts of a slot.
    fn narrow_stack(&mut self) {
        let slot = self.random.below(SLOTS);
        let (size, bytes) = self.random.pick(&SIZES[..3]);
        let within = bytes * self.random.below((8 / bytes) as usize) as i32;
        let off = Self::slot_offset(slot) + within as i16;
        if self.state.slots[slot] == Kind::Number && self.random.once_in(2) {
            let dst = self.free();
            let mode = if self.random.once_in(3) { 0x81 } else { 0x61 };
            self.push(mode | size, dst, 10, off, 0);
            return self.set(dst, Kind::Number);
        }
        let src = self.some_number();
        self.push(0x63 | size, 10, src, off, 0);
        if self.state.slots[slot] != Kind::Number {
            self.state.slots[slot] = Kind::Unset;
        }
    }

    fn fill_slot(&mut self, slot: usize) {
        if self.state.slots[slot] != Kind::Number {
            let imm = self.random.immediate();
            self.push(0x7a, 10, 0, Self::slot_offset(slot), imm);
            self.state.slots[slot] = Kind::Number;
        }
    }

    /// An access at an offset that is only bounded: on the stack, in variables, in a value.
    fn variable_access(&mut self) {
        let (index, at) = (self.some_number(), self.free());
        if at != index {
            self.copy(at, index);
        }
        let base = loop {
            let base = self.free();
            if base != at {
                break base;
            }
        };
        let (size, bytes) = self.random.pick(&SIZES);
        let (room, may_write) = self.base(base);
        let shift = self.random.below(4) as i32;
        self.bound_to(at, ((room - bytes) >> shift) + 1);
        if shift > 0 {
            self.push(0x67, at, 0, 0, shift);
        }
        self.push(0x0f, base, at, 0, 0);
        self.set(base, Kind::Unset);
        self.touch(base, size, 0, may_write);
    }

    /// Sets a register to a pointer to numbers; gives the bytes that it may be moved over, and whether they may be written.
    fn base(&mut self, base: u8) -> (i32, bool) {
        let value = self.find(|kind| matches!(kind, Kind::Value(_)));
        match (self.random.below(3), value.map(|value| (value, self.kind(value)))) {
            (0, Some((value, Kind::Value(size)))) => {
                if value != base {
                    self.copy(base, value);
                }
                (size, true)
            }
            (1, _) => {
                let region = self.random.below(2) as i32;
                self.address(base, region, 0);
                (VARIABLES, region == 0)
            }
            _ => {
                let slots = 2 + self.random.below(SLOTS - 2);
                (0..slots).for_each(|slot| self.fill_slot(slot));
                self.push(0xbf, base, 10, 0, 0);
                self.push(0x07, base, 0, 0, -8 * slots as i32);
                (8 * slots as i32, true)
            }
        }
    }

    fn address(&mut self, dst: u8, region: i32, offset: i32) {
        self.push(LDDW, dst, LDDW_MEMORY, 0, region);
        self.push(0, 0, 0, 0, offset);
        self.set(dst, if region == 0 && offset == 0 { Kind::Value(VARIABLES) } else { Kind::Unset });
    }

    /// Loads from or stores to a pointer.
    fn touch(&mut self, base: u8, size: u8, off: i16, may_write: bool) {
        if may_write && self.random.once_in(2) {
            match self.find(|kind| kind == Kind::Number).filter(|&src| src != base) {
                Some(src) => self.push(0x63 | size, base, src, off, 0),
                None => self.push(0x62 | size, base, 0, off, 7),
            }
        } else {
            let dst = self.free();
            self.push(0x61 | size, dst, base, off, 0);
            self.set(dst, Kind::Number);
        }
    }

    fn global(&mut self) {
        let (base, region) = (self.free(), self.random.below(2) as i32);
        let (size, bytes) = self.random.pick(&SIZES);
        let last = VARIABLES - bytes + i32::from(self.is_mistake());
        let at = self.random.below(last as usize + 1) as i32;
        self.address(base, region, at);
        self.touch(base, size, 0, region == 0);
    }

    fn atomic(&mut self) {
        let (src, slot) = (self.own_number(), self.random.below(SLOTS));
        let op = self.random.pick(&[0x00, 0x01, 0x40, 0x41, 0x50, 0x51, 0xa0, 0xa1, 0xe1, 0xf1]);
        if op == 0xf1 && self.kind(0) != Kind::Number {
            return;
        }
        let size = self.random.pick(&[0x00, 0x18]);
        if self.random.once_in(3) {
            let base = self.other(src);
            if base != 0 {
                self.address(base, 0, 8 * slot as i32);
                self.push(0xc3 | size, base, src, 0, op);
            }
            return;
        }
        self.fill_slot(slot);
        self.push(0xc3 | size, 10, src, Self::slot_offset(slot), op);
    }

    /// A part that is run under a condition only, or one of two.
    fn branch(&mut self) {
        if self.depth == 3 {
            return;
        }
        let (dst, class) = (self.some_number(), self.random.pick(&[5, 5, 6]));
        let (cond, at) = (self.random.pick(&CONDS), self.insns.len());
        match self.find(|kind| kind == Kind::Number).filter(|_| self.random.once_in(3)) {
            Some(src) => self.push(cond | class | 8, dst, src, 0, 0),
            None => {
                let imm = self.random.immediate();
                self.push(cond | class, dst, 0, 0, imm);
            }
        }
        self.depth += 1;
        let before = self.state;
        let steps = 1 + self.random.below(3);
        self.steps(steps);
        if self.random.once_in(2) {
            let over = self.insns.len();
            let code = if self.random.once_in(4) { GOTOL } else { 0x05 };
            self.push(code, 0, 0, 0, 0);
            self.land(at);
            let then = std::mem::replace(&mut self.state, before);
            let steps = 1 + self.random.below(3);
            self.steps(steps);
            self.land(over);
            self.state.join(&then);
        } else {
            self.land(at);
            self.state.join(&before);
        }
        self.depth -= 1;
    }

    /// A register that may be overwritten, and is not this one.
    fn other(&mut self, than: u8) -> u8 {
        loop {
            let reg = self.free();
            if reg != than {
                return reg;
            }
        }
    }
}
