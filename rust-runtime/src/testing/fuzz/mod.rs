//! Looking for programs that the verifier should not have accepted.
//!
//! ```text
//! generate   programs by seed     mutate   changes to accepted ones
//! search     verifies, runs what is accepted on many inputs, compares with what was believed and with machine code
//! raw        any bytes: as an object file, as a program
//! reduce     makes a failing program small
//! ```

mod generate;
mod machine_code;
mod mutate;
mod random;
mod raw;
mod reduce;
mod search;

pub use generate::{Features, Helpers, generate, object};
pub use mutate::mutate;
pub use random::Random;
pub use raw::{object_bytes, program_bytes};
pub use reduce::{smallest, text};
pub use search::{Checked, Effort, Failure, Plan, Search, Seen, Tally, bytes, check, search};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Op;
    use std::{
        collections::BTreeSet,
        time::{Duration, Instant},
    };

    /// Long runs: `cargo xtask fuzz`. More with DUCKBPF_CASES=20000.
    #[test]
    fn accepted_programs_do_what_was_believed() {
        let cases = std::env::var("DUCKBPF_CASES").ok().and_then(|cases| cases.parse().ok());
        let until = cases.is_none().then(|| Instant::now() + Duration::from_secs(20));
        let effort = Effort { inputs: 4, pairs: 8 };
        let plan = Plan { seed: 7, programs: cases.unwrap_or(3000), effort, until, failures: 3, reduced: true };
        let tally = search(plan);
        assert!(tally.failures.is_empty(), "{}", tally.failures.join("\n\n"));
        assert!(tally.accepted * 4 > tally.programs, "{} of {}: {:?}", tally.accepted, tally.programs, tally.refused);
        assert!(tally.rich * 2 > tally.accepted, "{} of {}", tally.rich, tally.accepted);
    }

    /// Sizes of the keys of the maps that a program uses.
    fn keys(object: &crate::object::Object) -> BTreeSet<u32> {
        let insns = &object.programs[0].insns;
        let ops = (0..insns.len()).filter_map(|pc| Op::decode(insns, pc).ok());
        ops.filter_map(|op| if let Op::Map { map, .. } = op { Some(object.maps[map as usize].key_size) } else { None })
            .collect()
    }

    /// Nine ways and more that one number decides between.
    fn has_fan(object: &crate::object::Object) -> bool {
        let insns = &object.programs[0].insns;
        let is_way = |reg, way| insns.iter().any(|insn| (insn.code, insn.dst, insn.imm) == (0x15, reg, way));
        (0..10).any(|reg| (1..10).all(|way| is_way(reg, way)))
    }

    #[test]
    fn programs_with_fans_are_accepted_or_refused() {
        let (features, effort) = (Features { helpers: Helpers::Pure, mistakes: 0 }, Effort { inputs: 1, pairs: 0 });
        let fans = (0..800).map(|seed| (seed, generate(seed, features))).filter(|(_, object)| has_fan(object));
        let (mut accepted, mut refused) = (0, 0);
        for (seed, object) in fans.take(60) {
            let checked = check(&object, seed, effort);
            assert!(checked.failure.is_none(), "{:?}\n{}", checked.failure, text(&object));
            if checked.refused.is_none() { accepted += 1 } else { refused += 1 }
        }
        assert_eq!(accepted + refused, 60);
        assert!(accepted >= 15 && refused >= 6, "{accepted} accepted, {refused} refused");
    }

    #[test]
    fn programs_with_keys_of_every_size_are_compared() {
        let (features, mut seen) = (Features { helpers: Helpers::All, mistakes: 0 }, BTreeSet::new());
        let every = BTreeSet::from([4, 8, 12, 16, 24]);
        for seed in 0..3000 {
            let object = generate(seed, features);
            let checked = check(&object, seed, Effort { inputs: 1, pairs: 4 });
            assert!(checked.failure.is_none(), "{:?}\n{}", checked.failure, text(&object));
            if checked.compared > 0 {
                seen.extend(keys(&object));
            }
            if seen == every {
                return;
            }
        }
        panic!("only {seen:?}");
    }
}
