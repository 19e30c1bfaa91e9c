//! Exchanges of all kinds, and the errors of what is declared.

use std::time::Duration;

use crate::checks::{Outcome, name, same};
use futures_lite::StreamExt;
use lapin::options::*;
use lapin::protocol::{AMQPErrorKind, AMQPHardError};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ErrorKind, ExchangeKind};

use crate::support::*;

pub async fn exchanges_of_all_kinds() -> Outcome {
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

pub async fn errors_have_their_codes_and_texts() -> Outcome {
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

pub async fn immediate_is_540() -> Outcome {
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

pub async fn consumer_ends_when_its_queue_is_deleted() -> Outcome {
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
