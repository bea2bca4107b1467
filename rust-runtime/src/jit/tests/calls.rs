//! Tail calls and bpf_loop.

use super::*;

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
