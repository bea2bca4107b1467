//! `duckbpf conformance` as bpf_conformance's runner calls a plugin: a process for each program.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// r0 = 7
const SEVEN: &str = "b7 00 00 00 07 00 00 00";
/// r0 = r2
const SIZE: &str = "bf 20 00 00 00 00 00 00";
const EXIT: &str = "95 00 00 00 00 00 00 00";

fn plugin(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_duckbpf"));
    command.arg("conformance").args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may have ended without reading.
    writeln!(child.stdin.take().unwrap(), "{input}").ok();
    child.wait_with_output().unwrap()
}

/// What it printed; it must have succeeded, without a word on standard error.
fn prints(arguments: &[&str], input: &str) -> String {
    let output = plugin(arguments, input);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.is_empty(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// As the runner writes bytes.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}  ")).collect()
}

/// An ELF object of one section with code, as the runner makes it.
fn elf(code: &[u8]) -> Vec<u8> {
    const NAMES: &[u8] = b"\0.shstrtab\0.text\0";
    const HEADER: u64 = 64;
    let names_at = HEADER + code.len() as u64;
    let sections_at = names_at + NAMES.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    for half in [1u16, 247] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1u32.to_le_bytes());
    for long in [0, 0, sections_at] {
        file.extend(long.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    for half in [HEADER as u16, 0, 0, 64, 3, 1] {
        file.extend(half.to_le_bytes());
    }
    file.extend(code);
    file.extend(NAMES);
    file.extend([0; 64]);
    // Name, type (a table of strings, code), flags, where it lies and its size.
    for (name, kind, flags, at, size) in [(1u32, 3u32, 0u64, names_at, NAMES.len()), (11, 1, 6, HEADER, code.len())] {
        file.extend([name.to_le_bytes(), kind.to_le_bytes()].concat());
        for long in [flags, 0, at, size as u64, 0, 1, 0] {
            file.extend(long.to_le_bytes());
        }
    }
    file
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

#[test]
fn conformance_prints_r0_in_hex() {
    let size = format!("{SIZE} {EXIT}");
    let memory = hex(&[0; 26]);
    for options in [&[][..], &["--interpret"], &["--debug", "--interpret"], &[""]] {
        assert_eq!(prints(&[&[memory.as_str()], options].concat(), &size), "1a\n", "{options:?}");
        // Where a test has no memory, the first argument is the first option.
        assert_eq!(prints(options, &size), "0\n", "{options:?}");
    }
    // As older runners call it: always with memory, and all options in one.
    assert_eq!(prints(&["", "--debug --interpret"], &size), "0\n");
    assert_eq!(prints(&["--program", &size, &memory], ""), "1a\n");
}

#[test]
fn conformance_takes_elf() {
    let object = hex(&elf(&bytes(&format!("{SEVEN} {EXIT}"))));
    assert_eq!(prints(&["--elf"], &object), "7\n");
    assert_eq!(prints(&["aa  bb  ", "--interpret", "--elf"], &object), "7\n");
    assert!(!plugin(&["--elf"], &format!("{SEVEN} {EXIT}")).status.success());
}

#[test]
fn conformance_refuses_in_words() {
    // The runner compares standard error with what a test expects, where nothing was printed.
    let refused = |program: &str, reason: &str| {
        for options in [&[][..], &["--interpret"]] {
            let output = plugin(options, program);
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(
                !output.status.success() && output.stdout.is_empty() && error.contains(reason),
                "{program}: {error}"
            );
        }
    };
    refused(&format!("{SEVEN} 95 00 00 00 01 00 00 00"), "a reserved field is not zero");
    refused(&format!("{SEVEN} 8d 02 00 00 00 00 00 00 {EXIT}"), "callx");
    refused(&format!("85 20 00 00 2a 00 00 00 {EXIT}"), "kernel functions");
    refused("95 00", "8 bytes");
    refused("zz zz", "is no byte");
}
