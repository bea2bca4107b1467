//! Every program of extensions-c loads, and those that compute stock's decision compute it.

mod common;

use common::{GALLERY, gallery, program};
use duckbpf_abi as abi;
use duckbpf_runtime::{
    Hook,
    testing::{MockHost, hash_batch},
};

#[test]
fn every_program_is_accepted_as_clang_builds_it() {
    let host = MockHost::lock();
    for mcpu in ["v3", "v4"] {
        for name in GALLERY {
            let report = host.runtime.verify(&gallery(name, mcpu)).unwrap_or_else(|error| panic!("{mcpu}: {error}"));
            assert_eq!(report.name, name);
            println!("{mcpu} {report:#?}");
        }
    }
}

/// DuckDB's MurmurHash64 (common/types/hash.hpp).
fn murmur64(mut x: u64) -> u64 {
    for _ in 0..2 {
        x ^= x >> 32;
        x = x.wrapping_mul(0xd6e8_feb8_6659_fd93);
    }
    x ^ x >> 32
}

/// DuckDB's Hash<T> of a key (common/types/hash.cpp).
fn stock_hash(key: &abi::duckbpf_hash_ctx) -> u64 {
    match key.type_ {
        abi::DUCKBPF_TYPE_INT64 | abi::DUCKBPF_TYPE_UINT64 | abi::DUCKBPF_TYPE_DOUBLE => murmur64(key.lo),
        abi::DUCKBPF_TYPE_INT128 | abi::DUCKBPF_TYPE_UINT128 => murmur64(key.lo) ^ murmur64(key.hi),
        abi::DUCKBPF_TYPE_VARCHAR => key.whole,
        abi::DUCKBPF_TYPE_INTERVAL => {
            let (days, months) = (key.hi as i32 as i64, key.hi as i64 >> 32);
            murmur64(days as u64) ^ murmur64(months as u64) ^ murmur64(key.lo)
        }
        _ => murmur64(u64::from(key.lo as u32)),
    }
}

#[test]
fn default_hash_is_stocks_in_every_type() {
    let host = MockHost::lock();
    for mcpu in ["v3", "v4"] {
        host.runtime.replace(&[gallery("default_hash", mcpu)]).unwrap();
        hashes_as_stock(&host);
    }
}

fn hashes_as_stock(host: &MockHost) {
    let pin = host.pin(Hook::Hash).unwrap();
    assert_eq!(pin.hash_types(), (1 << abi::DUCKBPF_TYPE_COUNT) - 1);
    let as_host = abi::DUCKBPF_PROGRAM_HASH_STRINGS_BY_WHOLE | abi::DUCKBPF_PROGRAM_HASH_STRINGS_AS_HOST;
    let strings = if cfg!(feature = "interpreted") { 0 } else { as_host };
    let by_whole = abi::DUCKBPF_PROGRAM_HASH_READS_WHOLE | strings;
    assert_eq!(pin.flags(), abi::DUCKBPF_PROGRAM_HASH_MIXED | by_whole);
    for ty in 0..abi::DUCKBPF_TYPE_COUNT {
        let mut value = 1u64;
        let mut keys = Vec::new();
        for _ in 0..500 {
            value = value.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(ty.into());
            let (hi, whole) = (value.rotate_left(23), murmur64(value));
            keys.push(abi::duckbpf_hash_ctx { lo: value ^ value >> 29, hi, whole, len: 16, type_: ty });
        }
        let mut out = vec![0; keys.len()];
        let batch = hash_batch(&keys, &mut out, abi::DUCKBPF_KEYS_CTX, (ty, 16));
        pin.hash_batch(&batch);
        let stock: Vec<u64> = keys.iter().map(stock_hash).collect();
        assert_eq!(out, stock, "type {ty}");
        let single: Vec<u64> = keys.iter_mut().map(|key| pin.call(key)).collect();
        assert_eq!(single, stock, "type {ty}, one by one");
    }
}

#[test]
fn both_hashes_of_the_gallery_pass_as_mixed() {
    let host = MockHost::lock();
    for name in ["default_hash", "hash_wy"] {
        host.runtime.replace(&[gallery(name, "v4")]).unwrap();
        let flags = host.pin(Hook::Hash).unwrap().flags();
        assert_ne!(flags & abi::DUCKBPF_PROGRAM_HASH_MIXED, 0, "{name}");
    }
}

#[test]
fn degenerate_hashes_are_refused_at_attach() {
    let host = MockHost::lock();
    let constant = program("constant", "SEC(\"duckdb/hash\") __u64 f(void *c) { (void)c; return 7; }");
    let error = host.runtime.replace(&[constant]).unwrap_err().to_string();
    assert!(error.contains("only 1 different hashes"), "{error}");
    let body = "const volatile __u32 hash_mixed = 1; const volatile __u64 hash_types = DUCKBPF_TYPE_BIT(DUCKBPF_TYPE_INT64);\n\
                SEC(\"duckdb/hash\") __u64 f(struct duckbpf_hash_ctx *c) { return c->lo; }";
    host.runtime.replace(&[program("identity", body)]).unwrap();
    let pin = host.pin(Hook::Hash).unwrap();
    assert_eq!((pin.flags(), pin.hash_types()), (0, 1 << abi::DUCKBPF_TYPE_INT64), "not believed to be mixed");
}

/// The capacity of ArenaAllocator::AllocateNewBlock (storage/arena_allocator.cpp).
fn stock_capacity(context: &abi::duckbpf_allocate_new_block_ctx) -> u64 {
    let previous = context.previous_capacity;
    let mut capacity = if previous == 0 { context.initial_capacity } else { previous };
    capacity = capacity.min(context.max_capacity);
    if capacity < context.max_capacity {
        capacity *= 2;
    }
    while capacity < context.min_size {
        capacity *= 2;
    }
    capacity
}

#[test]
fn default_allocate_new_block_is_stocks() {
    let host = MockHost::lock();
    host.runtime.replace(&[gallery("default_allocate_new_block", "v4")]).unwrap();
    let sizes =
        [1, 7, 2047, 2048, 2049, 4096, 100_000, 1 << 20, (16 << 20) - 1, 16 << 20, (16 << 20) + 1, 1 << 33, 1 << 45];
    for initial_capacity in [1, 2048, 3000, 1 << 24] {
        for previous_capacity in [0, 1, 2048, 5000, 9 << 20, 16 << 20, 1 << 30] {
            for min_size in sizes {
                let mut context = abi::duckbpf_allocate_new_block_ctx {
                    min_size,
                    initial_capacity,
                    previous_capacity,
                    max_capacity: 16 << 20,
                    ..Default::default()
                };
                let expected = stock_capacity(&context);
                assert_eq!(host.call(Hook::AllocateNewBlock, &mut context), Some(expected), "{context:?}");
            }
        }
    }
}

#[test]
fn the_other_defaults_decide_as_stock() {
    let host = MockHost::lock();
    let names = ["schedule_task", "execute_forever", "load", "update_used_memory", "unpin"];
    let paths: Vec<_> = names.iter().map(|name| gallery(&format!("default_{name}"), "v4")).collect();
    host.runtime.replace(&paths).unwrap();
    for pool in [abi::DUCKBPF_POOL_REGULAR, abi::DUCKBPF_POOL_ASYNC] {
        let mut context = abi::duckbpf_schedule_task_ctx { n_tasks: 9, pool, ..Default::default() };
        assert_eq!(host.call(Hook::ScheduleTask, &mut context), Some(1 | u64::from(pool) << 16));
    }
    let at = |site, partial, flush_supported| {
        let mut context = abi::duckbpf_execute_forever_ctx { site, partial, flush_supported, ..Default::default() };
        host.call(Hook::ExecuteForever, &mut context).unwrap()
    };
    assert_eq!(at(abi::DUCKBPF_SITE_WORKER, 0, 1), 1);
    assert_eq!(at(abi::DUCKBPF_SITE_WORKER, 1, 1), 0b11);
    assert_eq!(at(abi::DUCKBPF_SITE_CLIENT, 1, 0), 0b11);
    assert_eq!(at(abi::DUCKBPF_SITE_IDLE, 1, 1), 0b1001);
    assert_eq!(at(abi::DUCKBPF_SITE_IDLE, 0, 0), 1);
    assert_eq!(at(abi::DUCKBPF_SITE_DECAYED, 0, 1), 0b1_0001);
    assert_eq!(host.call(Hook::Load, &mut abi::duckbpf_load_ctx::default()), Some(0x101));
    assert_eq!(host.call(Hook::UpdateUsedMemory, &mut abi::duckbpf_update_used_memory_ctx::default()), Some(0));
    assert_eq!(unpin(&host, 0, 0, 1, 0), 0b1);
    assert_eq!(unpin(&host, 0, 2, 0, 0), 0b11, "stock destroys it at this moment");
    assert_eq!(unpin(&host, 3, 2, 0, 0), 0b1, "it has readers");
}

fn unpin(host: &MockHost, readers: i32, destroy_upon: u32, persistent: u32, hint: u32) -> u64 {
    let mut context = abi::duckbpf_unpin_ctx { readers, destroy_upon, persistent, hint, ..Default::default() };
    host.call(Hook::Unpin, &mut context).unwrap()
}

#[test]
fn unpin_drop_scanned_drops_blocks_of_files() {
    let host = MockHost::lock();
    host.runtime.replace(&[gallery("unpin_drop_scanned", "v4")]).unwrap();
    assert_eq!(unpin(&host, 0, 0, 1, abi::DUCKBPF_HINT_NONE), 0b11);
    assert_eq!(unpin(&host, 0, 0, 1, abi::DUCKBPF_HINT_KEEP), 0b1);
    assert_eq!(unpin(&host, 0, 0, 0, abi::DUCKBPF_HINT_NONE), 0b1, "not backed by a file");
    assert_eq!(unpin(&host, 1, 0, 1, abi::DUCKBPF_HINT_NONE), 0b1, "it has readers");
}

#[test]
fn schedule_young_first_asks_for_the_querys_age() {
    let host = MockHost::lock();
    host.runtime.replace(&[gallery("schedule_young_first", "v4")]).unwrap();
    let decide = |active_queries, pool| {
        let mut context = abi::duckbpf_schedule_task_ctx { active_queries, pool, ..Default::default() };
        host.call(Hook::ScheduleTask, &mut context).unwrap()
    };
    assert_eq!(decide(1, 0), 1, "alone");
    assert_eq!(decide(5, 0), 1 | 2 << 8, "300 ms old");
    assert_eq!(decide(5, 1), 1 | 1 << 16, "others wait for the async pool");
}
