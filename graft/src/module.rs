//! Loaded ELF objects as they lie in memory: symbols, relocations, build id. Read through bounds-checked slices of the
//! objects' read-only segments; files are not opened, they may be gone.

use object::LittleEndian as LE;
use object::elf::{self, Dyn64, Rela64, Sym64};
use object::pod::{from_bytes, slice_from_all_bytes, slice_from_bytes};
use std::ffi::{CStr, CString, OsStr, c_int, c_void};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A loaded object. Pinned: it is not unloaded while this lives.
pub(crate) struct Module {
    view: View,
    handle: Handle,
}

/// A symbol that an object defines.
pub(crate) struct Symbol<'a> {
    pub name: &'a str,
    /// Its place in the symbol table, as relocations name it.
    pub index: u32,
    pub address: usize,
    pub kind: u8,
}

/// A relocation that names a symbol.
pub(crate) struct Relocation {
    /// Where the value lies.
    pub place: usize,
    pub kind: u32,
    pub symbol: u32,
    pub addend: i64,
}

/// All loaded objects that define a symbol, in the loader's order.
pub(crate) fn defining(symbol: &str) -> Vec<Module> {
    struct Search<'a> {
        symbol: &'a str,
        found: Vec<View>,
    }

    unsafe extern "C" fn look(info: *mut libc::dl_phdr_info, _size: usize, search: *mut c_void) -> c_int {
        // SAFETY: dl_iterate_phdr passes a valid record, and the pointer that it was given below. No other reference to the
        // search exists while it runs.
        let (info, search) = unsafe { (&*info, &mut *search.cast::<Search<'_>>()) };
        // SAFETY: the loader holds its lock during the call, so that the object stays loaded.
        if let Some(view) = unsafe { View::of(info) }
            && view.symbol(search.symbol).is_some()
        {
            search.found.push(view);
        }
        0
    }

    let mut search = Search { symbol, found: Vec::new() };
    // SAFETY: the callback has the required signature, does not unwind, and the pointer outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut search).cast()) };
    // Pinned only now: the loader must not be entered from inside the callback.
    search.found.into_iter().filter_map(View::pin).collect()
}

impl Module {
    /// The object behind a handle.
    pub(crate) fn from_handle(handle: Handle) -> Option<Self> {
        struct Search {
            base: usize,
            found: Option<View>,
        }

        unsafe extern "C" fn look(info: *mut libc::dl_phdr_info, _size: usize, search: *mut c_void) -> c_int {
            // SAFETY: as in `defining`.
            let (info, search) = unsafe { (&*info, &mut *search.cast::<Search>()) };
            if info.dlpi_addr as usize != search.base {
                return 0;
            }
            // SAFETY: the loader holds its lock during the call, so that the object stays loaded.
            search.found = unsafe { View::of(info) };
            1
        }

        let mut search = Search { base: handle.base()?, found: None };
        // SAFETY: as in `defining`.
        unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut search).cast()) };
        search.found.map(|view| Module { view, handle })
    }

    pub(crate) fn base(&self) -> usize {
        self.view.base
    }

    /// The path that the loader knows it by.
    pub(crate) fn path(&self) -> &Path {
        &self.view.path
    }

    /// Gives up the right to unload it.
    pub(crate) fn keep(self) {
        std::mem::forget(self.handle);
    }

    pub(crate) fn defines(&self, name: &str) -> bool {
        self.symbol(name).is_some()
    }

    pub(crate) fn symbol(&self, name: &str) -> Option<Symbol<'_>> {
        self.view.symbol(name)
    }

    /// Address of a function that the object defines.
    pub(crate) fn function(&self, name: &str) -> Option<*const c_void> {
        let symbol = self.symbol(name).filter(|symbol| symbol.kind == elf::STT_FUNC)?;
        Some(std::ptr::with_exposed_provenance(symbol.address))
    }

    /// Everything that it defines for others.
    pub(crate) fn definitions(&self) -> impl Iterator<Item = Symbol<'_>> {
        let table = self.view.hash_table();
        let range = table.map_or(0..0, |table| table.first_symbol..table.end());
        range.filter_map(|index| self.view.definition(index))
    }

    pub(crate) fn relocations(&self) -> impl Iterator<Item = Relocation> {
        self.view.relocations.iter().copied().flatten().map(|entry| Relocation {
            place: self.view.base.wrapping_add(entry.r_offset.get(LE) as usize),
            kind: entry.r_type(LE, false),
            symbol: entry.r_sym(LE, false),
            addend: entry.r_addend.get(LE),
        })
    }

    /// Whether the address is that of code of the object.
    pub(crate) fn is_code(&self, address: usize) -> bool {
        self.view.code.iter().any(|range| range.contains(&address))
    }

    /// Whether the address lies in the object, in code or data.
    pub(crate) fn contains(&self, address: usize) -> bool {
        self.view.image.contains(&address)
    }

    /// Memory that the loader has made read-only after relocation; whole pages.
    pub(crate) fn relro(&self) -> Range<usize> {
        self.view.relro.clone()
    }

    /// Of the GNU build-id note; empty when it has none.
    pub(crate) fn build_id(&self) -> String {
        self.view.build_id.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A reference that the dynamic loader counts.
pub(crate) struct Handle(*mut c_void);

impl Handle {
    /// Opens by name. A null return's reason is in dlerror().
    pub(crate) fn open(name: &CStr, flags: c_int) -> Option<Self> {
        // The main program has an empty name, for which dlopen wants a null pointer.
        let name = if name.is_empty() { std::ptr::null() } else { name.as_ptr() };
        // SAFETY: a valid C string or null. With RTLD_NOLOAD nothing is run; without, the caller answers for the image's
        // initialisers: crate-internal, it is only called with the graft (see load.rs).
        let handle = unsafe { libc::dlopen(name, flags) };
        if handle.is_null() { None } else { Some(Self(handle)) }
    }

    /// Difference between addresses in memory and in the file.
    fn base(&self) -> Option<usize> {
        /// The beginning of glibc's struct link_map (<link.h>).
        #[repr(C)]
        struct LinkMap {
            address: usize,
        }
        let mut map: *const LinkMap = std::ptr::null();
        // SAFETY: the handle is open; for RTLD_DI_LINKMAP dlinfo writes one pointer to where it is told.
        let status = unsafe { libc::dlinfo(self.0, libc::RTLD_DI_LINKMAP, (&raw mut map).cast()) };
        if status != 0 {
            return None;
        }
        // SAFETY: null, or the object's link_map, which lives as long as the handle is open.
        unsafe { map.as_ref() }.map(|map| map.address)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: opened by dlopen and closed once.
        unsafe { libc::dlclose(self.0) };
    }
}

/// Where the parts of a loaded object are. The slices are called 'static, but hold only while the object stays loaded: a View
/// lives inside a Module (which pins the object), or inside the loader's lock.
struct View {
    base: usize,
    name: CString,
    path: PathBuf,
    symbols: &'static [Sym64<LE>],
    strings: &'static [u8],
    hash: &'static [u8],
    relocations: [&'static [Rela64<LE>]; 2],
    image: Range<usize>,
    code: Vec<Range<usize>>,
    relro: Range<usize>,
    build_id: &'static [u8],
}

impl View {
    /// `None` for objects without symbols that could be looked up.
    ///
    /// # Safety
    /// `info` describes an object that stays loaded for as long as the View is used.
    unsafe fn of(info: &libc::dl_phdr_info) -> Option<Self> {
        if info.dlpi_phdr.is_null() || info.dlpi_name.is_null() {
            return None;
        }
        let base = info.dlpi_addr as usize;
        // SAFETY: the loader passes its own program headers and name.
        let (headers, name) = unsafe {
            (std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)), CStr::from_ptr(info.dlpi_name))
        };
        let range = |header: &libc::Elf64_Phdr| {
            let start = base.wrapping_add(header.p_vaddr as usize);
            start..start.wrapping_add(header.p_memsz as usize)
        };
        let mut segments: Vec<&'static [u8]> = Vec::new();
        let (mut code, mut relro, mut dynamic, mut notes) = (Vec::new(), 0..0, None, Vec::new());
        let loaded = || headers.iter().filter(|header| header.p_type == libc::PT_LOAD).map(range);
        let image = loaded().map(|part| part.start).min()?..loaded().map(|part| part.end).max()?;
        for header in headers {
            match header.p_type {
                libc::PT_LOAD if header.p_flags & libc::PF_X != 0 => code.push(range(header)),
                // SAFETY: a segment that is mapped readable and that nobody may write.
                libc::PT_LOAD if header.p_flags & (libc::PF_R | libc::PF_W) == libc::PF_R => unsafe {
                    let start = std::ptr::with_exposed_provenance(range(header).start);
                    segments.push(std::slice::from_raw_parts(start, header.p_memsz as usize));
                },
                libc::PT_GNU_RELRO => relro = whole_pages(&range(header)),
                libc::PT_DYNAMIC => dynamic = Some(range(header)),
                libc::PT_NOTE => notes.push(range(header)),
                _ => {}
            }
        }
        // SAFETY: the loader has mapped the dynamic section and does not change it any more.
        let entries = unsafe { dynamic_entries(&dynamic?) };
        let tables = Tables { base, segments, entries };
        Some(Self {
            base,
            name: name.to_owned(),
            path: PathBuf::from(OsStr::from_bytes(name.to_bytes())),
            symbols: tables.rest(elf::DT_SYMTAB).map(whole_items)?,
            strings: tables.table(elf::DT_STRTAB, elf::DT_STRSZ)?,
            hash: tables.rest(elf::DT_GNU_HASH)?,
            relocations: [(elf::DT_RELA, elf::DT_RELASZ), (elf::DT_JMPREL, elf::DT_PLTRELSZ)]
                .map(|(start, size)| tables.table(start, size).map_or(&[][..], whole_items)),
            image,
            code,
            relro,
            build_id: notes.iter().find_map(|note| build_id(tables.bytes(note)?)).unwrap_or_default(),
        })
    }

    fn pin(self) -> Option<Module> {
        let handle = Handle::open(&self.name, libc::RTLD_NOLOAD | libc::RTLD_LAZY)?;
        // Should the object have gone since it was seen, another may have its name, but hardly its address.
        (handle.base() == Some(self.base)).then_some(Module { view: self, handle })
    }

    fn hash_table(&self) -> Option<HashTable<'_>> {
        HashTable::read(self.hash)
    }

    fn symbol(&self, name: &str) -> Option<Symbol<'_>> {
        let wanted = elf::gnu_hash(name.as_bytes());
        let table = self.hash_table()?;
        table.candidates(wanted).filter_map(|index| self.definition(index)).find(|symbol| symbol.name == name)
    }

    fn definition(&self, index: u32) -> Option<Symbol<'_>> {
        let symbol = self.symbols.get(index as usize)?;
        if symbol.st_shndx.get(LE) == elf::SHN_UNDEF {
            return None;
        }
        let rest = self.strings.get(symbol.st_name.get(LE) as usize..)?;
        let name = CStr::from_bytes_until_nul(rest).ok()?.to_str().ok()?;
        let address = self.base.wrapping_add(symbol.st_value.get(LE) as usize);
        Some(Symbol { name, index, address, kind: symbol.st_type() })
    }
}

/// The dynamic section and the segments that its entries point into.
struct Tables {
    base: usize,
    segments: Vec<&'static [u8]>,
    entries: Vec<(u32, usize)>,
}

impl Tables {
    fn entry(&self, tag: u32) -> Option<usize> {
        self.entries.iter().find(|(found, _)| *found == tag).map(|(_, value)| *value)
    }

    /// From where an entry points to the end of the segment. The loader has made most pointers absolute, not all.
    fn rest(&self, tag: u32) -> Option<&'static [u8]> {
        let value = self.entry(tag)?;
        [value, self.base.wrapping_add(value)].into_iter().find_map(|address| self.after(address))
    }

    fn table(&self, start: u32, size: u32) -> Option<&'static [u8]> {
        self.rest(start)?.get(..self.entry(size)?)
    }

    fn bytes(&self, range: &Range<usize>) -> Option<&'static [u8]> {
        self.after(range.start)?.get(..range.len())
    }

    fn after(&self, address: usize) -> Option<&'static [u8]> {
        self.segments.iter().find_map(|segment| {
            let offset = address.checked_sub(segment.as_ptr().addr())?;
            segment.get(offset..).filter(|rest| !rest.is_empty())
        })
    }
}

/// # Safety
/// The range is mapped, readable and not written meanwhile.
unsafe fn dynamic_entries(range: &Range<usize>) -> Vec<(u32, usize)> {
    let start: *const Dyn64<LE> = std::ptr::with_exposed_provenance(range.start);
    // SAFETY: promised by the caller; Dyn64 is plain data and the loader aligns the section.
    let entries = unsafe { std::slice::from_raw_parts(start, range.len() / size_of::<Dyn64<LE>>()) };
    let used = entries.iter().take_while(|entry| entry.d_tag.get(LE) != u64::from(elf::DT_NULL));
    used.filter_map(|entry| Some((u32::try_from(entry.d_tag.get(LE)).ok()?, entry.d_val.get(LE) as usize))).collect()
}

fn whole_pages(range: &Range<usize>) -> Range<usize> {
    let page = page_size();
    range.start & !(page - 1)..range.end & !(page - 1)
}

pub(crate) fn page_size() -> usize {
    // SAFETY: sysconf has no preconditions.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

fn whole_items<T: object::Pod>(bytes: &'static [u8]) -> &'static [T] {
    slice_from_bytes(bytes, bytes.len() / size_of::<T>()).map_or(&[], |(items, _)| items)
}

/// The build id in a segment of notes.
fn build_id(mut notes: &[u8]) -> Option<&[u8]> {
    const NT_GNU_BUILD_ID: u32 = 3;
    let padded = |length: u32| (length as usize).next_multiple_of(4);
    loop {
        let (header, rest) = from_bytes::<elf::NoteHeader32<LE>>(notes).ok()?;
        let (name_size, size) = (header.n_namesz.get(LE), header.n_descsz.get(LE));
        let name = rest.get(..name_size as usize)?;
        let contents = rest.get(padded(name_size)..)?.get(..size as usize)?;
        if name == b"GNU\0" && header.n_type.get(LE) == NT_GNU_BUILD_ID {
            return Some(contents);
        }
        notes = rest.get(padded(name_size) + padded(size)..)?;
    }
}

/// DT_GNU_HASH: buckets of symbols, ordered by bucket, each chain ended by an odd hash.
struct HashTable<'a> {
    first_symbol: u32,
    buckets: &'a [object::U32<LE>],
    chains: &'a [object::U32<LE>],
}

impl<'a> HashTable<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = from_bytes::<elf::GnuHashHeader<LE>>(bytes).ok()?;
        let rest = rest.get(header.bloom_count.get(LE) as usize * size_of::<u64>()..)?;
        let (buckets, rest) = slice_from_bytes(rest, header.bucket_count.get(LE) as usize).ok()?;
        let chains = slice_from_all_bytes(rest.get(..rest.len() & !3)?).ok()?;
        Some(Self { first_symbol: header.symbol_base.get(LE), buckets, chains })
    }

    /// Symbols whose hash is this one.
    fn candidates(&self, hash: u32) -> impl Iterator<Item = u32> {
        let bucket = (hash as usize).checked_rem(self.buckets.len()).and_then(|at| self.buckets.get(at));
        let start = bucket.map_or(0, |bucket| bucket.get(LE));
        self.chain(start).filter(move |(_, found)| *found | 1 == hash | 1).map(|(index, _)| index)
    }

    /// Symbols of a bucket and their hashes, from its first symbol on.
    fn chain(&self, start: u32) -> impl Iterator<Item = (u32, u32)> {
        let hashes = start.checked_sub(self.first_symbol).and_then(|skip| self.chains.get(skip as usize..));
        let mut ended = false;
        (start..).zip(hashes.unwrap_or_default()).map_while(move |(index, hash)| {
            let hash = hash.get(LE);
            (!std::mem::replace(&mut ended, hash & 1 == 1)).then_some((index, hash))
        })
    }

    /// One past the last symbol.
    fn end(&self) -> u32 {
        let last_bucket = self.buckets.iter().map(|bucket| bucket.get(LE)).max().unwrap_or_default();
        self.chain(last_bucket).last().map_or(self.first_symbol, |(index, _)| index + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libc_is_found_by_a_symbol_and_only_there() {
        let found = defining("dl_iterate_phdr");
        assert!(!found.is_empty());
        let libc = &found[0];
        assert!(libc.path().to_string_lossy().contains("libc"), "{}", libc.path().display());
        assert_eq!(libc.function("dl_iterate_phdr").unwrap().addr(), libc::dl_iterate_phdr as *const () as usize);
        assert!(libc.is_code(libc::dl_iterate_phdr as *const () as usize));
        assert!(libc.contains(libc::dl_iterate_phdr as *const () as usize));
        assert!(!libc.contains(&raw const found as usize));
        assert!(libc.function("no_such_function_anywhere").is_none());
        assert!(!libc.build_id().is_empty());
    }

    #[test]
    fn definitions_agree_with_look_ups() {
        let libc = &defining("dl_iterate_phdr")[0];
        let mut count = 0;
        for symbol in libc.definitions() {
            count += 1;
            // A name may have several versions: the look-up gives one of them.
            assert!(libc.symbol(symbol.name).is_some(), "{}", symbol.name);
        }
        assert!(count > 1000, "{count}");
    }

    #[test]
    fn build_ids_are_found_among_other_notes() {
        let mut notes = Vec::new();
        for (kind, contents) in [(1_u32, &b"abc"[..]), (3, &b"12345678"[..])] {
            for word in [4, contents.len() as u32, kind] {
                notes.extend(word.to_le_bytes());
            }
            notes.extend(b"GNU\0");
            notes.extend(contents);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        assert_eq!(build_id(&notes), Some(&b"12345678"[..]));
        assert_eq!(build_id(&notes[..20]), None);
    }
}
