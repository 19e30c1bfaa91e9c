//! What the checks share: connections, queues, gets, refusals.

use std::time::Duration;

use crate::checks::{Failure, Outcome, name, same, uri};
use futures_lite::StreamExt;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ErrorKind,
    message::{BasicGetMessage, Delivery},
};

pub async fn connect() -> Result<Connection, Failure> {
    Ok(Connection::connect(&uri(), ConnectionProperties::default()).await?)
}

pub async fn session() -> Result<(Connection, Channel), Failure> {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

pub fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}

pub fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

pub async fn durable(
    channel: &Channel,
    suffix: &str,
    arguments: FieldTable,
) -> Result<String, Failure> {
    let queue = name(suffix);
    channel
        .queue_declare(
            queue.as_str().into(),
            QueueDeclareOptions::durable(),
            arguments,
        )
        .await?;
    Ok(queue)
}

pub async fn exclusive(channel: &Channel) -> Result<String, Failure> {
    let options = QueueDeclareOptions {
        exclusive: true,
        ..Default::default()
    };
    let queue = channel
        .queue_declare("".into(), options, FieldTable::default())
        .await?;
    Ok(queue.name().to_string())
}

pub async fn delete(channel: &Channel, queue: &str) -> Outcome {
    channel
        .queue_delete(queue.into(), QueueDeleteOptions::default())
        .await?;
    Ok(())
}

pub async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: &[u8],
    properties: BasicProperties,
) -> Outcome {
    channel
        .basic_publish(
            exchange.into(),
            key.into(),
            BasicPublishOptions::default(),
            body,
            properties,
        )
        .await?
        .await?;
    Ok(())
}

pub async fn try_get(
    channel: &Channel,
    queue: &str,
    no_ack: bool,
) -> Result<Option<BasicGetMessage>, Failure> {
    Ok(channel
        .basic_get(queue.into(), BasicGetOptions { no_ack })
        .await?)
}

/// The next message, waited for.
pub async fn get(channel: &Channel, queue: &str, no_ack: bool) -> Result<BasicGetMessage, Failure> {
    for _ in 0..250 {
        if let Some(message) = try_get(channel, queue, no_ack).await? {
            return Ok(message);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(format!("no message in {queue}").into())
}

pub async fn next(consumer: &mut lapin::Consumer) -> Result<Delivery, Failure> {
    Ok(
        tokio::time::timeout(Duration::from_secs(5), consumer.next())
            .await?
            .ok_or("the consumer ended")??,
    )
}

/// Nothing comes to this consumer for a while.
pub async fn silent(consumer: &mut lapin::Consumer) -> Outcome {
    match tokio::time::timeout(Duration::from_millis(300), consumer.next()).await {
        Err(_) => Ok(()),
        Ok(more) => Err(format!("a delivery too many: {more:?}").into()),
    }
}

pub fn refused<T: std::fmt::Debug>(result: lapin::Result<T>, code: u16, message: &str) -> Outcome {
    match result {
        Err(error) => match error.kind() {
            ErrorKind::ProtocolError(error) => same(
                (error.get_id(), error.get_message().as_str()),
                (code, message),
            ),
            other => Err(format!("got {other:?}, wanted {code} {message}").into()),
        },
        Ok(value) => Err(format!("got {value:?}, wanted {code} {message}").into()),
    }
}
