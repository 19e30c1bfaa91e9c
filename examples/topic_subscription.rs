//! Three subscribers of one topic exchange, each with patterns of its own.
//!
//! Run it beside a broker (`AMQP_URI` names another one than the default):
//!
//! ```text
//! cargo run --release                          # in one terminal
//! cargo run --example topic_subscription       # in another
//! ```

use std::{env, error::Error, time::Duration};

use futures_lite::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
        ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};

const AMQP_URI_DEFAULT: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";
const RUN_TIME_MAX: Duration = Duration::from_secs(30);

const EXCHANGE: &str = "example.topic_subscription";

/// A key to which every subscriber is bound: it ends the subscription.
const STOP: &str = "stop";

const READINGS: [(&str, &str); 5] = [
    ("house.kitchen.temperature", "21.5"),
    ("house.kitchen.humidity", "48"),
    ("house.cellar.temperature", "12.0"),
    ("house.kitchen.oven.temperature", "180"),
    ("garden.temperature", "7.5"),
];

/// Who subscribes with which pattern, and the keys that must arrive. `*` stands for one word, `#` for any number of them.
const SUBSCRIBERS: [(&str, &str, &[&str]); 3] = [
    (
        "rooms",
        "house.*.temperature",
        &["house.kitchen.temperature", "house.cellar.temperature"],
    ),
    (
        "kitchen",
        "house.kitchen.#",
        &[
            "house.kitchen.temperature",
            "house.kitchen.humidity",
            "house.kitchen.oven.temperature",
        ],
    ),
    (
        "temperatures",
        "#.temperature",
        &[
            "house.kitchen.temperature",
            "house.cellar.temperature",
            "house.kitchen.oven.temperature",
            "garden.temperature",
        ],
    ),
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tokio::time::timeout(RUN_TIME_MAX, run()).await?
}

async fn run() -> Result<(), Box<dyn Error>> {
    let uri = env::var("AMQP_URI").unwrap_or_else(|_| AMQP_URI_DEFAULT.into());
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    // An auto-delete exchange goes with its last binding, so nothing stays behind if this program fails.
    channel
        .exchange_declare(
            EXCHANGE.into(),
            ExchangeKind::Topic,
            ExchangeDeclareOptions {
                auto_delete: true,
                ..ExchangeDeclareOptions::default()
            },
            FieldTable::default(),
        )
        .await?;

    // Subscribe first: a message that no queue takes is dropped.
    let mut subscriptions = Vec::new();
    for (_, pattern, _) in SUBSCRIBERS {
        subscriptions.push(subscribe(&channel, pattern).await?);
    }
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    for (key, value) in READINGS {
        publish(&channel, key, value).await?;
    }
    publish(&channel, STOP, "").await?;

    for ((name, pattern, expected), subscription) in SUBSCRIBERS.into_iter().zip(subscriptions) {
        let received = receive(subscription).await?;
        println!("{name} ({pattern}):");
        for (key, value) in &received {
            println!("    {key} = {value}");
        }
        let keys: Vec<&str> = received.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, expected, "what {name} receives, in this order");
    }

    channel
        .exchange_delete(EXCHANGE.into(), ExchangeDeleteOptions::default())
        .await?;
    connection.close(200, "done".into()).await?;
    Ok(())
}

/// A subscriber has a queue of its own, named by the broker and gone with the connection.
async fn subscribe(channel: &Channel, pattern: &str) -> lapin::Result<Consumer> {
    let queue = channel
        .queue_declare(
            "".into(),
            QueueDeclareOptions::exclusive(),
            FieldTable::default(),
        )
        .await?;
    for key in [pattern, STOP] {
        channel
            .queue_bind(
                queue.name().clone(),
                EXCHANGE.into(),
                key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
    }
    channel
        .basic_consume(
            queue.name().clone(),
            "".into(),
            BasicConsumeOptions {
                no_ack: true,
                ..BasicConsumeOptions::default()
            },
            FieldTable::default(),
        )
        .await
}

/// Publishes a reading, and returns when the broker has put it into every queue it belongs to.
async fn publish(channel: &Channel, key: &str, value: &str) -> Result<(), Box<dyn Error>> {
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let outcome = channel
        .basic_publish(
            EXCHANGE.into(),
            key.into(),
            options,
            value.as_bytes(),
            BasicProperties::default(),
        )
        .await?
        .await?;
    assert!(outcome.is_ack(), "{key} must be confirmed");
    assert!(outcome.take_message().is_none(), "{key} has a subscriber");
    Ok(())
}

/// Reads the subscription up to the message that ends it: routing keys and bodies.
async fn receive(mut subscription: Consumer) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let mut received = Vec::new();
    while let Some(delivery) = subscription.next().await {
        let delivery = delivery?;
        if delivery.routing_key.as_str() == STOP {
            return Ok(received);
        }
        received.push((
            delivery.routing_key.to_string(),
            String::from_utf8(delivery.data)?,
        ));
    }
    Err("the subscription ended early".into())
}
