//! The `duckbpf` command: what can be done with programs outside of a database, and with those of a live one.

mod compile;
#[cfg(feature = "conformance")]
mod conformance;
mod disasm;
mod doctor;
mod map;
mod new;
mod output;
mod prog;
mod record;
mod replay;
mod signal;
mod skeleton;
mod socket;
mod top;
mod trace;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// eBPF for DuckDB: compile, check, attach and watch programs.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Compile(compile::Arguments),
    Verify(verify::Arguments),
    Disasm(disasm::Arguments),
    Prog(prog::Arguments),
    Map(map::Arguments),
    Top(top::Arguments),
    Trace(trace::Arguments),
    Record(record::Arguments),
    Replay(replay::Arguments),
    New(new::Arguments),
    #[command(subcommand)]
    Gen(skeleton::Arguments),
    Doctor(doctor::Arguments),
    #[cfg(feature = "conformance")]
    Conformance(conformance::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Compile(arguments) => compile::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Disasm(arguments) => disasm::run(&arguments),
        Command::Prog(arguments) => prog::run(&arguments),
        Command::Map(arguments) => map::run(&arguments),
        Command::Top(arguments) => top::run(&arguments),
        Command::Trace(arguments) => trace::run(&arguments),
        Command::Record(arguments) => record::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::New(arguments) => new::run(&arguments),
        Command::Gen(arguments) => skeleton::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        #[cfg(feature = "conformance")]
        Command::Conformance(arguments) => conformance::run(&arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("duckbpf: {}", said(&error));
            ExitCode::from(2)
        }
    }
}

/// The error and its causes, but those that a message tells already.
fn said(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        before if before.contains(&cause) => said,
        before => format!("{before}: {cause}"),
    })
}

/// Whoever reads has seen enough: `duckbpf disasm ... | head`.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
