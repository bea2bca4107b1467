//! The gallery's programs, which the extension carries: attached by name, without a file.

use duckbpf_runtime::Gallery;
use std::sync::LazyLock;

/// What build.rs packed: empty where the programs were not compiled.
static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/gallery.bin"));

#[derive(Debug)]
pub struct Carried;

/// Name and object, unpacked when the first one is asked for.
static OBJECTS: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    // The build made it: damaged, it is as good as none.
    miniz_oxide::inflate::decompress_to_vec(PACKED).ok().and_then(|bytes| unpack(&bytes)).unwrap_or_default()
});

impl Gallery for Carried {
    fn names(&self) -> Vec<&str> {
        OBJECTS.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn object(&self, name: &str) -> Option<Vec<u8>> {
        OBJECTS.iter().find(|(known, _)| known == name).map(|(_, object)| object.clone())
    }
}

/// Pairs of name and object, each behind its length.
fn unpack(mut bytes: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut objects = Vec::new();
    while !bytes.is_empty() {
        let (name, rest) = part(bytes)?;
        let (object, rest) = part(rest)?;
        objects.push((String::from_utf8(name.to_vec()).ok()?, object.to_vec()));
        bytes = rest;
    }
    Some(objects)
}

fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*size) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_apart_and_damage_is_seen() {
        let packed = [&[1, 0, 0, 0][..], b"a", &[3, 0, 0, 0], b"xyz"].concat();
        assert_eq!(unpack(&packed), Some(vec![("a".to_owned(), b"xyz".to_vec())]));
        assert_eq!(unpack(&packed[..9]), None);
        assert_eq!(unpack(&[]), Some(vec![]));
    }
}
