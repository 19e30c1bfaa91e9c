//! Writing the definitions document.
//!
//! In: a source of definitions. Out: JSON on a writer, one definition a line, never the whole document in
//! memory. Two styles: RabbitMQ's, and the catalogue's own, which adds what RabbitMQ's lacks.

use std::io::{self, Write};

use serde_json::{Map, Value as Json, json};

use super::super::{Definition, Definitions, row};
use super::document::{CATALOGUE, QUEUE_ID};
use super::fields::TYPED_ARGUMENTS;
use super::{arguments_from_json, arguments_to_json};
use crate::protocol::FieldTable;

/// The lines above the definitions.
#[derive(Clone, Debug)]
pub struct ExportHeader {
    /// The version that the broker announces; `rabbit_version`, `rabbitmq_version`, `product_version`.
    pub version: String,
    /// `product_name`.
    pub product_name: String,
    /// `original_cluster_name`.
    pub cluster_name: String,
}

/// A list of the document, in its order (`rabbit_mgmt_wm_definitions.erl`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::definitions) enum Section {
    Users,
    Vhosts,
    Permissions,
    TopicPermissions,
    Parameters,
    GlobalParameters,
    Policies,
    Queues,
    Exchanges,
    Bindings,
}

impl Section {
    pub(in crate::store::definitions) const ALL: [Self; 10] = [
        Self::Users,
        Self::Vhosts,
        Self::Permissions,
        Self::TopicPermissions,
        Self::Parameters,
        Self::GlobalParameters,
        Self::Policies,
        Self::Queues,
        Self::Exchanges,
        Self::Bindings,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Vhosts => "vhosts",
            Self::Permissions => "permissions",
            Self::TopicPermissions => "topic_permissions",
            Self::Parameters => "parameters",
            Self::GlobalParameters => "global_parameters",
            Self::Policies => "policies",
            Self::Queues => "queues",
            Self::Exchanges => "exchanges",
            Self::Bindings => "bindings",
        }
    }

    /// Whether a document of a single virtual host has it.
    fn is_in_vhost(self) -> bool {
        matches!(
            self,
            Self::Parameters | Self::Policies | Self::Queues | Self::Exchanges | Self::Bindings
        )
    }
}

/// Where definitions come from.
pub(in crate::store::definitions) trait Source {
    /// Calls `visit` with every definition of a section.
    fn visit(
        &self,
        section: Section,
        visit: &mut dyn FnMut(&Definition) -> io::Result<()>,
    ) -> io::Result<()>;
}

impl Source for Definitions {
    fn visit(
        &self,
        section: Section,
        visit: &mut dyn FnMut(&Definition) -> io::Result<()>,
    ) -> io::Result<()> {
        fn each<T: Clone + Into<Definition>>(
            list: &[T],
            visit: &mut dyn FnMut(&Definition) -> io::Result<()>,
        ) -> io::Result<()> {
            list.iter().try_for_each(|item| visit(&item.clone().into()))
        }
        match section {
            Section::Users => each(&self.users, visit),
            Section::Vhosts => each(&self.vhosts, visit),
            Section::Permissions => each(&self.permissions, visit),
            Section::TopicPermissions => each(&self.topic_permissions, visit),
            Section::Parameters => each(&self.parameters, visit),
            Section::GlobalParameters => each(&self.global_parameters, visit),
            Section::Policies => each(&self.policies, visit),
            Section::Queues => each(&self.queues, visit),
            Section::Exchanges => each(&self.exchanges, visit),
            Section::Bindings => each(&self.bindings, visit),
        }
    }
}

/// Which document is written.
#[derive(Clone, Copy, Debug)]
pub(in crate::store::definitions) enum ExportStyle<'a> {
    /// RabbitMQ's, of all or of one virtual host.
    Rabbit {
        header: &'a ExportHeader,
        vhost: Option<&'a str>,
    },
    /// The catalogue's own: everything, with queue numbers and argument types, and these counters.
    Catalogue {
        sequence: u64,
        queue_id_limit: u64,
        definitions_lsn: u64,
    },
}

/// Writes RabbitMQ's definitions document, of everything or of one virtual host. What RabbitMQ does not
/// export is left out: `amq.*` exchanges, default bindings, internal parameters. Exclusive queues are never
/// among the definitions.
///
/// # Errors
/// Those of the writer.
pub fn export(
    out: &mut dyn Write,
    definitions: &Definitions,
    vhost: Option<&str>,
    header: &ExportHeader,
) -> io::Result<()> {
    write(out, definitions, ExportStyle::Rabbit { header, vhost })
}

pub(in crate::store::definitions) fn write(
    out: &mut dyn Write,
    source: &dyn Source,
    style: ExportStyle<'_>,
) -> io::Result<()> {
    out.write_all(b"{")?;
    for (index, (key, value)) in top(style).into_iter().enumerate() {
        if index > 0 {
            out.write_all(b",\n")?;
        }
        write!(out, "{}:{value}", Json::from(key))?;
    }
    for section in Section::ALL {
        let vhost = match style {
            ExportStyle::Rabbit { vhost, .. } => vhost,
            ExportStyle::Catalogue { .. } => None,
        };
        if vhost.is_some() && !section.is_in_vhost() {
            continue;
        }
        write!(out, ",\n\"{}\":[", section.name())?;
        let mut is_first = true;
        source.visit(section, &mut |definition| {
            let is_for_others = matches!(style, ExportStyle::Rabbit { .. });
            if is_for_others && !is_exported(definition, vhost) {
                return Ok(());
            }
            let mut object = object(definition, is_for_others);
            if vhost.is_some() {
                object.remove("vhost");
            }
            out.write_all(if is_first { b"\n" } else { b",\n" })?;
            is_first = false;
            serde_json::to_writer(&mut *out, &object).map_err(io::Error::from)
        })?;
        out.write_all(b"]")?;
    }
    out.write_all(b"}\n")
}

fn top(style: ExportStyle<'_>) -> Vec<(&'static str, Json)> {
    match style {
        ExportStyle::Catalogue {
            sequence,
            queue_id_limit,
            definitions_lsn,
        } => vec![(
            CATALOGUE,
            json!({
                "version": 1,
                "sequence": sequence,
                "queue_id_limit": queue_id_limit,
                "lsn": definitions_lsn,
            }),
        )],
        ExportStyle::Rabbit { header, vhost } => {
            let mut top = vec![
                ("rabbit_version", header.version.clone().into()),
                ("rabbitmq_version", header.version.clone().into()),
                ("product_name", header.product_name.clone().into()),
                ("product_version", header.version.clone().into()),
            ];
            match vhost {
                None => top.extend([
                    ("rabbitmq_definition_format", "cluster".into()),
                    ("original_cluster_name", header.cluster_name.clone().into()),
                    (
                        "explanation",
                        format!("Definitions of cluster '{}'", header.cluster_name).into(),
                    ),
                ]),
                Some(vhost) => top.extend([
                    ("rabbitmq_definition_format", "single_virtual_host".into()),
                    ("original_vhost_name", vhost.into()),
                    (
                        "explanation",
                        format!("Definitions of virtual host '{vhost}'").into(),
                    ),
                ]),
            }
            top
        }
    }
}

/// Whether RabbitMQ's document shows it.
fn is_exported(definition: &Definition, vhost: Option<&str>) -> bool {
    let (own_vhost, is_shown) = match definition {
        Definition::Exchange(exchange) => (
            Some(&exchange.vhost),
            !exchange.name.is_empty() && !exchange.name.starts_with("amq."),
        ),
        Definition::Queue(queue) => (Some(&queue.vhost), true),
        Definition::Binding(binding) => (Some(&binding.vhost), !binding.source.is_empty()),
        Definition::Policy(policy) => (Some(&policy.vhost), true),
        Definition::Parameter(parameter) => (Some(&parameter.vhost), true),
        Definition::GlobalParameter(parameter) => (None, !parameter.name.starts_with("internal")),
        Definition::Vhost(_)
        | Definition::User(_)
        | Definition::Permission(_)
        | Definition::TopicPermission(_) => (None, true),
    };
    is_shown && vhost.is_none_or(|vhost| own_vhost.is_some_and(|own| **own == *vhost))
}

/// A definition as the document has it; unless it is for others, with what keeps every type.
fn object(definition: &Definition, is_for_others: bool) -> Map<String, Json> {
    let json = match definition {
        Definition::User(user) => {
            let mut limits = Map::new();
            let set = [
                ("max-connections", user.limits.max_connections),
                ("max-channels", user.limits.max_channels),
            ];
            for (name, limit) in set {
                if let Some(limit) = limit {
                    limits.insert(name.to_owned(), limit.into());
                }
            }
            json!({
                "name": &*user.name,
                "password_hash": user.password.to_base64(),
                "hashing_algorithm": user.password.algorithm().name(),
                "tags": user.tags,
                "limits": limits,
            })
        }
        Definition::Vhost(vhost) => {
            let mut metadata = vhost.metadata.clone();
            metadata.insert("description".to_owned(), (&*vhost.description).into());
            metadata.insert("tags".to_owned(), json!(vhost.tags));
            if let Some(kind) = &vhost.default_queue_type {
                metadata.insert("default_queue_type".to_owned(), (&**kind).into());
            }
            // Limits are exported as parameters, from which an import takes them.
            json!({"name": &*vhost.name, "limits": {}, "metadata": metadata})
        }
        Definition::Permission(permission) => json!({
            "user": &*permission.user,
            "vhost": &*permission.vhost,
            "configure": permission.configure,
            "write": permission.write,
            "read": permission.read,
        }),
        Definition::TopicPermission(permission) => json!({
            "user": &*permission.user,
            "vhost": &*permission.vhost,
            "exchange": &*permission.exchange,
            "write": permission.write,
            "read": permission.read,
        }),
        Definition::Parameter(parameter) => json!({
            "vhost": &*parameter.vhost,
            "component": &*parameter.component,
            "name": &*parameter.name,
            "value": parameter.value,
        }),
        Definition::GlobalParameter(parameter) => json!({
            "name": &*parameter.name,
            "value": parameter.value,
        }),
        Definition::Policy(policy) => json!({
            "vhost": &*policy.vhost,
            "name": &*policy.name,
            "pattern": policy.pattern,
            "apply-to": policy.apply_to,
            "priority": policy.priority,
            "definition": policy.definition,
        }),
        Definition::Queue(queue) => json!({
            "vhost": &*queue.vhost,
            "name": &*queue.name,
            "type": queue.kind,
            "durable": queue.durable,
            "auto_delete": queue.auto_delete,
            "arguments": arguments_to_json(&queue.arguments),
        }),
        Definition::Exchange(exchange) => json!({
            "vhost": &*exchange.vhost,
            "name": &*exchange.name,
            "type": exchange.kind,
            "durable": exchange.durable,
            "auto_delete": exchange.auto_delete,
            "internal": exchange.internal,
            "arguments": arguments_to_json(&exchange.arguments),
        }),
        Definition::Binding(binding) => json!({
            "source": &*binding.source,
            "vhost": &*binding.vhost,
            "destination": &*binding.destination,
            "destination_type": binding.destination_kind.name(),
            "routing_key": &*binding.routing_key,
            "arguments": arguments_to_json(&binding.arguments),
        }),
    };
    let mut object = match json {
        Json::Object(object) => object,
        _ => Map::new(),
    };
    if !is_for_others {
        let arguments = match definition {
            Definition::Queue(queue) => {
                object.insert(QUEUE_ID.to_owned(), queue.id.0.into());
                Some(&queue.arguments)
            }
            Definition::Exchange(exchange) => Some(&exchange.arguments),
            Definition::Binding(binding) => Some(&binding.arguments),
            _ => None,
        };
        if let Some(arguments) = arguments.filter(|arguments| !comes_back_whole(arguments)) {
            object.insert(
                TYPED_ARGUMENTS.to_owned(),
                row::arguments_text(arguments).into(),
            );
        }
    }
    object
}

/// Whether JSON keeps these arguments as they are.
fn comes_back_whole(arguments: &FieldTable) -> bool {
    arguments_from_json(&arguments_to_json(arguments), "").is_ok_and(|back| back == *arguments)
}
