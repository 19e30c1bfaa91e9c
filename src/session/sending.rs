//! Messages to the client: basic.deliver, basic.get-ok and basic.return, each with its content.
//!
//! Properties and body go out as the encoded bytes that came in; only a redelivery with counters, and a return with BCC,
//! decode them. Who gets what, and which tag it has, is not known here.

use crate::model::{Delivery, DeliveryTag, Got, Message, RedeliveryCounts};
use crate::protocol::{
    FRAME_END, FrameKind, Method, PropertyFacts, ReplyCode, ShortStr, basic, frame,
};

/// Appends a basic.deliver with its content.
///
/// This is the hot path out: the method is written by hand, in one pass, and nothing is allocated.
pub(super) fn write_deliver(
    out: &mut Vec<u8>,
    frame_max: u32,
    tag: DeliveryTag,
    delivery: &Delivery,
) {
    let (channel, message) = (delivery.channel, &*delivery.message);
    let consumer_tag = ShortStr::truncated(&delivery.consumer_tag).as_bytes();
    let exchange = ShortStr::truncated(message.exchange()).as_bytes();
    let routing_key = message.routing_key();
    let method_bytes = 16 + consumer_tag.len() + exchange.len() + routing_key.len();
    out.reserve(method_bytes + message.properties().len() + message.body_bytes() + 40);
    frame::write_head(out, FrameKind::Method, channel, method_bytes as u32);
    let [class_high, class_low] = basic::CLASS_ID.to_be_bytes();
    let [method_high, method_low] = basic::Deliver::METHOD_ID.to_be_bytes();
    out.extend_from_slice(&[
        class_high,
        class_low,
        method_high,
        method_low,
        consumer_tag.len() as u8,
    ]);
    out.extend_from_slice(consumer_tag);
    out.extend_from_slice(&tag.0.to_be_bytes());
    out.extend_from_slice(&[u8::from(delivery.redelivered), exchange.len() as u8]);
    out.extend_from_slice(exchange);
    out.push(routing_key.len() as u8);
    out.extend_from_slice(routing_key);
    out.push(FRAME_END);
    write_message(out, channel, frame_max, delivery.counts, message);
}

/// Appends a basic.get-ok with its content.
pub(super) fn write_get_ok(
    out: &mut Vec<u8>,
    channel: u16,
    frame_max: u32,
    tag: DeliveryTag,
    got: &Got,
) {
    let method = Method::BasicGetOk(basic::GetOk {
        delivery_tag: tag.0,
        redelivered: got.redelivered,
        exchange: ShortStr::truncated(got.message.exchange()),
        routing_key: ShortStr::from_bytes(got.message.routing_key()).unwrap_or_default(),
        message_count: got.messages_ready,
    });
    frame::write_method(out, channel, &method);
    write_message(out, channel, frame_max, got.counts, &got.message);
}

/// What a basic.return gives back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Returned<'a> {
    pub(super) exchange: &'a [u8],
    pub(super) routing_key: &'a [u8],
    pub(super) properties: &'a [u8],
    pub(super) facts: PropertyFacts,
    pub(super) body: &'a [u8],
}

impl<'a> From<&'a Message> for Returned<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            exchange: message.exchange().as_bytes(),
            routing_key: message.routing_key(),
            properties: message.properties(),
            facts: *message.facts(),
            body: message.body(),
        }
    }
}

/// Appends a basic.return 312 with its content; the header BCC does not come back (`mc_amqpl.erl`).
pub(super) fn write_return(
    out: &mut Vec<u8>,
    channel: u16,
    frame_max: u32,
    returned: Returned<'_>,
) {
    let method = Method::BasicReturn(basic::Return {
        reply_code: ReplyCode::NoRoute.code(),
        reply_text: ShortStr::truncated(ReplyCode::NoRoute.name()),
        exchange: ShortStr::from_bytes(returned.exchange).unwrap_or_default(),
        routing_key: ShortStr::from_bytes(returned.routing_key).unwrap_or_default(),
    });
    frame::write_method(out, channel, &method);
    if returned.facts.has_bcc() {
        let mut properties = returned.facts.view(returned.properties).decode();
        if let Some(headers) = &mut properties.headers {
            headers.remove("BCC");
        }
        let properties = properties.to_encoded();
        frame::write_content(out, channel, &properties, returned.body, frame_max);
    } else {
        frame::write_content(out, channel, returned.properties, returned.body, frame_max);
    }
}

fn write_message(
    out: &mut Vec<u8>,
    channel: u16,
    frame_max: u32,
    counts: Option<RedeliveryCounts>,
    message: &Message,
) {
    match counts {
        None => frame::write_content(
            out,
            channel,
            message.properties(),
            message.body(),
            frame_max,
        ),
        Some(counts) => {
            let mut properties = message.facts().view(message.properties()).decode();
            counts.mark(properties.headers.get_or_insert_default());
            let properties = properties.to_encoded();
            frame::write_content(out, channel, &properties, message.body(), frame_max);
        }
    }
}
