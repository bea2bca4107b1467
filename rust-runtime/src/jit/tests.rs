//! Machine code against the interpreter: every opcode with edge values, random programs, hash loops.

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

/// A lookup of the index that the context begins with, and the last byte of what it finds.
fn lookup_in(kind: &str, value_size: u32, entries: u32) -> String {
    format!(
        "hook load
            map values {kind} 4 {value_size} {entries}
            r1 = *(u64 *)(r1 + 0)
            *(u32 *)(r10 - 4) = r1
            r1 = map[values] ll
            r2 = r10
            r2 += -4
            call map_lookup_elem
            if r0 == 0 goto none
            r0 = *(u8 *)(r0 + {})
            exit
            none: r0 = 1000
            exit",
        value_size - 1
    )
}

#[test]
fn lookups_in_arrays_are_a_few_instructions() {
    for (value_size, entries) in [(8u32, 5u32), (1, 1), (12, 3), (16, 1000), (32_000, 2)] {
        let text = lookup_in("array", value_size, entries);
        let object = assemble(&text).unwrap_or_else(|error| panic!("{error}")).object;
        let store = Store::new(Box::new(|| {}));
        let bindings = store.bind(&object, Memory::new(&object.regions).unwrap(), &[]).unwrap();
        let map = bindings.map(0).unwrap().clone();
        for index in 0..entries {
            let value = vec![index as u8; value_size as usize];
            // SAFETY: an index has four bytes, and the value the map's size.
            unsafe { map.update(index.to_le_bytes().as_ptr(), value.as_ptr(), || 0, 0) }.unwrap();
        }
        let program = jit::compile(verify(&object).unwrap(), bindings, Env::detached()).unwrap();
        assert!(!disassemble(program.code()).contains("call"), "{}", disassemble(program.code()));
        for index in [0, 1, 2, 3, 4, 5, 6, 999, 1000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_0000_0000u64] {
            let expected = if index as u32 >= entries { 1000 } else { u64::from(index as u8) };
            let found = call(&program, &mut context([index, 0, 0, 0, 0, 0, 0]));
            assert_eq!(found, expected, "{index:#x} of {entries} values of {value_size} bytes");
        }
    }
}

/// Looks up a key whose words are the context's, and adds 1 to the last byte of its value; 1000: there is none.
fn lookup_by_key(kind: &str, key_size: u32, value_size: u32, entries: u32) -> String {
    let words: String = (0..key_size.div_ceil(8))
        .map(|word| format!("r2 = *(u64 *)(r1 + {})\n*(u64 *)(r10 - {}) = r2\n", FIELDS[word as usize], 24 - 8 * word))
        .collect();
    format!(
        "hook load
            map values {kind} {key_size} {value_size} {entries}
            {words}
            r1 = map[values] ll
            r2 = r10
            r2 += -24
            call map_lookup_elem
            if r0 == 0 goto none
            r1 = *(u8 *)(r0 + {last})
            r1 += 1
            *(u8 *)(r0 + {last}) = r1
            r0 = r1
            exit
            none: r0 = 1000
            exit",
        last = value_size - 1
    )
}

/// Machine code finds what the map itself finds: keys that are there, that never were, that were taken out, also where chains are long.
#[test]
fn lookups_in_hashes_are_made_in_place() {
    let cases = [("hash", 4u32, 8u32), ("hash", 8, 1), ("hash", 16, 40), ("lru_hash", 8, 200), ("lru_hash", 16, 8)];
    for (kind, key_size, value_size) in cases {
        let object = assemble(&lookup_by_key(kind, key_size, value_size, 300)).unwrap().object;
        let store = Store::new(Box::new(|| {}));
        let bindings = store.bind(&object, Memory::new(&object.regions).unwrap(), &[]).unwrap();
        let map = bindings.map(0).unwrap().clone();
        let program = jit::compile(verify(&object).unwrap(), bindings, Env::detached()).unwrap();
        assert!(!disassemble(program.code()).contains("call"), "{}", disassemble(program.code()));
        // Words that differ in one half only, and such as look like no word at all.
        let key = |number: u64| [(number << 20) | (number / 7), number % 7, 0, 0, 0, 0, 0];
        let bytes = |number: u64| key(number)[..2].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let mut counts = [None; 400];
        for number in 0..300 {
            let value = vec![number as u8 & 63; value_size as usize];
            // SAFETY: at least as many bytes as a key has, and as many as a value.
            let updated = unsafe { map.update(bytes(number).as_ptr(), value.as_ptr(), || 0, 0) };
            updated.unwrap_or_else(|failure| panic!("{number}: {failure}"));
            counts[number as usize] = Some(number & 63);
        }
        for number in (0..300).step_by(3) {
            // SAFETY: as above.
            unsafe { map.delete(bytes(number).as_ptr()) }.unwrap();
            counts[number as usize] = None;
        }
        for _ in 0..3 {
            for (number, count) in counts.iter_mut().enumerate() {
                *count = count.map(|count| count + 1);
                let found = call(&program, &mut context(key(number as u64)));
                assert_eq!(found, count.unwrap_or(1000), "{kind}, keys of {key_size} bytes, {number}");
            }
        }
    }
}

/// What a program looked up stays when an LRU map needs room.
#[test]
fn lookups_in_place_mark_what_they_find() {
    let object = assemble(&lookup_by_key("lru_hash", 8, 8, 64)).unwrap().object;
    let store = Store::new(Box::new(|| {}));
    let bindings = store.bind(&object, Memory::new(&object.regions).unwrap(), &[]).unwrap();
    let map = bindings.map(0).unwrap().clone();
    let program = jit::compile(verify(&object).unwrap(), bindings, Env::detached()).unwrap();
    let mut look = |number: u64| call(&program, &mut context([number, 0, 0, 0, 0, 0, 0])) != 1000;
    let add = |number: u64| {
        // SAFETY: eight bytes each.
        unsafe { map.update(number.to_le_bytes().as_ptr(), number.to_le_bytes().as_ptr(), || 0, 0) }
    };
    (0..64).for_each(|number| add(number).unwrap());
    for fresh in 64..96 {
        assert!((0..8).all(&mut look), "looked up all the time, and gone before {fresh}");
        // Entries that wait to be free again are no matter here.
        let _ = add(fresh);
    }
    assert!((8..64).filter(|&number| look(number)).count() < 56, "others went");
}

#[test]
fn lookups_in_percpu_arrays_find_the_threads_own_values() {
    thread_local! {
        static THREAD: Cell<u32> = const { Cell::new(0) };
    }
    unsafe extern "C" fn thread_index() -> u32 {
        THREAD.get()
    }
    let host = abi::duckbpf_host { thread_index: Some(thread_index), ..*testing::host() };
    let env = Env::leak(Box::leak(Box::new(host)));
    for (value_size, entries) in [(8u32, 5u32), (1, 1), (12, 3), (16, 1000)] {
        let object = assemble(&lookup_in("percpu_array", value_size, entries)).unwrap().object;
        let store = Store::new(Box::new(|| {}));
        let bindings = store.bind(&object, Memory::new(&object.regions).unwrap(), &[]).unwrap();
        let map = bindings.map(0).unwrap().clone();
        let program = jit::compile(verify(&object).unwrap(), bindings, env).unwrap();
        let look = |index: u64| call(&program, &mut context([index, 0, 0, 0, 0, 0, 0]));
        let indexes = [0, 1, 2, 3, 4, 5, 999, 1000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_0000_0000u64];
        for thread in [3, 0, 1, 5] {
            THREAD.set(thread);
            for index in indexes {
                let expected = if index as u32 >= entries { 1000 } else { 0 };
                assert_eq!(look(index), expected, "thread {thread}, {index:#x}: nobody wrote yet");
            }
            for index in 0..entries {
                let value = vec![(index + thread) as u8; value_size as usize];
                // SAFETY: an index has four bytes, and the value the map's size.
                unsafe { map.update(index.to_le_bytes().as_ptr(), value.as_ptr(), || thread, 0) }.unwrap();
            }
        }
        for thread in [0, 1, 3, 5] {
            THREAD.set(thread);
            for index in indexes {
                let expected = if index as u32 >= entries { 1000 } else { u64::from((index as u32 + thread) as u8) };
                assert_eq!(look(index), expected, "thread {thread}, {index:#x} of {entries} values");
            }
        }
        THREAD.set(crate::maps::shards());
        assert_eq!(look(0), 1000, "more threads than shards");
    }
}

/// A program that counts its runs in a variable and makes a tail call to itself; and what both engines' limit makes of it.
fn runs_of_tail_calls(text: &str) -> (u64, u64) {
    let object = assemble(text).unwrap_or_else(|error| panic!("{error}")).object;
    let store = Store::new(Box::new(|| {}));
    let bindings = store.bind(&object, Memory::new(&object.regions).unwrap(), &[]).unwrap();
    let programs = bindings.map(1).unwrap().clone();
    let memory = bindings.memory.clone();
    let verified = verify(&object).unwrap_or_else(|rejection| panic!("{rejection}"));
    let program = jit::compile(verified, bindings, Env::detached()).unwrap();
    let Body::Programs(programs) = programs.body() else { panic!("an array of programs") };
    programs.slots()[0].store(program.tail_entry(), Ordering::Release);
    let result = call(&program, &mut context([7, 0, 0, 0, 0, 0, 0]));
    (u64::from_le_bytes(contents(&memory)[0][..8].try_into().unwrap()), result)
}

#[test]
fn tail_calls_end_at_33() {
    const COUNT: &str = "r2 = .bss[0] ll
        r3 = *(u64 *)(r2 + 0)
        r3 += 1
        *(u64 *)(r2 + 0) = r3";
    // The context arrives with each; registers that are kept and the stack belong to each run; an odd number of words is saved.
    let direct = format!(
        "hook load
        data .bss 8
        map programs prog_array 4 4 1
        r6 = r1
        *(u64 *)(r10 - 24) = 5
        {COUNT}
        r1 = r6
        r2 = map[programs] ll
        r3 = 0
        call tail_call
        call ktime_get_ns
        r0 = *(u64 *)(r6 + 0)
        r1 = *(u64 *)(r10 - 24)
        r0 += r1
        exit"
    );
    assert_eq!(runs_of_tail_calls(&direct), (34, 12));
    // Out of a function: its caller goes on with what the other program returns, and counts as one more of the same run.
    let from_function = format!(
        "hook load
        data .bss 8
        map programs prog_array 4 4 1
        r6 = 1
        r7 = 2
        r8 = 3
        call go_on
        r0 += r6
        exit
        fn go_on
        r9 = r1
        {COUNT}
        r1 = r9
        r2 = map[programs] ll
        r3 = 0
        call tail_call
        call ktime_get_ns
        r0 = *(u64 *)(r9 + 0)
        exit"
    );
    assert_eq!(runs_of_tail_calls(&from_function), (34, 7 + 34));
    // No program at the index, or no such index: the program goes on.
    for index in [1, -1] {
        let nowhere = direct.replace("r3 = 0", &format!("r3 = {index}"));
        assert_eq!(runs_of_tail_calls(&nowhere), (1, 12), "{index}");
    }
}

/// r1 = the address of the function that begins so many slots behind the next instruction.
fn function(dst: u8, off: i32) -> [Insn; 2] {
    [insn(0x18, dst, crate::isa::LDDW_FUNCTION, 0, off), insn(0, 0, 0, 0, 0)]
}

/// Sums the rounds' numbers in a word of its stack until one equals the limit in the next word; r6 to r9 are its own.
fn looping(rounds: i32, limit: i32) -> (Vec<Insn>, usize) {
    let mut insns = vec![mov_imm(6, 1000), insn(0x7a, 10, 0, -8, 0), insn(0x7a, 10, 0, -16, limit)];
    let begin = insns.len();
    insns.extend(function(2, 0));
    insns.extend([mov_imm(1, rounds), mov(3, 10), insn(0x07, 3, 0, 0, -16), mov_imm(4, 0), helper(181)]);
    // The result, the sum, and what was kept.
    insns.extend([insn(0x67, 0, 0, 0, 32), load(1, 10, -8), insn(0x0f, 0, 1, 0, 0), insn(0x0f, 0, 6, 0, 0), EXIT]);
    let end = insns.len();
    insns[begin].imm = (end - begin - 1) as i32;
    // r0 = 1 at the limit.
    insns.extend([mov_imm(6, 7), load(3, 2, 8), insn(0x0f, 3, 1, 0, 0), store(2, 8, 3), load(4, 2, 0)]);
    insns.extend([mov_imm(0, 0), insn(0x5d, 1, 4, 1, 0), mov_imm(0, 1), EXIT]);
    (insns, end)
}

#[test]
fn bpf_loop_is_a_loop_of_its_own() {
    for (rounds, limit, calls) in [(0, -1, 0u64), (1, -1, 1), (10, -1, 10), (100, 5, 6), (100, 0, 1), (64, 63, 64)] {
        let (insns, end) = looping(rounds, limit);
        let sum: u64 = (0..calls).sum();
        assert_eq!(run_alone(&insns, &[end], [0; 7]), (calls << 32) + sum + 1000, "{rounds} rounds to {limit}");
    }
}

/// What a random program is made of: indices are taken modulo what fits.
#[derive(Clone, Debug)]
enum Gene {
    Alu { code: u8, dst: u8, src: u8, off: u8, imm: i32 },
    Const { dst: u8, value: u64 },
    Memory { kind: u8, size: u8, dst: u8, src: u8, place: u8, imm: i32 },
    Atomic { wide: bool, op: u8, src: u8, place: u8 },
    Branch { code: u8, dst: u8, src: u8, imm: i32, over: u8 },
    Goto,
    Call,
}

fn gene(registers: u8) -> impl Strategy<Value = Gene> {
    let imm = prop_oneof![any::<i32>(), proptest::sample::select(IMMEDIATES.to_vec())];
    let value = prop_oneof![any::<u64>(), proptest::sample::select(EDGES.to_vec())];
    prop_oneof![
        8 => (any::<u8>(), 0..registers, 0..registers, any::<u8>(), imm.clone())
            .prop_map(|(code, dst, src, off, imm)| Gene::Alu { code, dst, src, off, imm }),
        1 => (0..registers, value).prop_map(|(dst, value)| Gene::Const { dst, value }),
        3 => (any::<u8>(), any::<u8>(), 0..registers, 0..registers, any::<u8>(), imm.clone())
            .prop_map(|(kind, size, dst, src, place, imm)| Gene::Memory { kind, size, dst, src, place, imm }),
        1 => (any::<bool>(), any::<u8>(), 0..registers, any::<u8>())
            .prop_map(|(wide, op, src, place)| Gene::Atomic { wide, op, src, place }),
        3 => (any::<u8>(), 0..registers, 0..registers, imm, any::<u8>())
            .prop_map(|(code, dst, src, imm, over)| Gene::Branch { code, dst, src, imm, over }),
        1 => Just(Gene::Goto),
        1 => Just(Gene::Call),
    ]
}

const STACK_BYTES: i16 = 64;

/// Instructions of genes; branches are left to be aimed: (where, by how many genes).
fn express(genes: &[Gene], calls: bool) -> Vec<Insn> {
    let mut insns = Vec::new();
    let mut starts = Vec::new();
    let mut jumps = Vec::new();
    for (index, gene) in genes.iter().enumerate() {
        starts.push(insns.len());
        match *gene {
            Gene::Alu { code, dst, src, off, imm } => insns.push(random_alu(code, dst, src, off, imm)),
            Gene::Const { dst, value } => insns.extend(lddw(dst, value)),
            Gene::Memory { kind, size, dst, src, place, imm } => {
                let (size, bytes) = [(0x10, 1), (0x08, 2), (0x00, 4), (0x18, 8)][usize::from(size % 4)];
                let off = -STACK_BYTES + (i16::from(place) % (STACK_BYTES / bytes)) * bytes;
                insns.push(match kind % 4 {
                    0 => insn(0x61 | size, dst, 10, off, 0),
                    1 if bytes < 8 => insn(0x81 | size, dst, 10, off, 0),
                    1 | 2 => insn(0x63 | size, 10, src, off, 0),
                    _ => insn(0x62 | size, 10, 0, off, imm),
                });
            }
            Gene::Atomic { wide, op, src, place } => {
                let (size, bytes) = if wide { (0x18, 8) } else { (0, 4) };
                let off = -STACK_BYTES + (i16::from(place) % (STACK_BYTES / bytes)) * bytes;
                let op = [0x00, 0x01, 0x40, 0x41, 0x50, 0x51, 0xa0, 0xa1, 0xe1, 0xf1][usize::from(op) % 10];
                insns.push(insn(0xc3 | size, 10, src, off, op));
            }
            Gene::Branch { code, dst, src, imm, over } => {
                let op = [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0][usize::from(code) % 11];
                let class = if code & 0x40 != 0 { 5 } else { 6 };
                jumps.push((insns.len(), index + 1 + usize::from(over) % 8));
                insns.push(if code & 0x80 != 0 {
                    insn(op | class | 8, dst, src, 0, 0)
                } else {
                    insn(op | class, dst, 0, 0, imm)
                });
            }
            // Unconditional ones skip nothing, or code could never be reached.
            Gene::Goto => {
                jumps.push((insns.len(), index + 1));
                insns.push(insn(0x05, 0, 0, 0, 0));
            }
            Gene::Call if calls => {
                insns.push(local(0));
                insns.extend((1..=5).map(|reg| mov(reg, 0)));
            }
            Gene::Call => insns.push(mov(0, 0)),
        }
    }
    starts.push(insns.len());
    for (at, gene) in jumps {
        let target = starts[gene.min(genes.len())];
        insns[at].off = (target - at - 1) as i16;
    }
    insns
}

fn random_alu(code: u8, dst: u8, src: u8, off: u8, imm: i32) -> Insn {
    let class = if code & 1 != 0 { 0x07 } else { 0x04 };
    let op = (code >> 4) % 14 * 0x10;
    let by_register = code & 8 != 0;
    match op {
        0x80 => insn(0x80 | class, dst, 0, 0, 0),
        0xd0 => {
            let code = if class == 0x07 { 0xd7 } else { 0xd4 | if by_register { 8 } else { 0 } };
            insn(code, dst, 0, 0, [16, 32, 64][usize::from(off) % 3])
        }
        0xb0 if by_register => {
            let kinds: &[i16] = if class == 0x07 { &[0, 8, 16, 32] } else { &[0, 8, 16] };
            insn(0xb8 | class, dst, src, kinds[usize::from(off) % kinds.len()], 0)
        }
        0x60 | 0x70 | 0xc0 if !by_register => insn(op | class, dst, 0, 0, imm & if class == 0x07 { 63 } else { 31 }),
        0x30 | 0x90 => {
            let off = i16::from(off & 1);
            if by_register { insn(op | class | 8, dst, src, off, 0) } else { insn(op | class, dst, 0, off, imm | 1) }
        }
        _ if by_register => insn(op | class | 8, dst, src, 0, 0),
        _ => insn(op | class, dst, 0, 0, imm),
    }
}

/// Every register and the stack, folded into r0.
fn fold(registers: std::ops::Range<u8>, stack: i16) -> Vec<Insn> {
    let mut insns = Vec::new();
    for reg in registers.filter(|&reg| reg != 0) {
        insns.extend([insn(0x27, 0, 0, 0, 31), insn(0x0f, 0, reg, 0, 0)]);
    }
    for off in (-stack..0).step_by(8) {
        insns.extend([load(1, 10, off), insn(0x27, 0, 0, 0, 31), insn(0x0f, 0, 1, 0, 0)]);
    }
    insns.push(EXIT);
    insns
}

fn clear_stack() -> impl Iterator<Item = Insn> {
    (-STACK_BYTES..0).step_by(8).map(|off| insn(0x7a, 10, 0, off, i32::from(off) * 0x0101_0101))
}

/// Registers and stack set, genes, everything folded; with a second function where genes call.
fn random_program(main: &[Gene], callee: &[Gene]) -> (Vec<Insn>, usize) {
    let mut insns: Vec<Insn> = clear_stack().collect();
    insns.extend((2..9).map(|reg| load(reg, 1, FIELDS[usize::from(reg) - 2])));
    insns.extend([mov(9, 5), mov(0, 6), mov_imm(1, 5)]);
    insns.extend(express(main, true));
    insns.extend(fold(0..10, STACK_BYTES));
    let end = insns.len();
    for (at, insn) in insns.iter_mut().enumerate() {
        if insn.is_local_call() {
            insn.imm = (end - at - 1) as i32;
        }
    }
    insns.extend(clear_stack());
    insns.extend([mov(0, 1), mov(6, 2), mov(7, 3), mov(8, 4), mov(9, 5)]);
    insns.extend(express(callee, false));
    insns.extend(fold(0..10, STACK_BYTES));
    (insns, end)
}

/// More with DUCKBPF_CASES=100000.
fn cases(default: u32) -> Config {
    let cases = std::env::var("DUCKBPF_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default);
    Config { cases, failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn random_programs_agree(
        main in prop::collection::vec(gene(10), 1..60),
        callee in prop::collection::vec(gene(10), 1..30),
        inputs in prop::collection::vec(prop::array::uniform7(prop_oneof![any::<u64>(), proptest::sample::select(EDGES.to_vec())]), 1..6),
    ) {
        let calls = main.iter().any(|gene| matches!(gene, Gene::Call));
        let (mut insns, end) = random_program(&main, &callee);
        if !calls {
            insns.truncate(end);
        }
        let ends = if calls { vec![end] } else { vec![] };
        compare_on(insns, &ends, vec![], &inputs);
    }

    #[test]
    fn random_hash_programs_agree_in_every_layout(
        genes in prop::collection::vec(gene(6), 1..18),
        loads in prop::collection::vec((any::<u8>(), any::<u8>()), 5),
        keys in prop::collection::vec(any::<u64>(), 1..40),
        calls in any::<bool>(),
    ) {
        hash_program_agrees(&genes, &loads, &keys, calls);
    }
}

/// An instruction that may well be refused: any register, pointers among them.
fn wild() -> impl Strategy<Value = Vec<Insn>> {
    let reg = || 0..11u8;
    let off =
        || proptest::sample::select(vec![-520i16, -512, -24, -16, -12, -8, -7, -4, -1, 0, 1, 4, 8, 16, 40, 48, 84, 88]);
    let imm = || proptest::sample::select(vec![-512, -16, -8, -1, 0, 1, 4, 8, 16, 48]);
    let size = || proptest::sample::select(vec![0x00u8, 0x08, 0x10, 0x18, 0x18, 0x18]);
    let alu = proptest::sample::select(vec![0xb7u8, 0xb7, 0xb4, 0x07, 0x07, 0x17, 0x04, 0x27, 0x57, 0x87, 0x37]);
    let atomic = proptest::sample::select(vec![0x00, 0x01, 0x41, 0xe1, 0xf1]);
    let jump = proptest::sample::select(vec![0x15u8, 0x55, 0x25, 0x1d, 0x16]);
    prop_oneof![
        4 => (alu.clone(), reg(), reg()).prop_map(|(code, dst, src)| vec![insn(code | 8, dst, src, 0, 0)]),
        3 => (alu, reg(), imm()).prop_map(|(code, dst, imm)| vec![insn(code, dst, 0, 0, imm)]),
        5 => (size(), reg(), reg(), off()).prop_map(|(size, dst, src, off)| vec![insn(0x61 | size, dst, src, off, 0)]),
        5 => (size(), reg(), reg(), off()).prop_map(|(size, dst, src, off)| vec![insn(0x63 | size, dst, src, off, 0)]),
        2 => (size(), reg(), off(), imm()).prop_map(|(size, dst, off, imm)| vec![insn(0x62 | size, dst, 0, off, imm)]),
        2 => (size(), reg(), reg(), off(), atomic)
            .prop_map(|(size, dst, src, off, op)| vec![insn(0xc3 | size, dst, src, off, op)]),
        2 => (jump, reg(), reg(), 0..4i16, imm()).prop_map(|(code, dst, src, over, imm)| {
            if code == 0x1d { vec![insn(code, dst, src, over, 0)] } else { vec![insn(code, dst, 0, over, imm)] }
        }),
        1 => (reg(), 0..2i32, imm()).prop_map(|(dst, region, offset)| address(dst, region, offset).to_vec()),
        1 => Just(vec![helper(8)]),
        2 => Just(vec![local(0)]),
    ]
}

/// An instruction that is likely to be accepted: accesses stay inside, pointers are kept in r6 (context), r7, r10 (stack) and r8
/// (variables), though any register's value may be stored, moved or returned.
fn tame() -> impl Strategy<Value = Vec<Insn>> {
    let from = || proptest::sample::select(vec![0u8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 2, 0]);
    let to = || proptest::sample::select(vec![0u8, 1, 2, 3, 4, 5, 9]);
    let place = || {
        proptest::sample::select(vec![(10u8, -8i16), (10, -16), (7, -8), (7, -16), (7, -24), (8, -8), (8, 0), (8, 8)])
    };
    let field = proptest::sample::select(FIELDS.to_vec());
    let within = || {
        proptest::sample::select(vec![(0x18u8, 0i16), (0x18, 0), (0x18, 0), (0x00, 0), (0x00, 4), (0x08, 2), (0x10, 7)])
    };
    let atomic = proptest::sample::select(vec![0x00, 0x01, 0x41, 0xe1, 0xf1]);
    prop_oneof![
        4 => (within(), to(), place()).prop_map(|((size, at), dst, (base, off))| vec![insn(0x61 | size, dst, base, off + at, 0)]),
        4 => (within(), from(), place()).prop_map(|((size, at), src, (base, off))| vec![insn(0x63 | size, base, src, off + at, 0)]),
        3 => (from(), place(), atomic).prop_map(|(src, (base, off), op)| vec![insn(0xdb, base, src, off, op)]),
        2 => (to(), field).prop_map(|(dst, off)| vec![load(dst, 6, off)]),
        2 => (to(), from()).prop_map(|(dst, src)| vec![mov(dst, src)]),
        2 => (to(), from(), proptest::sample::select(vec![0x0fu8, 0x1f, 0xaf, 0x0c])).prop_map(|(dst, src, code)| vec![insn(code, dst, src, 0, 0)]),
        2 => (to(), 0..3i16).prop_map(|(dst, over)| vec![insn(0x15, dst, 0, over, 0)]),
        1 => Just([vec![local(0)], (1..6).map(|reg| mov(reg, 9)).collect()].concat()),
        1 => wild(),
    ]
}

/// Whatever the verifier accepts touches nothing that it may not, and gives away no address: the machine code and the
/// interpreter work at different addresses, so that one in the result or in a variable would show.
#[test]
fn accepted_programs_never_fault_and_leak_nothing() {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let program = (
        prop::collection::vec(tame(), 1..8),
        prop::collection::vec(tame(), 0..4),
        proptest::sample::select(vec![0u8, 1, 2, 3, 9]),
    );
    let programs = cases(5_000).cases;
    let mut accepted = 0;
    for _ in 0..programs {
        let (main, callee, returned) = program.new_tree(&mut runner).unwrap().current();
        let mut insns = vec![mov(6, 1), mov(7, 10), load(9, 1, FIELDS[0]), store(10, -8, 9), store(10, -16, 1)];
        insns.extend(address(8, 1, 8));
        insns.extend((0..6).map(|reg| mov(reg, 9)));
        insns.extend(main.concat());
        insns.extend([mov(0, returned), EXIT]);
        let end = insns.len();
        let calls: Vec<usize> = (0..end).filter(|&at| insns[at].is_local_call()).collect();
        for &at in &calls {
            insns[at].imm = (end - at - 1) as i32;
        }
        let ends = if calls.is_empty() { vec![] } else { vec![end] };
        if !calls.is_empty() {
            insns.extend([mov_imm(0, 4), mov(6, 1), mov(7, 10), mov_imm(9, 5), store(10, -8, 9), store(10, -16, 0)]);
            insns.extend(address(8, 1, 8));
            insns.extend(
                callee.concat().into_iter().map(|insn| if insn.is_local_call() { mov_imm(0, 6) } else { insn }),
            );
            insns.push(EXIT);
        }
        let regions = vec![
            Region { name: ".rodata".into(), writable: false, size: 16, bytes: vec![1; 16] },
            Region { name: ".bss".into(), writable: true, size: 32, bytes: vec![] },
        ];
        let inputs = [[0; 7], [1, 2, 3, 4, 5, 6, 7], [u64::MAX; 7]];
        accepted += u32::from(compare_if_accepted(&insns, &ends, regions, &inputs).is_ok());
    }
    assert!(accepted > programs / 10, "only {accepted} of {programs} were accepted: the test says little");
    println!("{accepted} of {programs} accepted");
}

/// Fields of a key, of each size: (offset, size code).
const KEY_FIELDS: [(i16, u8); 13] = [
    (0, 0x18),
    (0, 0x00),
    (4, 0x00),
    (0, 0x08),
    (6, 0x08),
    (0, 0x10),
    (7, 0x10),
    (8, 0x18),
    (12, 0x00),
    (16, 0x18),
    (24, 0x00),
    (28, 0x00),
    (28, 0x10),
];

/// With all that this processor has, and with AVX2 alone.
fn hash_program_agrees(genes: &[Gene], loads: &[(u8, u8)], keys: &[u64], calls: bool) {
    for without in [false, true] {
        keys::WITHOUT_AVX512.set(without);
        compiled_hash_program_agrees(genes, loads, keys, calls);
    }
}

fn compiled_hash_program_agrees(genes: &[Gene], loads: &[(u8, u8)], keys: &[u64], calls: bool) {
    // Without a stack: the ceiling of 64 instructions is low.
    let no_stack = |gene: &Gene| match gene {
        Gene::Memory { .. } | Gene::Atomic { .. } | Gene::Call => Gene::Goto,
        gene => gene.clone(),
    };
    let genes: Vec<Gene> = genes.iter().map(no_stack).collect();
    let mut insns = vec![mov(6, 1)];
    if calls {
        insns.extend([local(0), mov(7, 0)]);
    }
    for (reg, (field, signed)) in (1..6).zip(loads) {
        let (offset, size) = KEY_FIELDS[usize::from(*field) % KEY_FIELDS.len()];
        let mode = if *signed & 1 != 0 && size != 0x18 { 0x81 } else { 0x61 };
        insns.push(insn(mode | size, reg, 6, offset, 0));
    }
    insns.push(if calls { mov(0, 7) } else { mov(0, 3) });
    insns.extend(express(&genes, false));
    insns.extend(fold(0..6, 0));
    let end = insns.len();
    let mut ends = vec![];
    if calls {
        insns[1].imm = (end - 2) as i32;
        insns.extend([
            load(0, 1, 0),
            load(2, 1, 16),
            insn(0x61, 3, 1, 28, 0),
            insn(0x0f, 0, 2, 0, 0),
            insn(0xaf, 0, 3, 0, 0),
            EXIT,
        ]);
        ends.push(end);
    }
    let (program, verified) = compile(&object(Hook::Hash, insns.clone(), &ends, vec![]))
        .unwrap_or_else(|rejection| panic!("{rejection}\n{insns:x?}"));
    let batch = program.hash_batch().unwrap();
    for layout in 0..=abi::DUCKBPF_KEYS_CTX {
        for ty in 0..abi::DUCKBPF_TYPE_COUNT {
            let (contexts, raw) = lay_out(keys, layout, ty);
            let mut out = vec![0u64; contexts.len() + 1];
            out[contexts.len()] = 0x7e57;
            let request = abi::duckbpf_hash_batch {
                keys: raw.as_ptr().cast(),
                out: out.as_mut_ptr(),
                count: contexts.len() as u64,
                layout,
                type_: ty,
                len: 8,
                reserved: 0,
            };
            // SAFETY: as many keys in that layout, and as much room.
            unsafe { batch(&request) };
            let asks_type = verified.facts().context_bytes >> 28 != 0;
            if asks_type && !calls && layout != abi::DUCKBPF_KEYS_CTX && layout != keys::layout_of_type(ty) {
                assert!(out[..contexts.len()].iter().all(|&hash| hash == 0), "no host gives such a batch");
                continue;
            }
            for (context, hash) in contexts.iter().zip(&out) {
                let expected = vm::run(&verified, program.memory(), Env::detached(), bytes(context)).unwrap();
                let alone = call(&program, &mut context.clone());
                assert_eq!(
                    (expected.result, expected.result),
                    (*hash, alone),
                    "layout {layout}, type {ty}, {context:x?}\n{}",
                    disassemble(program.code())
                );
            }
            assert_eq!(out[contexts.len()], 0x7e57, "nothing is written behind the last");
        }
    }
}

/// Helpers in a body: translated in place, and by AVX2 where they can be. The loops do what the function alone does.
#[test]
fn jumps_backwards_without_a_loop_are_inlined() {
    // As clang makes of a switch whose default comes first.
    let text = "hook hash
        r2 = *(u32 *)(r1 + 28)
        if r2 == 3 goto wide
        narrow: r0 = *(u32 *)(r1 + 0)
        r0 += 1
        exit
        wide: r0 = *(u64 *)(r1 + 0)
        if r0 == 7 goto narrow
        exit";
    let object = assemble(text).unwrap_or_else(|error| panic!("{error}")).object;
    let (program, _) = compile(&object).unwrap_or_else(|rejection| panic!("{rejection}"));
    let code = disassemble(program.code());
    assert_eq!(code.matches("call").count(), 1, "for contexts of any type alone: {code}");
    let keys = [7u64, 8, 1 << 40 | 7, u64::MAX, 7];
    for (ty, expected) in
        [(abi::DUCKBPF_TYPE_INT64, [8, 8, 1 << 40 | 7, u64::MAX, 8]), (abi::DUCKBPF_TYPE_UINT64, [8, 9, 8, 1 << 32, 8])]
    {
        let mut out = [0; 5];
        let batch = abi::duckbpf_hash_batch {
            keys: keys.as_ptr().cast(),
            out: out.as_mut_ptr(),
            count: keys.len() as u64,
            layout: abi::DUCKBPF_KEYS_64,
            type_: ty,
            len: 8,
            reserved: 0,
        };
        // SAFETY: as many keys and places as the batch says.
        unsafe { program.hash_batch().unwrap()(&batch) };
        assert_eq!(out, expected, "type {ty}");
    }
}

#[test]
fn strings_whose_whole_alone_counts_come_as_that() {
    // By type, for all types alike, with a branch; then programs that read more of a string.
    let by_type = "r2 = *(u32 *)(r1 + 28)
        if r2 != 13 goto other
        r0 = *(u64 *)(r1 + 16)
        r0 ^= 5
        exit
        other: r0 = *(u64 *)(r1 + 0)
        exit";
    let always = "r0 = *(u64 *)(r1 + 16)\nr2 = *(u32 *)(r1 + 20)\nr0 += r2\nexit";
    let branch = "r0 = *(u64 *)(r1 + 16)\nr2 = *(u8 *)(r1 + 17)\nif r2 > 100 goto big\nexit\nbig: r0 = -r0\nexit";
    let also_len = "r0 = *(u64 *)(r1 + 16)\nr2 = *(u32 *)(r1 + 24)\nr0 += r2\nexit";
    let also_lo = "r0 = *(u64 *)(r1 + 16)\nr2 = *(u8 *)(r1 + 7)\nr0 += r2\nexit";
    let same = "r0 = *(u64 *)(r1 + 16)\nexit";
    let cases = [
        (by_type, Strings::Wholes),
        (always, Strings::Wholes),
        (branch, Strings::Wholes),
        (same, Strings::AsHost),
        (also_len, Strings::Contexts),
        (also_lo, Strings::Contexts),
    ];
    for (text, strings) in cases {
        let object = assemble(&format!("hook hash\n{text}")).unwrap_or_else(|error| panic!("{error}")).object;
        let (program, _) = compile(&object).unwrap_or_else(|rejection| panic!("{rejection}"));
        assert_eq!(program.strings(), strings, "{text}");
        if strings == Strings::Contexts {
            continue;
        }
        let keys: Vec<u64> = (0..37).map(|key: u64| key.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        let (contexts, _) = lay_out(&keys, abi::DUCKBPF_KEYS_CTX, abi::DUCKBPF_TYPE_VARCHAR);
        let wholes: Vec<u64> = contexts.iter().map(|context| context.whole).collect();
        let mut out = vec![0; wholes.len()];
        let batch = abi::duckbpf_hash_batch {
            keys: wholes.as_ptr().cast(),
            out: out.as_mut_ptr(),
            count: wholes.len() as u64,
            layout: abi::DUCKBPF_KEYS_WHOLE,
            type_: abi::DUCKBPF_TYPE_VARCHAR,
            len: 0,
            reserved: 0,
        };
        // SAFETY: as many keys and places as the batch says.
        unsafe { program.hash_batch().unwrap()(&batch) };
        for (context, hash) in contexts.iter().zip(&out) {
            assert_eq!(call(&program, &mut context.clone()), *hash, "{text}\n{}", disassemble(program.code()));
        }
    }
}

#[test]
fn helpers_in_hash_loops() {
    let stored = [store(10, -16, 2), store(10, -8, 3), mov(1, 10), insn(0x07, 1, 0, 0, -16), mov_imm(2, 13)];
    let bodies: [Vec<Insn>; 4] = [
        vec![mov(1, 2), helper(0x10020), EXIT],
        vec![mov(1, 2), mov(2, 3), insn(0xa7, 2, 0, 0, 77), helper(0x10021), EXIT],
        [&stored[..], &[mov_imm(3, 5), helper(0x10022), EXIT]].concat(),
        // Of a number of bytes that is left to the helper.
        [&stored[..4], &[mov_imm(2, 16), mov_imm(3, 5), helper(0x10023), EXIT]].concat(),
    ];
    let keys: Vec<u64> = (0..37).map(|key: u64| key.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    for body in bodies {
        let insns = [&[load(2, 1, 0), load(3, 1, 8)][..], &body].concat();
        let program =
            compile(&object(Hook::Hash, insns, &[], vec![])).unwrap_or_else(|rejection| panic!("{rejection}")).0;
        for layout in 0..=abi::DUCKBPF_KEYS_CTX {
            let (contexts, raw) = lay_out(&keys, layout, 0);
            let mut out = vec![0u64; contexts.len()];
            let request = abi::duckbpf_hash_batch {
                keys: raw.as_ptr().cast(),
                out: out.as_mut_ptr(),
                count: contexts.len() as u64,
                layout,
                type_: 0,
                len: 8,
                reserved: 0,
            };
            // SAFETY: as many keys in that layout, and as much room.
            unsafe { program.hash_batch().unwrap()(&request) };
            for (context, hash) in contexts.iter().zip(&out) {
                assert_eq!(
                    call(&program, &mut context.clone()),
                    *hash,
                    "layout {layout}\n{}",
                    disassemble(program.code())
                );
            }
        }
    }
}

/// Keys as contexts, and as they lie in a vector.
fn lay_out(keys: &[u64], layout: u32, ty: u32) -> (Vec<abi::duckbpf_hash_ctx>, Vec<u8>) {
    let mut contexts = Vec::new();
    let mut raw = Vec::new();
    for &key in keys {
        let mut context = abi::duckbpf_hash_ctx { len: 8, type_: ty, ..Default::default() };
        context.lo = match layout {
            abi::DUCKBPF_KEYS_I8 => key as i8 as u64,
            abi::DUCKBPF_KEYS_I16 => key as i16 as u64,
            abi::DUCKBPF_KEYS_I32 => key as i32 as u64,
            abi::DUCKBPF_KEYS_U8 => u64::from(key as u8),
            abi::DUCKBPF_KEYS_U16 => u64::from(key as u16),
            abi::DUCKBPF_KEYS_U32 => u64::from(key as u32),
            _ => key,
        };
        let bytes_of_key = context.lo.to_le_bytes();
        match layout {
            abi::DUCKBPF_KEYS_128 => {
                context.hi = key.rotate_left(17) ^ 0x55;
                raw.extend(context.lo.to_le_bytes());
                raw.extend(context.hi.to_le_bytes());
            }
            abi::DUCKBPF_KEYS_CTX => {
                (context.hi, context.whole, context.len) = (!key, key.wrapping_mul(7), key as u32 & 0xff);
                raw.extend(bytes(&context));
            }
            abi::DUCKBPF_KEYS_I8 | abi::DUCKBPF_KEYS_U8 => raw.extend(&bytes_of_key[..1]),
            abi::DUCKBPF_KEYS_I16 | abi::DUCKBPF_KEYS_U16 => raw.extend(&bytes_of_key[..2]),
            abi::DUCKBPF_KEYS_I32 | abi::DUCKBPF_KEYS_U32 => raw.extend(&bytes_of_key[..4]),
            _ => raw.extend(bytes_of_key),
        }
        contexts.push(context);
    }
    (contexts, raw)
}
