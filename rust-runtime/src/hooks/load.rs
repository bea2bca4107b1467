//! From a path to compiled programs, each phase timed: read, parse, check, compile.

use std::{
    any::Any,
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use sha2::{Digest, Sha256};

use super::{
    HookSet, Timings,
    gallery::{self, Gallery, is_gallery_name},
    quality,
};
use crate::{
    error::Problem,
    helpers::Env,
    hook::Hook,
    isa::{Insn, LDDW_MAP},
    jit::{self, Program},
    maps::{
        Body, Map,
        nested::Target,
        store::{BindError, Bindings, Store},
    },
    object::{self, Initial, MapKind, Memory, Object, Parameter, ProgramText},
    probes, verifier,
};

/// An object whose programs are compiled, attached nowhere yet.
pub struct Loaded {
    pub name: String,
    pub path: PathBuf,
    pub object: Arc<Object>,
    pub bindings: Bindings,
    pub programs: Vec<LoadedProgram>,
    pub targets: Targets,
}

/// Programs that others go on in, held by the maps that name them. They refer to these maps in turn: when this goes, the maps let go
/// of them. By then nobody may be in any of them.
#[derive(Debug)]
pub struct Targets(Vec<Arc<Map>>);

impl Drop for Targets {
    fn drop(&mut self) {
        for map in &self.0 {
            if let Body::Programs(programs) = map.body() {
                drop(programs.clear());
            }
        }
    }
}

/// What a load needs beside the file.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub env: &'static Env,
    pub store: &'a Store,
    pub gallery: Option<&'static dyn Gallery>,
    /// What is attached: an object of the same name hands its maps on.
    pub current: &'a HookSet,
    /// Constants that are set before the check.
    pub parameters: &'a [(String, Parameter)],
    /// With programs that are not attached unless asked for.
    pub optional: bool,
}

pub struct LoadedProgram {
    pub program: Program,
    pub tag: String,
    pub timings: Timings,
    /// Hash: the host need not mix its output.
    pub mixed: bool,
}

/// Reads, checks and compiles.
pub fn load(path: &Path, context: Context<'_>) -> Result<Loaded, Problem> {
    let name = program_name(path)?;
    let in_object = |source| Problem::Object { path: path.to_owned(), source };
    let (bytes, read_ns) = timed(|| gallery::read(path, context.gallery));
    let bytes = bytes?;
    let (object, parse_ns) = timed(|| object::parse(&bytes));
    let mut object = object.map_err(in_object)?;
    for (name, value) in context.parameters {
        object.set(name, value).map_err(|source| {
            let name = name.clone();
            Problem::Parameter { path: path.to_owned(), name, source }
        })?;
    }
    let object = Arc::new(object);
    let is_wanted = |index: &usize| context.optional || !object.programs[*index].optional;
    let wanted: Vec<usize> = (0..object.programs.len()).filter(is_wanted).collect();
    if wanted.is_empty() {
        return Err(Problem::OnlyOptional { path: path.to_owned() });
    }
    let memory = Memory::new(&object.regions).map_err(|source| Problem::Memory { path: path.to_owned(), source })?;
    let before = context.current.by_name(&name).map(|object| object.bindings.maps().cloned().collect::<Vec<_>>());
    let bindings = context.store.bind(&object, memory, &before.unwrap_or_default());
    let bindings = bindings.map_err(|source| Problem::Maps { path: path.to_owned(), source })?;
    let timings = Timings { read_ns, parse_ns, ..Timings::default() };
    let programs = wanted
        .into_iter()
        .map(|index| load_program(path, &object, index, &bindings, context.env, timings))
        .collect::<Result<Vec<_>, _>>()?;
    // What is pinned goes on without the object.
    let is_own = |map: &&Arc<Map>| map.kind() == MapKind::ProgArray && !map.def().pinned;
    let targets = Targets(bindings.maps().filter(is_own).cloned().collect());
    TargetLoader { path, object: &object, bindings: &bindings, env: context.env }.fill(&programs)?;
    let timings: Vec<Timings> = programs.iter().map(|program| program.timings).collect();
    probes::load(&name, &path.to_string_lossy(), &timings);
    let is_named = context.gallery.is_some() && is_gallery_name(path);
    let absolute = if is_named { None } else { std::path::absolute(path).ok() };
    let path = absolute.unwrap_or_else(|| path.to_owned());
    Ok(Loaded { name, path, object, bindings, programs, targets })
}

/// Compiles programs that others go on in, and puts them into the maps that name them.
struct TargetLoader<'a> {
    path: &'a Path,
    object: &'a Arc<Object>,
    bindings: &'a Bindings,
    env: &'static Env,
}

impl TargetLoader<'_> {
    fn fill(&self, callers: &[LoadedProgram]) -> Result<(), Problem> {
        for (place, def) in self.object.maps.iter().enumerate() {
            let Some(Body::Programs(programs)) = self.bindings.map(place as u32).map(|map| map.body()) else {
                continue;
            };
            if def.pinned && !def.values.is_empty() {
                return Err(self.problem(BindError::PinnedValues { map: def.name.clone() }));
            }
            for (index, initial) in &def.values {
                let Initial::Program(symbol) = initial else { continue };
                let target = self.target(place, &def.name, symbol)?;
                // Nobody runs these programs yet, and the index was checked against max_entries.
                let _ = programs.set(*index, Some(target));
            }
        }
        for program in callers.iter().map(|loaded| &loaded.program) {
            check_program(program, None).map_err(|source| self.problem(source))?;
        }
        Ok(())
    }

    fn problem(&self, source: BindError) -> Problem {
        Problem::Maps { path: self.path.to_owned(), source }
    }

    /// A program for the hook of all that use the map.
    fn target(&self, map: usize, name: &str, symbol: &str) -> Result<Target, Problem> {
        let programs = &self.object.programs;
        let index = programs.iter().position(|program| program.symbol == symbol);
        let hook = index.map_or(Hook::Hash, |index| programs[index].hook);
        let stranger = programs.iter().find(|program| program.hook != hook && uses(&program.insns, map));
        let (Some(index), None) = (index, stranger) else {
            let hook = stranger.map_or(hook, |program| program.hook);
            return Err(self.problem(BindError::Target { map: name.to_owned(), target: symbol.to_owned(), hook }));
        };
        let timings = Timings::default();
        let loaded = load_program(self.path, self.object, index, self.bindings, self.env, timings)?;
        claim_arrays(&loaded.program).map_err(|source| self.problem(source))?;
        let program = Arc::new(loaded.program);
        Ok(target(symbol, &program, program.clone()))
    }
}

/// A program as others go on in it; `keeps` is what keeps it.
pub fn target(name: &str, program: &Program, keeps: Arc<dyn Any + Send + Sync>) -> Target {
    let (address, cost) = (program.tail_entry(), program.facts().worst_cost);
    Target { name: name.to_owned(), address, cost, arrays: arrays(program), _keeps: keeps }
}

/// The arrays of programs that a program may go on in.
fn arrays(program: &Program) -> Vec<Arc<Map>> {
    let used =
        |&(place, map): &(usize, &Arc<Map>)| map.kind() == MapKind::ProgArray && uses(&program.text().insns, place);
    let maps = program.bindings().maps.iter().enumerate();
    maps.filter_map(|(place, map)| Some((place, map.as_ref()?))).filter(used).map(|(_, map)| map.clone()).collect()
}

/// Makes the arrays that a program uses its hook's: what lies in them takes over its context.
fn claim_arrays(program: &Program) -> Result<(), BindError> {
    arrays(program).iter().try_for_each(|map| claim(map, program))
}

/// Makes an array a program's hook's.
pub fn claim(map: &Map, program: &Program) -> Result<(), BindError> {
    let Body::Programs(programs) = map.body() else { return Ok(()) };
    programs.claim(program.hook()).map_err(|of| BindError::OtherHook {
        program: program.text().symbol.clone(),
        hook: program.hook(),
        map: map.def().name.clone(),
        of,
    })
}

/// A target that is to be put into an array.
pub struct Change<'a> {
    pub map: &'a Arc<Map>,
    pub index: u32,
    pub target: &'a Target,
}

/// Whether a program may go on in what its arrays hold: they are its hook's, and all together costs no more than the hook allows.
pub fn check_program(program: &Program, change: Option<&Change<'_>>) -> Result<(), BindError> {
    claim_arrays(program)?;
    let arrays = arrays(program);
    let Some(first) = arrays.first() else { return Ok(()) };
    let (cost, ceiling) = (cost(program.facts().worst_cost, arrays.clone(), change), verifier::ceiling(program.hook()));
    if cost <= ceiling {
        return Ok(());
    }
    let (program, map) = (program.text().symbol.clone(), first.def().name.clone());
    Err(BindError::TooCostly { program, map, cost, ceiling })
}

/// What a program may cost that costs `own` by itself: whoever goes on in another one may cost both; and as often as that may go on,
/// where one that can be reached goes on itself.
fn cost(own: u64, arrays: Vec<Arc<Map>>, change: Option<&Change<'_>>) -> u64 {
    let (mut most, mut times, mut seen, mut waiting) = (0, 1, BTreeSet::new(), arrays);
    while let Some(map) = waiting.pop() {
        let Body::Programs(programs) = map.body() else { continue };
        if !seen.insert(map.id()) {
            continue;
        }
        let mut targets = programs.targets();
        if let Some(change) = change.filter(|change| Arc::ptr_eq(change.map, &map)) {
            targets.retain(|(index, _)| *index != change.index);
            targets.push((change.index, change.target.clone()));
        }
        for (_, target) in targets {
            most = most.max(target.cost);
            if !target.arrays.is_empty() {
                times = MAX_TAIL_CALLS;
            }
            waiting.extend(target.arrays);
        }
    }
    own.saturating_add(most.saturating_mul(times))
}

/// Tail calls in one call of a program, as in Linux.
const MAX_TAIL_CALLS: u64 = 33;

/// Whether code refers to a map of its object.
fn uses(insns: &[Insn], map: usize) -> bool {
    insns.iter().any(|insn| insn.is_lddw() && insn.src == LDDW_MAP && insn.imm == map as i32)
}

fn load_program(
    path: &Path,
    object: &Arc<Object>,
    index: usize,
    bindings: &Bindings,
    env: &'static Env,
    timings: Timings,
) -> Result<LoadedProgram, Problem> {
    let text = &object.programs[index];
    let (verified, check_ns) = timed(|| verifier::verify(object, index, text.hook));
    let verified = verified.map_err(|rejection| Problem::Rejected { path: path.to_owned(), rejection })?;
    let (program, compile_ns) = timed(|| jit::compile(verified, bindings.clone(), env));
    let program = program.map_err(|source| Problem::Compile { path: path.to_owned(), source })?;
    let digest = digest(object, text);
    let (tested, quality_ns) = timed(|| quality::tested(&program, digest));
    let mixed = tested.map_err(|degenerate| Problem::Quality {
        path: path.to_owned(),
        symbol: text.symbol.clone(),
        degenerate,
    })?;
    let tag = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let quality_ns = if text.hook == Hook::Hash { quality_ns } else { 0 };
    Ok(LoadedProgram { program, tag, mixed, timings: Timings { check_ns, compile_ns, quality_ns, ..timings } })
}

/// The file's stem without `.bpf.o`.
fn program_name(path: &Path) -> Result<String, Problem> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.ok_or_else(|| Problem::NoName { path: path.to_owned() })?;
    let stem = name.strip_suffix(".o").unwrap_or(&name);
    Ok(stem.strip_suffix(".bpf").unwrap_or(stem).to_owned())
}

/// What makes a program what it is: its instructions and what its variables begin with.
fn digest(object: &Object, text: &ProgramText) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for insn in &text.insns {
        hasher.update(insn.to_bytes());
    }
    for region in &object.regions {
        hasher.update(region.size.to_le_bytes());
        hasher.update(&region.bytes);
    }
    hasher.finalize().into()
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed().as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_files() {
        let name = |path: &str| program_name(Path::new(path)).ok();
        assert_eq!(name("/a/b/scan_once.bpf.o").as_deref(), Some("scan_once"));
        assert_eq!(name("plain.o").as_deref(), Some("plain"));
        assert_eq!(name("x").as_deref(), Some("x"));
        assert_eq!(name("/"), None);
    }
}
