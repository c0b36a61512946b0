//! What callers and the writer share: the log as callers see it, and the queue.
//!
//! A request changes what callers see at once and joins the queue under the same lock, so the order of the
//! queue is the order of the changes. The writer takes batches from the front.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::cache::TailCache;
use crate::disk::DiskFile;
use crate::error::Failure;
use crate::index::{LogIndex, Place};
use crate::types::{Done, Location, Record};

/// What a record costs in the queue beyond its payload.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// A request in the queue.
struct Request {
    records: Vec<Record>,
    bytes: usize,
    /// `None` for a committed mark, which waits for the next request.
    done: Option<Done>,
}

/// What the writer makes durable with one sync.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) records: Vec<Record>,
    pub(crate) dones: Vec<Done>,
    pub(crate) bytes: usize,
}

/// Figures that the writer keeps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    pub(crate) segments: usize,
    pub(crate) disk_bytes: u64,
    pub(crate) appended_entries: u64,
    pub(crate) batches: u64,
    pub(crate) syncs: u64,
    pub(crate) last_sync: Duration,
    pub(crate) no_room_ahead: bool,
}

/// The log as callers see it.
pub(crate) struct State {
    pub(crate) index: LogIndex,
    pub(crate) cache: TailCache,
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<Bytes>,
    /// Open segments by number, for readers.
    pub(crate) files: BTreeMap<u32, Arc<dyn DiskFile>>,
    pub(crate) counters: Counters,
    pub(crate) closing: bool,
    pub(crate) stalled_since: Option<Instant>,
    failure: Option<Failure>,
    queue: VecDeque<Request>,
    queued_bytes: usize,
    /// Requests in the queue that somebody waits for.
    waiting: usize,
    next_ticket: u64,
}

impl State {
    /// With an empty queue.
    pub(crate) fn new(index: LogIndex, cache: TailCache) -> State {
        State {
            index,
            cache,
            vote: None,
            committed: None,
            files: BTreeMap::new(),
            counters: Counters::default(),
            closing: false,
            stalled_since: None,
            failure: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            waiting: 0,
            next_ticket: 1,
        }
    }

    /// Bytes in the queue and in the batch being written.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Why the log takes no more writes.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// From now on the log takes no more writes. The first cause stays.
    pub(crate) fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// Whether a request of this many payload bytes can be taken.
    pub(crate) fn admit(&self, bytes: usize, limit: usize) -> io::Result<()> {
        if let Some(failure) = &self.failure {
            return Err(failure.to_io());
        }
        if self.closing {
            return Err(closed());
        }
        if self.queued_bytes + bytes > limit {
            let text = format!(
                "the log's queue is full: {} of {limit} bytes wait",
                self.queued_bytes
            );
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, text));
        }
        Ok(())
    }

    /// A name for an entry that is not yet on disk.
    pub(crate) fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    /// Adds a request that was admitted.
    pub(crate) fn enqueue(&mut self, records: Vec<Record>, done: Option<Done>) {
        let bytes = records.iter().map(queue_cost).sum();
        if done.is_none() && self.queue.back().is_some_and(|back| back.done.is_none()) {
            // A newer committed mark takes the place of the one that still waits.
            let replaced = self.queue.pop_back();
            self.queued_bytes -= replaced.map_or(0, |request| request.bytes);
        }
        self.waiting += usize::from(done.is_some());
        self.queued_bytes += bytes;
        self.queue.push_back(Request { records, bytes, done });
    }

    /// Whether somebody waits for the writer.
    pub(crate) fn has_work(&self) -> bool {
        self.waiting > 0
    }

    /// The next batch: whole requests until `limit` bytes are reached. `all`: also when only a committed
    /// mark waits.
    pub(crate) fn take_batch(&mut self, limit: usize, all: bool) -> Option<Batch> {
        if self.waiting == 0 && (self.queue.is_empty() || !all) {
            return None;
        }
        let mut batch = Batch::default();
        let mut committed = None;
        while batch.bytes < limit
            && let Some(request) = self.queue.pop_front()
        {
            self.waiting -= usize::from(request.done.is_some());
            batch.bytes += request.bytes;
            batch.dones.extend(request.done);
            for record in request.records {
                match record {
                    // Only the newest counts. It goes last: all that it may speak of stands before it.
                    Record::Committed(_) => committed = Some(record),
                    record => batch.records.push(record),
                }
            }
        }
        batch.records.extend(committed);
        Some(batch)
    }

    /// A batch is durable: its entries can be read from disk, and its bytes no longer wait.
    pub(crate) fn settle(&mut self, placed: &[(u64, u64, Location)], bytes: usize) {
        for (index, ticket, location) in placed {
            self.index.settle(*index, *ticket, *location);
        }
        self.queued_bytes -= bytes;
        self.evict();
    }

    /// Brings the cache back under its limit.
    pub(crate) fn evict(&mut self) {
        let index = &self.index;
        self.cache
            .evict(|at| matches!(index.place(at), Some(Place::At(_))));
    }

    /// Empties the queue and returns everybody who waited in it, in order.
    pub(crate) fn abandon(&mut self) -> Vec<Done> {
        self.waiting = 0;
        let mut dones = Vec::new();
        for request in self.queue.drain(..) {
            self.queued_bytes -= request.bytes;
            dones.extend(request.done);
        }
        dones
    }
}

/// The error of everything after `close`.
pub(crate) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the log is closed")
}

fn queue_cost(record: &Record) -> usize {
    RECORD_OVERHEAD_BYTES
        + match record {
            Record::Entry { entry, .. } => entry.payload.len(),
            Record::Vote(bytes) | Record::Committed(bytes) => bytes.len(),
            Record::Truncate(_) | Record::Purge(_) => 0,
        }
}
