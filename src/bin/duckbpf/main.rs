//! The `duckbpf` command: what can be done with programs outside of a database.

#[cfg(feature = "conformance")]
mod conformance;
mod disasm;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// eBPF for DuckDB: check and inspect programs.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Verify(verify::Arguments),
    Disasm(disasm::Arguments),
    #[cfg(feature = "conformance")]
    Conformance(conformance::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Disasm(arguments) => disasm::run(&arguments),
        #[cfg(feature = "conformance")]
        Command::Conformance(arguments) => conformance::run(&arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("duckbpf: {error:#}");
            ExitCode::from(2)
        }
    }
}
