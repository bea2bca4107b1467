//! Listings of gallery programs, compared with tests/golden/. `DUCKBPF_BLESS=1` writes those anew, for a look at what changed.

mod common;

use std::path::Path;

use common::{gallery, program};
use duckbpf_runtime::disassemble;

/// With the sources' paths as they are in every checkout.
fn list(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    disassemble(&gallery(name, "v4")).unwrap().replace(&format!("{}/", root.display()), "")
}

#[test]
fn listings_are_as_they_were() {
    for name in ["default_load", "default_unpin", "observe_counts"] {
        let listing = list(name);
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"));
        if std::env::var_os("DUCKBPF_BLESS").is_some() {
            std::fs::write(&golden, &listing).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        for (line, (now, then)) in listing.lines().zip(expected.lines()).enumerate() {
            assert_eq!(now, then, "{name}, line {}", line + 1);
        }
        assert_eq!(listing.lines().count(), expected.lines().count(), "{name}");
    }
}

#[test]
fn every_instruction_is_listed_beside_its_code() {
    let listing = disassemble(&gallery("default_hash", "v4")).unwrap();
    assert!(listing.starts_with("default_hash: duckdb/hash, "), "{listing}");
    assert!(listing.contains("the loops over keys:"), "{listing}");
    assert!(listing.contains("program.bpf.c:"), "lines of source: {listing}");
    assert!(!listing.contains("(bad)"), "{listing}");
}

#[test]
fn helpers_and_variables_have_names() {
    let body = "__u64 calls; SEC(\"duckdb/load\") __u64 named(struct duckbpf_load_ctx *ctx) \
                { __sync_fetch_and_add(&calls, 1); return bpf_ktime_get_ns() + ctx->size; }";
    let listing = disassemble(&program("named", body)).unwrap();
    for name in [".bss", "bpf_ktime_get_ns", "env"] {
        assert!(listing.contains(name), "{name}: {listing}");
    }
}

#[test]
fn what_cannot_be_listed_says_why() {
    let refused =
        program("refused", "SEC(\"duckdb/load\") __u64 refused(struct duckbpf_load_ctx *ctx) { return (__u64)ctx; }");
    let error = disassemble(&refused).unwrap_err().to_string();
    assert!(error.contains("refused.bpf.o"), "{error}");
    assert!(disassemble(Path::new("missing.o")).unwrap_err().to_string().contains("missing.o"));
}
