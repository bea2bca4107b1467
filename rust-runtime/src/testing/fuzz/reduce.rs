//! Makes a failing program small, so that a person can see why it fails.

use std::sync::Arc;

use super::{
    generate::object,
    search::{Effort, Failure, check},
};
use crate::{
    isa::{Insn, Op},
    object::Object,
};

/// Leaves out whatever is not needed for a failure of the same kind; gives the program and its failure.
pub fn reduce(failing: &Arc<Object>, seed: u64, effort: Effort, failure: Failure) -> (Arc<Object>, Failure) {
    let mut last = failure;
    let best = smallest(failing, |candidate| {
        let found = check(candidate, seed, effort).failure.filter(|found| found.is_like(&last));
        found.map(|found| last = found).is_some()
    });
    (best, last)
}

/// Leaves out one instruction after the other, as long as a program keeps what it was chosen for.
pub fn smallest(program: &Arc<Object>, mut keeps: impl FnMut(&Arc<Object>) -> bool) -> Arc<Object> {
    let starts: Vec<usize> = program.programs[0].functions.iter().map(|function| function.start).collect();
    let mut best = program.clone();
    loop {
        let before = best.programs[0].insns.clone();
        let mut pc = 0;
        while pc < before.len() {
            let slots = Op::decode(&best.programs[0].insns, pc).map_or(1, Op::slots);
            let left_out = Insn { code: 0x05, ..Insn::default() };
            if best.programs[0].insns[pc] != left_out {
                let mut insns = best.programs[0].insns.clone();
                insns[pc..pc + slots].fill(left_out);
                let candidate = object(insns, &starts);
                if keeps(&candidate) {
                    best = candidate;
                }
            }
            pc += slots;
        }
        if best.programs[0].insns == before {
            return best;
        }
    }
}

/// A program as text, without what was left out.
pub fn text(object: &Object) -> String {
    let program = &object.programs[0];
    let mut lines = Vec::new();
    let mut pc = 0;
    while pc < program.insns.len() {
        let op = Op::decode(&program.insns, pc);
        if op != Ok(Op::Goto { off: 0 }) {
            let text = op.map_or_else(|error| format!("{:?}: {error}", program.insns[pc]), |op| op.to_string());
            lines.push(format!("{pc:4}: {text}"));
        }
        pc += op.map_or(1, Op::slots);
    }
    lines.join("\n")
}
