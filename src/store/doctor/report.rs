//! What an examination has found, as data.
//!
//! In: facts and findings, one after the other. Out: the same, counted, for whoever shows them.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;

use crate::store::queue_log::Span;

/// Findings of each severity that are listed; the others are counted.
const FINDINGS_MAX: usize = 10_000;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing, and nothing to be mended: what a crash leaves, or damage that nobody needs to read.
    Remark,
    /// Something is damaged, and nothing is lost by it.
    Damage,
    /// Messages or definitions are lost at the next start, or may be.
    Loss,
}

impl Severity {
    /// Its name.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Remark => "remark",
            Self::Damage => "damage",
            Self::Loss => "loss",
        }
    }
}

/// Whether a folder can be used as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// A start finds all that was stored.
    Sound,
    /// Something is damaged; a start or a repair goes on with the rest.
    Damaged,
    /// A start refuses it, and so does a repair.
    BeyondRepair,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which case it is: one word.
    pub label: &'static str,
    /// What is wrong, in words.
    pub reason: String,
    /// The file, seen from the data folder.
    pub file: Option<String>,
    /// Where in the file, in bytes.
    pub offset: Option<u64>,
    /// The number of the queue.
    pub queue: Option<u64>,
    /// Its virtual host, if it is defined.
    pub vhost: Option<String>,
    /// Its name, if it is defined.
    pub name: Option<String>,
    /// The lane of the messages.
    pub lane: Option<u8>,
    /// The place of the first of them in the lane.
    pub first: Option<u64>,
    /// The place of the last of them in the lane.
    pub last: Option<u64>,
    /// How many messages are lost, as far as that is known.
    pub lost_messages: u64,
}

impl Finding {
    /// A finding of which nothing more is known.
    pub(super) fn new(severity: Severity, label: &'static str, reason: impl Into<String>) -> Self {
        Self {
            severity,
            label,
            reason: reason.into(),
            file: None,
            offset: None,
            queue: None,
            vhost: None,
            name: None,
            lane: None,
            first: None,
            last: None,
            lost_messages: 0,
        }
    }

    /// The same, in a file.
    pub(super) fn in_file(mut self, data_dir: &Path, file: &Path) -> Self {
        let inside = file.strip_prefix(data_dir).unwrap_or(file);
        self.file = Some(inside.to_string_lossy().into_owned());
        self
    }

    /// The same, at a place in its file.
    pub(super) fn at(mut self, offset: Option<u64>) -> Self {
        self.offset = offset;
        self
    }

    /// The same, of messages.
    pub(super) fn of(mut self, span: Span) -> Self {
        self.lane = Some(span.first.lane());
        self.first = Some(span.first.sequence());
        self.last = Some(span.last.sequence());
        self
    }
}

/// How many definitions of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the names say all")]
pub struct DefinitionCounts {
    pub vhosts: usize,
    pub users: usize,
    pub permissions: usize,
    pub topic_permissions: usize,
    pub exchanges: usize,
    pub queues: usize,
    pub bindings: usize,
    pub policies: usize,
    pub parameters: usize,
    pub global_parameters: usize,
}

/// A queue and what waits in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QueueReport {
    /// Its number, which names its folder.
    pub id: u64,
    /// Its virtual host.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// `classic` or `quorum`.
    pub kind: String,
    /// Messages that a start would serve.
    pub messages: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Those of them that lie in the journal.
    pub journal_messages: u64,
    /// Segments with something that waits.
    pub segments: u64,
    /// Bytes of their files.
    pub segment_bytes: u64,
    /// Messages that are there and cannot be read.
    pub unreadable_messages: u64,
}

/// Files, and how much they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Quantity {
    /// How many.
    pub files: u64,
    /// Bytes in all.
    pub bytes: u64,
}

/// The journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JournalReport {
    /// Files in use.
    pub used: Quantity,
    /// Files that are kept to be written again.
    pub spare: Quantity,
    /// Whole frames that a start reads.
    pub frames: u64,
    /// Sound records in them.
    pub records: u64,
}

/// An export of the definitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExportReport {
    /// The file.
    pub file: String,
    /// Definitions in it; `None` if it is missing or cannot be read.
    pub definitions: Option<usize>,
}

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The folder.
    pub data_dir: String,
    /// Whether it can be used as it is.
    pub health: Health,
    /// Why it cannot be opened at all.
    pub beyond_repair: Option<String>,
    /// The number of its format, if it says one.
    pub format: Option<u64>,
    /// The last stop was a clean one.
    pub stopped_cleanly: bool,
    /// Definitions by kind.
    pub definitions: DefinitionCounts,
    /// The durable queues, by virtual host and name.
    pub queues: Vec<QueueReport>,
    /// The journal.
    pub journal: JournalReport,
    /// Segments' files.
    pub segments: Quantity,
    /// Files of large bodies.
    pub blobs: Quantity,
    /// What was set aside earlier.
    pub quarantine: Quantity,
    /// Catalogues that were set aside earlier.
    pub damaged_catalogues: Vec<String>,
    /// The exports, the newest first.
    pub exports: Vec<ExportReport>,
    /// Records that were read and checked in segments.
    pub records_read: u64,
    /// What was found, the worst first; at most ten thousand of each severity.
    pub findings: Vec<Finding>,
    /// Findings that are not listed.
    pub findings_left_out: u64,
    /// Messages of which it is known that they are lost.
    pub lost_messages: u64,
    /// Findings that are listed, by how bad they are.
    #[serde(skip)]
    listed: [usize; 3],
}

impl Report {
    pub(super) fn new(data_dir: &Path, format: Option<u64>) -> Self {
        Self {
            data_dir: data_dir.display().to_string(),
            health: Health::Sound,
            beyond_repair: None,
            format,
            stopped_cleanly: false,
            definitions: DefinitionCounts::default(),
            queues: Vec::new(),
            journal: JournalReport::default(),
            segments: Quantity::default(),
            blobs: Quantity::default(),
            quarantine: Quantity::default(),
            damaged_catalogues: Vec::new(),
            exports: Vec::new(),
            records_read: 0,
            findings: Vec::new(),
            findings_left_out: 0,
            lost_messages: 0,
            listed: [0; 3],
        }
    }

    /// Takes note of something.
    pub(super) fn find(&mut self, finding: Finding) {
        if finding.severity > Severity::Remark && self.health == Health::Sound {
            self.health = Health::Damaged;
        }
        self.lost_messages += finding.lost_messages;
        let listed = &mut self.listed[finding.severity as usize];
        if *listed >= FINDINGS_MAX {
            self.findings_left_out += 1;
            return;
        }
        *listed += 1;
        self.findings.push(finding);
    }

    /// Nothing more can be told than what was found so far.
    pub(super) fn give_up(&mut self, reason: String) {
        self.health = Health::BeyondRepair;
        self.beyond_repair = Some(reason);
    }

    /// Puts findings in order, with the names of their queues, and `scratch` out of the texts, which stands for the folder itself.
    pub(super) fn finish(&mut self, scratch: &Path) {
        let scratch = scratch.display().to_string();
        let queues = self.queues.iter().map(|queue| (queue.id, queue));
        let queues: HashMap<u64, &QueueReport> = queues.collect();
        for finding in &mut self.findings {
            if let Some(queue) = finding.queue.and_then(|id| queues.get(&id)) {
                finding.vhost = Some(queue.vhost.clone());
                finding.name = Some(queue.name.clone());
            }
            finding.reason = finding.reason.replace(&scratch, &self.data_dir);
        }
        if let Some(reason) = &mut self.beyond_repair {
            *reason = reason.replace(&scratch, &self.data_dir);
        }
        self.findings
            .sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    }
}
