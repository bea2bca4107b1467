//! Compiling programs: clang with the flags that objects need, and the headers that this version of duckbpf takes.
//!
//! ```no_run
//! # fn main() -> Result<(), duckbpf::compile::Error> {
//! duckbpf::compile::compile("pass_by.bpf.c".as_ref(), "pass_by.bpf.o".as_ref(), &[])?;
//! # Ok(())
//! # }
//! ```

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::Command,
};

/// Compilers that are looked for, in this order, unless the environment variable `DUCKBPF_CLANG` names one.
const COMPILERS: [&str; 4] = ["clang-19", "clang-20", "clang-21", "clang"];
/// clang knows all of the instruction set from this version on.
const OLDEST: u32 = 18;

/// What authors include: `duckbpf.h` and what that includes.
const HEADERS: [(&str, &str); 3] = [
    ("duckbpf.h", include_str!("../extensions-c/include/duckbpf.h")),
    ("duckbpf/helpers.h", include_str!("../extensions-c/include/duckbpf/helpers.h")),
    ("duckbpf/hooks.h", include_str!("../hook-shim/include/duckbpf/hooks.h")),
];

/// Why there is no object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(
        "no clang is there; install clang-19 (on Debian: apt-get install clang-19), or name one in DUCKBPF_CLANG. Looked for {}",
        COMPILERS.join(", ")
    )]
    NoCompiler,
    #[error("{} is clang {found}; programs need {OLDEST} or later, which knows all instructions", path.display())]
    TooOld { path: PathBuf, found: u32 },
    #[error("cannot start {}: {source}", path.display())]
    Start { path: PathBuf, source: io::Error },
    #[error("{} does not compile:\n{messages}", source_file.display())]
    Compile { source_file: PathBuf, messages: String },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}

/// A compiler and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    pub path: PathBuf,
    /// The first number of its version; 0 where it says none.
    pub version: u32,
}

impl Compiler {
    /// The one that would be used.
    pub fn find() -> Result<Compiler, Error> {
        if let Some(path) = std::env::var_os("DUCKBPF_CLANG") {
            return Compiler::at(path.into());
        }
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let found = COMPILERS
            .iter()
            .find_map(|name| std::env::split_paths(&paths).map(|folder| folder.join(name)).find(|file| file.is_file()));
        Compiler::at(found.ok_or(Error::NoCompiler)?)
    }

    fn at(path: PathBuf) -> Result<Compiler, Error> {
        let output = Command::new(&path).arg("--version").output();
        let output = output.map_err(|source| Error::Start { path: path.clone(), source })?;
        let version = version(&String::from_utf8_lossy(&output.stdout));
        if (1..OLDEST).contains(&version) {
            return Err(Error::TooOld { path, found: version });
        }
        Ok(Compiler { path, version })
    }
}

/// The number after "version".
fn version(text: &str) -> u32 {
    let number = text.split("version ").nth(1).and_then(|rest| rest.split('.').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Writes the headers into a folder, which is made where it is missing.
pub fn write_headers(folder: &Path) -> Result<(), Error> {
    for (name, text) in HEADERS {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|source| Error::File { path: parent.to_owned(), source })?;
        std::fs::write(&path, text).map_err(|source| Error::File { path, source })?;
    }
    Ok(())
}

/// Compiles a C file into an object, with further arguments to clang. What clang warns of is written to standard error.
pub fn compile(source_file: &Path, object: &Path, more: &[OsString]) -> Result<(), Error> {
    let compiler = Compiler::find()?;
    let headers = tempfile::tempdir().map_err(|source| Error::File { path: std::env::temp_dir(), source })?;
    write_headers(headers.path())?;
    let mut map = OsString::from("-ffile-prefix-map=");
    map.push(headers.path());
    map.push("=duckbpf");
    let mut command = Command::new(&compiler.path);
    command
        .args(["-target", "bpf", "-mcpu=v4", "-O2", "-g", "-Wall", "-Wextra"])
        .arg(map)
        .arg("-I")
        .arg(headers.path());
    command.args(more).arg("-c").arg(source_file).arg("-o").arg(object);
    let output = command.output().map_err(|source| Error::Start { path: compiler.path, source })?;
    let messages = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let messages = messages.trim_end().to_owned();
        return Err(Error::Compile { source_file: source_file.to_owned(), messages });
    }
    if !messages.is_empty() {
        eprint!("{messages}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(version("Debian clang version 19.1.7 (3+b1)\nTarget: x86_64-pc-linux-gnu"), 19);
        assert_eq!(version("clang version 20.0.0git"), 20);
        assert_eq!(version("gcc"), 0);
    }

    #[test]
    fn a_program_compiles_with_the_headers_that_are_carried() {
        let folder = tempfile::tempdir().unwrap();
        let (source, object) = (folder.path().join("a.bpf.c"), folder.path().join("a.bpf.o"));
        std::fs::write(
            &source,
            "#include \"duckbpf.h\"\nLICENSE(\"MIT\");\nSEC(\"duckdb/load\")\n__u64 f(struct duckbpf_load_ctx *c)\n\
             {\n\treturn c->hit ? 0 : DUCKBPF_LOAD(DUCKBPF_HINT_ONCE);\n}\n",
        )
        .unwrap();
        compile(&source, &object, &[]).unwrap();
        assert_eq!(duckbpf_runtime::inspect(&object).unwrap().programs[0].symbol, "f");

        std::fs::write(&source, "int broken(").unwrap();
        let error = compile(&source, &object, &[]).unwrap_err();
        assert!(matches!(&error, Error::Compile { messages, .. } if messages.contains("error:")), "{error}");
    }
}
