//! Several publishers, several consumers' connections and one settler at the same time: nothing is lost,
//! nothing overtakes, no wake-up is missed.

use std::sync::Barrier;
use std::thread;

use super::*;
use crate::queue::{Burst, HotBudget, Inbox, Keeping, QueueDeclaration, QueueHandle, QueuePolicy};
use crate::store::messages::fixtures::in_memory;

const PUBLISHERS: u64 = 3;
const MESSAGES_EACH: u64 = 3000;

fn handle() -> (QueueHandle, Now) {
    let bench = Bench::classic(&[]);
    let declaration = QueueDeclaration {
        id: QueueId(1),
        name: "q".into(),
        vhost: "/".into(),
        durable: false,
        exclusive_owner: None,
        auto_delete: false,
        arguments: FieldTable::new(),
        settings: bench.settings.clone(),
    };
    let policy = QueuePolicy::default();
    let keeping = Keeping {
        store: in_memory(),
        budget: HotBudget::new(1 << 30),
        interval: Arc::default(),
    };
    let fx = &mut Effects::default();
    let queue = QueueHandle::new(declaration, &policy, keeping, bench.now, fx);
    (queue, bench.now)
}

/// What a connection's task does, without a runtime: drain, settle, release, tell the refused.
fn serve(queue: &QueueHandle, inbox: &Inbox, now: Now, total: u64) -> Vec<String> {
    let mut fx = Effects::default();
    let mut events = Vec::new();
    let mut refused = Vec::new();
    let mut seen = Vec::new();
    while (seen.len() as u64) < total {
        let bytes = inbox.drain(&mut events);
        if events.is_empty() {
            thread::yield_now();
        }
        let mut settlements = Vec::new();
        for event in events.drain(..) {
            if let InboxEvent::Deliver(delivery) = event {
                seen.push(body(&delivery.message));
                settlements.push((
                    delivery.position,
                    Some(delivery.consumer),
                    SettlementOutcome::Acked,
                ));
            }
        }
        queue.settle_batch(settlements, now, &mut fx).unwrap();
        inbox.release(bytes);
        inbox.take_refused(&mut refused);
        for (consumer, _) in refused.drain(..) {
            queue.consumer_ready(consumer, now, &mut fx).unwrap();
        }
        fx.dispatch();
    }
    seen
}

#[test]
fn one_consumer_sees_every_publishers_order_through_a_narrow_inbox() {
    let (queue, now) = handle();
    let inbox = Inbox::new(2000);
    let bench = Bench::classic(&[]);
    let asked = NewConsumer {
        outlet: Arc::clone(&inbox) as Arc<dyn Outlet>,
        ..bench.asked(1, 50)
    };
    queue
        .add_consumer(asked, now, &mut Effects::default())
        .unwrap();
    let start = Barrier::new(PUBLISHERS as usize + 1);
    let store = &in_memory();
    let seen = thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let (queue, start) = (&queue, &start);
            scope.spawn(move || {
                let mut fx = Effects::default();
                start.wait();
                for number in 0..MESSAGES_EACH {
                    let text = format!("{publisher}:{number}");
                    let message = message(&text, None, None);
                    let mut burst = Burst::open(store, [queue]);
                    assert_eq!(burst.publish(&message, None, [0], now, &mut fx).accepted, 1);
                    burst.finish(now, &mut fx);
                    fx.dispatch();
                }
            });
        }
        start.wait();
        serve(&queue, &inbox, now, PUBLISHERS * MESSAGES_EACH)
    });
    for publisher in 0..PUBLISHERS {
        let prefix = format!("{publisher}:");
        let numbers = seen.iter().filter_map(|text| text.strip_prefix(&prefix));
        assert!(numbers.eq((0..MESSAGES_EACH).map(|number| number.to_string())));
    }
    let snapshot = queue.snapshot().unwrap();
    assert_eq!(
        (snapshot.messages_ready, snapshot.messages_unsettled),
        (0, 0)
    );
    assert_eq!(snapshot.counters.acked, PUBLISHERS * MESSAGES_EACH);
    assert_eq!(inbox.held_bytes(), 0);
}
