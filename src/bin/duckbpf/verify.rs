//! `duckbpf verify`: says of every program in a file whether it may run, and why not.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::ValueEnum;
use duckbpf_runtime::{Place, Profile, Rejection, Verdict, judge};
use serde_json::json;

/// Check every program of BPF objects. Ends with 0 if all are accepted, 1 if one is not, 2 if something else is wrong.
#[derive(clap::Args)]
pub struct Arguments {
    /// Objects, as clang -target bpf makes them.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Whose rules.
    #[arg(long, value_enum, default_value_t = Rules::Hooks)]
    profile: Rules,
    /// One line of JSON for each program: file, function, verdict, id of the error, instructions visited, microseconds.
    #[arg(long)]
    json: bool,
    /// The annotated walk: every instruction visited, and the registers after it.
    #[arg(long, conflicts_with = "json")]
    log: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Rules {
    /// Those of the hook that a program's section names.
    Hooks,
    /// Those of a kernel, for programs that were written elsewhere: any section, a context of plain bytes.
    Generic,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let profile = match arguments.profile {
        Rules::Hooks => Profile::Hooks,
        Rules::Generic => Profile::Generic,
    };
    let mut out = io::stdout().lock();
    let mut all_accepted = true;
    for file in &arguments.files {
        match judge(file, profile, arguments.log) {
            Ok(verdicts) => {
                for verdict in &verdicts {
                    all_accepted &= verdict.result.is_ok();
                    if arguments.json {
                        writeln!(out, "{}", as_json(file, verdict))?;
                    } else {
                        print(&mut out, file, verdict)?;
                    }
                }
            }
            Err(error) => {
                all_accepted = false;
                if arguments.json {
                    let line = json!({
                        "file": file.to_string_lossy(), "function": null, "verdict": "reject", "id": "bad-object",
                        "visited": 0, "us": 0.0, "message": error.to_string(),
                    });
                    writeln!(out, "{line}")?;
                } else {
                    writeln!(out, "{}: {error}", file.display())?;
                }
            }
        }
    }
    Ok(if all_accepted { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn as_json(file: &Path, verdict: &Verdict) -> serde_json::Value {
    let rejection = verdict.result.as_ref().err();
    let mut line = json!({
        "file": file.to_string_lossy(),
        "function": verdict.function,
        "section": verdict.section,
        "verdict": if rejection.is_none() { "accept" } else { "reject" },
        "id": rejection.map(|rejection| rejection.id()),
        "visited": verdict.visited,
        "us": verdict.nanoseconds as f64 / 1000.0,
    });
    match &verdict.result {
        Ok(accepted) => {
            if let Some(cost) = accepted.worst_cost {
                line["worst_cost"] = cost.into();
            }
        }
        Err(rejection) => explain(&mut line, rejection),
    }
    line
}

/// What a message says, in parts.
fn explain(line: &mut serde_json::Value, rejection: &Rejection) {
    let place = |place: &Place| {
        json!({"instruction": place.instruction, "function": place.function, "text": place.text,
        "source": place.line.as_ref().map(|line| line.to_string())})
    };
    line["message"] = rejection.to_string().into();
    line["reason"] = rejection.reason.to_string().into();
    line["instruction"] = rejection.instruction.into();
    line["in_function"] = rejection.function.as_str().into();
    line["disassembly"] = rejection.disassembly.as_deref().into();
    line["source"] = rejection.line.as_ref().map(|line| line.to_string()).into();
    if let Some((required, proved)) = rejection.reason.required() {
        line["required"] = required.into();
        line["proved"] = proved.into();
    }
    line["hint"] = rejection.reason.hint().into();
    line["origins"] = rejection.origins.iter().map(place).collect();
    line["branches"] = rejection
        .branches
        .iter()
        .map(|branch| {
            let mut of_branch = place(&branch.place);
            of_branch["taken"] = branch.taken.into();
            of_branch
        })
        .collect();
}

fn print(out: &mut impl Write, file: &Path, verdict: &Verdict) -> io::Result<()> {
    if let Some(log) = &verdict.log {
        write!(out, "{log}")?;
    }
    match &verdict.result {
        Ok(accepted) => {
            let (file, function, visited) = (file.display(), &verdict.function, verdict.visited);
            let microseconds = verdict.nanoseconds as f64 / 1000.0;
            let cost = accepted.worst_cost.map_or(String::new(), |cost| format!("worst cost {cost}, "));
            writeln!(out, "{file}: {function}: accepted; {cost}{visited} visited in {microseconds:.0} us")
        }
        Err(rejection) => writeln!(out, "{}: {rejection:#}", file.display()),
    }
}
