//! Types of maps and variables, from .BTF: what the values in memory mean to people.
//!
//! BTF is a table of types that refer to each other by number (Documentation/bpf/btf.rst in Linux). It is read once into
//! [`Btf`], and what is asked for is copied out as [`Type`], a tree that stands alone. Everything is bounded: a type that is
//! nested too deep or too large, or that has no meaning outside of the program (a pointer, a union), becomes plain bytes.

use super::lines::{MAGIC, part, text, word};

/// Members, elements and names that one type may have in all.
const MAX_NODES: usize = 4096;
const MAX_DEPTH: usize = 16;
/// Modifiers (const, volatile, typedef) that are followed.
const MAX_CHAIN: usize = 32;

/// How bytes are to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    Bool {
        bytes: u32,
    },
    Char {
        signed: bool,
    },
    Int {
        bytes: u32,
        signed: bool,
    },
    Float {
        bytes: u32,
    },
    Enum {
        bytes: u32,
        signed: bool,
        names: Vec<(String, i64)>,
    },
    Struct {
        name: String,
        bytes: u32,
        members: Vec<Member>,
    },
    Array {
        element: Box<Type>,
        count: u32,
    },
    /// No meaning is known.
    Bytes {
        bytes: u32,
    },
}

/// A member of a struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    /// From the beginning of the struct.
    pub bit_offset: u32,
    /// Some: a bit field of so many bits.
    pub bits: Option<u32>,
    pub ty: Type,
}

impl Type {
    pub fn size(&self) -> u64 {
        match self {
            Type::Char { .. } => 1,
            Type::Bool { bytes }
            | Type::Int { bytes, .. }
            | Type::Float { bytes }
            | Type::Enum { bytes, .. }
            | Type::Struct { bytes, .. }
            | Type::Bytes { bytes } => u64::from(*bytes),
            Type::Array { element, count } => element.size().saturating_mul(u64::from(*count)),
        }
    }
}

/// The number of a type.
pub(super) type TypeId = u32;

/// A type as the table has it.
#[derive(Clone, Debug)]
pub(super) enum Raw {
    Void,
    Int {
        name: u32,
        bits: u32,
        bytes: u32,
        signed: bool,
        is_bool: bool,
    },
    Float {
        bytes: u32,
    },
    Pointer(TypeId),
    Array {
        element: TypeId,
        count: u32,
    },
    Composite {
        name: u32,
        bytes: u32,
        is_union: bool,
        members: Vec<RawMember>,
    },
    Enum {
        bytes: u32,
        signed: bool,
        names: Vec<(u32, i64)>,
    },
    /// typedef, const, volatile, restrict, a tag.
    Alias(TypeId),
    Function,
    Variable {
        name: u32,
        ty: TypeId,
    },
    /// Variables of a section. Their offsets are the symbols' business: the object holds zeros here.
    Section {
        name: u32,
        variables: Vec<TypeId>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct RawMember {
    name: u32,
    pub ty: TypeId,
    bit_offset: u32,
    bits: u32,
}

/// The table of an object.
#[derive(Debug, Default)]
pub(super) struct Btf {
    types: Vec<Raw>,
    strings: Vec<u8>,
}

impl Btf {
    /// None: there is no table, or it is damaged.
    pub fn read(bytes: &[u8]) -> Option<Btf> {
        if word(bytes, 0)? & 0xffff != MAGIC {
            return None;
        }
        let (mut rest, strings) = (part(bytes, 8)?, part(bytes, 16)?.to_vec());
        let mut types = vec![Raw::Void];
        while !rest.is_empty() {
            let (raw, size) = read_type(rest)?;
            types.push(raw);
            rest = rest.get(size..)?;
        }
        Some(Btf { types, strings })
    }

    pub fn name(&self, at: u32) -> String {
        text(&self.strings, at).unwrap_or_default()
    }

    /// The type behind typedefs and qualifiers.
    pub fn plain(&self, id: TypeId) -> &Raw {
        let mut raw = self.types.get(id as usize).unwrap_or(&Raw::Void);
        for _ in 0..MAX_CHAIN {
            match raw {
                Raw::Alias(to) => raw = self.types.get(*to as usize).unwrap_or(&Raw::Void),
                _ => return raw,
            }
        }
        &Raw::Void
    }

    /// Name and type of each variable of a section.
    pub fn variables(&self, section: &str) -> Vec<(String, TypeId)> {
        let found = self.types.iter().find_map(|raw| match raw {
            Raw::Section { name, variables } if self.name(*name) == section => Some(variables),
            _ => None,
        });
        let named = |id: &TypeId| match self.types.get(*id as usize) {
            Some(Raw::Variable { name, ty }) => Some((self.name(*name), *ty)),
            _ => None,
        };
        found.into_iter().flatten().filter_map(named).collect()
    }

    /// Name, offset in bytes and type of a struct's members.
    pub fn members(&self, id: TypeId) -> Option<Vec<(String, u32, TypeId)>> {
        match self.plain(id) {
            Raw::Composite { is_union: false, members, .. } => {
                Some(members.iter().map(|member| (self.name(member.name), member.bit_offset / 8, member.ty)).collect())
            }
            _ => None,
        }
    }

    /// A type on its own.
    pub fn resolve(&self, id: TypeId) -> Type {
        let mut nodes = 0;
        self.tree(id, 0, &mut nodes).unwrap_or(Type::Bytes { bytes: self.size(id, 0) })
    }

    /// None: no meaning, or too much of it.
    fn tree(&self, id: TypeId, depth: usize, nodes: &mut usize) -> Option<Type> {
        *nodes += 1;
        if depth > MAX_DEPTH || *nodes > MAX_NODES {
            return None;
        }
        Some(match self.plain(id) {
            Raw::Int { bits, bytes, .. } if !matches!(bytes, 1 | 2 | 4 | 8 | 16) || *bits != bytes * 8 => return None,
            Raw::Int { bytes, is_bool: true, .. } => Type::Bool { bytes: *bytes },
            // Compilers tell characters by nothing else.
            Raw::Int { bytes: 1, name, signed, .. } if self.name(*name) == "char" => Type::Char { signed: *signed },
            Raw::Int { bytes, signed, .. } => Type::Int { bytes: *bytes, signed: *signed },
            Raw::Float { bytes: bytes @ (4 | 8) } => Type::Float { bytes: *bytes },
            Raw::Enum { bytes: bytes @ (1 | 2 | 4 | 8), signed, names } => {
                *nodes += names.len();
                let names = names.iter().map(|(name, value)| (self.name(*name), *value)).collect();
                Type::Enum { bytes: *bytes, signed: *signed, names }
            }
            Raw::Array { element, count } => {
                Type::Array { element: Box::new(self.tree(*element, depth + 1, nodes)?), count: *count }
            }
            Raw::Composite { name, bytes, is_union: false, members } => {
                let members = members.iter().map(|member| self.member(member, *bytes, depth, nodes));
                Type::Struct { name: self.name(*name), bytes: *bytes, members: members.collect::<Option<_>>()? }
            }
            Raw::Pointer(_) => Type::Bytes { bytes: 8 },
            Raw::Composite { bytes, .. } => Type::Bytes { bytes: *bytes },
            _ => return None,
        })
    }

    /// A member that lies inside of its struct.
    fn member(&self, raw: &RawMember, of: u32, depth: usize, nodes: &mut usize) -> Option<Member> {
        let ty = self.tree(raw.ty, depth + 1, nodes)?;
        let bits = (raw.bits != 0).then_some(raw.bits);
        let width = bits.map_or(ty.size().checked_mul(8)?, u64::from);
        let is_inside = u64::from(raw.bit_offset).checked_add(width)? <= u64::from(of) * 8;
        let is_whole = bits.is_some_and(|bits| bits <= 64) || bits.is_none() && raw.bit_offset.is_multiple_of(8);
        (is_inside && is_whole).then(|| Member { name: self.name(raw.name), bit_offset: raw.bit_offset, bits, ty })
    }

    /// Bytes of a type; 0 when nobody knows.
    pub fn size(&self, id: TypeId, depth: usize) -> u32 {
        match self.plain(id) {
            Raw::Int { bytes, .. } | Raw::Float { bytes } | Raw::Composite { bytes, .. } | Raw::Enum { bytes, .. } => {
                *bytes
            }
            Raw::Pointer(_) => 8,
            Raw::Array { element, count } if depth < MAX_DEPTH => self.size(*element, depth + 1).saturating_mul(*count),
            _ => 0,
        }
    }
}

/// One type and the bytes that it takes in the table.
fn read_type(bytes: &[u8]) -> Option<(Raw, usize)> {
    let (name, info, size_or_type) = (word(bytes, 0)?, word(bytes, 4)?, word(bytes, 8)?);
    let (kind, count, flag) = (info >> 24 & 0x1f, (info & 0xffff) as usize, info >> 31 != 0);
    let records = |size: usize| bytes.get(12..12 + size * count).map(move |bytes| bytes.chunks_exact(size));
    let (raw, tail) = match kind {
        1 => {
            let encoding = word(bytes, 12)?;
            let (bits, flags) = (encoding & 0xff, encoding >> 24 & 0xf);
            let [signed, is_bool] = [1, 4].map(|flag| flags & flag != 0);
            (Raw::Int { name, bits, bytes: size_or_type, signed, is_bool }, 4)
        }
        2 => (Raw::Pointer(size_or_type), 0),
        3 => (Raw::Array { element: word(bytes, 12)?, count: word(bytes, 20)? }, 12),
        4 | 5 => {
            let members = records(12)?.map(|record| read_member(record, flag)).collect::<Option<_>>()?;
            (Raw::Composite { name, bytes: size_or_type, is_union: kind == 5, members }, 12 * count)
        }
        6 => {
            let names = records(8)?.map(|record| Some((word(record, 0)?, i64::from(word(record, 4)? as i32))));
            (Raw::Enum { bytes: size_or_type, signed: flag, names: names.collect::<Option<_>>()? }, 8 * count)
        }
        7 | 12 => (Raw::Function, 0),
        8..=11 | 18 => (Raw::Alias(size_or_type), 0),
        13 => (Raw::Function, 8 * count),
        14 => (Raw::Variable { name, ty: size_or_type }, 4),
        15 => {
            let variables = records(12)?.map(|record| word(record, 0)).collect::<Option<_>>()?;
            (Raw::Section { name, variables }, 12 * count)
        }
        16 => (Raw::Float { bytes: size_or_type }, 0),
        17 => (Raw::Function, 4),
        19 => {
            let wide = |record: &[u8]| Some(i64::from(word(record, 4)?) | i64::from(word(record, 8)?) << 32);
            let names = records(12)?.map(|record| Some((word(record, 0)?, wide(record)?)));
            (Raw::Enum { bytes: size_or_type, signed: flag, names: names.collect::<Option<_>>()? }, 12 * count)
        }
        _ => return None,
    };
    Some((raw, 12 + tail))
}

fn read_member(record: &[u8], has_bit_fields: bool) -> Option<RawMember> {
    let (name, ty, offset) = (word(record, 0)?, word(record, 4)?, word(record, 8)?);
    let (bit_offset, bits) = if has_bit_fields { (offset & 0xff_ffff, offset >> 24) } else { (offset, 0) };
    Some(RawMember { name, ty, bit_offset, bits })
}
