//! A tiny store with revisions, and known mistakes to switch on. It shares nothing with the model of the checkers.

use std::collections::BTreeMap;

use quorate_checkers::history::*;

/// What may be wrong with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// A linearizable read sees an old state.
    StaleRead,
    /// A write is acknowledged and forgotten; the next one gets its revision.
    LostWrite,
    /// A write takes effect twice.
    DoubleApply,
    /// A write is executed, and called a failure.
    FailureExecuted,
    /// Of a transaction with two puts only the first is executed.
    TornTxn,
    /// Compare-and-set does not compare.
    NoCompare,
    /// A serializable read of several keys mixes two states.
    MixedRead,
    /// A lock is given while another one has it.
    TwoOwners,
    /// A lease ends after half its time.
    EarlyLease,
    /// An acknowledged element of a set is not there.
    LostElement,
}

/// One revision.
pub(crate) struct Made {
    pub(crate) at_ns: u64,
    pub(crate) revision: u64,
    pub(crate) events: Vec<Event>,
}

pub(crate) struct Lease {
    pub(crate) ttl_s: u64,
    pub(crate) until_ns: u64,
}

pub(crate) struct Store {
    pub(crate) revision: u64,
    pub(crate) now: BTreeMap<String, KeyValue>,
    pub(crate) made: Vec<Made>,
    pub(crate) leases: BTreeMap<i64, Lease>,
    pub(crate) at_ns: u64,
    pub(crate) bug: Bug,
    /// The revision of a write that was forgotten, for its answer.
    pub(crate) forgotten: Option<u64>,
    /// How often the mistake was made.
    pub(crate) mistakes: u64,
}

impl Store {
    pub(crate) fn new(bug: Bug) -> Store {
        Store {
            revision: 1,
            now: BTreeMap::new(),
            made: Vec::new(),
            leases: BTreeMap::new(),
            at_ns: 0,
            bug,
            forgotten: None,
            mistakes: 0,
        }
    }

    /// The state after a revision.
    pub(crate) fn at(&self, revision: u64) -> BTreeMap<String, KeyValue> {
        let mut state = BTreeMap::new();
        for event in self
            .made
            .iter()
            .take_while(|made| made.revision <= revision)
            .flat_map(|made| &made.events)
        {
            match event {
                Event::Put { kv, .. } => state.insert(kv.key.clone(), kv.clone()),
                Event::Delete { key, .. } => state.remove(key),
            };
        }
        state
    }

    pub(crate) fn read(state: &BTreeMap<String, KeyValue>, keys: &Keys) -> Vec<KeyValue> {
        match keys {
            Keys::Key(key) => state.get(key).cloned().into_iter().collect(),
            Keys::Prefix(prefix) => {
                let from = state.range(prefix.clone()..);
                from.map(|(_, kv)| kv)
                    .take_while(|kv| kv.key.starts_with(prefix))
                    .cloned()
                    .collect()
            }
        }
    }

    pub(crate) fn holds(&self, compare: &Compare) -> bool {
        let kv = self.now.get(&compare.key);
        match &compare.is {
            Test::Value(value) => kv.is_some_and(|kv| kv.value == *value),
            Test::Version(version) => kv.map_or(0, |kv| kv.version) == *version,
            Test::CreateRevision(revision) => kv.map_or(0, |kv| kv.create_revision) == *revision,
            Test::ModRevision(revision) => kv.map_or(0, |kv| kv.mod_revision) == *revision,
        }
    }

    pub(crate) fn txn(&mut self, txn: &Txn) -> TxnReply {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &txn.then } else { &txn.otherwise };
        let revision = self.revision + 1;
        let mut events = Vec::new();
        let results = ops
            .iter()
            .map(|op| match op {
                Op::Read(keys) => OpReply::Read(Store::read(&self.now, keys)),
                Op::Put { key, value, lease } => {
                    events.push(self.put(key, value, *lease, revision));
                    OpReply::Put
                }
                Op::Delete(keys) => {
                    let there = Store::read(&self.now, keys);
                    events.extend(there.iter().map(|kv| self.delete(&kv.key, revision)));
                    OpReply::Delete(there.len() as u64)
                }
            })
            .collect();
        self.commit(events);
        TxnReply { succeeded, results }
    }

    fn put(&mut self, key: &str, value: &str, lease: Option<i64>, revision: u64) -> Event {
        let prev = self.now.get(key).cloned();
        let kv = KeyValue {
            key: key.into(),
            value: value.into(),
            create_revision: prev.as_ref().map_or(revision, |prev| prev.create_revision),
            mod_revision: revision,
            version: prev.as_ref().map_or(1, |prev| prev.version + 1),
            lease,
        };
        self.now.insert(key.into(), kv.clone());
        Event::Put { kv, prev }
    }

    fn delete(&mut self, key: &str, revision: u64) -> Event {
        Event::Delete {
            key: key.into(),
            revision,
            prev: self.now.remove(key),
        }
    }

    fn commit(&mut self, events: Vec<Event>) {
        if !events.is_empty() {
            self.revision += 1;
            self.made.push(Made {
                at_ns: self.at_ns,
                revision: self.revision,
                events,
            });
        }
    }

    /// Ends the leases whose time is over.
    pub(crate) fn expire(&mut self) {
        let half = |lease: &Lease| {
            if self.bug == Bug::EarlyLease {
                lease.ttl_s * 500_000_000
            } else {
                0
            }
        };
        let over = |lease: &Lease| lease.until_ns.saturating_sub(half(lease)) <= self.at_ns;
        let ended: Vec<i64> = self
            .leases
            .iter()
            .filter(|(_, lease)| over(lease))
            .map(|(id, _)| *id)
            .collect();
        for lease in ended {
            if self.leases[&lease].until_ns > self.at_ns {
                self.mistakes += 1;
            }
            self.end_lease(lease);
        }
    }

    pub(crate) fn end_lease(&mut self, lease: i64) {
        self.leases.remove(&lease);
        let attached: Vec<String> = self
            .now
            .values()
            .filter(|kv| kv.lease == Some(lease))
            .map(|kv| kv.key.clone())
            .collect();
        let revision = self.revision + 1;
        let events = attached.iter().map(|key| self.delete(key, revision)).collect();
        self.commit(events);
    }

    /// Undoes the last revision, as a store does that forgot it.
    pub(crate) fn forget_last(&mut self) {
        self.made.pop();
        self.revision -= 1;
        self.now = self.at(self.revision);
    }
}
