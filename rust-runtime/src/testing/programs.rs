//! Programs out of bare instructions, for tests of the checker and the code generator.

use std::sync::Arc;

use crate::{
    helpers::Env,
    hook::Hook,
    isa::{CALL, CALL_LOCAL, Insn, LDDW},
    jit::{self, Program},
    object::{Function, MapDef, Memory, Object, ProgramText, Region},
    verifier::{self, Rejection, Verified},
};

/// Shorthands for instructions.
pub fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn { code, dst, src, off, imm }
}

pub fn lddw(dst: u8, value: u64) -> [Insn; 2] {
    [insn(LDDW, dst, 0, 0, value as i32), insn(0, 0, 0, 0, (value >> 32) as i32)]
}

pub fn address(dst: u8, region: i32, offset: i32) -> [Insn; 2] {
    [insn(LDDW, dst, crate::isa::LDDW_MEMORY, 0, region), insn(0, 0, 0, 0, offset)]
}

pub fn helper(id: i32) -> Insn {
    insn(CALL, 0, 0, 0, id)
}

pub fn local(off: i32) -> Insn {
    insn(CALL, 0, CALL_LOCAL, 0, off)
}

pub fn mov_imm(dst: u8, imm: i32) -> Insn {
    insn(0xb7, dst, 0, 0, imm)
}

pub fn mov(dst: u8, src: u8) -> Insn {
    insn(0xbf, dst, src, 0, 0)
}

/// dst = *(u64 *)(base + off)
pub fn load(dst: u8, base: u8, off: i16) -> Insn {
    insn(0x79, dst, base, off, 0)
}

/// *(u64 *)(base + off) = src
pub fn store(base: u8, off: i16, src: u8) -> Insn {
    insn(0x7b, base, src, off, 0)
}

pub const EXIT: Insn = Insn { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 };

/// An object with one program; `functions` are the ends of its functions.
pub fn object(hook: Hook, insns: Vec<Insn>, ends: &[usize], regions: Vec<Region>) -> Arc<Object> {
    let starts = [0].into_iter().chain(ends.iter().copied());
    let functions = starts.zip(ends.iter().copied().chain([insns.len()]));
    let functions =
        functions.enumerate().map(|(index, (start, end))| Function { name: format!("f{index}"), start, end }).collect();
    let program = ProgramText::from_insns(hook, insns, functions);
    let maps = regions.iter().enumerate();
    let maps =
        maps.map(|(index, region)| MapDef::of_region(index, &region.name, region.size, region.writable)).collect();
    let (license, variables) = (None, Vec::new());
    Arc::new(Object { license, programs: vec![program], regions, maps, variables, hash_types: None, hash_mixed: None })
}

pub fn verify(object: &Arc<Object>) -> Result<Verified, Box<Rejection>> {
    verifier::verify(object, 0, object.programs[0].hook)
}

/// A verified program twice: to compile, and to interpret.
pub fn compile(object: &Arc<Object>) -> Result<(Program, Verified), Box<Rejection>> {
    let (compiled, interpreted) = (verify(object)?, verify(object)?);
    let memory = Memory::new(&object.regions).expect("memory for tests");
    let program = jit::compile(compiled, memory, Env::detached()).expect("code memory for tests");
    Ok((program, interpreted))
}
