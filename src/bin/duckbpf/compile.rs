//! `duckbpf compile`: C into objects.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::bail;

/// Compile BPF programs: clang with the flags and headers that objects need.
#[derive(clap::Args)]
pub struct Arguments {
    /// C files: pass_by.bpf.c becomes pass_by.bpf.o beside it
    #[arg(required_unless_present = "headers")]
    files: Vec<PathBuf>,
    /// Where the object goes, for a single file
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Only write duckbpf.h and what it includes into a folder, for an editor or a build of your own
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["files", "output"])]
    headers: Option<PathBuf>,
    /// Further arguments for clang, behind --
    #[arg(last = true)]
    clang: Vec<OsString>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &arguments.headers {
        duckbpf::compile::write_headers(folder)?;
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.output.is_some() && arguments.files.len() > 1 {
        bail!("--output names one object, and there are {} files", arguments.files.len());
    }
    for file in &arguments.files {
        let object = arguments.output.clone().unwrap_or_else(|| file.with_extension("o"));
        if object == *file {
            bail!("{} would be written over; programs' files end in .bpf.c", file.display());
        }
        duckbpf::compile::compile(file, &object, &arguments.clang)?;
        println!("{}", object.display());
    }
    Ok(ExitCode::SUCCESS)
}
