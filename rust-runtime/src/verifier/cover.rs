//! Whether all that may happen from one state may happen from another: then exploring one is enough.

use smallvec::SmallVec;

use super::{
    filled::Edge,
    need::Need,
    planted::{Bug, on},
    stack::{Cell, Stack, each_of},
    state::{Counter, Order, State},
    value::{Id, Link, Num, Pointer, Value},
};

/// A symbol that must be the same in both states, the counter of a loop that is being proved: a number that was
/// `f(counter)` is now `f(counter + shift)`.
#[derive(Clone, Copy, Debug)]
pub struct Fixed {
    pub symbol: Id,
    pub shift: i64,
}

/// Those of the loops that a way is inside of.
pub type Counters = SmallVec<[Fixed; 4]>;

impl Fixed {
    /// The link after the shift.
    pub fn moved(self, link: Link) -> Link {
        Link { add: link.add.wrapping_add(link.scale.wrapping_mul(self.shift)), ..link }
    }
}

/// Compares an old state with a new one and remembers which ids of one stand for which of the other.
pub struct Cover<'a> {
    old: &'a State,
    new: &'a State,
    ids: SmallVec<[(Id, Id); 8]>,
    links: SmallVec<[Pair; 8]>,
    fixed: &'a [Fixed],
    /// Comparisons made.
    pub work: u64,
}

/// What stands for a symbol.
enum Side<'a> {
    /// It itself, moved so far.
    Same(i64),
    Other(&'a Pair),
}

/// Two numbers that stand for each other.
struct Pair {
    old: Link,
    new: Link,
    /// The new number's bounds.
    smin: i64,
    smax: i64,
}

impl Pair {
    fn new(old: Link, new: &Num) -> Pair {
        Pair { old, new: new.link, smin: new.range.smin(), smax: new.range.smax() }
    }

    fn is_constant(&self) -> Option<u64> {
        (self.smin == self.smax).then_some(self.smin as u64)
    }
}

impl<'a> Cover<'a> {
    pub fn new(old: &'a State, new: &'a State, fixed: &'a [Fixed]) -> Cover<'a> {
        Cover { old, new, ids: SmallVec::new(), links: SmallVec::new(), fixed, work: 0 }
    }

    /// Everything that is needed of the old state holds in the new one.
    pub fn holds(&mut self, need: &Need) -> bool {
        let (old, new) = (self.old, self.new);
        if !self.are_alike() {
            return false;
        }
        for (index, (a, b)) in old.frames.iter().zip(&new.frames).enumerate() {
            let need = need.frames.get(index).copied().unwrap_or_default();
            for reg in each_of(need.regs.into()) {
                let is_exact = need.exact & 1 << reg != 0;
                if !self.value(&a.regs[reg], &b.regs[reg], is_exact) {
                    return false;
                }
            }
            if !self.stack(&a.stack, &b.stack, need.cells, need.exact_cells) {
                return false;
            }
        }
        self.orders() && self.filled()
    }

    /// They are in the same functions and hold the same handles, and counters are within their bounds.
    pub fn are_alike(&mut self) -> bool {
        let (old, new) = (self.old, self.new);
        let mut frames = old.frames.iter().zip(&new.frames);
        old.frames.len() == new.frames.len()
            && frames.all(|(a, b)| (a.function, a.call, a.callback) == (b.function, b.call, b.callback))
            && self.handles()
            && self.counters()
    }

    /// What the old state knows of the order of symbols holds of what stands for them. Who made use of it needed the numbers of
    /// both: a symbol that was not compared does not matter.
    fn orders(&self) -> bool {
        self.old.orders.iter().all(|order| match (self.stands_for(order.low), self.stands_for(order.high)) {
            (None, _) | (_, None) => true,
            (Some(Side::Same(low)), Some(Side::Same(high))) => {
                let gap = order.gap.saturating_add(low).saturating_sub(high);
                self.new.knows(Order { gap, ..*order })
            }
            (Some(Side::Other(low)), Some(Side::Other(high))) => {
                let most = low.smax.checked_sub(low.old.add);
                let least = high.smin.checked_sub(high.old.add);
                let is_plain = low.old.scale == 1 && high.old.scale == 1;
                is_plain && most.zip(least).is_some_and(|(most, least)| most.saturating_add(order.gap) <= least)
            }
            _ => false,
        })
    }

    /// What is filled in the old state is filled in the new one. Between constants, the cells know that.
    fn filled(&self) -> bool {
        let mut filled = self.old.filled.iter().filter(|filled| !filled.is_constant());
        filled.all(|filled| {
            let moved = filled.replaced(|symbol| self.replaced(symbol));
            moved.is_some_and(|moved| self.new.is_filled(&moved))
        })
    }

    /// What a symbol that bytes are filled by is in the new state: within the bounds that were known of it.
    fn replaced(&self, symbol: Id) -> Option<Edge> {
        let same = |shift: i64| Edge::constant(0).plus(symbol, 1)?.moved(shift);
        if let Some(fixed) = self.fixed.iter().find(|fixed| fixed.symbol == symbol) {
            return same(fixed.shift);
        }
        let bounds = self.old.counter(symbol);
        match self.stands_for(symbol) {
            // No number tells which it is: it may be the same.
            None | Some(Side::Same(_)) => {
                let is_within = |old: &Counter, new: &Counter| old.low <= new.low && new.high <= old.high;
                let is_known = bounds.zip(self.new.counter(symbol)).is_some_and(|(old, new)| is_within(old, new));
                if is_known { same(0) } else { None }
            }
            Some(Side::Other(pair)) => {
                let moved = (pair.is_constant()? as i64).checked_sub(pair.old.add)?;
                let is_whole = moved.checked_rem(pair.old.scale)? == 0;
                let value = moved.checked_div(pair.old.scale)?;
                let is_within = bounds.is_none_or(|old| old.low <= value && value <= old.high);
                if is_whole && is_within { Edge::constant(0).moved(value) } else { None }
            }
        }
    }

    /// What a symbol of the old state is in the new one.
    fn stands_for(&self, symbol: Id) -> Option<Side<'_>> {
        if let Some(fixed) = self.fixed.iter().find(|fixed| fixed.symbol == symbol) {
            return Some(Side::Same(fixed.shift));
        }
        let pair = self.links.iter().find(|pair| pair.old.symbol == symbol)?;
        Some(if pair.new == pair.old { Side::Same(0) } else { Side::Other(pair) })
    }

    fn handles(&mut self) -> bool {
        let (old, new) = (&self.old.handles, &self.new.handles);
        old.len() == new.len() && old.iter().zip(new).all(|(a, b)| a.frame == b.frame && self.same_id(a.id, b.id))
    }

    /// Counters of loops that are being proved stay within their bounds.
    fn counters(&self) -> bool {
        self.fixed.iter().all(|fixed| match (self.old.counter(fixed.symbol), self.new.counter(fixed.symbol)) {
            (Some(old), Some(new)) => {
                let (low, high) = (new.low.checked_add(fixed.shift), new.high.checked_add(fixed.shift));
                low.is_some_and(|low| old.low <= low) && high.is_some_and(|high| high <= old.high)
            }
            (old, new) => old.is_none() && new.is_none(),
        })
    }

    /// Ids stand for each other one to one.
    fn same_id(&mut self, old: Id, new: Id) -> bool {
        if (old == 0) != (new == 0) {
            return false;
        }
        match self.ids.iter().find(|(a, b)| *a == old || *b == new) {
            Some(&(a, b)) => a == old && b == new,
            None => {
                self.ids.push((old, new));
                true
            }
        }
    }

    pub fn value(&mut self, old: &Value, new: &Value, is_exact: bool) -> bool {
        self.work += 1;
        match (old, new) {
            (Value::Unset, _) => true,
            (Value::Number(a), Value::Number(b)) => !is_exact || on(Bug::PruneImprecise) || self.number(a, b),
            (Value::Pointer(a), Value::Pointer(b)) => self.pointer(a, b),
            (Value::Map { map: a, null: x }, Value::Map { map: b, null: y }) => a == b && self.same_id(*x, *y),
            (Value::Function(a), Value::Function(b)) => a == b,
            (Value::BufferEnd, Value::BufferEnd) => true,
            _ => false,
        }
    }

    fn pointer(&mut self, old: &Pointer, new: &Pointer) -> bool {
        old.to == new.to
            && old.room <= new.room
            && self.same_id(old.null, new.null)
            && self.same_id(old.object, new.object)
            && self.number(&old.offset, &new.offset)
    }

    /// The range lies within, and what is linked in the old state is linked likewise in the new one.
    fn number(&mut self, old: &Num, new: &Num) -> bool {
        if !new.range.is_subset_of(&old.range) {
            return false;
        }
        let link = old.link;
        if link.symbol == 0 {
            return true;
        }
        if let Some(fixed) = self.fixed.iter().find(|fixed| fixed.symbol == link.symbol) {
            return new.link == fixed.moved(link);
        }
        let first = self.links.iter().find(|pair| pair.old.symbol == link.symbol);
        let Some(pair) = first else {
            self.links.push(Pair::new(link, new));
            // Of a counter's multiples it may have been used that they are multiples.
            return link.scale.unsigned_abs() == 1
                || self.old.counter(link.symbol).is_none()
                || is_on_stride(link, new);
        };
        is_linked_alike(pair, link, new)
    }

    fn stack(&mut self, old: &Stack, new: &Stack, cells: u128, exact: u128) -> bool {
        let mut compared = cells & old.depth();
        if old.is_shared_with(new) {
            // Of cells that are the same only links can differ from what the registers say.
            let same = compared & !old.linkable();
            self.work += u64::from(same.count_ones());
            compared &= !same;
        }
        each_of(compared).all(|cell| self.cell(old, new, cell, cells, exact))
    }

    /// A cell that is needed, among others.
    pub fn cell(&mut self, old: &Stack, new: &Stack, cell: usize, cells: u128, exact: u128) -> bool {
        let bit = 1u128 << cell;
        self.work += 1;
        if on(Bug::PruneStack) {
            return true;
        }
        match old.get(cell) {
            Cell::Bytes { written: 0, .. } => true,
            Cell::Bytes { written, zero } => {
                let (new_written, new_zero) = new.bytes(cell);
                let zero = if exact & bit != 0 { *zero } else { 0 };
                written & !new_written == 0 && zero & !new_zero == 0
            }
            Cell::Word(number) => self.word(number, new, cell, exact & bit != 0),
            Cell::Low(value) => self.spill(value, new, cell, exact & (bit | bit >> 1) != 0),
            // With its lower half, if that is needed; else here.
            Cell::High if cells & bit << 1 != 0 => true,
            Cell::High => match old.spill(cell) {
                Some((value, _)) => self.spill(value, new, cell + 1, exact & bit != 0),
                None => false,
            },
        }
    }

    fn word(&mut self, old: &Num, new: &Stack, cell: usize, is_exact: bool) -> bool {
        match new.get(cell) {
            Cell::Word(number) => !is_exact || self.number(old, number),
            _ => new.bytes(cell).0 == 0xf && (!is_exact || self.read_number(old, new, cell, 4)),
        }
    }

    fn spill(&mut self, old: &Value, new: &Stack, cell: usize, is_exact: bool) -> bool {
        match (old, new.get(cell)) {
            (old, Cell::Low(value)) => self.value(old, value, is_exact),
            (Value::Unset, _) => true,
            (Value::Number(old), _) => {
                let is_written = new.bytes(cell).0 == 0xf && new.bytes(cell - 1).0 == 0xf;
                is_written && (!is_exact || self.read_number(old, new, cell, 8))
            }
            _ => false,
        }
    }

    fn read_number(&mut self, old: &Num, new: &Stack, cell: usize, bytes: u32) -> bool {
        let offset = -(cell as i64 + 1) * super::stack::CELL;
        match new.read(offset, bytes) {
            Ok(Value::Number(number)) => self.number(old, &number),
            _ => false,
        }
    }
}

/// Two old numbers with one symbol relate to each other as their new counterparts do.
fn is_linked_alike(pair: &Pair, old: Link, new: &Num) -> bool {
    match (pair.is_constant(), new.is_constant()) {
        (Some(first), Some(second)) => {
            // scale * symbol + add for both, with some symbol.
            let first = first.wrapping_sub(pair.old.add as u64);
            let second = second.wrapping_sub(old.add as u64);
            match (pair.old.scale, old.scale) {
                (a, b) if a == b => first == second && (a == 1 || is_multiple(first, a)),
                (a, b) => {
                    let is_exact = is_multiple(first, a) && is_multiple(second, b);
                    is_exact && (first as i64).wrapping_div(a) == (second as i64).wrapping_div(b)
                }
            }
        }
        (None, None) => {
            let (a, b) = (pair.new, new.link);
            // Another symbol that is the old one moved by `shift / scale`.
            let shift = a.add.wrapping_sub(pair.old.add);
            a.symbol != 0
                && a.symbol == b.symbol
                && (a.scale, b.scale) == (pair.old.scale, old.scale)
                && b.add.wrapping_sub(old.add) == shift
                && (shift == 0 || (a.scale, b.scale) == (1, 1))
        }
        _ => false,
    }
}

/// A number is among `scale * symbol + add`.
fn is_on_stride(old: Link, new: &Num) -> bool {
    match new.is_constant() {
        Some(value) => is_multiple(value.wrapping_sub(old.add as u64), old.scale),
        None => {
            let shift = new.link.add.wrapping_sub(old.add) as u64;
            new.link.symbol != 0 && new.link.scale == old.scale && is_multiple(shift, old.scale)
        }
    }
}

fn is_multiple(number: u64, of: i64) -> bool {
    of != 0 && (number as i64).wrapping_rem(of) == 0
}
