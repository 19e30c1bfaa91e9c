//! Definitions: out, in, and out again.

use serde_json::{Value, json};

use crate::support::Node;

fn document() -> Value {
    json!({
        "rabbit_version": "3.13.7",
        "unknown_key": true,
        "users": [{"name": "imported", "password_hash": "", "tags": "management,x"}],
        "vhosts": [{"name": "v", "metadata": {"description": "d", "tags": []}}],
        "permissions": [{"user": "imported", "vhost": "v", "configure": ".*", "write": ".*", "read": ".*"}],
        "topic_permissions": [{"user": "imported", "vhost": "v", "exchange": "x", "write": "a", "read": "b"}],
        "parameters": [{"vhost": "v", "component": "vhost-limits", "name": "limits", "value": {"max-queues": 9}}],
        "global_parameters": [{"name": "mine", "value": 1}],
        "policies": [{"vhost": "v", "name": "p", "pattern": ".*", "apply-to": "all", "definition": {"max-length": 7}, "priority": 2}],
        "exchanges": [{"name": "x", "vhost": "v", "type": "topic", "durable": true, "auto_delete": false, "internal": false, "arguments": {}}],
        "queues": [{"name": "q", "vhost": "v", "durable": true, "auto_delete": false, "arguments": {"x-queue-type": "quorum"}}],
        "bindings": [{"source": "x", "vhost": "v", "destination": "q", "destination_type": "queue", "routing_key": "k", "arguments": {"a": 1}}],
    })
}

#[test]
fn an_import_holds_at_once_and_comes_out_again() {
    let node = Node::start();
    let guest = node.guest().with("content-type", "application/json");
    let mut bytes = b"\xef\xbb\xbf".to_vec();
    bytes.extend(document().to_string().into_bytes());
    guest.send("POST", "/api/definitions", &bytes).expect(204);
    guest.post("/api/definitions", document()).expect(204);
    let queue = guest.get("/api/queues/v/q").expect(200).json();
    assert_eq!(
        (&queue["type"], &queue["policy"]),
        (&json!("quorum"), &json!("p"))
    );
    assert_eq!(
        guest
            .get("/api/bindings/v/e/x/q/q")
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );

    let reply = guest
        .get("/api/definitions?download=a%22b.json")
        .expect(200);
    assert_eq!(
        reply.header("content-disposition"),
        "attachment; filename=\"ab.json\""
    );
    let all = reply.json();
    for name in [
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
    ] {
        assert!(all[name].is_array(), "{name}");
    }
    for (name, value) in [
        ("rabbit_version", json!("4.2.5")),
        ("rabbitmq_version", json!("4.2.5")),
        ("rabbitmq_definition_format", json!("cluster")),
        ("original_cluster_name", json!("haremq@test")),
        (
            "queues",
            json!([{"name": "q", "vhost": "v", "type": "quorum", "durable": true, "auto_delete": false,
                           "arguments": {"x-queue-type": "quorum"}}]),
        ),
        (
            "bindings",
            json!([{"source": "x", "vhost": "v", "destination": "q", "destination_type": "queue",
                             "routing_key": "k", "arguments": {"a": 1}}]),
        ),
    ] {
        assert_eq!(all[name], value, "{name}");
    }
    let other = Node::start();
    other
        .guest()
        .with("content-type", "application/json")
        .post("/api/definitions", all.clone())
        .expect(204);
    let again = other.guest().get("/api/definitions").json();
    for name in [
        "vhosts",
        "queues",
        "exchanges",
        "bindings",
        "policies",
        "parameters",
        "permissions",
    ] {
        assert_eq!(again[name], all[name], "{name}");
    }
}

#[test]
fn whoever_has_it_is_told_so() {
    let node = Node::start();
    let guest = node.guest();
    let tag = guest
        .get("/api/definitions")
        .expect(200)
        .header("etag")
        .to_owned();
    assert!(tag.starts_with('"'));
    let known = guest.with("if-none-match", &tag);
    assert_eq!(known.get("/api/definitions").expect(304).text(), "");
    guest.put("/api/queues/%2F/q", json!({})).expect(201);
    let changed = known.get("/api/definitions").expect(200);
    assert_ne!(changed.header("etag"), tag);
}

#[test]
fn transient_things_are_exported_with_the_others() {
    let node = Node::start();
    let guest = node.guest();
    guest
        .put("/api/queues/%2F/t", json!({"durable": false}))
        .expect(201);
    guest
        .put("/api/exchanges/%2F/x", json!({"durable": false}))
        .expect(201);
    guest
        .post("/api/bindings/%2F/e/x/q/t", json!({"routing_key": "k"}))
        .expect(201);
    let all = guest.get("/api/definitions").json();
    assert_eq!(all["queues"][0]["name"], "t");
    assert_eq!(all["exchanges"][0]["name"], "x");
    assert_eq!(all["bindings"][0]["destination"], "t");
}

#[test]
fn one_virtual_host_goes_into_another() {
    let node = Node::start();
    let guest = node.guest();
    let json = guest.with("content-type", "application/json");
    json.post("/api/definitions", document()).expect(204);
    let one = guest.get("/api/definitions/v").expect(200).json();
    assert_eq!(one["rabbitmq_definition_format"], "single_virtual_host");
    assert_eq!(one.get("users"), None);
    assert_eq!(one["queues"][0].get("vhost"), None);
    guest.put("/api/vhosts/w", json!({})).expect(201);
    json.post("/api/definitions/w", one.clone()).expect(204);
    guest.get("/api/queues/w/q").expect(200);
    // What names no virtual host goes into none by itself.
    json.post("/api/definitions", one).expect(400);
    json.post("/api/definitions/none", json!({}))
        .expect_not_found();
}

#[test]
fn a_form_is_taken_too() {
    let node = Node::start();
    let guest = node.guest();
    let form = guest.with("content-type", "multipart/form-data; boundary=xyz");
    let part = |name: &str, content: &str| {
        format!("--xyz\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
    };
    let body = format!("{}--xyz--\r\n", part("file", &document().to_string()));
    form.send("POST", "/api/definitions", body.as_bytes())
        .expect(204);
    guest.get("/api/queues/v/q").expect(200);
    for (to, status, location) in [
        ("/#import", 303, "/#import"),
        ("https://evil.example", 204, ""),
    ] {
        let body = format!("{}{}--xyz--\r\n", part("file", "{}"), part("redirect", to));
        let reply = form
            .send("POST", "/api/definitions", body.as_bytes())
            .expect(status);
        assert_eq!(reply.header("location"), location);
    }
    let nothing = format!("{}--xyz--\r\n", part("other", "x"));
    form.send("POST", "/api/definitions", nothing.as_bytes())
        .expect(400);
    form.send("POST", "/api/definitions", b"rubbish")
        .expect(400);
}

#[test]
fn wrong_documents_change_nothing() {
    let node = Node::start();
    let guest = node.guest().with("content-type", "application/json");
    let refused = guest
        .send("POST", "/api/definitions", b"{")
        .expect(400)
        .json();
    assert!(
        refused["reason"]
            .as_str()
            .unwrap()
            .starts_with("failed_to_parse_json"),
        "{refused}"
    );
    let mut wrong = document();
    wrong["bindings"][0]["source"] = "none".into();
    guest.post("/api/definitions", wrong).expect(400);
    guest.get("/api/vhosts/v").expect_not_found();
    node.guest()
        .with("content-type", "text/plain")
        .send("POST", "/api/definitions", b"{}")
        .expect(415);
    guest.send("POST", "/api/definitions", b"").expect(204);
}
