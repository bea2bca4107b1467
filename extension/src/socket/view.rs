//! What the runtime tells, as the protocol has it.

use crate::json::hex;
use duckbpf_control as control;
use duckbpf_runtime::{
    Attached, Counts, Hook, Instruction, Listing, MapHandle, PointInfo, ProgramInfo, ProgramReport, Report, RunReport,
    Runtime,
};
use std::time::UNIX_EPOCH;

pub fn points(runtime: &Runtime) -> Vec<control::Point> {
    let point = |point: PointInfo| control::Point {
        hook: point.hook.name().to_owned(),
        class: point.class.name().to_owned(),
        program: point.program,
        generation: point.generation.0,
        counts: counts(&point.counts),
    };
    runtime.points().into_iter().map(point).collect()
}

fn counts(counts: &Counts) -> control::Counts {
    let refused = counts.refused.iter().filter(|(_, count)| *count > 0);
    control::Counts {
        calls: counts.calls,
        applied: counts.applied,
        refused: counts.refused.total(),
        refusals: refused.map(|(name, count)| (name.to_owned(), count)).collect(),
        keys: counts.keys,
        timed_calls: counts.timed_calls,
        timed_ns: counts.timed_ns,
    }
}

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

pub fn programs(runtime: &Runtime) -> Vec<control::Program> {
    runtime.programs().into_iter().map(program).collect()
}

fn program(program: ProgramInfo) -> control::Program {
    let since = program.loaded_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    control::Program {
        id: program.id,
        tag: program.tag,
        name: program.name,
        path: program.path.display().to_string(),
        entry: program.symbol,
        hook: program.hook.name().to_owned(),
        generation: program.generation.0,
        loaded_at: since.as_micros() as u64,
        insns: program.instructions as u64,
        machine_code_bytes: program.jit_bytes as u64,
        worst_cost: program.worst_cost,
        verify_us: microseconds(program.timings.check_ns),
        compile_us: microseconds(program.timings.compile_ns),
        publish_us: microseconds(program.timings.publish_ns),
        run_time_ns: program.counts.run_time_ns(),
        counts: counts(&program.counts),
    }
}

pub fn maps(runtime: &Runtime) -> Vec<control::Map> {
    runtime.maps().iter().map(map).collect()
}

fn map(map: &MapHandle) -> control::Map {
    let info = map.info();
    control::Map {
        id: info.id,
        name: info.name,
        owner: info.owner,
        kind: info.kind.name().to_owned(),
        key_size: info.key_size,
        value_size: info.value_size,
        max_entries: info.max_entries,
        entries: info.entries,
        memory_bytes: info.bytes,
        pinned: info.pinned,
        lost: info.lost,
    }
}

pub fn stats(runtime: &Runtime) -> control::Stats {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for writes.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    let (map_memory_limit, map_memory) = runtime.map_memory();
    control::Stats {
        at_ns: now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64,
        points: points(runtime),
        programs: programs(runtime),
        maps: maps(runtime),
        map_memory,
        map_memory_limit,
    }
}

pub fn attached(attached: Attached) -> control::Attached {
    control::Attached {
        name: attached.name,
        generation: attached.generation.0,
        hooks: attached.hooks.into_iter().map(|hook| Hook::name(hook).to_owned()).collect(),
        displaced: attached.displaced,
    }
}

pub fn verified(report: Report) -> Vec<control::Verified> {
    let (name, path) = (report.name, report.path.display().to_string());
    let verified = |program: ProgramReport| control::Verified {
        name: name.clone(),
        path: path.clone(),
        entry: program.symbol,
        tag: program.tag,
        hook: program.hook.name().to_owned(),
        optional: program.optional,
        insns: program.instructions as u64,
        machine_code_bytes: program.jit_bytes as u64,
        worst_cost: program.worst_cost,
        verify_us: microseconds(program.timings.check_ns),
        compile_us: microseconds(program.timings.compile_ns),
    };
    report.programs.into_iter().map(verified).collect()
}

pub fn ran(report: RunReport) -> control::Ran {
    control::Ran {
        name: report.name,
        entry: report.symbol,
        hook: report.hook.name().to_owned(),
        result: report.result,
        repeat: report.repeat,
        total_ns: report.total_ns,
        mean_ns: report.total_ns as f64 / report.repeat as f64,
    }
}

pub fn listings(listings: Vec<Listing>) -> Vec<control::Listing> {
    let listing = |Listing { symbol, hook, instructions }: Listing| {
        let mut before = None;
        let insn = |Instruction { pc, text, source, offset, code }: Instruction| {
            let changed = source.filter(|line| before.as_ref() != Some(line));
            before = changed.clone().or(before.take());
            let source = changed.map(|line| line.to_string());
            control::Insn { pc: pc as u64, text, source, offset: offset as u64, machine_code: hex(&code) }
        };
        let insns = instructions.into_iter().map(insn).collect();
        control::Listing { entry: symbol, hook: hook.name().to_owned(), insns }
    };
    listings.into_iter().map(listing).collect()
}
