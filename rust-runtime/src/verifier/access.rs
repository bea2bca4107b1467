//! Loads, stores and atomics: what they may touch, and what they leave behind.

use super::{
    Reason, STACK,
    domain::{Scalar, Tnum},
    filled::Edge,
    need::EffectKind,
    planted::{Bug, on},
    rules::Content,
    stack::{StackFault, cells_of, whole_cells_of},
    value::{MapRef, Num, Pointer, Target, Value},
    walk::Walk,
};
use crate::{
    isa::{Atomic, Operand, R10, Reg, Size, Width},
    object::{FLAG_READ_ONLY_PROGRAM, FLAG_WRITE_ONLY_PROGRAM, MapDef, Region},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    Atomic,
    /// By a helper, of any alignment.
    ReadBytes,
    WriteBytes,
}

impl Access {
    fn writes(self) -> bool {
        !matches!(self, Access::Read | Access::ReadBytes)
    }

    fn reads(self) -> bool {
        !matches!(self, Access::Write | Access::WriteBytes)
    }
}

/// Where an access goes, inside of its bounds.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// What a field of the context holds.
    Context(Content),
    /// Bytes of a frame's stack, at least from and at most up to these offsets of the first.
    Stack { frame: usize, low: i64, high: i64 },
    /// Memory of which nothing is known; the constant at this offset, if it never changes.
    Memory(Option<(MapRef, u64)>),
    /// Nothing is looked at in a trial.
    Anywhere,
}

impl Walk<'_> {
    pub fn load(&mut self, size: Size, signed: bool, dst: Reg, base: Reg, off: i16) -> Result<(), Reason> {
        let place = self.place(base, i64::from(off), i64::from(size.bytes()), Access::Read)?;
        let value = match place {
            Place::Context(Content::Buffer) => Value::pointer(Target::Buffer, 0),
            Place::Context(Content::BufferEnd) => Value::BufferEnd,
            Place::Context(Content::Number) | Place::Anywhere | Place::Memory(None) => self.unknown(size, signed),
            Place::Memory(Some((map, offset))) => match self.constant_at(map, offset, size) {
                Some(value) => self.extended(Num::constant(value), size, signed),
                None => self.unknown(size, signed),
            },
            Place::Stack { frame, low, high } => self.read_stack(frame, low, high, size, signed)?,
        };
        self.state.set(dst, value);
        Ok(())
    }

    pub fn store_value(&mut self, size: Size, base: Reg, off: i16, src: Operand) -> Result<(), Reason> {
        let value = self.operand(src)?;
        let place = self.place(base, i64::from(off), i64::from(size.bytes()), Access::Write)?;
        match place {
            Place::Stack { frame, low, high } => self.write_stack(frame, low, high, size, value, src)?,
            Place::Context(_) | Place::Memory(_) | Place::Anywhere if value.is_address() => {
                return Err(leak(src, base));
            }
            Place::Context(_) | Place::Memory(_) | Place::Anywhere => {}
        }
        if !self.state.loops.is_empty() && base != R10 && !value.is_address() {
            self.note_filled(base, i64::from(off), i64::from(size.bytes()));
        }
        Ok(())
    }

    /// A store that may be one of a loop that fills an array.
    fn note_filled(&mut self, base: Reg, off: i64, bytes: i64) {
        let Value::Pointer(Pointer { to: Target::Stack(frame), offset, .. }) = *self.state.reg(base) else { return };
        // What a loop fills is guessed from its first round alone.
        let is_proved = self.state.loops.last().is_some_and(|active| active.attempt != 0);
        if offset.is_constant().is_some() && is_proved {
            return;
        }
        let at = match self.state.sum.as_deref() {
            Some((symbol, sum)) if *symbol == offset.link.symbol && offset.link.scale == 1 => {
                sum.moved(offset.link.add)
            }
            _ => Edge::of(&offset),
        };
        if let Some(at) = at.and_then(|at| at.moved(off)) {
            self.state.note_filled(frame.into(), at, bytes);
        }
    }

    pub fn atomic(&mut self, op: Atomic, fetch: bool, size: Size, base: Reg, off: i16, src: Reg) -> Result<(), Reason> {
        self.number(src)?;
        if op == Atomic::CmpXchg {
            self.number(0)?;
        }
        let bytes = i64::from(size.bytes());
        let place = self.place(base, i64::from(off), bytes, Access::Atomic)?;
        if let Place::Stack { frame, low, high } = place {
            self.check_numbers(frame, low, high - low + bytes)?;
            self.step.note_cells(EffectKind::Read, frame as u8, cells_of(low, high - low + bytes));
            self.step.note_cells(EffectKind::Touch, frame as u8, cells_of(low, high - low + bytes));
            self.state.frame_mut(frame).stack.blur(low, high - low + bytes);
        }
        if fetch && !on(Bug::AtomicResult) {
            let value = self.unknown(size, false);
            self.state.set(if op == Atomic::CmpXchg { 0 } else { src }, value);
        }
        Ok(())
    }

    /// Any number of a size.
    pub fn unknown(&mut self, size: Size, signed: bool) -> Value {
        let symbol = self.fresh();
        match self.extended(Num::plain(Scalar::unknown().truncate(size.bytes())), size, signed) {
            Value::Number(number) => Value::Number(Num::symbol(number.range, symbol)),
            other => other,
        }
    }

    fn extended(&mut self, number: Num, size: Size, signed: bool) -> Value {
        if !signed || size == Size::D {
            return Value::Number(number);
        }
        let range = number.range.sign_extend(size.bits(), Width::W64);
        let symbol = self.fresh();
        Value::Number(Num::symbol(range, symbol))
    }

    /// Checks an access through a register.
    pub fn place(&mut self, base: Reg, off: i64, bytes: i64, access: Access) -> Result<Place, Reason> {
        match self.get(base)? {
            Value::Number(_) => Err(Reason::NotAPointer(base)),
            Value::Pointer(pointer) if pointer.null != 0 => Err(Reason::MaybeNull(base)),
            Value::Pointer(pointer) => self.place_in(&pointer, off, bytes, access),
            Value::Map { .. } => Err(Reason::NotMemory { reg: base, what: "a map" }),
            Value::Function(_) => Err(Reason::NotMemory { reg: base, what: "a function" }),
            Value::BufferEnd => Err(Reason::NotMemory { reg: base, what: "the end of a buffer" }),
            Value::Unset => Err(Reason::Uninitialised(base)),
        }
    }

    /// Checks an access of so many bytes, `off` behind a pointer.
    pub fn place_in(&mut self, pointer: &Pointer, off: i64, bytes: i64, access: Access) -> Result<Place, Reason> {
        let (low, high) = (pointer.offset.range.smin(), pointer.offset.range.smax());
        let (low, high) = (low.saturating_add(off), high.saturating_add(off));
        let must_align = match access {
            Access::Atomic => pointer.to != Target::Context,
            Access::Read | Access::Write => matches!(pointer.to, Target::Stack(_)),
            Access::ReadBytes | Access::WriteBytes => false,
        };
        let place = self.place_within(pointer, off, (low, high), bytes, access)?;
        if must_align && !is_multiple(&pointer.offset.range, off, bytes) && !self.is_trial() {
            return Err(Reason::Misaligned(bytes as u32));
        }
        Ok(place)
    }

    fn place_within(
        &mut self,
        pointer: &Pointer,
        off: i64,
        (low, high): (i64, i64),
        bytes: i64,
        access: Access,
    ) -> Result<Place, Reason> {
        match pointer.to {
            Target::Context => self.place_in_context(pointer, low, high, bytes, access),
            Target::Stack(frame) => {
                if low < -i64::from(STACK) || high.saturating_add(bytes) > 0 {
                    if self.is_trial() && low != high {
                        return Ok(Place::Anywhere);
                    }
                    return Err(Reason::StackBounds { offset: offset_text(low, high), size: bytes });
                }
                let frame = usize::from(frame);
                self.note_depth(frame, low);
                Ok(Place::Stack { frame, low, high })
            }
            Target::MapValue(map) => {
                let (size, writable) = self.memory_of(map);
                self.check_within(|| self.memory_name(map), low, high, bytes, size)?;
                let is_hidden = self.map_def(map).is_some_and(|def| def.flags & FLAG_WRITE_ONLY_PROGRAM != 0);
                if is_hidden && access.reads() {
                    return Err(Reason::WriteOnly(self.memory_name(map)));
                }
                if writable && self.rules.pure {
                    return Err(Reason::Impure(self.memory_name(map)));
                }
                if !writable && access.writes() {
                    return Err(Reason::ReadOnly(self.memory_name(map)));
                }
                let known = !writable && low == high;
                Ok(Place::Memory(known.then_some((map, low as u64))))
            }
            Target::MapKey(map) => {
                let size = u64::from(self.map_def(map).map_or(0, |def| def.key_size));
                let name = || format!("the key of {}", self.map_name(map));
                self.check_within(name, low, high, bytes, size)?;
                if access.writes() { Err(Reason::ReadOnly(name())) } else { Ok(Place::Memory(None)) }
            }
            Target::Record(size) => {
                self.check_within(|| "the record".into(), low, high, bytes, u64::from(size))?;
                Ok(Place::Memory(None))
            }
            Target::Buffer => {
                let from_here = off.saturating_add(bytes);
                if (low < 0 || from_here > pointer.room) && !self.is_trial() {
                    let (offset, room) = (offset_text(low, high), pointer.room.max(0));
                    return Err(Reason::BehindEnd { offset, size: bytes, room });
                }
                if access.writes() && !self.rules.writable_buffers {
                    return Err(Reason::ReadOnly("the buffer".into()));
                }
                Ok(Place::Memory(None))
            }
        }
    }

    fn check_within(
        &self,
        memory: impl Fn() -> String,
        low: i64,
        high: i64,
        bytes: i64,
        size: u64,
    ) -> Result<(), Reason> {
        let size = size + u64::from(on(Bug::OffByOne));
        let is_inside = low >= 0 && bytes >= 0 && high.checked_add(bytes).is_some_and(|end| end <= size as i64);
        if is_inside || self.is_trial() && low != high {
            return Ok(());
        }
        let offset = offset_text(low, high);
        Err(Reason::OutOfBounds { memory: memory(), offset, size: bytes, bytes: size })
    }

    fn place_in_context(
        &mut self,
        pointer: &Pointer,
        low: i64,
        high: i64,
        bytes: i64,
        access: Access,
    ) -> Result<Place, Reason> {
        if low != high {
            return Err(Reason::ContextOffset(pointer.offset.range.to_string()));
        }
        if access == Access::Atomic {
            return Err(Reason::ContextWrite);
        }
        let content = self.rules.context_at(low, bytes, access.writes())?;
        if !access.writes() && low < 120 {
            self.facts.context_bytes |= ((1u128 << bytes) - 1) << low;
        }
        Ok(Place::Context(content))
    }

    fn note_depth(&mut self, frame: usize, low: i64) {
        let function = self.state.frames[frame].function;
        let depth = &mut self.facts.stack[function];
        *depth = (*depth).max((-low) as u32);
    }

    fn read_stack(&mut self, frame: usize, low: i64, high: i64, size: Size, signed: bool) -> Result<Value, Reason> {
        let bytes = size.bytes();
        let span = high - low + i64::from(bytes);
        self.step.note_cells(EffectKind::Read, frame as u8, cells_of(low, span));
        if low == high {
            let value = self.state.frames[frame].stack.read(low, bytes).map_err(stack_fault)?;
            return Ok(match value {
                Value::Number(number) if signed => self.extended(number, size, signed),
                Value::Number(number) if number.link.symbol == 0 => {
                    let symbol = self.fresh();
                    Value::Number(Num::symbol(number.range, symbol))
                }
                value => value,
            });
        }
        if !self.is_trial() {
            self.check_numbers(frame, low, span)?;
        }
        Ok(self.unknown(size, signed))
    }

    pub fn check_numbers(&self, frame: usize, low: i64, bytes: i64) -> Result<(), Reason> {
        match self.state.frames[frame].stack.check_numbers(low, bytes) {
            Ok(()) => Ok(()),
            Err(fault) => {
                let stack = self.state.stack_with_filled(frame).ok_or_else(|| stack_fault(fault))?;
                stack.check_numbers(low, bytes).map_err(stack_fault)
            }
        }
    }

    fn write_stack(
        &mut self,
        frame: usize,
        low: i64,
        high: i64,
        size: Size,
        value: Value,
        src: Operand,
    ) -> Result<(), Reason> {
        let bytes = i64::from(size.bytes());
        let span = high - low + bytes;
        let stack = &self.state.frames[frame].stack;
        let is_whole = low == high && size == Size::D;
        if !is_whole && stack.has_pointer(low, span) {
            return Err(Reason::StackPointerCorrupted { offset: low });
        }
        if value.is_address() {
            if !is_whole {
                return Err(leak(src, 10));
            }
            if matches!(value, Value::Pointer(Pointer { to: Target::Stack(of), .. }) if usize::from(of) > frame) {
                return Err(Reason::StackEscape);
            }
            self.state.forget_filled(frame, low, bytes);
        }
        if low == high {
            let whole = whole_cells_of(low, bytes);
            self.step.note_cells(EffectKind::Write, frame as u8, whole);
            self.step.note_cells(EffectKind::Touch, frame as u8, cells_of(low, bytes) & !whole);
            self.state.frame_mut(frame).stack.write(low, size.bytes(), value);
        } else {
            self.step.note_cells(EffectKind::Touch, frame as u8, cells_of(low, span));
            if self.state.frames[frame].stack.check_numbers(low, span).is_err() {
                self.note_scattered(cells_of(low, span));
            }
            self.state.frame_mut(frame).stack.blur(low, span);
        }
        Ok(())
    }

    /// The constant in memory that never changes.
    fn constant_at(&self, map: MapRef, offset: u64, size: Size) -> Option<u64> {
        let region = self.region_of(self.map_def(map)?)?;
        if region.writable {
            return None;
        }
        let mut bytes = [0; 8];
        for (index, byte) in bytes.iter_mut().take(size.bytes() as usize).enumerate() {
            // What lies behind the file's bytes is zero.
            *byte = region.bytes.get(offset as usize + index).copied().unwrap_or(0);
        }
        Some(u64::from_le_bytes(bytes))
    }

    pub fn map_def(&self, map: MapRef) -> Option<&MapDef> {
        let def = self.object.maps.get(map.index as usize)?;
        if map.inner { def.inner.as_deref() } else { Some(def) }
    }

    pub fn map_name(&self, map: MapRef) -> String {
        self.object.maps.get(map.index as usize).map_or_else(|| "?".into(), |def| def.name.clone())
    }

    fn region_of(&self, def: &MapDef) -> Option<&Region> {
        self.object.regions.get(def.region?)
    }

    /// The size of a map's values, and whether a program may write them.
    fn memory_of(&self, map: MapRef) -> (u64, bool) {
        let Some(def) = self.map_def(map) else { return (0, false) };
        match self.region_of(def) {
            Some(region) => (region.size, region.writable),
            None => (u64::from(def.value_size), def.flags & FLAG_READ_ONLY_PROGRAM == 0),
        }
    }

    /// What messages call a map's values.
    fn memory_name(&self, map: MapRef) -> String {
        let Some(def) = self.map_def(map) else { return "an unknown map".into() };
        match self.region_of(def) {
            Some(region) => region.name.clone(),
            None => format!("a value of {}", self.map_name(map)),
        }
    }
}

fn leak(src: Operand, base: Reg) -> Reason {
    Reason::PointerLeak(if let Operand::Reg(reg) = src { reg } else { base })
}

pub fn stack_fault(fault: StackFault) -> Reason {
    match fault {
        StackFault::Unwritten(offset) => Reason::StackUninitialised { offset },
        StackFault::PointerPart(offset) => Reason::StackPointerPart { offset },
    }
}

/// Whether an offset is surely a multiple of a power of two.
fn is_multiple(offset: &Scalar, off: i64, of: i64) -> bool {
    let bits = offset.bits().add(Tnum::constant(off as u64));
    (bits.value | bits.mask).trailing_zeros() >= of.trailing_zeros()
}

/// An offset, or the range of one.
pub fn offset_text(low: i64, high: i64) -> String {
    if low == high { format!("offset {low}") } else { format!("offsets {low} to {high}") }
}
