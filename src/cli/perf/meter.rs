//! Readings during a run: counters, CPU time and memory, at one moment; and the progress line of each second.
//!
//! In: the crew's counters and /proc. Out: differences between two readings. When to read is not known here.

use std::io::Write;
use std::time::Instant;

use super::crew::{Crew, Totals};
use super::figures::Used;
use super::process::{Process, Usage};
use crate::cli::Failure;

/// Where the progress lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// To standard output, with the table.
    Output,
    /// To standard error, because the output is for programs.
    Error,
    /// Nowhere.
    None,
}

/// Everything at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    at: Instant,
    /// Counters.
    pub totals: Totals,
    broker: Option<Usage>,
    client: Usage,
}

/// Takes readings.
#[derive(Debug)]
pub struct Meter {
    broker: Option<Process>,
    own: Process,
    resident_bytes_max: u64,
    progress: Progress,
    began: Instant,
    last: Option<Reading>,
}

impl Meter {
    /// A meter for the broker of that process id, if it is on this machine.
    ///
    /// # Errors
    /// There is no such process.
    pub fn new(broker_pid: Option<u32>, progress: Progress) -> Result<Self, Failure> {
        let broker = broker_pid.map(Process::new);
        if let Some(broker) = &broker {
            broker.usage()?;
        }
        Ok(Self {
            broker,
            own: Process::own(),
            resident_bytes_max: 0,
            progress,
            began: Instant::now(),
            last: None,
        })
    }

    /// Reads everything.
    ///
    /// # Errors
    /// The broker's process is gone.
    pub fn read(&mut self, crew: &Crew) -> Result<Reading, Failure> {
        let broker = self.broker.as_ref().map(Process::usage).transpose()?;
        let resident_bytes = broker.map(|usage| usage.resident_bytes);
        self.resident_bytes_max = self
            .resident_bytes_max
            .max(resident_bytes.unwrap_or_default());
        Ok(Reading {
            at: Instant::now(),
            totals: crew.totals(),
            broker,
            // Without /proc the client's own cost is not known, which is no reason to end.
            client: self.own.usage().unwrap_or_default(),
        })
    }

    /// Begins to count seconds for the progress lines.
    ///
    /// # Errors
    /// As [`Meter::read`].
    pub fn begin(&mut self, crew: &Crew) -> Result<Reading, Failure> {
        self.began = Instant::now();
        self.resident_bytes_max = 0;
        let reading = self.read(crew)?;
        self.last = Some(reading);
        Ok(reading)
    }

    /// Prints what happened since the last line.
    ///
    /// # Errors
    /// As [`Meter::read`].
    pub fn tick(
        &mut self,
        crew: &Crew,
        words: impl Fn(&Totals, f64) -> String,
    ) -> Result<(), Failure> {
        let reading = self.read(crew)?;
        if let Some(last) = self.last.replace(reading) {
            let (totals, seconds) = reading.since(&last);
            let mut line = format!(
                "{:>6.1} s  {}",
                reading.at.duration_since(self.began).as_secs_f64(),
                words(&totals, seconds)
            );
            if let (Some(now), Some(before)) = (reading.broker, last.broker) {
                let cores = now.cpu_ns.saturating_sub(before.cpu_ns) as f64 / 1e9 / seconds;
                let mib = now.resident_bytes as f64 / f64::from(1 << 20);
                line += &format!("  broker {cores:.2} cores {mib:.0} MiB");
            }
            self.print(&line);
        }
        Ok(())
    }

    /// Prints a line of progress. A reader that has gone away is no failure.
    pub fn print(&self, line: &str) {
        let _ = match self.progress {
            Progress::Output => writeln!(std::io::stdout(), "{line}"),
            Progress::Error => writeln!(std::io::stderr(), "{line}"),
            Progress::None => Ok(()),
        };
    }

    /// What was used between two readings.
    pub fn used(&self, from: &Reading, to: &Reading) -> Used {
        let between = |from: Usage, to: Usage| Usage {
            cpu_ns: to.cpu_ns.saturating_sub(from.cpu_ns),
            resident_bytes: to.resident_bytes,
        };
        Used {
            broker: from
                .broker
                .zip(to.broker)
                .map(|(from, to)| between(from, to)),
            broker_resident_bytes_max: self.resident_bytes_max,
            client: between(from.client, to.client),
        }
    }
}

impl Reading {
    /// What was counted since an earlier reading, and in how many seconds.
    pub fn since(&self, earlier: &Self) -> (Totals, f64) {
        let seconds = self.at.duration_since(earlier.at).as_secs_f64();
        (self.totals.since(&earlier.totals), seconds.max(1e-9))
    }
}
