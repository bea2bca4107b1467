//! One template per instruction family: what an operation of BPF becomes on x86-64. Registers here are x86-64 numbers.
//!
//! Every template leaves all registers but its result as they were, r11 apart. 32-bit results clear the upper half, as BPF
//! wants and x86-64 does by itself.

use dynasm::dynasm;

use super::assembler::{Assembler, Label, One, one};
use crate::{
    isa::{Alu, Atomic, ByteOrder, Cond, Operand, Reg, Size, Width},
    maps::{
        array::{Shards, Values},
        hash::{COLD, Chains, HEADER, LOCKED, MARK, MAX_CHAIN, NEXT, Probe, WARM},
    },
};

pub const RAX: u8 = 0;
pub const RCX: u8 = 1;
pub const RDX: u8 = 2;
pub const RBP: u8 = 5;
pub const RSI: u8 = 6;
pub const RDI: u8 = 7;
/// Scratch of the templates.
pub const R11: u8 = 11;

/// The x86-64 register of a BPF register.
pub fn x86(reg: Reg) -> u8 {
    [RAX, RDI, RSI, RDX, RCX, 8, 3, 13, 14, 15, RBP][usize::from(reg)]
}

/// A second operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Src {
    Reg(u8),
    /// Sign-extended to the operation's width.
    Imm(i32),
}

impl From<Operand> for Src {
    fn from(operand: Operand) -> Src {
        match operand {
            Operand::Reg(reg) => Src::Reg(x86(reg)),
            Operand::Imm(imm) => Src::Imm(imm),
        }
    }
}

/// A place in memory: base register and displacement.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub base: u8,
    pub off: i32,
}

/// `name first, [place]` with the shortest displacement; `first` may be empty.
macro_rules! at {
    ($ops:ident, $place:expr, $base:ident, $off:ident, $short:tt, $long:tt) => {{
        let Place { base: $base, off } = $place;
        match i8::try_from(off) {
            Ok($off) => at!(@emit $ops $short),
            Err(_) => {
                let $off = off;
                at!(@emit $ops $long)
            }
        }
    }};
    (@emit $ops:ident { $($code:tt)* }) => { one!($ops; $($code)*) };
}

/// reg = value, by the shortest encoding. Leaves the flags alone unless the value is 0.
pub fn constant(ops: &mut Assembler, reg: u8, value: u64) {
    if value == 0 {
        one!(ops; xor Rd(reg), Rd(reg));
    } else if value <= u64::from(u32::MAX) {
        one!(ops; mov Rd(reg), DWORD value as u32 as i32);
    } else if let Ok(value) = i32::try_from(value as i64) {
        one!(ops; mov Rq(reg), DWORD value);
    } else {
        one!(ops; mov Rq(reg), QWORD value as i64);
    }
}

/// `name dst, src` by width, with a short immediate where it fits.
macro_rules! binary {
    ($ops:ident, $name:ident, $width:expr, $dst:expr, $src:expr) => {
        match ($width, $src) {
            (Width::W64, Src::Reg(src)) => one!($ops; $name Rq($dst), Rq(src)),
            (Width::W32, Src::Reg(src)) => one!($ops; $name Rd($dst), Rd(src)),
            (Width::W64, Src::Imm(imm)) => match i8::try_from(imm) {
                Ok(imm) => one!($ops; $name Rq($dst), BYTE imm),
                Err(_) => one!($ops; $name Rq($dst), DWORD imm),
            },
            (Width::W32, Src::Imm(imm)) => match i8::try_from(imm) {
                Ok(imm) => one!($ops; $name Rd($dst), BYTE imm),
                Err(_) => one!($ops; $name Rd($dst), DWORD imm),
            },
        }
    };
}

/// Shifts count modulo the width, as the processor does by itself.
macro_rules! shift {
    ($ops:ident, $name:ident, $extended:ident, $width:expr, $dst:expr, $src:expr) => {
        match ($width, $src) {
            (Width::W64, Src::Reg(src)) => one!($ops; $extended Rq($dst), Rq($dst), Rq(src)),
            (Width::W32, Src::Reg(src)) => one!($ops; $extended Rd($dst), Rd($dst), Rd(src)),
            (Width::W64, Src::Imm(imm)) => one!($ops; $name Rq($dst), (imm & 63) as i8),
            // A shift by nothing still clears the upper half.
            (Width::W32, Src::Imm(imm)) if imm & 31 == 0 => one!($ops; mov Rd($dst), Rd($dst)),
            (Width::W32, Src::Imm(imm)) => one!($ops; $name Rd($dst), (imm & 31) as i8),
        }
    };
}

/// dst = dst op src
pub fn alu(ops: &mut Assembler, op: Alu, width: Width, dst: u8, src: Src) {
    match op {
        Alu::Add => binary!(ops, add, width, dst, src),
        Alu::Sub => binary!(ops, sub, width, dst, src),
        Alu::Or => binary!(ops, or, width, dst, src),
        Alu::And => binary!(ops, and, width, dst, src),
        Alu::Xor => binary!(ops, xor, width, dst, src),
        Alu::Lsh => shift!(ops, shl, shlx, width, dst, src),
        Alu::Rsh => shift!(ops, shr, shrx, width, dst, src),
        Alu::Arsh => shift!(ops, sar, sarx, width, dst, src),
        Alu::Mul => multiply(ops, width, dst, src),
        Alu::Mov => mov(ops, width, dst, src),
        Alu::Div | Alu::SDiv | Alu::Mod | Alu::SMod => divide(ops, op, width, dst, src),
    }
}

fn multiply(ops: &mut Assembler, width: Width, dst: u8, src: Src) {
    match (width, src) {
        (Width::W64, Src::Reg(src)) => one!(ops; imul Rq(dst), Rq(src)),
        (Width::W32, Src::Reg(src)) => one!(ops; imul Rd(dst), Rd(src)),
        (Width::W64, Src::Imm(imm)) => match i8::try_from(imm) {
            Ok(imm) => one!(ops; imul Rq(dst), Rq(dst), BYTE imm),
            Err(_) => one!(ops; imul Rq(dst), Rq(dst), DWORD imm),
        },
        (Width::W32, Src::Imm(imm)) => match i8::try_from(imm) {
            Ok(imm) => one!(ops; imul Rd(dst), Rd(dst), BYTE imm),
            Err(_) => one!(ops; imul Rd(dst), Rd(dst), DWORD imm),
        },
    }
}

fn mov(ops: &mut Assembler, width: Width, dst: u8, src: Src) {
    match (width, src) {
        (Width::W64, Src::Reg(src)) => one!(ops; mov Rq(dst), Rq(src)),
        (Width::W32, Src::Reg(src)) => one!(ops; mov Rd(dst), Rd(src)),
        (Width::W64, Src::Imm(imm)) => constant(ops, dst, i64::from(imm) as u64),
        (Width::W32, Src::Imm(imm)) => constant(ops, dst, u64::from(imm as u32)),
    }
}

/// Division: the divisor goes to r11, rax and rdx are brought back. x / 0 = 0, x % 0 = x; the smallest number divided by -1,
/// which would trap, is negated instead. Apart from `alu`, which is called all the time and has no registers to keep without it.
#[inline(never)]
fn divide(ops: &mut Assembler, op: Alu, width: Width, dst: u8, src: Src) {
    let is_signed = matches!(op, Alu::SDiv | Alu::SMod);
    let is_mod = matches!(op, Alu::Mod | Alu::SMod);
    match src {
        Src::Imm(0) => return divide_by_zero(ops, is_mod, width, dst),
        Src::Imm(-1) if is_signed => return divide_by_minus_one(ops, is_mod, width, dst),
        Src::Imm(imm) => {
            mov(ops, width, R11, Src::Imm(imm));
            return divide_by_r11(ops, is_signed, is_mod, width, dst);
        }
        Src::Reg(_) => {}
    }
    let (zero, minus, done) = (ops.new_label(), ops.new_label(), ops.new_label());
    mov(ops, width, R11, src);
    match width {
        Width::W64 => dynasm!(ops; .arch x64; test r11, r11; jz =>zero),
        Width::W32 => dynasm!(ops; .arch x64; test r11d, r11d; jz =>zero),
    }
    if is_signed {
        compare_numbers(ops, width, R11, Src::Imm(-1));
        dynasm!(ops; .arch x64; je =>minus);
    }
    divide_by_r11(ops, is_signed, is_mod, width, dst);
    dynasm!(ops; .arch x64; jmp =>done);
    if is_signed {
        dynasm!(ops; .arch x64; =>minus);
        divide_by_minus_one(ops, is_mod, width, dst);
        dynasm!(ops; .arch x64; jmp =>done);
    }
    dynasm!(ops; .arch x64; =>zero);
    divide_by_zero(ops, is_mod, width, dst);
    dynasm!(ops; .arch x64; =>done);
}

fn divide_by_zero(ops: &mut Assembler, is_mod: bool, width: Width, dst: u8) {
    match (is_mod, width) {
        (false, _) => dynasm!(ops; .arch x64; xor Rd(dst), Rd(dst)),
        (true, Width::W32) => dynasm!(ops; .arch x64; mov Rd(dst), Rd(dst)),
        (true, Width::W64) => {}
    }
}

fn divide_by_minus_one(ops: &mut Assembler, is_mod: bool, width: Width, dst: u8) {
    match is_mod {
        true => dynasm!(ops; .arch x64; xor Rd(dst), Rd(dst)),
        false => negate(ops, width, dst),
    }
}

fn divide_by_r11(ops: &mut Assembler, is_signed: bool, is_mod: bool, width: Width, dst: u8) {
    for reg in [RAX, RDX] {
        if dst != reg {
            dynasm!(ops; .arch x64; push Rq(reg));
        }
    }
    if dst != RAX {
        dynasm!(ops; .arch x64; mov rax, Rq(dst));
    }
    match (width, is_signed) {
        (Width::W64, true) => dynasm!(ops; .arch x64; cqo; idiv r11),
        (Width::W32, true) => dynasm!(ops; .arch x64; cdq; idiv r11d),
        (Width::W64, false) => dynasm!(ops; .arch x64; xor edx, edx; div r11),
        (Width::W32, false) => dynasm!(ops; .arch x64; xor edx, edx; div r11d),
    }
    dynasm!(ops; .arch x64; mov r11, Rq(if is_mod { RDX } else { RAX }));
    for reg in [RDX, RAX] {
        if dst != reg {
            dynasm!(ops; .arch x64; pop Rq(reg));
        }
    }
    dynasm!(ops; .arch x64; mov Rq(dst), r11);
}

pub fn negate(ops: &mut Assembler, width: Width, dst: u8) {
    match width {
        Width::W64 => one!(ops; neg Rq(dst)),
        Width::W32 => one!(ops; neg Rd(dst)),
    }
}

/// dst = the lower bits of src, sign-extended.
pub fn mov_sx(ops: &mut Assembler, width: Width, bits: u8, dst: u8, src: u8) {
    match (width, bits) {
        (Width::W64, 8) => one!(ops; movsx Rq(dst), Rb(src)),
        (Width::W64, 16) => one!(ops; movsx Rq(dst), Rw(src)),
        (Width::W64, _) => one!(ops; movsxd Rq(dst), Rd(src)),
        (Width::W32, 8) => one!(ops; movsx Rd(dst), Rb(src)),
        (Width::W32, _) => one!(ops; movsx Rd(dst), Rw(src)),
    }
}

pub fn byte_order(ops: &mut Assembler, order: ByteOrder, bits: u8, dst: u8) {
    match (bits, order) {
        (16, ByteOrder::Little) => one!(ops; movzx Rd(dst), Rw(dst)),
        (16, _) => dynasm!(ops; .arch x64; rol Rw(dst), 8; movzx Rd(dst), Rw(dst)),
        (32, ByteOrder::Little) => one!(ops; mov Rd(dst), Rd(dst)),
        (32, _) => one!(ops; bswap Rd(dst)),
        (_, ByteOrder::Little) => {}
        (_, _) => one!(ops; bswap Rq(dst)),
    }
}

/// dst = base + off
pub fn lea(ops: &mut Assembler, dst: u8, from: Place) {
    at!(ops, from, base, off, { lea Rq(dst), [BYTE Rq(base) + off] }, { lea Rq(dst), [Rq(base) + off] });
}

/// dst = a + b
pub fn lea_sum(ops: &mut Assembler, dst: u8, a: u8, b: u8) {
    one!(ops; lea Rq(dst), [Rq(a) + Rq(b)]);
}

pub fn load(ops: &mut Assembler, size: Size, signed: bool, dst: u8, from: Place) {
    match (size, signed) {
        (Size::B, false) => {
            at!(ops, from, base, off, { movzx Rd(dst), BYTE [BYTE Rq(base) + off] }, { movzx Rd(dst), BYTE [Rq(base) + off] })
        }
        (Size::H, false) => {
            at!(ops, from, base, off, { movzx Rd(dst), WORD [BYTE Rq(base) + off] }, { movzx Rd(dst), WORD [Rq(base) + off] })
        }
        (Size::W, false) => {
            at!(ops, from, base, off, { mov Rd(dst), [BYTE Rq(base) + off] }, { mov Rd(dst), [Rq(base) + off] })
        }
        (Size::D, _) => {
            at!(ops, from, base, off, { mov Rq(dst), [BYTE Rq(base) + off] }, { mov Rq(dst), [Rq(base) + off] })
        }
        (Size::B, true) => {
            at!(ops, from, base, off, { movsx Rq(dst), BYTE [BYTE Rq(base) + off] }, { movsx Rq(dst), BYTE [Rq(base) + off] })
        }
        (Size::H, true) => {
            at!(ops, from, base, off, { movsx Rq(dst), WORD [BYTE Rq(base) + off] }, { movsx Rq(dst), WORD [Rq(base) + off] })
        }
        (Size::W, true) => {
            at!(ops, from, base, off, { movsxd Rq(dst), DWORD [BYTE Rq(base) + off] }, { movsxd Rq(dst), DWORD [Rq(base) + off] })
        }
    }
}

pub fn store(ops: &mut Assembler, size: Size, to: Place, src: Src) {
    match (size, src) {
        (Size::B, Src::Reg(src)) => {
            at!(ops, to, base, off, { mov [BYTE Rq(base) + off], Rb(src) }, { mov [Rq(base) + off], Rb(src) })
        }
        (Size::H, Src::Reg(src)) => {
            at!(ops, to, base, off, { mov [BYTE Rq(base) + off], Rw(src) }, { mov [Rq(base) + off], Rw(src) })
        }
        (Size::W, Src::Reg(src)) => {
            at!(ops, to, base, off, { mov [BYTE Rq(base) + off], Rd(src) }, { mov [Rq(base) + off], Rd(src) })
        }
        (Size::D, Src::Reg(src)) => {
            at!(ops, to, base, off, { mov [BYTE Rq(base) + off], Rq(src) }, { mov [Rq(base) + off], Rq(src) })
        }
        (Size::B, Src::Imm(imm)) => {
            at!(ops, to, base, off, { mov BYTE [BYTE Rq(base) + off], imm as i8 }, { mov BYTE [Rq(base) + off], imm as i8 })
        }
        (Size::H, Src::Imm(imm)) => {
            at!(ops, to, base, off, { mov WORD [BYTE Rq(base) + off], imm as i16 }, { mov WORD [Rq(base) + off], imm as i16 })
        }
        (Size::W, Src::Imm(imm)) => {
            at!(ops, to, base, off, { mov DWORD [BYTE Rq(base) + off], imm }, { mov DWORD [Rq(base) + off], imm })
        }
        (Size::D, Src::Imm(imm)) => {
            at!(ops, to, base, off, { mov QWORD [BYTE Rq(base) + off], imm }, { mov QWORD [Rq(base) + off], imm })
        }
    }
}

/// `lock name [place], reg` by size.
macro_rules! locked {
    ($ops:ident, $name:ident, $size:expr, $place:expr, $reg:expr) => {{
        let Place { base, off } = $place;
        match $size {
            Size::D => dynasm!($ops; .arch x64; lock $name [Rq(base) + off], Rq($reg)),
            _ => dynasm!($ops; .arch x64; lock $name [Rq(base) + off], Rd($reg)),
        }
    }};
}

pub fn atomic(ops: &mut Assembler, op: Atomic, fetch: bool, size: Size, at: Place, src: u8) {
    match (op, fetch) {
        (Atomic::Add, false) => locked!(ops, add, size, at, src),
        (Atomic::Or, false) => locked!(ops, or, size, at, src),
        (Atomic::And, false) => locked!(ops, and, size, at, src),
        (Atomic::Xor, false) => locked!(ops, xor, size, at, src),
        (Atomic::Add, true) => locked!(ops, xadd, size, at, src),
        (Atomic::Xchg, _) => match (size, at) {
            (Size::D, Place { base, off }) => dynasm!(ops; .arch x64; xchg [Rq(base) + off], Rq(src)),
            (_, Place { base, off }) => dynasm!(ops; .arch x64; xchg [Rq(base) + off], Rd(src)),
        },
        (Atomic::CmpXchg, _) => {
            locked!(ops, cmpxchg, size, at, src);
            if size != Size::D {
                // On success the processor leaves the upper half of rax alone.
                dynasm!(ops; .arch x64; mov eax, eax);
            }
        }
        (Atomic::Or | Atomic::And | Atomic::Xor, true) => fetch_bits(ops, op, size, at, src),
    }
}

/// or, and, xor that return the old value: there is no such instruction, so compare and exchange until it holds.
fn fetch_bits(ops: &mut Assembler, op: Atomic, size: Size, at: Place, src: u8) {
    let again = ops.new_label();
    // src gets the old value in the end: until then it holds the new one, unless it is rax, which cmpxchg needs.
    let new = if src == RAX { 9 } else { src };
    lea(ops, R11, at);
    dynasm!(ops; .arch x64; push r9; push r10; mov r9, rax; mov r10, Rq(src));
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

/// The flags of a comparison.
pub fn compare(ops: &mut Assembler, cond: Cond, width: Width, dst: u8, src: Src) {
    match (cond, src) {
        (Cond::Set, Src::Reg(src)) => match width {
            Width::W64 => one!(ops; test Rq(dst), Rq(src)),
            Width::W32 => one!(ops; test Rd(dst), Rd(src)),
        },
        (Cond::Set, Src::Imm(imm)) => match width {
            // Not negative: the upper half of the mask is 0, and the shorter form tests the same bits.
            Width::W64 if imm < 0 => one!(ops; test Rq(dst), DWORD imm),
            _ => one!(ops; test Rd(dst), DWORD imm),
        },
        // Comparing with nothing: the shorter test sets the same flags.
        (_, Src::Imm(0)) => match width {
            Width::W64 => one!(ops; test Rq(dst), Rq(dst)),
            Width::W32 => one!(ops; test Rd(dst), Rd(dst)),
        },
        (_, src) => compare_numbers(ops, width, dst, src),
    }
}

fn compare_numbers(ops: &mut Assembler, width: Width, dst: u8, src: Src) {
    match (width, src) {
        (Width::W64, Src::Reg(src)) => one!(ops; cmp Rq(dst), Rq(src)),
        (Width::W32, Src::Reg(src)) => one!(ops; cmp Rd(dst), Rd(src)),
        (width, Src::Imm(imm)) => match (i8::try_from(imm), width) {
            // dynasm has no form of cmp with one byte.
            (Ok(imm), Width::W64) => ops.put(One::of([0x48 | dst >> 3, 0x83, 0xf8 | dst & 7, imm as u8])),
            (Ok(imm), Width::W32) if dst >= 8 => ops.put(One::of([0x41, 0x83, 0xf8 | dst & 7, imm as u8])),
            (Ok(imm), Width::W32) => ops.put(One::of([0x83, 0xf8 | dst, imm as u8])),
            (Err(_), Width::W64) => one!(ops; cmp Rq(dst), imm),
            (Err(_), Width::W32) => one!(ops; cmp Rd(dst), imm),
        },
    }
}

/// A jump, by a displacement of one byte where the caller knows that it reaches.
macro_rules! jump {
    ($ops:ident, $name:ident, $short:expr, $to:expr) => {
        match $short {
            true => dynasm!($ops; .arch x64; $name BYTE =>$to),
            false => dynasm!($ops; .arch x64; $name =>$to),
        }
    };
}

pub fn goto(ops: &mut Assembler, short: bool, to: Label) {
    jump!(ops, jmp, short, to);
}

/// Jumps if the condition holds.
pub fn branch(ops: &mut Assembler, cond: Cond, width: Width, dst: u8, src: Src, short: bool, to: Label) {
    compare(ops, cond, width, dst, src);
    match cond {
        Cond::Eq => jump!(ops, je, short, to),
        Cond::Ne | Cond::Set => jump!(ops, jne, short, to),
        Cond::Gt => jump!(ops, ja, short, to),
        Cond::Ge => jump!(ops, jae, short, to),
        Cond::Lt => jump!(ops, jb, short, to),
        Cond::Le => jump!(ops, jbe, short, to),
        Cond::SGt => jump!(ops, jg, short, to),
        Cond::SGe => jump!(ops, jge, short, to),
        Cond::SLt => jump!(ops, jl, short, to),
        Cond::SLe => jump!(ops, jle, short, to),
    }
}

/// rax = the address of the value whose index is at rsi; 0: there is none.
pub fn array_lookup(ops: &mut Assembler, values: Values) {
    let done = ops.new_label();
    dynasm!(ops; .arch x64; mov r11d, [rsi]; xor eax, eax; cmp r11d, values.count as i32; jae BYTE =>done);
    constant(ops, RAX, values.base as u64);
    match values.stride {
        8 => dynasm!(ops; .arch x64; lea rax, [rax + r11 * 8]),
        stride => dynasm!(ops; .arch x64; imul r11, r11, stride as i32; add rax, r11),
    }
    dynasm!(ops; .arch x64; =>done);
}

/// rax = the address of the calling thread's value whose index is at rsi; 0: there is none. To `unknown`, with rsi as it was, if the
/// thread's shard was never looked at.
pub fn percpu_array_lookup(
    ops: &mut Assembler,
    values: Values,
    shards: Shards,
    thread_index: usize,
    (unknown, done): (Label, Label),
) {
    // The index is read once: others may write where it lies.
    dynasm!(ops; .arch x64
        ; mov r11d, [rsi]
        ; xor eax, eax
        ; cmp r11d, values.count as i32
        ; jae =>done
        ; push rsi
        ; push r11
        ; mov rax, QWORD thread_index as i64
        ; call rax
        ; mov eax, eax
        ; mov r11, QWORD shards.in_use as i64
        ; cmp eax, [r11]
        ; pop r11
        ; pop rsi
        ; jae BYTE =>unknown
        ; imul r11, r11, values.stride as i32
        ; imul rax, rax, shards.stride as i32
        ; add rax, r11
        ; mov r11, QWORD values.base as i64
        ; add rax, r11
        ; jmp =>done
    );
}

/// rax = the address of the value whose key is at rsi; 0: there is none. Reads what `Hash::lookup` reads, in the same order: the
/// processor's plain loads acquire. A key of eight bytes at most is compared whole, one of sixteen by halves: no hash is compared first.
pub fn hash_lookup(ops: &mut Assembler, chains: Chains) {
    const KEY: i8 = HEADER as i8;
    let (again, other, none, done) = (ops.new_label(), ops.new_label(), ops.new_label(), ops.new_label());
    key_hash(ops, chains);
    // Behind it the key is in rcx and, if it is that long, r11; r9 leads to the probe.
    dynasm!(ops; .arch x64
        ; and edx, chains.mask as i32
        ; mov rdi, [BYTE r9 + Probe::BUCKETS]
        ; mov edx, [rdi + rdx * 4]
        ; mov r8d, MAX_CHAIN as i32
        ; and edx, !LOCKED as i32
        ; jz BYTE =>none
        ; =>again
    );
    match chains.stride.is_power_of_two() {
        true => dynasm!(ops; .arch x64; shl rdx, chains.stride.trailing_zeros() as i8),
        false => dynasm!(ops; .arch x64; imul rdx, rdx, chains.stride as i32),
    }
    dynasm!(ops; .arch x64; add rdx, [BYTE r9 + Probe::ENTRIES]; cmp rcx, [BYTE rdx + KEY]; jne BYTE =>other);
    if chains.key_size > 8 {
        dynasm!(ops; .arch x64; cmp r11, [BYTE rdx + KEY + 8]; jne BYTE =>other);
    }
    lea(ops, RAX, Place { base: RDX, off: chains.value_at as i32 });
    if chains.evicts {
        dynasm!(ops; .arch x64; cmp DWORD [BYTE rdx + MARK as i8], COLD as i32; jne BYTE =>done);
        dynasm!(ops; .arch x64; mov DWORD [BYTE rdx + MARK as i8], WARM as i32);
    }
    dynasm!(ops; .arch x64
        ; jmp BYTE =>done
        ; =>other
        ; mov edx, [BYTE rdx + NEXT as i8]
        ; dec r8d
        ; jz BYTE =>none
        ; test edx, edx
        ; jnz BYTE =>again
        ; =>none
        ; xor eax, eax
        ; =>done
    );
}

/// edx = the hash of the key at rsi, as `Hash::hash` computes it. The key, which is read once, stays in rcx and r11; r9 = the probe.
fn key_hash(ops: &mut Assembler, chains: Chains) {
    dynasm!(ops; .arch x64; mov r9, QWORD chains.probe as i64);
    match chains.key_size {
        4 => dynasm!(ops; .arch x64; mov ecx, [rsi]),
        _ => dynasm!(ops; .arch x64; mov rcx, [rsi]),
    }
    dynasm!(ops; .arch x64; mov rdx, rcx; xor rdx, [BYTE r9 + Probe::SEED]);
    dynasm!(ops; .arch x64; mulx rax, rdx, [BYTE r9 + Probe::FACTOR]; xor rdx, rax);
    if chains.key_size > 8 {
        dynasm!(ops; .arch x64; mov r11, [BYTE rsi + 8]; xor rdx, r11);
        dynasm!(ops; .arch x64; mulx rax, rdx, [BYTE r9 + Probe::FACTOR]; xor rdx, rax);
    }
    dynasm!(ops; .arch x64; mov rax, rdx; shr rax, 32; xor edx, eax);
}

/// rax = the halves of rdi * rsi, folded by xor. rdx goes.
pub fn mul128_fold(ops: &mut Assembler) {
    dynasm!(ops; .arch x64; mov rax, rdi; mul rsi; xor rax, rdx);
}

/// rax = DuckDB's hash of the integer in rdi. rdx goes.
pub fn murmur64(ops: &mut Assembler) {
    dynasm!(ops; .arch x64; mov rdx, QWORD MURMUR_FACTOR as i64; mov r11, rdi; mov rax, rdi);
    for _ in 0..2 {
        dynasm!(ops; .arch x64; shr r11, 32; xor rax, r11; imul rax, rdx; mov r11, rax);
    }
    dynasm!(ops; .arch x64; shr r11, 32; xor rax, r11);
}

/// common/types/hash.hpp
pub const MURMUR_FACTOR: u64 = 0xd6e8_feb8_6659_fd93;

/// rax = the CRC-32C of so many bytes at rdi, begun at edx, as `crc32c_append` computes it.
pub fn crc32c(ops: &mut Assembler, size: u32) {
    dynasm!(ops; .arch x64; mov eax, edx; not eax);
    let mut off = 0;
    for (bytes, step) in [(8, size / 8), (4, size / 4 % 2), (2, size / 2 % 2), (1, size % 2)] {
        for _ in 0..step {
            match bytes {
                8 => dynasm!(ops; .arch x64; crc32 rax, QWORD [rdi + off]),
                4 => dynasm!(ops; .arch x64; crc32 eax, DWORD [rdi + off]),
                2 => dynasm!(ops; .arch x64; crc32 eax, WORD [rdi + off]),
                _ => dynasm!(ops; .arch x64; crc32 eax, BYTE [rdi + off]),
            }
            off += bytes;
        }
    }
    dynasm!(ops; .arch x64; not eax);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(emit: impl FnOnce(&mut Assembler)) -> Vec<u8> {
        let mut ops = Assembler::new(0, 0);
        emit(&mut ops);
        ops.finish().unwrap();
        ops.bytes().to_vec()
    }

    #[test]
    fn encodings_are_short() {
        assert_eq!(code(|ops| alu(ops, Alu::Add, Width::W64, RAX, Src::Imm(1))), [0x48, 0x83, 0xc0, 0x01]);
        // dynasm writes a SIB byte for each base, and a prefix for each register, that it does not know.
        let short = [0x48, 0x8b, 0x44, 0x27, 0x08];
        assert_eq!(code(|ops| load(ops, Size::D, false, RAX, Place { base: RDI, off: 8 })), short);
        assert_eq!(code(|ops| load(ops, Size::D, false, RAX, Place { base: RDI, off: 128 })).len(), 8);
        assert_eq!(code(|ops| store(ops, Size::W, Place { base: RBP, off: -4 }, Src::Imm(7))).len(), 9);
        assert_eq!(code(|ops| compare(ops, Cond::Eq, Width::W32, 9, Src::Imm(-1))), [0x41, 0x83, 0xf9, 0xff]);
        assert!(code(|ops| constant(ops, RAX, 0)).len() <= 3);
        assert_eq!(code(|ops| constant(ops, RAX, u64::MAX)).len(), 7);
        assert!(code(|ops| compare(ops, Cond::Set, Width::W64, RDI, Src::Imm(8))).len() <= 7);
    }
}
