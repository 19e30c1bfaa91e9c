//! HareMQ.

pub mod protocol;
