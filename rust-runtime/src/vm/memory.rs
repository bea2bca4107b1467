//! The memory of a run: regions that know what they are, and values that know what they point into.
//!
//! Addresses are made up: region `n` begins at `(n + 1) << 32`, so that a pointer that leaves its region by less than 4 GiB is in
//! no other. A pointer carries its region; a number that looks like an address points nowhere.

use std::ops::Range;

use super::FaultKind;

/// A region's place in [`Memory`].
pub type RegionId = u32;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Never written, or clobbered by a call.
    Unset,
    Number,
    Pointer(RegionId),
    /// A map of the object.
    Map(u32),
    /// A map that was found in that map of maps.
    InnerMap(u32),
    /// A function: the slot it begins at.
    Function(u32),
}

/// A register, or eight bytes of stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    pub bits: u64,
    pub origin: Origin,
}

impl Value {
    pub const UNSET: Value = Value { bits: 0xdead_beef_dead_beef, origin: Origin::Unset };

    pub const fn number(bits: u64) -> Value {
        Value { bits, origin: Origin::Number }
    }

    pub fn is_number(self) -> bool {
        self.origin == Origin::Number
    }
}

/// What a region is, and so what may be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Context,
    /// A function's stack, by the number of its frame.
    Stack(usize),
    /// A section of variables, by its place in the object.
    Global {
        region: u32,
        writable: bool,
    },
    /// A buffer that the context points to.
    Buffer {
        writable: bool,
    },
    /// The value of one key.
    MapValue(u32),
    /// A key that a callback is shown.
    MapKey(u32),
    /// A record of a ring buffer that is not yet given back.
    Record(u32),
}

const STACK: usize = crate::verifier::STACK as usize;
const SLOTS: usize = STACK / 8;

/// What is known of a stack's bytes beside their values.
#[derive(Clone, Debug)]
struct Shadow {
    written: [bool; STACK],
    /// By slot of eight bytes: what a whole register that lies there is.
    spills: [Origin; SLOTS],
}

#[derive(Clone, Debug)]
pub struct Region {
    pub place: Place,
    pub bytes: Vec<u8>,
    /// False once its frame has returned or its record was given back.
    live: bool,
    /// Of the context: bytes that may be written.
    writable: Vec<Range<usize>>,
    /// Of the context: eight bytes that hold a pointer.
    pointers: Vec<(usize, Value)>,
    shadow: Option<Box<Shadow>>,
}

impl Region {
    fn may_write(&self, at: usize, size: usize) -> bool {
        match self.place {
            Place::Context => self.writable.iter().any(|range| range.start <= at && at + size <= range.end),
            Place::Global { writable, .. } | Place::Buffer { writable } => writable,
            Place::MapKey(_) => false,
            Place::Stack(_) | Place::MapValue(_) | Place::Record(_) => true,
        }
    }

    /// Others may write to it at any time.
    fn is_shared(&self) -> bool {
        matches!(self.place, Place::MapValue(_) | Place::Global { writable: true, .. })
    }

    /// A byte of these belongs to a pointer.
    fn holds_pointer(&self, at: usize, size: usize) -> bool {
        self.pointers.iter().any(|(pointer, _)| at < pointer + 8 && *pointer < at + size)
    }
}

/// What the world decides: numbers for what others write and for what lookups find.
pub trait Noise {
    fn next(&mut self) -> u64;

    /// Nobody else writes.
    fn is_quiet(&self) -> bool {
        false
    }
}

/// All regions of a run.
#[derive(Debug, Default)]
pub struct Memory {
    regions: Vec<Region>,
}

/// An access that was found to be inside its region.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    pub region: RegionId,
    pub at: usize,
}

fn base(region: RegionId) -> u64 {
    (u64::from(region) + 1) << 32
}

impl Memory {
    pub fn add(&mut self, place: Place, bytes: Vec<u8>) -> RegionId {
        let (writable, pointers) = (Vec::new(), Vec::new());
        self.regions.push(Region { place, bytes, live: true, writable, pointers, shadow: None });
        (self.regions.len() - 1) as RegionId
    }

    pub fn add_stack(&mut self, frame: usize) -> RegionId {
        let id = self.add(Place::Stack(frame), vec![0x5a; STACK]);
        let shadow = Shadow { written: [false; STACK], spills: [Origin::Number; SLOTS] };
        self.regions[id as usize].shadow = Some(Box::new(shadow));
        id
    }

    pub fn add_context(&mut self, bytes: Vec<u8>, writable: Vec<Range<usize>>) -> RegionId {
        let id = self.add(Place::Context, bytes);
        self.regions[id as usize].writable = writable;
        id
    }

    /// Makes eight bytes of the context a pointer.
    pub fn set_pointer(&mut self, context: RegionId, at: usize, value: Value) {
        self.regions[context as usize].pointers.push((at, value));
    }

    pub fn region(&self, id: RegionId) -> &Region {
        &self.regions[id as usize]
    }

    /// Nothing may touch it any more.
    pub fn end(&mut self, id: RegionId) {
        let region = &mut self.regions[id as usize];
        region.live = false;
        region.bytes = Vec::new();
        region.shadow = None;
    }

    /// There is a record that was not given back.
    pub fn has_open_record(&self) -> bool {
        self.regions.iter().any(|region| region.live && matches!(region.place, Place::Record(_)))
    }

    /// A pointer to a byte of a region.
    pub fn pointer(&self, region: RegionId, at: i64) -> Value {
        Value { bits: base(region).wrapping_add_signed(at), origin: Origin::Pointer(region) }
    }

    /// Where a pointer points, in bytes from its region's first; None: it is no pointer.
    pub fn offset(&self, value: Value) -> Option<(RegionId, i64)> {
        match value.origin {
            Origin::Pointer(region) => Some((region, value.bits.wrapping_sub(base(region)) as i64)),
            _ => None,
        }
    }

    /// Finds `size` bytes at a pointer.
    pub fn spot(&self, pointer: Value, off: i64, size: usize, write: bool) -> Result<Spot, FaultKind> {
        if pointer.origin == Origin::Unset {
            return Err(FaultKind::Uninitialised);
        }
        let (region, offset) = self.offset(pointer).ok_or(FaultKind::NoPointer)?;
        let (found, offset) = (&self.regions[region as usize], offset.wrapping_add(off));
        if !found.live {
            return Err(FaultKind::Dangling { place: found.place });
        }
        let end = usize::try_from(offset).ok().and_then(|at| at.checked_add(size));
        if end.is_none_or(|end| end > found.bytes.len()) {
            return Err(FaultKind::OutOfBounds { place: found.place, offset, size });
        }
        let at = offset as usize;
        if write && !found.may_write(at, size) {
            return Err(FaultKind::ReadOnly { place: found.place, offset: at });
        }
        Ok(Spot { region, at })
    }

    /// Lets others write to what the spot shows.
    pub fn disturb(&mut self, spot: Spot, size: usize, noise: &mut dyn Noise) {
        let region = &mut self.regions[spot.region as usize];
        if region.is_shared() {
            let noise = noise.next().to_le_bytes();
            region.bytes[spot.at..spot.at + size].copy_from_slice(&noise[..size]);
        }
    }

    pub fn load(&self, spot: Spot, size: usize) -> Result<Value, FaultKind> {
        let region = &self.regions[spot.region as usize];
        let is_whole = size == 8 && spot.at.is_multiple_of(8);
        let bits = number(&region.bytes, spot.at, size);
        if let Some(shadow) = region.shadow.as_ref().filter(|_| is_whole) {
            shadow.require_written(spot.at, size)?;
            return Ok(Value { bits, origin: shadow.spills[spot.at / 8] });
        }
        if let Some((_, value)) = region.pointers.iter().find(|(at, _)| (*at, 8) == (spot.at, size)) {
            return Ok(*value);
        }
        self.read(spot, size)?;
        Ok(Value::number(bits))
    }

    pub fn store(&mut self, spot: Spot, size: usize, value: Value) -> Result<(), FaultKind> {
        if value.origin == Origin::Unset {
            return Err(FaultKind::Uninitialised);
        }
        let region = &mut self.regions[spot.region as usize];
        let is_whole = size == 8 && spot.at.is_multiple_of(8);
        let may_hold_pointers = is_whole && region.shadow.is_some();
        if !value.is_number() && !may_hold_pointers {
            return Err(FaultKind::Leak);
        }
        self.write(spot, &value.bits.to_le_bytes()[..size]);
        if let Some(shadow) = self.regions[spot.region as usize].shadow.as_mut().filter(|_| is_whole) {
            shadow.spills[spot.at / 8] = value.origin;
        }
        Ok(())
    }

    /// Bytes of numbers.
    pub fn read(&self, spot: Spot, size: usize) -> Result<&[u8], FaultKind> {
        let region = &self.regions[spot.region as usize];
        if let Some(shadow) = &region.shadow {
            shadow.require_written(spot.at, size)?;
            let mut slots = spot.at / 8..(spot.at + size).div_ceil(8);
            if size > 0 && slots.any(|slot| shadow.spills[slot] != Origin::Number) {
                return Err(FaultKind::Leak);
            }
        }
        if region.holds_pointer(spot.at, size) {
            return Err(FaultKind::Leak);
        }
        Ok(&region.bytes[spot.at..spot.at + size])
    }

    /// Writes numbers.
    pub fn write(&mut self, spot: Spot, bytes: &[u8]) {
        let region = &mut self.regions[spot.region as usize];
        if let Some(shadow) = &mut region.shadow {
            shadow.forget_spills(spot.at, bytes.len());
            shadow.written[spot.at..spot.at + bytes.len()].fill(true);
        }
        region.bytes[spot.at..spot.at + bytes.len()].copy_from_slice(bytes);
    }

    /// A byte of a stack, if it was written and belongs to a number.
    pub fn stack_byte(&self, region: RegionId, at: usize) -> Option<u8> {
        let found = &self.regions[region as usize];
        let shadow = found.shadow.as_ref()?;
        (shadow.written[at] && shadow.spills[at / 8] == Origin::Number).then(|| found.bytes[at])
    }

    /// What a slot of a stack holds, if it was written whole.
    #[cfg(any(test, feature = "testing"))]
    pub fn stack_slot(&self, region: RegionId, slot: usize) -> Option<Value> {
        let found = &self.regions[region as usize];
        let shadow = found.shadow.as_ref()?;
        shadow.require_written(8 * slot, 8).ok()?;
        Some(Value { bits: number(&found.bytes, 8 * slot, 8), origin: shadow.spills[slot] })
    }
}

impl Shadow {
    fn require_written(&self, at: usize, size: usize) -> Result<(), FaultKind> {
        let is_written = self.written[at..at + size].iter().all(|&written| written);
        if is_written { Ok(()) } else { Err(FaultKind::Uninitialised) }
    }

    /// What is left of a pointer that is partly overwritten is no number and no pointer.
    fn forget_spills(&mut self, at: usize, size: usize) {
        for slot in at / 8..(at + size).div_ceil(8) {
            if self.spills[slot] != Origin::Number {
                self.spills[slot] = Origin::Number;
                self.written[8 * slot..8 * slot + 8].fill(false);
            }
        }
    }
}

fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    let mut word = [0; 8];
    word[..size].copy_from_slice(&bytes[at..at + size]);
    u64::from_le_bytes(word)
}
