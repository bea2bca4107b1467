//! `can_loop`: the rounds that a function's loops made are counted at the lower end of its stack, by instructions of the header's. Here
//! they are found, so that the function begins with none.

use crate::isa::{Insn, R10};

const PLACE: i16 = -512;
/// Bytes of the count.
const SIZE: i32 = 8;

const LOAD: u8 = 0x79;
const STORE: u8 = 0x7b;
const STORE_CONSTANT: u8 = 0x7a;
const ADD_CONSTANT: u8 = 0x07;

/// What a function begins with that counts rounds.
pub const NONE_YET: Insn = Insn { code: STORE_CONSTANT, dst: R10, src: 0, off: PLACE, imm: 0 };

/// What `__duckbpf_rounds()` of duckbpf.h is compiled to.
fn is_count(insns: &[Insn]) -> bool {
    let [load, add, store, ..] = insns else { return false };
    let reg = load.dst;
    *load == Insn { code: LOAD, dst: reg, src: R10, off: PLACE, imm: 0 }
        && *add == Insn { code: ADD_CONSTANT, dst: reg, src: 0, off: 0, imm: 1 }
        && *store == Insn { code: STORE, dst: R10, src: reg, off: PLACE, imm: 0 }
}

/// Whether code takes the count's place for something else: by an address, or by its own reads and writes.
fn is_taken(insn: Insn) -> bool {
    let is_within = |offset: i32| (PLACE.into()..i32::from(PLACE) + SIZE).contains(&offset);
    let base = match insn.code & 7 {
        1 => insn.src,
        2 | 3 => insn.dst,
        _ => return insn.code == ADD_CONSTANT && is_within(insn.imm),
    };
    base == R10 && is_within(insn.off.into())
}

/// What a function does with the place of the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounds {
    /// Nothing that matters here.
    NotCounted,
    Counted,
    /// It counts, and has something else there.
    NoRoom,
}

pub fn rounds(insns: &[Insn]) -> Rounds {
    let (mut counts, mut is_shared, mut at) = (false, false, 0);
    while at < insns.len() {
        let step = match insns[at] {
            _ if is_count(&insns[at..]) => {
                counts = true;
                3
            }
            insn if insn.is_lddw() => 2,
            insn => {
                is_shared |= is_taken(insn);
                1
            }
        };
        at += step;
    }
    match (counts, is_shared) {
        (false, _) => Rounds::NotCounted,
        (true, false) => Rounds::Counted,
        (true, true) => Rounds::NoRoom,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(reg: u8) -> [Insn; 3] {
        [
            Insn { code: LOAD, dst: reg, src: R10, off: PLACE, imm: 0 },
            Insn { code: ADD_CONSTANT, dst: reg, src: 0, off: 0, imm: 1 },
            Insn { code: STORE, dst: R10, src: reg, off: PLACE, imm: 0 },
        ]
    }

    #[test]
    fn a_function_that_counts_needs_the_place_for_itself() {
        let address = |imm| Insn { code: ADD_CONSTANT, dst: 2, imm, ..Insn::default() };
        assert_eq!(rounds(&[]), Rounds::NotCounted);
        assert_eq!(rounds(&[NONE_YET, address(-512)]), Rounds::NotCounted);
        assert_eq!(rounds(&count(7)), Rounds::Counted);
        assert_eq!(rounds(&[&count(0)[..], &count(9), &[address(-504)]].concat()), Rounds::Counted);
        for other in [address(-512), address(-505), NONE_YET, count(3)[0], Insn { off: -505, ..count(3)[2] }] {
            assert_eq!(rounds(&[&[other], &count(3)[..]].concat()), Rounds::NoRoom, "{other:?}");
        }
    }
}
