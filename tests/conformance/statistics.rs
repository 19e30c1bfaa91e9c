//! What is counted, and what is remembered of it: snapshots, rates, ticks that visit only what was busy.

use haremq::broker::stats::{Measure, NodeReading, Range, Ranges, SampleReport};
use haremq::protocol::{Value, basic};

use crate::support::{Client, Node, short};

/// A tick, five seconds after what was before.
fn tick(node: &Node) -> SampleReport {
    node.advance(5_000);
    node.broker().sample(node.now(), NodeReading::default())
}

#[track_caller]
fn named<'m>(measures: &'m [Measure], name: &str) -> &'m Measure {
    let mut measures = measures.iter();
    measures
        .find(|measure| measure.name == name)
        .unwrap_or_else(|| panic!("no {name}"))
}

#[track_caller]
fn values(measures: &[Measure], expected: &[(&str, u64)]) {
    let found: Vec<(&str, u64)> = measures
        .iter()
        .filter(|measure| measure.value > 0)
        .map(|measure| (measure.name, measure.value))
        .collect();
    assert_eq!(found, expected);
}

/// A node whose messages stay in memory, so that what goes to the disk is known.
fn with_memory() -> Node {
    Node::start_with(|settings| settings.store.cache_bytes_max = 32 << 20)
}

fn queue_stats(node: &Node, name: &str) -> haremq::broker::snapshots::QueueReport {
    let queue = node
        .broker()
        .vhost("/")
        .unwrap()
        .queue_handle(name)
        .unwrap();
    let report = node.broker().queue_snapshot(&queue, &Ranges::default());
    report.unwrap()
}

fn get(client: &mut Client, queue: &str, no_ack: bool) {
    client.send(basic::Get {
        queue: short(queue),
        no_ack,
    });
    client.message();
}

#[test]
fn a_queue_counts_what_came_and_went() {
    let node = with_memory();
    let mut client = node.client();
    client.declare("q", &[]);
    assert!(queue_stats(&node, "q").message_stats.is_empty());
    for body in ["a", "b", "c", "d"] {
        client.publish("", "q", body);
    }
    get(&mut client, "q", false);
    get(&mut client, "q", true);
    client.consume("q", "t");
    client.expect_deliveries(&["c", "d"]);
    client.nack(1, true);
    client.expect_delivery("a");
    client.ack(3);
    client.expect_nothing();
    let report = queue_stats(&node, "q");
    values(
        &report.message_stats,
        &[
            ("publish", 4),
            ("deliver", 3),
            ("get", 1),
            ("get_no_ack", 1),
            ("redeliver", 1),
            ("ack", 1),
            ("deliver_get", 5),
        ],
    );
    values(
        &report.lengths,
        &[("messages", 2), ("messages_unacknowledged", 2)],
    );
    assert_eq!((report.message_bytes, report.consumers), (2, 1));
    assert_eq!(report.consumer_capacity, 1.0);
}

#[test]
fn persistent_messages_and_those_on_the_disk_are_told_apart() {
    let node = with_memory();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish("", "q", "transient");
    client.publish_with(
        "",
        "q",
        &haremq::protocol::Properties {
            delivery_mode: Some(2),
            timestamp: Some(77),
            ..Default::default()
        },
        "persistent",
    );
    let report = queue_stats(&node, "q");
    assert_eq!((report.messages_persistent, report.messages_ram), (1, 2));
    assert_eq!(report.head_message_timestamp, None);
    values(&report.message_stats, &[("publish", 2), ("disk_writes", 1)]);
    client.expect_get("q", "transient");
    assert_eq!(queue_stats(&node, "q").head_message_timestamp, Some(77));
}

#[test]
fn a_channel_and_its_connection_are_shown() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.confirm();
    client.qos(7, false);
    client.publish("", "q", "a");
    client.expect_ack(1, false);
    client.publish_mandatory("", "nowhere", "b");
    client.expect_return("", "nowhere", "b");
    client.expect_ack(2, false);
    client.publish("", "nowhere", "c");
    client.expect_ack(3, false);
    client.consume("q", "t");
    client.expect_delivery("a");
    let broker = node.broker();
    let connections = broker.connections();
    assert_eq!(connections.len(), 1);
    let ranges = Ranges::default();
    let connection = broker
        .connection_snapshot(&connections[0], &ranges)
        .unwrap();
    assert_eq!(&*connection.name, "127.0.0.1:50000 -> 127.0.0.1:5672");
    assert_eq!(
        connection.user_provided_name.as_deref(),
        Some("conformance")
    );
    assert_eq!((&*connection.user, &*connection.vhost), ("guest", "/"));
    assert_eq!(&*connection.auth_mechanism, "PLAIN");
    assert_eq!((connection.state, connection.channels), ("running", 1));
    assert_eq!(
        (connection.channel_max, connection.frame_max),
        (2047, 131_072)
    );
    assert!(connection.client_properties.get("capabilities").is_some());
    assert!(named(&connection.traffic, "recv_oct").value > 100);
    assert!(named(&connection.traffic, "send_oct").value > 100);
    let channel = broker.channel_named("127.0.0.1:50000 -> 127.0.0.1:5672 (1)");
    let channel = broker.channel_snapshot(&channel.unwrap(), &ranges).unwrap();
    assert_eq!((channel.number, channel.prefetch_count), (1, 7));
    assert_eq!(
        (channel.consumer_count, channel.messages_unacknowledged),
        (1, 1)
    );
    assert!(channel.confirm && !channel.transactional);
    assert_eq!(channel.messages_unconfirmed, 0);
    values(
        &channel.message_stats,
        &[
            ("publish", 3),
            ("confirm", 3),
            ("return_unroutable", 1),
            ("drop_unroutable", 1),
            ("deliver", 1),
            ("deliver_get", 1),
        ],
    );
    client.close_channel();
    assert!(broker.channels().is_empty());
    client.hang_up();
    assert!(broker.connections().is_empty());
    assert!(
        broker
            .connection_named("127.0.0.1:50000 -> 127.0.0.1:5672")
            .is_none()
    );
}

#[test]
fn a_transaction_counts_acknowledgements_when_it_is_committed() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish("", "q", "a");
    client.transact();
    get(&mut client, "q", false);
    client.ack(1);
    let channel = node.broker().channels().remove(0);
    let snapshot = node.broker().channel_snapshot(&channel, &Ranges::default());
    let snapshot = snapshot.unwrap();
    assert_eq!(
        (snapshot.acks_uncommitted, snapshot.transactional),
        (1, true)
    );
    assert_eq!(named(&snapshot.message_stats, "ack").value, 0);
    client.send(haremq::protocol::tx::Commit);
    client.expect(haremq::protocol::tx::CommitOk);
    let snapshot = node.broker().channel_snapshot(&channel, &Ranges::default());
    let snapshot = snapshot.unwrap();
    assert_eq!(snapshot.acks_uncommitted, 0);
    assert_eq!(named(&snapshot.message_stats, "ack").value, 1);
}

#[test]
fn a_blocked_connection_says_so() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    let state = |client: &mut Client| {
        client.expect_nothing();
        node.broker().connections()[0].state().as_str()
    };
    assert_eq!(state(&mut client), "running");
    node.alarm(true, false);
    assert_eq!(state(&mut client), "blocking");
}

#[test]
fn consumers_are_shown_with_channel_timeout_and_activity() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-single-active-consumer", Value::Bool(true))]);
    client.qos(5, false);
    client.consume_with("q", "first", &[("x-priority", Value::I32(3))]);
    client.consume_no_ack("q", "second");
    let queue = node.broker().vhost("/").unwrap().queue_handle("q").unwrap();
    let consumers = node.broker().consumers_of(&queue);
    let shown: Vec<_> = consumers
        .iter()
        .map(|c| {
            (
                &*c.consumer_tag,
                c.active,
                c.activity_status,
                c.ack_required,
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("first", true, "single_active", true),
            ("second", false, "waiting", false)
        ]
    );
    assert_eq!((consumers[0].priority, consumers[0].prefetch_count), (3, 5));
    assert_eq!(consumers[0].consumer_timeout_ms, 1_800_000);
    let channel = consumers[0].channel.clone().unwrap();
    assert_eq!(channel.number(), 1);
    assert_eq!(node.broker().consumers_of_channel(&channel).len(), 2);
    let report = queue_stats(&node, "q");
    assert_eq!(report.single_active_consumer_tag.as_deref(), Some("first"));
}

#[test]
fn exchanges_hosts_and_the_node_count() {
    let node = with_memory();
    let mut client = node.client();
    client.declare("q", &[]);
    client.declare("r", &[]);
    client.declare_exchange("x", "fanout", &[]);
    client.bind("q", "x", "");
    client.bind("r", "x", "");
    client.publish("x", "", "to both");
    client.publish("", "q", "to one");
    get(&mut client, "q", true);
    get(&mut client, "q", true);
    client.expect_get_empty("q");
    let broker = node.broker();
    let vhost = broker.vhost("/").unwrap();
    let ranges = Ranges::default();
    let exchange = vhost.exchange_cell("x").unwrap();
    values(
        &broker.exchange_stats(exchange.stats(), &ranges),
        &[("publish_in", 1), ("publish_out", 2)],
    );
    values(
        &broker.exchange_stats(&vhost.stats.default_exchange, &ranges),
        &[("publish_in", 1), ("publish_out", 1)],
    );
    let expected = [
        ("publish", 2),
        ("get_no_ack", 2),
        ("get_empty", 1),
        ("deliver_get", 2),
    ];
    let report = broker.vhost_snapshot(&vhost, &ranges);
    values(&report.message_stats, &expected);
    values(&report.lengths, &[("messages", 1), ("messages_ready", 1)]);
    let overview = broker.overview(&ranges);
    values(&overview.message_stats, &expected);
    values(
        &overview.churn_rates,
        &[
            ("connection_created", 1),
            ("channel_created", 1),
            ("queue_declared", 2),
            ("queue_created", 2),
        ],
    );
    assert_eq!(overview.object_totals.queues, 2);
    let totals = broker.stats().totals.counts();
    assert_eq!((totals.routed, totals.size_bytes), (3, 13));
    assert_eq!(broker.stats().totals.publishers.get(), 1);
    client.close();
    assert_eq!(broker.stats().totals.publishers.get(), 0);
    assert_eq!(broker.stats().churn.channels_closed.get(), 1);
    assert_eq!(broker.stats().churn.connections_closed.get(), 1);
}

#[test]
fn rates_are_those_of_the_last_five_seconds() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    tick(&node);
    for _ in 0..10 {
        client.publish("", "q", "m");
    }
    tick(&node);
    let report = queue_stats(&node, "q");
    assert_eq!(named(&report.message_stats, "publish").rate, 2.0);
    assert_eq!(named(&report.lengths, "messages_ready").rate, 2.0);
    let overview = node.broker().overview(&Ranges::default());
    assert_eq!(named(&overview.message_stats, "publish").rate, 2.0);
    assert_eq!(named(&overview.queue_totals, "messages").rate, 2.0);
    let vhost = node.broker().vhost("/").unwrap();
    let vhost = node.broker().vhost_snapshot(&vhost, &Ranges::default());
    assert_eq!(named(&vhost.message_stats, "publish").rate, 2.0);
    tick(&node);
    let report = queue_stats(&node, "q");
    assert_eq!(named(&report.message_stats, "publish").rate, 0.0);
}

#[test]
fn samples_go_back_as_far_as_is_asked() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    tick(&node);
    for _ in 0..4 {
        client.publish("", "q", "m");
        tick(&node);
    }
    let queue = node.broker().vhost("/").unwrap().queue_handle("q").unwrap();
    let range = Range::new(60, 5).unwrap();
    let ranges = Ranges {
        msg_rates: Some(range),
        ..Ranges::default()
    };
    let report = node.broker().queue_snapshot(&queue, &ranges).unwrap();
    let publish = named(&report.message_stats, "publish");
    assert_eq!(publish.value, 4);
    let history = publish.history.clone().unwrap();
    let samples: Vec<u64> = history.samples.iter().map(|sample| sample.sample).collect();
    // Since the first publish, with nothing before it.
    assert_eq!(samples, [4, 3, 2, 1, 0]);
    let times: Vec<u64> = history
        .samples
        .iter()
        .map(|sample| sample.timestamp)
        .collect();
    assert!(times.iter().all(|time| time % 5_000 == 0));
    assert_eq!(times[0] - times[4], 20_000);
    assert_eq!(history.avg_rate, Some(4.0 / 20.0));
    assert!(named(&report.lengths, "messages").history.is_none());
}

#[test]
fn a_tick_visits_what_was_busy_and_nothing_else() {
    let node = Node::start();
    let mut idle: Vec<Client> = (0..2_000)
        .map(|number| {
            let mut client = node.socket_from(&format!("127.0.0.1:{}", 20_000 + number));
            client.handshake("guest", "guest", "/");
            client.open_channel(1);
            client
        })
        .collect();
    for number in 0..10_000 {
        idle[0].declare(&format!("idle.{number}"), &[]);
    }
    idle[0].declare("busy", &[]);
    // Connections and channels are new; queues have counted nothing.
    assert!((4_000..10_000).contains(&tick(&node).visited));
    let nothing = SampleReport::default();
    assert_eq!(tick(&node), nothing);
    idle[1].publish("", "busy", "m");
    // The queue, the connection, its channel, the default exchange and the virtual host.
    assert_eq!(tick(&node).visited, 5);
    assert_eq!(tick(&node), nothing);
}

#[test]
fn histories_go_when_they_take_too_much_and_counters_stay() {
    let node = Node::start_with(|settings| settings.stats.bytes_max = 1 << 20);
    let mut client = node.client();
    for number in 0..1_500 {
        client.declare(&format!("q.{number}"), &[]);
        client.publish("", &format!("q.{number}"), "m");
    }
    tick(&node);
    let stats = node.broker().stats();
    assert!(stats.history_bytes() <= 1 << 20);
    assert!(stats.history_count() < 1_500);
    let first = queue_stats(&node, "q.0");
    assert_eq!(named(&first.message_stats, "publish").value, 1);
    stats.forget_histories();
    assert_eq!((stats.history_count(), stats.history_bytes()), (0, 0));
}

#[test]
fn what_is_deleted_is_in_no_sum() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish("", "q", "m");
    tick(&node);
    client.delete("q");
    tick(&node);
    let overview = node.broker().overview(&Ranges::default());
    values(&overview.queue_totals, &[]);
    assert_eq!(named(&overview.queue_totals, "messages").rate, -0.2);
    assert_eq!(named(&overview.message_stats, "publish").value, 1);
}

#[test]
fn deaths_are_counted_by_reason_and_strategy() {
    use haremq::model::{DeathReason, QueueKind};
    use haremq::queue::DeathStrategy;
    let node = Node::start();
    let mut client = node.client();
    client.declare("dead", &[]);
    client.declare(
        "q",
        &[
            ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", "dead".into()),
        ],
    );
    client.publish("", "q", "m");
    get(&mut client, "q", false);
    client.reject(1, false);
    get(&mut client, "dead", false);
    client.reject(2, false);
    client.expect_nothing();
    let deaths = &node.broker().stats().deaths;
    let count = |strategy| deaths.count(QueueKind::Classic, strategy, DeathReason::Rejected);
    assert_eq!(count(DeathStrategy::AtMostOnce), 1);
    assert_eq!(count(DeathStrategy::Disabled), 1);
    assert_eq!(count(DeathStrategy::AtLeastOnce), 0);
}

#[test]
fn logins_are_counted() {
    let node = Node::start();
    let _client = node.client();
    let mut stranger = node.socket();
    stranger.begin();
    stranger.login("guest", "wrong");
    let attempts = node.broker().auth_attempts();
    assert_eq!(attempts[0].protocol.as_str(), "amqp091");
    assert_eq!((attempts[0].succeeded, attempts[0].failed), (1, 1));
}

#[test]
fn listeners_hear_of_objects() {
    use haremq::broker::events::{EventKind, Told};
    use std::task::{Context, Poll, Waker};
    let node = Node::start();
    let mut client = node.client();
    let mut listener = node.broker().events().subscribe();
    client.declare("q", &[]);
    client.declare_exchange("x", "fanout", &[]);
    client.bind("q", "x", "");
    client.delete("q");
    client.close();
    let mut cx = Context::from_waker(Waker::noop());
    let mut heard = Vec::new();
    while let Poll::Ready(Told::Event(event)) = listener.poll_next(&mut cx) {
        heard.push((event.kind, event.name.to_string()));
    }
    assert_eq!(
        heard,
        [
            (EventKind::QueueCreated, "q".to_owned()),
            (EventKind::ExchangeCreated, "x".to_owned()),
            (EventKind::BindingCreated, "x".to_owned()),
            (EventKind::QueueDeleted, "q".to_owned()),
            (
                EventKind::ConnectionClosed,
                "127.0.0.1:50000 -> 127.0.0.1:5672".to_owned()
            ),
        ]
    );
}
