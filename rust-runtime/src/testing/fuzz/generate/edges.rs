//! Numbers at the ends of what is known of them: where verifiers were wrong.

use super::{Generator, Kind, SIZES, SLOTS};

/// Operations and offsets that move what is known of a number's ends.
const EDGES: [(u8, i16); 16] = [
    (0x00, 0),
    (0x10, 0),
    (0x20, 0),
    (0x30, 0),
    (0x30, 1),
    (0x90, 0),
    (0x90, 1),
    (0x40, 0),
    (0x50, 0),
    (0xa0, 0),
    (0x60, 0),
    (0x70, 0),
    (0xc0, 0),
    (0xc0, 0),
    (0x90, 1),
    (0x30, 1),
];

impl Generator {
    /// Bounds a number to less than a limit: by a mask, a remainder, a shift or a comparison.
    pub(super) fn bound_to(&mut self, reg: u8, limit: i32) {
        let mask = if limit <= 1 { 0 } else { (1 << (31 - (limit as u32).leading_zeros())) - 1 };
        let more = i32::from(self.is_mistake());
        let class = if self.random.once_in(4) { 4 } else { 7 };
        match self.random.below(6) {
            0 | 1 => self.push(0x50 | class, reg, 0, 0, mask + more * (mask + 1)),
            2 => self.push(0x90 | class, reg, 0, 0, limit.max(1) + more),
            3 if mask > 0 => self.push(0x77, reg, 0, 0, (mask as u32).leading_zeros() as i32 + 32 - more),
            // Signed: below zero, and above the limit.
            4 => {
                self.out_if(0xc5, reg, 0);
                self.out_if(0x65, reg, limit - 1 + more);
            }
            _ => self.out_if(0x25, reg, limit - 1 + more),
        }
    }

    pub(super) fn bound(&mut self) {
        let (reg, limit) = (self.own_number(), 1 << self.random.below(7));
        self.bound_to(reg, limit);
    }

    /// What verifiers got wrong: a number in a small range is calculated with in either width, and compared with what lies at
    /// and beside its bounds. It may be used as an offset then with no other bound.
    pub(super) fn compared(&mut self) {
        let reg = self.own_number();
        let mask = (1 << (1 + self.random.below(6))) - 1;
        if self.random.once_in(2) {
            self.push(0x57, reg, 0, 0, mask);
        }
        for _ in 0..self.random.below(4) {
            self.edge(reg, mask);
        }
        for _ in 0..1 + self.random.below(2) {
            let class = if self.random.once_in(2) { 5 } else { 6 };
            let cond =
                self.random.pick(&[0x10, 0x50, 0x40, 0x10, 0x50, 0x20, 0x30, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0]);
            let imm = self.random.pick(&[0, 0, 1, mask, mask - 1, mask + 1, -1]);
            self.out_if(cond | class, reg, imm);
        }
        self.set(reg, Kind::Number);
        if self.random.once_in(6) {
            let base = self.other(reg);
            let (room, may_write) = self.base(base);
            let (size, bytes) = self.random.pick(&SIZES);
            if !self.random.once_in(3) {
                self.bound_to(reg, room - bytes + 1);
            }
            self.push(0x0f, base, reg, 0, 0);
            self.set(base, Kind::Unset);
            self.touch(base, size, 0, may_write);
        }
    }

    /// Copies of a number that go different ways before one of them is compared.
    pub(super) fn linked(&mut self) {
        let first = self.own_number();
        let second = self.other(first);
        self.copy(second, first);
        let slot = self.random.below(SLOTS);
        if self.random.once_in(3) {
            self.push(0x7b, 10, first, Self::slot_offset(slot), 0);
            self.state.slots[slot] = Kind::Number;
        }
        for _ in 0..self.random.below(3) {
            let reg = self.random.pick(&[first, second]);
            let class = if self.random.once_in(4) { 4 } else { 7 };
            let (op, imm) = (self.random.pick(&[0x00, 0x10, 0x20, 0x60, 0x50, 0x80]), self.random.below(16) as i32);
            self.push(op | class, reg, 0, 0, if op == 0x80 { 0 } else { imm });
        }
        let reg = self.random.pick(&[first, second]);
        let limit = 1 + self.random.below(64) as i32;
        let code = self.random.pick(&[0x25, 0x35, 0x55, 0x15, 0x65, 0x75, 0xa5, 0xb5, 0xc5, 0xd5]);
        self.out_if(code, reg, limit);
    }

    /// A pointer that was moved by an index on one of two ways that meet, by a constant on the other, before the index is compared.
    pub(super) fn moved_on_one_way(&mut self) {
        if self.depth == 3 {
            return;
        }
        let index = self.own_number();
        let base = self.other(index);
        let (room, may_write) = self.base(base);
        self.set(base, Kind::Unset);
        let which = self.some_number();
        let (size, bytes) = self.random.pick(&SIZES);
        let places = 1 + self.random.below(4) as i32;
        // So many fit behind the pointer.
        self.push(0x07, base, 0, 0, (room - bytes * places).max(0));
        let (at, imm) = (self.insns.len(), self.random.below(4) as i32);
        self.push(0x15, which, 0, 0, imm);
        let by_index = |this: &mut Self| {
            this.push(0x57, index, 0, 0, 7 * bytes);
            this.push(0x0f, base, index, 0, 0);
        };
        let by_constant = |this: &mut Self| {
            let (other, by) = (this.random.below(8) as i32, this.random.below(places as usize + 2) as i32);
            this.push(0xb7, index, 0, 0, other * bytes);
            this.push(0x07, base, 0, 0, by * bytes);
        };
        let is_first = self.random.once_in(2);
        if is_first {
            by_index(self)
        } else {
            by_constant(self)
        }
        let over = self.insns.len();
        self.push(0x05, 0, 0, 0, 0);
        self.land(at);
        if is_first {
            by_constant(self)
        } else {
            by_index(self)
        }
        self.land(over);
        self.set(index, Kind::Number);
        if self.random.once_in(3) {
            let slot = self.random.below(SLOTS);
            self.push(0x7b, 10, index, Self::slot_offset(slot), 0);
            self.state.slots[slot] = Kind::Number;
        }
        let more = i32::from(self.is_mistake());
        self.out_if(0x25, index, (places - 1 + more) * bytes);
        self.touch(base, size, 0, may_write);
    }

    /// An operation with a small constant, or with a number of a small range that may be 0.
    fn edge(&mut self, reg: u8, mask: i32) {
        let class = if self.random.once_in(2) { 4 } else { 7 };
        let (op, off) = self.random.pick(&EDGES);
        if self.random.once_in(3) {
            let by = self.other(reg);
            self.number(by);
            let few = self.random.pick(&[1, 3, 7]);
            self.push(0x57, by, 0, 0, few);
            return self.push(op | class | 8, reg, by, off, 0);
        }
        let imm = match op {
            // Some bits, or all but some.
            0x60 | 0x70 | 0xc0 => {
                let few = 1 + self.random.below(7) as i32;
                let all = if class == 7 { 64 } else { 32 };
                if self.random.once_in(2) { few } else { all - few }
            }
            _ => self.random.pick(&[1, 2, 3, 4, 7, 8, -1, -2, -3, -8, mask, !mask]),
        };
        self.push(op | class, reg, 0, off, imm);
    }
}
