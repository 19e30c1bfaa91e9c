//! A queue's state beside a plain model of it and a plain log.
//!
//! In: what the world does, and what the queue answers. Out: panics where both disagree. The log is a map from positions to messages; it is told
//! what the effects say, and answers loads from what it has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use haremq::model::{
    ConsumerId, Delivery, Got, InboxEvent, Now, Outlet, Position, QueueId, SharedMessage,
};
use haremq::protocol::{FieldTable, ShortString, Value};
use haremq::queue::{
    DeadLetter, Deadline, Effects, HotBudget, Keep, Load, LoadedBlock, LoadedMessage, NextLetter,
    PolicySettings, QueueKind, QueueSettings, QueueState, Recovered, RecoveredLane,
};
use parking_lot::Mutex;

/// SplitMix64: small, and the same on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What a queue handed over.
#[derive(Debug)]
pub enum Given {
    Delivery(Delivery),
    Answer { channel: u16, got: Option<Got> },
}

/// What was handed over, in that order, whoever got it.
pub type Gifts = Arc<Mutex<VecDeque<Given>>>;

#[derive(Debug)]
pub struct Recorder {
    pub room: AtomicI64,
    pub gifts: Gifts,
}

impl Outlet for Recorder {
    fn try_reserve(&self, _: ConsumerId, _: QueueId, _: usize) -> bool {
        self.room
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |room| {
                (room > 0).then_some(room - 1)
            })
            .is_ok()
    }

    fn push(&self, event: InboxEvent) {
        match event {
            InboxEvent::Deliver(delivery) => {
                self.gifts.lock().push_back(Given::Delivery(delivery));
            }
            InboxEvent::Got { channel, got, .. } => {
                self.gifts.lock().push_back(Given::Answer { channel, got });
            }
            _ => {}
        }
    }

    fn wake(&self) {}
}

#[derive(Clone, Debug)]
pub struct Waiting {
    pub position: u64,
    pub body: u64,
    pub level: u8,
    pub deadline: u64,
    pub acquired: u32,
    pub failed: u32,
    pub is_logged: bool,
}

#[derive(Debug)]
pub struct Held {
    pub message: Waiting,
    pub consumer: Option<u64>,
}

pub struct Consuming {
    pub prefetch: usize,
    pub no_ack: bool,
    pub recorder: Arc<Recorder>,
}

/// A message in the log, and whether it outlives a restart.
pub struct Logged {
    pub message: SharedMessage,
    pub deadline: Deadline,
    pub keep: Keep,
    /// What the queue reported of its returns.
    pub counts: Option<(u32, u32)>,
}

/// What a queue was declared with.
pub struct Traits {
    pub kind: QueueKind,
    pub single_active: bool,
    pub max_priority: u8,
    pub max_length: usize,
    pub rejects: bool,
    pub ttl_ms: u64,
    pub delivery_limit: u32,
    pub delay_ms: Option<u64>,
    pub retains: bool,
    pub durable: bool,
    pub settings: QueueSettings,
}

impl Traits {
    fn random(random: &mut Random) -> Self {
        let kind = if random.chance(50) {
            QueueKind::Classic
        } else {
            QueueKind::Quorum
        };
        let quorum = kind == QueueKind::Quorum;
        let mut arguments = FieldTable::new();
        let mut set = |name, value: Value| arguments.push(ShortString::from_static(name), value);
        // Without it, the model would not hear what the queue drops.
        set("x-dead-letter-exchange", Value::from("dlx"));
        let mut max_priority = if quorum { 31 } else { 0 };
        if !quorum && random.chance(40) {
            max_priority = random.below(5) as u8;
            set("x-max-priority", Value::U8(max_priority));
        }
        let mut max_length = usize::MAX;
        let mut rejects = false;
        let mut retains = false;
        if random.chance(40) {
            max_length = random.below(20) as usize;
            set("x-max-length", Value::I32(max_length as i32));
            rejects = random.chance(50);
            if rejects {
                set("x-overflow", Value::from("reject-publish"));
                retains = quorum && random.chance(70);
            }
        }
        if retains {
            set("x-dead-letter-strategy", Value::from("at-least-once"));
        }
        let mut ttl_ms = u64::MAX;
        if random.chance(30) {
            ttl_ms = random.below(60);
            set("x-message-ttl", Value::I64(ttl_ms as i64));
        }
        let single_active = random.chance(20);
        if single_active {
            set("x-single-active-consumer", Value::Bool(true));
        }
        let mut delivery_limit = if quorum { 20 } else { u32::MAX };
        if quorum && random.chance(50) {
            delivery_limit = random.below(3) as u32;
            set("x-delivery-limit", Value::I64(i64::from(delivery_limit)));
        }
        let mut delay_ms = None;
        if quorum && random.chance(30) {
            let ms = 1 + random.below(30);
            delay_ms = Some(ms);
            set("x-delayed-retry-type", Value::from("all"));
            set("x-delayed-retry-min", Value::I64(ms as i64));
        }
        Self {
            kind,
            single_active,
            max_priority,
            max_length,
            rejects,
            ttl_ms,
            delivery_limit,
            delay_ms,
            retains,
            durable: random.chance(60),
            settings: QueueSettings::parse("q", "/", kind, &arguments).unwrap(),
        }
    }
}

/// A queue and what the model knows of it.
pub struct Pair {
    pub id: u64,
    pub real: QueueState,
    pub traits: Traits,
    /// In the order of service within a level; levels are compared when asked.
    pub ready: Vec<Waiting>,
    pub returns: Vec<Waiting>,
    /// What came while a head was to be dropped that is not loaded, by steps; whether each goes behind the returns.
    pub staged: VecDeque<Vec<(bool, Waiting)>>,
    pub delayed: BTreeMap<(u64, u64), Waiting>,
    /// Dead letters that have not arrived, and whether the log has them.
    pub retained: BTreeMap<u64, bool>,
    pub unsettled: BTreeMap<u64, Held>,
    pub consumers: BTreeMap<u64, Consuming>,
    /// Who waits for the answer to a get: channel, no-ack.
    pub gets: VecDeque<(u16, bool)>,
    pub gifts: Gifts,
    pub log: BTreeMap<u64, Logged>,
    pub loads: Vec<Load>,
    pub blocks: Vec<LoadedBlock>,
    /// A load failed: the next one comes at this time.
    pub load_again_ms: u64,
    /// The last sequence in each lane, and the last one handed out.
    pub given: BTreeMap<u8, u64>,
    pub delivered: BTreeMap<u8, u64>,
    pub lost: u64,
}

impl Pair {
    pub fn new(id: u64, random: &mut Random, budget: &Arc<HotBudget>, now: Now) -> Self {
        let traits = Traits::random(random);
        Self {
            id,
            real: state(id, &traits, budget, now),
            traits,
            ready: Vec::new(),
            returns: Vec::new(),
            staged: VecDeque::new(),
            delayed: BTreeMap::new(),
            retained: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            consumers: BTreeMap::new(),
            gets: VecDeque::new(),
            gifts: Gifts::default(),
            log: BTreeMap::new(),
            loads: Vec::new(),
            blocks: Vec::new(),
            load_again_ms: 0,
            given: BTreeMap::new(),
            delivered: BTreeMap::new(),
            lost: 0,
        }
    }

    pub fn ready_count(&self) -> usize {
        self.ready.len() + self.returns.len() + self.staged.iter().map(Vec::len).sum::<usize>()
    }

    /// Something new: it waits if a drop is owed, together with what else comes in this step.
    pub fn arrive(&mut self, is_return: bool, message: Waiting) {
        if self.real.is_drop_owed() {
            if self.staged.is_empty() {
                self.staged.push_back(Vec::new());
            }
            let step = self.staged.back_mut().unwrap();
            step.push((is_return, message));
        } else if is_return {
            self.returns.push(message);
        } else {
            self.ready.push(message);
        }
    }

    /// What comes next is another step.
    pub fn end_step(&mut self) {
        if self.staged.back().is_some_and(|step| !step.is_empty()) {
            self.staged.push_back(Vec::new());
        }
    }

    /// Whether something that was let in must be dropped.
    pub fn is_over(&self) -> bool {
        let staged = self.staged.iter().map(Vec::len).sum::<usize>();
        let is_over = self.limited_count() - staged > self.traits.max_length;
        !self.traits.rejects && is_over && self.head().is_some()
    }

    /// Lets the next step in, if nothing is to be dropped before. `false` if there is none.
    pub fn let_in(&mut self) -> bool {
        if self.is_over() {
            return false;
        }
        let Some(step) = self.staged.pop_front() else {
            return false;
        };
        for (is_return, message) in step {
            if is_return {
                self.returns.push(message);
            } else {
                self.ready.push(message);
            }
        }
        true
    }

    /// What counts against the limit.
    pub fn limited_count(&self) -> usize {
        self.ready_count() + self.delayed.len() + self.retained.len()
    }

    pub fn is_quorum(&self) -> bool {
        self.traits.kind == QueueKind::Quorum
    }

    pub fn level(&self, priority: Option<u8>) -> u8 {
        let absent = if self.is_quorum() { 4 } else { 0 };
        priority.unwrap_or(absent).min(self.traits.max_priority)
    }

    /// The index of the next message in `ready`, when `returns` is empty.
    fn head_of_ready(&self) -> Option<usize> {
        let key = |message: &Waiting| (u8::MAX - message.level, message.position);
        (0..self.ready.len()).min_by_key(|index| key(&self.ready[*index]))
    }

    pub fn head(&self) -> Option<&Waiting> {
        self.returns
            .first()
            .or_else(|| self.head_of_ready().map(|index| &self.ready[index]))
    }

    pub fn pop(&mut self) -> Waiting {
        if self.returns.is_empty() {
            let head = self.head_of_ready().expect("something waits");
            self.ready.remove(head)
        } else {
            self.returns.remove(0)
        }
    }

    /// Takes a message that stands at the head of its level or of the returns.
    pub fn pop_head_with_body(&mut self, body: u64) -> Option<Waiting> {
        if self.returns.first().is_some_and(|head| head.body == body) {
            return Some(self.returns.remove(0));
        }
        let index = self.ready.iter().position(|waiting| waiting.body == body)?;
        let found = &self.ready[index];
        let is_head = !self
            .ready
            .iter()
            .any(|other| other.level == found.level && other.position < found.position);
        is_head.then(|| self.ready.remove(index))
    }

    /// Something was handed over: it is the next message, and whoever got it may have it.
    pub fn give(&mut self, given: Given, now: Now) {
        match given {
            Given::Delivery(delivery) => self.hand_out(&delivery, now),
            Given::Answer { channel, got } => {
                let (asked, no_ack) = self.gets.pop_front().expect("nobody asked");
                assert_eq!(channel, asked, "not the first who asked");
                match got {
                    Some(got) => {
                        let ready = got.messages_ready as usize;
                        self.take(&got, no_ack);
                        assert!(ready >= self.ready_count());
                    }
                    None => assert_eq!(self.ready_count(), 0),
                }
            }
        }
    }

    /// A get got a message.
    pub fn take(&mut self, got: &Got, no_ack: bool) {
        let mut message = self.pop();
        assert_eq!(message.position, got.position.0);
        assert_eq!(got.redelivered, message.acquired > 0);
        assert_eq!(message.body.to_string().as_bytes(), got.message.body());
        self.note_delivered(got.position);
        if !no_ack {
            message.acquired += 1;
            let held = Held {
                message,
                consumer: None,
            };
            self.unsettled.insert(held.message.position, held);
        }
    }

    fn hand_out(&mut self, delivery: &Delivery, now: Now) {
        let mut message = self.pop();
        assert_eq!(message.position, delivery.position.0, "not the next one");
        assert_eq!(message.body.to_string().as_bytes(), delivery.message.body());
        assert!(
            message.deadline > now.wall_ms || message.acquired == 0,
            "expired"
        );
        assert_eq!(delivery.redelivered, message.acquired > 0);
        let shows_counts = self.is_quorum() && message.acquired > 0;
        assert_eq!(
            delivery
                .counts
                .map(|counts| (counts.acquired, counts.delivery)),
            shows_counts.then_some((message.acquired, message.failed))
        );
        self.note_delivered(delivery.position);
        let id = delivery.consumer.0;
        let consumer = &self.consumers[&id];
        assert_eq!(consumer.no_ack, delivery.no_ack);
        if self.traits.single_active && !self.is_quorum() {
            assert_eq!(
                self.consumers.keys().next(),
                Some(&id),
                "not the active one"
            );
        }
        if delivery.no_ack {
            return;
        }
        message.acquired += 1;
        let consumer = Some(id);
        self.unsettled
            .insert(message.position, Held { message, consumer });
        let has = self.held_by(id);
        let prefetch = self.consumers[&id].prefetch;
        assert!(prefetch == 0 || has <= prefetch, "beyond the prefetch");
    }

    fn note_delivered(&mut self, position: Position) {
        let delivered = self.delivered.entry(position.lane()).or_default();
        *delivered = position.sequence().max(*delivered);
    }

    pub fn held_by(&self, id: u64) -> usize {
        self.unsettled
            .values()
            .filter(|held| held.consumer == Some(id))
            .count()
    }

    /// Puts a message back, or says that it died of too many deliveries.
    pub fn requeue(&mut self, mut message: Waiting, failed: bool, now: Now) -> bool {
        if !self.is_quorum() {
            self.arrive(false, message);
            return true;
        }
        message.failed += u32::from(failed);
        if message.failed > self.traits.delivery_limit {
            return false;
        }
        match self.traits.delay_ms {
            Some(delay_ms) => {
                let key = (now.wall_ms + delay_ms, message.position);
                self.delayed.insert(key, message);
            }
            None => self.arrive(true, message),
        }
        true
    }

    /// Whether what was given comes from the present head.
    pub fn is_head(&self, given: &Given) -> bool {
        let position = match given {
            Given::Delivery(delivery) => delivery.position,
            Given::Answer { got: Some(got), .. } => got.position,
            Given::Answer { got: None, .. } => return self.ready_count() == 0,
        };
        self.head().is_some_and(|head| head.position == position.0)
    }

    /// Lets time pass in the queue and in the model.
    pub fn handle_timeout(&mut self, now: Now, fx: &mut Effects) {
        let stands_still = self.real.is_drop_owed();
        self.real.handle_timeout(now, fx);
        while !stands_still
            && let Some(first) = self.delayed.first_entry()
            && first.key().0 <= now.wall_ms
        {
            let message = first.remove();
            self.returns.push(message);
        }
    }

    /// Plays the log: what the effects of a call on this queue say.
    pub fn record(&mut self, fx: &mut Effects) {
        for (position, acquired, failed) in fx.requeued.drain(..) {
            assert!(self.is_quorum());
            let logged = self.log.get_mut(&position.0).expect("requeued, not logged");
            logged.counts = Some((acquired, failed));
        }
        // What came back may have been dropped in the same call.
        for (position, _) in fx.settled.drain(..) {
            assert!(
                self.log.remove(&position.0).is_some(),
                "settled twice, or never logged: {position:?}"
            );
        }
        if let Some(purge) = fx.purged.take() {
            let mut survivors = BTreeSet::new();
            for run in purge.survivors {
                survivors.extend(run.first.0..run.first.0 + u64::from(run.count));
            }
            for survivor in &survivors {
                assert!(self.log.contains_key(survivor), "not logged: {survivor}");
            }
            self.log.retain(|position, _| survivors.contains(position));
        }
        for load in fx.loads.drain(..) {
            assert_eq!(load.queue.0, self.id);
            assert!(load.bytes_max > 0 && load.first <= load.last);
            assert_eq!(load.first.lane(), load.last.lane());
            self.loads.push(load);
        }
        self.real.settle_budget();
    }

    /// Takes a dead letter, or all that are behind one that is only in the log. What had a place in the log ends there.
    pub fn take_letters(&mut self, now: Now, fx: &mut Effects) -> Vec<DeadLetter> {
        let mut letters = Vec::new();
        let mut is_deferred = false;
        loop {
            let next = if is_deferred {
                self.real.next_deferred_letter(false, fx)
            } else {
                self.real.next_letter(false, fx)
            };
            match next {
                NextLetter::Nothing => break,
                NextLetter::Now(letter) => {
                    assert!(self.real.letter_left(letter.number, fx));
                    for (position, _) in fx.settled.drain(..) {
                        assert!(self.log.remove(&position.0).is_some());
                    }
                    letters.push(letter);
                    if !is_deferred {
                        break;
                    }
                }
                NextLetter::Later => {
                    is_deferred = true;
                    let load = self.real.letters_to_load().expect("nothing to read");
                    let live = self.log.range(load.first.0..=load.last.0);
                    let messages = live.map(|(position, logged)| LoadedMessage {
                        position: Position(*position),
                        message: Arc::clone(&logged.message),
                        deadline: logged.deadline,
                    });
                    let block = LoadedBlock {
                        first: load.first,
                        through: load.last,
                        messages: messages.collect(),
                        damaged: Vec::new(),
                    };
                    self.real.handle_letters_loaded(block, now, fx);
                }
            }
        }
        self.real.settle_budget();
        letters
    }

    /// The loader looks up what a load asked for.
    pub fn plan_load(&mut self, random: &mut Random) {
        if self.loads.is_empty() {
            return;
        }
        let index = random.below(self.loads.len() as u64) as usize;
        let load = self.loads.swap_remove(index);
        let mut block = LoadedBlock {
            first: load.first,
            through: load.last,
            messages: Vec::new(),
            damaged: Vec::new(),
        };
        if random.chance(3) {
            block.through = Position(load.first.0 - 1);
            self.blocks.push(block);
            return;
        }
        let mut bytes = 0;
        for (position, logged) in self.log.range(load.first.0..=load.last.0) {
            if bytes >= load.bytes_max {
                block.through = Position(*position - 1);
                break;
            }
            bytes += logged.message.cost_bytes() as u64;
            block.messages.push(LoadedMessage {
                position: Position(*position),
                message: Arc::clone(&logged.message),
                deadline: logged.deadline,
            });
        }
        // The first one is surely waited for; others in the range may be handed out.
        if random.chance(3) && !block.messages.is_empty() {
            block.damaged.push(block.messages.remove(0).position);
        }
        self.blocks.push(block);
    }

    /// A block arrives.
    pub fn deliver_block(&mut self, random: &mut Random, now: Now, fx: &mut Effects) {
        if self.blocks.is_empty() {
            return;
        }
        let index = random.below(self.blocks.len() as u64) as usize;
        let block = self.blocks.swap_remove(index);
        if block.through < block.first {
            self.load_again_ms = now.wall_ms + 1000;
        }
        let damaged = block.damaged.clone();
        let before = self.real.snapshot().counters.lost;
        self.real.handle_loaded(block, now, fx);
        let lost = self.real.snapshot().counters.lost - before;
        if lost > 0 {
            assert_eq!(lost, damaged.len() as u64, "lost what was there");
            for position in damaged {
                self.log.remove(&position.0);
                self.ready.retain(|waiting| waiting.position != position.0);
                self.returns
                    .retain(|waiting| waiting.position != position.0);
                self.lost += 1;
            }
        }
    }

    /// Whether something is under way that will bring the head.
    pub fn waits_for_load(&self, now: Now) -> bool {
        let Some(head) = self.head() else {
            return false;
        };
        let lane = Position(head.position).lane();
        let loads = self.loads.iter().map(|load| load.first);
        let blocks = self.blocks.iter().map(|block| block.first);
        loads.chain(blocks).any(|first| first.lane() == lane) || now.wall_ms < self.load_again_ms
    }

    /// The broker dies and comes back: what the journal had is there, in the order of positions, and nobody consumes.
    pub fn restart(&mut self, budget: &Arc<HotBudget>, now: Now, fx: &mut Effects) {
        self.log.retain(|_, logged| logged.keep == Keep::Journal);
        self.real = state(self.id, &self.traits, budget, now);
        let mut recovered = Recovered::default();
        for (lane, given) in &self.given {
            let places = Position::new(*lane, 0).0..=Position::new(*lane, Position::SEQUENCE_MAX).0;
            let live: Vec<_> = self.log.range(places).collect();
            let delivered = self.delivered.get(lane).copied();
            let bytes = |logged: &Logged| logged.message.body_bytes() as u64;
            recovered.lanes.push(RecoveredLane {
                first: Position(
                    live.first()
                        .map_or(Position::new(*lane, 1).0, |first| *first.0),
                ),
                last: Position(
                    live.last()
                        .map_or(Position::new(*lane, 1).0, |last| *last.0),
                ),
                messages: live.len() as u64,
                body_bytes: live.iter().map(|(_, logged)| bytes(logged)).sum(),
                may_expire: live
                    .iter()
                    .any(|(_, logged)| logged.deadline != Deadline::NEVER),
                next_sequence: given + 1,
                delivered_through: delivered.map(|sequence| Position::new(*lane, sequence)),
            });
        }
        self.ready.clear();
        self.returns.clear();
        self.staged.clear();
        self.delayed.clear();
        self.retained.clear();
        self.unsettled.clear();
        self.consumers.clear();
        self.gets.clear();
        self.loads.clear();
        self.blocks.clear();
        self.gifts.lock().clear();
        self.load_again_ms = 0;
        for (position, logged) in &self.log {
            let place = Position(*position);
            let delivered = self.delivered.get(&place.lane()).copied();
            let presumed = u32::from(delivered.is_some_and(|last| place.sequence() <= last));
            let (acquired, failed) = logged.counts.unwrap_or((presumed, 0));
            if logged.counts.is_some() {
                recovered.counts.push((place, acquired, failed));
            }
            self.ready.push(Waiting {
                position: *position,
                body: number(&logged.message),
                level: place.lane(),
                deadline: logged.deadline.0,
                acquired,
                failed,
                is_logged: true,
            });
        }
        self.real.recover(recovered, now, fx);
    }

    /// The model's logged messages are those that the log has, and the queue counts what the model counts.
    pub fn check(&self) {
        let snapshot = self.real.snapshot();
        let inside =
            snapshot.messages_ready + snapshot.messages_unsettled + snapshot.messages_delayed;
        assert!(snapshot.counters.is_balanced(inside), "{snapshot:?}");
        assert_eq!(snapshot.messages_ready as usize, self.ready_count());
        assert_eq!(
            snapshot.messages_ready,
            snapshot.messages_paged + snapshot.messages_in_memory
        );
        assert_eq!(snapshot.messages_unsettled as usize, self.unsettled.len());
        assert_eq!(snapshot.messages_delayed as usize, self.delayed.len());
        assert_eq!(snapshot.messages_retained as usize, self.retained.len());
        assert_eq!(snapshot.consumers as usize, self.consumers.len());
        let digits = |waiting: &Waiting| waiting.body.to_string().len() as u64;
        let staged = self.staged.iter().flatten().map(|(_, waiting)| waiting);
        let all_ready = self.ready.iter().chain(&self.returns).chain(staged.clone());
        let ready_bytes: u64 = all_ready.map(digits).sum();
        if self.lost == 0 {
            assert_eq!(snapshot.message_bytes_ready, ready_bytes);
        }
        let held_bytes: u64 = self
            .unsettled
            .values()
            .map(|held| digits(&held.message))
            .sum();
        assert_eq!(snapshot.message_bytes_unsettled, held_bytes);
        let mut logged = BTreeSet::new();
        let waiting = self.ready.iter().chain(&self.returns).chain(staged);
        let held = self.unsettled.values().map(|held| &held.message);
        let all = waiting.chain(held).chain(self.delayed.values());
        logged.extend(
            all.filter(|waiting| waiting.is_logged)
                .map(|waiting| waiting.position),
        );
        let retained = self.retained.iter().filter(|(_, is_logged)| **is_logged);
        logged.extend(retained.map(|(position, _)| *position));
        assert!(
            logged.iter().eq(self.log.keys()),
            "{logged:?} {:?}",
            self.log.keys()
        );
    }
}

fn state(id: u64, traits: &Traits, budget: &Arc<HotBudget>, now: Now) -> QueueState {
    QueueState::new(
        QueueId(id),
        &traits.settings,
        &PolicySettings::default(),
        false,
        traits.durable,
        Arc::clone(budget),
        now,
    )
}

/// The number that is a message's body.
pub fn number(message: &SharedMessage) -> u64 {
    std::str::from_utf8(message.body())
        .unwrap()
        .parse()
        .unwrap()
}
