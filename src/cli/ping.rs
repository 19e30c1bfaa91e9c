//! The health check: does somebody speak AMQP 0-9-1 at this address?
//!
//! In: an address and a time limit. Out: nothing, or the [`Failure`] in words. It sends the protocol
//! header and reads the start of the answer; it does not log in, so it needs no password and is no
//! login in the broker's log.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::exit::{Exit, Failure};

/// The protocol header of AMQP 0-9-1 (specification 4.2.2).
const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";

/// A method frame's type, channel 0, four octets of size, class 10 (connection), method 10 (start).
const GREETING_BYTES: usize = 11;

/// Asks the broker at `address` for its greeting.
///
/// # Errors
/// [`Exit::Unavailable`] when nobody answers within `timeout`, or with something else than
/// connection.start.
pub fn run(address: SocketAddr, timeout: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + timeout;
    let greeting = greeting(address, deadline).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("no answer within {} ms", timeout.as_millis())
            }
            io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
            _ => error.to_string(),
        };
        Failure::new(
            Exit::Unavailable,
            format!("no broker answers at {address}: {why}; is haremq running there?"),
        )
    })?;
    if is_connection_start(&greeting) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Unavailable,
        format!("what answers at {address} does not speak AMQP 0-9-1; is the port right?"),
    ))
}

fn greeting(address: SocketAddr, deadline: Instant) -> io::Result<[u8; GREETING_BYTES]> {
    let mut socket = TcpStream::connect_timeout(&address, left(deadline)?)?;
    socket.set_write_timeout(Some(left(deadline)?))?;
    socket.write_all(PROTOCOL_HEADER)?;
    let mut greeting = [0; GREETING_BYTES];
    let mut filled = 0;
    while filled < GREETING_BYTES {
        socket.set_read_timeout(Some(left(deadline)?))?;
        match socket.read(&mut greeting[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(greeting)
}

/// The time that is left, or the error of a time limit.
fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

fn is_connection_start(greeting: &[u8; GREETING_BYTES]) -> bool {
    matches!(greeting, [1, 0, 0, _, _, _, _, 0, 10, 0, 10])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A peer that reads the header, answers so, and closes.
    fn answering(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut header = [0; 8];
            socket.read_exact(&mut header).unwrap();
            assert_eq!(&header, PROTOCOL_HEADER);
            socket.write_all(answer).unwrap();
        });
        address
    }

    fn refused(address: SocketAddr, timeout: Duration) -> String {
        let failure = run(address, timeout).unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable);
        failure.message
    }

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn connection_start_is_a_healthy_answer() {
        let address = answering(&[1, 0, 0, 0, 0, 1, 0, 0, 10, 0, 10, 0, 9]);
        assert_eq!(run(address, LONG), Ok(()));
    }

    #[test]
    fn another_answer_is_none() {
        let message = refused(answering(b"HTTP/1.1 400 Bad Request\r\n"), LONG);
        assert!(message.contains("does not speak AMQP 0-9-1"), "{message}");
    }

    #[test]
    fn a_closed_connection_and_a_closed_port_are_told() {
        let message = refused(answering(b"AMQP"), LONG);
        assert!(message.contains("it closed the connection"), "{message}");
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let message = refused(free, LONG);
        assert!(message.contains("is haremq running there?"), "{message}");
    }

    #[test]
    fn silence_ends_at_the_time_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let message = refused(listener.local_addr().unwrap(), Duration::from_millis(50));
        assert!(message.contains("no answer within 50 ms"), "{message}");
    }
}
