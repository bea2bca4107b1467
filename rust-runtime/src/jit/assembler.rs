//! What templates write into: bytes, labels, and jumps that are filled in at the end.
//!
//! `dynasm!` calls an assembler's methods by their names. Those of dynasmrt make room with each byte that they are given; this one
//! is asked for room before each instruction (`reserve`), so that a template is a few stores and nothing else. A template that
//! wrote past its room would be an error, not a shorter program.

use dynasmrt::{relocations::Relocation, x64::X64Relocation};

/// Bytes that any instruction's template has room for.
const ROOM: usize = 256;
/// Of a label that was not placed.
const NOWHERE: u32 = u32::MAX;

/// A place in the code that jumps lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(u32);

impl Label {
    /// One of those that the assembler began with.
    pub fn numbered(number: usize) -> Label {
        Label(number as u32)
    }
}

/// A displacement to be filled in.
#[derive(Clone, Copy, Debug)]
struct Jump {
    /// Where it lies.
    at: u32,
    /// What it is counted from.
    from: u32,
    to: Label,
    /// One byte, or four.
    is_short: bool,
}

#[derive(Debug)]
pub struct Assembler {
    /// The code, and room behind it.
    bytes: Vec<u8>,
    /// Of the code.
    len: usize,
    /// By label.
    places: Vec<u32>,
    jumps: Vec<Jump>,
    /// Something was written past the room that there was.
    lost: bool,
}

impl Assembler {
    /// For a program of so many instructions, with so many labels to begin with.
    pub fn new(instructions: usize, labels: usize) -> Assembler {
        Assembler {
            bytes: vec![0; 8 * instructions + 2 * ROOM],
            len: 0,
            places: vec![NOWHERE; labels],
            jumps: Vec::with_capacity(8 + instructions / 4),
            lost: false,
        }
    }

    /// Makes room for an instruction.
    #[inline(always)]
    pub fn reserve(&mut self) {
        if self.len + ROOM > self.bytes.len() {
            self.grow();
        }
    }

    #[cold]
    fn grow(&mut self) {
        self.lost |= self.len > self.bytes.len();
        self.bytes.resize(2 * self.len + 2 * ROOM, 0);
    }

    /// Bytes so far.
    pub fn offset(&self) -> usize {
        self.len
    }

    pub fn new_label(&mut self) -> Label {
        self.places.push(NOWHERE);
        Label::numbered(self.places.len() - 1)
    }

    /// The code, with its jumps.
    pub fn finish(mut self) -> Result<Vec<u8>, String> {
        if self.lost || self.len > self.bytes.len() {
            return Err("an instruction became longer than any can be".into());
        }
        self.bytes.truncate(self.len);
        for jump in &self.jumps {
            let place = self.places.get(jump.to.0 as usize).copied().filter(|&place| place != NOWHERE);
            let distance = i64::from(place.ok_or("a jump leads nowhere")?) - i64::from(jump.from);
            let at = jump.at as usize;
            if jump.is_short {
                let distance = i8::try_from(distance).map_err(|_| "a short jump does not reach")?;
                self.bytes[at] = distance as u8;
            } else {
                let distance = i32::try_from(distance).map_err(|_| "a jump does not reach")?;
                self.bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
            }
        }
        Ok(self.bytes)
    }
}

/// What `dynasm!` calls.
impl Assembler {
    #[inline(always)]
    pub fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
        }
        self.len += 1;
    }

    #[inline(always)]
    pub fn push_i8(&mut self, value: i8) {
        self.push(value as u8);
    }

    #[inline(always)]
    pub fn push_i16(&mut self, value: i16) {
        self.extend(value.to_le_bytes());
    }

    #[inline(always)]
    pub fn push_i32(&mut self, value: i32) {
        self.extend(value.to_le_bytes());
    }

    #[inline(always)]
    pub fn push_i64(&mut self, value: i64) {
        self.extend(value.to_le_bytes());
    }

    #[inline(always)]
    pub fn extend(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        if let Some(place) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.len += bytes.len();
    }

    pub fn align(&mut self, alignment: usize, with: u8) {
        self.reserve();
        while !self.len.is_multiple_of(alignment) {
            self.push(with);
        }
    }

    /// Places a label.
    pub fn dynamic_label(&mut self, label: Label) {
        if let Some(place) = self.places.get_mut(label.0 as usize) {
            *place = self.len as u32;
        }
    }

    /// A displacement that ends so many bytes before here, counted from so many bytes before here.
    pub fn dynamic_reloc(&mut self, to: Label, offset: isize, field: u8, reference: u8, encoding: u8) {
        let from = (self.len - usize::from(reference)).wrapping_add_signed(-offset) as u32;
        let is_short = X64Relocation::from_encoding(encoding).size() == 1;
        self.jumps.push(Jump { at: (self.len - usize::from(field)) as u32, from, to, is_short });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dynasm::dynasm;

    fn assembler() -> Assembler {
        Assembler::new(0, 0)
    }

    #[test]
    fn jumps_lead_to_their_labels() {
        let mut ops = assembler();
        let (back, ahead) = (ops.new_label(), ops.new_label());
        dynasm!(ops; .arch x64; =>back; jmp BYTE =>ahead; jne =>ahead; jmp BYTE =>back; =>ahead; ret);
        let expected = [0xeb, 8, 0x0f, 0x85, 2, 0, 0, 0, 0xeb, 0xf6, 0xc3];
        assert_eq!(ops.finish().unwrap(), expected);
    }

    #[test]
    fn addresses_are_counted_from_the_next_instruction() {
        let mut ops = assembler();
        let label = ops.new_label();
        dynasm!(ops; .arch x64; lea rax, [=>label]; nop; =>label; ret);
        assert_eq!(ops.finish().unwrap(), [0x48, 0x8d, 0x05, 1, 0, 0, 0, 0x90, 0xc3]);
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        let mut ops = assembler();
        let label = ops.new_label();
        dynasm!(ops; .arch x64; jmp =>label);
        assert!(ops.finish().unwrap_err().contains("nowhere"));

        let mut ops = assembler();
        let label = ops.new_label();
        dynasm!(ops; .arch x64; jmp BYTE =>label);
        (0..128).for_each(|_| ops.push(0x90));
        dynasm!(ops; .arch x64; =>label);
        assert!(ops.finish().unwrap_err().contains("does not reach"));

        let mut ops = assembler();
        (0..3 * ROOM).for_each(|_| ops.push(0x90));
        ops.reserve();
        assert!(ops.finish().unwrap_err().contains("longer"));
    }

    #[test]
    fn room_grows() {
        let mut ops = assembler();
        for _ in 0..10_000 {
            ops.reserve();
            ops.push_i64(-1);
        }
        ops.reserve();
        ops.align(64, 0xcc);
        assert_eq!(ops.finish().unwrap().len(), 80_000_usize.next_multiple_of(64));
    }
}
