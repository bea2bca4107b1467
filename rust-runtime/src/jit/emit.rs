//! Templates: one BPF instruction into x86-64 instructions.

use dynasm::dynasm;
use dynasmrt::{DynamicLabel, DynasmApi, DynasmLabelApi, VecAssembler, x64::X64Relocation};

use super::hash;
use crate::{
    helpers::{self, Env},
    hook::Hook,
    isa::{Alu, Atomic, ByteOrder, Cond, Op, Operand, R10, Reg, Size, Width},
    object::Memory,
    verifier::{Graph, Verified},
};

pub type Assembler = VecAssembler<X64Relocation>;

/// Machine code without an address.
pub struct Assembled {
    pub bytes: Vec<u8>,
    pub entry: usize,
    pub hash_batch: Option<usize>,
}

const RAX: u8 = 0;
const RDX: u8 = 2;

/// The x86-64 register of a BPF register.
pub fn x86(reg: Reg) -> u8 {
    [0, 7, 6, 2, 1, 8, 3, 13, 14, 15, 5][usize::from(reg)]
}

/// What templates need to know of the program around them.
pub struct Emitter<'a> {
    pub verified: &'a Verified,
    pub memory: &'a Memory,
    env: &'static Env,
    /// By function.
    functions: Vec<DynamicLabel>,
}

pub fn assemble(verified: &Verified, memory: &Memory, env: &'static Env) -> Result<Assembled, String> {
    let mut ops = Assembler::new(0);
    let text = verified.text();
    let functions = text.functions.iter().map(|_| ops.new_dynamic_label()).collect();
    let emitter = Emitter { verified, memory, env, functions };
    for index in 0..text.functions.len() {
        dynasm!(ops; .arch x64; .align 16, 0xcc);
        emitter.function(&mut ops, index)?;
    }
    let hash_batch = match verified.hook() {
        Hook::Hash => {
            dynasm!(ops; .arch x64; .align 16, 0xcc);
            let offset = ops.offset().0;
            hash::emit(&emitter, &mut ops)?;
            Some(offset)
        }
        _ => None,
    };
    let bytes = ops.finalize().map_err(|error| error.to_string())?;
    Ok(Assembled { bytes, entry: 0, hash_batch })
}

/// Registers of the caller that a function must bring back, and where it keeps them.
pub struct Frame {
    saved: Vec<u8>,
    size: i32,
}

impl Frame {
    /// A frame with so many bytes of BPF stack below rbp.
    pub fn new(stack: u32, saved: Vec<u8>) -> Frame {
        let size = (stack as usize + 8 * saved.len()).next_multiple_of(16);
        Frame { saved, size: size as i32 }
    }

    pub fn enter(&self, ops: &mut Assembler) {
        dynasm!(ops; .arch x64; push rbp; mov rbp, rsp);
        if self.size != 0 {
            dynasm!(ops; .arch x64; sub rsp, self.size);
        }
        for (index, &reg) in self.saved.iter().enumerate() {
            dynasm!(ops; .arch x64; mov [rsp + 8 * index as i32], Rq(reg));
        }
    }

    pub fn leave(&self, ops: &mut Assembler) {
        for (index, &reg) in self.saved.iter().enumerate() {
            dynasm!(ops; .arch x64; mov Rq(reg), [rsp + 8 * index as i32]);
        }
        match self.size {
            0 => dynasm!(ops; .arch x64; pop rbp; ret),
            _ => dynasm!(ops; .arch x64; leave; ret),
        }
    }
}

/// x86-64 registers that a function sets and its caller expects unchanged.
pub fn callee_saved(ops: impl Iterator<Item = Op>) -> Vec<u8> {
    let mut saved: Vec<u8> = ops.filter_map(Op::written).filter(|reg| (6..=9).contains(reg)).map(x86).collect();
    saved.sort_unstable();
    saved.dedup();
    saved
}

impl Emitter<'_> {
    fn function(&self, ops: &mut Assembler, index: usize) -> Result<(), String> {
        let graph = self.verified.graph();
        let function = &self.verified.text().functions[index];
        let slots = function.start..function.end;
        let saved = callee_saved(graph.ops[slots.clone()].iter().flatten().copied());
        let frame = Frame::new(self.verified.facts().stack[index], saved);
        let labels: Vec<DynamicLabel> = slots.clone().map(|_| ops.new_dynamic_label()).collect();
        let entry = self.functions[index];
        dynasm!(ops; .arch x64; =>entry);
        frame.enter(ops);
        for pc in slots {
            let Some(op) = graph.ops[pc] else { continue };
            let label = labels[pc - function.start];
            dynasm!(ops; .arch x64; =>label);
            let target = |off: i32| labels[(pc as i64 + 1 + i64::from(off)) as usize - function.start];
            match op {
                Op::Exit => frame.leave(ops),
                Op::Goto { off } => {
                    let to = target(off);
                    dynasm!(ops; .arch x64; jmp =>to);
                }
                Op::Branch { cond, width, dst, src, off } => branch(ops, cond, width, dst, src, target(i32::from(off))),
                op => self.plain(ops, pc, op)?,
            }
        }
        Ok(())
    }

    /// An instruction that leads to the next one.
    pub fn plain(&self, ops: &mut Assembler, pc: usize, op: Op) -> Result<(), String> {
        match op {
            Op::Alu { op, width, dst, src } => alu(ops, op, width, dst, src),
            Op::MovSx { width, bits, dst, src } => mov_sx(ops, width, bits, x86(dst), x86(src)),
            Op::Neg { width: Width::W64, dst } => dynasm!(ops; .arch x64; neg Rq(x86(dst))),
            Op::Neg { width: Width::W32, dst } => dynasm!(ops; .arch x64; neg Rd(x86(dst))),
            Op::Order { order, bits, dst } => byte_order(ops, order, bits, x86(dst)),
            Op::Const { dst, value } => constant(ops, x86(dst), value),
            Op::Address { dst, region, offset } => {
                let region = self.memory.regions().get(region as usize).ok_or("a region without memory")?;
                constant(ops, x86(dst), (region.address as u64).wrapping_add_signed(offset.into()));
            }
            Op::Map { .. } | Op::Function { .. } => return Err("maps and callbacks are not compiled yet".into()),
            Op::Load { size, signed, dst, base, off } => {
                load(ops, size, signed, x86(dst), x86(base), i32::from(off));
            }
            Op::Store { size, base, off, src } => store(ops, size, x86(base), i32::from(off), src),
            Op::Atomic { op, fetch, size, base, off, src } => {
                atomic(ops, op, fetch, size, (x86(base), i32::from(off)), x86(src));
            }
            Op::Helper { id } => {
                let helper = helpers::find(id).ok_or("a helper that does not exist")?;
                let (env, function) = (self.env as *const Env as i64, helper.function as *const () as i64);
                dynasm!(ops; .arch x64; mov r9, QWORD env; mov rax, QWORD function; call rax);
            }
            Op::Local { off } => {
                let callee = Graph::callee(self.verified.text(), pc, off).ok_or("a call that leads nowhere")?;
                let label = self.functions[callee];
                dynasm!(ops; .arch x64; call =>label);
            }
            Op::Branch { .. } | Op::Goto { .. } | Op::Exit => return Err("a jump is no plain instruction".into()),
        }
        Ok(())
    }
}

/// reg = value, by the shortest encoding.
pub fn constant(ops: &mut Assembler, reg: u8, value: u64) {
    if value == 0 {
        dynasm!(ops; .arch x64; xor Rd(reg), Rd(reg));
    } else if value <= u64::from(u32::MAX) {
        dynasm!(ops; .arch x64; mov Rd(reg), DWORD value as u32 as i32);
    } else if let Ok(value) = i32::try_from(value as i64) {
        dynasm!(ops; .arch x64; mov Rq(reg), DWORD value);
    } else {
        dynasm!(ops; .arch x64; mov Rq(reg), QWORD value as i64);
    }
}

/// `name Rq, Rq`, `name Rd, Rd`, or the same with an immediate.
macro_rules! binary {
    ($ops:ident, $name:ident, $width:expr, $dst:expr, $src:expr) => {
        match ($width, $src) {
            (Width::W64, Operand::Reg(src)) => dynasm!($ops; .arch x64; $name Rq($dst), Rq(x86(src))),
            (Width::W32, Operand::Reg(src)) => dynasm!($ops; .arch x64; $name Rd($dst), Rd(x86(src))),
            (Width::W64, Operand::Imm(imm)) => dynasm!($ops; .arch x64; $name Rq($dst), imm),
            (Width::W32, Operand::Imm(imm)) => dynasm!($ops; .arch x64; $name Rd($dst), imm),
        }
    };
}

macro_rules! shift {
    ($ops:ident, $name:ident, $extended:ident, $width:expr, $dst:expr, $src:expr) => {
        match ($width, $src) {
            (Width::W64, Operand::Reg(src)) => dynasm!($ops; .arch x64; $extended Rq($dst), Rq($dst), Rq(x86(src))),
            (Width::W32, Operand::Reg(src)) => dynasm!($ops; .arch x64; $extended Rd($dst), Rd($dst), Rd(x86(src))),
            (Width::W64, Operand::Imm(imm)) => dynasm!($ops; .arch x64; $name Rq($dst), imm as i8),
            // A shift by nothing still clears the upper half.
            (Width::W32, Operand::Imm(0)) => dynasm!($ops; .arch x64; mov Rd($dst), Rd($dst)),
            (Width::W32, Operand::Imm(imm)) => dynasm!($ops; .arch x64; $name Rd($dst), imm as i8),
        }
    };
}

fn alu(ops: &mut Assembler, op: Alu, width: Width, dst: Reg, src: Operand) {
    let to = x86(dst);
    match op {
        Alu::Add => binary!(ops, add, width, to, src),
        Alu::Sub => binary!(ops, sub, width, to, src),
        Alu::Or => binary!(ops, or, width, to, src),
        Alu::And => binary!(ops, and, width, to, src),
        Alu::Xor => binary!(ops, xor, width, to, src),
        Alu::Lsh => shift!(ops, shl, shlx, width, to, src),
        Alu::Rsh => shift!(ops, shr, shrx, width, to, src),
        Alu::Arsh => shift!(ops, sar, sarx, width, to, src),
        Alu::Mul => match (width, src) {
            (Width::W64, Operand::Reg(src)) => dynasm!(ops; .arch x64; imul Rq(to), Rq(x86(src))),
            (Width::W32, Operand::Reg(src)) => dynasm!(ops; .arch x64; imul Rd(to), Rd(x86(src))),
            (Width::W64, Operand::Imm(imm)) => dynasm!(ops; .arch x64; imul Rq(to), Rq(to), imm),
            (Width::W32, Operand::Imm(imm)) => dynasm!(ops; .arch x64; imul Rd(to), Rd(to), imm),
        },
        Alu::Mov => match (width, src) {
            (Width::W64, Operand::Reg(src)) => dynasm!(ops; .arch x64; mov Rq(to), Rq(x86(src))),
            (Width::W32, Operand::Reg(src)) => dynasm!(ops; .arch x64; mov Rd(to), Rd(x86(src))),
            (Width::W64, Operand::Imm(imm)) => constant(ops, to, i64::from(imm) as u64),
            (Width::W32, Operand::Imm(imm)) => constant(ops, to, u64::from(imm as u32)),
        },
        Alu::Div | Alu::SDiv | Alu::Mod | Alu::SMod => divide(ops, op, width, to, src),
    }
}

/// Division: the divisor goes to r11, rax and rdx are brought back. x / 0 = 0, x % 0 = x; the smallest number divided by -1,
/// which would trap, is negated instead.
fn divide(ops: &mut Assembler, op: Alu, width: Width, to: u8, src: Operand) {
    let is_signed = matches!(op, Alu::SDiv | Alu::SMod);
    let is_mod = matches!(op, Alu::Mod | Alu::SMod);
    let (zero, minus, done) = (ops.new_dynamic_label(), ops.new_dynamic_label(), ops.new_dynamic_label());
    match (width, src) {
        (Width::W64, Operand::Reg(src)) => dynasm!(ops; .arch x64; mov r11, Rq(x86(src)); test r11, r11; jz =>zero),
        (Width::W32, Operand::Reg(src)) => dynasm!(ops; .arch x64; mov r11d, Rd(x86(src)); test r11d, r11d; jz =>zero),
        (Width::W64, Operand::Imm(imm)) => constant(ops, 11, i64::from(imm) as u64),
        (Width::W32, Operand::Imm(imm)) => constant(ops, 11, u64::from(imm as u32)),
    }
    match width {
        Width::W64 if is_signed => dynasm!(ops; .arch x64; cmp r11, -1; je =>minus),
        Width::W32 if is_signed => dynasm!(ops; .arch x64; cmp r11d, -1; je =>minus),
        _ => {}
    }
    for reg in [RAX, RDX] {
        if to != reg {
            dynasm!(ops; .arch x64; push Rq(reg));
        }
    }
    if to != RAX {
        dynasm!(ops; .arch x64; mov rax, Rq(to));
    }
    match (width, is_signed) {
        (Width::W64, true) => dynasm!(ops; .arch x64; cqo; idiv r11),
        (Width::W32, true) => dynasm!(ops; .arch x64; cdq; idiv r11d),
        (Width::W64, false) => dynasm!(ops; .arch x64; xor edx, edx; div r11),
        (Width::W32, false) => dynasm!(ops; .arch x64; xor edx, edx; div r11d),
    }
    dynasm!(ops; .arch x64; mov r11, Rq(if is_mod { RDX } else { RAX }));
    for reg in [RDX, RAX] {
        if to != reg {
            dynasm!(ops; .arch x64; pop Rq(reg));
        }
    }
    dynasm!(ops; .arch x64; mov Rq(to), r11; jmp =>done; =>minus);
    match (is_mod, width) {
        (true, _) => dynasm!(ops; .arch x64; xor Rd(to), Rd(to)),
        (false, Width::W64) => dynasm!(ops; .arch x64; neg Rq(to)),
        (false, Width::W32) => dynasm!(ops; .arch x64; neg Rd(to)),
    }
    dynasm!(ops; .arch x64; jmp =>done; =>zero);
    match (is_mod, width) {
        (false, _) => dynasm!(ops; .arch x64; xor Rd(to), Rd(to)),
        (true, Width::W32) => dynasm!(ops; .arch x64; mov Rd(to), Rd(to)),
        (true, Width::W64) => {}
    }
    dynasm!(ops; .arch x64; =>done);
}

fn mov_sx(ops: &mut Assembler, width: Width, bits: u8, to: u8, from: u8) {
    match (width, bits) {
        (Width::W64, 8) => dynasm!(ops; .arch x64; movsx Rq(to), Rb(from)),
        (Width::W64, 16) => dynasm!(ops; .arch x64; movsx Rq(to), Rw(from)),
        (Width::W64, _) => dynasm!(ops; .arch x64; movsxd Rq(to), Rd(from)),
        (Width::W32, 8) => dynasm!(ops; .arch x64; movsx Rd(to), Rb(from)),
        (Width::W32, _) => dynasm!(ops; .arch x64; movsx Rd(to), Rw(from)),
    }
}

fn byte_order(ops: &mut Assembler, order: ByteOrder, bits: u8, to: u8) {
    match (bits, order) {
        (16, ByteOrder::Little) => dynasm!(ops; .arch x64; movzx Rd(to), Rw(to)),
        (16, _) => dynasm!(ops; .arch x64; rol Rw(to), 8; movzx Rd(to), Rw(to)),
        (32, ByteOrder::Little) => dynasm!(ops; .arch x64; mov Rd(to), Rd(to)),
        (32, _) => dynasm!(ops; .arch x64; bswap Rd(to)),
        (_, ByteOrder::Little) => {}
        (_, _) => dynasm!(ops; .arch x64; bswap Rq(to)),
    }
}

pub fn load(ops: &mut Assembler, size: Size, signed: bool, to: u8, base: u8, off: i32) {
    match (size, signed) {
        (Size::B, false) => dynasm!(ops; .arch x64; movzx Rd(to), BYTE [Rq(base) + off]),
        (Size::H, false) => dynasm!(ops; .arch x64; movzx Rd(to), WORD [Rq(base) + off]),
        (Size::W, false) => dynasm!(ops; .arch x64; mov Rd(to), [Rq(base) + off]),
        (Size::D, _) => dynasm!(ops; .arch x64; mov Rq(to), [Rq(base) + off]),
        (Size::B, true) => dynasm!(ops; .arch x64; movsx Rq(to), BYTE [Rq(base) + off]),
        (Size::H, true) => dynasm!(ops; .arch x64; movsx Rq(to), WORD [Rq(base) + off]),
        (Size::W, true) => dynasm!(ops; .arch x64; movsxd Rq(to), DWORD [Rq(base) + off]),
    }
}

fn store(ops: &mut Assembler, size: Size, base: u8, off: i32, src: Operand) {
    match src {
        Operand::Reg(reg) => {
            let from = x86(reg);
            match size {
                Size::B => dynasm!(ops; .arch x64; mov [Rq(base) + off], Rb(from)),
                Size::H => dynasm!(ops; .arch x64; mov [Rq(base) + off], Rw(from)),
                Size::W => dynasm!(ops; .arch x64; mov [Rq(base) + off], Rd(from)),
                Size::D => dynasm!(ops; .arch x64; mov [Rq(base) + off], Rq(from)),
            }
        }
        Operand::Imm(imm) => match size {
            Size::B => dynasm!(ops; .arch x64; mov BYTE [Rq(base) + off], imm as i8),
            Size::H => dynasm!(ops; .arch x64; mov WORD [Rq(base) + off], imm as i16),
            Size::W => dynasm!(ops; .arch x64; mov DWORD [Rq(base) + off], imm),
            Size::D => dynasm!(ops; .arch x64; mov QWORD [Rq(base) + off], imm),
        },
    }
}

/// `lock name [place], reg` by size.
macro_rules! locked {
    ($ops:ident, $name:ident, $size:expr, $base:expr, $off:expr, $reg:expr) => {
        match $size {
            Size::D => dynasm!($ops; .arch x64; lock $name [Rq($base) + $off], Rq($reg)),
            _ => dynasm!($ops; .arch x64; lock $name [Rq($base) + $off], Rd($reg)),
        }
    };
}

fn atomic(ops: &mut Assembler, op: Atomic, fetch: bool, size: Size, (base, off): (u8, i32), src: u8) {
    match (op, fetch) {
        (Atomic::Add, false) => locked!(ops, add, size, base, off, src),
        (Atomic::Or, false) => locked!(ops, or, size, base, off, src),
        (Atomic::And, false) => locked!(ops, and, size, base, off, src),
        (Atomic::Xor, false) => locked!(ops, xor, size, base, off, src),
        (Atomic::Add, true) => locked!(ops, xadd, size, base, off, src),
        (Atomic::Xchg, _) => match size {
            Size::D => dynasm!(ops; .arch x64; xchg [Rq(base) + off], Rq(src)),
            _ => dynasm!(ops; .arch x64; xchg [Rq(base) + off], Rd(src)),
        },
        (Atomic::CmpXchg, _) => {
            locked!(ops, cmpxchg, size, base, off, src);
            if size != Size::D {
                // On success the processor leaves the upper half of rax alone.
                dynasm!(ops; .arch x64; mov eax, eax);
            }
        }
        (Atomic::Or | Atomic::And | Atomic::Xor, true) => fetch_bits(ops, op, size, (base, off), src),
    }
}

/// or, and, xor that return the old value: there is no such instruction, so compare and exchange until it holds.
fn fetch_bits(ops: &mut Assembler, op: Atomic, size: Size, (base, off): (u8, i32), src: u8) {
    let again = ops.new_dynamic_label();
    // src gets the old value in the end: until then it holds the new one, unless it is rax, which cmpxchg needs.
    let new = if src == RAX { 9 } else { src };
    dynasm!(ops; .arch x64; lea r11, [Rq(base) + off]; push r9; push r10; mov r9, rax; mov r10, Rq(src));
    match size {
        Size::D => dynasm!(ops; .arch x64; mov rax, [r11]; =>again; mov Rq(new), rax),
        _ => dynasm!(ops; .arch x64; mov eax, [r11]; =>again; mov Rd(new), eax),
    }
    match op {
        Atomic::Or => dynasm!(ops; .arch x64; or Rq(new), r10),
        Atomic::And => dynasm!(ops; .arch x64; and Rq(new), r10),
        _ => dynasm!(ops; .arch x64; xor Rq(new), r10),
    }
    match size {
        Size::D => dynasm!(ops; .arch x64; lock cmpxchg [r11], Rq(new); jne =>again),
        _ => dynasm!(ops; .arch x64; lock cmpxchg [r11], Rd(new); jne =>again; mov eax, eax),
    }
    if src != RAX {
        dynasm!(ops; .arch x64; mov Rq(src), rax; mov rax, r9);
    }
    dynasm!(ops; .arch x64; pop r10; pop r9);
}

pub fn branch(ops: &mut Assembler, cond: Cond, width: Width, dst: Reg, src: Operand, to: DynamicLabel) {
    let a = x86(dst);
    match (cond, src) {
        (Cond::Set, src) => binary!(ops, test, width, a, src),
        // Comparing with nothing: the shorter test sets the same flags.
        (_, Operand::Imm(0)) => match width {
            Width::W64 => dynasm!(ops; .arch x64; test Rq(a), Rq(a)),
            Width::W32 => dynasm!(ops; .arch x64; test Rd(a), Rd(a)),
        },
        (_, src) => binary!(ops, cmp, width, a, src),
    }
    match cond {
        Cond::Eq => dynasm!(ops; .arch x64; je =>to),
        Cond::Ne | Cond::Set => dynasm!(ops; .arch x64; jne =>to),
        Cond::Gt => dynasm!(ops; .arch x64; ja =>to),
        Cond::Ge => dynasm!(ops; .arch x64; jae =>to),
        Cond::Lt => dynasm!(ops; .arch x64; jb =>to),
        Cond::Le => dynasm!(ops; .arch x64; jbe =>to),
        Cond::SGt => dynasm!(ops; .arch x64; jg =>to),
        Cond::SGe => dynasm!(ops; .arch x64; jge =>to),
        Cond::SLt => dynasm!(ops; .arch x64; jl =>to),
        Cond::SLe => dynasm!(ops; .arch x64; jle =>to),
    }
}

/// Registers that an instruction reads.
pub fn reads(op: Op) -> u16 {
    let operand = |src| match src {
        Operand::Reg(reg) => 1u16 << reg,
        Operand::Imm(_) => 0,
    };
    match op {
        Op::Alu { op: Alu::Mov, src, .. } => operand(src),
        Op::Alu { dst, src, .. } | Op::Branch { dst, src, .. } => 1 << dst | operand(src),
        Op::MovSx { src, .. } => 1 << src,
        Op::Neg { dst, .. } | Op::Order { dst, .. } => 1 << dst,
        Op::Load { base, .. } => 1 << base,
        Op::Store { base, src, .. } => 1 << base | operand(src),
        Op::Atomic { op: Atomic::CmpXchg, base, src, .. } => 1 << base | 1 << src | 1,
        Op::Atomic { base, src, .. } => 1 << base | 1 << src,
        Op::Helper { .. } | Op::Local { .. } => 0b11_1110,
        Op::Exit => 1,
        Op::Const { .. } | Op::Address { .. } | Op::Map { .. } | Op::Function { .. } | Op::Goto { .. } => 0,
    }
}

/// The stack's end is rbp throughout.
const _: () = assert!(R10 == 10);
