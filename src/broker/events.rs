//! What happens on the node, told to those who listen: objects that come and go, connections, alarms, policies.
//!
//! In: events, made only if somebody listens. Out: each listener's own bounded row of them; who is too slow misses the oldest and is
//! told how many. Nobody who causes an event waits for a listener. What a listener does with events is not known here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::Broker;
use crate::model::{Name, WallMs};

/// Events that wait for one listener at most.
const WAITING_MAX: usize = 1024;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// `queue.created`
    QueueCreated,
    /// `queue.deleted`
    QueueDeleted,
    /// `exchange.created`
    ExchangeCreated,
    /// `exchange.deleted`
    ExchangeDeleted,
    /// `binding.created`
    BindingCreated,
    /// `binding.deleted`
    BindingDeleted,
    /// `connection.created`
    ConnectionCreated,
    /// `connection.closed`
    ConnectionClosed,
    /// `channel.created`
    ChannelCreated,
    /// `channel.closed`
    ChannelClosed,
    /// `vhost.created`
    VhostCreated,
    /// `vhost.deleted`
    VhostDeleted,
    /// `user.created`
    UserCreated,
    /// `user.deleted`
    UserDeleted,
    /// `policy.set`
    PolicySet,
    /// `policy.cleared`
    PolicyCleared,
    /// `parameter.set`
    ParameterSet,
    /// `parameter.cleared`
    ParameterCleared,
    /// `alarm.set`
    AlarmSet,
    /// `alarm.cleared`
    AlarmCleared,
}

impl EventKind {
    /// The name, as RabbitMQ's event exchange spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueCreated => "queue.created",
            Self::QueueDeleted => "queue.deleted",
            Self::ExchangeCreated => "exchange.created",
            Self::ExchangeDeleted => "exchange.deleted",
            Self::BindingCreated => "binding.created",
            Self::BindingDeleted => "binding.deleted",
            Self::ConnectionCreated => "connection.created",
            Self::ConnectionClosed => "connection.closed",
            Self::ChannelCreated => "channel.created",
            Self::ChannelClosed => "channel.closed",
            Self::VhostCreated => "vhost.created",
            Self::VhostDeleted => "vhost.deleted",
            Self::UserCreated => "user.created",
            Self::UserDeleted => "user.deleted",
            Self::PolicySet => "policy.set",
            Self::PolicyCleared => "policy.cleared",
            Self::ParameterSet => "parameter.set",
            Self::ParameterCleared => "parameter.cleared",
            Self::AlarmSet => "alarm.set",
            Self::AlarmCleared => "alarm.cleared",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in milliseconds since the Unix epoch.
    pub time_ms: WallMs,
    /// What.
    pub kind: EventKind,
    /// The virtual host that it concerns, if it concerns one alone.
    pub vhost: Option<Name>,
    /// The name of the object.
    pub name: Name,
    /// What else there is to say, by its key in RabbitMQ's events.
    pub details: Vec<(&'static str, String)>,
}

/// What a listener gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The next event.
    Event(Arc<Event>),
    /// The listener was too slow for so many events.
    Missed(u64),
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Arc<Event>>,
    missed: u64,
    waker: Option<Waker>,
}

/// One listener's row.
#[derive(Debug, Default)]
struct Row(Mutex<Waiting>);

/// The place where events are told.
#[derive(Debug, Default)]
pub struct Events {
    /// Asked before anything else, so that an event without listeners costs one load.
    listeners: Arc<AtomicUsize>,
    rows: Mutex<Vec<Weak<Row>>>,
}

/// A listener. It ends when it is dropped.
#[derive(Debug)]
pub struct Subscription {
    row: Arc<Row>,
    listeners: Arc<AtomicUsize>,
}

impl Events {
    /// Listens from now on.
    pub fn subscribe(&self) -> Subscription {
        let row = Arc::new(Row::default());
        let mut rows = self.rows.lock();
        rows.retain(|row| row.strong_count() > 0);
        rows.push(Arc::downgrade(&row));
        self.listeners.fetch_add(1, Ordering::Relaxed);
        Subscription {
            row,
            listeners: Arc::clone(&self.listeners),
        }
    }

    /// Whether anybody listens.
    pub fn has_listeners(&self) -> bool {
        self.listeners.load(Ordering::Relaxed) > 0
    }

    /// Tells every listener; `event` is made only if there is one.
    pub fn publish(&self, event: impl FnOnce() -> Event) {
        if !self.has_listeners() {
            return;
        }
        let event = Arc::new(event());
        let rows: Vec<Arc<Row>> = self.rows.lock().iter().filter_map(Weak::upgrade).collect();
        for row in rows {
            let mut waiting = row.0.lock();
            if waiting.events.len() >= WAITING_MAX {
                waiting.events.pop_front();
                waiting.missed += 1;
            }
            waiting.events.push_back(Arc::clone(&event));
            let waker = waiting.waker.take();
            drop(waiting);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl Subscription {
    /// What is next; the task is woken when there is more.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Told> {
        let mut waiting = self.row.0.lock();
        if waiting.missed > 0 {
            return Poll::Ready(Told::Missed(std::mem::take(&mut waiting.missed)));
        }
        match waiting.events.pop_front() {
            Some(event) => Poll::Ready(Told::Event(event)),
            None => {
                waiting.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Waits for what is next.
    pub async fn next(&mut self) -> Told {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Broker {
    /// Tells listeners of an object.
    pub(super) fn tell(&self, kind: EventKind, vhost: Option<&Name>, name: &Name) {
        self.events.publish(|| Event {
            time_ms: self.clock.now().wall_ms,
            kind,
            vhost: vhost.cloned(),
            name: Arc::clone(name),
            details: Vec::new(),
        });
    }

    /// Tells listeners that the node's alarms have changed.
    pub fn tell_alarms(&self) {
        let reason = self.alarms.reason();
        let kind = match reason {
            Some(_) => EventKind::AlarmSet,
            None => EventKind::AlarmCleared,
        };
        self.tell(kind, None, &Name::from(reason.unwrap_or("none")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64) -> Event {
        Event {
            time_ms: number,
            kind: EventKind::QueueCreated,
            vhost: Some("/".into()),
            name: "q".into(),
            details: Vec::new(),
        }
    }

    fn next(subscription: &mut Subscription) -> Option<Told> {
        let mut cx = Context::from_waker(Waker::noop());
        match subscription.poll_next(&mut cx) {
            Poll::Ready(told) => Some(told),
            Poll::Pending => None,
        }
    }

    #[test]
    fn nothing_is_made_when_nobody_listens() {
        let events = Events::default();
        events.publish(|| panic!("nobody listens"));
        drop(events.subscribe());
        events.publish(|| panic!("nobody listens any more"));
    }

    #[test]
    fn every_listener_hears_what_happens_after_it_came() {
        let events = Events::default();
        let mut first = events.subscribe();
        events.publish(|| event(1));
        let mut second = events.subscribe();
        events.publish(|| event(2));
        for number in [1, 2] {
            assert_eq!(next(&mut first), Some(Told::Event(event(number).into())));
        }
        assert_eq!(next(&mut first), None);
        assert_eq!(next(&mut second), Some(Told::Event(event(2).into())));
    }

    #[test]
    fn who_is_too_slow_is_told_how_much_it_missed() {
        let events = Events::default();
        let mut slow = events.subscribe();
        for number in 0..WAITING_MAX as u64 + 3 {
            events.publish(|| event(number));
        }
        assert_eq!(next(&mut slow), Some(Told::Missed(3)));
        assert_eq!(next(&mut slow), Some(Told::Event(event(3).into())));
        let rest = std::iter::from_fn(|| next(&mut slow)).count();
        assert_eq!(rest, WAITING_MAX - 1);
    }

    #[tokio::test]
    async fn a_listener_is_woken() {
        let events = Arc::new(Events::default());
        let mut listener = events.subscribe();
        let teller = Arc::clone(&events);
        let told = tokio::spawn(async move { listener.next().await });
        tokio::task::yield_now().await;
        teller.publish(|| event(7));
        assert_eq!(told.await.ok(), Some(Told::Event(event(7).into())));
    }
}
