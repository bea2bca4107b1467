//! Writes rows of `target/bench/hooks.json`: what calls, keys and compilation cost, ours beside rbpf and native code, in one run.
//! `cargo xtask bench hooks` adds the rows that need a loaded graft.

use std::{ffi::c_void, hint::black_box, path::Path, time::Instant};

use anyhow::{Context, Result, anyhow, bail};
use duckbpf_benches::{
    KEYS, SIZES, SUM, batch, best, empty_scalar, helper_call, load, mixed, murmur, murmur_avx2, murmur_scalar, sbpf,
    trivial,
};
use duckbpf_runtime::{Hook, testing::Bytecode};
use serde::Serialize;

const ROUNDS: usize = 400;
const CALLS: usize = 10_000;

/// What was measured; times are in `unit`.
#[derive(Serialize)]
struct Row {
    name: String,
    ours: f64,
    unit: &'static str,
    rbpf: Option<f64>,
    reference: Option<f64>,
    ratio: Option<f64>,
}

impl Row {
    fn new(name: impl Into<String>, unit: &'static str, ours: f64, rbpf: Option<f64>, reference: Option<f64>) -> Row {
        let row =
            Row { name: name.into(), ours, unit, rbpf, reference, ratio: reference.map(|reference| ours / reference) };
        let others = [("rbpf", row.rbpf), ("reference", row.reference), ("ratio", row.ratio)];
        let others = others.iter().filter_map(|(name, value)| value.map(|value| format!("{name} {value:.3}")));
        eprintln!("{:<34} {:8.3} {:<3} {}", row.name, row.ours, row.unit, others.collect::<Vec<_>>().join("  "));
        row
    }
}

fn main() -> Result<()> {
    let Some(path) = std::env::args_os().nth(1) else { bail!("usage: hooks <file to write>") };
    let rows = [keys()?, codegen()?, calls()?].into_iter().flatten().collect::<Vec<Row>>();
    let text = serde_json::to_string_pretty(&rows)?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", Path::new(&path).display()))
}

/// One call of a C function or a program, as a hookpoint makes it.
fn call(entry: unsafe extern "C" fn(*mut c_void) -> u64) -> f64 {
    let mut context = [0u64; 11];
    let context: *mut c_void = context.as_mut_ptr().cast();
    let entry = black_box(entry);
    best(ROUNDS, CALLS, || {
        for _ in 0..CALLS {
            // SAFETY: the programs measured here read no context.
            black_box(unsafe { entry(black_box(context)) });
        }
    })
}

fn rbpf_call(code: &[u8]) -> Result<f64> {
    let mut vm = rbpf::EbpfVmNoData::new(Some(code))?;
    vm.register_helper(SUM, |a, b, c, d, e| a + b + c + d + e)?;
    vm.jit_compile()?;
    let failed = std::cell::Cell::new(false);
    let took = best(ROUNDS, CALLS, || {
        for _ in 0..CALLS {
            // SAFETY: what rbpf compiled from a program that is fine.
            failed.set(failed.get() | black_box(unsafe { vm.execute_program_jit() }).is_err());
        }
    });
    if failed.get() { bail!("rbpf failed to run a program") } else { Ok(took) }
}

fn calls() -> Result<Vec<Row>> {
    let empty = call(empty_scalar);
    let trivial = Row::new(
        "trivial call",
        "ns",
        call(load(&trivial()).compile().entry()),
        Some(rbpf_call(&trivial())?),
        Some(empty),
    );
    let (ours, theirs) = (load(&helper_call()).compile(), rbpf_call(&helper_call())?);
    let helper = Row::new("helper call, 5 arguments", "ns", call(ours.entry()), Some(theirs), Some(theirs));
    Ok(vec![trivial, helper])
}

fn keys() -> Result<Vec<Row>> {
    let keys: Vec<u64> = (0..KEYS as u64).collect();
    let mut out = vec![0u64; KEYS];
    let program = Bytecode::new(Hook::Hash, &murmur()).compile();
    let ours = best(10 * ROUNDS, KEYS, || program.hash_keys(black_box(&batch(&keys, &mut out))));
    type Reference = unsafe extern "C" fn(*const u64, *mut u64, usize);
    let mut native = |hash: Reference| {
        best(10 * ROUNDS, KEYS, || {
            // SAFETY: as many keys and places.
            unsafe { black_box(hash)(black_box(keys.as_ptr()), black_box(out.as_mut_ptr()), KEYS) }
        })
    };
    let scalar = native(murmur_scalar);
    if is_x86_feature_detected!("avx2") {
        eprintln!("gcc -O3 -mavx2: {:.3} ns a key", native(murmur_avx2));
    }
    let rbpf = rbpf_keys(&keys)?;
    Ok(vec![Row::new("hash per key, murmur of 2048 u64", "ns", ours, Some(rbpf), Some(scalar))])
}

/// rbpf knows no loop over keys: a call for each.
fn rbpf_keys(keys: &[u64]) -> Result<f64> {
    let code = murmur();
    let mut vm = rbpf::EbpfVmRaw::new(Some(&code))?;
    vm.jit_compile()?;
    let mut keys: Vec<[u8; 8]> = keys.iter().map(|key| key.to_le_bytes()).collect();
    let failed = std::cell::Cell::new(false);
    let took = best(ROUNDS, KEYS, || {
        for key in &mut keys {
            // SAFETY: what rbpf compiled from a program that reads the eight bytes it is given.
            failed.set(failed.get() | black_box(unsafe { vm.execute_program_jit(key) }).is_err());
        }
    });
    if failed.get() { bail!("rbpf failed to hash a key") } else { Ok(took) }
}

/// Programs compiled together: as many as a hundred of the largest. The reference is solana-sbpf, which compiles all three.
fn codegen() -> Result<Vec<Row>> {
    const TOGETHER: usize = 100;
    let micro = |took: f64| took / 1000.0;
    let mut rows = Vec::new();
    // What holds the arena open, as an attached program does.
    let _held = load(&trivial()).compile();
    for size in SIZES {
        let code = mixed(size);
        let program = load(&code);
        let mut ours = f64::INFINITY;
        for _ in 0..30 {
            let checked: Vec<_> = (0..TOGETHER).map(|_| program.verify()).collect();
            let mut compiled = Vec::with_capacity(TOGETHER);
            let start = Instant::now();
            compiled.extend(checked.into_iter().map(|checked| checked.compile()));
            ours = ours.min(start.elapsed().as_nanos() as f64 / TOGETHER as f64);
        }
        // rbpf panics where the code needs more than a page.
        let rbpf = if size <= 200 { Some(micro(rbpf_codegen(&code)?)) } else { None };
        let sbpf = micro(sbpf_codegen(&code)?);
        rows.push(Row::new(format!("codegen {size} instructions"), "us", micro(ours), rbpf, Some(sbpf)));
    }
    Ok(rows)
}

fn sbpf_codegen(code: &[u8]) -> Result<f64> {
    let mut fewest = f64::INFINITY;
    for _ in 0..300 {
        let mut executable = sbpf(code);
        let start = Instant::now();
        executable.jit_compile().map_err(|error| anyhow!("solana-sbpf: {error}"))?;
        fewest = fewest.min(start.elapsed().as_nanos() as f64);
    }
    Ok(fewest)
}

fn rbpf_codegen(code: &[u8]) -> Result<f64> {
    let mut fewest = f64::INFINITY;
    for _ in 0..300 {
        let mut vm = rbpf::EbpfVmNoData::new(Some(code))?;
        let start = Instant::now();
        vm.jit_compile()?;
        fewest = fewest.min(start.elapsed().as_nanos() as f64);
    }
    Ok(fewest)
}
