//! The management API over real sockets: statuses, bodies and headers as RabbitMQ's tools want them.
//!
//! Each test has a broker of its own in this process, on a listener at port 0, and a small client that hides nothing. Suites
//! of the peers' own tools belong here too, each in a file of its own.

#![allow(clippy::unwrap_used)]

mod access;
mod administration;
mod bindings;
mod connections;
mod definitions;
mod exchanges;
mod foundation;
mod golden;
mod messages;
mod queues;
mod support;
