//! What a call, a key and a load cost: `cargo run --release -p duckbpf-runtime --features testing --example figures`.
//!
//! Objects come from target/bpf (`cargo xtask programs`). Best of several rounds; compare figures of one run only.

use std::{
    hint::black_box,
    path::{Path, PathBuf},
    time::Instant,
};

use duckbpf_abi as abi;
use duckbpf_runtime::{Hook, testing::MockHost};

const KEYS: usize = 2048;

fn main() {
    let host = MockHost::lock();
    calls(&host);
    hashes(&host);
    loads(&host);
}

fn object(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf").join(format!("{name}.bpf.o"))
}

fn attach(host: &MockHost, name: &str) {
    if let Err(error) = host.runtime.replace(&[object(name)]) {
        eprintln!("{error}\nbuild the objects first: cargo xtask programs");
        std::process::exit(1);
    }
}

/// The fewest nanoseconds of one of `count` things done by `work`.
fn best(count: usize, mut work: impl FnMut()) -> f64 {
    let time = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        start.elapsed().as_nanos() as f64 / count as f64
    };
    (0..200).map(|_| time(&mut work)).fold(f64::INFINITY, f64::min)
}

#[inline(never)]
extern "C" fn empty(_: *mut abi::duckbpf_load_ctx) -> u64 {
    257
}

fn calls(host: &MockHost) {
    const CALLS: usize = 10_000;
    let mut context = abi::duckbpf_load_ctx::default();
    let native: extern "C" fn(*mut abi::duckbpf_load_ctx) -> u64 = black_box(empty);
    let reference = best(CALLS, || {
        for _ in 0..CALLS {
            black_box(native(&mut context));
        }
    });
    println!("an empty extern \"C\" function        {reference:6.2} ns");
    for (hook, name) in [(Hook::Load, "default_load"), (Hook::Unpin, "default_unpin"), (Hook::Load, "observe_counts")] {
        attach(host, name);
        let Some(pin) = host.pin(hook) else { continue };
        let mut context = [0u64; 12];
        let took = best(CALLS, || {
            for _ in 0..CALLS {
                black_box(pin.call(&mut context));
            }
        });
        println!("{name:<30} call  {took:6.2} ns");
    }
}

fn murmur64(mut x: u64) -> u64 {
    for _ in 0..2 {
        x ^= x >> 32;
        x = x.wrapping_mul(0xd6e8_feb8_6659_fd93);
    }
    x ^ x >> 32
}

#[inline(never)]
fn native_hash(keys: &[u64], out: &mut [u64]) {
    for (key, out) in keys.iter().zip(out) {
        *out = murmur64(*key);
        // One key at a time, as scalar code does.
        std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
    }
}

fn hashes(host: &MockHost) {
    let keys: Vec<u64> = (0..KEYS as u64 * 4).collect();
    let mut out = vec![0u64; KEYS];
    let native = best(KEYS, || native_hash(black_box(&keys[..KEYS]), black_box(&mut out)));
    println!("murmur of u64, native and scalar    {native:6.2} ns/key");
    for name in ["default_hash", "hash_wy"] {
        attach(host, name);
        let Some(pin) = host.pin(Hook::Hash) else { continue };
        for (what, layout, type_) in [
            ("INT32", abi::DUCKBPF_KEYS_I32, abi::DUCKBPF_TYPE_INT32),
            ("INT64", abi::DUCKBPF_KEYS_64, abi::DUCKBPF_TYPE_INT64),
            ("INT128", abi::DUCKBPF_KEYS_128, abi::DUCKBPF_TYPE_INT128),
            ("VARCHAR", abi::DUCKBPF_KEYS_CTX, abi::DUCKBPF_TYPE_VARCHAR),
        ] {
            let batch = abi::duckbpf_hash_batch {
                keys: keys.as_ptr().cast(),
                out: out.as_mut_ptr(),
                count: KEYS as u64,
                layout,
                type_,
                len: 8,
                reserved: 0,
            };
            let took = best(KEYS, || pin.hash_batch(black_box(&batch)));
            println!("{name:<20} {what:<8} keys  {took:6.2} ns/key  {:5.2} of native murmur", took / native);
        }
    }
}

fn loads(host: &MockHost) {
    let names = [
        "default_hash",
        "default_schedule_task",
        "default_execute_forever",
        "default_load",
        "default_update_used_memory",
        "default_allocate_new_block",
        "default_unpin",
        "hash_wy",
        "observe_counts",
    ];
    println!("\nreload, median microseconds         read  parse  check  compile  publish  whole     p99");
    for name in names {
        attach(host, name);
        let mut phases = vec![Vec::new(); 6];
        for _ in 0..1000 {
            let start = Instant::now();
            attach(host, name);
            let whole = start.elapsed().as_nanos() as u64;
            let programs = host.runtime.programs();
            let sum =
                |phase: fn(&duckbpf_runtime::Timings) -> u64| programs.iter().map(|one| phase(&one.timings)).sum();
            let first = &programs[0].timings;
            let values = [
                first.read_ns,
                first.parse_ns,
                sum(|one| one.check_ns),
                sum(|one| one.compile_ns),
                first.publish_ns,
                whole,
            ];
            phases.iter_mut().zip(values).for_each(|(phase, value)| phase.push(value));
        }
        phases.iter_mut().for_each(|phase| phase.sort_unstable());
        let at = |phase: usize, share: usize| phases[phase][phases[phase].len() * share / 100] as f64 / 1000.0;
        println!(
            "{name:<34} {:6.1} {:6.1} {:6.1} {:8.1} {:8.1} {:6.1} {:7.1}",
            at(0, 50),
            at(1, 50),
            at(2, 50),
            at(3, 50),
            at(4, 50),
            at(5, 50),
            at(5, 99)
        );
    }
}
