//! Where compiled programs lie, seen from outside: /proc/self/maps, while programs come and go.

mod common;

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use common::gallery;
use duckbpf_abi as abi;
use duckbpf_runtime::{
    Hook,
    testing::{self, MockHost},
};

/// Lines of /proc/self/maps: addresses, rights and path.
fn maps() -> Vec<(String, String, String)> {
    let text = std::fs::read_to_string("/proc/self/maps").unwrap();
    let parse = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (range, rights) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some((range, rights, words.nth(3).unwrap_or_default().to_owned()))
    };
    text.lines().filter_map(parse).collect()
}

/// Executable pages of programs.
fn code() -> BTreeSet<String> {
    let is_code =
        |(_, rights, path): &(String, String, String)| rights.contains('x') && path.contains("memfd:duckbpf-code");
    maps().into_iter().filter(is_code).map(|(range, ..)| range).collect()
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn nothing_is_ever_writable_and_executable() {
    let host = MockHost::lock();
    let files = ["default_load", "default_unpin", "default_hash", "hash_wy"].map(|name| gallery(name, "v4"));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) || looks == 0 {
                for (range, rights, path) in maps() {
                    assert!(!(rights.contains('w') && rights.contains('x')), "{range} {rights} {path}");
                    assert!(
                        !(rights.contains('w') && path.contains("memfd:duckbpf-code")),
                        "a writable view of code: {range}"
                    );
                }
                looks += 1;
            }
            looks
        });
        for round in 0..2000 {
            host.runtime.replace(std::slice::from_ref(&files[round % files.len()])).unwrap();
        }
        host.runtime.detach_all().unwrap();
        done.store(true, Ordering::Relaxed);
        assert!(watcher.join().unwrap() > 10);
    });
}

#[test]
fn ten_thousand_rounds_leave_nothing_behind_though_workers_sleep() {
    let host = MockHost::lock();
    let files = ["default_load", "observe_counts"].map(|name| gallery(name, "v4"));
    let (awake, done) = (AtomicBool::new(true), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // Calls programs, then sleeps to the end with whatever it saw last.
                while awake.load(Ordering::Relaxed) {
                    testing::call(Hook::Load, &mut abi::duckbpf_load_ctx::default());
                }
                while !done.load(Ordering::Relaxed) {
                    thread::park_timeout(Duration::from_millis(20));
                }
            });
        }
        let swap = |rounds: usize| {
            for round in 0..rounds {
                host.runtime.replace(std::slice::from_ref(&files[round % 2])).unwrap();
            }
        };
        swap(500);
        awake.store(false, Ordering::Relaxed);
        let (pages, mappings, resident) = (code().len(), maps().len(), resident_kib());
        swap(10_000);
        assert!(code().len() <= pages + 1, "{:?}", code());
        assert!(maps().len() <= mappings + 4, "{} mappings, {mappings} before", maps().len());
        assert!(resident_kib() <= resident + 4096, "{} KiB, {resident} before", resident_kib());
        let before = code();
        host.runtime.detach_all().unwrap();
        let detached = Instant::now();
        while code().intersection(&before).next().is_some() {
            assert!(detached.elapsed() < Duration::from_secs(1), "old code is still mapped: {:?}", code());
            thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
    });
}
