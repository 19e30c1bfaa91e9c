//! Publishes messages and makes sure of each: taken, sent back as unroutable, or refused.
//!
//! Run it beside a broker (`AMQP_URI` names another one than the default):
//!
//! ```text
//! cargo run --release                             # in one terminal
//! cargo run --example publish_with_confirms       # in another
//! ```

use std::{env, error::Error, time::Duration};

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable, LongString},
};

const AMQP_URI_DEFAULT: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";
const RUN_TIME_MAX: Duration = Duration::from_secs(30);

const BATCH_MESSAGES: u32 = 1000;

/// Delivery mode 2 asks the broker to keep the message on disk, in a durable queue.
const PERSISTENT: u8 = 2;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tokio::time::timeout(RUN_TIME_MAX, run()).await?
}

async fn run() -> Result<(), Box<dyn Error>> {
    let uri = env::var("AMQP_URI").unwrap_or_else(|_| AMQP_URI_DEFAULT.into());
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;

    // From here on the broker answers each publish on this channel with ack or nack.
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;

    one_after_the_other(&channel).await?;
    many_at_once(&channel).await?;
    to_nowhere(&channel).await?;
    to_a_full_queue(&channel).await?;

    connection.close(200, "done".into()).await?;
    Ok(())
}

/// The simple way: wait for each confirm before the next message. Each costs a round trip.
async fn one_after_the_other(channel: &Channel) -> Result<(), Box<dyn Error>> {
    let queue = declare(channel, FieldTable::default()).await?;
    for number in 1..=3 {
        let outcome = publish(channel, &queue, &format!("message {number}"))
            .await?
            .await?;
        assert!(outcome.is_ack(), "message {number} must be confirmed");
        println!("message {number}: confirmed");
    }
    delete(channel, &queue, 3).await
}

/// The fast way: publish on, keep what is outstanding, and collect the confirms afterwards.
async fn many_at_once(channel: &Channel) -> Result<(), Box<dyn Error>> {
    let queue = declare(channel, FieldTable::default()).await?;
    let mut outstanding = Vec::new();
    for number in 1..=BATCH_MESSAGES {
        outstanding.push(publish(channel, &queue, &format!("message {number}")).await?);
    }
    for confirm in outstanding {
        assert!(confirm.await?.is_ack(), "the whole batch must be confirmed");
    }
    println!("batch of {BATCH_MESSAGES}: all confirmed");
    delete(channel, &queue, BATCH_MESSAGES).await
}

/// A mandatory message that no queue takes comes back, with the reason, and is confirmed after that.
async fn to_nowhere(channel: &Channel) -> Result<(), Box<dyn Error>> {
    let outcome = publish(channel, "example.confirms.no-such-queue", "lost?")
        .await?
        .await?;
    assert!(outcome.is_ack(), "an unroutable message is confirmed too");
    let returned = outcome
        .take_message()
        .ok_or("a mandatory message that no queue takes must come back")?;
    println!(
        "to nowhere: returned with {} {}",
        returned.reply_code, returned.reply_text
    );
    assert_eq!(returned.reply_code, 312);
    assert_eq!(returned.delivery.data, b"lost?");
    Ok(())
}

/// A queue that is full and rejects what it cannot hold makes the broker answer with nack.
async fn to_a_full_queue(channel: &Channel) -> Result<(), Box<dyn Error>> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
    arguments.insert(
        "x-overflow".into(),
        AMQPValue::LongString(LongString::from("reject-publish")),
    );
    let queue = declare(channel, arguments).await?;
    let fits = publish(channel, &queue, "fits").await?.await?;
    assert!(fits.is_ack(), "the first message has room");
    let refused = publish(channel, &queue, "refused").await?.await?;
    assert!(
        matches!(refused, Confirmation::Nack(_)),
        "the second message has no room"
    );
    println!("to a full queue: refused with nack");
    delete(channel, &queue, 1).await
}

/// Declares a queue that the broker names. It is exclusive: should this program fail, it goes with the connection.
async fn declare(channel: &Channel, arguments: FieldTable) -> lapin::Result<String> {
    let queue = channel
        .queue_declare("".into(), QueueDeclareOptions::exclusive(), arguments)
        .await?;
    Ok(queue.name().to_string())
}

/// Publishes through the default exchange, which routes to the queue whose name is the routing key.
async fn publish(
    channel: &Channel,
    queue: &str,
    text: &str,
) -> lapin::Result<lapin::PublisherConfirm> {
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let properties = BasicProperties::default()
        .with_content_type("text/plain".into())
        .with_delivery_mode(PERSISTENT);
    channel
        .basic_publish(
            "".into(),
            queue.into(),
            options,
            text.as_bytes(),
            properties,
        )
        .await
}

/// Deletes the queue and checks that it held what was confirmed.
async fn delete(channel: &Channel, queue: &str, messages: u32) -> Result<(), Box<dyn Error>> {
    let held = channel
        .queue_delete(queue.into(), QueueDeleteOptions::default())
        .await?;
    assert_eq!(held, messages, "the queue must hold what was confirmed");
    Ok(())
}
