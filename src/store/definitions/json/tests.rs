//! Documents of several RabbitMQ versions in and out; every error with its place.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::*;
use crate::auth::HashingAlgorithm;
use crate::model::QueueId;
use crate::store::definitions::{self, Definitions, Exchange};
use crate::store::journal::JournalOptions;
use crate::store::probe::Probe;

const FILES: [(&str, &str); 3] = [
    (
        "3.8",
        include_str!("../../../../tests/definitions/rabbitmq-3.8.json"),
    ),
    (
        "3.12",
        include_str!("../../../../tests/definitions/rabbitmq-3.12.json"),
    ),
    (
        "4.1",
        include_str!("../../../../tests/definitions/rabbitmq-4.1.json"),
    ),
];

const SINGLE_VHOST: &str =
    include_str!("../../../../tests/definitions/rabbitmq-4.1-single-vhost.json");

fn file(version: &str) -> Document {
    let (_, text) = FILES.iter().find(|(name, _)| *name == version).unwrap();
    Document::parse(text.as_bytes(), None).unwrap()
}

fn ids() -> impl FnMut() -> QueueId {
    let mut last = QueueId(0);
    move || {
        last = last.next();
        last
    }
}

fn plan(document: Document, existing: &Definitions) -> ImportPlan {
    document.plan(existing, &mut ids()).unwrap()
}

fn applied(plan: &ImportPlan) -> Definitions {
    let mut definitions = Definitions::default();
    for change in &plan.changes {
        match change {
            Change::Put(definition) => definitions.push(definition.clone()),
            Change::Delete(_) => panic!("an import deletes nothing"),
        }
    }
    definitions
}

fn header() -> ExportHeader {
    ExportHeader {
        version: "4.2.5".to_owned(),
        product_name: "RabbitMQ".to_owned(),
        cluster_name: "hare@node".to_owned(),
    }
}

fn exported(definitions: &Definitions, vhost: Option<&str>) -> Vec<u8> {
    let mut out = Vec::new();
    export(&mut out, definitions, vhost, &header()).unwrap();
    out
}

fn open(dir: &Path) -> Arc<Store> {
    let options = Options {
        definitions: definitions::Options {
            probe: Probe::InProcess,
            ..definitions::Options::default()
        },
        journal: JournalOptions {
            file_bytes: 1024 * 1024,
            ..JournalOptions::default()
        },
        ..Options::default()
    };
    Store::open(dir, options).unwrap()
}

#[test]
fn users_of_every_version_log_in_with_their_passwords() {
    for (version, name, password, algorithm) in [
        ("3.8", "guest", "guest", HashingAlgorithm::Sha256),
        ("3.8", "shop", "shop-secret", HashingAlgorithm::Sha512),
        ("3.12", "admin", "admin-secret", HashingAlgorithm::Sha256),
        ("3.12", "legacy", "legacy-secret", HashingAlgorithm::Md5),
        ("4.1", "four", "four-secret", HashingAlgorithm::Sha256),
    ] {
        let document = file(version);
        let users = &document.definitions().users;
        let user = users.iter().find(|user| *user.name == *name).unwrap();
        assert_eq!(user.password.algorithm(), algorithm);
        assert!(user.password.verify(password.as_bytes()), "{name}");
    }
    let document = file("3.8");
    let sensor = &document.definitions().users[2];
    assert!(sensor.password.is_none());
    assert_eq!(sensor.tags, Vec::<String>::new());
    assert_eq!(
        document.definitions().users[1].tags,
        ["monitoring", "policymaker"]
    );
}

#[test]
fn vhosts_take_their_metadata_and_limits_from_either_place() {
    let definitions = file("3.12").definitions().clone();
    let payments = &definitions.vhosts[1];
    assert_eq!(payments.description, "Payments");
    assert_eq!(payments.tags, ["production", "pci"]);
    assert_eq!(payments.default_queue_type.as_deref(), Some("quorum"));

    let definitions = file("4.1").definitions().clone();
    let four = &definitions.vhosts[0];
    assert_eq!(four.default_queue_type.as_deref(), Some("quorum"));
    assert_eq!(four.metadata["protected_from_deletion"], true);
    assert_eq!(definitions.vhost_limits("four").max_queues, Some(50));
    assert_eq!(
        file("3.8").definitions().vhost_limits("shop").max_queues,
        None
    );
}

#[test]
fn the_plan_follows_rabbitmqs_order() {
    let order: Vec<_> = plan(file("3.8"), &Definitions::default())
        .changes
        .iter()
        .map(|change| match change {
            Change::Put(Definition::User(_)) => 0,
            Change::Put(Definition::Vhost(_)) => 1,
            Change::Put(Definition::Permission(_)) => 2,
            Change::Put(Definition::Exchange(_)) => 3,
            Change::Put(Definition::TopicPermission(_)) => 4,
            Change::Put(Definition::GlobalParameter(_)) => 5,
            Change::Put(Definition::Policy(_)) => 6,
            Change::Put(Definition::Parameter(_)) => 7,
            Change::Put(Definition::Queue(_)) => 8,
            Change::Put(Definition::Binding(_)) => 9,
            Change::Delete(_) => 10,
        })
        .collect();
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(order.len(), 23);
}

#[test]
fn queues_get_a_type_a_number_and_reserved_names_are_left_out() {
    let plan = plan(file("3.12"), &Definitions::default());
    let queues = applied(&plan).queues;
    let seen: Vec<_> = queues
        .iter()
        .map(|queue| (&*queue.name, &*queue.kind, queue.id.0))
        .collect();
    assert_eq!(
        seen,
        [
            ("in", "quorum", 1),
            ("untyped", "quorum", 2),
            ("jobs", "classic", 3)
        ]
    );
    assert_eq!(
        plan.warnings,
        [
            "queue 'amq.gen-JzTY20BRgKO-HjmUJj0wLg' in vhost '/' has a reserved name and was left out",
            "a binding to queue 'amq.gen-JzTY20BRgKO-HjmUJj0wLg' in vhost '/' was left out with it",
        ]
    );
}

#[test]
fn a_policy_with_a_pattern_of_back_tracking_engines_is_kept_and_told() {
    let plan = plan(file("3.8"), &Definitions::default());
    assert_eq!(
        plan.warnings,
        [
            "policies[1].pattern: negative look-ahead is not supported in patterns; write the pattern without it; the policy is kept and applies to nothing"
        ]
    );
    assert_eq!(applied(&plan).policies.len(), 2);
}

#[test]
fn import_export_import_gives_the_same() {
    for (version, _) in FILES {
        let mut first = applied(&plan(file(version), &Definitions::default()));
        // What RabbitMQ keeps to itself is not exported.
        first
            .global_parameters
            .retain(|parameter| !parameter.name.starts_with("internal"));
        let document = Document::parse(&exported(&first, None), None).unwrap();
        let again = plan(document.clone(), &Definitions::default());
        assert_eq!(applied(&again), first, "{version}");

        // On top of itself it changes nothing.
        let on_top = plan(document, &first);
        assert_eq!(on_top.changes, [], "{version}");
        assert_eq!(on_top.conflicts, Vec::<String>::new(), "{version}");
        assert_eq!(on_top.unchanged, first.clone().into_list().len());
    }
}

#[test]
fn the_export_has_rabbitmqs_keys() {
    let first = applied(&plan(file("3.12"), &Definitions::default()));
    let json: Json = serde_json::from_slice(&exported(&first, None)).unwrap();
    let keys = |json: &Json| {
        json.as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        keys(&json),
        [
            "bindings",
            "exchanges",
            "explanation",
            "global_parameters",
            "original_cluster_name",
            "parameters",
            "permissions",
            "policies",
            "product_name",
            "product_version",
            "queues",
            "rabbit_version",
            "rabbitmq_definition_format",
            "rabbitmq_version",
            "topic_permissions",
            "users",
            "vhosts"
        ]
    );
    assert_eq!(
        keys(&json["users"][0]),
        [
            "hashing_algorithm",
            "limits",
            "name",
            "password_hash",
            "tags"
        ]
    );
    assert_eq!(
        keys(&json["queues"][0]),
        [
            "arguments",
            "auto_delete",
            "durable",
            "name",
            "type",
            "vhost"
        ]
    );
    assert_eq!(
        keys(&json["bindings"][0]),
        [
            "arguments",
            "destination",
            "destination_type",
            "routing_key",
            "source",
            "vhost"
        ]
    );
    assert_eq!(
        json["users"][0]["limits"],
        json!({"max-connections": 10, "max-channels": 200})
    );
    // Internal parameters stay inside.
    assert_eq!(
        json["global_parameters"],
        json!([{"name": "cluster_name", "value": "rabbit@payments"}])
    );
}

#[test]
fn a_system_exchange_and_default_bindings_are_not_exported() {
    let mut definitions = applied(&plan(file("4.1"), &Definitions::default()));
    let sample = definitions.exchanges[0].clone();
    for name in ["", "amq.topic"] {
        definitions.exchanges.push(Exchange {
            name: name.into(),
            ..sample.clone()
        });
    }
    let mut default_binding = definitions.bindings[0].clone();
    default_binding.source = "".into();
    definitions.bindings.push(default_binding);
    let json: Json = serde_json::from_slice(&exported(&definitions, None)).unwrap();
    assert_eq!(json["exchanges"].as_array().unwrap().len(), 2);
    assert_eq!(json["bindings"].as_array().unwrap().len(), 3);
}

#[test]
fn one_vhost_goes_out_and_into_another() {
    let all = applied(&plan(file("3.8"), &Definitions::default()));
    let text = exported(&all, Some("shop"));
    let json: Json = serde_json::from_slice(&text).unwrap();
    assert_eq!(json["rabbitmq_definition_format"], "single_virtual_host");
    assert!(json.get("users").is_none());
    assert!(json["queues"][0].get("vhost").is_none());

    let plan = plan(Document::parse(&text, Some("/")).unwrap(), &all);
    assert_eq!(plan.conflicts, Vec::<String>::new());
    let moved = applied(&plan);
    assert_eq!(moved.queues.len(), 3);
    assert!(moved.queues.iter().all(|queue| *queue.vhost == *"/"));
    assert_eq!(moved.bindings.len(), 5);

    let error = Document::parse(SINGLE_VHOST.as_bytes(), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "policies[0].vhost: missing (definitions of a single virtual host must be imported into one)"
    );
    assert!(Document::parse(SINGLE_VHOST.as_bytes(), Some("/")).is_ok());
}

#[test]
fn what_exists_with_other_properties_stays() {
    let existing = applied(&plan(file("4.1"), &Definitions::default()));
    let mut changed = existing.clone();
    changed.queues[0].auto_delete = true;
    changed.exchanges[0].kind = "direct".to_owned();
    changed.policies[0].priority = 9;
    let document = Document::parse(&exported(&changed, None), None).unwrap();
    let plan = plan(document, &existing);
    assert_eq!(
        plan.conflicts,
        [
            "exchange 'four' 'events' exists with other properties",
            "queue 'four' 'tasks' exists with other properties",
        ]
    );
    assert_eq!(plan.changes, [changed.policies[0].clone().into()]);
}

#[test]
fn errors_name_their_place() {
    for (document, expected) in [
        (json!([]), "document: expected an object"),
        (json!({"users": {}}), "users: expected a list"),
        (json!({"users": [7]}), "users[0]: expected an object"),
        (json!({"users": [{"tags": ""}]}), "users[0].name: missing"),
        (json!({"users": [{"name": "u"}]}), "users[0].tags: missing"),
        (
            json!({"users": [{"name": "u", "tags": [1]}]}),
            "users[0].tags[0]: expected a string",
        ),
        (
            json!({"users": [{"name": "u", "tags": [], "password_hash": "%"}]}),
            "users[0].password_hash: not valid base64",
        ),
        (
            json!({"users": [{"name": "u", "tags": [], "password_hash": "", "hashing_algorithm": "rot13"}]}),
            "users[0].hashing_algorithm: 'rot13' is not known",
        ),
        (
            json!({"users": [{"name": "u", "tags": [], "password_hash": "", "password": "p"}]}),
            "users[0].password: given together with password_hash",
        ),
        (
            json!({"users": [{"name": "u", "tags": [], "limits": {"max-channels": "many"}}]}),
            "users[0].limits.max-channels: expected an integer",
        ),
        (
            json!({"permissions": [{"user": "u", "vhost": "/", "configure": "(?=x)", "write": "", "read": ""}]}),
            "permissions[0].configure: look-ahead is not supported in patterns; write the pattern without it",
        ),
        (
            json!({"topic_permissions": [{"user": "u", "vhost": "/", "exchange": "x", "write": "(", "read": ""}]}),
            "topic_permissions[0].write: not a regular expression: unclosed group",
        ),
        (
            json!({"policies": [{"vhost": "/", "name": "p", "pattern": "", "apply-to": "cats", "definition": {}}]}),
            "policies[0].apply-to: 'cats' is none of all, exchanges, queues, classic_queues, quorum_queues, streams",
        ),
        (
            json!({"policies": [{"vhost": "/", "name": "p", "pattern": ""}]}),
            "policies[0].definition: missing",
        ),
        (
            json!({"queues": [{"vhost": "/", "name": "q", "durable": "yes"}]}),
            "queues[0].durable: expected true or false",
        ),
        (
            json!({"queues": [{"vhost": "/", "name": "q", "type": "shelf"}]}),
            "queues[0].type: 'shelf' is no type of queue",
        ),
        (
            json!({"queues": [{"vhost": "/", "name": "q", "arguments": {"a": {"b": null}}}]}),
            "queues[0].arguments.a.b: null is not allowed",
        ),
        (
            json!({"bindings": [{"destination_type": "letterbox"}]}),
            "bindings[0].destination_type: 'letterbox' is neither queue nor exchange",
        ),
        (
            json!({"exchanges": [{"vhost": "/", "name": "x".repeat(256), "type": "direct"}]}),
            "exchanges[0].name: at most 255 bytes are allowed",
        ),
    ] {
        let text = document.to_string();
        let error = Document::parse(text.as_bytes(), None).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let error = Document::parse(b"{\"users\": [}", None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not JSON: expected value at line 1 column 12"
    );
}

#[test]
fn references_to_nothing_are_refused_with_their_place() {
    let binding = |source: &str, destination: &str, kind: &str| {
        json!({
            "vhosts": [{"name": "/"}],
            "exchanges": [{"vhost": "/", "name": "x", "type": "direct"}],
            "queues": [{"vhost": "/", "name": "q"}],
            "bindings": [{"vhost": "/", "source": source, "destination": destination,
                          "destination_type": kind, "routing_key": ""}],
        })
    };
    for (document, expected) in [
        (
            json!({"queues": [{"vhost": "v", "name": "q"}]}),
            Some("queues[0].vhost: there is no virtual host 'v', neither here nor in the file"),
        ),
        (
            json!({"vhosts": [{"name": "v"}],
                   "permissions": [{"user": "u", "vhost": "v", "configure": "", "write": "", "read": ""}]}),
            Some("permissions[0].user: there is no user 'u', neither here nor in the file"),
        ),
        (binding("x", "q", "queue"), None),
        (binding("amq.topic", "x", "exchange"), None),
        (
            binding("y", "q", "queue"),
            Some(
                "bindings[0].source: there is no exchange 'y' in vhost '/', neither here nor in the file",
            ),
        ),
        (
            binding("x", "x", "queue"),
            Some(
                "bindings[0].destination: there is no queue 'x' in vhost '/', neither here nor in the file",
            ),
        ),
        (
            binding("x", "q", "exchange"),
            Some(
                "bindings[0].destination: there is no exchange 'q' in vhost '/', neither here nor in the file",
            ),
        ),
    ] {
        let document = Document::parse(document.to_string().as_bytes(), None).unwrap();
        let result = document.plan(&Definitions::default(), &mut ids());
        let error = result.err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), expected);
    }
}

#[test]
fn plain_passwords_old_files_marks_and_unknown_keys() {
    let document = json!({
        "rabbit_version": "3.5.7",
        "colours": [],
        "users": [
            {"name": "plain", "password": "p", "administrator": "true"},
            {"name": "old", "password_hash": "AAAA", "tags": "a,b, c"},
            {"name": "ready", "password": "p", "tags": [],
             "permissions": {"/": {"configure": "", "write": ".*", "read": ""}}},
        ],
    });
    let text = format!("\u{feff}{document}");
    let document = Document::parse(text.as_bytes(), None).unwrap();
    assert_eq!(
        document.warnings,
        [
            "'colours' is unknown and was left out",
            "users[1].password_hash: its length is not that of rabbit_password_hashing_md5, so no password will match",
        ]
    );
    let users = &document.definitions().users;
    assert!(users[0].password.verify(b"p"));
    assert!(users[0].has_tag("administrator"));
    assert_eq!(users[1].tags, ["a", "b", "c"]);
    assert_eq!(document.definitions().permissions[0].write, ".*");
}

#[test]
fn an_import_into_a_store_is_all_or_nothing_and_keeps_transient_things_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let text = FILES[0].1.as_bytes();
    let report = import(&store.definitions, text, None).unwrap();
    assert_eq!(report.changed, 21);
    assert_eq!(report.transient.len(), 2);
    assert!(
        report
            .to_string()
            .starts_with("21 definitions imported, 0 were there already\n2 transient"),
        "{report}"
    );
    let before = store.definitions.load().unwrap().definitions;
    assert_eq!(before.queues.len(), 2);

    let again = import(&store.definitions, text, None).unwrap();
    assert_eq!((again.changed, again.unchanged), (0, 21));

    let bad = json!({
        "users": [{"name": "new", "tags": ""}],
        "queues": [{"vhost": "nowhere", "name": "q"}],
    });
    assert!(import(&store.definitions, bad.to_string().as_bytes(), None).is_err());
    assert_eq!(store.definitions.load().unwrap().definitions, before);
}

#[test]
fn an_offline_import_of_a_bad_file_leaves_no_data_folder() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.json");
    let data = dir.path().join("data");
    std::fs::write(&file, r#"{"users": [{}]}"#).unwrap();
    let error = offline_import(&file, &data).unwrap_err();
    assert_eq!(error.to_string(), "users[0].name: missing");
    assert!(!data.exists());

    let missing = offline_import(&dir.path().join("none.json"), &data).unwrap_err();
    assert!(matches!(missing, ImportError::File { .. }));

    std::fs::write(&file, FILES[2].1).unwrap();
    assert_eq!(offline_import(&file, &data).unwrap().changed, 15);
    let store = open(&data);
    assert!(matches!(
        offline_import(&file, &data),
        Err(ImportError::Store(StoreError::FolderInUse { .. }))
    ));
    assert_eq!(
        store.definitions.load().unwrap().definitions.queues.len(),
        3
    );
}
