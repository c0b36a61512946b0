//! The replicated state machine of Quorate: etcd's data model as pure decisions without I/O.
//!
//! [`State`] is the model's memory: the current revision, the compacted one, and for each key the revisions
//! at which it was written ([`KeyValue`]s themselves stay on disk); and the [`Fact`]s, replicated state that is no
//! key-value record, such as leases. A [`Command`] out of the log goes through [`State::apply`], which changes the
//! state, names the [`Effects`] to be kept (records and facts), and gives the [`Outcome`] for the client. A read goes through [`State::plan`], which says which revisions to fetch.
//!
//! Promised: the same commands in the same order give the same records and the same outcomes on every node.
//! There is no clock, no randomness, no map of accidental order, no I/O and no logging in this crate; its
//! `Cargo.toml` cannot reach any.
//!
//! Left to others: keeping records and facts ([`Values`] reads records back), what time it is (leases go by the
//! stamps that commands carry), watches (they follow the records), passwords and tokens (the state keeps what they
//! are checked with), and the wire.
//!
//! ```
//! use kv_core::{Command, Effects, KeyValue, Put, Range, Record, Revision, State, Values};
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
//!
//! let (mut state, mut disk, mut effects) = (State::new(), Memory(BTreeMap::new()), Effects::default());
//! let put = Put { key: "a".into(), value: "1".into(), ..Put::default() };
//! let outcome = state.apply(&disk, &Command::Put(put), &mut effects)?;
//! assert_eq!(outcome.revision, 2);
//! disk.0.extend(effects.records);
//!
//! let plan = state.plan(&Range { key: "a".into(), ..Range::default() }).unwrap();
//! assert_eq!(plan.finish(&disk)?.kvs[0].value, "1");
//! # Ok::<(), Revision>(())
//! ```

mod alarm;
mod auth;
mod command;
mod effects;
mod error;
mod fact;
mod history;
mod index;
mod intervals;
mod key;
mod key_range;
mod lease;
mod nesting;
mod plan;
mod record;
mod response;
mod restore;
mod state;
mod sweep;
mod txn;
mod validate;
mod write;

pub use alarm::{ALARMS_MAX, Alarm, AlarmChange, AlarmKind};
pub use auth::{
    Auth, AuthCommand, AuthError, AuthFact, AuthFactKey, Caller, LeaseKeys, PasswordHash, Permission,
    PermissionKind, PermissionRange, Request, Secret, Settings, User,
};
pub use command::{
    Command, Compact, Compare, CompareResult, CompareTarget, DeleteRange, LeaseExpire, LeaseGrant,
    LeaseRenew, LeaseRevoke, Op, Put, Range, SortOrder, SortTarget, Txn,
};
pub use effects::Effects;
pub use error::Error;
pub use fact::{FACT_BYTES_MAX, Fact, FactChange, FactKey, UnreadableFact};
pub use key_range::KeyRange;
pub use lease::LeaseTerm;
pub use nesting::NESTING_MAX;
pub use plan::Plan;
pub use record::{KeyValue, Record, RecordHead, Revision};
pub use response::{Outcome, RangeResult, Response};
pub use restore::{RestoreError, Restorer};
pub use state::{State, Values};
pub use sweep::Swept;
pub use validate::Limits;
