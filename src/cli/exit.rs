//! How the program ends: exit codes, and one clear line.
//!
//! In: what went wrong, in words. Out: a line `haremq: …` on standard error and a code of BSD's
//! `sysexits.h`, which RabbitMQ's tools use too. Where a failure comes from is not known here.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::store::StoreError;

/// Exit codes after `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All went well.
    Ok = 0,
    /// The command line is wrong.
    Usage = 64,
    /// The data that was given is wrong.
    Data = 65,
    /// A file that was named is not there or cannot be read.
    NoInput = 66,
    /// Something that is needed is not available: a port in use, a broker that does not answer.
    Unavailable = 69,
    /// A fault of this program.
    Software = 70,
    /// A file or folder cannot be created.
    CantCreate = 73,
    /// Reading or writing failed.
    Io = 74,
    /// The rights do not suffice.
    NoPermission = 77,
    /// The configuration is wrong.
    Config = 78,
}

impl Exit {
    /// The code for a data folder that refuses.
    #[must_use]
    pub fn of_store_error(error: &StoreError) -> Self {
        match error.exit_code() {
            65 => Self::Data,
            73 => Self::CantCreate,
            66 => Self::NoInput,
            69 => Self::Unavailable,
            _ => Self::Io,
        }
    }

    /// The code for a failed access to a file or folder.
    #[must_use]
    pub fn of_file_error(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NoInput,
            io::ErrorKind::PermissionDenied => Self::NoPermission,
            _ => Self::Io,
        }
    }

    /// The code for an address on which nothing can listen.
    #[must_use]
    pub fn of_listen_error(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::NoPermission,
            _ => Self::Unavailable,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why the program ends without having done what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What is wrong and what to do, in words; several problems stand on several lines.
    pub message: String,
}

impl Failure {
    /// A failure with its exit code and words.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { exit, message }
    }

    /// Tells the failure on standard error and gives the exit code of the process.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        eprintln!("{self}");
        self.exit.into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line) in self.message.lines().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}haremq: {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_a_failure_names_the_program() {
        let failure = Failure::new(Exit::Config, "one\ntwo");
        assert_eq!(failure.to_string(), "haremq: one\nharemq: two");
    }

    #[test]
    fn a_file_error_has_the_code_of_its_kind() {
        let code = |kind: io::ErrorKind| Exit::of_file_error(&io::Error::from(kind)) as u8;
        assert_eq!(code(io::ErrorKind::NotFound), 66);
        assert_eq!(code(io::ErrorKind::PermissionDenied), 77);
        assert_eq!(code(io::ErrorKind::Other), 74);
        let in_use = io::Error::from(io::ErrorKind::AddrInUse);
        assert_eq!(Exit::of_listen_error(&in_use) as u8, 69);
    }
}
