//! Passwords and tokens: how a client shows who it is. What it may do then is decided in `kv_core::Auth`.
//!
//! A password is checked once, for a token; a request carries the token. Promised: every node takes the tokens
//! of every other; a token ends after its TTL, when its user's password is changed or the user deleted, and when
//! authentication is turned off; a plain password reaches neither log nor disk.

mod duration;
mod jwt;
mod options;
mod passwords;
mod simple;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use kv_core::{AuthError, Caller, PasswordHash, Secret};
use kv_store::Store;

pub use jwt::{Jwt, JwtError};
pub use options::{TokenKind, TokenOptions, TokenOptionsError};
pub use passwords::{PasswordError, Passwords};

/// Tells the time since 1970. A token's end is a time of day, as all nodes have to read it: they need clocks
/// that agree to within a small part of a TTL.
pub type UnixClock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The system's clock; 0 where it stands before 1970, so that no token is over that need not be.
pub fn system_clock() -> UnixClock {
    Arc::new(|| SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
}

/// Who a token is for, and since when it is known that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The user's name.
    pub name: String,
    /// The auth revision at which the user showed its password.
    pub revision: u64,
}

/// Why there is no token to be had here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node can only verify tokens, not sign them")]
pub struct VerifyOnly;

/// Makes and reads tokens.
#[derive(Debug, Clone)]
pub enum Tokens {
    /// Of this cluster alone, made with the secret that all nodes share.
    Simple {
        /// How long a token lasts.
        ttl: Duration,
    },
    /// Made with a key that others may have too.
    Jwt(Box<Jwt>),
}

impl Tokens {
    /// A token for a user who has shown its password.
    ///
    /// # Errors
    /// [`VerifyOnly`] without a key to sign with.
    pub fn issue(&self, bearer: &Bearer, secret: &Secret, now: Duration) -> Result<String, VerifyOnly> {
        match self {
            Tokens::Simple { ttl } => Ok(simple::issue(bearer, secret, now + *ttl)),
            Tokens::Jwt(jwt) => jwt.issue(bearer, now),
        }
    }

    /// Who the token is for; `None` where it was not made here or is over. `now` is the time since 1970.
    pub fn verify(&self, token: &[u8], secret: &Secret, now: Duration) -> Option<Bearer> {
        match self {
            Tokens::Simple { .. } => simple::verify(token, secret, now),
            Tokens::Jwt(jwt) => jwt.verify(token, now),
        }
    }
}

/// Why somebody was not logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Not the right password, or authentication is off.
    #[error(transparent)]
    Refused(#[from] AuthError),
    /// The password was not looked at.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The password is right, and there is no token to be had here.
    #[error(transparent)]
    VerifyOnly(#[from] VerifyOnly),
}

/// A node's way to find out who asks. Clones share the bounds.
#[derive(Clone)]
pub struct Authenticator {
    tokens: Tokens,
    passwords: Passwords,
    certificates: bool,
    now: UnixClock,
}

impl Authenticator {
    /// As the options say, by this clock.
    ///
    /// # Errors
    /// See [`JwtError`].
    pub fn new(options: &TokenOptions, now: UnixClock) -> Result<Authenticator, JwtError> {
        Ok(Authenticator {
            tokens: options.open()?,
            passwords: Passwords::default(),
            certificates: options.client_certificates,
            now,
        })
    }

    /// Who shows a certificate with this common name, which was verified. No change of a password ends that.
    pub fn certified(&self, common_name: &str) -> Caller {
        if !self.certificates {
            return Caller::Anonymous;
        }
        Caller::User {
            name: common_name.to_owned(),
            revision: u64::MAX,
        }
    }

    /// Who shows a token; `None` while authentication is off, by what the store has applied.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`].
    pub fn caller(&self, store: &Store, token: &[u8]) -> Result<Option<Caller>, AuthError> {
        let Some(secret) = store.auth(|auth| auth.secret().copied()) else {
            return Ok(None);
        };
        let bearer = self.tokens.verify(token, &secret, (self.now)());
        let Bearer { name, revision } = bearer.ok_or(AuthError::InvalidToken)?;
        store.auth(|auth| auth.caller(&name, revision)).map(Some)
    }

    /// A token for a user and its password, by what the store has applied.
    ///
    /// # Errors
    /// See [`LoginError`]; whether the user or the password is wrong cannot be told apart, also not by the time
    /// that it takes.
    pub async fn login(&self, store: &Store, name: String, password: String) -> Result<String, LoginError> {
        let (secret, revision, hashed) = store.auth(|auth| {
            let hashed = auth.user(&name).and_then(|user| user.password.clone());
            (auth.secret().copied(), auth.revision(), hashed)
        });
        let secret = secret.ok_or(AuthError::NotEnabled)?;
        if !self.passwords.verify(password, hashed).await? {
            return Err(AuthError::Failed.into());
        }
        // Of the revision at which the password was right: if it was changed since, the token is over.
        Ok(self
            .tokens
            .issue(&Bearer { name, revision }, &secret, (self.now)())?)
    }

    /// What a new password can be checked with. The empty password is none: nobody can log in with it.
    ///
    /// # Errors
    /// See [`PasswordError`].
    pub async fn hash(&self, password: String) -> Result<Option<PasswordHash>, PasswordError> {
        if password.is_empty() {
            return Ok(None);
        }
        self.passwords.hash(password).await.map(Some)
    }
}
