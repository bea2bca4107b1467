//! `cargo xtask series check`: does the patch series still fit, and the newest DuckDB of the same line?

use crate::paths;
use anyhow::{Result, bail};
use duckbpf_patch::Layout;
use duckbpf_patch::check::{self, Fit};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Apply the patches to the pinned sources and to the newest 2.0.x that the registry has; report offsets, fuzz and rejects
    Check(Check),
}

#[derive(clap::Args)]
struct Check {
    /// Only the pinned sources; nothing is fetched
    #[arg(long)]
    pinned: bool,
}

pub fn run(args: Args) -> Result<()> {
    let What::Check(args) = args.what;
    let layout = Layout::new(&paths::root());
    let pinned = tell("the pinned sources", &check::pinned(&layout)?);
    if !args.pinned {
        let (version, fits) = check::newest(&layout)?;
        tell(&format!("the newest sources (libduckdb-sys {version})"), &fits);
    }
    // What the newest sources need is upkeep; what the pinned ones need is a fault.
    if !pinned {
        bail!("the series does not fit the sources that it is for");
    }
    Ok(())
}

/// For the tests, which ask no registry.
pub fn check_pinned() -> Result<()> {
    run(Args { what: What::Check(Check { pinned: true }) })
}

/// Prints how the patches fit, and says whether all do exactly.
fn tell(sources: &str, fits: &[Fit]) -> bool {
    println!("{sources}:");
    for Fit { patch, exact, offset, fuzz, rejected } in fits {
        let counts = [(offset.len(), "offset"), (fuzz.len(), "fuzz"), (rejected.len(), "rejected")];
        let rest: String =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(", {count} {what}")).collect();
        println!("  {patch}: {exact} exact{rest}");
        offset.iter().chain(fuzz).chain(rejected).for_each(|told| println!("    {told}"));
    }
    fits.iter().all(|fit| fit.offset.is_empty() && fit.fuzz.is_empty() && fit.rejected.is_empty())
}
