//! Fuzzes with each planted fault in place; `cargo xtask fuzz --planted` runs it and prints the table of the book.
//!
//! Arguments: seconds for each fault at most, seed, and the names of faults if not all are to be tried.

use std::{io::Write, time::Duration};

use duckbpf_runtime::testing::planted::{Bug, case, fuzz};

fn main() {
    let argument = |place: usize| std::env::args().nth(place).and_then(|text| text.parse::<u64>().ok());
    let seconds = Duration::from_secs(argument(1).unwrap_or(60));
    let seed = argument(2).unwrap_or(1);
    let names: Vec<String> = std::env::args().skip(3).collect();
    let is_tried = |bug: &Bug| names.is_empty() || names.contains(&format!("{bug:?}"));
    let bugs: Vec<Bug> = Bug::ALL.into_iter().filter(is_tried).collect();
    std::panic::set_hook(Box::new(|_| {}));
    println!("| fault | fuzzing: programs, seconds | case |\n|---|---|---|");
    let (mut fuzzed, mut named) = (0, 0);
    for &bug in &bugs {
        let (found, case) = (fuzz(bug, seed, seconds), case(bug));
        let effort = match found.programs {
            Some(programs) => format!("{programs}, {:.1}", found.took.as_secs_f64()),
            None => format!("not in {} s", seconds.as_secs()),
        };
        fuzzed += u32::from(found.programs.is_some());
        named += u32::from(case.is_some());
        println!("| {} | {effort} | {} |", bug.says(), case.as_deref().unwrap_or("none"));
        let _ = std::io::stdout().flush();
        if let Some(failure) = found.failure.as_deref().and_then(|failure| failure.lines().next()) {
            eprintln!("{bug:?}: {}", failure.chars().take(160).collect::<String>());
        }
    }
    println!("\n{fuzzed} of {} fell to fuzzing, {named} to a case", bugs.len());
}
