//! The stamp at the head of a body: who published it, the how-many-th it is, and when it was to be sent.
//!
//! In and out: octets and numbers. Who reads the stamps and what follows from them is not known here.

/// Octets of a stamp without a time: run, stream, sequence.
pub const SEQUENCE_STAMP_BYTES: usize = 16;

/// Octets of a stamp with a time.
pub const TIME_STAMP_BYTES: usize = 24;

/// What the head of a body says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// A number of the run, so that what an earlier one has left in a queue is not counted.
    pub run: u32,
    /// The stream: messages of one publisher to one queue or exchange.
    pub stream: u32,
    /// The number within the stream, from 0.
    pub sequence: u64,
    /// When it was to be sent, by the clock of the run.
    pub due_ns: u64,
}

impl Stamp {
    /// The octets; a body without a time takes the first [`SEQUENCE_STAMP_BYTES`].
    pub fn to_octets(self) -> [u8; TIME_STAMP_BYTES] {
        let mut octets = [0; TIME_STAMP_BYTES];
        octets[..4].copy_from_slice(&self.run.to_be_bytes());
        octets[4..8].copy_from_slice(&self.stream.to_be_bytes());
        octets[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        octets[16..].copy_from_slice(&self.due_ns.to_be_bytes());
        octets
    }

    /// Reads a stamp; a body that ends before the time has time 0, one that ends before that has no stamp.
    pub fn read(body: &[u8]) -> Option<Self> {
        let (run, rest) = body.split_first_chunk()?;
        let (stream, rest) = rest.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let due = rest.first_chunk().copied().unwrap_or_default();
        Some(Self {
            run: u32::from_be_bytes(*run),
            stream: u32::from_be_bytes(*stream),
            sequence: u64::from_be_bytes(*sequence),
            due_ns: u64::from_be_bytes(due),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let stamp = Stamp {
            run: 1,
            stream: 2,
            sequence: 3 << 40,
            due_ns: 4 << 40,
        };
        let octets = stamp.to_octets();
        assert_eq!(Stamp::read(&octets), Some(stamp));
        let without = Stamp::read(&octets[..SEQUENCE_STAMP_BYTES]);
        assert_eq!(without, Some(Stamp { due_ns: 0, ..stamp }));
        assert_eq!(Stamp::read(&octets[..15]), None);
    }
}
