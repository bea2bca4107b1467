//! Policies on the storage hooks: what stays in memory, when it is written, how it is read.

use super::{Policy, Run, STOCK, attached, higher, lower};

pub static POLICIES: &[Policy] = &[
    Policy {
        name: "read-ahead",
        workload: "three scans of lineitem, nothing of it in DuckDB's memory, 1 ms a read; and the same from the system's cache",
        script: "read_ahead.py",
        scale_factor: Some(20.0),
        rounds: 5,
        runs: &[STOCK, attached(&[("read-ahead", "")])],
        score: lower("slow_s"),
        losses: &[lower("cached_s")],
    },
    Policy {
        name: "calm-checkpoints",
        workload: "inserts of 200 rows every 6 ms, an update with every fifth, 150 ms idle every 3 s; p99.9 of latencies",
        script: "calm_checkpoints.py",
        scale_factor: None,
        rounds: 3,
        runs: &[STOCK, attached(&[("calm-checkpoints", "")]), Run { name: "never", programs: None, baseline: None }],
        score: lower("p999_ms"),
        losses: &[lower("p50_ms"), lower("recovery_s")],
    },
    Policy {
        name: "scan-resistant",
        workload: "scans of four columns of lineitem, 1.2 GB, at a memory limit of 700 MB, again and again, alone and beside look-ups at fixed times; \
                   from the system's cache and at 1 ms a read; time of a scan alone at 1 ms",
        script: "scan_resistant.py",
        scale_factor: Some(20.0),
        rounds: 3,
        runs: &[
            STOCK,
            attached(&[("scan-resistant", "")]),
            Run {
                name: "with interactive-first",
                programs: Some(&[("scan-resistant", ""), ("interactive-first", "")]),
                baseline: None,
            },
            Run { name: "unlimited", programs: None, baseline: None },
        ],
        score: lower("scans_alone_s_1ms"),
        losses: &[
            lower("scans_alone_s_cached"),
            lower("scan_s_1ms"),
            lower("scan_s_cached"),
            lower("slowdown_p50_1ms"),
            lower("slowdown_p50_cached"),
        ],
    },
    Policy {
        name: "s3-fifo",
        workload: "look-ups of orders with a skew (Zipf, 1.1) beside scans, at a memory limit of 150 MB and 1 ms a read; mean time of look-ups",
        script: "s3_fifo.py",
        scale_factor: Some(20.0),
        rounds: 3,
        runs: &[STOCK, attached(&[("s3-fifo", "")])],
        score: lower("mean_ms"),
        losses: &[lower("p50_ms"), lower("p95_ms"), higher("lookups")],
    },
    Policy {
        name: "hot-light",
        workload: "a table of 1.5 million log lines, loaded anew, nobody scanned it before; its size. And one that was scanned often; its scans",
        script: "hot_light.py",
        scale_factor: None,
        rounds: 3,
        runs: &[STOCK, attached(&[("hot-light", "")])],
        score: lower("cold_mb"),
        losses: &[
            lower("hot_scan_s"),
            lower("cold_scan_s"),
            lower("hot_mb"),
            lower("cold_write_s"),
            lower("hot_write_s"),
        ],
    },
];
