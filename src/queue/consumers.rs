//! Who consumes from a queue, and whose turn it is.
//!
//! In: consumers that come, go, settle, get room. Out: the next consumer that can take a delivery, in
//! strict rotation among equal priorities, higher priorities first. It knows no message; credit,
//! channel windows and outlets are all that it asks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::arguments::ConsumeArguments;
use super::effects::Effects;
use super::kind::QueueKind;
use crate::model::{ChannelNumber, ChannelWindow, ConnectionId, ConsumerId, Name, Outlet, QueueId};
use crate::protocol::FieldTable;

/// A consumer that starts.
#[derive(Clone, Debug)]
pub struct NewConsumer {
    /// Its id.
    pub id: ConsumerId,
    /// Its connection.
    pub connection: ConnectionId,
    /// Its channel.
    pub channel: ChannelNumber,
    /// Its tag on that channel.
    pub tag: Name,
    /// Its deliveries are settled by being sent.
    pub no_ack: bool,
    /// It wants to be the only one; quorum queues do not listen.
    pub exclusive: bool,
    /// Deliveries that it may have unsettled; 0 for no limit.
    pub prefetch: u32,
    /// What its arguments mean.
    pub settings: ConsumeArguments,
    /// Its arguments as they came, for the API.
    pub arguments: FieldTable,
    /// The way to its connection.
    pub outlet: Arc<dyn Outlet>,
    /// The window that all consumers of its channel share.
    pub window: Arc<ChannelWindow>,
}

/// Which consumer holds a message: its slot, and its id as a check that the slot is still its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The consumer.
    pub consumer: ConsumerId,
    /// Its slot.
    pub slot: u32,
}

/// Why a consumer's turn does or does not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It stands in the ring of its priority.
    Queued,
    /// It has no credit; a settlement of its own brings it back.
    OutOfCredit,
    /// Its outlet or its channel's window refused; `consumer_ready` brings it back.
    Refused,
    /// Another consumer is the single active one.
    Waiting,
    /// It was cancelled and only waits for what it still holds to be settled.
    Cancelled,
}

/// A consumer as the queue keeps it.
#[derive(Debug)]
pub struct Consumer {
    /// What it asked for.
    pub asked: NewConsumer,
    /// Its unsettled deliveries.
    pub unsettled: u32,
    turn: Turn,
    /// The single active one lets a consumer of higher priority take over once it has settled all.
    quiescing: bool,
}

impl Consumer {
    fn has_credit(&self) -> bool {
        self.asked.no_ack || self.asked.prefetch == 0 || self.unsettled < self.asked.prefetch
    }

    fn is_live(&self) -> bool {
        self.turn != Turn::Cancelled
    }
}

/// What a consumer is doing, in the words of `/api/consumers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerActivity {
    /// It gets messages beside others.
    Up,
    /// It is the single active consumer.
    SingleActive,
    /// It waits to become that.
    Waiting,
}

/// A consumer as it is shown outside.
#[derive(Clone, Debug)]
pub struct ConsumerSnapshot {
    /// Its id.
    pub id: ConsumerId,
    /// Its connection.
    pub connection: ConnectionId,
    /// Its channel.
    pub channel: ChannelNumber,
    /// How long it may keep a delivery in milliseconds, if it said so.
    pub timeout_ms: Option<u64>,
    /// Its tag.
    pub tag: Name,
    /// Settled by being sent.
    pub no_ack: bool,
    /// The only consumer.
    pub exclusive: bool,
    /// Its prefetch limit, 0 for none.
    pub prefetch: u32,
    /// Its unsettled deliveries.
    pub unsettled: u32,
    /// Its priority.
    pub priority: i64,
    /// What it is doing.
    pub activity: ConsumerActivity,
    /// Its arguments.
    pub arguments: FieldTable,
}

/// The consumers of one priority whose turn may come, next one in front.
#[derive(Debug)]
struct Ring {
    priority: i64,
    slots: VecDeque<u32>,
}

/// How a queue shares its messages among its consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    Competing,
    /// The earliest one is active until it goes (classic).
    SingleEarliest,
    /// The one of the highest priority is active (quorum).
    SingleHighest,
}

/// All consumers of a queue.
#[derive(Debug)]
pub struct Consumers {
    /// A slot is reused once its consumer is gone and has nothing unsettled.
    slots: Vec<Option<Box<Consumer>>>,
    free: Vec<u32>,
    /// Live consumers. Ids grow, so this is also the order of registration.
    by_id: BTreeMap<ConsumerId, u32>,
    /// Highest priority first.
    rings: Vec<Ring>,
    /// Consumers in the rings.
    queued: u32,
    sharing: Sharing,
    active: Option<u32>,
    /// The one that consumes exclusively.
    exclusive: Option<ConsumerId>,
}

impl Consumers {
    /// No consumer yet.
    pub fn new(kind: QueueKind, single_active: bool) -> Self {
        let sharing = match (single_active, kind) {
            (false, _) => Sharing::Competing,
            (true, QueueKind::Classic) => Sharing::SingleEarliest,
            (true, QueueKind::Quorum) => Sharing::SingleHighest,
        };
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_id: BTreeMap::new(),
            rings: Vec::new(),
            queued: 0,
            sharing,
            active: None,
            exclusive: None,
        }
    }

    /// Consumers that are not cancelled.
    pub fn live(&self) -> usize {
        self.by_id.len()
    }

    /// Whether one of them consumes exclusively.
    pub fn has_exclusive(&self) -> bool {
        self.exclusive.is_some()
    }

    /// Whether only one consumer is served at a time.
    pub fn is_single_active(&self) -> bool {
        self.sharing != Sharing::Competing
    }

    /// Whether some consumer might take a delivery now.
    pub fn any_queued(&self) -> bool {
        self.queued > 0
    }

    /// Lets a consumer in, behind the others of its priority.
    pub fn add(&mut self, asked: NewConsumer) {
        let id = asked.id;
        if asked.exclusive {
            self.exclusive = Some(id);
        }
        let consumer = Box::new(Consumer {
            asked,
            unsettled: 0,
            turn: Turn::Waiting,
            quiescing: false,
        });
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(consumer);
                slot
            }
            None => {
                if self.slots.is_empty() {
                    self.slots.reserve_exact(1);
                }
                self.slots.push(Some(consumer));
                (self.slots.len() - 1) as u32
            }
        };
        self.by_id.insert(id, slot);
        if self.sharing == Sharing::Competing {
            self.enqueue(slot);
        } else {
            self.activate();
        }
    }

    /// Takes a consumer out; what it holds stays unsettled. Returns where it was reached.
    pub fn remove(&mut self, id: ConsumerId) -> Option<(ChannelNumber, Arc<dyn Outlet>)> {
        let slot = self.by_id.remove(&id)?;
        let consumer = self.slots[slot as usize].as_mut()?;
        let was_queued = consumer.turn == Turn::Queued;
        let priority = consumer.asked.settings.priority;
        consumer.turn = Turn::Cancelled;
        consumer.asked.window.forget(id);
        let reached = (consumer.asked.channel, Arc::clone(&consumer.asked.outlet));
        let holds_none = consumer.unsettled == 0;
        if was_queued {
            self.queued -= 1;
            if let Ok(ring) = self.find_ring(priority) {
                self.rings[ring].slots.retain(|other| *other != slot);
            }
        }
        self.rings.retain(|ring| !ring.slots.is_empty());
        if self.exclusive == Some(id) {
            self.exclusive = None;
        }
        if self.active == Some(slot) {
            self.active = None;
        }
        if holds_none {
            self.vacate(slot);
        }
        if self.sharing != Sharing::Competing {
            self.activate();
        }
        Some(reached)
    }

    /// The next consumer that has credit, and whose window and outlet have taken a reservation for a
    /// delivery of `cost_bytes`; the delivery counts as unsettled unless its consumer is `no_ack`.
    /// Whoever refuses is skipped until it reports to be ready.
    pub fn pick(&mut self, queue: QueueId, cost_bytes: usize) -> Option<Owner> {
        for ring in &mut self.rings {
            while let Some(slot) = ring.slots.front().copied() {
                let Some(consumer) = self.slots[slot as usize].as_mut() else {
                    ring.slots.pop_front();
                    self.queued -= 1;
                    continue;
                };
                let id = consumer.asked.id;
                let turn = if !consumer.has_credit() {
                    Turn::OutOfCredit
                } else if !consumer.asked.no_ack
                    && !consumer.asked.window.try_reserve_or_park(queue, id)
                {
                    Turn::Refused
                } else if consumer.asked.outlet.try_reserve(id, queue, cost_bytes) {
                    if ring.slots.len() > 1 {
                        ring.slots.rotate_left(1);
                    }
                    if !consumer.asked.no_ack {
                        consumer.unsettled += 1;
                    }
                    return Some(Owner { consumer: id, slot });
                } else {
                    if !consumer.asked.no_ack {
                        consumer.asked.window.release();
                    }
                    Turn::Refused
                };
                consumer.turn = turn;
                ring.slots.pop_front();
                self.queued -= 1;
            }
        }
        None
    }

    /// The consumer that [`Consumers::pick`] chose.
    pub fn get(&self, owner: Owner) -> Option<&Consumer> {
        self.slots[owner.slot as usize].as_deref()
    }

    /// The consumer in this slot. A slot is not given to another while something is unsettled under it.
    pub fn owner_at(&self, slot: u32) -> Option<Owner> {
        let consumer = self.slots.get(slot as usize)?.as_ref()?;
        Some(Owner {
            consumer: consumer.asked.id,
            slot,
        })
    }

    /// A delivery of `owner` is settled or came back: its credit and its place in the window are free.
    pub fn credit(&mut self, owner: Owner, fx: &mut Effects) {
        let Some(consumer) = self.slots[owner.slot as usize].as_mut() else {
            return;
        };
        if consumer.asked.id != owner.consumer {
            return;
        }
        consumer.unsettled = consumer.unsettled.saturating_sub(1);
        consumer.asked.window.release();
        fx.window_released(&consumer.asked.window);
        match consumer.turn {
            Turn::OutOfCredit if consumer.has_credit() => self.enqueue(owner.slot),
            Turn::Cancelled if consumer.unsettled == 0 => self.vacate(owner.slot),
            _ if consumer.quiescing && consumer.unsettled == 0 => self.activate(),
            _ => {}
        }
    }

    /// The outlet or the window of a refused consumer has room again.
    pub fn ready(&mut self, id: ConsumerId) {
        let Some(slot) = self.by_id.get(&id).copied() else {
            return;
        };
        if let Some(consumer) = &self.slots[slot as usize]
            && consumer.turn == Turn::Refused
        {
            self.enqueue(slot);
        }
    }

    /// Every live consumer in the order of registration, as it is shown outside.
    pub fn snapshot(&self) -> Vec<ConsumerSnapshot> {
        self.by_id
            .values()
            .filter_map(|slot| {
                let consumer = self.slots[*slot as usize].as_ref()?;
                let activity = match self.sharing {
                    Sharing::Competing => ConsumerActivity::Up,
                    _ if self.active == Some(*slot) => ConsumerActivity::SingleActive,
                    _ => ConsumerActivity::Waiting,
                };
                let asked = &consumer.asked;
                Some(ConsumerSnapshot {
                    id: asked.id,
                    connection: asked.connection,
                    channel: asked.channel,
                    timeout_ms: asked.settings.timeout_ms,
                    tag: asked.tag.clone(),
                    no_ack: asked.no_ack,
                    exclusive: asked.exclusive,
                    prefetch: asked.prefetch,
                    unsettled: consumer.unsettled,
                    priority: asked.settings.priority,
                    activity,
                    arguments: asked.arguments.clone(),
                })
            })
            .collect()
    }

    /// Ends all of them because the queue is gone: the live ones in the order of registration, to be
    /// told; the windows get back what everyone held.
    pub fn take_all(&mut self, fx: &mut Effects) -> Vec<NewConsumer> {
        let ids: Vec<_> = std::mem::take(&mut self.by_id).into_values().collect();
        for consumer in self.slots.iter().flatten() {
            consumer.asked.window.forget(consumer.asked.id);
            for _ in 0..consumer.unsettled {
                consumer.asked.window.release();
            }
            if consumer.unsettled > 0 {
                fx.window_released(&consumer.asked.window);
            }
        }
        let gone = ids
            .into_iter()
            .filter_map(|slot| self.slots[slot as usize].take())
            .map(|consumer| consumer.asked)
            .collect();
        self.slots = Vec::new();
        self.free = Vec::new();
        self.rings = Vec::new();
        self.queued = 0;
        self.active = None;
        self.exclusive = None;
        gone
    }

    /// Chooses the single active consumer, if another one than now must be.
    fn activate(&mut self) {
        let highest = |this: &Self| {
            // Later ids do not displace earlier ones of the same priority.
            this.live_consumers()
                .max_by_key(|(slot, consumer)| {
                    (
                        consumer.asked.settings.priority,
                        std::cmp::Reverse(consumer.asked.id),
                        *slot,
                    )
                })
                .map(|(slot, _)| slot)
        };
        let candidate = match self.sharing {
            Sharing::Competing => return,
            Sharing::SingleEarliest => self.by_id.values().next().copied(),
            Sharing::SingleHighest => highest(self),
        };
        let Some(candidate) = candidate else {
            return;
        };
        let Some(active) = self.active else {
            self.active = Some(candidate);
            self.enqueue(candidate);
            return;
        };
        if active == candidate {
            self.resume(active);
            return;
        }
        if self.sharing == Sharing::SingleEarliest {
            return;
        }
        self.retire(active);
        let drained = self.slots[active as usize]
            .as_ref()
            .is_none_or(|consumer| consumer.unsettled == 0);
        if drained {
            if let Some(consumer) = self.slots[active as usize].as_mut() {
                consumer.quiescing = false;
            }
            self.active = Some(candidate);
            self.enqueue(candidate);
        }
    }

    /// Takes the active consumer off its ring: it gets nothing more until it is active again.
    fn retire(&mut self, slot: u32) {
        let Some(consumer) = self.slots[slot as usize].as_mut() else {
            return;
        };
        consumer.quiescing = true;
        let was_queued = consumer.turn == Turn::Queued;
        consumer.turn = Turn::Waiting;
        let priority = consumer.asked.settings.priority;
        if was_queued && let Ok(ring) = self.find_ring(priority) {
            self.rings[ring].slots.retain(|other| *other != slot);
            self.queued -= 1;
        }
    }

    /// Lets the active consumer go on: whoever was to take over is gone.
    fn resume(&mut self, slot: u32) {
        if let Some(consumer) = self.slots[slot as usize].as_mut()
            && consumer.quiescing
        {
            consumer.quiescing = false;
            self.enqueue(slot);
        }
    }

    fn live_consumers(&self) -> impl Iterator<Item = (u32, &Consumer)> {
        self.by_id.values().filter_map(|slot| {
            self.slots[*slot as usize]
                .as_deref()
                .filter(|consumer| consumer.is_live())
                .map(|consumer| (*slot, consumer))
        })
    }

    /// Puts a consumer at the end of the ring of its priority.
    fn enqueue(&mut self, slot: u32) {
        let Some(consumer) = self.slots[slot as usize].as_mut() else {
            return;
        };
        consumer.turn = Turn::Queued;
        let priority = consumer.asked.settings.priority;
        let index = self.find_ring(priority).unwrap_or_else(|index| {
            let ring = Ring {
                priority,
                slots: VecDeque::with_capacity(1),
            };
            if self.rings.is_empty() {
                self.rings.reserve_exact(1);
            }
            self.rings.insert(index, ring);
            index
        });
        self.rings[index].slots.push_back(slot);
        self.queued += 1;
    }

    fn find_ring(&self, priority: i64) -> Result<usize, usize> {
        self.rings
            .binary_search_by(|ring| priority.cmp(&ring.priority))
    }

    fn vacate(&mut self, slot: u32) {
        self.slots[slot as usize] = None;
        if self.slots.iter().all(Option::is_none) {
            self.slots = Vec::new();
            self.free = Vec::new();
        } else {
            self.free.push(slot);
        }
    }
}
