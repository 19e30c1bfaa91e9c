//! The protocol: bytes to frames to methods and back. Spelling, not meaning.
//!
//! In come octets, out go borrowed views of them, and the other way round. Nothing here knows what a method does, who may
//! send it, when, or what closes when it is wrong; there is no input or output, no clock, and no other module of this crate.
//!
//! In reading order, along the way of a message in:
//! - [`header`]: the eight octets that open a connection, and who else may be calling.
//! - [`frame`]: [`Frame`]s out of a buffer, one at a time, and the writers of frames.
//! - [`generated`]: constants, [`ReplyCode`], and [`Method`] with a module of structs per class.
//! - [`properties`]: content headers; [`PropertyFacts`] from one walk, [`PropertiesView`], and the owned [`Properties`].
//! - [`table`]: field tables; [`Table`] borrows, [`FieldTable`] owns.
//! - [`shortstr`]: short strings; [`ShortStr`] borrows, [`ShortString`] owns.
//! - `wire`: the primitive types that all of these are made of, and [`Fault`], what can be wrong with them.

pub mod frame;
pub mod generated;
pub mod header;
pub mod properties;
pub mod shortstr;
pub mod table;
#[cfg(test)]
mod tests;
mod wire;

pub use frame::{Frame, FrameError, FrameKind, PayloadHead};
pub use generated::*;
pub use header::{HeaderOutcome, HeaderRefusal, ProtocolHeader};
pub use properties::{
    ContentHeader, ContentHeaderError, Properties, PropertiesView, PropertyFacts,
};
pub use shortstr::{ShortStr, ShortString, ShortStringTooLong};
pub use table::{
    Array, EncodedTable, FieldName, FieldTable, TABLE_DEPTH_MAX, Table, Value, ValueRef,
};
pub use wire::{Fault, MethodError};
