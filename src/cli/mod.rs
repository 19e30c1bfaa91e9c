//! The command line: what somebody types, and how the program tells him what became of it.
//!
//! In: arguments and environment. Out: an [`Invocation`], which `main.rs` carries out, or a
//! [`Failure`] with its line and exit code. Starting the broker and reading definitions are not known
//! here; the logging set-up, the health check and the load generator are clients or helpers of their own, and live
//! here.

mod arguments;
pub mod doctor;
mod exit;
pub mod logging;
mod perf;
pub mod ping;

pub use arguments::{Examination, Invocation, Serve, parse};
pub use exit::{Exit, Failure};
pub use perf::{Perf, run as run_perf};
