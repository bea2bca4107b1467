//! The value of `hook_program`: paths, separated by commas.
//!
//! Spaces around a path are not part of it. A path that holds commas, quotes or such spaces is put into `'...'` or
//! `"..."`; inside, the quote itself is written twice.

use std::path::PathBuf;

/// Splits the value. An empty value, or one of spaces, names no path.
pub fn split(value: &str) -> Result<Vec<PathBuf>, String> {
    if value.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    let mut rest = value;
    loop {
        let (path, after) = item(rest.trim_start())?;
        if path.is_empty() {
            return Err(format!("an empty path at place {} of the list", paths.len() + 1));
        }
        paths.push(PathBuf::from(path));
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(paths),
        }
    }
}

/// The first path of a list and what follows it, which is empty or begins with a comma.
fn item(list: &str) -> Result<(String, &str), String> {
    match list.chars().next() {
        Some(quote @ ('\'' | '"')) => quoted(list, quote),
        _ => {
            let end = list.find(',').unwrap_or(list.len());
            Ok((list[..end].trim_end().to_owned(), &list[end..]))
        }
    }
}

fn quoted(list: &str, quote: char) -> Result<(String, &str), String> {
    let mut path = String::new();
    let mut rest = &list[quote.len_utf8()..];
    loop {
        let Some(end) = rest.find(quote) else {
            return Err(format!("the quote {quote} is not closed"));
        };
        path.push_str(&rest[..end]);
        rest = &rest[end + quote.len_utf8()..];
        let Some(after) = rest.strip_prefix(quote) else { break };
        path.push(quote);
        rest = after;
    }
    let after = rest.trim_start();
    if after.is_empty() || after.starts_with(',') {
        Ok((path, after))
    } else {
        Err(format!("'{path}' is followed by '{after}' instead of a comma"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(value: &str) -> Vec<String> {
        let paths = split(value).expect("a list of paths");
        paths.iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn nothing_is_no_path() {
        assert!(paths("").is_empty());
        assert!(paths(" \t\n").is_empty());
    }

    #[test]
    fn commas_separate_and_spaces_around_do_not_count() {
        assert_eq!(paths("a.bpf.o"), ["a.bpf.o"]);
        assert_eq!(paths(" a.bpf.o ,/x y/b.bpf.o"), ["a.bpf.o", "/x y/b.bpf.o"]);
    }

    #[test]
    fn quotes_hold_what_would_separate() {
        assert_eq!(paths("'a, b.bpf.o'"), ["a, b.bpf.o"]);
        assert_eq!(paths("\" a \" , 'it''s'"), [" a ", "it's"]);
        assert_eq!(paths("it's.bpf.o"), ["it's.bpf.o"]);
    }

    #[test]
    fn mistakes_are_named() {
        assert!(split("a,,b").expect_err("empty").contains("place 2"));
        assert!(split("a,").expect_err("empty").contains("place 2"));
        assert!(split("''").expect_err("empty").contains("place 1"));
        assert!(split("'a").expect_err("open").contains("not closed"));
        assert!(split("'a' b").expect_err("no comma").contains("instead of a comma"));
    }
}
