//! Instructions as text, as `llvm-objdump -d` writes them.

use std::fmt;

use super::{Alu, Atomic, ByteOrder, Cond, Op, Operand, Reg, Size, Width};

/// A register of a width: r1 or w1.
struct Named(Width, Reg);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.0 == Width::W64 { 'r' } else { 'w' }, self.1)
    }
}

struct Second(Width, Operand);

impl fmt::Display for Second {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Operand::Reg(reg) => Named(self.0, reg).fmt(f),
            Operand::Imm(imm) => Hex(i64::from(imm)).fmt(f),
        }
    }
}

struct Hex(i64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{:#x}", self.0.unsigned_abs())
    }
}

struct Place(Reg, i16);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.1 < 0 { '-' } else { '+' };
        write!(f, "r{} {sign} {:#x}", self.0, self.1.unsigned_abs())
    }
}

struct Jump(i32);

impl fmt::Display for Jump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:#x}", if self.0 < 0 { '-' } else { '+' }, self.0.unsigned_abs())
    }
}

impl Size {
    fn type_name(self, signed: bool) -> String {
        format!("{}{}", if signed { 's' } else { 'u' }, self.bits())
    }
}

impl Alu {
    fn sign(self) -> &'static str {
        match self {
            Alu::Add => "+=",
            Alu::Sub => "-=",
            Alu::Mul => "*=",
            Alu::Div => "/=",
            Alu::SDiv => "s/=",
            Alu::Mod => "%=",
            Alu::SMod => "s%=",
            Alu::Or => "|=",
            Alu::And => "&=",
            Alu::Xor => "^=",
            Alu::Lsh => "<<=",
            Alu::Rsh => ">>=",
            Alu::Arsh => "s>>=",
            Alu::Mov => "=",
        }
    }
}

impl Cond {
    fn sign(self) -> &'static str {
        match self {
            Cond::Eq => "==",
            Cond::Ne => "!=",
            Cond::Gt => ">",
            Cond::Ge => ">=",
            Cond::Lt => "<",
            Cond::Le => "<=",
            Cond::Set => "&",
            Cond::SGt => "s>",
            Cond::SGe => "s>=",
            Cond::SLt => "s<",
            Cond::SLe => "s<=",
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Op::Alu { op, width, dst, src } => {
                write!(f, "{} {} {}", Named(width, dst), op.sign(), Second(width, src))
            }
            Op::MovSx { width, bits, dst, src } => {
                write!(f, "{} = (s{bits}){}", Named(width, dst), Named(width, src))
            }
            Op::Neg { width, dst } => write!(f, "{} = -{}", Named(width, dst), Named(width, dst)),
            Op::Order { order, bits, dst } => {
                let name = match order {
                    ByteOrder::Little => "le",
                    ByteOrder::Big => "be",
                    ByteOrder::Swap => "bswap",
                };
                write!(f, "r{dst} = {name}{bits} r{dst}")
            }
            Op::Const { dst, value } => write!(f, "r{dst} = {} ll", Hex(value as i64)),
            Op::Address { dst, region, offset } => write!(f, "r{dst} = memory[{region}][{offset:#x}] ll"),
            Op::Map { dst, map } => write!(f, "r{dst} = map[{map}] ll"),
            Op::Function { dst, off } => write!(f, "r{dst} = function {} ll", Jump(off)),
            Op::Load { size, signed, dst, base, off } => {
                write!(f, "r{dst} = *({} *)({})", size.type_name(signed), Place(base, off))
            }
            Op::Store { size, base, off, src } => {
                write!(f, "*({} *)({}) = {}", size.type_name(false), Place(base, off), Second(Width::W64, src))
            }
            Op::Atomic { op, fetch, size, base, off, src } => atomic(f, op, fetch, size, Place(base, off), src),
            Op::Branch { cond, width, dst, src, off } => {
                let jump = Jump(i32::from(off));
                write!(f, "if {} {} {} goto {jump}", Named(width, dst), cond.sign(), Second(width, src))
            }
            Op::Goto { off } => write!(f, "goto {}", Jump(off)),
            Op::Helper { id } => write!(f, "call {id:#x}"),
            Op::Local { off } => write!(f, "call {}", Jump(off)),
            Op::Exit => f.write_str("exit"),
        }
    }
}

fn atomic(f: &mut fmt::Formatter<'_>, op: Atomic, fetch: bool, size: Size, place: Place, src: Reg) -> fmt::Result {
    let (name, sign) = match op {
        Atomic::Add => ("add", "+="),
        Atomic::Or => ("or", "|="),
        Atomic::And => ("and", "&="),
        Atomic::Xor => ("xor", "^="),
        Atomic::Xchg => ("xchg", "="),
        Atomic::CmpXchg => ("cmpxchg", "="),
    };
    let ty = size.type_name(false);
    let wide = size == Size::D;
    match op {
        Atomic::Xchg if wide => write!(f, "r{src} = xchg_64({place}, r{src})"),
        Atomic::Xchg => write!(f, "w{src} = xchg32_32({place}, w{src})"),
        Atomic::CmpXchg if wide => write!(f, "r0 = cmpxchg_64({place}, r0, r{src})"),
        Atomic::CmpXchg => write!(f, "w0 = cmpxchg32_32({place}, w0, w{src})"),
        _ if fetch => write!(f, "r{src} = atomic_fetch_{name}(({ty} *)({place}), r{src})"),
        _ => write!(f, "lock *({ty} *)({place}) {sign} r{src}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::isa::{DecodeError, Insn, Op, SLOT};

    #[test]
    fn text_is_llvms() {
        let lines: Vec<&str> = include_str!("golden.txt").lines().filter(|line| !line.starts_with('#')).collect();
        assert!(lines.len() > 70);
        for line in lines {
            let (bytes, text) = line.split_once('\t').unwrap();
            let bytes: Vec<u8> = bytes.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
            let insns: Vec<Insn> = bytes.as_chunks::<SLOT>().0.iter().map(|slot| Insn::from_bytes(*slot)).collect();
            let op = Op::decode(&insns, 0).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(op.to_string(), text);
            assert_eq!(op.slots(), insns.len(), "{text}");
            let again: Vec<u8> = insns.iter().flat_map(|insn| insn.to_bytes()).collect();
            assert_eq!(again, bytes, "{text}");
        }
    }

    #[test]
    fn every_code_is_decoded_or_refused() {
        let mut known = 0;
        for code in 0..=u8::MAX {
            for (off, imm) in [(0, 0), (0, 16), (0, 1), (8, 0), (1, 1)] {
                let insns = [Insn { code, dst: 1, src: 0, off, imm }, Insn::default()];
                match Op::decode(&insns, 0) {
                    Ok(op) => {
                        known += 1;
                        assert!(!op.to_string().is_empty());
                    }
                    Err(error) => assert_ne!(error, DecodeError::Register(1)),
                }
            }
        }
        assert!(known > 200, "{known}");
    }
}
