//! Calls of functions and helpers.

use super::{CONTEXT, Generator, Kind, Place, SIZES, SLOTS, VALUE, Wanted, only, places};
use crate::{
    helpers::{self, ArgKind, CallbackKind, HelperSpec, RetKind},
    isa::{CALL, CALL_LOCAL, LDDW, LDDW_FUNCTION, LDDW_MAP},
    object::MapKind,
};

const MURMUR64: i32 = 0x10020;
const MUL128_FOLD: i32 = 0x10021;

/// Helpers that need no care beyond their arguments, as the table of helpers declares them.
const HELPERS: [u32; 34] = [
    1, 2, 3, 5, 6, 7, 8, 12, 87, 88, 89, 130, 134, 164, 181, 182, 195, 0x10001, 0x10002, 0x10005, 0x10010, 0x10012,
    0x10013, 0x10020, 0x10021, 0x10022, 0x10023, 0x10024, 0x10030, 0x10031, 0x10032, 0x10040, 0x10041, 1,
];

impl Generator {
    pub(super) fn clobber(&mut self) {
        self.state.regs[..6].fill(Kind::Unset);
    }

    pub(super) fn may_call(&self) -> bool {
        self.current.level < 3 && self.functions.len() < 5
    }

    /// A function that is made later, and the number of it.
    pub(super) fn want(&mut self, args: [Kind; 4], is_callback: bool) -> usize {
        self.functions.push(Wanted { args, is_callback, level: self.current.level + 1 });
        self.functions.len() - 1
    }

    /// A call of a function, with the context or a number, and a number.
    pub(super) fn call(&mut self) {
        let first = self.find(|kind| matches!(kind, Kind::Context | Kind::Number));
        let (Some(first), true) = (first, self.may_call()) else { return };
        self.copy(1, first);
        if self.kind(2) != Kind::Number {
            self.number(2);
        }
        let function = self.want(only([self.kind(1), Kind::Number]), false);
        let at = self.insns.len();
        self.calls.push((at, at + 1, function));
        self.push(CALL, 0, CALL_LOCAL, 0, 0);
        self.clobber();
        self.set(0, Kind::Number);
    }

    pub(super) fn helper(&mut self, id: i32) {
        self.push(CALL, 0, 0, 0, id);
        self.clobber();
    }

    /// A function of numbers, as hash programs may call it too.
    pub(super) fn pure_helper(&mut self) {
        let id = self.random.pick(&[MURMUR64, MUL128_FOLD]);
        for reg in [1, 2] {
            self.argument_number(reg);
        }
        self.helper(id);
        self.set(0, Kind::Number);
    }

    /// Sets an argument to a number that is not in another one.
    pub(super) fn argument_number(&mut self, reg: u8) {
        let kept: Vec<u8> = [0, 6, 7, 8, 9].into_iter().filter(|&reg| self.kind(reg) == Kind::Number).collect();
        if kept.is_empty() || self.random.once_in(3) {
            let imm = self.random.immediate();
            self.push(0xb7, reg, 0, 0, imm);
            return self.set(reg, Kind::Number);
        }
        let from = self.random.pick(&kept);
        self.copy(reg, from);
    }

    /// One of the maps of some kinds.
    pub(super) fn some_map(&mut self, kinds: &[MapKind]) -> Place {
        let mut places = places(self.random.pick(kinds));
        places.swap_remove(self.random.below(places.len()))
    }

    pub(super) fn map(&mut self, dst: u8, map: &Place) {
        self.push(LDDW, dst, LDDW_MAP, 0, map.index);
        self.push(0, 0, 0, 0, 0);
    }

    /// A pointer to any key, or to one that others may use.
    fn any_key(&mut self, dst: u8, map: &Place) {
        if self.random.once_in(2) { self.key(dst, map) } else { self.memory(dst, map.def.key_size as usize) }
    }

    /// A pointer to a key; mostly to one of a few, so that what one step puts there another finds.
    pub(super) fn key(&mut self, dst: u8, map: &Place) {
        let slots = map.def.key_size.div_ceil(8) as usize;
        if !self.random.once_in(4) {
            for slot in 0..slots {
                let part = self.random.below(2) as i32;
                self.push(0x7a, 10, 0, Self::slot_offset(slot), part);
                self.state.slots[slot] = Kind::Number;
            }
        }
        self.stack_pointer(dst, slots);
    }

    /// A pointer to the stack's top slots.
    pub(super) fn stack_pointer(&mut self, dst: u8, slots: usize) {
        (0..slots).for_each(|slot| self.fill_slot(slot));
        self.push(0xbf, dst, 10, 0, 0);
        self.push(0x07, dst, 0, 0, -8 * slots as i32);
    }

    /// Any helper of the table, with arguments as the table says.
    pub(super) fn any_helper(&mut self) {
        let may_call_back = self.may_call() && self.depth < 2;
        let spec = helpers::find(self.random.pick(&HELPERS));
        let Some(spec) = spec.filter(|spec| spec.callback().is_none() || may_call_back) else { return };
        if spec.args.contains(&ArgKind::Context) && self.kind(CONTEXT) != Kind::Context {
            return;
        }
        let map = (!spec.maps.is_empty()).then(|| self.some_map(spec.maps));
        // A size that memory has and that is not said by its type: bytes, at most.
        let bytes = 1 + self.random.below(8 * SLOTS - 8) as i32;
        for place in 0..5 {
            self.argument(spec, place, map.as_ref(), bytes);
        }
        self.helper(spec.id as i32);
        match (spec.ret, map) {
            (RetKind::ValueOrNull, Some(map)) if map.def.kind.is_of_maps() => self.inner_lookup(),
            (RetKind::ValueOrNull, _) => self.found(),
            (RetKind::Nothing, _) => {}
            _ => self.set(0, Kind::Number),
        }
    }

    pub(super) fn argument(&mut self, spec: &HelperSpec, place: usize, map: Option<&Place>, bytes: i32) {
        let reg = place as u8 + 1;
        let value_size = map.map_or(0, |map| map.def.value_size as usize);
        match spec.args[place] {
            ArgKind::None => {}
            ArgKind::Scalar => self.argument_number(reg),
            ArgKind::Zero | ArgKind::Record => self.push(0xb7, reg, 0, 0, 0),
            ArgKind::Map => map.into_iter().for_each(|map| self.map(reg, map)),
            ArgKind::Key => map.into_iter().for_each(|map| self.any_key(reg, map)),
            ArgKind::Value | ArgKind::ValueOut => self.memory(reg, value_size),
            ArgKind::ValueOrNull if self.random.once_in(2) => self.push(0xb7, reg, 0, 0, 0),
            ArgKind::ValueOrNull => self.memory(reg, value_size),
            ArgKind::Memory { .. } | ArgKind::MemoryOut { .. } => self.memory(reg, bytes as usize),
            ArgKind::Size if spec.args.contains(&ArgKind::ConstString) => {
                let size = 1 + self.random.below(4) as i32;
                self.push(0xb7, reg, 0, 0, size);
            }
            ArgKind::Size | ArgKind::RecordSize => self.size(reg, bytes),
            ArgKind::ConstString => self.address(reg, 1, 0),
            ArgKind::Context => self.copy(reg, CONTEXT),
            ArgKind::Callback(kind) => {
                let args = match kind {
                    CallbackKind::Loop => only([Kind::Number, Kind::Stack]),
                    CallbackKind::MapElement => [Kind::Unset, Kind::Unset, Kind::Value(VALUE), Kind::Stack],
                };
                self.function_pointer(reg, args);
            }
            ArgKind::CallbackContext => self.stack_pointer(reg, 2),
        }
    }

    /// The size of memory of so many bytes: a constant, or a number that is bounded.
    pub(super) fn size(&mut self, reg: u8, bytes: i32) {
        let more = i32::from(self.is_mistake());
        if self.random.once_in(2) {
            return self.push(0xb7, reg, 0, 0, bytes + more);
        }
        self.argument_number(reg);
        let mask = (1 << (31 - (bytes as u32).leading_zeros())) - 1;
        self.push(0x57, reg, 0, 0, mask + more * (mask + 1));
    }

    /// A pointer to so many bytes that were written: on the stack, of a value, of variables.
    pub(super) fn memory(&mut self, dst: u8, bytes: usize) {
        let value = (7..10).find(|&reg| matches!(self.kind(reg), Kind::Value(size) if size as usize >= bytes));
        match (self.random.below(4), value) {
            (0, Some(value)) => self.copy(dst, value),
            (1, _) => self.address(dst, 0, 0),
            _ => self.stack_pointer(dst, bytes.div_ceil(8).max(1)),
        }
    }

    pub(super) fn function_pointer(&mut self, dst: u8, args: [Kind; 4]) {
        let function = self.want(args, true);
        let at = self.insns.len();
        self.calls.push((at, at + 1, function));
        self.push(LDDW, dst, LDDW_FUNCTION, 0, 0);
        self.push(0, 0, 0, 0, 0);
    }

    /// r0 is a value or null: keeps a copy perhaps, and checks it, mostly.
    pub(super) fn found(&mut self) {
        self.set(0, Kind::MaybeValue(VALUE));
        let keep = self.random.pick(&[0, 8, 9]);
        if keep != 0 && self.is_free(keep) {
            self.copy(keep, 0);
        }
        if !self.is_mistake() {
            self.out_if(0x15, 0, 0);
            self.resolve();
        }
        let (size, bytes) = self.random.pick(&SIZES);
        let last = VALUE - bytes + i32::from(self.is_mistake());
        let off = self.random.below(last as usize + 1) as i16;
        self.touch(0, size, off, true);
    }

    /// What was found is there.
    pub(super) fn resolve(&mut self) {
        for kind in &mut self.state.regs {
            if let Kind::MaybeValue(size) = *kind {
                *kind = Kind::Value(size);
            }
        }
    }

    /// r0 is an inner map or null: looks up in it.
    pub(super) fn inner_lookup(&mut self) {
        if !self.is_mistake() {
            self.out_if(0x15, 0, 0);
        }
        self.push(0xbf, 1, 0, 0, 0);
        self.stack_pointer(2, 1);
        self.helper(1);
        self.found();
    }

    /// Looks up a key and checks the result, mostly.
    pub(super) fn lookup(&mut self) {
        const KINDS: [MapKind; 6] =
            [MapKind::Array, MapKind::PercpuArray, MapKind::Hash, MapKind::Hash, MapKind::LruHash, MapKind::PercpuHash];
        let map = self.some_map(&KINDS);
        if self.random.once_in(2) {
            self.update(&map);
        }
        self.map(1, &map);
        self.key(2, &map);
        self.helper(1);
        self.found();
    }

    /// Puts a value of what the stack holds into a map.
    fn update(&mut self, map: &Place) {
        self.stack_pointer(3, map.def.value_size.div_ceil(8) as usize);
        self.map(1, map);
        self.key(2, map);
        self.push(0xb7, 4, 0, 0, 0);
        self.helper(2);
        self.set(0, Kind::Number);
    }

    /// Two values, of which one is checked first; what follows where it is not there goes on.
    pub(super) fn two_lookups(&mut self) {
        if !self.counters.is_empty() {
            return;
        }
        for keep in [8, 9] {
            let map = self.some_map(&[MapKind::Hash]);
            self.map(1, &map);
            self.key(2, &map);
            self.helper(1);
            self.set(0, Kind::Unset);
            self.push(0xbf, keep, 0, 0, 0);
            self.set(keep, Kind::Unset);
        }
        let (first, second) = if self.random.once_in(2) { (8, 9) } else { (9, 8) };
        let at = self.insns.len();
        self.push(0x15, first, 0, 0, 0);
        self.push(0x79, first, first, 8, 0);
        self.set(first, Kind::Number);
        // On a mistake the other one is taken for checked too.
        if !self.is_mistake() {
            self.out_if(0x15, second, 0);
        }
        self.push(0x7a, second, 0, 16, 3);
        self.land(at);
        self.set(first, Kind::Unset);
    }

    /// A record that is reserved, filled and given back.
    pub(super) fn record(&mut self) {
        let size = 8 * (1 + self.random.below(4) as i32);
        let ring = self.some_map(&[MapKind::Ringbuf]);
        self.map(1, &ring);
        self.push(0xb7, 2, 0, 0, size);
        self.push(0xb7, 3, 0, 0, 0);
        self.helper(131);
        let at = self.insns.len();
        self.push(0x15, 0, 0, 0, 0);
        let off = 8 * self.random.below((size / 8) as usize) as i16;
        self.push(0x7a, 0, 0, off, 5);
        self.push(0xbf, 1, 0, 0, 0);
        let keep = self.free();
        let is_kept = keep > 6 && self.is_mistake();
        if is_kept {
            self.push(0xbf, keep, 0, 0, 0);
            self.set(keep, Kind::Unset);
        }
        self.push(0xb7, 2, 0, 0, 0);
        let id = self.random.pick(&[132, 133]);
        if !self.is_mistake() {
            self.helper(id);
        }
        if is_kept {
            self.push(0x7a, keep, 0, off, 6);
        }
        self.land(at);
        self.clobber();
    }

    /// `bpf_loop` over a function.
    pub(super) fn callback(&mut self) {
        if !self.may_call() || self.depth > 1 {
            return;
        }
        let rounds = self.random.below(10) as i32;
        self.stack_pointer(3, 2);
        if self.random.once_in(3) {
            self.argument_number(1);
            self.push(0x57, 1, 0, 0, 15);
        } else {
            self.push(0xb7, 1, 0, 0, rounds);
        }
        self.function_pointer(2, only([Kind::Number, Kind::Stack]));
        self.push(0xb7, 4, 0, 0, 0);
        self.helper(181);
        self.set(0, Kind::Number);
    }
}
