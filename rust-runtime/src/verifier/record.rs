//! What a walk leaves behind beside its verdict: the annotated log, and, for tests, every state that it was in.

use std::fmt::Write;

use super::{need::Need, rejection::Place, state::State, value::Value};
use crate::{isa::Op, object::ProgramText};

/// Bytes of log that are kept.
const MAX_LOG: usize = 16 << 20;
/// States that are kept, some KB each.
const MAX_RECORDS: usize = 100_000;

/// The state before a visit of an instruction.
#[derive(Debug)]
#[cfg_attr(not(any(test, feature = "testing")), expect(dead_code, reason = "tests read it"))]
pub struct Record {
    pub pc: usize,
    pub state: State,
    /// What followed needed of it; nothing, if it was not explored to an end.
    pub need: Need,
}

/// Takes notes, if asked to.
#[derive(Debug, Default)]
pub struct Recorder {
    pub records: Option<Vec<Record>>,
    pub log: Option<String>,
    /// There were more states than are kept.
    pub is_cut: bool,
}

impl Recorder {
    pub fn logging() -> Recorder {
        Recorder { log: Some(String::new()), ..Recorder::default() }
    }

    #[cfg(any(test, feature = "testing"))]
    pub fn recording() -> Recorder {
        Recorder { records: Some(Vec::new()), ..Recorder::default() }
    }

    /// The number of the visit; 0: not recorded.
    pub fn visit(&mut self, pc: usize, state: &State) -> u32 {
        let Some(records) = &mut self.records else { return 0 };
        if records.len() == MAX_RECORDS {
            self.is_cut = true;
            return 0;
        }
        let (frames, handles, counters) = (state.frames.clone(), state.handles.clone(), state.counters.clone());
        let state = State { frames, handles, counters, ..State::default() };
        records.push(Record { pc, state, need: Need::default() });
        records.len() as u32
    }

    pub fn needed(&mut self, record: u32, need: &Need) {
        if let (Some(records), Some(index)) = (&mut self.records, (record as usize).checked_sub(1)) {
            records[index].need.clone_from(need);
        }
    }

    /// To come back to.
    pub fn mark(&self) -> u32 {
        self.records.as_ref().map_or(0, |records| records.len() as u32)
    }

    pub fn take_back(&mut self, mark: u32) {
        if let Some(records) = &mut self.records {
            records.truncate(mark as usize);
        }
    }

    /// The walk begins again.
    pub fn clear(&mut self) {
        self.records.iter_mut().for_each(Vec::clear);
        self.log.iter_mut().for_each(String::clear);
        self.is_cut = false;
    }

    /// A line of the log: the instruction, and the registers after it.
    pub fn line(&mut self, program: &ProgramText, pc: usize, op: Op, state: &State) {
        let Some(log) = self.log.as_mut().filter(|log| log.len() < MAX_LOG) else { return };
        let place = Place::new(program, pc, op.to_string());
        let _ = write!(log, "{}+{}: {}", place.function, place.instruction, place.text);
        if let Some(line) = &place.line {
            let _ = write!(log, "  ; {}:{}", line.file, line.line);
        }
        let frame = state.top();
        let _ = write!(log, "\n   ");
        for (reg, value) in frame.regs.iter().enumerate().filter(|(reg, value)| *reg < 10 && **value != Value::Unset) {
            let _ = write!(log, " r{reg}={value}");
        }
        for (cell, value) in frame.stack.spills() {
            let _ = write!(log, " [r10-{}]={value}", 4 * (cell + 1));
        }
        log.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hook::Hook,
        testing::asm::assemble,
        verifier::{check, rules, walk::Options},
    };

    fn log_of(text: &str) -> String {
        let object = assemble(text).expect("it assembles").object;
        let mut recorder = Recorder::logging();
        let _ = check(&object, 0, &rules::rules(Hook::Load), Options::default(), &mut recorder);
        recorder.log.expect("it is written")
    }

    #[test]
    fn the_log_tells_what_is_known_after_each_instruction() {
        let log = log_of("hook load\nr2 = *(u64 *)(r1 + 48)\nr2 &= 3\n*(u64 *)(r10 - 16) = r2\nr0 = 0\nexit");
        let expected = "\
main+0: r2 = *(u64 *)(r1 + 0x30)
    r1=pointer to context r2=any number
main+1: r2 &= 0x3
    r1=pointer to context r2=0..=3
main+2: *(u64 *)(r10 - 0x10) = r2
    r1=pointer to context r2=0..=3 [r10-16]=0..=3
main+3: r0 = 0x0
    r0=0 r1=pointer to context r2=0..=3 [r10-16]=0..=3
main+4: exit
    r0=0 r1=pointer to context r2=0..=3 [r10-16]=0..=3
";
        assert_eq!(log, expected);
    }

    /// A walk that is refused where ways went on as one is done over.
    #[test]
    fn the_log_is_of_the_last_walk() {
        let log = log_of(
            "hook load\nr3 = *(u64 *)(r1 + 32)\nr7 = 1\nif r3 == 0 goto other\ngoto meet\nother: r7 = 2\nr4 = *(u64 *)(r1 + 40)\n\
             if r4 == 0 goto bad\nmeet: r0 = 0\nr0 = 0\n@poke r7\nr0 = 0\nexit\nbad: r0 = *(u8 *)(r10 - 1)\nexit",
        );
        assert_eq!(log.matches("main+0:").count(), 1, "{log}");
    }
}
