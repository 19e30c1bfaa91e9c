//! Queues: declare, delete, purge, lists.

use serde_json::{Value, json};

use crate::support::Node;

#[test]
fn a_queue_is_declared_once() {
    let node = Node::start();
    let guest = node.guest();
    let path = "/api/queues/%2F/q%20a%2Fb";
    guest.get(path).expect_not_found();
    let body = json!({"durable": true, "arguments": {"x-max-length": 3}});
    assert_eq!(guest.put(path, body.clone()).expect(201).text(), "");
    guest.put(path, body).expect(204);
    guest
        .put(path, json!({"durable": false, "arguments": {"x-max-length": 3}}))
        .expect_error(
            400,
            "bad_request",
            "inequivalent arg 'durable' for queue 'q a/b' in vhost '/': received 'false' but current is 'true'",
        );
    let queue = guest.get(path).expect(200).json();
    for (name, value) in [
        ("name", json!("q a/b")),
        ("vhost", json!("/")),
        ("type", json!("classic")),
        ("durable", json!(true)),
        ("auto_delete", json!(false)),
        ("exclusive", json!(false)),
        (
            "arguments",
            json!({"x-max-length": 3, "x-queue-type": "classic"}),
        ),
        ("node", json!("haremq@test")),
        ("state", json!("running")),
    ] {
        assert_eq!(queue[name], value, "{name}");
    }
    guest.delete(path).expect(204);
    guest.delete(path).expect_not_found();
}

#[test]
fn bodies_that_say_nothing_declare_a_durable_queue() {
    let node = Node::start();
    let guest = node.guest();
    for (name, body) in [("a", ""), ("b", "null"), ("c", "undefined"), ("d", "{}")] {
        let path = format!("/api/queues/%2F/{name}");
        guest.send("PUT", &path, body.as_bytes()).expect(201);
        assert_eq!(guest.get(&path).expect(200).json()["durable"], true);
    }
}

#[test]
fn a_declared_queue_is_there_after_a_restart() {
    let node = Node::start();
    node.guest().put("/api/queues/%2F/q", json!({})).expect(201);
    let node = node.restart();
    node.guest().get("/api/queues/%2F/q").expect(200);
}

#[test]
fn wrong_declarations_are_refused() {
    let node = Node::start();
    let guest = node.guest();
    for (path, body, status, error, reason) in [
        ("nowhere/q", json!({}), 404, "not_found", "vhost_not_found"),
        (
            "%2F/amq.q",
            json!({}),
            401,
            "not_authorised",
            "Access refused.",
        ),
        (
            "%2F/q",
            json!({"auto_delete": 1}),
            400,
            "bad_request",
            "{not_boolean,auto_delete,1}",
        ),
        (
            "%2F/q",
            json!({"arguments": "x"}),
            400,
            "bad_request",
            "arguments: expected an object",
        ),
        (
            "%2F/q",
            json!({"arguments": {"x-message-ttl": -1}}),
            400,
            "bad_request",
            "invalid arg 'x-message-ttl' for queue 'q' in vhost '/': {value_negative,-1}",
        ),
    ] {
        let refused = guest.put(&format!("/api/queues/{path}"), body);
        refused.expect_error(status, error, reason);
    }
}

#[test]
fn a_queue_goes_on_conditions() {
    let node = Node::start();
    let guest = node.guest();
    guest.put("/api/queues/%2F/q", json!({})).expect(201);
    publish(&node, "q", "hello");
    guest
        .delete("/api/queues/%2F/q?if-empty=true")
        .expect_error(400, "bad_request", "queue 'q' in vhost '/' not empty");
    guest.delete("/api/queues/%2F/q/contents").expect(204);
    guest
        .delete("/api/queues/%2F/q?if-empty=true&if-unused=true")
        .expect(204);
    guest
        .delete("/api/queues/%2F/q/contents")
        .expect_not_found();
}

/// Publishes to a queue by the default exchange, whose segment is empty.
fn publish(node: &Node, queue: &str, payload: &str) {
    let body = json!({"routing_key": queue, "properties": {}, "payload": payload, "payload_encoding": "string"});
    let reply = node.guest().post("/api/exchanges/%2F//publish", body);
    assert_eq!(reply.expect(200).json(), json!({"routed": true}));
}

#[test]
fn queues_are_listed_by_name_or_by_what_they_hold() {
    let node = Node::start();
    let guest = node.guest();
    for name in ["b", "a", "c"] {
        guest
            .put(&format!("/api/queues/%2F/{name}"), json!({}))
            .expect(201);
    }
    publish(&node, "b", "1");
    publish(&node, "b", "2");
    publish(&node, "a", "3");
    let names = |query: &str| -> Vec<String> {
        let list = guest.get(&format!("/api/queues{query}")).expect(200).json();
        let items = list.get("items").cloned().unwrap_or(list);
        let names = items.as_array().unwrap().iter();
        names
            .map(|queue| queue["name"].as_str().unwrap().to_owned())
            .collect()
    };
    for (query, expected) in [
        ("", &["a", "b", "c"][..]),
        ("/", &["a", "b", "c"]),
        ("/%2F", &["a", "b", "c"]),
        ("/detailed", &["a", "b", "c"]),
        ("?sort=messages", &["c", "a", "b"]),
        ("?sort=messages&sort_reverse=true", &["b", "a", "c"]),
        (
            "?page=1&page_size=1&sort=messages_ready&sort_reverse=true",
            &["b"],
        ),
        (
            "?page=1&use_regex=true&name=^[ab]$&pagination=false",
            &["a", "b"],
        ),
        (
            "?disable_stats=true&enable_queue_totals=true",
            &["a", "b", "c"],
        ),
    ] {
        assert_eq!(names(query), expected, "{query}");
    }
    let some = guest
        .get("/api/queues/%2F?columns=name,messages,arguments")
        .expect(200)
        .json();
    assert_eq!(
        some[1],
        json!({"name": "b", "messages": 2, "arguments": {"x-queue-type": "classic"}})
    );
    let bare = guest
        .get("/api/queues?disable_stats=true")
        .expect(200)
        .json();
    assert_eq!(bare[1].get("messages"), None);
    assert_eq!(guest.get("/api/queues/nowhere").status, 404);
}

#[test]
fn actions_and_status_say_what_there_is() {
    let node = Node::start();
    let guest = node.guest();
    guest.put("/api/queues/%2F/q", json!({})).expect(201);
    guest
        .post("/api/queues/%2F/q/actions", json!({"action": "sync"}))
        .expect_error(400, "bad_request", "unknown action 'sync'");
    guest
        .post("/api/queues/%2F/q/actions", json!({}))
        .expect_error(400, "bad_request", "[{key_missing,action}]");
    guest.get("/api/queues/quorum/%2F/q/status").expect(503);
    guest
        .put(
            "/api/queues/%2F/qq",
            json!({"arguments": {"x-queue-type": "quorum"}}),
        )
        .expect(201);
    let status = guest.get("/api/queues/quorum/%2F/qq/status").expect(200);
    assert_eq!(status.json()[0]["Raft State"], "leader");
    guest.send("POST", "/api/rebalance/queues", b"").expect(204);
}

#[test]
fn permissions_of_the_virtual_host_hold() {
    let node = Node::start();
    node.put_user(
        "limited",
        &["management"],
        Some(["^mine", "^mine", "^mine"]),
    );
    node.put_user("outside", &["management"], None);
    node.put_user("monitor", &["monitoring"], None);
    let limited = node.client("limited:pw");
    limited.put("/api/queues/%2F/mine", json!({})).expect(201);
    limited
        .put("/api/queues/%2F/other", json!({}))
        .expect_error(401, "not_authorised", "Access refused.");
    limited.delete("/api/queues/%2F/mine/contents").expect(204);
    let outside = node.client("outside:pw");
    outside
        .get("/api/queues/%2F/mine")
        .expect_error(404, "not_found", "Not Found");
    outside
        .put("/api/queues/%2F/q", json!({}))
        .expect_error(404, "not_found", "Not Found");
    assert_eq!(outside.get("/api/queues").expect(200).json(), json!([]));
    let monitor = node.client("monitor:pw");
    let seen: Value = monitor.get("/api/queues").expect(200).json();
    assert_eq!(seen[0]["name"], "mine");
    monitor
        .put("/api/queues/%2F/q", json!({}))
        .expect_error(404, "not_found", "Not Found");
}
