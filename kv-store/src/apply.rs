//! From committed entries to state, queue and outcomes.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv_core::{Command, Effects, KeyValue, Outcome, Record, Revision, Values};

use crate::{
    AppliedPoint,
    error::Fault,
    live::{Live, Missing},
    prefetch::prefetch,
    queue::{Change, Item, Records},
};

/// A log index, and the command there; `None` for entries of Raft's own.
pub type Entry = (u64, Option<Command>);

/// What entries that were applied have brought about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// One outcome for each command, in order.
    pub outcomes: Vec<Outcome>,
    /// What was written, in order of revision.
    pub records: Records,
}

/// The values as the next command sees them.
pub(crate) struct View<'a> {
    pub(crate) live: &'a Live,
    pub(crate) fetched: &'a BTreeMap<Revision, KeyValue>,
    /// Written by the commands before it in this call, in order of revision.
    pub(crate) written: &'a [(Revision, Record)],
}

impl Values for View<'_> {
    type Error = Missing;

    fn get(&self, at: Revision) -> Result<KeyValue, Missing> {
        if let Ok(place) = self.written.binary_search_by_key(&at, |(revision, _)| *revision) {
            return match &self.written[place].1 {
                Record::Put(kv) => Ok(kv.clone()),
                Record::Delete { .. } => Err(Missing::Gone(at)),
            };
        }
        match self.fetched.get(&at) {
            Some(kv) => Ok(kv.clone()),
            None => self.live.get(at),
        }
    }
}

/// Applies entries to a generation; the caller is the only one who does.
pub(crate) fn apply(live: &Live, entries: &[Entry], raft: Bytes) -> Result<Applied, Fault> {
    let Some(&(last, _)) = entries.last() else {
        return Ok(Applied {
            outcomes: Vec::new(),
            records: Records::from([]),
        });
    };
    assert_contiguous(live, entries);
    live.admit()?;
    let commands = || entries.iter().filter_map(|(_, command)| command.as_ref());
    let fetched = prefetch(live, commands())?;

    let mut written = Effects::default();
    let mut outcomes = Vec::with_capacity(entries.len());
    let mut core = live.core.write();
    for command in commands() {
        let view = View {
            live,
            fetched: &fetched,
            written: &written.records,
        };
        let mut effects = Effects::default();
        match core.state.apply(&view, command, &mut effects) {
            Ok(outcome) => outcomes.push(outcome),
            Err(missing) => {
                // The commands before it are in the state, and will never be in the engine.
                let fault = Fault::from(missing);
                live.queue.fail(fault.clone());
                return Err(fault);
            }
        }
        written.append(&mut effects);
    }
    let point = AppliedPoint { index: last, raft };
    core.applied = Some(point.clone());
    let change = Change::Applied {
        point,
        revision: core.state.revision(),
        compacted: core.state.compacted(),
    };
    let item = Item::new(written, change);
    let records = item.records.clone();
    live.queue.push(item);
    Ok(Applied { outcomes, records })
}

fn assert_contiguous(live: &Live, entries: &[Entry]) {
    let applied = live.core.read().applied.as_ref().map(|point| point.index);
    let first = entries[0].0;
    match applied {
        Some(applied) => assert_eq!(first, applied + 1, "entries follow the applied one"),
        None => assert!(first <= 1, "the first entry ever has index 0 or 1, not {first}"),
    }
    let contiguous = entries.windows(2).all(|two| two[1].0 == two[0].0 + 1);
    assert!(contiguous, "entries follow each other");
}
