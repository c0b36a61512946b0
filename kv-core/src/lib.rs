//! The replicated state machine of Quorate: etcd's data model as pure decisions without I/O.
//!
//! [`State`] is the model's memory: the current revision, the compacted one, and for each key the revisions
//! at which it was written ([`KeyValue`]s themselves stay on disk). A [`Command`] out of the log goes through
//! [`State::apply`], which changes the state, names the [`Record`]s to be written, and gives the [`Outcome`]
//! for the client. A read goes through [`State::plan`], which says which revisions to fetch.
//!
//! Promised: the same commands in the same order give the same records and the same outcomes on every node.
//! There is no clock, no randomness, no map of accidental order, no I/O and no logging in this crate; its
//! `Cargo.toml` cannot reach any.
//!
//! Left to others: keeping the records ([`Values`] reads them back), leases and their time ([`ApplyView`]
//! says which exist), watches (they follow the records), passwords and tokens (the state keeps what they are
//! checked with), and the wire.
//!
//! ```
//! use kv_core::{ApplyView, Command, KeyValue, Put, Range, Record, Revision, State, Values};
//! use std::collections::BTreeMap;
//!
//! struct Memory(BTreeMap<Revision, Record>);
//! impl Values for Memory {
//!     type Error = Revision;
//!     fn get(&self, at: Revision) -> Result<KeyValue, Revision> {
//!         match self.0.get(&at) {
//!             Some(Record::Put(kv)) => Ok(kv.clone()),
//!             _ => Err(at),
//!         }
//!     }
//! }
//! impl ApplyView for Memory {
//!     fn has_lease(&self, _lease: i64) -> bool {
//!         false
//!     }
//! }
//!
//! let (mut state, mut disk, mut writes) = (State::new(), Memory(BTreeMap::new()), Vec::new());
//! let put = Put { key: "a".into(), value: "1".into(), ..Put::default() };
//! let outcome = state.apply(&disk, &Command::Put(put), &mut writes)?;
//! assert_eq!(outcome.revision, 2);
//! disk.0.extend(writes);
//!
//! let plan = state.plan(&Range { key: "a".into(), ..Range::default() }).unwrap();
//! assert_eq!(plan.finish(&disk)?.kvs[0].value, "1");
//! # Ok::<(), Revision>(())
//! ```

mod auth;
mod command;
mod error;
mod history;
mod index;
mod intervals;
mod key;
mod key_range;
mod plan;
mod record;
mod response;
mod restore;
mod state;
mod sweep;
mod txn;
mod validate;
mod write;

pub use auth::{
    Auth, AuthCommand, AuthError, Caller, LeaseKeys, PasswordHash, Permission, PermissionKind,
    PermissionRange, Request, Secret, User,
};
pub use command::{
    Command, Compact, Compare, CompareResult, CompareTarget, DeleteRange, Op, Put, Range, SortOrder,
    SortTarget, Txn,
};
pub use error::Error;
pub use key_range::KeyRange;
pub use plan::Plan;
pub use record::{KeyValue, Record, RecordHead, Revision};
pub use response::{Outcome, RangeResult, Response};
pub use restore::{RestoreError, Restorer};
pub use state::{ApplyView, State, Values};
pub use sweep::Swept;
pub use validate::Limits;
