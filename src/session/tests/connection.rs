//! The handshake, closing, heartbeats, alarms.

use std::time::Duration;

use super::support::{Client, publish, raw_frame, short};
use crate::model::{Command, Execution, Refusal, Reply};
use crate::protocol::{
    FieldTable, FrameKind, Method, ReplyCode, channel, connection, frame, queue,
};
use crate::session::{Channel, EndReason, Session, SessionSettings, connection::Peer};

const S: Duration = Duration::from_secs(1);

#[test]
fn a_handshake_opens_a_virtual_host() {
    let mut server_properties = FieldTable::new();
    server_properties.insert("product", "RabbitMQ");
    let encoded = server_properties.to_encoded();
    let mut client = Client::connect_with(SessionSettings {
        server_properties,
        ..SessionSettings::default()
    });
    client.send_bytes(b"AMQP\0\0\x09\x01");
    client.expect(
        0,
        connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: encoded.as_table(),
            mechanisms: b"PLAIN AMQPLAIN",
            locales: b"en_US",
        },
    );
    client.start_ok(&[]);
    client.expect(
        0,
        connection::Tune {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 60,
        },
    );
    client.tune_ok(100, 8192, 7);
    client.expect_nothing();
    client.open();
    client.expect(0, connection::OpenOk);
    let session = &client.session;
    assert_eq!(session.user().map(|user| &**user), Some("guest"));
    assert_eq!(session.vhost(), Some("/"));
    assert_eq!(session.mechanism(), Some("PLAIN"));
    assert_eq!(session.connection_name(), Some("a test"));
    assert!(
        session
            .client_properties()
            .unwrap()
            .contains("capabilities")
    );
    assert_eq!(
        (
            session.channel_max(),
            session.frame_max(),
            session.heartbeat_s()
        ),
        (100, 8192, 7)
    );
    assert!(matches!(
        &client.executor.commands[..],
        [
            (0, Command::Authenticate { mechanism, response, .. }),
            (0, Command::OpenVhost { vhost }),
        ] if mechanism == "PLAIN" && &response[..] == b"\0guest\0guest" && vhost == "/"
    ));
}

#[test]
fn the_header_of_0_9_is_served_as_0_9_1() {
    let mut client = Client::connect();
    client.send_bytes(b"AMQP\x01\x01\x00\x09");
    assert_eq!(client.receive_all(), ["0 connection.start"]);
}

#[test]
fn a_foreign_header_is_answered_with_ours_and_the_end() {
    for header in [
        &b"AMQP\0\0\x09\x00"[..],
        b"AMQP\x03\x01\x00\x00",
        b"GET / HTTP/1.1",
    ] {
        let mut client = Client::connect();
        client.send_bytes(header);
        assert_eq!(client.session.output().as_slice(), b"AMQP\0\0\x09\x01");
        let ended = client.session.ended().unwrap();
        assert!(matches!(ended.reason, EndReason::ProtocolHeader(_)));
        assert!(!client.session.wants_input());
    }
}

#[test]
fn the_handshake_has_a_deadline_and_ends_without_a_frame() {
    let mut client = Client::connect();
    client.send_bytes(b"AMQP\0\0\x09\x01");
    client.drain();
    client.wait(9 * S);
    assert!(client.session.ended().is_none());
    client.wait(2 * S);
    client.expect_nothing();
    let state = "starting";
    assert_eq!(
        client.session.ended().unwrap().reason,
        EndReason::HandshakeTimeout { state }
    );
}

#[test]
fn a_refused_login_is_told_to_those_who_can_hear_it() {
    let mut client = Client::connect();
    client.send_bytes(b"AMQP\0\0\x09\x01");
    client.drain();
    client.refuse_next(Refusal::access_refused(
        "user 'guest' - invalid credentials",
    ));
    client.start_ok(&["authentication_failure_close"]);
    let at_fault = client.expect_connection_close(
        ReplyCode::AccessRefused,
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. \
         For details see the broker logfile.",
    );
    assert_eq!(at_fault, (0, 0));
    assert!(client.session.ended().is_none());
    client.send(0, connection::CloseOk);
    let ended = client.session.ended().unwrap();
    assert!(ended.to_string().contains("invalid credentials"), "{ended}");
}

#[test]
fn a_refused_login_is_silence_to_others() {
    let mut client = Client::connect();
    client.send_bytes(b"AMQP\0\0\x09\x01");
    client.drain();
    client.refuse_next(Refusal::access_refused("no"));
    client.start_ok(&[]);
    client.expect_nothing();
    client.open();
    assert_eq!(client.left_over(), 0, "what comes is thrown away");
    client.wait(4 * S);
    client.expect_nothing();
    assert!(matches!(
        client.session.ended().unwrap().reason,
        EndReason::LoginRefused(_)
    ));
}

#[test]
fn an_unknown_mechanism_is_silence_and_a_reason_for_the_log() {
    let mut client = Client::connect_with(SessionSettings {
        mechanisms: "EXTERNAL".to_owned(),
        ..SessionSettings::default()
    });
    client.send_bytes(b"AMQP\0\0\x09\x01");
    client.drain();
    client.start_ok(&["authentication_failure_close"]);
    client.wait(4 * S);
    client.expect_nothing();
    let ended = client.session.ended().unwrap().to_string();
    assert!(ended.contains("unknown authentication mechanism 'PLAIN'"));
    assert!(
        client
            .executor
            .commands
            .iter()
            .all(|(_, command)| { !matches!(command, Command::Authenticate { .. }) })
    );
}

#[test]
fn capabilities_that_are_no_table_count_as_none() {
    let mut client = Client::connect();
    client.send_bytes(b"AMQP\0\0\x09\x01");
    client.drain();
    let mut properties = FieldTable::new();
    properties.insert("capabilities", "authentication_failure_close");
    let properties = properties.to_encoded();
    client.refuse_next(Refusal::access_refused("no"));
    client.send(
        0,
        connection::StartOk {
            client_properties: properties.as_table(),
            mechanism: short("PLAIN"),
            response: b"",
            locale: short("en_US"),
        },
    );
    client.expect_nothing();
}

#[test]
fn a_frame_above_8192_before_tuning_ends_the_connection_silently() {
    let mut client = Client::connect();
    client.send_bytes(b"AMQP\0\0\x09\x01");
    client.drain();
    client.send_bytes(&[1, 0, 0, 0, 0, 0x20, 0x01]);
    client.wait(4 * S);
    client.expect_nothing();
    let ended = client.session.ended().unwrap().to_string();
    assert!(ended.contains("{frame_too_large,8193,8184}"), "{ended}");
}

#[track_caller]
fn check_tune_ok(channel_max: u16, frame_max: u32, text: &str) {
    let mut client = Client::connect();
    client.send_bytes(b"AMQP\0\0\x09\x01");
    client.start_ok(&[]);
    client.drain();
    client.tune_ok(channel_max, frame_max, 0);
    let at_fault = client.expect_connection_close(
        ReplyCode::NotAllowed,
        &format!("NOT_ALLOWED - negotiated {text}"),
    );
    assert_eq!(at_fault, (10, 30));
}

#[test]
fn tune_ok_must_lie_between_floor_and_offer() {
    check_tune_ok(
        2047,
        4096,
        "frame_max = 4096 is lower than the minimum allowed value (8192)",
    );
    check_tune_ok(
        2047,
        0,
        "frame_max = 0 is higher than the maximum allowed value (131072)",
    );
    check_tune_ok(
        2047,
        131_073,
        "frame_max = 131073 is higher than the maximum allowed value (131072)",
    );
    check_tune_ok(
        0,
        131_072,
        "channel_max = 0 (no limit) is higher than the maximum allowed value (2047)",
    );
    check_tune_ok(
        2048,
        131_072,
        "channel_max = 2048 is higher than the maximum allowed value (2047)",
    );
}

#[test]
fn a_virtual_host_can_be_refused() {
    let mut client = Client::connect();
    client.send_bytes(b"AMQP\0\0\x09\x01");
    client.start_ok(&[]);
    client.tune_ok(2047, 131_072, 0);
    client.drain();
    client.refuse_next(Refusal::not_allowed("vhost x not found"));
    client.open();
    let at_fault =
        client.expect_connection_close(ReplyCode::NotAllowed, "NOT_ALLOWED - vhost x not found");
    assert_eq!(at_fault, (10, 40));
}

#[test]
fn nothing_is_read_while_the_broker_looks_at_a_login_or_a_virtual_host() {
    let mut client = Client::connect();
    client.send_bytes(b"AMQP\0\0\x09\x01");
    client.drain();
    client.answer_later();
    client.start_ok(&[]);
    client.tune_ok(2047, 131_072, 0);
    client.expect_nothing();
    assert!(!client.session.wants_input());
    assert!(client.left_over() > 0);
    let user = "guest".into();
    client.reply(0, Ok(Reply::Authenticated { user }));
    assert_eq!(client.receive_all(), ["0 connection.tune"]);
    client.answer_later();
    client.open();
    client.send(1, channel::Open);
    client.expect_nothing();
    client.reply(0, Ok(Reply::Done));
    assert_eq!(
        client.receive_all(),
        ["0 connection.open-ok", "1 channel.open-ok"]
    );
}

#[test]
fn close_ends_channels_and_exclusive_queues_before_close_ok() {
    let mut client = Client::with_channel();
    client.open_channel(7);
    client.executor.commands.clear();
    client
        .executor
        .answers
        .push_back(Execution::done(Reply::Done));
    client
        .executor
        .answers
        .push_back(Execution::done(Reply::Done));
    client.answer_later();
    client.send(0, connection::Close::default());
    assert_eq!(
        client.executor.take_names(),
        ["1 CloseChannel", "7 CloseChannel", "0 CloseConnection"]
    );
    client.expect_nothing();
    client.reply(0, Ok(Reply::Done));
    client.expect(0, connection::CloseOk);
    assert_eq!(
        client.session.ended().unwrap().reason,
        EndReason::ClosedByClient
    );
    client.session.terminate(&mut client.executor);
    assert!(client.executor.commands.is_empty(), "it was said once");
}

#[test]
fn a_hard_error_names_the_method_and_then_only_close_ok_counts() {
    let mut client = Client::with_channel();
    client.refuse_next(Refusal::not_allowed("because"));
    client.send(
        1,
        queue::Purge {
            queue: short("q"),
            no_wait: false,
        },
    );
    let at_fault = client.expect_connection_close(ReplyCode::NotAllowed, "NOT_ALLOWED - because");
    assert_eq!(at_fault, (50, 30));
    assert_eq!(
        client.executor.take_names(),
        ["1 PurgeQueue", "1 CloseChannel", "0 CloseConnection"]
    );
    client.send(1, channel::Open);
    client.send(0, connection::Open::default());
    client.send_publish(2, "q", b"x");
    client.expect_nothing();
    client.send(0, connection::Close::default());
    client.expect(0, connection::CloseOk);
    assert!(client.session.ended().is_none());
    client.send(0, connection::CloseOk);
    assert!(matches!(
        client.session.ended().unwrap().reason,
        EndReason::ClosedByServer(_)
    ));
    assert_eq!(client.executor.commands.len(), 0);
}

#[test]
fn close_ok_is_awaited_for_three_seconds() {
    let mut client = Client::with_channel();
    client.send(1, channel::Open);
    let at_fault = client.expect_connection_close(
        ReplyCode::ChannelError,
        "CHANNEL_ERROR - second 'channel.open' seen",
    );
    assert_eq!(at_fault, (20, 10));
    client.wait(2 * S);
    assert!(client.session.ended().is_none());
    client.wait(2 * S);
    assert!(client.session.ended().is_some());
}

#[test]
fn long_texts_are_cut_at_255_octets() {
    let mut client = Client::with_channel();
    client.refuse_next(Refusal::not_allowed("ä".repeat(200)));
    client.send(1, queue::Declare::default());
    let text = format!("NOT_ALLOWED - {}", "ä".repeat(120));
    client.expect_connection_close(ReplyCode::NotAllowed, &text);
}

#[test]
fn the_broker_can_end_a_connection() {
    let mut client = Client::with_channel();
    let refusal = Refusal::new(ReplyCode::ConnectionForced, "Closed via management plugin");
    client
        .session
        .handle_shutdown(client.now, refusal.clone(), &mut client.executor);
    let at_fault = client.expect_connection_close(
        ReplyCode::ConnectionForced,
        "CONNECTION_FORCED - Closed via management plugin",
    );
    assert_eq!(at_fault, (0, 0));
    let mut early = Client::connect();
    early
        .session
        .handle_shutdown(early.now, refusal, &mut early.executor);
    early.expect_nothing();
    assert!(early.session.ended().is_some());
}

#[test]
fn a_lost_socket_returns_everything_once() {
    let mut client = Client::with_channel();
    let consumer = client.consume(1, "c", false);
    let delivery = super::support::delivery(consumer, 5, b"x");
    client.deliver(delivery).unwrap();
    client.executor.commands.clear();
    client.session.terminate(&mut client.executor);
    client.session.terminate(&mut client.executor);
    let [
        (1, Command::CloseChannel { unsettled }),
        (0, Command::CloseConnection),
    ] = &client.executor.commands[..]
    else {
        panic!("{:?}", client.executor.commands);
    };
    assert_eq!(unsettled.len(), 1);
    let late = super::support::delivery(consumer, 6, b"x");
    assert!(client.deliver(late).is_err());
}

#[test]
fn bad_octets_are_a_frame_error_and_nothing_is_read_after_them() {
    let mut client = Client::with_channel();
    let mut bytes = raw_frame(1, 0, &[0, 10, 0, 50]);
    *bytes.last_mut().unwrap() = 7;
    client.send_bytes(&bytes);
    client.expect_connection_close(
        ReplyCode::FrameError,
        "FRAME_ERROR - type 1, all octets = <<0,10,0,50>>: {invalid_frame_end_marker,7}",
    );
    client.send(0, connection::CloseOk);
    assert_eq!(client.left_over(), 0);
    assert!(client.session.ended().is_none());
    client.wait(3 * S);
    assert!(client.session.ended().is_some());
}

#[test]
fn a_frame_above_the_negotiated_size_is_a_frame_error() {
    let mut client = Client::connect();
    client.send_bytes(b"AMQP\0\0\x09\x01");
    client.start_ok(&[]);
    client.tune_ok(2047, 10_000, 0);
    client.open();
    client.open_channel_quietly();
    client.send_bytes(&raw_frame(8, 0, &[]));
    let mut fits = super::support::publish_method(1, "", "q", false);
    frame::write_content_header(&mut fits, 1, 10_000, &[0, 0]);
    fits.extend_from_slice(&raw_frame(3, 1, &[0; 10_000]));
    client.send_bytes(&fits);
    assert_eq!(client.executor.published.len(), 1, "8 octets of grace");
    client.send_bytes(&[3, 0, 1, 0, 0, 0x27, 0x11]);
    client.expect_connection_close(
        ReplyCode::FrameError,
        "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,10001,9992}",
    );
}

#[test]
fn unexpected_frames_end_the_connection() {
    let cases: [(&[u8], ReplyCode, &str); 6] = [
        (
            &raw_frame(8, 1, &[]),
            ReplyCode::UnexpectedFrame,
            "UNEXPECTED_FRAME - type 8, all octets = <<>>",
        ),
        (
            &raw_frame(3, 0, b"body"),
            ReplyCode::UnexpectedFrame,
            "UNEXPECTED_FRAME - type 3, all octets = <<\"body\">>",
        ),
        (
            &raw_frame(3, 1, b"body"),
            ReplyCode::UnexpectedFrame,
            "UNEXPECTED_FRAME - expected method frame, got non method frame instead",
        ),
        (
            &raw_frame(1, 1, &[0, 60]),
            ReplyCode::FrameError,
            "FRAME_ERROR - type 1, all octets = <<0,60>>: unknown_frame",
        ),
        (
            &raw_frame(1, 1, &[0, 60, 0, 99]),
            ReplyCode::CommandInvalid,
            "COMMAND_INVALID - unimplemented method",
        ),
        (
            &raw_frame(1, 1, &[0, 20, 0, 20, 1, 2]),
            ReplyCode::FrameError,
            "FRAME_ERROR - cannot decode <<1,2>>",
        ),
    ];
    for (bytes, code, text) in cases {
        let mut client = Client::with_channel();
        client.send_bytes(bytes);
        client.expect_connection_close(code, text);
    }
}

#[test]
fn names_must_be_utf8() {
    let mut client = Client::with_channel();
    let payload = vec![0, 50, 0, 30, 0, 0, 1, 0xff, 0];
    client.send_bytes(&raw_frame(1, 1, &payload));
    client.expect_connection_close(
        ReplyCode::FrameError,
        "FRAME_ERROR - Malformed UTF-8 in shortstr",
    );
}

#[test]
fn a_method_of_another_class_on_channel_0_is_a_channel_error() {
    let mut client = Client::running();
    client.send(0, channel::Open);
    client.expect_connection_close(
        ReplyCode::ChannelError,
        "CHANNEL_ERROR - unexpected method in connection state running",
    );
}

#[test]
fn a_heartbeat_is_sent_after_half_the_interval_of_silence() {
    let mut client = Client::connect();
    client.send_bytes(b"AMQP\0\0\x09\x01");
    client.start_ok(&[]);
    client.tune_ok(2047, 131_072, 10);
    client.open();
    client.drain();
    for _ in 0..3 {
        client.wait(5 * S);
        let (kind, channel, payload) = client.receive().unwrap();
        assert_eq!((kind, channel, payload), (FrameKind::Heartbeat, 0, vec![]));
        client.send_bytes(&raw_frame(8, 0, &[]));
        client.expect_nothing();
    }
}

#[test]
fn silence_for_more_than_two_intervals_ends_the_connection_without_a_frame() {
    let mut client = Client::connect();
    client.send_bytes(b"AMQP\0\0\x09\x01");
    client.start_ok(&[]);
    client.tune_ok(2047, 131_072, 10);
    client.open();
    client.drain();
    client.wait(19 * S);
    client.send_bytes(&[8]);
    assert_eq!(client.left_over(), 1, "a part of a frame is life, too");
    client.wait(20 * S);
    assert!(client.session.ended().is_none());
    client.wait(12 * S);
    assert_eq!(
        client.session.ended().unwrap().reason,
        EndReason::HeartbeatTimeout { heartbeat_s: 10 }
    );
    assert!(
        client
            .receive_all()
            .iter()
            .all(|frame| frame == "heartbeat")
    );
}

#[test]
fn a_new_secret_is_asked_for_and_may_be_refused() {
    let mut client = Client::running();
    let update = connection::UpdateSecret {
        new_secret: b"s",
        reason: short("renewed"),
    };
    client.send(0, update);
    client.expect(0, connection::UpdateSecretOk);
    client.refuse_next(Refusal::not_allowed(
        "New secret was refused by one of the backends",
    ));
    client.send(0, update);
    let at_fault = client.expect_connection_close(
        ReplyCode::NotAllowed,
        "NOT_ALLOWED - New secret was refused by one of the backends",
    );
    assert_eq!(at_fault, (10, 70));
}

#[test]
fn an_alarm_blocks_only_who_publishes_and_tells_once() {
    let mut client = Client::with_channel();
    client.send_publish(1, "q", b"before");
    client
        .session
        .handle_alarm(client.now, Some("low on memory"));
    client.expect_nothing();
    assert!(client.session.wants_input());
    client.send(1, queue::Declare::default());
    assert_eq!(client.receive_all(), ["1 queue.declare-ok"]);

    let two = [
        publish(1, "", "q", false, b"1"),
        publish(1, "", "q", false, b"2"),
    ]
    .concat();
    client.send_bytes(&two);
    client.expect(
        0,
        connection::Blocked {
            reason: short("low on memory"),
        },
    );
    assert_eq!(client.executor.published.len(), 2, "the second waits");
    assert!(!client.session.wants_input());
    assert_eq!(client.session.state_name(), "blocked");
    let reason = "low on memory & disk";
    client.session.handle_alarm(client.now, Some(reason));
    client.expect_nothing();

    client.session.handle_alarm(client.now, None);
    client.expect(0, connection::Unblocked);
    client.burst();
    assert_eq!(client.executor.published.len(), 3);
    assert_eq!(client.left_over(), 0);
}

#[test]
fn a_client_that_cannot_hear_it_is_blocked_in_silence() {
    let mut client = Client::connect();
    client.send_bytes(b"AMQP\0\0\x09\x01");
    client.start_ok(&[]);
    client.tune_ok(2047, 131_072, 10);
    client.open();
    client.open_channel_quietly();
    client.session.handle_alarm(client.now, Some("low on disk"));
    client.send_publish(1, "q", b"x");
    client.expect_nothing();
    assert!(!client.session.wants_input());
    client.wait(100 * S);
    assert!(
        client.session.ended().is_none(),
        "silence proves nothing now"
    );
    client.drain();
    client.session.handle_alarm(client.now, None);
    client.expect_nothing();
    assert!(client.session.wants_input());
}

#[test]
fn an_idle_session_is_small() {
    let mut client = Client::with_channel();
    client.session.release_buffers();
    let size = size_of::<Session>() + size_of::<Peer>() + size_of::<Channel>();
    assert!(size < 1500, "{size}");
}

impl Client {
    fn open_channel_quietly(&mut self) {
        self.send(1, channel::Open);
        self.drain();
    }
}

#[test]
fn exceptions_can_be_logged() {
    let mut client = Client::with_channel();
    client.refuse_next(Refusal::not_found("no queue 'q' in vhost '/'"));
    client.send(1, Method::QueuePurge(queue::Purge::default()));
    client.send(1, channel::CloseOk);
    let (number, exception) = client.session.poll_exception().unwrap();
    assert_eq!(number, 1);
    assert_eq!(exception.refusal.code, ReplyCode::NotFound);
    assert!(client.session.poll_exception().is_none());
}
