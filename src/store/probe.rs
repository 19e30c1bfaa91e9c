//! Opening a catalogue first where a crash does no harm: in a child process with a time limit.
//!
//! In: a data folder. Out: whether its catalogue can be opened and read. sled's own threads panic over
//! damaged files, where no catch of ours reaches, or wait for each other for ever; a child can be ended. What
//! is then done about the damage is [`super::Store::open`]'s business.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::StoreError;
use super::definitions::check_catalogue;

/// The hidden subcommand by which the program runs [`check_store`] on the folder named next.
pub const SUBCOMMAND: &str = "check-store";

/// How long the child may take. The catalogue of a hundred thousand queues opens in a second.
pub const PROBE_TIME_MAX: Duration = Duration::from_secs(60);

/// How the catalogue is tried before it is opened.
#[derive(Clone, Debug)]
pub enum Probe {
    /// By a child process: this program and these arguments, to which the data folder is appended.
    Child {
        /// The program.
        program: PathBuf,
        /// Its arguments before the folder.
        arguments: Vec<OsString>,
        /// How long it may take.
        time_max: Duration,
    },
    /// Not at all: damage that panics in a thread of sled's then ends or stalls the caller.
    InProcess,
}

impl Probe {
    /// A child of the running program: `haremq check-store DIR`.
    pub fn this_program() -> Self {
        match std::env::current_exe() {
            Ok(program) => Self::Child {
                program,
                arguments: vec![SUBCOMMAND.into()],
                time_max: PROBE_TIME_MAX,
            },
            Err(error) => {
                tracing::warn!(%error, "cannot find this program, so the definitions are opened without a trial");
                Self::InProcess
            }
        }
    }

    /// Tries the catalogue. `Some` is the reason why it must not be opened.
    pub(super) fn find_damage(&self, data_dir: &Path) -> Option<String> {
        let Self::Child {
            program,
            arguments,
            time_max,
        } = self
        else {
            return None;
        };
        let spawned = Command::new(program)
            .args(arguments)
            .arg(data_dir)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                tracing::warn!(%error, "cannot start a trial of the definitions, so they are opened without");
                return None;
            }
        };
        match wait(&mut child, *time_max) {
            Some(status) if status.success() => None,
            Some(status) if tells_damage(status) => Some(format!(
                "a trial ended with {status}: {}",
                last_words(&mut child)
            )),
            Some(status) => {
                tracing::warn!(
                    "a trial of the definitions ended with {status}, which says nothing about them: {}",
                    last_words(&mut child)
                );
                None
            }
            None => Some(format!(
                "a trial took longer than {} s",
                time_max.as_secs_f32()
            )),
        }
    }
}

/// Whether a child that ended so met damage: it said so, it panicked, or a signal ended it. Anything else, such
/// as a lock that is taken or a program that does not know the subcommand, must not cost the catalogue.
fn tells_damage(status: ExitStatus) -> bool {
    const PANICKED: i32 = 101;
    match status.code() {
        Some(code) => code == PANICKED || code == i32::from(StoreError::DAMAGE_EXIT_CODE),
        None => true,
    }
}

/// What the hidden subcommand does: opens the catalogue of a data folder and reads all of it. The caller
/// exits with 0 if this returns `Ok`, and otherwise prints the error to standard error and exits with
/// its [`StoreError::exit_code`]. The lock of the folder is the parent's, and is not taken.
///
/// # Errors
/// Whatever keeps the catalogue from being read. Damage may also end the process by a panic.
pub fn check_store(data_dir: &Path) -> Result<(), StoreError> {
    check_catalogue(data_dir)
}

/// Waits for the child's end; past the limit it is killed and `None` returned.
fn wait(child: &mut Child, time_max: Duration) -> Option<ExitStatus> {
    const PAUSE_MAX: Duration = Duration::from_millis(20);
    let started = Instant::now();
    let mut pause = Duration::from_micros(500);
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if started.elapsed() > time_max {
            // Both fail only if the child has ended meanwhile.
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// What the child wrote last, shortened.
fn last_words(child: &mut Child) -> String {
    const BYTES_MAX: u64 = 64 * 1024;
    const CHARS_MAX: usize = 300;
    let mut text = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // What could be read is all that is wanted.
        let _ = stderr.take(BYTES_MAX).read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("note:"))
        .collect();
    let shown = lines.join(" | ");
    match shown.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None if shown.is_empty() => "without a word".to_owned(),
        None => shown,
    }
}
