//! When nobody can be inside a program any more that was taken out of force.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// Waits for the engine's hookpoints, and for programs that are run by hand.
pub struct Grace {
    hookpoints: Option<unsafe extern "C" fn()>,
    /// Read-locked by who runs a program by hand.
    runs: RwLock<()>,
}

impl std::fmt::Debug for Grace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grace").finish_non_exhaustive()
    }
}

impl Grace {
    /// `hookpoints` is the host's `synchronize`.
    pub fn new(hookpoints: Option<unsafe extern "C" fn()>) -> Grace {
        Grace { hookpoints, runs: RwLock::new(()) }
    }

    /// Until the guard goes, what the calling thread finds in maps stays.
    pub fn run(&self) -> RwLockReadGuard<'_, ()> {
        self.runs.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when no program runs that ran at the call. Not to be called inside a program.
    pub fn wait(&self) {
        if let Some(wait) = self.hookpoints {
            // SAFETY: the host's function, called outside of hookpoints, as it must be.
            unsafe { wait() };
        }
        drop(self.runs.write().unwrap_or_else(PoisonError::into_inner));
    }
}
