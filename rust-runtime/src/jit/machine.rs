//! Machine code in memory: what becomes of a program on x86-64.

use super::{Error, Runs, Strings, check_processor, emit, memory::Code, symbols, symbols::Announced};
use crate::{helpers::Env, maps::store::Bindings, verifier::Verified};

#[derive(Debug)]
pub struct Machine {
    /// Before the code: debuggers forget it first.
    _announced: Announced,
    code: Code,
    /// Offsets in the code.
    entry: usize,
    tail_entry: usize,
    hash_batch: Option<usize>,
    strings: Strings,
}

impl Machine {
    pub fn new(verified: &Verified, bindings: &Bindings, env: &'static Env) -> Result<Machine, Error> {
        check_processor()?;
        let assembled = emit::assemble(verified, bindings, env, false).map_err(Error::Assemble)?;
        let code = Code::new(assembled.bytes())?;
        let announced = symbols::announce(&verified.text().symbol, code.address(), code.bytes().len());
        Ok(Machine {
            _announced: announced,
            code,
            entry: assembled.entry,
            tail_entry: assembled.tail_entry,
            hash_batch: assembled.hash_batch,
            strings: assembled.strings,
        })
    }
}

impl Runs for Machine {
    fn entry(&self) -> usize {
        self.code.address() + self.entry
    }

    fn tail_entry(&self) -> usize {
        self.code.address() + self.tail_entry
    }

    fn hash_batch(&self) -> Option<usize> {
        self.hash_batch.map(|offset| self.code.address() + offset)
    }

    fn strings(&self) -> Strings {
        self.strings
    }

    fn code(&self) -> &[u8] {
        self.code.bytes()
    }
}
