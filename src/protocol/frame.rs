//! Frames (specification 4.2.3): type, channel, length, payload, end octet.
//!
//! A buffer goes in, the first whole frame comes out, borrowed; and writers append frames to a buffer. What a frame's
//! payload says, and whether it may come now, is not known here.

use std::fmt;

use nom::{
    IResult, Parser,
    number::streaming::{be_u8, be_u16, be_u32},
};
use thiserror::Error;

use super::generated::{
    FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD, Method, basic,
};

/// Octets in front of a payload: type, channel and length.
pub const FRAME_HEAD_BYTES: usize = 7;

/// Octets of a frame beside its payload, so that a payload holds at most `frame_max` minus this.
pub const FRAME_OVERHEAD_BYTES: u32 = 8;

/// Octets by which a payload may exceed its limit, because clients get it wrong by 1 or 8 (`rabbit_reader.erl`,
/// FRAME_SIZE_FUDGE).
pub const FRAME_GRACE_BYTES: u32 = FRAME_OVERHEAD_BYTES;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A method.
    Method = FRAME_METHOD,
    /// A content header.
    Header = FRAME_HEADER,
    /// A piece of a body.
    Body = FRAME_BODY,
    /// A sign of life.
    Heartbeat = FRAME_HEARTBEAT,
}

impl FrameKind {
    const fn from_type(type_: u8) -> Option<Self> {
        match type_ {
            FRAME_METHOD => Some(Self::Method),
            FRAME_HEADER => Some(Self::Header),
            FRAME_BODY => Some(Self::Body),
            FRAME_HEARTBEAT => Some(Self::Heartbeat),
            _ => None,
        }
    }
}

/// A whole frame, borrowed from the buffer it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it carries.
    pub kind: FrameKind,
    /// The channel; 0 is the connection itself.
    pub channel: u16,
    /// What lies between the head and the end octet.
    pub payload: &'a [u8],
}

/// Why a buffer does not begin with a frame. All are 501 FRAME_ERROR, and the text is RabbitMQ's
/// (`rabbit_reader.erl`, `frame_error`). There is no finding the next frame after one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The type has no meaning, or the payload cannot be of its type: see [`FrameError::unknown`].
    #[error("type {type_}, {head}: unknown_frame")]
    UnknownType {
        /// Type octet.
        type_: u8,
        /// Channel of the frame.
        channel: u16,
        /// How the payload begins.
        head: PayloadHead,
    },
    /// The head announces more than is allowed.
    #[error("type {type_}, all octets = <<>>: {{frame_too_large,{payload_bytes},{max}}}")]
    TooLarge {
        /// Type octet.
        type_: u8,
        /// Channel of the frame.
        channel: u16,
        /// Octets announced.
        payload_bytes: u32,
        /// Octets allowed, without the grace.
        max: u32,
    },
    /// The octet behind the payload is not the end octet.
    #[error("type {type_}, {head}: {{invalid_frame_end_marker,{end}}}")]
    BadEnd {
        /// Type octet.
        type_: u8,
        /// Channel of the frame.
        channel: u16,
        /// How the payload begins.
        head: PayloadHead,
        /// The octet in the place of the end octet.
        end: u8,
    },
}

impl FrameError {
    /// The error for a frame whose payload is too short for its type, such as a method frame of two octets: RabbitMQ
    /// calls those unknown frames too (`rabbit_command_assembler:analyze_frame`).
    pub fn unknown(frame: &Frame<'_>) -> Self {
        Self::UnknownType {
            type_: frame.kind as u8,
            channel: frame.channel,
            head: PayloadHead::of(frame.payload),
        }
    }

    /// The channel of the frame at fault.
    pub const fn channel(&self) -> u16 {
        match self {
            Self::UnknownType { channel, .. }
            | Self::TooLarge { channel, .. }
            | Self::BadEnd { channel, .. } => *channel,
        }
    }
}

/// Most octets of a payload that an error's text shows.
const PAYLOAD_HEAD_BYTES_MAX: usize = 16;

/// The first octets of a payload, for an error's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadHead {
    octets: [u8; PAYLOAD_HEAD_BYTES_MAX],
    len: u8,
    is_all: bool,
}

impl PayloadHead {
    /// The head of that payload.
    pub fn of(payload: &[u8]) -> Self {
        let len = payload.len().min(PAYLOAD_HEAD_BYTES_MAX);
        let mut octets = [0; PAYLOAD_HEAD_BYTES_MAX];
        octets[..len].copy_from_slice(&payload[..len]);
        Self {
            octets,
            len: len as u8,
            is_all: len == payload.len(),
        }
    }

    fn octets(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }
}

/// As `all octets = <<1,2>>`, or `first 16 octets = <<"text">>` where all are printable, which is Erlang's `~tp`.
impl fmt::Display for PayloadHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_all { "all" } else { "first 16" })?;
        f.write_str(" octets = ")?;
        write_erlang_binary(f, self.octets())
    }
}

/// Writes octets as Erlang prints a binary.
pub(super) fn write_erlang_binary(f: &mut fmt::Formatter<'_>, octets: &[u8]) -> fmt::Result {
    f.write_str("<<")?;
    let is_text = octets
        .iter()
        .all(|o| matches!(o, b' '..=b'~' | 8..=13 | 27));
    if is_text
        && let Ok(text) = std::str::from_utf8(octets)
        && !text.is_empty()
    {
        write!(f, "\"")?;
        for letter in text.chars() {
            match letter {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\x08' => f.write_str("\\b")?,
                '\t' => f.write_str("\\t")?,
                '\n' => f.write_str("\\n")?,
                '\x0b' => f.write_str("\\v")?,
                '\x0c' => f.write_str("\\f")?,
                '\r' => f.write_str("\\r")?,
                '\x1b' => f.write_str("\\e")?,
                _ => write!(f, "{letter}")?,
            }
        }
        write!(f, "\"")?;
    } else {
        for (index, octet) in octets.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{octet}")?;
        }
    }
    f.write_str(">>")
}

/// How many octets the frame that `input` begins with still lacks; 0 when its head is not whole, or nothing is missing.
///
/// It is what the peer announces, which no limit bounds here.
pub fn bytes_missing(input: &[u8]) -> usize {
    match head(input) {
        Ok((rest, (_, _, payload_bytes))) => {
            (payload_bytes as usize + 1).saturating_sub(rest.len())
        }
        Err(_) => 0,
    }
}

/// The first frame of the buffer and the number of octets it takes, or `None` if more octets are needed.
///
/// `payload_bytes_max` is the negotiated `frame_max` minus [`FRAME_OVERHEAD_BYTES`]; [`FRAME_GRACE_BYTES`] more are
/// let through. Too large a frame is known by its head alone, so the buffer need not grow beyond one frame.
///
/// # Errors
/// The buffer does not begin with a frame.
pub fn parse(
    input: &[u8],
    payload_bytes_max: u32,
) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Ok((rest, (type_, channel, payload_bytes))) = head(input) else {
        return Ok(None);
    };
    if payload_bytes > payload_bytes_max.saturating_add(FRAME_GRACE_BYTES) {
        return Err(FrameError::TooLarge {
            type_,
            channel,
            payload_bytes,
            max: payload_bytes_max,
        });
    }
    let Some((payload, [end, ..])) = rest.split_at_checked(payload_bytes as usize) else {
        return Ok(None);
    };
    if *end != FRAME_END {
        return Err(FrameError::BadEnd {
            type_,
            channel,
            head: PayloadHead::of(payload),
            end: *end,
        });
    }
    match FrameKind::from_type(type_) {
        Some(kind) if kind != FrameKind::Heartbeat || payload.is_empty() => {
            let frame = Frame {
                kind,
                channel,
                payload,
            };
            Ok(Some((frame, FRAME_HEAD_BYTES + payload.len() + 1)))
        }
        _ => Err(FrameError::UnknownType {
            type_,
            channel,
            head: PayloadHead::of(payload),
        }),
    }
}

fn head(input: &[u8]) -> IResult<&[u8], (u8, u16, u32), ()> {
    (be_u8, be_u16, be_u32).parse(input)
}

/// Appends a method frame.
pub fn write_method(out: &mut Vec<u8>, channel: u16, method: &Method<'_>) {
    let length_at = out.len() + 3;
    write_head(out, FrameKind::Method, channel, 0);
    method.encode(out);
    let payload_bytes = (out.len() - length_at - 4) as u32;
    if let Some(length) = out.get_mut(length_at..length_at + 4) {
        length.copy_from_slice(&payload_bytes.to_be_bytes());
    }
    out.push(FRAME_END);
}

/// Appends the content header frame of a message: `properties` are the flags and values as encoded. It must fit into one
/// frame (specification 4.2.6.1), so the peer's `frame_max` is not asked.
pub fn write_content_header(out: &mut Vec<u8>, channel: u16, body_bytes: u64, properties: &[u8]) {
    let payload_bytes = 12 + properties.len();
    write_head(out, FrameKind::Header, channel, payload_bytes as u32);
    out.extend_from_slice(&basic::CLASS_ID.to_be_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&body_bytes.to_be_bytes());
    out.extend_from_slice(properties);
    out.push(FRAME_END);
}

/// Appends a body in as many frames as `frame_max` asks for; an empty body takes none, and 0 is no limit.
pub fn write_body(out: &mut Vec<u8>, channel: u16, body: &[u8], frame_max: u32) {
    for piece in body.chunks(body_frame_bytes(frame_max)) {
        write_head(out, FrameKind::Body, channel, piece.len() as u32);
        out.extend_from_slice(piece);
        out.push(FRAME_END);
    }
}

/// Appends the content header frame and the body frames of a message.
pub fn write_content(
    out: &mut Vec<u8>,
    channel: u16,
    properties: &[u8],
    body: &[u8],
    frame_max: u32,
) {
    write_content_header(out, channel, body.len() as u64, properties);
    write_body(out, channel, body, frame_max);
}

/// Appends a heartbeat frame, which belongs to channel 0.
pub fn write_heartbeat(out: &mut Vec<u8>) {
    write_head(out, FrameKind::Heartbeat, 0, 0);
    out.push(FRAME_END);
}

/// Most octets of body in one frame; 0 is no limit but that of the length itself.
pub const fn body_frame_bytes(frame_max: u32) -> usize {
    match frame_max {
        0..=FRAME_OVERHEAD_BYTES if frame_max != 0 => 1,
        0 => u32::MAX as usize,
        _ => (frame_max - FRAME_OVERHEAD_BYTES) as usize,
    }
}

/// Appends the head of a frame whose payload and [`FRAME_END`] the caller appends, such as a body sent from where it
/// lies.
pub fn write_head(out: &mut Vec<u8>, kind: FrameKind, channel: u16, payload_bytes: u32) {
    let [channel_high, channel_low] = channel.to_be_bytes();
    let [a, b, c, d] = payload_bytes.to_be_bytes();
    out.extend_from_slice(&[kind as u8, channel_high, channel_low, a, b, c, d]);
}
