//! A message in one queue: held in memory, or only in the queue's log.
//!
//! In: positions, messages, counts. Out: the same, small. It knows no order and no rule.

use crate::model::{Position, SharedMessage, WallMs};

/// When an entry expires, in wall milliseconds; [`Deadline::NEVER`] if it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub WallMs);

impl Deadline {
    /// No expiry. It is the greatest, so that the minimum of several deadlines is right by itself.
    pub const NEVER: Self = Self(WallMs::MAX);

    /// Whether the time has come.
    pub const fn has_passed(self, now_ms: WallMs) -> bool {
        self.0 <= now_ms
    }
}

/// How often a message was handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Times that it was handed out: it is redelivered if this is not 0.
    pub acquired: u32,
    /// Failed deliveries among them (quorum queues only).
    pub failed: u32,
}

/// Failed deliveries and two facts, in four bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(u32);

impl Marks {
    const IS_LOGGED: u32 = 1 << 31;
    const MAY_EXPIRE: u32 = 1 << 30;
    const FAILED_MAX: u32 = Self::MAY_EXPIRE - 1;

    /// No failed delivery yet.
    pub fn new(is_logged: bool, may_expire: bool) -> Self {
        let logged = if is_logged { Self::IS_LOGGED } else { 0 };
        let expires = if may_expire { Self::MAY_EXPIRE } else { 0 };
        Self(logged | expires)
    }

    /// The same facts with this number of failed deliveries.
    #[must_use]
    pub fn with_failed(self, failed: u32) -> Self {
        Self((self.0 & !Self::FAILED_MAX) | failed.min(Self::FAILED_MAX))
    }

    /// Whether the queue's log has it.
    pub const fn is_logged(self) -> bool {
        self.0 & Self::IS_LOGGED != 0
    }

    /// Whether it has a deadline.
    pub const fn may_expire(self) -> bool {
        self.0 & Self::MAY_EXPIRE != 0
    }

    /// Failed deliveries.
    pub const fn failed(self) -> u32 {
        self.0 & Self::FAILED_MAX
    }
}

/// A message in one queue, in memory. It is 32 bytes, whatever the message weighs.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place.
    pub position: Position,
    /// The message.
    pub message: SharedMessage,
    /// When it expires; kept through redelivery.
    pub deadline: Deadline,
    acquired: u32,
    marks: Marks,
}

impl Entry {
    /// A message that was not handed out yet.
    pub fn new(
        position: Position,
        message: SharedMessage,
        deadline: Deadline,
        is_logged: bool,
    ) -> Self {
        Self {
            position,
            message,
            deadline,
            acquired: 0,
            marks: Marks::new(is_logged, deadline != Deadline::NEVER),
        }
    }

    /// The same with its history.
    #[must_use]
    pub fn with_attempts(mut self, attempts: Attempts) -> Self {
        self.acquired = attempts.acquired;
        self.marks = self.marks.with_failed(attempts.failed);
        self
    }

    /// Bytes of its body.
    pub fn body_bytes(&self) -> u64 {
        self.message.body_bytes() as u64
    }

    /// Bytes that it costs to hold.
    pub fn cost_bytes(&self) -> u64 {
        self.message.cost_bytes() as u64
    }

    /// Whether the queue's log has it.
    pub fn is_logged(&self) -> bool {
        self.marks.is_logged()
    }

    /// How often it was handed out.
    pub fn attempts(&self) -> Attempts {
        Attempts {
            acquired: self.acquired,
            failed: self.marks.failed(),
        }
    }

    /// What is left of it when the log alone keeps the message.
    pub fn stub(&self) -> Stub {
        Stub {
            position: self.position,
            body_bytes: u32::try_from(self.message.body_bytes()).unwrap_or(u32::MAX),
            acquired: self.acquired,
            marks: self.marks,
        }
    }
}

/// A message in one queue that only the log has.
#[derive(Clone, Copy, Debug)]
pub struct Stub {
    /// Its place.
    pub position: Position,
    /// Bytes of its body.
    pub body_bytes: u32,
    /// Times that it was handed out.
    pub acquired: u32,
    /// Failed deliveries, and whether it may expire.
    pub marks: Marks,
}

impl Stub {
    /// How often it was handed out.
    pub fn attempts(&self) -> Attempts {
        Attempts {
            acquired: self.acquired,
            failed: self.marks.failed(),
        }
    }
}

/// A message in one queue, wherever it is kept.
#[derive(Clone, Debug)]
pub enum Item {
    /// In memory.
    Hot(Entry),
    /// In the log alone.
    Cold(Stub),
}

impl Item {
    /// Its place.
    pub fn position(&self) -> Position {
        match self {
            Self::Hot(entry) => entry.position,
            Self::Cold(stub) => stub.position,
        }
    }

    /// Bytes of its body.
    pub fn body_bytes(&self) -> u64 {
        match self {
            Self::Hot(entry) => entry.body_bytes(),
            Self::Cold(stub) => u64::from(stub.body_bytes),
        }
    }

    /// Bytes of memory that the message itself takes.
    pub fn hot_bytes(&self) -> u64 {
        match self {
            Self::Hot(entry) => entry.cost_bytes(),
            Self::Cold(_) => 0,
        }
    }

    /// Whether the queue's log has it.
    pub fn is_logged(&self) -> bool {
        match self {
            Self::Hot(entry) => entry.is_logged(),
            Self::Cold(_) => true,
        }
    }

    /// How often it was handed out.
    pub fn attempts(&self) -> Attempts {
        match self {
            Self::Hot(entry) => entry.attempts(),
            Self::Cold(stub) => stub.attempts(),
        }
    }

    /// Counts a hand-out.
    pub fn count_hand_out(&mut self) {
        let (Self::Hot(Entry { acquired, .. }) | Self::Cold(Stub { acquired, .. })) = self;
        *acquired = acquired.saturating_add(1);
    }

    /// Counts a failed delivery.
    pub fn count_failure(&mut self) {
        let (Self::Hot(Entry { marks, .. }) | Self::Cold(Stub { marks, .. })) = self;
        *marks = marks.with_failed(marks.failed() + 1);
    }

    /// The message, if it is in memory.
    pub fn into_message(self) -> Option<SharedMessage> {
        match self {
            Self::Hot(entry) => Some(entry.message),
            Self::Cold(_) => None,
        }
    }

    /// Leaves a logged message to the log; returns what was in memory.
    pub fn shed(&mut self) -> Option<SharedMessage> {
        let stub = match self {
            Self::Hot(entry) if entry.is_logged() => entry.stub(),
            Self::Hot(_) | Self::Cold(_) => return None,
        };
        std::mem::replace(self, Self::Cold(stub)).into_message()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_keep_their_parts_apart_and_the_count_saturates() {
        for (is_logged, may_expire) in [(false, false), (true, false), (false, true), (true, true)]
        {
            let marks = Marks::new(is_logged, may_expire);
            for failed in [0, 1, 1 << 29, u32::MAX] {
                let counted = marks.with_failed(failed);
                assert_eq!(counted.failed(), failed.min((1 << 30) - 1));
                assert_eq!(counted.is_logged(), is_logged);
                assert_eq!(counted.may_expire(), may_expire);
            }
        }
    }

    #[test]
    fn sizes_are_what_a_backlog_is_planned_with() {
        assert!(size_of::<Entry>() <= 32);
        assert!(size_of::<Stub>() <= 24);
        assert!(size_of::<Item>() <= 40);
    }
}
