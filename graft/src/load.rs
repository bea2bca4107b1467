//! Loads the graft from memory: no file is written, nothing is promoted to global scope.

use crate::Error;
use crate::module::{Handle, Module};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};

/// Unloaded when dropped, unless it was kept.
pub(crate) fn load(image: &[u8]) -> Result<Module, Error> {
    let mut file = memory_file().map_err(Error::MemoryFile)?;
    file.write_all(image).map_err(Error::MemoryFile)?;
    let name = unused_name(&mut file).map_err(|error| Error::Load(format!("no way to name it in /proc: {error}")))?;
    let handle = Handle::open(&name, libc::RTLD_NOW | libc::RTLD_LOCAL).ok_or_else(|| Error::Load(loader_error()))?;
    // A debugger opens the object by the name that the loader was given: it must lead to this file, for as long as the
    // process lives, and not to a descriptor of the debugger's own (/proc/self) or to a later one of ours.
    let _kept_open = file.into_raw_fd();
    Module::from_handle(handle).ok_or(Error::Image { reason: "it has no symbols" })
}

fn memory_file() -> io::Result<File> {
    const MFD_EXEC: u32 = 0x10;
    let name = c"duckbpf-graft";
    // Kernels before 6.3 do not know MFD_EXEC; some later ones are configured to want it.
    for flags in [libc::MFD_CLOEXEC | MFD_EXEC, libc::MFD_CLOEXEC] {
        // SAFETY: the name is a C string; the call has no other preconditions.
        let descriptor = unsafe { libc::memfd_create(name.as_ptr(), flags) };
        if descriptor >= 0 {
            // SAFETY: a new descriptor that nobody else owns.
            return Ok(unsafe { File::from_raw_fd(descriptor) });
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINVAL) {
            return Err(error);
        }
    }
    Err(io::Error::last_os_error())
}

/// A name for the file that the loader has not heard yet. It takes two objects of one name for the same, and descriptors
/// are reused.
fn unused_name(file: &mut File) -> io::Result<CString> {
    // This process' number as /proc counts, which may be mounted from outside of its PID namespace.
    let process = std::fs::read_link("/proc/self")?;
    let mut earlier = Vec::new();
    loop {
        let name = CString::new(format!("/proc/{}/fd/./{}", process.display(), file.as_raw_fd()))?;
        if Handle::open(&name, libc::RTLD_NOLOAD | libc::RTLD_LAZY).is_none() {
            return Ok(name);
        }
        let next = file.try_clone()?;
        earlier.push(std::mem::replace(file, next));
    }
}

fn loader_error() -> String {
    // SAFETY: dlerror returns null or a C string that is valid until this thread calls the loader again.
    unsafe {
        let message = libc::dlerror();
        if message.is_null() {
            return "no reason given".into();
        }
        CStr::from_ptr(message).to_string_lossy().into_owned()
    }
}
