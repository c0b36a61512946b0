//! Which watches a key concerns, found without looking at the others.
//!
//! Watches of one key stand in a map. Those of a range stand in an array sorted by where they start, over which
//! a binary tree is laid: the middle of a stretch is the root of its halves, and each root knows the greatest
//! end in its stretch, so that a search turns back where everything ends before the key. New ranges gather in
//! a short list beside the array until it pays to sort them in.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap, hash_map::Entry},
    ops::Range,
};

use bytes::Bytes;
use kv_core::KeyRange;

/// New ranges that are looked at one by one, at least. Where there are many others, four times the root of their
/// number: sorting in a range costs about as much then as looking at it.
const RECENT_MIN: usize = 32;

/// What a watch is of; `key` and `range_end` as etcd takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    /// The key, or the first of the range.
    pub key: Bytes,
    /// Empty for the one key, a zero byte for all from the key on, else where the range ends.
    pub range_end: Bytes,
}

impl Interest {
    /// The keys.
    pub fn range(&self) -> KeyRange<'_> {
        KeyRange::new(&self.key, &self.range_end)
    }
}

/// Watches by the keys they are of. Each has a number.
#[derive(Debug)]
pub(super) struct Index<T> {
    keys: HashMap<Bytes, Watches<T>>,
    ranges: Ranges<T>,
    len: usize,
}

/// The watches of one key, by number. There is mostly one: then it takes no memory of its own.
#[derive(Debug)]
enum Watches<T> {
    One(u64, T),
    Many(BTreeMap<u64, T>),
}

impl<T> Watches<T> {
    fn with(self, number: u64, item: T) -> Watches<T> {
        let mut watches = match self {
            Watches::One(first, of_first) => BTreeMap::from([(first, of_first)]),
            Watches::Many(watches) => watches,
        };
        assert!(watches.insert(number, item).is_none(), "{number} is there twice");
        Watches::Many(watches)
    }

    fn each(&self, mut found: impl FnMut(&T)) {
        match self {
            Watches::One(_, item) => found(item),
            Watches::Many(watches) => watches.values().for_each(found),
        }
    }
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Index {
            keys: HashMap::new(),
            ranges: Ranges::default(),
            len: 0,
        }
    }
}

impl<T> Index<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a watch; its number is its own.
    pub(super) fn insert(&mut self, interest: &Interest, number: u64, item: T) {
        self.len += 1;
        match interest.range() {
            KeyRange::One(_) => {
                let watches = match self.keys.remove(&interest.key) {
                    None => Watches::One(number, item),
                    Some(watches) => watches.with(number, item),
                };
                self.keys.insert(interest.key.clone(), watches);
            }
            KeyRange::From(_) | KeyRange::Span(..) | KeyRange::Nothing => {
                self.ranges.insert(Span::new(interest, number, item));
            }
        }
    }

    /// Takes a watch out; the interest must be the one it was added with.
    pub(super) fn remove(&mut self, interest: &Interest, number: u64) -> Option<T> {
        let removed = match interest.range() {
            KeyRange::One(_) => {
                let Entry::Occupied(mut watches) = self.keys.entry(interest.key.clone()) else {
                    return None;
                };
                match watches.get_mut() {
                    Watches::One(only, _) if *only == number => match watches.remove() {
                        Watches::One(_, item) => Some(item),
                        Watches::Many(_) => None,
                    },
                    Watches::One(..) => None,
                    Watches::Many(many) => {
                        let item = many.remove(&number);
                        if many.is_empty() {
                            watches.remove();
                        }
                        item
                    }
                }
            }
            KeyRange::From(_) | KeyRange::Span(..) | KeyRange::Nothing => {
                self.ranges.remove(&interest.key, number)
            }
        };
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// Shows each watch that the key concerns.
    pub(super) fn each(&self, key: &[u8], mut found: impl FnMut(&T)) {
        if let Some(watches) = self.keys.get(key) {
            watches.each(&mut found);
        }
        self.ranges.each(key, &mut found);
    }

    /// Whether the key concerns any.
    pub(super) fn any(&self, key: &[u8]) -> bool {
        let mut any = self.keys.contains_key(key);
        if !any {
            self.ranges.each(key, &mut |_| any = true);
        }
        any
    }
}

/// A watch of a range.
#[derive(Debug)]
struct Span<T> {
    start: Bytes,
    /// `None`: it goes on for ever.
    end: Option<Bytes>,
    number: u64,
    /// `None` once it is taken out.
    item: Option<T>,
}

impl<T> Span<T> {
    fn new(interest: &Interest, number: u64, item: T) -> Span<T> {
        let endless = matches!(interest.range(), KeyRange::From(_));
        Span {
            start: interest.key.clone(),
            end: (!endless).then(|| interest.range_end.clone()),
            number,
            item: Some(item),
        }
    }

    fn ends_after(&self, key: &[u8]) -> bool {
        self.end.as_ref().is_none_or(|end| key < end)
    }

    fn place(&self) -> (&[u8], u64) {
        (&self.start, self.number)
    }
}

#[derive(Debug)]
struct Ranges<T> {
    /// By start, then number.
    sorted: Vec<Span<T>>,
    /// For the middle of each stretch, the place of the span in that stretch that ends last.
    last_end: Vec<usize>,
    /// Spans in `sorted` that are taken out.
    gone: usize,
    recent: Vec<Span<T>>,
}

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Ranges {
            sorted: Vec::new(),
            last_end: Vec::new(),
            gone: 0,
            recent: Vec::new(),
        }
    }
}

impl<T> Ranges<T> {
    fn insert(&mut self, span: Span<T>) {
        self.recent.push(span);
        if self.recent.len() > RECENT_MIN.max(4 * self.sorted.len().isqrt()) {
            self.sort_in();
        }
    }

    fn remove(&mut self, start: &[u8], number: u64) -> Option<T> {
        if let Some(place) = self.recent.iter().position(|span| span.number == number) {
            return self.recent.swap_remove(place).item;
        }
        let place = self
            .sorted
            .binary_search_by(|span| span.place().cmp(&(start, number)))
            .ok()?;
        let item = self.sorted[place].item.take()?;
        self.gone += 1;
        if self.gone > RECENT_MIN.max(self.sorted.len() / 2) {
            self.sort_in();
        }
        Some(item)
    }

    fn sort_in(&mut self) {
        self.sorted.append(&mut self.recent);
        self.sorted.retain(|span| span.item.is_some());
        // Stable, and quick on what is two sorted stretches.
        self.sorted.sort_by(|a, b| a.place().cmp(&b.place()));
        self.gone = 0;
        self.last_end.clear();
        self.last_end.resize(self.sorted.len(), 0);
        self.lay_tree(0..self.sorted.len());
    }

    /// Fills `last_end` for a stretch; returns what it says of it.
    fn lay_tree(&mut self, stretch: Range<usize>) -> Option<usize> {
        let root = middle(&stretch)?;
        let (left, right) = (
            self.lay_tree(stretch.start..root),
            self.lay_tree(root + 1..stretch.end),
        );
        let later = |a: usize, b: usize| match (&self.sorted[a].end, &self.sorted[b].end) {
            (None, _) => Ordering::Greater,
            (_, None) => Ordering::Less,
            (Some(a), Some(b)) => a.cmp(b),
        };
        let places = [Some(root), left, right].into_iter().flatten();
        let last = places.max_by(|&a, &b| later(a, b))?;
        self.last_end[root] = last;
        Some(last)
    }

    fn each(&self, key: &[u8], found: &mut impl FnMut(&T)) {
        for span in &self.recent {
            if &span.start[..] <= key && span.ends_after(key) {
                span.item.iter().for_each(&mut *found);
            }
        }
        self.search(0..self.sorted.len(), key, found);
    }

    fn search(&self, stretch: Range<usize>, key: &[u8], found: &mut impl FnMut(&T)) {
        let Some(root) = middle(&stretch) else { return };
        if !self.sorted[self.last_end[root]].ends_after(key) {
            return;
        }
        self.search(stretch.start..root, key, found);
        let span = &self.sorted[root];
        if &span.start[..] <= key {
            if span.ends_after(key) {
                span.item.iter().for_each(&mut *found);
            }
            self.search(root + 1..stretch.end, key, found);
        }
    }
}

/// `None` for an empty stretch.
fn middle(stretch: &Range<usize>) -> Option<usize> {
    (!stretch.is_empty()).then(|| stretch.start + (stretch.end - stretch.start) / 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(0..3_u8, 0..4).prop_map(Bytes::from)
    }

    fn interest() -> impl Strategy<Value = Interest> {
        let end = prop_oneof![Just(Bytes::new()), Just(Bytes::from_static(&[0])), bytes()];
        (bytes(), end).prop_map(|(key, range_end)| Interest { key, range_end })
    }

    proptest! {
        #[test]
        fn finds_what_a_list_finds(
            interests in prop::collection::vec(interest(), 1..200),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..150),
            keys in prop::collection::vec(bytes(), 1..20),
        ) {
            let mut index = Index::default();
            let mut list: Vec<_> = interests.into_iter().enumerate().collect();
            for (number, interest) in &list {
                index.insert(interest, *number as u64, *number);
            }
            for at in removed {
                if list.is_empty() { break }
                let (number, interest) = list.swap_remove(at.index(list.len()));
                prop_assert_eq!(index.remove(&interest, number as u64), Some(number));
                prop_assert_eq!(index.remove(&interest, number as u64), None);
            }
            prop_assert_eq!(index.is_empty(), list.is_empty());
            for key in keys {
                let mut found = Vec::new();
                index.each(&key, |number| found.push(*number));
                found.sort_unstable();
                let within = list.iter().filter(|(_, interest)| interest.range().contains(&key));
                let mut expected: Vec<_> = within.map(|(number, _)| *number).collect();
                expected.sort_unstable();
                prop_assert_eq!(index.any(&key), !expected.is_empty());
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn a_key_among_many_ranges_is_found_in_few_steps() {
        let mut index = Index::default();
        for number in 0..20_000_u64 {
            let interest = Interest {
                key: Bytes::from(format!("{number:06}/")),
                range_end: Bytes::from(format!("{number:06}0")),
            };
            index.insert(&interest, number, number);
        }
        let began = std::time::Instant::now();
        for number in 0..1_000 {
            let mut found = Vec::new();
            index.each(format!("{number:06}/x").as_bytes(), |number| found.push(*number));
            assert_eq!(found, [number]);
        }
        // Looking at each range would take twenty million steps.
        assert!(
            began.elapsed() < std::time::Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
    }
}
