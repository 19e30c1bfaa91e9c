//! The queue as a whole, under calls and virtual time. One bench touches its interface; the tests beside
//! it speak of messages by their bodies.

mod assignment;
mod expiry;
mod limits;
mod order;
mod paging;
mod properties;
mod quorum;
mod recovery;
mod threads;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::effects::{DeletionReason, Effects};
use super::state::{ConsumeRefusal, GetRefusal, QueueState};
use super::{
    AskedGet, ConsumeArguments, Deadline, GetOutcome, HotBudget, HotLimits, Keep, Load,
    LoadedBlock, LoadedMessage, NewConsumer, Offer, PolicySettings, QueueKind, QueueSettings,
};
use crate::model::{
    ChannelWindow, ConnectionId, ConsumerId, Delivery, Got, InboxEvent, Message, Now, Outlet,
    Position, QueueId, SettlementOutcome, SharedMessage,
};
use crate::protocol::{FieldTable, Properties, PropertyFacts, ShortString, Value};

/// An outlet with room for a number of deliveries, which remembers what it got.
#[derive(Debug)]
pub(super) struct Sink {
    room: AtomicUsize,
    events: Mutex<Vec<InboxEvent>>,
    wakes: AtomicUsize,
}

impl Sink {
    pub(super) fn with_room(room: usize) -> Arc<Self> {
        Arc::new(Self {
            room: AtomicUsize::new(room),
            events: Mutex::default(),
            wakes: AtomicUsize::new(0),
        })
    }

    pub(super) fn endless() -> Arc<Self> {
        Self::with_room(usize::MAX / 2)
    }

    pub(super) fn give_room(&self, room: usize) {
        self.room.fetch_add(room, Ordering::SeqCst);
    }

    pub(super) fn wakes(&self) -> usize {
        self.wakes.load(Ordering::SeqCst)
    }

    pub(super) fn take(&self) -> Vec<InboxEvent> {
        std::mem::take(&mut *self.events.lock())
    }

    /// The deliveries since the last time.
    pub(super) fn deliveries(&self) -> Vec<Delivery> {
        self.take()
            .into_iter()
            .filter_map(|event| match event {
                InboxEvent::Deliver(delivery) => Some(delivery),
                _ => None,
            })
            .collect()
    }
}

impl Outlet for Sink {
    fn try_reserve(&self, _: ConsumerId, _: QueueId, _: usize) -> bool {
        self.room
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |room| {
                room.checked_sub(1)
            })
            .is_ok()
    }

    fn push(&self, event: InboxEvent) {
        self.events.lock().push(event);
    }

    fn wake(&self) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
    }
}

/// A message with a priority and an expiration.
pub(super) fn message(body: &str, priority: Option<u8>, expiration: Option<&str>) -> SharedMessage {
    let properties = Properties {
        priority,
        expiration: expiration.map(|text| ShortString::new(text.to_owned()).unwrap()),
        ..Properties::default()
    }
    .to_encoded();
    let facts = PropertyFacts::of(&properties).unwrap();
    Arc::new(Message::copied(
        "amq.direct".into(),
        b"key",
        &properties,
        facts,
        body.as_bytes(),
    ))
}

/// Arguments from pairs.
pub(super) fn arguments(fields: &[(&'static str, Value)]) -> FieldTable {
    fields
        .iter()
        .map(|(name, value)| (ShortString::from_static(name), value.clone()))
        .collect()
}

/// A queue with virtual time.
pub(super) struct Bench {
    pub(super) state: QueueState,
    pub(super) settings: QueueSettings,
    pub(super) fx: Effects,
    pub(super) now: Now,
    pub(super) window: Arc<ChannelWindow>,
    /// What the log has.
    pub(super) log: BTreeMap<Position, (SharedMessage, Deadline)>,
    sinks: BTreeMap<u64, Arc<Sink>>,
}

impl Bench {
    pub(super) fn classic(fields: &[(&'static str, Value)]) -> Self {
        Self::new(QueueKind::Classic, fields, false)
    }

    pub(super) fn quorum(fields: &[(&'static str, Value)]) -> Self {
        Self::new(QueueKind::Quorum, fields, false)
    }

    pub(super) fn new(
        kind: QueueKind,
        fields: &[(&'static str, Value)],
        auto_delete: bool,
    ) -> Self {
        Self::with_budget(kind, fields, auto_delete, HotBudget::unlimited())
    }

    /// A durable queue of which only `bytes` of messages may be in memory while nobody consumes, and ten times that otherwise.
    pub(super) fn paged(kind: QueueKind, fields: &[(&'static str, Value)], bytes: u64) -> Self {
        let limits = HotLimits {
            bytes_max: 20 * bytes,
            queue_bytes_max: 10 * bytes,
            idle_queue_bytes_max: bytes,
        };
        let budget = HotBudget::with_limits(limits);
        let mut bench = Self::with_budget(kind, fields, false, budget);
        bench.state.is_durable = true;
        bench
    }

    pub(super) fn with_budget(
        kind: QueueKind,
        fields: &[(&'static str, Value)],
        auto_delete: bool,
        budget: Arc<HotBudget>,
    ) -> Self {
        let settings = QueueSettings::parse("q", "/", kind, &arguments(fields)).unwrap();
        let now = Now {
            monotonic: Instant::now(),
            wall_ms: 1_000_000,
        };
        let policy = PolicySettings::default();
        Self {
            state: QueueState::new(
                QueueId(1),
                "q".into(),
                "/".into(),
                &settings,
                &policy,
                auto_delete,
                false,
                budget,
                now,
            ),
            settings,
            fx: Effects::default(),
            now,
            window: Arc::default(),
            log: BTreeMap::new(),
            sinks: BTreeMap::new(),
        }
    }

    pub(super) fn pass_ms(&mut self, ms: u64) {
        self.now = self.now.after(Duration::from_millis(ms));
        self.state.handle_timeout(self.now, &mut self.fx);
    }

    pub(super) fn publish(&mut self, body: &str) -> Option<Position> {
        self.publish_message(message(body, None, None))
    }

    pub(super) fn publish_all(&mut self, bodies: &[&str]) {
        for body in bodies {
            self.publish(body);
        }
    }

    pub(super) fn publish_message(&mut self, message: SharedMessage) -> Option<Position> {
        let expiration = message
            .facts()
            .view(message.properties())
            .expiration()
            .and_then(|text| super::arguments::parse_expiration(text.as_bytes()));
        match self
            .state
            .offer(&message, expiration, self.now, &mut self.fx)
        {
            Offer::Refused => None,
            Offer::Taken(placement) => {
                if placement.keep != Keep::Memory {
                    let logged = (Arc::clone(&message), placement.deadline);
                    self.log.insert(placement.position, logged);
                }
                self.state.enter(message, placement, self.now, &mut self.fx);
                Some(placement.position)
            }
        }
    }

    pub(super) fn asked(&self, id: u64, prefetch: u32) -> NewConsumer {
        NewConsumer {
            id: ConsumerId(id),
            connection: crate::model::ConnectionId(1),
            channel: 1,
            tag: format!("tag-{id}").into(),
            no_ack: false,
            exclusive: false,
            prefetch,
            settings: ConsumeArguments::default(),
            arguments: FieldTable::new(),
            outlet: Sink::endless(),
            window: Arc::clone(&self.window),
        }
    }

    pub(super) fn add(
        &mut self,
        mut asked: NewConsumer,
        sink: Arc<Sink>,
    ) -> Result<(), ConsumeRefusal> {
        let id = asked.id.0;
        asked.outlet = Arc::clone(&sink) as Arc<dyn Outlet>;
        self.sinks.insert(id, sink);
        self.state.add_consumer(asked, self.now, &mut self.fx)
    }

    /// A consumer with an endless outlet.
    pub(super) fn consume(&mut self, id: u64, prefetch: u32) -> Arc<Sink> {
        let sink = Sink::endless();
        let asked = self.asked(id, prefetch);
        self.add(asked, Arc::clone(&sink)).unwrap();
        sink
    }

    pub(super) fn consume_with_priority(
        &mut self,
        id: u64,
        prefetch: u32,
        priority: i64,
    ) -> Arc<Sink> {
        let sink = Sink::endless();
        let mut asked = self.asked(id, prefetch);
        asked.settings.priority = priority;
        self.add(asked, Arc::clone(&sink)).unwrap();
        sink
    }

    pub(super) fn cancel(&mut self, id: u64) -> bool {
        self.state
            .remove_consumers(&[ConsumerId(id)], self.now, &mut self.fx)
    }

    /// The bodies of what a consumer got since the last time.
    pub(super) fn got(&self, id: u64) -> Vec<String> {
        bodies(&self.sinks[&id].deliveries())
    }

    pub(super) fn settle(&mut self, position: u64, outcome: SettlementOutcome) -> bool {
        self.settle_all(&[position], outcome)
    }

    pub(super) fn settle_all(&mut self, positions: &[u64], outcome: SettlementOutcome) -> bool {
        let mut all = true;
        for position in positions {
            all &= self
                .state
                .settle(Position(*position), outcome, self.now, &mut self.fx);
        }
        self.state.after_settlements(self.now, &mut self.fx);
        assert!(self.state.is_balanced());
        all
    }

    pub(super) fn ack(&mut self, position: u64) -> bool {
        self.settle(position, SettlementOutcome::Acked)
    }

    /// `basic.get` on a channel.
    pub(super) fn try_get(
        &mut self,
        channel: u16,
        no_ack: bool,
    ) -> Result<Option<Got>, GetRefusal> {
        let asked = AskedGet {
            connection: ConnectionId(1),
            channel,
            no_ack,
            outlet: Sink::endless(),
        };
        match self.state.get(asked, self.now, &mut self.fx)? {
            GetOutcome::Got(got) => Ok(Some(got)),
            GetOutcome::Empty => Ok(None),
            GetOutcome::Later => panic!("nothing is loaded here"),
        }
    }

    /// Takes the next message by `basic.get` without acknowledgement.
    pub(super) fn get(&mut self) -> Option<String> {
        let got = self.try_get(1, true).unwrap();
        got.map(|got| body(&got.message))
    }

    /// Plays the log: forgets what came to its end.
    pub(super) fn record(&mut self) {
        self.fx.requeued.clear();
        for (position, _) in self.fx.settled.drain(..) {
            assert!(
                self.log.remove(&position).is_some(),
                "{position} ended twice"
            );
        }
        if let Some(purge) = self.fx.purged.take() {
            let stays = |position: &Position| {
                purge.survivors.iter().any(|run| {
                    (run.first.0..run.first.0 + u64::from(run.count)).contains(&position.0)
                })
            };
            self.log.retain(|position, _| stays(position));
        }
        self.state.settle_budget();
    }

    /// What a load finds.
    pub(super) fn block(&self, load: Load) -> LoadedBlock {
        let mut block = LoadedBlock {
            first: load.first,
            through: load.last,
            messages: Vec::new(),
            damaged: Vec::new(),
        };
        let mut bytes = 0;
        for (position, (message, deadline)) in self.log.range(load.first..=load.last) {
            if bytes >= load.bytes_max {
                block.through = Position(position.0 - 1);
                break;
            }
            bytes += message.cost_bytes() as u64;
            block.messages.push(LoadedMessage {
                position: *position,
                message: Arc::clone(message),
                deadline: *deadline,
            });
        }
        block
    }

    /// Answers loads until none is ordered. Returns how many there were.
    pub(super) fn load(&mut self) -> usize {
        let mut loads = 0;
        self.record();
        while !self.fx.loads.is_empty() {
            let load = self.fx.loads.remove(0);
            let block = self.block(load);
            self.state.handle_loaded(block, self.now, &mut self.fx);
            assert!(self.state.is_balanced());
            self.record();
            loads += 1;
        }
        loads
    }

    /// Messages that wait in the log alone.
    pub(super) fn messages_paged(&self) -> u64 {
        self.state.snapshot().messages_paged
    }

    /// Everything that is ready, in the order of service.
    pub(super) fn drain(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.get()).collect()
    }

    /// Dead letters since the last time: body and reason.
    pub(super) fn dead(&mut self) -> Vec<(String, String)> {
        self.fx
            .dead_letters
            .drain(..)
            .map(|letter| {
                (
                    body(letter.message.as_ref().unwrap()),
                    letter.reason.to_string(),
                )
            })
            .collect()
    }

    pub(super) fn deletions(&mut self) -> Vec<DeletionReason> {
        self.fx.deletions.drain(..).map(|(_, why)| why).collect()
    }
}

/// A position in the lane in which a quorum queue's messages without priority wait.
pub(super) fn quorum_place(sequence: u64) -> u64 {
    Position::new(4, sequence).0
}

pub(super) fn body(message: &Message) -> String {
    String::from_utf8(message.body().to_vec()).unwrap()
}

pub(super) fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    deliveries
        .iter()
        .map(|delivery| body(&delivery.message))
        .collect()
}
