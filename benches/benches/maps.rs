//! Maps beside the hash maps that Rust programs use. `cargo bench -p duckbpf-benches --bench maps`

use std::{
    collections::hash_map::RandomState,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use duckbpf_abi::duckbpf_load_ctx;
use duckbpf_runtime::{
    MapDef, MapKind, Records,
    testing::{
        Bytecode,
        maps::{Body, Budget, Map, Reclaimer},
    },
};

const KEYS: u64 = 4096;

fn map(kind: MapKind, key: u32) -> Arc<Map> {
    let reclaimer = Reclaimer::new(Box::new(|| {}));
    Map::new(MapDef::new(kind, key, 8, KEYS as u32), &Budget::new(1 << 30), &reclaimer).expect("a map")
}

fn update(map: &Map, key: u64, value: u64, flags: u64) -> bool {
    // SAFETY: keys have at most eight bytes, values have eight.
    unsafe { map.update((&raw const key).cast(), (&raw const value).cast(), || 0, flags) }.is_ok()
}

fn lookup(map: &Map, key: u64) -> *mut u8 {
    // SAFETY: keys have at most eight bytes.
    unsafe { map.lookup((&raw const key).cast(), || 0) }
}

/// Puts every key in, up to 24 bytes long.
fn fill(map: &Map) {
    for key in 0..KEYS {
        let words = [key, 0, 0];
        // SAFETY: keys have at most 24 bytes, values have eight.
        assert!(unsafe { map.update(words.as_ptr().cast(), (&raw const key).cast(), || 0, 0) }.is_ok());
    }
}

fn full(kind: MapKind, key: u32) -> Arc<Map> {
    let map = map(kind, key);
    fill(&map);
    map
}

/// Keys in an order that no processor foresees.
fn next(key: &mut u64) -> u64 {
    *key = key.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
    *key >> 40 & (KEYS - 1)
}

fn one_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one thread");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for (name, kind, size) in
        [("array", MapKind::Array, 4), ("hash", MapKind::Hash, 8), ("lru_hash", MapKind::LruHash, 8)]
    {
        let map = full(kind, size);
        let mut key = 1;
        group.bench_function(format!("{name} lookup"), |bench| bench.iter(|| black_box(lookup(&map, next(&mut key)))));
        group.bench_function(format!("{name} update"), |bench| {
            bench.iter(|| black_box(update(&map, next(&mut key), 1, 0)));
        });
    }
    let papaya = papaya::HashMap::<u64, u64>::new();
    let dashmap = dashmap::DashMap::<u64, u64, RandomState>::default();
    for key in 0..KEYS {
        papaya.pin().insert(key, key);
        dashmap.insert(key, key);
    }
    let mut key = 1;
    group.bench_function("papaya lookup", |bench| {
        bench.iter(|| black_box(papaya.pin().get(&next(&mut key)).copied()));
    });
    group.bench_function("papaya update", |bench| {
        bench.iter(|| black_box(papaya.pin().insert(next(&mut key), 1).copied()))
    });
    group.bench_function("dashmap lookup", |bench| {
        bench.iter(|| black_box(dashmap.get(&next(&mut key)).map(|value| *value)));
    });
    group.bench_function("dashmap update", |bench| bench.iter(|| black_box(dashmap.insert(next(&mut key), 1))));
    let (half, mut fresh) = (map(MapKind::Hash, 8), 0);
    group.bench_function("hash insert and delete", |bench| {
        bench.iter(|| {
            fresh += 1;
            let inserted = update(&half, fresh, 1, 1);
            // SAFETY: the key has eight bytes.
            let _ = black_box(unsafe { half.delete((&raw const fresh).cast()) });
            inserted
        });
    });
    group.finish();
}

/// Lookups in one call of a program.
const LOOKUPS: u64 = 32;

/// A program that makes keys as [`next`] does, begins with the one that its context names, and ends with the next one. It looks each up in a
/// map of a kind, and adds up what it finds; without a map it adds up the keys, which it reads back from its stack.
fn lookups(map: Option<(&str, u32)>) -> Bytecode {
    let declaration = map.map(|(kind, size)| format!("map values {kind} {size} 8 {KEYS}"));
    let find = match map {
        Some(_) => {
            "r1 = map[values] ll
            r2 = r10
            r2 += -24
            call map_lookup_elem
            if r0 == 0 goto out
            r0 = *(u64 *)(r0 + 0)"
        }
        None => "r0 = *(u64 *)(r10 - 24)",
    };
    let one = format!(
        "r6 *= r7
        r6 += 0x14057b7
        r1 = r6
        r1 >>= 40
        r1 &= {}
        *(u64 *)(r10 - 24) = r1
        {find}
        r8 += r0\n",
        KEYS - 1
    );
    Bytecode::assemble(&format!(
        "hook load
        {}
        r6 = *(u64 *)(r1 + 32)
        r7 = 0x5851f42d4c957f2d ll
        r8 = 0
        *(u64 *)(r10 - 16) = 0
        *(u64 *)(r10 - 8) = 0
        {}
        r0 = r6
        exit
        {}",
        declaration.unwrap_or_default(),
        one.repeat(LOOKUPS as usize),
        map.map_or("", |_| "out: r0 = 0\nexit")
    ))
}

/// Nanoseconds of a lookup by a program, its key's making included; of the keys alone in the first row.
fn programs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("by a program");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let maps = [
        ("array lookup", Some(("array", 4))),
        ("hash lookup, keys of 4 bytes", Some(("hash", 4))),
        ("hash lookup, keys of 8 bytes", Some(("hash", 8))),
        ("hash lookup, keys of 16 bytes", Some(("hash", 16))),
        ("hash lookup, keys of 24 bytes", Some(("hash", 24))),
        ("lru_hash lookup", Some(("lru_hash", 8))),
    ];
    for (name, map) in [("keys alone", None)].into_iter().chain(maps) {
        let bytecode = lookups(map);
        if map.is_some() {
            fill(bytecode.map("values"));
        }
        let (program, mut context) = (bytecode.compile(), duckbpf_load_ctx { block_id: 1, ..Default::default() });
        group.bench_function(name, |bench| {
            bench.iter_custom(|rounds| {
                let calls = rounds.div_ceil(LOOKUPS);
                let start = Instant::now();
                for _ in 0..calls {
                    context.block_id = program.call(&mut context) as i64;
                }
                assert_ne!(context.block_id, 0, "a key that is not there");
                start.elapsed().mul_f64(rounds as f64 / (calls * LOOKUPS) as f64)
            });
        });
    }
    group.finish();
}

/// Nanoseconds of one thread's lookups while others look up too.
fn readers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("readers");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let map = full(MapKind::Hash, 8);
    for threads in [1usize, 2, 16] {
        group.bench_with_input(BenchmarkId::new("hash lookup", threads), &threads, |bench, &threads| {
            bench.iter_custom(|rounds| {
                let stop = AtomicBool::new(false);
                thread::scope(|scope| {
                    for seed in 1..threads as u64 {
                        let (map, stop) = (&map, &stop);
                        scope.spawn(move || {
                            let mut key = seed;
                            while !stop.load(Ordering::Relaxed) {
                                black_box(lookup(map, next(&mut key)));
                            }
                        });
                    }
                    let (mut key, start) = (1, Instant::now());
                    for _ in 0..rounds {
                        black_box(lookup(&map, next(&mut key)));
                    }
                    let took = start.elapsed();
                    stop.store(true, Ordering::Relaxed);
                    took
                })
            });
        });
    }
    group.finish();
}

/// Two threads submit events of 16 bytes while a third reads them: nanoseconds an event, of both together.
fn events(criterion: &mut Criterion) {
    let reclaimer = Reclaimer::new(Box::new(|| {}));
    let map = Map::new(MapDef::new(MapKind::Ringbuf, 0, 0, 1 << 24), &Budget::new(1 << 30), &reclaimer).expect("a map");
    let Body::Ring(ring) = map.body() else { unreachable!("a ring buffer has a ring") };
    let mut group = criterion.benchmark_group("events");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements(1));
    group.bench_function("two writers, one reader", |bench| {
        bench.iter_custom(|rounds| {
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut records = Records::default();
                    while !stop.load(Ordering::Relaxed) {
                        records.clear();
                        ring.drain(4096, u64::MAX, black_box(&mut records));
                    }
                });
                let write = || {
                    let event = [7u64, 8];
                    for _ in 0..rounds.div_ceil(2) {
                        // SAFETY: an array of sixteen bytes.
                        let _ = black_box(unsafe { ring.output(event.as_ptr().cast(), 16) });
                    }
                };
                let start = Instant::now();
                let other = scope.spawn(write);
                write();
                other.join().expect("the other writer");
                let took = start.elapsed();
                stop.store(true, Ordering::Relaxed);
                took
            })
        });
    });
    let (written, lost) = (ring.positions().0 / 24, ring.counts().lost);
    println!("events/two writers, one reader: {written} written, {lost} lost for want of room");
    group.finish();
}

criterion_group!(maps, one_thread, programs, readers, events);
criterion_main!(maps);
