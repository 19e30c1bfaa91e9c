//! Process, machine, store, alarms, memory.

use super::Scrape;
use super::text::{Kind, Writer};
use crate::broker::stats::Ranges;

impl Scrape<'_> {
    /// What is in use.
    pub(super) fn write_node_coarse(&self, writer: &mut Writer) {
        let reading = self.broker.stats().reading();
        let sockets = self.broker.registry().connection_count() as u64;
        Self::gauge(writer, "process_open_fds", "Open files", reading.files);
        Self::gauge(
            writer,
            "process_open_tcp_sockets",
            "Open client sockets",
            sockets,
        );
        Self::gauge(
            writer,
            "process_resident_memory_bytes",
            "Memory in use, in bytes",
            reading.memory_used_bytes,
        );
        Self::gauge(
            writer,
            "disk_space_available_bytes",
            "Free space on the disk, in bytes",
            reading.disk_free_bytes,
        );
        Self::gauge(
            writer,
            "erlang_processes_used",
            "Tasks of the process",
            reading.tasks,
        );
        for (name, help) in [
            ("erlang_gc_runs_total", "Always 0: nothing is collected"),
            (
                "erlang_gc_reclaimed_bytes_total",
                "Always 0: nothing is collected",
            ),
            (
                "erlang_scheduler_context_switches_total",
                "Always 0: not counted",
            ),
        ] {
            writer.single(name, Kind::Counter, help, 0_u64);
        }
    }

    /// What may be in use.
    pub(super) fn write_node_limits(&self, writer: &mut Writer) {
        let node = self.broker.node(&Ranges::default());
        let reading = node.reading;
        Self::gauge(
            writer,
            "process_max_fds",
            "Files that may be open",
            reading.files_max,
        );
        Self::gauge(
            writer,
            "process_max_tcp_sockets",
            "Client sockets that may be open",
            reading.files_max,
        );
        Self::gauge(
            writer,
            "resident_memory_limit_bytes",
            "Memory above which publishers are blocked, in bytes",
            reading.memory_limit_bytes,
        );
        Self::gauge(
            writer,
            "disk_space_available_limit_bytes",
            "Free space below which publishers are blocked, in bytes",
            reading.disk_limit_bytes,
        );
        Self::gauge(
            writer,
            "erlang_processes_limit",
            "Tasks that RabbitMQ would allow; here there is no limit",
            1_048_576_u64,
        );
        Self::gauge(
            writer,
            "erlang_scheduler_run_queue",
            "Always 0: not counted",
            0_u64,
        );
        Self::gauge(
            writer,
            "erlang_net_ticktime_seconds",
            "What RabbitMQ has by default",
            60_u64,
        );
        Self::gauge(
            writer,
            "erlang_uptime_seconds",
            "Seconds since the start",
            node.uptime_ms as f64 / 1_000.0,
        );
    }

    /// The disk.
    pub(super) fn write_persister(&self, writer: &mut Writer) {
        let journal = self.broker.messages().journal().stats();
        let counts = self.broker.stats().totals.counts();
        for (name, help, value) in [
            (
                "io_read_ops_total",
                "Messages read back from the disk",
                counts.disk_reads,
            ),
            (
                "io_write_ops_total",
                "Frames written to the journal",
                journal.frames,
            ),
            (
                "io_write_bytes_total",
                "Bytes written to the journal",
                journal.written_bytes,
            ),
            ("io_sync_ops_total", "Syncs of the journal", journal.syncs),
            (
                "msg_store_read_total",
                "Messages read back from the disk",
                counts.disk_reads,
            ),
            (
                "msg_store_write_total",
                "Messages written to the disk, each counted in each queue",
                counts.disk_writes,
            ),
        ] {
            writer.single(name, Kind::Counter, help, value);
        }
    }

    /// Alarms: 1 while one is on.
    pub(super) fn write_alarms(&self, writer: &mut Writer) {
        let alarms = self.broker.alarms();
        for (name, help, is_on) in [
            (
                "alarms_file_descriptor_limit",
                "Whether the files that may be open are used up",
                false,
            ),
            (
                "alarms_free_disk_space_watermark",
                "Whether the disk alarm is on",
                alarms.is_disk_low(),
            ),
            (
                "alarms_memory_used_watermark",
                "Whether the memory alarm is on",
                alarms.is_memory_low(),
            ),
        ] {
            writer.single(name, Kind::Untyped, help, is_on);
        }
    }

    /// What RabbitMQ has no name for.
    pub(super) fn write_own(&self, writer: &mut Writer) {
        let stats = self.broker.stats();
        let store = self.broker.messages().stats();
        let journal = self.broker.messages().journal();
        let counters = journal.stats();
        for (name, help, value) in [
            (
                "journal_written_bytes_total",
                "Bytes written to the journal, large bodies and padding included",
                counters.written_bytes,
            ),
            (
                "journal_frames_total",
                "Frames written to the journal",
                counters.frames,
            ),
            (
                "journal_records_total",
                "Records in these frames",
                counters.records,
            ),
            (
                "journal_syncs_total",
                "Syncs of the journal",
                counters.syncs,
            ),
            (
                "checkpoints_total",
                "Journal files of which all that lives was moved",
                store.checkpoints,
            ),
            (
                "checkpoint_moved_messages_total",
                "Messages that checkpoints moved to segments",
                store.moved_messages,
            ),
            (
                "checkpoint_moved_bytes_total",
                "Bytes that checkpoints moved to segments",
                store.moved_bytes,
            ),
            (
                "segment_compactions_total",
                "Segments that were written anew",
                store.compactions,
            ),
            (
                "segment_files_removed_total",
                "Segments that were removed",
                store.removed_files,
            ),
            (
                "messages_lost_total",
                "Messages that could not be read back from the disk",
                store.damaged_messages,
            ),
            (
                "quarantined_pieces_total",
                "Damaged pieces of files that were set aside",
                store.quarantined,
            ),
        ] {
            writer.single(name, Kind::Counter, help, value);
        }
        for (name, help, value) in [
            (
                "journal_backlog_bytes",
                "Bytes that wait to be written to the journal",
                journal.backlog_bytes(),
            ),
            (
                "journal_files",
                "Files of the journal",
                journal.files() as u64,
            ),
            (
                "journal_sealed_files",
                "Files of the journal that wait for a checkpoint",
                store.sealed_files,
            ),
            ("blob_files", "Files of single large bodies", store.blobs),
            (
                "checkpoint_is_behind",
                "Whether the last checkpoint failed and is made again",
                u64::from(store.is_behind),
            ),
            (
                "message_memory_bytes",
                "Bytes of messages in memory",
                self.broker.message_memory().0,
            ),
            (
                "message_memory_limit_bytes",
                "Bytes of messages that may be in memory",
                self.broker.message_memory().1,
            ),
            (
                "statistics_bytes",
                "Bytes of memory that histories take",
                stats.history_bytes(),
            ),
            (
                "statistics_objects",
                "Objects that have a history",
                stats.history_count() as u64,
            ),
        ] {
            writer.single(name, Kind::Gauge, help, value);
        }
    }

    /// Where memory is, as far as it is counted.
    pub(super) fn write_memory(&self, writer: &mut Writer) {
        let total = self.broker.stats().reading().memory_used_bytes;
        let messages = self.broker.message_memory().0.min(total);
        let histories = self.broker.stats().history_bytes().min(total - messages);
        for (name, help, value) in [
            (
                "memory_binary_bytes",
                "Bytes of messages in memory",
                messages,
            ),
            (
                "memory_mgmt_db_bytes",
                "Bytes of the histories of statistics",
                histories,
            ),
            (
                "memory_other_proc_bytes",
                "Bytes of everything else",
                total - messages - histories,
            ),
            ("memory_total_rss_bytes", "Bytes of the process", total),
        ] {
            Self::gauge(writer, name, help, value);
        }
    }
}
