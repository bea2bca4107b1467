//! Registers, frames and instructions.

use super::{Code, Fault, FaultKind, Input, Memory, Noise, Origin, Outcome, Place, RegionId, Value, memory::Spot};
use crate::{
    helpers::Env,
    isa::{self, Alu, Atomic, Cond, Op, Operand, R10, Reg, Size, Width},
    verifier::{MAX_FRAMES, STACK},
};

/// Instructions that a run may take unless told otherwise.
const MAX_STEPS: u64 = 1 << 24;

/// An active function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub stack: RegionId,
    /// The slot of the call that made it; of the first function 0.
    pub called_at: usize,
    /// r6 to r9 of the caller.
    pub saved: [Value; 4],
}

/// A run's state before an instruction.
pub struct View<'a> {
    pub pc: usize,
    pub regs: &'a [Value; 11],
    /// The first function's frame first.
    pub frames: &'a [Frame],
    pub memory: &'a Memory,
}

/// Looks at a run.
pub trait Watch {
    fn before(&mut self, view: &View<'_>);
}

/// Looks away.
impl Watch for () {
    fn before(&mut self, _: &View<'_>) {}
}

/// One run of one program.
pub struct Machine<'a> {
    pub(super) code: &'a Code,
    pub(super) env: &'a Env,
    pub(super) noise: &'a mut dyn Noise,
    pub(super) memory: Memory,
    globals: Vec<RegionId>,
    pub(super) regs: [Value; 11],
    frames: Vec<Frame>,
    steps: u64,
    pub(super) cost: u64,
    limit: u64,
    pub(super) pc: usize,
}

/// How a function ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Exit,
    /// A tail call took over: nothing of this function goes on.
    TailCall,
}

impl<'a> Machine<'a> {
    pub fn new(code: &'a Code, env: &'a Env, noise: &'a mut dyn Noise) -> Machine<'a> {
        Machine {
            code,
            env,
            noise,
            memory: Memory::default(),
            globals: Vec::new(),
            regs: [Value::UNSET; 11],
            frames: Vec::new(),
            steps: 0,
            cost: 0,
            limit: MAX_STEPS,
            pc: 0,
        }
    }

    /// The contents of the object's next section of variables, in place of what the object says.
    pub fn add_global(&mut self, bytes: Vec<u8>) -> RegionId {
        let region = self.globals.len();
        let writable = self.code.regions.get(region).is_some_and(|region| region.writable);
        let id = self.memory.add(Place::Global { region: region as u32, writable }, bytes);
        self.globals.push(id);
        id
    }

    /// Ends a run that takes more instructions with [`FaultKind::TooLong`].
    pub fn set_limit(&mut self, steps: u64) {
        self.limit = steps;
    }

    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Instructions executed so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// What they and the helpers cost so far.
    pub fn cost(&self) -> u64 {
        self.cost
    }

    /// Runs the program from its first instruction.
    pub fn run<W: Watch>(&mut self, input: &Input, watch: &mut W) -> Result<Outcome, Fault> {
        for region in &self.code.regions[self.globals.len()..] {
            let mut bytes = region.bytes.clone();
            bytes.resize(region.size as usize, 0);
            self.add_global(bytes);
        }
        self.regs[1] = self.context(input);
        let outcome = self.whole(watch);
        outcome.map_err(|kind| Fault { pc: self.pc, kind })
    }

    fn context(&mut self, input: &Input) -> Value {
        let context = self.memory.add_context(input.context.clone(), input.writable.clone());
        for buffer in &input.buffers {
            let size = buffer.bytes.len() as i64;
            let region = self.memory.add(Place::Buffer { writable: buffer.writable }, buffer.bytes.clone());
            self.memory.set_pointer(context, buffer.begin, self.memory.pointer(region, 0));
            self.memory.set_pointer(context, buffer.end, self.memory.pointer(region, size));
        }
        self.memory.pointer(context, 0)
    }

    fn whole<W: Watch>(&mut self, watch: &mut W) -> Result<Outcome, FaultKind> {
        let end = self.function(0, 0, watch)?;
        if self.memory.has_open_record() {
            return Err(FaultKind::OpenRecord);
        }
        let tail_called = end == End::TailCall;
        if !tail_called {
            self.number(0)?;
        }
        Ok(Outcome { result: self.regs[0].bits, steps: self.steps, cost: self.cost, tail_called })
    }

    /// Runs one function with a stack of its own; the caller's registers are the caller's to keep.
    fn function<W: Watch>(&mut self, start: usize, called_at: usize, watch: &mut W) -> Result<End, FaultKind> {
        if self.frames.len() == MAX_FRAMES {
            return Err(FaultKind::TooDeep);
        }
        let stack = self.memory.add_stack(self.frames.len());
        let saved = [6, 7, 8, 9].map(|reg| self.get(reg));
        self.regs[6..10].fill(Value::UNSET);
        self.frames.push(Frame { stack, called_at, saved });
        self.regs[usize::from(R10)] = self.memory.pointer(stack, STACK.into());
        let end = self.instructions(start, watch)?;
        self.frames.pop();
        self.memory.end(stack);
        Ok(end)
    }

    fn instructions<W: Watch>(&mut self, start: usize, watch: &mut W) -> Result<End, FaultKind> {
        let mut pc = start;
        loop {
            self.pc = pc;
            if self.steps == self.limit {
                return Err(FaultKind::TooLong);
            }
            let op = self.code.ops.get(pc).copied().flatten().ok_or(FaultKind::NoInstruction)?;
            let (regs, frames, memory) = (&self.regs, &self.frames[..], &self.memory);
            watch.before(&View { pc, regs, frames, memory });
            self.steps += 1;
            self.cost += 1;
            let jumped = |off: i32| (pc as i64 + 1 + i64::from(off)) as usize;
            let mut next = pc + op.slots();
            match op {
                Op::Exit => return Ok(End::Exit),
                Op::Goto { off } => next = jumped(off),
                Op::Branch { cond, width, dst, src, off } => {
                    if self.branch(cond, width, dst, src)? {
                        next = jumped(off.into());
                    }
                }
                Op::Local { off } => {
                    if self.call(jumped(off), watch)? == End::TailCall {
                        // It ended that function: its caller gets what the other program returns.
                        let result = self.noise.next();
                        self.set_number(0, result);
                    }
                }
                Op::Helper { id } if self.helper(id, watch)? == End::TailCall => return Ok(End::TailCall),
                op => self.plain(op)?,
            }
            pc = next;
        }
    }

    /// A call of a function: r6 to r10 stay, r1 to r5 are lost.
    fn call<W: Watch>(&mut self, start: usize, watch: &mut W) -> Result<End, FaultKind> {
        let (saved, pc) = (self.regs, self.pc);
        self.regs[0] = Value::UNSET;
        let end = self.function(start, pc, watch)?;
        self.pc = pc;
        self.regs[6..].copy_from_slice(&saved[6..]);
        self.regs[1..6].fill(Value::UNSET);
        Ok(end)
    }

    /// A call of a callback, which sees its arguments alone. Gives its result.
    pub(super) fn callback<W: Watch>(&mut self, start: usize, args: &[Value], watch: &mut W) -> Result<u64, FaultKind> {
        let saved = self.regs;
        self.regs[..6].fill(Value::UNSET);
        self.regs[1..=args.len()].copy_from_slice(args);
        if self.call(start, watch)? == End::TailCall {
            return Err(FaultKind::TailCallInCallback);
        }
        let result = self.number(0)?;
        self.regs = saved;
        if result > 1 { Err(FaultKind::CallbackResult(result)) } else { Ok(result) }
    }

    fn plain(&mut self, op: Op) -> Result<(), FaultKind> {
        match op {
            Op::Alu { op, width, dst, src } => {
                let value = self.alu(op, width, dst, src)?;
                self.set(dst, value);
            }
            Op::MovSx { width, bits, dst, src } => {
                let value = isa::sign_extend(self.number(src)?, u32::from(bits));
                self.set_number(dst, cut(value, width));
            }
            Op::Neg { width, dst } => {
                let value = self.number(dst)?.wrapping_neg();
                self.set_number(dst, cut(value, width));
            }
            Op::Order { order, bits, dst } => {
                let value = isa::byte_order(order, bits, self.number(dst)?);
                self.set_number(dst, value);
            }
            Op::Const { dst, value } => self.set_number(dst, value),
            Op::Address { dst, region, offset } => {
                let region = *self.globals.get(region as usize).ok_or(FaultKind::NoInstruction)?;
                self.set(dst, self.memory.pointer(region, offset.into()));
            }
            Op::Map { dst, map } => self.set(dst, Value { bits: !u64::from(map), origin: Origin::Map(map) }),
            Op::Function { dst, off } => {
                let start = (self.pc as i64 + 1 + i64::from(off)) as u32;
                self.set(dst, Value { bits: !u64::from(start), origin: Origin::Function(start) });
            }
            Op::Load { size, signed, dst, base, off } => {
                let mut value = self.load(base, off, size)?;
                if signed {
                    value = Value::number(isa::sign_extend(plain_number(value)?, size.bits()));
                }
                self.set(dst, value);
            }
            Op::Store { size, base, off, src } => {
                let (value, spot) = (self.operand(src), self.spot(base, off, size, true)?);
                self.memory.store(spot, size.bytes() as usize, value)?;
            }
            Op::Atomic { op, fetch, size, base, off, src } => self.atomic(op, fetch, size, (base, off), src)?,
            Op::Branch { .. } | Op::Goto { .. } | Op::Local { .. } | Op::Helper { .. } | Op::Exit => {}
        }
        Ok(())
    }

    fn alu(&self, op: Alu, width: Width, dst: Reg, src: Operand) -> Result<Value, FaultKind> {
        let b = self.operand(src);
        if b.origin == Origin::Unset {
            return Err(FaultKind::Uninitialised);
        }
        if op == Alu::Mov {
            return match width {
                Width::W64 => Ok(b),
                Width::W32 => Ok(Value::number(cut(plain_number(b)?, width))),
            };
        }
        let a = self.get(dst);
        match (a.origin, b.origin) {
            (Origin::Unset, _) => Err(FaultKind::Uninitialised),
            (Origin::Number, Origin::Number) => Ok(Value::number(isa::alu(op, width, a.bits, b.bits))),
            _ if width == Width::W32 => Err(FaultKind::PointerArithmetic),
            (Origin::Pointer(_), Origin::Number) if matches!(op, Alu::Add | Alu::Sub) => {
                Ok(Value { bits: isa::alu(op, width, a.bits, b.bits), origin: a.origin })
            }
            (Origin::Number, Origin::Pointer(_)) if op == Alu::Add => {
                Ok(Value { bits: a.bits.wrapping_add(b.bits), origin: b.origin })
            }
            (Origin::Pointer(x), Origin::Pointer(y)) if op == Alu::Sub && x == y => {
                Ok(Value::number(a.bits.wrapping_sub(b.bits)))
            }
            _ => Err(FaultKind::PointerArithmetic),
        }
    }

    fn branch(&self, cond: Cond, width: Width, dst: Reg, src: Operand) -> Result<bool, FaultKind> {
        let (a, b) = (self.get(dst), self.operand(src));
        let null = Value::number(0);
        match (a.origin, b.origin) {
            (Origin::Unset, _) | (_, Origin::Unset) => Err(FaultKind::Uninitialised),
            (Origin::Number, Origin::Number) => Ok(isa::compare(cond, width, a.bits, b.bits)),
            _ if width == Width::W32 || cond == Cond::Set => Err(FaultKind::Leak),
            (Origin::Pointer(x), Origin::Pointer(y)) if x == y => Ok(isa::compare(cond, width, a.bits, b.bits)),
            // Whether it is one is no secret.
            _ if matches!(cond, Cond::Eq | Cond::Ne) && (a == null || b == null) => Ok(cond == Cond::Ne),
            _ => Err(FaultKind::Leak),
        }
    }

    fn load(&mut self, base: Reg, off: i16, size: Size) -> Result<Value, FaultKind> {
        let (spot, bytes) = (self.spot(base, off, size, false)?, size.bytes() as usize);
        if !self.noise.is_quiet() {
            self.memory.disturb(spot, bytes, self.noise);
        }
        self.memory.load(spot, bytes)
    }

    fn atomic(&mut self, op: Atomic, fetch: bool, size: Size, at: (Reg, i16), src: Reg) -> Result<(), FaultKind> {
        let spot = self.spot(at.0, at.1, size, true)?;
        let old = plain_number(self.load(at.0, at.1, size)?)?;
        let value = self.number(src)?;
        let new = match op {
            Atomic::Add => old.wrapping_add(value),
            Atomic::Or => old | value,
            Atomic::And => old & value,
            Atomic::Xor => old ^ value,
            Atomic::Xchg => value,
            Atomic::CmpXchg if old == self.number(0)? & (u64::MAX >> (64 - size.bits())) => value,
            Atomic::CmpXchg => old,
        };
        self.memory.store(spot, size.bytes() as usize, Value::number(new))?;
        if fetch {
            self.set_number(if op == Atomic::CmpXchg { 0 } else { src }, old);
        }
        Ok(())
    }

    fn spot(&self, base: Reg, off: i16, size: Size, write: bool) -> Result<Spot, FaultKind> {
        self.memory.spot(self.get(base), off.into(), size.bytes() as usize, write)
    }

    fn get(&self, reg: Reg) -> Value {
        self.regs[usize::from(reg)]
    }

    fn set(&mut self, reg: Reg, value: Value) {
        self.regs[usize::from(reg)] = value;
    }

    fn set_number(&mut self, reg: Reg, bits: u64) {
        self.set(reg, Value::number(bits));
    }

    /// A register that must hold a number.
    fn number(&self, reg: Reg) -> Result<u64, FaultKind> {
        plain_number(self.get(reg))
    }

    fn operand(&self, operand: Operand) -> Value {
        match operand {
            Operand::Reg(reg) => self.get(reg),
            Operand::Imm(imm) => Value::number(i64::from(imm) as u64),
        }
    }
}

fn plain_number(value: Value) -> Result<u64, FaultKind> {
    match value.origin {
        Origin::Number => Ok(value.bits),
        Origin::Unset => Err(FaultKind::Uninitialised),
        Origin::Pointer(_) | Origin::Map(_) | Origin::InnerMap(_) | Origin::Function(_) => Err(FaultKind::Leak),
    }
}

fn cut(value: u64, width: Width) -> u64 {
    if width == Width::W32 { u64::from(value as u32) } else { value }
}
