//! The walk: what registers and stack hold at each instruction, and whether the instruction may do what it does.

use std::rc::Rc;

use super::{
    Facts, MAX_STEPS, Reason, STACK,
    graph::Graph,
    rejection::Stop,
    rules::{Rules, rules},
};
use crate::{
    helpers::{self, ArgKind},
    hook::Hook,
    isa::{self, Alu, Atomic, Cond, Op, Operand, R10, Reg, Size, Width},
    object::{ProgramText, Region},
};

/// What a register holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Value {
    /// Nothing, or different things on different ways.
    #[default]
    Unset,
    /// A number, perhaps a known one.
    Scalar(Option<u64>),
    /// A byte of the context.
    Context(i64),
    /// A byte of a frame's stack, counted from its end.
    Stack { frame: usize, offset: i64 },
    /// A byte of a region of global variables.
    Memory { region: usize, offset: i64 },
}

impl Value {
    const ANY: Value = Value::Scalar(None);

    fn is_scalar(self) -> bool {
        matches!(self, Value::Scalar(_))
    }

    /// What holds on both ways.
    fn join(self, other: Value) -> Value {
        match (self, other) {
            _ if self == other => self,
            (Value::Scalar(_), Value::Scalar(_)) => Value::ANY,
            _ => Value::Unset,
        }
    }

    /// A pointer moved by a number of bytes; None: out of all bounds, or no pointer.
    fn moved(self, by: i64) -> Option<Value> {
        const FAR: i64 = 1 << 29;
        let shift = |offset: i64| offset.checked_add(by).filter(|offset| (-FAR..=FAR).contains(offset));
        Some(match self {
            Value::Context(offset) => Value::Context(shift(offset)?),
            Value::Stack { frame, offset } => Value::Stack { frame, offset: shift(offset)? },
            Value::Memory { region, offset } => Value::Memory { region, offset: shift(offset)? },
            Value::Unset | Value::Scalar(_) => return None,
        })
    }
}

/// Eight bytes of stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// Bytes of numbers: the bit set says which were written. A part of a pointer counts as not written.
    Bytes(u8),
    /// A whole register.
    Spill(Value),
}

impl Slot {
    fn written(self) -> u8 {
        match self {
            Slot::Bytes(written) => written,
            Slot::Spill(value) if value.is_scalar() => 0xff,
            Slot::Spill(_) => 0,
        }
    }

    fn join(self, other: Slot) -> Slot {
        match (self, other) {
            (Slot::Spill(a), Slot::Spill(b)) if a.join(b) != Value::Unset => Slot::Spill(a.join(b)),
            _ => Slot::Bytes(self.written() & other.written()),
        }
    }
}

const SLOTS: usize = STACK as usize / 8;

/// A function's stack.
#[derive(Clone, Debug)]
struct Frame {
    slots: [Slot; SLOTS],
    /// Bytes that are used.
    depth: u32,
}

impl Frame {
    fn new() -> Rc<Frame> {
        Rc::new(Frame { slots: [Slot::Bytes(0); SLOTS], depth: 0 })
    }

    fn join(&mut self, other: &Frame) {
        for (slot, other) in self.slots.iter_mut().zip(&other.slots) {
            *slot = slot.join(*other);
        }
        self.depth = self.depth.max(other.depth);
    }
}

/// What is known before an instruction.
#[derive(Clone, Debug, Default)]
struct State {
    regs: [Value; 11],
    /// The callers' first.
    frames: Vec<Rc<Frame>>,
    /// The most that it cost to come here.
    cost: u64,
}

impl State {
    fn entry() -> State {
        let mut regs = [Value::Unset; 11];
        regs[1] = Value::Context(0);
        regs[usize::from(R10)] = Value::Stack { frame: 0, offset: 0 };
        State { regs, frames: vec![Frame::new()], cost: 0 }
    }

    fn join(&mut self, other: &State) {
        for (value, other) in self.regs.iter_mut().zip(&other.regs) {
            *value = value.join(*other);
        }
        for (frame, other) in self.frames.iter_mut().zip(&other.frames) {
            if !Rc::ptr_eq(frame, other) {
                Rc::make_mut(frame).join(other);
            }
        }
        self.cost = self.cost.max(other.cost);
    }

    fn get(&self, reg: Reg) -> Result<Value, Reason> {
        match self.regs[usize::from(reg)] {
            Value::Unset => Err(Reason::Uninitialised(reg)),
            value => Ok(value),
        }
    }

    fn set(&mut self, reg: Reg, value: Value) {
        self.regs[usize::from(reg)] = value;
    }

    fn operand(&self, operand: Operand) -> Result<Value, Reason> {
        match operand {
            Operand::Reg(reg) => self.get(reg),
            Operand::Imm(imm) => Ok(Value::Scalar(Some(i64::from(imm) as u64))),
        }
    }

    /// A register that must hold a number: addresses do not leave the program.
    fn scalar(&self, reg: Reg) -> Result<Option<u64>, Reason> {
        match self.get(reg)? {
            Value::Scalar(known) => Ok(known),
            _ => Err(Reason::PointerLeak(reg)),
        }
    }
}

/// A place that an instruction accesses, inside its bounds.
#[derive(Clone, Copy)]
enum Place {
    Context(u32),
    /// Frame, first byte counted from the stack's lower end.
    Stack(usize, usize),
    Memory,
}

/// A value of the context that a specialised copy of the program may count on.
#[derive(Clone, Copy, Debug)]
pub struct Assumption {
    pub offset: u32,
    pub size: u32,
    pub value: u64,
}

/// The first function under assumptions: what is left of it.
#[derive(Debug)]
pub struct Specialised {
    /// Slots that can still be reached, in an order in which each comes after all that lead to it.
    pub reached: Vec<bool>,
    /// By slot: where a branch always goes (true: jumps), if that is known now.
    pub branches: Vec<Option<bool>>,
    /// By slot: the number that the instruction sets its register to, if that is known now.
    pub constants: Vec<Option<u64>>,
}

struct Walk<'a> {
    program: &'a ProgramText,
    graph: &'a Graph,
    regions: &'a [Region],
    rules: &'static Rules,
    hook: Hook,
    facts: Facts,
    assumptions: &'a [Assumption],
    specialised: Option<Specialised>,
}

/// Checks a program.
pub fn check(program: &ProgramText, graph: &Graph, regions: &[Region], hook: Hook) -> Result<Facts, Stop> {
    let mut walk = Walk::new(program, graph, regions, hook, &[]);
    let exit = walk.function(0, State::entry())?;
    let cost = exit.cost;
    if cost > walk.rules.ceiling {
        let reason = Reason::TooCostly { cost, ceiling: walk.rules.ceiling };
        return Err(Stop { pc: program.functions[0].start, reason });
    }
    walk.facts.worst_cost = cost;
    Ok(walk.facts)
}

/// What is left of a checked program's first function when some of its context is known.
pub fn specialise(
    program: &ProgramText,
    graph: &Graph,
    regions: &[Region],
    hook: Hook,
    assumptions: &[Assumption],
) -> Option<Specialised> {
    let mut walk = Walk::new(program, graph, regions, hook, assumptions);
    let slots = program.functions[0].end;
    walk.specialised =
        Some(Specialised { reached: vec![false; slots], branches: vec![None; slots], constants: vec![None; slots] });
    walk.function(0, State::entry()).ok()?;
    walk.specialised
}

impl<'a> Walk<'a> {
    fn new(
        program: &'a ProgramText,
        graph: &'a Graph,
        regions: &'a [Region],
        hook: Hook,
        assumptions: &'a [Assumption],
    ) -> Walk<'a> {
        let facts = Facts {
            stack: vec![0; program.functions.len()],
            context_loads: vec![None; program.functions[0].end],
            ..Facts::default()
        };
        Walk { program, graph, regions, rules: rules(hook), hook, facts, assumptions, specialised: None }
    }

    /// Walks one call of a function and returns what is known at its end.
    fn function(&mut self, index: usize, entry: State) -> Result<State, Stop> {
        let function = &self.program.functions[index];
        let mut waiting: Vec<Option<Box<State>>> = vec![None; function.end - function.start];
        // What the instruction before leads to here, if it does; mostly that is all.
        let (mut state, mut carried) = (entry, true);
        let mut exit: Option<Box<State>> = None;
        let graph = self.graph;
        for (position, &pc) in graph.orders[index].iter().enumerate() {
            match (carried, waiting[pc - function.start].take()) {
                (true, Some(other)) => state.join(&other),
                (true, None) => {}
                (false, Some(other)) => state = *other,
                // A specialised walk does not come here.
                (false, None) => continue,
            }
            carried = false;
            let op = graph.op(pc)?;
            let taken = self.instruction(index, pc, op, &mut state)?;
            if op == Op::Exit {
                merge(&mut exit, &state);
                continue;
            }
            let next = op.falls_through().then(|| pc + op.slots()).filter(|_| taken != Some(true));
            let target =
                op.jump().map(|off| (pc as i64 + 1 + i64::from(off)) as usize).filter(|_| taken != Some(false));
            if let (Some(target), true) = (target, next.is_some()) {
                merge(&mut waiting[target - function.start], &state);
            }
            match next.or(target) {
                Some(to) if graph.orders[index].get(position + 1) == Some(&to) => carried = true,
                Some(to) => merge(&mut waiting[to - function.start], &state),
                None => {}
            }
        }
        // Without loops every walk ends in an exit.
        exit.map(|state| *state).ok_or(Stop { pc: function.start, reason: Reason::FallsOff })
    }

    /// Counts one instruction, checks it and does it. Some: which way a branch goes in a specialised walk.
    fn instruction(&mut self, index: usize, pc: usize, op: Op, state: &mut State) -> Result<Option<bool>, Stop> {
        let stop = |reason| Stop { pc, reason };
        self.facts.steps += 1;
        if self.facts.steps > MAX_STEPS {
            return Err(stop(Reason::TooComplex(MAX_STEPS)));
        }
        state.cost = state.cost.saturating_add(1);
        let is_first = index == 0 && state.frames.len() == 1;
        let mut taken = None;
        match op {
            Op::Exit => self.leave(index, state).map_err(stop)?,
            Op::Local { off } => {
                let callee = Graph::callee(self.program, pc, off).ok_or(stop(Reason::CallTarget))?;
                *state = self.call(callee, std::mem::take(state))?;
            }
            Op::Branch { cond, width, dst, src, .. } => {
                let decided = self.branch(state, cond, width, dst, src).map_err(stop)?;
                taken = decided.filter(|_| self.specialised.is_some());
            }
            op => self.step(op, pc, is_first, state).map_err(stop)?,
        }
        if let (Some(specialised), true) = (&mut self.specialised, is_first) {
            specialised.reached[pc] = true;
            specialised.branches[pc] = taken;
            if let Some(Value::Scalar(known)) = op.written().map(|reg| state.regs[usize::from(reg)]) {
                specialised.constants[pc] = known;
            }
        }
        Ok(taken)
    }

    fn call(&mut self, callee: usize, mut state: State) -> Result<State, Stop> {
        self.facts.has_calls = true;
        let saved = state.regs;
        let frame = state.frames.len();
        state.frames.push(Frame::new());
        for reg in [0, 6, 7, 8, 9] {
            state.set(reg, Value::Unset);
        }
        state.set(R10, Value::Stack { frame, offset: 0 });
        let mut exit = self.function(callee, state)?;
        let result = exit.regs[0];
        exit.regs = saved;
        exit.regs[..6].fill(Value::Unset);
        exit.set(0, result);
        Ok(exit)
    }

    /// The function's end: what it returns, and what remains of its stack.
    fn leave(&mut self, index: usize, state: &mut State) -> Result<(), Reason> {
        let frame = state.frames.len() - 1;
        let result = state.regs[0];
        if frame == 0 {
            state.scalar(0)?;
        } else if matches!(result, Value::Stack { frame: of, .. } if of == frame) {
            return Err(Reason::StackEscape);
        }
        if let Some(own) = state.frames.pop() {
            self.facts.stack[index] = self.facts.stack[index].max(own.depth);
        }
        Ok(())
    }

    fn step(&mut self, op: Op, pc: usize, is_first: bool, state: &mut State) -> Result<(), Reason> {
        match op {
            Op::Alu { op, width, dst, src } => {
                let value = arithmetic(state, op, width, dst, src)?;
                state.set(dst, value);
            }
            Op::MovSx { width, bits, dst, src } => {
                let extend = |value| {
                    let wide = isa::sign_extend(value, u32::from(bits));
                    if width == Width::W32 { u64::from(wide as u32) } else { wide }
                };
                let value = Value::Scalar(state.scalar(src)?.map(extend));
                state.set(dst, value);
            }
            Op::Neg { width, dst } => {
                let value = state.scalar(dst)?.map(|value| isa::alu(Alu::Sub, width, 0, value));
                state.set(dst, Value::Scalar(value));
            }
            Op::Order { order, bits, dst } => {
                let value = state.scalar(dst)?.map(|value| isa::byte_order(order, bits, value));
                state.set(dst, Value::Scalar(value));
            }
            Op::Const { dst, value } => state.set(dst, Value::Scalar(Some(value))),
            Op::Address { dst, region, offset } => {
                state.set(dst, Value::Memory { region: region as usize, offset: i64::from(offset) });
            }
            Op::Load { size, signed, dst, base, off } => {
                let place = self.place(state, base, off, size, Access::Read)?;
                let value = self.load(state, place, size, signed)?;
                if let (Place::Context(offset), true) = (place, is_first) {
                    self.facts.context_loads[pc] = Some(offset);
                }
                state.set(dst, value);
            }
            Op::Store { size, base, off, src } => {
                let value = state.operand(src)?;
                let place = self.place(state, base, off, size, Access::Write)?;
                store(state, place, size, value, src)?;
            }
            Op::Atomic { op, fetch, size, base, off, src } => {
                self.atomic(state, (op, fetch, size), (base, off), src)?
            }
            Op::Map { .. } | Op::Function { .. } => return Err(Reason::NotYet),
            Op::Helper { id } => self.helper(state, id)?,
            Op::Branch { .. } | Op::Goto { .. } | Op::Local { .. } | Op::Exit => {}
        }
        Ok(())
    }

    fn helper(&self, state: &mut State, id: u32) -> Result<(), Reason> {
        let helper = helpers::find(id).ok_or(Reason::UnknownHelper(id))?;
        if !helper.allowed_in(self.hook) {
            return Err(Reason::ForbiddenHelper(helper.name));
        }
        if helper.args.iter().any(|arg| *arg != ArgKind::None) {
            return Err(Reason::NotYet);
        }
        state.cost = state.cost.saturating_add(helper.cost.fixed);
        state.regs[1..6].fill(Value::Unset);
        state.set(0, Value::ANY);
        Ok(())
    }

    fn atomic(
        &mut self,
        state: &mut State,
        (op, fetch, size): (Atomic, bool, Size),
        (base, off): (Reg, i16),
        src: Reg,
    ) -> Result<(), Reason> {
        state.scalar(src)?;
        if op == Atomic::CmpXchg {
            state.scalar(0)?;
        }
        let place = self.place(state, base, off, size, Access::Atomic)?;
        let old = self.load(state, place, size, false)?;
        if let Place::Stack(frame, start) = place {
            if !old.is_scalar() {
                return Err(Reason::StackPointerPart { offset: start as i64 - i64::from(STACK) });
            }
            write_stack(state, frame, start, size, Value::ANY)?;
        }
        if fetch {
            state.set(if op == Atomic::CmpXchg { 0 } else { src }, Value::ANY);
        }
        Ok(())
    }

    /// The place of an access, if it is inside its bounds and allowed.
    fn place(&mut self, state: &mut State, base: Reg, off: i16, size: Size, access: Access) -> Result<Place, Reason> {
        let bytes = size.bytes();
        let pointer = match state.get(base)? {
            Value::Scalar(_) => return Err(Reason::NotAPointer(base)),
            pointer => pointer.moved(i64::from(off)).ok_or(Reason::PointerArithmetic)?,
        };
        match pointer {
            Value::Context(offset) => self.context(offset, bytes, access),
            Value::Stack { frame, offset } => {
                if offset < -i64::from(STACK) || offset + i64::from(bytes) > 0 {
                    return Err(Reason::StackBounds { offset, size: bytes });
                }
                aligned(access, offset, bytes)?;
                let depth = (-offset) as u32;
                if state.frames[frame].depth < depth {
                    Rc::make_mut(&mut state.frames[frame]).depth = depth;
                }
                Ok(Place::Stack(frame, (offset + i64::from(STACK)) as usize))
            }
            Value::Memory { region, offset } => self.memory(region, offset, bytes, access),
            Value::Unset | Value::Scalar(_) => Err(Reason::NotAPointer(base)),
        }
    }

    fn context(&mut self, offset: i64, size: u32, access: Access) -> Result<Place, Reason> {
        if access != Access::Read {
            return Err(Reason::ContextWrite);
        }
        let inside = |field: &&super::Field| {
            let (start, end) = (i64::from(field.offset), i64::from(field.offset + field.size));
            start <= offset && offset + i64::from(size) <= end && (offset - start) % i64::from(size) == 0
        };
        if self.rules.fields.iter().find(inside).is_none() {
            let before = self.rules.fields.iter().rev().find(|field| i64::from(field.offset) <= offset);
            let nearest = before.unwrap_or(&self.rules.fields[0]);
            return Err(Reason::ContextField { context: self.rules.context, offset, size, nearest });
        }
        self.facts.context_bytes |= ((1u128 << size) - 1) << offset;
        Ok(Place::Context(offset as u32))
    }

    fn memory(&self, index: usize, offset: i64, size: u32, access: Access) -> Result<Place, Reason> {
        let region = self.regions.get(index).ok_or(Reason::PointerArithmetic)?;
        if offset < 0 || offset + i64::from(size) > region.size as i64 {
            return Err(Reason::RegionBounds { region: region.name.clone(), offset, size, bytes: region.size });
        }
        if region.writable && self.rules.pure {
            return Err(Reason::Impure(region.name.clone()));
        }
        if !region.writable && access != Access::Read {
            return Err(Reason::RegionReadOnly(region.name.clone()));
        }
        aligned(access, offset, size)?;
        Ok(Place::Memory)
    }

    fn load(&self, state: &State, place: Place, size: Size, signed: bool) -> Result<Value, Reason> {
        match place {
            Place::Context(offset) => {
                let known = self.assumptions.iter().find(|known| (known.offset, known.size) == (offset, size.bytes()));
                Ok(Value::Scalar(
                    known.map(|known| if signed { isa::sign_extend(known.value, size.bits()) } else { known.value }),
                ))
            }
            Place::Memory => Ok(Value::ANY),
            Place::Stack(frame, start) => read_stack(&state.frames[frame], start, size),
        }
    }

    /// Whether a branch jumps, if that is known.
    fn branch(
        &mut self,
        state: &State,
        cond: Cond,
        width: Width,
        dst: Reg,
        src: Operand,
    ) -> Result<Option<bool>, Reason> {
        match (state.get(dst)?, state.operand(src)?) {
            (Value::Scalar(a), Value::Scalar(b)) => Ok(a.zip(b).map(|(a, b)| isa::compare(cond, width, a, b))),
            // A null check of what is never null.
            (_, Value::Scalar(Some(0))) if width == Width::W64 && matches!(cond, Cond::Eq | Cond::Ne) => {
                self.facts.has_null_checks = true;
                Ok(None)
            }
            _ => Err(Reason::PointerComparison),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Access {
    Read,
    Write,
    Atomic,
}

/// Atomics must not straddle cache lines. Regions begin on cache lines, stacks on multiples of 16.
fn aligned(access: Access, offset: i64, size: u32) -> Result<(), Reason> {
    if access == Access::Atomic && offset % i64::from(size) != 0 { Err(Reason::Misaligned(size)) } else { Ok(()) }
}

fn merge(into: &mut Option<Box<State>>, state: &State) {
    match into {
        Some(into) => into.join(state),
        None => *into = Some(Box::new(state.clone())),
    }
}

fn arithmetic(state: &State, op: Alu, width: Width, dst: Reg, src: Operand) -> Result<Value, Reason> {
    let b = state.operand(src)?;
    if op == Alu::Mov {
        return match (b, width) {
            (Value::Scalar(known), _) => Ok(Value::Scalar(known.map(|known| isa::alu(op, width, 0, known)))),
            (pointer, Width::W64) => Ok(pointer),
            _ => Err(Reason::PointerArithmetic),
        };
    }
    let a = state.get(dst)?;
    match (a, b, op) {
        (Value::Scalar(a), Value::Scalar(b), _) => Ok(Value::Scalar(a.zip(b).map(|(a, b)| isa::alu(op, width, a, b)))),
        (pointer, Value::Scalar(Some(by)), Alu::Add) | (Value::Scalar(Some(by)), pointer, Alu::Add)
            if width == Width::W64 =>
        {
            pointer.moved(by as i64).ok_or(Reason::PointerArithmetic)
        }
        (pointer, Value::Scalar(Some(by)), Alu::Sub) if width == Width::W64 => {
            (by as i64).checked_neg().and_then(|by| pointer.moved(by)).ok_or(Reason::PointerArithmetic)
        }
        _ => Err(Reason::PointerArithmetic),
    }
}

fn store(state: &mut State, place: Place, size: Size, value: Value, src: Operand) -> Result<(), Reason> {
    let leak = match src {
        Operand::Reg(reg) => Reason::PointerLeak(reg),
        Operand::Imm(_) => Reason::PointerArithmetic,
    };
    match place {
        Place::Context(_) => Err(Reason::ContextWrite),
        Place::Memory if value.is_scalar() => Ok(()),
        Place::Memory => Err(leak),
        Place::Stack(frame, _) if matches!(value, Value::Stack { frame: of, .. } if of > frame) => {
            Err(Reason::StackEscape)
        }
        Place::Stack(_, start) if !value.is_scalar() && (size != Size::D || start % 8 != 0) => Err(leak),
        Place::Stack(frame, start) => write_stack(state, frame, start, size, value),
    }
}

fn write_stack(state: &mut State, frame: usize, start: usize, size: Size, value: Value) -> Result<(), Reason> {
    let frame = Rc::make_mut(&mut state.frames[frame]);
    if size == Size::D && start.is_multiple_of(8) {
        frame.slots[start / 8] = Slot::Spill(value);
        return Ok(());
    }
    for byte in start..start + size.bytes() as usize {
        let slot = &mut frame.slots[byte / 8];
        *slot = Slot::Bytes(slot.written() | 1 << (byte % 8));
    }
    Ok(())
}

fn read_stack(frame: &Frame, start: usize, size: Size) -> Result<Value, Reason> {
    if let (Size::D, 0, Slot::Spill(value)) = (size, start % 8, frame.slots[start / 8]) {
        return Ok(value);
    }
    for byte in start..start + size.bytes() as usize {
        let (slot, offset) = (frame.slots[byte / 8], byte as i64 - i64::from(STACK));
        if slot.written() & 1 << (byte % 8) == 0 {
            return Err(match slot {
                Slot::Spill(_) => Reason::StackPointerPart { offset },
                Slot::Bytes(_) => Reason::StackUninitialised { offset },
            });
        }
    }
    Ok(Value::ANY)
}
