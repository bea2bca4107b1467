//! Maps with the types that a program gives them, for Rust: keys and values are plain data, read and written by [`zerocopy`].
//!
//! ```no_run
//! use duckbpf::maps::{HashMap, PerCpuArray, RingBuf};
//! use duckbpf::zerocopy::{FromBytes, Immutable, IntoBytes};
//! use duckbpf::{Options, Runtime};
//!
//! /// As in `extensions-c/unpin_sizes/program.bpf.c`.
//! #[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes)]
//! #[repr(C)]
//! #[zerocopy(crate = "duckbpf::zerocopy")]
//! struct Kind {
//!     query_id: u64,
//!     tag: u32,
//!     log2_size: u32,
//! }
//!
//! # fn watch(runtime: &Runtime) -> Result<(), Box<dyn std::error::Error>> {
//! runtime.attach("target/bpf/unpin_sizes.bpf.o".as_ref(), Options::default())?;
//! let sizes: HashMap<Kind, u64> = runtime.map("sizes")?.try_into()?;
//! for (kind, count) in sizes.entries()? {
//!     println!("query {}: {count} blocks of 2^{} bytes", kind.query_id, kind.log2_size);
//! }
//! sizes.insert(&Kind { query_id: 1, tag: 0, log2_size: 18 }, &5)?;
//! # Ok(())
//! # }
//! ```
//!
//! A map whose kind or sizes differ is refused when it is converted, not when it is used. A map stays as long as a value of these
//! types does, attached or not. Programs go on writing while it is read: a value of more than eight bytes may be half old, half new.

use std::{fmt, marker::PhantomData, path::Path};

use duckbpf_runtime::{Failure, MapDef, MapHandle, MapKind, Refusal, Runtime, UpdateFlags};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What keys, values and records are: plain data without padding, of which every pattern of bits is a value.
pub trait Plain: Copy + FromBytes + IntoBytes + Immutable {}

impl<T: Copy + FromBytes + IntoBytes + Immutable> Plain for T {}

/// Why a map was not read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("the map {map} is of type {found}; this needs {wanted}")]
    Kind { map: String, found: MapKind, wanted: &'static str },
    #[error("{what} of the map {map} have {found} bytes; the Rust type has {size}")]
    Size { map: String, what: &'static str, found: usize, size: usize },
    #[error("the map {map}: {source}")]
    Refused { map: String, source: Refusal },
}

/// A map of which kind and sizes were checked.
struct Checked<K, V> {
    handle: MapHandle,
    types: PhantomData<fn(K) -> V>,
}

impl<K, V> Clone for Checked<K, V> {
    fn clone(&self) -> Self {
        Checked { handle: self.handle.clone(), types: PhantomData }
    }
}

impl<K, V> fmt::Debug for Checked<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.handle.info(), f)
    }
}

impl<K: Plain, V: Plain> Checked<K, V> {
    fn new(handle: MapHandle, kinds: &[MapKind], wanted: &'static str) -> Result<Self, Error> {
        let info = handle.info();
        if !kinds.contains(&info.kind) {
            return Err(Error::Kind { map: info.name, found: info.kind, wanted });
        }
        // A ring's records have no size that its map knows of.
        let value_size = if info.kind == MapKind::Ringbuf { size_of::<V>() } else { info.value_size as usize };
        for (what, found, size) in
            [("keys", info.key_size as usize, size_of::<K>()), ("values", value_size, size_of::<V>())]
        {
            if found != size {
                return Err(Error::Size { map: info.name, what, found, size });
            }
        }
        Ok(Checked { handle, types: PhantomData })
    }

    fn refused(&self, source: Refusal) -> Error {
        Error::Refused { map: self.handle.info().name, source }
    }

    fn value<T: Plain>(&self, what: &'static str, bytes: &[u8]) -> Result<T, Error> {
        T::read_from_bytes(bytes).map_err(|_| Error::Size {
            map: self.handle.info().name,
            what,
            found: bytes.len(),
            size: size_of::<T>(),
        })
    }

    fn entries(&self) -> Result<Vec<(K, Vec<V>)>, Error> {
        let entries = self.handle.entries().map_err(|source| self.refused(source))?;
        let entry = |entry: duckbpf_runtime::Entry| {
            let values = entry.values.iter().map(|value| self.value("values", value)).collect::<Result<_, _>>()?;
            Ok((self.value("keys", &entry.key)?, values))
        };
        entries.into_iter().map(entry).collect()
    }

    fn get(&self, key: &K) -> Result<Option<Vec<V>>, Error> {
        let values = self.handle.get(key.as_bytes()).map_err(|source| self.refused(source))?;
        let read = |values: Vec<Vec<u8>>| values.iter().map(|value| self.value("values", value)).collect();
        values.map(read).transpose()
    }

    fn set(&self, key: &K, values: &[V], flags: UpdateFlags) -> Result<(), Error> {
        let values: Vec<Vec<u8>> = values.iter().map(|value| value.as_bytes().to_vec()).collect();
        self.handle.set(key.as_bytes(), &values, flags).map_err(|source| self.refused(source))
    }

    /// Whether there was something to take out.
    fn remove(&self, key: &K) -> Result<bool, Error> {
        match self.handle.remove(key.as_bytes()) {
            Ok(()) => Ok(true),
            Err(Refusal::Failed(Failure::Missing)) => Ok(false),
            Err(source) => Err(self.refused(source)),
        }
    }
}

fn definition<K, V>(kind: MapKind, name: &str, max_entries: u32) -> MapDef {
    // Sizes that no map has are refused where it is made; a ring's records have none that its map knows of.
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let value_size = if kind == MapKind::Ringbuf { 0 } else { size(size_of::<V>()) };
    MapDef { name: name.to_owned(), ..MapDef::new(kind, size(size_of::<K>()), value_size, max_entries) }
}

/// Declares a type of map: its name, what it is, its parameters, the keys and values that it has, and the kinds that it takes.
macro_rules! typed {
    ($(#[$doc:meta])* $name:ident<$($parameter:ident),+>, $key:ty, $value:ty, $wanted:literal, $first:ident $(| $kind:ident)*) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name<$($parameter),+>(Checked<$key, $value>);

        impl<$($parameter: Plain),+> TryFrom<MapHandle> for $name<$($parameter),+> {
            type Error = Error;

            fn try_from(handle: MapHandle) -> Result<Self, Error> {
                Checked::new(handle, &[MapKind::$first $(, MapKind::$kind)*], $wanted).map($name)
            }
        }

        impl<$($parameter: Plain),+> $name<$($parameter),+> {
            /// Makes a map that no object declares; where two kinds would do, of the first. It is kept by its name until
            /// [`Runtime::unpin_map`], and objects that declare it pinned, with the same layout, share it. SQL shows its keys and values as
            /// bytes.
            pub fn create(runtime: &Runtime, name: &str, max_entries: u32) -> Result<Self, duckbpf_runtime::Error> {
                let handle = runtime.create_map(definition::<$key, $value>(MapKind::$first, name, max_entries))?;
                Ok($name(Checked { handle, types: PhantomData }))
            }
        }

        impl<$($parameter),+> $name<$($parameter),+> {
            /// The map behind it.
            pub fn handle(&self) -> &MapHandle {
                &self.0.handle
            }
        }
    };
}

typed! {
    /// `BPF_MAP_TYPE_HASH` and `BPF_MAP_TYPE_LRU_HASH`.
    HashMap<K, V>, K, V, "a hash or lru_hash", Hash | LruHash
}

impl<K: Plain, V: Plain> HashMap<K, V> {
    /// A copy of a key's value.
    pub fn get(&self, key: &K) -> Result<Option<V>, Error> {
        Ok(self.0.get(key)?.and_then(|values| values.first().copied()))
    }

    /// Sets a key's value, whether there is one or not.
    pub fn insert(&self, key: &K, value: &V) -> Result<(), Error> {
        self.update(key, value, UpdateFlags::Any)
    }

    /// Sets a key's value where the flags allow it.
    pub fn update(&self, key: &K, value: &V, flags: UpdateFlags) -> Result<(), Error> {
        self.0.set(key, &[*value], flags)
    }

    /// Takes a key out. Whether it was there.
    pub fn remove(&self, key: &K) -> Result<bool, Error> {
        self.0.remove(key)
    }

    /// What it holds now; what comes or goes meanwhile may be among it or not.
    pub fn entries(&self) -> Result<Vec<(K, V)>, Error> {
        Ok(first(self.0.entries()?))
    }
}

typed! {
    /// `BPF_MAP_TYPE_PERCPU_HASH`: a value a thread.
    PerCpuHashMap<K, V>, K, V, "a percpu_hash", PercpuHash
}

impl<K: Plain, V: Plain> PerCpuHashMap<K, V> {
    /// Copies of a key's values, by thread index.
    pub fn get(&self, key: &K) -> Result<Option<Vec<V>>, Error> {
        self.0.get(key)
    }

    /// Sets the values of a key by thread index; those of further threads become zeros.
    pub fn insert(&self, key: &K, values: &[V]) -> Result<(), Error> {
        self.0.set(key, values, UpdateFlags::Any)
    }

    /// Takes a key out. Whether it was there.
    pub fn remove(&self, key: &K) -> Result<bool, Error> {
        self.0.remove(key)
    }

    /// What it holds now.
    pub fn entries(&self) -> Result<Vec<(K, Vec<V>)>, Error> {
        self.0.entries()
    }
}

typed! {
    /// `BPF_MAP_TYPE_ARRAY`.
    Array<V>, u32, V, "an array", Array
}

impl<V: Plain> Array<V> {
    /// A copy of the value at an index; None beyond its end.
    pub fn get(&self, index: u32) -> Result<Option<V>, Error> {
        Ok(self.0.get(&index)?.and_then(|values| values.first().copied()))
    }

    /// Sets the value at an index.
    pub fn set(&self, index: u32, value: &V) -> Result<(), Error> {
        self.0.set(&index, &[*value], UpdateFlags::Any)
    }

    /// All values.
    pub fn values(&self) -> Result<Vec<V>, Error> {
        Ok(first(self.0.entries()?).into_iter().map(|(_, value)| value).collect())
    }
}

typed! {
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`: a value an index and thread.
    PerCpuArray<V>, u32, V, "a percpu_array", PercpuArray
}

impl<V: Plain> PerCpuArray<V> {
    /// Copies of the values at an index, by thread index; None beyond its end.
    pub fn get(&self, index: u32) -> Result<Option<Vec<V>>, Error> {
        self.0.get(&index)
    }

    /// Sets the values at an index by thread index; those of further threads become zeros.
    pub fn set(&self, index: u32, values: &[V]) -> Result<(), Error> {
        self.0.set(&index, values, UpdateFlags::Any)
    }

    /// The values of every index.
    pub fn values(&self) -> Result<Vec<Vec<V>>, Error> {
        Ok(self.0.entries()?.into_iter().map(|(_, values)| values).collect())
    }
}

typed! {
    /// `BPF_MAP_TYPE_QUEUE` and `BPF_MAP_TYPE_STACK`.
    Queue<V>, (), V, "a queue or stack", Queue | Stack
}

impl<V: Plain> Queue<V> {
    /// Adds a value; an error where there is no room.
    pub fn push(&self, value: &V) -> Result<(), Error> {
        self.0.set(&(), &[*value], UpdateFlags::Any)
    }

    /// Drops the next value. Whether there was one.
    pub fn drop_next(&self) -> Result<bool, Error> {
        self.0.remove(&())
    }

    /// What it holds now, the next one first.
    pub fn values(&self) -> Result<Vec<V>, Error> {
        Ok(first(self.0.entries()?).into_iter().map(|(_, value)| value).collect())
    }
}

typed! {
    /// `BPF_MAP_TYPE_BLOOM_FILTER`.
    BloomFilter<V>, (), V, "a bloom_filter", BloomFilter
}

impl<V: Plain> BloomFilter<V> {
    /// Adds a value.
    pub fn insert(&self, value: &V) -> Result<(), Error> {
        self.0.set(&(), &[*value], UpdateFlags::Any)
    }
}

typed! {
    /// `BPF_MAP_TYPE_RINGBUF`, whose records are all of one type.
    RingBuf<R>, (), R, "a ringbuf", Ringbuf
}

impl<R: Plain> RingBuf<R> {
    /// Takes up to so many records out, oldest first. One that is shorter or longer than the type is an error, and is gone.
    pub fn drain(&self, most: usize) -> Result<Vec<R>, Error> {
        let records = self.0.handle.drain(most).map_err(|source| self.0.refused(source))?;
        records.iter().map(|record| self.0.value("records", record)).collect()
    }

    /// Records for which there was no room.
    pub fn lost(&self) -> u64 {
        self.0.handle.info().lost
    }
}

/// `BPF_MAP_TYPE_PROG_ARRAY`: programs that others go on in, by `bpf_tail_call`.
///
/// ```no_run
/// # fn fill(runtime: &duckbpf::Runtime) -> Result<(), Box<dyn std::error::Error>> {
/// use duckbpf::maps::ProgArray;
///
/// let stages = ProgArray::create(runtime, "stages", 4)?;
/// stages.set(runtime, 0, "target/bpf/default_load.bpf.o".as_ref())?;
/// assert_eq!(stages.programs()?, [(0, "default_load".to_owned())]);
/// stages.clear(runtime, 0)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ProgArray(MapHandle);

impl TryFrom<MapHandle> for ProgArray {
    type Error = Error;

    fn try_from(handle: MapHandle) -> Result<Self, Error> {
        let info = handle.info();
        match info.kind {
            MapKind::ProgArray => Ok(ProgArray(handle)),
            found => Err(Error::Kind { map: info.name, found, wanted: "a prog_array" }),
        }
    }
}

impl ProgArray {
    /// Makes one that no object declares. It is kept by its name until [`Runtime::unpin_map`], and objects that declare it pinned, with
    /// the same layout, share it.
    pub fn create(runtime: &Runtime, name: &str, max_entries: u32) -> Result<Self, duckbpf_runtime::Error> {
        let def = MapDef { name: name.to_owned(), ..MapDef::new(MapKind::ProgArray, 4, 4, max_entries) };
        runtime.create_map(def).map(ProgArray)
    }

    /// Puts a program there: one of the gallery, or of a file. It is refused where those that can reach it would cost more than their
    /// hook allows.
    pub fn set(&self, runtime: &Runtime, index: u32, path: &Path) -> Result<(), duckbpf_runtime::Error> {
        runtime.set_program(&self.0, &index.to_le_bytes(), Some(path))
    }

    /// Takes out what is there.
    pub fn clear(&self, runtime: &Runtime, index: u32) -> Result<(), duckbpf_runtime::Error> {
        runtime.set_program(&self.0, &index.to_le_bytes(), None)
    }

    /// The names of its programs, by index.
    pub fn programs(&self) -> Result<Vec<(u32, String)>, Error> {
        let entries = self.0.entries();
        let entries = entries.map_err(|source| Error::Refused { map: self.0.info().name, source })?;
        let named = |entry: duckbpf_runtime::Entry| {
            let index = entry.key.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))?;
            Some((index, String::from_utf8_lossy(entry.values.first()?).into_owned()))
        };
        Ok(entries.into_iter().filter_map(named).collect())
    }

    /// The map behind it.
    pub fn handle(&self) -> &MapHandle {
        &self.0
    }
}

/// Of each entry its only value.
fn first<K, V: Copy>(entries: Vec<(K, Vec<V>)>) -> Vec<(K, V)> {
    entries.into_iter().filter_map(|(key, values)| Some((key, *values.first()?))).collect()
}
