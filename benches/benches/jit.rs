//! Calls, keys and compilation with criterion's statistics, beside rbpf and solana-sbpf on the same programs.
//! `cargo bench -p duckbpf-benches`

use std::{ffi::c_void, hint::black_box};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use duckbpf_benches::{
    KEYS, SIZES, SUM, batch, empty_scalar, helper_call, load, mixed, murmur, murmur_avx2, murmur_scalar, sbpf, trivial,
};
use duckbpf_runtime::{Hook, testing::Bytecode};

fn calls(c: &mut Criterion) {
    let mut group = c.benchmark_group("call");
    let mut context = [0u64; 11];
    let context: *mut c_void = context.as_mut_ptr().cast();
    let mut entry = |name: &str, entry: unsafe extern "C" fn(*mut c_void) -> u64| {
        // SAFETY: these programs read no context.
        group.bench_function(name, |b| b.iter(|| unsafe { black_box(entry)(black_box(context)) }));
    };
    let (ours, ours_helper) = (load(&trivial()).compile(), load(&helper_call()).compile());
    entry("an empty C function", empty_scalar);
    entry("trivial, ours", ours.entry());
    entry("helper of 5 arguments, ours", ours_helper.entry());
    for (name, code) in [("trivial, rbpf", trivial()), ("helper of 5 arguments, rbpf", helper_call())] {
        let mut vm = rbpf::EbpfVmNoData::new(Some(&code)).expect("a fine program");
        vm.register_helper(SUM, |a, b, c, d, e| a + b + c + d + e).expect("a free number");
        vm.jit_compile().expect("a fine program");
        // SAFETY: what rbpf compiled from a program that is fine.
        group.bench_function(name, |b| b.iter(|| unsafe { vm.execute_program_jit() }.ok()));
    }
    group.finish();
}

fn keys(c: &mut Criterion) {
    let mut group = c.benchmark_group("murmur of 2048 u64");
    group.throughput(Throughput::Elements(KEYS as u64));
    let keys: Vec<u64> = (0..KEYS as u64).collect();
    let mut out = vec![0u64; KEYS];
    let program = Bytecode::new(Hook::Hash, &murmur()).compile();
    group.bench_function("ours", |b| b.iter(|| program.hash_keys(black_box(&batch(&keys, &mut out)))));
    type Reference = unsafe extern "C" fn(*const u64, *mut u64, usize);
    let mut native = |name: &str, hash: Reference| {
        // SAFETY: as many keys and places.
        group.bench_function(name, |b| b.iter(|| unsafe { black_box(hash)(keys.as_ptr(), out.as_mut_ptr(), KEYS) }));
    };
    native("gcc -O3, scalar", murmur_scalar);
    if is_x86_feature_detected!("avx2") {
        native("gcc -O3 -mavx2", murmur_avx2);
    }
    group.finish();
}

fn codegen(c: &mut Criterion) {
    let mut group = c.benchmark_group("codegen");
    let _held = load(&trivial()).compile();
    for size in SIZES {
        group.throughput(Throughput::Elements(size as u64));
        let code = mixed(size);
        let program = load(&code);
        group.bench_function(BenchmarkId::new("ours", size), |b| {
            b.iter_batched(|| program.verify(), |checked| checked.compile(), BatchSize::SmallInput);
        });
        // rbpf panics where the code needs more than a page.
        if size <= 200 {
            group.bench_function(BenchmarkId::new("rbpf", size), |b| {
                let vm = || rbpf::EbpfVmNoData::new(Some(&code)).expect("a fine program");
                b.iter_batched(vm, |mut vm| vm.jit_compile().is_ok(), BatchSize::SmallInput);
            });
        }
        group.bench_function(BenchmarkId::new("solana-sbpf", size), |b| {
            b.iter_batched(|| sbpf(&code), |mut executable| executable.jit_compile().is_ok(), BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, calls, keys, codegen);
criterion_main!(benches);
