//! Puts every mutant of a source file into the file itself; a number says at run time which of them is in force.
//!
//! ```text
//! if low < 0 { return Err(..); }      if (match crate::mutants::on() { 7 => true, 8 => false, _ => low < 0 }) { ... }
//! self.check(base)?;                  if crate::mutants::off(9) { self.check(base)?; }
//! ```
//!
//! Each mutant is on a line that ends with its number, so that an error of the compiler leads to it: what does not compile is left
//! out, and the file is made again.

use std::{collections::BTreeSet, ops::Range};

use anyhow::{Context, Result};
use syn::{
    BinOp, Expr, FnArg, Pat, Stmt, Token, UnOp,
    parse::{ParseStream, Parser},
    spanned::Spanned,
    visit::{self, Visit},
};

/// The module that the crate needs beside its own.
pub const MODULE: &str = "//! Which mutant is in force.
use std::sync::LazyLock;
static NUMBER: LazyLock<u32> =
    LazyLock::new(|| std::env::var(\"DUCKBPF_MUTANT\").ok().and_then(|number| number.parse().ok()).unwrap_or(0));
pub fn on() -> u32 {
    *NUMBER
}
pub fn off(number: u32) -> bool {
    on() != number
}
";

/// One change, and what it is called in lists: the file, the function, and what is there instead of what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mutant {
    pub number: u32,
    pub what: String,
}

/// Gives a file's text with its mutants, but those that are left out, and adds them to a list. They are numbered from `first`; gives the number after the last.
pub fn switch(
    file: &str,
    source: &str,
    first: u32,
    left_out: &BTreeSet<u32>,
    mutants: &mut Vec<Mutant>,
) -> Result<(String, u32)> {
    let parsed = syn::parse_file(source).with_context(|| format!("{file} cannot be parsed"))?;
    let mut switcher =
        Switcher { file, source, owner: String::new(), next: first, left_out, mutants, inserts: Vec::new() };
    switcher.visit_file(&parsed);
    let next = switcher.next;
    Ok((with_inserts(source, switcher.inserts), next))
}

/// The mutants that are on a line of a file that was made by `switch`.
pub fn number_on(line: &str) -> Option<u32> {
    line.rsplit_once("//#")?.1.trim().parse().ok()
}

struct Switcher<'a> {
    file: &'a str,
    source: &'a str,
    /// The function, with its type.
    owner: String,
    next: u32,
    left_out: &'a BTreeSet<u32>,
    mutants: &'a mut Vec<Mutant>,
    inserts: Vec<Insert>,
}

/// Text that goes into the source. Those that begin something are in the order in which they are made, those that end it in the other.
struct Insert {
    at: usize,
    begins: bool,
    text: String,
}

fn with_inserts(source: &str, inserts: Vec<Insert>) -> String {
    let mut order: Vec<(usize, Insert)> = inserts.into_iter().enumerate().collect();
    let key = |(made, insert): &(usize, Insert)| {
        let made = *made as isize;
        (insert.at, insert.begins, if insert.begins { made } else { -made })
    };
    order.sort_by_key(key);
    let (mut text, mut from) = (String::new(), 0);
    for (_, insert) in order {
        text.push_str(&source[from..insert.at]);
        text.push_str(&insert.text);
        from = insert.at;
    }
    text + &source[from..]
}

impl Switcher<'_> {
    fn range(&self, part: &impl Spanned) -> Range<usize> {
        part.span().byte_range()
    }

    /// What is written somewhere, on one line and without comments.
    fn text(&self, part: &impl Spanned) -> String {
        let lines = self.source[self.range(part)].lines();
        let words = lines.flat_map(|line| line.split("// ").next().unwrap_or_default().split_whitespace());
        words.collect::<Vec<_>>().join(" ")
    }

    /// A number, unless it is left out.
    fn number(&mut self, what: String) -> Option<u32> {
        let number = self.next;
        self.next += 1;
        if self.left_out.contains(&number) {
            return None;
        }
        self.mutants.push(Mutant { number, what: format!("{}: {}: {what}", self.file, self.owner) });
        Some(number)
    }

    fn insert(&mut self, at: usize, begins: bool, text: String) {
        self.inserts.push(Insert { at, begins, text });
    }

    /// One arm for each of the texts that may be there instead.
    fn arms(&mut self, of: &str, by: &[String], end: &str) -> String {
        let mut arms = String::new();
        for text in by {
            if let Some(number) = self.number(format!("{text} instead of {of}")) {
                arms += &format!("\n{number} => {end}{text}, //#{number}\n");
            }
        }
        arms
    }

    fn replace(&mut self, expr: &impl Spanned, by: &[String]) {
        let (range, of) = (self.range(expr), self.text(expr));
        let arms = self.arms(&of, by, "");
        if !arms.is_empty() {
            self.insert(range.start, true, format!("(match crate::mutants::on() {{{arms} _ => "));
            self.insert(range.end, false, "})".into());
        }
    }

    /// Something that is only there while a mutant is not.
    fn leave_out(&mut self, part: &impl Spanned) {
        let (range, of) = (self.range(part), self.text(part));
        if let Some(number) = self.number(format!("without {of}")) {
            self.insert(range.start, true, format!("\nif crate::mutants::off({number}) {{ //#{number}\n"));
            self.insert(range.end, false, "}".into());
        }
    }

    /// What decides, and each part of it, is true or false.
    fn condition(&mut self, expr: &Expr) {
        match expr {
            Expr::Paren(inner) => self.condition(&inner.expr),
            Expr::Binary(both) if matches!(both.op, BinOp::And(_) | BinOp::Or(_)) => {
                self.condition(&both.left);
                self.condition(&both.right);
            }
            Expr::Let(binding) => self.visit_expr(&binding.expr),
            // These are counted among the planted faults.
            _ if self.text(expr).contains("on(Bug::") => {}
            _ => {
                self.replace(expr, &["true".into(), "false".into()]);
                match expr {
                    // That it is turned round is noticed where one of the two above is.
                    Expr::Unary(not) if matches!(not.op, UnOp::Not(_)) => self.visit_expr(&not.expr),
                    Expr::Binary(both) if matches!(both.op, BinOp::Eq(_) | BinOp::Ne(_)) => {
                        visit::visit_expr(self, expr);
                    }
                    _ => self.visit_expr(expr),
                }
            }
        }
    }

    fn function(&mut self, signature: &syn::Signature, attributes: &[syn::Attribute], block: &syn::Block) {
        if signature.constness.is_some() || is_test(attributes) || signature.ident == "fmt" {
            return;
        }
        let before = self.owner.clone();
        self.owner =
            if before.is_empty() { signature.ident.to_string() } else { format!("{before}::{}", signature.ident) };
        let returns = match &signature.output {
            syn::ReturnType::Default => String::new(),
            syn::ReturnType::Type(_, returned) => self.text(returned),
        };
        let by: Vec<String> = results(&returns).iter().map(|text| (*text).to_owned()).collect();
        let arms = self.arms("all of it", &by, "return ");
        if !arms.is_empty() {
            let at = self.range(block).start + 1;
            self.insert(at, true, format!("match crate::mutants::on() {{{arms} _ => {{}}}}"));
        }
        self.visit_block(block);
        self.owner = before;
    }

    /// `matches!` with one pattern less.
    fn fewer_patterns(&mut self, macro_: &syn::ExprMacro) {
        let parse = |input: ParseStream<'_>| {
            let of: Expr = input.parse()?;
            input.parse::<Token![,]>()?;
            let pattern = Pat::parse_multi_with_leading_vert(input)?;
            let guard: proc_macro2::TokenStream = input.parse()?;
            Ok((of, pattern, guard))
        };
        let Ok((of, Pat::Or(patterns), guard)) = parse.parse2(macro_.mac.tokens.clone()) else { return };
        let (of, guard) = (self.text(&of), if guard.is_empty() { String::new() } else { self.text(&guard) });
        let cases: Vec<String> = patterns.cases.iter().map(|case| self.text(case)).collect();
        let without = |at: usize| {
            let rest: Vec<_> =
                cases.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, case)| &**case).collect();
            format!("matches!({of}, {} {guard})", rest.join(" | "))
        };
        let by: Vec<String> = (0..cases.len()).map(without).collect();
        self.replace(macro_, &by);
    }

    fn literal(&mut self, literal: &syn::ExprLit) {
        match &literal.lit {
            syn::Lit::Bool(bool) => self.replace(literal, &[(!bool.value).to_string()]),
            syn::Lit::Int(int) => {
                if let Ok(number) = int.base10_parse::<u128>() {
                    self.replace(literal, &[format!("{}{}", number + 1, int.suffix())]);
                }
            }
            _ => {}
        }
    }

    fn method(&mut self, call: &syn::ExprMethodCall) {
        let Some(other) = other_method(&call.method.to_string()) else { return };
        let range = self.range(&call.method);
        let whole = self.range(call);
        let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (before, after) = (&self.source[whole.start..range.start], &self.source[range.end..whole.end]);
        let by = format!("{}{other}{}", flat(before), flat(after));
        self.replace(call, &[by]);
    }
}

impl<'ast> Visit<'ast> for Switcher<'_> {
    // Constants, types and patterns cannot be switched.
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_type(&mut self, _: &'ast syn::Type) {}
    fn visit_generic_argument(&mut self, _: &'ast syn::GenericArgument) {}
    fn visit_pat(&mut self, _: &'ast Pat) {}
    fn visit_fn_arg(&mut self, _: &'ast FnArg) {}
    fn visit_item_enum(&mut self, _: &'ast syn::ItemEnum) {}

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_impl(&mut self, block: &'ast syn::ItemImpl) {
        let name = self.text(&block.self_ty);
        self.owner = name.split('<').next().unwrap_or_default().to_owned();
        if !is_test(&block.attrs) {
            visit::visit_item_impl(self, block);
        }
        self.owner.clear();
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.sig, &function.attrs, &function.block);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.function(&function.sig, &function.attrs, &function.block);
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        for stmt in &block.stmts {
            match stmt {
                Stmt::Expr(Expr::If(_) | Expr::Match(_), _) | Stmt::Macro(_) => {}
                Stmt::Expr(_, Some(_)) | Stmt::Expr(Expr::ForLoop(_) | Expr::While(_) | Expr::Loop(_), None) => {
                    self.leave_out(stmt);
                }
                _ => {}
            }
            self.visit_stmt(stmt);
        }
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if let Some((_, guard)) = &arm.guard {
            self.condition(guard);
        }
        self.visit_expr(&arm.body);
    }

    fn visit_expr_match(&mut self, whole: &'ast syn::ExprMatch) {
        let is_rest = |arm: &syn::Arm| arm.guard.is_none() && matches!(arm.pat, Pat::Wild(_) | Pat::Ident(_));
        if whole.arms.last().is_some_and(is_rest) {
            for arm in whole.arms.iter().filter(|arm| arm.guard.is_none() && !is_rest(arm)) {
                let (at, of) = (self.range(&arm.pat).end, self.text(&arm.pat));
                if let Some(number) = self.number(format!("without the arm {of}")) {
                    self.insert(at, false, format!("\nif crate::mutants::off({number}) //#{number}\n"));
                }
            }
        }
        visit::visit_expr_match(self, whole);
    }

    fn visit_expr(&mut self, expr: &'ast Expr) {
        match expr {
            Expr::If(whole) => {
                self.condition(&whole.cond);
                self.visit_block(&whole.then_branch);
                whole.else_branch.iter().for_each(|(_, other)| self.visit_expr(other));
                return;
            }
            Expr::While(whole) => {
                self.condition(&whole.cond);
                return self.visit_block(&whole.body);
            }
            Expr::Binary(both) => {
                if matches!(both.op, BinOp::And(_) | BinOp::Or(_)) {
                    return self.condition(expr);
                }
                let (left, right) = (self.text(&both.left), self.text(&both.right));
                let others = other_operators(self.text(&both.op).as_str());
                let by: Vec<String> = others.iter().map(|op| format!("{left} {op} {right}")).collect();
                self.replace(expr, &by);
            }
            Expr::Unary(one) if matches!(one.op, UnOp::Not(_)) => {
                let inner = self.text(&one.expr);
                self.replace(expr, &[inner]);
            }
            Expr::Lit(literal) => return self.literal(literal),
            Expr::MethodCall(call) => self.method(call),
            Expr::Macro(macro_) => return self.fewer_patterns(macro_),
            // The length is a constant.
            Expr::Repeat(repeat) => return self.visit_expr(&repeat.expr),
            _ => {}
        }
        visit::visit_expr(self, expr);
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string().contains("test"),
        syn::Meta::NameValue(_) => false,
    })
}

/// What a function may return at once, by what it returns.
fn results(returns: &str) -> &'static [&'static str] {
    match returns {
        "" => &["()"],
        "bool" => &["true", "false"],
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" | "i32" | "i64" => &["0", "1"],
        _ if returns.starts_with("Result<()") => &["Ok(())"],
        _ if returns.starts_with("Result<bool") => &["Ok(true)", "Ok(false)"],
        _ if returns.starts_with("Result<Option<") => &["Ok(None)"],
        _ if returns.starts_with("Option<") => &["None"],
        _ => &[],
    }
}

fn other_operators(op: &str) -> &'static [&'static str] {
    match op {
        "<" => &["<="],
        "<=" => &["<"],
        ">" => &[">="],
        ">=" => &[">"],
        "==" => &["!="],
        "!=" => &["=="],
        "+" => &["-"],
        "-" => &["+"],
        "*" => &["+"],
        "/" => &["*"],
        "%" => &["+"],
        "&" => &["|"],
        "|" => &["&", "^"],
        "^" => &["|"],
        "<<" => &[">>"],
        ">>" => &["<<"],
        "+=" => &["-="],
        "-=" => &["+="],
        "&=" => &["|="],
        "|=" => &["&="],
        _ => &[],
    }
}

fn other_method(name: &str) -> Option<&'static str> {
    Some(match name {
        "min" => "max",
        "max" => "min",
        "any" => "all",
        "all" => "any",
        "is_some_and" => "is_none_or",
        "is_none_or" => "is_some_and",
        "saturating_add" => "saturating_sub",
        "saturating_sub" => "saturating_add",
        "wrapping_add" => "wrapping_sub",
        "wrapping_sub" => "wrapping_add",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "impl Walk { fn place(&self, low: i64) -> Result<(), Reason> {
            if low < 0 { return Err(Reason::Bounds); }
            self.check(low)?; // the rest
            Ok(())
        } }";

    fn switched(left_out: &[u32]) -> (String, Vec<String>) {
        let mut mutants = Vec::new();
        let left_out = left_out.iter().copied().collect();
        let (text, next) = switch("access.rs", SOURCE, 1, &left_out, &mut mutants).unwrap();
        assert_eq!(next as usize, 1 + mutants.len() + left_out.len());
        syn::parse_file(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        (text, mutants.into_iter().map(|mutant| mutant.what).collect())
    }

    #[test]
    fn checks_are_changed_and_left_out() {
        let (text, mutants) = switched(&[]);
        let of_place = |what: &str| format!("access.rs: Walk::place: {what}");
        for what in [
            "Ok(()) instead of all of it",
            "true instead of low < 0",
            "low <= 0 instead of low < 0",
            "without return Err(Reason::Bounds);",
            "without self.check(low)?;",
        ] {
            assert!(mutants.contains(&of_place(what)), "{what} is not among {mutants:#?}");
        }
        let line = text.lines().find(|line| line.contains("low <= 0,")).unwrap();
        let number = number_on(line).unwrap();
        assert_eq!(mutants[number as usize - 1], of_place("low <= 0 instead of low < 0"));
    }

    #[test]
    fn what_does_not_compile_is_left_out_and_others_keep_their_numbers() {
        let (all, names) = switched(&[]);
        let (text, rest) = switched(&[1, 2]);
        assert_eq!(rest, names[2..]);
        assert!(number_on("1 => true, //#1") == Some(1) && all.contains("//#1\n") && !text.contains("//#1\n"));
        assert!(text.contains("//#3\n"));
    }
}
