//! Conversations in frames with the whole broker, without sockets and with virtual time: one test a rule,
//! named after the rule, one file a theme.
//!
//! In: frames of clients and the time that passes. Out: whether the frames that come back are RabbitMQ's,
//! down to reply codes, texts, class and method ids. What lies between is not looked at.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod support;

mod bindings;
mod channels;
mod connection;
mod consume;
mod exchanges;
mod harness;
mod headers_exchange;
mod qos;
mod queue_arguments;
mod queues;
mod settling;
mod topic;
mod tuning;
