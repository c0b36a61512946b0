//! What the answers say of revisions, before anything is replayed: who made which, and when was it known.

use std::collections::HashMap;

use crate::call::{Call, Said};
use crate::history::{Event, KeyValue, OpReply, Record, Reply};

/// One time at which a revision was known to exist.
struct Sighting {
    at_ns: u64,
    revision: u64,
}

/// When which revision was known.
pub(crate) struct Known {
    /// By time, each with the newest revision that was known then.
    newest: Vec<Sighting>,
    /// Acknowledged writes by their start, each with the oldest revision of all that began then or later.
    begun: Vec<Sighting>,
}

impl Known {
    pub(crate) fn of(history: &[Record]) -> Known {
        let mut newest = Vec::with_capacity(history.len());
        for record in history {
            let Some(answer) = record.answer() else { continue };
            let end = Sighting {
                at_ns: record.end_ns,
                revision: answer.revision,
            };
            if let Reply::Watch { responses, .. } = &answer.reply {
                // The answer that says that a watch is created has no time of its own.
                newest.extend(responses.iter().map(|response| Sighting {
                    at_ns: response.at_ns,
                    revision: response.revision,
                }));
            } else {
                newest.push(end);
            }
        }
        newest.sort_unstable_by_key(|sighting| (sighting.at_ns, sighting.revision));
        let mut so_far = 0;
        for sighting in &mut newest {
            so_far = sighting.revision.max(so_far);
            sighting.revision = so_far;
        }
        Known {
            newest,
            begun: begun(history),
        }
    }

    /// The newest revision that there can have been at a time: a write that began later has a larger one.
    pub(crate) fn at_most(&self, time_ns: u64) -> u64 {
        let later = self.begun.partition_point(|write| write.at_ns <= time_ns);
        self.begun.get(later).map_or(u64::MAX, |write| write.revision - 1)
    }

    /// The newest revision that was known before a time.
    pub(crate) fn before(&self, time_ns: u64) -> u64 {
        let count = self.newest.partition_point(|sighting| sighting.at_ns < time_ns);
        count.checked_sub(1).map_or(0, |last| self.newest[last].revision)
    }

    /// When it was known first that a revision existed.
    pub(crate) fn since(&self, revision: u64) -> Option<u64> {
        let index = self
            .newest
            .partition_point(|sighting| sighting.revision < revision);
        self.newest.get(index).map(|sighting| sighting.at_ns)
    }

    /// The newest revision of all.
    pub(crate) fn last(&self) -> u64 {
        self.newest.last().map_or(0, |sighting| sighting.revision)
    }
}

fn begun(history: &[Record]) -> Vec<Sighting> {
    let wrote = history
        .iter()
        .filter(|record| Said::of(record).is_some_and(|said| said.wrote()));
    let mut begun: Vec<Sighting> = wrote
        .filter_map(|record| {
            Some(Sighting {
                at_ns: record.start_ns,
                revision: record.answer()?.revision,
            })
        })
        .collect();
    begun.sort_unstable_by_key(|write| write.at_ns);
    let mut oldest = u64::MAX;
    for write in begun.iter_mut().rev() {
        oldest = oldest.min(write.revision);
        write.revision = oldest;
    }
    begun
}

/// The records that say that they made a revision; the first two that say so of the same one are an error.
pub(super) fn writers(history: &[Record]) -> Result<HashMap<u64, usize>, String> {
    let mut writers: HashMap<u64, usize> = HashMap::new();
    for (index, record) in history.iter().enumerate() {
        let (Some(answer), Some(said)) = (record.answer(), Said::of(record)) else {
            continue;
        };
        if said.wrote()
            && let Some(other) = writers.insert(answer.revision, index)
        {
            return Err(format!(
                "two writes have revision {}:\n{}\n{record}",
                answer.revision, history[other]
            ));
        }
    }
    Ok(writers)
}

/// Every acknowledged operation that is to be linearizable must have a revision that fits what was known when it began.
pub(super) fn real_time(history: &[Record], known: &Known) -> Result<u64, String> {
    let mut checked = 0;
    for record in history {
        let Some(answer) = record.answer() else { continue };
        if Call::of(&record.request).is_none() {
            continue;
        }
        let Some(said) = Said::of(record) else {
            return Err(format!("that is no answer to what was asked:\n{record}"));
        };
        if record.request.is_serializable() {
            continue;
        }
        checked += 1;
        let known_before = known.before(record.start_ns);
        let least = known_before + u64::from(said.wrote());
        if answer.revision < least {
            return Err(format!(
                "revision {known_before} was known before this began, and its own is {}:\n{}\n{record}",
                answer.revision,
                witness(history, record.start_ns, least)
            ));
        }
    }
    Ok(checked)
}

/// One that knew of a revision before a time.
fn witness(history: &[Record], before_ns: u64, least: u64) -> String {
    let knew = |record: &&Record| {
        record.answer().is_some_and(|answer| match &answer.reply {
            Reply::Watch { responses, .. } => responses
                .iter()
                .any(|seen| seen.at_ns < before_ns && seen.revision + 1 >= least),
            _ => record.end_ns < before_ns && answer.revision + 1 >= least,
        })
    };
    history
        .iter()
        .filter(knew)
        .max_by_key(|record| record.answer().map(|answer| answer.revision))
        .map_or_else(String::new, ToString::to_string)
}

/// What somebody saw of a revision that no acknowledged operation made: a key, and what was put, or none if it was
/// removed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trace<'a> {
    pub(super) key: &'a str,
    pub(super) put: Option<&'a str>,
}

/// What was seen of the revisions that nobody says to have made, each change once.
pub(super) fn traces<'a>(
    history: &'a [Record],
    writers: &HashMap<u64, usize>,
) -> HashMap<u64, Vec<Trace<'a>>> {
    let mut traces: HashMap<u64, Vec<Trace<'a>>> = HashMap::new();
    let mut see = |revision: u64, trace: Trace<'a>| {
        if !writers.contains_key(&revision) {
            let seen = traces.entry(revision).or_default();
            if seen.iter().all(|other| other.key != trace.key) {
                seen.push(trace);
            }
        }
    };
    for record in history {
        let kvs = |kvs: &'a [KeyValue], see: &mut dyn FnMut(u64, Trace<'a>)| {
            for kv in kvs {
                see(kv.mod_revision, Trace::of(kv));
            }
        };
        match record.answer().map(|answer| &answer.reply) {
            Some(Reply::Read(seen)) => kvs(seen, &mut see),
            Some(Reply::Txn(reply)) => {
                for result in &reply.results {
                    if let OpReply::Read(seen) = result {
                        kvs(seen, &mut see);
                    }
                }
            }
            Some(Reply::Lock { key, fencing }) => see(*fencing, Trace { key, put: Some("") }),
            Some(Reply::Watch { responses, .. }) => {
                for event in responses.iter().flat_map(|response| &response.events) {
                    if let Some(prev) = event.prev() {
                        see(prev.mod_revision, Trace::of(prev));
                    }
                    let trace = match event {
                        Event::Put { kv, .. } => Trace::of(kv),
                        Event::Delete { key, .. } => Trace { key, put: None },
                    };
                    see(event.revision(), trace);
                }
            }
            _ => {}
        }
    }
    traces
}

impl<'a> Trace<'a> {
    fn of(kv: &'a KeyValue) -> Trace<'a> {
        Trace {
            key: &kv.key,
            put: Some(&kv.value),
        }
    }
}
