//! Each known mistake is found by the run that once found it: `quorate-sim planted`, in short.
//!
//! Whatever shifts the timing of a run makes another one of its seed. Then one of the next seeds has to find the mistake, and
//! `quorate-sim planted --seconds 60` tells which to begin with.

use std::process::Command;

use quorate_planted::MISTAKES;
use quorate_sim::run::Outcome;

/// Seconds of simulated time with faults.
const SECONDS: &str = "60";

/// Seeds that are tried, where the first does not find what it once found.
const SEEDS_MAX: u64 = 30;

fn finds(mistake: &str, first: u64, by: &str) {
    let seed = (first..first + SEEDS_MAX).find(|seed| {
        let violations = run(*seed, mistake).violations;
        violations.iter().any(|violation| violation.contains(by))
    });
    assert!(seed.is_some(), "{mistake} is not found");
}

fn run(seed: u64, mistake: &str) -> Outcome {
    let seed = seed.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_quorate-sim"))
        .args(["run", &seed, "--seconds", SECONDS, "--json", "--plant", mistake])
        .output()
        .expect("the simulation starts");
    serde_json::from_slice(&output.stdout).expect("it says what came of it")
}

/// Those that runs of this length find too seldom: `quorate-sim planted` takes them on.
const RARE: [&str; 2] = ["flushed-early", "read-joins-old-round"];

/// Makes a test of each: the mistake, the seed that finds it, and what is said of it.
macro_rules! found {
    ($($mistake:ident $seed:literal $by:literal;)*) => {
        $(
            #[test]
            fn $mistake() {
                finds(&stringify!($mistake).replace('_', "-"), $seed, $by);
            }
        )*

        #[test]
        fn none_is_left_out() {
            let tested = [$(stringify!($mistake).replace('_', "-")),*];
            for mistake in MISTAKES {
                let is_tested = tested.contains(&mistake.name.to_owned());
                assert!(is_tested != RARE.contains(&mistake.name), "{}", mistake.name);
            }
        }
    };
}

found! {
    ack_before_sync 0 "that its log had called durable";
    vote_not_synced 30 "has lost a vote that its log had called durable";
    truncate_forgotten 12 "the log is damaged";
    purge_beyond_durable 115 "does not answer";
    applied_point_lags 0 "the states at entry";
    membership_before_snapshot 25 "the states at entry";
    unanswered_append_counts 0 "does not answer";
    vote_request_is_grant 3 "cannot go on";
    read_without_quorum 0 "transactions are strictly serializable";
    read_before_applied 1 "transactions are strictly serializable";
    retry_of_unknown 3 "transactions are strictly serializable";
    unknown_told_as_failed 21 "transactions are strictly serializable";
    watch_skips_at_sync 0 "watches are reliable";
    watch_hides_compaction 36 "watches are reliable";
    lease_ended_by_stale_list 140 "leases never end early";
    lease_clock_counts_twice 0 "leases never end early";
    lock_not_waited_for 0 "locks have one owner at a time";
    range_torn 3 "transactions are strictly serializable";
    txn_compares_early 0 "transactions are strictly serializable";
}
