//! What watches of the simulated store would have seen.

use quorate_checkers::history::*;

use super::random::Random;
use super::store::{Made, Store};
use super::{NODES, Plan};

/// How late an event comes at most.
const DELAY_NS_MAX: u64 = 3_000_000;

/// One watch over everything, and some that begin somewhere, break and go on.
pub(super) fn watches(plan: &Plan, store: &Store, random: &mut Random) -> Vec<Record> {
    let mut records = Vec::new();
    if plan.watched {
        records.extend(session(
            0,
            &Keys::Prefix(String::new()),
            1,
            u64::MAX,
            store,
            random,
        ));
    }
    if !plan.everything {
        return records;
    }
    for watch in 1..6 {
        let keys = match watch {
            1 => Keys::Key("r/1".into()),
            2 => Keys::Prefix("t/".into()),
            _ => Keys::Prefix("r/".into()),
        };
        let mut from = 1 + random.below(store.revision);
        for _ in 0..3 {
            let until = from + random.below(100);
            let Some(record) = session(watch, &keys, from, until, store, random) else {
                break;
            };
            from = told(&record).max(from - 1) + 1;
            records.push(record);
        }
    }
    records
}

fn told(record: &Record) -> u64 {
    let Some(Answer {
        reply: Reply::Watch { responses, .. },
        ..
    }) = record.answer()
    else {
        return 0;
    };
    responses.last().map_or(0, |response| {
        response.events.last().map_or(response.revision, Event::revision)
    })
}

/// All from one revision to another, if there is any.
fn session(
    watch: u64,
    keys: &Keys,
    from: u64,
    until: u64,
    store: &Store,
    random: &mut Random,
) -> Option<Record> {
    let made: Vec<&Made> = store
        .made
        .iter()
        .filter(|made| (from..=until).contains(&made.revision))
        .collect();
    let (first, last) = (made.first()?, made.last()?);
    let mut responses = Vec::new();
    let mut at_ns = first.at_ns;
    let mut pending: Vec<Event> = Vec::new();
    for made in &made {
        at_ns = at_ns.max(made.at_ns) + random.below(DELAY_NS_MAX);
        pending.extend(
            made.events
                .iter()
                .filter(|event| keys.contain(event.key()))
                .cloned(),
        );
        let revision = made.revision;
        // Now and then several revisions come together.
        if !pending.is_empty() && !random.chance(200) {
            let events = std::mem::take(&mut pending);
            responses.push(WatchResponse {
                at_ns,
                revision,
                events,
            });
        } else if pending.is_empty() && random.chance(100) {
            responses.push(WatchResponse {
                at_ns,
                revision,
                events: Vec::new(),
            });
        }
    }
    if !pending.is_empty() {
        responses.push(WatchResponse {
            at_ns,
            revision: last.revision,
            events: pending,
        });
    }
    Some(Record {
        client: 100 + watch as u32,
        endpoint: format!("n{}", 1 + random.below(u64::from(NODES))),
        start_ns: first.at_ns,
        end_ns: at_ns + 1,
        request: Request::Watch {
            watch,
            keys: keys.clone(),
            start_revision: Some(from),
            prev_kv: true,
        },
        outcome: Outcome::Ok(Answer {
            revision: first.revision,
            reply: Reply::Watch {
                responses,
                end: WatchEnd::Closed,
            },
        }),
    })
}
