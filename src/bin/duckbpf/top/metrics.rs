//! The counters as OpenMetrics, for Prometheus and its like. Each scrape is a look at the database.

use std::net::SocketAddr;

use anyhow::{Context, Result, anyhow};
use duckbpf_control::{Hello, Map, Point, Program, Stats};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};
use tiny_http::{Header, Method, Response, Server};

use super::Watch;

const CONTENT_TYPE: &str = "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers scrapes until the database goes away.
pub fn serve(address: SocketAddr, watch: &mut Watch) -> Result<()> {
    let server = Server::http(address).map_err(|error| anyhow!("cannot listen on {address}: {error}"))?;
    // With port 0 the system has chosen one.
    eprintln!("metrics at http://{}/metrics; Ctrl-C ends it", server.server_addr());
    let header: Header = CONTENT_TYPE.parse().map_err(|()| anyhow!("a header that is none: {CONTENT_TYPE}"))?;
    for request in server.incoming_requests() {
        let sent = if request.url() != "/metrics" || *request.method() != Method::Get {
            request.respond(Response::from_string("GET /metrics\n").with_status_code(404))
        } else {
            let stats = watch.look()?;
            let text = render(&watch.hello, stats)?;
            request.respond(Response::from_string(text).with_header(header.clone()))
        };
        if let Err(error) = sent {
            eprintln!("a client went away: {error}");
        }
    }
    Ok(())
}

/// The text of one scrape.
fn render(hello: &Hello, stats: Stats) -> Result<String> {
    let mut registry = Registry::with_prefix("duckbpf");
    registry.register_collector(Box::new(Look { hello: hello.clone(), stats }));
    let mut text = String::new();
    encode(&mut text, &registry).context("metrics that cannot be written")?;
    Ok(text)
}

#[derive(Debug)]
struct Look {
    hello: Hello,
    stats: Stats,
}

type Labels = Vec<(&'static str, String)>;
type Written = Result<(), std::fmt::Error>;

impl Collector for Look {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Written {
        let Hello { version, duckdb, carrier, .. } = &self.hello;
        let labels = vec![("version", version.as_str()), ("duckdb", duckdb), ("carrier", carrier)];
        gauges(&mut to, "build", "What answers: always 1", None, [(labels, 1u64)])?;
        self.points(&mut to)?;
        self.programs(&mut to)?;
        self.maps(&mut to)
    }
}

impl Look {
    fn points(&self, to: &mut DescriptorEncoder<'_>) -> Written {
        let points = &self.stats.points;
        let of = |point: &'_ Point| vec![("hook", point.hook.clone())];
        let each = |value: fn(&Point) -> u64| points.iter().map(move |point| (of(point), value(point)));
        counters(
            to,
            "hook_calls",
            "Calls of programs; of hash programs, vectors",
            None,
            each(|point| point.counts.calls),
        )?;
        counters(
            to,
            "hook_decisions_applied",
            "Decisions that were followed",
            None,
            each(|point| point.counts.applied),
        )?;
        let refusals = points.iter().flat_map(|point| {
            let labels = |reason: &String| vec![("hook", point.hook.clone()), ("reason", reason.clone())];
            point.counts.refusals.iter().map(move |(reason, count)| (labels(reason), *count))
        });
        counters(to, "hook_decisions_refused", "Decisions that were not followed", None, refusals)?;
        counters(to, "hook_keys", "Keys that were hashed", None, each(|point| point.counts.keys))
    }

    fn programs(&self, to: &mut DescriptorEncoder<'_>) -> Written {
        let of = |program: &Program| {
            let Program { name, entry, hook, tag, .. } = program;
            vec![("program", name.clone()), ("entry", entry.clone()), ("hook", hook.clone()), ("tag", tag.clone())]
        };
        let programs = || self.stats.programs.iter();
        let calls = programs().map(|program| (of(program), program.counts.calls));
        counters(to, "program_calls", "Calls since the program was attached", None, calls)?;
        let time = programs().map(|program| (of(program), program.run_time_ns as f64 / 1e9));
        counters(
            to,
            "program_run_time",
            "Time in the program, an estimate from one call in 64",
            Some(&Unit::Seconds),
            time,
        )?;
        let code = programs().map(|program| (of(program), program.machine_code_bytes));
        gauges(to, "program_machine_code", "Machine code", Some(&Unit::Bytes), code)
    }

    fn maps(&self, to: &mut DescriptorEncoder<'_>) -> Written {
        let of = |map: &Map| {
            let owner = map.owner.clone().unwrap_or_default();
            vec![("program", owner), ("map", map.name.clone()), ("type", map.kind.clone())]
        };
        let maps = || self.stats.maps.iter();
        gauges(
            to,
            "map_entries",
            "Entries; of ring buffers, bytes that wait",
            None,
            maps().map(|map| (of(map), map.entries)),
        )?;
        gauges(
            to,
            "map_memory",
            "Memory of the map",
            Some(&Unit::Bytes),
            maps().map(|map| (of(map), map.memory_bytes)),
        )?;
        let lost = maps().filter(|map| map.kind == "ringbuf").map(|map| (of(map), map.lost));
        counters(to, "map_lost_records", "Records for which a ring buffer had no room", None, lost)?;
        let (used, limit) = (self.stats.map_memory, self.stats.map_memory_limit);
        gauge(to, "maps_memory", "Memory of all maps", used)?;
        gauge(to, "maps_memory_limit", "Memory that all maps may take (hook_map_memory)", limit)
    }
}

fn counters<L: AsRef<str>, V: EncodeCounterValue>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    values: impl IntoIterator<Item = (Vec<(&'static str, L)>, V)>,
) -> Written {
    let values = values.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value)));
    family(to, name, help, unit, MetricType::Counter, values)
}

fn gauges<L: AsRef<str>, V: EncodeGaugeValue>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    values: impl IntoIterator<Item = (Vec<(&'static str, L)>, V)>,
) -> Written {
    let values = values.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value)));
    family(to, name, help, unit, MetricType::Gauge, values)
}

/// One metric with several sets of labels.
fn family<L: AsRef<str>, M: EncodeMetric>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    kind: MetricType,
    values: impl Iterator<Item = (Vec<(&'static str, L)>, M)>,
) -> Written {
    let mut metric = to.encode_descriptor(name, help, unit, kind)?;
    for (labels, value) in values {
        let labels: Labels = labels.iter().map(|(name, label)| (*name, escaped(label.as_ref()))).collect();
        value.encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

/// A label's value as OpenMetrics quotes it: names of files are programs' names, and hold anything.
fn escaped(label: &str) -> String {
    label.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

/// Bytes of the whole process.
fn gauge(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, bytes: u64) -> Written {
    ConstGauge::new(bytes).encode(to.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::rates::tests::stats;

    #[test]
    fn names_of_files_are_quoted() {
        assert_eq!(escaped("it's \"größe\"\\1\n"), r#"it's \"größe\"\\1\n"#);
    }

    #[test]
    fn names_have_units_and_totals() {
        let hello = Hello {
            protocol: 1,
            version: "0.1.0".into(),
            pid: 42,
            duckdb: "v2.0.0".into(),
            carrier: "graft".into(),
            series: "x".into(),
        };
        let mut stats = stats(1, 6400, 1_000_000);
        stats.points[0].counts.refusals.insert("pinned".into(), 3);
        let text = render(&hello, stats).unwrap();
        for line in [
            "# TYPE duckbpf_hook_calls counter",
            "duckbpf_hook_calls_total{hook=\"load\"} 6400",
            "duckbpf_hook_decisions_refused_total{hook=\"load\",reason=\"pinned\"} 3",
            "# UNIT duckbpf_program_run_time_seconds seconds",
            "duckbpf_program_run_time_seconds_total{program=\"count_calls\",entry=\"count_load\",hook=\"load\",tag=\"0123456789abcdef\"} 0.064",
            "duckbpf_map_memory_bytes{program=\"count_calls\",map=\"calls\",type=\"percpu_array\"} 4096",
            "duckbpf_maps_memory_limit_bytes 268435456",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
        }
    }
}
