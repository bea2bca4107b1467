//! Programs with maps, compiled by clang and run as machine code: every kind, reloads, callbacks, tail calls, parameters.

mod common;

use common::{gallery, program};
use duckbpf_abi::{duckbpf_load_ctx, duckbpf_unpin_ctx};
use duckbpf_runtime::{Hook, MapHandle, Options, Parameter, UpdateFlags, testing, testing::MockHost};

fn load(block_id: i64, size: u64) -> duckbpf_load_ctx {
    duckbpf_load_ctx { block_id, file_id: 7, size, ..Default::default() }
}

fn call_load(host: &MockHost, block_id: i64, size: u64) -> u64 {
    host.call(Hook::Load, &mut load(block_id, size)).expect("a program is attached")
}

fn attach(host: &MockHost, name: &str, body: &str) {
    let path = program(name, body);
    host.runtime.attach(&path, Options { replace: true }).unwrap_or_else(|error| panic!("{error}"));
}

fn map(host: &MockHost, name: &str) -> MapHandle {
    host.runtime.map(name).unwrap_or_else(|error| panic!("{error}"))
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

/// Keys and first values of a map whose keys and values are 64-bit numbers.
fn numbers(map: &MapHandle) -> Vec<(u64, u64)> {
    let entries = map.entries().unwrap().into_iter();
    let mut numbers: Vec<_> = entries.map(|entry| (word(&entry.key), word(&entry.values[0]))).collect();
    numbers.sort();
    numbers
}

fn declare(name: &str, kind: &str, entries: u32) -> String {
    format!(
        "struct {{ __uint(type, {kind}); __uint(max_entries, {entries}); __type(key, __u64); __type(value, __u64); }} \
         {name} SEC(\".maps\");\n"
    )
}

#[test]
fn hashes_count_and_forget() {
    let host = MockHost::lock();
    for kind in ["BPF_MAP_TYPE_HASH", "BPF_MAP_TYPE_LRU_HASH"] {
        let body = declare("sizes", kind, 8)
            + "SEC(\"duckdb/load\") __u64 f(struct duckbpf_load_ctx *ctx) {
                   __u64 key = ctx->size, one = 1, *count = bpf_map_lookup_elem(&sizes, &key);
                   if (ctx->hit)
                       return bpf_map_delete_elem(&sizes, &key);
                   if (count) {
                       __sync_fetch_and_add(count, 1);
                       return *count;
                   }
                   return bpf_map_update_elem(&sizes, &key, &one, BPF_NOEXIST);
               }";
        attach(&host, "hashes", &body);
        assert_eq!((call_load(&host, 1, 100), call_load(&host, 1, 100), call_load(&host, 1, 200)), (0, 2, 0));
        assert_eq!(numbers(&map(&host, "sizes")), [(100, 2), (200, 1)]);
        let mut gone = duckbpf_load_ctx { hit: 1, ..load(1, 100) };
        assert_eq!(host.call(Hook::Load, &mut gone), Some(0));
        assert_eq!(host.call(Hook::Load, &mut gone), Some(-i64::from(libc::ENOENT) as u64));
        assert_eq!(numbers(&map(&host, "sizes")), [(200, 1)]);
        host.runtime.detach("hashes").unwrap();
    }
}

#[test]
fn arrays_of_every_thread_add_up() {
    let host = MockHost::lock();
    host.runtime.attach(&gallery("count_calls", "v4"), Options::default()).unwrap_or_else(|error| panic!("{error}"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    testing::call(Hook::Load, &mut load(1, 1));
                    testing::call(Hook::Unpin, &mut duckbpf_unpin_ctx::default());
                }
            });
        }
    });
    let entries = map(&host, "count_calls/calls").entries().unwrap();
    let sums: Vec<u64> = entries.iter().map(|entry| entry.values.iter().map(|value| word(value)).sum()).collect();
    assert_eq!(sums[Hook::Load.index()], 4000);
    assert_eq!(sums[Hook::Unpin.index()], 4000);
    assert_eq!(sums[Hook::ScheduleTask.index()], 0);
}

#[test]
fn reloads_keep_what_has_the_same_layout() {
    let host = MockHost::lock();
    let body = |entries: u32, add: u32| {
        declare("kept", "BPF_MAP_TYPE_HASH", entries)
            + &format!(
                "SEC(\"duckdb/load\") __u64 f(void *ctx) {{
                     (void)ctx;
                     __u64 key = 1, first = {add}, *n = bpf_map_lookup_elem(&kept, &key);
                     if (n) {{ *n += {add}; return *n; }}
                     bpf_map_update_elem(&kept, &key, &first, BPF_ANY);
                     return 0;
                 }}"
            )
    };
    attach(&host, "reload", &body(4, 1));
    call_load(&host, 1, 1);
    let before = map(&host, "kept").info().id;
    attach(&host, "reload", &body(4, 10));
    assert_eq!(map(&host, "kept").info().id, before);
    assert_eq!(call_load(&host, 1, 1), 11, "the new code, on the old count");
    let path = program("reload", &body(8, 1));
    let error = host.runtime.attach(&path, Options { replace: true }).unwrap_err().to_string();
    assert!(
        error.contains("the map kept is there already with another layout") && error.contains("max_entries 8"),
        "{error}"
    );
    assert_eq!(call_load(&host, 1, 1), 21, "the old program is still there");
    host.runtime.detach("reload").unwrap();
    assert!(host.runtime.map("kept").unwrap_err().to_string().contains("no map is named 'kept'"));
    attach(&host, "reload", &body(8, 1));
    assert!(map(&host, "kept").entries().unwrap().is_empty(), "detaching frees a map");
}

#[test]
fn pinned_maps_are_shared_and_stay() {
    let host = MockHost::lock();
    let pinned =
        "struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __uint(pinning, LIBBPF_PIN_BY_NAME);
                           __type(key, __u32); __type(value, __u64); } shared_count SEC(\".maps\");\n";
    let body = |hook: &str, ctx: &str| {
        format!(
            "{pinned} SEC(\"duckdb/{hook}\") __u64 f(struct {ctx} *ctx) {{
                 __u32 zero = 0;
                 __u64 *n = bpf_map_lookup_elem(&shared_count, &zero);
                 (void)ctx;
                 return n ? __sync_fetch_and_add(n, 1) : 99;
             }}"
        )
    };
    attach(&host, "pin_load", &body("load", "duckbpf_load_ctx"));
    attach(&host, "pin_unpin", &body("unpin", "duckbpf_unpin_ctx"));
    assert_eq!(call_load(&host, 1, 1), 0);
    assert_eq!(host.call(Hook::Unpin, &mut duckbpf_unpin_ctx::default()), Some(1));
    assert!(map(&host, "shared_count").info().pinned);
    host.runtime.detach_all().unwrap();
    assert_eq!(map(&host, "shared_count").info().owner, None);
    attach(&host, "pin_load", &body("load", "duckbpf_load_ctx"));
    assert_eq!(call_load(&host, 1, 1), 2, "it goes on where it was");
    host.runtime.detach_all().unwrap();
    host.runtime.unpin_map("shared_count").unwrap();
    assert!(host.runtime.map("shared_count").is_err());
}

#[test]
fn events_arrive_whole_and_are_counted_when_they_do_not() {
    let host = MockHost::lock();
    let body = "struct event { __u64 size; __u32 thread; __u32 pad; };
                struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, struct event); } \
                events SEC(\".maps\");
                SEC(\"duckdb/load\") __u64 f(struct duckbpf_load_ctx *ctx) {
                    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
                    if (!event)
                        return 1;
                    event->size = ctx->size;
                    event->thread = bpf_get_smp_processor_id();
                    if (ctx->hit)
                        bpf_ringbuf_discard(event, 0);
                    else
                        bpf_ringbuf_submit(event, 0);
                    return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) << 8;
                }";
    attach(&host, "events", body);
    assert_eq!(call_load(&host, 1, 5), 24 << 8);
    host.call(Hook::Load, &mut duckbpf_load_ctx { hit: 1, ..load(1, 6) });
    call_load(&host, 1, 7);
    let ring = map(&host, "events");
    let sizes: Vec<u64> = ring.drain(10).unwrap().iter().map(word).collect();
    assert_eq!(sizes, [5, 7], "what was discarded is skipped");
    let refused = (0..300).filter(|_| call_load(&host, 1, 1) == 1).count() as u64;
    assert_eq!(ring.info().lost, refused);
    assert!(refused > 0 && ring.drain(1000).unwrap().len() == 300 - refused as usize);
}

#[test]
fn queues_stacks_and_filters() {
    let host = MockHost::lock();
    let declare = |name: &str, kind: &str| {
        format!(
            "struct {{ __uint(type, BPF_MAP_TYPE_{kind}); __uint(max_entries, 3); __type(value, __u64); }} {name} \
             SEC(\".maps\");\n"
        )
    };
    let body = declare("last", "QUEUE")
        + &declare("top", "STACK")
        + &declare("seen", "BLOOM_FILTER")
        + "SEC(\"duckdb/load\") __u64 f(struct duckbpf_load_ctx *ctx) {
               __u64 size = ctx->size, newest = 0, known = bpf_map_peek_elem(&seen, &size) == 0;
               bpf_map_push_elem(&seen, &size, BPF_ANY);
               bpf_map_push_elem(&last, &size, BPF_EXIST);
               if (bpf_map_push_elem(&top, &size, BPF_ANY) != 0)
                   bpf_map_pop_elem(&top, &newest);
               return newest << 1 | known;
           }";
    attach(&host, "queues", &body);
    let results: Vec<u64> = [1, 2, 3, 4, 1].map(|size| call_load(&host, 1, size)).into();
    assert_eq!(results, [0, 0, 0, 3 << 1, 1]);
    let values = |name: &str| -> Vec<u64> {
        map(&host, name).entries().unwrap().iter().map(|entry| word(&entry.values[0])).collect()
    };
    assert_eq!(values("last"), [3, 4, 1]);
    assert_eq!(values("top"), [1, 2, 1]);
    map(&host, "top").set(&[], &[9u64.to_le_bytes().to_vec()], UpdateFlags::Exist).unwrap();
    assert_eq!(values("top"), [9, 1, 2]);
}

#[test]
fn maps_of_maps_lead_to_maps() {
    let host = MockHost::lock();
    let body = "struct counts { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, __u64); };
                struct counts first SEC(\".maps\");
                struct counts second SEC(\".maps\");
                struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 3); __type(key, __u32);
                         __array(values, struct counts); } outer SEC(\".maps\") = { .values = { [0] = &first, [2] = &second } };
                SEC(\"duckdb/load\") __u64 f(struct duckbpf_load_ctx *ctx) {
                    __u32 index = ctx->tag, one = 1;
                    void *inner = bpf_map_lookup_elem(&outer, &index);
                    __u64 *count;
                    if (!inner)
                        return 1000;
                    count = bpf_map_lookup_elem(inner, &one);
                    return count ? ++*count : 2000;
                }";
    attach(&host, "nested", body);
    let call = |tag: u32| host.call(Hook::Load, &mut duckbpf_load_ctx { tag, ..load(1, 1) }).unwrap();
    assert_eq!((call(0), call(0), call(1), call(2), call(3)), (1, 2, 1000, 1, 1000));
    assert_eq!(word(&map(&host, "first").entries().unwrap()[1].values[0]), 2);
    assert_eq!(word(&map(&host, "second").entries().unwrap()[1].values[0]), 1);
}

#[test]
fn block_storage_belongs_to_blocks() {
    let host = MockHost::lock();
    host.runtime
        .attach_with(&gallery("load_keep_hot", "v4"), Options::default(), &[("threshold".into(), Parameter::Int(2))])
        .unwrap_or_else(|error| panic!("{error}"));
    let hint = |block: i64| call_load(&host, block, 1) >> 8 & 0xff;
    assert_eq!((hint(1), hint(2), hint(1), hint(1), hint(2)), (1, 1, 3, 3, 3));
    assert_eq!(map(&host, "loads").info().entries, 2);
}

#[test]
fn callbacks_see_every_entry() {
    let host = MockHost::lock();
    let body = declare("values", "BPF_MAP_TYPE_HASH", 16)
        + "static long add(void *map, const __u64 *key, __u64 *value, __u64 *sum) { (void)map; *sum += *key + *value; return 0; }
           static long count(__u64 index, __u64 *sum) { *sum += index; return index == 5; }
           SEC(\"duckdb/load\") __u64 f(struct duckbpf_load_ctx *ctx) {
               __u64 sum = 0;
               long calls;
               if (ctx->hit) {
                   calls = bpf_loop(10, count, &sum, 0);
                   return sum << 8 | calls;
               }
               calls = bpf_for_each_map_elem(&values, add, &sum, 0);
               return sum << 8 | calls;
           }";
    attach(&host, "callbacks", &body);
    let values = map(&host, "values");
    for key in 1..=3u64 {
        values.set(&key.to_le_bytes(), &[(10 * key).to_le_bytes().to_vec()], UpdateFlags::Any).unwrap();
    }
    assert_eq!(call_load(&host, 1, 1), (6 + 60) << 8 | 3);
    assert_eq!(host.call(Hook::Load, &mut duckbpf_load_ctx { hit: 1, ..load(1, 1) }), Some(15 << 8 | 6));
}

#[test]
fn parameters_set_constants_before_the_check() {
    let host = MockHost::lock();
    let body = "enum level { LOW = 1, HIGH = 7 };
                const volatile __u32 factor = 3; const volatile enum level level = LOW; const volatile char name[8] = \"none\";
                __u64 writable;
                SEC(\"duckdb/load\") __u64 f(struct duckbpf_load_ctx *ctx) { writable++; return ctx->size * factor * level + name[0]; }";
    let path = program("parameters", body);
    let with = |parameters: &[(&str, Parameter)]| {
        let parameters: Vec<_> = parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        host.runtime.attach_with(&path, Options { replace: true }, &parameters).map_err(|error| error.to_string())
    };
    with(&[]).unwrap();
    assert_eq!(call_load(&host, 1, 2), 6 + u64::from(b'n'));
    let text = |text: &str| Parameter::Text(text.into());
    with(&[("factor", Parameter::Int(5)), ("level", text("HIGH")), ("name", text("x"))]).unwrap();
    assert_eq!(call_load(&host, 1, 2), 70 + u64::from(b'x'));
    for (name, value, says) in [
        ("factor", Parameter::Int(1 << 40), "1099511627776 does not fit; it is an unsigned number of 4 bytes"),
        ("level", text("MIDDLE"), "'MIDDLE' does not fit; it is one of LOW, HIGH"),
        ("name", text("far too long"), "text of at most 7 bytes"),
        ("missing", Parameter::Int(1), "there is no constant of that name; it has"),
        ("writable", Parameter::Int(1), "a variable that programs write to"),
    ] {
        let error = with(&[(name, value)]).unwrap_err();
        assert!(error.contains(says) && error.contains("attached as before: parameters"), "{error}");
    }
    assert_eq!(call_load(&host, 1, 2), 70 + u64::from(b'x'), "refused parameters change nothing");
}

#[test]
fn variables_are_seen_by_name() {
    let host = MockHost::lock();
    host.runtime.attach(&gallery("observe_counts", "v4"), Options::default()).unwrap();
    call_load(&host, 1, 1);
    let variables = map(&host, "observe_counts/.bss");
    assert_eq!(word(&variables.entries().unwrap()[0].values[0]), 1);
    let Some(duckbpf_runtime::Type::Struct { members, .. }) = &variables.definition().value else {
        panic!("a section of variables is a struct")
    };
    assert_eq!(members[0].name, "counts");
    assert!(variables.set(&[0; 4], &[vec![0; 64]], UpdateFlags::Any).is_err());
}

#[test]
fn tail_calls_go_on_in_other_programs() {
    let host = MockHost::lock();
    let body = |hook: &str| {
        format!(
            "SEC(\"?duckdb/load\") __u64 twice(struct duckbpf_load_ctx *ctx) {{ return ctx->size * 2; }}
             SEC(\"?duckdb/load\") __u64 thrice(struct duckbpf_load_ctx *ctx) {{ return ctx->size * 3; }}
             struct {{ __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 4); __type(key, __u32); __array(values, __u64 (void *)); }}
                 stages SEC(\".maps\") = {{ .values = {{ [1] = (void *)&twice, [3] = (void *)&thrice }} }};
             SEC(\"duckdb/{hook}\") __u64 f(struct duckbpf_{hook}_ctx *ctx) {{
                 bpf_tail_call(ctx, &stages, ctx->tag);
                 return 7;
             }}"
        )
    };
    for _ in 0..2 {
        attach(&host, "tails", &body("load"));
        let call = |tag: u32| host.call(Hook::Load, &mut duckbpf_load_ctx { tag, ..load(1, 100) }).unwrap();
        assert_eq!((call(0), call(1), call(2), call(3), call(4), call(u32::MAX)), (7, 200, 7, 300, 7, 7));
    }
    let names: Vec<_> = map(&host, "stages").entries().unwrap().into_iter().map(|entry| entry.values).collect();
    assert_eq!(names, [[b"twice".to_vec()], [b"thrice".to_vec()]]);
    host.runtime.detach_all().unwrap();
    let path = program("tails", &body("unpin"));
    let error = host.runtime.attach(&path, Options::default()).unwrap_err().to_string();
    assert!(
        error.contains(
            "the map stages holds twice, which is no program of this object, or is one for another hook than unpin"
        ),
        "{error}"
    );
}

#[test]
fn chains_of_tail_calls_are_held_to_the_ceiling() {
    let host = MockHost::lock();
    let body = |ages: &str| {
        format!(
            "__u64 again(struct duckbpf_load_ctx *ctx);
             struct {{ __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 1); __type(key, __u32); __array(values, __u64 (void *)); }}
                 chain SEC(\".maps\") = {{ .values = {{ [0] = (void *)&again }} }};
             SEC(\"?duckdb/load\") __u64 again(struct duckbpf_load_ctx *ctx) {{
                 __u64 age = {ages};
                 if (ctx->tag)
                     bpf_tail_call(ctx, &chain, 0);
                 return age + 1;
             }}
             SEC(\"duckdb/load\") __u64 f(struct duckbpf_load_ctx *ctx) {{ bpf_tail_call(ctx, &chain, 0); return 0; }}"
        )
    };
    attach(&host, "chain", &body("duckbpf_query_age_ns()"));
    let call = |tag: u32| host.call(Hook::Load, &mut duckbpf_load_ctx { tag, ..load(1, 1) }).unwrap();
    assert_eq!((call(0), call(1)), (testing::QUERY_AGE_NS + 1, testing::QUERY_AGE_NS + 1), "it ends");
    let dear = program("dear", &body("duckbpf_query_age_ns() + duckbpf_query_age_ns() + duckbpf_query_age_ns()"));
    let error = host.runtime.attach(&dear, Options { replace: true }).unwrap_err().to_string();
    assert!(
        error.contains("with the programs of chain that it can go on in; the ceiling of this hook is 4096"),
        "{error}"
    );
}
