//! The usual things that clients do, with the usual answers expected.

use haremq::protocol::{
    Properties, Value, basic, channel, confirm, connection, exchange, queue, tx,
};

use super::{Client, short, table};

impl Client {
    /// From the protocol header to connection.open-ok, with the capabilities that clients have.
    #[track_caller]
    pub fn handshake(&mut self, user: &str, password: &str, vhost: &str) {
        self.begin();
        self.login(user, password);
        self.tune();
        self.send(connection::Open {
            virtual_host: short(vhost),
        });
        self.expect(connection::OpenOk);
    }

    /// The protocol header, and connection.start.
    #[track_caller]
    pub fn begin(&mut self) {
        self.send_octets(b"AMQP\0\0\x09\x01");
        assert!(matches!(
            self.next().method(),
            haremq::protocol::Method::ConnectionStart(_)
        ));
    }

    /// connection.start-ok with PLAIN.
    pub fn login(&mut self, user: &str, password: &str) {
        let response = format!("\0{user}\0{password}");
        let capabilities = [
            "consumer_cancel_notify",
            "connection.blocked",
            "authentication_failure_close",
        ];
        self.start_ok("PLAIN", response.as_bytes(), &capabilities);
    }

    /// connection.start-ok.
    pub fn start_ok(&mut self, mechanism: &str, response: &[u8], capabilities: &[&str]) {
        let capabilities = capabilities
            .iter()
            .map(|name| (*name, Value::Bool(true)))
            .collect();
        let properties = table(&[
            ("capabilities", Value::Table(capabilities)),
            ("connection_name", "conformance".into()),
        ]);
        self.send(connection::StartOk {
            client_properties: properties.as_table(),
            mechanism: short(mechanism),
            response,
            locale: short("en_US"),
        });
    }

    /// connection.tune, answered with what was offered but for heartbeats.
    #[track_caller]
    pub fn tune(&mut self) {
        self.expect_tune();
        self.tune_ok(2047, 131_072, 0);
    }

    /// connection.tune with the defaults.
    #[track_caller]
    pub fn expect_tune(&mut self) {
        let received = self.next();
        assert!(
            matches!(
                received.method(),
                haremq::protocol::Method::ConnectionTune(_)
            ),
            "{} instead of connection.tune",
            received.describe()
        );
    }

    /// connection.tune-ok.
    pub fn tune_ok(&mut self, channel_max: u16, frame_max: u32, heartbeat: u16) {
        self.send(connection::TuneOk {
            channel_max,
            frame_max,
            heartbeat,
        });
    }

    /// connection.close, and its answer.
    #[track_caller]
    pub fn close(mut self) {
        self.send(connection::Close {
            reply_code: 200,
            ..connection::Close::default()
        });
        self.expect(connection::CloseOk);
        assert!(self.ended().is_some());
    }

    /// channel.open; the channel is the present one from now on.
    #[track_caller]
    pub fn open_channel(&mut self, number: u16) {
        self.on(number).send(channel::Open);
        self.expect(channel::OpenOk);
    }

    /// channel.close, and its answer.
    #[track_caller]
    pub fn close_channel(&mut self) {
        self.send(channel::Close {
            reply_code: 200,
            ..channel::Close::default()
        });
        self.expect(channel::CloseOk);
    }

    /// Declares a durable queue; gives its counts of messages and consumers.
    #[track_caller]
    pub fn declare(&mut self, name: &str, arguments: &[(&str, Value)]) -> (u32, u32) {
        self.try_declare(name, arguments);
        self.expect_declared(name)
    }

    /// Asks for a durable queue.
    pub fn try_declare(&mut self, name: &str, arguments: &[(&str, Value)]) {
        self.send(queue::Declare {
            queue: short(name),
            durable: true,
            arguments: table(arguments).as_table(),
            ..queue::Declare::default()
        });
    }

    /// queue.declare-ok with this name comes next; gives the counts.
    #[track_caller]
    pub fn expect_declared(&mut self, name: &str) -> (u32, u32) {
        let received = self.next();
        match received.method() {
            haremq::protocol::Method::QueueDeclareOk(ok) if ok.queue == *name => {
                (ok.message_count, ok.consumer_count)
            }
            _ => panic!("{} instead of queue.declare-ok {name}", received.describe()),
        }
    }

    /// Asks for a queue without declaring it.
    pub fn try_find(&mut self, name: &str) {
        self.send(queue::Declare {
            queue: short(name),
            passive: true,
            ..queue::Declare::default()
        });
    }

    /// The counts of ready messages and consumers of a queue that exists.
    #[track_caller]
    pub fn counts(&mut self, name: &str) -> (u32, u32) {
        self.try_find(name);
        self.expect_declared(name)
    }

    /// A queue does not exist; the channel is used up and opened again.
    #[track_caller]
    pub fn expect_no_queue(&mut self, name: &str) {
        self.try_find(name);
        let text = format!("NOT_FOUND - no queue '{name}' in vhost '/'");
        self.expect_channel_close(404, &text, (50, 10));
        self.open_channel(self.channel);
    }

    /// An exchange does not exist; the channel is used up and opened again.
    #[track_caller]
    pub fn expect_no_exchange(&mut self, name: &str) {
        self.send(exchange::Declare {
            exchange: short(name),
            passive: true,
            ..exchange::Declare::default()
        });
        let text = format!("NOT_FOUND - no exchange '{name}' in vhost '/'");
        self.expect_channel_close(404, &text, (40, 10));
        self.open_channel(self.channel);
    }

    /// An exchange exists.
    #[track_caller]
    pub fn expect_exchange(&mut self, name: &str) {
        self.send(exchange::Declare {
            exchange: short(name),
            passive: true,
            ..exchange::Declare::default()
        });
        self.expect(exchange::DeclareOk);
    }

    /// Declares a durable exchange.
    #[track_caller]
    pub fn declare_exchange(&mut self, name: &str, kind: &str, arguments: &[(&str, Value)]) {
        self.try_declare_exchange(name, kind, arguments);
        self.expect(exchange::DeclareOk);
    }

    /// Asks for a durable exchange.
    pub fn try_declare_exchange(&mut self, name: &str, kind: &str, arguments: &[(&str, Value)]) {
        self.send(exchange::Declare {
            exchange: short(name),
            type_: short(kind),
            durable: true,
            arguments: table(arguments).as_table(),
            ..exchange::Declare::default()
        });
    }

    /// Binds a queue.
    #[track_caller]
    pub fn bind(&mut self, queue: &str, exchange: &str, routing_key: &str) {
        self.bind_with(queue, exchange, routing_key, &[]);
    }

    /// Binds a queue with arguments.
    #[track_caller]
    pub fn bind_with(
        &mut self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: &[(&str, Value)],
    ) {
        self.try_bind(queue, exchange, routing_key, arguments);
        self.expect(queue::BindOk);
    }

    /// Asks for a binding of a queue.
    pub fn try_bind(
        &mut self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: &[(&str, Value)],
    ) {
        self.send(queue::Bind {
            queue: short(queue),
            exchange: short(exchange),
            routing_key: short(routing_key),
            no_wait: false,
            arguments: table(arguments).as_table(),
        });
    }

    /// Removes a binding of a queue.
    #[track_caller]
    pub fn unbind(&mut self, queue: &str, exchange: &str, routing_key: &str) {
        self.send(queue::Unbind {
            queue: short(queue),
            exchange: short(exchange),
            routing_key: short(routing_key),
            ..queue::Unbind::default()
        });
        self.expect(queue::UnbindOk);
    }

    /// Binds an exchange to another.
    #[track_caller]
    pub fn bind_exchange(&mut self, destination: &str, source: &str, routing_key: &str) {
        self.send(exchange::Bind {
            destination: short(destination),
            source: short(source),
            routing_key: short(routing_key),
            ..exchange::Bind::default()
        });
        self.expect(exchange::BindOk);
    }

    /// Publishes a text.
    pub fn publish(&mut self, exchange: &str, routing_key: &str, body: &str) {
        self.publish_with(exchange, routing_key, &Properties::default(), body);
    }

    /// Publishes a text with properties.
    pub fn publish_with(
        &mut self,
        exchange: &str,
        routing_key: &str,
        properties: &Properties,
        body: &str,
    ) {
        let method = basic::Publish {
            exchange: short(exchange),
            routing_key: short(routing_key),
            ..basic::Publish::default()
        };
        self.send_content(method, properties, body.as_bytes());
    }

    /// Publishes a text that is to come back if no queue takes it.
    pub fn publish_mandatory(&mut self, exchange: &str, routing_key: &str, body: &str) {
        let method = basic::Publish {
            exchange: short(exchange),
            routing_key: short(routing_key),
            mandatory: true,
            immediate: false,
        };
        self.send_content(method, &Properties::default(), body.as_bytes());
    }

    /// Consumes with this tag and acknowledgements.
    #[track_caller]
    pub fn consume(&mut self, queue: &str, consumer_tag: &str) {
        self.consume_with(queue, consumer_tag, &[]);
    }

    /// Consumes with arguments.
    #[track_caller]
    pub fn consume_with(&mut self, queue: &str, consumer_tag: &str, arguments: &[(&str, Value)]) {
        self.send(basic::Consume {
            queue: short(queue),
            consumer_tag: short(consumer_tag),
            arguments: table(arguments).as_table(),
            ..basic::Consume::default()
        });
        self.expect(basic::ConsumeOk {
            consumer_tag: short(consumer_tag),
        });
    }

    /// Consumes without acknowledgements.
    #[track_caller]
    pub fn consume_no_ack(&mut self, queue: &str, consumer_tag: &str) {
        self.send(basic::Consume {
            queue: short(queue),
            consumer_tag: short(consumer_tag),
            no_ack: true,
            ..basic::Consume::default()
        });
        self.expect(basic::ConsumeOk {
            consumer_tag: short(consumer_tag),
        });
    }

    /// Cancels a consumer.
    #[track_caller]
    pub fn cancel(&mut self, consumer_tag: &str) {
        self.send(basic::Cancel {
            consumer_tag: short(consumer_tag),
            no_wait: false,
        });
        self.expect(basic::CancelOk {
            consumer_tag: short(consumer_tag),
        });
    }

    /// basic.qos.
    #[track_caller]
    pub fn qos(&mut self, prefetch_count: u16, global: bool) {
        self.send(basic::Qos {
            prefetch_size: 0,
            prefetch_count,
            global,
        });
        self.expect(basic::QosOk);
    }

    /// basic.ack of one.
    pub fn ack(&mut self, delivery_tag: u64) {
        self.send(basic::Ack {
            delivery_tag,
            multiple: false,
        });
    }

    /// basic.ack of all up to this one.
    pub fn ack_multiple(&mut self, delivery_tag: u64) {
        self.send(basic::Ack {
            delivery_tag,
            multiple: true,
        });
    }

    /// basic.nack of one.
    pub fn nack(&mut self, delivery_tag: u64, requeue: bool) {
        self.send(basic::Nack {
            delivery_tag,
            multiple: false,
            requeue,
        });
    }

    /// basic.reject.
    pub fn reject(&mut self, delivery_tag: u64, requeue: bool) {
        self.send(basic::Reject {
            delivery_tag,
            requeue,
        });
    }

    /// confirm.select.
    #[track_caller]
    pub fn confirm(&mut self) {
        self.send(confirm::Select { no_wait: false });
        self.expect(confirm::SelectOk);
    }

    /// tx.select.
    #[track_caller]
    pub fn transact(&mut self) {
        self.send(tx::Select);
        self.expect(tx::SelectOk);
    }

    /// queue.delete; gives the number of messages that went with it.
    #[track_caller]
    pub fn delete(&mut self, queue: &str) -> u32 {
        self.send(queue::Delete {
            queue: short(queue),
            ..queue::Delete::default()
        });
        let received = self.next();
        match received.method() {
            haremq::protocol::Method::QueueDeleteOk(ok) => ok.message_count,
            _ => panic!("{} instead of queue.delete-ok", received.describe()),
        }
    }
}
