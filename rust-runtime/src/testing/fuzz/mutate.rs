//! Small changes to programs that were accepted: what lies next to what is right.

use std::sync::Arc;

use super::{generate::object, random::Random};
use crate::{
    isa::{Insn, LDDW, Op},
    object::Object,
};

/// Changes one to three instructions. The number of slots stays, so that jumps still lead where they led.
pub fn mutate(object_before: &Object, random: &mut Random) -> Arc<Object> {
    let program = &object_before.programs[0];
    let mut insns = program.insns.clone();
    for _ in 0..1 + random.below(3) {
        change(&mut insns, random);
    }
    let starts: Vec<usize> = program.functions.iter().map(|function| function.start).collect();
    object(insns, &starts)
}

/// Slots at which an instruction begins.
fn beginnings(insns: &[Insn]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut pc = 0;
    while pc < insns.len() {
        found.push(pc);
        pc += Op::decode(insns, pc).map_or(1, Op::slots);
    }
    found
}

fn change(insns: &mut [Insn], random: &mut Random) {
    let places = beginnings(insns);
    let (at, other) = (random.pick(&places), random.pick(&places));
    let is_wide = |insn: Insn| insn.code == LDDW;
    match random.below(10) {
        0 | 1 => insns[at].imm = random.immediate(),
        2 => insns[at].imm = insns[at].imm.wrapping_add(random.below(3) as i32 - 1),
        3 => insns[at].off = insns[at].off.wrapping_add(random.below(17) as i16 - 8),
        4 => insns[at].dst = random.below(11) as u8,
        5 if insns[at].code & 8 != 0 => insns[at].src = random.below(11) as u8,
        // Another operation, another width.
        6 if !is_wide(insns[at]) => insns[at].code ^= 0x10 << random.below(4),
        7 if !is_wide(insns[at]) => insns[at].code ^= random.pick(&[1, 3, 8, 0x10, 0x18]),
        8 if !is_wide(insns[at]) && !is_wide(insns[other]) => insns.swap(at, other),
        // Left out.
        9 if !is_wide(insns[at]) => insns[at] = Insn { code: 0x05, ..Insn::default() },
        _ if !is_wide(insns[at]) && !is_wide(insns[other]) => insns[at] = insns[other],
        _ => {}
    }
}
