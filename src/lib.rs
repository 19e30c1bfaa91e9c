//! HareMQ, an AMQP 0-9-1 message broker: the map of the house, modules in reading order.
//!
//! bytes in → frame → method → connection → channel → broker → exchange → queue → consumer → bytes out
//!
//! [`protocol`], [`model`], [`session`], [`routing`] and the state of a [`queue`] are pure: bytes and time
//! come in, commands, bytes and deadlines go out. [`broker`] owns what exists, [`server`] the sockets.
//! `docs/architecture.md` tells the whole story and the reasons.

pub mod auth;
pub mod broker;
pub mod cli;
pub mod config;
pub mod http;
pub mod model;
pub mod protocol;
pub mod queue;
pub mod routing;
pub mod server;
pub mod session;
pub mod store;
