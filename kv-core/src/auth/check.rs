//! Whether a caller may do what it asks: one walk over the request, transactions inside transactions included.

use super::users::Access;
use super::{Auth, AuthError, Caller};
use crate::{Command, DeleteRange, KeyRange, Op, Put, Txn};

/// What is asked, as far as permissions depend on it.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// A command for the log.
    Command(&'a Command),
    /// A transaction that only reads.
    Txn(&'a Txn),
    /// To read or watch keys.
    Read(KeyRange<'a>),
    /// To keep a lease alive: it keeps its keys, and who could not write them shall not.
    LeaseRenew(i64),
    /// To see which keys a lease has.
    LeaseKeys(i64),
    /// Something that any user may do who has shown who it is.
    User,
    /// Something for those alone who have the role `root`.
    Admin,
    /// To see a user's roles, which it may itself.
    UserGet(&'a str),
    /// To see a role's permissions, which those may who have it.
    RoleGet(&'a str),
}

/// Which keys each lease has.
pub trait LeaseKeys {
    /// The keys attached to a lease; none where it does not exist.
    fn keys_of(&self, lease: i64) -> impl Iterator<Item = &[u8]>;
}

impl Auth {
    /// Whether the caller may do what it asks.
    ///
    /// While authentication is off, everybody may do everything. Rules, as etcd's: a put or deletion needs to
    /// write its keys, and to read them too where the answer is to hold what they held; a compare reads; of a
    /// transaction both branches count, whichever runs; attaching a key to a lease, renewing and revoking
    /// a lease needs to write every key that the lease has.
    ///
    /// # Errors
    /// [`AuthError::UserEmpty`] to a caller that is nobody, [`AuthError::OldRevision`] to one whose
    /// credentials have been changed since, [`AuthError::PermissionDenied`] otherwise.
    pub fn check(
        &self,
        caller: &Caller,
        request: Request<'_>,
        leases: &impl LeaseKeys,
    ) -> Result<(), AuthError> {
        if !self.is_enabled() {
            return Ok(());
        }
        let (name, revision) = match caller {
            Caller::Node => return Ok(()),
            Caller::Anonymous => return Err(AuthError::UserEmpty),
            Caller::User { name, revision } => (name, *revision),
        };
        let (Some(user), Some(access)) = (self.user(name), self.access(name)) else {
            return Err(AuthError::PermissionDenied);
        };
        if revision < self.known_from(user) {
            return Err(AuthError::OldRevision);
        }
        let allowed = access.root
            || match request {
                Request::UserGet(asked) => asked == name,
                Request::RoleGet(asked) => user.roles.contains(asked),
                request => Check { access, leases }.request(request),
            };
        allowed.then_some(()).ok_or(AuthError::PermissionDenied)
    }
}

/// A walk over one request.
struct Check<'a, L> {
    access: &'a Access,
    leases: &'a L,
}

impl<L: LeaseKeys> Check<'_, L> {
    fn request(&self, request: Request<'_>) -> bool {
        match request {
            Request::Command(command) => self.command(command),
            Request::Txn(txn) => self.txn(txn),
            Request::Read(keys) => self.access.read.covers(keys),
            Request::LeaseRenew(lease) => self.writes_lease(lease),
            Request::LeaseKeys(lease) => self.reads_lease(lease),
            Request::User => true,
            Request::Admin | Request::UserGet(_) | Request::RoleGet(_) => false,
        }
    }

    fn command(&self, command: &Command) -> bool {
        match command {
            Command::Put(put) => self.put(put),
            Command::DeleteRange(delete) => self.delete_range(delete),
            Command::Txn(txn) => self.txn(txn),
            Command::LeaseRevoke(revoke) => self.writes_lease(revoke.id),
            Command::LeaseRenew(renew) => renew.ids.iter().all(|&id| self.writes_lease(id)),
            Command::LeaseGrant(_) | Command::Compact(_) => true,
            Command::LeaseExpire(_) | Command::Auth(_) | Command::Alarm(_) => false,
            Command::As { .. } => self.command(command.bare()),
        }
    }

    fn put(&self, put: &Put) -> bool {
        let key = KeyRange::One(&put.key);
        self.access.write.covers(key)
            && (!put.prev_kv || self.access.read.covers(key))
            && (put.lease == 0 || self.writes_lease(put.lease))
    }

    fn delete_range(&self, delete: &DeleteRange) -> bool {
        let keys = KeyRange::new(&delete.key, &delete.range_end);
        self.access.write.covers(keys) && (!delete.prev_kv || self.access.read.covers(keys))
    }

    fn txn(&self, txn: &Txn) -> bool {
        let compares = txn.compare.iter().all(|compare| {
            self.access
                .read
                .covers(KeyRange::new(&compare.key, &compare.range_end))
        });
        compares && txn.success.iter().chain(&txn.failure).all(|op| self.op(op))
    }

    fn op(&self, op: &Op) -> bool {
        match op {
            Op::Range(range) => self
                .access
                .read
                .covers(KeyRange::new(&range.key, &range.range_end)),
            Op::Put(put) => self.put(put),
            Op::DeleteRange(delete) => self.delete_range(delete),
            Op::Txn(inner) => self.txn(inner),
        }
    }

    fn writes_lease(&self, lease: i64) -> bool {
        self.leases
            .keys_of(lease)
            .all(|key| self.access.write.covers(KeyRange::One(key)))
    }

    fn reads_lease(&self, lease: i64) -> bool {
        self.leases
            .keys_of(lease)
            .all(|key| self.access.read.covers(KeyRange::One(key)))
    }
}
