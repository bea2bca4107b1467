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
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let jump =
        |k: u32, jt, jf| libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt, jf, k };
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        jump(call as u32, 0, 1),
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
