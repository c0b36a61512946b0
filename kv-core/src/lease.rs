//! Leases: keys that live as long as somebody renews.
//!
//! Time is the cluster's clock: milliseconds that advance only by the stamps of commands, so that every node
//! agrees on it and it never goes back. A lease is over when the clock has reached its end *and* a
//! [`crate::LeaseExpire`] that names it is applied; a renewal that the log has first saves it. Which key is
//! attached to which lease is not stored: the key's record says it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::fact::{Fact, FactKey};
use crate::key::Key;
use crate::write::Writer;
use crate::{
    Effects, Error, LeaseExpire, LeaseGrant, LeaseRenew, LeaseRevoke, Record, Response, RestoreError, State,
    Values,
};

/// How long a lease was granted for, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTerm {
    /// What a renewal gives, in seconds.
    pub ttl_s: i64,
    /// When it ends, by the cluster's clock in milliseconds.
    pub expires_at_ms: u64,
}

impl LeaseTerm {
    /// The shortest TTL in seconds; a shorter one that is asked for becomes this, as in etcd with its default
    /// election timeout.
    pub const TTL_S_MIN: i64 = 2;
    /// The longest TTL in seconds that may be asked for, as in etcd.
    pub const TTL_S_MAX: i64 = 9_000_000_000;

    fn new(ttl_s: i64, clock_ms: u64) -> LeaseTerm {
        let ttl_s = ttl_s.clamp(Self::TTL_S_MIN, Self::TTL_S_MAX);
        LeaseTerm {
            ttl_s,
            expires_at_ms: clock_ms.saturating_add(ttl_s.unsigned_abs() * 1000),
        }
    }
}

/// A lease and the keys attached to it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lease {
    term: LeaseTerm,
    keys: BTreeSet<Key>,
}

/// All leases, and the clock they go by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leases {
    clock_ms: u64,
    by_id: BTreeMap<i64, Lease>,
    /// By their end, the next one first.
    by_end: BTreeSet<(u64, i64)>,
    /// The keys attached to any.
    attached: BTreeMap<Key, i64>,
}

impl Leases {
    pub(crate) fn exists(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    /// The clock advances to a stamp, unless it is past it.
    fn tick(&mut self, now_ms: u64, effects: &mut Effects) {
        if now_ms > self.clock_ms {
            self.clock_ms = now_ms;
            effects.set(&Fact::Clock { ms: now_ms });
        }
    }

    fn insert(&mut self, id: i64, term: LeaseTerm) {
        let keys = BTreeSet::new();
        assert!(
            self.by_id.insert(id, Lease { term, keys }).is_none(),
            "lease {id} is made twice"
        );
        self.by_end.insert((term.expires_at_ms, id));
    }

    fn remove(&mut self, id: i64, effects: &mut Effects) {
        let lease = self
            .by_id
            .remove(&id)
            .expect("only what was found to exist is removed");
        assert!(lease.keys.is_empty(), "the keys of lease {id} go before it");
        self.by_end.remove(&(lease.term.expires_at_ms, id));
        effects.remove(&FactKey::Lease(id));
    }

    /// Starts the lease's TTL anew; the TTL, or 0 where there is no such lease, as etcd answers.
    fn renew(&mut self, id: i64, effects: &mut Effects) -> i64 {
        let Some(lease) = self.by_id.get_mut(&id) else {
            return 0;
        };
        let term = LeaseTerm::new(lease.term.ttl_s, self.clock_ms);
        if term != lease.term {
            self.by_end.remove(&(lease.term.expires_at_ms, id));
            self.by_end.insert((term.expires_at_ms, id));
            lease.term = term;
            effects.set(&Fact::Lease { id, term });
        }
        term.ttl_s
    }

    /// What a written record says about its key's lease.
    pub(crate) fn follow(&mut self, record: &Record) {
        match record {
            Record::Put(kv) => self.attach(&kv.key, kv.lease),
            Record::Delete { key } => self.attach(key, 0),
        }
    }

    /// The key is now attached to this lease, and to no other; 0 for none.
    fn attach(&mut self, key: &[u8], lease: i64) {
        let former = match self.attached.get_mut(key) {
            Some(id) if *id == lease => return,
            Some(_) if lease == 0 => self.attached.remove(key),
            Some(id) => Some(std::mem::replace(id, lease)),
            None if lease == 0 => return,
            None => self.attached.insert(key.into(), lease),
        };
        if let Some(former) = former {
            let former = self.by_id.get_mut(&former);
            former.expect("a key's lease exists").keys.remove(key);
        }
        if lease != 0 {
            let lease = self.by_id.get_mut(&lease);
            lease
                .expect("a put names a lease that exists")
                .keys
                .insert(key.into());
        }
    }

    pub(crate) fn facts(&self) -> impl Iterator<Item = Fact> {
        let clock = (self.clock_ms > 0).then_some(Fact::Clock { ms: self.clock_ms });
        let leases = self
            .by_id
            .iter()
            .map(|(&id, lease)| Fact::Lease { id, term: lease.term });
        clock.into_iter().chain(leases)
    }

    pub(crate) fn restore_clock(&mut self, ms: u64) {
        self.clock_ms = ms;
    }

    /// Takes a stored lease back; each comes once.
    pub(crate) fn restore(&mut self, id: i64, term: LeaseTerm) {
        self.insert(id, term);
    }

    /// Takes back which keys are attached to which lease, after all leases.
    pub(crate) fn restore_attached(&mut self, attached: BTreeMap<Key, i64>) -> Result<(), RestoreError> {
        for (key, id) in &attached {
            let lease = self.by_id.get_mut(id);
            let lease = lease.ok_or(RestoreError::UnknownLease { lease: *id })?;
            lease.keys.insert(key.clone());
        }
        self.attached = attached;
        Ok(())
    }
}

impl State {
    /// The cluster's clock: the latest stamp of a command, in milliseconds. It means nothing outside the
    /// cluster.
    pub fn clock_ms(&self) -> u64 {
        self.leases.clock_ms
    }

    /// The lease, if there is one with this id.
    pub fn lease(&self, id: i64) -> Option<LeaseTerm> {
        self.leases.by_id.get(&id).map(|lease| lease.term)
    }

    /// The keys attached to a lease, in key order; none where there is no such lease.
    pub fn lease_keys(&self, id: i64) -> impl Iterator<Item = &[u8]> {
        let lease = self.leases.by_id.get(&id);
        lease
            .into_iter()
            .flat_map(|lease| lease.keys.iter().map(Key::as_slice))
    }

    /// The ids of all leases, ascending.
    pub fn leases(&self) -> impl ExactSizeIterator<Item = i64> {
        self.leases.by_id.keys().copied()
    }

    /// When leases end, by the cluster's clock in milliseconds, and their ids: the next one first.
    pub fn lease_ends(&self) -> impl Iterator<Item = (u64, i64)> {
        self.leases.by_end.iter().copied()
    }

    /// etcd looks at the TTL before it looks whether the id is taken; [`crate::Command::validate`] does the former.
    pub(crate) fn lease_grant(
        &mut self,
        grant: &LeaseGrant,
        effects: &mut Effects,
    ) -> Result<Response, Error> {
        if self.leases.exists(grant.id) {
            return Err(Error::LeaseExists);
        }
        self.leases.tick(grant.now_ms, effects);
        let term = LeaseTerm::new(grant.ttl_s, self.leases.clock_ms);
        self.leases.insert(grant.id, term);
        effects.set(&Fact::Lease { id: grant.id, term });
        Ok(Response::LeaseGrant {
            id: grant.id,
            ttl_s: term.ttl_s,
        })
    }

    pub(crate) fn lease_renew(&mut self, renew: &LeaseRenew, effects: &mut Effects) -> Response {
        self.leases.tick(renew.now_ms, effects);
        let ttls_s = renew.ids.iter().map(|&id| self.leases.renew(id, effects));
        Response::LeaseRenew {
            ttls_s: ttls_s.collect(),
        }
    }

    pub(crate) fn lease_revoke<V: Values>(
        &mut self,
        view: &V,
        revoke: &LeaseRevoke,
        effects: &mut Effects,
    ) -> Result<Response, Error> {
        if !self.leases.exists(revoke.id) {
            return Err(Error::LeaseNotFound);
        }
        self.end_lease(view, revoke.id, effects);
        Ok(Response::LeaseRevoke)
    }

    pub(crate) fn lease_expire<V: Values>(
        &mut self,
        view: &V,
        expire: &LeaseExpire,
        effects: &mut Effects,
    ) -> Response {
        self.leases.tick(expire.now_ms, effects);
        let mut expired = Vec::new();
        for &id in &expire.ids {
            let lease = self.lease(id);
            #[cfg(feature = "planted")]
            let lease = lease.map(|lease| LeaseTerm {
                expires_at_ms: if quorate_planted::is("lease-ended-by-stale-list") {
                    0
                } else {
                    lease.expires_at_ms
                },
                ..lease
            });
            if lease.is_some_and(|lease| lease.expires_at_ms <= self.leases.clock_ms) {
                self.end_lease(view, id, effects);
                expired.push(id);
            }
        }
        Response::LeaseExpire { expired }
    }

    /// Deletes the lease's keys, in key order and at one revision, and the lease.
    fn end_lease<V: Values>(&mut self, view: &V, id: i64, effects: &mut Effects) {
        let keys: Vec<Key> = self.leases.by_id[&id].keys.iter().cloned().collect();
        let mut writer = Writer::new(self, view, effects);
        writer.delete_keys(&keys);
        writer.commit();
        self.leases.remove(id, effects);
    }
}
