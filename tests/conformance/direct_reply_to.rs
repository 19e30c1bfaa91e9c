//! Direct reply-to.

use haremq::protocol::{Properties, basic, exchange, queue};

use crate::support::{Client, Node, short};

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

fn asking() -> Properties {
    Properties {
        reply_to: Some(REPLY_TO.into()),
        correlation_id: Some("1".into()),
        ..Properties::default()
    }
}

/// A requester and a server with the queue `rpc`, and the address that the server saw in a request.
fn conversation(node: &Node) -> (Client, Client, String) {
    let mut requester = node.client();
    let mut server = node.client();
    server.declare("rpc", &[]);
    requester.consume_no_ack(REPLY_TO, "r");
    requester.publish_with("", "rpc", &asking(), "question");
    let request = server.expect_get("rpc", "question");
    let address = request.properties.reply_to.unwrap();
    (requester, server, address.as_str_lossy().into_owned())
}

#[test]
fn the_address_is_rewritten_with_a_token() {
    let node = Node::start();
    let (_requester, _server, address) = conversation(&node);
    assert!(address.starts_with("amq.rabbitmq.reply-to."), "{address}");
    assert!(address.len() > REPLY_TO.len() + 8);
}

#[test]
fn the_answer_reaches_the_requester() {
    let node = Node::start();
    let (mut requester, mut server, address) = conversation(&node);
    let properties = Properties {
        correlation_id: Some("1".into()),
        ..Properties::default()
    };
    server.publish_with("", &address, &properties, "answer");
    let message = requester.expect_delivery("answer");
    assert_eq!(message.consumer_tag, "r");
    assert_eq!(message.exchange, "");
    assert_eq!(message.routing_key, address);
    assert_eq!(message.properties.correlation_id, Some("1".into()));
}

#[test]
fn asking_without_a_consumer_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("rpc", &[]);
    client.publish_with("", "rpc", &asking(), "question");
    let text = "PRECONDITION_FAILED - fast reply consumer does not exist";
    client.expect_channel_close(406, text, (60, 40));
}

#[test]
fn asking_on_another_channel_than_consuming_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("rpc", &[]);
    client.consume_no_ack(REPLY_TO, "r");
    client.open_channel(2);
    client.publish_with("", "rpc", &asking(), "question");
    let text = "PRECONDITION_FAILED - fast reply consumer does not exist";
    client.expect_channel_close(406, text, (60, 40));
}

#[test]
fn a_reply_consumer_with_acknowledgements_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.send(basic::Consume {
        queue: short(REPLY_TO),
        ..basic::Consume::default()
    });
    let text = "PRECONDITION_FAILED - reply consumer cannot acknowledge";
    client.expect_channel_close(406, text, (60, 20));
}

#[test]
fn a_second_reply_consumer_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.consume_no_ack(REPLY_TO, "r");
    client.send(basic::Consume {
        queue: short(REPLY_TO),
        no_ack: true,
        ..basic::Consume::default()
    });
    let text = "PRECONDITION_FAILED - reply consumer already set";
    client.expect_channel_close(406, text, (60, 20));
}

#[test]
fn each_channel_may_have_a_reply_consumer() {
    let node = Node::start();
    let mut client = node.client();
    client.consume_no_ack(REPLY_TO, "r");
    client.open_channel(2);
    client.consume_no_ack(REPLY_TO, "r");
}

#[test]
fn an_answer_to_a_requester_that_is_gone_is_dropped_and_never_returned() {
    let node = Node::start();
    let (requester, mut server, address) = conversation(&node);
    requester.hang_up();
    server.publish_mandatory("", &address, "answer");
    server.expect_nothing();
}

#[test]
fn an_answer_is_confirmed() {
    let node = Node::start();
    let (mut requester, mut server, address) = conversation(&node);
    server.confirm();
    server.publish_mandatory("", &address, "answer");
    server.expect_ack(1, false);
    server.expect_nothing();
    requester.expect_delivery("answer");
}

#[test]
fn a_cancelled_reply_consumer_gets_nothing() {
    let node = Node::start();
    let (mut requester, mut server, address) = conversation(&node);
    requester.cancel("r");
    server.publish("", &address, "answer");
    requester.expect_nothing();
    requester.consume_no_ack(REPLY_TO, "r");
}

#[test]
fn declaring_the_address_tells_whether_the_requester_lives() {
    let node = Node::start();
    let (requester, mut server, address) = conversation(&node);
    assert_eq!(server.counts(&address), (0, 1));
    // Any declare of it is passive.
    server.send(queue::Declare {
        queue: short(&address),
        exclusive: true,
        ..queue::Declare::default()
    });
    assert_eq!(server.expect_declared(&address), (0, 1));
    requester.hang_up();
    server.expect_no_queue(&address);
}

#[test]
fn the_reply_queue_cannot_be_bound() {
    let node = Node::start();
    let (_requester, mut server, address) = conversation(&node);
    let text = "ACCESS_REFUSED - cannot bind or unbind to a volatile (direct reply-to) queue";
    for queue in [REPLY_TO, &address] {
        server.try_bind(queue, "amq.direct", "k", &[]);
        server.expect_channel_close(403, text, (50, 20));
        server.open_channel(1);
    }
    server.send(queue::Unbind {
        queue: short(&address),
        exchange: short("amq.direct"),
        ..queue::Unbind::default()
    });
    server.expect_channel_close(403, text, (50, 50));
}

#[test]
fn a_reply_address_in_another_exchange_is_an_ordinary_key() {
    let node = Node::start();
    let (mut requester, mut server, address) = conversation(&node);
    server.send(exchange::Declare {
        exchange: short("x"),
        type_: short("direct"),
        ..exchange::Declare::default()
    });
    server.expect(exchange::DeclareOk);
    server.publish_mandatory("x", &address, "answer");
    server.expect_return("x", &address, "answer");
    requester.expect_nothing();
}

#[test]
fn declaring_the_reply_queue_itself_says_one_consumer() {
    let node = Node::start();
    let mut client = node.client();
    assert_eq!(client.counts(REPLY_TO), (0, 1));
}

#[test]
fn deleting_the_exchange_of_a_request_does_not_matter_to_the_answer() {
    let node = Node::start();
    let (mut requester, mut server, address) = conversation(&node);
    server.delete("rpc");
    server.publish("", &address, "answer");
    requester.expect_deliveries(&["answer"]);
}

#[test]
fn answers_come_in_order_and_count_as_deliveries() {
    let node = Node::start();
    let (mut requester, mut server, address) = conversation(&node);
    for body in ["1", "2", "3"] {
        server.publish("", &address, body);
    }
    let tags: Vec<_> = requester
        .expect_deliveries(&["1", "2", "3"])
        .iter()
        .map(|message| message.delivery_tag)
        .collect();
    assert_eq!(tags, [1, 2, 3]);
}
