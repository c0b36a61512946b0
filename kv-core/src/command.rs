//! What clients ask of the data model: the commands that the log carries, and the reads.
//!
//! The types mirror etcd v3's messages field by field, minus what only concerns the wire (serializable reads,
//! headers). A value here is only a request: [`Command::validate`] says whether it is well formed, and
//! [`crate::State::apply`] what it does.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{AlarmChange, AuthCommand, Caller, Error, nesting};

/// One write of the data model, as the log carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Writes one key.
    Put(Put),
    /// Deletes a key or a range of keys.
    DeleteRange(DeleteRange),
    /// Compares, then runs one of two lists of operations, all in one revision.
    Txn(Txn),
    /// Gives up the history below a revision.
    Compact(Compact),
    /// Changes users, roles, or whether they matter.
    Auth(AuthCommand),
    /// Another command, for whoever asked for it. Without this, nobody is known to have.
    As {
        /// Who asks.
        caller: Caller,
        /// What for.
        #[serde(deserialize_with = "nesting::one_deeper")]
        command: Box<Command>,
    },
    /// Makes a lease.
    LeaseGrant(LeaseGrant),
    /// Ends a lease and deletes its keys.
    LeaseRevoke(LeaseRevoke),
    /// Starts the TTL of leases anew.
    LeaseRenew(LeaseRenew),
    /// Ends leases whose time is over.
    LeaseExpire(LeaseExpire),
    /// Raises or ends an alarm.
    Alarm(AlarmChange),
}

impl Command {
    /// The command for a caller.
    pub fn by(self, caller: Caller) -> Command {
        match caller {
            Caller::Anonymous => self,
            caller => Command::As {
                caller,
                command: Box::new(self),
            },
        }
    }

    /// Who asks, and the command itself, which is no [`Command::As`].
    pub fn split(&self) -> (&Caller, &Command) {
        let Command::As { caller, command } = self else {
            return (&Caller::Anonymous, self);
        };
        // Inside of another nobody puts one; if somebody did, the outer caller would answer for it.
        (caller, command.split().1)
    }

    /// Whether the command says what time it is. Only a leader knows.
    pub fn is_stamped(&self) -> bool {
        matches!(
            self.bare(),
            Command::LeaseGrant(_) | Command::LeaseRenew(_) | Command::LeaseExpire(_)
        )
    }

    /// Stamps the command with the cluster's clock, where it is of that kind.
    pub fn stamp(&mut self, clock_ms: u64) {
        match self {
            Command::As { command, .. } => command.stamp(clock_ms),
            Command::LeaseGrant(LeaseGrant { now_ms, .. })
            | Command::LeaseRenew(LeaseRenew { now_ms, .. })
            | Command::LeaseExpire(LeaseExpire { now_ms, .. }) => *now_ms = clock_ms,
            _ => {}
        }
    }

    /// The command itself, without who asks for it.
    pub fn bare(&self) -> &Command {
        self.split().1
    }
}

/// Writes one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// The key, not empty.
    pub key: Bytes,
    /// The new value; empty with `ignore_value`.
    pub value: Bytes,
    /// The lease to attach the key to, 0 for none.
    pub lease: i64,
    /// Answer with what the key held before.
    pub prev_kv: bool,
    /// Keep the current value; the key must exist.
    pub ignore_value: bool,
    /// Keep the current lease; the key must exist.
    pub ignore_lease: bool,
}

/// Deletes a key or a range of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRange {
    /// The first key, not empty.
    pub key: Bytes,
    /// Where the range ends, see [`crate::KeyRange`].
    pub range_end: Bytes,
    /// Answer with what was deleted.
    pub prev_kv: bool,
}

/// Reads a key or a range of keys at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The first key, not empty.
    pub key: Bytes,
    /// Where the range ends, see [`crate::KeyRange`].
    pub range_end: Bytes,
    /// At most so many keys in the answer; 0 or less means all.
    pub limit: i64,
    /// The revision to read at; 0 or less means the current one.
    pub revision: i64,
    /// Direction of the sort.
    pub sort_order: SortOrder,
    /// What to sort by.
    pub sort_target: SortTarget,
    /// Leave the values out of the answer.
    pub keys_only: bool,
    /// Answer with the number of keys alone.
    pub count_only: bool,
    /// Leave out keys modified before this revision, unless 0.
    pub min_mod_revision: i64,
    /// Leave out keys modified after this revision, unless 0.
    pub max_mod_revision: i64,
    /// Leave out keys created before this revision, unless 0.
    pub min_create_revision: i64,
    /// Leave out keys created after this revision, unless 0.
    pub max_create_revision: i64,
}

/// Direction of a sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortOrder {
    /// Not asked for: key order, or ascending where the target is not the key.
    #[default]
    None,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

/// What a range is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortTarget {
    /// The key, as bytes.
    #[default]
    Key,
    /// How often the key was written since its creation.
    Version,
    /// The revision of its creation.
    Create,
    /// The revision of its last write.
    Mod,
    /// The value, as bytes.
    Value,
}

impl TryFrom<i32> for SortOrder {
    type Error = Error;

    /// From the number of etcd's enum.
    ///
    /// # Errors
    /// [`Error::InvalidSortOption`] where the number has no meaning.
    fn try_from(number: i32) -> Result<Self, Error> {
        match number {
            0 => Ok(SortOrder::None),
            1 => Ok(SortOrder::Ascend),
            2 => Ok(SortOrder::Descend),
            _ => Err(Error::InvalidSortOption),
        }
    }
}

impl TryFrom<i32> for SortTarget {
    type Error = Error;

    /// From the number of etcd's enum.
    ///
    /// # Errors
    /// [`Error::InvalidSortOption`] where the number has no meaning.
    fn try_from(number: i32) -> Result<Self, Error> {
        match number {
            0 => Ok(SortTarget::Key),
            1 => Ok(SortTarget::Version),
            2 => Ok(SortTarget::Create),
            3 => Ok(SortTarget::Mod),
            4 => Ok(SortTarget::Value),
            _ => Err(Error::InvalidSortOption),
        }
    }
}

/// Compares, then runs one of two lists of operations, all in one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// All must hold for `success` to run; none at all holds.
    pub compare: Vec<Compare>,
    /// What runs where all compares hold.
    pub success: Vec<Op>,
    /// What runs otherwise.
    pub failure: Vec<Op>,
}

impl Txn {
    /// Whether neither branch, at any depth, holds a write. Such a transaction needs no place in the log:
    /// [`crate::State::read_txn`] answers it.
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| match op {
            Op::Range(_) => true,
            Op::Put(_) | Op::DeleteRange(_) => false,
            Op::Txn(txn) => txn.is_read_only(),
        })
    }
}

/// One operation inside a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// A read, which sees the writes before it in the same transaction.
    Range(Range),
    /// A write of one key.
    Put(Put),
    /// A deletion.
    DeleteRange(DeleteRange),
    /// A transaction inside; its compares see the state before the outermost one.
    #[serde(deserialize_with = "nesting::one_deeper")]
    Txn(Txn),
}

/// One condition of a transaction, over one key or every key of a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// The first key, not empty.
    pub key: Bytes,
    /// Where the range ends, see [`crate::KeyRange`].
    pub range_end: Bytes,
    /// How the key's fact must stand to the one given.
    pub result: CompareResult,
    /// Which fact, and what it is compared with.
    pub target: CompareTarget,
}

/// How the key's fact must stand to the one given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareResult {
    /// The same.
    #[default]
    Equal,
    /// The key's is greater.
    Greater,
    /// The key's is less.
    Less,
    /// Not the same.
    NotEqual,
}

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareTarget {
    /// The key's version; 0 where it does not exist.
    Version(i64),
    /// The revision of its creation; 0 where it does not exist.
    Create(i64),
    /// The revision of its last write; 0 where it does not exist.
    Mod(i64),
    /// Its value; never holds where the key does not exist.
    Value(Bytes),
    /// Its lease; 0 where it has none or does not exist.
    Lease(i64),
}

/// Gives up the history below a revision: reads below it fail from then on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compact {
    /// The oldest revision that can still be read afterwards.
    pub revision: i64,
}

/// Makes a lease, which ends a TTL after the cluster's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseGrant {
    /// Its id, not 0: whoever proposes chooses one where the client did not.
    pub id: i64,
    /// Its TTL in seconds, see [`crate::LeaseTerm::TTL_S_MIN`].
    pub ttl_s: i64,
    /// The leader's stamp for the cluster's clock, in milliseconds.
    pub now_ms: u64,
}

/// Ends a lease: all its keys are deleted at one revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRevoke {
    /// Its id.
    pub id: i64,
}

/// Starts the TTL of leases anew, from the cluster's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRenew {
    /// Their ids.
    pub ids: Vec<i64>,
    /// The leader's stamp for the cluster's clock, in milliseconds.
    pub now_ms: u64,
}

/// Ends those of some leases that the cluster's clock has passed, each as a [`LeaseRevoke`] would. Without ids it
/// only advances the clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseExpire {
    /// Their ids; what does not exist or was renewed is passed over.
    pub ids: Vec<i64>,
    /// The leader's stamp for the cluster's clock, in milliseconds.
    pub now_ms: u64,
}
