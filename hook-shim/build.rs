//! Makes the Rust view of include/duckbpf/abi.h. bindgen writes the layout of every struct as compile-time assertions.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=include/duckbpf/abi.h");
    println!("cargo::rerun-if-changed=include/duckbpf/hooks.h");
    let bindings = bindgen::Builder::default()
        .header("include/duckbpf/abi.h")
        .clang_arg("-Iinclude")
        .allowlist_item("(duckbpf|DUCKBPF|duckdb_hookpoints).*")
        .prepend_enum_name(false)
        .derive_default(true)
        .layout_tests(true)
        .generate_cstr(true)
        .generate();
    let bindings = match bindings {
        Ok(bindings) => bindings,
        Err(error) => {
            panic!("hook-shim/include/duckbpf/abi.h: {error}\nlibclang is needed: apt-get install libclang-19-dev")
        }
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("abi.rs");
    bindings.write_to_file(&out).expect("OUT_DIR is writable");
}
