//! Which machine code an instruction became.

#[cfg(target_arch = "x86_64")]
use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::emit::Assembled;
use super::{Error, Program};
use crate::object::SourceLine;

/// An instruction of a program's bytecode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Its slot.
    pub pc: usize,
    /// As `llvm-objdump -d` writes it.
    pub text: String,
    pub source: Option<SourceLine>,
    /// Where its machine code lies in the program's.
    pub offset: usize,
    /// Empty where it became one with the instruction before it, and where programs are interpreted.
    pub code: Vec<u8>,
}

/// Every instruction of a program, in order.
pub fn instructions(program: &Program) -> Result<Vec<Instruction>, Error> {
    #[cfg(target_arch = "x86_64")]
    let assembled = program.assemble_again()?;
    let text = program.text();
    let slots = text.functions.iter().flat_map(|function| function.start..function.end);
    let instruction = |pc: usize| {
        let op = program.verified.graph().ops[pc]?;
        #[cfg(target_arch = "x86_64")]
        let (offset, code) = {
            let range = machine_code(&assembled, pc);
            let offset = range.as_ref().map_or(0, |range| range.start);
            (offset, range.and_then(|range| assembled.bytes().get(range)).unwrap_or_default().to_vec())
        };
        #[cfg(not(target_arch = "x86_64"))]
        let (offset, code) = (0, Vec::new());
        Some(Instruction { pc, text: op.to_string(), source: text.source_line(pc), offset, code })
    };
    Ok(slots.filter_map(instruction).collect())
}

/// The machine code of a slot: up to where the next one's begins. None: it has none of its own.
#[cfg(target_arch = "x86_64")]
pub fn machine_code(assembled: &Assembled, pc: usize) -> Option<Range<usize>> {
    let begins = |slot: &usize| assembled.slots[*slot] != u32::MAX;
    let end = (pc + 1..assembled.slots.len()).find(begins);
    let end = end.map_or(assembled.code_end, |slot| assembled.slots[slot] as usize);
    begins(&pc).then(|| assembled.slots[pc] as usize..end)
}

/// Bytecode alone: there is no machine code beside it.
#[cfg(all(not(target_arch = "x86_64"), any(test, feature = "disasm")))]
pub fn listing(program: &Program) -> Result<String, Error> {
    Ok(instructions(program)?.into_iter().map(|one| format!("{:5}: {}\n", one.pc, one.text)).collect())
}
