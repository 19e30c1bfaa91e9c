//! The protocol header: a table of openings, each also octet by octet.

use crate::protocol::{
    HeaderOutcome::{self, Accepted, Incomplete, Refused},
    HeaderRefusal, ProtocolHeader,
    header::PROTOCOL_HEADER,
};

/// The outcome for the whole input, and that every shorter input says the same or waits for more.
fn check(input: &[u8], expected: HeaderOutcome) {
    assert_eq!(ProtocolHeader::parse(input), expected, "{input:?}");
    let mut decided = false;
    for end in 0..=input.len() {
        let outcome = ProtocolHeader::parse(&input[..end]);
        assert!(
            !decided || outcome != Incomplete,
            "{input:?} fell back at {end}"
        );
        decided |= outcome != Incomplete;
    }
}

#[test]
fn served() {
    check(b"AMQP\0\0\x09\x01", Accepted(ProtocolHeader::V0_9_1));
    check(b"AMQP\x01\x01\0\x09", Accepted(ProtocolHeader::V0_9));
    check(
        b"AMQP\0\0\x09\x01\x01\0\0",
        Accepted(ProtocolHeader::V0_9_1),
    );
}

#[test]
fn refused() {
    let amqp10 = |protocol_id| Refused(HeaderRefusal::Amqp10 { protocol_id });
    check(b"AMQP\0\x01\0\0", amqp10(0));
    check(b"AMQP\x02\x01\0\0", amqp10(2));
    check(b"AMQP\x03\x01\0\0", amqp10(3));
    for version in [
        [0, 0, 8, 0],
        [0, 0, 9, 0],
        [0, 0, 10, 0],
        [1, 1, 8, 0],
        [9; 4],
    ] {
        let input = [b"AMQP".as_slice(), &version].concat();
        check(&input, Refused(HeaderRefusal::Version(version)));
    }
    check(b"\x16\x03\x01\0\xa5\x01\0\0", Refused(HeaderRefusal::Tls));
    for (request, verb) in [
        ("GET / HTTP/1.1\r\n", "GET"),
        ("POST /api", "POST"),
        ("PUT /", "PUT"),
        ("PATCH /", "PATCH"),
        ("DELETE /", "DELETE"),
        ("OPTIONS *", "OPTIONS"),
        ("HEAD /", "HEAD"),
        ("TRACE /", "TRACE"),
        ("CONNECT host:1", "CONNECT"),
        ("PRI * HTTP/2.0\r\n", "HTTP/2"),
    ] {
        check(request.as_bytes(), Refused(HeaderRefusal::Http { verb }));
    }
    check(
        b"SSH-2.0-OpenSSH",
        Refused(HeaderRefusal::NotAmqp {
            octets: *b"SSH-2.0-",
            len: 8,
        }),
    );
    check(
        b"GEX",
        Refused(HeaderRefusal::NotAmqp {
            octets: *b"GEX\0\0\0\0\0",
            len: 3,
        }),
    );
}

#[test]
fn waits_while_it_may_become_something() {
    for input in [
        "",
        "A",
        "AMQP",
        "AMQP\0\0\x09",
        "G",
        "GET",
        "P",
        "CONN",
        "\x16",
    ] {
        assert_eq!(
            ProtocolHeader::parse(input.as_bytes()),
            Incomplete,
            "{input:?}"
        );
    }
}

#[test]
fn refusals_speak_in_words_and_answer_with_our_version() {
    assert_eq!(
        HeaderRefusal::Http { verb: "GET" }.to_string(),
        "HTTP GET request detected on AMQP port. Ensure the client is connecting to the correct port."
    );
    assert_eq!(
        HeaderRefusal::NotAmqp {
            octets: *b"\x10\x0f\0\0\0\0\0\0",
            len: 2
        }
        .to_string(),
        "client did not start with AMQP protocol header: <<16,15>>"
    );
    assert_eq!(
        HeaderRefusal::Version([0, 0, 8, 0]).answer(),
        *b"AMQP\0\0\x09\x01"
    );
    assert_eq!(PROTOCOL_HEADER, *b"AMQP\0\0\x09\x01");
}
