//! The memory that holds an object's global variables.
//!
//! One mapping: a guard page, the read-only sections, the writable sections, a guard page. Read-only pages are made so once
//! they are filled. Programs know the addresses; the mapping lives as long as the last of them.

use std::{io, ptr, sync::Arc};

use super::Region;
use crate::maps::words;

const PAGE: usize = 4096;
/// Regions begin on cache lines.
const ALIGN: usize = 64;

#[derive(Debug, thiserror::Error)]
#[error("the system refused {bytes} bytes for global variables: {source}")]
pub struct MemoryError {
    pub bytes: usize,
    pub source: io::Error,
}

/// Where a region lies in the process.
#[derive(Clone, Copy, Debug)]
pub struct RegionMap {
    pub address: usize,
    pub size: usize,
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only machine code depends on it"))]
    pub writable: bool,
}

/// The global variables of one load of an object.
#[derive(Debug)]
pub struct Memory {
    base: usize,
    mapped: usize,
    regions: Vec<RegionMap>,
}

impl Memory {
    /// Maps and fills the regions. Without any, nothing is mapped.
    pub fn new(regions: &[Region]) -> Result<Arc<Memory>, MemoryError> {
        if regions.is_empty() {
            return Ok(Arc::new(Memory { base: 0, mapped: 0, regions: Vec::new() }));
        }
        let (offsets, total) = layout(regions);
        let memory = Memory::reserve(regions, &offsets, total)?;
        memory.protect(0, total, libc::PROT_READ | libc::PROT_WRITE)?;
        memory.fill(regions);
        let read_only = regions.iter().zip(&offsets).filter(|(region, _)| !region.writable);
        let end = read_only.map(|(region, offset)| offset + region.size as usize).max();
        // Read-only regions fill whole pages of their own at the start of the mapping.
        memory.protect(0, end.unwrap_or(0).next_multiple_of(PAGE), libc::PROT_READ)?;
        Ok(Arc::new(memory))
    }

    /// Each region alone on its pages, between pages that nobody may touch: at the end of its pages or at their beginning.
    #[cfg(any(test, feature = "testing"))]
    pub fn guarded(regions: &[Region], at_end: bool) -> Result<Arc<Memory>, MemoryError> {
        let pages = |region: &Region| (region.size as usize).next_multiple_of(PAGE);
        let mut total = 0;
        let mut firsts = Vec::with_capacity(regions.len());
        for region in regions {
            firsts.push(total);
            total += pages(region) + PAGE;
        }
        let slack = |region: &Region| if at_end { pages(region) - region.size as usize } else { 0 };
        let offsets: Vec<usize> = firsts.iter().zip(regions).map(|(first, region)| first + slack(region)).collect();
        let memory = Memory::reserve(regions, &offsets, total)?;
        for (first, region) in firsts.iter().zip(regions) {
            memory.protect(*first, pages(region), libc::PROT_READ | libc::PROT_WRITE)?;
        }
        memory.fill(regions);
        for (first, region) in firsts.iter().zip(regions).filter(|(_, region)| !region.writable) {
            memory.protect(*first, pages(region), libc::PROT_READ)?;
        }
        Ok(Arc::new(memory))
    }

    /// Addresses without access, `total` bytes between two guard pages.
    fn reserve(regions: &[Region], offsets: &[usize], total: usize) -> Result<Memory, MemoryError> {
        let mapped = total + 2 * PAGE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe { libc::mmap(ptr::null_mut(), mapped, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(MemoryError { bytes: mapped, source: io::Error::last_os_error() });
        }
        let start = base as usize + PAGE;
        let map = regions.iter().zip(offsets).map(|(region, offset)| RegionMap {
            address: start + offset,
            size: region.size as usize,
            writable: region.writable,
        });
        // From here on Drop unmaps.
        Ok(Memory { base: base as usize, mapped, regions: map.collect() })
    }

    /// Sets the rights of some pages between the guard pages.
    fn protect(&self, offset: usize, bytes: usize, rights: i32) -> Result<(), MemoryError> {
        assert!(offset + bytes + 2 * PAGE <= self.mapped, "only between the guard pages");
        let start = self.base + PAGE + offset;
        // SAFETY: these pages lie within this value's own mapping.
        if bytes > 0 && unsafe { libc::mprotect(start as *mut _, bytes, rights) } != 0 {
            return Err(MemoryError { bytes, source: io::Error::last_os_error() });
        }
        Ok(())
    }

    /// Puts what the regions begin with into their pages, which are writable still.
    fn fill(&self, regions: &[Region]) {
        for (region, map) in regions.iter().zip(&self.regions) {
            // SAFETY: the layout gave the region `size` bytes of its own there, writable now; bytes.len() <= size by parse().
            unsafe { ptr::copy_nonoverlapping(region.bytes.as_ptr(), map.address as *mut u8, region.bytes.len()) };
        }
    }

    /// Bytes of global variables.
    pub fn size(&self) -> usize {
        self.regions.iter().map(|region| region.size).sum()
    }

    /// What a region holds now.
    pub fn read(&self, region: usize) -> Option<Vec<u8>> {
        let map = self.regions.get(region)?;
        // SAFETY: the region is mapped and readable; programs may write to it meanwhile.
        Some(unsafe { words::read(map.address as *const u8, map.size) })
    }

    /// In the order of the object's regions.
    pub fn regions(&self) -> &[RegionMap] {
        &self.regions
    }
}

/// Offsets of the regions, those that are read-only first and on pages of their own, and the size of all pages.
fn layout(regions: &[Region]) -> (Vec<usize>, usize) {
    let mut offsets = vec![0; regions.len()];
    let mut place = |writable: bool, mut end: usize| {
        for (region, offset) in regions.iter().zip(&mut offsets).filter(|(region, _)| region.writable == writable) {
            *offset = end;
            end = (end + region.size as usize).next_multiple_of(ALIGN);
        }
        end.next_multiple_of(PAGE)
    };
    let read_only = place(false, 0);
    let total = place(true, read_only);
    (offsets, total)
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.mapped != 0 {
            // SAFETY: the mapping is this value's own, and every program that knows its addresses holds the value.
            unsafe { libc::munmap(self.base as *mut _, self.mapped) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str, writable: bool, size: u64, bytes: &[u8]) -> Region {
        Region { name: name.into(), writable, size, bytes: bytes.to_vec() }
    }

    #[test]
    fn regions_are_filled_and_apart() {
        let memory = Memory::new(&[
            region(".data", true, 4, &[1, 2, 3, 4]),
            region(".rodata", false, 5000, &[7; 5000]),
            region(".bss", true, 100, &[]),
        ])
        .unwrap();
        let read = |index: usize, at: usize| {
            let map = memory.regions()[index];
            assert!(at < map.size);
            // SAFETY: within the region.
            unsafe { *((map.address + at) as *const u8) }
        };
        assert_eq!((read(0, 0), read(0, 3), read(1, 4999), read(2, 99)), (1, 4, 7, 0));
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let protection = |index: usize| {
            let address = memory.regions()[index].address;
            maps.lines()
                .find(|line| {
                    let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
                    (usize::from_str_radix(start, 16).unwrap()..usize::from_str_radix(end, 16).unwrap())
                        .contains(&address)
                })
                .map(|line| line.split(' ').nth(1).unwrap()[..3].to_owned())
        };
        assert_eq!(protection(0).as_deref(), Some("rw-"));
        assert_eq!(protection(1).as_deref(), Some("r--"));
    }

    #[test]
    fn guarded_regions_touch_pages_without_access() {
        for at_end in [false, true] {
            let regions = [region(".bss", true, 100, &[1]), region(".rodata", false, PAGE as u64 + 8, &[2])];
            let memory = Memory::guarded(&regions, at_end).unwrap();
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            for map in memory.regions() {
                let edge = if at_end { map.address + map.size } else { map.address };
                assert!(edge.is_multiple_of(PAGE), "{map:?}");
                let beyond = if at_end { edge } else { edge - PAGE };
                let line = maps.lines().find(|line| {
                    let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
                    let range = usize::from_str_radix(start, 16).unwrap()..usize::from_str_radix(end, 16).unwrap();
                    range.contains(&beyond)
                });
                assert!(line.is_some_and(|line| line.contains(" ---p ")), "{map:?} at end {at_end}: {line:?}");
            }
            assert_eq!((memory.read(0).unwrap()[0], memory.read(1).unwrap()[0]), (1, 2));
        }
    }

    #[test]
    fn without_regions_nothing_is_mapped() {
        assert_eq!(Memory::new(&[]).unwrap().mapped, 0);
    }
}
