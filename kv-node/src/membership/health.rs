//! For how long members have been answering, or silent, as one leader counts it.
//!
//! Time counts only while this node leads, in one term, and a quorum answers it: a cluster that was stopped has been
//! silent for nobody, and a new leader begins anew. So does one that has been paused: its members were not the ones
//! that were silent.

use std::{collections::BTreeMap, time::Duration};

/// A longer time between two looks was a pause of this node.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// What one leader has seen of the members.
#[derive(Debug, Default)]
pub(super) struct Health {
    term: Option<u64>,
    looked_at: Duration,
    members: BTreeMap<u64, Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    answers: bool,
    since: Duration,
}

impl Health {
    /// Notes who answers at the time `now` of a monotonic clock. `term` is the one in which this node leads, if it
    /// does and a quorum answers.
    pub(super) fn look(
        &mut self,
        now: Duration,
        term: Option<u64>,
        answers: impl IntoIterator<Item = (u64, bool)>,
    ) {
        let paused = now.saturating_sub(self.looked_at) > LOOK_MAX;
        if term.is_none() || term != self.term || paused {
            self.members.clear();
        }
        (self.term, self.looked_at) = (term, now);
        if term.is_none() {
            return;
        }
        let before = std::mem::take(&mut self.members);
        for (id, answers) in answers {
            let since = match before.get(&id) {
                Some(seen) if seen.answers == answers => seen.since,
                _ => now,
            };
            self.members.insert(id, Seen { answers, since });
        }
    }

    /// Whether a member answered when it was last looked at, and for how long that has been so at `now`; `None` where
    /// this node does not lead.
    pub(super) fn of(&self, id: u64, now: Duration) -> Option<(bool, Duration)> {
        let seen = self.members.get(&id)?;
        Some((seen.answers, now.saturating_sub(seen.since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn counts_while_one_leader_leads() {
        let mut health = Health::default();
        for second in 1..=10 {
            health.look(SECOND * second, Some(7), [(1, true), (2, second < 4)]);
        }
        assert_eq!(health.of(1, SECOND * 10), Some((true, SECOND * 9)));
        assert_eq!(health.of(2, SECOND * 10), Some((false, SECOND * 6)));
        assert_eq!(health.of(3, SECOND * 10), None);
        health.look(SECOND * 11, Some(7), [(1, true), (2, true)]);
        assert_eq!(health.of(2, SECOND * 11), Some((true, Duration::ZERO)));
    }

    #[test]
    fn begins_anew_after_a_term_a_lost_quorum_and_a_pause() {
        for (second, term) in [(4, Some(8)), (4, None), (40, Some(7))] {
            let mut health = Health::default();
            for second in 1..=3 {
                health.look(SECOND * second, Some(7), [(1, false)]);
            }
            assert_eq!(health.of(1, SECOND * 3), Some((false, SECOND * 2)));
            health.look(SECOND * second, term, [(1, false)]);
            let expected = term.map(|_| (false, Duration::ZERO));
            assert_eq!(health.of(1, SECOND * second), expected, "{second} {term:?}");
        }
    }
}
