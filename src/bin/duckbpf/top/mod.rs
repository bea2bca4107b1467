//! `duckbpf top`: what programs of a live database do, as it happens.
//!
//! ```text
//! rates     two looks at the counters into calls a second and nanoseconds a call
//! screen    the terminal's view
//! metrics   the same counters for Prometheus and its like
//! ```

mod metrics;
mod rates;
mod screen;

use std::{
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use duckbpf_control::{Hello, Request, Stats};
use serde_json::Value;

use crate::socket::{Address, Socket};
use rates::Rates;

/// Watch hooks, programs and maps of a live database.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    address: Address,
    /// Seconds between two looks
    #[arg(short, long, default_value_t = 1.0)]
    interval: f64,
    /// A line of JSON each time, instead of a screen
    #[arg(long)]
    json: bool,
    /// End after so many looks
    #[arg(short = 'n', long, value_name = "LOOKS")]
    count: Option<u64>,
    /// Serve the counters as OpenMetrics at http://ADDRESS/metrics, instead of a screen
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["json", "count"])]
    listen: Option<SocketAddr>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let interval = Duration::from_secs_f64(arguments.interval.clamp(0.05, 3600.0));
    let mut watch = Watch::begin(&arguments.address)?;
    match arguments.listen {
        Some(address) => metrics::serve(address, &mut watch),
        None if arguments.json => lines(&mut watch, interval, arguments.count),
        None => screen::show(&mut watch, interval, arguments.count),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// A database that is watched: its calls are timed as long as this is connected.
struct Watch {
    socket: Socket,
    hello: Hello,
}

impl Watch {
    fn begin(address: &Address) -> Result<Watch> {
        let mut socket = address.connect()?;
        let hello = socket.ask(&Request::Hello)?;
        socket.ask::<Value>(&Request::Sampling { on: true })?;
        Ok(Watch { socket, hello })
    }

    fn look(&mut self) -> Result<Stats> {
        self.socket.ask(&Request::Stats)
    }
}

fn lines(watch: &mut Watch, interval: Duration, count: Option<u64>) -> Result<()> {
    let mut out = io::stdout();
    let mut before = watch.look()?;
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        thread::sleep(interval);
        let now = watch.look()?;
        let rates = Rates::between(&before, &now);
        let line = serde_json::to_string(&rates.with(&now)?)?;
        writeln!(out, "{line}").and_then(|()| out.flush()).context("standard output")?;
        before = now;
        left -= 1;
    }
    Ok(())
}
