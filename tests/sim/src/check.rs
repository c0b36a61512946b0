//! Holds what clients saw against what is promised.

use quorate_checkers::{Settings, Verdict, history::Record};

use crate::run::Outcome;

/// A run in which less was acknowledged shows nothing.
const ACKNOWLEDGED_MIN: u64 = 20;

/// Adds what the checkers find to what was found during the run. An undecided verdict is a violation too.
pub fn check(outcome: &mut Outcome, history: &[Record]) {
    let settings = Settings {
        operations_min: ACKNOWLEDGED_MIN,
        ..Settings::default()
    };
    let report = quorate_checkers::check(history, &settings);
    for check in report.checks {
        let what = match check.verdict {
            Verdict::Ok => continue,
            Verdict::Violation { explanation } => explanation,
            Verdict::Undecided { why } => format!("undecided: {why}"),
        };
        outcome.violations.push(format!("{}: {what}", check.checker));
    }
}
