//! Rust for an object: its programs, maps and constants as fields of structs, as `bpftool gen skeleton` makes them for C.
//!
//! In a build script:
//!
//! ```no_run
//! # fn main() -> Result<(), duckbpf::skeleton::Error> {
//! let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
//! duckbpf::skeleton::build("src/trace_load.bpf.c".as_ref(), &out)?;
//! # Ok(())
//! # }
//! ```
//!
//! and then in the crate, which depends on `duckbpf` alone:
//!
//! ```ignore
//! include!(concat!(env!("OUT_DIR"), "/trace_load.skel.rs"));
//!
//! let mut skeleton = trace_load::open();
//! skeleton.rodata.sample = 10;
//! let trace = skeleton.attach(&runtime, Options::default())?;
//! for event in trace.maps.events.drain(1000)? {
//!     println!("{} read {} bytes", event.query_id, event.size);
//! }
//! trace.detach()?;
//! ```

use std::{
    collections::BTreeMap,
    fmt::Write,
    io,
    path::{Path, PathBuf},
};

use duckbpf_runtime::{Declared, DeclaredVariable, MapDef, MapKind, Member, ObjectError, Type, inspect};

use crate::compile;

/// Why there is no skeleton.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Compile(#[from] compile::Error),
    #[error("{}: {source}", path.display())]
    Object { path: PathBuf, source: ObjectError },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: no module can be named {name}; rename the file", path.display())]
    Name { path: PathBuf, name: String },
}

/// For build scripts: compiles `<name>.bpf.c` to `<name>.bpf.o` and writes `<name>.skel.rs`, both in a folder.
pub fn build(source_file: &Path, out: &Path) -> Result<PathBuf, Error> {
    println!("cargo::rerun-if-changed={}", source_file.display());
    println!("cargo::rerun-if-env-changed=DUCKBPF_CLANG");
    let name = stem(source_file);
    let object = out.join(format!("{name}.bpf.o"));
    compile::compile(source_file, &object, &[])?;
    let path = out.join(format!("{name}.skel.rs"));
    let text = generate(&object)?;
    std::fs::write(&path, text).map_err(|source| Error::File { path: path.clone(), source })?;
    Ok(path)
}

/// The Rust of an object's skeleton. It includes the object's bytes by the path that is given here.
pub fn generate(object: &Path) -> Result<String, Error> {
    let declared = inspect(object).map_err(|source| Error::Object { path: object.to_owned(), source })?;
    let name = stem(object);
    let module = identifier(&name);
    if module.is_empty() || module.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(Error::Name { path: object.to_owned(), name });
    }
    let absolute = std::path::absolute(object).map_err(|source| Error::File { path: object.to_owned(), source })?;
    Ok(Skeleton { declared: &declared, name: &name, module: &module, object: &absolute, types: Types::default() }
        .text())
}

/// A program's name: its file's name without what follows the first of `.bpf`, `.c`, `.o`.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let end = [".bpf", ".c", ".o"].iter().filter_map(|end| name.find(end)).min().unwrap_or(name.len());
    name[..end].to_owned()
}

/// Letters, digits and `_`; of keywords the raw form.
fn identifier(name: &str) -> String {
    const KEYWORDS: [&str; 12] =
        ["type", "match", "ref", "move", "loop", "use", "in", "as", "fn", "mod", "impl", "where"];
    let mut text: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if KEYWORDS.contains(&text.as_str()) {
        text.insert_str(0, "r#");
    }
    text
}

fn camel(name: &str) -> String {
    let parts = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    let capital = |part: &str| part[..1].to_ascii_uppercase() + &part[1..];
    let text: String = parts.map(capital).collect();
    if text.is_empty() || text.starts_with(|first: char| first.is_ascii_digit()) { format!("T{text}") } else { text }
}

/// Structs that keys, values and constants are made of, by their names in Rust.
#[derive(Default)]
struct Types(BTreeMap<String, (Type, String)>);

impl Types {
    /// The Rust type of a C type; `hint` names a struct that has no name.
    fn rust(&mut self, ty: &Type, hint: &str) -> String {
        match ty {
            Type::Bool { bytes } => format!("u{}", bytes * 8),
            Type::Char { signed } => if *signed { "i8" } else { "u8" }.into(),
            Type::Int { bytes, signed } | Type::Enum { bytes, signed, .. } => {
                format!("{}{}", if *signed { 'i' } else { 'u' }, bytes * 8)
            }
            Type::Float { bytes } => format!("f{}", bytes * 8),
            Type::Array { element, count } if matches!(**element, Type::Char { .. }) => format!("[u8; {count}]"),
            Type::Array { element, count } => format!("[{}; {count}]", self.rust(element, hint)),
            Type::Bytes { bytes } => format!("[u8; {bytes}]"),
            Type::Struct { name, bytes, members } => {
                self.composite(ty, if name.is_empty() { hint } else { name }, *bytes, members)
            }
        }
    }

    fn composite(&mut self, ty: &Type, name: &str, bytes: u32, members: &[Member]) -> String {
        let name = (0..)
            .map(|number: u32| if number == 0 { camel(name) } else { format!("{}{number}", camel(name)) })
            .find(|name| self.0.get(name).is_none_or(|(known, _)| known == ty))
            .unwrap_or_default();
        if self.0.contains_key(&name) {
            return name;
        }
        // In its place before its members, which may be of the same name.
        self.0.insert(name.clone(), (ty.clone(), String::new()));
        let mut text = format!(
            "    #[derive(Clone, Copy, Debug, PartialEq, FromBytes, Immutable, IntoBytes)]\n    #[repr(C)]\n    #[zerocopy(crate = \"duckbpf::zerocopy\")]\n    pub struct {name} {{\n"
        );
        let mut end = 0;
        let pad = |text: &mut String, from: u32, to: u32| {
            if to > from {
                let _ = writeln!(text, "        pub _at_{from}: [u8; {}],", to - from);
            }
        };
        // Bit fields stay bytes: what lies between whole members.
        for member in members.iter().filter(|member| member.bits.is_none()) {
            pad(&mut text, end, member.bit_offset / 8);
            let ty = self.rust(&member.ty, &member.name);
            let _ = writeln!(text, "        pub {}: {ty},", identifier(&member.name));
            end = member.bit_offset / 8 + member.ty.size() as u32;
        }
        pad(&mut text, end, bytes);
        let _ = writeln!(text, "    }}\n    const _: () = assert!(size_of::<{name}>() == {bytes});\n");
        self.0.insert(name.clone(), (ty.clone(), text));
        name
    }
}

struct Skeleton<'a> {
    declared: &'a Declared,
    name: &'a str,
    module: &'a str,
    object: &'a Path,
    types: Types,
}

impl Skeleton<'_> {
    fn text(mut self) -> String {
        let (maps, programs, rodata) = (self.maps(), self.programs(), self.rodata());
        let types: String = self.types.0.values().map(|(_, text)| text.as_str()).collect();
        let (name, module, object) = (self.name, self.module, self.object.display().to_string());
        format!(
            "/// `{name}`: its programs, maps and constants. Made by duckbpf from the object; not to be edited.
#[allow(clippy::all, dead_code, non_snake_case, unused_imports, reason = \"generated: names are C's, and nobody needs all\")]
pub mod {module} {{
    use duckbpf::zerocopy::{{self, FromBytes, Immutable, IntoBytes}};
    use duckbpf::{{Options, Parameter, Runtime, maps, skeleton}};

    /// The object.
    pub const OBJECT: &[u8] = include_bytes!({object:?});
    /// What the program is called where it is attached.
    pub const NAME: &str = {name:?};

{types}{rodata}{programs}{maps}    /// The object before it is attached.
    #[derive(Clone, Debug)]
    pub struct Open {{
        /// Constants, as the object has them; what is changed here holds for the next attach.
        pub rodata: Rodata,
    }}

    /// The object's constants, to be changed before it is attached.
    pub fn open() -> Open {{
        Open {{ rodata: Rodata::default() }}
    }}

    impl Open {{
        /// Checks and attaches all programs of the object, or none.
        pub fn attach<'a>(&self, runtime: &'a Runtime, options: Options) -> Result<Attached<'a>, skeleton::AttachError> {{
            let parameters = self.rodata.parameters();
            let attached = skeleton::attach(runtime, NAME, OBJECT, options, &parameters)?;
            let maps = Maps::find(runtime)?;
            Ok(Attached {{ programs: Programs::default(), maps, attached }})
        }}
    }}

    /// The object while it is attached. It stays attached when this goes; `detach` ends it.
    #[derive(Debug)]
    pub struct Attached<'a> {{
        pub programs: Programs,
        pub maps: Maps,
        attached: skeleton::Attached<'a>,
    }}

    impl Attached<'_> {{
        /// Detaches all programs of the object.
        pub fn detach(self) -> Result<(), duckbpf::Error> {{
            self.attached.detach()
        }}
    }}
}}
"
        )
    }

    fn programs(&self) -> String {
        let mut fields = String::new();
        let mut values = String::new();
        for program in &self.declared.programs {
            let (name, symbol, hook) = (identifier(&program.symbol), &program.symbol, program.hook.name());
            let optional = if program.optional { " It is not attached unless asked for." } else { "" };
            let _ =
                writeln!(fields, "        /// For the hook {hook}.{optional}\n        pub {name}: skeleton::Program,");
            let _ = writeln!(
                values,
                "                {name}: skeleton::Program {{ object: NAME, function: {symbol:?}, hook: {hook:?} }},"
            );
        }
        format!(
            "    /// The programs, by their functions.\n    #[derive(Clone, Copy, Debug)]\n    pub struct Programs {{\n{fields}    }}\n\n    \
             impl Default for Programs {{\n        fn default() -> Self {{\n            Programs {{\n{values}            }}\n        }}\n    }}\n\n"
        )
    }

    fn maps(&mut self) -> String {
        let mut fields = String::new();
        let mut values = String::new();
        for map in &self.declared.maps {
            let Some(ty) = map_type(&mut self.types, map) else {
                let _ = writeln!(
                    fields,
                    "        // {}: a {} has no typed view; runtime.map({:?}) is it.",
                    map.name, map.kind, map.name
                );
                continue;
            };
            let (field, name) = (identifier(&map.name), &map.name);
            let _ = writeln!(fields, "        /// `{}`\n        pub {field}: maps::{ty},", map.kind);
            let _ = writeln!(values, "                {field}: skeleton::map(runtime, NAME, {name:?})?.try_into()?,");
        }
        let unused = if values.is_empty() { "_runtime" } else { "runtime" };
        format!(
            "    /// The maps, by their names.\n    #[derive(Clone, Debug)]\n    pub struct Maps {{\n{fields}    }}\n\n    impl Maps {{\n        \
             fn find({unused}: &Runtime) -> Result<Maps, skeleton::AttachError> {{\n            Ok(Maps {{\n{values}            }})\n        }}\n    }}\n\n"
        )
    }

    fn rodata(&mut self) -> String {
        let (mut fields, mut values, mut parameters) = (String::new(), String::new(), String::new());
        for variable in self.declared.variables.iter().filter(|variable| variable.section.starts_with(".rodata")) {
            let Some((ty, value, parameter)) = constant(&mut self.types, variable) else { continue };
            let (field, name) = (identifier(&variable.name), &variable.name);
            let _ = writeln!(fields, "        pub {field}: {ty},");
            let _ = writeln!(values, "                {field}: {value},");
            let parameter = parameter.replace("{}", &format!("self.{field}"));
            let _ = writeln!(parameters, "                ({name:?}.to_owned(), {parameter}),");
        }
        format!(
            "    /// Constants (`const volatile`).\n    #[derive(Clone, Copy, Debug, PartialEq)]\n    pub struct Rodata {{\n{fields}    }}\n\n    \
             impl Default for Rodata {{\n        fn default() -> Self {{\n            Rodata {{\n{values}            }}\n        }}\n    }}\n\n    \
             impl Rodata {{\n        fn parameters(&self) -> Vec<(String, Parameter)> {{\n            vec![\n{parameters}            ]\n        }}\n    }}\n\n"
        )
    }
}

/// The type of a constant, what it begins with, and how it is handed on, with `{}` for its place. None: it cannot be set.
fn constant(types: &mut Types, variable: &DeclaredVariable) -> Option<(String, String, &'static str)> {
    let ty = variable.ty.as_ref()?;
    let bytes = variable.initial.as_slice();
    let unsigned = |bytes: &[u8]| bytes.iter().rev().fold(0u128, |value, byte| value << 8 | u128::from(*byte));
    match ty {
        Type::Bool { .. } => Some(("bool".into(), (unsigned(bytes) != 0).to_string(), "Parameter::Bool({})")),
        Type::Int { bytes: size, signed } | Type::Enum { bytes: size, signed, .. } => {
            let shift = 128 - 8 * (*size).min(16);
            let value = unsigned(bytes) << shift;
            let value = if *signed { (value as i128 >> shift).to_string() } else { (value >> shift).to_string() };
            (*size <= 8).then(|| (types.rust(ty, ""), value, "Parameter::Int({}.into())"))
        }
        Type::Float { bytes: 8 } => {
            let value = f64::from_le_bytes(bytes.try_into().ok()?);
            Some(("f64".into(), format!("{value:?}"), "Parameter::Float({})"))
        }
        Type::Float { .. } => {
            let value = f32::from_le_bytes(bytes.try_into().ok()?);
            Some(("f32".into(), format!("{value:?}"), "Parameter::Float({}.into())"))
        }
        _ => None,
    }
}

/// The view of a map. None: there is none for its kind, or its types are not known.
fn map_type(types: &mut Types, map: &MapDef) -> Option<String> {
    let hint = |what: &str| format!("{}_{what}", map.name);
    let key = |types: &mut Types| Some(types.rust(map.key.as_ref()?, &hint("key")));
    let value = |types: &mut Types| Some(types.rust(map.value.as_ref()?, &hint("value")));
    Some(match map.kind {
        MapKind::Hash | MapKind::LruHash => format!("HashMap<{}, {}>", key(types)?, value(types)?),
        MapKind::PercpuHash => format!("PerCpuHashMap<{}, {}>", key(types)?, value(types)?),
        MapKind::Array => format!("Array<{}>", value(types)?),
        MapKind::PercpuArray => format!("PerCpuArray<{}>", value(types)?),
        MapKind::Queue | MapKind::Stack => format!("Queue<{}>", value(types)?),
        MapKind::BloomFilter => format!("BloomFilter<{}>", value(types)?),
        MapKind::Ringbuf => format!("RingBuf<{}>", value(types)?),
        _ => return None,
    })
}

// --- what skeletons stand on -----------------------------------------------------------------------------------------

/// A program of a skeleton.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// The object's name where it is attached.
    pub object: &'static str,
    pub function: &'static str,
    pub hook: &'static str,
}

impl Program {
    /// What the program did so far; None while it is not attached.
    pub fn info(&self, runtime: &crate::Runtime) -> Option<duckbpf_runtime::ProgramInfo> {
        let is_it =
            |program: &duckbpf_runtime::ProgramInfo| program.name == self.object && program.symbol == self.function;
        runtime.programs().into_iter().find(is_it)
    }
}

/// Why a skeleton's object was not attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    #[error(transparent)]
    Runtime(#[from] crate::Error),
    #[error(transparent)]
    Map(#[from] crate::maps::Error),
    #[error("the object cannot be handed over in {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}

/// An object that was attached out of a program's own bytes.
#[derive(Debug)]
pub struct Attached<'a> {
    runtime: &'a crate::Runtime,
    name: String,
}

impl Attached<'_> {
    /// Detaches it.
    pub fn detach(self) -> Result<(), crate::Error> {
        self.runtime.detach(&self.name).map(drop)
    }
}

/// Attaches an object under a name.
pub fn attach<'a>(
    runtime: &'a crate::Runtime,
    name: &str,
    object: &[u8],
    options: crate::Options,
    parameters: &[(String, crate::Parameter)],
) -> Result<Attached<'a>, AttachError> {
    let file = |path: &Path, source| AttachError::File { path: path.to_owned(), source };
    let folder = tempfile::tempdir().map_err(|source| file(&std::env::temp_dir(), source))?;
    let path = folder.path().join(format!("{name}.bpf.o"));
    std::fs::write(&path, object).map_err(|source| file(&path, source))?;
    let attached = runtime.attach_with(&path, options, parameters)?;
    Ok(Attached { runtime, name: attached.name })
}

/// A map of an object.
pub fn map(runtime: &crate::Runtime, object: &str, name: &str) -> Result<duckbpf_runtime::MapHandle, crate::Error> {
    // A pinned one belongs to nobody.
    runtime.map(&format!("{object}/{name}")).or_else(|_| runtime.map(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_identifiers() {
        assert_eq!(stem(Path::new("/a/unpin_sizes.bpf.c")), "unpin_sizes");
        assert_eq!(stem(Path::new("x.o")), "x");
        assert_eq!(identifier("a-b c"), "a_b_c");
        assert_eq!(identifier("type"), "r#type");
        assert_eq!(camel("unpin_sizes"), "UnpinSizes");
        assert_eq!(camel("2q"), "T2q");
    }

    #[test]
    fn structs_keep_their_layout() {
        let int = |bytes| Type::Int { bytes, signed: false };
        let member = |name: &str, byte: u32, ty| Member { name: name.into(), bit_offset: byte * 8, bits: None, ty };
        let inner = Type::Struct {
            name: "pair".into(),
            bytes: 8,
            members: vec![member("a", 0, int(4)), member("b", 4, int(4))],
        };
        let members =
            vec![member("type", 0, int(1)), member("pairs", 8, Type::Array { element: Box::new(inner), count: 2 })];
        let mut types = Types::default();
        let name = types.rust(&Type::Struct { name: "odd".into(), bytes: 32, members }, "");
        assert_eq!(name, "Odd");
        let text = &types.0["Odd"].1;
        for line in ["pub r#type: u8,", "pub _at_1: [u8; 7],", "pub pairs: [Pair; 2],", "pub _at_24: [u8; 8],", "== 32"]
        {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(types.0.contains_key("Pair"));
    }
}
