//! Taking in a snapshot: into a generation of its own, checked, then switched to.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use kv_core::{Revision, State};

use crate::{
    AppliedPoint, SnapshotHeader, Store,
    block::Builder,
    codec::{self, Damage, Key, take_bytes, take_i64, take_varint},
    engine::{Batch, Engine},
    error::{Fault, SnapshotError},
    home::Generation,
    live::Live,
    load::{LoadError, load},
    meta::{FactTally, Meta, Tally},
    snapshot::{FACTS, FORMAT, Progress, RECORDS, TRAILER, unseal_chunk},
};

/// Bytes that are written to the new generation at once: few, because requests wait where all processors are busy.
const BATCH_BYTES: u64 = 64 << 10;

impl From<Damage> for SnapshotError {
    fn from(damage: Damage) -> Self {
        SnapshotError::Damaged(damage.to_string())
    }
}

/// A snapshot that is coming in. Dropped before its end, it leaves nothing behind.
pub struct Install {
    header: SnapshotHeader,
    cluster_id: Option<u64>,
    hasher: blake3::Hasher,
    number: u64,
    last: Revision,
    tally: Tally,
    facts: FactTally,
    builder: Builder,
    batch: Batch,
    ended: bool,
    engine: Arc<dyn Engine>,
    /// Last, see `Live`.
    generation: Generation,
}

/// A snapshot that is complete, checked, and durable, and not live yet. Dropped, it leaves nothing behind.
pub struct PreparedSnapshot {
    header: SnapshotHeader,
    state: State,
    meta: Meta,
    engine: Arc<dyn Engine>,
    generation: Generation,
}

impl PreparedSnapshot {
    /// What the snapshot is of.
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }
}

impl Store {
    /// Begins to take in a snapshot. The store goes on as it is.
    ///
    /// # Errors
    /// [`SnapshotError`] if it cannot be for this store.
    pub fn begin_install(&self, header: SnapshotHeader) -> Result<Install, SnapshotError> {
        if header.format != FORMAT {
            return Err(SnapshotError::Format {
                found: header.format,
                known: FORMAT,
            });
        }
        if let (Some(found), Some(expected)) = (header.cluster_id, self.live().cluster_id)
            && found != expected
        {
            return Err(SnapshotError::OtherCluster { found, expected });
        }
        self.check_not_stale(&header)?;
        let cluster_id = header.cluster_id.or(self.live().cluster_id);
        let (engine, generation) = self.inner.home.create_next()?;
        Ok(Install {
            hasher: header.hasher(),
            header,
            cluster_id,
            number: 0,
            last: Revision::default(),
            tally: Tally::default(),
            facts: FactTally::default(),
            builder: Builder::default(),
            batch: Batch::default(),
            ended: false,
            engine,
            generation,
        })
    }

    /// Begins to take in the backup of another cluster, as what this one begins with: `point` takes the place of
    /// the last entry that was applied there. The store goes on as it is.
    ///
    /// # Errors
    /// [`SnapshotError`] if it is of another format, or anything was applied to this store.
    pub fn begin_restore(
        &self,
        backup: SnapshotHeader,
        point: AppliedPoint,
    ) -> Result<Install, SnapshotError> {
        let hasher = backup.hasher();
        let install = self.begin_install(SnapshotHeader {
            cluster_id: self.live().cluster_id,
            index: point.index,
            raft: point.raft,
            ..backup
        })?;
        Ok(Install { hasher, ..install })
    }

    fn check_not_stale(&self, header: &SnapshotHeader) -> Result<(), SnapshotError> {
        let applied = self.live().applied_index();
        if header.index < applied {
            return Err(SnapshotError::Stale {
                snapshot: header.index,
                applied,
            });
        }
        Ok(())
    }

    /// Makes a snapshot the store's content. Readers see the old state or the new one; views of the old one
    /// stay whole until they are dropped. No one may apply meanwhile.
    ///
    /// # Errors
    /// [`SnapshotError::Stale`] if the store is past it by now; [`SnapshotError::Fault`].
    ///
    /// # Panics
    /// If another thread applies.
    pub fn install(&self, prepared: PreparedSnapshot) -> Result<(), SnapshotError> {
        let applier = self.inner.applier.try_lock();
        assert!(
            applier.is_some(),
            "entries are applied while a snapshot is installed"
        );
        self.check_not_stale(&prepared.header)?;
        let PreparedSnapshot {
            header,
            state,
            meta,
            engine,
            generation,
        } = prepared;
        self.inner.home.switch(&generation, header.index)?;
        let live = Live::start(engine, generation, state, meta, &self.inner.options)?;
        let old = std::mem::replace(&mut *self.inner.live.write(), Arc::new(live));
        self.inner.durable.fetch_max(header.index, Ordering::AcqRel);
        old.generation.abandon();
        tracing::info!(
            index = header.index,
            revision = header.revision,
            "snapshot installed"
        );
        Ok(())
    }
}

impl Install {
    /// What the snapshot is of.
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// How much of it has been taken in.
    pub fn progress(&self) -> Progress {
        Progress {
            chunks: self.number,
            hash: self.hasher.finalize().into(),
        }
    }

    /// Takes in the next chunk.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] if it is not what was sent, or not the next one. After an error the install must be
    /// dropped.
    pub fn push(&mut self, chunk: &Bytes) -> Result<(), SnapshotError> {
        if self.ended {
            return Err(Damage("it goes on after its end").into());
        }
        let (kind, number, payload) = unseal_chunk(chunk)?;
        if number != self.number {
            let reason = format!("chunk {number} came where chunk {} was due", self.number);
            return Err(SnapshotError::Damaged(reason));
        }
        self.number += 1;
        match kind {
            FACTS => {
                self.hasher.update(chunk);
                self.take_facts(&payload)
            }
            RECORDS => {
                self.hasher.update(chunk);
                self.take_records(&payload)
            }
            TRAILER => self.take_trailer(&payload),
            _ => Err(Damage("a chunk of an unknown kind").into()),
        }
    }

    /// Their meaning and order are checked when all is read again.
    fn take_facts(&mut self, mut payload: &[u8]) -> Result<(), SnapshotError> {
        while !payload.is_empty() {
            let length = take_varint(&mut payload)?;
            let key = take_bytes(&mut payload, length)?;
            let length = take_varint(&mut payload)?;
            let value = take_bytes(&mut payload, length)?;
            self.facts.add(key, value);
            let stored = Key::Fact(key).to_bytes();
            let sealed = codec::seal(&stored, value);
            self.batch.put(stored, sealed);
        }
        self.write_if_due()
    }

    fn take_records(&mut self, mut payload: &[u8]) -> Result<(), SnapshotError> {
        while !payload.is_empty() {
            let at = Revision {
                main: take_i64(&mut payload)?,
                sub: take_i64(&mut payload)?,
            };
            let length = take_varint(&mut payload)?;
            let encoded = take_bytes(&mut payload, length)?;
            if at <= self.last || at.main > self.header.revision {
                return Err(Damage("a record out of order").into());
            }
            self.last = at;
            self.tally.add(at);
            if let Some((key, value)) = self.builder.push_encoded(at, encoded) {
                self.batch.put(key, value);
            }
        }
        self.write_if_due()
    }

    fn take_trailer(&mut self, mut payload: &[u8]) -> Result<(), SnapshotError> {
        let (facts, records) = (take_varint(&mut payload)?, take_varint(&mut payload)?);
        if (facts, records) != (self.facts.facts, self.tally.records) {
            let (facts_came, records_came) = (self.facts.facts, self.tally.records);
            let reason =
                format!("{facts_came} of {facts} facts and {records_came} of {records} records came");
            return Err(SnapshotError::Damaged(reason));
        }
        if payload != self.hasher.finalize().as_bytes() {
            return Err(Damage("its hash does not match").into());
        }
        self.ended = true;
        Ok(())
    }

    fn write_if_due(&mut self) -> Result<(), SnapshotError> {
        if self.batch.bytes() >= BATCH_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), SnapshotError> {
        Ok(self.engine.batch(&std::mem::take(&mut self.batch))?)
    }

    /// Ends it: writes the rest, makes all of it durable, and reads it again as a store that opens would.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] if not all of it has come.
    pub fn finish(mut self) -> Result<PreparedSnapshot, SnapshotError> {
        if !self.ended {
            return Err(Damage("its end is missing").into());
        }
        if let Some((key, value)) = self.builder.finish() {
            self.batch.put(key, value);
        }
        let SnapshotHeader {
            index,
            raft,
            revision,
            compacted,
            ..
        } = self.header.clone();
        let meta = Meta {
            applied: Some(AppliedPoint { index, raft }),
            revision,
            compacted,
            tally: self.tally,
            facts: self.facts,
            ..Meta::empty(self.cluster_id)
        };
        self.batch.put(Key::Meta.to_bytes(), meta.encode());
        self.write()?;
        self.engine.sync()?;
        let (state, meta, _) = load(&*self.engine, index).map_err(|error| match error {
            LoadError::Engine(error) => SnapshotError::Fault(Fault::from(error)),
            LoadError::Damaged(reason) => SnapshotError::Damaged(reason),
        })?;
        let Install {
            header,
            engine,
            generation,
            ..
        } = self;
        Ok(PreparedSnapshot {
            header,
            state,
            meta,
            engine,
            generation,
        })
    }
}
