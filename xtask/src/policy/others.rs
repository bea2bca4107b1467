//! Hashes, and what only watches.

use super::{Metric, Policy, Run, STOCK, attached, lower};

const HASH_WORKLOAD: &str = "joins and aggregates on integer keys: TPC-H's, and 12 million rows of a million even, skewed, strided and random keys; time of all";

/// Where a hash wins, and where it loses.
static HASH_PARTS: &[Metric] = &[
    lower("joins_s"),
    lower("groups_s"),
    lower("even_join_s"),
    lower("even_group_s"),
    lower("skewed_join_s"),
    lower("skewed_group_s"),
    lower("strided_join_s"),
    lower("strided_group_s"),
    lower("random_join_s"),
    lower("random_group_s"),
    lower("tpch_join_s"),
    lower("tpch_group_s"),
    lower("tpch_two_keys_s"),
];

/// What a program costs that answers as stock does; the same loop around stock's own hash.
const DEFAULT: Run = Run { name: "default_hash", programs: Some(&[("default_hash", "")]), baseline: None };

pub static POLICIES: &[Policy] = &[
    Policy {
        name: "wy-hash",
        workload: HASH_WORKLOAD,
        script: "hashes.py",
        scale_factor: Some(20.0),
        rounds: 3,
        runs: &[STOCK, attached(&[("wy-hash", "")]), DEFAULT],
        score: lower("total_s"),
        losses: HASH_PARTS,
    },
    Policy {
        name: "crc-hash",
        workload: HASH_WORKLOAD,
        script: "hashes.py",
        scale_factor: Some(20.0),
        rounds: 3,
        runs: &[STOCK, attached(&[("crc-hash", "")]), DEFAULT],
        score: lower("total_s"),
        losses: HASH_PARTS,
    },
    Policy {
        name: "watchtower",
        workload: "the 22 queries of TPC-H, one after the other, and from four clients at once; time of the former",
        script: "watchtower.py",
        scale_factor: Some(20.0),
        rounds: 5,
        runs: &[
            STOCK,
            attached(&[("watchtower", "")]),
            Run { name: "with events", programs: Some(&[("watchtower", "{sample: 100}")]), baseline: None },
        ],
        score: lower("alone_s"),
        losses: &[lower("together_s")],
    },
];
