//! Content headers (specification 4.2.6.1): class, size of the body, and the properties of the message.
//!
//! A header frame's payload goes in. One walk without allocation proves the properties sound and gives
//! [`PropertyFacts`], small enough to live with each message; the octets stay as they came, and [`PropertiesView`] finds
//! a value in them when someone asks. What a property means to routing or to queues is not known here.

mod owned;

pub use owned::Properties;
use thiserror::Error;

use super::{
    generated::{basic, basic_flags as flag},
    shortstr::ShortStr,
    table::Table,
    wire::{Fault, Parsed, longlong, longstr, octet, short, shortstr, table},
};

/// `delivery_mode` of a message that shall survive a restart.
pub const DELIVERY_MODE_PERSISTENT: u8 = 2;

/// Lowest bit of a flags word: another word follows.
const FLAG_CONTINUATION: u16 = 1;

/// Bits of the first flags word that no property uses. RabbitMQ ignores the upper one too.
const FLAG_UNUSED: u16 = 1 << 1;

/// Most flags words. There are properties for one; further words are legal, and must be empty.
const FLAG_WORDS_MAX: u8 = 8;

/// The payload of a content header frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentHeader<'a> {
    /// Class of the content; to be compared with that of the method before it. If it is not basic, the properties were
    /// not walked and the facts are empty, because only basic has properties.
    pub class_id: u16,
    /// Always 0 in a sound header; RabbitMQ answers another value with 505 UNEXPECTED_FRAME.
    pub weight: u16,
    /// Octets of body that will follow.
    pub body_bytes: u64,
    /// Flags and values of the properties, as encoded.
    pub properties: &'a [u8],
    /// What the walk saw.
    pub facts: PropertyFacts,
}

/// Why the payload of a header frame is no content header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ContentHeaderError {
    /// It is shorter than class, weight and size; RabbitMQ calls it an unknown frame, see
    /// [`FrameError::unknown`](super::FrameError::unknown).
    #[error("content header too short")]
    TooShort,
    /// The properties cannot be read.
    #[error("malformed content properties: {0}")]
    Properties(#[from] Fault),
}

impl<'a> ContentHeader<'a> {
    /// Parses the whole payload of a header frame.
    ///
    /// # Errors
    /// The payload is too short, or the properties do not fill the rest of it exactly.
    pub fn parse(payload: &'a [u8]) -> Result<Self, ContentHeaderError> {
        let (properties, (class_id, weight, body_bytes)) =
            numbers(payload).map_err(|_| ContentHeaderError::TooShort)?;
        let facts = if class_id == basic::CLASS_ID {
            PropertyFacts::of(properties)?
        } else {
            PropertyFacts::default()
        };
        Ok(Self {
            class_id,
            weight,
            body_bytes,
            properties,
            facts,
        })
    }

    /// The properties, to be read one by one.
    pub const fn view(&self) -> PropertiesView<'a> {
        self.facts.view(self.properties)
    }
}

fn numbers(payload: &[u8]) -> Parsed<'_, (u16, u16, u64)> {
    let (input, class_id) = short(payload)?;
    let (input, weight) = short(input)?;
    let (input, body_bytes) = longlong(input)?;
    Ok((input, (class_id, weight, body_bytes)))
}

/// What one walk over a message's encoded properties saw: enough to decide, without a second look, whether a slower path
/// is needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PropertyFacts {
    flags: u16,
    /// Octets of flags in front of the values.
    flags_bytes: u8,
    delivery_mode: u8,
    priority: u8,
    has_cc: bool,
    has_bcc: bool,
}

impl PropertyFacts {
    /// Walks encoded properties, flags and values, to the last octet.
    ///
    /// # Errors
    /// The octets are not the properties of class basic.
    pub fn of(properties: &[u8]) -> Result<Self, Fault> {
        let (values, flags, flags_bytes) = flag_words(properties)?;
        let mut facts = Self {
            flags,
            flags_bytes,
            ..Self::default()
        };
        let mut input = values;
        if flags & flag::CONTENT_TYPE != 0 {
            (input, _) = shortstr(input)?;
        }
        if flags & flag::CONTENT_ENCODING != 0 {
            (input, _) = shortstr(input)?;
        }
        if flags & flag::HEADERS != 0 {
            let (rest, headers) = table(input)?;
            input = rest;
            for (name, _) in headers {
                facts.has_cc |= name == "CC";
                facts.has_bcc |= name == "BCC";
            }
        }
        if flags & flag::DELIVERY_MODE != 0 {
            (input, facts.delivery_mode) = octet(input)?;
        }
        if flags & flag::PRIORITY != 0 {
            (input, facts.priority) = octet(input)?;
        }
        for property in AFTER_PRIORITY {
            if flags & property == 0 {
                continue;
            }
            input = match property {
                flag::TIMESTAMP => longlong(input)?.0,
                _ => shortstr(input)?.0,
            };
        }
        super::wire::end(input)?;
        Ok(facts)
    }

    /// The properties these facts were seen in, to be read one by one. Other octets give wrong values, and no panic.
    pub const fn view(self, properties: &[u8]) -> PropertiesView<'_> {
        PropertiesView {
            facts: self,
            properties,
        }
    }

    /// Whether the delivery mode is 2.
    pub const fn is_persistent(self) -> bool {
        self.delivery_mode == DELIVERY_MODE_PERSISTENT
    }

    /// The delivery mode, if given.
    pub const fn delivery_mode(self) -> Option<u8> {
        if self.has(flag::DELIVERY_MODE) {
            Some(self.delivery_mode)
        } else {
            None
        }
    }

    /// The priority, if given.
    pub const fn priority(self) -> Option<u8> {
        if self.has(flag::PRIORITY) {
            Some(self.priority)
        } else {
            None
        }
    }

    /// Whether there are headers, be they empty.
    pub const fn has_headers(self) -> bool {
        self.has(flag::HEADERS)
    }

    /// Whether the headers have a field `CC`.
    pub const fn has_cc(self) -> bool {
        self.has_cc
    }

    /// Whether the headers have a field `BCC`.
    pub const fn has_bcc(self) -> bool {
        self.has_bcc
    }

    /// Whether there is an expiration.
    pub const fn has_expiration(self) -> bool {
        self.has(flag::EXPIRATION)
    }

    /// Whether there is a reply-to.
    pub const fn has_reply_to(self) -> bool {
        self.has(flag::REPLY_TO)
    }

    /// Whether there is a user-id.
    pub const fn has_user_id(self) -> bool {
        self.has(flag::USER_ID)
    }

    /// Whether there is a property of that flag, one of [`basic_flags`](super::basic_flags).
    pub const fn has(self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

const AFTER_PRIORITY: [u16; 9] = [
    flag::CORRELATION_ID,
    flag::REPLY_TO,
    flag::EXPIRATION,
    flag::MESSAGE_ID,
    flag::TIMESTAMP,
    flag::TYPE,
    flag::USER_ID,
    flag::APP_ID,
    flag::CLUSTER_ID,
];

/// Reads the flags words; gives the values, the first word, and the octets of all words.
fn flag_words(properties: &[u8]) -> Result<(&[u8], u16, u8), Fault> {
    let (mut input, flags) = short(properties)?;
    let mut last = flags;
    let mut words = 1;
    while last & FLAG_CONTINUATION != 0 {
        (input, last) = short(input)?;
        words += 1;
        if last & !FLAG_CONTINUATION != 0 || words > FLAG_WORDS_MAX {
            return Err(Fault::Layout);
        }
    }
    Ok((input, flags & !(FLAG_CONTINUATION | FLAG_UNUSED), words * 2))
}

/// Encoded properties with the facts seen in them: finds single values without decoding the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PropertiesView<'a> {
    facts: PropertyFacts,
    properties: &'a [u8],
}

impl<'a> PropertiesView<'a> {
    /// What the walk saw.
    pub const fn facts(&self) -> PropertyFacts {
        self.facts
    }

    /// Flags and values, as encoded.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.properties
    }

    /// MIME type of the body.
    pub fn content_type(&self) -> Option<ShortStr<'a>> {
        self.short_string(flag::CONTENT_TYPE)
    }

    /// MIME encoding of the body.
    pub fn content_encoding(&self) -> Option<ShortStr<'a>> {
        self.short_string(flag::CONTENT_ENCODING)
    }

    /// The application's header fields.
    pub fn headers(&self) -> Option<Table<'a>> {
        let (_, fields) = longstr(self.seek(flag::HEADERS)?).ok()?;
        Some(Table::from_walked(fields))
    }

    /// The delivery mode.
    pub const fn delivery_mode(&self) -> Option<u8> {
        self.facts.delivery_mode()
    }

    /// The priority.
    pub const fn priority(&self) -> Option<u8> {
        self.facts.priority()
    }

    /// The application's correlation identifier.
    pub fn correlation_id(&self) -> Option<ShortStr<'a>> {
        self.short_string(flag::CORRELATION_ID)
    }

    /// Queue that awaits the answer.
    pub fn reply_to(&self) -> Option<ShortStr<'a>> {
        self.short_string(flag::REPLY_TO)
    }

    /// Time to live, as the text that came.
    pub fn expiration(&self) -> Option<ShortStr<'a>> {
        self.short_string(flag::EXPIRATION)
    }

    /// The application's message identifier.
    pub fn message_id(&self) -> Option<ShortStr<'a>> {
        self.short_string(flag::MESSAGE_ID)
    }

    /// The application's time, in seconds since 1970.
    pub fn timestamp(&self) -> Option<u64> {
        Some(longlong(self.seek(flag::TIMESTAMP)?).ok()?.1)
    }

    /// The application's name for the kind of message.
    pub fn type_(&self) -> Option<ShortStr<'a>> {
        self.short_string(flag::TYPE)
    }

    /// The user who published.
    pub fn user_id(&self) -> Option<ShortStr<'a>> {
        self.short_string(flag::USER_ID)
    }

    /// The application that published.
    pub fn app_id(&self) -> Option<ShortStr<'a>> {
        self.short_string(flag::APP_ID)
    }

    /// The reserved cluster identifier.
    pub fn cluster_id(&self) -> Option<ShortStr<'a>> {
        self.short_string(flag::CLUSTER_ID)
    }

    /// An owned copy of all of them.
    pub fn decode(&self) -> Properties {
        Properties::from_view(self)
    }

    fn short_string(&self, property: u16) -> Option<ShortStr<'a>> {
        Some(shortstr(self.seek(property)?).ok()?.1)
    }

    /// The octets from that property's value on. Flags stand in the order of the values, the first in bit 15, so what
    /// lies before is what the higher bits announce.
    fn seek(&self, property: u16) -> Option<&'a [u8]> {
        if !self.facts.has(property) {
            return None;
        }
        let mut input = self.properties.get(usize::from(self.facts.flags_bytes)..)?;
        let mut before = flag::CONTENT_TYPE;
        while before != property {
            if self.facts.has(before) {
                input = match before {
                    flag::HEADERS => longstr(input).ok()?.0,
                    flag::DELIVERY_MODE | flag::PRIORITY => octet(input).ok()?.0,
                    flag::TIMESTAMP => longlong(input).ok()?.0,
                    _ => shortstr(input).ok()?.0,
                };
            }
            before >>= 1;
        }
        Some(input)
    }
}
