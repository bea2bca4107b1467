//! Looks for programs that the verifier should not have accepted, for as long as it is told.
//!
//! `cargo xtask fuzz --minutes N` runs it. Arguments: minutes, threads, seed.

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use duckbpf_runtime::testing::fuzz::{Plan, Tally, search};

fn main() -> ExitCode {
    let argument = |place: usize| std::env::args().nth(place).and_then(|text| text.parse::<u64>().ok());
    let minutes = argument(1).unwrap_or(1);
    let threads = argument(2).unwrap_or(1);
    let seed = argument(3).unwrap_or(1);
    let began = Instant::now();
    let until = Some(began + Duration::from_secs(60 * minutes));
    // A panic in the verifier is a finding, told with its program; its trace would only be in the way.
    std::panic::set_hook(Box::new(|_| {}));
    let searches: Vec<_> = (0..threads)
        .map(|thread| {
            let plan =
                Plan { seed: seed + 1000 * thread, programs: u64::MAX, inputs: 10, until, failures: 20, reduced: true };
            thread::spawn(move || search(plan))
        })
        .collect();
    let mut tally = Tally::default();
    for search in searches {
        match search.join() {
            Ok(found) => tally.add(found),
            Err(_) => tally.failures.push("the search itself panicked".into()),
        }
    }
    print(&tally, began.elapsed());
    if tally.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(tally: &Tally, took: Duration) {
    let share = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
    println!("{} programs in {:.0} s, seed by seed", tally.programs, took.as_secs_f64());
    println!("{} different ones accepted ({:.1}%)", tally.accepted, share(tally.accepted, tally.programs));
    println!("{:.1}% of them with a loop, a spill or a call", share(tally.rich, tally.accepted));
    println!("{} runs, {} instructions", tally.runs, tally.steps);
    println!("{} runs of {} programs compared with machine code", tally.compared, tally.compiled);
    for (id, count) in &tally.refused {
        println!("  {count:>9} refused as {id}");
    }
    println!("{} failures", tally.failures.len());
    for failure in &tally.failures {
        println!("\n{failure}");
    }
}
