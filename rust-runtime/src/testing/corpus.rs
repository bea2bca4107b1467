//! The corpus: programs of one property each, and what the verifier says of them (`tests/corpus/*.txt`).
//!
//! ```text
//! == accept: what is shown
//! program, see asm
//!
//! == reject some-id: what is shown
//! program
//! ```

use std::{collections::HashSet, path::Path};

use super::asm::Assembly;
use crate::verifier::{self, Rejection};

/// One program and its verdict.
#[derive(Debug)]
pub struct Case {
    pub family: String,
    pub name: String,
    /// The error id; None: it is accepted.
    pub rejection: Option<String>,
    pub text: String,
}

/// Every case, by family.
pub fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the corpus is there")
        .map(|entry| entry.expect("it is readable").path())
        .collect();
    files.sort();
    let mut names = HashSet::new();
    let mut cases = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a corpus file is text");
        let family = file.file_stem().expect("a name").to_string_lossy().into_owned();
        for part in text.split("\n== ").skip(1) {
            let case = parse(&family, part);
            assert!(names.insert((case.rejection.is_some(), case.name.clone())), "{}: there twice", case.name);
            cases.push(case);
        }
    }
    cases
}

/// Why the verifier refuses a case's program; None: it is accepted.
pub fn rejection(assembly: &Assembly) -> Option<Box<Rejection>> {
    let said = match assembly.hook {
        Some(hook) => verifier::verify(&assembly.object, 0, hook).map(|_| ()),
        None => verifier::judge_generic(&assembly.object),
    };
    said.err()
}

/// The error id.
pub fn verdict(assembly: &Assembly) -> Option<&'static str> {
    rejection(assembly).map(|rejection| rejection.id())
}

fn parse(family: &str, part: &str) -> Case {
    let (head, text) = part.split_once('\n').unwrap_or((part, ""));
    let (verdict, name) = head.split_once(": ").unwrap_or_else(|| panic!("{family}: {head}: verdict: name"));
    let rejection = match verdict.split_once(' ') {
        Some(("reject", id)) => Some(id.to_owned()),
        None if verdict == "accept" => None,
        _ => panic!("{family}: {head}: accept, or reject with an id"),
    };
    Case { family: family.to_owned(), name: name.to_owned(), rejection, text: text.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::asm::assemble;

    /// `DUCKBPF_CORPUS=write` writes what is said now into the files, to be read before it is committed.
    #[test]
    fn verdicts_are_as_written() {
        let mut wrong = Vec::new();
        for case in cases() {
            let assembly = assemble(&case.text).unwrap_or_else(|what| panic!("{}: {what}", case.name));
            let said = rejection(&assembly);
            let found = said.as_ref().map(|said| said.id());
            if let Some(said) = said {
                let (short, long) = (said.to_string(), format!("{said:#}"));
                assert!(short.contains(&format!("[{}]", said.id())) && long.len() >= short.len(), "{long}");
            }
            if found != case.rejection.as_deref() {
                wrong.push(format!("{}: {}: {:?}, not {:?}", case.family, case.name, found, case.rejection));
                rewrite(&case, found);
            }
        }
        assert!(wrong.is_empty(), "{} verdicts differ:\n{}", wrong.len(), wrong.join("\n"));
    }

    /// A rejection gets its id; whether a case is accepted is never rewritten.
    fn rewrite(case: &Case, found: Option<&str>) {
        let (Some(old), Some(new), true) = (&case.rejection, found, std::env::var_os("DUCKBPF_CORPUS").is_some())
        else {
            return;
        };
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/corpus/{}.txt", case.family));
        let text = std::fs::read_to_string(&file).unwrap();
        let line = |id: &str| format!("== reject {id}: {}\n", case.name);
        std::fs::write(&file, text.replace(&line(old), &line(new))).unwrap();
    }

    #[test]
    fn every_case_is_a_program_of_its_own() {
        let cases = cases();
        assert!(cases.len() >= 300, "{}", cases.len());
        let mut programs = HashSet::new();
        for case in &cases {
            let assembly = assemble(&case.text).unwrap_or_else(|what| panic!("{}: {}: {what}", case.family, case.name));
            let object = &assembly.object;
            let maps: Vec<String> = object.maps.iter().map(|map| map.layout()).collect();
            let text = &object.programs[0];
            let starts: Vec<usize> = text.functions.iter().map(|function| function.start).collect();
            let program = format!("{:?} {starts:?} {:?} {maps:?} {:?}", assembly.hook, text.insns, object.regions);
            assert!(programs.insert(program), "{}: {} is another case's program", case.family, case.name);
        }
    }
}
