//! Exchanges: what clients and scripts rely on.

use serde_json::json;

use crate::support::Node;

#[test]
fn an_exchange_is_declared_once() {
    let node = Node::start();
    let guest = node.guest();
    let path = "/api/exchanges/%2F/x%2Eone";
    guest.get(path).expect_not_found();
    let created = guest.put(path, json!({"type": "topic"})).expect(201);
    assert_eq!(created.text(), "");
    guest.put(path, json!({"type": "topic"})).expect(204);
    // As scripts of the peers write it: truths as texts, and names that stand in the path already.
    let lenient = json!({"type": "topic", "durable": "true", "auto_delete": "false", "name": "x.one",
                         "vhost": "/", "node": "x", "arguments": {}});
    guest.put(path, lenient).expect(204);
    guest.put(path, json!({"type": "fanout"})).expect_error(
        400,
        "bad_request",
        "inequivalent arg 'type' for exchange 'x.one' in vhost '/': received 'fanout' but current is 'topic'",
    );
    let exchange = guest.get(path).expect(200).json();
    for (name, value) in [
        ("name", json!("x.one")),
        ("vhost", json!("/")),
        ("type", json!("topic")),
        ("durable", json!(true)),
        ("auto_delete", json!(false)),
        ("internal", json!(false)),
        ("arguments", json!({})),
        ("incoming", json!([])),
        ("outgoing", json!([])),
    ] {
        assert_eq!(exchange[name], value, "{name}");
    }
    guest.delete(path).expect(204);
    guest.delete(path).expect_not_found();
}

#[test]
fn what_cannot_be_declared_is_refused() {
    let node = Node::start();
    let guest = node.guest();
    for (path, body, status, error, reason) in [
        (
            "%2F/amq.new",
            json!({}),
            401,
            "not_authorised",
            "Access refused.",
        ),
        (
            "%2F/amq.default",
            json!({}),
            401,
            "not_authorised",
            "Access refused.",
        ),
        ("nowhere/x", json!({}), 404, "not_found", "vhost_not_found"),
        ("%2F/x", json!([]), 400, "bad_request", "not_json"),
        (
            "%2F/x",
            json!({"type": "none"}),
            400,
            "bad_request",
            "unknown exchange type 'none'",
        ),
        (
            "%2F/x",
            json!({"type": 1}),
            400,
            "bad_request",
            "{not_string,type,1}",
        ),
        (
            "%2F/x",
            json!({"durable": "yes"}),
            400,
            "bad_request",
            "{not_boolean,durable,\"yes\"}",
        ),
        (
            "%2F/x",
            json!({"arguments": {"a": null}}),
            400,
            "bad_request",
            "arguments.a: null is not allowed",
        ),
    ] {
        let refused = guest.put(&format!("/api/exchanges/{path}"), body);
        refused.expect_error(status, error, reason);
    }
    guest.get("/api/exchanges/%2F/x").expect_not_found();
}

#[test]
fn an_exchange_in_use_stays_when_it_is_asked_for() {
    let node = Node::start();
    let guest = node.guest();
    guest.put("/api/exchanges/%2F/x", json!({})).expect(201);
    guest.put("/api/queues/%2F/q", json!({})).expect(201);
    guest
        .post("/api/bindings/%2F/e/x/q/q", json!({}))
        .expect(201);
    guest
        .delete("/api/exchanges/%2F/x?if-unused=true")
        .expect_error(400, "bad_request", "exchange 'x' in vhost '/' in use");
    guest.delete("/api/exchanges/%2F/x").expect(204);
    guest.delete("/api/exchanges/%2F/amq.topic").expect_error(
        401,
        "not_authorised",
        "Access refused.",
    );
}

#[test]
fn lists_have_the_default_exchange_and_pages() {
    let node = Node::start();
    let guest = node.guest();
    for path in [
        "/api/exchanges",
        "/api/exchanges/%2F",
        "/api/exchanges/%2F/",
    ] {
        let names: Vec<String> = guest
            .get(path)
            .expect(200)
            .json()
            .as_array()
            .unwrap()
            .iter()
            .map(|exchange| exchange["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            names,
            [
                "",
                "amq.direct",
                "amq.fanout",
                "amq.headers",
                "amq.match",
                "amq.rabbitmq.trace",
                "amq.topic"
            ]
        );
    }
    let page = guest
        .get("/api/exchanges?page=1&page_size=2&name=fan&columns=name,type")
        .expect(200)
        .json();
    assert_eq!(
        page,
        json!({"filtered_count": 1, "item_count": 1, "page": 1, "page_count": 1, "page_size": 2, "total_count": 7,
               "items": [{"name": "amq.fanout", "type": "fanout"}]})
    );
    guest.get("/api/exchanges/nowhere").expect_not_found();
    guest
        .get("/api/exchanges?page=2&page_size=500")
        .expect_error(
            400,
            "page_out_of_range",
            "Page out of range, page: 2 page size: 500, len: 7",
        );
    let one = guest.get("/api/exchanges/%2F/amq.default").expect(200);
    assert_eq!(one.json()["name"], "");
}
