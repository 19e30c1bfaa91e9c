//! What the Rust suites share: settings from the environment, comparing, naming, and the output of checks.
//! It knows no AMQP client.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

/// Why a check failed, or `SKIP reason` if it could not run.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
/// What a check gives.
pub type Outcome = Result<(), Failure>;

const CHECK_TIME_MAX: Duration = Duration::from_secs(45);
const WAIT_TIME_MAX: Duration = Duration::from_secs(10);

/// The broker's URI.
pub fn uri() -> String {
    std::env::var("AMQP_URI").expect("AMQP_URI must be set")
}

/// A queue's or exchange's name that no other run uses.
pub fn name(suffix: &str) -> String {
    format!("interop.{}.{suffix}", std::process::id())
}

/// Fails with both values unless they are equal.
pub fn same<T: PartialEq + Debug>(got: T, wanted: T) -> Outcome {
    if got == wanted {
        Ok(())
    } else {
        Err(format!("got {got:?}, wanted {wanted:?}").into())
    }
}

/// Waits until the probe is true.
pub async fn until<F: Future<Output = bool>>(mut probe: impl FnMut() -> F) -> Outcome {
    let started = Instant::now();
    while !probe().await {
        if started.elapsed() > WAIT_TIME_MAX {
            return Err(format!("did not come true within {WAIT_TIME_MAX:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Kills the broker and waits until it accepts connections again.
pub async fn restart_broker() -> Outcome {
    let command = std::env::var("BROKER_RESTART_CMD")
        .map_err(|_| "SKIP no BROKER_RESTART_CMD, the broker is not ours to kill")?;
    let status = tokio::process::Command::new("sh")
        .args(["-c", &command])
        .status()
        .await?;
    same(status.success(), true)
}

/// Counts checks and prints their lines.
#[derive(Default)]
pub struct Checks {
    count: usize,
    failed: usize,
}

impl Checks {
    /// Runs one check in a task of its own, so that a panic in it fails only that check.
    pub async fn run(
        &mut self,
        label: &str,
        check: impl Future<Output = Outcome> + Send + 'static,
    ) {
        self.count += 1;
        let outcome = match tokio::time::timeout(CHECK_TIME_MAX, tokio::spawn(check)).await {
            Ok(Ok(outcome)) => outcome.map_err(|failure| failure.to_string()),
            Ok(Err(panic)) => Err(panic.to_string()),
            Err(_) => Err(format!("not finished within {CHECK_TIME_MAX:?}")),
        };
        match outcome {
            Ok(()) => println!("ok {label}"),
            Err(why) => match why.strip_prefix("SKIP ") {
                Some(reason) => println!("skip {label}: {reason}"),
                None => {
                    self.failed += 1;
                    println!("not ok {label}: {}", why.replace('\n', " "));
                }
            },
        }
    }

    /// Prints the plan line; ends the process.
    pub fn finish(self) -> ! {
        println!("1..{}", self.count);
        std::process::exit(i32::from(self.failed > 0))
    }
}
