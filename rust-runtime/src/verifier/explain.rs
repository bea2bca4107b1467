//! From where a walk stopped to a message: how the register at fault came to its value, which branches led there.

use super::{
    graph::{Graph, reads},
    rejection::{Branch, Place, Rejection, Stop},
    rules::Rules,
    walk::Walk,
};
use crate::{
    isa::{Alu, Op, Operand, R10, Reg},
    object::ProgramText,
};

/// Steps of a register's history, and branches, that are told.
const MAX_TOLD: usize = 8;

/// A program whose shape is wrong.
pub fn plain(program: &ProgramText, rules: &Rules, graph: Option<&Graph>, stop: Stop) -> Box<Rejection> {
    let op = graph.and_then(|graph| graph.ops[stop.pc]);
    let place = Place::new(program, stop.pc.min(program.insns.len().saturating_sub(1)), String::new());
    Box::new(Rejection {
        hook: rules.name,
        program: program.symbol.clone(),
        function: place.function,
        instruction: place.instruction,
        disassembly: op.map(|op| op.to_string()),
        line: place.line,
        reason: *stop.reason,
        origins: Vec::new(),
        branches: Vec::new(),
        calls: Vec::new(),
        visited: 0,
    })
}

/// A program that does on some way what it must not.
pub fn rejection(walk: &Walk<'_>, stop: Stop) -> Box<Rejection> {
    let history = walk.history();
    let told = |pc: usize| {
        let text = walk.graph.ops[pc].map(|op| op.to_string()).unwrap_or_default();
        Place::new(walk.program, pc, text)
    };
    let register = stop.reason.register().or_else(|| base_of(walk.graph.ops[stop.pc]?));
    let origins = register.map_or_else(Vec::new, |reg| origins(walk.graph, &history, reg));
    let branches = branches(walk.graph, &history, stop.pc);
    let callees = walk.state.frames.iter().skip(1).rev();
    let calls = callees.map(|frame| told(frame.call)).collect();
    Box::new(Rejection {
        origins: origins.into_iter().map(told).collect(),
        branches: branches.into_iter().map(|(pc, taken)| Branch { place: told(pc), taken }).collect(),
        calls,
        visited: walk.facts.visited,
        ..*plain(walk.program, walk.rules, Some(walk.graph), stop)
    })
}

/// The register through which an instruction accesses memory.
fn base_of(op: Op) -> Option<Reg> {
    match op {
        Op::Load { base, .. } | Op::Store { base, .. } | Op::Atomic { base, .. } if base != R10 => Some(base),
        Op::Alu { dst, .. } => Some(dst),
        _ => None,
    }
}

/// Where a register's value was made, going back through copies; the last step first, as the history is.
fn origins(graph: &Graph, history: &[usize], mut reg: Reg) -> Vec<usize> {
    let mut found = Vec::new();
    let mut depth = 0usize;
    for &pc in history {
        let Some(op) = graph.ops[pc] else { continue };
        // Other functions have registers of their own.
        match op {
            Op::Exit => depth += 1,
            Op::Local { .. } if depth > 0 => depth -= 1,
            Op::Local { .. } if (1..=5).contains(&reg) => continue,
            _ => {}
        }
        if depth > 0 && !matches!(op, Op::Local { .. }) {
            continue;
        }
        let clobbers = matches!(op, Op::Helper { .. } | Op::Local { .. }) && reg <= 5;
        if op.written() != Some(reg) && !clobbers {
            continue;
        }
        found.push(pc);
        if found.len() == MAX_TOLD {
            break;
        }
        match op {
            Op::Alu { op: Alu::Mov, src: Operand::Reg(src), .. } | Op::MovSx { src, .. } => reg = src,
            Op::Alu { .. } | Op::Neg { .. } | Op::Order { .. } if reads(op) & 1 << reg != 0 => {}
            _ => break,
        }
    }
    found
}

/// The last branches, and whether they were taken.
fn branches(graph: &Graph, history: &[usize], end: usize) -> Vec<(usize, bool)> {
    let after = [end].into_iter().chain(history.iter().copied());
    let is_branch = |&(pc, _): &(usize, usize)| matches!(graph.ops[pc], Some(Op::Branch { .. }));
    history.iter().copied().zip(after).filter(is_branch).take(MAX_TOLD).map(|(pc, next)| (pc, next != pc + 1)).collect()
}
