//! Programs' values as JSON, both ways: as `shape` has them for SQL.
//!
//! Structs are objects, arrays lists, `char[n]` text, enums the names of their values; numbers beyond 64 bits are text, and bytes
//! without a type text of hexadecimal digits.

use crate::shape::{bit_field, enum_number, enum_text, text};
use duckbpf_runtime::{Member, Parameter, Type};
use serde_json::{Map, Value};
use std::fmt::Write;

/// The value that bytes stand for; null where there are too few.
pub fn read(ty: &Type, bytes: &[u8]) -> Value {
    let Some(bytes) = bytes.get(..ty.size() as usize) else { return Value::Null };
    match ty {
        Type::Bool { .. } => bytes.iter().any(|byte| *byte != 0).into(),
        Type::Char { signed } | Type::Int { signed, .. } => integer(bytes, *signed),
        Type::Float { bytes: 4 } => bytes.first_chunk().map(|bytes| f32::from_le_bytes(*bytes)).into(),
        Type::Float { .. } => bytes.first_chunk().map(|bytes| f64::from_le_bytes(*bytes)).into(),
        Type::Enum { signed, names, .. } => enum_text(bytes, *signed, names).into(),
        Type::Array { element, .. } if matches!(**element, Type::Char { .. }) => text(bytes).into(),
        Type::Array { element, .. } => {
            bytes.chunks_exact(element.size().max(1) as usize).map(|bytes| read(element, bytes)).collect()
        }
        Type::Struct { members, .. } if !members.is_empty() => {
            members.iter().map(|member| (member.name.clone(), read_member(member, bytes))).collect()
        }
        Type::Struct { .. } | Type::Bytes { .. } => hex(bytes).into(),
    }
}

fn read_member(member: &Member, bytes: &[u8]) -> Value {
    match member.bits {
        None => read(&member.ty, bytes.get(member.bit_offset as usize / 8..).unwrap_or_default()),
        Some(bits) => read(&member.ty, &bit_field(bytes, member.bit_offset, bits, &member.ty)),
    }
}

fn integer(bytes: &[u8], signed: bool) -> Value {
    let is_negative = signed && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if is_negative { 0xff } else { 0 }; 16];
    let size = bytes.len().min(16);
    wide[..size].copy_from_slice(&bytes[..size]);
    let (negative, positive) = (i128::from_le_bytes(wide), u128::from_le_bytes(wide));
    match (i64::try_from(negative), u64::try_from(positive)) {
        (_, Ok(number)) if !is_negative => number.into(),
        (Ok(number), _) if signed => number.into(),
        _ if signed => negative.to_string().into(),
        _ => positive.to_string().into(),
    }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of a value, or why it is none of the type. Members of a struct that are left out are 0.
pub fn write(ty: &Type, value: &Value) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; ty.size() as usize];
    encode(ty, value, &mut bytes)?;
    Ok(bytes)
}

fn encode(ty: &Type, value: &Value, to: &mut [u8]) -> Result<(), String> {
    let unfit = || format!("{value} does not fit {}", crate::shape::sql_type(ty));
    match (ty, value) {
        (Type::Bool { .. }, Value::Bool(truth)) => to[0] = u8::from(*truth),
        (Type::Char { signed } | Type::Int { signed, .. }, _) => {
            let number = number(value).filter(|number| fits(*number, to.len(), *signed)).ok_or_else(unfit)?;
            to.copy_from_slice(&number.to_le_bytes()[..to.len()]);
        }
        (Type::Float { bytes: 4 }, _) => {
            to.copy_from_slice(&(value.as_f64().ok_or_else(unfit)? as f32).to_le_bytes());
        }
        (Type::Float { .. }, _) => to.copy_from_slice(&value.as_f64().ok_or_else(unfit)?.to_le_bytes()),
        (Type::Enum { names, signed, .. }, _) => {
            let named = value.as_str().map(|text| enum_number(text, names));
            let number = named.unwrap_or_else(|| value.as_i64()).map(i128::from);
            let number = number.filter(|number| fits(*number, to.len(), *signed)).ok_or_else(unfit)?;
            to.copy_from_slice(&number.to_le_bytes()[..to.len()]);
        }
        (Type::Array { element, .. }, Value::String(text)) if matches!(**element, Type::Char { .. }) => {
            to.get_mut(..text.len()).ok_or_else(unfit)?.copy_from_slice(text.as_bytes());
        }
        (Type::Array { element, count }, Value::Array(values)) if values.len() == *count as usize => {
            let size = element.size() as usize;
            for (value, to) in values.iter().zip(to.chunks_exact_mut(size.max(1))) {
                encode(element, value, to)?;
            }
        }
        (Type::Struct { members, .. }, Value::Object(fields)) if !members.is_empty() => {
            encode_struct(members, fields, to)?;
        }
        (Type::Struct { .. } | Type::Bytes { .. }, Value::String(digits)) => {
            to.copy_from_slice(&unhex(digits).filter(|bytes| bytes.len() == to.len()).ok_or_else(unfit)?);
        }
        _ => return Err(unfit()),
    }
    Ok(())
}

fn encode_struct(members: &[Member], fields: &Map<String, Value>, to: &mut [u8]) -> Result<(), String> {
    for (name, value) in fields {
        let member = members.iter().find(|member| member.name == *name);
        let member = member.ok_or_else(|| format!("there is no member '{name}'"))?;
        let start = member.bit_offset as usize / 8;
        let place = to.get_mut(start..start + member.ty.size() as usize).filter(|_| member.bits.is_none());
        encode(&member.ty, value, place.ok_or_else(|| format!("the bit field {name} cannot be set"))?)?;
    }
    Ok(())
}

/// A whole number, which may be text where it is wider than 64 bits.
fn number(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)),
        Value::String(text) => text.parse().ok().or_else(|| text.parse::<u128>().ok().map(|number| number as i128)),
        _ => None,
    }
}

fn fits(number: i128, bytes: usize, signed: bool) -> bool {
    match (bytes * 8, signed) {
        (128.., _) => true,
        (bits, true) => (-(1 << (bits - 1))..1 << (bits - 1)).contains(&number),
        (bits, false) => (0..1 << bits).contains(&number),
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let digit = |at: usize| pair.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        Some((digit(0)? * 16 + digit(1)?) as u8)
    };
    pairs.map(byte).collect()
}

/// Fields by name, those of objects within behind the object's name and a dot.
pub fn parameters(fields: &Map<String, Value>) -> Result<Vec<(String, Parameter)>, String> {
    let mut parameters = Vec::new();
    for (name, value) in fields {
        match value {
            Value::Bool(truth) => parameters.push((name.clone(), Parameter::Bool(*truth))),
            Value::String(text) => parameters.push((name.clone(), Parameter::Text(text.clone()))),
            Value::Number(_) => {
                let whole = number(value).map(Parameter::Int);
                let parameter = whole.or_else(|| value.as_f64().map(Parameter::Float));
                parameters.push((name.clone(), parameter.ok_or_else(|| format!("{name} is no number"))?));
            }
            Value::Object(inner) => {
                let inner = self::parameters(inner)?;
                parameters.extend(inner.into_iter().map(|(field, value)| (format!("{name}.{field}"), value)));
            }
            Value::Null | Value::Array(_) => {
                return Err(format!("{name} must be a number, a truth value or text"));
            }
        }
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record() -> Type {
        let member = |name: &str, bit_offset, ty| Member { name: name.into(), bit_offset, bits: None, ty };
        let name = Type::Array { element: Box::new(Type::Char { signed: true }), count: 8 };
        let pair = Type::Array { element: Box::new(Type::Int { bytes: 2, signed: true }), count: 2 };
        let level = Type::Enum { bytes: 4, signed: true, names: vec![("LOW".into(), -1), ("HIGH".into(), 7)] };
        let members = vec![
            member("bytes", 0, Type::Int { bytes: 8, signed: false }),
            member("name", 64, name),
            member("pair", 128, pair),
            member("level", 160, level),
        ];
        Type::Struct { name: "record".into(), bytes: 24, members }
    }

    #[test]
    fn what_is_written_is_read() {
        let value = json!({"bytes": u64::MAX, "name": "abc", "pair": [-1, 7], "level": "LOW"});
        let bytes = write(&record(), &value).unwrap();
        assert_eq!(bytes[20..], [0xff; 4]);
        assert_eq!(read(&record(), &bytes), value);
        assert_eq!(read(&record(), &write(&record(), &json!({"level": 7})).unwrap())["level"], "HIGH");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for value in [
            json!({"bytes": -1}),
            json!({"name": "123456789"}),
            json!({"pair": [1]}),
            json!({"pair": [1, 40000]}),
            json!({"level": "MIDDLE"}),
            json!({"other": 1}),
            json!([]),
        ] {
            assert!(write(&record(), &value).is_err(), "{value}");
        }
    }

    #[test]
    fn wide_numbers_are_text_and_bytes_are_digits() {
        let wide = Type::Int { bytes: 16, signed: false };
        assert_eq!(read(&wide, &[0xff; 16]), json!(u128::MAX.to_string()));
        assert_eq!(write(&wide, &json!(u128::MAX.to_string())).unwrap(), [0xff; 16]);
        assert_eq!(read(&Type::Int { bytes: 8, signed: true }, &[0xff; 8]), json!(-1));
        let bytes = Type::Bytes { bytes: 2 };
        assert_eq!(read(&bytes, &[1, 0xab]), json!("01ab"));
        assert_eq!(write(&bytes, &json!("01AB")).unwrap(), [1, 0xab]);
        assert!(write(&bytes, &json!("01a")).is_err() && write(&bytes, &json!("01zz")).is_err());
        assert_eq!(read(&bytes, &[1]), Value::Null, "too few bytes");
    }

    #[test]
    fn fields_of_objects_have_dotted_names() {
        let fields = json!({"size": 5, "origin": {"query_id": 7}});
        let parameters = parameters(fields.as_object().unwrap()).unwrap();
        assert_eq!(parameters, [("origin.query_id".into(), Parameter::Int(7)), ("size".into(), Parameter::Int(5))]);
    }
}
