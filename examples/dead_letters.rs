//! Dead letters: what a consumer rejects and what nobody reads in time goes to a queue of its own.
//!
//! Run it beside a broker (`AMQP_URI` names another one than the default):
//!
//! ```text
//! cargo run --release                    # in one terminal
//! cargo run --example dead_letters       # in another
//! ```

use std::{env, error::Error, time::Duration};

use futures_lite::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions,
        BasicRejectOptions, ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
        QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, LongString},
};

const AMQP_URI_DEFAULT: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";
const RUN_TIME_MAX: Duration = Duration::from_secs(30);

const DEAD_LETTER_EXCHANGE: &str = "example.dead_letters";
const DEAD_LETTER_KEY: &str = "letter";

/// Time to live of a message in the hasty queue.
const MESSAGE_TTL_MS: i32 = 300;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tokio::time::timeout(RUN_TIME_MAX, run()).await?
}

async fn run() -> Result<(), Box<dyn Error>> {
    let uri = env::var("AMQP_URI").unwrap_or_else(|_| AMQP_URI_DEFAULT.into());
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let dead_queue = declare_dead_letters(&channel).await?;
    let patient_queue = declare_work(&channel, None).await?;
    let hasty_queue = declare_work(&channel, Some(MESSAGE_TTL_MS)).await?;
    let mut dead = channel
        .basic_consume(
            dead_queue.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;

    publish(&channel, &patient_queue, "unwanted").await?;
    let taken = channel
        .basic_get(patient_queue.as_str().into(), BasicGetOptions::default())
        .await?
        .ok_or("the message must be in the queue")?;
    let requeue = BasicRejectOptions { requeue: false };
    taken.delivery.reject(requeue).await?;
    let letter = dead.next().await.ok_or("the consumer ended")??;
    check(&letter, "unwanted", &patient_queue, "rejected");
    letter.ack(BasicAckOptions::default()).await?;

    // Nobody reads this one. No consumer is needed for it to expire.
    publish(&channel, &hasty_queue, "forgotten").await?;
    let letter = dead.next().await.ok_or("the consumer ended")??;
    check(&letter, "forgotten", &hasty_queue, "expired");
    letter.ack(BasicAckOptions::default()).await?;

    channel
        .exchange_delete(
            DEAD_LETTER_EXCHANGE.into(),
            ExchangeDeleteOptions::default(),
        )
        .await?;
    // The queues are exclusive and go with the connection.
    connection.close(200, "done".into()).await?;
    Ok(())
}

/// Declares the exchange that gets the dead letters and the queue that keeps them.
async fn declare_dead_letters(channel: &Channel) -> lapin::Result<String> {
    channel
        .exchange_declare(
            DEAD_LETTER_EXCHANGE.into(),
            ExchangeKind::Direct,
            ExchangeDeclareOptions {
                auto_delete: true,
                ..ExchangeDeclareOptions::default()
            },
            FieldTable::default(),
        )
        .await?;
    let queue = channel
        .queue_declare(
            "".into(),
            QueueDeclareOptions::exclusive(),
            FieldTable::default(),
        )
        .await?;
    channel
        .queue_bind(
            queue.name().clone(),
            DEAD_LETTER_EXCHANGE.into(),
            DEAD_LETTER_KEY.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    Ok(queue.name().to_string())
}

/// Declares a queue whose messages may die: its arguments say where they go then, under which routing key, and whether
/// they die of age.
async fn declare_work(channel: &Channel, ttl_ms: Option<i32>) -> lapin::Result<String> {
    let mut arguments = FieldTable::default();
    if let Some(ttl_ms) = ttl_ms {
        arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(ttl_ms));
    }
    for (name, value) in [
        ("x-dead-letter-exchange", DEAD_LETTER_EXCHANGE),
        ("x-dead-letter-routing-key", DEAD_LETTER_KEY),
    ] {
        arguments.insert(name.into(), AMQPValue::LongString(LongString::from(value)));
    }
    let queue = channel
        .queue_declare("".into(), QueueDeclareOptions::exclusive(), arguments)
        .await?;
    Ok(queue.name().to_string())
}

async fn publish(channel: &Channel, queue: &str, text: &str) -> Result<(), Box<dyn Error>> {
    let outcome = channel
        .basic_publish(
            "".into(),
            queue.into(),
            BasicPublishOptions::default(),
            text.as_bytes(),
            BasicProperties::default(),
        )
        .await?
        .await?;
    assert!(outcome.is_ack(), "{text:?} must be confirmed");
    Ok(())
}

/// Prints the letter with its history, the header `x-death`, and checks what the history says.
fn check(letter: &Delivery, body: &str, queue: &str, reason: &str) {
    println!("dead letter {:?}", String::from_utf8_lossy(&letter.data));
    assert_eq!(letter.data, body.as_bytes());
    assert_eq!(letter.exchange.as_str(), DEAD_LETTER_EXCHANGE);
    assert_eq!(letter.routing_key.as_str(), DEAD_LETTER_KEY);

    let deaths = deaths(letter);
    for (number, death) in deaths.iter().enumerate() {
        println!("    x-death[{number}]");
        for (name, value) in *death {
            println!("        {name}: {}", readable(value));
        }
    }
    assert_eq!(deaths.len(), 1, "one queue, one reason: one entry");
    let field = |name| deaths[0].inner().get(name).map(readable);
    assert_eq!(field("reason").as_deref(), Some(reason));
    assert_eq!(field("queue").as_deref(), Some(queue));
    assert_eq!(field("exchange").as_deref(), Some(""));
    assert_eq!(field("count").as_deref(), Some("1"));
    assert_eq!(field("routing-keys"), Some(format!("[{queue}]")));
}

/// The entries of `x-death`, the latest death first: one for each queue and reason, with a count.
fn deaths(letter: &Delivery) -> Vec<&FieldTable> {
    let header = letter
        .properties
        .headers()
        .as_ref()
        .and_then(|headers| headers.inner().get("x-death"));
    let Some(AMQPValue::FieldArray(entries)) = header else {
        return Vec::new();
    };
    let tables = entries.as_slice().iter().filter_map(|entry| match entry {
        AMQPValue::FieldTable(table) => Some(table),
        _ => None,
    });
    tables.collect()
}

/// The value types that occur in `x-death`, as text.
fn readable(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => text.to_string(),
        AMQPValue::LongLongInt(number) => number.to_string(),
        AMQPValue::Timestamp(seconds) => format!("{seconds} s since 1970"),
        AMQPValue::FieldArray(values) => {
            let values: Vec<String> = values.as_slice().iter().map(readable).collect();
            format!("[{}]", values.join(", "))
        }
        other => format!("{other:?}"),
    }
}
