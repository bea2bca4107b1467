//! What `duckbpf record` writes and `duckbpf replay` reads: a head and a line for each event.
//!
//! ```text
//! # duckbpf trace 1, memory limit 700000000
//! time_us,event,thread,query,file,block,size,used
//! 17,miss,3,5,1,42,262144,4194304
//! ```

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    str::FromStr,
};

use anyhow::{Context, Result, bail, ensure};

const MAGIC: &str = "# duckbpf trace 1, memory limit ";
const COLUMNS: &str = "time_us,event,thread,query,file,block,size,used";

/// A block of a database file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block {
    pub file: u64,
    pub number: i64,
}

/// What happened to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody wants it, and it is in memory.
    Hit,
    /// Somebody wants it, and it is read.
    Miss,
    /// Nobody reads it any more.
    Unpin,
    /// Its memory is taken.
    Evict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub time_us: u64,
    pub kind: Kind,
    pub thread: u32,
    pub query: u64,
    pub block: Block,
    /// Bytes.
    pub size: u64,
    /// Bytes that DuckDB's memory account had.
    pub used: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The memory limit under which it was recorded, bytes.
    pub limit: u64,
    pub events: Vec<Event>,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Hit, Kind::Miss, Kind::Unpin, Kind::Evict];

    /// By its number in record.bpf.c.
    pub fn from_number(number: u64) -> Option<Kind> {
        Kind::ALL.get(usize::try_from(number).ok()?).copied()
    }

    pub fn is_load(self) -> bool {
        matches!(self, Kind::Hit | Kind::Miss)
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Hit => "hit",
            Kind::Miss => "miss",
            Kind::Unpin => "unpin",
            Kind::Evict => "evict",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { time_us, kind, thread, query, block: Block { file, number }, size, used } = self;
        write!(f, "{time_us},{},{thread},{query},{file},{number},{size},{used}", kind.name())
    }
}

impl FromStr for Event {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Event> {
        let fields: Vec<&str> = line.split(',').collect();
        let [time_us, kind, thread, query, file, number, size, used] = fields[..] else {
            bail!("it has {} fields, not the eight of {COLUMNS}", fields.len());
        };
        fn parse<T: FromStr<Err: Into<anyhow::Error>>>(name: &str, text: &str) -> Result<T> {
            text.parse().map_err(Into::into).with_context(|| format!("{name} is '{text}'"))
        }
        let known = Kind::ALL.into_iter().find(|known| known.name() == kind);
        Ok(Event {
            time_us: parse("time_us", time_us)?,
            kind: known.with_context(|| format!("event is '{kind}', not hit, miss, unpin or evict"))?,
            thread: parse("thread", thread)?,
            query: parse("query", query)?,
            block: Block { file: parse("file", file)?, number: parse("block", number)? },
            size: parse("size", size)?,
            used: parse("used", used)?,
        })
    }
}

/// Writes the lines before the first event.
pub fn write_head(out: &mut impl Write, limit: u64) -> io::Result<()> {
    writeln!(out, "{MAGIC}{limit}\n{COLUMNS}")
}

impl Trace {
    pub fn read(path: &Path) -> Result<Trace> {
        let open = || format!("{}", path.display());
        Trace::parse(BufReader::new(File::open(path).with_context(open)?)).with_context(open)
    }

    fn parse(input: impl BufRead) -> Result<Trace> {
        let mut lines = input.lines();
        let head = lines.next().transpose()?.unwrap_or_default();
        let limit = head.strip_prefix(MAGIC).and_then(|limit| limit.parse().ok());
        let limit = limit.context("this is no trace: duckbpf record writes them")?;
        let columns = lines.next().transpose()?.unwrap_or_default();
        ensure!(columns == COLUMNS, "line 2: the columns are '{columns}', not '{COLUMNS}'");
        let mut events = Vec::new();
        for (line, number) in lines.zip(3..) {
            let line = line.with_context(|| format!("line {number}"))?;
            events.push(line.parse().with_context(|| format!("line {number}"))?);
        }
        Ok(Trace { limit, events })
    }

    /// The loads alone.
    pub fn loads(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|event| event.kind.is_load())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let event = |kind, number| Event {
            time_us: 17,
            kind,
            thread: 3,
            query: 5,
            block: Block { file: 1, number },
            size: 262_144,
            used: 1 << 30,
        };
        let trace =
            Trace { limit: 700_000_000, events: Kind::ALL.into_iter().zip(-1..).map(|(k, n)| event(k, n)).collect() };
        let mut text = Vec::new();
        write_head(&mut text, trace.limit).unwrap();
        for event in &trace.events {
            writeln!(text, "{event}").unwrap();
        }
        assert_eq!(Trace::parse(&text[..]).unwrap(), trace);
        assert_eq!(trace.loads().count(), 2);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| format!("{:#}", Trace::parse(text.as_bytes()).unwrap_err());
        assert!(error("time,id\n").contains("no trace"));
        let head = format!("{MAGIC}7\n{COLUMNS}\n");
        assert!(error(&format!("{head}1,hit,1,1,1,1,1,1\n1,hit\n")).contains("line 4: it has 2 fields"));
        assert!(error(&format!("{head}1,hot,1,1,1,1,1,1\n")).contains("line 3: event is 'hot'"));
        assert!(error(&format!("{head}1,hit,-1,1,1,1,1,1\n")).contains("line 3: thread is '-1'"));
        assert!(error(&format!("{MAGIC}7\na,b\n")).contains("line 2"));
    }
}
