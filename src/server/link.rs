//! What reaches a connection's task from outside its socket and inbox: late answers, orders to close,
//! changes of the node's alarms.

use std::task::{Context, Waker};

use parking_lot::Mutex;

use crate::broker::ReplySink;
use crate::broker::registry::ConnectionControl;
use crate::model::{ChannelNumber, Refusal, Reply};

/// One thing for the connection's task to do.
#[derive(Debug)]
pub enum LinkEvent {
    /// The answer to a command that was not answered at once.
    Reply(ChannelNumber, Result<Reply, Refusal>),
    /// Close the connection with this.
    Close(Refusal),
    /// Look at the node's alarms.
    AlarmChanged,
}

#[derive(Debug, Default)]
struct Slot {
    events: Vec<LinkEvent>,
    waker: Option<Waker>,
}

/// The mailbox of one connection's task.
///
/// It is bounded by what causes its events: one answer a channel, and orders that are merged.
#[derive(Debug, Default)]
pub struct ConnectionLink {
    slot: Mutex<Slot>,
}

impl ConnectionLink {
    /// Takes all events, and remembers whom to wake for the next.
    pub fn take(&self, cx: &Context<'_>) -> Vec<LinkEvent> {
        let mut slot = self.slot.lock();
        if !slot
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            slot.waker = Some(cx.waker().clone());
        }
        std::mem::take(&mut slot.events)
    }

    fn push(&self, event: LinkEvent) {
        let mut slot = self.slot.lock();
        slot.events.push(event);
        let waker = slot.waker.clone();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl ReplySink for ConnectionLink {
    fn reply(&self, channel: ChannelNumber, reply: Result<Reply, Refusal>) {
        self.push(LinkEvent::Reply(channel, reply));
    }
}

impl ConnectionControl for ConnectionLink {
    fn close(&self, refusal: Refusal) {
        let is_closing = self
            .slot
            .lock()
            .events
            .iter()
            .any(|event| matches!(event, LinkEvent::Close(_)));
        if !is_closing {
            self.push(LinkEvent::Close(refusal));
        }
    }

    fn alarm_changed(&self) {
        let is_known = self
            .slot
            .lock()
            .events
            .iter()
            .any(|event| matches!(event, LinkEvent::AlarmChanged));
        if !is_known {
            self.push(LinkEvent::AlarmChanged);
        }
    }
}
