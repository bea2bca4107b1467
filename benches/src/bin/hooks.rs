//! Writes rows of `target/bench/hooks.json`: what calls, keys and compilation cost, ours beside rbpf and native code, by turns.
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

/// Work that is measured by turns with other work; each gives nanoseconds for one of what it does.
type Work<'a> = Box<dyn FnMut() -> Result<f64> + 'a>;

/// The fewest that each needed. They take turns, so that whatever else the machine does falls on all of them.
fn by_turns<const N: usize>(turns: usize, mut works: [Work<'_>; N]) -> Result<[f64; N]> {
    let mut fewest = [f64::INFINITY; N];
    for _ in 0..turns {
        for (work, fewest) in works.iter_mut().zip(&mut fewest) {
            *fewest = fewest.min(work()?);
        }
    }
    Ok(fewest)
}

/// One call of a C function or a program, as a hookpoint makes it.
fn call<'a>(entry: unsafe extern "C" fn(*mut c_void) -> u64) -> Work<'a> {
    let mut context = [0u64; 11];
    let entry = black_box(entry);
    Box::new(move || {
        let context: *mut c_void = context.as_mut_ptr().cast();
        Ok(best(1, CALLS, || {
            for _ in 0..CALLS {
                // SAFETY: the programs measured here read no context.
                black_box(unsafe { entry(black_box(context)) });
            }
        }))
    })
}

fn rbpf_call<'a>(vm: &'a rbpf::EbpfVmNoData<'_>) -> Work<'a> {
    Box::new(move || {
        let mut failed = false;
        let took = best(1, CALLS, || {
            for _ in 0..CALLS {
                // SAFETY: what rbpf compiled from a program that is fine.
                failed |= black_box(unsafe { vm.execute_program_jit() }).is_err();
            }
        });
        if failed { bail!("rbpf failed to run a program") } else { Ok(took) }
    })
}

fn rbpf_program(code: &[u8]) -> Result<rbpf::EbpfVmNoData<'_>> {
    let mut vm = rbpf::EbpfVmNoData::new(Some(code))?;
    vm.register_helper(SUM, |a, b, c, d, e| a + b + c + d + e)?;
    vm.jit_compile()?;
    Ok(vm)
}

fn calls() -> Result<Vec<Row>> {
    let (trivial, helper) = (trivial(), helper_call());
    let (ours, ours_helper) = (load(&trivial).compile(), load(&helper).compile());
    let (theirs, theirs_helper) = (rbpf_program(&trivial)?, rbpf_program(&helper)?);
    let [empty, ours, ours_helper, theirs, theirs_helper] = by_turns(
        ROUNDS,
        [
            call(empty_scalar),
            call(ours.entry()),
            call(ours_helper.entry()),
            rbpf_call(&theirs),
            rbpf_call(&theirs_helper),
        ],
    )?;
    let trivial = Row::new("trivial call", "ns", ours, Some(theirs), Some(empty));
    let helper = Row::new("helper call, 5 arguments", "ns", ours_helper, Some(theirs_helper), Some(theirs_helper));
    Ok(vec![trivial, helper])
}

fn keys() -> Result<Vec<Row>> {
    type Reference = unsafe extern "C" fn(*const u64, *mut u64, usize);
    let keys: Vec<u64> = (0..KEYS as u64).collect();
    let (keys, program) = (&keys, Bytecode::new(Hook::Hash, &murmur()).compile());
    let native = |hash: Reference| -> Work<'_> {
        let mut out = vec![0u64; KEYS];
        Box::new(move || {
            Ok(best(20, KEYS, || {
                // SAFETY: as many keys and places.
                unsafe { black_box(hash)(black_box(keys.as_ptr()), black_box(out.as_mut_ptr()), KEYS) }
            }))
        })
    };
    let avx2 = if is_x86_feature_detected!("avx2") { murmur_avx2 } else { murmur_scalar };
    let mut out = vec![0u64; KEYS];
    let ours: Work<'_> = Box::new(|| Ok(best(20, KEYS, || program.hash_keys(black_box(&batch(keys, &mut out))))));
    let [ours, scalar, avx2, rbpf] = by_turns(ROUNDS, [ours, native(murmur_scalar), native(avx2), rbpf_keys(keys)?])?;
    eprintln!("gcc -O3 -mavx2: {avx2:.3} ns a key");
    Ok(vec![Row::new("hash per key, murmur of 2048 u64", "ns", ours, Some(rbpf), Some(scalar))])
}

/// rbpf knows no loop over keys: a call for each.
fn rbpf_keys(keys: &[u64]) -> Result<Work<'static>> {
    let code: &'static [u8] = murmur().leak();
    let mut vm = rbpf::EbpfVmRaw::new(Some(code))?;
    vm.jit_compile()?;
    let mut keys: Vec<[u8; 8]> = keys.iter().map(|key| key.to_le_bytes()).collect();
    Ok(Box::new(move || {
        let mut failed = false;
        let took = best(1, KEYS, || {
            for key in &mut keys {
                // SAFETY: what rbpf compiled from a program that reads the eight bytes it is given.
                failed |= black_box(unsafe { vm.execute_program_jit(key) }).is_err();
            }
        });
        if failed { bail!("rbpf failed to hash a key") } else { Ok(took) }
    }))
}

/// Programs compiled together, as a gallery's are; what holds memory stays to the end of a turn.
const TOGETHER: usize = 100;

/// Prepares programs, and times their compilation alone.
fn compiling<'a, P, C>(prepare: impl Fn() -> Result<P> + 'a, compile: impl Fn(P) -> Result<C> + 'a) -> Work<'a>
where
    P: 'a,
    C: 'a,
{
    Box::new(move || {
        let prepared = (0..TOGETHER).map(|_| prepare()).collect::<Result<Vec<P>>>()?;
        let mut compiled = Vec::with_capacity(TOGETHER);
        let start = Instant::now();
        for program in prepared {
            compiled.push(compile(program)?);
        }
        Ok(start.elapsed().as_nanos() as f64 / TOGETHER as f64)
    })
}

/// The reference is solana-sbpf, which compiles all three sizes.
fn codegen() -> Result<Vec<Row>> {
    const TURNS: usize = 60;
    let mut rows = Vec::new();
    // What holds the arena open, as an attached program does.
    let _held = load(&trivial()).compile();
    for size in SIZES {
        let code = mixed(size);
        let program = load(&code);
        let ours = compiling(|| Ok(program.verify()), |checked| Ok(checked.compile()));
        let sbpf = compiling(
            || Ok(sbpf(&code)),
            |mut executable| {
                executable.jit_compile().map_err(|error| anyhow!("solana-sbpf: {error}"))?;
                Ok(executable)
            },
        );
        // rbpf panics where the code needs more than a page.
        let in_a_page = size <= 200;
        let rbpf = compiling(
            || Ok(rbpf::EbpfVmNoData::new(in_a_page.then_some(&code[..]))?),
            |mut vm| {
                if in_a_page {
                    vm.jit_compile()?;
                }
                Ok(vm)
            },
        );
        let [ours, sbpf, rbpf] = by_turns(TURNS, [ours, sbpf, rbpf])?.map(|took| took / 1000.0);
        let rbpf = in_a_page.then_some(rbpf);
        rows.push(Row::new(format!("codegen {size} instructions"), "us", ours, rbpf, Some(sbpf)));
    }
    Ok(rows)
}
