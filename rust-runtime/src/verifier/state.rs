//! What is known before an instruction: registers and stack of every active function, handles that are held, loops that are
//! running, and what was found out about symbols.

use std::{
    ops::{Index, IndexMut, Range},
    rc::Rc,
};

use smallvec::SmallVec;

use super::{
    domain::Scalar,
    filled::{Edge, Filled},
    planted::{Bug, on},
    stack::{Stack, each_of},
    value::{Id, Link, Num, Value},
};
use crate::{
    helpers::CallbackKind,
    isa::{Alu, R10, Reg, Width},
};

/// Registers that a call leaves unset, and those that it leaves alone.
const LOW: usize = 6;
const HIGH: usize = 5;

/// A frame's registers. States share each part until one of them is written.
#[derive(Clone, Debug)]
pub struct Regs {
    low: Rc<[Value; LOW]>,
    high: Rc<[Value; HIGH]>,
}

impl Regs {
    pub const COUNT: usize = LOW + HIGH;

    pub fn iter(&self) -> impl Iterator<Item = &Value> {
        self.low.iter().chain(self.high.iter())
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        Rc::make_mut(&mut self.low).iter_mut().chain(Rc::make_mut(&mut self.high).iter_mut())
    }

    /// A register is in a part that both share.
    pub fn shares(&self, other: &Regs, reg: usize) -> bool {
        if reg < LOW { Rc::ptr_eq(&self.low, &other.low) } else { Rc::ptr_eq(&self.high, &other.high) }
    }
}

impl Default for Regs {
    fn default() -> Regs {
        Regs { low: Rc::new([Value::Unset; LOW]), high: Rc::new([Value::Unset; HIGH]) }
    }
}

impl Index<usize> for Regs {
    type Output = Value;

    fn index(&self, reg: usize) -> &Value {
        if reg < LOW { &self.low[reg] } else { &self.high[reg - LOW] }
    }
}

impl IndexMut<usize> for Regs {
    fn index_mut(&mut self, reg: usize) -> &mut Value {
        if reg < LOW { &mut Rc::make_mut(&mut self.low)[reg] } else { &mut Rc::make_mut(&mut self.high)[reg - LOW] }
    }
}

/// A function that is active.
#[derive(Clone, Debug)]
pub struct Frame {
    pub regs: Regs,
    pub stack: Stack,
    /// Which function of the program.
    pub function: usize,
    /// The call that it returns to.
    pub call: usize,
    /// A helper called it, not an instruction.
    pub callback: bool,
}

/// A symbol whose value is an integer in a range: a loop's counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    pub symbol: Id,
    pub low: i64,
    pub high: i64,
}

/// What was found out about two symbols: `low + gap <= high`, as integers that do not wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub low: Id,
    pub high: Id,
    pub gap: i64,
}

impl Order {
    /// `a <= b`, where the symbols of both can be told from them. As signed numbers, they must not be negative as such.
    pub fn between(a: &Num, b: &Num, width: Width, is_signed: bool) -> Option<Order> {
        /// Sums of such numbers do not wrap.
        const SMALL: u64 = 1 << 40;
        let most = match width {
            Width::W32 if is_signed => i32::MAX as u64,
            Width::W32 => u32::MAX.into(),
            Width::W64 => SMALL,
        };
        let is_plain = |number: &Num| {
            let Link { symbol, scale, add } = number.link;
            symbol != 0 && scale == 1 && add.unsigned_abs() <= SMALL && number.range.umax() <= most
        };
        let is_known = is_plain(a) && is_plain(b) && a.link.symbol != b.link.symbol;
        is_known.then(|| Order { low: a.link.symbol, high: b.link.symbol, gap: a.link.add - b.link.add })
    }

    /// As `a <= b` is `self`: `a < b`.
    pub fn strict(self) -> Order {
        Order { gap: self.gap + 1, ..self }
    }

    /// Whoever knows `self` knows `other`.
    pub fn implies(self, other: Order) -> bool {
        (self.low, self.high) == (other.low, other.high) && self.gap >= other.gap
    }
}

/// Where numbers are that depend on one symbol: by frame, sets of registers and of cells. Refinements leave it as it is.
#[derive(Debug, Default)]
pub struct Linked {
    frames: SmallVec<[(u16, u128); 2]>,
}

impl Linked {
    /// Visits frame, register or cell, and whether it is a cell. None: a visit ended it.
    pub fn each(&self, mut visit: impl FnMut(usize, usize, bool) -> Option<()>) -> Option<()> {
        for (frame, (regs, cells)) in self.frames.iter().enumerate() {
            for reg in each_of(u128::from(*regs)) {
                visit(frame, reg, false)?;
            }
            for cell in each_of(*cells) {
                visit(frame, cell, true)?;
            }
        }
        Some(())
    }
}

/// A resource that the program must release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle {
    pub id: Id,
    /// The call that acquired it.
    pub pc: usize,
    /// The frame that acquired it.
    pub frame: usize,
}

/// A loop that this way is inside of.
#[derive(Clone, Debug)]
pub struct ActiveLoop {
    pub head: usize,
    /// The frame that it belongs to.
    pub frame: usize,
    /// Arrivals at the head so far.
    pub count: u32,
    /// Where the walk was at the first arrival, and what the way up to it cost.
    pub mark: Mark,
    pub entry_cost: u64,
    /// The attempt to prove it for any number of rounds; 0: none.
    pub attempt: u32,
    /// No attempt before so many arrivals.
    pub patience: u32,
    /// The state at the last arrival, without its loops.
    pub previous: Option<Rc<State>>,
    /// A helper runs it: what it calls back with.
    pub callback: Option<Rc<Callback>>,
}

/// A point of the walk that it can return to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    pub chain: usize,
    pub pending: usize,
    pub stored: usize,
    pub records: u32,
}

/// What a helper that calls back was given.
#[derive(Clone, Copy, Debug)]
pub struct Callback {
    pub kind: CallbackKind,
    pub function: usize,
    pub context: Value,
    /// The map that is walked.
    pub map: Option<super::value::MapRef>,
    /// The most rounds.
    pub rounds: u64,
}

#[derive(Clone, Debug, Default)]
pub struct State {
    /// Callers first.
    pub frames: SmallVec<[Rc<Frame>; 4]>,
    pub handles: Vec<Handle>,
    pub counters: SmallVec<[Counter; 2]>,
    /// Of counters of loops that are being proved.
    pub orders: Vec<Order>,
    pub loops: Vec<ActiveLoop>,
    /// What loops that are being proved have written so far, where that depends on their counters.
    pub filled: Vec<Filled>,
    /// The last sum of two counters that is a symbol of its own, an offset on a stack, since ways met.
    pub sum: Option<Box<(Id, Edge)>>,
}

impl Frame {
    pub fn new(function: usize, depth: usize, call: usize) -> Frame {
        let mut regs = Regs::default();
        regs[usize::from(R10)] = Value::pointer(super::value::Target::Stack(depth as u8), 0);
        Frame { regs, stack: Stack::default(), function, call, callback: false }
    }

    pub fn reg(&self, reg: Reg) -> &Value {
        &self.regs[usize::from(reg)]
    }

    /// Registers and cells with a number that depends on a symbol.
    fn linked_to(&self, symbol: Id) -> (u16, u128) {
        let is_linked = |value: &Value| value.linked().is_some_and(|number| number.link.symbol == symbol);
        let mut regs = 0;
        for (reg, value) in self.regs.iter().enumerate() {
            regs |= u16::from(is_linked(value)) << reg;
        }
        let mut cells = 0;
        for (cell, number) in self.stack.linked() {
            cells |= u128::from(number.link.symbol == symbol) << cell;
        }
        (regs, cells)
    }
}

impl State {
    pub fn depth(&self) -> usize {
        self.frames.len() - 1
    }

    pub fn top(&self) -> &Frame {
        &self.frames[self.frames.len() - 1]
    }

    pub fn top_mut(&mut self) -> &mut Frame {
        let last = self.frames.len() - 1;
        Rc::make_mut(&mut self.frames[last])
    }

    pub fn frame_mut(&mut self, index: usize) -> &mut Frame {
        Rc::make_mut(&mut self.frames[index])
    }

    pub fn reg(&self, reg: Reg) -> &Value {
        self.top().reg(reg)
    }

    pub fn set(&mut self, reg: Reg, value: Value) {
        self.top_mut().regs[usize::from(reg)] = value;
    }

    /// Registers that hold nothing from here on.
    pub fn unset(&mut self, regs: Range<usize>) {
        let frame = self.top_mut();
        regs.for_each(|reg| frame.regs[reg] = Value::Unset);
    }

    pub fn counter(&self, symbol: Id) -> Option<&Counter> {
        self.counters.iter().find(|counter| counter.symbol == symbol)
    }

    pub fn knows(&self, order: Order) -> bool {
        self.orders.iter().any(|known| known.implies(order))
    }

    pub fn learn(&mut self, order: Order) {
        if !self.knows(order) {
            self.orders.retain(|known| !order.implies(*known));
            self.orders.push(order);
        }
    }

    /// The least value of a symbol that some number is.
    pub fn least(&self, symbol: Id) -> Option<i64> {
        let regs = self.frames.iter().flat_map(|frame| frame.regs.iter().filter_map(Value::linked));
        let cells = self.frames.iter().flat_map(|frame| frame.stack.linked().map(|(_, number)| number));
        let is_symbol = |number: &&Num| number.link.symbol == symbol && number.link.scale == 1;
        regs.chain(cells).filter(is_symbol).filter_map(|number| number.range.smin().checked_sub(number.link.add)).max()
    }

    /// Visits every register and spilled value, with its frame.
    pub fn for_each_value(&mut self, mut visit: impl FnMut(&mut Value)) {
        for frame in &mut self.frames {
            let frame = Rc::make_mut(frame);
            frame.regs.iter_mut().for_each(&mut visit);
            frame.stack.for_each_spill(&mut visit);
        }
    }

    /// The numbers that depend on a symbol.
    pub fn linked_to(&self, symbol: Id) -> Linked {
        if symbol == 0 {
            return Linked::default();
        }
        Linked { frames: self.frames.iter().map(|frame| frame.linked_to(symbol)).collect() }
    }

    /// A number was found to be in a smaller range: so are those that are linked to it. None: this cannot be.
    pub fn refine(&mut self, link: Link, range: &Scalar) -> Option<()> {
        self.refine_linked(&self.linked_to(link.symbol), link, range)
    }

    /// The same, where it is known which are.
    pub fn refine_linked(&mut self, linked: &Linked, link: Link, range: &Scalar) -> Option<()> {
        if link.symbol == 0 {
            return Some(());
        }
        self.refine_counter(link, range)?;
        let bounds = self.counter(link.symbol).copied();
        linked.each(|frame, at, is_cell| {
            let here = &self.frames[frame];
            let number = if is_cell { here.stack.linked_at(at) } else { here.regs[at].linked() };
            let Some(number) = number else { return Some(()) };
            let refined = refined(number, link, range, bounds)?;
            if refined == number.range {
                return Some(());
            }
            let here = self.frame_mut(frame);
            let number = if is_cell { here.stack.linked_mut(at) } else { here.regs[at].linked_mut() };
            if let Some(number) = number {
                number.range = refined;
            }
            Some(())
        })
    }

    /// What a number's range says of the counter that it depends on.
    fn refine_counter(&mut self, link: Link, range: &Scalar) -> Option<()> {
        let Some(counter) = self.counters.iter_mut().find(|counter| counter.symbol == link.symbol) else {
            return Some(());
        };
        if link.scale == 0 || !is_exact(link, *counter) {
            return Some(());
        }
        let (scale, add) = (i128::from(link.scale), i128::from(link.add));
        let (from, to) = (i128::from(range.smin()) - add, i128::from(range.smax()) - add);
        let (from, to) = if scale > 0 { (from, to) } else { (-to, -from) };
        let scale = scale.abs();
        // Rounded inward; scale > 0.
        let (low, high) = match scale {
            1 => (from, to),
            _ => (-((-from).div_euclid(scale)), to.div_euclid(scale)),
        };
        counter.low = counter.low.max(low.clamp(i64::MIN.into(), i64::MAX.into()) as i64);
        counter.high = counter.high.min(high.clamp(i64::MIN.into(), i64::MAX.into()) as i64);
        (counter.low <= counter.high).then_some(())
    }

    /// A null check went one way: what it holds for all copies.
    pub fn resolve_null(&mut self, id: Id, is_null: bool) {
        self.for_each_value(|value| {
            if value.null_id() != id && !on(Bug::NullCheckAll) {
                return;
            }
            if is_null {
                *value = Value::constant(0);
                return;
            }
            match value {
                Value::Pointer(pointer) => pointer.null = 0,
                Value::Map { null, .. } => *null = 0,
                _ => {}
            }
        });
    }

    /// What pointed into an object may not be used any more.
    pub fn forget(&mut self, object: Id) {
        if on(Bug::UseAfterRelease) {
            return;
        }
        self.for_each_value(|value| {
            if matches!(value, Value::Pointer(pointer) if pointer.object == object) {
                *value = Value::Unset;
            }
        });
    }

    /// A copy that remembers no loops, to compare with.
    pub fn without_loops(&self) -> Rc<State> {
        Rc::new(State {
            frames: self.frames.clone(),
            handles: self.handles.clone(),
            counters: self.counters.clone(),
            orders: self.orders.clone(),
            filled: self.filled.clone(),
            ..State::default()
        })
    }
}

/// The link's number is `scale * counter + add` as a signed integer: nothing wraps.
fn is_exact(link: Link, counter: Counter) -> bool {
    let value = |at: i64| i128::from(link.scale) * i128::from(at) + i128::from(link.add);
    let fits = |value: i128| i64::try_from(value).is_ok();
    fits(value(counter.low)) && fits(value(counter.high))
}

/// The range of a number when one with the same symbol is in `range`.
fn refined(number: &Num, link: Link, range: &Scalar, counter: Option<Counter>) -> Option<Scalar> {
    let mut result = number.range;
    if number.link == link {
        if result != *range {
            result = result.meet(range)?;
        }
    } else if number.link.scale == link.scale {
        let by = Scalar::constant(number.link.add.wrapping_sub(link.add) as u64);
        result = result.meet(&range.alu(Alu::Add, &by, Width::W64))?;
    }
    if let Some(counter) = counter.filter(|counter| is_exact(number.link, *counter)) {
        let at = |value: i64| number.link.scale.wrapping_mul(value).wrapping_add(number.link.add);
        let (a, b) = (at(counter.low), at(counter.high));
        let (low, high) = (a.min(b), a.max(b));
        if result.smin() < low || result.smax() > high {
            result = result.meet(&Scalar::signed(low, high))?;
        }
    }
    Some(result)
}
