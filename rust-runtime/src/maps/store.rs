//! The maps of objects: made when an object is loaded, taken over from the one before it, kept by name.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;

use super::{
    BlockKey, Body, Error, Map,
    memory::Budget,
    reclaim::{Reclaimer, Synchronize},
};
use crate::{
    hook::Hook,
    object::{Initial, MapDef, MapKind, Memory, Object},
};

/// What maps may take together until somebody says otherwise.
pub const DEFAULT_CEILING: u64 = 256 << 20;

/// Why an object cannot have its maps.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    #[error("the map {name} cannot be made: {source}")]
    Make { name: String, source: Error },
    #[error(
        "the map {name} is there already with another layout: {found}; the object declares {wanted}. {remedy}, or give the map another \
         name"
    )]
    Layout { name: String, found: String, wanted: String, remedy: &'static str },
    #[error("a map named '{name}' is pinned already; CALL hook_map_unpin('{name}') first, or take another name")]
    Exists { name: String },
    #[error("a map needs a name, without slashes")]
    Name,
    #[error("{map} is pinned: CALL hook_map_update puts programs into it, not .values")]
    PinnedValues { map: String },
    #[error("{program} is for the hook {hook}; {map} belongs to programs for {of}, which work on another context")]
    OtherHook { program: String, hook: Hook, map: String, of: Hook },
    #[error("{program} is a hash program: it is called for a whole vector, and nobody goes on in it")]
    HashProgram { program: String },
    #[error("{path} has programs for several hooks, and no program says yet for which {map} is", path = path.display())]
    SeveralHooks { path: PathBuf, map: String },
    #[error("{map} is not pinned any more, and takes no programs; attach the program that declares it again")]
    NotPinned { map: String },
    #[error("the map {map} holds {target}, which is no program of this object, or is one for another hook than {hook}")]
    Target { map: String, target: String, hook: Hook },
    #[error(
        "{program} may cost {cost} instructions with the programs of {map} that it can go on in; the ceiling of this hook is {ceiling}"
    )]
    TooCostly { program: String, map: String, cost: u64, ceiling: u64 },
}

/// Makes maps, and remembers those that are pinned.
#[derive(Debug)]
pub struct Store {
    budget: Arc<Budget>,
    reclaimer: Arc<Reclaimer>,
    pinned: Mutex<BTreeMap<String, Arc<Map>>>,
    /// Every block storage.
    blocks: ArcSwap<Vec<Arc<Map>>>,
}

/// What an object's code refers to: its variables, and its maps by their place in `Object.maps`, without those that stand for
/// variables.
#[derive(Clone, Debug)]
pub struct Bindings {
    pub memory: Arc<Memory>,
    pub maps: Vec<Option<Arc<Map>>>,
}

/// Of an object without maps.
impl From<Arc<Memory>> for Bindings {
    fn from(memory: Arc<Memory>) -> Self {
        Bindings { memory, maps: Vec::new() }
    }
}

impl Bindings {
    /// The map at a place of `Object.maps`.
    pub fn map(&self, place: u32) -> Option<&Arc<Map>> {
        self.maps.get(place as usize)?.as_ref()
    }

    pub fn maps(&self) -> impl Iterator<Item = &Arc<Map>> {
        self.maps.iter().flatten()
    }
}

impl Store {
    /// One whose memory nobody else knows of.
    #[cfg(any(test, feature = "disasm", feature = "testing"))]
    pub fn new(synchronize: Synchronize) -> Store {
        Store::with_budget(Budget::new(DEFAULT_CEILING), synchronize)
    }

    /// The same, whose maps get entries back that were taken out when [`Store::hand_back`] is called, and never else.
    #[cfg(any(test, feature = "testing"))]
    pub fn by_hand() -> Store {
        Store { reclaimer: Reclaimer::by_hand(), ..Store::new(Box::new(|| {})) }
    }

    /// No program may run that uses its maps.
    #[cfg(any(test, feature = "testing"))]
    pub fn hand_back(&self) {
        self.reclaimer.hand_back();
    }

    pub fn with_budget(budget: Arc<Budget>, synchronize: Synchronize) -> Store {
        let reclaimer = Reclaimer::new(synchronize);
        Store { budget, reclaimer, pinned: Mutex::default(), blocks: ArcSwap::default() }
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    fn pinned(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Map>>> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an object's maps. Those of the object that it replaces, `before`, go on where the layout is the same; likewise pinned
    /// ones.
    pub fn bind(&self, object: &Object, memory: Arc<Memory>, before: &[Arc<Map>]) -> Result<Bindings, BindError> {
        let mut maps: Vec<Option<Arc<Map>>> = Vec::with_capacity(object.maps.len());
        let mut made = Vec::new();
        for (place, def) in object.maps.iter().enumerate() {
            if def.region.is_some() {
                maps.push(None);
                continue;
            }
            let (found, remedy) = if def.pinned {
                (self.pinned().get(&def.name).cloned(), "Drop the pinned map with CALL hook_map_unpin")
            } else if def.kind == MapKind::ProgArray {
                // What it holds goes with its object.
                (None, "")
            } else {
                (before.iter().find(|map| map.def().name == def.name).cloned(), "Detach the program first")
            };
            let map = match found {
                Some(map) if map.def().same_layout(def) => map,
                Some(map) => {
                    let (found, wanted) = (map.def().layout(), def.layout());
                    return Err(BindError::Layout { name: def.name.clone(), found, wanted, remedy });
                }
                None => {
                    made.push(place);
                    self.make(def.clone())?
                }
            };
            maps.push(Some(map));
        }
        for place in made {
            fill(object, place, &maps)?;
        }
        Ok(Bindings { memory, maps })
    }

    /// The maps of objects that are attached now, as far as they are to be kept by name.
    pub fn pin(&self, maps: impl Iterator<Item = Arc<Map>>) {
        let mut pinned = self.pinned();
        for map in maps.filter(|map| map.def().pinned) {
            pinned.entry(map.def().name.clone()).or_insert(map);
        }
    }

    fn make(&self, def: MapDef) -> Result<Arc<Map>, BindError> {
        let name = def.name.clone();
        let map = Map::new(def, &self.budget, &self.reclaimer).map_err(|source| BindError::Make { name, source })?;
        if map.kind() == MapKind::BlockStorage {
            self.blocks.rcu(|blocks| blocks.iter().chain([&map]).cloned().collect::<Vec<_>>());
        }
        Ok(map)
    }

    /// Whether anybody keeps something by block.
    pub fn watches_blocks(&self) -> bool {
        !self.blocks.load().is_empty()
    }

    /// A block is gone: so is what was kept for it. Waits for nobody; where an entry's neighbours are being changed all the while it stays,
    /// until it has to make room for others.
    pub fn block_ended(&self, block: BlockKey) {
        for map in self.blocks.load().iter() {
            if let Body::Blocks(hash) = map.body() {
                // SAFETY: the key has the map's size; the caller is inside of an epoch, as a program is.
                let _ = unsafe { hash.delete((&raw const block).cast()) };
            }
        }
    }

    /// Forgets block storages that nobody else holds. What is returned is to be dropped when whoever was inside `block_ended` is out.
    pub fn forget_blocks(&self) -> Option<Arc<Vec<Arc<Map>>>> {
        let is_held = |map: &&Arc<Map>| Arc::strong_count(map) > 1;
        let before = self.blocks.load_full();
        let held: Vec<_> = before.iter().filter(is_held).cloned().collect();
        (held.len() < before.len()).then(|| self.blocks.swap(Arc::new(held)))
    }

    /// Makes a map that no object declares, and keeps it by its name.
    pub fn create(&self, def: MapDef) -> Result<Arc<Map>, BindError> {
        let name = def.name.clone();
        if name.is_empty() || name.contains('/') {
            return Err(BindError::Name);
        }
        let mut pinned = self.pinned();
        if pinned.contains_key(&name) {
            return Err(BindError::Exists { name });
        }
        let map = self.make(MapDef { pinned: true, ..def })?;
        pinned.insert(name, map.clone());
        Ok(map)
    }

    pub fn unpin(&self, name: &str) -> Option<Arc<Map>> {
        self.pinned().remove(name)
    }

    /// Whether this very map is kept by its name.
    pub fn is_pinned(&self, map: &Arc<Map>) -> bool {
        self.pinned().get(&map.def().name).is_some_and(|pinned| Arc::ptr_eq(pinned, map))
    }

    pub fn all_pinned(&self) -> Vec<Arc<Map>> {
        self.pinned().values().cloned().collect()
    }
}

/// Puts in what `.values = {...}` says, as far as it is maps. Programs follow once they are compiled.
fn fill(object: &Object, place: usize, maps: &[Option<Arc<Map>>]) -> Result<(), BindError> {
    let def = &object.maps[place];
    let Some(Body::MapArray(outer)) = maps[place].as_deref().map(Map::body) else { return Ok(()) };
    for (index, initial) in &def.values {
        let Initial::Map(inner) = initial else { continue };
        let Some(map) = maps.get(*inner).cloned().flatten() else { continue };
        if !def.inner.as_ref().is_some_and(|expected| expected.same_layout(map.def())) {
            let (found, wanted) = (map.def().layout(), def.inner.as_ref().map(|def| def.layout()).unwrap_or_default());
            return Err(BindError::Layout {
                name: map.def().name.clone(),
                found,
                wanted,
                remedy: "Give it the layout that the map of maps declares",
            });
        }
        // Nobody uses the map yet, and the index was checked against max_entries.
        let _ = outer.set(*index, Some(map));
    }
    Ok(())
}
