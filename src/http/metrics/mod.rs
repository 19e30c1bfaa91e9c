//! Metrics for Prometheus, with RabbitMQ's names, labels and buckets, and some of our own.
//!
//! In: a scrape. Out: text. `/metrics` sums over all objects, `/metrics/per-object` tells of each, `/metrics/detailed` tells of each what
//! is asked for, `/metrics/memory-breakdown` where memory is. Numbers are read from the broker's counters and snapshots at each
//! scrape; nothing is kept between two, but how long they took. Who may scrape is decided by whoever mounts the routes.
//!
//! - `text`: the format. `families`: which group has which metrics.
//! - `global`: what is counted for the node; `objects`: for queues, exchanges, connections, channels; `system`: of process, store and alarms.

mod families;
mod global;
mod objects;
mod system;
mod text;

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::{Query, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use regex::{Regex, RegexBuilder};
use tokio::net::TcpListener;

use crate::broker::Broker;
use families::Family;
use text::{CONTENT_TYPE, Kind, Writer};

/// Bytes that a compiled filter may take.
const FILTER_BYTES_MAX: usize = 1 << 20;

/// What the node and its cluster are called, and which versions they announce.
#[derive(Clone, Debug)]
pub struct Names {
    /// The node.
    pub node: String,
    /// The cluster.
    pub cluster: String,
    /// The announced version.
    pub version: String,
    /// The announced product.
    pub product: String,
}

/// What a scrape looks at.
#[derive(Clone, Debug)]
pub struct State(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    broker: Arc<Broker>,
    names: Names,
    scrapes: AtomicU64,
    scrape_ns: AtomicU64,
}

impl State {
    /// The state behind the routes.
    pub fn new(broker: Arc<Broker>, names: Names) -> Self {
        Self(Arc::new(Inner {
            broker,
            names,
            scrapes: AtomicU64::new(0),
            scrape_ns: AtomicU64::new(0),
        }))
    }
}

/// Which kind of answer is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Aggregated,
    PerObject,
    Detailed,
    MemoryBreakdown,
}

impl Endpoint {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Aggregated => "aggregated",
            Self::PerObject => "per-object",
            Self::Detailed => "detailed",
            Self::MemoryBreakdown => "memory-breakdown",
        }
    }
}

/// Which objects are asked for.
#[derive(Debug, Default)]
struct Filter {
    vhosts: Option<HashSet<String>>,
    queue: Option<Regex>,
}

impl Filter {
    fn takes_vhost(&self, vhost: &str) -> bool {
        self.vhosts
            .as_ref()
            .is_none_or(|vhosts| vhosts.contains(vhost))
    }

    fn takes_queue(&self, vhost: &str, queue: &str) -> bool {
        let takes_name = |regex: &Regex| regex.is_match(queue);
        self.takes_vhost(vhost) && self.queue.as_ref().is_none_or(takes_name)
    }
}

/// One scrape.
#[derive(Debug)]
struct Scrape<'a> {
    broker: &'a Broker,
    names: &'a Names,
    endpoint: Endpoint,
    families: Vec<Family>,
    filter: Filter,
}

/// The routes, for whoever has a port for them.
pub fn router(state: State) -> Router {
    Router::new()
        .route("/metrics", get(aggregated))
        .route("/metrics/", get(aggregated))
        .route("/metrics/per-object", get(per_object))
        .route("/metrics/detailed", get(detailed))
        .route("/metrics/memory-breakdown", get(memory_breakdown))
        .with_state(state)
}

/// Serves the metrics on a listener of their own until the task is dropped.
///
/// # Errors
/// The listener fails.
pub async fn serve(listener: TcpListener, state: State) -> Result<Infallible, std::io::Error> {
    let routes = router(state).fallback(async || StatusCode::NOT_FOUND);
    axum::serve(listener, routes).await?;
    Err(std::io::ErrorKind::UnexpectedEof.into())
}

async fn aggregated(Shared(state): Shared<State>) -> Response {
    let families = Family::AGGREGATED.to_vec();
    answer(state, Endpoint::Aggregated, families, Filter::default()).await
}

async fn per_object(Shared(state): Shared<State>) -> Response {
    let families = Family::AGGREGATED.to_vec();
    answer(state, Endpoint::PerObject, families, Filter::default()).await
}

async fn memory_breakdown(Shared(state): Shared<State>) -> Response {
    let filter = Filter::default();
    answer(state, Endpoint::MemoryBreakdown, Vec::new(), filter).await
}

async fn detailed(
    Shared(state): Shared<State>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let (families, filter) = match parse(&query) {
        Ok(parsed) => parsed,
        Err(reason) => return (StatusCode::BAD_REQUEST, reason).into_response(),
    };
    answer(state, Endpoint::Detailed, families, filter).await
}

/// Families, virtual hosts and the pattern for queues of a query; each family once, in the order of the table.
fn parse(query: &[(String, String)]) -> Result<(Vec<Family>, Filter), String> {
    let mut families = Vec::new();
    let mut filter = Filter::default();
    for (key, value) in query {
        match &**key {
            "family" => families.extend(Family::parse(value)),
            "vhost" => {
                let vhosts = filter.vhosts.get_or_insert_default();
                vhosts.insert(value.clone());
            }
            "queue" if filter.queue.is_some() => {
                return Err("only one filter for queues can be given".to_owned());
            }
            "queue" => {
                let regex = RegexBuilder::new(value)
                    .size_limit(FILTER_BYTES_MAX)
                    .build()
                    .map_err(|error| {
                        format!("the filter for queues is no regular expression: {error}")
                    })?;
                filter.queue = Some(regex);
            }
            _ => {}
        }
    }
    families.sort_unstable();
    families.dedup();
    if families.contains(&Family::QueueMetrics) {
        families.retain(|family| *family != Family::QueueConsumerCount);
    }
    Ok((families, filter))
}

/// Writes the answer where it may take its time.
async fn answer(
    state: State,
    endpoint: Endpoint,
    families: Vec<Family>,
    filter: Filter,
) -> Response {
    let written = tokio::task::spawn_blocking(move || {
        let scrape = Scrape {
            broker: &state.0.broker,
            names: &state.0.names,
            endpoint,
            families,
            filter,
        };
        state.write(&scrape)
    });
    match written.await {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

impl State {
    fn write(&self, scrape: &Scrape<'_>) -> String {
        let began = Instant::now();
        let mut writer = Writer::new(match scrape.endpoint {
            Endpoint::Detailed => "rabbitmq_detailed_",
            _ => "rabbitmq_",
        });
        scrape.write_families(&mut writer);
        writer.set_prefix("rabbitmq_");
        scrape.write_identity(&mut writer);
        match scrape.endpoint {
            Endpoint::Aggregated | Endpoint::PerObject => {
                scrape.write_global(&mut writer);
                scrape.write_alarms(&mut writer);
                writer.set_prefix("haremq_");
                scrape.write_own(&mut writer);
            }
            Endpoint::MemoryBreakdown => scrape.write_memory(&mut writer),
            Endpoint::Detailed => {}
        }
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let scrapes = self.0.scrapes.fetch_add(1, Ordering::Relaxed) + 1;
        let scrape_ns = self.0.scrape_ns.fetch_add(took, Ordering::Relaxed) + took;
        writer.set_prefix("");
        writer.family(
            "telemetry_scrape_duration_seconds",
            Kind::Summary,
            "How long scrapes took",
        );
        let labels = [("registry", "default"), ("content_type", CONTENT_TYPE)];
        writer.sample("telemetry_scrape_duration_seconds_count", &labels, scrapes);
        let seconds = scrape_ns as f64 / 1e9;
        writer.sample("telemetry_scrape_duration_seconds_sum", &labels, seconds);
        writer.into_text()
    }
}
