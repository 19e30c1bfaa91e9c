//! Publisher confirms and transactions.

use super::support::{Client, delivery, publish, short};
use crate::model::*;
use crate::protocol::{ReplyCode, basic, confirm, tx};
use crate::session::SessionSettings;

fn confirming() -> Client {
    let mut client = Client::with_channel();
    client.send(1, confirm::Select { no_wait: false });
    client.expect(1, confirm::SelectOk);
    client
}

fn complete(client: &mut Client, completions: &[(u64, PublishOutcome)]) {
    for &(sequence, outcome) in completions {
        client.executor.completions.push_back(Completion {
            channel: 1,
            sequence: ConfirmSequence(sequence),
            outcome,
        });
    }
    client.burst();
}

#[test]
fn publishes_are_numbered_from_1_and_confirmed_together() {
    let mut client = confirming();
    for _ in 0..3 {
        client.send_publish(1, "q", b"x");
    }
    let numbers: Vec<_> = client
        .executor
        .published
        .iter()
        .map(|s| s.confirm)
        .collect();
    assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
    client.expect_nothing();
    let accepted = PublishOutcome::Accepted;
    complete(&mut client, &[(2, accepted), (1, accepted)]);
    client.expect(
        1,
        basic::Ack {
            delivery_tag: 2,
            multiple: true,
        },
    );
    assert_eq!(
        client
            .session
            .channels()
            .next()
            .unwrap()
            .messages_unconfirmed,
        1
    );
    complete(&mut client, &[(3, PublishOutcome::Rejected)]);
    client.expect(
        1,
        basic::Nack {
            delivery_tag: 3,
            multiple: false,
            requeue: false,
        },
    );
    client.expect_nothing();
}

#[test]
fn a_return_precedes_its_ack() {
    let mut client = confirming();
    client
        .executor
        .publish_answers
        .push_back(Ok(Routing::Unroutable));
    client.send_bytes(&publish(1, "", "nowhere", true, b""));
    assert_eq!(
        client.receive_all(),
        ["1 basic.return", "1 header", "1 basic.ack"]
    );
    client
        .executor
        .publish_answers
        .push_back(Ok(Routing::Unroutable));
    client.send_publish(1, "nowhere", b"");
    client.expect(
        1,
        basic::Ack {
            delivery_tag: 2,
            multiple: false,
        },
    );
    complete(&mut client, &[(2, PublishOutcome::Accepted)]);
    client.expect_nothing();
}

#[test]
fn no_wait_and_a_second_select_change_nothing() {
    let mut client = confirming();
    client.send_publish(1, "q", b"x");
    client.send(1, confirm::Select { no_wait: true });
    client.expect_nothing();
    client.send_publish(1, "q", b"x");
    assert_eq!(client.executor.published[1].confirm, Some(2));
}

#[test]
fn a_closed_channel_confirms_nothing() {
    let mut client = confirming();
    client.send_publish(1, "q", b"x");
    client.send(
        1,
        basic::Ack {
            delivery_tag: 9,
            multiple: false,
        },
    );
    client.drain();
    complete(&mut client, &[(1, PublishOutcome::Accepted)]);
    client.expect_nothing();
}

#[test]
fn a_channel_confirms_or_transacts() {
    let mut client = confirming();
    client.send(1, tx::Select);
    client.expect_channel_close(
        1,
        ReplyCode::PreconditionFailed,
        "PRECONDITION_FAILED - cannot switch from confirm to tx mode",
    );
    let mut client = Client::with_channel();
    client.send(1, tx::Select);
    client.expect(1, tx::SelectOk);
    client.send(1, tx::Select);
    client.expect(1, tx::SelectOk);
    client.send(1, confirm::Select { no_wait: true });
    client.expect_channel_close(
        1,
        ReplyCode::PreconditionFailed,
        "PRECONDITION_FAILED - cannot switch from tx to confirm mode",
    );
}

#[test]
fn commit_and_rollback_need_a_transaction() {
    let text = "PRECONDITION_FAILED - channel is not transactional";
    let mut client = Client::with_channel();
    client.send(1, tx::Commit);
    client.expect_channel_close(1, ReplyCode::PreconditionFailed, text);
    let mut client = Client::with_channel();
    client.send(1, tx::Rollback);
    client.expect_channel_close(1, ReplyCode::PreconditionFailed, text);
}

/// A channel in transaction mode with deliveries 1 to 3 at positions 10 to 30, of which 2 is acked and 1 rejected.
fn staged() -> Client {
    let mut client = Client::with_channel();
    let consumer = client.consume(1, "c", false);
    for n in 1..=3 {
        client.deliver(delivery(consumer, n * 10, b"x")).unwrap();
    }
    client.send(1, tx::Select);
    client.send_bytes(&publish(1, "", "routed", false, b"1"));
    client.send_bytes(&publish(1, "", "unrouted", true, b"2"));
    client.send(
        1,
        basic::Ack {
            delivery_tag: 2,
            multiple: false,
        },
    );
    client.send(
        1,
        basic::Reject {
            delivery_tag: 1,
            requeue: false,
        },
    );
    client.drain();
    client.executor.commands.clear();
    client
}

#[test]
fn a_transaction_waits_for_commit_and_returns_what_has_no_queue() {
    let mut client = staged();
    assert!(client.executor.settled.is_empty() && client.executor.published.is_empty());
    let info = client.session.channels().next().unwrap();
    assert_eq!((info.messages_uncommitted, info.acks_uncommitted), (2, 1));
    assert_eq!(info.messages_unacknowledged, 1);
    let answer = Execution::done(Reply::Committed {
        returned: vec![0, 1],
        is_partial: false,
    });
    client.executor.answers.push_back(answer);
    client.send(1, tx::Commit);
    client.expect(
        1,
        basic::Return {
            reply_code: 312,
            reply_text: short("NO_ROUTE"),
            exchange: short(""),
            routing_key: short("unrouted"),
        },
    );
    assert_eq!(client.expect_content().1, b"2");
    client.expect(1, tx::CommitOk);
    let [
        (
            1,
            Command::Commit {
                publishes,
                settlements,
            },
        ),
    ] = &client.executor.commands[..]
    else {
        panic!("{:?}", client.executor.commands);
    };
    assert_eq!(publishes.len(), 2);
    let settled: Vec<_> = settlements
        .iter()
        .map(|s| (s.delivery.position.0, s.outcome))
        .collect();
    let expected = [
        (20, SettlementOutcome::Acked),
        (10, SettlementOutcome::Rejected),
    ];
    assert_eq!(settled, expected);
    client.executor.commands.clear();
    client.send(1, tx::Commit);
    client.expect(1, tx::CommitOk);
    assert!(matches!(
        &client.executor.commands[0].1,
        Command::Commit { publishes, settlements }
            if publishes.is_empty() && settlements.is_empty()
    ));
}

#[test]
fn rollback_drops_publishes_and_keeps_deliveries_unsettled() {
    let mut client = staged();
    client.send(1, tx::Rollback);
    client.expect(1, tx::RollbackOk);
    client.send(
        1,
        basic::Ack {
            delivery_tag: 3,
            multiple: true,
        },
    );
    client.send(1, tx::Commit);
    client.expect(1, tx::CommitOk);
    let [
        (
            1,
            Command::Commit {
                publishes,
                settlements,
            },
        ),
    ] = &client.executor.commands[..]
    else {
        panic!("{:?}", client.executor.commands);
    };
    assert!(publishes.is_empty());
    let positions: Vec<u64> = settlements.iter().map(|s| s.delivery.position.0).collect();
    assert_eq!(positions, [10, 20, 30]);
}

#[test]
fn a_channel_that_ends_returns_what_a_transaction_had_settled() {
    let mut client = staged();
    client.session.terminate(&mut client.executor);
    let Command::CloseChannel { unsettled } = &client.executor.commands[0].1 else {
        panic!("{:?}", client.executor.commands);
    };
    let positions: Vec<u64> = unsettled.iter().map(|u| u.position.0).collect();
    assert_eq!(positions, [10, 20, 30]);
}

#[test]
fn a_failed_commit_closes_the_channel() {
    let mut client = staged();
    let answer = Execution::done(Reply::Committed {
        returned: vec![1],
        is_partial: true,
    });
    client.executor.answers.push_back(answer);
    client.send(1, tx::Commit);
    client.expect(
        1,
        basic::Return {
            reply_code: 312,
            reply_text: short("NO_ROUTE"),
            exchange: short(""),
            routing_key: short("unrouted"),
        },
    );
    assert_eq!(client.expect_content().1, b"2");
    client.expect_channel_close(
        1,
        ReplyCode::PreconditionFailed,
        "PRECONDITION_FAILED - partial tx completion",
    );
}

#[test]
fn a_transaction_has_a_limit_in_octets() {
    let mut client = Client::with_channel_and(SessionSettings {
        transaction_bytes_max: 1000,
        ..SessionSettings::default()
    });
    client.send(1, tx::Select);
    client.drain();
    client.send_publish(1, "q", &[0; 700]);
    client.expect_nothing();
    client.send_publish(1, "q", &[0; 700]);
    let (_, _, payload) = client.receive().unwrap();
    assert_eq!(payload[4..6], 406_u16.to_be_bytes());
}
