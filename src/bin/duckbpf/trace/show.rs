//! What maps and events look like to people, in bpftrace's form, and as JSON.

use std::{collections::BTreeMap, fmt::Write};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::generate::{Kind, Shape};

/// Columns of a histogram's bars.
const WIDTH: usize = 52;

/// A map's content, the values of threads put together.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub name: String,
    pub shape: Shape,
    pub rows: Vec<(Vec<i128>, Cell)>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Number(i128),
    Average {
        count: i128,
        sum: i128,
    },
    /// Buckets by their numbers.
    Buckets(BTreeMap<i128, i128>),
}

impl Table {
    /// Reads the entries of a map as the database gives them: `[{"key": {...}, "value": ...}]`.
    pub fn new(name: &str, shape: Shape, entries: &Value) -> Table {
        let mut rows: BTreeMap<Vec<i128>, Cell> = BTreeMap::new();
        for entry in entries.as_array().into_iter().flatten() {
            let keys = (0..shape.keys).map(|key| number(&entry["key"][format!("k{key}")])).collect();
            let values: Vec<&Value> = match &entry["value"] {
                Value::Array(values) => values.iter().collect(),
                value => vec![value],
            };
            let bucket = number(&entry["key"]["bucket"]);
            merge(rows.entry(keys), shape.kind, &values, bucket);
        }
        let mut rows: Vec<_> = rows.into_iter().collect();
        // As bpftrace does: the largest last.
        rows.sort_by_key(|(_, cell)| cell.order());
        Table { name: name.to_owned(), shape, rows }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (keys, cell) in &self.rows {
            let keys: Vec<String> = keys.iter().map(i128::to_string).collect();
            let keys = if keys.is_empty() { String::new() } else { format!("[{}]", keys.join(", ")) };
            let name = &self.name;
            match cell {
                Cell::Number(number) => {
                    let _ = writeln!(text, "@{name}{keys}: {number}");
                }
                Cell::Average { count, sum } => {
                    let _ = writeln!(text, "@{name}{keys}: {}", sum / (*count).max(1));
                }
                Cell::Buckets(buckets) => {
                    let _ = write!(text, "@{name}{keys}:\n{}", histogram(self.shape.kind, buckets));
                }
            }
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let entry = |(keys, cell): &(Vec<i128>, Cell)| {
            let keys: Vec<Value> = keys.iter().map(|key| exact(*key)).collect();
            let value = match cell {
                Cell::Number(number) => exact(*number),
                Cell::Average { count, sum } => {
                    json!({"count": exact(*count), "sum": exact(*sum), "avg": *sum as f64 / (*count).max(1) as f64})
                }
                Cell::Buckets(buckets) => {
                    let bucket = |(bucket, count): (&i128, &i128)| {
                        let (from, to) = bounds(self.shape.kind, *bucket);
                        json!({"from": from.map(exact), "to": to.map(exact), "count": exact(*count)})
                    };
                    buckets.iter().map(bucket).collect()
                }
            };
            json!({"key": keys, "value": value})
        };
        json!({"map": format!("@{}", self.name), "entries": self.rows.iter().map(entry).collect::<Vec<_>>()})
    }
}

impl Cell {
    fn order(&self) -> i128 {
        match self {
            Cell::Number(number) => *number,
            Cell::Average { count, sum } => sum / (*count).max(1),
            Cell::Buckets(buckets) => buckets.values().sum(),
        }
    }
}

/// Puts the threads' values of one entry together.
fn merge(row: std::collections::btree_map::Entry<'_, Vec<i128>, Cell>, kind: Kind, values: &[&Value], bucket: i128) {
    match kind {
        Kind::Count | Kind::Sum | Kind::Value => {
            row.insert_entry(Cell::Number(values.iter().map(|value| number(value)).sum()));
        }
        Kind::Hist | Kind::Lhist { .. } => {
            let count: i128 = values.iter().map(|value| number(value)).sum();
            if let Cell::Buckets(buckets) = row.or_insert_with(|| Cell::Buckets(BTreeMap::new())) {
                *buckets.entry(bucket).or_default() += count;
            }
        }
        Kind::Avg | Kind::Min | Kind::Max => {
            let counted = values.iter().map(|value| (number(&value["count"]), number(&value["value"])));
            let counted: Vec<(i128, i128)> = counted.filter(|(count, _)| *count > 0).collect();
            let all = || counted.iter().map(|(_, value)| *value);
            let cell = match kind {
                Kind::Min => Cell::Number(all().min().unwrap_or(0)),
                Kind::Max => Cell::Number(all().max().unwrap_or(0)),
                _ => Cell::Average { count: counted.iter().map(|(count, _)| count).sum(), sum: all().sum() },
            };
            row.insert_entry(cell);
        }
    }
}

/// A number, or 0; beyond 64 bits it comes as text.
fn number(value: &Value) -> i128 {
    match value {
        Value::Number(number) => {
            number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)).unwrap_or(0)
        }
        Value::String(text) => text.parse().unwrap_or(0),
        _ => 0,
    }
}

fn exact(number: i128) -> Value {
    match (i64::try_from(number), u64::try_from(number)) {
        (Ok(number), _) => number.into(),
        (_, Ok(number)) => number.into(),
        _ => number.to_string().into(),
    }
}

/// From where to where a bucket goes, its end not in it.
fn bounds(kind: Kind, bucket: i128) -> (Option<i128>, Option<i128>) {
    match kind {
        Kind::Lhist { from, to, step } => {
            let (from, to, step) = (i128::from(from), i128::from(to), i128::from(step));
            let start = from + bucket * step;
            match bucket {
                ..0 => (None, Some(from)),
                _ if start >= to => (Some(to), None),
                _ => (Some(start), Some((start + step).min(to))),
            }
        }
        _ => match bucket {
            ..0 => (None, Some(0)),
            0 => (Some(0), Some(1)),
            _ => (Some(1 << (bucket - 1).min(100)), Some(1 << bucket.min(100))),
        },
    }
}

fn histogram(kind: Kind, buckets: &BTreeMap<i128, i128>) -> String {
    let (Some(first), Some(last)) = (buckets.keys().next(), buckets.keys().next_back()) else { return String::new() };
    let most = buckets.values().copied().max().unwrap_or(0).max(1);
    let mut text = String::new();
    for bucket in *first..=*last {
        let count = buckets.get(&bucket).copied().unwrap_or(0);
        let label = match bounds(kind, bucket) {
            (None, Some(to)) => format!("(..., {})", short(to)),
            (Some(from), None) => format!("[{}, ...)", short(from)),
            (Some(0), Some(1)) => "[0]".to_owned(),
            (from, to) => format!("[{}, {})", short(from.unwrap_or(0)), short(to.unwrap_or(0))),
        };
        let bar = "@".repeat((count * WIDTH as i128 / most) as usize);
        let _ = writeln!(text, "{label:<16} {count:>8} |{bar:<WIDTH$}|");
    }
    text + "\n"
}

/// Powers of 1024 as letters.
fn short(number: i128) -> String {
    let units = [(1i128 << 60, "E"), (1 << 50, "P"), (1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    let unit = units.iter().find(|(size, _)| number != 0 && number % size == 0);
    unit.map_or_else(|| number.to_string(), |(size, unit)| format!("{}{unit}", number / size))
}

/// A part of a format.
enum Part<'a> {
    Text(&'a str),
    Number { flags: &'a str, width: usize, letter: char },
}

/// Splits a format of printf; an error where it has what is not known.
fn parts(format: &str) -> Result<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        parts.push(Part::Text(&rest[..at]));
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            parts.push(Part::Text("%"));
            rest = after;
            continue;
        }
        let flags = rest.len() - rest.trim_start_matches(['-', '0']).len();
        let digits = rest[flags..].len() - rest[flags..].trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let width = rest[flags..flags + digits].parse().unwrap_or(0).min(200);
        let letters = rest[flags + digits..].trim_start_matches('l');
        match letters.chars().next() {
            Some(letter @ ('d' | 'i' | 'u' | 'x' | 'X')) => {
                parts.push(Part::Number { flags: &rest[..flags], width, letter })
            }
            _ => bail!("{format:?}: printf knows %d, %u, %x, %X with a width, and %%"),
        }
        rest = &letters[1..];
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

/// How many arguments a format takes.
pub fn specifiers(format: &str) -> Result<usize> {
    Ok(parts(format)?.iter().filter(|part| matches!(part, Part::Number { .. })).count())
}

/// A printf of an event.
pub fn printf(format: &str, arguments: &[Value]) -> Result<String> {
    let mut text = String::new();
    let mut arguments = arguments.iter();
    for part in parts(format)? {
        let (flags, width, letter) = match part {
            Part::Text(part) => {
                text.push_str(part);
                continue;
            }
            Part::Number { flags, width, letter } => (flags, width, letter),
        };
        let value = arguments.next().map_or(0, number) as i64;
        let shown = match letter {
            'u' => (value as u64).to_string(),
            'x' => format!("{value:x}"),
            'X' => format!("{value:X}"),
            _ => value.to_string(),
        };
        let _ = match flags.chars().next() {
            Some('-') => write!(text, "{shown:<width$}"),
            Some('0') => write!(text, "{shown:0>width$}"),
            _ => write!(text, "{shown:>width$}"),
        };
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{generate::generate, parse::parse};

    fn shape(text: &str) -> Shape {
        generate(&parse(&format!("hook:unpin {{ @x{text}; }}")).unwrap(), 10).unwrap().maps["x"]
    }

    #[test]
    fn threads_are_put_together_and_the_largest_is_last() {
        let entries = json!([{"key": {"k0": 3}, "value": [5, 0, 2]}, {"key": {"k0": 1}, "value": [1]}]);
        let table = Table::new("x", shape("[args.tag] = count()"), &entries);
        assert_eq!(table.text(), "@x[1]: 1\n@x[3]: 7\n");
        assert_eq!(table.json()["entries"][1], json!({"key": [3], "value": 7}));
    }

    #[test]
    fn threads_that_saw_nothing_do_not_count() {
        let stat = |count: i64, value: i64| json!({"count": count, "value": value});
        let entries = json!([{"key": {"k0": 0}, "value": [stat(0, 0), stat(2, 10), stat(1, 5)]}]);
        assert_eq!(Table::new("x", shape(" = min(args.readers)"), &entries).text(), "@x: 5\n");
        assert_eq!(Table::new("x", shape(" = max(args.readers)"), &entries).text(), "@x: 10\n");
        assert_eq!(Table::new("x", shape(" = avg(args.readers)"), &entries).text(), "@x: 5\n");
    }

    #[test]
    fn histograms_have_their_bounds() {
        let entry = |bucket: i64, count: i64| json!({"key": {"k0": 0, "bucket": bucket}, "value": [count]});
        let table = Table::new(
            "x",
            shape(" = hist(args.readers)"),
            &json!([entry(-1, 1), entry(0, 2), entry(2, 4), entry(11, 1)]),
        );
        let text = table.text();
        assert!(text.contains("(..., 0)                1 |@@@@@@@@@@@@@ "), "{text}");
        assert!(text.contains("[0]                     2 |"), "{text}");
        assert!(text.contains("[2, 4)                  4 |@@@@"), "{text}");
        assert!(text.contains("[1K, 2K)                1 |"), "{text}");
        let table =
            Table::new("x", shape(" = lhist(args.size, 10, 25, 10)"), &json!([entry(-1, 1), entry(1, 2), entry(2, 3)]));
        let json = table.json();
        assert_eq!(json["entries"][0]["value"][1], json!({"from": 20, "to": 25, "count": 2}));
        assert_eq!(json["entries"][0]["value"][2], json!({"from": 25, "to": null, "count": 3}));
    }

    #[test]
    fn formats_are_followed() {
        let say = |format: &str, argument: i64| printf(format, &[argument.into()]).unwrap();
        assert_eq!(say("a %d%%\n", -5), "a -5%\n");
        assert_eq!(say("%05lld|", 42), "00042|");
        assert_eq!(say("%-4u|", 7), "7   |");
        assert_eq!(say("0x%llx", 255), "0xff");
        assert!(specifiers("%s").is_err() && specifiers("100%").is_err());
        assert_eq!(specifiers("%d %x").unwrap(), 2);
    }
}
