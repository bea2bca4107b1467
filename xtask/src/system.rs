//! The system packages that a command needs: which are missing, the one line that installs them, and their installation
//! where that was allowed (`--yes`, or CI=true, as root on Debian).

use crate::process;
use anyhow::{Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// A Debian package of which something here makes use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Package {
    /// Compiles the graft like its host, and the programs for the BPF target.
    Clang,
    /// Links the graft.
    Lld,
    /// What bindgen reads the C ABI with.
    LibClang,
    /// Python environments of their own.
    PythonVenv,
    /// Signs the extension.
    Openssl,
    /// Says how the series fits other sources.
    Patch,
    /// Remembers what was compiled, in other checkouts too.
    Ccache,
    /// Counts instructions.
    Valgrind,
    /// Adds up what rustc's own LLVM counted.
    Coverage,
    /// Tells a C compiler where the engine is.
    PkgConfig,
}

/// All that anything here needs.
pub const ALL: &[Package] =
    &[Package::Clang, Package::Lld, Package::LibClang, Package::PythonVenv, Package::Openssl, Package::Patch];

/// What the engine's tests need beyond that.
pub const ENGINE: &[Package] = &[
    Package::Clang,
    Package::Lld,
    Package::LibClang,
    Package::PythonVenv,
    Package::Patch,
    Package::Ccache,
    Package::Valgrind,
    Package::PkgConfig,
];

/// What checking the runtime's memory needs.
pub const MEMCHECK: &[Package] = &[Package::Clang, Package::Lld, Package::LibClang, Package::Valgrind];

/// What the verifier's coverage needs.
pub const COVERAGE: &[Package] = &[Package::Clang, Package::Lld, Package::LibClang, Package::Coverage];

/// What a signed extension needs.
pub const SIGNING: &[Package] = &[Package::Clang, Package::Lld, Package::LibClang, Package::Openssl];

/// What the compilers need.
pub const COMPILERS: &[Package] = &[Package::Clang, Package::Lld, Package::LibClang];

const LLVM_LIBRARIES: &str = "/usr/lib/llvm-19/lib";

impl Package {
    fn debian_name(self) -> &'static str {
        match self {
            Package::Clang => "clang-19",
            Package::Lld => "lld-19",
            Package::LibClang => "libclang-19-dev",
            Package::PythonVenv => "python3-venv",
            Package::Openssl => "openssl",
            Package::Patch => "patch",
            Package::Ccache => "ccache",
            Package::Valgrind => "valgrind",
            Package::Coverage => "llvm-22",
            Package::PkgConfig => "pkg-config",
        }
    }

    fn is_present(self) -> bool {
        match self {
            Package::Clang => process::find("clang++-19").is_some(),
            Package::Lld => process::find("ld.lld-19").is_some(),
            Package::LibClang => std::env::var_os("LIBCLANG_PATH").is_some() || has_libclang(Path::new(LLVM_LIBRARIES)),
            Package::Openssl => process::find("openssl").is_some(),
            Package::Patch => process::find("patch").is_some(),
            Package::Ccache => process::find("ccache").is_some(),
            Package::Valgrind => process::find("valgrind").is_some(),
            Package::Coverage => crate::coverage::tools().is_ok(),
            Package::PkgConfig => process::find("pkg-config").is_some(),
            Package::PythonVenv => succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"])),
        }
    }
}

/// Makes sure that the packages are there. `allowed`: missing ones may be installed without asking.
pub fn require(packages: &[Package], allowed: bool) -> Result<()> {
    let missing = names_of_missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    let is_debian = Path::new("/etc/debian_version").exists();
    if !(allowed && is_debian && is_root()) {
        bail!(
            "missing system packages: {}\n  install them with: {}{line}\n  or, as root on Debian, run this command again with --yes",
            missing.join(", "),
            if is_root() { "" } else { "sudo " },
        );
    }
    eprintln!("installing {}", missing.join(", "));
    let apt = |arguments: &[&str]| {
        process::run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").arg("-q").args(arguments))
    };
    apt(&["update"])?;
    apt(&[&["install", "-y", "--no-install-recommends"], missing.as_slice()].concat())?;
    let still_missing = names_of_missing(packages);
    if !still_missing.is_empty() {
        bail!("installed, and still not found: {}", still_missing.join(", "));
    }
    Ok(())
}

/// LIBCLANG_PATH for a child that runs bindgen: the version that this project asks for, unless the user chose one.
pub fn hint_libclang(command: &mut Command) -> &mut Command {
    if std::env::var_os("LIBCLANG_PATH").is_none() && has_libclang(Path::new(LLVM_LIBRARIES)) {
        command.env("LIBCLANG_PATH", LLVM_LIBRARIES);
    }
    command
}

fn names_of_missing(packages: &[Package]) -> Vec<&'static str> {
    packages.iter().filter(|package| !package.is_present()).map(|package| package.debian_name()).collect()
}

fn has_libclang(folder: &Path) -> bool {
    let Ok(entries) = folder.read_dir() else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libclang"))
}

fn is_root() -> bool {
    process::read(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
