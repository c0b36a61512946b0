//! What watches told of changes. An event says what its key held then, and some say what it held before: that bears
//! witness to what happened at revisions of which nothing was seen.

use std::collections::HashMap;

use super::names::Names;
use super::store::{Change, Value};
use crate::history::{Event, KeyValue, Record, Reply};

/// Events by revision; of each change one, with what was there before if somebody was told.
#[derive(Default)]
pub(super) struct Told<'a>(HashMap<u64, Vec<&'a Event>>);

impl<'a> Told<'a> {
    pub(super) fn of(history: &'a [Record]) -> Told<'a> {
        let mut told = Told::default();
        for record in history {
            if let Some(Reply::Watch { responses, .. }) = record.answer().map(|answer| &answer.reply) {
                let events = responses.iter().flat_map(|response| &response.events);
                events.for_each(|event| told.add(event));
            }
        }
        told
    }

    fn add(&mut self, event: &'a Event) {
        let events = self.0.entry(event.revision()).or_default();
        match events.iter_mut().find(|known| known.key() == event.key()) {
            None => events.push(event),
            Some(known) if known.prev().is_none() => *known = event,
            Some(_) => {}
        }
    }

    /// An event that does not fit the changes that a revision made.
    pub(super) fn contradiction(
        &self,
        revision: u64,
        changes: &[Change<'_>],
        names: &Names,
    ) -> Option<&'a Event> {
        let events = self.0.get(&revision).map_or(&[][..], Vec::as_slice);
        let contradicts = |event: &&&Event| {
            let key = names.id(event.key());
            let change = changes.iter().find(|change| Some(change.key) == key);
            key.is_some() && !change.is_some_and(|change| change.is_told_by(event, names, false))
        };
        events.iter().find(contradicts).copied()
    }
}

impl Change<'_> {
    /// Whether an event says of this change what happened; `with_prev`: also what was there before, which it may else
    /// leave out.
    pub(crate) fn is_told_by(&self, event: &Event, names: &Names, with_prev: bool) -> bool {
        let name = names.name(self.key);
        let same = |value: Option<Value<'_>>, kv: Option<&KeyValue>| match (value, kv) {
            (Some(value), Some(kv)) => value.is(name, kv),
            (None, None) => true,
            _ => false,
        };
        let now = match event {
            Event::Put { kv, .. } => same(self.after, Some(kv)),
            Event::Delete { .. } => self.after.is_none(),
        };
        let prev = event.prev();
        now && (same(self.before, prev) || (!with_prev && prev.is_none()))
    }
}
