//! The protocol header (specification 4.2.2): the octets that open a connection.
//!
//! The first octets of a socket go in; out comes whether they are AMQP 0-9-1, and if not, who seems to be calling, in
//! words for the log, and the eight octets to answer before closing. It sends and logs nothing itself.

use std::fmt;

use super::{frame::write_erlang_binary, generated::PROTOCOL_VERSION};

/// Octets in a protocol header.
pub const PROTOCOL_HEADER_BYTES: usize = 8;

/// The header of this protocol, which is also the answer to any other.
///
/// RabbitMQ answers most others with `AMQP\3\1\0\0`, its offer of AMQP 1.0. There is no AMQP 1.0 here, and a client that
/// speaks it would take that answer for a yes; so the specification's answer is given to all.
pub const PROTOCOL_HEADER: [u8; PROTOCOL_HEADER_BYTES] = [
    b'A',
    b'M',
    b'Q',
    b'P',
    0,
    PROTOCOL_VERSION[0],
    PROTOCOL_VERSION[1],
    PROTOCOL_VERSION[2],
];

const AMQP: &[u8] = b"AMQP";

/// A TLS handshake record of any version.
const TLS_CLIENT_HELLO: &[u8] = &[0x16, 0x03];

/// How requests begin, HTTP/2's preface among them.
const HTTP_STARTS: [(&[u8], &str); 10] = [
    (b"GET ", "GET"),
    (b"HEAD ", "HEAD"),
    (b"POST ", "POST"),
    (b"PUT ", "PUT"),
    (b"DELETE ", "DELETE"),
    (b"CONNECT ", "CONNECT"),
    (b"OPTIONS ", "OPTIONS"),
    (b"TRACE ", "TRACE"),
    (b"PATCH ", "PATCH"),
    (b"PRI * HT", "HTTP/2"),
];

/// A header that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolHeader {
    /// `AMQP\0\0\9\1`.
    V0_9_1,
    /// `AMQP\1\1\0\9`: the header of 0-9, which RabbitMQ serves as 0-9-1 (`rabbit_reader.erl`, `version_negotiation`).
    V0_9,
}

/// What the first octets of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderOutcome {
    /// Too few to tell.
    Incomplete,
    /// A header that is served; it takes [`PROTOCOL_HEADER_BYTES`] octets.
    Accepted(ProtocolHeader),
    /// Anything else: answer [`PROTOCOL_HEADER`] and close.
    Refused(HeaderRefusal),
}

/// Who seems to be calling. Displays as the words for the log, which follow RabbitMQ's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderRefusal {
    /// AMQP 1.0, with the protocol identifier it asked for: 0 plain, 2 TLS, 3 SASL.
    Amqp10 {
        /// Protocol identifier.
        protocol_id: u8,
    },
    /// AMQP of another version: the four octets behind the name.
    Version([u8; 4]),
    /// A TLS client on a plain port.
    Tls,
    /// An HTTP request.
    Http {
        /// Its verb.
        verb: &'static str,
    },
    /// None of these.
    NotAmqp {
        /// The first octets, `len` of them.
        octets: [u8; PROTOCOL_HEADER_BYTES],
        /// How many had come when it was clear.
        len: u8,
    },
}

impl ProtocolHeader {
    /// Judges the first octets of a connection, as early as they can be.
    pub fn parse(input: &[u8]) -> HeaderOutcome {
        if let Some(version) = input.strip_prefix(AMQP) {
            return match version.first_chunk() {
                Some(version) => Self::of_version(*version),
                None => HeaderOutcome::Incomplete,
            };
        }
        if input.starts_with(TLS_CLIENT_HELLO) {
            return HeaderOutcome::Refused(HeaderRefusal::Tls);
        }
        if let Some((_, verb)) = HTTP_STARTS.iter().find(|(s, _)| input.starts_with(s)) {
            return HeaderOutcome::Refused(HeaderRefusal::Http { verb });
        }
        let known = HTTP_STARTS.iter().map(|(start, _)| *start);
        let may_become = |start: &[u8]| start.starts_with(input);
        if known.chain([AMQP, TLS_CLIENT_HELLO]).any(may_become) {
            return HeaderOutcome::Incomplete;
        }
        let len = input.len().min(PROTOCOL_HEADER_BYTES);
        let mut octets = [0; PROTOCOL_HEADER_BYTES];
        octets[..len].copy_from_slice(&input[..len]);
        HeaderOutcome::Refused(HeaderRefusal::NotAmqp {
            octets,
            len: len as u8,
        })
    }

    fn of_version(version: [u8; 4]) -> HeaderOutcome {
        match version {
            [0, 0, 9, 1] => HeaderOutcome::Accepted(Self::V0_9_1),
            [1, 1, 0, 9] => HeaderOutcome::Accepted(Self::V0_9),
            [protocol_id, 1, 0, 0] => HeaderOutcome::Refused(HeaderRefusal::Amqp10 { protocol_id }),
            _ => HeaderOutcome::Refused(HeaderRefusal::Version(version)),
        }
    }
}

impl HeaderRefusal {
    /// The octets to send before closing.
    pub const fn answer(&self) -> [u8; PROTOCOL_HEADER_BYTES] {
        PROTOCOL_HEADER
    }
}

impl fmt::Display for HeaderRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amqp10 { protocol_id } => write!(
                f,
                "AMQP 1.0 client (protocol id {protocol_id}) detected; this port serves AMQP 0-9-1 only"
            ),
            Self::Version([a, b, c, d]) => {
                write!(f, "client asked for AMQP version {a}.{b}.{c}.{d}, which is not served")
            }
            Self::Tls => f.write_str(
                "TLS client detected on non-TLS AMQP port. Ensure the client is connecting to the correct port.",
            ),
            Self::Http { verb } => write!(
                f,
                "HTTP {verb} request detected on AMQP port. Ensure the client is connecting to the correct port."
            ),
            Self::NotAmqp { octets, len } => {
                f.write_str("client did not start with AMQP protocol header: ")?;
                write_erlang_binary(f, &octets[..usize::from(*len).min(octets.len())])
            }
        }
    }
}
