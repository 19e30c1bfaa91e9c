//! A start without a trace, and what it has shown. In: a locked folder; out: a report.
//!
//! The recovery sees the folder through an overlay, and a copy of the catalogue in the place of the catalogue. That sled finds its
//! files sound is tried by a child first, as at a start.

use std::path::Path;
use std::sync::Arc;

use super::copying::Scratch;
use super::report::{DefinitionCounts, Finding, QueueReport, Report, Severity};
use super::scrub::{Lost, Scrub, Spoiled};
use super::{inventory, quiet};
use crate::store::definitions::{self, Definitions};
use crate::store::disk::{Disk, OverlayDisk};
use crate::store::folder::FORMAT_FILE;
use crate::store::journal::ReplayCase;
use crate::store::messages::FindingKind;
use crate::store::queue_log::{QueueLog, RecoveredLanes};
use crate::store::segments::SegmentFiles;
use crate::store::{DataFolder, Options, Store, StoreError};

/// What of the folder is copied: all that is not reached through the disk.
const COPIED: [&str; 4] = [
    FORMAT_FILE,
    definitions::FOLDER,
    "meta.json",
    "meta.json.prev",
];

/// Looks at everything and changes nothing.
///
/// # Errors
/// The folder cannot be read, or the catalogue cannot be copied.
pub(super) fn examine(folder: &DataFolder, options: &Options) -> Result<Report, StoreError> {
    let data_dir = folder.path();
    let mut report = Report::new(data_dir, folder.format());
    inventory::take(&mut report, &*options.disk, data_dir)?;
    let scratch = Scratch::of(data_dir, &COPIED)?;
    let disk: Arc<dyn Disk> = Arc::new(OverlayDisk::new(Arc::clone(&options.disk)));
    let catalogue = Arc::new(DataFolder::open(scratch.path())?);
    let opened = Store::open_locked(catalogue, data_dir, quiet(options, Arc::clone(&disk)));
    match opened.and_then(|store| look(&store, &disk, data_dir, &mut report)) {
        Ok(()) => {}
        Err(error @ (StoreError::Damaged { .. } | StoreError::NewerFormat { .. })) => {
            report.give_up(error.to_string());
        }
        Err(error) => return Err(error),
    }
    report.finish(scratch.path());
    Ok(report)
}

/// Tells what recovery has found, and reads everything that waits.
fn look(
    store: &Store,
    disk: &Arc<dyn Disk>,
    data_dir: &Path,
    report: &mut Report,
) -> Result<(), StoreError> {
    report.stopped_cleanly = store.clean_end().is_some();
    let mut has_lost_definitions = catalogue(store, report);
    journal(store, data_dir, report);
    let loaded = store.definitions.load()?;
    for row in &loaded.damaged {
        has_lost_definitions |= !row.is_restored;
        let (severity, label) = match row.is_restored {
            true => (Severity::Damage, "definition-damaged"),
            false => (Severity::Loss, "definition-lost"),
        };
        report.find(Finding::new(severity, label, row.to_string()));
    }
    report.definitions = counts(&loaded.definitions);
    let files = SegmentFiles::new(Arc::clone(disk), data_dir);
    let mut scrub = Scrub::new(store.journal(), &files);
    for patient in admit(store, &loaded.definitions) {
        let unreadable = scrub.queue(&patient.log, &patient.lanes);
        let queue = queue(&patient, unreadable);
        if !patient.has_vhost && queue.messages > 0 {
            let reason = format!(
                "there is no virtual host '{}', so a start leaves the queue out and removes its {} messages",
                queue.vhost, queue.messages
            );
            let mut finding = Finding::new(Severity::Loss, "queue-without-vhost", reason);
            finding.queue = Some(queue.id);
            finding.lost_messages = queue.messages;
            report.find(finding);
        }
        report.queues.push(queue);
    }
    report.records_read = scrub.records;
    scrubbed(&scrub.lost, &scrub.spoiled, data_dir, report);
    for finding in store.messages.findings() {
        let severity = severity_of(finding.kind);
        let reason = format!("{}: {}", meaning(finding.kind), finding.detail);
        let mut found = Finding::new(severity, finding.kind.label(), reason);
        found.queue = Some(finding.queue.0);
        report.find(found);
    }
    unclaimed(store, has_lost_definitions, report);
    Ok(())
}

/// Tells what became of the catalogue; whether definitions may be lost.
fn catalogue(store: &Store, report: &mut Report) -> bool {
    let mut has_lost = false;
    if let Some(recovery) = store.definitions.recovery() {
        has_lost = true;
        let severity = match recovery.rebuilt_from {
            Some(_) => Severity::Damage,
            None => Severity::Loss,
        };
        let reason = recovery.reason.clone();
        let outcome = match &recovery.rebuilt_from {
            Some(path) => format!(
                "a start takes {} definitions from {} and later ones from the journal",
                recovery.definitions,
                path.display()
            ),
            None => "no export was ever made, so a start has only what the journal has".to_owned(),
        };
        let reason = format!("the definitions are damaged ({reason}); {outcome}");
        report.find(Finding::new(severity, recovery.case.label(), reason));
    }
    for finding in store.definitions.findings() {
        let severity = match finding {
            definitions::Finding::CatalogueBehind { .. } => Severity::Remark,
            _ => Severity::Loss,
        };
        has_lost |= severity == Severity::Loss;
        report.find(Finding::new(severity, finding.label(), finding.to_string()));
    }
    for row in store.damaged_rows() {
        report.find(Finding::new(
            Severity::Damage,
            "row-damaged",
            row.to_string(),
        ));
    }
    has_lost
}

/// Tells what became of the journal.
fn journal(store: &Store, data_dir: &Path, report: &mut Report) {
    let replay = store.replay();
    report.journal.frames = replay.frames;
    report.journal.records = replay.records;
    for case in &replay.cases {
        let severity = match case {
            // A file that was used before, or was about to be.
            ReplayCase::StaleBytes { .. } | ReplayCase::UnusedFile { .. } => continue,
            ReplayCase::HeaderUnreadable { .. } if !case.is_loss() => Severity::Damage,
            case if case.is_loss() => Severity::Loss,
            _ => Severity::Remark,
        };
        report.find(Finding::new(severity, "journal", case.to_string()));
    }
    for piece in &replay.damaged {
        let reason = match piece.position {
            Some(_) => format!(
                "{}; the message is lost, unless it was settled",
                piece.reason
            ),
            None => format!(
                "{} ({} bytes); what they said is not known",
                piece.reason, piece.bytes
            ),
        };
        let mut finding = Finding::new(Severity::Loss, "journal-record", reason)
            .in_file(data_dir, &piece.file)
            .at(Some(piece.offset));
        finding.queue = piece.queue.map(|queue| queue.0);
        if let Some(position) = piece.position {
            finding.lane = Some(position.lane());
            finding.first = Some(position.sequence());
            finding.last = finding.first;
            finding.lost_messages = 1;
        }
        report.find(finding);
    }
    let listed = replay.damaged.len() as u64;
    if replay.damaged_count > listed {
        let more = replay.damaged_count - listed;
        let reason = format!("{more} more damaged pieces are not listed");
        report.find(Finding::new(Severity::Loss, "journal-record", reason));
    }
}

fn scrubbed(lost: &[Lost], spoiled: &[Spoiled], data_dir: &Path, report: &mut Report) {
    for lost in lost {
        let label = match lost.is_blob {
            true => "body-damaged",
            false => "record-damaged",
        };
        let mut finding = Finding::new(Severity::Loss, label, lost.reason.clone())
            .in_file(data_dir, &lost.file)
            .at(lost.bytes.as_ref().map(|bytes| bytes.start))
            .of(lost.span);
        finding.queue = Some(lost.queue.0);
        finding.lost_messages = lost.messages();
        report.find(finding);
    }
    for spoiled in spoiled {
        let reason = format!(
            "{} ({} bytes), where no message waits",
            spoiled.reason,
            spoiled.bytes.end - spoiled.bytes.start
        );
        let mut finding = Finding::new(Severity::Remark, "settled-damaged", reason)
            .in_file(data_dir, &spoiled.file)
            .at(Some(spoiled.bytes.start));
        finding.queue = Some(spoiled.queue.0);
        report.find(finding);
    }
}

/// Tells of messages whose queue is not defined: a deleted one's, which a start removes, unless its definition was lost.
fn unclaimed(store: &Store, has_lost_definitions: bool, report: &mut Report) {
    for (id, figures) in store.messages.unclaimed() {
        let messages = figures.journal_messages + figures.segment_messages;
        if messages == 0 {
            continue;
        }
        let severity = match has_lost_definitions {
            true => Severity::Loss,
            false => Severity::Remark,
        };
        let reason =
            format!("{messages} messages are of a queue that is not defined; a start removes them");
        let mut finding = Finding::new(severity, "queue-undefined", reason);
        finding.queue = Some(id.0);
        if has_lost_definitions {
            finding.lost_messages = messages;
        }
        report.find(finding);
    }
}

/// A queue with all that recovery has of it.
#[derive(Debug)]
pub(super) struct Patient {
    pub(super) definition: definitions::Queue,
    pub(super) log: QueueLog,
    pub(super) lanes: RecoveredLanes,
    /// Its virtual host is defined, too.
    pub(super) has_vhost: bool,
}

/// Takes the logs of all queues that are defined.
pub(super) fn admit<'a>(
    store: &'a Store,
    definitions: &'a Definitions,
) -> impl Iterator<Item = Patient> + use<'a> {
    let queues = definitions.queues.iter().filter(|queue| queue.durable);
    queues.map(|definition| {
        let log = store.messages.take_recovered(definition.id);
        let mut log = log.unwrap_or_else(|| store.messages.new_log(definition.id));
        let lanes = log.recovered();
        // In the order of their names.
        let vhosts = &definitions.vhosts;
        let vhost = vhosts.binary_search_by(|vhost| vhost.name.cmp(&definition.vhost));
        Patient {
            definition: definition.clone(),
            log,
            lanes,
            has_vhost: vhost.is_ok(),
        }
    })
}

fn queue(patient: &Patient, unreadable_messages: u64) -> QueueReport {
    let figures = patient.log.figures();
    let lanes = patient.lanes.lanes.iter();
    let waiting: u64 = lanes.clone().map(|lane| lane.messages).sum();
    QueueReport {
        id: patient.definition.id.0,
        vhost: patient.definition.vhost.to_string(),
        name: patient.definition.name.to_string(),
        kind: patient.definition.kind.clone(),
        messages: waiting.saturating_sub(unreadable_messages),
        bytes: lanes.map(|lane| lane.body_bytes).sum(),
        journal_messages: figures.journal_messages,
        segments: figures.segments,
        segment_bytes: figures.file_bytes,
        unreadable_messages,
    }
}

const fn severity_of(kind: FindingKind) -> Severity {
    match kind {
        FindingKind::LongerThanRow
        | FindingKind::UnfinishedCheckpoint
        | FindingKind::UnfinishedCompaction => Severity::Remark,
        FindingKind::Adopted | FindingKind::RowDamaged => Severity::Damage,
        FindingKind::Missing
        | FindingKind::Shorter
        | FindingKind::Unreadable
        | FindingKind::JournalBehindRows => Severity::Loss,
    }
}

/// What a start makes of it.
const fn meaning(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::LongerThanRow => "the rest of an unfinished checkpoint goes",
        FindingKind::UnfinishedCheckpoint => "the file of an unfinished checkpoint goes",
        FindingKind::UnfinishedCompaction => "the file of an unfinished compaction goes",
        FindingKind::Adopted => {
            "a file of which the catalogue knows nothing is taken over, with messages that were settled"
        }
        FindingKind::RowDamaged => "a row of the catalogue makes no sense",
        FindingKind::Missing => "a file is missing",
        FindingKind::Shorter => "a file was cut off",
        FindingKind::Unreadable => "what cannot be read is set aside",
        FindingKind::JournalBehindRows => {
            "the journal has lost its end, with messages and settlements that were in it"
        }
    }
}

fn counts(definitions: &Definitions) -> DefinitionCounts {
    DefinitionCounts {
        vhosts: definitions.vhosts.len(),
        users: definitions.users.len(),
        permissions: definitions.permissions.len(),
        topic_permissions: definitions.topic_permissions.len(),
        exchanges: definitions.exchanges.len(),
        queues: definitions.queues.len(),
        bindings: definitions.bindings.len(),
        policies: definitions.policies.len(),
        parameters: definitions.parameters.len(),
        global_parameters: definitions.global_parameters.len(),
    }
}
