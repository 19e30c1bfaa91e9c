//! Who may ask what: each route with every standing, and what the others are told.

use serde_json::json;

use crate::support::Node;

/// What a route asks of whoever calls it.
#[derive(Clone, Copy, PartialEq)]
enum Needs {
    Nobody,
    User,
    Policymaker,
    Monitor,
    Administrator,
}
use Needs::{Administrator, Monitor, Nobody, Policymaker, User};

/// Every GET whose answer does not hang on an object of the caller's.
const GETS: [(&str, Needs); 78] = [
    ("overview", User),
    ("cluster-name", User),
    ("nodes", Monitor),
    ("nodes/haremq@test", Monitor),
    ("nodes/haremq@test/memory", Monitor),
    ("nodes/haremq@test/memory/relative", Monitor),
    ("whoami", User),
    ("version", Nobody),
    ("extensions", User),
    ("feature-flags", User),
    ("deprecated-features", User),
    ("deprecated-features/used", User),
    ("definitions", Administrator),
    ("definitions/%2F", Administrator),
    ("all-configuration", Administrator),
    ("auth/attempts/haremq@test", Monitor),
    ("auth/attempts/haremq@test/source", Monitor),
    ("auth/hash_password/secret", Administrator),
    ("vhosts", User),
    ("vhosts/%2F", User),
    ("vhosts/%2F/permissions", Administrator),
    ("vhosts/%2F/topic-permissions", Administrator),
    ("vhosts/%2F/connections", User),
    ("vhosts/%2F/channels", User),
    ("users", Administrator),
    ("users/guest", Administrator),
    ("users/without-permissions", Administrator),
    ("users/guest/permissions", Administrator),
    ("users/guest/topic-permissions", Administrator),
    ("permissions", Administrator),
    ("permissions/%2F/guest", Administrator),
    ("topic-permissions", Administrator),
    ("vhost-limits", User),
    ("vhost-limits/%2F", User),
    ("user-limits", Administrator),
    ("user-limits/guest", Administrator),
    ("queues", User),
    ("queues/detailed", User),
    ("queues/%2F", User),
    ("queues/%2F/q", User),
    ("queues/%2F/q/bindings", User),
    ("exchanges", User),
    ("exchanges/%2F", User),
    ("exchanges/%2F/amq.topic", User),
    ("exchanges/%2F/amq.topic/bindings/source", User),
    ("exchanges/%2F/amq.topic/bindings/destination", User),
    ("bindings", User),
    ("bindings/%2F", User),
    ("bindings/%2F/e/amq.topic/q/q", User),
    ("policies", User),
    ("policies/%2F", User),
    ("operator-policies", User),
    ("operator-policies/%2F", User),
    ("parameters", Policymaker),
    ("parameters/vhost-limits", Policymaker),
    ("parameters/vhost-limits/%2F", Policymaker),
    ("global-parameters", Policymaker),
    ("global-parameters/cluster_name", Policymaker),
    ("connections", User),
    ("channels", User),
    ("consumers", User),
    ("consumers/%2F", User),
    ("shovels", Monitor),
    ("shovels/%2F", Monitor),
    ("federation-links", Monitor),
    ("federation-links/%2F", Monitor),
    ("stream/connections", User),
    ("health/checks/alarms", User),
    ("health/checks/local-alarms", User),
    ("health/checks/protocol-listener/http,amqp091", User),
    ("health/checks/node-is-quorum-critical", User),
    ("health/checks/virtual-hosts", User),
    ("health/checks/certificate-expiration/1/months", User),
    ("health/checks/metadata-store/initialized/with-data", User),
    ("health/checks/is-in-service", Nobody),
    ("health/checks/ready-to-serve-clients", Nobody),
    ("health/checks/reached-target-cluster-size", Nobody),
    ("aliveness-test/%2F", User),
];

#[test]
fn tags_open_what_they_should() {
    let node = Node::start();
    node.guest().put("/api/queues/%2F/q", json!({})).expect(201);
    let everything = Some([".*", ".*", ".*"]);
    for tag in [
        "management",
        "policymaker",
        "monitoring",
        "administrator",
        "none",
    ] {
        node.put_user(tag, &[tag], everything);
    }
    for (index, (path, needs)) in GETS.into_iter().enumerate() {
        let path = format!("/api/{path}");
        let anonymous = node.nobody().get(&path).status;
        assert_eq!(anonymous, if needs == Nobody { 200 } else { 401 }, "{path}");
        if needs == Nobody {
            continue;
        }
        // More failures would have to wait.
        if index < 3 {
            node.client("guest:wrong").get(&path).expect_error(
                401,
                "not_authorized",
                "Not_Authorized",
            );
        }
        node.client("none:pw").get(&path).expect_error(
            401,
            "not_authorised",
            "Not management user",
        );
        for (user, may) in [
            ("management", needs == User),
            ("policymaker", matches!(needs, User | Policymaker)),
            ("monitoring", matches!(needs, User | Monitor)),
            ("administrator", true),
        ] {
            let reply = node.client(&format!("{user}:pw")).get(&path);
            let expected = if may { 200 } else { 401 };
            assert_eq!(reply.status, expected, "{user} {path}: {}", reply.text());
            if !may {
                assert_eq!(reply.json()["error"], "not_authorised", "{path}");
            }
        }
        let head = node.guest().send("HEAD", &path, b"");
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        let options = node.nobody().send("OPTIONS", &path, b"");
        assert_eq!(options.status, 200, "{path}");
        assert!(options.header("allow").starts_with("GET, HEAD"), "{path}");
        let patched = node.guest().send("PATCH", &path, b"");
        patched.expect_error(405, "method_not_allowed", "Method Not Allowed");
    }
}

#[test]
fn what_is_not_there_is_the_same_everywhere() {
    let node = Node::start();
    for path in [
        "nodes/other@host",
        "nodes/other@host/memory",
        "auth/attempts/other@host",
        "vhosts/none",
        "vhosts/none/permissions",
        "vhosts/none/connections",
        "users/none",
        "users/none/permissions",
        "permissions/%2F/none",
        "permissions/none/guest",
        "topic-permissions/%2F/guest",
        "vhost-limits/none",
        "user-limits/none",
        "queues/none",
        "queues/%2F/none",
        "exchanges/%2F/none",
        "bindings/none",
        "policies/%2F/none",
        "policies/none",
        "operator-policies/%2F/none",
        "parameters/x/%2F/none",
        "parameters/x/none",
        "global-parameters/none",
        "definitions/none",
        "connections/none",
        "connections/none/channels",
        "channels/none",
        "consumers/none",
        "aliveness-test/none",
        "health/checks/none",
        "shovels/none",
    ] {
        node.guest().get(&format!("/api/{path}")).expect_not_found();
    }
}

#[test]
fn changes_need_their_standing() {
    let node = Node::start();
    let everything = Some([".*", ".*", ".*"]);
    for tag in ["management", "policymaker", "monitoring"] {
        node.put_user(tag, &[tag], everything);
    }
    let policy = json!({"pattern": ".*", "definition": {"max-length": 1}});
    for (method, path, body) in [
        ("PUT", "cluster-name", json!({"name": "x"})),
        ("PUT", "vhosts/v", json!({})),
        ("DELETE", "vhosts/%2F", json!({})),
        ("POST", "vhosts/%2F/deletion/protection", json!({})),
        ("PUT", "users/u", json!({"tags": ""})),
        ("DELETE", "users/guest", json!({})),
        ("POST", "users/bulk-delete", json!({"users": []})),
        (
            "PUT",
            "permissions/%2F/guest",
            json!({"configure": "", "write": "", "read": ""}),
        ),
        ("DELETE", "permissions/%2F/guest", json!({})),
        (
            "PUT",
            "topic-permissions/%2F/guest",
            json!({"exchange": "x", "write": "", "read": ""}),
        ),
        ("PUT", "vhost-limits/%2F/max-queues", json!({"value": 1})),
        ("DELETE", "vhost-limits/%2F/max-queues", json!({})),
        ("PUT", "user-limits/guest/max-channels", json!({"value": 1})),
        ("PUT", "operator-policies/%2F/p", policy.clone()),
        ("DELETE", "operator-policies/%2F/p", json!({})),
        (
            "PUT",
            "parameters/vhost-limits/%2F/limits",
            json!({"value": {"max-queues": 1}}),
        ),
        (
            "PUT",
            "parameters/operator_policy/%2F/p",
            json!({"value": policy.clone()}),
        ),
        ("POST", "definitions", json!({})),
        ("POST", "definitions/%2F", json!({})),
        ("PUT", "feature-flags/all/enable", json!({})),
        ("DELETE", "reset", json!({})),
        ("POST", "rebalance/queues", json!({})),
        ("DELETE", "auth/attempts/haremq@test", json!({})),
    ] {
        for user in ["management", "policymaker", "monitoring"] {
            let client = node.client(&format!("{user}:pw"));
            let reply = client.send(method, &format!("/api/{path}"), body.to_string().as_bytes());
            assert_eq!(
                reply.status,
                401,
                "{user} {method} {path}: {}",
                reply.text()
            );
            assert_eq!(reply.json()["error"], "not_authorised");
        }
    }
    let path = "/api/policies/%2F/p";
    for user in ["management", "monitoring"] {
        let client = node.client(&format!("{user}:pw"));
        assert_eq!(client.put(path, policy.clone()).status, 401);
    }
    node.client("policymaker:pw").put(path, policy).expect(201);
    node.client("policymaker:pw").delete(path).expect(204);
}

#[test]
fn bodies_are_bounded() {
    let node = Node::start_with(|settings| settings.http.max_body_bytes = 64 * 1024);
    let large = format!("{{\"arguments\":{{\"x\":\"{}\"}}}}", "a".repeat(70_000));
    for (method, path) in [
        ("PUT", "queues/%2F/q"),
        ("PUT", "exchanges/%2F/x"),
        ("PUT", "users/u"),
        ("POST", "definitions"),
        ("POST", "exchanges/%2F/amq.topic/publish"),
    ] {
        node.guest()
            .send(method, &format!("/api/{path}"), large.as_bytes())
            .expect_error(400, "bad_request", "Exceeded HTTP request body size limit");
    }
    // Without a length that says it beforehand.
    let mut chunked = b"PUT /api/queues/%2F/q HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
        authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\ntransfer-encoding: chunked\r\n\r\n"
        .to_vec();
    chunked.extend(format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len()).into_bytes());
    node.nobody().send_bytes(&chunked, false).expect_error(
        400,
        "bad_request",
        "Exceeded HTTP request body size limit",
    );
}

#[test]
fn sessions_stand_for_credentials() {
    let node = Node::start();
    node.put_user("u", &["monitoring"], None);
    let form = node
        .nobody()
        .with("content-type", "application/x-www-form-urlencoded");
    let login = |body: &str| form.send("POST", "/api/login", body.as_bytes());
    let reply = login("username=u&password=pw").expect(200).json();
    assert_eq!(reply["user"]["name"], "u");
    let token = reply["token"]["value"].as_str().unwrap().to_owned();
    let session = node
        .nobody()
        .with("authorization", &format!("Bearer {token}"));
    let who = session.get("/api/whoami").expect(200).json();
    assert_eq!(
        who,
        json!({"name": "u", "tags": ["monitoring"], "is_internal_user": true, "login_session_timeout": 480})
    );
    session.get("/api/users").expect(401);
    session.delete("/api/login").expect(204);
    session
        .get("/api/whoami")
        .expect_error(401, "not_authorized", "Not_Authorized");

    login("username=u&password=wrong").expect_error(401, "not_authorized", "Not_Authorized");
    login("username=u").expect(400);
    node.nobody().post("/api/login", json!({})).expect(415);
    let attempts = node.guest().get("/api/auth/attempts/haremq@test").json();
    let http = attempts
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["protocol"] == "http");
    assert!(http.unwrap()["auth_attempts_failed"].as_u64().unwrap() >= 2);
    node.guest()
        .delete("/api/auth/attempts/haremq@test")
        .expect(204);
}
