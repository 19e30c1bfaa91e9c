//! Messages as the plain model keeps them, and the one text in which model and broker describe a delivery.
//!
//! In: what a client publishes, and deaths. Out: other messages, and texts. Where a message goes is not known here.

use haremq::protocol::{FieldTable, Properties, Value};

/// A death, as an entry of `x-death` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    pub queue: String,
    pub reason: &'static str,
    pub count: u64,
    pub time_s: u64,
    pub exchange: String,
    pub keys: Vec<String>,
    pub original_expiration_ms: Option<u64>,
}

/// What the first and the last death are summed up as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epitaph {
    pub reason: &'static str,
    pub queue: String,
    pub exchange: String,
}

/// A message in the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub body: String,
    pub exchange: String,
    pub key: String,
    pub priority: Option<u8>,
    pub expiration_ms: Option<u64>,
    /// Plain text headers, for headers exchanges.
    pub texts: Vec<(&'static str, &'static str)>,
    pub cc: Vec<String>,
    /// Newest first.
    pub deaths: Vec<Death>,
    pub first: Option<Epitaph>,
    pub last: Option<Epitaph>,
}

impl Message {
    /// The keys that it is routed by.
    pub fn keys(&self) -> Vec<String> {
        std::iter::once(&self.key)
            .chain(&self.cc)
            .cloned()
            .collect()
    }

    /// The dead letter that it becomes (behaviour 2.8).
    pub fn die(
        &self,
        queue: &str,
        reason: &'static str,
        now_ms: u64,
        exchange: &str,
        key: Option<&str>,
    ) -> Self {
        let mut letter = self.clone();
        let mut death = Death {
            queue: queue.to_owned(),
            reason,
            count: 0,
            time_s: now_ms / 1000,
            exchange: self.exchange.clone(),
            keys: self.keys(),
            original_expiration_ms: self.expiration_ms,
        };
        if let Some(at) = letter
            .deaths
            .iter()
            .position(|death| death.queue == queue && death.reason == reason)
        {
            death = letter.deaths.remove(at);
        }
        death.count += 1;
        letter.deaths.insert(0, death);
        let epitaph = Epitaph {
            reason,
            queue: queue.to_owned(),
            exchange: self.exchange.clone(),
        };
        letter.first.get_or_insert_with(|| epitaph.clone());
        letter.last = Some(epitaph);
        letter.expiration_ms = None;
        exchange.clone_into(&mut letter.exchange);
        if let Some(key) = key {
            key.clone_into(&mut letter.key);
            letter.cc.clear();
        }
        letter
    }

    /// Whether it is about to turn in a circle in which nobody rejects it (`mc.erl`, `is_cycle_v2`).
    pub fn is_cycle(&self, target: &str) -> bool {
        match self.deaths.iter().position(|death| death.queue == target) {
            None => false,
            Some(at) => self.deaths[..=at]
                .iter()
                .all(|death| death.reason != "rejected"),
        }
    }

    /// How a delivery of it must look. The counts are those of a quorum queue's redelivery.
    pub fn describe(&self, redelivered: bool, counts: Option<(u32, u32)>) -> String {
        let mut properties = self.properties();
        if let Some((acquired, failed)) = counts {
            let headers = properties.headers.get_or_insert_default();
            headers.insert("x-acquired-count", i64::from(acquired));
            if failed > 0 {
                headers.insert("x-delivery-count", i64::from(failed));
            }
        }
        describe(
            &self.exchange,
            &self.key,
            redelivered,
            &properties,
            &self.body,
        )
    }

    /// Its properties as they go over the wire.
    pub fn properties(&self) -> Properties {
        let mut headers = FieldTable::new();
        for (name, text) in &self.texts {
            headers.insert(*name, *text);
        }
        if !self.cc.is_empty() {
            headers.insert("CC", list(&self.cc));
        }
        if !self.deaths.is_empty() {
            let deaths = self.deaths.iter().map(death_table).map(Value::Table);
            headers.insert("x-death", Value::Array(deaths.collect()));
        }
        for (which, epitaph) in [("first", &self.first), ("last", &self.last)] {
            if let Some(epitaph) = epitaph {
                headers.insert(format!("x-{which}-death-reason"), epitaph.reason);
                headers.insert(format!("x-{which}-death-queue"), epitaph.queue.as_str());
                headers.insert(
                    format!("x-{which}-death-exchange"),
                    epitaph.exchange.as_str(),
                );
            }
        }
        Properties {
            priority: self.priority,
            expiration: self.expiration_ms.map(|ms| ms.to_string().into()),
            headers: (!headers.is_empty()).then_some(headers),
            ..Properties::default()
        }
    }
}

/// A list of texts.
pub fn list(texts: &[String]) -> Value {
    Value::Array(
        texts
            .iter()
            .map(|text| Value::from(text.as_str()))
            .collect(),
    )
}

fn death_table(death: &Death) -> FieldTable {
    let mut table = FieldTable::new();
    table.insert("count", Value::I64(death.count as i64));
    table.insert("reason", death.reason);
    table.insert("queue", death.queue.as_str());
    table.insert("time", Value::Timestamp(death.time_s));
    table.insert("exchange", death.exchange.as_str());
    table.insert("routing-keys", list(&death.keys));
    if let Some(ms) = death.original_expiration_ms {
        table.insert("original-expiration", ms.to_string().as_str());
    }
    table
}

/// The text that a delivery, a get or a return is compared by.
pub fn describe(
    exchange: &str,
    key: &str,
    redelivered: bool,
    properties: &Properties,
    body: &str,
) -> String {
    let id = body.trim_end_matches('.');
    let mut text = format!("{id} of {} from '{exchange}' by '{key}'", body.len());
    if redelivered {
        text.push_str(" redelivered");
    }
    if let Some(priority) = properties.priority {
        text.push_str(&format!(" priority {priority}"));
    }
    if let Some(expiration) = &properties.expiration {
        text.push_str(&format!(" expiration {:?}", expiration.as_str()));
    }
    if let Some(headers) = properties
        .headers
        .as_ref()
        .filter(|headers| !headers.is_empty())
    {
        text.push_str(&format!(" {}", show_table(headers)));
    }
    text
}

fn show_table(table: &FieldTable) -> String {
    let mut fields: Vec<String> = table
        .iter()
        .map(|(name, value)| format!("{}={}", name.as_str().unwrap_or("?"), show(value)))
        .collect();
    fields.sort();
    format!("{{{}}}", fields.join(" "))
}

fn show(value: &Value) -> String {
    match value {
        Value::Table(table) => show_table(table),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(show).collect();
            format!("[{}]", values.join(" "))
        }
        Value::LongStr(bytes) => format!("'{}'", String::from_utf8_lossy(bytes)),
        other => format!("{other:?}"),
    }
}
