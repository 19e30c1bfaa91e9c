//! Watches memory and disk, and tells connections when an alarm goes on or off.
//!
//! In: readings at an interval, and word from the journal when it has no room for its next file: what is left of it is too little
//! to let publishers go on until the interval ends. Out: log lines, blocked connections. What is stored is not known here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::Notify;

use super::memory;
use crate::broker::{AlarmReading, Broker};
use crate::config::AlarmSettings;

/// Watches memory and disk until the task is dropped.
pub async fn watch(broker: Arc<Broker>, settings: Arc<RwLock<AlarmSettings>>, data_dir: PathBuf) {
    let journal_full = Arc::new(Notify::new());
    let noticed = Arc::clone(&journal_full);
    broker
        .messages()
        .journal()
        .set_on_full(Box::new(move || noticed.notify_one()));
    loop {
        let current = settings.read().clone();
        look(&broker, &current, &data_dir);
        broker.relieve_memory(broker.clock().now());
        let interval = Duration::from_millis(current.check_interval_ms.max(1));
        // Either is a reason to look.
        let _ = tokio::time::timeout(interval, journal_full.notified()).await;
    }
}

/// Looks at memory and disk once; logs an alarm that went on or off, and tells every connection.
pub fn look(broker: &Broker, settings: &AlarmSettings, data_dir: &Path) {
    let reading = AlarmReading {
        journal_roomy_for: broker.messages().journal().roomy_for(),
        journal_file_bytes: broker.messages().journal().file_bytes(),
        ..read(settings, data_dir)
    };
    let alarms = broker.alarms();
    if !alarms.judge(&reading) {
        return;
    }
    match alarms.reason() {
        Some(reason) => tracing::warn!(
            target: "haremq::alarm",
            memory_used_bytes = reading.memory_used_bytes,
            memory_limit_bytes = reading.memory_limit_bytes,
            disk_free_bytes = reading.disk_free_bytes,
            disk_limit_bytes = reading.disk_limit_bytes,
            "{reason}: connections that publish are blocked until there is room again"
        ),
        None => tracing::info!(
            target: "haremq::alarm",
            memory_used_bytes = reading.memory_used_bytes,
            disk_free_bytes = reading.disk_free_bytes,
            "there is room again: blocked connections go on"
        ),
    }
    broker.registry().alarm_changed();
    broker.tell_alarms();
}

fn read(settings: &AlarmSettings, data_dir: &Path) -> AlarmReading {
    let total = memory::total_bytes();
    AlarmReading {
        memory_used_bytes: memory::resident_bytes(),
        memory_limit_bytes: settings.memory_high_watermark.bytes(total),
        disk_free_bytes: memory::disk_free_bytes(data_dir).ok(),
        disk_limit_bytes: settings.disk_free_limit.bytes(total),
        journal_roomy_for: Some(Duration::MAX),
        journal_file_bytes: 0,
        hysteresis_percent: settings.hysteresis_percent,
    }
}
