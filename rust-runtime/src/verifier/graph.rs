//! The shape of a program: instructions, jumps, calls. After this pass every slot is decoded, jumps lead to instructions of
//! the same function, there are no loops, no recursion, and nothing unreachable.

use super::{MAX_FRAMES, Reason, rejection::Stop};
use crate::{
    isa::Op,
    object::{Function, ProgramText},
};

/// A decoded program and the order to walk it in.
#[derive(Debug)]
pub struct Graph {
    /// By slot; None: the second half of a 64-bit constant.
    pub ops: Vec<Option<Op>>,
    /// By function: its slots, every one after all that lead to it.
    pub orders: Vec<Vec<usize>>,
}

impl Graph {
    pub fn build(program: &ProgramText) -> Result<Graph, Stop> {
        if program.functions.is_empty() || program.functions.iter().any(|function| function.start >= function.end) {
            return Err(Stop { pc: 0, reason: Reason::Empty });
        }
        let mut graph = Graph { ops: vec![None; program.insns.len()], orders: Vec::new() };
        for function in &program.functions {
            graph.decode(program, function)?;
        }
        for function in &program.functions {
            let order = graph.order(function)?;
            graph.orders.push(order);
        }
        graph.check_calls(program)?;
        Ok(graph)
    }

    /// The instruction at a slot that a walk came to.
    pub fn op(&self, pc: usize) -> Result<Op, Stop> {
        self.ops.get(pc).copied().flatten().ok_or(Stop { pc, reason: Reason::JumpIntoConstant })
    }

    fn decode(&mut self, program: &ProgramText, function: &Function) -> Result<(), Stop> {
        let insns = &program.insns[..function.end];
        let mut pc = function.start;
        while pc < function.end {
            let op = Op::decode(insns, pc).map_err(|error| Stop { pc, reason: error.into() })?;
            self.ops[pc] = Some(op);
            pc += op.slots();
        }
        Ok(())
    }

    /// Where an instruction may lead: where it jumps, and the next one.
    fn successors(&self, function: &Function, pc: usize) -> Result<[Option<usize>; 2], Stop> {
        let op = self.op(pc)?;
        let stop = |reason| Stop { pc, reason };
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

    /// A topological order by depth-first search; an edge back into the current path is a loop.
    fn order(&self, function: &Function) -> Result<Vec<usize>, Stop> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            OnPath,
            Done,
        }
        let mut marks = vec![Mark::New; function.end - function.start];
        let mut order = Vec::with_capacity(marks.len());
        let mut path = vec![(function.start, self.successors(function, function.start)?.into_iter())];
        marks[0] = Mark::OnPath;
        while let Some((pc, successors)) = path.last_mut() {
            let pc = *pc;
            match successors.next() {
                Some(None) => {}
                Some(Some(to)) => match marks[to - function.start] {
                    Mark::New => {
                        marks[to - function.start] = Mark::OnPath;
                        path.push((to, self.successors(function, to)?.into_iter()));
                    }
                    Mark::OnPath => return Err(Stop { pc, reason: Reason::Loop }),
                    Mark::Done => {}
                },
                None => {
                    marks[pc - function.start] = Mark::Done;
                    order.push(pc);
                    path.pop();
                }
            }
        }
        let unreached = |pc: &usize| self.ops[*pc].is_some() && marks[pc - function.start] == Mark::New;
        if let Some(pc) = (function.start..function.end).find(unreached) {
            return Err(Stop { pc, reason: Reason::Unreachable });
        }
        order.reverse();
        Ok(order)
    }

    /// The function that a call leads to.
    pub fn callee(program: &ProgramText, pc: usize, off: i32) -> Option<usize> {
        let target = usize::try_from(pc as i64 + 1 + i64::from(off)).ok()?;
        program.functions.binary_search_by_key(&target, |function| function.start).ok()
    }

    /// Calls lead to functions, do not recur, and do not nest too deep.
    fn check_calls(&self, program: &ProgramText) -> Result<(), Stop> {
        let mut calls = vec![Vec::new(); program.functions.len()];
        for (index, function) in program.functions.iter().enumerate() {
            for pc in function.start..function.end {
                if let Some(Op::Local { off }) = self.ops[pc] {
                    let stop = Stop { pc, reason: Reason::CallTarget };
                    calls[index].push((pc, Graph::callee(program, pc, off).ok_or(stop)?));
                }
            }
        }
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
                Err(Stop { pc, reason })
            }
        }
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
