//! The primitive types of the wire (specification 4.2.5): octets in, values and the rest of the input out.
//!
//! Everything here is a nom parser without allocation, or a writer onto a `Vec<u8>`. It does not know frames or methods.

use nom::{
    IResult,
    bytes::complete::take,
    error::{ErrorKind, ParseError},
    number::complete::{be_u8, be_u16, be_u32, be_u64},
};
use thiserror::Error;

pub(super) use super::{shortstr::ShortStr, table::Table};

/// What is wrong with the spelling of something a peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Fault {
    /// Lengths or type octets do not fit the octets that are there.
    #[error("cannot decode")]
    Layout,
    /// A short string of a method without content is not UTF-8; the text is RabbitMQ's (`rabbit_binary_parser:assert_utf8`).
    #[error("Malformed UTF-8 in shortstr")]
    Utf8,
    /// Tables or arrays are nested deeper than [`TABLE_DEPTH_MAX`](super::TABLE_DEPTH_MAX).
    #[error("field table nested too deeply")]
    Depth,
}

impl ParseError<&[u8]> for Fault {
    fn from_error_kind(_: &[u8], _: ErrorKind) -> Self {
        Self::Layout
    }

    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

impl From<nom::Err<Fault>> for Fault {
    fn from(error: nom::Err<Fault>) -> Self {
        match error {
            nom::Err::Incomplete(_) => Self::Layout,
            nom::Err::Error(fault) | nom::Err::Failure(fault) => fault,
        }
    }
}

/// Why the payload of a method frame is no method.
///
/// RabbitMQ answers malformed fields with 501 FRAME_ERROR (`rabbit_misc:frame_error`), where the specification has 502
/// SYNTAX_ERROR; which one to send is the session's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MethodError {
    /// No method has these numbers.
    #[error("unknown method {class_id}.{method_id}")]
    UnknownMethod {
        /// Class as sent.
        class_id: u16,
        /// Method as sent.
        method_id: u16,
    },
    /// The fields do not fill the payload exactly. Both numbers are 0 if the payload is too short to hold them.
    #[error("malformed method {class_id}.{method_id}: {fault}")]
    Malformed {
        /// Class as sent.
        class_id: u16,
        /// Method as sent.
        method_id: u16,
        /// What is wrong.
        fault: Fault,
    },
}

/// A parser's answer: the rest of the input and the value.
pub(super) type Parsed<'a, T> = IResult<&'a [u8], T, Fault>;

pub(super) fn octet(input: &[u8]) -> Parsed<'_, u8> {
    be_u8(input)
}

pub(super) fn short(input: &[u8]) -> Parsed<'_, u16> {
    be_u16(input)
}

pub(super) fn long(input: &[u8]) -> Parsed<'_, u32> {
    be_u32(input)
}

pub(super) fn longlong(input: &[u8]) -> Parsed<'_, u64> {
    be_u64(input)
}

pub(super) fn shortstr(input: &[u8]) -> Parsed<'_, ShortStr<'_>> {
    let (input, len) = octet(input)?;
    let (input, bytes) = take(len)(input)?;
    Ok((input, ShortStr::from_short_slice(bytes)))
}

pub(super) fn shortstr_utf8(input: &[u8]) -> Parsed<'_, ShortStr<'_>> {
    let (rest, text) = shortstr(input)?;
    if text.to_str().is_err() {
        return Err(nom::Err::Failure(Fault::Utf8));
    }
    Ok((rest, text))
}

pub(super) fn longstr(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (input, len) = long(input)?;
    take(len)(input)
}

/// A field table behind its length, walked to its last octet.
pub(super) fn table(input: &[u8]) -> Parsed<'_, Table<'_>> {
    let (input, bytes) = longstr(input)?;
    let table = Table::new(bytes).map_err(nom::Err::Failure)?;
    Ok((input, table))
}

/// Nothing may be left.
pub(super) fn end(input: &[u8]) -> Result<(), Fault> {
    if input.is_empty() {
        Ok(())
    } else {
        Err(Fault::Layout)
    }
}

/// The numbers that open a method's payload, and its fields.
pub(super) fn method_ids(payload: &[u8]) -> Result<(u16, u16, &[u8]), MethodError> {
    let numbers = short(payload).and_then(|(input, class_id)| {
        let (fields, method_id) = short(input)?;
        Ok((class_id, method_id, fields))
    });
    numbers.map_err(|fault| MethodError::Malformed {
        class_id: 0,
        method_id: 0,
        fault: fault.into(),
    })
}

pub(super) fn write_shortstr(out: &mut Vec<u8>, text: ShortStr<'_>) {
    let bytes = text.as_bytes();
    out.push(bytes.len() as u8);
    out.extend_from_slice(bytes);
}

pub(super) fn write_longstr(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

pub(super) fn write_table(out: &mut Vec<u8>, table: Table<'_>) {
    write_longstr(out, table.as_bytes());
}

/// Appends what `write` writes behind its length in 32 bits.
pub(super) fn write_with_length(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let bytes = (out.len() - length_at - 4) as u32;
    if let Some(length) = out.get_mut(length_at..length_at + 4) {
        length.copy_from_slice(&bytes.to_be_bytes());
    }
}
