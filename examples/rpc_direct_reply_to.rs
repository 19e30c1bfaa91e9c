//! Remote procedure calls by direct reply-to: the caller needs no queue for its answers.
//!
//! Run it beside a broker (`AMQP_URI` names another one than the default):
//!
//! ```text
//! cargo run --release                           # in one terminal
//! cargo run --example rpc_direct_reply_to       # in another
//! ```
//!
//! The caller consumes from the pseudo-queue `amq.rabbitmq.reply-to` and names it in `reply-to`. The broker writes an
//! address in its place, and what the server publishes to that address goes straight to the caller's channel.

use std::{collections::HashMap, env, error::Error, time::Duration};

use futures_lite::StreamExt;
use lapin::{
    BasicProperties, Connection, ConnectionProperties, Consumer,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};

const AMQP_URI_DEFAULT: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";
const RUN_TIME_MAX: Duration = Duration::from_secs(30);

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// The server's queue: durable, for servers come and go; shared, for there may be several.
const REQUESTS: &str = "example.rpc";

const SERVER_PREFETCH: u16 = 10;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tokio::time::timeout(RUN_TIME_MAX, run()).await?
}

async fn run() -> Result<(), Box<dyn Error>> {
    let (server, mut requests) = start_server().await?;
    let serving = tokio::spawn(async move {
        let outcome = serve(&mut requests).await;
        outcome.unwrap_or_else(|error| eprintln!("server: {error}"));
        requests
    });

    call().await?;

    let channel = server.create_channel().await?;
    channel
        .queue_delete(REQUESTS.into(), QueueDeleteOptions::default())
        .await?;
    // The broker cancels the consumer of a queue that is deleted, which ends the server.
    // Its consumer is held until the connection is closed: lapin closes the channel of one that is dropped, and
    // that must not cross the connection's own close.
    let _requests = serving.await?;
    server.close(200, "done".into()).await?;
    Ok(())
}

async fn connect() -> lapin::Result<Connection> {
    let uri = env::var("AMQP_URI").unwrap_or_else(|_| AMQP_URI_DEFAULT.into());
    Connection::connect(&uri, ConnectionProperties::default()).await
}

async fn start_server() -> lapin::Result<(Connection, Consumer)> {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    channel
        .queue_declare(
            REQUESTS.into(),
            QueueDeclareOptions::durable(),
            FieldTable::default(),
        )
        .await?;
    channel
        .basic_qos(SERVER_PREFETCH, BasicQosOptions::default())
        .await?;
    let requests = channel
        .basic_consume(
            REQUESTS.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    Ok((connection, requests))
}

/// Answers each request under the address it names, with the correlation id it bears.
async fn serve(requests: &mut Consumer) -> Result<(), Box<dyn Error>> {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    while let Some(request) = requests.next().await {
        let request = request?;
        let answer = match String::from_utf8_lossy(&request.data).parse() {
            Ok(number) => fibonacci(number).map_or("too large".into(), |value| value.to_string()),
            Err(error) => format!("not a number: {error}"),
        };
        if let Some(reply_to) = request.properties.reply_to() {
            let mut properties = BasicProperties::default();
            if let Some(id) = request.properties.correlation_id() {
                properties = properties.with_correlation_id(id.clone());
            }
            channel
                .basic_publish(
                    "".into(),
                    reply_to.clone(),
                    BasicPublishOptions::default(),
                    answer.as_bytes(),
                    properties,
                )
                .await?;
        }
        request.ack(BasicAckOptions::default()).await?;
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

/// Sends several requests at once and matches the answers by their correlation ids.
async fn call() -> Result<(), Box<dyn Error>> {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    // The consumer must be there before the first request, on the channel that publishes, and without acknowledgements.
    let mut answers = channel
        .basic_consume(
            REPLY_TO.into(),
            "".into(),
            BasicConsumeOptions {
                no_ack: true,
                ..BasicConsumeOptions::default()
            },
            FieldTable::default(),
        )
        .await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;

    let mut outstanding = HashMap::new();
    let questions = [
        ("10", "55"),
        ("1", "1"),
        ("50", "12586269025"),
        ("255", "too large"),
        ("ten", "not a number: invalid digit found in string"),
    ];
    for (question, expected) in questions {
        let id = format!("call-{}", outstanding.len() + 1);
        // Mandatory: a request for which there is no server comes back at once.
        let outcome = channel
            .basic_publish(
                "".into(),
                REQUESTS.into(),
                BasicPublishOptions {
                    mandatory: true,
                    ..BasicPublishOptions::default()
                },
                question.as_bytes(),
                BasicProperties::default()
                    .with_reply_to(REPLY_TO.into())
                    .with_correlation_id(id.as_str().into()),
            )
            .await?
            .await?;
        assert!(outcome.take_message().is_none(), "there is a server");
        outstanding.insert(id, (question, expected));
    }

    while !outstanding.is_empty() {
        let answer = answers.next().await.ok_or("the answers ended early")??;
        let id = answer
            .properties
            .correlation_id()
            .as_ref()
            .ok_or("an answer must bear its correlation id")?;
        let (question, expected) = outstanding
            .remove(id.as_str())
            .ok_or("an answer must belong to a request, and come once")?;
        let text = String::from_utf8(answer.data)?;
        println!("{id}: fibonacci({question}) = {text}");
        assert_eq!(text, expected);
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

/// The Fibonacci number at this position, unless it is too large. The work itself is beside the point.
fn fibonacci(position: u8) -> Option<u128> {
    let (mut this, mut next) = (0u128, 1u128);
    for _ in 0..position {
        (this, next) = (next, this.checked_add(next)?);
    }
    Some(this)
}
