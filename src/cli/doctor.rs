//! The doctor's answers: what was found in a data folder, in lines or as JSON, and the exit code.
//!
//! In: the folder, and what to do with it. Out: text, handed to whoever prints. How a folder is examined is not known here.

use serde::Serialize;

use super::arguments::Examination;
use super::exit::{Exit, Failure};
use crate::store::doctor::{Copy, Doctor, Finding, Health, Mended, Quantity, QueueReport, Report};
use crate::store::{Options, StoreError};

/// Where text goes; it fails when nobody can read it.
type Print<'a> = &'a mut dyn FnMut(&str) -> Result<(), Failure>;

/// Everything, for `--json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    /// What the folder was like.
    report: &'a Report,
    /// The copy that was made before a repair.
    copy: Option<String>,
    /// What the folder is like after a repair.
    after: Option<&'a Report>,
    /// What to do.
    advice: &'a str,
}

/// Examines a folder, and repairs it if that is asked and needed.
///
/// # Errors
/// The folder cannot be examined, or not repaired: with the exit code of the store's error.
pub fn run(examination: &Examination, print: Print<'_>) -> Result<Exit, Failure> {
    let doctor = Doctor::open(&examination.data_dir, Options::default()).map_err(failure)?;
    let report = doctor.examine().map_err(failure)?;
    let is_text = !examination.json;
    if is_text {
        print(&text(&report))?;
    }
    if report.health != Health::Damaged || !examination.repair {
        let advice = advice(&report);
        print(&match is_text {
            true => format!("{advice}\n"),
            false => json(&report, None, None, &advice)?,
        })?;
        return Ok(match report.health {
            Health::Sound => Exit::Ok,
            Health::Damaged | Health::BeyondRepair => Exit::Data,
        });
    }
    let copy = doctor.copy().map_err(failure)?;
    if is_text {
        print(&copied(&copy))?;
    }
    let mended = doctor
        .mend()
        .and_then(|mended| Ok((mended, doctor.examine()?)));
    let (mended, after) = mended.map_err(|error| {
        let exit = Exit::of_store_error(&error);
        let place = copy.path.display();
        Failure::new(exit, format!("{error}; what the folder was is in {place}"))
    })?;
    let advice = advice_after(&after, &copy);
    print(&match is_text {
        true => format!("{}{}{advice}\n", mended_text(&mended), findings(&after)),
        false => json(&report, Some(&copy), Some(&after), &advice)?,
    })?;
    Ok(match after.health {
        Health::Sound => Exit::Ok,
        Health::Damaged | Health::BeyondRepair => Exit::Data,
    })
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failure(error: StoreError) -> Failure {
    Failure::new(Exit::of_store_error(&error), error.to_string())
}

fn json(
    report: &Report,
    copy: Option<&Copy>,
    after: Option<&Report>,
    advice: &str,
) -> Result<String, Failure> {
    let document = Document {
        report,
        copy: copy.map(|copy| copy.path.display().to_string()),
        after,
        advice,
    };
    let text = serde_json::to_string_pretty(&document)
        .map_err(|error| Failure::new(Exit::Software, error.to_string()))?;
    Ok(format!("{text}\n"))
}

/// One fact a line.
fn text(report: &Report) -> String {
    let format = match report.format {
        Some(format) => format.to_string(),
        None => "unknown".to_owned(),
    };
    let mut lines = vec![
        format!("data folder: {}", shown(&report.data_dir)),
        format!("format: {format}"),
    ];
    if report.beyond_repair.is_none() {
        lines.push(
            match report.stopped_cleanly {
                true => "last stop: clean",
                false => "last stop: not marked as clean, as after a kill or a crash",
            }
            .to_owned(),
        );
        lines.push(definitions(report));
        lines.extend(report.queues.iter().map(queue));
    }
    let journal = &report.journal;
    lines.push(format!(
        "journal: {}, {} frames and {} records to be read at a start; {} to be written again",
        quantity(journal.used),
        journal.frames,
        journal.records,
        quantity(journal.spare)
    ));
    lines.push(format!(
        "segments: {}, {} records read",
        quantity(report.segments),
        report.records_read
    ));
    lines.push(format!("blobs: {}", quantity(report.blobs)));
    lines.push(format!("quarantine: {}", quantity(report.quarantine)));
    for catalogue in &report.damaged_catalogues {
        lines.push(format!("set aside earlier: {}", shown(catalogue)));
    }
    for export in &report.exports {
        lines.push(match export.definitions {
            Some(definitions) => format!("export {}: {definitions} definitions", export.file),
            None => format!("export {}: none that can be read", export.file),
        });
    }
    lines.join("\n") + "\n" + &findings(report)
}

fn definitions(report: &Report) -> String {
    let counts = &report.definitions;
    let kinds = [
        ("virtual hosts", counts.vhosts),
        ("users", counts.users),
        ("permissions", counts.permissions),
        ("topic permissions", counts.topic_permissions),
        ("exchanges", counts.exchanges),
        ("queues", counts.queues),
        ("bindings", counts.bindings),
        ("policies", counts.policies),
        ("parameters", counts.parameters),
        ("global parameters", counts.global_parameters),
    ];
    let kinds = kinds.map(|(kind, count)| format!("{count} {kind}"));
    format!("definitions: {}", kinds.join(", "))
}

fn queue(queue: &QueueReport) -> String {
    let mut line = format!(
        "queue {} in {}: {} messages, {} bytes; {} of them in the journal, others in {} segments of {} bytes; {}, folder queues/{}",
        shown(&queue.name),
        shown(&queue.vhost),
        queue.messages,
        queue.bytes,
        queue.journal_messages,
        queue.segments,
        queue.segment_bytes,
        queue.kind,
        queue.id
    );
    if queue.unreadable_messages > 0 {
        line += &format!("; {} more cannot be read", queue.unreadable_messages);
    }
    line
}

fn quantity(quantity: Quantity) -> String {
    format!("{} files of {} bytes", quantity.files, quantity.bytes)
}

fn findings(report: &Report) -> String {
    let mut text: String = report
        .findings
        .iter()
        .map(|finding| format!("{}\n", line(finding)))
        .collect();
    if report.findings_left_out > 0 {
        text += &format!(
            "{} more findings are not listed\n",
            report.findings_left_out
        );
    }
    if let Some(reason) = &report.beyond_repair {
        text += &format!("loss: {}\n", shown(reason));
    }
    text
}

fn line(finding: &Finding) -> String {
    let mut line = format!("{}: {}", finding.severity.label(), finding.label);
    match (&finding.name, &finding.vhost, finding.queue) {
        (Some(name), Some(vhost), _) => {
            line += &format!(": queue {} in {}", shown(name), shown(vhost));
        }
        (_, _, Some(id)) => line += &format!(": queue {id}"),
        _ => {}
    }
    if let (Some(lane), Some(first), Some(last)) = (finding.lane, finding.first, finding.last) {
        line += &match first == last {
            true => format!(": message {first} of lane {lane}"),
            false => format!(": messages {first} to {last} of lane {lane}"),
        };
    }
    if let Some(file) = &finding.file {
        line += &format!(": {}", shown(file));
    }
    if let Some(offset) = finding.offset {
        line += &format!(" at {offset}");
    }
    line + ": " + &shown(&finding.reason)
}

/// A text that somebody else has chosen, on one line.
fn shown(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter.is_control() {
            true => line.extend(letter.escape_default()),
            false => line.push(letter),
        }
    }
    line
}

fn copied(copy: &Copy) -> String {
    let mut text = format!("copy: {}\n", shown(&copy.path.display().to_string()));
    if copy.unreadable_bytes > 0 {
        text += &format!(
            "copy: {} bytes could not be read and are zeros in it\n",
            copy.unreadable_bytes
        );
    }
    text
}

fn mended_text(mended: &Mended) -> String {
    format!(
        "repair: {} messages that cannot be read were settled, {} files and {} rows were set aside or removed\n",
        mended.settled_messages, mended.moved_files, mended.removed_rows
    )
}

/// What to do, in one sentence.
fn advice(report: &Report) -> String {
    let loss = match report.lost_messages {
        0 => String::new(),
        messages => format!(", {messages} messages are lost by it as far as that is known"),
    };
    match report.health {
        Health::Sound => "The folder is sound: start haremq.".to_owned(),
        Health::Damaged => format!(
            "The folder is damaged{loss}: if a backup has more than what is left, restore that one, else run haremq doctor --repair --data-dir {}, which makes a copy first.",
            shown(&report.data_dir)
        ),
        Health::BeyondRepair => {
            "The folder cannot be repaired: restore a backup, or move it away to start empty."
                .to_owned()
        }
    }
}

fn advice_after(after: &Report, copy: &Copy) -> String {
    let place = shown(&copy.path.display().to_string());
    match after.health {
        Health::Sound => format!(
            "The folder is repaired: start haremq, and remove {place} when nothing in it is needed any more."
        ),
        Health::Damaged | Health::BeyondRepair => format!(
            "The folder is still damaged: restore a backup, or start haremq with what is left; what it was is in {place}."
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn examined(
        data_dir: &std::path::Path,
        repair: bool,
        json: bool,
    ) -> (Result<Exit, Failure>, String) {
        let mut said = String::new();
        let examination = Examination {
            data_dir: data_dir.to_owned(),
            repair,
            json,
        };
        let exit = run(&examination, &mut |text| {
            said += text;
            Ok(())
        });
        (exit, said)
    }

    #[test]
    fn a_folder_that_is_missing_or_strange_is_named_and_not_made() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().join("nowhere"), dir.path().to_owned()] {
            let (exit, said) = examined(&path, true, false);
            let failure = exit.unwrap_err();
            assert_eq!(failure.exit, Exit::NoInput);
            assert!(failure.message.contains(&path.display().to_string()));
            assert_eq!(said, "");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_line_stays_one_whatever_a_name_holds() {
        let queue = QueueReport {
            name: "two\nlines".to_owned(),
            ..QueueReport::default()
        };
        let line = super::queue(&queue);
        assert!(line.starts_with("queue two\\nlines in "), "{line}");
        assert!(!line.contains('\n'));
    }
}
