//! The state out of the records of a store, at start.

use std::collections::BTreeMap;

use crate::alarm::Alarms;
use crate::auth::AuthRestorer;
use crate::fact::{Fact, FactKey};
use crate::history::Point;
use crate::index::Index;
use crate::key::Key;
use crate::lease::Leases;
use crate::{RecordHead, Revision, State};

/// Why records and stored numbers do not make a state. The store is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Records must come in the order of their revisions, each once.
    #[error("record {at:?} comes after record {last:?}")]
    OutOfOrder {
        /// The record before.
        last: Revision,
        /// The record that came.
        at: Revision,
    },
    /// No command can have written such a record.
    #[error("record {at:?} is impossible: created at {create_revision}, version {version}")]
    Impossible {
        /// The record that came.
        at: Revision,
        /// The creation revision that it says.
        create_revision: i64,
        /// The version that it says.
        version: i64,
    },
    /// There is a record above the stored current revision.
    #[error("record {at:?} is above the stored revision {revision}")]
    AboveRevision {
        /// The last record.
        at: Revision,
        /// The stored revision.
        revision: i64,
    },
    /// The stored numbers contradict each other.
    #[error("stored revision {revision} and compacted revision {compacted} are impossible")]
    ImpossibleNumbers {
        /// The stored revision.
        revision: i64,
        /// The stored compacted revision.
        compacted: i64,
    },
    /// Facts must come in the order of their keys, each once.
    #[error("fact {at:?} is out of order")]
    FactOutOfOrder {
        /// The fact that came.
        at: FactKey,
    },
    /// A key is attached to a lease that there is no fact of.
    #[error("a key is attached to lease {lease}, which is missing")]
    UnknownLease {
        /// The lease.
        lease: i64,
    },
}

/// The largest revision and version that is taken back. No cluster comes this far, and from here there is room to count
/// on without an end.
const NUMBER_MAX: i64 = i64::MAX / 2;

/// Builds a [`State`] from records that come one by one, in the order of their revisions, and facts, in the order
/// of their keys.
///
/// Records that a sweep had yet to delete may be among them; what they say no read can reach. The sweep
/// starts anew after a restart.
#[derive(Debug)]
pub struct Restorer {
    index: Index,
    last: Revision,
    last_fact: Option<FactKey>,
    auth: AuthRestorer,
    leases: Leases,
    alarms: Alarms,
    attached: BTreeMap<Key, i64>,
}

impl Default for Restorer {
    fn default() -> Self {
        Restorer::new()
    }
}

impl Restorer {
    /// Nothing restored yet.
    pub fn new() -> Restorer {
        Restorer {
            index: Index::default(),
            last: Revision {
                main: State::FIRST_REVISION,
                sub: i64::MAX,
            },
            last_fact: None,
            auth: AuthRestorer::default(),
            leases: Leases::default(),
            alarms: Alarms::default(),
            attached: BTreeMap::new(),
        }
    }

    /// Takes the next record, see [`crate::Record::head`].
    ///
    /// # Errors
    /// Where the record is out of order or cannot be one.
    pub fn push(&mut self, at: Revision, head: RecordHead<'_>) -> Result<(), RestoreError> {
        if at <= self.last {
            return Err(RestoreError::OutOfOrder { last: self.last, at });
        }
        let (key, point) = match head {
            RecordHead::Put {
                key,
                create_revision,
                version,
                value_bytes,
                lease,
            } => {
                let possible = create_revision > State::FIRST_REVISION
                    && create_revision <= at.main
                    && (1..=NUMBER_MAX).contains(&version);
                if !possible || !is_sub(at.sub) {
                    return Err(RestoreError::Impossible {
                        at,
                        create_revision,
                        version,
                    });
                }
                self.attach(key, lease);
                let bytes = key.len().saturating_add(value_bytes);
                (key, Point::put(at, create_revision, version, bytes))
            }
            RecordHead::Delete { key } => {
                if !is_sub(at.sub) {
                    return Err(RestoreError::Impossible {
                        at,
                        create_revision: 0,
                        version: 0,
                    });
                }
                self.attach(key, 0);
                (key, Point::deletion(at, key.len()))
            }
        };
        self.index.restore(key, point);
        self.last = at;
        Ok(())
    }

    fn attach(&mut self, key: &[u8], lease: i64) {
        if lease != 0 {
            self.attached.insert(key.into(), lease);
        } else if !self.attached.is_empty() {
            self.attached.remove(key);
        }
    }

    /// Takes the next fact, see [`State::facts`]; before, after or between the records.
    ///
    /// # Errors
    /// Where the fact is out of order.
    pub fn push_fact(&mut self, fact: Fact) -> Result<(), RestoreError> {
        let key = fact.key();
        if self.last_fact.as_ref().is_some_and(|last| *last >= key) {
            return Err(RestoreError::FactOutOfOrder { at: key });
        }
        self.last_fact = Some(key);
        match fact {
            Fact::Clock { ms } => self.leases.restore_clock(ms),
            Fact::Lease { id, term } => self.leases.restore(id, term),
            Fact::Auth(fact) => self.auth.push(fact),
            Fact::Alarm(alarm) => self.alarms.restore(alarm),
        }
        Ok(())
    }

    /// Ends with the stored revision and compacted revision ([`State::revision`], [`State::compacted`]).
    ///
    /// # Errors
    /// Where they do not belong to each other or to the records.
    pub fn finish(mut self, revision: i64, compacted: i64) -> Result<State, RestoreError> {
        let possible = (State::FIRST_REVISION..=NUMBER_MAX).contains(&revision)
            && (State::NEVER_COMPACTED..=revision).contains(&compacted);
        if !possible {
            return Err(RestoreError::ImpossibleNumbers { revision, compacted });
        }
        if self.last.main > revision {
            return Err(RestoreError::AboveRevision {
                at: self.last,
                revision,
            });
        }
        self.leases.restore_attached(self.attached)?;
        Ok(State {
            index: self.index,
            revision,
            compacted,
            auth: self.auth.finish(),
            leases: self.leases,
            alarms: self.alarms,
        })
    }
}

/// Whether a transaction can have had that many writes.
fn is_sub(sub: i64) -> bool {
    u32::try_from(sub).is_ok()
}

impl State {
    /// Builds a state from records in the order of their revisions, the stored revision and compacted
    /// revision; see [`Restorer`].
    ///
    /// # Errors
    /// Where these cannot be what a store kept.
    pub fn restore<'a>(
        revision: i64,
        compacted: i64,
        records: impl IntoIterator<Item = (Revision, RecordHead<'a>)>,
    ) -> Result<State, RestoreError> {
        let mut restorer = Restorer::new();
        for (at, head) in records {
            restorer.push(at, head)?;
        }
        restorer.finish(revision, compacted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(main: i64, sub: i64) -> Revision {
        Revision { main, sub }
    }

    fn put(create_revision: i64, version: i64) -> RecordHead<'static> {
        RecordHead::Put {
            key: b"a",
            create_revision,
            version,
            value_bytes: 1,
            lease: 0,
        }
    }

    #[test]
    fn refuses_what_cannot_be() {
        let restore = |revision, compacted, records: &[(Revision, RecordHead<'static>)]| {
            State::restore(revision, compacted, records.iter().copied())
        };
        assert!(restore(3, -1, &[(at(2, 0), put(2, 1)), (at(3, 0), put(2, 2))]).is_ok());
        let again = restore(3, -1, &[(at(2, 0), put(2, 1)), (at(2, 0), put(2, 1))]);
        assert_eq!(
            again,
            Err(RestoreError::OutOfOrder {
                last: at(2, 0),
                at: at(2, 0)
            })
        );
        let first = restore(3, -1, &[(at(1, 0), put(1, 1))]);
        assert!(matches!(first, Err(RestoreError::OutOfOrder { .. })));
        let unborn = restore(3, -1, &[(at(2, 0), put(3, 1))]);
        assert_eq!(
            unborn,
            Err(RestoreError::Impossible {
                at: at(2, 0),
                create_revision: 3,
                version: 1
            })
        );
        let unversioned = restore(3, -1, &[(at(2, 0), put(2, 0))]);
        assert!(matches!(unversioned, Err(RestoreError::Impossible { .. })));
        let countless = restore(3, -1, &[(at(2, 0), put(2, i64::MAX))]);
        assert!(matches!(countless, Err(RestoreError::Impossible { .. })));
        let sub = restore(3, -1, &[(at(2, 1 << 32), RecordHead::Delete { key: b"a" })]);
        assert!(matches!(sub, Err(RestoreError::Impossible { .. })));
        let above = restore(2, -1, &[(at(3, 0), put(3, 1))]);
        assert_eq!(
            above,
            Err(RestoreError::AboveRevision {
                at: at(3, 0),
                revision: 2
            })
        );
        for (revision, compacted) in [(0, -1), (1, 2), (1, -2), (i64::MAX, -1)] {
            let numbers = restore(revision, compacted, &[]);
            assert_eq!(
                numbers,
                Err(RestoreError::ImpossibleNumbers { revision, compacted })
            );
        }
    }
}
