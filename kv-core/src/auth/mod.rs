//! Users, their roles, what roles may do with which keys, and the check of a request against it.
//!
//! The rules are etcd's: a user has roles, a role has permissions over ranges of keys, and who has the role
//! `root` may do everything. All of it is replicated state, changed by [`AuthCommand`]s out of the log, so
//! that a change takes effect at one point of the order of commands: what comes before is judged by the old
//! rules, what comes after by the new ones, on every node.
//!
//! A command carries its [`Caller`]; [`crate::State::apply`] asks [`Auth::check`] before it does anything. A
//! read asks the same function on the node that serves it, in the state that it reads.
//!
//! Promised: nothing inside a transaction is allowed that would not be outside. Left to others: passwords and
//! tokens, of which the state keeps what they are checked with ([`PasswordHash`], [`Secret`]).

mod caller;
mod check;
mod command;
mod error;
mod facts;
mod ranges;
mod users;

pub use caller::Caller;
pub use check::{LeaseKeys, Request};
pub use command::{AuthCommand, PasswordHash, Permission, PermissionKind, PermissionRange, Secret};
pub use error::AuthError;
pub(crate) use facts::AuthRestorer;
pub use facts::{AuthFact, AuthFactKey};
pub use users::{Auth, Settings, User};

use crate::State;

impl LeaseKeys for State {
    fn keys_of(&self, lease: i64) -> impl Iterator<Item = &[u8]> {
        self.lease_keys(lease)
    }
}
