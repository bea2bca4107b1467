//! `duckbpf disasm`: what became of a program's C.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

/// Print bytecode and machine code of every program of BPF objects, side by side.
#[derive(clap::Args)]
pub struct Arguments {
    /// Objects, as clang -target bpf makes them.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    for file in &arguments.files {
        write!(out, "{}", duckbpf_runtime::disassemble(file)?)?;
    }
    Ok(ExitCode::SUCCESS)
}
