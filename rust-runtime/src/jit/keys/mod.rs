//! A hash program's body inlined into loops over a vector of keys.
//!
//! A key is never copied into a context: a load of a field becomes a load from the vector, extended as its layout says, or a
//! constant. The code has one loop for each layout of keys. A program that asks for the type has one for each type instead, in
//! which the type is a constant: branches on it are decided, and what only served them is left out.
//!
//! ```text
//! body    what is left of the program for one layout and type
//! scalar  four keys a turn, constants kept in registers that the body does not use
//! vector  AVX2: four keys in a register, for bodies without branches and of such operations as AVX2 has
//! ```
//!
//! A body that cannot be inlined (loops, calls) is called for each key with a context on the stack.
//!
//! ```text
//! r12 the key   r9 its place in `out`   r10 the end of `out`   [rsp + 40] the batch
//! rbp and below: the body's stack, the same for each key; then a context for calls
//! ```

mod body;
#[expect(clippy::useless_conversion, reason = "dynasm! converts the register numbers that it is given")]
mod scalar;
#[expect(clippy::useless_conversion, reason = "dynasm! converts the register numbers that it is given")]
mod vector;

use std::mem::offset_of;

use duckbpf_abi as abi;
use dynasm::dynasm;

use super::{
    Strings,
    assembler::{Assembler, Label},
    emit::{Emitter, Frame},
    templates::{Place, R11, RDI, Src, lea, load, store},
};
use crate::isa::Size;
use body::{Body, Order};
#[cfg(test)]
pub use vector::WITHOUT_AVX512;

const KEY: u8 = 12;
const OUT: u8 = 9;
/// Registers that the loops use and their caller expects unchanged.
const SAVED: [u8; 5] = [3, KEY, 13, 14, 15];
const RSP: u8 = 4;
/// Behind them, the batch.
const BATCH: Place = Place { base: RSP, off: 8 * SAVED.len() as i32 };
/// And a context.
const MADE: Place = Place { base: RSP, off: BATCH.off + 8 };

const LO: u32 = offset_of!(abi::duckbpf_hash_ctx, lo) as u32;
const HI: u32 = offset_of!(abi::duckbpf_hash_ctx, hi) as u32;
const WHOLE: u32 = offset_of!(abi::duckbpf_hash_ctx, whole) as u32;
const LEN: u32 = offset_of!(abi::duckbpf_hash_ctx, len) as u32;
const TYPE: u32 = offset_of!(abi::duckbpf_hash_ctx, type_) as u32;
const CONTEXT: i32 = size_of::<abi::duckbpf_hash_ctx>() as i32;

/// The offset of a field in the batch.
macro_rules! batch_field {
    ($field:ident) => {
        offset_of!(abi::duckbpf_hash_batch, $field) as i32
    };
}

/// How keys lie in a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Integers of a size, sign- or zero-extended.
    Integers(Size, bool),
    /// Pairs of lo, hi.
    Pairs,
    /// Contexts.
    Contexts,
    /// What strings' contexts have in `whole`, for bodies that read nothing else.
    Wholes,
}

impl Layout {
    /// What a body sees of it. Signs that no load reaches are none, so that loops are shared.
    fn seen_by(self, body: Option<&Body>) -> Layout {
        match self {
            Layout::Integers(size, true) if body.is_some_and(|body| body.reads_within(size)) => {
                Layout::Integers(size, false)
            }
            _ => self,
        }
    }

    /// Such a field is the key, zero-extended, as a load of its own size leaves it.
    fn is_key(self, offset: u32, size: Size) -> bool {
        matches!(self, Layout::Integers(of, false) if of != Size::D && offset == 0 && size.bytes() >= of.bytes())
    }

    /// By number (enum duckbpf_key_layout).
    const ALL: [Layout; abi::DUCKBPF_KEYS_COUNT as usize] = [
        Layout::Integers(Size::B, true),
        Layout::Integers(Size::H, true),
        Layout::Integers(Size::W, true),
        Layout::Integers(Size::D, false),
        Layout::Integers(Size::B, false),
        Layout::Integers(Size::H, false),
        Layout::Integers(Size::W, false),
        Layout::Pairs,
        Layout::Contexts,
        Layout::Wholes,
    ];

    fn stride(self) -> i32 {
        match self {
            Layout::Integers(size, _) => size.bytes() as i32,
            Layout::Pairs => 16,
            Layout::Contexts => CONTEXT,
            Layout::Wholes => 8,
        }
    }
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

/// Batches that one loop serves.
#[derive(Clone, Copy, PartialEq)]
struct Case {
    layout: u32,
    /// None: every type.
    ty: Option<u32>,
}

/// A loop, shared by cases whose bodies are the same.
struct Loop {
    layout: Layout,
    /// None: the program's function is called.
    body: Option<Body>,
    label: Label,
}

/// The loops' function: `extern "C" fn(*const duckbpf_hash_batch)`. Ok: how they take strings.
#[inline(never)]
pub fn emit(emitter: &Emitter<'_>, ops: &mut Assembler) -> Result<Strings, String> {
    let mut order = emitter.verified.text().functions.first().and_then(|first| {
        let code = emitter.verified.graph().ops.get(..first.end)?;
        Order::new(code)
    });
    let mut body = |layout, ty| Body::new(emitter, order.as_mut()?, layout, ty);
    // Inlined at all, a body is so for every type.
    let is_inlined = body(Layout::Contexts, None).is_some();
    let asks_type = is_inlined && emitter.verified.facts().context_bytes >> TYPE & 0xf != 0;
    let mut cases = cases(emitter, asks_type);
    let mut loops: Vec<Loop> = Vec::new();
    let mut labels = Vec::new();
    for case in &cases {
        let layout = Layout::ALL[case.layout as usize];
        // Contexts of any type are rare where each type has a loop: tests, and those of quality.
        let body = if asks_type && case.ty.is_none() { None } else { body(layout, case.ty) };
        let layout = layout.seen_by(body.as_ref());
        let known = loops.iter().find(|known| known.layout == layout && known.body == body);
        let label = known.map_or_else(|| ops.new_label(), |known| known.label);
        if known.is_none() {
            loops.push(Loop { layout, body, label });
        }
        labels.push(label);
    }
    let strings = strings_by_whole(&cases, &labels, &loops);
    let taken = match &strings {
        None => Strings::Contexts,
        Some(body) if body.is_whole() => Strings::AsHost,
        Some(_) => Strings::Wholes,
    };
    if let Some(body) = strings {
        let label = ops.new_label();
        cases.push(Case { layout: abi::DUCKBPF_KEYS_WHOLE, ty: None });
        labels.push(label);
        loops.push(Loop { layout: Layout::Wholes, body: Some(body), label });
    }
    let done = ops.new_label();
    let stack = emitter.verified.facts().stack[0].next_multiple_of(8);
    let frame = Frame::new(stack + 8 + CONTEXT as u32, SAVED);
    ops.reserve();
    frame.enter(ops);
    dispatch(ops, &cases, &labels, done);
    ops.reserve();
    dynasm!(ops; .arch x64; =>done);
    frame.leave(ops);
    dynasm!(ops; .arch x64; ret);
    for one in &loops {
        let label = one.label;
        dynasm!(ops; .arch x64; .align 16; =>label);
        match &one.body {
            Some(body) => {
                let left = vector::emit(ops, one.layout, body);
                scalar::emit(ops, one.layout, body, left)?;
            }
            None => emit_calls(emitter, ops, one.layout),
        }
        ops.reserve();
        dynasm!(ops; .arch x64; jmp =>done);
    }
    Ok(taken)
}

/// The body for strings, if it reads nothing of them but `whole`.
fn strings_by_whole(cases: &[Case], labels: &[Label], loops: &[Loop]) -> Option<Body> {
    let of = |ty| cases.iter().position(|&case| case == Case { layout: abi::DUCKBPF_KEYS_CTX, ty });
    let label = labels[of(Some(abi::DUCKBPF_TYPE_VARCHAR)).or_else(|| of(None))?];
    let body = loops.iter().find(|one| one.label == label)?.body.as_ref()?;
    body.reads_only_whole().then(|| body.clone())
}

fn cases(emitter: &Emitter<'_>, asks_type: bool) -> Vec<Case> {
    let wanted = emitter.verified.object().hash_types.unwrap_or(u64::MAX);
    let types = if asks_type { 0..abi::DUCKBPF_TYPE_COUNT } else { 0..0 };
    let by_type = types.filter(|ty| wanted >> ty & 1 != 0).map(|ty| Case { layout: layout_of_type(ty), ty: Some(ty) });
    let any_type = (0..=abi::DUCKBPF_KEYS_CTX).filter(|&layout| !asks_type || layout == abi::DUCKBPF_KEYS_CTX);
    by_type.chain(any_type.map(|layout| Case { layout, ty: None })).collect()
}

/// Finds the loop for a batch, with its registers set.
fn dispatch(ops: &mut Assembler, cases: &[Case], labels: &[Label], done: Label) {
    let (keys, out) = (batch_field!(keys), batch_field!(out));
    let (count, layout, ty) = (batch_field!(count), batch_field!(layout), batch_field!(type_));
    ops.reserve();
    store(ops, Size::D, BATCH, Src::Reg(RDI));
    dynasm!(ops; .arch x64
        ; mov r12, [rdi + keys]
        ; mov r9, [rdi + out]
        ; mov r10, [rdi + count]
        ; test r10, r10
        ; jz =>done
        ; lea r10, [r9 + r10 * 8]
        ; mov eax, [rdi + layout]
        ; shl eax, 8
        ; mov ecx, eax
        ; or ecx, [rdi + ty]
    );
    for (case, &label) in cases.iter().zip(labels) {
        ops.reserve();
        let layout = (case.layout << 8) as i32;
        match case.ty {
            Some(ty) => dynasm!(ops; .arch x64; cmp ecx, layout | ty as i32; je =>label),
            None => dynasm!(ops; .arch x64; cmp eax, layout; je =>label),
        }
    }
    ops.reserve();
    // No host does this. If one did, 0 for every key would be slow, but right.
    dynasm!(ops; .arch x64; mov rdi, r9; mov rcx, r10; sub rcx, r9; shr rcx, 3; xor eax, eax; rep stosq);
}

/// A context on the stack for each key, unless it is one, and a call.
fn emit_calls(emitter: &Emitter<'_>, ops: &mut Assembler, layout: Layout) {
    let again = ops.new_label();
    dynasm!(ops; .arch x64; mov r13, r9; mov r14, r10; =>again);
    let mut context = Place { base: KEY, off: 0 };
    if layout != Layout::Contexts {
        context = MADE;
        for (field, size) in [(LO, Size::D), (HI, Size::D), (WHOLE, Size::D), (LEN, Size::W), (TYPE, Size::W)] {
            ops.reserve();
            scalar::read_field(ops, layout, R11, field, size, scalar::Extension { signed: false, key: 0 });
            store(ops, size, Place { off: MADE.off + field as i32, ..MADE }, Src::Reg(R11));
        }
    }
    ops.reserve();
    lea(ops, RDI, context);
    emitter.call(ops, 0);
    dynasm!(ops; .arch x64
        ; mov [r13], rax
        ; add r13, 8
        ; add r12, layout.stride()
        ; cmp r13, r14
        ; jb =>again
    );
}

/// r11 = the batch; then a field of it.
fn read_batch(ops: &mut Assembler, dst: u8, offset: u32, size: Size, signed: bool) {
    let field = if offset < TYPE { batch_field!(len) } else { batch_field!(type_) };
    load(ops, Size::D, false, R11, BATCH);
    load(ops, size, signed, dst, Place { base: R11, off: field + (offset % 4) as i32 });
}
