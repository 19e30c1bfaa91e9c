//! Reads the system every five seconds and has the broker remember what was counted.
//!
//! In: time. Out: ticks. What is counted, and what is remembered of it, is the broker's business.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::runtime::Handle;

use super::memory;
use crate::broker::Broker;
use crate::broker::stats::NodeReading;
use crate::broker::stats::history::TICK_S;
use crate::config::AlarmSettings;

/// Ticks until the task is dropped.
pub async fn watch(broker: Arc<Broker>, settings: Arc<RwLock<AlarmSettings>>, data_dir: PathBuf) {
    let mut ticks = tokio::time::interval(Duration::from_secs(TICK_S));
    loop {
        ticks.tick().await;
        let tasks = Handle::current().metrics().num_alive_tasks() as u64;
        let current = settings.read().clone();
        let now = broker.clock().now();
        broker.sample(now, read(&current, &data_dir, tasks));
    }
}

fn read(settings: &AlarmSettings, data_dir: &std::path::Path, tasks: u64) -> NodeReading {
    let total = memory::total_bytes();
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    NodeReading {
        memory_used_bytes: memory::resident_bytes(),
        memory_limit_bytes: settings.memory_high_watermark.bytes(total),
        disk_free_bytes: memory::disk_free_bytes(data_dir).unwrap_or(0),
        disk_limit_bytes: settings.disk_free_limit.bytes(total),
        files: open_files(),
        // RabbitMQ's client reads 32 bits.
        files_max: files.current.unwrap_or(u64::MAX).min(u64::from(u32::MAX)),
        tasks,
    }
}

/// Open files of the process; 0 where the system does not tell.
fn open_files() -> u64 {
    // The size of that folder is the number of its entries on Linux 6.2 and later, which spares reading it.
    let sized = std::fs::metadata("/proc/self/fd").map_or(0, |folder| folder.len());
    if sized > 0 {
        return sized;
    }
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_files_and_may_have_more() {
        let settings = crate::config::Settings::defaults().alarms;
        let reading = read(&settings, std::path::Path::new("/"), 3);
        assert!(reading.files > 2);
        assert!(reading.files_max > reading.files);
        assert!(reading.memory_used_bytes > 0);
        assert!(reading.memory_limit_bytes > reading.memory_used_bytes);
        assert_eq!(reading.tasks, 3);
    }
}
