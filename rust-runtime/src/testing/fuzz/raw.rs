//! Raw bytes, for cargo-fuzz and for a bounded run of our own: any input ends in an answer.

use std::sync::Arc;

use super::{
    generate::object,
    search::{Effort, check},
};
use crate::{
    hook::Hook,
    isa::{Insn, SLOT},
    object::parse,
    verifier,
};

/// Bytes as an object file.
pub fn object_bytes(bytes: &[u8]) {
    let Ok(object) = parse(bytes) else { return };
    let object = Arc::new(object);
    for index in 0..object.programs.len() {
        // Whatever it says, it says it.
        let _ = verifier::verify(&object, index, object.programs[index].hook);
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
    use super::*;
    use crate::testing::fuzz::{Features, Helpers, Random, generate};

    /// Programs whose bytes are damaged, and bytes that were never a program.
    #[test]
    fn any_bytes_end_in_an_answer() {
        let mut random = Random::new(3);
        for round in 0..2000u64 {
            let program = generate(round, Features { helpers: Helpers::All, mistakes: 8 });
            let mut bytes: Vec<u8> = program.programs[0].insns.iter().flat_map(|insn| insn.to_bytes()).collect();
            for _ in 0..1 + random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] = random.word() as u8;
            }
            if random.once_in(4) {
                bytes.fill_with(|| random.word() as u8);
            }
            program_bytes(&bytes);
            object_bytes(&bytes);
        }
    }
}
