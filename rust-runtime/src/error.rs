//! What can go wrong, in words for whoever wrote the program or the SET.

use std::{fmt, path::PathBuf};

use crate::{
    hook::Hook,
    hooks::{ContextError, Degenerate},
    jit,
    maps::{outside::Refusal, store::BindError},
    object::{MemoryError, ObjectError, ParameterError},
    verifier::Rejection,
};

/// Why nothing was changed. Displays as what was wrong, where, and what is still in force.
#[derive(Debug)]
pub struct Error {
    problem: Box<Problem>,
    in_force: Option<String>,
}

/// What was wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    #[error("{}: {source}", path.display())]
    Object { path: PathBuf, source: ObjectError },
    #[error("{}: {rejection}\n  each step of the check: duckbpf verify --log {}", path.display(), path.display())]
    Rejected { path: PathBuf, rejection: Box<Rejection> },
    #[error("{}: {source}", path.display())]
    Compile { path: PathBuf, source: jit::Error },
    #[error("{}: {source}", path.display())]
    Memory { path: PathBuf, source: MemoryError },
    #[error("{}: program {symbol} (hook hash) is refused: {degenerate}", path.display())]
    Quality { path: PathBuf, symbol: String, degenerate: Degenerate },
    #[error("{}: a program is named by its file; this path has no file name", path.display())]
    NoName { path: PathBuf },
    #[error("{}: all its programs are optional (SEC(\"?...\")), so there is nothing to attach", path.display())]
    OnlyOptional { path: PathBuf },
    #[error("{}: the hook {hook} is held by {holder} already; detach that, or use replace := true", path.display())]
    Taken { path: PathBuf, hook: Hook, holder: String },
    #[error("{}: a program named {name} is attached already; detach it, or use replace := true", path.display())]
    NameTaken { path: PathBuf, name: String },
    #[error("{}: both {first} and {name} have a program for the hook {hook}; a hook takes one", path.display())]
    Twice { path: PathBuf, hook: Hook, first: String, name: String },
    #[error("{}: the list names {name} twice", path.display())]
    SameName { path: PathBuf, name: String },
    #[error("{}: {source}", path.display())]
    Maps { path: PathBuf, source: BindError },
    #[error("{}: the parameter {name} cannot be set: {source}", path.display())]
    Parameter { path: PathBuf, name: String, source: ParameterError },
    #[error("no map is named '{name}'; maps: {known}")]
    NoMap { name: String, known: String },
    #[error("several maps are named '{name}': {names}; name one of them in full")]
    AmbiguousMap { name: String, names: String },
    #[error("the map {name}: {source}")]
    Entry { name: String, source: Refusal },
    #[error("no map named '{name}' is pinned")]
    NotPinned { name: String },
    #[error("no program named '{name}' is attached")]
    NotAttached { name: String },
    #[error("there is no hook '{name}'; hooks: {known}")]
    NoHook { name: String, known: String },
    #[error("no program is attached to the hook {hook}")]
    NothingOn { hook: Hook },
    #[error(
        "no program of the gallery is named '{name}'; there are {known}. The path of a file has a slash in it or ends in .o"
    )]
    NotInGallery { name: String, known: String },
    #[error(
        "no program of the gallery is named '{name}', and none that is attached (attached: {attached}); the gallery has \
         {known}. The path of a file has a slash in it or ends in .o"
    )]
    Unknown { name: String, attached: String, known: String },
    #[error("{name} has programs for {has}; say for which hook, with one of them")]
    WhichProgram { name: String, has: String },
    #[error("{name} has no program for {hook}; it has programs for {has}")]
    NoProgramFor { name: String, hook: Hook, has: String },
    #[error(transparent)]
    Context { source: ContextError },
    #[error(transparent)]
    Map { source: BindError },
    #[error("this process is a fork: its hooks are detached for good; open the database in a process of its own")]
    Forked,
    #[error("another duckbpf runtime is active in this process; load the extension once")]
    Busy,
    #[error(
        "the hookpoints speak version {found}, this runtime version {expected}; build the extension and what carries the hooks \
         (`cargo xtask extension`, `cargo xtask engine`) from one checkout"
    )]
    Version { found: u32, expected: u32 },
    #[error("the hookpoints refused the runtime with code {0}")]
    Host(i32),
    #[error(transparent)]
    Machine(#[from] jit::Error),
}

impl Error {
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    pub(crate) fn while_in_force(problem: Problem, names: &str) -> Error {
        Error { problem: Box::new(problem), in_force: Some(names.to_owned()) }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Error { problem: Box::new(problem), in_force: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.problem)?;
        match &self.in_force {
            Some(names) => write!(f, "\nNothing was changed; attached as before: {names}."),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.problem)
    }
}
