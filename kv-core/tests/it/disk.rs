//! What a store does for the state machine, in memory.

use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::Bytes;
use kv_core::{
    Command, Effects, Fact, FactChange, KeyValue, Outcome, Record, Restorer, Revision, State, Swept, Values,
};

/// The records, the facts, and reads that can be made to fail.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) records: BTreeMap<Revision, Record>,
    pub(crate) facts: BTreeMap<Bytes, Bytes>,
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

impl Disk {
    /// Applies a command and keeps what it wrote.
    pub(crate) fn apply(&mut self, state: &mut State, command: &Command) -> Outcome {
        let mut effects = Effects::default();
        let outcome = state
            .apply(self, command, &mut effects)
            .expect("the disk reads everything");
        for (at, record) in effects.records {
            assert!(
                self.records.insert(at, record).is_none(),
                "{at:?} is written twice"
            );
        }
        for FactChange { key, value } in effects.facts {
            match value {
                Some(value) => drop(self.facts.insert(key, value)),
                None => assert!(self.facts.remove(&key).is_some(), "only what exists goes"),
            }
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
        for (key, value) in &self.facts {
            let fact = Fact::from_bytes(key, value).expect("the facts are those of a state");
            restorer.push_fact(fact).expect("facts come in order");
        }
        restorer
            .finish(state.revision(), state.compacted())
            .expect("the numbers are those of a state")
    }
}
