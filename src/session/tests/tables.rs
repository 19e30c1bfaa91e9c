//! Every state under every event, for the connection and for a channel: what is sent, and the state after it.

use std::fmt::Write;
use std::time::Duration;

use super::support::{Client, raw_frame, short};
use crate::model::{Refusal, Reply};
use crate::protocol::{ReplyCode, basic, channel, connection, frame, queue};
use crate::session::EndReason;

/// Its name, and what the client does.
type Event = (&'static str, fn(&mut Client));

const CONNECTION_STATES: [&str; 12] = [
    "AwaitHeader",
    "AwaitStartOk",
    "Authenticating",
    "AwaitTuneOk",
    "AwaitOpen",
    "Opening",
    "Running",
    "UpdatingSecret",
    "Releasing",
    "Closing",
    "Silent",
    "Ended",
];

fn connection_in(state: &'static str) -> Client {
    let mut client = Client::connect();
    let steps: [Event; 5] = [
        ("AwaitHeader", |client| {
            client.send_bytes(b"AMQP\0\0\x09\x01")
        }),
        ("AwaitStartOk", |client| client.start_ok(&[])),
        ("AwaitTuneOk", |client| client.tune_ok(2047, 131_072, 0)),
        ("AwaitOpen", |client| client.open()),
        ("Running", |_| {}),
    ];
    let (stop, last): Event = match state {
        "Authenticating" => ("AwaitStartOk", |client| {
            client.answer_later();
            client.start_ok(&[]);
        }),
        "Opening" => ("AwaitOpen", |client| {
            client.answer_later();
            client.open();
        }),
        "UpdatingSecret" => ("Running", |client| {
            client.answer_later();
            client.send(0, connection::UpdateSecret::default());
        }),
        "Releasing" => ("Running", |client| {
            client.answer_later();
            client.send(0, connection::Close::default());
        }),
        "Closing" => ("Running", |client| client.send(0, channel::Open)),
        "Silent" => ("AwaitStartOk", |client| client.open()),
        "Ended" => ("Running", |client| {
            client.send(0, connection::Close::default())
        }),
        state => (state, |_| {}),
    };
    for (name, step) in steps {
        if name == stop {
            break;
        }
        step(&mut client);
    }
    last(&mut client);
    client.drain();
    client
}

const CONNECTION_EVENTS: [Event; 14] = [
    ("start-ok", |client| client.start_ok(&[])),
    ("tune-ok", |client| client.tune_ok(2047, 131_072, 0)),
    ("open", |client| client.open()),
    ("close", |client| {
        client.send(0, connection::Close::default())
    }),
    ("close-ok", |client| client.send(0, connection::CloseOk)),
    ("update-secret", |client| {
        client.send(0, connection::UpdateSecret::default())
    }),
    ("channel.open", |client| client.send(1, channel::Open)),
    ("heartbeat", |client| {
        client.send_bytes(&raw_frame(8, 0, &[]))
    }),
    ("body on 0", |client| {
        client.send_bytes(&raw_frame(3, 0, b"x"))
    }),
    ("bad octets", |client| {
        client.send_bytes(&raw_frame(77, 0, b""))
    }),
    ("answer", |client| client.reply(0, Ok(Reply::Done))),
    ("refusal", |client| {
        client.reply(0, Err(Refusal::not_allowed("no")))
    }),
    ("shutdown", |client| {
        let refusal = Refusal::new(ReplyCode::ConnectionForced, "bye");
        client
            .session
            .handle_shutdown(client.now, refusal, &mut client.executor);
    }),
    ("15 s", |client| client.wait(Duration::from_secs(15))),
];

fn reason(reason: &EndReason) -> &'static str {
    match reason {
        EndReason::ProtocolHeader(_) => "protocol header",
        EndReason::HandshakeTimeout { .. } => "handshake timeout",
        EndReason::LoginRefused(_) => "login refused",
        EndReason::HandshakeFailed(_) => "handshake failed",
        EndReason::HeartbeatTimeout { .. } => "heartbeat timeout",
        EndReason::ClosedByClient => "by client",
        EndReason::ClosedByServer(_) => "by server",
        EndReason::LostSync(_) => "lost sync",
        EndReason::SocketGone => "socket gone",
    }
}

fn connection_row(client: &mut Client, header_sent: bool) -> String {
    let mut row = if header_sent {
        client.receive_all().join(", ")
    } else if client.session.output().is_empty() {
        String::new()
    } else {
        "protocol header".to_owned()
    };
    let session = &client.session;
    write!(row, " -> {}", session.state_name()).unwrap();
    if let Some(ended) = session.ended() {
        write!(row, " ({})", reason(&ended.reason)).unwrap();
    } else if !session.wants_input() {
        row.push_str(" (not reading)");
    }
    row
}

#[test]
fn every_connection_state_under_every_event() {
    let mut table = String::new();
    for state in CONNECTION_STATES {
        writeln!(table, "{state}").unwrap();
        for (event, act) in CONNECTION_EVENTS {
            let mut client = connection_in(state);
            act(&mut client);
            let row = connection_row(&mut client, state != "AwaitHeader");
            writeln!(table, "  {event}: {}", row.trim()).unwrap();
        }
    }
    check_table(&table, include_str!("connection_table.txt"));
}

const CHANNEL_STATES: [&str; 8] = [
    "Absent",
    "Opening",
    "Open",
    "AwaitHeader",
    "AwaitBody",
    "Waiting",
    "Failing",
    "Closing",
];

fn channel_in(state: &str) -> Client {
    let mut client = if matches!(state, "Absent" | "Opening") {
        Client::running()
    } else {
        Client::with_channel()
    };
    let method = super::support::publish_method(1, "", "q", false);
    match state {
        "Opening" => {
            client.answer_later();
            client.send(1, channel::Open);
        }
        "AwaitHeader" => client.send_bytes(&method),
        "AwaitBody" => {
            let mut bytes = method;
            frame::write_content_header(&mut bytes, 1, 2, &[0, 0]);
            client.send_bytes(&bytes);
        }
        "Waiting" => {
            client.answer_later();
            client.send(
                1,
                queue::Bind {
                    queue: short("q"),
                    ..queue::Bind::default()
                },
            );
        }
        "Failing" => {
            client.refuse_next(Refusal::not_found("x"));
            client.answer_later();
            client.send(
                1,
                queue::Bind {
                    queue: short("q"),
                    ..queue::Bind::default()
                },
            );
        }
        "Closing" => {
            client.refuse_next(Refusal::not_found("x"));
            client.send(
                1,
                queue::Bind {
                    queue: short("q"),
                    ..queue::Bind::default()
                },
            );
        }
        _ => {}
    }
    client.drain();
    client
}

const CHANNEL_EVENTS: [Event; 12] = [
    ("open", |client| client.send(1, channel::Open)),
    ("close", |client| client.send(1, channel::Close::default())),
    ("close-ok", |client| client.send(1, channel::CloseOk)),
    ("a method", |client| {
        client.send(
            1,
            basic::Get {
                queue: short("q"),
                no_ack: true,
            },
        );
    }),
    ("publish", |client| {
        let method = super::support::publish_method(1, "", "q", false);
        client.send_bytes(&method);
    }),
    ("header", |client| {
        let mut bytes = Vec::new();
        frame::write_content_header(&mut bytes, 1, 0, &[0, 0]);
        client.send_bytes(&bytes);
    }),
    ("body", |client| client.send_bytes(&raw_frame(3, 1, b"ab"))),
    ("heartbeat", |client| {
        client.send_bytes(&raw_frame(8, 1, b""))
    }),
    ("unknown method", |client| {
        client.send_bytes(&raw_frame(1, 1, &[0, 1, 0, 1]))
    }),
    ("answer", |client| client.reply(1, Ok(Reply::Done))),
    ("refusal", |client| {
        client.reply(1, Err(Refusal::not_found("y")))
    }),
    ("delivery", |client| {
        let delivery = super::support::delivery(crate::model::ConsumerId(1), 1, b"");
        assert!(client.deliver(delivery).is_err());
    }),
];

#[test]
fn every_channel_state_under_every_event() {
    let mut table = String::new();
    for state in CHANNEL_STATES {
        writeln!(table, "{state}").unwrap();
        for (event, act) in CHANNEL_EVENTS {
            let mut client = channel_in(state);
            act(&mut client);
            let sent = client.receive_all().join(", ");
            let after = match client.session.channels().next() {
                _ if client.session.state_name() != "running" => "connection closed",
                None => "absent",
                Some(info) if info.is_waiting => "waiting",
                Some(_) if !client.executor.published.is_empty() => "published",
                Some(_) => "there",
            };
            writeln!(table, "  {event}: {}", format!("{sent} -> {after}").trim()).unwrap();
        }
    }
    check_table(&table, include_str!("channel_table.txt"));
}

/// Compares line by line, so that a difference is shown with its state.
#[track_caller]
fn check_table(table: &str, expected: &str) {
    if table != expected {
        let mut state = "";
        for (is, should) in table.lines().zip(expected.lines()) {
            if !is.starts_with(' ') {
                state = is;
            }
            assert_eq!(is, should, "in state {state}; the whole table is\n{table}");
        }
        panic!("the table has another length:\n{table}");
    }
}
