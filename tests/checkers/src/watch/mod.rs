//! What is promised of watches, one promise a file.

mod atomic;
mod bookmarkable;
mod ordered;
mod reliable;
mod resumable;
mod unique;

use std::collections::BTreeMap;
use std::ops::Range;

use crate::history::{Event, Keys, Outcome, Record, Reply, Request, WatchEnd, WatchResponse};
use crate::revisions::{Id, Names, Replayed};
use crate::{Check, Verdict};

/// A watch on one node, from when it was created until it ended.
struct Session<'a> {
    record: &'a Record,
    watch: u64,
    keys: &'a Keys,
    ids: Range<Id>,
    prev_kv: bool,
    /// The first revision that is wanted.
    start: u64,
    responses: &'a [WatchResponse],
    end: &'a WatchEnd,
    /// What may have been compacted in the whole history.
    compactions: &'a [Compaction],
}

/// An attempt to compact: up to which revision, and when it began.
struct Compaction {
    revision: u64,
    start_ns: u64,
}

fn compactions(history: &[Record]) -> Vec<Compaction> {
    let attempts = history.iter().filter_map(|record| match record.request {
        Request::Compact { revision } if !matches!(record.outcome, Outcome::Failed(_)) => Some(Compaction {
            revision,
            start_ns: record.start_ns,
        }),
        _ => None,
    });
    attempts.collect()
}

impl<'a> Session<'a> {
    fn of(record: &'a Record, names: &Names, compactions: &'a [Compaction]) -> Option<Session<'a>> {
        let Request::Watch {
            watch,
            keys,
            start_revision,
            prev_kv,
        } = &record.request
        else {
            return None;
        };
        let answer = record.answer()?;
        let Reply::Watch { responses, end } = &answer.reply else {
            return None;
        };
        Some(Session {
            record,
            watch: *watch,
            keys,
            ids: names.ids_of(keys),
            prev_kv: *prev_kv,
            start: start_revision.unwrap_or(answer.revision + 1),
            responses,
            end,
            compactions,
        })
    }

    /// Whether what was there before a revision may have been compacted by some time.
    fn may_lack(&self, revision: u64, by_ns: u64) -> bool {
        self.compactions
            .iter()
            .any(|compaction| compaction.revision >= revision && compaction.start_ns < by_ns)
    }

    fn events(&self) -> impl Iterator<Item = &'a Event> + use<'a> {
        self.responses.iter().flat_map(|response| &response.events)
    }

    /// The last revision of which it has told all; one less than the first that is wanted if it told nothing.
    fn told(&self) -> u64 {
        let revisions = self.responses.iter().map(|response| {
            response
                .events
                .iter()
                .map(Event::revision)
                .max()
                .unwrap_or(response.revision)
        });
        revisions.max().unwrap_or(0).max(self.start - 1)
    }
}

/// From which revision to which each watch was told all that happened to its keys.
pub(crate) fn whole(history: &[Record], names: &Names) -> impl Iterator<Item = (Range<Id>, u64, u64)> {
    let sessions = history
        .iter()
        .filter_map(|record| Session::of(record, names, &[]));
    let whole = sessions.map(|session| (session.ids.clone(), session.start, session.told()));
    whole.filter(|(ids, from, to)| !ids.is_empty() && from <= to)
}

pub(crate) fn check(history: &[Record], names: &Names, replayed: Option<&Replayed<'_>>) -> Vec<Check> {
    let compactions = compactions(history);
    let sessions: Vec<Session<'_>> = history
        .iter()
        .filter_map(|record| Session::of(record, names, &compactions))
        .collect();
    if sessions.is_empty() {
        return Vec::new();
    }
    let events = sessions
        .iter()
        .map(|session| session.events().count() as u64)
        .sum();
    let all = |promise: fn(&Session<'_>) -> Option<String>| {
        let wrong = sessions
            .iter()
            .find_map(|session| Some((session, promise(session)?)));
        wrong.map_or(Verdict::Ok, |(session, wrong)| violation(session, &wrong))
    };
    [
        (
            "ordered: events come in the order of revisions",
            all(ordered::wrong),
        ),
        ("unique: no event comes twice", all(unique::wrong)),
        (
            "atomic: the events of a revision come together",
            all(atomic::wrong),
        ),
        (
            "reliable: no event is missing, and none is made up",
            reliable(&sessions, names, replayed),
        ),
        (
            "resumable: a watch goes on where it was, or hears that it cannot",
            resumable(&sessions),
        ),
        (
            "bookmarkable: nothing old comes after progress was told",
            all(bookmarkable::wrong),
        ),
    ]
    .map(|(promise, verdict)| Check {
        checker: format!("watches are {promise}"),
        checked: events,
        of: "events".into(),
        verdict,
    })
    .into()
}

fn violation(session: &Session<'_>, wrong: &str) -> Verdict {
    Verdict::Violation {
        explanation: format!("{wrong}\n{}", session.record),
    }
}

fn reliable(sessions: &[Session<'_>], names: &Names, replayed: Option<&Replayed<'_>>) -> Verdict {
    let Some(replayed) = replayed else {
        return Verdict::Undecided {
            why: "no order of revisions explains the answers, so nobody knows which events there were".into(),
        };
    };
    let wrong = sessions
        .iter()
        .find_map(|session| Some((session, reliable::wrong(session, names, replayed)?)));
    match wrong {
        None => Verdict::Ok,
        // Who made a revision was guessed where nothing was seen of it: the guess may be what is wrong.
        Some((session, wrong)) if replayed.guesses > 0 => Verdict::Undecided {
            why: format!(
                "{} revisions could be explained in more than one way, and as they were:\n{wrong}\n{}",
                replayed.guesses, session.record
            ),
        },
        Some((session, wrong)) => violation(session, &wrong),
    }
}

fn resumable(sessions: &[Session<'_>]) -> Verdict {
    let mut watches: BTreeMap<u64, Vec<&Session<'_>>> = BTreeMap::new();
    for session in sessions {
        watches.entry(session.watch).or_default().push(session);
    }
    let wrong = watches.values_mut().find_map(|sessions| {
        sessions.sort_unstable_by_key(|session| session.record.start_ns);
        let one = sessions
            .iter()
            .find_map(|session| Some((*session, resumable::wrong(session)?)));
        let mut pairs = sessions.iter().zip(sessions.iter().skip(1));
        one.or_else(|| pairs.find_map(|(before, after)| Some((*after, resumable::gap(before, after)?))))
    });
    wrong.map_or(Verdict::Ok, |(session, wrong)| violation(session, &wrong))
}
