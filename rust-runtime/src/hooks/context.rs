//! Contexts that are made up: for running a program without its hook.

use std::ffi::c_void;

use crate::{
    hook::Hook,
    object::Parameter,
    verifier::{Content, Field, fields},
};

/// Why there is no context.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    #[error("the context of {hook} has no field '{name}'; it has {known}")]
    Unknown { hook: Hook, name: String, known: String },
    #[error("{value} does not fit the field {name}, which takes {wanted}")]
    Unfit { name: &'static str, value: String, wanted: String },
}

/// A hook's context. Fields that were not named are 0, buffers empty.
#[derive(Debug)]
pub struct MadeUp {
    words: Vec<u64>,
    /// What pointers in there lead to.
    _buffers: Vec<Box<[u8]>>,
}

impl MadeUp {
    /// Fields are named as in the hook's struct, with `origin.` before those of the origin or without.
    pub fn new(hook: Hook, values: &[(String, Parameter)]) -> Result<MadeUp, ContextError> {
        let fields = fields(hook);
        let size = fields.iter().map(|field| field.offset + field.size).max().unwrap_or(0) as usize;
        let mut bytes = vec![0; size.next_multiple_of(8)];
        let mut buffers = Vec::new();
        for (index, field) in fields.iter().enumerate().filter(|(_, field)| field.content == Content::Buffer) {
            let given = values.iter().find(|(name, _)| find(hook, name) == Some(*field));
            let buffer = given.map_or(Ok(Box::default()), |(_, value)| buffer(field, value))?;
            let range = buffer.as_ptr_range();
            put(&mut bytes, field, range.start as u128);
            if let Some(end) = fields[index..].iter().find(|field| field.content == Content::BufferEnd) {
                put(&mut bytes, end, range.end as u128);
            }
            buffers.push(buffer);
        }
        for (name, value) in values {
            let field = find(hook, name).filter(|field| field.content != Content::BufferEnd);
            let field = field.ok_or_else(|| unknown(hook, name))?;
            if field.content == Content::Number {
                put(&mut bytes, &field, number(&field, value)?);
            }
        }
        let words = bytes.chunks_exact(8).map(|word| u64::from_ne_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|at| word[at])));
        Ok(MadeUp { words: words.collect(), _buffers: buffers })
    }

    /// What a program gets. It may write to fields that are declared so.
    pub fn address(&mut self) -> *mut c_void {
        self.words.as_mut_ptr().cast()
    }
}

/// The field of a name; one of the origin has the second choice. Rust's name may end in `_`, where C's is a keyword.
/// Of an array each number is a field: `waiting[3]`.
fn find(hook: Hook, name: &str) -> Option<Field> {
    let Some((array, index)) = name.strip_suffix(']').and_then(|name| name.split_once('[')) else {
        return find_whole(hook, name).filter(|field| field.count == 1);
    };
    let array = find_whole(hook, array).filter(|array| array.count > 1)?;
    let index = index.parse::<u32>().ok().filter(|index| *index < array.count)?;
    let size = array.size / array.count;
    Some(Field { offset: array.offset + index * size, size, count: 1, ..array })
}

fn find_whole(hook: Hook, name: &str) -> Option<Field> {
    let known = |field: &Field| field.name.trim_end_matches('_');
    let is_called = |field: &&Field| known(field) == name;
    let is_origins = |field: &&Field| known(field).strip_prefix("origin.") == Some(name);
    fields(hook).iter().find(is_called).or_else(|| fields(hook).iter().find(is_origins)).copied()
}

fn unknown(hook: Hook, name: &str) -> ContextError {
    let known = fields(hook).iter().filter(|field| field.content != Content::BufferEnd);
    let known: Vec<String> = known.map(Field::declarator).collect();
    ContextError::Unknown { hook, name: name.to_owned(), known: known.join(", ") }
}

fn unfit(field: &Field, value: &Parameter, wanted: String) -> ContextError {
    ContextError::Unfit { name: field.name, value: value.to_string(), wanted }
}

fn buffer(field: &Field, value: &Parameter) -> Result<Box<[u8]>, ContextError> {
    match value {
        Parameter::Text(text) => Ok(text.as_bytes().into()),
        _ => Err(unfit(field, value, "text".into())),
    }
}

/// Signed or not: what fits the field's bytes.
fn number(field: &Field, value: &Parameter) -> Result<u128, ContextError> {
    let bits = field.size * 8;
    let number = match value {
        Parameter::Bool(value) => Some(i128::from(*value)),
        Parameter::Int(value) => Some(*value),
        _ => None,
    };
    let fits = |number: &i128| (-(1 << (bits - 1))..1 << bits).contains(number);
    let number = number.filter(fits).ok_or_else(|| unfit(field, value, format!("a number of {} bytes", field.size)))?;
    Ok(number as u128)
}

fn put(bytes: &mut [u8], field: &Field, value: u128) {
    let (start, size) = (field.offset as usize, field.size as usize);
    bytes[start..start + size].copy_from_slice(&value.to_ne_bytes()[..size]);
}

#[cfg(test)]
mod tests {
    use duckbpf_abi::{duckbpf_run_task_ctx, duckbpf_unpin_ctx};

    use super::*;

    fn unpin(values: &[(&str, i128)]) -> Result<duckbpf_unpin_ctx, ContextError> {
        let values: Vec<_> = values.iter().map(|(name, value)| ((*name).to_owned(), Parameter::Int(*value))).collect();
        let mut context = MadeUp::new(Hook::Unpin, &values)?;
        assert_eq!(context.words.len() * 8, size_of::<duckbpf_unpin_ctx>());
        // SAFETY: it is as large, aligned, and any bytes make one.
        Ok(unsafe { context.address().cast::<duckbpf_unpin_ctx>().read() })
    }

    #[test]
    fn fields_are_where_c_has_them() {
        let context =
            unpin(&[("size", 1 << 40), ("readers", -1), ("origin.query_id", 7), ("thread_index", 3)]).unwrap();
        assert_eq!((context.size, context.readers, context.block_id, context.persistent), (1 << 40, -1, 0, 0));
        assert_eq!((context.origin.query_id, context.origin.thread_index), (7, 3));
    }

    #[test]
    fn what_is_unknown_or_too_large_is_named() {
        let message = unpin(&[("sise", 1)]).unwrap_err().to_string();
        assert!(
            message.contains("no field 'sise'") && message.contains("origin.query_id") && message.contains("readers")
        );
        let message = unpin(&[("tag", 1 << 32)]).unwrap_err().to_string();
        assert!(message.contains("4294967296 does not fit the field tag"), "{message}");
        let text = [("tag".to_owned(), Parameter::Text("x".into()))];
        assert!(MadeUp::new(Hook::Unpin, &text).is_err());
    }

    #[test]
    fn numbers_of_arrays_are_fields() {
        let of = |name: &str| MadeUp::new(Hook::RunTask, &[(name.to_owned(), Parameter::Int(5))]);
        let word = std::mem::offset_of!(duckbpf_run_task_ctx, waiting) + 3 * 4;
        assert_eq!(of("waiting[3]").unwrap().words[word / 8].to_ne_bytes()[word % 8], 5);
        assert!(of("waiting[8]").is_err() && of("tag[0]").is_err());
        assert!(of("waiting").unwrap_err().to_string().contains("waiting[8]"));
    }

    #[test]
    fn a_field_that_is_a_keyword_has_its_c_name() {
        assert!(MadeUp::new(Hook::Hash, &[("type".to_owned(), Parameter::Int(3))]).is_ok());
    }
}
