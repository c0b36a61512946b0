//! What the checkers say.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What one checker says of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All that it has seen was allowed.
    Ok,
    /// It has seen what is not allowed.
    Violation {
        /// What, in words, with the operations that show it.
        explanation: String,
    },
    /// It cannot say: that is no success.
    Undecided {
        /// Why.
        why: String,
    },
}

impl Verdict {
    /// The worst of several: the first violation, or else the first that is undecided.
    pub(crate) fn worst(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
        let mut worst = Verdict::Ok;
        for verdict in verdicts {
            match verdict {
                Verdict::Violation { .. } => return verdict,
                Verdict::Undecided { .. } if worst == Verdict::Ok => worst = verdict,
                Verdict::Undecided { .. } | Verdict::Ok => {}
            }
        }
        worst
    }
}

/// The work of one checker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub checker: String,
    /// How much it has checked …
    pub checked: u64,
    /// … of what: "keys", "events".
    pub of: String,
    /// What it says.
    pub verdict: Verdict,
}

/// What all checkers say of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How many operations there were.
    pub operations: u64,
    /// Of those, how many certainly were not executed.
    pub failed: u64,
    /// Of those, how many may or may not have been executed.
    pub unknown: u64,
    /// What each checker says that had something to check.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether every checker is content.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.verdict == Verdict::Ok)
    }
}

/// The report as a person reads it: one line per checker, and below it what is wrong.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} operations: {} answered, {} failed, {} unknown",
            self.operations,
            self.operations - self.failed - self.unknown,
            self.failed,
            self.unknown
        )?;
        for check in &self.checks {
            let (word, detail) = match &check.verdict {
                Verdict::Ok => ("ok", None),
                Verdict::Violation { explanation } => ("VIOLATION", Some(explanation)),
                Verdict::Undecided { why } => ("UNDECIDED", Some(why)),
            };
            writeln!(f, "{word:9}  {}: {} {}", check.checker, check.checked, check.of)?;
            for line in detail.into_iter().flat_map(|text| text.lines()) {
                writeln!(f, "           {line}")?;
            }
        }
        f.write_str(if self.passed() { "PASSED" } else { "FAILED" })
    }
}
