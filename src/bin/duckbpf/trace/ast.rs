//! What a one-liner says.

use std::time::Duration;

use duckbpf_runtime::Hook;

/// A program: clauses, in their order.
pub type Script = Vec<Clause>;

/// `probes /predicate/ { body }`
#[derive(Clone, Debug, PartialEq)]
pub struct Clause {
    pub probes: Vec<Probe>,
    pub predicate: Option<Expr>,
    pub body: Vec<Stmt>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    Hook(Hook),
    Begin,
    End,
    Interval(Duration),
}

/// `@name[keys]`
#[derive(Clone, Debug, PartialEq)]
pub struct MapRef {
    /// Without the `@`; empty for the nameless one.
    pub name: String,
    pub keys: Vec<Expr>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Stmt {
    /// `@m[k] = count();`
    Aggregate(MapRef, Aggregate),
    /// `@m[k] = e;`
    Set(MapRef, Expr),
    /// `@m[k] += e;`, `@m[k]++;`
    Add(MapRef, Expr),
    /// `$x = e;`
    Local(String, Expr),
    If(Expr, Vec<Stmt>, Vec<Stmt>),
    Printf(String, Vec<Expr>),
    /// `delete(@m[k]);`
    Delete(MapRef),
    /// `print(@m);`
    Print(String),
    /// `clear(@m);`
    Clear(String),
    /// `exit();`
    Exit,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Aggregate {
    Count,
    Sum(Expr),
    Avg(Expr),
    Min(Expr),
    Max(Expr),
    /// By powers of two.
    Hist(Expr),
    /// By steps: what, from, to, step.
    Lhist(Expr, i64, i64, i64),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Number(i64),
    /// `args.x`: a field of the hook's context.
    Field(String),
    Builtin(Builtin),
    Map(MapRef),
    Local(String),
    /// As C has it.
    Unary(&'static str, Box<Expr>),
    Binary(&'static str, Box<Expr>, Box<Expr>),
    Choice(Box<Expr>, Box<Expr>, Box<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    Nsecs,
    Age,
    Thread,
    Query,
    Connection,
    Database,
    Pid,
}

/// What the compiler is told that the database's process is.
pub const PROCESS: &str = "process_id";

impl Builtin {
    pub const ALL: [(&'static str, Builtin); 7] = [
        ("nsecs", Builtin::Nsecs),
        ("age", Builtin::Age),
        ("thread", Builtin::Thread),
        ("query", Builtin::Query),
        ("connection", Builtin::Connection),
        ("database", Builtin::Database),
        ("pid", Builtin::Pid),
    ];

    /// What stands for it in C, where `ctx` is the hook's context.
    pub fn in_c(self) -> &'static str {
        match self {
            Builtin::Nsecs => "bpf_ktime_get_ns()",
            Builtin::Age => "duckbpf_query_age_ns()",
            Builtin::Thread => "ctx->origin.thread_index",
            Builtin::Query => "ctx->origin.query_id",
            Builtin::Connection => "ctx->origin.connection_id",
            Builtin::Database => "ctx->origin.database_id",
            Builtin::Pid => PROCESS,
        }
    }
}

impl Expr {
    /// Shows every expression in this one, itself first.
    pub fn visit<'a>(&'a self, see: &mut impl FnMut(&'a Expr)) {
        see(self);
        match self {
            Expr::Number(_) | Expr::Field(_) | Expr::Builtin(_) | Expr::Local(_) => {}
            Expr::Map(map) => map.keys.iter().for_each(|key| key.visit(see)),
            Expr::Unary(_, of) => of.visit(see),
            Expr::Binary(_, left, right) => {
                left.visit(see);
                right.visit(see);
            }
            Expr::Choice(when, then, other) => {
                when.visit(see);
                then.visit(see);
                other.visit(see);
            }
        }
    }
}

impl Aggregate {
    pub fn argument(&self) -> Option<&Expr> {
        match self {
            Aggregate::Count => None,
            Aggregate::Sum(of)
            | Aggregate::Avg(of)
            | Aggregate::Min(of)
            | Aggregate::Max(of)
            | Aggregate::Hist(of)
            | Aggregate::Lhist(of, ..) => Some(of),
        }
    }
}
