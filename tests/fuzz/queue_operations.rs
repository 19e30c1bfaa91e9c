//! Random operations on two queues that share a channel's window, beside a plain model.
//!
//! The model knows what waits, what is handed out and what is allowed; it does not predict whose turn it
//! is, but checks that every delivery is the next message in the order of service, to a consumer that may
//! have it, and that nothing waits while somebody could take it. `HAREMQ_FUZZ_SECONDS` (default 3) says
//! how long, `HAREMQ_FUZZ_SEED` with which seed; the seed of a failing case is printed.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use haremq::model::{
    ChannelWindow, ConnectionId, ConsumerId, DeathReason, Delivery, InboxEvent, Message, Now,
    Outlet, Position, QueueId, SettlementOutcome,
};
use haremq::protocol::{FieldTable, Properties, PropertyFacts, ShortString, Value};
use haremq::queue::{
    AskedGet, ConsumeArguments, DeadLetter, Effects, GetOutcome, NewConsumer, PolicySettings,
    Published, QueueDeclaration, QueueHandle, QueueKind, QueueSettings,
};
use parking_lot::Mutex;

const OPERATIONS_PER_CASE: u64 = 300;

/// SplitMix64: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Deliveries in the order in which they were handed over, whoever got them.
type Log = Arc<Mutex<VecDeque<Delivery>>>;

#[derive(Debug)]
struct Recorder {
    room: AtomicI64,
    log: Log,
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
        if let InboxEvent::Deliver(delivery) = event {
            self.log.lock().push_back(delivery);
        }
    }

    fn wake(&self) {}
}

#[derive(Clone, Debug)]
struct Waiting {
    position: u64,
    body: u64,
    level: u8,
    deadline: u64,
    acquired: u32,
    failed: u32,
}

#[derive(Debug)]
struct Held {
    message: Waiting,
    consumer: Option<u64>,
}

struct Consuming {
    prefetch: usize,
    no_ack: bool,
    recorder: Arc<Recorder>,
}

/// A queue and what the model knows of it.
struct Pair {
    real: QueueHandle,
    kind: QueueKind,
    single_active: bool,
    max_priority: u8,
    max_length: usize,
    rejects: bool,
    ttl_ms: u64,
    delivery_limit: u32,
    /// In the order of service within a level; levels are compared when asked.
    ready: Vec<Waiting>,
    returns: Vec<Waiting>,
    unsettled: BTreeMap<u64, Held>,
    consumers: BTreeMap<u64, Consuming>,
    log: Log,
}

impl Pair {
    fn new(id: u64, random: &mut Random, now: Now, fx: &mut Effects) -> Self {
        let kind = if random.chance(50) {
            QueueKind::Classic
        } else {
            QueueKind::Quorum
        };
        let quorum = kind == QueueKind::Quorum;
        let mut arguments = FieldTable::new();
        let mut set = |name, value: Value| arguments.push(ShortString::from_static(name), value);
        set("x-dead-letter-exchange", Value::from("dlx"));
        let mut max_priority = if quorum { 31 } else { 0 };
        if !quorum && random.chance(40) {
            max_priority = random.below(5) as u8;
            set("x-max-priority", Value::U8(max_priority));
        }
        let mut max_length = usize::MAX;
        let mut rejects = false;
        if random.chance(40) {
            max_length = random.below(8) as usize;
            set("x-max-length", Value::I32(max_length as i32));
            rejects = random.chance(50);
            if rejects {
                set("x-overflow", Value::from("reject-publish"));
            }
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
        let settings = QueueSettings::parse("q", "/", kind, &arguments).unwrap();
        let declaration = QueueDeclaration {
            id: QueueId(id),
            name: format!("q{id}").into(),
            vhost: "/".into(),
            durable: true,
            exclusive_owner: None,
            auto_delete: false,
            arguments,
            settings,
        };
        Self {
            real: QueueHandle::new(declaration, &PolicySettings::default(), now, fx),
            kind,
            single_active,
            max_priority,
            max_length,
            rejects,
            ttl_ms,
            delivery_limit,
            ready: Vec::new(),
            returns: Vec::new(),
            unsettled: BTreeMap::new(),
            consumers: BTreeMap::new(),
            log: Log::default(),
        }
    }

    fn ready_count(&self) -> usize {
        self.ready.len() + self.returns.len()
    }

    fn level(&self, priority: Option<u8>) -> u8 {
        let absent = if self.kind == QueueKind::Quorum { 4 } else { 0 };
        priority.unwrap_or(absent).min(self.max_priority)
    }

    /// The index of the next message in `ready`, when `returns` is empty.
    fn head_of_ready(&self) -> Option<usize> {
        let key = |message: &Waiting| (u8::MAX - message.level, message.position);
        (0..self.ready.len()).min_by_key(|index| key(&self.ready[*index]))
    }

    fn head(&self) -> Option<&Waiting> {
        self.returns
            .first()
            .or_else(|| self.head_of_ready().map(|index| &self.ready[index]))
    }

    fn pop(&mut self) -> Waiting {
        if self.returns.is_empty() {
            let head = self.head_of_ready().expect("something waits");
            self.ready.remove(head)
        } else {
            self.returns.remove(0)
        }
    }

    /// Takes a message that stands at the head of its level or of the returns.
    fn pop_head_with_body(&mut self, body: u64) -> Option<Waiting> {
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

    fn hand_out(&mut self, delivery: &Delivery, now: Now) {
        let mut message = self.pop();
        assert_eq!(message.position, delivery.position.0, "not the next one");
        assert!(
            message.deadline > now.wall_ms || message.acquired == 0,
            "expired"
        );
        assert_eq!(delivery.redelivered, message.acquired > 0);
        let shows_counts = self.kind == QueueKind::Quorum && message.acquired > 0;
        assert_eq!(
            delivery
                .counts
                .map(|counts| (counts.acquired, counts.delivery)),
            shows_counts.then_some((message.acquired, message.failed))
        );
        let id = delivery.consumer.0;
        let consumer = &self.consumers[&id];
        assert_eq!(consumer.no_ack, delivery.no_ack);
        if self.single_active && self.kind == QueueKind::Classic {
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

    fn held_by(&self, id: u64) -> usize {
        self.unsettled
            .values()
            .filter(|held| held.consumer == Some(id))
            .count()
    }

    /// Puts a message back, or says that it died of too many deliveries.
    fn requeue(&mut self, mut message: Waiting, failed: bool) -> bool {
        if self.kind == QueueKind::Classic {
            self.ready.push(message);
            return true;
        }
        message.failed += u32::from(failed);
        if message.failed > self.delivery_limit {
            return false;
        }
        self.returns.push(message);
        true
    }
}

struct World {
    random: Random,
    pairs: [Pair; 2],
    window: Arc<ChannelWindow>,
    fx: Effects,
    now: Now,
    next_body: u64,
    next_consumer: u64,
    /// Dead letters that the model has not explained yet.
    dead: VecDeque<DeadLetter>,
    /// Deaths that the model waits to see.
    deaths: Vec<(u64, DeathReason)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let now = Now {
            monotonic: Instant::now(),
            wall_ms: 1_000_000,
        };
        let mut fx = Effects::default();
        let pairs = [1, 2].map(|id| Pair::new(id, &mut random, now, &mut fx));
        let window = Arc::new(ChannelWindow::default());
        window.set_limit(random.below(4) as u32);
        Self {
            random,
            pairs,
            window,
            fx,
            now,
            next_body: 0,
            next_consumer: 0,
            dead: VecDeque::new(),
            deaths: Vec::new(),
        }
    }

    fn step(&mut self) {
        let at = self.random.below(2) as usize;
        match self.random.below(100) {
            0..35 => self.publish(at),
            35..65 => self.settle(at),
            65..75 => self.add_consumer(at),
            75..80 => self.remove_consumer(at),
            80..87 => self.give_room(at),
            87..92 => self.get(at),
            92..97 => self.pass(),
            97..98 => self.purge(at),
            _ => self.change_limit(),
        }
        self.catch_up();
        self.wake_parked();
        self.let_deadlines_come();
        self.check();
    }

    fn publish(&mut self, at: usize) {
        self.next_body += 1;
        let body = self.next_body;
        let priority = self.random.chance(60).then(|| self.random.below(40) as u8);
        let ttl_ms = self.random.chance(20).then(|| self.random.below(50));
        let properties = Properties {
            priority,
            expiration: ttl_ms.map(|ttl_ms| ShortString::new(ttl_ms.to_string()).unwrap()),
            ..Properties::default()
        }
        .to_encoded();
        let facts = PropertyFacts::of(&properties).unwrap();
        let message = Message::copied(
            "".into(),
            b"q",
            &properties,
            facts,
            body.to_string().as_bytes(),
        );
        let pair = &mut self.pairs[at];
        let refuses = pair.rejects && pair.ready_count() + 1 > pair.max_length;
        let published = pair
            .real
            .publish(Arc::new(message), self.now, &mut self.fx)
            .unwrap();
        match published {
            Published::Rejected => assert!(refuses),
            Published::Accepted(position) => {
                assert!(!refuses);
                let ttl_ms = ttl_ms.unwrap_or(u64::MAX).min(pair.ttl_ms);
                pair.ready.push(Waiting {
                    position: position.0,
                    body,
                    level: pair.level(priority),
                    deadline: self.now.wall_ms.saturating_add(ttl_ms),
                    acquired: 0,
                    failed: 0,
                });
            }
        }
    }

    fn settle(&mut self, at: usize) {
        let mut batch = Vec::new();
        for _ in 0..=self.random.below(3) {
            let pair = &mut self.pairs[at];
            if pair.unsettled.is_empty() {
                break;
            }
            let index = self.random.below(pair.unsettled.len() as u64) as usize;
            let position = *pair.unsettled.keys().nth(index).unwrap();
            let held = pair.unsettled.remove(&position).unwrap();
            let body = held.message.body;
            let consumer = held.consumer.map(ConsumerId);
            let outcome = match self.random.below(8) {
                0..4 => SettlementOutcome::Acked,
                4 => SettlementOutcome::Rejected,
                5 => SettlementOutcome::RequeuedByReject,
                6 => SettlementOutcome::RequeuedByNack,
                _ => SettlementOutcome::ReturnedByLoss,
            };
            match outcome {
                SettlementOutcome::Acked => {}
                SettlementOutcome::Rejected => self.deaths.push((body, DeathReason::Rejected)),
                other => {
                    let failed = other != SettlementOutcome::RequeuedByNack;
                    if !pair.requeue(held.message, failed) {
                        self.deaths.push((body, DeathReason::DeliveryLimit));
                    }
                }
            }
            batch.push((Position(position), consumer, outcome));
        }
        let pair = &self.pairs[at];
        let settled = pair
            .real
            .settle_batch(batch.iter().copied(), self.now, &mut self.fx);
        assert_eq!(settled, Ok(batch.len()));
    }

    fn add_consumer(&mut self, at: usize) {
        if self.pairs[at].consumers.len() >= 5 {
            return;
        }
        self.next_consumer += 1;
        let id = self.next_consumer;
        let pair = &mut self.pairs[at];
        let recorder = Arc::new(Recorder {
            room: AtomicI64::new(self.random.below(6) as i64),
            log: Arc::clone(&pair.log),
        });
        let mut prefetch = self.random.below(4);
        let no_ack = self.random.chance(25);
        let settings = ConsumeArguments {
            priority: self.random.below(3) as i64 - 1,
            timeout_ms: None,
        };
        // The model must know it before the first delivery is checked.
        if pair.kind == QueueKind::Quorum && prefetch == 0 {
            prefetch = 2000;
        }
        pair.consumers.insert(
            id,
            Consuming {
                prefetch: prefetch as usize,
                no_ack,
                recorder: Arc::clone(&recorder),
            },
        );
        let asked = NewConsumer {
            id: ConsumerId(id),
            channel: 1,
            tag: "tag".into(),
            no_ack,
            exclusive: false,
            prefetch: prefetch as u32,
            settings,
            arguments: FieldTable::new(),
            outlet: recorder,
            window: Arc::clone(&self.window),
        };
        pair.real
            .add_consumer(asked, self.now, &mut self.fx)
            .unwrap();
    }

    fn remove_consumer(&mut self, at: usize) {
        let pair = &mut self.pairs[at];
        if pair.consumers.is_empty() {
            return;
        }
        let index = self.random.below(pair.consumers.len() as u64) as usize;
        let id = *pair.consumers.keys().nth(index).unwrap();
        pair.consumers.remove(&id);
        let removed = pair
            .real
            .remove_consumers(&[ConsumerId(id)], self.now, &mut self.fx);
        assert_eq!(removed, Ok(true));
    }

    fn give_room(&mut self, at: usize) {
        let pair = &mut self.pairs[at];
        for (id, consumer) in &pair.consumers {
            consumer
                .recorder
                .room
                .fetch_add(self.random.below(4) as i64, Ordering::SeqCst);
            pair.real
                .consumer_ready(ConsumerId(*id), self.now, &mut self.fx)
                .unwrap();
        }
    }

    fn get(&mut self, at: usize) {
        let no_ack = self.random.chance(50);
        let pair = &mut self.pairs[at];
        let asked = AskedGet {
            connection: ConnectionId(1),
            channel: 1,
            no_ack,
            outlet: Arc::new(Recorder {
                room: AtomicI64::new(0),
                log: Log::default(),
            }),
        };
        let got = pair.real.get(asked, self.now, &mut self.fx);
        if pair.single_active && pair.kind == QueueKind::Quorum {
            assert!(got.is_err());
            return;
        }
        let got = got.unwrap();
        self.catch_up();
        let pair = &mut self.pairs[at];
        let GetOutcome::Got(got) = got else {
            assert_eq!(pair.ready_count(), 0);
            return;
        };
        let mut message = pair.pop();
        assert_eq!(message.position, got.position.0);
        assert_eq!(got.redelivered, message.acquired > 0);
        assert_eq!(got.messages_ready as usize, pair.ready_count());
        if !no_ack {
            message.acquired += 1;
            let held = Held {
                message,
                consumer: None,
            };
            pair.unsettled.insert(held.message.position, held);
        }
    }

    fn pass(&mut self) {
        let ms = self.random.below(40);
        self.now = self.now.after(Duration::from_millis(ms));
        for pair in &self.pairs {
            pair.real.handle_timeout(self.now, &mut self.fx).unwrap();
        }
    }

    fn purge(&mut self, at: usize) {
        let pair = &mut self.pairs[at];
        let purged = pair.real.purge(&mut self.fx).unwrap();
        assert_eq!(purged as usize, pair.ready_count());
        pair.ready.clear();
        pair.returns.clear();
    }

    fn change_limit(&mut self) {
        self.window.set_limit(self.random.below(5) as u32);
    }

    /// What the connection's executor does after each burst.
    fn wake_parked(&mut self) {
        while self.window.has_room() {
            let Some((queue, consumer)) = self.window.take_parked() else {
                break;
            };
            let pair = &self.pairs[queue.0 as usize - 1];
            pair.real
                .consumer_ready(consumer, self.now, &mut self.fx)
                .unwrap();
            self.catch_up();
        }
    }

    /// Heads that an operation laid bare may have expired long ago.
    fn let_deadlines_come(&mut self) {
        loop {
            let mut due = std::mem::take(&mut self.fx.deadlines);
            due.retain(|(_, deadline)| *deadline <= self.now.wall_ms);
            if due.is_empty() {
                return;
            }
            for (queue, _) in due {
                let pair = &self.pairs[queue.0 as usize - 1];
                pair.real.handle_timeout(self.now, &mut self.fx).unwrap();
            }
            self.catch_up();
            self.wake_parked();
        }
    }

    /// Applies to the model what the queues did: dead letters as soon as they are possible, deliveries
    /// otherwise.
    fn catch_up(&mut self) {
        self.dead.extend(self.fx.dead_letters.drain(..));
        loop {
            if let Some(letter) = self.dead.front() {
                let body = std::str::from_utf8(letter.message.as_ref().unwrap().body()).unwrap();
                let body: u64 = body.parse().unwrap();
                let known = self
                    .deaths
                    .iter()
                    .position(|death| *death == (body, letter.reason));
                let pair = &mut self.pairs[letter.queue.0 as usize - 1];
                let possible = match letter.reason {
                    DeathReason::Rejected | DeathReason::DeliveryLimit => {
                        self.deaths.swap_remove(known.expect("nobody let it die"));
                        true
                    }
                    DeathReason::Expired => {
                        let message = pair.pop_head_with_body(body);
                        message.is_some_and(|message| {
                            assert!(message.deadline <= self.now.wall_ms, "not expired");
                            true
                        })
                    }
                    DeathReason::MaxLen => {
                        let is_over = pair.ready_count() > pair.max_length && !pair.rejects;
                        let is_head = pair.head().is_some_and(|head| head.body == body);
                        if is_over && is_head {
                            pair.pop();
                        }
                        is_over && is_head
                    }
                };
                if possible {
                    self.dead.pop_front();
                    continue;
                }
            }
            let now = self.now;
            let advanced = self.pairs.iter_mut().any(|pair| {
                let next = pair.log.lock().pop_front();
                next.is_some_and(|delivery| {
                    pair.hand_out(&delivery, now);
                    true
                })
            });
            if !advanced {
                return;
            }
        }
    }

    fn check(&mut self) {
        assert!(self.dead.is_empty(), "unexplained: {:?}", self.dead);
        assert!(self.deaths.is_empty(), "missing: {:?}", self.deaths);
        let mut in_window = 0;
        for pair in &self.pairs {
            let snapshot = pair.real.snapshot().unwrap();
            let inside = snapshot.messages_ready + snapshot.messages_unsettled;
            assert!(snapshot.counters.is_balanced(inside), "{snapshot:?}");
            assert_eq!(snapshot.messages_ready as usize, pair.ready_count());
            assert_eq!(snapshot.messages_unsettled as usize, pair.unsettled.len());
            assert_eq!(snapshot.consumers as usize, pair.consumers.len());
            in_window += pair
                .unsettled
                .values()
                .filter(|held| held.consumer.is_some())
                .count();
            if pair.rejects || pair.max_length == usize::MAX {
                // Returns may exceed the limit of a queue that refuses.
            } else {
                assert!(pair.ready_count() <= pair.max_length);
            }
            if pair.ready_count() == 0 || pair.single_active {
                continue;
            }
            for (id, consumer) in &pair.consumers {
                let has_credit = consumer.no_ack
                    || ((consumer.prefetch == 0 || pair.held_by(*id) < consumer.prefetch)
                        && self.window.has_room());
                let has_room = consumer.recorder.room.load(Ordering::SeqCst) > 0;
                assert!(!(has_credit && has_room), "{id} could take what waits");
            }
        }
        assert_eq!(self.window.outstanding() as usize, in_window);
        self.fx.windows.clear();
        self.fx.dispatch();
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..OPERATIONS_PER_CASE {
        world.step();
    }
    for pair in &world.pairs {
        pair.real.delete_now(&mut world.fx).unwrap();
    }
    assert_eq!(world.window.outstanding(), 0);
}

#[test]
fn random_operations_agree_with_the_model() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seconds = number("HAREMQ_FUZZ_SECONDS").unwrap_or(3);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let first = number("HAREMQ_FUZZ_SEED").unwrap_or(clock.as_nanos() as u64);
    println!("HAREMQ_FUZZ_SEED={first}");
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut cases = 0u64;
    while cases == 0 || Instant::now() < end {
        let seed = first.wrapping_add(cases);
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("failed with HAREMQ_FUZZ_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
        cases += 1;
    }
    println!("{cases} cases of {OPERATIONS_PER_CASE} operations");
}
