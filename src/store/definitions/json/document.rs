//! A definitions document, read and checked as far as that needs no knowledge of what exists.
//!
//! In: JSON text. Out: a [`Document`], or the first error with its place. Whether its virtual hosts and
//! users exist is for [`super::plan`] to say.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::super::{
    Binding, Definitions, DestinationKind, Exchange, GlobalParameter, Parameter, Policy, Queue,
    Vhost,
};
use super::ImportError;
use super::fields::Fields;
use crate::auth::{
    HashingAlgorithm, NamePattern, PasswordHash, PatternError, Permission, TAGS_MAX,
    TopicPermission, User, UserLimits,
};
use crate::model::{Name, QueueId};

/// The field by which this program finds its own catalogue's export again.
pub(super) const CATALOGUE: &str = "haremq_catalogue";

/// The field with a queue's number in that export.
pub(super) const QUEUE_ID: &str = "haremq_queue_id";

/// Top keys that say nothing about definitions and need no warning.
const KNOWN_TOP_KEYS: [&str; 14] = [
    "rabbit_version",
    "rabbitmq_version",
    "lavinmq_version",
    "product_name",
    "product_version",
    "rabbitmq_definition_format",
    "original_cluster_name",
    "original_vhost_name",
    "explanation",
    "description",
    "default_queue_type",
    "limits",
    "metadata",
    CATALOGUE,
];

const SECTIONS: [&str; 10] = [
    "users",
    "vhosts",
    "permissions",
    "topic_permissions",
    "parameters",
    "global_parameters",
    "policies",
    "queues",
    "exchanges",
    "bindings",
];

/// Sections that a document of a single virtual host does not have.
const CLUSTER_SECTIONS: [&str; 5] = [
    "users",
    "vhosts",
    "permissions",
    "topic_permissions",
    "global_parameters",
];

/// A definitions document.
#[derive(Clone, Debug, Default)]
pub struct Document {
    pub(super) definitions: Definitions,
    pub(super) warnings: Vec<String>,
}

impl Document {
    /// Reads a document. With `vhost`, it is one of a single virtual host: its queues, exchanges, bindings,
    /// policies and parameters go there, and the rest of it is left out.
    ///
    /// # Errors
    /// [`ImportError::NotJson`] or [`ImportError::Invalid`].
    pub fn parse(json: &[u8], vhost: Option<&str>) -> Result<Self, ImportError> {
        const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
        let json = json.strip_prefix(BYTE_ORDER_MARK).unwrap_or(json);
        let json: Json = serde_json::from_slice(json).map_err(|error| ImportError::NotJson {
            reason: error.to_string(),
        })?;
        let top = json.as_object().ok_or_else(|| ImportError::Invalid {
            path: "document".to_owned(),
            reason: "expected an object".to_owned(),
        })?;
        let mut reader = Reader {
            vhost: vhost.map(Name::from),
            default_algorithm: default_algorithm(top),
            document: Self::default(),
        };
        for key in top.keys() {
            if !KNOWN_TOP_KEYS.contains(&key.as_str()) && !SECTIONS.contains(&key.as_str()) {
                reader.warn(format!("'{key}' is unknown and was left out"));
            }
        }
        for section in SECTIONS {
            reader.section(top, section)?;
        }
        Ok(reader.document)
    }

    /// What it defines. Queues have the number 0 unless the document is an export of the catalogue.
    pub fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// The same, taken over.
    pub(in crate::store::definitions) fn into_definitions(self) -> Definitions {
        self.definitions
    }
}

/// Files of RabbitMQ 3.0 to 3.5 hold MD5 hashes without saying so (`rabbit_auth_backend_internal.erl`,
/// `hashing_algorithm/2`).
fn default_algorithm(top: &Map<String, Json>) -> HashingAlgorithm {
    let version = ["rabbitmq_version", "rabbit_version"]
        .iter()
        .find_map(|key| top.get(*key)?.as_str())
        .unwrap_or_default();
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(3)), Some(Ok(0..=5))) => HashingAlgorithm::Md5,
        _ => HashingAlgorithm::default(),
    }
}

struct Reader {
    /// The virtual host that a document of a single one goes to.
    vhost: Option<Name>,
    default_algorithm: HashingAlgorithm,
    document: Document,
}

impl Reader {
    fn warn(&mut self, warning: String) {
        self.document.warnings.push(warning);
    }

    fn section(&mut self, top: &Map<String, Json>, section: &str) -> Result<(), ImportError> {
        let list = match top.get(section) {
            None | Some(Json::Null) => return Ok(()),
            Some(Json::Array(list)) => list,
            Some(_) => {
                return Err(ImportError::Invalid {
                    path: section.to_owned(),
                    reason: "expected a list".to_owned(),
                });
            }
        };
        if self.vhost.is_some() && CLUSTER_SECTIONS.contains(&section) {
            if !list.is_empty() {
                self.warn(format!(
                    "'{section}' does not belong to a single virtual host and was left out"
                ));
            }
            return Ok(());
        }
        for (at, json) in list.iter().enumerate() {
            let fields = Fields::new(format!("{section}[{at}]"), json)?;
            match section {
                "users" => self.user(&fields)?,
                "vhosts" => self.vhost_definition(&fields)?,
                "permissions" => self.permission(&fields)?,
                "topic_permissions" => self.topic_permission(&fields)?,
                "parameters" => self.parameter(&fields)?,
                "global_parameters" => self.global_parameter(&fields)?,
                "policies" => self.policy(&fields)?,
                "queues" => self.queue(&fields)?,
                "exchanges" => self.exchange(&fields)?,
                _ => self.binding(&fields)?,
            }
        }
        Ok(())
    }

    /// The virtual host of an object.
    fn vhost_of(&self, fields: &Fields<'_>) -> Result<Name, ImportError> {
        match &self.vhost {
            Some(vhost) => Ok(vhost.clone()),
            None if fields.get("vhost").is_none() => Err(fields.error(
                "vhost",
                "missing (definitions of a single virtual host must be imported into one)",
            )),
            None => fields.short_name("vhost"),
        }
    }

    fn user(&mut self, fields: &Fields<'_>) -> Result<(), ImportError> {
        let name = fields.name("name")?;
        if name.is_empty() {
            return Err(fields.error("name", "empty"));
        }
        let tags = match fields.tags("tags")? {
            Some(tags) => tags,
            None if fields.get("administrator").is_some() => {
                let administrator = fields.flag("administrator", false)?;
                administrator
                    .then(|| "administrator".to_owned())
                    .into_iter()
                    .collect()
            }
            None => return Err(fields.error("tags", "missing")),
        };
        if tags.len() > TAGS_MAX {
            return Err(fields.error("tags", format!("at most {TAGS_MAX} are allowed")));
        }
        let user = User {
            password: self.password(fields)?,
            limits: user_limits(fields)?,
            name,
            tags,
        };
        if !user.password.is_well_formed() {
            self.warn(format!(
                "{}.password_hash: its length is not that of {}, so no password will match",
                fields.path(),
                user.password.algorithm().name()
            ));
        }
        // Permissions that come with a user, by virtual host, as the API accepts them.
        if let Some(permissions) = fields.object("permissions")? {
            for vhost in permissions.map().keys() {
                let inner = permissions.object(vhost)?;
                let inner = inner.ok_or_else(|| permissions.error(vhost, "missing"))?;
                let permission = permission(&inner, user.name.clone(), vhost.as_str().into())?;
                self.document.definitions.permissions.push(permission);
            }
        }
        self.document.definitions.users.push(user);
        Ok(())
    }

    fn password(&self, fields: &Fields<'_>) -> Result<PasswordHash, ImportError> {
        let algorithm = match fields.text_if_any("hashing_algorithm")? {
            None => self.default_algorithm,
            Some(name) => HashingAlgorithm::from_name(name).ok_or_else(|| {
                fields.error("hashing_algorithm", format!("'{name}' is not known"))
            })?,
        };
        let plain = fields.text_if_any("password")?;
        let hash = fields.text_if_any("password_hash")?;
        match (plain, hash) {
            (None, None) => Ok(PasswordHash::none()),
            (Some(_), Some(_)) => {
                Err(fields.error("password", "given together with password_hash"))
            }
            (None, Some(hash)) => PasswordHash::from_base64(algorithm, hash)
                .map_err(|error| fields.error("password_hash", error.to_string())),
            (Some(""), None) => Err(fields.error("password", "a password must not be empty")),
            (Some(plain), None) => {
                PasswordHash::create(HashingAlgorithm::default(), plain.as_bytes())
                    .map_err(|error| fields.error("password", error.to_string()))
            }
        }
    }

    fn vhost_definition(&mut self, fields: &Fields<'_>) -> Result<(), ImportError> {
        let name = fields.short_name("name")?;
        if name.is_empty() {
            return Err(fields.error("name", "empty"));
        }
        // Newer brokers write the metadata as an object, older ones beside the name; the latter wins.
        let inner = fields.object("metadata")?;
        let levels = || [Some(fields), inner.as_ref()].into_iter().flatten();
        let mut vhost = Vhost::new(name);
        for level in levels() {
            if vhost.description.is_empty() {
                vhost.description = level.text_if_any("description")?.unwrap_or("").to_owned();
            }
            if vhost.tags.is_empty() {
                vhost.tags = level.tags("tags")?.unwrap_or_default();
            }
            if vhost.default_queue_type.is_none() {
                vhost.default_queue_type = default_queue_type(level)?;
            }
        }
        if let Some(inner) = &inner {
            vhost.metadata = inner.map().clone();
            for known in ["description", "tags", "default_queue_type"] {
                vhost.metadata.remove(known);
            }
        }
        if fields.flag("tracing", false)? {
            vhost.metadata.insert("tracing".to_owned(), true.into());
        }
        self.document.definitions.vhosts.push(vhost);
        Ok(())
    }

    fn permission(&mut self, fields: &Fields<'_>) -> Result<(), ImportError> {
        let permission = permission(fields, fields.name("user")?, self.vhost_of(fields)?)?;
        self.document.definitions.permissions.push(permission);
        Ok(())
    }

    fn topic_permission(&mut self, fields: &Fields<'_>) -> Result<(), ImportError> {
        let permission = TopicPermission {
            user: fields.name("user")?,
            vhost: self.vhost_of(fields)?,
            exchange: fields.short_name("exchange")?,
            write: topic_pattern(fields, "write")?,
            read: topic_pattern(fields, "read")?,
        };
        self.document.definitions.topic_permissions.push(permission);
        Ok(())
    }

    fn parameter(&mut self, fields: &Fields<'_>) -> Result<(), ImportError> {
        let parameter = Parameter {
            vhost: self.vhost_of(fields)?,
            component: fields.name("component")?,
            name: fields.name("name")?,
            value: fields.required("value")?.clone(),
        };
        self.document.definitions.parameters.push(parameter);
        Ok(())
    }

    fn global_parameter(&mut self, fields: &Fields<'_>) -> Result<(), ImportError> {
        let parameter = GlobalParameter {
            name: fields.name("name")?,
            value: fields.required("value")?.clone(),
        };
        self.document.definitions.global_parameters.push(parameter);
        Ok(())
    }

    fn policy(&mut self, fields: &Fields<'_>) -> Result<(), ImportError> {
        const APPLY_TO: [&str; 6] = [
            "all",
            "exchanges",
            "queues",
            "classic_queues",
            "quorum_queues",
            "streams",
        ];
        let pattern = fields.text("pattern")?.to_owned();
        match NamePattern::compile(&pattern) {
            Ok(_) => {}
            Err(reason @ PatternError::Unsupported { .. }) => self.warn(format!(
                "{}.pattern: {reason}; the policy is kept and applies to nothing",
                fields.path()
            )),
            Err(reason) => return Err(fields.error("pattern", reason.to_string())),
        }
        let apply_to = fields.text_if_any("apply-to")?.unwrap_or("all");
        if !APPLY_TO.contains(&apply_to) {
            return Err(fields.error(
                "apply-to",
                format!("'{apply_to}' is none of {}", APPLY_TO.join(", ")),
            ));
        }
        fields.required("definition")?;
        let definition = fields.object("definition")?;
        let policy = Policy {
            vhost: self.vhost_of(fields)?,
            name: fields.name("name")?,
            pattern,
            apply_to: apply_to.to_owned(),
            priority: fields.integer("priority")?.unwrap_or(0),
            definition: definition
                .map(|definition| definition.map().clone())
                .unwrap_or_default(),
        };
        self.document.definitions.policies.push(policy);
        Ok(())
    }

    fn queue(&mut self, fields: &Fields<'_>) -> Result<(), ImportError> {
        const KINDS: [&str; 3] = ["classic", "quorum", "stream"];
        let arguments = fields.arguments()?;
        let argument = arguments
            .get("x-queue-type")
            .and_then(|value| value.as_str());
        let kind = match (argument, fields.text_if_any("type")?) {
            (Some(kind), _) | (None, Some(kind)) => short_queue_type(kind).to_owned(),
            // The virtual host's default, which is known to the plan.
            (None, None) => String::new(),
        };
        if !kind.is_empty() && !KINDS.contains(&kind.as_str()) {
            return Err(fields.error("type", format!("'{kind}' is no type of queue")));
        }
        let id = fields.integer(QUEUE_ID)?.unwrap_or(0);
        let queue = Queue {
            id: QueueId(
                u64::try_from(id).map_err(|_| fields.error(QUEUE_ID, "must not be negative"))?,
            ),
            vhost: self.vhost_of(fields)?,
            name: fields.short_name("name")?,
            kind,
            durable: fields.flag("durable", true)?,
            auto_delete: fields.flag("auto_delete", false)?,
            arguments,
        };
        if queue.name.is_empty() {
            return Err(fields.error("name", "empty"));
        }
        if fields.flag("exclusive", false)? {
            self.warn(format!("{}: exclusive and left out", fields.path()));
            return Ok(());
        }
        self.document.definitions.queues.push(queue);
        Ok(())
    }

    fn exchange(&mut self, fields: &Fields<'_>) -> Result<(), ImportError> {
        let exchange = Exchange {
            vhost: self.vhost_of(fields)?,
            name: fields.short_name("name")?,
            kind: fields.text("type")?.to_owned(),
            durable: fields.flag("durable", true)?,
            auto_delete: fields.flag("auto_delete", false)?,
            internal: fields.flag("internal", false)?,
            arguments: fields.arguments()?,
        };
        self.document.definitions.exchanges.push(exchange);
        Ok(())
    }

    fn binding(&mut self, fields: &Fields<'_>) -> Result<(), ImportError> {
        let destination_kind = match fields.text("destination_type")? {
            "queue" => DestinationKind::Queue,
            "exchange" => DestinationKind::Exchange,
            other => {
                return Err(fields.error(
                    "destination_type",
                    format!("'{other}' is neither queue nor exchange"),
                ));
            }
        };
        let binding = Binding {
            vhost: self.vhost_of(fields)?,
            source: fields.short_name("source")?,
            destination: fields.short_name("destination")?,
            destination_kind,
            routing_key: fields.short_name("routing_key")?,
            arguments: fields.arguments()?,
        };
        self.document.definitions.bindings.push(binding);
        Ok(())
    }
}

fn user_limits(fields: &Fields<'_>) -> Result<UserLimits, ImportError> {
    let Some(limits) = fields.object("limits")? else {
        return Ok(UserLimits::default());
    };
    Ok(UserLimits {
        max_connections: limits.integer("max-connections")?,
        max_channels: limits.integer("max-channels")?,
    })
}

fn permission(fields: &Fields<'_>, user: Name, vhost: Name) -> Result<Permission, ImportError> {
    let pattern = |field| {
        let text = fields.text(field)?;
        NamePattern::compile(text).map_err(|reason| fields.error(field, reason.to_string()))?;
        Ok::<_, ImportError>(text.to_owned())
    };
    Ok(Permission {
        user,
        vhost,
        configure: pattern("configure")?,
        write: pattern("write")?,
        read: pattern("read")?,
    })
}

/// A topic permission's pattern, tried with its variables standing for nothing special.
fn topic_pattern(fields: &Fields<'_>, field: &str) -> Result<String, ImportError> {
    let text = fields.text(field)?;
    let mut tried = text.to_owned();
    for variable in ["{username}", "{vhost}", "{client_id}"] {
        tried = tried.replace(variable, "v");
    }
    NamePattern::compile(&tried).map_err(|reason| fields.error(field, reason.to_string()))?;
    Ok(text.to_owned())
}

fn default_queue_type(fields: &Fields<'_>) -> Result<Option<String>, ImportError> {
    const FIELD: &str = "default_queue_type";
    match fields.text_if_any(FIELD)?.map(short_queue_type) {
        None | Some("undefined" | "") => Ok(None),
        Some(kind @ ("classic" | "quorum" | "stream")) => Ok(Some(kind.to_owned())),
        Some(other) => Err(fields.error(FIELD, format!("'{other}' is no type of queue"))),
    }
}

/// RabbitMQ's files hold the name of a type or that of the module behind it.
fn short_queue_type(kind: &str) -> &str {
    let modules = BTreeMap::from([
        ("rabbit_classic_queue", "classic"),
        ("rabbit_quorum_queue", "quorum"),
        ("rabbit_stream_queue", "stream"),
    ]);
    modules.get(kind).copied().unwrap_or(kind)
}
