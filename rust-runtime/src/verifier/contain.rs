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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        helpers::Env,
        testing::{asm::assemble, fuzz::Random},
        vm::{Code, Input, Machine, Quiet},
    };

    /// Size, as the context's number at 48.
    const SIZE: u64 = 5;

    /// Verifies one program and runs another: what it does that was not believed of the first. Both have the same slots.
    fn missed_by(options: Options, believed: &str, done: &str) -> Option<String> {
        let [believed, done] = [believed, done].map(|text| assemble(text).expect("it assembles").object);
        assert_eq!(believed.programs[0].insns.len(), done.programs[0].insns.len());
        let (result, beliefs) = verify(&believed, 0, Hook::Load, options);
        result.unwrap_or_else(|rejection| panic!("{rejection:#}"));
        assert!(beliefs.is_whole());
        let mut context = vec![0; std::mem::size_of::<duckbpf_abi::duckbpf_load_ctx>()];
        context[48..56].copy_from_slice(&SIZE.to_le_bytes());
        let code = Code::new(&done.programs[0].insns, &done.maps, &done.regions);
        let mut watcher = Watcher::new(&beliefs);
        let mut quiet = Quiet;
        // What it does wrong ends it: nobody verified it.
        let _ =
            Machine::new(&code, Env::detached(), &mut quiet).run(&Input { context, ..Input::default() }, &mut watcher);
        watcher.miss
    }

    /// A program that does what is in place of `X`: it does what is believed, and something else is missed.
    #[track_caller]
    fn told_apart(text: &str, believed: &str, done: &str) {
        let with = |what: &str| text.replace('X', what);
        assert_eq!(missed_by(Options::default(), &with(believed), &with(believed)), None);
        let miss = missed_by(Options::default(), &with(believed), &with(done));
        assert!(miss.is_some(), "{done} passes as {believed}");
    }

    const OUT: &str = "r0 = 0\nexit";

    #[test]
    fn numbers_that_decide_are_in_their_ranges() {
        for (believed, done) in [("r2 = 3", "r2 = 4"), ("r2 = *(u64 *)(r1 + 48)\nr2 &= 7", "r2 = 8\nr2 &= 15")] {
            told_apart(&format!("X\n@poke r2\n{OUT}"), believed, done);
        }
        let (three, four) =
            (format!("r2 = 3\n@poke r2\n@poke r2\n{OUT}"), format!("r2 = 4\n@poke r2\n@poke r2\n{OUT}"));
        let miss = missed_by(Options::default(), &three, &four).expect("it is missed");
        assert!(miss.starts_with("at instruction 1:"), "the first of all: {miss}");
        // Nothing depends on it.
        let (three, four) = (format!("r2 = 3\nr3 = r2\n{OUT}"), format!("r2 = 4\nr3 = r2\n{OUT}"));
        assert_eq!(missed_by(Options::default(), &three, &four), None);
        let exact = Options { exact: true, ..Options::default() };
        assert_eq!(missed_by(exact, &three, &three), None);
        assert!(missed_by(exact, &three, &four).is_some_and(|miss| miss.contains("r2 of frame 0")));
    }

    #[test]
    fn numbers_of_one_symbol_agree() {
        let numbers = format!("r2 = *(u64 *)(r1 + 48)\nr2 &= 7\nX\n@poke r2\n@poke r3\n{OUT}");
        told_apart(&numbers, "r3 = r2\nr3 += 0", "r3 = 1\nr3 += 0");
        let moved = numbers.replace("@poke r3", "r3 -= 2\n@poke r3").replace("r2 &= 7", "r2 &= 5");
        told_apart(&moved, "r3 = r2\nr3 += 2", "r3 = r2\nr3 += 3");
        // A multiple is linked too, but nobody says which.
        let multiple = numbers.replace("@poke r3", "r3 >>= 1\n@poke r3");
        told_apart(&multiple, "r3 = r2\nr3 *= 2", "r3 = 99\nr3 *= 2");
    }

    #[test]
    fn what_is_read_of_the_stack_is_there() {
        told_apart(&format!("X\nr2 = *(u8 *)(r10 - 3)\n{OUT}"), "*(u8 *)(r10 - 3) = 7", "*(u8 *)(r10 - 4) = 7");
        // Of bytes by themselves only those matter that are believed to be written.
        let part = format!("X\nr2 = *(u8 *)(r10 - 3)\n{OUT}");
        told_apart(&part, "*(u8 *)(r10 - 3) = 7\n*(u8 *)(r10 - 8) = 7", "*(u8 *)(r10 - 4) = 7\n*(u8 *)(r10 - 8) = 7");
        told_apart(
            &format!("X\nr2 = *(u8 *)(r10 - 3)\n@poke r2\n{OUT}"),
            "*(u8 *)(r10 - 3) = 0",
            "*(u8 *)(r10 - 3) = 1",
        );
        told_apart(
            &format!("X\nr2 = *(u32 *)(r10 - 4)\n@poke r2\n{OUT}"),
            "*(u32 *)(r10 - 4) = 5",
            "*(u32 *)(r10 - 4) = 6",
        );
        told_apart(
            &format!("X\nr2 = *(u64 *)(r10 - 8)\n@poke r2\n{OUT}"),
            "*(u64 *)(r10 - 8) = 5",
            "*(u64 *)(r10 - 8) = 6",
        );
        let [five, six] =
            ["5", "6"].map(|of| format!("*(u64 *)(r10 - 8) = {of}\nr2 = *(u64 *)(r10 - 8)\n@poke r2\n{OUT}"));
        let miss = missed_by(Options::default(), &five, &six).expect("it is missed");
        assert!(miss.starts_with("at instruction 1:"), "before it is read: {miss}");
        // Nothing depends on it.
        let [five, six] = ["5", "6"].map(|of| format!("*(u64 *)(r10 - 8) = {of}\nr2 = *(u64 *)(r10 - 8)\n{OUT}"));
        assert_eq!(missed_by(Options::default(), &five, &six), None);
        assert!(missed_by(Options { exact: true, ..Options::default() }, &five, &six).is_some());
    }

    #[test]
    fn pointers_point_where_they_should() {
        let read = format!("*(u64 *)(r10 - 8) = 0\n*(u64 *)(r10 - 16) = 0\nX\nr0 = *(u64 *)(r2 + 0)\n{OUT}");
        told_apart(&read, "r2 = r10\nr2 += -8", "r2 = r10\nr2 += -16");
        told_apart(&read, "r2 = r10\nr2 += -8", "r2 = r1\nr2 += 48");
        told_apart(&read, "r2 = r1\nr2 += 48", "r2 = r10\nr2 += -8");
        told_apart(&read, "r2 = r10\nr2 += -8", "r2 = 7\nr2 += -8");
        told_apart(&format!("X\nr3 = 1\nr2 += 1\n{OUT}"), "r2 = 8", "r2 = r1");
        let variables = format!("data .a 8\ndata .b 8\nX\n*(u64 *)(r2 + 0) = 1\n{OUT}");
        told_apart(&variables, "r2 = .a[0] ll", "r2 = .b[0] ll");
        let varies = "r3 = *(u64 *)(r1 + 48)\nr3 &= 7\nr2 = r10\nr2 += -16\nr2 += r3\nX\n*(u8 *)(r2 + 0) = 1\n*(u8 *)(r4 + 0) = 1";
        told_apart(&format!("{varies}\n{OUT}"), "r4 = r2\nr4 += 1", "r4 = r2\nr4 += 2");
        let spilled = format!("r3 = r10\nr4 = r1\nX\nr2 = *(u64 *)(r10 - 8)\nr2 = *(u64 *)(r2 + 48)\n{OUT}");
        told_apart(&spilled, "*(u64 *)(r10 - 8) = r4", "*(u64 *)(r10 - 8) = r3");
    }

    #[test]
    fn what_may_be_null_is_told_from_what_is_not() {
        let map = "map m hash 4 8 16\n@lookup m";
        let checked = format!("{map}\nif X goto some\n{OUT}\nsome: r2 = *(u64 *)(r0 + 0)\n{OUT}");
        told_apart(&checked, "r0 != 0", "r0 == 0");
        let inner = "map outer array_of_maps 4 4 4 8 8\n*(u64 *)(r10 - 16) = 0\n@lookup outer";
        let inner =
            format!("{inner}\nif X goto some\n{OUT}\nsome: r1 = r0\nr2 = r10\nr2 += -16\ncall map_lookup_elem\n{OUT}");
        told_apart(&inner, "r0 != 0", "r0 == 0");
    }

    /// What a program does that is in no state, whatever lookups find.
    #[track_caller]
    fn found_whatever_is_there(text: &str) {
        let object = assemble(text).expect("it assembles").object;
        let (result, beliefs) = verify(&object, 0, Hook::Load, Options::default());
        let verified = result.unwrap_or_else(|rejection| panic!("{rejection:#}"));
        let code = Code::of(&verified);
        for seed in 0..50 {
            let (mut random, mut watcher) = (Random::new(seed), Watcher::new(&beliefs));
            let context = vec![0; std::mem::size_of::<duckbpf_abi::duckbpf_load_ctx>()];
            let ended = Machine::new(&code, Env::detached(), &mut random)
                .run(&Input { context, ..Input::default() }, &mut watcher);
            assert_eq!((ended.map(|_| ()), watcher.miss), (Ok(()), None), "{seed}");
        }
    }

    #[test]
    fn what_is_found_is_what_was_believed() {
        found_whatever_is_there(&format!(
            "map outer array_of_maps 4 4 4 8 8\n*(u64 *)(r10 - 16) = 0\n@lookup outer\nif r0 == 0 goto out\nr6 = r0\nr1 = r6\n\
             r2 = r10\nr2 += -16\ncall map_lookup_elem\nif r0 == 0 goto out\nr0 = *(u64 *)(r0 + 0)\nout: {OUT}"
        ));
        found_whatever_is_there(
            "map m hash 4 8 16\nr1 = map[m] ll\nr2 = function body ll\nr3 = 0\nr4 = 0\ncall for_each_map_elem\nr0 = 0\nexit\n\
             fn body\nr4 = *(u32 *)(r2 + 0)\nr5 = *(u64 *)(r3 + 0)\nr0 = 0\nexit",
        );
        found_whatever_is_there(&format!(
            "map events ringbuf 0 0 4096\n@reserve events 16\nif r0 == 0 goto out\n*(u64 *)(r0 + 8) = 1\n@submit r0\nout: {OUT}"
        ));
    }

    #[test]
    fn maps_and_functions_are_the_believed_ones() {
        let maps = "map a hash 4 8 16\nmap b hash 4 8 16\ndata .bss 8\n*(u32 *)(r10 - 4) = 0";
        let lookup = format!("{maps}\nX\nr2 = r10\nr2 += -4\ncall map_lookup_elem\n{OUT}");
        told_apart(&lookup, "r1 = map[a] ll", "r1 = map[b] ll");
        told_apart(&lookup, "r1 = map[a] ll", "r1 = .bss[0] ll");
        let rounds = "r1 = 2\nX\nr3 = 0\nr4 = 0\ncall loop\nr0 = 0\nexit\nfn one\nr0 = 0\nexit\nfn two\nr0 = 0\nexit";
        told_apart(rounds, "r2 = function one ll", "r2 = function two ll");
    }

    /// What was believed while a guess was tried out, or before a walk began again, does not count.
    #[test]
    fn beliefs_that_were_taken_back_are_forgotten() {
        let rounds = "r2 = 0\nloop: r2 += 1\nif r2 < 2000 goto loop\nr0 = 0\nexit";
        let object = assemble(rounds).expect("it assembles").object;
        let (result, beliefs) = verify(&object, 0, Hook::ScheduleTask, Options::default());
        assert_eq!(result.map(|_| ()).map_err(|rejection| rejection.to_string()), Ok(()));
        assert_eq!(beliefs.at.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1, 1, 1]);
        assert!(beliefs.is_whole());
    }

    /// Ten thousands of ways, none of which ends where another did.
    #[test]
    fn more_states_than_are_kept_are_not_compared() {
        let branch = |at: usize| {
            format!("r0 += r0\nr3 = r2\nr3 &= {}\nif r3 == 0 goto l{at}\nr0 += 1\nl{at}: r4 = 0\n", 1 << at)
        };
        let branches: String = (0..14).map(branch).collect();
        let text = format!("hook schedule_task\nr2 = *(u64 *)(r1 + 40)\nr0 = 1\n{branches}exit");
        let object = assemble(&text).expect("it assembles").object;
        let options = Options { exact: true, strict: true, ..Options::default() };
        let (result, beliefs) = verify(&object, 0, Hook::ScheduleTask, options);
        assert_eq!(result.map(|_| ()).map_err(|rejection| rejection.to_string()), Ok(()));
        assert!(!beliefs.is_whole());
        let mut watcher = Watcher::new(&beliefs);
        let mut quiet = Quiet;
        let code = Code::new(&object.programs[0].insns, &[], &[]);
        // The last way of all.
        let input = Input { context: vec![0; 128], ..Input::default() };
        let ended = Machine::new(&code, Env::detached(), &mut quiet).run(&input, &mut watcher);
        assert!(ended.is_ok() && watcher.miss.is_none());
    }

    #[test]
    fn frames_are_those_of_the_believed_calls() {
        let calls = "X\nr0 = 0\nexit\nfn one\nr0 = 1\nr0 = 2\nexit\nfn two\nX2\nr0 = 0\nexit".replace("X2", "call one");
        told_apart(&calls, "call two", "call one");
        told_apart(&calls, "call two\nr3 = 0", "r3 = 0\ncall two");
        told_apart(&calls, "call two\nr3 = 0", "call two\ncall one");
    }
}
