//! What the report says about the machine, and what the harness asks of it.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

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
