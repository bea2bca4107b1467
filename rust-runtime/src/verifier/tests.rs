//! One property a case: what is accepted, and what is refused, where and why.

use super::{Reason, STACK, judge_generic, record::Recorder, rules, walk::Options};
use crate::{
    hook::Hook,
    isa::{DecodeError, Insn},
    object::Region,
    testing::{
        asm::assemble,
        programs::{EXIT, address, helper, insn, lddw, load, local, mov, mov_imm, object, store, verify},
    },
};

const LOAD: Hook = Hook::Load;

fn regions() -> Vec<Region> {
    vec![
        Region { name: ".rodata".into(), writable: false, size: 16, bytes: vec![0; 16] },
        Region { name: ".bss".into(), writable: true, size: 24, bytes: vec![] },
    ]
}

fn functions(hook: Hook, functions: &[&[Insn]]) -> Result<u64, (usize, &'static str)> {
    let insns = functions.concat();
    let mut end = 0;
    let ends: Vec<usize> = functions[..functions.len() - 1]
        .iter()
        .map(|function| {
            end += function.len();
            end
        })
        .collect();
    match verify(&object(hook, insns, &ends, regions())) {
        Ok(verified) => Ok(verified.facts().worst_cost),
        Err(rejection) => Err((rejection.instruction, rejection.id())),
    }
}

/// Why a program of one function is refused.
fn reason(insns: &[Insn]) -> Reason {
    verify(&object(LOAD, insns.to_vec(), &[], regions())).expect_err("accepted").reason
}

fn check(hook: Hook, insns: &[Insn]) -> Result<u64, (usize, &'static str)> {
    functions(hook, &[insns])
}

#[track_caller]
fn accepted(insns: &[Insn]) -> u64 {
    check(LOAD, insns).unwrap_or_else(|(at, reason)| panic!("refused at {at}: {reason}"))
}

#[track_caller]
fn refused(insns: &[Insn], at: usize) -> &'static str {
    let (found, reason) = check(LOAD, insns).expect_err("accepted");
    assert_eq!(found, at, "{reason}");
    reason
}

fn goto(off: i16) -> Insn {
    insn(0x05, 0, 0, off, 0)
}

/// if dst == imm goto +off
fn if_eq(dst: u8, imm: i32, off: i16) -> Insn {
    insn(0x15, dst, 0, off, imm)
}

fn add_imm(dst: u8, imm: i32) -> Insn {
    insn(0x07, dst, 0, 0, imm)
}

const ZERO: Insn = Insn { code: 0xb7, dst: 0, src: 0, off: 0, imm: 0 };
/// Offsets in struct duckbpf_load_ctx.
const SIZE: i16 = 48;
const TAG: i16 = 72;

#[test]
fn shapes() {
    assert_eq!(accepted(&[ZERO, EXIT]), 2);
    assert_eq!(refused(&[ZERO], 0), "no-exit");
    assert_eq!(refused(&[ZERO, if_eq(0, 0, 0)], 1), "no-exit");
    assert_eq!(refused(&[ZERO, goto(-2)], 0), "infinite-loop");
    assert_eq!(refused(&[ZERO, goto(-1)], 1), "infinite-loop");
    assert_eq!(refused(&[ZERO, goto(-1), EXIT], 2), "unreachable-code");
    assert_eq!(refused(&[ZERO, if_eq(0, 0, -2), EXIT], 0), "infinite-loop");
    assert_eq!(refused(&[ZERO, goto(1), ZERO, EXIT], 2), "unreachable-code");
    assert_eq!(refused(&[ZERO, if_eq(0, 0, 1), EXIT], 1), "jump-outside");
    assert_eq!(refused(&[ZERO, if_eq(0, 0, -3), EXIT], 1), "jump-outside");
    assert_eq!(refused(&[&[ZERO, if_eq(0, 0, 1)], &lddw(0, 1)[..], &[EXIT]].concat(), 1), "jump-into-constant");
    assert_eq!(refused(&[], 0), "empty-program");
    assert_eq!(functions(LOAD, &[&[ZERO, EXIT], &[]]), Err((0, "empty-program")), "one of its functions");
    // Backward, but no loop: clang lays blocks out like this.
    accepted(&[ZERO, if_eq(0, 0, 2), ZERO, EXIT, if_eq(0, 1, -3), EXIT]);
}

#[test]
fn reserved_fields_and_unknown_instructions() {
    let decode = |insns: &[Insn]| match reason(insns) {
        Reason::Decode(error) => error,
        other => panic!("{other}"),
    };
    assert_eq!(decode(&[insn(0xff, 0, 0, 0, 0), EXIT]), DecodeError::Opcode(0xff));
    assert_eq!(decode(&[insn(0xb7, 11, 0, 0, 0), EXIT]), DecodeError::Register(11));
    assert_eq!(decode(&[insn(0xb7, 10, 0, 0, 0), EXIT]), DecodeError::FramePointer);
    assert_eq!(decode(&[insn(0xb7, 0, 1, 0, 0), EXIT]), DecodeError::Reserved);
    assert_eq!(decode(&[insn(0xbf, 0, 1, 0, 5), EXIT]), DecodeError::Reserved);
    assert_eq!(decode(&[insn(0x37, 1, 0, 0, 0), EXIT]), DecodeError::Immediate(0), "division by a zero that is known");
    assert_eq!(decode(&[insn(0x67, 1, 0, 0, 64), EXIT]), DecodeError::Immediate(64));
    assert_eq!(decode(&[insn(0x64, 1, 0, 0, 32), EXIT]), DecodeError::Immediate(32));
    assert_eq!(decode(&[insn(0xdb, 1, 0, 0, 0x33), EXIT]), DecodeError::Immediate(0x33));
    assert_eq!(decode(&[insn(0x8d, 0, 0, 0, 1), EXIT]), DecodeError::IndirectCall);
    assert_eq!(decode(&[insn(0x85, 0, 2, 0, 1), EXIT]), DecodeError::KernelCall);
    assert_eq!(decode(&[insn(0x18, 0, 0, 0, 1), EXIT]), DecodeError::HalfConstant);
    assert_eq!(decode(&[insn(0x18, 0, 3, 0, 1), insn(0, 0, 0, 0, 0), EXIT]), DecodeError::Reserved);
    assert_eq!(decode(&[insn(0x95, 0, 0, 0, 1)]), DecodeError::Reserved);
    assert_eq!(decode(&[insn(0xc3 | 0x10, 10, 1, 0, 0), EXIT]), DecodeError::Opcode(0xd3), "atomics have 4 or 8 bytes");
}

#[test]
fn registers_are_set_before_they_are_read() {
    assert_eq!(refused(&[EXIT], 0), "uninitialised-register");
    assert_eq!(refused(&[mov(0, 2), EXIT], 0), "uninitialised-register");
    assert_eq!(refused(&[ZERO, insn(0x0f, 0, 6, 0, 0), EXIT], 1), "uninitialised-register");
    assert_eq!(refused(&[helper(5), mov(0, 1), EXIT], 1), "uninitialised-register", "calls clobber r1 to r5");
    // Set on one way only.
    let one_way = [load(2, 1, SIZE), if_eq(2, 0, 1), mov_imm(3, 1), mov(0, 3), EXIT];
    assert_eq!(refused(&one_way, 3), "uninitialised-register");
    let both_ways = [load(2, 1, SIZE), mov_imm(3, 7), if_eq(2, 0, 1), mov_imm(3, 1), mov(0, 3), EXIT];
    accepted(&both_ways);
    // A number on one way and a pointer on the other.
    let mixed = [load(2, 1, SIZE), mov(3, 1), if_eq(2, 0, 1), mov_imm(3, 1), mov(0, 3), EXIT];
    assert_eq!(refused(&mixed, 5), "pointer-leak");
}

#[test]
fn the_context_is_read_by_fields() {
    accepted(&[load(0, 1, SIZE), EXIT]);
    accepted(&[insn(0x61, 0, 1, TAG, 0), EXIT]);
    accepted(&[insn(0x71, 0, 1, SIZE + 3, 0), EXIT]);
    accepted(&[mov(6, 1), add_imm(6, 40), load(0, 6, SIZE - 40), EXIT]);
    accepted(&[mov(6, 1), insn(0x17, 6, 0, 0, 8), load(0, 6, SIZE + 8), EXIT]);
    let field = |insns: &[Insn], at| match reason(insns) {
        Reason::ContextField { offset, size, nearest, .. } => {
            assert_eq!(refused(insns, at), "context-field");
            (offset, size, nearest.expect("hooks have fields").name)
        }
        other => panic!("{other}"),
    };
    assert_eq!(field(&[load(0, 1, TAG), EXIT], 0), (72, 8, "tag"), "two fields at once");
    assert_eq!(field(&[load(0, 1, 24), EXIT], 0), (24, 8, "origin.thread_index"), "two of the origin's at once");
    assert_eq!(field(&[load(0, 1, 88), EXIT], 0), (88, 8, "hint"), "behind the end");
    assert_eq!(field(&[load(0, 1, -8), EXIT], 0), (-8, 8, "origin.database_id"), "before the beginning");
    assert_eq!(field(&[insn(0x61, 0, 1, SIZE + 2, 0), EXIT], 0), (50, 4, "size"), "misaligned");
    assert_eq!(refused(&[insn(0x7a, 1, 0, SIZE, 1), ZERO, EXIT], 0), "context-write");
    assert_eq!(refused(&[mov_imm(2, 1), insn(0xdb, 1, 2, SIZE, 0), ZERO, EXIT], 1), "context-write");
    assert_eq!(refused(&[load(2, 1, SIZE), load(0, 2, 0), EXIT], 1), "not-a-pointer");
}

#[test]
fn the_stack_has_512_bytes_that_are_written_before_they_are_read() {
    accepted(&[mov_imm(2, 1), store(10, -512, 2), load(0, 10, -512), EXIT]);
    let below = [mov_imm(2, 1), store(10, -520, 2), ZERO, EXIT];
    assert_eq!(refused(&below, 1), "stack-bounds");
    let above = [mov_imm(2, 1), store(10, 0, 2), ZERO, EXIT];
    assert_eq!(refused(&above, 1), "stack-bounds");
    let straddling = [mov_imm(2, 1), store(10, -4, 2), ZERO, EXIT];
    assert_eq!(refused(&straddling, 1), "stack-bounds");
    assert_eq!(refused(&[load(0, 10, -8), EXIT], 0), "stack-uninitialised");
    let half = [mov_imm(2, 1), insn(0x63, 10, 2, -8, 0), load(0, 10, -8), EXIT];
    assert_eq!(refused(&half, 2), "stack-uninitialised");
    let halves = [mov_imm(2, 1), insn(0x63, 10, 2, -8, 0), insn(0x63, 10, 2, -4, 0), load(0, 10, -8), EXIT];
    accepted(&halves);
    let one_way = [load(2, 1, SIZE), if_eq(2, 0, 1), store(10, -8, 2), load(0, 10, -8), EXIT];
    assert_eq!(refused(&one_way, 3), "stack-uninitialised");
    assert_eq!(STACK, 512);
}

#[test]
fn pointers_come_back_from_the_stack_whole() {
    accepted(&[store(10, -8, 1), load(2, 10, -8), load(0, 2, SIZE), EXIT]);
    let part = [store(10, -8, 1), insn(0x61, 0, 10, -8, 0), EXIT];
    assert_eq!(refused(&part, 1), "stack-pointer-part");
    let returned = [store(10, -8, 1), load(0, 10, -8), EXIT];
    assert_eq!(refused(&returned, 2), "pointer-leak");
    let torn = [store(10, -8, 1), insn(0x72, 10, 0, -8, 0), load(0, 10, -8), EXIT];
    assert_eq!(refused(&torn, 1), "stack-pointer-corrupted");
    assert_eq!(refused(&[insn(0x63, 10, 1, -8, 0), ZERO, EXIT], 0), "pointer-leak");
    let counted = [store(10, -8, 1), mov_imm(2, 1), insn(0xdb, 10, 2, -8, 1), mov(0, 2), EXIT];
    assert_eq!(refused(&counted, 2), "stack-pointer-part");
}

#[test]
fn global_variables_have_bounds_and_rights() {
    let at = |region, offset, access: &[Insn]| [&address(2, region, offset)[..], access, &[ZERO, EXIT]].concat();
    accepted(&at(0, 0, &[load(0, 2, 8)]));
    accepted(&at(1, 8, &[insn(0x7a, 2, 0, 8, 5), mov_imm(3, 1), insn(0xdb, 2, 3, -8, 1)]));
    assert_eq!(refused(&at(0, 0, &[load(0, 2, 9)]), 2), "out-of-bounds");
    assert_eq!(refused(&at(1, 24, &[load(0, 2, 0)]), 2), "out-of-bounds");
    assert_eq!(refused(&at(1, 0, &[load(0, 2, -1)]), 2), "out-of-bounds");
    assert_eq!(refused(&at(0, 0, &[insn(0x7a, 2, 0, 0, 1)]), 2), "read-only");
    assert_eq!(refused(&at(1, 0, &[store(2, 0, 1)]), 2), "pointer-leak");
    let misaligned = at(1, 4, &[mov_imm(3, 1), insn(0xdb, 2, 3, 0, 0)]);
    assert_eq!(refused(&misaligned, 3), "misaligned");
}

#[test]
fn addresses_stay_inside() {
    assert_eq!(refused(&[mov(0, 1), EXIT], 1), "pointer-leak");
    assert_eq!(refused(&[mov(0, 10), EXIT], 1), "pointer-leak");
    assert_eq!(refused(&[ZERO, insn(0x1f, 1, 10, 0, 0), EXIT], 1), "pointer-arithmetic");
    assert_eq!(refused(&[ZERO, insn(0x04, 1, 0, 0, 1), EXIT], 1), "pointer-arithmetic", "32 bits of an address");
    assert_eq!(refused(&[ZERO, insn(0xbc, 2, 1, 0, 0), EXIT], 1), "pointer-leak");
    assert_eq!(refused(&[ZERO, insn(0x87, 1, 0, 0, 0), EXIT], 1), "pointer-leak");
    assert_eq!(refused(&[ZERO, insn(0xbf, 2, 1, 8, 0), EXIT], 1), "pointer-leak");
    assert_eq!(refused(&[ZERO, insn(0x2d, 1, 10, 0, 0), EXIT], 1), "pointer-comparison");
    assert_eq!(refused(&[ZERO, if_eq(1, 5, 0), EXIT], 1), "pointer-comparison");
    accepted(&[ZERO, if_eq(1, 0, 0), EXIT]);
    let unknown = [load(2, 1, SIZE), insn(0x0f, 2, 1, 0, 0), load(0, 2, 0), EXIT];
    assert_eq!(refused(&unknown, 1), "pointer-offset", "an offset that is not known");
    let far = [mov(2, 1), add_imm(2, i32::MAX), load(0, 2, 0), EXIT];
    assert_eq!(refused(&far, 1), "pointer-offset");
    let known = [mov_imm(2, SIZE.into()), insn(0x0f, 2, 1, 0, 0), load(0, 2, 0), EXIT];
    accepted(&known);
}

#[test]
fn hooks_grant_helpers_and_cost() {
    accepted(&[helper(5), EXIT]);
    assert_eq!(refused(&[helper(999), EXIT], 0), "unknown-helper");
    assert_eq!(check(Hook::Hash, &[helper(5), EXIT]), Err((0, "forbidden-helper")));
    let long = |count: usize| [vec![ZERO; count - 1], vec![EXIT]].concat();
    assert_eq!(check(Hook::Hash, &long(64)), Ok(64));
    assert_eq!(check(Hook::Hash, &long(65)), Err((64, "too-costly")));
    assert_eq!(check(LOAD, &long(4096)), Ok(4096));
    assert_eq!(check(LOAD, &long(4097)), Err((4096, "too-costly")));
    assert_eq!(check(Hook::ScheduleTask, &long(65_536)), Ok(65_536));
    // The longest way counts, not the program's size.
    assert_eq!(accepted(&[load(0, 1, SIZE), if_eq(0, 0, 2), ZERO, ZERO, EXIT]), 5);
    assert_eq!(accepted(&[helper(5), helper(5), EXIT]), 83);
}

/// What no kernel grants programs without a kind, so that these are no cases of the corpus.
#[test]
fn helpers_by_the_generic_rules() {
    let judged = |text: &str| {
        let object = assemble(text).expect("it assembles").object;
        judge_generic(&object).map_err(|rejection| rejection.id())
    };
    let print = |format: &str| judged(&format!("{format}\nr2 = 8\ncall trace_printk\nr0 = 0\nexit"));
    // Fewer numbers than it could print.
    assert_eq!(print("rodata .rodata 8\nr1 = .rodata[0] ll"), Ok(()));
    assert_eq!(print("*(u64 *)(r10 - 8) = 0\nr1 = r10\nr1 += -8"), Ok(()));
    let hashed = |size| judged(&format!("r1 = 0\nr2 = {size}\nr3 = 0\ncall wyhash\nr0 = 0\nexit"));
    assert_eq!(hashed(0), Ok(()), "nothing of nothing");
    assert_eq!(hashed(1), Err("helper-argument"));
}

#[test]
fn a_text_ends_in_its_section() {
    // strncmp(r10 - 8, 8, the text at an offset)
    let compare = |bytes: &[u8], size, offset| {
        let begin = [insn(0x7a, 10, 0, -8, 0), mov(1, 10), add_imm(1, -8), mov_imm(2, 8)];
        let insns = [&begin[..], &address(3, 0, offset)[..], &[helper(182), EXIT]].concat();
        let texts = Region { name: ".rodata".into(), writable: false, size, bytes: bytes.to_vec() };
        verify(&object(LOAD, insns, &[], vec![texts])).map_err(|rejection| rejection.id()).map(|_| ())
    };
    assert_eq!(compare(b"text\0", 5, 0), Ok(()));
    assert_eq!(compare(b"text", 4, 0), Err("helper-argument"), "no end");
    assert_eq!(compare(b"text", 5, 0), Ok(()), "what the file does not have is zero");
    assert_eq!(compare(b"\0text", 5, 1), Err("helper-argument"), "the end is before the text");
    assert_eq!(compare(b"text", 5, 4), Ok(()), "nothing but its end");
    assert_eq!(compare(b"text", 5, 5), Err("helper-argument"));
}

#[test]
fn a_hash_depends_on_its_key_alone() {
    let read = |region| [&address(2, region, 0)[..], &[load(0, 2, 0), EXIT]].concat();
    assert!(check(Hook::Hash, &read(0)).is_ok());
    assert_eq!(check(Hook::Hash, &read(1)), Err((2, "impure")));
    assert!(check(Hook::Hash, &[load(0, 1, 16), EXIT]).is_ok());
}

#[test]
fn functions_are_walked_into() {
    // f1 reads the size through the pointer that it gets.
    let f0 = [local(1), EXIT];
    assert_eq!(functions(LOAD, &[&f0, &[load(0, 1, SIZE), EXIT]]), Ok(4));
    let beyond = [load(0, 1, 96), EXIT];
    assert!(matches!(functions(LOAD, &[&f0, &beyond]), Err((0, "context-field"))));
    // r6 to r9 belong to the caller, r1 to r5 are gone, the callee's own are not set.
    let kept = [mov_imm(6, 1), local(2), mov(0, 6), EXIT];
    assert!(functions(LOAD, &[&kept, &[ZERO, EXIT]]).is_ok());
    assert_eq!(functions(LOAD, &[&[local(2), mov(0, 1), EXIT], &[ZERO, EXIT]]), Err((1, "uninitialised-register")));
    assert_eq!(functions(LOAD, &[&kept, &[mov(0, 6), EXIT]]), Err((0, "uninitialised-register")));
    // A callee may write into its caller's stack, but not leave a pointer to its own there, or return one.
    let caller = [mov(1, 10), add_imm(1, -8), local(2), load(0, 10, -8), EXIT];
    assert!(functions(LOAD, &[&caller, &[mov_imm(2, 3), store(1, 0, 2), ZERO, EXIT]]).is_ok());
    assert_eq!(functions(LOAD, &[&caller, &[ZERO, EXIT]]), Err((3, "stack-uninitialised")));
    assert_eq!(functions(LOAD, &[&caller, &[store(1, 0, 10), ZERO, EXIT]]), Err((0, "stack-escape")));
    assert_eq!(functions(LOAD, &[&[local(1), EXIT], &[mov(0, 10), EXIT]]), Err((1, "stack-escape")));
    assert_eq!(functions(LOAD, &[&[local(1), EXIT], &[mov(0, 1), EXIT]]), Err((1, "pointer-leak")));
}

#[test]
fn calls_have_a_depth() {
    assert_eq!(functions(LOAD, &[&[local(-1), EXIT]]), Err((0, "recursion")));
    assert_eq!(functions(LOAD, &[&[local(1), EXIT], &[local(-3), EXIT]]), Err((0, "recursion")));
    assert_eq!(functions(LOAD, &[&[local(0), EXIT]]), Err((0, "call-target")));
    let chain = |length: usize| {
        let calls = vec![[local(1), EXIT]; length - 1];
        let mut all: Vec<&[Insn]> = calls.iter().map(|call| &call[..]).collect();
        all.push(&[ZERO, EXIT]);
        functions(LOAD, &all)
    };
    assert_eq!(chain(8), Ok(16));
    assert_eq!(chain(9), Err((0, "call-depth")));
}

#[test]
fn checking_itself_is_bounded() {
    // Eight functions that each call the next ten times: ten million walks.
    let mut all: Vec<Vec<Insn>> = Vec::new();
    for _ in 0..7 {
        let mut function: Vec<Insn> = (0..10).map(|call| local(10 - call)).collect();
        function.push(EXIT);
        all.push(function);
    }
    all.push(vec![ZERO, EXIT]);
    let all: Vec<&[Insn]> = all.iter().map(Vec::as_slice).collect();
    let start = std::time::Instant::now();
    assert!(matches!(functions(Hook::ScheduleTask, &all), Err((_, "too-costly"))));
    assert!(start.elapsed() < std::time::Duration::from_secs(60));
    // A fan of branches, each with a state of its own.
    let mut fan = vec![load(2, 1, SIZE)];
    const WAYS: usize = 20_000;
    for way in 0..WAYS {
        fan.push(if_eq(2, way as i32, (WAYS - way) as i16));
        fan.push(store(10, -8 * (1 + (way % 60) as i16), 2));
    }
    fan.truncate(32_000);
    fan.extend(vec![ZERO; WAYS]);
    fan.push(EXIT);
    let fanned = check(Hook::ScheduleTask, &fan).map_err(|(_, id)| id);
    assert!(matches!(fanned, Ok(_) | Err("too-complex" | "too-complex-memory")), "{fanned:?}");
}

#[test]
fn a_rejection_tells_where_and_why() {
    let object = object(LOAD, vec![mov(6, 1), load(0, 6, 96), EXIT], &[], vec![]);
    let text = verify(&object).unwrap_err().to_string();
    assert_eq!(
        text,
        "program test (hook load) is refused: 8 bytes at offset 96 are not a field of struct duckbpf_load_ctx; \
         the nearest is hint, 4 bytes at offset 84 [context-field]\n  in f0(), instruction 1: r0 = *(u64 *)(r6 + 0x60)\n  \
         value set in f0(), instruction 0: r6 = r1\n  hint: the fields are in duckbpf/hooks.h; reserved ones cannot be read"
    );
}

#[test]
fn the_book_explains_every_error() {
    let (source, book) = (include_str!("rejection.rs"), include_str!("../../../docs/src/verifier-errors.md"));
    let quoted = source.lines().filter_map(|line| line.split_once(" => \"")?.1.strip_suffix("\","));
    let ids: Vec<&str> = quoted.filter(|text| !text.contains(' ')).collect();
    assert!(ids.len() > 40, "{ids:?}");
    let missing: Vec<&&str> = ids.iter().filter(|id| !book.contains(&format!("\n## {id}\n"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// for (r0 = 0; r0 != rounds; r0++) r6 = r0;
fn counted(rounds: i32) -> [Insn; 5] {
    [ZERO, mov(6, 0), add_imm(0, 1), insn(0x55, 0, 0, -3, rounds), EXIT]
}

#[test]
fn loops_are_proved_by_their_counters() {
    // Two instructions and the branch a round.
    assert_eq!(accepted(&counted(3)), 1 + 3 * 3 + 1);
    assert_eq!(accepted(&counted(1000)), 1 + 3 * 1000 + 1);
    let steps = verify(&object(LOAD, counted(1000).to_vec(), &[], vec![])).expect("a counted loop").facts().visited;
    assert!(steps < 200, "{steps} visited");
    assert_eq!(check(LOAD, &counted(2000)).map_err(|(_, id)| id), Err("too-costly"), "6,000 instructions under a lock");
    // Down to zero, by threes, with a bound that is not reached exactly.
    let down = [mov_imm(0, 999), add_imm(0, -3), insn(0x65, 0, 0, -2, 0), EXIT];
    assert_eq!(accepted(&down), 1 + 2 * 333 + 1);
    let uneven = [ZERO, add_imm(0, 7), insn(0xa5, 0, 0, -2, 100), EXIT];
    assert_eq!(accepted(&uneven), 1 + 2 * 15 + 1);
    // It steps over the number that it is compared with, and comes around after 2^63 rounds.
    let over = [ZERO, add_imm(0, 2), insn(0x55, 0, 0, -2, 101), EXIT];
    assert_eq!(check(LOAD, &over).map_err(|(_, id)| id), Err("too-costly"));
}

#[test]
fn what_a_loop_indexes_is_bounded_by_its_counter() {
    // Sums .bss, of 24 bytes: eight at a time, as often as `rounds` says.
    let sum = |rounds: i32| {
        let body = [
            mov_imm(3, 0),
            ZERO,
            load(4, 2, 0),
            insn(0x0f, 0, 4, 0, 0),
            add_imm(2, 8),
            add_imm(3, 1),
            insn(0x55, 3, 0, -5, rounds),
            EXIT,
        ];
        [&address(2, 1, 0)[..], &body].concat()
    };
    accepted(&sum(3));
    assert_eq!(refused(&sum(4), 4), "out-of-bounds");
    assert_eq!(refused(&sum(400), 4), "out-of-bounds");
}

#[test]
fn masks_and_comparisons_bound_offsets() {
    let indexed = |bound: &[Insn]| {
        let (begin, end) = ([load(3, 1, SIZE)], [insn(0x0f, 2, 3, 0, 0), load(0, 2, 0), EXIT]);
        [&address(2, 1, 0)[..], &begin, bound, &end].concat()
    };
    accepted(&indexed(&[insn(0x57, 3, 0, 0, 15)]));
    assert_eq!(refused(&indexed(&[insn(0x57, 3, 0, 0, 31)]), 5), "out-of-bounds");
    let at_most = |most| [insn(0xb5, 3, 0, 2, most), ZERO, EXIT];
    accepted(&indexed(&at_most(16)));
    assert_eq!(refused(&indexed(&at_most(17)), 7), "out-of-bounds");
    // Signed: below zero is not excluded.
    let signed = [insn(0xd5, 3, 0, 2, 16), ZERO, EXIT];
    assert_eq!(refused(&indexed(&signed), 6), "pointer-offset");
}

#[test]
fn what_decides_is_compared_when_states_are() {
    // r3 is 0 on one way and 64 on the other; only where it is an index does that matter.
    let ways = |last: Insn| {
        let begin = [load(4, 1, SIZE), mov_imm(3, 0), if_eq(4, 0, 1), mov_imm(3, 64), mov(5, 3), mov(5, 5), mov(5, 5)];
        [&address(2, 1, 0)[..], &begin, &[last, load(0, 2, 0), EXIT]].concat()
    };
    accepted(&ways(mov(5, 3)));
    assert_eq!(refused(&ways(insn(0x0f, 2, 3, 0, 0)), 10), "out-of-bounds");
}

#[test]
fn ways_that_differ_in_numbers_go_on_as_one() {
    // Each bit of a number adds one to a sum, which is compared in the end: a million ways.
    let mut all = vec![load(4, 1, SIZE), mov_imm(3, 0)];
    for bit in 0..20 {
        all.extend([insn(0x45, 4, 0, 2, 1 << bit), add_imm(3, 1 << bit), mov(5, 3), mov(5, 3)]);
    }
    all.extend([insn(0x25, 3, 0, 1, (1 << 20) - 1), ZERO, ZERO, EXIT]);
    let verified = verify(&object(LOAD, all, &[], regions())).unwrap_or_else(|rejection| panic!("{rejection}"));
    assert!(verified.facts().visited < 10_000, "{}", verified.facts().visited);
}

#[test]
fn a_loop_that_fills_an_array_is_proved_as_one() {
    // 400 bytes of stack, four a round, then the last of them is read.
    let fill = [mov(2, 10), add_imm(2, -400), mov_imm(1, 0), insn(0x62, 2, 0, 0, 7), add_imm(2, 4), add_imm(1, 1)];
    let end = [insn(0x55, 1, 0, -4, 100), insn(0x61, 0, 10, -4, 0), ZERO, EXIT];
    let all = [&fill[..], &end].concat();
    let verified = verify(&object(LOAD, all, &[], regions())).unwrap_or_else(|rejection| panic!("{rejection}"));
    assert!(verified.facts().visited < 40, "{}", verified.facts().visited);
}

#[test]
fn what_is_too_costly_names_the_loop_that_costs_most() {
    let named = |text: &str| {
        let assembly = assemble(text).unwrap_or_else(|what| panic!("{what}"));
        let Reason::TooCostly { costliest, .. } = verify(&assembly.object).expect_err("accepted").reason else {
            panic!("another reason")
        };
        let costliest = costliest.expect("a loop");
        (costliest.function, costliest.instruction, costliest.cost)
    };
    let counted = |name: &str, rounds: u32| format!("r2 = 0\n{name}: r2 += 1\nif r2 < {rounds} goto {name}\n");
    // Between two cheaper ones, in a function.
    let dear = "fn f\nr0 = 0\nr2 = 0\ndear: r0 += r2\nr2 += 1\nif r2 < 900 goto dear\nexit";
    let text = format!("hook unpin\n{}call f\n{}r0 = 0\nexit\n{dear}", counted("one", 400), counted("three", 350));
    assert_eq!(named(&text), ("f".into(), 2, 2700));
    // Explored round by round: 64 rounds of 43, then what is over the ceiling.
    let body = "r0 += r7\n".repeat(40);
    let text = format!(
        "hook unpin\nr7 = 1\nr0 = 0\none: r7 *= 3\nr7 &= 255\n{body}if r7 != 1 goto one\n{}r0 = 0\nexit",
        counted("two", 700)
    );
    assert_eq!(named(&text), ("main".into(), 2, 64 * 43));
}

/// What some instructions before a loop add to its program's cost, and what was visited without them.
fn before_a_loop(text: &str) -> (u64, u64) {
    let facts = |before: &str| {
        let assembly = assemble(&text.replacen("BEFORE\n", before, 1)).unwrap_or_else(|what| panic!("{what}"));
        let verified = verify(&assembly.object).unwrap_or_else(|rejection| panic!("{rejection}"));
        (verified.facts().worst_cost, verified.facts().visited)
    };
    let (without, with) = (facts(""), facts(&"r0 = 0\n".repeat(100)));
    (with.0 - without.0, without.1)
}

#[test]
fn what_comes_before_a_loop_counts_however_it_is_proved() {
    // The last of these ways is not seen by trials, but by the proof.
    let ways: String = (2..12).map(|way| format!("r4 = {way}\nif r8 == {way} goto on\n")).collect();
    // What the loop leaves behind was supposed not to matter: it is proved again.
    let again = format!(
        "hook load\nr6 = r1\nr9 = 0\nr7 = 0\nBEFORE\nloop: if r7 > 6 goto end\nr9 = *(u64 *)(r6 + 40)\nr9 &= 7\nr8 = *(u64 *)(r6 + 32)\n\
         if r8 == 1 goto other\n{ways}r4 = 100\non: r0 = r4\nr7 += 1\ngoto loop\nend: @poke r9\nr0 = 0\nexit\nother: r9 = 5\nr4 = 100\ngoto on"
    );
    assert_eq!(before_a_loop(&again).0, 100);
    // As a proof it costs too much, but only two rounds of it are dear.
    let dear = "r3 = 0\n".repeat(60);
    let dear = format!(
        "hook load\nr7 = 0\nBEFORE\nloop: r7 += 1\nif r7 > 98 goto dear\non: if r7 < 100 goto loop\nr0 = 0\nexit\ndear: {dear}goto on"
    );
    assert_eq!(before_a_loop(&dear).0, 100);
    // It has no bound as a proof: one way takes a round back, once.
    let back = format!(
        "hook load\nr6 = r1\nr9 = 0\nr7 = *(u64 *)(r1 + 40)\nr7 &= 15\nBEFORE\nloop: r8 = *(u64 *)(r6 + 32)\nif r8 == 1 goto back\n{ways}r4 = 100\n\
         on: r0 = r4\nr7 += 1\nif r7 s< 20 goto loop\nr0 = 0\nexit\nback: r4 = 100\nif r9 != 0 goto on\nr9 = 1\nr7 += -1\ngoto on"
    );
    assert_eq!(before_a_loop(&back).0, 100);
}

#[test]
fn a_number_that_moves_fast_is_proved_for_as_few_rounds() {
    let text =
        "hook load\nr7 = *(u64 *)(r1 + 40)\nr7 &= 63\nBEFORE\nloop: r7 += 16\nif r7 s< 2000 goto loop\nr0 = 0\nexit";
    assert!(before_a_loop(text).1 < 40, "{}", before_a_loop(text).1);
}

#[test]
fn rounds_of_loops_count_where_those_of_helpers_do_not() {
    let rules = rules::Rules { ceiling: 4096, ..rules::generic("syscall") };
    let judged = |rounds: u32| {
        let text = format!("r7 = 0\nloop: r7 += 1\nif r7 < {rounds} goto loop\nr0 = 0\nexit");
        let assembly = assemble(&text).unwrap_or_else(|what| panic!("{what}"));
        let judged = super::check(&assembly.object, 0, &rules, Options::default(), &mut Recorder::default());
        judged.map_err(|refused| refused.id())
    };
    assert!(judged(2000).is_ok());
    assert_eq!(judged(3000).expect_err("accepted"), "too-costly");
}
