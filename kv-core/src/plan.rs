//! Reads: which revisions a range means, decided from the index alone.
//!
//! A plan is made under the state's lock and costs no I/O; the values are fetched afterwards without any
//! lock, since a revision once written never changes. Limits, filters and sorts work on what the index knows,
//! so only values of the answer are fetched. Sorting by value is the exception: it has to read them all.

use std::cmp::Reverse;

use crate::history::Point;
use crate::index::Index;
use crate::{KeyRange, KeyValue, Range, RangeResult, Revision, SortOrder, SortTarget, Values};

/// A read that is decided but for its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The revision of the response's header: the current one when the plan was made.
    pub header_revision: i64,
    revision: i64,
    revisions: Vec<Revision>,
    /// How many of them [`Plan::next_piece`] has fetched.
    fetched: usize,
    count: i64,
    more: bool,
    keys_only: bool,
    by_value: Option<ByValue>,
}

/// A sort that only the values can decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ByValue {
    descending: bool,
    limit: usize,
}

impl Plan {
    /// Decides a read at the revision `at`.
    pub(crate) fn new(index: &Index, range: &Range, at: i64, header_revision: i64) -> Plan {
        let keys = KeyRange::new(&range.key, &range.range_end);
        let limit = usize::try_from(range.limit)
            .ok()
            .filter(|&limit| limit > 0)
            .unwrap_or(usize::MAX);
        let fetch = if range.count_only {
            0
        } else {
            fetch_bound(range, limit)
        };
        let mut found: Vec<Point> = Vec::new();
        let mut count = 0;
        index.visit(keys, |_, history| {
            if let Some(point) = history.at(at) {
                count += 1;
                if found.len() < fetch && passes(range, point) {
                    found.push(*point);
                }
            }
            true
        });
        let by_value = sort(range, limit, &mut found);
        let more = found.len() > limit;
        if by_value.is_none() {
            found.truncate(limit);
        }
        Plan {
            header_revision,
            revision: at,
            fetched: 0,
            revisions: found.iter().map(Point::revision).collect(),
            count,
            more,
            keys_only: range.keys_only,
            by_value,
        }
    }

    /// The revisions whose values [`Plan::finish`] will read, in that order.
    pub fn revisions(&self) -> &[Revision] {
        &self.revisions
    }

    /// Whether the answer leaves keys out for its limit.
    pub fn more(&self) -> bool {
        self.more
    }

    /// Whether [`Plan::next_piece`] has fetched all.
    pub fn is_fetched(&self) -> bool {
        self.fetched == self.revisions.len()
    }

    /// The revision that is read.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Fetches the next values, about `bytes_max` of keys and values but one at least; none after the last. For
    /// an answer that is given piece by piece.
    ///
    /// # Errors
    /// What `values` answers where it cannot give one of them.
    ///
    /// # Panics
    /// Where the order depends on the values: they are all needed then.
    pub fn next_piece<V: Values>(&mut self, values: &V, bytes_max: usize) -> Result<Vec<KeyValue>, V::Error> {
        assert!(
            self.by_value.is_none(),
            "values that are sorted are fetched at once"
        );
        let (mut kvs, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max
            && let Some(&at) = self.revisions.get(self.fetched)
        {
            let mut kv = values.get(at)?;
            if self.keys_only {
                kv.value.clear();
            }
            self.fetched += 1;
            bytes += kv.key.len() + kv.value.len();
            kvs.push(kv);
        }
        Ok(kvs)
    }

    /// How many keys the range holds; known without reading.
    pub fn count(&self) -> i64 {
        self.count
    }

    /// Fetches the values.
    ///
    /// # Errors
    /// What `values` answers where it cannot give one of [`Plan::revisions`].
    pub fn finish<V: Values>(self, values: &V) -> Result<RangeResult, V::Error> {
        let mut kvs = self
            .revisions
            .iter()
            .map(|&at| values.get(at))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(ByValue { descending, limit }) = self.by_value {
            if descending {
                kvs.sort_by(|a, b| b.value.cmp(&a.value));
            } else {
                kvs.sort_by(|a, b| a.value.cmp(&b.value));
            }
            kvs.truncate(limit);
        }
        if self.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        Ok(RangeResult {
            kvs,
            more: self.more,
            count: self.count,
        })
    }
}

/// How many keys to look at closely: one more than the limit, to know whether there are more, where the order
/// of the answer is that of the keys.
///
/// etcd also cuts at the limit before it sorts where a sort target comes without an order; so does this.
fn fetch_bound(range: &Range, limit: usize) -> usize {
    let key_order = range.sort_target == SortTarget::Key && range.sort_order != SortOrder::Descend;
    let cut_first = range.sort_order == SortOrder::None && !has_filter(range);
    if key_order || cut_first {
        limit.saturating_add(1)
    } else {
        usize::MAX
    }
}

fn has_filter(range: &Range) -> bool {
    range.min_mod_revision != 0
        || range.max_mod_revision != 0
        || range.min_create_revision != 0
        || range.max_create_revision != 0
}

fn passes(range: &Range, point: &Point) -> bool {
    let within =
        |revision: i64, min: i64, max: i64| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    within(point.main(), range.min_mod_revision, range.max_mod_revision)
        && within(point.create, range.min_create_revision, range.max_create_revision)
}

/// Sorts what is in key order by what was asked for. Keys that are equal in it stay in key order, in both
/// directions; etcd leaves their order open.
fn sort(range: &Range, limit: usize, found: &mut [Point]) -> Option<ByValue> {
    let descending = range.sort_order == SortOrder::Descend;
    let by = |found: &mut [Point], fact: fn(&Point) -> i64| {
        if descending {
            found.sort_by_key(|point| Reverse(fact(point)));
        } else {
            found.sort_by_key(fact);
        }
    };
    match range.sort_target {
        SortTarget::Key if descending => found.reverse(),
        SortTarget::Key => {}
        SortTarget::Version => by(found, |point| point.version),
        SortTarget::Create => by(found, |point| point.create),
        SortTarget::Mod => by(found, Point::main),
        SortTarget::Value => return Some(ByValue { descending, limit }),
    }
    None
}
