//! Maps against models, with many threads, and what waits for programs to end.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64},
    },
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{outside::Refusal, *};

/// Programs of a test: one that is inside keeps what was taken out.
struct World {
    budget: Arc<Budget>,
    reclaimer: Arc<Reclaimer>,
    inside: Arc<AtomicBool>,
}

impl World {
    fn new() -> World {
        let inside = Arc::new(AtomicBool::new(false));
        let seen = inside.clone();
        let synchronize = move || {
            while seen.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        };
        World { budget: Budget::new(1 << 30), reclaimer: Reclaimer::new(Box::new(synchronize)), inside }
    }

    fn map(&self, kind: MapKind, key: u32, value: u32, max_entries: u32) -> Arc<Map> {
        Map::new(MapDef::new(kind, key, value, max_entries), &self.budget, &self.reclaimer).unwrap()
    }
}

fn update(map: &Map, key: &[u8], value: &[u8], shard: u32, flags: u64) -> Result<(), Failure> {
    assert_eq!((key.len(), value.len()), (map.def().key_size as usize, map.def().value_size as usize));
    // SAFETY: key and value have the map's sizes; nothing that was taken out is used again while the tests hold it.
    unsafe { map.update(key.as_ptr(), value.as_ptr(), || shard, flags) }
}

fn get(map: &Map, key: &[u8], shard: u32) -> Option<Vec<u8>> {
    assert_eq!(key.len(), map.def().key_size as usize);
    // SAFETY: as above.
    let value = unsafe { map.lookup(key.as_ptr(), || shard) };
    // SAFETY: a value has the map's size.
    (!value.is_null()).then(|| unsafe { words::read(value, map.def().value_size as usize) })
}

fn delete(map: &Map, key: &[u8]) -> Result<(), Failure> {
    // SAFETY: as above.
    unsafe { map.delete(key.as_ptr()) }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} never happened");
        thread::yield_now();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Update { key: u8, value: u8, flags: u64 },
    Delete { key: u8 },
    Get { key: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..24u8, any::<u8>(), 0..3u64).prop_map(|(key, value, flags)| Step::Update { key, value, flags }),
        (0..24u8).prop_map(|key| Step::Delete { key }),
        (0..24u8).prop_map(|key| Step::Get { key }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_hash_agrees_with_a_model(
        steps in proptest::collection::vec(step(), 1..400),
        key_size in 1..20usize,
        value_size in 1..20usize,
    ) {
        let world = World::new();
        let map = world.map(MapKind::Hash, key_size as u32, value_size as u32, 16);
        let mut model: HashMap<u8, u8> = HashMap::new();
        let (key_of, value_of) = (|key: u8| vec![key; key_size], |value: u8| vec![value; value_size]);
        for step in steps {
            match step {
                Step::Update { key, value, flags } => {
                    let expected = match (model.contains_key(&key), flags) {
                        (true, 1) => Err(Failure::Present),
                        (false, 2) => Err(Failure::Missing),
                        (false, _) if model.len() == 16 => Err(Failure::Full),
                        _ => Ok(()),
                    };
                    let mut found = update(&map, &key_of(key), &value_of(value), 0, flags);
                    // Entries that were taken out come back in their time.
                    until("a free entry", || {
                        let retry = found == Err(Failure::NotFreeYet);
                        if retry {
                            found = update(&map, &key_of(key), &value_of(value), 0, flags);
                        }
                        !retry
                    });
                    prop_assert_eq!(found, expected);
                    if found.is_ok() {
                        model.insert(key, value);
                    }
                }
                Step::Delete { key } => {
                    let expected = model.remove(&key).map(|_| ()).ok_or(Failure::Missing);
                    prop_assert_eq!(delete(&map, &key_of(key)), expected);
                }
                Step::Get { key } => {
                    prop_assert_eq!(get(&map, &key_of(key), 0), model.get(&key).map(|value| value_of(*value)));
                }
            }
            prop_assert_eq!(map.count(), model.len() as u64);
        }
        let mut entries = map.entries().unwrap();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        let mut expected: Vec<_> = model.iter().map(|(key, value)| (key_of(*key), vec![value_of(*value)])).collect();
        expected.sort();
        prop_assert_eq!(entries.into_iter().map(|entry| (entry.key, entry.values)).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn what_a_program_holds_is_not_used_again_before_it_ends() {
    let world = World::new();
    let map = world.map(MapKind::Hash, 8, 8, 4);
    let key = |key: u64| key.to_le_bytes();
    update(&map, &key(1), &[1; 8], 0, 0).unwrap();
    world.inside.store(true, Ordering::SeqCst);
    // SAFETY: the key has the map's size.
    let held = unsafe { map.lookup(key(1).as_ptr(), || 0) };
    delete(&map, &key(1)).unwrap();
    assert_eq!(get(&map, &key(1), 0), None);
    let mut failed = 0;
    for round in 2..200 {
        match update(&map, &key(round), &[0xff; 8], 0, 0) {
            Ok(()) => delete(&map, &key(round)).unwrap(),
            Err(failure) => {
                assert_eq!(failure, Failure::NotFreeYet);
                failed += 1;
            }
        }
    }
    assert!(failed > 0, "all the slack is used up by entries that wait");
    // SAFETY: what this program holds stays until it ends.
    assert_eq!(unsafe { words::read(held, 8) }, [1; 8]);
    world.inside.store(false, Ordering::SeqCst);
    until("entries come back", || update(&map, &key(999), &[2; 8], 0, 0).is_ok());
}

#[test]
fn a_full_lru_map_drops_what_nobody_looked_at() {
    let world = World::new();
    let map = world.map(MapKind::LruHash, 4, 8, 64);
    let mut misses = 0;
    for key in 0..20_000u32 {
        // A few keys that are looked at all the time.
        for hot in 0..8u32 {
            if get(&map, &hot.to_le_bytes(), 0).is_none() {
                misses += 1;
                let _ = update(&map, &hot.to_le_bytes(), &[1; 8], 0, 0);
            }
        }
        until("room", || update(&map, &(key + 100).to_le_bytes(), &[2; 8], 0, 0) != Err(Failure::NotFreeYet));
    }
    assert!(map.count() <= 64, "{}", map.count());
    assert!(misses < 500, "{misses} times a key was gone that is looked at all the time");
}

#[test]
fn threads_have_values_of_their_own() {
    let world = World::new();
    for kind in [MapKind::PercpuHash, MapKind::PercpuArray] {
        let map = world.map(kind, 4, 8, 2);
        update(&map, &[0; 4], &[1; 8], 0, 0).unwrap();
        update(&map, &[0; 4], &[7; 8], 3, 0).unwrap();
        let values: Vec<_> = (0..4).map(|shard| get(&map, &[0; 4], shard).unwrap()[0]).collect();
        assert_eq!(values, [1, 0, 0, 7]);
        assert_eq!(get(&map, &[0; 4], shards()), None, "more threads than shards");
        assert_eq!(update(&map, &[0; 4], &[1; 8], shards(), 0), Err(Failure::NoShard));
        let entries = map.entries().unwrap();
        let entry = entries.iter().find(|entry| entry.key == [0; 4]).unwrap();
        assert_eq!(entry.values, [[1; 8], [0; 8], [0; 8], [7; 8]]);
        map.set(&[0; 4], &[vec![5; 8]], UpdateFlags::Any).unwrap();
        assert_eq!(get(&map, &[0; 4], 3), Some(vec![0; 8]), "shards that are not named become zeros");
    }
    // An entry that comes back holds nothing of its former life.
    let map = world.map(MapKind::PercpuHash, 4, 8, 1);
    for round in 0..300u32 {
        until("an entry", || update(&map, &round.to_le_bytes(), &[9; 8], 2, 0).is_ok());
        assert_eq!(get(&map, &round.to_le_bytes(), 5), Some(vec![0; 8]));
        update(&map, &round.to_le_bytes(), &[9; 8], 5, 0).unwrap();
        delete(&map, &round.to_le_bytes()).unwrap();
    }
}

#[test]
fn nothing_is_lost_or_doubled_between_threads() {
    const KEYS: u64 = 512;
    let world = World::new();
    let map = world.map(MapKind::Hash, 8, 16, KEYS as u32);
    let (inserted, removed) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for worker in 0..4u64 {
            let (map, inserted, removed) = (&map, &inserted, &removed);
            scope.spawn(move || {
                let mut random = worker + 1;
                for _ in 0..50_000 {
                    random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                    let key = (random >> 40) % KEYS;
                    match random >> 62 {
                        0 => inserted.fetch_add(
                            u64::from(update(map, &key.to_le_bytes(), &[key as u8; 16], 0, 1).is_ok()),
                            Ordering::Relaxed,
                        ),
                        1 => removed.fetch_add(u64::from(delete(map, &key.to_le_bytes()).is_ok()), Ordering::Relaxed),
                        _ => {
                            // An entry may have left and come back as another key's between the two: each word is one of its lives'.
                            let value = get(map, &key.to_le_bytes(), 0);
                            if let Some(value) = value {
                                assert!(value[..8].iter().all(|byte| *byte == value[0]));
                            }
                            0
                        }
                    };
                }
            });
        }
    });
    let left = inserted.into_inner() - removed.into_inner();
    assert_eq!(map.count(), left);
    let entries = map.entries().unwrap();
    assert_eq!(entries.len() as u64, left);
    for entry in entries {
        assert_eq!(entry.values, [[entry.key[0]; 16]], "a key has its own value");
    }
}

#[test]
fn maps_of_maps_give_out_what_they_hold() {
    let world = World::new();
    let inner = world.map(MapKind::Array, 4, 8, 1);
    let array = world.map(MapKind::Array, 4, 8, 3);
    let def = MapDef { inner: Some(Box::new(inner.def().clone())), ..MapDef::new(MapKind::ArrayOfMaps, 4, 4, 2) };
    let outer = Map::new(def, &world.budget, &world.reclaimer).unwrap();
    let Body::MapArray(maps) = outer.body() else { panic!("an array of maps") };
    assert!(maps.set(1, Some(inner.clone())).unwrap().is_none());
    assert_eq!(maps.set(2, Some(inner.clone())).unwrap_err(), Failure::Full);
    // SAFETY: keys of four bytes.
    let at = |index: u32| unsafe { outer.lookup(index.to_le_bytes().as_ptr(), || 0) } as u64;
    assert_eq!((at(0), at(1), at(2)), (0, inner.address(), 0));
    let old = maps.set(1, Some(array.clone())).unwrap().unwrap();
    assert_eq!((old.id(), at(1)), (inner.id(), array.address()));

    let def = MapDef { inner: Some(Box::new(inner.def().clone())), ..MapDef::new(MapKind::HashOfMaps, 8, 4, 2) };
    let outer = Map::new(def, &world.budget, &world.reclaimer).unwrap();
    let Body::MapHash(maps) = outer.body() else { panic!("a hash of maps") };
    maps.set(&[1; 8], Some(inner.clone()), UpdateFlags::NoExist).unwrap();
    // SAFETY: keys of eight bytes.
    assert_eq!(unsafe { outer.lookup([1; 8].as_ptr(), || 0) } as u64, inner.address());
    assert_eq!(outer.entries().unwrap()[0].values, [inner.id().to_le_bytes()]);
    assert_eq!(maps.set(&[1; 8], None, UpdateFlags::Any).unwrap().unwrap().id(), inner.id());
    assert_eq!(outer.count(), 0);
}

#[test]
fn sizes_are_checked_outside() {
    let world = World::new();
    let map = world.map(MapKind::Hash, 4, 8, 2);
    assert_eq!(map.set(&[0; 3], &[vec![0; 8]], UpdateFlags::Any), Err(Refusal::KeySize { expected: 4, found: 3 }));
    assert_eq!(map.set(&[0; 4], &[vec![0; 9]], UpdateFlags::Any), Err(Refusal::ValueSize { expected: 8, found: 9 }));
    assert_eq!(map.set(&[0; 4], &[], UpdateFlags::Any), Err(Refusal::Values(MapKind::Hash)));
    assert_eq!(map.remove(&[0; 4]), Err(Refusal::Failed(Failure::Missing)));
    let array = world.map(MapKind::Array, 4, 8, 2);
    assert_eq!(array.remove(&[0; 4]), Err(Refusal::Permanent(MapKind::Array)));
    assert_eq!(world.map(MapKind::Ringbuf, 0, 0, 4096).entries(), Err(Refusal::NoEntries(MapKind::Ringbuf)));
}

#[test]
fn absurd_sizes_are_refused() {
    let budget = Budget::new(1 << 20);
    let reclaimer = Reclaimer::new(Box::new(|| {}));
    let refused = |def: MapDef| Map::new(def, &budget, &reclaimer).unwrap_err().to_string();
    for kind in [MapKind::Array, MapKind::PercpuArray, MapKind::Queue, MapKind::Stack, MapKind::BloomFilter] {
        let key = if kind.is_indexed() { 4 } else { 0 };
        let error = refused(MapDef::new(kind, key, 1 << 20, u32::MAX));
        assert!(error.contains("SET hook_map_memory"), "{kind}: {error}");
        assert!(refused(MapDef::new(kind, key, 8, 0)).contains("max_entries must not be 0"), "{kind}");
    }
    assert!(refused(MapDef::new(MapKind::Hash, 4, 8, u32::MAX)).contains("4294967295 entries are more"));
    assert!(refused(MapDef::new(MapKind::Hash, 513, 8, 1)).contains("from 1 to 512 bytes"));
    assert!(refused(MapDef::new(MapKind::Array, 4, (1 << 20) + 1, 1)).contains("values have from 1"));
    assert_eq!(budget.used(), 0, "what was refused takes nothing");
}

#[test]
fn readers_outside_see_whole_entries_while_programs_work() {
    let world = World::new();
    let map = world.map(MapKind::LruHash, 8, 8, 128);
    let done = AtomicBool::new(false);
    let seen = Mutex::new(0usize);
    thread::scope(|scope| {
        scope.spawn(|| {
            for key in 0..200_000u64 {
                let _ = update(&map, &key.to_le_bytes(), &key.to_le_bytes(), 0, 0);
            }
            done.store(true, Ordering::SeqCst);
        });
        while !done.load(Ordering::SeqCst) {
            for entry in map.entries().unwrap() {
                assert_eq!(entry.key, entry.values[0]);
                *seen.lock().unwrap() += 1;
            }
        }
    });
    assert!(map.count() <= 128);
}
