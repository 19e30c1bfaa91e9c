//! The handshake and the end of a connection.

use haremq::model::Refusal;
use haremq::protocol::{Method, ReplyCode, Value, access, basic, channel, connection, queue};

use crate::support::{Client, Node, field_table, short};

/// What the server sends as octets.
fn answer_to(octets: &[u8]) -> (Vec<u8>, bool) {
    let node = Node::start();
    let mut client = node.socket();
    client.receive_octets();
    client.send_octets(octets);
    let answer = client.octets_received();
    (answer, client.ended().is_some())
}

#[test]
fn the_header_of_0_9_1_is_answered_with_connection_start() {
    let node = Node::start();
    let mut client = node.socket();
    client.send_octets(b"AMQP\0\0\x09\x01");
    let received = client.next();
    let Method::ConnectionStart(start) = received.method() else {
        panic!("{}", received.describe());
    };
    assert_eq!((start.version_major, start.version_minor), (0, 9));
    assert_eq!(start.locales, b"en_US");
}

#[test]
fn the_header_of_0_9_is_served_as_0_9_1() {
    let node = Node::start();
    let mut client = node.socket();
    client.send_octets(b"AMQP\x01\x01\0\x09");
    assert!(matches!(client.next().method(), Method::ConnectionStart(_)));
}

#[test]
fn a_header_that_is_not_served_is_answered_with_the_right_one() {
    let ours = b"AMQP\0\0\x09\x01".to_vec();
    for header in [
        b"AMQP\0\0\x09\x02",
        b"AMQP\0\0\x0a\0",
        b"AMQP\x09\x09\x09\x09",
        b"XXXX\0\0\x09\x01",
    ] {
        assert_eq!(answer_to(header), (ours.clone(), true));
    }
}

#[test]
fn http_and_tls_on_the_port_end_the_connection() {
    assert!(answer_to(b"GET / HTTP/1.1\r\n\r\n").1);
    assert!(answer_to(&[0x16, 3, 1, 0, 200, 1, 0, 0]).1);
}

#[test]
fn a_header_may_come_octet_by_octet() {
    let node = Node::start();
    let mut client = node.socket();
    for octet in b"AMQP\0\0\x09" {
        client.send_octets(&[*octet]);
        client.expect_nothing();
    }
    client.send_octets(&[1]);
    assert!(matches!(client.next().method(), Method::ConnectionStart(_)));
}

#[test]
fn server_properties_have_rabbitmqs_keys_and_product() {
    let node = Node::start();
    let mut client = node.socket();
    client.send_octets(b"AMQP\0\0\x09\x01");
    let received = client.next();
    let Method::ConnectionStart(start) = received.method() else {
        panic!("{}", received.describe());
    };
    let properties = start.server_properties.decode();
    for key in [
        "capabilities",
        "cluster_name",
        "copyright",
        "information",
        "platform",
        "product",
        "version",
    ] {
        assert!(properties.contains(key), "{key}");
    }
    assert_eq!(properties.get("product"), Some(&"RabbitMQ".into()));
    let version = properties.get("version").and_then(Value::as_str).unwrap();
    let numbers = version.split('.').map(|number| number.parse().unwrap());
    assert_eq!(numbers.collect::<Vec<u32>>()[0], 4, "{version}");
}

#[test]
fn all_nine_capabilities_are_announced() {
    let node = Node::start();
    let mut client = node.socket();
    client.send_octets(b"AMQP\0\0\x09\x01");
    let received = client.next();
    let Method::ConnectionStart(start) = received.method() else {
        panic!("{}", received.describe());
    };
    let all = [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ];
    let expected = field_table(&all.map(|name| (name, Value::Bool(true))));
    let properties = start.server_properties.decode();
    assert_eq!(
        properties.get("capabilities"),
        Some(&Value::Table(expected))
    );
}

#[test]
fn plain_amqplain_and_anonymous_are_offered() {
    let node = Node::start();
    let mut client = node.socket();
    client.send_octets(b"AMQP\0\0\x09\x01");
    let received = client.next();
    let Method::ConnectionStart(start) = received.method() else {
        panic!("{}", received.describe());
    };
    assert_eq!(start.mechanisms, b"PLAIN AMQPLAIN ANONYMOUS");
}

#[test]
fn plain_logs_in() {
    let node = Node::start();
    node.client().close();
}

#[test]
fn amqplain_logs_in_with_a_table_without_its_length() {
    let node = Node::start();
    let mut client = node.socket();
    client.begin();
    let mut response = Vec::new();
    field_table(&[("LOGIN", "guest".into()), ("PASSWORD", "guest".into())])
        .encode_fields(&mut response);
    client.start_ok("AMQPLAIN", &response, &[]);
    client.expect_tune();
}

#[test]
fn anonymous_logs_in_as_guest() {
    let node = Node::start();
    let mut client = node.socket();
    client.begin();
    client.start_ok("ANONYMOUS", b"trace", &[]);
    client.tune();
    client.send(connection::Open {
        virtual_host: short("/"),
    });
    client.expect(connection::OpenOk);
}

fn refused(client: &mut Client, user: &str, password: &str) {
    client.begin();
    client.login(user, password);
    let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. \
                For details see the broker logfile.";
    client.expect(connection::Close {
        reply_code: 403,
        reply_text: short(text),
        class_id: 0,
        method_id: 0,
    });
}

#[test]
fn a_wrong_password_is_403_for_clients_that_can_hear_it() {
    let node = Node::start();
    refused(&mut node.socket(), "guest", "wrong");
}

#[test]
fn an_unknown_user_is_refused_in_the_same_words() {
    let node = Node::start();
    refused(&mut node.socket(), "nobody", "guest");
}

#[test]
fn a_refused_client_is_hung_up_on_after_a_while() {
    let node = Node::start();
    let mut client = node.socket();
    refused(&mut client, "guest", "wrong");
    client.expect_nothing();
    node.advance(3_000);
    assert!(client.ended().is_some());
}

#[test]
fn a_wrong_password_is_silence_for_clients_that_cannot_hear_it() {
    let node = Node::start();
    let mut client = node.socket();
    client.begin();
    client.start_ok("PLAIN", b"\0guest\0wrong", &[]);
    client.expect_nothing();
    node.advance(3_000);
    client.expect_hang_up();
}

#[test]
fn guest_logs_in_from_loopback_only() {
    let node = Node::start();
    refused(&mut node.socket_from("192.0.2.7:50000"), "guest", "guest");
    let mut client = node.socket_from("[::1]:50000");
    client.handshake("guest", "guest", "/");
}

#[test]
fn other_users_log_in_from_anywhere() {
    let node = Node::start();
    node.put_user("u", "p", &[]);
    let mut client = node.socket_from("192.0.2.7:50000");
    client.handshake("u", "p", "/");
}

#[test]
fn an_unknown_mechanism_is_silence() {
    let node = Node::start();
    let mut client = node.socket();
    client.begin();
    client.start_ok("KERBEROS", b"", &["authentication_failure_close"]);
    client.expect_nothing();
    node.advance(3_000);
    client.expect_hang_up();
}

#[test]
fn a_missing_vhost_is_530() {
    let node = Node::start();
    let mut client = node.socket();
    client.begin();
    client.login("guest", "guest");
    client.tune();
    client.send(connection::Open {
        virtual_host: short("nowhere"),
    });
    client.expect_connection_close(530, "NOT_ALLOWED - vhost nowhere not found", (10, 40));
}

#[test]
fn a_vhost_without_permission_is_530() {
    let node = Node::start();
    node.put_user_with("u", "p", &[], Default::default());
    let mut client = node.socket();
    client.begin();
    client.login("u", "p");
    client.tune();
    client.send(connection::Open {
        virtual_host: short("/"),
    });
    let text = "NOT_ALLOWED - access to vhost '/' refused for user 'u'";
    client.expect_connection_close(530, text, (10, 40));
}

#[test]
fn a_handshake_takes_at_most_ten_seconds() {
    let node = Node::start();
    let mut client = node.socket();
    client.begin();
    client.login("guest", "guest");
    client.expect_tune();
    node.advance(9_999);
    assert!(client.ended().is_none());
    node.advance(1);
    client.expect_hang_up();
}

#[test]
fn an_open_connection_has_no_deadline() {
    let node = Node::start();
    let mut client = node.client();
    node.advance(86_400_000);
    client.expect_nothing();
    assert!(client.ended().is_none());
}

#[test]
fn a_start_ok_above_8192_octets_ends_the_connection() {
    let node = Node::start();
    let mut client = node.socket();
    client.begin();
    let response = vec![b'x'; 8_300];
    client.start_ok("PLAIN", &response, &[]);
    client.expect_nothing();
    node.advance(3_000);
    client.expect_hang_up();
}

#[test]
fn close_is_answered_and_ends_the_connection() {
    let node = Node::start();
    node.client().close();
    assert_eq!(node.broker().registry().connection_count(), 0);
}

#[test]
fn exclusive_queues_are_gone_when_close_ok_is_seen() {
    let node = Node::start();
    let mut owner = node.client();
    owner.send(queue::Declare {
        queue: short("mine"),
        exclusive: true,
        ..queue::Declare::default()
    });
    owner.expect_declared("mine");
    owner.close();
    node.client().expect_no_queue("mine");
}

#[test]
fn exclusive_queues_go_when_the_socket_does() {
    let node = Node::start();
    let mut owner = node.client();
    owner.send(queue::Declare {
        queue: short("mine"),
        exclusive: true,
        ..queue::Declare::default()
    });
    owner.expect_declared("mine");
    owner.hang_up();
    node.client().expect_no_queue("mine");
}

#[test]
fn the_broker_closes_with_320_and_its_reason() {
    let node = Node::start();
    let mut client = node.client();
    node.close_all(&Refusal::new(
        ReplyCode::ConnectionForced,
        "Closed via management plugin",
    ));
    let text = "CONNECTION_FORCED - Closed via management plugin";
    client.expect_connection_close(320, text, (0, 0));
}

#[test]
fn after_a_hard_error_everything_but_close_ok_is_ignored() {
    let node = Node::start();
    let mut client = node.client();
    client.send(basic::Qos {
        prefetch_size: 1,
        ..basic::Qos::default()
    });
    assert!(matches!(client.next().method(), Method::ConnectionClose(_)));
    client.try_declare("q", &[]);
    client.expect_nothing();
    assert!(client.ended().is_none());
    client.send(connection::CloseOk);
    assert!(client.ended().is_some());
    node.client().expect_no_queue("q");
}

#[test]
fn a_close_that_crosses_ours_is_answered() {
    let node = Node::start();
    let mut client = node.client();
    client.send(basic::Qos {
        prefetch_size: 1,
        ..basic::Qos::default()
    });
    assert!(matches!(client.next().method(), Method::ConnectionClose(_)));
    client.send(connection::Close::default());
    client.expect(connection::CloseOk);
}

#[test]
fn close_ok_is_awaited_for_three_seconds() {
    let node = Node::start();
    let mut client = node.client();
    client.send(basic::Qos {
        prefetch_size: 1,
        ..basic::Qos::default()
    });
    assert!(matches!(client.next().method(), Method::ConnectionClose(_)));
    node.advance(2_999);
    assert!(client.ended().is_none());
    node.advance(1);
    assert!(client.ended().is_some());
}

#[test]
fn update_secret_is_accepted_whatever_the_secret() {
    let node = Node::start();
    let mut client = node.client();
    for new_secret in [&b"guest"[..], b"another"] {
        client.send(connection::UpdateSecret {
            new_secret,
            reason: short("renewed"),
        });
        client.expect(connection::UpdateSecretOk);
    }
    client.declare("q", &[]);
}

#[test]
fn update_secret_cancels_consumers_that_may_not_read_any_more() {
    let node = Node::start();
    node.put_user("u", "p", &[]);
    let mut client = node.client_as("u", "p", "/");
    client.declare("q", &[]);
    client.declare("kept", &[]);
    client.consume("q", "c");
    client.consume("kept", "k");
    node.permit("u", ".*", ".*", "^kept$");
    client.send(connection::UpdateSecret {
        new_secret: b"p",
        reason: short("renewed"),
    });
    client.expect(connection::UpdateSecretOk);
    client.expect_cancel("c");
    client.expect_nothing();
    let mut other = node.client();
    assert_eq!(other.counts("q"), (0, 0));
    assert_eq!(other.counts("kept"), (0, 1));
}

#[test]
fn a_second_open_is_504() {
    let node = Node::start();
    let mut client = node.connect();
    client.send(connection::Open {
        virtual_host: short("/"),
    });
    let text = "CHANNEL_ERROR - unexpected method in connection state running";
    client.expect_connection_close(504, text, (10, 40));
}

#[test]
fn a_channel_before_open_is_505() {
    let node = Node::start();
    let mut client = node.socket();
    client.begin();
    client.login("guest", "guest");
    client.tune();
    client.on(1).send(channel::Open);
    let received = client.next();
    let Method::ConnectionClose(close) = received.method() else {
        panic!("{}", received.describe());
    };
    assert_eq!(close.reply_code, 505);
}

#[test]
fn access_request_gets_ticket_1() {
    let node = Node::start();
    let mut client = node.client();
    client.send(access::Request {
        realm: short("/data"),
        ..access::Request::default()
    });
    client.expect(access::RequestOk { ticket: 1 });
}

#[test]
fn client_capabilities_that_are_no_table_count_as_none() {
    let node = Node::start();
    let mut client = node.socket();
    client.begin();
    let properties = field_table(&[("capabilities", "all".into())]).to_encoded();
    client.send(connection::StartOk {
        client_properties: properties.as_table(),
        mechanism: short("PLAIN"),
        response: b"\0guest\0guest",
        locale: short("en_US"),
    });
    client.tune();
    client.send(connection::Open {
        virtual_host: short("/"),
    });
    client.expect(connection::OpenOk);
    client.open_channel(1);
    client.declare("q", &[]);
    client.consume("q", "c");
    let mut other = node.client();
    other.delete("q");
    client.expect_nothing();
}

#[test]
fn a_user_without_password_cannot_log_in() {
    let node = Node::start();
    node.broker()
        .directory()
        .put_user(haremq::auth::User::new("u"));
    node.permit("u", ".*", ".*", ".*");
    refused(&mut node.socket(), "u", "");
    refused(&mut node.socket(), "u", "guess");
}

#[test]
fn a_close_before_open_is_504() {
    let node = Node::start();
    let mut client = node.socket();
    client.begin();
    client.login("guest", "guest");
    client.tune();
    client.send(connection::Close::default());
    let text = "CHANNEL_ERROR - unexpected method in connection state opening";
    client.expect_connection_close(504, text, (10, 50));
}

#[test]
fn the_vhosts_name_is_exact() {
    let node = Node::start();
    for name in ["", "//", "%2F", "/ "] {
        let mut client = node.socket();
        client.begin();
        client.login("guest", "guest");
        client.tune();
        client.send(connection::Open {
            virtual_host: short(name),
        });
        let text = format!("NOT_ALLOWED - vhost {name} not found");
        client.expect_connection_close(530, &text, (10, 40));
    }
}
