//! Loops: by a counter in a register, by a counter on the stack, by a pointer that moves along.

use super::{Generator, Kind, SIZES, SLOTS};

impl Generator {
    /// A loop that counts in a register of its own.
    pub(super) fn repeat(&mut self) {
        let counter = 7 + self.counters.len() as u8;
        if self.counters.len() == 2 || self.depth == 3 {
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
