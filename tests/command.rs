//! The `duckbpf` command as a process: what it prints, and how it ends. What needs a live database is in tests/e2e/test_command.py.

use std::path::Path;
use std::process::{Command, Output};

fn duckbpf(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_duckbpf"));
    command.current_dir(folder).env_remove("DUCKBPF_SOCKET").args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What it printed; it must have succeeded.
fn works(folder: &Path, arguments: &[&str]) -> String {
    let output = duckbpf(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What it said; it must have ended with this code.
fn fails(folder: &Path, code: i32, arguments: &[&str]) -> String {
    let output = duckbpf(folder, arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
    said(&output)
}

#[test]
fn a_policy_goes_from_nothing_to_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    works(folder, &["new", "mine", "--hook", "unpin"]);
    let source = folder.join("mine/mine.bpf.c");
    let text = std::fs::read_to_string(&source).unwrap();
    assert!(text.contains("ctx->readers (__s32)"), "{text}");
    std::fs::write(&source, text.replace("\treturn 0;", "\treturn ctx->readers ? 0 : DUCKBPF_UNPIN_UNLOAD;")).unwrap();
    assert_eq!(works(folder, &["compile", "mine/mine.bpf.c"]), "mine/mine.bpf.o\n");
    assert!(works(folder, &["verify", "mine/mine.bpf.o"]).contains("accepted"));
    let run = |context: &str| {
        let line =
            works(folder, &["prog", "run", "mine/mine.bpf.o", "--context", context, "--repeat", "500", "--json"]);
        serde_json::from_str::<serde_json::Value>(&line).unwrap()
    };
    let ran = run("{\"readers\": 0}");
    assert_eq!((&ran["result"], &ran["repeat"], &ran["hook"]), (&3.into(), &500.into(), &"unpin".into()));
    assert!(ran["total_ns"].as_u64().unwrap() > 0);
    assert_eq!(run("{\"readers\": -1}")["result"], 0);
    assert!(fails(folder, 2, &["new", "mine"]).contains("exists"));
}

#[test]
fn mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("wrong.bpf.c"), "int wrong(").unwrap();
    let error = fails(folder, 2, &["compile", "wrong.bpf.c"]);
    assert!(error.contains("wrong.bpf.c does not compile") && error.contains("error:"), "{error}");
    assert!(fails(folder, 2, &["prog", "list"]).contains("SET hook_socket"));
    let said = "duckbpf: wrong.bpf.c: is no ELF object (it is text); C becomes one by: duckbpf compile\n";
    assert_eq!(fails(folder, 2, &["disasm", "wrong.bpf.c"]), said, "each cause once");
    assert!(fails(folder, 2, &["prog", "dump", "nowhere.bpf.o"]).contains("nowhere.bpf.o: does not exist"));
    assert!(
        fails(folder, 2, &["prog", "dump", "nobody"]).contains("nobody is no file that exists here: which database?")
    );
    assert!(fails(folder, 2, &["prog", "list", "--socket", "/nonexistent"]).contains("cannot reach a database"));
    assert!(fails(folder, 2, &["trace", "-e", "hook:nothing { @ = count(); }"]).contains("there is no hook nothing"));
    let comm = fails(folder, 2, &["trace", "-e", "hook:load { @[comm] = count(); }"]);
    assert!(comm.contains("comm is not known (all threads are DuckDB's") && comm.contains("pid"), "{comm}");
    assert!(fails(folder, 2, &["gen", "skeleton", "missing.bpf.o"]).contains("missing.bpf.o: does not exist"));
    works(folder, &["new", "fine"]);
    let object = "fine/fine.bpf.o";
    assert!(fails(folder, 2, &["prog", "run", object, "--context", "{\"sise\": 1}"]).contains("no field 'sise'"));
    assert!(fails(folder, 2, &["prog", "run", object, "--context", "7"]).contains("no JSON object"));
    assert!(fails(folder, 2, &["prog", "run", object, "--param", "x=1"]).contains("parameter x cannot be set"));
    assert!(fails(folder, 2, &["prog", "run", object, "--hook", "load"]).contains("no program for load"));
    assert!(fails(folder, 2, &["prog", "run", object, "--repeat", "0"]).contains("0"));
}

#[test]
fn traces_are_listed_and_shown_without_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let listed = works(folder.path(), &["trace", "-l"]);
    assert!(listed.lines().any(|line| line == "hook:unpin"), "{listed}");
    assert!(!listed.contains("hook:hash"), "{listed}");
    assert!(works(folder.path(), &["trace", "-lv", "unpin"]).contains("s32 args.readers"));
    let source = works(folder.path(), &["trace", "--source", "-e", "hook:unpin { @[args.tag] = count(); }"]);
    assert!(source.contains("SEC(\"duckdb/unpin\")"), "{source}");
}

#[test]
fn doctor_speaks_json() {
    let folder = tempfile::tempdir().unwrap();
    let output = duckbpf(folder.path(), &["doctor", "--json"]);
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let state = |what: &str| {
        let found = findings.as_array().unwrap().iter().find(|finding| finding["what"] == what);
        found.unwrap_or_else(|| panic!("{what}: {findings}"))["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state("machine code"), "ok");
    assert_eq!(state("processor"), "ok");
    for what in ["DuckDB", "kernel", "membarrier", "memfd", "bpf(2)", "perf map", "clang", "extension"] {
        state(what);
    }
}

/// A loop over four blocks of 100 bytes, three times, each let go of before the next.
fn a_trace(folder: &Path) {
    let mut text = "# duckbpf trace 1, memory limit 300\ntime_us,event,thread,query,file,block,size,used\n".to_owned();
    for turn in 0..12 {
        let block = turn % 4;
        text += &format!("{turn},miss,1,{turn},1,{block},100,0\n{turn},unpin,1,{turn},1,{block},100,0\n");
    }
    std::fs::write(folder.join("loop.trace"), text).unwrap();
}

#[test]
fn a_trace_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    a_trace(folder);
    works(folder, &["new", "spare", "--hook", "evict"]);
    let source = folder.join("spare/spare.bpf.c");
    let text = std::fs::read_to_string(&source).unwrap();
    let decision = "\treturn ctx->block_id < 2 ? DUCKBPF_EVICT_SKIP : DUCKBPF_EVICT_NOW;";
    std::fs::write(&source, text.replace("\treturn 0;", decision)).unwrap();
    works(folder, &["compile", "spare/spare.bpf.c"]);
    let arguments =
        ["replay", "spare/spare.bpf.o", "loop.trace", "--memory", "300B,1KB", "--csv", "loads.csv", "--json"];
    let said: serde_json::Value = serde_json::from_str(&works(folder, &arguments)).unwrap();
    let hits = |policy: &str| {
        let policies = said["policies"].as_array().unwrap();
        let results = &policies.iter().find(|row| row["policy"] == policy).unwrap()["results"];
        [0, 1].map(|limit: usize| results[limit]["hits"].as_u64().unwrap())
    };
    // The two blocks that are spared are there in both later turns; a kilobyte holds all four.
    assert_eq!(hits("spare"), [4, 8]);
    assert_eq!([hits("LRU"), hits("DuckDB"), hits("optimum")], [[0, 8], [0, 8], [6, 8]]);
    assert_eq!(said["recorded"]["hits"], 0);
    let loads = std::fs::read_to_string(folder.join("loads.csv")).unwrap();
    assert!(loads.starts_with("time,obj_id,obj_size\n0,1,100\n0,2,100\n") && loads.lines().count() == 13, "{loads}");
    assert!(works(folder, &["replay", "loop.trace"]).contains("optimum"));

    assert!(fails(folder, 2, &["replay", "spare/spare.bpf.c"]).contains("no trace"));
    assert!(fails(folder, 2, &["replay", "loop.trace", "--memory", "much"]).contains("no size"));
    works(folder, &["new", "other", "--hook", "run_task"]);
    works(folder, &["compile", "other/other.bpf.c"]);
    assert!(fails(folder, 2, &["replay", "other/other.bpf.o", "loop.trace"]).contains("nothing to replay"));
    assert!(fails(folder, 2, &["record"]).contains("SET hook_socket"));
}
