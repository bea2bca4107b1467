//! What is said of a refused program, word for word: once for each error id, and of C with its source lines.
//! `cargo insta review`, or `INSTA_UPDATE=always cargo test`, takes over what changed, to be read before it is committed.

mod common;

use std::{collections::BTreeMap, path::PathBuf};

use common::folder;
use duckbpf_runtime::{
    Profile, judge,
    testing::{asm::assemble, corpus},
};

/// The first case of the corpus for each id.
#[test]
fn one_message_for_each_error() {
    let mut told = BTreeMap::new();
    for case in corpus::cases() {
        let Some(id) = case.rejection.filter(|id| !told.contains_key(id)) else { continue };
        let rejection = corpus::rejection(&assemble(&case.text).expect("the corpus assembles")).expect("it is refused");
        told.insert(id, format!("{}\n\n{}\n\n{rejection:#}", case.name, case.text));
    }
    for (id, message) in told {
        insta::assert_snapshot!(id, message);
    }
}

const SOURCE: &str = r#"
#include "duckbpf.h"
LICENSE("MIT");

struct entry {
	__u64 hits;
	__u8 name[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u64);
	__type(value, struct entry);
} entries SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("?duckdb/load")
__u64 no_null_check(struct duckbpf_load_ctx *ctx)
{
	__u64 key = ctx->file_id;
	struct entry *entry = bpf_map_lookup_elem(&entries, &key);
	return entry->hits;
}

SEC("?duckdb/load")
__u64 one_too_far(struct duckbpf_load_ctx *ctx)
{
	__u64 key = ctx->file_id;
	__u32 at = ctx->tag;
	struct entry *entry = bpf_map_lookup_elem(&entries, &key);
	if (!entry)
		return 0;
	if (at > 16)
		at = 16;
	return entry->name[at];
}

SEC("?duckdb/load")
__u64 lost_record(struct duckbpf_load_ctx *ctx)
{
	__u64 *record = bpf_ringbuf_reserve(&events, 8, 0);
	if (!record)
		return 0;
	*record = ctx->size;
	if (ctx->hit)
		return 0;
	bpf_ringbuf_submit(record, 0);
	return 0;
}

static __noinline __u64 of_entry(struct entry *entry, __u64 at)
{
	return entry->name[at];
}

SEC("?duckdb/load")
__u64 in_a_function(struct duckbpf_load_ctx *ctx)
{
	__u64 key = ctx->file_id;
	struct entry *entry = bpf_map_lookup_elem(&entries, &key);
	return entry ? of_entry(entry, ctx->size & 31) : 0;
}

SEC("?duckdb/load")
__u64 too_long(struct duckbpf_load_ctx *ctx)
{
	__u64 sum = 0;
	for (__u32 i = 0; i < 100; i++)
		for (__u32 k = 0; k < 100; k++)
			sum += (sum << 3) ^ (i * k + ctx->size);
	return sum;
}
"#;

/// A program's source and its object.
fn compiled(name: &str, text: &str) -> (PathBuf, PathBuf) {
    let [source, object] = ["c", "o"].map(|ending| folder().join(format!("{name}.bpf.{ending}")));
    std::fs::write(&source, text).expect("the folder is ours");
    common::compile(&source, &object, "v4");
    (source, object)
}

#[test]
fn messages_tell_of_the_source() {
    let (source, object) = compiled("told", SOURCE);
    for verdict in judge(&object, Profile::Hooks, false).expect("clang's objects are read") {
        let rejection = verdict.result.expect_err("each is refused");
        let message = rejection.to_string().replace(&source.display().to_string(), "told.bpf.c");
        insta::assert_snapshot!(format!("source of {}", verdict.function), message);
    }
}

const ACCEPTED: &str = r#"
#include "duckbpf.h"
LICENSE("MIT");

SEC("duckdb/load")
__u64 half(struct duckbpf_load_ctx *ctx)
{
	return ctx->size / 2;
}
"#;

/// What is said of an accepted program, by either profile, and the log if it is asked for.
#[test]
fn verdicts_tell_what_was_asked() {
    let (_, object) = compiled("half", ACCEPTED);
    for (profile, log) in [(Profile::Hooks, false), (Profile::Hooks, true), (Profile::Generic, false)] {
        let mut verdicts = judge(&object, profile, log).expect("clang's objects are read");
        let verdict = verdicts.pop().expect("it has a program");
        assert!(verdicts.is_empty());
        let accepted = verdict.result.unwrap_or_else(|rejection| panic!("{rejection}"));
        let cost = accepted.worst_cost;
        assert_eq!(cost, (profile == Profile::Hooks).then_some(verdict.visited), "one way, each instruction once");
        assert_eq!((verdict.function.as_str(), accepted.slots as u64), ("half", verdict.visited));
        let has_all = |log: String| log.contains("half+0: ") && log.lines().count() as u64 == 2 * verdict.visited;
        assert_eq!(verdict.log.map(has_all), log.then_some(true));
    }
}
