//! Programs as text, in the syntax of LLVM's disassembler, with labels, functions and maps by name.
//!
//! ```text
//! hook unpin                      a hook; without one, the generic profile
//! map counts hash 4 8 16          a map: its kind, sizes of key and value, entries; of maps: sizes of their key and value
//! map log queue 0 8 16 wronly     programs may only write it; `rdonly`: only read it
//! data .bss 16                    a section of variables and its bytes; `rodata` for a read-only one
//! r2 = *(u64 *)(r1 + 32)
//! if r2 == 0 goto out
//! r1 = map[counts] ll
//! r3 = .bss[8] ll
//! call map_lookup_elem            a helper by name or number
//! call sum                        a function of the program
//! out: exit
//! fn sum                          begins a function
//! raw 0x95 0 0 0 1                opcode, dst, src, off, imm as they are
//! ```
//!
//! A `;` begins a comment. Short forms of what many programs do:
//!
//! ```text
//! @lookup counts                  looks the number 0 up, from the stack at -4
//! @reserve events 16              a record
//! @submit r6                      gives it back
//! @poke r2                        stores at r2 from r10 - 8 and from r10 - 512, by r5: r2 must be in 0..=7
//! ```

use std::{collections::HashMap, sync::Arc};

use crate::{
    helpers,
    hook::Hook,
    isa::{CALL, CALL_LOCAL, Insn, LDDW, LDDW_FUNCTION, LDDW_MAP, LDDW_MEMORY},
    object::{FLAG_READ_ONLY_PROGRAM, FLAG_WRITE_ONLY_PROGRAM, Function, MapDef, MapKind, Object, ProgramText, Region},
};

/// Assembled text.
#[derive(Debug)]
pub struct Assembly {
    pub object: Arc<Object>,
    /// What the program is for; None: the generic profile.
    pub hook: Option<Hook>,
}

/// Assembles a program.
pub fn assemble(text: &str) -> Result<Assembly, String> {
    let mut assembler = Assembler::default();
    for (number, line) in text.lines().enumerate() {
        let line = line.split(';').next().unwrap_or_default().trim();
        assembler.line(line).map_err(|what| format!("line {}: {line}: {what}", number + 1))?;
    }
    assembler.finish()
}

/// Where a jump's or call's distance goes.
#[derive(Clone, Copy)]
enum Field {
    Off,
    Imm,
}

#[derive(Default)]
struct Assembler {
    hook: Option<Hook>,
    insns: Vec<Insn>,
    labels: HashMap<String, usize>,
    functions: Vec<(String, usize)>,
    /// The slot, the slot that its distance counts from, the field, the name.
    pending: Vec<(usize, usize, Field, String)>,
    regions: Vec<Region>,
    maps: Vec<MapDef>,
}

impl Assembler {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let rest = match line.split_once(':') {
            Some((label, rest)) if is_name(label) => {
                self.name(label)?;
                rest.trim()
            }
            _ => line,
        };
        let words: Vec<&str> = rest.split_whitespace().collect();
        match words.as_slice() {
            [] => Ok(()),
            ["hook", hook] => {
                self.hook = Some(Hook::from_name(hook).ok_or("no such hook")?);
                Ok(())
            }
            ["map", name, kind, sizes @ ..] => self.map(name, kind, sizes),
            [kind @ ("data" | "rodata"), name, size] => self.region(name, size, *kind == "data"),
            ["fn", name] => {
                self.functions.push(((*name).to_owned(), self.insns.len()));
                self.name(name)
            }
            ["raw", code, dst, src, off, imm] => {
                let (code, dst, src) = (number(code)? as u8, number(dst)? as u8, number(src)? as u8);
                self.push(Insn { code, dst, src, off: number(off)? as i16, imm: number(imm)? as i32 })
            }
            [short, arguments @ ..] if short.starts_with('@') => self.short(short, arguments),
            words => self.instruction(&words.join(" ")),
        }
    }

    fn short(&mut self, short: &str, arguments: &[&str]) -> Result<(), String> {
        let text = match (short, arguments) {
            ("@lookup", [map]) => {
                format!("*(u32 *)(r10 - 4) = 0\nr1 = map[{map}] ll\nr2 = r10\nr2 += -4\ncall map_lookup_elem")
            }
            ("@reserve", [map, size]) => format!("r1 = map[{map}] ll\nr2 = {size}\nr3 = 0\ncall ringbuf_reserve"),
            ("@submit", [record]) => format!("r1 = {record}\nr2 = 0\ncall ringbuf_submit"),
            ("@poke", [at]) => {
                format!("r5 = r10\nr5 += -8\nr5 += {at}\n*(u8 *)(r5 + 0) = 1\nr5 += -504\n*(u8 *)(r5 + 0) = 1")
            }
            _ => return Err("no such short form".into()),
        };
        text.lines().try_for_each(|line| self.line(line))
    }

    fn name(&mut self, name: &str) -> Result<(), String> {
        match self.labels.insert(name.to_owned(), self.insns.len()) {
            Some(_) => Err(format!("{name} is there twice")),
            None => Ok(()),
        }
    }

    fn map(&mut self, name: &str, kind: &str, sizes: &[&str]) -> Result<(), String> {
        let (flags, sizes) = match sizes.split_last() {
            Some((&"rdonly", sizes)) => (FLAG_READ_ONLY_PROGRAM, sizes),
            Some((&"wronly", sizes)) => (FLAG_WRITE_ONLY_PROGRAM, sizes),
            _ => (0, sizes),
        };
        let kind = MapKind::ALL.into_iter().find(|known| known.name() == kind).ok_or("no such kind of map")?;
        let sizes = sizes.iter().map(|size| number(size).map(|size| size as u32)).collect::<Result<Vec<_>, _>>()?;
        let &[key, value, entries, ref inner @ ..] = sizes.as_slice() else {
            return Err("a map has sizes of key and value, and entries".into());
        };
        let mut map = MapDef::new(kind, key, value, entries);
        name.clone_into(&mut map.name);
        map.flags = flags;
        if let &[key, value] = inner {
            map.inner = Some(Box::new(MapDef::new(MapKind::Hash, key, value, entries)));
        }
        self.maps.push(map);
        Ok(())
    }

    fn region(&mut self, name: &str, size: &str, writable: bool) -> Result<(), String> {
        let size = number(size)? as u64;
        self.regions.push(Region { name: name.to_owned(), writable, size, bytes: Vec::new() });
        Ok(())
    }

    fn push(&mut self, insn: Insn) -> Result<(), String> {
        self.insns.push(insn);
        Ok(())
    }

    fn two(&mut self, dst: u8, src: u8, low: i32, high: i32) -> Result<(), String> {
        self.push(Insn { code: LDDW, dst, src, off: 0, imm: low })?;
        self.push(Insn { imm: high, ..Insn::default() })
    }

    fn jump(&mut self, code: u8, field: Field, to: &str) -> Result<(), String> {
        self.target(field, to);
        self.push(Insn { code, ..Insn::default() })
    }

    /// The next instruction's distance to a name, or a bare distance.
    fn target(&mut self, field: Field, to: &str) {
        let at = self.insns.len();
        self.pending.push((at, at + 1, field, to.to_owned()));
    }

    fn instruction(&mut self, line: &str) -> Result<(), String> {
        let after = |word: &str| line.strip_prefix(word);
        if line == "exit" {
            self.push(Insn { code: 0x95, ..Insn::default() })
        } else if let Some(to) = after("goto ") {
            self.jump(0x05, Field::Off, to)
        } else if let Some(to) = after("gotol ") {
            self.jump(0x06, Field::Imm, to)
        } else if let Some(what) = after("call ") {
            self.call(what)
        } else if let Some(rest) = after("if ") {
            self.branch(rest)
        } else if let Some(rest) = after("lock ") {
            self.atomic(rest)
        } else if line.starts_with('*') {
            self.store(line)
        } else {
            self.assignment(line)
        }
    }

    fn call(&mut self, what: &str) -> Result<(), String> {
        let helper = helpers::TABLE.iter().find(|helper| helper.name == what).map(|helper| i64::from(helper.id));
        if let Some(id) = helper.or_else(|| number(what).ok().filter(|_| !what.starts_with(['+', '-']))) {
            return self.push(Insn { code: CALL, imm: id as i32, ..Insn::default() });
        }
        self.target(Field::Imm, what);
        self.push(Insn { code: CALL, src: CALL_LOCAL, ..Insn::default() })
    }

    fn branch(&mut self, rest: &str) -> Result<(), String> {
        let (condition, to) = rest.split_once(" goto ").ok_or("if ... goto where?")?;
        let &[left, sign, right] = condition.split(' ').collect::<Vec<_>>().as_slice() else {
            return Err("if a == b goto ...".into());
        };
        let (dst, is_wide) = register(left).ok_or("no register")?;
        let op = CONDITIONS.iter().find(|(known, _)| *known == sign).ok_or("no such comparison")?.1;
        self.target(Field::Off, to);
        self.push(with_operand(op | if is_wide { 5 } else { 6 }, dst, right)?)
    }

    /// `*(u32 *)(r1 + 4) += r2`
    fn atomic(&mut self, rest: &str) -> Result<(), String> {
        let (place, sign, value) = assigned(rest).ok_or("lock *(u64 *)(r1 + 0) += r2")?;
        let (size, dst, off) = memory(place)?;
        let imm = ATOMICS.iter().find(|(_, known, _)| *known == sign).ok_or("no such atomic operation")?.2;
        let (src, _) = register(value).ok_or("no register")?;
        self.push(Insn { code: 0xc3 | size, dst, src, off, imm })
    }

    fn store(&mut self, line: &str) -> Result<(), String> {
        let (place, sign, value) = assigned(line).ok_or("*(u64 *)(r1 + 0) = r2")?;
        let (size, dst, off) = memory(place)?;
        match (sign, register(value)) {
            ("=", Some((src, _))) => self.push(Insn { code: 0x63 | size, dst, src, off, imm: 0 }),
            ("=", None) => self.push(Insn { code: 0x62 | size, dst, src: 0, off, imm: number(value)? as i32 }),
            _ => Err("a store is =".into()),
        }
    }

    fn assignment(&mut self, line: &str) -> Result<(), String> {
        let (left, sign, right) = assigned(line).ok_or("no instruction")?;
        let (dst, is_wide) = register(left).ok_or("no register")?;
        let class = if is_wide { 7 } else { 4 };
        if sign != "=" {
            let &(_, op, off) = OPERATIONS.iter().find(|(known, ..)| *known == sign).ok_or("no such operation")?;
            let insn = with_operand(op | class, dst, right)?;
            return self.push(Insn { off, ..insn });
        }
        if let Some(constant) = right.strip_suffix(" ll") {
            return self.constant(dst, constant);
        }
        if right.contains("atomic_fetch") || right.contains("xchg") {
            return self.fetch(dst, right);
        }
        if right.starts_with('*') {
            let (size, src, off) = memory(right)?;
            let mode = if right.starts_with("*(s") { 0x81 } else { 0x61 };
            return self.push(Insn { code: mode | size, dst, src, off, imm: 0 });
        }
        if right.strip_prefix('-') == Some(left) {
            return self.push(Insn { code: 0x80 | class, dst, ..Insn::default() });
        }
        if let Some((bits, src)) = right.strip_prefix("(s").and_then(|rest| rest.split_once(')')) {
            let (src, _) = register(src.trim()).ok_or("no register")?;
            return self.push(Insn { code: 0xb8 | class, dst, src, off: number(bits)? as i16, imm: 0 });
        }
        for (name, code) in [("le", 0xd4), ("be", 0xdc), ("bswap", 0xd7)] {
            if let Some(bits) = right.strip_prefix(name).and_then(|rest| rest.split(' ').next()) {
                return self.push(Insn { code, dst, imm: number(bits)? as i32, ..Insn::default() });
            }
        }
        self.push(with_operand(0xb0 | class, dst, right)?)
    }

    /// `0x11`, `map[name]`, `.bss[8]`, `function name`
    fn constant(&mut self, dst: u8, what: &str) -> Result<(), String> {
        if let Some(name) = what.strip_prefix("function ") {
            let at = self.insns.len();
            self.pending.push((at, at + 1, Field::Imm, name.to_owned()));
            return self.two(dst, LDDW_FUNCTION, 0, 0);
        }
        let Some((name, place)) = what.strip_suffix(']').and_then(|rest| rest.split_once('[')) else {
            let value = number(what)?;
            return self.two(dst, 0, value as i32, (value >> 32) as i32);
        };
        if name == "map" {
            let map = self.maps.iter().position(|map| map.name == place).ok_or("no such map")?;
            // After one for each section, all of which must stand before.
            return self.two(dst, LDDW_MAP, (self.regions.len() + map) as i32, 0);
        }
        let region = self.regions.iter().position(|region| region.name == name).ok_or("no such section")?;
        self.two(dst, LDDW_MEMORY, region as i32, number(place)? as i32)
    }

    /// `atomic_fetch_add((u64 *)(r1 + 0), r2)`, `xchg_64(r1 + 0, r2)`, `cmpxchg32_32(r1 + 0, w0, w2)`
    fn fetch(&mut self, result: u8, what: &str) -> Result<(), String> {
        let usage = "atomic_fetch_add((u64 *)(r1 + 0x0), r2)";
        let (name, arguments) = what.split_once('(').ok_or(usage)?;
        let (place, values) = arguments.strip_suffix(')').and_then(|rest| rest.split_once(',')).ok_or(usage)?;
        let (src, _) = register(values.rsplit(',').next().unwrap_or_default().trim()).ok_or("no register")?;
        let (imm, size) = match name {
            "xchg_64" => (0xe1, 0x18),
            "xchg32_32" => (0xe1, 0),
            "cmpxchg_64" => (0xf1, 0x18),
            "cmpxchg32_32" => (0xf1, 0),
            _ => {
                let known = |known: &str| name.strip_prefix("atomic_fetch_") == Some(known);
                let op = ATOMICS.iter().find(|(name, ..)| known(name)).ok_or("no such atomic operation")?;
                (op.2 | 1, memory(&format!("*{place}"))?.0)
            }
        };
        let (dst, off) = address(place.rsplit('(').next().unwrap_or_default().trim_end_matches(')'))?;
        if imm != 0xf1 && result != src {
            return Err("the result goes to the second operand".into());
        }
        self.push(Insn { code: 0xc3 | size, dst, src, off, imm })
    }

    fn finish(mut self) -> Result<Assembly, String> {
        for (slot, from, field, name) in std::mem::take(&mut self.pending) {
            let distance = match self.labels.get(&name) {
                Some(&to) => to as i64 - from as i64,
                None => number(&name).map_err(|_| format!("there is no {name}"))?,
            };
            match field {
                Field::Off => self.insns[slot].off = i16::try_from(distance).map_err(|_| "too far; use gotol")?,
                Field::Imm => self.insns[slot].imm = distance as i32,
            }
        }
        let ends = self.functions.iter().map(|(_, start)| *start).chain([self.insns.len()]);
        let starts = [("main".to_owned(), 0)].into_iter().chain(self.functions.iter().cloned());
        let functions = starts.zip(ends).map(|((name, start), end)| Function { name, start, end }).collect();
        let program = ProgramText::from_insns(self.hook.unwrap_or(Hook::Load), self.insns, functions);
        Ok(Assembly { object: Arc::new(Object::from_parts(program, self.regions, self.maps)), hook: self.hook })
    }
}

const CONDITIONS: [(&str, u8); 11] = [
    ("==", 0x10),
    (">", 0x20),
    (">=", 0x30),
    ("&", 0x40),
    ("!=", 0x50),
    ("s>", 0x60),
    ("s>=", 0x70),
    ("<", 0xa0),
    ("<=", 0xb0),
    ("s<", 0xc0),
    ("s<=", 0xd0),
];

/// Sign, operation, offset.
const OPERATIONS: [(&str, u8, i16); 13] = [
    ("+=", 0x00, 0),
    ("-=", 0x10, 0),
    ("*=", 0x20, 0),
    ("/=", 0x30, 0),
    ("s/=", 0x30, 1),
    ("|=", 0x40, 0),
    ("&=", 0x50, 0),
    ("<<=", 0x60, 0),
    (">>=", 0x70, 0),
    ("%=", 0x90, 0),
    ("s%=", 0x90, 1),
    ("^=", 0xa0, 0),
    ("s>>=", 0xc0, 0),
];

const ATOMICS: [(&str, &str, i32); 4] =
    [("add", "+=", 0x00), ("or", "|=", 0x40), ("and", "&=", 0x50), ("xor", "^=", 0xa0)];

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// r1 or w1, and whether it is r1.
fn register(text: &str) -> Option<(u8, bool)> {
    let number = text.strip_prefix(['r', 'w'])?.parse().ok().filter(|number| *number <= 15)?;
    Some((number, text.starts_with('r')))
}

fn number(text: &str) -> Result<i64, String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1i128, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    value.map(|value| (sign * i128::from(value)) as i64).map_err(|_| format!("{text} is no number"))
}

/// `left op= right`
fn assigned(line: &str) -> Option<(&str, &str, &str)> {
    line.match_indices(' ').find_map(|(at, _)| {
        let (sign, right) = line[at + 1..].split_once(' ')?;
        (sign.ends_with('=') && !matches!(sign, "==" | "!=" | ">=" | "<=")).then_some((&line[..at], sign, right))
    })
}

/// `r1 + 8`
fn address(text: &str) -> Result<(u8, i16), String> {
    let text = text.replace(' ', "");
    let at = text.find(['+', '-']).unwrap_or(text.len());
    let (base, _) = register(&text[..at]).ok_or_else(|| format!("{text} is no address"))?;
    let off = if at == text.len() { 0 } else { number(&text[at..])? };
    Ok((base, i16::try_from(off).map_err(|_| "the offset is too large")?))
}

/// `*(u32 *)(r1 + 8)`: the bits of the size, base and offset.
fn memory(text: &str) -> Result<(u8, u8, i16), String> {
    let usage = || format!("{text} is not *(u64 *)(r1 + 8)");
    let (ty, rest) = text.strip_prefix("*(").and_then(|rest| rest.split_once(" *)")).ok_or_else(usage)?;
    let size = match ty.get(1..) {
        Some("8") => 0x10,
        Some("16") => 0x08,
        Some("32") => 0x00,
        Some("64") => 0x18,
        _ => return Err(usage()),
    };
    let place = rest.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).ok_or_else(usage)?;
    let (base, off) = address(place)?;
    Ok((size, base, off))
}

/// An instruction whose second operand is a register or a number.
fn with_operand(code: u8, dst: u8, operand: &str) -> Result<Insn, String> {
    match register(operand) {
        Some((src, _)) => Ok(Insn { code: code | 8, dst, src, off: 0, imm: 0 }),
        None => Ok(Insn { code, dst, src: 0, off: 0, imm: number(operand)? as i32 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{Op, SLOT};

    #[test]
    fn text_is_read_back() {
        let lines = include_str!("../isa/golden.txt").lines().filter(|line| !line.starts_with('#'));
        for (bytes, text) in lines.filter_map(|line| line.split_once('\t')) {
            // What the loader alone writes has names here, and a call's bare distance is a helper's number.
            if ["memory[", "map[", "function", "call"].iter().any(|part| text.contains(part)) {
                continue;
            }
            let bytes: Vec<u8> = bytes.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
            let expected: Vec<Insn> = bytes.as_chunks::<SLOT>().0.iter().map(|slot| Insn::from_bytes(*slot)).collect();
            let text = if expected[0].code == 0x06 { text.replace("goto", "gotol") } else { text.to_owned() };
            let assembly = assemble(&text).unwrap_or_else(|what| panic!("{what}"));
            assert_eq!(assembly.object.programs[0].insns, expected, "{text}");
        }
    }

    #[test]
    fn names_become_distances() {
        let text = "map m hash 4 8 16\ndata .bss 16\ntop: if r1 == 0 goto out\nr2 = .bss[8] ll\nr1 = map[m] ll\n\
                    r3 = function f ll\ncall f\ngoto top\nout: exit\nfn f\nw0 = 0\nexit";
        let assembly = assemble(text).unwrap();
        let program = &assembly.object.programs[0];
        let expected = [
            (0, "if r1 == 0x0 goto +0x8"),
            (1, "r2 = memory[0][0x8] ll"),
            (3, "r1 = map[1] ll"),
            (5, "r3 = function +0x4 ll"),
            (7, "call +0x2"),
            (8, "goto -0x9"),
        ];
        for (pc, text) in expected {
            assert_eq!(Op::decode(&program.insns, pc).unwrap().to_string(), text);
        }
        assert_eq!((program.functions[1].start, program.functions[1].end), (10, 12));
    }

    #[test]
    fn mistakes_are_told() {
        for (text, part) in [
            ("r1 = r2 r3", "line 1"),
            ("goto nowhere", "nowhere"),
            ("x: exit\nx: exit", "twice"),
            ("r0 = *(u9 *)(r1 + 0)", "is not"),
            ("hook none", "no such hook"),
            ("@jump 3", "short form"),
        ] {
            let what = assemble(text).unwrap_err();
            assert!(what.contains(part), "{text}: {what}");
        }
    }
}
