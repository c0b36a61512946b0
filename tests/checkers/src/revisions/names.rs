//! All keys of a history, numbered in their order, so that those with a common prefix have consecutive numbers.

use std::collections::HashSet;
use std::ops::Range;

use crate::call::{Act, Call, Span};
use crate::history::{KeyValue, Keys, OpReply, Record, Reply, Request};

/// A key's number.
pub(crate) type Id = u32;

/// The keys.
pub(crate) struct Names(Vec<Box<str>>);

impl Names {
    pub(crate) fn of(history: &[Record]) -> Names {
        let mut names = HashSet::new();
        for record in history {
            collect(record, &mut |key| {
                if !names.contains(key) {
                    names.insert(Box::from(key));
                }
            });
        }
        let mut names: Vec<Box<str>> = names.into_iter().collect();
        names.sort_unstable();
        Names(names)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn name(&self, id: Id) -> &str {
        &self.0[id as usize]
    }

    /// The number of a key that stands in the history; of another one, none.
    pub(crate) fn id(&self, key: &str) -> Option<Id> {
        self.0
            .binary_search_by(|name| (**name).cmp(key))
            .ok()
            .map(|index| index as Id)
    }

    /// The numbers of all that are meant.
    pub(crate) fn ids(&self, span: Span<'_>) -> Range<Id> {
        match span {
            Span::Key(key) => self.id(key).map_or(0..0, |id| id..id + 1),
            Span::Prefix(prefix) => {
                let first = self.0.partition_point(|name| **name < *prefix);
                let count = self.0[first..].partition_point(|name| name.starts_with(prefix));
                first as Id..(first + count) as Id
            }
        }
    }

    pub(crate) fn ids_of(&self, keys: &Keys) -> Range<Id> {
        self.ids(keys.into())
    }
}

/// The key that a lock's owner has while it waits and while it holds.
pub(crate) fn owner_key(name: &str, lease: i64) -> String {
    format!("{name}/{lease:x}")
}

/// Names every key that the record names.
fn collect(record: &Record, see: &mut impl FnMut(&str)) {
    if let Some(call) = Call::of(&record.request) {
        for act in call.then.iter().chain(&call.otherwise) {
            if let Act::Put { key, .. } = act {
                see(key);
            }
        }
    }
    if let Request::LockAcquire {
        name,
        lease: Some(lease),
    } = &record.request
    {
        see(&owner_key(name, *lease));
    }
    let mut see_all = |kvs: &[KeyValue]| kvs.iter().for_each(|kv| see(&kv.key));
    match record.answer().map(|answer| &answer.reply) {
        Some(Reply::Read(kvs)) => see_all(kvs),
        Some(Reply::Txn(reply)) => reply.results.iter().for_each(|result| {
            if let OpReply::Read(kvs) = result {
                see_all(kvs);
            }
        }),
        Some(Reply::Lock { key, .. }) => see(key),
        Some(Reply::Watch { responses, .. }) => {
            responses
                .iter()
                .flat_map(|response| &response.events)
                .for_each(|event| see(event.key()));
        }
        _ => {}
    }
}
