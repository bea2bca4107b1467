//! Setting an object's constants before it is checked: `const volatile` variables, which lie in `.rodata`.

use std::fmt;

use super::{Object, Type};

/// A value for a constant, as a user gives it.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
}

/// Why a constant was not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParameterError {
    #[error("there is no constant of that name; {known}")]
    Unknown { known: String },
    #[error("it is a variable that programs write to; only `const volatile` ones can be set")]
    Writable,
    #[error("its type is not known; compile the object with -g")]
    Untyped,
    #[error("{value} does not fit; it is {wanted}")]
    Unfit { value: String, wanted: String },
}

impl Object {
    /// Sets a constant by its name.
    pub fn set(&mut self, name: &str, value: &Parameter) -> Result<(), ParameterError> {
        let Some(variable) = self.variables.iter().find(|variable| variable.name == name) else {
            let constants = self.variables.iter().filter(|variable| !self.regions[variable.region].writable);
            // A dot: of a function's inside, as the text of a bpf_printk.
            let names: Vec<&str> =
                constants.map(|variable| variable.name.as_str()).filter(|name| !name.contains('.')).collect();
            let known = if names.is_empty() { "it has none".into() } else { format!("it has {}", names.join(", ")) };
            return Err(ParameterError::Unknown { known });
        };
        let region = &mut self.regions[variable.region];
        if region.writable {
            return Err(ParameterError::Writable);
        }
        let ty = variable.ty.as_ref().ok_or(ParameterError::Untyped)?;
        let unfit = || ParameterError::Unfit { value: value.to_string(), wanted: wanted(ty) };
        let bytes = encode(ty, value).ok_or_else(unfit)?;
        // Read-only sections are in the file whole, and variables lie inside of theirs.
        let place = usize::try_from(variable.offset)
            .ok()
            .and_then(|start| region.bytes.get_mut(start..start.checked_add(bytes.len())?));
        place.ok_or_else(unfit)?.copy_from_slice(&bytes);
        match (name, <[u8; 8]>::try_from(bytes.as_slice()), <[u8; 4]>::try_from(bytes.as_slice())) {
            ("hash_types", Ok(bytes), _) => self.hash_types = Some(u64::from_le_bytes(bytes)),
            ("hash_mixed", _, Ok(bytes)) => self.hash_mixed = Some(u32::from_le_bytes(bytes)),
            _ => {}
        }
        Ok(())
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Parameter::Bool(value) => write!(f, "{value}"),
            Parameter::Int(value) => write!(f, "{value}"),
            Parameter::Float(value) => write!(f, "{value}"),
            Parameter::Text(value) => write!(f, "'{value}'"),
        }
    }
}

fn wanted(ty: &Type) -> String {
    match ty {
        Type::Bool { .. } => "a truth value".into(),
        Type::Char { .. } => "a number of 1 byte".into(),
        Type::Int { bytes, signed } => format!("{} number of {bytes} bytes", if *signed { "a" } else { "an unsigned" }),
        Type::Float { .. } => "a number".into(),
        Type::Enum { names, .. } => {
            let names: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
            format!("one of {}", names.join(", "))
        }
        Type::Array { element, count } if matches!(**element, Type::Char { .. }) => {
            format!("text of at most {} bytes", count.saturating_sub(1))
        }
        Type::Array { .. } | Type::Struct { .. } | Type::Bytes { .. } => {
            "of a type that cannot be set: numbers, truth values, enums and text can".into()
        }
    }
}

/// The value as the type's bytes. None: it does not fit.
fn encode(ty: &Type, value: &Parameter) -> Option<Vec<u8>> {
    match (ty, value) {
        (Type::Bool { bytes }, Parameter::Bool(value)) => number(*bytes, false, i128::from(*value)),
        (Type::Bool { bytes }, Parameter::Int(value @ (0 | 1))) => number(*bytes, false, *value),
        (Type::Int { bytes, signed }, Parameter::Int(value)) => number(*bytes, *signed, *value),
        (Type::Int { bytes, signed }, Parameter::Bool(value)) => number(*bytes, *signed, i128::from(*value)),
        (Type::Char { signed }, Parameter::Int(value)) => number(1, *signed, *value),
        (Type::Float { bytes: 8 }, Parameter::Float(value)) => Some(value.to_le_bytes().to_vec()),
        (Type::Float { bytes: 4 }, Parameter::Float(value)) => Some((*value as f32).to_le_bytes().to_vec()),
        (Type::Float { .. }, Parameter::Int(value)) => encode(ty, &Parameter::Float(*value as f64)),
        (Type::Enum { bytes, signed, .. }, Parameter::Int(value)) => number(*bytes, *signed, *value),
        (Type::Enum { bytes, signed, names }, Parameter::Text(text)) => {
            let (_, value) = names.iter().find(|(name, _)| name == text)?;
            number(*bytes, *signed, i128::from(*value))
        }
        (Type::Array { element, count }, Parameter::Text(text)) if matches!(**element, Type::Char { .. }) => {
            let mut bytes = text.as_bytes().to_vec();
            let fits = bytes.len() < *count as usize && !bytes.contains(&0);
            bytes.resize(*count as usize, 0);
            fits.then_some(bytes)
        }
        _ => None,
    }
}

fn number(bytes: u32, signed: bool, value: i128) -> Option<Vec<u8>> {
    let bits = bytes * 8;
    let range = match (signed, bits) {
        (_, 0 | 65..) => return None,
        (true, bits) => -(1i128 << (bits - 1))..=(1i128 << (bits - 1)) - 1,
        (false, bits) => 0..=(1i128 << bits) - 1,
    };
    range.contains(&value).then(|| value.to_le_bytes()[..bytes as usize].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_where_they_fit() {
        let int = |bytes, signed| Type::Int { bytes, signed };
        let text = |text: &str| Parameter::Text(text.into());
        assert_eq!(encode(&int(2, false), &Parameter::Int(65535)), Some(vec![0xff, 0xff]));
        assert_eq!(encode(&int(2, false), &Parameter::Int(65536)), None);
        assert_eq!(encode(&int(2, false), &Parameter::Int(-1)), None);
        assert_eq!(encode(&int(8, true), &Parameter::Int(i64::MIN.into())), Some(i64::MIN.to_le_bytes().to_vec()));
        assert_eq!(encode(&int(8, true), &Parameter::Int(i128::from(i64::MAX) + 1)), None);
        assert_eq!(encode(&int(4, true), &Parameter::Float(1.0)), None);
        assert_eq!(encode(&Type::Bool { bytes: 1 }, &Parameter::Int(2)), None);
        assert_eq!(encode(&Type::Float { bytes: 8 }, &Parameter::Int(2)), Some(2f64.to_le_bytes().to_vec()));
        let names = vec![("LOW".to_owned(), -1), ("HIGH".to_owned(), 7)];
        let levels = Type::Enum { bytes: 4, signed: true, names };
        assert_eq!(encode(&levels, &text("LOW")), Some(vec![0xff; 4]));
        assert_eq!(encode(&levels, &text("low")), None);
        let chars = Type::Array { element: Box::new(Type::Char { signed: true }), count: 4 };
        assert_eq!(encode(&chars, &text("abc")), Some(b"abc\0".to_vec()));
        assert_eq!(encode(&chars, &text("abcd")), None, "no room for the zero byte");
    }
}
