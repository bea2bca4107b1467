//! Policies on the storage hooks: what stays in memory, when it is written, how it is read.

use super::{Better, Metric, Policy, Run};

const STOCK: Run = Run { name: "stock", programs: None, baseline: None };

pub static POLICIES: &[Policy] = &[
    Policy {
        name: "read-ahead",
        workload: "three scans of lineitem, nothing of it in DuckDB's memory, 1 ms a read; and the same from the system's cache",
        script: "read_ahead.py",
        scale_factor: Some(20.0),
        rounds: 5,
        runs: &[STOCK, Run { name: "attached", programs: Some(&[("read-ahead", "")]), baseline: None }],
        score: Metric { name: "slow_s", better: Better::Lower },
        losses: &[Metric { name: "cached_s", better: Better::Lower }],
    },
    Policy {
        name: "calm-checkpoints",
        workload: "inserts of 200 rows every 6 ms, an update with every fifth, 150 ms idle every 3 s; p99.9 of latencies",
        script: "calm_checkpoints.py",
        scale_factor: None,
        rounds: 3,
        runs: &[
            STOCK,
            Run { name: "attached", programs: Some(&[("calm-checkpoints", "")]), baseline: None },
            Run { name: "never", programs: None, baseline: None },
        ],
        score: Metric { name: "p999_ms", better: Better::Lower },
        losses: &[
            Metric { name: "p50_ms", better: Better::Lower },
            Metric { name: "recovery_s", better: Better::Lower },
        ],
    },
    Policy {
        name: "scan-resistant",
        workload: "look-ups at fixed times beside scans of four columns of lineitem, at a memory limit of 700 MB; and the scans alone; from the \
                   system's cache and at 1 ms a read; p50 of look-ups beside scans at 1 ms",
        script: "scan_resistant.py",
        scale_factor: Some(20.0),
        rounds: 3,
        runs: &[
            STOCK,
            Run { name: "attached", programs: Some(&[("scan-resistant", "")]), baseline: None },
            Run { name: "unlimited", programs: None, baseline: None },
        ],
        score: Metric { name: "p50_ms_1ms", better: Better::Lower },
        losses: &[
            Metric { name: "p50_ms_cached", better: Better::Lower },
            Metric { name: "scan_s_cached", better: Better::Lower },
            Metric { name: "scans_alone_s_cached", better: Better::Lower },
            Metric { name: "scans_alone_s_1ms", better: Better::Lower },
        ],
    },
];
