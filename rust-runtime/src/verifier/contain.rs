//! Whether what a program does lies in what was believed of it: for fuzzing.
//!
//! Every visit of an instruction is recorded with what the rest of the way needed of its state. At each step of a run there must
//! be a record that holds the concrete state in all that was needed: registers and cells that are read later are of the kind that
//! was believed, and numbers that decided something lie in their ranges. Numbers with one symbol must agree on its value.
//!
//! In the exact mode states are compared in everything, and everything must hold: what nothing depends on too.

use std::{cell::Cell as Hint, sync::Arc};

pub use super::walk::Options;
use super::{
    Verified, check,
    need::FrameNeed,
    record::{Record, Recorder},
    rejection::Rejection,
    rules::rules,
    stack::{CELL, Cell, Stack},
    value::{Id, Num, Pointer, Target, Value},
};
use crate::{
    hook::Hook,
    object::Object,
    vm::{self, Origin, Place, View, Watch},
};

/// What was believed at every instruction.
#[derive(Debug)]
pub struct Beliefs {
    records: Vec<Record>,
    /// By slot: its records.
    at: Vec<Vec<u32>>,
    /// Nothing is left out of the comparison.
    exact: bool,
    /// Every state is here.
    whole: bool,
    /// By function: its first slot.
    starts: Vec<usize>,
}

/// Verifies a program and keeps what was believed.
pub fn verify(
    object: &Arc<Object>,
    index: usize,
    hook: Hook,
    options: Options,
) -> (Result<Verified, Box<Rejection>>, Beliefs) {
    let mut recorder = Recorder::recording();
    let result = check(object, index, &rules(hook), options, &mut recorder).map(|(graph, facts)| Verified {
        object: object.clone(),
        index,
        hook,
        graph,
        facts,
    });
    let whole = !recorder.is_cut;
    let records = recorder.records.unwrap_or_default();
    let program = &object.programs[index];
    let mut at = vec![Vec::new(); program.insns.len()];
    for (number, record) in records.iter().enumerate() {
        at[record.pc].push(number as u32);
    }
    let starts = program.functions.iter().map(|function| function.start).collect();
    (result, Beliefs { records, at, exact: options.exact, whole, starts })
}

/// Watches a run for a state that nobody believed possible.
#[derive(Debug)]
pub struct Watcher<'a> {
    beliefs: &'a Beliefs,
    /// The record that held last time, at any slot: the next one is often near.
    hint: Hint<usize>,
    /// The first state that no record holds.
    pub miss: Option<String>,
}

impl Beliefs {
    /// False: there were more states than are kept, so that nobody can say whether one is missing.
    pub fn is_whole(&self) -> bool {
        self.whole
    }
}

impl<'a> Watcher<'a> {
    pub fn new(beliefs: &'a Beliefs) -> Watcher<'a> {
        Watcher { beliefs, hint: Hint::new(0), miss: None }
    }
}

impl Watch for Watcher<'_> {
    fn before(&mut self, view: &View<'_>) {
        if self.miss.is_some() || !self.beliefs.whole {
            return;
        }
        let records = self.beliefs.at.get(view.pc).map_or(&[][..], Vec::as_slice);
        let first = records.partition_point(|&record| (record as usize) < self.hint.get());
        let (before, after) = records.split_at(first);
        for &number in after.iter().chain(before.iter().rev()) {
            if self.beliefs.holds(&self.beliefs.records[number as usize], view).is_ok() {
                return self.hint.set(number as usize);
            }
        }
        let misfit = |&number: &u32| {
            let record = &self.beliefs.records[number as usize];
            self.beliefs.holds(record, view).err().map(|misfit| misfit.explain(record, view))
        };
        let why: Vec<String> = records.iter().filter_map(misfit).take(4).collect();
        self.miss = Some(format!("at instruction {}: no state holds {:?}: {}", view.pc, view.regs, why.join("; ")));
    }
}

/// The values of symbols that a state's numbers imply.
#[derive(Default)]
struct Symbols(Vec<(Id, u64)>);

impl Symbols {
    /// False: two numbers disagree.
    fn agree(&mut self, number: &Num, value: u64) -> bool {
        if number.link.symbol == 0 || number.link.scale != 1 {
            return true;
        }
        let symbol = value.wrapping_sub(number.link.add as u64);
        match self.0.iter().find(|(id, _)| *id == number.link.symbol) {
            Some((_, known)) => *known == symbol,
            None => {
                self.0.push((number.link.symbol, symbol));
                true
            }
        }
    }
}

/// Where a state and a record differ. It becomes words only where no record holds: most comparisons end with one.
#[derive(Clone, Copy, Debug)]
enum Misfit {
    Frames,
    Call,
    Register { frame: usize, reg: usize },
    Cell { frame: usize, cell: usize },
}

impl Misfit {
    fn explain(self, record: &Record, view: &View<'_>) -> String {
        match self {
            Misfit::Frames => "another number of frames".into(),
            Misfit::Call => "another call".into(),
            Misfit::Register { frame, reg } => {
                let (believed, actual) = (&record.state.frames[frame].regs[reg], register(view, frame, reg));
                format!("r{reg} of frame {frame}: {actual:?} is not {believed}")
            }
            Misfit::Cell { frame, cell } => {
                let actual = word(view, &view.frames[frame], place(cell), 4);
                let believed = record.state.frames[frame].stack.get(cell);
                format!("stack of frame {frame}: cell {cell}: {actual:?} is not {believed:?}")
            }
        }
    }
}

/// What a state is compared with, and what was found out about its symbols.
struct Comparison<'a> {
    view: &'a View<'a>,
    starts: &'a [usize],
    symbols: Symbols,
}

impl Beliefs {
    fn holds(&self, record: &Record, view: &View<'_>) -> Result<(), Misfit> {
        let frames = &record.state.frames;
        if frames.len() != view.frames.len() {
            return Err(Misfit::Frames);
        }
        let mut comparison = Comparison { view, starts: &self.starts, symbols: Symbols::default() };
        for (index, (frame, actual)) in frames.iter().zip(view.frames).enumerate() {
            if index > 0 && frame.call != actual.called_at {
                return Err(Misfit::Call);
            }
            let need =
                if self.exact { FrameNeed::ALL } else { record.need.frames.get(index).copied().unwrap_or_default() };
            for reg in (0..10).filter(|reg| need.regs & 1 << reg != 0) {
                let Some(actual) = register(view, index, reg) else { continue };
                let is_exact = need.exact & 1 << reg != 0;
                if !comparison.value(&frame.regs[reg], actual, is_exact) {
                    return Err(Misfit::Register { frame: index, reg });
                }
            }
            for cell in bits(need.cells) {
                let is_exact = need.exact_cells & 1 << cell != 0;
                if !comparison.cell(&frame.stack, cell, is_exact, actual) {
                    return Err(Misfit::Cell { frame: index, cell });
                }
            }
        }
        Ok(())
    }
}

impl Comparison<'_> {
    fn value(&mut self, believed: &Value, actual: vm::Value, is_exact: bool) -> bool {
        let is_null = actual == vm::Value::number(0);
        match believed {
            Value::Unset => true,
            Value::Number(number) => {
                actual.is_number()
                    && (!is_exact || number.range.contains(actual.bits) && self.symbols.agree(number, actual.bits))
            }
            Value::Pointer(pointer) => {
                pointer.null != 0 && is_null || points_there(pointer, actual, self.view, &mut self.symbols)
            }
            Value::Map { map, null } => {
                *null != 0 && is_null
                    || match actual.origin {
                        Origin::Map(index) => (index, false) == (map.index, map.inner),
                        Origin::InnerMap(index) => (index, true) == (map.index, map.inner),
                        _ => false,
                    }
            }
            Value::Function(function) => actual.origin == Origin::Function(self.starts[*function as usize] as u32),
            Value::BufferEnd => matches!(actual.origin, Origin::Pointer(_)),
        }
    }

    fn cell(&mut self, stack: &Stack, cell: usize, is_exact: bool, actual: &vm::Frame) -> bool {
        let at = place(cell);
        match stack.get(cell) {
            Cell::Bytes { written, zero } => (0..4).filter(|place| written & 1 << place != 0).all(|place| {
                let byte = self.view.memory.stack_byte(actual.stack, at + place);
                let is_zero = is_exact && zero & 1 << place != 0;
                byte.is_some_and(|byte| !is_zero || byte == 0)
            }),
            Cell::Word(number) => {
                let value = word(self.view, actual, at, 4);
                value.is_some_and(|value| self.value(&Value::Number(**number), value, is_exact))
            }
            Cell::Low(believed) => {
                let value = word(self.view, actual, at, 8);
                value.is_some_and(|value| self.value(believed, value, is_exact))
            }
            // With the cell below.
            Cell::High => true,
        }
    }
}

/// A cell's first byte, from the stack's lower end.
fn place(cell: usize) -> usize {
    512 - CELL as usize * (cell + 1)
}

/// The places of the bits that are set, the lowest first.
fn bits(mut set: u128) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = set.trailing_zeros() as usize;
        set &= set.wrapping_sub(1);
        (lowest < 128).then_some(lowest)
    })
}

/// A register of a frame; None: nobody knows.
fn register(view: &View<'_>, frame: usize, reg: usize) -> Option<vm::Value> {
    if frame + 1 == view.frames.len() {
        return Some(view.regs[reg]);
    }
    let saved = &view.frames[frame + 1].saved;
    reg.checked_sub(6).and_then(|place| saved.get(place)).copied()
}

/// Bytes of a stack as one value.
fn word(view: &View<'_>, frame: &vm::Frame, at: usize, bytes: usize) -> Option<vm::Value> {
    if bytes == 8 && at.is_multiple_of(8) {
        return view.memory.stack_slot(frame.stack, at / 8);
    }
    let mut value = 0;
    for place in (0..bytes).rev() {
        value = value << 8 | u64::from(view.memory.stack_byte(frame.stack, at + place)?);
    }
    Some(vm::Value::number(value))
}

fn points_there(pointer: &Pointer, actual: vm::Value, view: &View<'_>, symbols: &mut Symbols) -> bool {
    let Some((region, offset)) = view.memory.offset(actual) else { return false };
    let place = view.memory.region(region).place;
    let offset = if matches!(pointer.to, Target::Stack(_)) { offset - 512 } else { offset };
    let is_there = match (pointer.to, place) {
        (Target::Context, Place::Context) | (Target::Buffer, Place::Buffer { .. }) => true,
        (Target::Stack(frame), Place::Stack(actual)) => usize::from(frame) == actual,
        (Target::MapValue(map), Place::Global { region, .. }) => map.index == region,
        (Target::MapValue(map), Place::MapValue(index)) => map.inner || map.index == index,
        (Target::MapKey(map), Place::MapKey(index)) => map.index == index,
        (Target::Record(size), Place::Record(_)) => view.memory.region(region).bytes.len() == size as usize,
        _ => false,
    };
    is_there && pointer.offset.range.contains(offset as u64) && symbols.agree(&pointer.offset, offset as u64)
}
