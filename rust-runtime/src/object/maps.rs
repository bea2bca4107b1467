//! Maps that an object declares, in BTF as libbpf has it:
//!
//! ```c
//! struct {
//!     __uint(type, BPF_MAP_TYPE_HASH);
//!     __uint(max_entries, 1024);
//!     __type(key, __u32);
//!     __type(value, struct counts);
//! } sizes SEC(".maps");
//! ```
//!
//! `__uint(name, n)` is a pointer to an array of n, `__type(name, t)` a pointer to t, `__array(values, t)` an array of pointers
//! to t: all is in the types, nothing in the section's bytes but what `.values = {...}` puts there, as relocations.

use std::fmt;

use super::{
    Fault, ObjectError,
    btf::{Btf, Raw, Type, TypeId},
    elf::{Elf, Role, Symbol},
};

/// Bytes of a key: it must fit a program's stack.
pub const MAX_KEY: u32 = 512;
/// Bytes of one value.
pub const MAX_VALUE: u32 = 1 << 20;
/// Maps that one object may declare.
pub const MAX_MAPS: usize = 256;
/// BPF_F_NO_PREALLOC: entries need not be there before they are used. Here they always are.
const FLAG_NO_PREALLOC: u32 = 1;
/// BPF_F_RDONLY_PROG: programs may not write it. So is the array that stands for a section of constants.
pub const FLAG_READ_ONLY_PROGRAM: u32 = 1 << 7;
/// BPF_F_WRONLY_PROG: programs may not read it.
pub const FLAG_WRITE_ONLY_PROGRAM: u32 = 1 << 8;
/// Linux' names of the map_flags, by bit.
const FLAG_NAMES: [&str; 15] = [
    "BPF_F_NO_PREALLOC",
    "BPF_F_NO_COMMON_LRU",
    "BPF_F_NUMA_NODE",
    "BPF_F_RDONLY",
    "BPF_F_WRONLY",
    "BPF_F_STACK_BUILD_ID",
    "BPF_F_ZERO_SEED",
    "BPF_F_RDONLY_PROG",
    "BPF_F_WRONLY_PROG",
    "BPF_F_CLONE",
    "BPF_F_MMAPABLE",
    "BPF_F_PRESERVE_ELEMS",
    "BPF_F_INNER_MAP",
    "BPF_F_LINK",
    "BPF_F_PATH_FD",
];

/// What a map is. Numbers are Linux' where the meaning is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum MapKind {
    Hash = 1,
    Array = 2,
    ProgArray = 3,
    PercpuHash = 5,
    PercpuArray = 6,
    LruHash = 9,
    ArrayOfMaps = 12,
    HashOfMaps = 13,
    Queue = 22,
    Stack = 23,
    Ringbuf = 27,
    BloomFilter = 30,
    BlockStorage = 0x10000,
}

impl MapKind {
    pub const ALL: [MapKind; 13] = [
        MapKind::Hash,
        MapKind::Array,
        MapKind::ProgArray,
        MapKind::PercpuHash,
        MapKind::PercpuArray,
        MapKind::LruHash,
        MapKind::ArrayOfMaps,
        MapKind::HashOfMaps,
        MapKind::Queue,
        MapKind::Stack,
        MapKind::Ringbuf,
        MapKind::BloomFilter,
        MapKind::BlockStorage,
    ];

    pub fn from_number(number: u32) -> Option<MapKind> {
        MapKind::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    /// For kinds that there are only elsewhere: one on which the same helpers do the same to a program.
    fn alike(number: u32) -> Option<MapKind> {
        match number {
            // lru_percpu_hash
            10 => Some(MapKind::PercpuHash),
            // lpm_trie
            11 => Some(MapKind::Hash),
            _ => None,
        }
    }

    /// As in `BPF_MAP_TYPE_*`, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            MapKind::Hash => "hash",
            MapKind::Array => "array",
            MapKind::ProgArray => "prog_array",
            MapKind::PercpuHash => "percpu_hash",
            MapKind::PercpuArray => "percpu_array",
            MapKind::LruHash => "lru_hash",
            MapKind::ArrayOfMaps => "array_of_maps",
            MapKind::HashOfMaps => "hash_of_maps",
            MapKind::Queue => "queue",
            MapKind::Stack => "stack",
            MapKind::Ringbuf => "ringbuf",
            MapKind::BloomFilter => "bloom_filter",
            MapKind::BlockStorage => "block_storage",
        }
    }

    /// Its keys are numbers from 0 up.
    pub fn is_indexed(self) -> bool {
        matches!(self, MapKind::Array | MapKind::PercpuArray | MapKind::ProgArray | MapKind::ArrayOfMaps)
    }

    /// Its values are maps.
    pub fn is_of_maps(self) -> bool {
        matches!(self, MapKind::ArrayOfMaps | MapKind::HashOfMaps)
    }

    /// A value a thread.
    pub fn is_percpu(self) -> bool {
        matches!(self, MapKind::PercpuArray | MapKind::PercpuHash)
    }

    fn has_key(self) -> bool {
        !matches!(
            self,
            MapKind::Queue | MapKind::Stack | MapKind::Ringbuf | MapKind::BloomFilter | MapKind::BlockStorage
        )
    }
}

impl fmt::Display for MapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A map as an object declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapDef {
    pub name: String,
    pub kind: MapKind,
    /// Bytes; 0 where the kind has no keys.
    pub key_size: u32,
    /// Bytes; 0 for a ring buffer.
    pub value_size: u32,
    /// Entries; bytes for a ring buffer.
    pub max_entries: u32,
    /// BPF_F_*.
    pub flags: u32,
    /// Bloom filters: the number of hash functions.
    pub extra: u64,
    /// `__uint(pinning, LIBBPF_PIN_BY_NAME)`: shared with every object that declares it so, and kept after detaching.
    pub pinned: bool,
    /// What the values of a map of maps look like.
    pub inner: Option<Box<MapDef>>,
    pub key: Option<Type>,
    /// Of a ring buffer: its records.
    pub value: Option<Type>,
    /// What `.values = {...}` sets.
    pub values: Vec<(u32, Initial)>,
    /// Some: it stands for this section of variables and is no map of the program's.
    pub region: Option<usize>,
}

/// A value of a map that is set when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Initial {
    /// A map of the object, by its place in `Object.maps`.
    Map(usize),
    /// A program of the object, by its symbol.
    Program(String),
}

impl MapDef {
    /// What makes two maps interchangeable: a reload keeps a map whose layout is the same. Flags say what the programs of one object
    /// may do, not what the map is.
    pub fn same_layout(&self, other: &MapDef) -> bool {
        let numbers = |def: &MapDef| (def.kind, def.key_size, def.value_size, def.max_entries, def.extra);
        let inner = match (&self.inner, &other.inner) {
            (Some(a), Some(b)) => a.same_layout(b),
            (None, None) => true,
            _ => false,
        };
        numbers(self) == numbers(other) && inner
    }

    /// A one-line description, for messages.
    pub fn layout(&self) -> String {
        let MapDef { kind, key_size, value_size, max_entries, .. } = self;
        format!("{kind}, keys of {key_size}, values of {value_size} bytes, max_entries {max_entries}")
    }

    /// The map that stands for a section of variables.
    pub(crate) fn of_region(region: usize, name: &str, size: u64, writable: bool) -> MapDef {
        MapDef {
            name: name.to_owned(),
            // Fits: sections are bounded by MAX_MEMORY.
            value_size: size as u32,
            flags: if writable { 0 } else { FLAG_READ_ONLY_PROGRAM },
            region: Some(region),
            ..MapDef::new(MapKind::Array, 4, 0, 1)
        }
    }

    /// A map without a name.
    pub fn new(kind: MapKind, key_size: u32, value_size: u32, max_entries: u32) -> MapDef {
        MapDef {
            name: String::new(),
            kind,
            key_size,
            value_size,
            max_entries,
            flags: 0,
            extra: 0,
            pinned: false,
            inner: None,
            key: None,
            value: None,
            values: Vec::new(),
            region: None,
        }
    }

    /// Whether the numbers make sense for the kind. What is not said here, the maps themselves bound by memory.
    pub fn check(&self) -> Result<(), String> {
        let MapDef { kind, key_size, value_size, max_entries, .. } = *self;
        if max_entries == 0 && kind != MapKind::BlockStorage {
            return Err("max_entries must not be 0".into());
        }
        if self.region.is_none() {
            self.check_flags()?;
        }
        if kind.has_key() != (key_size != 0) || key_size > MAX_KEY {
            let what = if kind.has_key() { format!("from 1 to {MAX_KEY} bytes") } else { "no key".into() };
            return Err(format!("a map of type {kind} has {what}, not {key_size} bytes"));
        }
        if kind.is_indexed() && key_size != 4 {
            return Err(format!("keys of {kind} maps are __u32, not {key_size} bytes"));
        }
        match kind {
            MapKind::Ringbuf if !max_entries.is_power_of_two() || max_entries < 4096 => {
                return Err("max_entries of a ringbuf are its bytes: a power of two of at least 4096".into());
            }
            MapKind::Ringbuf if value_size != 0 => return Err("a ringbuf has no value_size".into()),
            MapKind::Ringbuf if max_entries > 1 << 29 => return Err("a ringbuf has at most 2^29 bytes".into()),
            MapKind::Ringbuf => {}
            _ if value_size == 0 || value_size > MAX_VALUE && self.region.is_none() => {
                return Err(format!("values have from 1 to {MAX_VALUE} bytes, not {value_size}"));
            }
            _ => {}
        }
        match &self.inner {
            None if kind.is_of_maps() => Err("it does not say what its maps are: __array(values, struct {...})".into()),
            Some(inner) if inner.kind.is_of_maps() => Err("maps of maps do not nest further".into()),
            Some(inner) if inner.kind == MapKind::ProgArray => Err("maps of maps hold no arrays of programs".into()),
            Some(inner) => inner.check().map_err(|what| format!("its maps: {what}")),
            None => Ok(()),
        }
    }

    fn check_flags(&self) -> Result<(), String> {
        use MapKind::{Array, Hash, LruHash, PercpuArray, PercpuHash};
        let allowed = match self.kind {
            Hash | PercpuHash => FLAG_NO_PREALLOC | PROGRAM_ACCESS,
            Array | PercpuArray | LruHash => PROGRAM_ACCESS,
            _ => 0,
        };
        match self.flags & !allowed {
            0 if self.flags & PROGRAM_ACCESS == PROGRAM_ACCESS => {
                Err("BPF_F_RDONLY_PROG and BPF_F_WRONLY_PROG together leave its programs nothing".into())
            }
            0 => Ok(()),
            others => Err(format!(
                "map_flags {} are not supported for a map of type {}; {}",
                flag_names(others),
                self.kind,
                if allowed == 0 { "it has none".into() } else { format!("it may have {}", flag_names(allowed)) }
            )),
        }
    }
}

const PROGRAM_ACCESS: u32 = FLAG_READ_ONLY_PROGRAM | FLAG_WRITE_ONLY_PROGRAM;

fn flag_names(flags: u32) -> String {
    let name =
        |bit: u32| FLAG_NAMES.get(bit as usize).map_or_else(|| format!("{:#x}", 1u32 << bit), |&name| name.into());
    (0..u32::BITS).filter(|bit| flags >> bit & 1 != 0).map(name).collect::<Vec<_>>().join(", ")
}

/// The maps of an object: first one for each section of variables, at the section's number, then those that `.maps` declares.
pub(super) fn read(elf: &Elf<'_>) -> Result<Vec<MapDef>, ObjectError> {
    let regions = elf.regions.iter().enumerate();
    let mut maps: Vec<MapDef> =
        regions.map(|(index, region)| MapDef::of_region(index, &region.name, region.size, region.writable)).collect();
    let first = maps.len();
    for place in &elf.maps {
        maps.push(declared(elf, place).map_err(|fault| ObjectError::from(fault).in_section(".maps"))?);
    }
    for (index, place) in elf.maps.iter().enumerate() {
        let values = initial_values(elf, place, &maps[first + index])
            .map_err(|fault| ObjectError::from(fault).in_section(".maps").at_symbol(&place.name))?;
        maps[first + index].values = values;
    }
    Ok(maps)
}

/// Where a map's variable lies.
#[derive(Debug)]
pub(super) struct MapPlace {
    pub name: String,
    pub section: usize,
    pub start: u64,
    pub end: u64,
    ty: TypeId,
}

/// The variables of `.maps`, in their order there.
pub(super) fn places(elf: &Elf<'_>) -> Result<Vec<MapPlace>, ObjectError> {
    let Some(section) = elf.sections.iter().position(|section| matches!(section.role, Role::Maps)) else {
        return Ok(Vec::new());
    };
    let at = |fault: Fault| ObjectError::from(fault).in_section(".maps");
    let types = elf.btf.as_ref().ok_or_else(|| at(Fault::MapsWithoutTypes))?.variables(".maps");
    let symbols = elf.symbols.iter().filter(|symbol| symbol.section == Some(section) && !symbol.is_section);
    let mut places = symbols.map(|symbol| place(symbol, section, &types)).collect::<Result<Vec<_>, _>>().map_err(at)?;
    if places.len() > MAX_MAPS {
        return Err(at(Fault::TooManyMaps));
    }
    places.sort_by_key(|place| place.start);
    Ok(places)
}

fn place(symbol: &Symbol, section: usize, types: &[(String, TypeId)]) -> Result<MapPlace, Fault> {
    let name = symbol.name.clone();
    let end = symbol.value.checked_add(symbol.size).ok_or_else(|| bad(&name, "its place is damaged"))?;
    match types.iter().find(|(known, _)| *known == name) {
        Some((_, ty)) => Ok(MapPlace { section, start: symbol.value, end, ty: *ty, name }),
        None => Err(bad(&name, "it has no type information; compile with -g")),
    }
}

fn bad(map: &str, what: impl Into<String>) -> Fault {
    Fault::BadMap { map: map.to_owned(), what: what.into() }
}

fn declared(elf: &Elf<'_>, place: &MapPlace) -> Result<MapDef, Fault> {
    let btf = elf.btf.as_ref().ok_or(Fault::MapsWithoutTypes)?;
    let mut def = definition(btf, &place.name, place.ty, elf.is_foreign, true)?;
    def.name = place.name.clone();
    if !elf.is_foreign {
        def.check().map_err(|what| bad(&place.name, what))?;
    }
    Ok(def)
}

/// Reads the struct that declares a map.
fn definition(btf: &Btf, map: &str, id: TypeId, is_foreign: bool, may_nest: bool) -> Result<MapDef, Fault> {
    let members = btf.members(id).ok_or_else(|| bad(map, "a map is declared by a struct; see duckbpf.h"))?;
    let mut def = MapDef::new(MapKind::Array, 0, 0, 0);
    let mut kind = None;
    for (name, _, ty) in members {
        let number = || number(btf, ty).ok_or_else(|| bad(map, format!("{name} is no number: use __uint({name}, n)")));
        match name.as_str() {
            "type" => {
                let number = number()?;
                let known = MapKind::from_number(number).or(if is_foreign { MapKind::alike(number) } else { None });
                kind = Some(known.ok_or_else(|| {
                    let known = MapKind::ALL.map(MapKind::name).join(", ");
                    bad(map, format!("map type {number} is not supported; there are {known}"))
                })?);
            }
            "max_entries" => def.max_entries = number()?,
            "map_flags" => def.flags = number()?,
            "map_extra" => def.extra = u64::from(number()?),
            "key_size" => def.key_size = number()?,
            "value_size" => def.value_size = number()?,
            "pinning" => def.pinned = number()? != 0,
            "key" => (def.key_size, def.key) = typed(btf, ty).ok_or_else(|| bad(map, "its key has no type"))?,
            "value" => (def.value_size, def.value) = typed(btf, ty).ok_or_else(|| bad(map, "its value has no type"))?,
            "values" if may_nest => def.inner = inner(btf, map, ty, is_foreign)?.map(Box::new),
            _ if is_foreign => {}
            other => return Err(bad(map, format!("it has the unknown member {other}"))),
        }
    }
    def.kind = kind.ok_or_else(|| bad(map, "it has no type: use __uint(type, BPF_MAP_TYPE_...)"))?;
    match def.kind {
        MapKind::Ringbuf => {
            // Records' type; one that cannot be in the ring says nothing.
            def.value_size = 0;
            def.value = def.value.filter(|ty| ty.size() <= u64::from(def.max_entries));
        }
        MapKind::ProgArray | MapKind::ArrayOfMaps | MapKind::HashOfMaps if def.value_size == 0 => def.value_size = 4,
        _ => {}
    }
    if matches!(def.kind, MapKind::ProgArray | MapKind::ArrayOfMaps) && def.key_size == 0 {
        def.key_size = 4;
    }
    Ok(def)
}

/// `int (*name)[n]`
fn number(btf: &Btf, id: TypeId) -> Option<u32> {
    match btf.plain(id) {
        Raw::Pointer(to) => match btf.plain(*to) {
            Raw::Array { count, .. } => Some(*count),
            _ => None,
        },
        _ => None,
    }
}

/// `type *name`
fn typed(btf: &Btf, id: TypeId) -> Option<(u32, Option<Type>)> {
    match btf.plain(id) {
        Raw::Pointer(to) => Some((btf.size(*to, 0), Some(btf.resolve(*to)))),
        _ => None,
    }
}

/// `struct {...} *values[]`; of programs: `void *values[]` or functions.
fn inner(btf: &Btf, map: &str, id: TypeId, is_foreign: bool) -> Result<Option<MapDef>, Fault> {
    let Raw::Array { element, .. } = btf.plain(id) else {
        return Err(bad(map, "values is no array: use __array(values, struct {...})"));
    };
    let Raw::Pointer(to) = btf.plain(*element) else {
        return Err(bad(map, "values is no array of pointers: use __array(values, struct {...})"));
    };
    match btf.plain(*to) {
        Raw::Composite { .. } => definition(btf, map, *to, is_foreign, false).map(Some),
        _ => Ok(None),
    }
}

/// What `.values = {...}` refers to.
fn initial_values(elf: &Elf<'_>, place: &MapPlace, def: &MapDef) -> Result<Vec<(u32, Initial)>, Fault> {
    let relocations = &elf.sections[place.section].relocations;
    let members = elf.btf.as_ref().and_then(|btf| btf.members(place.ty)).unwrap_or_default();
    let values = members
        .iter()
        .find(|(name, ..)| name == "values")
        .map(|(_, offset, _)| place.start.saturating_add(u64::from(*offset)));
    let mut initial = Vec::new();
    for (&at, relocation) in relocations.range(place.start..place.end) {
        let offset = values.and_then(|values| at.checked_sub(values)).filter(|offset| offset.is_multiple_of(8));
        let index = offset.and_then(|offset| u32::try_from(offset / 8).ok()).ok_or(Fault::MisplacedRelocation)?;
        if index >= def.max_entries {
            return Err(bad(&place.name, format!("values has more than max_entries, which is {}", def.max_entries)));
        }
        let symbol = elf.symbols.get(relocation.symbol).ok_or(Fault::MisplacedRelocation)?;
        initial.push((index, initial_value(elf, place, def, symbol)?));
    }
    Ok(initial)
}

fn initial_value(elf: &Elf<'_>, place: &MapPlace, def: &MapDef, symbol: &Symbol) -> Result<Initial, Fault> {
    let map = elf.map_at(symbol);
    let is_program =
        symbol.is_function && symbol.section.is_some_and(|index| matches!(elf.sections[index].role, Role::Program(..)));
    match (def.kind, map) {
        (MapKind::ArrayOfMaps, Some(map)) => Ok(Initial::Map(map)),
        (MapKind::ProgArray, None) if is_program => Ok(Initial::Program(symbol.name.clone())),
        (kind, _) => Err(bad(&place.name, format!("{} cannot be a value of a map of type {kind}", symbol.name))),
    }
}
