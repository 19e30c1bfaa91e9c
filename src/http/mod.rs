//! The management API: RabbitMQ's paths, bodies and statuses over HTTP.
//!
//! In: requests; out: JSON. The broker is seen through commands, snapshots and its administration; this module knows neither
//! frames nor queues' states. One file a resource, each with its routes.
//!
//! A request goes: `server` (connections, their limits), `envelope` (paths, methods, headers), the router, `caller` (who asks,
//! and may he), `input` (bodies, queries), a resource, `list` (sorting and pages) and `answer` (statuses and errors).

mod answer;
mod bindings;
mod caller;
mod change;
mod channels;
mod columns;
mod connections;
mod consumers;
mod definitions;
mod envelope;
mod exchanges;
mod health;
mod identity;
mod input;
mod list;
mod logins;
mod messages;
mod multipart;
mod names;
mod nodes;
mod overview;
mod parameters;
mod permissions;
mod policies;
mod queue_view;
mod queues;
mod server;
mod settings;
mod shape;
mod users;
mod vhosts;

pub mod metrics;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use settings::{HttpSettings, Listener};

use crate::broker::Broker;
use crate::broker::stats::Protocol;
use crate::model::Name;
use logins::Logins;

/// What the handlers look at; clones share it.
#[derive(Clone, Debug)]
pub struct State(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    broker: Arc<Broker>,
    settings: HttpSettings,
    logins: Logins,
    places: Arc<Semaphore>,
}

impl State {
    /// The state behind the handlers.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(broker: Arc<Broker>, settings: HttpSettings) -> Result<Self, getrandom::Error> {
        Ok(Self(Arc::new(Shared {
            logins: Logins::new(Arc::clone(broker.directory()))?,
            places: server::places(settings.connections_max),
            broker,
            settings,
        })))
    }

    fn broker(&self) -> &Arc<Broker> {
        &self.0.broker
    }

    fn settings(&self) -> &HttpSettings {
        &self.0.settings
    }

    /// The cluster's name, which is the node's unless somebody gave it another.
    fn cluster_name(&self) -> Name {
        let given = self.broker().cluster_name();
        given.unwrap_or_else(|| Name::from(self.settings().cluster_name.as_str()))
    }

    fn logins(&self) -> &Logins {
        &self.0.logins
    }

    /// Counts a login, among those of all protocols.
    fn count_login(&self, has_succeeded: bool) {
        let auth = &self.broker().stats().auth;
        match has_succeeded {
            true => auth.succeeded(Protocol::Http),
            false => auth.failed(Protocol::Http),
        }
    }

    fn places(&self) -> &Arc<Semaphore> {
        &self.0.places
    }
}

/// Serves HTTP on a listener until the task is dropped.
pub async fn serve(listener: TcpListener, state: State) -> Infallible {
    let router = router(state.clone());
    server::serve(listener, state, router).await
}

fn router(state: State) -> Router {
    let settings = state.settings();
    let scraped = metrics::State::new(
        Arc::clone(state.broker()),
        metrics::Names {
            node: settings.node.clone(),
            cluster: state.cluster_name().to_string(),
            version: settings.version.clone(),
            product: settings.product.clone(),
        },
    );
    Router::new()
        .merge(identity::routes())
        .merge(health::routes())
        .merge(overview::routes())
        .merge(nodes::routes())
        .merge(vhosts::routes())
        .merge(users::routes())
        .merge(permissions::routes())
        .merge(policies::routes())
        .merge(parameters::routes())
        .merge(definitions::routes())
        .merge(exchanges::routes())
        .merge(queues::routes())
        .merge(bindings::routes())
        .merge(messages::routes())
        .merge(connections::routes())
        .merge(channels::routes())
        .merge(consumers::routes())
        .fallback(envelope::no_route)
        .with_state(state)
        .merge(metrics::router(scraped))
}
