//! A simple model of the store: what every key holds, and every change there was.

use std::collections::BTreeSet;
use std::ops::Range;

use super::names::{Id, Names};
use crate::call::{Act, Call, Guard, Said, Saw, Span};
use crate::history::KeyValue;

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value<'a> {
    pub(crate) value: &'a str,
    pub(crate) created: u64,
    pub(crate) modified: u64,
    pub(crate) version: u64,
    pub(crate) lease: Option<i64>,
}

/// One change of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change<'a> {
    pub(crate) revision: u64,
    pub(crate) key: Id,
    pub(crate) before: Option<Value<'a>>,
    pub(crate) after: Option<Value<'a>>,
}

/// What a call has done.
pub(super) struct Done<'a> {
    succeeded: bool,
    results: Vec<Result<'a>>,
}

/// What differs between what was done and what a client was told.
pub(super) struct Difference {
    pub(super) text: String,
    /// The key that it is about, where it is about one.
    pub(super) key: Option<Id>,
}

impl Difference {
    fn new(text: String, key: Option<Id>) -> Difference {
        Difference { text, key }
    }
}

enum Result<'a> {
    Kvs(Vec<(Id, Value<'a>)>),
    Put,
    Deleted(u64),
}

/// The store.
pub(super) struct Store<'a> {
    pub(super) names: &'a Names,
    now: Vec<Option<Value<'a>>>,
    /// Every change, in the order of revisions.
    pub(super) changes: Vec<Change<'a>>,
}

impl<'a> Store<'a> {
    pub(super) fn new(names: &'a Names) -> Store<'a> {
        Store {
            names,
            now: vec![None; names.len()],
            changes: Vec::new(),
        }
    }

    /// Executes a call as this revision. All comparisons see the state before it.
    pub(super) fn execute(&mut self, call: &Call<'a>, revision: u64) -> Done<'a> {
        let succeeded = call.compares.iter().all(|(key, guard)| self.holds(key, *guard));
        let acts = if succeeded { &call.then } else { &call.otherwise };
        let results = acts.iter().map(|act| self.step(act, revision)).collect();
        Done { succeeded, results }
    }

    fn holds(&self, key: &str, guard: Guard<'_>) -> bool {
        let value = self.names.id(key).and_then(|id| self.now[id as usize]);
        match guard {
            Guard::Value(wanted) => value.is_some_and(|value| value.value == wanted),
            Guard::Version(wanted) => value.map_or(0, |value| value.version) == wanted,
            Guard::CreateRevision(wanted) => self.created(key) == wanted,
            Guard::ModRevision(wanted) => value.map_or(0, |value| value.modified) == wanted,
        }
    }

    fn step(&mut self, act: &Act<'a>, revision: u64) -> Result<'a> {
        match act {
            Act::Read(span) => Result::Kvs(self.read(*span)),
            Act::Put { key, value, lease } => {
                self.put(key, value, *lease, revision);
                Result::Put
            }
            Act::Delete(span) => Result::Deleted(self.delete(*span, revision)),
        }
    }

    fn read(&self, span: Span<'_>) -> Vec<(Id, Value<'a>)> {
        self.names
            .ids(span)
            .filter_map(|id| Some((id, self.now[id as usize]?)))
            .collect()
    }

    pub(super) fn put(&mut self, key: &str, value: &'a str, lease: Option<i64>, revision: u64) {
        let id = self
            .names
            .id(key)
            .expect("every key that is put stands in the history");
        let before = self.now[id as usize];
        let after = Value {
            value,
            created: before.map_or(revision, |before| before.created),
            modified: revision,
            version: before.map_or(0, |before| before.version) + 1,
            lease,
        };
        self.set(id, Some(after), revision);
    }

    pub(super) fn delete(&mut self, span: Span<'_>, revision: u64) -> u64 {
        let there = self.read(span);
        for (id, _) in &there {
            self.set(*id, None, revision);
        }
        there.len() as u64
    }

    /// Removes all keys that are attached to a lease.
    pub(super) fn end_lease(&mut self, lease: i64, revision: u64) {
        for id in self.attached(lease) {
            self.set(id, None, revision);
        }
    }

    /// All keys that are attached to a lease.
    pub(super) fn attached(&self, lease: i64) -> Vec<Id> {
        let hangs = |id: &Id| self.now[*id as usize].is_some_and(|value| value.lease == Some(lease));
        (0..self.now.len() as Id).filter(hangs).collect()
    }

    /// The revision that created the oldest of some keys that are there.
    pub(super) fn oldest(&self, keys: Range<Id>) -> Option<u64> {
        let there = keys.filter_map(|id| self.now[id as usize]);
        there.map(|value| value.created).min()
    }

    /// The revision that created a key; 0 when it is not there.
    pub(super) fn created(&self, key: &str) -> u64 {
        let value = self.names.id(key).and_then(|id| self.now[id as usize]);
        value.map_or(0, |value| value.created)
    }

    pub(super) fn is_absent(&self, key: &str) -> bool {
        self.names
            .id(key)
            .is_none_or(|id| self.now[id as usize].is_none())
    }

    /// The leases that keys are attached to: of this key, or all.
    pub(super) fn leases_of(&self, key: Option<&str>) -> BTreeSet<i64> {
        let ids = key.map_or(0..self.now.len() as Id, |key| self.names.ids(Span::Key(key)));
        ids.filter_map(|id| self.now[id as usize]?.lease).collect()
    }

    fn set(&mut self, key: Id, after: Option<Value<'a>>, revision: u64) {
        let before = std::mem::replace(&mut self.now[key as usize], after);
        self.changes.push(Change {
            revision,
            key,
            before,
            after,
        });
    }

    /// Takes all changes back but the first ones.
    pub(super) fn undo(&mut self, keep: usize) {
        while self.changes.len() > keep {
            if let Some(change) = self.changes.pop() {
                self.now[change.key as usize] = change.before;
            }
        }
    }

    /// The same, and what they were.
    pub(super) fn take_back(&mut self, keep: usize) -> Vec<Change<'a>> {
        let taken = self.changes[keep..].to_vec();
        self.undo(keep);
        taken
    }
}

impl Done<'_> {
    /// What differs between this and what a client was told; none if nothing does.
    pub(super) fn differs(&self, said: &Said<'_>, names: &Names) -> Option<Difference> {
        if self.succeeded != said.succeeded {
            let hold = if self.succeeded { "hold" } else { "do not hold" };
            return Some(Difference::new(format!("its comparisons {hold}"), None));
        }
        if self.results.len() != said.results.len() {
            return Some(Difference::new(
                format!("it has {} steps", self.results.len()),
                None,
            ));
        }
        self.results
            .iter()
            .zip(&said.results)
            .find_map(|(result, saw)| result.differs(saw, names))
    }
}

impl Result<'_> {
    fn differs(&self, saw: &Saw<'_>, names: &Names) -> Option<Difference> {
        let text = match (self, saw) {
            (Result::Put, Saw::Put) => return None,
            (Result::Deleted(count), Saw::Deleted(said)) if count == said => return None,
            (Result::Deleted(count), Saw::Deleted(_)) => format!("there were {count} keys to delete"),
            (Result::Kvs(kvs), Saw::Kvs(said)) => return differ(kvs, said, names),
            (Result::Kvs(kvs), Saw::Elements(said)) => {
                // The prefix of the set is what the names have and the elements have not.
                let same = |((id, value), element): (&(Id, Value<'_>), &String)| {
                    value.value == element && names.name(*id).ends_with(element.as_str())
                };
                if kvs.len() == said.len() && kvs.iter().zip(*said).all(same) {
                    return None;
                }
                format!("the set had {} elements", kvs.len())
            }
            _ => "that is no answer to it".into(),
        };
        Some(Difference::new(text, None))
    }
}

fn differ(kvs: &[(Id, Value<'_>)], said: &[KeyValue], names: &Names) -> Option<Difference> {
    let mut said = said.iter().peekable();
    for (id, value) in kvs {
        let name = names.name(*id);
        // What was not there stands before what was: the keys are in order.
        let saw = said.next_if(|said| *said.key <= *name);
        if let Some(saw) = saw
            && *saw.key != *name
        {
            return Some(Difference::new(
                format!("there was no {}", saw.key),
                names.id(&saw.key),
            ));
        }
        if !saw.is_some_and(|saw| value.is(name, saw)) {
            return Some(Difference::new(
                format!("there was {}", value.describe(name)),
                Some(*id),
            ));
        }
    }
    said.next()
        .map(|saw| Difference::new(format!("there was no {}", saw.key), names.id(&saw.key)))
}

impl Value<'_> {
    /// Whether that is what somebody saw.
    pub(crate) fn is(&self, key: &str, kv: &KeyValue) -> bool {
        *kv.key == *key
            && *kv.value == *self.value
            && kv.create_revision == self.created
            && kv.mod_revision == self.modified
            && kv.version == self.version
            && kv.lease == self.lease
    }

    pub(crate) fn describe(&self, key: &str) -> String {
        format!(
            "{key} = {:?} (created {}, modified {}, version {})",
            self.value, self.created, self.modified, self.version
        )
    }
}
