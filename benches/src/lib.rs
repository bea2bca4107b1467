//! The programs and the native code that benches compare.

use std::{ffi::c_void, hint::black_box, sync::Arc, time::Instant};

use duckbpf_abi as abi;
use duckbpf_runtime::{
    Hook,
    testing::{self, Bytecode},
};
use solana_sbpf::{
    aligned_memory::AlignedMemory,
    ebpf::{HOST_ALIGN, MM_STACK_START},
    elf::Executable,
    memory_region::{MemoryMapping, MemoryRegion},
    program::{BuiltinProgram, FunctionRegistry, SBPFVersion},
    vm::{Config, ContextObject, EbpfVm},
};

/// Keys in a vector of DuckDB.
pub const KEYS: usize = 2048;
/// Sizes of programs whose compilation is timed.
pub const SIZES: [usize; 3] = [20, 200, 2000];
/// The number under which rbpf and sbpf offer the helper of five arguments.
pub const SUM: u32 = duckbpf_runtime::testing::SUM;

unsafe extern "C" {
    /// gcc -O3 without vectors (reference.c).
    pub fn murmur_scalar(keys: *const u64, out: *mut u64, count: usize);
    /// gcc -O3 -mavx2.
    pub fn murmur_avx2(keys: *const u64, out: *mut u64, count: usize);
    /// A C function that does nothing.
    pub fn empty_scalar(context: *mut c_void) -> u64;
    /// So many times: a context of eleven numbers filled on the stack, and `entry` called.
    pub fn hookpoints_scalar(entry: Entry, from: *const u64, passes: u64) -> u64;
    /// So many times: a pointer read and found null.
    pub fn null_checks_scalar(gate: *const Option<Entry>, passes: u64) -> u64;
}

/// What a hookpoint calls.
pub type Entry = unsafe extern "C" fn(*mut c_void) -> u64;

fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> [u8; 8] {
    let (off, imm) = (off.to_le_bytes(), imm.to_le_bytes());
    [code, dst | src << 4, off[0], off[1], imm[0], imm[1], imm[2], imm[3]]
}

/// `return 0`
pub fn trivial() -> Vec<u8> {
    [insn(0xb7, 0, 0, 0, 0), insn(0x95, 0, 0, 0, 0)].concat()
}

/// Calls the helper of five arguments.
pub fn helper_call() -> Vec<u8> {
    let arguments = (1..6).map(|reg| insn(0xb7, reg, 0, 0, i32::from(reg)));
    arguments.chain([insn(0x85, 0, 0, 0, SUM as i32), insn(0x95, 0, 0, 0, 0)]).flatten().collect()
}

/// So many instructions of the kinds that clang makes: arithmetic, the stack, branches; no helpers, so that every compiler takes it.
pub fn mixed(count: usize) -> Vec<u8> {
    let mut insns = vec![insn(0xb7, 0, 0, 0, 1), insn(0xb7, 2, 0, 0, 7), insn(0x7b, 10, 2, -8, 0)];
    let pattern = [
        insn(0x0f, 0, 2, 0, 0),
        insn(0x67, 2, 0, 0, 3),
        insn(0xaf, 2, 0, 0, 0),
        insn(0x25, 2, 0, 1, 100),
        insn(0x07, 0, 0, 0, 5),
        insn(0x79, 3, 10, -8, 0),
        insn(0x57, 3, 0, 0, 0xff),
        insn(0x7b, 10, 3, -8, 0),
        insn(0xbf, 4, 0, 0, 0),
        insn(0x77, 4, 0, 0, 32),
    ];
    insns.extend(pattern.iter().cycle().take(count - insns.len() - 1));
    insns.push(insn(0x95, 0, 0, 0, 0));
    insns.concat()
}

/// DuckDB's hash of integers, of the context's lo.
pub fn murmur() -> Vec<u8> {
    const FACTOR: u64 = 0xd6e8_feb8_6659_fd93;
    let mut insns = vec![insn(0x79, 0, 1, 0, 0)];
    insns.extend([insn(0x18, 2, 0, 0, FACTOR as i32), insn(0, 0, 0, 0, (FACTOR >> 32) as i32)]);
    for round in 0..3 {
        insns.extend([insn(0xbf, 1, 0, 0, 0), insn(0x77, 1, 0, 0, 32), insn(0xaf, 0, 1, 0, 0)]);
        if round < 2 {
            insns.push(insn(0x2f, 0, 2, 0, 0));
        }
    }
    insns.push(insn(0x95, 0, 0, 0, 0));
    insns.concat()
}

/// A program for the load hook.
pub fn load(code: &[u8]) -> Bytecode {
    Bytecode::new(Hook::Load, code)
}

/// What sbpf wants to know while a program runs: nothing here.
#[derive(Debug)]
pub struct NoContext;

impl ContextObject for NoContext {
    fn trace(&mut self, _: [u64; 12]) {}

    fn consume(&mut self, _: u64) {}

    fn get_remaining(&self) -> u64 {
        u64::MAX
    }
}

/// A program for solana-sbpf, not compiled yet. Panics on what it refuses: benches know their programs.
pub fn sbpf(code: &[u8]) -> Executable<NoContext> {
    let loader = Arc::new(BuiltinProgram::<NoContext>::new_loader(Config::default()));
    let executable = Executable::new_from_text_bytes(code, loader, SBPFVersion::V0, FunctionRegistry::default());
    executable.unwrap_or_else(|error| panic!("{error}"))
}

/// Calls of a program that solana-sbpf compiled, in a machine that is set up once: nanoseconds for one. Panics as [`sbpf`] does.
pub fn sbpf_call(code: &[u8], calls: usize) -> f64 {
    let mut executable = sbpf(code);
    executable.jit_compile().unwrap_or_else(|error| panic!("{error}"));
    let (config, version) = (executable.get_config(), executable.get_sbpf_version());
    let mut stack = AlignedMemory::<HOST_ALIGN>::zero_filled(config.stack_size());
    let size = stack.len();
    let regions = vec![executable.get_ro_region(), MemoryRegion::new_writable(stack.as_slice_mut(), MM_STACK_START)];
    let mapping = MemoryMapping::new(regions, config, version).unwrap_or_else(|error| panic!("{error:?}"));
    let (mut context, loader) = (NoContext, executable.get_loader().clone());
    let mut vm = EbpfVm::new(loader, version, &mut context, mapping, size);
    best(1, calls, || {
        for _ in 0..calls {
            black_box(vm.execute_program(&executable, false).0);
        }
    })
}

/// A batch of u64 keys.
pub fn batch(keys: &[u64], out: &mut [u64]) -> abi::duckbpf_hash_batch {
    testing::hash_batch(keys, &mut out[..keys.len()], abi::DUCKBPF_KEYS_64, (abi::DUCKBPF_TYPE_UINT64, 8))
}

/// The fewest nanoseconds that one of `count` things takes.
pub fn best(rounds: usize, count: usize, mut work: impl FnMut()) -> f64 {
    let mut fewest = f64::INFINITY;
    for _ in 0..rounds {
        let start = Instant::now();
        work();
        fewest = fewest.min(start.elapsed().as_nanos() as f64 / count as f64);
    }
    fewest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_do_what_the_references_do() {
        let program = Bytecode::new(Hook::Hash, &murmur()).compile();
        let keys: Vec<u64> = (0..KEYS as u64).map(|key| key.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        let (mut ours, mut scalar, mut avx2) = (vec![0; KEYS], vec![0; KEYS], vec![0; KEYS]);
        program.hash_keys(&batch(&keys, &mut ours));
        // SAFETY: as many keys and places.
        unsafe { murmur_scalar(keys.as_ptr(), scalar.as_mut_ptr(), KEYS) };
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as many keys and places.
            unsafe { murmur_avx2(keys.as_ptr(), avx2.as_mut_ptr(), KEYS) };
            assert_eq!(avx2, scalar);
        }
        assert_eq!(ours, scalar);
        assert_eq!(load(&helper_call()).compile().call(&mut [0u64; 11]), 15);
        for size in SIZES {
            assert_eq!(mixed(size).len(), 8 * size);
            let mut vm = rbpf::EbpfVmNoData::new(Some(&mixed(size))).map(|vm| vm.execute_program()).unwrap();
            assert_eq!(load(&mixed(size)).compile().call(&mut [0u64; 11]), vm.as_mut().copied().unwrap(), "{size}");
        }
    }
}
