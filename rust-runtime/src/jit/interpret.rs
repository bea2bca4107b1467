//! Programs run instruction by instruction: on processors without a code generator, and for conformance suites.
//!
//! It takes the verifier's word: memory is read and written where a program says. The interpreter that trusts nothing, and that
//! tests compare with, is `vm/`.
//!
//! A host calls a program by an address, and without code of its own a program has none. So there are functions compiled
//! beforehand, one for each program that can exist at a time; each knows its number, and by that its program.

use std::{
    ffi::c_void,
    ops::ControlFlow,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering},
    },
};

use duckbpf_abi as abi;
use duckbpf_abi::{duckbpf_hash_batch, duckbpf_hash_ctx};

use super::{Error, MAX_TAIL_CALLS, Runs, Strings, TAIL_CALL, tail_target};
use crate::{
    helpers::{self, CallbackKind, Env, HelperSpec, MAX_LOOP},
    hook::Hook,
    isa::{self, Atomic, Op, Operand, R10, Reg, Size, Width},
    maps::{Map, store::Bindings},
    verifier::{STACK, Verified},
};

/// Programs that can exist at a time.
const PLACES: usize = 256;

static TEXTS: [AtomicPtr<Text>; PLACES] = [const { AtomicPtr::new(ptr::null_mut()) }; PLACES];

/// A program and its place among all.
#[derive(Debug)]
pub struct Interpreted {
    text: Arc<Text>,
    place: usize,
    hashes: bool,
}

/// What it takes to run a program.
#[derive(Debug)]
struct Text {
    /// By slot.
    ops: Vec<Option<Op>>,
    bindings: Bindings,
    env: &'static Env,
}

impl Interpreted {
    pub fn new(verified: &Verified, bindings: &Bindings, env: &'static Env) -> Result<Interpreted, Error> {
        let text = Arc::new(Text { ops: verified.graph().ops.clone(), bindings: bindings.clone(), env });
        let address = Arc::as_ptr(&text).cast_mut();
        // Release: whoever finds the program by its place sees all of it.
        let take = |place: &AtomicPtr<Text>| {
            place.compare_exchange(ptr::null_mut(), address, Ordering::Release, Ordering::Relaxed).is_ok()
        };
        let place = TEXTS.iter().position(take).ok_or(Error::Places(PLACES))?;
        Ok(Interpreted { text, place, hashes: verified.hook() == Hook::Hash })
    }
}

impl Drop for Interpreted {
    fn drop(&mut self) {
        TEXTS[self.place].store(ptr::null_mut(), Ordering::Release);
    }
}

impl Runs for Interpreted {
    fn entry(&self) -> usize {
        ENTRIES[self.place / 16][self.place % 16] as usize
    }

    fn tail_entry(&self) -> usize {
        Arc::as_ptr(&self.text) as usize
    }

    fn hash_batch(&self) -> Option<usize> {
        self.hashes.then(|| BATCHES[self.place / 16][self.place % 16] as usize)
    }

    fn strings(&self) -> Strings {
        Strings::Contexts
    }

    fn code(&self) -> &[u8] {
        &[]
    }
}

/// The function of a number, for every number from the first on.
macro_rules! sixteen {
    ($function:ident, $first:expr) => {
        [
            $function::<{ $first }>,
            $function::<{ $first + 1 }>,
            $function::<{ $first + 2 }>,
            $function::<{ $first + 3 }>,
            $function::<{ $first + 4 }>,
            $function::<{ $first + 5 }>,
            $function::<{ $first + 6 }>,
            $function::<{ $first + 7 }>,
            $function::<{ $first + 8 }>,
            $function::<{ $first + 9 }>,
            $function::<{ $first + 10 }>,
            $function::<{ $first + 11 }>,
            $function::<{ $first + 12 }>,
            $function::<{ $first + 13 }>,
            $function::<{ $first + 14 }>,
            $function::<{ $first + 15 }>,
        ]
    };
}

macro_rules! all {
    ($function:ident) => {
        [
            sixteen!($function, 0),
            sixteen!($function, 16),
            sixteen!($function, 32),
            sixteen!($function, 48),
            sixteen!($function, 64),
            sixteen!($function, 80),
            sixteen!($function, 96),
            sixteen!($function, 112),
            sixteen!($function, 128),
            sixteen!($function, 144),
            sixteen!($function, 160),
            sixteen!($function, 176),
            sixteen!($function, 192),
            sixteen!($function, 208),
            sixteen!($function, 224),
            sixteen!($function, 240),
        ]
    };
}

static ENTRIES: [[unsafe extern "C" fn(*mut c_void) -> u64; 16]; PLACES / 16] = all!(enter);
static BATCHES: [[unsafe extern "C" fn(*const duckbpf_hash_batch); 16]; PLACES / 16] = all!(hash);

/// # Safety
/// The program with the number exists, and the context is one of its hook's.
unsafe extern "C" fn enter<const PLACE: usize>(context: *mut c_void) -> u64 {
    // SAFETY: the caller's: the place holds the program's text.
    let text = unsafe { &*TEXTS[PLACE].load(Ordering::Acquire) };
    // SAFETY: the caller's.
    unsafe { text.run(context as u64) }
}

/// # Safety
/// The hash program with the number exists; the batch has as many keys as it says, and as much room.
unsafe extern "C" fn hash<const PLACE: usize>(batch: *const duckbpf_hash_batch) {
    // SAFETY: the caller's: the place holds the program's text.
    let (text, batch) = unsafe { (&*TEXTS[PLACE].load(Ordering::Acquire), &*batch) };
    for index in 0..batch.count {
        // SAFETY: the caller's.
        unsafe {
            let mut key = key(batch, index);
            *batch.out.add(index as usize) = text.run(&raw mut key as u64);
        }
    }
}

/// A key as a context.
///
/// # Safety
/// The batch has such a key.
unsafe fn key(batch: &duckbpf_hash_batch, index: u64) -> duckbpf_hash_ctx {
    let at = |stride: u64| batch.keys as u64 + index * stride;
    let integer = |size: Size, signed: bool| {
        // SAFETY: the caller's.
        let value = unsafe { read(at(size.bytes().into()), size) };
        if signed { isa::sign_extend(value, size.bits()) } else { value }
    };
    let (lo, hi) = match batch.layout {
        abi::DUCKBPF_KEYS_I8 => (integer(Size::B, true), 0),
        abi::DUCKBPF_KEYS_I16 => (integer(Size::H, true), 0),
        abi::DUCKBPF_KEYS_I32 => (integer(Size::W, true), 0),
        abi::DUCKBPF_KEYS_U8 => (integer(Size::B, false), 0),
        abi::DUCKBPF_KEYS_U16 => (integer(Size::H, false), 0),
        abi::DUCKBPF_KEYS_U32 => (integer(Size::W, false), 0),
        abi::DUCKBPF_KEYS_64 => (integer(Size::D, false), 0),
        // SAFETY: the caller's.
        abi::DUCKBPF_KEYS_128 => unsafe { (read(at(16), Size::D), read(at(16) + 8, Size::D)) },
        // SAFETY: the caller's: contexts, one after the other.
        _ => return unsafe { *batch.keys.cast::<duckbpf_hash_ctx>().add(index as usize) },
    };
    duckbpf_hash_ctx { lo, hi, whole: 0, len: batch.len, type_: batch.type_ }
}

/// A function's stack, and a word above it, which suites' programs write though no verified one does.
#[repr(C, align(16))]
struct Stack([u64; STACK as usize / 8 + 1]);

fn jumped(pc: usize, off: i32) -> usize {
    (pc as i64 + 1 + i64::from(off)) as usize
}

fn operand(regs: &[u64; 11], operand: Operand) -> u64 {
    match operand {
        Operand::Reg(reg) => regs[usize::from(reg)],
        Operand::Imm(imm) => i64::from(imm) as u64,
    }
}

fn cut(value: u64, width: Width) -> u64 {
    if width == Width::W32 { u64::from(value as u32) } else { value }
}

impl Text {
    /// # Safety
    /// The context is one of the program's hook.
    unsafe fn run(&self, context: u64) -> u64 {
        // SAFETY: the caller's.
        unsafe { self.function(0, [context, 0, 0, 0, 0], &mut 0) }
    }

    /// Runs a function to its end, through tail calls too, of which there were so many.
    ///
    /// # Safety
    /// The arguments are what the verifier took them for.
    unsafe fn function(&self, start: usize, arguments: [u64; 5], tail_calls: &mut u32) -> u64 {
        let (mut text, mut pc) = (self, start);
        let mut stack = Stack([0; STACK as usize / 8 + 1]);
        let mut regs = [0u64; 11];
        regs[1..6].copy_from_slice(&arguments);
        regs[usize::from(R10)] = &raw mut stack as u64 + u64::from(STACK);
        // A verified program ends by an exit; nothing else is without an instruction.
        while let Some(op) = text.ops.get(pc).copied().flatten() {
            let mut next = pc + op.slots();
            match op {
                Op::Exit => return regs[0],
                Op::Goto { off } => next = jumped(pc, off),
                Op::Branch { cond, width, dst, src, off } => {
                    if isa::compare(cond, width, regs[usize::from(dst)], operand(&regs, src)) {
                        next = jumped(pc, off.into());
                    }
                }
                Op::Local { off } => {
                    let arguments = [regs[1], regs[2], regs[3], regs[4], regs[5]];
                    // SAFETY: the verifier followed the call with these.
                    regs[0] = unsafe { text.function(jumped(pc, off), arguments, tail_calls) };
                }
                // SAFETY: the caller's.
                Op::Helper { id } => match unsafe { text.helper(id, &mut regs, tail_calls) } {
                    None => {}
                    Some(other) => (text, next) = (other, 0),
                },
                // SAFETY: the verifier proved that what is accessed is there.
                op => unsafe { text.plain(pc, op, &mut regs) },
            }
            pc = next;
        }
        0
    }

    /// An instruction that leads to the next one.
    ///
    /// # Safety
    /// What it accesses is there.
    unsafe fn plain(&self, pc: usize, op: Op, regs: &mut [u64; 11]) {
        let value = |reg: Reg| regs[usize::from(reg)];
        let at = |base: Reg, off: i16| value(base).wrapping_add_signed(off.into());
        let (dst, result) = match op {
            Op::Alu { op, width, dst, src } => (dst, isa::alu(op, width, value(dst), operand(regs, src))),
            Op::MovSx { width, bits, dst, src } => (dst, cut(isa::sign_extend(value(src), bits.into()), width)),
            Op::Neg { width, dst } => (dst, cut(value(dst).wrapping_neg(), width)),
            Op::Order { order, bits, dst } => (dst, isa::byte_order(order, bits, value(dst))),
            Op::Const { dst, value } => (dst, value),
            Op::Address { dst, region, offset } => {
                let region = self.bindings.memory.regions().get(region as usize);
                (dst, region.map_or(0, |region| (region.address as u64).wrapping_add_signed(offset.into())))
            }
            Op::Map { dst, map } => (dst, self.bindings.map(map).map_or(0, |map| map.address())),
            // For callbacks, which are called here.
            Op::Function { dst, off } => (dst, jumped(pc, off) as u64),
            Op::Load { size, signed, dst, base, off } => {
                // SAFETY: the caller's.
                let loaded = unsafe { read(at(base, off), size) };
                (dst, if signed { isa::sign_extend(loaded, size.bits()) } else { loaded })
            }
            Op::Store { size, base, off, src } => {
                // SAFETY: the caller's.
                return unsafe { write(at(base, off), size, operand(regs, src)) };
            }
            Op::Atomic { op, fetch, size, base, off, src } => {
                // SAFETY: the caller's.
                let old = unsafe { atomic(op, size, at(base, off), value(src), value(0)) };
                if !fetch {
                    return;
                }
                (if op == Atomic::CmpXchg { 0 } else { src }, old)
            }
            Op::Helper { .. } | Op::Local { .. } | Op::Branch { .. } | Op::Goto { .. } | Op::Exit => return,
        };
        regs[usize::from(dst)] = result;
    }

    /// Calls a helper. Some: a tail call to that program.
    ///
    /// # Safety
    /// The arguments are what the verifier took them for.
    unsafe fn helper(&self, id: u32, regs: &mut [u64; 11], tail_calls: &mut u32) -> Option<&Text> {
        if id == TAIL_CALL {
            let target = if *tail_calls < MAX_TAIL_CALLS { tail_target(regs[2], u64::from(regs[3] as u32)) } else { 0 };
            *tail_calls += u32::from(target != 0);
            regs[0] = i64::from(-libc::ENOENT) as u64;
            // SAFETY: what lies in an array of programs is a tail_entry() of a program that the array holds.
            return unsafe { (target as *const Text).as_ref() };
        }
        let spec = helpers::find(id)?;
        // SAFETY: the caller's.
        regs[0] = unsafe { self.call(spec, regs, tail_calls) };
        None
    }

    /// # Safety
    /// As for `helper`.
    unsafe fn call(&self, spec: &HelperSpec, regs: &[u64; 11], tail_calls: &mut u32) -> u64 {
        let (first, callback, context) = (regs[1], regs[2] as usize, regs[3]);
        match spec.callback() {
            None => (spec.function)(regs[1], regs[2], regs[3], regs[4], regs[5], self.env),
            Some((_, CallbackKind::Loop)) if first > MAX_LOOP => i64::from(-libc::E2BIG) as u64,
            Some((_, CallbackKind::Loop)) => {
                // SAFETY: the verifier proved that it is a function that takes these.
                let mut round = |index| unsafe { self.function(callback, [index, context, 0, 0, 0], tail_calls) };
                (0..first).find(|&index| round(index) != 0).map_or(first, |index| index + 1)
            }
            Some((_, CallbackKind::MapElement)) => {
                // SAFETY: the verifier proved that it is a map.
                let map = unsafe { &*(first as *const Map) };
                let shard = if map.kind().is_percpu() { self.env.thread_index() } else { 0 };
                let mut calls = 0;
                let mut visit = |key: *mut u8, value: *mut u8| {
                    calls += 1;
                    let arguments = [first, key as u64, value as u64, context, 0];
                    // SAFETY: the verifier proved that it is a function that takes these.
                    let result = unsafe { self.function(callback, arguments, tail_calls) };
                    if result == 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                };
                // SAFETY: a program is running.
                unsafe { map.walk(shard, &mut visit) };
                calls
            }
        }
    }
}

/// # Safety
/// So many bytes are readable.
unsafe fn read(address: u64, size: Size) -> u64 {
    // SAFETY: the caller's. Buffers may begin anywhere.
    unsafe {
        match size {
            Size::B => u64::from((address as *const u8).read()),
            Size::H => u64::from((address as *const u16).read_unaligned()),
            Size::W => u64::from((address as *const u32).read_unaligned()),
            Size::D => (address as *const u64).read_unaligned(),
        }
    }
}

/// # Safety
/// So many bytes are writable.
unsafe fn write(address: u64, size: Size, value: u64) {
    // SAFETY: the caller's.
    unsafe {
        match size {
            Size::B => (address as *mut u8).write(value as u8),
            Size::H => (address as *mut u16).write_unaligned(value as u16),
            Size::W => (address as *mut u32).write_unaligned(value as u32),
            Size::D => (address as *mut u64).write_unaligned(value),
        }
    }
}

/// Gives what was there before.
///
/// # Safety
/// So many bytes are writable, and aligned, as the verifier demands of atomic operations.
unsafe fn atomic(op: Atomic, size: Size, address: u64, value: u64, expected: u64) -> u64 {
    macro_rules! operate {
        ($atomic:ident, $number:ty) => {{
            // SAFETY: the caller's.
            let place = unsafe { $atomic::from_ptr(address as *mut $number) };
            let (value, order) = (value as $number, Ordering::SeqCst);
            match op {
                Atomic::Add => place.fetch_add(value, order),
                Atomic::Or => place.fetch_or(value, order),
                Atomic::And => place.fetch_and(value, order),
                Atomic::Xor => place.fetch_xor(value, order),
                Atomic::Xchg => place.swap(value, order),
                Atomic::CmpXchg => {
                    place.compare_exchange(expected as $number, value, order, order).unwrap_or_else(|old| old)
                }
            }
        }};
    }
    match size {
        Size::D => operate!(AtomicU64, u64),
        _ => u64::from(operate!(AtomicU32, u32)),
    }
}

#[cfg(all(test, target_arch = "x86_64", not(feature = "interpreted")))]
mod tests {
    use super::*;
    use crate::{
        jit::{self, Program},
        maps::{Body, store::Store},
        object::Memory,
        testing::{asm::assemble, hash_batch, programs::verify},
    };

    /// A program of each kind, with maps of its own, tail calls leading to itself.
    fn both(text: &str) -> [Program; 2] {
        let object = assemble(text).unwrap_or_else(|error| panic!("{error}\n{text}")).object;
        let verified = || verify(&object).unwrap_or_else(|rejection| panic!("{rejection}"));
        let bind = || {
            let memory = Memory::new(&object.regions).unwrap();
            Store::new(Box::new(|| {})).bind(&object, memory, &[]).unwrap()
        };
        let (compiled, interpreted) = (bind(), bind());
        let programs = [
            jit::compile(verified(), compiled, Env::detached()).unwrap(),
            jit::interpret(verified(), interpreted, Env::detached()).unwrap(),
        ];
        for program in &programs {
            for map in program.bindings.maps() {
                if let Body::Programs(programs) = map.body() {
                    programs.slots()[0].store(program.tail_entry(), Ordering::Release);
                }
            }
        }
        programs
    }

    fn call(program: &Program, context: &[u64; 12]) -> u64 {
        // SAFETY: the programs read a load hook's context, which is no longer.
        unsafe { program.entry()(context.as_ptr().cast_mut().cast()) }
    }

    fn variables(program: &Program) -> Vec<Vec<u8>> {
        crate::vm::read_globals(program.memory())
    }

    #[test]
    fn interpreted_programs_do_what_compiled_ones_do() {
        let sum = "hook load
            *(u64 *)(r10 - 8) = 0
            r1 = 100
            r2 = function body ll
            r3 = r10
            r3 += -8
            r4 = 0
            call loop
            r1 = *(u64 *)(r10 - 8)
            r0 <<= 32
            r0 += r1
            exit
            fn body
            r3 = *(u64 *)(r2 + 0)
            r3 += r1
            *(u64 *)(r2 + 0) = r3
            r0 = 0
            if r1 != 17 goto out
            r0 = 1
            out: exit";
        let tail_calls = "hook load
            data .bss 8
            map programs prog_array 4 4 1
            r6 = r1
            *(u64 *)(r10 - 24) = 5
            r2 = .bss[0] ll
            r3 = *(u64 *)(r2 + 0)
            r3 += 1
            *(u64 *)(r2 + 0) = r3
            r1 = r6
            r2 = map[programs] ll
            r3 = 0
            call tail_call
            r0 = *(u64 *)(r6 + 0)
            r1 = *(u64 *)(r10 - 24)
            r0 += r1
            exit";
        let nowhere = &tail_calls.replace("r3 = 0", "r3 = 1");
        let walk = "hook load
            map values array 4 8 5
            *(u32 *)(r10 - 4) = 3
            r1 = map[values] ll
            r2 = r10
            r2 += -4
            call map_lookup_elem
            if r0 == 0 goto none
            *(u64 *)(r0 + 0) = 77
            none: *(u64 *)(r10 - 16) = 0
            r1 = map[values] ll
            r2 = function add ll
            r3 = r10
            r3 += -16
            r4 = 0
            call for_each_map_elem
            r1 = *(u64 *)(r10 - 16)
            r0 <<= 32
            r0 += r1
            exit
            fn add
            r5 = *(u64 *)(r3 + 0)
            r2 = *(u64 *)(r4 + 0)
            r2 += r5
            *(u64 *)(r4 + 0) = r2
            r0 = 0
            if r2 == 0 goto out
            r0 = 1
            out: exit";
        let calls_and_atomics = "hook load
            data .bss 16
            r6 = *(u64 *)(r1 + 0)
            r7 = 5
            r1 = r6
            call twice
            r7 += r0
            r1 = .bss[0] ll
            r2 = r7
            lock *(u64 *)(r1 + 0) += r2
            r2 = atomic_fetch_xor((u64 *)(r1 + 0), r2)
            r0 = 0
            w0 = cmpxchg32_32(r1 + 8, w0, w7)
            r0 += r2
            exit
            fn twice
            *(u64 *)(r10 - 8) = r1
            r0 = *(u32 *)(r10 - 8)
            r7 = 0
            w0 *= 2
            exit";
        for text in [sum, tail_calls, nowhere, walk, calls_and_atomics] {
            let programs = both(text);
            for first in [0, 1, 1 << 31, u64::MAX] {
                let context = [first, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
                let results = [&programs[0], &programs[1]].map(|program| call(program, &context));
                assert_eq!(results[0], results[1], "{first:#x}\n{text}");
                assert_eq!(variables(&programs[0]), variables(&programs[1]), "{text}");
            }
        }
    }

    #[test]
    fn interpreted_hashes_are_the_compiled_ones() {
        let [compiled, interpreted] = both(
            "hook hash
            r0 = *(u64 *)(r1 + 0)
            r2 = *(u64 *)(r1 + 8)
            r0 ^= r2
            r2 = *(u32 *)(r1 + 24)
            r0 *= 31
            r0 += r2
            exit",
        );
        let keys: Vec<u64> = (1..500u64).map(|key| key.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        for layout in 0..=abi::DUCKBPF_KEYS_CTX {
            let [expected, found] = [&compiled, &interpreted].map(|program| {
                let mut out = [0; 100];
                let batch = hash_batch(&keys, &mut out, layout, (9, 16));
                // SAFETY: as many keys, of at most 32 bytes, and places.
                unsafe { program.hash_batch().unwrap()(&batch) };
                out
            });
            assert_eq!(expected, found, "layout {layout}");
        }
    }

    #[test]
    fn interpreted_programs_leave_their_places() {
        for round in 0..3 * PLACES as u64 {
            let [_, interpreted] = both(&format!("hook load\nr0 = {round}\nexit"));
            assert_eq!(call(&interpreted, &[0; 12]), round);
        }
    }
}
