//! Sizes of memory, as people write them for DuckDB's own `memory_limit`.

use duckdb_neo::{Error, Result};

/// Bytes of a unit, which is in lower case. None where there is no such unit.
fn unit(name: &str) -> Option<u64> {
    Some(match name {
        "" | "b" | "byte" | "bytes" => 1,
        "k" | "kb" | "kilobyte" | "kilobytes" => 1_000,
        "m" | "mb" | "megabyte" | "megabytes" => 1_000_000,
        "g" | "gb" | "gigabyte" | "gigabytes" => 1_000_000_000,
        "t" | "tb" | "terabyte" | "terabytes" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    })
}

/// The bytes that `text` means: a number, and where they are not bytes a unit.
pub fn parse(setting: &str, text: &str) -> Result<u64> {
    let wrong = |what: &str| {
        let units = "KB, MB, GB, TB for 1000^i or KiB, MiB, GiB, TiB for 1024^i bytes";
        Error::invalid_input(format!(
            "{setting}: '{text}' {what}; write a number of bytes, or one with a unit: {units}"
        ))
    };
    let plain = text.trim();
    let end = plain.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(plain.len());
    let (number, name) = plain.split_at(end);
    let bytes = unit(&name.trim().to_ascii_lowercase()).ok_or_else(|| wrong("is no size of memory"))?;
    // Whole numbers are exact; others are rounded as DuckDB rounds them.
    let exact = number.parse::<u64>().ok().and_then(|number| number.checked_mul(bytes));
    match (exact, number.parse::<f64>()) {
        (Some(size), _) => Ok(size),
        (None, Ok(number)) if number * (bytes as f64) < u64::MAX as f64 => Ok((number * bytes as f64) as u64),
        (None, Ok(_)) => Err(wrong("is more than 2^64 bytes")),
        (None, Err(_)) => Err(wrong("is no size of memory")),
    }
}

/// In the largest unit that says it exactly.
pub fn write(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = |&&(_, shift): &&(&str, u32)| bytes > 0 && bytes.trailing_zeros() >= shift;
    units.iter().find(whole).map_or_else(|| bytes.to_string(), |(name, shift)| format!("{}{name}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_duckdb_reads_them() {
        for (text, bytes) in [
            ("4096", 4096),
            ("1GB", 1_000_000_000),
            ("512MiB", 512 << 20),
            (" 1.5 kib ", 1536),
            ("2 gigabytes", 2_000_000_000),
            ("0", 0),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse("x", text).ok(), Some(bytes), "{text}");
        }
        for text in ["", "GB", "80%", "-1", "1.2.3", "1 GB 2", "99999999999TiB", "18446744073709551616"] {
            let error = parse("x", text).err().map(|error| error.message).unwrap_or_default();
            assert!(error.starts_with(&format!("x: '{text}' is ")), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for bytes in [0, 1, 1000, 4096, 256 << 20, 3 << 40, u64::MAX] {
            assert_eq!(parse("x", &write(bytes)).ok(), Some(bytes));
        }
        assert_eq!(write(256 << 20), "256MiB");
    }
}
