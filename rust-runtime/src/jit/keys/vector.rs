//! Loops that work on eight keys a turn, four in a register: AVX2.
//!
//! For bodies without branches whose operations AVX2 has or that a few of its instructions make up: addition, bits, shifts by
//! constants, and multiplication out of 32-bit halves, or by the instruction for it where the processor has AVX-512. The keys that do
//! not fill a turn are the scalar loop's.

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
    /// By vpmullq, with no halves.
    multiplies: bool,
}

impl Plan {
    /// None: the body is not for AVX2.
    fn new(layout: Layout, body: &Body) -> Option<Plan> {
        let mut plan = Plan { multiplies: multiplies(), ..Plan::default() };
        for &step in &body.steps {
            plan.admit(layout, step)?;
        }
        (plan.values.contains(&0) && plan.values.len() + plan.items.len() <= ROOM).then_some(plan)
    }

    fn admit(&mut self, layout: Layout, step: Step) -> Option<()> {
        match step {
            Step::Field { offset, size, signed, dst } => {
                if offset >= LEN && !signed {
                    self.item(Item::Batch { offset, size });
                } else if offset >= LEN || signed && size != Size::D {
                    return None;
                } else if size == Size::W && !layout.is_key(offset, size) {
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
                if width == Width::W64 && by >> 32 != 0 && !self.multiplies {
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

/// Whether the processor has vpmullq: AVX-512 with its shorter registers.
fn multiplies() -> bool {
    #[cfg(test)]
    if WITHOUT_AVX512.get() {
        return false;
    }
    is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl")
}

#[cfg(test)]
thread_local! {
    /// Compiles as for a processor that has AVX2 alone.
    pub static WITHOUT_AVX512: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// The loop for as many keys as fill turns; false: there is none.
pub fn emit(ops: &mut Assembler, layout: Layout, body: &Body) -> bool {
    if layout == Layout::Contexts || !body.is_straight() || !is_x86_feature_detected!("avx2") {
        return false;
    }
    let Some(plan) = Plan::new(layout, body) else { return false };
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
    // What was just written, and where its upper half is known to lie.
    let mut upper = None;
    while let [step, rest @ ..] = steps {
        ops.reserve();
        if let Some(folded) = Folded::find(steps) {
            upper = folded.emit(ops, plan);
            steps = &steps[folded.len()..];
            continue;
        }
        match *step {
            Step::Alu { op: Alu::Mul, width: Width::W64, dst, src } => {
                let upper = upper.filter(|(known, _)| *known == dst).map_or(Upper::Unknown, |(_, upper)| upper);
                multiply_by(ops, plan, plan.of(dst), src, upper);
            }
            step => emit_step(ops, layout, plan, step, first),
        }
        upper = match *step {
            Step::Field { dst, offset, size, signed: false } if offset < LEN && size != Size::D => {
                Some((dst, Upper::Zero))
            }
            _ => None,
        };
        steps = rest;
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

/// The upper half of a number, for whoever multiplies it.
#[derive(Clone, Copy)]
enum Upper {
    Unknown,
    Zero,
    /// A register that holds it.
    In(u8),
}

/// Steps that become fewer instructions together: registers of AVX take operands from anywhere.
enum Folded {
    /// `b = a; b = b shifted`
    Shift { op: Alu, to: Reg, from: Reg, count: u64 },
    /// `b = a; b >>= 32; b ^= a`, or `a ^= b`: what the exclusive or leaves has the upper half that a had.
    Mix { shifted: Reg, from: Reg, to: Reg },
}

impl Folded {
    fn find(steps: &[Step]) -> Option<Folded> {
        let [
            Step::Alu { op: Alu::Mov, width: Width::W64, dst: to, src: Source::Reg(from) },
            Step::Alu { op: op @ (Alu::Lsh | Alu::Rsh), width: Width::W64, dst: again, src: Source::Const(count) },
            rest @ ..,
        ] = steps
        else {
            return None;
        };
        let (shifted, from) = (*to, *from);
        if shifted != *again || shifted == from {
            return None;
        }
        let halves = *op == Alu::Rsh && *count == 32;
        match rest.first() {
            Some(&Step::Alu { op: Alu::Xor, width: Width::W64, dst: to, src: Source::Reg(other) })
                if halves && [(shifted, from), (from, shifted)].contains(&(to, other)) =>
            {
                Some(Folded::Mix { shifted, from, to })
            }
            _ => Some(Folded::Shift { op: *op, to: shifted, from, count: *count }),
        }
    }

    /// Steps that it stands for.
    fn len(&self) -> usize {
        match self {
            Folded::Shift { .. } => 2,
            Folded::Mix { .. } => 3,
        }
    }

    fn emit(&self, ops: &mut Assembler, plan: &Plan) -> Option<(Reg, Upper)> {
        match *self {
            Folded::Shift { op, to, from, count } => {
                shift(ops, op, plan.of(to), plan.of(from), count);
                None
            }
            Folded::Mix { shifted, from, to } => {
                let upper = if to == shifted { T } else { plan.of(shifted) };
                let (to_x, from) = (plan.of(to), plan.of(from));
                shift_right(ops, upper, from, 32);
                dynasm!(ops; .arch x64; vpxor Ry(to_x), Ry(upper), Ry(from));
                Some((to, Upper::In(upper)))
            }
        }
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
    if layout.is_key(offset, size) {
        return;
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

/// to *= by. dynasm knows no AVX-512, so this is EVEX.256.66.0F38.W1 40 /r by hand.
fn vpmullq(ops: &mut Assembler, to: u8, by: u8) {
    let extension = |reg: u8, bit: u8| if reg < 8 { 1 << bit } else { 0 };
    let registers = extension(to, 7) | 1 << 6 | extension(by, 5) | 1 << 4;
    ops.extend([0x62, registers | 0b010, 0x85 | (!to & 0xf) << 3, 0x28, 0x40, 0xc0 | (to & 7) << 3 | by & 7]);
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
        (Alu::Mul, _) => return multiply_by(ops, plan, to, src, Upper::Unknown),
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

/// to *= src, of all 64 bits.
fn multiply_by(ops: &mut Assembler, plan: &Plan, to: u8, src: Source, of_to: Upper) {
    match src {
        _ if plan.multiplies => {
            let by = match src {
                Source::Reg(reg) => plan.of(reg),
                Source::Const(by) => plan.constant(by),
            };
            vpmullq(ops, to, by);
        }
        Source::Const(by) if by >> 32 == 0 => multiply(ops, to, plan.constant(by), of_to, None),
        Source::Const(by) => multiply(ops, to, plan.constant(by), of_to, Some(plan.constant(by >> 32))),
        Source::Reg(reg) => {
            let by = plan.of(reg);
            shift_right(ops, U, by, 32);
            multiply(ops, to, by, of_to, Some(U));
        }
    }
}

/// to *= by, of which `of_by` holds the upper halves; None: they are 0. to may be by.
fn multiply(ops: &mut Assembler, to: u8, by: u8, of_to: Upper, of_by: Option<u8>) {
    let of_to = match of_to {
        Upper::Zero => None,
        Upper::In(upper) => Some(upper),
        Upper::Unknown => {
            shift_right(ops, T, to, 32);
            Some(T)
        }
    };
    match (of_to, of_by) {
        (None, None) => return dynasm!(ops; .arch x64; vpmuludq Ry(to), Ry(to), Ry(by)),
        (Some(upper), None) => dynasm!(ops; .arch x64; vpmuludq Ry(T), Ry(upper), Ry(by)),
        (None, Some(of_by)) => dynasm!(ops; .arch x64; vpmuludq Ry(T), Ry(to), Ry(of_by)),
        (Some(upper), Some(of_by)) => dynasm!(ops; .arch x64
            ; vpmuludq Ry(T), Ry(upper), Ry(by)
            ; vpmuludq Ry(U), Ry(to), Ry(of_by)
            ; vpaddq Ry(T), Ry(T), Ry(U)
        ),
    }
    dynasm!(ops; .arch x64; vpsllq Ry(T), Ry(T), 32; vpmuludq Ry(to), Ry(to), Ry(by); vpaddq Ry(to), Ry(to), Ry(T));
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    #[test]
    fn instructions_by_hand_are_what_they_say() {
        for (to, by) in [(0, 2), (3, 12), (9, 1), (13, 13)] {
            let mut ops = Assembler::new(0, 0);
            vpmullq(&mut ops, to, by);
            shift_right(&mut ops, to, by, 32);
            ops.finish().unwrap();
            let code = ops.bytes();
            let said: Vec<String> =
                Decoder::new(64, code, DecoderOptions::NONE).iter().map(|insn| insn.to_string()).collect();
            let expected = [format!("vpmullq ymm{to},ymm{to},ymm{by}"), format!("vpsrlq ymm{to},ymm{by},20h")];
            assert_eq!(said, expected);
        }
    }
}
