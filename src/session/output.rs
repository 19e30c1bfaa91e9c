//! The bytes that wait for the socket: frames are appended at the end, the shell takes them from the front.
//!
//! It counts how much of what waits are answers to the client's own requests, because those alone may stop the reading of
//! its socket. It does not know frames.

use std::collections::VecDeque;

/// Capacity that a drained buffer may keep; more is given back at once.
const KEPT_BYTES_MAX: usize = 256 * 1024;

/// Sent octets at the front above which the rest is moved down, if it is the smaller part.
const MOVE_BYTES_MIN: usize = 64 * 1024;

/// Answers that share one mark, so that a mark costs nothing beside what it marks.
const MARK_BYTES: usize = 4096;

/// Bytes to send.
#[derive(Debug, Default)]
pub struct Output {
    buffer: Vec<u8>,
    /// Octets at the front of `buffer` that are sent.
    sent: usize,
    /// Octets sent since the beginning.
    sent_total: u64,
    /// Where answers end in the stream, and how many octets of answers each mark stands for.
    marks: VecDeque<Mark>,
    reply_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    end: u64,
    bytes: usize,
}

impl Output {
    /// What to send next.
    pub fn as_slice(&self) -> &[u8] {
        &self.buffer[self.sent..]
    }

    /// Octets that wait.
    pub fn len(&self) -> usize {
        self.buffer.len() - self.sent
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes `sent` octets from the front; a partial write costs next to nothing.
    pub fn advance(&mut self, sent: usize) {
        let sent = sent.min(self.len());
        self.sent += sent;
        self.sent_total += sent as u64;
        while let Some(mark) = self.marks.front()
            && mark.end <= self.sent_total
        {
            self.reply_bytes -= mark.bytes;
            self.marks.pop_front();
        }
        if self.sent == self.buffer.len() {
            self.sent = 0;
            self.buffer.clear();
            if self.buffer.capacity() > KEPT_BYTES_MAX {
                self.buffer = Vec::new();
            }
        } else if self.sent >= MOVE_BYTES_MIN && self.sent > self.buffer.len() / 2 {
            self.buffer.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Octets sent since the beginning, for whoever wants to know whether the socket moves.
    pub(super) fn sent_total(&self) -> u64 {
        self.sent_total
    }

    /// Octets of answers that wait.
    pub(super) fn reply_bytes(&self) -> usize {
        self.reply_bytes
    }

    /// The end of the buffer, for what the client did not ask for one by one: deliveries, heartbeats, closes.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Lets `write` append an answer, and counts it.
    pub(super) fn reply(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.buffer.len();
        write(&mut self.buffer);
        let bytes = self.buffer.len() - before;
        let end = self.sent_total + self.len() as u64;
        self.reply_bytes += bytes;
        match self.marks.back_mut() {
            Some(last) if last.bytes < MARK_BYTES => {
                last.end = end;
                last.bytes += bytes;
            }
            _ => self.marks.push_back(Mark { end, bytes }),
        }
    }

    /// Gives all capacity back that nothing needs.
    pub(super) fn release(&mut self) {
        if self.is_empty() {
            self.buffer = Vec::new();
            self.sent = 0;
            self.marks = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_writes_take_from_the_front() {
        let mut output = Output::default();
        output.buffer().extend_from_slice(b"abcdef");
        output.advance(2);
        output.buffer().extend_from_slice(b"gh");
        assert_eq!(output.as_slice(), b"cdefgh");
        output.advance(6);
        assert!(output.is_empty());
        assert_eq!(output.sent_total(), 8);
    }

    #[test]
    fn only_answers_count_and_only_until_sent() {
        let mut output = Output::default();
        output.buffer().extend_from_slice(&[0; 10]);
        output.reply(|out| out.extend_from_slice(&[1; 5]));
        output.buffer().extend_from_slice(&[0; 10]);
        assert_eq!(output.reply_bytes(), 5);
        output.advance(14);
        assert_eq!(output.reply_bytes(), 5);
        output.advance(1);
        assert_eq!(output.reply_bytes(), 0);
        assert_eq!(output.len(), 10);
    }

    #[test]
    fn marks_stay_few() {
        let mut output = Output::default();
        for _ in 0..10_000 {
            output.reply(|out| out.extend_from_slice(&[1; 20]));
        }
        assert_eq!(output.reply_bytes(), 200_000);
        assert!(output.marks.len() <= 50);
        output.advance(200_000);
        assert_eq!(output.reply_bytes(), 0);
        assert!(output.marks.is_empty());
    }

    #[test]
    fn a_large_drained_buffer_is_given_back() {
        let mut output = Output::default();
        output
            .buffer()
            .extend_from_slice(&vec![0; 2 * KEPT_BYTES_MAX]);
        output.advance(2 * KEPT_BYTES_MAX - 1);
        assert!(output.buffer.capacity() > 0);
        output.advance(1);
        assert_eq!(output.buffer.capacity(), 0);
        output.buffer().push(1);
        output.advance(1);
        output.release();
        assert_eq!(output.buffer.capacity(), 0);
    }
}
