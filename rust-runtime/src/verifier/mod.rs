//! Decides whether a program may run. One door: [`verify`]; only it makes a [`Verified`], and nothing else is compiled.
//!
//! A program that passes reads and writes nothing but its context's fields, its own stack and its object's global variables;
//! reads nothing that was not set; gives away no address; calls only the helpers its hook grants; and ends, within the
//! hook's ceiling of instructions.
//!
//! ```text
//! graph   decodes every slot; jumps, calls, no loops, no recursion, nothing unreachable
//! flow    walks each function once, in an order in which every instruction comes after all that lead to it, with what is
//!         known of registers and stack; where ways meet, only what holds on all of them is kept; calls are walked into
//! ```
//!
//! # This is the first version
//!
//! It is sound and small, and refuses more than it must. Not accepted yet: loops; offsets that are not constants (also where
//! a mask or a comparison bounds them); pointers in global variables; comparisons of pointers other than with 0; facts that
//! hold on one way only (a register set in one branch and used in another with the same condition); maps, callbacks and tail
//! calls.

mod flow;
mod graph;
mod rejection;
mod rules;
#[cfg(test)]
mod tests;

pub use flow::{Assumption, Specialised, specialise};
pub use graph::Graph;
pub use rejection::{Reason, Rejection};
pub use rules::Field;

use std::sync::Arc;

use crate::{
    hook::Hook,
    object::{Object, ProgramText},
};

/// Bytes of stack that each function has.
pub const STACK: u32 = 512;
/// Functions that may be active at once.
pub const MAX_FRAMES: usize = 8;
/// Steps that checking may take: a program is walked anew for each call of a function.
const MAX_STEPS: u64 = 1_000_000;

/// A program that may be compiled and run. Only [`verify`] makes one.
#[derive(Debug)]
pub struct Verified {
    object: Arc<Object>,
    index: usize,
    hook: Hook,
    graph: Graph,
    facts: Facts,
}

/// What was found out about a program, as the code generator needs it.
#[derive(Debug, Default)]
pub struct Facts {
    /// Instructions of the longest way, helpers included.
    pub worst_cost: u64,
    /// Steps that the check took.
    pub steps: u64,
    /// By function: bytes of stack used.
    pub stack: Vec<u32>,
    /// By slot of the first function: the context's offset that a load reads.
    pub context_loads: Vec<Option<u32>>,
    /// Bytes of the context that may be read, as a bit set.
    pub context_bytes: u128,
    /// It has bpf-to-bpf calls.
    pub has_calls: bool,
    /// It compares a pointer with 0.
    pub has_null_checks: bool,
}

impl Verified {
    pub fn object(&self) -> &Arc<Object> {
        &self.object
    }

    pub fn text(&self) -> &ProgramText {
        &self.object.programs[self.index]
    }

    pub fn hook(&self) -> Hook {
        self.hook
    }

    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// Checks one program of an object against the rules of a hook.
pub fn verify(object: &Arc<Object>, index: usize, hook: Hook) -> Result<Verified, Box<Rejection>> {
    let program = &object.programs[index];
    let refuse = |stop: rejection::Stop, graph: Option<&Graph>| {
        let disassembly = graph.and_then(|graph| graph.op(stop.pc).ok()).map(|op| op.to_string());
        Box::new(stop.into_rejection(program, hook, disassembly))
    };
    let graph = Graph::build(program).map_err(|stop| refuse(stop, None))?;
    let facts = flow::check(program, &graph, &object.regions, hook).map_err(|stop| refuse(stop, Some(&graph)))?;
    Ok(Verified { object: object.clone(), index, hook, graph, facts })
}
