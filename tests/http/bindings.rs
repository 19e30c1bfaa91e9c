//! Bindings: where they stand, and under which key.

use serde_json::{Value, json};

use crate::support::{Client, Node};

fn prepare(guest: &Client) {
    guest
        .put("/api/exchanges/%2F/x", json!({"type": "topic"}))
        .expect(201);
    guest.put("/api/exchanges/%2F/y", json!({})).expect(201);
    guest.put("/api/queues/%2F/q.idle", json!({})).expect(201);
}

#[test]
fn a_binding_stands_where_its_location_says() {
    let node = Node::start();
    let guest = node.guest();
    prepare(&guest);
    for (body, location, key) in [
        (json!({}), "q.idle/~", "~"),
        (
            json!({"routing_key": "a b/c~d", "arguments": {}}),
            "q.idle/a%2Bb%252Fc%257Ed",
            "a+b%2Fc%7Ed",
        ),
        (json!({"routing_key": "k"}), "q.idle/k", "k"),
    ] {
        let list = "/api/bindings/%2F/e/x/q/q.idle";
        let bound = guest.post(list, body.clone()).expect(201);
        assert_eq!(bound.header("location"), location);
        // Again the same: there is one binding, and the answer is the same.
        let again = guest.post(list, body).expect(201);
        assert_eq!(again.header("location"), location);

        let place = format!("/api/bindings/%2F/e/x/q/{location}");
        let binding = guest.get(&place).expect(200).json();
        assert_eq!(binding["properties_key"], key);
        assert_eq!(binding["destination_type"], "queue");
        let listed = guest.get(list).expect(200).json();
        assert_eq!(listed, json!([binding]));
        guest.delete(&place).expect(204);
        guest.delete(&place).expect_not_found();
    }
}

#[test]
fn arguments_are_part_of_the_key_and_it_outlives_a_restart() {
    let node = Node::start();
    let guest = node.guest();
    prepare(&guest);
    let list = "/api/bindings/%2F/e/x/q/q.idle";
    let mut locations = Vec::new();
    for arguments in [
        json!({"a": 1}),
        json!({"a": "1"}),
        json!({"b": {"c": true}}),
    ] {
        let body = json!({"routing_key": "order.#", "arguments": arguments});
        let bound = guest.post(list, body).expect(201);
        assert!(bound.header("location").starts_with("q.idle/order.%2523~"));
        locations.push(bound.header("location").to_owned());
    }
    locations.dedup();
    assert_eq!(locations.len(), 3);
    let node = node.restart();
    for location in locations {
        let place = format!("/api/bindings/%2F/e/x/q/{location}");
        node.guest().get(&place).expect(200);
        node.guest().delete(&place).expect(204);
    }
    assert_eq!(node.guest().get(list).json(), json!([]));
}

#[test]
fn exchanges_are_bound_to_exchanges() {
    let node = Node::start();
    let guest = node.guest();
    prepare(&guest);
    guest
        .post("/api/bindings/%2F/e/x/e/y", json!({"routing_key": "k"}))
        .expect(201);
    let binding = json!({"source": "x", "vhost": "/", "destination": "y", "destination_type": "exchange",
                         "routing_key": "k", "arguments": {}, "properties_key": "k"});
    for path in [
        "/api/bindings/%2F/e/x/e/y",
        "/api/exchanges/%2F/x/bindings/source",
        "/api/exchanges/%2F/y/bindings/destination",
    ] {
        assert_eq!(
            guest.get(path).expect(200).json(),
            json!([binding]),
            "{path}"
        );
    }
    for path in [
        "/api/exchanges/%2F/y/bindings/source",
        "/api/exchanges/%2F/x/bindings/destination",
        "/api/exchanges/%2F/amq.default/bindings/destination",
    ] {
        assert_eq!(guest.get(path).expect(200).json(), json!([]), "{path}");
    }
    guest.delete("/api/bindings/%2F/e/x/e/y/k").expect(204);
}

#[test]
fn every_queue_is_bound_to_the_default_exchange() {
    let node = Node::start();
    let guest = node.guest();
    prepare(&guest);
    let default = json!([{"source": "", "vhost": "/", "destination": "q.idle", "destination_type": "queue",
                         "routing_key": "q.idle", "arguments": {}, "properties_key": "q.idle"}]);
    for path in [
        "/api/bindings",
        "/api/bindings/%2F",
        "/api/queues/%2F/q.idle/bindings",
        "/api/exchanges/%2F//bindings/source",
        "/api/exchanges/%2F/amq.default/bindings/source",
        "/api/bindings/%2F/e//q/q.idle",
    ] {
        assert_eq!(guest.get(path).expect(200).json(), default, "{path}");
    }
    guest
        .delete("/api/bindings/%2F/e/amq.default/q/q.idle/q.idle")
        .expect_error(401, "not_authorised", "Access refused.");
}

#[test]
fn what_is_missing_or_wrong_is_told() {
    let node = Node::start();
    let guest = node.guest();
    prepare(&guest);
    for (path, body, status, error, reason) in [
        (
            "nowhere/e/x/q/q.idle",
            json!({}),
            404,
            "not_found",
            "vhost_not_found",
        ),
        (
            "%2F/e/none/q/q.idle",
            json!({}),
            404,
            "not_found",
            "no exchange 'none' in vhost '/'",
        ),
        (
            "%2F/e/x/q/none",
            json!({}),
            404,
            "not_found",
            "no queue 'none' in vhost '/'",
        ),
        (
            "%2F/e/x/q/q.idle",
            json!({"routing_key": 1}),
            400,
            "bad_request",
            "{not_string,routing_key,1}",
        ),
        (
            "%2F/e/x/q/q.idle",
            json!({"routing_key": "x".repeat(256)}),
            400,
            "bad_request",
            "binding key has 256 bytes, at most 255 are allowed",
        ),
    ] {
        let refused = guest.post(&format!("/api/bindings/{path}"), body);
        refused.expect_error(status, error, reason);
    }
    for path in [
        "/api/bindings/nowhere",
        "/api/bindings/%2F/e/none/q/q.idle",
        "/api/bindings/%2F/e/x/q/none",
        "/api/bindings/%2F/e/x/z/q.idle",
        "/api/bindings/%2F/e/x/q/q.idle/none",
        "/api/queues/%2F/none/bindings",
        "/api/exchanges/%2F/none/bindings/source",
        "/api/exchanges/%2F/none/bindings/destination",
    ] {
        guest.get(path).expect_not_found();
    }
    node.put_user("reader", &["management"], Some(["", "", ".*"]));
    node.client("reader:pw")
        .post("/api/bindings/%2F/e/x/q/q.idle", json!({}))
        .expect_error(401, "not_authorised", "Access refused.");
    assert_ne!(guest.get("/api/bindings").json(), Value::Null);
}
