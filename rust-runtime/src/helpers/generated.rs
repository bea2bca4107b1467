//! What is written from the table: the header's prototypes and the book's pages. The tests here say when a file has drifted;
//! `DUCKBPF_UPDATE=1 cargo test -p duckbpf-runtime generated` writes it anew.

use std::{fmt::Write as _, fs, path::PathBuf};

use super::{Bytes, HelperSpec, Hooks, PANICS, RetKind, TABLE, spec::OWN};
use crate::{hook::Hook, object::MapKind};

const WIDTH: usize = 110;

fn helpers() -> impl Iterator<Item = &'static HelperSpec> {
    TABLE.iter().filter(|helper| helper.id != PANICS)
}

fn number(id: u32) -> String {
    if id < OWN { id.to_string() } else { format!("{id:#x}") }
}

fn prototype(helper: &HelperSpec) -> String {
    let parameters = if helper.parameters.is_empty() { "void".into() } else { helper.parameters.join(", ") };
    let space = if helper.returns.ends_with('*') { "" } else { " " };
    format!("{}{space}{}({parameters})", helper.returns, helper.c_name())
}

fn hooks(set: Hooks) -> String {
    match set {
        Hooks::ALL => "all".into(),
        Hooks::NOT_HASH => "all but hash".into(),
        set => set.iter().map(Hook::name).collect::<Vec<_>>().join(", "),
    }
}

fn cost(helper: &HelperSpec) -> String {
    let per = |what: String| format!("{} + {} per begun 8 bytes of {what}", helper.cost.fixed, helper.cost.per_eight);
    match helper.cost.bytes {
        Bytes::None => helper.cost.fixed.to_string(),
        Bytes::Arg(place) => {
            per(helper.parameters[usize::from(place)].split([' ', '*']).next_back().unwrap_or("").into())
        }
        Bytes::Key => per("the key".into()),
        Bytes::Value => per("the value".into()),
        Bytes::KeyAndValue => per("key and value".into()),
    }
}

/// Words in lines, each after a prefix.
fn wrapped(text: &str, prefix: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && prefix.len() + lines[last].len() + 1 + word.len() > WIDTH {
            lines.push(word.into());
        } else {
            lines[last] = format!("{}{}{word}", lines[last], if lines[last].is_empty() { "" } else { " " });
        }
    }
    lines.iter().map(|line| format!("{prefix}{line}\n")).collect()
}

fn header() -> String {
    let mut out = String::from(
        "/* Helpers that programs may call. Written from rust-runtime/src/helpers/table.rs: change them there.\n *\n * Numbers \
         are Linux' where the meaning is the same. Costs count against the hook's ceiling on one call. */\n#ifndef \
         DUCKBPF_HELPERS_H\n#define DUCKBPF_HELPERS_H\n\n#include \"duckbpf/hooks.h\"\n\n#define DUCKBPF_HELPER static \
         __attribute__((unused))\n\n",
    );
    for kind in MapKind::ALL {
        let (name, number) = (kind.name().to_uppercase(), kind as u32);
        let prefix = if number < OWN { "BPF_MAP_TYPE" } else { "DUCKBPF_MAP_TYPE" };
        let number = self::number(number);
        let _ = writeln!(out, "#define {prefix}_{name} {number}");
    }
    for helper in helpers() {
        let doc = format!("{} Hooks: {}. Cost: {}.", helper.doc, hooks(helper.hooks), cost(helper));
        let comment = wrapped(&doc, " * ");
        let _ = write!(out, "\n/* {} */\n", comment.trim_start_matches(" * ").trim_end());
        let parameters = if helper.parameters.is_empty() { "void".into() } else { helper.parameters.join(", ") };
        let space = if helper.returns.ends_with('*') { "" } else { " " };
        let (name, id) = (helper.c_name(), number(helper.id));
        let _ = writeln!(out, "DUCKBPF_HELPER {}{space}(*const {name})({parameters}) = (void *){id};", helper.returns);
    }
    out + "\n#endif\n"
}

fn page() -> String {
    let mut out = String::new();
    for helper in helpers() {
        let _ = write!(
            out,
            "### {}\n\n```c\n{};\n```\n\n{}\n",
            helper.c_name(),
            prototype(helper),
            wrapped(helper.doc, "")
        );
        let maps = helper.maps.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
        let _ =
            writeln!(out, "- number: {}; hooks: {}; cost: {}", number(helper.id), hooks(helper.hooks), cost(helper));
        if !maps.is_empty() {
            let _ = writeln!(out, "- maps: {maps}");
        }
        if matches!(helper.ret, RetKind::RecordOrNull { .. }) {
            let _ = writeln!(out, "- must be followed by `bpf_ringbuf_submit` or `bpf_ringbuf_discard` on every way");
        }
        let _ = write!(out, "- example: `{}`\n\n", helper.example);
    }
    out.trim_end().to_owned() + "\n"
}

fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn compare(path: &str, expected: &str) {
    let file = root(path);
    if std::env::var_os("DUCKBPF_UPDATE").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, expected).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == expected,
        "{path} is not what the table of helpers says; DUCKBPF_UPDATE=1 cargo test -p duckbpf-runtime generated"
    );
}

#[test]
fn the_header_is_what_the_table_says() {
    compare("extensions-c/include/duckbpf/helpers.h", &header());
}

#[test]
fn the_books_page_is_what_the_table_says() {
    const BEGIN: &str = "<!-- written from rust-runtime/src/helpers/table.rs -->\n";
    let path = "docs/src/helpers.md";
    let text = fs::read_to_string(root(path)).unwrap();
    let (before, _) = text.split_once(BEGIN).expect("the page says where the generated part begins");
    compare(path, &format!("{before}{BEGIN}\n{}", page()));
}
