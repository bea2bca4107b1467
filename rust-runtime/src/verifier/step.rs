//! What each instruction does to the state, and whether it may.

use super::{
    Reason,
    domain::Scalar,
    filled::Edge,
    graph::Graph,
    need::{Effect, EffectKind, Need},
    planted::{Bug, on},
    state::{Linked, Order, State},
    value::{Id, Link, MapRef, Num, Pointer, Target, Value},
    walk::{MANY_ROUNDS, Next, Summary, Walk},
};
use crate::isa::{Alu, Cond, Op, Operand, Reg, Width};

/// A pointer into a buffer that may lie behind its end.
const NO_ROOM: i64 = i64::MIN / 2;
/// Pointers stay this near to what they point into, so that sums of offsets cannot wrap.
const FAR: i64 = 1 << 29;

impl Walk<'_> {
    /// Checks an instruction and does it.
    pub fn execute(&mut self, pc: usize, op: Op) -> Result<Next, Reason> {
        let next = pc + op.slots();
        match op {
            Op::Exit => return self.leave(pc),
            Op::Local { off } => {
                let callee = Graph::callee(self.program, pc, off).ok_or(Reason::CallTarget)?;
                return self.enter(pc, callee);
            }
            Op::Goto { off } => {
                self.commit();
                return Ok(Next::Go((pc as i64 + 1 + i64::from(off)) as usize));
            }
            Op::Branch { cond, width, dst, src, off } => {
                let target = (pc as i64 + 1 + i64::from(off)) as usize;
                return self.branch(cond, width, dst, src, target, next);
            }
            Op::Helper { id } => return self.help(pc, id),
            Op::Alu { op, width, dst, src } => self.alu(op, width, dst, src)?,
            Op::MovSx { width, bits, dst, src } => {
                let number = self.number(src)?.range.sign_extend(u32::from(bits), width);
                self.set_number(dst, number);
            }
            Op::Neg { width, dst } => {
                let number = self.number(dst)?.range.neg(width);
                self.set_number(dst, number);
            }
            Op::Order { order, bits, dst } => {
                let number = self.number(dst)?.range.byte_swap(order, u32::from(bits));
                self.set_number(dst, number);
            }
            Op::Const { dst, value } => self.state.set(dst, Value::constant(value)),
            Op::Address { dst, region, offset } => {
                let map = MapRef { index: region, inner: false };
                let offset = Num::constant(i64::from(offset) as u64);
                let to = Target::MapValue(map);
                self.state.set(dst, Value::Pointer(Pointer { to, object: 0, null: 0, offset, room: 0 }));
            }
            Op::Map { dst, map } => {
                self.state.set(dst, Value::Map { map: MapRef { index: map, inner: false }, null: 0 });
            }
            Op::Function { dst, off } => {
                let function = Graph::callee(self.program, pc, off).ok_or(Reason::CallTarget)?;
                self.state.set(dst, Value::Function(function as u32));
            }
            Op::Load { size, signed, dst, base, off } => self.load(size, signed, dst, base, off)?,
            Op::Store { size, base, off, src } => self.store_value(size, base, off, src)?,
            Op::Atomic { op, fetch, size, base, off, src } => self.atomic(op, fetch, size, base, off, src)?,
        }
        self.commit();
        Ok(Next::Go(next))
    }

    /// A register that was set.
    pub fn get(&self, reg: Reg) -> Result<Value, Reason> {
        match self.state.reg(reg) {
            Value::Unset => Err(Reason::Uninitialised(reg)),
            value => Ok(*value),
        }
    }

    pub fn operand(&self, operand: Operand) -> Result<Value, Reason> {
        match operand {
            Operand::Reg(reg) => self.get(reg),
            Operand::Imm(imm) => Ok(Value::constant(i64::from(imm) as u64)),
        }
    }

    /// A register that must hold a number: addresses do not leave the program.
    pub fn number(&self, reg: Reg) -> Result<Num, Reason> {
        match self.get(reg)? {
            Value::Number(number) => Ok(number),
            _ => Err(Reason::PointerLeak(reg)),
        }
    }

    /// A new number, a symbol of its own.
    pub fn set_number(&mut self, reg: Reg, range: Scalar) {
        let symbol = self.fresh();
        self.state.set(reg, Value::Number(Num::symbol(range, symbol)));
    }

    pub fn demand(&mut self, operand: Operand) {
        if let Operand::Reg(reg) = operand {
            self.step.demand |= 1 << reg;
        }
    }

    fn alu(&mut self, op: Alu, width: Width, dst: Reg, src: Operand) -> Result<(), Reason> {
        let b = self.operand(src)?;
        if op == Alu::Mov {
            let value = match (b, width) {
                (Value::Number(number), _) => Value::Number(self.moved(number, width)),
                (pointer, Width::W64) => pointer,
                (_, Width::W32) => return Err(leak(src)),
            };
            self.state.set(dst, value);
            return Ok(());
        }
        let a = self.get(dst)?;
        let value = match (a, b) {
            (Value::Number(a), Value::Number(b)) => Value::Number(self.calculate(op, width, &a, &b)),
            (Value::Pointer(pointer), Value::Number(by)) => {
                self.demand(src);
                self.shift_pointer(op, width, dst, pointer, &by)?
            }
            (Value::Number(by), Value::Pointer(pointer)) if op == Alu::Add => {
                self.step.demand |= 1 << dst;
                let reg = if let Operand::Reg(reg) = src { reg } else { dst };
                self.shift_pointer(op, width, reg, pointer, &by)?
            }
            (Value::Pointer(a), Value::Pointer(b))
                if (op, width) == (Alu::Sub, Width::W64) && self.may_relate(&a, &b) =>
            {
                let distance = a.offset.range.alu(Alu::Sub, &b.offset.range, Width::W64);
                let symbol = self.fresh();
                Value::Number(Num::symbol(distance, symbol))
            }
            _ => return Err(Reason::PointerArithmetic(name(op))),
        };
        self.state.set(dst, value);
        Ok(())
    }

    /// A copy of a number. A 32-bit copy keeps the link if it keeps the number.
    fn moved(&mut self, number: Num, width: Width) -> Num {
        match width {
            Width::W64 => number,
            Width::W32 if number.range.is_half() || self.is_counter(&number) => number,
            Width::W32 => {
                let symbol = self.fresh();
                Num::symbol(number.range.zero_extend32(), symbol)
            }
        }
    }

    /// Arithmetic on numbers. Sums and multiples with constants stay linked.
    fn calculate(&mut self, op: Alu, width: Width, a: &Num, b: &Num) -> Num {
        let link = linked(op, a, b);
        // A trial supposes that counters do not wrap.
        let width = if self.is_counter(a) && link.is_some() { Width::W64 } else { width };
        let range = a.range.alu(op, &b.range, width);
        if range.is_constant().is_some() {
            return Num::plain(range);
        }
        let link = if on(Bug::StaleLink) && op == Alu::Mul { Some(a.link) } else { link };
        let link = link.filter(|_| width == Width::W64 || is_same_in_64(op, a, b));
        match link {
            Some(link) if link.scale != 0 => self.within_counter(Num { range, link }),
            _ => {
                let symbol = self.fresh();
                Num::symbol(range, symbol)
            }
        }
    }

    /// What the bounds of a loop's counter say of a number that depends on it.
    fn within_counter(&mut self, number: Num) -> Num {
        let Some(counter) = self.state.counter(number.link.symbol) else { return number };
        let at = |symbol: i64| i128::from(number.link.scale) * i128::from(symbol) + i128::from(number.link.add);
        let (x, y) = (at(counter.low), at(counter.high));
        let (Ok(low), Ok(high)) = (i64::try_from(x.min(y)), i64::try_from(x.max(y))) else { return number };
        match number.range.meet(&Scalar::signed(low, high)) {
            Some(range) => Num { range, ..number },
            None => number,
        }
    }

    /// A pointer moved by a number.
    fn shift_pointer(&mut self, op: Alu, width: Width, reg: Reg, pointer: Pointer, by: &Num) -> Result<Value, Reason> {
        if width == Width::W32 || !matches!(op, Alu::Add | Alu::Sub) {
            return Err(Reason::PointerArithmetic(name(op)));
        }
        if pointer.null != 0 {
            return Err(Reason::MaybeNull(reg));
        }
        let mut offset = self.calculate(op, Width::W64, &pointer.offset, by);
        if on(Bug::StaleOffset) && by.is_constant().is_none() {
            offset = pointer.offset;
        }
        let is_near = |range: &Scalar| range.smin() >= -FAR && range.smax() <= FAR;
        let is_allowed = is_near(&by.range) && is_near(&offset.range) || self.is_trial();
        if !is_allowed {
            return Err(Reason::PointerOffset(offset.range.to_string()));
        }
        if matches!(pointer.to, Target::Stack(_)) && op == Alu::Add {
            self.note_sum(&offset, &pointer.offset, by);
        }
        let room = match (op, by.is_constant()) {
            _ if pointer.to != Target::Buffer => 0,
            (Alu::Add, Some(by)) => pointer.room.saturating_sub(by as i64),
            (_, Some(by)) => pointer.room.saturating_add(by as i64),
            _ => NO_ROOM,
        };
        Ok(Value::Pointer(Pointer { offset, room, ..pointer }))
    }

    /// An offset on a stack that is the sum of two counters: a row of an array and a place in it.
    fn note_sum(&mut self, sum: &Num, a: &Num, b: &Num) {
        let is_linked = |number: &Num| number.is_constant().is_none() && number.link.symbol != 0;
        if !self.attempts.is_empty()
            && is_linked(a)
            && is_linked(b)
            && sum.link.symbol != a.link.symbol
            && let (Some(a), Some(b)) = (Edge::of(a), Edge::of(b))
        {
            let of = a.sum(b).filter(|_| sum.link.scale == 1 && sum.link.add == 0);
            self.state.sum = of.map(|of| Box::new((sum.link.symbol, of)));
        }
    }

    /// Pointers into the same object, whose distance says nothing about addresses.
    fn may_relate(&self, a: &Pointer, b: &Pointer) -> bool {
        self.rules.relates_pointers && a.to == b.to && a.object == b.object && a.null == 0 && b.null == 0
    }

    fn branch(
        &mut self,
        cond: Cond,
        width: Width,
        dst: Reg,
        src: Operand,
        target: usize,
        next: usize,
    ) -> Result<Next, Reason> {
        let (a, b) = (self.get(dst)?, self.operand(src)?);
        match (a, b) {
            (Value::Number(a), Value::Number(b)) => self.compare(cond, width, (dst, &a), (src, &b), target, next),
            (pointer, Value::Number(zero)) if zero.is_constant() == Some(0) => {
                self.demand(src);
                self.null_check(cond, width, pointer, target, next)
            }
            (Value::Number(zero), pointer) if zero.is_constant() == Some(0) => {
                self.demand(Operand::Reg(dst));
                self.null_check(cond, width, pointer, target, next)
            }
            (Value::Pointer(a), Value::Pointer(b)) if width == Width::W64 && self.may_relate(&a, &b) => {
                self.compare_offsets(cond, (dst, a), (src, b), target, next)
            }
            (Value::Pointer(pointer), Value::BufferEnd) if width == Width::W64 && pointer.to == Target::Buffer => {
                self.compare_with_end(cond, pointer, target, next)
            }
            (Value::BufferEnd, Value::Pointer(pointer)) if width == Width::W64 && pointer.to == Target::Buffer => {
                self.compare_with_end(mirrored(cond), pointer, target, next)
            }
            _ => Err(Reason::PointerComparison),
        }
    }

    fn compare(
        &mut self,
        cond: Cond,
        width: Width,
        (dst, a): (Reg, &Num),
        (src, b): (Operand, &Num),
        target: usize,
        next: usize,
    ) -> Result<Next, Reason> {
        let orders = self.orders(cond, width, a, b);
        let decided = if distance(a, b) == Some(0) { cond.of_equals() } else { None };
        let side = |taken: bool| {
            if decided == Some(!taken) {
                return None;
            }
            let (x, y) = a.range.refine(cond, width, &b.range, taken)?;
            let order = orders[usize::from(!taken)].filter(|_| matches!(cond, Cond::Eq | Cond::Ne));
            let Some(order) = order else { return Some((x, y)) };
            let less = if order.low == a.link.symbol { Cond::Lt } else { Cond::Gt };
            x.refine(less, Width::W64, &y, true)
        };
        let mut sides = [side(true), side(false)];
        if matches!(cond, Cond::Eq | Cond::Ne) && orders != [None, None] {
            self.demand(Operand::Reg(dst));
            self.demand(src);
        }
        // Where the counter is known that something is filled by, more is filled.
        if !self.state.filled.is_empty() && [a, b].iter().any(|number| self.state.fills_by(number.link.symbol)) {
            self.demand(Operand::Reg(dst));
            self.demand(src);
        }
        self.demand_if_decided(&sides, Operand::Reg(dst), src);
        let linked = [a, b].map(|number| self.state.linked_to(number.link.symbol));
        if let [Some(_), Some(_)] = sides {
            linked.iter().for_each(|linked| self.note_linked(linked));
        }
        if matches!(cond, Cond::Eq | Cond::Ne) && self.is_trial() {
            let unequal = &mut sides[usize::from(cond == Cond::Eq)];
            *unequal = unequal.and_then(|(x, y)| Some((self.approaching(a, x, b)?, y)));
        }
        let both = [sides[0].as_ref().zip(Some(orders[0])), sides[1].as_ref().zip(Some(orders[1]))];
        self.split(both, target, next, |state, ((x, y), order)| {
            order.into_iter().for_each(|order| state.learn(order));
            narrow(state, dst, x);
            if let Operand::Reg(src) = src {
                narrow(state, src, y);
            }
            state.refine_linked(&linked[0], a.link, x)?;
            state.refine_linked(&linked[1], b.link, y)
        })
    }

    /// What a comparison says of the order of two unknown numbers, one of which is the counter of a loop that is being proved:
    /// where it is taken, and where it is not. That they are unequal says something if it is known which may be less; a trial
    /// supposes that the counter is still on its way.
    fn orders(&mut self, cond: Cond, width: Width, a: &Num, b: &Num) -> [Option<Order>; 2] {
        let none = [None, None];
        if self.attempts.is_empty() {
            return none;
        }
        let is_signed = matches!(cond, Cond::SLt | Cond::SLe | Cond::SGt | Cond::SGe);
        let between = |a, b| Order::between(a, b, width, is_signed);
        let (Some(up), Some(down)) = (between(a, b), between(b, a)) else { return none };
        let direction = |symbol: Id| {
            let classes = self.attempts.iter().flat_map(|attempt| &attempt.classes);
            classes.filter(|class| class.symbol == symbol).map(|class| class.direction()).next()
        };
        let (of_a, of_b) = (direction(a.link.symbol), direction(b.link.symbol));
        if of_a.is_none() && of_b.is_none() {
            return none;
        }
        match cond {
            Cond::Lt | Cond::SLt => [Some(up.strict()), Some(down)],
            Cond::Le | Cond::SLe => [Some(up), Some(down.strict())],
            Cond::Gt | Cond::SGt => [Some(down.strict()), Some(up)],
            Cond::Ge | Cond::SGe => [Some(down), Some(up.strict())],
            Cond::Eq | Cond::Ne => {
                let supposed = self.is_trial().then_some(match (of_a, of_b) {
                    (Some(by), _) if by > 0 => up,
                    (_, Some(by)) if by < 0 => up,
                    _ => down,
                });
                supposed.into_iter().for_each(|order| self.suppose(order));
                let known = [up, down].into_iter().find(|order| self.state.knows(*order));
                let unequal = known.or(supposed).map(Order::strict);
                if cond == Cond::Ne { [unequal, None] } else { [None, unequal] }
            }
            Cond::Set => none,
        }
    }

    /// In a trial, a counter that is compared for being unequal to a constant is supposed not to step over it. None: it has.
    fn approaching(&self, a: &Num, range: Scalar, b: &Num) -> Option<Scalar> {
        let Some(end) = b.is_constant() else { return Some(range) };
        let class =
            self.attempts.iter().flat_map(|attempt| &attempt.classes).find(|class| class.symbol == a.link.symbol);
        let Some(class) = class.filter(|_| a.link.symbol != 0) else { return Some(range) };
        let cond = if class.direction() * a.link.scale.signum() > 0 { Cond::SLt } else { Cond::SGt };
        range.refine(cond, Width::W64, &Scalar::constant(end), true).map(|(range, _)| range)
    }

    /// A branch whose outcome is known depends on its operands' numbers.
    fn demand_if_decided<T>(&mut self, sides: &[Option<T>; 2], dst: Operand, src: Operand) {
        if sides.iter().any(Option::is_none) {
            self.demand(dst);
            self.demand(src);
        }
    }

    /// Everything that a refinement of a symbol may change.
    fn note_linked(&mut self, linked: &Linked) {
        let (state, step) = (&self.state, &mut self.step);
        let _ = linked.each(|frame, at, is_cell| {
            let here = &state.frames[frame];
            let is_pointer = match is_cell {
                true => here.stack.spill(at).is_some_and(|(value, _)| !value.is_number()),
                false => !here.regs[at].is_number(),
            };
            let kind = match (is_cell, is_pointer) {
                (false, false) => EffectKind::LinkedReg,
                (false, true) => EffectKind::LinkedPointer,
                (true, false) => EffectKind::LinkedCell,
                (true, true) => EffectKind::LinkedPointerCell,
            };
            step.note(Effect { kind, frame: frame as u8, first: at as u8, last: at as u8 });
            Some(())
        });
    }

    /// Goes where a branch can go; with two ways, the one that stays in the innermost loop comes first.
    fn split<T: Copy>(
        &mut self,
        sides: [Option<T>; 2],
        target: usize,
        next: usize,
        apply: impl Fn(&mut State, T) -> Option<()>,
    ) -> Result<Next, Reason> {
        match sides {
            [Some(side), None] => {
                let possible = apply(&mut self.state, side);
                self.go_one_way(possible, target)
            }
            [None, Some(side)] => {
                let possible = apply(&mut self.state, side);
                self.go_one_way(possible, next)
            }
            [None, None] => self.go_one_way(None, next),
            [Some(taken), Some(passed)] => {
                let mut other = self.state.clone();
                match (apply(&mut other, taken), apply(&mut self.state, passed)) {
                    (Some(()), Some(())) => self.go_both_ways(other, target, next),
                    (Some(()), None) => {
                        self.state = other;
                        self.depend_on_everything();
                        self.go_one_way(Some(()), target)
                    }
                    (None, passed) => {
                        self.depend_on_everything();
                        self.go_one_way(passed, next)
                    }
                }
            }
        }
    }

    /// A link showed that a way is impossible: which of the linked numbers did is not looked for.
    fn depend_on_everything(&mut self) {
        self.step.note(Effect { kind: EffectKind::Everything, ..Effect::default() });
    }

    /// The way that is left; none where the state itself is impossible.
    fn go_one_way(&mut self, possible: Option<()>, to: usize) -> Result<Next, Reason> {
        self.commit();
        match possible {
            Some(()) => Ok(Next::Go(to)),
            None => Ok(Next::end(Need::all(self.state.frames.len()), Summary::default())),
        }
    }

    fn go_both_ways(&mut self, taken: State, target: usize, next: usize) -> Result<Next, Reason> {
        self.commit();
        self.push_node(2, None, 0);
        let innermost = self.state.loops.last();
        let stays = |to: usize| innermost.is_some_and(|active| self.graph.is_inside(to, active.head));
        // Of long loops the exits come first, so that they need not all wait.
        let is_long = innermost.is_some_and(|active| active.attempt == 0 && active.count > MANY_ROUNDS);
        if stays(target) != is_long && stays(next) == is_long {
            let passed = std::mem::replace(&mut self.state, taken);
            self.postpone(passed, next);
            Ok(Next::Go(target))
        } else {
            self.postpone(taken, target);
            Ok(Next::Go(next))
        }
    }

    fn null_check(
        &mut self,
        cond: Cond,
        width: Width,
        value: Value,
        target: usize,
        next: usize,
    ) -> Result<Next, Reason> {
        // Addresses are greater than 0.
        let equal = match cond {
            Cond::Eq => true,
            Cond::Ne => false,
            _ => return Err(Reason::PointerComparison),
        };
        if width == Width::W32 || matches!(value, Value::Function(_) | Value::BufferEnd) {
            return Err(Reason::PointerComparison);
        }
        let id = value.null_id();
        let sides = match (id, equal) {
            (0, true) => [None, Some(false)],
            (0, false) => [Some(false), None],
            (_, equal) => [Some(equal), Some(!equal)],
        };
        let record = matches!(value, Value::Pointer(Pointer { to: Target::Record(_), .. }));
        let object = if let Value::Pointer(pointer) = value { pointer.object } else { 0 };
        self.split(sides, target, next, |state, is_null| {
            if id != 0 {
                state.resolve_null(id, is_null);
                if record && is_null {
                    state.handles.retain(|handle| handle.id != object);
                }
            }
            Some(())
        })
    }

    /// Pointers into the same object compare as their offsets do, as long as these are not negative.
    fn compare_offsets(
        &mut self,
        cond: Cond,
        (dst, a): (Reg, Pointer),
        (src, b): (Operand, Pointer),
        target: usize,
        next: usize,
    ) -> Result<Next, Reason> {
        let is_equality = matches!(cond, Cond::Eq | Cond::Ne);
        let is_ordered = a.offset.range.smin() >= 0 && b.offset.range.smin() >= 0;
        let is_unsigned = matches!(cond, Cond::Gt | Cond::Ge | Cond::Lt | Cond::Le);
        if !is_equality && !is_unsigned {
            return Err(Reason::PointerComparison);
        }
        let refine = |taken| match is_equality || is_ordered {
            true => a.offset.range.refine(cond, Width::W64, &b.offset.range, taken),
            false => Some((a.offset.range, b.offset.range)),
        };
        let mut sides = [true, false].map(refine);
        if self.is_trial() && is_equality {
            let unequal = usize::from(cond == Cond::Eq);
            sides[unequal] = sides[unequal].and_then(|(x, y)| Some((self.approaching(&a.offset, x, &b.offset)?, y)));
        }
        if let [Some(_), Some(_)] = sides {
            for pointer in [&a, &b] {
                self.note_linked(&self.state.linked_to(pointer.offset.link.symbol));
            }
        }
        self.split(sides, target, next, |state, (x, y)| {
            let mut narrow = |reg: Reg, range: Scalar| {
                if let Value::Pointer(pointer) = &mut state.top_mut().regs[usize::from(reg)] {
                    pointer.offset.range = range;
                }
            };
            narrow(dst, x);
            if let Operand::Reg(src) = src {
                narrow(src, y);
            }
            state.refine(a.offset.link, &x)?;
            state.refine(b.offset.link, &y)
        })
    }

    /// A pointer at or before the end has room; so have others at a known distance.
    fn compare_with_end(&mut self, cond: Cond, pointer: Pointer, target: usize, next: usize) -> Result<Next, Reason> {
        // Bytes that are known to follow the pointer where the branch is taken, and where it is not.
        let room = match cond {
            Cond::Gt => [None, Some(0i64)],
            Cond::Ge => [None, Some(1)],
            Cond::Lt => [Some(1), None],
            Cond::Le => [Some(0), None],
            Cond::Eq => [Some(0), None],
            Cond::Ne => [None, Some(0)],
            _ => return Err(Reason::PointerComparison),
        };
        let offset = pointer.offset;
        self.split(room.map(Some), target, next, |state, room| {
            let Some(room) = room else { return Some(()) };
            state.for_each_value(|value| {
                if let Value::Pointer(other) = value
                    && other.to == Target::Buffer
                    && other.object == pointer.object
                    && let Some(behind) = distance(&other.offset, &offset)
                    && let Some(room) = room.checked_sub(behind)
                {
                    other.room = other.room.max(room);
                }
            });
            // A buffer is not larger than pointers may be far.
            let within = Scalar::signed(-FAR, MAX_BUFFER - room);
            state.refine(offset.link, &offset.range.meet(&within)?)
        })
    }

    /// In a trial: a counter of the loop that is tried out.
    fn is_counter(&self, number: &Num) -> bool {
        let of_trial = |symbol| {
            let trials = self.attempts.iter().filter(|attempt| attempt.is_trial);
            trials.flat_map(|attempt| &attempt.classes).any(|class| class.symbol == symbol)
        };
        !self.attempts.is_empty() && number.link.symbol != 0 && of_trial(number.link.symbol)
    }

    pub fn is_trial(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.is_trial)
    }
}

/// A number in a register was found to be in a smaller range.
fn narrow(state: &mut State, reg: Reg, range: &Scalar) {
    if state.reg(reg).number().is_some_and(|number| number.range != *range)
        && let Value::Number(number) = &mut state.top_mut().regs[usize::from(reg)]
    {
        number.range = *range;
    }
}

/// Bytes that a buffer may have at most.
const MAX_BUFFER: i64 = 0xffff;

/// How far `a` lies behind `b`, if that is known.
fn distance(a: &Num, b: &Num) -> Option<i64> {
    match (a.is_constant(), b.is_constant()) {
        (Some(a), Some(b)) => Some((a as i64).wrapping_sub(b as i64)),
        _ if a.link.symbol != 0 && a.link.symbol == b.link.symbol && a.link.scale == b.link.scale => {
            a.link.add.checked_sub(b.link.add)
        }
        _ => None,
    }
}

fn mirrored(cond: Cond) -> Cond {
    match cond {
        Cond::Gt => Cond::Lt,
        Cond::Ge => Cond::Le,
        Cond::Lt => Cond::Gt,
        Cond::Le => Cond::Ge,
        other => other,
    }
}

/// The link of a result, modulo 2^64.
fn linked(op: Alu, a: &Num, b: &Num) -> Option<Link> {
    let (x, y) = (a.is_constant(), b.is_constant());
    let (a, b) = (a.link, b.link);
    Some(match (op, x, y) {
        (Alu::Add, None, Some(by)) => Link { add: a.add.checked_add(by as i64)?, ..a },
        (Alu::Add, Some(by), None) => Link { add: b.add.checked_add(by as i64)?, ..b },
        (Alu::Sub, None, Some(by)) => Link { add: a.add.checked_sub(by as i64)?, ..a },
        (Alu::Sub, Some(from), None) => {
            Link { scale: b.scale.checked_neg()?, add: (from as i64).checked_sub(b.add)?, ..b }
        }
        (Alu::Mul, None, Some(by)) => times(a, by as i64)?,
        (Alu::Mul, Some(by), None) => times(b, by as i64)?,
        (Alu::Lsh, None, Some(by)) if by < 32 => times(a, 1 << by)?,
        (Alu::Add, None, None) if a.symbol == b.symbol => {
            Link { scale: a.scale.checked_add(b.scale)?, add: a.add.checked_add(b.add)?, ..a }
        }
        (Alu::Sub, None, None) if a.symbol == b.symbol => {
            Link { scale: a.scale.checked_sub(b.scale)?, add: a.add.checked_sub(b.add)?, ..a }
        }
        _ => return None,
    })
    .filter(|link| link.symbol != 0)
}

fn times(link: Link, by: i64) -> Option<Link> {
    Some(Link { scale: link.scale.checked_mul(by)?, add: link.add.checked_mul(by)?, ..link })
}

/// A 32-bit operation gives what the 64-bit one would: nothing is cut off.
fn is_same_in_64(op: Alu, a: &Num, b: &Num) -> bool {
    let most = match op {
        Alu::Add => a.range.umax().checked_add(b.range.umax()),
        Alu::Mul => a.range.umax().checked_mul(b.range.umax()),
        _ => None,
    };
    if most.is_some_and(|most| most <= u32::MAX.into()) {
        return true;
    }
    let wide = a.range.alu(op, &b.range, Width::W64);
    // The lower half of a result depends on the lower halves alone.
    wide.is_half()
}

fn leak(operand: Operand) -> Reason {
    match operand {
        Operand::Reg(reg) => Reason::PointerLeak(reg),
        Operand::Imm(_) => Reason::PointerArithmetic("mov"),
    }
}

fn name(op: Alu) -> &'static str {
    match op {
        Alu::Add => "an addition",
        Alu::Sub => "a subtraction",
        Alu::Mul => "a multiplication",
        Alu::Div | Alu::SDiv => "a division",
        Alu::Mod | Alu::SMod => "a remainder",
        Alu::Or | Alu::And | Alu::Xor => "a bit operation",
        Alu::Lsh | Alu::Rsh | Alu::Arsh => "a shift",
        Alu::Mov => "a copy",
    }
}
