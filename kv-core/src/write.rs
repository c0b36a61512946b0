//! The writes of one command: all at one revision, all or none.

use crate::index::Index;
use crate::key::Key;
use crate::txn::{Branch, Step};
use crate::{
    DeleteRange, Effects, Error, KeyRange, KeyValue, Put, Range, Record, Response, Revision, State, Txn,
    Values,
};

/// Why a command ended before its end.
pub(crate) enum Stop<E> {
    /// An answer for the client, the same on every node.
    Refused(Error),
    /// This node cannot go on.
    Fault(E),
}

impl<E> From<Error> for Stop<E> {
    fn from(error: Error) -> Self {
        Stop::Refused(error)
    }
}

/// Applies one command to the state; ends with [`Writer::commit`] or [`Writer::roll_back`].
pub(crate) struct Writer<'a, V> {
    state: &'a mut State,
    view: &'a V,
    effects: &'a mut Effects,
    /// Where in the records this command's begin.
    begin: usize,
}

/// The values as the command's next operation sees them: its own writes before those of the store.
struct Overlay<'a, V> {
    view: &'a V,
    own: &'a [(Revision, Record)],
}

impl<V: Values> Values for Overlay<'_, V> {
    type Error = V::Error;

    fn get(&self, at: Revision) -> Result<KeyValue, V::Error> {
        // Sub-revisions count from 0 without a gap, so the number is the place.
        let own = usize::try_from(at.sub).ok().and_then(|place| self.own.get(place));
        match own {
            Some((revision, Record::Put(kv))) if *revision == at => Ok(kv.clone()),
            _ => self.view.get(at),
        }
    }
}

impl<'a, V: Values> Writer<'a, V> {
    pub(crate) fn new(state: &'a mut State, view: &'a V, effects: &'a mut Effects) -> Self {
        let begin = effects.records.len();
        Writer {
            state,
            view,
            effects,
            begin,
        }
    }

    /// The revision advances by one where anything was written, and leases follow what was.
    pub(crate) fn commit(self) {
        self.state.revision = self.visible();
        for (_, record) in &self.effects.records[self.begin..] {
            self.state.leases.follow(record);
        }
    }

    /// Takes back what was written, as if the command had not been.
    pub(crate) fn roll_back(self) {
        for (_, record) in self.effects.records.drain(self.begin..).rev() {
            self.state.index.undo(record.key());
        }
    }

    fn own(&self) -> &[(Revision, Record)] {
        &self.effects.records[self.begin..]
    }

    fn overlay(&self) -> Overlay<'_, V> {
        Overlay {
            view: self.view,
            own: self.own(),
        }
    }

    /// The revision at which the next write happens.
    fn next(&self) -> Revision {
        let sub = i64::try_from(self.own().len()).expect("a length fits into an i64");
        Revision {
            main: self.state.revision + 1,
            sub,
        }
    }

    /// The revision that the next operation sees as the current one.
    fn visible(&self) -> i64 {
        self.state.revision + i64::from(!self.own().is_empty())
    }

    fn index(&self) -> &Index {
        &self.state.index
    }

    /// What the key holds now.
    fn current(&self, key: &[u8]) -> Result<Option<KeyValue>, Stop<V::Error>> {
        match self.index().get(key).and_then(|history| history.live()) {
            Some(point) => self
                .overlay()
                .get(point.revision())
                .map(Some)
                .map_err(Stop::Fault),
            None => Ok(None),
        }
    }

    /// A put that is the whole command. etcd asks for the lease first here, and in a transaction for the key
    /// first.
    pub(crate) fn single_put(&mut self, put: &Put) -> Result<Response, Stop<V::Error>> {
        self.state.check_lease(put)?;
        self.put(put)
    }

    fn put(&mut self, put: &Put) -> Result<Response, Stop<V::Error>> {
        let keeps = put.ignore_value || put.ignore_lease;
        let previous = if keeps || put.prev_kv {
            self.current(&put.key)?
        } else {
            None
        };
        let (mut value, mut lease) = (&put.value, put.lease);
        if keeps {
            let previous = previous.as_ref().ok_or(Error::KeyNotFound)?;
            if put.ignore_value {
                value = &previous.value;
            }
            if put.ignore_lease {
                lease = previous.lease;
            }
        }
        let at = self.next();
        let (create_revision, version) = self.state.index.put(&put.key, at, value.len());
        let kv = KeyValue {
            key: put.key.clone(),
            value: value.clone(),
            create_revision,
            mod_revision: at.main,
            version,
            lease,
        };
        self.effects.records.push((at, Record::Put(kv)));
        Ok(Response::Put {
            prev_kv: previous.filter(|_| put.prev_kv),
        })
    }

    pub(crate) fn delete_range(&mut self, delete: &DeleteRange) -> Result<Response, Stop<V::Error>> {
        let prev_kvs = if delete.prev_kv {
            self.read_for_delete(delete)?
        } else {
            Vec::new()
        };
        let (at, before) = (self.next(), self.effects.records.len());
        let keys = KeyRange::new(&delete.key, &delete.range_end);
        self.state.index.delete(keys, at, |key, at| {
            // The request's own bytes where they are the key; a copy where the key came out of a range.
            let key = if key == delete.key {
                delete.key.clone()
            } else {
                key.to_vec().into()
            };
            self.effects.records.push((at, Record::Delete { key }));
        });
        let deleted = i64::try_from(self.effects.records.len() - before).expect("a length fits into an i64");
        Ok(Response::DeleteRange { deleted, prev_kvs })
    }

    /// Deletes keys that exist, in the order given.
    pub(crate) fn delete_keys(&mut self, keys: &[Key]) {
        for key in keys {
            let at = self.next();
            let records = &mut self.effects.records;
            let index = &mut self.state.index;
            index.delete(KeyRange::One(key.as_slice()), at, |key, at| {
                let key = key.to_vec().into();
                records.push((at, Record::Delete { key }));
            });
        }
    }

    fn read_for_delete(&self, delete: &DeleteRange) -> Result<Vec<KeyValue>, Stop<V::Error>> {
        let range = Range {
            key: delete.key.clone(),
            range_end: delete.range_end.clone(),
            ..Range::default()
        };
        let plan = self.state.plan_at(&range, self.visible())?;
        Ok(plan.finish(&self.overlay()).map_err(Stop::Fault)?.kvs)
    }

    /// A whole transaction: everything that can be refused is, before anything is written.
    pub(crate) fn txn(&mut self, txn: &Txn) -> Result<Response, Stop<V::Error>> {
        let branch = Branch::decide(self.state, self.view, txn).map_err(Stop::Fault)?;
        branch.check_puts(self.state)?;
        branch.check_ranges(self.state)?;
        self.run(&branch)
    }

    fn run(&mut self, branch: &Branch<'_>) -> Result<Response, Stop<V::Error>> {
        let mut responses = Vec::with_capacity(branch.steps.len());
        for step in &branch.steps {
            let response = match step {
                Step::Range(range) => {
                    let plan = self.state.plan_at(range, self.visible())?;
                    Response::Range(plan.finish(&self.overlay()).map_err(Stop::Fault)?)
                }
                Step::Put(put) => self.put(put)?,
                Step::DeleteRange(delete) => self.delete_range(delete)?,
                Step::Txn(inner) => {
                    responses.push((0, self.run(inner)?));
                    continue;
                }
            };
            responses.push((self.visible(), response));
        }
        Ok(Response::Txn {
            succeeded: branch.succeeded,
            responses,
        })
    }
}
