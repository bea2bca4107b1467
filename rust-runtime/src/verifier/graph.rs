//! The shape of a program: instructions, jumps, calls, loops. After this pass every slot is decoded, jumps lead to instructions
//! of the same function, functions do not call themselves, and nothing is unreachable.

mod loops;

use super::{MAX_FRAMES, Reason, need::Flow, rejection::Stop};
use crate::{
    helpers,
    isa::{Alu, Atomic, Op, Operand, R10},
    object::{Function, ProgramText},
};

/// A decoded program and its shape.
#[derive(Debug)]
pub struct Graph {
    /// By slot; None: the second half of a 64-bit constant.
    pub ops: Vec<Option<Op>>,
    /// By slot: ways meet here.
    joins: Vec<bool>,
    /// By slot: the innermost loop's head; a head's own is the next outer one.
    headers: Vec<Option<u32>>,
    heads: Vec<bool>,
    /// By slot: registers that may be read from here on before they are written.
    live: Vec<u16>,
    /// By slot: what its instruction does with registers.
    pub flows: Vec<Flow>,
    /// By slot: its place in the order in which its function is walked best.
    ranks: Vec<u32>,
}

/// Loops that are looked through. What is nested deeper is explored as if it had left the outer loops.
const MAX_NESTING: usize = 64;
/// Every register but r10.
const ALL: u16 = 0x3ff;

impl Graph {
    pub fn build(program: &ProgramText) -> Result<Graph, Stop> {
        if program.functions.is_empty() || program.functions.iter().any(|function| function.start >= function.end) {
            return Err(Stop::new(0, Reason::Empty));
        }
        let mut graph = Graph::decoded(program)?;
        for function in &program.functions {
            let order = graph.order(function)?;
            order.iter().enumerate().for_each(|(rank, &pc)| graph.ranks[pc] = rank as u32);
            graph.find_live(function, &order);
        }
        graph.check_calls(program)?;
        Ok(graph)
    }

    /// Every slot decoded, and nothing asked of their shape.
    pub fn decoded(program: &ProgramText) -> Result<Graph, Stop> {
        let slots = program.insns.len();
        let mut graph = Graph {
            ops: vec![None; slots],
            joins: vec![false; slots],
            headers: vec![None; slots],
            heads: vec![false; slots],
            live: vec![ALL; slots],
            flows: vec![Flow::default(); slots],
            ranks: vec![0; slots],
        };
        for function in &program.functions {
            graph.decode(program, function)?;
        }
        Ok(graph)
    }

    /// The instruction at a slot that a walk came to.
    pub fn op(&self, pc: usize) -> Result<Op, Stop> {
        self.ops.get(pc).copied().flatten().ok_or_else(|| Stop::new(pc, Reason::JumpIntoConstant))
    }

    /// Ways meet at this slot.
    pub fn is_join(&self, pc: usize) -> bool {
        self.joins[pc]
    }

    /// A loop begins at this slot.
    pub fn is_head(&self, pc: usize) -> bool {
        self.heads[pc]
    }

    /// Whether a slot belongs to the loop with that head.
    pub fn is_inside(&self, pc: usize, head: usize) -> bool {
        let mut at = pc;
        for _ in 0..MAX_NESTING {
            if at == head {
                return true;
            }
            match self.headers[at] {
                Some(outer) => at = outer as usize,
                None => return false,
            }
        }
        false
    }

    /// Registers that may be read from a slot on before they are written, as a bit set.
    pub fn live(&self, pc: usize) -> u16 {
        self.live[pc]
    }

    /// What comes before a slot in its function has lower ranks, but for loops.
    pub fn rank(&self, pc: usize) -> u32 {
        self.ranks[pc]
    }

    /// Registers that an instruction itself reads, as a bit set. The first function's exit reads the result; what a call and a
    /// return hand over depends on the other side.
    pub fn reads(&self, op: Op, frame: usize) -> u16 {
        match op {
            Op::Exit if frame > 0 => 0,
            Op::Local { .. } => 0,
            op => reads(op),
        }
    }

    fn decode(&mut self, program: &ProgramText, function: &Function) -> Result<(), Stop> {
        let insns = &program.insns[..function.end];
        let mut pc = function.start;
        while pc < function.end {
            let op = Op::decode(insns, pc).map_err(|error| Stop::new(pc, error.into()))?;
            (self.ops[pc], self.flows[pc]) = (Some(op), Flow::of(op));
            pc += op.slots();
        }
        Ok(())
    }

    /// Where an instruction may lead: where it jumps, and the next one.
    fn successors(&self, function: &Function, pc: usize) -> Result<[Option<usize>; 2], Stop> {
        let op = self.op(pc)?;
        let stop = |reason| Stop::new(pc, reason);
        let next = match op.falls_through() {
            true if pc + op.slots() >= function.end => return Err(stop(Reason::FallsOff)),
            true => Some(pc + op.slots()),
            false => None,
        };
        let target = match op.jump() {
            None => None,
            Some(off) => {
                let target = pc as i64 + 1 + i64::from(off);
                let inside = (function.start as i64..function.end as i64).contains(&target);
                let target = if inside { target as usize } else { return Err(stop(Reason::JumpOutside)) };
                if self.ops[target].is_none() {
                    return Err(stop(Reason::JumpIntoConstant));
                }
                Some(target)
            }
        };
        // The search reverses the order: the next instruction comes next where it can.
        Ok([target, next])
    }

    /// Registers that are live before each slot, by iteration over the reversed order.
    fn find_live(&mut self, function: &Function, order: &[usize]) {
        /// Each pass settles one more level of nested loops.
        const PASSES: usize = 16;
        order.iter().for_each(|&pc| self.live[pc] = 0);
        for _ in 0..PASSES {
            let mut changed = false;
            for &pc in order.iter().rev() {
                let Some(op) = self.ops[pc] else { continue };
                let successors = self.successors(function, pc).unwrap_or_default();
                let after = successors.into_iter().flatten().fold(0, |live, to| live | self.live[to]);
                let before = after & !clobbers(op) | reads(op) & ALL;
                changed |= before != self.live[pc];
                self.live[pc] = before;
            }
            if !changed {
                return;
            }
        }
        order.iter().for_each(|&pc| self.live[pc] = ALL);
    }

    /// The function that a call leads to.
    pub fn callee(program: &ProgramText, pc: usize, off: i32) -> Option<usize> {
        let target = usize::try_from(pc as i64 + 1 + i64::from(off)).ok()?;
        program.functions.binary_search_by_key(&target, |function| function.start).ok()
    }

    /// By function: the calls that it makes, and what it calls. Who takes a function's address may call it.
    fn calls(&self, program: &ProgramText) -> Result<Vec<Vec<(usize, usize)>>, Stop> {
        let mut calls = vec![Vec::new(); program.functions.len()];
        for (index, function) in program.functions.iter().enumerate() {
            for pc in function.start..function.end {
                if let Some(Op::Local { off } | Op::Function { off, .. }) = self.ops[pc] {
                    let callee = Graph::callee(program, pc, off);
                    calls[index].push((pc, callee.ok_or_else(|| Stop::new(pc, Reason::CallTarget))?));
                }
            }
        }
        Ok(calls)
    }

    /// The greatest sum of a measure over functions that call each other, from the first on.
    pub fn deepest(&self, program: &ProgramText, measure: &[u32]) -> u32 {
        let calls = self.calls(program).unwrap_or_default();
        let mut sums = measure.to_vec();
        // Chains are not longer.
        for _ in 0..MAX_FRAMES {
            for caller in 0..calls.len() {
                let deepest = calls[caller].iter().map(|&(_, callee)| sums[callee]).max().unwrap_or(0);
                sums[caller] = measure[caller] + deepest;
            }
        }
        sums.first().copied().unwrap_or(0)
    }

    /// Calls lead to functions, do not recur, and do not nest too deep.
    fn check_calls(&self, program: &ProgramText) -> Result<(), Stop> {
        let calls = self.calls(program)?;
        // Longest chains of calls, by relaxing MAX_FRAMES times: what still grows then is recursive or too deep.
        let mut depth = vec![1usize; program.functions.len()];
        for _ in 0..=MAX_FRAMES {
            for caller in 0..calls.len() {
                let deepest = calls[caller].iter().map(|&(_, callee)| depth[callee]).max().unwrap_or(0);
                depth[caller] = (deepest + 1).min(MAX_FRAMES + 1);
            }
        }
        match depth.iter().position(|&depth| depth > MAX_FRAMES) {
            None => Ok(()),
            Some(_) => {
                let recursive = recursion(&calls);
                let pc = recursive.or_else(|| calls[0].first().map(|&(pc, _)| pc)).unwrap_or(0);
                let reason = if recursive.is_some() { Reason::Recursion } else { Reason::TooDeep };
                Err(Stop::new(pc, reason))
            }
        }
    }
}

/// Registers that an instruction reads, as a bit set.
pub fn reads(op: Op) -> u16 {
    let bit = |operand: Operand| if let Operand::Reg(reg) = operand { 1 << reg } else { 0 };
    match op {
        Op::Alu { op: Alu::Mov, src, .. } => bit(src),
        Op::Alu { dst, src, .. } | Op::Branch { dst, src, .. } => 1 << dst | bit(src),
        Op::MovSx { src, .. } => 1 << src,
        Op::Neg { dst, .. } | Op::Order { dst, .. } => 1 << dst,
        Op::Load { base, .. } => 1 << base,
        Op::Store { base, src, .. } => 1 << base | bit(src),
        Op::Atomic { op, base, src, .. } => 1 << base | 1 << src | u16::from(op == Atomic::CmpXchg),
        Op::Helper { id } => match helpers::find(id) {
            Some(helper) => {
                let taken = helper.args.iter().enumerate().filter(|(_, kind)| **kind != helpers::ArgKind::None);
                taken.fold(0, |set, (place, _)| set | 2 << place)
            }
            None => 0x3e,
        },
        Op::Local { .. } => 0x3e,
        Op::Exit => 1,
        Op::Const { .. } | Op::Address { .. } | Op::Map { .. } | Op::Function { .. } | Op::Goto { .. } => 0,
    }
}

/// Registers whose old values are gone after an instruction.
fn clobbers(op: Op) -> u16 {
    match op {
        Op::Helper { .. } | Op::Local { .. } => 0x3f,
        op => op.written().filter(|reg| *reg != R10).map_or(0, |reg| 1 << reg),
    }
}

/// A call through which a function comes back to itself. Every function is called, directly or not, by the first.
fn recursion(calls: &[Vec<(usize, usize)>]) -> Option<usize> {
    let mut on_path = vec![false; calls.len()];
    let mut seen = vec![false; calls.len()];
    let mut path = vec![(0, calls[0].iter())];
    (seen[0], on_path[0]) = (true, true);
    while let Some((function, rest)) = path.last_mut() {
        match rest.next() {
            Some(&(pc, callee)) if on_path[callee] => return Some(pc),
            Some(&(_, callee)) if !seen[callee] => {
                (seen[callee], on_path[callee]) = (true, true);
                path.push((callee, calls[callee].iter()));
            }
            Some(_) => {}
            None => {
                on_path[*function] = false;
                path.pop();
            }
        }
    }
    None
}
