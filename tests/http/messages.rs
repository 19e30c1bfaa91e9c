//! Publish and get.

use serde_json::{Value, json};

use crate::support::{Client, Node};

fn message(routing_key: &str, payload: &str) -> Value {
    json!({"routing_key": routing_key, "properties": {}, "payload": payload, "payload_encoding": "string"})
}

fn publish(client: &Client, body: Value) -> Value {
    let reply = client.post("/api/exchanges/%2F/amq.default/publish", body);
    reply.expect(200).json()
}

fn get(client: &Client, mode: &str, count: u32) -> Vec<Value> {
    let body = json!({"count": count, "ackmode": mode, "encoding": "auto"});
    let items = client
        .post("/api/queues/%2F/q/get", body)
        .expect(200)
        .json();
    items.as_array().unwrap().clone()
}

fn with_queue(node: &Node) -> Client {
    let guest = node.guest();
    guest.put("/api/queues/%2F/q", json!({})).expect(201);
    guest
}

#[test]
fn a_message_comes_back_as_it_went() {
    let node = Node::start();
    let guest = with_queue(&node);
    let body = json!({
        "routing_key": "q",
        "properties": {"delivery_mode": 2, "content_type": "text/plain", "headers": {"a": 1}},
        "payload": "häre",
        "payload_encoding": "string",
        "name": "ignored",
    });
    assert_eq!(publish(&guest, body), json!({"routed": true}));
    assert_eq!(
        publish(&guest, message("none", "x")),
        json!({"routed": false})
    );
    let items = get(&guest, "ack_requeue_false", 5);
    assert_eq!(
        items,
        [json!({
            "payload_bytes": 5,
            "redelivered": false,
            "exchange": "",
            "routing_key": "q",
            "message_count": 0,
            "properties": {"delivery_mode": 2, "content_type": "text/plain", "headers": {"a": 1}},
            "payload": "häre",
            "payload_encoding": "string",
        })]
    );
    assert_eq!(get(&guest, "ack_requeue_false", 1), [] as [Value; 0]);
}

#[test]
fn messages_return_or_go_as_the_mode_says() {
    let node = Node::start();
    let guest = with_queue(&node);
    for payload in ["1", "2", "3"] {
        publish(&guest, message("q", payload));
    }
    let payloads = |items: &[Value]| -> Vec<String> {
        let payload = |item: &Value| item["payload"].as_str().unwrap().to_owned();
        items.iter().map(payload).collect()
    };
    let first = get(&guest, "ack_requeue_true", 2);
    assert_eq!(payloads(&first), ["1", "2"]);
    assert_eq!(first[0]["redelivered"], false);
    assert_eq!(first[0]["message_count"], 2);
    let again = get(&guest, "reject_requeue_true", 9);
    assert_eq!(payloads(&again), ["1", "2", "3"]);
    assert_eq!(again[0]["redelivered"], true);
    assert_eq!(payloads(&get(&guest, "reject_requeue_false", 1)), ["1"]);
    assert_eq!(payloads(&get(&guest, "ack_requeue_false", 1)), ["2"]);
    assert_eq!(
        payloads(&get(&guest, "ack_requeue_true", 0)),
        [] as [&str; 0]
    );
    assert_eq!(payloads(&get(&guest, "ack_requeue_true", 9)), ["3"]);
}

#[test]
fn rejected_messages_are_dead_lettered() {
    let node = Node::start();
    let guest = node.guest();
    guest
        .put("/api/queues/%2F/q", json!({"arguments": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}}))
        .expect(201);
    guest.put("/api/queues/%2F/dead", json!({})).expect(201);
    publish(&guest, message("q", "x"));
    get(&guest, "reject_requeue_false", 1);
    let body = json!({"count": "1", "ackmode": "ack_requeue_true", "encoding": "auto"});
    let dead = guest
        .post("/api/queues/%2F/dead/get", body)
        .expect(200)
        .json();
    assert_eq!(
        dead[0]["properties"]["headers"]["x-death"][0]["reason"],
        "rejected"
    );
}

#[test]
fn bytes_are_base64_and_long_payloads_are_cut() {
    let node = Node::start();
    let guest = with_queue(&node);
    let bytes = json!({"routing_key": "q", "properties": [], "payload": "//s=", "payload_encoding": "base64"});
    publish(&guest, bytes);
    publish(&guest, message("q", "hello"));
    let ask = |encoding: &str, truncate: Value| {
        let body = json!({"count": 2, "ackmode": "ack_requeue_true", "encoding": encoding, "truncate": truncate});
        let items = guest.post("/api/queues/%2F/q/get", body).expect(200).json();
        [0, 1].map(|at| {
            let item = &items[at];
            [
                &item["payload"],
                &item["payload_encoding"],
                &item["payload_bytes"],
            ]
            .map(Value::clone)
        })
    };
    assert_eq!(
        ask("auto", json!(null)),
        [
            [json!("//s="), json!("base64"), json!(2)],
            [json!("hello"), json!("string"), json!(5)]
        ]
    );
    assert_eq!(
        ask("base64", json!("1")),
        [
            [json!("/w=="), json!("base64"), json!(2)],
            [json!("aA=="), json!("base64"), json!(5)]
        ]
    );
    assert_eq!(
        ask("auto", json!(3)),
        [
            [json!("//s="), json!("base64"), json!(2)],
            [json!("hel"), json!("string"), json!(5)]
        ]
    );
}

#[test]
fn a_persistent_message_is_there_after_a_restart() {
    let node = Node::start();
    let guest = with_queue(&node);
    let mut body = message("q", "kept");
    body["properties"]["delivery_mode"] = 2.into();
    publish(&guest, body);
    let node = node.restart();
    assert_eq!(
        get(&node.guest(), "ack_requeue_false", 1)[0]["payload"],
        "kept"
    );
}

#[test]
fn wrong_publishes_are_refused() {
    let node = Node::start();
    let guest = with_queue(&node);
    let with = |name: &str, value: Value| {
        let mut body = message("q", "x");
        body[name] = value;
        body
    };
    for (path, body, status, error, reason) in [
        (
            "nowhere/x",
            message("q", "x"),
            404,
            "Object Not Found",
            "Not Found",
        ),
        (
            "%2F/none",
            message("q", "x"),
            404,
            "not_found",
            "exchange_not_found",
        ),
        (
            "%2F/amq.topic",
            json!({"routing_key": "k"}),
            400,
            "bad_request",
            "[{key_missing,properties},{key_missing,payload},{key_missing,payload_encoding}]",
        ),
        (
            "%2F/amq.topic",
            with("payload", json!(1)),
            400,
            "bad_request",
            "payload_not_string",
        ),
        (
            "%2F/amq.topic",
            with("payload_encoding", json!("x")),
            400,
            "bad_request",
            "{unsupported_encoding,x}",
        ),
        (
            "%2F/amq.topic",
            json!({"routing_key": "k", "properties": {}, "payload": "?", "payload_encoding": "base64"}),
            400,
            "bad_request",
            "{not_base64,payload}",
        ),
        (
            "%2F/amq.topic",
            with("properties", json!({"priority": "1"})),
            400,
            "bad_request",
            "{not_int,priority}",
        ),
        (
            "%2F/amq.topic",
            with("properties", json!({"expiration": "soon"})),
            400,
            "bad_request",
            "406 PRECONDITION_FAILED - invalid expiration 'soon': no_integer",
        ),
        (
            "%2F/amq.topic",
            with("properties", json!({"user_id": "other"})),
            400,
            "bad_request",
            "406 PRECONDITION_FAILED - user_id property set to 'other' but authenticated user was 'guest'",
        ),
        (
            "%2F/amq.rabbitmq.trace",
            message("q", "x"),
            401,
            "not_authorised",
            "ACCESS_REFUSED - cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'",
        ),
    ] {
        let refused = guest.post(&format!("/api/exchanges/{path}/publish"), body);
        refused.expect_error(status, error, reason);
    }
    guest
        .put(
            "/api/queues/%2F/full",
            json!({"arguments": {"x-max-length": 0, "x-overflow": "reject-publish"}}),
        )
        .expect(201);
    guest
        .post("/api/exchanges/%2F//publish", message("full", "x"))
        .expect_error(
            400,
            "bad_request",
            "rejected Unable to publish message. Check queue limits.",
        );
}

#[test]
fn wrong_gets_are_refused_and_take_nothing() {
    let node = Node::start();
    let guest = with_queue(&node);
    publish(&guest, message("q", "x"));
    let body = json!({"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"});
    let with = |name: &str, value: Value| {
        let mut body = body.clone();
        body[name] = value;
        body
    };
    for (wrong, reason) in [
        (
            json!({}),
            "[{key_missing,ackmode},{key_missing,count},{key_missing,encoding}]",
        ),
        (with("count", json!("many")), "{not_int,count,\"many\"}"),
        (
            with("encoding", json!("x")),
            "Unsupported encoding. Please use auto or base64.",
        ),
        (
            with("ackmode", json!("get")),
            "Unsupported ackmode. Please use ack_requeue_true, ack_requeue_false, reject_requeue_true or reject_requeue_false.",
        ),
        (with("truncate", json!({})), "{not_int,truncate,{}}"),
    ] {
        guest
            .post("/api/queues/%2F/q/get", wrong)
            .expect_error(400, "bad_request", reason);
    }
    guest
        .post("/api/queues/%2F/none/get", body.clone())
        .expect_not_found();
    node.put_user("writer", &["management"], Some(["", ".*", ""]));
    node.client("writer:pw")
        .post("/api/queues/%2F/q/get", body)
        .expect_error(
            401,
            "not_authorised",
            "ACCESS_REFUSED - read access to queue 'q' in vhost '/' refused for user 'writer'",
        );
    assert_eq!(get(&guest, "ack_requeue_false", 1).len(), 1);
}
