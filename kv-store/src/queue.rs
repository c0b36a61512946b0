//! Writes that are applied but not yet in the engine.
//!
//! The log is the truth, so an entry counts as applied once the state and this queue have it; the
//! engine gets it a little later, in batches that are worth their price (a batch costs sled a write
//! to the disk, however small it is). Until then reads find the records here. One thread, see
//! `writer`, takes from the front, in order.
//!
//! Bounds: an applier waits while more than [`QUEUED_BYTES_MAX`] are queued; it is refused, with
//! nothing applied, if the disk is full by then or the engine has failed.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use kv_core::{Effects, FactChange, Record, Revision};
use parking_lot::{Condvar, Mutex, RwLock};

use crate::{AppliedPoint, error::Fault};

/// Bytes of records and facts beyond which an applier waits for the engine.
const QUEUED_BYTES_MAX: u64 = 8 << 20;
/// How long the writer waits for more before it writes what there is.
const LINGER: Duration = Duration::from_millis(30);
/// Writes and bytes that are worth a batch at once; also the bounds of a batch, unless a single
/// item is larger. sled answers no read while it takes a batch in.
const BATCH_WRITES: usize = 1024;
const BATCH_BYTES: u64 = 1 << 20;

/// Records in order of revision, shared with the readers.
pub type Records = Arc<[(Revision, Record)]>;

/// Something to be written as a whole.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) records: Records,
    pub(crate) facts: Vec<FactChange>,
    pub(crate) change: Change,
    bytes: u64,
}

/// How an item changes the meta record.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Entries were applied; the state after the last of them.
    Applied {
        point: AppliedPoint,
        revision: i64,
        compacted: i64,
    },
    /// Garbage is to be removed. `through`: with these, all garbage below that compacted revision is gone.
    Swept {
        dropped: Vec<Revision>,
        through: Option<i64>,
    },
}

impl Item {
    pub(crate) fn new(effects: Effects, change: Change) -> Item {
        let Effects { records, facts } = effects;
        let records_bytes: u64 = records.iter().map(|(_, record)| record_bytes(record)).sum();
        let facts_bytes: u64 = facts.iter().map(fact_bytes).sum();
        Item {
            records: records.into(),
            facts,
            change,
            bytes: records_bytes + facts_bytes,
        }
    }

    /// What it adds to a batch, as far as that is bounded by a number.
    fn writes(&self) -> usize {
        self.records.len() + self.facts.len()
    }
}

fn fact_bytes(change: &FactChange) -> u64 {
    let value_bytes = change.value.as_ref().map_or(0, bytes::Bytes::len);
    (change.key.len() + value_bytes + size_of::<FactChange>()) as u64
}

fn record_bytes(record: &Record) -> u64 {
    match record {
        Record::Put(kv) => (kv.key.len() + kv.value.len() + size_of::<Record>()) as u64,
        Record::Delete { key } => (key.len() + size_of::<Record>()) as u64,
    }
}

/// The queue between appliers and the writer.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// The records of all queued items that have any, oldest first.
    overlay: RwLock<VecDeque<Records>>,
    progress: Mutex<Progress>,
    /// Signals the writer.
    work: Condvar,
    /// Signals those who wait for the writer.
    done: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    items: VecDeque<Arc<Item>>,
    writes: usize,
    bytes: u64,
    /// Items ever pushed, and ever written.
    pushed: u64,
    written: u64,
    /// Items that somebody waits to see written.
    awaited: u64,
    /// When the writer stops waiting for more.
    due: Option<Instant>,
    closing: bool,
    /// The disk is full at present.
    no_space: Option<Fault>,
    /// The writer has given up.
    failed: Option<Fault>,
}

impl Progress {
    fn is_worth_a_batch(&self) -> bool {
        self.writes >= BATCH_WRITES || self.bytes >= BATCH_BYTES
    }
}

impl Queue {
    /// Waits until there is room for another item.
    ///
    /// # Errors
    /// If there is none and the disk is full, or if the writer has given up.
    pub(crate) fn admit(&self) -> Result<(), Fault> {
        let mut progress = self.progress.lock();
        loop {
            if let Some(fault) = &progress.failed {
                return Err(fault.clone());
            }
            if progress.bytes <= QUEUED_BYTES_MAX {
                return Ok(());
            }
            if let Some(fault) = &progress.no_space {
                return Err(fault.clone());
            }
            self.done.wait(&mut progress);
        }
    }

    /// Whether an applier may soon have to wait.
    pub(crate) fn is_filling(&self) -> bool {
        self.progress.lock().bytes > QUEUED_BYTES_MAX / 2
    }

    /// Whether an applier would have to wait.
    pub(crate) fn is_full(&self) -> bool {
        self.progress.lock().bytes > QUEUED_BYTES_MAX
    }

    /// Adds an item. Called with the state locked for writing, so that items and states keep step.
    pub(crate) fn push(&self, item: Item) {
        if !item.records.is_empty() {
            self.overlay.write().push_back(item.records.clone());
        }
        let mut progress = self.progress.lock();
        let was_empty = progress.items.is_empty();
        progress.writes += item.writes();
        progress.bytes += item.bytes;
        progress.pushed += 1;
        progress.items.push_back(Arc::new(item));
        let now = Instant::now();
        let due = *progress.due.get_or_insert(now + LINGER);
        if progress.is_worth_a_batch() {
            progress.due = Some(now);
        }
        // One wake-up when there is something, one when it need not wait for more.
        if was_empty || (due > now && progress.due == Some(now)) {
            self.work.notify_one();
        }
    }

    /// The record of a revision that is not in the engine yet.
    pub(crate) fn find(&self, at: Revision) -> Option<Record> {
        let overlay = self.overlay.read();
        let after = overlay.partition_point(|records| records[0].0 <= at);
        let records = &overlay[after.checked_sub(1)?];
        let place = records
            .binary_search_by_key(&at, |(revision, _)| *revision)
            .ok()?;
        Some(records[place].1.clone())
    }

    /// The records from a revision on that are not in the engine yet; all before the first of them are.
    pub(crate) fn from(&self, at: Revision) -> Vec<Records> {
        let overlay = self.overlay.read();
        let first = overlay.partition_point(|records| records.last().is_some_and(|(last, _)| *last < at));
        overlay.range(first..).cloned().collect()
    }

    /// Number of the last item pushed, for [`Queue::wait_written`].
    pub(crate) fn pushed(&self) -> u64 {
        self.progress.lock().pushed
    }

    /// Waits until that many items are in the engine.
    ///
    /// # Errors
    /// If the disk is full, or the writer has given up.
    pub(crate) fn wait_written(&self, items: u64) -> Result<(), Fault> {
        let mut progress = self.progress.lock();
        if progress.written < items {
            progress.awaited = progress.awaited.max(items);
            progress.due = Some(Instant::now());
            self.work.notify_one();
        }
        while progress.written < items {
            if let Some(fault) = progress.failed.as_ref().or(progress.no_space.as_ref()) {
                return Err(fault.clone());
            }
            self.done.wait(&mut progress);
        }
        Ok(())
    }

    /// Whether that many items are in the engine.
    pub(crate) fn has_written(&self, items: u64) -> bool {
        self.progress.lock().written >= items
    }

    /// Why the writer makes no progress, if it makes none.
    pub(crate) fn trouble(&self) -> Option<Fault> {
        let progress = self.progress.lock();
        progress.failed.clone().or_else(|| progress.no_space.clone())
    }

    /// The writer: waits for work, and returns the items of the next batch. They stay queued until
    /// [`Queue::batch_written`]. `None` once the queue is closed and empty.
    pub(crate) fn next_batch(&self) -> Option<Vec<Arc<Item>>> {
        let mut progress = self.progress.lock();
        loop {
            match progress.due {
                Some(due) if !progress.closing && due > Instant::now() => {
                    self.work.wait_until(&mut progress, due);
                }
                Some(_) => return Some(first_batch(&progress.items)),
                None if progress.closing => return None,
                None => self.work.wait(&mut progress),
            }
        }
    }

    /// The writer: the items of the next batch, if there are any, without waiting for more.
    pub(crate) fn ready_batch(&self) -> Option<Vec<Arc<Item>>> {
        let progress = self.progress.lock();
        (!progress.items.is_empty()).then(|| first_batch(&progress.items))
    }

    /// The writer: the first `count` items are in the engine.
    pub(crate) fn batch_written(&self, count: usize) {
        let mut progress = self.progress.lock();
        // Fewer than were taken if the queue was closed with `discard` meanwhile.
        let count = count.min(progress.items.len());
        let items: Vec<_> = progress.items.drain(..count).collect();
        for item in &items {
            progress.writes -= item.writes();
            progress.bytes -= item.bytes;
        }
        progress.written += count as u64;
        progress.no_space = None;
        let now = Instant::now();
        let hurry = progress.is_worth_a_batch() || progress.written < progress.awaited;
        progress.due = (!progress.items.is_empty()).then_some(if hurry { now } else { now + LINGER });
        drop(progress);
        let with_records = items.iter().filter(|item| !item.records.is_empty()).count();
        self.overlay.write().drain(..with_records);
        self.done.notify_all();
    }

    /// The writer: the disk is full. Waits for `retry`; false if the queue was closed meanwhile.
    pub(crate) fn wait_for_space(&self, fault: Fault, retry: Duration) -> bool {
        let mut progress = self.progress.lock();
        progress.no_space = Some(fault);
        self.done.notify_all();
        let deadline = Instant::now() + retry;
        while !progress.closing && !self.work.wait_until(&mut progress, deadline).timed_out() {}
        !progress.closing
    }

    /// The writer: it has given up.
    pub(crate) fn fail(&self, fault: Fault) {
        self.progress.lock().failed.get_or_insert(fault);
        self.done.notify_all();
    }

    /// No item comes any more; with `discard`, those that are queued need not be written either.
    pub(crate) fn close(&self, discard: bool) {
        let mut progress = self.progress.lock();
        progress.closing = true;
        if discard {
            progress.items.clear();
            progress.due = None;
        }
        self.work.notify_one();
    }
}

/// The items that go into one batch: at least one, and a sweep by itself, because it looks for its
/// records in the engine.
fn first_batch(items: &VecDeque<Arc<Item>>) -> Vec<Arc<Item>> {
    let (mut writes, mut bytes) = (0, 0);
    let mut batch: Vec<Arc<Item>> = Vec::new();
    for item in items {
        let sweep = matches!(item.change, Change::Swept { .. });
        writes += item.writes();
        bytes += item.bytes;
        let full = writes > BATCH_WRITES || bytes > BATCH_BYTES;
        if !batch.is_empty() && (full || sweep) {
            break;
        }
        batch.push(item.clone());
        if sweep {
            break;
        }
    }
    batch
}
