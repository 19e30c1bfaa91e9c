//! amqprs: callbacks for confirms, returns, closes and cancels; its own table of field types.

#[path = "../../checks.rs"]
mod checks;

use std::time::Duration;

use amqprs::callbacks::{ChannelCallback, ConnectionCallback};
use amqprs::channel::*;
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::{
    Ack, BasicProperties, ByteArray, Cancel, Close, CloseChannel, DecimalValue, FieldArray,
    FieldTable, FieldValue, Nack, Return,
};
use async_trait::async_trait;
use checks::{Checks, Failure, Outcome, name, restart_broker, same, until, uri};
use tokio::sync::mpsc;

/// What the broker said by itself.
#[derive(Debug, PartialEq)]
enum Event {
    Closed(u16, String),
    Cancelled(String),
    Acked(u64, bool),
    Nacked(u64),
    Returned(u16, String, String, Vec<u8>),
}

struct Listener(mpsc::UnboundedSender<Event>);

impl Listener {
    fn tell(&self, event: Event) {
        // The check may have ended already and no longer listens.
        let _ = self.0.send(event);
    }
}

type Result<T> = std::result::Result<T, amqprs::error::Error>;

#[async_trait]
impl ConnectionCallback for Listener {
    async fn close(&mut self, _: &Connection, close: Close) -> Result<()> {
        self.tell(Event::Closed(
            close.reply_code(),
            close.reply_text().clone(),
        ));
        Ok(())
    }
    async fn blocked(&mut self, _: &Connection, _: String) {}
    async fn unblocked(&mut self, _: &Connection) {}
    async fn secret_updated(&mut self, _: &Connection) {}
}

#[async_trait]
impl ChannelCallback for Listener {
    async fn close(&mut self, _: &Channel, close: CloseChannel) -> Result<()> {
        self.tell(Event::Closed(
            close.reply_code(),
            close.reply_text().clone(),
        ));
        Ok(())
    }
    async fn cancel(&mut self, _: &Channel, cancel: Cancel) -> Result<()> {
        self.tell(Event::Cancelled(cancel.consumer_tag().clone()));
        Ok(())
    }
    async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool> {
        Ok(active)
    }
    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        self.tell(Event::Acked(ack.delivery_tag(), ack.mutiple()));
    }
    async fn publish_nack(&mut self, _: &Channel, nack: Nack) {
        self.tell(Event::Nacked(nack.delivery_tag()));
    }
    async fn publish_return(
        &mut self,
        _: &Channel,
        ret: Return,
        _: BasicProperties,
        content: Vec<u8>,
    ) {
        self.tell(Event::Returned(
            ret.reply_code(),
            ret.reply_text().clone(),
            ret.routing_key().clone(),
            content,
        ));
    }
}

type Events = mpsc::UnboundedReceiver<Event>;
type Deliveries = mpsc::UnboundedReceiver<ConsumerMessage>;

fn arguments(password: &str) -> std::result::Result<OpenConnectionArguments, Failure> {
    let uri = uri();
    let after_login = uri.rsplit_once('@').ok_or("AMQP_URI has no login")?.1;
    let address = after_login.split('/').next().unwrap_or(after_login);
    let (host, port) = address.rsplit_once(':').ok_or("AMQP_URI has no port")?;
    Ok(OpenConnectionArguments::new(
        host,
        port.parse()?,
        "guest",
        password,
    ))
}

async fn connect() -> std::result::Result<(Connection, Events), Failure> {
    let connection = Connection::open(&arguments("guest")?).await?;
    let (sender, events) = mpsc::unbounded_channel();
    connection.register_callback(Listener(sender)).await?;
    Ok((connection, events))
}

async fn channel_on(connection: &Connection) -> std::result::Result<(Channel, Events), Failure> {
    let channel = connection.open_channel(None).await?;
    let (sender, events) = mpsc::unbounded_channel();
    channel.register_callback(Listener(sender)).await?;
    Ok((channel, events))
}

async fn event(events: &mut Events) -> std::result::Result<Event, Failure> {
    Ok(tokio::time::timeout(Duration::from_secs(5), events.recv())
        .await?
        .ok_or("no more events")?)
}

fn table<const N: usize>(entries: [(&str, FieldValue); N]) -> FieldTable {
    let mut table = FieldTable::new();
    for (key, value) in entries {
        table.insert(key.try_into().expect("a short key"), value);
    }
    table
}

async fn durable(
    channel: &Channel,
    suffix: &str,
    arguments: FieldTable,
) -> std::result::Result<String, Failure> {
    let queue = name(suffix);
    channel
        .queue_declare(
            QueueDeclareArguments::durable_client_named(&queue)
                .arguments(arguments)
                .finish(),
        )
        .await?;
    Ok(queue)
}

async fn exclusive(channel: &Channel) -> std::result::Result<String, Failure> {
    let declared = channel
        .queue_declare(QueueDeclareArguments::exclusive_server_named())
        .await?;
    Ok(declared.ok_or("no answer")?.0)
}

async fn ready(channel: &Channel, queue: &str) -> std::result::Result<(u32, u32), Failure> {
    let declared = channel
        .queue_declare(QueueDeclareArguments::new(queue).passive(true).finish())
        .await?;
    let (_, messages, consumers) = declared.ok_or("no answer")?;
    Ok((messages, consumers))
}

async fn delete(channel: &Channel, queue: &str) -> Outcome {
    channel
        .queue_delete(QueueDeleteArguments::new(queue))
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
            properties,
            body.to_vec(),
            BasicPublishArguments::new(exchange, key),
        )
        .await?;
    Ok(())
}

async fn try_get(
    channel: &Channel,
    queue: &str,
    no_ack: bool,
) -> std::result::Result<Option<GetMessage>, Failure> {
    Ok(channel
        .basic_get(BasicGetArguments::new(queue).no_ack(no_ack).finish())
        .await?)
}

/// The next message, waited for.
async fn get(
    channel: &Channel,
    queue: &str,
    no_ack: bool,
) -> std::result::Result<GetMessage, Failure> {
    for _ in 0..250 {
        if let Some(message) = try_get(channel, queue, no_ack).await? {
            return Ok(message);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(format!("no message in {queue}").into())
}

/// Tag, redelivered flag and body of the next delivery.
async fn next(deliveries: &mut Deliveries) -> std::result::Result<(u64, bool, Vec<u8>), Failure> {
    let message = tokio::time::timeout(Duration::from_secs(5), deliveries.recv())
        .await?
        .ok_or("the consumer ended")?;
    let deliver = message.deliver.ok_or("no delivery")?;
    Ok((
        deliver.delivery_tag(),
        deliver.redelivered(),
        message.content.unwrap_or_default(),
    ))
}

async fn silent(deliveries: &mut Deliveries) -> Outcome {
    match tokio::time::timeout(Duration::from_millis(300), deliveries.recv()).await {
        Err(_) => Ok(()),
        Ok(_) => Err("a delivery too many".into()),
    }
}

/// amqprs does not announce `authentication_failure_close`, so the broker ends the socket without a word.
async fn wrong_password() -> Outcome {
    match Connection::open(&arguments("wrong")?).await {
        Err(amqprs::error::Error::NetworkError(_)) => Ok(()),
        Err(error) => Err(format!("got {error}").into()),
        Ok(_) => Err("logged in with a wrong password".into()),
    }
}

async fn server_properties() -> Outcome {
    let (connection, _) = connect().await?;
    let properties = connection.server_properties();
    same(properties.product(), "RabbitMQ")?;
    let flags = properties.capabilities();
    same(
        [
            flags.consumer_cancel_notify(),
            flags.publisher_confirms(),
            flags.consumer_priorities(),
            flags.authentication_failure_close(),
            flags.per_consumer_qos(),
            flags.connection_blocked(),
            flags.exchange_exchange_bindings(),
            flags.basic_nack(),
            flags.direct_reply_to(),
        ],
        [true; 9],
    )?;
    same(
        (connection.channel_max(), connection.frame_max()),
        (2047, 131_072),
    )?;
    connection.close().await?;
    Ok(())
}

async fn consumes_acknowledges_and_rejects() -> Outcome {
    let (connection, _events) = connect().await?;
    let (channel, _channel_events) = channel_on(&connection).await?;
    let queue = durable(&channel, "consume", FieldTable::new()).await?;
    channel
        .basic_qos(BasicQosArguments::new(0, 2, false))
        .await?;
    for number in 0..4u8 {
        publish(&channel, "", &queue, &[number], BasicProperties::default()).await?;
    }
    let consume = BasicConsumeArguments::new(&queue, "tag")
        .manual_ack(true)
        .finish();
    let (tag, mut deliveries) = channel.basic_consume_rx(consume).await?;
    same(next(&mut deliveries).await?, (1, false, vec![0]))?;
    same(next(&mut deliveries).await?, (2, false, vec![1]))?;
    silent(&mut deliveries).await?;
    channel.basic_ack(BasicAckArguments::new(2, true)).await?;
    same(next(&mut deliveries).await?, (3, false, vec![2]))?;
    same(next(&mut deliveries).await?, (4, false, vec![3]))?;
    channel
        .basic_reject(BasicRejectArguments::new(4, false))
        .await?;
    channel
        .basic_nack(BasicNackArguments::new(3, false, true))
        .await?;
    same(next(&mut deliveries).await?, (5, true, vec![2]))?;
    channel.basic_ack(BasicAckArguments::new(5, false)).await?;
    silent(&mut deliveries).await?;
    channel
        .basic_cancel(BasicCancelArguments::new(&tag))
        .await?;
    same(ready(&channel, &queue).await?, (0, 0))?;
    delete(&channel, &queue).await
}

async fn confirms_and_returns() -> Outcome {
    let (connection, _events) = connect().await?;
    let (channel, mut events) = channel_on(&connection).await?;
    channel
        .confirm_select(ConfirmSelectArguments::default())
        .await?;
    let queue = durable(&channel, "confirm", FieldTable::new()).await?;
    for _ in 0..200 {
        let persistent = BasicProperties::default().with_persistence(true).finish();
        publish(&channel, "", &queue, b"x", persistent).await?;
    }
    let mut confirmed = 0;
    while confirmed < 200 {
        match event(&mut events).await? {
            Event::Acked(tag, true) => confirmed = confirmed.max(tag),
            Event::Acked(tag, false) => confirmed = confirmed.max(tag),
            other => return Err(format!("got {other:?}").into()),
        }
    }
    same(ready(&channel, &queue).await?, (200, 0))?;
    delete(&channel, &queue).await?;
    let nowhere = name("nowhere");
    let mandatory = BasicPublishArguments::new("", &nowhere)
        .mandatory(true)
        .finish();
    channel
        .basic_publish(BasicProperties::default(), b"lost".to_vec(), mandatory)
        .await?;
    same(
        event(&mut events).await?,
        Event::Returned(312, "NO_ROUTE".into(), nowhere, b"lost".to_vec()),
    )?;
    same(
        matches!(event(&mut events).await?, Event::Acked(201, _)),
        true,
    )?;
    let limits = table([
        ("x-max-length", FieldValue::I(1)),
        ("x-overflow", "reject-publish".into()),
    ]);
    let queue = durable(&channel, "overflow", limits).await?;
    publish(&channel, "", &queue, b"fits", BasicProperties::default()).await?;
    same(
        matches!(event(&mut events).await?, Event::Acked(202, _)),
        true,
    )?;
    publish(
        &channel,
        "",
        &queue,
        b"too much",
        BasicProperties::default(),
    )
    .await?;
    same(event(&mut events).await?, Event::Nacked(203))?;
    delete(&channel, &queue).await
}

async fn transaction_commits_and_rolls_back() -> Outcome {
    let (connection, _events) = connect().await?;
    let (channel, _channel_events) = channel_on(&connection).await?;
    let (watcher, _watcher_events) = channel_on(&connection).await?;
    let queue = durable(&watcher, "tx", FieldTable::new()).await?;
    channel.tx_select().await?;
    publish(&channel, "", &queue, b"dropped", BasicProperties::default()).await?;
    channel.tx_rollback().await?;
    publish(&channel, "", &queue, b"kept", BasicProperties::default()).await?;
    same(try_get(&watcher, &queue, true).await?.is_none(), true)?;
    channel.tx_commit().await?;
    same(get(&watcher, &queue, true).await?.2, b"kept".to_vec())?;
    same(try_get(&watcher, &queue, true).await?.is_none(), true)?;
    delete(&watcher, &queue).await
}

async fn rpc_both_ways() -> Outcome {
    let (connection, _events) = connect().await?;
    let (client, _client_events) = channel_on(&connection).await?;
    let (server, _server_events) = channel_on(&connection).await?;
    let requests = durable(&server, "rpc", FieldTable::new()).await?;
    let direct = BasicConsumeArguments::new("amq.rabbitmq.reply-to", "")
        .manual_ack(false)
        .finish();
    let (_, mut direct_replies) = client.basic_consume_rx(direct).await?;
    let own = exclusive(&client).await?;
    let consume = BasicConsumeArguments::new(&own, "")
        .manual_ack(false)
        .finish();
    let (_, mut own_replies) = client.basic_consume_rx(consume).await?;
    for (reply_to, replies) in [
        ("amq.rabbitmq.reply-to", &mut direct_replies),
        (own.as_str(), &mut own_replies),
    ] {
        let properties = BasicProperties::default().with_reply_to(reply_to).finish();
        publish(&client, "", &requests, b"ping", properties).await?;
        let (_, properties, body) = get(&server, &requests, true).await?;
        same(body, b"ping".to_vec())?;
        let address = properties.reply_to().ok_or("no reply-to")?.clone();
        same(address.starts_with(reply_to), true)?;
        publish(&server, "", &address, b"pong", BasicProperties::default()).await?;
        same(next(replies).await?.2, b"pong".to_vec())?;
    }
    delete(&server, &requests).await
}

async fn exchanges_of_all_kinds() -> Outcome {
    let (connection, _events) = connect().await?;
    let (channel, _channel_events) = channel_on(&connection).await?;
    let (topic, fanout, headers) = (name("topic"), name("fanout"), name("headers"));
    for (exchange, kind) in [
        (&topic, "topic"),
        (&fanout, "fanout"),
        (&headers, "headers"),
    ] {
        channel
            .exchange_declare(
                ExchangeDeclareArguments::new(exchange, kind)
                    .durable(true)
                    .finish(),
            )
            .await?;
    }
    channel
        .exchange_bind(ExchangeBindArguments::new(&fanout, &topic, "#"))
        .await?;
    channel
        .exchange_bind(ExchangeBindArguments::new(&headers, &fanout, ""))
        .await?;
    let mut queues = Vec::new();
    let match_any = table([("x-match", "any".into()), ("n", FieldValue::l(1))]);
    for (exchange, key, arguments) in [
        (&topic, "a.*", FieldTable::new()),
        (&fanout, "", FieldTable::new()),
        (&headers, "", match_any),
    ] {
        let queue = exclusive(&channel).await?;
        channel
            .queue_bind(
                QueueBindArguments::new(&queue, exchange, key)
                    .arguments(arguments)
                    .finish(),
            )
            .await?;
        queues.push(queue);
    }
    for (key, number) in [("a.b", 1), ("a", 1), ("a.c", 2)] {
        let sent = table([("n", FieldValue::I(number))]);
        publish(
            &channel,
            &topic,
            key,
            key.as_bytes(),
            BasicProperties::default().with_headers(sent).finish(),
        )
        .await?;
    }
    for (queue, wanted) in queues.iter().zip([
        vec!["a.b", "a.c"],
        vec!["a.b", "a", "a.c"],
        vec!["a.b", "a"],
    ]) {
        for body in wanted {
            same(
                get(&channel, queue, true).await?.2,
                body.as_bytes().to_vec(),
            )?;
        }
        same(try_get(&channel, queue, true).await?.is_none(), true)?;
    }
    for exchange in [topic, fanout, headers] {
        channel
            .exchange_delete(ExchangeDeleteArguments::new(&exchange))
            .await?;
    }
    Ok(())
}

/// Runs `declare` on a fresh channel, which must be closed with this code and text.
async fn refused(
    connection: &Connection,
    declare: QueueDeclareArguments,
    code: u16,
    text: String,
) -> Outcome {
    let (channel, mut events) = channel_on(connection).await?;
    if channel.queue_declare(declare).await.is_ok() {
        return Err(format!("no error, wanted {code} {text}").into());
    }
    same(event(&mut events).await?, Event::Closed(code, text))?;
    same(connection.is_open(), true)
}

async fn errors_have_their_codes_and_texts() -> Outcome {
    let (connection, _events) = connect().await?;
    let (channel, _channel_events) = channel_on(&connection).await?;
    let (other, _other_events) = connect().await?;
    let (owner, _owner_events) = channel_on(&other).await?;
    let queue = durable(&channel, "errors", FieldTable::new()).await?;
    let missing = name("missing");
    let passive = |queue: &str| QueueDeclareArguments::new(queue).passive(true).finish();
    let text = format!("NOT_FOUND - no queue '{missing}' in vhost '/'");
    refused(&connection, passive(&missing), 404, text).await?;
    let text = format!(
        "PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue '{queue}' in vhost '/': received 'true' but \
         current is 'false'"
    );
    let declare = QueueDeclareArguments::durable_client_named(&queue)
        .auto_delete(true)
        .finish();
    refused(&connection, declare, 406, text).await?;
    let locked = exclusive(&owner).await?;
    let text = format!(
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{locked}' in vhost '/'. It could be \
         originally declared on another connection or the exclusive property value does not match that of the \
         original declaration."
    );
    refused(&connection, passive(&locked), 405, text).await?;
    let text = "ACCESS_REFUSED - queue name 'amq.interop' contains reserved prefix 'amq.*'".into();
    refused(
        &connection,
        QueueDeclareArguments::durable_client_named("amq.interop"),
        403,
        text,
    )
    .await?;
    delete(&channel, &queue).await
}

async fn immediate_is_540() -> Outcome {
    let (connection, mut events) = connect().await?;
    let (channel, _channel_events) = channel_on(&connection).await?;
    let immediate = BasicPublishArguments::new("", "x").immediate(true).finish();
    channel
        .basic_publish(BasicProperties::default(), b"x".to_vec(), immediate)
        .await?;
    same(
        event(&mut events).await?,
        Event::Closed(540, "NOT_IMPLEMENTED - immediate=true".into()),
    )
}

async fn consumer_is_told_when_its_queue_is_deleted() -> Outcome {
    let (connection, _events) = connect().await?;
    let (channel, mut events) = channel_on(&connection).await?;
    let (other, _other_events) = channel_on(&connection).await?;
    let queue = durable(&channel, "cancelled", FieldTable::new()).await?;
    let (tag, _deliveries) = channel
        .basic_consume_rx(BasicConsumeArguments::new(&queue, "told"))
        .await?;
    delete(&other, &queue).await?;
    same(event(&mut events).await?, Event::Cancelled(tag))?;
    exclusive(&channel).await?;
    Ok(())
}

async fn dead_letters_and_priorities() -> Outcome {
    let (connection, _events) = connect().await?;
    let (channel, _channel_events) = channel_on(&connection).await?;
    let dead = durable(&channel, "dead", FieldTable::new()).await?;
    let arguments = table([
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", dead.as_str().into()),
        ("x-message-ttl", FieldValue::I(100)),
    ]);
    let queue = durable(&channel, "ttl", arguments).await?;
    publish(&channel, "", &queue, b"x", BasicProperties::default()).await?;
    let (_, properties, _) = get(&channel, &dead, true).await?;
    let headers = properties.headers().ok_or("no headers")?.clone();
    let key = |key: &str| key.try_into().expect("a short key");
    let Some(FieldValue::A(deaths)) = headers.get(&key("x-death")) else {
        return Err("no array x-death".into());
    };
    let deaths: Vec<FieldValue> = deaths.clone().into();
    let [FieldValue::F(death)] = &deaths[..] else {
        return Err("x-death does not hold one table".into());
    };
    same(death.get(&key("count")), Some(&FieldValue::l(1)))?;
    same(death.get(&key("reason")), Some(&"expired".into()))?;
    same(death.get(&key("queue")), Some(&queue.as_str().into()))?;
    same(death.get(&key("exchange")), Some(&"".into()))?;
    let keys: FieldArray = vec![FieldValue::from(queue.as_str())].try_into()?;
    same(death.get(&key("routing-keys")), Some(&FieldValue::A(keys)))?;
    same(
        matches!(death.get(&key("time")), Some(FieldValue::T(_))),
        true,
    )?;
    delete(&channel, &queue).await?;
    delete(&channel, &dead).await?;
    let queue = durable(
        &channel,
        "priority",
        table([("x-max-priority", FieldValue::b(5))]),
    )
    .await?;
    for priority in [0u8, 5, 3] {
        let properties = BasicProperties::default().with_priority(priority).finish();
        publish(&channel, "", &queue, &[priority], properties).await?;
    }
    until(|| async {
        ready(&channel, &queue)
            .await
            .is_ok_and(|(messages, _)| messages == 3)
    })
    .await?;
    for wanted in [5u8, 3, 0] {
        same(get(&channel, &queue, true).await?.2, vec![wanted])?;
    }
    delete(&channel, &queue).await
}

async fn all_table_types_come_back() -> Outcome {
    let (connection, _events) = connect().await?;
    let (channel, _channel_events) = channel_on(&connection).await?;
    let queue = exclusive(&channel).await?;
    let array: FieldArray = vec![FieldValue::I(1), "two".into(), FieldValue::V].try_into()?;
    let bytes: ByteArray = vec![0u8, 255, 1].try_into()?;
    let headers = table([
        ("t", FieldValue::t(true)),
        ("b", FieldValue::b(-5)),
        ("B", FieldValue::B(250)),
        ("s", FieldValue::s(-300)),
        ("u", FieldValue::u(60000)),
        ("I", FieldValue::I(-70000)),
        ("i", FieldValue::i(4_000_000_000)),
        ("l", FieldValue::l(-(1 << 40))),
        ("f", FieldValue::f(1.5)),
        ("d", FieldValue::d(-2.25)),
        ("D", FieldValue::D(DecimalValue::new(2, 314))),
        ("S", "häre".into()),
        ("A", FieldValue::A(array)),
        ("T", FieldValue::T(1_700_000_000)),
        (
            "F",
            FieldValue::F(table([("deep", true.into()), ("none", FieldValue::V)])),
        ),
        ("V", FieldValue::V),
        ("x", FieldValue::x(bytes)),
    ]);
    let properties = BasicProperties::default()
        .with_headers(headers.clone())
        .finish();
    publish(&channel, "", &queue, b"", properties).await?;
    let (_, properties, _) = get(&channel, &queue, true).await?;
    same(properties.headers(), Some(&headers))
}

async fn large_body_in_many_frames() -> Outcome {
    let (connection, _events) = connect().await?;
    let (channel, _channel_events) = channel_on(&connection).await?;
    let queue = exclusive(&channel).await?;
    let body: Vec<u8> = (0..5u32 << 20)
        .map(|byte| (byte.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    publish(&channel, "", &queue, &body, BasicProperties::default()).await?;
    let got = get(&channel, &queue, true).await?.2;
    same((got.len(), got == body), (body.len(), true))
}

/// amqprs closes a connection whose peer sends no heartbeat.
async fn idle_connection_lives_on_heartbeats() -> Outcome {
    let connection = Connection::open(arguments("guest")?.heartbeat(1)).await?;
    same(connection.heartbeat(), 1)?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    same(connection.is_open(), true)?;
    let (channel, _events) = channel_on(&connection).await?;
    exclusive(&channel).await?;
    Ok(())
}

async fn durable_definitions_survive_a_kill() -> Outcome {
    let (connection, _events) = connect().await?;
    let (channel, _channel_events) = channel_on(&connection).await?;
    let queue = durable(&channel, "kept", FieldTable::new()).await?;
    let exchange = name("kept");
    channel
        .exchange_declare(
            ExchangeDeclareArguments::new(&exchange, "topic")
                .durable(true)
                .finish(),
        )
        .await?;
    channel
        .queue_bind(QueueBindArguments::new(&queue, &exchange, "k.#"))
        .await?;
    // It only tells those who listen at the moment of the failure.
    let (restarted, lost) = tokio::join!(restart_broker(), connection.listen_network_io_failure());
    restarted?;
    same(lost, true)?;
    let (connection, _events) = connect().await?;
    let (channel, _channel_events) = channel_on(&connection).await?;
    publish(
        &channel,
        &exchange,
        "k.1",
        b"after",
        BasicProperties::default(),
    )
    .await?;
    same(get(&channel, &queue, true).await?.2, b"after".to_vec())?;
    channel
        .exchange_delete(ExchangeDeleteArguments::new(&exchange))
        .await?;
    delete(&channel, &queue).await
}

#[tokio::main]
async fn main() {
    let mut checks = Checks::default();
    checks
        .run("wrong_password_ends_the_socket", wrong_password())
        .await;
    checks
        .run(
            "server_announces_all_capabilities_and_limits",
            server_properties(),
        )
        .await;
    checks
        .run(
            "consumes_acknowledges_and_rejects",
            consumes_acknowledges_and_rejects(),
        )
        .await;
    checks
        .run("confirms_and_returns", confirms_and_returns())
        .await;
    checks
        .run(
            "transaction_commits_and_rolls_back",
            transaction_commits_and_rolls_back(),
        )
        .await;
    checks
        .run(
            "rpc_by_direct_reply_to_and_by_a_reply_queue",
            rpc_both_ways(),
        )
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
            "consumer_is_told_when_its_queue_is_deleted",
            consumer_is_told_when_its_queue_is_deleted(),
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
    checks.finish()
}
