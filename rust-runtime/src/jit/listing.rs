//! Bytecode and machine code side by side.
//!
//! Addresses of machine code count from the program's begin, and addresses of helpers, variables and maps have names, so that a
//! listing is the same each time.

use std::fmt::{self, Write};

use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter, SymbolResolver, SymbolResult};

use super::{Error, Program, emit, instructions::machine_code};
use crate::{
    helpers::{self, Env},
    maps::Body,
};

/// Columns for the bytecode.
const LEFT: usize = 46;

/// A program as text.
pub fn listing(program: &Program) -> Result<String, Error> {
    let assembled = program.assemble_again()?;
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write(&mut text, program, &assembled);
    Ok(text)
}

fn write(out: &mut String, program: &Program, assembled: &emit::Assembled) -> fmt::Result {
    let text = program.text();
    writeln!(
        out,
        "{}: {}, {} instructions, {} bytes of machine code",
        text.symbol,
        text.section,
        text.insns.len(),
        assembled.bytes().len()
    )?;
    let mut machine = Machine::new(program, assembled.bytes());
    let (mut line, mut shown) = (None, 0);
    for function in &text.functions {
        writeln!(out, "\n{}:", function.name)?;
        machine.up_to(out, "", shown, assembled.slots[function.start] as usize)?;
        for pc in function.start..function.end {
            let Some(op) = program.verified.graph().ops[pc] else { continue };
            let source = text.source_line(pc).map(|source| source.to_string());
            if source.is_some() && source != line {
                writeln!(out, "; {}", source.as_deref().unwrap_or_default())?;
                line = source;
            }
            let left = format!("{pc:5}: {op}");
            match machine_code(assembled, pc) {
                Some(code) => {
                    machine.up_to(out, &left, code.start, code.end)?;
                    shown = code.end;
                }
                None => writeln!(out, "{left:LEFT$} |   with the one before")?,
            }
        }
    }
    if let Some(batch) = assembled.hash_batch {
        writeln!(out, "\nthe loops over keys:")?;
        machine.up_to(out, "", batch, assembled.bytes().len())?;
    }
    Ok(())
}

struct Machine<'a> {
    code: &'a [u8],
    formatter: IntelFormatter,
}

impl Machine<'_> {
    fn new<'a>(program: &Program, code: &'a [u8]) -> Machine<'a> {
        let mut formatter = IntelFormatter::with_options(Some(Box::new(Names::new(program))), None);
        let options = formatter.options_mut();
        options.set_hex_prefix("0x");
        options.set_hex_suffix("");
        options.set_uppercase_hex(false);
        options.set_small_hex_numbers_in_decimal(false);
        options.set_branch_leading_zeros(false);
        options.set_space_after_operand_separator(true);
        Machine { code, formatter }
    }

    /// Machine instructions, the first beside `left`. What lies between functions is left out.
    fn up_to(&mut self, out: &mut String, left: &str, begin: usize, end: usize) -> fmt::Result {
        let mut decoder = Decoder::with_ip(64, &self.code[..end], 0, DecoderOptions::NONE);
        if decoder.set_position(begin).is_err() {
            return Ok(());
        }
        decoder.set_ip(begin as u64);
        let mut left = left;
        while decoder.can_decode() {
            let instruction = decoder.decode();
            if instruction.mnemonic() == iced_x86::Mnemonic::Int3 {
                continue;
            }
            let mut right = String::new();
            self.formatter.format(&instruction, &mut right);
            writeln!(out, "{left:LEFT$} | {:4x}: {right}", instruction.ip())?;
            left = "";
        }
        if !left.is_empty() {
            writeln!(out, "{left:LEFT$} |")?;
        }
        Ok(())
    }
}

/// What the immediate operands of a program's code mean.
struct Names {
    known: Vec<(u64, u64, String)>,
}

impl Names {
    fn new(program: &Program) -> Names {
        let object = program.verified.object();
        let regions = object.regions.iter().zip(program.memory().regions());
        let regions = regions.map(|(region, map)| (map.address as u64, map.size as u64, region.name.clone()));
        let env = (program.env as *const Env as u64, 1, "env".to_owned());
        let helpers = helpers::TABLE.iter().map(|helper| (helper.function as *const () as u64, 1, helper.c_name()));
        let maps = program.bindings.maps().map(|map| (map.address(), 1, map.def().name.clone()));
        let contents = program.bindings.maps().filter_map(|map| {
            let (address, what) = match map.body() {
                Body::Array(array) => (array.values().base, "values"),
                Body::Hash(hash) => (hash.chains()?.probe, "entries"),
                _ => return None,
            };
            Some((address as u64, 1, format!("{}.{what}", map.def().name)))
        });
        Names { known: regions.chain([env]).chain(helpers).chain(maps).chain(contents).collect() }
    }
}

impl SymbolResolver for Names {
    fn symbol(&mut self, _: &Instruction, _: u32, _: Option<u32>, address: u64, _: u32) -> Option<SymbolResult<'_>> {
        // Small numbers are numbers, and places in the code.
        let (start, _, name) = self
            .known
            .iter()
            .find(|(start, size, _)| *start > 0xffff_ffff && (*start..start + size).contains(&address))?;
        Some(SymbolResult::with_str(*start, name))
    }
}
