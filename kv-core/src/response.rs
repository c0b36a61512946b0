//! What a command or a read answers.

use serde::{Deserialize, Serialize};

use crate::{Alarm, Error, KeyValue, nesting};

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The revision of the response's header: the current one after the command.
    pub revision: i64,
    /// The answer, or why nothing was done.
    pub result: Result<Response, Error>,
}

/// The answer to one command or to one operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To a put.
    Put {
        /// What the key held before, where asked for and where it existed.
        prev_kv: Option<KeyValue>,
    },
    /// To a deletion.
    DeleteRange {
        /// How many keys it deleted.
        deleted: i64,
        /// What they held, in key order, where asked for.
        prev_kvs: Vec<KeyValue>,
    },
    /// To a read.
    Range(RangeResult),
    /// To a transaction.
    Txn {
        /// Whether all compares held.
        succeeded: bool,
        /// One answer for each operation of the branch taken, with the revision for its own header.
        /// That is 0 for a transaction inside a transaction: etcd leaves it out.
        #[serde(deserialize_with = "nesting::one_deeper")]
        responses: Vec<(i64, Response)>,
    },
    /// To a compaction.
    Compact,
    /// To a change of users or roles.
    Auth,
    /// To the making of a lease.
    LeaseGrant {
        /// Its id.
        id: i64,
        /// Its TTL in seconds.
        ttl_s: i64,
    },
    /// To the end of a lease.
    LeaseRevoke,
    /// To renewals.
    LeaseRenew {
        /// The TTL of each lease in seconds, 0 where there is none with the id.
        ttls_s: Vec<i64>,
    },
    /// To an alarm.
    Alarm {
        /// The one that is raised now, or was ended; `None` where there was none to end.
        alarm: Option<Alarm>,
    },
    /// To an expiry.
    LeaseExpire {
        /// The leases that it ended.
        expired: Vec<i64>,
    },
}

/// The answer to a read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeResult {
    /// The keys, in the order asked for.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit left some out.
    pub more: bool,
    /// How many keys the range holds at that revision, whatever the limit and the revision filters leave out.
    pub count: i64,
}
