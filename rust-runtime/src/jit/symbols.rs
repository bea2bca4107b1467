//! Names of programs for profilers and debuggers, for whoever asks: `DUCKBPF_JIT_SYMBOLS=perf`, `gdb` or `perf,gdb` in the
//! environment of the process.
//!
//! - `perf`: lines in `/tmp/perf-<pid>.map`, which `perf report` reads (tools/perf/Documentation/jit-interface.txt in Linux).
//! - `gdb`: an ELF file in memory for each program, announced as gdb's manual, "JIT Compilation Interface", describes.
//!
//! Nobody asked: one look at a variable for each compiled program.

use std::{
    env,
    ffi::c_char,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    process, ptr,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

/// Who is told.
#[derive(Clone, Copy, Default)]
struct Asked {
    perf: bool,
    gdb: bool,
}

/// A program that gdb knows; it forgets it when this goes.
#[derive(Debug)]
pub struct Announced(Option<Box<Entry>>);

/// Tells who asked of a program's code.
pub fn announce(name: &str, address: usize, size: usize) -> Announced {
    static ASKED: OnceLock<Asked> = OnceLock::new();
    let asked = *ASKED.get_or_init(|| {
        let wanted = env::var("DUCKBPF_JIT_SYMBOLS").unwrap_or_default();
        let has = |name| wanted.split(',').any(|word| word.trim() == name);
        Asked { perf: has("perf"), gdb: has("gdb") }
    });
    if asked.perf {
        tell_perf(name, address, size);
    }
    Announced(asked.gdb.then(|| Entry::register(name, address, size)))
}

impl Drop for Announced {
    fn drop(&mut self) {
        if let Some(entry) = &mut self.0 {
            entry.unregister();
        }
    }
}

fn tell_perf(name: &str, address: usize, size: usize) {
    static MAP: Mutex<Option<(u32, Option<File>)>> = Mutex::new(None);
    let mut map = MAP.lock().unwrap_or_else(PoisonError::into_inner);
    let process = process::id();
    if map.as_ref().is_none_or(|(owner, _)| *owner != process) {
        let path = env::temp_dir().join(format!("perf-{process}.map"));
        // Never through a link that somebody else put there.
        let file = OpenOptions::new().append(true).create(true).mode(0o644).custom_flags(libc::O_NOFOLLOW).open(path);
        *map = Some((process, file.ok()));
    }
    if let Some((_, Some(file))) = map.as_mut() {
        // Without the line a profile shows an address: not worth failing for.
        let _ = writeln!(file, "{address:x} {size:x} duckbpf:{name}");
    }
}

/// `struct jit_code_entry` of gdb's manual, and the file that it refers to.
#[repr(C)]
#[derive(Debug)]
struct Entry {
    next: *mut Entry,
    previous: *mut Entry,
    file: *const c_char,
    size: u64,
    elf: Vec<u8>,
}

// SAFETY: the pointers are only followed and changed under REGISTERING, and by gdb, which stops the process.
unsafe impl Send for Entry {}
// SAFETY: as above.
unsafe impl Sync for Entry {}

/// `struct jit_descriptor`.
#[repr(C)]
struct Descriptor {
    version: u32,
    action: u32,
    relevant: *mut Entry,
    first: *mut Entry,
}

const REGISTER: u32 = 1;
const UNREGISTER: u32 = 2;

/// gdb finds it by this name. Tests of this crate link it twice, and do without.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[allow(non_upper_case_globals, reason = "gdb's name; without no_mangle, in tests, the compiler minds")]
static mut __jit_debug_descriptor: Descriptor =
    Descriptor { version: 1, action: 0, relevant: ptr::null_mut(), first: ptr::null_mut() };

/// gdb has a breakpoint in here.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[inline(never)]
extern "C" fn __jit_debug_register_code() {
    std::hint::black_box(());
}

fn registering() -> MutexGuard<'static, ()> {
    static REGISTERING: Mutex<()> = Mutex::new(());
    REGISTERING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Entry {
    fn register(name: &str, address: usize, size: usize) -> Box<Entry> {
        let elf = elf(name, address as u64, size as u64);
        let file = elf.as_ptr().cast();
        let size = elf.len() as u64;
        let mut entry = Box::new(Entry { next: ptr::null_mut(), previous: ptr::null_mut(), file, size, elf });
        let _alone = registering();
        let descriptor = &raw mut __jit_debug_descriptor;
        // SAFETY: the list is changed under the lock only; its entries live until unregister() took them out.
        unsafe {
            entry.next = (*descriptor).first;
            if let Some(next) = entry.next.as_mut() {
                next.previous = &raw mut *entry;
            }
            (*descriptor).first = &raw mut *entry;
            (*descriptor).relevant = &raw mut *entry;
            (*descriptor).action = REGISTER;
        }
        __jit_debug_register_code();
        entry
    }

    fn unregister(&mut self) {
        let _alone = registering();
        let descriptor = &raw mut __jit_debug_descriptor;
        // SAFETY: as in register(); the entry is in the list.
        unsafe {
            match self.previous.as_mut() {
                Some(previous) => previous.next = self.next,
                None => (*descriptor).first = self.next,
            }
            if let Some(next) = self.next.as_mut() {
                next.previous = self.previous;
            }
            (*descriptor).relevant = self;
            (*descriptor).action = UNREGISTER;
        }
        __jit_debug_register_code();
    }
}

const EHDR: usize = 64;
const SHDR: usize = 64;
const SYM: usize = 24;

/// The smallest ELF file that gives a stretch of code a name: one section without bits at its address, one symbol.
fn elf(name: &str, address: u64, size: u64) -> Vec<u8> {
    let names = b"\0.text\0.symtab\0.strtab\0";
    let (text, symtab, strtab) = (1, 7, 15);
    let mut strings = names.to_vec();
    let symbol = strings.len() as u32;
    strings.extend(name.bytes().filter(|byte| *byte != 0));
    strings.push(0);
    let (symbols_at, strings_at) = (EHDR, EHDR + 2 * SYM);
    let sections_at = (strings_at + strings.len()).next_multiple_of(8);
    let mut file = Vec::with_capacity(sections_at + 4 * SHDR);
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // ET_EXEC for EM_X86_64: addresses are what they say.
    put(&mut file, &[(2, 2), (62, 2), (1, 4), (address, 8), (0, 8), (sections_at as u64, 8), (0, 4)]);
    put(&mut file, &[(EHDR as u64, 2), (0, 2), (0, 2), (SHDR as u64, 2), (4, 2), (3, 2)]);
    put(&mut file, &[(0, 8), (0, 8), (0, 8)]);
    // A global function in section 1.
    put(&mut file, &[(u64::from(symbol), 4), (0x12, 1), (0, 1), (1, 2), (address, 8), (size, 8)]);
    file.extend(&strings);
    file.resize(sections_at, 0);
    let mut section = |name: u64, kind: u64, flags: u64, at: (u64, usize, u64), link: (u64, u64), entry: usize| {
        let (address, offset, size) = at;
        put(&mut file, &[(name, 4), (kind, 4), (flags, 8), (address, 8), (offset as u64, 8), (size, 8)]);
        put(&mut file, &[(link.0, 4), (link.1, 4), (8, 8), (entry as u64, 8)]);
    };
    section(0, 0, 0, (0, 0, 0), (0, 0), 0);
    // SHT_NOBITS, allocated, executable.
    section(text, 8, 6, (address, EHDR, size), (0, 0), 0);
    // Its strings are section 3's; its first global symbol is 1.
    section(symtab, 2, 0, (0, symbols_at, 2 * SYM as u64), (3, 1), SYM);
    section(strtab, 3, 0, (0, strings_at, strings.len() as u64), (0, 0), 0);
    file
}

/// Little-endian numbers of so many bytes.
fn put(file: &mut Vec<u8>, numbers: &[(u64, usize)]) {
    for &(number, size) in numbers {
        file.extend(&number.to_le_bytes()[..size]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::{Object, ObjectSection, ObjectSymbol};

    #[test]
    fn the_file_names_the_code() {
        let bytes = elf("default_load", 0x7000_1000, 0x123);
        let file = object::File::parse(&*bytes).unwrap();
        let symbols: Vec<_> =
            file.symbols().map(|symbol| (symbol.name().unwrap(), symbol.address(), symbol.size())).collect();
        assert_eq!(symbols, [("default_load", 0x7000_1000, 0x123)]);
        let text = file.section_by_name(".text").unwrap();
        assert_eq!((text.address(), text.size()), (0x7000_1000, 0x123));
    }

    #[test]
    fn gdb_sees_what_lives_and_no_more() {
        let listed = || {
            let _alone = registering();
            let mut found = Vec::new();
            // SAFETY: under the lock, entries are valid.
            let mut entry = unsafe { (&raw const __jit_debug_descriptor).read() }.first;
            // SAFETY: as above.
            while let Some(one) = unsafe { entry.as_ref() } {
                assert_eq!((one.file.cast(), one.size), (one.elf.as_ptr(), one.elf.len() as u64));
                found.push(&raw const *one);
                entry = one.next;
            }
            found
        };
        let mut entries: Vec<Box<Entry>> = (0..3).map(|index| Entry::register("p", index * 64, 64)).collect();
        let has = |entry: &Entry| listed().contains(&(&raw const *entry));
        assert!(entries.iter().all(|entry| has(entry)));
        for index in [1, 0, 2] {
            entries[index].unregister();
            assert!(!has(&entries[index]));
        }
    }
}
