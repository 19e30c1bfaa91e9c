//! The node's alarms: too little memory, too little disk. While one is on, publishers are not read.
//!
//! An alarm goes on when the watermark is passed and off only when the use has fallen below it by the
//! hysteresis, so that it does not flap (RabbitMQ's document "Memory and Disk Alarms"). A journal without room for its next
//! file is a disk alarm, too, until there is room for several, or there has been room for a while. Readings come in as numbers;
//! who takes them is not known here.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

const MEMORY: u8 = 1;
const DISK: u8 = 2;
/// The journal has no room; told as [`DISK`].
const JOURNAL: u8 = 4;

/// The journal's alarm goes off when there is free space for as many of its files.
const JOURNAL_FILES_FREE: u64 = 2;

/// Or when it has had room for so long, on a disk where there is never more.
const JOURNAL_ROOMY_TIME: Duration = Duration::from_secs(10);

/// Which alarms are on.
#[derive(Debug, Default)]
pub struct Alarms {
    state: AtomicU8,
}

/// What the last look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmReading {
    /// Bytes of memory in use.
    pub memory_used_bytes: u64,
    /// Bytes of memory above which the alarm goes on.
    pub memory_limit_bytes: u64,
    /// Bytes of disk that are free; `None` when the disk cannot be asked.
    pub disk_free_bytes: Option<u64>,
    /// Bytes of free disk below which the alarm goes on.
    pub disk_limit_bytes: u64,
    /// For how long the journal has had room for its next file; `None` when it has none.
    pub journal_roomy_for: Option<Duration>,
    /// Bytes of a journal file.
    pub journal_file_bytes: u64,
    /// Per cent of the limits that must be regained before an alarm goes off.
    pub hysteresis_percent: u8,
}

impl Alarms {
    /// The reason in `connection.blocked`, `None` when no alarm is on (`rabbit_reader.erl`).
    pub fn reason(&self) -> Option<&'static str> {
        match self.state.load(Ordering::Acquire) {
            0 => None,
            MEMORY => Some("low on memory"),
            state if state & MEMORY == 0 => Some("low on disk"),
            _ => Some("low on memory & disk"),
        }
    }

    /// Whether the memory alarm is on.
    pub fn is_memory_low(&self) -> bool {
        self.state.load(Ordering::Acquire) & MEMORY != 0
    }

    /// Whether the disk alarm is on.
    pub fn is_disk_low(&self) -> bool {
        self.state.load(Ordering::Acquire) & (DISK | JOURNAL) != 0
    }

    /// Judges a reading; `true` when an alarm went on or off.
    pub fn judge(&self, reading: &AlarmReading) -> bool {
        let before = self.state.load(Ordering::Acquire);
        let margin =
            |limit: u64| (u128::from(limit) * u128::from(reading.hysteresis_percent) / 100) as u64;
        let memory_limit = if before & MEMORY == 0 {
            reading.memory_limit_bytes
        } else {
            reading
                .memory_limit_bytes
                .saturating_sub(margin(reading.memory_limit_bytes))
        };
        let disk_limit = if before & DISK == 0 {
            reading.disk_limit_bytes
        } else {
            reading
                .disk_limit_bytes
                .saturating_add(margin(reading.disk_limit_bytes))
        };
        let mut after = 0;
        if reading.memory_used_bytes > memory_limit {
            after |= MEMORY;
        }
        if reading
            .disk_free_bytes
            .is_some_and(|free| free < disk_limit)
        {
            after |= DISK;
        }
        if is_journal_short(reading, before & JOURNAL != 0) {
            after |= JOURNAL;
        }
        let told_before = self.reason();
        self.state.store(after, Ordering::Release);
        self.reason() != told_before
    }
}

fn is_journal_short(reading: &AlarmReading, was_short: bool) -> bool {
    let Some(roomy_for) = reading.journal_roomy_for else {
        return true;
    };
    let room = JOURNAL_FILES_FREE.saturating_mul(reading.journal_file_bytes);
    let has_room = reading.disk_free_bytes.is_some_and(|free| free >= room);
    was_short && !has_room && roomy_for < JOURNAL_ROOMY_TIME
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(memory_used_bytes: u64, disk_free_bytes: u64) -> AlarmReading {
        AlarmReading {
            memory_used_bytes,
            memory_limit_bytes: 1000,
            disk_free_bytes: Some(disk_free_bytes),
            disk_limit_bytes: 100,
            journal_roomy_for: Some(Duration::MAX),
            journal_file_bytes: 500,
            hysteresis_percent: 10,
        }
    }

    #[test]
    fn an_alarm_goes_off_only_below_the_hysteresis() {
        let alarms = Alarms::default();
        assert!(!alarms.judge(&reading(1000, 100)));
        assert!(alarms.judge(&reading(1001, 100)));
        assert_eq!(alarms.reason(), Some("low on memory"));
        assert!(!alarms.judge(&reading(950, 100)));
        assert!(alarms.judge(&reading(900, 100)));
        assert_eq!(alarms.reason(), None);
        assert!(alarms.judge(&reading(0, 99)));
        assert_eq!(alarms.reason(), Some("low on disk"));
        assert!(!alarms.judge(&reading(0, 109)));
        assert!(alarms.judge(&reading(1001, 109)));
        assert_eq!(alarms.reason(), Some("low on memory & disk"));
        assert!(alarms.judge(&reading(0, 110)));
        assert_eq!(alarms.reason(), None);
    }

    #[test]
    fn a_journal_without_room_is_a_disk_alarm_whatever_the_limit_says() {
        let alarms = Alarms::default();
        let full = AlarmReading {
            journal_roomy_for: None,
            ..reading(0, 1_000_000)
        };
        assert!(alarms.judge(&full));
        assert_eq!(alarms.reason(), Some("low on disk"));
        assert!(alarms.is_disk_low());
        assert!(alarms.judge(&reading(0, 1_000_000)));
        assert_eq!(alarms.reason(), None);
    }

    #[test]
    fn the_journals_alarm_goes_off_when_there_is_much_room_or_has_been_some_for_a_while() {
        let alarms = Alarms::default();
        let roomy = |disk_free_bytes, seconds| AlarmReading {
            journal_roomy_for: Some(Duration::from_secs(seconds)),
            ..reading(0, disk_free_bytes)
        };
        let full = AlarmReading {
            journal_roomy_for: None,
            ..reading(0, 900)
        };
        assert!(!alarms.judge(&roomy(900, 0)), "it was not on");
        assert!(alarms.judge(&full));
        assert!(!alarms.judge(&roomy(900, 0)));
        assert!(!alarms.judge(&roomy(900, 9)));
        assert!(alarms.judge(&roomy(900, 10)));
        assert!(alarms.judge(&full));
        assert!(alarms.judge(&roomy(1000, 0)));
        // Another alarm of the disk does not tell it again.
        assert!(alarms.judge(&full));
        assert!(!alarms.judge(&reading(0, 10)));
        assert!(!alarms.judge(&full));
        assert!(alarms.judge(&roomy(1000, 0)));
        assert_eq!(alarms.reason(), None);
    }
}
