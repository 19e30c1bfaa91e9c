//! What a client expects to come next. Each of these fails the test where it is called.

use haremq::protocol::{Method, Properties, basic, channel, connection};

use super::{Client, Message, Received, short};

impl Client {
    /// The next thing that came; fails if there is nothing.
    #[track_caller]
    pub fn next(&mut self) -> Received {
        self.receive().expect("nothing came")
    }

    /// This method comes next on the present channel (or on 0, for class connection).
    #[track_caller]
    pub fn expect<'a>(&mut self, method: impl Into<Method<'a>>) {
        let method = method.into();
        let channel = if method.class_id() == 10 {
            0
        } else {
            self.channel
        };
        let Some(received) = self.receive() else {
            panic!("nothing came instead of {method:?}");
        };
        assert!(
            !received.is_heartbeat() && received.method() == method && received.channel == channel,
            "{} instead of {method:?} on channel {channel}",
            received.describe()
        );
    }

    /// Nothing comes.
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        if let Some(received) = self.receive() {
            panic!("{} instead of nothing", received.describe());
        }
    }

    /// The server closes the present channel; the client answers.
    #[track_caller]
    pub fn expect_channel_close(&mut self, code: u16, text: &str, at: (u16, u16)) {
        let received = self.next();
        let close = match received.method() {
            Method::ChannelClose(close) => close,
            _ => panic!("{} instead of channel.close {code}", received.describe()),
        };
        assert_eq!(
            (close.reply_code, close.reply_text.to_string().as_str()),
            (code, text)
        );
        assert_eq!((close.class_id, close.method_id), at, "class and method");
        assert_eq!(received.channel, self.channel, "the channel");
        self.expect_nothing();
        self.send(channel::CloseOk);
    }

    /// The server closes the connection; the client answers, and the server hangs up.
    #[track_caller]
    pub fn expect_connection_close(&mut self, code: u16, text: &str, at: (u16, u16)) {
        let received = self.next();
        let close = match received.method() {
            Method::ConnectionClose(close) => close,
            _ => panic!("{} instead of connection.close {code}", received.describe()),
        };
        assert_eq!(
            (close.reply_code, close.reply_text.to_string().as_str()),
            (code, text)
        );
        assert_eq!((close.class_id, close.method_id), at, "class and method");
        assert_eq!(received.channel, 0, "the channel");
        self.expect_nothing();
        self.send(connection::CloseOk);
        assert!(self.ended().is_some(), "the server hangs up");
    }

    /// The server closes the connection, and does not listen any more; it hangs up after a while.
    #[track_caller]
    pub fn expect_connection_close_unanswered(&mut self, code: u16, text: &str, at: (u16, u16)) {
        let received = self.next();
        let close = match received.method() {
            Method::ConnectionClose(close) => close,
            _ => panic!("{} instead of connection.close {code}", received.describe()),
        };
        assert_eq!(
            (close.reply_code, close.reply_text.to_string().as_str()),
            (code, text)
        );
        assert_eq!((close.class_id, close.method_id), at, "class and method");
    }

    /// The server hangs up without having said anything.
    #[track_caller]
    pub fn expect_hang_up(&mut self) {
        self.expect_nothing();
        assert!(self.ended().is_some(), "the server hangs up");
    }

    /// A message comes next: by deliver, get-ok or return.
    #[track_caller]
    pub fn message(&mut self) -> Message {
        let received = self.next();
        match Message::of(&received) {
            Some(message) => message,
            None => panic!("{} instead of a message", received.describe()),
        }
    }

    /// A delivery with this body comes next.
    #[track_caller]
    pub fn expect_delivery(&mut self, body: &str) -> Message {
        let message = self.message();
        assert!(!message.consumer_tag.is_empty(), "a delivery");
        assert_eq!(message.text(), body);
        message
    }

    /// Exactly these deliveries come, and nothing else.
    #[track_caller]
    pub fn expect_deliveries(&mut self, bodies: &[&str]) -> Vec<Message> {
        let mut messages = Vec::new();
        for body in bodies {
            messages.push(self.expect_delivery(body));
        }
        self.expect_nothing();
        messages
    }

    /// A return comes next: code, text, exchange, key and body.
    #[track_caller]
    pub fn expect_return(&mut self, exchange: &str, routing_key: &str, body: &str) -> Message {
        let message = self.message();
        assert_eq!(message.returned, Some((312, "NO_ROUTE".to_owned())));
        assert_eq!(
            (
                message.exchange.as_str(),
                message.routing_key.as_str(),
                message.text()
            ),
            (exchange, routing_key, body)
        );
        message
    }

    /// The server cancels a consumer.
    #[track_caller]
    pub fn expect_cancel(&mut self, consumer_tag: &str) {
        self.expect(basic::Cancel {
            consumer_tag: short(consumer_tag),
            no_wait: true,
        });
    }

    /// The server confirms.
    #[track_caller]
    pub fn expect_ack(&mut self, delivery_tag: u64, multiple: bool) {
        self.expect(basic::Ack {
            delivery_tag,
            multiple,
        });
    }

    /// The server refuses a publish.
    #[track_caller]
    pub fn expect_nack(&mut self, delivery_tag: u64) {
        self.expect(basic::Nack {
            delivery_tag,
            multiple: false,
            requeue: false,
        });
    }

    /// A message with this body is got from a queue, without acknowledgement.
    #[track_caller]
    pub fn expect_get(&mut self, queue: &str, body: &str) -> Message {
        self.send(basic::Get {
            queue: short(queue),
            no_ack: true,
        });
        let message = self.message();
        assert_eq!(message.text(), body);
        message
    }

    /// A queue has nothing ready.
    #[track_caller]
    pub fn expect_get_empty(&mut self, queue: &str) {
        self.send(basic::Get {
            queue: short(queue),
            no_ack: true,
        });
        self.expect(basic::GetEmpty);
    }

    /// Exactly these messages are ready in a queue; they are taken.
    #[track_caller]
    pub fn expect_contents(&mut self, queue: &str, bodies: &[&str]) {
        for body in bodies {
            self.expect_get(queue, body);
        }
        self.expect_get_empty(queue);
    }

    /// A message is got from a queue, to be settled.
    #[track_caller]
    pub fn get(&mut self, queue: &str) -> Message {
        self.send(basic::Get {
            queue: short(queue),
            no_ack: false,
        });
        self.message()
    }

    /// The properties of a message that is got from a queue, without acknowledgement.
    #[track_caller]
    pub fn get_properties(&mut self, queue: &str) -> Properties {
        self.send(basic::Get {
            queue: short(queue),
            no_ack: true,
        });
        self.message().properties
    }
}
