//! Fairness, which the model leaves open: equal consumers of a queue take turns, whatever else goes on.

use haremq::protocol::{Method, basic};

use crate::random::Random;
use crate::support::{Client, Message, Node, short};

/// Consumers that share the queue.
const CONSUMERS: usize = 5;
const MESSAGES: usize = 400;

/// Takes the deliveries that came: the number of the consumer and the tag of each.
fn deliveries(client: &mut Client) -> Vec<(usize, u64)> {
    let mut taken = Vec::new();
    while let Some(received) = client.receive() {
        if let Method::BasicDeliver(_) = received.method() {
            let message = Message::of(&received).unwrap();
            let number: usize = message.consumer_tag.parse().unwrap();
            taken.push((number, message.delivery_tag));
        }
    }
    taken
}

/// Between two deliveries to one consumer each other one that has credit all the while gets exactly one.
#[test]
fn equal_consumers_take_turns() {
    for quorum in [false, true] {
        let node = Node::start();
        let mut client = node.client();
        let kind = if quorum { "quorum" } else { "classic" };
        client.declare("q", &[("x-queue-type", kind.into())]);
        for number in 0..CONSUMERS {
            client.qos(0, false);
            client.consume("q", &number.to_string());
        }
        let mut random = Random::new(7);
        let mut turns = Vec::new();
        for number in 0..MESSAGES {
            client.publish("", "q", &number.to_string());
            for (consumer, tag) in deliveries(&mut client) {
                turns.push(consumer);
                if random.one_in(2) {
                    client.ack(tag);
                }
            }
        }
        assert_eq!(turns.len(), MESSAGES);
        for turn in turns.windows(CONSUMERS) {
            let mut sorted = turn.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), CONSUMERS, "{kind}: {turns:?}");
        }
    }
}

/// Consumers that often run out of credit starve neither each other nor those that never do.
#[test]
fn consumers_out_of_credit_come_back_into_the_rotation() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    for number in 0..CONSUMERS {
        client.qos(1, false);
        client.consume("q", &number.to_string());
    }
    let mut random = Random::new(11);
    let mut turns = [0_usize; CONSUMERS];
    let mut held: Vec<u64> = Vec::new();
    for number in 0..MESSAGES {
        client.send_content(
            basic::Publish {
                routing_key: short("q"),
                ..basic::Publish::default()
            },
            &Default::default(),
            number.to_string().as_bytes(),
        );
        for (consumer, tag) in deliveries(&mut client) {
            turns[consumer] += 1;
            held.push(tag);
        }
        let at = random.below(held.len());
        client.ack(held.swap_remove(at));
    }
    let least = MESSAGES / CONSUMERS / 2;
    assert!(turns.iter().all(|count| *count > least), "{turns:?}");
}
