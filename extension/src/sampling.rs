//! Who wants calls to be timed: SQL, by `SET hook_sampling`, and clients of the socket, as long as they are connected.

use crate::engine::runtime;
use duckdb_neo::Result;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
struct Wanted {
    by_sql: bool,
    /// So many clients want it.
    by_clients: u64,
}

static WANTED: Mutex<Wanted> = Mutex::new(Wanted { by_sql: false, by_clients: 0 });

fn wanted() -> MutexGuard<'static, Wanted> {
    // Each change of it is one store.
    WANTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the runtime, in the order of the changes.
fn change(by: impl FnOnce(&mut Wanted)) -> Result<()> {
    let runtime = runtime()?;
    let mut wanted = wanted();
    by(&mut wanted);
    runtime.set_sampling(wanted.by_sql || wanted.by_clients > 0);
    Ok(())
}

/// What `SET hook_sampling` says.
pub fn set(on: bool) -> Result<()> {
    change(|wanted| wanted.by_sql = on)
}

/// A client's wish. It ends with this.
#[derive(Debug)]
pub struct Wish(());

impl Wish {
    pub fn new() -> Result<Wish> {
        change(|wanted| wanted.by_clients += 1)?;
        Ok(Wish(()))
    }
}

impl Drop for Wish {
    fn drop(&mut self) {
        // There is a runtime, or there were no wish.
        let _ = change(|wanted| wanted.by_clients -= 1);
    }
}
