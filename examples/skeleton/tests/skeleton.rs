//! Skeletons and typed maps on a host without a database.

use std::path::PathBuf;

use duckbpf::maps::{Array, HashMap, PerCpuArray, Queue, RingBuf};
use duckbpf::runtime::UpdateFlags;
use duckbpf::{Options, maps, skeleton};
use duckbpf_runtime::testing::MockHost;
use skeleton_example::{Sizes, trace_load, unpin_sizes};

#[test]
fn a_skeletons_program_is_attached_out_of_the_binary() {
    let host = MockHost::lock();
    let sizes = Sizes::watch(host.runtime).unwrap();
    assert_eq!(host.runtime.programs()[0].name, unpin_sizes::NAME);
    let kinds: HashMap<unpin_sizes::Kind, u64> = host.runtime.map("sizes").unwrap().try_into().unwrap();
    let kind = |query_id, log2_size| unpin_sizes::Kind { query_id, tag: 0, log2_size };
    for query in 1..=3 {
        kinds.insert(&kind(query, 18), &10).unwrap();
    }
    kinds.insert(&kind(1, 12), &5).unwrap();
    assert_eq!(sizes.by_size().unwrap(), [(1 << 12, 5), (1 << 18, 30)].into());
    let again = Sizes::watch(host.runtime).err().unwrap();
    assert!(matches!(again, skeleton::AttachError::Runtime(_)), "{again}");
    sizes.stop().unwrap();
    assert!(host.runtime.programs().is_empty());
}

#[test]
fn constants_are_set_for_one_attach() {
    let host = MockHost::lock();
    let mut open = trace_load::open();
    assert_eq!(open.rodata.sample, 1, "as the object has it");
    open.rodata.sample = 10;
    let trace = open.attach(host.runtime, Options::default()).unwrap();
    assert_eq!(trace.programs.trace.hook, "load");
    assert_eq!(trace.programs.trace.info(host.runtime).unwrap().symbol, "trace");
    assert!(trace.maps.events.drain(10).unwrap().is_empty());
    assert_eq!(trace.maps.events.lost(), 0);
    trace.detach().unwrap();
    assert!(trace_load::Programs::default().trace.info(host.runtime).is_none());
}

/// An object with a map of each kind.
fn kinds(folder: &tempfile::TempDir) -> PathBuf {
    let map = |name: &str, kind: &str, key: &str, value: &str| {
        format!(
            "struct {{ __uint(type, BPF_MAP_TYPE_{kind}); __uint(max_entries, 4); {key} __type(value, {value}); }} {name} SEC(\".maps\");\n"
        )
    };
    let (number, pair) = ("__type(key, __u32);", "__type(key, __u64);");
    let text = [
        "#include \"duckbpf.h\"\nLICENSE(\"MIT\");\n".to_owned(),
        map("array", "ARRAY", number, "__u64"),
        map("threads", "PERCPU_ARRAY", number, "__u64"),
        map("hash", "HASH", pair, "__s32"),
        map("queue", "QUEUE", "", "__u64"),
        "struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(\".maps\");\n".to_owned(),
        "SEC(\"duckdb/load\") __u64 all(struct duckbpf_load_ctx *ctx) { __u64 key = ctx->size; __u32 zero = 0;\n"
            .to_owned(),
        "bpf_map_lookup_elem(&array, &zero); bpf_map_lookup_elem(&threads, &zero); bpf_map_lookup_elem(&hash, &key);\n"
            .to_owned(),
        "bpf_map_push_elem(&queue, &key, 0); bpf_ringbuf_output(&ring, &key, 8, 0); return 0; }\n".to_owned(),
    ];
    let (source, object) = (folder.path().join("kinds.bpf.c"), folder.path().join("kinds.bpf.o"));
    std::fs::write(&source, text.concat()).unwrap();
    duckbpf::compile::compile(&source, &object, &[]).unwrap();
    object
}

#[test]
fn maps_have_the_types_that_they_are_given() {
    let folder = tempfile::tempdir().unwrap();
    let host = MockHost::lock();
    host.runtime.attach(&kinds(&folder), Options::default()).unwrap();
    let map = |name: &str| host.runtime.map(name).unwrap();

    let array: Array<u64> = map("array").try_into().unwrap();
    array.set(3, &77).unwrap();
    assert_eq!(array.values().unwrap(), [0, 0, 0, 77]);
    assert_eq!((array.get(3).unwrap(), array.get(4).unwrap()), (Some(77), None));

    let threads: PerCpuArray<u64> = map("threads").try_into().unwrap();
    threads.set(1, &[5, 6]).unwrap();
    assert_eq!(threads.get(1).unwrap().unwrap()[..2], [5, 6]);
    assert_eq!(threads.get(9).unwrap(), None);

    let hash: HashMap<u64, i32> = map("hash").try_into().unwrap();
    hash.insert(&7, &-1).unwrap();
    assert_eq!((hash.get(&7).unwrap(), hash.get(&8).unwrap()), (Some(-1), None));
    let taken = hash.update(&7, &2, UpdateFlags::NoExist).unwrap_err();
    assert!(taken.to_string().contains("the key exists"), "{taken}");
    assert!(std::error::Error::source(&taken).is_some());
    assert!(hash.remove(&7).unwrap() && !hash.remove(&7).unwrap());

    let queue: Queue<u64> = map("queue").try_into().unwrap();
    queue.push(&1).unwrap();
    queue.push(&2).unwrap();
    assert!(queue.drop_next().unwrap());
    assert_eq!(queue.values().unwrap(), [2]);

    let ring: RingBuf<u64> = map("ring").try_into().unwrap();
    assert!(ring.drain(10).unwrap().is_empty());
}

#[test]
fn maps_of_another_kind_or_size_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let host = MockHost::lock();
    host.runtime.attach(&kinds(&folder), Options::default()).unwrap();
    let map = |name: &str| host.runtime.map(name).unwrap();
    let error = HashMap::<u64, u64>::try_from(map("array")).unwrap_err();
    assert_eq!(error.to_string(), "the map array is of type array; this needs a hash or lru_hash");
    let error = HashMap::<u64, u64>::try_from(map("hash")).unwrap_err();
    assert!(matches!(error, maps::Error::Size { what: "values", found: 4, size: 8, .. }), "{error}");
    let error = HashMap::<u32, i32>::try_from(map("hash")).unwrap_err();
    assert_eq!(error.to_string(), "keys of the map hash have 8 bytes; the Rust type has 4");
}

#[test]
fn maps_are_made_without_an_object() {
    let host = MockHost::lock();
    let quotas: HashMap<u32, u64> = HashMap::create(host.runtime, "quotas", 2).unwrap();
    quotas.insert(&7, &70).unwrap();
    let same: HashMap<u32, u64> = host.runtime.map("quotas").unwrap().try_into().unwrap();
    assert_eq!(same.entries().unwrap(), [(7, 70)]);
    assert!(HashMap::<u32, u64>::create(host.runtime, "quotas", 2).is_err(), "the name is taken");
    assert!(HashMap::<u32, u64>::create(host.runtime, "none", 0).is_err());

    let array: Array<u64> = Array::create(host.runtime, "array", 3).unwrap();
    assert_eq!(array.values().unwrap(), [0; 3]);
    assert!(PerCpuArray::<u64>::create(host.runtime, "threads", 3).unwrap().get(2).unwrap().is_some());
    Queue::<u64>::create(host.runtime, "work", 3).unwrap().push(&5).unwrap();
    let ring: RingBuf<u64> = RingBuf::create(host.runtime, "ring", 4096).unwrap();
    assert!(ring.drain(1).unwrap().is_empty());
    for name in ["quotas", "array", "threads", "work", "ring"] {
        host.runtime.unpin_map(name).unwrap();
    }
    assert!(host.runtime.maps().is_empty());
}
