//! Replicated state that is no key-value record: facts.
//!
//! A fact has a key and one current value, without history: a lease, the cluster's clock. Facts change only by
//! commands, are made durable with the applied index that they belong to, travel in snapshots, and go back
//! into the state through [`crate::Restorer::push_fact`]. The store keeps their bytes and never looks into
//! them.
//!
//! A new kind of fact is a variant of [`FactKey`] and of [`Fact`], added at the end (its number is on disk);
//! [`crate::State::facts`] lists it and [`crate::Restorer::push_fact`] takes it back.

use bincode::Options;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::alarm::{Alarm, AlarmKind};
use crate::auth::{AuthFact, AuthFactKey};
use crate::lease::LeaseTerm;

/// The longest encoding of a fact's value.
pub const FACT_BYTES_MAX: u64 = 16 << 20;

/// What a fact is about. The order of keys is that of their bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FactKey {
    /// The cluster's clock.
    Clock,
    /// A lease, by its id.
    Lease(i64),
    /// Users and roles.
    Auth(AuthFactKey),
    /// An alarm, by its member and what is wrong with it.
    Alarm(u64, AlarmKind),
}

const CLOCK: u8 = 1;
const LEASE: u8 = 2;
const AUTH: u8 = 3;
const ALARM: u8 = 4;
/// Turned over, so that negative numbers come first.
const SIGN: u64 = 1 << 63;

impl FactKey {
    /// The key for ordered storage.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            FactKey::Clock => Bytes::from_static(&[CLOCK]),
            FactKey::Lease(id) => {
                let mut bytes = [LEASE; 9];
                bytes[1..].copy_from_slice(&(id.cast_unsigned() ^ SIGN).to_be_bytes());
                Bytes::copy_from_slice(&bytes)
            }
            FactKey::Auth(key) => [&[AUTH], &key.to_bytes()[..]].concat().into(),
            FactKey::Alarm(member_id, kind) => {
                let mut bytes = [ALARM; 10];
                bytes[1..9].copy_from_slice(&member_id.to_be_bytes());
                bytes[9] = *kind as u8;
                Bytes::copy_from_slice(&bytes)
            }
        }
    }
}

/// One fact, with what it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// The cluster's clock, see [`crate::State::clock_ms`].
    Clock {
        /// The latest stamp, in milliseconds.
        ms: u64,
    },
    /// A lease that exists.
    Lease {
        /// Its id, not 0.
        id: i64,
        /// How long it was granted for, and until when.
        term: LeaseTerm,
    },
    /// A part of users and roles.
    Auth(AuthFact),
    /// An alarm that is raised.
    Alarm(Alarm),
}

/// Stored bytes are no fact, or not the one that their key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored fact cannot be read")]
pub struct UnreadableFact;

fn options() -> impl Options {
    bincode::DefaultOptions::new()
        .with_limit(FACT_BYTES_MAX)
        .reject_trailing_bytes()
}

impl Fact {
    /// What it is about.
    pub fn key(&self) -> FactKey {
        match self {
            Fact::Clock { .. } => FactKey::Clock,
            Fact::Lease { id, .. } => FactKey::Lease(*id),
            Fact::Auth(fact) => FactKey::Auth(fact.key()),
            Fact::Alarm(alarm) => FactKey::Alarm(alarm.member_id, alarm.kind),
        }
    }

    /// Its bytes, the same on every node.
    pub fn to_bytes(&self) -> Bytes {
        let bytes = options().serialize(self);
        bytes
            .expect("commands that would make a fact too long are refused")
            .into()
    }

    /// Reads back what [`Fact::to_bytes`] wrote under [`FactKey::to_bytes`].
    ///
    /// # Errors
    /// [`UnreadableFact`] where they cannot have written it.
    pub fn from_bytes(key: &[u8], value: &[u8]) -> Result<Fact, UnreadableFact> {
        let fact: Fact = options().deserialize(value).map_err(|_| UnreadableFact)?;
        if fact.key().to_bytes() == key && fact.to_bytes() == value {
            Ok(fact)
        } else {
            Err(UnreadableFact)
        }
    }
}

/// A fact that changed, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactChange {
    /// [`FactKey::to_bytes`].
    pub key: Bytes,
    /// [`Fact::to_bytes`]; `None` where the fact is gone.
    pub value: Option<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: i64) -> Fact {
        let term = LeaseTerm {
            ttl_s: 60,
            expires_at_ms: 61_000,
        };
        Fact::Lease { id, term }
    }

    #[test]
    fn keys_keep_their_order() {
        let keys = [
            FactKey::Clock,
            FactKey::Lease(i64::MIN),
            FactKey::Lease(-1),
            FactKey::Lease(1),
            FactKey::Lease(i64::MAX),
            FactKey::Alarm(1, AlarmKind::NoSpace),
            FactKey::Alarm(1, AlarmKind::Corrupt),
            FactKey::Alarm(u64::MAX, AlarmKind::NoSpace),
        ];
        assert!(keys.is_sorted());
        assert!(keys.iter().map(FactKey::to_bytes).is_sorted());
    }

    #[test]
    fn facts_come_back_and_only_under_their_key() {
        for fact in [Fact::Clock { ms: 1 << 50 }, lease(7), lease(-7)] {
            let (key, value) = (fact.key().to_bytes(), fact.to_bytes());
            assert_eq!(Fact::from_bytes(&key, &value), Ok(fact));
            assert!(Fact::from_bytes(&FactKey::Lease(8).to_bytes(), &value).is_err());
            assert!(Fact::from_bytes(&key, &value[1..]).is_err());
            assert!(Fact::from_bytes(&key, &[&value[..], &[0]].concat()).is_err());
        }
    }
}
