//! Loops that work on eight keys a turn, four in a register: AVX2.
//!
//! For bodies without branches whose operations AVX2 has or that a few of its instructions make up: addition, bits, shifts by
//! constants, and multiplication out of 32-bit halves. The keys that do not fill a turn are the scalar loop's.

use dynasm::dynasm;

use super::{
    HI, LEN, Layout,
    body::{Body, Source, Step},
    read_batch,
};
use crate::{
    isa::{Alu, Reg, Size, Width},
    jit::{
        assembler::Assembler,
        templates::{R11, constant},
    },
};

/// Scratch of the operations.
const T: u8 = 14;
const U: u8 = 15;
/// Registers for values and constants.
const ROOM: usize = 14;
const KEYS_A_TURN: i32 = 8;
/// The lower half of a number.
const LOWER: u64 = 0xffff_ffff;

/// What waits in a register, the same for all keys.
#[derive(Clone, Copy, PartialEq)]
enum Item {
    Const(u64),
    Batch { offset: u32, size: Size },
}

/// Which of BPF's registers and which constants lie where: values from 0 up, items behind them.
#[derive(Default)]
struct Plan {
    values: Vec<Reg>,
    items: Vec<Item>,
}

impl Plan {
    /// None: the body is not for AVX2.
    fn new(body: &Body) -> Option<Plan> {
        let mut plan = Plan::default();
        for &step in &body.steps {
            plan.admit(step)?;
        }
        (plan.values.contains(&0) && plan.values.len() + plan.items.len() <= ROOM).then_some(plan)
    }

    fn admit(&mut self, step: Step) -> Option<()> {
        match step {
            Step::Field { offset, size, signed, dst } => {
                if offset >= LEN && !signed {
                    self.item(Item::Batch { offset, size });
                } else if offset >= LEN || signed && size != Size::D {
                    return None;
                } else if size == Size::W {
                    self.item(Item::Const(LOWER));
                }
                self.value(dst);
            }
            Step::Const { dst, value } => {
                self.item(Item::Const(value));
                self.value(dst);
            }
            Step::Alu { op, width, dst, src } => self.admit_alu(op, width, dst, src)?,
            Step::Neg { dst, width } => {
                self.item(Item::Const(0));
                if width == Width::W32 {
                    self.item(Item::Const(LOWER));
                }
                self.value(dst);
            }
            Step::Mark(_) => {}
            _ => return None,
        }
        Some(())
    }

    fn admit_alu(&mut self, op: Alu, width: Width, dst: Reg, src: Source) -> Option<()> {
        if width == Width::W32 {
            // The upper halves are cleared with it.
            self.item(Item::Const(LOWER));
        }
        self.value(dst);
        match (op, src) {
            (Alu::Add | Alu::Sub | Alu::Or | Alu::And | Alu::Xor | Alu::Mul | Alu::Mov, Source::Reg(reg)) => {
                self.value(reg)
            }
            (Alu::Mul, Source::Const(by)) => {
                self.item(Item::Const(by));
                if width == Width::W64 && by >> 32 != 0 {
                    self.item(Item::Const(by >> 32));
                }
            }
            (Alu::Add | Alu::Sub | Alu::Or | Alu::And | Alu::Xor, Source::Const(value)) => {
                self.item(Item::Const(value))
            }
            (Alu::Lsh | Alu::Rsh, Source::Const(_)) => {}
            (Alu::Arsh, Source::Const(_)) if width == Width::W32 => {}
            _ => return None,
        }
        Some(())
    }

    fn value(&mut self, reg: Reg) {
        if !self.values.contains(&reg) {
            self.values.push(reg);
        }
    }

    fn item(&mut self, item: Item) {
        if !self.items.contains(&item) {
            self.items.push(item);
        }
    }

    fn of(&self, reg: Reg) -> u8 {
        self.values.iter().position(|&known| known == reg).unwrap_or(0) as u8
    }

    fn waiting(&self, item: Item) -> u8 {
        (self.values.len() + self.items.iter().position(|&known| known == item).unwrap_or(0)) as u8
    }

    fn constant(&self, value: u64) -> u8 {
        self.waiting(Item::Const(value))
    }

    fn emit_items(&self, ops: &mut Assembler) {
        for &item in &self.items {
            let to = self.waiting(item);
            ops.reserve();
            match item {
                Item::Const(0) => {
                    dynasm!(ops; .arch x64; vpxor Rx(to), Rx(to), Rx(to));
                    continue;
                }
                Item::Const(value) => constant(ops, R11, value),
                Item::Batch { offset, size } => read_batch(ops, R11, offset, size, false),
            }
            dynasm!(ops; .arch x64; vmovq Rx(to), r11; vpbroadcastq Ry(to), Rx(to));
        }
    }
}

/// The loop for as many keys as fill turns; false: there is none.
pub fn emit(ops: &mut Assembler, layout: Layout, body: &Body) -> bool {
    if layout == Layout::Contexts || !body.is_straight() || !is_x86_feature_detected!("avx2") {
        return false;
    }
    let Some(plan) = Plan::new(body) else { return false };
    let (again, rest) = (ops.new_label(), ops.new_label());
    let (keys, out) = (KEYS_A_TURN * layout.stride(), 8 * KEYS_A_TURN);
    ops.reserve();
    dynasm!(ops; .arch x64; lea r11, [r9 + out]; cmp r11, r10; ja =>rest);
    plan.emit_items(ops);
    dynasm!(ops; .arch x64; .align 16; =>again);
    for first in (0..KEYS_A_TURN).step_by(4) {
        four(ops, layout, body, &plan, first);
    }
    ops.reserve();
    dynasm!(ops; .arch x64
        ; add r12, keys
        ; add r9, out
        ; lea r11, [r9 + out]
        ; cmp r11, r10
        ; jbe =>again
        ; vzeroupper
        ; =>rest
    );
    true
}

/// Four keys of a turn, and their hashes stored.
fn four(ops: &mut Assembler, layout: Layout, body: &Body, plan: &Plan, first: i32) {
    let mut steps = body.steps.as_slice();
    while let [step, rest @ ..] = steps {
        steps = rest;
        ops.reserve();
        // A shift takes its operand from anywhere.
        if let (
            &Step::Alu { op: Alu::Mov, width: Width::W64, dst, src: Source::Reg(src) },
            Some(&Step::Alu { op, width: Width::W64, dst: again, src: Source::Const(count) }),
        ) = (step, rest.first())
            && dst == again
            && matches!(op, Alu::Lsh | Alu::Rsh)
        {
            shift(ops, op, plan.of(dst), plan.of(src), count);
            steps = &rest[1..];
            continue;
        }
        emit_step(ops, layout, plan, *step, first);
    }
    let result = plan.of(0);
    ops.reserve();
    match layout {
        // Pairs come apart as keys 0, 2, 1, 3.
        Layout::Pairs => {
            dynasm!(ops; .arch x64; vpermq Ry(T), Ry(result), BYTE 0xd8u8 as i8; vmovdqu [r9 + 8 * first], Ry(T))
        }
        _ => dynasm!(ops; .arch x64; vmovdqu [r9 + 8 * first], Ry(result)),
    }
}

fn emit_step(ops: &mut Assembler, layout: Layout, plan: &Plan, step: Step, first: i32) {
    match step {
        Step::Field { dst, offset, size, .. } if offset >= LEN => {
            let (to, from) = (plan.of(dst), plan.waiting(Item::Batch { offset, size }));
            dynasm!(ops; .arch x64; vmovdqa Ry(to), Ry(from));
        }
        Step::Field { dst, offset, size, .. } => field(ops, layout, plan, plan.of(dst), (offset, size), first),
        Step::Const { dst, value } => {
            let (to, from) = (plan.of(dst), plan.constant(value));
            dynasm!(ops; .arch x64; vmovdqa Ry(to), Ry(from));
        }
        Step::Neg { width, dst } => {
            let (to, zero) = (plan.of(dst), plan.constant(0));
            dynasm!(ops; .arch x64; vpsubq Ry(to), Ry(zero), Ry(to));
            clear_upper(ops, plan, width, to);
        }
        Step::Alu { op, width, dst, src } => emit_alu(ops, plan, op, width, plan.of(dst), src),
        _ => {}
    }
}

/// to = a field of four keys, zero-extended; the keys themselves as their layout says.
fn field(ops: &mut Assembler, layout: Layout, plan: &Plan, to: u8, (offset, size): (u32, Size), first: i32) {
    let at = first * layout.stride();
    match layout {
        // dynasm wants bytes and words in a register first.
        Layout::Integers(Size::B, signed) => {
            dynasm!(ops; .arch x64; vmovd Rx(to), DWORD [r12 + at]);
            match signed {
                true => dynasm!(ops; .arch x64; vpmovsxbq Ry(to), Rx(to)),
                false => dynasm!(ops; .arch x64; vpmovzxbq Ry(to), Rx(to)),
            }
        }
        Layout::Integers(Size::H, signed) => {
            dynasm!(ops; .arch x64; vmovq Rx(to), QWORD [r12 + at]);
            match signed {
                true => dynasm!(ops; .arch x64; vpmovsxwq Ry(to), Rx(to)),
                false => dynasm!(ops; .arch x64; vpmovzxwq Ry(to), Rx(to)),
            }
        }
        Layout::Integers(Size::W, true) => dynasm!(ops; .arch x64; vpmovsxdq Ry(to), OWORD [r12 + at]),
        Layout::Integers(Size::W, false) => dynasm!(ops; .arch x64; vpmovzxdq Ry(to), OWORD [r12 + at]),
        Layout::Integers(Size::D, _) | Layout::Wholes | Layout::Contexts => {
            dynasm!(ops; .arch x64; vmovdqu Ry(to), [r12 + at])
        }
        Layout::Pairs => {
            dynasm!(ops; .arch x64; vmovdqu Ry(T), [r12 + at]; vmovdqu Ry(U), [r12 + at + 32]);
            match offset < HI {
                true => dynasm!(ops; .arch x64; vpunpcklqdq Ry(to), Ry(T), Ry(U)),
                false => dynasm!(ops; .arch x64; vpunpckhqdq Ry(to), Ry(T), Ry(U)),
            }
        }
    }
    let shift = (8 * (offset % 8)) as i8;
    if shift != 0 {
        shift_right(ops, to, to, shift);
    }
    match size {
        Size::D => {}
        Size::W => clear_upper(ops, plan, Width::W32, to),
        size => {
            let shift = (64 - size.bits()) as i8;
            dynasm!(ops; .arch x64; vpsllq Ry(to), Ry(to), shift);
            shift_right(ops, to, to, shift);
        }
    }
}

fn clear_upper(ops: &mut Assembler, plan: &Plan, width: Width, to: u8) {
    if width == Width::W32 {
        let lower = plan.constant(LOWER);
        dynasm!(ops; .arch x64; vpand Ry(to), Ry(to), Ry(lower));
    }
}

fn shift(ops: &mut Assembler, op: Alu, to: u8, from: u8, count: u64) {
    let count = (count & 63) as i8;
    match op {
        Alu::Lsh => dynasm!(ops; .arch x64; vpsllq Ry(to), Ry(from), count),
        _ => shift_right(ops, to, from, count),
    }
}

/// to = from >> count. dynasm writes its 128-bit form whatever the registers, so this is VEX.256.66.0F 73 /2 ib by hand.
fn shift_right(ops: &mut Assembler, to: u8, from: u8, count: i8) {
    let not_b = if from < 8 { 0x20 } else { 0 };
    ops.extend([0xc4, 0xc1 | not_b, (!to & 0xf) << 3 | 0b101, 0x73, 0xd0 | from & 7, count as u8]);
}

fn emit_alu(ops: &mut Assembler, plan: &Plan, op: Alu, width: Width, to: u8, src: Source) {
    let from = match src {
        Source::Reg(reg) => plan.of(reg),
        Source::Const(value) => plan.constant(value),
    };
    match (op, src) {
        (Alu::Add, _) => dynasm!(ops; .arch x64; vpaddq Ry(to), Ry(to), Ry(from)),
        (Alu::Sub, _) => dynasm!(ops; .arch x64; vpsubq Ry(to), Ry(to), Ry(from)),
        (Alu::Or, _) => dynasm!(ops; .arch x64; vpor Ry(to), Ry(to), Ry(from)),
        (Alu::And, _) => dynasm!(ops; .arch x64; vpand Ry(to), Ry(to), Ry(from)),
        (Alu::Xor, _) => dynasm!(ops; .arch x64; vpxor Ry(to), Ry(to), Ry(from)),
        (Alu::Mov, _) => dynasm!(ops; .arch x64; vmovdqa Ry(to), Ry(from)),
        (Alu::Mul, _) if width == Width::W32 => dynasm!(ops; .arch x64; vpmuludq Ry(to), Ry(to), Ry(from)),
        (Alu::Mul, Source::Const(by)) if by >> 32 == 0 => multiply(ops, to, from, None),
        (Alu::Mul, Source::Const(by)) => multiply(ops, to, from, Some(plan.constant(by >> 32))),
        (Alu::Mul, Source::Reg(_)) => {
            shift_right(ops, U, from, 32);
            multiply(ops, to, from, Some(U));
        }
        (Alu::Arsh, Source::Const(count)) => dynasm!(ops; .arch x64; vpsrad Ry(to), Ry(to), (count & 31) as i8),
        (Alu::Rsh, Source::Const(count)) if width == Width::W32 => {
            clear_upper(ops, plan, width, to);
            shift(ops, op, to, to, count & 31);
            return;
        }
        (_, Source::Const(count)) if width == Width::W32 => shift(ops, op, to, to, count & 31),
        (_, Source::Const(count)) => shift(ops, op, to, to, count),
        _ => {}
    }
    clear_upper(ops, plan, width, to);
}

/// to *= by, of which `upper` holds the upper halves; None: they are 0. to may be by.
fn multiply(ops: &mut Assembler, to: u8, by: u8, upper: Option<u8>) {
    shift_right(ops, T, to, 32);
    dynasm!(ops; .arch x64; vpmuludq Ry(T), Ry(T), Ry(by));
    if let Some(upper) = upper {
        dynasm!(ops; .arch x64; vpmuludq Ry(U), Ry(to), Ry(upper); vpaddq Ry(T), Ry(T), Ry(U));
    }
    dynasm!(ops; .arch x64; vpsllq Ry(T), Ry(T), 32; vpmuludq Ry(to), Ry(to), Ry(by); vpaddq Ry(to), Ry(to), Ry(T));
}
