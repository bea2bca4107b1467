//! Machine code against the interpreter: every opcode with edge values, random programs, hash loops.

mod calls;
mod hash;
mod lookups;
mod random;

use std::{cell::Cell, ptr, slice, sync::atomic::Ordering};

use duckbpf_abi as abi;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};

use crate::{
    helpers::{self, Env},
    hook::Hook,
    isa::Insn,
    jit::{self, Program, Strings, keys},
    maps::{Body, store::Store},
    object::{Memory, Region, RegionMap},
    testing::{
        self,
        asm::assemble,
        hash_batch,
        programs::{EXIT, address, compile, helper, insn, lddw, load, local, mov, mov_imm, object, store, verify},
    },
    verifier::Rejection,
    vm,
};

/// Numbers at which arithmetic goes wrong.
const EDGES: [u64; 22] = [
    0,
    1,
    2,
    7,
    31,
    32,
    33,
    63,
    64,
    0x7f,
    0x80,
    0xff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
    0x0123_4567_89ab_cdef,
];

const IMMEDIATES: [i32; 10] = [1, 2, 3, 31, 0x7f, 0x1234, i32::MAX, -1, -128, i32::MIN];

/// A context of the load hook out of seven numbers: its first fields of eight bytes.
fn context(values: [u64; 7]) -> abi::duckbpf_load_ctx {
    let mut context = abi::duckbpf_load_ctx::default();
    [
        context.origin.database_id,
        context.origin.connection_id,
        context.origin.query_id,
        context.file_id,
        context.size,
        context.used_memory,
        context.max_memory,
    ] = values;
    context
}

/// Where these fields are.
const FIELDS: [i16; 7] = [0, 8, 16, 40, 48, 56, 64];

fn bytes<T>(value: &T) -> &[u8] {
    // SAFETY: the contexts have no padding.
    unsafe { slice::from_raw_parts((value as *const T).cast(), size_of::<T>()) }
}

/// Both results on each context, and what both leave in global variables.
fn compare_on(insns: Vec<Insn>, ends: &[usize], regions: Vec<Region>, inputs: &[[u64; 7]]) {
    if let Err(rejection) = compare_if_accepted(&insns, ends, regions, inputs) {
        panic!("{rejection}\n{insns:x?}");
    }
}

fn compare_if_accepted(
    insns: &[Insn],
    ends: &[usize],
    regions: Vec<Region>,
    inputs: &[[u64; 7]],
) -> Result<(), Box<Rejection>> {
    let object = object(Hook::Load, insns.to_vec(), ends, regions);
    let (program, verified) = compile(&object)?;
    let memory = Memory::new(&object.regions).unwrap();
    for input in inputs {
        let mut context = context(*input);
        let expected = vm::run(&verified, &memory, Env::detached(), bytes(&context))
            .unwrap_or_else(|fault| panic!("{fault:?}: a verified program must not fault\n{insns:x?}"));
        assert!(expected.steps <= verified.facts().worst_cost, "{} steps, {:?}", expected.steps, verified.facts());
        let result = call(&program, &mut context);
        assert_eq!(result, expected.result, "{input:x?}\n{}\n{insns:x?}", disassemble(program.code()));
        assert_eq!(contents(program.memory()), contents(&memory), "global variables differ: {insns:x?}");
    }
    Ok(())
}

fn call<C>(program: &Program, context: &mut C) -> u64 {
    // SAFETY: the tests give each program a context of its hook.
    unsafe { program.entry()(ptr::from_mut(context).cast()) }
}

fn contents(memory: &Memory) -> Vec<Vec<u8>> {
    // SAFETY: mapped as long as the memory, and nobody runs.
    let read = |map: &RegionMap| unsafe { slice::from_raw_parts(map.address as *const u8, map.size) }.to_vec();
    memory.regions().iter().map(read).collect()
}

fn disassemble(code: &[u8]) -> String {
    use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let (mut text, mut formatter) = (String::new(), IntelFormatter::new());
    while decoder.can_decode() {
        let instruction = decoder.decode();
        text.push_str(&format!("{:04x} ", instruction.ip()));
        formatter.format(&instruction, &mut text);
        text.push('\n');
    }
    text
}

/// Two registers set from the context, one instruction, the first register returned.
fn with_operands(dst: u8, src: u8, middle: &[Insn]) -> Vec<Insn> {
    let mut insns = vec![mov(6, 1), load(dst, 6, FIELDS[0])];
    if dst != 6 && src != dst {
        insns = vec![mov(6, 1), load(dst, 6, FIELDS[0]), load(src, 6, FIELDS[1])];
    }
    insns.extend_from_slice(middle);
    insns.extend([mov(0, dst), EXIT]);
    insns
}

fn pairs() -> Vec<[u64; 7]> {
    EDGES.iter().flat_map(|&a| EDGES.map(|b| [a, b, 0, 0, 0, 0, 0])).collect()
}

/// Pairs of registers that meet every special case: rax, rdx, rcx, the same twice, r8 and above.
const REGISTERS: [(u8, u8); 9] = [(0, 1), (1, 0), (3, 4), (4, 3), (0, 3), (3, 0), (7, 9), (5, 5), (2, 8)];

#[test]
fn arithmetic_with_registers() {
    for class in [0x04, 0x07] {
        for op in (0x00..=0xc0).step_by(0x10).filter(|&op| op != 0x80) {
            let variants: &[i16] = match op {
                0x30 | 0x90 => &[0, 1],
                0xb0 if class == 0x07 => &[0, 8, 16, 32],
                0xb0 => &[0, 8, 16],
                _ => &[0],
            };
            for &off in variants {
                for (dst, src) in REGISTERS {
                    compare_on(
                        with_operands(dst, src, &[insn(op | class | 8, dst, src, off, 0)]),
                        &[],
                        vec![],
                        &pairs(),
                    );
                }
            }
        }
    }
}

#[test]
fn arithmetic_with_immediates() {
    let inputs: Vec<[u64; 7]> = EDGES.iter().map(|&a| [a, 0, 0, 0, 0, 0, 0]).collect();
    for class in [0x04, 0x07] {
        for op in (0x00..=0xc0).step_by(0x10).filter(|&op| op != 0x80) {
            let offs: &[i16] = if matches!(op, 0x30 | 0x90) { &[0, 1] } else { &[0] };
            let immediates: Vec<i32> = match op {
                0x60 | 0x70 | 0xc0 => (0..if class == 0x07 { 64 } else { 32 }).collect(),
                0x30 | 0x90 => IMMEDIATES.to_vec(),
                _ => IMMEDIATES.iter().copied().chain([0]).collect(),
            };
            for (&off, imm) in offs.iter().flat_map(|off| immediates.iter().map(move |&imm| (off, imm))) {
                for dst in [0, 3, 4, 9] {
                    compare_on(with_operands(dst, dst, &[insn(op | class, dst, 0, off, imm)]), &[], vec![], &inputs);
                }
            }
        }
    }
}

#[test]
fn negation_and_byte_order() {
    let inputs: Vec<[u64; 7]> = EDGES.iter().map(|&a| [a, 0, 0, 0, 0, 0, 0]).collect();
    for dst in [0, 4, 5, 8] {
        for code in [0x84, 0x87] {
            compare_on(with_operands(dst, dst, &[insn(code, dst, 0, 0, 0)]), &[], vec![], &inputs);
        }
        for (code, bits) in [0xd4, 0xdc, 0xd7].into_iter().flat_map(|code| [16, 32, 64].map(|bits| (code, bits))) {
            compare_on(with_operands(dst, dst, &[insn(code, dst, 0, 0, bits)]), &[], vec![], &inputs);
        }
    }
}

#[test]
fn branches() {
    let taken = |branch: Insn, dst, src| {
        with_operands(dst, src, &[branch, mov_imm(dst, 11), insn(0x05, 0, 0, 1, 0), mov_imm(dst, 22)])
    };
    for class in [0x05, 0x06] {
        for op in [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0] {
            for (dst, src) in REGISTERS {
                compare_on(taken(insn(op | class | 8, dst, src, 2, 0), dst, src), &[], vec![], &pairs());
            }
            for imm in IMMEDIATES.into_iter().chain([0]) {
                compare_on(taken(insn(op | class, 7, 0, 2, imm), 7, 7), &[], vec![], &pairs());
            }
        }
    }
    // gotol
    let far = vec![load(0, 1, FIELDS[0]), insn(0x15, 0, 0, 1, 7), insn(0x06, 0, 0, 0, 1), mov_imm(0, 2), EXIT];
    compare_on(far, &[], vec![], &[[0; 7], [7; 7]]);
}

#[test]
fn loads_stores_and_constants() {
    let inputs: Vec<[u64; 7]> = EDGES.iter().map(|&a| [a, !a, 0, 0, 0, 0, 0]).collect();
    for value in EDGES {
        compare_on([lddw(0, value).as_slice(), &[EXIT]].concat(), &[], vec![], &[[0; 7]]);
    }
    for (size, bytes) in [(0x10, 1), (0x08, 2), (0x00, 4), (0x18, 8)] {
        for base in [10, 2, 7] {
            for offset in (-16..0).step_by(bytes) {
                let point = if base == 10 { vec![] } else { vec![mov(base, 10)] };
                let init = [store(base, -8, 8), store(base, -16, 9)];
                let fill = [mov(6, 1), load(8, 6, FIELDS[0]), load(9, 6, FIELDS[1])];
                let look = [load(0, base, -8), load(1, base, -16), insn(0xaf, 0, 1, 0, 0), EXIT];
                let run = |access: &[Insn]| {
                    compare_on([&fill, &point[..], &init, access, &look].concat(), &[], vec![], &inputs);
                };
                run(&[insn(0x60 | size | 3, base, 8, offset, 0)]);
                run(&[insn(0x60 | size | 2, base, 0, offset, -0x0123_4567)]);
                // 0x61.. loads, 0x81.. sign-extending ones.
                for mode in [0x60, 0x80].into_iter().filter(|mode| *mode == 0x60 || bytes < 8) {
                    run(&[insn(mode | size | 1, 3, base, offset, 0), store(base, -8, 3)]);
                }
            }
        }
    }
}

#[test]
fn atomics() {
    for (size, width) in [(0x00, 4), (0x18, 8)] {
        for operation in [0x00, 0x01, 0x40, 0x41, 0x50, 0x51, 0xa0, 0xa1, 0xe1, 0xf1] {
            for (base, src) in [(10, 0), (10, 3), (2, 0), (2, 2), (0, 4), (9, 1), (1, 0)] {
                // A register cannot be the pointer and the number.
                if base == src || (operation == 0xf1 && base == 0) {
                    continue;
                }
                for offset in [-8, -16, -16 + width] {
                    let mut insns = vec![
                        mov(6, 1),
                        load(8, 6, FIELDS[0]),
                        load(9, 6, FIELDS[1]),
                        store(10, -8, 8),
                        store(10, -16, 9),
                    ];
                    insns.push(load(0, 6, FIELDS[2]));
                    if base != 10 {
                        insns.push(mov(base, 10));
                    }
                    if src != 0 || base == 0 {
                        insns.push(load(src, 6, FIELDS[3]));
                    }
                    insns.push(insn(0xc3 | size, base, src, offset, operation));
                    // Everything that it may have changed.
                    insns.extend([load(7, 10, -8), load(8, 10, -16), insn(0xaf, 7, 8, 0, 0)]);
                    if base != 0 {
                        insns.extend([insn(0x27, 0, 0, 0, 3), insn(0x0f, 7, 0, 0, 0)]);
                    }
                    insns.extend([insn(0x0f, 7, src, 0, 0), mov(0, 7), EXIT]);
                    let inputs: Vec<[u64; 7]> = EDGES
                        .iter()
                        .flat_map(|&a| EDGES.map(|b| [a, b.rotate_left(8), a, b, 0, 0, 0]))
                        .chain([[5, 6, 5, 7, 0, 0, 0], [5, 6, 0xffff_ffff_0000_0005, 7, 0, 0, 0]])
                        .collect();
                    compare_on(insns, &[], vec![], &inputs);
                }
            }
        }
    }
}

#[test]
fn atomics_on_global_variables() {
    let regions = vec![Region { name: ".bss".into(), writable: true, size: 16, bytes: vec![] }];
    let add = [mov(6, 1), load(2, 6, FIELDS[0])];
    let insns =
        [&add[..], &address(3, 0, 8), &[insn(0xdb, 3, 2, 0, 0x01), insn(0xdb, 3, 2, -8, 0x00), load(0, 3, 0), EXIT]]
            .concat();
    compare_on(insns, &[], regions, &[[1; 7], [2; 7], [u64::MAX; 7]]);
}

#[test]
fn functions_have_stacks_and_registers_of_their_own() {
    // f0 keeps 7 in r6 and on its stack at -8; f1 and f2 overwrite both of their own; f2 writes through a pointer into f0's.
    let f0 = [
        mov_imm(6, 7),
        store(10, -8, 6),
        store(10, -16, 6),
        mov(1, 10),
        insn(0x07, 1, 0, 0, -16),
        local(5),
        load(1, 10, -8),
        insn(0x0f, 0, 1, 0, 0),
        load(1, 10, -16),
        insn(0x0f, 0, 1, 0, 0),
        EXIT,
    ];
    let f1 = [mov_imm(6, 100), store(10, -8, 6), local(3), load(1, 10, -8), insn(0x0f, 0, 1, 0, 0), EXIT];
    let f2 = [mov_imm(6, 1000), store(10, -8, 6), store(1, 0, 6), mov(0, 6), EXIT];
    let ends = [f0.len(), f0.len() + f1.len()];
    let insns = [&f0[..], &f1, &f2].concat();
    let (program, _) = compile(&object(Hook::Load, insns.clone(), &ends, vec![])).unwrap();
    assert_eq!(call(&program, &mut context([0; 7])), 1000 + 100 + 7 + 1000);
    compare_on(insns, &ends, vec![], &[[0; 7]]);
}

#[test]
fn programs_of_any_size_are_compiled() {
    for size in [1usize, 2, 100, 4096, 32_000, 65_531] {
        // A jump over everything, taken or not, to where both ways meet.
        let mut insns = vec![load(2, 1, 32), insn(0x16, 2, 0, 1, 0), insn(0x06, 0, 0, 0, size as i32)];
        insns.extend(vec![insn(0x07, 2, 0, 0, 3); size]);
        insns.extend([mov(0, 2), EXIT]);
        let object = object(Hook::ScheduleTask, insns, &[], vec![]);
        let (program, verified) = compile(&object).unwrap_or_else(|rejection| panic!("{size}: {rejection}"));
        for n_tasks in [0, 1] {
            let mut context = abi::duckbpf_schedule_task_ctx { n_tasks, ..Default::default() };
            let expected = vm::run(&verified, program.memory(), Env::detached(), bytes(&context)).unwrap();
            assert_eq!(call(&program, &mut context), expected.result, "{size}");
        }
    }
}

#[test]
fn a_processor_that_lacks_something_is_an_error_that_names_it() {
    jit::require("BMI2", true).unwrap();
    let error = jit::require("BMI2", false).unwrap_err().to_string();
    assert!(error.contains("lacks BMI2") && error.contains("x86-64-v3"), "{error}");
}

#[test]
fn helpers_are_called_on_an_aligned_stack() {
    // Three saved registers and 24 bytes of stack: sizes that are no multiples of 16.
    let insns = vec![
        mov_imm(6, 1),
        mov_imm(7, 2),
        mov_imm(8, 3),
        store(10, -24, 6),
        helper(5),
        insn(0x55, 0, 0, 1, 0),
        mov_imm(6, 100),
        mov(0, 6),
        insn(0x0f, 0, 7, 0, 0),
        insn(0x0f, 0, 8, 0, 0),
        load(1, 10, -24),
        insn(0x0f, 0, 1, 0, 0),
        EXIT,
    ];
    // clock_gettime and catch_unwind use aligned SSE accesses where they can.
    compare_on(insns, &[], vec![], &[[0; 7]]);
}

#[test]
fn a_panic_in_a_helper_ends_at_the_boundary() {
    let insns = vec![helper(helpers::PANICS as i32), mov(6, 0), helper(5), mov(0, 6), EXIT];
    let object = object(Hook::Load, insns, &[], vec![]);
    let memory = Memory::new(&object.regions).unwrap();
    let program = jit::compile(verify(&object).unwrap(), memory, Env::leak(testing::host())).unwrap();
    let failed = testing::failed_helpers();
    assert_eq!(call(&program, &mut context([0; 7])), u64::MAX, "the helper's error, and the program ran on");
    assert_eq!(testing::failed_helpers(), failed + 1, "the host knows");
}

/// A program of the load hook, run on a context whose first seven numbers are given.
fn run_alone(insns: &[Insn], ends: &[usize], values: [u64; 7]) -> u64 {
    let object = object(Hook::Load, insns.to_vec(), ends, vec![]);
    let memory = Memory::new(&object.regions).unwrap();
    let verified = verify(&object).unwrap_or_else(|rejection| panic!("{rejection}"));
    call(&jit::compile(verified, memory, Env::detached()).unwrap(), &mut context(values))
}

#[test]
fn a_helper_gets_five_arguments() {
    let mut insns: Vec<Insn> = (1..6).map(|reg| mov_imm(reg, 10i32.pow(u32::from(reg)))).collect();
    insns.extend([helper(helpers::SUM as i32), EXIT]);
    assert_eq!(run_alone(&insns, &[], [0; 7]), 111_110);
}

#[test]
fn helpers_that_are_inlined_compute_what_the_helpers_do() {
    let env = Env::detached();
    for (a, b) in EDGES.iter().flat_map(|&a| EDGES.map(|b| (a, b))) {
        for id in [0x10020, 0x10021] {
            let insns = [load(2, 1, FIELDS[1]), load(1, 1, FIELDS[0]), helper(id), EXIT];
            let expected = (helpers::find(id as u32).unwrap().function)(a, b, 0, 0, 0, env);
            assert_eq!(run_alone(&insns, &[], [a, b, 0, 0, 0, 0, 0]), expected, "{id:#x}({a:#x}, {b:#x})");
        }
    }
    for size in 0..=40u64 {
        // 40 bytes of stack from the context, and the CRC of the last `size` of them; more than 32 are left to the helper.
        let mut insns = vec![mov(6, 1)];
        for slot in 0..5i16 {
            insns.extend([load(2, 6, FIELDS[slot as usize]), store(10, -40 + 8 * slot, 2)]);
        }
        insns.extend([load(3, 6, FIELDS[5]), mov(1, 10), insn(0x07, 1, 0, 0, -(size as i32)), mov_imm(2, size as i32)]);
        insns.extend([helper(0x10022), EXIT]);
        let values = [0x0123_4567_89ab_cdef, 2, u64::MAX, 0x8000_0000_0000_0001, 5, 0xfeed_beef_dead_f00d, 0];
        let bytes: Vec<u8> = values[..5].iter().flat_map(|value| value.to_le_bytes()).collect();
        let expected = crc32c::crc32c_append(values[5] as u32, &bytes[40 - size as usize..]);
        assert_eq!(run_alone(&insns, &[], values), u64::from(expected), "{size}");
    }
}
