//! Raw bytes, for cargo-fuzz and for a bounded run of our own: any input ends in an answer.

use super::{
    generate::object,
    search::{Effort, check},
};
use crate::{
    hook::Hook,
    isa::{Insn, SLOT},
    verifier::{self, Profile},
};

/// Bytes as an object file, judged by both kinds of rules; the annotated walk and the words of a refusal are made too.
pub fn object_bytes(bytes: &[u8]) {
    for profile in [Profile::Hooks, Profile::Generic] {
        let Ok(verdicts) = verifier::judge_bytes(bytes, profile, true) else { continue };
        for rejection in verdicts.iter().filter_map(|verdict| verdict.result.as_ref().err()) {
            // Whatever it says, it says it.
            let _ = format!("{rejection:#}");
        }
    }
}

/// Bytes as the instructions of one program.
///
/// # Panics
///
/// If the program is accepted and does what was not believed.
pub fn program_bytes(bytes: &[u8]) {
    let insns: Vec<Insn> = bytes.as_chunks::<SLOT>().0.iter().map(|slot| Insn::from_bytes(*slot)).collect();
    let object = object(insns, &[0]);
    let _ = verifier::verify(&object, 0, Hook::Unpin);
    for seed in [0, 1] {
        if let Some(failure) = check(&object, seed, Effort { inputs: 2, pairs: 2 }).failure {
            panic!("{failure:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::testing::fuzz::{Features, Helpers, Random, generate};

    /// Programs whose bytes are damaged, and bytes that were never a program.
    #[test]
    fn any_bytes_end_in_an_answer() {
        let mut random = Random::new(3);
        for round in 0..2000u64 {
            let program = generate(round, Features { helpers: Helpers::All, mistakes: 8 });
            let mut bytes: Vec<u8> = program.programs[0].insns.iter().flat_map(|insn| insn.to_bytes()).collect();
            damage(&mut bytes, &mut random);
            if random.once_in(4) {
                bytes.fill_with(|| random.word() as u8);
            }
            program_bytes(&bytes);
            object_bytes(&bytes);
        }
    }

    fn damage(bytes: &mut [u8], random: &mut Random) {
        for _ in 0..1 + random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = random.word() as u8;
        }
    }

    /// What cargo-fuzz kept of its runs, as it is and damaged.
    #[test]
    fn what_was_kept_ends_in_an_answer() {
        let mut random = Random::new(4);
        for (target, run) in [("object", object_bytes as fn(&[u8])), ("bytecode", program_bytes)] {
            let kept = kept(target);
            assert!(kept.len() >= 20, "{target}: {} files", kept.len());
            for bytes in kept {
                run(&bytes);
                for _ in 0..20 {
                    let mut damaged = bytes.clone();
                    damage(&mut damaged, &mut random);
                    run(&damaged);
                }
            }
        }
    }

    fn kept(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let files =
            std::fs::read_dir(folder).expect("the corpus is there").map(|file| file.expect("it is readable").path());
        let mut files: Vec<_> = files.collect();
        files.sort();
        files.iter().map(|file| std::fs::read(file).expect("it is readable")).collect()
    }
}
