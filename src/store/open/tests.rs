//! The data folder as a whole, after kills, power cuts, damage and older programs: each case of the table in
//! `store::definitions`.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::model::{Message, Position, QueueId, WallMs};
use crate::protocol::{FieldTable, PropertyFacts};
use crate::store::definitions::{
    Binding, Case, Change, DefinitionKey, Definitions, DestinationKind, Document, Finding, Queue,
    RowStore as _, RowWrite, Vhost,
};
use crate::store::disk::{FaultyDisk, SimDisk, faulty::Operation};
use crate::store::journal::{BodyCrc, Lsn, ReplayCase, SyncMode};
use crate::store::probe::Probe;
use crate::store::record::Target;

/// Nothing is written to the catalogue or exported on its own.
fn options() -> Options {
    Options {
        definitions: definitions::Options {
            probe: Probe::InProcess,
            apply_debounce: Duration::from_secs(3600),
            export_debounce: Duration::from_secs(3600),
            queue_id_block: 4,
            ..definitions::Options::default()
        },
        journal: JournalOptions {
            // Files are copied a lot here.
            file_bytes: 64 * 1024,
            ..JournalOptions::default()
        },
        ..Options::default()
    }
}

fn open(dir: &Path) -> Arc<Store> {
    Store::open(dir, options()).unwrap()
}

/// Opens the definitions alone, as `Store::open` begins.
fn opened(dir: &Path) -> DefinitionRecovery {
    let folder = Arc::new(DataFolder::open(dir).unwrap());
    DefinitionRecovery::open(folder, &options().definitions).unwrap()
}

fn queue(store: &Store, vhost: &str, name: &str) -> Change {
    Queue {
        id: store.definitions.wait_for_queue_id(),
        vhost: vhost.into(),
        name: name.into(),
        kind: "classic".to_owned(),
        durable: true,
        auto_delete: false,
        arguments: FieldTable::new(),
    }
    .into()
}

fn delete(vhost: &str, name: &str) -> Change {
    Change::Delete(DefinitionKey::Queue {
        vhost: vhost.into(),
        name: name.into(),
    })
}

fn delete_vhost(name: &str) -> Change {
    Change::Delete(DefinitionKey::Vhost { name: name.into() })
}

fn apply(store: &Store, changes: Vec<Change>) {
    store.definitions.apply_and_wait(changes).unwrap();
}

/// Virtual hosts and queues, as `vhost` and `vhost/queue`.
fn names(store: &Store) -> Vec<String> {
    let loaded = store.definitions.load().unwrap();
    assert_eq!(loaded.damaged, []);
    let Definitions { vhosts, queues, .. } = loaded.definitions;
    let vhosts = vhosts.iter().map(|vhost| vhost.name.to_string());
    let queues = queues
        .iter()
        .map(|row| format!("{}/{}", row.vhost, row.name));
    vhosts.chain(queues).collect()
}

/// What a kill -9 at this moment would leave: the files as they are, without anything that is in memory.
fn killed_copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    copy(from, to.path());
    to
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// A folder whose last changes are in the journal alone, behind an export and a checkpoint: `v/a` was deleted since, `v/b`,
/// `w` and what is in it came, and `u` went with what was in it.
fn killed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    apply(&store, vec![Vhost::new("u").into(), Vhost::new("v").into()]);
    let changes = vec![queue(&store, "u", "a"), queue(&store, "v", "a")];
    apply(&store, changes);
    store.close().unwrap();
    drop(store);
    let store = open(dir.path());
    apply(&store, vec![delete("v", "a"), delete_vhost("u")]);
    let changes = vec![
        Vhost::new("w").into(),
        queue(&store, "w", "a"),
        queue(&store, "v", "b"),
    ];
    apply(&store, changes);
    killed_copy(dir.path())
}

const AFTER_KILL: [&str; 4] = ["v", "w", "v/b", "w/a"];

/// What was found is as it should be, and what is declared now is there after the next kill, and the one after that.
fn goes_on(dir: &Path) {
    let store = open(dir);
    let before = names(&store);
    let ids = || {
        let queues = store.definitions.load().unwrap().definitions.queues;
        queues.iter().map(|queue| queue.id).collect::<Vec<_>>()
    };
    let used = ids();
    let change = queue(&store, "v", "z-later");
    assert!(matches!(
        &change,
        Change::Put(definitions::Definition::Queue(queue)) if !used.contains(&queue.id)
    ));
    apply(&store, vec![change]);
    let mut expected = before;
    expected.push("v/z-later".to_owned());
    expected.sort();
    for _ in 0..2 {
        let copy = killed_copy(dir);
        let again = open(copy.path());
        assert_eq!(again.definitions.recovery(), None);
        let mut found = names(&again);
        found.sort();
        assert_eq!(found, expected);
        again.close().unwrap();
        drop(again);
        let again = open(copy.path());
        assert_eq!(again.definitions.findings(), []);
        assert_eq!(names(&again).len(), expected.len());
    }
}

#[test]
fn a_new_folder_is_empty_and_only_its_owner_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let store = open(&path);
    assert!(store.definitions.is_empty().unwrap());
    assert_eq!(store.definitions.findings(), []);
    apply(&store, vec![Vhost::new("v").into()]);
    assert!(!store.definitions.is_empty().unwrap());
    store.close().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path) & 0o027, 0);
    assert_eq!(mode(&path.join("meta")), 0o700);
    for entry in fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        let forbidden = if entry.path().is_dir() { 0o027 } else { 0o177 };
        assert_eq!(mode(&entry.path()) & forbidden, 0, "{:?}", entry.path());
    }
}

#[test]
fn a_catalogue_that_others_could_read_is_closed_to_them() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).close().unwrap();
    let meta = dir.path().join("meta");
    fs::set_permissions(&meta, fs::Permissions::from_mode(0o755)).unwrap();
    drop(open(dir.path()));
    let mode = fs::metadata(&meta).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn after_a_clean_stop_nothing_has_to_be_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    apply(&store, vec![Vhost::new("v").into()]);
    store.close().unwrap();
    store.close().unwrap();
    drop(store);
    let definitions = opened(dir.path());
    assert!(definitions.clean_end() > Some(Lsn(0)));
    drop(definitions);

    let store = open(dir.path());
    assert_eq!(store.definitions.findings(), []);
    assert_eq!(store.replay().cases, []);
    // From the first moment on, the mark is gone.
    let copy = killed_copy(dir.path());
    assert_eq!(opened(copy.path()).clean_end(), None);
}

/// Case `catalogue-behind`.
#[test]
fn a_catalogue_behind_the_journal_is_brought_up_to_it() {
    let dir = killed();
    let store = open(dir.path());
    assert_eq!(store.definitions.recovery(), None);
    assert!(matches!(
        store.definitions.findings(),
        [Finding::CatalogueBehind { records: 3.. }]
    ));
    assert_eq!(names(&store), AFTER_KILL);
    drop(store);
    goes_on(dir.path());
}

/// Case `catalogue-gone`.
#[test]
fn a_catalogue_that_is_gone_comes_from_the_export_and_the_journal() {
    let dir = killed();
    fs::remove_dir_all(dir.path().join("meta")).unwrap();
    let store = open(dir.path());
    let report = store.definitions.recovery().unwrap();
    assert_eq!(report.case, Case::CatalogueGone);
    assert_eq!(report.rebuilt_from, Some(dir.path().join("meta.json")));
    assert_eq!(names(&store), AFTER_KILL);
    drop(store);
    goes_on(dir.path());
}

/// Case `catalogue-damaged`.
#[test]
fn a_damaged_catalogue_comes_from_the_export_and_the_journal() {
    let dir = killed();
    fs::write(dir.path().join("meta/conf"), [0xff; 40]).unwrap();
    let store = open(dir.path());
    let report = store.definitions.recovery().unwrap();
    assert_eq!(report.case, Case::CatalogueDamaged);
    assert!(report.set_aside.is_some());
    assert_eq!(names(&store), AFTER_KILL);
    drop(store);
    goes_on(dir.path());
}

/// Case `catalogue-short`.
#[test]
fn an_old_catalogue_beside_a_newer_export_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    apply(&store, vec![Vhost::new("v").into()]);
    store.close().unwrap();
    drop(store);
    let old = killed_copy(dir.path());
    let store = open(dir.path());
    let changes = vec![queue(&store, "v", "a")];
    apply(&store, changes);
    store.close().unwrap();
    drop(store);
    fs::remove_dir_all(dir.path().join("meta")).unwrap();
    copy(&old.path().join("meta"), &dir.path().join("meta"));

    let store = open(dir.path());
    let report = store.definitions.recovery().unwrap();
    assert_eq!(report.case, Case::CatalogueShort);
    assert_eq!(names(&store), ["v", "v/a"]);
    drop(store);
    goes_on(dir.path());
}

/// Case `catalogue-empty`.
#[test]
fn an_empty_catalogue_beside_an_export_is_not_believed() {
    let dir = killed();
    fs::remove_dir_all(dir.path().join("meta")).unwrap();
    fs::create_dir(dir.path().join("meta")).unwrap();
    fs::write(dir.path().join("meta.json"), "{}").unwrap();
    let _ = fs::remove_file(dir.path().join("meta.json.prev"));
    let store = open(dir.path());
    let report = store.definitions.recovery().unwrap();
    assert_eq!(report.case, Case::CatalogueEmpty);
    drop(store);
    let definitions = opened(dir.path());
    assert_eq!(definitions.replay_from(), Lsn(0));
}

/// Case `catalogue-lost`.
#[test]
fn without_catalogue_and_export_the_journal_gives_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    apply(&store, vec![Vhost::new("v").into()]);
    // More ids than one block.
    let changes = (0..20).map(|number| queue(&store, "v", &format!("q{number:02}")));
    apply(&store, changes.collect());
    let expected = names(&store);
    let copy = killed_copy(dir.path());
    fs::remove_dir_all(copy.path().join("meta")).unwrap();
    let store = open(copy.path());
    assert!(matches!(
        store.definitions.findings(),
        [Finding::CatalogueLost { records: 2.. }]
    ));
    assert_eq!(names(&store), expected);
    drop(store);
    goes_on(copy.path());
}

#[test]
fn a_journal_that_is_gone_does_not_take_the_definitions_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    apply(&store, vec![Vhost::new("v").into()]);
    let changes = (0..50).map(|number| queue(&store, "v", &format!("q{number:02}")));
    apply(&store, changes.collect());
    let expected = names(&store);
    store.close().unwrap();
    drop(store);
    fs::remove_dir_all(dir.path().join("journal")).unwrap();
    let store = open(dir.path());
    // There might have been messages in it.
    assert!(store.replay().cases.iter().any(ReplayCase::is_loss));
    assert_eq!(names(&store), expected);
    drop(store);
    goes_on(dir.path());
}

/// Case `record-damaged`.
#[test]
fn a_record_that_makes_no_sense_is_told_and_the_others_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    apply(&store, vec![Vhost::new("v").into()]);
    store.journal().append().definitions(b"\xffnonsense");
    apply(&store, vec![Vhost::new("w").into()]);
    let copy = killed_copy(dir.path());
    let store = open(copy.path());
    assert_eq!(names(&store), ["v", "w"]);
    let findings = store.definitions.findings();
    assert!(
        matches!(
            findings,
            [
                Finding::RecordDamaged { lsn, reason },
                Finding::CatalogueBehind { .. }
            ] if *lsn > Lsn(0) && reason == "its version is 255, not 1"
        ),
        "{findings:?}"
    );
    assert!(findings[0].to_string().starts_with("record-damaged: "));
    drop(store);
    goes_on(copy.path());
}

/// A record that was synced and is rotten since: the journal sets it aside, the others are made.
#[test]
fn a_rotten_record_costs_its_own_changes_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for name in ["v", "rotten-vhost", "w"] {
        apply(&store, vec![Vhost::new(name).into()]);
    }
    let copy = killed_copy(dir.path());
    let mut is_damaged = false;
    for entry in fs::read_dir(copy.path().join("journal")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let places: Vec<_> = bytes
            .windows(b"rotten-vhost".len())
            .enumerate()
            .filter(|(_, window)| window == b"rotten-vhost")
            .map(|(place, _)| place)
            .collect();
        for place in places {
            bytes[place] ^= 1;
            is_damaged = true;
        }
        fs::write(&path, bytes).unwrap();
    }
    assert!(is_damaged);
    assert_eq!(names(&open(copy.path())), ["v", "w"]);
    goes_on(copy.path());
}

/// Case `format-1`: the folder as programs wrote it that kept definitions alone.
#[test]
fn a_folder_of_format_1_is_read_and_goes_on_as_format_2() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let document = fs::read(golden.join("definitions.json")).unwrap();
    let document = Document::parse(&document, None)
        .unwrap()
        .definitions()
        .clone();
    let check = |store: &Store| {
        let loaded = store.definitions.load().unwrap();
        assert_eq!(loaded.damaged, []);
        let mut found = loaded.definitions;
        let mut ids: Vec<_> = found.queues.iter().map(|queue| queue.id.0).collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3]);
        let mut expected = document.clone();
        for list in [&mut found, &mut expected] {
            list.queues
                .iter_mut()
                .for_each(|queue| queue.id = QueueId(0));
            list.queues.sort_by(|a, b| a.name.cmp(&b.name));
            list.users.sort_by(|a, b| a.name.cmp(&b.name));
            list.permissions.sort_by(|a, b| a.user.cmp(&b.user));
            list.bindings
                .sort_by(|a, b| a.routing_key.cmp(&b.routing_key));
        }
        // The document leaves this one's type to its virtual host.
        expected.queues[2].kind = "classic".to_owned();
        assert_eq!(found, expected);
    };
    let format = |dir: &Path| fs::read_to_string(dir.join("haremq-format")).unwrap();
    let whole = killed_copy(&golden.join("format-1"));
    assert_eq!(format(whole.path()), "1\n");
    let without_catalogue = killed_copy(whole.path());
    fs::remove_dir_all(without_catalogue.path().join("meta")).unwrap();
    let without_export = killed_copy(whole.path());
    fs::remove_file(without_export.path().join("meta.json")).unwrap();
    for dir in [whole, without_catalogue, without_export] {
        let store = open(dir.path());
        check(&store);
        assert!(store.definitions.wait_for_queue_id() > QueueId(3));
        assert_eq!(store.definitions.findings(), []);
        assert_eq!(format(dir.path()), "2\n");
        apply(&store, vec![Vhost::new("later").into()]);
        let copy = killed_copy(dir.path());
        let store = open(copy.path());
        assert_eq!(
            store.definitions.load().unwrap().definitions.vhosts.len(),
            3
        );
        apply(&store, vec![delete_vhost("later")]);
        check(&store);
    }
}

/// Case `format-newer`.
#[test]
fn a_folder_of_a_newer_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).close().unwrap();
    let format = dir.path().join("haremq-format");
    fs::write(&format, "3\n").unwrap();
    let before = all_files(dir.path());
    assert!(matches!(
        Store::open(dir.path(), options()),
        Err(StoreError::NewerFormat { found: 3, .. })
    ));
    assert_eq!(all_files(dir.path()), before);
}

fn all_files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.append(&mut all_files(&path));
        } else {
            files.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
fn rows_of_messages_and_their_checkpoint_are_one_with_the_definitions_below() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    apply(&store, vec![Vhost::new("v").into()]);
    let checkpoint = store.journal().end();
    let key = [&[12][..], &7_u64.to_be_bytes()].concat();
    let put = |value: &[u8]| RowWrite::Put {
        key: key.clone(),
        value: value.to_vec(),
    };
    store
        .definitions
        .commit(vec![put(b"one")], checkpoint)
        .unwrap();
    // A checkpoint does not go back.
    store.definitions.commit(vec![put(b"two")], Lsn(0)).unwrap();
    // What cannot be written is refused, and nothing stops for it.
    let stranger = RowWrite::Delete { key: vec![1] };
    let refused = store.definitions.commit(vec![stranger], checkpoint);
    assert!(matches!(refused, Err(StoreError::Stopped { .. })));
    assert_eq!(store.definitions.failed(), None);
    let copy = killed_copy(dir.path());
    let definitions = opened(copy.path());
    assert_eq!(definitions.replay_from(), checkpoint);
    let rows = definitions.message_rows().unwrap();
    assert_eq!(rows.rows, [(key, b"two".to_vec())]);
    assert_eq!(rows.damaged, []);
    drop(definitions);
    // The changes below the checkpoint are not in the journal's part that is replayed.
    let store = open(copy.path());
    assert_eq!(store.definitions.findings(), []);
    assert_eq!(names(&store), ["v"]);
}

/// A message, and what lies in the log of its queue, on its way through kill, import and start.
#[test]
fn messages_come_back_with_the_definitions() {
    const QUEUE: QueueId = QueueId(5);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    apply(&store, vec![Vhost::new("v").into()]);
    let facts = PropertyFacts::of(&[0, 0]).unwrap();
    let message = Message::copied("x".into(), b"key", &[0, 0], facts, b"body");
    let target = Target {
        queue: QUEUE,
        position: Position::new(4, 1),
        deadline_ms: WallMs::MAX,
        is_transient: false,
    };
    let crc = BodyCrc::of(&message);
    store.journal().append().message(&message, crc, &[target]);
    store.journal().flush().unwrap();
    let copy = killed_copy(dir.path());
    // Tools open the folder without taking what waits in queues, and leave it there.
    for _ in 0..2 {
        open(copy.path()).close().unwrap();
    }
    let store = open(copy.path());
    assert_eq!(names(&store), ["v"]);
    let log = store.messages.take_recovered(QUEUE).unwrap();
    assert!(log.is_live(Position::new(4, 1)));
    assert!(!log.is_live(Position::new(4, 2)));
    assert!(store.messages.take_recovered(QueueId(6)).is_none());
}

/// A failed sync is answered, nothing is taken after it, and nothing that was answered before is lost.
#[test]
fn after_a_failure_of_the_journal_nothing_more_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new(Arc::new(RealDisk));
    let faulty = Options {
        disk: Arc::new(disk.clone()),
        ..options()
    };
    let store = Store::open(dir.path(), faulty).unwrap();
    apply(&store, vec![Vhost::new("v").into()]);
    assert_eq!(store.definitions.failed(), None);
    disk.fail_for_ever(Operation::Sync, 0, ErrorKind::Other);
    let lost = store
        .definitions
        .apply_and_wait(vec![Vhost::new("w").into()]);
    assert!(matches!(lost, Err(StoreError::Stopped { .. })), "{lost:?}");
    assert!(store.definitions.failed().is_some());
    let refused = store
        .definitions
        .apply_and_wait(vec![Vhost::new("x").into()]);
    assert!(matches!(refused, Err(StoreError::Stopped { .. })));
    // What is read is what was stored.
    assert_eq!(names(&store), ["v"]);
    assert!(store.close().is_err());
    drop(store);

    assert_eq!(opened(dir.path()).clean_end(), None);
    let store = open(dir.path());
    let found = names(&store);
    assert!(found == ["v"] || found == ["v", "w"], "{found:?}");
    drop(store);
    goes_on(dir.path());
}

/// The folder after a power cut that left `disk` of the journal; the catalogue is as a kill would leave it.
fn after_power_cut(dir: &Path, disk: &SimDisk) -> tempfile::TempDir {
    let to = killed_copy(dir);
    for path in disk.paths() {
        let target = to.path().join(path.strip_prefix(dir).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, disk.content(&path).unwrap()).unwrap();
    }
    to
}

#[test]
fn what_was_answered_is_there_after_a_power_cut() {
    for seed in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimDisk::with_folder(dir.path());
        let simulated = Options {
            disk: Arc::new(disk.clone()),
            ..options()
        };
        let store = Store::open(dir.path(), simulated).unwrap();
        apply(&store, vec![Vhost::new("v").into()]);
        for number in 0..5 {
            let change = queue(&store, "v", &format!("q{number}"));
            apply(&store, vec![change]);
        }
        let late = vec![queue(&store, "v", "late-1"), queue(&store, "v", "late-2")];
        store.definitions.apply_all(late, |_| ());
        let copy = after_power_cut(dir.path(), &disk.crash(seed));
        let mut expected: Vec<_> = (0..5).map(|number| format!("v/q{number}")).collect();
        expected.insert(0, "v".to_owned());
        let mut with_late = expected.clone();
        with_late.splice(1..1, ["v/late-1".to_owned(), "v/late-2".to_owned()]);
        let without = killed_copy(copy.path());
        fs::remove_dir_all(without.path().join("meta")).unwrap();
        for copy in [copy, without] {
            let found = names(&open(copy.path()));
            assert!(
                found == expected || found == with_late,
                "seed {seed}: {found:?}"
            );
            goes_on(copy.path());
        }
    }
}

/// Case `catalogue-ahead`: where confirms do not wait for a sync, a power cut may cost the journal more than the catalogue.
#[test]
fn a_journal_that_lost_its_end_takes_no_definitions_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimDisk::with_folder(dir.path());
    let mut relaxed = Options {
        disk: Arc::new(disk.clone()),
        ..options()
    };
    relaxed.journal.sync = SyncMode::Never;
    // A full file is synced.
    relaxed.journal.file_bytes = 1024 * 1024;
    let store = Store::open(dir.path(), relaxed).unwrap();
    apply(&store, vec![Vhost::new("v").into()]);
    let changes = (0..100).map(|number| queue(&store, "v", &format!("q{number:02}")));
    apply(&store, changes.collect());
    // It comes into the catalogue, which is synced.
    let expected = names(&store);
    let copy = after_power_cut(dir.path(), &disk.lose_unsynced());
    let store = open(copy.path());
    let findings = store.definitions.findings();
    assert!(
        matches!(findings, [Finding::CatalogueAhead { catalogue, journal }] if catalogue > journal),
        "{findings:?}"
    );
    // An export may name a place up to there, so what comes now must lie behind it.
    let Finding::CatalogueAhead { catalogue, .. } = findings[0] else {
        panic!("{findings:?}");
    };
    assert!(store.journal().end() > catalogue);
    assert_eq!(names(&store), expected);
    drop(store);
    goes_on(copy.path());
}

/// Whatever is there of the catalogue, of its export and of what was written since: the definitions are those that were
/// answered.
#[test]
fn random_changes_survive_a_kill_with_and_without_the_catalogue() {
    for seed in 1..=6_u64 {
        println!("seed {seed}");
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut pick = move |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 33) % below
        };
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        apply(&store, vec![Vhost::new("v").into()]);
        for _ in 0..60 {
            let vhost = ["v", "w"][pick(2) as usize];
            let name = format!("q{}", pick(4));
            let change = match pick(8) {
                0..4 => vec![Vhost::new(vhost).into(), queue(&store, vhost, &name)],
                4..6 => vec![delete(vhost, &name)],
                6 => vec![delete_vhost("w")],
                _ => match pick(3) {
                    // An export, and all that it stands for in the catalogue.
                    0 => {
                        store.close().unwrap();
                        drop(store);
                        store = open(dir.path());
                        continue;
                    }
                    1 => {
                        let end = store.journal().end();
                        store.journal().flush().unwrap();
                        // Definitions below are in the catalogue; the journal keeps its files.
                        store.definitions.commit(vec![], end).unwrap();
                        continue;
                    }
                    _ => vec![],
                },
            };
            apply(&store, change);
        }
        let copy = killed_copy(dir.path());
        let expected = store.definitions.load().unwrap().definitions;
        assert_eq!(
            open(copy.path()).definitions.load().unwrap().definitions,
            expected
        );
        let copy = killed_copy(dir.path());
        fs::remove_dir_all(copy.path().join("meta")).unwrap();
        assert_eq!(
            open(copy.path()).definitions.load().unwrap().definitions,
            expected
        );
    }
}

/// Bindings have their arguments in their names; the way through the journal changes nothing about that.
#[test]
fn a_binding_is_unbound_by_the_journal_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let binding = |key: &str| Binding {
        vhost: "v".into(),
        source: "x".into(),
        destination: "q".into(),
        destination_kind: DestinationKind::Queue,
        routing_key: key.into(),
        arguments: [("x-match", "any")].into_iter().collect(),
    };
    apply(&store, vec![binding("a").into(), binding("b").into()]);
    apply(
        &store,
        vec![Change::Delete(DefinitionKey::Binding(binding("a")))],
    );
    let copy = killed_copy(dir.path());
    let left = open(copy.path()).definitions.load().unwrap().definitions;
    assert_eq!(left.bindings, [binding("b")]);
}
