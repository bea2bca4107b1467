//! Two looks at the counters into what happened between them.

use anyhow::Result;
use duckbpf_control::{Counts, Program, Stats};
use serde::Serialize;
use serde_json::{Value, json};

/// What happened between two looks.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    pub seconds: f64,
    /// In the order of the programs.
    pub programs: Vec<Rate>,
}

/// What one program did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rate {
    pub calls_per_second: f64,
    pub applied_per_second: f64,
    pub refused_per_second: f64,
    pub keys_per_second: f64,
    /// Of the calls that were timed meanwhile; null without any.
    pub ns_per_call: Option<f64>,
    /// Of one processor.
    pub cpu_percent: f64,
}

impl Rates {
    pub fn between(before: &Stats, now: &Stats) -> Rates {
        // Two looks in the same nanosecond would divide by nothing.
        let seconds = (now.at_ns.saturating_sub(before.at_ns) as f64 / 1e9).max(1e-9);
        let rate = |program: &Program| {
            let then = before.programs.iter().find(|known| known.id == program.id);
            Rate::of(then.map(|program| &program.counts), &program.counts, seconds)
        };
        Rates { seconds, programs: now.programs.iter().map(rate).collect() }
    }

    /// The look with the rates put in.
    pub fn with(&self, now: &Stats) -> Result<Value> {
        let mut all = serde_json::to_value(now)?;
        all["seconds"] = json!(self.seconds);
        for (index, rate) in self.programs.iter().enumerate() {
            if let (Value::Object(rate), Some(program)) =
                (serde_json::to_value(rate)?, all["programs"][index].as_object_mut())
            {
                program.extend(rate);
            }
        }
        Ok(all)
    }
}

impl Rate {
    /// A program that was not there before began with nothing.
    fn of(then: Option<&Counts>, now: &Counts, seconds: f64) -> Rate {
        let then = then.cloned().unwrap_or_default();
        let per_second = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        let calls_per_second = per_second(now.calls, then.calls);
        let timed = now.timed_calls.saturating_sub(then.timed_calls);
        let ns_per_call = (timed > 0).then(|| now.timed_ns.saturating_sub(then.timed_ns) as f64 / timed as f64);
        Rate {
            calls_per_second,
            applied_per_second: per_second(now.applied, then.applied),
            refused_per_second: per_second(now.refused, then.refused),
            keys_per_second: per_second(now.keys, then.keys),
            ns_per_call,
            cpu_percent: calls_per_second * ns_per_call.unwrap_or(0.0) / 1e7,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use duckbpf_control::{Map, Point};

    /// A look at a database with one program.
    pub fn stats(at_ns: u64, calls: u64, timed_ns: u64) -> Stats {
        let counts = Counts { calls, applied: calls / 2, timed_calls: calls / 64, timed_ns, ..Counts::default() };
        let program = Program {
            id: 5,
            tag: "0123456789abcdef".into(),
            name: "count_calls".into(),
            path: "/p/count_calls.bpf.o".into(),
            entry: "count_load".into(),
            hook: "load".into(),
            generation: 1,
            loaded_at: 0,
            insns: 10,
            machine_code_bytes: 100,
            worst_cost: 50,
            verify_us: 9.5,
            compile_us: 3.0,
            publish_us: 0.1,
            run_time_ns: timed_ns * 64,
            counts: counts.clone(),
        };
        let point = Point {
            hook: "load".into(),
            class: "decider".into(),
            program: Some("count_calls".into()),
            generation: 1,
            counts,
        };
        let map = Map {
            id: 1,
            name: "calls".into(),
            owner: Some("count_calls".into()),
            kind: "percpu_array".into(),
            key_size: 4,
            value_size: 8,
            max_entries: 7,
            entries: 7,
            memory_bytes: 4096,
            pinned: false,
            lost: 0,
        };
        Stats {
            at_ns,
            points: vec![point],
            programs: vec![program],
            maps: vec![map],
            map_memory: 4096,
            map_memory_limit: 1 << 28,
        }
    }

    #[test]
    fn rates_are_of_the_time_between() {
        let (before, now) = (stats(1_000_000_000, 6400, 1000), stats(3_000_000_000, 12800, 3000));
        let rates = Rates::between(&before, &now);
        let rate = rates.programs[0];
        assert_eq!((rates.seconds, rate.calls_per_second, rate.applied_per_second), (2.0, 3200.0, 1600.0));
        assert_eq!(rate.ns_per_call, Some(20.0));
        assert_eq!(rate.cpu_percent, 3200.0 * 20.0 / 1e7);
        let json = rates.with(&now).unwrap();
        assert_eq!(json["programs"][0]["calls_per_second"], 3200.0);
        assert_eq!(json["programs"][0]["calls"], 12800);
        assert_eq!(json["map_memory_limit"], 1 << 28);
    }

    #[test]
    fn a_new_program_and_a_still_one_have_rates_too() {
        let now = stats(2_000_000_000, 640, 10);
        let nothing = Stats { programs: Vec::new(), at_ns: 1_000_000_000, ..now.clone() };
        assert_eq!(Rates::between(&nothing, &now).programs[0].calls_per_second, 640.0);
        let still = Rates::between(&now, &Stats { at_ns: 3_000_000_000, ..now.clone() }).programs[0];
        assert_eq!((still.calls_per_second, still.ns_per_call), (0.0, None));
    }
}
