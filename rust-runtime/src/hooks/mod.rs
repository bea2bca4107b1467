//! The control path: which programs are attached to which hooks.

mod info;

use std::path::{Path, PathBuf};

use duckbpf_abi::duckbpf_host;

use crate::error::{Error, Problem};
pub use info::{Attached, Generation, Options, PointInfo, ProgramInfo, ProgramReport, Refusals, Report, Timings};

/// The runtime of the process: loads objects and decides what is attached.
#[derive(Debug)]
pub struct Runtime {
    host: &'static duckbpf_host,
}

impl Runtime {
    /// Starts the only runtime of the process on what a graft or a hooked engine offers. Calling it again with the same
    /// host returns the same runtime.
    pub fn start(_host: &'static duckbpf_host) -> Result<&'static Runtime, Error> {
        Err(Error::from(Problem::Unfinished))
    }

    /// Attaches exactly these objects, all or none, in one step; reads every file anew. An empty list detaches all.
    pub fn replace(&self, _paths: &[PathBuf]) -> Result<Generation, Error> {
        Err(Error::from(Problem::Unfinished))
    }

    /// Attaches one object beside the others.
    pub fn attach(&self, _path: &Path, _options: Options) -> Result<Attached, Error> {
        Err(Error::from(Problem::Unfinished))
    }

    /// Detaches the object of that name.
    pub fn detach(&self, _name: &str) -> Result<Generation, Error> {
        Err(Error::from(Problem::Unfinished))
    }

    pub fn detach_all(&self) -> Result<Generation, Error> {
        Err(Error::from(Problem::Unfinished))
    }

    /// Reads, checks and compiles an object, and attaches nothing.
    pub fn verify(&self, _path: &Path) -> Result<Report, Error> {
        Err(Error::from(Problem::Unfinished))
    }

    /// Every hook, in the order of their numbers.
    pub fn points(&self) -> Vec<PointInfo> {
        Vec::new()
    }

    /// Every attached program, by hook.
    pub fn programs(&self) -> Vec<ProgramInfo> {
        Vec::new()
    }

    /// Times a sample of calls while on.
    pub fn set_sampling(&self, _on: bool) {}

    /// What this runtime stands on: its build and its carrier.
    pub fn host(&self) -> &'static duckbpf_host {
        self.host
    }
}

// SAFETY: the host table is immutable and its functions may be called from any thread (abi.h).
unsafe impl Send for Runtime {}
// SAFETY: as above.
unsafe impl Sync for Runtime {}
