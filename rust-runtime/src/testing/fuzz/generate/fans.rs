//! Fans: more ways than a trial lets go on from where they meet, one of which does something else.

use super::{CONTEXT, Generator, Kind, SIZES, SLOTS, WIDE_FIELDS};

/// A loop around a fan.
struct Loop {
    /// The register that it counts in; with a place on the stack, nothing.
    counter: u8,
    slot: Option<i16>,
    first: i32,
    step: i32,
    end: i32,
    head: usize,
    /// The branch at its head that leaves it.
    leaves: Option<usize>,
    /// Jumps to behind its increment.
    skips: Vec<usize>,
}

/// What is kept in a register of its own over a fan.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Nothing,
    /// The end of the innermost loop.
    End(u8),
    /// A pointer to the middle of so many bytes, which may be written.
    Pointer(u8, i32, bool),
}

/// What the ways of a fan set.
#[derive(Clone, Copy)]
enum Place {
    Reg(u8),
    Slot(usize),
}

impl Generator {
    /// Ways that each set a register or a slot otherwise, in a loop, one within another, or a callback's body.
    pub(super) fn fan(&mut self) {
        let is_bare = self.current.is_callback && self.random.once_in(3);
        let own = match self.counters.len() {
            _ if is_bare => 0,
            0 => self.random.pick(&[1, 2, 2, 2]),
            1 => 1,
            _ => return,
        };
        if self.depth > 1 {
            return;
        }
        let (around, depth, before) = (self.counters.clone(), self.depth, self.state);
        // Before the loops, or in each round anew.
        let is_early = self.random.once_in(2);
        let mut kept = if is_early { self.keep(own > 0) } else { Kept::Nothing };
        let mut loops: Vec<Loop> = Vec::new();
        for place in 1..=own {
            loops.push(self.begin_loop(if place == own { kept } else { Kept::Nothing }));
        }
        if !is_early {
            kept = self.keep(false);
        }
        if self.random.once_in(8) {
            self.step();
        }
        self.ways(&mut loops, kept, &around);
        if let Kept::Pointer(reg, room, may_write) = kept {
            let (size, bytes) = self.random.pick(&SIZES);
            let off = self.random.pick(&[0, 0, -room / 2, room / 2 - bytes]);
            self.touch(reg, size, off as i16, may_write);
        }
        while let Some(innermost) = loops.pop() {
            if self.random.once_in(8) {
                self.step();
            }
            self.end_loop(innermost, if loops.len() + 1 == own { kept } else { Kept::Nothing });
        }
        let added: Vec<u8> = self.counters.drain(around.len()..).collect();
        self.depth = depth;
        self.state.join(&before);
        for reg in added {
            let is_pointer = matches!(kept, Kept::Pointer(pointer, ..) if pointer == reg);
            self.set(reg, if is_pointer { Kind::Unset } else { Kind::Number });
        }
    }

    /// One of the registers that loops use.
    fn own_register(&mut self) -> Option<u8> {
        (7..10).find(|reg| !self.counters.contains(reg))
    }

    /// Sets a register to the innermost loop's end, or to a pointer; or none.
    fn keep(&mut self, may_be_end: bool) -> Kept {
        let kind = self.random.below(4);
        if kind < 2 || self.counters.contains(&9) {
            return Kept::Nothing;
        }
        let reg = 9;
        if kind == 2 && may_be_end {
            let end = 1 + self.random.below(8) as i32;
            self.push(0xb7, reg, 0, 0, end);
            self.set(reg, Kind::Number);
            self.counters.push(reg);
            return Kept::End(reg);
        }
        let (room, may_write) = self.base(reg);
        self.push(0x07, reg, 0, 0, room / 2);
        self.set(reg, Kind::Unset);
        self.counters.push(reg);
        Kept::Pointer(reg, room, may_write)
    }

    /// Begins a loop, which counts in a register or on the stack.
    fn begin_loop(&mut self, kept: Kept) -> Loop {
        // What is not proved is explored way by way.
        let most = if self.random.once_in(12) { 20 } else { 5 };
        let rounds = 1 + self.random.below(most) as i32;
        let (step, is_down) = (1 + self.random.below(2) as i32, self.random.once_in(4));
        let has_end = matches!(kept, Kept::End(_));
        let (first, step, end) = match (has_end, is_down) {
            (true, _) => (0, 1, rounds),
            (false, true) => (rounds * step, -step, 0),
            (false, false) => (0, step, rounds * step),
        };
        let register = self.own_register().filter(|_| has_end || !self.random.once_in(5));
        let at = -8 * (SLOTS as i16 + 1 + self.depth as i16);
        if let Some(counter) = register {
            self.push(0xb7, counter, 0, 0, first);
            self.set(counter, Kind::Number);
            self.counters.push(counter);
        } else {
            self.push(0x7a, 10, 0, at, first);
        }
        self.depth += 1;
        let slot = register.is_none().then_some(at);
        let (counter, head) = (register.unwrap_or(0), self.insns.len());
        let mut leaves = None;
        if register.is_some() && !has_end && self.random.once_in(2) {
            leaves = Some(head);
            self.push(if step > 0 { 0x35 } else { 0xd5 }, counter, 0, 0, end);
        }
        Loop { counter, slot, first, step, end, head, leaves, skips: Vec::new() }
    }

    fn end_loop(&mut self, ends: Loop, kept: Kept) {
        let Loop { counter, slot, step, end, head, leaves, skips, .. } = ends;
        let counter = if slot.is_some() { self.free() } else { counter };
        if let Some(at) = slot {
            self.push(0x79, counter, 10, at, 0);
            self.push(0x07, counter, 0, 0, step);
            self.push(0x7b, 10, counter, at, 0);
            self.set(counter, Kind::Number);
        } else {
            self.push(0x07, counter, 0, 0, step);
        }
        skips.into_iter().for_each(|at| self.land(at));
        if let Some(at) = slot {
            self.push(0x79, counter, 10, at, 0);
        }
        let back = head as i16 - self.insns.len() as i16 - 1;
        if let Kept::End(reg) = kept {
            return self.push(0xad, counter, reg, back, 0);
        }
        if let Some(at) = leaves {
            self.push(0x05, 0, 0, back, 0);
            return self.land(at);
        }
        let codes = if step > 0 { [0x55, 0xc5, 0xa6, 0xa5] } else { [0x55, 0x65, 0x66, 0x25] };
        let code = self.random.pick(&codes);
        self.push(code, counter, 0, back, end);
    }

    /// The ways, up to where they meet.
    fn ways(&mut self, loops: &mut [Loop], kept: Kept, around: &[u8]) {
        let which = self.free();
        self.choose(which);
        let place = if self.random.once_in(3) {
            let slot = self.random.below(SLOTS);
            self.fill_slot(slot);
            Place::Slot(slot)
        } else {
            Place::Reg(self.other(which))
        };
        let count = 9 + self.random.below(6);
        // Ways are explored from the last to the first.
        let odd_one = if self.random.once_in(4) { self.random.below(count) } else { 0 };
        let (first, apart) = (self.random.below(200) as i32, self.random.pick(&[1, -1, 1, -1, 7, -100]));
        let (mut meet, mut odd) = (Vec::new(), 0);
        for way in 0..count {
            if way == odd_one {
                odd = self.insns.len();
            } else {
                self.set_otherwise(place, first + apart * way as i32);
                meet.push(self.insns.len());
            }
            self.push(0x15, which, 0, 0, way as i32 + 1);
        }
        self.set_otherwise(place, first + apart * 40);
        meet.push(self.insns.len());
        self.push(0x05, 0, 0, 0, 0);
        self.land(odd);
        if !self.random.once_in(4) {
            let way = self.random.pick(&[0, 1, 5, 40, 40]);
            self.set_otherwise(place, first + apart * way);
        }
        let (state, depth) = (self.state, self.depth);
        meet.extend(self.something_else(loops, kept, around));
        (self.state, self.depth) = (state, depth);
        meet.into_iter().for_each(|at| self.land(at));
        if let Place::Reg(reg) = place {
            self.set(reg, Kind::Number);
        }
    }

    /// What decides between the ways: mostly few numbers, and mostly not the same in every round.
    fn choose(&mut self, which: u8) {
        if self.kind(CONTEXT) == Kind::Context {
            let off = self.random.pick(&WIDE_FIELDS);
            self.push(0x79, which, CONTEXT, off, 0);
            self.set(which, Kind::Number);
        } else {
            let number = self.some_number();
            self.copy(which, number);
        }
        let counter = self.counters.first().copied().filter(|&reg| self.kind(reg) == Kind::Number);
        if let Some(counter) = counter.filter(|_| self.random.once_in(2)) {
            self.push(0x0f, which, counter, 0, 0);
        }
        if !self.random.once_in(6) {
            self.push(0x57, which, 0, 0, 15);
        }
    }

    fn set_otherwise(&mut self, place: Place, number: i32) {
        match place {
            Place::Reg(reg) => self.push(0xb7, reg, 0, 0, number),
            Place::Slot(slot) => self.push(0x7a, 10, 0, Self::slot_offset(slot), number),
        }
    }

    /// What the odd way does. Gives the branches to where the others meet.
    fn something_else(&mut self, loops: &mut [Loop], kept: Kept, around: &[u8]) -> Vec<usize> {
        match (self.random.below(10), kept) {
            (0..=3, _) => self.set_back(loops, around),
            (4, _) => self.store_otherwise(),
            (5 | 6, Kept::Pointer(reg, room, _)) => {
                let by = self.random.pick(&[1, -1, 8, -8, room / 2, -room / 2]);
                self.push(0x07, reg, 0, 0, by);
                Vec::new()
            }
            (5 | 6, Kept::End(reg)) => {
                let (at, most) = (self.insns.len(), self.random.below(8) as i32);
                let code = self.random.pick(&[0x25, 0xa5]);
                self.push(code, reg, 0, 0, most);
                let by = self.random.pick(&[1, 1, -1]);
                self.push(0x07, reg, 0, 0, by);
                vec![at]
            }
            (5 | 6, Kept::Nothing) => self.set_back(loops, around),
            (7, _) if !loops.is_empty() => {
                let at = self.insns.len();
                let inner = self.random.below(loops.len());
                if self.random.once_in(2) {
                    loops[inner].skips.push(at);
                    self.push(0x05, 0, 0, 0, 0);
                } else {
                    let back = loops[inner].head as i16 - at as i16 - 1;
                    self.push(0x05, 0, 0, back, 0);
                }
                Vec::new()
            }
            (8, _) => {
                let reg = self.own_number();
                self.number(reg);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Moves a loop's counter, often only where it stays within its range.
    fn set_back(&mut self, loops: &[Loop], around: &[u8]) -> Vec<usize> {
        let place = self.random.below(loops.len() + around.len());
        let (counter, slot, first, step, end) = match (loops.get(place), around.first()) {
            (Some(of), _) => (of.counter, of.slot, of.first, of.step, of.end),
            (_, Some(&counter)) => (counter, None, 0, 1, 4),
            _ => return Vec::new(),
        };
        let reg = if slot.is_some() { self.free() } else { counter };
        if let Some(at) = slot {
            self.push(0x79, reg, 10, at, 0);
        }
        let mut meet = Vec::new();
        if !self.random.once_in(4) {
            meet.push(self.insns.len());
            let middle = first + step * self.random.below(1 + ((end - first) / step) as usize) as i32;
            self.push(if step > 0 { 0xa5 } else { 0x25 }, reg, 0, 0, middle);
        }
        if self.random.once_in(4) {
            let rounds = self.random.below(3) as i32;
            self.push(0xb7, reg, 0, 0, first + step * rounds);
        } else {
            let rounds = self.random.pick(&[-1, -1, -1, -2, 1]);
            self.push(0x07, reg, 0, 0, step * rounds);
        }
        if let Some(at) = slot {
            self.push(0x7b, 10, reg, at, 0);
        }
        meet
    }

    /// A pointer where others have a number, on the stack or on the caller's.
    fn store_otherwise(&mut self) -> Vec<usize> {
        let slot = self.random.below(SLOTS);
        match self.find(|kind| kind == Kind::Stack).filter(|_| self.random.once_in(2)) {
            Some(base) => self.push(0x7b, base, 10, 0, 0),
            None => self.push(0x7b, 10, 10, Self::slot_offset(slot), 0),
        }
        Vec::new()
    }
}
