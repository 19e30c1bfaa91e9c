//! Watches memory and disk, and tells connections when an alarm goes on or off.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::memory;
use crate::broker::{AlarmReading, Broker};
use crate::config::AlarmSettings;

/// Watches memory and disk until the task is dropped.
pub async fn watch(broker: Arc<Broker>, settings: Arc<RwLock<AlarmSettings>>, data_dir: PathBuf) {
    loop {
        let current = settings.read().clone();
        look(&broker, &current, &data_dir);
        broker.relieve_memory(broker.clock().now());
        tokio::time::sleep(Duration::from_millis(current.check_interval_ms.max(1))).await;
    }
}

/// Looks at memory and disk once; logs an alarm that went on or off, and tells every connection.
pub fn look(broker: &Broker, settings: &AlarmSettings, data_dir: &Path) {
    let reading = AlarmReading {
        is_journal_full: broker.messages().journal().is_full(),
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
}

fn read(settings: &AlarmSettings, data_dir: &Path) -> AlarmReading {
    let total = memory::total_bytes();
    AlarmReading {
        memory_used_bytes: memory::resident_bytes(),
        memory_limit_bytes: settings.memory_high_watermark.bytes(total),
        disk_free_bytes: memory::disk_free_bytes(data_dir).ok(),
        disk_limit_bytes: settings.disk_free_limit.bytes(total),
        is_journal_full: false,
        hysteresis_percent: settings.hysteresis_percent,
    }
}
