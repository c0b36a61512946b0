//! What watchers are told of.

use std::sync::OnceLock;

use kv_core::{KeyValue, Record, Revision};

/// Which events a watch leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Leave out puts.
    pub no_put: bool,
    /// Leave out deletions.
    pub no_delete: bool,
}

impl Filter {
    pub(super) fn passes(self, record: &Record) -> bool {
        match record {
            Record::Put(_) => !self.no_put,
            Record::Delete { .. } => !self.no_delete,
        }
    }
}

/// One write, shared by all who are told of it.
#[derive(Debug)]
pub struct Event {
    /// When it happened.
    pub at: Revision,
    /// What was written.
    pub record: Record,
    previous: OnceLock<Option<KeyValue>>,
}

/// What an event takes beside its key and value, about.
const OVERHEAD_BYTES: usize = 256;

impl Event {
    pub(crate) fn new(at: Revision, record: Record) -> Event {
        let previous = OnceLock::new();
        // What came into being with this revision was not there before it.
        if matches!(&record, Record::Put(kv) if kv.create_revision == at.main) {
            previous.get_or_init(|| None);
        }
        Event { at, record, previous }
    }

    /// What the key held before the revision of the event. `None` where it did not exist then, where that is
    /// compacted, and where the watch does not ask for it.
    pub fn previous(&self) -> Option<&KeyValue> {
        self.previous.get()?.as_ref()
    }

    /// Whether the previous value is still to be looked up.
    pub(super) fn lacks_previous(&self) -> bool {
        self.previous.get().is_none()
    }

    pub(super) fn set_previous(&self, previous: Option<KeyValue>) {
        self.previous.get_or_init(|| previous);
    }

    /// About what it takes in memory.
    pub fn bytes(&self) -> usize {
        OVERHEAD_BYTES
            + match &self.record {
                Record::Put(kv) => kv.key.len() + kv.value.len(),
                Record::Delete { key } => key.len(),
            }
    }
}
