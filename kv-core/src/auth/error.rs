//! Refusals of users and permissions, with etcd's text byte for byte.

use serde::{Deserialize, Serialize};

/// Why a request about users and roles, or one that needs a permission, was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AuthError {
    /// Authentication is to be enabled, and there is no user `root`.
    #[error("etcdserver: root user does not exist")]
    RootUserMissing,
    /// Authentication is to be enabled, and the user `root` has not the role `root`.
    #[error("etcdserver: root user does not have root role")]
    RootRoleMissing,
    /// What would lock everybody out, or a permission over a range that holds no key.
    #[error("etcdserver: invalid auth management")]
    InvalidManagement,
    /// A user to be added has no name; or a request comes without a user where one is needed.
    #[error("etcdserver: user name is empty")]
    UserEmpty,
    /// A user to be added exists.
    #[error("etcdserver: user name already exists")]
    UserExists,
    /// There is no such user.
    #[error("etcdserver: user name not found")]
    UserNotFound,
    /// A role to be added has no name.
    #[error("etcdserver: role name is empty")]
    RoleEmpty,
    /// A role to be added exists.
    #[error("etcdserver: role name already exists")]
    RoleExists,
    /// There is no such role.
    #[error("etcdserver: role name not found")]
    RoleNotFound,
    /// A role to be taken from a user that does not have it.
    #[error("etcdserver: role is not granted to the user")]
    RoleNotGranted,
    /// A grant that names no permission.
    #[error("etcdserver: permission not given")]
    PermissionNotGiven,
    /// A permission to be taken from a role that does not have it.
    #[error("etcdserver: permission is not granted to the role")]
    PermissionNotGranted,
    /// The user may not do this.
    #[error("etcdserver: permission denied")]
    PermissionDenied,
    /// The user was authenticated before its credentials were changed.
    #[error("etcdserver: revision of auth store is old")]
    OldRevision,
    /// A user and password to be checked while authentication is off.
    #[error("etcdserver: authentication is not enabled")]
    NotEnabled,
    /// There is no such user, or the password is another.
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    Failed,
    /// A token that was not issued here, has expired, or is from before the user's credentials were changed.
    #[error("etcdserver: invalid auth token")]
    InvalidToken,
}
