//! Short strings: at most 255 octets behind an octet of length (specification 4.2.5.3).
//!
//! Names, keys and texts go in and come out as octets. Whether they must be UTF-8 is not decided here.

use std::{borrow::Cow, fmt, str::Utf8Error};

use bytes::Bytes;
use thiserror::Error;

/// Most octets in a short string: its length is one octet.
pub const SHORT_STRING_BYTES_MAX: usize = u8::MAX as usize;

/// The text does not fit into a short string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a short string holds at most 255 octets")]
pub struct ShortStringTooLong;

/// A short string, borrowed from a frame or from the program.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShortStr<'a>(&'a [u8]);

impl<'a> ShortStr<'a> {
    /// The text, if it fits.
    ///
    /// # Errors
    /// The text has more than 255 octets.
    pub const fn new(text: &'a str) -> Result<Self, ShortStringTooLong> {
        Self::from_bytes(text.as_bytes())
    }

    /// The octets, if they fit.
    ///
    /// # Errors
    /// There are more than 255.
    pub const fn from_bytes(bytes: &'a [u8]) -> Result<Self, ShortStringTooLong> {
        if bytes.len() > SHORT_STRING_BYTES_MAX {
            return Err(ShortStringTooLong);
        }
        Ok(Self(bytes))
    }

    /// The text, cut at a character's end so that it fits.
    pub fn truncated(text: &'a str) -> Self {
        Self(cut(text).as_bytes())
    }

    /// A slice that the length octet of the wire, or another short string, has proved short.
    pub(super) fn from_short_slice(bytes: &'a [u8]) -> Self {
        debug_assert!(bytes.len() <= SHORT_STRING_BYTES_MAX);
        Self(bytes)
    }

    /// The octets.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The text.
    ///
    /// # Errors
    /// The octets are not UTF-8.
    pub const fn to_str(self) -> Result<&'a str, Utf8Error> {
        std::str::from_utf8(self.0)
    }

    /// The text, with the replacement character where the octets are not UTF-8.
    pub fn to_str_lossy(self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.0)
    }

    /// Whether there are no octets.
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Number of octets.
    pub const fn len(self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for ShortStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_str_lossy())
    }
}

impl fmt::Debug for ShortStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_str_lossy(), f)
    }
}

impl PartialEq<str> for ShortStr<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for ShortStr<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

/// A short string that owns its octets; a clone shares them.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShortString(Bytes);

impl ShortString {
    /// The octets, if they fit.
    ///
    /// # Errors
    /// There are more than 255.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, ShortStringTooLong> {
        let bytes = bytes.into();
        if bytes.len() > SHORT_STRING_BYTES_MAX {
            return Err(ShortStringTooLong);
        }
        Ok(Self(bytes))
    }

    /// A text of the program, cut at a character's end if it must be; nothing is allocated.
    pub fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(cut(text).as_bytes()))
    }

    /// The borrowed form.
    pub fn as_short_str(&self) -> ShortStr<'_> {
        ShortStr(&self.0)
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, if the octets are UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The text, with the replacement character where the octets are not UTF-8.
    pub fn as_str_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

/// Copies the text, cut at a character's end if it is too long.
impl From<&str> for ShortString {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(cut(text).as_bytes()))
    }
}

/// Takes the text, cut at a character's end if it is too long.
impl From<String> for ShortString {
    fn from(mut text: String) -> Self {
        text.truncate(cut(&text).len());
        Self(text.into())
    }
}

impl From<ShortStr<'_>> for ShortString {
    fn from(text: ShortStr<'_>) -> Self {
        Self(Bytes::copy_from_slice(text.0))
    }
}

impl fmt::Display for ShortString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_short_str(), f)
    }
}

impl fmt::Debug for ShortString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.as_short_str(), f)
    }
}

impl PartialEq<str> for ShortString {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for ShortString {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(SHORT_STRING_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_255_octets() {
        let longest = "x".repeat(255);
        assert_eq!(ShortStr::new(&longest).unwrap().len(), 255);
        let too_long = "x".repeat(256);
        assert_eq!(ShortStr::new(&too_long), Err(ShortStringTooLong));
        assert_eq!(ShortString::new(too_long), Err(ShortStringTooLong));
    }

    #[test]
    fn truncation_keeps_whole_characters() {
        let text = format!("{}é", "x".repeat(254));
        assert_eq!(ShortStr::truncated(&text).len(), 254);
        assert_eq!(ShortString::from(text.as_str()).as_bytes().len(), 254);
        assert_eq!(ShortString::from(text).as_bytes().len(), 254);
        assert_eq!(ShortStr::truncated("short"), "short");
    }

    #[test]
    fn octets_that_are_not_text_survive_and_print() {
        let text = ShortString::new(&b"a\xff"[..]).unwrap();
        assert_eq!(text.as_bytes(), b"a\xff");
        assert_eq!(text.to_string(), "a\u{fffd}");
        assert_eq!(format!("{text:?}"), "\"a\u{fffd}\"");
        assert_eq!(text.as_str(), None);
    }
}
