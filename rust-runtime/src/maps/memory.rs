//! The memory of maps: mapped once, zero, never moved, and counted against one ceiling.

use std::{
    io, ptr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Error;

const PAGE: usize = 4096;

/// Is told how many bytes there are in all; false: it allows no more than before.
pub type Account = Box<dyn Fn(u64) -> bool + Send + Sync>;

/// What all maps of the process may take together.
pub struct Budget {
    used: AtomicU64,
    ceiling: AtomicU64,
    account: Option<Account>,
    /// Held from a change until it was told.
    telling: Mutex<()>,
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budget").field("used", &self.used).field("ceiling", &self.ceiling).finish_non_exhaustive()
    }
}

impl Budget {
    /// One of which nobody else knows.
    pub fn new(ceiling: u64) -> Arc<Budget> {
        Budget::make(ceiling, None)
    }

    /// One that somebody keeps account of.
    pub fn accounted(ceiling: u64, account: Account) -> Arc<Budget> {
        Budget::make(ceiling, Some(account))
    }

    fn make(ceiling: u64, account: Option<Account>) -> Arc<Budget> {
        let (used, ceiling) = (AtomicU64::new(0), AtomicU64::new(ceiling));
        Arc::new(Budget { used, ceiling, account, telling: Mutex::default() })
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub fn ceiling(&self) -> u64 {
        self.ceiling.load(Ordering::Relaxed)
    }

    /// Maps that exist stay, whatever they take.
    pub fn set_ceiling(&self, bytes: u64) {
        self.ceiling.store(bytes, Ordering::Relaxed);
    }

    fn take(&self, bytes: u64) -> Result<(), Error> {
        let ceiling = self.ceiling();
        let fits = |used: u64| used.checked_add(bytes).filter(|&used| used <= ceiling);
        let _telling = self.telling();
        match self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) if self.tell() => Ok(()),
            Ok(_) => {
                self.used.fetch_sub(bytes, Ordering::Relaxed);
                Err(Error::Engine { bytes })
            }
            Err(used) => Err(Error::TooMuchMemory { bytes, used, ceiling }),
        }
    }

    fn give_back(&self, bytes: u64) {
        let _telling = self.telling();
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        // Less is always allowed.
        self.tell();
    }

    fn telling(&self) -> MutexGuard<'_, ()> {
        // It guards nothing but an order.
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) -> bool {
        self.account.as_ref().is_none_or(|account| account(self.used()))
    }
}

/// A stretch of zeroed memory at an address that stays, with a page without access behind it. Pages that nobody writes to
/// take no memory, but count.
#[derive(Debug)]
pub struct Slab {
    base: usize,
    size: usize,
    budget: Arc<Budget>,
}

impl Slab {
    /// `bytes`, rounded up to pages.
    pub fn new(bytes: u64, budget: &Arc<Budget>) -> Result<Slab, Error> {
        let size = reserve(bytes, budget)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // From here on Drop gives back what was taken.
        let mut slab = Slab { base: 0, size, budget: budget.clone() };
        // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe { libc::mmap(ptr::null_mut(), size + PAGE, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(refused(bytes));
        }
        slab.base = base as usize;
        // SAFETY: the pages lie in the mapping just made.
        if unsafe { libc::mprotect(base, size, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            return Err(refused(bytes));
        }
        Ok(slab)
    }

    pub fn base(&self) -> *mut u8 {
        self.base as *mut u8
    }

    pub fn size(&self) -> u64 {
        self.size as u64
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        if self.base != 0 {
            // SAFETY: the mapping is this value's own; whoever knows its addresses holds the map that owns it.
            unsafe { libc::munmap(self.base as *mut _, self.size + PAGE) };
        }
        self.budget.give_back(self.size as u64);
    }
}

/// The same pages twice in a row, so that what wraps around is contiguous.
#[derive(Debug)]
pub struct DoubleSlab {
    base: usize,
    size: usize,
    budget: Arc<Budget>,
}

impl DoubleSlab {
    /// `bytes` is a multiple of the page's size.
    pub fn new(bytes: u64, budget: &Arc<Budget>) -> Result<DoubleSlab, Error> {
        let size = reserve(bytes, budget)?;
        let mut slab = DoubleSlab { base: 0, size, budget: budget.clone() };
        // SAFETY: a constant name and flags.
        let fd = unsafe { libc::memfd_create(c"duckbpf-ring".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(refused(bytes));
        }
        let mapped = slab.map(fd);
        // SAFETY: the descriptor is this function's own; the mappings keep the file.
        unsafe { libc::close(fd) };
        mapped.map(|()| slab)
    }

    fn map(&mut self, fd: i32) -> Result<(), Error> {
        let reserved = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a descriptor of a file of ours, and fresh addresses without access.
        let base = unsafe {
            if libc::ftruncate(fd, self.size as libc::off_t) != 0 {
                return Err(refused(self.size as u64));
            }
            libc::mmap(ptr::null_mut(), 2 * self.size + PAGE, libc::PROT_NONE, reserved, -1, 0)
        };
        if base == libc::MAP_FAILED {
            return Err(refused(self.size as u64));
        }
        self.base = base as usize;
        let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
        for half in 0..2 {
            let address = (self.base + half * self.size) as *mut _;
            // SAFETY: replaces addresses that were reserved above.
            if unsafe { libc::mmap(address, self.size, rights, flags, fd, 0) } == libc::MAP_FAILED {
                return Err(refused(self.size as u64));
            }
        }
        // SAFETY: advice about the mappings above: a forked child must not share them.
        unsafe { libc::madvise(base, 2 * self.size, libc::MADV_DONTFORK) };
        Ok(())
    }

    /// Twice [`DoubleSlab::size`] bytes begin here.
    pub fn base(&self) -> *mut u8 {
        self.base as *mut u8
    }

    pub fn size(&self) -> u64 {
        self.size as u64
    }
}

impl Drop for DoubleSlab {
    fn drop(&mut self) {
        if self.base != 0 {
            // SAFETY: as for Slab.
            unsafe { libc::munmap(self.base as *mut _, 2 * self.size + PAGE) };
        }
        self.budget.give_back(self.size as u64);
    }
}

fn reserve(bytes: u64, budget: &Budget) -> Result<usize, Error> {
    let too_much = || Error::TooMuchMemory { bytes, used: budget.used(), ceiling: budget.ceiling() };
    let size = bytes.max(1).checked_next_multiple_of(PAGE as u64).ok_or_else(too_much)?;
    budget.take(size)?;
    // Fits: the ceiling was not exceeded, and no machine has more memory than addresses.
    usize::try_from(size).map_err(|_| too_much())
}

fn refused(bytes: u64) -> Error {
    Error::Memory { bytes, source: io::Error::last_os_error() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_and_given_back() {
        let budget = Budget::new(10 * 4096);
        let slab = Slab::new(5000, &budget).unwrap();
        assert_eq!((slab.size(), budget.used()), (8192, 8192));
        let ring = DoubleSlab::new(8 * 4096, &budget).unwrap();
        assert_eq!(budget.used(), 10 * 4096);
        let error = Slab::new(1, &budget).unwrap_err();
        assert!(matches!(error, Error::TooMuchMemory { bytes: 4096, .. }), "{error}");
        assert!(matches!(Slab::new(u64::MAX, &budget), Err(Error::TooMuchMemory { .. })));
        drop((slab, ring));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn who_keeps_account_knows_all_and_may_refuse() {
        let told = Arc::new(AtomicU64::new(0));
        let teller = told.clone();
        let account = move |bytes| {
            let allowed = bytes <= 3 * 4096;
            if allowed {
                teller.store(bytes, Ordering::Relaxed);
            }
            allowed
        };
        let budget = Budget::accounted(1 << 20, Box::new(account));
        let slab = Slab::new(8192, &budget).unwrap();
        assert_eq!(told.load(Ordering::Relaxed), 8192);
        assert!(matches!(Slab::new(8192, &budget), Err(Error::Engine { bytes: 8192 })));
        assert_eq!((told.load(Ordering::Relaxed), budget.used()), (8192, 8192));
        drop(slab);
        assert_eq!((told.load(Ordering::Relaxed), budget.used()), (0, 0));
    }

    #[test]
    fn both_halves_are_the_same_memory() {
        let ring = DoubleSlab::new(4096, &Budget::new(1 << 20)).unwrap();
        // SAFETY: 8192 bytes begin at the base.
        unsafe {
            ring.base().add(4095).cast::<[u8; 2]>().write_unaligned([1, 2]);
            assert_eq!((ring.base().read(), ring.base().add(4096 + 4095).read()), (2, 1));
        }
    }
}
