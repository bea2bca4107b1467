//! Looking at maps and changing them for those who are no programs: SQL, Rust, Python. Sizes are checked here; nothing given out
//! is an address.

use std::sync::Arc;

use super::{Body, Failure, Map, UpdateFlags, ring::Ring};
use crate::object::MapKind;

/// A key and its values: one, or one a shard. Queues have no keys; a map of maps has the maps' numbers, four bytes each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Vec<u8>,
    pub values: Vec<Vec<u8>>,
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    #[error("keys have {expected} bytes, not {found}")]
    KeySize { expected: u32, found: usize },
    #[error("values have {expected} bytes, not {found}")]
    ValueSize { expected: u32, found: usize },
    #[error("a {0} takes one value, or a value for each shard from the first on")]
    Values(MapKind),
    #[error("a {0} has no entries that could be shown or changed")]
    NoEntries(MapKind),
    #[error("{0} maps keep all their entries; set their values instead")]
    Permanent(MapKind),
    #[error("variables belong to their programs; those in .rodata are set by hook_attach(..., params := {{...}})")]
    Variables,
    #[error("its values are programs: the name of one of the gallery, or the path of a file, with mode 'any'")]
    Programs,
    #[error("a {0} holds no maps")]
    NoMaps(MapKind),
    #[error("its values are maps; name one")]
    NotAMap,
    #[error("its maps have another layout: {wanted}; this one has {found}")]
    Layout { wanted: String, found: String },
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// What a key of an array says; of one of another size, what is in no array.
pub fn index(key: &[u8]) -> u32 {
    key.first_chunk().map_or(u32::MAX, |bytes| u32::from_le_bytes(*bytes))
}

impl Map {
    /// What it holds now. Entries that come or go meanwhile may or may not be among it.
    pub fn entries(&self) -> Result<Vec<Entry>, Refusal> {
        let entry = |(key, values)| Entry { key, values };
        match self.body() {
            Body::Array(array) => {
                let indices = 0..self.def().max_entries;
                Ok(indices.map(|index| entry((index.to_le_bytes().to_vec(), array.read(index)))).collect())
            }
            Body::Hash(hash) | Body::Blocks(hash) => Ok(hash.entries().into_iter().map(entry).collect()),
            Body::MapArray(maps) => {
                let numbered = |(index, map): (u32, Arc<Map>)| (index.to_le_bytes().to_vec(), number(&map));
                Ok(maps.entries().into_iter().map(numbered).map(entry).collect())
            }
            Body::MapHash(maps) => {
                Ok(maps.entries().into_iter().map(|(key, map)| entry((key, number(&map)))).collect())
            }
            Body::Programs(programs) => {
                let named = |(index, name): (u32, String)| (index.to_le_bytes().to_vec(), vec![name.into_bytes()]);
                Ok(programs.entries().into_iter().map(named).map(entry).collect())
            }
            Body::Queue(queue) => Ok(queue.read()?.into_iter().map(|value| entry((Vec::new(), vec![value]))).collect()),
            Body::Ring(_) | Body::Bloom(_) => Err(Refusal::NoEntries(self.kind())),
        }
    }

    /// A copy of what a key stands for: one value, or one a shard; None where there is no such key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<Vec<u8>>>, Refusal> {
        self.check_key(key)?;
        match self.body() {
            Body::Array(array) => {
                let index = index(key);
                Ok((index < self.def().max_entries).then(|| array.read(index)))
            }
            Body::Hash(hash) => Ok(hash.read(key)),
            _ => Ok(self.entries()?.into_iter().find(|entry| entry.key == key).map(|entry| entry.values)),
        }
    }

    /// Sets a key's value: one value, or of a per-CPU map one for each shard from the first on; the others become zeros.
    /// Queues, stacks and bloom filters get one more value; their key is empty.
    pub fn set(&self, key: &[u8], values: &[Vec<u8>], flags: UpdateFlags) -> Result<(), Refusal> {
        self.check_key(key)?;
        let shards = if self.kind().is_percpu() { super::shards() as usize } else { 1 };
        if values.is_empty() || values.len() > shards {
            return Err(Refusal::Values(self.kind()));
        }
        for value in values {
            if value.len() != self.def().value_size as usize {
                return Err(Refusal::ValueSize { expected: self.def().value_size, found: value.len() });
            }
        }
        match self.body() {
            Body::Queue(queue) => {
                // SAFETY: the value has the map's size.
                unsafe { queue.push(values[0].as_ptr(), flags == UpdateFlags::Exist) }?;
            }
            Body::Bloom(bloom) => {
                // SAFETY: the value has the map's size.
                unsafe { bloom.push(values[0].as_ptr()) };
            }
            Body::Array(_) => self.set_shards(key, values, shards, flags)?,
            Body::Hash(hash) => {
                let _outside = hash.outside();
                self.set_shards(key, values, shards, flags)?;
            }
            Body::MapArray(_) | Body::MapHash(_) => return Err(Refusal::NotAMap),
            Body::Programs(_) => return Err(Refusal::Programs),
            Body::Ring(_) | Body::Blocks(_) => return Err(Refusal::NoEntries(self.kind())),
        }
        Ok(())
    }

    fn set_shards(&self, key: &[u8], values: &[Vec<u8>], shards: usize, flags: UpdateFlags) -> Result<(), Failure> {
        let zeros = vec![0; self.def().value_size as usize];
        for shard in 0..shards {
            let value = values.get(shard).unwrap_or(&zeros);
            // The first one may make the key; the others find it.
            let flags = if shard == 0 { flags } else { UpdateFlags::Any };
            // SAFETY: key and value have the map's sizes, and where it matters the caller holds `outside`.
            unsafe { self.update(key.as_ptr(), value.as_ptr(), || shard as u32, flags as u64) }?;
        }
        Ok(())
    }

    /// Puts a map into a map of maps, or takes one out. What was there is returned: it must be kept until no program can hold it.
    pub fn set_map(&self, key: &[u8], inner: Option<Arc<Map>>) -> Result<Option<Arc<Map>>, Refusal> {
        self.check_key(key)?;
        if let (Some(wanted), Some(inner)) = (&self.def().inner, &inner)
            && !wanted.same_layout(inner.def())
        {
            return Err(Refusal::Layout { wanted: wanted.layout(), found: inner.def().layout() });
        }
        match self.body() {
            Body::MapArray(maps) => {
                let index = index(key);
                Ok(maps.set(index, inner)?)
            }
            Body::MapHash(maps) => Ok(maps.set(key, inner, UpdateFlags::Any)?),
            _ => Err(Refusal::NoMaps(self.kind())),
        }
    }

    /// Takes a key out; of a queue or a stack, whose key is empty, the next value.
    pub fn remove(&self, key: &[u8]) -> Result<(), Refusal> {
        self.check_key(key)?;
        match self.body() {
            Body::Hash(hash) => {
                let _outside = hash.outside();
                // SAFETY: the key has the map's size, and `outside` is held.
                unsafe { hash.delete(key.as_ptr()) }?;
            }
            Body::Queue(queue) => {
                let mut value = vec![0; self.def().value_size as usize];
                // SAFETY: the value has the map's size.
                unsafe { queue.next(value.as_mut_ptr(), true) }?;
            }
            Body::Array(_) => return Err(Refusal::Permanent(self.kind())),
            Body::MapArray(_) | Body::MapHash(_) => return Err(Refusal::NotAMap),
            Body::Programs(_) => return Err(Refusal::Programs),
            Body::Ring(_) | Body::Bloom(_) | Body::Blocks(_) => return Err(Refusal::NoEntries(self.kind())),
        }
        Ok(())
    }

    /// The ring that it is.
    pub fn ring(&self) -> Result<&Ring, Refusal> {
        match self.body() {
            Body::Ring(ring) => Ok(ring),
            _ => Err(Refusal::NoEntries(self.kind())),
        }
    }

    fn check_key(&self, key: &[u8]) -> Result<(), Refusal> {
        let expected = self.def().key_size;
        if key.len() == expected as usize { Ok(()) } else { Err(Refusal::KeySize { expected, found: key.len() }) }
    }
}

fn number(map: &Map) -> Vec<Vec<u8>> {
    vec![map.id().to_le_bytes().to_vec()]
}
