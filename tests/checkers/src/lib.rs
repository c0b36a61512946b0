//! What clients of a cluster saw, and whether it was allowed.
//!
//! A harness writes one [`Record`] for every operation of every client ([`history`]); the checkers know nothing else of
//! the cluster. They share no code with it either: what they replay is a model of their own.

mod call;
mod coverage;
mod hashes;
pub mod history;
mod leases;
mod locks;
mod registers;
pub mod report;
mod revisions;
mod sets;
pub mod settings;
mod watch;

use revisions::{Known, Names};

pub use history::{Answer, Outcome, Record, Reply, Request};
pub use report::{Check, Report, Verdict};
pub use settings::{Fault, Settings};

/// Runs every checker that the history has something for.
pub fn check(history: &[Record], settings: &Settings) -> Report {
    let count =
        |wanted: fn(&Outcome) -> bool| history.iter().filter(|record| wanted(&record.outcome)).count() as u64;
    let names = Names::of(history);
    let known = Known::of(history);
    let revisions = revisions::check(history, &names, &known, settings);
    let replayed = revisions.replayed.as_ref();

    let mut checks = vec![coverage::check(history, settings)];
    checks.extend(registers::check(history));
    checks.extend(revisions.checks);
    checks.extend(sets::check(history));
    checks.extend(watch::check(history, &names, replayed));
    checks.extend(locks::check(history, &names, &known, replayed));
    checks.extend(leases::check(history, &known, replayed));
    checks.extend(hashes::check(history));
    Report {
        operations: history.len() as u64,
        failed: count(|outcome| matches!(outcome, Outcome::Failed(_))),
        unknown: count(|outcome| matches!(outcome, Outcome::Unknown(_))),
        checks,
    }
}
