//! What the kernel and the machine allow, asked by doing it.

use std::{ffi::CStr, io, ptr};

/// MEMBARRIER_CMD_PRIVATE_EXPEDITED (linux/membarrier.h).
const PRIVATE_EXPEDITED: i64 = 1 << 3;

/// The kernel's release.
pub fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Whether membarrier(2) knows the command that swaps of programs use.
pub fn membarrier() -> io::Result<bool> {
    // SAFETY: MEMBARRIER_CMD_QUERY asks and changes nothing.
    let commands = unsafe { libc::syscall(libc::SYS_membarrier, 0, 0, 0) };
    if commands < 0 { Err(io::Error::last_os_error()) } else { Ok(commands & PRIVATE_EXPEDITED != 0) }
}

/// Whether a file in memory can be made, which is how the graft is loaded.
pub fn memfd() -> io::Result<()> {
    let name: &CStr = c"duckbpf-doctor";
    // SAFETY: the name is a string that lives during the call.
    let file = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if file < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the file was just made and nobody else knows it.
    unsafe { libc::close(file) };
    Ok(())
}

/// Whether memory that was written can be made executable, as compiled programs are.
pub fn executable_memory() -> io::Result<()> {
    let size = 4096;
    // SAFETY: a new private mapping at a place of the kernel's choice.
    let memory = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if memory == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is ours alone.
    let done = unsafe { libc::mprotect(memory, size, libc::PROT_READ | libc::PROT_EXEC) };
    let result = if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: as above; nothing refers to it any more.
    unsafe { libc::munmap(memory, size) };
    result
}

/// Whether this process may use bpf(2).
pub fn bpf() -> io::Result<()> {
    const NO_SUCH_COMMAND: i32 = i32::MAX;
    // SAFETY: a command that does not exist reads no attributes; the kernel checks rights before it looks at the command.
    unsafe { libc::syscall(libc::SYS_bpf, NO_SUCH_COMMAND, ptr::null::<u8>(), 0) };
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EINVAL) { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_that_tests_run_on_can_run_programs() {
        executable_memory().unwrap();
        assert!(!release().is_empty());
        // These may be denied; that they answer is enough.
        let _ = (membarrier(), memfd(), bpf());
    }
}
