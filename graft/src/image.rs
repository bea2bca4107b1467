//! Makes the image fit one host, before it is loaded.
//!
//! Its DT_NEEDED is a placeholder: overwritten with the host's path, it makes the loader take the host, which it knows
//! already, for the graft's dependency. And its copies of data that the host exports (vtables, typeinfo, static members) are
//! declared undefined, so that references to them go to the host's: a graft with typeinfo of its own could not catch what
//! the host throws, and a static member would exist twice.

use crate::Error;
use crate::module::Module;
use object::elf::{self, FileHeader64, Sym64};
use object::pod::slice_from_bytes_mut;
use object::read::elf::{FileHeader, SectionHeader};
use object::{LittleEndian as LE, U16, U64};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The placeholder starts so; crate duckbpf-patch writes it.
const PLACEHOLDER: &[u8] = b"duckbpf-graft-host:";

pub(crate) fn prepare(image: &[u8], host: &Module) -> Result<Vec<u8>, Error> {
    let mut bytes = image.to_vec();
    name_host(&mut bytes, host.path())?;
    share_data(&mut bytes, |name| host.defines(name))?;
    Ok(bytes)
}

fn name_host(image: &mut [u8], host: &Path) -> Result<(), Error> {
    let path = host.as_os_str().as_bytes();
    let start = image
        .windows(PLACEHOLDER.len())
        .position(|window| window == PLACEHOLDER)
        .ok_or(Error::Image { reason: "it has no place for the host's path" })?;
    let room = image.iter().skip(start).position(|byte| *byte == 0).unwrap_or_default();
    if path.is_empty() || path.len() > room {
        return Err(Error::PathTooLong { path: host.to_owned(), bytes: path.len(), room });
    }
    let place = image.get_mut(start..start + room).ok_or(Error::Image { reason: "it is truncated" })?;
    place.fill(0);
    place.iter_mut().zip(path).for_each(|(place, byte)| *place = *byte);
    Ok(())
}

fn share_data(image: &mut [u8], host_defines: impl Fn(&str) -> bool) -> Result<(), Error> {
    let broken = |_| Error::Image { reason: "it is not a readable ELF file" };
    let (offset, shared) = {
        let data: &[u8] = image;
        let header = FileHeader64::<LE>::parse(data).map_err(broken)?;
        let sections = header.sections(LE, data).map_err(broken)?;
        let table = sections.symbols(LE, data, elf::SHT_DYNSYM).map_err(broken)?;
        let section = sections.section(table.section()).map_err(broken)?;
        let shared: Vec<usize> = table
            .enumerate()
            .filter(|(_, symbol)| symbol.st_shndx.get(LE) != elf::SHN_UNDEF)
            .filter(|(_, symbol)| matches!(symbol.st_type(), elf::STT_OBJECT | elf::STT_TLS))
            .filter(|(_, symbol)| {
                let name = table.symbol_name(LE, symbol).ok().and_then(|name| std::str::from_utf8(name).ok());
                name.is_some_and(&host_defines)
            })
            .map(|(index, _)| index.0)
            .collect();
        (section.sh_offset(LE) as usize, shared)
    };
    let count = shared.last().map_or(0, |last| last + 1);
    let table = image.get_mut(offset..).ok_or(Error::Image { reason: "it is truncated" })?;
    let (symbols, _) = slice_from_bytes_mut::<Sym64<LE>>(table, count)
        .map_err(|()| Error::Image { reason: "its symbol table is out of place" })?;
    for index in shared {
        if let Some(symbol) = symbols.get_mut(index) {
            symbol.st_shndx = U16::new(LE, elf::SHN_UNDEF);
            symbol.st_value = U64::new(LE, 0);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::read::elf::ElfFile64;
    use object::{Object, ObjectSymbol};

    /// The image of this checkout, if it was built.
    fn image() -> Option<Vec<u8>> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target/graft/duckbpf-graft.so");
        let image = std::fs::read(&path).ok();
        if image.is_none() {
            eprintln!("SKIPPED: {} is missing (cargo xtask graft makes it)", path.display());
        }
        image
    }

    fn defined(image: &[u8]) -> Vec<(String, u8)> {
        let file = ElfFile64::<LE>::parse(image).unwrap();
        let defined = file.dynamic_symbols().filter(|symbol| !symbol.is_undefined());
        defined.map(|symbol| (symbol.name().unwrap().to_owned(), symbol.elf_symbol().st_type())).collect()
    }

    #[test]
    fn data_that_the_host_has_is_given_up_and_functions_are_kept() {
        let Some(mut image) = image() else { return };
        let before = defined(&image);
        let typeinfo = "_ZTIN6duckdb10BufferPoolE";
        share_data(&mut image, |name| name != typeinfo).unwrap();
        let after = defined(&image);
        assert_eq!(after.iter().filter(|(_, kind)| *kind != elf::STT_FUNC).count(), 1);
        assert!(after.iter().any(|(name, _)| name == typeinfo));
        let functions = |symbols: &[(String, u8)]| symbols.iter().filter(|(_, kind)| *kind == elf::STT_FUNC).count();
        assert!(functions(&before) > 100);
        assert_eq!(functions(&before), functions(&after));
    }

    #[test]
    fn the_hosts_path_becomes_the_needed_library() {
        let Some(mut image) = image() else { return };
        name_host(&mut image, Path::new("/a/place with spaces/_duckdb.so")).unwrap();
        let name = b"\0/a/place with spaces/_duckdb.so\0";
        assert_eq!(image.windows(name.len()).filter(|window| window == name).count(), 1);
        assert!(matches!(name_host(&mut image, Path::new("/a")), Err(Error::Image { .. })), "it has a host already");
    }

    #[test]
    fn a_path_that_does_not_fit_is_refused() {
        let mut image = [PLACEHOLDER, b"//\0"].concat();
        let path = "/".repeat(PLACEHOLDER.len() + 3);
        assert!(matches!(name_host(&mut image, Path::new(&path)), Err(Error::PathTooLong { room: 21, .. })));
        assert!(matches!(name_host(&mut image, Path::new("")), Err(Error::PathTooLong { .. })));
        name_host(&mut image, Path::new(&path[..21])).unwrap();
    }
}
