//! From an exchange and a routing key to queues.
//!
//! In: bindings that come and go, and for each message its routing keys and its encoded headers; out: the
//! queues that take it, each once, and the [`Epoch`]s that tell how long this answer holds. One file per
//! exchange type, each with the index in which a lookup is one walk and a bind costs O(key), whatever the
//! number of bindings.
//!
//! Nothing here holds a lock, does input or output or asks a clock; who guards an [`Exchange`] decides
//! that with [`ExchangeHandle`]. Queues are numbers here and nothing else, permissions and messages are
//! unknown.

mod exchange;

mod arguments;
mod binding;
mod bindings;

mod direct;
mod fanout;
mod headers;
mod topic;

mod extra_keys;
mod route;

mod cache;
mod destinations;
mod epoch;

#[cfg(test)]
mod fixtures;

pub use arguments::BindingArguments;
pub use binding::{Binding, Destination};
pub use bindings::{Bindings, BindingsByDestination};
pub use cache::{ROUTE_CACHE_ENTRIES_MAX, RouteCache};
pub use epoch::{Epoch, Visited};
pub use exchange::{
    Exchange, ExchangeDefinition, ExchangeKind, PREDECLARED_EXCHANGES, Predeclared, Unbound,
    alternate_exchange_argument, check_equivalence,
};
pub use extra_keys::extra_routing_keys;
pub use route::{ExchangeHandle, Route, Router, Topology};
