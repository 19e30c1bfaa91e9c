//! Messages that ask for more or less than the journal does by itself.

use super::*;

fn append_asking(journal: &Journal, position: u64, demand: SyncDemand) -> Lsn {
    let message = message(b"body");
    let crc = BodyCrc::of(&message);
    let mut appender = journal.append();
    appender.message_asking(&message, crc, &[target(1, position)], demand);
    appender.end()
}

/// What [`Journal::when_safe`] tells.
fn safe(journal: &Journal, lsn: Lsn, demand: SyncDemand) {
    let (sender, receiver) = channel();
    let done = move |outcome| {
        let _ = sender.send(outcome);
    };
    journal.when_safe(lsn, demand, Box::new(done));
    assert_eq!(receiver.recv_timeout(PATIENCE), Ok(Ok(())));
}

fn mode(sync: SyncMode) -> JournalOptions {
    JournalOptions {
        sync,
        sync_interval: Duration::from_millis(2),
        ..options()
    }
}

#[test]
fn a_relaxed_message_of_a_strict_journal_is_written_and_synced_with_the_next_strict_one() {
    let disk = sim();
    let journal = open_with(&disk, mode(SyncMode::Always));
    for position in 1..=3 {
        let end = append_asking(&journal, position, SyncDemand::Never);
        safe(&journal, end, SyncDemand::Never);
    }
    assert_eq!(journal.stats().syncs, 0);
    assert_eq!(replay_all(&disk.lose_unsynced()).1, []);
    assert_eq!(replay_all(&disk.copy()).1.len(), 3);
    let end = append_asking(&journal, 4, SyncDemand::Always);
    safe(&journal, end, SyncDemand::Always);
    assert_eq!(journal.stats().syncs, 1);
    assert_eq!(replay_all(&disk.lose_unsynced()).1.len(), 4);
}

#[test]
fn a_strict_message_of_a_relaxed_journal_is_synced() {
    let disk = sim();
    let journal = open_with(&disk, mode(SyncMode::Never));
    let end = append_asking(&journal, 1, SyncDemand::Always);
    safe(&journal, end, SyncDemand::Always);
    assert_eq!(journal.stats().syncs, 1);
    assert_eq!(replay_all(&disk.lose_unsynced()).1.len(), 1);
    append(&journal, 2, b"two");
    safe(&journal, journal.end(), journal.default_demand());
    assert_eq!(journal.stats().syncs, 1);
}

#[test]
fn a_message_that_asks_for_an_interval_is_synced_within_it_in_every_mode() {
    for sync in [SyncMode::Always, SyncMode::Never] {
        let disk = sim();
        let journal = open_with(&disk, mode(sync));
        let end = append_asking(&journal, 1, SyncDemand::Interval);
        while journal.synced().0 < end {
            std::thread::yield_now();
        }
        assert_eq!(replay_all(&disk.lose_unsynced()).1.len(), 1);
    }
}

#[test]
fn whoever_waits_for_a_sync_gets_it_though_nothing_in_the_frame_asks() {
    let disk = sim();
    let journal = open_with(&disk, mode(SyncMode::Always));
    let end = append_asking(&journal, 1, SyncDemand::Never);
    safe(&journal, end, SyncDemand::Always);
    assert_eq!(replay_all(&disk.lose_unsynced()).1.len(), 1);
}

#[test]
fn settlements_beside_a_relaxed_message_ask_for_no_sync() {
    let disk = sim();
    let journal = open_with(&disk, mode(SyncMode::Always));
    let end = {
        let body = message(b"body");
        let mut appender = journal.append();
        let runs = [Run {
            first: Position(1),
            count: 1,
            body_bytes: 0,
        }];
        appender.settled(QueueId(1), &runs);
        let crc = BodyCrc::of(&body);
        appender.message_asking(&body, crc, &[target(1, 2)], SyncDemand::Never);
        appender.end()
    };
    safe(&journal, end, SyncDemand::Never);
    assert_eq!(journal.stats().syncs, 0);
}
