//! The haremq program.
fn main() {}
