//! Policies on run_task and its kin: who runs, who waits, who is let in.

use super::{Better, Metric, Policy, Run};

const STOCK: Run = Run { name: "stock", programs: None, baseline: None };
const ALONE: Run = Run { name: "alone", programs: None, baseline: None };

pub static POLICIES: &[Policy] = &[
    Policy {
        name: "interactive-first",
        workload: "four clients loop TPC-H Q9, Q18, Q21, Q13, Q1; an open-loop client sends Q6, Q22, Q2, Q11 at fixed times, 18% of the machine; \
                   slowdown of the latter against the same arrivals alone",
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
        score: Metric { name: "slowdown_p50", better: Better::Lower },
        losses: &[
            Metric { name: "slowdown_p95", better: Better::Lower },
            Metric { name: "heavy_work", better: Better::Higher },
        ],
    },
    Policy {
        name: "fair-tenants",
        workload: "tenant A with eight clients, tenant B with one, all looping TPC-H Q1, Q3, Q6, Q9, Q12, Q14; B's share of the work",
        script: "fair_tenants.py",
        scale_factor: Some(20.0),
        rounds: 3,
        runs: &[
            STOCK,
            Run { name: "attached", programs: Some(&[("fair-tenants", "")]), baseline: None },
            Run { name: "stock, A alone", ..STOCK },
            Run { name: "attached, A alone", programs: Some(&[("fair-tenants", "")]), baseline: None },
        ],
        score: Metric { name: "share_b", better: Better::Higher },
        losses: &[Metric { name: "work", better: Better::Higher }, Metric { name: "busy", better: Better::Higher }],
    },
    Policy {
        name: "memory-admission",
        workload: "eight clients run two each of TPC-H Q9, Q18, Q21, Q13 at a memory limit of 500 MB; time until all are done",
        script: "memory_admission.py",
        scale_factor: Some(20.0),
        rounds: 2,
        runs: &[STOCK, Run { name: "attached", programs: Some(&[("memory-admission", "")]), baseline: None }],
        score: Metric { name: "total_s", better: Better::Lower },
        losses: &[Metric { name: "latency_max_s", better: Better::Lower }],
    },
];
