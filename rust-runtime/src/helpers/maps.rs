//! Helpers on maps. The first argument is a map of one of the kinds that the table names; keys and values have its sizes.

use duckbpf_abi::{duckbpf_evict_ctx, duckbpf_load_ctx, duckbpf_queue_insert_ctx, duckbpf_unpin_ctx};

use super::{Env, errno, guard};
use crate::maps::{BlockKey, Body, Failure, Map, UpdateFlags, hash::Hash, ring};

/// BPF_LOCAL_STORAGE_GET_F_CREATE
const CREATE: u64 = 1;

/// BPF_RB_*, what ringbuf_query answers.
const AVAILABLE: u64 = 0;
const RING_SIZE: u64 = 1;
const READ_POSITION: u64 = 2;
const WRITE_POSITION: u64 = 3;

/// The map that a program hands over.
fn map<'a>(address: u64) -> &'a Map {
    // SAFETY: the verifier proved that it is a map of the program's object or an inner map, which the program's object holds, or
    // whoever replaced it until the program ends.
    unsafe { &*(address as *const Map) }
}

fn status(result: Result<(), Failure>) -> u64 {
    result.map_or_else(|failure| errno(failure.errno()), |()| 0)
}

fn fault() -> u64 {
    errno(libc::EFAULT)
}

pub extern "C" fn lookup(address: u64, key: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    // SAFETY: the key has the map's size, and a program is running.
    guard(env, 0, || unsafe { map(address).lookup(key as *const u8, || env.thread_index()) } as u64)
}

pub extern "C" fn lookup_percpu(address: u64, key: u64, shard: u64, _: u64, _: u64, env: &Env) -> u64 {
    let shard = u32::try_from(shard).unwrap_or(u32::MAX);
    // SAFETY: as for lookup.
    guard(env, 0, || unsafe { map(address).lookup(key as *const u8, || shard) } as u64)
}

pub extern "C" fn update(address: u64, key: u64, value: u64, flags: u64, _: u64, env: &Env) -> u64 {
    guard(env, fault(), || {
        // SAFETY: key and value have the map's sizes, and a program is running.
        status(unsafe { map(address).update(key as *const u8, value as *const u8, || env.thread_index(), flags) })
    })
}

pub extern "C" fn delete(address: u64, key: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    // SAFETY: as for lookup.
    guard(env, fault(), || status(unsafe { map(address).delete(key as *const u8) }))
}

pub extern "C" fn push(address: u64, value: u64, flags: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, fault(), || {
        let flags = UpdateFlags::from_number(flags);
        status(match (map(address).body(), flags) {
            // SAFETY: the value has the map's size.
            (Body::Queue(queue), Ok(flags @ (UpdateFlags::Any | UpdateFlags::Exist))) => unsafe {
                queue.push(value as *const u8, flags == UpdateFlags::Exist)
            },
            (Body::Bloom(bloom), Ok(UpdateFlags::Any)) => {
                // SAFETY: the value has the map's size.
                unsafe { bloom.push(value as *const u8) };
                Ok(())
            }
            _ => Err(Failure::Invalid),
        })
    })
}

pub extern "C" fn pop(address: u64, value: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, fault(), || {
        status(match map(address).body() {
            // SAFETY: the value has room for the map's size.
            Body::Queue(queue) => unsafe { queue.next(value as *mut u8, true) },
            _ => Err(Failure::Invalid),
        })
    })
}

pub extern "C" fn peek(address: u64, value: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, fault(), || {
        status(match map(address).body() {
            // SAFETY: the value has room for the map's size.
            Body::Queue(queue) => unsafe { queue.next(value as *mut u8, false) },
            // SAFETY: the value has the map's size.
            Body::Bloom(bloom) => unsafe { bloom.peek(value as *const u8) },
            _ => Err(Failure::Invalid),
        })
    })
}

pub extern "C" fn ringbuf_output(address: u64, data: u64, size: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, fault(), || {
        status(match map(address).body() {
            // SAFETY: `size` bytes are readable there.
            Body::Ring(ring) => unsafe { ring.output(data as *const u8, size) },
            _ => Err(Failure::Invalid),
        })
    })
}

pub extern "C" fn ringbuf_reserve(address: u64, size: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, 0, || match map(address).body() {
        Body::Ring(ring) => ring.reserve(size).map_or(0, |record| record as u64),
        _ => 0,
    })
}

pub extern "C" fn ringbuf_submit(record: u64, _: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, 0, || {
        // SAFETY: the verifier proved that it is a record that was reserved and is not finished.
        unsafe { ring::finish(record as *mut u8, false) };
        0
    })
}

pub extern "C" fn ringbuf_discard(record: u64, _: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, 0, || {
        // SAFETY: as for ringbuf_submit.
        unsafe { ring::finish(record as *mut u8, true) };
        0
    })
}

pub extern "C" fn ringbuf_query(address: u64, what: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, 0, || {
        let Body::Ring(ring) = map(address).body() else { return 0 };
        let (written, read) = ring.positions();
        match what {
            AVAILABLE => written.saturating_sub(read),
            RING_SIZE => ring.bytes(),
            READ_POSITION => read,
            WRITE_POSITION => written,
            _ => 0,
        }
    })
}

/// Who comes here found no program to jump to.
pub extern "C" fn tail_call_fell_through(_: u64, _: u64, _: u64, _: u64, _: u64, _: &Env) -> u64 {
    errno(libc::ENOENT)
}

/// The block of a context: those that name one begin alike.
fn block(context: u64) -> BlockKey {
    use std::mem::offset_of;
    const AT: (usize, usize) = (offset_of!(duckbpf_load_ctx, file_id), offset_of!(duckbpf_load_ctx, block_id));
    macro_rules! begins_alike {
        ($context:ty) => {
            offset_of!($context, file_id) == AT.0 && offset_of!($context, block_id) == AT.1
        };
    }
    const { assert!(begins_alike!(duckbpf_unpin_ctx) && begins_alike!(duckbpf_evict_ctx)) };
    const { assert!(begins_alike!(duckbpf_queue_insert_ctx)) };
    // SAFETY: the verifier proved that it is the context of one of these hooks.
    let context = unsafe { &*(context as *const duckbpf_load_ctx) };
    BlockKey { file_id: context.file_id, block_id: context.block_id }
}

/// The values of a block storage.
fn blocks<'a>(address: u64) -> Option<(&'a Hash, usize)> {
    let map: &'a Map = map(address);
    match map.body() {
        Body::Blocks(hash) => Some((hash, map.def().value_size as usize)),
        _ => None,
    }
}

pub extern "C" fn block_storage_get(address: u64, context: u64, value: u64, flags: u64, _: u64, env: &Env) -> u64 {
    /// Bytes of zeros at a time: a value begins with zeros without a buffer of its size.
    static ZEROS: [u8; 4096] = [0; 4096];
    guard(env, 0, || {
        let Some((hash, size)) = blocks(address) else { return 0 };
        let block = block(context);
        let key = (&raw const block).cast::<u8>();
        // SAFETY: the key has the size that block storage gives its keys, and a program is running.
        let find = || unsafe { hash.lookup(key, 0) };
        if let Some(found) = find() {
            return found as u64;
        }
        if flags != CREATE || size > ZEROS.len() && value == 0 {
            return 0;
        }
        let initial = if value == 0 { ZEROS.as_ptr() } else { value as *const u8 };
        // SAFETY: as above; the value has the map's size.
        let _ = unsafe { hash.update(key, initial, 0, UpdateFlags::NoExist) };
        find().map_or(0, |found| found as u64)
    })
}

pub extern "C" fn block_storage_delete(address: u64, context: u64, _: u64, _: u64, _: u64, env: &Env) -> u64 {
    guard(env, fault(), || {
        let Some((hash, _)) = blocks(address) else { return errno(libc::EINVAL) };
        let block = block(context);
        // SAFETY: as for block_storage_get.
        status(unsafe { hash.delete((&raw const block).cast()) })
    })
}
