//! Reliable: between the first revision that is wanted and the last that was told, every change comes as it was.

use super::Session;
use crate::history::{Event, KeyValue};
use crate::revisions::{Change, Id, Names, Replayed, Value};

pub(super) fn wrong(session: &Session<'_>, names: &Names, replayed: &Replayed<'_>) -> Option<String> {
    let told = session.told();
    let first = replayed
        .changes
        .partition_point(|change| change.revision < session.start);
    let mut changes: Vec<&Change<'_>> = replayed.changes[first..]
        .iter()
        .take_while(|change| change.revision <= told)
        .filter(|change| session.ids.contains(&change.key))
        .collect();
    changes.sort_by_key(|change| (change.revision, change.key));
    let mut events: Vec<(u64, Option<Id>, &Event)> = session
        .events()
        .map(|event| (event.revision(), names.id(event.key()), event))
        .collect();
    events.sort_by_key(|(revision, key, _)| (*revision, *key));
    // `unique` is for those that come twice.
    events.dedup_by_key(|(revision, key, _)| (*revision, *key));
    let mut events = events.into_iter().peekable();
    for change in changes {
        let place = (change.revision, Some(change.key));
        let event = events.next_if(|(revision, key, _)| (*revision, *key) <= place);
        match event {
            None => return Some(format!("missing: {}", describe(change, names))),
            Some((revision, key, event)) if (revision, key) != place => return Some(made_up(session, event)),
            Some((_, _, event)) if !says(event, change, session.prev_kv, names) => {
                return Some(format!(
                    "it was told {event:?}, but there was {}",
                    describe(change, names)
                ));
            }
            Some(_) => {}
        }
    }
    events.next().map(|(_, _, event)| made_up(session, event))
}

fn made_up(session: &Session<'_>, event: &Event) -> String {
    format!(
        "made up: there was no change of {} at revision {} that a watch of {} from revision {} has to tell",
        event.key(),
        event.revision(),
        session.keys,
        session.start
    )
}

fn describe(change: &Change<'_>, names: &Names) -> String {
    let name = names.name(change.key);
    match change.after {
        Some(after) => format!("revision {} put {}", change.revision, after.describe(name)),
        None => format!("revision {} deleted {name}", change.revision),
    }
}

fn says(event: &Event, change: &Change<'_>, prev_kv: bool, names: &Names) -> bool {
    let name = names.name(change.key);
    let same = |value: Option<Value<'_>>, kv: Option<&KeyValue>| match (value, kv) {
        (Some(value), Some(kv)) => value.is(name, kv),
        (None, None) => true,
        _ => false,
    };
    let now = match event {
        Event::Put { kv, .. } => same(change.after, Some(kv)),
        Event::Delete { .. } => change.after.is_none(),
    };
    now && (!prev_kv || same(change.before, event.prev()))
}
