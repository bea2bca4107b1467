//! Words into clauses, by descent; operators by precedence, as C has it.

use std::time::Duration;

use anyhow::{Result, bail};
use duckbpf_runtime::Hook;

use super::{
    ast::{Aggregate, Builtin, Clause, Expr, MapRef, Probe, Script, Stmt},
    lexer::{Placed, Token, at_place, words},
};

/// Reads a one-liner.
pub fn parse(text: &str) -> Result<Script> {
    let mut parser = Parser { text, words: words(text)?, at: 0, depth: 0 };
    let mut clauses = Vec::new();
    while *parser.peek() != Token::End {
        clauses.push(parser.clause()?);
    }
    if clauses.is_empty() {
        bail!("nothing to trace; for example: hook:unpin {{ @[args.tag] = count(); }}");
    }
    Ok(clauses)
}

/// Operators of two, from the loosest on; as in C.
const LEVELS: [&[&str]; 10] = [
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<", ">", "<=", ">="],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

/// Brackets and operators within each other.
const MAX_DEPTH: usize = 64;

struct Parser<'a> {
    text: &'a str,
    words: Vec<Placed>,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.words[self.at.min(self.words.len() - 1)].0
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn takes(&mut self, sign: &'static str) -> bool {
        let is_it = *self.peek() == Token::Sign(sign);
        self.at += usize::from(is_it);
        is_it
    }

    fn expect(&mut self, sign: &'static str) -> Result<()> {
        if self.takes(sign) { Ok(()) } else { self.wrong(&format!("'{sign}' is expected here")) }
    }

    fn wrong<T>(&self, what: &str) -> Result<T> {
        let at = self.words[self.at.min(self.words.len() - 1)].1;
        bail!("{}", at_place(self.text, at, what))
    }

    fn clause(&mut self) -> Result<Clause> {
        let mut probes = self.probes()?;
        while self.takes(",") {
            probes.extend(self.probes()?);
        }
        let predicate = if self.takes("/") {
            // A division would end it: it needs brackets here.
            let predicate = self.binary(0, true)?;
            self.expect("/")?;
            Some(predicate)
        } else {
            None
        };
        Ok(Clause { probes, predicate, body: self.block()? })
    }

    fn probes(&mut self) -> Result<Vec<Probe>> {
        let Token::Name(kind) = self.peek().clone() else {
            return self.wrong("a probe is expected: hook:<name>, interval:s:<n>, BEGIN or END");
        };
        self.at += 1;
        match kind.as_str() {
            "BEGIN" => Ok(vec![Probe::Begin]),
            "END" => Ok(vec![Probe::End]),
            "hook" => {
                self.expect(":")?;
                self.hooks()
            }
            "interval" => {
                self.expect(":")?;
                self.interval().map(|every| vec![Probe::Interval(every)])
            }
            _ => {
                self.at -= 1;
                self.wrong("no such probe; there are hook:<name>, interval:s:<n>, BEGIN and END")
            }
        }
    }

    fn hooks(&mut self) -> Result<Vec<Probe>> {
        if self.takes("*") {
            let traced = Hook::ALL.into_iter().filter(|hook| *hook != Hook::Hash);
            return Ok(traced.map(Probe::Hook).collect());
        }
        let Token::Name(name) = self.peek().clone() else { return self.wrong("the hook's name is expected") };
        match Hook::from_name(&name) {
            Some(Hook::Hash) => self.wrong("programs on hash see a key and nothing else: they cannot keep counts"),
            Some(hook) => {
                self.at += 1;
                Ok(vec![Probe::Hook(hook)])
            }
            None => {
                let known = Hook::ALL.map(Hook::name).join(", ");
                self.wrong(&format!("there is no hook {name}; hooks are {known}"))
            }
        }
    }

    fn interval(&mut self) -> Result<Duration> {
        let Token::Name(unit) = self.next() else { return self.wrong("a unit is expected: s or ms") };
        self.expect(":")?;
        let Token::Number(number @ 1..) = self.next() else { return self.wrong("a number above 0 is expected") };
        match unit.as_str() {
            "s" => Ok(Duration::from_secs(number as u64)),
            "ms" => Ok(Duration::from_millis(number as u64)),
            _ => self.wrong("the unit of an interval is s or ms"),
        }
    }

    fn block(&mut self) -> Result<Vec<Stmt>> {
        self.expect("{")?;
        self.deeper(|parser| {
            let mut body = Vec::new();
            while !parser.takes("}") {
                if parser.takes(";") {
                    continue;
                }
                let statement = parser.statement()?;
                let is_block = matches!(statement, Stmt::If(..));
                body.push(statement);
                if !is_block && !parser.takes(";") && *parser.peek() != Token::Sign("}") {
                    return parser.wrong("';' or '}' is expected here");
                }
            }
            Ok(body)
        })
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.wrong("this is nested too deep");
        }
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn statement(&mut self) -> Result<Stmt> {
        match self.peek().clone() {
            Token::Map(_) => self.map_statement(),
            Token::Local(name) => {
                self.at += 1;
                self.expect("=")?;
                Ok(Stmt::Local(name, self.expression()?))
            }
            Token::Name(name) => {
                self.at += 1;
                self.call(&name)
            }
            _ => self.wrong("a statement is expected: @map = ...; $x = ...; if, printf, print, clear, delete or exit"),
        }
    }

    fn map_statement(&mut self) -> Result<Stmt> {
        let map = self.map()?;
        if self.takes("++") {
            return Ok(Stmt::Add(map, Expr::Number(1)));
        }
        if self.takes("--") {
            return Ok(Stmt::Add(map, Expr::Number(-1)));
        }
        if self.takes("+=") {
            return Ok(Stmt::Add(map, self.expression()?));
        }
        if self.takes("-=") {
            let by = self.expression()?;
            return Ok(Stmt::Add(map, Expr::Unary("-", Box::new(by))));
        }
        self.expect("=")?;
        match self.aggregate()? {
            Some(aggregate) => Ok(Stmt::Aggregate(map, aggregate)),
            None => Ok(Stmt::Set(map, self.expression()?)),
        }
    }

    /// `count()` and its like, or nothing where something else begins.
    fn aggregate(&mut self) -> Result<Option<Aggregate>> {
        let Token::Name(name) = self.peek().clone() else { return Ok(None) };
        let one: fn(Expr) -> Aggregate = match name.as_str() {
            "count" => |_| Aggregate::Count,
            "sum" => Aggregate::Sum,
            "avg" => Aggregate::Avg,
            "min" => Aggregate::Min,
            "max" => Aggregate::Max,
            "hist" => Aggregate::Hist,
            "lhist" => |of| Aggregate::Lhist(of, 0, 0, 0),
            _ => return Ok(None),
        };
        self.at += 1;
        self.expect("(")?;
        let aggregate = match name.as_str() {
            "count" => Aggregate::Count,
            "lhist" => {
                let of = self.expression()?;
                let mut bounds = [0; 3];
                for bound in &mut bounds {
                    self.expect(",")?;
                    *bound = self.constant()?;
                }
                let [from, to, step] = bounds;
                if step <= 0 || to <= from || (to - from) / step > 1000 {
                    return self.wrong("lhist(x, from, to, step): from below to, at most 1000 steps");
                }
                Aggregate::Lhist(of, from, to, step)
            }
            _ => one(self.expression()?),
        };
        self.expect(")")?;
        Ok(Some(aggregate))
    }

    fn constant(&mut self) -> Result<i64> {
        let sign = if self.takes("-") { -1 } else { 1 };
        match self.next() {
            Token::Number(number) => Ok(sign * number),
            _ => {
                self.at -= 1;
                self.wrong("a number is expected")
            }
        }
    }

    fn call(&mut self, name: &str) -> Result<Stmt> {
        if name == "if" {
            return self.branch();
        }
        self.expect("(")?;
        let statement = match name {
            "exit" => Stmt::Exit,
            "print" => Stmt::Print(self.map_name()?),
            "clear" => Stmt::Clear(self.map_name()?),
            "delete" => Stmt::Delete(self.map()?),
            "printf" => {
                let Token::Text(format) = self.next() else { return self.wrong("printf begins with a text in quotes") };
                let mut arguments = Vec::new();
                while self.takes(",") {
                    arguments.push(self.expression()?);
                }
                Stmt::Printf(format, arguments)
            }
            _ => {
                self.at -= 2;
                return self.wrong(
                    "no such function; there are printf, print, clear, delete, exit; and @map = count(), sum(x), ...",
                );
            }
        };
        self.expect(")")?;
        Ok(statement)
    }

    fn branch(&mut self) -> Result<Stmt> {
        self.expect("(")?;
        let when = self.expression()?;
        self.expect(")")?;
        let then = self.block()?;
        let mut otherwise = Vec::new();
        if *self.peek() == Token::Name("else".into()) {
            self.at += 1;
            if *self.peek() == Token::Name("if".into()) {
                self.at += 1;
                otherwise.push(self.deeper(Self::branch)?);
            } else {
                otherwise = self.block()?;
            }
        }
        Ok(Stmt::If(when, then, otherwise))
    }

    fn map_name(&mut self) -> Result<String> {
        match self.next() {
            Token::Map(name) => Ok(name),
            _ => {
                self.at -= 1;
                self.wrong("a map is expected: @name")
            }
        }
    }

    fn map(&mut self) -> Result<MapRef> {
        let name = self.map_name()?;
        let mut keys = Vec::new();
        if self.takes("[") {
            keys.push(self.expression()?);
            while self.takes(",") {
                keys.push(self.expression()?);
            }
            self.expect("]")?;
        }
        Ok(MapRef { name, keys })
    }

    fn expression(&mut self) -> Result<Expr> {
        self.deeper(|parser| {
            let when = parser.binary(0, false)?;
            if !parser.takes("?") {
                return Ok(when);
            }
            let then = parser.expression()?;
            parser.expect(":")?;
            let otherwise = parser.expression()?;
            Ok(Expr::Choice(Box::new(when), Box::new(then), Box::new(otherwise)))
        })
    }

    /// `in_predicate`: a bare slash ends it.
    fn binary(&mut self, level: usize, in_predicate: bool) -> Result<Expr> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1, in_predicate)?;
        loop {
            let Token::Sign(sign) = *self.peek() else { return Ok(left) };
            if !operators.contains(&sign) || in_predicate && sign == "/" {
                return Ok(left);
            }
            self.at += 1;
            let right = self.binary(level + 1, in_predicate)?;
            left = Expr::Binary(sign, Box::new(left), Box::new(right));
        }
    }

    fn unary(&mut self) -> Result<Expr> {
        for sign in ["!", "-", "~"] {
            if self.takes(sign) {
                return self.deeper(|parser| Ok(Expr::Unary(sign, Box::new(parser.unary()?))));
            }
        }
        self.primary()
    }

    fn primary(&mut self) -> Result<Expr> {
        match self.peek().clone() {
            Token::Number(number) => {
                self.at += 1;
                Ok(Expr::Number(number))
            }
            Token::Local(name) => {
                self.at += 1;
                Ok(Expr::Local(name))
            }
            Token::Map(_) => self.map().map(Expr::Map),
            Token::Sign("(") => {
                self.at += 1;
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Name(name) if name == "args" => {
                self.at += 1;
                self.field()
            }
            Token::Name(name) => match Builtin::ALL.iter().find(|(known, _)| *known == name) {
                Some((_, builtin)) => {
                    self.at += 1;
                    Ok(Expr::Builtin(*builtin))
                }
                None => {
                    let known: Vec<&str> = Builtin::ALL.iter().map(|(name, _)| *name).collect();
                    let instead = instead_of(&name).map(|what| format!(" ({what})")).unwrap_or_default();
                    self.wrong(&format!("{name} is not known{instead}; there are args.<field>, {}", known.join(", ")))
                }
            },
            _ => self.wrong("a value is expected here"),
        }
    }

    fn field(&mut self) -> Result<Expr> {
        self.expect(".")?;
        let mut path = Vec::new();
        loop {
            let Token::Name(name) = self.next() else {
                self.at -= 1;
                return self.wrong("the field's name is expected");
            };
            path.push(name);
            if !self.takes(".") {
                return Ok(Expr::Field(path.join(".")));
            }
        }
    }
}

/// What there is for a name that bpftrace knows.
fn instead_of(name: &str) -> Option<&'static str> {
    match name {
        "comm" => Some("all threads are DuckDB's; query, args.tag and thread tell for whom and where it runs"),
        "tid" | "cpu" => Some("thread is the number of DuckDB's thread"),
        "elapsed" => Some("age is the query's, in nanoseconds"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_one_liner_is_read() {
        let script = parse("hook:unpin /args.size > 4096/ { @[args.tag] = count(); }").unwrap();
        let size = Expr::Field("size".into());
        let predicate = Expr::Binary(">", Box::new(size), Box::new(Expr::Number(4096)));
        let map = MapRef { name: String::new(), keys: vec![Expr::Field("tag".into())] };
        let body = vec![Stmt::Aggregate(map, Aggregate::Count)];
        assert_eq!(script, [Clause { probes: vec![Probe::Hook(Hook::Unpin)], predicate: Some(predicate), body }]);
    }

    #[test]
    fn operators_bind_as_in_c() {
        let script = parse("BEGIN { $x = 1 + 2 * 3 == 7 && !0 ? -1 : 4 / 2; }").unwrap();
        let Stmt::Local(_, Expr::Choice(when, then, _)) = &script[0].body[0] else { panic!("{script:?}") };
        assert!(matches!(**when, Expr::Binary("&&", ..)), "{when:?}");
        assert!(matches!(**then, Expr::Unary("-", _)));
    }

    #[test]
    fn statements_of_all_kinds_are_read() {
        let text = "hook:load,hook:unpin /(args.size / 2) > 1/ { $a = nsecs; @x[query, $a]++; @y += 2; @h = hist(args.size);
            @l = lhist(args.size, -10, 100, 5); if (args.tag == 3) { printf(\"%d\\n\", args.tag); } else if (1) { delete(@x[1, 2]) }
            } interval:s:1 { print(@x); clear(@x); exit(); } END { print(@y) }";
        let script = parse(text).unwrap();
        assert_eq!(script.len(), 3);
        assert_eq!(script[0].body.len(), 6);
        assert_eq!(script[1].probes, [Probe::Interval(Duration::from_secs(1))]);
    }

    #[test]
    fn mistakes_are_shown_where_they_are() {
        assert!(error("").contains("nothing to trace"));
        assert!(error("hook:nope { }").contains("there is no hook nope; hooks are hash, "));
        assert!(error("hook:hash { }").contains("cannot keep counts"));
        assert!(error("hook:load { @x = count() @y = 1 }").contains("';' or '}' is expected"));
        assert!(error("hook:load { @x = size; }").ends_with("^"));
        assert!(error("hook:load { @l = lhist(args.size, 5, 1, 1); }").contains("from below to"));
        assert!(error(&format!("BEGIN {{ $x = {}1; }}", "(".repeat(500))).contains("too deep"));
        assert!(error("hook:load").contains("'{' is expected"));
    }
}
