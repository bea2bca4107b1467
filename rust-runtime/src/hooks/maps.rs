//! Finding maps by name: those of attached objects, their sections of variables, and those that are pinned.

use std::{path::Path, sync::Arc};

use super::{HookSet, Runtime, load, run::choose};
use crate::{
    error::{Error, Problem},
    hook::Hook,
    maps::{
        Body, Map, UpdateFlags,
        nested::{ProgArray, Target},
        outside::{self, Entry, Refusal},
        ring::Records,
        store::BindError,
    },
    object::{MapDef, MapKind, Member, Memory, Type},
};

/// Maps that an error names, of those that there are.
const NAMED: usize = 20;

/// A map as people see it.
#[derive(Clone, Debug)]
pub struct MapInfo {
    /// Its number in the process; 0: a section of variables.
    pub id: u32,
    pub name: String,
    /// The object that declares it; None: it is pinned, and its programs are detached or many.
    pub owner: Option<String>,
    pub kind: MapKind,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    /// Entries that it holds; of a ring buffer, bytes that wait.
    pub entries: u64,
    /// Bytes of memory that it counts for.
    pub bytes: u64,
    pub pinned: bool,
    /// Ring buffers: records for which there was no room, or which reached nobody.
    pub lost: u64,
}

/// A map, or a section of variables. It stays as long as this does, attached or not.
#[derive(Clone, Debug)]
pub struct MapHandle {
    owner: Option<String>,
    def: MapDef,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Map(Arc<Map>),
    Variables { memory: Arc<Memory>, region: usize },
}

impl MapHandle {
    fn of_map(map: &Arc<Map>, owner: Option<&str>) -> MapHandle {
        MapHandle { owner: owner.map(str::to_owned), def: map.def().clone(), place: Place::Map(map.clone()) }
    }

    /// Its name, alone and with its owner's.
    fn is_called(&self, name: &str) -> bool {
        match name.rsplit_once('/') {
            Some((owner, name)) => self.owner.as_deref() == Some(owner) && self.def.name == name,
            None => self.def.name == name,
        }
    }

    fn full_name(&self) -> String {
        self.owner.as_ref().map_or_else(|| self.def.name.clone(), |owner| format!("{owner}/{}", self.def.name))
    }

    /// How it was declared: its types are what says how keys and values are to be shown.
    pub fn definition(&self) -> &MapDef {
        &self.def
    }

    pub fn info(&self) -> MapInfo {
        let MapDef { name, kind, key_size, value_size, max_entries, pinned, .. } = &self.def;
        let (id, entries, bytes, lost) = match &self.place {
            Place::Map(map) => {
                let lost = if let Body::Ring(ring) = map.body() { ring.counts().lost } else { 0 };
                (map.id(), map.count(), map.bytes(), lost)
            }
            Place::Variables { .. } => (0, 1, u64::from(*value_size), 0),
        };
        MapInfo {
            id,
            name: name.clone(),
            owner: self.owner.clone(),
            kind: *kind,
            key_size: *key_size,
            value_size: *value_size,
            max_entries: *max_entries,
            entries,
            bytes,
            pinned: *pinned,
            lost,
        }
    }

    /// What it holds now.
    pub fn entries(&self) -> Result<Vec<Entry>, Refusal> {
        match &self.place {
            Place::Map(map) => map.entries(),
            Place::Variables { memory, region } => {
                let values = memory.read(*region).into_iter().collect();
                Ok(vec![Entry { key: 0u32.to_le_bytes().to_vec(), values }])
            }
        }
    }

    /// What a key stands for: one value, or one a shard; None where there is no such key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<Vec<u8>>>, Refusal> {
        match &self.place {
            Place::Map(map) => map.get(key),
            Place::Variables { .. } => {
                Ok(self.entries()?.into_iter().find(|entry| entry.key == key).map(|entry| entry.values))
            }
        }
    }

    /// Sets a key's value: one, or one a shard.
    pub fn set(&self, key: &[u8], values: &[Vec<u8>], flags: UpdateFlags) -> Result<(), Refusal> {
        self.map()?.set(key, values, flags)
    }

    /// Takes a key out.
    pub fn remove(&self, key: &[u8]) -> Result<(), Refusal> {
        self.map()?.remove(key)
    }

    /// Takes up to `most` records out of a ring buffer, oldest first, and frees their room.
    pub fn drain(&self, most: usize) -> Result<Records, Refusal> {
        let mut records = Records::default();
        self.drain_until(u64::MAX, most, &mut records)?;
        Ok(records)
    }

    /// As [`drain`](Self::drain), of the records that came before [`ring_end`](Self::ring_end) was `end`; adds them to `records`.
    pub fn drain_until(&self, end: u64, most: usize, records: &mut Records) -> Result<(), Refusal> {
        self.map()?.ring()?.drain(most, end, records);
        Ok(())
    }

    /// The place behind the newest record of a ring buffer.
    pub fn ring_end(&self) -> Result<u64, Refusal> {
        Ok(self.map()?.ring()?.end())
    }

    /// Says that so many records, which were drained, reached nobody: they count as lost.
    pub fn lose(&self, records: u64) {
        if let Ok(ring) = self.map().and_then(Map::ring) {
            ring.lose(records);
        }
    }

    fn map(&self) -> Result<&Map, Refusal> {
        match &self.place {
            Place::Map(map) => Ok(map),
            Place::Variables { .. } => Err(Refusal::Variables),
        }
    }
}

impl Runtime {
    /// Puts a map into a map of maps, or takes one out, and waits until no program can hold what was there.
    pub fn set_inner_map(&self, outer: &MapHandle, key: &[u8], inner: Option<&MapHandle>) -> Result<(), Refusal> {
        let inner = match inner.map(|handle| &handle.place) {
            Some(Place::Map(map)) => Some(map.clone()),
            Some(Place::Variables { .. }) => return Err(Refusal::Variables),
            None => None,
        };
        let before = outer.map()?.set_map(key, inner)?;
        self.grace.wait();
        drop(before);
        Ok(())
    }

    /// Puts a program at a key of an array of programs, or takes one out, and waits until nobody can be in what was there. `path` is a file, or
    /// a name of the gallery, with one program for the array's hook. It is refused where a program that can reach it would then cost
    /// more than its hook allows. Its maps are its own, but for those that are pinned.
    pub fn set_program(&self, array: &MapHandle, key: &[u8], path: Option<&Path>) -> Result<(), Error> {
        let _changing = self.begin_change()?;
        let entry = |source| Error::from(Problem::Entry { name: array.def.name.clone(), source });
        let Place::Map(map) = &array.place else { return Err(entry(Refusal::Variables)) };
        let Body::Programs(programs) = map.body() else { return Err(entry(Refusal::Programs)) };
        // One that was forgotten may be held by nothing but what it holds.
        if map.def().pinned && !self.store.is_pinned(map) {
            return Err(Problem::Map { source: BindError::NotPinned { map: array.def.name.clone() } }.into());
        }
        let index = outside::index(key);
        let target = path.map(|path| self.load_target(map, programs, index, path)).transpose()?;
        let before = programs.set(index, target).map_err(|failure| entry(failure.into()))?;
        self.grace.wait();
        drop(before);
        Ok(())
    }

    fn load_target(&self, map: &Arc<Map>, array: &ProgArray, index: u32, path: &Path) -> Result<Target, Error> {
        let loaded = Arc::new(self.load_apart(path)?);
        if array.hook().is_none() && loaded.programs.len() > 1 {
            let (path, map) = (path.to_owned(), map.def().name.clone());
            return Err(Problem::Map { source: BindError::SeveralHooks { path, map } }.into());
        }
        let program = choose(&loaded.name, loaded.programs.iter().map(|loaded| &loaded.program), array.hook())?;
        let refused = |source| Error::from(Problem::Maps { path: path.to_owned(), source });
        if program.hook() == Hook::Hash {
            return Err(refused(BindError::HashProgram { program: program.text().symbol.clone() }));
        }
        load::claim(map, program).map_err(refused)?;
        let target = load::target(&loaded.name, program, loaded.clone());
        let change = load::Change { map, index, target: &target };
        let set = self.published.load_full();
        for caller in set.objects.iter().flat_map(|object| &object.programs) {
            load::check_program(&caller.program, Some(&change)).map_err(refused)?;
        }
        self.store.pin(loaded.bindings.maps().cloned());
        self.watch_blocks();
        Ok(target)
    }

    /// Makes a map that is kept by its name: objects that declare it pinned, with the same layout, share it.
    pub fn create_map(&self, def: MapDef) -> Result<MapHandle, Error> {
        let _changing = self.begin_change()?;
        let map = self.store.create(def).map_err(|source| Problem::Map { source })?;
        Ok(MapHandle::of_map(&map, None))
    }

    /// Every map and section of variables: of attached objects, and pinned.
    pub fn maps(&self) -> Vec<MapHandle> {
        let mut handles = in_set(&self.published.load());
        let pinned = self.store.all_pinned();
        let known: Vec<u32> = handles.iter().map(|handle| handle.info().id).collect();
        handles.extend(pinned.iter().filter(|map| !known.contains(&map.id())).map(|map| MapHandle::of_map(map, None)));
        handles
    }

    /// The map of a name: alone where only one is called so, or `object/map`.
    pub fn map(&self, name: &str) -> Result<MapHandle, Error> {
        let all = self.maps();
        let mut found: Vec<&MapHandle> = all.iter().filter(|handle| handle.is_called(name)).collect();
        // Several objects share what is pinned; sections of variables, without a number, are each an object's own.
        found.dedup_by(|one, other| one.info().id != 0 && one.info().id == other.info().id);
        let names = |handles: &mut dyn Iterator<Item = &MapHandle>| {
            let names: Vec<String> = (&mut *handles).take(NAMED).map(MapHandle::full_name).collect();
            match handles.count() {
                _ if names.is_empty() => "there is none".to_owned(),
                0 => names.join(", "),
                more => format!("{}, and {more} more", names.join(", ")),
            }
        };
        match found.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err(Problem::NoMap { name: name.into(), known: names(&mut all.iter()) }.into()),
            several => {
                let names = names(&mut several.iter().copied());
                Err(Problem::AmbiguousMap { name: name.into(), names }.into())
            }
        }
    }

    /// What maps may take together, and what they take.
    pub fn map_memory(&self) -> (u64, u64) {
        (self.store.budget().ceiling(), self.store.budget().used())
    }

    /// Maps that exist stay, whatever they take.
    pub fn set_map_memory(&self, bytes: u64) {
        self.store.budget().set_ceiling(bytes);
    }

    /// Forgets a pinned map: it goes with the last program that uses it. An array of programs is emptied.
    pub fn unpin_map(&self, name: &str) -> Result<(), Error> {
        let _changing = self.begin_change()?;
        let map = self.store.unpin(name).ok_or_else(|| Problem::NotPinned { name: name.into() })?;
        if let Body::Programs(programs) = map.body() {
            let before = programs.clear();
            self.grace.wait();
            drop(before);
        }
        Ok(())
    }
}

pub(super) fn in_set(set: &HookSet) -> Vec<MapHandle> {
    let mut handles = Vec::new();
    for object in &set.objects {
        let owner = Some(object.name.as_str());
        for def in object.parsed.maps.iter().filter(|def| def.value_size > 0) {
            let Some(region) = def.region else { continue };
            let value = Some(variables(&object.parsed.variables, region, def.value_size));
            let (key, def) = (Some(Type::Int { bytes: 4, signed: false }), def.clone());
            let place = Place::Variables { memory: object.bindings.memory.clone(), region };
            handles.push(MapHandle { owner: owner.map(str::to_owned), def: MapDef { key, value, ..def }, place });
        }
        handles.extend(object.bindings.maps().map(|map| MapHandle::of_map(map, owner)));
    }
    handles
}

/// A section of variables as one struct.
fn variables(variables: &[crate::object::Variable], region: usize, bytes: u32) -> Type {
    let of_region = variables.iter().filter(|variable| variable.region == region);
    let members = of_region.filter_map(|variable| {
        let ty = variable.ty.clone().filter(|ty| ty.size() == variable.size)?;
        let bit_offset = u32::try_from(variable.offset * 8).ok()?;
        Some(Member { name: variable.name.clone(), bit_offset, bits: None, ty })
    });
    let members: Vec<Member> = members.collect();
    if members.is_empty() { Type::Bytes { bytes } } else { Type::Struct { name: String::new(), bytes, members } }
}
