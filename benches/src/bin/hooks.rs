//! Writes rows of `target/bench/hooks.json`: what calls, keys and compilation cost, ours beside rbpf and native code, by turns; and of
//! the rows that need a loaded graft, what stands beside them. `cargo xtask bench hooks` adds ours.

use std::{
    ffi::c_void,
    hint::black_box,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail};
use duckbpf_benches::{
    Entry, KEYS, SIZES, SUM, batch, best, empty_scalar, helper_call, hookpoints_scalar, load, mixed, murmur,
    murmur_avx2, murmur_scalar, null_checks_scalar, sbpf, sbpf_call, trivial,
};
use duckbpf_runtime::{
    Hook,
    testing::{Bytecode, Compiled},
};
use object::{Object, ObjectSection};
use serde::Serialize;

const ROUNDS: usize = 400;
const CALLS: usize = 10_000;

/// What was measured; times are in `unit`.
#[derive(Serialize)]
struct Row {
    name: String,
    unit: &'static str,
    /// None: measured in the loaded graft.
    #[serde(skip_serializing_if = "Option::is_none")]
    ours: Option<f64>,
    rbpf: f64,
    reference: f64,
}

impl Row {
    fn new(name: impl Into<String>, unit: &'static str, ours: Option<f64>, rbpf: f64, reference: f64) -> Row {
        Row { name: name.into(), unit, ours, rbpf, reference }
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let Some(path) = arguments.next() else { bail!("usage: hooks <file to write> <default program>...") };
    let defaults: Vec<PathBuf> = arguments.collect();
    let parts = [keys()?, codegen()?, calls()?, hookpoints()?, vec![publish()?, reload(&defaults)?]];
    let rows = parts.into_iter().flatten().collect::<Vec<Row>>();
    let text = serde_json::to_string_pretty(&rows)?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
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
fn call<'a>(entry: Entry) -> Work<'a> {
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
    let [empty, ours, ours_helper, theirs, theirs_helper, sbpf] = by_turns(
        ROUNDS,
        [
            call(empty_scalar),
            call(ours.entry()),
            call(ours_helper.entry()),
            rbpf_call(&theirs),
            rbpf_call(&theirs_helper),
            Box::new(|| Ok(sbpf_call(&trivial, CALLS))),
        ],
    )?;
    eprintln!("trivial call, solana-sbpf: {sbpf:.3} ns");
    let trivial = Row::new("trivial call", "ns", Some(ours), theirs, empty);
    let helper = Row::new("helper call, 5 arguments", "ns", Some(ours_helper), theirs_helper, theirs_helper);
    Ok(vec![trivial, helper])
}

/// Beside hookpoints: the same context filled by hand for an empty C function, and for rbpf's trivial program; a null check in C, and of
/// a machine of rbpf's that is not there.
fn hookpoints() -> Result<Vec<Row>> {
    let from: [u64; 11] = std::array::from_fn(|field| field as u64);
    let gate: Option<Entry> = None;
    let code = trivial();
    let mut vm = rbpf::EbpfVmRaw::new(Some(&code))?;
    vm.jit_compile()?;
    let none: Option<rbpf::EbpfVmRaw<'_>> = None;
    let by_hand: Work<'_> = Box::new(|| {
        Ok(best(1, CALLS, || {
            // SAFETY: eleven numbers, and a function that reads nothing.
            black_box(unsafe { hookpoints_scalar(black_box(empty_scalar), black_box(&from).as_ptr(), CALLS as u64) });
        }))
    });
    let null: Work<'_> = Box::new(|| {
        Ok(best(1, CALLS, || {
            // SAFETY: a pointer that can be read.
            black_box(unsafe { null_checks_scalar(black_box(&raw const gate), CALLS as u64) });
        }))
    });
    let rbpf_null: Work<'_> = Box::new(|| {
        Ok(best(1, CALLS, || {
            for _ in 0..CALLS {
                if black_box(&none).is_some() {
                    eprintln!("nobody is there");
                }
            }
        }))
    });
    let works = [by_hand, rbpf_hookpoint(&vm, &from), null, rbpf_null];
    let [by_hand, rbpf, null, rbpf_null] = by_turns(ROUNDS, works)?;
    Ok(vec![
        Row::new("attached hookpoint", "ns", None, rbpf, by_hand),
        Row::new("hookpoint with statistics", "ns", None, rbpf, by_hand),
        Row::new("detached hookpoint", "ns", None, rbpf_null, null),
    ])
}

fn rbpf_hookpoint<'a>(vm: &'a rbpf::EbpfVmRaw<'_>, from: &'a [u64; 11]) -> Work<'a> {
    Box::new(move || {
        let mut failed = false;
        let took = best(1, CALLS, || {
            for _ in 0..CALLS {
                let mut context = [0u8; 88];
                for (field, value) in context.chunks_exact_mut(8).zip(black_box(from)) {
                    field.copy_from_slice(&value.to_ne_bytes());
                }
                // SAFETY: what rbpf compiled from a program that is fine.
                failed |= black_box(unsafe { vm.execute_program_jit(&mut context) }).is_err();
            }
        });
        if failed { bail!("rbpf failed to run a program") } else { Ok(took) }
    })
}

/// Nobody beside it publishes; a host of rbpf's would exchange its programs under a lock.
fn publish() -> Result<Row> {
    let (place, mut next) = (Mutex::new(Arc::new(trivial())), Arc::new(trivial()));
    let [took] = by_turns(
        ROUNDS,
        [Box::new(|| {
            Ok(best(1, CALLS, || {
                for _ in 0..CALLS {
                    std::mem::swap(&mut *place.lock().unwrap_or_else(PoisonError::into_inner), black_box(&mut next));
                }
            }) / 1000.0)
        })],
    )?;
    Ok(Row::new("publish", "us", None, took, took))
}

/// What a reload took where it was done first, on average: uBPF, without verification.
const FIRST_RELOAD_US: f64 = 186.0;

/// The default programs that rbpf takes, by its means: read, their section found, checked in its way, compiled; the median.
fn reload(programs: &[PathBuf]) -> Result<Row> {
    const RELOADS: usize = 300;
    let mut took = Vec::new();
    for path in programs {
        let reload = || -> Result<bool> {
            let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            let elf = object::File::parse(&*bytes)?;
            let section = elf.sections().find(|section| section.name().is_ok_and(|name| name.starts_with("duckdb/")));
            let code = section.with_context(|| format!("{} has no program", path.display()))?;
            let vm = rbpf::EbpfVmRaw::new(Some(code.data()?));
            Ok(vm.is_ok_and(|mut vm| vm.jit_compile().is_ok()))
        };
        if !reload()? {
            eprintln!("rbpf does not take {}", path.display());
            continue;
        }
        for _ in 0..RELOADS {
            let start = Instant::now();
            black_box(reload()?);
            took.push(start.elapsed().as_nanos() as f64 / 1000.0);
        }
    }
    took.sort_by(f64::total_cmp);
    let median = took.get(took.len() / 2).copied().context("rbpf takes none of the default programs")?;
    Ok(Row::new("reload of a default program", "us", None, median, FIRST_RELOAD_US))
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
    few_keys(keys, &program)?;
    Ok(vec![Row::new("hash per key, murmur of 2048 u64", "ns", Some(ours), rbpf, scalar)])
}

/// Says what a call takes where a vector is short.
fn few_keys(keys: &[u64], program: &Compiled) -> Result<()> {
    for count in [1, 8, 64, 512] {
        let (keys, calls) = (&keys[..count], 20_000 / count);
        let (mut out, mut native_out) = (vec![0u64; count], vec![0u64; count]);
        let ours: Work<'_> = Box::new(|| {
            Ok(best(1, calls, || (0..calls).for_each(|_| program.hash_keys(black_box(&batch(keys, &mut out))))))
        });
        let native: Work<'_> = Box::new(|| {
            Ok(best(1, calls, || {
                for _ in 0..calls {
                    // SAFETY: as many keys and places.
                    unsafe { black_box(murmur_scalar)(black_box(keys.as_ptr()), native_out.as_mut_ptr(), count) }
                }
            }))
        });
        let [ours, native] = by_turns(ROUNDS, [ours, native])?;
        eprintln!("{count} keys: {ours:.1} ns a call, gcc -O3 scalar {native:.1}");
    }
    Ok(())
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
        // rbpf panics where the code needs more than a page: more is compiled as programs of 200.
        let (parts, part) = (size.div_ceil(200), mixed(size.min(200)));
        let rbpf = compiling(
            || (0..parts).map(|_| Ok(rbpf::EbpfVmNoData::new(Some(&part))?)).collect::<Result<Vec<_>>>(),
            |mut vms| {
                vms.iter_mut().try_for_each(|vm| vm.jit_compile())?;
                Ok(vms)
            },
        );
        let [ours, sbpf, rbpf] = by_turns(TURNS, [ours, sbpf, rbpf])?.map(|took| took / 1000.0);
        rows.push(Row::new(format!("codegen {size} instructions"), "us", Some(ours), rbpf, sbpf));
    }
    Ok(rows)
}
