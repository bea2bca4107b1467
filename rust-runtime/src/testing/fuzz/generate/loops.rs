//! Loops: by a counter in a register, by a counter on the stack, by a pointer that moves along; loops that fill an array.

use super::{Generator, Kind, SIZES, SLOTS};

/// The end of arrays on the stack, below all that other steps use.
const ARRAY_END: i32 = -8 * (SLOTS as i32 + 8);

impl Generator {
    /// A loop that counts in a register of its own.
    pub(super) fn repeat(&mut self) {
        let counter = 7 + self.counters.len() as u8;
        if self.counters.len() >= 2 || self.depth == 3 {
            return;
        }
        let most = if self.random.once_in(8) { 300 } else { 8 };
        let rounds = 1 + self.random.below(most) as i32;
        let step = 1 + self.random.below(3) as i32;
        let is_down = self.random.once_in(4);
        self.push(0xb7, counter, 0, 0, if is_down { rounds * step } else { 0 });
        self.set(counter, Kind::Number);
        self.counters.push(counter);
        self.depth += 1;
        let (head, before) = (self.insns.len(), self.state);
        let steps = 1 + self.random.below(3);
        self.steps(steps);
        self.push(0x07, counter, 0, 0, if is_down { -step } else { step });
        let (codes, end) =
            if is_down { ([0x55, 0x65, 0x66, 0x25], 0) } else { ([0x55, 0xc5, 0xa6, 0xa5], rounds * step) };
        let code = self.random.pick(&codes);
        let back = head as i32 - self.insns.len() as i32 - 1;
        self.push(code, counter, 0, back as i16, end);
        self.depth -= 1;
        self.counters.pop();
        self.state.join(&before);
        self.set(counter, Kind::Number);
    }

    /// A pointer and a counter that move together.
    pub(super) fn sweep(&mut self) {
        if !self.counters.is_empty() || self.depth == 3 {
            return;
        }
        let (counter, pointer) = (7, 8);
        let (room, may_write) = self.base(pointer);
        let (size, bytes) = self.random.pick(&SIZES);
        let step = bytes * (1 + self.random.below(2) as i32);
        let rounds = (room - bytes) / step + 1 + i32::from(self.is_mistake());
        self.push(0xb7, counter, 0, 0, 0);
        self.set(counter, Kind::Number);
        self.set(pointer, Kind::Unset);
        self.counters.extend([counter, pointer]);
        self.depth += 1;
        let (head, before) = (self.insns.len(), self.state);
        self.touch(pointer, size, 0, may_write);
        if self.random.once_in(2) {
            self.step();
        }
        self.push(0x07, pointer, 0, 0, step);
        self.push(0x07, counter, 0, 0, 1);
        let code = self.random.pick(&[0x55, 0xc5, 0xa6, 0xa5]);
        let back = head as i32 - self.insns.len() as i32 - 1;
        self.push(code, counter, 0, back as i16, rounds);
        self.depth -= 1;
        self.counters.clear();
        self.state.join(&before);
        self.set(counter, Kind::Number);
    }

    /// A loop, or one within another, that fills an array of which nothing was written before, and looks at parts of it. Now and then it
    /// leaves gaps, ends early, or writes under a condition only: then what is read must be something else, or be refused.
    pub(super) fn fill_array(&mut self) {
        if !self.counters.is_empty() || self.depth > 1 {
            return;
        }
        let (counter, pointer, row) = (7, 8, 9);
        let (size, bytes) = self.random.pick(&SIZES);
        let rounds = 1 + self.random.below(12) as i32;
        let rows = if self.random.once_in(4) { 2 + self.random.below(3) as i32 } else { 1 };
        let step = if self.random.once_in(16) { 2 * bytes } else { bytes };
        let (low, is_down) = (ARRAY_END - step.min(8) * rounds * rows, self.random.once_in(3));
        let low = low.max(-512 + 8);
        self.push(0xbf, pointer, 10, 0, 0);
        self.push(0x07, pointer, 0, 0, if is_down { ARRAY_END } else { low });
        self.set(pointer, Kind::Unset);
        self.counters.extend([counter, pointer]);
        self.depth += 1;
        if rows > 1 {
            self.counters.push(row);
            self.push(0xb7, row, 0, 0, 0);
            self.set(row, Kind::Number);
        }
        let (outer, before) = (self.insns.len(), self.state);
        self.push(0xb7, counter, 0, 0, 0);
        self.set(counter, Kind::Number);
        let by_index = rows == 1 && !is_down && self.random.once_in(3);
        let (inner, mut leaves) = (self.insns.len(), None);
        if self.random.once_in(12) {
            let (which, imm) = (self.some_number(), self.random.below(4) as i32);
            leaves = Some(self.insns.len());
            self.push(0x15, which, 0, 0, imm);
        }
        if is_down {
            self.push(0x07, pointer, 0, 0, -step);
        }
        self.store_into_array(pointer, counter, (size, step), by_index);
        if self.random.once_in(3) {
            self.step();
        }
        if !is_down && !by_index {
            self.push(0x07, pointer, 0, 0, step);
        }
        self.push(0x07, counter, 0, 0, 1);
        let code = self.random.pick(&[0x55, 0xc5, 0xa6, 0xa5]);
        let most = rounds + i32::from(self.is_mistake()) - i32::from(self.is_mistake());
        self.push(code, counter, 0, inner as i16 - self.insns.len() as i16 - 1, most);
        leaves.into_iter().for_each(|at| self.land(at));
        if rows > 1 {
            self.push(0x07, row, 0, 0, 1);
            self.push(0xa5, row, 0, outer as i16 - self.insns.len() as i16 - 1, rows);
        }
        self.depth -= 1;
        self.counters.clear();
        self.state.join(&before);
        self.set(counter, Kind::Number);
        for _ in 0..1 + self.random.below(2) {
            let reg = self.free();
            let places = (ARRAY_END - low) / bytes + i32::from(self.is_mistake());
            let place = self.random.below(places as usize) as i32;
            self.push(0x61 | size, reg, 10, (low + bytes * place) as i16, 0);
            self.set(reg, Kind::Number);
        }
    }

    /// A store where the pointer is, or so many steps behind it.
    fn store_into_array(&mut self, pointer: u8, counter: u8, (size, step): (u8, i32), by_index: bool) {
        let skips = self.random.once_in(16).then(|| {
            let (which, imm) = (self.some_number(), self.random.below(4) as i32);
            self.push(0x55, which, 0, 0, imm);
            self.insns.len() - 1
        });
        let mut base = pointer;
        if by_index {
            let index = self.free();
            base = self.other(index);
            self.copy(index, counter);
            self.push(0x67, index, 0, 0, step.trailing_zeros() as i32);
            self.copy(base, pointer);
            self.push(0x0f, base, index, 0, 0);
            self.set(base, Kind::Unset);
        }
        match self.find(|kind| kind == Kind::Number).filter(|&src| src != base && self.random.once_in(2)) {
            Some(src) => self.push(0x63 | size, base, src, 0, 0),
            None => self.push(0x62 | size, base, 0, 0, 7),
        }
        skips.into_iter().for_each(|at| self.land(at));
    }

    /// A loop whose counter lies on the stack.
    pub(super) fn count_on_stack(&mut self) {
        if self.depth == 3 {
            return;
        }
        let at = -8 * (SLOTS as i16 + 1 + self.depth as i16);
        let most = if self.random.once_in(4) { 60 } else { 6 };
        let rounds = 1 + self.random.below(most) as i32;
        let (first, step) = if self.random.once_in(3) { (rounds, -1) } else { (0, 1) };
        self.push(0x7a, 10, 0, at, first);
        self.depth += 1;
        let (head, before) = (self.insns.len(), self.state);
        let steps = 1 + self.random.below(2);
        self.steps(steps);
        let reg = self.free();
        self.push(0x79, reg, 10, at, 0);
        self.push(0x07, reg, 0, 0, step);
        self.push(0x7b, 10, reg, at, 0);
        let back = head as i32 - self.insns.len() as i32 - 1;
        match step {
            1 => self.push(0xa5, reg, 0, back as i16, rounds),
            _ => self.push(0x55, reg, 0, back as i16, 0),
        }
        self.depth -= 1;
        self.state.join(&before);
        self.set(reg, Kind::Number);
    }
}
