//! What a queue looks like in lists and alone.

use serde_json::{Map, Value, json};

use super::State;
use super::answer::ApiError;
use super::caller::Caller;
use super::input::Params;
use crate::queue::QueueHandle;
use crate::store::definitions::json::arguments_to_json;

/// How queues are shown.
pub(super) struct View {
    state: State,
    with_stats: bool,
}

impl View {
    pub(super) fn of_list(caller: &Caller, params: &Params) -> Result<Self, ApiError> {
        Ok(Self {
            state: caller.state.clone(),
            with_stats: !params.is_true("disable_stats"),
        })
    }

    pub(super) fn of_one(caller: &Caller, params: &Params) -> Result<Self, ApiError> {
        Self::of_list(caller, params)
    }

    pub(super) fn field(&self, handle: &QueueHandle, path: &str) -> Option<Value> {
        let snapshot = handle.snapshot().ok()?;
        Some(match path {
            "messages" => (snapshot.messages_ready + snapshot.messages_unsettled).into(),
            "messages_ready" => snapshot.messages_ready.into(),
            "messages_unacknowledged" => snapshot.messages_unsettled.into(),
            "consumers" => snapshot.consumers.into(),
            _ => return None,
        })
    }

    pub(super) fn row(&self, handle: &QueueHandle) -> Option<Value> {
        let declaration = handle.declaration();
        let mut fields = Map::new();
        for (name, value) in [
            ("name", Value::from(&**handle.name())),
            ("vhost", Value::from(&**handle.vhost())),
            ("type", Value::from(handle.kind().as_str())),
            ("durable", declaration.durable.into()),
            ("auto_delete", declaration.auto_delete.into()),
            ("exclusive", declaration.exclusive_owner.is_some().into()),
            ("arguments", arguments_to_json(&declaration.arguments)),
            ("node", Value::from(self.state.settings().node.as_str())),
            ("state", "running".into()),
            ("effective_policy_definition", json!({})),
        ] {
            fields.insert(name.to_owned(), value);
        }
        if self.with_stats {
            let snapshot = handle.snapshot().ok()?;
            fields.insert(
                "messages".into(),
                (snapshot.messages_ready + snapshot.messages_unsettled).into(),
            );
            fields.insert("messages_ready".into(), snapshot.messages_ready.into());
            fields.insert(
                "messages_unacknowledged".into(),
                snapshot.messages_unsettled.into(),
            );
            fields.insert("consumers".into(), snapshot.consumers.into());
        }
        Some(Value::Object(fields))
    }

    pub(super) fn whole(&self, handle: &QueueHandle) -> Option<Value> {
        self.row(handle)
    }
}
