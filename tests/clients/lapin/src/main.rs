//! lapin: confirms as futures, all field-table types, and its automatic recovery.

#[path = "../../checks.rs"]
mod checks;

use std::time::Duration;

use checks::{Checks, Failure, Outcome, name, restart_broker, same, until, uri};
use futures_lite::StreamExt;
use lapin::options::*;
use lapin::protocol::{AMQPErrorKind, AMQPHardError};
use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind,
    ExchangeKind,
    message::{BasicGetMessage, Delivery},
};

async fn connect() -> Result<Connection, Failure> {
    Ok(Connection::connect(&uri(), ConnectionProperties::default()).await?)
}

async fn session() -> Result<(Connection, Channel), Failure> {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

async fn durable(
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

async fn exclusive(channel: &Channel) -> Result<String, Failure> {
    let options = QueueDeclareOptions {
        exclusive: true,
        ..Default::default()
    };
    let queue = channel
        .queue_declare("".into(), options, FieldTable::default())
        .await?;
    Ok(queue.name().to_string())
}

async fn delete(channel: &Channel, queue: &str) -> Outcome {
    channel
        .queue_delete(queue.into(), QueueDeleteOptions::default())
        .await?;
    Ok(())
}

async fn publish(
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

async fn try_get(
    channel: &Channel,
    queue: &str,
    no_ack: bool,
) -> Result<Option<BasicGetMessage>, Failure> {
    Ok(channel
        .basic_get(queue.into(), BasicGetOptions { no_ack })
        .await?)
}

/// The next message, waited for.
async fn get(channel: &Channel, queue: &str, no_ack: bool) -> Result<BasicGetMessage, Failure> {
    for _ in 0..250 {
        if let Some(message) = try_get(channel, queue, no_ack).await? {
            return Ok(message);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(format!("no message in {queue}").into())
}

async fn next(consumer: &mut lapin::Consumer) -> Result<Delivery, Failure> {
    Ok(
        tokio::time::timeout(Duration::from_secs(5), consumer.next())
            .await?
            .ok_or("the consumer ended")??,
    )
}

/// Nothing comes to this consumer for a while.
async fn silent(consumer: &mut lapin::Consumer) -> Outcome {
    match tokio::time::timeout(Duration::from_millis(300), consumer.next()).await {
        Err(_) => Ok(()),
        Ok(more) => Err(format!("a delivery too many: {more:?}").into()),
    }
}

fn refused<T: std::fmt::Debug>(result: lapin::Result<T>, code: u16, message: &str) -> Outcome {
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

async fn wrong_password() -> Outcome {
    let wrong = uri().replace(":guest@", ":wrong@");
    refused(
        Connection::connect(&wrong, ConnectionProperties::default())
            .await
            .map(|_| ()),
        403,
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
    )
}

async fn missing_vhost() -> Outcome {
    let uri = uri();
    let (server, _) = uri
        .rsplit_once('/')
        .ok_or("AMQP_URI names no virtual host")?;
    let wrong = format!("{server}/interop-none");
    refused(
        Connection::connect(&wrong, ConnectionProperties::default())
            .await
            .map(|_| ()),
        530,
        "NOT_ALLOWED - vhost interop-none not found",
    )
}

async fn consumes_acknowledges_and_rejects() -> Outcome {
    let (_connection, channel) = session().await?;
    let queue = durable(&channel, "consume", FieldTable::default()).await?;
    channel.basic_qos(2, BasicQosOptions::default()).await?;
    for number in 0..4u8 {
        publish(
            &channel,
            "",
            &queue,
            &[number],
            BasicProperties::default().with_delivery_mode(2),
        )
        .await?;
    }
    let options = BasicConsumeOptions::default();
    let mut consumer = channel
        .basic_consume(
            queue.as_str().into(),
            "".into(),
            options,
            FieldTable::default(),
        )
        .await?;
    same(consumer.tag().as_str().starts_with("amq.ctag-"), true)?;
    let first = next(&mut consumer).await?;
    let second = next(&mut consumer).await?;
    same(
        (first.data.clone(), second.data.clone()),
        (vec![0], vec![1]),
    )?;
    same(
        (
            first.delivery_tag,
            first.redelivered,
            first.routing_key.as_str(),
        ),
        (1, false, queue.as_str()),
    )?;
    silent(&mut consumer).await?;
    second.ack(BasicAckOptions { multiple: true }).await?;
    let third = next(&mut consumer).await?;
    let fourth = next(&mut consumer).await?;
    fourth.reject(BasicRejectOptions { requeue: false }).await?;
    third
        .nack(BasicNackOptions {
            requeue: true,
            multiple: false,
        })
        .await?;
    let again = next(&mut consumer).await?;
    same((again.data.clone(), again.redelivered), (vec![2], true))?;
    again.ack(BasicAckOptions::default()).await?;
    silent(&mut consumer).await?;
    channel
        .basic_cancel(consumer.tag(), BasicCancelOptions::default())
        .await?;
    let left = channel
        .queue_declare(
            queue.as_str().into(),
            QueueDeclareOptions {
                passive: true,
                ..Default::default()
            },
            FieldTable::default(),
        )
        .await?;
    same((left.message_count(), left.consumer_count()), (0, 0))?;
    delete(&channel, &queue).await
}

async fn confirms_come_for_every_message() -> Outcome {
    let (_connection, channel) = session().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let queue = durable(&channel, "confirm", FieldTable::default()).await?;
    let mut waiting = Vec::new();
    for _ in 0..1000 {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions {
            mandatory: true,
            ..Default::default()
        };
        waiting.push(
            channel
                .basic_publish("".into(), queue.as_str().into(), options, b"x", properties)
                .await?,
        );
    }
    for confirm in waiting {
        same(confirm.await?, Confirmation::Ack(None))?;
    }
    let purged = channel
        .queue_purge(queue.as_str().into(), QueuePurgeOptions::default())
        .await?;
    same(purged, 1000)?;
    delete(&channel, &queue).await
}

async fn returns_come_before_their_ack_and_overflow_is_nacked() -> Outcome {
    let (_connection, channel) = session().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let options = BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    let nowhere = name("nowhere");
    let confirm = channel
        .basic_publish(
            "".into(),
            nowhere.as_str().into(),
            options,
            b"lost",
            BasicProperties::default(),
        )
        .await?
        .await?;
    same(confirm.is_ack(), true)?;
    let returned = confirm
        .take_message()
        .ok_or("acknowledged without its return")?;
    same(
        (
            returned.reply_code,
            returned.reply_text.as_str(),
            returned.delivery.routing_key.as_str(),
            &returned.delivery.data[..],
        ),
        (312, "NO_ROUTE", nowhere.as_str(), &b"lost"[..]),
    )?;
    let arguments = table([
        ("x-max-length", AMQPValue::LongInt(1)),
        ("x-overflow", text("reject-publish")),
    ]);
    let queue = durable(&channel, "overflow", arguments).await?;
    for wanted in [Confirmation::Ack(None), Confirmation::Nack(None)] {
        let confirm = channel
            .basic_publish(
                "".into(),
                queue.as_str().into(),
                options,
                b"x",
                BasicProperties::default(),
            )
            .await?
            .await?;
        same(confirm, wanted)?;
    }
    delete(&channel, &queue).await
}

async fn transaction_commits_and_rolls_back() -> Outcome {
    let (connection, channel) = session().await?;
    let watcher = connection.create_channel().await?;
    let queue = durable(&watcher, "tx", FieldTable::default()).await?;
    channel.tx_select().await?;
    publish(&channel, "", &queue, b"dropped", BasicProperties::default()).await?;
    channel.tx_rollback().await?;
    publish(&channel, "", &queue, b"kept", BasicProperties::default()).await?;
    same(try_get(&watcher, &queue, true).await?.is_none(), true)?;
    channel.tx_commit().await?;
    let message = get(&channel, &queue, false).await?;
    same(&message.data[..], &b"kept"[..])?;
    message.ack(BasicAckOptions::default()).await?;
    channel.tx_rollback().await?;
    channel.close(200, "".into()).await?;
    let message = get(&watcher, &queue, true).await?;
    same(
        (message.redelivered, &message.data[..]),
        (true, &b"kept"[..]),
    )?;
    delete(&watcher, &queue).await
}

async fn rpc_by_direct_reply_to() -> Outcome {
    let (_client_connection, client) = session().await?;
    let (_server_connection, server) = session().await?;
    let requests = durable(&server, "rpc", FieldTable::default()).await?;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..Default::default()
    };
    let mut replies = client
        .basic_consume(
            "amq.rabbitmq.reply-to".into(),
            "".into(),
            options,
            FieldTable::default(),
        )
        .await?;
    let properties = BasicProperties::default()
        .with_reply_to("amq.rabbitmq.reply-to".into())
        .with_correlation_id("9".into());
    publish(&client, "", &requests, b"ping", properties).await?;
    let request = get(&server, &requests, true).await?;
    let reply_to = request.properties.reply_to().clone().ok_or("no reply-to")?;
    same(
        reply_to.as_str().starts_with("amq.rabbitmq.reply-to."),
        true,
    )?;
    let properties = BasicProperties::default().with_correlation_id("9".into());
    publish(&server, "", reply_to.as_str(), b"pong", properties).await?;
    let reply = next(&mut replies).await?;
    same(
        (&reply.data[..], reply.properties.correlation_id().clone()),
        (&b"pong"[..], Some("9".into())),
    )?;
    delete(&server, &requests).await
}

async fn rpc_by_a_reply_queue() -> Outcome {
    let (_client_connection, client) = session().await?;
    let (_server_connection, server) = session().await?;
    let requests = durable(&server, "rpc2", FieldTable::default()).await?;
    let replies = exclusive(&client).await?;
    let properties = BasicProperties::default().with_reply_to(replies.as_str().into());
    publish(&client, "", &requests, b"ping", properties).await?;
    let request = get(&server, &requests, true).await?;
    let reply_to = request.properties.reply_to().clone().ok_or("no reply-to")?;
    publish(
        &server,
        "",
        reply_to.as_str(),
        b"pong",
        BasicProperties::default(),
    )
    .await?;
    same(&get(&client, &replies, true).await?.data[..], &b"pong"[..])?;
    delete(&server, &requests).await
}

async fn exchanges_of_all_kinds() -> Outcome {
    let (_connection, channel) = session().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let (topic, fanout, headers) = (name("topic"), name("fanout"), name("headers"));
    for (exchange, kind) in [
        (&topic, ExchangeKind::Topic),
        (&fanout, ExchangeKind::Fanout),
        (&headers, ExchangeKind::Headers),
    ] {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..Default::default()
        };
        channel
            .exchange_declare(
                exchange.as_str().into(),
                kind,
                options,
                FieldTable::default(),
            )
            .await?;
    }
    for (destination, source) in [(&fanout, &topic), (&headers, &fanout)] {
        let options = ExchangeBindOptions::default();
        let (destination, source) = (destination.as_str().into(), source.as_str().into());
        channel
            .exchange_bind(
                destination,
                source,
                "#".into(),
                options,
                FieldTable::default(),
            )
            .await?;
    }
    let mut queues = Vec::new();
    let match_all = table([
        ("x-match", text("all")),
        ("n", AMQPValue::LongLongInt(1)),
        ("t", AMQPValue::Void),
    ]);
    for (exchange, key, arguments) in [
        (&topic, "a.*", FieldTable::default()),
        (&fanout, "", FieldTable::default()),
        (&headers, "", match_all),
    ] {
        let queue = exclusive(&channel).await?;
        let options = QueueBindOptions::default();
        channel
            .queue_bind(
                queue.as_str().into(),
                exchange.as_str().into(),
                key.into(),
                options,
                arguments,
            )
            .await?;
        queues.push(queue);
    }
    for (key, number) in [("a.b", 1), ("a", 1), ("a.c", 2)] {
        let sent = table([("n", AMQPValue::ShortShortInt(number)), ("t", text("any"))]);
        publish(
            &channel,
            &topic,
            key,
            key.as_bytes(),
            BasicProperties::default().with_headers(sent),
        )
        .await?;
    }
    for (queue, wanted) in queues.iter().zip([
        vec!["a.b", "a.c"],
        vec!["a.b", "a", "a.c"],
        vec!["a.b", "a"],
    ]) {
        for body in wanted {
            same(&get(&channel, queue, true).await?.data[..], body.as_bytes())?;
        }
        same(try_get(&channel, queue, true).await?.is_none(), true)?;
    }
    for exchange in [topic, fanout, headers] {
        channel
            .exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default())
            .await?;
    }
    Ok(())
}

async fn errors_have_their_codes_and_texts() -> Outcome {
    let (connection, channel) = session().await?;
    let (_other, owner) = session().await?;
    let queue = durable(&channel, "errors", FieldTable::default()).await?;
    let missing = name("missing");
    let passive = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let none = FieldTable::default;
    refused(
        connection
            .create_channel()
            .await?
            .queue_declare(missing.as_str().into(), passive, none())
            .await
            .map(|_| ()),
        404,
        &format!("NOT_FOUND - no queue '{missing}' in vhost '/'"),
    )?;
    let exchange_passive = ExchangeDeclareOptions {
        passive: true,
        ..Default::default()
    };
    refused(
        connection
            .create_channel()
            .await?
            .exchange_declare(
                missing.as_str().into(),
                ExchangeKind::Direct,
                exchange_passive,
                none(),
            )
            .await,
        404,
        &format!("NOT_FOUND - no exchange '{missing}' in vhost '/'"),
    )?;
    refused(
        connection
            .create_channel()
            .await?
            .queue_declare(
                queue.as_str().into(),
                QueueDeclareOptions::default(),
                none(),
            )
            .await
            .map(|_| ()),
        406,
        &format!(
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{queue}' in vhost '/': received 'false' but \
             current is 'true'"
        ),
    )?;
    let locked = exclusive(&owner).await?;
    refused(
        connection
            .create_channel()
            .await?
            .queue_declare(locked.as_str().into(), passive, none())
            .await
            .map(|_| ()),
        405,
        // The broker cuts no text here: it stays below the 255 bytes of a short string.
        &format!(
            "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{locked}' in vhost '/'. It could be \
             originally declared on another connection or the exclusive property value does not match that of the \
             original declaration."
        ),
    )?;
    refused(
        connection
            .create_channel()
            .await?
            .queue_declare("amq.interop".into(), QueueDeclareOptions::default(), none())
            .await
            .map(|_| ()),
        403,
        "ACCESS_REFUSED - queue name 'amq.interop' contains reserved prefix 'amq.*'",
    )?;
    delete(&channel, &queue).await
}

async fn immediate_is_540() -> Outcome {
    let (connection, channel) = session().await?;
    let mut events = Box::pin(connection.events_listener());
    let options = BasicPublishOptions {
        immediate: true,
        ..Default::default()
    };
    channel
        .basic_publish(
            "".into(),
            "x".into(),
            options,
            b"x",
            BasicProperties::default(),
        )
        .await?;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        let event = tokio::time::timeout_at(deadline, events.next())
            .await?
            .ok_or("no event of the error")?;
        if let lapin::Event::Error(error) = event
            && let ErrorKind::ProtocolError(error) = error.kind()
        {
            same(
                error.kind(),
                &AMQPErrorKind::Hard(AMQPHardError::NOTIMPLEMENTED),
            )?;
            return same(
                error.get_message().as_str(),
                "NOT_IMPLEMENTED - immediate=true",
            );
        }
    }
}

async fn consumer_ends_when_its_queue_is_deleted() -> Outcome {
    let (connection, channel) = session().await?;
    let queue = durable(&channel, "cancelled", FieldTable::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer = channel
        .basic_consume(
            queue.as_str().into(),
            "".into(),
            options,
            FieldTable::default(),
        )
        .await?;
    delete(&connection.create_channel().await?, &queue).await?;
    let ended = tokio::time::timeout(Duration::from_secs(5), consumer.next()).await?;
    same(ended.is_none(), true)?;
    same(channel.status().connected(), true)
}

async fn dead_letters_and_priorities() -> Outcome {
    let (_connection, channel) = session().await?;
    let dead = durable(&channel, "dead", FieldTable::default()).await?;
    let arguments = table([
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(&dead)),
        ("x-message-ttl", AMQPValue::LongInt(100)),
    ]);
    let queue = durable(&channel, "ttl", arguments).await?;
    publish(&channel, "", &queue, b"x", BasicProperties::default()).await?;
    let message = get(&channel, &dead, true).await?;
    let headers = message.properties.headers().clone().ok_or("no headers")?;
    let deaths = headers
        .inner()
        .get("x-death")
        .and_then(AMQPValue::as_array)
        .ok_or("no x-death")?;
    same(deaths.as_slice().len(), 1)?;
    let AMQPValue::FieldTable(death) = &deaths.as_slice()[0] else {
        return Err("x-death holds no table".into());
    };
    let death = death.inner();
    same(death.get("count"), Some(&AMQPValue::LongLongInt(1)))?;
    same(death.get("reason"), Some(&text("expired")))?;
    same(death.get("queue"), Some(&text(&queue)))?;
    same(death.get("exchange"), Some(&text("")))?;
    same(
        death.get("routing-keys"),
        Some(&AMQPValue::FieldArray(FieldArray::from(vec![text(&queue)]))),
    )?;
    same(
        matches!(death.get("time"), Some(AMQPValue::Timestamp(_))),
        true,
    )?;
    delete(&channel, &queue).await?;
    delete(&channel, &dead).await?;
    let queue = durable(
        &channel,
        "priority",
        table([("x-max-priority", AMQPValue::ShortShortInt(5))]),
    )
    .await?;
    for priority in [0u8, 5, 3] {
        publish(
            &channel,
            "",
            &queue,
            &[priority],
            BasicProperties::default().with_priority(priority),
        )
        .await?;
    }
    until(|| async {
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let state = channel
            .queue_declare(queue.as_str().into(), passive, FieldTable::default())
            .await;
        state.is_ok_and(|state| state.message_count() == 3)
    })
    .await?;
    for wanted in [5u8, 3, 0] {
        same(&get(&channel, &queue, true).await?.data[..], &[wanted][..])?;
    }
    delete(&channel, &queue).await
}

async fn all_table_types_come_back() -> Outcome {
    let (_connection, channel) = session().await?;
    let queue = exclusive(&channel).await?;
    let inner = table([
        ("deep", AMQPValue::Boolean(false)),
        ("none", AMQPValue::Void),
    ]);
    let headers = table([
        ("t", AMQPValue::Boolean(true)),
        ("b", AMQPValue::ShortShortInt(-5)),
        ("B", AMQPValue::ShortShortUInt(250)),
        ("s", AMQPValue::ShortInt(-300)),
        ("u", AMQPValue::ShortUInt(60000)),
        ("I", AMQPValue::LongInt(-70000)),
        ("i", AMQPValue::LongUInt(4_000_000_000)),
        ("l", AMQPValue::LongLongInt(-(1 << 40))),
        ("f", AMQPValue::Float(1.5)),
        ("d", AMQPValue::Double(-2.25)),
        (
            "D",
            AMQPValue::DecimalValue(DecimalValue {
                scale: 2,
                value: 314,
            }),
        ),
        ("S", text("häre")),
        (
            "A",
            AMQPValue::FieldArray(FieldArray::from(vec![
                AMQPValue::LongInt(1),
                text("two"),
                AMQPValue::Void,
            ])),
        ),
        ("T", AMQPValue::Timestamp(1_700_000_000)),
        ("F", AMQPValue::FieldTable(inner)),
        ("V", AMQPValue::Void),
        ("x", AMQPValue::ByteArray(vec![0u8, 255, 1].into())),
    ]);
    publish(
        &channel,
        "",
        &queue,
        b"",
        BasicProperties::default().with_headers(headers.clone()),
    )
    .await?;
    let message = get(&channel, &queue, true).await?;
    same(message.properties.headers().clone(), Some(headers))
}

async fn large_body_in_many_frames() -> Outcome {
    let (_connection, channel) = session().await?;
    let queue = exclusive(&channel).await?;
    let body: Vec<u8> = (0..5u32 << 20)
        .map(|byte| (byte.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    publish(&channel, "", &queue, &body, BasicProperties::default()).await?;
    let got = get(&channel, &queue, true).await?;
    same((got.data.len(), got.data == body), (body.len(), true))
}

/// lapin fails with MissingHeartbeatError if the broker's heartbeats do not come.
async fn idle_connection_lives_on_heartbeats() -> Outcome {
    let connection = Connection::connect(
        &format!("{}?heartbeat=1", uri()),
        ConnectionProperties::default(),
    )
    .await?;
    let channel = connection.create_channel().await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    same(connection.status().connected(), true)?;
    exclusive(&channel).await?;
    Ok(())
}

async fn durable_definitions_survive_a_kill() -> Outcome {
    let (connection, channel) = session().await?;
    let queue = durable(&channel, "kept", FieldTable::default()).await?;
    let exchange = name("kept");
    let options = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    channel
        .exchange_declare(
            exchange.as_str().into(),
            ExchangeKind::Topic,
            options,
            FieldTable::default(),
        )
        .await?;
    let options = QueueBindOptions::default();
    channel
        .queue_bind(
            queue.as_str().into(),
            exchange.as_str().into(),
            "k.#".into(),
            options,
            FieldTable::default(),
        )
        .await?;
    restart_broker().await?;
    until(|| async { !connection.status().connected() }).await?;
    let (_connection, channel) = session().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let options = BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    let confirm = channel
        .basic_publish(
            exchange.as_str().into(),
            "k.1".into(),
            options,
            b"after",
            BasicProperties::default(),
        )
        .await?
        .await?;
    same(confirm, Confirmation::Ack(None))?;
    same(&get(&channel, &queue, true).await?.data[..], &b"after"[..])?;
    channel
        .exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default())
        .await?;
    delete(&channel, &queue).await
}

async fn own_recovery_after_a_kill() -> Outcome {
    let properties = ConnectionProperties::default()
        .enable_auto_recover()
        .configure_backoff(|backoff| {
            backoff
                .with_max_times(50)
                .with_min_delay(Duration::from_millis(100))
        });
    let connection = Connection::connect(&uri(), properties).await?;
    let channel = connection.create_channel().await?;
    let queue = durable(&channel, "recovered", FieldTable::default()).await?;
    restart_broker().await?;
    let mut got = None;
    for _ in 0..100 {
        let options = BasicPublishOptions::default();
        match channel
            .basic_publish(
                "".into(),
                queue.as_str().into(),
                options,
                b"after",
                BasicProperties::default(),
            )
            .await
        {
            Ok(_) => match try_get(&channel, &queue, true).await {
                Ok(Some(message)) => {
                    got = Some(message.data.clone());
                    break;
                }
                Ok(None) | Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Err(error) => {
                // Waits for the recovery if there is one to come; the error itself is expected.
                if channel.wait_for_recovery(error).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
    same(got, Some(b"after".to_vec()))?;
    delete(&channel, &queue).await
}

#[tokio::main]
async fn main() {
    let mut checks = Checks::default();
    checks
        .run("wrong_password_is_access_refused", wrong_password())
        .await;
    checks.run("missing_vhost_is_530", missing_vhost()).await;
    checks
        .run(
            "consumes_acknowledges_and_rejects",
            consumes_acknowledges_and_rejects(),
        )
        .await;
    checks
        .run(
            "confirms_come_for_every_message",
            confirms_come_for_every_message(),
        )
        .await;
    checks
        .run(
            "returns_come_before_their_ack_and_overflow_is_nacked",
            returns_come_before_their_ack_and_overflow_is_nacked(),
        )
        .await;
    checks
        .run(
            "transaction_commits_and_rolls_back",
            transaction_commits_and_rolls_back(),
        )
        .await;
    checks
        .run("rpc_by_direct_reply_to", rpc_by_direct_reply_to())
        .await;
    checks
        .run("rpc_by_a_reply_queue", rpc_by_a_reply_queue())
        .await;
    checks
        .run("exchanges_of_all_kinds", exchanges_of_all_kinds())
        .await;
    checks
        .run(
            "errors_have_their_codes_and_texts",
            errors_have_their_codes_and_texts(),
        )
        .await;
    checks.run("immediate_is_540", immediate_is_540()).await;
    checks
        .run(
            "consumer_ends_when_its_queue_is_deleted",
            consumer_ends_when_its_queue_is_deleted(),
        )
        .await;
    checks
        .run("dead_letters_and_priorities", dead_letters_and_priorities())
        .await;
    checks
        .run("all_table_types_come_back", all_table_types_come_back())
        .await;
    checks
        .run("large_body_in_many_frames", large_body_in_many_frames())
        .await;
    checks
        .run(
            "idle_connection_lives_on_heartbeats",
            idle_connection_lives_on_heartbeats(),
        )
        .await;
    checks
        .run(
            "durable_definitions_survive_a_kill",
            durable_definitions_survive_a_kill(),
        )
        .await;
    checks
        .run("own_recovery_after_a_kill", own_recovery_after_a_kill())
        .await;
    checks.finish()
}
