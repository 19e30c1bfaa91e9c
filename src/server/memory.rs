//! How much memory there is, and how much of it the process uses; how much disk is free.

use std::fs;
use std::io;
use std::path::Path;

/// Bytes of memory that the process may use: the control group's limit if there is one, else the machine's.
pub fn total_bytes() -> u64 {
    let machine = meminfo_total_bytes().unwrap_or(u64::MAX);
    cgroup_limit_bytes().map_or(machine, |limit| limit.min(machine))
}

fn meminfo_total_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// The limit of control groups version 2, then version 1; `max` and absurdly large ones are no limit.
fn cgroup_limit_bytes() -> Option<u64> {
    [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .iter()
    .find_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok())
}

/// Bytes of the process that are resident; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    let page_bytes = rustix::param::page_size() as u64;
    fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
        .map_or(0, |pages| pages * page_bytes)
}

/// Bytes that are free for the broker on the disk of `folder`.
///
/// # Errors
/// The folder's file system cannot be asked.
pub fn disk_free_bytes(folder: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_uses_some_of_the_memory_there_is() {
        let resident = resident_bytes();
        assert!(resident > 0);
        assert!(resident < total_bytes());
    }

    #[test]
    fn a_missing_folder_has_no_free_space() {
        assert!(disk_free_bytes(Path::new("/nonexistent/folder")).is_err());
        assert!(disk_free_bytes(Path::new("/")).is_ok());
    }
}
