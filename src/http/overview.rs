//! The overview: what this is, how much there is of everything, and how fast it moves.
//!
//! Who may not see everything is shown the sum over his virtual hosts.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use serde_json::{Map, Value, json};

use super::State;
use super::answer::{Answer, ApiError};
use super::caller::Caller;
use super::input::Params;
use super::{list, nodes, shape};
use crate::broker::Vhost;
use crate::broker::stats::{Measure, Ranges};

pub(super) fn routes() -> Router<State> {
    Router::new().route("/api/overview", get(overview))
}

/// The product as it is; what clients branch on stands in `rabbitmq_version`.
const PRODUCT_NAME: &str = "HareMQ";

async fn overview(caller: Caller, params: Params) -> Answer {
    let ranges = shape::ranges(&params)?;
    let settings = caller.state.settings();
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    put("management_version", settings.version.as_str().into());
    put("rabbitmq_version", settings.version.as_str().into());
    put("haremq_version", env!("CARGO_PKG_VERSION").into());
    put("product_name", PRODUCT_NAME.into());
    put("product_version", env!("CARGO_PKG_VERSION").into());
    put("rates_mode", "basic".into());
    put(
        "sample_retention_policies",
        json!({"global": [600, 3600, 28800, 86400], "basic": [600, 3600], "detailed": [600]}),
    );
    put("exchange_types", nodes::exchange_types());
    put("cluster_name", (&*caller.state.cluster_name()).into());
    put("cluster_tags", json!({}));
    put("node_tags", json!({}));
    put("node", settings.node.as_str().into());
    put("erlang_version", "".into());
    put("erlang_full_version", "".into());
    put("release_series_support_status", "supported".into());
    put("disable_stats", false.into());
    put("enable_queue_totals", false.into());
    put("is_op_policy_updating_enabled", true.into());
    put("default_queue_type", settings.default_queue_type.into());
    put("statistics_db_event_queue", 0.into());
    let totals = if caller.is_monitor() {
        put("listeners", nodes::listeners(&caller.state));
        put("contexts", nodes::contexts(&caller.state));
        of_everything(&caller, &ranges)
    } else {
        put("listeners", json!([]));
        put("contexts", json!([]));
        of_some(&caller, &caller.vhosts(None)?, &ranges)
    };
    for (name, value) in totals {
        put(name, value);
    }
    list::one(&params, Some(Value::Object(fields)))
}

type Totals = Vec<(&'static str, Value)>;

fn of_everything(caller: &Caller, ranges: &Ranges) -> Totals {
    let it = caller.broker().overview(ranges);
    let objects = it.object_totals;
    vec![
        ("queue_totals", shape::measures(&it.queue_totals)),
        ("message_stats", shape::measures(&it.message_stats)),
        ("churn_rates", shape::measures(&it.churn_rates)),
        (
            "object_totals",
            json!({
                "channels": objects.channels,
                "connections": objects.connections,
                "consumers": objects.consumers,
                "exchanges": objects.exchanges,
                "queues": objects.queues,
            }),
        ),
    ]
}

fn of_some(caller: &Caller, vhosts: &[Arc<Vhost>], ranges: &Ranges) -> Totals {
    let (mut lengths, mut stats) = (Vec::new(), Vec::new());
    let (mut exchanges, mut queues, mut consumers) = (0, 0, 0);
    for vhost in vhosts {
        let report = caller.broker().vhost_snapshot(vhost, ranges);
        add(&mut lengths, report.lengths);
        add(&mut stats, report.message_stats);
        exchanges += vhost.exchanges.len() + 1;
        let handles = vhost.queue_handles();
        queues += handles.len();
        let counts = handles.iter().filter_map(|handle| handle.counts().ok());
        consumers += counts.map(|it| u64::from(it.consumers)).sum::<u64>();
    }
    let own = caller.broker().connections();
    let own: Vec<_> = own
        .iter()
        .filter(|it| it.described().is_some_and(|it| it.user == caller.user.name))
        .collect();
    vec![
        ("queue_totals", shape::measures(&lengths)),
        ("message_stats", shape::measures(&stats)),
        ("churn_rates", json!({})),
        (
            "object_totals",
            json!({
                "channels": own.iter().map(|it| it.channel_count()).sum::<usize>(),
                "connections": own.len(),
                "consumers": consumers,
                "exchanges": exchanges,
                "queues": queues,
            }),
        ),
    ]
}

/// Adds numbers of the same names.
fn add(sums: &mut Vec<Measure>, measures: Vec<Measure>) {
    for measure in measures {
        match sums.iter_mut().find(|sum| sum.name == measure.name) {
            None => sums.push(measure),
            Some(sum) => {
                sum.value += measure.value;
                sum.rate += measure.rate;
                if let (Some(sum), Some(history)) = (&mut sum.history, measure.history) {
                    for (into, from) in sum.samples.iter_mut().zip(history.samples) {
                        into.sample += from.sample;
                    }
                    sum.avg = sum.avg.zip(history.avg).map(|(a, b)| a + b);
                    sum.avg_rate = sum.avg_rate.zip(history.avg_rate).map(|(a, b)| a + b);
                }
            }
        }
    }
}

/// The error of a node that does not exist.
pub(super) fn check_node(state: &State, node: &str) -> Result<(), ApiError> {
    if *node == state.settings().node {
        return Ok(());
    }
    Err(ApiError::object_not_found())
}
