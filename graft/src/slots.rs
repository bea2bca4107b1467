//! The host's linkage slots: which ones lead to replaced functions, and writing them.

use crate::Error;
use crate::module::{Module, Relocation, page_size};
use object::elf;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long to wait for another copy of this code that has begun to write. It needs less than a millisecond.
const PATIENCE: Duration = Duration::from_secs(5);

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
    /// Looks the slots up and checks that each holds the host's function or, from an earlier time, the graft's.
    pub(crate) fn find(host: &Module, graft: &Module, skip: &HashSet<&str>) -> Result<Self, Error> {
        let replaced = replacements(host, graft, skip)?;
        let mut slots = Vec::new();
        for relocation in host.relocations() {
            if let Some(replacement) = replaced.get(&relocation.symbol) {
                slots.push(slot(host, &relocation, replacement)?);
            }
        }
        let relro = host.relro();
        let is_protected = |slot: &Slot| relro.contains(&slot.place);
        // The lock must be writable without mprotect: the one who fails to take it must not touch protection.
        slots.sort_by_key(|slot| (is_protected(slot), slot.place));
        let protected = pages(slots.iter().filter(|slot| is_protected(slot)));
        let slots = Self { slots, protected, path: host.path().to_owned() };
        slots.check(host)?;
        Ok(slots)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Name and present value of every slot.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&str, usize)> {
        self.slots.iter().map(|slot| (&*slot.name, slot.word().load(Ordering::Acquire)))
    }

    fn check(&self, host: &Module) -> Result<(), Error> {
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

    /// Makes all slots lead to the graft, or none. Returns how long that took: nothing when it was done before.
    pub(crate) fn write(&self) -> Result<Duration, Error> {
        let Some((lock, others)) = self.slots.split_first() else { return Ok(Duration::ZERO) };
        let started = Instant::now();
        // AcqRel: the graft's memory must be visible to whoever calls through the slot; and who finds it taken must see it.
        match lock.word().compare_exchange(lock.host, lock.graft, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {}
            Err(present) if present == lock.graft => return self.wait(others).map(|()| Duration::ZERO),
            Err(address) => {
                return Err(Error::BoundElsewhere { name: lock.name.to_string(), address, path: self.path.clone() });
            }
        }
        if let Err(error) = self.store(others, |slot| slot.graft) {
            // The lock last: it says whether the others may be touched.
            let _reported_already = self.store(others, |slot| slot.host);
            lock.word().store(lock.host, Ordering::Release);
            return Err(error);
        }
        Ok(started.elapsed())
    }

    /// Makes all slots lead to the host's functions.
    pub(crate) fn undo(&self) -> Result<(), Error> {
        let Some((lock, others)) = self.slots.split_first() else { return Ok(()) };
        self.store(others, |slot| slot.host)?;
        lock.word().store(lock.host, Ordering::Release);
        Ok(())
    }

    fn store(&self, slots: &[Slot], value: impl Fn(&Slot) -> usize) -> Result<(), Error> {
        self.protect(libc::PROT_READ | libc::PROT_WRITE)?;
        for slot in slots {
            // Release: whoever reads the address also sees the code and data behind it.
            slot.word().store(value(slot), Ordering::Release);
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

    /// Another copy of this code installs the same graft: wait until it is done.
    fn wait(&self, others: &[Slot]) -> Result<(), Error> {
        let started = Instant::now();
        while others.iter().any(|slot| slot.word().load(Ordering::Acquire) != slot.graft) {
            if started.elapsed() > PATIENCE {
                return Err(Error::Busy);
            }
            std::thread::yield_now();
        }
        Ok(())
    }
}

struct Replacement<'a> {
    name: &'a str,
    host: usize,
    graft: usize,
}

/// The functions that the graft replaces, by the host's symbol index.
fn replacements<'a>(
    host: &Module,
    graft: &'a Module,
    skip: &HashSet<&str>,
) -> Result<HashMap<u32, Replacement<'a>>, Error> {
    let mut replaced = HashMap::new();
    for symbol in graft.definitions().filter(|symbol| symbol.kind == elf::STT_FUNC && !skip.contains(symbol.name)) {
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
