//! What an error says of what is still in force.

use crate::engine::Runtime;
use std::fmt::Display;

/// An error with the programs that go on as before.
pub fn refused(runtime: &Runtime, reason: &dyn Display) -> String {
    let mut names: Vec<String> = runtime.programs().into_iter().map(|program| program.name).collect();
    names.dedup();
    if names.is_empty() {
        format!("{reason}; nothing is attached, as before")
    } else {
        format!("{reason}; the old programs stay attached: {}", names.join(", "))
    }
}
