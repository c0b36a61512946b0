//! A second model of a different shape: the whole content of the store, once for every revision.
//!
//! It is slow and simple, and knows nothing of indexes, sweeps or rollbacks: a transaction works on a copy,
//! which is thrown away where it is refused.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv_core::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, Error, KeyValue, Op, Outcome, Put, Range,
    RangeResult, Response, SortOrder, SortTarget, Txn,
};

pub(crate) type Content = BTreeMap<Bytes, KeyValue>;

#[derive(Clone)]
pub(crate) struct Model {
    /// Content by revision; the first two are empty.
    pub(crate) contents: Vec<Content>,
    pub(crate) compacted: i64,
    pub(crate) clock_ms: u64,
    /// TTL in seconds, and end.
    pub(crate) leases: BTreeMap<i64, (i64, u64)>,
}

/// Whether `key` is meant by a request's key and range end.
pub(crate) fn means(first: &[u8], end: &[u8], key: &[u8]) -> bool {
    if end.is_empty() {
        key == first
    } else {
        key >= first && (end == b"\0" || key < end)
    }
}

/// A transaction at work: a copy of the content, and whether anything was written.
#[derive(Clone)]
struct Draft {
    content: Content,
    next: i64,
    changed: bool,
}

impl Draft {
    fn visible(&self) -> i64 {
        if self.changed { self.next } else { self.next - 1 }
    }
}

impl Model {
    pub(crate) fn new() -> Model {
        Model {
            contents: vec![Content::new(); 2],
            compacted: -1,
            clock_ms: 0,
            leases: BTreeMap::new(),
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.contents.len() as i64 - 1
    }

    pub(crate) fn now(&self) -> &Content {
        self.contents.last().expect("there is always a content")
    }

    pub(crate) fn apply(&mut self, command: &Command) -> Outcome {
        let mut draft = Draft {
            content: self.now().clone(),
            next: self.revision() + 1,
            changed: false,
        };
        let result = match command {
            Command::Compact(compact) => match compact.revision {
                revision if revision <= self.compacted => Err(Error::Compacted),
                revision if revision > self.revision() => Err(Error::FutureRevision),
                revision => {
                    self.compacted = revision;
                    Ok(Response::Compact)
                }
            },
            Command::Put(put) if !self.lease_is_fine(put) => Err(Error::LeaseNotFound),
            Command::Put(put) => self.put(&mut draft, put),
            Command::DeleteRange(delete) => Ok(self.delete(&mut draft, delete)),
            Command::Txn(txn) => self
                .check(txn, true)
                .and_then(|()| self.check(txn, false))
                .and_then(|()| self.txn(&mut draft, txn)),
            Command::Auth(_) | Command::As { .. } => unreachable!("not of this model, see auth.rs"),
            Command::LeaseGrant(grant) if self.leases.contains_key(&grant.id) => Err(Error::LeaseExists),
            Command::LeaseGrant(grant) => {
                let (id, ttl_s) = (grant.id, grant.ttl_s.max(2));
                let end = self.tick(grant.now_ms) + ttl_s as u64 * 1000;
                self.leases.insert(id, (ttl_s, end));
                Ok(Response::LeaseGrant { id, ttl_s })
            }
            Command::LeaseRevoke(revoke) => self
                .end_lease(revoke.id)
                .map(|()| Response::LeaseRevoke)
                .ok_or(Error::LeaseNotFound),
            Command::LeaseRenew(renew) => {
                let now = self.tick(renew.now_ms);
                let mut ttls_s = Vec::new();
                for id in &renew.ids {
                    let lease = self.leases.get_mut(id);
                    ttls_s.push(lease.as_ref().map_or(0, |lease| lease.0));
                    if let Some((ttl_s, end)) = lease {
                        *end = now + *ttl_s as u64 * 1000;
                    }
                }
                Ok(Response::LeaseRenew { ttls_s })
            }
            Command::LeaseExpire(expire) => {
                let now = self.tick(expire.now_ms);
                let mut expired = Vec::new();
                for &id in &expire.ids {
                    if self.leases.get(&id).is_some_and(|(_, end)| *end <= now) {
                        self.end_lease(id);
                        expired.push(id);
                    }
                }
                Ok(Response::LeaseExpire { expired })
            }
            Command::Alarm(_) => unreachable!("alarms have tests of their own"),
        };
        if result.is_ok() && draft.changed {
            self.contents.push(draft.content);
        }
        Outcome {
            revision: self.revision(),
            result,
        }
    }

    fn tick(&mut self, now_ms: u64) -> u64 {
        self.clock_ms = self.clock_ms.max(now_ms);
        self.clock_ms
    }

    pub(crate) fn lease_keys(&self, id: i64) -> Vec<Bytes> {
        let kvs = self.now().values().filter(|kv| kv.lease == id);
        kvs.map(|kv| kv.key.clone()).collect()
    }

    /// One revision where there were keys.
    fn end_lease(&mut self, id: i64) -> Option<()> {
        self.leases.remove(&id)?;
        let mut content = self.now().clone();
        content.retain(|_, kv| kv.lease != id);
        if content.len() < self.now().len() {
            self.contents.push(content);
        }
        Some(())
    }

    fn lease_is_fine(&self, put: &Put) -> bool {
        put.lease == 0 || self.leases.contains_key(&put.lease)
    }

    fn put(&self, draft: &mut Draft, put: &Put) -> Result<Response, Error> {
        let before = draft.content.get(&put.key).cloned();
        if (put.ignore_value || put.ignore_lease) && before.is_none() {
            return Err(Error::KeyNotFound);
        }
        let old = before.clone().unwrap_or(KeyValue {
            create_revision: draft.next,
            ..KeyValue::default()
        });
        let kv = KeyValue {
            key: put.key.clone(),
            value: if put.ignore_value {
                old.value
            } else {
                put.value.clone()
            },
            create_revision: old.create_revision,
            mod_revision: draft.next,
            version: old.version + 1,
            lease: if put.ignore_lease { old.lease } else { put.lease },
        };
        draft.content.insert(put.key.clone(), kv);
        draft.changed = true;
        Ok(Response::Put {
            prev_kv: if put.prev_kv { before } else { None },
        })
    }

    fn delete(&self, draft: &mut Draft, delete: &DeleteRange) -> Response {
        let (gone, left): (Content, Content) = draft
            .content
            .clone()
            .into_iter()
            .partition(|(key, _)| means(&delete.key, &delete.range_end, key));
        draft.content = left;
        draft.changed |= !gone.is_empty();
        let deleted = gone.len() as i64;
        Response::DeleteRange {
            deleted,
            prev_kvs: if delete.prev_kv {
                gone.into_values().collect()
            } else {
                vec![]
            },
        }
    }

    fn branch<'a>(&self, txn: &'a Txn) -> (bool, &'a [Op]) {
        if txn.compare.iter().all(|compare| self.holds(compare)) {
            (true, &txn.success)
        } else {
            (false, &txn.failure)
        }
    }

    /// Before anything is written: all puts of the branches taken, then all their reads.
    fn check(&self, txn: &Txn, puts: bool) -> Result<(), Error> {
        for op in self.branch(txn).1 {
            match op {
                Op::Txn(inner) => self.check(inner, puts)?,
                Op::Put(put) if puts => {
                    if (put.ignore_value || put.ignore_lease) && !self.now().contains_key(&put.key) {
                        return Err(Error::KeyNotFound);
                    }
                    if !self.lease_is_fine(put) {
                        return Err(Error::LeaseNotFound);
                    }
                }
                Op::Range(range) if !puts && range.revision > self.revision() => {
                    return Err(Error::FutureRevision);
                }
                Op::Range(range) if !puts && range.revision != 0 && range.revision < self.compacted => {
                    return Err(Error::Compacted);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn txn(&self, draft: &mut Draft, txn: &Txn) -> Result<Response, Error> {
        let (succeeded, ops) = self.branch(txn);
        let mut responses = Vec::new();
        for op in ops {
            let response = match op {
                Op::Range(range) => {
                    let content = if range.revision <= 0 {
                        &draft.content
                    } else {
                        &self.contents[range.revision as usize]
                    };
                    Response::Range(select(content, range))
                }
                Op::Put(put) => self.put(draft, put)?,
                Op::DeleteRange(delete) => self.delete(draft, delete),
                Op::Txn(inner) => self.txn(draft, inner)?,
            };
            let revision = if matches!(op, Op::Txn(_)) {
                0
            } else {
                draft.visible()
            };
            responses.push((revision, response));
        }
        Ok(Response::Txn { succeeded, responses })
    }

    fn holds(&self, compare: &Compare) -> bool {
        let ordered = |kv: &KeyValue| {
            let ordering = match &compare.target {
                CompareTarget::Version(fact) => kv.version.cmp(fact),
                CompareTarget::Create(fact) => kv.create_revision.cmp(fact),
                CompareTarget::Mod(fact) => kv.mod_revision.cmp(fact),
                CompareTarget::Value(fact) => kv.value.cmp(fact),
                CompareTarget::Lease(fact) => kv.lease.cmp(fact),
            };
            match compare.result {
                CompareResult::Equal => ordering.is_eq(),
                CompareResult::NotEqual => ordering.is_ne(),
                CompareResult::Greater => ordering.is_gt(),
                CompareResult::Less => ordering.is_lt(),
            }
        };
        let kvs: Vec<_> = self
            .now()
            .values()
            .filter(|kv| means(&compare.key, &compare.range_end, &kv.key))
            .collect();
        if kvs.is_empty() {
            return !matches!(compare.target, CompareTarget::Value(_)) && ordered(&KeyValue::default());
        }
        kvs.into_iter().all(ordered)
    }

    /// A read outside a transaction: the revision of its header, and the answer.
    pub(crate) fn read(&self, range: &Range) -> Result<(i64, RangeResult), Error> {
        if range.revision > self.revision() {
            return Err(Error::FutureRevision);
        }
        let at = if range.revision <= 0 {
            self.revision()
        } else {
            range.revision
        };
        if at < self.compacted {
            return Err(Error::Compacted);
        }
        Ok((self.revision(), select(&self.contents[at as usize], range)))
    }
}

fn select(content: &Content, range: &Range) -> RangeResult {
    let mut kvs: Vec<KeyValue> = content
        .values()
        .filter(|kv| means(&range.key, &range.range_end, &kv.key))
        .cloned()
        .collect();
    let count = kvs.len() as i64;
    let limit = if range.limit > 0 {
        range.limit as usize
    } else {
        usize::MAX
    };
    let filters = [
        range.min_mod_revision,
        range.max_mod_revision,
        range.min_create_revision,
        range.max_create_revision,
    ];
    if range.count_only {
        kvs.clear();
    }
    if range.sort_order == SortOrder::None && filters == [0; 4] {
        kvs.truncate(limit.saturating_add(1));
    }
    kvs.retain(|kv| range.min_mod_revision == 0 || kv.mod_revision >= range.min_mod_revision);
    kvs.retain(|kv| range.max_mod_revision == 0 || kv.mod_revision <= range.max_mod_revision);
    kvs.retain(|kv| range.min_create_revision == 0 || kv.create_revision >= range.min_create_revision);
    kvs.retain(|kv| range.max_create_revision == 0 || kv.create_revision <= range.max_create_revision);
    kvs.sort_by(|a, b| {
        let ordering = match range.sort_target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        if range.sort_order == SortOrder::Descend {
            ordering.reverse()
        } else {
            ordering
        }
    });
    let more = kvs.len() > limit;
    kvs.truncate(limit);
    if range.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
    }
    RangeResult { kvs, more, count }
}
