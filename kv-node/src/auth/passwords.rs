//! Passwords: hashed with Argon2id, off the threads that serve requests, few at a time.

use std::sync::{Arc, LazyLock};

use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use kv_core::PasswordHash;
use tokio::sync::Semaphore;

/// Hashes under way at a time: each takes 19 MiB and a core for some tens of milliseconds.
const HASHES_MAX: usize = 2;
/// Hashes that may wait for their turn; beyond it: `etcdserver: too many requests`.
const WAITING_MAX: usize = 128;

/// Why a password was not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too many are waiting.
    #[error("too many passwords to check")]
    TooMany,
    /// The system gave no random salt, or no thread.
    #[error("passwords cannot be hashed on this node")]
    Unavailable,
}

/// Hashes and checks passwords. Clones share the bounds.
#[derive(Debug, Clone)]
pub struct Passwords {
    waiting: Arc<Semaphore>,
    hashing: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Passwords {
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            hashing: Arc::new(Semaphore::new(HASHES_MAX)),
        }
    }
}

impl Passwords {
    /// What the password can be checked with, in PHC form with its own salt.
    ///
    /// # Errors
    /// See [`PasswordError`].
    pub async fn hash(&self, password: String) -> Result<PasswordHash, PasswordError> {
        let hash = self.work(move || hash(&password)).await?;
        hash.ok_or(PasswordError::Unavailable)
    }

    /// Whether the password is the one that was hashed. Without a hash it is not, and to find that out takes as
    /// long, so that nobody learns which users there are.
    ///
    /// # Errors
    /// See [`PasswordError`].
    pub async fn verify(
        &self,
        password: String,
        hashed: Option<PasswordHash>,
    ) -> Result<bool, PasswordError> {
        self.work(move || match hashed {
            Some(hashed) => is(&password, &hashed),
            None => {
                is(&password, &NOBODYS);
                false
            }
        })
        .await
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let _waiting = self.waiting.try_acquire().map_err(|_| PasswordError::TooMany)?;
        // The semaphore is never closed. The permit goes with the work, which goes on where a client has left.
        let permit = self.hashing.clone().acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        done.await.map_err(|_| PasswordError::Unavailable)
    }
}

/// A hash for users that do not exist or have no password, of a password that nobody knows.
static NOBODYS: LazyLock<PasswordHash> = LazyLock::new(|| {
    let password: [u8; 32] = rand::random();
    hash(&blake3::hash(&password).to_hex()).unwrap_or(PasswordHash(String::new()))
});

fn hash(password: &str) -> Option<PasswordHash> {
    let salt: [u8; 16] = rand::random();
    let hash = Argon2::default().hash_password_with_salt(password.as_bytes(), &salt);
    hash.ok().map(|hash| PasswordHash(hash.to_string()))
}

/// Compares in constant time, with the parameters that the hash names.
fn is(password: &str, hashed: &PasswordHash) -> bool {
    Argon2::default()
        .verify_password(password.as_bytes(), hashed.0.as_str())
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_same_password() {
        let passwords = Passwords::default();
        let hashed = passwords.hash("correct horse".into()).await.unwrap();
        assert!(
            hashed.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{}",
            hashed.0
        );
        assert_ne!(passwords.hash("correct horse".into()).await.unwrap(), hashed);
        let is = async |password: &str, hashed| passwords.verify(password.into(), hashed).await.unwrap();
        assert!(is("correct horse", Some(hashed.clone())).await);
        assert!(!is("correct horse ", Some(hashed.clone())).await);
        assert!(!is("", Some(hashed)).await);
        assert!(!is("correct horse", None).await);
        assert!(!is("", Some(PasswordHash("no hash".into()))).await);
    }

    #[tokio::test]
    async fn refuses_more_than_may_wait() {
        let passwords = Passwords::default();
        let _all = passwords.waiting.clone().try_acquire_many_owned(128).unwrap();
        assert_eq!(passwords.hash("x".into()).await, Err(PasswordError::TooMany));
    }
}
