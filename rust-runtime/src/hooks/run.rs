//! Programs by hand: running one on a context that is made up, and showing what it was compiled to.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{HookSet, Runtime, context::MadeUp, load, load::Loaded};
use crate::{
    error::{Error, Problem},
    hook::Hook,
    hooks::Generation,
    jit::{self, Instruction, Program},
    object::Parameter,
};

/// No run of a program goes on for longer.
const MOST_TIME: Duration = Duration::from_secs(10);
/// Runs between two looks at the clock, and the longest that a map's entry waits for them.
const BATCH: u64 = 256;

/// How a program ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunReport {
    /// Its object's name.
    pub name: String,
    pub symbol: String,
    pub hook: Hook,
    /// What the last run returned.
    pub result: u64,
    /// Runs; fewer than were asked for where they would have taken more than ten seconds.
    pub repeat: u64,
    pub total_ns: u64,
}

/// A program, instruction by instruction.
#[derive(Clone, Debug)]
pub struct Listing {
    pub symbol: String,
    pub hook: Hook,
    pub instructions: Vec<Instruction>,
}

/// Whose programs are meant: those that are attached, or some that were loaded for this alone.
enum Found {
    Attached(std::sync::Arc<HookSet>),
    Apart(Box<Loaded>),
}

impl Found {
    /// The object's name and its programs.
    fn programs(&self, name: &str) -> (String, Vec<&Program>) {
        match self {
            Found::Attached(set) => {
                let programs = set.by_name(name).into_iter().flat_map(|object| &object.programs);
                (name.to_owned(), programs.map(|attached| &attached.program).collect())
            }
            Found::Apart(loaded) => (loaded.name.clone(), loaded.programs.iter().map(|one| &one.program).collect()),
        }
    }
}

impl Runtime {
    /// Runs a program `repeat` times, at least once, on one context. `name` is an attached object's, whose maps it then works with;
    /// else a path, or a name of the gallery, and the maps are its own. Nothing follows the result.
    pub fn run(
        &self,
        name: &str,
        hook: Option<Hook>,
        fields: &[(String, Parameter)],
        repeat: u64,
    ) -> Result<RunReport, Error> {
        let found = self.find_programs(name)?;
        let (name, programs) = found.programs(name);
        let program = choose(&name, programs, hook)?;
        Ok(call(name, program, fields, repeat, || self.grace.run())?)
    }

    /// What an object's programs were compiled to: an attached one's, else a file's or one's of the gallery.
    pub fn listing(&self, name: &str) -> Result<Vec<Listing>, Error> {
        let found = self.find_programs(name)?;
        let listing = |program: &&Program| {
            let instructions = jit::instructions(program).map_err(Problem::Machine)?;
            Ok(Listing { symbol: program.text().symbol.clone(), hook: program.hook(), instructions })
        };
        found.programs(name).1.iter().map(listing).collect()
    }

    fn find_programs(&self, name: &str) -> Result<Found, Error> {
        let set = self.published.load_full();
        if set.by_name(name).is_some() {
            return Ok(Found::Attached(set));
        }
        let loaded = self.load_apart(Path::new(name)).map_err(|error| match error.problem() {
            Problem::NotInGallery { name, known } => {
                Problem::Unknown { name: name.clone(), attached: set.names(), known: known.clone() }.into()
            }
            _ => error,
        });
        Ok(Found::Apart(Box::new(loaded?)))
    }

    /// Loads an object with all its programs. Its maps are its own: what it would take over when attached stays as it is.
    pub(super) fn load_apart(&self, path: &Path) -> Result<Loaded, Error> {
        let nothing = HookSet::new(Generation(0), Vec::new());
        let loaded = load::load(path, load::Context { optional: true, ..self.context(&nothing, &[]) });
        loaded.map_err(|problem| self.unchanged(problem))
    }
}

/// The program of a hook, or the only one.
pub(super) fn choose<'a>(
    name: &str,
    programs: impl IntoIterator<Item = &'a Program>,
    hook: Option<Hook>,
) -> Result<&'a Program, Problem> {
    let programs: Vec<&Program> = programs.into_iter().collect();
    let has = || programs.iter().map(|program| program.hook().name()).collect::<Vec<_>>().join(", ");
    match (hook, programs.as_slice()) {
        (None, [one]) => Ok(one),
        (None, _) => Err(Problem::WhichProgram { name: name.to_owned(), has: has() }),
        (Some(hook), _) => {
            let found = programs.iter().find(|program| program.hook() == hook);
            found.copied().ok_or_else(|| Problem::NoProgramFor { name: name.to_owned(), hook, has: has() })
        }
    }
}

/// Calls a program `repeat` times, at least once, on one context. What it takes out of maps stays there while what `inside` gives
/// lives, for a batch of calls.
pub(super) fn call<Guard>(
    name: String,
    program: &Program,
    fields: &[(String, Parameter)],
    repeat: u64,
    inside: impl Fn() -> Guard,
) -> Result<RunReport, Problem> {
    let hook = program.hook();
    let mut context = MadeUp::new(hook, fields).map_err(|source| Problem::Context { source })?;
    let (entry, address) = (program.entry(), context.address());
    let (mut result, mut runs, mut total) = (0, 0, Duration::ZERO);
    let repeat = repeat.max(1);
    while runs < repeat && total < MOST_TIME {
        let _inside = inside();
        let batch = BATCH.min(repeat - runs);
        let start = Instant::now();
        for _ in 0..batch {
            // SAFETY: a verified program, which the caller keeps with its maps, on a context of its hook; `_inside` keeps what it
            // finds in them.
            result = unsafe { entry(address) };
        }
        total += start.elapsed();
        runs += batch;
    }
    let symbol = program.text().symbol.clone();
    Ok(RunReport { name, symbol, hook, result, repeat: runs, total_ns: total.as_nanos() as u64 })
}
