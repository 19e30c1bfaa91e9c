//! Contents: a basic.publish, its header and its body, gathered from frames (specification 4.2.6).
//!
//! Frames of one channel come in, a [`Whole`] publish goes out, borrowed from the frames where it can be: a body that came
//! in one frame is never copied here. Where the message goes is not known. The rules and texts are those of
//! `rabbit_command_assembler.erl`.

use bytes::BytesMut;

use super::settings::{MESSAGE_BYTES_TOP, SessionSettings};
use crate::model::{Body, Refusal};
use crate::protocol::{
    ContentHeader, ContentHeaderError, Frame, FrameError, FrameKind, PropertyFacts, ReplyCode,
    ShortString, basic, frame,
};

/// Capacity of a body when its first frame comes; beyond that it grows with what really arrived.
const BODY_CAPACITY_BYTES_FIRST: u64 = 256 * 1024;

/// A publish with all its parts.
#[derive(Debug)]
pub(super) struct Whole<'a> {
    pub(super) exchange: &'a [u8],
    pub(super) routing_key: &'a [u8],
    pub(super) mandatory: bool,
    pub(super) properties: &'a [u8],
    pub(super) facts: PropertyFacts,
    pub(super) body: Body<'a>,
}

/// A publish that still lacks frames.
#[derive(Debug)]
pub(super) struct Partial {
    exchange: ShortString,
    routing_key: ShortString,
    mandatory: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    AwaitHeader,
    AwaitBody {
        properties: Box<[u8]>,
        facts: PropertyFacts,
        body_bytes: u64,
        body: BytesMut,
    },
}

impl Partial {
    /// A publish whose header is yet to come.
    pub(super) fn new(publish: &basic::Publish<'_>) -> Self {
        Self {
            exchange: publish.exchange.into(),
            routing_key: publish.routing_key.into(),
            mandatory: publish.mandatory,
            stage: Stage::AwaitHeader,
        }
    }

    /// Takes the next frame of the channel; gives the publish if this was its last.
    ///
    /// # Errors
    /// The frame may not come here, or announces or brings too much.
    pub(super) fn handle_frame<'a>(
        &'a mut self,
        frame: &Frame<'a>,
        settings: &SessionSettings,
    ) -> Result<Option<Whole<'a>>, Refusal> {
        if matches!(self.stage, Stage::AwaitHeader) {
            self.handle_header(frame, settings)
        } else {
            self.handle_body(frame)
        }
    }

    fn handle_header<'a>(
        &'a mut self,
        frame: &Frame<'a>,
        settings: &SessionSettings,
    ) -> Result<Option<Whole<'a>>, Refusal> {
        if frame.kind != FrameKind::Header {
            return Err(unexpected(
                "expected content header for class 60, got non content header frame instead",
            ));
        }
        let header = check_header(frame, settings)?;
        if header.body_bytes == 0 {
            return Ok(Some(Whole {
                exchange: self.exchange.as_bytes(),
                routing_key: self.routing_key.as_bytes(),
                mandatory: self.mandatory,
                properties: header.properties,
                facts: header.facts,
                body: Body::Borrowed(&[]),
            }));
        }
        self.stage = Stage::AwaitBody {
            properties: header.properties.into(),
            facts: header.facts,
            body_bytes: header.body_bytes,
            body: BytesMut::new(),
        };
        Ok(None)
    }

    fn handle_body<'a>(&'a mut self, frame: &Frame<'a>) -> Result<Option<Whole<'a>>, Refusal> {
        let Stage::AwaitBody {
            properties,
            facts,
            body_bytes,
            body,
        } = &mut self.stage
        else {
            return Ok(None);
        };
        if frame.kind != FrameKind::Body {
            return Err(unexpected(
                "expected content body, got non content body frame instead",
            ));
        }
        let missing = *body_bytes - body.len() as u64;
        let came = frame.payload.len() as u64;
        if came > missing {
            return Err(Refusal::new(
                ReplyCode::FrameError,
                "content body frame exceeds remaining content size",
            ));
        }
        let whole = if body.is_empty() && came == missing {
            Body::Borrowed(frame.payload)
        } else {
            if body.is_empty() {
                body.reserve((*body_bytes).min(BODY_CAPACITY_BYTES_FIRST) as usize);
            }
            body.extend_from_slice(frame.payload);
            if came < missing {
                return Ok(None);
            }
            Body::Assembled(std::mem::take(body).freeze())
        };
        Ok(Some(Whole {
            exchange: self.exchange.as_bytes(),
            routing_key: self.routing_key.as_bytes(),
            mandatory: self.mandatory,
            properties,
            facts: *facts,
            body: whole,
        }))
    }
}

/// Looks whether header and body of a publish follow at once in `rest`, the body in one frame, which is how nearly all
/// publishes come. Gives the header, the body and the octets of their frames.
///
/// `None` says nothing about right or wrong: the frames are then taken one by one.
pub(super) fn peek_whole<'a>(
    rest: &'a [u8],
    channel: u16,
    payload_bytes_max: u32,
    settings: &SessionSettings,
) -> Option<(ContentHeader<'a>, &'a [u8], usize)> {
    let (header_frame, header_bytes) = frame::parse(rest, payload_bytes_max).ok()??;
    if header_frame.kind != FrameKind::Header || header_frame.channel != channel {
        return None;
    }
    let header = check_header(&header_frame, settings).ok()?;
    if header.body_bytes == 0 {
        return Some((header, &[], header_bytes));
    }
    let (body_frame, body_bytes) =
        frame::parse(&rest[header_bytes..], payload_bytes_max).ok()??;
    let is_whole = body_frame.kind == FrameKind::Body
        && body_frame.channel == channel
        && body_frame.payload.len() as u64 == header.body_bytes;
    is_whole.then_some((header, body_frame.payload, header_bytes + body_bytes))
}

fn check_header<'a>(
    frame: &Frame<'a>,
    settings: &SessionSettings,
) -> Result<ContentHeader<'a>, Refusal> {
    let header = ContentHeader::parse(frame.payload).map_err(|error| match error {
        ContentHeaderError::TooShort => Refusal::new(
            ReplyCode::FrameError,
            FrameError::unknown(frame).to_string(),
        ),
        // RabbitMQ's channel crashes here, which its client sees as a bare 541; the specification's code for an illegal
        // value is 502.
        ContentHeaderError::Properties(_) => {
            Refusal::new(ReplyCode::SyntaxError, error.to_string())
        }
    })?;
    if header.weight != 0 {
        return Err(unexpected(
            "expected content header for class 60, got non content header frame instead",
        ));
    }
    if header.class_id != basic::CLASS_ID {
        return Err(unexpected(format!(
            "expected content header for class 60, got one for class {} instead",
            header.class_id
        )));
    }
    let (size, max) = (header.body_bytes, settings.message_bytes_max);
    if size > MESSAGE_BYTES_TOP {
        return Err(Refusal::new(
            ReplyCode::FrameError,
            format!("content body size {size} exceeds maximum allowed size {MESSAGE_BYTES_TOP}"),
        ));
    }
    if size > max {
        let configured = if max == MESSAGE_BYTES_TOP {
            ""
        } else {
            "configured "
        };
        return Err(Refusal::precondition_failed(format!(
            "message size {size} is larger than {configured}max size {max}"
        )));
    }
    Ok(header)
}

pub(super) fn unexpected(text: impl Into<String>) -> Refusal {
    Refusal::new(ReplyCode::UnexpectedFrame, text)
}
