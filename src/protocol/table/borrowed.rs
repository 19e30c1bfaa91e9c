//! Field tables as they lie in a frame: a walk that proves them sound, and iterators that read them without a copy.
//!
//! A [`Table`] is walked once, when it is made. Its readers stop at anything they cannot read, so that octets which were
//! never walked give a short answer and no panic.

use std::fmt;

use bytes::Bytes;

use super::{FieldTable, TABLE_DEPTH_MAX, Value};
use crate::protocol::{
    shortstr::ShortStr,
    wire::{Fault, Parsed, long, longlong, longstr, octet, short, shortstr},
};

/// The fields of a table, encoded, without the table's own length.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Table<'a>(&'a [u8]);

impl<'a> Table<'a> {
    /// Walks the fields to the last octet, without allocation.
    ///
    /// # Errors
    /// The octets are not fields, or are nested deeper than [`TABLE_DEPTH_MAX`].
    pub fn new(fields: &'a [u8]) -> Result<Self, Fault> {
        walk_table(fields, 1)?;
        Ok(Self(fields))
    }

    /// Fields that were walked before, or that this program encoded.
    pub(in crate::protocol) const fn from_walked(fields: &'a [u8]) -> Self {
        Self(fields)
    }

    /// The encoded fields.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether there are no fields.
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The fields in order.
    pub const fn iter(self) -> TableIter<'a> {
        TableIter { rest: self.0 }
    }

    /// The first value of that name.
    pub fn get(self, name: &str) -> Option<ValueRef<'a>> {
        self.iter()
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value)
    }

    /// An owned copy. Of octets that were never walked, what is nested too deeply becomes
    /// void.
    pub fn decode(self) -> FieldTable {
        self.decode_at(1)
    }

    fn decode_at(self, depth: u32) -> FieldTable {
        let fields = self.iter();
        FieldTable(
            fields
                .map(|(name, value)| (name.into(), value.to_value_at(depth)))
                .collect(),
        )
    }
}

impl<'a> IntoIterator for Table<'a> {
    type Item = (ShortStr<'a>, ValueRef<'a>);
    type IntoIter = TableIter<'a>;

    fn into_iter(self) -> TableIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// The values of an array, encoded, without the array's own length.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Array<'a>(&'a [u8]);

impl<'a> Array<'a> {
    /// The values in order.
    pub const fn iter(self) -> ArrayIter<'a> {
        ArrayIter { rest: self.0 }
    }

    /// Whether there are no values.
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for Array<'a> {
    type Item = ValueRef<'a>;
    type IntoIter = ArrayIter<'a>;

    fn into_iter(self) -> ArrayIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A value that borrows what is not a number. The variants are those of [`Value`].
#[derive(Debug, Clone, Copy)]
pub enum ValueRef<'a> {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l` and `L`
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`
    Decimal {
        /// Number of decimal digits after the point.
        scale: u8,
        /// The number without its point.
        value: u32,
    },
    /// `S`
    LongStr(&'a [u8]),
    /// `x`
    Binary(&'a [u8]),
    /// `A`
    Array(Array<'a>),
    /// `T`: seconds since 1970.
    Timestamp(u64),
    /// `F`
    Table(Table<'a>),
    /// `V`
    Void,
}

impl<'a> ValueRef<'a> {
    /// An owned copy.
    pub fn to_value(self) -> Value {
        self.to_value_at(1)
    }

    /// An owned copy of a value inside a table or array of that depth.
    fn to_value_at(self, depth: u32) -> Value {
        match self {
            Self::Bool(value) => Value::Bool(value),
            Self::I8(value) => Value::I8(value),
            Self::U8(value) => Value::U8(value),
            Self::I16(value) => Value::I16(value),
            Self::U16(value) => Value::U16(value),
            Self::I32(value) => Value::I32(value),
            Self::U32(value) => Value::U32(value),
            Self::I64(value) => Value::I64(value),
            Self::F32(value) => Value::F32(value),
            Self::F64(value) => Value::F64(value),
            Self::Decimal { scale, value } => Value::Decimal { scale, value },
            Self::LongStr(bytes) => Value::LongStr(Bytes::copy_from_slice(bytes)),
            Self::Binary(bytes) => Value::Binary(Bytes::copy_from_slice(bytes)),
            Self::Array(_) | Self::Table(_) if depth >= TABLE_DEPTH_MAX => Value::Void,
            Self::Array(array) => {
                let values = array.iter();
                Value::Array(values.map(|v| v.to_value_at(depth + 1)).collect())
            }
            Self::Timestamp(value) => Value::Timestamp(value),
            Self::Table(table) => Value::Table(table.decode_at(depth + 1)),
            Self::Void => Value::Void,
        }
    }

    /// The number, if this is one of the integer types; a timestamp is not.
    pub const fn as_i64(self) -> Option<i64> {
        Some(match self {
            Self::I8(value) => value as i64,
            Self::U8(value) => value as i64,
            Self::I16(value) => value as i64,
            Self::U16(value) => value as i64,
            Self::I32(value) => value as i64,
            Self::U32(value) => value as i64,
            Self::I64(value) => value,
            _ => return None,
        })
    }

    /// The text, if this is a long string of UTF-8.
    pub fn as_str(self) -> Option<&'a str> {
        match self {
            Self::LongStr(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

/// The fields of a [`Table`], in order.
#[derive(Debug, Clone)]
pub struct TableIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for TableIter<'a> {
    type Item = (ShortStr<'a>, ValueRef<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (rest, name) = shortstr(self.rest).ok()?;
        let (rest, value) = value(rest).ok()?;
        self.rest = rest;
        Some((name, value))
    }
}

/// The values of an [`Array`], in order.
#[derive(Debug, Clone)]
pub struct ArrayIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for ArrayIter<'a> {
    type Item = ValueRef<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (rest, value) = value(self.rest).ok()?;
        self.rest = rest;
        Some(value)
    }
}

/// One value behind its type octet; what a nested table or array holds is not looked at.
fn value(input: &[u8]) -> Parsed<'_, ValueRef<'_>> {
    let (input, tag) = octet(input)?;
    Ok(match tag {
        b'S' => map(longstr(input)?, ValueRef::LongStr),
        b'T' => map(longlong(input)?, ValueRef::Timestamp),
        b'b' => map(octet(input)?, |value| ValueRef::I8(value as i8)),
        b'B' => map(octet(input)?, ValueRef::U8),
        b's' => map(short(input)?, |value| ValueRef::I16(value as i16)),
        b'u' => map(short(input)?, ValueRef::U16),
        b'I' => map(long(input)?, |value| ValueRef::I32(value as i32)),
        b'i' => map(long(input)?, ValueRef::U32),
        b'l' | b'L' => map(longlong(input)?, |value| ValueRef::I64(value as i64)),
        b'd' => map(longlong(input)?, |v| ValueRef::F64(f64::from_bits(v))),
        b'f' => map(long(input)?, |v| ValueRef::F32(f32::from_bits(v))),
        b't' => map(octet(input)?, |value| ValueRef::Bool(value != 0)),
        b'D' => {
            let (input, scale) = octet(input)?;
            map(long(input)?, |value| ValueRef::Decimal { scale, value })
        }
        b'F' => map(longstr(input)?, |fields| ValueRef::Table(Table(fields))),
        b'A' => map(longstr(input)?, |values| ValueRef::Array(Array(values))),
        b'x' => map(longstr(input)?, ValueRef::Binary),
        b'V' => (input, ValueRef::Void),
        _ => return Err(nom::Err::Failure(Fault::Layout)),
    })
}

fn map<'a, T>(
    (rest, raw): (&'a [u8], T),
    build: impl FnOnce(T) -> ValueRef<'a>,
) -> (&'a [u8], ValueRef<'a>) {
    (rest, build(raw))
}

fn walk_table(mut input: &[u8], depth: u32) -> Result<(), Fault> {
    while !input.is_empty() {
        let (rest, _name) = shortstr(input)?;
        input = walk_value(rest, depth)?;
    }
    Ok(())
}

fn walk_array(mut input: &[u8], depth: u32) -> Result<(), Fault> {
    while !input.is_empty() {
        input = walk_value(input, depth)?;
    }
    Ok(())
}

/// Walks one value inside a table or array of that depth; gives back what follows it.
fn walk_value(input: &[u8], depth: u32) -> Result<&[u8], Fault> {
    let (rest, value) = value(input)?;
    match value {
        ValueRef::Table(_) | ValueRef::Array(_) if depth == TABLE_DEPTH_MAX => {
            return Err(Fault::Depth);
        }
        ValueRef::Table(table) => walk_table(table.0, depth + 1)?,
        ValueRef::Array(array) => walk_array(array.0, depth + 1)?,
        _ => {}
    }
    Ok(rest)
}
