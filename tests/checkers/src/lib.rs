//! What clients of a cluster saw, and whether it was allowed.
//!
//! A harness writes one [`Record`] for every operation of every client ([`history`]); the checkers know nothing else of
//! the cluster. They share no code with it either: what they replay is a model of their own.

pub mod history;
pub mod report;
pub mod settings;

pub use history::{Answer, Outcome, Record, Reply, Request};
pub use report::{Check, Report, Verdict};
pub use settings::{Fault, Settings};

/// Runs every checker that the history has something for.
pub fn check(history: &[Record], settings: &Settings) -> Report {
    let count =
        |wanted: fn(&Outcome) -> bool| history.iter().filter(|record| wanted(&record.outcome)).count() as u64;
    Report {
        operations: history.len() as u64,
        failed: count(|outcome| matches!(outcome, Outcome::Failed(_))),
        unknown: count(|outcome| matches!(outcome, Outcome::Unknown(_))),
        checks: vec![coverage::check(history, settings)],
    }
}

mod coverage;
