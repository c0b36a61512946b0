//! Known mistakes in consensus, log, store and APIs that are made on purpose, so that whoever looks for such can be
//! seen to find them.
//!
//! The places in the product that make them stand behind the cargo feature `planted`, which no other crate than
//! `quorate-sim` turns on, and that only when asked: without it neither they nor this crate are built.

use std::sync::OnceLock;

static CHOSEN: OnceLock<Mistake> = OnceLock::new();

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mistake {
    /// What it is called.
    pub name: &'static str,
    /// What is done wrong.
    pub what: &'static str,
    /// Where something like it was found.
    pub like: &'static str,
}

/// All of them.
pub const MISTAKES: [Mistake; 21] = [
    mistake(
        "ack-before-sync",
        "the log says that a batch is durable before it is synced",
        "YugabyteDB #32875",
    ),
    mistake(
        "vote-not-synced",
        "a batch that holds votes alone is not synced",
        "Redpanda #19, Hazelcast #16643",
    ),
    mistake(
        "truncate-forgotten",
        "a truncation of the log is not written to disk",
        "etcd #22443",
    ),
    mistake(
        "flushed-early",
        "consensus hears that an append is flushed when it is only queued",
        "etcd #14370, openraft #1125",
    ),
    mistake(
        "purge-beyond-durable",
        "the store calls durable what it has not synced, and the log is purged up to there",
        "CockroachDB #114191",
    ),
    mistake(
        "applied-point-lags",
        "the applied point on disk is behind the data, so that a restart applies entries twice",
        "etcd #11651, #13514",
    ),
    mistake(
        "membership-before-snapshot",
        "a snapshot replaces the data, but the membership stays the old one",
        "openraft #1808",
    ),
    mistake(
        "unanswered-append-counts",
        "an append counts as replicated when it is sent",
        "CCF #6001",
    ),
    mistake(
        "vote-request-is-grant",
        "a vote request that gets no answer counts as a vote",
        "akka-raft #45",
    ),
    mistake(
        "read-without-quorum",
        "a leader answers reads without confirming that it still leads",
        "etcd #741, Xline #870",
    ),
    mistake(
        "read-joins-old-round",
        "a read uses a confirmation that began before it came",
        "TiKV #7971",
    ),
    mistake(
        "read-before-applied",
        "a read does not wait until its node has applied the read index",
        "etcd #3879",
    ),
    mistake(
        "retry-of-unknown",
        "a forwarded write is sent again after its connection broke",
        "jetcd 0.8.2 (Jepsen)",
    ),
    mistake(
        "unknown-told-as-failed",
        "a write whose leader was lost is told as not executed",
        "Redis-Raft #23",
    ),
    mistake(
        "watch-skips-at-sync",
        "a watch that has caught up misses the next revision",
        "etcd #4528, #9281",
    ),
    mistake(
        "watch-hides-compaction",
        "a watch goes on behind a compaction without saying so",
        "etcd #17529",
    ),
    mistake(
        "lease-ended-by-stale-list",
        "leases end by the list the leader made, whatever was renewed since",
        "etcd #12528, #15247",
    ),
    mistake(
        "lease-clock-counts-twice",
        "the clock of leases counts the time before a stamp again",
        "etcd #2508",
    ),
    mistake(
        "lock-not-waited-for",
        "a lock is given to whoever comes, whoever holds it",
        "etcd #664",
    ),
    mistake(
        "range-torn",
        "a range is read in two halves, at two revisions",
        "YugabyteDB #894",
    ),
    mistake(
        "txn-compares-early",
        "a transaction compares where it arrives, not where it is applied",
        "etcd #4226 (asked for)",
    ),
];

const fn mistake(name: &'static str, what: &'static str, like: &'static str) -> Mistake {
    Mistake { name, what, like }
}

/// From now on this process makes a mistake.
///
/// # Panics
/// Where one is made already.
pub fn plant(mistake: Mistake) {
    assert!(CHOSEN.set(mistake).is_ok(), "one mistake at a time");
}

/// Whether a mistake is to be made.
pub fn is(name: &str) -> bool {
    debug_assert!(
        MISTAKES.iter().any(|mistake| mistake.name == name),
        "there is no {name}"
    );
    CHOSEN.get().is_some_and(|chosen| chosen.name == name)
}
