//! Words of a one-liner.

use anyhow::{Result, bail};

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Name(String),
    /// `@name`
    Map(String),
    /// `$name`
    Local(String),
    Number(i64),
    Text(String),
    /// An operator or a bracket.
    Sign(&'static str),
    End,
}

/// A word and where it begins, in bytes.
pub type Placed = (Token, usize);

/// Longer ones before those that they begin with.
const SIGNS: [&str; 39] = [
    "->", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "++", "--", "+=", "-=", "(", ")", "[", "]", "{", "}", "<",
    ">", "=", "!", "&", "|", "^", "~", "+", "-", "*", "/", "%", "?", ":", ";", ",", ".", "@", "$",
];

/// All words of a text, ending with [`Token::End`].
pub fn words(text: &str) -> Result<Vec<Placed>> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(next) = text[at..].chars().next() {
        let rest = &text[at..];
        if next.is_whitespace() {
            at += next.len_utf8();
        } else if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            at += rest.find("*/").map_or(rest.len(), |end| end + 2);
        } else {
            let (token, length) = word(rest, text, at)?;
            words.push((token, at));
            at += length;
        }
    }
    words.push((Token::End, text.len()));
    Ok(words)
}

fn word(rest: &str, text: &str, at: usize) -> Result<(Token, usize)> {
    let name = |from: &str| from.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(from.len());
    match rest.as_bytes()[0] {
        b'@' => {
            let length = name(&rest[1..]);
            Ok((Token::Map(rest[1..=length].to_owned()), length + 1))
        }
        b'$' if name(&rest[1..]) > 0 => {
            let length = name(&rest[1..]);
            Ok((Token::Local(rest[1..=length].to_owned()), length + 1))
        }
        b'0'..=b'9' => {
            let length = name(rest);
            match number(&rest[..length]) {
                Some(number) => Ok((Token::Number(number), length)),
                None => bail!("{}", at_place(text, at, &format!("{} is no number", &rest[..length]))),
            }
        }
        b'"' => quoted(rest).map_or_else(
            || bail!("{}", at_place(text, at, "the text is not closed")),
            |(value, length)| Ok((Token::Text(value), length)),
        ),
        first if first.is_ascii_alphabetic() || first == b'_' => {
            let length = name(rest);
            Ok((Token::Name(rest[..length].to_owned()), length))
        }
        _ => match SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            // args->size is how bpftrace wrote args.size first.
            Some("->") => Ok((Token::Sign("."), 2)),
            Some(sign) => Ok((Token::Sign(sign), sign.len())),
            None => bail!("{}", at_place(text, at, "this has no meaning here")),
        },
    }
}

/// Decimal, hexadecimal, and with the suffixes K, M, G for powers of 1024.
fn number(text: &str) -> Option<i64> {
    let text = text.replace('_', "");
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok().map(|number| number as i64);
    }
    let (digits, factor) = match text.chars().last() {
        Some('K') => (&text[..text.len() - 1], 1 << 10),
        Some('M') => (&text[..text.len() - 1], 1 << 20),
        Some('G') => (&text[..text.len() - 1], 1 << 30),
        _ => (text.as_str(), 1i64),
    };
    digits.parse::<i64>().ok()?.checked_mul(factor)
}

/// The text in quotes, and its length with them.
fn quoted(rest: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, at + 1)),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

/// What is wrong, under the line where it is.
pub fn at_place(text: &str, at: usize, what: &str) -> String {
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
    let indent = " ".repeat(text[start..at].chars().count());
    format!("{what}\n  {}\n  {indent}^", &text[start..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        words(text).unwrap().into_iter().map(|(token, _)| token).collect()
    }

    #[test]
    fn words_are_told_apart() {
        assert_eq!(
            tokens("@a[args.x] += 4K; // more"),
            [
                Token::Map("a".into()),
                Token::Sign("["),
                Token::Name("args".into()),
                Token::Sign("."),
                Token::Name("x".into()),
                Token::Sign("]"),
                Token::Sign("+="),
                Token::Number(4096),
                Token::Sign(";"),
                Token::End
            ]
        );
        assert_eq!(
            tokens("@ $y 0x1f \"a\\n\\\"\"")[..4],
            [Token::Map(String::new()), Token::Local("y".into()), Token::Number(31), Token::Text("a\n\"".into())]
        );
    }

    #[test]
    fn fields_may_have_an_arrow_before_them() {
        assert_eq!(tokens("args->x - 1"), tokens("args.x - 1"));
        assert_eq!(tokens("1 --> 2")[1..3], [Token::Sign("--"), Token::Sign(">")]);
    }

    #[test]
    fn what_is_no_word_is_shown() {
        let error = words("count() # 1").unwrap_err().to_string();
        assert!(error.ends_with("\n  count() # 1\n          ^"), "{error}");
        assert!(words("12ab").is_err() && words("\"open").is_err());
    }
}
