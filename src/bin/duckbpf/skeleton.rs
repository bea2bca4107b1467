//! `duckbpf gen`: code from objects.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;

/// Make code out of objects.
#[derive(clap::Subcommand)]
pub enum Arguments {
    /// Rust with the object's programs, maps and constants as fields of structs
    Skeleton {
        /// An object, as clang -target bpf makes it
        object: PathBuf,
        /// Where it goes; otherwise to standard output
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments::Skeleton { object, output } = arguments;
    let text = duckbpf::skeleton::generate(object)?;
    match output {
        Some(path) => std::fs::write(path, text).with_context(|| path.display().to_string())?,
        None => print!("{text}"),
    }
    Ok(ExitCode::SUCCESS)
}
