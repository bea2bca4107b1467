//! The report of a comparison: report.json, times.csv, report.md, and one HTML file that needs nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use crate::machine::Machine;
use crate::markdown;
use crate::queries::QUERIES;
use crate::run::{Configuration, Times, program_name};
use crate::stats::{Paired, mean, median, quantile};
use crate::worker::{Calls, Hooks, Reloads, Swapped};

/// What `cold` means, told wherever cold times are shown.
pub const COLD: &str = "The process is fresh; before each query the database is attached anew, so that DuckDB holds no block of it, and its file is \
    dropped from the kernel's page cache. Metadata and statistics are read again too.";

/// Everything that was measured. Times are seconds unless the name says otherwise, sizes bytes.
#[derive(Serialize)]
pub struct Report {
    /// How the hooks got into the engine: `graft` or `engine`.
    pub carrier: String,
    pub sf: f64,
    pub runs: usize,
    pub threads: usize,
    pub memory: Option<String>,
    /// Hot executions of a query in a run, of which the median is the run's time; at most so many.
    pub repeats: u32,
    /// No further one began once those of a query took so long.
    pub repeat_s: Option<f64>,
    pub cold_runs: usize,
    pub cold: &'static str,
    /// Programs of the attached configuration.
    pub programs: Vec<String>,
    pub machine: Machine,
    pub queries: Vec<Query>,
    pub summary: Summary,
    /// Further sets of programs, each against stock.
    pub sets: Vec<Set>,
    pub reload: Vec<Reload>,
    /// What an empty SELECT takes at the client of those reloads. Microseconds.
    pub statement_us: Option<f64>,
    pub swap: Option<Swap>,
    pub sizes: Sizes,
    /// Other builds of DuckDB, without hooks, against stock: for information.
    pub others: Vec<Set>,
    /// Of the engine.
    pub boot: Option<Boot>,
    /// This report's numbers, and those of the other carrier's report at this scale factor, where there is one.
    pub carriers: Vec<Carrier>,
}

/// From the start of a process to its first result with the database open. Medians in microseconds.
#[derive(Serialize)]
pub struct Boot {
    pub starts: usize,
    pub plain_us: f64,
    /// With the extension loaded and the programs of the attached configuration set.
    pub hooked_us: f64,
}

/// What one carrier's hooks cost, in short.
#[derive(Serialize)]
pub struct Carrier {
    pub carrier: String,
    pub runs: u64,
    /// Sum of the queries' medians on its own stock. Seconds.
    pub stock_s: f64,
    pub detached: Option<f64>,
    pub interval_detached: Option<[f64; 2]>,
    pub attached: Option<f64>,
    pub interval_attached: Option<[f64; 2]>,
    /// Hook calls of one pass over the queries, keys left out.
    pub calls: u64,
}

impl Carrier {
    /// From a report.json; None from one that this version does not know.
    fn of(report: &Value) -> Option<Self> {
        let summary = &report["summary"];
        let interval = |name: &str| Some([summary[name][0].as_f64()?, summary[name][1].as_f64()?]);
        let queries = report["queries"].as_array()?;
        let calls = |query: &Value| {
            let hooks = query["calls"].as_object().into_iter().flatten().filter(|(hook, _)| *hook != "hash_keys");
            hooks.filter_map(|(_, calls)| calls.as_u64()).sum::<u64>()
        };
        Some(Self {
            carrier: report["carrier"].as_str()?.to_owned(),
            runs: report["runs"].as_u64()?,
            stock_s: queries.iter().map(|query| query["stock"]["median_s"].as_f64()).sum::<Option<f64>>()?,
            detached: summary["geomean_detached"].as_f64(),
            interval_detached: interval("interval_detached"),
            attached: summary["geomean_attached"].as_f64(),
            interval_attached: interval("interval_attached"),
            calls: queries.iter().map(calls).sum(),
        })
    }
}

#[derive(Serialize)]
pub struct Query {
    pub query: usize,
    pub stock_s: Vec<f64>,
    pub detached_s: Vec<f64>,
    pub attached_s: Vec<f64>,
    pub cold_stock_s: Vec<f64>,
    pub cold_detached_s: Vec<f64>,
    pub cold_attached_s: Vec<f64>,
    pub stock: Option<Summarised>,
    pub detached: Option<Summarised>,
    pub attached: Option<Summarised>,
    /// Calls of one run by hook, `hash` in vectors; and `hash_keys`.
    pub calls: BTreeMap<String, u64>,
    /// Whether every result of every configuration was the same, bit for bit, and the reference answer where there is one.
    pub equal: bool,
}

/// Times of one query in one configuration.
#[derive(Serialize)]
pub struct Summarised {
    pub median_s: f64,
    pub mean_s: f64,
    /// Against stock's, and its 95% interval.
    pub ratio: Option<f64>,
    pub interval: Option<[f64; 2]>,
}

#[derive(Serialize)]
pub struct Summary {
    pub geomean_detached: Option<f64>,
    pub geomean_attached: Option<f64>,
    pub worst_attached: Option<Worst>,
    pub interval_detached: Option<[f64; 2]>,
    pub interval_attached: Option<[f64; 2]>,
}

#[derive(Serialize)]
pub struct Worst {
    pub query: usize,
    pub ratio: f64,
}

/// One set of programs against stock.
#[derive(Serialize)]
pub struct Set {
    pub name: String,
    pub programs: Vec<String>,
    pub geomean: Option<f64>,
    pub interval: Option<[f64; 2]>,
    pub worst: Option<Worst>,
    /// By query, from 1.
    pub times_s: Vec<Vec<f64>>,
}

/// Replacing a program by itself, the file read anew. Microseconds.
#[derive(Serialize)]
pub struct Reload {
    pub program: String,
    /// The whole SQL statement.
    pub p50_us: f64,
    pub p99_us: f64,
    /// Median of what the phases within take together.
    pub phases_us: f64,
    /// Medians of the phases.
    pub read_us: f64,
    pub parse_us: f64,
    pub check_us: f64,
    pub compile_us: f64,
    pub quality_us: f64,
    pub publish_us: f64,
}

/// Swaps of programs while queries run.
#[derive(Serialize)]
pub struct Swap {
    pub clients: usize,
    pub swaps: usize,
    pub results: u64,
    pub wrong: u64,
    pub failed: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
}

/// Bytes.
#[derive(Default, Serialize)]
pub struct Sizes {
    /// DuckDB's own library, in the wheel.
    pub wheel_library: Option<u64>,
    pub graft: Option<u64>,
    /// With the graft inside.
    pub extension: Option<u64>,
    /// The engine's libraries, stripped.
    pub stock_library: Option<u64>,
    pub hooked_library: Option<u64>,
    pub programs: BTreeMap<String, u64>,
}

/// The three configurations that every report has; detached and attached may be missing.
pub struct Measured<'a> {
    pub stock: &'a Times,
    pub detached: Option<&'a Times>,
    pub attached: Option<&'a Times>,
    pub calls: &'a [Calls],
}

impl Measured<'_> {
    /// One entry a query.
    pub fn queries(&self) -> Vec<Query> {
        (0..QUERIES.len()).map(|index| self.query(index)).collect()
    }

    fn query(&self, index: usize) -> Query {
        let stock = &self.stock[index];
        let detached = self.detached.map(|times| times[index].clone()).unwrap_or_default();
        let attached = self.attached.map(|times| times[index].clone()).unwrap_or_default();
        let mut calls = BTreeMap::new();
        if let Some(counted) = self.calls.get(index) {
            calls = counted.calls.clone();
            calls.insert("hash_keys".to_owned(), counted.hash_keys);
        }
        let results: BTreeSet<_> =
            [&stock.digests, &detached.digests, &attached.digests].into_iter().flatten().collect();
        Query {
            query: QUERIES[index].number,
            stock: summarise(&stock.hot_s, &stock.hot_s),
            detached: summarise(&stock.hot_s, &detached.hot_s),
            attached: summarise(&stock.hot_s, &attached.hot_s),
            stock_s: stock.hot_s.clone(),
            detached_s: detached.hot_s,
            attached_s: attached.hot_s,
            cold_stock_s: stock.cold_s.clone(),
            cold_detached_s: detached.cold_s,
            cold_attached_s: attached.cold_s,
            calls,
            equal: results.len() == 1,
        }
    }

    /// Over all queries.
    pub fn summary(&self) -> Summary {
        let detached = self.detached.map(|times| pair(self.stock, times));
        let attached = self.attached.map(|times| pair(self.stock, times));
        Summary {
            geomean_detached: detached.as_ref().and_then(Paired::ratio),
            geomean_attached: attached.as_ref().and_then(Paired::ratio),
            worst_attached: self.attached.and_then(|times| worst(self.stock, times)),
            interval_detached: detached.as_ref().and_then(Paired::interval),
            interval_attached: attached.as_ref().and_then(Paired::interval),
        }
    }
}

impl Query {
    fn table_row(&self) -> String {
        let ratio =
            |summarised: &Option<Summarised>| percent(summarised.as_ref().and_then(|summarised| summarised.ratio));
        let stock = self.stock.as_ref().map_or_else(|| "-".to_owned(), |stock| format!("{:.2}", stock.median_s * 1e3));
        // Keys are counted beside the vectors that they come in.
        let calls: u64 = self.calls.iter().filter(|(hook, _)| *hook != "hash_keys").map(|(_, calls)| calls).sum();
        let equal = if self.equal { "equal" } else { "DIFFERENT" };
        let (detached, attached) = (ratio(&self.detached), ratio(&self.attached));
        format!("{:>5} {stock:>12} {detached:>10} {attached:>10} {calls:>13}  {equal}\n", format!("Q{}", self.query))
    }
}

fn geomean_row(name: &str, ratio: Option<f64>, interval: Option<[f64; 2]>) -> String {
    let interval = interval.map_or_else(String::new, |[low, high]| format!(", 95% interval {low:.4} to {high:.4}"));
    ratio.map_or_else(String::new, |ratio| format!("geometric mean {name}/stock: {ratio:.4}{interval}\n"))
}

/// What a ratio adds or saves; `-` where there is none.
pub(crate) fn percent(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:+.1}%", (ratio - 1.0) * 100.0))
}

fn summarise(stock: &[f64], times: &[f64]) -> Option<Summarised> {
    let paired = Paired::new([(stock, times)]);
    Some(Summarised {
        median_s: median(times)?,
        mean_s: mean(times)?,
        ratio: paired.ratio(),
        interval: paired.interval(),
    })
}

fn pair<'a>(stock: &'a Times, times: &'a Times) -> Paired<'a> {
    Paired::new(stock.iter().zip(times).map(|(stock, other)| (stock.hot_s.as_slice(), other.hot_s.as_slice())))
}

fn worst(stock: &Times, times: &Times) -> Option<Worst> {
    let ratios = stock.iter().zip(times).zip(&QUERIES).filter_map(|((stock, other), query)| {
        Some(Worst {
            query: query.number,
            ratio: Paired::new([(stock.hot_s.as_slice(), other.hot_s.as_slice())]).ratio()?,
        })
    });
    ratios.max_by(|one, other| one.ratio.total_cmp(&other.ratio))
}

impl Set {
    /// A further configuration's times against stock's.
    pub fn new(configuration: &Configuration, stock: &Times, times: &Times) -> Self {
        let programs = match &configuration.hooks {
            Hooks::Stock | Hooks::Other(_) => [].as_slice(),
            Hooks::Loaded(programs) | Hooks::Watched(programs) => programs.as_slice(),
        };
        let paired = pair(stock, times);
        Self {
            name: configuration.name.clone(),
            programs: programs.iter().map(|path| program_name(path)).collect(),
            geomean: paired.ratio(),
            interval: paired.interval(),
            worst: worst(stock, times),
            times_s: times.iter().map(|samples| samples.hot_s.clone()).collect(),
        }
    }
}

impl Reload {
    /// None of no samples.
    pub fn new(program: &str, reloads: &Reloads) -> Option<Self> {
        let phases = [
            &reloads.read_ns,
            &reloads.parse_ns,
            &reloads.check_ns,
            &reloads.compile_ns,
            &reloads.quality_ns,
            &reloads.publish_ns,
        ];
        let together: Vec<u64> = (0..reloads.total_ns.len())
            .map(|reload| phases.iter().filter_map(|phase| phase.get(reload)).sum())
            .collect();
        Some(Self {
            program: program.to_owned(),
            p50_us: quantile_us(&reloads.total_ns, 0.5)?,
            p99_us: quantile_us(&reloads.total_ns, 0.99)?,
            phases_us: quantile_us(&together, 0.5)?,
            read_us: quantile_us(&reloads.read_ns, 0.5)?,
            parse_us: quantile_us(&reloads.parse_ns, 0.5)?,
            check_us: quantile_us(&reloads.check_ns, 0.5)?,
            compile_us: quantile_us(&reloads.compile_ns, 0.5)?,
            quality_us: quantile_us(&reloads.quality_ns, 0.5)?,
            publish_us: quantile_us(&reloads.publish_ns, 0.5)?,
        })
    }
}

/// Of nanoseconds, in microseconds. None of none.
pub fn quantile_us(ns: &[u64], q: f64) -> Option<f64> {
    quantile(&ns.iter().map(|ns| *ns as f64 / 1e3).collect::<Vec<_>>(), q)
}

impl Swap {
    /// None when nothing was swapped.
    pub fn new(clients: usize, swapped: &Swapped) -> Option<Self> {
        Some(Self {
            clients,
            swaps: swapped.swap_ns.len(),
            results: swapped.results,
            wrong: swapped.wrong,
            failed: swapped.failed,
            p50_us: quantile_us(&swapped.swap_ns, 0.5)?,
            p99_us: quantile_us(&swapped.swap_ns, 0.99)?,
            max_us: quantile_us(&swapped.swap_ns, 1.0)?,
        })
    }
}

impl fmt::Display for Swap {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: f64| us / 1e3;
        let Self { swaps, results, wrong, failed, .. } = self;
        let (p50, p99, max) = (ms(self.p50_us), ms(self.p99_us), ms(self.max_us));
        write!(out, "{swaps} swaps, median {p50:.2} ms, 99th percentile {p99:.2} ms, slowest {max:.2} ms; ")?;
        write!(out, "{results} results, {wrong} wrong, {failed} failed")
    }
}

impl Report {
    /// For the terminal.
    pub fn table(&self) -> String {
        let mut table = format!(
            "{:>5} {:>12} {:>10} {:>10} {:>13}  {}\n",
            "query", "stock ms", "detached", "attached", "hook calls", "results"
        );
        for query in &self.queries {
            table.push_str(&query.table_row());
        }
        let Summary { geomean_detached, geomean_attached, interval_detached, interval_attached, worst_attached } =
            &self.summary;
        table.push_str(&geomean_row("detached", *geomean_detached, *interval_detached));
        table.push_str(&geomean_row("attached", *geomean_attached, *interval_attached));
        for set in &self.sets {
            table.push_str(&geomean_row(&set.name, set.geomean, set.interval));
        }
        if let Some(Worst { query, ratio }) = worst_attached {
            table.push_str(&format!("worst query attached: Q{query}, {}\n", percent(Some(*ratio))));
        }
        table
    }

    /// Puts the other carrier's report, if its folder has one, beside this one.
    pub fn beside(mut self, other: &Path) -> Result<Self> {
        let text = fs::read_to_string(other.join("report.json")).unwrap_or_default();
        let other = serde_json::from_str(&text).ok().and_then(|report| Carrier::of(&report));
        self.carriers = Carrier::of(&serde_json::to_value(&self)?).into_iter().chain(other).collect();
        Ok(self)
    }

    /// Writes report.json, times.csv, report.md and report.html into a folder and returns the path of the last.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let put = |name: &str, content: &[u8]| {
            let path = folder.join(name);
            fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        put("report.json", &serde_json::to_vec_pretty(self)?)?;
        put("times.csv", &self.csv()?)?;
        put("report.md", markdown::of(self).as_bytes())?;
        put("report.html", self.html()?.as_bytes())
    }

    fn csv(&self) -> Result<Vec<u8>> {
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(["query", "configuration", "temperature", "run", "seconds"])?;
        for query in &self.queries {
            let series = [
                ("stock", "hot", &query.stock_s),
                ("detached", "hot", &query.detached_s),
                ("attached", "hot", &query.attached_s),
                ("stock", "cold", &query.cold_stock_s),
                ("detached", "cold", &query.cold_detached_s),
                ("attached", "cold", &query.cold_attached_s),
            ];
            for (configuration, temperature, times) in series {
                for (run, seconds) in times.iter().enumerate() {
                    csv.serialize((query.query, configuration, temperature, run + 1, seconds))?;
                }
            }
        }
        for set in &self.sets {
            for (query, times) in self.queries.iter().zip(&set.times_s) {
                for (run, seconds) in times.iter().enumerate() {
                    csv.serialize((query.query, &set.name, "hot", run + 1, seconds))?;
                }
            }
        }
        csv.into_inner().context("cannot finish the CSV")
    }

    fn html(&self) -> Result<String> {
        // `<` never needs to stand for itself in JSON; escaped, no text can end the script that holds it.
        let data = serde_json::to_string(self)?.replace('<', "\\u003c");
        Ok(include_str!("../report/page.html")
            .replace("/*style*/", include_str!("../report/style.css"))
            .replace("/*script*/", include_str!("../report/figures.js"))
            .replace("/*data*/", &data))
    }
}
