//! Channels, exchanges, queues: methods to commands and answers to methods.

use super::support::{Client, short};
use crate::model::{Command, Refusal};
use crate::protocol::{ReplyCode, access, channel, exchange, queue, tx};
use crate::session::SessionSettings;

#[test]
fn channels_open_and_close() {
    let mut client = Client::running();
    client.open_channel(5);
    client.open_channel(3);
    assert_eq!(client.session.channel_count(), 2);
    client.send(5, channel::Close::default());
    client.expect(5, channel::CloseOk);
    assert_eq!(client.session.channel_count(), 1);
    client.open_channel(5);
    assert_eq!(
        client.executor.take_names(),
        [
            "5 OpenChannel",
            "3 OpenChannel",
            "5 CloseChannel",
            "5 OpenChannel"
        ]
    );
}

#[test]
fn a_method_on_a_channel_that_is_not_open_is_a_channel_error() {
    let mut client = Client::running();
    client.send(4, queue::Declare::default());
    let at_fault = client.expect_connection_close(
        ReplyCode::ChannelError,
        "CHANNEL_ERROR - expected 'channel.open'",
    );
    assert_eq!(at_fault, (50, 10));
}

#[test]
fn one_channel_too_many_ends_the_connection() {
    let mut client = Client::running_with(SessionSettings {
        channel_max: 2,
        ..SessionSettings::default()
    });
    client.open_channel(100);
    client.open_channel(200);
    client.send(1, channel::Open);
    client.expect_connection_close(
        ReplyCode::NotAllowed,
        "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)",
    );
}

#[test]
fn the_broker_can_refuse_a_channel() {
    let mut client = Client::running();
    client.refuse_next(Refusal::not_allowed("too many for user 'u'"));
    client.send(1, channel::Open);
    client.expect_connection_close(ReplyCode::NotAllowed, "NOT_ALLOWED - too many for user 'u'");
    assert_eq!(
        client.executor.take_names(),
        ["1 OpenChannel", "0 CloseConnection"]
    );
}

#[test]
fn a_soft_error_closes_the_channel_and_ignores_it_until_close_ok() {
    let mut client = Client::with_channel();
    client.refuse_next(Refusal::not_found("no queue 'q' in vhost '/'"));
    client.send(
        1,
        queue::Purge {
            queue: short("q"),
            no_wait: true,
        },
    );
    client.expect_channel_close(
        1,
        ReplyCode::NotFound,
        "NOT_FOUND - no queue 'q' in vhost '/'",
    );
    assert_eq!(
        client.executor.take_names(),
        ["1 PurgeQueue", "1 CloseChannel"]
    );
    client.send(1, queue::Declare::default());
    client.send_publish(1, "q", b"x");
    client.send(1, channel::Open);
    client.expect_nothing();
    assert!(client.executor.published.is_empty());
    client.send(1, channel::Close::default());
    client.expect(1, channel::CloseOk);
    client.send(1, channel::CloseOk);
    assert_eq!(client.session.channel_count(), 0);
    client.open_channel(1);
}

#[test]
fn flow_can_only_be_on() {
    let mut client = Client::with_channel();
    client.send(1, channel::Flow { active: true });
    client.expect(1, channel::FlowOk { active: true });
    client.send(1, channel::Flow { active: false });
    client.expect_connection_close(ReplyCode::NotImplemented, "NOT_IMPLEMENTED - active=false");
}

#[test]
fn everyone_gets_ticket_1() {
    let mut client = Client::with_channel();
    client.send(1, access::Request::default());
    client.expect(1, access::RequestOk { ticket: 1 });
}

#[test]
fn methods_of_the_server_are_unimplemented() {
    let mut client = Client::with_channel();
    client.send(1, tx::CommitOk);
    let at_fault = client.expect_connection_close(
        ReplyCode::CommandInvalid,
        "COMMAND_INVALID - unimplemented method",
    );
    assert_eq!(at_fault, (90, 21));
}

#[test]
fn exchanges_are_declared_bound_and_deleted() {
    let mut client = Client::with_channel();
    client.send(
        1,
        exchange::Declare {
            exchange: short("e\r\n1"),
            type_: short("topic"),
            durable: true,
            ..exchange::Declare::default()
        },
    );
    client.expect(1, exchange::DeclareOk);
    client.send(
        1,
        exchange::Bind {
            destination: short("d\n"),
            source: short("s\r"),
            routing_key: short("k\n"),
            ..exchange::Bind::default()
        },
    );
    client.expect(1, exchange::BindOk);
    client.send(1, exchange::Unbind::default());
    client.expect(1, exchange::UnbindOk);
    client.send(1, exchange::Delete::default());
    client.expect(1, exchange::DeleteOk);
    let commands = std::mem::take(&mut client.executor.commands);
    assert!(matches!(
        &commands[0].1,
        Command::DeclareExchange { name, kind, durable: true, internal: false, .. }
            if name == "e1" && kind == "topic"
    ));
    assert!(matches!(
        &commands[1].1,
        Command::BindExchange { destination, source, routing_key, .. }
            if destination == "d" && source == "s" && routing_key == "k\n"
    ));
}

#[test]
fn no_wait_drops_the_positive_answer_alone() {
    let mut client = Client::with_channel();
    let no_wait = true;
    client.send(
        1,
        exchange::Declare {
            no_wait,
            ..exchange::Declare::default()
        },
    );
    client.send(
        1,
        exchange::Delete {
            no_wait,
            ..exchange::Delete::default()
        },
    );
    client.send(
        1,
        exchange::Bind {
            no_wait,
            ..exchange::Bind::default()
        },
    );
    client.send(
        1,
        exchange::Unbind {
            no_wait,
            ..exchange::Unbind::default()
        },
    );
    client.send(
        1,
        queue::Declare {
            no_wait,
            ..queue::Declare::default()
        },
    );
    client.send(
        1,
        queue::Bind {
            no_wait,
            ..queue::Bind::default()
        },
    );
    client.send(
        1,
        queue::Purge {
            no_wait,
            ..queue::Purge::default()
        },
    );
    client.send(
        1,
        queue::Delete {
            no_wait,
            ..queue::Delete::default()
        },
    );
    client.expect_nothing();
    assert_eq!(client.executor.commands.len(), 8);
    client.refuse_next(Refusal::precondition_failed("in use"));
    client.send(
        1,
        queue::Delete {
            no_wait,
            ..queue::Delete::default()
        },
    );
    client.expect_channel_close(
        1,
        ReplyCode::PreconditionFailed,
        "PRECONDITION_FAILED - in use",
    );
}

#[test]
fn queues_are_declared_purged_and_deleted() {
    let mut client = Client::with_channel();
    client.send(
        1,
        queue::Declare {
            queue: short("a\nb"),
            ..queue::Declare::default()
        },
    );
    client.expect(
        1,
        queue::DeclareOk {
            queue: short("ab"),
            message_count: 3,
            consumer_count: 1,
        },
    );
    client.send(
        1,
        queue::Purge {
            queue: short("ab"),
            no_wait: false,
        },
    );
    client.expect(1, queue::PurgeOk { message_count: 7 });
    client.send(
        1,
        queue::Delete {
            queue: short("a\rb"),
            ..queue::Delete::default()
        },
    );
    client.expect(1, queue::DeleteOk { message_count: 7 });
    assert!(matches!(
        &client.executor.commands[2].1,
        Command::DeleteQueue { name, .. } if name == "ab"
    ));
}

#[test]
fn an_empty_queue_name_means_the_last_declared() {
    let mut client = Client::with_channel();
    client.send(
        1,
        queue::Declare {
            passive: true,
            ..queue::Declare::default()
        },
    );
    client.send(
        1,
        queue::Bind {
            exchange: short("e"),
            ..queue::Bind::default()
        },
    );
    client.send(
        1,
        queue::Unbind {
            exchange: short("e"),
            routing_key: short("k"),
            ..queue::Unbind::default()
        },
    );
    client.send(1, queue::Purge::default());
    client.drain();
    assert!(matches!(
        &client.executor.commands[1].1,
        Command::BindQueue { queue, routing_key, .. }
            if queue == "amq.gen-1" && routing_key == "amq.gen-1"
    ));
    assert!(matches!(
        &client.executor.commands[2].1,
        Command::UnbindQueue { queue, routing_key, .. }
            if queue == "amq.gen-1" && routing_key == "k"
    ));
    assert!(matches!(
        &client.executor.commands[3].1,
        Command::PurgeQueue { queue } if queue == "amq.gen-1"
    ));
}

#[test]
fn an_empty_queue_name_without_a_last_declared_is_not_found() {
    let mut client = Client::with_channel();
    client.send(1, queue::Bind::default());
    client.expect_channel_close(
        1,
        ReplyCode::NotFound,
        "NOT_FOUND - no previously declared queue",
    );
}

#[test]
fn an_answer_of_another_kind_is_our_own_error() {
    let mut client = Client::with_channel();
    let answer = crate::model::Execution::done(crate::model::Reply::MessageCount(1));
    client.executor.answers.push_back(answer);
    client.send(1, exchange::Declare::default());
    let (_, _, payload) = client.receive().unwrap();
    assert_eq!(payload[4..6], 541_u16.to_be_bytes());
}
