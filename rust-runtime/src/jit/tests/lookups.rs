//! Look-ups in maps that are made in place.

use super::*;

/// A lookup of the index that the context begins with, and the last byte of what it finds.
fn lookup_in(kind: &str, value_size: u32, entries: u32) -> String {
    format!(
        "hook load
            map values {kind} 4 {value_size} {entries}
            r1 = *(u64 *)(r1 + 0)
            *(u32 *)(r10 - 4) = r1
            r1 = map[values] ll
            r2 = r10
            r2 += -4
            call map_lookup_elem
            if r0 == 0 goto none
            r0 = *(u8 *)(r0 + {})
            exit
            none: r0 = 1000
            exit",
        value_size - 1
    )
}

#[test]
fn lookups_in_arrays_are_a_few_instructions() {
    for (value_size, entries) in [(8u32, 5u32), (1, 1), (12, 3), (16, 1000), (32_000, 2)] {
        let text = lookup_in("array", value_size, entries);
        let object = assemble(&text).unwrap_or_else(|error| panic!("{error}")).object;
        let store = Store::new(Box::new(|| {}));
        let bindings = store.bind(&object, Memory::new(&object.regions).unwrap(), &[]).unwrap();
        let map = bindings.map(0).unwrap().clone();
        for index in 0..entries {
            let value = vec![index as u8; value_size as usize];
            // SAFETY: an index has four bytes, and the value the map's size.
            unsafe { map.update(index.to_le_bytes().as_ptr(), value.as_ptr(), || 0, 0) }.unwrap();
        }
        let program = jit::compile(verify(&object).unwrap(), bindings, Env::detached()).unwrap();
        assert!(!disassemble(program.code()).contains("call"), "{}", disassemble(program.code()));
        for index in [0, 1, 2, 3, 4, 5, 6, 999, 1000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_0000_0000u64] {
            let expected = if index as u32 >= entries { 1000 } else { u64::from(index as u8) };
            let found = call(&program, &mut context([index, 0, 0, 0, 0, 0, 0]));
            assert_eq!(found, expected, "{index:#x} of {entries} values of {value_size} bytes");
        }
    }
}

/// Looks up a key whose words are the context's, and adds 1 to the last byte of its value; 1000: there is none.
fn lookup_by_key(kind: &str, key_size: u32, value_size: u32, entries: u32) -> String {
    let words: String = (0..key_size.div_ceil(8))
        .map(|word| format!("r2 = *(u64 *)(r1 + {})\n*(u64 *)(r10 - {}) = r2\n", FIELDS[word as usize], 24 - 8 * word))
        .collect();
    format!(
        "hook load
            map values {kind} {key_size} {value_size} {entries}
            {words}
            r1 = map[values] ll
            r2 = r10
            r2 += -24
            call map_lookup_elem
            if r0 == 0 goto none
            r1 = *(u8 *)(r0 + {last})
            r1 += 1
            *(u8 *)(r0 + {last}) = r1
            r0 = r1
            exit
            none: r0 = 1000
            exit",
        last = value_size - 1
    )
}

/// Machine code finds what the map itself finds: keys that are there, that never were, that were taken out, also where chains are long.
#[test]
fn lookups_in_hashes_are_made_in_place() {
    let cases = [("hash", 4u32, 8u32), ("hash", 8, 1), ("hash", 16, 40), ("lru_hash", 8, 200), ("lru_hash", 16, 8)];
    for (kind, key_size, value_size) in cases {
        let object = assemble(&lookup_by_key(kind, key_size, value_size, 300)).unwrap().object;
        let store = Store::new(Box::new(|| {}));
        let bindings = store.bind(&object, Memory::new(&object.regions).unwrap(), &[]).unwrap();
        let map = bindings.map(0).unwrap().clone();
        let program = jit::compile(verify(&object).unwrap(), bindings, Env::detached()).unwrap();
        assert!(!disassemble(program.code()).contains("call"), "{}", disassemble(program.code()));
        // Words that differ in one half only, and such as look like no word at all.
        let key = |number: u64| [(number << 20) | (number / 7), number % 7, 0, 0, 0, 0, 0];
        let bytes = |number: u64| key(number)[..2].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let mut counts = [None; 400];
        for number in 0..300 {
            let value = vec![number as u8 & 63; value_size as usize];
            // SAFETY: at least as many bytes as a key has, and as many as a value.
            let updated = unsafe { map.update(bytes(number).as_ptr(), value.as_ptr(), || 0, 0) };
            updated.unwrap_or_else(|failure| panic!("{number}: {failure}"));
            counts[number as usize] = Some(number & 63);
        }
        for number in (0..300).step_by(3) {
            // SAFETY: as above.
            unsafe { map.delete(bytes(number).as_ptr()) }.unwrap();
            counts[number as usize] = None;
        }
        for _ in 0..3 {
            for (number, count) in counts.iter_mut().enumerate() {
                *count = count.map(|count| count + 1);
                let found = call(&program, &mut context(key(number as u64)));
                assert_eq!(found, count.unwrap_or(1000), "{kind}, keys of {key_size} bytes, {number}");
            }
        }
    }
}

/// What a program looked up stays when an LRU map needs room.
#[test]
fn lookups_in_place_mark_what_they_find() {
    let object = assemble(&lookup_by_key("lru_hash", 8, 8, 64)).unwrap().object;
    let store = Store::new(Box::new(|| {}));
    let bindings = store.bind(&object, Memory::new(&object.regions).unwrap(), &[]).unwrap();
    let map = bindings.map(0).unwrap().clone();
    let program = jit::compile(verify(&object).unwrap(), bindings, Env::detached()).unwrap();
    let mut look = |number: u64| call(&program, &mut context([number, 0, 0, 0, 0, 0, 0])) != 1000;
    let add = |number: u64| {
        // SAFETY: eight bytes each.
        unsafe { map.update(number.to_le_bytes().as_ptr(), number.to_le_bytes().as_ptr(), || 0, 0) }
    };
    (0..64).for_each(|number| add(number).unwrap());
    for fresh in 64..96 {
        assert!((0..8).all(&mut look), "looked up all the time, and gone before {fresh}");
        // Entries that wait to be free again are no matter here.
        let _ = add(fresh);
    }
    assert!((8..64).filter(|&number| look(number)).count() < 56, "others went");
}

#[test]
fn lookups_in_percpu_arrays_find_the_threads_own_values() {
    thread_local! {
        static THREAD: Cell<u32> = const { Cell::new(0) };
    }
    unsafe extern "C" fn thread_index() -> u32 {
        THREAD.get()
    }
    let host = abi::duckbpf_host { thread_index: Some(thread_index), ..*testing::host() };
    let env = Env::leak(Box::leak(Box::new(host)));
    for (value_size, entries) in [(8u32, 5u32), (1, 1), (12, 3), (16, 1000)] {
        let object = assemble(&lookup_in("percpu_array", value_size, entries)).unwrap().object;
        let store = Store::new(Box::new(|| {}));
        let bindings = store.bind(&object, Memory::new(&object.regions).unwrap(), &[]).unwrap();
        let map = bindings.map(0).unwrap().clone();
        let program = jit::compile(verify(&object).unwrap(), bindings, env).unwrap();
        let look = |index: u64| call(&program, &mut context([index, 0, 0, 0, 0, 0, 0]));
        let indexes = [0, 1, 2, 3, 4, 5, 999, 1000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_0000_0000u64];
        for thread in [3, 0, 1, 5] {
            THREAD.set(thread);
            for index in indexes {
                let expected = if index as u32 >= entries { 1000 } else { 0 };
                assert_eq!(look(index), expected, "thread {thread}, {index:#x}: nobody wrote yet");
            }
            for index in 0..entries {
                let value = vec![(index + thread) as u8; value_size as usize];
                // SAFETY: an index has four bytes, and the value the map's size.
                unsafe { map.update(index.to_le_bytes().as_ptr(), value.as_ptr(), || thread, 0) }.unwrap();
            }
        }
        for thread in [0, 1, 3, 5] {
            THREAD.set(thread);
            for index in indexes {
                let expected = if index as u32 >= entries { 1000 } else { u64::from((index as u32 + thread) as u8) };
                assert_eq!(look(index), expected, "thread {thread}, {index:#x} of {entries} values");
            }
        }
        THREAD.set(crate::maps::shards());
        assert_eq!(look(0), 1000, "more threads than shards");
    }
}
