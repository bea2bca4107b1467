//! Makes hosts.json a table of Rust, so that what is loaded into DuckDB reads no JSON.

use std::fmt::Write as _;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=hosts.json");
    let text = std::fs::read_to_string("hosts.json").expect("graft/hosts.json can be read");
    let table: serde_json::Value = serde_json::from_str(&text).expect("graft/hosts.json is JSON");
    let mut builds = String::from("&[\n");
    for host in table["hosts"].as_array().expect("graft/hosts.json lists hosts") {
        let field = |name: &str| host[name].as_str().unwrap_or_else(|| panic!("graft/hosts.json: {name} is missing"));
        writeln!(
            builds,
            "    KnownBuild {{ build_id: {:?}, version: {:?}, source_id: {:?}, wheel: {:?} }},",
            field("build_id"),
            field("version"),
            field("source_id"),
            field("wheel"),
        )
        .expect("a string can be written to");
    }
    builds.push_str("]\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("hosts.rs");
    std::fs::write(&out, builds).expect("OUT_DIR can be written");
}
