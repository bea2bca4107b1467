//! What templates write into: bytes, labels, and jumps that are filled in at the end.
//!
//! `dynasm!` calls an assembler's methods by their names. Those of dynasmrt make room with each byte that they are given; this one
//! is asked for room before each instruction (`reserve`), so that a template is a few stores and nothing else. A template that
//! wrote past its room would be an error, not a shorter program. What most of a program consists of, single instructions of the processor, is
//! put together in registers and written at once (`one!`).
//!
//! Its memory is the thread's last program's: compiling allocates nothing.

use std::cell::Cell;

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
    buffers: Buffers,
    /// Of the code.
    len: usize,
    /// Something was written past the room that there was.
    lost: bool,
}

#[derive(Debug, Default)]
struct Buffers {
    /// The code, and room behind it.
    bytes: Vec<u8>,
    /// By label.
    places: Vec<u32>,
    jumps: Vec<Jump>,
    lent: Vec<u32>,
}

/// What a thread keeps of a program's buffers at most, in bytes of code.
const MOST_SPARE: usize = 1 << 16;

thread_local! {
    /// The last program's.
    static SPARE: Cell<Buffers> = const {
        Cell::new(Buffers { bytes: Vec::new(), places: Vec::new(), jumps: Vec::new(), lent: Vec::new() })
    };
}

impl Drop for Assembler {
    fn drop(&mut self) {
        if self.buffers.bytes.capacity() <= MOST_SPARE {
            let buffers = std::mem::take(&mut self.buffers);
            // A thread that ends keeps none.
            let _ = SPARE.try_with(|spare| spare.set(buffers));
        }
    }
}

impl Assembler {
    /// For a program of so many instructions, with so many labels to begin with.
    pub fn new(instructions: usize, labels: usize) -> Assembler {
        let mut buffers = SPARE.try_with(Cell::take).unwrap_or_default();
        let room = 8 * instructions + 2 * ROOM;
        if buffers.bytes.len() < room {
            buffers.bytes.resize(room, 0);
        }
        buffers.places.clear();
        buffers.places.resize(labels, NOWHERE);
        buffers.jumps.clear();
        Assembler { buffers, len: 0, lost: false }
    }

    /// Numbers for whoever writes, all 0. They may be given back.
    pub fn lend(&mut self, count: usize) -> Vec<u32> {
        let mut lent = std::mem::take(&mut self.buffers.lent);
        lent.clear();
        lent.resize(count, 0);
        lent
    }

    pub fn take_back(&mut self, lent: Vec<u32>) {
        self.buffers.lent = lent;
    }

    /// Makes room for an instruction.
    #[inline(always)]
    pub fn reserve(&mut self) {
        if self.len + ROOM > self.buffers.bytes.len() {
            self.grow();
        }
    }

    #[cold]
    fn grow(&mut self) {
        self.lost |= self.len > self.buffers.bytes.len();
        self.buffers.bytes.resize(2 * self.len + 2 * ROOM, 0);
    }

    /// Bytes so far.
    pub fn offset(&self) -> usize {
        self.len
    }

    pub fn new_label(&mut self) -> Label {
        self.buffers.places.push(NOWHERE);
        Label::numbered(self.buffers.places.len() - 1)
    }

    /// Fills the jumps in.
    pub fn finish(&mut self) -> Result<(), String> {
        let Buffers { bytes, places, jumps, .. } = &mut self.buffers;
        if self.lost || self.len > bytes.len() {
            return Err("an instruction became longer than any can be".into());
        }
        for jump in jumps {
            let place = places.get(jump.to.0 as usize).copied().filter(|&place| place != NOWHERE);
            let distance = i64::from(place.ok_or("a jump leads nowhere")?) - i64::from(jump.from);
            let at = jump.at as usize;
            if jump.is_short {
                let distance = i8::try_from(distance).map_err(|_| "a short jump does not reach")?;
                bytes[at] = distance as u8;
            } else {
                let distance = i32::try_from(distance).map_err(|_| "a jump does not reach")?;
                bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
            }
        }
        Ok(())
    }

    /// The code.
    pub fn bytes(&self) -> &[u8] {
        self.buffers.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Bytes of the longest instruction of the processor.
const LONGEST: usize = 16;

/// One instruction of the processor, while it is put together.
#[derive(Debug)]
pub struct One {
    bytes: [u8; LONGEST],
    len: usize,
}

/// Writes one instruction of the processor that refers to no label: `dynasm!` for what is written most.
macro_rules! one {
    ($ops:expr; $($code:tt)*) => {{
        let mut one = crate::jit::assembler::One::new();
        dynasm::dynasm!(one; .arch x64; $($code)*);
        $ops.put(one)
    }};
}
pub(super) use one;

impl One {
    #[inline(always)]
    pub fn new() -> One {
        One { bytes: [0; LONGEST], len: 0 }
    }

    #[inline(always)]
    pub fn of<const N: usize>(bytes: [u8; N]) -> One {
        let mut one = One::new();
        one.extend(&bytes);
        one
    }

    #[inline(always)]
    pub fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[inline(always)]
    pub fn push_i8(&mut self, value: i8) {
        self.push(value as u8);
    }

    #[inline(always)]
    pub fn push_i16(&mut self, value: i16) {
        self.extend(&value.to_le_bytes());
    }

    #[inline(always)]
    pub fn push_i32(&mut self, value: i32) {
        self.extend(&value.to_le_bytes());
    }

    #[inline(always)]
    pub fn push_i64(&mut self, value: i64) {
        self.extend(&value.to_le_bytes());
    }

    #[inline(always)]
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

impl Assembler {
    #[inline(always)]
    pub fn put(&mut self, one: One) {
        // What lies behind the instruction is written over by the next one.
        match self.buffers.bytes.get_mut(self.len..).and_then(|rest| rest.first_chunk_mut()) {
            Some(place) => *place = one.bytes,
            None => self.lost = true,
        }
        self.len += one.len;
    }
}

/// What `dynasm!` calls.
impl Assembler {
    #[inline(always)]
    pub fn push(&mut self, byte: u8) {
        if let Some(place) = self.buffers.bytes.get_mut(self.len) {
            *place = byte;
        }
        self.len += 1;
    }

    #[inline(always)]
    pub fn push_i8(&mut self, value: i8) {
        self.push(value as u8);
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
        if let Some(place) = self.buffers.bytes.get_mut(self.len..self.len + bytes.len()) {
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
        if let Some(place) = self.buffers.places.get_mut(label.0 as usize) {
            *place = self.len as u32;
        }
    }

    /// A displacement that ends so many bytes before here, counted from so many bytes before here.
    pub fn dynamic_reloc(&mut self, to: Label, offset: isize, field: u8, reference: u8, encoding: u8) {
        let from = (self.len - usize::from(reference)).wrapping_add_signed(-offset) as u32;
        let is_short = X64Relocation::from_encoding(encoding).size() == 1;
        self.buffers.jumps.push(Jump { at: (self.len - usize::from(field)) as u32, from, to, is_short });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dynasm::dynasm;

    fn assembler() -> Assembler {
        Assembler::new(0, 0)
    }

    fn code(mut ops: Assembler) -> Result<Vec<u8>, String> {
        ops.finish().map(|()| ops.bytes().to_vec())
    }

    #[test]
    #[expect(clippy::useless_conversion, reason = "dynasm! converts the register numbers that it is given")]
    fn one_instruction_is_what_a_template_is() {
        let (mut apart, mut together) = (assembler(), assembler());
        for reg in 0..16 {
            dynasm!(apart; .arch x64; add Rq(reg), BYTE 5; mov Rq(reg), QWORD 1 << 40; mov DWORD [Rq(reg) + 1000], 7);
            one!(together; add Rq(reg), BYTE 5);
            one!(together; mov Rq(reg), QWORD 1 << 40);
            one!(together; mov DWORD [Rq(reg) + 1000], 7);
        }
        assert_eq!(code(together).unwrap(), code(apart).unwrap());
    }

    #[test]
    fn an_assembler_begins_anew_with_the_memory_of_the_last() {
        let mut ops = Assembler::new(100, 3);
        let label = Label::numbered(2);
        dynasm!(ops; .arch x64; jmp =>label; =>label);
        let lent = ops.lend(50);
        ops.take_back(lent.iter().map(|_| 7).collect());
        let first = ops.bytes().as_ptr();
        drop(ops);
        let mut ops = Assembler::new(100, 3);
        assert_eq!((ops.bytes().as_ptr(), ops.offset()), (first, 0));
        assert_eq!(ops.lend(60), [0; 60]);
        dynasm!(ops; .arch x64; jmp =>label);
        assert!(code(ops).unwrap_err().contains("nowhere"), "labels of the program before are gone");
        let large = Assembler::new(MOST_SPARE, 0);
        drop(large);
        assert!(Assembler::new(0, 0).buffers.bytes.capacity() <= MOST_SPARE);
    }

    #[test]
    fn jumps_lead_to_their_labels() {
        let mut ops = assembler();
        let (back, ahead) = (ops.new_label(), ops.new_label());
        dynasm!(ops; .arch x64; =>back; jmp BYTE =>ahead; jne =>ahead; jmp BYTE =>back; =>ahead; ret);
        let expected = [0xeb, 8, 0x0f, 0x85, 2, 0, 0, 0, 0xeb, 0xf6, 0xc3];
        assert_eq!(code(ops).unwrap(), expected);
    }

    #[test]
    fn addresses_are_counted_from_the_next_instruction() {
        let mut ops = assembler();
        let label = ops.new_label();
        dynasm!(ops; .arch x64; lea rax, [=>label]; nop; =>label; ret);
        assert_eq!(code(ops).unwrap(), [0x48, 0x8d, 0x05, 1, 0, 0, 0, 0x90, 0xc3]);
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        let mut ops = assembler();
        let label = ops.new_label();
        dynasm!(ops; .arch x64; jmp =>label);
        assert!(code(ops).unwrap_err().contains("nowhere"));

        let mut ops = assembler();
        let label = ops.new_label();
        dynasm!(ops; .arch x64; jmp BYTE =>label);
        (0..128).for_each(|_| ops.push(0x90));
        dynasm!(ops; .arch x64; =>label);
        assert!(code(ops).unwrap_err().contains("does not reach"));

        let mut ops = assembler();
        (0..3 * ROOM).for_each(|_| ops.push(0x90));
        ops.reserve();
        assert!(code(ops).unwrap_err().contains("longer"));
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
        assert_eq!(code(ops).unwrap().len(), 80_000_usize.next_multiple_of(64));
    }
}
