//! Publishing, consuming, confirms, transactions, replies, dead letters, types.

use crate::checks::{Outcome, name, same, until};
use lapin::options::*;
use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable};
use lapin::{BasicProperties, Confirmation};

use crate::support::*;

pub async fn consumes_acknowledges_and_rejects() -> Outcome {
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

pub async fn confirms_come_for_every_message() -> Outcome {
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

pub async fn returns_come_before_their_ack_and_overflow_is_nacked() -> Outcome {
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

pub async fn transaction_commits_and_rolls_back() -> Outcome {
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

pub async fn rpc_by_direct_reply_to() -> Outcome {
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

pub async fn rpc_by_a_reply_queue() -> Outcome {
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

pub async fn dead_letters_and_priorities() -> Outcome {
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

pub async fn all_table_types_come_back() -> Outcome {
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

pub async fn large_body_in_many_frames() -> Outcome {
    let (_connection, channel) = session().await?;
    let queue = exclusive(&channel).await?;
    let body: Vec<u8> = (0..5u32 << 20)
        .map(|byte| (byte.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    publish(&channel, "", &queue, &body, BasicProperties::default()).await?;
    let got = get(&channel, &queue, true).await?;
    same((got.data.len(), got.data == body), (body.len(), true))
}
