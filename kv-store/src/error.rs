//! What can go wrong above the engine, by operation.

use std::path::PathBuf;

use crate::{codec::Damage, engine::EngineError};

/// A failure of this node, never an answer to a client.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    /// The disk is (nearly) full. Nothing of the call took effect; it can be made again, and succeeds once
    /// there is room. Reads go on.
    #[error("no space left on the disk: {free_bytes} bytes free, {needed_bytes} needed")]
    NoSpace {
        /// Bytes that were free.
        free_bytes: u64,
        /// Bytes that must be free, the reserve included.
        needed_bytes: u64,
    },
    /// What is stored is not what was written. The store must be closed, set aside with
    /// [`crate::Store::set_aside`], and rebuilt from the log or a peer.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The engine failed. The store must be closed and opened again; the log has what is missing then.
    #[error("the storage engine failed: {0}")]
    Engine(EngineError),
}

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::NoSpace {
                free_bytes,
                needed_bytes,
            } => Fault::NoSpace {
                free_bytes,
                needed_bytes,
            },
            EngineError::Corrupt(what) => Fault::Damaged(what),
            other => Fault::Engine(other),
        }
    }
}

impl From<Damage> for Fault {
    fn from(damage: Damage) -> Self {
        Fault::Damaged(damage.to_string())
    }
}

/// Why a read has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The data model refuses it; the same on every node.
    #[error(transparent)]
    Refused(#[from] kv_core::Error),
    /// This node cannot answer.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// Compactions overtook a long read again and again. It can be tried again.
    #[error("compactions overtook the read {tries} times: try again")]
    Overtaken {
        /// How often it was tried.
        tries: u32,
    },
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another process: stop that process, or choose another data directory", dir.display())]
    Locked {
        /// The directory of the store.
        dir: PathBuf,
    },
    /// A later version wrote it.
    #[error(
        "{} was written by a newer version (store format {found}, this one knows {known}): use that version, \
         or start with an empty data directory and let the cluster fill it",
        dir.display()
    )]
    NewerVersion {
        /// The directory of the store.
        dir: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format that this version reads.
        known: u32,
    },
    /// The process may not write there.
    #[error("{} is not writable ({reason}): give this user the right to write there", dir.display())]
    NotWritable {
        /// The directory of the store.
        dir: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// It belongs to another cluster.
    #[error(
        "{} belongs to cluster {found:016x}, not to {expected:016x}: choose another data directory",
        dir.display()
    )]
    OtherCluster {
        /// The directory of the store.
        dir: PathBuf,
        /// The cluster it belongs to.
        found: u64,
        /// The cluster of this node.
        expected: u64,
    },
    /// What is stored is not what was written, or not all of it. Set it aside and rebuild.
    #[error("{} is damaged ({reason}): it must be set aside and rebuilt from the log or a peer", dir.display())]
    Damaged {
        /// The directory of the store.
        dir: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The disk is full.
    #[error("no space left for {} ({free_bytes} bytes free): make room and start again", dir.display())]
    NoSpace {
        /// The directory of the store.
        dir: PathBuf,
        /// Bytes that were free.
        free_bytes: u64,
    },
    /// The operating system reported an error that says nothing about the data.
    #[error("cannot open {}: {reason}", dir.display())]
    Io {
        /// The directory of the store.
        dir: PathBuf,
        /// What the system said.
        reason: String,
    },
}

/// Why a snapshot was not taken in. The store is as it was before.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SnapshotError {
    /// What came is not what was sent: flipped, cut off, out of order, too much. Ask for it again.
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
    /// It is of a format that this version does not know.
    #[error("the snapshot has format {found}, this version knows {known}")]
    Format {
        /// Its format.
        found: u32,
        /// The format of this version.
        known: u32,
    },
    /// It belongs to another cluster.
    #[error("the snapshot is of cluster {found:016x}, this store of {expected:016x}")]
    OtherCluster {
        /// The cluster it belongs to.
        found: u64,
        /// The cluster of this store.
        expected: u64,
    },
    /// The store has applied more than it holds.
    #[error("the snapshot ends at log index {snapshot}, but {applied} is applied already")]
    Stale {
        /// The last index in the snapshot.
        snapshot: u64,
        /// The last index applied.
        applied: u64,
    },
    /// This node failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<EngineError> for SnapshotError {
    fn from(error: EngineError) -> Self {
        SnapshotError::Fault(error.into())
    }
}
