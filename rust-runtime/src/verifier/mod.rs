//! Decides whether a program may run. One door: [`verify`]; only it makes a [`Verified`], and nothing else is compiled.
//!
//! A program that passes reads and writes nothing but what it was given - its context's fields, its own stack, values of its
//! maps, records it reserved -, within their bounds; reads nothing that was not set; gives away no address; calls only the
//! helpers its hook grants, with what they take; releases what it acquires; and ends, at a cost within the hook's ceiling.
//!
//! Every way through the program is explored, with what is known of each value on that way; what was explored from a state that
//! covers the present one need not be explored again.
//!
//! ```text
//! graph     decodes every slot: jumps, calls, loops, nothing unreachable
//! domain    numbers: known bits, and ranges at 64 and 32 bits
//! value     what a register holds     stack   512 bytes in cells     state   all that is known before an instruction
//! walk      the ways, depth first; what ends where, and what it costs
//! step      instructions   access   loads and stores   call   functions, helpers, callbacks
//! need      what the rest of a way depends on, found backward     cover   whether one state covers another
//! attempt   proves a loop for any number of rounds at once     loosen   goes on as one where ways meet
//! filled    arrays on the stack that loops fill
//! rules     what a hook grants     rejection   why not, and what to do     record   the annotated log
//! ```

mod access;
mod attempt;
#[cfg(test)]
mod buffers;
mod call;
#[cfg(any(test, feature = "testing"))]
pub mod contain;
mod cover;
mod domain;
mod explain;
mod filled;
mod graph;
mod judge;
mod loosen;
mod need;
pub mod planted;
mod record;
mod rejection;
mod rules;
mod stack;
mod state;
mod step;
#[cfg(test)]
mod tests;
mod value;
mod walk;

pub use graph::Graph;
#[cfg(test)]
pub use judge::judge_patiently;
pub use judge::{Accepted, Profile, Verdict, judge};
#[cfg(any(test, feature = "testing"))]
pub use judge::{judge_bytes, judge_generic};
pub use rejection::{Branch, LoopCost, Place, Reason, Rejection};
pub use rules::{Content, Field};

/// Instructions, helpers included, that one call of a hook's program may cost.
pub fn ceiling(hook: Hook) -> u64 {
    rules(hook).ceiling.min(CEILING_OF_ALL.load(Ordering::Relaxed))
}

/// The fields of a hook's context.
pub fn fields(hook: Hook) -> &'static [Field] {
    rules::rules(hook).fields
}

/// Lowers the ceiling of every hook that is above it, for programs that are checked from now on.
pub fn limit_cost(most: u64) {
    CEILING_OF_ALL.store(most, Ordering::Relaxed);
}

/// The ceiling that no hook is above.
pub const HIGHEST_CEILING: u64 = rules::CEILING;
static CEILING_OF_ALL: AtomicU64 = AtomicU64::new(HIGHEST_CEILING);

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    hook::Hook,
    isa::Op,
    object::{Object, ProgramText},
};
use record::Recorder;
use rejection::Stop;
use rules::{Rules, rules};
use walk::{Options, Walk};

/// Bytes of stack that each function has.
pub const STACK: u32 = 512;
/// Functions that may be active at once.
pub const MAX_FRAMES: usize = 8;
/// Instructions that checking may visit.
pub const MAX_VISITED: u64 = 1_000_000;

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
    /// The most that one call can cost: instructions, and what helpers count.
    pub worst_cost: u64,
    /// Instructions that the check visited.
    pub visited: u64,
    /// By function: bytes of stack used.
    pub stack: Vec<u32>,
    /// Bytes that functions write above their stacks: none do, but some in conformance suites.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only machine code depends on it"))]
    pub above: u8,
    /// Bytes of the context that may be read, as a bit set.
    pub context_bytes: u128,
}

impl Verified {
    /// A program that nobody verified: the only way around the verifier, for conformance suites.
    #[cfg(feature = "conformance")]
    pub fn unverified(object: Arc<Object>) -> Result<Verified, String> {
        let text = &object.programs[0];
        let graph = Graph::decoded(text).map_err(|stop| format!("instruction {}: {}", stop.pc, stop.reason))?;
        // A test of bpf_conformance stores eight bytes at r10 - 4.
        let facts = Facts { stack: vec![STACK; text.functions.len()], above: 8, ..Facts::default() };
        Ok(Verified { hook: text.hook, object, index: 0, graph, facts })
    }

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
    let rules = Rules { ceiling: ceiling(hook), ..rules(hook) };
    let (graph, facts) = check(object, index, &rules, Options::default(), &mut Recorder::default())?;
    Ok(Verified { object: object.clone(), index, hook, graph, facts })
}

/// What the code generator binds must be there, also in parts that no way leads to.
fn refuse_unknown_maps(object: &Object, graph: &Graph) -> Result<(), Stop> {
    for (pc, op) in graph.ops.iter().enumerate() {
        let unknown = match *op {
            Some(Op::Address { region, .. }) if region as usize >= object.regions.len() => region,
            Some(Op::Map { map, .. }) if map as usize >= object.maps.len() => map,
            _ => continue,
        };
        return Err(Stop::new(pc, Reason::UnknownMap(unknown)));
    }
    Ok(())
}

/// Where functions share a stack, those that call each other fit into it, each rounded up as the kernel does.
fn check_combined_stack(program: &ProgramText, graph: &Graph, rules: &Rules, facts: &Facts) -> Result<(), Stop> {
    /// Stacks begin at multiples of this.
    const ALIGNMENT: u32 = 16;
    let Some(limit) = rules.combined_stack else { return Ok(()) };
    let own: Vec<u32> = facts.stack.iter().map(|bytes| bytes.next_multiple_of(ALIGNMENT)).collect();
    let bytes = graph.deepest(program, &own);
    if bytes > limit { Err(Stop::new(0, Reason::CombinedStack { bytes, limit })) } else { Ok(()) }
}

/// Checks a program by any rules.
fn check(
    object: &Object,
    index: usize,
    rules: &Rules,
    mut options: Options,
    recorder: &mut Recorder,
) -> Result<(Graph, Facts), Box<Rejection>> {
    let program = &object.programs[index];
    let graph = Graph::build(program).map_err(|stop| explain::plain(program, rules, None, stop))?;
    refuse_unknown_maps(object, &graph).map_err(|stop| explain::plain(program, rules, Some(&graph), stop))?;
    let facts = loop {
        let mut walk = Walk::new(program, &graph, object, rules, options, recorder);
        let result = walk.run();
        let spent = walk.spent();
        let has_loops = walk.loops.attempts > 0;
        match result {
            Ok(()) => break Facts { visited: spent.visited, ..walk.facts },
            // What is known of ways that meet may be needed after all.
            Err(stop) if walk.loosenings > 0 => {
                options.patient |= stop.is_too_complex() && has_loops;
                (options.strict, options.spent) = (true, spent);
            }
            // Some loops are easier to guess once their numbers have spread: all over again, from the sixth round.
            Err(stop) if stop.is_too_complex() && has_loops && !options.patient => {
                (options.patient, options.spent) = (true, spent);
            }
            Err(stop) => {
                return Err(Box::new(Rejection { visited: spent.visited, ..*explain::rejection(&walk, stop) }));
            }
        }
        walk.recorder.clear();
    };
    check_combined_stack(program, &graph, rules, &facts)
        .map_err(|stop| explain::plain(program, rules, Some(&graph), stop))?;
    Ok((graph, facts))
}
