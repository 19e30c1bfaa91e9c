//! What time does to messages and queues.

use super::*;

fn with_ttl(ttl_ms: i32) -> Bench {
    Bench::classic(&[
        ("x-message-ttl", Value::I32(ttl_ms)),
        ("x-dead-letter-exchange", Value::from("dlx")),
    ])
}

fn expired(body: &str) -> (String, String) {
    (body.to_owned(), "expired".to_owned())
}

#[test]
fn the_smaller_time_to_live_counts() {
    let mut bench = with_ttl(100);
    bench.publish_message(message("own", None, Some("50")));
    bench.publish_message(message("queue", None, Some("5000")));
    assert_eq!(bench.state.poll_timeout(), Some(bench.now.wall_ms + 50));
    bench.pass_ms(50);
    assert_eq!(bench.dead(), [expired("own")]);
    assert_eq!(bench.state.poll_timeout(), Some(bench.now.wall_ms + 50));
    bench.pass_ms(49);
    assert!(bench.dead().is_empty());
    bench.pass_ms(1);
    assert_eq!(bench.dead(), [expired("queue")]);
    assert_eq!(bench.state.poll_timeout(), None);
}

#[test]
fn expiry_is_seen_at_the_head_only_but_an_expired_message_is_never_delivered() {
    let mut bench = Bench::classic(&[]);
    bench.publish_message(message("long", None, Some("100")));
    bench.publish_message(message("short", None, Some("10")));
    bench.publish("last");
    bench.pass_ms(50);
    assert_eq!(bench.state.counts().messages_ready, 3);
    assert_eq!(bench.drain(), ["long", "last"]);
    assert_eq!(bench.state.counters.expired, 1);
}

#[test]
fn each_priority_has_its_own_head() {
    let mut bench = Bench::classic(&[("x-max-priority", Value::I32(2))]);
    bench.publish_message(message("high", Some(2), None));
    bench.publish_message(message("low", Some(0), Some("10")));
    bench.pass_ms(10);
    assert_eq!(bench.drain(), ["high"]);
}

#[test]
fn a_time_to_live_of_zero_is_deliver_now_or_expire() {
    let mut bench = with_ttl(0);
    bench.publish("nobody");
    assert_eq!(bench.dead(), [expired("nobody")]);
    bench.consume(1, 1);
    bench.publish_all(&["taken", "late"]);
    assert_eq!(bench.got(1), ["taken"]);
    assert_eq!(bench.dead(), [expired("late")]);
}

#[test]
fn a_return_keeps_its_deadline() {
    let mut bench = with_ttl(100);
    bench.consume(1, 1);
    bench.publish("a");
    bench.cancel(1);
    bench.pass_ms(60);
    bench.settle(1, SettlementOutcome::RequeuedByNack);
    assert_eq!(bench.state.poll_timeout(), Some(bench.now.wall_ms + 40));
    bench.pass_ms(40);
    assert_eq!(bench.dead(), [expired("a")]);
}

#[test]
fn unsettled_messages_do_not_expire() {
    let mut bench = with_ttl(10);
    bench.consume(1, 1);
    bench.publish("a");
    bench.pass_ms(1000);
    assert!(bench.ack(1));
    assert!(bench.dead().is_empty());
}

#[test]
fn many_expire_in_bounded_pieces() {
    let mut bench = with_ttl(10);
    for _ in 0..1500 {
        bench.publish("a");
    }
    bench.pass_ms(10);
    assert_eq!(bench.dead().len(), super::super::expiry::EXPIRE_BATCH_MAX);
    assert!(bench.state.poll_timeout().unwrap() <= bench.now.wall_ms);
    assert_eq!(bench.get(), None);
    assert_eq!(bench.state.counts().messages_ready, 0);
}

#[test]
fn an_unused_queue_goes_and_use_keeps_it() {
    let mut bench = Bench::classic(&[("x-expires", Value::I32(100))]);
    bench.pass_ms(90);
    bench.get();
    bench.pass_ms(90);
    bench.state.touch(bench.now);
    bench.pass_ms(90);
    bench.consume(1, 0);
    bench.pass_ms(1000);
    bench.cancel(1);
    bench.publish("not a use");
    bench.pass_ms(99);
    assert!(bench.deletions().is_empty());
    bench.pass_ms(1);
    assert_eq!(bench.deletions(), [DeletionReason::Expired]);
    assert_eq!(bench.state.poll_timeout(), None);
    bench.pass_ms(1000);
    assert!(bench.deletions().is_empty());
}

#[test]
fn a_quorum_queue_does_not_take_a_declare_as_use() {
    let mut bench = Bench::quorum(&[("x-expires", Value::I32(100))]);
    bench.pass_ms(90);
    bench.state.touch(bench.now);
    bench.pass_ms(10);
    assert_eq!(bench.deletions(), [DeletionReason::Expired]);
}

#[test]
fn what_expired_while_it_was_held_goes_when_it_comes_back() {
    let fields = [
        ("x-message-ttl", Value::I32(10)),
        ("x-dead-letter-exchange", "dlx".into()),
    ];
    let mut bench = Bench::classic(&fields);
    bench.consume(1, 0);
    bench.publish("a");
    bench.cancel(1);
    bench.pass_ms(11);
    bench.settle(1, SettlementOutcome::RequeuedByNack);
    assert_eq!(bench.dead(), [("a".to_owned(), "expired".to_owned())]);
}
