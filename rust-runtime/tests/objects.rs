//! Bad input: each is refused with the file, the place and the reason; nothing crashes, nothing hangs.

mod common;

use std::{
    ffi::CString,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use common::{folder, gallery, program};
use duckbpf_runtime::testing::MockHost;
use proptest::prelude::*;

/// The error for a path, in one line.
fn refusal(path: &Path) -> String {
    let host = MockHost::lock();
    let start = Instant::now();
    let error = match host.runtime.replace(&[path.to_owned()]) {
        Ok(_) => panic!("{} was accepted", path.display()),
        Err(error) => error.to_string(),
    };
    assert!(start.elapsed() < Duration::from_secs(5), "a refusal takes no time");
    assert!(error.contains(&path.display().to_string()), "the file is named: {error}");
    assert!(error.ends_with("Nothing was changed; attached as before: no program."), "{error}");
    error
}

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// The refusal of a program in C.
fn refused(name: &str, body: &str) -> String {
    refusal(&program(name, body))
}

/// The refusal of C that does not include the author's header, for another target.
fn refused_raw(name: &str, target: &str, body: &str) -> String {
    let (source, object) = (folder().join(format!("{name}.c")), folder().join(format!("{name}.o")));
    fs::write(&source, body).unwrap();
    let compiled = Command::new("clang-19")
        .args(["-target", target, "-O2", "-g", "-c"])
        .arg(&source)
        .arg("-o")
        .arg(&object)
        .status()
        .unwrap();
    assert!(compiled.success());
    refusal(&object)
}

macro_rules! assert_says {
    ($refusal:expr, $($words:expr),+) => {{
        let refusal: String = $refusal;
        $(assert!(refusal.contains($words), "{:?} is missing in: {refusal}", $words);)+
    }};
}

#[test]
fn files_that_are_none() {
    assert_says!(refusal(&folder().join("nothing.bpf.o")), "does not exist");
    assert_says!(refusal(folder()), "is a directory");
    assert_says!(refusal(Path::new("/dev/null")), "is a device");
    assert_says!(refusal(&file("empty.bpf.o", b"")), "is empty");
    assert_says!(refusal(&file("text.bpf.o", b"SELECT 42;\n")), "no ELF object (it is text)", "duckbpf compile");
    assert_says!(refusal(&file("noise.bpf.o", &[0xa5; 4096])), "no ELF object");
    assert_says!(refusal(&file("short.bpf.o", b"\x7fELF")), "cut off");
    let fifo = folder().join("fifo.bpf.o");
    let path = CString::new(fifo.as_os_str().as_bytes()).unwrap();
    // SAFETY: a valid path.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    assert_says!(refusal(&fifo), "is a fifo");
    let sparse = folder().join("sparse.bpf.o");
    fs::File::create(&sparse).unwrap().set_len(2 << 30).unwrap();
    assert_says!(refusal(&sparse), "2147483648 bytes", "at most");
}

#[test]
fn objects_for_others() {
    let c = "int f(void) { return 0; }";
    assert_says!(refused_raw("x86", "x86_64-linux-gnu", c), "another machine (x86-64)");
    assert_says!(refused_raw("arm", "aarch64-linux-gnu", c), "another machine (AArch64)");
    assert_says!(refused_raw("big", "bpfeb", c), "big-endian");
    assert_says!(refused_raw("no_programs", "bpf", c), "holds no program", "SEC(\"duckdb/<hook>\")", "schedule_task");
    let stale = "__attribute__((section(\".duckbpf.abi\"), used)) static const unsigned v = 77;\n\
                 __attribute__((section(\"duckdb/load\"))) int f(void *c) { return 0; }";
    assert_says!(refused_raw("stale", "bpf", stale), "version 77", "compile it again");
    let no_version = "__attribute__((section(\"duckdb/load\"))) int f(void *c) { return 0; }";
    assert_says!(refused_raw("no_version", "bpf", no_version), "does not record the version", "duckbpf.h");
    let whole = Path::new("/proc/self/exe").read_link().unwrap();
    let linked = fs::read(whole).unwrap();
    assert_says!(refusal(&file("linked.bpf.o", &linked[..4096])), "another machine");
}

#[test]
fn sections_and_programs() {
    let f = |section: &str, name: &str| format!("SEC(\"{section}\") __u64 {name}(void *c) {{ (void)c; return 0; }}\n");
    assert_says!(refused("hook", &f("duckdb/unpinn", "f")), "section duckdb/unpinn", "hooks are", "unpin");
    assert_says!(refused("kernel", &f("xdp", "f")), "section xdp", "SEC(\"duckdb/<hook>\")");
    let two = f("duckdb/load", "one") + &f("duckdb/load", "other");
    assert_says!(
        refused("two", &two),
        "section duckdb/load",
        "other",
        "second program for the hook load",
        "one is the first"
    );
    for (declaration, what) in [
        ("int m", "a map is declared by a struct"),
        ("struct { int (*type)[4]; } m", "map type 4 is not supported"),
        ("struct { int (*type)[1]; int (*max_entries)[1]; } m", "a map of type hash has from 1 to 512 bytes, not 0"),
        ("struct { int (*type)[2]; int (*key_size)[4]; int (*value_size)[8]; } m", "max_entries must not be 0"),
        ("struct { int (*type)[2]; int (*wrong)[4]; } m", "the unknown member wrong"),
        ("struct { int (*type)[2]; int max_entries; } m", "use __uint(max_entries, n)"),
        ("struct { int (*max_entries)[2]; } m", "it has no type"),
        ("struct { int (*type)[27]; int (*max_entries)[5000]; } m", "a power of two"),
        ("struct { int (*type)[12]; int (*max_entries)[2]; } m", "what its maps are"),
        (
            "struct { int (*type)[1]; int (*max_entries)[2]; int (*key_size)[4]; int (*value_size)[4]; int (*map_flags)[4]; } m",
            "map_flags BPF_F_NUMA_NODE are not supported for a map of type hash; it may have BPF_F_NO_PREALLOC, BPF_F_RDONLY_PROG",
        ),
        (
            "struct { int (*type)[9]; int (*max_entries)[2]; int (*key_size)[4]; int (*value_size)[4]; int (*map_flags)[1]; } m",
            "map_flags BPF_F_NO_PREALLOC are not supported for a map of type lru_hash",
        ),
        (
            "struct { int (*type)[2]; int (*max_entries)[2]; int (*key_size)[4]; int (*value_size)[4]; int (*map_flags)[384]; } m",
            "leave its programs nothing",
        ),
    ] {
        let map = format!("{declaration} SEC(\".maps\");\n") + &f("duckdb/load", "f");
        assert_says!(refused("map", &map), "section .maps", "the map m cannot be", what);
    }
    let huge = "char huge[1ull << 40];\n".to_owned() + &f("duckdb/load", "f");
    assert_says!(refused("huge", &huge), "section .bss", "16777216 bytes");
    let pointer = "static int x; int *const volatile p = &x;\n".to_owned() + &f("duckdb/load", "f");
    assert_says!(refused("pointer", &pointer), "pointers in global variables");
    let bad_constant = "const volatile __u32 hash_types = 1;\n".to_owned() + &f("duckdb/hash", "f");
    assert_says!(refused("bad_constant", &bad_constant), "hash_types", "constant of 8 bytes");
}

#[test]
fn symbols_and_calls() {
    let unknown = "extern __u64 nowhere;\nSEC(\"duckdb/load\") __u64 f(void *c) { (void)c; return nowhere; }";
    assert_says!(
        refused("unknown", unknown),
        "section duckdb/load",
        "f: instruction 0",
        "unknown symbol nowhere",
        "unknown.bpf.c:3"
    );
    let call = "extern __u64 nowhere(void);\nSEC(\"duckdb/load\") __u64 f(void *c) { (void)c; return nowhere(); }";
    assert_says!(refused("unknown_call", call), "unknown symbol nowhere");
    let address = "static __noinline __u64 g(void) { return 1; }\n\
                   SEC(\"duckdb/load\") __u64 f(void *c) { __u64 a = (__u64)&g; (void)c; return a; }";
    assert_says!(refused("address", address), "program f (hook load) is refused");
    let helper = "SEC(\"duckdb/load\") __u64 f(void *c) { (void)c; return ((__u64 (*)(void))(void *)4711)(); }";
    assert_says!(
        refused("helper", helper),
        "there is no helper 4711",
        "f(), instruction 0: call 0x1267",
        "helper.bpf.c:2"
    );
    let forbidden = "SEC(\"duckdb/hash\") __u64 f(void *c) { (void)c; return bpf_ktime_get_ns(); }";
    assert_says!(refused("forbidden", forbidden), "ktime_get_ns may not be called from this hook");
}

#[test]
fn programs_that_do_not_end() {
    let no_exit = "SEC(\"duckdb/load\") __attribute__((naked)) __u64 f(void *c) { asm volatile(\"r0 = 0\"); }";
    let (source, object) = (folder().join("no_exit.c"), folder().join("no_exit.bpf.o"));
    fs::write(
        &source,
        format!("#include \"duckbpf.h\"\n{}", no_exit.replace("void *c", "void *c __attribute__((unused))")),
    )
    .unwrap();
    common::compile(&source, &object, "v4");
    assert_says!(refusal(&object), "can end without exit", "instruction 0");
    let endless = "SEC(\"duckdb/load\") __u64 f(struct duckbpf_load_ctx *c) { __u64 s = c->size, n = 0;\n\
                   while (s) { s = s * 3 + 1; n += s; asm volatile(\"\"); }\nreturn n; }";
    assert_says!(refused("endless", endless), "never ends", "[infinite-loop]", "endless.bpf.c:");
    // Each round leaves three sevenths: it does end.
    let shrinking = "SEC(\"duckdb/load\") __u64 f(struct duckbpf_load_ctx *c) { __u64 s = c->size, n = 0;\n\
                     while (s) { s = s * 3 / 7; n += s; asm volatile(\"\"); }\nreturn n; }";
    let host = MockHost::lock();
    host.runtime.verify(&program("shrinking", shrinking)).unwrap();
}

#[test]
fn every_truncation_is_an_error_or_a_whole_object() {
    let host = MockHost::lock();
    let bytes = fs::read(gallery("observe_counts", "v4")).unwrap();
    let mut accepted = 0;
    for len in (0..bytes.len()).step_by(7) {
        let path = file("truncated.bpf.o", &bytes[..len]);
        accepted += usize::from(host.runtime.verify(&path).is_ok());
    }
    assert_eq!(accepted, 0, "the section headers stand at the end");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("DUCKBPF_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1500),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Damaged objects end in an error or in a program that passed the checks; never in a panic.
    #[test]
    fn damaged_objects_never_panic(
        index in 0..common::GALLERY.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..12),
    ) {
        let mut bytes = fs::read(gallery(common::GALLERY[index], "v4")).unwrap();
        for (at, value, kind) in damage {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = value,
                1 => bytes[at] ^= 1 << (value % 8),
                2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][usize::from(value) % 5],
                _ => {
                    // Whole fields: sizes and offsets.
                    let at = at & !7;
                    let end = bytes.len().min(at + 8);
                    bytes[at..end].fill(value);
                }
            }
        }
        let host = MockHost::lock();
        let _ = host.runtime.verify(&file("damaged.bpf.o", &bytes));
    }

    #[test]
    fn noise_behind_a_header_never_panics(noise in prop::collection::vec(any::<u8>(), 64..2048)) {
        let mut bytes = fs::read(gallery("default_load", "v4")).unwrap()[..64].to_vec();
        bytes.extend(noise);
        let host = MockHost::lock();
        prop_assert!(host.runtime.verify(&file("noise_behind.bpf.o", &bytes)).is_err());
    }
}
