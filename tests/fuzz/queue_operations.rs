//! Random operations on two queues that share a channel's window and a memory budget, beside a plain model and a plain log.
//!
//! The model knows what waits, what is handed out and what is allowed; it does not predict whose turn it
//! is, but checks that every delivery is the next message in the order of service, to a consumer that may
//! have it, and that nothing waits while somebody could take it, unless it is being loaded. The log answers loads at random later times, fails now and
//! then, and loses a message; it must hear of every message's end exactly once. `HAREMQ_FUZZ_SECONDS` (default 3) says
//! how long, `HAREMQ_FUZZ_SEED` with which seed; the seed of a failing case is printed.

#![allow(clippy::unwrap_used, missing_docs, missing_debug_implementations)]

mod queue_pair;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use haremq::model::{
    ChannelWindow, ConnectionId, ConsumerId, DeathReason, Message, Now, Position, SettlementOutcome,
};
use haremq::protocol::{FieldTable, Properties, PropertyFacts, ShortString};
use haremq::queue::{
    AskedGet, ConsumeArguments, DeadLetter, Effects, GetOutcome, HotBudget, HotLimits, Keep,
    NewConsumer, Offer,
};

use queue_pair::{Consuming, Logged, Pair, Random, Recorder, Waiting, number};

const OPERATIONS_PER_CASE: u64 = 300;

const CONNECTION: ConnectionId = ConnectionId(1);

struct World {
    random: Random,
    budget: Arc<HotBudget>,
    pairs: [Pair; 2],
    window: Arc<ChannelWindow>,
    fx: Effects,
    now: Now,
    next_body: u64,
    next_consumer: u64,
    next_channel: u16,
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
        let budget = if random.chance(20) {
            HotBudget::unlimited()
        } else {
            HotBudget::with_limits(HotLimits {
                bytes_max: random.below(4000),
                queue_bytes_max: 200 + random.below(2000),
                idle_queue_bytes_max: random.below(600),
            })
        };
        let pairs = [1, 2].map(|id| Pair::new(id, &mut random, &budget, now));
        let window = Arc::new(ChannelWindow::default());
        window.set_limit(random.below(4) as u32);
        Self {
            random,
            budget,
            pairs,
            window,
            fx: Effects::default(),
            now,
            next_body: 0,
            next_consumer: 0,
            next_channel: 0,
            dead: VecDeque::new(),
            deaths: Vec::new(),
        }
    }

    fn step(&mut self) {
        let at = self.random.below(2) as usize;
        match self.random.below(1000) {
            0..330 => self.publish(at),
            330..580 => self.settle(at),
            580..660 => self.add_consumer(at),
            660..710 => self.remove_consumer(at),
            710..770 => self.give_room(at),
            770..820 => self.get(at),
            820..830 => self.cancel_gets(at),
            830..870 => self.pass(),
            870..880 => self.purge(at),
            880..890 => self.evict(at),
            890..940 => self.settle_letters(at),
            940..944 => self.restart(at),
            _ => self.change_limit(),
        }
        self.come_to_rest();
        for at in 0..2 {
            if self.random.chance(30) {
                self.pairs[at].plan_load(&mut self.random);
            }
            if self.random.chance(30) {
                self.pairs[at].deliver_block(&mut self.random, self.now, &mut self.fx);
                self.pairs[at].record(&mut self.fx);
            }
        }
        self.come_to_rest();
        self.check();
    }

    fn come_to_rest(&mut self) {
        self.catch_up();
        self.wake_parked();
        self.let_deadlines_come();
    }

    /// Offers a few messages, and lets them enter after that.
    fn publish(&mut self, at: usize) {
        let mut offered = Vec::new();
        for _ in 0..=self.random.below(3) {
            self.next_body += 1;
            let body = self.next_body;
            let priority = self.random.chance(60).then(|| self.random.below(40) as u8);
            let ttl_ms = self.random.chance(20).then(|| self.random.below(50));
            let is_persistent = self.random.chance(60);
            let properties = Properties {
                priority,
                delivery_mode: is_persistent.then_some(2),
                expiration: ttl_ms.map(|ttl_ms| ShortString::new(ttl_ms.to_string()).unwrap()),
                ..Properties::default()
            }
            .to_encoded();
            let facts = PropertyFacts::of(&properties).unwrap();
            let text = body.to_string();
            let message = Message::copied("".into(), b"q", &properties, facts, text.as_bytes());
            let message = Arc::new(message);
            let pair = &mut self.pairs[at];
            let traits = &pair.traits;
            let limited = pair.limited_count() + offered.len();
            let refuses = traits.rejects && limited + 1 > traits.max_length;
            let offer = pair.real.offer(&message, ttl_ms, self.now, &mut self.fx);
            let Offer::Taken(placement) = offer else {
                assert!(refuses);
                continue;
            };
            assert!(!refuses);
            let is_kept = traits.durable && (is_persistent || pair.is_quorum());
            assert_eq!(placement.keep == Keep::Journal, is_kept);
            let level = pair.level(priority);
            let sequence = pair.given.entry(level).or_default();
            *sequence += 1;
            assert_eq!(placement.position, Position::new(level, *sequence));
            let ttl_ms = ttl_ms.unwrap_or(u64::MAX).min(pair.traits.ttl_ms);
            assert_eq!(
                placement.deadline.0,
                self.now.wall_ms.saturating_add(ttl_ms)
            );
            offered.push((message, placement));
        }
        for (message, placement) in offered {
            let pair = &mut self.pairs[at];
            if self.random.chance(3) {
                pair.real.withdraw(&message, placement);
                pair.record(&mut self.fx);
                continue;
            }
            let is_logged = placement.keep != Keep::Memory;
            if is_logged {
                let logged = Logged {
                    message: Arc::clone(&message),
                    deadline: placement.deadline,
                    keep: placement.keep,
                    counts: None,
                };
                pair.log.insert(placement.position.0, logged);
            }
            pair.ready.push(Waiting {
                position: placement.position.0,
                body: number(&message),
                level: placement.position.lane(),
                deadline: placement.deadline.0,
                acquired: 0,
                failed: 0,
                is_logged,
            });
            pair.real.enter(message, placement, self.now, &mut self.fx);
            // What the model sees is the order of entering.
            pair.record(&mut self.fx);
            self.catch_up();
        }
    }

    fn settle(&mut self, at: usize) {
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
                0..3 => SettlementOutcome::Acked,
                3 => SettlementOutcome::Rejected,
                4 => SettlementOutcome::RequeuedByReject,
                5 | 6 => SettlementOutcome::RequeuedByNack,
                _ => SettlementOutcome::ReturnedByLoss,
            };
            match outcome {
                SettlementOutcome::Acked => {}
                SettlementOutcome::Rejected => self.deaths.push((body, DeathReason::Rejected)),
                other => {
                    let failed = other != SettlementOutcome::RequeuedByNack;
                    if !pair.requeue(held.message, failed, self.now) {
                        self.deaths.push((body, DeathReason::DeliveryLimit));
                    }
                }
            }
            let position = Position(position);
            assert!(pair.real.is_held_by(position, consumer));
            if pair.is_quorum() {
                assert!(!pair.real.is_held_by(position, Some(ConsumerId(u64::MAX))));
            }
            assert!(pair.real.settle(position, outcome, self.now, &mut self.fx));
        }
        let pair = &mut self.pairs[at];
        pair.real.after_settlements(self.now, &mut self.fx);
        pair.record(&mut self.fx);
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
            gifts: Arc::clone(&pair.gifts),
        });
        let mut prefetch = self.random.below(4);
        let no_ack = self.random.chance(25);
        let settings = ConsumeArguments {
            priority: self.random.below(3) as i64 - 1,
            timeout_ms: None,
        };
        // The model must know it before the first delivery is checked.
        if pair.is_quorum() && prefetch == 0 {
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
            connection: haremq::model::ConnectionId(1),
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
        pair.record(&mut self.fx);
    }

    fn remove_consumer(&mut self, at: usize) {
        let pair = &mut self.pairs[at];
        if pair.consumers.is_empty() {
            return;
        }
        let index = self.random.below(pair.consumers.len() as u64) as usize;
        let id = *pair.consumers.keys().nth(index).unwrap();
        pair.consumers.remove(&id);
        let ids = [ConsumerId(id)];
        assert!(pair.real.remove_consumers(&ids, self.now, &mut self.fx));
        pair.record(&mut self.fx);
    }

    fn give_room(&mut self, at: usize) {
        let pair = &mut self.pairs[at];
        for (id, consumer) in &pair.consumers {
            consumer
                .recorder
                .room
                .fetch_add(self.random.below(4) as i64, Ordering::SeqCst);
            pair.real
                .consumer_ready(ConsumerId(*id), self.now, &mut self.fx);
        }
        pair.record(&mut self.fx);
    }

    fn get(&mut self, at: usize) {
        let no_ack = self.random.chance(50);
        self.next_channel = self.next_channel.wrapping_add(1);
        let channel = self.next_channel;
        let pair = &mut self.pairs[at];
        let asked = AskedGet {
            connection: CONNECTION,
            channel,
            no_ack,
            outlet: Arc::new(Recorder {
                room: AtomicI64::new(0),
                gifts: Arc::clone(&pair.gifts),
            }),
        };
        let outcome = pair.real.get(asked, self.now, &mut self.fx);
        pair.record(&mut self.fx);
        if pair.traits.single_active && pair.is_quorum() {
            assert!(outcome.is_err());
            return;
        }
        self.catch_up();
        let pair = &mut self.pairs[at];
        match outcome.unwrap() {
            GetOutcome::Later => {
                assert!(pair.waits_for_load(self.now) || !pair.gets.is_empty());
                pair.gets.push_back((channel, no_ack));
            }
            GetOutcome::Empty => assert_eq!(pair.ready_count(), 0),
            GetOutcome::Got(got) => {
                pair.take(&got, no_ack);
                assert_eq!(got.messages_ready as usize, pair.ready_count());
            }
        }
    }

    fn cancel_gets(&mut self, at: usize) {
        let pair = &mut self.pairs[at];
        if let Some((channel, _)) = pair.gets.pop_front() {
            pair.real.cancel_gets(ConnectionId(2), None);
            pair.real.cancel_gets(CONNECTION, Some(channel));
        }
        if self.random.chance(30) {
            pair.real.cancel_gets(CONNECTION, None);
            pair.gets.clear();
        }
    }

    fn pass(&mut self) {
        let ms = match self.random.below(10) {
            0 => 1000,
            1 => 180_000,
            _ => self.random.below(40),
        };
        self.pass_ms(ms);
    }

    fn pass_ms(&mut self, ms: u64) {
        self.now = self.now.after(Duration::from_millis(ms));
        for pair in &mut self.pairs {
            pair.handle_timeout(self.now, &mut self.fx);
            pair.record(&mut self.fx);
        }
    }

    fn purge(&mut self, at: usize) {
        let pair = &mut self.pairs[at];
        let purged = pair.real.purge(&mut self.fx);
        assert_eq!(purged as usize, pair.ready_count());
        pair.ready.clear();
        pair.returns.clear();
        pair.retained.clear();
        pair.record(&mut self.fx);
    }

    fn evict(&mut self, at: usize) {
        let pair = &mut self.pairs[at];
        let before = pair.real.snapshot().message_bytes_in_memory;
        let freed = pair.real.evict(&mut self.fx);
        let after = pair.real.snapshot().message_bytes_in_memory;
        assert_eq!(before - freed, after);
        pair.record(&mut self.fx);
    }

    /// Dead letters that are on their way are recorded; those that were to be kept have arrived, or not.
    fn settle_letters(&mut self, at: usize) {
        let pair = &mut self.pairs[at];
        for position in std::mem::take(&mut pair.leaving) {
            assert!(pair.log.remove(&position).is_some());
            pair.real.letter_left(Position(position));
        }
        if let Some(position) = pair.retained.keys().next().copied() {
            let has_arrived = self.random.chance(60);
            if has_arrived {
                pair.retained.remove(&position);
            }
            let position = Position(position);
            pair.real
                .settle_dead_letter(position, has_arrived, self.now, &mut self.fx);
        }
        pair.record(&mut self.fx);
    }

    fn restart(&mut self, at: usize) {
        let pair = &mut self.pairs[at];
        // Its consumers' places in the window go with it, as their connections do.
        pair.real.delete(&mut self.fx);
        pair.restart(&self.budget, self.now, &mut self.fx);
        pair.record(&mut self.fx);
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
            let pair = &mut self.pairs[queue.0 as usize - 1];
            pair.real.consumer_ready(consumer, self.now, &mut self.fx);
            pair.record(&mut self.fx);
            self.catch_up();
        }
    }

    /// Heads that an operation laid bare may have expired long ago.
    fn let_deadlines_come(&mut self) {
        for at in 0..2 {
            while self.pairs[at]
                .real
                .poll_timeout()
                .is_some_and(|deadline| deadline <= self.now.wall_ms)
            {
                let pair = &mut self.pairs[at];
                pair.handle_timeout(self.now, &mut self.fx);
                pair.record(&mut self.fx);
                self.catch_up();
                self.wake_parked();
            }
        }
    }

    /// Applies to the model what the queues did: dead letters as soon as they are possible, gifts otherwise.
    fn catch_up(&mut self) {
        self.dead.extend(self.fx.dead_letters.drain(..));
        loop {
            if self.explain_letter() {
                continue;
            }
            let now = self.now;
            let advanced = self.pairs.iter_mut().any(|pair| {
                let next = pair.gifts.lock().pop_front();
                next.is_some_and(|given| {
                    pair.give(given, now);
                    true
                })
            });
            if !advanced {
                return;
            }
        }
    }

    /// Whether the first dead letter is one that the model expects now.
    fn explain_letter(&mut self) -> bool {
        let Some(letter) = self.dead.front() else {
            return false;
        };
        let pair = &mut self.pairs[letter.queue.0 as usize - 1];
        if let Some(position) = letter.retained
            && pair.retained.contains_key(&position.0)
        {
            // It did not arrive, and is sent again.
            self.dead.pop_front();
            return true;
        }
        let body = number(&pair.message_of(letter));
        let known = self
            .deaths
            .iter()
            .position(|death| *death == (body, letter.reason));
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
                let traits = &pair.traits;
                let is_over = pair.limited_count() > traits.max_length && !traits.rejects;
                let is_head = pair.head().is_some_and(|head| head.body == body);
                if is_over && is_head {
                    pair.pop();
                }
                is_over && is_head
            }
        };
        if possible {
            if let Some(position) = letter.retained {
                assert!(pair.traits.retains && letter.source.is_none());
                let is_logged = pair.log.contains_key(&position.0);
                pair.retained.insert(position.0, is_logged);
            }
            if let Some(position) = letter.source {
                pair.leaving.push(position.0);
            }
            self.dead.pop_front();
        }
        possible
    }

    fn check(&mut self) {
        assert!(self.dead.is_empty(), "unexplained: {:?}", self.dead);
        assert!(self.deaths.is_empty(), "missing: {:?}", self.deaths);
        let mut in_window = 0;
        let mut in_memory = 0;
        for pair in &self.pairs {
            pair.check();
            in_memory += pair.real.snapshot().message_bytes_in_memory;
            in_window += pair
                .unsettled
                .values()
                .filter(|held| held.consumer.is_some())
                .count();
            let is_loading = pair.waits_for_load(self.now);
            assert!(
                pair.gets.is_empty() || is_loading,
                "a get waits for nothing"
            );
            if pair.traits.rejects || is_loading {
                // Returns may exceed the limit of a queue that refuses, and what is not loaded cannot be dropped.
            } else {
                assert!(pair.ready_count() == 0 || pair.limited_count() <= pair.traits.max_length);
            }
            if pair.ready_count() == 0 || pair.traits.single_active || is_loading {
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
        assert_eq!(self.budget.bytes(), in_memory);
        self.fx.windows.clear();
        self.fx.dispatch();
    }

    /// Takes everything out by gets, loading what must be loaded, in the order of service.
    fn drain(&mut self, at: usize) {
        let pair = &mut self.pairs[at];
        if pair.traits.single_active && pair.is_quorum() {
            return;
        }
        let ids: Vec<_> = pair.consumers.keys().copied().map(ConsumerId).collect();
        pair.consumers.clear();
        pair.real.remove_consumers(&ids, self.now, &mut self.fx);
        pair.record(&mut self.fx);
        self.come_to_rest();
        let mut rounds = 0;
        while self.pairs[at].ready_count() > 0 {
            rounds += 1;
            assert!(rounds < 100_000, "it never ends");
            if self.pairs[at].gets.is_empty() {
                self.get(at);
            }
            self.pairs[at].plan_load(&mut self.random);
            self.pairs[at].deliver_block(&mut self.random, self.now, &mut self.fx);
            self.pairs[at].record(&mut self.fx);
            self.catch_up();
            if self.now.wall_ms < self.pairs[at].load_again_ms {
                self.pass_ms(1000);
            }
            self.come_to_rest();
            self.check();
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..OPERATIONS_PER_CASE {
        world.step();
    }
    world.drain(0);
    world.drain(1);
    for pair in &mut world.pairs {
        pair.real.delete(&mut world.fx);
        pair.real.settle_budget();
    }
    assert_eq!(world.window.outstanding(), 0);
    assert_eq!(world.budget.bytes(), 0);
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
