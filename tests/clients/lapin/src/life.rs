//! Logins, heartbeats, kills and recovery.

use std::time::Duration;

use crate::checks::{Outcome, name, restart_broker, same, until, uri};
use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties, ExchangeKind};

use crate::support::*;

pub async fn wrong_password() -> Outcome {
    let wrong = uri().replace(":guest@", ":wrong@");
    refused(
        Connection::connect(&wrong, ConnectionProperties::default())
            .await
            .map(|_| ()),
        403,
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
    )
}

pub async fn missing_vhost() -> Outcome {
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

/// lapin fails with MissingHeartbeatError if the broker's heartbeats do not come.
pub async fn idle_connection_lives_on_heartbeats() -> Outcome {
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

pub async fn durable_definitions_survive_a_kill() -> Outcome {
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

pub async fn own_recovery_after_a_kill() -> Outcome {
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
