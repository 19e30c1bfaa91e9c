//! A node with its API, and a client that shows what came back.

mod client;
mod node;

pub use client::Client;
pub use node::Node;
