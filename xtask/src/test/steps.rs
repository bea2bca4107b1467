//! Steps in processes of their own, two at a time where their order allows it. What they print goes to files, and from there to the
//! standard output in the order of the steps: of the first that is not over, as it comes.

use super::Step;
use crate::paths;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Most of them keep two processors busy by themselves, but not all the time.
const AT_ONCE: usize = 2;
const LOOK: Duration = Duration::from_millis(50);

/// How a step went.
pub struct Done {
    pub name: &'static str,
    pub took: Duration,
    /// Of all processors.
    pub processors: Duration,
    pub succeeded: bool,
}

enum State {
    Waiting,
    Running(Child, Instant),
    Over(Done),
}

struct Running<'a> {
    step: &'a Step,
    state: State,
    output: PathBuf,
}

/// Runs them, and returns those that ran, in their order.
pub fn run(steps: &[&Step], engine: bool, fail_fast: bool) -> Result<Vec<Done>> {
    // Now: cargo may build it again meanwhile.
    let program = std::env::current_exe().context("cannot tell this program's file")?;
    let folder = paths::target("test-steps");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let output = |step: &Step| folder.join(step.name.replace(|letter: char| !letter.is_alphanumeric(), "-"));
    let mut all: Vec<Running> =
        steps.iter().map(|step| Running { step, state: State::Waiting, output: output(step) }).collect();
    let (mut shown, mut open) = (0, None);
    loop {
        for step in &mut all {
            step.look()?;
        }
        begin(&mut all, &program, engine, fail_fast)?;
        while let Some(step) = all.get(shown).filter(|step| !matches!(step.state, State::Waiting)) {
            if open.is_none() {
                println!("\n=== {}", step.step.name);
            }
            show(&mut open, &step.output)?;
            if matches!(step.state, State::Running(..)) {
                break;
            }
            (shown, open) = (shown + 1, None);
        }
        if !all.iter().any(|step| matches!(step.state, State::Running(..))) {
            break;
        }
        std::thread::sleep(LOOK);
    }
    // Behind one that never began.
    for step in all[shown..].iter().filter(|step| matches!(step.state, State::Over(_))) {
        println!("\n=== {}", step.step.name);
        show(&mut None, &step.output)?;
    }
    Ok(all.into_iter().filter_map(|step| if let State::Over(done) = step.state { Some(done) } else { None }).collect())
}

/// Starts what may start.
fn begin(all: &mut [Running], program: &Path, engine: bool, fail_fast: bool) -> Result<()> {
    let failed = |step: &Running| matches!(&step.state, State::Over(done) if !done.succeeded);
    if fail_fast && all.iter().any(failed) {
        return Ok(());
    }
    loop {
        let running = all.iter().filter(|step| matches!(step.state, State::Running(..))).count();
        let is_over =
            |name: &&str| all.iter().all(|other| other.step.name != *name || matches!(other.state, State::Over(_)));
        let ready = |step: &Running| matches!(step.state, State::Waiting) && step.step.after.iter().all(is_over);
        let Some(next) = all.iter().position(ready).filter(|_| running < AT_ONCE) else { return Ok(()) };
        all[next].start(program, engine)?;
    }
}

impl Running<'_> {
    fn start(&mut self, program: &Path, engine: bool) -> Result<()> {
        let output = File::create(&self.output).with_context(|| format!("cannot write {}", self.output.display()))?;
        let errors = output.try_clone().context("cannot use a file twice")?;
        let _ = std::fs::remove_file(self.time());
        let mut command = Command::new(program);
        command.args(["test", "--step", self.step.name]).args(engine.then_some("--engine"));
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).env(TIME, self.time()).spawn();
        let child = child.with_context(|| format!("cannot start the step {}", self.step.name))?;
        self.state = State::Running(child, Instant::now());
        Ok(())
    }

    /// The file in which the step says what it computed.
    fn time(&self) -> PathBuf {
        self.output.with_extension("time")
    }

    /// Whether it has ended.
    fn look(&mut self) -> Result<()> {
        let State::Running(child, began) = &mut self.state else { return Ok(()) };
        let Some(status) = child.try_wait().context("cannot wait for a step")? else { return Ok(()) };
        let took = began.elapsed();
        let said = std::fs::read_to_string(self.time()).unwrap_or_default();
        let processors = Duration::from_millis(said.trim().parse().unwrap_or_default());
        self.state = State::Over(Done { name: self.step.name, took, processors, succeeded: status.success() });
        Ok(())
    }
}

/// What was printed since the last look.
fn show(open: &mut Option<File>, output: &Path) -> Result<()> {
    let file = match open {
        Some(file) => file,
        None => open.insert(File::open(output).with_context(|| format!("cannot read {}", output.display()))?),
    };
    let mut out = std::io::stdout().lock();
    std::io::copy(file, &mut out).context("cannot show what a step prints")?;
    out.flush().context("cannot show what a step prints")
}

/// Names the file that a step's processor time goes to.
const TIME: &str = "DUCKBPF_STEP_TIME";

/// In the step's process.
pub fn run_here(step: fn() -> Result<()>) -> Result<()> {
    let result = step();
    if let Some(file) = std::env::var_os(TIME) {
        std::fs::write(&file, processor_time()?.as_millis().to_string())
            .context("cannot say what the step computed")?;
    }
    result
}

/// What this process and those that it has waited for have computed.
fn processor_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    // Behind the name, which may hold anything: utime, stime, cutime and cstime are fields 14 to 17, in hundredths (proc(5)).
    let (_, fields) = stat.rsplit_once(')').context("/proc/self/stat has no name in it")?;
    let ticks = fields.split_whitespace().skip(11).take(4).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}
