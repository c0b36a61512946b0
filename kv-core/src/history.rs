//! The revisions of one key.
//!
//! A store holds a million keys, most of them written once, so the latest write stands inline and only a key
//! with more has a list besides. A list is in revision order. What a key looked like at a revision is its
//! last point at or below it; where that is a deletion, or there is none, it did not exist.

use crate::Revision;

/// One write of a key. 32 bytes: a test below holds it to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    main: i64,
    /// The revision at which the key came into being; of a deletion 0.
    pub(crate) create: i64,
    /// How often the key was written since; 0 says that this is a deletion.
    pub(crate) version: i64,
    sub: u32,
    /// Bytes of key and value, for the sum of what is stored.
    bytes: u32,
}

impl Point {
    /// A write. `bytes` is the length of key and value together.
    pub(crate) fn put(at: Revision, create: i64, version: i64, bytes: usize) -> Point {
        assert!(
            version > 0 && create > 0 && create <= at.main,
            "version {version} created at {create}, {at:?}"
        );
        Point {
            main: at.main,
            create,
            version,
            sub: narrow_sub(at),
            bytes: narrow_bytes(bytes),
        }
    }

    /// A deletion. `bytes` is the length of the key.
    pub(crate) fn deletion(at: Revision, bytes: usize) -> Point {
        Point {
            main: at.main,
            create: 0,
            version: 0,
            sub: narrow_sub(at),
            bytes: narrow_bytes(bytes),
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        Revision {
            main: self.main,
            sub: i64::from(self.sub),
        }
    }

    pub(crate) fn main(&self) -> i64 {
        self.main
    }

    pub(crate) fn is_deletion(&self) -> bool {
        self.version == 0
    }

    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.bytes)
    }

    /// The point itself, unless it is a deletion.
    fn alive(&self) -> Option<&Point> {
        (!self.is_deletion()).then_some(self)
    }
}

fn narrow_sub(at: Revision) -> u32 {
    u32::try_from(at.sub)
        .expect("a transaction of 2^32 writes does not fit into memory; restore checks its input")
}

/// Requests are bounded far below 4 GiB; the sum is for accounting only, so it may stop there.
fn narrow_bytes(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// All writes of one key that are not swept yet; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct History {
    latest: Point,
    /// What came before, in revision order. The box keeps a key without history small.
    #[expect(
        clippy::box_collection,
        reason = "8 bytes in each of a million entries instead of 24"
    )]
    older: Option<Box<Vec<Point>>>,
}

impl History {
    pub(crate) fn new(first: Point) -> History {
        History {
            latest: first,
            older: None,
        }
    }

    fn older(&self) -> &[Point] {
        self.older.as_deref().map_or(&[], Vec::as_slice)
    }

    pub(crate) fn len(&self) -> usize {
        self.older().len() + 1
    }

    fn point(&self, i: usize) -> Option<&Point> {
        match i.cmp(&self.older().len()) {
            std::cmp::Ordering::Less => self.older().get(i),
            std::cmp::Ordering::Equal => Some(&self.latest),
            std::cmp::Ordering::Greater => None,
        }
    }

    pub(crate) fn latest(&self) -> &Point {
        &self.latest
    }

    /// The latest write, unless it is a deletion.
    pub(crate) fn live(&self) -> Option<&Point> {
        self.latest.alive()
    }

    pub(crate) fn push(&mut self, point: Point) {
        assert!(
            point.revision() > self.latest.revision(),
            "{point:?} after {:?}",
            self.latest
        );
        self.older.get_or_insert_default().push(self.latest);
        self.latest = point;
    }

    /// Takes the latest point back; false where it is the only one, which then stays.
    pub(crate) fn pop(&mut self) -> bool {
        let Some(older) = &mut self.older else {
            return false;
        };
        self.latest = older.pop().expect("a list of older points is never left empty");
        if older.is_empty() {
            self.older = None;
        }
        true
    }

    /// How many points have a revision for which `before` holds; it must hold for a prefix of them.
    fn count_while(&self, before: impl Fn(Revision) -> bool) -> usize {
        if before(self.latest.revision()) {
            return self.len();
        }
        self.older().partition_point(|point| before(point.revision()))
    }

    /// The write that a read at `main` sees.
    pub(crate) fn at(&self, main: i64) -> Option<&Point> {
        if self.latest.main <= main {
            return self.latest.alive();
        }
        self.point(self.count_while(|at| at.main <= main).checked_sub(1)?)?
            .alive()
    }

    /// The write that a read just before `revision` sees.
    pub(crate) fn before(&self, revision: Revision) -> Option<&Point> {
        self.point(self.count_while(|at| at < revision).checked_sub(1)?)?
            .alive()
    }

    /// Whether the write at `revision` is here and still needed, see [`History::sweep`].
    pub(crate) fn keeps(&self, revision: Revision, compacted: i64) -> bool {
        let i = self.count_while(|at| at < revision);
        self.point(i).is_some_and(|point| point.revision() == revision) && i >= self.first_kept(compacted)
    }

    /// The first point that a compaction leaves.
    ///
    /// Needed are all writes of the compacted revision itself and above (a watch may start there), and the
    /// one that a read at the compacted revision sees.
    fn first_kept(&self, compacted: i64) -> usize {
        let from = self.count_while(|at| at.main < compacted);
        // The last point below is what a read there sees, unless there is one at the compacted revision
        // itself.
        let superseded = self.point(from).is_some_and(|point| point.main == compacted);
        match from.checked_sub(1) {
            Some(last) if !superseded && self.point(last).is_some_and(|point| !point.is_deletion()) => last,
            _ => from,
        }
    }

    /// Takes out what is no longer needed and hands it to `dropped`, oldest first; false where nothing is
    /// left and the key must go.
    pub(crate) fn sweep(&mut self, compacted: i64, mut dropped: impl FnMut(&Point)) -> bool {
        let first = self.first_kept(compacted);
        (0..first).filter_map(|i| self.point(i)).for_each(&mut dropped);
        if first == self.len() {
            return false;
        }
        if let Some(older) = &mut self.older {
            older.drain(..first);
            older.shrink_to(older.len() * 2);
            if older.is_empty() {
                self.older = None;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(main: i64, sub: i64) -> Revision {
        Revision { main, sub }
    }

    /// put 3, put 5, delete 7, and at 9: put, delete, put.
    fn history() -> History {
        let mut history = History::new(Point::put(at(3, 0), 3, 1, 2));
        history.push(Point::put(at(5, 1), 3, 2, 2));
        history.push(Point::deletion(at(7, 0), 1));
        history.push(Point::put(at(9, 0), 9, 1, 2));
        history.push(Point::deletion(at(9, 1), 1));
        history.push(Point::put(at(9, 2), 9, 1, 2));
        history
    }

    #[test]
    fn a_key_is_small() {
        assert_eq!(size_of::<Point>(), 32);
        assert_eq!(size_of::<History>(), 40);
    }

    #[test]
    fn at_sees_the_last_write_of_a_revision() {
        let history = history();
        let seen = |main| history.at(main).map(Point::revision);
        assert_eq!(seen(2), None);
        assert_eq!(seen(3), Some(at(3, 0)));
        assert_eq!(seen(4), Some(at(3, 0)));
        assert_eq!(seen(6), Some(at(5, 1)));
        assert_eq!(seen(7), None);
        assert_eq!(seen(8), None);
        assert_eq!(seen(9), Some(at(9, 2)));
        assert_eq!(seen(i64::MAX), Some(at(9, 2)));
    }

    #[test]
    fn before_sees_what_stood_before_one_write() {
        let history = history();
        let seen = |main, sub| history.before(at(main, sub)).map(Point::revision);
        assert_eq!(seen(3, 0), None);
        assert_eq!(seen(5, 1), Some(at(3, 0)));
        assert_eq!(seen(7, 0), Some(at(5, 1)));
        assert_eq!(seen(9, 0), None);
        assert_eq!(seen(9, 1), Some(at(9, 0)));
        assert_eq!(seen(9, 2), None);
        assert_eq!(seen(10, 0), Some(at(9, 2)));
    }

    #[test]
    fn sweep_drops_what_keeps_denies() {
        for compacted in -1..12 {
            let before = history();
            let mut after = before.clone();
            let mut dropped = Vec::new();
            let left = after.sweep(compacted, |point| dropped.push(point.revision()));
            assert!(left);
            for i in 0..before.len() {
                let revision = before.point(i).unwrap().revision();
                assert_ne!(
                    before.keeps(revision, compacted),
                    dropped.contains(&revision),
                    "{revision:?} at {compacted}"
                );
            }
            for main in compacted.max(0)..12 {
                assert_eq!(
                    before.at(main),
                    after.at(main),
                    "read at {main} after compaction at {compacted}"
                );
            }
        }
    }

    #[test]
    fn a_deletion_goes_only_below_the_compacted_revision() {
        let mut history = History::new(Point::put(at(3, 0), 3, 1, 2));
        history.push(Point::deletion(at(4, 0), 1));
        assert!(history.sweep(4, |point| assert_eq!(point.main(), 3)));
        assert_eq!(history, History::new(Point::deletion(at(4, 0), 1)));
        let mut dropped = 0;
        assert!(!history.sweep(5, |_| dropped += 1));
        assert_eq!(dropped, 1);
    }

    #[test]
    fn pop_takes_back_push() {
        let mut history = history();
        for len in (1..6).rev() {
            assert!(history.pop());
            assert_eq!(history.len(), len);
        }
        assert!(!history.pop());
        assert_eq!(history, History::new(Point::put(at(3, 0), 3, 1, 2)));
    }
}
