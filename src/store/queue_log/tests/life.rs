//! What becomes of messages and segments, step by step.

use super::*;

#[test]
fn a_settlement_tells_what_is_to_be_journaled() {
    let (mut log, _) = log();
    for place in 1..=5 {
        let is_transient = place == 3;
        log.appended(JournalEntry {
            is_transient,
            ..entry(place)
        });
    }
    let mut runs = Vec::new();
    for place in [1, 2, 3, 4, 9] {
        let is_known = place != 9;
        assert_eq!(log.settle(position(place), 1, &mut runs), is_known);
    }
    assert_eq!(
        runs,
        [run(1, 2, 200), run(4, 1, 100)],
        "the log knows sizes in the journal"
    );
    assert!(
        !log.settle(Position::new(5, 1), 1, &mut runs),
        "no such lane"
    );
}

#[test]
fn positions_that_do_not_ascend_change_nothing() {
    let (mut log, _) = log();
    assert!(log.appended(entry(5)));
    assert!(!log.appended(entry(5)));
    assert!(!log.appended(entry(4)));
    assert!(!log.appended(JournalEntry {
        position: Position::new(1, 0),
        ..entry(1)
    }));
    assert_eq!(log.figures().journal_messages, 1);
}

#[test]
fn a_queue_is_dirty_once_until_its_rows_are_taken() {
    let (mut log, dirty, _) = in_segment(4);
    assert_eq!(dirty.take(), [QUEUE]);
    log.take_rows(Lsn(5000));
    let mut runs = Vec::new();
    log.appended(entry(5));
    log.settle(position(5), 100, &mut runs);
    assert_eq!(
        dirty.take(),
        [],
        "what comes and goes in the journal needs no row"
    );
    log.settle(position(1), 100, &mut runs);
    log.settle(position(2), 100, &mut runs);
    assert_eq!(dirty.take(), [QUEUE]);
    assert!(!log.take_rows(Lsn(6000)).is_empty());
    assert!(log.take_rows(Lsn(7000)).is_empty());
}

#[test]
fn a_dead_segment_keeps_a_row_until_its_file_is_gone() {
    let (mut log, _, id) = in_segment(2);
    let rows = log.take_rows(Lsn(3000));
    assert_eq!((rows.puts.len(), rows.dead.len()), (2, 0));
    log.settle(position(1), 100, &mut Vec::new());
    log.settle(position(2), 100, &mut Vec::new());
    assert_eq!(log.segment(id), None);
    let rows = log.take_rows(Lsn(4000));
    assert_eq!(rows.dead, [id]);
    assert!(
        rows.puts
            .contains(&(rows::segment_key(id), rows::dead_value()))
    );

    let (mut again, problems) = reopened(&rows);
    assert_eq!(problems, []);
    assert!(again.is_empty());
    assert_eq!(
        again.take_rows(Lsn(4000)).dead,
        [id],
        "a crash came before the file was removed"
    );

    assert_eq!(log.take_rows(Lsn(4000)), QueueRows::default(), "told once");
    log.segment_removed(id);
    let rows = log.take_rows(Lsn(5000));
    assert_eq!(rows.deletes, [rows::segment_key(id)]);
    log.rows_not_written();
    assert_eq!(log.take_rows(Lsn(5000)).deletes, rows.deletes);
    assert_eq!(log.take_rows(Lsn(5000)), QueueRows::default());
    assert!(log.fallout.is_none());
}

#[test]
fn a_segment_that_never_had_a_row_dies_without_one() {
    let (mut log, dirty) = log();
    log.appended(JournalEntry {
        is_transient: true,
        ..entry(1)
    });
    let transient = move_all(&mut log, true, false);
    assert!(
        log.take_rows(Lsn(2000)).is_empty(),
        "no rows for what is void after a restart"
    );
    dirty.take();
    assert!(log.settle(position(1), 100, &mut Vec::new()));
    assert_eq!(dirty.take(), [QUEUE], "its file is to be removed");
    let rows = log.take_rows(Lsn(3000));
    assert_eq!((rows.puts.len(), &rows.dead[..]), (0, &[transient][..]));
    log.segment_removed(transient);
    assert!(log.take_rows(Lsn(3000)).is_empty());
}

#[test]
fn a_tail_takes_more_until_it_is_sealed_or_too_wide() {
    let (mut log, _) = log();
    log.appended(entry(1));
    let id = move_all(&mut log, false, false);
    let tail = |log: &QueueLog, place| {
        log.tail_segment(0, false, position(place))
            .map(|tail| tail.id)
    };
    assert_eq!(tail(&log, 2), Some(id));
    assert_eq!(tail(&log, 1), None, "it has that");
    assert_eq!(tail(&log, SPAN_MAX), Some(id));
    assert_eq!(tail(&log, SPAN_MAX + 1), None);
    assert_eq!(log.tail_segment(0, true, position(2)), None);
    assert_eq!(log.tail_segment(1, false, Position::new(1, 2)), None);

    log.appended(entry(SPAN_MAX));
    let more = |is_sealed, entries| Moved {
        segment: id,
        bytes: 3000,
        is_sealed,
        entries,
    };
    assert!(log.moved(more(false, vec![entry(SPAN_MAX)])));
    let info = log.segment(id).unwrap();
    assert_eq!(
        (info.live_messages, info.live_body_bytes, info.bytes),
        (2, 200, 3000)
    );
    assert!(log.moved(more(true, Vec::new())));
    assert_eq!(tail(&log, SPAN_MAX + 5), None);
}

#[test]
fn a_move_that_cannot_be_changes_nothing() {
    let (mut log, _, old) = in_segment(3);
    log.appended(entry(4));
    log.appended(entry(5));
    let segment = log.next_segment(0, false);
    let refused = |log: &mut QueueLog, segment, entries: &[u64]| {
        let entries = entries.iter().map(|place| entry(*place)).collect();
        !log.moved(Moved {
            segment,
            bytes: 9,
            is_sealed: false,
            entries,
        })
    };
    assert!(refused(&mut log, segment, &[5, 4]), "not ascending");
    assert!(refused(&mut log, segment, &[3, 4]), "in another segment");
    assert!(refused(&mut log, segment, &[4, 4 + SPAN_MAX]), "too wide");
    assert!(refused(&mut log, segment, &[]), "nothing to begin with");
    let other_kind = SegmentId {
        is_transient: true,
        ..segment
    };
    assert!(refused(&mut log, other_kind, &[4]));
    let other_queue = SegmentId {
        queue: QueueId(1),
        ..segment
    };
    assert!(refused(&mut log, other_queue, &[4]));
    let other_lane = SegmentId { lane: 9, ..segment };
    assert!(refused(&mut log, other_lane, &[4]));
    assert_eq!(log.figures().journal_messages, 2);
    assert!(!refused(&mut log, segment, &[4, 5]));
    assert!(refused(&mut log, old, &[6]), "not the last one");
}

#[test]
fn what_is_settled_during_a_move_is_settled_in_the_segment() {
    let (mut log, _) = log();
    (1..=4).for_each(|place| assert!(log.appended(entry(place))));
    let entries = log.live_between(Lsn(0), Lsn(9000), 10);
    let segment = log.next_segment(0, false);
    let mut runs = Vec::new();
    log.settle(position(1), 100, &mut runs);
    log.settle(position(3), 100, &mut runs);
    assert!(log.moved(Moved {
        segment,
        bytes: 4064,
        is_sealed: false,
        entries
    }));
    let info = log.segment(segment).unwrap();
    assert_eq!(
        (info.messages, info.live_messages, info.live_body_bytes),
        (4, 2, 200)
    );
    let Piece::Segment { live, .. } = &log.plan(position(1), position(4), 1 << 20).pieces[0] else {
        panic!("not in the segment");
    };
    assert_eq!(live, &[span(2, 2), span(4, 4)]);
}

#[test]
fn a_segment_that_died_during_a_move_to_it_lives_again() {
    let (mut log, _) = log();
    log.appended(entry(1));
    let id = move_all(&mut log, false, false);
    log.take_rows(Lsn(2000));
    log.appended(entry(2));
    let entries = log.live_between(Lsn(0), Lsn(9000), 10);
    log.settle(position(1), 100, &mut Vec::new());
    assert!(log.moved(Moved {
        segment: id,
        bytes: 2064,
        is_sealed: false,
        entries
    }));
    let rows = log.take_rows(Lsn(3000));
    assert_eq!(rows.dead, []);
    let (again, problems) = reopened(&rows);
    assert_eq!(problems, []);
    assert!(again.is_live(position(2)) && !again.is_live(position(1)));
}

#[test]
fn a_plan_goes_from_segments_to_the_journal_and_stops_at_its_bytes() {
    let (mut log, _, id) = in_segment(4);
    log.appended(entry(5));
    log.appended(entry(6));
    log.settle(position(2), 100, &mut Vec::new());
    let plan = log.plan(position(0), position(9), 4100);
    assert_eq!(plan.through, position(5));
    let segment = Piece::Segment {
        id,
        bytes: 4064,
        live: vec![span(1, 1), span(3, 4)],
    };
    assert_eq!(plan.pieces, [segment, Piece::Journal(entry(5))]);
    let one = log.plan(position(2), position(9), 0);
    assert_eq!(
        (one.through, one.pieces.len()),
        (position(3), 1),
        "one message always comes"
    );
    let none = log.plan(position(2), position(2), 4000);
    assert_eq!((none.through, none.pieces.len()), (position(2), 0));
    assert_eq!(
        log.plan(Position::new(3, 1), Position::new(3, 9), 1).pieces,
        []
    );
}

#[test]
fn the_largest_waste_is_compacted_first() {
    let (mut log, _) = log();
    let mut ids = Vec::new();
    for first in [1, 101, 201] {
        (first..first + 100).for_each(|place| assert!(log.appended(entry(place))));
        ids.push(move_all(&mut log, false, true));
    }
    let mut settle = |first: u64, count| {
        for place in first..first + count {
            assert!(log.settle(position(place), 100, &mut Vec::new()));
        }
    };
    settle(1, 71);
    settle(101, 90);
    settle(201, 70);
    let candidates = log.compaction_candidates(9);
    let found: Vec<_> = candidates
        .iter()
        .map(|candidate| candidate.segment.id)
        .collect();
    assert_eq!(found, [ids[1], ids[0]], "30 % are enough to stay");
    assert_eq!(candidates[0].live, [span(191, 200)]);
    assert_eq!(log.compaction_candidates(1).len(), 1);

    let rows = log.take_rows(Lsn(300_000));
    assert_eq!(rows.dead, []);
    log.settle(position(195), 100, &mut Vec::new());
    let done = Compacted {
        old: ids[1],
        version: 1,
        bytes: 10_064,
        messages: 10,
    };
    assert!(log.compacted(done));
    assert!(!log.compacted(done), "it is not there any more");
    let new = SegmentId {
        version: 1,
        ..ids[1]
    };
    assert_eq!(log.segment(new).unwrap().live_messages, 9);
    let rows = log.take_rows(Lsn(301_000));
    assert_eq!(rows.dead, [ids[1]]);
    let (again, _) = reopened(&rows);
    assert!(again.is_live(position(194)) && !again.is_live(position(195)));
    assert_eq!(log.compaction_candidates(9).len(), 1);
}

#[test]
fn files_of_bodies_are_freed_once_by_every_way_out() {
    let (mut log, dirty) = log();
    let blob = |place| JournalEntry {
        has_blob: true,
        ..entry(place)
    };
    (1..=6).for_each(|place| assert!(log.appended(blob(place))));
    move_all(&mut log, false, false);
    (7..=9).for_each(|place| assert!(log.appended(blob(place))));
    dirty.take();
    log.take_rows(Lsn(9000));
    log.settle(position(1), 100, &mut Vec::new());
    log.settle(position(7), 100, &mut Vec::new());
    assert_eq!(dirty.take(), [QUEUE]);
    assert_eq!(log.blobs_freed(), [1000, 7000]);
    assert!(log.blobs_freed().is_empty());
    log.replay_settled(Lsn(10_000), &[run(2, 1, 100), run(8, 1, 100)]);
    log.purge(&[run(3, 1, 100)]);
    let mut freed = log.blobs_freed();
    freed.sort_unstable();
    assert_eq!(freed, [2000, 4000, 5000, 6000, 8000, 9000]);
    assert_eq!(log.live_blobs(), [3000]);
    let removal = log.into_removal();
    assert_eq!((removal.blobs, removal.files.len()), (vec![3000], 1));
    assert_eq!(removal.keys.len(), 2);
}

#[test]
fn a_purge_says_what_survives_a_restart() {
    let (mut log, _) = log();
    for place in 1..=8 {
        log.appended(JournalEntry {
            is_transient: place == 2 || place == 6,
            ..entry(place)
        });
    }
    move_all(&mut log, false, false);
    log.appended(JournalEntry {
        position: Position::new(3, 1),
        ..entry(9)
    });
    let purged = log.purge(&[
        run(1, 1, 100),
        run(2, 1, 100),
        run(5, 1, 100),
        run(6, 1, 100),
    ]);
    assert_eq!(purged.last, [position(8), Position::new(3, 1)]);
    assert_eq!(purged.survivors, [run(1, 1, 100), run(5, 1, 100)]);
    let live: Vec<_> = (1..=8)
        .filter(|place| log.is_live(position(*place)))
        .collect();
    assert_eq!(live, [1, 2, 5, 6]);
    assert!(!log.is_live(Position::new(3, 1)));
}

#[test]
fn counts_go_with_segments_and_with_settlements() {
    let (mut log, dirty, _) = in_segment(3);
    log.requeued(position(1), 2, 1);
    log.requeued(position(2), 1, 0);
    log.requeued(position(9), 1, 0);
    log.take_rows(Lsn(3000));
    dirty.take();
    log.requeued(position(2), 3, 3);
    assert_eq!(dirty.take(), [QUEUE]);
    log.settle(position(1), 100, &mut Vec::new());
    let (mut again, _) = reopened(&log.take_rows(Lsn(4000)));
    assert_eq!(again.recovered().lanes[0].counts, [(position(2), 3, 3)]);
}

#[test]
fn what_was_delivered_is_known_as_of_the_last_rows_and_from_settlements() {
    let (mut log, _, _) = in_segment(9);
    log.delivered(position(4));
    log.delivered(position(3));
    let rows = log.take_rows(Lsn(9000));
    log.delivered(position(7));
    let (mut again, _) = reopened(&rows);
    assert_eq!(again.recovered().lanes[0].delivered_through, position(4));
    again.replay_settled(Lsn(9000), &[run(5, 1, 100)]);
    assert_eq!(again.recovered().lanes[0].delivered_through, position(5));
}
