//! Changes of users and roles, as the log carries them.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::KeyRange;

/// One change of users, roles, or whether they matter. Only administrators may make one while
/// authentication is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthCommand {
    /// Turns authentication on.
    Enable {
        /// What tokens are made with from now on, chosen by the node that proposes.
        secret: Secret,
    },
    /// Turns it off; every token ends.
    Disable,
    /// Adds a user without roles.
    UserAdd {
        /// Its name, not empty.
        name: String,
        /// What its password is checked with; without one, nobody can log in with a password.
        password: Option<PasswordHash>,
        /// The user is never to have a password, but to be known by its certificate.
        no_password: bool,
    },
    /// Removes a user; its tokens end.
    UserDelete {
        /// Its name.
        name: String,
    },
    /// Sets a user's password; its tokens end.
    UserChangePassword {
        /// Its name.
        name: String,
        /// As in [`AuthCommand::UserAdd`].
        password: Option<PasswordHash>,
    },
    /// Gives a user a role.
    UserGrantRole {
        /// The user's name.
        user: String,
        /// The role's name.
        role: String,
    },
    /// Takes a role from a user.
    UserRevokeRole {
        /// The user's name.
        user: String,
        /// The role's name.
        role: String,
    },
    /// Adds a role without permissions.
    RoleAdd {
        /// Its name, not empty.
        name: String,
    },
    /// Removes a role, from all users too.
    RoleDelete {
        /// Its name.
        name: String,
    },
    /// Gives a role a permission, in the place of one that it has for the same range.
    RoleGrant {
        /// The role's name.
        role: String,
        /// The permission; a request may leave it out, which is refused.
        permission: Option<Permission>,
    },
    /// Takes a permission from a role.
    RoleRevoke {
        /// The role's name.
        role: String,
        /// The permission's range, as it was granted.
        range: PermissionRange,
    },
}

/// What tokens are made with: known to the nodes alone, and not shown.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What a password is checked with, in a form of the node's choice: never the password, and not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHash(pub String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

/// What a role may do with a range of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// What it may do.
    pub kind: PermissionKind,
    /// With which keys.
    pub range: PermissionRange,
}

/// What a permission allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PermissionKind {
    /// To read, compare and watch.
    Read,
    /// To put and delete.
    Write,
    /// Both.
    ReadWrite,
}

impl PermissionKind {
    /// Whether it allows to read.
    pub fn reads(self) -> bool {
        self != PermissionKind::Write
    }

    /// Whether it allows to write.
    pub fn writes(self) -> bool {
        self != PermissionKind::Read
    }
}

/// The keys of a permission, as it was granted; see [`KeyRange`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PermissionRange {
    /// The first key.
    pub key: Bytes,
    /// Where the range ends.
    pub range_end: Bytes,
}

impl PermissionRange {
    /// The keys that are meant.
    pub fn keys(&self) -> KeyRange<'_> {
        KeyRange::new(&self.key, &self.range_end)
    }
}
