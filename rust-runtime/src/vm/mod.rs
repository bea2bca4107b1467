//! An interpreter that checks every access: the oracle for the code generator, and for what the verifier promises.
//!
//! It is slow on purpose: each load and store looks for the memory it may touch. A fault in a verified program is a bug in the
//! verifier; another result than the machine code's is a bug in the code generator.

use std::{ptr, slice};

use crate::{
    helpers::{self, Env},
    isa::{self, Atomic, Op, Operand, R10, Reg, Size, Width},
    object::Memory,
    verifier::{Graph, STACK, Verified},
};

/// What a verified program never does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No instruction there.
    NoInstruction {
        pc: usize,
    },
    /// Memory that it may not read or write.
    Access {
        pc: usize,
        address: u64,
        size: u32,
        write: bool,
    },
    UnknownHelper {
        pc: usize,
        id: u32,
    },
    TooDeep {
        pc: usize,
    },
    TooLong,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub result: u64,
    /// Instructions executed.
    pub steps: u64,
}

const MAX_STEPS: u64 = 1 << 24;

/// Memory that a run may touch.
struct Span {
    start: u64,
    size: u64,
    writable: bool,
}

struct Machine<'a> {
    graph: &'a Graph,
    verified: &'a Verified,
    memory: &'a Memory,
    env: &'a Env,
    spans: Vec<Span>,
    regs: [u64; 11],
    steps: u64,
    pc: usize,
}

/// Runs a program on a context.
pub fn run(verified: &Verified, memory: &Memory, env: &Env, context: &[u8]) -> Result<Outcome, Fault> {
    let mut spans = vec![Span { start: context.as_ptr() as u64, size: context.len() as u64, writable: false }];
    spans.extend(memory.regions().iter().map(|region| Span {
        start: region.address as u64,
        size: region.size as u64,
        writable: region.writable,
    }));
    let mut regs = [0xdead_beef_dead_beef; 11];
    regs[1] = context.as_ptr() as u64;
    let mut machine = Machine { graph: verified.graph(), verified, memory, env, spans, regs, steps: 0, pc: 0 };
    machine.function(0, 0)?;
    Ok(Outcome { result: machine.regs[0], steps: machine.steps })
}

impl Machine<'_> {
    fn function(&mut self, start: usize, depth: usize) -> Result<(), Fault> {
        if depth == crate::verifier::MAX_FRAMES {
            return Err(Fault::TooDeep { pc: self.pc });
        }
        // 16-byte aligned, as rbp is.
        let mut stack = vec![0x5a5a_5a5a_5a5a_5a5au128; STACK as usize / 16];
        let end = stack.as_mut_ptr_range().end as u64;
        self.spans.push(Span { start: end - u64::from(STACK), size: u64::from(STACK), writable: true });
        self.regs[usize::from(R10)] = end;
        let result = self.instructions(start, depth);
        self.spans.pop();
        result
    }

    fn instructions(&mut self, start: usize, depth: usize) -> Result<(), Fault> {
        let mut pc = start;
        loop {
            self.pc = pc;
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return Err(Fault::TooLong);
            }
            let op = self.graph.op(pc).map_err(|_| Fault::NoInstruction { pc })?;
            let mut next = pc + op.slots();
            match op {
                Op::Exit => return Ok(()),
                Op::Goto { off } => next = (pc as i64 + 1 + i64::from(off)) as usize,
                Op::Branch { cond, width, dst, src, off } => {
                    if isa::compare(cond, width, self.get(dst), self.operand(src)) {
                        next = (pc as i64 + 1 + i64::from(off)) as usize;
                    }
                }
                Op::Local { off } => self.call(pc, off, depth)?,
                op => self.plain(op)?,
            }
            pc = next;
        }
    }

    fn call(&mut self, pc: usize, off: i32, depth: usize) -> Result<(), Fault> {
        let text = self.verified.text();
        let callee = Graph::callee(text, pc, off).ok_or(Fault::NoInstruction { pc })?;
        let saved = self.regs;
        self.function(text.functions[callee].start, depth + 1)?;
        self.regs[6..].copy_from_slice(&saved[6..]);
        // What a callee leaves there means nothing.
        self.regs[1..6].fill(0xdead_beef_dead_beef);
        Ok(())
    }

    fn plain(&mut self, op: Op) -> Result<(), Fault> {
        match op {
            Op::Alu { op, width, dst, src } => {
                let value = isa::alu(op, width, self.get(dst), self.operand(src));
                self.set(dst, value);
            }
            Op::MovSx { width, bits, dst, src } => {
                let value = isa::sign_extend(self.get(src), u32::from(bits));
                self.set(dst, if width == Width::W32 { value & 0xffff_ffff } else { value });
            }
            Op::Neg { width, dst } => {
                let value = self.get(dst).wrapping_neg();
                self.set(dst, if width == Width::W32 { value & 0xffff_ffff } else { value });
            }
            Op::Order { order, bits, dst } => {
                let value = isa::byte_order(order, bits, self.get(dst));
                self.set(dst, value);
            }
            Op::Const { dst, value } => self.set(dst, value),
            Op::Address { dst, region, offset } => {
                let region = self.memory.regions()[region as usize];
                self.set(dst, (region.address as u64).wrapping_add_signed(offset.into()));
            }
            // The checker accepts neither yet.
            Op::Map { .. } | Op::Function { .. } => {}
            Op::Load { size, signed, dst, base, off } => {
                let value = self.load(self.address(base, off), size)?;
                self.set(dst, if signed { isa::sign_extend(value, size.bits()) } else { value });
            }
            Op::Store { size, base, off, src } => self.store(self.address(base, off), size, self.operand(src))?,
            Op::Atomic { op, fetch, size, base, off, src } => {
                self.atomic(op, fetch, size, self.address(base, off), src)?
            }
            Op::Helper { id } => self.helper(id)?,
            Op::Branch { .. } | Op::Goto { .. } | Op::Local { .. } | Op::Exit => {}
        }
        Ok(())
    }

    fn helper(&mut self, id: u32) -> Result<(), Fault> {
        let helper = helpers::find(id).ok_or(Fault::UnknownHelper { pc: self.pc, id })?;
        let r = self.regs;
        self.regs[0] = (helper.function)(r[1], r[2], r[3], r[4], r[5], self.env);
        self.regs[1..6].fill(0xdead_beef_dead_beef);
        Ok(())
    }

    fn atomic(&mut self, op: Atomic, fetch: bool, size: Size, address: u64, src: Reg) -> Result<(), Fault> {
        let old = self.load(address, size)?;
        let mask = u64::MAX >> (64 - size.bits());
        let value = self.get(src);
        let new = match op {
            Atomic::Add => old.wrapping_add(value),
            Atomic::Or => old | value,
            Atomic::And => old & value,
            Atomic::Xor => old ^ value,
            Atomic::Xchg => value,
            Atomic::CmpXchg if old == self.regs[0] & mask => value,
            Atomic::CmpXchg => old,
        };
        self.store(address, size, new)?;
        if fetch {
            self.set(if op == Atomic::CmpXchg { 0 } else { src }, old);
        }
        Ok(())
    }

    fn get(&self, reg: Reg) -> u64 {
        self.regs[usize::from(reg)]
    }

    fn set(&mut self, reg: Reg, value: u64) {
        self.regs[usize::from(reg)] = value;
    }

    fn operand(&self, operand: Operand) -> u64 {
        match operand {
            Operand::Reg(reg) => self.get(reg),
            Operand::Imm(imm) => i64::from(imm) as u64,
        }
    }

    fn address(&self, base: Reg, off: i16) -> u64 {
        self.get(base).wrapping_add(i64::from(off) as u64)
    }

    fn check(&self, address: u64, size: Size, write: bool) -> Result<(), Fault> {
        let bytes = u64::from(size.bytes());
        let inside = |span: &Span| {
            (!write || span.writable)
                && address.checked_sub(span.start).is_some_and(|offset| offset + bytes <= span.size)
        };
        if self.spans.iter().any(inside) {
            Ok(())
        } else {
            Err(Fault::Access { pc: self.pc, address, size: size.bytes(), write })
        }
    }

    fn load(&self, address: u64, size: Size) -> Result<u64, Fault> {
        self.check(address, size, false)?;
        let mut bytes = [0; 8];
        // SAFETY: check() found the bytes in memory of this run.
        let from = unsafe { slice::from_raw_parts(address as *const u8, size.bytes() as usize) };
        bytes[..from.len()].copy_from_slice(from);
        Ok(u64::from_le_bytes(bytes))
    }

    fn store(&self, address: u64, size: Size, value: u64) -> Result<(), Fault> {
        self.check(address, size, true)?;
        let bytes = value.to_le_bytes();
        // SAFETY: check() found the bytes in writable memory of this run.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, size.bytes() as usize) };
        Ok(())
    }
}
