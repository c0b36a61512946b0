//! What a store does for the state machine, in memory.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use kv_core::{ApplyView, Command, KeyValue, Outcome, Record, Restorer, Revision, State, Swept, Values};

/// The records, the leases, and reads that can be made to fail.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) records: BTreeMap<Revision, Record>,
    pub(crate) leases: BTreeSet<i64>,
    /// How many reads succeed before one fails; `None` for all.
    pub(crate) reads_left: Cell<Option<u32>>,
}

/// A read that the disk refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable(pub(crate) Revision);

impl Values for Disk {
    type Error = Unreadable;

    fn get(&self, at: Revision) -> Result<KeyValue, Unreadable> {
        match self.reads_left.get() {
            Some(0) => return Err(Unreadable(at)),
            Some(left) => self.reads_left.set(Some(left - 1)),
            None => {}
        }
        match self.records.get(&at) {
            Some(Record::Put(kv)) => Ok(kv.clone()),
            record => panic!("{at:?} was asked for, which is {record:?}"),
        }
    }
}

impl ApplyView for Disk {
    fn has_lease(&self, lease: i64) -> bool {
        self.leases.contains(&lease)
    }
}

impl Disk {
    /// Applies a command and keeps what it wrote.
    pub(crate) fn apply(&mut self, state: &mut State, command: &Command) -> Outcome {
        let mut writes = Vec::new();
        let outcome = state
            .apply(self, command, &mut writes)
            .expect("the disk reads everything");
        for (at, record) in writes {
            assert!(
                self.records.insert(at, record).is_none(),
                "{at:?} is written twice"
            );
        }
        outcome
    }

    /// Deletes what a sweep dropped.
    pub(crate) fn delete(&mut self, swept: &Swept) {
        for at in &swept.dropped {
            assert!(self.records.remove(at).is_some(), "{at:?} is dropped twice");
        }
    }

    /// The state that a restart finds.
    pub(crate) fn restore(&self, state: &State) -> State {
        let mut restorer = Restorer::new();
        for (at, record) in &self.records {
            restorer
                .push(*at, record.head())
                .expect("the records are those of a state");
        }
        restorer
            .finish(state.revision(), state.compacted())
            .expect("the numbers are those of a state")
    }
}
