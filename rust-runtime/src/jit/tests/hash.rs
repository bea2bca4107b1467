//! The loop over keys that is compiled around a hash program.

use super::{
    random::{Gene, cases, express, fold, gene},
    *,
};

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

proptest! {
    #![proptest_config(cases(300))]

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
            let request = hash_batch(&raw, &mut out[..contexts.len()], layout, (ty, 8));
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
        let batch = hash_batch(&keys, &mut out, abi::DUCKBPF_KEYS_64, (ty, 8));
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
        let batch = hash_batch(&wholes, &mut out, abi::DUCKBPF_KEYS_WHOLE, (abi::DUCKBPF_TYPE_VARCHAR, 0));
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
            let request = hash_batch(&raw, &mut out, layout, (0, 8));
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
