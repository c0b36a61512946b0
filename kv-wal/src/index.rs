//! Which entries the log holds, and where each stands.
//!
//! One slot of 24 bytes per entry. The same rules are used while running and while replaying a log, so that
//! the two cannot disagree.

use std::collections::VecDeque;

use crate::types::{Location, Position};

/// Where an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Not yet on disk; the ticket tells it from another entry that takes its index after a truncation.
    Pending { ticket: u64 },
    /// On disk.
    At(Location),
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    term: u64,
    place: Place,
}

/// Why an operation does not fit the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// An entry must have this index.
    NotNext { expected: u64 },
    /// A purge up to here would leave a gap before the first entry.
    PurgeLeavesGap { first: u64 },
}

/// The entries of the log. Without gaps: `(purged, last]`.
#[derive(Debug, Default)]
pub(crate) struct LogIndex {
    purged: Option<Position>,
    /// Index of the first slot; means nothing when there is none.
    first: u64,
    slots: VecDeque<Slot>,
}

impl LogIndex {
    /// An empty log that was purged up to here.
    pub(crate) fn starting_after(purged: Option<Position>) -> LogIndex {
        LogIndex {
            purged,
            ..LogIndex::default()
        }
    }

    /// Up to where entries were purged.
    pub(crate) fn purged(&self) -> Option<Position> {
        self.purged
    }

    /// The last entry, or where the purge ended when there is none.
    pub(crate) fn last(&self) -> Option<Position> {
        match self.slots.back() {
            Some(slot) => Some(Position::new(slot.term, self.end() - 1)),
            None => self.purged,
        }
    }

    /// Indexes of the entries that are here.
    pub(crate) fn range(&self) -> std::ops::Range<u64> {
        if self.slots.is_empty() {
            0..0
        } else {
            self.first..self.end()
        }
    }

    /// How many entries are here.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// The index that the next entry must have; `None`: any, since nothing was ever here.
    pub(crate) fn next_index(&self) -> Option<u64> {
        self.last().map(|last| last.index + 1)
    }

    /// Identity of the entry at `index`, also of the last purged one.
    pub(crate) fn position(&self, index: u64) -> Option<Position> {
        match self.slot(index) {
            Some(slot) => Some(Position::new(slot.term, index)),
            None => self.purged.filter(|purged| purged.index == index),
        }
    }

    /// Where the entry at `index` is.
    pub(crate) fn place(&self, index: u64) -> Option<Place> {
        self.slot(index).map(|slot| slot.place)
    }

    fn slot(&self, index: u64) -> Option<&Slot> {
        let at = index.checked_sub(self.first)?;
        self.slots.get(usize::try_from(at).ok()?)
    }

    /// Adds an entry at the end.
    pub(crate) fn append(&mut self, position: Position, place: Place) -> Result<(), Misfit> {
        match self.next_index() {
            Some(expected) if expected != position.index => return Err(Misfit::NotNext { expected }),
            _ => {}
        }
        if self.slots.is_empty() {
            self.first = position.index;
        }
        self.slots.push_back(Slot {
            term: position.term,
            place,
        });
        Ok(())
    }

    /// Drops entries above `last`; says whether there were any.
    pub(crate) fn truncate_after(&mut self, last: Option<u64>) -> bool {
        let keep = match last {
            None => 0,
            Some(last) => last.saturating_add(1).saturating_sub(self.first),
        };
        let before = self.slots.len();
        self.slots.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        self.slots.len() < before
    }

    /// Whether `purge` would change anything.
    pub(crate) fn would_purge(&self, upto: Position) -> Result<bool, Misfit> {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return Ok(false);
        }
        if !self.slots.is_empty() && upto.index + 1 < self.first {
            return Err(Misfit::PurgeLeavesGap { first: self.first });
        }
        Ok(true)
    }

    /// Drops entries up to `upto`, which may lie beyond the last.
    pub(crate) fn purge(&mut self, upto: Position) -> Result<bool, Misfit> {
        if !self.would_purge(upto)? {
            return Ok(false);
        }
        let drop = (upto.index + 1)
            .saturating_sub(self.first)
            .min(self.slots.len() as u64);
        self.slots.drain(..drop as usize);
        self.first += drop;
        self.purged = Some(upto);
        Ok(true)
    }

    /// Notes that a pending entry is on disk, unless it was dropped or replaced meanwhile.
    pub(crate) fn settle(&mut self, index: u64, ticket: u64, location: Location) {
        let Some(at) = index
            .checked_sub(self.first)
            .and_then(|at| usize::try_from(at).ok())
        else {
            return;
        };
        if let Some(slot) = self.slots.get_mut(at)
            && slot.place == (Place::Pending { ticket })
        {
            slot.place = Place::At(location);
        }
    }

    /// Replay only: the log is known to have been purged to `purged`, whatever was believed so far.
    pub(crate) fn force_purged(&mut self, purged: Option<Position>) {
        let follows = purged.is_some_and(|purged| purged.index + 1 == self.first);
        assert!(
            self.slots.is_empty() || follows,
            "a forced purge ends where the entries start"
        );
        self.purged = purged;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(range: std::ops::Range<u64>) -> LogIndex {
        let mut index = LogIndex::default();
        for i in range {
            index
                .append(Position::new(1, i), Place::Pending { ticket: i })
                .unwrap();
        }
        index
    }

    #[test]
    fn a_slot_takes_24_bytes() {
        assert_eq!(size_of::<Slot>(), 24);
    }

    #[test]
    fn the_first_entry_may_have_any_index_and_then_there_are_no_gaps() {
        let mut index = filled(2..5);
        assert_eq!(index.range(), 2..5);
        let gap = index.append(Position::new(1, 6), Place::Pending { ticket: 0 });
        assert_eq!(gap, Err(Misfit::NotNext { expected: 5 }));
        assert_eq!(
            index.purge(Position::new(1, 0)),
            Err(Misfit::PurgeLeavesGap { first: 2 })
        );
        assert_eq!(index.purge(Position::new(1, 1)), Ok(true));
        assert_eq!((index.range(), index.purged()), (2..5, Some(Position::new(1, 1))));
    }

    #[test]
    fn purging_beyond_the_end_moves_the_end() {
        let mut index = filled(0..5);
        assert_eq!(index.purge(Position::new(2, 20)), Ok(true));
        assert_eq!((index.len(), index.last()), (0, Some(Position::new(2, 20))));
        assert_eq!(index.purge(Position::new(2, 7)), Ok(false));
        assert_eq!(index.next_index(), Some(21));
        assert_eq!(index.position(20), Some(Position::new(2, 20)));
    }

    #[test]
    fn truncating_below_the_purge_empties_the_log() {
        let mut index = filled(0..5);
        index.purge(Position::new(1, 2)).unwrap();
        assert!(index.truncate_after(Some(1)));
        assert_eq!(
            (index.last(), index.next_index()),
            (Some(Position::new(1, 2)), Some(3))
        );
        assert!(!index.truncate_after(None));
    }

    #[test]
    fn an_entry_that_was_replaced_is_not_settled_by_its_predecessor() {
        let mut index = filled(0..2);
        index.truncate_after(Some(0));
        index
            .append(Position::new(2, 1), Place::Pending { ticket: 9 })
            .unwrap();
        let location = Location {
            segment: 1,
            offset: 4096,
            payload_bytes: 1,
        };
        index.settle(1, 1, location);
        assert_eq!(index.place(1), Some(Place::Pending { ticket: 9 }));
        index.settle(1, 9, location);
        assert_eq!(index.place(1), Some(Place::At(location)));
    }
}
