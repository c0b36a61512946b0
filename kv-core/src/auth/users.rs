//! The state: users, roles and whether they matter; and how commands change it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ranges::Ranges;
use super::{AuthCommand, AuthError, Caller, PasswordHash, Permission, PermissionRange, Secret};

/// The user that must exist, and the role that may do everything.
pub(super) const ROOT: &str = "root";

/// Longest name of a user or role. etcd has no such bounds; what is beyond them is `invalid auth management`.
const NAME_BYTES_MAX: usize = 1024;
/// Roles of one user.
const USER_ROLES_MAX: usize = 4096;
/// Permissions of one role, and the bytes of their ranges.
const ROLE_PERMISSIONS_MAX: usize = 65_536;
const ROLE_BYTES_MAX: usize = 4 << 20;

fn check_name(name: &str) -> Result<(), AuthError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(AuthError::InvalidManagement);
    }
    Ok(())
}

/// Users, roles, and whether they matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    pub(super) settings: Settings,
    pub(super) users: BTreeMap<String, User>,
    pub(super) roles: BTreeMap<String, Role>,
    /// What each user may do, by all its roles: made of the two maps above.
    access: BTreeMap<String, Access>,
}

/// What is neither user nor role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How often anything was changed, counted from 1 as etcd does.
    pub revision: u64,
    /// What tokens are made with, while authentication is on.
    pub secret: Option<Secret>,
    /// Whoever was authenticated before this revision no longer is.
    pub valid_from: u64,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// What its password is checked with; without one, no password is right.
    pub password: Option<PasswordHash>,
    /// Whether it is never to have a password.
    pub no_password: bool,
    /// The names of its roles.
    pub roles: BTreeSet<String>,
    /// The auth revision at which its credentials were last set.
    pub credentials_revision: u64,
}

/// What a role may do, by range.
pub(super) type Role = BTreeMap<PermissionRange, super::PermissionKind>;

/// What a user may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Access {
    /// Everything.
    pub(super) root: bool,
    pub(super) read: Ranges,
    pub(super) write: Ranges,
}

/// A part of the state that a command changed, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    Settings,
    User(String),
    Role(String),
}

impl Default for Auth {
    fn default() -> Self {
        Auth::new()
    }
}

impl Auth {
    /// Nobody, and authentication off.
    pub fn new() -> Auth {
        let settings = Settings {
            revision: 1,
            secret: None,
            valid_from: 0,
        };
        Auth::of(settings, BTreeMap::new(), BTreeMap::new())
    }

    /// Of its parts.
    pub(super) fn of(
        settings: Settings,
        users: BTreeMap<String, User>,
        roles: BTreeMap<String, Role>,
    ) -> Auth {
        let mut auth = Auth {
            settings,
            users,
            roles,
            access: BTreeMap::new(),
        };
        let names: Vec<String> = auth.users.keys().cloned().collect();
        names.iter().for_each(|name| auth.refresh(name));
        auth
    }

    /// Whether requests are checked.
    pub fn is_enabled(&self) -> bool {
        self.settings.secret.is_some()
    }

    /// The revision of users and roles; has nothing to do with that of the keys.
    pub fn revision(&self) -> u64 {
        self.settings.revision
    }

    /// What tokens are made with, while authentication is on.
    pub fn secret(&self) -> Option<&Secret> {
        self.settings.secret.as_ref()
    }

    /// A user by name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// The names of all users, in order.
    pub fn user_names(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    /// The names of all roles, in order.
    pub fn role_names(&self) -> impl Iterator<Item = &str> {
        self.roles.keys().map(String::as_str)
    }

    /// What a role was granted, in the order of the ranges.
    ///
    /// # Errors
    /// [`AuthError::RoleNotFound`].
    pub fn permissions(&self, role: &str) -> Result<Vec<Permission>, AuthError> {
        let role = self.roles.get(role).ok_or(AuthError::RoleNotFound)?;
        let permission = |(range, &kind): (&PermissionRange, _)| Permission {
            kind,
            range: range.clone(),
        };
        Ok(role.iter().map(permission).collect())
    }

    /// The caller that a user is who was authenticated at a revision.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`] where there is no such user, or its credentials were changed since.
    pub fn caller(&self, name: &str, revision: u64) -> Result<Caller, AuthError> {
        let user = self.users.get(name).ok_or(AuthError::InvalidToken)?;
        if revision < self.known_from(user) {
            return Err(AuthError::InvalidToken);
        }
        Ok(Caller::User {
            name: name.to_owned(),
            revision,
        })
    }

    /// The least revision at which the user's present credentials can have been shown.
    pub(super) fn known_from(&self, user: &User) -> u64 {
        user.credentials_revision.max(self.settings.valid_from)
    }

    pub(super) fn access(&self, name: &str) -> Option<&Access> {
        self.access.get(name)
    }

    /// Makes a change; names what it changed.
    ///
    /// # Errors
    /// Why it was refused, in which case nothing has changed.
    pub(super) fn change(&mut self, command: &AuthCommand) -> Result<Vec<Changed>, AuthError> {
        let mut changed = match command {
            AuthCommand::Enable { secret } => return self.enable(*secret),
            AuthCommand::Disable if !self.is_enabled() => return Ok(Vec::new()),
            AuthCommand::Disable => self.disable(),
            AuthCommand::UserAdd {
                name,
                password,
                no_password,
            } => self.add_user(name, password.clone(), *no_password)?,
            AuthCommand::UserDelete { name } => self.delete_user(name)?,
            AuthCommand::UserChangePassword { name, password } => {
                self.change_password(name, password.clone())?
            }
            AuthCommand::UserGrantRole { user, role } => self.grant_role(user, role)?,
            AuthCommand::UserRevokeRole { user, role } => self.revoke_role(user, role)?,
            AuthCommand::RoleAdd { name } => self.add_role(name)?,
            AuthCommand::RoleDelete { name } => self.delete_role(name)?,
            AuthCommand::RoleGrant { role, permission } => self.grant(role, permission.as_ref())?,
            AuthCommand::RoleRevoke { role, range } => self.revoke(role, range)?,
        };
        if !changed.is_empty() {
            self.settings.revision += 1;
            changed.push(Changed::Settings);
        }
        Ok(changed)
    }

    /// As in etcd, this does not count as a revision.
    fn enable(&mut self, secret: Secret) -> Result<Vec<Changed>, AuthError> {
        if self.is_enabled() {
            return Ok(Vec::new());
        }
        let root = self.users.get(ROOT).ok_or(AuthError::RootUserMissing)?;
        if !root.roles.contains(ROOT) {
            return Err(AuthError::RootRoleMissing);
        }
        self.settings.secret = Some(secret);
        Ok(vec![Changed::Settings])
    }

    fn disable(&mut self) -> Vec<Changed> {
        self.settings.secret = None;
        self.settings.valid_from = self.settings.revision + 1;
        vec![Changed::Settings]
    }

    fn add_user(
        &mut self,
        name: &str,
        password: Option<PasswordHash>,
        no_password: bool,
    ) -> Result<Vec<Changed>, AuthError> {
        if name.is_empty() {
            return Err(AuthError::UserEmpty);
        }
        check_name(name)?;
        if self.users.contains_key(name) {
            return Err(AuthError::UserExists);
        }
        let user = User {
            password: password.filter(|_| !no_password),
            no_password,
            roles: BTreeSet::new(),
            credentials_revision: self.settings.revision + 1,
        };
        self.users.insert(name.to_owned(), user);
        Ok(self.changed_user(name))
    }

    fn delete_user(&mut self, name: &str) -> Result<Vec<Changed>, AuthError> {
        if self.is_enabled() && name == ROOT {
            return Err(AuthError::InvalidManagement);
        }
        self.users.remove(name).ok_or(AuthError::UserNotFound)?;
        Ok(self.changed_user(name))
    }

    /// As in etcd, a user without password stays one, and the request succeeds.
    fn change_password(
        &mut self,
        name: &str,
        password: Option<PasswordHash>,
    ) -> Result<Vec<Changed>, AuthError> {
        let revision = self.settings.revision + 1;
        let user = self.user_mut(name)?;
        if !user.no_password {
            user.password = password;
        }
        user.credentials_revision = revision;
        Ok(self.changed_user(name))
    }

    /// The role `root` need not exist: it may do everything because of its name.
    fn grant_role(&mut self, user: &str, role: &str) -> Result<Vec<Changed>, AuthError> {
        let has_role = role == ROOT || self.roles.contains_key(role);
        let roles = &mut self.user_mut(user)?.roles;
        if !has_role {
            return Err(AuthError::RoleNotFound);
        }
        if roles.contains(role) {
            return Ok(Vec::new());
        }
        if roles.len() == USER_ROLES_MAX {
            return Err(AuthError::InvalidManagement);
        }
        roles.insert(role.to_owned());
        Ok(self.changed_user(user))
    }

    fn revoke_role(&mut self, user: &str, role: &str) -> Result<Vec<Changed>, AuthError> {
        if self.is_enabled() && user == ROOT && role == ROOT {
            return Err(AuthError::InvalidManagement);
        }
        if !self.user_mut(user)?.roles.remove(role) {
            return Err(AuthError::RoleNotGranted);
        }
        Ok(self.changed_user(user))
    }

    fn add_role(&mut self, name: &str) -> Result<Vec<Changed>, AuthError> {
        if name.is_empty() {
            return Err(AuthError::RoleEmpty);
        }
        check_name(name)?;
        if self.roles.contains_key(name) {
            return Err(AuthError::RoleExists);
        }
        self.roles.insert(name.to_owned(), Role::new());
        Ok(self.changed_role(name))
    }

    fn delete_role(&mut self, name: &str) -> Result<Vec<Changed>, AuthError> {
        if self.is_enabled() && name == ROOT {
            return Err(AuthError::InvalidManagement);
        }
        self.roles.remove(name).ok_or(AuthError::RoleNotFound)?;
        let mut changed = vec![Changed::Role(name.to_owned())];
        for user in self.users_with(name) {
            self.user_mut(&user)?.roles.remove(name);
            changed.append(&mut self.changed_user(&user));
        }
        Ok(changed)
    }

    /// A range that holds no key, and the empty key, which no request can name, are refused as etcd has done
    /// since 3.5.
    fn grant(&mut self, role: &str, permission: Option<&Permission>) -> Result<Vec<Changed>, AuthError> {
        let Permission { kind, range } = permission.ok_or(AuthError::PermissionNotGiven)?;
        if range.key.is_empty() || range.keys() == crate::KeyRange::Nothing {
            return Err(AuthError::InvalidManagement);
        }
        let permissions = self.role_mut(role)?;
        let bytes = |range: &PermissionRange| range.key.len() + range.range_end.len();
        let held: usize = permissions.keys().map(bytes).sum();
        let full = held + bytes(range) > ROLE_BYTES_MAX || permissions.len() >= ROLE_PERMISSIONS_MAX;
        if full && !permissions.contains_key(range) {
            return Err(AuthError::InvalidManagement);
        }
        permissions.insert(range.clone(), *kind);
        Ok(self.changed_role(role))
    }

    fn revoke(&mut self, role: &str, range: &PermissionRange) -> Result<Vec<Changed>, AuthError> {
        let granted = self.role_mut(role)?.remove(range);
        granted.ok_or(AuthError::PermissionNotGranted)?;
        Ok(self.changed_role(role))
    }

    fn user_mut(&mut self, name: &str) -> Result<&mut User, AuthError> {
        self.users.get_mut(name).ok_or(AuthError::UserNotFound)
    }

    fn role_mut(&mut self, name: &str) -> Result<&mut Role, AuthError> {
        self.roles.get_mut(name).ok_or(AuthError::RoleNotFound)
    }

    fn users_with(&self, role: &str) -> Vec<String> {
        let having = self.users.iter().filter(|(_, user)| user.roles.contains(role));
        having.map(|(name, _)| name.clone()).collect()
    }

    fn changed_user(&mut self, name: &str) -> Vec<Changed> {
        self.refresh(name);
        vec![Changed::User(name.to_owned())]
    }

    fn changed_role(&mut self, name: &str) -> Vec<Changed> {
        self.users_with(name).iter().for_each(|user| self.refresh(user));
        vec![Changed::Role(name.to_owned())]
    }

    /// Makes anew what a user may do.
    fn refresh(&mut self, name: &str) {
        let Some(user) = self.users.get(name) else {
            self.access.remove(name);
            return;
        };
        let granted = || {
            user.roles
                .iter()
                .filter_map(|role| self.roles.get(role))
                .flatten()
        };
        let access = Access {
            root: user.roles.contains(ROOT),
            read: Ranges::union(
                granted()
                    .filter(|(_, kind)| kind.reads())
                    .map(|(range, _)| range.keys()),
            ),
            write: Ranges::union(
                granted()
                    .filter(|(_, kind)| kind.writes())
                    .map(|(range, _)| range.keys()),
            ),
        };
        self.access.insert(name.to_owned(), access);
    }
}
