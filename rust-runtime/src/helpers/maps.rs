//! Helpers on maps.

use super::{Env, errno};

macro_rules! later {
    ($($name:ident)*) => {
        $(pub extern "C" fn $name(_: u64, _: u64, _: u64, _: u64, _: u64, _: &Env) -> u64 { errno(libc::ENOSYS) })*
    };
}

later! { update delete push pop peek ringbuf_output ringbuf_query tail_call_fell_through block_storage_delete }

macro_rules! null {
    ($($name:ident)*) => {
        $(pub extern "C" fn $name(_: u64, _: u64, _: u64, _: u64, _: u64, _: &Env) -> u64 { 0 })*
    };
}

null! { lookup lookup_percpu ringbuf_reserve ringbuf_submit ringbuf_discard block_storage_get }
