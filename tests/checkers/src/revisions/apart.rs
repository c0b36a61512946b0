//! Which keys have nothing to do with each other: no write touches or compares both. What is wrong with one cannot be
//! mended then by deciding otherwise about the other.

use std::collections::{HashMap, HashSet};

use super::names::{Id, Names, owner_key};
use crate::call::{Act, Call, Span};
use crate::history::{Keys, Record, Request};

/// The groups of keys.
pub(super) struct Apart(Vec<Id>);

impl Apart {
    pub(super) fn of(history: &[Record], names: &Names) -> Apart {
        let mut apart = Apart((0..names.len() as Id).collect());
        let mut leases: HashMap<i64, Id> = HashMap::new();
        let mut ranges: HashSet<&str> = HashSet::new();
        for record in history {
            let attached = match &record.request {
                Request::Put {
                    key,
                    lease: Some(lease),
                    ..
                } => names.id(key).map(|id| (*lease, id)),
                Request::LockAcquire {
                    name,
                    lease: Some(lease),
                } => names.id(&owner_key(name, *lease)).map(|id| (*lease, id)),
                Request::Txn(_) => None,
                Request::Delete {
                    keys: Keys::Prefix(_),
                } => None,
                _ => continue,
            };
            if let Some((lease, id)) = attached {
                let first = *leases.entry(lease).or_insert(id);
                apart.join(first, id);
            }
            if let Some(call) = Call::of(&record.request) {
                apart.join_call(&call, names, &mut ranges, &mut leases);
            }
        }
        apart
    }

    fn join_call<'a>(
        &mut self,
        call: &Call<'a>,
        names: &Names,
        ranges: &mut HashSet<&'a str>,
        leases: &mut HashMap<i64, Id>,
    ) {
        let mut first: Option<Id> = None;
        let mut join = |apart: &mut Apart, id: Id| {
            let first = *first.get_or_insert(id);
            apart.join(first, id);
        };
        for id in call.compares.iter().filter_map(|(key, _)| names.id(key)) {
            join(self, id);
        }
        for act in call.then.iter().chain(&call.otherwise) {
            match act {
                Act::Read(_) => {}
                Act::Put { key, lease, .. } => {
                    if let Some(id) = names.id(key) {
                        join(self, id);
                        if let Some(lease) = lease {
                            let of_lease = *leases.entry(*lease).or_insert(id);
                            join(self, of_lease);
                        }
                    }
                }
                // All keys of a range are joined once; then one stands for them.
                Act::Delete(span) => {
                    let ids = names.ids(*span);
                    let known = matches!(span, Span::Prefix(prefix) if !ranges.insert(prefix));
                    let count = if known { 1 } else { ids.len() };
                    ids.take(count).for_each(|id| join(self, id));
                }
            }
        }
    }

    fn join(&mut self, one: Id, other: Id) {
        let (one, other) = (self.group_shortened(one), self.group_shortened(other));
        self.0[other as usize] = one;
    }

    fn group_shortened(&mut self, mut id: Id) -> Id {
        while self.0[id as usize] != id {
            self.0[id as usize] = self.0[self.0[id as usize] as usize];
            id = self.0[id as usize];
        }
        id
    }

    /// The group of a key: the same number for all keys of a group.
    pub(super) fn group(&self, mut id: Id) -> Id {
        while self.0[id as usize] != id {
            id = self.0[id as usize];
        }
        id
    }
}
