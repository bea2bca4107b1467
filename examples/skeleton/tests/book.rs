//! What the book's chapter on Rust prints, compiled: every line of its Rust is here.

#![expect(dead_code, reason = "it is to be compiled; tests/skeleton.rs runs the like")]

use std::error::Error;

use duckbpf::Runtime;

fn maps(runtime: &Runtime) -> Result<(), Box<dyn Error>> {
    use duckbpf::maps::HashMap;
    use duckbpf::zerocopy::{FromBytes, Immutable, IntoBytes};

    #[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes)]
    #[repr(C)]
    #[zerocopy(crate = "duckbpf::zerocopy")]
    struct Kind {
        query_id: u64,
        tag: u32,
        log2_size: u32,
    }

    let sizes: HashMap<Kind, u64> = runtime.map("sizes")?.try_into()?;
    for (kind, count) in sizes.entries()? {
        println!("query {}: {count} blocks of 2^{} bytes", kind.query_id, kind.log2_size);
    }
    let quotas: HashMap<u32, u64> = HashMap::create(runtime, "quotas", 100)?;
    quotas.insert(&7, &1_000_000)?;
    runtime.unpin_map("quotas")?;
    Ok(())
}

fn build_script() -> Result<(), Box<dyn Error>> {
    // build.rs
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").unwrap());
    duckbpf::skeleton::build("src/trace_load.bpf.c".as_ref(), &out)?;
    Ok(())
}

// src/main.rs
include!(concat!(env!("OUT_DIR"), "/trace_load.skel.rs"));

fn skeleton(runtime: &Runtime) -> Result<(), Box<dyn Error>> {
    let mut skeleton = trace_load::open();
    skeleton.rodata.sample = 10; // a constant of the program
    let trace = skeleton.attach(runtime, duckbpf::Options::default())?; // out of the binary: no file to find
    for event in trace.maps.events.drain(1000)? {
        // structs as the program declares them
        println!("query {} read {} bytes", event.query_id, event.size);
    }
    println!("{:?}", trace.programs.trace.info(runtime));
    trace.detach()?;
    Ok(())
}

/// Words and signs, for lines are broken elsewhere here.
fn words(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect::<String>().replace(",}", "}")
}

#[test]
fn the_books_rust_is_compiled_here() {
    let here = words(include_str!("book.rs"));
    let book = include_str!("../../../docs/src/rust.md");
    let blocks: Vec<&str> =
        book.split("```rust\n").skip(1).filter_map(|rest| rest.split_once("\n```")).map(|(block, _)| block).collect();
    assert_eq!(blocks.len(), 4);
    for line in blocks.iter().flat_map(|block| block.lines()) {
        assert!(here.contains(&words(line)), "docs/src/rust.md has a line that is not compiled here: {line}");
    }
}
