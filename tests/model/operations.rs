//! What clients can do in a run: plain values, so that a run can be printed, replayed and cut down.
//!
//! In: nothing. Out: nothing. How an operation is sent and what it must lead to is not known here.

use crate::plain::message::Message;
use crate::plain::queue::Arguments;
use crate::plain::routing::Exchange;

/// Text arguments or headers.
pub type Texts = Vec<(&'static str, &'static str)>;

/// A publish.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Exchange, key, properties and body.
    pub message: Message,
    pub bcc: Vec<String>,
    pub mandatory: bool,
}

/// The two ends of a binding and what lies between.
#[derive(Clone, Debug)]
pub struct BindingAsked {
    pub is_queue: bool,
    pub source: String,
    pub target: String,
    pub key: String,
    pub arguments: Texts,
}

/// What a client does on one of its channels.
#[derive(Clone, Debug)]
pub enum Act {
    DeclareExchange {
        name: String,
        exchange: Exchange,
    },
    FindExchange {
        name: String,
    },
    DeleteExchange {
        name: String,
        if_unused: bool,
    },
    Bind(BindingAsked),
    Unbind(BindingAsked),
    DeclareQueue {
        name: String,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: Arguments,
    },
    FindQueue {
        name: String,
    },
    DeleteQueue {
        name: String,
        if_unused: bool,
        if_empty: bool,
    },
    Purge {
        name: String,
    },
    /// All of them in one burst.
    Publish(Vec<Publication>),
    Qos {
        prefetch: u16,
    },
    Consume {
        queue: String,
        tag: String,
        no_ack: bool,
        exclusive: bool,
        priority: i32,
    },
    Cancel {
        tag: String,
    },
    Get {
        queue: String,
        no_ack: bool,
    },
    Ack {
        tag: u64,
        multiple: bool,
    },
    Nack {
        tag: u64,
        multiple: bool,
        requeue: bool,
    },
    Reject {
        tag: u64,
        requeue: bool,
    },
    Recover,
    ConfirmSelect,
    TxSelect,
    TxCommit,
    TxRollback,
    CloseChannel,
}

/// A step of a run.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Opens a connection with channel 1, unless there is one.
    Connect { client: usize },
    /// Opens a channel, unless it is open.
    OpenChannel { client: usize, channel: u16 },
    /// connection.close.
    Disconnect { client: usize },
    /// The socket goes without a word.
    HangUp { client: usize },
    /// Does something on an open channel.
    Do {
        client: usize,
        channel: u16,
        act: Act,
    },
    /// Time passes.
    Advance { ms: u64 },
}

impl Operation {
    /// In one line, to be read after a failure.
    pub fn describe(&self) -> String {
        match self {
            Self::Do {
                client,
                channel,
                act,
            } => format!("client {client} channel {channel}: {act:?}"),
            other => format!("{other:?}"),
        }
    }
}
