//! Builds of a DuckDB of three files, which take a second: what is left behind by a kill, a full disk or anything else is told by
//! [`Engine::find`] and mended by building again.

use super::*;
use crate::sources;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;

const TREE: &[(&str, &str)] = &[
    (
        "duckdb/manifest.json",
        r#"{"base": {"cpp_files": ["duckdb/ub.cpp", "duckdb/c.cpp"], "include_dirs": ["src/include"]}, "extensions": {}}"#,
    ),
    ("duckdb/ub.cpp", "#include \"src/a.cpp\"\n#include \"src/b.cpp\"\n"),
    ("duckdb/src/a.cpp", "#include \"duckdb.h\"\nint a() { return 1; }\n"),
    ("duckdb/src/b.cpp", "#include \"duckdb.h\"\nint b() { return a() + 1; }\n"),
    ("duckdb/src/include/duckdb.h", "int a();\n"),
    ("duckdb/c.cpp", "int c() { return 3; }\n"),
];
const PATCH: &str = "diff --git a/duckdb/src/a.cpp b/duckdb/src/a.cpp\n--- a/duckdb/src/a.cpp\n+++ b/duckdb/src/a.cpp\n\
                     @@ -1,2 +1,3 @@\n #include \"duckdb.h\"\n-int a() { return 1; }\n+int hook();\n+int a() { return hook(); }\n";
const SHIM: &str = "int hook() { return 2; }\nextern \"C\" int duckdb_hookpoints_v1() { return hook(); }\n";
/// Compilations and links of one build from nothing.
const STEPS: usize = 7;

fn tiny(name: &str) -> Layout {
    let root = crate::scratch(&format!("building-{name}"));
    write(&root.join("duckdb-patch/patches/series"), b"0001.patch\n").unwrap();
    write(&root.join("duckdb-patch/patches/0001.patch"), PATCH.as_bytes()).unwrap();
    write(&root.join("duckdb-patch/units.txt"), b"").unwrap();
    write(&root.join("hook-shim/hook.cpp"), SHIM.as_bytes()).unwrap();
    let layout = Layout::new(&root);
    unpack(&layout);
    layout
}

/// What unpacking DuckDB's archive leaves.
fn unpack(layout: &Layout) {
    for tree in ["pristine", "hooked"].map(|name| layout.work.join(name)) {
        for (path, text) in TREE {
            write(&tree.join(path), text.as_bytes()).unwrap();
        }
        sources::mark_as_complete(&tree).unwrap();
    }
}

fn find(layout: &Layout) -> Result<Engine> {
    Engine::find(layout, Toolchain::Clang)
}

/// Builds, and says what the libraries are.
fn built(layout: &Layout) -> [String; 2] {
    build(layout, Toolchain::Clang, None).unwrap();
    let manifest = find(layout).unwrap().manifest;
    [manifest.stock.sha256, manifest.hooked.sha256]
}

/// A test of this file that is ignored by itself, in a process of its own.
fn child(test: &str, layout: &Layout, prepare: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    prepare(&mut command);
    let name = format!("engine::tests::building::{test}");
    command.args(["--exact", &name, "--ignored", "--nocapture"]).env("DUCKBPF_CHECKOUT", &layout.root);
    command.output().unwrap()
}

fn childs_layout() -> Option<Layout> {
    std::env::var_os("DUCKBPF_CHECKOUT").map(|root| Layout::new(Path::new(&root)))
}

#[test]
fn what_is_up_to_date_is_not_built_again() {
    let layout = tiny("again");
    let first = built(&layout);
    let manifest = find(&layout).unwrap().manifest;
    assert_eq!(manifest.shared_objects, 2);
    assert_eq!(manifest.different_objects, ["hooked/duckdb-src-a", "engine/hook-shim-hook"]);
    let linked = || find(&layout).unwrap().library(Kind::Hooked).metadata().unwrap().modified().unwrap();
    let before = linked();
    assert_eq!(built(&layout), first);
    assert_eq!(linked(), before);
}

#[test]
fn damage_is_told_and_mended_by_building_again() {
    let layout = tiny("damage");
    let whole = built(&layout);
    let manifest = layout.engine.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let library = layout.engine.join("hooked/lib/libduckdb.so");
    let half = |path: &Path| {
        let bytes = read(path).unwrap();
        write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    let damages: [(&str, &dyn Fn()); 6] = [
        ("is missing", &|| std::fs::remove_file(&manifest).unwrap()),
        ("is damaged", &|| half(&manifest)),
        ("of DuckDB v2.0.9", &|| write(&manifest, text.replace(DUCKDB, "v2.0.9").as_bytes()).unwrap()),
        ("not what its manifest describes", &|| half(&library)),
        ("reading", &|| std::fs::remove_file(&library).unwrap()),
        ("is missing", &|| {
            std::fs::remove_file(&manifest).unwrap();
            half(&layout.work.join("objects/shared/duckdb-c.o"));
            half(&layout.work.join("objects/hooked/duckdb-src-a.json"));
            half(&layout.work.join("hooked/duckdb/src/a.cpp"));
            std::fs::remove_file(layout.work.join("unity/ub.cpp")).unwrap();
        }),
    ];
    for (told, damage) in damages {
        damage();
        let error = refusal(&layout);
        assert!(error.contains(told), "{told}: {error}");
        assert_eq!(built(&layout), whole, "after: {told}");
    }
}

/// A compiler in the folder, ahead of others on PATH: a script that ends in the real one. And no ccache.
fn compiler(folder: &Path, script: &str) {
    let tool = |name: &str, text: String| {
        write(&folder.join(name), text.as_bytes()).unwrap();
        std::fs::set_permissions(folder.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    };
    let name = Toolchain::Clang.program();
    let path = std::env::var("PATH").unwrap();
    tool(name, format!("#!/bin/sh\n{script}\nPATH='{path}' exec {name} \"$@\"\n"));
    tool("ccache", "#!/bin/sh\nexit 1\n".to_owned());
}

fn with_compiler(command: &mut Command, folder: &Path) {
    let rest = std::env::var_os("PATH").unwrap();
    let all = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&rest));
    command.env("PATH", std::env::join_paths(all).unwrap());
}

#[test]
#[ignore = "the other tests run it"]
fn child_build() {
    let Some(layout) = childs_layout() else { return };
    if let Err(error) = build(&layout, Toolchain::Clang, None) {
        panic!("{error:#}");
    }
}

#[test]
fn a_build_that_was_killed_goes_on() {
    let reference = built(&tiny("unkilled"));
    let layout = tiny("killed");
    let tools = layout.root.join("tools");
    for step in 1..=STEPS {
        let _ = std::fs::remove_dir_all(layout.root.join("target"));
        unpack(&layout);
        // The n-th call of the compiler (its version apart) leaves half a file and takes its caller with it.
        let count = tools.join("count");
        let _ = std::fs::remove_file(&count);
        let script = format!(
            "[ \"$1\" = --version ] || echo >> {count}\nif [ \"$(wc -l 2>/dev/null < {count} || echo 0)\" -ge {step} ]; then\n\
             for output; do :; done\necho half > \"$output\"\nkill -KILL $PPID\nexit 1\nfi",
            count = count.display(),
        );
        compiler(&tools, &script);
        let ended = child("child_build", &layout, |command| with_compiler(command, &tools));
        assert_eq!(ended.status.signal(), Some(9), "step {step}: {ended:?}");
        assert!(refusal(&layout).contains("interrupted"));
        assert_eq!(built(&layout), reference, "killed at step {step}");
    }
}

#[test]
fn another_compiler_builds_all_anew() {
    let layout = tiny("compiler");
    let (whole, tools) = (built(&layout), layout.root.join("tools"));
    let calls = tools.join("calls");
    let script = format!("if [ \"$1\" = --version ]; then echo another clang; exit; fi\necho >> {}", calls.display());
    compiler(&tools, &script);
    let ended = child("child_build", &layout, |command| with_compiler(command, &tools));
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(std::fs::read_to_string(&calls).unwrap().lines().count(), STEPS);
    assert_eq!(find(&layout).unwrap().manifest.compiler, "another clang");
    assert_eq!(built(&layout), whole);
}

#[test]
fn a_full_disk_is_told_and_room_is_all_it_takes() {
    let layout = tiny("full");
    let mut ended = child("child_on_a_small_disk", &layout, |command| {
        // As root of a user namespace, where that is allowed.
        *command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount"]).arg(std::env::current_exe().unwrap());
    });
    if !ended.status.success() && !String::from_utf8_lossy(&ended.stdout).contains("on a small disk") {
        ended = child("child_on_a_small_disk", &layout, |command| {
            *command = Command::new("unshare");
            command.arg("--mount").arg(std::env::current_exe().unwrap());
        });
        if !String::from_utf8_lossy(&ended.stdout).contains("on a small disk") {
            eprintln!("SKIPPED: a full disk is NOT tested, this machine mounts nothing for us: {ended:?}");
            return;
        }
    }
    assert!(ended.status.success(), "{ended:?}");
}

#[test]
#[ignore = "a_full_disk_is_told_and_room_is_all_it_takes runs it, where it may mount"]
fn child_on_a_small_disk() {
    let Some(layout) = childs_layout() else { return };
    let target = layout.root.join("target");
    let mount = |options: String| {
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(&target).status().unwrap();
        assert!(status.success());
    };
    let kibibytes = |number: usize| format!("size={}k", 112 + 12 * number);
    mount(kibibytes(0));
    println!("on a small disk");
    unpack(&layout);
    let mut failures = 0;
    while let Err(error) = build(&layout, Toolchain::Clang, None) {
        let error = format!("{error:#}");
        assert!(error.contains("No space left on device"), "{error}");
        assert!(find(&layout).is_err());
        failures += 1;
        assert!(failures < 100, "{error}");
        mount(format!("remount,{}", kibibytes(failures)));
    }
    assert!(failures > 2, "the disk was large enough after {failures} failures");
    find(&layout).unwrap();
}
