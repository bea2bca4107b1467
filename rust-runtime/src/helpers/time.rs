//! Clocks, and whose work the calling thread does.

use super::{Env, errno, guard};

pub extern "C" fn ktime_get_ns(_: u64, _: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, 0, || {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` is valid for writes.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    })
}

pub extern "C" fn get_smp_processor_id(_: u64, _: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, 0, || u64::from(env.thread_index()))
}

pub extern "C" fn query_id(_: u64, _: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, 0, || env.origin().query_id)
}

pub extern "C" fn connection_id(_: u64, _: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, 0, || env.origin().connection_id)
}

pub extern "C" fn database_id(_: u64, _: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, 0, || env.origin().database_id)
}

pub extern "C" fn query_tag(_: u64, _: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, 0, || u64::from(env.origin().tag))
}

pub extern "C" fn tag_text(tag: u64, to: u64, size: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, errno(libc::EFAULT), || {
        // SAFETY: the verifier proved `size` bytes there, which are the program's alone: its stack, or a record of its own, or a value that
        // other programs may write to, of which they then read old or new bytes.
        let to = unsafe { std::slice::from_raw_parts_mut(to as *mut u8, size as usize) };
        let bytes = env.tag_text(tag as u32, to);
        to[bytes..].fill(0);
        bytes as u64
    })
}

pub extern "C" fn query_age_ns(_: u64, _: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, 0, || match env.host().and_then(|host| host.query_age_ns) {
        // SAFETY: the host's functions may be called inside a program (abi.h).
        Some(query_age_ns) => unsafe { query_age_ns() },
        None => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_host_they_answer_zero() {
        let env = Env::detached();
        assert_eq!(query_age_ns(0, 0, 0, 0, 0, env), 0);
        assert_eq!(get_smp_processor_id(0, 0, 0, 0, 0, env), 0);
        assert_eq!(query_id(0, 0, 0, 0, 0, env), 0);
        assert_eq!(query_tag(0, 0, 0, 0, 0, env), 0);
        assert!(ktime_get_ns(0, 0, 0, 0, 0, env) > 0);
    }

    #[test]
    fn a_tags_text_fills_its_place() {
        let env = Env::leak(crate::testing::host());
        let mut text = [0xff; 8];
        let ask = |tag: u64, text: &mut [u8]| tag_text(tag, text.as_mut_ptr() as u64, text.len() as u64, 0, 0, env);
        assert_eq!((ask(1, &mut text), &text), (4, b"mock\0\0\0\0"));
        assert_eq!((ask(1, &mut text[..2]), &text[..2]), (2, &b"mo"[..]));
        assert_eq!((ask(7, &mut text), text), (0, [0; 8]));
    }
}
