//! Conversations in frames with the whole broker, without sockets and with virtual time: one test a rule,
//! named after the rule, one file a theme.
//!
//! In: frames of clients and the time that passes. Out: whether the frames that come back are RabbitMQ's,
//! down to reply codes, texts, class and method ids. What lies between is not looked at.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod support;

mod administration;
mod alarms;
mod bindings;
mod channels;
mod confirms;
mod connection;
mod consume;
mod dead_letters;
mod default_queue_type;
mod direct_reply_to;
mod disk_faults;
mod durability;
mod errors;
mod exchanges;
mod expiry;
mod golden;
mod harness;
mod headers_exchange;
mod limits;
mod max_length;
mod metrics;
mod nowait;
mod permissions;
mod policies;
mod publishing;
mod qos;
mod queue_arguments;
mod queues;
mod quorum;
mod restart;
mod settling;
mod slow_consumers;
mod statistics;
mod topic;
mod transactions;
mod tuning;
