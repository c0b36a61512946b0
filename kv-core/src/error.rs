//! Refusals of the data model: values, the same on every node, with etcd's text byte for byte.
//!
//! Faults (a value that the disk does not give back) are not here: they are the error type of
//! [`crate::Values`] and stop the node.

use serde::{Deserialize, Serialize};

use crate::AuthError;

/// Why a request was refused. Clients compare the text, so it is etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Error {
    /// A request or one of its parts names no key.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on a key that does not exist, or an operation of a transaction that
    /// says nothing.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// A value came with `ignore_value`.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// A lease came with `ignore_lease`.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// More operations in a transaction than [`crate::Limits::max_txn_ops`].
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// A transaction would write a key twice, or write a key that it deletes.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// A sort order or target that does not exist.
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    /// The revision is below the compacted one.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// The revision is above the current one.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    /// There is no lease with the id.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// Users, roles, permissions.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// There is a lease with the id already.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// A TTL above [`crate::LeaseTerm::TTL_S_MAX`].
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    /// There is an alarm of no space, and the command would take more.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// There is an alarm of a member whose data differ.
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    /// [`crate::ALARMS_MAX`] alarms are raised.
    #[error("quorate: too many alarms")]
    TooManyAlarms,
    /// Transactions stand within each other deeper than [`crate::NESTING_MAX`].
    #[error("quorate: transactions are nested too deep")]
    NestedTooDeep,
}
