//! Pages of machine code, never writable and executable at once.
//!
//! An arena is a stretch of addresses without access, and a memfd. A program's pages are written into the file and then mapped
//! into the arena, read and execute; there is no writable view of them at any time. A page without access follows them. When the
//! program goes, its pages are cut out of the arena and given back to the system. This works under PR_SET_MDWE too, which
//! forbids making pages executable that once were not: here every view is born with its rights.
//!
//! A forked child has no views, and leaves its parent's arenas alone: it shares their file, but not the knowledge of which pages
//! are taken.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd, FromRawFd},
        unix::fs::FileExt,
    },
    process, ptr, slice,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Error;

const PAGE: usize = 4096;
/// Pages in an arena, unless one program needs more.
const ARENA_PAGES: usize = 1024;
const INT3: u8 = 0xcc;

/// One program's code, mapped read and execute.
#[derive(Debug)]
pub struct Code {
    arena: Arc<Arena>,
    first: usize,
    pages: usize,
    len: usize,
}

#[derive(Debug)]
struct Arena {
    /// The process that may use it.
    owner: u32,
    base: usize,
    file: File,
    taken: Mutex<Vec<bool>>,
}

static ARENAS: Mutex<Vec<Arc<Arena>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here panics half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused(step: &'static str) -> Error {
    Error::Memory { step, source: io::Error::last_os_error() }
}

impl Code {
    /// Puts bytes into executable pages.
    pub fn new(bytes: &[u8]) -> Result<Code, Error> {
        let pages = pages_for(bytes);
        let (arena, first) = take(pages)?;
        Code::fill(arena, first, pages, bytes)
    }

    /// Fills pages that were taken in an arena.
    fn fill(arena: Arc<Arena>, first: usize, pages: usize, bytes: &[u8]) -> Result<Code, Error> {
        let code = Code { arena, first, pages, len: bytes.len() };
        // On failure Drop gives the pages back.
        code.write(bytes)?;
        code.map()?;
        Ok(code)
    }

    pub fn address(&self) -> usize {
        self.arena.base + self.first * PAGE
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the pages are mapped readable, hold `len` bytes and change no more.
        unsafe { slice::from_raw_parts(self.address() as *const u8, self.len) }
    }

    fn size(&self) -> usize {
        self.pages * PAGE
    }

    fn offset(&self) -> libc::off_t {
        (self.first * PAGE) as libc::off_t
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        let mut pages = Vec::with_capacity(self.size());
        pages.extend_from_slice(bytes);
        pages.resize(self.size(), INT3);
        let offset = (self.first * PAGE) as u64;
        self.arena.file.write_all_at(&pages, offset).map_err(|source| Error::Memory { step: "pwrite", source })
    }

    fn map(&self) -> Result<(), Error> {
        let (address, rights) = (self.address() as *mut _, libc::PROT_READ | libc::PROT_EXEC);
        let (flags, fd) = (libc::MAP_SHARED | libc::MAP_FIXED, self.arena.file.as_raw_fd());
        // SAFETY: replaces inaccessible pages of the arena that take() gave to this program alone.
        let view = unsafe { libc::mmap(address, self.size(), rights, flags, fd, self.offset()) };
        if view == libc::MAP_FAILED {
            return Err(refused("mmap, executable"));
        }
        // SAFETY: advice about the view just made.
        unsafe { libc::madvise(view, self.size(), libc::MADV_DONTFORK) };
        Ok(())
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        if self.arena.is_foreign() {
            return;
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        let hole = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: nobody runs or will run this code: whoever holds a Program unpublished it and waited for the host. The pages
        // are this program's own until they are marked free below.
        unsafe {
            libc::mmap(self.address() as *mut _, self.size(), libc::PROT_NONE, flags, -1, 0);
            libc::fallocate(self.arena.file.as_raw_fd(), hole, self.offset(), self.size() as libc::off_t);
        }
        lock(&self.arena.taken)[self.first..=self.first + self.pages].fill(false);
    }
}

fn pages_for(bytes: &[u8]) -> usize {
    bytes.len().div_ceil(PAGE).max(1)
}

/// Finds room for pages and the one behind them.
fn take(pages: usize) -> Result<(Arc<Arena>, usize), Error> {
    let mut arenas = lock(&ARENAS);
    for arena in arenas.iter().filter(|arena| !arena.is_foreign()) {
        if let Some(first) = arena.take(pages) {
            return Ok((arena.clone(), first));
        }
    }
    let arena = Arc::new(Arena::new(ARENA_PAGES.max(pages + 1))?);
    let first = arena.take(pages).unwrap_or(0);
    arenas.push(arena.clone());
    Ok((arena, first))
}

impl Arena {
    fn new(pages: usize) -> Result<Arena, Error> {
        // SAFETY: a constant name and flags.
        let fd = unsafe { libc::memfd_create(c"duckbpf".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(refused("memfd_create"));
        }
        // SAFETY: a descriptor just made that nobody else owns.
        let file = unsafe { File::from_raw_fd(fd) };
        let size = pages * PAGE;
        file.set_len(size as u64).map_err(|source| Error::Memory { step: "ftruncate", source })?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: fresh addresses without access.
        let base = unsafe { libc::mmap(ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(refused("mmap, reserved"));
        }
        Ok(Arena { owner: process::id(), base: base as usize, file, taken: Mutex::new(vec![false; pages]) })
    }

    /// It is the parent's of this forked process.
    fn is_foreign(&self) -> bool {
        self.owner != process::id()
    }

    fn take(&self, pages: usize) -> Option<usize> {
        let mut taken = lock(&self.taken);
        let first = taken.windows(pages + 1).position(|window| window.iter().all(|taken| !taken))?;
        taken[first..=first + pages].fill(true);
        Some(first)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let pages = lock(&self.taken).len();
        // SAFETY: every Code holds the arena, so none is left.
        unsafe { libc::munmap(self.base as *mut _, pages * PAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(address: usize) -> Option<String> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().find_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
            range.contains(&address).then(|| rest[..4].to_owned())
        })
    }

    #[test]
    fn code_is_executable_never_writable_and_goes() {
        // An arena of its own: nobody else takes the pages when they are free again.
        let arena = Arc::new(Arena::new(8).unwrap());
        let bytes = [0xc3; 5000];
        let first = arena.take(pages_for(&bytes)).unwrap();
        let code = Code::fill(arena.clone(), first, pages_for(&bytes), &bytes).unwrap();
        let address = code.address();
        assert_eq!(code.bytes(), [0xc3; 5000]);
        assert_eq!(rights(address).as_deref(), Some("r-xs"));
        assert_eq!(rights(address + 2 * PAGE).as_deref(), Some("---p"), "a guard page follows");
        // SAFETY: the two pages are mapped.
        assert_eq!(unsafe { *((address + 5000) as *const u8) }, INT3);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(!maps.lines().any(|line| line.contains("rwx")), "nothing is writable and executable:\n{maps}");
        drop(code);
        assert_eq!(rights(address).as_deref(), Some("---p"));
        assert!(lock(&arena.taken).iter().all(|taken| !taken));
    }

    #[test]
    fn pages_are_used_again() {
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let keep = Code::new(&[0xc3]).unwrap();
        let before = descriptors();
        for size in 0..20_000usize {
            Code::new(&vec![0x90; size % 9000]).unwrap();
        }
        assert!(descriptors() <= before + 1, "one arena serves all");
        assert_eq!(keep.bytes(), [0xc3]);
    }

    #[test]
    fn a_large_program_gets_an_arena_of_its_own() {
        let bytes = vec![0x90; (ARENA_PAGES + 3) * PAGE];
        assert_eq!(Code::new(&bytes).unwrap().bytes(), bytes);
    }
}
