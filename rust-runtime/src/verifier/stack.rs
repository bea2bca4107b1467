//! A frame's stack: 512 bytes in cells of four.
//!
//! A cell knows which of its bytes were written and which are zero, or holds a number of four bytes, or half of a register
//! that was spilled. Addresses are offsets from the stack's upper end, which is r10: -512 to -1.

use std::rc::Rc;

use super::{
    STACK,
    domain::Scalar,
    planted::{Bug, on},
    value::{Num, Value},
};
use crate::isa::{Alu, Width};

/// Bytes of a cell.
pub const CELL: i64 = 4;
pub const CELLS: usize = STACK as usize / CELL as usize;

/// Four bytes of stack.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Bit sets over the four bytes: written, and known to be zero.
    Bytes {
        written: u8,
        zero: u8,
    },
    /// A number of four bytes.
    Word(Rc<Num>),
    /// The lower half of a spilled register; `High` is in the cell above.
    Low(Rc<Value>),
    High,
}

const EMPTY: Cell = Cell::Bytes { written: 0, zero: 0 };

/// The cells, from r10 downward, as deep as they were written. States share them until one writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stack {
    cells: Rc<Vec<Cell>>,
    /// Those that are `Word` or `Low`: few among many.
    whole: u128,
}

/// Why bytes cannot be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackFault {
    /// A byte was not written.
    Unwritten(i64),
    /// A byte belongs to a pointer.
    PointerPart(i64),
}

/// The cell of an offset; 0 is the one that ends at r10.
pub fn cell_of(offset: i64) -> usize {
    ((-1 - offset) / CELL) as usize
}

/// The bit set of cells that the bytes from `start` on lie in.
pub fn cells_of(start: i64, bytes: i64) -> u128 {
    if bytes <= 0 {
        return 0;
    }
    let (first, last) = (cell_of(start + bytes - 1), cell_of(start));
    let up_to = |cell: usize| if cell >= CELLS - 1 { u128::MAX } else { (1u128 << (cell + 1)) - 1 };
    up_to(last) & !(up_to(first) >> 1)
}

/// The bit set of cells that are wholly among these bytes.
pub fn whole_cells_of(start: i64, bytes: i64) -> u128 {
    let first = start + (-start).rem_euclid(CELL);
    let end = start + bytes - (start + bytes).rem_euclid(CELL);
    cells_of(first, end - first)
}

/// The members of a set of cells, from the top of the stack downward.
pub fn each_of(mut cells: u128) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let first = cells.trailing_zeros() as usize;
        cells &= cells.wrapping_sub(1);
        (first < CELLS).then_some(first)
    })
}

impl Stack {
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The cells that were ever written.
    pub fn depth(&self) -> u128 {
        if self.cells.len() >= CELLS { u128::MAX } else { (1 << self.cells.len()) - 1 }
    }

    /// Cells that are not plain bytes.
    pub fn linkable(&self) -> u128 {
        self.whole | self.whole >> 1
    }

    /// They are one stack.
    pub fn is_shared_with(&self, other: &Stack) -> bool {
        Rc::ptr_eq(&self.cells, &other.cells)
    }

    pub fn get(&self, cell: usize) -> &Cell {
        self.cells.get(cell).unwrap_or(&EMPTY)
    }

    pub fn set(&mut self, cell: usize, value: Cell) {
        let bit = 1u128 << cell;
        self.whole = if matches!(value, Cell::Word(_) | Cell::Low(_)) { self.whole | bit } else { self.whole & !bit };
        let cells = Rc::make_mut(&mut self.cells);
        if cell >= cells.len() {
            cells.resize(cell + 1, EMPTY);
        }
        cells[cell] = value;
    }

    /// Forgets the cells from this one on.
    pub fn truncate(&mut self, cells: usize) {
        if cells < self.cells.len() {
            Rc::make_mut(&mut self.cells).truncate(cells);
            self.whole &= self.depth();
        }
    }

    /// The spilled register that a cell is part of, and whether the cell is its upper half.
    pub fn spill(&self, cell: usize) -> Option<(&Rc<Value>, bool)> {
        match self.get(cell) {
            Cell::Low(value) => Some((value, false)),
            Cell::High => match self.get(cell + 1) {
                Cell::Low(value) => Some((value, true)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The bytes of a cell that hold numbers, and those that are zero. Parts of pointers count as not written.
    pub fn bytes(&self, cell: usize) -> (u8, u8) {
        match self.get(cell) {
            Cell::Bytes { written, zero } => (*written, *zero),
            Cell::Word(number) => (0xf, zero_bytes(number.is_constant())),
            Cell::Low(_) | Cell::High => match self.spill(cell) {
                Some((value, is_high)) => match value.number() {
                    Some(number) => {
                        let half = number.is_constant().map(|value| if is_high { value >> 32 } else { value });
                        (0xf, zero_bytes(half))
                    }
                    None => (0, 0),
                },
                None => (0, 0),
            },
        }
    }

    fn is_pointer(&self, cell: usize) -> bool {
        self.spill(cell).is_some_and(|(value, _)| !value.is_number())
    }

    /// Whether a spilled pointer lies in these bytes.
    pub fn has_pointer(&self, start: i64, bytes: i64) -> bool {
        bytes > 0 && (cell_of(start + bytes - 1)..=cell_of(start)).any(|cell| self.is_pointer(cell))
    }

    /// All bytes are written, and none belongs to a pointer.
    pub fn check_numbers(&self, start: i64, bytes: i64) -> Result<(), StackFault> {
        for offset in start..start + bytes {
            let cell = cell_of(offset);
            if self.bytes(cell).0 & 1 << offset.rem_euclid(CELL) == 0 {
                let fault = if self.is_pointer(cell) { StackFault::PointerPart } else { StackFault::Unwritten };
                return Err(fault(offset));
            }
        }
        Ok(())
    }

    /// What an aligned load of 1, 2, 4 or 8 bytes gives, zero-extended.
    pub fn read(&self, offset: i64, bytes: u32) -> Result<Value, StackFault> {
        let cell = cell_of(offset);
        if bytes == 8
            && let Cell::Low(value) = self.get(cell)
        {
            return Ok(**value);
        }
        self.check_numbers(offset, i64::from(bytes))?;
        Ok(Value::Number(self.read_number(offset, cell, bytes)))
    }

    fn read_number(&self, offset: i64, cell: usize, bytes: u32) -> Num {
        let within = offset.rem_euclid(CELL) as u64;
        let part = |number: &Num, skip: u64| match (skip, bytes) {
            (0, 8) => *number,
            // A number that fits is unchanged, and linked as it was.
            (0, _) if number.range.umax() < 1 << (8 * bytes) => *number,
            _ => {
                let shifted = number.range.alu(Alu::Rsh, &Scalar::constant(8 * skip), Width::W64);
                Num::plain(shifted.truncate(bytes))
            }
        };
        let unknown = || Num::plain(Scalar::unknown().truncate(bytes));
        match self.get(cell) {
            Cell::Word(number) if bytes <= 4 => part(number, within),
            Cell::Low(_) | Cell::High if bytes <= 4 => match self.spill(cell) {
                Some((value, is_high)) => match value.number() {
                    Some(number) => part(number, within + if is_high { 4 } else { 0 }),
                    None => unknown(),
                },
                None => unknown(),
            },
            _ if bytes == 8 => {
                let word = |cell: usize| match self.get(cell) {
                    Cell::Word(number) => number.is_constant(),
                    _ => (self.bytes(cell) == (0xf, 0xf)).then_some(0),
                };
                match (word(cell), word(cell - 1)) {
                    (Some(low), Some(high)) => Num::constant(low | high << 32),
                    _ => unknown(),
                }
            }
            _ => {
                let mask = ((1u32 << bytes) - 1) << within;
                if u32::from(self.bytes(cell).1) & mask == mask { Num::constant(0) } else { unknown() }
            }
        }
    }

    /// An aligned store of 1, 2, 4 or 8 bytes. Only whole registers may hold pointers.
    pub fn write(&mut self, offset: i64, bytes: u32, value: Value) {
        let cell = cell_of(offset);
        if bytes < 4 && on(Bug::PartialOverwrite) && self.spill(cell).is_some() {
            return;
        }
        self.break_up(offset, i64::from(bytes));
        match (bytes, value) {
            (8, value) => {
                self.set(cell, Cell::Low(Rc::new(value)));
                self.set(cell - 1, Cell::High);
            }
            (4, Value::Number(number)) => {
                let fits = number.range.is_half();
                let low = if fits { number } else { Num::plain(number.range.truncate(4)) };
                self.set(cell, Cell::Word(Rc::new(low)));
            }
            (_, value) => {
                let constant = value.number().and_then(Num::is_constant);
                for at in offset..offset + i64::from(bytes) {
                    let is_zero = constant.is_some_and(|value| value >> (8 * (at - offset)) & 0xff == 0);
                    self.write_byte(at, is_zero);
                }
            }
        }
    }

    /// Bytes are overwritten with what nobody knows.
    pub fn scribble(&mut self, start: i64, bytes: i64) {
        self.break_up(start, bytes);
        for offset in start..start + bytes {
            self.write_byte(offset, false);
        }
    }

    /// Any of these bytes may have been overwritten with a number: those that were written stay so.
    pub fn blur(&mut self, start: i64, bytes: i64) {
        if on(Bug::VariableStore) {
            return;
        }
        self.break_up(start, bytes);
        for cell in cell_of(start + bytes - 1)..=cell_of(start) {
            let (written, _) = self.bytes(cell);
            self.set(cell, Cell::Bytes { written, zero: 0 });
        }
    }

    /// Bytes were written with numbers of which nothing is known but that.
    pub fn fill(&mut self, start: i64, bytes: i64) {
        for offset in start..start + bytes {
            let cell = cell_of(offset);
            if let Cell::Bytes { written, zero } = *self.get(cell) {
                self.set(cell, Cell::Bytes { written: written | 1 << offset.rem_euclid(CELL), zero });
            }
        }
    }

    fn write_byte(&mut self, offset: i64, is_zero: bool) {
        let cell = cell_of(offset);
        let bit = 1u8 << offset.rem_euclid(CELL);
        let (written, zero) = self.bytes(cell);
        let zero = if is_zero { zero | bit } else { zero & !bit };
        self.set(cell, Cell::Bytes { written: written | bit, zero });
    }

    /// Spilled registers that these bytes are part of become plain bytes, where a part of them lies outside.
    fn break_up(&mut self, start: i64, bytes: i64) {
        for cell in [cell_of(start + bytes - 1), cell_of(start)] {
            let low = match self.get(cell) {
                Cell::Low(_) => cell,
                Cell::High => cell + 1,
                _ => continue,
            };
            let (below, above) = (self.bytes(low), self.bytes(low - 1));
            self.set(low, Cell::Bytes { written: below.0, zero: below.1 });
            self.set(low - 1, Cell::Bytes { written: above.0, zero: above.1 });
        }
    }

    /// Numbers and offsets that may be linked.
    pub fn linked(&self) -> impl Iterator<Item = (usize, &Num)> {
        each_of(self.whole).filter_map(|cell| Some((cell, self.linked_at(cell)?)))
    }

    pub fn linked_at(&self, cell: usize) -> Option<&Num> {
        match self.get(cell) {
            Cell::Word(number) => Some(number),
            Cell::Low(value) => value.linked(),
            _ => None,
        }
    }

    pub fn linked_mut(&mut self, cell: usize) -> Option<&mut Num> {
        match Rc::make_mut(&mut self.cells).get_mut(cell)? {
            Cell::Word(number) => Some(Rc::make_mut(number)),
            Cell::Low(value) => Rc::make_mut(value).linked_mut(),
            _ => None,
        }
    }

    /// Visits spilled registers. What does not change stays shared.
    pub fn for_each_spill(&mut self, mut visit: impl FnMut(&mut Value)) {
        for cell in each_of(self.whole) {
            let Cell::Low(spilled) = &self.cells[cell] else { continue };
            let mut value = **spilled;
            visit(&mut value);
            if value != **spilled {
                self.set(cell, Cell::Low(Rc::new(value)));
            }
        }
    }

    /// Spilled registers.
    pub fn spills(&self) -> impl Iterator<Item = (usize, &Value)> {
        each_of(self.whole).filter_map(|cell| match &self.cells[cell] {
            Cell::Low(value) => Some((cell, &**value)),
            _ => None,
        })
    }
}

/// Which of the four lower bytes of a number are known to be zero.
fn zero_bytes(number: Option<u64>) -> u8 {
    number
        .map_or(0, |number| (0..4).filter(|byte| number >> (8 * byte) & 0xff == 0).fold(0, |set, byte| set | 1 << byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_counted_from_the_top() {
        assert_eq!((cell_of(-1), cell_of(-4), cell_of(-5), cell_of(-512)), (0, 0, 1, 127));
        assert_eq!(cells_of(-8, 8), 0b11);
        assert_eq!(cells_of(-8, 4), 0b10);
        assert_eq!(cells_of(-6, 4), 0b11);
        assert_eq!(cells_of(-512, 512), u128::MAX);
        assert_eq!(cells_of(-8, 0), 0);
        assert_eq!(whole_cells_of(-6, 6), 0b1);
        assert_eq!(whole_cells_of(-8, 7), 0b10);
        assert_eq!(whole_cells_of(-7, 2), 0);
        assert_eq!(whole_cells_of(-512, 512), u128::MAX);
    }

    #[test]
    fn parts_of_numbers_come_back() {
        let mut stack = Stack::default();
        stack.write(-8, 8, Value::constant(0x1122_3344_5566_7788));
        let read =
            |stack: &Stack, offset, bytes| stack.read(offset, bytes).map(|value| value.number().unwrap().is_constant());
        assert_eq!(read(&stack, -8, 8), Ok(Some(0x1122_3344_5566_7788)));
        assert_eq!(read(&stack, -8, 4), Ok(Some(0x5566_7788)));
        assert_eq!(read(&stack, -4, 4), Ok(Some(0x1122_3344)));
        assert_eq!(read(&stack, -3, 1), Ok(Some(0x33)));
        stack.write(-8, 1, Value::constant(1));
        assert_eq!(read(&stack, -8, 8), Ok(None));
        stack.write(-16, 4, Value::constant(7));
        assert_eq!(read(&stack, -16, 8), Err(StackFault::Unwritten(-12)));
        stack.write(-12, 4, Value::constant(1));
        assert_eq!(read(&stack, -16, 8), Ok(Some(1 << 32 | 7)));
        stack.blur(-16, 8);
        assert_eq!(read(&stack, -16, 8), Ok(None));
    }

    #[test]
    fn parts_of_pointers_do_not() {
        use crate::verifier::value::Target;
        let mut stack = Stack::default();
        stack.write(-8, 8, Value::pointer(Target::Context, 0));
        assert_eq!(stack.read(-8, 4), Err(StackFault::PointerPart(-8)));
        assert_eq!(stack.read(-4, 4), Err(StackFault::PointerPart(-4)));
        assert!(stack.has_pointer(-5, 1));
        stack.write(-8, 4, Value::constant(0));
        assert_eq!(stack.read(-8, 8), Err(StackFault::Unwritten(-4)));
    }
}
