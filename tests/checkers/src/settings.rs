//! What the checkers must know of a run besides its history.

use serde::{Deserialize, Serialize};

/// What the checkers must know of a run besides its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// With fewer answered operations the run shows nothing, and fails.
    pub operations_min: u64,
    /// The faults of the run: one during which nobody asked anything fails it.
    pub faults: Vec<Fault>,
    /// Whether others than the recorded clients write to the cluster too (to keys of their own): revisions that nobody
    /// of the history has made are theirs then, and a violation otherwise.
    pub strangers: bool,
}

impl Default for Settings {
    /// At least 1,000 operations, no faults, no strangers.
    fn default() -> Settings {
        Settings {
            operations_min: 1_000,
            faults: Vec::new(),
            strangers: false,
        }
    }
}

/// One fault, on the clock of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What was done, to whom.
    pub what: String,
    /// When it began, in nanoseconds since the run began.
    pub start_ns: u64,
    /// When it was over.
    pub end_ns: u64,
}
