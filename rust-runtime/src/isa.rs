//! The BPF instruction set (RFC 9669, ISA v4 without callx): decoding, and the meaning of arithmetic and comparisons.
//!
//! The checker, the code generator and the interpreter all work on [`Op`], so that a reserved field or an unknown opcode is
//! refused in one place. [`disasm`] writes an `Op` as `llvm-objdump` does.

mod disasm;
mod eval;

pub use eval::{alu, byte_order, compare, sign_extend};

/// One slot of eight bytes. `LDDW` takes two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Insn {
    pub code: u8,
    pub dst: u8,
    pub src: u8,
    pub off: i16,
    pub imm: i32,
}

pub const SLOT: usize = 8;

/// `LDDW` whose value is a map: `imm` is its place in `Object.maps`. Only the loader writes this and the following.
pub const LDDW_MAP: u8 = 1;
/// `LDDW` whose value is the address of a byte of a map's only value, the object's memory: `imm` is the place in `Object.maps`,
/// which is the region's, the next slot's `imm` the offset.
pub const LDDW_MEMORY: u8 = 2;
/// `LDDW` whose value is a function of the same program, which begins `imm + 1` slots behind the first half, as in a call.
pub const LDDW_FUNCTION: u8 = 4;
/// A call of a function of the same program; `imm` counts slots from the next instruction.
pub const CALL_LOCAL: u8 = 1;
pub const CALL: u8 = 0x85;
pub const LDDW: u8 = 0x18;

impl Insn {
    pub fn from_bytes(bytes: [u8; SLOT]) -> Insn {
        Insn {
            code: bytes[0],
            dst: bytes[1] & 0xf,
            src: bytes[1] >> 4,
            off: i16::from_le_bytes([bytes[2], bytes[3]]),
            imm: i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }

    pub fn to_bytes(self) -> [u8; SLOT] {
        let (off, imm) = (self.off.to_le_bytes(), self.imm.to_le_bytes());
        [self.code, self.dst | self.src << 4, off[0], off[1], imm[0], imm[1], imm[2], imm[3]]
    }

    pub fn is_lddw(self) -> bool {
        self.code == LDDW
    }

    pub fn is_local_call(self) -> bool {
        self.code == CALL && self.src == CALL_LOCAL
    }
}

pub type Reg = u8;

/// The stack's end: read-only.
pub const R10: Reg = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    W32,
    W64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    Reg(Reg),
    /// Sign-extended to the operation's width.
    Imm(i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alu {
    Add,
    Sub,
    Mul,
    Div,
    SDiv,
    Mod,
    SMod,
    Or,
    And,
    Xor,
    Lsh,
    Rsh,
    Arsh,
    Mov,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cond {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
    Set,
    SGt,
    SGe,
    SLt,
    SLe,
}

impl Cond {
    /// Whether it holds of two equal numbers. None: that depends on them.
    pub fn of_equals(self) -> Option<bool> {
        match self {
            Cond::Eq | Cond::Ge | Cond::Le | Cond::SGe | Cond::SLe => Some(true),
            Cond::Ne | Cond::Gt | Cond::Lt | Cond::SGt | Cond::SLt => Some(false),
            Cond::Set => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// To little endian: truncation, on x86-64.
    Little,
    /// To big endian: a swap, on x86-64.
    Big,
    Swap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    B,
    H,
    W,
    D,
}

impl Size {
    pub fn bytes(self) -> u32 {
        match self {
            Size::B => 1,
            Size::H => 2,
            Size::W => 4,
            Size::D => 8,
        }
    }

    pub fn bits(self) -> u32 {
        8 * self.bytes()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Atomic {
    Add,
    Or,
    And,
    Xor,
    Xchg,
    CmpXchg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Alu {
        op: Alu,
        width: Width,
        dst: Reg,
        src: Operand,
    },
    /// dst = the lower `bits` of src, sign-extended to the width.
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
        order: ByteOrder,
        bits: u8,
        dst: Reg,
    },
    /// dst = a 64-bit constant. Takes two slots.
    Const {
        dst: Reg,
        value: u64,
    },
    /// dst = the address of a byte of the object's memory. Takes two slots.
    Address {
        dst: Reg,
        region: u32,
        offset: i32,
    },
    /// dst = a map of the object. Takes two slots.
    Map {
        dst: Reg,
        map: u32,
    },
    /// dst = a function of the program, for a callback; it begins `off + 1` slots behind this one. Takes two slots.
    Function {
        dst: Reg,
        off: i32,
    },
    Load {
        size: Size,
        signed: bool,
        dst: Reg,
        base: Reg,
        off: i16,
    },
    Store {
        size: Size,
        base: Reg,
        off: i16,
        src: Operand,
    },
    Atomic {
        op: Atomic,
        fetch: bool,
        size: Size,
        base: Reg,
        off: i16,
        src: Reg,
    },
    /// Jumps count slots from the next instruction.
    Branch {
        cond: Cond,
        width: Width,
        dst: Reg,
        src: Operand,
        off: i16,
    },
    Goto {
        off: i32,
    },
    Helper {
        id: u32,
    },
    Local {
        off: i32,
    },
    Exit,
}

/// Why a slot is no instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("opcode {0:#04x} is unknown")]
    Opcode(u8),
    #[error("register r{0} does not exist")]
    Register(u8),
    #[error("r10 is read-only")]
    FramePointer,
    #[error("a reserved field is not zero")]
    Reserved,
    #[error("the immediate {0} is not valid here")]
    Immediate(i32),
    #[error("indirect calls (callx) are not supported")]
    IndirectCall,
    #[error("calls of kernel functions are not supported")]
    KernelCall,
    #[error("the second half of a 64-bit constant is missing")]
    HalfConstant,
}

impl Op {
    /// Slots that the instruction takes.
    pub fn slots(self) -> usize {
        match self {
            Op::Const { .. } | Op::Address { .. } | Op::Map { .. } | Op::Function { .. } => 2,
            _ => 1,
        }
    }

    /// Where it may go other than to the next instruction, relative to that. Calls come back and are not jumps.
    pub fn jump(self) -> Option<i32> {
        match self {
            Op::Branch { off, .. } => Some(i32::from(off)),
            Op::Goto { off } => Some(off),
            _ => None,
        }
    }

    /// False after an unconditional jump and after exit.
    pub fn falls_through(self) -> bool {
        !matches!(self, Op::Goto { .. } | Op::Exit)
    }

    /// Decodes the instruction at a slot.
    pub fn decode(insns: &[Insn], pc: usize) -> Result<Op, DecodeError> {
        let insn = insns[pc];
        for reg in [insn.dst, insn.src] {
            if reg > R10 {
                return Err(DecodeError::Register(reg));
            }
        }
        let op = match insn.code & 7 {
            0 => decode_lddw(insns, pc)?,
            1 => decode_load(insn)?,
            2 | 3 => decode_store(insn)?,
            4 | 7 => decode_alu(insn)?,
            _ => decode_jump(insn)?,
        };
        if op.written() == Some(R10) {
            return Err(DecodeError::FramePointer);
        }
        Ok(op)
    }

    /// The register that the instruction sets by itself; calls clobber more.
    pub fn written(self) -> Option<Reg> {
        match self {
            Op::Alu { dst, .. }
            | Op::MovSx { dst, .. }
            | Op::Neg { dst, .. }
            | Op::Order { dst, .. }
            | Op::Const { dst, .. }
            | Op::Address { dst, .. }
            | Op::Map { dst, .. }
            | Op::Function { dst, .. }
            | Op::Load { dst, .. } => Some(dst),
            Op::Atomic { op: Atomic::CmpXchg, .. } | Op::Helper { .. } | Op::Local { .. } => Some(0),
            Op::Atomic { fetch: true, src, .. } => Some(src),
            Op::Atomic { .. } | Op::Store { .. } | Op::Branch { .. } | Op::Goto { .. } | Op::Exit => None,
        }
    }
}

fn reserved(is_zero: bool) -> Result<(), DecodeError> {
    if is_zero { Ok(()) } else { Err(DecodeError::Reserved) }
}

fn width(insn: Insn, wide_class: u8) -> Width {
    if insn.code & 7 == wide_class { Width::W64 } else { Width::W32 }
}

/// The second operand of arithmetic and comparisons; the unused field must be zero.
fn operand(insn: Insn) -> Result<Operand, DecodeError> {
    if insn.code & 8 != 0 {
        reserved(insn.imm == 0)?;
        Ok(Operand::Reg(insn.src))
    } else {
        reserved(insn.src == 0)?;
        Ok(Operand::Imm(insn.imm))
    }
}

fn decode_lddw(insns: &[Insn], pc: usize) -> Result<Op, DecodeError> {
    let insn = insns[pc];
    if insn.code != LDDW {
        return Err(DecodeError::Opcode(insn.code));
    }
    let next = *insns.get(pc + 1).ok_or(DecodeError::HalfConstant)?;
    if next.code != 0 {
        return Err(DecodeError::HalfConstant);
    }
    reserved(insn.off == 0 && next.dst == 0 && next.src == 0 && next.off == 0)?;
    match insn.src {
        0 => Ok(Op::Const { dst: insn.dst, value: u64::from(insn.imm as u32) | u64::from(next.imm as u32) << 32 }),
        LDDW_MAP => {
            reserved(next.imm == 0)?;
            Ok(Op::Map { dst: insn.dst, map: insn.imm as u32 })
        }
        LDDW_FUNCTION => {
            reserved(next.imm == 0)?;
            Ok(Op::Function { dst: insn.dst, off: insn.imm })
        }
        LDDW_MEMORY => Ok(Op::Address { dst: insn.dst, region: insn.imm as u32, offset: next.imm }),
        _ => Err(DecodeError::Reserved),
    }
}

fn size(insn: Insn) -> Size {
    match insn.code & 0x18 {
        0x00 => Size::W,
        0x08 => Size::H,
        0x10 => Size::B,
        _ => Size::D,
    }
}

fn decode_load(insn: Insn) -> Result<Op, DecodeError> {
    let size = size(insn);
    let signed = match insn.code & 0xe0 {
        0x60 => false,
        0x80 if size != Size::D => true,
        _ => return Err(DecodeError::Opcode(insn.code)),
    };
    reserved(insn.imm == 0)?;
    Ok(Op::Load { size, signed, dst: insn.dst, base: insn.src, off: insn.off })
}

fn decode_store(insn: Insn) -> Result<Op, DecodeError> {
    let (size, is_register) = (size(insn), insn.code & 7 == 3);
    match insn.code & 0xe0 {
        0x60 if is_register => {
            reserved(insn.imm == 0)?;
            Ok(Op::Store { size, base: insn.dst, off: insn.off, src: Operand::Reg(insn.src) })
        }
        0x60 => {
            reserved(insn.src == 0)?;
            Ok(Op::Store { size, base: insn.dst, off: insn.off, src: Operand::Imm(insn.imm) })
        }
        0xc0 if is_register && matches!(size, Size::W | Size::D) => decode_atomic(insn, size),
        _ => Err(DecodeError::Opcode(insn.code)),
    }
}

fn decode_atomic(insn: Insn, size: Size) -> Result<Op, DecodeError> {
    let (op, fetch) = match insn.imm {
        0x00 | 0x01 => (Atomic::Add, insn.imm & 1 != 0),
        0x40 | 0x41 => (Atomic::Or, insn.imm & 1 != 0),
        0x50 | 0x51 => (Atomic::And, insn.imm & 1 != 0),
        0xa0 | 0xa1 => (Atomic::Xor, insn.imm & 1 != 0),
        0xe1 => (Atomic::Xchg, true),
        0xf1 => (Atomic::CmpXchg, true),
        other => return Err(DecodeError::Immediate(other)),
    };
    Ok(Op::Atomic { op, fetch, size, base: insn.dst, off: insn.off, src: insn.src })
}

fn decode_alu(insn: Insn) -> Result<Op, DecodeError> {
    let (width, dst) = (width(insn, 7), insn.dst);
    let (plain, signed) = match insn.code & 0xf0 {
        0x00 => (Alu::Add, None),
        0x10 => (Alu::Sub, None),
        0x20 => (Alu::Mul, None),
        0x30 => (Alu::Div, Some(Alu::SDiv)),
        0x40 => (Alu::Or, None),
        0x50 => (Alu::And, None),
        0x60 => (Alu::Lsh, None),
        0x70 => (Alu::Rsh, None),
        0x80 => {
            reserved(insn.code & 8 == 0 && insn.src == 0 && insn.off == 0 && insn.imm == 0)?;
            return Ok(Op::Neg { width, dst });
        }
        0x90 => (Alu::Mod, Some(Alu::SMod)),
        0xa0 => (Alu::Xor, None),
        0xb0 => return decode_mov(insn, width),
        0xc0 => (Alu::Arsh, None),
        0xd0 => return decode_order(insn, width),
        _ => return Err(DecodeError::Opcode(insn.code)),
    };
    let op = match (insn.off, signed) {
        (0, _) => plain,
        (1, Some(signed)) => signed,
        _ => return Err(DecodeError::Reserved),
    };
    let src = operand(insn)?;
    let bits = if width == Width::W64 { 64 } else { 32 };
    match (op, src) {
        (Alu::Lsh | Alu::Rsh | Alu::Arsh, Operand::Imm(imm)) if !(0..bits).contains(&imm) => {
            Err(DecodeError::Immediate(imm))
        }
        (Alu::Div | Alu::SDiv | Alu::Mod | Alu::SMod, Operand::Imm(0)) => Err(DecodeError::Immediate(0)),
        _ => Ok(Op::Alu { op, width, dst, src }),
    }
}

fn decode_mov(insn: Insn, width: Width) -> Result<Op, DecodeError> {
    let src = operand(insn)?;
    match (insn.off, src) {
        (0, _) => Ok(Op::Alu { op: Alu::Mov, width, dst: insn.dst, src }),
        (8 | 16, Operand::Reg(src)) => Ok(Op::MovSx { width, bits: insn.off as u8, dst: insn.dst, src }),
        (32, Operand::Reg(src)) if width == Width::W64 => Ok(Op::MovSx { width, bits: 32, dst: insn.dst, src }),
        _ => Err(DecodeError::Reserved),
    }
}

fn decode_order(insn: Insn, width: Width) -> Result<Op, DecodeError> {
    reserved(insn.src == 0 && insn.off == 0)?;
    let order = match (width, insn.code & 8 != 0) {
        (Width::W32, false) => ByteOrder::Little,
        (Width::W32, true) => ByteOrder::Big,
        (Width::W64, false) => ByteOrder::Swap,
        (Width::W64, true) => return Err(DecodeError::Opcode(insn.code)),
    };
    match insn.imm {
        16 | 32 | 64 => Ok(Op::Order { order, bits: insn.imm as u8, dst: insn.dst }),
        other => Err(DecodeError::Immediate(other)),
    }
}

fn decode_jump(insn: Insn) -> Result<Op, DecodeError> {
    let width = width(insn, 5);
    let cond = match insn.code & 0xf0 {
        0x00 => return decode_goto(insn, width),
        0x80 if width == Width::W64 => return decode_call(insn),
        0x90 if insn.code == 0x95 => {
            reserved(insn.dst == 0 && insn.src == 0 && insn.off == 0 && insn.imm == 0)?;
            return Ok(Op::Exit);
        }
        0x10 => Cond::Eq,
        0x20 => Cond::Gt,
        0x30 => Cond::Ge,
        0x40 => Cond::Set,
        0x50 => Cond::Ne,
        0x60 => Cond::SGt,
        0x70 => Cond::SGe,
        0xa0 => Cond::Lt,
        0xb0 => Cond::Le,
        0xc0 => Cond::SLt,
        0xd0 => Cond::SLe,
        _ => return Err(DecodeError::Opcode(insn.code)),
    };
    Ok(Op::Branch { cond, width, dst: insn.dst, src: operand(insn)?, off: insn.off })
}

fn decode_goto(insn: Insn, width: Width) -> Result<Op, DecodeError> {
    if insn.code & 8 != 0 {
        return Err(DecodeError::Opcode(insn.code));
    }
    reserved(insn.dst == 0 && insn.src == 0)?;
    match width {
        Width::W64 => {
            reserved(insn.imm == 0)?;
            Ok(Op::Goto { off: i32::from(insn.off) })
        }
        Width::W32 => {
            reserved(insn.off == 0)?;
            Ok(Op::Goto { off: insn.imm })
        }
    }
}

fn decode_call(insn: Insn) -> Result<Op, DecodeError> {
    if insn.code != CALL {
        return Err(DecodeError::IndirectCall);
    }
    reserved(insn.dst == 0 && insn.off == 0)?;
    match insn.src {
        0 => Ok(Op::Helper { id: insn.imm as u32 }),
        CALL_LOCAL => Ok(Op::Local { off: insn.imm }),
        _ => Err(DecodeError::KernelCall),
    }
}
