//! PREVAIL as one more opinion: the crate `prevail`, the port to Rust by its author. It interprets abstractly where we walk ways,
//! so that it errs elsewhere: one set of facts an instruction, joined where ways meet, zones instead of bits and ranges.
//!
//! It judges what the kernel is asked about: programs whose context is plain bytes, by the rules for the unprivileged, with
//! termination.

use std::panic::{AssertUnwindSafe, catch_unwind};

use prevail::{
    crab::{ebpf_domain::DomainContext, var_registry::VariableRegistry},
    fwd_analyzer,
    ir::{program::Program, unmarshal::unmarshal},
    linux::linux_platform::LinuxPlatform,
    spec::{
        config::EbpfVerifierOptions,
        ebpf_base::EbpfCtxDescriptor,
        type_descriptors::{EbpfMapDescriptor, EbpfProgramType, ProgramInfo},
        vm_isa::EbpfInst,
    },
};

use super::kernel::Opinion;
use crate::{
    isa::{Insn, LDDW, LDDW_MAP, LDDW_MEMORY},
    object::{MapDef, Object},
};

/// Plain bytes, as many as the kernel is told.
static CONTEXT: EbpfCtxDescriptor = EbpfCtxDescriptor { size: 0xffff, data: -1, end: -1, meta: -1 };

/// What it says of an object's only program.
pub fn judge(object: &Object) -> Opinion {
    // It was not written for hostile programs.
    let said = catch_unwind(AssertUnwindSafe(|| analyse(object)));
    match said {
        Ok(Ok(())) => Opinion::Accepts,
        Ok(Err(why)) => Opinion::Rejects(why),
        Err(_) => Opinion::Rejects("panic".into()),
    }
}

fn analyse(object: &Object) -> Result<(), String> {
    let program_type = EbpfProgramType {
        name: "syscall".into(),
        ctx_descriptor: Some(&CONTEXT),
        is_privileged: false,
        is_sleepable: true,
        ..EbpfProgramType::default()
    };
    let map_descriptors: Vec<EbpfMapDescriptor> = object.maps.iter().enumerate().map(descriptor).collect();
    let mut info = ProgramInfo { program_type, map_descriptors, ..ProgramInfo::default() };
    let mut platform = LinuxPlatform::new();
    platform.map_descriptors = info.map_descriptors.clone();
    platform.set_program_type(&info.program_type);
    let mut options =
        EbpfVerifierOptions { must_have_exit: true, mock_map_fds: true, ..EbpfVerifierOptions::default() };
    options.runtime.check_for_termination = true;

    let insns: Vec<EbpfInst> = object.programs[0].insns.iter().map(instruction).collect();
    let sequence = unmarshal(&insns, &mut Vec::new(), &info, &platform, &options).map_err(|error| error.to_string())?;
    let program =
        Program::from_sequence(&sequence, &mut info, &platform, &options).map_err(|error| error.to_string())?;
    let context = DomainContext {
        program_info: &info,
        program: &program,
        runtime: &options.runtime,
        options: &options,
        platform: &platform,
    };
    let result = fwd_analyzer::analyze(&program, &context, &mut VariableRegistry::new());
    if !result.failed {
        return Ok(());
    }
    Err(result.find_first_error().map_or("no reason given".into(), |error| error.to_string()))
}

/// Maps are known by numbers from 1 on.
fn descriptor((index, map): (usize, &MapDef)) -> EbpfMapDescriptor {
    EbpfMapDescriptor {
        original_fd: index as i32 + 1,
        map_type: map.kind as u32,
        key_size: map.key_size,
        value_size: map.value_size,
        max_entries: map.max_entries,
        ..EbpfMapDescriptor::default()
    }
}

fn instruction(insn: &Insn) -> EbpfInst {
    let is_map = insn.code == LDDW && matches!(insn.src, LDDW_MAP | LDDW_MEMORY);
    let imm = if is_map { insn.imm + 1 } else { insn.imm };
    EbpfInst::new(insn.code, insn.dst, insn.src, insn.off, imm)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{testing::fuzz, verifier};

    /// Where it refuses what we accept: words of what it says, and why we are right.
    const EXPLAINED: [(&str, &str); 3] = [
        ("Loop counter is too large", "it counts rounds in zones, where a counter must be compared with a constant"),
        ("Upper bound must be at most", "bounds in zones: no bits, no remainders, nothing after a shift or a mask"),
        ("Lower bound must be at least", "the same"),
    ];

    fn is_explained(why: &str) -> bool {
        EXPLAINED.iter().any(|(words, _)| why.contains(words))
    }

    /// What was said of many programs.
    #[derive(Debug, Default)]
    struct Opinions {
        both: u64,
        only_us: BTreeMap<String, u64>,
        only_it: BTreeMap<&'static str, u64>,
        neither: u64,
        unexplained: Vec<String>,
    }

    impl Opinions {
        fn ask(&mut self, object: &Object, name: &str) {
            match (verifier::judge_generic(object), judge(object)) {
                (Ok(()), Opinion::Accepts) => self.both += 1,
                (Ok(()), Opinion::Rejects(why)) if is_explained(&why) => {
                    let words = EXPLAINED.iter().find(|(words, _)| why.contains(words)).map_or("", |(words, _)| words);
                    *self.only_us.entry(words.to_owned()).or_default() += 1;
                }
                (Ok(()), Opinion::Rejects(why)) => self.unexplained.push(format!("{name}: {why}")),
                (Err(rejection), Opinion::Accepts) => *self.only_it.entry(rejection.id()).or_default() += 1,
                (Err(_), Opinion::Rejects(_)) => self.neither += 1,
            }
        }
    }

    /// More with DUCKBPF_CASES=1000.
    #[test]
    fn generated_programs_that_we_accept_prevail_accepts() {
        let programs = std::env::var("DUCKBPF_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(20);
        let mut opinions = Opinions::default();
        for seed in 0..programs {
            let object = fuzz::generate(seed, fuzz::Features { helpers: fuzz::Helpers::None, mistakes: 10 });
            opinions.ask(&object, &format!("seed {seed}"));
        }
        println!("{programs} programs: {opinions:#?}");
        assert!(opinions.unexplained.is_empty(), "{}", opinions.unexplained.join("\n"));
        assert!(opinions.both > 0);
    }
}
