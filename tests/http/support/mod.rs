//! A node with its API, and a client that shows what came back.

mod client;
mod node;

pub use client::{Client, Reply};
pub use node::Node;
