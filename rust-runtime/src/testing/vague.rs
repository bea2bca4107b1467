//! Programs as a verifier sees them that knows less than ours does: the kernel's.
//!
//! Where the kernel refuses what we accept, the reason is what it does not know exactly if we, too, refuse the program without
//! that knowledge. Each function here takes some of it away, and leaves the rest of the program as it is.

use crate::{
    isa::{Insn, LDDW, LDDW_MAP, LDDW_MEMORY},
    object::{MapDef, Object, Region},
};

/// Loads eight bytes.
const LOAD: u8 = 0x79;

/// Quotients, remainders, and what is shifted by a register may be any number (RFC 9669, section 4.1).
pub fn without_quotients(object: &Object) -> Object {
    let is_unknown = |insn: &Insn| {
        let by_register = insn.code & 8 != 0;
        let is_alu = matches!(insn.code & 7, 4 | 7);
        is_alu && (matches!(insn.code >> 4, 3 | 9) || by_register && matches!(insn.code >> 4, 6 | 7 | 12))
    };
    with_unknown_results(object, is_unknown)
}

/// Each comparison of a register with itself, which has one outcome, has the other one: a program for each.
pub fn with_the_other_way(object: &Object) -> impl Iterator<Item = Object> {
    let insns = &object.programs[0].insns;
    let changed = insns.iter().enumerate().filter_map(|(at, insn)| Some((at, other_way(insn)?)));
    changed.map(|(at, code)| {
        let mut object = object.clone();
        object.programs[0].insns[at].code = code;
        object
    })
}

/// The opposite comparison, if it compares a register with itself.
fn other_way(insn: &Insn) -> Option<u8> {
    const OPPOSITES: [(u8, u8); 5] = [(0x10, 0x50), (0x20, 0xb0), (0x30, 0xa0), (0x60, 0xd0), (0x70, 0xc0)];
    let by_register = insn.code & 8 != 0;
    if !matches!(insn.code & 7, 5 | 6) || !by_register || insn.dst != insn.src {
        return None;
    }
    let opposite = OPPOSITES.iter().find_map(|&(a, b)| match insn.code & 0xf0 {
        op if op == a => Some(b),
        op if op == b => Some(a),
        _ => None,
    });
    opposite.map(|op| insn.code & 0x0f | op)
}

/// Reads these instructions' results from a variable that anybody may write, all eight bytes: three slots in place of one.
fn with_unknown_results(object: &Object, is_unknown: impl Fn(&Insn) -> bool) -> Object {
    let mut object = object.clone();
    let anything = add_variable(&mut object);
    let program = &mut object.programs[0];
    let (mut insns, mut places) = (Vec::new(), Vec::new());
    for insn in &program.insns {
        places.push(insns.len());
        if is_unknown(insn) {
            let dst = insn.dst;
            insns.push(Insn { code: LDDW, dst, src: LDDW_MEMORY, imm: anything, off: 0 });
            insns.push(Insn::default());
            insns.push(Insn { code: LOAD, dst, src: dst, ..Insn::default() });
        } else {
            insns.push(*insn);
        }
    }
    places.push(insns.len());
    for (at, &place) in places.iter().enumerate().take(program.insns.len()) {
        move_target(&mut insns[place], at, &places);
    }
    for function in &mut program.functions {
        (function.start, function.end) = (places[function.start], places[function.end]);
    }
    program.insns = insns;
    object
}

/// A section of eight bytes; its place among the maps, of which those of sections come first.
fn add_variable(object: &mut Object) -> i32 {
    let place = object.regions.len();
    object.maps.insert(place, MapDef::of_region(place, ".anything", 8, true));
    object.regions.push(Region { name: ".anything".into(), writable: true, size: 8, bytes: Vec::new() });
    for insn in &mut object.programs[0].insns {
        if insn.code == LDDW && matches!(insn.src, LDDW_MAP | LDDW_MEMORY) && insn.imm >= place as i32 {
            insn.imm += 1;
        }
    }
    place as i32
}

/// Makes a jump or a call that stood at a slot lead where it led, now that slots have moved.
fn move_target(insn: &mut Insn, at: usize, places: &[usize]) {
    let moved = |distance: i64| {
        let target = places[(at as i64 + 1 + distance) as usize];
        target as i64 - places[at] as i64 - 1
    };
    match (insn.code, insn.src) {
        (0x85, 1) | (0x06, _) => insn.imm = moved(insn.imm.into()) as i32,
        (0x85 | 0x95, _) => {}
        (code, _) if matches!(code & 7, 5 | 6) => insn.off = moved(insn.off.into()) as i16,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{testing::asm::assemble, verifier::judge_generic};

    fn object(text: &str) -> Arc<Object> {
        assemble(text).expect("it assembles").object
    }

    #[test]
    fn a_quotient_may_be_anything_and_jumps_still_lead_where_they_led() {
        let bounded = object(
            "r2 = *(u64 *)(r1 + 0)\nr3 = 7\nr2 /= r3\nif r2 == 0 goto out\nr2 >>= 62\nr2 <<= 3\nr4 = r10\nr4 += -32\n\
             *(u64 *)(r10 - 32) = 0\n*(u64 *)(r10 - 24) = 0\n*(u64 *)(r10 - 16) = 0\n*(u64 *)(r10 - 8) = 0\n\
             r4 += r2\nr0 = *(u64 *)(r4 + 0)\nexit\nout:\nr0 = 0\nexit",
        );
        assert!(judge_generic(&bounded).is_ok());
        let vague = without_quotients(&bounded);
        assert_eq!(vague.programs[0].insns.len(), bounded.programs[0].insns.len() + 2);
        assert!(judge_generic(&vague).is_ok(), "it hangs on the shift alone");
        let hangs = object(
            "r2 = *(u64 *)(r1 + 0)\nr2 %= 8\nr4 = r10\nr4 += -8\n*(u64 *)(r10 - 8) = 0\nr4 += r2\n\
             r0 = *(u8 *)(r4 + 0)\nexit",
        );
        assert!(judge_generic(&hangs).is_ok());
        assert!(judge_generic(&without_quotients(&hangs)).is_err());
    }

    #[test]
    fn a_comparison_with_itself_goes_the_other_way() {
        let object = object("r2 = *(u64 *)(r1 + 0)\nr2 &= 1\nif r2 s>= r2 goto out\nr0 = r5\nexit\nout:\nr0 = 0\nexit");
        assert!(judge_generic(&object).is_ok());
        let others: Vec<Object> = with_the_other_way(&object).collect();
        assert_eq!(others.len(), 1);
        assert!(judge_generic(&others[0]).is_err());
    }
}
