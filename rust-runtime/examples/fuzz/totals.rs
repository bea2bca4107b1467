//! What all runs saw together, in files.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use duckbpf_runtime::testing::fuzz::{Seen, Tally};

/// Counters by name, one a line in `totals.txt`.
pub struct Totals {
    counters: BTreeMap<String, u64>,
    folder: PathBuf,
    accepted: File,
}

impl Totals {
    /// What earlier runs left; their accepted programs are in `seen` then.
    pub fn load(folder: &Path, seen: &Seen) -> io::Result<Totals> {
        let text = read(&folder.join("totals.txt"))?;
        let lines = String::from_utf8_lossy(&text).into_owned();
        let lines = lines.lines().filter_map(|line| line.rsplit_once(' '));
        let counters =
            lines.filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?))).collect::<BTreeMap<_, _>>();
        let path = folder.join("accepted.bin");
        for number in read(&path)?.as_chunks::<8>().0 {
            seen.insert(u64::from_le_bytes(*number));
        }
        let accepted = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Totals { counters, folder: folder.to_owned(), accepted })
    }

    /// A seed that no earlier search had.
    pub fn next_seed(&mut self) -> u64 {
        let searches = self.counters.entry("searches".to_owned()).or_default();
        *searches += 1;
        *searches
    }

    /// Adds what a search saw, and writes it down.
    pub fn add(&mut self, tally: &Tally) -> io::Result<()> {
        let named = [
            ("programs", tally.programs),
            ("accepted", tally.accepted),
            ("rich", tally.rich),
            ("exact", tally.exact),
            ("unwatched", tally.unwatched),
            ("runs", tally.runs),
            ("steps", tally.steps),
            ("pairs", tally.compared),
            ("compiled", tally.compiled),
            ("compiled rich", tally.compiled_rich),
            ("failures", tally.failures.len() as u64),
        ];
        let named = named.into_iter().map(|(name, count)| (name.to_owned(), count));
        let refused = tally.refused.iter().map(|(id, count)| (format!("refused {id}"), *count));
        let lengths = tally.lengths.iter().map(|(length, count)| (format!("length {length:04}"), *count));
        for (name, count) in named.chain(refused).chain(lengths) {
            *self.counters.entry(name).or_default() += count;
        }
        let found: Vec<u8> = tally.found.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.accepted.write_all(&found)?;
        let text: String = self.counters.iter().map(|(name, count)| format!("{name} {count}\n")).collect();
        let (new, path) = (self.folder.join("totals.new"), self.folder.join("totals.txt"));
        fs::write(&new, text)?;
        fs::rename(new, path)?;
        self.report(&tally.failures)
    }

    fn report(&self, failures: &[String]) -> io::Result<()> {
        if failures.is_empty() {
            return Ok(());
        }
        let mut file = OpenOptions::new().create(true).append(true).open(self.folder.join("failures.txt"))?;
        failures.iter().try_for_each(|failure| {
            println!("{failure}\n");
            writeln!(file, "{failure}\n")
        })
    }

    fn of(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// The median number of instructions of the programs that were compiled.
    fn median(&self) -> usize {
        let half = self.of("compiled") / 2;
        let mut count = 0;
        let lengths = self.counters.iter().filter_map(|(name, n)| Some((name.strip_prefix("length ")?, n)));
        for (length, n) in lengths {
            count += n;
            if count > half {
                return length.parse().unwrap_or(0);
            }
        }
        0
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |part: &str, whole: &str| 100.0 * self.of(part) as f64 / self.of(whole).max(1) as f64;
        writeln!(f, "in all, {} searches:", self.of("searches"))?;
        writeln!(f, "{} programs", self.of("programs"))?;
        writeln!(f, "{} different ones accepted ({:.1}%)", self.of("accepted"), share("accepted", "programs"))?;
        writeln!(f, "  {:.1}% of them with a loop, a spill or a call", share("rich", "accepted"))?;
        writeln!(f, "  {:.1}% of them compared in everything", share("exact", "accepted"))?;
        writeln!(f, "  {} of them with too many states to compare with", self.of("unwatched"))?;
        writeln!(f, "{} runs, {} instructions", self.of("runs"), self.of("steps"))?;
        writeln!(f, "{} runs of {} programs as machine code too", self.of("pairs"), self.of("compiled"))?;
        writeln!(f, "  median {} instructions", self.median())?;
        writeln!(f, "  {:.1}% with a loop, a spill or a call", share("compiled rich", "compiled"))?;
        for (name, count) in &self.counters {
            if let Some(id) = name.strip_prefix("refused ") {
                writeln!(f, "{count:>10} refused as {id}")?;
            }
        }
        write!(f, "{} failures", self.of("failures"))
    }
}

/// A file's bytes; none, if it is not there.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        bytes => bytes,
    }
}
