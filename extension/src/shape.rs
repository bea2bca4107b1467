//! Types of programs' values as SQL types, and their bytes as SQL values, both ways.
//!
//! Integers, floats and truth values become what they are; `char[n]` is text up to its first zero byte; enums are the names of
//! their values; structs and arrays are STRUCT and lists; what has no meaning outside of a program is a BLOB.

use duckbpf_runtime::{Member, Type};
use duckdb_neo::connection::{Context, FFILink};
use duckdb_neo::logical_type::{LogicalType, LogicalTypeID};
use duckdb_neo::types::BlobValue;
use duckdb_neo::value::{Value, ValueInput};
use duckdb_neo::vector::{Unknown, Vector, WritableVectorElement};
use duckdb_neo::{Error, FromValue, Result, ToValue};
use std::borrow::Cow;

/// A type of a program's values, and its SQL type.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    ty: Type,
    sql: LogicalType,
    /// Of a struct its members', of an array its elements'.
    parts: Vec<Shape>,
}

/// The SQL type's text.
pub fn sql_type(ty: &Type) -> String {
    let int = |bytes: u32| match bytes {
        1 => "TINYINT",
        2 => "SMALLINT",
        4 => "INTEGER",
        8 => "BIGINT",
        _ => "HUGEINT",
    };
    match ty {
        Type::Bool { .. } => "BOOLEAN".into(),
        Type::Char { signed: true } => "TINYINT".into(),
        Type::Char { signed: false } => "UTINYINT".into(),
        Type::Int { bytes, signed: true } => int(*bytes).into(),
        Type::Int { bytes, signed: false } => format!("U{}", int(*bytes)),
        Type::Float { bytes: 4 } => "FLOAT".into(),
        Type::Float { .. } => "DOUBLE".into(),
        Type::Enum { .. } => "VARCHAR".into(),
        Type::Array { element, .. } if matches!(**element, Type::Char { .. }) => "VARCHAR".into(),
        Type::Array { element, .. } => format!("{}[]", sql_type(element)),
        Type::Struct { members, .. } if !members.is_empty() => {
            let fields = members.iter().map(|member| format!("{} {}", quoted(&member.name), sql_type(&member.ty)));
            format!("STRUCT({})", fields.collect::<Vec<_>>().join(", "))
        }
        Type::Struct { .. } | Type::Bytes { .. } => "BLOB".into(),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn unfit(what: &str) -> Error {
    Error::invalid_input(what)
}

fn bytes_of<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    let first = bytes.first_chunk::<N>();
    first.copied().ok_or_else(|| Error::api_error("a value that is shorter than its type"))
}

/// `char[n]`: up to the first zero byte.
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default())
}

/// The name of an enum's value, or its number where it has none.
pub fn enum_text(bytes: &[u8], signed: bool, names: &[(String, i64)]) -> String {
    let number = number(bytes, signed);
    let name = names.iter().find(|(_, value)| *value == number).map(|(name, _)| name.clone());
    name.unwrap_or_else(|| number.to_string())
}

/// The number that a name of an enum, or a number's text, stands for.
pub fn enum_number(text: &str, names: &[(String, i64)]) -> Option<i64> {
    names.iter().find(|(name, _)| name == text).map(|(_, number)| *number).or_else(|| text.parse().ok())
}

/// The enum's number.
fn number(bytes: &[u8], signed: bool) -> i64 {
    let mut wide = [if signed && bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 }; 8];
    wide[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
    i64::from_le_bytes(wide)
}

impl Shape {
    pub fn new<C: FFILink + ?Sized>(ty: &Type, link: &C) -> Result<Shape> {
        let parts = match ty {
            Type::Struct { members, .. } => {
                members.iter().map(|member| Shape::new(&member.ty, link)).collect::<Result<_>>()?
            }
            Type::Array { element, .. } => vec![Shape::new(element, link)?],
            _ => Vec::new(),
        };
        Ok(Shape { ty: ty.clone(), sql: LogicalType::from_text(link, &sql_type(ty))?, parts })
    }

    pub fn sql(&self) -> &LogicalType {
        &self.sql
    }

    /// A list of such values.
    pub fn list_of<C: FFILink + ?Sized>(&self, link: &C) -> Result<LogicalType> {
        LogicalType::from_text(link, &format!("{}[]", sql_type(&self.ty)))
    }

    pub fn size(&self) -> usize {
        self.ty.size() as usize
    }

    /// The value that bytes stand for.
    pub fn read<C: FFILink + ?Sized>(&self, bytes: &[u8], link: &C) -> Result<Value> {
        match &self.ty {
            Type::Bool { .. } => bytes.iter().any(|byte| *byte != 0).value(link),
            Type::Char { signed } => read_int(bytes, 1, *signed, link),
            Type::Int { bytes: size, signed } => read_int(bytes, *size, *signed, link),
            Type::Float { bytes: 4 } => f32::from_le_bytes(bytes_of(bytes)?).value(link),
            Type::Float { .. } => f64::from_le_bytes(bytes_of(bytes)?).value(link),
            Type::Enum { bytes: size, signed, names } => {
                enum_text(bytes.get(..*size as usize).unwrap_or_default(), *signed, names).value(link)
            }
            Type::Array { element, count } if matches!(**element, Type::Char { .. }) => {
                text(bytes.get(..*count as usize).unwrap_or_default()).as_ref().value(link)
            }
            Type::Array { .. } => self.read_array(bytes, link),
            Type::Struct { members, .. } if !members.is_empty() => self.read_struct(bytes, link),
            Type::Struct { .. } | Type::Bytes { .. } => BlobValue(bytes.to_vec()).value(link),
        }
    }

    /// The list of the values that bytes stand for.
    pub fn read_list<C: FFILink + ?Sized>(&self, values: &[Vec<u8>], link: &C) -> Result<Value> {
        let children = values.iter().map(|bytes| self.read(bytes, link)).collect::<Result<Vec<_>>>()?;
        link.create_value(ValueInput::List { child_type: self.sql(), children: &children })
    }

    /// Makes a column of these values. One that is shorter than its type ends in zeros.
    pub fn fill<'a>(
        &self,
        values: impl ExactSizeIterator<Item = &'a [u8]>,
        context: &Context,
        mut column: Vector<'_, Unknown>,
    ) -> Result<()> {
        column.set_size(values.len())?;
        macro_rules! numbers {
            ($type:ty) => {
                fill_numbers(column.cast::<$type>()?, values, |bytes| <$type>::from_le_bytes(padded(bytes)))
            };
        }
        match &self.ty {
            Type::Bool { .. } => fill_numbers(column.cast()?, values, |bytes| bytes.iter().any(|byte| *byte != 0)),
            Type::Char { signed: true } | Type::Int { bytes: 1, signed: true } => numbers!(i8),
            Type::Char { signed: false } | Type::Int { bytes: 1, signed: false } => numbers!(u8),
            Type::Int { bytes: 2, signed: true } => numbers!(i16),
            Type::Int { bytes: 4, signed: true } => numbers!(i32),
            Type::Int { bytes: 8, signed: true } => numbers!(i64),
            Type::Int { bytes: 2, signed: false } => numbers!(u16),
            Type::Int { bytes: 4, signed: false } => numbers!(u32),
            Type::Int { bytes: 8, signed: false } => numbers!(u64),
            Type::Float { bytes: 4 } => numbers!(f32),
            Type::Float { .. } => numbers!(f64),
            Type::Enum { bytes: size, signed, names } => {
                let text = |bytes: &[u8]| enum_text(&padded::<8>(bytes)[..*size as usize], *signed, names);
                fill_texts(column.cast()?, values.map(text))
            }
            Type::Array { element, .. } if matches!(**element, Type::Char { .. }) => {
                fill_texts(column.cast()?, values.map(text))
            }
            _ => self.fill_slowly(values, context, column),
        }
    }

    fn fill_slowly<'a>(
        &self,
        values: impl Iterator<Item = &'a [u8]>,
        context: &Context,
        mut column: Vector<'_, Unknown>,
    ) -> Result<()> {
        let mut whole = Vec::new();
        for (index, bytes) in values.enumerate() {
            whole.clear();
            whole.extend_from_slice(bytes);
            whole.resize(bytes.len().max(self.size()), 0);
            column.write_value_slow(index, self.read(&whole, context)?)?;
        }
        Ok(())
    }

    fn read_array<C: FFILink + ?Sized>(&self, bytes: &[u8], link: &C) -> Result<Value> {
        let element = self.parts.first().ok_or_else(|| Error::api_error("an array without an element"))?;
        let size = element.size().max(1);
        let children = bytes.chunks_exact(size).map(|bytes| element.read(bytes, link)).collect::<Result<Vec<_>>>()?;
        link.create_value(ValueInput::List { child_type: element.sql(), children: &children })
    }

    fn read_struct<C: FFILink + ?Sized>(&self, bytes: &[u8], link: &C) -> Result<Value> {
        let Type::Struct { members, .. } = &self.ty else { return Err(Error::api_error("no struct")) };
        let mut children = Vec::with_capacity(members.len());
        for (member, part) in members.iter().zip(&self.parts) {
            let start = member.bit_offset as usize / 8;
            children.push(match member.bits {
                None => {
                    let content = start.checked_add(part.size()).and_then(|end| bytes.get(start..end));
                    part.read(content.ok_or_else(|| Error::api_error("a member outside of its struct"))?, link)?
                }
                Some(bits) => part.read(&bit_field(bytes, member.bit_offset, bits, &member.ty), link)?,
            });
        }
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        link.create_value(ValueInput::Struct { names: &names, children: &children })
    }

    /// The bytes of a value. DuckDB converts it to the SQL type first, and says what does not fit.
    pub fn write<C: FFILink + ?Sized>(&self, value: &Value, link: &C, what: &str) -> Result<Vec<u8>> {
        if value.is_null()? {
            return Err(unfit(&format!("{what} must not be NULL")));
        }
        self.know_fields(value, what)?;
        let mut bytes = vec![0; self.size()];
        let cast = value.cast(link, &self.sql).map_err(|error| {
            let said = error.message.trim_start_matches("Invalid Input Error: ");
            unfit(&format!("{what}: {}", said.trim_start_matches("Failed to cast value: ")))
        })?;
        self.encode(&cast, &mut bytes, what)?;
        Ok(bytes)
    }

    /// Refuses fields that the struct does not have, which the conversion would leave out.
    fn know_fields(&self, value: &Value, what: &str) -> Result<()> {
        let Type::Struct { members, .. } = &self.ty else { return Ok(()) };
        let ty = value.logical_type()?;
        if members.is_empty() || ty.id()? != LogicalTypeID::Struct || value.is_null()? {
            return Ok(());
        }
        for ((field, _), inner) in ty.get_params()?.into_iter().zip(value.children()?) {
            // ROW(1, 2) has no names.
            let same = |member: &Member| member.name.eq_ignore_ascii_case(&field);
            match members.iter().position(same) {
                Some(index) => self.parts[index].know_fields(&inner, what)?,
                None if field.is_empty() => {}
                None => {
                    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
                    return Err(unfit(&format!("{what}: there is no field '{field}'; there are {}", names.join(", "))));
                }
            }
        }
        Ok(())
    }

    fn encode(&self, value: &Value, to: &mut [u8], what: &str) -> Result<()> {
        let null = || unfit(&format!("{what} must not hold NULL"));
        match &self.ty {
            Type::Bool { .. } => to[0] = u8::from(bool::from_value(value)?.ok_or_else(null)?),
            Type::Char { signed } => write_int(value, 1, *signed, to, null)?,
            Type::Int { bytes, signed } => write_int(value, *bytes, *signed, to, null)?,
            Type::Float { bytes: 4 } => {
                to[..4].copy_from_slice(&f32::from_value(value)?.ok_or_else(null)?.to_le_bytes());
            }
            Type::Float { .. } => to[..8].copy_from_slice(&f64::from_value(value)?.ok_or_else(null)?.to_le_bytes()),
            Type::Enum { names, bytes, .. } => {
                let text = String::from_value(value)?.ok_or_else(null)?;
                let number = enum_number(&text, names).ok_or_else(|| {
                    let names: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
                    unfit(&format!("{what}: '{text}' is none of {}", names.join(", ")))
                })?;
                to.copy_from_slice(&number.to_le_bytes()[..*bytes as usize]);
            }
            Type::Array { element, count } if matches!(**element, Type::Char { .. }) => {
                let text = String::from_value(value)?.ok_or_else(null)?;
                if text.len() > *count as usize {
                    return Err(unfit(&format!("{what}: '{text}' has more than {count} bytes")));
                }
                to[..text.len()].copy_from_slice(text.as_bytes());
            }
            Type::Array { count, .. } => self.encode_parts(value, *count as usize, to, what)?,
            Type::Struct { members, .. } if !members.is_empty() => {
                self.encode_parts(value, members.len(), to, what)?;
            }
            Type::Struct { .. } | Type::Bytes { .. } => {
                let BlobValue(bytes) = BlobValue::from_value(value)?.ok_or_else(null)?;
                if bytes.len() != to.len() {
                    return Err(unfit(&format!("{what} has {} bytes, not {}", to.len(), bytes.len())));
                }
                to.copy_from_slice(&bytes);
            }
        }
        Ok(())
    }

    fn encode_parts(&self, value: &Value, count: usize, to: &mut [u8], what: &str) -> Result<()> {
        let children = value.children()?;
        if children.len() != count {
            return Err(unfit(&format!("{what} has {count} elements, not {}", children.len())));
        }
        for (index, child) in children.iter().enumerate() {
            if child.is_null()? {
                return Err(unfit(&format!("{what} must not hold NULL")));
            }
            let (part, start) = match &self.ty {
                Type::Struct { members, .. } if members[index].bits.is_some() => {
                    return Err(unfit(&format!("{what}: the bit field {} cannot be set", members[index].name)));
                }
                Type::Struct { members, .. } => (&self.parts[index], members[index].bit_offset as usize / 8),
                _ => (&self.parts[0], index * self.parts[0].size()),
            };
            part.encode(child, &mut to[start..start + part.size()], what)?;
        }
        Ok(())
    }
}

fn fill_numbers<'a, T: for<'w> WritableVectorElement<Write<'w> = T>>(
    mut column: Vector<'_, T>,
    values: impl Iterator<Item = &'a [u8]>,
    read: impl Fn(&[u8]) -> T,
) -> Result<()> {
    let mut writer = column.writer()?;
    values.enumerate().try_for_each(|(index, bytes)| writer.set(index, Some(read(bytes))))
}

/// Makes a column of texts, which has the size already.
pub fn fill_texts<T: AsRef<str>>(mut column: Vector<'_, String>, texts: impl Iterator<Item = T>) -> Result<()> {
    let mut writer = column.writer()?;
    texts.enumerate().try_for_each(|(index, text)| writer.set(index, Some(text.as_ref())))
}

/// The first bytes, zeros where there are too few.
fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or_else(|| {
        let mut whole = [0; N];
        whole[..bytes.len()].copy_from_slice(bytes);
        whole
    })
}

fn read_int<C: FFILink + ?Sized>(bytes: &[u8], size: u32, signed: bool, link: &C) -> Result<Value> {
    match (size, signed) {
        (1, true) => i8::from_le_bytes(bytes_of(bytes)?).value(link),
        (2, true) => i16::from_le_bytes(bytes_of(bytes)?).value(link),
        (4, true) => i32::from_le_bytes(bytes_of(bytes)?).value(link),
        (8, true) => i64::from_le_bytes(bytes_of(bytes)?).value(link),
        (_, true) => i128::from_le_bytes(bytes_of(bytes)?).value(link),
        (1, false) => u8::from_le_bytes(bytes_of(bytes)?).value(link),
        (2, false) => u16::from_le_bytes(bytes_of(bytes)?).value(link),
        (4, false) => u32::from_le_bytes(bytes_of(bytes)?).value(link),
        (8, false) => u64::from_le_bytes(bytes_of(bytes)?).value(link),
        (_, false) => u128::from_le_bytes(bytes_of(bytes)?).value(link),
    }
}

fn write_int(value: &Value, size: u32, signed: bool, to: &mut [u8], null: impl Fn() -> Error) -> Result<()> {
    macro_rules! write {
        ($type:ty) => {
            to.copy_from_slice(&<$type>::from_value(value)?.ok_or_else(null)?.to_le_bytes())
        };
    }
    match (size, signed) {
        (1, true) => write!(i8),
        (2, true) => write!(i16),
        (4, true) => write!(i32),
        (8, true) => write!(i64),
        (_, true) => write!(i128),
        (1, false) => write!(u8),
        (2, false) => write!(u16),
        (4, false) => write!(u32),
        (8, false) => write!(u64),
        (_, false) => write!(u128),
    }
    Ok(())
}

/// A bit field, as the bytes of its whole type.
pub fn bit_field(bytes: &[u8], bit_offset: u32, bits: u32, ty: &Type) -> Vec<u8> {
    let bit = |at: u32| bytes.get(at as usize / 8).is_some_and(|byte| byte >> (at % 8) & 1 != 0);
    let mut value = (0..bits.min(64)).fold(0u64, |value, at| value | u64::from(bit(bit_offset + at)) << at);
    let is_signed = matches!(ty, Type::Int { signed: true, .. } | Type::Enum { signed: true, .. });
    if is_signed && bits < 64 && value >> (bits - 1) & 1 != 0 {
        value |= u64::MAX << bits;
    }
    let mut whole = vec![0; ty.size() as usize];
    let size = whole.len().min(8);
    whole[..size].copy_from_slice(&value.to_le_bytes()[..size]);
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use duckbpf_runtime::Member;

    #[test]
    fn sql_types_say_what_they_hold() {
        let member = |name: &str, bit_offset, ty| Member { name: name.into(), bit_offset, bits: None, ty };
        let name = Type::Array { element: Box::new(Type::Char { signed: true }), count: 16 };
        let counts = Type::Array { element: Box::new(Type::Int { bytes: 8, signed: false }), count: 2 };
        let members = vec![member("na\"me", 0, name), member("counts", 128, counts)];
        let record = Type::Struct { name: "record".into(), bytes: 32, members };
        assert_eq!(sql_type(&record), "STRUCT(\"na\"\"me\" VARCHAR, \"counts\" UBIGINT[])");
        assert_eq!(sql_type(&Type::Struct { name: String::new(), bytes: 0, members: vec![] }), "BLOB");
        assert_eq!(sql_type(&Type::Int { bytes: 16, signed: false }), "UHUGEINT");
    }

    #[test]
    fn enums_extend_their_sign() {
        assert_eq!(number(&[0xff], true), -1);
        assert_eq!(number(&[0xff], false), 255);
        assert_eq!(number(&[1, 0, 0, 0x80], true), i64::from(i32::MIN) + 1);
    }
}
