//! Programs out of bytecode, without an object file: for benches.

use std::{
    ffi::c_void,
    ptr,
    sync::{Arc, OnceLock},
};

use duckbpf_abi::duckbpf_hash_batch;

use super::asm;
use crate::{
    helpers::Env,
    hook::Hook,
    isa::{Insn, SLOT},
    jit::{self, Program},
    maps::{
        Map,
        memory::Budget,
        store::{Bindings, DEFAULT_CEILING, Store},
    },
    object::{Function, Memory, Object, ProgramText},
    verifier::{self, Verified},
};

/// A program for a hook, and its maps.
#[derive(Debug)]
pub struct Bytecode {
    object: Arc<Object>,
    bindings: Bindings,
    hook: Hook,
}

/// Bytecode that was verified once.
#[derive(Debug)]
pub struct Checked<'a> {
    verified: Verified,
    bytecode: &'a Bytecode,
}

/// Machine code.
#[derive(Debug)]
pub struct Compiled(Program);

impl Bytecode {
    pub fn new(hook: Hook, code: &[u8]) -> Bytecode {
        let insns: Vec<Insn> = code.as_chunks::<SLOT>().0.iter().map(|slot| Insn::from_bytes(*slot)).collect();
        let function = Function { name: "main".into(), start: 0, end: insns.len() };
        let object = Arc::new(Object {
            license: None,
            programs: vec![ProgramText::from_insns(hook, insns, vec![function])],
            regions: Vec::new(),
            maps: Vec::new(),
            variables: Vec::new(),
            hash_types: None,
            hash_mixed: None,
        });
        Bytecode::bound(object, hook)
    }

    /// A program as text, see [`asm`]. Panics on what is none: benches know their programs.
    pub fn assemble(text: &str) -> Bytecode {
        let assembly = asm::assemble(text).unwrap_or_else(|error| panic!("{error}"));
        let Some(hook) = assembly.hook else { panic!("a program for no hook") };
        Bytecode::bound(assembly.object, hook)
    }

    fn bound(object: Arc<Object>, hook: Hook) -> Bytecode {
        let memory = Memory::new(&object.regions).unwrap_or_else(|error| panic!("{error}"));
        let store = Store::with_budget(Budget::new(DEFAULT_CEILING), Box::new(|| {}));
        let bindings = store.bind(&object, memory, &[]).unwrap_or_else(|error| panic!("{error}"));
        Bytecode { object, bindings, hook }
    }

    /// A map, by its name. Panics on one that the program does not have.
    pub fn map(&self, name: &str) -> &Arc<Map> {
        let map = self.bindings.maps().find(|map| map.def().name == name);
        map.unwrap_or_else(|| panic!("no map {name}"))
    }

    /// Panics on what the verifier refuses: benches know their programs.
    pub fn verify(&self) -> Checked<'_> {
        let verified = verifier::verify(&self.object, 0, self.hook);
        Checked { verified: verified.unwrap_or_else(|rejection| panic!("{rejection}")), bytecode: self }
    }

    pub fn compile(&self) -> Compiled {
        self.verify().compile()
    }
}

impl Checked<'_> {
    pub fn compile(self) -> Compiled {
        static ENV: OnceLock<&'static Env> = OnceLock::new();
        let env = ENV.get_or_init(|| Env::leak(super::host()));
        let program = jit::compile(self.verified, self.bytecode.bindings.clone(), env);
        Compiled(program.unwrap_or_else(|error| panic!("{error}")))
    }
}

impl Compiled {
    pub fn entry(&self) -> unsafe extern "C" fn(*mut c_void) -> u64 {
        self.0.entry()
    }

    pub fn call<C>(&self, context: &mut C) -> u64 {
        // SAFETY: benches give each program a context of its hook's size.
        unsafe { self.entry()(ptr::from_mut(context).cast()) }
    }

    /// Panics on a program for another hook.
    pub fn hash_keys(&self, batch: &duckbpf_hash_batch) {
        let Some(hash) = self.0.hash_batch() else { panic!("only hash programs hash") };
        // SAFETY: benches give valid batches.
        unsafe { hash(batch) }
    }

    pub fn code_bytes(&self) -> usize {
        self.0.code().len()
    }
}
