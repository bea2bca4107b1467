//! Loops that work on one key after the other, several a turn.
//!
//! Constants that no instruction can hold, and what the batch says of all keys, wait in registers that the body does not use.

use dynasm::dynasm;

use super::{
    HI, KEY, LEN, Layout, OUT, WHOLE,
    body::{Body, END, Source, Step},
    read_batch,
};
use crate::{
    isa::{Alu, Size, Width},
    jit::{
        assembler::{Assembler, Label},
        templates::{
            Place, R11, RAX, RCX, RDI, RDX, RSI, Src, alu, branch, byte_order, constant, goto, load, mov_sx, negate,
            store, x86,
        },
    },
};

/// Registers that a loop may use.
const REGISTERS: [u8; 10] = [RAX, RCX, RDX, 3, RSI, RDI, 8, 13, 14, 15];

/// What waits in a register.
#[derive(Clone, Copy, PartialEq)]
enum Item {
    Const(u64),
    /// A field of the batch.
    Batch {
        offset: u32,
        size: Size,
        signed: bool,
    },
}

/// What waits where.
struct Hoisted(Vec<(Item, u8)>);

impl Hoisted {
    fn new(layout: Layout, body: &Body) -> Hoisted {
        let used = body.steps.iter().fold(1, |used, step| used | step.reads() | step.written() | step.clobbered());
        let used: u16 = (0..10).filter(|reg| used & 1 << reg != 0).fold(0, |set, reg| set | 1 << x86(reg));
        let mut free = REGISTERS.into_iter().filter(|reg| used & 1 << reg == 0);
        let mut hoisted = Hoisted(Vec::new());
        for item in body.steps.iter().filter_map(|&step| Item::of(step, layout)) {
            if hoisted.find(item).is_none()
                && let Some(reg) = free.next()
            {
                hoisted.0.push((item, reg));
            }
        }
        hoisted
    }

    fn find(&self, item: Item) -> Option<u8> {
        self.0.iter().find(|(known, _)| *known == item).map(|&(_, reg)| reg)
    }

    fn emit(&self, ops: &mut Assembler) {
        for &(item, reg) in &self.0 {
            ops.reserve();
            match item {
                Item::Const(value) => constant(ops, reg, value),
                Item::Batch { offset, size, signed } => read_batch(ops, reg, offset, size, signed),
            }
        }
    }

    fn source(&self, ops: &mut Assembler, width: Width, source: Source) -> Src {
        match (source, width) {
            (Source::Reg(reg), _) => Src::Reg(x86(reg)),
            (Source::Const(value), Width::W32) => Src::Imm(value as i32),
            (Source::Const(value), Width::W64) => match i32::try_from(value as i64) {
                Ok(imm) => Src::Imm(imm),
                Err(_) => Src::Reg(self.find(Item::Const(value)).unwrap_or_else(|| {
                    constant(ops, R11, value);
                    R11
                })),
            },
        }
    }
}

impl Item {
    fn of(step: Step, layout: Layout) -> Option<Item> {
        let wide = |value: u64| i32::try_from(value as i64).is_err().then_some(Item::Const(value));
        match step {
            // No shift needs more than its lower bits.
            Step::Alu { width: Width::W64, op, src: Source::Const(value), .. } if !is_shift(op) => wide(value),
            Step::Branch { width: Width::W64, src: Source::Const(value), .. }
            | Step::Store { size: Size::D, src: Source::Const(value), .. } => wide(value),
            Step::Const { value, .. } if value > u64::from(u32::MAX) => wide(value),
            Step::Field { offset, size, signed, .. } if offset >= LEN && layout != Layout::Contexts => {
                Some(Item::Batch { offset, size, signed })
            }
            _ => None,
        }
    }
}

fn is_shift(op: Alu) -> bool {
    matches!(op, Alu::Lsh | Alu::Rsh | Alu::Arsh)
}

/// The loop, or, after a vector's, what does for the keys that it left.
pub fn emit(ops: &mut Assembler, layout: Layout, body: &Body, is_rest: bool) -> Result<(), String> {
    let hoisted = Hoisted::new(layout, body);
    let unrolled = match body.steps.len() {
        _ if is_rest || !body.is_straight() => 1,
        ..=32 => 4,
        33..=64 => 2,
        _ => 1,
    };
    let done = ops.new_label();
    ops.reserve();
    if is_rest {
        dynasm!(ops; .arch x64; cmp r9, r10; jae =>done);
    }
    hoisted.emit(ops);
    if unrolled > 1 {
        let (again, rest) = (ops.new_label(), ops.new_label());
        let (keys, out) = (unrolled * layout.stride(), 8 * unrolled);
        ops.reserve();
        dynasm!(ops; .arch x64; lea r11, [r9 + out]; cmp r11, r10; ja =>rest; .align 16; =>again);
        for key in 0..unrolled {
            one(ops, layout, body, &hoisted, key)?;
        }
        ops.reserve();
        dynasm!(ops; .arch x64
            ; add r12, keys
            ; add r9, out
            ; lea r11, [r9 + out]
            ; cmp r11, r10
            ; jbe =>again
            ; =>rest
            ; cmp r9, r10
            ; jae =>done
        );
    }
    let again = ops.new_label();
    dynasm!(ops; .arch x64; =>again);
    one(ops, layout, body, &hoisted, 0)?;
    ops.reserve();
    dynasm!(ops; .arch x64; add r12, layout.stride(); add r9, 8; cmp r9, r10; jb =>again; =>done);
    Ok(())
}

/// The body for one key of a turn, and its hash stored.
fn one(ops: &mut Assembler, layout: Layout, body: &Body, hoisted: &Hoisted, key: i32) -> Result<(), String> {
    let end = ops.new_label();
    let mut marks: Vec<(usize, Label)> = vec![(END, end)];
    for &step in &body.steps {
        if let Step::Mark(mark) = step {
            marks.push((mark, ops.new_label()));
        }
    }
    let label =
        |to| marks.iter().find(|(mark, _)| *mark == to).map(|&(_, label)| label).ok_or("a jump that leads nowhere");
    for &step in &body.steps {
        ops.reserve();
        match step {
            Step::Mark(mark) => {
                let here = label(mark)?;
                dynasm!(ops; .arch x64; =>here);
            }
            Step::Goto { to } => goto(ops, false, label(to)?),
            Step::Branch { cond, width, dst, src, to } => {
                let src = hoisted.source(ops, width, src);
                branch(ops, cond, width, x86(dst), src, false, label(to)?);
            }
            step => plain(ops, layout, step, hoisted, key),
        }
    }
    ops.reserve();
    dynasm!(ops; .arch x64; =>end);
    store(ops, Size::D, Place { base: OUT, off: 8 * key }, Src::Reg(RAX));
    Ok(())
}

fn plain(ops: &mut Assembler, layout: Layout, step: Step, hoisted: &Hoisted, key: i32) {
    match step {
        Step::Field { dst, offset, size, signed } => match hoisted.find(Item::Batch { offset, size, signed }) {
            Some(reg) => alu(ops, Alu::Mov, Width::W64, x86(dst), Src::Reg(reg)),
            None => read_field(ops, layout, x86(dst), offset, size, Extension { signed, key }),
        },
        Step::Const { dst, value } => match hoisted.find(Item::Const(value)) {
            Some(reg) => alu(ops, Alu::Mov, Width::W64, x86(dst), Src::Reg(reg)),
            None => constant(ops, x86(dst), value),
        },
        Step::Alu { op, width, dst, src } if is_shift(op) => {
            let src = match src {
                Source::Reg(reg) => Src::Reg(x86(reg)),
                Source::Const(count) => Src::Imm((count & 63) as i32),
            };
            alu(ops, op, width, x86(dst), src);
        }
        Step::Alu { op, width, dst, src } => {
            let src = hoisted.source(ops, width, src);
            alu(ops, op, width, x86(dst), src);
        }
        Step::MovSx { width, bits, dst, src } => mov_sx(ops, width, bits, x86(dst), x86(src)),
        Step::Neg { width, dst } => negate(ops, width, x86(dst)),
        Step::Order { order, bits, dst } => byte_order(ops, order, bits, x86(dst)),
        Step::Load { size, signed, dst, base, off } => {
            load(ops, size, signed, x86(dst), Place { base: x86(base), off: off.into() });
        }
        Step::Store { size, base, off, src } => {
            let src = hoisted.source(ops, if size == Size::D { Width::W64 } else { Width::W32 }, src);
            store(ops, size, Place { base: x86(base), off: off.into() }, src);
        }
        Step::Inlined(inlined) => inlined.emit(ops),
        Step::Branch { .. } | Step::Goto { .. } | Step::Mark(_) => {}
    }
}

/// How a field is extended, and of which key of the turn.
#[derive(Clone, Copy)]
pub struct Extension {
    pub signed: bool,
    pub key: i32,
}

/// dst = what a load from the context would give.
pub fn read_field(ops: &mut Assembler, layout: Layout, dst: u8, offset: u32, size: Size, how: Extension) {
    let Extension { signed, key } = how;
    let at = Place { base: KEY, off: key * layout.stride() };
    let field = Place { off: at.off + offset as i32, ..at };
    match (layout, offset) {
        (Layout::Contexts, _) | (Layout::Pairs, ..WHOLE) => load(ops, size, signed, dst, field),
        (Layout::Wholes, WHOLE..LEN) => {
            load(ops, size, signed, dst, Place { off: field.off - WHOLE as i32, ..field });
        }
        (Layout::Integers(of, _), ..HI) if offset + size.bytes() <= of.bytes() => load(ops, size, signed, dst, field),
        (Layout::Integers(of, extend), ..HI) => {
            load(ops, of, extend, dst, at);
            if offset != 0 {
                alu(ops, Alu::Rsh, Width::W64, dst, Src::Imm(8 * offset as i32));
            }
            if extend {
                narrow(ops, size, signed, dst);
            }
        }
        (_, ..LEN) => constant(ops, dst, 0),
        _ => read_batch(ops, dst, offset, size, signed),
    }
}

/// The lower bytes of a register, extended.
fn narrow(ops: &mut Assembler, size: Size, signed: bool, reg: u8) {
    match (size, signed) {
        (Size::D, _) => {}
        (Size::W, false) => alu(ops, Alu::Mov, Width::W32, reg, Src::Reg(reg)),
        (size, true) => mov_sx(ops, Width::W64, size.bits() as u8, reg, reg),
        (Size::H, false) => dynasm!(ops; .arch x64; movzx Rd(reg), Rw(reg)),
        (Size::B, false) => dynasm!(ops; .arch x64; movzx Rd(reg), Rb(reg)),
    }
}
