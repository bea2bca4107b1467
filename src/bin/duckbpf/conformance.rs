//! `duckbpf conformance`: the plugin protocol of bpf_conformance (github.com/Alan-Jowett/bpf_conformance). Memory comes as hex in the
//! argument, the program as hex on standard input, r0 goes as hex to standard output.

use std::{io, process::ExitCode};

use anyhow::{Context, bail};
use duckbpf_runtime::conformance::{Engine, run as run_program};
use object::{Object as _, ObjectSection as _};

/// Run one program that nobody verified, for conformance suites.
#[derive(clap::Args)]
pub struct Arguments {
    /// Interpret the program instead of compiling it.
    #[arg(long)]
    interpret: bool,
    /// The program, in hex; otherwise it is read from standard input.
    #[arg(long)]
    program: Option<String>,
    /// Accepted for the protocol's sake: errors are always printed.
    #[arg(long)]
    debug: bool,
    /// The program is an ELF object: its section .text runs.
    #[arg(long)]
    elf: bool,
    /// The program's memory, in hex. r1 holds its address, r2 its size.
    memory: Option<String>,
    /// Options once more, all in one word: that is how the suite hands them on. It may be empty.
    #[arg(allow_hyphen_values = true)]
    options: Option<String>,
}

impl Arguments {
    fn has(&self, flag: bool, option: &str) -> bool {
        flag || self.options.iter().any(|options| options.split_whitespace().any(|one| one == option))
    }
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => io::read_to_string(io::stdin()).context("standard input")?,
    };
    let mut code = bytes(&program).context("the program")?;
    if arguments.has(arguments.elf, "--elf") {
        code = section_text(&code).context("the program")?;
    }
    let mut memory = bytes(arguments.memory.as_deref().unwrap_or_default()).context("the memory")?;
    let interpret = arguments.has(arguments.interpret, "--interpret");
    let engine = if interpret { Engine::Interpreter } else { Engine::MachineCode };
    println!("{:x}", run_program(&code, &mut memory, engine)?);
    Ok(ExitCode::SUCCESS)
}

fn section_text(elf: &[u8]) -> anyhow::Result<Vec<u8>> {
    let file = object::File::parse(elf).context("no ELF object")?;
    let section = file.section_by_name(".text").context("it has no section .text")?;
    Ok(section.data()?.to_vec())
}

/// Bytes as pairs of hex digits, with blanks between them or not.
fn bytes(text: &str) -> anyhow::Result<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if digits.len() % 2 != 0 || !digits.is_ascii() {
        bail!("{} digits are no bytes", digits.len());
    }
    let byte = |pair: &[u8]| {
        let text = std::str::from_utf8(pair)?;
        if text.starts_with('+') {
            bail!("{text:?} is no byte");
        }
        u8::from_str_radix(text, 16).with_context(|| format!("{text:?} is no byte"))
    };
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(words: &[&str]) -> Arguments {
        use clap::Parser;
        let words = ["conformance"].iter().chain(words);
        Line::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).arguments
    }

    #[test]
    fn arguments_come_as_the_suite_hands_them_on() {
        // Memory, with blanks or empty, then all options in one word, which may be empty too.
        let is_interpreted = |words: &[&str]| {
            let arguments = parse(words);
            arguments.has(arguments.interpret, "--interpret")
        };
        for words in [&["--interpret", "aa  bb  ", ""][..], &["", "--interpret"], &["aa", "--debug --interpret"]] {
            assert!(is_interpreted(words), "{words:?}");
        }
        for words in [&[][..], &["", ""], &["aa  bb  "], &["aa", "--debug"], &["--debug", "aa", ""]] {
            assert!(!is_interpreted(words), "{words:?}");
        }
        assert_eq!(parse(&["aa  bb  ", ""]).memory.as_deref(), Some("aa  bb  "));
        assert!(parse(&["aa", "--elf"]).memory.is_some());
    }

    #[test]
    fn hex_comes_with_blanks_and_without() {
        assert_eq!(bytes("b7 00 0a\n").unwrap(), [0xb7, 0, 10]);
        assert_eq!(bytes("B7000A").unwrap(), [0xb7, 0, 10]);
        assert!(bytes("").unwrap().is_empty());
        for wrong in ["b", "zz", "b7 0", "+1"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
