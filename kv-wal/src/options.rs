//! Sizes and bounds of a log, and what it tells about itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::OpenError;
use crate::format::{HEADER_BLOCK_BYTES, encoded_bytes, entry_payload_bytes};

/// Largest vote or committed mark in bytes: both must fit into the header block of a segment.
pub const MAX_STATE_BYTES: usize = 1024;

/// Largest size of a segment in bytes; offsets within a segment are kept in 32 bits.
pub const MAX_SEGMENT_BYTES: u64 = 1 << 30;

/// Called after every sync with the time it took.
pub type SyncObserver = Arc<dyn Fn(Duration) + Send + Sync>;

/// Called after every request that joins the queue.
pub type RequestObserver = Arc<dyn Fn() + Send + Sync>;

/// Who runs the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drive {
    /// A thread of the log's own, named `wal`.
    Thread,
    /// Whoever calls [`Wal::drive`](crate::Wal::drive). For simulations and tests, where every step has to
    /// happen at a moment of their choosing.
    Caller,
}

/// How a log behaves. `Options::default()` is what a node runs with.
#[derive(Clone)]
pub struct Options {
    /// Mixed into all checksums and kept in every segment, so that a segment of another node's log is
    /// refused. Give the node's id.
    pub log_id: u64,
    /// Size of a segment file in bytes, a multiple of 4096 up to [`MAX_SEGMENT_BYTES`]. A new value holds
    /// for segments made from then on.
    pub segment_bytes: u64,
    /// Payload bytes of recent entries kept in memory. Entries that are not yet on disk are kept beyond it.
    pub cache_bytes: usize,
    /// Largest payload of one entry in bytes; a longer one is refused.
    pub max_record_bytes: usize,
    /// Bytes that may wait for the writer. A request that would exceed it is refused with
    /// `ErrorKind::QuotaExceeded`; callers look at [`Wal::queued_bytes`](crate::Wal::queued_bytes) and shed
    /// load far earlier.
    pub queue_bytes: usize,
    /// About how many bytes one batch takes from the queue before it is synced. A single request is never
    /// split over two batches.
    pub batch_bytes: usize,
    /// Pause before writing is tried again on a full disk.
    pub full_retry: Duration,
    /// Who runs the writer.
    pub drive: Drive,
    /// Observes how long syncs take; called by the writer, must be quick.
    pub on_sync: Option<SyncObserver>,
    /// Tells whoever drives the log that there is something to write; must be quick.
    pub on_request: Option<RequestObserver>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            log_id: 0,
            segment_bytes: 64 << 20,
            cache_bytes: 16 << 20,
            max_record_bytes: 8 << 20,
            queue_bytes: 128 << 20,
            batch_bytes: 4 << 20,
            full_retry: Duration::from_millis(250),
            drive: Drive::Thread,
            on_sync: None,
            on_request: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("log_id", &self.log_id)
            .field("segment_bytes", &self.segment_bytes)
            .field("cache_bytes", &self.cache_bytes)
            .field("max_record_bytes", &self.max_record_bytes)
            .field("queue_bytes", &self.queue_bytes)
            .field("batch_bytes", &self.batch_bytes)
            .field("full_retry", &self.full_retry)
            .field("drive", &self.drive)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Segment size as the format keeps it; `check` has bounded it.
    pub(crate) fn segment_size(&self) -> u32 {
        self.segment_bytes as u32
    }

    /// Pause between two purged segments that are deleted. Who drives the log by hand sees them go at once.
    pub(crate) fn removal_pause(&self) -> Duration {
        match self.drive {
            Drive::Thread => Duration::from_millis(200),
            Drive::Caller => Duration::ZERO,
        }
    }

    /// Refuses options that contradict each other.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let refuse = |text: String| Err(OpenError::Options(text));
        if self.segment_bytes > MAX_SEGMENT_BYTES || !self.segment_bytes.is_multiple_of(4096) {
            return refuse(format!(
                "segment_bytes is {}, must be a multiple of 4096 up to {MAX_SEGMENT_BYTES}",
                self.segment_bytes
            ));
        }
        // In 64 bits, so that no value of the option can overflow.
        let needed = self.max_record_bytes as u64 + 64;
        if needed > self.segment_bytes
            || u64::from(HEADER_BLOCK_BYTES + encoded_bytes(entry_payload_bytes(self.max_record_bytes)))
                > self.segment_bytes
        {
            return refuse(format!(
                "an entry of max_record_bytes ({}) does not fit into a segment of {} bytes",
                self.max_record_bytes, self.segment_bytes
            ));
        }
        if self.batch_bytes == 0 {
            return refuse("batch_bytes must not be 0".to_string());
        }
        if self.queue_bytes <= self.max_record_bytes {
            return refuse(format!(
                "queue_bytes ({}) must exceed max_record_bytes ({})",
                self.queue_bytes, self.max_record_bytes
            ));
        }
        Ok(())
    }
}

/// What was found when the log was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// There was no log: an empty one was made.
    pub created: bool,
    /// Segments that were read.
    pub segments: usize,
    /// Whole records that were read, of all kinds.
    pub records: u64,
    /// Entries that the log holds now.
    pub entries: u64,
    /// What was cut off the end.
    pub torn: Option<Torn>,
    /// Segments deleted because a purge had been recorded but not finished.
    pub removed_segments: usize,
    /// How long it took.
    pub duration: Duration,
}

/// A write that a crash left incomplete, cut off and overwritten with zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// File name of the segment.
    pub segment: String,
    /// Byte offset of the cut.
    pub offset: u64,
    /// Bytes from the cut to the last one that was not zero.
    pub bytes: u64,
}

/// Figures of a running log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Segment files, without the one allocated ahead.
    pub segments: usize,
    /// Bytes that these files take on disk, allocated ones included.
    pub disk_bytes: u64,
    /// Entries that can be read.
    pub entries: u64,
    /// Entries made durable since the log was opened.
    pub appended_entries: u64,
    /// Batches made durable since the log was opened.
    pub batches: u64,
    /// Syncs of segment files since the log was opened.
    pub syncs: u64,
    /// How long the last sync took.
    pub last_sync: Duration,
    /// Bytes that wait for the writer or are being written.
    pub queued_bytes: usize,
    /// Payload bytes in the memory cache.
    pub cached_bytes: usize,
    /// For how long the writer has been waiting for room on the disk.
    pub stalled_for: Option<Duration>,
    /// The segment ahead could not be allocated: the disk is about to be full, though writes may still
    /// succeed. Also while the writer is stalled.
    pub no_room_ahead: bool,
    /// Why the log takes no more writes.
    pub failed: Option<String>,
}
