//! Intended send times, and an alarm that rings at them.
//!
//! In: a rate and the clock of the run. Out: when a message is due and how many are. The schedule is fixed before the
//! run and never shifts when the broker is slow: that is what makes the load open (see docs/perf.md). What is sent is
//! not known here.

use std::io;
use std::time::{Duration, Instant};

/// Nanoseconds since the beginning of the run's preparation; the same for all its connections.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time.
    #[inline]
    pub fn now_ns(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// The schedule of one of several publishers that share a rate. Their messages alternate evenly.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    interval_ns: f64,
    offset_ns: f64,
}

impl Schedule {
    /// The schedule of publisher `index` of `publishers`, for that many messages a second of all together.
    pub fn new(rate: f64, publishers: usize, index: usize) -> Self {
        let interval_ns = 1e9 * publishers as f64 / rate;
        Self {
            interval_ns,
            offset_ns: interval_ns * index as f64 / publishers as f64,
        }
    }

    /// When the message of that number is to be sent, counted from the start.
    #[inline]
    pub fn due_ns(self, number: u64) -> u64 {
        (self.offset_ns + self.interval_ns * number as f64) as u64
    }

    /// How many messages are to be sent until that time after the start.
    pub fn due_until(self, since_start_ns: u64) -> u64 {
        let passed = since_start_ns as f64 - self.offset_ns;
        if passed < 0.0 {
            return 0;
        }
        (passed / self.interval_ns) as u64 + 1
    }
}

/// An alarm of microseconds, where the runtime's own timers have milliseconds.
#[derive(Debug)]
pub struct Alarm {
    #[cfg(target_os = "linux")]
    timer: tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>,
}

#[cfg(target_os = "linux")]
impl Alarm {
    /// An alarm that is not set.
    ///
    /// # Errors
    /// The system has no timer to give.
    pub fn new() -> io::Result<Self> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "its replacement is unsafe, for types whose descriptor may change; an OwnedFd's cannot"
        )]
        let timer = tokio::io::unix::AsyncFd::new(timer)?;
        Ok(Self { timer })
    }

    /// Waits so long. Setting the timer takes back the ringing of an earlier one.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn wait(&self, duration: Duration) -> io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        // A timer of zero is one that never rings.
        let duration = duration.max(Duration::from_nanos(1));
        let never = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let once = Itimerspec {
            it_interval: never,
            it_value: Timespec {
                tv_sec: duration.as_secs() as _,
                tv_nsec: duration.subsec_nanos() as _,
            },
        };
        let set = Instant::now();
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            // An earlier ringing that was not waited for may be on record still.
            self.timer.readable().await?.clear_ready();
            if set.elapsed() >= duration {
                return Ok(());
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Alarm {
    /// An alarm that is not set.
    ///
    /// # Errors
    /// None here.
    pub fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits so long, to the millisecond.
    ///
    /// # Errors
    /// None here.
    pub async fn wait(&self, duration: Duration) -> io::Result<()> {
        tokio::time::sleep(duration).await;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn publishers_alternate_and_never_shift() {
        let first = Schedule::new(1000.0, 2, 0);
        let second = Schedule::new(1000.0, 2, 1);
        assert_eq!(first.due_ns(0), 0);
        assert_eq!(second.due_ns(0), 1_000_000);
        assert_eq!(first.due_ns(3), 6_000_000);
        assert_eq!(first.due_until(0), 1);
        assert_eq!(second.due_until(0), 0);
        assert_eq!(first.due_until(1_999_999), 1);
        assert_eq!(first.due_until(2_000_000), 2);
        assert_eq!(second.due_until(1_000_000_000), 500);
    }

    #[tokio::test]
    async fn an_alarm_rings_in_time_and_again() {
        let alarm = Alarm::new().unwrap();
        for microseconds in [0, 300, 2000] {
            let began = Instant::now();
            let duration = Duration::from_micros(microseconds);
            alarm.wait(duration).await.unwrap();
            assert!(began.elapsed() >= duration);
        }
        let late = tokio::time::timeout(
            Duration::from_millis(1),
            alarm.wait(Duration::from_secs(60)),
        );
        assert!(late.await.is_err());
        alarm.wait(Duration::from_micros(50)).await.unwrap();
    }
}
