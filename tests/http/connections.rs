//! Connections, channels and consumers of real clients.

use std::time::{Duration, Instant};

use lapin::options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use serde_json::{Value, json};

use crate::support::Node;

/// Waits for what another task does.
fn until(mut is_there: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_there() {
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn encoded(name: &Value) -> String {
    let name = name.as_str().unwrap();
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn a_client_is_shown_with_what_it_does() {
    let node = Node::start();
    let guest = node.guest();
    assert_eq!(guest.get("/api/connections").json(), json!([]));
    let connection = node.connect("guest");
    let channel = node.block_on(connection.create_channel()).unwrap();
    // A consumer that is dropped is cancelled.
    let _consumer = node.block_on(async {
        let exclusive = QueueDeclareOptions {
            exclusive: true,
            ..Default::default()
        };
        let nothing = FieldTable::default;
        let declared = channel.queue_declare("q".into(), exclusive, nothing());
        declared.await.unwrap();
        let limited = channel.basic_qos(7, BasicQosOptions::default());
        limited.await.unwrap();
        let options = BasicConsumeOptions::default();
        let consuming = channel.basic_consume("q".into(), "tag".into(), options, nothing());
        consuming.await.unwrap()
    });
    until(|| guest.get("/api/channels").json()[0]["consumer_count"] == 1);

    let list = guest.get("/api/connections").expect(200).json();
    let shown = &list[0];
    for (name, value) in [
        ("user", json!("guest")),
        ("vhost", json!("/")),
        ("node", json!("haremq@test")),
        ("protocol", json!("AMQP 0-9-1")),
        ("type", json!("network")),
        ("state", json!("running")),
        ("channels", json!(1)),
        ("ssl", json!(false)),
        ("user_provided_name", json!("tester")),
        ("peer_host", json!("127.0.0.1")),
        ("port", json!(node.amqp.port())),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
    assert!(shown["connected_at"].is_u64());
    assert!(shown["client_properties"]["capabilities"].is_object());
    let path = format!("/api/connections/{}", encoded(&shown["name"]));
    assert_eq!(guest.get(&path).expect(200).json()["name"], shown["name"]);
    assert_eq!(
        guest.get("/api/vhosts/%2F/connections").json()[0]["name"],
        shown["name"]
    );
    assert_eq!(
        guest.get("/api/connections/username/guest").json(),
        json!([{"name": shown["name"], "vhost": "/", "user": "guest", "node": "haremq@test"}])
    );
    let page = guest
        .get("/api/connections?page=1&page_size=10&sort=channels&columns=user")
        .json();
    assert_eq!(page["items"], json!([{"user": "guest"}]));

    let channels = guest.get(&format!("{path}/channels")).expect(200).json();
    let shown = &channels[0];
    for (name, value) in [
        ("number", json!(1)),
        ("prefetch_count", json!(7)),
        ("consumer_count", json!(1)),
        ("confirm", json!(false)),
        ("transactional", json!(false)),
        ("messages_unacknowledged", json!(0)),
        ("user", json!("guest")),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
    assert_eq!(shown["connection_details"]["peer_host"], "127.0.0.1");
    let one = guest
        .get(&format!("/api/channels/{}", encoded(&shown["name"])))
        .expect(200)
        .json();
    assert_eq!(one["consumer_details"][0]["consumer_tag"], "tag");
    assert_eq!(
        guest
            .get("/api/vhosts/%2F/channels")
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );

    for path in ["/api/consumers", "/api/consumers/%2F"] {
        let consumer = &guest.get(path).expect(200).json()[0];
        assert_eq!(consumer["queue"], json!({"name": "q", "vhost": "/"}));
        assert_eq!(consumer["prefetch_count"], 7);
        assert_eq!(consumer["consumer_timeout"], 1_800_000);
        assert_eq!(consumer["channel_details"]["number"], 1);
    }
    let queue = guest.get("/api/queues/%2F/q").json();
    assert_eq!(
        (&queue["exclusive"], &queue["consumers"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(queue["owner_pid_details"]["peer_host"], "127.0.0.1");
    let totals = guest.get("/api/overview").json()["object_totals"].clone();
    assert_eq!(
        totals,
        json!({"channels": 1, "connections": 1, "consumers": 1, "exchanges": 7, "queues": 1})
    );
}

#[test]
fn connections_are_closed_with_a_reason() {
    let node = Node::start();
    let guest = node.guest();
    let connection = node.connect("guest");
    let list = guest.get("/api/connections").json();
    let path = format!("/api/connections/{}", encoded(&list[0]["name"]));
    guest.with("x-reason", "enough").delete(&path).expect(204);
    until(|| guest.get("/api/connections").json() == json!([]));
    until(|| !connection.status().connected());
    guest.delete(&path).expect_not_found();
    guest.delete("/api/connections/username/guest").expect(204);
    let _second = node.connect("guest");
    guest.delete("/api/connections/username/guest").expect(204);
    until(|| guest.get("/api/connections").json() == json!([]));
}

#[test]
fn users_see_their_own_and_monitors_all() {
    let node = Node::start();
    node.put_user("mine", &["management"], Some([".*", ".*", ".*"]));
    node.put_user("watch", &["monitoring"], None);
    let _connection = node.connect("guest");
    let name = encoded(&node.guest().get("/api/connections").json()[0]["name"]);
    let path = format!("/api/connections/{name}");
    let mine = node.client("mine:pw");
    assert_eq!(mine.get("/api/connections").expect(200).json(), json!([]));
    for reply in [
        mine.get(&path),
        mine.delete(&path),
        mine.get("/api/connections/username/guest"),
    ] {
        reply.expect_error(
            401,
            "not_authorised",
            "User not authorised to access object",
        );
    }
    let watch = node.client("watch:pw");
    watch.get(&path).expect(200);
    watch.delete(&path).expect_error(
        401,
        "not_authorised",
        "User not authorised to access object",
    );
    assert_eq!(
        watch
            .get("/api/connections")
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
    mine.delete("/api/connections/username/mine").expect(204);
}
