//! A small AMQP client: one connection, its handshake, calls that await their answer, and the raw way for what is hot.
//!
//! In: an address and methods. Out: answers, and frames borrowed from the read buffer, so that a message costs no
//! allocation. It keeps no state of channels and consumers: who uses it knows what it has opened.

use std::io;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::ClientError;
use super::uri::Uri;
use crate::protocol::frame::{self, Frame, FrameKind};
use crate::protocol::header::PROTOCOL_HEADER;
use crate::protocol::{FieldTable, Method, ShortStr, basic, channel, connection, queue};

/// How long a broker may take for an answer. A durable declare on a slow disk takes some tenths of a second.
const ANSWER_SECONDS_MAX: u64 = 20;

/// The largest frame that is asked for; what RabbitMQ offers.
const FRAME_BYTES_MAX: u32 = 131_072;

/// The read buffer of a new connection. It doubles while reads fill it, so that thousands of idle ones stay small.
const INPUT_BYTES_MIN: usize = 16 * 1024;

/// The largest read buffer: two frames.
const INPUT_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX as usize;

/// A connection that is open.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    address: String,
    input: Vec<u8>,
    /// Octets of `input` that are read and not yet parsed lie between these two.
    start: usize,
    end: usize,
    /// What is encoded and not yet written lies behind `written`.
    output: Vec<u8>,
    written: usize,
    frame_max: u32,
    is_drained: bool,
}

impl Connection {
    /// Connects and logs in, with heartbeats off.
    ///
    /// # Errors
    /// Nobody listens there, the login or the vhost is refused, or it is no AMQP broker.
    pub async fn open(uri: &Uri) -> Result<Self, ClientError> {
        let address = uri.to_string();
        let connecting = TcpStream::connect((&*uri.host, uri.port));
        let stream = match timeout(Duration::from_secs(ANSWER_SECONDS_MAX), connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(ClientError::Connect { address, error }),
            Err(_) => return Err(timed_out(&address, ": connecting")),
        };
        if let Err(error) = stream.set_nodelay(true) {
            return Err(ClientError::Lost { address, error });
        }
        let mut this = Self {
            stream,
            address,
            input: vec![0; INPUT_BYTES_MIN],
            start: 0,
            end: 0,
            output: Vec::new(),
            written: 0,
            frame_max: FRAME_BYTES_MAX,
            is_drained: true,
        };
        this.log_in(uri).await?;
        Ok(this)
    }

    async fn log_in(&mut self, uri: &Uri) -> Result<(), ClientError> {
        self.output.extend_from_slice(&PROTOCOL_HEADER);
        self.answer(0, ": connection.start", |method| {
            matches!(method, Method::ConnectionStart(_)).then_some(())
        })
        .await?;
        let capabilities: FieldTable = [
            ("authentication_failure_close", true),
            ("basic.nack", true),
            ("connection.blocked", true),
            ("consumer_cancel_notify", true),
            ("publisher_confirms", true),
        ]
        .into_iter()
        .collect();
        let mut client = FieldTable::new();
        client.insert("product", "haremq perf");
        client.insert("version", env!("CARGO_PKG_VERSION"));
        client.insert("capabilities", capabilities);
        let client = client.to_encoded();
        let response = ["", &*uri.user, &*uri.password].join("\0");
        let start_ok = connection::StartOk {
            client_properties: client.as_table(),
            mechanism: ShortStr::truncated("PLAIN"),
            response: response.as_bytes(),
            locale: ShortStr::truncated("en_US"),
        };
        let tuned = self
            .call(0, start_ok, |method| match method {
                Method::ConnectionTune(tune) => Some(*tune),
                _ => None,
            })
            .await;
        let tune = tuned.map_err(|error| self.refused_login(uri, error))?;
        self.frame_max = match tune.frame_max {
            0 => FRAME_BYTES_MAX,
            offered => offered.min(FRAME_BYTES_MAX),
        };
        let tune_ok = connection::TuneOk {
            channel_max: tune.channel_max,
            frame_max: self.frame_max,
            heartbeat: 0,
        };
        self.send(0, &tune_ok.into());
        let open = connection::Open {
            virtual_host: ShortStr::truncated(&uri.vhost),
        };
        self.call(0, open, |method| {
            matches!(method, Method::ConnectionOpenOk(_)).then_some(())
        })
        .await
    }

    /// A broker that closes, or just hangs up, after the password has refused it.
    fn refused_login(&self, uri: &Uri, error: ClientError) -> ClientError {
        let text = match error {
            ClientError::Closed { code, text, .. } => format!("{code} {text}"),
            ClientError::Lost { .. } => "it closed the connection".to_owned(),
            other => return other,
        };
        ClientError::Login {
            address: self.address.clone(),
            user: uri.user.clone(),
            text,
        }
    }

    /// Most octets in a frame.
    pub fn frame_max(&self) -> u32 {
        self.frame_max
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub async fn open_channel(&mut self, channel: u16) -> Result<(), ClientError> {
        self.call(channel, channel::Open, |method| {
            matches!(method, Method::ChannelOpenOk(_)).then_some(())
        })
        .await
    }

    /// Declares a queue; gives its name and the messages in it.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub async fn declare(
        &mut self,
        channel: u16,
        declare: queue::Declare<'_>,
    ) -> Result<(String, u32), ClientError> {
        self.call(channel, declare, |method| match method {
            Method::QueueDeclareOk(ok) => {
                Some((ok.queue.to_str_lossy().into_owned(), ok.message_count))
            }
            _ => None,
        })
        .await
    }

    /// Sends a method and awaits its answer, which `expected` recognises.
    ///
    /// # Errors
    /// The broker closes the channel or the connection, answers something else, or does not answer.
    pub async fn call<'m, T>(
        &mut self,
        channel: u16,
        method: impl Into<Method<'m>>,
        expected: impl Fn(&Method<'_>) -> Option<T>,
    ) -> Result<T, ClientError> {
        self.send(channel, &method.into());
        self.answer(channel, "", expected).await
    }

    async fn answer<T>(
        &mut self,
        channel: u16,
        what: &'static str,
        expected: impl Fn(&Method<'_>) -> Option<T>,
    ) -> Result<T, ClientError> {
        let waiting = async {
            loop {
                if let Some(answer) = self.look_for(channel, &expected)? {
                    return Ok(answer);
                }
                self.exchange().await?;
            }
        };
        match timeout(Duration::from_secs(ANSWER_SECONDS_MAX), waiting).await {
            Ok(answer) => answer,
            Err(_) => Err(timed_out(&self.address, what)),
        }
    }

    /// Looks through the frames that have come for an answer on that channel.
    fn look_for<T>(
        &mut self,
        channel: u16,
        expected: impl Fn(&Method<'_>) -> Option<T>,
    ) -> Result<Option<T>, ClientError> {
        loop {
            let (found, length) = {
                let Some((frame, length)) = self.frame()? else {
                    return Ok(None);
                };
                let found = if frame.kind == FrameKind::Method {
                    let method = self.method(&frame)?;
                    if frame.channel == channel {
                        expected(&method)
                    } else {
                        None
                    }
                } else {
                    None
                };
                (found, length)
            };
            self.consume(length);
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// The first frame that is there, and its length for [`Connection::consume`].
    ///
    /// # Errors
    /// What is there is no frame.
    #[inline]
    pub fn frame(&self) -> Result<Option<(Frame<'_>, usize)>, ClientError> {
        let input = &self.input[self.start..self.end];
        frame::parse(input, self.frame_max - frame::FRAME_OVERHEAD_BYTES)
            .map_err(|error| self.unexpected(error.to_string()))
    }

    /// Drops the first octets of what is there.
    #[inline]
    pub fn consume(&mut self, length: usize) {
        self.start += length;
    }

    /// The method of a frame; a close by the broker is an error.
    ///
    /// # Errors
    /// It is a close or no method.
    pub fn method<'a>(&self, frame: &Frame<'a>) -> Result<Method<'a>, ClientError> {
        let method = Method::parse(frame.payload).map_err(|error| {
            self.unexpected(format!("a method that cannot be read ({error:?})"))
        })?;
        let (scope, code, text) = match &method {
            Method::ConnectionClose(close) => ("connection", close.reply_code, close.reply_text),
            Method::ChannelClose(close) => ("channel", close.reply_code, close.reply_text),
            _ => return Ok(method),
        };
        Err(ClientError::Closed {
            scope,
            code,
            text: text.to_str_lossy().into_owned(),
        })
    }

    /// The error for something that may not come.
    pub fn unexpected(&self, what: String) -> ClientError {
        ClientError::Protocol {
            address: self.address.clone(),
            what,
        }
    }

    /// Encodes a method into the output; it goes with the next [`Connection::try_flush`].
    pub fn send(&mut self, channel: u16, method: &Method<'_>) {
        frame::write_method(&mut self.output, channel, method);
    }

    /// Octets that wait for being written.
    #[inline]
    pub fn unwritten(&self) -> usize {
        self.output.len() - self.written
    }

    /// Writes what waits, as far as the socket takes it.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn try_flush(&mut self) -> Result<(), ClientError> {
        while self.written < self.output.len() {
            match self.stream.try_write(&self.output[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(self.lost(error)),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }

    /// Writes octets that are framed already, once; `None` when the socket takes none now.
    ///
    /// # Errors
    /// The connection is lost.
    #[inline]
    pub fn try_write(&self, octets: &[u8]) -> Result<Option<usize>, ClientError> {
        match self.stream.try_write(octets) {
            Ok(written) => Ok(Some(written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(self.lost(error)),
        }
    }

    /// Reads once; whether something came.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn try_fill(&mut self) -> Result<bool, ClientError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 && self.input.len() - self.end < self.input.len() / 2 {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let (stream, free) = (&self.stream, &mut self.input[self.end..]);
        let mut read = 0;
        let outcome = stream.try_io(Interest::READABLE, || {
            read = rustix::io::read(stream, &mut *free)?;
            if 0 < read && read < free.len() {
                // A short read has emptied the socket. Saying so here spares the read that would find it empty, as the
                // runtime's own reading does.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        self.is_drained = read < free.len();
        self.end += read;
        if !self.is_drained && self.input.len() < INPUT_BYTES_MAX {
            self.input.resize(self.input.len() * 2, 0);
        }
        match outcome {
            _ if read > 0 => Ok(true),
            Ok(()) => Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(self.lost(error)),
        }
    }

    /// Whether the last read has left nothing behind, as far as is known.
    pub fn is_drained(&self) -> bool {
        self.is_drained
    }

    /// Waits until there is something to read, or, if asked for or if output waits, until the socket takes more.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn ready(&self, wants_to_write: bool) -> Result<(), ClientError> {
        let interest = if wants_to_write || self.unwritten() > 0 {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        match self.stream.ready(interest).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.lost(error)),
        }
    }

    /// Writes what waits and reads what comes, once.
    async fn exchange(&mut self) -> Result<(), ClientError> {
        loop {
            self.try_flush()?;
            if self.try_fill()? {
                return Ok(());
            }
            self.ready(false).await?;
        }
    }

    /// Closes in order, so that the broker has taken all that was sent. What comes before the answer is dropped.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub async fn close(mut self) -> Result<(), ClientError> {
        let close = connection::Close {
            reply_code: 200,
            reply_text: ShortStr::truncated("done"),
            class_id: 0,
            method_id: 0,
        };
        self.call(0, close, |method| {
            matches!(method, Method::ConnectionCloseOk(_)).then_some(())
        })
        .await
    }

    fn lost(&self, error: io::Error) -> ClientError {
        ClientError::Lost {
            address: self.address.clone(),
            error,
        }
    }
}

fn timed_out(address: &str, what: &'static str) -> ClientError {
    ClientError::Timeout {
        address: address.to_owned(),
        seconds: ANSWER_SECONDS_MAX,
        what,
    }
}

/// The delivery tag and the consumer tag of a basic.deliver, or `None` for another method. The fields are taken from
/// their places, because checking the names of each of a million deliveries would cost more than the rest.
#[inline]
pub fn delivery<'a>(frame: &Frame<'a>) -> Option<(u64, bool, &'a [u8])> {
    const DELIVER: [u8; 4] = {
        let [class_high, class_low] = basic::CLASS_ID.to_be_bytes();
        let [method_high, method_low] = basic::Deliver::METHOD_ID.to_be_bytes();
        [class_high, class_low, method_high, method_low]
    };
    let (tag_bytes, rest) = frame.payload.strip_prefix(&DELIVER)?.split_first()?;
    let (consumer_tag, rest) = rest.split_at_checked(usize::from(*tag_bytes))?;
    let (delivery_tag, rest) = rest.split_first_chunk()?;
    let redelivered = rest.first()? & 1 == 1;
    Some((u64::from_be_bytes(*delivery_tag), redelivered, consumer_tag))
}

/// The octets of body that a content header announces.
#[inline]
pub fn body_bytes(frame: &Frame<'_>) -> Option<u64> {
    let announced = frame.payload.get(4..12)?.first_chunk()?;
    Some(u64::from_be_bytes(*announced))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_and_its_body_are_read_in_place() {
        let deliver = basic::Deliver {
            consumer_tag: ShortStr::truncated("17"),
            delivery_tag: 1 << 40,
            redelivered: true,
            exchange: ShortStr::truncated("x"),
            routing_key: ShortStr::truncated("key"),
        };
        let mut octets = Vec::new();
        frame::write_method(&mut octets, 1, &deliver.into());
        let (parsed, length) = frame::parse(&octets, 4096).unwrap().unwrap();
        assert_eq!(delivery(&parsed), Some((1 << 40, true, &b"17"[..])));
        for end in 0..length - 10 {
            let payload = parsed.payload.get(..end).unwrap();
            let cut = Frame { payload, ..parsed };
            assert!(delivery(&cut).is_none() || end > 15);
        }
        octets.clear();
        frame::write_content_header(&mut octets, 1, 77, &[0, 0]);
        let (parsed, _) = frame::parse(&octets, 4096).unwrap().unwrap();
        assert_eq!(body_bytes(&parsed), Some(77));
        assert_eq!(delivery(&parsed), None);
    }
}
