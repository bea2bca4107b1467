//! Memory of machine code, never writable and executable at once.
//!
//! An arena is a stretch of addresses without access, and a memfd. Extents of some pages are opened in it: their bytes in the
//! file become `int3`, then they are mapped read and execute, for as long as any program lies in them, with a page without access
//! between them and the next. Programs are placed in an open extent, on cache lines of their own and with a line of `int3`
//! behind, so that a program costs one `pwrite` and no mapping. They are written through the file: no writable view of code
//! exists at any time, not even of pages that nobody runs yet, and nothing needs to be unmapped before a program is published.
//!
//! When a program goes, its bytes become `int3` again; with an extent's last program its pages are cut out of the arena and given
//! back to the system. All of this works under PR_SET_MDWE too, which forbids making pages executable that once were not: here
//! every view is born with its rights.
//!
//! A forked child has no views, and leaves its parent's arenas alone: it shares their file, but not the knowledge of which bytes
//! are taken.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd, FromRawFd},
        unix::fs::FileExt,
    },
    process, ptr, slice,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use super::Error;

const PAGE: usize = 4096;
/// Pages in an arena, unless one program needs more.
const ARENA_PAGES: usize = 4096;
/// Pages in an extent, unless one program needs more.
const EXTENT_PAGES: usize = 16;
/// Programs begin on cache lines: writing one does not touch a line that another thread executes.
const LINE: usize = 64;
const INT3: u8 = 0xcc;

/// One program's code, mapped read and execute.
#[derive(Debug)]
pub struct Code {
    arena: Arc<Arena>,
    /// From the arena's base.
    offset: usize,
    /// With the lines of int3 behind it.
    size: usize,
    len: usize,
}

#[derive(Debug)]
struct Arena {
    /// The process that may use it.
    owner: u32,
    base: usize,
    file: File,
    extents: Mutex<Extents>,
}

/// Which pages are open, and what is free in them.
#[derive(Debug)]
struct Extents {
    /// By page of the arena.
    taken: Vec<bool>,
    open: Vec<Extent>,
}

#[derive(Debug)]
struct Extent {
    first: usize,
    pages: usize,
    /// Free bytes of the arena, (offset, size), in order, never adjacent.
    free: Vec<(usize, usize)>,
}

static ARENAS: Mutex<Vec<Arc<Arena>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here panics half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells this process from its forks: their number, which costs no system call.
fn process() -> u32 {
    static FORKS: AtomicU32 = AtomicU32::new(0);
    static COUNTED: OnceLock<bool> = OnceLock::new();
    extern "C" fn forked() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the function touches an atomic number only, which a child may do.
    let counted = *COUNTED.get_or_init(|| unsafe { libc::pthread_atfork(None, None, Some(forked)) } == 0);
    if counted { FORKS.load(Ordering::Relaxed) } else { process::id() }
}

fn refused(step: &'static str) -> Error {
    Error::Memory { step, source: io::Error::last_os_error() }
}

impl Code {
    /// Puts bytes where they can be executed.
    pub fn new(bytes: &[u8]) -> Result<Code, Error> {
        let process = process();
        let mut arenas = lock(&ARENAS);
        for arena in arenas.iter().filter(|arena| arena.owner == process) {
            if let Some(code) = Code::place(arena, bytes)? {
                return Ok(code);
            }
        }
        let pages = size_of_code(bytes).div_ceil(PAGE);
        let arena = Arc::new(Arena::new(ARENA_PAGES.max(pages + 1), process)?);
        let code = Code::place(&arena, bytes)?.ok_or_else(|| refused("a new arena"))?;
        arenas.push(arena);
        Ok(code)
    }

    /// None: the arena has no room.
    fn place(arena: &Arc<Arena>, bytes: &[u8]) -> Result<Option<Code>, Error> {
        let size = size_of_code(bytes);
        let Some(offset) = arena.take(size)? else { return Ok(None) };
        // On failure Drop gives the bytes back.
        let code = Code { arena: arena.clone(), offset, size, len: bytes.len() };
        arena.write(offset, bytes)?;
        Ok(Some(code))
    }

    pub fn address(&self) -> usize {
        self.arena.base + self.offset
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped readable, `len` bytes, and unchanged until Drop.
        unsafe { slice::from_raw_parts(self.address() as *const u8, self.len) }
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        // Nobody runs or will run this code: whoever holds a Program unpublished it and waited for the host.
        if self.arena.owner == process() {
            self.arena.give_back(self.offset, self.size);
        }
    }
}

/// Whole lines, and one more.
fn size_of_code(bytes: &[u8]) -> usize {
    bytes.len().next_multiple_of(LINE) + LINE
}

impl Arena {
    fn new(pages: usize, owner: u32) -> Result<Arena, Error> {
        // SAFETY: a constant name and flags.
        let fd = unsafe { libc::memfd_create(c"duckbpf-code".as_ptr(), libc::MFD_CLOEXEC) };
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
        let extents = Extents { taken: vec![false; pages], open: Vec::new() };
        Ok(Arena { owner, base: base as usize, file, extents: Mutex::new(extents) })
    }

    fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all_at(bytes, offset as u64).map_err(|source| Error::Memory { step: "pwrite", source })
    }

    /// Finds room in an open extent, or opens one.
    fn take(&self, size: usize) -> Result<Option<usize>, Error> {
        let mut extents = lock(&self.extents);
        if let Some(offset) = extents.open.iter_mut().find_map(|extent| extent.take(size)) {
            return Ok(Some(offset));
        }
        let pages = size.div_ceil(PAGE).max(EXTENT_PAGES.min(extents.taken.len() - 1));
        let Some(first) = extents.find(pages) else { return Ok(None) };
        self.open(first, pages)?;
        // With the page behind it, which nobody can touch.
        extents.taken[first..=first + pages].fill(true);
        let mut extent = Extent { first, pages, free: vec![(first * PAGE, pages * PAGE)] };
        let offset = extent.take(size);
        extents.open.push(extent);
        Ok(offset)
    }

    fn open(&self, first: usize, pages: usize) -> Result<(), Error> {
        let (offset, size) = (first * PAGE, pages * PAGE);
        self.write(offset, &vec![INT3; size])?;
        let (address, rights) = ((self.base + offset) as *mut _, libc::PROT_READ | libc::PROT_EXEC);
        let (flags, fd) = (libc::MAP_SHARED | libc::MAP_FIXED, self.file.as_raw_fd());
        // SAFETY: replaces inaccessible pages of the arena that belong to no extent.
        let view = unsafe { libc::mmap(address, size, rights, flags, fd, offset as libc::off_t) };
        if view == libc::MAP_FAILED {
            return Err(refused("mmap, executable"));
        }
        // SAFETY: advice about the view just made.
        unsafe { libc::madvise(view, size, libc::MADV_DONTFORK) };
        Ok(())
    }

    fn give_back(&self, offset: usize, size: usize) {
        let mut extents = lock(&self.extents);
        let page = offset / PAGE;
        let Some(index) = extents.open.iter().position(|one| (one.first..one.first + one.pages).contains(&page)) else {
            return;
        };
        extents.open[index].give_back(offset, size);
        if extents.open[index].is_empty() {
            let Extent { first, pages, .. } = extents.open.swap_remove(index);
            self.close(first, pages);
            extents.taken[first..=first + pages].fill(false);
        } else {
            // A failure leaves dead code that nobody calls, until the bytes are written again.
            let _ = self.write(offset, &vec![INT3; size]);
        }
    }

    fn close(&self, first: usize, pages: usize) {
        let (offset, size) = (first * PAGE, pages * PAGE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        let hole = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: pages of an extent of this arena in which no program is left; they are marked free only afterwards.
        unsafe {
            libc::mmap((self.base + offset) as *mut _, size, libc::PROT_NONE, flags, -1, 0);
            libc::fallocate(self.file.as_raw_fd(), hole, offset as libc::off_t, size as libc::off_t);
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let pages = lock(&self.extents).taken.len();
        // SAFETY: every Code holds the arena, so none is left.
        unsafe { libc::munmap(self.base as *mut _, pages * PAGE) };
    }
}

impl Extents {
    /// Free pages, and one more.
    fn find(&self, pages: usize) -> Option<usize> {
        let mut run = 0;
        let last = self.taken.iter().position(|&taken| {
            run = if taken { 0 } else { run + 1 };
            run > pages
        })?;
        Some(last - pages)
    }
}

impl Extent {
    fn take(&mut self, size: usize) -> Option<usize> {
        let index = self.free.iter().position(|&(_, free)| free >= size)?;
        let (offset, free) = self.free[index];
        match free == size {
            true => drop(self.free.remove(index)),
            false => self.free[index] = (offset + size, free - size),
        }
        Some(offset)
    }

    fn give_back(&mut self, offset: usize, size: usize) {
        let next = self.free.partition_point(|&(start, _)| start < offset);
        self.free.insert(next, (offset, size));
        for index in [next, next.saturating_sub(1)] {
            if let (Some(&(start, size)), Some(&(after, more))) = (self.free.get(index), self.free.get(index + 1))
                && start + size == after
            {
                self.free[index].1 = size + more;
                self.free.remove(index + 1);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.free == [(self.first * PAGE, self.pages * PAGE)]
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

    /// An arena of a test's own: nobody else takes bytes when they are free again.
    fn arena(pages: usize) -> Arc<Arena> {
        Arc::new(Arena::new(pages, process()).unwrap())
    }

    fn place(arena: &Arc<Arena>, bytes: &[u8]) -> Code {
        Code::place(arena, bytes).unwrap().expect("room")
    }

    #[test]
    fn code_is_executable_never_writable_and_goes() {
        let arena = arena(8);
        let code = place(&arena, &[0xc3; 5000]);
        let address = code.address();
        assert_eq!(code.bytes(), [0xc3; 5000]);
        assert_eq!(rights(address).as_deref(), Some("r-xs"));
        assert_eq!(rights(arena.base + 7 * PAGE).as_deref(), Some("---p"), "a guard page follows");
        // SAFETY: within the extent's seven pages.
        let after = unsafe { slice::from_raw_parts((address + 5000) as *const u8, 7 * PAGE - 5000) };
        assert!(after.iter().all(|&byte| byte == INT3));
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(!maps.lines().any(|line| line.contains("rwx")), "nothing is writable and executable:\n{maps}");
        let writable = |line: &str| line.contains("memfd:duckbpf-code") && line.contains(" rw");
        assert!(!maps.lines().any(writable), "no writable view:\n{maps}");
        drop(code);
        assert_eq!(rights(address).as_deref(), Some("---p"));
        assert!(lock(&arena.extents).taken.iter().all(|taken| !taken));
    }

    #[test]
    fn programs_share_an_extent_on_lines_of_their_own() {
        let arena = arena(32);
        let first = place(&arena, &[0xc3]);
        let second = place(&arena, &[0x90; 100]);
        let third = place(&arena, &[0xc3; 64]);
        assert_eq!(lock(&arena.extents).open.len(), 1);
        for code in [&first, &second, &third] {
            assert_eq!(code.address() % LINE, 0);
        }
        assert!(second.address() >= first.address() + 2 * LINE, "int3 lies between");
        let gone = second.address();
        drop(second);
        // SAFETY: the extent is open still.
        let left = unsafe { slice::from_raw_parts(gone as *const u8, 100) };
        assert!(left.iter().all(|&byte| byte == INT3), "what was there traps");
        let again = place(&arena, &[0xc3; 100]);
        assert_eq!(again.address(), gone, "and is used again");
        assert_eq!((first.bytes(), third.bytes()), (&[0xc3][..], &[0xc3; 64][..]));
    }

    #[test]
    fn free_bytes_merge_whatever_the_order() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let arena = arena(32);
            let mut codes: Vec<Option<Code>> = (0..3).map(|_| Some(place(&arena, &[0xc3; 10]))).collect();
            for index in order {
                codes[index] = None;
            }
            assert!(lock(&arena.extents).open.is_empty(), "{order:?}");
        }
    }

    #[test]
    fn a_full_arena_says_so() {
        let arena = arena(3);
        let all = place(&arena, &[0xc3; 2 * PAGE - LINE]);
        assert!(Code::place(&arena, &[0xc3]).unwrap().is_none());
        drop(all);
        assert!(Code::place(&arena, &[0xc3]).unwrap().is_some());
    }

    #[test]
    fn memory_is_used_again() {
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let keep = Code::new(&[0xc3]).unwrap();
        let before = descriptors();
        let mut kept = std::collections::VecDeque::new();
        for size in 0..20_000usize {
            kept.push_back(Code::new(&vec![0x90; size * 7 % 9000]).unwrap());
            if kept.len() > 10 {
                kept.pop_front();
            }
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
