//! What holds for every resource: credentials, methods, paths, headers, limits.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::Node;

const CHECK: &str = "/api/health/checks/alarms";

#[test]
fn credentials_are_asked_for_and_judged() {
    let node = Node::start();
    let refused = node.nobody().get(CHECK).expect(401);
    assert_eq!(refused.text(), "");
    assert_eq!(
        refused.header("www-authenticate"),
        "Basic realm=\"RabbitMQ Management\""
    );
    for login in ["guest:wrong", "nobody:x", "guest", "guest:"] {
        let refused = node.client(login).get(CHECK);
        let refused = refused.expect_error(401, "not_authorized", "Not_Authorized");
        assert_eq!(refused.header("www-authenticate"), "");
    }
    for header in ["Basic ???", "Basic", "Bearer nothing"] {
        let client = node.nobody().with("authorization", header);
        client
            .get(CHECK)
            .expect_error(401, "not_authorized", "Not_Authorized");
    }
    node.nobody()
        .with("authorization", "Digest abc")
        .get(CHECK)
        .expect(401);
    node.guest().get(CHECK).expect(200);
}

#[test]
fn what_does_not_exist_is_not_found() {
    let node = Node::start();
    for path in ["/api/nothing", "/api/health", "/nothing"] {
        node.guest().get(path).expect_not_found();
    }
}

#[test]
fn wrong_methods_are_told_the_right_ones() {
    let node = Node::start();
    for method in ["PUT", "DELETE", "POST", "PATCH"] {
        let refused = node.guest().send(method, CHECK, b"");
        let refused = refused.expect_error(405, "method_not_allowed", "Method Not Allowed");
        assert_eq!(refused.header("allow"), "GET,HEAD", "{method}");
    }
}

#[test]
fn options_and_head_need_no_more_than_get() {
    let node = Node::start();
    let options = node.nobody().send("OPTIONS", CHECK, b"").expect(200);
    assert_eq!(options.header("allow"), "GET, HEAD, OPTIONS");
    assert_eq!(options.header("access-control-allow-methods"), "");
    node.nobody()
        .send("OPTIONS", "/api/nothing", b"")
        .expect(404);

    let head = node.guest().send("HEAD", CHECK, b"").expect(200);
    assert_eq!(head.header("content-length"), "15");
    assert_eq!(head.header("content-type"), "application/json");
    node.nobody().send("HEAD", CHECK, b"").expect(401);
}

#[test]
fn answers_carry_what_browsers_must_know() {
    let node = Node::start();
    for reply in [node.guest().get(CHECK), node.guest().get("/api/nothing")] {
        assert_eq!(reply.header("content-type"), "application/json");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        assert_eq!(reply.header("vary"), "accept, accept-encoding, origin");
        assert!(!reply.header("content-security-policy").contains("unsafe"));
        assert_eq!(reply.header("access-control-allow-origin"), "");
    }
    assert_eq!(node.guest().get(CHECK).header("cache-control"), "no-cache");
}

#[test]
fn origins_are_let_in_as_configured() {
    let node = Node::start_with(|settings| {
        settings.http.cors_allow_origins = vec!["https://a.example".to_owned()];
    });
    let from = |origin: &str| node.guest().with("origin", origin);
    let reply = from("https://a.example").get(CHECK).expect(200);
    assert_eq!(
        reply.header("access-control-allow-origin"),
        "https://a.example"
    );
    assert_eq!(reply.header("access-control-allow-credentials"), "true");
    for origin in ["https://b.example", "null", "*"] {
        let reply = from(origin).get(CHECK).expect(200);
        assert_eq!(reply.header("access-control-allow-origin"), "", "{origin}");
    }
    let preflight = from("https://a.example")
        .with("access-control-request-headers", "authorization, x-vhost")
        .send("OPTIONS", CHECK, b"")
        .expect(200);
    for (name, value) in [
        ("access-control-max-age", "1800"),
        ("access-control-allow-headers", "authorization, x-vhost"),
        ("access-control-allow-methods", "GET, HEAD, OPTIONS"),
    ] {
        assert_eq!(preflight.header(name), value);
    }

    let node = Node::start_with(|settings| {
        settings.http.cors_allow_origins = vec!["*".to_owned()];
    });
    let reply = node.guest().with("origin", "https://b.example").get(CHECK);
    assert_eq!(reply.header("access-control-allow-origin"), "*");
    assert_eq!(reply.header("access-control-allow-credentials"), "");
}

#[test]
fn a_trailing_slash_is_the_same_resource() {
    let node = Node::start();
    node.guest().get("/api/health/checks/alarms/").expect(200);
    node.guest()
        .get("/api/health/checks/alarms/?x=1")
        .expect(200);
}

#[test]
fn a_path_that_is_no_text_is_a_bad_request() {
    let node = Node::start();
    node.guest().get("/api/aliveness-test/%FF").expect_error(
        400,
        "bad_request",
        "the path or the query is not valid UTF-8",
    );
}

#[test]
fn a_request_that_does_not_end_is_dropped() {
    let node = Node::start_with(|settings| settings.http.header_timeout_ms = 200);
    let mut stream = TcpStream::connect(node.address).unwrap();
    stream
        .write_all(b"GET /api/overview HTTP/1.1\r\nhost:")
        .unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let began = Instant::now();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(150));
    assert_eq!(rest, b"", "{}", String::from_utf8_lossy(&rest));
}

#[test]
fn connections_above_the_limit_are_closed() {
    let node = Node::start_with(|settings| settings.http.connections_max = 1);
    let holder = TcpStream::connect(node.address).unwrap();
    let mut refused = TcpStream::connect(node.address).unwrap();
    refused
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    assert_eq!(refused.read(&mut [0; 16]).unwrap(), 0);
    drop(holder);
    let began = Instant::now();
    // The place is free as soon as the server has noticed.
    loop {
        let mut stream = TcpStream::connect(node.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let sent = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let mut answer = Vec::new();
        if sent.is_ok() && stream.read_to_end(&mut answer).is_ok() && !answer.is_empty() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}
