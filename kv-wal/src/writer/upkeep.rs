//! What the writer does after a batch, when nobody waits for it: deletes purged segments, allocates and clears ahead,
//! and leaves the mark that proves the batch durable.

use std::time::Instant;

use super::Writer;
use crate::error::WriteError;
use crate::format::{HEADER_BLOCK_BYTES, Kind, Slot, encode, encoded_bytes, segment_seed};
use crate::recovery::{is_oldest_purged, remove_oldest};
use crate::segment::make_spare;
use crate::shared::Shared;

/// How much of a segment is cleared at once: a write that the next sync has to wait for, so not too much.
const CLEAR_BYTES: u32 = 256 << 10;

impl Writer {
    /// After a batch: delete what was purged, allocate and clear ahead, leave a durable mark.
    pub(super) fn tidy(&mut self, shared: &Shared) -> std::io::Result<()> {
        self.remove_purged(shared)?;
        self.allocate_ahead(shared)?;
        self.clear_ahead();
        if shared.state.lock().has_work() {
            return Ok(());
        }
        self.mark()
    }

    /// Deletes segments of which everything is purged, with a pause between them: the file system takes milliseconds for
    /// each, and a batch that comes meanwhile waits.
    pub(super) fn remove_purged(&mut self, shared: &Shared) -> std::io::Result<()> {
        while self.removal_due().is_some_and(|at| at <= Instant::now()) {
            let number = remove_oldest(self.disk.as_ref(), &mut self.segments)?;
            self.removed_at = Some(Instant::now());
            let mut state = shared.state.lock();
            state.files.remove(&number);
            self.publish(&mut state.counters);
        }
        Ok(())
    }

    /// When the next segment is to be deleted, if one is.
    pub(crate) fn removal_due(&self) -> Option<Instant> {
        let due = || {
            self.removed_at
                .map_or_else(Instant::now, |at| at + self.removal_pause)
        };
        is_oldest_purged(&self.segments, self.purged).then(due)
    }

    /// Allocates the next segment once the active one is half full, so that a full disk is met here and
    /// not in the middle of a batch.
    fn allocate_ahead(&mut self, shared: &Shared) -> std::io::Result<()> {
        let early = self.end.written < self.active().bytes / 2;
        if !early && self.spare.is_none() {
            if self.spare_retry_at.is_some_and(|at| Instant::now() < at) {
                return Ok(());
            }
            match make_spare(self.disk.as_ref(), self.segment_bytes) {
                Ok(spare) => self.spare = Some(spare),
                Err(WriteError::Full(error)) => {
                    self.spare_retry_at = Some(Instant::now() + self.full_retry);
                    let known = std::mem::replace(&mut shared.state.lock().counters.no_room_ahead, true);
                    if !known {
                        tracing::warn!(%error, "no room for the next segment of the log");
                    }
                    return Ok(());
                }
                Err(WriteError::Fatal(error)) => return Err(error),
            }
        }
        self.spare_retry_at = None;
        shared.state.lock().counters.no_room_ahead = false;
        Ok(())
    }

    /// Clears the next stretch of the active segment, once the last one is half used up. An error is of no
    /// consequence: a record that is written there meets it again.
    fn clear_ahead(&mut self) {
        let (written, bytes) = (self.end.written, self.active().bytes);
        let from = self.cleared.max(written);
        if from < bytes && from - written < CLEAR_BYTES / 2 {
            self.cleared = from.saturating_add(CLEAR_BYTES).min(bytes);
            let range = u64::from(from)..u64::from(self.cleared);
            if let Err(error) = self.active().file.clear(range) {
                tracing::debug!(%error, "the log's segment cannot be cleared ahead");
            }
        }
    }

    /// Leaves a record behind the last batch that says it is durable. Not synced: it costs nothing, and a
    /// crash that loses it loses only the proof.
    pub(crate) fn mark(&mut self) -> std::io::Result<()> {
        let room = self.active().bytes - self.end.written;
        let nothing_to_prove = self.end.marked || self.end.written == HEADER_BLOCK_BYTES;
        if nothing_to_prove || self.end.durable < self.end.written || room < encoded_bytes(0) {
            return Ok(());
        }
        let slot = Slot {
            seed: segment_seed(self.log_id, self.active().number),
            offset: self.end.written,
            durable: self.end.durable,
            sequence: self.state.next_sequence,
        };
        let mut record = Vec::with_capacity(encoded_bytes(0) as usize);
        encode(&mut record, slot, Kind::Durable, &[]);
        match self
            .active()
            .file
            .write_all_at(&record, u64::from(self.end.written))
            .map_err(WriteError::of_write)
        {
            Ok(()) => {
                self.end.written += record.len() as u32;
                self.end.marked = true;
                self.state.next_sequence += 1;
                Ok(())
            }
            // The next record is no shorter and overwrites whatever got there.
            Err(WriteError::Full(_)) => Ok(()),
            Err(WriteError::Fatal(error)) => Err(error),
        }
    }

    /// The last act: a mark that is synced.
    pub(crate) fn seal(&mut self) -> std::io::Result<()> {
        self.mark()?;
        self.sync().map_err(|error| match error {
            WriteError::Full(error) | WriteError::Fatal(error) => error,
        })
    }
}
