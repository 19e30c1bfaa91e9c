//! A queue as the broker holds it: what never changes, and the state behind its one short lock.
//!
//! In: the broker's calls, each of which locks once; out: results and [`Effects`], to be executed after
//! the call. A deleted queue answers [`Gone`], so that a cached handle is looked up again. Not known:
//! who else exists.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use thiserror::Error;

use super::arguments::{Declared, check_equivalence, check_exclusive_access, parse_expiration};
use super::budget::HotBudget;
use super::consumers::{ConsumerSnapshot, NewConsumer};
use super::effects::Effects;
use super::entry::Deadline;
use super::giving::{AskedGet, GetOutcome};
use super::guarded::{Guarded, Section};
use super::interval::Interval;
use super::kind::QueueKind;
use super::loading::{Load, LoadedBlock, LoadedMessage, Recovered, RecoveredLane};
use super::settings::{QueuePolicy, QueueSettings};
use super::state::{ConsumeRefusal, GetRefusal, QueueSnapshot, QueueState};
use crate::model::{
    AppliedPolicy, ChannelNumber, ConnectionId, ConsumerId, Message, Name, Now, Position,
    QueueCounts, QueueId, Refusal, SettlementOutcome, WallMs, resource,
};
use crate::protocol::FieldTable;
use crate::store::journal::SyncDemand;
use crate::store::messages::{LogOwner, MessageStore, ReadBlock};
use crate::store::queue_log::{Plan, QueueLog};

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

/// Where a queue keeps its messages.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// The node's store.
    pub store: Arc<MessageStore>,
    /// What may be in memory.
    pub budget: Arc<HotBudget>,
    /// When a queue says again that it counted something.
    pub interval: Arc<Interval>,
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
    store: Arc<MessageStore>,
    interval: Arc<Interval>,
    guarded: Mutex<Guarded>,
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
    /// A queue, with what recovery found of it. An `x-expires` starts to run: the deadline is in `fx`.
    pub fn new(
        declaration: QueueDeclaration,
        policy: &QueuePolicy,
        keeping: Keeping,
        now: Now,
        fx: &mut Effects,
    ) -> Self {
        let mut state = QueueState::new(
            declaration.id,
            Arc::clone(&declaration.name),
            Arc::clone(&declaration.vhost),
            &declaration.settings,
            &policy.settings,
            declaration.auto_delete,
            declaration.durable,
            keeping.budget,
            now,
        );
        let id = declaration.id;
        let log = match keeping.store.take_recovered(id) {
            Some(mut log) => {
                state.recover(recovered_lanes(&mut log), now, fx);
                log
            }
            None => keeping.store.new_log(id),
        };
        let handle = Self(Arc::new(Shared {
            declaration,
            is_gone: AtomicBool::new(false),
            store: keeping.store,
            interval: keeping.interval,
            guarded: Mutex::new(Guarded {
                state: Some(state),
                log,
                policy: policy.applied.clone(),
                armed_ms: WallMs::MAX,
                touched_in: 0,
            }),
        }));
        let owner: Weak<Shared> = Arc::downgrade(&handle.0);
        handle.0.store.register(id, owner);
        handle.end_section(&mut handle.lock(), fx);
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

    pub(super) fn lock(&self) -> MutexGuard<'_, Guarded> {
        self.0.guarded.lock()
    }

    pub(super) fn section<'a>(&self, store: &'a MessageStore) -> Section<'a> {
        Section {
            id: self.id(),
            durable: self.declaration().durable,
            interval: self.0.interval.number(),
            store,
        }
    }

    fn end_section(&self, guarded: &mut Guarded, fx: &mut Effects) {
        guarded.end_section(self.section(&self.0.store), None, fx);
    }

    fn end(&self, mut guarded: MutexGuard<'_, Guarded>, fx: &mut Effects) -> Result<u32, Gone> {
        let mut state = guarded.state.take().ok_or(Gone)?;
        self.0.is_gone.store(true, Ordering::Release);
        let ready = state.delete(fx);
        fx.discard(state);
        let log = std::mem::replace(&mut guarded.log, self.0.store.new_log(self.id()));
        fx.forgotten.push((self.id(), log));
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

    /// Forgets gets that wait for a message to be read, of one channel or of all.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn cancel_gets(
        &self,
        connection: ConnectionId,
        channel: Option<ChannelNumber>,
        fx: &mut Effects,
    ) -> Result<(), Gone> {
        self.with(fx, |state, _| state.cancel_gets(connection, channel))
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
        let guarded = self.lock();
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
        Ok(self.end(guarded, fx)?)
    }

    /// Deletes the queue whatever it holds: at its own request, or because its owner or its virtual host
    /// is gone. Returns how many messages were ready.
    ///
    /// # Errors
    /// The queue is gone already.
    pub fn delete_now(&self, fx: &mut Effects) -> Result<u32, Gone> {
        self.end(self.lock(), fx)
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

    /// Its policies are these now. `false` if they were before, and nothing has changed.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn reconfigure(
        &self,
        policy: &QueuePolicy,
        now: Now,
        fx: &mut Effects,
    ) -> Result<bool, Gone> {
        fx.begin_section();
        let mut guarded = self.lock();
        let Guarded {
            state,
            policy: current,
            ..
        } = &mut *guarded;
        let state = state.as_mut().ok_or(Gone)?;
        if *current == policy.applied {
            return Ok(false);
        }
        current.clone_from(&policy.applied);
        let settings = &self.0.declaration.settings;
        state.reconfigure(settings, &policy.settings, now, fx);
        self.end_section(&mut guarded, fx);
        Ok(true)
    }

    /// The policies that hold for it; `None` if there are none, or it is gone.
    pub fn policy(&self) -> Option<Arc<AppliedPolicy>> {
        self.lock().policy.clone()
    }

    /// What its confirms wait for, if a policy says so.
    pub fn sync(&self) -> Option<SyncDemand> {
        self.see(|state| state.settings.sync).ok().flatten()
    }

    /// A deadline has come. The next one is in `fx` if there is one.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn handle_timeout(&self, now: Now, fx: &mut Effects) -> Result<(), Gone> {
        fx.begin_section();
        let mut guarded = self.lock();
        guarded.armed_ms = WallMs::MAX;
        guarded.state.as_mut().ok_or(Gone)?.handle_timeout(now, fx);
        self.end_section(&mut guarded, fx);
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

    /// What the API shows of the queue, with the number of messages that its log has.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn report(&self) -> Result<(QueueSnapshot, u64), Gone> {
        let guarded = self.lock();
        let snapshot = guarded
            .state
            .as_ref()
            .map(QueueState::snapshot)
            .ok_or(Gone)?;
        let figures = guarded.log.figures();
        Ok((
            snapshot,
            figures.journal_messages + figures.segment_messages,
        ))
    }

    /// How long consumers that say nothing of it may keep a delivery, in milliseconds.
    pub fn consumer_timeout_ms(&self) -> Option<u64> {
        self.see(QueueState::consumer_timeout_ms).ok().flatten()
    }

    /// What the API shows of its consumers, in the order of registration.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn consumers(&self) -> Result<Vec<ConsumerSnapshot>, Gone> {
        self.see(QueueState::consumers)
    }

    /// Where the messages lie that `load` asks for, or as many of them as it wants.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn plan(&self, load: &Load) -> Result<Plan, Gone> {
        let guarded = self.lock();
        if guarded.state.is_none() {
            return Err(Gone);
        }
        Ok(guarded.log.plan(load.first, load.last, load.bytes_max))
    }

    /// Hands over what was read for `load`.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn handle_loaded(
        &self,
        load: &Load,
        block: ReadBlock,
        now: Now,
        fx: &mut Effects,
    ) -> Result<(), Gone> {
        fx.begin_section();
        let mut guarded = self.lock();
        let Guarded { state, log, .. } = &mut *guarded;
        let state = state.as_mut().ok_or(Gone)?;
        let messages = block.messages.into_iter();
        let live = messages.filter(|message| log.is_live(message.position));
        let messages = live
            .map(|message| LoadedMessage {
                position: message.position,
                message: message.message,
                deadline: Deadline(message.deadline_ms),
            })
            .collect();
        let mut lost = Vec::new();
        for position in &block.damaged {
            log.settle_lost(*position, &mut lost);
        }
        if !lost.is_empty() && self.declaration().durable {
            self.0.store.journal().append().settled(self.id(), &lost);
        }
        let through = block.through.unwrap_or(Position(load.first.0 - 1));
        state.handle_loaded(
            LoadedBlock {
                first: load.first,
                through,
                messages,
                damaged: block.damaged,
            },
            now,
            fx,
        );
        self.end_section(&mut guarded, fx);
        Ok(())
    }

    /// Lets bodies go that can be read again. Gives the bytes.
    ///
    /// # Errors
    /// The queue is gone.
    pub fn evict(&self, fx: &mut Effects) -> Result<u64, Gone> {
        self.with(fx, QueueState::evict)
    }

    fn see<T>(&self, look: impl FnOnce(&QueueState) -> T) -> Result<T, Gone> {
        self.lock().state.as_ref().map(look).ok_or(Gone)
    }

    fn with<T>(
        &self,
        fx: &mut Effects,
        act: impl FnOnce(&mut QueueState, &mut Effects) -> T,
    ) -> Result<T, Gone> {
        fx.begin_section();
        let mut guarded = self.lock();
        let result = act(guarded.state.as_mut().ok_or(Gone)?, fx);
        self.end_section(&mut guarded, fx);
        Ok(result)
    }
}

/// What recovery found in a queue's log, for its state.
fn recovered_lanes(log: &mut QueueLog) -> Recovered {
    let mut counts = Vec::new();
    let lanes = log.recovered().lanes.into_iter().map(|lane| {
        counts.extend(&lane.counts);
        let first = lane.live.map_or(lane.next, |live| live.first);
        RecoveredLane {
            first,
            last: lane.live.map_or(first, |live| live.last),
            messages: lane.messages,
            body_bytes: lane.body_bytes,
            may_expire: lane.may_expire,
            next_sequence: lane.next.sequence(),
            delivered_through: (lane.delivered_through.sequence() > 0)
                .then_some(lane.delivered_through),
        }
    });
    let lanes = lanes.collect();
    Recovered { lanes, counts }
}

impl LogOwner for Shared {
    fn with_log(&self, act: &mut dyn FnMut(&mut QueueLog)) -> bool {
        let mut guarded = self.guarded.lock();
        let is_there = guarded.state.is_some();
        if is_there {
            act(&mut guarded.log);
        }
        is_there
    }
}

/// The time to live that a message asks for itself.
pub(super) fn expiration_ms(message: &Message) -> Option<WallMs> {
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
mod tests;
