//! Placeholder root, replaced by the generator.
fn main() {}
