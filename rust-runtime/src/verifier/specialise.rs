//! What is left of a checked program's first function when some of its context is known: branches that always go one way,
//! registers that are constants. Constants are followed through registers; what meets different ones is unknown.

use super::Graph;
use crate::{
    isa::{self, Alu, Op, Operand, Width},
    object::ProgramText,
};

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
    /// Slots that can still be reached.
    pub reached: Vec<bool>,
    /// By slot: where a branch always goes (true: jumps), if that is known now.
    pub branches: Vec<Option<bool>>,
    /// By slot: the number that the instruction sets its register to, if that is known now.
    pub constants: Vec<Option<u64>>,
}

/// Registers that hold known numbers.
type Known = [Option<u64>; 11];

/// Follows constants until nothing changes: each register of each slot can only become unknown once.
pub fn specialise(
    program: &ProgramText,
    graph: &Graph,
    context_loads: &[Option<u32>],
    assumptions: &[Assumption],
) -> Specialised {
    let end = program.functions[0].end;
    let mut before: Vec<Option<Known>> = vec![None; end];
    before[0] = Some([None; 11]);
    let mut waiting = vec![0];
    while let Some(pc) = waiting.pop() {
        let (Some(known), Some(op)) = (before[pc], graph.ops[pc]) else { continue };
        let after = step(known, op, assumed(op, context_loads[pc], assumptions));
        let taken = decided(&known, op);
        let next = op.falls_through().then(|| pc + op.slots()).filter(|_| taken != Some(true));
        let target = op.jump().map(|off| (pc as i64 + 1 + i64::from(off)) as usize).filter(|_| taken != Some(false));
        for to in next.into_iter().chain(target) {
            if merge(&mut before[to], &after) {
                waiting.push(to);
            }
        }
    }
    let mut result = Specialised { reached: vec![false; end], branches: vec![None; end], constants: vec![None; end] };
    for pc in 0..end {
        let (Some(known), Some(op)) = (before[pc], graph.ops[pc]) else { continue };
        result.reached[pc] = true;
        result.branches[pc] = decided(&known, op);
        let after = step(known, op, assumed(op, context_loads[pc], assumptions));
        result.constants[pc] = op.written().and_then(|reg| after[usize::from(reg)]);
    }
    result
}

/// True: something became unknown, or the slot is reached for the first time.
fn merge(into: &mut Option<Known>, from: &Known) -> bool {
    let Some(known) = into else {
        *into = Some(*from);
        return true;
    };
    let mut changed = false;
    for (a, b) in known.iter_mut().zip(from) {
        if a.is_some() && a != b {
            *a = None;
            changed = true;
        }
    }
    changed
}

/// What a load of the context gives under the assumptions.
fn assumed(op: Op, offset: Option<u32>, assumptions: &[Assumption]) -> Option<u64> {
    let (Op::Load { size, signed, .. }, Some(offset)) = (op, offset) else { return None };
    let known = assumptions.iter().find(|known| (known.offset, known.size) == (offset, size.bytes()))?;
    Some(if signed { isa::sign_extend(known.value, size.bits()) } else { known.value })
}

fn operand(known: &Known, operand: Operand) -> Option<u64> {
    match operand {
        Operand::Reg(reg) => known[usize::from(reg)],
        Operand::Imm(imm) => Some(i64::from(imm) as u64),
    }
}

fn decided(known: &Known, op: Op) -> Option<bool> {
    let Op::Branch { cond, width, dst, src, .. } = op else { return None };
    Some(isa::compare(cond, width, known[usize::from(dst)]?, operand(known, src)?))
}

fn step(mut known: Known, op: Op, loaded: Option<u64>) -> Known {
    let extend = |value: u64, width: Width| if width == Width::W32 { u64::from(value as u32) } else { value };
    let value = match op {
        Op::Alu { op, width, dst, src } => {
            let b = operand(&known, src);
            let a = if op == Alu::Mov { Some(0) } else { known[usize::from(dst)] };
            a.zip(b).map(|(a, b)| isa::alu(op, width, a, b))
        }
        Op::MovSx { width, bits, src, .. } => {
            known[usize::from(src)].map(|value| extend(isa::sign_extend(value, u32::from(bits)), width))
        }
        Op::Neg { width, dst } => known[usize::from(dst)].map(|value| extend(value.wrapping_neg(), width)),
        Op::Order { order, bits, dst } => known[usize::from(dst)].map(|value| isa::byte_order(order, bits, value)),
        Op::Const { value, .. } => Some(value),
        Op::Load { .. } => loaded,
        _ => None,
    };
    if matches!(op, Op::Helper { .. } | Op::Local { .. }) {
        known[..6].fill(None);
    }
    if let Some(reg) = op.written() {
        known[usize::from(reg)] = value;
    }
    known
}
