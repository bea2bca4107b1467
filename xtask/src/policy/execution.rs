//! Policies on run_task and its kin: who runs, who waits, who is let in.

use super::{Policy, Run, STOCK, attached, higher, lower};

const ALONE: Run = Run { name: "alone", programs: None, baseline: None };

pub static POLICIES: &[Policy] = &[
    Policy {
        name: "interactive-first",
        workload: "four clients run TPC-H Q9, Q18, Q21, Q13, Q1, each all of them once; meanwhile an open-loop client sends Q6, Q22, Q2, Q11 at \
                   fixed times, 18% of the machine; slowdown of the latter against the same arrivals alone",
        script: "interactive_first.py",
        scale_factor: Some(20.0),
        rounds: 3,
        runs: &[
            ALONE,
            Run { baseline: Some("alone"), ..STOCK },
            Run { name: "attached", programs: Some(&[("interactive-first", "")]), baseline: Some("alone") },
            Run {
                name: "first-seen",
                programs: Some(&[("interactive-first", "{remember: 0}")]),
                baseline: Some("alone"),
            },
        ],
        score: lower("slowdown_p50"),
        losses: &[lower("slowdown_p95"), lower("heavy_s")],
    },
    Policy {
        name: "fair-tenants",
        workload: "tenant A with eight clients, tenant B with one, all looping TPC-H Q1, Q3, Q6, Q9, Q12, Q14; B's share of the CPU",
        script: "fair_tenants.py",
        scale_factor: Some(20.0),
        rounds: 3,
        runs: &[
            // The CPU of a tenant's tasks is known only to a program: this one counts, and leaves every decision to DuckDB.
            Run { name: "stock", programs: Some(&[("fair-tenants", "{only_count: 1}")]), baseline: None },
            attached(&[("fair-tenants", "")]),
            Run { name: "untouched", ..STOCK },
            Run { name: "untouched, A alone", ..STOCK },
            Run { name: "attached, A alone", programs: Some(&[("fair-tenants", "")]), baseline: None },
        ],
        score: higher("cpu_share_b"),
        losses: &[higher("work_share_b"), higher("work"), higher("busy")],
    },
    Policy {
        name: "memory-admission",
        workload: "eight clients run TPC-H Q9, Q18, Q21, Q13, two each, at once at a memory limit of 500 MB, and send a query that ran out of memory again; \
                   time until all have their results",
        script: "memory_admission.py",
        scale_factor: Some(20.0),
        rounds: 2,
        runs: &[STOCK, attached(&[("memory-admission", "")])],
        score: lower("total_s"),
        losses: &[lower("latency_p50_s"), lower("slowdown_max")],
    },
];
