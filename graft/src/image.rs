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

/// The placeholder starts so; crate duckbpf-patch writes it.
const PLACEHOLDER: &[u8] = b"duckbpf-graft-host:";

pub(crate) fn prepare(image: &[u8], host: &Module) -> Result<Vec<u8>, Error> {
    let mut bytes = image.to_vec();
    name_host(&mut bytes, host)?;
    share_data(&mut bytes, |name| host.defines(name))?;
    Ok(bytes)
}

fn name_host(image: &mut [u8], host: &Module) -> Result<(), Error> {
    let path = host.path().as_os_str().as_bytes();
    let start = image
        .windows(PLACEHOLDER.len())
        .position(|window| window == PLACEHOLDER)
        .ok_or(Error::Image { reason: "it has no place for the host's path" })?;
    let room = image.iter().skip(start).position(|byte| *byte == 0).unwrap_or_default();
    if path.is_empty() || path.len() > room {
        return Err(Error::PathTooLong { path: host.path().to_owned(), bytes: path.len(), room });
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
