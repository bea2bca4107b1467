//! What an object declares, for tools that make code or text from it: nothing is checked or compiled.

use std::path::Path;

use crate::{
    hook::Hook,
    object::{self, MapDef, ObjectError, Type},
};

/// The declarations of an object.
#[derive(Clone, Debug)]
pub struct Declared {
    pub license: Option<String>,
    pub programs: Vec<DeclaredProgram>,
    /// Those of `.maps`.
    pub maps: Vec<MapDef>,
    /// Global variables.
    pub variables: Vec<DeclaredVariable>,
}

#[derive(Clone, Debug)]
pub struct DeclaredProgram {
    /// Its function.
    pub symbol: String,
    pub section: String,
    pub hook: Hook,
    /// `SEC("?...")`: not attached unless asked for.
    pub optional: bool,
    /// Slots of eight bytes, its functions included.
    pub slots: usize,
}

#[derive(Clone, Debug)]
pub struct DeclaredVariable {
    pub name: String,
    /// The section that it lies in: `.rodata`, `.data`, `.bss`.
    pub section: String,
    /// Programs may write to it.
    pub writable: bool,
    /// What it begins with.
    pub initial: Vec<u8>,
    /// None: the object was built without -g.
    pub ty: Option<Type>,
}

/// Reads what an object declares.
pub fn inspect(path: &Path) -> Result<Declared, ObjectError> {
    let object = object::parse(&object::read(path)?)?;
    let programs = object.programs.iter().map(|program| DeclaredProgram {
        symbol: program.symbol.clone(),
        section: program.section.clone(),
        hook: program.hook,
        optional: program.optional,
        slots: program.insns.len(),
    });
    let variables = object.variables.iter().map(|variable| {
        let region = &object.regions[variable.region];
        let start = (variable.offset as usize).min(region.bytes.len());
        let end = (start + variable.size as usize).min(region.bytes.len());
        let mut initial = region.bytes[start..end].to_vec();
        initial.resize(variable.size as usize, 0);
        let (name, ty) = (variable.name.clone(), variable.ty.clone());
        DeclaredVariable { name, section: region.name.clone(), writable: region.writable, initial, ty }
    });
    Ok(Declared {
        programs: programs.collect(),
        variables: variables.collect(),
        maps: object.maps.iter().filter(|map| map.region.is_none()).cloned().collect(),
        license: object.license,
    })
}
