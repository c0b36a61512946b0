//! What a client may ask.

use serde::{Deserialize, Serialize};

/// An operation as it was asked for. Keys and values are text: the harness chooses them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Reads keys, linearizably unless `serializable`, as they are now unless a `revision` is given.
    Read {
        /// Which.
        keys: Keys,
        /// Whether an older state will do.
        #[serde(default, skip_serializing_if = "is_default")]
        serializable: bool,
        /// As of when; none for now.
        #[serde(default, skip_serializing_if = "is_default")]
        revision: Option<u64>,
    },
    /// Sets a key.
    Put {
        /// Which.
        key: String,
        /// To what.
        value: String,
        /// The lease it is attached to.
        #[serde(default, skip_serializing_if = "is_default")]
        lease: Option<i64>,
    },
    /// Removes keys.
    Delete {
        /// Which.
        keys: Keys,
    },
    /// Sets a key to a value if it has another: a transaction that compares the value (or the absence, by version 0).
    CompareAndSet {
        /// Which.
        key: String,
        /// What it must be; none: it must be absent.
        expected: Option<String>,
        /// What it becomes.
        value: String,
    },
    /// A transaction.
    Txn(Txn),
    /// Adds an element to a set: puts the key `set` + `element`, which nobody else of the run adds, with the element as
    /// its value.
    SetAdd {
        /// The prefix that is the set.
        set: String,
        /// What is added.
        element: String,
    },
    /// Reads a set: all keys under its prefix.
    SetRead {
        /// The prefix that is the set.
        set: String,
        /// Whether an older state will do.
        #[serde(default, skip_serializing_if = "is_default")]
        serializable: bool,
    },
    /// Watches keys. One record for each time that a watch is opened on a node.
    Watch {
        /// The watch that this opens, or continues after it broke: all its records have the same number, and one record's
        /// `start_revision` is the one after the last that the record before it has seen.
        watch: u64,
        /// Which keys.
        keys: Keys,
        /// The first revision that is wanted; none: what comes after the revision of [`Answer`](super::Answer), which is
        /// that of the header that says that the watch is created.
        #[serde(default, skip_serializing_if = "is_default")]
        start_revision: Option<u64>,
        /// Whether each event is to bring what was there before.
        #[serde(default, skip_serializing_if = "is_default")]
        prev_kv: bool,
    },
    /// Waits for a lock.
    LockAcquire {
        /// The lock's name: the owner's key is under `name` + `/`.
        name: String,
        /// The owner's lease. Without one (the node grants one then, which nobody knows) no more is checked than the
        /// order of the fencing numbers.
        #[serde(default, skip_serializing_if = "is_default")]
        lease: Option<i64>,
    },
    /// Gives a lock back.
    LockRelease {
        /// The lock's name.
        name: String,
        /// The owner's key, from [`Reply::Lock`](super::Reply::Lock).
        key: String,
    },
    /// Asks for a lease.
    LeaseGrant {
        /// Its id; the harness chooses, so that an unknown outcome has a name.
        lease: i64,
        /// How long it is to live, in seconds.
        ttl_s: u64,
    },
    /// Renews a lease.
    LeaseKeepAlive {
        /// Which.
        lease: i64,
    },
    /// Asks how long a lease will live.
    LeaseTimeToLive {
        /// Which.
        lease: i64,
    },
    /// Ends a lease before its time.
    LeaseRevoke {
        /// Which.
        lease: i64,
    },
    /// Asks one node for the hash of what it holds.
    Hash {
        /// As of when; none for all that the node has.
        #[serde(default, skip_serializing_if = "is_default")]
        revision: Option<u64>,
    },
    /// Forgets what was before a revision.
    Compact {
        /// The oldest revision that can still be read.
        revision: u64,
    },
}

impl Request {
    /// Whether an older state will do.
    pub fn is_serializable(&self) -> bool {
        matches!(
            self,
            Request::Read {
                serializable: true,
                ..
            } | Request::SetRead {
                serializable: true,
                ..
            }
        )
    }

    /// As of when it reads, if that was asked for.
    pub fn as_of(&self) -> Option<u64> {
        match self {
            Request::Read { revision, .. } => *revision,
            _ => None,
        }
    }
}

/// Which keys are meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    /// One.
    Key(String),
    /// All that begin with this.
    Prefix(String),
}

impl Keys {
    /// Whether `key` is one of them.
    pub fn contain(&self, key: &str) -> bool {
        match self {
            Keys::Key(this) => this == key,
            Keys::Prefix(prefix) => key.starts_with(prefix.as_str()),
        }
    }
}

/// A transaction: one branch is executed, the first if all comparisons hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Txn {
    /// What must hold of the state before it.
    pub compares: Vec<Compare>,
    /// What is done then.
    pub then: Vec<Op>,
    /// What is done otherwise.
    #[serde(rename = "else")]
    pub otherwise: Vec<Op>,
}

/// A comparison of one key with what is expected. An absent key has revisions and version 0, and no value: a comparison
/// with its value never holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// Which key.
    pub key: String,
    /// What must be equal.
    pub is: Test,
}

/// What must be equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// The value.
    Value(String),
    /// How often it was written since it was created.
    Version(u64),
    /// The revision that created it: what a lock's owner compares.
    CreateRevision(u64),
    /// The revision that wrote it last.
    ModRevision(u64),
}

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Reads keys.
    Read(Keys),
    /// Sets a key.
    Put {
        /// Which.
        key: String,
        /// To what.
        value: String,
        /// The lease it is attached to.
        #[serde(default, skip_serializing_if = "is_default")]
        lease: Option<i64>,
    },
    /// Removes keys.
    Delete(Keys),
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
