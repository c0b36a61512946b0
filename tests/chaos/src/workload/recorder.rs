//! The history while it is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use quorate_checkers::history::{Outcome, Record, Request};

/// How many operations ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Counts {
    /// Executed and answered.
    pub(crate) ok: u64,
    /// Certainly not executed.
    pub(crate) failed: u64,
    /// Executed or not, nobody knows.
    pub(crate) unknown: u64,
}

impl Counts {
    /// All of them.
    pub(crate) fn total(self) -> u64 {
        self.ok + self.failed + self.unknown
    }

    /// Counts one more.
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Ok(_) => self.ok += 1,
            Outcome::Failed(_) => self.failed += 1,
            Outcome::Unknown(_) => self.unknown += 1,
        }
    }
}

/// Takes every record of every client, on the one clock of the run. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    prefix: String,
    began: Instant,
    records: Mutex<Vec<Record>>,
    clients: AtomicU32,
    values: AtomicU64,
}

impl Recorder {
    /// An empty history that begins now.
    pub(crate) fn new() -> Recorder {
        Recorder {
            shared: Arc::new(Shared {
                prefix: format!("chaos/{:08x}/", rand::random::<u32>()),
                began: Instant::now(),
                records: Mutex::default(),
                clients: AtomicU32::new(1),
                values: AtomicU64::new(1),
            }),
        }
    }

    /// Prefix of every key of the run: a cluster that is not the run's own may have those of an earlier one.
    pub(crate) fn prefix(&self) -> &str {
        &self.shared.prefix
    }

    /// Nanoseconds since the run began.
    pub(crate) fn now_ns(&self) -> u64 {
        u64::try_from(self.shared.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A number for a client, or for a watch or a lease, that no other has.
    pub(crate) fn client_number(&self) -> u32 {
        self.shared.clients.fetch_add(1, Ordering::Relaxed)
    }

    /// A number that no other value of the run has.
    pub(crate) fn unique(&self) -> u64 {
        self.shared.values.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes one record.
    pub(crate) fn take(
        &self,
        client: u32,
        endpoint: &str,
        start_ns: u64,
        request: Request,
        outcome: Outcome,
    ) {
        let record = Record {
            client,
            endpoint: endpoint.to_owned(),
            start_ns,
            end_ns: self.now_ns(),
            request,
            outcome,
        };
        self.shared.records.lock().push(record);
    }

    /// All records so far, in the order in which they began.
    pub(crate) fn into_history(self) -> Vec<Record> {
        let mut records = std::mem::take(&mut *self.shared.records.lock());
        records.sort_by_key(|record| record.start_ns);
        records
    }
}
