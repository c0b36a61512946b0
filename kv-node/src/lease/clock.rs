//! The cluster's clock, as this node knows it.
//!
//! The clock is a number of milliseconds in the replicated state. It advances by stamps in commands, which the
//! leader of a term puts there; wall clocks have no part in it. Between stamps a node counts on by its own
//! monotonic clock:
//!
//! - A node that does not lead counts from the last stamp that it applied, from when it did. That is never ahead of
//!   the clock of the leader whose stamp it was, as applying comes after stamping.
//! - A leader counts on from where it began its term, and not from its own stamps: those come back to it later
//!   than it made them, and each would set it back. It gives no stamp before it has applied an entry of its own term,
//!   and with that every stamp of leaders before it; and each stamp counts in its term only, see
//!   [`crate::raft::submit::Submitter::submit_in_term`].
//!
//! So between two stamps that follow each other in the log the clock advances by no more than the time that has
//! passed: leases end late (by what a new leader was behind), never early. All this holds as far as
//! the machines' monotonic clocks run at the same rate.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

/// The time since some moment; never goes back.
pub type Monotonic = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The clock. Clones share it.
#[derive(Clone)]
pub struct ClusterClock {
    monotonic: Monotonic,
    state: Arc<Mutex<State>>,
}

/// The clock said `base_ms` at `at`.
struct State {
    base_ms: u64,
    at: Duration,
    /// The term of the last applied entry.
    applied_term: u64,
    /// The last term in which this node gave a stamp.
    led_term: Option<u64>,
}

impl ClusterClock {
    /// On a monotonic clock; says 0 until a stamp is applied.
    pub fn new(monotonic: Monotonic) -> ClusterClock {
        let state = State {
            base_ms: 0,
            at: monotonic(),
            applied_term: 0,
            led_term: None,
        };
        ClusterClock {
            monotonic,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The applier: entries up to one of `term` are applied.
    pub(crate) fn applied(&self, term: u64) {
        self.state.lock().applied_term = term;
    }

    /// The applier: a stamp of a leader of `term` was applied, and the replicated clock says `clock_ms`.
    pub(crate) fn stamped(&self, term: u64, clock_ms: u64) {
        let at = (self.monotonic)();
        let mut state = self.state.lock();
        #[cfg(feature = "planted")]
        let at = if quorate_planted::is("lease-clock-counts-twice") {
            state.at
        } else {
            at
        };
        if state.led_term != Some(term) {
            (state.base_ms, state.at) = (clock_ms, at);
        }
    }

    /// What time it is here: never ahead of the leader.
    pub fn now_ms(&self) -> u64 {
        let now = (self.monotonic)();
        self.state.lock().at(now)
    }

    /// What time the leader of `term`, which this node is, says it is; `None` as long as it has not applied
    /// what was stamped before its term.
    pub(crate) fn stamp(&self, term: u64) -> Option<u64> {
        let now = (self.monotonic)();
        let mut state = self.state.lock();
        if state.applied_term != term {
            return None;
        }
        state.led_term = Some(term);
        Some(state.at(now))
    }
}

impl State {
    fn at(&self, now: Duration) -> u64 {
        let passed_ms = now.saturating_sub(self.at).as_millis();
        self.base_ms
            .saturating_add(u64::try_from(passed_ms).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;

    fn manual() -> (Arc<AtomicU64>, Monotonic) {
        let ms = Arc::new(AtomicU64::new(0));
        let clock = ms.clone();
        (
            ms,
            Arc::new(move || Duration::from_millis(clock.load(Ordering::SeqCst))),
        )
    }

    #[test]
    fn a_leader_stamps_only_after_what_came_before_its_term() {
        let (ms, monotonic) = manual();
        let clock = ClusterClock::new(monotonic);
        clock.applied(1);
        clock.stamped(1, 5_000);
        ms.store(100, Ordering::SeqCst);
        assert_eq!(clock.now_ms(), 5_100);
        assert_eq!(clock.stamp(2), None);
        clock.applied(2);
        assert_eq!(clock.stamp(2), Some(5_100));
        // Its own stamp comes back late, and does not set it back.
        ms.store(400, Ordering::SeqCst);
        clock.stamped(2, 5_100);
        assert_eq!(clock.stamp(2), Some(5_400));
        // Another leader, whose clock was behind.
        clock.applied(3);
        clock.stamped(3, 5_200);
        assert_eq!(clock.now_ms(), 5_200);
        assert_eq!(clock.stamp(2), None);
    }

    /// What happens to a few nodes that share a log.
    #[derive(Debug, Clone)]
    enum Step {
        Pass(u64),
        /// A node applies that many entries more.
        Apply(usize, usize),
        /// A node becomes the leader, which adds an entry to the log.
        Lead(usize),
        /// The leader gives a stamp.
        Stamp,
        /// A node that leads no more appends what it stamped in its term: refused.
        Restart(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (1..500u64).prop_map(Step::Pass),
            6 => (0..3usize, 1..4usize).prop_map(|(node, entries)| Step::Apply(node, entries)),
            1 => (0..3usize).prop_map(Step::Lead),
            5 => Just(Step::Stamp),
            1 => (0..3usize).prop_map(Step::Restart),
        ]
    }

    proptest! {
        /// The replicated clock never advances by more than the time that has passed, between any two stamps.
        #[test]
        fn the_clock_is_never_fast(steps in prop::collection::vec(step(), 1..200)) {
            let (ms, monotonic) = manual();
            // Term, stamp and when it was made.
            let mut log: Vec<(u64, Option<(u64, u64)>)> = vec![(1, None)];
            let (mut leader, mut term) = (0, 1);
            let mut nodes: Vec<(ClusterClock, usize)> =
                (0..3).map(|_| (ClusterClock::new(monotonic.clone()), 0)).collect();
            for step in steps {
                match step {
                    Step::Pass(passed) => drop(ms.fetch_add(passed, Ordering::SeqCst)),
                    Step::Apply(node, entries) => {
                        let (clock, applied) = &mut nodes[node];
                        for _ in 0..entries.min(log.len() - *applied) {
                            let (term, stamp) = log[*applied];
                            *applied += 1;
                            let replicated = log[..*applied].iter().filter_map(|entry| entry.1).map(|s| s.0).max();
                            clock.applied(term);
                            if stamp.is_some() {
                                clock.stamped(term, replicated.expect("there is one"));
                            }
                        }
                    }
                    Step::Lead(node) => {
                        (leader, term) = (node, term + 1);
                        log.push((term, None));
                    }
                    Step::Stamp => {
                        if let Some(stamp) = nodes[leader].0.stamp(term) {
                            log.push((term, Some((stamp, ms.load(Ordering::SeqCst)))));
                        }
                    }
                    // The store gives what was applied back, and Raft another term.
                    Step::Restart(node) => {
                        let applied = nodes[node].1;
                        let clock = ClusterClock::new(monotonic.clone());
                        let replicated = log[..applied].iter().filter_map(|entry| entry.1).map(|s| s.0).max();
                        clock.stamped(0, replicated.unwrap_or(0));
                        nodes[node] = (clock, applied);
                        if node == leader {
                            (leader, term) = (node, term + 1);
                            log.push((term, None));
                        }
                    }
                }
            }
            let stamps: Vec<(u64, u64)> = log.iter().filter_map(|entry| entry.1).collect();
            for two in stamps.windows(2) {
                let ((first, at_first), (second, at_second)) = (two[0], two[1]);
                prop_assert!(second >= first, "{stamps:?}");
                prop_assert!(second - first <= at_second - at_first, "{stamps:?}");
            }
        }
    }
}
