//! The AMQP 0-9-1 protocol as data (`amqp-0-9-1.toml`), and the generator of the broker's protocol code.
//!
//! In comes the description, out goes Rust source. It knows nothing of the broker beyond the names of the few helpers
//! that the generated code calls (`src/protocol/wire.rs`).

mod generate;
mod spec;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

pub use generate::generate;
pub use spec::{Class, Constant, Domain, Field, FieldType, Method, Protocol, ReplyCode, Spec};

/// Where the generated file is kept.
pub fn generated_path() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../src/protocol/generated.rs"
    ))
}

/// The generated file as it should be: [`generate()`] of the description beside this crate, formatted by rustfmt.
///
/// # Errors
/// The description does not parse, or rustfmt cannot be run.
pub fn generated_source() -> io::Result<String> {
    let spec = Spec::parse(include_str!("../amqp-0-9-1.toml")).map_err(io::Error::other)?;
    rustfmt(&generate(&spec))
}

/// Formats Rust source with the toolchain's rustfmt, so that the committed file passes `cargo fmt --check`.
fn rustfmt(source: &str) -> io::Result<String> {
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024", "--emit", "stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    stdin.write_all(source.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(io::Error::other("rustfmt refused the generated source"));
    }
    String::from_utf8(output.stdout).map_err(io::Error::other)
}
