//! A store with a known mistake is found out, by the checker that is there for it.

use quorate_checkers::{Settings, Verdict, check, history};

use crate::simulated::{Bug, Plan, run};

/// In each of these runs the mistake was made.
const SEEDS: std::ops::Range<u64> = 0..6;

fn found(bug: Bug, by: &[&str]) {
    let mut runs = 0;
    for seed in SEEDS {
        let plan = Plan {
            bug,
            ..Plan::new(seed)
        };
        let run = run(&plan);
        if run.mistakes == 0 {
            continue;
        }
        runs += 1;
        let report = check(&run.history, &Settings::default());
        let finders: Vec<&str> = report
            .checks
            .iter()
            .filter(|check| matches!(check.verdict, Verdict::Violation { .. }))
            .map(|check| check.checker.as_str())
            .collect();
        for wanted in by {
            let found = finders.iter().any(|finder| finder.contains(wanted));
            assert!(
                found,
                "seed {seed}: {} mistakes, not found by {wanted:?}:\n{report}",
                run.mistakes
            );
        }
    }
    assert!(runs > 3, "{bug:?} happened in {runs} runs only");
}

#[test]
fn a_stale_read() {
    found(Bug::StaleRead, &["strictly serializable"]);
}

#[test]
fn a_lost_write() {
    found(Bug::LostWrite, &["strictly serializable"]);
}

#[test]
fn a_write_applied_twice() {
    found(Bug::DoubleApply, &["strictly serializable"]);
}

#[test]
fn a_failure_that_was_executed() {
    found(Bug::FailureExecuted, &["strictly serializable"]);
}

#[test]
fn half_a_transaction() {
    found(Bug::TornTxn, &["strictly serializable"]);
}

#[test]
fn compare_and_set_that_does_not_compare() {
    found(Bug::NoCompare, &["registers", "strictly serializable"]);
}

#[test]
fn a_serializable_read_that_mixes_two_states() {
    found(Bug::MixedRead, &["serializable reads and reads of old revisions"]);
}

#[test]
fn two_owners_of_a_lock() {
    found(Bug::TwoOwners, &["locks"]);
}

#[test]
fn a_lease_that_ends_early() {
    found(Bug::EarlyLease, &["leases"]);
}

#[test]
fn a_lost_element() {
    found(Bug::LostElement, &["sets"]);
}

/// Revision 3 was known when the one began that alone might have made it. (In a run of the simulation attempts to lock
/// were taken for what had happened minutes before them, until there were too many ways to tell.)
#[test]
fn a_revision_that_only_later_attempts_to_lock_could_have_made() {
    let put = |revision: u64| {
        format!(
            r#"{{"client":1,"endpoint":"n0","start_ns":{revision}0,"end_ns":{revision}5,"request":{{"put":{{"key":"r/0","value":"{revision}"}}}},"outcome":{{"ok":{{"revision":{revision},"reply":"put"}}}}}}"#
        )
    };
    let lock = |start_ns: u64| {
        format!(
            r#"{{"client":2,"endpoint":"n0","start_ns":{start_ns},"end_ns":90,"request":{{"lock_acquire":{{"name":"k/0","lease":7}}}},"outcome":{{"unknown":"lost"}}}}"#
        )
    };
    for (start_ns, is_possible) in [(30, true), (60, false)] {
        let lines = [put(2), lock(start_ns), put(4)].join("\n");
        let history = history::read(lines.as_bytes()).expect("it is a history");
        let report = check(&history, &Settings::default());
        let order = report
            .checks
            .iter()
            .find(|check| check.checker.contains("strictly"));
        assert_eq!(
            order.map(|check| check.verdict == Verdict::Ok),
            Some(is_possible),
            "{report}"
        );
    }
}
