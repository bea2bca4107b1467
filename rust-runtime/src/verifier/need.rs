//! What the rest of a way depends on: which registers and cells it reads, and of which numbers the value matters.
//!
//! The walk notes what each instruction read and wrote. When a way ends, the notes are gone through backward, so that every
//! stored state knows what its continuation needed. Another state that agrees in that is covered by it.

use smallvec::SmallVec;

use super::{
    graph::{Graph, reads},
    planted::{Bug, on},
    stack::CELLS,
};
use crate::isa::{Alu, Atomic, Op, Operand, Reg};

/// What is needed of one frame: bit sets of registers and of cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameNeed {
    /// Read before they are written.
    pub regs: u16,
    /// Their numbers decided something.
    pub exact: u16,
    pub cells: u128,
    pub exact_cells: u128,
}

/// What an instruction does with registers, as bit sets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    /// It reads and sets no more than this says, but for its step's effects.
    is_plain: bool,
    reads: u16,
    written: u16,
    /// Those whose numbers the result is made of.
    sources: u16,
}

impl Flow {
    pub fn of(op: Op) -> Flow {
        let is_plain = !matches!(op, Op::Exit | Op::Local { .. } | Op::Branch { .. });
        let (written, sources) = flow(op);
        Flow { is_plain, reads: reads(op), written, sources }
    }
}

impl FrameNeed {
    /// From what is needed after a visit without effects to what is needed before it.
    fn back_over(&mut self, flow: &Flow, demand: u16) {
        let matters = self.exact & flow.written != 0;
        self.regs = self.regs & !flow.written | flow.reads | demand;
        self.exact = self.exact & !flow.written | if matters { flow.sources } else { 0 } | demand;
    }

    pub const ALL: FrameNeed = FrameNeed { regs: ALL_REGS, exact: ALL_REGS, cells: u128::MAX, exact_cells: u128::MAX };
}

/// What is needed of all frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Need {
    pub frames: SmallVec<[FrameNeed; 2]>,
}

/// What an instruction did to memory or to other registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    pub kind: EffectKind,
    pub frame: u8,
    /// Cells: first and last. Registers: the first only.
    pub first: u8,
    pub last: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EffectKind {
    #[default]
    None,
    /// Cells were read as numbers or pointers; a load passes its need of exactness on.
    Read,
    /// Cells were wholly overwritten.
    Write,
    /// Cells were perhaps, or in part, overwritten.
    Touch,
    /// A register or a cell was refined together with the branch's operands.
    LinkedReg,
    LinkedCell,
    /// The same of a pointer, whose offset matters wherever it is needed.
    LinkedPointer,
    LinkedPointerCell,
    /// The outcome depends on more than is noted.
    Everything,
}

/// A visit of an instruction.
#[derive(Clone, Debug)]
pub struct Step {
    pub pc: u32,
    /// The frame that executed it.
    pub frame: u8,
    /// Registers whose numbers decided something.
    pub demand: u16,
    effects: [Effect; 3],
    #[expect(clippy::box_collection, reason = "steps are many, and hardly one has more")]
    more: Option<Box<Vec<Effect>>>,
    /// Where the visit is recorded, for tests.
    pub record: u32,
}

impl Step {
    pub fn new(pc: usize, frame: usize) -> Step {
        Step { pc: pc as u32, frame: frame as u8, demand: 0, effects: Default::default(), more: None, record: 0 }
    }

    pub fn note(&mut self, effect: Effect) {
        match self.effects.iter_mut().find(|effect| effect.kind == EffectKind::None) {
            Some(free) => *free = effect,
            None => self.more.get_or_insert_default().push(effect),
        }
    }

    pub fn note_cells(&mut self, kind: EffectKind, frame: u8, cells: u128) {
        if cells != 0 {
            let (first, last) = (cells.trailing_zeros() as u8, (127 - cells.leading_zeros()) as u8);
            self.note(Effect { kind, frame, first, last });
        }
    }

    fn has_no_effects(&self) -> bool {
        self.effects[0].kind == EffectKind::None
    }

    pub fn effects(&self) -> impl Iterator<Item = &Effect> {
        let first = self.effects.iter().take_while(|effect| effect.kind != EffectKind::None);
        first.chain(self.more.iter().flat_map(|more| more.iter()))
    }
}

impl Effect {
    fn cells(&self) -> u128 {
        let up_to = |cell: u8| if usize::from(cell) >= CELLS - 1 { u128::MAX } else { (1u128 << (cell + 1)) - 1 };
        up_to(self.last) & !(up_to(self.first) >> 1)
    }
}

const ALL_REGS: u16 = 0x7ff;
/// Registers that a call takes as arguments.
const ARGUMENTS: u16 = 0x3e;

impl Need {
    /// Everything, of so many frames.
    pub fn all(frames: usize) -> Need {
        Need { frames: SmallVec::from_elem(FrameNeed::ALL, frames) }
    }

    /// Adds what another way needs. Frames that are not active here do not matter.
    pub fn add(&mut self, other: &Need, frames: usize) {
        self.frames.resize(frames, FrameNeed::default());
        for (frame, other) in self.frames.iter_mut().zip(&other.frames) {
            frame.regs |= other.regs;
            frame.exact |= other.exact;
            frame.cells |= other.cells;
            frame.exact_cells |= other.exact_cells;
        }
    }

    /// Whether what is compared is all that turned out to be needed.
    pub fn is_exact_for(&self, needed: &Need) -> bool {
        self.frames.iter().zip(&needed.frames).all(|(own, needed)| {
            needed.exact & own.regs & !own.exact == 0 && needed.exact_cells & !own.exact_cells == 0
        })
    }

    fn frame(&mut self, index: usize) -> &mut FrameNeed {
        if index >= self.frames.len() {
            self.frames.resize(index + 1, FrameNeed::default());
        }
        &mut self.frames[index]
    }

    /// From what is needed after a visit to what is needed before it.
    pub fn back(&mut self, step: &Step, graph: &Graph) {
        let frame = usize::from(step.frame);
        let flow = &graph.flows[step.pc as usize];
        if flow.is_plain && step.has_no_effects() {
            return self.frame(frame).back_over(flow, step.demand);
        }
        let op = graph.ops[step.pc as usize].unwrap_or(Op::Exit);
        match op {
            Op::Exit if frame > 0 => self.back_over_return(frame),
            Op::Local { .. } => self.back_over_call(frame),
            Op::Branch { dst, src, .. } => self.back_over_branch(step, frame, dst, src),
            op => self.back_over_plain(step, frame, op),
        }
        let needed = self.frame(frame);
        needed.regs |= graph.reads(op, frame) | step.demand;
        needed.exact |= step.demand;
        for effect in step.effects() {
            let needed = self.frame(usize::from(effect.frame));
            match effect.kind {
                EffectKind::Read => needed.cells |= effect.cells(),
                EffectKind::Everything => *self = Need::all(frame + 1),
                _ => {}
            }
        }
    }

    fn back_over_return(&mut self, frame: usize) {
        self.frames.truncate(frame);
        let caller = self.frame(frame - 1);
        let (read, exact) = (caller.regs & 1, caller.exact & 1);
        caller.regs &= !(ARGUMENTS | 1);
        caller.exact &= !(ARGUMENTS | 1);
        let callee = self.frame(frame);
        (callee.regs, callee.exact) = (read, exact);
    }

    fn back_over_call(&mut self, frame: usize) {
        let callee = self.frames.get(frame + 1).copied().unwrap_or_default();
        self.frames.truncate(frame + 1);
        let caller = self.frame(frame);
        caller.regs = caller.regs & !(ARGUMENTS | 1) | callee.regs & ARGUMENTS;
        caller.exact = caller.exact & !(ARGUMENTS | 1) | callee.exact & ARGUMENTS;
    }

    /// Operands matter if what was refined by them does.
    fn back_over_branch(&mut self, step: &Step, frame: usize, dst: Reg, src: Operand) {
        let operands = 1 << dst | if let Operand::Reg(src) = src { 1 << src } else { 0 };
        let mut matters = self.frame(frame).exact & operands != 0;
        for effect in step.effects() {
            let needed = self.frame(usize::from(effect.frame));
            matters |= match effect.kind {
                EffectKind::LinkedReg => needed.exact & 1 << effect.first != 0,
                EffectKind::LinkedCell => needed.exact_cells & effect.cells() != 0,
                _ if on(Bug::BoundedPointer) => false,
                EffectKind::LinkedPointer => needed.regs & 1 << effect.first != 0,
                EffectKind::LinkedPointerCell => needed.cells & effect.cells() != 0,
                _ => false,
            };
        }
        if matters {
            let needed = self.frame(frame);
            needed.exact |= operands;
        }
    }

    fn back_over_plain(&mut self, step: &Step, frame: usize, op: Op) {
        let (written, sources) = flow(op);
        let needed = self.frame(frame);
        let matters = needed.exact & written != 0;
        needed.regs &= !written;
        needed.exact &= !written;
        if matters {
            needed.exact |= sources;
        }
        for effect in step.effects() {
            let needed = self.frame(usize::from(effect.frame));
            let cells = effect.cells();
            match effect.kind {
                // What was loaded matters: so does what it was loaded from.
                EffectKind::Read if matters && matches!(op, Op::Load { .. } | Op::Atomic { .. }) => {
                    needed.exact_cells |= cells;
                }
                EffectKind::Write | EffectKind::Touch => {
                    let stored = needed.exact_cells & cells != 0;
                    if effect.kind == EffectKind::Write {
                        needed.cells &= !cells;
                        needed.exact_cells &= !cells;
                    }
                    if stored && let Op::Store { src: Operand::Reg(src), .. } | Op::Atomic { src, .. } = op {
                        self.frame(frame).exact |= 1 << src;
                    }
                }
                _ => {}
            }
        }
    }
}

/// Registers that an instruction sets, and those whose numbers the result is made of.
fn flow(op: Op) -> (u16, u16) {
    let bit = |operand: Operand| if let Operand::Reg(reg) = operand { 1 << reg } else { 0 };
    match op {
        Op::Alu { op: Alu::Mov, dst, src, .. } => (1 << dst, bit(src)),
        Op::Alu { dst, src, .. } => (1 << dst, 1 << dst | bit(src)),
        Op::MovSx { dst, src, .. } => (1 << dst, 1 << src),
        Op::Neg { dst, .. } | Op::Order { dst, .. } => (1 << dst, 1 << dst),
        Op::Helper { .. } => (ARGUMENTS | 1, 0),
        Op::Atomic { op: Atomic::CmpXchg, .. } => (1, 1),
        op => (op.written().map_or(0, |reg| 1 << reg), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_name_their_cells() {
        let mut step = Step::new(0, 0);
        for cells in [0b1, 0b110, u128::MAX, 1 << 127] {
            step.note_cells(EffectKind::Read, 0, cells);
        }
        step.note_cells(EffectKind::Read, 0, 0);
        let noted: Vec<u128> = step.effects().map(Effect::cells).collect();
        assert_eq!(noted, [0b1, 0b110, u128::MAX, 1 << 127]);
    }
}
