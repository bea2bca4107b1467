//! Functions as they stand: frames, jumps, calls, and what two instructions become together.
//!
//! ```text
//! rbp      the caller's rbp; r10
//! below    the function's stack
//!          [rbp - stack - 8]   tail calls: where the number of them is
//!          [.. - 16, .. - 24]  bpf_loop: rounds, callback_ctx
//! rsp      registers of the caller
//! ```
//!
//! Tail calls are counted for the whole run of a program, whichever functions and programs make them. So a program that makes any
//! begins with a few instructions of its own that keep the count, and every function from which one can be reached gets its
//! address in r9. A tail call leaves the function's frame and jumps behind those first instructions of the other program.
//!
//! One pass over the instructions. Jumps are short where the instructions in between cannot be longer than a short jump reaches;
//! how long each may become at most is a constant of its family, so the pass stays linear.

use dynasm::dynasm;

use super::{
    MAX_TAIL_CALLS, Strings, TAIL_CALL,
    assembler::{Assembler, Label, one},
    keys, tail_target,
    templates::{
        Place, R11, RBP, Src, alu, array_lookup, atomic, branch, byte_order, constant, crc32c, goto, hash_lookup, lea,
        lea_sum, load, mov_sx, mul128_fold, murmur64, negate, percpu_array_lookup, store, x86,
    },
};
use crate::{
    helpers::{self, Env, HelperSpec, MAX_LOOP},
    hook::Hook,
    isa::{Alu, Atomic, Op, Operand, Reg, Size, Width},
    maps::{Body, array::Array, store::Bindings},
    object::ProgramText,
    verifier::Verified,
};

/// Machine code without an address.
pub struct Assembled {
    ops: Assembler,
    pub entry: usize,
    /// Where tail calls of other programs lead.
    pub tail_entry: usize,
    pub hash_batch: Option<usize>,
    pub strings: Strings,
    /// By slot, if it was asked for: where its code begins; u32::MAX for a slot without code of its own.
    pub slots: Vec<u32>,
    /// Where the functions end and the loops over keys begin.
    pub code_end: usize,
}

impl Assembled {
    pub fn bytes(&self) -> &[u8] {
        self.ops.bytes()
    }
}

/// What templates need to know of the program around them.
pub struct Emitter<'a> {
    pub verified: &'a Verified,
    pub bindings: &'a Bindings,
    env: &'static Env,
    /// By function: whether a tail call can be reached from it. Empty: from none.
    counts: Vec<bool>,
}

fn find(helper: u32) -> Result<&'static HelperSpec, &'static str> {
    helpers::find(helper).ok_or("a helper that does not exist")
}

const LOOKUP: u32 = 1;
const BPF_LOOP: u32 = 181;
/// Holds the rounds that bpf_loop made; callbacks bring it back.
const ROUNDS: u8 = 12;

/// `listed`: with the slots' places.
pub fn assemble(
    verified: &Verified,
    bindings: &Bindings,
    env: &'static Env,
    listed: bool,
) -> Result<Assembled, String> {
    let text = verified.text();
    let count = text.insns.len();
    let mut ops = Assembler::new(count, text.functions.len() + count);
    let emitter = Emitter { verified, bindings, env, counts: counts(verified) };
    let mut slots = listed.then(|| vec![u32::MAX; count]);
    emitter.entry(&mut ops);
    let mut tail_entry = 0;
    for index in 0..text.functions.len() {
        dynasm!(ops; .arch x64; .align 16, 0xcc);
        if index == 0 {
            tail_entry = ops.offset();
        }
        emitter.function(&mut ops, index, &mut slots)?;
    }
    let code_end = ops.offset();
    let (mut hash_batch, mut strings) = (None, Strings::Contexts);
    if verified.hook() == Hook::Hash {
        dynasm!(ops; .arch x64; .align 16, 0xcc);
        hash_batch = Some(ops.offset());
        strings = keys::emit(&emitter, &mut ops)?;
    }
    ops.finish()?;
    let slots = slots.unwrap_or_default();
    Ok(Assembled { ops, entry: 0, tail_entry, hash_batch, strings, slots, code_end })
}

/// By function: whether it makes tail calls, or calls a function that does. Empty: none does.
fn counts(verified: &Verified) -> Vec<bool> {
    let (text, ops) = (verified.text(), &verified.graph().ops);
    if !ops.iter().any(|op| matches!(op, Some(Op::Helper { id: TAIL_CALL }))) {
        return Vec::new();
    }
    reaching(text, ops)
}

/// By function: whether a tail call can be reached from it.
#[cold]
fn reaching(text: &ProgramText, ops: &[Option<Op>]) -> Vec<bool> {
    let mut counts = vec![false; text.functions.len()];
    loop {
        let before = counts.clone();
        for (index, function) in text.functions.iter().enumerate() {
            counts[index] |= (function.start..function.end).any(|pc| match ops[pc] {
                Some(Op::Helper { id: TAIL_CALL }) => true,
                Some(Op::Local { off }) => callee(text, pc, off).is_some_and(|callee| before[callee]),
                Some(Op::Function { off, .. }) => callee(text, pc, off).is_some_and(|callee| before[callee]),
                _ => false,
            });
        }
        if counts == before {
            return counts;
        }
    }
}

/// The function that begins so many slots behind the instruction after a slot.
fn callee(text: &ProgramText, pc: usize, off: i32) -> Option<usize> {
    let target = usize::try_from(pc as i64 + 1 + i64::from(off)).ok()?;
    text.functions.binary_search_by_key(&target, |function| function.start).ok()
}

/// Registers of the caller that a function must bring back, and where it keeps them.
pub struct Frame {
    /// A bit set.
    saved: u16,
    size: i32,
    /// Bytes above rbp that the program may write.
    above: i8,
}

impl Frame {
    /// A frame with so many bytes of BPF stack below rbp.
    pub fn new(stack: u32, saved: impl IntoIterator<Item = u8>) -> Frame {
        let saved = saved.into_iter().fold(0u16, |set, reg| set | 1 << reg);
        let size = (stack + 8 * saved.count_ones()).next_multiple_of(16);
        Frame { saved, size: size as i32, above: 0 }
    }

    fn with_room_above(self, bytes: u8) -> Frame {
        Frame { above: bytes.next_multiple_of(16) as i8, ..self }
    }

    /// Where each of them is kept, from rsp.
    fn places(&self) -> impl Iterator<Item = (u8, i8)> {
        let mut left = self.saved;
        let registers = std::iter::from_fn(move || {
            let reg = left.trailing_zeros() as u8;
            left &= left.wrapping_sub(1);
            (reg < 16).then_some(reg)
        });
        registers.zip((0..).step_by(8))
    }

    pub fn enter(&self, ops: &mut Assembler) {
        one!(ops; push rbp);
        if self.above != 0 {
            one!(ops; sub rsp, BYTE self.above);
        }
        one!(ops; mov rbp, rsp);
        match i8::try_from(self.size) {
            Ok(0) => {}
            Ok(size) => one!(ops; sub rsp, BYTE size),
            Err(_) => one!(ops; sub rsp, self.size),
        }
        for (reg, at) in self.places() {
            one!(ops; mov [BYTE rsp + at], Rq(reg));
        }
    }

    /// Up to the return.
    pub fn leave(&self, ops: &mut Assembler) {
        for (reg, at) in self.places() {
            one!(ops; mov Rq(reg), [BYTE rsp + at]);
        }
        match (self.size, self.above) {
            (0, 0) => one!(ops; pop rbp),
            (_, 0) => one!(ops; leave),
            (_, above) => dynasm!(ops; .arch x64; lea rsp, [BYTE rbp + above]; pop rbp),
        }
    }
}

/// Of a slot to which a jump leads. No code is this long.
const TARGET: u32 = 1 << 31;

/// One function while its code is made.
struct Function<'a> {
    ops: &'a [Option<Op>],
    start: usize,
    /// The label of its first slot; the others' follow.
    first_label: usize,
    /// By slot: the most bytes that all code before it takes, and TARGET where a jump leads to it.
    ends: Vec<u32>,
    frame: Frame,
    /// Below the stack, from rbp: the first of the function's own words, see the module's head.
    words: i32,
    /// A tail call can be reached.
    counts: bool,
}

impl Function<'_> {
    fn word(&self, index: i32) -> Place {
        Place { base: RBP, off: self.words - 8 * index }
    }

    fn target(&self, pc: usize, off: i32) -> usize {
        (pc as i64 + 1 + i64::from(off)) as usize - self.start
    }

    fn label(&self, slot: usize) -> Label {
        Label::numbered(self.first_label + slot)
    }

    fn is_target(&self, slot: usize) -> bool {
        self.ends[slot] & TARGET != 0
    }

    /// The most bytes of the code from a slot up to another.
    fn most(&self, from: usize, to: usize) -> u32 {
        (self.ends[to] & !TARGET) - (self.ends[from] & !TARGET)
    }

    /// Whether a short jump from a slot to another reaches for certain.
    fn is_short(&self, from: usize, to: usize) -> bool {
        let distance = if to > from { self.most(from, to) } else { self.most(to, from + 1) };
        distance <= i8::MAX as u32
    }

    /// The instruction at a slot, unless it can be reached by a jump.
    fn next(&self, slot: usize) -> Option<Op> {
        if self.is_target(slot) { None } else { *self.ops.get(slot)? }
    }
}

impl<'a> Emitter<'a> {
    fn function(&self, ops: &mut Assembler, index: usize, slots: &mut Option<Vec<u32>>) -> Result<(), String> {
        let function = self.prepare(ops, index)?;
        let entry = Label::numbered(index);
        ops.reserve();
        dynasm!(ops; .arch x64; =>entry);
        function.frame.enter(ops);
        if function.counts {
            store(ops, Size::D, function.word(0), Src::Reg(9));
        }
        let (mut known, mut slot) = (Known::default(), 0);
        while slot < function.ops.len() {
            let Some(op) = function.ops[slot] else {
                slot += 1;
                continue;
            };
            ops.reserve();
            if let Some(slots) = slots {
                slots[function.start + slot] = ops.offset() as u32;
            }
            if function.is_target(slot) {
                let label = function.label(slot);
                dynasm!(ops; .arch x64; =>label);
                known.forget();
            }
            let begin = ops.offset();
            let next = slot + op.slots();
            let is_pair = match op {
                Op::Alu { op, width, dst, src } => {
                    arithmetic(ops, &mut known, (op, width, dst, src), || function.next(next))
                }
                op => {
                    self.instruction(ops, &function, slot, op, &known)?;
                    known.after(op, |off| callee(self.verified.text(), function.start + slot, off));
                    false
                }
            };
            let next = next + usize::from(is_pair);
            debug_assert!(
                ops.offset() - begin <= function.most(slot, next) as usize,
                "{op} is longer than its footprint"
            );
            slot = next;
        }
        ops.take_back(function.ends);
        Ok(())
    }

    #[inline(never)]
    fn prepare(&self, ops: &mut Assembler, index: usize) -> Result<Function<'a>, String> {
        let function = &self.verified.text().functions[index];
        let code = self.verified.graph().ops.get(function.start..function.end).ok_or("a function without code")?;
        let stack = self.verified.facts().stack[index].next_multiple_of(8);
        let counts = self.counts(index);
        let mut uses = 0;
        let mut ends = ops.lend(code.len() + 1);
        let mut end = 0;
        for (slot, op) in code.iter().enumerate() {
            ends[slot] |= end;
            let Some(op) = *op else { continue };
            let Footprint { most, uses: more, jump } = footprint(op);
            end += most;
            uses |= more;
            if let Some(off) = jump {
                let target = slot as i64 + 1 + i64::from(off);
                let target = usize::try_from(target).ok().filter(|&target| target < code.len());
                ends[target.ok_or("a jump out of its function")?] |= TARGET;
            }
        }
        ends[code.len()] |= end;
        let loops = uses & USES_ROUNDS != 0;
        let saved = (6..=9).filter(|reg| uses & 1 << reg != 0).map(x86).chain(loops.then_some(ROUNDS));
        let words = if loops { 3 } else { u32::from(counts) };
        let above = self.verified.facts().above;
        let frame = Frame::new(stack + 8 * words, saved).with_room_above(above);
        Ok(Function {
            ops: code,
            start: function.start,
            first_label: self.verified.text().functions.len() + function.start,
            ends,
            frame,
            words: -(stack as i32) - 8,
            counts,
        })
    }

    fn instruction(
        &self,
        ops: &mut Assembler,
        function: &Function<'_>,
        slot: usize,
        op: Op,
        known: &Known,
    ) -> Result<(), String> {
        let pc = function.start + slot;
        match op {
            Op::Exit => {
                function.frame.leave(ops);
                dynasm!(ops; .arch x64; ret);
            }
            Op::Goto { off } => {
                let to = function.target(pc, off);
                if to != slot + 1 {
                    goto(ops, function.is_short(slot, to), function.label(to));
                }
            }
            Op::Branch { cond, width, dst, src, off } => {
                let to = function.target(pc, i32::from(off));
                branch(ops, cond, width, x86(dst), src.into(), function.is_short(slot, to), function.label(to));
            }
            Op::Local { off } => {
                let callee = callee(self.verified.text(), pc, off).ok_or("a call that leads nowhere")?;
                self.count(ops, function, callee);
                self.call(ops, callee);
            }
            Op::Helper { id } => match (id, known.of(1), known.of(2)) {
                (TAIL_CALL, ..) => self.tail_call(ops, function),
                (BPF_LOOP, _, Some(Thing::Function(callback))) => self.bpf_loop(ops, function, callback),
                (LOOKUP, Some(Thing::Map(map)), _) => self.lookup(ops, map)?,
                (id, _, size) => self.helper(ops, find(id)?, size),
            },
            op => self.plain(ops, pc, op)?,
        }
        Ok(())
    }

    /// An instruction that leads to the next one.
    fn plain(&self, ops: &mut Assembler, pc: usize, op: Op) -> Result<(), String> {
        match op {
            Op::MovSx { width, bits, dst, src } => mov_sx(ops, width, bits, x86(dst), x86(src)),
            Op::Neg { width, dst } => negate(ops, width, x86(dst)),
            Op::Order { order, bits, dst } => byte_order(ops, order, bits, x86(dst)),
            Op::Const { dst, value } => constant(ops, x86(dst), value),
            Op::Address { dst, region, offset } => constant(ops, x86(dst), self.address(region, offset)?),
            Op::Map { dst, map } => constant(ops, x86(dst), self.map(map)?),
            Op::Function { dst, off } => {
                let callee = callee(self.verified.text(), pc, off).ok_or("a function that is not there")?;
                let label = Label::numbered(callee);
                dynasm!(ops; .arch x64; lea Rq(x86(dst)), [=>label]);
            }
            Op::Load { size, signed, dst, base, off } => load(ops, size, signed, x86(dst), place(base, off)),
            Op::Store { size, base, off, src } => store(ops, size, place(base, off), src.into()),
            Op::Atomic { op, fetch, size, base, off, src } => atomic(ops, op, fetch, size, place(base, off), x86(src)),
            Op::Alu { .. } | Op::Helper { .. } | Op::Local { .. } | Op::Branch { .. } | Op::Goto { .. } | Op::Exit => {
                return Err("arithmetic, jumps and calls are made elsewhere".into());
            }
        }
        Ok(())
    }

    /// What the host calls, where a count of tail calls has to be begun.
    #[inline(never)]
    fn entry(&self, ops: &mut Assembler) {
        if self.counts(0) {
            let first = Label::numbered(0);
            dynasm!(ops; .arch x64
                ; push rbp
                ; mov rbp, rsp
                ; sub rsp, BYTE 16
                ; mov QWORD [BYTE rbp - 8], 0
                ; lea r9, [BYTE rbp - 8]
                ; call =>first
                ; leave
                ; ret
            );
        }
    }

    /// A call of a function of the program.
    pub fn call(&self, ops: &mut Assembler, function: usize) {
        let label = Label::numbered(function);
        dynasm!(ops; .arch x64; call =>label);
    }

    /// Whether a tail call can be reached from a function.
    fn counts(&self, function: usize) -> bool {
        self.counts.get(function).copied().unwrap_or_default()
    }

    /// Hands the count of tail calls on.
    fn count(&self, ops: &mut Assembler, function: &Function<'_>, callee: usize) {
        if self.counts(callee) {
            load(ops, Size::D, false, 9, function.word(0));
        }
    }

    /// r1: the context, r2: the map, r3: the index. The frame goes before the other program's comes.
    #[inline(never)]
    fn tail_call(&self, ops: &mut Assembler, function: &Function<'_>) {
        let (stay, target) = (ops.new_label(), tail_target as *const () as i64);
        load(ops, Size::D, false, R11, function.word(0));
        dynasm!(ops; .arch x64; cmp DWORD [r11], MAX_TAIL_CALLS as i32; jae =>stay; push rdi; push r11);
        dynasm!(ops; .arch x64; mov rdi, rsi; mov esi, edx; mov rax, QWORD target; call rax; pop r9; pop rdi);
        dynasm!(ops; .arch x64; test rax, rax; jz =>stay; inc DWORD [r9]);
        function.frame.leave(ops);
        dynasm!(ops; .arch x64; jmp rax; =>stay);
        constant(ops, x86(0), i64::from(-libc::ENOENT) as u64);
    }

    /// bpf_loop(rounds, callback, callback_ctx, 0) with a callback that is known: a loop of its own.
    #[inline(never)]
    fn bpf_loop(&self, ops: &mut Assembler, function: &Function<'_>, callback: usize) {
        let (rounds, context) = (function.word(1), function.word(2));
        let (again, stop, done) = (ops.new_label(), ops.new_label(), ops.new_label());
        constant(ops, x86(0), i64::from(-libc::E2BIG) as u64);
        dynasm!(ops; .arch x64; cmp rdi, MAX_LOOP as i32; ja =>done; xor r12d, r12d; test rdi, rdi; jz =>stop);
        store(ops, Size::D, rounds, Src::Reg(x86(1)));
        store(ops, Size::D, context, Src::Reg(x86(3)));
        dynasm!(ops; .arch x64; =>again; mov rdi, r12);
        load(ops, Size::D, false, x86(2), context);
        self.count(ops, function, callback);
        self.call(ops, callback);
        dynasm!(ops; .arch x64; inc r12; test rax, rax; jnz =>stop; cmp r12, [rbp + rounds.off]; jb =>again);
        dynasm!(ops; .arch x64; =>stop; mov rax, r12; =>done);
    }

    /// map_lookup_elem in a map that is known: of an array where the value lies is computed in place, of a hash with short keys it is
    /// searched in place.
    #[inline(never)]
    fn lookup(&self, ops: &mut Assembler, map: u32) -> Result<(), String> {
        match self.bindings.map(map).map(|map| map.body()) {
            Some(Body::Array(array)) => return self.array_lookup(ops, map, array),
            Some(Body::Hash(hash)) => {
                if let Some(chains) = hash.chains() {
                    hash_lookup(ops, chains);
                    return Ok(());
                }
            }
            _ => {}
        }
        self.helper(ops, find(LOOKUP)?, None);
        Ok(())
    }

    fn array_lookup(&self, ops: &mut Assembler, map: u32, array: &Array) -> Result<(), String> {
        /// The farthest that a multiplication reaches.
        const FAR: usize = i32::MAX as usize;
        let (helper, values) = (find(LOOKUP)?, array.values());
        match (array.shards(), self.env.thread_index_function()) {
            (None, _) => array_lookup(ops, values),
            (Some(shards), Some(thread_index)) if shards.stride <= FAR => {
                let (unknown, done) = (ops.new_label(), ops.new_label());
                percpu_array_lookup(ops, values, shards, thread_index, (unknown, done));
                dynasm!(ops; .arch x64; =>unknown);
                constant(ops, x86(1), self.map(map)?);
                self.helper(ops, helper, None);
                dynasm!(ops; .arch x64; =>done);
            }
            _ => self.helper(ops, helper, None),
        }
        Ok(())
    }

    fn map(&self, map: u32) -> Result<u64, String> {
        let map = self.bindings.map(map).ok_or("a map that was not made")?;
        Ok(map.address())
    }

    pub fn address(&self, region: u32, offset: i32) -> Result<u64, String> {
        let region = self.bindings.memory.regions().get(region as usize).ok_or("a region without memory")?;
        Ok((region.address as u64).wrapping_add_signed(offset.into()))
    }

    /// r1 to r5 lie where SysV has arguments; the sixth is the environment.
    #[inline(never)]
    fn helper(&self, ops: &mut Assembler, helper: &HelperSpec, second: Option<Thing>) {
        match Inlined::of(helper.name, second) {
            Some(inlined) => inlined.emit(ops),
            None => {
                let (env, function) = (self.env as *const Env as i64, helper.function as *const () as i64);
                dynasm!(ops; .arch x64; mov r9, QWORD env; mov rax, QWORD function; call rax);
            }
        }
    }
}

/// Helpers that are a few instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inlined {
    Mul128Fold,
    Murmur64,
    Crc32c { size: u32 },
}

impl Inlined {
    /// Bytes whose CRC is computed in place.
    const MAX_CRC: u64 = 32;

    /// `second`: what the second argument is for certain.
    pub fn of(helper: &str, second: Option<Thing>) -> Option<Inlined> {
        match (helper, second) {
            ("mul128_fold", _) => Some(Inlined::Mul128Fold),
            ("murmur64", _) => Some(Inlined::Murmur64),
            ("crc32c", Some(Thing::Number(size @ 0..=Inlined::MAX_CRC))) if is_x86_feature_detected!("sse4.2") => {
                Some(Inlined::Crc32c { size: size as u32 })
            }
            _ => None,
        }
    }

    pub fn emit(self, ops: &mut Assembler) {
        match self {
            Inlined::Mul128Fold => mul128_fold(ops),
            Inlined::Murmur64 => murmur64(ops),
            Inlined::Crc32c { size } => crc32c(ops, size),
        }
    }
}

/// What a register holds for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A function of the program.
    Function(usize),
    /// A map of the object.
    Map(u32),
    Number(u64),
}

/// What registers hold, within a stretch of code to whose middle no jump leads.
#[derive(Default)]
struct Known {
    things: [Option<Thing>; 11],
    /// A bit set: whose `things` count.
    some: u16,
    /// A bit set: whose upper halves are 0.
    short: u16,
}

impl Known {
    fn forget(&mut self) {
        (self.some, self.short) = (0, 0);
    }

    /// Of so many registers.
    fn forget_first(&mut self, registers: u32) {
        let kept = u16::MAX << registers;
        (self.some, self.short) = (self.some & kept, self.short & kept);
    }

    fn of(&self, reg: Reg) -> Option<Thing> {
        if self.some & 1 << reg != 0 { self.things[usize::from(reg)] } else { None }
    }

    fn is_short(&self, reg: Reg) -> bool {
        self.short & 1 << reg != 0
    }

    fn set(&mut self, reg: Reg, thing: Option<Thing>, is_short: bool) {
        let bit = 1 << reg;
        if thing.is_some() {
            self.things[usize::from(reg)] = thing;
            self.some |= bit;
        } else {
            self.some &= !bit;
        }
        self.short = if is_short { self.short | bit } else { self.short & !bit };
    }

    /// What arithmetic leaves, where that is certain.
    fn moved(&self, op: Alu, width: Width, src: Operand) -> Option<Thing> {
        match (op, width, src) {
            (Alu::Mov, Width::W64, Operand::Imm(imm)) => Some(Thing::Number(i64::from(imm) as u64)),
            (Alu::Mov, Width::W32, Operand::Imm(imm)) => Some(Thing::Number(u64::from(imm as u32))),
            (Alu::Mov, Width::W64, Operand::Reg(src)) => self.of(src),
            _ => None,
        }
    }

    /// After an instruction that is no arithmetic.
    fn after(&mut self, op: Op, function: impl Fn(i32) -> Option<usize>) {
        let (reg, thing, is_short) = match op {
            Op::Store { .. } | Op::Branch { .. } | Op::Goto { .. } | Op::Exit => return,
            Op::Helper { .. } | Op::Local { .. } => return self.forget_first(6),
            Op::Function { dst, off } => (dst, function(off).map(Thing::Function), false),
            Op::Map { dst, map } => (dst, Some(Thing::Map(map)), false),
            Op::Const { dst, value } => (dst, Some(Thing::Number(value)), value <= u64::from(u32::MAX)),
            Op::MovSx { width, dst, .. } | Op::Neg { width, dst } => (dst, None, width == Width::W32),
            Op::Order { bits, dst, .. } => (dst, None, bits < 64),
            Op::Load { size, signed, dst, .. } => (dst, None, size != Size::D && !signed),
            Op::Address { dst, .. } | Op::Alu { dst, .. } => (dst, None, false),
            Op::Atomic { size, .. } => match op.written() {
                Some(reg) => (reg, None, size != Size::D),
                None => return,
            },
        };
        self.set(reg, thing, is_short);
    }
}

fn place(base: Reg, off: i16) -> Place {
    Place { base: x86(base), off: off.into() }
}

/// Arithmetic, as one with the instruction behind it where that can be; true: it was. `next`: what is behind it, unless a jump leads there.
fn arithmetic(
    ops: &mut Assembler,
    known: &mut Known,
    (op, width, dst, src): (Alu, Width, Reg, Operand),
    next: impl Fn() -> Option<Op>,
) -> bool {
    let may_fuse = width == Width::W64 && matches!(op, Alu::Mov | Alu::Lsh);
    if may_fuse && next().is_some_and(|next| fuse(ops, (op, dst, src), next)) {
        known.set(dst, None, false);
        return true;
    }
    let is_needless = op == Alu::Mov && width == Width::W32 && src == Operand::Reg(dst) && known.is_short(dst);
    if !is_needless {
        alu(ops, op, width, x86(dst), src.into());
    }
    known.set(dst, known.moved(op, width, src), width == Width::W32);
    false
}

/// Two instructions as one, the first of 64 bits; false: they are not such a pair, and nothing was made.
fn fuse(ops: &mut Assembler, (a, dst, src): (Alu, Reg, Operand), second: Op) -> bool {
    let Op::Alu { op: b, width: Width::W64, dst: again, src: by } = second else { return false };
    if dst != again {
        return false;
    }
    let to = x86(dst);
    match (a, src, b, by) {
        (Alu::Mov, Operand::Reg(from), Alu::Add, Operand::Imm(off)) => lea(ops, to, Place { base: x86(from), off }),
        (Alu::Mov, Operand::Reg(from), Alu::Sub, Operand::Imm(off)) if off != i32::MIN => {
            lea(ops, to, Place { base: x86(from), off: -off });
        }
        (Alu::Mov, Operand::Reg(from), Alu::Add, Operand::Reg(other)) if other != dst => {
            lea_sum(ops, to, x86(from), x86(other));
        }
        (Alu::Lsh, Operand::Imm(32), Alu::Rsh, Operand::Imm(32)) => alu(ops, Alu::Mov, Width::W32, to, Src::Reg(to)),
        (Alu::Lsh, Operand::Imm(32), Alu::Arsh, Operand::Imm(32)) => mov_sx(ops, Width::W64, 32, to, to),
        _ => return false,
    }
    true
}

/// What the function around an instruction needs to know of it.
struct Footprint {
    /// The most bytes that it becomes.
    most: u32,
    /// A bit set: registers that it sets, and USES_ROUNDS.
    uses: u16,
    /// As `Op::jump`.
    jump: Option<i32>,
}

/// Of `Footprint::uses`, beside registers of BPF: ROUNDS.
const USES_ROUNDS: u16 = 1 << 15;

fn footprint(op: Op) -> Footprint {
    let of = |most| Footprint { most, uses: op.written().map_or(0, |reg| 1 << reg), jump: None };
    match op {
        Op::Alu { op: Alu::Div | Alu::SDiv | Alu::Mod | Alu::SMod, .. } => of(96),
        Op::Alu { .. } => of(8),
        Op::Load { .. } => of(10),
        Op::Store { .. } => of(16),
        Op::Branch { .. } => Footprint { jump: op.jump(), ..of(16) },
        Op::Goto { .. } => Footprint { jump: op.jump(), ..of(8) },
        Op::Atomic { op: Atomic::Or | Atomic::And | Atomic::Xor, fetch: true, .. } => of(80),
        Op::Atomic { .. } => of(16),
        Op::Helper { id: BPF_LOOP } => Footprint { uses: 1 | USES_ROUNDS, ..of(160) },
        Op::Helper { id: TAIL_CALL | LOOKUP } => of(160),
        Op::Helper { .. } => of(96),
        Op::Exit => of(64),
        Op::Const { .. } | Op::Address { .. } | Op::Map { .. } | Op::Function { .. } | Op::Order { .. } => of(10),
        Op::MovSx { .. } | Op::Neg { .. } => of(8),
        // With the count of tail calls.
        Op::Local { .. } => of(16),
    }
}

/// The stack's end is rbp throughout; r11 is no program's register.
const _: () = assert!(RBP == 5 && R11 == 11);
