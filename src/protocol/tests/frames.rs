//! Frames: fed whole, octet by octet and interleaved; sizes at their limits; the texts of RabbitMQ's 501.

use proptest::{collection::vec, prelude::*};

use crate::protocol::{
    Frame, FrameError, FrameKind, Method, basic, channel,
    frame::{self, FRAME_GRACE_BYTES, FRAME_HEAD_BYTES, FRAME_OVERHEAD_BYTES},
};

const PAYLOAD_BYTES_MAX: u32 = 8192 - FRAME_OVERHEAD_BYTES;

type Owned = (FrameKind, u16, Vec<u8>);

fn owned(frame: &Frame<'_>) -> Owned {
    (frame.kind, frame.channel, frame.payload.to_vec())
}

/// All frames of a buffer, and how many octets are left.
fn frames(mut input: &[u8]) -> (Vec<Owned>, usize) {
    let mut found = Vec::new();
    while let Some((frame, consumed)) = frame::parse(input, PAYLOAD_BYTES_MAX).unwrap() {
        found.push(owned(&frame));
        input = &input[consumed..];
    }
    (found, input.len())
}

fn raw(type_: u8, channel: u16, payload: &[u8], end: u8) -> Vec<u8> {
    let mut out = vec![type_];
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
    out.push(end);
    out
}

fn any_frames() -> impl Strategy<Value = Vec<(u8, u16, Vec<u8>)>> {
    let with_payload = (1_u8..=3, any::<u16>(), vec(any::<u8>(), 0..60));
    let heartbeat = any::<u16>().prop_map(|channel| (8, channel, Vec::new()));
    vec(prop_oneof![4 => with_payload, 1 => heartbeat], 0..12)
}

proptest! {
    #[test]
    fn octet_by_octet_gives_the_same_frames(sent in any_frames()) {
        let stream: Vec<u8> =
            sent.iter().flat_map(|(t, channel, payload)| raw(*t, *channel, payload, 206)).collect();
        let (at_once, left) = frames(&stream);
        prop_assert_eq!(left, 0);
        prop_assert_eq!(at_once.len(), sent.len());
        let (mut buffer, mut one_by_one) = (Vec::new(), Vec::new());
        for octet in stream {
            buffer.push(octet);
            if let Some((frame, consumed)) = frame::parse(&buffer, PAYLOAD_BYTES_MAX).unwrap() {
                prop_assert_eq!(consumed, buffer.len());
                one_by_one.push(owned(&frame));
                buffer.clear();
            }
        }
        prop_assert_eq!(one_by_one, at_once);
    }

    #[test]
    fn any_octets_are_judged_without_panic(octets in vec(any::<u8>(), 0..64), max: u32) {
        if let Ok(Some((frame, consumed))) = frame::parse(&octets, max) {
            prop_assert_eq!(frame.payload.len() + FRAME_HEAD_BYTES + 1, consumed);
            prop_assert!(consumed <= octets.len());
        }
    }

    #[test]
    fn bodies_are_split_by_frame_max_and_come_back(body in vec(any::<u8>(), 0..3000), frame_max in 9_u32..600) {
        let mut out = Vec::new();
        frame::write_content(&mut out, 3, b"\0\0", &body, frame_max);
        let (found, left) = frames(&out);
        prop_assert_eq!(left, 0);
        prop_assert_eq!(found[0].0, FrameKind::Header);
        let pieces: Vec<&Vec<u8>> = found[1..].iter().map(|(_, _, payload)| payload).collect();
        prop_assert!(pieces.iter().all(|piece| piece.len() as u32 + FRAME_OVERHEAD_BYTES <= frame_max));
        let least = body.len().div_ceil((frame_max - FRAME_OVERHEAD_BYTES) as usize);
        prop_assert_eq!(pieces.len(), least);
        let joined: Vec<u8> = pieces.into_iter().flatten().copied().collect();
        prop_assert_eq!(joined, body);
    }
}

#[test]
fn an_empty_body_takes_no_frame_and_no_limit_takes_one() {
    let mut out = Vec::new();
    frame::write_body(&mut out, 1, b"", 8192);
    assert!(out.is_empty());
    frame::write_body(&mut out, 1, &[7; 10_000], 0);
    assert_eq!(out.len(), 10_000 + FRAME_OVERHEAD_BYTES as usize);
}

#[test]
fn channels_interleave() {
    let mut out = Vec::new();
    let publish = Method::from(basic::Publish::default());
    frame::write_method(&mut out, 1, &publish);
    frame::write_method(&mut out, 2, &publish);
    frame::write_content_header(&mut out, 2, 2, b"\0\0");
    frame::write_heartbeat(&mut out);
    frame::write_content_header(&mut out, 1, 1, b"\0\0");
    frame::write_body(&mut out, 2, b"ab", 8192);
    frame::write_method(&mut out, 3, &channel::Open.into());
    frame::write_body(&mut out, 1, b"c", 8192);
    let (found, left) = frames(&out);
    assert_eq!(left, 0);
    let order: Vec<(FrameKind, u16)> = found.iter().map(|f| (f.0, f.1)).collect();
    use FrameKind::{Body, Header, Heartbeat, Method as M};
    assert_eq!(
        order,
        [
            (M, 1),
            (M, 2),
            (Header, 2),
            (Heartbeat, 0),
            (Header, 1),
            (Body, 2),
            (M, 3),
            (Body, 1)
        ]
    );
}

#[test]
fn too_large_is_known_by_the_head_alone() {
    let limit = PAYLOAD_BYTES_MAX + FRAME_GRACE_BYTES;
    let at_the_limit = raw(3, 1, &vec![0; limit as usize], 206);
    assert!(matches!(
        frame::parse(&at_the_limit, PAYLOAD_BYTES_MAX),
        Ok(Some(_))
    ));
    let mut head = vec![3, 0, 1];
    head.extend_from_slice(&(limit + 1).to_be_bytes());
    assert_eq!(frame::parse(&head[..6], PAYLOAD_BYTES_MAX), Ok(None));
    let error = frame::parse(&head, PAYLOAD_BYTES_MAX).unwrap_err();
    assert_eq!(error.channel(), 1);
    assert_eq!(
        error.to_string(),
        "type 3, all octets = <<>>: {frame_too_large,8193,8184}"
    );
    head[3..].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(frame::parse(&head, PAYLOAD_BYTES_MAX).is_err());
}

#[test]
fn errors_speak_as_rabbitmq_does() {
    let text = |octets: &[u8]| {
        frame::parse(octets, PAYLOAD_BYTES_MAX)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        text(&raw(1, 1, &[0, 60, 0, 40], 0)),
        "type 1, all octets = <<0,60,0,40>>: {invalid_frame_end_marker,0}"
    );
    assert_eq!(
        text(&raw(9, 0, b"0123456789abcdefgh", 206)),
        "type 9, first 16 octets = <<\"0123456789abcdef\">>: unknown_frame"
    );
    assert_eq!(
        text(&raw(9, 0, b"a\"\n", 206)),
        r#"type 9, all octets = <<"a\"\n">>: unknown_frame"#
    );
    assert_eq!(
        text(&raw(8, 0, b"\x01", 206)),
        "type 8, all octets = <<1>>: unknown_frame"
    );
    let short_method = raw(1, 4, &[0, 10], 206);
    let (frame, _) = frame::parse(&short_method, PAYLOAD_BYTES_MAX)
        .unwrap()
        .unwrap();
    let error = FrameError::unknown(&frame);
    assert_eq!(
        error.to_string(),
        "type 1, all octets = <<0,10>>: unknown_frame"
    );
    assert_eq!(error.channel(), 4);
}
