//! An ordered map of bytes that survives a crash: what the store asks of the thing below it.
//!
//! An engine knows nothing of keys, revisions or Raft. It promises that a [`Batch`] is seen and
//! recovered whole or not at all, that a scan is in key order, and that what was written before a
//! successful [`Engine::sync`] is still there after a power cut. It leaves to its caller: one
//! writer at a time, checksums over values, and what to do about damage.
//!
//! [`MemEngine`] is the twin that tests and simulations run on; one golden suite holds for both.

mod guard;
mod mem;
mod sled_engine;

use std::ops::Bound;

use bytes::Bytes;

pub use mem::MemEngine;
pub use sled_engine::{SledEngine, SledOptions};

/// What can go wrong in an engine.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The file system is (nearly) full. Nothing of the batch was written: it can be tried again
    /// once there is room.
    #[error("no space left on the disk: {free_bytes} bytes free, {needed_bytes} needed")]
    NoSpace {
        /// Bytes that were free for this process.
        free_bytes: u64,
        /// Bytes that must be free before anything is written, the reserve included.
        needed_bytes: u64,
    },
    /// Another process (or an engine of this one that still closes) has the directory open.
    #[error("in use by another process: {0}")]
    Locked(String),
    /// The process may not read or write the files.
    #[error("not writable: {0}")]
    NotWritable(String),
    /// What is on disk is not what was written.
    #[error("damaged: {0}")]
    Corrupt(String),
    /// The operating system reported an error; after it nothing can be assumed about the files, so
    /// the engine must be opened again.
    #[error("input/output error: {0}")]
    Io(String),
    /// The file system became full in the middle of the engine's own work, and has room again: the engine takes no
    /// more writes until it is opened again, and then goes on from what it holds.
    #[error("the disk had become full while it was written to: {0}")]
    SpaceRanOut(String),
    /// The engine failed before and takes no more work until it is opened again.
    #[error("stopped by an earlier failure: {0}")]
    Stopped(String),
}

/// Writes that take effect together.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    writes: Vec<(Bytes, Option<Bytes>)>,
    bytes: u64,
}

impl Batch {
    /// Sets `key` to `value`. Of two writes to one key in a batch the later one counts.
    pub fn put(&mut self, key: Bytes, value: Bytes) {
        self.bytes += (key.len() + value.len()) as u64;
        self.writes.push((key, Some(value)));
    }

    /// Removes `key`; a key that is not there is no error.
    pub fn delete(&mut self, key: Bytes) {
        self.bytes += key.len() as u64;
        self.writes.push((key, None));
    }

    /// Bytes of keys and values in it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it writes, in order; `None` removes.
    pub(crate) fn into_writes(self) -> Vec<(Bytes, Option<Bytes>)> {
        self.writes
    }

    /// Number of writes in it.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// True if it writes nothing.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// A range of raw keys.
pub type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Pairs in key order. It is not a view of one moment: a batch written meanwhile may or may not show.
pub type Scan<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), EngineError>> + Send + 'a>;

/// True for a range that can hold nothing; both `BTreeMap` and sled panic on
/// bounds that are the wrong way round.
fn is_empty(range: &KeyRange<'_>) -> bool {
    match range {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to))
        | (Bound::Excluded(from), Bound::Included(to)) => from >= to,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

/// An ordered map of bytes with atomic batches.
pub trait Engine: Send + Sync + 'static {
    /// The value of a key.
    ///
    /// # Errors
    /// [`EngineError`] if it cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// The pairs of a range in key order. Ends at its first error.
    fn scan(&self, range: KeyRange<'_>) -> Scan<'_>;

    /// The last pair of a range.
    ///
    /// # Errors
    /// [`EngineError`] if it cannot be read.
    fn last(&self, range: KeyRange<'_>) -> Result<Option<(Bytes, Bytes)>, EngineError>;

    /// Makes all writes of a batch visible, and recoverable together.
    ///
    /// # Errors
    /// [`EngineError::NoSpace`] leaves everything as it was; after any other error the engine must
    /// be opened again.
    fn batch(&self, batch: &Batch) -> Result<(), EngineError>;

    /// Returns once everything written before the call survives a power cut.
    ///
    /// # Errors
    /// [`EngineError`]; nothing is promised about what was written since the last success.
    fn sync(&self) -> Result<(), EngineError>;

    /// Bytes it takes on disk.
    ///
    /// # Errors
    /// [`EngineError`] if the files cannot be looked at.
    fn size_bytes(&self) -> Result<u64, EngineError>;
}
