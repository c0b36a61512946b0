//! What a command leaves for the store to keep.

use crate::fact::{Fact, FactChange, FactKey};
use crate::{Record, Revision};

/// What [`crate::State::apply`] changed. It belongs to the applied index: the store makes both durable together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// The writes, in the order of their revisions.
    pub records: Vec<(Revision, Record)>,
    /// The facts that changed, in the order of the changes: of two with the same key the later one counts.
    pub facts: Vec<FactChange>,
}

impl Effects {
    /// The fact is now this. Only for what can no longer be refused or fail: nothing takes it back.
    pub(crate) fn set(&mut self, fact: &Fact) {
        self.facts.push(FactChange {
            key: fact.key().to_bytes(),
            value: Some(fact.to_bytes()),
        });
    }

    /// The fact is gone; as final as [`Effects::set`].
    pub(crate) fn remove(&mut self, key: &FactKey) {
        self.facts.push(FactChange {
            key: key.to_bytes(),
            value: None,
        });
    }

    /// Adds what a later command changed.
    pub fn append(&mut self, later: &mut Effects) {
        self.records.append(&mut later.records);
        self.facts.append(&mut later.facts);
    }
}
