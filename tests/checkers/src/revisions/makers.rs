//! Who may have made a revision that no acknowledged operation claims.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::known::{Known, Trace};
use super::names::{Names, owner_key};
use super::store::Store;
use crate::call::{Act, Call, Span};
use crate::history::{Record, Request};
use crate::leases::{Life, lives};

/// What may have made a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Maker {
    /// The write of this record, whose outcome is unknown.
    Write(usize),
    /// The owner's key of this attempt to lock.
    Join(usize),
    /// The end of this attempt to lock, or this release.
    Leave(usize),
    /// The end of this lease.
    LeaseEnd(i64),
    /// Somebody who is not in the history, at this revision.
    Stranger(u64),
}

impl Maker {
    /// Whether it makes one revision at most. The others are bounded by what is there: who is not in line cannot leave.
    pub(super) fn once(self) -> bool {
        matches!(self, Maker::Write(_) | Maker::LeaseEnd(_))
    }
}

/// Something that was asked for: its record, and the newest revision that was known before it began. What it made is newer.
type Asked = (usize, u64);

/// All that may make revisions.
pub(super) struct Makers<'a> {
    history: &'a [Record],
    /// Writes with an unknown outcome, without those of which something was seen: they have their revision.
    writes: Vec<Asked>,
    by_value: HashMap<&'a str, Vec<Asked>>,
    /// Those that remove keys.
    deletes: Vec<Asked>,
    /// By the owner's key.
    joins: HashMap<String, Vec<Asked>>,
    leaves: HashMap<String, Vec<Asked>>,
    /// With the time until which each is there for sure, in nanoseconds since the run began.
    leases: BTreeMap<i64, u64>,
}

impl<'a> Makers<'a> {
    pub(super) fn of(
        history: &'a [Record],
        known: &Known,
        traces: &HashMap<u64, Vec<Trace<'a>>>,
        in_time: bool,
    ) -> Makers<'a> {
        let seen: HashSet<&str> = traces.values().flatten().filter_map(|trace| trace.put).collect();
        let mut makers = Makers {
            history,
            writes: Vec::new(),
            by_value: HashMap::new(),
            deletes: Vec::new(),
            joins: HashMap::new(),
            leaves: HashMap::new(),
            leases: BTreeMap::new(),
        };
        for (index, record) in history.iter().enumerate() {
            let asked = (index, known.before(record.start_ns));
            match &record.request {
                Request::LockAcquire {
                    name,
                    lease: Some(lease),
                } => {
                    makers.leases.insert(*lease, 0);
                    let key = owner_key(name, *lease);
                    makers.joins.entry(key.clone()).or_default().push(asked);
                    if record.is_unknown() {
                        makers.leaves.entry(key).or_default().push(asked);
                    }
                }
                Request::LockRelease { key, .. } => makers.leaves.entry(key.clone()).or_default().push(asked),
                Request::LeaseGrant { lease, .. } | Request::LeaseRevoke { lease } => {
                    makers.leases.insert(*lease, 0);
                }
                Request::Put {
                    lease: Some(lease), ..
                } => {
                    makers.leases.insert(*lease, 0);
                }
                _ => {}
            }
            if record.is_unknown() {
                makers.add_write(asked, &seen);
            }
        }
        if in_time {
            let until = |(lease, life): (i64, Life<'_>)| (lease, life.certain_until_ns());
            makers.leases.extend(lives(history).into_iter().map(until));
        }
        makers
    }

    fn add_write(&mut self, asked: Asked, seen: &HashSet<&str>) {
        let Some(call) = Call::of(&self.history[asked.0].request).filter(Call::may_write) else {
            return;
        };
        let acts = || call.then.iter().chain(&call.otherwise);
        if acts().any(|act| matches!(act, Act::Delete(_))) {
            self.deletes.push(asked);
        }
        let values: HashSet<&'a str> = acts()
            .filter_map(|act| match act {
                Act::Put { value, .. } => Some(*value),
                _ => None,
            })
            .collect();
        if values.iter().all(|value| !seen.contains(value)) {
            self.writes.push(asked);
        }
        for value in values {
            self.by_value.entry(value).or_default().push(asked);
        }
    }

    /// Who may have made `revision`, of which this was seen, in the state before it; the likeliest first. `by_ns`: when it
    /// was there for sure.
    pub(super) fn of_revision(
        &self,
        revision: u64,
        by_ns: Option<u64>,
        traces: &[Trace<'a>],
        store: &Store<'a>,
    ) -> Vec<Maker> {
        let of_key = |of: &HashMap<String, Vec<Asked>>, key: &str| of.get(key).cloned().unwrap_or_default();
        let of_all = |of: &HashMap<String, Vec<Asked>>| of.values().flatten().copied().collect();
        let (writes, joins, leaves) = match traces {
            [] => (&self.writes[..], of_all(&self.joins), of_all(&self.leaves)),
            [
                Trace {
                    key,
                    put: Some(value),
                },
                ..,
            ] => {
                let writes = self.by_value.get(value).map_or(&[][..], Vec::as_slice);
                (writes, of_key(&self.joins, key), Vec::new())
            }
            [Trace { key, put: None }, ..] => (&self.deletes[..], Vec::new(), of_key(&self.leaves, key)),
        };
        let began = |asked: &&Asked| asked.1 < revision;
        // What was answered took effect at the revision of the answer, if it did.
        let here = |asked: &&Asked| {
            let answer = self.history[asked.0].answer();
            answer.is_none_or(|answer| answer.revision == revision)
        };
        let mut makers: Vec<Maker> = writes
            .iter()
            .filter(began)
            .map(|asked| Maker::Write(asked.0))
            .collect();
        makers.extend(joins.iter().filter(began).map(|asked| Maker::Join(asked.0)));
        let leaves = leaves.iter().filter(began).filter(here);
        makers.extend(leaves.map(|asked| Maker::Leave(asked.0)));
        if traces.iter().all(|trace| trace.put.is_none()) {
            let attached = store.leases_of(traces.first().map(|trace| trace.key));
            let may_end = |lease: &i64| {
                let until_ns = self.leases.get(lease);
                until_ns.is_some_and(|until_ns| by_ns.is_none_or(|by_ns| *until_ns <= by_ns))
            };
            makers.extend(attached.into_iter().filter(may_end).map(Maker::LeaseEnd));
        }
        makers
    }

    /// Does what this maker would do as `revision`.
    pub(super) fn make(&self, maker: Maker, revision: u64, store: &mut Store<'a>) {
        match maker {
            Maker::Write(index) => {
                if let Some(call) = Call::of(&self.history[index].request) {
                    store.execute(&call, revision);
                }
            }
            Maker::Join(index) => {
                if let Request::LockAcquire {
                    name,
                    lease: Some(lease),
                } = &self.history[index].request
                    && store.is_absent(&owner_key(name, *lease))
                {
                    store.put(&owner_key(name, *lease), "", Some(*lease), revision);
                }
            }
            Maker::Leave(index) => match &self.history[index].request {
                Request::LockAcquire {
                    name,
                    lease: Some(lease),
                } => {
                    store.delete(Span::Key(&owner_key(name, *lease)), revision);
                }
                Request::LockRelease { key, .. } => {
                    store.delete(Span::Key(key), revision);
                }
                _ => {}
            },
            Maker::LeaseEnd(lease) => store.end_lease(lease, revision),
            Maker::Stranger(_) => {}
        }
    }

    /// Whether nothing is lost by preferring one to another that makes the same changes.
    pub(super) fn as_good(&self, one: Maker, other: Maker) -> bool {
        match (one, other) {
            (Maker::Write(one), Maker::Write(other)) => {
                self.history[one].request == self.history[other].request
            }
            _ => !one.once(),
        }
    }

    /// What is known of where a value comes from: for explanations.
    pub(super) fn origin(&self, value: &str) -> String {
        let wrote = |record: &&Record| {
            Call::of(&record.request).is_some_and(|call| {
                let puts = |act: &Act<'_>| matches!(act, Act::Put { value: put, .. } if *put == value);
                call.then.iter().chain(&call.otherwise).any(puts)
            })
        };
        let origins: Vec<String> = self
            .history
            .iter()
            .filter(wrote)
            .map(ToString::to_string)
            .collect();
        if origins.is_empty() {
            "nobody wrote that value".into()
        } else {
            format!("that value is from:\n{}", origins.join("\n"))
        }
    }
}

/// Whether what was done shows all that was seen.
pub(super) fn shows(store: &Store<'_>, done_from: usize, traces: &[Trace<'_>], names: &Names) -> bool {
    traces.iter().all(|trace| {
        store.changes[done_from..].iter().any(|change| {
            names.name(change.key) == trace.key && change.after.map(|after| after.value) == trace.put
        })
    })
}
