//! Looks for programs that the verifier should not have accepted, for as long as it is told; `cargo xtask fuzz` runs it.
//!
//! ```text
//! fuzz minutes=10 threads=2 pairs=100 folder=target/fuzz [seed=7]
//! ```
//!
//! What was seen adds up over runs in the folder, and no program that was accepted counts twice:
//!
//! ```text
//! totals.txt     counters          accepted.bin   the numbers of the accepted programs
//! failures.txt   what was found    running-N.bin  the program that search N runs: what to look at if the process dies
//! ```

mod totals;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc::{Sender, channel},
    thread,
    time::{Duration, Instant},
};

use duckbpf_runtime::testing::fuzz::{Effort, Plan, Search, Seen, Tally, bytes};
use totals::Totals;

/// Time between two writings of what was seen.
const SLICE: Duration = Duration::from_secs(20);
/// Runs of each accepted program in the interpreter.
const INPUTS: usize = 10;

struct Args {
    minutes: u64,
    threads: u64,
    pairs: usize,
    seed: Option<u64>,
    folder: PathBuf,
}

impl Args {
    fn parse() -> Result<Args, String> {
        let folder = PathBuf::from("target/fuzz");
        let mut args = Args { minutes: 1, threads: 1, pairs: 20, seed: None, folder };
        for argument in std::env::args().skip(1) {
            let (name, value) = argument.split_once('=').ok_or(format!("{argument}: name=value"))?;
            let number = || value.parse::<u64>().map_err(|error| format!("{argument}: {error}"));
            match name {
                "minutes" => args.minutes = number()?,
                "threads" => args.threads = number()?,
                "pairs" => args.pairs = number()? as usize,
                "seed" => args.seed = Some(number()?),
                "folder" => args.folder = value.into(),
                _ => return Err(format!("{name}: minutes, threads, pairs, seed or folder")),
            }
        }
        Ok(args)
    }
}

fn main() -> ExitCode {
    let found =
        Args::parse().and_then(|args| run(&args).map_err(|error| format!("{}: {error}", args.folder.display())));
    match found {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failures) => {
            eprintln!("{failures} failures");
            ExitCode::FAILURE
        }
        Err(what) => {
            eprintln!("fuzz: {what}");
            ExitCode::FAILURE
        }
    }
}

/// Gives the failures of this run.
fn run(args: &Args) -> io::Result<usize> {
    fs::create_dir_all(&args.folder)?;
    let seen = Seen::default();
    let mut totals = Totals::load(&args.folder, &seen)?;
    // A panic in the verifier is a finding, told with its program; its trace would only be in the way.
    std::panic::set_hook(Box::new(|_| {}));
    let end = Instant::now() + Duration::from_secs(60 * args.minutes);
    let (tallies, inbox) = channel();
    for number in 0..args.threads {
        let effort = Effort { inputs: INPUTS, pairs: args.pairs };
        let seed = args.seed.map_or_else(|| totals.next_seed(), |seed| seed + 1000 * number);
        let plan = Plan { seed, programs: u64::MAX, effort, until: Some(end), failures: 20, reduced: true };
        let search = Search::new(plan, seen.clone());
        let (tallies, file) = (tallies.clone(), args.folder.join(format!("running-{number}.bin")));
        thread::spawn(move || keep_searching(search, end, &file, &tallies));
    }
    drop(tallies);
    let mut failures = 0;
    for tally in inbox {
        failures += tally.failures.len();
        totals.add(&tally)?;
    }
    println!("{totals}");
    Ok(failures)
}

fn keep_searching(mut search: Search, end: Instant, file: &Path, tallies: &Sender<Tally>) {
    let running = File::create(file).map_err(|error| eprintln!("{}: {error}", file.display())).ok();
    while Instant::now() < end {
        let slice = end.min(Instant::now() + SLICE);
        search.run(Some(slice), |object| {
            let bytes = bytes(object);
            let length = (bytes.len() as u64).to_le_bytes();
            // It only helps where the process dies.
            let _ = running.as_ref().map(|file| file.write_all_at(&[&length[..], &bytes].concat(), 0));
        });
        let tally = std::mem::take(&mut search.tally);
        if tallies.send(tally).is_err() {
            return;
        }
    }
}
