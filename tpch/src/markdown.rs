//! A report's tables in Markdown, as the book includes them.

use crate::report::{Query, Reload, Report, Set, Summarised, percent};
use crate::stats::median;

const HOOKS: [&str; 8] = [
    "hash",
    "hash_keys",
    "load",
    "unpin",
    "update_used_memory",
    "allocate_new_block",
    "schedule_task",
    "execute_forever",
];

/// Everything of a report that the book shows.
pub fn of(report: &Report) -> String {
    [summary(report), queries(report), cold(report), reloads(&report.reload)].concat()
}

fn summary(report: &Report) -> String {
    let all = &report.summary;
    let total = |times: fn(&Query) -> Option<&Summarised>| {
        let medians: Option<Vec<f64>> = report.queries.iter().map(|query| Some(times(query)?.median_s)).collect();
        cell(medians.map(|medians| format!("{:.2} s", medians.iter().sum::<f64>())))
    };
    let worst = all.worst_attached.as_ref().map(|worst| format!("Q{}, {:.3}", worst.query, worst.ratio));
    let equal = report.queries.iter().filter(|query| query.equal).count();
    let row = |name: &str, total: String, ratio: Option<f64>, interval: Option<[f64; 2]>| {
        vec![name.to_owned(), total, cell(ratio.map(|ratio| format!("{ratio:.4}"))), self::interval(interval)]
    };
    let mut rows = vec![
        row("stock", total(|query| query.stock.as_ref()), None, None),
        row("detached", total(|query| query.detached.as_ref()), all.geomean_detached, all.interval_detached),
        row("attached", total(|query| query.attached.as_ref()), all.geomean_attached, all.interval_attached),
    ];
    rows.extend(
        report.sets.iter().map(|Set { name, geomean, interval, .. }| row(name, cell(None), *geomean, *interval)),
    );
    let head = format!("sf {}, {} runs", report.sf, report.runs);
    format!(
        "{}\nWorst query attached: {}. Results equal in every run, bit for bit: {equal} of {} queries.\n\n",
        table(&[&head, "sum of 22 medians", "geometric mean against stock", "95% interval"], &rows),
        cell(worst),
        report.queries.len(),
    )
}

fn queries(report: &Report) -> String {
    let ratio = |times: &Option<Summarised>| percent(times.as_ref().and_then(|times| times.ratio));
    let row = |query: &Query| -> Vec<String> {
        let stock = query.stock.as_ref().map(|stock| format!("{:.1}", stock.median_s * 1e3));
        let times = [query.query.to_string(), cell(stock), ratio(&query.detached), ratio(&query.attached)];
        let calls = HOOKS.map(|hook| cell(query.calls.get(hook).map(|calls| grouped(*calls))));
        times.into_iter().chain(calls).collect()
    };
    let rows: Vec<_> = report.queries.iter().map(row).collect();
    let head = ["query", "stock ms", "detached", "attached", "hash vectors", "hash keys", "load", "unpin", "memory"];
    format!("{}\n", table(&[&head[..], &["arena", "schedule", "execute"]].concat(), &rows))
}

/// Medians of the runs that had a cold execution; nothing where none had.
fn cold(report: &Report) -> String {
    if report.cold_runs == 0 {
        return String::new();
    }
    let ms = |times: &[f64]| cell(median(times).map(|seconds| format!("{:.1}", seconds * 1e3)));
    let row = |query: &Query| {
        let times = [&query.cold_stock_s, &query.cold_detached_s, &query.cold_attached_s];
        [vec![query.query.to_string()], times.iter().map(|times| ms(times)).collect()].concat()
    };
    let rows: Vec<_> = report.queries.iter().map(row).collect();
    let head = format!("cold ({} runs)", report.cold_runs);
    format!("{}\n", table(&[&head, "stock ms", "detached ms", "attached ms"], &rows))
}

fn reloads(reloads: &[Reload]) -> String {
    let row = |reload: &Reload| {
        let phases = [
            reload.p50_us,
            reload.p99_us,
            reload.phases_us,
            reload.read_us,
            reload.parse_us,
            reload.check_us,
            reload.compile_us,
            reload.quality_us,
            reload.publish_us,
        ];
        [vec![reload.program.clone()], phases.iter().map(|us| format!("{us:.1}")).collect()].concat()
    };
    let rows: Vec<_> = reloads.iter().map(row).collect();
    let head = ["reload, us", "statement p50", "p99", "phases p50", "read", "parse", "check", "compile", "quality"];
    table(&[&head[..], &["publish"]].concat(), &rows)
}

fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head_cells: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    let rule = format!("|---|{}\n", "--:|".repeat(head.len() - 1));
    [line(&head_cells), rule].into_iter().chain(rows.iter().map(|row| line(row))).collect()
}

fn cell(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

fn interval(interval: Option<[f64; 2]>) -> String {
    cell(interval.map(|[low, high]| format!("{low:.4} to {high:.4}")))
}

/// With a comma before every third digit from the end.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut parts: Vec<&str> = digits.as_bytes().rchunks(3).filter_map(|part| std::str::from_utf8(part).ok()).collect();
    parts.reverse();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let shown = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_table_is_markdown() {
        let rows = [vec!["1".to_owned(), "2".to_owned()]];
        assert_eq!(table(&["a", "b"], &rows), "| a | b |\n|---|--:|\n| 1 | 2 |\n");
    }
}
