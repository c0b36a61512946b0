//! The history of a run: one [`Record`] per operation, a line of JSON each.
//!
//! ```
//! use quorate_checkers::history::{self, *};
//!
//! let record = Record {
//!     client: 1,
//!     endpoint: "n2".into(),
//!     start_ns: 1_000,
//!     end_ns: 2_500,
//!     request: Request::Put { key: "r/7".into(), value: "1-42".into(), lease: None },
//!     outcome: Outcome::Ok(Answer { revision: 9, reply: Reply::Put }),
//! };
//! let mut lines = Vec::new();
//! history::write(&mut lines, &record)?;
//! assert_eq!(
//!     String::from_utf8_lossy(&lines),
//!     r#"{"client":1,"endpoint":"n2","start_ns":1000,"end_ns":2500,"request":{"put":{"key":"r/7","value":"1-42"}},"#
//!         .to_owned()
//!         + r#""outcome":{"ok":{"revision":9,"reply":"put"}}}"#
//!         + "\n"
//! );
//! assert_eq!(history::read(&lines[..])?, [record]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a harness must keep to
//!
//! - **Time** is one monotonic clock for all clients, in nanoseconds since the run began. `start_ns` is taken before the
//!   request leaves, `end_ns` after the answer is there; of an operation without an answer, when it was given up.
//! - **Failed** is only what certainly was not executed. Everything in doubt is **unknown**: a time-out, a connection
//!   that broke, a leader that was lost. An unknown write may take effect at any time after its start, or never.
//! - **All of them** are in the history, also those that were under way when the run ended: they are unknown.
//! - **Retries** are records of their own; a client that retries unseen makes one record over all tries, and it is
//!   unknown unless the last answer speaks for all of them.
//! - **Values** are unique over the run, so that a value that is seen names the write that made it.
//! - **Keys** of a run are its own (a prefix nobody else uses) and absent when it begins.
//! - **One watch over all of its keys** from before the first write makes every verdict sharper: it tells what the writes
//!   with unknown outcomes did. Give it to [`Request::Watch`] like any other.

mod describe;
mod file;
mod reply;
mod request;

pub use file::{Error, read, write};
pub use reply::{Answer, Event, KeyValue, OpReply, Reply, TxnReply, WatchEnd, WatchResponse};
pub use request::{Compare, Keys, Op, Request, Test, Txn};

use serde::{Deserialize, Serialize};

/// One operation of one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who asked: a number that no other client of the run has.
    pub client: u32,
    /// Which node was asked, by a name that the report can show.
    pub endpoint: String,
    /// Before the request left, in nanoseconds since the run began.
    pub start_ns: u64,
    /// After the answer was there, or when the client gave up.
    pub end_ns: u64,
    /// What was asked.
    pub request: Request,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was executed, and this is the answer.
    Ok(Answer),
    /// It certainly was not executed, and never will be: the error.
    Failed(String),
    /// It may have been executed, or may be yet: the error.
    Unknown(String),
}

impl Record {
    /// The answer, if there was one.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Ok(answer) => Some(answer),
            Outcome::Failed(_) | Outcome::Unknown(_) => None,
        }
    }

    /// Whether nobody knows if it was executed.
    pub fn is_unknown(&self) -> bool {
        matches!(self.outcome, Outcome::Unknown(_))
    }
}
