//! What waits for a connection's task: deliveries and cancellations, bounded in bytes.
//!
//! In: events from queues, under their locks; out: the same, drained by the one task that owns the
//! connection, which is woken through a waker slot. Order is kept. Not known: sessions, sockets, credit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::model::{ChannelNumber, ConsumerId, Delivery, InboxEvent, Outlet, QueueId, Unsettled};

/// Events that a drained inbox may keep room for.
const EVENT_ROOM_KEPT: usize = 16;

/// A connection's inbox.
#[derive(Debug)]
pub struct Inbox {
    bytes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<InboxEvent>,
    /// Events that are no deliveries, and that no bytes bound.
    notices: usize,
    /// Reserved and not released.
    held_bytes: usize,
    /// Who was refused and has not been told since.
    refused: Vec<(ConsumerId, QueueId)>,
    /// Room was released since the last time that the refused were taken.
    has_room_for_refused: bool,
    /// The connection is ending: nothing more is reserved.
    is_refusing: bool,
    is_closed: bool,
    waker: Option<Waker>,
}

impl Inbox {
    /// An empty inbox for at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            inner: Mutex::default(),
        })
    }

    /// Moves every event to `events`. Returns the bytes of the deliveries among them, which stay held
    /// until [`Inbox::release`]: that is how a socket that takes nothing stops new deliveries.
    pub fn drain(&self, events: &mut Vec<InboxEvent>) -> usize {
        let mut inner = self.inner.lock();
        let bytes = inner.events.iter().map(cost_bytes).sum();
        events.extend(inner.events.drain(..));
        inner.notices = 0;
        if inner.events.capacity() > EVENT_ROOM_KEPT {
            inner.events = VecDeque::new();
        }
        bytes
    }

    /// Gives room back, once the bytes have gone on. The caller then asks [`Inbox::take_refused`].
    pub fn release(&self, bytes: usize) {
        self.inner.lock().release(bytes, self.bytes_max);
    }

    /// Moves to `refused` the consumers that found the inbox full, if it is half empty by now. Their
    /// queues must be told that they are ready.
    pub fn take_refused(&self, refused: &mut Vec<(ConsumerId, QueueId)>) {
        let mut inner = self.inner.lock();
        if !inner.has_room_for_refused {
            return;
        }
        inner.has_room_for_refused = false;
        refused.append(&mut inner.refused);
        inner.refused = Vec::new();
    }

    /// As [`Outlet::try_reserve`], for a delivery that is dropped when there is no room: nobody is told later.
    pub fn try_reserve_or_drop(&self, bytes: usize) -> bool {
        self.inner.lock().reserve(bytes, self.bytes_max)
    }

    /// Lets no further delivery in, because the connection is about to take its consumers out of their
    /// queues: what the first of them gives back is not handed to the next. What is reserved still arrives.
    pub fn refuse(&self) {
        self.inner.lock().is_refusing = true;
    }

    /// Takes the deliveries for a consumer that was cancelled, to be sent before the answer. They leave
    /// the inbox, so their bytes are released.
    pub fn take_for_consumer(&self, consumer: ConsumerId) -> Vec<Delivery> {
        self.forget_refused(consumer);
        self.take(
            |event| matches!(event, InboxEvent::Deliver(delivery) if delivery.consumer == consumer),
            |event| match event {
                InboxEvent::Deliver(delivery) => Some(delivery),
                _ => None,
            },
        )
    }

    /// Takes what waits for a channel that ended. Messages that somebody must give back are returned; what else waits for it goes.
    pub fn take_for_channel(&self, channel: ChannelNumber) -> Vec<Unsettled> {
        self.take(|event| channel_of(event) == channel, unsettled)
    }

    /// Closes the inbox and takes what is left. The caller has removed its consumers from their queues
    /// before, so that nothing can be on its way here.
    pub fn close(&self) -> Vec<Unsettled> {
        {
            let mut inner = self.inner.lock();
            inner.is_closed = true;
            inner.waker = None;
            inner.refused = Vec::new();
        }
        self.take(|_| true, unsettled)
    }

    /// Ends of consumers that wait to be told. They are bounded by whoever makes consumers: a connection that
    /// does not drain its inbox must not be let make more.
    pub fn notices(&self) -> usize {
        self.inner.lock().notices
    }

    /// Bytes reserved and not released.
    pub fn held_bytes(&self) -> usize {
        self.inner.lock().held_bytes
    }

    /// Ready when there is something to drain or a refused consumer to be told; else `cx` is woken when
    /// there is. One task polls.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.lock();
        if !inner.events.is_empty() || inner.has_room_for_refused {
            return Poll::Ready(());
        }
        match &mut inner.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// A consumer that is gone need not be told that there is room.
    fn forget_refused(&self, consumer: ConsumerId) {
        self.inner
            .lock()
            .refused
            .retain(|(refused, _)| *refused != consumer);
    }

    fn take<T>(
        &self,
        is_wanted: impl Fn(&InboxEvent) -> bool,
        keep: impl Fn(InboxEvent) -> Option<T>,
    ) -> Vec<T> {
        let mut inner = self.inner.lock();
        if !inner.events.iter().any(&is_wanted) {
            return Vec::new();
        }
        let mut taken = Vec::new();
        let mut bytes = 0;
        for event in std::mem::take(&mut inner.events) {
            if !is_wanted(&event) {
                inner.events.push_back(event);
                continue;
            }
            bytes += cost_bytes(&event);
            inner.notices -= usize::from(is_notice(&event));
            taken.extend(keep(event));
        }
        inner.release(bytes, self.bytes_max);
        taken
    }
}

impl Inner {
    fn reserve(&mut self, bytes: usize, bytes_max: usize) -> bool {
        let fits = !self.is_closed
            && !self.is_refusing
            && (self.held_bytes == 0 || self.held_bytes.saturating_add(bytes) <= bytes_max);
        if fits {
            self.held_bytes += bytes;
        }
        fits
    }

    fn release(&mut self, bytes: usize, bytes_max: usize) {
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
        if self.held_bytes <= bytes_max / 2 && !self.refused.is_empty() {
            self.has_room_for_refused = true;
        }
    }
}

impl Outlet for Inbox {
    fn try_reserve(&self, consumer: ConsumerId, queue: QueueId, bytes: usize) -> bool {
        let mut inner = self.inner.lock();
        let fits = inner.reserve(bytes, self.bytes_max);
        if !fits && !inner.is_closed && !inner.is_refusing {
            inner.refused.push((consumer, queue));
        }
        fits
    }

    fn push(&self, event: InboxEvent) {
        let mut inner = self.inner.lock();
        if !inner.is_closed {
            inner.notices += usize::from(is_notice(&event));
            inner.events.push_back(event);
        }
    }

    fn wake(&self) {
        let waker = self.inner.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// What a queue reserved for an event. The answer to a `basic.get` needs no reservation: a channel asks for one at a time.
fn cost_bytes(event: &InboxEvent) -> usize {
    match event {
        InboxEvent::Deliver(delivery) => delivery.message.cost_bytes(),
        InboxEvent::ConsumerCancelled { .. }
        | InboxEvent::ConsumerTimedOut { .. }
        | InboxEvent::Got { .. } => 0,
    }
}

/// Whether it tells of the end of a consumer.
fn is_notice(event: &InboxEvent) -> bool {
    match event {
        InboxEvent::ConsumerCancelled { .. } | InboxEvent::ConsumerTimedOut { .. } => true,
        InboxEvent::Deliver(_) | InboxEvent::Got { .. } => false,
    }
}

fn channel_of(event: &InboxEvent) -> ChannelNumber {
    match event {
        InboxEvent::Deliver(delivery) => delivery.channel,
        InboxEvent::ConsumerCancelled { channel, .. }
        | InboxEvent::ConsumerTimedOut { channel, .. }
        | InboxEvent::Got { channel, .. } => *channel,
    }
}

/// What an event that was not sent leaves unsettled.
fn unsettled(event: InboxEvent) -> Option<Unsettled> {
    match event {
        InboxEvent::Deliver(delivery) if !delivery.no_ack => Some(Unsettled {
            queue: delivery.queue?,
            position: delivery.position,
            consumer: Some(delivery.consumer),
        }),
        InboxEvent::Got {
            no_ack: false,
            got: Some(got),
            ..
        } => Some(Unsettled {
            queue: got.queue,
            position: got.position,
            consumer: None,
        }),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::model::{Got, Message, Position};
    use crate::protocol::PropertyFacts;

    const QUEUE: QueueId = QueueId(1);

    fn delivery(
        channel: ChannelNumber,
        consumer: u64,
        position: u64,
        body_bytes: usize,
    ) -> Delivery {
        let body = vec![0; body_bytes];
        let message = Message::copied("".into(), b"", &[0, 0], PropertyFacts::default(), &body);
        Delivery {
            channel,
            consumer: ConsumerId(consumer),
            consumer_tag: "tag".into(),
            queue: Some(QUEUE),
            position: Position(position),
            redelivered: false,
            no_ack: false,
            kind: crate::model::QueueKind::Classic,
            message: Arc::new(message),
            counts: None,
        }
    }

    fn offer(inbox: &Inbox, delivery: Delivery) -> bool {
        let cost = delivery.message.cost_bytes();
        let fits = inbox.try_reserve(delivery.consumer, QUEUE, cost);
        if fits {
            inbox.push(InboxEvent::Deliver(delivery));
        }
        fits
    }

    fn drain(inbox: &Inbox) -> (Vec<InboxEvent>, usize) {
        let mut events = Vec::new();
        let bytes = inbox.drain(&mut events);
        (events, bytes)
    }

    fn refused(inbox: &Inbox) -> Vec<(ConsumerId, QueueId)> {
        let mut refused = Vec::new();
        inbox.take_refused(&mut refused);
        refused
    }

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn drained_bytes_stay_held_until_they_are_released() {
        let inbox = Inbox::new(1000);
        assert!(offer(&inbox, delivery(1, 1, 1, 600)));
        assert!(!offer(&inbox, delivery(1, 1, 2, 600)));
        let (events, bytes) = drain(&inbox);
        assert_eq!(events.len(), 1);
        assert_eq!(inbox.held_bytes(), bytes);
        assert!(!offer(&inbox, delivery(1, 1, 2, 600)));
        inbox.release(bytes);
        assert_eq!(inbox.held_bytes(), 0);
        assert!(offer(&inbox, delivery(1, 1, 2, 600)));
    }

    #[test]
    fn one_delivery_always_fits_into_an_empty_inbox() {
        let inbox = Inbox::new(1000);
        assert!(offer(&inbox, delivery(1, 1, 1, 1_000_000)));
        assert!(!offer(&inbox, delivery(1, 1, 2, 1)));
    }

    #[test]
    fn the_refused_are_told_once_when_half_is_free() {
        let inbox = Inbox::new(1000);
        while offer(&inbox, delivery(1, 1, 1, 100)) {}
        assert!(!offer(&inbox, delivery(1, 2, 1, 100)));
        let (_, bytes) = drain(&inbox);
        inbox.release(bytes / 4);
        assert!(refused(&inbox).is_empty());
        inbox.release(bytes / 2);
        assert_eq!(
            refused(&inbox),
            [(ConsumerId(1), QUEUE), (ConsumerId(2), QUEUE)]
        );
        assert!(refused(&inbox).is_empty());
    }

    #[test]
    fn deliveries_of_a_consumer_or_a_channel_can_be_taken_back() {
        let inbox = Inbox::new(100_000);
        for (channel, consumer, position) in [(1, 1, 1), (1, 2, 2), (2, 3, 3), (1, 1, 4)] {
            assert!(offer(&inbox, delivery(channel, consumer, position, 10)));
        }
        inbox.push(InboxEvent::ConsumerCancelled {
            channel: 1,
            consumer: ConsumerId(2),
        });
        let taken = inbox.take_for_consumer(ConsumerId(1));
        let positions: Vec<u64> = taken.iter().map(|delivery| delivery.position.0).collect();
        assert_eq!(positions, [1, 4]);
        assert_eq!(inbox.notices(), 1);
        let unsettled = Unsettled {
            queue: QUEUE,
            position: Position(2),
            consumer: Some(ConsumerId(2)),
        };
        assert_eq!(inbox.take_for_channel(1), [unsettled]);
        assert_eq!(inbox.notices(), 0);
        let (events, bytes) = drain(&inbox);
        assert_eq!(events.len(), 1);
        assert_eq!(inbox.held_bytes(), bytes);
    }

    #[test]
    fn an_answer_to_get_that_was_not_sent_comes_back_like_a_delivery() {
        let inbox = Inbox::new(1000);
        let answer = |position, no_ack| InboxEvent::Got {
            channel: 1,
            no_ack,
            got: Some(Got {
                queue: QUEUE,
                position: Position(position),
                redelivered: false,
                kind: crate::model::QueueKind::Classic,
                counts: None,
                messages_ready: 0,
                message: delivery(1, 1, position, 5000).message,
                channel: 1,
            }),
        };
        inbox.push(answer(1, true));
        inbox.push(answer(2, false));
        inbox.push(InboxEvent::Got {
            channel: 1,
            no_ack: false,
            got: None,
        });
        assert_eq!((inbox.notices(), inbox.held_bytes()), (0, 0));
        let unsettled = Unsettled {
            queue: QUEUE,
            position: Position(2),
            consumer: None,
        };
        assert_eq!(inbox.take_for_channel(1), [unsettled]);
        inbox.push(answer(3, false));
        assert_eq!(inbox.close().len(), 1);
    }

    #[test]
    fn only_consumers_that_wait_for_room_are_remembered() {
        let inbox = Inbox::new(1000);
        assert!(offer(&inbox, delivery(1, 1, 1, 900)));
        for consumer in 2..100 {
            assert!(!offer(&inbox, delivery(1, consumer, 1, 900)));
            assert!(inbox.take_for_consumer(ConsumerId(consumer)).is_empty());
            assert!(!inbox.try_reserve_or_drop(900));
        }
        assert!(inbox.inner.lock().refused.is_empty());
    }

    #[test]
    fn a_refusing_inbox_still_takes_what_is_on_its_way() {
        let inbox = Inbox::new(1000);
        let first = delivery(1, 1, 1, 10);
        assert!(inbox.try_reserve(ConsumerId(1), QUEUE, first.message.cost_bytes()));
        inbox.refuse();
        assert!(!offer(&inbox, delivery(1, 1, 2, 10)));
        inbox.push(InboxEvent::Deliver(first));
        assert_eq!(inbox.take_for_channel(1).len(), 1);
    }

    #[test]
    fn a_closed_inbox_takes_nothing_and_gives_back_the_rest() {
        let inbox = Inbox::new(1000);
        assert!(offer(&inbox, delivery(1, 1, 1, 10)));
        assert_eq!(inbox.close().len(), 1);
        assert!(!offer(&inbox, delivery(1, 1, 2, 10)));
        inbox.push(InboxEvent::Deliver(delivery(1, 1, 3, 10)));
        assert!(drain(&inbox).0.is_empty());
    }

    #[test]
    fn the_task_is_woken_once_for_what_came() {
        let inbox = Inbox::new(1000);
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&counter));
        let mut cx = Context::from_waker(&waker);
        assert_eq!(inbox.poll_ready(&mut cx), Poll::Pending);
        offer(&inbox, delivery(1, 1, 1, 10));
        inbox.wake();
        inbox.wake();
        assert_eq!(counter.0.load(Ordering::SeqCst), 1);
        assert_eq!(inbox.poll_ready(&mut cx), Poll::Ready(()));
        drain(&inbox);
        assert_eq!(inbox.poll_ready(&mut cx), Poll::Pending);
    }

    #[test]
    fn an_idle_inbox_is_small() {
        assert!(size_of::<Inbox>() <= 160);
    }
}
