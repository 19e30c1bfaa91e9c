//! Rows and files that are not as they should be.

use proptest::prelude::*;

use super::*;

/// Rows of a log with a bit of everything.
fn rows() -> QueueRows {
    let (mut log, _) = log();
    for place in 1..=200 {
        log.appended(JournalEntry {
            has_blob: place == 50,
            may_expire: place == 51,
            ..entry(place)
        });
    }
    move_all(&mut log, false, true);
    for place in (3..100).step_by(2) {
        log.settle(position(place), 100, &mut Vec::new());
    }
    log.requeued(position(60), 3, 1);
    log.delivered(position(99));
    log.take_rows(Lsn(200_000))
}

#[test]
fn golden_bytes_of_rows() {
    let (mut log, _) = log();
    for place in 1..=4 {
        log.appended(JournalEntry {
            has_blob: place == 4,
            ..entry(place)
        });
    }
    let id = move_all(&mut log, false, true);
    log.settle(position(2), 100, &mut Vec::new());
    log.requeued(position(3), 2, 1);
    log.delivered(position(3));
    let rows = log.take_rows(Lsn(5000));
    let segment_key = b"\x0b\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\0\0";
    let segment = b"\x01\x02\x01\0\0\0\0\0\0\0\xe0\x0f\0\0\0\0\0\0\x2c\x01\0\0\0\0\0\0\x04\
        \x04\x00\x00\x01\x01\x02\x01\x03\xa0\x0f\0\0\0\0\0\0\x01\x02\x02\x01";
    let queue_key = b"\x0c\0\0\0\0\0\0\0\x07";
    let queue = b"\x01\x88\x13\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\
        \x04\0\0\0\0\0\0\0\x2c\x01\0\0\0\0\0\0\x01\0\0\0";
    let expected: [(&[u8], &[u8]); 2] = [(segment_key, segment), (queue_key, queue)];
    for ((key, value), (expected_key, expected_value)) in rows.puts.iter().zip(expected) {
        assert_eq!((&key[..], &value[..]), (expected_key, expected_value));
        assert_eq!(queue_of_key(key), Some(QUEUE));
    }
    assert_eq!(rows::parse_key(segment_key), Some(rows::Key::Segment(id)));
}

#[test]
fn a_row_that_is_cut_is_told_and_the_rest_is_used() {
    let rows = rows();
    for (at, (key, value)) in rows.puts.iter().enumerate() {
        for cut in 0..value.len() {
            let mut cut_rows = rows.clone();
            cut_rows.puts[at].1.truncate(cut);
            let (mut log, problems) = reopened(&cut_rows);
            let is_queue = key[0] == KEY_KIND_QUEUE;
            // A queue's row may end behind any of its lanes.
            let may_be_whole = is_queue && cut == 9;
            assert!(may_be_whole || problems.len() == 1, "{cut}: {problems:?}");
            assert!(
                problems
                    .iter()
                    .all(|problem| problem.segment.is_none() == is_queue)
            );
            let recovered = log.recovered();
            if is_queue {
                assert_eq!(recovered.lanes[0].messages, 151);
                assert_eq!(recovered.lanes[0].next, position(201));
            }
        }
    }
}

#[test]
fn sums_come_from_segments_when_the_queues_row_is_missing() {
    let mut rows = rows();
    rows.puts.retain(|(key, _)| key[0] == KEY_KIND_SEGMENT);
    let (mut log, problems) = reopened(&rows);
    assert_eq!(problems, []);
    assert_eq!(log.as_of(), Lsn(0));
    // Everything is replayed again, and counts once.
    log.replay_settled(Lsn(1), &[run(3, 1, 100), run(5, 1, 100), run(100, 1, 100)]);
    let lane = &log.recovered().lanes[0];
    assert_eq!((lane.messages, lane.body_bytes), (150, 15_000));
    assert!(!log.replay_message(entry(3)), "it was moved");
}

#[test]
fn rows_of_others_and_rows_that_overlap_are_told() {
    let rows = rows();
    let (segment_key, segment) = rows.puts[0].clone();
    let Some(rows::Key::Segment(id)) = rows::parse_key(&segment_key) else {
        panic!("the first row is not a segment's");
    };
    let twin = SegmentId { version: 3, ..id };
    let foreign = SegmentId {
        queue: QueueId(8),
        ..id
    };
    let rows = [
        (segment_key, segment.clone()),
        (rows::segment_key(twin), segment.clone()),
        (rows::segment_key(foreign), segment),
        (rows::queue_key(QueueId(8)), Vec::new()),
        (b"?".to_vec(), Vec::new()),
        (Vec::new(), Vec::new()),
    ];
    let (log, problems) = QueueLog::from_rows(QUEUE, &rows, Arc::default());
    assert_eq!(problems.len(), 5);
    assert_eq!(problems[0].segment, Some(twin));
    assert_eq!(log.segments().len(), 1);
}

#[test]
fn a_file_without_a_row_is_adopted_whole() {
    let (mut log, _) = log();
    let id = log.next_segment(0, false);
    let found = FoundSegment {
        id,
        bytes: 4096,
        is_sealed: true,
        may_expire: true,
        body_bytes: 600,
        present: vec![span(10, 12), span(20, 22)],
        blobs: vec![(position(11), 5), (position(15), 6)],
    };
    let is_adopted = |log: &mut QueueLog, found: FoundSegment| log.adopt(found);
    let wrong = [
        FoundSegment {
            present: Vec::new(),
            ..found.clone()
        },
        FoundSegment {
            present: vec![span(10, 12), span(12, 13)],
            ..found.clone()
        },
        FoundSegment {
            present: vec![span(10, 9)],
            ..found.clone()
        },
        FoundSegment {
            present: vec![span(0, 9)],
            ..found.clone()
        },
        FoundSegment {
            present: vec![span(10, 10 + SPAN_MAX)],
            ..found.clone()
        },
        FoundSegment {
            id: SegmentId { lane: 1, ..id },
            ..found.clone()
        },
        FoundSegment {
            id: SegmentId {
                queue: QueueId(1),
                ..id
            },
            ..found.clone()
        },
        FoundSegment {
            id: SegmentId {
                is_transient: true,
                ..id
            },
            ..found.clone()
        },
    ];
    for wrong in wrong {
        assert!(!is_adopted(&mut log, wrong));
    }
    assert!(is_adopted(&mut log, found.clone()));
    assert!(!is_adopted(&mut log, found), "it is known");
    let lane = &log.recovered().lanes[0];
    assert_eq!(
        (lane.messages, lane.body_bytes, lane.next),
        (6, 600, position(23))
    );
    assert_eq!(lane.live, Some(span(10, 22)));
    assert!(lane.may_expire && !log.is_live(position(15)));
    assert_eq!(log.live_blobs(), [5]);
}

#[test]
fn a_missing_file_is_forgotten_and_told() {
    let (mut log, _, id) = in_segment(6);
    log.settle(position(3), 100, &mut Vec::new());
    log.requeued(position(4), 1, 1);
    let (mut log, _) = reopened(&log.take_rows(Lsn(7000)));
    assert_eq!(log.segment_lost(id), [span(1, 2), span(4, 6)]);
    assert_eq!(log.segment_lost(id), []);
    let lane = &log.recovered().lanes[0];
    assert_eq!(
        (lane.messages, lane.body_bytes, lane.counts.len()),
        (0, 0, 0)
    );
    assert_eq!(lane.next, position(7), "positions are not given again");
    assert_eq!(log.take_rows(Lsn(8000)).dead, [id]);
}

#[test]
fn a_message_of_unknown_size_leaves_no_rest_behind() {
    let (mut log, _, _) = in_segment(3);
    let mut runs = Vec::new();
    assert!(log.settle_lost(position(2), &mut runs));
    assert_eq!(runs, [run(2, 1, 100)], "the average");
    log.settle(position(1), 7, &mut runs);
    assert_eq!(log.recovered().lanes[0].body_bytes, 193);
    log.settle(position(3), 7, &mut runs);
    assert_eq!(log.recovered().lanes[0].body_bytes, 0);
}

#[test]
fn the_bytes_of_a_run_go_to_the_segments_that_it_meets() {
    let (mut log, _) = log();
    let mut ids = Vec::new();
    for first in [1, 5] {
        (first..first + 4).for_each(|place| assert!(log.appended(entry(place))));
        ids.push(move_all(&mut log, false, true));
    }
    let bytes = |log: &QueueLog| {
        let infos = log.segments();
        let bytes = infos.iter().map(|info| info.live_body_bytes);
        bytes.collect::<Vec<_>>()
    };
    log.replay_settled(Lsn(9000), &[run(3, 3, 300)]);
    assert_eq!(bytes(&log), [200, 300]);
    // The messages 9 and 10 are not known: their records are lost.
    log.replay_settled(Lsn(9100), &[run(7, 4, 400)]);
    assert_eq!(bytes(&log), [200, 100]);
    assert_eq!(log.recovered().lanes[0].body_bytes, 300);
    log.replay_settled(Lsn(9200), &[run(1, 6, 300)]);
    assert_eq!(log.recovered().lanes[0].body_bytes, 0);
}

proptest! {
    #[test]
    fn no_row_and_no_record_can_do_harm(
        kind in 10_u8..14,
        key in prop::collection::vec(any::<u8>(), 0..20),
        value in prop::collection::vec(any::<u8>(), 0..80),
        at in any::<prop::sample::Index>(),
        runs in prop::collection::vec((any::<u64>(), any::<u32>(), any::<u32>()), 0..4),
        lasts in prop::collection::vec(any::<u64>(), 0..3),
    ) {
        let mut rows = rows();
        let mut random_key = vec![kind];
        random_key.extend(key);
        let random = value.first().copied().unwrap_or(1);
        rows.puts.push((random_key, value));
        for (_, value) in &mut rows.puts[..2] {
            let at = at.index(value.len());
            value[at] = random;
        }
        let (mut log, _) = reopened(&rows);
        let runs: Vec<_> = runs.into_iter().map(|(first, count, body_bytes)| Run {
            first: Position(if count % 2 == 0 { first } else { first % 300 }),
            count,
            body_bytes,
        }).collect();
        let lasts: Vec<_> = lasts.into_iter().map(Position).collect();
        log.replay_settled(Lsn(u64::MAX), &runs);
        log.replay_purged(Lsn(300_000), &lasts, &runs);
        log.purge(&runs);
        for run in &runs {
            log.replay_message(JournalEntry { position: run.first, ..entry(1) });
            log.replay_requeued(Lsn(1), &[(run.first, 1, 1)]);
            log.plan(run.first, Position(u64::MAX), u64::MAX);
            log.settle(run.first, u32::MAX, &mut Vec::new());
        }
        log.recovered();
        log.next_segment(0, false);
        log.take_rows(Lsn(u64::MAX));
    }
}
