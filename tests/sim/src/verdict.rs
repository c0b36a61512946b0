//! What was found wrong.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{net::Host, trace::Trace};

/// Collects violations; the first one counts, as others may follow from it.
pub struct Verdict {
    trace: Arc<Trace>,
    violations: Mutex<Vec<String>>,
    may_be_removed: Mutex<Vec<Host>>,
    removed: Mutex<Vec<Host>>,
}

impl Verdict {
    /// Nothing so far.
    pub fn new(trace: Arc<Trace>) -> Arc<Verdict> {
        Arc::new(Verdict {
            trace,
            violations: Mutex::default(),
            may_be_removed: Mutex::default(),
            removed: Mutex::default(),
        })
    }

    /// Something must not be.
    pub fn violated(&self, what: String) {
        self.trace.say(format_args!("VIOLATION: {what}"));
        self.violations.lock().push(what);
    }

    /// From now on, a node may say that it was removed.
    pub fn may_be_removed(&self, host: Host) {
        self.may_be_removed.lock().push(host);
    }

    /// Whether a node has said that it was removed.
    pub fn was_removed(&self, host: Host) -> bool {
        self.removed.lock().contains(&host)
    }

    /// A node says that it cannot go on.
    pub fn node_failed(&self, host: Host, why: &str) {
        let is_removal = why.contains("was removed") && self.may_be_removed.lock().contains(&host);
        if is_removal {
            self.removed.lock().push(host);
            self.trace.say(format_args!("node {host} was removed"));
        } else {
            self.violated(format!("node {host} cannot go on: {why}"));
        }
    }

    /// All that was found.
    pub fn all(&self) -> Vec<String> {
        self.violations.lock().clone()
    }
}
