//! The only one who writes: takes a batch, puts it on disk, syncs, and then tells everybody who waited.
//!
//! Persist, then say so: no callback is called before the sync that covers its records has returned.
//! Written as steps that can be repeated: on a full disk the batch stays where it is, and the next step goes
//! on with the same bytes at the same place. Any other error ends the log's life.

mod upkeep;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::disk::{Disk, DiskFile};
use crate::error::{Failure, WriteError};
use crate::format::{
    HEADER_BLOCK_BYTES, Kind, LogState, NUMBER_MAX, SEGMENT_MAX, SegmentHeader, Slot, encode,
    encode_position, encoded_bytes, entry_payload_bytes, segment_seed,
};
use crate::options::{Options, SyncObserver};
use crate::recovery::{End, Segment};
use crate::segment::{activate, make_spare};
use crate::shared::Shared;
use crate::state::Batch;
use crate::types::{Location, Position, Record};

/// Encoded bytes that are written in one go; a batch may take several writes before its sync.
const WRITE_BYTES: usize = 4 << 20;
/// How often a stall on a full disk is written to the program's log.
const STALL_WARNING_EVERY: Duration = Duration::from_secs(10);
/// Why a log takes no more: see [`NUMBER_MAX`] and [`SEGMENT_MAX`].
pub(crate) const OUT_OF_NUMBERS: &str = "no number is left for the next segment, or for its first record";

/// What one step of the writer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driven {
    /// Nothing waited.
    Idle,
    /// A batch became durable and its callbacks were called.
    Worked,
    /// The disk is full; the batch is kept and tried again by the next step.
    Full,
    /// The log has failed; whoever waited was told.
    Failed,
}

/// The writer's own view of the log: what is on disk, and what of it is durable.
pub(crate) struct Writer {
    disk: Arc<dyn Disk>,
    segment_bytes: u32,
    batch_bytes: usize,
    log_id: u64,
    full_retry: Duration,
    on_sync: Option<SyncObserver>,
    /// The last one is written to.
    segments: VecDeque<Segment>,
    end: End,
    /// Up to where the active segment is known to be cleared.
    cleared: u32,
    /// As of the last record encoded.
    state: LogState,
    spare: Option<Arc<dyn DiskFile>>,
    spare_retry_at: Option<Instant>,
    /// Up to where the log is purged, durably.
    purged: Option<u64>,
    removal_pause: Duration,
    removed_at: Option<Instant>,
    /// Encoded records that belong at `end.written`.
    buffer: Vec<u8>,
    batch: Option<Progress>,
    syncs: u64,
    last_sync: Duration,
    stall_warned_at: Option<Instant>,
}

/// How far a batch has come.
struct Progress {
    batch: Batch,
    /// Records already encoded.
    encoded: usize,
    /// Index, ticket and place of the entries among them.
    placed: Vec<(u64, u64, Location)>,
}

impl Writer {
    /// Goes on where recovery ended.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        options: &Options,
        segments: VecDeque<Segment>,
        end: End,
        state: LogState,
    ) -> Writer {
        assert!(!segments.is_empty(), "recovery makes a segment if there is none");
        Writer {
            disk,
            segment_bytes: options.segment_size(),
            batch_bytes: options.batch_bytes,
            log_id: options.log_id,
            full_retry: options.full_retry,
            on_sync: options.on_sync.clone(),
            segments,
            end,
            cleared: 0,
            purged: state.purged.map(|position| position.index),
            state,
            spare: None,
            spare_retry_at: None,
            removal_pause: options.removal_pause(),
            removed_at: None,
            buffer: Vec::new(),
            batch: None,
            syncs: 0,
            last_sync: Duration::ZERO,
            stall_warned_at: None,
        }
    }

    fn active(&self) -> &Segment {
        &self.segments[self.segments.len() - 1]
    }

    /// Writes one batch if there is one. `all`: also a committed mark that nobody waits for.
    pub(crate) fn step(&mut self, shared: &Shared, all: bool) -> Driven {
        if shared.state.lock().failure().is_some() {
            return self.abandon(shared);
        }
        let Some(mut progress) = self.batch.take().or_else(|| self.take(shared, all)) else {
            return match self.remove_purged(shared) {
                Ok(()) => Driven::Idle,
                Err(error) => self.fail(shared, &error),
            };
        };
        match self.write(&mut progress) {
            Ok(()) => self.finish(shared, progress),
            Err(WriteError::Full(error)) => {
                self.batch = Some(progress);
                self.note_stall(shared, &error);
                // Whatever can be removed makes room.
                self.removed_at = None;
                match self.remove_purged(shared) {
                    Ok(()) => Driven::Full,
                    Err(error) => self.fail(shared, &error),
                }
            }
            Err(WriteError::Fatal(error)) => {
                self.batch = Some(progress);
                self.fail(shared, &error)
            }
        }
    }

    fn take(&self, shared: &Shared, all: bool) -> Option<Progress> {
        let batch = shared.state.lock().take_batch(self.batch_bytes, all)?;
        Some(Progress {
            batch,
            encoded: 0,
            placed: Vec::new(),
        })
    }

    /// Puts the whole batch on disk and syncs it. After `Full` it can be called again.
    fn write(&mut self, progress: &mut Progress) -> Result<(), WriteError> {
        while let Some(record) = progress.batch.records.get(progress.encoded) {
            let needed = self.buffer.len() as u32 + record_bytes(record);
            if needed > self.active().bytes - self.end.written {
                self.flush()?;
                self.roll()?;
            }
            let location = self.encode(record);
            if let Record::Entry { ticket, entry } = record {
                progress.placed.push((entry.position.index, *ticket, location));
            }
            progress.encoded += 1;
            if self.buffer.len() >= WRITE_BYTES {
                self.flush()?;
            }
        }
        self.flush()?;
        #[cfg(feature = "planted")]
        if quorate_planted::is("ack-before-sync")
            || (quorate_planted::is("vote-not-synced")
                && progress
                    .batch
                    .records
                    .iter()
                    .all(|record| matches!(record, Record::Vote(_))))
        {
            return Ok(());
        }
        if progress.encoded > 0 {
            self.sync()?;
        }
        Ok(())
    }

    /// Adds a record to the buffer and to the writer's view of the log.
    fn encode(&mut self, record: &Record) -> Location {
        let segment = self.active().number;
        let offset = self.end.written + self.buffer.len() as u32;
        let slot = Slot {
            seed: segment_seed(self.log_id, segment),
            offset,
            durable: self.end.durable,
            sequence: self.state.next_sequence,
        };
        let mut payload_bytes = 0;
        let buffer = &mut self.buffer;
        match record {
            Record::Entry { entry, .. } => {
                encode(
                    buffer,
                    slot,
                    Kind::Entry,
                    &[&encode_position(entry.position), &entry.payload],
                );
                payload_bytes = entry.payload.len() as u32;
                self.state.last = Some(entry.position);
                let active = self.segments.len() - 1;
                let max_index = &mut self.segments[active].max_index;
                *max_index = (*max_index).max(Some(entry.position.index));
            }
            Record::Vote(vote) => {
                encode(buffer, slot, Kind::Vote, &[vote]);
                self.state.vote = Some(vote.clone());
            }
            Record::Committed(committed) => {
                encode(buffer, slot, Kind::Committed, &[committed]);
                self.state.committed = Some(committed.clone());
            }
            Record::Truncate(last) => {
                let payload = last.map(encode_position);
                encode(
                    buffer,
                    slot,
                    Kind::Truncate,
                    &[payload.as_ref().map_or(&[], |bytes| &bytes[..])],
                );
                self.state.last = *last;
            }
            Record::Purge(upto) => {
                encode(buffer, slot, Kind::Purge, &[&encode_position(*upto)]);
                self.note_purge(*upto);
            }
        }
        self.state.next_sequence += 1;
        self.end.marked = false;
        Location {
            segment,
            offset,
            payload_bytes,
        }
    }

    fn note_purge(&mut self, upto: Position) {
        self.state.purged = Some(upto);
        if self.state.last.is_none_or(|last| last.index <= upto.index) {
            self.state.last = Some(upto);
        }
    }

    /// Writes the buffer. After an error it is still there, to be written to the same place.
    fn flush(&mut self) -> Result<(), WriteError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let offset = u64::from(self.end.written);
        self.active()
            .file
            .write_all_at(&self.buffer, offset)
            .map_err(WriteError::of_write)?;
        self.end.written += self.buffer.len() as u32;
        self.buffer.clear();
        self.buffer.shrink_to(WRITE_BYTES);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), WriteError> {
        assert!(self.buffer.is_empty(), "a sync covers everything encoded");
        if self.end.durable == self.end.written {
            return Ok(());
        }
        let started = Instant::now();
        self.active().file.sync_data().map_err(WriteError::of_sync)?;
        self.last_sync = started.elapsed();
        self.syncs += 1;
        self.end.durable = self.end.written;
        if let Some(observe) = &self.on_sync {
            observe(self.last_sync);
        }
        Ok(())
    }

    /// Ends the active segment and starts the next one.
    fn roll(&mut self) -> Result<(), WriteError> {
        self.sync()?;
        let spare = match &self.spare {
            Some(spare) => Arc::clone(spare),
            None => make_spare(self.disk.as_ref(), self.segment_bytes)?,
        };
        self.spare = Some(Arc::clone(&spare));
        if self.active().number >= SEGMENT_MAX || self.state.next_sequence > NUMBER_MAX {
            return Err(WriteError::Fatal(std::io::Error::other(OUT_OF_NUMBERS)));
        }
        let header = SegmentHeader {
            log_id: self.log_id,
            segment: self.active().number + 1,
            segment_bytes: self.segment_bytes,
            previous_end: self.end.written,
            state: self.state.clone(),
        };
        activate(self.disk.as_ref(), spare.as_ref(), &header)?;
        self.spare = None;
        let segment = Segment {
            number: header.segment,
            file: spare,
            bytes: self.segment_bytes,
            max_index: None,
        };
        self.segments.push_back(segment);
        self.end = End {
            written: HEADER_BLOCK_BYTES,
            durable: HEADER_BLOCK_BYTES,
            marked: false,
        };
        self.cleared = 0;
        Ok(())
    }

    /// The batch is durable: says so, in order, and then does what nobody waits for.
    fn finish(&mut self, shared: &Shared, progress: Progress) -> Driven {
        self.stall_warned_at = None;
        self.purged = self.state.purged.map(|position| position.index);
        {
            let mut state = shared.state.lock();
            for segment in &self.segments {
                state
                    .files
                    .entry(segment.number)
                    .or_insert_with(|| Arc::clone(&segment.file));
            }
            state.settle(&progress.placed, progress.batch.bytes);
            state.stalled_since = None;
            state.counters.batches += 1;
            state.counters.appended_entries += progress.placed.len() as u64;
            self.publish(&mut state.counters);
        }
        for done in progress.batch.dones {
            done(Ok(()));
        }
        match self.tidy(shared) {
            Ok(()) => Driven::Worked,
            Err(error) => self.fail(shared, &error),
        }
    }

    fn publish(&self, counters: &mut crate::state::Counters) {
        counters.segments = self.segments.len();
        counters.disk_bytes = self.segments.iter().map(|segment| u64::from(segment.bytes)).sum();
        counters.syncs = self.syncs;
        counters.last_sync = self.last_sync;
    }

    fn note_stall(&mut self, shared: &Shared, error: &std::io::Error) {
        let now = Instant::now();
        {
            let mut state = shared.state.lock();
            state.stalled_since.get_or_insert(now);
            state.counters.no_room_ahead = true;
        }
        if self
            .stall_warned_at
            .is_none_or(|at| now - at >= STALL_WARNING_EVERY)
        {
            self.stall_warned_at = Some(now);
            tracing::warn!(%error, "the disk is full: the log waits for room, nothing is acknowledged");
        }
    }

    /// The end of the log: nothing is retried, everybody is told.
    pub(crate) fn fail(&mut self, shared: &Shared, error: &std::io::Error) -> Driven {
        tracing::error!(%error, "the log failed and takes no more writes");
        shared.state.lock().fail(Failure::new(error));
        self.abandon(shared)
    }

    /// Tells everybody who waits that the log has failed, oldest first.
    pub(crate) fn abandon(&mut self, shared: &Shared) -> Driven {
        let batch = self
            .batch
            .take()
            .map(|progress| progress.batch)
            .unwrap_or_default();
        let mut dones = batch.dones;
        let failure = {
            let mut state = shared.state.lock();
            state.settle(&[], batch.bytes);
            dones.extend(state.abandon());
            state.failure().cloned()
        };
        let failure = failure.unwrap_or_else(|| Failure::text(std::io::ErrorKind::NotConnected, "closed"));
        for done in dones {
            done(Err(failure.to_io()));
        }
        Driven::Failed
    }
}

fn record_bytes(record: &Record) -> u32 {
    encoded_bytes(match record {
        Record::Entry { entry, .. } => entry_payload_bytes(entry.payload.len()),
        Record::Vote(bytes) | Record::Committed(bytes) => bytes.len() as u32,
        Record::Truncate(last) => last.map_or(0, |_| 16),
        Record::Purge(_) => 16,
    })
}
