//! Reading what was written, in the order in which it was: for whoever follows the store and fell behind.

use std::ops::{Bound, Range};

use kv_core::{KeyValue, Record, Revision};

use crate::{
    Store, block::Block, codec::Key, error::Fault, live::Live, queue::Records, record::View,
    writer::find_block,
};

/// How much one call of [`Store::history`] reads. It goes beyond to the end of a revision: that is read as a
/// whole or not at all.
#[derive(Debug, Clone, Copy)]
pub struct HistoryLimits {
    /// Bytes of keys and values that are given back.
    pub bytes_max: usize,
    /// Records that are looked at.
    pub records_max: usize,
}

/// A stretch of what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The wanted records, in order of revision.
    pub records: Vec<(Revision, Record)>,
    /// All of them up to and including this revision. One less than the first revision asked for where there
    /// is nothing more yet.
    pub through: i64,
}

/// Why history cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HistoryError {
    /// What is asked for may be gone.
    #[error("compacted up to revision {0}")]
    Compacted(
        /// The oldest revision that can be read.
        i64,
    ),
    /// This node cannot read it.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Store {
    /// The records from a revision on whose keys are wanted, oldest first, until a limit is reached.
    ///
    /// # Errors
    /// [`HistoryError::Compacted`] if `from` is below the compacted revision, or was before the reading ended.
    pub fn history(
        &self,
        from: i64,
        wanted: impl Fn(&[u8]) -> bool,
        limits: HistoryLimits,
    ) -> Result<History, HistoryError> {
        let live = self.live();
        let current = self.readable(&live, from)?;
        let mut reading = Reading {
            records: Vec::new(),
            through: None,
            looked_at: 0,
            bytes: 0,
            last: 0,
            limits,
        };
        // In this order: a record leaves the queue only after the engine has it.
        let queued = live.queue.from(first_of(from));
        let (start, end) = (first_of(from), first_of(current.saturating_add(1)));
        let engine_end = queued.first().map_or(end, |records| records[0].0.min(end));
        reading.engine(&live, start..engine_end, &wanted)?;
        reading.queued(&queued, start..end, &wanted);
        // What a sweep took away meanwhile was below the compacted revision of now.
        self.readable(&live, from)?;
        Ok(History {
            records: reading.records,
            through: reading.through.unwrap_or(current.max(from - 1)),
        })
    }

    /// The current revision, if nothing from `from` on is compacted.
    fn readable(&self, live: &Live, from: i64) -> Result<i64, HistoryError> {
        let core = live.core.read();
        let compacted = core.state.compacted();
        if from < compacted {
            return Err(HistoryError::Compacted(compacted));
        }
        Ok(core.state.revision())
    }

    /// What each key held before the revision named with it; `None` where it did not exist, or where that is
    /// compacted.
    ///
    /// # Errors
    /// [`Fault`] if a value cannot be read.
    pub fn previous<'a>(
        &self,
        writes: impl IntoIterator<Item = (&'a [u8], i64)>,
    ) -> Result<Vec<Option<KeyValue>>, Fault> {
        let live = self.live();
        let places: Vec<Option<Revision>> = {
            let core = live.core.read();
            let place = |(key, main): (&[u8], i64)| {
                let readable = main > core.state.compacted();
                readable
                    .then(|| core.state.previous(key, first_of(main)))
                    .flatten()
            };
            writes.into_iter().map(place).collect()
        };
        let value = |place: Option<Revision>| place.map_or(Ok(None), |at| live.value(at));
        places.into_iter().map(value).collect()
    }
}

/// The first write of a revision.
fn first_of(main: i64) -> Revision {
    Revision {
        main: main.max(0),
        sub: 0,
    }
}

/// A stretch while it is being read.
struct Reading {
    records: Vec<(Revision, Record)>,
    /// Where a limit ended it.
    through: Option<i64>,
    looked_at: usize,
    bytes: usize,
    /// The revision of the last record looked at.
    last: i64,
    limits: HistoryLimits,
}

impl Reading {
    /// Whether the record at `at` is to be looked at; ends the reading at a limit.
    fn admit(&mut self, at: Revision) -> bool {
        let full = self.looked_at >= self.limits.records_max || self.bytes >= self.limits.bytes_max;
        if at.main != self.last && full {
            self.through.get_or_insert(at.main - 1);
        }
        self.last = at.main;
        self.looked_at += 1;
        self.through.is_none()
    }

    fn take(&mut self, at: Revision, record: Record) {
        self.bytes += match &record {
            Record::Put(kv) => kv.key.len() + kv.value.len(),
            Record::Delete { key } => key.len(),
        };
        self.records.push((at, record));
    }

    fn engine(
        &mut self,
        live: &Live,
        within: Range<Revision>,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<(), Fault> {
        let first = find_block(&*live.engine, within.start)?;
        let first = first
            .map_or(Key::Block(within.start), |block| block.key())
            .to_bytes();
        let end = Key::Block(within.end).to_bytes();
        let range = (Bound::Included(&first[..]), Bound::Excluded(&end[..]));
        for pair in live.engine.scan(range) {
            let (key, value) = pair?;
            for entry in Block::decode(&key, &value)?.records() {
                let (at, encoded) = entry?;
                if !within.contains(&at) {
                    continue;
                }
                if !self.admit(at) {
                    return Ok(());
                }
                let view = View::decode(encoded)?;
                if wanted(view.key()) {
                    self.take(at, view.to_record(at));
                }
            }
        }
        Ok(())
    }

    fn queued(&mut self, queued: &[Records], within: Range<Revision>, wanted: impl Fn(&[u8]) -> bool) {
        for (at, record) in queued.iter().flat_map(|records| records.iter()) {
            if !within.contains(at) {
                continue;
            }
            if !self.admit(*at) {
                return;
            }
            if wanted(record.key()) {
                self.take(*at, record.clone());
            }
        }
    }
}
