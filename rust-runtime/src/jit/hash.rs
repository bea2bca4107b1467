//! A hash program's body inlined into loops over a vector of keys.
//!
//! A key is never copied into a context: a load of a field becomes a load from the vector, extended as the layout says, or a
//! constant. The code has one loop for each layout of keys. A program that asks for the type has one for each type instead, in
//! which the type is a constant: branches on it are decided, and what only served them is left out.
//!
//! ```text
//! r12 the key   r9 its place in `out`   r10 the end of `out`   [rsp + saved] the batch
//! ```

use std::mem::offset_of;

use duckbpf_abi as abi;
use dynasm::dynasm;
use dynasmrt::{DynamicLabel, DynasmApi, DynasmLabelApi};

use super::emit::{Assembler, Emitter, Frame, branch, callee_saved, constant, load, reads, x86};
use crate::{
    isa::{Op, Size},
    verifier::{Assumption, Specialised, specialise},
};

const KEY: u8 = 12;

const LO: u32 = offset_of!(abi::duckbpf_hash_ctx, lo) as u32;
const HI: u32 = offset_of!(abi::duckbpf_hash_ctx, hi) as u32;
const WHOLE: u32 = offset_of!(abi::duckbpf_hash_ctx, whole) as u32;
const LEN: u32 = offset_of!(abi::duckbpf_hash_ctx, len) as u32;
const TYPE: u32 = offset_of!(abi::duckbpf_hash_ctx, type_) as u32;
const CONTEXT: i32 = size_of::<abi::duckbpf_hash_ctx>() as i32;

/// How keys lie in a vector.
#[derive(Clone, Copy, PartialEq)]
enum Layout {
    /// Integers of a size, sign- or zero-extended.
    Integers(Size, bool),
    /// Pairs of lo, hi.
    Pairs,
    /// Contexts.
    Contexts,
}

impl Layout {
    const ALL: [(u32, Layout); abi::DUCKBPF_KEYS_COUNT as usize] = [
        (abi::DUCKBPF_KEYS_I8, Layout::Integers(Size::B, true)),
        (abi::DUCKBPF_KEYS_I16, Layout::Integers(Size::H, true)),
        (abi::DUCKBPF_KEYS_I32, Layout::Integers(Size::W, true)),
        (abi::DUCKBPF_KEYS_64, Layout::Integers(Size::D, false)),
        (abi::DUCKBPF_KEYS_U8, Layout::Integers(Size::B, false)),
        (abi::DUCKBPF_KEYS_U16, Layout::Integers(Size::H, false)),
        (abi::DUCKBPF_KEYS_U32, Layout::Integers(Size::W, false)),
        (abi::DUCKBPF_KEYS_128, Layout::Pairs),
        (abi::DUCKBPF_KEYS_CTX, Layout::Contexts),
    ];

    fn stride(self) -> i32 {
        match self {
            Layout::Integers(size, _) => size.bytes() as i32,
            Layout::Pairs => 16,
            Layout::Contexts => CONTEXT,
        }
    }

    /// Fields that are zero whatever the key.
    fn assumptions(self) -> Vec<Assumption> {
        let zero = |offset| Assumption { offset, size: 8, value: 0 };
        match self {
            Layout::Integers(..) => vec![zero(HI), zero(WHOLE)],
            Layout::Pairs => vec![zero(WHOLE)],
            Layout::Contexts => Vec::new(),
        }
    }
}

/// The offset of a field in the batch.
macro_rules! batch_field {
    ($field:ident) => {
        offset_of!(abi::duckbpf_hash_batch, $field) as i32
    };
}
/// The layout in which the host gives keys of a type, unless as contexts (abi.h).
pub fn layout_of_type(ty: u32) -> u32 {
    match ty {
        abi::DUCKBPF_TYPE_INT8 => abi::DUCKBPF_KEYS_I8,
        abi::DUCKBPF_TYPE_INT16 => abi::DUCKBPF_KEYS_I16,
        abi::DUCKBPF_TYPE_INT32 => abi::DUCKBPF_KEYS_I32,
        abi::DUCKBPF_TYPE_UINT8 => abi::DUCKBPF_KEYS_U8,
        abi::DUCKBPF_TYPE_UINT16 => abi::DUCKBPF_KEYS_U16,
        abi::DUCKBPF_TYPE_UINT32 | abi::DUCKBPF_TYPE_FLOAT => abi::DUCKBPF_KEYS_U32,
        abi::DUCKBPF_TYPE_INT128 | abi::DUCKBPF_TYPE_UINT128 | abi::DUCKBPF_TYPE_INTERVAL => abi::DUCKBPF_KEYS_128,
        abi::DUCKBPF_TYPE_VARCHAR => abi::DUCKBPF_KEYS_CTX,
        _ => abi::DUCKBPF_KEYS_64,
    }
}

/// One loop: for which batches, and what is left of the body there.
struct Loop {
    /// None: every type.
    ty: Option<u32>,
    layout_number: u32,
    layout: Layout,
    label: DynamicLabel,
}

pub fn emit(emitter: &Emitter<'_>, ops: &mut Assembler) -> Result<(), String> {
    let facts = emitter.verified.facts();
    let body = emitter.verified.graph().ops.iter().flatten().copied();
    let mut saved = callee_saved(body);
    saved.push(KEY);
    // The frame's last word holds the batch; calls get a context on the stack.
    let context = if facts.has_calls { CONTEXT as u32 } else { 0 };
    let frame = Frame::new(facts.stack[0].next_multiple_of(8) + context + 8, saved);
    let places = Places {
        batch: -(facts.stack[0].next_multiple_of(8) as i32) - 8,
        context: -(facts.stack[0].next_multiple_of(8) as i32) - 8 - CONTEXT,
    };
    let loops = loops(emitter, ops);
    let done = ops.new_dynamic_label();
    frame.enter(ops);
    let (keys, out) = (batch_field!(keys), batch_field!(out));
    let (count, layout, ty) = (batch_field!(count), batch_field!(layout), batch_field!(type_));
    dynasm!(ops; .arch x64
        ; mov [rbp + places.batch], rdi
        ; mov r12, [rdi + keys]
        ; mov r9, [rdi + out]
        ; mov r10, [rdi + count]
        ; test r10, r10
        ; jz =>done
        ; lea r10, [r9 + r10 * 8]
        ; mov eax, [rdi + layout]
        ; mov ecx, [rdi + ty]
    );
    for one in &loops {
        let (next, label) = (ops.new_dynamic_label(), one.label);
        dynasm!(ops; .arch x64; cmp eax, one.layout_number as i32; jne =>next);
        if let Some(ty) = one.ty {
            dynasm!(ops; .arch x64; cmp ecx, ty as i32; jne =>next);
        }
        dynasm!(ops; .arch x64; jmp =>label; =>next);
    }
    // No host does this. If one did, 0 for every key would be slow, but right.
    dynasm!(ops; .arch x64; mov rdi, r9; mov rcx, r10; sub rcx, r9; shr rcx, 3; xor eax, eax; rep stosq; =>done);
    frame.leave(ops);
    for one in &loops {
        emit_loop(emitter, ops, one, &places)?;
        dynasm!(ops; .arch x64; jmp =>done);
    }
    Ok(())
}

/// Where the frame keeps things, from rbp.
struct Places {
    batch: i32,
    context: i32,
}

fn loops(emitter: &Emitter<'_>, ops: &mut Assembler) -> Vec<Loop> {
    let facts = emitter.verified.facts();
    let asks_type = facts.context_bytes >> TYPE & 0xf != 0 && !facts.has_calls;
    let types = if asks_type { 0..abi::DUCKBPF_TYPE_COUNT } else { 0..0 };
    let wanted = emitter.verified.object().hash_types.unwrap_or(u64::MAX);
    let by_type = types.filter(|ty| wanted >> ty & 1 != 0).map(|ty| {
        let number = layout_of_type(ty);
        (Some(ty), Layout::ALL[number as usize])
    });
    let any_type = Layout::ALL.into_iter().filter(|(_, layout)| !asks_type || *layout == Layout::Contexts);
    let by_layout = any_type.map(|layout| (None, layout));
    by_type
        .chain(by_layout)
        .map(|(ty, (layout_number, layout))| Loop { ty, layout_number, layout, label: ops.new_dynamic_label() })
        .collect()
}

fn emit_loop(emitter: &Emitter<'_>, ops: &mut Assembler, one: &Loop, places: &Places) -> Result<(), String> {
    let label = one.label;
    dynasm!(ops; .arch x64; .align 16; =>label);
    let facts = emitter.verified.facts();
    if facts.has_calls && one.layout != Layout::Contexts {
        fill_context(ops, one.layout, places);
        dynasm!(ops; .arch x64; lea rdi, [rbp + places.context]);
    } else if facts.has_calls || facts.has_null_checks {
        dynasm!(ops; .arch x64; mov rdi, r12);
    }
    emit_body(emitter, ops, one, places)?;
    dynasm!(ops; .arch x64
        ; mov [r9], rax
        ; add r9, 8
        ; add r12, one.layout.stride()
        ; cmp r9, r10
        ; jb =>label
    );
    Ok(())
}

/// Functions that the body calls take a pointer to the context.
fn fill_context(ops: &mut Assembler, layout: Layout, places: &Places) {
    let context = places.context;
    for (field, size) in [(LO, Size::D), (HI, Size::D), (WHOLE, Size::D), (LEN, Size::W), (TYPE, Size::W)] {
        read_field(ops, layout, places, 11, field, size, false);
        let at = context + field as i32;
        match size {
            Size::W => dynasm!(ops; .arch x64; mov [rbp + at], r11d),
            _ => dynasm!(ops; .arch x64; mov [rbp + at], r11),
        }
    }
}

/// reg = what a load from the context would give.
fn read_field(ops: &mut Assembler, layout: Layout, places: &Places, reg: u8, offset: u32, size: Size, signed: bool) {
    match (layout, offset) {
        (Layout::Contexts, _) => load(ops, size, signed, reg, KEY, offset as i32),
        (Layout::Pairs, ..WHOLE) => load(ops, size, signed, reg, KEY, offset as i32),
        (Layout::Integers(Size::D, _), ..HI) => load(ops, size, signed, reg, KEY, offset as i32),
        (Layout::Integers(of, extend), ..HI) => {
            load(ops, of, extend, reg, KEY, 0);
            if offset != LO {
                dynasm!(ops; .arch x64; shr Rq(reg), (8 * offset) as i8);
            }
            narrow(ops, size, signed, reg);
        }
        (_, ..LEN) => constant(ops, reg, 0),
        _ => {
            let field = if offset < TYPE { batch_field!(len) } else { batch_field!(type_) };
            let within = (offset % 4) as i32;
            dynasm!(ops; .arch x64; mov r11, [rbp + places.batch]);
            load(ops, size, signed, reg, 11, field + within);
        }
    }
}

/// The lower bytes of a register, extended.
fn narrow(ops: &mut Assembler, size: Size, signed: bool, reg: u8) {
    match (size, signed) {
        (Size::D, _) => {}
        (Size::W, false) => dynasm!(ops; .arch x64; mov Rd(reg), Rd(reg)),
        (Size::W, true) => dynasm!(ops; .arch x64; movsxd Rq(reg), Rd(reg)),
        (Size::H, false) => dynasm!(ops; .arch x64; movzx Rd(reg), Rw(reg)),
        (Size::H, true) => dynasm!(ops; .arch x64; movsx Rq(reg), Rw(reg)),
        (Size::B, false) => dynasm!(ops; .arch x64; movzx Rd(reg), Rb(reg)),
        (Size::B, true) => dynasm!(ops; .arch x64; movsx Rq(reg), Rb(reg)),
    }
}

/// The body for one loop: falls through at its end with the hash in rax.
fn emit_body(emitter: &Emitter<'_>, ops: &mut Assembler, one: &Loop, places: &Places) -> Result<(), String> {
    let body = Body::new(emitter, one).ok_or("a checked body that cannot be walked")?;
    let labels: Vec<DynamicLabel> = body.ops.iter().map(|_| ops.new_dynamic_label()).collect();
    let end = ops.new_dynamic_label();
    for pc in 0..body.ops.len() {
        let (Some(op), true) = (body.ops[pc], body.left.reached[pc]) else { continue };
        let label = labels[pc];
        dynasm!(ops; .arch x64; =>label);
        let next = body.next_emitted(pc);
        let to = |target: usize| (Some(target) != next).then(|| labels[target]);
        match op {
            Op::Exit if next.is_some() => dynasm!(ops; .arch x64; jmp =>end),
            Op::Exit => {}
            Op::Goto { .. } => jump(ops, to(body.target(pc))),
            Op::Branch { cond, width, dst, src, .. } => match body.left.branches[pc] {
                Some(true) => jump(ops, to(body.target(pc))),
                Some(false) => {}
                None => branch(ops, cond, width, dst, src, labels[body.target(pc)]),
            },
            _ if body.is_dead(pc) => {}
            Op::Load { size, signed, dst, .. } if emitter.verified.facts().context_loads[pc].is_some() => {
                let offset = emitter.verified.facts().context_loads[pc].unwrap_or_default();
                match body.left.constants[pc] {
                    Some(value) => constant(ops, x86(dst), value),
                    None => read_field(ops, one.layout, places, x86(dst), offset, size, signed),
                }
            }
            op => match (op.written(), body.left.constants[pc]) {
                (Some(reg), Some(value)) if is_pure(op) => constant(ops, x86(reg), value),
                _ => emitter.plain(ops, pc, op)?,
            },
        }
    }
    dynasm!(ops; .arch x64; =>end);
    Ok(())
}

fn jump(ops: &mut Assembler, to: Option<DynamicLabel>) {
    if let Some(to) = to {
        dynasm!(ops; .arch x64; jmp =>to);
    }
}

/// It does nothing but set its register.
fn is_pure(op: Op) -> bool {
    matches!(
        op,
        Op::Alu { .. }
            | Op::MovSx { .. }
            | Op::Neg { .. }
            | Op::Order { .. }
            | Op::Const { .. }
            | Op::Address { .. }
            | Op::Load { .. }
    )
}

/// The first function under the assumptions of a loop.
struct Body<'a> {
    ops: &'a [Option<Op>],
    left: Specialised,
    /// By slot: registers whose values are used after the instruction.
    live: Vec<u16>,
}

impl<'a> Body<'a> {
    fn new(emitter: &Emitter<'a>, one: &Loop) -> Option<Body<'a>> {
        let verified = emitter.verified;
        let (text, graph) = (verified.text(), verified.graph());
        let mut assumptions = one.layout.assumptions();
        assumptions.extend(one.ty.map(|ty| Assumption { offset: TYPE, size: 4, value: u64::from(ty) }));
        // Where functions are called, they read the context themselves: nothing is assumed.
        let assumptions = if verified.facts().has_calls { &[] } else { assumptions.as_slice() };
        let left = specialise(text, graph, &verified.object().regions, verified.hook(), assumptions)?;
        let mut body = Body { ops: &graph.ops[..text.functions[0].end], left, live: Vec::new() };
        body.live = body.liveness(&graph.orders[0]);
        Some(body)
    }

    fn target(&self, pc: usize) -> usize {
        let off = self.ops[pc].and_then(Op::jump).unwrap_or_default();
        (pc as i64 + 1 + i64::from(off)) as usize
    }

    /// The next slot for which code is made.
    fn next_emitted(&self, pc: usize) -> Option<usize> {
        (pc + 1..self.ops.len()).find(|&next| self.left.reached[next])
    }

    fn is_dead(&self, pc: usize) -> bool {
        let Some(op) = self.ops[pc] else { return true };
        is_pure(op) && op.written().is_some_and(|reg| self.live[pc] & 1 << reg == 0)
    }

    fn liveness(&self, order: &[usize]) -> Vec<u16> {
        let mut before = vec![0u16; self.ops.len()];
        let mut after = vec![0u16; self.ops.len()];
        for &pc in order.iter().rev() {
            let (Some(op), true) = (self.ops[pc], self.left.reached[pc]) else { continue };
            let taken = self.left.branches[pc];
            let mut live = 0;
            if op.falls_through() && taken != Some(true) {
                live |= before[pc + op.slots()];
            }
            if op.jump().is_some() && taken != Some(false) {
                live |= before[self.target(pc)];
            }
            after[pc] = live;
            let written = op.written().map_or(0, |reg| 1 << reg);
            let decided = taken.is_some() || self.left.constants[pc].is_some() && is_pure(op);
            let is_dead = is_pure(op) && live & written == 0;
            before[pc] = live & !written | if decided || is_dead { 0 } else { reads(op) };
        }
        after
    }
}
