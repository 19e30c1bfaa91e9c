//! Conversations in frames, with virtual time: a test's name is the rule it proves.

#![allow(clippy::unwrap_used)]

mod basic;
mod confirms;
mod connection;
mod content;
mod support;
mod suspended;
mod tables;
mod topology;
