//! The store as a whole: restarts, kills, batches, damage.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::auth::{Permission, User};
use crate::model::Name;
use crate::protocol::FieldTable;
use crate::store::definitions::catalogue::Counter;
use crate::store::definitions::row::tests::samples;
use crate::store::definitions::{
    Binding, DefinitionKey, DestinationKind, Queue, Vhost, VhostLimits,
};
use crate::store::journal::JournalOptions;
use crate::store::probe::check_store;
use crate::store::{self, Store};

pub(super) fn options() -> Options {
    Options {
        probe: Probe::InProcess,
        // No export happens in a test before it is closed, unless the test wants one.
        export_debounce: Duration::from_secs(3600),
        ..Options::default()
    }
}

/// The definitions of an open data folder.
#[derive(Debug)]
struct Opened(Arc<Store>);

impl Deref for Opened {
    type Target = DefinitionStore;

    fn deref(&self) -> &DefinitionStore {
        &self.0.definitions
    }
}

impl Opened {
    fn close(&self) -> Result<(), StoreError> {
        self.0.close()
    }
}

fn try_open(dir: &Path, definitions: Options) -> Result<Opened, StoreError> {
    let options = store::Options {
        definitions,
        journal: JournalOptions {
            file_bytes: 64 * 1024,
            ..JournalOptions::default()
        },
        ..store::Options::default()
    };
    Store::open(dir, options).map(Opened)
}

fn open(dir: &Path) -> Opened {
    try_open(dir, options()).unwrap()
}

fn queue(id: u64, name: &str) -> Queue {
    Queue {
        id: QueueId(id),
        vhost: "/".into(),
        name: name.into(),
        kind: "classic".to_owned(),
        durable: true,
        auto_delete: false,
        arguments: FieldTable::new(),
    }
}

fn queue_names(store: &Opened) -> Vec<String> {
    let loaded = store.load().unwrap();
    assert_eq!(loaded.damaged, []);
    let queues = loaded.definitions.queues.iter();
    queues.map(|queue| queue.name.to_string()).collect()
}

/// Waits for what another thread does soon.
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "no {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a kill -9 at this moment would leave: the files as they are, without anything that is in memory.
fn killed_copy(from: &Path) -> tempfile::TempDir {
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
    let to = tempfile::tempdir().unwrap();
    copy(from, to.path());
    to
}

#[test]
fn every_definition_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert!(store.is_empty().unwrap());
    let changes = samples().into_iter().map(Change::Put).collect();
    store.apply_and_wait(changes).unwrap();
    store.close().unwrap();
    drop(store);

    let store = open(dir.path());
    assert!(!store.is_empty().unwrap());
    assert!(store.recovery().is_none());
    let loaded = store.load().unwrap();
    assert_eq!(loaded.damaged, []);
    assert_eq!(
        loaded.definitions.vhost_limits("v"),
        VhostLimits {
            max_connections: None,
            max_queues: Some(100)
        }
    );
    let mut expected = Definitions::default();
    samples()
        .into_iter()
        .for_each(|sample| expected.push(sample));
    // The sample user has a new salt each time.
    expected.users = loaded.definitions.users.clone();
    assert!(expected.users[0].password.verify(b"pw"));
    assert_eq!(loaded.definitions, expected);
}

#[test]
fn what_was_completed_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.apply_and_wait(vec![queue(1, "a").into()]).unwrap();
    store.apply_and_wait(vec![queue(2, "b").into()]).unwrap();
    let copy = killed_copy(dir.path());
    assert_eq!(queue_names(&open(copy.path())), ["a", "b"]);
}

#[test]
fn changes_that_gather_share_one_commit_and_each_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let patient = Options {
        apply_debounce: Duration::from_secs(3600),
        ..options()
    };
    let store = try_open(dir.path(), patient).unwrap();
    let before = store.commits();
    let answered = Arc::new(AtomicUsize::new(0));
    for number in 1..=1000 {
        let answered = Arc::clone(&answered);
        store.apply(queue(number, &format!("q{number}")).into(), move |result| {
            result.unwrap();
            answered.fetch_add(1, Ordering::SeqCst);
        });
    }
    store.apply_and_wait(vec![]).unwrap();
    assert_eq!(answered.load(Ordering::SeqCst), 1000);
    wait_until("completion has ended", || store.is_settled());
    // The answers rest on the journal alone.
    assert_eq!(store.commits(), before);
    assert_eq!(queue_names(&store).len(), 1000);
    assert_eq!(store.commits(), before + 1);
}

#[test]
fn very_many_changes_do_not_wait_for_the_clock() {
    let dir = tempfile::tempdir().unwrap();
    let patient = Options {
        apply_debounce: Duration::from_secs(3600),
        ..options()
    };
    let store = try_open(dir.path(), patient).unwrap();
    let before = store.commits();
    let delete = Change::Delete(DefinitionKey::GlobalParameter { name: "g".into() });
    store.apply_and_wait(vec![delete.clone(); 5000]).unwrap();
    store.apply_and_wait(vec![delete; 5000]).unwrap();
    // The next one finds that the two before it are many, and synced.
    store
        .apply_and_wait(vec![queue(20_000, "last").into()])
        .unwrap();
    wait_until("commit came", || store.commits() > before);
}

#[test]
fn changes_reach_the_catalogue_without_being_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let hasty = Options {
        apply_debounce: Duration::from_millis(1),
        ..options()
    };
    let store = try_open(dir.path(), hasty).unwrap();
    let before = store.commits();
    store.apply_and_wait(vec![queue(1, "a").into()]).unwrap();
    wait_until("commit came", || store.commits() > before);
}

#[test]
fn a_completion_that_panics_stops_nothing_and_counts_as_settled() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.apply(queue(1, "a").into(), |_| panic!("as the test wants"));
    store.apply_and_wait(vec![queue(2, "b").into()]).unwrap();
    wait_until("completion has ended", || store.is_settled());
    assert_eq!(queue_names(&store), ["a", "b"]);
}

#[test]
fn a_change_after_the_close_is_answered_with_closed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.close().unwrap();
    store.close().unwrap();
    assert_eq!(
        store.apply_and_wait(vec![queue(1, "a").into()]),
        Err(StoreError::Closed)
    );
}

#[test]
fn a_change_that_cannot_be_stored_is_answered_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let long = "n".repeat(5000);
    let result = store.apply_and_wait(vec![queue(1, "a").into(), queue(2, &long).into()]);
    assert!(matches!(result, Err(StoreError::TooLarge { .. })));
    assert_eq!(queue_names(&store), Vec::<String>::new());
}

#[test]
fn deleting_takes_rows_away_with_what_they_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut changes: Vec<_> = samples().into_iter().map(Change::Put).collect();
    changes.push(Vhost::new("other").into());
    changes.push(User::new("other").into());
    changes.push(queue(1, "kept").into());
    changes.push(
        Permission {
            user: "other".into(),
            vhost: "other".into(),
            configure: String::new(),
            write: String::new(),
            read: String::new(),
        }
        .into(),
    );
    // In one job with what it deletes: the deletion sees what came before it.
    changes.push(Change::Delete(DefinitionKey::Vhost { name: "v".into() }));
    store.apply_and_wait(changes).unwrap();

    let left = store.load().unwrap().definitions;
    let names: Vec<Name> = left.vhosts.iter().map(|vhost| vhost.name.clone()).collect();
    assert_eq!(names, ["other".into()]);
    assert_eq!(left.queues.len(), 1);
    assert_eq!(left.permissions.len(), 1);
    assert_eq!(left.users.len(), 2);
    assert_eq!(left.global_parameters.len(), 1);
    assert_eq!(left.exchanges.len() + left.bindings.len(), 0);
    assert_eq!(left.policies.len() + left.parameters.len(), 0);

    let user = DefinitionKey::User {
        name: "other".into(),
    };
    store.apply_and_wait(vec![Change::Delete(user)]).unwrap();
    let left = store.load().unwrap().definitions;
    assert_eq!(left.permissions, []);
    assert_eq!(left.users.len(), 1);
}

#[test]
fn a_binding_is_deleted_by_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let binding = |routing_key: &str, arguments: FieldTable| Binding {
        vhost: "/".into(),
        source: "x".into(),
        destination: "q".into(),
        destination_kind: DestinationKind::Queue,
        routing_key: routing_key.into(),
        arguments,
    };
    let arguments: FieldTable = [("x-match", "any")].into_iter().collect();
    let all = [
        binding("a", FieldTable::new()),
        binding("a", arguments.clone()),
        binding("b", FieldTable::new()),
    ];
    store
        .apply_and_wait(all.clone().map(Change::from).to_vec())
        .unwrap();
    store
        .apply_and_wait(vec![Change::Delete(DefinitionKey::Binding(all[1].clone()))])
        .unwrap();
    let left = store.load().unwrap().definitions.bindings;
    assert_eq!(left, [all[0].clone(), all[2].clone()]);
}

#[test]
fn queue_ids_are_never_given_out_twice() {
    let dir = tempfile::tempdir().unwrap();
    let small = Options {
        queue_id_block: 4,
        ..options()
    };
    let store = try_open(dir.path(), small.clone()).unwrap();
    let first: Vec<_> = (0..100).map(|_| store.wait_for_queue_id().0).collect();
    assert_eq!(first, (1..=100).collect::<Vec<_>>());

    // Killed: the reserved ones are lost, none comes again.
    let copy = killed_copy(dir.path());
    let killed = try_open(copy.path(), small.clone()).unwrap();
    let after_kill = killed.wait_for_queue_id().0;
    assert!((101..=112).contains(&after_kill), "{after_kill}");

    // Closed: nothing is lost.
    store.close().unwrap();
    drop(store);
    let store = try_open(dir.path(), small).unwrap();
    assert_eq!(store.wait_for_queue_id().0, 101);
}

#[test]
fn queue_ids_go_on_after_the_close() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.close().unwrap();
    let one = store.wait_for_queue_id();
    assert_eq!(store.wait_for_queue_id(), one.next());
}

#[test]
fn a_folder_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _store = open(dir.path());
    assert!(matches!(
        try_open(dir.path(), options()),
        Err(StoreError::FolderInUse { .. })
    ));
}

#[test]
fn the_export_follows_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let store = try_open(
        dir.path(),
        Options {
            export_debounce: Duration::from_millis(1),
            ..options()
        },
    )
    .unwrap();
    store.apply_and_wait(vec![queue(1, "a").into()]).unwrap();
    let path = dir.path().join(exporter::FILE);
    wait_until("export came", || exporter::counters(&path).is_some());
}

/// The other half of [`child_probe`]: checks the folder in the last argument, if there is one.
#[test]
fn probe_child() {
    let last = std::env::args().next_back().map(PathBuf::from);
    if let Some(folder) = last.filter(|path| path.is_absolute() && path.is_dir())
        && let Err(error) = check_store(&folder)
    {
        eprintln!("{error}");
        std::process::exit(error.exit_code().into());
    }
}

/// Runs this test program again for the trial, as the real one does with its hidden subcommand.
fn child_probe() -> Options {
    let arguments = ["--exact", concat!(module_path!(), "::probe_child")];
    let arguments = arguments.map(|argument| argument.trim_start_matches("haremq::").into());
    Options {
        probe: Probe::Child {
            program: std::env::current_exe().unwrap(),
            arguments: arguments.to_vec(),
            time_max: Duration::from_secs(30),
        },
        ..options()
    }
}

/// A closed store with the samples, a thousand queues, and its export.
fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut changes: Vec<_> = samples().into_iter().map(Change::Put).collect();
    changes.push(Vhost::new("/").into());
    changes.extend((100..1100).map(|id| queue(id, &format!("q{id}")).into()));
    store.apply_and_wait(changes).unwrap();
    store.close().unwrap();
    dir
}

fn assert_rebuilt(dir: &Path, expected: &Definitions) {
    let store = try_open(dir, child_probe()).unwrap();
    let report = store.recovery().expect("nothing was found to be damaged");
    assert_eq!(report.rebuilt_from, Some(dir.join(exporter::FILE)));
    assert!(report.set_aside.as_ref().unwrap().is_dir());
    let loaded = store.load().unwrap();
    assert_eq!(loaded.definitions, *expected);
    let highest = expected.queues.iter().map(|queue| queue.id).max().unwrap();
    assert!(store.wait_for_queue_id() > highest);
    store.close().unwrap();
    drop(store);
    let again = try_open(dir, child_probe()).unwrap();
    assert!(again.recovery().is_none());
    assert_eq!(again.load().unwrap().definitions, *expected);
}

#[test]
fn a_sound_catalogue_passes_the_trial() {
    let dir = filled();
    let store = try_open(dir.path(), child_probe()).unwrap();
    assert!(store.recovery().is_none());
    assert_eq!(store.load().unwrap().definitions.queues.len(), 1001);
}

#[test]
fn a_database_of_zeroes_noise_or_nothing_is_rebuilt() {
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes.fill(0),
        |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x5a),
        |bytes| bytes.truncate(bytes.len() / 3),
        Vec::clear,
    ];
    for (case, damage) in damages.into_iter().enumerate() {
        let dir = filled();
        let expected = open(dir.path()).load().unwrap().definitions;
        let path = dir.path().join("meta/db");
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        println!("case {case}");
        assert_rebuilt(dir.path(), &expected);
    }
}

#[test]
fn flipped_bytes_never_lose_a_definition() {
    let pristine = filled();
    let expected = open(pristine.path()).load().unwrap().definitions;
    let length = fs::metadata(pristine.path().join("meta/db")).unwrap().len();
    for step in 0..8 {
        let copy = killed_copy(pristine.path());
        let path = copy.path().join("meta/db");
        let mut bytes = fs::read(&path).unwrap();
        let at = (length * (2 * step + 1) / 16) as usize;
        bytes[at] ^= 0x10;
        fs::write(&path, bytes).unwrap();
        let store = try_open(copy.path(), child_probe()).unwrap();
        assert_eq!(
            store.load().unwrap().definitions,
            expected,
            "byte {at} of {length}"
        );
    }
}

#[test]
fn a_missing_catalogue_is_rebuilt_from_the_export() {
    let dir = filled();
    fs::remove_dir_all(dir.path().join("meta")).unwrap();
    let store = open(dir.path());
    assert_eq!(store.recovery().unwrap().set_aside, None);
    assert_eq!(queue_names(&store).len(), 1001);
}

#[test]
fn an_unreadable_export_gives_way_to_the_one_before() {
    let dir = filled();
    // A second close makes the first export the one before.
    drop(open(dir.path()));
    fs::write(dir.path().join(exporter::FILE), "{\"users\":").unwrap();
    fs::remove_dir_all(dir.path().join("meta")).unwrap();
    let store = open(dir.path());
    assert_eq!(
        store.recovery().unwrap().rebuilt_from,
        Some(dir.path().join(exporter::FILE_BEFORE))
    );
    assert_eq!(queue_names(&store).len(), 1001);
}

#[test]
fn damage_beyond_both_exports_is_refused_and_nothing_is_moved() {
    let dir = filled();
    drop(open(dir.path()));
    for file in exporter::files(dir.path()) {
        fs::write(file, "x").unwrap();
    }
    fs::write(dir.path().join("meta/db"), [7; 4096]).unwrap();
    let error = try_open(dir.path(), child_probe()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert_eq!(fs::read(dir.path().join("meta/db")).unwrap(), [7; 4096]);
}

#[test]
fn an_empty_catalogue_beside_unreadable_exports_is_refused_too() {
    let dir = filled();
    drop(open(dir.path()));
    for file in exporter::files(dir.path()) {
        fs::write(file, "x").unwrap();
    }
    fs::remove_dir_all(dir.path().join("meta")).unwrap();
    fs::create_dir(dir.path().join("meta")).unwrap();
    let error = try_open(dir.path(), child_probe()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn an_empty_catalogue_beside_an_export_is_rebuilt_from_it() {
    let dir = filled();
    fs::remove_dir_all(dir.path().join("meta")).unwrap();
    fs::create_dir(dir.path().join("meta")).unwrap();
    let store = open(dir.path());
    assert!(store.recovery().is_some());
    assert_eq!(queue_names(&store).len(), 1001);
}

#[test]
fn a_damaged_row_is_taken_from_the_export_or_left_out() {
    let dir = filled();
    let store = open(dir.path());
    let damage = |name: &str| {
        let key = key::encode(&DefinitionKey::Queue {
            vhost: "/".into(),
            name: name.into(),
        });
        let mut batch = sled::Batch::default();
        batch.insert(key.unwrap(), &b"\x01damaged"[..]);
        store.shared.catalogue.commit(batch).unwrap();
    };
    damage("q100");
    damage("never exported");
    let loaded = store.load().unwrap();
    let mut reports: Vec<_> = loaded.damaged.iter().map(ToString::to_string).collect();
    reports.sort();
    assert_eq!(
        reports,
        [
            "queue '/' 'never exported': its checksum is wrong; it is left out",
            "queue '/' 'q100': its checksum is wrong; it was taken from the export",
        ]
    );
    assert_eq!(loaded.definitions.queues.len(), 1001);
    let again = store.load().unwrap();
    assert_eq!(again.damaged.len(), 1);
}

#[test]
fn a_damaged_counter_is_damage_of_the_catalogue() {
    let dir = filled();
    let expected = open(dir.path()).load().unwrap().definitions;
    let catalogue = Catalogue::open(&dir.path().join("meta"), 1 << 20).unwrap();
    let mut batch = sled::Batch::default();
    batch.insert(Counter::Checkpoint.key(), &b"\x01damaged"[..]);
    catalogue.commit(batch).unwrap();
    drop(catalogue);
    assert_rebuilt(dir.path(), &expected);
}

#[test]
fn an_export_tells_up_to_where_in_the_journal_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.apply_and_wait(vec![queue(1, "a").into()]).unwrap();
    let end = store.0.journal().end();
    store.close().unwrap();
    let exported = exporter::counters(&dir.path().join(exporter::FILE)).unwrap();
    assert!(exported.definitions_lsn >= end);
    assert_eq!(
        exported,
        Counters {
            clean_end: None,
            checkpoint: Lsn(0),
            ..*store.shared.synced.lock()
        }
    );
}

#[test]
fn a_trial_that_takes_too_long_counts_as_damage() {
    let dir = filled();
    let probe = Probe::Child {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), "exec sleep 100".into()],
        time_max: Duration::from_millis(20),
    };
    assert_eq!(
        probe.find_damage(dir.path()).unwrap(),
        "a trial took longer than 0.02 s"
    );
}

#[test]
fn a_trial_tells_damage_by_its_exit_code() {
    let ended = |how: &str| {
        let probe = Probe::Child {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), format!("echo broken pages >&2; {how}").into()],
            time_max: Duration::from_secs(20),
        };
        probe.find_damage(Path::new("/"))
    };
    assert_eq!(
        ended("exit 65").unwrap(),
        "a trial ended with exit status: 65: broken pages"
    );
    assert!(ended("exit 101").is_some());
    assert!(ended("kill -9 $$").is_some());
    // A taken lock, an unknown subcommand, a failing file system.
    for code in [0, 1, 2, 74, 75] {
        assert_eq!(ended(&format!("exit {code}")), None);
    }
}

#[test]
fn after_a_failure_nothing_more_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.apply_and_wait(vec![queue(1, "a").into()]).unwrap();
    let failure = StoreError::Stopped {
        reason: "no space left".to_owned(),
    };
    *store.shared.failure.lock() = Some(failure.clone());
    let commits = store.commits();
    let refused = Err(failure.clone());
    assert_eq!(store.apply_and_wait(vec![queue(2, "b").into()]), refused);
    assert_eq!(store.0.definitions.commit(vec![], Lsn(0)), refused);
    assert_eq!(store.commits(), commits);
    assert_eq!(store.failed(), Some(failure.clone()));
    assert_eq!(store.close(), Err(failure));
}
