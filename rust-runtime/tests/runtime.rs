//! Attaching, replacing and detaching, against a host without a database.

mod common;

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use common::{GALLERY, folder, gallery, program};
use duckbpf_abi as abi;
use duckbpf_runtime::{
    Generation, Hook, Options, Problem,
    testing::{self, MockHost},
};

fn defaults() -> Vec<PathBuf> {
    GALLERY.iter().filter(|name| name.starts_with("default_")).map(|name| gallery(name, "v4")).collect()
}

fn attached(host: &MockHost) -> Vec<(Hook, String)> {
    host.runtime.programs().into_iter().map(|program| (program.hook, program.name)).collect()
}

fn load(host: &MockHost) -> Option<u64> {
    host.call(Hook::Load, &mut abi::duckbpf_load_ctx::default())
}

const NORMAL: u64 = 1 | (abi::DUCKBPF_HINT_NORMAL as u64) << 8;

#[test]
fn a_list_is_attached_as_one_and_detached() {
    let host = MockHost::lock();
    assert_eq!(load(&host), None);
    let first = host.runtime.replace(&defaults()).unwrap();
    assert_eq!(attached(&host).len(), defaults().len());
    assert_eq!(load(&host), Some(NORMAL));
    for point in host.runtime.points().into_iter().filter(|point| point.program.is_some()) {
        assert_eq!((point.generation, point.program), (first, Some(format!("default_{}", point.hook))));
    }
    let second = host.runtime.replace(&[gallery("default_load", "v4")]).unwrap();
    assert_eq!(second, Generation(first.0 + 1));
    assert_eq!(attached(&host), [(Hook::Load, "default_load".into())]);
    host.runtime.replace(&[]).unwrap();
    assert_eq!((load(&host), attached(&host)), (None, vec![]));
    assert_eq!(host.runtime.retired(), 0);
}

#[test]
fn what_fails_changes_nothing_and_says_so() {
    let host = MockHost::lock();
    let generation = host.runtime.replace(&[gallery("default_load", "v4")]).unwrap();
    let missing = folder().join("missing.bpf.o");
    let failures = [
        host.runtime.replace(&[gallery("default_hash", "v4"), missing.clone()]).unwrap_err(),
        host.runtime.replace(&[gallery("default_load", "v4"), gallery("observe_counts", "v4")]).unwrap_err(),
        host.runtime.replace(&[gallery("default_load", "v4"), gallery("default_load", "v3")]).unwrap_err(),
        host.runtime.attach(&gallery("observe_counts", "v4"), Options::default()).unwrap_err(),
        host.runtime.attach(&gallery("default_load", "v4"), Options::default()).unwrap_err(),
        host.runtime.attach(&missing, Options { replace: true }).unwrap_err(),
        host.runtime.detach("nothing").unwrap_err(),
        host.runtime.verify(&missing).unwrap_err(),
    ];
    for error in &failures {
        assert!(error.to_string().ends_with("attached as before: default_load."), "{error}");
    }
    assert!(failures[0].to_string().contains("missing.bpf.o: does not exist"));
    assert!(matches!(failures[1].problem(), Problem::Twice { hook: Hook::Load, .. }));
    assert!(matches!(failures[2].problem(), Problem::SameName { .. }));
    assert!(
        matches!(failures[3].problem(), Problem::Taken { hook: Hook::Load, holder, .. } if holder == "default_load")
    );
    assert!(matches!(failures[4].problem(), Problem::NameTaken { .. }));
    assert_eq!(host.runtime.programs()[0].generation, generation);
    assert_eq!(load(&host), Some(NORMAL));
}

#[test]
fn an_object_is_attached_beside_others_or_in_their_place() {
    let host = MockHost::lock();
    host.runtime.attach(&gallery("default_load", "v4"), Options::default()).unwrap();
    host.runtime.attach(&gallery("default_unpin", "v4"), Options::default()).unwrap();
    host.runtime.attach(&gallery("default_hash", "v4"), Options::default()).unwrap();
    let attached_now = host.runtime.attach(&gallery("observe_counts", "v4"), Options { replace: true }).unwrap();
    assert_eq!(attached_now.displaced, ["default_load", "default_unpin"]);
    assert_eq!(
        attached(&host),
        [
            (Hook::Hash, "default_hash".into()),
            (Hook::Load, "observe_counts".into()),
            (Hook::UpdateUsedMemory, "observe_counts".into()),
            (Hook::AllocateNewBlock, "observe_counts".into()),
            (Hook::Unpin, "observe_counts".into()),
        ]
    );
    host.runtime.detach("observe_counts").unwrap();
    assert_eq!(attached(&host), [(Hook::Hash, "default_hash".into())]);
}

#[test]
fn a_file_is_read_anew() {
    let host = MockHost::lock();
    let path = program("anew", "SEC(\"duckdb/load\") __u64 anew(void *ctx) { (void)ctx; return 1; }");
    host.runtime.replace(std::slice::from_ref(&path)).unwrap();
    let before = host.runtime.programs().remove(0);
    assert_eq!(load(&host), Some(1));
    program("anew", "SEC(\"duckdb/load\") __u64 anew(void *ctx) { (void)ctx; return 2; }");
    assert_eq!(load(&host), Some(1), "what is attached does not change with its file");
    host.runtime.replace(&[path]).unwrap();
    let after = host.runtime.programs().remove(0);
    assert_eq!(load(&host), Some(2));
    assert_ne!(before.tag, after.tag);
    assert_eq!((before.name.as_str(), before.symbol.as_str(), before.tag.len()), ("anew", "anew", 16));
}

#[test]
fn counters_begin_with_the_program() {
    let host = MockHost::lock();
    host.runtime.replace(&[gallery("default_load", "v4")]).unwrap();
    (0..5).for_each(|_| assert!(load(&host).is_some()));
    assert_eq!(host.runtime.programs()[0].counts.calls, 5);
    host.runtime.attach(&gallery("default_unpin", "v4"), Options::default()).unwrap();
    assert_eq!(host.runtime.programs()[0].counts.calls, 5, "others do not disturb it");
    host.runtime.replace(&[gallery("default_load", "v4")]).unwrap();
    let program = host.runtime.programs().remove(0);
    assert_eq!(program.counts.calls, 0, "the same program loaded again is a new one");
    let timings = program.timings;
    for phase in [timings.read_ns, timings.parse_ns, timings.check_ns, timings.compile_ns, timings.publish_ns] {
        assert!(phase > 0, "{timings:?}");
    }
}

#[test]
fn a_pinned_program_outlives_its_set() {
    let host = MockHost::lock();
    host.runtime.replace(&[gallery("default_hash", "v4")]).unwrap();
    let pin = host.pin(Hook::Hash).unwrap();
    let mut key = abi::duckbpf_hash_ctx { lo: 42, type_: abi::DUCKBPF_TYPE_INT64, len: 8, ..Default::default() };
    let hash = pin.call(&mut key);
    for _ in 0..100 {
        host.runtime.replace(&[gallery("hash_wy", "v4")]).unwrap();
    }
    assert_eq!(host.runtime.retired(), 1, "only what is pinned waits");
    assert_eq!(pin.call(&mut key), hash);
    assert_ne!(host.call(Hook::Hash, &mut key), Some(hash));
    drop(pin);
    assert_eq!(host.runtime.retired(), 0, "freed with its last pin");
}

#[test]
fn a_forked_process_is_told() {
    let host = MockHost::lock();
    host.fail_publish(true);
    let error = host.runtime.replace(&[gallery("default_load", "v4")]).unwrap_err();
    host.fail_publish(false);
    assert!(matches!(error.problem(), Problem::Forked), "{error}");
    assert!(attached(&host).is_empty());
}

#[test]
fn global_variables_are_shared_by_the_programs_of_an_object() {
    let host = MockHost::lock();
    let path = program(
        "shared",
        "__u64 count; __u64 start = 100; const volatile __u64 step = 7;\n\
         SEC(\"duckdb/load\") __u64 up(void *ctx) { (void)ctx; return __sync_fetch_and_add(&count, step) + start; }\n\
         SEC(\"duckdb/unpin\") __u64 look(void *ctx) { (void)ctx; return count; }",
    );
    host.runtime.replace(std::slice::from_ref(&path)).unwrap();
    let look = || host.call(Hook::Unpin, &mut abi::duckbpf_unpin_ctx::default());
    assert_eq!((load(&host), load(&host), look()), (Some(100), Some(107), Some(14)));
    host.runtime.replace(&[path]).unwrap();
    assert_eq!(look(), Some(0), "variables begin anew with a load");
}

#[test]
fn functions_are_linked_wherever_they_stand() {
    let host = MockHost::lock();
    let path = program(
        "functions",
        "static const volatile __u64 table[4] = {10, 20, 30, 40};\n\
         static __noinline __u64 square(__u64 x) { return x * x; }\n\
         __noinline __u64 squares(__u64 x) { return square(x) + square(x + 1); }\n\
         static __noinline __u64 sum(__u64 *values) { return values[0] + values[1] + table[2]; }\n\
         SEC(\"duckdb/load\") static __noinline __u64 near(__u64 x) { return squares(x) + 1; }\n\
         SEC(\"duckdb/load\") __u64 f(struct duckbpf_load_ctx *ctx) { return near(ctx->size) + square(2); }\n\
         SEC(\"duckdb/unpin\") __u64 g(struct duckbpf_unpin_ctx *ctx)\n\
         { __u64 values[2] = {ctx->size, squares(ctx->size)}; return sum(values); }",
    );
    host.runtime.replace(&[path]).unwrap();
    let squares = |x: u64| x * x + (x + 1) * (x + 1);
    for size in [0, 1, 7, 1000] {
        let f = host.call(Hook::Load, &mut abi::duckbpf_load_ctx { size, ..Default::default() });
        assert_eq!(f, Some(squares(size) + 1 + 4));
        let g = host.call(Hook::Unpin, &mut abi::duckbpf_unpin_ctx { size, ..Default::default() });
        assert_eq!(g, Some(size + squares(size) + 30));
    }
}

#[test]
fn optional_programs_are_checked_and_not_attached() {
    let host = MockHost::lock();
    let body = "SEC(\"duckdb/load\") __u64 one(void *ctx) { (void)ctx; return 1; }\n\
                SEC(\"?duckdb/load\") __u64 two(void *ctx) { (void)ctx; return 2; }";
    let both = program("both", body);
    let report = host.runtime.verify(&both).unwrap();
    let optional: Vec<_> = report.programs.iter().map(|program| (program.symbol.as_str(), program.optional)).collect();
    assert_eq!(optional, [("one", false), ("two", true)]);
    host.runtime.replace(&[both]).unwrap();
    assert_eq!((attached(&host).len(), load(&host)), (1, Some(1)));
    let only = program("only", "SEC(\"?duckdb/load\") __u64 two(void *ctx) { (void)ctx; return 2; }");
    let error = host.runtime.replace(&[only]).unwrap_err();
    assert!(matches!(error.problem(), Problem::OnlyOptional { .. }));
}

#[test]
fn helpers_reach_the_host() {
    let host = MockHost::lock();
    let path = program(
        "helpers",
        "SEC(\"duckdb/load\") __u64 age(void *ctx) { (void)ctx; return duckbpf_query_age_ns(); }\n\
         SEC(\"duckdb/unpin\") __u64 later(void *ctx) { (void)ctx; return bpf_ktime_get_ns(); }\n\
         SEC(\"duckdb/update_used_memory\") __u64 who(void *ctx) { (void)ctx; return bpf_get_smp_processor_id(); }",
    );
    host.runtime.replace(&[path]).unwrap();
    assert_eq!(load(&host), Some(testing::QUERY_AGE_NS));
    let clock = || host.call(Hook::Unpin, &mut abi::duckbpf_unpin_ctx::default()).unwrap();
    assert!(clock() < clock());
    let who = || testing::call(Hook::UpdateUsedMemory, &mut abi::duckbpf_update_used_memory_ctx::default()).unwrap();
    assert_ne!(who(), thread::spawn(who).join().unwrap());
}

#[test]
fn sampling_is_the_hosts() {
    let host = MockHost::lock();
    host.runtime.set_sampling(true);
    assert!(host.is_sampling());
    host.runtime.set_sampling(false);
    assert!(!host.is_sampling());
}

/// Swaps under load: every call sees all of a set or nothing, pins hold, and memory does not grow.
#[test]
fn swaps_beside_calling_threads_keep_memory_flat() {
    let host = MockHost::lock();
    let stop = AtomicBool::new(false);
    let sets: [Vec<PathBuf>; 3] = [
        defaults(),
        vec![gallery("observe_counts", "v4"), gallery("hash_wy", "v4"), gallery("schedule_young_first", "v4")],
        vec![],
    ];
    let swaps = if cfg!(debug_assertions) { 600 } else { 6000 };
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let decision = testing::call(Hook::Load, &mut abi::duckbpf_load_ctx::default());
                    assert!(matches!(decision, None | Some(NORMAL) | Some(0)), "{decision:?}");
                    if let Some(pin) = host.pin(Hook::Hash) {
                        hash_some(&pin);
                    }
                }
            });
        }
        let swap = |count: usize| {
            for set in sets.iter().cycle().take(count) {
                host.runtime.replace(set).unwrap();
            }
        };
        swap(swaps / 5);
        let (before, maps_before) = (resident_kib(), mappings());
        swap(swaps);
        let (after, maps_after) = (resident_kib(), mappings());
        stop.store(true, Ordering::Relaxed);
        assert!(after < before + 4096, "resident: {before} KiB, then {after} KiB");
        assert!(maps_after < maps_before + 64, "mappings: {maps_before}, then {maps_after}");
    });
    let deadline = Instant::now() + Duration::from_secs(30);
    while host.runtime.retired() != 0 {
        assert!(Instant::now() < deadline, "all is freed once nothing is pinned");
        thread::yield_now();
    }
}

fn hash_some(pin: &testing::Pin) {
    let keys: Vec<u64> = (0..64).collect();
    let mut out = [0u64; 64];
    let batch = testing::hash_batch(&keys, &mut out, abi::DUCKBPF_KEYS_64, (abi::DUCKBPF_TYPE_INT64, 8));
    pin.hash_batch(&batch);
    for (key, hash) in keys.iter().zip(out) {
        let mut one = abi::duckbpf_hash_ctx { lo: *key, type_: abi::DUCKBPF_TYPE_INT64, len: 8, ..Default::default() };
        assert_eq!(pin.call(&mut one), hash, "the loop and the single call agree");
    }
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}
