//! What comes back is what went in; every bit that flips is noticed.

use super::*;
use crate::model::{Death, DeathReason, FirstDeath};
use crate::protocol::{Properties, ShortString};

fn message() -> Message {
    let properties = Properties {
        delivery_mode: Some(2),
        message_id: Some(ShortString::from_static("id")),
        ..Properties::default()
    };
    let encoded = properties.to_encoded();
    let facts = PropertyFacts::of(&encoded).unwrap();
    let deaths = Deaths {
        recent: vec![Death {
            queue: "q".into(),
            reason: DeathReason::Expired,
            count: 3,
            first_ms: 12,
            exchange: "ex".into(),
            routing_keys: vec![Bytes::from_static(b"k"), Bytes::from_static(b"cc")],
            original_expiration: Some(Bytes::from_static(b"60")),
        }],
        first: FirstDeath {
            reason: DeathReason::Rejected,
            queue: "first".into(),
            exchange: "".into(),
        },
        last_exchange: "last".into(),
    };
    Message::copied("ex".into(), b"key", &encoded, facts, b"the body").with_deaths(deaths.into())
}

fn targets() -> [Target; 2] {
    let target = Target {
        queue: QueueId(7),
        position: Position::new(4, 9),
        deadline_ms: WallMs::MAX,
        is_transient: false,
    };
    [
        target,
        Target {
            queue: QueueId(8),
            deadline_ms: 1_800_000_000_000,
            is_transient: true,
            ..target
        },
    ]
}

#[test]
fn a_message_comes_back_as_it_went_in() {
    let mut bytes = Vec::new();
    let before = message();
    let crc = put_message(&mut bytes, 4096, &before, &targets(), None);
    let head = Head::parse(&bytes, 4096).unwrap();
    assert_eq!((head.kind, head.crc), (Kind::Message, crc));
    assert_eq!(head.record_bytes(), bytes.len());
    head.check_body(&bytes).unwrap();
    let meta = MessageMeta::parse(&head, &bytes[head.meta()]).unwrap();
    assert_eq!(meta.targets().collect::<Vec<_>>(), targets());
    let after = meta
        .message(Bytes::copy_from_slice(&bytes[head.body()]))
        .unwrap();
    assert_eq!(after.exchange(), before.exchange());
    assert_eq!(after.routing_key(), before.routing_key());
    assert_eq!(after.properties(), before.properties());
    assert_eq!(after.body(), before.body());
    assert_eq!(after.deaths(), before.deaths());
    assert_eq!(Head::parse(&bytes, 4104), Err(Damage::Elsewhere));
}

#[test]
fn a_message_is_rewritten_for_one_queue() {
    let (mut bytes, mut moved) = (Vec::new(), Vec::new());
    put_message(&mut bytes, 0, &message(), &targets(), None);
    let head = Head::parse(&bytes, 0).unwrap();
    let meta = MessageMeta::parse(&head, &bytes[head.meta()]).unwrap();
    meta.rewrite(&mut moved, 64, targets()[1], None, &bytes[head.body()]);
    let head = Head::parse(&moved, 64).unwrap();
    head.check_body(&moved).unwrap();
    let meta = MessageMeta::parse(&head, &moved[head.meta()]).unwrap();
    assert_eq!(meta.targets().collect::<Vec<_>>(), [targets()[1]]);
}

#[test]
fn a_record_that_is_relocated_is_what_it_would_be_if_it_had_been_written_there() {
    let targets = &targets()[..1];
    let (mut bytes, mut there) = (Vec::new(), Vec::new());
    put_message(&mut bytes, 4096, &message(), targets, None);
    put_message(&mut there, 64, &message(), targets, None);
    let head = Head::parse(&bytes, 4096).unwrap();
    head.relocate(&mut bytes, 64).unwrap();
    assert_eq!(bytes, there);
    let cut = head.meta().end - 1;
    assert_eq!(head.relocate(&mut bytes[..cut], 8), Err(Damage::Cut));
    assert_eq!(bytes, there);
}

#[test]
fn a_damaged_body_is_still_damaged_after_its_record_was_relocated() {
    let mut bytes = Vec::new();
    put_message(&mut bytes, 4096, &message(), &targets(), None);
    let head = Head::parse(&bytes, 4096).unwrap();
    bytes[head.body().start] ^= 1;
    head.relocate(&mut bytes, 64).unwrap();
    let head = Head::parse(&bytes, 64).unwrap();
    assert_eq!(head.check_body(&bytes), Err(Damage::Body));
}

#[test]
fn a_body_in_a_file_of_its_own_is_named() {
    let mut bytes = Vec::new();
    let blob = BlobRef {
        blob: 99,
        bytes: 8,
        crc: 5,
    };
    put_message(&mut bytes, 0, &message(), &targets(), Some(blob));
    let head = Head::parse(&bytes, 0).unwrap();
    head.check_body(&bytes).unwrap();
    assert!(head.body().is_empty());
    let meta = MessageMeta::parse(&head, &bytes[head.meta()]).unwrap();
    assert_eq!(meta.blob, Some(blob));
}

#[test]
fn what_becomes_of_messages_comes_back() {
    let mut runs = Vec::new();
    for position in [1, 2, 3, 4, 5, 9] {
        Run::push(&mut runs, Position(position), 100);
    }
    assert_eq!(runs.len(), 2);
    let mut bytes = Vec::new();
    put_settled(&mut bytes, 0, QueueId(3), &runs);
    let purged = bytes.len();
    put_purged(&mut bytes, purged as u64, QueueId(3), &[Position(8)], &runs);
    let requeued = bytes.len();
    let counts = vec![(Position(2), 4, 1)];
    put_requeued(&mut bytes, requeued as u64, QueueId(3), &counts);
    let content = |at: usize| {
        let head = Head::parse(&bytes[at..], at as u64).unwrap();
        format!(
            "{:?}",
            Content::parse(&head, &bytes[at..][head.meta()]).unwrap()
        )
    };
    let expected = Content::Settled {
        queue: QueueId(3),
        runs: runs.clone(),
    };
    assert_eq!(content(0), format!("{expected:?}"));
    let expected = Content::Purged {
        queue: QueueId(3),
        last: vec![Position(8)],
        survivors: runs,
    };
    assert_eq!(content(purged), format!("{expected:?}"));
    let expected = Content::Requeued {
        queue: QueueId(3),
        counts,
    };
    assert_eq!(content(requeued), format!("{expected:?}"));
}

#[test]
fn every_flipped_bit_is_noticed() {
    let mut bytes = Vec::new();
    put_message(&mut bytes, 8, &message(), &targets(), None);
    let head = Head::parse(&bytes, 8).unwrap();
    for bit in 0..head.body().end * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let noticed = Head::parse(&flipped, 8).and_then(|head| head.check_body(&flipped));
        assert!(noticed.is_err(), "bit {bit}");
    }
}

#[test]
fn a_cut_record_is_never_read_beyond_its_end() {
    let mut bytes = Vec::new();
    put_message(&mut bytes, 8, &message(), &targets(), None);
    let end = Head::parse(&bytes, 8).unwrap().body().end;
    for cut in 0..end {
        let noticed = Head::parse(&bytes[..cut], 8).and_then(|head| head.check_body(&bytes[..cut]));
        assert!(noticed.is_err(), "cut at {cut}");
    }
}

#[test]
fn a_run_ends_where_positions_or_numbers_do() {
    let mut runs = Vec::new();
    let last = Position::new(1, Position::SEQUENCE_MAX);
    Run::push(&mut runs, last, 1);
    Run::push(&mut runs, last.next(), 1);
    assert_eq!(runs.len(), 2, "a run never crosses from lane to lane");
    Run::push(&mut runs, Position::new(2, 1), u32::MAX);
    assert_eq!(runs.len(), 3, "a sum that does not fit begins another run");
    assert_eq!(runs[1].body_bytes, 1);
}
