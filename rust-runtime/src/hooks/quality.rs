//! Whether a hash program is fit to hash with.

use crate::{hook::Hook, jit::Program};

/// Why a hash function is not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("degenerate")]
pub struct Degenerate {}

pub fn tested(program: &Program, _digest: [u8; 32]) -> Result<bool, Degenerate> {
    Ok(program.hook() == Hook::Hash && program.declared_hash().1)
}
