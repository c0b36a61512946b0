//! Who this node is: made at the first start, kept in `<data-dir>/identity.json`, never used again
//! after the directory is wiped.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{bootstrap::agree::Ballot, raft::types::Member};

/// The version of the data directory's layout that this release writes, and the newest it reads.
const FORMAT: u32 = 1;
/// The file of the identity, in the data directory.
const FILE: &str = "identity.json";

/// The contents of `identity.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    format: u32,
    /// This node's id in Raft.
    pub node_id: u64,
    /// Whether this node has had a log: one that is missing later is not replaced by an empty one.
    #[serde(default)]
    pub log_created: bool,
    /// What it is known by as the owner of a place that a client made for it, see [`Member::claim`]; else 0.
    #[serde(default)]
    pub claim: u64,
    /// The hash of the backup that its cluster is made of, if it is.
    #[serde(default)]
    pub restored: Option<String>,
    /// Whether it was removed from its cluster: it never starts again.
    #[serde(default)]
    pub removed: bool,
    /// Whether it left its cluster of its own accord: the directory may be emptied for a new member.
    #[serde(default)]
    pub left: bool,
    /// Whether it asks to be let in, and has not heard yet that it was: until then an admission may be lost, and a cluster
    /// that does not know this node has not removed it.
    #[serde(default)]
    pub joining: bool,
    /// The cluster this node belongs to, once that is settled.
    pub cluster_id: Option<u64>,
    /// The founding of a cluster that this node agrees to.
    pub ballot: Option<Ballot>,
    /// The lowest author of a ballot it has ever agreed to, see [`crate::bootstrap::agree`].
    #[serde(default)]
    pub floor: Option<u64>,
    /// The members as last seen: whom to ask when the store must be rebuilt.
    #[serde(default)]
    pub members: BTreeMap<u64, Member>,
}

impl Identity {
    /// A new one.
    pub fn new(node_id: u64) -> Identity {
        Identity {
            format: FORMAT,
            node_id,
            log_created: false,
            claim: 0,
            restored: None,
            removed: false,
            left: false,
            joining: false,
            cluster_id: None,
            ballot: None,
            floor: None,
            members: BTreeMap::new(),
        }
    }

    /// Agrees to a ballot.
    pub fn hold(&mut self, ballot: Ballot) {
        self.floor = Some(ballot.author);
        self.ballot = Some(ballot);
    }
}

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// Another process holds the lock.
    #[error(
        "data directory {0} is in use by another process: stop that node, or give this one another --data-dir"
    )]
    InUse(PathBuf),
    /// The file system refuses.
    #[error(
        "data directory {path} cannot be used: it must be a directory on a writable disk and belong to this user (--data-dir)"
    )]
    Io {
        /// The path that was refused.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Written by a later release.
    #[error(
        "data directory {path} has format {found}, this release reads up to {FORMAT}: run a newer release on it"
    )]
    Newer {
        /// The identity file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Not what this program wrote.
    #[error(
        "{path} cannot be read: restore it from a backup, or remove the member and let it join again with an empty data directory"
    )]
    Damaged {
        /// The identity file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// An identity in memory: what a simulated disk keeps of a data directory.
pub type StoredIdentity = Arc<Mutex<Option<Identity>>>;

/// A data directory held by this process.
pub struct DataDir(Place);

enum Place {
    Disk { path: PathBuf, _lock: File },
    Memory(StoredIdentity),
}

impl DataDir {
    /// Keeps the identity there instead of on a disk.
    pub fn in_memory(identity: StoredIdentity) -> DataDir {
        DataDir(Place::Memory(identity))
    }

    /// Creates the directory if it is missing, and locks it.
    ///
    /// # Errors
    /// See [`DirError`].
    pub fn open(path: &Path) -> Result<DataDir, DirError> {
        let failed = |source| DirError::Io {
            path: path.to_owned(),
            source,
        };
        fs::create_dir_all(path).map_err(failed)?;
        let lock = File::options()
            .create(true)
            .append(true)
            .open(path.join("LOCK"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(DataDir(Place::Disk {
                path: path.to_owned(),
                _lock: lock,
            })),
            Err(TryLockError::WouldBlock) => Err(DirError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Whether a directory is some node's.
    pub fn is_used(path: &Path) -> bool {
        path.join(FILE).exists()
    }

    /// The stored identity, if there is one.
    ///
    /// # Errors
    /// See [`DirError`].
    pub fn load(&self) -> Result<Option<Identity>, DirError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let path = match &self.0 {
            Place::Disk { path, .. } => path.join(FILE),
            Place::Memory(identity) => return Ok(identity.lock().clone()),
        };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(DirError::Io { path, source }),
        };
        // The format first: a later release may have changed everything else.
        match serde_json::from_slice::<Format>(&text) {
            Ok(Format { format: found }) if found > FORMAT => return Err(DirError::Newer { path, found }),
            Ok(_) => {}
            Err(source) => return Err(DirError::Damaged { path, source }),
        }
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| DirError::Damaged { path, source })
    }

    /// Removes what a member kept here; its identity last, so that a crash on the way changes nothing.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn clear(&self) -> Result<(), DirError> {
        let path = match &self.0 {
            Place::Disk { path, .. } => path,
            // What is in memory is one boot's, and its log and store are kept by somebody else.
            Place::Memory(identity) => {
                *identity.lock() = None;
                return Ok(());
            }
        };
        let clear = || {
            for part in ["wal", "store"] {
                match fs::remove_dir_all(path.join(part)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            fs::remove_file(path.join(FILE))?;
            File::open(path)?.sync_all()
        };
        clear().map_err(|source| DirError::Io {
            path: path.clone(),
            source,
        })
    }

    /// Stores the identity durably: when this returns, a power cut does not undo it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, identity: &Identity) -> Result<(), DirError> {
        let dir = match &self.0 {
            Place::Disk { path, .. } => path,
            Place::Memory(stored) => {
                *stored.lock() = Some(identity.clone());
                return Ok(());
            }
        };
        let path = dir.join(FILE);
        let write = || {
            let new = path.with_extension("new");
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec_pretty(identity)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(dir)?.sync_all()
        };
        write().map_err(|source| DirError::Io {
            path: path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_it_saved_and_lets_nobody_else_in() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        assert_eq!(data.load().unwrap(), None);
        let identity = Identity {
            cluster_id: Some(7),
            ..Identity::new(42)
        };
        data.save(&identity).unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DirError::InUse(_))));
        drop(data);
        assert_eq!(DataDir::open(dir.path()).unwrap().load().unwrap(), Some(identity));
    }

    #[test]
    fn refuses_a_newer_format_and_a_damaged_file_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        fs::write(
            dir.path().join("identity.json"),
            r#"{"format": 9, "what": "ever"}"#,
        )
        .unwrap();
        let error = data.load().unwrap_err().to_string();
        assert!(
            error.contains("has format 9") && error.contains("newer release"),
            "{error}"
        );
        fs::write(dir.path().join("identity.json"), "{").unwrap();
        let error = data.load().unwrap_err().to_string();
        assert!(error.contains("identity.json cannot be read"), "{error}");
    }
}
