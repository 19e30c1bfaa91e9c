//! A queue as the broker holds it: what never changes, and the state behind its one short lock.
//!
//! In: the broker's calls, each of which locks once; out: results and [`Effects`], to be executed after
//! the call. A deleted queue answers [`Gone`], so that a cached handle is looked up again. Not known:
//! who else exists.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use thiserror::Error;

use super::arguments::{Declared, check_equivalence, check_exclusive_access, parse_expiration};
use super::budget::HotBudget;
use super::consumers::{ConsumerSnapshot, NewConsumer};
use super::effects::Effects;
use super::giving::{AskedGet, GetOutcome};
use super::kind::QueueKind;
use super::placing::Offer;
use super::settings::{PolicySettings, QueueSettings};
use super::state::{ConsumeRefusal, GetRefusal, QueueSnapshot, QueueState};
use crate::model::{
    ConnectionId, ConsumerId, Message, Name, Now, Position, QueueCounts, QueueId, Refusal,
    SettlementOutcome, SharedMessage, WallMs, resource,
};
use crate::protocol::FieldTable;

/// What a queue was declared as. It never changes.
#[derive(Clone, Debug)]
pub struct QueueDeclaration {
    /// Its id on this node.
    pub id: QueueId,
    /// Its name.
    pub name: Name,
    /// Its virtual host.
    pub vhost: Name,
    /// Survives a restart; an exclusive queue never does.
    pub durable: bool,
    /// The connection that it belongs to.
    pub exclusive_owner: Option<ConnectionId>,
    /// Goes when its last consumer goes.
    pub auto_delete: bool,
    /// Its arguments as they are kept and shown.
    pub arguments: FieldTable,
    /// What they mean.
    pub settings: QueueSettings,
}

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The queue has it, at this place.
    Accepted(Position),
    /// The queue is full and refuses.
    Rejected,
}

/// The queue was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the queue is gone")]
pub struct Gone;

/// Why a queue does not do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// It was deleted.
    Gone,
    /// It refuses.
    Refused(Refusal),
}

impl From<Gone> for QueueError {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<Refusal> for QueueError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A queue. Clones share it.
#[derive(Clone)]
pub struct QueueHandle(Arc<Shared>);

struct Shared {
    declaration: QueueDeclaration,
    /// Set once the queue is deleted, for those who ask without the lock.
    is_gone: AtomicBool,
    guarded: Mutex<Guarded>,
}

struct Guarded {
    /// `None` once the queue is deleted.
    state: Option<QueueState>,
    /// The earliest deadline that was reported and has not come, so that a queue whose deadlines come
    /// and go does not fill the node's timers.
    armed_ms: WallMs,
}

impl fmt::Debug for QueueHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QueueHandle")
            .field(&self.0.declaration.id)
            .field(&self.0.declaration.name)
            .finish()
    }
}

impl QueueHandle {
    /// A new, empty queue. An `x-expires` starts to run: the deadline is in `fx`.
    pub fn new(
        declaration: QueueDeclaration,
        policy: &PolicySettings,
        now: Now,
        fx: &mut Effects,
    ) -> Self {
        let state = QueueState::new(
            declaration.id,
            Arc::clone(&declaration.name),
            Arc::clone(&declaration.vhost),
            &declaration.settings,
            policy,
            declaration.auto_delete,
            false,
            HotBudget::unlimited(),
            now,
        );
        let handle = Self(Arc::new(Shared {
            declaration,
            is_gone: AtomicBool::new(false),
            guarded: Mutex::new(Guarded {
                state: Some(state),
                armed_ms: WallMs::MAX,
            }),
        }));
        handle.arm(&mut handle.0.guarded.lock(), fx);
        handle
    }

    /// Its id.
    pub fn id(&self) -> QueueId {
        self.0.declaration.id
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.0.declaration.name
    }

    /// Its virtual host.
    pub fn vhost(&self) -> &Name {
        &self.0.declaration.vhost
    }

    /// Its kind.
    pub fn kind(&self) -> QueueKind {
        self.0.declaration.settings.kind
    }

    /// What it was declared as.
    pub fn declaration(&self) -> &QueueDeclaration {
        &self.0.declaration
    }

    /// Whether the queue was deleted; asks without locking, so that a cached route can be dropped.
    pub fn is_gone(&self) -> bool {
        self.0.is_gone.load(Ordering::Acquire)
    }

    fn end(&self, guarded: &mut Guarded, fx: &mut Effects) -> Result<u32, Gone> {
        let mut state = guarded.state.take().ok_or(Gone)?;
        self.0.is_gone.store(true, Ordering::Release);
        let ready = state.delete(fx);
        fx.discard(state);
        Ok(saturate(ready))
    }

    /// `queue 'q' in vhost '/'`, as refusals name it.
    pub fn resource(&self) -> String {
        resource("queue", self.name(), self.vhost())
    }

    /// Compares a declare of an existing queue with it.
    ///
    /// # Errors
    /// 405 or 406, see [`check_equivalence`].
    pub fn check_equivalence(&self, asked: Declared<'_>) -> Result<(), Refusal> {
        let declaration = self.declaration();
        let current = Declared {
            durable: declaration.durable,
            exclusive_owner: declaration.exclusive_owner,
            auto_delete: declaration.auto_delete,
            arguments: &declaration.arguments,
        };
        check_equivalence(self.name(), self.vhost(), self.kind(), current, asked)
    }

    /// Whether `connection` may use the queue at all.
    ///
    /// # Errors
    /// 405 if it belongs to another connection.
    pub fn check_access(&self, connection: ConnectionId) -> Result<(), Refusal> {
        let owner = self.declaration().exclusive_owner;
        check_exclusive_access(self.name(), self.vhost(), owner, connection)
    }

    /// Publishes one message.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn publish(
        &self,
        message: SharedMessage,
        now: Now,
        fx: &mut Effects,
    ) -> Result<Published, Gone> {
        self.with(fx, |state, fx| publish(state, message, now, fx))
    }

    /// Publishes a burst under one lock; an outcome for each is appended to `outcomes`.
    ///
    /// # Errors
    /// The queue is gone, and nothing was published.
    pub fn publish_batch(
        &self,
        messages: impl IntoIterator<Item = SharedMessage>,
        now: Now,
        fx: &mut Effects,
        outcomes: &mut Vec<Published>,
    ) -> Result<(), Gone> {
        self.with(fx, |state, fx| {
            let published = messages
                .into_iter()
                .map(|message| publish(state, message, now, fx));
            outcomes.extend(published);
        })
    }

    /// Settles a burst under one lock. Returns how many positions were unsettled indeed.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn settle_batch(
        &self,
        settlements: impl IntoIterator<Item = (Position, Option<ConsumerId>, SettlementOutcome)>,
        now: Now,
        fx: &mut Effects,
    ) -> Result<usize, Gone> {
        self.with(fx, |state, fx| {
            let settled = settlements
                .into_iter()
                .filter(|(position, consumer, outcome)| {
                    state.is_held_by(*position, *consumer)
                        && state.settle(*position, *outcome, now, fx)
                })
                .count();
            state.after_settlements(now, fx);
            settled
        })
    }

    /// A dead letter that was marked as retained has arrived in every queue that it was routed to, at
    /// least one, or has not and must be sent again later.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn settle_dead_letter(
        &self,
        position: Position,
        has_arrived: bool,
        now: Now,
        fx: &mut Effects,
    ) -> Result<(), Gone> {
        self.with(fx, |state, fx| {
            state.settle_dead_letter(position, has_arrived, now, fx);
        })
    }

    /// `basic.get`.
    ///
    /// # Errors
    /// 405 on a quorum queue with a single active consumer.
    pub fn get(
        &self,
        asked: AskedGet,
        now: Now,
        fx: &mut Effects,
    ) -> Result<GetOutcome, QueueError> {
        let got = self.with(fx, |state, fx| state.get(asked, now, fx))?;
        got.map_err(|GetRefusal::SingleActiveConsumer| {
            let refusal = Refusal::resource_locked(format!(
                "cannot obtain access to locked {}. basic.get operations are not supported by {} \
                 queues with single active consumer",
                self.resource(),
                self.kind().as_str()
            ));
            QueueError::Refused(refusal)
        })
    }

    /// Lets a consumer in.
    ///
    /// # Errors
    /// 403 for exclusive use, in either direction.
    pub fn add_consumer(
        &self,
        consumer: NewConsumer,
        now: Now,
        fx: &mut Effects,
    ) -> Result<(), QueueError> {
        let added = self.with(fx, |state, fx| state.add_consumer(consumer, now, fx))?;
        added.map_err(|ConsumeRefusal::ExclusiveUse| {
            let text = format!("{} in exclusive use", self.resource());
            QueueError::Refused(Refusal::access_refused(text))
        })
    }

    /// Takes a consumer out; what it holds stays unsettled. `false` if it was not there.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn remove_consumer(
        &self,
        consumer: ConsumerId,
        now: Now,
        fx: &mut Effects,
    ) -> Result<bool, Gone> {
        self.remove_consumers(&[consumer], now, fx)
    }

    /// Takes several consumers out at once, as at the end of their channel. `false` if none of them was there.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn remove_consumers(
        &self,
        consumers: &[ConsumerId],
        now: Now,
        fx: &mut Effects,
    ) -> Result<bool, Gone> {
        self.with(fx, |state, fx| state.remove_consumers(consumers, now, fx))
    }

    /// A refused consumer has room again, in its inbox or its channel's window.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn consumer_ready(
        &self,
        consumer: ConsumerId,
        now: Now,
        fx: &mut Effects,
    ) -> Result<(), Gone> {
        self.with(fx, |state, fx| state.consumer_ready(consumer, now, fx))
    }

    /// Purges; returns how many messages were ready.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn purge(&self, fx: &mut Effects) -> Result<u32, Gone> {
        self.with(fx, |state, fx| saturate(state.purge(fx)))
    }

    /// Deletes the queue for a client; returns how many messages were ready. The caller then forgets it.
    ///
    /// # Errors
    /// 406 if it is in use or not empty and the client asked for that; 540 if it is a quorum queue and
    /// the client asked at all (`rabbit_quorum_queue:delete/4`).
    pub fn delete(
        &self,
        if_unused: bool,
        if_empty: bool,
        fx: &mut Effects,
    ) -> Result<u32, QueueError> {
        if self.kind() == QueueKind::Quorum && (if_unused || if_empty) {
            let flag = if if_unused { "if-unused" } else { "if-empty" };
            return Err(QueueError::Refused(Refusal::not_implemented(format!(
                "cannot delete {}. queue.delete operations with {flag} flag set are not supported by \
                 quorum queues",
                self.resource()
            ))));
        }
        let mut guarded = self.0.guarded.lock();
        let counts = guarded.state.as_ref().ok_or(Gone)?.counts();
        let objection = if if_unused && counts.consumers > 0 {
            Some("in use")
        } else if if_empty && counts.messages_ready > 0 {
            Some("not empty")
        } else {
            None
        };
        if let Some(objection) = objection {
            let text = format!("{} {objection}", self.resource());
            return Err(QueueError::Refused(Refusal::precondition_failed(text)));
        }
        Ok(self.end(&mut guarded, fx)?)
    }

    /// Deletes the queue whatever it holds: at its own request, or because its owner or its virtual host
    /// is gone. Returns how many messages were ready.
    ///
    /// # Errors
    /// The queue is gone already.
    pub fn delete_now(&self, fx: &mut Effects) -> Result<u32, Gone> {
        self.end(&mut self.0.guarded.lock(), fx)
    }

    /// The queue was declared again, or passively, which counts as use on a classic queue.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn touch(&self, now: Now, fx: &mut Effects) -> Result<QueueCounts, Gone> {
        self.with(fx, |state, _| {
            state.touch(now);
            state.counts()
        })
    }

    /// Its policy changed.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn reconfigure(
        &self,
        policy: &PolicySettings,
        now: Now,
        fx: &mut Effects,
    ) -> Result<(), Gone> {
        let settings = &self.0.declaration.settings;
        self.with(fx, |state, fx| state.reconfigure(settings, policy, now, fx))
    }

    /// A deadline has come. The next one is in `fx` if there is one.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn handle_timeout(&self, now: Now, fx: &mut Effects) -> Result<(), Gone> {
        let mut guarded = self.0.guarded.lock();
        guarded.armed_ms = WallMs::MAX;
        guarded.state.as_mut().ok_or(Gone)?.handle_timeout(now, fx);
        self.arm(&mut guarded, fx);
        Ok(())
    }

    /// Ready messages and consumers.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn counts(&self) -> Result<QueueCounts, Gone> {
        self.see(QueueState::counts)
    }

    /// What the API shows of the queue.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn snapshot(&self) -> Result<QueueSnapshot, Gone> {
        self.see(QueueState::snapshot)
    }

    /// What the API shows of its consumers, in the order of registration.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn consumers(&self) -> Result<Vec<ConsumerSnapshot>, Gone> {
        self.see(QueueState::consumers)
    }

    fn see<T>(&self, look: impl FnOnce(&QueueState) -> T) -> Result<T, Gone> {
        self.0.guarded.lock().state.as_ref().map(look).ok_or(Gone)
    }

    fn with<T>(
        &self,
        fx: &mut Effects,
        act: impl FnOnce(&mut QueueState, &mut Effects) -> T,
    ) -> Result<T, Gone> {
        let mut guarded = self.0.guarded.lock();
        let state = guarded.state.as_mut().ok_or(Gone)?;
        let result = act(state, fx);
        state.settle_budget();
        self.arm(&mut guarded, fx);
        Ok(result)
    }

    /// Reports the next deadline if it is earlier than what was reported before.
    fn arm(&self, guarded: &mut Guarded, fx: &mut Effects) {
        let next = guarded.state.as_ref().and_then(QueueState::poll_timeout);
        if let Some(next_ms) = next
            && next_ms < guarded.armed_ms
        {
            guarded.armed_ms = next_ms;
            fx.deadlines.push((self.id(), next_ms));
        }
    }
}

/// A message arrives, and nothing but memory keeps it.
fn publish(
    state: &mut QueueState,
    message: SharedMessage,
    now: Now,
    fx: &mut Effects,
) -> Published {
    match state.offer(&message, expiration_ms(&message), now, fx) {
        Offer::Refused => Published::Rejected,
        Offer::Taken(placement) => {
            state.enter(message, placement, now, fx);
            Published::Accepted(placement.position)
        }
    }
}

/// The time to live that a message asks for itself.
fn expiration_ms(message: &Message) -> Option<WallMs> {
    if !message.facts().has_expiration() {
        return None;
    }
    let view = message.facts().view(message.properties());
    parse_expiration(view.expiration()?.as_bytes())
}

/// Counts on the wire are 32 bits wide.
fn saturate(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::protocol::{PropertyFacts, ShortString, Value};

    fn now() -> Now {
        Now {
            monotonic: Instant::now(),
            wall_ms: 1_000_000,
        }
    }

    fn queue(fields: &[(&'static str, Value)], fx: &mut Effects) -> QueueHandle {
        let arguments: FieldTable = fields
            .iter()
            .map(|(name, value)| (ShortString::from_static(name), value.clone()))
            .collect();
        let settings = QueueSettings::parse("q", "/", QueueKind::Classic, &arguments).unwrap();
        let declaration = QueueDeclaration {
            id: QueueId(7),
            name: "q".into(),
            vhost: "/".into(),
            durable: true,
            exclusive_owner: None,
            auto_delete: false,
            arguments,
            settings,
        };
        QueueHandle::new(declaration, &PolicySettings::default(), now(), fx)
    }

    fn message() -> SharedMessage {
        let facts = PropertyFacts::default();
        Arc::new(Message::copied("".into(), b"q", &[0, 0], facts, b"body"))
    }

    fn asked() -> AskedGet {
        AskedGet {
            connection: ConnectionId(1),
            channel: 1,
            no_ack: true,
            outlet: crate::queue::Inbox::new(1000),
        }
    }

    fn refusal<T: fmt::Debug>(result: Result<T, QueueError>) -> String {
        match result {
            Err(QueueError::Refused(refusal)) => refusal.text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_deleted_queue_is_gone_for_everyone() {
        let mut fx = Effects::default();
        let queue = queue(&[], &mut fx);
        let other = queue.clone();
        let mut outcomes = Vec::new();
        queue
            .publish_batch([message(), message()], now(), &mut fx, &mut outcomes)
            .unwrap();
        assert_eq!(
            outcomes,
            [
                Published::Accepted(Position(1)),
                Published::Accepted(Position(2))
            ]
        );
        assert_eq!(other.delete(false, false, &mut fx), Ok(2));
        assert_eq!(queue.publish(message(), now(), &mut fx), Err(Gone));
        assert_eq!(queue.delete(false, false, &mut fx), Err(QueueError::Gone));
        assert_eq!(queue.counts(), Err(Gone));
    }

    #[test]
    fn a_deletion_can_be_conditional() {
        let mut fx = Effects::default();
        let classic = queue(&[], &mut fx);
        classic.publish(message(), now(), &mut fx).unwrap();
        assert_eq!(
            refusal(classic.delete(false, true, &mut fx)),
            "queue 'q' in vhost '/' not empty"
        );
        assert_eq!(classic.delete(true, false, &mut fx), Ok(1));
        let quorum = queue(&[("x-queue-type", Value::from("quorum"))], &mut fx);
        assert_eq!(
            refusal(quorum.delete(true, true, &mut fx)),
            "cannot delete queue 'q' in vhost '/'. queue.delete operations with if-unused flag set are not supported by quorum queues"
        );
    }

    #[test]
    fn a_refused_get_says_why() {
        let mut fx = Effects::default();
        let fields = [
            ("x-queue-type", Value::from("quorum")),
            ("x-single-active-consumer", Value::Bool(true)),
        ];
        let queue = queue(&fields, &mut fx);
        assert_eq!(
            refusal(queue.get(asked(), now(), &mut fx)),
            "cannot obtain access to locked queue 'q' in vhost '/'. basic.get operations are not supported by quorum queues with single active consumer"
        );
    }

    #[test]
    fn a_deadline_is_reported_when_it_is_earlier_than_the_last_one() {
        let mut fx = Effects::default();
        let queue = queue(&[("x-message-ttl", Value::I32(100))], &mut fx);
        assert!(fx.deadlines.is_empty());
        queue.publish(message(), now(), &mut fx).unwrap();
        queue.publish(message(), now(), &mut fx).unwrap();
        queue.purge(&mut fx).unwrap();
        queue.publish(message(), now(), &mut fx).unwrap();
        assert_eq!(fx.deadlines, [(QueueId(7), 1_000_100)]);
        queue.handle_timeout(now(), &mut fx).unwrap();
        assert_eq!(fx.deadlines.len(), 2);
    }

    #[test]
    fn another_connections_exclusive_queue_is_locked() {
        let mut fx = Effects::default();
        let mut declaration = queue(&[], &mut fx).declaration().clone();
        declaration.exclusive_owner = Some(ConnectionId(1));
        let queue = QueueHandle::new(declaration, &PolicySettings::default(), now(), &mut fx);
        assert!(queue.check_access(ConnectionId(1)).is_ok());
        assert!(queue.check_access(ConnectionId(2)).is_err());
    }
}
