//! The keys that a transaction deletes, to find puts of the same keys.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::DeleteRange;

/// A set of keys and spans of keys.
///
/// A deletion of every key from one on counts as no keys here, and so does one whose end is not above its
/// start: etcd's check does not see the former either, and refusing what etcd accepts would break its
/// clients.
#[derive(Debug, Default)]
pub(crate) struct Intervals<'a> {
    keys: BTreeSet<&'a [u8]>,
    /// From start to end, the end excluded; apart from each other.
    spans: BTreeMap<&'a [u8], &'a [u8]>,
}

impl<'a> Intervals<'a> {
    pub(crate) fn insert(&mut self, delete: &'a DeleteRange) {
        if delete.range_end.is_empty() {
            self.keys.insert(&delete.key);
        } else if delete.key < delete.range_end {
            self.insert_span(&delete.key, &delete.range_end);
        }
    }

    /// Adds what another set holds.
    pub(crate) fn extend(&mut self, other: Intervals<'a>) {
        self.keys.extend(other.keys);
        for (start, end) in other.spans {
            self.insert_span(start, end);
        }
    }

    fn insert_span(&mut self, mut start: &'a [u8], mut end: &'a [u8]) {
        // Spans are apart, so those that touch the new one are the last few that start at or before its end.
        while let Some((&from, &to)) = self.spans.range(..=end).next_back() {
            if to < start {
                break;
            }
            self.spans.remove(from);
            start = start.min(from);
            end = end.max(to);
        }
        self.spans.insert(start, end);
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        let up_to_key = (Bound::Unbounded, Bound::Included(key));
        self.keys.contains(key)
            || self
                .spans
                .range::<[u8], _>(up_to_key)
                .next_back()
                .is_some_and(|(_, &end)| key < end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn contains_what_a_list_contains(
            deletes in prop::collection::vec((0u8..30, 0u8..31), 0..12),
            others in prop::collection::vec((0u8..30, 0u8..31), 0..4),
        ) {
            let delete = |&(start, end): &(u8, u8)| DeleteRange {
                key: vec![b'a' + start].into(),
                range_end: if end == 30 { bytes::Bytes::new() } else { vec![b'a' + end].into() },
                prev_kv: false,
            };
            let (deletes, others): (Vec<_>, Vec<_>) =
                (deletes.iter().map(delete).collect(), others.iter().map(delete).collect());
            let (mut set, mut more) = (Intervals::default(), Intervals::default());
            deletes.iter().for_each(|delete| set.insert(delete));
            others.iter().for_each(|delete| more.insert(delete));
            set.extend(more);
            for key in (0..30u8).flat_map(|letter| [vec![b'a' + letter], vec![b'a' + letter, 0]]) {
                let listed = deletes.iter().chain(&others).any(|delete| {
                    let within = key >= delete.key && key < delete.range_end;
                    key == delete.key && delete.range_end.is_empty() || within
                });
                prop_assert_eq!(set.contains(&key), listed, "{:?}", key);
            }
        }
    }
}
