//! Random programs.

use super::*;

/// What a random program is made of: indices are taken modulo what fits.
#[derive(Clone, Debug)]
pub(super) enum Gene {
    Alu { code: u8, dst: u8, src: u8, off: u8, imm: i32 },
    Const { dst: u8, value: u64 },
    Memory { kind: u8, size: u8, dst: u8, src: u8, place: u8, imm: i32 },
    Atomic { wide: bool, op: u8, src: u8, place: u8 },
    Branch { code: u8, dst: u8, src: u8, imm: i32, over: u8 },
    Goto,
    Call,
}

pub(super) fn gene(registers: u8) -> impl Strategy<Value = Gene> {
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
pub(super) fn express(genes: &[Gene], calls: bool) -> Vec<Insn> {
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
pub(super) fn fold(registers: std::ops::Range<u8>, stack: i16) -> Vec<Insn> {
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
pub(super) fn cases(default: u32) -> Config {
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
