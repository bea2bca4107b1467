//! The reference answers for scale factors 0.01 and 1, and the comparison with them: numbers within 1e-6 of one another, text exactly,
//! rows in order.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::worker::Rows;

const TOLERANCE: f64 = 1e-6;

macro_rules! answers {
    ($sf:literal) => {
        [
            include_str!(concat!("../answers/", $sf, "/q01.csv")),
            include_str!(concat!("../answers/", $sf, "/q02.csv")),
            include_str!(concat!("../answers/", $sf, "/q03.csv")),
            include_str!(concat!("../answers/", $sf, "/q04.csv")),
            include_str!(concat!("../answers/", $sf, "/q05.csv")),
            include_str!(concat!("../answers/", $sf, "/q06.csv")),
            include_str!(concat!("../answers/", $sf, "/q07.csv")),
            include_str!(concat!("../answers/", $sf, "/q08.csv")),
            include_str!(concat!("../answers/", $sf, "/q09.csv")),
            include_str!(concat!("../answers/", $sf, "/q10.csv")),
            include_str!(concat!("../answers/", $sf, "/q11.csv")),
            include_str!(concat!("../answers/", $sf, "/q12.csv")),
            include_str!(concat!("../answers/", $sf, "/q13.csv")),
            include_str!(concat!("../answers/", $sf, "/q14.csv")),
            include_str!(concat!("../answers/", $sf, "/q15.csv")),
            include_str!(concat!("../answers/", $sf, "/q16.csv")),
            include_str!(concat!("../answers/", $sf, "/q17.csv")),
            include_str!(concat!("../answers/", $sf, "/q18.csv")),
            include_str!(concat!("../answers/", $sf, "/q19.csv")),
            include_str!(concat!("../answers/", $sf, "/q20.csv")),
            include_str!(concat!("../answers/", $sf, "/q21.csv")),
            include_str!(concat!("../answers/", $sf, "/q22.csv")),
        ]
    };
}

static SF_001: [&str; 22] = answers!("sf0.01");
static SF_1: [&str; 22] = answers!("sf1");

/// The reference answer of a query, where there is one for this scale factor.
pub fn reference(sf: f64, query: usize) -> Option<&'static str> {
    let answers = match sf {
        0.01 => &SF_001,
        1.0 => &SF_1,
        _ => return None,
    };
    answers.get(query.checked_sub(1)?).copied()
}

/// Compares a result with a reference answer; the error says where they part.
pub fn check(result: &Rows, reference: &str) -> Result<()> {
    let mut lines = reference.lines().map(fields);
    let columns = lines.next().context("the reference answer is empty")??;
    if columns != result.columns {
        bail!("columns are {:?}, not {columns:?}", result.columns);
    }
    let expected: Vec<_> = lines.collect::<Result<_>>()?;
    if expected.len() != result.rows.len() {
        bail!("{} rows, not {}", result.rows.len(), expected.len());
    }
    for (number, (row, expected)) in result.rows.iter().zip(&expected).enumerate() {
        for ((column, cell), expected) in result.columns.iter().zip(row).zip(expected) {
            check_cell(cell, expected).with_context(|| format!("row {}, column {column}", number + 1))?;
        }
    }
    Ok(())
}

/// The fields of one line. A blank one is a row whose only value is NULL, where a CSV reader sees nothing at all.
fn fields(line: &str) -> Result<Vec<String>> {
    let reader = csv::ReaderBuilder::new().delimiter(b'|').has_headers(false).from_reader(line.as_bytes());
    match reader.into_deserialize().next() {
        Some(fields) => Ok(fields?),
        None => Ok(vec![String::new()]),
    }
}

fn check_cell(cell: &Value, expected: &str) -> Result<()> {
    let same = match cell {
        Value::Number(number) => {
            let number = number.as_f64().context("not a number")?;
            let expected: f64 = expected.parse().with_context(|| format!("a number, not {expected}"))?;
            (number - expected).abs() <= TOLERANCE * expected.abs()
        }
        Value::String(text) => text == expected,
        Value::Null => expected.is_empty(),
        _ => false,
    };
    if !same {
        bail!("{cell}, not {expected}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows(cells: &[Value]) -> Rows {
        Rows { columns: vec!["n".into(), "t".into()], rows: vec![cells.to_vec()] }
    }

    #[test]
    fn numbers_agree_within_a_millionth_and_text_exactly() {
        let reference = "n|t\n1000000.0|\"a b\"\n";
        check(&rows(&[json!(1000000.9), json!("a b")]), reference).unwrap();
        check(&rows(&[json!(1000001.1), json!("a b")]), reference).unwrap_err();
        check(&rows(&[json!(1000000), json!("a  b")]), reference).unwrap_err();
        check(&rows(&[Value::Null, json!("a b")]), reference).unwrap_err();
    }

    #[test]
    fn a_blank_line_is_a_row_with_a_null() {
        let null = Rows { columns: vec!["n".into()], rows: vec![vec![Value::Null]] };
        check(&null, "n\n\n").unwrap();
        check(&null, "n\n1\n").unwrap_err();
    }

    #[test]
    fn missing_rows_and_other_columns_are_told() {
        let error = check(&rows(&[json!(1), json!("x")]), "n|t\n1|x\n2|y\n").unwrap_err();
        assert_eq!(error.to_string(), "1 rows, not 2");
        let error = check(&rows(&[json!(1), json!("x")]), "n|u\n1|x\n").unwrap_err();
        assert!(error.to_string().starts_with("columns are"), "{error}");
    }

    #[test]
    fn a_difference_is_told_by_row_and_column() {
        let error = check(&rows(&[json!(1), json!("x")]), "n|t\n1|y\n").unwrap_err();
        assert_eq!(format!("{error:#}"), "row 1, column t: \"x\", not y");
    }

    #[test]
    fn every_query_has_answers_at_the_two_scale_factors() {
        for query in 1..=22 {
            assert!(reference(0.01, query).is_some_and(|answer| answer.contains('\n')));
            assert!(reference(1.0, query).is_some_and(|answer| answer.contains('\n')));
        }
        assert!(reference(1.0, 23).is_none() && reference(20.0, 1).is_none());
    }
}
