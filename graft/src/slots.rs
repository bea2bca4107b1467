//! The host's linkage slots: which ones lead to replaced functions, and writing them.

use crate::module::{Module, Relocation, page_size};
use crate::{ENTRY, Error};
use object::elf;
use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long to wait for another copy of this code that has begun to write. It needs less than a millisecond.
const PATIENCE: Duration = Duration::from_secs(5);

/// The function whose first slot is the lock, `StandardBufferManager::Unpin`: every series replaces it.
const LOCK: &str = "_ZN6duckdb21StandardBufferManager5UnpinERNS_10shared_ptrINS_11BlockHandleELb1EEE";

/// One word of the host's memory through which it reaches a function.
struct Slot {
    name: Box<str>,
    place: usize,
    /// The host's own function.
    host: usize,
    /// Its replacement.
    graft: usize,
}

impl Slot {
    fn word(&self) -> &AtomicUsize {
        // SAFETY: the place comes from the host's relocations: an aligned word (checked in `Slots::find`) of its data, which
        // stays mapped as long as the host is loaded, and the graft keeps the host loaded. The loader is done with it, and
        // whoever else writes it does so through this function.
        unsafe { AtomicUsize::from_ptr(std::ptr::with_exposed_provenance_mut(self.place)) }
    }
}

/// Every slot of every replaced function; the first one is the lock.
pub(crate) struct Slots {
    slots: Vec<Slot>,
    /// Pages with slots that are read-only in ordinary times.
    protected: Range<usize>,
    path: PathBuf,
}

impl Slots {
    /// Looks the slots up. What they hold is for [`Slots::check`].
    pub(crate) fn find(host: &Module, graft: &Module) -> Result<Self, Error> {
        let replaced = replacements(host, graft)?;
        let mut slots = Vec::new();
        for relocation in host.relocations() {
            if let Some(replacement) = replaced.get(&relocation.symbol) {
                slots.push(slot(host, &relocation, replacement)?);
            }
        }
        let relro = host.relro();
        let is_protected = |slot: &Slot| relro.contains(&slot.place);
        slots.sort_by_key(|slot| (&*slot.name != LOCK, slot.place));
        let protected = pages(slots.iter().filter(|slot| is_protected(slot)));
        Ok(Self { slots, protected, path: host.path().to_owned() })
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Name and present value of every slot.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&str, usize)> {
        self.slots.iter().map(|slot| (&*slot.name, slot.word().load(Ordering::Acquire)))
    }

    /// Whether the graft is in force, or about to be.
    pub(crate) fn any_replaced(&self) -> bool {
        self.values().zip(&self.slots).any(|((_, address), slot)| address == slot.graft)
    }

    fn all_replaced(&self) -> bool {
        self.values().zip(&self.slots).all(|((_, address), slot)| address == slot.graft)
    }

    /// Makes sure that each slot holds the host's function or this graft's.
    pub(crate) fn check(&self, host: &Module) -> Result<(), Error> {
        for slot in &self.slots {
            let address = slot.word().load(Ordering::Acquire);
            if address == slot.host || address == slot.graft {
                continue;
            }
            let (name, path) = (slot.name.to_string(), self.path.clone());
            return Err(if host.is_code(address) {
                Error::HalfBound { name, path }
            } else {
                Error::BoundElsewhere { name, address, path }
            });
        }
        Ok(())
    }

    /// Makes all slots lead to the graft, or none. Returns how long the process had a mixture of old and new functions, from
    /// the first store to the last: nothing when all was done before.
    pub(crate) fn write(&self) -> Result<Duration, Error> {
        let (lock, others) =
            self.slots.split_first().ok_or(Error::Image { reason: "it replaces no function of this DuckDB" })?;
        if self.all_replaced() {
            return Ok(Duration::ZERO);
        }
        self.protect(libc::PROT_READ | libc::PROT_WRITE)?;
        let started = Instant::now();
        // AcqRel: the graft's memory must be visible to whoever calls through the slot; and who finds it taken must see it.
        let taken = lock.word().compare_exchange(lock.host, lock.graft, Ordering::AcqRel, Ordering::Acquire);
        let outcome = match taken {
            Ok(_) => {
                for slot in others {
                    // Release: whoever reads the address also sees the code and data behind it.
                    slot.word().store(slot.graft, Ordering::Release);
                }
                Ok(started.elapsed())
            }
            Err(present) if present == lock.graft => self.wait(),
            // Another graft, whose slots are not known here. The caller comes back with it.
            Err(address) => {
                return Err(Error::BoundElsewhere { name: lock.name.to_string(), address, path: self.path.clone() });
            }
        };
        if outcome.is_ok() {
            // Only now that nobody writes any more: protection is the process'.
            self.protect(libc::PROT_READ)?;
        }
        outcome
    }

    /// Makes all slots lead to the host's functions. No other copy may be at work.
    pub(crate) fn undo(&self) -> Result<(), Error> {
        self.protect(libc::PROT_READ | libc::PROT_WRITE)?;
        // The lock, which is the first, goes last.
        for slot in self.slots.iter().rev() {
            slot.word().store(slot.host, Ordering::Release);
        }
        self.protect(libc::PROT_READ)
    }

    fn protect(&self, protection: i32) -> Result<(), Error> {
        if self.protected.is_empty() {
            return Ok(());
        }
        let start = std::ptr::with_exposed_provenance_mut(self.protected.start);
        // SAFETY: whole pages inside the host's RELRO range, which hold relocated data and are readable before, meanwhile and
        // afterwards; nothing but a slot is written there.
        match unsafe { libc::mprotect(start, self.protected.len(), protection) } {
            0 => Ok(()),
            _ => Err(Error::Protect(std::io::Error::last_os_error())),
        }
    }

    /// Another copy of this code was first: wait until it is done with every slot.
    fn wait(&self) -> Result<Duration, Error> {
        let started = Instant::now();
        while !self.all_replaced() {
            if started.elapsed() > PATIENCE {
                return Err(Error::Busy);
            }
            std::thread::yield_now();
        }
        Ok(Duration::ZERO)
    }
}

struct Replacement<'a> {
    name: &'a str,
    host: usize,
    graft: usize,
}

/// The functions that the graft replaces, by the host's symbol index.
fn replacements<'a>(host: &Module, graft: &'a Module) -> Result<HashMap<u32, Replacement<'a>>, Error> {
    let mut replaced = HashMap::new();
    for symbol in graft.definitions().filter(|symbol| symbol.kind == elf::STT_FUNC && symbol.name != ENTRY) {
        let own = host.symbol(symbol.name).filter(|own| own.kind == elf::STT_FUNC);
        let own =
            own.ok_or_else(|| Error::MissingSymbol { name: symbol.name.to_owned(), path: host.path().to_owned() })?;
        replaced.insert(own.index, Replacement { name: symbol.name, host: own.address, graft: symbol.address });
    }
    Ok(replaced)
}

fn slot(host: &Module, relocation: &Relocation, replacement: &Replacement<'_>) -> Result<Slot, Error> {
    let is_address = match relocation.kind {
        elf::R_X86_64_JUMP_SLOT | elf::R_X86_64_GLOB_DAT => true,
        elf::R_X86_64_64 => relocation.addend == 0,
        _ => false,
    };
    if !is_address || !relocation.place.is_multiple_of(align_of::<AtomicUsize>()) {
        let (name, kind) = (replacement.name.to_owned(), relocation.kind);
        return Err(Error::Relocation { name, kind, path: host.path().to_owned() });
    }
    Ok(Slot {
        name: replacement.name.into(),
        place: relocation.place,
        host: replacement.host,
        graft: replacement.graft,
    })
}

/// The pages from the first to the last of these slots.
fn pages<'a>(slots: impl Iterator<Item = &'a Slot>) -> Range<usize> {
    let page = page_size();
    let places: Vec<usize> = slots.map(|slot| slot.place & !(page - 1)).collect();
    match (places.iter().min(), places.iter().max()) {
        (Some(first), Some(last)) => *first..last + page,
        _ => 0..0,
    }
}
