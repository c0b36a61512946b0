//! Sets of keys as permissions give them: ranges that are united where they touch.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::KeyRange;

/// From a key up to but not including another; without an end, all from the key on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interval {
    start: Bytes,
    end: Option<Bytes>,
}

impl Interval {
    /// The keys that a permission or a request means; `None` where it means none.
    fn of(range: KeyRange<'_>) -> Option<Interval> {
        let copy = Bytes::copy_from_slice;
        match range {
            // The least key after a key is the key and a zero byte.
            KeyRange::One(key) => Some(Interval {
                start: copy(key),
                end: Some([key, &[0]].concat().into()),
            }),
            KeyRange::From(key) => Some(Interval {
                start: copy(key),
                end: None,
            }),
            KeyRange::Span(key, end) => Some(Interval {
                start: copy(key),
                end: Some(copy(end)),
            }),
            KeyRange::Nothing => None,
        }
    }
}

/// Compares where intervals end: no end is the greatest.
fn compare_ends(a: Option<&Bytes>, b: Option<&Bytes>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.cmp(b),
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (None, None) => Ordering::Equal,
    }
}

/// A set of keys: intervals in order that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<Interval>);

impl Ranges {
    /// The union of ranges. Ranges that overlap or touch become one, so that what several permissions cover
    /// together is covered, as in etcd.
    pub(crate) fn union<'a>(ranges: impl IntoIterator<Item = KeyRange<'a>>) -> Ranges {
        let mut intervals: Vec<Interval> = ranges.into_iter().filter_map(Interval::of).collect();
        intervals.sort_by(|a, b| a.start.cmp(&b.start));
        let mut united: Vec<Interval> = Vec::new();
        for next in intervals {
            match united.last_mut() {
                Some(last) if last.end.as_ref().is_none_or(|end| next.start <= *end) => {
                    if compare_ends(next.end.as_ref(), last.end.as_ref()).is_gt() {
                        last.end = next.end;
                    }
                }
                _ => united.push(next),
            }
        }
        Ranges(united)
    }

    /// Whether every key of the range is in the set. A range that means no key is in no set, as in etcd.
    pub(crate) fn covers(&self, range: KeyRange<'_>) -> bool {
        let (start, end): (&[u8], Option<&[u8]>) = match range {
            KeyRange::One(key) => return self.around(key).is_some(),
            KeyRange::From(start) => (start, None),
            KeyRange::Span(start, end) => (start, Some(end)),
            KeyRange::Nothing => return false,
        };
        self.around(start)
            .is_some_and(|interval| match (&interval.end, end) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(ours), Some(asked)) => asked <= &ours[..],
            })
    }

    /// The interval that holds the key.
    fn around(&self, key: &[u8]) -> Option<&Interval> {
        let after = self.0.partition_point(|interval| &interval.start[..] <= key);
        let interval = &self.0[after.checked_sub(1)?];
        interval
            .end
            .as_ref()
            .is_none_or(|end| key < &end[..])
            .then_some(interval)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Short keys over a small alphabet, with the zero byte that ends of ranges are made of.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0, b'a', b'b']), 0..3)
    }

    fn ends() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        (key(), prop_oneof![Just(Vec::new()), Just(vec![0]), key()])
    }

    /// Every place where membership can change. Between two neighbours it is the same as at the first.
    fn places<'a>(ranges: impl IntoIterator<Item = &'a (Vec<u8>, Vec<u8>)>) -> BTreeSet<Vec<u8>> {
        let mut places = BTreeSet::new();
        for (key, end) in ranges {
            places.insert([&key[..], &[0]].concat());
            places.insert(key.clone());
            places.insert(end.clone());
        }
        places
    }

    fn range((key, end): &(Vec<u8>, Vec<u8>)) -> KeyRange<'_> {
        KeyRange::new(key, end)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_range_is_covered_when_each_of_its_keys_is(
            granted in prop::collection::vec(ends(), 0..6),
            asked in ends(),
        ) {
            let set = Ranges::union(granted.iter().map(range));
            let asked_range = range(&asked);
            let naive = asked_range != KeyRange::Nothing
                && places(granted.iter().chain([&asked]))
                    .iter()
                    .filter(|place| asked_range.contains(place))
                    .all(|place| granted.iter().any(|granted| range(granted).contains(place)));
            prop_assert_eq!(set.covers(asked_range), naive, "{:?} in {:?}", asked_range, set);
        }
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let set = Ranges::union([
            KeyRange::new(b"c", b"d"),
            KeyRange::new(b"a", b"b"),
            KeyRange::new(b"b", b"c"),
        ]);
        assert_eq!(set.0.len(), 1);
        assert!(set.covers(KeyRange::new(b"a", b"d")));
        assert!(!set.covers(KeyRange::new(b"a", b"d\0")));
        assert!(!set.covers(KeyRange::new(b"a", b"\0")));
        assert!(!set.covers(KeyRange::new(b"b", b"a")));
    }
}
