//! A client of HTTP/1.1 with a connection a request: what it sends is what stands in the test.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// How long a test waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Somebody who asks.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    headers: Vec<(String, String)>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// By names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {self:?} {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header, or the empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Checks the status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// Checks status and the two fields of an error.
    #[track_caller]
    pub fn expect_error(self, status: u16, error: &str, reason: &str) -> Self {
        let body = self.json();
        assert_eq!(
            (self.status, &body),
            (
                status,
                &serde_json::json!({"error": error, "reason": reason})
            )
        );
        self
    }

    /// Checks that an object or a route was not found.
    #[track_caller]
    pub fn expect_not_found(self) -> Self {
        self.expect_error(404, "Object Not Found", "Not Found")
    }
}

impl Client {
    pub fn new(address: SocketAddr, login: Option<&str>) -> Self {
        let client = Self {
            address,
            headers: Vec::new(),
        };
        match login {
            Some(login) => client.with(
                "authorization",
                &format!("Basic {}", STANDARD.encode(login)),
            ),
            None => client,
        }
    }

    /// The same client with another header.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name.to_owned(), value.to_owned()));
        client
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[])
    }

    pub fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, &[])
    }

    pub fn put(&self, path: &str, body: Value) -> Reply {
        self.send("PUT", path, body.to_string().as_bytes())
    }

    pub fn post(&self, path: &str, body: Value) -> Reply {
        self.send("POST", path, body.to_string().as_bytes())
    }

    /// Sends a request with any body.
    pub fn send(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || matches!(method, "PUT" | "POST") {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.send_bytes(&bytes, method == "HEAD")
    }

    /// Sends bytes and reads one answer.
    pub fn send_bytes(&self, bytes: &[u8], has_no_body: bool) -> Reply {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // A server that refuses early may have closed before all was written.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let mut piece = [0; 64 * 1024];
        loop {
            match stream.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => answer.extend_from_slice(&piece[..length]),
                // A refused body was not read by the server, which then resets after its answer.
                Err(_) if !answer.is_empty() => break,
                Err(error) => panic!("no answer: {error}"),
            }
        }
        parse(&answer, has_no_body)
    }
}

fn parse(answer: &[u8], has_no_body: bool) -> Reply {
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no head: {}", String::from_utf8_lossy(answer)));
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let headers: BTreeMap<String, String> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let rest = &answer[end + 4..];
    let is_chunked = headers
        .get("transfer-encoding")
        .is_some_and(|coding| coding == "chunked");
    let body = match headers.get("content-length") {
        _ if has_no_body => Vec::new(),
        Some(length) => rest[..length.parse().unwrap()].to_vec(),
        None if is_chunked => unchunked(rest),
        None => rest.to_vec(),
    };
    Reply {
        status: status.parse().unwrap(),
        headers,
        body,
    }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = rest
            .windows(2)
            .position(|window| window == b"\r\n")
            .expect("a chunk's size");
        let size = std::str::from_utf8(&rest[..line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[line + 2..][..size]);
        rest = &rest[line + 2 + size + 2..];
    }
}
