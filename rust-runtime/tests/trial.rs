//! Programs that run on contexts of the tests' own, without a database.

mod common;

use common::{gallery, program};
use duckbpf_runtime::{Hook, Parameter, Problem, Trial, inspect};

fn fields(set: &[(&str, i128)]) -> Vec<(String, Parameter)> {
    set.iter().map(|(name, value)| ((*name).to_owned(), Parameter::Int(*value))).collect()
}

#[test]
fn a_program_decides_on_a_context_that_is_made_up() {
    let trial = Trial::load(&gallery("unpin_drop_scanned", "v4"), &[]).unwrap();
    let run = |set: &[(&str, i128)]| trial.run(None, &fields(set), 1).unwrap().result;
    assert_eq!(run(&[("readers", 1), ("persistent", 1)]), 1, "stays queued");
    assert_eq!(run(&[("persistent", 1)]), 3, "is unloaded");
    assert_eq!(run(&[("persistent", 1), ("hint", 3)]), 1, "is kept");
}

#[test]
fn calls_are_counted_and_maps_keep_what_they_did() {
    let trial = Trial::load(&gallery("count_calls", "v4"), &[]).unwrap();
    let outcome = trial.run(Some(Hook::Load), &[], 1000).unwrap();
    assert_eq!((outcome.repeat, outcome.result, outcome.symbol.as_str()), (1000, 0, "count_load"));
    assert!(outcome.total_ns > 0);
    let maps = trial.maps();
    let calls = maps.iter().find(|map| map.info().name == "calls").unwrap();
    assert_eq!(calls.entries().unwrap()[Hook::Load as usize].values[0], 1000u64.to_le_bytes());
}

#[test]
fn entries_that_a_program_takes_out_become_free_between_calls() {
    let path = program(
        "in_and_out",
        "LICENSE(\"MIT\");
        struct {
            __uint(type, BPF_MAP_TYPE_HASH);
            __uint(max_entries, 4);
            __type(key, __u64);
            __type(value, __u64);
        } held SEC(\".maps\");
        SEC(\"duckdb/load\")
        __u64 in_and_out(struct duckbpf_load_ctx *ctx)
        {
            __u64 key = ctx->size, failed = 0;
            if (bpf_map_update_elem(&held, &key, &key, BPF_NOEXIST))
                failed = 1;
            if (bpf_map_delete_elem(&held, &key))
                failed = 2;
            return failed;
        }",
    );
    let trial = Trial::load(&path, &[]).unwrap();
    for round in 0..50 {
        let context = fields(&[("size", round)]);
        // Until the thread that frees them comes by, all entries may be out.
        let outcome = (0..10_000).map(|_| trial.run(None, &context, 1).unwrap()).find(|outcome| outcome.result == 0);
        assert!(outcome.is_some());
    }
}

#[test]
fn what_cannot_be_run_is_named() {
    let trial = Trial::load(&gallery("count_calls", "v4"), &[]).unwrap();
    let several = trial.run(None, &[], 1).unwrap_err();
    assert!(matches!(several.problem(), Problem::WhichProgram { has, .. } if has.contains("unpin")), "{several}");
    let missing = trial.run(Some(Hook::Hash), &[], 1).unwrap_err();
    assert!(matches!(missing.problem(), Problem::NoProgramFor { .. }), "{missing}");
    let unknown = trial.run(Some(Hook::Load), &fields(&[("sise", 7)]), 1).unwrap_err();
    assert!(matches!(unknown.problem(), Problem::Context { .. }), "{unknown}");
    assert!(Trial::load("missing.bpf.o".as_ref(), &[]).is_err());
}

#[test]
fn declarations_are_told_without_a_check() {
    let declared = inspect(&gallery("trace_load", "v4")).unwrap();
    assert_eq!(declared.license.as_deref(), Some("MIT"));
    assert_eq!(declared.programs.len(), 1);
    assert_eq!((declared.programs[0].symbol.as_str(), declared.programs[0].hook), ("trace", Hook::Load));
    assert_eq!(declared.maps.len(), 1);
    let sample = declared.variables.iter().find(|variable| variable.name == "sample").unwrap();
    assert_eq!((sample.section.as_str(), sample.writable), (".rodata", false));
    assert_eq!(sample.initial, 1u32.to_le_bytes());
}
