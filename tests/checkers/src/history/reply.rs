//! What a node may answer.

use serde::{Deserialize, Serialize};

/// The answer to an operation that was executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The revision in the answer's header: of a write, its own; of a read, the newest that the node knew.
    pub revision: u64,
    /// What it says besides.
    pub reply: Reply,
}

/// What an answer says, by the kind of its [`Request`](super::Request).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To `Read`: what is there, in the order of the keys.
    Read(Vec<KeyValue>),
    /// To `Put`.
    Put,
    /// To `Delete`.
    Delete {
        /// How many keys there were.
        deleted: u64,
    },
    /// To `CompareAndSet`.
    CompareAndSet {
        /// Whether the key had the expected value, and has the new one.
        succeeded: bool,
    },
    /// To `Txn`.
    Txn(TxnReply),
    /// To `SetAdd`.
    SetAdd,
    /// To `SetRead`: the keys without the prefix, in their order.
    SetRead(Vec<String>),
    /// To `Watch`: what came until it ended.
    Watch {
        /// Its responses with events, and those that only tell of progress, in the order they came; not the one that
        /// says that it is created.
        responses: Vec<WatchResponse>,
        /// Why nothing came any more.
        end: WatchEnd,
    },
    /// To `LockAcquire`: it is held, and was at the revision of the answer.
    Lock {
        /// The owner's key.
        key: String,
        /// The revision that created the key: what fences.
        fencing: u64,
    },
    /// To `LockRelease`.
    LockReleased,
    /// To `LeaseGrant`, `LeaseKeepAlive` and `LeaseTimeToLive`.
    Lease {
        /// How long it will live from now on, in seconds; 0 when there is no such lease. (In an answer to
        /// `LeaseTimeToLive` that is rounded down, and nothing is concluded from it.)
        ttl_s: u64,
    },
    /// To `LeaseRevoke`.
    LeaseRevoked,
    /// To `Hash`.
    Hash {
        /// Of what the node holds.
        hash: u64,
        /// Up to which revision.
        revision: u64,
        /// From which revision on.
        compact_revision: u64,
    },
    /// To `Compact`.
    Compacted,
}

/// A key as it is at some revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// Its name.
    pub key: String,
    /// What it holds.
    pub value: String,
    /// The revision that created it.
    pub create_revision: u64,
    /// The revision that wrote it last.
    pub mod_revision: u64,
    /// How often it was written since it was created.
    pub version: u64,
    /// The lease it is attached to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<i64>,
}

/// The answer to a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnReply {
    /// Whether all comparisons held.
    pub succeeded: bool,
    /// One answer for each step of the branch that was executed.
    pub results: Vec<OpReply>,
}

/// The answer to one step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpReply {
    /// What is there, in the order of the keys.
    Read(Vec<KeyValue>),
    /// It is set.
    Put,
    /// How many keys there were.
    Delete(u64),
}

/// One response of a watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchResponse {
    /// When it came, in nanoseconds since the run began.
    pub at_ns: u64,
    /// The revision in its header.
    pub revision: u64,
    /// What happened; empty when it tells of progress: all up to `revision` has been said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The key was set.
    Put {
        /// To this.
        kv: KeyValue,
        /// What was there before, where it was asked for and there was something.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prev: Option<KeyValue>,
    },
    /// The key was removed.
    Delete {
        /// Which.
        key: String,
        /// The revision that removed it.
        revision: u64,
        /// What was there before, where it was asked for and there was something.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prev: Option<KeyValue>,
    },
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &str {
        match self {
            Event::Put { kv, .. } => &kv.key,
            Event::Delete { key, .. } => key,
        }
    }

    /// The revision that changed it.
    pub fn revision(&self) -> u64 {
        match self {
            Event::Put { kv, .. } => kv.mod_revision,
            Event::Delete { revision, .. } => *revision,
        }
    }

    /// What was there before, as the event says.
    pub fn prev(&self) -> Option<&KeyValue> {
        match self {
            Event::Put { prev, .. } | Event::Delete { prev, .. } => prev.as_ref(),
        }
    }
}

/// Why nothing came any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatchEnd {
    /// The client wanted no more, or the run was over.
    Closed,
    /// The connection or the node broke: the error.
    Broken(String),
    /// The node said that what is wanted is compacted.
    Compacted {
        /// The oldest revision that there is.
        compact_revision: u64,
    },
    /// The node ended it for another reason.
    Canceled(String),
}
