//! What a log costs in memory, by the capacities of what it holds.

use std::mem::size_of;

use super::super::lane::Segments;
use super::*;

fn memory_bytes(log: &QueueLog) -> usize {
    let lanes = log.lanes.iter().map(|lane| {
        let segments = lane.segments.as_deref().map_or(0, |segments| {
            size_of::<Segments>()
                + segments.persistent.heap_bytes()
                + segments.transient.heap_bytes()
        });
        lane.entries.heap_bytes() + segments
    });
    size_of::<QueueLog>() + log.lanes.capacity() * size_of::<Lane>() + lanes.sum::<usize>()
}

#[test]
fn a_log_without_messages_is_small() {
    let (mut log, _) = log();
    assert!(memory_bytes(&log) < 128, "{}", memory_bytes(&log));
    for place in 1..=100_000 {
        log.appended(entry(place));
    }
    for place in 1..=100_000 {
        assert!(log.settle(position(place), 100, &mut Vec::new()));
    }
    assert!(memory_bytes(&log) < 1024, "{}", memory_bytes(&log));
    assert_eq!(log.live_between(Lsn(0), Lsn(u64::MAX), 10), []);
    assert!(memory_bytes(&log) < 256, "{}", memory_bytes(&log));
}

#[test]
fn a_million_entries_cost_24_bytes_each() {
    let (mut log, _) = log();
    for place in 1..=1_000_000 {
        log.appended(entry(place));
    }
    assert!(memory_bytes(&log) <= 24_200_000, "{}", memory_bytes(&log));
}

#[test]
fn memory_goes_with_entries_that_are_settled_in_any_order() {
    const COUNT: u64 = 100_000;
    let (mut log, _) = log();
    for place in 1..=COUNT {
        log.appended(entry(place));
    }
    // Every place but each hundredth, in an order that jumps about.
    let mut live = COUNT;
    for step in 0..COUNT {
        let place = 1 + step * 7919 % COUNT;
        if !place.is_multiple_of(100) {
            assert!(log.settle(position(place), 100, &mut Vec::new()));
            live -= 1;
        }
    }
    assert_eq!(log.figures().journal_messages, live);
    let bytes = memory_bytes(&log);
    assert!(bytes < 24 * 5 * live as usize, "{bytes} for {live}");
    for place in (100..=COUNT).step_by(100) {
        assert!(log.is_live(position(place)));
    }
}

#[test]
fn a_busy_queue_with_few_messages_stays_small() {
    let (mut log, _) = log();
    let mut bytes_max = 0;
    for place in 1..=10_000 {
        log.appended(entry(place));
        if place > 3 {
            assert!(log.settle(position(place - 3), 100, &mut Vec::new()));
        }
        bytes_max = bytes_max.max(memory_bytes(&log));
    }
    assert!(bytes_max < 1024, "{bytes_max}");
}

#[test]
fn ten_thousand_segments_cost_less_than_3_mb() {
    let (mut log, _) = log();
    for number in 0..10_000 {
        log.appended(entry(2 * number + 1));
        log.appended(entry(2 * number + 2));
        move_all(&mut log, false, true);
    }
    assert_eq!(log.figures().segments, 10_000);
    assert!(memory_bytes(&log) < 3_000_000, "{}", memory_bytes(&log));
    log.purge(&[]);
    assert!(log.is_empty());
    assert!(memory_bytes(&log) < 512, "{}", memory_bytes(&log));
}
