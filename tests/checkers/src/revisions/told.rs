//! What watches told of changes, and what they did not tell. An event says what its key held then, and some say what it
//! held before; where a watch has told all that happened to its keys, nothing else did. That bears witness to what
//! happened at revisions of which nothing was seen.

use std::collections::HashMap;
use std::ops::Range;

use super::names::{Id, Names};
use super::store::{Change, Value};
use crate::history::{Event, KeyValue, Record, Reply};
use crate::watch;

/// What all watches of a history told.
#[derive(Default)]
pub(super) struct Told<'a> {
    /// By revision; of each change one, with what was there before if somebody was told.
    events: HashMap<u64, Vec<&'a Event>>,
    /// From which revision to which all changes of these keys were told: apart from each other, and in order.
    whole: HashMap<Range<Id>, Vec<(u64, u64)>>,
}

/// What speaks against a change.
pub(super) struct Contradiction {
    /// The key that it is about.
    pub(super) key: Id,
    /// What watches say.
    pub(super) why: String,
}

impl<'a> Told<'a> {
    pub(super) fn of(history: &'a [Record], names: &Names) -> Told<'a> {
        let mut told = Told::default();
        for record in history {
            if let Some(Reply::Watch { responses, .. }) = record.answer().map(|answer| &answer.reply) {
                let events = responses.iter().flat_map(|response| &response.events);
                events.for_each(|event| told.add(event));
            }
        }
        for (ids, from, to) in watch::whole(history, names) {
            told.whole.entry(ids).or_default().push((from, to));
        }
        told.whole.values_mut().for_each(join);
        told
    }

    fn add(&mut self, event: &'a Event) {
        let events = self.events.entry(event.revision()).or_default();
        match events.iter_mut().find(|known| known.key() == event.key()) {
            None => events.push(event),
            Some(known) if known.prev().is_none() => *known = event,
            Some(_) => {}
        }
    }

    /// What does not fit the changes that a revision made.
    pub(super) fn contradiction(
        &self,
        revision: u64,
        changes: &[Change<'_>],
        names: &Names,
    ) -> Option<Contradiction> {
        let events = self.events.get(&revision).map_or(&[][..], Vec::as_slice);
        let unfit = events.iter().find_map(|event| {
            let key = names.id(event.key())?;
            let change = changes.iter().find(|change| change.key == key);
            let fits = change.is_some_and(|change| change.is_told_by(event, names, false));
            let why = || format!("a watch was told {event:?}, and that does not fit");
            (!fits).then(|| Contradiction { key, why: why() })
        });
        let unheard = || {
            let told = |key: Id| events.iter().any(|event| names.id(event.key()) == Some(key));
            let mut changed = changes.iter().map(|change| change.key);
            let key = changed.find(|key| !told(*key) && self.is_whole(*key, revision))?;
            let name = names.name(key);
            let why =
                format!("a watch was told all that happened to {name}, and nothing at revision {revision}");
            Some(Contradiction { key, why })
        };
        unfit.or_else(unheard)
    }

    /// Whether somebody was told all that this revision did to a key.
    fn is_whole(&self, key: Id, revision: u64) -> bool {
        self.whole.iter().any(|(ids, parts)| {
            let part = parts.partition_point(|(_, to)| *to < revision);
            ids.contains(&key) && parts.get(part).is_some_and(|(from, _)| *from <= revision)
        })
    }
}

/// Makes one of those that overlap or touch.
fn join(parts: &mut Vec<(u64, u64)>) {
    parts.sort_unstable();
    parts.dedup_by(|next, last| {
        let touches = next.0 <= last.1.saturating_add(1);
        if touches {
            last.1 = last.1.max(next.1);
        }
        touches
    });
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
