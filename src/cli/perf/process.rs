//! CPU time and memory of a process on this machine, from /proc.
//!
//! In: a process id. Out: nanoseconds and octets. Whose process it is is not known here; only Linux has the figures.

use std::fs;
use std::io;

use crate::cli::{Exit, Failure};

/// Nanoseconds of a tick of /proc/PID/stat: USER_HZ is 100 wherever Linux runs.
const TICK_NS: u64 = 10_000_000;

/// A process whose figures are read.
#[derive(Clone, Debug)]
pub struct Process {
    folder: String,
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all its threads, in ns.
    pub cpu_ns: u64,
    /// Memory that is resident, in octets.
    pub resident_bytes: u64,
}

impl Process {
    /// The process of that id.
    pub fn new(pid: u32) -> Self {
        Self {
            folder: format!("/proc/{pid}"),
        }
    }

    /// This process.
    pub fn own() -> Self {
        Self {
            folder: "/proc/self".to_owned(),
        }
    }

    /// What it has used until now.
    ///
    /// # Errors
    /// [`Exit::NoInput`] when there is no such process, or no /proc.
    pub fn usage(&self) -> Result<Usage, Failure> {
        self.read().map_err(|error| {
            Failure::new(
                Exit::NoInput,
                format!(
                    "cannot read the CPU time in {}: {error}; is the process id right?",
                    self.folder
                ),
            )
        })
    }

    fn read(&self) -> io::Result<Usage> {
        let status = fs::read_to_string(format!("{}/status", self.folder))?;
        Ok(Usage {
            cpu_ns: self.cpu_ns()?,
            resident_bytes: resident_bytes(&status).unwrap_or_default(),
        })
    }

    /// The scheduler counts nanoseconds for each thread; `stat` has ticks of 10 ms for the process, which is what is left
    /// where the kernel keeps no such statistics.
    fn cpu_ns(&self) -> io::Result<u64> {
        let mut sum_ns = 0;
        for thread in fs::read_dir(format!("{}/task", self.folder))? {
            // A thread that ends now takes its reading along.
            let schedstat =
                thread.and_then(|entry| fs::read_to_string(entry.path().join("schedstat")));
            let ns = schedstat.ok().and_then(|text| first_number(&text));
            sum_ns += ns.unwrap_or_default();
        }
        if sum_ns > 0 {
            return Ok(sum_ns);
        }
        let stat = fs::read_to_string(format!("{}/stat", self.folder))?;
        Ok(ticks(&stat).unwrap_or_default() * TICK_NS)
    }
}

fn first_number(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(first_number(line)? * 1024)
}

/// User and system time of /proc/PID/stat: fields 14 and 15, and the name before them may have spaces.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// A connection is a file: raises the soft limit of open files to the hard one, as far as the system allows.
pub fn raise_open_files_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it stays as it is, the connection that finds no file says so.
    let _ = setrlimit(Resource::Nofile, limit);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_proc_are_read() {
        assert_eq!(
            resident_bytes("VmPeak: 9 kB\nVmRSS:\t  12 kB\n"),
            Some(12_288)
        );
        assert_eq!(resident_bytes("Name: x\n"), None);
        let stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 40 2 0 0";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(first_number("123 4 5\n"), Some(123));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_something_and_a_wrong_id_is_told() {
        let usage = Process::own().usage().unwrap();
        assert!(usage.cpu_ns > 0 && usage.resident_bytes > 0);
        let failure = Process::new(u32::MAX).usage().unwrap_err();
        assert_eq!(failure.exit, Exit::NoInput);
    }
}
