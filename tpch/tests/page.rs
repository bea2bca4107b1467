//! The report's page, opened in a headless Chromium: the figures are drawn, with as many marks as there are numbers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use duckbpf_tpch::machine::Machine;
use duckbpf_tpch::report::{Boot, COLD, Measured, Reload, Report, Set, Sizes, Swap};
use duckbpf_tpch::run::{Configuration, Samples, Times};
use duckbpf_tpch::worker::{Calls, Hooks, Host, Reloads, Swapped};

const QUERIES: usize = 22;
const HOOKS: [&str; 7] =
    ["hash", "schedule_task", "execute_forever", "load", "update_used_memory", "allocate_new_block", "unpin"];

/// Times of 22 queries in 3 runs, `factor` times those of stock.
fn times(factor: f64) -> Times {
    (1..=QUERIES)
        .map(|query| {
            let hot_s: Vec<f64> = [1.0, 1.02, 0.99].iter().map(|run| run * factor * 0.01 * query as f64).collect();
            let cold_s = hot_s.iter().map(|hot| hot * 2.0).collect();
            Samples { hot_s, cold_s, digests: [format!("digest {query}")].into() }
        })
        .collect()
}

fn report() -> Report {
    let (stock, detached, attached, one) = (times(1.0), times(1.0), times(1.05), times(1.01));
    let calls: Vec<Calls> = (1..=QUERIES as u64)
        .map(|query| Calls {
            calls: HOOKS.iter().zip(0..).map(|(hook, place)| (hook.to_string(), query * 10 * place)).collect(),
            hash_keys: query * 1000,
        })
        .collect();
    let measured = Measured { stock: &stock, detached: Some(&detached), attached: Some(&attached), calls: &calls };
    let programs: Vec<String> = HOOKS.iter().map(|hook| format!("default_{hook}")).collect();
    let phase = || vec![10_000, 12_000, 11_000];
    let reloads = Reloads {
        total_ns: vec![150_000, 160_000, 170_000],
        read_ns: phase(),
        parse_ns: phase(),
        check_ns: phase(),
        compile_ns: phase(),
        quality_ns: vec![0; 3],
        publish_ns: phase(),
    };
    let one_program = Configuration {
        name: "</script> & one".to_owned(),
        hooks: Hooks::Loaded(vec![PathBuf::from("default_unpin.bpf.o")]),
    };
    Report {
        carrier: "graft".to_owned(),
        sf: 0.01,
        runs: 3,
        threads: 2,
        memory: None,
        repeats: 1,
        repeat_s: None,
        cold_runs: 3,
        cold: COLD,
        programs: programs.clone(),
        machine: Machine::here(),
        queries: measured.queries(),
        summary: measured.summary(),
        sets: vec![Set::new(&one_program, &stock, &one)],
        reload: programs.iter().filter_map(|program| Reload::new(program, &reloads)).collect(),
        statement_us: Some(40.0),
        swap: Swap::new(2, &Swapped { results: 9, wrong: 0, failed: 0, swap_ns: vec![500_000, 700_000] }),
        sizes: Sizes {
            wheel_library: Some(58_000_000),
            graft: Some(1_500_000),
            extension: Some(2_800_000),
            stock_library: None,
            hooked_library: None,
            programs: programs.iter().map(|program| (program.clone(), 6_000)).collect(),
        },
        others: Vec::new(),
        boot: None,
        carriers: Vec::new(),
    }
}

/// An engine's, with the other carrier's report beside it.
fn engine_report(folder: &Path) -> Report {
    let graft = folder.join("graft");
    report().write(&graft).unwrap();
    let (stock, wheel) = (times(1.0), times(0.9));
    let host = Host::Wheel { python: PathBuf::from("python3") };
    let other = Configuration { name: "official wheel".to_owned(), hooks: Hooks::Other(host) };
    let engine = Report {
        carrier: "engine".to_owned(),
        others: vec![Set::new(&other, &stock, &wheel)],
        boot: Some(Boot { starts: 20, plain_us: 30_000.0, hooked_us: 45_000.0 }),
        ..report()
    };
    engine.beside(&graft).unwrap()
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn the_report_has_the_keys_that_its_readers_know() {
    let folder = folder("keys");
    report().write(&folder).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap();
    let has = |value: &serde_json::Value, keys: &[&str]| {
        for key in keys {
            assert!(value.get(key).is_some_and(|value| !value.is_null()), "{key} is missing");
        }
    };
    has(&json, &["carrier", "sf", "runs", "threads", "queries", "summary", "reload", "sizes"]);
    has(
        &json["summary"],
        &["geomean_detached", "geomean_attached", "worst_attached", "interval_detached", "interval_attached"],
    );
    has(&json["summary"]["worst_attached"], &["query", "ratio"]);
    has(&json["reload"][0], &["program", "p50_us", "p99_us"]);
    assert_eq!(json["reload"][0]["phases_us"], 55.0);
    let query = &json["queries"][21];
    has(
        query,
        &[
            "query",
            "stock_s",
            "detached_s",
            "attached_s",
            "cold_stock_s",
            "cold_detached_s",
            "cold_attached_s",
            "equal",
        ],
    );
    has(&query["calls"], &["hash_keys"]);
    has(&query["calls"], &HOOKS);
    assert_eq!(query["calls"]["hash"], 0, "a hook that was not called is told with 0");
    assert_eq!(json["summary"]["interval_detached"], serde_json::json!([1.0, 1.0]));
    let csv = fs::read_to_string(folder.join("times.csv")).unwrap();
    // A header; three configurations hot and cold, one set hot, three runs each.
    assert_eq!(csv.lines().count(), 1 + QUERIES * 3 * 7);
    let markdown = fs::read_to_string(folder.join("report.md")).unwrap();
    assert!(markdown.contains("Results equal in every run, bit for bit: 22 of 22 queries."), "{markdown}");
    // Four tables: the sets, the queries hot and cold, the reloads.
    assert_eq!(markdown.matches("|---|").count(), 4, "{markdown}");
}

#[test]
fn the_table_names_a_query_whose_results_differ() {
    let (stock, mut attached) = (times(1.0), times(1.05));
    attached[4].digests = ["another".to_owned()].into();
    let measured = Measured { stock: &stock, detached: None, attached: Some(&attached), calls: &[] };
    let report = Report { queries: measured.queries(), summary: measured.summary(), ..report() };
    let table = report.table();
    let different: Vec<_> = table.lines().filter(|line| line.contains("DIFFERENT")).collect();
    assert!(matches!(different.as_slice(), [line] if line.contains("Q5") && line.contains("+5.0%")), "{table}");
}

#[test]
fn both_carriers_are_on_the_engines_page() {
    let folder = folder("engine");
    let report = engine_report(&folder);
    let names: Vec<_> = report.carriers.iter().map(|carrier| carrier.carrier.as_str()).collect();
    assert_eq!(names, ["engine", "graft"]);
    let calls = report.queries.iter().flat_map(|query| &query.calls).filter(|(hook, _)| *hook != "hash_keys");
    assert_eq!(report.carriers[1].calls, calls.map(|(_, calls)| calls).sum::<u64>());
    let page = report.write(&folder).unwrap().canonicalize().unwrap();
    let Some(dom) = dom(&page, &folder.join("profile")) else { return };
    let figures = sections(&dom);
    assert_eq!(figures["carriers"].matches("<tr>").count(), 1 + 2);
    assert_eq!(figures["others"].matches("class=\"mark\"").count(), 1);
    assert_eq!(figures["boot"].matches("class=\"mark\"").count(), 4);
    assert!(!dom.contains("NaN") && !dom.contains("undefined"), "a number is missing");
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let page = fs::read_to_string(report().write(&folder("alone")).unwrap()).unwrap();
    let namespace = "http://www.w3.org/2000/svg";
    assert_eq!(page.matches("http").count(), page.matches(namespace).count(), "the page refers to something outside");
    assert!(!page.contains("src=") && !page.contains("href=") && !page.contains("@import") && !page.contains("url("));
}

#[test]
fn chromium_draws_the_figures() {
    let folder = folder("drawn");
    let page = report().write(&folder).unwrap().canonicalize().unwrap();
    let Some(dom) = dom(&page, &folder.join("profile")) else { return };
    let figures = sections(&dom);
    let marks =
        |id: &str| figures.get(id).unwrap_or_else(|| panic!("no figure {id}")).matches("class=\"mark\"").count();
    assert_eq!(marks("ratios"), (1 + QUERIES) * 2);
    assert_eq!(marks("times"), QUERIES * 3);
    assert_eq!(marks("calls"), QUERIES * (HOOKS.len() + 1));
    assert_eq!(marks("sets"), 2);
    // The statement and the five phases that took time.
    assert_eq!(marks("reload"), HOOKS.len() * 6);
    // The library, the extension, the graft, seven programs, and two of the thesis.
    assert_eq!(marks("sizes"), 12);
    assert_eq!(figures["numbers"].matches("<tr>").count(), 1 + QUERIES);
    assert!(dom.contains("&lt;/script&gt; &amp; one"), "names are shown as they are");
    assert!(!dom.contains("NaN") && !dom.contains("undefined"), "a number is missing");
}

/// The document after its script ran. None, and loud, where there is no Chromium.
fn dom(page: &Path, profile: &Path) -> Option<String> {
    let flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1100,900",
        "--dump-dom",
    ];
    let output = Command::new("chromium")
        .args(flags)
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", page.display()))
        .stderr(Stdio::null())
        .output();
    match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: there is no chromium; on Debian, `apt-get install chromium` brings it");
            None
        }
        output => Some(String::from_utf8(output.unwrap().stdout).unwrap()),
    }
}

/// The sections of a document, by their id.
fn sections(dom: &str) -> BTreeMap<&str, &str> {
    dom.split("<section id=\"").skip(1).filter_map(|section| section.split_once('"')).collect()
}
