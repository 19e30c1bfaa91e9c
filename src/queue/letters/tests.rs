//! The list by itself: order, what is left to the log, what it costs.

use std::sync::Arc;

use super::*;
use crate::queue::loading::LoadedMessage;
use crate::queue::tests::message;
use crate::queue::{Deadline, letters::Dying};

fn dying(position: u64, is_hot: bool, is_logged: bool) -> Dying {
    Dying {
        message: is_hot.then(|| message("body", None, None)),
        position: Some(Position(position)),
        body_bytes: 4,
        is_logged,
    }
}

fn death(letters: &mut Letters, reason: DeathReason) -> Death {
    Death {
        reason,
        address: letters.address(&"dlx".into(), None),
        is_retained: false,
    }
}

fn push(letters: &mut Letters, position: u64, is_hot: bool) -> Option<SharedMessage> {
    let death = death(letters, DeathReason::Rejected);
    letters.push(dying(position, is_hot, true), death)
}

fn block(span: Span, positions: impl IntoIterator<Item = u64>) -> LoadedBlock {
    let messages = positions.into_iter().map(|position| LoadedMessage {
        position: Position(position),
        message: message("body", None, None),
        deadline: Deadline::NEVER,
    });
    LoadedBlock {
        first: span.first,
        through: span.last,
        messages: messages.collect(),
        damaged: Vec::new(),
    }
}

/// Takes what can leave now; the positions.
fn take(letters: &mut Letters) -> Vec<u64> {
    let mut taken = Vec::new();
    while let NextLetter::Now(letter) = letters.next_deferred(false, &mut Vec::new()) {
        let (position, _) = letters.left(letter.number).unwrap();
        taken.push(position.0);
    }
    taken
}

#[test]
fn hot_letters_wait_behind_those_that_must_be_read() {
    let mut letters = Letters::default();
    assert!(push(&mut letters, 7, true).is_none());
    assert!(push(&mut letters, 3, false).is_none());
    assert!(push(&mut letters, 4, true).is_some(), "left to the log");
    assert!(push(&mut letters, 9, true).is_some());
    assert_eq!(take(&mut letters), [7]);
    assert!(matches!(
        letters.next(false, &mut Vec::new()),
        NextLetter::Later
    ));
    assert!(
        matches!(letters.next(false, &mut Vec::new()), NextLetter::Nothing),
        "one is enough"
    );
    let span = letters.to_load().unwrap();
    assert_eq!((span.first.0, span.last.0), (3, 9));
    // Others of the queue lie between them, and are not letters.
    assert!(letters.handle_loaded(block(span, 3..=9)).is_empty());
    assert_eq!(take(&mut letters), [3, 4, 9]);
    assert!(letters.is_empty());
    assert_eq!(letters.hot_bytes(), 0);
    assert!(push(&mut letters, 10, true).is_none());
    assert!(matches!(
        letters.next(false, &mut Vec::new()),
        NextLetter::Now(_)
    ));
}

#[test]
fn a_million_letters_in_a_row_are_one_run_and_are_read_in_parts() {
    let mut letters = Letters::default();
    for position in 1..=1_000_000 {
        push(&mut letters, position, false);
    }
    assert_eq!(letters.waiting.len(), 1);
    assert_eq!(letters.hot_bytes(), 0);
    let span = letters.to_load().unwrap();
    assert_eq!((span.first.0, span.last.0), (1, 1_000_000));
    let part = LoadedBlock {
        through: Position(100),
        ..block(span, 1..=100)
    };
    assert!(letters.handle_loaded(part).is_empty());
    assert_eq!(take(&mut letters), (1..=100).collect::<Vec<_>>());
    assert_eq!(letters.to_load().unwrap().first.0, 101);
    assert_eq!(
        letters
            .logged()
            .map(|run| u64::from(run.count))
            .sum::<u64>(),
        999_900
    );
}

#[test]
fn letters_in_any_order_leave_in_the_order_of_their_deaths() {
    let mut letters = Letters::default();
    let order = [5_u64, 6, 2, 9, 8, 1];
    for position in order {
        push(&mut letters, position, false);
    }
    let mut left = Vec::new();
    while let Some(span) = letters.to_load() {
        let lost = letters.handle_loaded(block(span, span.first.0..=span.last.0));
        assert!(lost.is_empty());
        left.extend(take(&mut letters));
    }
    assert_eq!(left, order);
}

#[test]
fn what_cannot_be_read_does_not_hold_up_the_others() {
    let mut letters = Letters::default();
    for position in 1..=5 {
        push(&mut letters, position, false);
    }
    let span = letters.to_load().unwrap();
    let lost = letters.handle_loaded(block(span, [1, 3, 5]));
    assert_eq!(lost, [(Position(2), false), (Position(4), false)]);
    assert_eq!(take(&mut letters), [1, 3, 5]);
    // Nothing could be read now: it is asked for again.
    push(&mut letters, 6, false);
    let span = letters.to_load().unwrap();
    let nothing = LoadedBlock {
        through: Position(5),
        ..block(span, [])
    };
    assert!(letters.handle_loaded(nothing).is_empty());
    assert_eq!(letters.to_load(), Some(span));
}

#[test]
fn while_the_journal_is_full_letters_are_left_to_the_log() {
    let mut letters = Letters::default();
    for position in 1..=100 {
        push(&mut letters, position, true);
    }
    assert!(letters.hot_bytes() > 0);
    let mut left = Vec::new();
    assert!(matches!(letters.next(true, &mut left), NextLetter::Later));
    assert_eq!(left.len(), 100);
    assert_eq!((letters.hot_bytes(), letters.waiting.len()), (0, 1));
    // One that only memory has stays there, and waits all the same.
    let mut letters = Letters::default();
    let death = death(&mut letters, DeathReason::Expired);
    letters.push(dying(1, true, false), death);
    left.clear();
    assert!(matches!(letters.next(true, &mut left), NextLetter::Later));
    assert!(left.is_empty());
    assert!(matches!(
        letters.next_deferred(false, &mut left),
        NextLetter::Now(_)
    ));
}

#[test]
fn another_reason_or_address_is_another_run() {
    let mut letters = Letters::default();
    push(&mut letters, 1, false);
    let expired = death(&mut letters, DeathReason::Expired);
    letters.push(dying(2, false, true), expired);
    let elsewhere = Death {
        reason: DeathReason::Expired,
        address: letters.address(&"other".into(), Some(&"key".into())),
        is_retained: false,
    };
    letters.push(dying(3, false, true), elsewhere);
    assert_eq!(letters.waiting.len(), 3);
    let span = letters.to_load().unwrap();
    letters.handle_loaded(block(span, 1..=3));
    let mut found = Vec::new();
    while let NextLetter::Now(letter) = letters.next_deferred(false, &mut Vec::new()) {
        found.push((letter.reason, letter.address.exchange.to_string()));
        letters.left(letter.number);
    }
    let expected = [
        (DeathReason::Rejected, "dlx".to_owned()),
        (DeathReason::Expired, "dlx".to_owned()),
        (DeathReason::Expired, "other".to_owned()),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_letter_leaves_once_and_not_after_another_became_the_next() {
    let mut letters = Letters::default();
    push(&mut letters, 1, true);
    push(&mut letters, 2, true);
    let NextLetter::Now(first) = letters.next(false, &mut Vec::new()) else {
        panic!("there is one");
    };
    assert_eq!(letters.left(first.number), Some((Position(1), 4)));
    assert_eq!(letters.left(first.number), None);
    assert!(!letters.is_next(first.number));
    assert_eq!(take(&mut letters), [2]);
}

#[test]
fn a_deleted_queue_drops_only_letters_that_it_was_to_keep() {
    let mut letters = Letters::default();
    let kept = Death {
        is_retained: true,
        ..death(&mut letters, DeathReason::Expired)
    };
    letters.push(dying(1, true, true), kept);
    push(&mut letters, 2, true);
    let NextLetter::Now(first) = letters.next(false, &mut Vec::new()) else {
        panic!("there is one");
    };
    assert_eq!((first.retained, first.source), (Some(Position(1)), None));
    letters.drop_retained();
    assert!(!letters.is_next(first.number));
    assert_eq!(take(&mut letters), [2]);
    assert_eq!(Arc::strong_count(&first.message), 1);
}
