//! A good history in which one thing is changed is found out, by the checker that is there for it.

use quorate_checkers::history::*;
use quorate_checkers::{Settings, Verdict, check};

use crate::simulated::{Plan, Random, run};

const SEEDS: std::ops::Range<u64> = 0..4;

/// Changes histories, and wants it found.
fn found(by: &str, change: impl Fn(&mut Vec<Record>, &mut Random)) {
    for seed in SEEDS {
        let mut history = run(&Plan::new(seed)).history;
        change(&mut history, &mut Random::new(seed));
        let report = check(&history, &Settings::default());
        let finds = report
            .checks
            .iter()
            .any(|check| check.checker.contains(by) && check.verdict != Verdict::Ok);
        assert!(finds, "seed {seed}: not found by {by:?}:\n{report}");
    }
}

/// Changes what a watch told: the one over all keys.
fn told(by: &str, change: impl Fn(&mut Vec<WatchResponse>, &mut Random)) {
    found(by, |history, random| {
        let watch = history
            .iter_mut()
            .find_map(|record| match (&record.request, &mut record.outcome) {
                (
                    Request::Watch { watch: 0, .. },
                    Outcome::Ok(Answer {
                        reply: Reply::Watch { responses, .. },
                        ..
                    }),
                ) => Some(responses),
                _ => None,
            });
        change(watch.expect("somebody watches all keys"), random);
    });
}

/// A place in the midst of something.
fn midst(len: usize, random: &mut Random) -> usize {
    len / 4 + random.below(len as u64 / 2) as usize
}

/// A response in the midst that has events.
fn response(responses: &[WatchResponse], random: &mut Random) -> usize {
    let start = midst(responses.len(), random);
    (start..)
        .find(|index| !responses[*index].events.is_empty())
        .expect("there are events after the midst")
}

#[test]
fn an_event_that_is_left_out() {
    told("reliable", |responses, random| {
        let index = response(responses, random);
        responses[index].events.clear();
    });
}

#[test]
fn an_event_that_is_made_up() {
    told("reliable", |responses, random| {
        let index = response(responses, random);
        let Some(Event::Put { kv, .. }) = responses
            .iter()
            .flat_map(|response| &response.events)
            .next()
            .cloned()
        else {
            panic!("the first event puts");
        };
        let revision = responses[index].events[0].revision();
        let made_up = KeyValue {
            key: "a".into(),
            mod_revision: revision,
            ..kv
        };
        responses[index].events.insert(
            0,
            Event::Put {
                kv: made_up,
                prev: None,
            },
        );
    });
}

#[test]
fn an_event_with_another_value_before() {
    told("reliable", |responses, _| {
        let before = responses
            .iter_mut()
            .flat_map(|response| &mut response.events)
            .find_map(|event| match event {
                Event::Put { prev: Some(prev), .. } => Some(prev),
                _ => None,
            });
        before.expect("something is overwritten").version += 1;
    });
}

#[test]
fn responses_in_another_order() {
    told("ordered", |responses, random| {
        let one = response(responses, random);
        let other = (one + 1..)
            .find(|index| !responses[*index].events.is_empty())
            .expect("more events");
        responses.swap(one, other);
    });
}

#[test]
fn an_event_that_comes_twice() {
    told("unique", |responses, random| {
        let index = response(responses, random);
        let again = responses[index].clone();
        responses.insert(index, again);
    });
}

#[test]
fn a_revision_in_two_parts() {
    told("atomic", |responses, _| {
        let index = responses
            .iter()
            .position(|response| {
                response.events.len() > 1 && response.events[0].revision() == response.events[1].revision()
            })
            .expect("a transaction with two writes");
        let mut first = responses[index].clone();
        first.events.truncate(1);
        responses[index].events.remove(0);
        responses.insert(index, first);
    });
}

#[test]
fn progress_ahead_of_an_event() {
    told("bookmarkable", |responses, random| {
        let index = response(responses, random);
        let ahead = WatchResponse {
            events: Vec::new(),
            ..responses[index].clone()
        };
        responses.insert(index, ahead);
    });
}

#[test]
fn an_event_from_before_the_start() {
    found("resumable", |history, _| {
        let starts = history.iter_mut().find_map(|record| match &mut record.request {
            Request::Watch {
                watch: 0,
                start_revision,
                ..
            } => Some(start_revision),
            _ => None,
        });
        *starts.expect("somebody watches all keys") = Some(20);
    });
}

#[test]
fn a_watch_that_does_not_go_on_where_it_was() {
    found("resumable", |history, _| {
        let mut parts = history
            .iter_mut()
            .filter(|record| matches!(record.request, Request::Watch { watch: 3, .. }));
        let (_, second) = (parts.next(), parts.next().expect("it is in several parts"));
        let Request::Watch {
            start_revision: Some(start),
            ..
        } = &mut second.request
        else {
            panic!("it has a start")
        };
        *start += 1;
    });
}

/// Gives one read an older answer, as of a revision before.
fn stale(history: &mut [Record], random: &mut Random, with_its_revision: bool) {
    let reads: Vec<usize> = (0..history.len())
        .filter(|&index| {
            matches!(&history[index].request, Request::Read { keys: Keys::Key(_), .. })
                && matches!(&history[index].outcome, Outcome::Ok(Answer { reply: Reply::Read(kvs), .. }) if kvs.len() == 1)
        })
        .collect();
    let start = midst(reads.len(), random);
    let (read, older) = reads[start..]
        .iter()
        .find_map(|&read| {
            let older = reads[..start / 2]
                .iter()
                .rev()
                .find(|&&older| history[older].request == history[read].request);
            Some((read, *older?))
        })
        .expect("the same key is read twice");
    let (Outcome::Ok(old), Outcome::Ok(new)) = (history[older].outcome.clone(), &mut history[read].outcome)
    else {
        panic!("both were answered");
    };
    new.reply = old.reply;
    if with_its_revision {
        new.revision = old.revision;
    }
}

#[test]
fn a_stale_read_with_its_old_revision() {
    found("strictly serializable", |history, random| {
        stale(history, random, true)
    });
    found("registers", |history, random| stale(history, random, true));
}

#[test]
fn a_stale_read_that_says_it_is_new() {
    found("strictly serializable", |history, random| {
        stale(history, random, false)
    });
    found("registers", |history, random| stale(history, random, false));
}

#[test]
fn an_element_that_nobody_added() {
    found("sets", |history, _| {
        let elements = history
            .iter_mut()
            .rev()
            .find_map(|record| match &mut record.outcome {
                Outcome::Ok(Answer {
                    reply: Reply::SetRead(elements),
                    ..
                }) => Some(elements),
                _ => None,
            });
        elements.expect("sets are read").push("x".into());
    });
}

#[test]
fn a_lease_whose_end_is_heard_of_early() {
    found("leases", |history, _| {
        let lease = history
            .iter()
            .find_map(|record| match record.request {
                Request::LeaseGrant { lease, .. } if record.answer().is_some() => {
                    Some((lease, record.end_ns))
                }
                _ => None,
            })
            .expect("a lease is granted");
        history.push(Record {
            client: 1,
            endpoint: "n1".into(),
            start_ns: lease.1 + 1,
            end_ns: lease.1 + 2,
            request: Request::LeaseKeepAlive { lease: lease.0 },
            outcome: Outcome::Ok(Answer {
                revision: 1,
                reply: Reply::Lease { ttl_s: 0 },
            }),
        });
    });
}

#[test]
fn a_fencing_number_that_falls() {
    found("locks", |history, _| {
        let mut holds = history.iter_mut().filter_map(|record| match &mut record.outcome {
            Outcome::Ok(Answer {
                reply: Reply::Lock { fencing, .. },
                ..
            }) => Some(fencing),
            _ => None,
        });
        let (first, last) = (
            holds.next().expect("an owner"),
            holds.next_back().expect("another owner"),
        );
        std::mem::swap(first, last);
    });
}

#[test]
fn nodes_that_differ() {
    let ask = |endpoint: &str, hash| Record {
        client: 1,
        endpoint: endpoint.into(),
        start_ns: 1,
        end_ns: 2,
        request: Request::Hash { revision: None },
        outcome: Outcome::Ok(Answer {
            revision: 9,
            reply: Reply::Hash {
                hash,
                revision: 9,
                compact_revision: 0,
            },
        }),
    };
    let verdict = |history: &[Record]| {
        let report = check(
            history,
            &Settings {
                operations_min: 1,
                ..Settings::default()
            },
        );
        report
            .checks
            .into_iter()
            .find(|check| check.checker == "nodes hold the same")
            .map(|check| check.verdict)
    };
    assert_eq!(verdict(&[ask("n1", 5), ask("n2", 5)]), Some(Verdict::Ok));
    assert!(matches!(
        verdict(&[ask("n1", 5), ask("n2", 6)]),
        Some(Verdict::Violation { .. })
    ));
    assert!(matches!(
        verdict(&[ask("n1", 5), ask("n1", 5)]),
        Some(Verdict::Undecided { .. })
    ));
}
