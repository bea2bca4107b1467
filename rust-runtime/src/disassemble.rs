//! Objects as text, for whoever wants to see what became of their C (feature `disasm`).

use std::{path::Path, sync::Arc};

use crate::{
    error::{Error, Problem},
    helpers::Env,
    jit,
    maps::store::Store,
    object::{self, Memory},
    verifier,
};

/// Bytecode and machine code of every program of an object, side by side.
pub fn disassemble(path: &Path) -> Result<String, Error> {
    let in_object = |source| Problem::Object { path: path.to_owned(), source };
    let bytes = object::read(path).map_err(in_object)?;
    let object = Arc::new(object::parse(&bytes).map_err(in_object)?);
    let memory = Memory::new(&object.regions).map_err(|source| Problem::Memory { path: path.to_owned(), source })?;
    // Maps of its own, that no program uses.
    let bindings = Store::new(Box::new(|| {})).bind(&object, memory, &[]);
    let bindings = bindings.map_err(|source| Problem::Maps { path: path.to_owned(), source })?;
    let mut listings = Vec::new();
    for (index, text) in object.programs.iter().enumerate() {
        let verified = verifier::verify(&object, index, text.hook);
        let verified = verified.map_err(|rejection| Problem::Rejected { path: path.to_owned(), rejection })?;
        let in_code = |source| Problem::Compile { path: path.to_owned(), source };
        let program = jit::compile(verified, bindings.clone(), Env::detached()).map_err(in_code)?;
        listings.push(jit::listing(&program).map_err(in_code)?);
    }
    Ok(listings.join("\n"))
}
