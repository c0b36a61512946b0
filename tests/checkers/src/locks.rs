//! Locks: one owner at a time as long as leases live, and fencing numbers that grow from owner to owner.

use std::collections::{BTreeMap, HashMap};

use crate::call::Span;
use crate::history::{Keys, Outcome, Record, Reply, Request};
use crate::leases::{self, Life};
use crate::revisions::{Known, Names, Replayed};
use crate::{Check, Verdict};

/// One time that a lock was held.
struct Hold<'a> {
    record: &'a Record,
    key: &'a str,
    fencing: u64,
    /// From when on it was certainly held, and until when.
    from_ns: u64,
    until_ns: u64,
}

pub(crate) fn check(
    history: &[Record],
    names: &Names,
    known: &Known,
    replayed: Option<&Replayed<'_>>,
) -> Option<Check> {
    let locks = holds(history);
    let verdicts = locks.iter().flat_map(|(lock, holds)| {
        let oldest = replayed.and_then(|replayed| {
            let wrong = oldest(lock, holds, names, known, replayed)?;
            Some(replayed.wrong(wrong))
        });
        let oldest = oldest.unwrap_or(Verdict::Ok);
        [of(fencing(holds)), of(exclusive(holds)), oldest]
    });
    let verdict = Verdict::worst(verdicts);
    (!locks.is_empty()).then(|| Check {
        checker: "locks have one owner at a time, and fencing numbers grow".into(),
        checked: locks.values().map(|holds| holds.len() as u64).sum(),
        of: "owners".into(),
        verdict,
    })
}

fn of(wrong: Option<String>) -> Verdict {
    wrong.map_or(Verdict::Ok, |explanation| Verdict::Violation { explanation })
}

/// By lock, who held it, in the order in which it was heard.
fn holds(history: &[Record]) -> BTreeMap<&str, Vec<Hold<'_>>> {
    let lives = leases::lives(history);
    let released = releases(history);
    let mut locks: BTreeMap<&str, Vec<Hold<'_>>> = BTreeMap::new();
    for record in history {
        if let Request::LockAcquire { name, lease } = &record.request
            && let Some(Reply::Lock { key, fencing }) = record.answer().map(|answer| &answer.reply)
        {
            let given_back = released.get(key.as_str()).into_iter().flatten();
            let given_back_ns = given_back
                .filter(|(_, end_ns)| *end_ns >= record.end_ns)
                .map(|(start_ns, _)| record.end_ns.max(*start_ns))
                .min();
            locks.entry(name).or_default().push(Hold {
                record,
                key,
                fencing: *fencing,
                from_ns: record.end_ns,
                until_ns: given_back_ns.unwrap_or(u64::MAX).min(
                    lease
                        .and_then(|lease| lives.get(&lease))
                        .map_or(0, Life::certain_until_ns),
                ),
            });
        }
    }
    for holds in locks.values_mut() {
        holds.sort_unstable_by_key(|hold| hold.from_ns);
    }
    locks
}

/// By owner's key, between when and when it may have been given back. An unknown outcome may come at any time, even
/// when the same owner has got the lock again.
fn releases(history: &[Record]) -> HashMap<&str, Vec<(u64, u64)>> {
    let mut releases: HashMap<&str, Vec<(u64, u64)>> = HashMap::new();
    for record in history {
        let key = match &record.request {
            Request::LockRelease { key, .. } | Request::Delete { keys: Keys::Key(key) } => key,
            _ => continue,
        };
        match record.outcome {
            Outcome::Ok(_) => releases
                .entry(key)
                .or_default()
                .push((record.start_ns, record.end_ns)),
            Outcome::Unknown(_) => releases.entry(key).or_default().push((record.start_ns, u64::MAX)),
            Outcome::Failed(_) => {}
        }
    }
    releases
}

/// Whoever began to wait after another one had it has the larger number.
fn fencing(holds: &[Hold<'_>]) -> Option<String> {
    let mut by_start: Vec<&Hold<'_>> = holds.iter().collect();
    by_start.sort_unstable_by_key(|hold| hold.record.start_ns);
    let mut heard = holds.iter().peekable();
    let mut largest: Option<&Hold<'_>> = None;
    for hold in by_start {
        while let Some(earlier) = heard.next_if(|earlier| earlier.from_ns < hold.record.start_ns) {
            if largest.is_none_or(|largest| earlier.fencing > largest.fencing) {
                largest = Some(earlier);
            }
        }
        if let Some(largest) = largest
            && (hold.fencing < largest.fencing
                || (hold.fencing == largest.fencing && hold.key != largest.key))
        {
            return Some(format!(
                "an owner has a fencing number no larger than one before:\n{}\n{}",
                largest.record, hold.record
            ));
        }
    }
    None
}

/// No two hold it at once.
fn exclusive(holds: &[Hold<'_>]) -> Option<String> {
    let mut longest: Option<&Hold<'_>> = None;
    for hold in holds.iter().filter(|hold| hold.from_ns < hold.until_ns) {
        if let Some(other) = longest
            && other.until_ns > hold.from_ns
            && other.key != hold.key
        {
            return Some(format!(
                "two own it at {:.6} s, and the first one's lease lives until {:.6} s at least:\n{}\n{}",
                hold.from_ns as f64 / 1e9,
                other.until_ns as f64 / 1e9,
                other.record,
                hold.record
            ));
        }
        if longest.is_none_or(|longest| longest.until_ns < hold.until_ns) {
            longest = Some(hold);
        }
    }
    None
}

/// An owner's key was the oldest one under the lock at some revision up to its answer.
fn oldest(
    lock: &str,
    holds: &[Hold<'_>],
    names: &Names,
    known: &Known,
    replayed: &Replayed<'_>,
) -> Option<String> {
    let owners = names.ids(Span::Prefix(&format!("{lock}/")));
    // Of each key's lives: what created it and what removed it.
    let mut lives: BTreeMap<u64, (u32, u64)> = BTreeMap::new();
    for change in replayed
        .changes
        .iter()
        .filter(|change| owners.contains(&change.key))
    {
        match (change.before, change.after) {
            (None, Some(after)) => {
                lives.insert(after.created, (change.key, u64::MAX));
            }
            (Some(before), None) => {
                lives.insert(before.created, (change.key, change.revision));
            }
            _ => {}
        }
    }
    holds.iter().find_map(|hold| {
        let Some((_, removed)) = lives
            .get(&hold.fencing)
            .filter(|(key, _)| names.name(*key) == hold.key)
        else {
            return Some(format!(
                "no key was created with that fencing number:\n{}",
                hold.record
            ));
        };
        let heard = known.at_most(hold.record.end_ns);
        let (_, (older, until)) = lives.range(..hold.fencing).max_by_key(|(_, (_, until))| *until)?;
        (*until > heard.min(removed - 1)).then(|| {
            format!(
                "the older key {} was still there when it was given:\n{}",
                names.name(*older),
                hold.record
            )
        })
    })
}
