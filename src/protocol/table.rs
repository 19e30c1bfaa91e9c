//! Field tables: names and typed values (specification 4.2.5.5, in RabbitMQ's dialect).
//!
//! The types are those of `rabbit_binary_parser.erl`: `t b B s u I i l L f d S x D T A F V`. `s` is a signed 16-bit
//! number, not a short string, and both `l` and `L` are signed 64-bit numbers; `L` is read and never written.
//! [`Table`] borrows the encoded octets, [`FieldTable`] owns decoded values. What a table means is not known here.

mod borrowed;

use std::fmt;

use bytes::Bytes;

pub use borrowed::{Array, ArrayIter, Table, TableIter, ValueRef};

use super::{
    shortstr::ShortString,
    wire::{Fault, write_longstr, write_shortstr, write_with_length},
};

/// Deepest nesting of tables and arrays, the outermost table counted. RabbitMQ has no limit of its own; clients nest a
/// handful of levels, and the walk's stack must not be theirs to choose.
pub const TABLE_DEPTH_MAX: u32 = 64;

/// The name of a field.
pub type FieldName = ShortString;

/// A typed value of a field table.
#[derive(Debug, Clone)]
pub enum Value {
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
    /// `l`, and `L` when read
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: the value times ten to the power of minus `scale`; unsigned, as RabbitMQ reads it.
    Decimal {
        /// Number of decimal digits after the point.
        scale: u8,
        /// The number without its point.
        value: u32,
    },
    /// `S`: text, or octets that need not be text.
    LongStr(Bytes),
    /// `x`
    Binary(Bytes),
    /// `A`
    Array(Vec<Value>),
    /// `T`: seconds since 1970.
    Timestamp(u64),
    /// `F`
    Table(FieldTable),
    /// `V`
    Void,
}

impl Value {
    /// The name RabbitMQ gives to the type, as in "of type 'signedint'" of an inequivalent argument
    /// (`rabbit_binary_parser.erl`).
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::I8(_) => "byte",
            Self::U8(_) => "unsignedbyte",
            Self::I16(_) => "short",
            Self::U16(_) => "unsignedshort",
            Self::I32(_) => "signedint",
            Self::U32(_) => "unsignedint",
            Self::I64(_) => "long",
            Self::F32(_) => "float",
            Self::F64(_) => "double",
            Self::Decimal { .. } => "decimal",
            Self::LongStr(_) => "longstr",
            Self::Binary(_) => "binary",
            Self::Array(_) => "array",
            Self::Timestamp(_) => "timestamp",
            Self::Table(_) => "table",
            Self::Void => "void",
        }
    }

    /// The number, if this is one of the integer types; a timestamp is not.
    pub const fn as_i64(&self) -> Option<i64> {
        Some(match self {
            Self::I8(value) => *value as i64,
            Self::U8(value) => *value as i64,
            Self::I16(value) => *value as i64,
            Self::U16(value) => *value as i64,
            Self::I32(value) => *value as i64,
            Self::U32(value) => *value as i64,
            Self::I64(value) => *value,
            _ => return None,
        })
    }

    /// The text, if this is a long string of UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::LongStr(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The flag, if this is one.
    pub const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The values, if this is an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    /// The fields, if this is a table.
    pub const fn as_table(&self) -> Option<&FieldTable> {
        match self {
            Self::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Appends the type octet and the value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bool(value) => out.extend_from_slice(&[b't', u8::from(*value)]),
            Self::I8(value) => tagged(out, b'b', &value.to_be_bytes()),
            Self::U8(value) => tagged(out, b'B', &[*value]),
            Self::I16(value) => tagged(out, b's', &value.to_be_bytes()),
            Self::U16(value) => tagged(out, b'u', &value.to_be_bytes()),
            Self::I32(value) => tagged(out, b'I', &value.to_be_bytes()),
            Self::U32(value) => tagged(out, b'i', &value.to_be_bytes()),
            Self::I64(value) => tagged(out, b'l', &value.to_be_bytes()),
            Self::F32(value) => tagged(out, b'f', &value.to_bits().to_be_bytes()),
            Self::F64(value) => tagged(out, b'd', &value.to_bits().to_be_bytes()),
            Self::Decimal { scale, value } => {
                tagged(out, b'D', &[*scale]);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::LongStr(bytes) => {
                out.push(b'S');
                write_longstr(out, bytes);
            }
            Self::Binary(bytes) => {
                out.push(b'x');
                write_longstr(out, bytes);
            }
            Self::Array(values) => {
                out.push(b'A');
                write_with_length(out, |out| values.iter().for_each(|value| value.encode(out)));
            }
            Self::Timestamp(value) => tagged(out, b'T', &value.to_be_bytes()),
            Self::Table(table) => {
                out.push(b'F');
                table.encode(out);
            }
            Self::Void => out.push(b'V'),
        }
    }
}

fn tagged(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    out.push(tag);
    out.extend_from_slice(value);
}

/// Floats are compared by their bits, so that what was decoded from equal octets is equal.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::I8(a), Self::I8(b)) => a == b,
            (Self::U8(a), Self::U8(b)) => a == b,
            (Self::I16(a), Self::I16(b)) => a == b,
            (Self::U16(a), Self::U16(b)) => a == b,
            (Self::I32(a), Self::I32(b)) => a == b,
            (Self::U32(a), Self::U32(b)) => a == b,
            (Self::I64(a), Self::I64(b)) => a == b,
            (Self::F32(a), Self::F32(b)) => a.to_bits() == b.to_bits(),
            (Self::F64(a), Self::F64(b)) => a.to_bits() == b.to_bits(),
            (
                Self::Decimal { scale, value },
                Self::Decimal {
                    scale: other_scale,
                    value: other_value,
                },
            ) => scale == other_scale && value == other_value,
            (Self::LongStr(a), Self::LongStr(b)) | (Self::Binary(a), Self::Binary(b)) => a == b,
            (Self::Array(a), Self::Array(b)) => a == b,
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::Table(a), Self::Table(b)) => a == b,
            (Self::Void, Self::Void) => true,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::I32(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::I64(value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::LongStr(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::LongStr(text.into())
    }
}

impl From<FieldTable> for Value {
    fn from(table: FieldTable) -> Self {
        Self::Table(table)
    }
}

impl From<Vec<Value>> for Value {
    fn from(values: Vec<Value>) -> Self {
        Self::Array(values)
    }
}

/// A decoded field table, in the order of the wire; a name that came twice is kept twice.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FieldTable(Vec<(FieldName, Value)>);

impl FieldTable {
    /// An empty table.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Decodes the fields of a table, without its outer length.
    ///
    /// # Errors
    /// The octets are not a table, or are nested deeper than [`TABLE_DEPTH_MAX`].
    pub fn decode(fields: &[u8]) -> Result<Self, Fault> {
        Table::new(fields).map(Table::decode)
    }

    /// The first value of that name, as `rabbit_misc:table_lookup` has it.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let mut values = self.0.iter().filter(|(field, _)| field == name);
        values.next().map(|(_, value)| value)
    }

    /// The first value of that name, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        let mut values = self.0.iter_mut().filter(|(field, _)| field == name);
        values.next().map(|(_, value)| value)
    }

    /// Whether there is a field of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Sets the value of that name in place, or appends it; gives back the first old value. Later fields of the same
    /// name go.
    pub fn insert(&mut self, name: impl Into<FieldName>, value: impl Into<Value>) -> Option<Value> {
        let (name, value) = (name.into(), value.into());
        let Some(index) = self.0.iter().position(|(field, _)| *field == name) else {
            self.0.push((name, value));
            return None;
        };
        let old = std::mem::replace(&mut self.0[index].1, value);
        let mut at = 0;
        self.0.retain(|(field, _)| {
            at += 1;
            at <= index + 1 || *field != name
        });
        Some(old)
    }

    /// Appends a field, even if its name is there already.
    pub fn push(&mut self, name: impl Into<FieldName>, value: impl Into<Value>) {
        self.0.push((name.into(), value.into()));
    }

    /// Gives back the room for more fields, for a table that is kept for long.
    pub fn shrink_to_fit(&mut self) {
        self.0.shrink_to_fit();
    }

    /// Removes every field of that name; gives back the first one's value.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let index = self.0.iter().position(|(field, _)| field == name)?;
        let (_, value) = self.0.remove(index);
        self.0.retain(|(field, _)| field != name);
        Some(value)
    }

    /// The fields in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&FieldName, &Value)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the table behind its length in 32 bits.
    pub fn encode(&self, out: &mut Vec<u8>) {
        write_with_length(out, |out| self.encode_fields(out));
    }

    /// Appends the fields alone, as [`Table::as_bytes`] has them.
    pub fn encode_fields(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.0 {
            write_shortstr(out, name.as_short_str());
            value.encode(out);
        }
    }

    /// The encoded form, from which a [`Table`] can be borrowed.
    pub fn to_encoded(&self) -> EncodedTable {
        let mut out = Vec::new();
        self.encode_fields(&mut out);
        EncodedTable(out)
    }
}

impl fmt::Debug for FieldTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<N: Into<FieldName>, V: Into<Value>> FromIterator<(N, V)> for FieldTable {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let fields = fields.into_iter();
        Self(fields.map(|(n, v)| (n.into(), v.into())).collect())
    }
}

impl IntoIterator for FieldTable {
    type Item = (FieldName, Value);
    type IntoIter = std::vec::IntoIter<(FieldName, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The encoded fields of a table that this program built, for the methods that borrow one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedTable(Vec<u8>);

impl EncodedTable {
    /// The table to put into a method.
    pub fn as_table(&self) -> Table<'_> {
        Table::from_walked(&self.0)
    }
}
