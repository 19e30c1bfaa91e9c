//! What a queue looks like, in lists and alone.
//!
//! In: a handle. Out: JSON. How much of it is made hangs on what the query asks for: statistics cost a look under the queue's
//! lock, names do not.

use serde_json::{Map, Value, json};

use super::State;
use super::answer::ApiError;
use super::caller::Caller;
use super::columns::Columns;
use super::input::Params;
use super::{consumers, shape};
use crate::broker::snapshots::QueueReport;
use crate::broker::stats::Ranges;
use crate::queue::{QueueHandle, QueueKind};
use crate::store::definitions::json::arguments_to_json;

/// Fields that need no look into the queue.
const DECLARED: [&str; 16] = [
    "name",
    "vhost",
    "type",
    "durable",
    "auto_delete",
    "exclusive",
    "arguments",
    "node",
    "state",
    "internal",
    "storage_version",
    "policy",
    "operator_policy",
    "effective_policy_definition",
    "leader",
    "members",
];

/// How much of a queue is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// What it was declared as.
    Declared,
    /// And the number of its messages.
    Totals,
    /// And statistics.
    Basic,
    /// And what costs a list more than it is worth.
    Detailed,
}

/// How queues are shown.
pub(super) struct View {
    state: State,
    depth: Depth,
    ranges: Ranges,
}

impl View {
    /// In a list: with statistics, unless the query switches them off or asks for no such column.
    ///
    /// # Errors
    /// 400 for a range that is none.
    pub(super) fn of_list(caller: &Caller, params: &Params) -> Result<Self, ApiError> {
        let columns = params.get("columns").map(Columns::parse);
        let depth = match &columns {
            _ if params.is_true("disable_stats") => Self::without_stats(params),
            Some(columns) if columns.names().all(|name| DECLARED.contains(&name)) => {
                Depth::Declared
            }
            Some(_) => Depth::Detailed,
            None => Depth::Basic,
        };
        Self::new(caller, params, depth)
    }

    /// Alone, or in a detailed list.
    ///
    /// # Errors
    /// 400 for a range that is none.
    pub(super) fn of_one(caller: &Caller, params: &Params) -> Result<Self, ApiError> {
        let depth = if params.is_true("disable_stats") {
            Self::without_stats(params)
        } else {
            Depth::Detailed
        };
        Self::new(caller, params, depth)
    }

    fn without_stats(params: &Params) -> Depth {
        if params.is_true("enable_queue_totals") {
            Depth::Totals
        } else {
            Depth::Declared
        }
    }

    fn new(caller: &Caller, params: &Params, depth: Depth) -> Result<Self, ApiError> {
        Ok(Self {
            state: caller.state.clone(),
            depth,
            ranges: shape::ranges(params)?,
        })
    }

    /// A field that lists are sorted by, without making the whole.
    pub(super) fn field(&self, handle: &QueueHandle, path: &str) -> Option<Value> {
        Some(match path {
            "type" => handle.kind().as_str().into(),
            "durable" => handle.declaration().durable.into(),
            "auto_delete" => handle.declaration().auto_delete.into(),
            "state" => "running".into(),
            "messages" | "messages_ready" | "messages_unacknowledged" | "consumers" => {
                let snapshot = handle.snapshot().ok()?;
                match path {
                    "messages" => snapshot.messages_ready + snapshot.messages_unsettled,
                    "messages_ready" => snapshot.messages_ready,
                    "consumers" => snapshot.consumers,
                    _ => snapshot.messages_unsettled,
                }
                .into()
            }
            _ => return None,
        })
    }

    /// A queue of a list; `None` when it has gone.
    pub(super) fn row(&self, handle: &QueueHandle) -> Option<Value> {
        if handle.is_gone() {
            return None;
        }
        let mut fields = self.declared(handle);
        match self.depth {
            Depth::Declared => {}
            Depth::Totals => {
                let snapshot = handle.snapshot().ok()?;
                for (name, value) in [
                    (
                        "messages",
                        snapshot.messages_ready + snapshot.messages_unsettled,
                    ),
                    ("messages_ready", snapshot.messages_ready),
                    ("messages_unacknowledged", snapshot.messages_unsettled),
                ] {
                    fields.insert(name.to_owned(), value.into());
                }
            }
            Depth::Basic | Depth::Detailed => {
                let broker = self.state.broker();
                let report = broker.queue_snapshot(handle, &self.ranges)?;
                self.put_report(&mut fields, handle, &report);
            }
        }
        Some(Value::Object(fields))
    }

    /// A queue alone; `None` when it has gone.
    pub(super) fn whole(&self, handle: &QueueHandle) -> Option<Value> {
        let mut queue = self.row(handle)?;
        if self.depth == Depth::Detailed {
            let reports = self.state.broker().consumers_of(handle);
            queue["consumer_details"] = reports
                .iter()
                .map(|report| consumers::shown(&self.state, report))
                .collect();
            // Filled with rates_mode=detailed alone, which this is not.
            queue["deliveries"] = json!([]);
            queue["incoming"] = json!([]);
        }
        Some(queue)
    }

    fn declared(&self, handle: &QueueHandle) -> Map<String, Value> {
        let declaration = handle.declaration();
        let policy = handle.policy();
        let node = self.state.settings().node.as_str();
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| {
            fields.insert(name.to_owned(), value);
        };
        put("name", (&**handle.name()).into());
        put("vhost", (&**handle.vhost()).into());
        put("type", handle.kind().as_str().into());
        put("durable", declaration.durable.into());
        put("auto_delete", declaration.auto_delete.into());
        put("exclusive", declaration.exclusive_owner.is_some().into());
        put("arguments", arguments_to_json(&declaration.arguments));
        put("node", node.into());
        put("state", "running".into());
        put("internal", false.into());
        let policy = policy.as_deref();
        let named =
            |name: Option<&crate::model::Name>| name.map_or(Value::Null, |it| (&**it).into());
        put("policy", named(policy.and_then(|it| it.policy.as_ref())));
        put(
            "operator_policy",
            named(policy.and_then(|it| it.operator_policy.as_ref())),
        );
        let definition = policy.map(|it| it.definition.clone()).unwrap_or_default();
        put("effective_policy_definition", definition.into());
        if handle.kind() == QueueKind::Quorum {
            put("leader", node.into());
            put("members", json!([node]));
            put("online", json!([node]));
        } else {
            put("storage_version", 2.into());
        }
        if let Some(owner) = declaration.exclusive_owner
            && let Some(owner) = self.state.broker().registry().stats_of(owner)
        {
            put(
                "owner_pid_details",
                json!({
                    "name": &**owner.name(),
                    "peer_host": shape::host(owner.peer()),
                    "peer_port": owner.peer().port(),
                }),
            );
        }
        fields
    }

    fn put_report(
        &self,
        fields: &mut Map<String, Value>,
        handle: &QueueHandle,
        report: &QueueReport,
    ) {
        shape::put_measures(fields, &report.lengths);
        shape::put_message_stats(fields, &report.message_stats);
        for (name, value) in [
            ("consumers", report.consumers),
            ("memory", report.memory),
            ("messages_ram", report.messages_ram),
            ("messages_persistent", report.messages_persistent),
            ("messages_paged_out", report.messages_paged_out),
            ("messages_ready_ram", report.messages_ready_ram),
            (
                "messages_unacknowledged_ram",
                report.messages_unacknowledged_ram,
            ),
            ("message_bytes", report.message_bytes),
            ("message_bytes_ready", report.message_bytes_ready),
            (
                "message_bytes_unacknowledged",
                report.message_bytes_unacknowledged,
            ),
            ("message_bytes_ram", report.message_bytes_ram),
            ("message_bytes_persistent", report.message_bytes_persistent),
            ("message_bytes_paged_out", report.message_bytes_paged_out),
            ("reductions", 0),
        ] {
            fields.insert(name.to_owned(), value.into());
        }
        for name in ["consumer_capacity", "consumer_utilisation"] {
            fields.insert(name.to_owned(), report.consumer_capacity.into());
        }
        fields.insert("reductions_details".to_owned(), json!({"rate": 0.0}));
        let tag = report.exclusive_consumer_tag.as_deref();
        fields.insert(
            "exclusive_consumer_tag".to_owned(),
            tag.map_or(Value::Null, Value::from),
        );
        if let Some(tag) = &report.single_active_consumer_tag {
            fields.insert("single_active_consumer_tag".to_owned(), (&**tag).into());
        }
        if let Some(timestamp) = report.head_message_timestamp {
            fields.insert("head_message_timestamp".to_owned(), timestamp.into());
        }
        if handle.kind() == QueueKind::Quorum {
            fields.insert("messages_dlx".to_owned(), report.messages_dlx.into());
            fields.insert(
                "message_bytes_dlx".to_owned(),
                report.message_bytes_dlx.into(),
            );
            fields.insert(
                "messages_delayed".to_owned(),
                report.messages_delayed.into(),
            );
            let node = self.state.settings().node.clone();
            fields.insert(
                "open_files".to_owned(),
                Value::Object(Map::from_iter([(node, 0.into())])),
            );
        }
        let sync = self.state.broker().queue_sync(handle);
        fields.insert("sync".to_owned(), sync.as_str().into());
        if self.depth == Depth::Detailed {
            fields.insert("garbage_collection".to_owned(), shape::garbage_collection());
            if let Some(ms) = report.idle_since_ms {
                fields.insert("idle_since".to_owned(), shape::time(ms).into());
            }
        }
    }
}
