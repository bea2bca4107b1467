//! What the report says about the machine, and what the harness asks of it.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// Where a report was made.
#[derive(Serialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    /// Bytes.
    pub memory: u64,
    pub system: String,
    pub kernel: String,
}

impl Machine {
    /// This one. What the kernel does not tell is called unknown.
    pub fn here() -> Self {
        let unknown = || "unknown".to_owned();
        let memory =
            value_in("/proc/meminfo", "MemTotal", ':').and_then(|text| text.trim_end_matches(" kB").parse().ok());
        Self {
            processor: value_in("/proc/cpuinfo", "model name", ':').unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory.map_or(0, |kib: u64| kib * 1024),
            system: value_in("/etc/os-release", "PRETTY_NAME", '=').unwrap_or_else(unknown),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| unknown(), |text| text.trim().to_owned()),
        }
    }
}

/// The value behind the first `key` in a file of such pairs.
fn value_in(file: &str, key: &str, separator: char) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let (_, value) = text.lines().filter_map(|line| line.split_once(separator)).find(|(name, _)| name.trim() == key)?;
    Some(value.trim().trim_matches('"').to_owned())
}

/// Bytes that an ordinary user may still write in the file system of `folder`.
pub fn free_disk(folder: &Path) -> Result<u64> {
    let path = CString::new(folder.as_os_str().as_bytes()).context("a path holds a zero byte")?;
    // SAFETY: statvfs is plain data, for which all zeros is a value.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is a NUL-terminated string and `stat` a writable struct; both outlive the call.
    if unsafe { libc::statvfs(path.as_ptr(), &mut stat) } != 0 {
        bail!("cannot ask for the free space of {}: {}", folder.display(), std::io::Error::last_os_error());
    }
    Ok(stat.f_bavail * stat.f_frsize)
}
