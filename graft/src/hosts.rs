//! The table of DuckDB builds that were looked at, and which of them this process runs.

use crate::module::Module;
use std::ffi::{CStr, c_char};
use std::fmt;
use std::path::PathBuf;

/// `duckdb::DuckDB::LibraryVersion()`; every build that exports C++ symbols has it.
pub(crate) const LIBRARY_VERSION: &str = "_ZN6duckdb6DuckDB14LibraryVersionEv";
/// `duckdb::DuckDB::SourceID()`.
const SOURCE_ID: &str = "_ZN6duckdb6DuckDB8SourceIDEv";

/// A DuckDB in a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostBuild {
    /// Of its GNU build-id note, hexadecimal; empty when it has none.
    pub build_id: String,
    /// As in `SELECT version()`.
    pub version: String,
    /// The abbreviated commit it was built from.
    pub source_id: String,
    /// The library's file.
    pub path: PathBuf,
}

impl fmt::Display for HostBuild {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let build_id = if self.build_id.is_empty() { "none" } else { &self.build_id };
        let (version, source_id, path) = (&self.version, &self.source_id, self.path.display());
        write!(formatter, "DuckDB {version} (commit {source_id}, build id {build_id}) at {path}")
    }
}

/// A build in `hosts.json`.
#[derive(Clone, Copy, Debug)]
pub struct KnownBuild {
    pub build_id: &'static str,
    pub version: &'static str,
    pub source_id: &'static str,
    /// The wheel it is in.
    pub wheel: &'static str,
}

/// The builds that a graft can be put into.
pub fn known_builds() -> &'static [KnownBuild] {
    include!(concat!(env!("OUT_DIR"), "/hosts.rs"))
}

pub(crate) fn is_known(build: &HostBuild) -> bool {
    known_builds().iter().any(|known| {
        known.build_id == build.build_id && known.version == build.version && known.source_id == build.source_id
    })
}

pub(crate) fn describe(host: &Module) -> HostBuild {
    HostBuild {
        build_id: host.build_id(),
        version: text(host, LIBRARY_VERSION),
        source_id: text(host, SOURCE_ID),
        path: host.path().to_owned(),
    }
}

/// What a static function `const char *()` of the host says.
fn text(host: &Module, function: &str) -> String {
    let Some(address) = host.function(function) else { return String::new() };
    // SAFETY: the mangled names stand for static member functions without arguments that return a string literal, in every
    // release of DuckDB so far (src/include/duckdb/main/database.hpp); the name does not carry the result's type.
    let text = unsafe {
        let function: unsafe extern "C" fn() -> *const c_char = std::mem::transmute(address);
        let text = function();
        if text.is_null() {
            return String::new();
        }
        CStr::from_ptr(text)
    };
    text.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_both_wheels() {
        let ids: Vec<_> = known_builds().iter().map(|build| build.build_id).collect();
        assert!(ids.contains(&"2506fe1d48ee806d08b995c5499554c3caf7867e"), "cp311");
        assert!(ids.contains(&"567b7e0c0b4db4e21d0a1826208e01627e6851fc"), "cp312 and later");
    }

    #[test]
    fn build_id_version_and_commit_must_all_agree() {
        let known = &known_builds()[0];
        let build = HostBuild {
            build_id: known.build_id.into(),
            version: known.version.into(),
            source_id: known.source_id.into(),
            path: PathBuf::new(),
        };
        assert!(is_known(&build));
        assert!(!is_known(&HostBuild { build_id: String::new(), ..build.clone() }));
        assert!(!is_known(&HostBuild { version: "v1.5.6".into(), ..build.clone() }));
        assert!(!is_known(&HostBuild { source_id: "0123456789".into(), ..build }));
    }
}
