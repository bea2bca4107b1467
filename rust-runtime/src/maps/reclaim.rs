//! When an entry that was taken out may be used again.
//!
//! A program may hold the address of a value until it ends. So an entry that is taken out first waits in its map's limbo; a thread
//! of the runtime waits until every program that ran then has ended (the host's `synchronize`) and only then hands it back.
//! Programs wait for nothing: they push to the limbo, and wake the thread once.

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

/// Waits until no program that runs now runs any more.
pub type Synchronize = Box<dyn Fn() + Send + Sync>;

/// Rounds are at least this far apart: each interrupts every thread of the process for a moment.
const PAUSE: Duration = Duration::from_micros(500);

/// A map that has a limbo.
pub trait Limbo: Send + Sync {
    /// Takes what waits, if anything does.
    fn take(&self) -> Option<Taken>;
    /// Nobody can hold what was taken.
    fn release(&self, taken: Taken);
}

/// Entries that were taken from a limbo: the first of a chain.
#[derive(Debug)]
pub struct Taken(pub u32);

/// The thread that hands entries back, and the maps that it looks after.
pub struct Reclaimer {
    maps: Mutex<Vec<Weak<dyn Limbo>>>,
    /// Set by whoever fills a limbo, cleared before the thread looks.
    asked: AtomicBool,
    synchronize: Synchronize,
    thread: OnceLock<Thread>,
}

impl fmt::Debug for Reclaimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reclaimer").field("asked", &self.asked).finish_non_exhaustive()
    }
}

impl Reclaimer {
    pub fn new(synchronize: Synchronize) -> Arc<Reclaimer> {
        Arc::new(Reclaimer {
            maps: Mutex::default(),
            asked: AtomicBool::new(false),
            synchronize,
            thread: OnceLock::new(),
        })
    }

    /// One without a thread: entries come back when whoever made it says so, and nothing depends on a thread's pace.
    #[cfg(any(test, feature = "testing"))]
    pub fn by_hand() -> Arc<Reclaimer> {
        let reclaimer = Reclaimer::new(Box::new(|| {}));
        // Nobody starts a second one.
        let _ = reclaimer.thread.set(thread::current());
        reclaimer
    }

    /// Looks after a map from now on. The first one starts the thread.
    pub fn watch(self: &Arc<Self>, map: Weak<dyn Limbo>) -> std::io::Result<()> {
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        if self.thread.get().is_none() {
            let reclaimer = Arc::downgrade(self);
            let started = thread::Builder::new().name("duckbpf-maps".into()).spawn(move || {
                while let Some(reclaimer) = reclaimer.upgrade() {
                    reclaimer.round();
                    drop(reclaimer);
                    thread::park_timeout(Duration::from_secs(1));
                }
            })?;
            // Under the lock, so nobody else set it.
            let _ = self.thread.set(started.thread().clone());
        }
        maps.retain(|map| map.strong_count() > 0);
        maps.push(map);
        Ok(())
    }

    /// Something waits. Called inside programs: at most one store and one wake-up a round.
    pub fn ask(&self) {
        // Relaxed first: while the thread is at work this is a shared read.
        if !self.asked.load(Ordering::Relaxed)
            && !self.asked.swap(true, Ordering::AcqRel)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Hands back what waits, as long as somebody asks.
    pub fn round(&self) {
        while self.asked.swap(false, Ordering::AcqRel) {
            self.hand_back();
            thread::sleep(PAUSE);
        }
    }

    /// Hands back what waits now.
    pub fn hand_back(&self) {
        let maps: Vec<_> = {
            let maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
            maps.iter().filter_map(Weak::upgrade).collect()
        };
        let taken: Vec<_> = maps.iter().filter_map(|map| Some((map, map.take()?))).collect();
        if !taken.is_empty() {
            (self.synchronize)();
            for (map, taken) in taken {
                map.release(taken);
            }
        }
    }
}
