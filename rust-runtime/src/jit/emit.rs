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

use std::sync::atomic::Ordering;

use dynasm::dynasm;
use dynasmrt::{DynamicLabel, DynasmApi, DynasmLabelApi};

use super::{
    keys,
    templates::{
        Assembler, Place, R11, RBP, Src, alu, array_lookup, atomic, branch, byte_order, constant, crc32c, goto, lea,
        lea_sum, load, mov_sx, mul128_fold, murmur64, negate, store, x86,
    },
};
use crate::{
    helpers::{self, Env, HelperSpec, MAX_LOOP},
    hook::Hook,
    isa::{Alu, Atomic, Op, Operand, Reg, Size, Width},
    maps::{Body, Map, array::Values, store::Bindings},
    object::ProgramText,
    verifier::Verified,
};

/// Machine code without an address.
pub struct Assembled {
    pub bytes: Vec<u8>,
    pub entry: usize,
    /// Where tail calls of other programs lead.
    pub tail_entry: usize,
    pub hash_batch: Option<usize>,
    /// By slot, if it was asked for: where its code begins; u32::MAX for a slot without code of its own.
    pub slots: Vec<u32>,
    /// Where the functions end and the loops over keys begin.
    pub code_end: usize,
}

/// What templates need to know of the program around them.
pub struct Emitter<'a> {
    pub verified: &'a Verified,
    pub bindings: &'a Bindings,
    env: &'static Env,
    /// By function.
    functions: Vec<DynamicLabel>,
    /// By function: whether a tail call can be reached from it.
    counts: Vec<bool>,
}

/// Where a tail call leads; 0: there is no program.
extern "C" fn tail_target(map: u64, index: u64) -> u64 {
    // SAFETY: the verifier proved that it is a map of the program's object, which holds it.
    let map = unsafe { &*(map as *const Map) };
    let Body::Programs(programs) = map.body() else { return 0 };
    let slot = usize::try_from(index).ok().and_then(|index| programs.slots().get(index));
    // Acquire: the code was written before its address.
    slot.map_or(0, |slot| slot.load(Ordering::Acquire) as u64)
}

/// As in Linux.
const MAX_TAIL_CALLS: i32 = 33;
const LOOKUP: u32 = 1;
const TAIL_CALL: u32 = 12;
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
    let mut ops = Assembler::new_with_capacity(0, 64 + 8 * count, 0, 0, 16 + count / 4, 0, 16 + count / 4);
    let functions = text.functions.iter().map(|_| ops.new_dynamic_label()).collect();
    let emitter = Emitter { verified, bindings, env, functions, counts: counts(verified) };
    let mut slots = listed.then(|| vec![u32::MAX; count]);
    emitter.entry(&mut ops);
    let mut tail_entry = 0;
    for index in 0..text.functions.len() {
        dynasm!(ops; .arch x64; .align 16, 0xcc);
        if index == 0 {
            tail_entry = ops.offset().0;
        }
        emitter.function(&mut ops, index, &mut slots)?;
    }
    let code_end = ops.offset().0;
    let hash_batch = match verified.hook() {
        Hook::Hash => {
            dynasm!(ops; .arch x64; .align 16, 0xcc);
            let offset = ops.offset().0;
            keys::emit(&emitter, &mut ops)?;
            Some(offset)
        }
        _ => None,
    };
    let bytes = ops.finalize().map_err(|error| error.to_string())?;
    Ok(Assembled { bytes, entry: 0, tail_entry, hash_batch, slots: slots.unwrap_or_default(), code_end })
}

/// By function: whether it makes tail calls, or calls a function that does.
fn counts(verified: &Verified) -> Vec<bool> {
    let (text, ops) = (verified.text(), &verified.graph().ops);
    let mut counts = vec![false; text.functions.len()];
    if !ops.iter().any(|op| matches!(op, Some(Op::Helper { id: TAIL_CALL }))) {
        return counts;
    }
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
    saved: Vec<u8>,
    size: i32,
}

impl Frame {
    /// A frame with so many bytes of BPF stack below rbp.
    pub fn new(stack: u32, saved: Vec<u8>) -> Frame {
        let size = (stack as usize + 8 * saved.len()).next_multiple_of(16);
        Frame { saved, size: size as i32 }
    }

    pub fn enter(&self, ops: &mut Assembler) {
        dynasm!(ops; .arch x64; push rbp; mov rbp, rsp);
        match i8::try_from(self.size) {
            Ok(0) => {}
            Ok(size) => dynasm!(ops; .arch x64; sub rsp, BYTE size),
            Err(_) => dynasm!(ops; .arch x64; sub rsp, self.size),
        }
        for (index, &reg) in self.saved.iter().enumerate() {
            dynasm!(ops; .arch x64; mov [BYTE rsp + 8 * index as i8], Rq(reg));
        }
    }

    /// Up to the return.
    pub fn leave(&self, ops: &mut Assembler) {
        for (index, &reg) in self.saved.iter().enumerate() {
            dynasm!(ops; .arch x64; mov Rq(reg), [BYTE rsp + 8 * index as i8]);
        }
        match self.size {
            0 => dynasm!(ops; .arch x64; pop rbp),
            _ => dynasm!(ops; .arch x64; leave),
        }
    }
}

/// One function while its code is made.
struct Function<'a> {
    ops: &'a [Option<Op>],
    start: usize,
    /// By slot: 0, or where jumps lead to it, counted from 1 in `labels`.
    marks: Vec<u32>,
    labels: Vec<DynamicLabel>,
    /// By slot: the most bytes that all code before it takes.
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

    fn label(&self, slot: usize) -> Option<DynamicLabel> {
        let mark = *self.marks.get(slot)?;
        self.labels.get((mark as usize).checked_sub(1)?).copied()
    }

    fn target_label(&self, slot: usize) -> Result<DynamicLabel, String> {
        self.label(slot).ok_or_else(|| "a jump that leads nowhere".into())
    }

    /// Whether a short jump from a slot to another reaches for certain.
    fn is_short(&self, from: usize, to: usize) -> bool {
        let distance = if to > from { self.ends[to] - self.ends[from] } else { self.ends[from + 1] - self.ends[to] };
        distance <= i8::MAX as u32
    }

    /// The instruction at a slot, unless it can be reached by a jump.
    fn next(&self, slot: usize) -> Option<Op> {
        if *self.marks.get(slot)? == 0 { self.ops[slot] } else { None }
    }
}

impl<'a> Emitter<'a> {
    fn function(&self, ops: &mut Assembler, index: usize, slots: &mut Option<Vec<u32>>) -> Result<(), String> {
        let function = self.prepare(ops, index)?;
        let entry = self.functions[index];
        dynasm!(ops; .arch x64; =>entry);
        function.frame.enter(ops);
        if function.counts {
            store(ops, Size::D, function.word(0), Src::Reg(9));
        }
        let mut known = Known::default();
        let mut slot = 0;
        while slot < function.ops.len() {
            let Some(op) = function.ops[slot] else {
                slot += 1;
                continue;
            };
            if let Some(slots) = slots {
                slots[function.start + slot] = ops.offset().0 as u32;
            }
            if let Some(label) = function.label(slot) {
                dynasm!(ops; .arch x64; =>label);
                known = Known::default();
            }
            slot += op.slots();
            match op {
                Op::Alu { op, width, dst, src } => {
                    if function.next(slot).is_some_and(|next| fuse(ops, (op, width, dst, src), next)) {
                        known.set(dst, None, false);
                        slot += 1;
                        continue;
                    }
                    let is_needless =
                        op == Alu::Mov && width == Width::W32 && src == Operand::Reg(dst) && known.is_short(dst);
                    if !is_needless {
                        alu(ops, op, width, x86(dst), src.into());
                    }
                    known.set(dst, known.moved(op, width, src), width == Width::W32);
                }
                op => {
                    self.instruction(ops, &function, slot - op.slots(), op, &known)?;
                    known.after(op, |off| callee(self.verified.text(), function.start + slot - op.slots(), off));
                }
            }
        }
        Ok(())
    }

    fn prepare(&self, ops: &mut Assembler, index: usize) -> Result<Function<'a>, String> {
        let function = &self.verified.text().functions[index];
        let code = self.verified.graph().ops.get(function.start..function.end).ok_or("a function without code")?;
        let stack = self.verified.facts().stack[index].next_multiple_of(8);
        let counts = self.counts[index];
        let (mut written, mut loops) = (0u16, false);
        let (mut marks, mut labels) = (vec![0; code.len()], Vec::new());
        let mut ends = Vec::with_capacity(code.len() + 1);
        let mut end = 0;
        for (slot, op) in code.iter().enumerate() {
            ends.push(end);
            let Some(op) = *op else { continue };
            end += longest(op);
            written |= op.written().map_or(0, |reg| 1 << reg);
            loops |= matches!(op, Op::Helper { id: BPF_LOOP });
            if let Some(off) = op.jump() {
                let target = slot as i64 + 1 + i64::from(off);
                let target = usize::try_from(target).ok().and_then(|target| marks.get_mut(target));
                let mark = target.ok_or("a jump out of its function")?;
                if *mark == 0 {
                    labels.push(ops.new_dynamic_label());
                    *mark = labels.len() as u32;
                }
            }
        }
        ends.push(end);
        let mut saved: Vec<u8> = (6..=9).filter(|reg| written & 1 << reg != 0).map(x86).collect();
        saved.extend(loops.then_some(ROUNDS));
        let words = if loops { 3 } else { u32::from(counts) };
        let frame = Frame::new(stack + 8 * words, saved);
        Ok(Function {
            ops: code,
            start: function.start,
            marks,
            labels,
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
                    goto(ops, function.is_short(slot, to), function.target_label(to)?);
                }
            }
            Op::Branch { cond, width, dst, src, off } => {
                let to = function.target(pc, i32::from(off));
                branch(ops, cond, width, x86(dst), src.into(), function.is_short(slot, to), function.target_label(to)?);
            }
            Op::Local { off } => {
                let callee = callee(self.verified.text(), pc, off).ok_or("a call that leads nowhere")?;
                self.count(ops, function, callee);
                self.call(ops, callee);
            }
            Op::Helper { id } => match (id, known.of(1), known.of(2)) {
                (TAIL_CALL, ..) => self.tail_call(ops, function),
                (BPF_LOOP, _, Some(Thing::Function(callback))) => self.bpf_loop(ops, function, callback),
                (LOOKUP, Some(Thing::Map(map)), _) if self.array(map).is_some() => {
                    array_lookup(ops, self.array(map).ok_or("an array that is not there")?);
                }
                (id, _, size) => self.helper(ops, helpers::find(id).ok_or("a helper that does not exist")?, size),
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
                let label = self.functions[callee];
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
    fn entry(&self, ops: &mut Assembler) {
        if self.counts[0] {
            let first = self.functions[0];
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
        let label = self.functions[function];
        dynasm!(ops; .arch x64; call =>label);
    }

    /// Hands the count of tail calls on.
    fn count(&self, ops: &mut Assembler, function: &Function<'_>, callee: usize) {
        if self.counts[callee] {
            load(ops, Size::D, false, 9, function.word(0));
        }
    }

    /// r1: the context, r2: the map, r3: the index. The frame goes before the other program's comes.
    fn tail_call(&self, ops: &mut Assembler, function: &Function<'_>) {
        let (stay, target) = (ops.new_dynamic_label(), tail_target as *const () as i64);
        load(ops, Size::D, false, R11, function.word(0));
        dynasm!(ops; .arch x64; cmp DWORD [r11], MAX_TAIL_CALLS; jae =>stay; push rdi; push r11);
        dynasm!(ops; .arch x64; mov rdi, rsi; mov esi, edx; mov rax, QWORD target; call rax; pop r9; pop rdi);
        dynasm!(ops; .arch x64; test rax, rax; jz =>stay; inc DWORD [r9]);
        function.frame.leave(ops);
        dynasm!(ops; .arch x64; jmp rax; =>stay);
        constant(ops, x86(0), i64::from(-libc::ENOENT) as u64);
    }

    /// bpf_loop(rounds, callback, callback_ctx, 0) with a callback that is known: a loop of its own.
    fn bpf_loop(&self, ops: &mut Assembler, function: &Function<'_>, callback: usize) {
        let (rounds, context) = (function.word(1), function.word(2));
        let (again, stop, done) = (ops.new_dynamic_label(), ops.new_dynamic_label(), ops.new_dynamic_label());
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

    /// None: it is no array, or each thread has one of its own.
    fn array(&self, map: u32) -> Option<Values> {
        match self.bindings.map(map)?.body() {
            Body::Array(array) => array.shared(),
            _ => None,
        }
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
    /// A bit set: whose `things` may be something.
    some: u16,
    /// A bit set: whose upper halves are 0.
    short: u16,
}

impl Known {
    fn of(&self, reg: Reg) -> Option<Thing> {
        self.things[usize::from(reg)]
    }

    fn is_short(&self, reg: Reg) -> bool {
        self.short & 1 << reg != 0
    }

    fn set(&mut self, reg: Reg, thing: Option<Thing>, is_short: bool) {
        let bit = 1 << reg;
        if thing.is_some() || self.some & bit != 0 {
            self.things[usize::from(reg)] = thing;
            self.some |= bit;
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
        let (thing, is_short) = match op {
            Op::Helper { .. } | Op::Local { .. } => return (0..6).for_each(|reg| self.set(reg, None, false)),
            Op::Function { off, .. } => (function(off).map(Thing::Function), false),
            Op::Map { map, .. } => (Some(Thing::Map(map)), false),
            Op::Const { value, .. } => (Some(Thing::Number(value)), value <= u64::from(u32::MAX)),
            Op::MovSx { width, .. } | Op::Neg { width, .. } => (None, width == Width::W32),
            Op::Order { bits, .. } => (None, bits < 64),
            Op::Load { size, signed, .. } => (None, size != Size::D && !signed),
            Op::Atomic { size, .. } => (None, size != Size::D),
            _ => (None, false),
        };
        if let Some(reg) = op.written() {
            self.set(reg, thing, is_short);
        }
    }
}

fn place(base: Reg, off: i16) -> Place {
    Place { base: x86(base), off: off.into() }
}

/// Two instructions as one; false: they are not such a pair, and nothing was made.
fn fuse(ops: &mut Assembler, (a, width, dst, src): (Alu, Width, Reg, Operand), second: Op) -> bool {
    if width == Width::W32 || !matches!(a, Alu::Mov | Alu::Lsh) {
        return false;
    }
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

/// The most bytes that an instruction becomes.
fn longest(op: Op) -> u32 {
    match op {
        Op::Alu { op: Alu::Div | Alu::SDiv | Alu::Mod | Alu::SMod, .. } => 96,
        Op::Atomic { op: Atomic::Or | Atomic::And | Atomic::Xor, fetch: true, .. } => 80,
        Op::Helper { id: TAIL_CALL | BPF_LOOP } => 127,
        Op::Helper { .. } => 96,
        Op::Exit => 64,
        Op::Store { .. } | Op::Branch { .. } | Op::Atomic { .. } => 16,
        Op::Const { .. } | Op::Address { .. } | Op::Map { .. } | Op::Function { .. } => 10,
        Op::Load { .. } | Op::Order { .. } => 10,
        Op::Alu { .. } | Op::MovSx { .. } | Op::Neg { .. } | Op::Goto { .. } => 8,
        // With the count of tail calls.
        Op::Local { .. } => 16,
    }
}

/// The stack's end is rbp throughout; r11 is no program's register.
const _: () = assert!(RBP == 5 && R11 == 11);
