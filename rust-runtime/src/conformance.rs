//! Runs programs that nobody verified, for suites that test whether an instruction does what the standard says (feature
//! `conformance`, in no release).
//!
//! A program gets the address of its memory in r1 and the size in r2. It may do anything to the process, so each belongs in a
//! process of its own: `duckbpf conformance`.

use std::{mem, sync::Arc};

use crate::{
    helpers::Env,
    hook::Hook,
    isa::{Insn, LDDW, SLOT},
    jit,
    object::{Function, Memory, MemoryError, Object, ProgramText},
    verifier::Verified,
};

/// What runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    MachineCode,
    Interpreter,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("a program is a number of instructions of 8 bytes, not {0} bytes")]
    Size(usize),
    #[error("a call leads out of the program")]
    Call,
    #[error("{0}")]
    Decode(String),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(transparent)]
    Compile(#[from] jit::Error),
}

/// Runs bytecode on memory and returns r0.
pub fn run(code: &[u8], memory: &mut [u8], engine: Engine) -> Result<u64, Error> {
    let (slots, rest) = code.as_chunks::<SLOT>();
    if slots.is_empty() || !rest.is_empty() {
        return Err(Error::Size(code.len()));
    }
    // r2 = the size of memory
    let mut insns = vec![Insn { code: 0xb7, dst: 2, src: 0, off: 0, imm: memory.len() as i32 }];
    insns.extend(slots.iter().map(|slot| as_defined(Insn::from_bytes(*slot))));
    let functions = functions(&insns)?;
    run_text(ProgramText::from_insns(Hook::Load, insns, functions), memory, engine)
}

/// RFC 9669 defines what shifts by too much and divisions by a constant 0 do; verifiers refuse them all the same, ours included.
/// So they are written as instructions that do the same.
fn as_defined(insn: Insn) -> Insn {
    let is_wide = insn.code & 7 == 7;
    let is_constant_alu = matches!(insn.code & 7, 4 | 7) && insn.code & 8 == 0;
    match insn.code & 0xf0 {
        0x60 | 0x70 | 0xc0 if is_constant_alu => Insn { imm: insn.imm & if is_wide { 63 } else { 31 }, ..insn },
        // x / 0 = 0
        0x30 if is_constant_alu && insn.imm == 0 => Insn { code: 0xb0 | insn.code & 7, off: 0, ..insn },
        // x % 0 = x
        0x90 if is_constant_alu && insn.imm == 0 => Insn { code: 0xb8 | insn.code & 7, src: insn.dst, off: 0, ..insn },
        _ => insn,
    }
}

/// The first, and one at each place that is called.
fn functions(insns: &[Insn]) -> Result<Vec<Function>, Error> {
    let mut starts = vec![0];
    let mut pc = 0;
    while let Some(insn) = insns.get(pc) {
        if insn.is_local_call() {
            let target = pc as i64 + 1 + i64::from(insn.imm);
            starts.push(usize::try_from(target).ok().filter(|&target| target < insns.len()).ok_or(Error::Call)?);
        }
        pc += if insn.code == LDDW { 2 } else { 1 };
    }
    starts.sort_unstable();
    starts.dedup();
    let ends = starts.iter().skip(1).copied().chain([insns.len()]);
    let function = |(index, (&start, end))| Function { name: format!("function {index}"), start, end };
    Ok(starts.iter().zip(ends).enumerate().map(function).collect())
}

fn run_text(text: ProgramText, memory: &mut [u8], engine: Engine) -> Result<u64, Error> {
    let object = Object {
        license: None,
        programs: vec![text],
        regions: Vec::new(),
        maps: Vec::new(),
        variables: Vec::new(),
        hash_types: None,
        hash_mixed: None,
    };
    let globals = Memory::new(&object.regions)?;
    let verified = Verified::unverified(Arc::new(object)).map_err(Error::Decode)?;
    let program = match engine {
        Engine::MachineCode => jit::compile(verified, globals, Env::detached()),
        Engine::Interpreter => jit::interpret(verified, globals, Env::detached()),
    }?;
    // SAFETY: the entry takes the context in the first argument's register; that the program keeps within its memory is for
    // whoever hands it to a suite's command.
    let entry = unsafe { mem::transmute::<jit::Entry, unsafe extern "C" fn(*mut u8) -> u64>(program.entry()) };
    // SAFETY: as above.
    Ok(unsafe { entry(memory.as_mut_ptr()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        asm::assemble,
        programs::{EXIT, insn, lddw, load, local, mov},
    };

    /// What instructions do, written down by hand.
    const INSTRUCTIONS: &str = include_str!("../tests/conformance/instructions.txt");

    fn number(text: &str) -> u64 {
        let (digits, is_negative) = text.strip_prefix('-').map_or((text, false), |digits| (digits, true));
        let value = u64::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{text:?} is no number"));
        if is_negative { value.wrapping_neg() } else { value }
    }

    /// A second operand in all its forms: what goes before the instruction, and what stands in it.
    fn operands(text: &str, register: &str) -> Vec<(String, String)> {
        let value = number(text);
        let mut forms = vec![(format!("r2 = {value:#x} ll"), register.to_owned())];
        forms.extend(i32::try_from(value as i64).ok().map(|imm| ("r2 = 0".to_owned(), imm.to_string())));
        forms
    }

    /// The programs of a line, their memory, and what they return.
    fn cases(line: &str) -> (Vec<String>, Vec<u8>, u64) {
        let (what, result) = line.rsplit_once(" = ").unwrap_or_else(|| panic!("{line}: no result"));
        let words: Vec<&str> = what.split(' ').collect();
        let programs = match *words.as_slice() {
            [class @ ("alu64" | "alu32"), op, a, b] => {
                let register = if class == "alu64" { "r" } else { "w" };
                let forms = operands(b, &format!("{register}2")).into_iter();
                let program =
                    |(before, operand)| format!("r0 = {:#x} ll\n{before}\n{register}0 {op} {operand}\nexit", number(a));
                forms.map(program).collect()
            }
            [class @ ("jump64" | "jump32"), a, condition, b] => {
                let register = if class == "jump64" { "r" } else { "w" };
                let forms = operands(b, &format!("{register}2")).into_iter();
                let program = |(before, operand)| {
                    format!(
                        "r0 = 0\nr1 = {:#x} ll\n{before}\nif {register}1 {condition} {operand} goto taken\nexit\ntaken: r0 = 1\nexit",
                        number(a)
                    )
                };
                forms.map(program).collect()
            }
            ["run", ..] => {
                let code = what.trim_start_matches("run ");
                let (memory, code) = match code.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
                    Some((memory, code)) => (memory, code),
                    None => ("", code),
                };
                let bytes = memory.as_bytes().chunks(2).map(|pair| number(str::from_utf8(pair).unwrap()) as u8);
                return (vec![code.replace(" | ", "\n")], bytes.collect(), number(result));
            }
            _ => panic!("{line}: what is it?"),
        };
        (programs, Vec::new(), number(result))
    }

    #[test]
    fn instructions_do_what_the_standard_says() {
        let mut programs_run = 0;
        for line in INSTRUCTIONS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (programs, memory, expected) = cases(line);
            for text in programs {
                let object = assemble(&text).unwrap_or_else(|error| panic!("{line}: {error}")).object;
                let result = both(&object.programs[0].insns, &memory);
                assert_eq!(result, expected, "{line}: {result:#x}\n{text}");
                programs_run += 1;
            }
        }
        assert!(programs_run > 350, "{programs_run}");
    }

    fn both(insns: &[Insn], memory: &[u8]) -> u64 {
        let code: Vec<u8> = insns.iter().flat_map(|insn| insn.to_bytes()).collect();
        let results = [Engine::MachineCode, Engine::Interpreter].map(|engine| {
            run(&code, &mut memory.to_vec(), engine).unwrap_or_else(|error| panic!("{engine:?}: {error}"))
        });
        assert_eq!(results[0], results[1]);
        results[0]
    }

    #[test]
    fn memory_and_its_size_are_arguments() {
        assert_eq!(both(&[mov(0, 2), EXIT], &[0; 24]), 24);
        assert_eq!(both(&[load(0, 1, 8), EXIT], &[1; 16]), 0x0101_0101_0101_0101);
    }

    #[test]
    fn loops_calls_and_unreachable_code_run() {
        // r0 = 5 + 4 + 3 + 2 + 1, through a function, with dead code in between.
        let insns = [
            insn(0xb7, 6, 0, 0, 5),
            insn(0xb7, 7, 0, 0, 0),
            mov(1, 6),
            local(5),
            insn(0x0f, 7, 0, 0, 0),
            insn(0x07, 6, 0, 0, -1),
            insn(0x55, 6, 0, -5, 0),
            mov(0, 7),
            EXIT,
            mov(0, 1),
            EXIT,
        ];
        assert_eq!(both(&insns, &[]), 15);
        assert_eq!(both(&[lddw(0, 1 << 40).as_slice(), &[EXIT, EXIT]].concat(), &[]), 1 << 40);
    }

    #[test]
    fn what_the_standard_defines_is_run_though_no_verifier_takes_it() {
        let constant = |value: i32| insn(0xb7, 0, 0, 0, value);
        let minus = constant(-2);
        assert_eq!(both(&[minus, insn(0xc4, 0, 0, 0, 48), EXIT], &[]), 0xffff_ffff);
        assert_eq!(both(&[minus, insn(0x77, 0, 0, 0, 64 + 63), EXIT], &[]), 1);
        assert_eq!(both(&[minus, insn(0x37, 0, 0, 0, 0), EXIT], &[]), 0);
        assert_eq!(both(&[minus, insn(0x97, 0, 0, 0, 0), EXIT], &[]), -2i64 as u64);
        assert_eq!(both(&[minus, insn(0x94, 0, 0, 1, 0), EXIT], &[]), 0xffff_fffe);
    }

    #[test]
    fn what_lies_above_a_stack_is_nobodys() {
        // As a test of bpf_conformance has it: eight bytes are stored where four are left, in both functions.
        let stdw = |imm| insn(0x7a, 10, 0, -4, imm);
        let insns = [
            insn(0xb7, 6, 0, 0, 6),
            stdw(0x4433_2211),
            local(3),
            insn(0x61, 1, 10, -4, 0),
            insn(0x0f, 0, 1, 0, 0),
            EXIT,
            stdw(-1),
            insn(0xb7, 0, 0, 0, 1),
            EXIT,
        ];
        assert_eq!(both(&insns, &[]), 0x4433_2212);
    }

    #[test]
    fn nonsense_is_an_error() {
        let fails = |code: &[u8]| {
            [Engine::MachineCode, Engine::Interpreter].into_iter().all(|engine| run(code, &mut [], engine).is_err())
        };
        assert!(fails(&[]) && fails(&[0x95; 7]), "no whole instruction");
        let bytes = |insns: &[Insn]| insns.iter().flat_map(|insn| insn.to_bytes()).collect::<Vec<u8>>();
        assert!(fails(&bytes(&[insn(0x85, 0, 2, 0, 0x2a), EXIT])), "a kernel function");
        assert!(fails(&bytes(&[insn(0x8d, 2, 0, 0, 0), EXIT])), "callx");
        assert!(fails(&bytes(&[local(7), EXIT])), "a call to nowhere");
    }
}
