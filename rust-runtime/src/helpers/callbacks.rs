//! Helpers that call back.

use super::{Env, errno};

pub extern "C" fn for_each_map_elem(_: u64, _: u64, _: u64, _: u64, _: u64, _: &Env) -> u64 {
    errno(libc::ENOSYS)
}

pub extern "C" fn bpf_loop(_: u64, _: u64, _: u64, _: u64, _: u64, _: &Env) -> u64 {
    errno(libc::ENOSYS)
}
