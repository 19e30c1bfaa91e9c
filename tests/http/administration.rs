//! Virtual hosts, users, permissions, limits, policies, parameters: what Terraform, operators and scripts do with them.

use serde_json::{Value, json};

use crate::support::Node;

#[test]
fn a_virtual_host_lives() {
    let node = Node::start();
    let guest = node.guest();
    let path = "/api/vhosts/a%2Fb";
    guest.get(path).expect_not_found();
    guest.send("PUT", path, b"").expect(201);
    guest
        .put(path, json!({"description": "d", "tags": "x,y", "default_queue_type": "quorum", "tracing": "true"}))
        .expect(204);
    let vhost = guest.get(path).expect(200).json();
    for (name, value) in [
        ("name", json!("a/b")),
        ("description", json!("d")),
        ("tags", json!(["x", "y"])),
        ("default_queue_type", json!("quorum")),
        (
            "metadata",
            json!({"description": "d", "tags": ["x", "y"], "default_queue_type": "quorum"}),
        ),
        ("tracing", json!(true)),
        ("protected_from_deletion", json!(false)),
        ("cluster_state", json!({"haremq@test": "running"})),
    ] {
        assert_eq!(vhost[name], value, "{name}");
    }
    // Whoever makes one may use it.
    guest.put("/api/queues/a%2Fb/q", json!({})).expect(201);
    let queue = guest.get("/api/queues/a%2Fb/q").json();
    assert_eq!(queue["type"], "quorum");

    guest
        .send("POST", &format!("{path}/deletion/protection"), b"")
        .expect(204);
    let refused = guest.delete(path).expect(412).json();
    assert_eq!(refused["error"], "precondition_failed");
    guest
        .delete(&format!("{path}/deletion/protection"))
        .expect(204);
    guest
        .send("POST", &format!("{path}/start/haremq@test"), b"")
        .expect(204);
    guest
        .send("POST", &format!("{path}/start/other@host"), b"")
        .expect(400);

    let node = node.restart();
    let guest = node.guest();
    assert_eq!(guest.get(path).expect(200).json()["description"], "d");
    guest.delete(path).expect(204);
    guest.delete(path).expect_not_found();
    guest.get("/api/queues/a%2Fb").expect_not_found();
    guest
        .put("/api/vhosts/v", json!({"default_queue_type": "none"}))
        .expect_error(400, "bad_request", "none is not a valid queue type");
}

#[test]
fn a_user_lives() {
    let node = Node::start();
    let guest = node.guest();
    let path = "/api/users/u";
    guest
        .put(path, json!({"password": "pw"}))
        .expect_error(400, "bad_request", "tags_not_present");
    guest
        .put(path, json!({"password": "pw", "tags": "monitoring, x"}))
        .expect(201);
    let user = guest.get(path).expect(200).json();
    assert_eq!(user["tags"], json!(["monitoring", "x"]));
    assert_eq!(user["hashing_algorithm"], "rabbit_password_hashing_sha256");
    assert_eq!(user["limits"], json!({}));
    node.client("u:pw").get("/api/whoami").expect(200);
    let without = guest.get("/api/users/without-permissions").json();
    assert_eq!(without.as_array().unwrap().len(), 1);

    // As rabbitmqadmin writes them: a hash without its algorithm.
    let hash = user["password_hash"].clone();
    guest
        .put(
            "/api/users/copy",
            json!({"password_hash": hash, "tags": ["management"]}),
        )
        .expect(201);
    node.client("copy:pw").get("/api/whoami").expect(200);
    // Neither clears the password.
    guest.put(path, json!({"tags": ["management"]})).expect(204);
    node.client("u:pw").get("/api/whoami").expect(401);
    guest
        .put(
            path,
            json!({"tags": "", "password": "a", "password_hash": "b"}),
        )
        .expect(400);
    guest
        .put(path, json!({"tags": "", "password_hash": "???"}))
        .expect(400);
    guest.put(path, json!({"tags": 1})).expect(400);
    guest
        .put(
            path,
            json!({"tags": "", "password": "x", "hashing_algorithm": "rot13"}),
        )
        .expect(400);

    guest
        .put(
            "/api/users/safe",
            json!({"tags": "protected", "password": "x"}),
        )
        .expect(201);
    guest.delete("/api/users/safe").expect_error(
        400,
        "bad_request",
        "Protected users cannot be modified via the HTTP API",
    );
    guest
        .post(
            "/api/users/bulk-delete",
            json!({"users": ["u", "copy", "none", "safe"]}),
        )
        .expect(204);
    let left: Vec<Value> = guest
        .get("/api/users?columns=name")
        .json()
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(left, [json!({"name": "guest"}), json!({"name": "safe"})]);
    guest
        .post("/api/users/bulk-delete", json!({}))
        .expect_error(400, "bad_request", "[{key_missing,users}]");
    guest.delete(path).expect_not_found();
}

#[test]
fn permissions_are_put_and_taken() {
    let node = Node::start();
    let guest = node.guest();
    node.put_user("u", &["management"], None);
    let path = "/api/permissions/%2F/u";
    let body = json!({"configure": "a", "write": "b", "read": "c"});
    guest.put(path, body.clone()).expect(201);
    guest.put(path, body.clone()).expect(204);
    let shown = json!({"user": "u", "vhost": "/", "configure": "a", "write": "b", "read": "c"});
    assert_eq!(guest.get(path).expect(200).json(), shown);
    assert_eq!(guest.get("/api/users/u/permissions").json(), json!([shown]));
    for path in ["/api/permissions/%2F/none", "/api/permissions/none/u"] {
        guest
            .put(path, body.clone())
            .expect_error(400, "bad_request", "vhost_or_user_not_found");
    }
    guest.put(path, json!({"configure": "a"})).expect_error(
        400,
        "bad_request",
        "[{key_missing,write},{key_missing,read}]",
    );
    guest
        .put(path, json!({"configure": "(", "write": "", "read": ""}))
        .expect(400);
    guest.delete(path).expect(204);
    guest.delete(path).expect_not_found();

    let path = "/api/topic-permissions/%2F/u";
    let body = json!({"exchange": "amq.topic", "write": "^a", "read": "^b"});
    guest.put(path, body.clone()).expect(201);
    guest.put(path, body).expect(204);
    guest
        .put(&format!("{path}/x"), json!({"write": "", "read": ""}))
        .expect(201);
    let shown =
        json!({"user": "u", "vhost": "/", "exchange": "amq.topic", "write": "^a", "read": "^b"});
    assert_eq!(guest.get(path).expect(200).json()[0], shown);
    assert_eq!(
        guest.get(&format!("{path}/amq.topic")).expect(200).json(),
        json!([shown])
    );
    assert_eq!(
        guest
            .get("/api/vhosts/%2F/topic-permissions")
            .json()
            .as_array()
            .unwrap()
            .len(),
        2
    );
    guest.delete(&format!("{path}/x")).expect(204);
    guest.delete(&format!("{path}/x")).expect_not_found();
    guest.delete(path).expect(204);
    guest.get(path).expect_not_found();
}

#[test]
fn limits_are_put_and_taken() {
    let node = Node::start();
    let guest = node.guest();
    node.put_user("u", &["management"], None);
    for (list, path, owner, name, limit) in [
        (
            "/api/vhost-limits",
            "/api/vhost-limits/%2F",
            "vhost",
            "/",
            "max-queues",
        ),
        (
            "/api/user-limits",
            "/api/user-limits/u",
            "user",
            "u",
            "max-channels",
        ),
    ] {
        assert_eq!(guest.get(list).expect(200).json(), json!([]));
        assert_eq!(guest.get(path).expect(200).json(), json!([]));
        let limit_path = format!("{path}/{}", limit.replace('-', "%2D"));
        guest.put(&limit_path, json!({"value": 5})).expect(201);
        guest.put(&limit_path, json!({"value": "7"})).expect(204);
        let shown = json!([{owner: name, "value": {limit: 7}}]);
        assert_eq!(guest.get(list).json(), shown);
        assert_eq!(guest.get(path).json(), shown);
        guest
            .put(&limit_path, json!({}))
            .expect_error(400, "bad_request", "[{key_missing,value}]");
        guest.put(&limit_path, json!({"value": "many"})).expect(400);
        guest
            .put(&format!("{path}/max-none"), json!({"value": 1}))
            .expect(400);
        guest.delete(&limit_path).expect(204);
        assert_eq!(guest.get(list).json(), json!([]));
    }
    guest
        .put("/api/vhost-limits/none/max-queues", json!({"value": 1}))
        .expect_not_found();
    guest
        .put("/api/user-limits/none/max-channels", json!({"value": 1}))
        .expect_not_found();
    // His own he may see.
    node.client("u:pw").get("/api/user-limits/u").expect(200);
    guest
        .put("/api/vhost-limits/%2F/max-queues", json!({"value": 0}))
        .expect(201);
    guest.put("/api/queues/%2F/q", json!({})).expect_error(
        400,
        "bad_request",
        "cannot declare queue 'q': queue limit in vhost '/' (0) is reached",
    );
}

#[test]
fn policies_hold_at_once() {
    let node = Node::start();
    let guest = node.guest();
    guest.put("/api/queues/%2F/q", json!({})).expect(201);
    let path = "/api/policies/%2F/p";
    let body = json!({"pattern": "^q", "definition": {"max-length": 10}, "apply-to": "queues"});
    guest.put(path, body.clone()).expect(201);
    guest.put(path, body).expect(204);
    let shown = json!({"vhost": "/", "name": "p", "pattern": "^q", "apply-to": "queues", "priority": 0,
                       "definition": {"max-length": 10}});
    assert_eq!(guest.get(path).expect(200).json(), shown);
    for list in ["/api/policies", "/api/policies/%2F"] {
        assert_eq!(guest.get(list).json(), json!([shown]));
    }
    guest
        .put(
            "/api/operator-policies/%2F/o",
            json!({"pattern": ".*", "definition": {"max-length": 5}, "priority": "3"}),
        )
        .expect(201);
    assert_eq!(
        guest.get("/api/operator-policies/%2F/o").json()["priority"],
        3
    );
    let queue = guest.get("/api/queues/%2F/q").json();
    assert_eq!(
        (
            &queue["policy"],
            &queue["operator_policy"],
            &queue["effective_policy_definition"]
        ),
        (&json!("p"), &json!("o"), &json!({"max-length": 5}))
    );
    guest.delete("/api/operator-policies/%2F/o").expect(204);
    guest.delete(path).expect(204);
    guest.delete(path).expect_not_found();
    let queue = guest.get("/api/queues/%2F/q").json();
    assert_eq!(queue["policy"], json!(null));
    assert_eq!(queue["effective_policy_definition"], json!({}));

    guest
        .put("/api/policies/none/p", json!({}))
        .expect_error(404, "not_found", "vhost_not_found");
    guest.put(path, json!({"pattern": ".*"})).expect_error(
        400,
        "bad_request",
        "[{key_missing,definition}]",
    );
    let unknown = guest
        .put(path, json!({"pattern": ".*", "definition": {"none": 1}}))
        .expect(400)
        .json();
    assert!(
        unknown["reason"]
            .as_str()
            .unwrap()
            .contains("are not recognised policy settings"),
        "{unknown}"
    );
}

#[test]
fn parameters_are_put_and_taken() {
    let node = Node::start();
    let guest = node.guest();
    let path = "/api/parameters/vhost-limits/%2F/limits";
    guest
        .put(path, json!({"value": {"max-queues": 3}}))
        .expect(201);
    guest
        .put(
            path,
            json!({"value": {"max-queues": 4}, "component": "ignored"}),
        )
        .expect(204);
    let shown = json!({"vhost": "/", "component": "vhost-limits", "name": "limits", "value": {"max-queues": 4}});
    assert_eq!(guest.get(path).expect(200).json(), shown);
    for list in [
        "/api/parameters",
        "/api/parameters/vhost-limits",
        "/api/parameters/vhost-limits/%2F",
    ] {
        assert_eq!(guest.get(list).json(), json!([shown]), "{list}");
    }
    assert_eq!(guest.get("/api/parameters/none").json(), json!([]));
    guest
        .put("/api/parameters/none/%2F/x", json!({"value": {}}))
        .expect(400);
    guest
        .put(path, json!({}))
        .expect_error(400, "bad_request", "[{key_missing,value}]");
    guest.delete(path).expect(204);
    guest.delete(path).expect_not_found();

    let path = "/api/global-parameters/mine";
    guest.put(path, json!({"value": [1, "two"]})).expect(201);
    guest.put(path, json!({"value": {"three": 3}})).expect(204);
    assert_eq!(
        guest.get(path).json(),
        json!({"name": "mine", "value": {"three": 3}})
    );
    guest.delete(path).expect(204);
    guest.delete(path).expect_not_found();

    assert_eq!(
        guest.get("/api/cluster-name").json(),
        json!({"name": "haremq@test"})
    );
    guest
        .put("/api/cluster-name", json!({"name": "cluster"}))
        .expect(204);
    assert_eq!(
        guest.get("/api/cluster-name").json(),
        json!({"name": "cluster"})
    );
    assert_eq!(guest.get("/api/overview").json()["cluster_name"], "cluster");
    guest.put("/api/cluster-name", json!({})).expect(400);
}
