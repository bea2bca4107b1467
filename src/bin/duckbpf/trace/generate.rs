//! A one-liner as C, for clang: one program a hook, a map for each `@name`.
//!
//! Through C, not straight to bytecode: clang optimises, spills registers and writes the types by which the database decodes keys and
//! values; the verifier's messages lead into readable text (`--source` shows it); and there is one compiler of programs in the project.
//! The price is that clang must be where the one-liner is typed, which the database's machine is only by coincidence of the socket.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use anyhow::{Result, bail};
use duckbpf_runtime::{Hook, context_fields};

use super::ast::{Aggregate, Builtin, Clause, Expr, MapRef, Probe, Script, Stmt};

/// Keys of one map.
const MAX_KEYS: usize = 8;
/// Arguments of one printf.
pub const MAX_ARGUMENTS: usize = 8;
/// The number of an event that asks to end.
pub const EXIT: u64 = 0xffff_ffff;

/// What is to be compiled, and what is done outside of the database.
#[derive(Debug)]
pub struct Plan {
    pub source: String,
    /// By the names after `@`.
    pub maps: BTreeMap<String, Shape>,
    /// Of printf: the events' numbers are their places here.
    pub formats: Vec<String>,
    pub begin: Vec<Action>,
    pub end: Vec<Action>,
    pub intervals: Vec<(Duration, Vec<Action>)>,
    /// There are events to be read.
    pub has_events: bool,
    /// Something is attached.
    pub has_hooks: bool,
}

/// What the client does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Print(String),
    Clear(String),
    Say(String),
    Exit,
}

/// A map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub kind: Kind,
    pub keys: usize,
    /// Of what is summed or compared.
    signed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    Hist,
    Lhist {
        from: i64,
        to: i64,
        step: i64,
    },
    /// `@x = e`
    Value,
}

impl Kind {
    pub fn has_bucket(self) -> bool {
        matches!(self, Kind::Hist | Kind::Lhist { .. })
    }

    fn has_stat(self) -> bool {
        matches!(self, Kind::Avg | Kind::Min | Kind::Max)
    }
}

/// The map's name in C.
pub fn map_name(name: &str) -> String {
    format!("map_{name}")
}

/// Makes C of a script.
pub fn generate(script: &Script, max_entries: u32) -> Result<Plan> {
    let mut generator = Generator::default();
    let mut outside = (Vec::new(), Vec::new(), Vec::new());
    let mut programs: BTreeMap<Hook, String> = BTreeMap::new();
    for clause in script {
        clause.body.iter().try_for_each(|statement| generator.declare(statement, clause))?;
        for probe in &clause.probes {
            if let Probe::Hook(hook) = probe {
                let text = generator.clause(clause, *hook)?;
                programs.entry(*hook).or_default().push_str(&text);
            }
        }
        let actions = || actions(clause);
        for probe in &clause.probes {
            match probe {
                Probe::Hook(_) => {}
                Probe::Begin => outside.0.extend(actions()?),
                Probe::End => outside.1.extend(actions()?),
                Probe::Interval(every) => outside.2.push((*every, actions()?)),
            }
        }
    }
    for action in outside.0.iter().chain(&outside.1).chain(outside.2.iter().flat_map(|(_, actions)| actions)) {
        if let Action::Print(map) | Action::Clear(map) = action
            && !generator.maps.contains_key(map)
        {
            bail!("nothing is put into @{map}");
        }
    }
    let has_hooks = !programs.is_empty();
    Ok(Plan {
        source: generator.source(&programs, max_entries),
        maps: generator.maps,
        formats: generator.formats,
        begin: outside.0,
        end: outside.1,
        intervals: outside.2,
        has_events: generator.has_events,
        has_hooks,
    })
}

/// What a clause does outside of the database.
fn actions(clause: &Clause) -> Result<Vec<Action>> {
    let action = |statement: &Stmt| match statement {
        Stmt::Print(map) => Ok(Action::Print(map.clone())),
        Stmt::Clear(map) => Ok(Action::Clear(map.clone())),
        Stmt::Printf(text, arguments) if arguments.is_empty() => Ok(Action::Say(text.clone())),
        Stmt::Exit => Ok(Action::Exit),
        _ => bail!(
            "BEGIN, END and interval can do this: print(@x), clear(@x), exit(), and printf of a text without arguments"
        ),
    };
    if clause.predicate.is_some() {
        bail!("BEGIN, END and interval have no predicate");
    }
    clause.body.iter().map(action).collect()
}

#[derive(Default)]
struct Generator {
    maps: BTreeMap<String, Shape>,
    formats: Vec<String>,
    has_events: bool,
}

impl Generator {
    /// Learns what the maps are; refuses two uses that do not go together.
    fn declare(&mut self, statement: &Stmt, clause: &Clause) -> Result<()> {
        let hook =
            clause.probes.iter().find_map(|probe| if let Probe::Hook(hook) = probe { Some(*hook) } else { None });
        let signed = |expr: &Expr| is_signed(expr, hook);
        match statement {
            Stmt::Aggregate(map, aggregate) => {
                let kind = match aggregate {
                    Aggregate::Count => Kind::Count,
                    Aggregate::Sum(_) => Kind::Sum,
                    Aggregate::Avg(_) => Kind::Avg,
                    Aggregate::Min(_) => Kind::Min,
                    Aggregate::Max(_) => Kind::Max,
                    Aggregate::Hist(_) => Kind::Hist,
                    Aggregate::Lhist(_, from, to, step) => Kind::Lhist { from: *from, to: *to, step: *step },
                };
                self.map(map, kind, aggregate.argument().is_some_and(signed))
            }
            Stmt::Set(map, _) | Stmt::Add(map, _) => self.map(map, Kind::Value, true),
            Stmt::If(_, then, otherwise) => {
                then.iter().chain(otherwise).try_for_each(|statement| self.declare(statement, clause))
            }
            _ => Ok(()),
        }
    }

    fn map(&mut self, map: &MapRef, kind: Kind, signed: bool) -> Result<()> {
        let name = &map.name;
        if map.keys.len() > MAX_KEYS {
            bail!("@{name} has more than {MAX_KEYS} keys");
        }
        let shape = Shape { kind, keys: map.keys.len(), signed };
        let known = self.maps.entry(name.clone()).or_insert(shape);
        if known.kind != kind {
            bail!("@{name} is used for {:?} and for {kind:?}; give one of them another name", known.kind);
        }
        if known.keys != shape.keys {
            bail!("@{name} has {} keys at one place and {} at another", known.keys, shape.keys);
        }
        known.signed |= signed;
        Ok(())
    }

    fn clause(&mut self, clause: &Clause, hook: Hook) -> Result<String> {
        let mut locals = Vec::new();
        find_locals(&clause.body, &mut locals);
        let mut text = String::from("\t{\n");
        for local in &locals {
            let _ = writeln!(text, "\t\t__s64 local_{local} = 0;");
        }
        let mut writer = Writer { generator: self, hook, locals: &locals, text, depth: 2 };
        match &clause.predicate {
            None => writer.statements(&clause.body)?,
            Some(predicate) => {
                let predicate = writer.expression(predicate)?;
                writer.line(&format!("if ({predicate}) {{"));
                writer.indented(&clause.body)?;
                writer.line("}");
            }
        }
        Ok(writer.text + "\t}\n")
    }

    fn source(&self, programs: &BTreeMap<Hook, String>, max_entries: u32) -> String {
        let mut text = String::from(
            "#include \"duckbpf.h\"\n\nLICENSE(\"MIT\");\n\n/* Updates for which there was no room. */\n__u64 lost;\n\n",
        );
        text.push_str(LOG2);
        if self.has_events {
            text.push_str(EVENTS);
        }
        for (name, shape) in &self.maps {
            text.push_str(&declaration(name, shape, max_entries));
        }
        for (hook, body) in programs {
            let _ = write!(
                text,
                "SEC(\"duckdb/{hook}\")\n__u64 trace_{hook}(struct duckbpf_{hook}_ctx *ctx)\n{{\n\t(void)ctx;\n{body}\treturn 0;\n}}\n\n"
            );
        }
        text
    }
}

const LOG2: &str = "static __attribute__((unused)) __always_inline __s64 log2_of(__u64 value)
{
	__s64 log = 0;

	if (value >> 32) { log += 32; value >>= 32; }
	if (value >> 16) { log += 16; value >>= 16; }
	if (value >> 8) { log += 8; value >>= 8; }
	if (value >> 4) { log += 4; value >>= 4; }
	if (value >> 2) { log += 2; value >>= 2; }
	return log + (__s64)(value >> 1);
}

";

const EVENTS: &str = "struct event {
	__u64 number;
	__s64 arguments[8];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
	__type(value, struct event);
} events SEC(\".maps\");

";

/// A map and what adds to it.
fn declaration(name: &str, shape: &Shape, max_entries: u32) -> String {
    let map = map_name(name);
    let number = if shape.signed { "__s64" } else { "__u64" };
    let mut text = format!("struct key_{name} {{\n");
    // A map without keys has one all the same.
    for key in 0..shape.keys.max(1) {
        let _ = writeln!(text, "\t__s64 k{key};");
    }
    if shape.kind.has_bucket() {
        text.push_str("\t__s64 bucket;\n");
    }
    text.push_str("};\n\n");
    let value = if shape.kind.has_stat() {
        let _ = write!(text, "struct stat_{name} {{\n\t__u64 count;\n\t{number} value;\n}};\n\n");
        format!("struct stat_{name}")
    } else {
        number.to_owned()
    };
    let kind = if shape.kind == Kind::Value { "HASH" } else { "PERCPU_HASH" };
    let _ = write!(
        text,
        "struct {{\n\t__uint(type, BPF_MAP_TYPE_{kind});\n\t__uint(max_entries, {max_entries});\n\t__type(key, struct key_{name});\n\t\
         __type(value, {value});\n}} {map} SEC(\".maps\");\n\n"
    );
    let change = match shape.kind {
        Kind::Value => "__sync_fetch_and_add(value, by);".to_owned(),
        Kind::Avg => "value->value += by;\n\tvalue->count += 1;".to_owned(),
        Kind::Min | Kind::Max => {
            let sign = if shape.kind == Kind::Min { "<" } else { ">" };
            format!("if (!value->count || by {sign} value->value)\n\t\tvalue->value = by;\n\tvalue->count += 1;")
        }
        _ => "*value += by;".to_owned(),
    };
    let _ = write!(
        text,
        "static __attribute__((unused)) __always_inline void add_{name}(struct key_{name} *key, {number} by)\n{{\n\t{value} *value = \
         bpf_map_lookup_elem(&{map}, key), none = {{}};\n\n\tif (!value) {{\n\t\tbpf_map_update_elem(&{map}, key, &none, BPF_NOEXIST);\n\t\t\
         value = bpf_map_lookup_elem(&{map}, key);\n\t}}\n\tif (!value) {{\n\t\t__sync_fetch_and_add(&lost, 1);\n\t\treturn;\n\t}}\n\t\
         {change}\n}}\n\n"
    );
    text
}

fn find_locals(body: &[Stmt], found: &mut Vec<String>) {
    for statement in body {
        match statement {
            Stmt::Local(name, _) if !found.contains(name) => found.push(name.clone()),
            Stmt::If(_, then, otherwise) => {
                find_locals(then, found);
                find_locals(otherwise, found);
            }
            _ => {}
        }
    }
}

/// Whether a value can be below 0: all but those with a field or clock of 64 unsigned bits in them.
fn is_signed(expr: &Expr, hook: Option<Hook>) -> bool {
    let mut signed = true;
    expr.visit(&mut |part| {
        signed &= match (part, hook) {
            (Expr::Field(name), Some(hook)) => field(name, hook).is_none_or(|field| field.signed || field.size < 8),
            (Expr::Builtin(builtin), _) => *builtin == Builtin::Thread,
            _ => true,
        };
    });
    signed
}

/// A field by its name; those of the origin also without `origin.`.
fn field(name: &str, hook: Hook) -> Option<&'static duckbpf_runtime::Field> {
    let is_it = |known: &str| known == name || known.strip_prefix("origin.") == Some(name);
    context_fields(hook).iter().find(|field| field.count == 1 && is_it(field.name))
}

/// Writes a clause for one hook.
struct Writer<'a> {
    generator: &'a mut Generator,
    hook: Hook,
    locals: &'a [String],
    text: String,
    depth: usize,
}

impl Writer<'_> {
    fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "{}{line}", "\t".repeat(self.depth));
    }

    fn statements(&mut self, body: &[Stmt]) -> Result<()> {
        body.iter().try_for_each(|statement| self.statement(statement))
    }

    fn indented(&mut self, body: &[Stmt]) -> Result<()> {
        self.depth += 1;
        let done = self.statements(body);
        self.depth -= 1;
        done
    }

    fn statement(&mut self, statement: &Stmt) -> Result<()> {
        match statement {
            Stmt::Aggregate(map, aggregate) => self.aggregate(map, aggregate),
            Stmt::Set(map, value) => {
                let (name, value) = (map_name(&map.name), self.expression(value)?);
                let update = format!(
                    "__s64 value = {value};\n\n\t\t\tif (bpf_map_update_elem(&{name}, &key, &value, BPF_ANY))\n\t\t\t\t\
                     __sync_fetch_and_add(&lost, 1);"
                );
                self.with_key(map, None, &update)
            }
            Stmt::Add(map, by) => {
                let by = self.expression(by)?;
                self.with_key(map, None, &format!("add_{}(&key, {by});", map.name))
            }
            Stmt::Delete(map) => {
                self.known(map)?;
                self.with_key(map, None, &format!("bpf_map_delete_elem(&{}, &key);", map_name(&map.name)))
            }
            Stmt::Local(name, value) => {
                let value = self.expression(value)?;
                self.line(&format!("local_{name} = {value};"));
                Ok(())
            }
            Stmt::If(when, then, otherwise) => {
                let when = self.expression(when)?;
                self.line(&format!("if ({when}) {{"));
                self.indented(then)?;
                self.line("} else {");
                self.indented(otherwise)?;
                self.line("}");
                Ok(())
            }
            Stmt::Printf(format, arguments) => self.printf(format, arguments),
            Stmt::Exit => {
                self.event(&EXIT.to_string(), &[]);
                Ok(())
            }
            Stmt::Print(_) | Stmt::Clear(_) => {
                bail!("print and clear belong to interval and END: a hook's program cannot")
            }
        }
    }

    fn aggregate(&mut self, map: &MapRef, aggregate: &Aggregate) -> Result<()> {
        let name = &map.name;
        let value = aggregate.argument().map(|of| self.expression(of)).transpose()?.unwrap_or_default();
        match aggregate {
            Aggregate::Count => self.with_key(map, None, &format!("add_{name}(&key, 1);")),
            Aggregate::Sum(_) | Aggregate::Avg(_) | Aggregate::Min(_) | Aggregate::Max(_) => {
                self.with_key(map, None, &format!("add_{name}(&key, {value});"))
            }
            Aggregate::Hist(of) => {
                let below = if is_signed(of, Some(self.hook)) { "x < 0 ? -1 : " } else { "" };
                let bucket = format!("({{ __auto_type x = {value}; {below}x == 0 ? 0 : 1 + log2_of(x); }})");
                self.with_key(map, Some(&bucket), &format!("add_{name}(&key, 1);"))
            }
            Aggregate::Lhist(_, from, to, step) => {
                let last = (to - from + step - 1) / step;
                let bucket = format!(
                    "({{ __s64 x = {value}; x < {from}LL ? -1 : x >= {to}LL ? {last} : (__s64)((__u64)(x - {from}LL) / {step}); }})"
                );
                self.with_key(map, Some(&bucket), &format!("add_{name}(&key, 1);"))
            }
        }
    }

    /// A statement in which `key` is the map's key.
    fn with_key(&mut self, map: &MapRef, bucket: Option<&str>, statement: &str) -> Result<()> {
        let key = self.key(map, bucket)?;
        self.line("{");
        self.depth += 1;
        self.line(&key);
        self.line(statement);
        self.depth -= 1;
        self.line("}");
        Ok(())
    }

    fn key(&mut self, map: &MapRef, bucket: Option<&str>) -> Result<String> {
        let keys = map.keys.iter().map(|key| self.expression(key)).collect::<Result<Vec<_>>>()?;
        let mut parts: Vec<String> = keys.iter().enumerate().map(|(index, key)| format!(".k{index} = {key}")).collect();
        if parts.is_empty() {
            parts.push(".k0 = 0".to_owned());
        }
        parts.extend(bucket.map(|bucket| format!(".bucket = {bucket}")));
        Ok(format!("struct key_{} key = {{ {} }};", map.name, parts.join(", ")))
    }

    fn known(&self, map: &MapRef) -> Result<Shape> {
        let Some(shape) = self.generator.maps.get(&map.name) else { bail!("nothing is put into @{}", map.name) };
        if shape.keys != map.keys.len() {
            bail!("@{} has {} keys at one place and {} at another", map.name, shape.keys, map.keys.len());
        }
        Ok(*shape)
    }

    fn printf(&mut self, format: &str, arguments: &[Expr]) -> Result<()> {
        let wanted = super::show::specifiers(format)?;
        if wanted != arguments.len() || wanted > MAX_ARGUMENTS {
            bail!("{format:?} takes {wanted} arguments, not {}; at most {MAX_ARGUMENTS}", arguments.len());
        }
        let arguments = arguments.iter().map(|argument| self.expression(argument)).collect::<Result<Vec<_>>>()?;
        let formats = &mut self.generator.formats;
        let number = formats.iter().position(|known| known == format).unwrap_or_else(|| {
            formats.push(format.to_owned());
            formats.len() - 1
        });
        self.event(&number.to_string(), &arguments);
        Ok(())
    }

    fn event(&mut self, number: &str, arguments: &[String]) {
        self.generator.has_events = true;
        self.line("{");
        self.depth += 1;
        for (index, argument) in arguments.iter().enumerate() {
            self.line(&format!("__s64 argument_{index} = {argument};"));
        }
        self.line("struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);");
        self.line("if (event) {");
        self.line(&format!("\tevent->number = {number};"));
        for index in 0..arguments.len() {
            self.line(&format!("\tevent->arguments[{index}] = argument_{index};"));
        }
        self.line("\tbpf_ringbuf_submit(event, 0);");
        self.line("}");
        self.depth -= 1;
        self.line("}");
    }

    fn expression(&mut self, expr: &Expr) -> Result<String> {
        Ok(match expr {
            Expr::Number(number) => format!("{number}LL"),
            Expr::Builtin(builtin) => builtin.in_c().to_owned(),
            Expr::Field(name) => self.field(name)?,
            Expr::Local(name) if self.locals.contains(name) => format!("local_{name}"),
            Expr::Local(name) => bail!("${name} is read and never set in this clause"),
            Expr::Map(map) => {
                let Shape { kind: Kind::Value, .. } = self.known(map)? else {
                    bail!("@{} is an aggregate: it can be printed, not read", map.name);
                };
                let key = self.key(map, None)?;
                let name = map_name(&map.name);
                format!("({{ {key} __s64 *found = bpf_map_lookup_elem(&{name}, &key); found ? *found : 0; }})")
            }
            Expr::Unary(sign, of) => format!("({sign}{})", self.expression(of)?),
            Expr::Binary(sign, left, right) => {
                let (left, right) = (self.expression(left)?, self.expression(right)?);
                format!("({left} {sign} {right})")
            }
            Expr::Choice(when, then, otherwise) => {
                let (when, then) = (self.expression(when)?, self.expression(then)?);
                format!("({when} ? {then} : {})", self.expression(otherwise)?)
            }
        })
    }

    /// Narrow ones are widened with their sign, so that differences may be below 0.
    fn field(&self, name: &str) -> Result<String> {
        match field(name, self.hook) {
            Some(field) if field.size < 8 => Ok(format!("(__s64)ctx->{}", field.name)),
            Some(field) => Ok(format!("ctx->{}", field.name)),
            None => {
                let names: Vec<&str> = context_fields(self.hook).iter().map(|field| field.name).collect();
                bail!("hook:{} has no args.{name}; it has {}", self.hook, names.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::parse::parse;

    fn plan(text: &str) -> Result<Plan> {
        generate(&parse(text)?, 100)
    }

    fn refused(text: &str) -> String {
        plan(text).unwrap_err().to_string()
    }

    /// Everything that the language has goes through clang and the verifier.
    #[test]
    fn what_is_made_compiles_and_verifies() {
        let text = "hook:unpin /args.size > 4096 && @seen[args.block_id] == 0/ {
                @[args.tag] = count(); @sum = sum(args.size); @avg[query] = avg(args.readers); @low = min(args.block_id);
                @high[args.tag, args.hint] = max(args.size); @h[args.tag] = hist(args.size); @l = lhist(args.readers, 0, 64, 4);
                @seen[args.block_id] = nsecs; $held = nsecs - @seen[args.block_id];
                if ($held > 10) { printf(\"%d %x\\n\", args.block_id, $held); } else { @few++; @few -= 2; delete(@seen[args.block_id]); }
            }
            hook:load, hook:unpin { @both[args.tag] = count(); }
            hook:update_used_memory { @delta = hist(args.delta); @d = sum(args.delta); exit(); }
            interval:ms:100 { print(@); clear(@); } END { printf(\"end\\n\"); }";
        let plan = plan(text).unwrap();
        assert_eq!(plan.formats, ["%d %x\n"]);
        assert_eq!(plan.maps["h"].kind, Kind::Hist);
        let folder = tempfile::tempdir().unwrap();
        let (source, object) = (folder.path().join("all.bpf.c"), folder.path().join("all.bpf.o"));
        std::fs::write(&source, &plan.source).unwrap();
        duckbpf::compile::compile(&source, &object, &["-Werror".into()])
            .unwrap_or_else(|error| panic!("{error}\n{}", plan.source));
        for verdict in duckbpf_runtime::judge(&object, duckbpf_runtime::Profile::Hooks, false).unwrap() {
            assert!(verdict.result.is_ok(), "{}\n{}", verdict.result.unwrap_err(), plan.source);
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        assert!(refused("hook:load { @x = count(); @x = 1; }").contains("another name"));
        assert!(refused("hook:load { @x[1] = count(); @x = count(); }").contains("1 keys at one place and 0"));
        assert!(
            refused("hook:load { @x = args.readers; }")
                .contains("hook:load has no args.readers; it has origin.database_id")
        );
        assert!(refused("hook:load { @x = $y; }").contains("never set"));
        assert!(refused("hook:load { @x = @y; }").contains("nothing is put into @y"));
        assert!(refused("hook:load { @x = count(); @y = @x; }").contains("aggregate"));
        assert!(refused("hook:load { printf(\"%d\"); }").contains("takes 1 arguments, not 0"));
        assert!(refused("hook:load { print(@x); }").contains("belong to interval"));
        assert!(refused("END { @x = 1; }").contains("can do this"));
        assert!(refused("END { print(@x); }").contains("nothing is put into @x"));
    }
}
