//! Source lines of instructions, from .BTF and .BTF.ext. Damaged tables are as good as none: they only serve messages, and
//! texts are looked up only when a message needs them.

use std::{fmt, ops::Range, sync::Arc};

use super::MAX_PARTS;
use crate::isa::SLOT;

/// Where an instruction came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLine {
    pub file: String,
    pub line: u32,
    /// The line's text, without leading blanks.
    pub text: String,
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.text)
    }
}

/// One record: texts are places in the strings.
#[derive(Clone, Copy, Debug)]
struct Record {
    slot: usize,
    file: u32,
    text: u32,
    line: u32,
}

/// Lines of one program.
#[derive(Clone, Debug, Default)]
pub struct LineTable {
    records: Vec<Record>,
    strings: Arc<[u8]>,
}

impl LineTable {
    /// Takes over the lines of a function: these slots of a section lie from `at` on in the program.
    pub(super) fn extend(&mut self, lines: &SectionLines, section: &str, slots: Range<usize>, at: usize) {
        let Some((_, records)) = lines.sections.iter().find(|(name, _)| name == section) else { return };
        let first = records.partition_point(|record| record.slot < slots.start);
        let of_function = records[first..].iter().take_while(|record| record.slot < slots.end);
        self.records.extend(of_function.map(|record| Record { slot: record.slot - slots.start + at, ..*record }));
        self.strings = lines.strings.clone();
    }

    /// The line that a slot came from.
    pub fn at(&self, pc: usize) -> Option<SourceLine> {
        let after = self.records.partition_point(|record| record.slot <= pc);
        let record = self.records[after.checked_sub(1)?];
        let file = text(&self.strings, record.file)?.trim_start_matches("./").to_owned();
        Some(SourceLine { file, line: record.line, text: text(&self.strings, record.text)? })
    }
}

/// Lines of every section of an object.
#[derive(Default)]
pub(super) struct SectionLines {
    sections: Vec<(String, Vec<Record>)>,
    strings: Arc<[u8]>,
}

impl SectionLines {
    pub fn read(btf: &[u8], ext: &[u8]) -> SectionLines {
        read_sections(btf, ext).unwrap_or_default()
    }
}

pub(super) const MAGIC: u32 = 0xeb9f;

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// The part of a table that the header's fields at `field` (offset) and `field + 4` (length) give.
pub(super) fn part(bytes: &[u8], field: usize) -> Option<&[u8]> {
    let header = word(bytes, 4)? as usize;
    let start = header.checked_add(word(bytes, field)? as usize)?;
    bytes.get(start..start.checked_add(word(bytes, field + 4)? as usize)?)
}

pub(super) fn text(strings: &[u8], at: u32) -> Option<String> {
    let rest = strings.get(at as usize..)?;
    let end = rest.iter().take(1024).position(|&byte| byte == 0)?;
    Some(String::from_utf8_lossy(&rest[..end]).trim().to_owned())
}

fn read_sections(btf: &[u8], ext: &[u8]) -> Option<SectionLines> {
    if word(btf, 0)? & 0xffff != MAGIC || word(ext, 0)? & 0xffff != MAGIC {
        return None;
    }
    let strings = part(btf, 16)?;
    let mut rest = part(ext, 16)?;
    let size = word(rest, 0)? as usize;
    if !(16..=256).contains(&size) {
        return None;
    }
    rest = &rest[4..];
    let mut sections = Vec::new();
    while !rest.is_empty() {
        if sections.len() > MAX_PARTS {
            return None;
        }
        let (name, count) = (text(strings, word(rest, 0)?)?, word(rest, 4)? as usize);
        let end = count.checked_mul(size)?.checked_add(8)?;
        let mut records: Vec<_> = rest.get(8..end)?.chunks_exact(size).map(read_record).collect::<Option<_>>()?;
        records.sort_by_key(|record| record.slot);
        sections.push((name, records));
        rest = &rest[end..];
    }
    Some(SectionLines { sections, strings: strings.into() })
}

fn read_record(record: &[u8]) -> Option<Record> {
    let slot = word(record, 0)? as usize / SLOT;
    Some(Record { slot, file: word(record, 4)?, text: word(record, 8)?, line: word(record, 12)? >> 10 })
}
