//! Reliable: between the first revision that is wanted and the last that was told, every change comes as it was. What
//! was there before it may be missing where that is compacted.

use super::Session;
use crate::history::Event;
use crate::revisions::{Change, Id, Names, Replayed};

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
    let mut events: Vec<Told<'_>> = session
        .responses
        .iter()
        .flat_map(|response| response.events.iter().map(|event| (response.at_ns, event)))
        .map(|(at_ns, event)| Told {
            place: (event.revision(), names.id(event.key())),
            event,
            prev_kv: session.prev_kv && !session.may_lack(event.revision(), at_ns),
        })
        .collect();
    events.sort_by_key(|told| told.place);
    // `unique` is for those that come twice.
    events.dedup_by_key(|told| told.place);
    let mut events = events.into_iter().peekable();
    for change in changes {
        let place = (change.revision, Some(change.key));
        let told = events.next_if(|told| told.place <= place);
        match told {
            None => return Some(format!("missing: {}", describe(change, names))),
            Some(told) if told.place != place => return Some(made_up(session, told.event)),
            Some(told) if !change.is_told_by(told.event, names, told.prev_kv) => {
                return Some(format!(
                    "it was told {:?}, but there was {}",
                    told.event,
                    describe(change, names)
                ));
            }
            Some(_) => {}
        }
    }
    events.next().map(|told| made_up(session, told.event))
}

/// An event that was told.
struct Told<'a> {
    /// Its revision and its key.
    place: (u64, Option<Id>),
    event: &'a Event,
    /// It has to bring what was there before.
    prev_kv: bool,
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
