//! Processes that forbid what machine code needs: a clear error, or it works all the same. Each runs in a process of its own,
//! for such rules never go away again.

mod common;

use std::process::Command;

use common::gallery;
use duckbpf_abi::duckbpf_load_ctx;
use duckbpf_runtime::{Hook, Problem, testing::MockHost};

const CHILD: &str = "DUCKBPF_CONFINED";

/// Runs a test of this file in a process of its own, told so by the environment.
fn in_child(test: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    for skipped in err.lines().filter(|line| line.starts_with("SKIPPED")) {
        eprintln!("{test}: {skipped}");
    }
    false
}

fn works(host: &MockHost) {
    host.runtime.replace(&[gallery("default_load", "v4")]).unwrap();
    assert_eq!(host.call(Hook::Load, &mut duckbpf_load_ctx::default()), Some(0x101));
}

#[test]
fn memory_that_may_not_become_executable_is_served() {
    if !in_child("memory_that_may_not_become_executable_is_served") {
        return;
    }
    const PR_SET_MDWE: i32 = 65;
    gallery("default_load", "v4");
    // SAFETY: plain numbers.
    if unsafe { libc::prctl(PR_SET_MDWE, 1, 0, 0, 0) } != 0 {
        eprintln!("SKIPPED: this kernel has no PR_SET_MDWE (before 6.3)");
        return;
    }
    works(&MockHost::lock());
}

/// A seccomp filter under which one system call fails with EPERM.
fn forbid(call: libc::c_long) {
    forbid_with(call, 0, 0);
}

/// Only where all bits of a mask are set in one of the call's arguments.
fn forbid_with(call: libc::c_long, argument: usize, mask: u32) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let jump =
        |k: u32, jt, jf| libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt, jf, k };
    let word = |offset: usize| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset as u32);
    let arguments = std::mem::offset_of!(libc::seccomp_data, args);
    let mut filter = [
        word(std::mem::offset_of!(libc::seccomp_data, nr)),
        jump(call as u32, 0, 4),
        word(arguments + 8 * argument),
        statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, mask),
        jump(mask, 0, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the filter is valid for the calls.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

#[test]
fn a_refused_memfd_is_an_error_that_names_it() {
    if !in_child("a_refused_memfd_is_an_error_that_names_it") {
        return;
    }
    let object = gallery("default_load", "v4");
    forbid(libc::SYS_memfd_create);
    let host = MockHost::lock();
    let error = host.runtime.replace(&[object]).unwrap_err().to_string();
    assert!(error.contains("memory for machine code (memfd_create: Operation not permitted"), "{error}");
    assert!(error.contains("attached as before: no program"), "{error}");
    assert_eq!(host.call(Hook::Load, &mut duckbpf_load_ctx::default()), None);
}

#[test]
fn a_refused_executable_mapping_is_an_error_that_names_it() {
    if !in_child("a_refused_executable_mapping_is_an_error_that_names_it") {
        return;
    }
    let object = gallery("default_load", "v4");
    let host = MockHost::lock();
    forbid_with(libc::SYS_mmap, 2, libc::PROT_EXEC as u32);
    let error = host.runtime.replace(&[object]).unwrap_err().to_string();
    assert!(error.contains("memory for machine code (mmap, executable: Operation not permitted"), "{error}");
    assert!(error.contains("attached as before: no program"), "{error}");
}

#[test]
fn without_room_for_code_the_old_program_stays() {
    if !in_child("without_room_for_code_the_old_program_stays") {
        return;
    }
    let other = gallery("default_unpin", "v4");
    let host = MockHost::lock();
    works(&host);
    // As on a full file system: code is written through a file.
    forbid(libc::SYS_pwrite64);
    let error = host.runtime.replace(&[other]).unwrap_err().to_string();
    assert!(error.contains("memory for machine code (pwrite: Operation not permitted"), "{error}");
    assert!(error.contains("attached as before: default_load"), "{error}");
    assert_eq!(host.call(Hook::Load, &mut duckbpf_load_ctx::default()), Some(0x101));
}

#[test]
fn without_addresses_for_code_nothing_is_attached() {
    if !in_child("without_addresses_for_code_nothing_is_attached") {
        return;
    }
    let object = gallery("default_load", "v4");
    let host = MockHost::lock();
    let used = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = used.split(' ').next().unwrap().parse().unwrap();
    let limit = libc::rlimit { rlim_cur: pages * 4096 + (8 << 20), rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a valid limit; an arena takes more addresses than it leaves.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
    let error = host.runtime.replace(&[object]).unwrap_err().to_string();
    assert!(error.contains("memory for machine code (mmap, reserved: Cannot allocate memory"), "{error}");
    assert_eq!(host.call(Hook::Load, &mut duckbpf_load_ctx::default()), None);
}

#[test]
fn a_refused_mprotect_is_an_error_where_it_is_needed() {
    if !in_child("a_refused_mprotect_is_an_error_where_it_is_needed") {
        return;
    }
    let with_variables = gallery("default_hash", "v4");
    forbid(libc::SYS_mprotect);
    let host = MockHost::lock();
    let error = host.runtime.replace(&[with_variables]).unwrap_err().to_string();
    assert!(error.contains("bytes for global variables: Operation not permitted"), "{error}");
    works(&host);
}

#[test]
fn a_forked_child_lives_without_the_code() {
    if !in_child("a_forked_child_lives_without_the_code") {
        return;
    }
    let host = MockHost::lock();
    works(&host);
    let code_pages = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains("r-xs") && line.contains("memfd:duckbpf")).count()
    };
    assert_eq!(code_pages(), 1);
    // SAFETY: no other thread of this process holds a lock that the child needs.
    match unsafe { libc::fork() } {
        0 => {
            let is_gone = code_pages() == 0;
            // What the child compiles and frees must not touch the parent's pages.
            let compiles = (0..20).all(|_| host.runtime.verify(&gallery("hash_wy", "v4")).is_ok());
            let refused = host.runtime.detach_all().is_err_and(|error| matches!(error.problem(), Problem::Forked));
            let code = if is_gone && compiles && refused { 7 } else { 1 };
            // SAFETY: leaves without running anything of the parent's.
            unsafe { libc::_exit(code) }
        }
        child => {
            let mut status = 0;
            // SAFETY: a child of this process.
            unsafe { libc::waitpid(child, &mut status, 0) };
            assert_eq!((libc::WIFEXITED(status), libc::WEXITSTATUS(status)), (true, 7));
        }
    }
    assert_eq!(host.call(Hook::Load, &mut duckbpf_load_ctx::default()), Some(0x101), "as before the fork");
    works(&host);
}
