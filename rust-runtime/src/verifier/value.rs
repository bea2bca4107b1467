//! What a register or a spilled slot holds: a number, a pointer into something, a map, a function.

use std::fmt;

use super::domain::Scalar;

/// Numbers things that are told apart along one way through the program: unknown values, objects, null checks. 0: none.
pub type Id = u32;

/// How a number depends on a symbol, an unknown that does not change: `scale * symbol + add`, modulo 2^64. Registers with the
/// same symbol are refined together. `symbol` 0: it depends on none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub symbol: Id,
    pub scale: i64,
    pub add: i64,
}

/// A number: its range, and its link to other numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Num {
    pub range: Scalar,
    pub link: Link,
}

impl Num {
    pub const fn constant(value: u64) -> Num {
        Num { range: Scalar::constant(value), link: Link { symbol: 0, scale: 0, add: 0 } }
    }

    /// Some number of a range that depends on nothing known.
    pub fn plain(range: Scalar) -> Num {
        Num { range, link: Link::default() }
    }

    /// A number that is a symbol of its own.
    pub fn symbol(range: Scalar, symbol: Id) -> Num {
        match range.is_constant() {
            Some(value) => Num::constant(value),
            None => Num { range, link: Link { symbol, scale: 1, add: 0 } },
        }
    }

    pub fn is_constant(&self) -> Option<u64> {
        self.range.is_constant()
    }
}

/// A map of the object, or what the maps inside of it look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRef {
    pub index: u32,
    pub inner: bool,
}

/// What a pointer points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Context,
    /// The stack of a frame; offsets count from its upper end.
    Stack(u8),
    /// A value of a map: global variables too.
    MapValue(MapRef),
    /// A key, as callbacks get it.
    MapKey(MapRef),
    /// A record of a ring buffer, of so many bytes.
    Record(u32),
    /// Memory that ends where the context's field says.
    Buffer,
}

/// A pointer and all that is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    pub to: Target,
    /// Which object of its kind; pointers into the same one may be compared. 0: there is only one.
    pub object: Id,
    /// Not 0: it may be null, together with all that have the same id.
    pub null: Id,
    /// Bytes from the beginning of the object.
    pub offset: Num,
    /// Buffers: bytes from here on that are proved to lie before the end.
    pub room: i64,
}

/// What a register holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Value {
    /// Nothing that may be used.
    #[default]
    Unset,
    Number(Num),
    Pointer(Pointer),
    /// A map itself. `null` as in a pointer.
    Map {
        map: MapRef,
        null: Id,
    },
    /// A function of the program, by its number.
    Function(u32),
    /// The end of the buffer.
    BufferEnd,
}

impl Value {
    pub const fn constant(value: u64) -> Value {
        Value::Number(Num::constant(value))
    }

    pub fn pointer(to: Target, object: Id) -> Value {
        Value::Pointer(Pointer { to, object, null: 0, offset: Num::constant(0), room: 0 })
    }

    pub fn is_number(&self) -> bool {
        matches!(self, Value::Number(_))
    }

    pub fn number(&self) -> Option<&Num> {
        match self {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    /// The number inside, whose link may be refined: its own, or a pointer's offset.
    pub fn linked(&self) -> Option<&Num> {
        match self {
            Value::Number(number) => Some(number),
            Value::Pointer(pointer) => Some(&pointer.offset),
            _ => None,
        }
    }

    pub fn linked_mut(&mut self) -> Option<&mut Num> {
        match self {
            Value::Number(number) => Some(number),
            Value::Pointer(pointer) => Some(&mut pointer.offset),
            _ => None,
        }
    }

    /// Not 0: it may be null.
    pub fn null_id(&self) -> Id {
        match self {
            Value::Pointer(pointer) => pointer.null,
            Value::Map { null, .. } => *null,
            _ => 0,
        }
    }

    /// It is an address, of which nothing may leave the program.
    pub fn is_address(&self) -> bool {
        !matches!(self, Value::Unset | Value::Number(_))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Context => f.write_str("context"),
            Target::Stack(0) => f.write_str("stack"),
            Target::Stack(frame) => write!(f, "stack of frame {frame}"),
            Target::MapValue(map) => write!(f, "value of map {}", map.index),
            Target::MapKey(map) => write!(f, "key of map {}", map.index),
            Target::Record(size) => write!(f, "record of {size} bytes"),
            Target::Buffer => f.write_str("buffer"),
        }
    }
}

impl fmt::Display for Value {
    /// As the annotated walk prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Unset => f.write_str("unset"),
            Value::Number(number) => write!(f, "{}", number.range),
            Value::Pointer(pointer) => {
                write!(f, "pointer to {}", pointer.to)?;
                if pointer.null != 0 {
                    f.write_str(" or null")?;
                }
                match pointer.offset.is_constant() {
                    Some(0) => Ok(()),
                    Some(offset) => write!(f, " {:+}", offset as i64),
                    None => write!(f, " + ({})", pointer.offset.range),
                }
            }
            Value::Map { map, null: 0 } => write!(f, "map {}", map.index),
            Value::Map { map, .. } => write!(f, "map inside of {} or null", map.index),
            Value::Function(index) => write!(f, "function {index}"),
            Value::BufferEnd => f.write_str("end of the buffer"),
        }
    }
}
