//! Users, roles and settings as facts: how the state is kept and comes back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::users::{Changed, Role, Settings};
use super::{Auth, AuthCommand, Permission, User};
use crate::{Effects, Error, Fact, FactKey, Response, State};

/// A part of users and roles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthFact {
    /// What is neither user nor role.
    Settings(Settings),
    /// A user.
    User {
        /// Its name.
        name: String,
        /// All else.
        user: User,
    },
    /// A role.
    Role {
        /// Its name.
        name: String,
        /// What it may do, in the order of the ranges.
        permissions: Vec<Permission>,
    },
}

/// What such a fact is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuthFactKey {
    /// What is neither user nor role.
    Settings,
    /// A user, by name.
    User(String),
    /// A role, by name.
    Role(String),
}

impl AuthFact {
    /// What it is about.
    pub(crate) fn key(&self) -> AuthFactKey {
        match self {
            AuthFact::Settings(_) => AuthFactKey::Settings,
            AuthFact::User { name, .. } => AuthFactKey::User(name.clone()),
            AuthFact::Role { name, .. } => AuthFactKey::Role(name.clone()),
        }
    }
}

impl AuthFactKey {
    /// The key for ordered storage, after the number that says that it is one.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            AuthFactKey::Settings => vec![1],
            AuthFactKey::User(name) => [&[2], name.as_bytes()].concat(),
            AuthFactKey::Role(name) => [&[3], name.as_bytes()].concat(),
        }
    }
}

fn role_fact(name: &str, role: &Role) -> AuthFact {
    let permission = |(range, &kind): (&super::PermissionRange, _)| Permission {
        kind,
        range: range.clone(),
    };
    AuthFact::Role {
        name: name.to_owned(),
        permissions: role.iter().map(permission).collect(),
    }
}

fn user_fact(name: &str, user: &User) -> AuthFact {
    AuthFact::User {
        name: name.to_owned(),
        user: user.clone(),
    }
}

impl Auth {
    /// All of it, in the order of the keys; nothing where nothing was ever changed.
    pub(crate) fn facts(&self) -> impl Iterator<Item = Fact> {
        let settings =
            (self.revision() != Auth::new().revision()).then(|| AuthFact::Settings(self.settings.clone()));
        let users = self.users.iter().map(|(name, user)| user_fact(name, user));
        let roles = self.roles.iter().map(|(name, role)| role_fact(name, role));
        settings.into_iter().chain(users).chain(roles).map(Fact::Auth)
    }

    /// The fact that a part is now; `None` where it is gone.
    fn fact(&self, changed: &Changed) -> Option<AuthFact> {
        match changed {
            Changed::Settings => Some(AuthFact::Settings(self.settings.clone())),
            Changed::User(name) => self.users.get(name).map(|user| user_fact(name, user)),
            Changed::Role(name) => self.roles.get(name).map(|role| role_fact(name, role)),
        }
    }
}

impl Changed {
    fn key(self) -> FactKey {
        FactKey::Auth(match self {
            Changed::Settings => AuthFactKey::Settings,
            Changed::User(name) => AuthFactKey::User(name),
            Changed::Role(name) => AuthFactKey::Role(name),
        })
    }
}

impl State {
    /// Changes users, roles, or whether they matter.
    pub(crate) fn change_auth(
        &mut self,
        command: &AuthCommand,
        effects: &mut Effects,
    ) -> Result<Response, Error> {
        for changed in self.auth.change(command)? {
            match self.auth.fact(&changed) {
                Some(fact) => effects.set(&Fact::Auth(fact)),
                None => effects.remove(&changed.key()),
            }
        }
        Ok(Response::Auth)
    }
}

/// Collects facts into an [`Auth`].
#[derive(Debug, Default)]
pub(crate) struct AuthRestorer {
    settings: Option<Settings>,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Role>,
}

impl AuthRestorer {
    /// Takes one; each comes once.
    pub(crate) fn push(&mut self, fact: AuthFact) {
        match fact {
            AuthFact::Settings(settings) => self.settings = Some(settings),
            AuthFact::User { name, user } => {
                self.users.insert(name, user);
            }
            AuthFact::Role { name, permissions } => {
                let role = permissions.into_iter().map(|p| (p.range, p.kind)).collect();
                self.roles.insert(name, role);
            }
        }
    }

    /// The whole; without settings, nothing was ever changed.
    pub(crate) fn finish(self) -> Auth {
        match self.settings {
            Some(settings) => Auth::of(settings, self.users, self.roles),
            None => Auth::new(),
        }
    }
}
