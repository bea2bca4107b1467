//! Programs as a verifier sees them that knows less than ours does: the kernel's.
//!
//! Where the kernel refuses what we accept, the reason is what it does not know exactly if we, too, refuse the program without
//! that knowledge. [`without`] takes some of it away, and leaves the rest of the program as it is.

use crate::{
    isa::{CALL, Insn, LDDW, LDDW_FUNCTION, LDDW_MAP, LDDW_MEMORY},
    object::{MapDef, Object, Region},
    verifier::{self, Graph},
};

/// Loads eight bytes.
const LOAD: u8 = 0x79;
const GOTOL: u8 = 0x06;
/// `dst += src`, and `dst |= imm`.
const ADD: u8 = 0x0f;
const OR: u8 = 0x47;
/// `if dst != imm goto`, and `if dst s>= imm goto` of 64 bits; of 32 bits it is one more.
const IF_UNEQUAL: u8 = 0x55;
const IF_AT_LEAST: u8 = 0x75;

/// Something that we know, and the kernel does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// Quotients, remainders, and what is shifted by a register (RFC 9669, section 4.1).
    Quotients,
    /// Negative numbers that are shifted to the left.
    NegativeShifts,
    /// The outcome of a test of bits, where ranges decide it.
    BitTests,
    /// The outcome of comparing a register with itself.
    Itself,
    /// Narrow loads: of a number on the stack, all parts but the lowest.
    Parts,
    /// A pointer that was moved by an index, where the index is compared later.
    Indices,
}

impl Knowledge {
    /// What may be unknown at once. Indices stand alone: what takes them away also takes copies of numbers apart.
    pub const ALL: [Knowledge; 5] =
        [Knowledge::Quotients, Knowledge::NegativeShifts, Knowledge::BitTests, Knowledge::Itself, Knowledge::Parts];

    fn is_of(self, insn: &Insn) -> bool {
        let by_register = insn.code & 8 != 0;
        let (class, op) = (insn.code & 7, insn.code >> 4);
        let (is_alu, is_branch) = (matches!(class, 4 | 7), matches!(class, 5 | 6));
        match self {
            Knowledge::Quotients => is_alu && (matches!(op, 3 | 9) || by_register && matches!(op, 6 | 7 | 12)),
            Knowledge::NegativeShifts => is_alu && op == 6 && !by_register,
            Knowledge::BitTests => is_branch && op == 4,
            Knowledge::Itself => is_branch && by_register && op != 4 && insn.dst == insn.src,
            Knowledge::Indices => insn.code == ADD,
            Knowledge::Parts => class == 1 && matches!(insn.code >> 5, 3 | 4) && insn.code & 0x18 != 0x18,
        }
    }
}

/// We refuse the program, too, if we do not know this.
pub fn hangs_on(object: &Object, unknown: &[Knowledge]) -> bool {
    without(object, unknown).is_some_and(|vague| verifier::judge_generic(&vague).is_err())
}

/// The program with more instructions in place of some, which nobody knows more of than the kernel. None: there are no such.
pub fn without(object: &Object, unknown: &[Knowledge]) -> Option<Object> {
    let graph = Graph::build(&object.programs[0]).ok()?;
    let mut vague = object.clone();
    let anything = add_variable(&mut vague);
    let program = &mut vague.programs[0];
    let (mut insns, mut places, mut carriers) = (Vec::new(), Vec::new(), Vec::new());
    for (at, insn) in program.insns.iter().enumerate() {
        places.push(insns.len());
        let knowledge = unknown.iter().find(|knowledge| knowledge.is_of(insn));
        match knowledge.and_then(|knowledge| replaced(*knowledge, insn, graph.live(at), anything)) {
            Some(more) => insns.extend(more),
            None => insns.push(*insn),
        }
        // What leads elsewhere is the last.
        carriers.push(insns.len() - 1);
    }
    if insns.len() == program.insns.len() {
        return None;
    }
    places.push(insns.len());
    for (at, &carrier) in carriers.iter().enumerate() {
        move_target(&mut insns[carrier], at, carrier, &places);
    }
    for function in &mut program.functions {
        (function.start, function.end) = (places[function.start], places[function.end]);
    }
    program.insns = insns;
    Some(vague)
}

/// What stands for an instruction before which these registers are live. None: there is no way.
fn replaced(knowledge: Knowledge, insn: &Insn, live: u16, anything: i32) -> Option<Vec<Insn>> {
    let load = |code: u8, dst: u8| {
        let address = Insn { code: LDDW, dst, src: LDDW_MEMORY, imm: anything, off: 0 };
        [address, Insn::default(), Insn { code, dst, src: dst, ..Insn::default() }]
    };
    match knowledge {
        Knowledge::Quotients => Some(load(LOAD, insn.dst).to_vec()),
        Knowledge::NegativeShifts => {
            let is_narrow = u8::from(insn.code & 7 == 4);
            let skip = Insn { code: IF_AT_LEAST + is_narrow, dst: insn.dst, off: 3, ..Insn::default() };
            Some([&[skip][..], &load(LOAD, insn.dst), &[*insn]].concat())
        }
        // The same number, which nothing is known to depend on.
        Knowledge::Indices => Some(vec![*insn, Insn { code: OR, dst: insn.src, ..Insn::default() }]),
        Knowledge::Parts => Some([&[*insn][..], &load(insn.code, insn.dst)].concat()),
        Knowledge::BitTests | Knowledge::Itself => {
            let dst = (0..10).find(|reg| live & 1 << reg == 0 && ![insn.dst, insn.src].contains(reg))?;
            let either = Insn { code: IF_UNEQUAL, dst, off: insn.off, ..Insn::default() };
            Some([&load(LOAD, dst)[..], &[either]].concat())
        }
    }
}

/// A section of eight bytes that anybody may write; its place among the maps, of which those of sections come first.
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

/// Makes a jump or a call that stood at a slot, and stands at another now, lead where it led.
fn move_target(insn: &mut Insn, at: usize, now: usize, places: &[usize]) {
    let moved = |distance: i64| {
        let target = places[(at as i64 + 1 + distance) as usize];
        target as i64 - now as i64 - 1
    };
    match (insn.code, insn.src) {
        (CALL, 1) | (GOTOL, _) | (LDDW, LDDW_FUNCTION) => insn.imm = moved(insn.imm.into()) as i32,
        (CALL | 0x95, _) => {}
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
        let vague = without(&bounded, &[Knowledge::Quotients]).expect("it has a quotient");
        assert_eq!(vague.programs[0].insns.len(), bounded.programs[0].insns.len() + 2);
        assert!(judge_generic(&vague).is_ok(), "it hangs on the shift alone");
        assert!(without(&bounded, &[Knowledge::Itself]).is_none(), "no register is compared with itself");
        hangs_on_this_alone(
            Knowledge::Quotients,
            "r2 = *(u64 *)(r1 + 0)\nr2 %= 8\nr4 = r10\nr4 += -8\n*(u64 *)(r10 - 8) = 0\nr4 += r2\n\
             r0 = *(u8 *)(r4 + 0)\nexit",
        );
    }

    /// We accept it, and would not without this knowledge.
    fn hangs_on_this_alone(knowledge: Knowledge, text: &str) {
        let object = object(text);
        assert!(judge_generic(&object).is_ok(), "{knowledge:?}");
        for other in Knowledge::ALL {
            assert_eq!(hangs_on(&object, &[other]), other == knowledge, "{knowledge:?}, {other:?}");
        }
    }

    /// r5 was not written: who can come to its copy is refused.
    #[test]
    fn programs_hang_on_what_is_taken_away() {
        hangs_on_this_alone(
            Knowledge::NegativeShifts,
            "r2 = *(u32 *)(r1 + 0)\nr2 *= -5\nr2 <<= 1\nif r2 s<= 0 goto out\nr0 = r5\nexit\nout:\nr0 = 0\nexit",
        );
        hangs_on_this_alone(
            Knowledge::BitTests,
            "r2 = *(u64 *)(r1 + 0)\nif r2 == 0 goto out\nif r2 & -1 goto out\nr0 = r5\nexit\nout:\nr0 = 0\nexit",
        );
        hangs_on_this_alone(
            Knowledge::Itself,
            "r2 = *(u64 *)(r1 + 0)\nif r2 s>= r2 goto out\nr0 = r5\nexit\nout:\nr0 = 0\nexit",
        );
        hangs_on_this_alone(
            Knowledge::Parts,
            "*(u64 *)(r10 - 8) = 3\nr2 = *(u16 *)(r10 - 4)\nif r2 == 0 goto out\nr0 = r5\nexit\nout:\nr0 = 0\nexit",
        );
    }
}
