//! What is left of a hash program for one layout of keys and one type: constants known, branches on them decided, what nobody
//! needs left out.
//!
//! The walk meets each instruction once, after all that lead to it, so a program that loops is not inlined; one that merely jumps
//! backwards, as compilers make of a `switch`, is. Nor is one that calls functions, or keeps pointers on its stack. What it knows of a register: a number, perhaps which one or that it is below 2^32; a
//! byte of the context, which has no address here; a place on the stack; or nothing.

use duckbpf_abi as abi;

use super::{HI, LEN, Layout, TYPE, WHOLE};
use crate::{
    helpers,
    isa::{self, Alu, Cond, Op, Operand, R10, Reg, Size, Width},
    jit::{
        emit::{Emitter, Inlined, Thing},
        templates::MURMUR_FACTOR,
    },
    object::Region,
};

/// A second operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Reg(Reg),
    Const(u64),
}

/// An instruction of a body. Registers are BPF's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// dst = a field of the key; or of the batch, `len` and `type`, unless keys are contexts.
    Field {
        dst: Reg,
        offset: u32,
        size: Size,
        signed: bool,
    },
    Const {
        dst: Reg,
        value: u64,
    },
    Alu {
        op: Alu,
        width: Width,
        dst: Reg,
        src: Source,
    },
    MovSx {
        width: Width,
        bits: u8,
        dst: Reg,
        src: Reg,
    },
    Neg {
        width: Width,
        dst: Reg,
    },
    Order {
        order: isa::ByteOrder,
        bits: u8,
        dst: Reg,
    },
    /// From the object's constants, or the stack.
    Load {
        size: Size,
        signed: bool,
        dst: Reg,
        base: Reg,
        off: i16,
    },
    /// To the stack.
    Store {
        size: Size,
        base: Reg,
        off: i16,
        src: Source,
    },
    Inlined(Inlined),
    Branch {
        cond: Cond,
        width: Width,
        dst: Reg,
        src: Source,
        to: usize,
    },
    /// To the mark of that number; usize::MAX is the end.
    Goto {
        to: usize,
    },
    /// Where jumps of that number lead to.
    Mark(usize),
}

pub const END: usize = usize::MAX;

/// Ends with the hash in r0, and by falling through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    pub steps: Vec<Step>,
}

/// What is known of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Number,
    /// Below 2^32.
    Short,
    Known(u64),
    /// A byte of the context.
    Context(i64),
    /// Somewhere on the stack.
    Stack,
    /// Nothing, or different things on different ways.
    Unusable,
}

impl Value {
    fn join(self, other: Value) -> Value {
        let is_short = |value| match value {
            Value::Short => true,
            Value::Known(value) => value <= u64::from(u32::MAX),
            _ => false,
        };
        match (self, other) {
            _ if self == other => self,
            _ if !self.is_number() || !other.is_number() => Value::Unusable,
            _ if is_short(self) && is_short(other) => Value::Short,
            _ => Value::Number,
        }
    }

    fn known(self) -> Option<u64> {
        if let Value::Known(value) = self { Some(value) } else { None }
    }

    fn is_number(self) -> bool {
        matches!(self, Value::Number | Value::Short | Value::Known(_))
    }

    /// What an operation of 32 bits leaves.
    fn of(width: Width) -> Value {
        if width == Width::W32 { Value::Short } else { Value::Number }
    }
}

type State = [Value; 11];

/// How a function that has no loop is walked.
pub struct Order {
    /// Each after all that lead to it; what follows an instruction comes next where it can.
    slots: Vec<usize>,
    /// By slot, during a walk: what is known where jumps lead to it; None: none does so far. Each walk leaves it as it was, for the next.
    before: Vec<Option<State>>,
    /// By slot: whether anything but the slot before it in the order may lead there.
    marks: Vec<bool>,
}

#[derive(Clone, Copy, PartialEq)]
enum Visit {
    Never,
    /// On the way to where the search is.
    Open,
    Done,
}

impl Order {
    /// None: it loops.
    pub fn new(code: &[Option<Op>]) -> Option<Order> {
        let mut visits = vec![Visit::Never; code.len()];
        let mut slots = Vec::with_capacity(code.len());
        let mut way = vec![(0, 0)];
        *visits.first_mut()? = Visit::Open;
        while let Some((pc, tried)) = way.last_mut() {
            match leads_to(code, *pc)?.get(*tried) {
                Some(Some(to)) => {
                    *tried += 1;
                    match visits.get_mut(*to)? {
                        Visit::Open => return None,
                        Visit::Done => {}
                        visit => {
                            *visit = Visit::Open;
                            way.push((*to, 0));
                        }
                    }
                }
                Some(None) => *tried += 1,
                None => {
                    visits[*pc] = Visit::Done;
                    slots.push(*pc);
                    way.pop();
                }
            }
        }
        slots.reverse();
        let mut marks = vec![false; code.len()];
        for (index, &pc) in slots.iter().enumerate() {
            let [jump, next] = leads_to(code, pc)?;
            let next = next.filter(|next| slots.get(index + 1) != Some(next));
            jump.into_iter().chain(next).for_each(|to| marks[to] = true);
        }
        Some(Order { slots, before: vec![None; code.len()], marks })
    }
}

fn join(a: &State, b: &State) -> State {
    std::array::from_fn(|reg| a[reg].join(b[reg]))
}

/// Of a jump by so many slots.
fn target(pc: usize, off: i32) -> Option<usize> {
    usize::try_from(pc as i64 + 1 + i64::from(off)).ok()
}

/// Where a slot's instruction leads: by a jump, and to the next one.
fn leads_to(code: &[Option<Op>], pc: usize) -> Option<[Option<usize>; 2]> {
    let op = (*code.get(pc)?)?;
    let jump = match op.jump() {
        Some(off) => Some(target(pc, off)?),
        None => None,
    };
    Some([jump, op.falls_through().then_some(pc + op.slots())])
}

impl Body {
    /// None: it cannot be inlined.
    pub fn new(emitter: &Emitter<'_>, order: &mut Order, layout: Layout, ty: Option<u32>) -> Option<Body> {
        let steps = Vec::with_capacity(order.slots.len());
        let mut walk = Walk { emitter, layout, ty, before: &mut order.before, marks: &order.marks, steps };
        if walk.all(&order.slots).is_none() {
            walk.before.fill(None);
            return None;
        }
        let mut body = Body { steps: walk.steps };
        body.drop_needless_jumps();
        body.fold_extensions();
        body.drop_dead();
        Some(body)
    }

    /// Without branches.
    pub fn is_straight(&self) -> bool {
        !self.steps.iter().any(|step| matches!(step, Step::Branch { .. } | Step::Goto { .. }))
    }

    /// Of keys, no other field.
    pub fn reads_only_whole(&self) -> bool {
        self.steps.iter().all(|step| match step {
            Step::Field { offset, .. } => (WHOLE..LEN).contains(offset),
            _ => true,
        })
    }

    /// It returns `whole` as it is.
    pub fn is_whole(&self) -> bool {
        matches!(self.steps[..], [Step::Field { dst: 0, offset: WHOLE, size: Size::D, .. }])
    }

    /// Of the key itself it reads no more bytes than an integer of that size has: how the others follow from it does not matter.
    pub fn reads_within(&self, of: Size) -> bool {
        self.steps.iter().all(|step| match *step {
            Step::Field { offset, size, .. } => offset >= HI || offset + size.bytes() <= of.bytes(),
            _ => true,
        })
    }

    /// Jumps to where the code goes anyway, and marks to which no jump leads.
    fn drop_needless_jumps(&mut self) {
        let mut kept: Vec<Step> = Vec::with_capacity(self.steps.len());
        // From the end, the marks that follow directly.
        let mut here = vec![END];
        for &step in self.steps.iter().rev() {
            match step {
                Step::Goto { to } if here.contains(&to) => continue,
                Step::Mark(mark) => here.push(mark),
                _ => here.clear(),
            }
            kept.push(step);
        }
        kept.reverse();
        let targets: Vec<usize> = kept.iter().filter_map(|step| step.target()).collect();
        kept.retain(|step| !matches!(step, Step::Mark(mark) if !targets.contains(mark)));
        self.steps = kept;
    }

    /// Two shifts by 32 that extend the lower half, as clang writes it; of a field that was just read, that is how to read it.
    fn fold_extensions(&mut self) {
        let by_32 = |step: Option<&Step>, shift| match step {
            Some(&Step::Alu { op, width: Width::W64, dst, src: Source::Const(32) }) if op == shift => Some(dst),
            _ => None,
        };
        let mut kept: Vec<Step> = Vec::with_capacity(self.steps.len());
        for &step in &self.steps {
            let signed = by_32(Some(&step), Alu::Arsh);
            let extended = signed.or(by_32(Some(&step), Alu::Rsh));
            let Some(reg) = extended.filter(|_| by_32(kept.last(), Alu::Lsh) == extended) else {
                kept.push(step);
                continue;
            };
            kept.pop();
            match kept.last_mut() {
                Some(Step::Field { dst, size: size @ Size::D, signed: is_signed, .. }) if *dst == reg => {
                    (*size, *is_signed) = (Size::W, signed.is_some());
                }
                _ if signed.is_some() => kept.push(Step::MovSx { width: Width::W64, bits: 32, dst: reg, src: reg }),
                _ => kept.push(Step::Alu { op: Alu::Mov, width: Width::W32, dst: reg, src: Source::Reg(reg) }),
            }
        }
        self.steps = kept;
    }

    /// What sets registers that are not read again. Steps jump forward, so one pass from the end sees every use first.
    fn drop_dead(&mut self) {
        let mut marks: Vec<(usize, u16)> = vec![(END, 1)];
        let mut live: u16 = 1;
        let at =
            |marks: &[(usize, u16)], to: usize| marks.iter().find(|(mark, _)| *mark == to).map_or(0, |(_, live)| *live);
        let mut kept: Vec<Step> = Vec::with_capacity(self.steps.len());
        for &step in self.steps.iter().rev() {
            match step {
                Step::Mark(mark) => marks.push((mark, live)),
                Step::Goto { to } => live = at(&marks, to),
                Step::Branch { to, .. } => live |= at(&marks, to) | step.reads(),
                Step::Store { .. } => live |= step.reads(),
                _ => {
                    let written = step.written();
                    if live & written == 0 {
                        continue;
                    }
                    live = live & !written | step.reads();
                }
            }
            kept.push(step);
        }
        kept.reverse();
        self.steps = kept;
    }
}

impl Step {
    /// Registers as a bit set.
    pub fn written(self) -> u16 {
        match self {
            Step::Field { dst, .. }
            | Step::Const { dst, .. }
            | Step::Alu { dst, .. }
            | Step::MovSx { dst, .. }
            | Step::Neg { dst, .. }
            | Step::Order { dst, .. }
            | Step::Load { dst, .. } => 1 << dst,
            Step::Inlined(_) => 1,
            Step::Store { .. } | Step::Branch { .. } | Step::Goto { .. } | Step::Mark(_) => 0,
        }
    }

    fn target(self) -> Option<usize> {
        if let Step::Goto { to } | Step::Branch { to, .. } = self { Some(to) } else { None }
    }

    pub fn reads(self) -> u16 {
        let source = |src| match src {
            Source::Reg(reg) => 1u16 << reg,
            Source::Const(_) => 0,
        };
        match self {
            Step::Alu { op: Alu::Mov, src, .. } => source(src),
            Step::Alu { dst, src, .. } | Step::Branch { dst, src, .. } => 1 << dst | source(src),
            Step::MovSx { src, .. } => 1 << src,
            Step::Neg { dst, .. } | Step::Order { dst, .. } => 1 << dst,
            Step::Load { base, .. } => 1 << base,
            Step::Store { base, src, .. } => 1 << base | source(src),
            Step::Inlined(Inlined::Mul128Fold) => 0b110,
            Step::Inlined(Inlined::Murmur64) => 0b10,
            Step::Inlined(Inlined::Crc32c { .. }) => 0b1010,
            Step::Field { .. } | Step::Const { .. } | Step::Goto { .. } | Step::Mark(_) => 0,
        }
    }

    /// Registers whose machine register the step changes, its result apart.
    pub fn clobbered(self) -> u16 {
        // mul leaves the upper half in rdx.
        if matches!(self, Step::Inlined(Inlined::Mul128Fold)) { 1 << 3 } else { 0 }
    }
}

struct Walk<'a, 'b> {
    emitter: &'a Emitter<'b>,
    layout: Layout,
    ty: Option<u32>,
    before: &'a mut [Option<State>],
    marks: &'a [bool],
    steps: Vec<Step>,
}

impl Walk<'_, '_> {
    /// None: it cannot be inlined.
    fn all(&mut self, slots: &[usize]) -> Option<()> {
        let mut state = [Value::Unusable; 11];
        state[1] = Value::Context(0);
        state[usize::from(R10)] = Value::Stack;
        // Whether the step before leads here.
        let mut flows = true;
        for (index, &pc) in slots.iter().enumerate() {
            if let Some(before) = self.before[pc].take() {
                state = if flows { join(&before, &state) } else { before };
            } else if !flows {
                continue;
            }
            if self.marks[pc] {
                self.steps.push(Step::Mark(pc));
            }
            let next = self.step(pc, self.emitter.verified.graph().ops[pc]?, &mut state)?;
            flows = next.is_some() && next.as_ref() == slots.get(index + 1);
            if let Some(to) = next.filter(|_| !flows) {
                self.lead(to, &state)?;
                self.steps.push(Step::Goto { to });
            }
        }
        Some(())
    }

    /// The slot that comes next, unless the instruction jumps or ends. None: it cannot be inlined.
    fn step(&mut self, pc: usize, op: Op, state: &mut State) -> Option<Option<usize>> {
        match op {
            Op::Exit => {
                if !state[0].is_number() {
                    return None;
                }
                self.steps.push(Step::Goto { to: END });
                return Some(None);
            }
            Op::Goto { off } => return target(pc, off).map(Some),
            Op::Branch { cond, width, dst, src, off } => return self.branch(pc, (cond, width, dst, src), off, state),
            op => self.plain(op, state)?,
        }
        Some(Some(pc + op.slots()))
    }

    /// A way to another slot, by a jump.
    fn lead(&mut self, to: usize, state: &State) -> Option<()> {
        let before = self.before.get_mut(to)?;
        *before = Some(before.as_ref().map_or(*state, |before| join(before, state)));
        Some(())
    }

    fn branch(
        &mut self,
        pc: usize,
        (cond, width, dst, src): (Cond, Width, Reg, Operand),
        off: i16,
        state: &State,
    ) -> Option<Option<usize>> {
        let (a, b) = (state[usize::from(dst)], self.operand(state, src)?);
        let taken = match (a, b) {
            (Value::Known(a), Value::Known(b)) => Some(isa::compare(cond, width, a, b)),
            // A null check of what is never null.
            (Value::Context(_), Value::Known(0)) if width == Width::W64 && matches!(cond, Cond::Eq | Cond::Ne) => {
                Some(cond == Cond::Ne)
            }
            _ if a.is_number() && b.is_number() => None,
            _ => return None,
        };
        if taken != Some(false) {
            let to = target(pc, off.into())?;
            if taken == Some(true) {
                return Some(Some(to));
            }
            self.lead(to, state)?;
            self.steps.push(Step::Branch { cond, width, dst, src: source(src, b), to });
        }
        Some(Some(pc + 1))
    }

    fn operand(&self, state: &State, src: Operand) -> Option<Value> {
        match src {
            Operand::Imm(imm) => Some(Value::Known(i64::from(imm) as u64)),
            Operand::Reg(reg) => Some(state[usize::from(reg)]).filter(|value| *value != Value::Unusable),
        }
    }

    /// An instruction that leads to the next one.
    fn plain(&mut self, op: Op, state: &mut State) -> Option<()> {
        let (dst, value) = match op {
            Op::Alu { op, width, dst, src } => (dst, self.alu(state, op, width, dst, src)?),
            Op::MovSx { width, bits, dst, src } => (
                dst,
                self.unary(
                    state,
                    dst,
                    src,
                    width,
                    |value| {
                        let extended = isa::sign_extend(value, bits.into());
                        if width == Width::W32 { extended & 0xffff_ffff } else { extended }
                    },
                    Step::MovSx { width, bits, dst, src },
                )?,
            ),
            Op::Neg { width, dst } => (
                dst,
                self.unary(
                    state,
                    dst,
                    dst,
                    width,
                    |value| {
                        let negated = value.wrapping_neg();
                        if width == Width::W32 { negated & 0xffff_ffff } else { negated }
                    },
                    Step::Neg { width, dst },
                )?,
            ),
            Op::Order { order, bits, dst } => {
                let width = if bits < 64 { Width::W32 } else { Width::W64 };
                (
                    dst,
                    self.unary(
                        state,
                        dst,
                        dst,
                        width,
                        |value| isa::byte_order(order, bits, value),
                        Step::Order { order, bits, dst },
                    )?,
                )
            }
            Op::Const { dst, value } => (dst, Value::Known(value)),
            Op::Address { dst, region, offset } => (dst, Value::Known(self.emitter.address(region, offset).ok()?)),
            Op::Load { size, signed, dst, base, off } => (dst, self.load(state, size, signed, dst, base, off)?),
            Op::Store { size, base, off, src } => {
                let value = self.operand(state, src)?;
                if state[usize::from(base)] != Value::Stack || !value.is_number() {
                    return None;
                }
                self.steps.push(Step::Store { size, base, off, src: source(src, value) });
                return Some(());
            }
            Op::Helper { id } => return self.helper(id, state),
            _ => return None,
        };
        state[usize::from(dst)] = value;
        // A constant is set at once; if nobody reads the register, that is dropped later.
        if let Value::Known(value) = value {
            self.steps.push(Step::Const { dst, value });
        }
        Some(())
    }

    fn alu(&mut self, state: &State, op: Alu, width: Width, dst: Reg, src: Operand) -> Option<Value> {
        let (a, b) = (state[usize::from(dst)], self.operand(state, src)?);
        let step = Step::Alu { op, width, dst, src: source(src, b) };
        if op == Alu::Mov {
            return Some(match (b, width) {
                (Value::Known(value), _) => Value::Known(isa::alu(op, width, 0, value)),
                (Value::Context(_), Width::W64) => b,
                (Value::Context(_) | Value::Stack, Width::W32) => return None,
                // Short already: nothing to do.
                (Value::Short, _) if src == Operand::Reg(dst) => Value::Short,
                (value, width) => {
                    self.steps.push(step);
                    if width == Width::W32 { Value::Short } else { value }
                }
            });
        }
        Some(match (a, b) {
            (Value::Known(a), Value::Known(b)) => Value::Known(isa::alu(op, width, a, b)),
            (Value::Context(offset), Value::Known(by)) if width == Width::W64 && op == Alu::Add => {
                Value::Context(offset.wrapping_add(by as i64))
            }
            (Value::Context(offset), Value::Known(by)) if width == Width::W64 && op == Alu::Sub => {
                Value::Context(offset.wrapping_sub(by as i64))
            }
            (Value::Stack, b) if b.is_number() && width == Width::W64 && matches!(op, Alu::Add | Alu::Sub) => {
                self.steps.push(step);
                Value::Stack
            }
            _ if a.is_number() && b.is_number() => {
                self.steps.push(step);
                let stays_short = a == Value::Short && matches!(op, Alu::And | Alu::Rsh | Alu::Div | Alu::Mod)
                    || b.known().is_some_and(|b| op == Alu::And && b <= u64::from(u32::MAX))
                    || a == Value::Short && b == Value::Short && matches!(op, Alu::Or | Alu::Xor);
                if stays_short { Value::Short } else { Value::of(width) }
            }
            _ => return None,
        })
    }

    fn unary(
        &mut self,
        state: &State,
        dst: Reg,
        src: Reg,
        width: Width,
        compute: impl Fn(u64) -> u64,
        step: Step,
    ) -> Option<Value> {
        debug_assert!(step.written() == 1 << dst);
        match state[usize::from(src)] {
            Value::Known(value) => Some(Value::Known(compute(value))),
            value if value.is_number() => {
                self.steps.push(step);
                Some(Value::of(width))
            }
            _ => None,
        }
    }

    fn load(&mut self, state: &State, size: Size, signed: bool, dst: Reg, base: Reg, off: i16) -> Option<Value> {
        match state[usize::from(base)] {
            Value::Context(at) => {
                let offset = u32::try_from(at + i64::from(off)).ok()?;
                self.field(offset, size, signed, dst)
            }
            Value::Known(address) => {
                let address = address.wrapping_add(i64::from(off) as u64);
                if let Some(value) = self.constant_at(address, size) {
                    return Some(Value::Known(if signed { isa::sign_extend(value, size.bits()) } else { value }));
                }
                self.steps.push(Step::Load { size, signed, dst, base, off });
                Some(if size != Size::D && !signed { Value::Short } else { Value::Number })
            }
            Value::Unusable => None,
            _ => {
                self.steps.push(Step::Load { size, signed, dst, base, off });
                Some(if size != Size::D && !signed { Value::Short } else { Value::Number })
            }
        }
    }

    /// A field of the context. What the layout or the type says already is a constant.
    fn field(&mut self, offset: u32, size: Size, signed: bool, dst: Reg) -> Option<Value> {
        let word = if offset < LEN { 8 } else { 4 };
        if offset % word + size.bytes() > word || offset >= size_of::<abi::duckbpf_hash_ctx>() as u32 {
            return None;
        }
        let is_zero = match self.layout {
            Layout::Integers(..) => (HI..LEN).contains(&offset),
            Layout::Pairs => (WHOLE..LEN).contains(&offset),
            Layout::Contexts | Layout::Wholes => false,
        };
        if is_zero {
            return Some(Value::Known(0));
        }
        if let (Some(ty), TYPE..) = (self.ty, offset) {
            let value = u64::from(ty) >> (8 * (offset - TYPE)) & (u64::MAX >> (64 - size.bits()));
            return Some(Value::Known(if signed { isa::sign_extend(value, size.bits()) } else { value }));
        }
        self.steps.push(Step::Field { dst, offset, size, signed });
        let narrow_key = matches!(self.layout, Layout::Integers(of, false) if of != Size::D && offset < HI);
        Some(if !signed && (size != Size::D || narrow_key) { Value::Short } else { Value::Number })
    }

    /// What the object's constants hold at an address: they never change.
    fn constant_at(&self, address: u64, size: Size) -> Option<u64> {
        let maps = self.emitter.bindings.memory.regions();
        let regions: &[Region] = &self.emitter.verified.object().regions;
        let (map, region) = maps.iter().zip(regions).find(|(map, _)| {
            let start = map.address as u64;
            !map.writable && address >= start && address + u64::from(size.bytes()) <= start + map.size as u64
        })?;
        let offset = (address - map.address as u64) as usize;
        let byte = |index| u64::from(region.bytes.get(offset + index).copied().unwrap_or(0));
        Some((0..size.bytes() as usize).map(|index| byte(index) << (8 * index)).sum())
    }

    fn helper(&mut self, id: u32, state: &mut State) -> Option<()> {
        let inlined = Inlined::of(helpers::find(id)?.name, state[2].known().map(Thing::Number))?;
        match inlined {
            Inlined::Mul128Fold if state[1].is_number() && state[2].is_number() => {
                self.steps.push(Step::Inlined(inlined));
            }
            // As steps of its own it is open to AVX2. A call leaves r1 to r5 to anybody.
            Inlined::Murmur64 if state[1].is_number() => self.murmur(),
            Inlined::Crc32c { .. } if state[1] == Value::Stack && state[3].is_number() => {
                self.steps.push(Step::Inlined(inlined));
            }
            _ => return None,
        }
        state[..6].fill(Value::Unusable);
        state[0] = if matches!(inlined, Inlined::Crc32c { .. }) { Value::Short } else { Value::Number };
        Some(())
    }

    fn murmur(&mut self) {
        let mut alu = |op, dst, src| self.steps.push(Step::Alu { op, width: Width::W64, dst, src });
        alu(Alu::Mov, 0, Source::Reg(1));
        for round in 0..3 {
            alu(Alu::Mov, 1, Source::Reg(0));
            alu(Alu::Rsh, 1, Source::Const(32));
            alu(Alu::Xor, 0, Source::Reg(1));
            if round < 2 {
                alu(Alu::Mul, 0, Source::Const(MURMUR_FACTOR));
            }
        }
    }
}

fn source(operand: Operand, value: Value) -> Source {
    match (operand, value.known()) {
        (Operand::Imm(imm), _) => Source::Const(i64::from(imm) as u64),
        (Operand::Reg(_), Some(value)) => Source::Const(value),
        (Operand::Reg(reg), None) => Source::Reg(reg),
    }
}
